"""Covers: from a stranger's picture to the catalogue, and back."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from attrs import asdict, evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stagedoor.content import builtin
from stagedoor.content.artwork import Artwork
from stagedoor.content.covers import cover_names
from stagedoor.content.decoding import Decoder, DecoderLimits
from stagedoor.content.naming import Scheme
from stagedoor.engine import Uploads
from stagedoor.errors import ContentRejected, Refused, StorageError
from stagedoor.library.catalogue import Catalogue
from stagedoor.library.memory import MemoryLibrary, NullLibrary
from stagedoor.lifecycle import State
from stagedoor.ports import ContentType, Entry, Library, MusicLibrary, Preprocessed, Producer, Source
from stagedoor.settings import Settings
from stagedoor.tasks import JSON, Offer, PlacedFile, Plan, PlannedFile, UploadTask, dump, load
from stagedoor.testing import media, pictures
from stagedoor.testing.content import Around

PATIENT = DecoderLimits(seconds=300, cpu_seconds=300, start_seconds=300)
NAMES: dict[str, JSON] = {"artistname": "Björk", "albumname": "Debut"}
FACTS: dict[str, JSON] = {"kind": "png", "width": 600, "height": 600, "orientation": 1, "frames": 1, "has_alpha": False}
FOUR = ["Björk - Debut.jpg", "Björk - Debut (50).jpg", "Björk - Debut (150).jpg", "Björk - Debut (500).jpg"]


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(limits=PATIENT, processes=1) as made:
        yield made


@pytest.fixture(scope="module")
def artwork(decoder: Decoder) -> Artwork:
    return Artwork(decoder)


def of(data: bytes) -> Source:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return opened


def task(filename: str = "cover.jpg", annotations: Mapping[str, JSON] = NAMES, **values: Any) -> UploadTask:
    return UploadTask(
        id="cover", filesize=10, offset=10, contenttype="artwork", mimetype="image/jpeg", sourcefilename=filename,
        sourcechecksum="a" * 40, destinationpath="u/artwork-a.jpg", state=State.PREPROCESSED, uid="1" * 32,
        created=0.0, updated=0.0, annotations=annotations, sha256="b" * 64, **values,
    )  # fmt: skip


def planned(
    artwork: Artwork,
    annotations: Mapping[str, JSON] = NAMES,
    *,
    there: Sequence[str] = (),
    library: Library | None = None,
    content: Mapping[str, JSON] = FACTS,
) -> Plan:
    around = Around(library=library or NullLibrary(), paths={"artwork": there})
    return artwork.plan(task(annotations=annotations, content=content), around)


def test_it_is_a_content_type(artwork: Artwork) -> None:
    port: ContentType = artwork
    assert (port.name, port.has_artwork) == ("artwork", False)
    assert isinstance(artwork, Producer)


def test_it_comes_with_the_library() -> None:
    contents, close = builtin()
    close()
    assert "artwork" in {content.name for content in contents}


# ── preprocess ────────────────────────────────────────────────────────────────────────────────────────────────


def test_facts(artwork: Artwork) -> None:
    found = artwork.preprocess(task("Cover.PNG"), of(pictures.picture("PNG", mode="RGBA")))
    assert found == Preprocessed(content={**FACTS, "has_alpha": True})


def test_facts_survive_the_document(artwork: Artwork) -> None:
    found = artwork.preprocess(task(), of(pictures.turned_picture(6)))
    done = evolve(task(), content=found.content, findings=tuple(found.findings))
    done = evolve(done, plan=artwork.plan(done, Around()))
    assert load(dump(done)) == done


@pytest.mark.parametrize(
    ("filename", "data", "code", "words"),
    [
        ("cover.jpg", lambda: pictures.picture("PNG"), "renamed_to_true_type", "named .jpg, but it is a PNG"),
        ("cover.png", lambda: pictures.picture("WEBP"), "renamed_to_true_type", "named .png, but it is a WebP"),
        ("cover.gif", lambda: pictures.picture("JPEG"), "renamed_to_true_type", "named .gif, but it is a JPEG"),
        ("cover.jpg", lambda: pictures.picture("JPEG", (499, 499)), "small_picture", "only 499×499 pixels"),
        ("pixel.jpg", lambda: pictures.picture("JPEG", (1, 1)), "small_picture", "only 1×1 pixels"),
        ("cover.jpg", lambda: pictures.picture("JPEG", (600, 580)), "not_square", "not square (600×580)"),
        ("turned.jpg", lambda: pictures.turned_picture(6, size=(800, 600)), "not_square", "not square (800×600)"),
        ("cover.webp", pictures.animation, "first_frame_only", "first frame"),
        ("cover.png", lambda: pictures.animation("PNG"), "first_frame_only", "first frame"),
    ],
)
def test_warnings(artwork: Artwork, filename: str, data: Any, code: str, words: str) -> None:
    (finding,) = artwork.preprocess(task(filename), of(data())).findings
    assert (finding.code, finding.severity) == (code, "warn")
    assert words in finding.sentence
    assert finding.sentence.endswith(".")


@pytest.mark.parametrize(
    ("filename", "data"),
    [
        pytest.param("cover.jpeg", lambda: pictures.picture("JPEG", (500, 500)), id="another extension"),
        pytest.param("COVER.JPG", lambda: pictures.picture("JPEG", (600, 590)), id="nearly square"),
        pytest.param("cover", lambda: pictures.picture("WEBP"), id="no extension"),
        pytest.param("cover.jpg", lambda: pictures.talkative_picture("JPEG"), id="metadata"),
        pytest.param("cover.jpg", lambda: pictures.with_archive(pictures.picture("JPEG")), id="an archive behind"),
        pytest.param("cover.jpg", pictures.several_views, id="several views"),
    ],
)
def test_nothing_to_say(artwork: Artwork, filename: str, data: Any) -> None:
    assert artwork.preprocess(task(filename), of(data())).findings == ()


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        pytest.param(media.empty, "empty", "Choose a file with something in it", id="empty"),
        pytest.param(lambda: b"A text.", "not_an_image", "no JPEG, PNG or WebP picture. Convert", id="text"),
        pytest.param(media.ffconcat, "not_an_image", "no JPEG, PNG or WebP picture. Convert", id="ffconcat"),
        pytest.param(media.video, "not_an_image", "but video/mp4. Convert", id="video"),
        pytest.param(lambda: pictures.odd_format("GIF"), "not_an_image", "but image/gif. Convert", id="GIF"),
        pytest.param(lambda: pictures.odd_format("EPS"), "not_an_image", "but application/postscript", id="EPS"),
        pytest.param(lambda: b"\xff\xd8\xff" + media.noise(), "picture_damaged", "is damaged", id="noise"),
        pytest.param(lambda: media.cut(pictures.picture(), 0.9), "truncated", "cut off", id="cut off"),
        pytest.param(pictures.huge_picture, "picture_too_large", "12000×12000", id="144 megapixels"),
    ],
)
def test_refused(artwork: Artwork, data: Any, code: str, words: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        artwork.preprocess(task(), of(data()))
    assert caught.value.code == code
    assert words in caught.value.sentence


# ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────────


def paths(plan: Plan) -> list[str]:
    assert plan.problems == ()
    return [file.path for file in plan.files]


def test_a_plan(artwork: Artwork) -> None:
    plan = planned(artwork, {**NAMES, "albumid": 7, "colour": "blue"})
    assert paths(plan) == FOUR
    assert [file.source for file in plan.files] == ["cover", "50", "150", "500"]
    assert {(file.root, file.size, file.sha256, file.replace) for file in plan.files} == {
        ("artwork", None, None, False)
    }
    assert plan.artwork == ()
    assert plan.entry == {"artist": "Björk", "album": "Debut", "albumid": "7"}


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (("AC/DC", "T.N.T."), "AC\u2215DC - T.N.T.jpg"),
        (("../..", "etc/passwd"), "\u2215.. - etc\u2215passwd.jpg"),
        (("Blur", 13), "Blur - 13.jpg"),
        (("Bjo\u0308rk", "Debut"), "Björk - Debut.jpg"),
    ],
)
def test_names_become_paths(artwork: Artwork, names: tuple[JSON, JSON], path: str) -> None:
    plan = planned(artwork, dict(zip(("artistname", "albumname"), names, strict=True)))
    assert paths(plan)[0] == path
    assert plan.entry["album"] == str(names[1])


@pytest.mark.parametrize("there", FOUR)
def test_what_is_there_stays(artwork: Artwork, there: str) -> None:
    plan = planned(artwork, there=[there])
    assert paths(plan) == [
        "Björk - Debut [2].jpg",
        "Björk - Debut [2] (50).jpg",
        "Björk - Debut [2] (150).jpg",
        "Björk - Debut [2] (500).jpg",
    ]


def test_numbers_that_are_taken_are_passed_over(artwork: Artwork) -> None:
    there = [FOUR[0], "Björk - Debut [2] (500).jpg", "Björk - Debut [3].jpg", "Björk - Debut [5].jpg"]
    assert paths(planned(artwork, there=there))[0] == "Björk - Debut [4].jpg"


def test_other_covers_are_not_in_the_way(artwork: Artwork) -> None:
    assert paths(planned(artwork, there=["Björk - Debut", "Björk - Debut.png", "Björk - Debut [2].jpg"])) == FOUR


@pytest.mark.parametrize("album", ["Debut (50)", "Debut [2]", "Debut [2] (150)"])
def test_albums_that_are_called_like_copies(artwork: Artwork, album: str) -> None:
    taken = [*FOUR, *paths(planned(artwork, there=FOUR))]
    assert not set(paths(planned(artwork, {**NAMES, "albumname": album}, there=taken))) & set(taken)


def test_long_names_are_cut_and_stay_four(artwork: Artwork) -> None:
    plans = [planned(artwork, {**NAMES, "albumname": "ü" * 200 + end}) for end in ("a", "b")]
    plans.append(planned(artwork, {**NAMES, "albumname": "ü" * 200 + "a"}, there=paths(plans[0])))
    found = [path for plan in plans for path in paths(plan)]
    assert len(set(found)) == 12
    assert all(len(path.encode()) <= 255 for path in found)
    assert {path.rpartition(" ")[2] for path in found} >= {"(50).jpg", "(150).jpg", "(500).jpg"}
    assert paths(plans[2])[0].endswith(" [2].jpg")


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("artistname", None, "annotation_missing"),
        ("artistname", "  ", "annotation_missing"),
        ("artistname", "..", "unusable_name"),
        ("artistname", ["Björk"], "unusable_name"),
        ("albumname", None, "annotation_missing"),
        ("albumname", "\u200b", "unusable_name"),
        ("albumname", True, "unusable_name"),
    ],
)
def test_problems_name_the_annotation(artwork: Artwork, key: str, value: JSON, code: str) -> None:
    plan = planned(artwork, {**NAMES, key: value}, library=MemoryLibrary())
    assert plan.files == ()
    (problem,) = plan.problems
    assert (problem.code, problem.severity) == (code, "reject")
    assert f"“{key}”" in problem.sentence


def test_all_problems_at_once(artwork: Artwork) -> None:
    codes = [problem.code for problem in planned(artwork, {}, content={}).problems]
    assert codes == ["annotation_missing", "annotation_missing", "not_preprocessed"]
    codes = [problem.code for problem in planned(artwork, content={}, library=MemoryLibrary()).problems]
    assert codes == ["not_preprocessed", "album_not_found"]


@pytest.mark.parametrize(
    ("value", "expected"), [("7", "7"), (" 7 ", "7"), (8, "8"), ("", None), (None, None), (True, None), ([7], None)]
)
def test_the_id_of_an_album(artwork: Artwork, value: JSON, expected: str | None) -> None:
    assert planned(artwork, {**NAMES, "albumid": value}).entry["albumid"] == expected


def test_a_scheme_of_ones_own(decoder: Decoder) -> None:
    other = Artwork(decoder, scheme=Scheme.custom(cover="{albumartist}/{year} {album}/cover"))
    assert paths(planned(other, {**NAMES, "release": "1993-07-05"}))[1] == "Björk/1993 Debut/cover (50).jpg"
    (problem,) = planned(other).problems
    assert (problem.code, problem.severity) == ("annotation_missing", "reject")


class _Linked(Around):
    """A tree with a link in the way."""

    def exists(self, root: str, path: str) -> bool:
        raise StorageError("A link is in the way.", code=self.paths["code"][0])


def test_a_link_in_the_way_is_left_to_the_engine(artwork: Artwork) -> None:
    before = task(content=FACTS)
    assert paths(artwork.plan(before, _Linked(paths={"code": ["unsafe_path"]}))) == FOUR
    with pytest.raises(StorageError):
        artwork.plan(before, _Linked(paths={"code": ["storage_error"]}))


json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["artistname", "albumname", "albumid", "release"]), json))
def test_a_plan_never_raises_and_stays_in_its_directory(annotations: dict[str, JSON]) -> None:
    artwork = Artwork(None)  # type: ignore[arg-type]  # planning needs no decoder
    plan = planned(artwork, annotations)
    assert bool(plan.files) != bool(plan.problems)
    found = [file.path for file in plan.files]
    again = paths(planned(artwork, annotations, there=found)) if found else []
    assert len({*found, *again}) in (0, 8)
    for path in (*found, *again):
        assert "/" not in path
        assert not path.startswith(".")
        assert len(path.encode()) <= 255


# ── plan: the album ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def library() -> MemoryLibrary:
    library = MemoryLibrary()
    assert isinstance(library, MusicLibrary)
    library.add_album("Björk", "Debut", "1993")
    return library


@pytest.mark.parametrize("names", [("Björk", "Debut"), ("BJÖRK", "debut"), ("Bjo\u0308rk", "Debut")])
def test_an_album_that_is_known(artwork: Artwork, library: MemoryLibrary, names: tuple[str, str]) -> None:
    assert planned(artwork, {"artistname": names[0], "albumname": names[1]}, library=library).problems == ()


def test_an_album_that_is_not_known(artwork: Artwork, library: MemoryLibrary) -> None:
    (problem,) = planned(artwork, {**NAMES, "albumname": "Post"}, library=library).problems
    assert (problem.code, problem.severity) == ("album_not_found", "reject")
    assert "“Post” by “Björk”" in problem.sentence


def test_several_albums_of_one_name(artwork: Artwork, library: MemoryLibrary) -> None:
    other = library.add_album("Björk", "Debut", "2003")
    (problem,) = planned(artwork, library=library).problems
    assert (problem.code, problem.severity) == ("album_ambiguous", "reject")
    assert other in problem.sentence
    plan = planned(artwork, {**NAMES, "albumid": other}, library=library)
    assert (plan.problems, plan.entry["albumid"]) == ((), other)


def test_an_id_that_nobody_has_leaves_the_names(artwork: Artwork, library: MemoryLibrary) -> None:
    plan = planned(artwork, {**NAMES, "albumid": "99"}, library=library)
    (problem,) = plan.problems
    assert (problem.code, problem.severity) == ("albumid_unknown", "warn")
    assert "no album 99" in problem.sentence
    assert (len(plan.files), plan.entry["albumid"]) == (4, None)
    unknown = planned(artwork, {**NAMES, "albumname": "Post", "albumid": "99"}, library=library)
    assert [problem.code for problem in unknown.problems] == ["albumid_unknown", "album_not_found"]
    library.add_album("Björk", "Debut", "2003")
    several = planned(artwork, {**NAMES, "albumid": "99"}, library=library)
    assert [problem.code for problem in several.problems] == ["albumid_unknown", "album_ambiguous"]


def test_an_id_of_another_album_is_asked_about(artwork: Artwork, library: MemoryLibrary) -> None:
    """It was good in a catalogue that is no more, perhaps; a cover on a stranger's album helps nobody."""
    (debut,) = library.find_albums("Björk", "Debut", None)
    other = library.add_album("Portishead", "Dummy", "1994")
    plan = planned(artwork, {**NAMES, "albumid": int(other)}, library=library)
    (problem,) = plan.problems
    assert (plan.files, problem.code, problem.severity) == ((), "albumid_differs", "hold")
    assert problem.options == (other, debut)
    for answer in (other, debut):
        said = planned(artwork, {**NAMES, "albumid": other, "answers.albumid_differs": answer}, library=library)
        assert (said.problems, len(said.files), said.entry["albumid"]) == ((), 4, answer)
    again = planned(artwork, {**NAMES, "albumid": other, "answers.albumid_differs": "99"}, library=library)
    assert [problem.code for problem in again.problems] == ["albumid_differs"]


