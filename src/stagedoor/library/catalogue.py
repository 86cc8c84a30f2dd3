"""The embedded music database: one SQLite file, the default target of imports.

What uploads did is taken back exactly because little of it is stored. Every entry hangs on a row of ``uploads``,
whose numbers say who came first; the rest is *derived* from the entries that are there:

* an artist that nobody added by hand is there as long as an entry refers to it, and is spelled as the oldest one
  spells it;
* the cover of an album is that of the newest artwork that is there, else the album's own.

So there is no former cover to put back, and no order in which uploads may be forgotten: what remains is what would
be there had the forgotten upload never come. The price is a look at the other entries whenever one changes.

Threads share *one connection under one lock*. SQLite has one writer at a time whatever we do, an import writes a
few rows, and a page reads some hundred; a connection a thread would gain nothing that can be felt here, and
could not be closed by the thread that closes the catalogue. Other processes may read and write beside us: the file
is in WAL mode, and every transaction that writes starts by taking the write lock, so that none fails halfway.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from types import TracebackType
from typing import Final, Self

import orjson
from attrs import fields

from ..errors import ConfigurationError, ContentRejected, StorageError, StorageFull, UploadError
from ..ports import ArtworkEntry, Entry, VideoEntry
from .entries import (
    Album,
    Artist,
    Artwork,
    Counts,
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

__all__ = ["Catalogue"]

_APPLICATION_ID: Final = 0x53444F52
"""``SDOR`` in the file's header: how we know our own."""

_OLDEST_SQLITE: Final = (3, 38, 0)
"""STRICT tables came with 3.37, JSON for everybody with 3.38."""

# ── schema ────────────────────────────────────────────────────────────────────────────────────────────────────

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "PRAGMA application_id = 0x53444F52",
        # Rows of entries hang on this one; deleting it is what `forget` does. A number is never given to a later
        # upload while an earlier one has a higher number, and that is all that "older" needs.
        """
        CREATE TABLE uploads (
            seq INTEGER PRIMARY KEY,
            uid TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL CHECK (kind IN ('video', 'album', 'artwork'))
        ) STRICT
        """,
        # `kept`: added by hand, so that no upload's end removes or renames it.
        """
        CREATE TABLE artists (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            key TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            kept INTEGER NOT NULL CHECK (kept IN (0, 1))
        ) STRICT
        """,
        # AUTOINCREMENT because people and task files remember album ids. `credit` is the artist as the entry
        # spells it; `cover` is the album's own, which uploaded artworks only hide.
        """
        CREATE TABLE albums (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            uid TEXT UNIQUE REFERENCES uploads (uid) ON DELETE CASCADE,
            artist INTEGER NOT NULL REFERENCES artists (id),
            credit TEXT NOT NULL,
            name TEXT NOT NULL,
            key TEXT NOT NULL,
            release TEXT NOT NULL,
            cover TEXT,
            UNIQUE (artist, key, release)
        ) STRICT
        """,
        """
        CREATE TABLE songs (
            id INTEGER PRIMARY KEY,
            uid TEXT REFERENCES uploads (uid) ON DELETE CASCADE,
            album INTEGER NOT NULL REFERENCES albums (id) ON DELETE CASCADE,
            artist INTEGER NOT NULL REFERENCES artists (id),
            credit TEXT NOT NULL,
            path TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            disc INTEGER NOT NULL,
            number INTEGER NOT NULL,
            size INTEGER NOT NULL,
            sha1 TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            duration REAL NOT NULL,
            codec TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE videos (
            id INTEGER PRIMARY KEY,
            uid TEXT NOT NULL UNIQUE REFERENCES uploads (uid) ON DELETE CASCADE,
            artist INTEGER NOT NULL REFERENCES artists (id),
            credit TEXT NOT NULL,
            path TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            key TEXT NOT NULL,
            release TEXT NOT NULL,
            origin TEXT NOT NULL,
            size INTEGER NOT NULL,
            sha1 TEXT NOT NULL COLLATE NOCASE,
            sha256 TEXT NOT NULL,
            duration REAL NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            codec TEXT NOT NULL
        ) STRICT
        """,
        # `credit`, `title` and `wanted` are what the upload said; `album` is what was found for it.
        """
        CREATE TABLE artworks (
            id INTEGER PRIMARY KEY,
            uid TEXT NOT NULL UNIQUE REFERENCES uploads (uid) ON DELETE CASCADE,
            album INTEGER REFERENCES albums (id) ON DELETE SET NULL,
            path TEXT NOT NULL UNIQUE,
            credit TEXT NOT NULL,
            title TEXT NOT NULL,
            wanted TEXT,
            sha256 TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE illustrations (
            uid TEXT NOT NULL PRIMARY KEY REFERENCES uploads (uid) ON DELETE CASCADE,
            directory TEXT NOT NULL,
            thumbnail TEXT NOT NULL,
            preview TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX albums_by_key ON albums (key)",
        "CREATE INDEX songs_by_uid ON songs (uid)",
        "CREATE INDEX songs_by_album ON songs (album)",
        "CREATE INDEX songs_by_artist ON songs (artist)",
        "CREATE INDEX songs_by_sha1 ON songs (sha1 COLLATE NOCASE)",
        "CREATE INDEX videos_by_artist ON videos (artist)",
        "CREATE INDEX videos_by_sha1 ON videos (sha1)",
        "CREATE INDEX artworks_by_album ON artworks (album)",
        """
        CREATE VIEW credits (uid, seq, artist, credit) AS
            SELECT uid, seq, artist, credit FROM videos JOIN uploads USING (uid)
            UNION ALL
            SELECT uid, seq, artist, credit FROM albums JOIN uploads USING (uid)
            UNION ALL
            SELECT uid, seq, artist, credit FROM songs JOIN uploads USING (uid)
        """,
        """
        CREATE VIEW covers (album, path) AS
            SELECT albums.id, coalesce(
                (
                    SELECT artworks.path FROM artworks JOIN uploads USING (uid)
                    WHERE artworks.album = albums.id ORDER BY uploads.seq DESC LIMIT 1
                ),
                albums.cover
            ) FROM albums
        """,
        "PRAGMA user_version = 1",
    ),
)
"""Step ``i`` takes a file of schema ``i`` to ``i + 1``, and ends by saying so. Statements only: a step that ever
left this house is never changed, another one is added."""

_VIDEOS: Final = """
    SELECT videos.uid, artists.name AS spelled, videos.path, videos.credit AS artist, videos.name, videos.release,
        videos.origin, videos.size, videos.sha1, videos.sha256, videos.duration, videos.width, videos.height,
        videos.codec, directory, thumbnail, preview
    FROM videos JOIN artists ON artists.id = videos.artist LEFT JOIN illustrations USING (uid)
