"""The promises of the `Library` port, as tests for whoever writes an adapter.

Subclass `LibraryContract` in a test module and say how to make a library::

    class TestMyLibrary(LibraryContract):
        @pytest.fixture
        def library(self, tmp_path):
            library = MyLibrary(tmp_path / "music.db")
            yield library
            library.close()

        def snapshot(self, library):
            return library.dump()

*Exactly* as before can only be seen from outside, therefore `snapshot`. What an adapter cannot show is skipped, and
the reason says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, Final

import pytest
from attrs import evolve

from ..errors import ContentRejected
from ..ports import AlbumEntry, ArtworkEntry, Entry, Library, MusicLibrary, SongEntry, VideoEntry

__all__ = ["LibraryContract", "album_entry", "artwork_entry", "song_entry", "uid_of", "video_entry"]

_THREADS: Final = 16

_ODD_TEXTS: Final = {
    "markup": "<script>alert('x')</script> & \"quotes\"",
    "sql": "'); DROP TABLE artists; --",
    "wildcards": "100 % _ * ? \\",
    "composed": "Beyonc\u00e9",
    "decomposed": "Beyonce\u0301",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u202e abc",
    "emoji": "\U0001f3b8\u200d\U0001f9d1",
    "sharp s": "STRASSE stra\u00dfe",
    "dotted i": "\u0130stanbul",
    "controls": "tab\there, line\nthere, bell\a",
    "long": "\u00e4" * 10_000,
    "empty": "",
}


def uid_of(number: int) -> str:
    """A uid as the engine makes them: 32 hexadecimal digits, another one for each number."""
    return f"{number:032x}"


def video_entry(
    path: str = "Artist/2001 - Name.mp4",
    *,
    artist: str = "Artist",
    name: str = "Name",
    release: str = "2001",
    origin: str = "internet",
    size: int = 12_345,
    sha1: str = "a" * 40,
    duration: float = 4.5,
) -> VideoEntry:
    """A plausible video."""
    return VideoEntry(
        path=path,
        artist=artist,
        name=name,
        release=release,
        origin=origin,
        size=size,
        sha1=sha1,
        sha256="b" * 64,
        duration=duration,
        width=320,
        height=180,
        codec="h264",
    )


def artwork_entry(
    path: str = "Artist - Album.jpg", *, artist: str = "Artist", album: str = "Album", albumid: str | None = None
) -> ArtworkEntry:
    """A plausible cover."""
    return ArtworkEntry(path=path, artist=artist, album=album, albumid=albumid, sha256="c" * 64)


def song_entry(
    path: str = "Artist/2001 - Album/1 Song.flac",
    *,
    name: str = "Song",
    artist: str = "Artist",
    disc: int = 1,
    number: int = 1,
    size: int = 1_234,
    sha1: str = "d" * 40,
    duration: float = 180.5,
) -> SongEntry:
    """A plausible song."""
    return SongEntry(
        path=path,
        name=name,
        artist=artist,
        disc=disc,
        number=number,
        size=size,
        sha1=sha1,
        sha256="e" * 64,
        duration=duration,
        codec="flac",
    )


def album_entry(
    *songs: SongEntry,
    artist: str = "Artist",
    name: str = "Album",
    release: str = "2001",
    origin: str = "CD",
    sha1: str = "f" * 40,
) -> AlbumEntry:
    """A plausible upload of an album; of one song if none is given."""
    return AlbumEntry(
        artist=artist, name=name, release=release, origin=origin, sha1=sha1, songs=songs or (song_entry(),)
    )


def _disc(number: int, songs: int = 3, **changes: Any) -> AlbumEntry:
    """An upload of one disc of an album of several."""
    brought = [
        song_entry(f"Artist/2001 - Album/{number}-{n} Song.flac", name=f"Song {n}", disc=number, number=n)
        for n in range(1, songs + 1)
    ]
    return album_entry(*brought, **{"sha1": f"{number:040x}"} | changes)


class LibraryContract:
    """Every promise of `Library`, and of `MusicLibrary` where the adapter has it. See the module for its use."""

    # ── what the author of an adapter gives ───────────────────────────────────────────────────────────────────

    @pytest.fixture
    def library(self) -> Library:
        """An empty library of the adapter; override it, and close what it gives afterwards."""
        raise NotImplementedError("Override the fixture `library`.")

    def snapshot(self, library: Library) -> object:
        """Everything the library says, as a value that equals another exactly if both say the same.

        Internal ids and times do not belong in it. Read the database itself rather than through the adapter if
        you can.
        """
        pytest.skip("the adapter's tests give no snapshot(library)")

    def add_album(self, library: Library, artist: str, name: str) -> str | None:
        """Make an album known, without an upload, for the tests of artworks.

        Returns:
            The id that an `ArtworkEntry` may name it by, or ``None`` if there are no such ids.
        """
        pytest.skip("the adapter's tests give no add_album(library, artist, name)")

    # ── put ───────────────────────────────────────────────────────────────────────────────────────────────────

    def test_put_again_changes_nothing(self, library: Library) -> None:
        """A step that is repeated after a crash finds its own entry and leaves it as it is."""
        library.put(uid_of(1), video_entry())
        before = self.snapshot(library)
        library.put(uid_of(1), video_entry())
        assert self.snapshot(library) == before

    def test_put_twice_is_one_entry(self, library: Library) -> None:
        """One `forget` takes back two `put`."""
        library.put(uid_of(1), video_entry())
        library.put(uid_of(1), video_entry())
        library.forget(uid_of(1))
        library.put(uid_of(2), video_entry())  # the path is free

    def test_put_updates_the_entry_of_its_upload(self, library: Library) -> None:
        """The second `put` of an upload wins, whole."""
        library.put(uid_of(1), video_entry())
        library.put(uid_of(1), video_entry("Other/1999 - Title.webm", artist="Other", name="Title", release="1999"))
        library.put(uid_of(2), video_entry())
        library.forget(uid_of(1))
        left = self.snapshot(library)
        library.forget(uid_of(2))
        library.put(uid_of(2), video_entry())
        assert self.snapshot(library) == left

    def test_update_is_as_if_put_like_this_at_once(self, library: Library) -> None:
        """Nothing of the former version stays behind, an artist that it named least of all."""
        library.put(uid_of(1), video_entry("Other/1999 - Title.webm", artist="Other", name="Title", release="1999"))
        at_once = self.snapshot(library)
        library.forget(uid_of(1))
        library.put(uid_of(1), video_entry())
        library.put(uid_of(1), video_entry("Other/1999 - Title.webm", artist="Other", name="Title", release="1999"))
        assert self.snapshot(library) == at_once

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("path", "Artist/2.mp4"),
            ("artist", "Other"),
            ("name", "Other"),
            ("release", ""),
            ("origin", "CD"),
            ("size", 1),
            ("sha1", "1" * 40),
            ("sha256", "1" * 64),
            ("duration", 1.5),
            ("width", 1),
            ("height", 1),
            ("codec", "vp9"),
        ],
    )
    def test_every_value_is_kept_and_updated(self, library: Library, name: str, value: object) -> None:
        """What the engine found out about a file is what the library says about it."""
        changes: dict[str, Any] = {name: value}
        changed = evolve(video_entry(), **changes)
        library.put(uid_of(1), changed)
        at_once = self.snapshot(library)
        library.forget(uid_of(1))
        library.put(uid_of(1), video_entry())
        assert self.snapshot(library) != at_once
        library.put(uid_of(1), changed)
        assert self.snapshot(library) == at_once

    @pytest.mark.parametrize(
        ("earlier", "later"),
        [
            (video_entry(), video_entry(name="Another", artist="Somebody", size=1)),
            (
                album_entry(),
                album_entry(song_entry(name="Another", artist="Guest"), artist="ARTIST", origin="download"),
            ),
            (_disc(1), _disc(1, songs=1, sha1="2" * 40)),
            (_disc(1), album_entry(*_disc(1).songs, *_disc(2).songs, name="Other album")),
        ],
        ids=["video", "song", "one of three songs", "another album"],
    )
    def test_a_later_upload_takes_a_path_over(self, library: Library, earlier: Entry, later: Entry) -> None:
        """The user replaced a file. Whichever upload goes, it is as if only the other one had ever come."""
        library.put(uid_of(1), earlier)
        library.illustrate(uid_of(1), "Artist/Name", "frame-1.jpg", "preview.webp")
        one = self.snapshot(library)
        library.put(uid_of(2), later)
        both = self.snapshot(library)
        assert both != one
        library.put(uid_of(1), earlier)  # a retry is not later
        assert self.snapshot(library) == both
        library.forget(uid_of(2))
        assert self.snapshot(library) == one
        library.put(uid_of(2), later)
        assert self.snapshot(library) == both
        library.forget(uid_of(1))
        other = self.snapshot(library)
        library.forget(uid_of(2))
        library.put(uid_of(2), later)
        assert self.snapshot(library) == other

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (2, 3, 1), (1, 3, 2), (3, 1, 2)], ids=str)
    def test_replaced_entries_come_back_in_any_order(self, library: Library, order: tuple[int, ...]) -> None:
        """A replacement may be replaced; what is left is always as if the others had never come."""
        entries = {
            1: video_entry(),
            2: video_entry(artist="Other", name="2"),
            3: video_entry(artist="ARTIST", name="3"),
        }
        self._forget_in_order(library, order, lambda number: library.put(uid_of(number), entries[number]))

    def test_a_refused_put_changes_nothing(self, library: Library) -> None:
        """Neither for the upload that was refused, nor for another."""
        library.put(uid_of(1), album_entry())
        library.put(uid_of(2), video_entry("Other/2.mp4", artist="Other"))
        before = self.snapshot(library)
        refused = (artwork_entry(album="Unknown"), album_entry(song_entry(), song_entry(artist="Somebody new")))
        for entry in refused:
            for uid in (uid_of(1), uid_of(2), uid_of(3)):
                with pytest.raises(ContentRejected):
                    library.put(uid, entry)
        assert self.snapshot(library) == before

    def test_paths_that_differ_by_case_are_two(self, library: Library) -> None:
        """The music directory decides what is one name, not the catalogue."""
        library.put(uid_of(1), video_entry("Artist/name.mp4"))
        library.put(uid_of(2), video_entry("Artist/Name.mp4"))

    # ── albums ────────────────────────────────────────────────────────────────────────────────────────────────

    def test_an_album_put_again_changes_nothing(self, library: Library) -> None:
        """And one `forget` takes both back."""
        empty = self.snapshot(library)
        library.put(uid_of(1), _disc(1))
        before = self.snapshot(library)
        library.put(uid_of(1), _disc(1))
        assert self.snapshot(library) == before
        library.forget(uid_of(1))
        assert self.snapshot(library) == empty

    @pytest.mark.parametrize(
        "changed",
        [
            _disc(1, artist="Other"),
            _disc(1, name="Other"),
            _disc(1, release=""),
            _disc(1, origin="download"),
            _disc(1, sha1="9" * 40),
            _disc(1, songs=2),
            _disc(1, songs=4),
            _disc(2),
            *(
                album_entry(*_disc(1).songs[:2], evolve(_disc(1).songs[2], **change), sha1=_disc(1).sha1)
                for change in (
                    {"path": "Artist/other.flac"},
                    {"name": "Other"},
                    {"artist": "Guest"},
                    {"disc": 2},
                    {"number": 0},
                    {"size": 2**40},
                    {"sha1": "9" * 40},
                    {"sha256": "9" * 64},
                    {"duration": 0.25},
                    {"codec": "mp3"},
                )
            ),
        ],
        ids=lambda entry: None,
    )
    def test_every_value_of_an_album_is_kept_and_updated(self, library: Library, changed: AlbumEntry) -> None:
        """What was said last is what the library says, and nothing of the former version stays behind."""
        library.put(uid_of(1), changed)
        at_once = self.snapshot(library)
        library.forget(uid_of(1))
        library.put(uid_of(1), _disc(1))
        assert self.snapshot(library) != at_once
        library.put(uid_of(1), changed)
        assert self.snapshot(library) == at_once

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (2, 3, 1), (1, 3, 2), (3, 1, 2)], ids=str)
    def test_several_uploads_bring_one_album(self, library: Library, order: tuple[int, ...]) -> None:
        """It belongs to none of them: it is there, in the oldest one's spelling, as long as any is."""
        spelled = {1: ("Artist", "Album"), 2: ("ARTIST", "album"), 3: ("artist", "ALBUM")}

        def bring(number: int) -> None:
            artist, name = spelled[number]
            library.put(uid_of(number), _disc(number, artist=artist, name=name))
            if number != 2:
                library.illustrate(uid_of(number), "", "small.jpg", f"Artist - Album ({number}).jpg")

        self._forget_in_order(library, order, bring)

    def test_an_album_and_a_video_share_an_artist(self, library: Library) -> None:
        """And the songs' artists come and go with them."""
        library.put(uid_of(1), video_entry(artist="Guest"))
        before = self.snapshot(library)
        library.put(uid_of(2), album_entry(song_entry(artist="GUEST"), artist="Various"))
        library.forget(uid_of(2))
        assert self.snapshot(library) == before

    @pytest.mark.parametrize(
        "entry",
        [
            AlbumEntry(artist="Artist", name="Album", release="", origin="", sha1="a" * 40, songs=()),
            album_entry(song_entry(), song_entry(number=2)),
            album_entry(song_entry(disc=0)),
            album_entry(song_entry(), song_entry("2.flac", duration=float("nan"))),
            album_entry(song_entry(), song_entry("2.flac", name="\ud800")),
            album_entry(name="\ud800"),
        ],
        ids=["no songs", "one path twice", "disc 0", "not a number", "a song not Unicode", "not Unicode"],
    )
    def test_an_album_that_cannot_be_is_refused(self, library: Library, entry: AlbumEntry) -> None:
        """Whole, and nothing is left of it."""
        empty = self.snapshot(library)
        with pytest.raises(ContentRejected):
            library.put(uid_of(1), entry)
        assert self.snapshot(library) == empty

    def test_an_upload_may_become_another_kind_of_entry(self, library: Library) -> None:
        """Then it starts over."""
        library.put(uid_of(1), video_entry())
        video = self.snapshot(library)
        library.put(uid_of(1), album_entry())
        library.illustrate(uid_of(1), "d", "t", "p")
        library.put(uid_of(1), video_entry())
        assert self.snapshot(library) == video

    # ── illustrate ────────────────────────────────────────────────────────────────────────────────────────────

    def test_illustrate_after_put(self, library: Library) -> None:
        """It shows, and repeating it changes nothing."""
        library.put(uid_of(1), video_entry())
        plain = self.snapshot(library)
        library.illustrate(uid_of(1), "Artist/Name", "frame-1.jpg", "preview.webp")
        once = self.snapshot(library)
        assert once != plain
        library.illustrate(uid_of(1), "Artist/Name", "frame-1.jpg", "preview.webp")
        assert self.snapshot(library) == once

    def test_unillustrate_leaves_the_entry(self, library: Library) -> None:
        """The pictures were taken back: the entry is as before them, and repeating it changes nothing."""
        library.put(uid_of(1), video_entry())
        plain = self.snapshot(library)
        library.illustrate(uid_of(1), "Artist/Name", "frame-1.jpg", "preview.webp")
        library.unillustrate(uid_of(1))
        library.unillustrate(uid_of(1))
        assert self.snapshot(library) == plain

    def test_unillustrate_of_a_stranger(self, library: Library) -> None:
        """Nothing was put: nothing happens."""
        library.unillustrate(uid_of(9))

    @pytest.mark.parametrize(
        "names",
        [
            ("Artist/Other", "frame-1.jpg", "preview.webp"),
            ("Artist/Name", "frame-2.jpg", "preview.webp"),
            ("Artist/Name", "frame-1.jpg", "preview-2.webp"),
        ],
        ids=["directory", "thumbnail", "preview"],
    )
    def test_illustrate_replaces_what_it_said_before(self, library: Library, names: tuple[str, str, str]) -> None:
        """The last artwork counts, with each of its names."""
        library.put(uid_of(1), video_entry())
        library.illustrate(uid_of(1), "Artist/Name", "frame-1.jpg", "preview.webp")
        first = self.snapshot(library)
        library.illustrate(uid_of(1), *names)
        assert self.snapshot(library) != first
        library.illustrate(uid_of(1), "Artist/Name", "frame-1.jpg", "preview.webp")
        assert self.snapshot(library) == first

    def test_a_crash_between_the_steps_loses_no_artwork(self, library: Library) -> None:
        """Put, illustrate, crash, put and illustrate again is put and illustrate once."""
        library.put(uid_of(1), video_entry())
        library.illustrate(uid_of(1), "Artist/Name", "frame-1.jpg", "preview.webp")
        once = self.snapshot(library)
        library.put(uid_of(1), video_entry())
        assert self.snapshot(library) == once
        library.illustrate(uid_of(1), "Artist/Name", "frame-1.jpg", "preview.webp")
        assert self.snapshot(library) == once

    def test_illustrate_makes_no_entry(self, library: Library) -> None:
        """An upload that was never put, or was forgotten, is refused: nothing could take it back."""
        library.put(uid_of(1), video_entry())
        library.forget(uid_of(1))
        for uid in (uid_of(1), uid_of(2)):
            with pytest.raises(ContentRejected):
                library.illustrate(uid, "Artist/Name", "frame-1.jpg", "preview.webp")

    # ── forget ────────────────────────────────────────────────────────────────────────────────────────────────

    def test_forget_of_an_unknown_upload_is_no_error(self, library: Library) -> None:
        """An undo may be repeated, and may come before anything was put."""
        library.forget(uid_of(1))
        library.put(uid_of(1), video_entry())
        library.forget(uid_of(1))
        library.forget(uid_of(1))

    def test_forget_takes_back_exactly(self, library: Library) -> None:
        """What was there before the upload is there afterwards, and nothing else."""
        library.put(uid_of(1), video_entry())
        library.illustrate(uid_of(1), "Artist/Name", "frame-1.jpg", "preview.webp")
        before = self.snapshot(library)
        library.put(uid_of(2), video_entry("Other/2.mp4", artist="Other"))
        library.put(uid_of(2), video_entry("Artist/3.mp4"))
        library.illustrate(uid_of(2), "Artist/3", "frame-1.jpg", "preview.webp")
        library.forget(uid_of(2))
        assert self.snapshot(library) == before

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (1, 3, 2)], ids=str)
    def test_forget_in_any_order_leaves_nothing(self, library: Library, order: tuple[int, ...]) -> None:
        """Uploads that share an artist, in several spellings, are undone independently of each other."""
        empty = self.snapshot(library)
        for number, artist in enumerate(("Queen", "QUEEN", "queen"), 1):
            library.put(uid_of(number), video_entry(f"{artist}/{number}.mp4", artist=artist))
        for number in order:
            library.forget(uid_of(number))
        assert self.snapshot(library) == empty

    def test_forget_is_as_if_the_upload_had_never_come(self, library: Library) -> None:
        """Also when others came after it and shared what it had made."""
        library.put(uid_of(2), video_entry("QUEEN/2.mp4", artist="QUEEN"))
        alone = self.snapshot(library)
        library.forget(uid_of(2))
        library.put(uid_of(1), video_entry("Queen/1.mp4", artist="Queen"))
        library.put(uid_of(2), video_entry("QUEEN/2.mp4", artist="QUEEN"))
        library.forget(uid_of(1))
        assert self.snapshot(library) == alone

    def test_put_after_forget(self, library: Library) -> None:
        """An upload that was undone can be imported again."""
        library.put(uid_of(1), video_entry())
        before = self.snapshot(library)
        library.forget(uid_of(1))
        library.put(uid_of(1), video_entry())
        assert self.snapshot(library) == before

    # ── covers ────────────────────────────────────────────────────────────────────────────────────────────────

    def test_artwork_without_its_album_is_refused(self, library: Library) -> None:
        """The code says why, and nothing is left of the attempt."""
        with pytest.raises(ContentRejected) as refusal:
            library.put(uid_of(1), artwork_entry(artist="Nobody", album="Nothing"))
        assert refusal.value.code == "album_not_found"
        library.forget(uid_of(1))

    def test_artwork_finds_its_album_by_names(self, library: Library) -> None:
        """Case and composition of letters do not matter."""
        self.add_album(library, "Beyonc\u00e9", "Stra\u00dfe")
        before = self.snapshot(library)
        library.put(uid_of(1), artwork_entry(artist="BEYONCE\u0301", album="STRASSE"))
        assert self.snapshot(library) != before
        library.forget(uid_of(1))
        assert self.snapshot(library) == before

    def test_artwork_finds_its_album_by_id(self, library: Library) -> None:
        """An id that is known counts more than names."""
        albumid = self.add_album(library, "Artist", "Album")
        if albumid is None:
            pytest.skip("albums of this adapter have no ids")
        before = self.snapshot(library)
        library.put(uid_of(1), artwork_entry(artist="Misspelt", album="Misspelt", albumid=albumid))
        assert self.snapshot(library) != before
        library.forget(uid_of(1))
        assert self.snapshot(library) == before

    def test_artwork_finds_an_album_that_an_upload_brought(self, library: Library) -> None:
        """As long as it is there."""
        library.put(uid_of(1), album_entry())
        before = self.snapshot(library)
        library.put(uid_of(2), artwork_entry(artist="ARTIST", album="ALBUM"))
        assert self.snapshot(library) != before
        library.forget(uid_of(2))
        assert self.snapshot(library) == before
        library.forget(uid_of(1))
        with pytest.raises(ContentRejected):
            library.put(uid_of(2), artwork_entry())

    def test_an_album_that_comes_back_has_its_artwork_again(self, library: Library) -> None:
        """Its import was undone and done again; nobody took the cover back."""
        library.put(uid_of(2), album_entry())
        library.put(uid_of(3), artwork_entry())
        before = self.snapshot(library)
        library.forget(uid_of(2))
        library.put(uid_of(2), album_entry())
        assert self.snapshot(library) == before

    def test_a_later_artwork_takes_a_path_over(self, library: Library) -> None:
        """As with videos."""
        self.add_album(library, "Artist", "Album")
        self.add_album(library, "Artist", "Other")
        library.put(uid_of(1), artwork_entry())
        one = self.snapshot(library)
        library.put(uid_of(2), artwork_entry(album="Other"))
        both = self.snapshot(library)
        assert both != one
        library.forget(uid_of(2))
        assert self.snapshot(library) == one
        library.put(uid_of(2), artwork_entry(album="Other"))
        assert self.snapshot(library) == both
        library.forget(uid_of(1))
        other = self.snapshot(library)
        library.forget(uid_of(2))
        library.put(uid_of(2), artwork_entry(album="Other"))
        assert self.snapshot(library) == other

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (2, 3, 1), (1, 3, 2), (3, 1, 2)], ids=str)
    def test_made_and_brought_covers_switch_in_any_order(self, library: Library, order: tuple[int, ...]) -> None:
        """An illustrated upload of the album and an artwork are alike: the newest one shows."""
        self.add_album(library, "Artist", "Album")

        def bring(number: int) -> None:
            if number == 2:
                library.put(uid_of(2), artwork_entry("Artist - Album (2).jpg"))
            else:
                library.put(uid_of(number), _disc(number, release=""))
                library.illustrate(uid_of(number), "", "small.jpg", f"Artist - Album ({number}).jpg")

        self._forget_in_order(library, order, bring)

    def test_unillustrate_switches_the_cover_back(self, library: Library) -> None:
        """To that of an older upload; and illustrating again, to this one."""
        for number in (1, 2):
            library.put(uid_of(number), _disc(number))
        library.illustrate(uid_of(1), "covers", "small.jpg", "1.jpg")
        one = self.snapshot(library)
        library.illustrate(uid_of(2), "covers", "small.jpg", "2.jpg")
        two = self.snapshot(library)
        assert one != two
        library.unillustrate(uid_of(2))
        assert self.snapshot(library) == one
        library.illustrate(uid_of(2), "covers", "small.jpg", "2.jpg")
        assert self.snapshot(library) == two

    @pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (2, 3, 1), (1, 3, 2), (3, 1, 2)], ids=str)
    def test_covers_switch_back_in_any_order(self, library: Library, order: tuple[int, ...]) -> None:
        """After each undo the album is as if the upload had never come, whichever cover was shown."""
        self.add_album(library, "Artist", "Album")
        self._forget_in_order(
            library,
            order,
            lambda number: library.put(uid_of(number), artwork_entry(f"Artist - Album ({number}).jpg")),
        )

    def _forget_in_order(self, library: Library, order: tuple[int, ...], bring: Callable[[int], None]) -> None:
        """Bring uploads, forget them in an order, and compare each time with what only the rest would have brought."""
        expected: dict[frozenset[int], object] = {}
        subsets = [frozenset(order[gone:]) for gone in range(len(order) + 1)]
        for left in subsets:
            for number in sorted(left):
                bring(number)
            expected[left] = self.snapshot(library)
            for number in left:
                library.forget(uid_of(number))
        for number in sorted(order):
            bring(number)
        bring(min(order))  # a retry does not come to the front
        left = frozenset(order)
        assert self.snapshot(library) == expected[left]
        for number in order:
            library.forget(uid_of(number))
            left -= {number}
            assert self.snapshot(library) == expected[left]

    # ── what strangers write ──────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("text", _ODD_TEXTS.values(), ids=_ODD_TEXTS)
    def test_text_is_kept_as_it_is(self, library: Library, text: str) -> None:
        """Any Unicode text may stand in any place; it is data and never anything else."""
        empty = self.snapshot(library)
        entry = video_entry(f"x{text}.mp4", artist=f"x{text}", name=text, release=text, origin=text)
        library.put(uid_of(1), entry)
        one = self.snapshot(library)
        library.illustrate(uid_of(1), text, f"{text}.jpg", f"{text}.webp")
        library.put(uid_of(1), evolve(entry, name=f"{text}."))
        assert self.snapshot(library) != one
        song = song_entry(f"x{text}.flac", name=text, artist=f"y{text}")
        library.put(uid_of(2), album_entry(song, artist=f"x{text}", name=f"z{text}", release=text, origin=text))
        library.illustrate(uid_of(2), text, f"{text}.jpg", f"{text}.webp")
        library.put(uid_of(3), artwork_entry(f"x{text}.jpg", artist=f"x{text}", album=f"z{text}"))
        for number in (2, 1, 3):
            library.forget(uid_of(number))
        assert self.snapshot(library) == empty

    @pytest.mark.parametrize("size", [0, 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1])
    def test_sizes(self, library: Library, size: int) -> None:
        """Any size that a file can have, to the byte."""
        library.put(uid_of(1), video_entry(size=size))
        one = self.snapshot(library)
        library.put(uid_of(1), video_entry(size=size - 1 if size else 1))
        assert self.snapshot(library) != one
        library.put(uid_of(1), video_entry(size=size))
        assert self.snapshot(library) == one

    @pytest.mark.parametrize("duration", [0.0, 0.001, 4.5, 86_400.25, 1e9])
    def test_durations(self, library: Library, duration: float) -> None:
        """Seconds, with their fractions."""
        library.put(uid_of(1), video_entry(duration=duration))
        one = self.snapshot(library)
        library.put(uid_of(1), video_entry(duration=duration + 0.0005))
        assert self.snapshot(library) != one

    @pytest.mark.parametrize(
        "entry",
        [
            video_entry(duration=float("nan")),
            video_entry(duration=float("inf")),
            video_entry(size=2**63),
            video_entry(size=-1),
            video_entry(name="\ud800"),
        ],
        ids=["not a number", "endless", "too large", "negative", "not Unicode"],
    )
    def test_what_cannot_be_kept_is_refused(self, library: Library, entry: Entry) -> None:
        """As content that will not do, for another attempt would not help; and nothing is left of it."""
        with pytest.raises(ContentRejected):
            library.put(uid_of(1), entry)
        library.put(uid_of(2), video_entry())

    # ── threads ───────────────────────────────────────────────────────────────────────────────────────────────

    def test_many_threads_with_an_upload_each(self, library: Library) -> None:
        """The engine calls for one upload at a time, but for many uploads at once."""
        barrier = Barrier(_THREADS)

        def work(number: int) -> None:
            uid, path = uid_of(number), f"Artist {number % 3}/{number}.mp4"
            barrier.wait()
            for _ in range(3):
                library.put(uid, video_entry(path, artist=f"Artist {number % 3}"))
                library.illustrate(uid, f"Artist {number % 3}/{number}", "frame-1.jpg", "preview.webp")
                library.forget(uid)
            if number % 2:
                library.put(uid, video_entry(path, artist=f"Artist {number % 3}"))

        _in_threads(work)
        after = self.snapshot(library)
        for number in range(_THREADS):
            library.forget(uid_of(number))
        for number in range(1, _THREADS, 2):
            library.put(uid_of(number), video_entry(f"Artist {number % 3}/{number}.mp4", artist=f"Artist {number % 3}"))
        assert self.snapshot(library) == after

    def test_threads_leave_nothing_behind(self, library: Library) -> None:
        """When everything is undone, the library is as it was before."""
        empty = self.snapshot(library)
        barrier = Barrier(_THREADS)

        def work(number: int) -> None:
            barrier.wait()
            for _ in range(3):
                library.put(
                    uid_of(number), video_entry(f"Artist/{number}.mp4", artist=("Artist", "ARTIST")[number % 2])
                )
                library.forget(uid_of(number))

        _in_threads(work)
        assert self.snapshot(library) == empty

    def test_many_threads_for_one_path(self, library: Library) -> None:
        """One of them has it at any time, and when all are undone, nobody."""
        empty = self.snapshot(library)
        barrier = Barrier(_THREADS)

        def work(number: int) -> None:
            barrier.wait()
            library.put(uid_of(number), album_entry() if number % 2 else video_entry(album_entry().songs[0].path))

        _in_threads(work)
        barrier = Barrier(_THREADS)

        def undo(number: int) -> None:
            barrier.wait()
            library.forget(uid_of(number))

        _in_threads(undo)
        assert self.snapshot(library) == empty

    # ── the music library ─────────────────────────────────────────────────────────────────────────────────────

    def test_find_sha1(self, library: Library) -> None:
        """It knows the paths of what is there now, in any order."""
        music = self._music(library)
        library.put(uid_of(1), video_entry("Artist/1.mp4", sha1="1" * 40))
        library.put(uid_of(2), video_entry("Artist/2.mp4", sha1="2" * 40))
        library.put(uid_of(3), video_entry("Artist/3.mp4", sha1="2" * 40))
        assert sorted(music.find_sha1("1" * 40)) == ["Artist/1.mp4"]
        assert sorted(music.find_sha1("2" * 40)) == ["Artist/2.mp4", "Artist/3.mp4"]
        assert list(music.find_sha1("3" * 40)) == []
        library.put(uid_of(2), video_entry("Artist/2.mp4", sha1="3" * 40))
        library.forget(uid_of(1))
        assert list(music.find_sha1("1" * 40)) == []
        assert list(music.find_sha1("2" * 40)) == ["Artist/3.mp4"]
        assert list(music.find_sha1("3" * 40)) == ["Artist/2.mp4"]

    def test_find_sha1_in_any_case(self, library: Library) -> None:
        """Clients write the digits of a checksum in either case."""
        music = self._music(library)
        library.put(uid_of(1), video_entry(sha1="abcdef0123" * 4))
        assert len(music.find_sha1("ABCDEF0123" * 4)) == 1

    def test_find_sha1_of_an_album(self, library: Library) -> None:
        """Its songs are known by their files, and the upload by the directory of its songs."""
        music = self._music(library)
        songs = [song_entry(f"Artist/2001 - Album/{n} Song.flac", number=n, sha1=f"{n:040x}") for n in (1, 2)]
        library.put(uid_of(1), album_entry(*songs, sha1="9" * 40))
        assert list(music.find_sha1(f"{2:040x}")) == ["Artist/2001 - Album/2 Song.flac"]
        assert list(music.find_sha1("9" * 40)) == ["Artist/2001 - Album"]
        library.put(uid_of(2), album_entry(*(evolve(song, sha1="8" * 40) for song in songs), sha1="7" * 40))
        assert list(music.find_sha1(f"{2:040x}")) == list(music.find_sha1("9" * 40)) == []  # they were replaced
        library.forget(uid_of(2))
        assert list(music.find_sha1("9" * 40)) == ["Artist/2001 - Album"]

    def test_find_artists(self, library: Library) -> None:
        """The one that matches first, then those that people mix up with it; nobody else."""
        music = self._music(library)
        library.put(uid_of(1), video_entry("1.mp4", artist="The Bj\u00f6rks"))
        library.put(uid_of(2), album_entry(song_entry(artist="Guest & Friends"), artist="BJORKS"))
        library.put(uid_of(3), video_entry("3.mp4", artist="Others"))
        assert list(music.find_artists("bjorks")) == ["BJORKS", "The Bj\u00f6rks"]
        assert list(music.find_artists("the bjo\u0308rks")) == ["The Bj\u00f6rks", "BJORKS"]
        assert sorted(music.find_artists("Bjorks, The")) == ["BJORKS", "The Bj\u00f6rks"]
        assert list(music.find_artists("guest and friends")) == ["Guest & Friends"]
        assert list(music.find_artists("Nobody")) == []
        library.forget(uid_of(2))
        assert list(music.find_artists("bjorks")) == ["The Bj\u00f6rks"]

    def test_find_songs(self, library: Library) -> None:
        """Of all the uploads that brought the album, by disc and number."""
        music = self._music(library)
        library.put(uid_of(1), _disc(2))
        library.put(uid_of(2), _disc(1, artist="ARTIST"))
        library.put(uid_of(3), album_entry(song_entry("other.flac"), release="1999"))
        assert list(music.find_songs("artist", "ALBUM", "2001")) == [*_disc(1).songs, *_disc(2).songs]
        assert list(music.find_songs("artist", "ALBUM", "1999")) == [song_entry("other.flac")]
        assert list(music.find_songs("artist", "album", "")) == []
        library.forget(uid_of(2))
        assert list(music.find_songs("Artist", "Album", "2001")) == [*_disc(2).songs]

    def test_find_albums(self, library: Library) -> None:
        """What an artwork with these names would be put to."""
        music = self._music(library)
        library.put(uid_of(1), album_entry(song_entry("1.flac"), release="1994"))
        [first] = music.find_albums("ARTIST", "album", None)
        library.put(uid_of(2), album_entry(song_entry("2.flac"), release="2001"))
        assert len(set(music.find_albums("Artist", "Album", None))) == 2
        assert list(music.find_albums("Artist", "Album", first)) == [first]
        assert list(music.find_albums("Nobody", "Nothing", first)) == [first]
        assert list(music.find_albums("Nobody", "Nothing", None)) == []
        library.forget(uid_of(1))
        assert first not in music.find_albums("Artist", "Album", first)

    def _music(self, library: Library) -> MusicLibrary:
        if not isinstance(library, MusicLibrary):
            pytest.skip("the adapter is no MusicLibrary: it answers no questions")
        return library

    # ── close ─────────────────────────────────────────────────────────────────────────────────────────────────

    def test_close_twice(self, library: Library) -> None:
        """Whoever closes need not know whether somebody did already."""
        library.put(uid_of(1), video_entry())
        library.close()
        library.close()


def _in_threads(work: Callable[[int], object]) -> list[object]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return [future.result(timeout=60) for future in [pool.submit(work, number) for number in range(_THREADS)]]
