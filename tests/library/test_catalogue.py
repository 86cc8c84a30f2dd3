import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stagedoor.errors import ConfigurationError, ContentRejected, StorageError, StorageFull
from stagedoor.library import rows, schema
from stagedoor.library.catalogue import Catalogue
from stagedoor.library.entries import (
    Album,
    AlbumContent,
    AlbumUpload,
    Artist,
    Artwork,
    Counts,
    Disc,
    Found,
    Illustration,
    Song,
    Video,
    common_directory,
)
from stagedoor.library.memory import MemoryLibrary
from stagedoor.ports import AlbumEntry, ArtworkEntry, Library
from stagedoor.testing.library import LibraryContract, album_entry, artwork_entry, song_entry, uid_of, video_entry


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
    assert catalogue.counts() == Counts(artists=1, albums=1, discs=0, songs=0, videos=1, artworks=1)
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


SONGS = (
    song_entry("Q/1978 - Jazz/1-1.flac", name="Mustapha", artist="Queen", number=1, sha1="1" * 40),
    song_entry("Q/1978 - Jazz/1-2.flac", name="Fat Bottomed Girls", artist="QUEEN", number=2, sha1="2" * 40),
    song_entry("Q/1978 - Jazz/2-1.flac", name="Bicycle Race", artist="Guest", disc=2, number=1, sha1="3" * 40),
)


@pytest.fixture(params=[Catalogue.open, lambda _: MemoryLibrary()], ids=["catalogue", "memory"])
def music(request: pytest.FixtureRequest) -> Iterator[Catalogue | MemoryLibrary]:
    with closing(request.param(":memory:")) as music:
        yield music


def test_it_tells_what_is_on_an_album(music: Catalogue | MemoryLibrary) -> None:
    first = album_entry(*SONGS[1:], artist="Queen", name="Jazz", release="1978", origin="")
    second = album_entry(SONGS[0], artist="QUEEN", name="JAZZ", release="1978", origin="CD", sha1="1" * 40)
    music.put(uid_of(1), first)
    music.put(uid_of(2), second)
    music.illustrate(uid_of(1), "covers", "small.jpg", "big.jpg")

    shown = Album(id="1", artist="Queen", name="Jazz", release="1978", cover="covers/big.jpg")
    songs = [
        Song(uid=uid_of(uid), artist=artist, album="1", entry=song)
        for song, uid, artist in zip(SONGS, (2, 1, 1), ("Queen", "Queen", "Guest"), strict=True)
    ]
    assert music.albums() == (shown,)
    assert music.album("1") == AlbumContent(
        album=shown,
        origin="CD",  # the oldest upload that says one
        discs=(Disc(number=1, songs=(songs[0], songs[1])), Disc(number=2, songs=(songs[2],))),
    )
    assert music.songs() == (songs[2], songs[1], songs[0])
    assert music.songs(artist="QUEEN") == (songs[1], songs[0])
    assert music.songs(search="jazz 1978") == ()
    assert music.songs(search="jazz mus") == (songs[0],)
    assert music.counts() == Counts(artists=2, albums=1, discs=2, songs=3, videos=0, artworks=0)
    assert music.artists() == (
        Artist(name="Guest", videos=0, albums=0, songs=1),
        Artist(name="Queen", videos=0, albums=1, songs=2),
    )
    illustration = Illustration("covers", "small.jpg", "big.jpg")
    assert music.entry(uid_of(1)) == AlbumUpload(uid=uid_of(1), album="1", entry=first, illustration=illustration)
    assert [music.album(albumid) for albumid in ("2", "0", "x", "", "١")] == [None] * 5

    # Its own songs are known by themselves, so the second upload is not named a second time.
    assert music.find_sha1("1" * 40) == ("Q/1978 - Jazz/1-1.flac",)
    assert music.find_sha1("F" * 40) == ("Q/1978 - Jazz",)


