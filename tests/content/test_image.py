"""Pictures, sound and hostile, through real children."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stagedoor.content.decoding import Answer, Decoder, DecoderLimits
from stagedoor.content.decoding.image import CoverPictures, ImageFacts, cover_pictures, make_cover, probe_image
from stagedoor.errors import ContentRejected
from stagedoor.ports import Source
from stagedoor.testing import media, pictures
from stagedoor.testing.pictures import CORNERS, ODD_FORMATS, SECRET

PATIENT = DecoderLimits(seconds=300, cpu_seconds=300, start_seconds=300)
FORMS = ("JPEG", "PNG", "WEBP")
WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(limits=PATIENT, processes=1) as made:
        yield made


def of(data: bytes) -> Source:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return opened


def refused(decoder: Decoder, data: bytes, use: Callable[[Decoder, Source], object] = probe_image) -> tuple[str, str]:
    """The code and the sentence with which a picture is refused."""
    with pytest.raises(ContentRejected) as caught:
        use(decoder, of(data))
    return caught.value.code, caught.value.sentence


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    image.load()
    return image


def seen(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours in the middle of the quarters: upper left, upper right, lower left, lower right."""
    width, height = image.size
    places = [(x, y) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    colours = [image.getpixel(place) for place in places]
    assert all(isinstance(colour, tuple) for colour in colours)
    return [tuple(map(int, colour)) for colour in colours]  # type: ignore[arg-type]  # checked above


def alike(found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]], tolerance: int = 12) -> bool:
    return all(
        abs(a - b) <= tolerance
        for one, other in zip(found, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def greys() -> list[tuple[int, int, int]]:
    values = [round((299 * red + 587 * green + 114 * blue) / 1000) for red, green, blue in CORNERS]
    return [(value, value, value) for value in values]


def shown(decoder: Decoder, data: bytes) -> list[tuple[int, ...]]:
    """What the cover of a picture shows; all copies show the same."""
    made = make_cover(decoder, of(data))
    full = seen(opened(made.full))
    for small in made.small.values():
        assert alike(seen(opened(small)), full, 25)
    return full


# ── what is taken ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("form", "kind"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_facts(decoder: Decoder, form: Any, kind: str) -> None:
    assert probe_image(decoder, of(pictures.picture(form, (600, 400)))) == ImageFacts(
        kind=kind, width=600, height=400, orientation=1, frames=1, has_alpha=False
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_cover_is_a_progressive_jpeg_with_small_copies(decoder: Decoder, form: Any) -> None:
    made = make_cover(decoder, of(pictures.picture(form, (900, 600))))
    images = {0: opened(made.full), **{size: opened(data) for size, data in made.small.items()}}
    assert {size: image.size for size, image in images.items()} == {
        0: (900, 600), 50: (50, 33), 150: (150, 100), 500: (500, 333),
    }  # fmt: skip
    assert (made.width, made.height) == (900, 600)
    assert {(image.format, image.mode, image.info.get("progressive")) for image in images.values()} == {
        ("JPEG", "RGB", 1)
    }
    assert alike(seen(images[0]), CORNERS)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(lambda: pictures.picture("JPEG", progressive=True), CORNERS, id="progressive"),
        pytest.param(lambda: pictures.picture("JPEG", mode="CMYK"), CORNERS, id="CMYK"),
        pytest.param(lambda: pictures.picture("JPEG", mode="L"), greys(), id="grey JPEG"),
        pytest.param(lambda: pictures.picture("PNG", mode="L"), greys(), id="grey PNG"),
        pytest.param(lambda: pictures.picture("PNG", mode="I;16"), greys(), id="grey, 16 bits"),
        pytest.param(lambda: pictures.picture("PNG", mode="P"), CORNERS, id="palette"),
        pytest.param(lambda: pictures.picture("PNG", mode="RGBA"), (WHITE, *CORNERS[1:]), id="PNG with alpha"),
        pytest.param(lambda: pictures.picture("WEBP", mode="RGBA"), (WHITE, *CORNERS[1:]), id="WebP with alpha"),
        pytest.param(lambda: pictures.picture("PNG", mode="LA"), (WHITE, *greys()[1:]), id="grey with alpha"),
        pytest.param(
            lambda: pictures.picture("PNG", mode="P", transparent=True),
            (WHITE, *CORNERS[1:]),
            id="transparent colour of a palette",
        ),
        pytest.param(
            lambda: pictures.picture("PNG", mode="RGB", transparent=True),
            (WHITE, *CORNERS[1:]),
            id="transparent colour",
        ),
        pytest.param(
            lambda: pictures.picture("PNG", mode="L", transparent=True), (WHITE, *greys()[1:]), id="transparent grey"
        ),
        pytest.param(pictures.several_views, CORNERS, id="several views"),
        pytest.param(pictures.animation, CORNERS, id="animated WebP"),
        pytest.param(lambda: pictures.animation("PNG"), CORNERS, id="animated PNG"),
        pytest.param(lambda: pictures.with_archive(pictures.picture()), CORNERS, id="an archive behind"),
    ],
)
def test_every_kind_of_pixels(decoder: Decoder, data: Callable[[], bytes], expected: Any) -> None:
    assert alike(shown(decoder, data()), expected)


def test_black_and_white(decoder: Decoder) -> None:
    made = make_cover(decoder, of(pictures.picture("PNG", mode="1")))
    colours = opened(made.full).convert("L").histogram()
    assert sum(colours[:40]) > 50_000
    assert sum(colours[215:]) > 50_000


def test_animations_and_transparency_are_seen(decoder: Decoder) -> None:
    def facts(data: bytes) -> tuple[int, bool]:
        found = probe_image(decoder, of(data))
        return found.frames, found.has_alpha

    assert facts(pictures.animation("WEBP", frames=3)) == (3, False)
    assert facts(pictures.animation("PNG", frames=4)) == (4, False)
    assert facts(pictures.picture("WEBP", mode="RGBA")) == (1, True)
    assert facts(pictures.picture("PNG", mode="P", transparent=True)) == (1, True)
    assert facts(pictures.several_views()) == (1, False)  # the others are no movement


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_it_says(decoder: Decoder, orientation: int, form: Any) -> None:
    data = pictures.turned_picture(orientation, form, (600, 300))
    facts = probe_image(decoder, of(data))
    assert (facts.width, facts.height, facts.orientation) == (600, 300, orientation)
    made = make_cover(decoder, of(data))
    assert (made.width, made.height) == opened(made.full).size == (600, 300)
    assert opened(made.small[50]).size == (50, 25)
    assert alike(seen(opened(made.full)), CORNERS)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(decoder: Decoder, value: int) -> None:
    data = pictures.turned_picture(1).replace(b"\x12\x01\x03\x00\x01\x00\x00\x00\x01\x00", _orientation(value))
    data = data.replace(b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x01", _orientation(value, "big"))
    assert data != pictures.turned_picture(1)
    assert probe_image(decoder, of(data)).orientation == 1
    assert alike(shown(decoder, data), CORNERS)


def _orientation(value: int, order: Any = "little") -> bytes:
    parts = ((0x0112, 2), (3, 2), (1, 4), (value, 2))
    return b"".join(number.to_bytes(size, order) for number, size in parts)


# ── colours ───────────────────────────────────────────────────────────────────────────────────────────────────

SWAPPED = [(blue, green, red) for red, green, blue in CORNERS]


@pytest.mark.parametrize("form", FORMS)
def test_a_colour_profile_is_obeyed(decoder: Decoder, form: Any) -> None:
    data = pictures.picture(form, profile=pictures.swapped_profile())
    assert alike(shown(decoder, data), SWAPPED)


def test_a_colour_profile_is_obeyed_beside_transparency(decoder: Decoder) -> None:
    data = pictures.picture("PNG", mode="RGBA", profile=pictures.swapped_profile())
    assert alike(shown(decoder, data), [WHITE, *SWAPPED[1:]])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: pictures.picture("PNG", profile=b"no profile at all"), id="noise"),
        pytest.param(lambda: pictures.picture("PNG", profile=pictures.swapped_profile()[:200]), id="cut off"),
        pytest.param(lambda: pictures.picture("JPEG", profile=bytes(5 << 20)), id="five megabytes"),
    ],
)
def test_a_profile_that_cannot_be_used_is_dropped(decoder: Decoder, data: Callable[[], bytes]) -> None:
    assert alike(shown(decoder, data()), CORNERS)


