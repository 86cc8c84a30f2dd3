"""Catalogues without a file: one that remembers while the process lives, and one that does not listen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from threading import Lock
from typing import TypeAlias

from attrs import evolve, frozen

from ..errors import StorageError
from ..names import match_key, search_words, similar_key
from ..ports import AlbumEntry, ArtworkEntry, Entry, SongEntry, VideoEntry
from .entries import (
    Album,
    AlbumContent,
    AlbumUpload,
    Artist,
    Artwork,
    Counts,
    Disc,
    Found,
    Illustration,
    Record,
    Song,
    Video,
    album_ambiguous,
    album_not_found,
    asked,
    asked_words,
    best_first,
    check_entry,
    check_field,
    check_page,
    check_text,
    common_directory,
    cover_path,
    entry_not_found,
)

__all__ = ["MemoryLibrary", "NullLibrary"]

_Identity: TypeAlias = tuple[str, str, str]
"""Match key of the artist, match key of the name, release: what makes two albums one."""


@frozen
class _Kept:
    entry: Entry
    target: _Identity | None = None  # of an artwork: the album that was found for it
    illustration: Illustration | None = None


@frozen
class _ByHand:
    artist: str
    name: str
    cover: str | None


class MemoryLibrary:
    """A `Library` in memory, with the meaning of `Catalogue` to the letter; for tests and for embedders.

    Everything but the entries and the albums added by hand is worked out when it is asked for. That makes it the
    model that `Catalogue` is compared with; it is not made for more than some hundred entries.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: dict[str, _Kept] = {}  # by uid, oldest first
        self._by_hand: dict[_Identity, _ByHand] = {}
        self._names: dict[str, str] = {}  # of artists added by hand, by match key
        self._ids: dict[_Identity, str] = {}  # of the albums to which something refers
        self._next_id = count(1)
        self._closed = False

    # ── the port ──────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, uid: str, entry: Entry) -> None:
        """Insert or update the one entry of an upload.

        Raises:
            TypeError: A value does not have the declared type.
            ContentRejected: ``album_not_found``, ``album_ambiguous``, ``invalid_text``, ``invalid_number``,
                ``no_songs``, ``too_many_songs``, ``path_twice``.
        """
        check_text("uid", uid)
        check_entry(entry)
        with self._lock:
            self._check_open()
            target = self._find_album(entry) if isinstance(entry, ArtworkEntry) else None
            before = self._entries.get(uid)
            if before is not None and type(before.entry) is not type(entry):
                del self._entries[uid]
                before = None
            self._entries[uid] = _Kept(entry, target, before.illustration if before else None)
            self._settle_ids()

    def illustrate(self, uid: str, directory: str, thumbnail: str, preview: str) -> None:
        """Record the artwork of an entry. Of an album upload, ``directory/preview`` is the album's cover from now on.

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
            self._settle_ids()

    def find_sha1(self, sha1: str) -> Sequence[str]:
        """Relative paths, sorted, of what has this SHA-1; see `Catalogue.find_sha1`."""
        wanted = sha1.lower()
        paths: set[str] = set()
        with self._lock:
            self._check_open()
            paths.update(video.path for _, video in self._videos() if video.sha1.lower() == wanted)
            for _, entry, songs in self._parts():
                same = {song.path for song in songs if song.sha1.lower() == wanted}
                if entry.sha1.lower() == wanted and not same:
                    among = [song.path for song in songs]
                    same = {common_directory(among) or min(among)}
                paths |= same
        return tuple(sorted(paths))

    def find_artists(self, name: str) -> Sequence[str]:
        """The spelling of the artist whose name matches, then of those with a similar one, by name."""
        key, similar = match_key(name), similar_key(name)
        with self._lock:
            self._check_open()
            found = sorted((k != key, k, n) for k, n in self._artist_names().items() if similar_key(k) == similar)
        return tuple(spelled for _, _, spelled in found)

    def find_songs(self, artist: str, album: str, release: str) -> Sequence[SongEntry]:
        """The songs of an album, by disc, number and path; empty when it is not known."""
        with self._lock:
            self._check_open()
            return tuple(song.entry for song in self._songs_of((match_key(artist), match_key(album), release)))

    def find_albums(self, artist: str, album: str, albumid: str | None) -> Sequence[str]:
        """The ids of the albums that an artwork with these names would be the cover of, by year."""
        with self._lock:
            self._check_open()
            return tuple(self._ids[found] for found in self._candidates(artist, album, albumid))

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
            identity = (match_key(artist), match_key(name), release)
            self._by_hand.setdefault(identity, _ByHand(artist, name, cover))
            self._settle_ids()
            return self._ids[identity]

    def entry(self, uid: str) -> Record | None:
        """What is known about an upload, or ``None``."""
        return next((e for e in self.entries() if e.uid == uid), None)

    def entries(self) -> tuple[Record, ...]:
        """What is known about all uploads, in the order in which they were put first."""
        with self._lock:
            self._check_open()
            return tuple(self._record(uid, kept) for uid, kept in self._entries.items())

    def artists(self) -> tuple[Artist, ...]:
        """All artists, by name."""
        with self._lock:
            self._check_open()
            videos = Counter(match_key(video.artist) for _, video in self._videos())
            songs = Counter(match_key(song.artist) for _, _, brought in self._parts() for song in brought)
            albums = Counter(artist for artist, _, _ in self._albums())
            return tuple(
                Artist(name=name, videos=videos[key], albums=albums[key], songs=songs[key])
                for key, name in sorted(self._artist_names().items())
            )

    def albums(self, *, artist: str | None = None, limit: int = 100, offset: int = 0) -> tuple[Album, ...]:
        """A page of the albums with the covers that are shown, by artist, year and name."""
        check_page(limit, offset)
        with self._lock:
            self._check_open()
            albums = sorted(self._albums().items(), key=lambda pair: (pair[0][0], pair[0][2], pair[0][1]))
            wanted = None if artist is None else match_key(artist)
            return tuple(a for key, a in albums if wanted in (None, key[0]))[offset : offset + limit]

    def album(self, albumid: str) -> AlbumContent | None:
        """An album and what is on it, or ``None``."""
        with self._lock:
            self._check_open()
            for identity, album in self._albums().items():
                if album.id == albumid:
                    songs = self._songs_of(identity)
                    discs = sorted({song.entry.disc for song in songs})
                    origins = [entry.origin for _, entry, _ in self._parts() if _identity(entry) == identity]
                    return AlbumContent(
                        album=album,
                        origin=next(filter(None, origins), ""),
                        discs=tuple(
                            Disc(number=n, songs=tuple(song for song in songs if song.entry.disc == n)) for n in discs
                        ),
                    )
        return None

    def songs(
        self, *, artist: str | None = None, search: str | None = None, limit: int = 100, offset: int = 0
    ) -> tuple[Song, ...]:
        """A page of the songs, by name and path; see `Catalogue.songs`."""
        check_page(limit, offset)
        check_text("search", search or "")
        wanted, words = None if artist is None else match_key(artist), asked_words(search or "")
        with self._lock:
            self._check_open()
            if search and search.strip() and not words:
                return ()
            found = [
                song
                for identity in self._albums()
                for song in self._songs_of(identity)
                if wanted in (None, match_key(song.entry.artist))
                and _has(words, song.entry.name, song.entry.artist, *identity[:2])
            ]
        found.sort(key=lambda song: (match_key(song.entry.name), song.entry.path))
        return tuple(found[offset : offset + limit])

    def search(self, text: str, limit: int = 20) -> tuple[Found, ...]:
        """What has all the words of a text in its names; see `Catalogue.search`."""
        check_page(limit)
        check_text("text", text)
        words = asked_words(text)
        if not words:
            return ()
        with self._lock:
            self._check_open()
            names, albums = self._artist_names(), self._albums()
            everything = (
                [Found(kind="artist", name=name) for name in names.values() if _has(words, name)],
                [
                    Found(kind="album", name=album.name, artist=album.artist, release=album.release, id=album.id)
                    for album in albums.values()
                    if _has(words, album.name, album.artist)
                ],
                [
                    Found(
                        kind="song",
                        name=song.entry.name,
                        artist=song.artist,
                        album=album.name,
                        release=album.release,
                        id=album.id,
                        path=song.entry.path,
                    )
                    for identity, album in albums.items()
                    for song in self._songs_of(identity)
                    if _has(words, song.entry.name, song.artist, album.name, album.artist)
                ],
                [
                    Found(
                        kind="video",
                        name=video.name,
                        artist=names[match_key(video.artist)],
                        release=video.release,
                        path=video.path,
                    )
                    for _, video in self._videos()
                    if _has(words, video.name, video.artist)
                ],
            )
        return tuple(one for found in everything for one in best_first(found, words)[:limit])

    def suggest(self, field: str, prefix: str = "", limit: int = 10, *, artist: str | None = None) -> tuple[str, ...]:
        """How an annotation may go on; see `Catalogue.suggest`."""
        check_field(field)
        check_page(limit)
        check_text("prefix", prefix)
        prefix = asked(prefix)
        key, similar = match_key(prefix), similar_key(prefix)
        owner = None if artist is None else match_key(artist)
        with self._lock:
            self._check_open()
            if field == "artist":
                return _spellings(self._artist_names(), key, similar)[:limit]
            albums = {i: album for i, album in self._albums().items() if owner in (None, i[0])}
            videos = [video for _, video in self._videos() if owner in (None, match_key(video.artist))]
            if field == "album":
                names: dict[str, str] = {}
                for (_, name, _), album in albums.items():
                    names[name] = min(names.get(name, album.name), album.name)
                return _spellings(names, key, similar)[:limit]
            if field == "release":
                releases = {release for _, _, release in albums} | {video.release for video in videos}
                return tuple(sorted(r for r in releases if r and r.startswith(prefix)))[:limit]
            origins = Counter(video.origin for video in videos)
            origins.update(e.origin for _, e, _ in self._parts() if owner in (None, match_key(e.artist)))
        fitting = [(-n, origin) for origin, n in origins.items() if origin and match_key(origin).startswith(key)]
        return tuple(origin for _, origin in sorted(fitting))[:limit]

    def counts(self) -> Counts:
        """How much there is."""
        with self._lock:
            self._check_open()
            albums = self._albums()
            songs = [(identity, song) for identity in albums for song in self._songs_of(identity)]
            return Counts(
                artists=len(self._artist_names()),
                albums=len(albums),
                discs=len({(identity, song.entry.disc) for identity, song in songs}),
                songs=len(songs),
                videos=len(list(self._videos())),
                artworks=sum(artwork for _, _, artwork in self._pictures().values()),
            )

    # ── with the lock held ────────────────────────────────────────────────────────────────────────────────────

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("The catalogue is closed.", code="catalogue_closed")

    def _owners(self) -> dict[str, str]:
        """Whose file is there, by path in the music directory: that of the newest upload."""
        owners = {}
        for uid, kept in self._entries.items():
            if isinstance(kept.entry, VideoEntry):
                owners[kept.entry.path] = uid
            elif isinstance(kept.entry, AlbumEntry):
                owners.update((song.path, uid) for song in kept.entry.songs)
        return owners

    def _videos(self) -> Iterator[tuple[str, VideoEntry]]:
        """The music videos that are there, oldest first, with their uploads."""
        owners = self._owners()
        for uid, kept in self._entries.items():
            if isinstance(kept.entry, VideoEntry) and owners[kept.entry.path] == uid:
                yield uid, kept.entry

    def _parts(self) -> Iterator[tuple[str, AlbumEntry, list[SongEntry]]]:
        """The uploads of albums of which songs are there, oldest first, with these songs."""
        owners = self._owners()
        for uid, kept in self._entries.items():
            if isinstance(kept.entry, AlbumEntry):
                songs = [song for song in kept.entry.songs if owners[song.path] == uid]
                if songs:
                    yield uid, kept.entry, songs

    def _pictures(self) -> dict[str, tuple[str, _Identity, bool]]:
        """The covers that are there by path: upload, album, whether it is an artwork. The newest upload is last."""
        pictures: dict[str, tuple[str, _Identity, bool]] = {}
        for uid, kept in self._entries.items():
            if isinstance(kept.entry, ArtworkEntry):
                assert kept.target is not None
                path, album, artwork = kept.entry.path, kept.target, True
            elif isinstance(kept.entry, AlbumEntry) and kept.illustration is not None:
                path = cover_path(kept.illustration.directory, kept.illustration.preview)
                album, artwork = _identity(kept.entry), False
            else:
                continue
            pictures.pop(path, None)
            pictures[path] = uid, album, artwork
        return pictures

    def _artist_names(self) -> dict[str, str]:
        names = dict(self._names)
        owners = self._owners()
        for uid, kept in self._entries.items():
            if isinstance(kept.entry, VideoEntry) and owners[kept.entry.path] == uid:
                names.setdefault(match_key(kept.entry.artist), kept.entry.artist)
            elif isinstance(kept.entry, AlbumEntry):
                songs = [song for song in kept.entry.songs if owners[song.path] == uid]
                for name in [kept.entry.artist, *sorted(song.artist for song in songs)] if songs else ():
                    names.setdefault(match_key(name), name)
        return names

    def _albums(self) -> dict[_Identity, Album]:
        """The albums that are there: added by hand, or with a song."""
        spelled = {identity: album.name for identity, album in self._by_hand.items()}
        for _, entry, _ in self._parts():
            spelled.setdefault(_identity(entry), entry.name)
        covers = {identity: album.cover for identity, album in self._by_hand.items()}
        covers.update((album, path) for path, (_, album, _) in self._pictures().items())
        names = self._artist_names()
        return {
            identity: Album(
                id=self._ids[identity],
                artist=names[identity[0]],
                name=name,
                release=identity[2],
                cover=covers.get(identity),
            )
            for identity, name in spelled.items()
        }

    def _songs_of(self, album: _Identity) -> list[Song]:
        names = self._artist_names()
        songs = [
            Song(uid=uid, artist=names[match_key(song.artist)], album=self._ids[album], entry=song)
            for uid, entry, brought in self._parts()
            if _identity(entry) == album
            for song in brought
        ]
        return sorted(songs, key=lambda song: (song.entry.disc, song.entry.number, song.entry.path))

    def _settle_ids(self) -> None:
        """An album has its id as long as something refers to it, be it a song that was replaced."""
        entries = [kept.entry for kept in self._entries.values()]
        there = [*self._by_hand, *(_identity(entry) for entry in entries if isinstance(entry, AlbumEntry))]
        self._ids = {identity: self._ids.get(identity) or str(next(self._next_id)) for identity in there}

    def _candidates(self, artist: str, album: str, albumid: str | None) -> list[_Identity]:
        there = self._albums()
        named = [identity for identity, known in there.items() if known.id == albumid]
        wanted = (match_key(artist), match_key(album))
        return named or sorted(identity for identity in there if identity[:2] == wanted)

    def _find_album(self, entry: ArtworkEntry) -> _Identity:
        found = self._candidates(entry.artist, entry.album, entry.albumid)
        if not found:
            raise album_not_found(entry)
        if len(found) > 1:
            raise album_ambiguous(entry)
        return found[0]

    def _record(self, uid: str, kept: _Kept) -> Record:
        entry = kept.entry
        if isinstance(entry, AlbumEntry):
            owners = self._owners()
            album = self._albums().get(_identity(entry))
            return AlbumUpload(
                uid=uid,
                album=album.id if album else None,
                entry=entry,
                illustration=kept.illustration,
                replaced=tuple(sorted(song.path for song in entry.songs if owners[song.path] != uid)),
            )
        if isinstance(entry, ArtworkEntry):
            assert kept.target is not None
            there = self._albums().get(kept.target)
            replaced = self._pictures()[entry.path][0] != uid
            return Artwork(
                uid=uid,
                album=there.id if there else None,
                entry=entry,
                illustration=kept.illustration,
                replaced=replaced,
            )
        return Video(
            uid=uid,
            artist=self._artist_names().get(match_key(entry.artist), entry.artist),
            entry=entry,
            illustration=kept.illustration,
            replaced=self._owners()[entry.path] != uid,
        )


def _identity(entry: AlbumEntry) -> _Identity:
    return match_key(entry.artist), match_key(entry.name), entry.release


def _has(words: Sequence[str], *names: str) -> bool:
    there = {word for name in names for word in search_words(name)}
    return all(any(word.startswith(wanted) for word in there) for wanted in words)


def _spellings(names: dict[str, str], key: str, similar: str) -> tuple[str, ...]:
    """Names by their match keys: those that begin like this, then those that do so but for article and accents."""
    fitting = [
        (not k.startswith(key), k, name)
        for k, name in names.items()
        if k.startswith(key) or (similar and similar_key(k).startswith(similar))
    ]
    return tuple(name for _, _, name in sorted(fitting))


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
