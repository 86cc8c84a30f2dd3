import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from stagedoor.errors import ConfigurationError, ContentRejected, StorageError, StorageFull
from stagedoor.library import catalogue as module
from stagedoor.library.catalogue import Catalogue
from stagedoor.library.entries import Album, Artist, Artwork, Counts, Illustration, Video, match_key
from stagedoor.library.memory import MemoryLibrary
from stagedoor.ports import Library
from stagedoor.testing.library import LibraryContract, artwork_entry, uid_of, video_entry


class TestContract(LibraryContract):
    @pytest.fixture
    def library(self, tmp_path: Path) -> Iterator[Library]:
        with Catalogue.open(tmp_path / "music.db", durable=False) as library:
            yield library

    def snapshot(self, library: Library) -> object:
        assert isinstance(library, Catalogue)
        assert library.check() == []
        return library.content_hash()

    def add_album(self, library: Library, artist: str, name: str) -> str | None:
        assert isinstance(library, Catalogue)
        return library.add_album(artist, name)


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    with Catalogue.open(":memory:") as catalogue:
        yield catalogue
        assert catalogue.check() == []


def connect(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


def raw(catalogue: Catalogue) -> sqlite3.Connection:
    assert catalogue._connection is not None
    return catalogue._connection


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_tells_what_it_was_told(catalogue: Catalogue) -> None:
    albumid = catalogue.add_album("Queen", "Jazz", "1978", cover="Queen - Jazz.jpg")
    video = video_entry("QUEEN/1.mp4", artist="QUEEN", sha1="ABCDEF0123" * 4)
    cover = artwork_entry("Queen - Jazz (2).jpg", artist="queen", album="jazz", albumid="999")
    catalogue.put(uid_of(1), video)
    catalogue.put(uid_of(2), cover)
    catalogue.illustrate(uid_of(1), "QUEEN/1", "frame-1.jpg", "preview.webp")

    shown = Video(
        uid=uid_of(1),
        artist="Queen",
        entry=video,
        illustration=Illustration("QUEEN/1", "frame-1.jpg", "preview.webp"),
    )
    assert catalogue.entry(uid_of(1)) == shown
    assert catalogue.videos() == (shown,)
    assert catalogue.entry(uid_of(2)) == Artwork(uid=uid_of(2), album=albumid, entry=cover, illustration=None)
    assert catalogue.entry(uid_of(3)) is None
    assert catalogue.artists() == (Artist(name="Queen", videos=1, albums=1),)
    [album] = catalogue.albums()
    assert album == Album(id=albumid, artist="Queen", name="Jazz", release="1978", cover="Queen - Jazz (2).jpg")
    assert catalogue.counts() == Counts(artists=1, albums=1, songs=0, videos=1, artworks=1)
    catalogue.forget(uid_of(2))
    assert catalogue.albums()[0].cover == "Queen - Jazz.jpg"


def test_videos_are_found_by_artist_and_words_and_come_in_pages(catalogue: Catalogue) -> None:
    titles = [
        ("Björk", "Human Behaviour"),
        ("Björk", "Jóga"),
        ("Abba", "100 % of _Everything_"),
        ("abba", "Human nature"),
        ("Zz", "STRASSE"),
    ]
    for number, (artist, name) in enumerate(titles):
        catalogue.put(uid_of(number), video_entry(f"{number}.mp4", artist=artist, name=name))

    def found(**wanted: Any) -> list[str]:
        return [video.entry.name for video in catalogue.videos(**wanted)]

    assert found() == ["100 % of _Everything_", "Human nature", "Human Behaviour", "Jóga", "STRASSE"]
    assert found(artist="BJO\u0308RK") == ["Human Behaviour", "Jóga"]
    assert found(artist="nobody") == []
    assert found(search="HUMAN") == ["Human nature", "Human Behaviour"]
    assert found(search="behav björk") == ["Human Behaviour"]
    assert found(search="straße") == ["STRASSE"]
    assert found(search="human", artist="ABBA") == ["Human nature"]
    assert found(search="%") == ["100 % of _Everything_"]
    assert found(search="_e") == ["100 % of _Everything_"]
    assert found(search="' OR 1 --") == []
    assert found(search='"]') == []
    assert found(search="  ") == found()
    assert found(limit=2, offset=1) == ["Human nature", "Human Behaviour"]
    assert found(limit=0) == []
    assert found(offset=99) == []


@pytest.mark.parametrize(("limit", "offset"), [(-1, 0), (1, -1), (2**63, 0), (1, 2**63)])
def test_a_page_has_a_size(catalogue: Catalogue, limit: int, offset: int) -> None:
    with pytest.raises(ValueError, match="limit and offset"):
        catalogue.videos(limit=limit, offset=offset)


def test_a_question_that_is_no_text_is_refused(catalogue: Catalogue) -> None:
    questions: list[Callable[[], object]] = [
        lambda: catalogue.videos(search="\ud800"),
        lambda: catalogue.videos(artist="\ud800"),
        lambda: catalogue.find_sha1("\ud800"),
        lambda: catalogue.entry("\ud800"),
        lambda: catalogue.illustrate("\ud800", "d", "t", "p"),
        lambda: catalogue.forget("\ud800"),
        lambda: catalogue.put("\ud800", video_entry()),
        lambda: catalogue.add_album("\ud800", "Album"),
    ]
    for question in questions:
        with pytest.raises(ContentRejected) as refusal:
            question()
        assert refusal.value.code == "invalid_text"


@pytest.mark.parametrize("names", ["Beyoncé BEYONCÉ Beyonce\u0301", "Straße STRASSE", "ﬁsh FISH"])
def test_match_key(names: str) -> None:
    assert len({match_key(name) for name in names.split()}) == 1


# ── albums, covers, artists ───────────────────────────────────────────────────────────────────────────────────


def test_albums_of_one_name_differ_by_year_and_need_their_id(catalogue: Catalogue) -> None:
    first = catalogue.add_album("Weezer", "Weezer", "1994")
    second = catalogue.add_album("Weezer", "Weezer", "2001")
    assert catalogue.add_album("WEEZER", "weezer", "1994") == first
    with pytest.raises(ContentRejected) as refusal:
        catalogue.put(uid_of(1), artwork_entry(artist="Weezer", album="Weezer"))
    assert refusal.value.code == "album_ambiguous"
    catalogue.put(uid_of(1), artwork_entry(artist="Weezer", album="Weezer", albumid=second))
    assert [album.cover for album in catalogue.albums()] == [None, "Artist - Album.jpg"]
    with pytest.raises(ValueError, match="needs an artist and a name"):
        catalogue.add_album("", "Album")


@pytest.mark.parametrize("albumid", ["0", "01", "-1", "1 ", "١", "1e0", "x", "", "9" * 40])
def test_an_id_that_names_nothing_leaves_the_names(catalogue: Catalogue, albumid: str) -> None:
    found = catalogue.add_album("Artist", "Album")
    catalogue.put(uid_of(1), artwork_entry(albumid=albumid))
    kept = catalogue.entry(uid_of(1))
    assert isinstance(kept, Artwork)
    assert kept.album == found
    with pytest.raises(ContentRejected) as refusal:
        catalogue.put(uid_of(2), artwork_entry("2.jpg", artist="", album="", albumid=albumid))
    assert refusal.value.code == "album_not_found"


@pytest.mark.parametrize("library", [Catalogue.open, lambda _: MemoryLibrary()], ids=["catalogue", "memory"])
def test_the_newest_cover_shows(library: Callable[[str], Catalogue | MemoryLibrary]) -> None:
    with closing(library(":memory:")) as music:
        music.add_album("Artist", "Album", cover="own.jpg")

        def shown() -> str | None:
            [album] = music.albums()
            return album.cover

        assert shown() == "own.jpg"
        for number in (1, 2, 3):
            music.put(uid_of(number), artwork_entry(f"{number}.jpg"))
            assert shown() == f"{number}.jpg"
        music.put(uid_of(1), artwork_entry("1.jpg"))  # a retry is no new cover
        assert shown() == "3.jpg"
        music.forget(uid_of(2))
        assert shown() == "3.jpg"
        music.forget(uid_of(3))
        assert shown() == "1.jpg"
        music.put(uid_of(2), artwork_entry("2.jpg"))
        assert shown() == "2.jpg"
        music.forget(uid_of(2))
        music.forget(uid_of(1))
        assert shown() == "own.jpg"


@pytest.mark.parametrize("library", [Catalogue.open, lambda _: MemoryLibrary()], ids=["catalogue", "memory"])
def test_a_cover_may_move_to_another_album(library: Callable[[str], Catalogue | MemoryLibrary]) -> None:
    with closing(library(":memory:")) as music:
        music.add_album("Artist", "One")
        music.add_album("Artist", "Two")
        music.put(uid_of(1), artwork_entry("1.jpg", album="One"))
        music.put(uid_of(1), artwork_entry("1.jpg", album="Two"))
        assert [album.cover for album in music.albums()] == [None, "1.jpg"]


def test_a_cover_outlives_its_album(catalogue: Catalogue) -> None:
    catalogue.add_album("Artist", "Album")
    catalogue.put(uid_of(1), artwork_entry())
    raw(catalogue).execute("DELETE FROM albums")
    kept = catalogue.entry(uid_of(1))
    assert isinstance(kept, Artwork)
    assert kept.album is None
    assert catalogue.check() == []
    catalogue.forget(uid_of(1))


def test_an_album_keeps_its_artist(catalogue: Catalogue) -> None:
    catalogue.put(uid_of(1), video_entry(artist="ARTIST"))
    catalogue.add_album("Artist", "Album")
    assert catalogue.artists() == (Artist(name="Artist", videos=1, albums=1),)
    catalogue.forget(uid_of(1))
    assert catalogue.artists() == (Artist(name="Artist", videos=0, albums=1),)
    catalogue.add_album("artist", "Another")
    assert catalogue.artists() == (Artist(name="Artist", videos=0, albums=2),)


def test_an_artist_of_uploads_is_spelled_as_the_oldest_spells_it(catalogue: Catalogue) -> None:
    catalogue.put(uid_of(1), video_entry("1.mp4", artist="Queen"))
    catalogue.put(uid_of(2), video_entry("2.mp4", artist="QUEEN"))
    assert [artist.name for artist in catalogue.artists()] == ["Queen"]
    catalogue.put(uid_of(1), video_entry("1.mp4", artist="Abba"))
    assert [artist.name for artist in catalogue.artists()] == ["Abba", "QUEEN"]
    catalogue.put(uid_of(1), video_entry("1.mp4", artist="Queen"))
    assert [artist.name for artist in catalogue.artists()] == ["Queen"]


def test_an_upload_that_becomes_another_kind_of_entry_starts_over(catalogue: Catalogue) -> None:
    catalogue.add_album("Artist", "Album")
    empty = catalogue.content_hash()
    catalogue.put(uid_of(1), video_entry(artist="Somebody"))
    catalogue.illustrate(uid_of(1), "d", "t", "p")
    catalogue.put(uid_of(1), artwork_entry())
    assert catalogue.counts() == Counts(artists=1, albums=1, songs=0, videos=0, artworks=1)
    assert isinstance(catalogue.entry(uid_of(1)), Artwork)
    with pytest.raises(ContentRejected):
        catalogue.put(uid_of(1), artwork_entry(album="Unknown"))
    catalogue.forget(uid_of(1))
    assert catalogue.content_hash() == empty


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        (video_entry(), {"name": 1999}),
        (video_entry(), {"width": 320.5}),
        (video_entry(), {"size": True}),
        (video_entry(), {"duration": "4.5"}),
        (artwork_entry(), {"albumid": 7}),
    ],
)
def test_a_wrong_type_is_a_mistake_of_the_caller(catalogue: Catalogue, entry: Any, wrong: dict[str, Any]) -> None:
    for library in (catalogue, MemoryLibrary()):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            library.put(uid_of(1), evolve(entry, **wrong))
        with pytest.raises(TypeError, match="a VideoEntry or an ArtworkEntry"):
            library.put(uid_of(1), wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="uid must be str"):
            library.put(1, entry)  # type: ignore[arg-type]