@pytest.mark.parametrize(("form", "mode"), [("JPEG", "L"), ("PNG", "LA"), ("JPEG", "CMYK")])
def test_a_profile_for_other_colours_is_dropped(decoder: Decoder, form: Any, mode: str) -> None:
    profiled = pictures.picture(form, mode=mode, profile=pictures.swapped_profile())
    assert shown(decoder, profiled) == shown(decoder, pictures.picture(form, mode=mode))


# ── nothing but pixels ────────────────────────────────────────────────────────────────────────────────────────


def segments(data: bytes) -> set[int]:
    """The markers in front of the pixels of a JPEG."""
    found, at = set(), 2
    while data[at + 1] != 0xDA:
        assert data[at] == 0xFF
        found.add(data[at + 1])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return found


@pytest.mark.parametrize("form", FORMS)
def test_nothing_survives_but_pixels(decoder: Decoder, form: Any) -> None:
    data = pictures.with_archive(pictures.talkative_picture(form))
    assert data.count(SECRET) >= 5
    made = make_cover(decoder, of(data))
    for picture in (made.full, *made.small.values()):
        assert SECRET not in picture
        assert b"Exif" not in picture
        assert not zipfile.is_zipfile(io.BytesIO(picture))
        # JFIF, quantisation, frame, Huffman tables; no APP1 (EXIF, XMP), APP2 (profile), COM (comment).
        assert segments(picture) <= {0xE0, 0xDB, 0xC2, 0xC4}
        assert picture.endswith(b"\xff\xd9")
        image = opened(picture)
        assert dict(image.getexif()) == {}
        assert not image.info.keys() & {"exif", "comment", "xmp", "icc_profile", "photoshop"}
    assert alike(seen(opened(made.full)), SWAPPED)  # so the profile was there


