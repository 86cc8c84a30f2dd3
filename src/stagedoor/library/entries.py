"""What the catalogues here have in common: what an entry may hold, and what queries answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from itertools import takewhile
from types import UnionType
from typing import Any, Final, Literal, TypeAlias, get_origin, get_type_hints

from attrs import frozen

from ..errors import ContentRejected
from ..names import match_key, search_words, similar_key
from ..ports import AlbumEntry, ArtworkEntry, Entry, SongEntry, VideoEntry

__all__ = [
    "FIELDS",
    "KINDS",
    "MOST_SONGS",
    "MOST_WORDS",
    "Album",
    "AlbumContent",
    "AlbumUpload",
    "Artist",
    "Artwork",
    "Counts",
    "Disc",
    "Found",
    "Illustration",
    "Kind",
    "Record",
    "Song",
    "Video",
    "album_ambiguous",
    "album_not_found",
    "asked",
    "asked_words",
    "best_first",
    "check_entry",
    "check_field",
    "check_page",
    "check_text",
    "common_directory",
    "cover_path",
    "entry_not_found",
    "match_key",
    "similar_key",
]

MOST_SONGS: Final = 10_000
"""So many songs may one upload bring."""

_LARGEST: Final = 2**63 - 1
_TYPES: Final[Mapping[type, Mapping[str, Any]]] = {
    cls: get_type_hints(cls) for cls in (VideoEntry, ArtworkEntry, AlbumEntry, SongEntry)
}


# ── what a catalogue can take ─────────────────────────────────────────────────────────────────────────────────


def check_entry(entry: Entry) -> None:
    """Refuse what no database can keep, before anything is written.

    Raises:
        TypeError: It is no entry, or a value does not have the declared type.
        ContentRejected: ``invalid_text``, a text is not Unicode (lone surrogates); ``invalid_number``, a number is
            negative, not finite, does not fit into 63 bits, or is no disc; ``no_songs``, ``too_many_songs``,
            ``path_twice``, of an album.
    """
    if type(entry) not in _TYPES or isinstance(entry, SongEntry):
        raise TypeError(
            f"The catalogue takes a VideoEntry, an AlbumEntry or an ArtworkEntry, not {type(entry).__name__}."
        )
    _check_values(entry)
    if isinstance(entry, AlbumEntry):
        _check_songs(entry.songs)


def _check_songs(songs: tuple[SongEntry, ...]) -> None:
    if not songs:
        raise ContentRejected("An album needs at least one song. Upload one that has some.", code="no_songs")
    if len(songs) > MOST_SONGS:
        raise ContentRejected(
            f"The album has {len(songs)} songs, and the catalogue takes {MOST_SONGS} of one upload. "
            "Upload it in several parts.",
            code="too_many_songs",
        )
    paths: set[str] = set()
    for song in songs:
        if not isinstance(song, SongEntry):
            raise TypeError(f"songs must be of SongEntry, not {type(song).__name__}.")
        _check_values(song)
        if song.disc < 1:
            raise ContentRejected("The disc 0 is none: discs are numbered from 1 up.", code="invalid_number")
        if song.path in paths:
            raise ContentRejected(
                f"Two songs of the album have the path {song.path[:200]!r}. Give each its own number or title.",
                code="path_twice",
            )
        paths.add(song.path)


def _check_values(entry: Entry | SongEntry) -> None:
    for name, declared in _TYPES[type(entry)].items():
        value = getattr(entry, name)
        allowed = int | float if declared is float else get_origin(declared) or declared
        if allowed is UnionType:
            allowed = declared
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise TypeError(f"{name} must be {getattr(declared, '__name__', declared)}, not {type(value).__name__}.")
        if isinstance(value, str):
            check_text(name, value)
        elif isinstance(value, int | float) and not (math.isfinite(value) and 0 <= value <= _LARGEST):
            raise ContentRejected(f"The {name} {value!r} is no number that a file can have.", code="invalid_number")


def check_text(name: str, text: str) -> None:
    """Refuse text that has no UTF-8 form.

    Raises:
        TypeError: Not a ``str``.
        ContentRejected: ``invalid_text``.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ContentRejected(
            f"The {name} is not Unicode text. Write it anew and import again.", code="invalid_text"
        ) from None