# ── the model ─────────────────────────────────────────────────────────────────────────────────────────────────

_UIDS = st.sampled_from([uid_of(number) for number in range(4)])
_ARTISTS = st.sampled_from(["Queen", "QUEEN", "Queen\u0301", "QUE\u00c9N", "Abba"])
_ALBUMS = st.sampled_from(["Jazz", "JAZZ", "News"])
_VIDEO = st.builds(
    video_entry, st.sampled_from(["a", "b", "c", "d"]), artist=_ARTISTS, name=st.sampled_from(["One", "Two"])
)
_ARTWORK = st.builds(
    artwork_entry,
    st.sampled_from(["a", "b", "c", "d"]),
    artist=_ARTISTS,
    album=_ALBUMS,
    albumid=st.sampled_from([None, "1", "1", "2", "x"]),
)
_CALLS = st.builds(
    lambda album, calls: [album, *calls],
    st.tuples(st.just("add_album"), _ARTISTS, _ALBUMS),
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), _UIDS, _VIDEO),
            st.tuples(st.just("put"), _UIDS, _ARTWORK),
            st.tuples(st.just("illustrate"), _UIDS, st.sampled_from(["d", "e"]), st.just("t"), st.just("p")),
            st.tuples(st.just("forget"), _UIDS),
            st.tuples(st.just("add_album"), _ARTISTS, _ALBUMS, st.sampled_from(["", "1978"])),
        ),
        max_size=25,
    ),
)