def test_what_is_replaced_is_not_there(music: Catalogue | MemoryLibrary) -> None:
    old = album_entry(*SONGS, artist="Queen", name="Jazz", release="1978")
    better = evolve(SONGS[0], codec="flac", size=99, sha1="9" * 40)
    film = video_entry(SONGS[2].path, artist="Queen", name="Bicycle Race")
    music.put(uid_of(1), old)
    music.put(uid_of(2), album_entry(better, artist="Queen", name="Jazz", release="1978", sha1="8" * 40))
    music.put(uid_of(3), film)
    assert [song.entry for song in music.songs()] == [SONGS[1], better]
    assert [found.path for found in music.search("bicycle")] == [film.path]
    assert [found.kind for found in music.search("bicycle")] == ["video"]
    assert music.find_artists("guest") == ()  # only the replaced song has it
    assert music.suggest("artist", "g") == ()
    known = music.entry(uid_of(1))
    assert isinstance(known, AlbumUpload)
    assert known.entry == old
    assert known.replaced == (SONGS[0].path, SONGS[2].path)

    music.put(uid_of(4), album_entry(SONGS[1], artist="Other", name="Other"))
    known = music.entry(uid_of(1))
    assert isinstance(known, AlbumUpload)
    assert len(known.replaced) == 3
    assert known.album == "1"  # the second upload's song is on it
    music.forget(uid_of(2))
    music.put(uid_of(2), album_entry(better, artist="Third", name="Third"))
    known = music.entry(uid_of(1))
    assert isinstance(known, AlbumUpload)
    assert known.album is None
    assert music.album("1") is None
    assert music.find_albums("Queen", "Jazz", "1") == ()
    assert [album.name for album in music.albums()] == ["Other", "Third"]

    for number in (3, 2, 4):
        music.forget(uid_of(number))
    assert [song.entry for song in music.songs()] == [SONGS[2], SONGS[1], SONGS[0]]
    assert [(album.id, album.name) for album in music.albums()] == [("1", "Jazz")]


def test_an_artwork_in_the_place_of_an_older_cover(music: Catalogue | MemoryLibrary) -> None:
    """The file under the path is the newer one's: the older album falls back to what it had before."""
    music.add_album("Weezer", "Weezer", "1994", cover="own.jpg")
    music.put(uid_of(1), album_entry(song_entry("1"), artist="Weezer", name="Weezer", release="1994"))
    music.put(uid_of(2), album_entry(song_entry("2"), artist="Weezer", name="Weezer", release="2001"))
    music.illustrate(uid_of(1), "", "small.jpg", "Weezer - Weezer.jpg")
    [_, second] = music.albums()
    assert [album.cover for album in music.albums()] == ["Weezer - Weezer.jpg", None]
    music.put(uid_of(3), artwork_entry("Weezer - Weezer.jpg", artist="Weezer", album="Weezer", albumid=second.id))
    assert [album.cover for album in music.albums()] == ["own.jpg", "Weezer - Weezer.jpg"]
    music.forget(uid_of(3))
    assert [album.cover for album in music.albums()] == ["Weezer - Weezer.jpg", None]


def test_an_album_by_hand_and_by_uploads(music: Catalogue | MemoryLibrary) -> None:
    music.put(uid_of(1), album_entry(song_entry(artist="ARTIST"), artist="ARTIST", name="ALBUM"))
    assert music.add_album("Artist", "Album", "2001", cover="own.jpg") == "1"
    kept = Album(id="1", artist="Artist", name="Album", release="2001", cover="own.jpg")
    assert music.albums() == (kept,)
    assert music.add_album("artist", "album", "2001", cover="other.jpg") == "1"
    assert music.albums() == (kept,)
    music.forget(uid_of(1))
    assert music.albums() == (kept,)
    content = music.album("1")
    assert content is not None
    assert (content.origin, content.discs) == ("", ())


def test_a_search_finds_every_word_anywhere(music: Catalogue | MemoryLibrary) -> None:
    music.put(uid_of(1), album_entry(*SONGS, artist="Queen", name="Jazz", release="1978"))
    music.put(uid_of(2), video_entry("v.mp4", artist="Queen", name="Mustapha Ibrahim", release="1979"))
    music.put(uid_of(3), album_entry(song_entry("3", name="Queen Bitch", artist="Bowie"), artist="Bowie", name="Hunky"))
    music.put(
        uid_of(4), album_entry(song_entry("4", name="丸の内サディスティック", artist="椎名林檎"), artist="椎名林檎")
    )
    song = Found(kind="song", name="Mustapha", artist="Queen", album="Jazz", release="1978", id="1", path=SONGS[0].path)
    video = Found(kind="video", name="Mustapha Ibrahim", artist="Queen", release="1979", path="v.mp4")
    assert music.search("mustapha") == (song, video)
    assert music.search("QUEEN müst") == (song, video)
    assert music.search("must ibr") == (video,)
    assert music.search("stapha") == ()
    assert [found.kind for found in music.search("queen")] == [
        "artist",
        "album",
        "song",
        "song",
        "song",
        "song",
        "video",
    ]
    assert [found.name for found in music.search("queen") if found.kind == "song"] == [
        "Queen Bitch",  # its own name has the word
        "Bicycle Race",
        "Fat Bottomed Girls",
        "Mustapha",
    ]
    assert [found.kind for found in music.search("queen", 1)] == ["artist", "album", "song", "video"]
    assert [found.kind for found in music.search("林檎")] == ["artist", "album", "song"]
    assert [found.path for found in music.search("サディ")] == ["4"]
    many = " ".join(f"jazz{number}" for number in range(5000))
    for nothing in ("", " ", "!", '"', "*", "queen NOT jazz", "words : queen", "^queen OR", "x" * 100_000, many):
        assert music.search(nothing) == ()
    assert music.search("jazz", 0) == ()
    with pytest.raises(ValueError, match="limit"):
        music.search("jazz", -1)


