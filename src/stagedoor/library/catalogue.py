"""The embedded music database: one SQLite file, the default target of imports.

What uploads did is taken back exactly because little of it is stored. Every entry hangs on a row of ``uploads``,
whose numbers say who came first; the rest is *derived* from the entries that are there:

* a path belongs to the newest upload that claims it; the song, video or cover of an older one is *replaced*, and is
  not there for whoever asks, until the newer one is forgotten;
* an album that nobody added by hand is there as long as a song of it is, and an artist as long as anything refers to
  it; either is spelled as the oldest upload spells it that is there;
* the cover of an album is that of the newest upload that is there and brought or made one, else the album's own.

So there is no former cover to put back, and no order in which uploads may be forgotten: what remains is what would
be there had the forgotten upload never come. The price is a look at the other entries whenever one changes; `rows`
does that, and `checks` knows how everything must fit together.

Threads share *one connection under one lock*. SQLite has one writer at a time whatever we do, an import writes a
few rows, and a page reads some hundred; a connection a thread would gain nothing that can be felt here, and
could not be closed by the thread that closes the catalogue. Other processes may read and write beside us: the file
is in WAL mode, and every transaction that writes starts by taking the write lock, so that none fails halfway.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Final, Self

import orjson

from ..errors import ContentRejected, StorageError, StorageFull, UploadError
from ..names import match_key, similar_key
from ..ports import AlbumEntry, ArtworkEntry, Entry, SongEntry, VideoEntry
from .checks import content_hash, faults
from .entries import (
    KINDS,
    MOST_WORDS,
    Album,
    AlbumContent,
    AlbumUpload,
    Artist,
    Artwork,
    Counts,
    Disc,
    Found,
    Illustration,
    Kind,
    Record,
    Song,
    Video,
    asked,
    asked_words,
    best_first,
    check_entry,
    check_field,
    check_page,
    check_text,
    common_directory,
    entry_not_found,
)
from .rows import SONG_FIELDS, VIDEO_FIELDS, candidates, keep_album, one, put, set_picture, settling, upload_of
from .schema import check_sqlite, prepare, prepare_to_look, transaction

__all__ = ["Catalogue"]

_LAST: Final = "\U0010ffff"
"""Sorts behind every character of a name."""
_FIT_ALIKE: Final = 100

_VIDEOS: Final = """
    SELECT uid, iif(artists.shown, artists.name, credit) AS spelled, path, credit AS artist, videos.name, release,
        origin, size, sha1, sha256, duration, width, height, codec, directory, thumbnail, preview, videos.shown
    FROM videos JOIN uploads ON seq = videos.upload JOIN artists ON artists.id = videos.artist
        LEFT JOIN illustrations USING (upload)
"""

_SONGS: Final = """
    SELECT uid, artists.name AS spelled, album, path, songs.name, credit AS artist, disc, number, size, sha1, sha256,
        duration, codec
    FROM songs JOIN uploads ON seq = upload JOIN artists ON artists.id = songs.artist
"""

_ALBUMS: Final = """
    SELECT albums.id, artists.name AS artist, albums.name, release, covers.path AS cover
    FROM albums JOIN artists ON artists.id = albums.artist JOIN covers ON covers.album = albums.id
"""

_FINDINGS: Final[Mapping[Kind, str]] = {
    "artist": "SELECT name FROM artists WHERE id IN (SELECT value FROM json_each(?))",
    "album": """
        SELECT albums.name, artists.name AS artist, release, CAST(albums.id AS TEXT) AS id
        FROM albums JOIN artists ON artists.id = albums.artist WHERE albums.id IN (SELECT value FROM json_each(?))
    """,
    "song": """
        SELECT songs.name, artists.name AS artist, albums.name AS album, release, CAST(albums.id AS TEXT) AS id, path
        FROM songs JOIN albums ON albums.id = songs.album JOIN artists ON artists.id = songs.artist
        WHERE songs.id IN (SELECT value FROM json_each(?))
    """,
    "video": """
        SELECT videos.name, artists.name AS artist, release, path
        FROM videos JOIN artists ON artists.id = videos.artist WHERE upload IN (SELECT value FROM json_each(?))
    """,
}
"""What the rows that a search found are, by the numbers of the rows."""

_NAMES_LIKE: Final = """
    SELECT name FROM (
        SELECT * FROM (
            SELECT 0 AS later, key, {name} AS name FROM {table}
            WHERE shown AND {owner} AND key >= :key AND key < :key_end GROUP BY key ORDER BY key LIMIT :limit
        ) UNION ALL SELECT * FROM (
            SELECT 1, key, {name} FROM {table} WHERE shown AND {owner} AND similar >= :similar
                AND similar < :similar_end AND NOT (key >= :key AND key < :key_end)
            GROUP BY key ORDER BY key LIMIT :limit
        ) ORDER BY later, key LIMIT :limit
    )
