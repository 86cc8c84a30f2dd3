"""Albums: archives of songs and single songs, from a stranger's bytes to a plan and to covers."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pytest
from attrs import evolve
from PIL import Image

from stagedoor.content import gathering
from stagedoor.content.album import Album
from stagedoor.content.decoding import Decoder, DecoderLimits
from stagedoor.content.decoding.archive import ArchiveLimits
from stagedoor.content.decoding.audio import probe_audio
from stagedoor.content.naming import SCHEMES, Scheme
from stagedoor.content.songs import Track, tracks_from
from stagedoor.errors import ContentRejected
from stagedoor.library.memory import MemoryLibrary, NullLibrary
from stagedoor.lifecycle import State
from stagedoor.ports import AlbumEntry, ContentType, Library, Producer, SongEntry, Source
from stagedoor.tasks import JSON, Finding, PlacedFile, Plan, UploadTask, dump, load
from stagedoor.testing import sounds
from stagedoor.testing.archives import entry, pack, tar_of, zip_of
from stagedoor.testing.content import Around
from stagedoor.testing.pictures import picture
from stagedoor.testing.sounds import Kind

PATIENT = DecoderLimits(seconds=300, cpu_seconds=300, start_seconds=300)
WHO = {"artist": "Björk", "album": "Debut", "date": "1993"}
song = functools.partial(sounds.song, seconds=0.5)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(limits=PATIENT, processes=1) as made:
        yield made


@pytest.fixture(scope="module")
def album(decoder: Decoder) -> Album:
    return Album(decoder)


@functools.cache
def a_song(number: int = 1, kind: Kind = "mp3", **tags: Any) -> bytes:
    return song(kind, seed=number, **({"title": f"Song {number}", "track": str(number), **WHO} | tags))


def bare(number: int, kind: Kind = "mp3") -> bytes:
    """A song without tags."""
    return song(kind, seed=number)


def zipped(files: Mapping[str, bytes]) -> bytes:
    return zip_of([entry(name, data) for name, data in files.items()])


def of(data: bytes) -> Source:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return opened


def task(data: bytes, filename: str = "album.zip", **values: Any) -> UploadTask:
    return UploadTask(
        id="album", filesize=len(data), offset=len(data), contenttype="album", mimetype="application/zip",
        sourcefilename=filename, sourcechecksum=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        destinationpath="u/album.zip", state=State.PREPROCESSED, uid="1" * 32, created=0.0, updated=0.0,
        sha256=hashlib.sha256(data).hexdigest(), **values,
    )  # fmt: skip


def looked_at(album: Album, data: bytes, filename: str = "album.zip", **annotations: JSON) -> UploadTask:
    """After pre-processing, and through the document."""
    upload = task(data, filename, annotations=annotations)
    found = album.preprocess(upload, of(data))
    return load(dump(evolve(upload, content=found.content, findings=tuple(found.findings))))


def planned(
    album: Album,
    files: Mapping[str, bytes],
    filename: str = "album.zip",
    *,
    there: Sequence[str] = (),
    library: Library | None = None,
    **annotations: JSON,
) -> Plan:
    upload = looked_at(album, zipped(files), filename, **annotations)
    return album.plan(upload, Around(library=library or NullLibrary(), paths={"music": there}))


def paths(plan: Plan) -> list[str]:
    assert [p for p in plan.problems if p.severity == "reject"] == []
    return [file.path for file in plan.files]


def codes(found: Sequence[Finding]) -> list[str]:
    return [finding.code for finding in found]


def one(found: Sequence[Finding], code: str) -> Finding:
    (finding,) = [finding for finding in found if finding.code == code]
    return finding


def test_it_is_a_content_type(album: Album) -> None:
    port: ContentType = album
    assert (port.name, port.has_artwork) == ("album", True)
    assert isinstance(album, Producer)


# ── grouping ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_discs_and_tracks_from_tags(album: Album) -> None:
    files = {
        f"{disc}{number}.flac": a_song(10 * disc + number, "flac", track=f"{number}/2", disc=f"{disc}/2")
        for disc in (2, 1)
        for number in (2, 1)
    }
    plan = planned(album, files)
    assert paths(plan) == [
        "Björk/1993 - Debut/1-1 Song 11.flac", "Björk/1993 - Debut/1-2 Song 12.flac",
        "Björk/1993 - Debut/2-1 Song 21.flac", "Björk/1993 - Debut/2-2 Song 22.flac",
    ]  # fmt: skip
    assert plan.entry["album"] == "Debut"
    assert [dict(s)["disc"] for s in plan.entry["songs"]] == [1, 1, 2, 2]  # type: ignore[arg-type, union-attr]


def test_discs_and_tracks_from_names(album: Album) -> None:
    files = {"CD2/01 Big Time.mp3": bare(1), "CD1/02 Crying.mp3": bare(2), "CD1/01 Human.mp3": bare(3)}
    plan = planned(album, files, "Björk - Debut (1993).zip")
    assert paths(plan) == [
        "Björk/1993 - Debut/1-1 Human.mp3", "Björk/1993 - Debut/1-2 Crying.mp3", "Björk/1993 - Debut/2-1 Big Time.mp3",
    ]  # fmt: skip


def test_one_disc_has_no_number_in_front(album: Album) -> None:
    assert paths(planned(album, {"a.mp3": a_song(disc="1/1")})) == ["Björk/1993 - Debut/1 Song 1.mp3"]


def test_the_second_disc_alone_keeps_its_number(album: Album) -> None:
    files = {"a.mp3": a_song(album="Debut (Disc 2)")}
    plan = planned(album, files)
    assert (paths(plan), plan.entry["album"]) == (["Björk/1993 - Debut/2-1 Song 1.mp3"], "Debut")


def test_the_librarys_own_layout_comes_back(album: Album) -> None:
    files = {f"Björk/1993 - Debut/{n} Song.mp3": bare(n) for n in (1, 2)}
    assert paths(planned(album, files, "backup.zip")) == list(files)


def test_a_compilation(album: Album) -> None:
    files = {f"{n}.mp3": a_song(n, artist=f"Artist {n}", album="Hits") for n in (1, 2, 3)}
    upload = looked_at(album, zipped(files))
    assert "Various Artists" in one(upload.findings, "compilation").sentence
    plan = album.plan(upload, Around())
    assert paths(plan)[0] == "Various Artists/1993 - Hits/1 Song 1.mp3"
    assert [dict(s)["artist"] for s in plan.entry["songs"]] == ["Artist 1", "Artist 2", "Artist 3"]  # type: ignore[arg-type, union-attr]
    beets = Album(album._decoder, scheme=SCHEMES["beets"])
    assert paths(beets.plan(upload, Around()))[0] == "Compilations/Hits/01 Song 1.mp3"


@pytest.mark.parametrize("said", [False, "false", "No"])
def test_no_compilation_when_the_user_says_so(album: Album, said: JSON) -> None:
    files = {f"{n}.mp3": a_song(n, artist=f"Artist {n}", album="Hits") for n in (1, 2)}
    upload = looked_at(album, zipped(files), compilation=said, artistname="The Band")
    assert "compilation" not in codes(upload.findings)
    beets = Album(album._decoder, scheme=SCHEMES["beets"])
    assert paths(beets.plan(upload, Around()))[0] == "The Band/Hits/01 Song 1.mp3"


def test_a_compilation_because_the_user_says_so(album: Album) -> None:
    beets = Album(album._decoder, scheme=SCHEMES["beets"])
    assert paths(planned(beets, {"a.mp3": a_song()}, compilation="yes")) == ["Compilations/Debut/01 Song 1.mp3"]
    assert codes(planned(beets, {"a.mp3": a_song()}, compilation="perhaps").problems) == ["invalid_answer"]


def test_a_single_song_is_the_upload_itself(album: Album) -> None:
    data = a_song(4, "flac")
    upload = looked_at(album, data, "whatever.flac")
    plan = album.plan(upload, Around())
    (file,) = plan.files
    assert (file.path, file.source) == ("Björk/1993 - Debut/4 Song 4.flac", "")
    assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert codes(upload.findings) == ["no_cover"]


def test_a_single_song_without_tags(album: Album) -> None:
    upload = looked_at(album, bare(1), "Björk - 05 - Human Behaviour.mp3")
    assert codes(album.plan(upload, Around()).problems) == ["annotation_missing", "annotation_missing"]
    upload = evolve(upload, annotations={"albumname": "Debut", "release": 1993})
    assert paths(album.plan(upload, Around())) == ["Björk/1993 - Debut/5 Human Behaviour.mp3"]


def test_annotations_win_over_tags(album: Album) -> None:
    plan = planned(album, {"a.mp3": a_song()}, artistname="X", albumname="Y", release=2001, origin="CD")
    assert paths(plan) == ["X/2001 - Y/1 Song 1.mp3"]
    assert [plan.entry[key] for key in ("artist", "album", "release", "origin")] == ["X", "Y", "2001", "CD"]


def test_corrections_of_songs(album: Album) -> None:
    files = {f"{n}.mp3": a_song(n) for n in (1, 2, 3)}
    wanted: JSON = {"1": {"title": "First", "disc": 1}, "2": {"skip": True}, "3": {"number": 9, "disc": 2}}
    plan = planned(album, files, tracks=wanted)
    assert paths(plan) == ["Björk/1993 - Debut/1-1 First.mp3", "Björk/1993 - Debut/2-9 Song 3.mp3"]
    assert codes(planned(album, files, tracks={"7": {}}).problems) == ["invalid_tracks"]


def test_what_nobody_knows_is_asked_for_at_once(album: Album) -> None:
    plan = planned(album, {"a.mp3": bare(1)}, "x.zip", albumname=" ")
    assert [p.sentence.split(" is missing")[0] for p in plan.problems] == [
        "The annotation “artistname”", "The annotation “release”",
    ]  # fmt: skip
    assert plan.files == ()


def test_a_scheme_without_years_needs_none(album: Album) -> None:
    navidrome = Album(album._decoder, scheme=SCHEMES["navidrome"])
    assert paths(planned(navidrome, {"a.mp3": a_song(date="")})) == ["Björk/Debut/01 - Song 1.mp3"]


def test_two_songs_of_one_name(album: Album) -> None:
    files = {f"{n}/x.mp3": a_song(n, title=title, track="") for n, title in enumerate(("Intro", "INTRO", "Intro"))}
    found = paths(planned(album, files))
    assert found == [f"Björk/1993 - Debut/{name}.mp3" for name in ("Intro", "INTRO (2)", "Intro (3)")]


def test_two_songs_of_one_name_that_is_too_long(album: Album) -> None:
    files = {f"{n}/x.mp3": a_song(n, title="é" * 200, track="") for n in range(3)}
    found = paths(planned(album, files))
    assert len(set(found)) == 3


@functools.cache
def many_alike(titles: tuple[str, ...], name: str = "{}.mp3") -> Mapping[str, JSON]:
    """What pre-processing finds in an archive of songs with these titles."""
    tracks = [
        Track(
            member=at, name=name.format(at), extension="mp3", size=5_000_000, sha1=f"{at:040}", sha256=f"{at:064}",
            duration=200.0, codec="mp3", bitrate=320_000, title=title, artist="Björk", albumartist="Björk",
            album="Debut", year="1993",
        )
        for at, title in enumerate(titles)
    ]  # fmt: skip
    guess = {"artistname": "Björk", "albumname": "Debut", "release": "1993"}
    return {"kind": "zip", "tracks": [track.to_json() for track in tracks], "cover": None, "guess": guess}


@pytest.mark.parametrize(
    "titles",
    [("Untitled",) * 500, tuple(f"{'Untitled' * 6} {at // 2}" for at in range(500))],
    ids=["of one title", "of pairs that begin alike"],
)
def test_hundreds_of_songs_of_one_name(album: Album, monkeypatch: pytest.MonkeyPatch, titles: tuple[str, ...]) -> None:
    """Each gets a number of its own, and none tries all the numbers before it."""
    made = []
    real = Scheme.song_path

    def counting(scheme: Scheme, *arguments: Any, **options: Any) -> str:
        made.append(1)
        return real(scheme, *arguments, **options)

    monkeypatch.setattr(Scheme, "song_path", counting)
    found = paths(album.plan(task(b"zip", content=many_alike(titles)), Around()))
    assert len({path.casefold() for path in found}) == 500
    assert len(made) <= 3 * 500
    if titles[0] == titles[-1]:
        assert found[::499] == [f"Björk/1993 - Debut/Untitled{n}.mp3" for n in ("", " (500)")]


def test_names_that_have_the_number_already_are_passed_over(album: Album) -> None:
    titles = ("Song (2)", "Song", "Song", "Song", "Song (4)")
    found = paths(album.plan(task(b"zip", content=many_alike(titles)), Around()))
    names = ["Song (2)", "Song", "Song (3)", "Song (4)", "Song (4) (2)"]
    assert found == [f"Björk/1993 - Debut/{name}.mp3" for name in names]


def test_the_document_of_a_large_album_is_bounded(album: Album) -> None:
    """It is written with each revision, and goes out with each notice."""
    upload = task(b"zip", content=many_alike(("t" * 200,) * 500, "n" * 2000 + " {}.mp3"))
    assert len(dump(upload)) < 500 * 1000
    plan = album.plan(upload, Around())
    placed = tuple(PlacedFile("music", file.path, file.size or 0, file.sha256 or "") for file in plan.files)
    assert len(dump(evolve(upload, plan=plan))) - len(dump(upload)) < 500 * 600
    library = MemoryLibrary()
    album.import_(load(dump(evolve(upload, plan=plan, placed=placed))), library)
    assert len(library.find_songs("Björk", "Debut", "1993")) == 500


def test_long_names_are_cut_for_the_record(album: Album) -> None:
    files = {f"{'d' * 400}/{'1 n' * 200}.mp3": a_song(), "x" * 900 + ".txt": b"x", "c" * 900 + ".jpg": jpeg(1)}
    upload = looked_at(album, zipped(files))
    (track,) = tracks_from(upload.content["tracks"]) or ()
    cover, left_out = upload.content["cover"], upload.content["left_out"]
    assert isinstance(cover, Mapping)
    assert isinstance(left_out, Sequence)
    names = [track.name, *map(str, left_out), str(cover["name"])]
    assert [name[-4:] for name in names] == [".mp3", ".txt", ".jpg"]
    assert max(map(len, names)) <= 255
    assert codes(upload.findings) == ["left_out"]


def test_a_guess_from_names_is_told(album: Album) -> None:
    """Nobody may have meant the name of the file."""
    plan = planned(album, {"1 One.mp3": bare(1)}, "untagged.zip", artistname="Björk", release="1993")
    found = one(plan.problems, "names_guessed")
    assert found.severity == "warn"
    assert "from the file's name" in found.sentence
    assert "album “untagged”" in found.sentence
    assert "“artistname”" not in found.sentence
    said = planned(album, {"1 One.mp3": bare(1)}, "x.zip", artistname="Björk", albumname="Debut", release="1993")
    assert "names_guessed" not in codes(said.problems)
    assert "names_guessed" not in codes(planned(album, {"1.mp3": a_song()}, "Björk - 1993 - Debut.zip").problems)


@pytest.mark.parametrize("name", ["Björk - Hyperballad.mp3", "Björk/1995 - Post/01 Hyperballad.mp3"])
def test_an_artist_that_only_names_tell_is_told(album: Album, name: str) -> None:
    plan = planned(album, {name: bare(1)}, albumname="Post", release="1995")
    assert "artist “Björk”" in one(plan.problems, "names_guessed").sentence


def test_the_same_file_twice_is_taken_once(album: Album) -> None:
    files = {"a.mp3": a_song(), "copy.mp3": a_song(), "b.mp3": a_song(2)}
    upload = looked_at(album, zipped(files))
    assert "a.mp3, copy.mp3." in one(upload.findings, "same_song_twice").sentence
    assert len(paths(album.plan(upload, Around()))) == 2


def test_several_albums_in_one_archive(album: Album) -> None:
    files = {"a.mp3": a_song(), "b.mp3": a_song(2, album="Post")}
    upload = looked_at(album, zipped(files))
    assert codes(upload.open_questions) == ["several_albums"]
    assert evolve(upload, annotations={"answers.several_albums": "one"}).open_questions == ()


def test_a_broken_song_among_good_ones(album: Album) -> None:
    files = {
        "a.mp3": a_song(1),
        "b.mp3": b"no song at all" * 99,
        "c.wma": b"nor this",
        "d.flac": a_song(4, "flac")[:9000],
    }
    upload = looked_at(album, zipped(files))
    (question,) = upload.open_questions
    assert (question.code, question.options) == ("broken_tracks", ("without",))
    assert "3 songs of 4 cannot be used: " in question.sentence
    assert all(name in question.sentence for name in ("b.mp3", "c.wma", "d.flac"))
    assert paths(album.plan(upload, Around())) == ["Björk/1993 - Debut/1 Song 1.mp3"]


def test_broken_songs_only(album: Album) -> None:
    with pytest.raises(ContentRejected, match=r"No song of the album can be used. a.mp3: ") as caught:
        looked_at(album, zipped({"a.mp3": b"none", "b.mp3": b"none either"}))
    assert caught.value.code == "no_songs"


@pytest.mark.parametrize("files", [{"readme.txt": b"x"}, {"cover.jpg": b"x"}])
def test_an_archive_without_songs(album: Album, files: dict[str, bytes]) -> None:
    with pytest.raises(ContentRejected, match="There is no song in the archive") as caught:
        looked_at(album, zipped(files))
    assert caught.value.code == "no_songs"


def test_too_many_songs(decoder: Decoder) -> None:
    with pytest.raises(ContentRejected, match="at most 2") as caught:
        looked_at(Album(decoder, songs=2), zipped({f"{n}.mp3": b"x" for n in range(3)}))
    assert caught.value.code == "too_many_songs"


def test_limits_of_archives_hold(decoder: Decoder) -> None:
    with pytest.raises(ContentRejected) as caught:
        looked_at(Album(decoder, limits=ArchiveLimits(bytes=1000)), zipped({"a.mp3": a_song()}))
    assert caught.value.code == "archive_too_large"


def test_a_format_that_is_not_let_in(decoder: Decoder) -> None:
    few = Album(decoder, extensions=("flac",))
    with pytest.raises(ContentRejected, match="Convert it to one of these: flac") as caught:
        looked_at(few, a_song(), "a.mp3")
    assert caught.value.code == "unsupported_format"
    upload = looked_at(few, zipped({"a.mp3": a_song(), "b.flac": a_song(2, "flac")}))
    assert "a.mp3 (The format mp3 is not supported)" in one(upload.open_questions, "broken_tracks").sentence


def test_numbers_that_are_missing(album: Album) -> None:
    upload = looked_at(album, zipped({"a.mp3": a_song(1, track="1/4"), "b.mp3": a_song(3, track="3/4")}))
    assert one(upload.findings, "tracks_missing").sentence.endswith(": 2, 4.")


def test_a_wrong_name_is_made_right(album: Album) -> None:
    upload = looked_at(album, zipped({"a.wav": a_song()}))
    assert "a.wav is mp3" in one(upload.findings, "renamed_to_true_type").sentence
    assert paths(album.plan(upload, Around())) == ["Björk/1993 - Debut/1 Song 1.mp3"]


def test_what_stays_behind_is_told(album: Album) -> None:
    files = {"a.mp3": a_song(), "booklet.pdf": b"x", "rip/log.txt": b"x", "back.jpg": picture(), ".DS_Store": b"x"}
    upload = looked_at(album, zipped(files))
    assert "2 files of the archive stay behind: booklet.pdf, log.txt." in one(upload.findings, "left_out").sentence
    assert upload.content["left_out"] == ("booklet.pdf", "rip/log.txt")
    upload = looked_at(album, zipped({"a.mp3": a_song(), "booklet.pdf": b"x"}))
    assert one(upload.findings, "left_out").sentence == "1 file of the archive stays behind: booklet.pdf."


def test_one_warning_for_all_songs(album: Album, decoder: Decoder) -> None:
    # A tag frame that says it is longer than the tag.
    torn = sounds.with_id3(bare(1), [("TIT2", b"\x03Title")])
    torn = torn.replace(b"TIT2\0\0\0\x06", b"TIT2\0\0\x7f\x7f", 1)
    files = {f"{n} Song.mp3": torn + bytes([n]) for n in range(1, 9)}
    upload = looked_at(album, zipped(files), artistname="A", albumname="B", release=2000)
    warnings = [finding for finding in upload.findings if finding.code.startswith("tags_")]
    assert len(warnings) == 1
    assert warnings[0].sentence.endswith("and 3 more.")


@pytest.mark.parametrize("packing", ["", "gz", "bz2", "xz"])
def test_tars(album: Album, packing: Any) -> None:
    data = pack(tar_of({"Debut/1.mp3": a_song(), "Debut/cover.jpg": picture()}), packing)
    upload = looked_at(album, data, f"x.tar.{packing}")
    assert paths(album.plan(upload, Around())) == ["Björk/1993 - Debut/1 Song 1.mp3"]


# ── one artist, one directory ─────────────────────────────────────────────────────────────────────────────────

NFD = "Beyonce\u0301"


def of_artist(artist: str) -> dict[str, bytes]:
    return {"a.mp3": a_song(artist=artist)}


def catalogue(*artists: str) -> MemoryLibrary:
    library = MemoryLibrary()
    for number, artist in enumerate(artists):
        library.put(f"{number:032}", AlbumEntry(artist=artist, name="Old", release="1990", origin="", sha1="",
            songs=(SongEntry(path=f"{number}/x.mp3", name="x", artist=artist, disc=1, number=1, size=1, sha1="",
                sha256="0" * 64, duration=1.0, codec="mp3"),)))  # fmt: skip
    return library


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("wanted", ["BEYONCÉ", "Beyoncé", NFD, "beyonce\u0301"])
@pytest.mark.parametrize("there", ["Beyoncé", NFD, "BEYONCÉ"])
@pytest.mark.parametrize("where", ["disk", "catalogue", "both"])
def test_one_artist_has_one_directory(album: Album, scheme: Scheme, wanted: str, there: str, where: str) -> None:
    upload = task(b"", annotations={}, content=_content(wanted))
    plan = Album(album._decoder, scheme=scheme).plan(
        upload,
        Around(
            library=catalogue(there) if where != "disk" else NullLibrary(),
            paths={"music": [f"{there}/x"] if where != "catalogue" else []},
        ),
    )
    spelled = there if where != "catalogue" or there != NFD else "Beyoncé"  # what is new on the disk is NFC
    assert paths(plan)[0].startswith(f"{spelled}/")
    assert [problem.severity for problem in plan.problems] in ([], ["warn"])


def _content(artist: str) -> Mapping[str, JSON]:
    track: JSON = {
        "name": "a.mp3",
        "title": "A",
        "artist": artist,
        "extension": "mp3",
        "sha1": "9" * 40,
        "sha256": "0" * 64,
    }
    guess: JSON = {"artistname": artist, "albumname": "B", "release": "2000", "compilation": False}
    return {"kind": "mp3", "tracks": [track], "guess": guess, "cover": None}


def similar(
    album: Album, artist: str, *, there: Sequence[str] = (), known: Sequence[str] = (), **annotations: JSON
) -> Plan:
    upload = task(b"", annotations=annotations, content=_content(artist))
    return album.plan(upload, Around(library=catalogue(*known), paths={"music": [f"{name}/x" for name in there]}))


def test_what_is_only_written_otherwise_is_told(album: Album) -> None:
    plan = similar(album, "BEYONCÉ", there=["Beyoncé"])
    assert "BEYONCÉ is filed under Beyoncé" in one(plan.problems, "artist_matched").sentence
    assert similar(album, NFD, known=["Beyoncé"]).problems == ()  # nobody sees a difference


@pytest.mark.parametrize("artist", ["AC/DC", "ac/dc"])
@pytest.mark.parametrize("known", [(), ("AC/DC",)])
def test_an_artist_that_cannot_be_a_directory(album: Album, artist: str, known: Sequence[str]) -> None:
    plan = similar(album, artist, there=["AC∕DC"], known=known)
    assert paths(plan) == ["AC∕DC/2000 - B/A.mp3"]
    assert plan.entry["artist"] == "AC/DC"
    assert "∕" not in str(plan.problems)


def test_artists_that_are_alike_are_asked_about(album: Album) -> None:
    plan = similar(album, "Bjork", there=["Björk"])
    question = one(plan.problems, "artist_similar")
    assert (question.severity, question.options) == ("hold", ("Bjork", "Björk"))
    yes = similar(album, "Bjork", there=["Björk"], **{"answers.artist_similar": "Björk"})
    assert (paths(yes), yes.entry["artist"], yes.problems) == (["Björk/2000 - B/A.mp3"], "Björk", ())
    no = similar(album, "Bjork", there=["Björk"], **{"answers.artist_similar": "Bjork"})
    assert (paths(no), no.entry["artist"], no.problems) == (["Bjork/2000 - B/A.mp3"], "Bjork", ())
    assert codes(similar(album, "Bjork", there=["Björk"], **{"answers.artist_similar": "X"}).problems) == [
        "artist_similar"
    ]


def test_an_answer_that_people_can_type(album: Album) -> None:
    question = one(similar(album, "ACDC", there=["AC∕DC"]).problems, "artist_similar")
    assert question.options == ("ACDC", "AC/DC")
    plan = similar(album, "ACDC", there=["AC∕DC"], **{"answers.artist_similar": "AC/DC"})
    assert (paths(plan), plan.entry["artist"]) == (["AC∕DC/2000 - B/A.mp3"], "AC/DC")


def test_an_answer_is_about_one_spelling(album: Album) -> None:
    plan = similar(album, "The Beatles", there=["Beatles"], **{"answers.artist_similar": "Björk"})
    assert one(plan.problems, "artist_similar").options == ("The Beatles", "Beatles")


# ── what is there already ─────────────────────────────────────────────────────────────────────────────────────


def known(*songs: tuple[int, int, str]) -> MemoryLibrary:
    library = MemoryLibrary()
    entries = tuple(
        SongEntry(path=f"Björk/{n}.mp3", name=title, artist="Björk", disc=disc, number=number, size=1, sha1=f"{n:040}",
            sha256="0" * 64, duration=1.0, codec="vorbis") for n, (disc, number, title) in enumerate(songs)
    )  # fmt: skip
    library.put("2" * 32, AlbumEntry(artist="Björk", name="DEBUT", release="1993", origin="", sha1="", songs=entries))
    return library


def test_an_album_that_is_there_is_asked_about(album: Album) -> None:
    library = known((1, 1, "Human Behaviour"), (1, 2, "Crying"))
    question = one(planned(album, {"a.mp3": a_song(2)}, library=library).problems, "album_exists")
    assert (question.severity, question.options) == ("hold", ("add",))
    assert "2, vorbis; this upload has 1, mp3" in question.sentence


def test_another_song_or_disc_of_an_album_is_no_question(album: Album) -> None:
    library = known((1, 1, "Human Behaviour"))
    assert codes(planned(album, {"a.mp3": a_song(2)}, library=library).problems) == []
    assert codes(planned(album, {"a.mp3": a_song(1, disc="2/2")}, library=library).problems) == []


def test_songs_without_numbers_are_known_by_their_titles(album: Album) -> None:
    library = known((1, 0, "Human Behaviour"))
    assert codes(planned(album, {"a.mp3": a_song(1, track="", title="Crying")}, library=library).problems) == []
    again = planned(album, {"a.mp3": a_song(1, track="", title="HUMAN behaviour")}, library=library)
    assert codes(again.problems) == ["album_exists"]


def test_songs_that_are_there_byte_for_byte(album: Album) -> None:
    library = MemoryLibrary()
    sha1 = hashlib.sha1(a_song(1), usedforsecurity=False).hexdigest()
    library.put("2" * 32, AlbumEntry(artist="X", name="Y", release="", origin="", sha1="", songs=(
        SongEntry(path="X/1.mp3", name="Z", artist="X", disc=1, number=1, size=1, sha1=sha1, sha256="0" * 64,
            duration=1.0, codec="mp3"),)))  # fmt: skip
    plan = planned(album, {"a.mp3": a_song(1), "b.mp3": a_song(2)}, library=library)
    found = one(plan.problems, "already_in_library")
    assert (found.severity, found.sentence[:18]) == ("warn", "1 of 2 songs are i")


def test_before_it_was_looked_at(album: Album) -> None:
    assert codes(album.plan(task(b""), Around()).problems) == ["not_preprocessed"]


# ── covers ────────────────────────────────────────────────────────────────────────────────────────────────────


def jpeg(color: int, side: int = 200) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (color, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def cover_of(album: Album, files: Mapping[str, bytes]) -> tuple[UploadTask, str | None, int | None]:
    """The upload, where its cover is from, and how red the picture is that is made of it."""
    data = zipped(files)
    upload = looked_at(album, data)
    upload = evolve(upload, plan=album.plan(upload, Around()))
    made = album.illustrate(upload, of(data))
    cover = upload.content["cover"]
    if cover is None:
        assert (made.files, upload.plan.artwork if upload.plan else None) == ({}, ())
        return upload, None, None
    assert isinstance(cover, Mapping)
    assert upload.plan is not None
    assert set(made.files) == {file.path for file in upload.plan.artwork}
    with Image.open(io.BytesIO(made.files[made.preview])) as image:
        red = image.convert("RGB").getpixel((5, 5))
    assert isinstance(red, tuple)
    return upload, str(cover["name"]), int(red[0])


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["back.jpg", "cover.jpg", "a.jpg"], "cover.jpg"),
        (["folder.jpg", "front.jpg"], "folder.jpg"),
        (["FRONT.JPG", "aaa.jpg"], "FRONT.JPG"),
        (["Björk - Debut (front cover).jpg", "Björk - Debut (back cover).jpg"], "Björk - Debut (front cover).jpg"),
        (["scans/cover.jpg", "cover.jpg"], "cover.jpg"),
        (["discover.jpg", "front.jpg"], "front.jpg"),  # no cover
        (["coverage.jpg", "folder.jpg"], "folder.jpg"),
        (["back.jpg", "x.jpg"], "x.jpg"),
        (["inlay.jpg"], "inlay.jpg"),
    ],
)
def test_the_best_picture_of_an_archive(album: Album, names: list[str], best: str) -> None:
    files = {name: jpeg(20 * (at + 1)) for at, name in enumerate(names)}
    upload, name, red = cover_of(album, {"1.mp3": a_song(), **files})
    assert name == best
    assert red == pytest.approx(20 * (names.index(best) + 1), abs=6)
    assert codes(upload.findings) == []


def test_a_broken_picture_is_passed_over_for_the_next(album: Album) -> None:
    upload, name, red = cover_of(album, {"cover.jpg": jpeg(200)[:300], "1.mp3": a_song(), "z.jpg": jpeg(120)})
    assert (name, codes(upload.findings)) == ("z.jpg", ["cover_unusable"])
    assert red == pytest.approx(120, abs=6)
    assert "cover.jpg cannot be the cover" in upload.findings[0].sentence


@pytest.mark.parametrize("first", [True, False])
def test_broken_pictures_are_passed_over_for_the_one_in_a_song(album: Album, first: bool) -> None:
    broken = {f"{n}.jpg": jpeg(200)[:300] for n in range(4)}
    good = {"1.mp3": a_song(cover=jpeg(90))}
    upload, name, red = cover_of(album, broken | good if first else good | broken)
    assert name == "1.mp3"
    assert red == pytest.approx(90, abs=6)
    assert set(codes(upload.findings)) == {"cover_unusable"}


def test_a_picture_is_better_than_one_in_a_song(album: Album) -> None:
    upload, name, _ = cover_of(album, {"1.mp3": a_song(cover=jpeg(90)), "cover.jpg": jpeg(120)})
    assert (name, codes(upload.findings)) == ("cover.jpg", [])


def test_a_broken_picture_in_a_song_is_passed_over(album: Album) -> None:
    files = {
        "1.mp3": sounds.with_id3(bare(1), [sounds.id3_picture(b"\xff\xd8\xff nothing")]),
        "2.mp3": a_song(2, cover=jpeg(90)),
    }
    upload = looked_at(album, zipped(files))
    assert upload.content["cover"]["name"] == "2.mp3"  # type: ignore[index, call-overload]
    assert "The picture in 1.mp3 cannot be used" in one(upload.findings, "cover_unusable").sentence
    _, name, _ = cover_of(album, {**files, "cover.jpg": jpeg(3)})
    assert name == "cover.jpg"
    assert "cover_unusable" not in codes(looked_at(album, zipped({**files, "cover.jpg": jpeg(3)})).findings)


def test_only_some_broken_pictures_in_songs_are_tried(album: Album) -> None:
    files = {f"{n}.mp3": sounds.with_id3(bare(n), [sounds.id3_picture(b"\xff\xd8\xff nothing")]) for n in range(6)}
    upload = looked_at(album, zipped(files))
    assert codes(upload.findings).count("cover_unusable") == 3


def test_no_cover_at_all(album: Album) -> None:
    upload, name, _ = cover_of(album, {"1.mp3": a_song()})
    assert (name, codes(upload.findings)) == (None, ["no_cover"])


def test_the_cover_of_a_single_song(album: Album) -> None:
    data = a_song(cover=jpeg(90))
    upload = looked_at(album, data, "a.mp3")
    upload = evolve(upload, plan=album.plan(upload, Around()))
    made = album.illustrate(upload, of(data))
    assert (made.preview, len(made.files)) == ("Björk - Debut.jpg", 4)


def test_a_cover_that_cannot_be_made_after_all_fails_nothing(album: Album, caplog: pytest.LogCaptureFixture) -> None:
    data = zipped({"1.mp3": a_song(), "cover.jpg": jpeg(90)})
    upload = looked_at(album, data)
    upload = evolve(upload, plan=album.plan(upload, Around()))
    damaged = zipped({"1.mp3": a_song(), "cover.jpg": jpeg(90)[:-400] + bytes(400)})
    assert album.illustrate(upload, of(damaged[: len(data)])).files == {}
    assert "gets no cover" in caplog.text


def test_a_cover_without_a_name_is_left_out(album: Album) -> None:
    yearly = Album(album._decoder, scheme=Scheme.custom(preset="navidrome", cover="{year}/{album}"))
    plan = planned(yearly, {"1.mp3": a_song(date=""), "cover.jpg": jpeg(90)})
    assert (len(plan.files), plan.artwork, codes(plan.problems)) == (1, (), ["no_cover"])


def test_an_archive_has_a_budget_of_processor_time(album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_CPU", -1e9)  # nobody has that much left
    with pytest.raises(ContentRejected, match="far more than songs need") as caught:
        looked_at(album, zipped({"1.mp3": a_song()}))
    assert caught.value.code == "decoder_budget"


def test_an_archive_of_broken_songs_is_given_up(album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a process; a hundred in a zip of a few kilobytes would cost a minute."""
    asked = []
    real = probe_audio

    def counting(*arguments: Any) -> Any:
        asked.append(1)
        return real(*arguments)

    monkeypatch.setattr(gathering, "probe_audio", counting)
    names = {f"{number:03}.mp3": b"no song at all" for number in range(100)}
    with pytest.raises(ContentRejected, match="000") as caught:
        looked_at(album, zipped({"000 first.mp3": a_song(), **names}))
    assert caught.value.code == "too_many_broken"
    assert len(asked) <= 22