def test_a_question_is_looked_at_no_further_than_people_type(music: Catalogue | MemoryLibrary) -> None:
    """All others wait while one is answered: 16 words of 1,000 characters count."""
    title = " ".join(f"w{number}" for number in range(16))
    long = "Long " + "x" * 1500
    music.put(uid_of(1), album_entry(song_entry("1", name=title), artist="Queen", name=long, release="1978"))
    music.put(uid_of(2), video_entry("v.mp4", artist="Queen", name=title, release="1979"))
    for more in ("", " nowhere", " nowhere" * 100_000, "".join(f" n{number}" for number in range(100_000))):
        assert [found.kind for found in music.search(title + more)] == ["song", "video"]
        assert [song.entry.name for song in music.songs(search=title + more)] == [title]
        if isinstance(music, Catalogue):
            assert [video.entry.name for video in music.videos(search=title + more)] == [title]
    assert music.search("nowhere " + title) == ()
    assert [found.name for found in music.search(f"Long{' ' * 1000}nowhere")] == [long, title]
    assert music.suggest("album", long[:1000] + "y" * 100_000) == (long,)
    assert music.suggest("album", long[:999] + "y") == ()


def test_suggestions(music: Catalogue | MemoryLibrary) -> None:
    for number, (artist, album, release, origin) in enumerate(
        [
            ("The Beatles", "Help!", "1965", "CD"),
            ("Beatsteaks", "The Help", "2004", "internet"),
            ("Björk", "Début", "1993", "CD"),
            ("THE BEATLES", "Help!", "2009", "cdr"),
            ("Thea", "100 %", "", ""),
        ]
    ):
        song = song_entry(str(number), artist=artist)
        music.put(uid_of(number), album_entry(song, artist=artist, name=album, release=release, origin=origin))
    music.put(uid_of(9), video_entry("v", artist="björk", release="1995", origin="internet"))
    assert music.suggest("artist", "beat") == ("Beatsteaks", "The Beatles")
    assert music.suggest("artist", "the b") == ("The Beatles", "Beatsteaks", "Björk")
    assert music.suggest("artist", "THE") == ("The Beatles", "Thea")
    assert music.suggest("artist", "bjo") == ("Björk",)
    assert music.suggest("artist", limit=2) == ("Beatsteaks", "Björk")
    assert music.suggest("album", "help") == ("Help!", "The Help")
    assert music.suggest("album", "deb", artist="BJÖRK") == ("Début",)
    assert music.suggest("album", "deb", artist="The Beatles") == ()
    assert music.suggest("album", "%") == ()
    assert music.suggest("release", "19") == ("1965", "1993", "1995")
    assert music.suggest("release", artist="bjÖrk") == ("1993", "1995")
    assert music.suggest("origin", "C") == ("CD", "cdr")
    assert music.suggest("origin") == ("CD", "internet", "cdr")
    assert music.suggest("origin", artist="the beatles") == ("CD", "cdr")
    with pytest.raises(ValueError, match="artist, album, release, origin"):
        music.suggest("colour")
    with pytest.raises(ContentRejected):
        music.suggest("artist", "\ud800")


