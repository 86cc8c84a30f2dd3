"""Music videos, sound and hostile, through real children."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pytest
from attrs import asdict, evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stagedoor.content.decoding import Decoder, DecoderLimits
from stagedoor.content.decoding.video import probe_video, video_artwork
from stagedoor.content.video import Video
from stagedoor.errors import ContentRejected
from stagedoor.library.memory import MemoryLibrary
from stagedoor.lifecycle import State
from stagedoor.ports import ContentType, Entry, Preprocessed, Source
from stagedoor.tasks import JSON, PlacedFile, Plan, UploadTask, dump, load
from stagedoor.testing import media
from stagedoor.testing.content import Around

PATIENT = DecoderLimits(seconds=300, cpu_seconds=300, start_seconds=300)
ANNOTATIONS: dict[str, JSON] = {"artistname": "Björk", "name": "Army of Me", "release": 1995}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(limits=PATIENT) as made:
        yield made


@pytest.fixture(scope="module")
def video(decoder: Decoder) -> Video:
    return Video(decoder)


def of(data: bytes) -> Source:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return opened


def task(filename: str = "clip.mp4", annotations: Mapping[str, JSON] = ANNOTATIONS, **values: Any) -> UploadTask:
    return UploadTask(
        id="clip", filesize=10, offset=10, contenttype="video", mimetype="video/mp4", sourcefilename=filename,
        sourcechecksum="a" * 40, destinationpath="u/video-a.mp4", state=State.UPLOADCOMPLETE, uid="1" * 32,
        created=0.0, updated=0.0, annotations=annotations, sha256="b" * 64, **values,
    )  # fmt: skip


def preprocessed(video: Video, data: bytes, *, filename: str = "clip.mp4") -> UploadTask:
    before = task(filename)
    found = video.preprocess(before, of(data))
    return evolve(before, content=found.content, findings=tuple(found.findings), state=State.PREPROCESSED)


def refused(video: Video, data: bytes, filename: str = "clip.mp4") -> str:
    with pytest.raises(ContentRejected) as caught:
        video.preprocess(task(filename), of(data))
    assert caught.value.sentence.endswith(".")
    return caught.value.code


def test_it_is_a_content_type(video: Video) -> None:
    port: ContentType = video
    assert (port.name, port.has_artwork) == ("video", True)


# ── preprocess: what is taken ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("container", "family", "codecs"),
    [
        ("mp4", "mp4", ("h264", "aac")),
        ("m4v", "mp4", ("h264", "aac")),
        ("webm", "matroska", ("vp8", "opus")),
        ("mkv", "matroska", ("vp8", "opus")),
    ],
)
def test_facts(video: Video, container: Any, family: str, codecs: tuple[str, str]) -> None:
    found = video.preprocess(task(f"Clip.{container.upper()}"), of(media.video(container=container, title="Army")))
    assert found.findings == ()
    content = dict(found.content)
    assert 3.9 < content.pop("duration") < 4.1  # type: ignore[operator]
    assert content == {
        "container": family, "extension": container, "width": 320, "height": 180, "sample_aspect_ratio": "1:1",
        "rotation": 0, "display_width": 320, "display_height": 180, "video_codec": codecs[0],
        "audio_codec": codecs[1], "fps": 10.0, "tags": {"title": "Army"},
    }  # fmt: skip


def test_facts_survive_the_document(video: Video) -> None:
    done = preprocessed(video, media.video())
    done = evolve(done, plan=video.plan(done, Around()))
    assert load(dump(done)) == done


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: media.video(audio=False), id="silent"),
        pytest.param(lambda: media.video(faststart=True), id="index in front"),
        pytest.param(lambda: media.video(fragmented=True), id="index in pieces"),
        pytest.param(lambda: media.video(keyframes=1000), id="one key frame"),
        pytest.param(lambda: media.video(seconds=0.1), id="one frame"),
        pytest.param(lambda: media.video(seconds=0.1, container="webm", audio=False), id="one frame of webm"),
    ],
)
def test_unusual_and_sound(video: Video, data: Any) -> None:
    found = video.preprocess(task("no extension"), of(data()))
    assert found.findings == ()


@pytest.mark.parametrize("keyframes", [10, 1000])
def test_a_recording_without_a_duration(video: Video, keyframes: int) -> None:
    done = preprocessed(video, media.video(container="webm", live=True, keyframes=keyframes), filename="recorded.webm")
    assert done.content["duration"] == pytest.approx(4.0, abs=0.1)
    assert colours(video, done, media.video(container="webm", live=True, keyframes=keyframes)) == EXPECTED


def test_shape(video: Video) -> None:
    done = preprocessed(video, media.video(sar=(4, 3), rotation=90))
    shape = {key: done.content[key] for key in ("width", "height", "rotation", "display_width", "display_height")}
    assert shape == {"width": 320, "height": 180, "rotation": 90, "display_width": 180, "display_height": 427}
    assert done.content["sample_aspect_ratio"] == "4:3"


@pytest.mark.parametrize(
    ("filename", "container", "extension"),
    [
        ("clip.mp4", "webm", "webm"),
        ("clip.webm", "mkv", "mkv"),
        ("clip.avi", "mp4", "mp4"),
        ("clip.mkv", "m4v", "m4v"),
    ],
)
def test_the_true_type_counts(video: Video, filename: str, container: Any, extension: str) -> None:
    found = video.preprocess(task(filename), of(media.video(container=container)))
    assert found.content["extension"] == extension
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("renamed_to_true_type", "warn")
    assert f".{extension}" in finding.sentence


def test_mp4_and_m4v_are_one(video: Video) -> None:
    found = video.preprocess(task("clip.m4v"), of(media.video(container="mp4")))
    assert (found.content["extension"], found.findings) == ("m4v", ())


def test_quicktime_when_it_is_allowed(video: Video, decoder: Decoder) -> None:
    data = media.video(container="mov")
    assert refused(video, data, "clip.mov") == "unsupported_format"
    found = Video(decoder, extensions=("mp4", "mov")).preprocess(task("clip.mov"), of(data))
    assert found.content["extension"] == "mov"


# ── preprocess: what is not ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(media.empty, "empty", id="empty"),
        pytest.param(media.noise, "not_a_video", id="noise"),
        pytest.param(media.ffconcat, "not_a_video", id="ffconcat"),
        pytest.param(media.hls, "not_a_video", id="hls"),
        pytest.param(media.sdp, "not_a_video", id="sdp"),
        pytest.param(media.still_cover, "not_a_video", id="jpeg"),
        pytest.param(lambda: b"\x00\x00\x00 ftypisom" + media.noise(), "unreadable", id="noise behind a brand"),
        pytest.param(lambda: b"\x1a\x45\xdf\xa3" + media.noise(), "unreadable", id="noise behind EBML"),
        pytest.param(media.truncated_mp4, "truncated", id="mp4, index in front"),
        pytest.param(lambda: media.truncated_mp4(0.999), "truncated", id="mp4, last bytes"),
        pytest.param(lambda: media.cut(media.video(), 0.5), "truncated", id="mp4, index at the end"),
        pytest.param(lambda: media.cut(media.video(fragmented=True), 0.9), "truncated", id="mp4, index in pieces"),
        pytest.param(media.truncated_webm, "truncated", id="webm"),
        pytest.param(media.overstated_webm, "truncated", id="webm, says that it is longer"),
        pytest.param(lambda: media.overstated_webm(1.03), "truncated", id="webm, 3 % missing"),
        pytest.param(
            lambda: media.cut(media.video(container="mkv", live=True), 0.01),
            "undecodable",
            id="mkv, nothing but a head",
        ),
        pytest.param(media.audio_with_cover, "no_video", id="cover art"),
        pytest.param(media.huge_frame, "frame_too_large", id="268 megapixels"),
        pytest.param(lambda: media.huge_frame(honest=False), "undecodable", id="268 megapixels in the frames only"),
        pytest.param(lambda: media.video(container="mkv", codec="ffv1"), "unsupported_codec", id="FFV1"),
    ],
)
def test_refused(video: Video, data: Any, code: str) -> None:
    assert refused(video, data()) == code


@pytest.mark.parametrize("text", [media.ffconcat(), media.hls(), media.sdp(), b"", b"\x1a\x45\xdf", b"....moo"])
def test_the_decoder_trusts_no_sniffing(decoder: Decoder, text: bytes) -> None:
    with pytest.raises(ContentRejected) as caught:
        probe_video(decoder, of(text))
    assert caught.value.code == "unsupported_format"


def test_two_percent_are_not_missed(video: Video) -> None:
    assert preprocessed(video, media.overstated_webm(1.01), filename="clip.webm").findings == ()


def test_a_sentence_says_what_it_is_instead(video: Video) -> None:
    with pytest.raises(ContentRejected, match="image/jpeg"):
        video.preprocess(task(), of(media.still_cover()))


def test_caps_are_settings() -> None:
    with Decoder(limits=DecoderLimits(max_pixels=320 * 180 - 1)) as decoder:
        assert refused(Video(decoder), media.video()) == "frame_too_large"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damage_is_accepted_or_refused_but_never_an_error(video: Video, data: st.DataObject) -> None:
    sound = media.video(container=data.draw(st.sampled_from(["mp4", "webm"])), seconds=1)
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 20))):
        damaged[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ContentRejected):
        assert isinstance(video.preprocess(task(), of(bytes(damaged))), Preprocessed)


# ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────────

FACTS: dict[str, JSON] = {
    "extension": "mp4", "duration": 4.0, "width": 320, "height": 180, "video_codec": "h264",
}  # fmt: skip


def plan(video: Video, annotations: Mapping[str, JSON], content: Mapping[str, JSON] = FACTS) -> Plan:
    return video.plan(task(annotations=annotations, content=content), Around())


def test_a_plan(video: Video) -> None:
    made = plan(video, ANNOTATIONS)
    assert made.problems == ()
    (file,) = made.files
    assert (file.root, file.path, file.source) == ("music", "Björk/1995 - Army of Me.mp4", "")
    assert (file.size, file.sha256) == (10, "b" * 64)
    assert {file.root for file in made.artwork} == {"artwork"}
    names = [f"frame-{n}.jpg" for n in range(1, 6)] + [f"frame-{n} (150).jpg" for n in range(1, 6)] + ["preview.webp"]
    assert [file.path for file in made.artwork] == [f"Björk/1995 - Army of Me/{name}" for name in names]
    assert made.entry["origin"] == "internet"
    assert made.entry["release"] == "1995"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"release": "2020-05-01"}, "Björk/2020 - Army of Me.mp4"),
        ({"artistname": "AC/DC", "name": "T.N.T."}, "AC\u2215DC/1995 - T.N.T.mp4"),
        ({"name": 1979}, "Björk/1995 - 1979.mp4"),
        ({"artistname": "../../etc", "name": "passwd"}, "\u2215..\u2215etc/1995 - passwd.mp4"),
        ({"name": "con"}, "Björk/1995 - con.mp4"),
    ],
    ids=repr,
)
def test_names_become_paths(video: Video, changes: dict[str, JSON], path: str) -> None:
    made = plan(video, {**ANNOTATIONS, **changes})
    assert made.problems == ()
    assert [file.path for file in made.files] == [path]


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("artistname", None, "annotation_missing"),
        ("artistname", "  ", "annotation_missing"),
        ("artistname", "..", "unusable_name"),
        ("artistname", ["Björk"], "unusable_name"),
        ("name", None, "annotation_missing"),
        ("name", "\u200b", "unusable_name"),
        ("name", True, "unusable_name"),
        ("release", None, "annotation_missing"),
        ("release", "", "annotation_missing"),
        ("release", "soon", "invalid_release"),
        ("release", 95, "invalid_release"),
    ],
)
def test_problems_name_the_annotation(video: Video, key: str, value: JSON, code: str) -> None:
    made = plan(video, {**ANNOTATIONS, key: value})
    assert (made.files, made.artwork) == ((), ())
    (problem,) = made.problems
    assert (problem.code, problem.severity) == (code, "reject")
    assert f"“{key}”" in problem.sentence


def test_all_problems_at_once(video: Video) -> None:
    made = plan(video, {}, {})
    assert [problem.code for problem in made.problems] == ["annotation_missing"] * 3 + ["not_preprocessed"]


json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["artistname", "name", "release", "origin"]), json))
def test_a_plan_never_raises_and_stays_below_the_root(annotations: dict[str, JSON]) -> None:
    made = plan(Video(None), annotations)  # type: ignore[arg-type]  # planning needs no decoder
    assert bool(made.files) != bool(made.problems)
    paths = [file.path for file in (*made.files, *made.artwork)]
    assert len(set(paths)) == len(paths)
    for path in paths:
        parts = path.split("/")
        assert len(parts) in (2, 3)
        assert not {"", ".", ".."} & set(parts)
        assert all(len(part.encode()) <= 255 for part in parts)


def test_two_videos_of_one_name_have_two_places(video: Video) -> None:
    one, other = (plan(video, {**ANNOTATIONS, "release": year}) for year in (1995, 2008))
    assert not {file.path for file in one.artwork} & {file.path for file in other.artwork}


# ── import ────────────────────────────────────────────────────────────────────────────────────────────────────


class Recording(MemoryLibrary):
    """A library that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, Entry]] = []

    def put(self, uid: str, entry: Entry) -> None:
        self.told.append((uid, entry))
        super().put(uid, entry)