def test_an_id_whose_names_nobody_has_is_asked_about(artwork: Artwork, library: MemoryLibrary) -> None:
    other = library.add_album("Portishead", "Dummy", "1994")
    wrong = {**NAMES, "albumname": "Post", "albumid": other}
    (problem,) = planned(artwork, wrong, library=library).problems
    assert (problem.code, problem.options) == ("albumid_differs", (other,))
    assert "none of that name" in problem.sentence
    plan = planned(artwork, {**wrong, "answers.albumid_differs": other}, library=library)
    assert (plan.problems, plan.entry["albumid"]) == ((), other)


# ── produce ───────────────────────────────────────────────────────────────────────────────────────────────────


def produced(artwork: Artwork, data: bytes, files: Sequence[PlannedFile]) -> dict[str, Image.Image]:
    made: dict[str, Image.Image] = {}
    with artwork.produce(task(content=FACTS), of(data), files) as streams:
        for file, stream in streams:
            made[file.path] = Image.open(io.BytesIO(stream.read()), formats=("JPEG",))
            made[file.path].load()
    return made


def test_the_files_of_the_plan_are_made(artwork: Artwork) -> None:
    made = produced(artwork, pictures.turned_picture(8, "PNG", (800, 600)), planned(artwork).files)
    sizes = [(800, 600), (50, 38), (150, 112), (500, 375)]
    assert {path: image.size for path, image in made.items()} == dict(zip(FOUR, sizes, strict=True))