def test_the_same_picture_gives_the_same_cover(decoder: Decoder) -> None:
    data = pictures.turned_picture(6)
    assert make_cover(decoder, of(data)) == make_cover(decoder, of(data))


# ── sizes ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), [(1, 1), (1, 1), (1, 1), (1, 1)]),
        ((100, 60), [(100, 60), (50, 30), (100, 60), (100, 60)]),
        ((500, 500), [(500, 500), (50, 50), (150, 150), (500, 500)]),
        ((2000, 2), [(2000, 2), (50, 1), (150, 1), (500, 1)]),
        ((2, 2000), [(2, 2000), (1, 50), (1, 150), (1, 500)]),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_enlarged(decoder: Decoder, form: Any, size: tuple[int, int], expected: Any) -> None:
    made = make_cover(decoder, of(pictures.picture(form, size)))
    assert [opened(data).size for data in (made.full, *made.small.values())] == expected


def test_other_sizes(decoder: Decoder) -> None:
    made = make_cover(decoder, of(pictures.picture()), (300, 20))
    assert {size: opened(data).size for size, data in made.small.items()} == {300: (300, 300), 20: (20, 20)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_is_made_smaller(form: Any, orientation: int) -> None:
    with Decoder(limits=DecoderLimits(picture_side=100)) as decoder:
        data = pictures.turned_picture(orientation, form, (1000, 500))
        facts = probe_image(decoder, of(data))
        made = make_cover(decoder, of(data))
    assert (facts.width, facts.height) == (1000, 500)
    assert (made.width, made.height) == opened(made.full).size == (100, 50)
    assert {size: opened(data).size for size, data in made.small.items()} == {
        50: (50, 25),
        150: (100, 50),
        500: (100, 50),
    }
    assert alike(seen(opened(made.full)), CORNERS)


# ── what is not ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(media.empty, id="empty"),
        pytest.param(media.noise, id="noise"),
        pytest.param(media.ffconcat, id="ffconcat"),
        pytest.param(media.hls, id="hls"),
        pytest.param(media.video, id="video"),
        pytest.param(lambda: b"A text.", id="text"),
        pytest.param(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG"),
        pytest.param(lambda: b"\x89PNG", id="the start of a signature"),
        pytest.param(lambda: b"RIFF\x04\0\0\0WAVE", id="another RIFF"),
        *(pytest.param(lambda form=form: pictures.odd_format(form), id=form) for form in ODD_FORMATS),
    ],
)
def test_no_picture_of_ours(decoder: Decoder, data: Callable[[], bytes]) -> None:
    assert refused(decoder, data()) == (
        "not_an_image",
        "The file is no JPEG, PNG or WebP picture. Convert it to one of these.",
    )


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_144_megapixels_in_a_few_kilobytes(decoder: Decoder, form: Any) -> None:
    data = pictures.huge_picture(form=form)
    assert len(data) < 20_000
    code, sentence = refused(decoder, data)
    assert code == "picture_too_large"
    assert "12000×12000 pixels" in sentence


