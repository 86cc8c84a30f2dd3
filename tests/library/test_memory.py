from collections.abc import Iterator

import pytest
from attrs import evolve

from stagedoor.errors import ContentRejected, StorageError
from stagedoor.library.entries import Album, Artist, Artwork, Illustration, Record, Video
from stagedoor.library.memory import MemoryLibrary, NullLibrary
from stagedoor.ports import Library, MusicLibrary, SongEntry
from stagedoor.testing.library import LibraryContract, artwork_entry, uid_of, video_entry


class TestContract(LibraryContract):
    @pytest.fixture
    def library(self) -> Iterator[Library]:
        library = MemoryLibrary()
        yield library
        library.close()

    def snapshot(self, library: Library) -> object:
        assert isinstance(library, MemoryLibrary)
        known = library.albums(limit=10_000)
        identities = {album.id: (album.artist, album.name, album.release) for album in known}
        return (
            library.artists(),
            [(evolve(album, id=""), songs_of(library, album.id)) for album in known],
            {
                (e.uid, None if isinstance(e, Video) else identities.get(e.album or ""), plain(e))
                for e in library.entries()
            },
        )

    def add_album(self, library: Library, artist: str, name: str) -> str | None:
        assert isinstance(library, MemoryLibrary)
        return library.add_album(artist, name)


def plain(record: Record) -> Record:
    return record if isinstance(record, Video) else evolve(record, album=None)


def songs_of(library: MemoryLibrary, albumid: str) -> list[SongEntry]:
    content = library.album(albumid)
    assert content is not None
    return [song.entry for disc in content.discs for song in disc.songs]


def test_it_tells_what_it_was_told() -> None:
    library = MemoryLibrary()
    albumid = library.add_album("Queen", "Jazz", "1978", cover="Queen - Jazz.jpg")
    video = video_entry("QUEEN/1.mp4", artist="QUEEN")
    cover = artwork_entry("Queen - Jazz (2).jpg", artist="queen", album="jazz")
    library.put(uid_of(1), video)
    library.put(uid_of(2), cover)
    library.illustrate(uid_of(1), "QUEEN/1", "frame-1.jpg", "preview.webp")

    assert library.entry(uid_of(1)) == Video(
        uid=uid_of(1),
        artist="Queen",
        entry=video,
        illustration=Illustration("QUEEN/1", "frame-1.jpg", "preview.webp"),
    )
    assert library.entry(uid_of(2)) == Artwork(uid=uid_of(2), album=albumid, entry=cover, illustration=None)
    assert library.entry(uid_of(3)) is None
    assert library.artists() == (Artist(name="Queen", videos=1, albums=1),)
    [album] = library.albums()
    assert album == Album(id=albumid, artist="Queen", name="Jazz", release="1978", cover="Queen - Jazz (2).jpg")
    library.forget(uid_of(2))
    assert library.albums()[0].cover == "Queen - Jazz.jpg"


def test_albums_of_one_name_differ_by_year_and_need_their_id() -> None:
    library = MemoryLibrary()
    first = library.add_album("Weezer", "Weezer", "1994")
    second = library.add_album("Weezer", "Weezer", "2001")
    assert library.add_album("WEEZER", "weezer", "1994") == first
    with pytest.raises(ContentRejected) as refusal:
        library.put(uid_of(1), artwork_entry(artist="Weezer", album="Weezer"))
    assert refusal.value.code == "album_ambiguous"
    library.put(uid_of(1), artwork_entry(artist="Weezer", album="Weezer", albumid=second))
    assert [album.cover for album in library.albums()] == [None, "Artist - Album.jpg"]


@pytest.mark.parametrize(("artist", "name"), [("", "Album"), ("Artist", "")])
def test_an_album_has_names(artist: str, name: str) -> None:
    with pytest.raises(ValueError, match="needs an artist and a name"):
        MemoryLibrary().add_album(artist, name)


def test_a_closed_one_refuses() -> None:
    library = MemoryLibrary()
    library.close()
    with pytest.raises(StorageError) as refusal:
        library.put(uid_of(1), video_entry())
    assert refusal.value.code == "catalogue_closed"


def test_the_null_library_takes_everything_and_keeps_nothing() -> None:
    library: Library = NullLibrary()
    library.put(uid_of(1), video_entry())
    library.put(uid_of(2), video_entry())
    library.put(uid_of(3), artwork_entry())
    library.illustrate(uid_of(4), "Artist/Name", "frame-1.jpg", "preview.webp")
    library.forget(uid_of(5))
    library.close()
    assert not isinstance(library, MusicLibrary)