def test_covers_never_take_a_name_that_is_there(album: Album) -> None:
    data = zipped({"1.mp3": a_song(), "cover.jpg": jpeg(90)})
    around = Around(paths={"artwork": ["Björk - Debut (50).jpg"]})
    plan = album.plan(looked_at(album, data), around)
    assert plan.artwork[0].path == "Björk - Debut [2].jpg"
    taken = Around(paths={"artwork": ["Björk - Debut.jpg", "Björk - Debut [2] (150).jpg"]})
    assert album.renamed(plan, taken).artwork[0].path == "Björk - Debut [3].jpg"
    assert album.renamed(plan, Around()).artwork[0].path == "Björk - Debut.jpg"


# ── integration and import ────────────────────────────────────────────────────────────────────────────────────


def test_produces_what_was_planned(album: Album) -> None:
    files = {f"{n}.mp3": a_song(n) for n in (3, 1, 2)} | {"cover.jpg": jpeg(9)}
    data = zipped(files)
    upload = looked_at(album, data)
    plan = album.plan(upload, Around())
    with album.produce(evolve(upload, plan=plan), of(data), plan.files[1:]) as made:
        got = {file.path: stream.read() for file, stream in made}
    assert got == {"Björk/1993 - Debut/2 Song 2.mp3": a_song(2), "Björk/1993 - Debut/3 Song 3.mp3": a_song(3)}