def test_a_jpeg_that_claims_to_be_large(decoder: Decoder) -> None:
    data = bytearray(pictures.picture())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    assert refused(decoder, bytes(data))[0] == "picture_too_large"


@pytest.mark.parametrize("form", FORMS)
def test_caps_are_settings(form: Any) -> None:
    data = pictures.picture(form, (60, 20))
    for limits in (DecoderLimits(max_pixels=60 * 20 - 1), DecoderLimits(max_side=59)):
        with Decoder(limits=limits) as decoder:
            assert refused(decoder, data)[0] == "picture_too_large"
    with Decoder(limits=DecoderLimits(max_pixels=60 * 20, max_side=60)) as decoder:
        assert probe_image(decoder, of(data)).width == 60


def test_a_picture_that_takes_too_much_memory() -> None:
    with Decoder(limits=DecoderLimits(memory=200 << 20, max_pixels=1 << 30)) as decoder:
        for data in (pictures.huge_picture((8000, 8000)), pictures.picture("WEBP", (3000, 3000), "RGBA")):
            assert refused(decoder, data, make_cover)[0] == "decoder_memory"
        assert probe_image(decoder, of(pictures.picture())).width == 600  # the next one is served


@pytest.mark.parametrize("share", [0.5, 0.99])
@pytest.mark.parametrize(
    "data",
    [
        *(pytest.param(lambda form=form: pictures.picture(form), id=form) for form in FORMS),
        pytest.param(lambda: pictures.picture("JPEG", progressive=True), id="progressive"),
        pytest.param(lambda: pictures.picture("PNG", mode="RGBA"), id="PNG with alpha"),
        pytest.param(lambda: pictures.animation("WEBP"), id="animated WebP"),
        pytest.param(lambda: pictures.huge_picture((5000, 5000)), id="PNG of little"),
    ],
)
def test_a_picture_that_is_cut_off(decoder: Decoder, data: Callable[[], bytes], share: float) -> None:
    use = probe_image if share < 0.9 else make_cover
    assert refused(decoder, media.cut(data(), share), use) == (
        "truncated",
        "The file is cut off: its end is missing. Upload the whole file again.",
    )


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_the_last_byte_is_missed(decoder: Decoder, form: Any) -> None:
    assert refused(decoder, pictures.picture(form)[:-1])[0] == "truncated"


def test_a_png_without_its_last_word_has_all_pixels(decoder: Decoder) -> None:
    assert alike(shown(decoder, pictures.picture("PNG")[:-12]), CORNERS)


@pytest.mark.parametrize("form", FORMS)
def test_a_head_alone(decoder: Decoder, form: Any) -> None:
    for length in (12, 40):
        assert refused(decoder, pictures.picture(form)[:length])[0] in ("truncated", "picture_damaged")
    codes = ("truncated", "picture_damaged", "picture_too_large")
    assert refused(decoder, pictures.picture(form)[:16] + media.noise())[0] in codes