def outcome(library: Catalogue | MemoryLibrary, name: str, values: tuple[Any, ...]) -> object:
    try:
        return getattr(library, name)(*values)
    except ContentRejected as refusal:
        return refusal.code


@settings(deadline=None, max_examples=120)
@given(_CALLS)
def test_it_does_what_the_library_in_memory_does(calls: list[tuple[Any, ...]]) -> None:
    memory = MemoryLibrary()
    with Catalogue.open(":memory:") as catalogue:
        for name, *values in calls:
            assert outcome(catalogue, name, tuple(values)) == outcome(memory, name, tuple(values))
            assert catalogue.artists() == memory.artists()
            assert catalogue.albums() == memory.albums()
        for number in range(4):
            assert catalogue.entry(uid_of(number)) == memory.entry(uid_of(number))
        assert catalogue.find_sha1("a" * 40) == memory.find_sha1("a" * 40)
        assert catalogue.check() == []


@settings(deadline=None, max_examples=120)
@given(_CALLS, st.permutations(range(4)))
def test_forgotten_uploads_might_never_have_come(calls: list[tuple[Any, ...]], order: list[int]) -> None:
    memory = MemoryLibrary()
    with Catalogue.open(":memory:") as catalogue:
        for name, *values in calls:
            outcome(catalogue, name, tuple(values))
            outcome(memory, name, tuple(values))
        for number in order:
            assert catalogue.content_hash() == history_without_detours(calls, memory)
            catalogue.forget(uid_of(number))
            memory.forget(uid_of(number))
        assert catalogue.content_hash() == history_without_detours(calls, memory)
        assert catalogue.counts().videos == catalogue.counts().artworks == 0
        assert catalogue.check() == []