def test_imports_what_was_placed(album: Album) -> None:
    upload = looked_at(album, zipped({"1.mp3": a_song(1), "2.flac": a_song(2, "flac")}), origin="CD")
    plan = album.plan(upload, Around())
    placed = tuple(PlacedFile("music", f.path, f.size or 0, f.sha256 or "") for f in plan.files)
    library = MemoryLibrary()
    album.import_(evolve(upload, plan=plan, placed=placed), library)
    found = library.find_songs("Björk", "Debut", "1993")
    assert [(s.path, s.number, s.codec) for s in found] == [
        ("Björk/1993 - Debut/1 Song 1.mp3", 1, "mp3"), ("Björk/1993 - Debut/2 Song 2.flac", 2, "flac"),
    ]  # fmt: skip
    assert [s.sha1 for s in found] == [
        hashlib.sha1(d, usedforsecurity=False).hexdigest() for d in (a_song(1), a_song(2, "flac"))
    ]
    with pytest.raises(ContentRejected) as caught:
        album.import_(evolve(upload, plan=plan, placed=placed[1:]), library)
    assert caught.value.code == "no_plan"
    with pytest.raises(ContentRejected) as caught:
        album.import_(evolve(upload, plan=plan, placed=placed, content={}), library)
    assert caught.value.code == "no_plan"


def test_imports_what_was_planned_whatever_is_annotated_since(album: Album) -> None:
    files = {f"{n}.mp3": a_song(n) for n in (1, 2, 3)} | {"0 again.mp3": a_song(3)}
    upload = looked_at(album, zipped(files), tracks={"1": {"skip": True}, "2": {"title": "Two", "disc": 2}})
    plan = album.plan(upload, Around())
    placed = tuple(PlacedFile("music", f.path, f.size or 0, f.sha256 or "") for f in plan.files)
    library = MemoryLibrary()
    later = evolve(upload, plan=plan, placed=placed, annotations={"tracks": {"2": {"title": "Other"}}})
    album.import_(load(dump(later)), library)
    found = [(s.disc, s.name, s.path) for s in library.find_songs("Björk", "Debut", "1993")]
    assert found == [
        (1, "Song 3", "Björk/1993 - Debut/1-3 Song 3.mp3"), (2, "Two", "Björk/1993 - Debut/2-2 Two.mp3"),
    ]  # fmt: skip