"""
_OWNED: Final = "(:artist IS NULL OR artist = (SELECT id FROM artists WHERE key = :artist))"
_OWNED_PART: Final = (
    "(:artist IS NULL OR album IN "
    "(SELECT albums.id FROM albums JOIN artists ON artists.id = albums.artist WHERE artists.key = :artist))"
)
_SUGGESTIONS: Final[Mapping[str, str]] = {
    "artist": _NAMES_LIKE.format(table="artists", name="name", owner="1"),
    "album": _NAMES_LIKE.format(table="albums", name="min(name)", owner=_OWNED),
    "release": f"""
        SELECT release AS name FROM albums WHERE shown AND release <> '' AND {_OWNED}
            AND substr(release, 1, length(:prefix)) = :prefix
        UNION SELECT release FROM videos WHERE shown AND release <> '' AND {_OWNED}
            AND substr(release, 1, length(:prefix)) = :prefix
        ORDER BY 1 LIMIT :limit
    """,  # noqa: S608 -- constants
    "origin": f"""
        SELECT origin AS name FROM (
            SELECT origin, count(*) AS uses FROM videos WHERE shown AND {_OWNED} GROUP BY origin
            UNION ALL SELECT origin, count(*) FROM parts WHERE shown AND {_OWNED_PART} GROUP BY origin
        ) WHERE origin <> '' GROUP BY origin ORDER BY sum(uses) DESC, origin
    """,  # noqa: S608 -- constants
}


class Catalogue:
    """A `Library` in an SQLite file. Open it with `open`, and close it, or use it as a context manager.

    All methods may be called from many threads. Errors of the database are `StorageError` (``catalogue_damaged``,
    ``catalogue_busy``, ``catalogue_closed``, else ``storage_error``), a full disk is `StorageFull`; after either,
    the catalogue is as it was before the call.
    """

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._name = name
        self._lock = Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, durable: bool = True, timeout: float = 5.0) -> Self:
        """Open a catalogue, or make an empty one, and bring an older one to the present schema.

        Args:
            path: Of the file; its directory must exist. ``":memory:"`` keeps everything in memory.
            durable: Whether what a method wrote survives a power cut once it has returned. ``False``, for tests,
                survives a killed process only.
            timeout: How long to wait for another process that writes, in seconds.

        Raises:
            ConfigurationError: The file belongs to a newer version or to another program, its file system cannot
                do what is needed, or SQLite is too old or has no FTS5.
            StorageError: It cannot be opened, or it is damaged.
            StorageFull: No room.
        """
        check_sqlite()
        place = os.fspath(path)
        name = os.path.basename(place)
        with _translated(name):
            # No implicit transactions: which statements belong together is said below, and nowhere else.
            connection = sqlite3.connect(place, timeout=timeout, isolation_level=None, check_same_thread=False)
            try:
                prepare(connection, place, durable)
            except BaseException:
                connection.close()
                raise
        return cls(connection, name)

    @classmethod
    def look(cls, path: str | os.PathLike[str]) -> Self:
        """Open a catalogue that is there to answer questions, and nothing else; another process may own it.

        Nothing is written, not even beside the file. Whatever would change something is a `StorageError`.

        Args:
            path: Of the file.

        Raises:
            FileNotFoundError: There is none.
            ConfigurationError: The file belongs to another version or to another program.
            StorageError: It cannot be opened, or it is damaged.
        """
        check_sqlite()
        place = Path(path).absolute()
        place.stat()
        # Without a log nobody has the file open, so it may be taken as it is. Else SQLite would make a log to read it.
        log = place.with_name(place.name + "-wal")
        how = "mode=ro" if log.exists() else "mode=ro&immutable=1"
        with _translated(place.name):
            connection = sqlite3.connect(
                f"{place.as_uri()}?{how}", uri=True, timeout=1.0, isolation_level=None, check_same_thread=False
            )
            try:
                prepare_to_look(connection, str(place))
            except BaseException:
                connection.close()
                raise
        return cls(connection, place.name)

    def close(self) -> None:
        """Wait for the call under way and close the file. Idempotent; anything else is refused from now on."""
        with self._lock, _translated(self._name):
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ── the port ──────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, uid: str, entry: Entry) -> None:
        """Insert or update the one entry of an upload.

        An update keeps what `illustrate` recorded, and the upload's place in the order of uploads. Paths that
        earlier uploads' entries have are taken over; theirs come back when this one is forgotten.

        Raises:
            TypeError: A value does not have the declared type.
            ContentRejected: ``album_not_found``, and ``album_ambiguous`` when several have the name, of an artwork;
                ``no_songs``, ``too_many_songs``, ``path_twice``, of an album; ``invalid_text``, ``invalid_number``.
        """
        check_text("uid", uid)
        check_entry(entry)
        with self._writing() as db, settling(db, uid):
            put(db, uid, entry)

    def illustrate(self, uid: str, directory: str, thumbnail: str, preview: str) -> None:
        """Record the artwork of an entry: names of files in ``directory`` of the artwork tree.

        Of an album upload, ``directory/preview`` is the album's cover from now on, unless a later upload brings or
        makes another.

        Raises:
            ContentRejected: ``entry_not_found``, nothing was put for this upload, or it was forgotten;
                ``invalid_text``.
        """
        for name, text in (("directory", directory), ("thumbnail", thumbnail), ("preview", preview)):
            check_text(name, text)
        with self._writing() as db, settling(db, uid):
            upload = upload_of(db, uid)
            if upload is None:
                raise entry_not_found(uid)
            db.execute(
                """
                INSERT INTO illustrations (upload, directory, thumbnail, preview) VALUES (?, ?, ?, ?)
                ON CONFLICT (upload) DO UPDATE SET
                    directory = excluded.directory, thumbnail = excluded.thumbnail, preview = excluded.preview
                """,
                (upload, directory, thumbnail, preview),
            )
            set_picture(db, upload)

    def unillustrate(self, uid: str) -> None:
        """Take back what `illustrate` did; the entry stays. Without one, nothing happens."""
        with self._writing() as db, settling(db, uid):
            upload = upload_of(db, uid)
            if upload is not None:
                db.execute("DELETE FROM illustrations WHERE upload = ?", (upload,))
                set_picture(db, upload)

    def forget(self, uid: str) -> None:
        """Take back what `put` and `illustrate` did for an upload; an unknown one is no error.

        The content is then what it would be had the upload never come, whatever came after it.
        """
        with self._writing() as db, settling(db, uid):
            db.execute("DELETE FROM uploads WHERE uid = ?", (uid,))

    def find_sha1(self, sha1: str) -> Sequence[str]:
        """Relative paths, sorted, of what has this SHA-1 (hex digits in any case).

        Of a video or a song that is its path; of the archive of an album, the directory that its songs have in
        common, or the first of them if they have none.
        """
        with self._reading() as db:
            rows = db.execute(
                """
                SELECT path FROM videos WHERE sha1 = ?1 AND shown UNION SELECT path FROM songs WHERE sha1 = ?1 AND shown
                """,
                (sha1,),
            )
            paths = {row["path"] for row in rows}
            # A song that was uploaded by itself has been found already.
            parts = db.execute(
                """
                SELECT upload FROM parts WHERE sha1 = ?1 AND shown
                    AND NOT EXISTS (SELECT 1 FROM songs WHERE songs.upload = parts.upload AND sha1 = ?1 AND songs.shown)
                """,
                (sha1,),
            ).fetchall()
            for part in parts:
                songs = db.execute("SELECT path FROM songs WHERE upload = ? AND shown", (part["upload"],))
                among = [row["path"] for row in songs]
                paths.add(common_directory(among) or min(among))
            return tuple(sorted(paths))

    def find_artists(self, name: str) -> Sequence[str]:
        """The spelling of the artist whose name matches, then of those with a similar one, by name."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT name FROM artists WHERE similar = ? AND shown ORDER BY key <> ?, key",
                (similar_key(name), match_key(name)),
            )
            return tuple(row["name"] for row in rows)

    def find_songs(self, artist: str, album: str, release: str) -> Sequence[SongEntry]:
        """The songs of an album, by disc, number and path; empty when it is not known."""
        with self._reading() as db:
            row = one(
                db,
                """
                SELECT albums.id FROM albums JOIN artists ON artists.id = albums.artist
                WHERE artists.key = ? AND albums.key = ? AND release = ?
                """,
                (match_key(artist), match_key(album), release),
            )
            return () if row is None else tuple(song.entry for song in _songs_of(db, row["id"]))

    def find_albums(self, artist: str, album: str, albumid: str | None) -> Sequence[str]:
        """The ids of the albums that an artwork with these names would be the cover of, by year."""
        with self._reading() as db:
            return tuple(str(found) for found in candidates(db, artist, album, albumid))

    # ── by hand ───────────────────────────────────────────────────────────────────────────────────────────────

    def add_album(self, artist: str, name: str, release: str = "", *, cover: str | None = None) -> str:
        """Make an album known that no upload brought. No upload's undo removes it or its artist.

        Args:
            artist: Name; an artist that uploads brought is spelled like this from now on, one that was added by
                hand keeps its spelling.
            name: Title.
            release: Year, four digits, or empty. Albums of one name differ by it.
            cover: Path in the artwork directory of the cover that it has.

        Returns:
            The album's id, also when it was known already. One that uploads brought is spelled like this and has
            this cover of its own from now on; of one that was added by hand, nothing changes.

        Raises:
            ValueError: ``artist`` or ``name`` is empty.
            ContentRejected: ``invalid_text``.
        """
        for label, text in (("artist", artist), ("name", name), ("release", release), ("cover", cover or "")):
            check_text(label, text)
        if not artist or not name:
            raise ValueError("An album needs an artist and a name.")
        with self._writing() as db:
            return str(keep_album(db, artist, name, release, cover))

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────────

    def videos(
        self, *, artist: str | None = None, search: str | None = None, limit: int = 100, offset: int = 0
    ) -> tuple[Video, ...]:
        """A page of the music videos, by artist, name and year.

        Args:
            artist: Only this artist's, in any spelling.
            search: Only those in whose artist or name every one of these words is found, in any case; the first 16,
                of 1,000 characters.
            limit: The most to return; a page that is full may not be the last.
            offset: How many to pass over.

        Raises:
            ValueError: ``limit`` or ``offset`` is negative, or beyond 63 bits.
            ContentRejected: ``invalid_text``.
        """
        check_page(limit, offset)
        check_text("search", search or "")
        wanted = {
            "artist": None if artist is None else match_key(artist),
            "words": orjson.dumps(match_key(asked(search or "")).split()[:MOST_WORDS]).decode(),
            "limit": limit,
            "offset": offset,
        }
        with self._reading() as db:
            rows = db.execute(
                _VIDEOS  # noqa: S608 -- two constants
                + """
                WHERE videos.shown AND (:artist IS NULL OR artists.key = :artist) AND NOT EXISTS (
                    SELECT 1 FROM json_each(:words) AS word
                    WHERE instr(artists.key, word.value) = 0 AND instr(videos.key, word.value) = 0
                )
                ORDER BY artists.key, videos.key, videos.release, videos.path LIMIT :limit OFFSET :offset
                """,
                wanted,
            )
            return tuple(_video(row) for row in rows)

    def songs(
        self, *, artist: str | None = None, search: str | None = None, limit: int = 100, offset: int = 0
    ) -> tuple[Song, ...]:
        """A page of the songs, by name and path.

        Args:
            artist: Only this artist's, in any spelling.
            search: Only those that `search` finds.
            limit: The most to return; a page that is full may not be the last.
            offset: How many to pass over.

        Raises:
            ValueError: ``limit`` or ``offset`` is negative, or beyond 63 bits.
            ContentRejected: ``invalid_text``.
        """
        check_page(limit, offset)
        check_text("search", search or "")
        wanted: dict[str, object] = {"limit": limit, "offset": offset}
        conditions = ["shown"]
        if artist is not None:
            wanted["artist"] = match_key(artist)
            conditions.append("artist = (SELECT id FROM artists WHERE artists.key = :artist)")
        if search and search.strip():
            words = asked_words(search)
            if not words:
                return ()
            wanted["words"] = _prefixes(words)
            conditions.append("id IN (SELECT rowid FROM songs_found WHERE songs_found MATCH :words)")
        with self._reading() as db:
            # First the page, then what is on it.
            rows = db.execute(
                f"""
                {_SONGS} JOIN (
                    SELECT id AS found FROM songs WHERE {" AND ".join(conditions)}
                    ORDER BY key, path LIMIT :limit OFFSET :offset
                ) ON songs.id = found ORDER BY songs.key, path
                """,  # noqa: S608 -- constants
                wanted,
            )
            return tuple(_song(row) for row in rows)

    def artists(self) -> tuple[Artist, ...]:
        """All artists, by name."""
        with self._reading() as db:
            rows = db.execute(
                """
                SELECT name,
                    (SELECT count(*) FROM videos WHERE artist = artists.id AND shown) AS videos,
                    (SELECT count(*) FROM albums WHERE artist = artists.id AND shown) AS albums,
                    (SELECT count(*) FROM songs WHERE artist = artists.id AND shown) AS songs
                FROM artists WHERE shown ORDER BY key
                """
            )
            return tuple(Artist(**dict(row)) for row in rows)

    def albums(self, *, artist: str | None = None, limit: int = 100, offset: int = 0) -> tuple[Album, ...]:
        """A page of the albums with the covers that are shown, by artist, year and name.

        Args:
            artist: Only this artist's, in any spelling.
            limit: The most to return; a page that is full may not be the last.
            offset: How many to pass over.

        Raises:
            ValueError: ``limit`` or ``offset`` is negative, or beyond 63 bits.
        """
        check_page(limit, offset)
        key = None if artist is None else match_key(artist)
        with self._reading() as db:
            # First the page, then its covers.
            rows = db.execute(
                f"""
                {_ALBUMS} JOIN (
                    SELECT albums.id AS found FROM albums JOIN artists ON artists.id = albums.artist
                    WHERE albums.shown AND (:artist IS NULL OR artists.key = :artist)
                    ORDER BY artists.key, release, albums.key LIMIT :limit OFFSET :offset
                ) ON albums.id = found ORDER BY artists.key, release, albums.key
                """,  # noqa: S608 -- constants
                {"artist": key, "limit": limit, "offset": offset},
            )
            return tuple(_album(row) for row in rows)

    def album(self, albumid: str) -> AlbumContent | None:
        """An album and what is on it, or ``None``."""
        if not re.fullmatch(r"[1-9][0-9]{0,17}", albumid):
            return None
        with self._reading() as db:
            row = one(db, f"{_ALBUMS} WHERE albums.id = ? AND albums.shown", (int(albumid),))
            if row is None:
                return None
            origin = one(
                db,
                "SELECT origin FROM parts WHERE album = ? AND shown AND origin <> '' ORDER BY upload LIMIT 1",
                (int(albumid),),
            )
            discs = groupby(_songs_of(db, int(albumid)), key=lambda song: song.entry.disc)
            return AlbumContent(
                album=_album(row),
                origin=origin["origin"] if origin else "",
                discs=tuple(Disc(number=number, songs=tuple(songs)) for number, songs in discs),
            )

    def search(self, text: str, limit: int = 20) -> tuple[Found, ...]:
        """What has all the words of a text in its names: artists, then albums, then songs, then videos.

        A word is found by any beginning of it, whatever its case and accents. A song is found by its title, its
        artist and its album, an album and a video by title and artist. Of each kind those come first whose own name
        has all the words.

        Args:
            text: As people type it; nothing is found without a letter or a digit. The first 1,000 characters are
                looked at, and 16 words in them.
            limit: The most of each kind. Of more than 100 (or ``limit``) that fit alike, these are any.

        Raises:
            ValueError: ``limit`` is negative, or beyond 63 bits.
            ContentRejected: ``invalid_text``.
        """
        check_page(limit)
        check_text("text", text)
        words = asked_words(text)
        if not words or not limit:
            return ()
        answer: list[Found] = []
        with self._reading() as db:
            for kind in KINDS:
                rows = db.execute(_FINDINGS[kind], _found_rows(db, kind, words, limit))
                found = [Found(kind=kind, **dict(row)) for row in rows]
                answer += best_first(found, words)[:limit]
        return tuple(answer)

    def suggest(self, field: str, prefix: str = "", limit: int = 10, *, artist: str | None = None) -> tuple[str, ...]:
        """How an annotation may go on: what is in the catalogue and begins like this.

        Names of artists and albums are compared in any case, those that begin so but for an article and accents come
        last; origins are in order of use, years are sorted.

        Args:
            field: ``artist``, ``album``, ``release`` or ``origin``.
            prefix: What was typed so far; its first 1,000 characters are looked at.
            limit: The most to return.
            artist: Only of this artist's albums and videos, in any spelling.

        Raises:
            ValueError: It is another field, or ``limit`` is negative or beyond 63 bits.
            ContentRejected: ``invalid_text``.
        """
        check_field(field)
        check_page(limit)
        check_text("prefix", prefix)
        prefix = asked(prefix)
        key, similar = match_key(prefix), similar_key(prefix)
        wanted = {
            "artist": None if artist is None or field == "artist" else match_key(artist),
            "limit": limit,
            "prefix": prefix,
            "key": key,
            "key_end": key + _LAST,
            # A prefix of signs alone has no similar names: all names would be.
            "similar": similar or None,
            "similar_end": similar + _LAST,
        }
        with self._reading() as db:
            rows = db.execute(_SUGGESTIONS[field], wanted)
            if field == "origin":
                return tuple(row["name"] for row in rows if match_key(row["name"]).startswith(key))[:limit]
            return tuple(row["name"] for row in rows)

    def entry(self, uid: str) -> Record | None:
        """What is known about an upload, or ``None``."""
        with self._reading() as db:
            row = one(db, "SELECT seq, kind FROM uploads WHERE uid = ?", (uid,))
            return None if row is None else _RECORDS[row["kind"]](db, row["seq"])

    def counts(self) -> Counts:
        """How much there is."""
        with self._reading() as db:
            row = one(
                db,
                """
                SELECT (SELECT count(*) FROM artists WHERE shown) AS artists,
                    (SELECT count(*) FROM albums WHERE shown) AS albums,
                    (SELECT count(*) FROM (SELECT DISTINCT album, disc FROM songs WHERE shown)) AS discs,
                    (SELECT count(*) FROM songs WHERE shown) AS songs,
                    (SELECT count(*) FROM videos WHERE shown) AS videos,
                    (SELECT count(*) FROM artworks JOIN pictures USING (upload) WHERE shown) AS artworks
                """,
            )
            assert row is not None
            return Counts(**dict(row))

    def check(self) -> list[str]:
        """Look for damage and for what cannot be: SQLite's own checks, then ours. Reads the whole file.

        Returns:
            A sentence for each thing found; empty when all is well. A damaged file is an answer, no error.
        """
        try:
            with self._reading() as db:
                return list(faults(db))
        except StorageError as error:
            if error.code != "catalogue_damaged":
                raise
            return [error.sentence]

    def content_hash(self) -> str:
        """SHA-256, in hex digits, of what the catalogue says.

        Two catalogues of the same content have the same hash, whatever their internal ids, the uids of the uploads
        and the order in which things came.
        """
        with self._reading() as db:
            return content_hash(db)

    # ── one connection, one lock ──────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _translated(self._name), transaction(self._open_connection(), "BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        # A transaction as well: several queries of one question must see one state beside other processes.
        with self._lock, _translated(self._name), transaction(self._open_connection(), "BEGIN") as db:
            yield db

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageError("The catalogue is closed.", code="catalogue_closed")
        return self._connection


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, name) from error
    except UnicodeEncodeError as error:
        raise ContentRejected(
            "This is not Unicode text, so the catalogue has no such thing.", code="invalid_text"
        ) from error