def history_without_detours(calls: list[tuple[Any, ...]], memory: MemoryLibrary) -> str:
    """The hash of a catalogue that was told only what is still true, under other uids."""
    with Catalogue.open(":memory:") as fresh:
        for name, *values in calls:
            if name == "add_album":
                fresh.add_album(*values)
        for number, kept in enumerate(memory.entries()):
            uid = uid_of(1000 + number)
            # The album was found when fewer were there; by its id it is found again.
            fresh.put(uid, evolve(kept.entry, albumid=kept.album) if isinstance(kept, Artwork) else kept.entry)
            if kept.illustration is not None:
                illustration = kept.illustration
                fresh.illustrate(uid, illustration.directory, illustration.thumbnail, illustration.preview)
        return fresh.content_hash()


def test_the_hash_knows_nothing_of_ids_and_order(catalogue: Catalogue) -> None:
    with Catalogue.open(":memory:") as other:
        for number in (1, 2, 3):
            catalogue.add_album("Artist", f"Album {number}")
            catalogue.put(uid_of(number), video_entry(f"{number}.mp4", artist=f"Artist {number}"))
        assert catalogue.content_hash() != other.content_hash()
        for number in (3, 1, 2):
            other.add_album("Artist", f"Album {number}")
            other.put(uid_of(9 + number), video_entry(f"{number}.mp4", artist=f"Artist {number}"))
        assert catalogue.content_hash() == other.content_hash()
        other.illustrate(uid_of(10), "d", "t", "p")
        assert catalogue.content_hash() != other.content_hash()


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_there_again_after_it_was_closed(tmp_path: Path) -> None:
    with Catalogue.open(tmp_path / "music.db") as catalogue:
        catalogue.put(uid_of(1), video_entry())
        content = catalogue.content_hash()
    assert os.listdir(tmp_path) == ["music.db"]
    with Catalogue.open(str(tmp_path / "music.db")) as catalogue:
        assert catalogue.content_hash() == content
        assert catalogue.check() == []


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 0)])
def test_durability_is_what_was_asked_for(tmp_path: Path, durable: bool, level: int) -> None:
    with Catalogue.open(tmp_path / "music.db", durable=durable) as catalogue:
        [synchronous] = raw(catalogue).execute("PRAGMA synchronous").fetchone()
        [journal] = raw(catalogue).execute("PRAGMA journal_mode").fetchone()
        [keys] = raw(catalogue).execute("PRAGMA foreign_keys").fetchone()
    assert (synchronous, journal, keys) == (level, "wal", 1)