@pytest.mark.parametrize(
    ("paths", "directory"),
    [
        (["A/B/1", "A/B/2"], "A/B"),
        (["A/B/1", "A/C/2"], "A"),
        (["A/B/1", "A/B-2/2"], "A"),
        (["A/B"], "A"),
        (["A/B/C/1", "A/B/2"], "A/B"),
        (["A/B", "C/D"], ""),
        (["1", "2"], ""),
    ],
)
def test_common_directory(paths: list[str], directory: str) -> None:
    assert common_directory(paths) == directory
    assert common_directory(paths[::-1]) == directory


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (AlbumEntry(artist="A", name="N", release="", origin="", sha1="", songs=()), "no_songs"),
        (album_entry(*[song_entry()] * 2), "path_twice"),
        (album_entry(*[song_entry()] * 10_001), "too_many_songs"),
        (album_entry(song_entry(disc=0)), "invalid_number"),
        (album_entry(song_entry(size=-1)), "invalid_number"),
        (album_entry(song_entry(name="\ud800")), "invalid_text"),
        (album_entry(origin="\ud800"), "invalid_text"),
    ],
    ids=["no songs", "one path twice", "too many", "disc 0", "negative", "a song not Unicode", "not Unicode"],
)
def test_an_album_that_cannot_be_kept(music: Catalogue | MemoryLibrary, entry: AlbumEntry, code: str) -> None:
    with pytest.raises(ContentRejected) as refusal:
        music.put(uid_of(1), entry)
    assert refusal.value.code == code
    assert music.entry(uid_of(1)) is None


def test_an_album_of_the_most_songs(catalogue: Catalogue) -> None:
    songs = [song_entry(f"{n:05}", number=n, artist=f"Artist {n % 100}") for n in range(10_000)]
    empty = catalogue.content_hash()
    catalogue.put(uid_of(1), album_entry(*songs))
    assert catalogue.counts() == Counts(artists=101, albums=1, discs=1, songs=10_000, videos=0, artworks=0)
    assert [song.path for song in catalogue.find_songs("Artist", "Album", "2001")] == [song.path for song in songs]
    assert len(catalogue.search("song artist", 500)) == 500
    catalogue.forget(uid_of(1))
    assert catalogue.content_hash() == empty


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


@pytest.mark.parametrize("library", [Catalogue.open, lambda _: MemoryLibrary()], ids=["catalogue", "memory"])
def test_a_cover_outlives_its_album(library: Callable[[str], Catalogue | MemoryLibrary]) -> None:
    with closing(library(":memory:")) as music:
        music.put(uid_of(1), album_entry())
        music.put(uid_of(2), artwork_entry())

        def kept() -> str | None:
            entry = music.entry(uid_of(2))
            assert isinstance(entry, Artwork)
            return entry.album

        assert kept() == "1"
        music.forget(uid_of(1))
        assert kept() is None
        assert music.albums() == ()
        music.put(uid_of(3), album_entry())
        assert kept() == "2"  # an id is never used again
        assert music.albums()[0].cover == "Artist - Album.jpg"


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
    assert catalogue.counts() == Counts(artists=1, albums=1, discs=0, songs=0, videos=0, artworks=1)
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
        (album_entry(), {"songs": [song_entry()]}),
        (album_entry(), {"songs": (video_entry(),)}),
        (album_entry(), {"release": 1978}),
    ],
)
def test_a_wrong_type_is_a_mistake_of_the_caller(catalogue: Catalogue, entry: Any, wrong: dict[str, Any]) -> None:
    for library in (catalogue, MemoryLibrary()):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            library.put(uid_of(1), evolve(entry, **wrong))
        with pytest.raises(TypeError, match="a VideoEntry, an AlbumEntry or an ArtworkEntry"):
            library.put(uid_of(1), wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="uid must be str"):
            library.put(1, entry)  # type: ignore[arg-type]


# ── the model ─────────────────────────────────────────────────────────────────────────────────────────────────