"""

_VIDEO_FIELDS: Final = tuple(a.name for a in fields(VideoEntry))


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
                do what is needed, or SQLite is too old.
            StorageError: It cannot be opened, or it is damaged.
            StorageFull: No room.
        """
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise ConfigurationError(
                f"Python was built with SQLite {sqlite3.sqlite_version}, the catalogue needs 3.38 or newer."
            )
        place = os.fspath(path)
        name = os.path.basename(place)
        with _translated(name):
            # No implicit transactions: which statements belong together is said below, and nowhere else.
            connection = sqlite3.connect(place, timeout=timeout, isolation_level=None, check_same_thread=False)
            try:
                _prepare(connection, place, durable)
            except BaseException:
                connection.close()
                raise
        return cls(connection, name)

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

        An update keeps what `illustrate` recorded, and the upload's place in the order of uploads.

        Raises:
            TypeError: A value does not have the declared type.
            ContentRejected: ``path_taken``, another upload's entry has the path; ``album_not_found``, and
                ``album_ambiguous`` when several have the name; ``invalid_text``, ``invalid_number``.
        """
        check_text("uid", uid)
        check_entry(entry)
        kind = "video" if isinstance(entry, VideoEntry) else "artwork"
        with self._writing() as db:
            former = _credited(db, uid)
            # An entry of another kind is another entry; cascades clear the old one's rows.
            db.execute("DELETE FROM uploads WHERE uid = ? AND kind <> ?", (uid, kind))
            db.execute("INSERT INTO uploads (uid, kind) VALUES (?, ?) ON CONFLICT (uid) DO NOTHING", (uid, kind))
            if isinstance(entry, VideoEntry):
                _put_video(db, uid, entry)
            else:
                _put_artwork(db, uid, entry)
            _settle_artists(db, former | _credited(db, uid))

    def illustrate(self, uid: str, directory: str, thumbnail: str, preview: str) -> None:
        """Record the artwork of an entry: names of files in ``directory`` of the artwork tree.

        Raises:
            ContentRejected: ``entry_not_found``, nothing was put for this upload, or it was forgotten;
                ``invalid_text``.
        """
        for name, text in (("directory", directory), ("thumbnail", thumbnail), ("preview", preview)):
            check_text(name, text)
        with self._writing() as db:
            if _one(db, "SELECT 1 FROM uploads WHERE uid = ?", (uid,)) is None:
                raise entry_not_found(uid)
            db.execute(
                """
                INSERT INTO illustrations (uid, directory, thumbnail, preview) VALUES (?, ?, ?, ?)
                ON CONFLICT (uid) DO UPDATE SET
                    directory = excluded.directory, thumbnail = excluded.thumbnail, preview = excluded.preview
                """,
                (uid, directory, thumbnail, preview),
            )

    def unillustrate(self, uid: str) -> None:
        """Take back what `illustrate` did; the entry stays. Without one, nothing happens."""
        with self._writing() as db:
            db.execute("DELETE FROM illustrations WHERE uid = ?", (uid,))

    def forget(self, uid: str) -> None:
        """Take back what `put` and `illustrate` did for an upload; an unknown one is no error.

        The content is then what it would be had the upload never come, whatever came after it.
        """
        with self._writing() as db:
            former = _credited(db, uid)
            db.execute("DELETE FROM uploads WHERE uid = ?", (uid,))
            _settle_artists(db, former)

    def find_sha1(self, sha1: str) -> Sequence[str]:
        """Relative paths, sorted, of the videos and songs whose file has this SHA-1 (hex digits in any case)."""
        with self._reading() as db:
            rows = db.execute(
                """
                SELECT path FROM videos WHERE sha1 = :sha1
                UNION SELECT path FROM songs WHERE sha1 = :sha1 COLLATE NOCASE ORDER BY path
                """,
                {"sha1": sha1},
            )
            return tuple(row["path"] for row in rows)

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
            The album's id, also when it was known already; then nothing changes but the artist, as said above.

        Raises:
            ValueError: ``artist`` or ``name`` is empty.
            ContentRejected: ``invalid_text``.
        """
        for label, text in (("artist", artist), ("name", name), ("release", release), ("cover", cover or "")):
            check_text(label, text)
        if not artist or not name:
            raise ValueError("An album needs an artist and a name.")
        with self._writing() as db:
            db.execute(
                """
                INSERT INTO artists (key, name, kept) VALUES (?, ?, 1)
                ON CONFLICT (key) DO UPDATE SET name = excluded.name, kept = 1 WHERE NOT kept
                """,
                (match_key(artist), artist),
            )
            artist_id = _artist(db, artist)
            known = (artist_id, match_key(name), release)
            row = _one(db, "SELECT id FROM albums WHERE artist = ? AND key = ? AND release = ?", known)
            if row is not None:
                return str(row["id"])
            added = db.execute(
                "INSERT INTO albums (artist, key, release, credit, name, cover) VALUES (?, ?, ?, ?, ?, ?)",
                (*known, artist, name, cover),
            )
            return str(added.lastrowid)

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────────

    def videos(
        self, *, artist: str | None = None, search: str | None = None, limit: int = 100, offset: int = 0
    ) -> tuple[Video, ...]:
        """A page of the music videos, by artist, name and year.

        Args:
            artist: Only this artist's, in any spelling.
            search: Only those in whose artist or name every one of these words is found, in any case.
            limit: The most to return; a page that is full may not be the last.
            offset: How many to pass over.

        Raises:
            ValueError: ``limit`` or ``offset`` is negative, or beyond 63 bits.
            ContentRejected: ``invalid_text``.
        """
        if not (0 <= limit < 2**63 and 0 <= offset < 2**63):
            raise ValueError("limit and offset must be numbers from 0 up.")
        check_text("search", search or "")
        wanted = {
            "artist": None if artist is None else match_key(artist),
            "words": orjson.dumps(match_key(search or "").split()).decode(),
            "limit": limit,
            "offset": offset,
        }
        with self._reading() as db:
            rows = db.execute(
                _VIDEOS  # noqa: S608 -- two constants
                + """
                WHERE (:artist IS NULL OR artists.key = :artist) AND NOT EXISTS (
                    SELECT 1 FROM json_each(:words) AS word
                    WHERE instr(artists.key, word.value) = 0 AND instr(videos.key, word.value) = 0
                )
                ORDER BY artists.key, videos.key, videos.release, videos.path LIMIT :limit OFFSET :offset
                """,
                wanted,
            )
            return tuple(_video(row) for row in rows)

    def artists(self) -> tuple[Artist, ...]:
        """All artists, by name."""
        with self._reading() as db:
            rows = db.execute(
                """
                SELECT name,
                    (SELECT count(*) FROM videos WHERE artist = artists.id) AS videos,
                    (SELECT count(*) FROM albums WHERE artist = artists.id) AS albums
                FROM artists ORDER BY key
                """
            )
            return tuple(Artist(name=row["name"], videos=row["videos"], albums=row["albums"]) for row in rows)

    def albums(self) -> tuple[Album, ...]:
        """All albums with the covers that are shown, by artist, year and name."""
        with self._reading() as db:
            rows = db.execute(
                """
                SELECT albums.id, artists.name AS artist, albums.name, albums.release, covers.path AS cover
                FROM albums JOIN artists ON artists.id = albums.artist JOIN covers ON covers.album = albums.id
                ORDER BY artists.key, albums.release, albums.key
                """
            )
            return tuple(
                Album(
                    id=str(row["id"]),
                    artist=row["artist"],
                    name=row["name"],
                    release=row["release"],
                    cover=row["cover"],
                )
                for row in rows
            )

    def entry(self, uid: str) -> Video | Artwork | None:
        """What is known about an upload, or ``None``."""
        with self._reading() as db:
            row = _one(db, _VIDEOS + "WHERE videos.uid = ?", (uid,))
            if row is not None:
                return _video(row)
            row = _one(
                db,
                """
                SELECT uid, album, path, credit, title, wanted, sha256, directory, thumbnail, preview
                FROM artworks LEFT JOIN illustrations USING (uid) WHERE uid = ?
                """,
                (uid,),
            )
            return None if row is None else _artwork(row)

    def counts(self) -> Counts:
        """How much there is."""
        with self._reading() as db:
            row = _one(
                db,
                """
                SELECT (SELECT count(*) FROM artists) AS artists, (SELECT count(*) FROM albums) AS albums,
                    (SELECT count(*) FROM songs) AS songs, (SELECT count(*) FROM videos) AS videos,
                    (SELECT count(*) FROM artworks) AS artworks
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
                return list(_check(db))
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
            rows = sorted(orjson.dumps(tuple(row)) for query in _CONTENT for row in db.execute(query))
        return hashlib.sha256(b"\n".join(rows)).hexdigest()

    # ── one connection, one lock ──────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _translated(self._name), _transaction(self._open_connection(), "BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        # A transaction as well: several queries of one question must see one state beside other processes.
        with self._lock, _translated(self._name), _transaction(self._open_connection(), "BEGIN") as db:
            yield db

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageError("The catalogue is closed.", code="catalogue_closed")
        return self._connection


# ── opening ───────────────────────────────────────────────────────────────────────────────────────────────────


def _prepare(connection: sqlite3.Connection, place: str, durable: bool) -> None:
    connection.row_factory = sqlite3.Row
    _check_ours(connection, place)  # before the first change, and switching to WAL is one
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal" and place != ":memory:":
        raise ConfigurationError(
            f"The file system of {place!r} cannot keep a database in WAL mode. Put the catalogue on a local disk."
        )
    connection.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = OFF")
    connection.execute("PRAGMA foreign_keys = ON")
    with _transaction(connection, "BEGIN IMMEDIATE"):
        # Asked again under the write lock: another process may have been faster.
        for step in _MIGRATIONS[_check_ours(connection, place) :]:
            for statement in step:
                connection.execute(statement)


def _check_ours(connection: sqlite3.Connection, place: str) -> int:
    """The file's schema version; 0 for an empty one."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    objects: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != _APPLICATION_ID:
        if application or version or objects:
            raise ConfigurationError(f"{place!r} is another program's database. Give the catalogue a file of its own.")
        return 0
    if version > len(_MIGRATIONS):
        raise ConfigurationError(
            f"The catalogue {place!r} has schema {version}, this version of stagedoor knows up to "
            f"{len(_MIGRATIONS)}. Update stagedoor; the file was not touched."
        )
    return version


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    try:
        connection.execute(begin)
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # After a full disk SQLite has rolled back by itself.
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


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


def _one(db: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(query, values).fetchone()
    return row


def _artist(db: sqlite3.Connection, name: str) -> int:
    key = match_key(name)
    db.execute("INSERT INTO artists (key, name, kept) VALUES (?, ?, 0) ON CONFLICT (key) DO NOTHING", (key, name))
    row = _one(db, "SELECT id FROM artists WHERE key = ?", (key,))
    assert row is not None
    return int(row["id"])


def _put_video(db: sqlite3.Connection, uid: str, entry: VideoEntry) -> None:
    if _one(db, "SELECT 1 FROM videos WHERE path = ? AND uid <> ?", (entry.path, uid)) is not None:
        raise path_taken(entry.path)
    values = {name: getattr(entry, name) for name in _VIDEO_FIELDS}
    values |= {"uid": uid, "artist": _artist(db, entry.artist), "credit": entry.artist, "key": match_key(entry.name)}
    db.execute(
        """
        INSERT INTO videos (
            uid, artist, credit, path, name, key, release, origin, size, sha1, sha256, duration, width, height, codec
        ) VALUES (
            :uid, :artist, :credit, :path, :name, :key, :release, :origin, :size, :sha1, :sha256, :duration, :width,
            :height, :codec
        ) ON CONFLICT (uid) DO UPDATE SET
            artist = excluded.artist, credit = excluded.credit, path = excluded.path, name = excluded.name,
            key = excluded.key, release = excluded.release, origin = excluded.origin, size = excluded.size,
            sha1 = excluded.sha1, sha256 = excluded.sha256, duration = excluded.duration, width = excluded.width,
            height = excluded.height, codec = excluded.codec
        """,
        values,
    )


def _put_artwork(db: sqlite3.Connection, uid: str, entry: ArtworkEntry) -> None:
    if _one(db, "SELECT 1 FROM artworks WHERE path = ? AND uid <> ?", (entry.path, uid)) is not None:
        raise path_taken(entry.path)
    db.execute(
        """
        INSERT INTO artworks (uid, album, path, credit, title, wanted, sha256) VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (uid) DO UPDATE SET
            album = excluded.album, path = excluded.path, credit = excluded.credit, title = excluded.title,
            wanted = excluded.wanted, sha256 = excluded.sha256
        """,
        (uid, _find_album(db, entry), entry.path, entry.artist, entry.album, entry.albumid, entry.sha256),
    )


def _find_album(db: sqlite3.Connection, entry: ArtworkEntry) -> int:
    """The id names the album; one that leads nowhere, as after a new start of the catalogue, leaves the names."""
    if entry.albumid is not None and re.fullmatch(r"[1-9][0-9]{0,17}", entry.albumid):
        row = _one(db, "SELECT id FROM albums WHERE id = ?", (int(entry.albumid),))
        if row is not None:
            return int(row["id"])
    rows = db.execute(
        """
        SELECT albums.id FROM albums JOIN artists ON artists.id = albums.artist
        WHERE artists.key = ? AND albums.key = ? LIMIT 2
        """,
        (match_key(entry.artist), match_key(entry.album)),
    ).fetchall()
    if not rows:
        raise album_not_found(entry)
    if len(rows) > 1:
        raise album_ambiguous(entry)
    return int(rows[0]["id"])


def _credited(db: sqlite3.Connection, uid: str) -> set[int]:
    """The artists to whom an upload's entry refers."""
    return {row["artist"] for row in db.execute("SELECT artist FROM credits WHERE uid = ?", (uid,))}


def _settle_artists(db: sqlite3.Connection, artists: Iterable[int]) -> None:
    """Remove those to whom nothing refers any more, and spell the others as the oldest upload does."""
    for artist in artists:
        row = _one(db, "SELECT credit FROM credits WHERE artist = ? ORDER BY seq, credit LIMIT 1", (artist,))
        if row is None:
            db.execute("DELETE FROM artists WHERE id = ? AND NOT kept", (artist,))
        else:
            db.execute("UPDATE artists SET name = ? WHERE id = ? AND NOT kept", (row["credit"], artist))


def _illustration(row: sqlite3.Row) -> Illustration | None:
    if row["directory"] is None:
        return None
    return Illustration(row["directory"], row["thumbnail"], row["preview"])


def _video(row: sqlite3.Row) -> Video:
    entry = VideoEntry(**{name: row[name] for name in _VIDEO_FIELDS})
    return Video(uid=row["uid"], artist=row["spelled"], entry=entry, illustration=_illustration(row))


def _artwork(row: sqlite3.Row) -> Artwork:
    entry = ArtworkEntry(
        path=row["path"], artist=row["credit"], album=row["title"], albumid=row["wanted"], sha256=row["sha256"]
    )
    album = None if row["album"] is None else str(row["album"])
    return Artwork(uid=row["uid"], album=album, entry=entry, illustration=_illustration(row))


# ── checks ────────────────────────────────────────────────────────────────────────────────────────────────────

_CONTENT: Final = (
    "SELECT 'artist', key, name, kept FROM artists",
    """
    SELECT 'album', artists.key, albums.credit, albums.name, albums.release, albums.cover, covers.path,
        directory, thumbnail, preview
    FROM albums JOIN artists ON artists.id = albums.artist JOIN covers ON covers.album = albums.id
        LEFT JOIN illustrations ON illustrations.uid = albums.uid
    """,
    """
    SELECT 'song', songs.path, artists.key, songs.credit, owner.key, albums.key, albums.release, songs.name,
        songs.disc, songs.number, songs.size, songs.sha1, songs.sha256, songs.duration, songs.codec
    FROM songs JOIN artists ON artists.id = songs.artist JOIN albums ON albums.id = songs.album
        JOIN artists AS owner ON owner.id = albums.artist
    """,
    """
    SELECT 'video', artists.key, videos.credit, path, videos.name, release, origin, size, sha1, sha256, duration,
        width, height, codec, directory, thumbnail, preview
    FROM videos JOIN artists ON artists.id = videos.artist LEFT JOIN illustrations USING (uid)
    """,
    """
    SELECT 'artwork', artworks.path, artworks.credit, title, sha256, artists.key, albums.key, albums.release,
        directory, thumbnail, preview
    FROM artworks LEFT JOIN (albums JOIN artists ON artists.id = albums.artist) ON albums.id = artworks.album
        LEFT JOIN illustrations ON illustrations.uid = artworks.uid
    """,
)
"""Everything that is said, with names where there are ids. What an upload asked for (``wanted``) is an id."""

_INVARIANTS: Final = (
    (
        "SELECT uid, kind FROM uploads WHERE CASE kind WHEN 'video' THEN uid IN (SELECT uid FROM videos) "
        "WHEN 'artwork' THEN uid IN (SELECT uid FROM artworks) "
        "ELSE uid IN (SELECT uid FROM albums WHERE uid IS NOT NULL) END = 0",
        "Upload {0!r} has no {1} here.",
    ),
    (
        "SELECT uid, 'video' FROM videos JOIN uploads USING (uid) WHERE kind <> 'video' "
        "UNION ALL SELECT uid, 'artwork' FROM artworks JOIN uploads USING (uid) WHERE kind <> 'artwork' "
        "UNION ALL SELECT uid, 'album' FROM albums JOIN uploads USING (uid) WHERE kind <> 'album'",
        "Upload {0!r} has a {1} here, but is none.",
    ),
    (
        "SELECT name FROM artists WHERE NOT kept AND id NOT IN (SELECT artist FROM credits)",
        "Artist {0!r} is left over: no upload refers to it.",
    ),
    (
        "SELECT name, (SELECT credit FROM credits WHERE artist = artists.id ORDER BY seq, credit LIMIT 1) AS oldest "
        "FROM artists WHERE NOT kept AND name <> oldest",
        "Artist {0!r} should be spelled {1!r}.",
    ),
    (
        "SELECT albums.name FROM albums JOIN artists ON artists.id = albums.artist WHERE uid IS NULL AND NOT kept",
        "Album {0!r} was added by hand, but its artist was not.",
    ),
)
"""Queries that must find nothing, and a sentence for each row that they do find."""

_KEYS: Final = (
    ("Artist", "SELECT name, key FROM artists"),
    ("Album", "SELECT name, key FROM albums"),
    ("Video", "SELECT name, key FROM videos"),
    ("Credit", "SELECT credit, artists.key FROM credits JOIN artists ON artists.id = credits.artist"),
)


def _check(db: sqlite3.Connection) -> Iterator[str]:
    damage = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    if damage:
        yield from (f"SQLite found damage: {line}." for line in damage)
        return  # what damaged tables say is no ground for more sentences
    for row in db.execute("PRAGMA foreign_key_check"):
        yield f"Row {row['rowid']} of {row['table']} refers to a row of {row['parent']} that is not there."
    for query, sentence in _INVARIANTS:
        yield from (sentence.format(*row) for row in db.execute(query))
    for what, query in _KEYS:
        for name, key in db.execute(query):
            if match_key(name) != key:
                yield f"{what} {name!r} is filed under {key!r} instead of {match_key(name)!r}."