PLACED = PlacedFile("music", "Björk/1995 - Army of Me.mp4", 10, "b" * 64)


def test_import_tells_what_is_on_record(video: Video) -> None:
    planned = task(content=FACTS)
    planned = evolve(planned, plan=video.plan(planned, Around()), placed=(PLACED,))
    # What comes after the integration must not part the catalogue from the file.
    late = load(dump(evolve(planned, annotations={"artistname": "Other"}, content={})))
    library = Recording()
    video.import_(late, library)
    ((uid, entry),) = library.told
    assert uid == planned.uid
    assert asdict(entry) == {
        "path": PLACED.path, "artist": "Björk", "name": "Army of Me", "release": "1995", "origin": "internet",
        "size": 10, "sha1": "a" * 40, "sha256": "b" * 64, "duration": 4.0, "width": 320, "height": 180,
        "codec": "h264",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"placed": (PLACED,)}, id="no plan"),
        pytest.param({"plan": Plan(files=(), entry={"artist": "Björk"}), "placed": (PLACED,)}, id="half a plan"),
        pytest.param({"plan": Plan(files=(), entry={"artist": 5}), "placed": (PLACED,)}, id="another plan"),
    ],
)
def test_without_a_plan(video: Video, changes: dict[str, Any]) -> None:
    library = Recording()
    for step in (lambda: video.import_(task(**changes), library), lambda: video.illustrate(task(**changes), of(b""))):
        with pytest.raises(ContentRejected) as caught:
            step()
        assert caught.value.code == "no_plan"
    assert library.told == []