_UIDS = st.sampled_from([uid_of(number) for number in range(4)])
# Few names, and most of them one name in several spellings: what does not meet cannot go wrong.
_ARTISTS = st.sampled_from(["Queen", "QUEEN", "queen", "QUE\u00c9N"])
_ALBUMS = st.sampled_from(["Jazz", "JAZZ", "jazz", "News"])
_VIDEO = st.builds(
    video_entry,
    st.sampled_from(["a", "x/y/b", "v"]),
    artist=_ARTISTS,
    name=st.sampled_from(["One", "Two"]),
    sha1=st.sampled_from(["a" * 40, "b" * 40]),
)
_SONG = st.builds(
    song_entry,
    st.sampled_from(["a", "x/y/b", "x/y/c", "x/z/d"]),
    name=st.sampled_from(["One", "Two words", "T\u00f6w words"]),
    artist=_ARTISTS,
    disc=st.integers(1, 2),
    number=st.integers(0, 2),
    sha1=st.sampled_from(["a" * 40, "A" * 40, "b" * 40]),
)
_ALBUM = st.builds(
    lambda songs, **values: album_entry(*songs, **values),
    st.lists(_SONG, min_size=1, max_size=3, unique_by=lambda song: song.path),
    artist=_ARTISTS,
    name=_ALBUMS,
    release=st.sampled_from(["1978", "1978", ""]),
    origin=st.sampled_from(["", "CD", "internet"]),
    sha1=st.sampled_from(["a" * 40, "c" * 40]),
)
_ARTWORK = st.builds(
    artwork_entry,
    st.sampled_from(["a", "d/p"]),
    artist=_ARTISTS,
    album=_ALBUMS,
    albumid=st.sampled_from(["1", "1", "1", "2", "x", None]),
)
_CALLS = st.builds(
    lambda album, calls: [*album, *calls],
    st.lists(st.tuples(st.just("add_album"), _ARTISTS, _ALBUMS), max_size=1),
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), _UIDS, _VIDEO),
            st.tuples(st.just("put"), _UIDS, _ALBUM),
            st.tuples(st.just("put"), _UIDS, _ALBUM),
            st.tuples(st.just("put"), _UIDS, _ARTWORK),
            st.tuples(st.just("put"), _UIDS, _ARTWORK),
            st.tuples(st.just("illustrate"), _UIDS, st.sampled_from(["d", ""]), st.just("t"), st.just("p")),
            st.tuples(st.just("illustrate"), _UIDS, st.sampled_from(["d", "e"]), st.just("t"), st.just("p")),
            st.tuples(st.just("unillustrate"), _UIDS),
            st.tuples(st.just("forget"), _UIDS),
            st.tuples(st.just("add_album"), _ARTISTS, _ALBUMS, st.sampled_from(["", "1978"])),
        ),
        min_size=4,
        max_size=25,
    ),
)


def outcome(library: Catalogue | MemoryLibrary, name: str, values: tuple[Any, ...]) -> object:
    try:
        return getattr(library, name)(*values)
    except ContentRejected as refusal:
        return refusal.code


def answers(library: Catalogue | MemoryLibrary) -> dict[str, object]:
    """All that can be asked about what the calls above can bring."""
    found: dict[str, object] = {
        "artists": library.artists(),
        "albums": library.albums(),
        "page of albums": library.albums(artist="queen", limit=1, offset=1),
        "songs": library.songs(),
        "page of songs": library.songs(artist="QUEEN", limit=2, offset=1),
        "counts": library.counts(),
        "entries": [library.entry(uid_of(number)) for number in range(4)],
    }
    found |= {f"album {number}": library.album(str(number)) for number in range(5)}
    found |= {f"songs with {text}": library.songs(search=text) for text in ("tow", "queen two", "?", " ")}
    found |= {f"sha1 {digit}": library.find_sha1(digit * 40) for digit in "abc"}
    for text in ("q", "queen", "JAZZ quee", "w", "tow wo", "two queen", "news x", "", "?"):
        found[f"search {text}"] = library.search(text)
    for field in ("artist", "album", "release", "origin"):
        for prefix in ("", "j", "Q", "19", "que\u0301", "the ", "?"):
            found[f"suggest {field} {prefix}"] = library.suggest(field, prefix), library.suggest(field, prefix, 1)
        found[f"suggest {field} of Queen"] = library.suggest(field, artist="QUEEN")
    for artist in ("queen", "QUE\u00c9N", "Nobody"):
        found[f"artists {artist}"] = library.find_artists(artist)
        for album in ("jazz", "news"):
            found[f"albums {artist} {album}"] = library.find_albums(artist, album, None)
            found[f"songs {artist} {album}"] = library.find_songs(artist, album, "1978")
    return found


def compare(calls: list[tuple[Any, ...]]) -> None:
    """A catalogue does and answers what the library in memory does and answers."""
    memory = MemoryLibrary()
    with Catalogue.open(":memory:") as catalogue:
        for name, *values in calls:
            assert outcome(catalogue, name, tuple(values)) == outcome(memory, name, tuple(values))
            assert catalogue.artists() == memory.artists()
            assert catalogue.albums() == memory.albums()
        assert answers(catalogue) == answers(memory)
        assert catalogue.check() == []


@settings(deadline=None, max_examples=120)
@given(_CALLS)
def test_it_does_what_the_library_in_memory_does(calls: list[tuple[Any, ...]]) -> None:
    compare(calls)