def test_every_step_says_which_schema_it_leads_to() -> None:
    for number, step in enumerate(module._MIGRATIONS, 1):
        assert step[-1] == f"PRAGMA user_version = {number}"
        assert not any("user_version" in statement for statement in step[:-1])


def test_an_older_file_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "music.db"
    with Catalogue.open(path) as catalogue:
        catalogue.put(uid_of(1), video_entry())
        content = catalogue.content_hash()
    now = len(module._MIGRATIONS)
    steps = (
        ("ALTER TABLE videos ADD COLUMN rating INTEGER", f"PRAGMA user_version = {now + 1}"),
        ("UPDATE videos SET rating = 5", f"PRAGMA user_version = {now + 2}"),
    )
    monkeypatch.setattr(module, "_MIGRATIONS", module._MIGRATIONS + steps)
    for _ in range(2):
        with Catalogue.open(path) as catalogue:
            assert raw(catalogue).execute("SELECT rating FROM videos").fetchone()["rating"] == 5
            assert raw(catalogue).execute("PRAGMA user_version").fetchone()[0] == now + 2
            assert catalogue.content_hash() == content
            assert catalogue.check() == []


def test_a_failed_migration_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "music.db"
    with Catalogue.open(path) as catalogue:
        catalogue.put(uid_of(1), video_entry())
        content = catalogue.content_hash()
    broken = (
        *module._MIGRATIONS,
        ("DROP TABLE illustrations", "PRAGMA user_version = 2"),
        ("DROP TABLE missing",),
    )
    with monkeypatch.context() as patch:
        patch.setattr(module, "_MIGRATIONS", broken)
        with pytest.raises(StorageError, match="no such table: missing"):
            Catalogue.open(path)
    with Catalogue.open(path) as catalogue:
        assert catalogue.content_hash() == content
        assert catalogue.check() == []


