"""What the catalogues here have in common: how names match, what an entry may hold, what queries answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, get_type_hints

from attrs import frozen

from ..errors import ContentRejected
from ..names import match_key, similar_key
from ..ports import ArtworkEntry, Entry, VideoEntry

__all__ = [
    "Album",
    "Artist",
    "Artwork",
    "Counts",
    "Illustration",
    "Video",
    "album_ambiguous",
    "album_not_found",
    "check_entry",
    "check_text",
    "entry_not_found",
    "match_key",
    "path_taken",
    "similar_key",
]

_LARGEST: Final = 2**63 - 1
_TYPES: Final[Mapping[type, Mapping[str, Any]]] = {cls: get_type_hints(cls) for cls in (VideoEntry, ArtworkEntry)}


# ── what a catalogue can take ─────────────────────────────────────────────────────────────────────────────────


def check_entry(entry: Entry) -> None:
    """Refuse what no database can keep, before anything is written.

    Raises:
        TypeError: It is no entry, or a value does not have the declared type.
        ContentRejected: ``invalid_text``, a text is not Unicode (lone surrogates); ``invalid_number``, a number is
            negative, not finite, or does not fit into 63 bits.
    """
    types = _TYPES.get(type(entry))
    if types is None:
        raise TypeError(f"The catalogue takes a VideoEntry or an ArtworkEntry, not {type(entry).__name__}.")
    for name, declared in types.items():
        value = getattr(entry, name)
        allowed = int | float if declared is float else declared
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


def path_taken(path: str) -> ContentRejected:
    """The error for a path that belongs to another upload."""
    return ContentRejected(
        f"The catalogue has another upload's entry for {path[:200]!r}. Undo that upload, or choose another name.",
        code="path_taken",
    )


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
    """

    uid: str
    artist: str
    entry: VideoEntry
    illustration: Illustration | None


@frozen(kw_only=True)
class Artwork:
    """A cover in a catalogue, shown or not.

    Attributes:
        uid: The upload that it came from.
        album: Id of the album that it belongs to; ``None`` when the album has gone since.
        entry: As it was put last.
        illustration: Covers have none today.
    """

    uid: str
    album: str | None
    entry: ArtworkEntry
    illustration: Illustration | None


@frozen(kw_only=True)
class Artist:
    """An artist.

    Attributes:
        name: As somebody added it by hand, else as the oldest of the uploads that are there spells it.
        videos: Number of music videos.
        albums: Number of albums.
    """

    name: str
    videos: int
    albums: int


@frozen(kw_only=True)
class Album:
    """An album.

    Attributes:
        id: For `ArtworkEntry.albumid`; digits, never used again.
        artist: The catalogue's spelling.
        name: Title.
        release: Year, four digits, or empty.
        cover: Path in the artwork directory: the newest uploaded cover that is still there, else the album's own.
    """

    id: str
    artist: str
    name: str
    release: str
    cover: str | None


@frozen(kw_only=True)
class Counts:
    """How much there is."""

    artists: int
    albums: int
    songs: int
    videos: int
    artworks: int