_FAULTS = {
    "the older one keeps a path": ("max(upload) AS upload FROM songs", "min(upload) AS upload FROM songs"),
    "a replaced song does not come back": (
        "UPDATE songs SET shown = 1 WHERE",
        "UPDATE songs SET shown = 1 WHERE upload = 1 AND",
    ),
    "the newest spells an album": ("AND shown ORDER BY upload LIMIT 1", "AND shown ORDER BY upload DESC LIMIT 1"),
    "the newest spells an artist": ("ORDER BY upload, first, credit", "ORDER BY upload DESC, first, credit"),
    "the oldest cover shows": ("AND shown\n                    ORDER BY upload DESC", "AND shown ORDER BY upload"),
    "an artist is left over": ("DELETE FROM artists", "SELECT 1 FROM artists"),
    "an update is a new upload": ("AND kind <> ?", "AND ? <> ''"),
    "replaced files are known": ("sha1 = ?1 AND shown UNION", "sha1 = ?1 UNION"),
    "replaced songs are found": ("WHEN new.shown < old.shown", "WHEN 0"),
}


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is worth its time."""
    right, wrong = _FAULTS[fault]
    planted = set()

    class Faulty(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            planted.add(right in sql)
            return super().execute(sql.replace(right, wrong), *values)

        def executemany(self, sql: str, *values: Any) -> sqlite3.Cursor:
            planted.add(right in sql)
            return super().executemany(sql.replace(right, wrong), *values)

    connect = partial(sqlite3.connect, factory=Faulty)
    monkeypatch.setattr(sqlite3, "connect", connect)
    test = settings(
        deadline=None, max_examples=1000, derandomize=True, database=None, phases=[Phase.generate], print_blob=False
    )(given(_CALLS)(compare))
    with pytest.raises((AssertionError, StorageError)):
        test()
    assert True in planted


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
        counts = catalogue.counts()
        assert counts.videos == counts.artworks == counts.songs == counts.discs == 0
        assert catalogue.check() == []


def history_without_detours(calls: list[tuple[Any, ...]], memory: MemoryLibrary) -> str:
    """The hash of a catalogue that was told only what is still true, under other uids."""
    with Catalogue.open(":memory:") as fresh:
        for name, *values in calls:
            if name == "add_album":
                fresh.add_album(*values)
        for number, kept in enumerate(memory.entries()):
            uid = uid_of(1000 + number)
            if isinstance(kept, Artwork):
                put_artwork(fresh, uid, kept.entry, memory._entries[kept.uid].target)
            else:
                fresh.put(uid, kept.entry)
            if kept.illustration is not None:
                illustration = kept.illustration
                fresh.illustrate(uid, illustration.directory, illustration.thumbnail, illustration.preview)
        return fresh.content_hash()


def put_artwork(library: Catalogue, uid: str, entry: ArtworkEntry, album: tuple[str, str, str] | None) -> None:
    """Put it to the album that was found when it came, and may have gone since."""
    assert album is not None
    artist, name, release = album
    library.put(uid_of(999), album_entry(song_entry("nobody's"), artist=artist, name=name, release=release))
    brought = library.entry(uid_of(999))
    assert isinstance(brought, AlbumUpload)
    library.put(uid, evolve(entry, albumid=brought.album))
    library.forget(uid_of(999))


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
    for number, step in enumerate(schema.MIGRATIONS, 1):
        assert step[-1] == f"PRAGMA user_version = {number}"
        assert not any("user_version" in statement for statement in step[:-1])


def test_an_older_file_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "music.db"
    with Catalogue.open(path) as catalogue:
        catalogue.put(uid_of(1), video_entry())
        content = catalogue.content_hash()
    now = len(schema.MIGRATIONS)
    steps = (
        ("ALTER TABLE videos ADD COLUMN rating INTEGER", f"PRAGMA user_version = {now + 1}"),
        ("UPDATE videos SET rating = 5", f"PRAGMA user_version = {now + 2}"),
    )
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS + steps)
    for _ in range(2):
        with Catalogue.open(path) as catalogue:
            assert raw(catalogue).execute("SELECT rating FROM videos").fetchone()["rating"] == 5
            assert raw(catalogue).execute("PRAGMA user_version").fetchone()[0] == now + 2
            assert catalogue.content_hash() == content
            assert catalogue.check() == []


_SCHEMA_1 = """
INSERT INTO uploads VALUES (2, '{0:032x}', 'video'), (3, '{1:032x}', 'video'), (5, '{2:032x}', 'artwork'),
    (6, '{3:032x}', 'artwork');