# ── illustrate ────────────────────────────────────────────────────────────────────────────────────────────────

EXPECTED = [0, 1, 2, 2, 3]
"""L/12 + i·L/6 for i from 0 to 4, as fifths of the clip."""


def nearest(picture: Image.Image) -> int:
    """Which of the clip's backgrounds a picture has."""
    sample = picture.convert("RGB").getpixel((picture.width * 3 // 4, picture.height * 7 // 8))
    assert isinstance(sample, tuple)
    distances = [max(abs(a - b) for a, b in zip(colour, sample, strict=True)) for colour in media.BACKGROUNDS]
    assert min(distances) < 25
    return distances.index(min(distances))


def pictures(video: Video, done: UploadTask, data: bytes) -> dict[str, Image.Image]:
    planned = evolve(done, plan=video.plan(done, Around()))
    assert planned.plan is not None
    made = video.illustrate(planned, of(data))
    assert list(made.files) == [file.path for file in planned.plan.artwork]
    assert {made.thumbnail, made.preview} <= {path.rpartition("/")[2] for path in made.files}
    assert all(path.rpartition("/")[0] == made.directory for path in made.files)
    opened: dict[str, Image.Image] = {}
    for path, content in made.files.items():
        picture = Image.open(io.BytesIO(content), formats=("JPEG", "WEBP"))
        picture.load()
        opened[path.rpartition("/")[2]] = picture
    return opened


def colours(video: Video, done: UploadTask, data: bytes) -> list[int]:
    made = pictures(video, done, data)
    return [nearest(made[f"frame-{n}.jpg"]) for n in range(1, 6)]


@pytest.mark.parametrize("keyframes", [10, 1000])
@pytest.mark.parametrize("container", ["mp4", "webm", "mkv"])
def test_frames_are_taken_where_they_should_be(video: Video, container: Any, keyframes: int) -> None:
    data = media.video(container=container, keyframes=keyframes)
    done = preprocessed(video, data, filename=f"clip.{container}")
    made = pictures(video, done, data)
    assert [nearest(made[f"frame-{n}.jpg"]) for n in range(1, 6)] == EXPECTED
    assert [nearest(made[f"frame-{n} (150).jpg"]) for n in range(1, 6)] == EXPECTED
    assert {made[f"frame-{n}.jpg"].size for n in range(1, 6)} == {(320, 180)}
    assert {made[f"frame-{n} (150).jpg"].size for n in range(1, 6)} == {(150, 84)}


def test_the_preview_moves_slowly_and_never_ends(video: Video) -> None:
    data = media.video()
    preview = pictures(video, preprocessed(video, data), data)["preview.webp"]
    assert (preview.format, preview.size) == ("WEBP", (320, 180))
    assert preview.info["loop"] == 0
    seen = []
    for index in range(preview.n_frames):  # type: ignore[attr-defined]
        preview.seek(index)
        preview.load()
        seen.append((preview.info["duration"], nearest(preview)))
    assert seen == [(600, colour) for colour in EXPECTED]


@pytest.mark.parametrize(
    ("options", "large", "small"),
    [
        ({"sar": (4, 3)}, (427, 180), (150, 63)),
        ({"sar": (1, 2)}, (320, 360), (150, 169)),
        ({"sar": (4, 3), "rotation": 90}, (180, 427), (150, 356)),
        ({"rotation": 180}, (320, 180), (150, 84)),
    ],
    ids=["wide", "tall", "turned", "upside down"],
)
def test_pictures_have_the_shape_that_a_player_shows(
    video: Video, options: dict[str, Any], large: tuple[int, int], small: tuple[int, int]
) -> None:
    data = media.video(**options)
    made = pictures(video, preprocessed(video, data), data)
    assert (made["frame-1.jpg"].size, made["frame-1 (150).jpg"].size) == (large, small)


def test_pictures_are_turned_the_right_way(video: Video) -> None:
    # The white square is in the upper half, near the left at the start. Turned a quarter counterclockwise, that
    # is the left half, near the bottom.
    data = media.video(rotation=90)
    picture = pictures(video, preprocessed(video, data), data)["frame-1.jpg"].convert("L")
    boxes = picture.point(lambda value: 255 if value > 220 else 0).getbbox()
    assert boxes is not None
    left, top, right, bottom = boxes
    assert right < picture.width / 2
    assert top > picture.height / 2
    assert right - left < 40
    assert bottom - top < 40


def test_huge_pictures_are_made_smaller(video: Video) -> None:
    with Decoder(limits=DecoderLimits(picture_side=100)) as decoder:
        made = video_artwork(decoder, of(media.video()), duration=4.0)
    assert {Image.open(io.BytesIO(frame)).size for frame in made.frames} == {(100, 56)}


def test_one_frame_makes_five_pictures(video: Video) -> None:
    data = media.video(seconds=0.1)
    assert colours(video, preprocessed(video, data), data) == [0] * 5


def test_artwork_of_a_file_that_changed(video: Video) -> None:
    done = preprocessed(video, media.video())
    planned = evolve(done, plan=video.plan(done, Around()))
    with pytest.raises(ContentRejected) as caught:
        video.illustrate(planned, of(media.audio_with_cover()))
    assert caught.value.code == "no_video"