def album_not_found(entry: ArtworkEntry) -> ContentRejected:
    """The error for an artwork whose album is not in the catalogue."""
    return ContentRejected(
        f"The catalogue has no album {entry.album[:100]!r} by {entry.artist[:100]!r}. "
        "Correct the names, or import the album first.",
        code="album_not_found",
    )


def album_ambiguous(entry: ArtworkEntry) -> ContentRejected:
    """The error for an artwork whose names fit several albums."""
    return ContentRejected(
        f"{entry.artist[:100]!r} has more than one album called {entry.album[:100]!r}. Name it by its id.",
        code="album_ambiguous",
    )


def entry_not_found(uid: str) -> ContentRejected:
    """The error for the illustration of an entry that is not there."""
    return ContentRejected(
        f"The catalogue has no entry of upload {uid[:64]!r}. Import the upload again.", code="entry_not_found"
    )


def check_page(limit: int, offset: int = 0) -> None:
    """Refuse a page that cannot be.

    Raises:
        ValueError: A number is negative, or beyond 63 bits.
    """
    if not (0 <= limit <= _LARGEST and 0 <= offset <= _LARGEST):
        raise ValueError("limit and offset must be numbers from 0 up.")


def check_field(field: str) -> None:
    """Refuse to suggest what is no field.

    Raises:
        ValueError: It is none of `FIELDS`.
    """
    if field not in FIELDS:
        raise ValueError(f"The catalogue suggests {', '.join(FIELDS)}; it knows no field {field[:40]!r}.")


_LONGEST_QUESTION: Final = 1000
MOST_WORDS: Final = 16
"""So many words of a question are looked for."""


def asked(text: str) -> str:
    """What of a question is looked at: its first 1,000 characters. Nobody types more, and everybody waits meanwhile."""
    return text[:_LONGEST_QUESTION]


def asked_words(text: str) -> tuple[str, ...]:
    """The words to look for: the first 16."""
    return search_words(asked(text))[:MOST_WORDS]


# ── what is derived ───────────────────────────────────────────────────────────────────────────────────────────


def common_directory(paths: Collection[str]) -> str:
    """The innermost directory that these files have in common, without a slash at its end; empty when none."""
    least, most = (path.split("/")[:-1] for path in (min(paths), max(paths)))
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))
    return "/".join(part for part, _ in shared)


def cover_path(directory: str, preview: str) -> str:
    """Where the cover is that an illustration shows, in the artwork directory."""
    return f"{directory}/{preview}" if directory else preview


# ── what queries answer ───────────────────────────────────────────────────────────────────────────────────────


@frozen
class Illustration:
    """Artwork of an entry, as `Library.illustrate` was told.

    Attributes:
        directory: In the artwork tree, relative.
        thumbnail: File name in ``directory``.
        preview: File name in ``directory``.
    """

    directory: str
    thumbnail: str
    preview: str


@frozen(kw_only=True)
class Video:
    """A music video in a catalogue.

    Attributes:
        uid: The upload that it came from.
        artist: The catalogue's spelling of the artist; ``entry.artist`` is the upload's.
        entry: As it was put last.
        illustration: ``None`` until the artwork was made.
        replaced: Whether a later upload's file has its path now. It comes back when that upload is forgotten.
    """

    uid: str
    artist: str
    entry: VideoEntry
    illustration: Illustration | None
    replaced: bool = False

    @property
    def path(self) -> str:
        """In the music directory."""
        return self.entry.path


@frozen(kw_only=True)
class Artwork:
    """A cover in a catalogue, shown or not.

    Attributes:
        uid: The upload that it came from.
        album: Id of the album that it belongs to; ``None`` while there is no such album any more.
        entry: As it was put last.
        illustration: Covers have none today.
        replaced: Whether a later upload's file has its path now. It comes back when that upload is forgotten.
    """

    uid: str
    album: str | None
    entry: ArtworkEntry
    illustration: Illustration | None
    replaced: bool = False

    @property
    def path(self) -> str:
        """In the artwork directory."""
        return self.entry.path