def test_only_what_is_asked_for_is_given(artwork: Artwork) -> None:
    assert list(produced(artwork, pictures.picture(), planned(artwork).files[2:3])) == [FOUR[2]]


def test_a_plan_of_another_version(artwork: Artwork) -> None:
    with pytest.raises(ContentRejected) as caught:
        produced(artwork, pictures.picture(), [PlannedFile("artwork", "x.jpg", source="1000")])
    assert caught.value.code == "no_plan"


def test_a_file_that_changed(artwork: Artwork) -> None:
    with pytest.raises(ContentRejected) as caught:
        produced(artwork, media.noise(), planned(artwork).files)
    assert caught.value.code == "not_an_image"


def test_a_cover_gets_no_pictures_of_its_own(artwork: Artwork) -> None:
    with pytest.raises(ContentRejected) as caught:
        artwork.illustrate(task(), of(b""))
    assert caught.value.code == "no_artwork"


# ── import ────────────────────────────────────────────────────────────────────────────────────────────────────


class Recording(NullLibrary):
    """A library that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Entry]] = []

    def put(self, uid: str, entry: Entry) -> None:
        self.told.append((uid, entry))


PLACED = tuple(PlacedFile("artwork", path, 10, str(number) * 64) for number, path in enumerate(FOUR))


def test_import_tells_what_is_on_record(artwork: Artwork) -> None:
    done = evolve(task(), plan=planned(artwork, {**NAMES, "albumid": "7"}), placed=PLACED[::-1])
    # What comes after the integration must not part the catalogue from the file.
    late = load(dump(evolve(done, annotations={"artistname": "Other"}, content={})))
    library = Recording()
    artwork.import_(late, library)
    ((uid, entry),) = library.told
    assert uid == done.uid
    assert asdict(entry) == {
        "path": FOUR[0], "artist": "Björk", "album": "Debut", "albumid": "7", "sha256": "0" * 64,
    }  # fmt: skip


@pytest.mark.parametrize("gone", ["plan", "placed", "entry", "cover"])
def test_without_a_record(artwork: Artwork, gone: str) -> None:
    plan = planned(artwork)
    without: dict[str, dict[str, Any]] = {
        "plan": {"plan": None},
        "placed": {"placed": ()},
        "entry": {"plan": evolve(plan, entry={"artist": "Björk"})},
        "cover": {"placed": PLACED[1:]},
    }
    changes = {"plan": plan, "placed": PLACED, **without[gone]}
    library = Recording()
    with pytest.raises(ContentRejected) as caught:
        artwork.import_(task(**changes), library)
    assert caught.value.code == "no_plan"
    assert library.told == []


# ── from initiation to undo ───────────────────────────────────────────────────────────────────────────────────


class Place:
    """An engine on real directories with a real catalogue."""

    def __init__(self, root: Path, decoder: Decoder) -> None:
        self.root = root
        (root / "artwork").mkdir()
        self.catalogue = Catalogue.open(root / "catalogue.sqlite", durable=False)
        self.uploads = Uploads.open(
            root / "uploads",
            music=root / "music",
            artwork=root / "artwork",
            library=self.catalogue,
            contents=[Artwork(decoder)],
            durability="none",
            settings=Settings(free_floor=0),
        )

    def send(self, uploadid: str, data: bytes, filename: str = "cover.jpg", **annotations: JSON) -> UploadTask:
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        self.uploads.initiate(
            Offer(
                uploadid,
                filename=filename,
                contenttype="artwork",
                filesize=len(data),
                sha1=sha1,
                annotations={**NAMES, **annotations},
            )
        )
        self.uploads.receive(uploadid, offset=0, data=data)
        return self.work(uploadid)

    def work(self, uploadid: str) -> UploadTask:
        while self.uploads.perform(uploadid):
            pass
        return self.uploads.get(uploadid)

    def integrate(self, uploadid: str) -> UploadTask:
        self.uploads.request(uploadid, trigger_import=True)
        return self.work(uploadid)

    def undo(self, uploadid: str) -> UploadTask:
        self.uploads.undo(uploadid)
        return self.work(uploadid)

    def files(self) -> dict[str, str]:
        """SHA-256 of everything in the artwork directory that people see, and the directories."""
        visible = [path for path in (self.root / "artwork").rglob("*") if not path.name.startswith(".")]
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in visible
            if not any(part.startswith(".") for part in path.relative_to(self.root).parts)
        }

    def everything(self) -> tuple[object, ...]:
        return self.files(), self.catalogue.content_hash()

    def covers(self) -> dict[str, str | None]:
        return {album.id: album.cover for album in self.catalogue.albums()}


@pytest.fixture
def place(tmp_path: Path, decoder: Decoder) -> Iterator[Place]:
    place = Place(tmp_path, decoder)
    try:
        yield place
    finally:
        place.uploads.close()
        place.catalogue.close()


def test_a_cover_is_imported_and_undone(place: Place) -> None:
    album = place.catalogue.add_album("Björk", "Debut", "1993", cover=FOUR[0])
    (place.root / "artwork" / FOUR[0]).write_bytes(b"the former cover")
    before = place.everything()

    task = place.send("one", pictures.talkative_picture("PNG"), "front.png")
    assert (task.state, task.findings) == (State.PREPROCESSED, ())
    task = place.integrate("one")
    assert (task.state, task.message) == (State.IMPORTCOMPLETE, None)
    assert task.artworkfile == "Björk - Debut [2].jpg"
    assert place.covers() == {album: "Björk - Debut [2].jpg"}
    names = [*cover_names("Björk - Debut [2]").values()]
    assert sorted(place.files()) == sorted(f"artwork/{name}" for name in (FOUR[0], *names))
    assert [file.path for file in task.placed] == names
    assert (place.root / "artwork" / FOUR[0]).read_bytes() == b"the former cover"
    made = [(place.root / "artwork" / name).read_bytes() for name in names]
    sizes = [Image.open(io.BytesIO(data)).size for data in made]
    assert sizes == [(600, 600), (50, 50), (150, 150), (500, 500)]
    assert not any(pictures.SECRET in data for data in made)
    # No artwork is made for an artwork.
    states = dict.fromkeys(event.dest for event in task.history)
    assert list(states)[-3:] == ["integrated", "startimport", "importcomplete"]

    assert place.undo("one").state is State.PREPROCESSED
    assert place.everything() == before
    assert place.covers() == {album: FOUR[0]}


def test_the_newest_cover_is_shown_whatever_is_undone(place: Place) -> None:
    album = place.catalogue.add_album("Björk", "Debut", "1993")
    before = place.everything()
    for uploadid, data in (("one", pictures.picture()), ("two", pictures.picture("WEBP"))):
        place.send(uploadid, data)
        assert place.integrate(uploadid).state is State.IMPORTCOMPLETE
    assert place.covers() == {album: "Björk - Debut [2].jpg"}
    place.undo("one")
    assert place.covers() == {album: "Björk - Debut [2].jpg"}
    assert len(place.files()) == 4
    place.undo("two")
    assert place.everything() == before


def test_an_unknown_album_can_be_named_and_tried_again(place: Place) -> None:
    place.catalogue.add_album("Björk", "Post", "1995")
    before = place.everything()
    place.send("one", pictures.picture())
    task = place.integrate("one")
    assert (task.state, task.code) == (State.INTEGRATIONFAILED, "album_not_found")
    assert task.message is not None
    assert "“Debut” by “Björk”" in task.message
    assert place.everything() == before

    place.uploads.annotate("one", albumname="Post")
    place.uploads.retry("one")
    place.work("one")
    task = place.integrate("one")
    assert (task.state, task.artworkfile) == (State.IMPORTCOMPLETE, "Björk - Post.jpg")
    place.undo("one")
    assert place.everything() == before


def test_a_picture_that_will_not_do_reaches_nothing(place: Place) -> None:
    before = place.everything()
    task = place.send("one", media.cut(pictures.picture(), 0.9))
    assert (task.state, task.code) == (State.INVALIDCONTENT, "truncated")
    assert place.everything() == before


def test_a_cover_that_was_changed_is_not_taken_away(place: Place) -> None:
    place.catalogue.add_album("Björk", "Debut")
    place.send("one", pictures.picture())
    place.integrate("one")
    (place.root / "artwork" / FOUR[2]).write_bytes(b"retouched")
    after = place.everything()
    with pytest.raises(Refused) as caught:
        place.undo("one")
    assert caught.value.code == "changed_since"
    assert place.everything() == after
    assert place.uploads.get("one").state is State.IMPORTCOMPLETE