def _translate(error: sqlite3.Error, name: str) -> UploadError:
    # The file's name only: sentences reach clients, and where a server keeps its files is not theirs to know.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte; above it are details
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(
            f"The disk is full: the catalogue {name!r} cannot grow, and is as it was. Free some room and try again."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageError(
            f"The catalogue {name!r} is damaged ({error}). Stop the server, move the file aside together with those "
            "named like it plus -wal and -shm, and put back a copy; or start with an empty catalogue and import again.",
            code="catalogue_damaged",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageError(
            f"Another program is writing to the catalogue {name!r} and does not let go. Try again.",
            code="catalogue_busy",
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StorageError(
            f"The catalogue {name!r} cannot be opened. Its directory must exist, and both must be writable."
        )
    return StorageError(f"The catalogue {name!r} failed: {error}.")


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _prefixes(words: Sequence[str]) -> str:
    return " ".join(f'"{word}"*' for word in words)


def _found_rows(db: sqlite3.Connection, kind: Kind, words: Sequence[str], limit: int) -> tuple[str]:
    """Numbers of rows of a kind that have the words, as JSON: in their own names, and only then in all."""
    index = f"{kind}s_found"
    found: set[int] = set()
    for columns in ("words :", ""):
        rows = db.execute(
            f"SELECT rowid AS number FROM {index} WHERE {index} MATCH ? LIMIT ?",  # noqa: S608 -- constants
            (f"{columns} ({_prefixes(words)})", max(limit, _FIT_ALIKE)),
        )
        found.update(row["number"] for row in rows)
        if len(found) >= limit or kind == "artist":
            break
    return (orjson.dumps(sorted(found)).decode(),)


def _illustration(row: sqlite3.Row) -> Illustration | None:
    if row["directory"] is None:
        return None
    return Illustration(row["directory"], row["thumbnail"], row["preview"])


def _video(row: sqlite3.Row) -> Video:
    entry = VideoEntry(**{name: row[name] for name in VIDEO_FIELDS})
    return Video(
        uid=row["uid"],
        artist=row["spelled"],
        entry=entry,
        illustration=_illustration(row),
        replaced=not row["shown"],
    )


def _song(row: sqlite3.Row) -> Song:
    entry = SongEntry(**{name: row[name] for name in SONG_FIELDS})
    return Song(uid=row["uid"], artist=row["spelled"], album=str(row["album"]), entry=entry)


def _songs_of(db: sqlite3.Connection, album: int) -> list[Song]:
    rows = db.execute(f"{_SONGS} WHERE album = ? AND songs.shown ORDER BY disc, number, path", (album,))
    return [_song(row) for row in rows]


def _album(row: sqlite3.Row) -> Album:
    return Album(**{**dict(row), "id": str(row["id"])})


def _video_record(db: sqlite3.Connection, upload: int) -> Record | None:
    row = one(db, f"{_VIDEOS} WHERE upload = ?", (upload,))
    return None if row is None else _video(row)


def _artwork_record(db: sqlite3.Connection, upload: int) -> Record | None:
    row = one(
        db,
        """
        SELECT uid, artworks.path, credit, title, wanted, sha256, directory, thumbnail, preview, pictures.shown, (
                SELECT CAST(albums.id AS TEXT) FROM albums JOIN artists ON artists.id = albums.artist
                WHERE albums.shown AND artists.key = artworks.artist AND albums.key = artworks.key
                    AND albums.release = artworks.release
            ) AS album
        FROM artworks JOIN uploads ON seq = upload JOIN pictures USING (upload) LEFT JOIN illustrations USING (upload)
        WHERE upload = ?
        """,
        (upload,),
    )
    if row is None:
        return None
    entry = ArtworkEntry(
        path=row["path"], artist=row["credit"], album=row["title"], albumid=row["wanted"], sha256=row["sha256"]
    )
    illustration = _illustration(row)
    return Artwork(
        uid=row["uid"], album=row["album"], entry=entry, illustration=illustration, replaced=not row["shown"]
    )


def _album_record(db: sqlite3.Connection, upload: int) -> Record | None:
    row = one(
        db,
        """
        SELECT uid, iif(albums.shown, CAST(albums.id AS TEXT), NULL) AS album, credit, parts.name, release, origin,
            sha1, directory, thumbnail, preview
        FROM parts JOIN uploads ON seq = upload JOIN albums ON albums.id = parts.album
            LEFT JOIN illustrations USING (upload)
        WHERE upload = ?
        """,
        (upload,),
    )
    if row is None:
        return None
    songs = db.execute(
        "SELECT path, name, credit AS artist, disc, number, size, sha1, sha256, duration, codec, shown FROM songs "
        "WHERE upload = ? ORDER BY id",
        (upload,),
    ).fetchall()
    entry = AlbumEntry(
        artist=row["credit"],
        name=row["name"],
        release=row["release"],
        origin=row["origin"],
        sha1=row["sha1"],
        songs=tuple(SongEntry(**{name: song[name] for name in SONG_FIELDS}) for song in songs),
    )
    return AlbumUpload(
        uid=row["uid"],
        album=row["album"],
        entry=entry,
        illustration=_illustration(row),
        replaced=tuple(sorted(song["path"] for song in songs if not song["shown"])),
    )


_RECORDS: Final[Mapping[str, Callable[[sqlite3.Connection, int], Record | None]]] = {
    "video": _video_record,
    "artwork": _artwork_record,
    "album": _album_record,
}
"""How the entry of an upload is read, by its kind."""