INSERT INTO artists VALUES (1, 'queen', 'Queen', 1), (2, 'björk', 'Björk', 0);
INSERT INTO albums VALUES (3, NULL, 1, 'Queen', 'Jazz', 'jazz', '1978', 'own.jpg'),
    (4, NULL, 1, 'QUEEN', 'A', 'a', '', NULL),
    (9, NULL, 1, 'QUEEN', 'Gone', 'gone', '', NULL);
DELETE FROM albums WHERE id = 9;
INSERT INTO videos VALUES
    (1, '{0:032x}', 1, 'QUEEN', 'a.mp4', 'One', 'one', '2001', 'internet', 12345, '{sha1}', '{sha256}', 4.5, 320, 180,
        'h264'),
    (2, '{1:032x}', 2, 'Björk', 'b.mp4', 'Two', 'two', '2001', 'internet', 12345, '{sha1}', '{sha256}', 4.5, 320, 180,
        'h264');
INSERT INTO artworks VALUES
    (1, '{2:032x}', 3, 'j1.jpg', 'queen', 'jazz', NULL, '{cover}'),
    (2, '{3:032x}', 3, 'j2.jpg', 'q', 'j', '3', '{cover}');
INSERT INTO illustrations VALUES ('{0:032x}', 'd', 't', 'p');
"""


def test_a_file_of_schema_1_is_taken_over_whole(tmp_path: Path) -> None:
    """The release before albums wrote such a file."""
    path = tmp_path / "music.db"
    with connect(path) as db:
        for statement in schema.MIGRATIONS[0]:
            db.execute(statement)
        db.executescript(_SCHEMA_1.format(2, 3, 5, 6, sha1="a" * 40, sha256="b" * 64, cover="c" * 64))
    videos = [video_entry("a.mp4", artist="QUEEN", name="One"), video_entry("b.mp4", artist="Björk", name="Two")]
    with Catalogue.open(path) as migrated, Catalogue.open(":memory:") as fresh:
        fresh.add_album("Queen", "Jazz", "1978", cover="own.jpg")
        fresh.add_album("QUEEN", "A")
        fresh.put(uid_of(2), videos[0])
        fresh.put(uid_of(3), videos[1])
        fresh.put(uid_of(5), artwork_entry("j1.jpg", artist="queen", album="jazz"))
        fresh.put(uid_of(6), artwork_entry("j2.jpg", artist="q", album="j", albumid="1"))
        fresh.illustrate(uid_of(2), "d", "t", "p")
        assert migrated.check() == []
        assert migrated.content_hash() == fresh.content_hash()
        assert [(album.id, album.cover) for album in migrated.albums()] == [("4", None), ("3", "j2.jpg")]
        assert migrated.videos() == fresh.videos()
        assert migrated.search("jazz") == tuple(evolve(found, id="3") for found in fresh.search("jazz"))
        assert [found.path for found in migrated.search("bjork two")] == ["b.mp4"]
        second = artwork_entry("j2.jpg", artist="q", album="j", albumid="3")
        assert migrated.entry(uid_of(6)) == Artwork(uid=uid_of(6), album="3", entry=second, illustration=None)
        for library in (migrated, fresh):
            for number in (6, 2, 5):
                library.forget(uid_of(number))
            assert library.check() == []
        assert migrated.content_hash() == fresh.content_hash()
        assert migrated.add_album("Queen", "New") == "10"  # ids of what was there before are not used again


def test_a_failed_migration_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "music.db"
    with Catalogue.open(path) as catalogue:
        catalogue.put(uid_of(1), video_entry())
        content = catalogue.content_hash()
    broken = (
        *schema.MIGRATIONS,
        ("DROP TABLE illustrations", f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}"),
        ("DROP TABLE missing",),
    )
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", broken)
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


_NEW = "(key, name, similar, words, more, kept, shown)"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("DELETE FROM videos", "has no video"),
        ("DELETE FROM songs", "has no album"),
        ("DELETE FROM artworks", "has no artwork"),
        ("UPDATE uploads SET kind = 'artwork'", "has a video here, but is none"),
        ("UPDATE uploads SET kind = 'video'", "has an album here, but is none"),
        (f"INSERT INTO artists {_NEW} VALUES ('x', 'X', 'x', 'x', '', 0, 0)", "'X' is left over"),
        ("UPDATE artists SET name = 'ARTIST' WHERE NOT kept", "should be spelled 'Artist'"),
        ("UPDATE artists SET kept = 0 WHERE name = 'Kept'", "its artist was not"),
        ("UPDATE artists SET key = 'y' WHERE name = 'Kept'", "Artist 'Kept' is filed under 'y'"),
        ("UPDATE artists SET similar = 'y' WHERE name = 'Kept'", "Artist 'Kept' is similar to 'y'"),
        ("UPDATE artists SET shown = 0 WHERE name = 'Artist'", "Artist 'Artist' is shown without a work, or hidden"),
        ("UPDATE albums SET shown = 0 WHERE name = 'Album'", "Album 'Album' is shown without a song, or hidden"),
        ("UPDATE albums SET name = 'ALBUM' WHERE NOT kept", "should be spelled 'Album'"),
        ("UPDATE albums SET key = 'y'", "Album 'Album' is filed under 'y'"),
        ("UPDATE albums SET kept = 0", "Album 'Own' is left over"),
        ("UPDATE albums SET words = 'y'", "Album 'Album' is found by other words"),
        ("UPDATE parts SET shown = 0", "Album 'Album' of upload"),
        ("UPDATE parts SET name = 'Else'", "Album 'Else' is filed under 'album'"),
        ("UPDATE songs SET album = (SELECT id FROM albums WHERE kept)", "is on another album than its upload says"),
        ("UPDATE songs SET shown = 0", "is hidden, and should not be"),
        ("UPDATE songs SET key = 'y'", "Song 'Song' is filed under 'y'"),
        ("UPDATE songs SET more = 'y'", "Song 'Song' is found by other words"),
        ("UPDATE videos SET key = 'y'", "Video 'Name' is filed under 'y'"),
        ("UPDATE videos SET shown = 0", "Video 'Artist/2001 - Name.mp4' is hidden, and should not be"),
        ("UPDATE videos SET artist = (SELECT id FROM artists WHERE kept)", "Credit 'Artist' is filed under 'kept'"),
        ("UPDATE pictures SET path = 'y' WHERE path LIKE '%(2).jpg'", "is not the one that it brought or made"),
        ("UPDATE pictures SET shown = 0", "Cover 'Artist - Album.jpg' is hidden, and should not be"),
        ("DELETE FROM pictures", "is not the one that it brought or made"),
        (
            "INSERT INTO songs_found (rowid, words, more) VALUES (7, 'y', '')",
            "The index for searching songs does not fit",
        ),
        ("INSERT INTO albums_found (albums_found) VALUES ('delete-all')", "The index for searching albums does not"),
        ("PRAGMA foreign_keys = OFF; DELETE FROM uploads", "of videos refers to a row of uploads"),
    ],
)
def test_check_finds_what_cannot_be(change: str, sentence: str) -> None:
    with Catalogue.open(":memory:") as catalogue:
        catalogue.add_album("Kept", "Own")
        catalogue.put(uid_of(1), video_entry())
        catalogue.put(uid_of(2), album_entry())
        catalogue.illustrate(uid_of(2), "", "small.jpg", "Artist - Album (2).jpg")
        catalogue.put(uid_of(3), artwork_entry())
        assert catalogue.check() == []
        raw(catalogue).executescript(change)
        assert any(sentence in found for found in catalogue.check()), catalogue.check()


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
        patch.setattr(rows, "_settle_artist", interrupted)
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
        assert one.counts() == Counts(artists=1, albums=0, discs=0, songs=0, videos=48, artworks=0)
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


# ── looking only ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alive", [True, False], ids=["somebody has it open", "nobody has it open"])
def test_looking_changes_nothing(tmp_path: Path, alive: bool) -> None:
    path = tmp_path / "a catalogue?#%.sqlite"
    owner = Catalogue.open(path)
    owner.add_album("Björk", "Debut", "1993")
    if not alive:
        owner.close()
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.iterdir()}
    with Catalogue.look(path) as seen:
        assert list(seen.find_artists("bjork")) == ["Björk"]
        assert len(seen.find_albums("Björk", "Debut", None)) == 1
        with pytest.raises(StorageError):
            seen.add_album("Somebody", "Else")
    assert {p.name: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.iterdir()} == before
    owner.close()


def test_looking_sees_what_the_owner_writes(tmp_path: Path) -> None:
    with Catalogue.open(tmp_path / "c.sqlite") as owner:
        owner.add_album("A", "B")
        with Catalogue.look(tmp_path / "c.sqlite") as seen:
            owner.add_album("C", "D")
            assert list(seen.find_artists("C")) == ["C"]


def test_looking_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Catalogue.look(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_looking_at_what_is_no_catalogue_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"no database, but long enough to look like a file" * 99)
    with pytest.raises(StorageError):
        Catalogue.look(path)
    path.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="older schema"):
        Catalogue.look(path)