def test_a_newer_schema_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    Catalogue.open(path).close()
    with connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"schema 99.*Update stagedoor"):
        Catalogue.open(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with connect(path) as db:
        db.execute("CREATE TABLE artists (name)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="another program"):
        Catalogue.open(path)
    assert path.read_bytes() == before


def test_it_needs_wal(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="WAL"):
        Catalogue.open("")  # SQLite's temporary database, which has none


def test_an_old_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    with pytest.raises(ConfigurationError, match=r"3\.38"):
        Catalogue.open(":memory:")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="directory must exist") as failure:
        Catalogue.open(tmp_path / "missing" / "music.db")
    assert str(tmp_path) not in failure.value.sentence


def test_a_closed_one_refuses() -> None:
    catalogue = Catalogue.open(":memory:")
    catalogue.close()
    for call in (lambda: catalogue.put(uid_of(1), video_entry()), catalogue.artists, catalogue.check):
        with pytest.raises(StorageError) as refusal:
            call()
        assert refusal.value.code == "catalogue_closed"


# ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────


def filled(path: Path, *, videos: int = 300) -> None:
    with Catalogue.open(path, durable=False) as catalogue:
        for number in range(videos):
            catalogue.put(uid_of(number), video_entry(f"{number}.mp4", name="x" * 200))


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    path.write_bytes(b"#EXTM3U\n" * 1000)
    with pytest.raises(StorageError, match="put back a copy") as failure:
        Catalogue.open(path)
    assert failure.value.code == "catalogue_damaged"
    assert path.read_bytes() == b"#EXTM3U\n" * 1000


def test_a_file_with_damage_inside(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + b"\xff" * (len(whole) - len(whole) // 2))
    with Catalogue.open(path) as catalogue:
        assert catalogue.check() != []
        with pytest.raises(StorageError, match="put back a copy") as failure:
            catalogue.content_hash()
    assert failure.value.code == "catalogue_damaged"


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    filled(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    found: list[str] = []
    try:
        with Catalogue.open(path) as catalogue:
            found = catalogue.check()
    except StorageError as error:
        found = [error.sentence]
    assert found


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("DELETE FROM videos", "has no video"),
        ("UPDATE uploads SET kind = 'artwork'", "has a video here, but is none"),
        ("INSERT INTO artists (key, name, kept) VALUES ('x', 'X', 0)", "'X' is left over"),
        ("UPDATE artists SET name = 'ARTIST' WHERE NOT kept", "should be spelled 'Artist'"),
        ("UPDATE artists SET kept = 0 WHERE name = 'Kept'", "its artist was not"),
        ("UPDATE artists SET key = 'y' WHERE name = 'Kept'", "Artist 'Kept' is filed under 'y'"),
        ("UPDATE videos SET key = 'y'", "Video 'Name' is filed under 'y'"),
        ("UPDATE videos SET artist = (SELECT id FROM artists WHERE kept)", "Credit 'Artist' is filed under 'kept'"),
        ("PRAGMA foreign_keys = OFF; DELETE FROM uploads", "of videos refers to a row of uploads"),
    ],
)
def test_check_finds_what_cannot_be(change: str, sentence: str) -> None:
    with Catalogue.open(":memory:") as catalogue:
        catalogue.add_album("Kept", "Album")
        catalogue.put(uid_of(1), video_entry())
        assert catalogue.check() == []
        raw(catalogue).executescript(change)
        assert any(sentence in found for found in catalogue.check())


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    with Catalogue.open(tmp_path / "music.db", durable=False) as catalogue:
        catalogue.put(uid_of(1), video_entry())
        before = catalogue.content_hash()
        [pages] = raw(catalogue).execute("PRAGMA page_count").fetchone()
        raw(catalogue).execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StorageFull) as refusal:
            catalogue.put(uid_of(2), video_entry("2.mp4", artist="Other", name="x" * 1_000_000))
        assert "Free some room" in refusal.value.sentence
        assert catalogue.content_hash() == before
        raw(catalogue).execute(f"PRAGMA max_page_count = {pages + 1000}")
        catalogue.put(uid_of(2), video_entry("2.mp4", artist="Other", name="x" * 1_000_000))
        assert catalogue.check() == []


def test_another_process_that_does_not_let_go(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    with Catalogue.open(path, durable=False, timeout=0) as catalogue, connect(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError) as refusal:
            catalogue.put(uid_of(1), video_entry())
        assert refusal.value.code == "catalogue_busy"
        assert catalogue.videos() == ()  # readers do not wait for a writer
        other.execute("ROLLBACK")
        catalogue.put(uid_of(1), video_entry())
        assert catalogue.check() == []


def test_an_interrupted_call_changes_nothing(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = catalogue.content_hash()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_settle_artists", interrupted)
        with pytest.raises(KeyboardInterrupt):
            catalogue.put(uid_of(1), video_entry())
    assert catalogue.content_hash() == before


# ── others at work ────────────────────────────────────────────────────────────────────────────────────────────


def test_two_catalogues_on_one_file(tmp_path: Path) -> None:
    path = tmp_path / "music.db"
    with Catalogue.open(path, durable=False) as one, Catalogue.open(path, durable=False) as two:

        def work(number: int) -> None:
            library = (one, two)[number % 2]
            library.put(uid_of(number), video_entry(f"{number}.mp4", artist=("Queen", "QUEEN")[number % 3 % 2]))
            library.videos(search="queen")
            library.illustrate(uid_of(number), "d", "t", "p")
            if number % 5 == 0:
                library.forget(uid_of(number))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(60)))
        assert one.content_hash() == two.content_hash()
        assert one.counts() == Counts(artists=1, albums=0, songs=0, videos=48, artworks=0)
        assert one.check() == []


_CHILD = """
import sys
from stagedoor.library.catalogue import Catalogue
from stagedoor.testing.library import uid_of, video_entry

catalogue = Catalogue.open(sys.argv[1], durable=False)
number = int(sys.argv[2])
while True:
    number += 1
    catalogue.put(uid_of(number), video_entry(f"{number}.mp4", artist=f"Artist {number % 7}"))
    catalogue.illustrate(uid_of(number), "d", "t", "p")
    if number % 3 == 0:
        catalogue.forget(uid_of(number))
    print(number, flush=True)
"""


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """What was acknowledged is there, and what was not is there whole or not at all."""
    path = tmp_path / "music.db"
    done = 0
    for lines in (1, 40, 150):
        with subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), str(done)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(lines):
                done = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:  # what it said before the end
                if line.endswith("\n"):
                    done = int(line)
        assert child.returncode == -signal.SIGKILL
        with Catalogue.open(path) as catalogue:
            assert catalogue.check() == []
            for number in range(1, done + 1):
                kept = catalogue.entry(uid_of(number))
                if number % 3 == 0:
                    assert kept is None
                else:
                    assert isinstance(kept, Video)
                    assert kept.illustration == Illustration("d", "t", "p")
            # The one under way: `put` may have been the last word, or the call before it.
            catalogue.forget(uid_of(done + 1))
            assert catalogue.counts().videos == done - done // 3
            assert catalogue.check() == []