@frozen(kw_only=True)
class AlbumUpload:
    """What one upload brought of an album.

    Attributes:
        uid: The upload.
        album: Id of the album; ``None`` while nothing of it is there, because later uploads replaced it all.
        entry: As it was put last.
        illustration: ``None`` until the artwork was made.
        replaced: Paths of its songs whose place a later upload's files have, sorted.
    """

    uid: str
    album: str | None
    entry: AlbumEntry
    illustration: Illustration | None
    replaced: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The directory that its songs have in common, in the music directory."""
        return common_directory([song.path for song in self.entry.songs])


Record: TypeAlias = Video | Artwork | AlbumUpload
"""What is known about an upload."""


@frozen(kw_only=True)
class Song:
    """A song in a catalogue.

    Attributes:
        uid: The upload that it came from.
        artist: The catalogue's spelling of the song's artist; ``entry.artist`` is the upload's.
        album: Id of the album.
        entry: As it was put last.
    """

    uid: str
    artist: str
    album: str
    entry: SongEntry


@frozen(kw_only=True)
class Artist:
    """An artist.

    Attributes:
        name: As somebody added it by hand, else as the oldest of the uploads that are there spells it.
        videos: Number of music videos.
        albums: Number of albums.
        songs: Number of songs, also on albums of others.
    """

    name: str
    videos: int
    albums: int
    songs: int = 0


@frozen(kw_only=True)
class Album:
    """An album.

    Attributes:
        id: For `ArtworkEntry.albumid`; digits, never used again for another album.
        artist: The catalogue's spelling.
        name: Title, as somebody added it by hand, else as the oldest of the uploads that are there spells it.
        release: Year, four digits, or empty.
        cover: Path in the artwork directory: of the newest upload that is there and brought or made one, else the
            album's own.
    """

    id: str
    artist: str
    name: str
    release: str
    cover: str | None


@frozen(kw_only=True)
class Disc:
    """A disc of an album: its songs, by number and path."""

    number: int
    songs: tuple[Song, ...]


@frozen(kw_only=True)
class AlbumContent:
    """An album and what is on it.

    Attributes:
        album: The album.
        origin: Where it came from, as the oldest of the uploads says that says so; else empty.
        discs: By number; none of an album that was added by hand and no upload brought songs of.
    """

    album: Album
    origin: str
    discs: tuple[Disc, ...]


@frozen(kw_only=True)
class Counts:
    """How much there is; what is replaced is not."""

    artists: int
    albums: int
    discs: int
    songs: int
    videos: int
    artworks: int


Kind: TypeAlias = Literal["artist", "album", "song", "video"]
KINDS: Final[tuple[Kind, ...]] = ("artist", "album", "song", "video")
"""What a search finds, in this order."""

FIELDS: Final = ("artist", "album", "release", "origin")
"""What is suggested for annotations."""


@frozen(kw_only=True)
class Found:
    """Something that a search found.

    Attributes:
        kind: What it is.
        name: Of the artist, or title.
        artist: The catalogue's spelling; of a song its own, of an artist empty.
        album: Name of the song's album; else empty.
        release: Year of an album (also of the song's) or of a video; else empty.
        id: Of the album, also of the song's; else ``None``.
        path: Of a song or a video in the music directory; else ``None``.
    """

    kind: Kind
    name: str
    artist: str = ""
    album: str = ""
    release: str = ""
    id: str | None = None
    path: str | None = None


def best_first(found: Iterable[Found], words: Collection[str]) -> list[Found]:
    """Of one kind: first those whose own name has all the words, and of these the short ones; then by names."""

    def order(one: Found) -> tuple[object, ...]:
        own = search_words(one.name)
        named = all(any(word.startswith(wanted) for word in own) for wanted in words)
        return (
            not named,
            len(own) if named else 0,
            match_key(one.name),
            match_key(one.artist),
            match_key(one.album),
            one.release,
            one.path or "",
        )

    return sorted(found, key=order)