def test_a_checksum_of_a_png_is_looked_at(decoder: Decoder) -> None:
    data = bytearray(pictures.picture("PNG"))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    code, sentence = refused(decoder, bytes(data))
    assert code == "picture_damaged"
    assert sentence.endswith("choose another copy of it.")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damage_is_accepted_or_refused_but_never_an_error(decoder: Decoder, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(FORMS))
    makers: list[Callable[..., bytes]] = [pictures.picture, pictures.talkative_picture]
    sound = data.draw(st.sampled_from(makers))(form, (60, 60))
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 20))):
        damaged[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    refusal = "none"
    try:
        made = make_cover(decoder, of(bytes(damaged)))
        assert opened(made.full).size == (made.width, made.height)
    except ContentRejected as error:
        refusal = error.code
    assert refusal in ("none", "not_an_image", "picture_too_large", "picture_damaged", "truncated")


# ── this process ──────────────────────────────────────────────────────────────────────────────────────────────


def test_this_process_needs_neither_pillow_nor_room_for_pixels(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    file.write_bytes(pictures.huge_picture((8000, 5000)))  # 160 MB once decoded
    script = f"""
import contextlib, resource, sys
from stagedoor.content.decoding import Decoder
from stagedoor.content.decoding.image import make_cover, probe_image
from stagedoor.testing import pictures

@contextlib.contextmanager
def source():
    with open({str(file)!r}, "rb", buffering=0) as stream:
        yield stream

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Decoder(processes=1) as decoder:
    assert probe_image(decoder, source).width == 8000
    assert make_cover(decoder, source).width == 3840
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert grown < 20_000, f"{{grown}} KiB"
assert not {{"av", "PIL"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# ── hostile answers ───────────────────────────────────────────────────────────────────────────────────────────


class Liar(Decoder):
    """A decoder whose child says what a test wants."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def run(self, operation: str, source: Source, arguments: Mapping[str, Any] | None = None) -> Answer:
        return self._answer


FACTS: dict[str, Any] = {
    "kind": "jpg", "width": 600, "height": 600, "orientation": 1, "frames": 1, "alpha": False,
    "made": [[600, 600], [50, 50]],
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(decoder: Decoder) -> CoverPictures:
    return make_cover(decoder, of(pictures.picture()), (50,))


def test_an_honest_answer_is_taken(sound: CoverPictures) -> None:
    answer = Answer(document=FACTS, blobs=[sound.full, sound.small[50]])
    assert cover_pictures(answer, (50,), DecoderLimits()) == sound


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "svg"}, {"kind": None}, {"width": 0}, {"width": 1e3}, {"width": True}, {"width": 9000}, {"height": ""},
        {"width": 8000, "height": 8000}, {"orientation": 0}, {"orientation": 9}, {"frames": 0}, {"frames": 1 << 40},
        {"alpha": 1}, {"alpha": None},
    ],
    ids=str,
)  # fmt: skip
def test_impossible_facts(changes: dict[str, Any], sound: CoverPictures) -> None:
    liar = Liar(Answer(document={**FACTS, **changes}, blobs=[sound.full, sound.small[50]]))
    for use in (lambda: probe_image(liar, of(b"")), lambda: make_cover(liar, of(b""), (50,))):
        with pytest.raises(ContentRejected) as caught:
            use()
        assert caught.value.code == "decoder_crashed"


@pytest.mark.parametrize("key", sorted(FACTS))
def test_facts_that_are_left_out(key: str, sound: CoverPictures) -> None:
    document = {name: value for name, value in FACTS.items() if name != key}
    with pytest.raises(ContentRejected):
        make_cover(Liar(Answer(document=document, blobs=[sound.full, sound.small[50]])), of(b""), (50,))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda full, small: ([full], FACTS["made"]), id="too few"),
        pytest.param(lambda full, small: ([full, small, small], FACTS["made"]), id="too many"),
        pytest.param(lambda full, small: ([full, small], [[600, 600]]), id="too few sizes"),
        pytest.param(lambda full, small: ([full, small], "made"), id="no sizes"),
        pytest.param(lambda full, small: ([full, small], [[600, 600], [50]]), id="no size"),
        pytest.param(lambda full, small: ([full, small], [[600, 600], [49, 50]]), id="another size"),
        pytest.param(lambda full, small: ([full, full], [[600, 600], [600, 600]]), id="a copy that is too large"),
        pytest.param(lambda full, small: ([small, full], FACTS["made"]), id="the wrong way round"),
        pytest.param(lambda full, small: ([full, b""], FACTS["made"]), id="empty"),
        pytest.param(lambda full, small: ([full, small[:-1]], FACTS["made"]), id="cut off"),
        pytest.param(lambda full, small: ([full, b"\xff\xd8\xff\xd9"], FACTS["made"]), id="no frame"),
        pytest.param(lambda full, small: ([full, pictures.picture("PNG", (50, 50))], FACTS["made"]), id="PNG"),
        pytest.param(
            lambda full, small: ([full, pictures.picture("JPEG", (50, 50))], FACTS["made"]), id="not progressive"
        ),
        pytest.param(
            lambda full, small: ([full, pictures.talkative_picture("JPEG", (50, 50))], FACTS["made"]), id="metadata"
        ),
    ],
)
def test_pictures_that_are_none(change: Callable[[bytes, bytes], tuple[Any, Any]], sound: CoverPictures) -> None:
    blobs, made = change(sound.full, sound.small[50])
    with pytest.raises(ContentRejected) as caught:
        make_cover(Liar(Answer(document={**FACTS, "made": made}, blobs=blobs)), of(b""), (50,))
    assert caught.value.code == "decoder_crashed"
