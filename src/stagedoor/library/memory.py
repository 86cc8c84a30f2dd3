"""Catalogues without a file: one that remembers while the process lives, and one that does not listen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count
from threading import Lock

from attrs import evolve, frozen

from ..errors import StorageError
from ..ports import ArtworkEntry, Entry, VideoEntry
from .entries import (
    Album,
    Artist,
    Artwork,
    Illustration,
    Video,
    album_ambiguous,
    album_not_found,
    check_entry,
    check_text,
    entry_not_found,
    match_key,
    path_taken,
)

__all__ = ["MemoryLibrary", "NullLibrary"]


@frozen
class _Kept:
    entry: Entry
    album: str | None = None
    illustration: Illustration | None = None


class MemoryLibrary:
    """A `Library` in memory, with the meaning of `Catalogue` to the letter; for tests and for embedders.

    Everything but the entries and the albums added by hand is worked out when it is asked for. That makes it the
    model that `Catalogue` is compared with.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: dict[str, _Kept] = {}  # by uid, oldest first
        self._albums: dict[str, Album] = {}  # by id; with the album's own cover
        self._names: dict[str, str] = {}  # of artists added by hand, by match key
        self._ids = count(1)
        self._closed = False

    # ── the port ──────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, uid: str, entry: Entry) -> None:
        """Insert or update the one entry of an upload.

        Raises:
            TypeError: A value does not have the declared type.
            ContentRejected: ``path_taken``, ``album_not_found``, ``album_ambiguous``, ``invalid_text``,
                ``invalid_number``.
        """
        check_text("uid", uid)
        check_entry(entry)
        with self._lock:
            self._check_open()
            for other, kept in self._entries.items():
                if other != uid and kept.entry.path == entry.path and type(kept.entry) is type(entry):
                    raise path_taken(entry.path)
            album = self._find_album(entry) if isinstance(entry, ArtworkEntry) else None
            before = self._entries.get(uid)
            if before is not None and type(before.entry) is not type(entry):
                del self._entries[uid]
                before = None
            self._entries[uid] = _Kept(entry, album, before.illustration if before else None)

    def illustrate(self, uid: str, directory: str, thumbnail: str, preview: str) -> None:
        """Record the artwork of an entry.

        Raises:
            ContentRejected: ``entry_not_found``, ``invalid_text``.
        """
        for name, text in (("directory", directory), ("thumbnail", thumbnail), ("preview", preview)):
            check_text(name, text)
        with self._lock:
            self._check_open()
            if uid not in self._entries:
                raise entry_not_found(uid)
            illustration = Illustration(directory, thumbnail, preview)
            self._entries[uid] = evolve(self._entries[uid], illustration=illustration)

    def unillustrate(self, uid: str) -> None:
        """Take back what `illustrate` did; the entry stays. Without one, nothing happens."""
        with self._lock:
            self._check_open()
            if uid in self._entries:
                self._entries[uid] = evolve(self._entries[uid], illustration=None)

    def forget(self, uid: str) -> None:
        """Take back what `put` and `illustrate` did for an upload; an unknown one is no error."""
        with self._lock:
            self._check_open()
            self._entries.pop(uid, None)

    def find_sha1(self, sha1: str) -> Sequence[str]:
        """Relative paths, sorted, of the videos whose file has this SHA-1 (hex digits in any case)."""
        with self._lock:
            self._check_open()
            entries = [kept.entry for kept in self._entries.values()]
        return tuple(sorted(e.path for e in entries if isinstance(e, VideoEntry) and e.sha1.lower() == sha1.lower()))

    def close(self) -> None:
        """Everything else is a `StorageError` from now on. Idempotent."""
        with self._lock:
            self._closed = True

    # ── beyond the port ───────────────────────────────────────────────────────────────────────────────────────

    def add_album(self, artist: str, name: str, release: str = "", *, cover: str | None = None) -> str:
        """Make an album known; see `Catalogue.add_album`."""
        for label, text in (("artist", artist), ("name", name), ("release", release), ("cover", cover or "")):
            check_text(label, text)
        if not artist or not name:
            raise ValueError("An album needs an artist and a name.")
        with self._lock:
            self._check_open()
            self._names.setdefault(match_key(artist), artist)
            wanted = (match_key(artist), match_key(name), release)
            for album in self._albums.values():
                if (match_key(album.artist), match_key(album.name), album.release) == wanted:
                    return album.id
            album = Album(id=str(next(self._ids)), artist=artist, name=name, release=release, cover=cover)
            self._albums[album.id] = album
            return album.id

    def entry(self, uid: str) -> Video | Artwork | None:
        """What is known about an upload, or ``None``."""
        return next((e for e in self.entries() if e.uid == uid), None)

    def entries(self) -> tuple[Video | Artwork, ...]:
        """All entries, in the order in which they were put first."""
        with self._lock:
            self._check_open()
            names = self._artist_names()
            return tuple(
                Video(
                    uid=uid,
                    artist=names[match_key(kept.entry.artist)],
                    entry=kept.entry,
                    illustration=kept.illustration,
                )
                if isinstance(kept.entry, VideoEntry)
                else Artwork(uid=uid, album=kept.album, entry=kept.entry, illustration=kept.illustration)
                for uid, kept in self._entries.items()
            )

    def artists(self) -> tuple[Artist, ...]:
        """All artists, by name."""
        with self._lock:
            self._check_open()
            videos = Counter(match_key(e.artist) for e in self._video_entries())
            albums = Counter(match_key(album.artist) for album in self._albums.values())
            return tuple(
                Artist(name=name, videos=videos[key], albums=albums[key])
                for key, name in sorted(self._artist_names().items())
            )

    def albums(self) -> tuple[Album, ...]:
        """All albums with the covers that are shown, by artist, year and name."""
        with self._lock:
            self._check_open()
            covers = {kept.album: kept.entry.path for kept in self._entries.values() if kept.album}
            names = self._artist_names()
            albums = [
                evolve(album, artist=names[match_key(album.artist)], cover=covers.get(album.id, album.cover))
                for album in self._albums.values()
            ]
        return tuple(sorted(albums, key=lambda a: (match_key(a.artist), a.release, match_key(a.name))))

    # ── with the lock held ────────────────────────────────────────────────────────────────────────────────────

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("The catalogue is closed.", code="catalogue_closed")

    def _video_entries(self) -> list[VideoEntry]:
        return [kept.entry for kept in self._entries.values() if isinstance(kept.entry, VideoEntry)]

    def _artist_names(self) -> dict[str, str]:
        names = dict(self._names)
        for entry in self._video_entries():
            names.setdefault(match_key(entry.artist), entry.artist)
        return names

    def _find_album(self, entry: ArtworkEntry) -> str:
        if entry.albumid in self._albums:
            return self._albums[entry.albumid].id
        wanted = (match_key(entry.artist), match_key(entry.album))
        found = [a.id for a in self._albums.values() if (match_key(a.artist), match_key(a.name)) == wanted]
        if not found:
            raise album_not_found(entry)
        if len(found) > 1:
            raise album_ambiguous(entry)
        return found[0]


class NullLibrary:
    """A `Library` for servers without a catalogue: imports succeed, and nothing is kept.

    It rejects nothing, because it remembers nothing that could be in the way.
    """

    def put(self, uid: str, entry: Entry) -> None:
        """Do nothing."""

    def illustrate(self, uid: str, directory: str, thumbnail: str, preview: str) -> None:
        """Do nothing."""

    def unillustrate(self, uid: str) -> None:
        """Do nothing."""

    def forget(self, uid: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
