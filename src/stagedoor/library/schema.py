"""The catalogue's file: its schema, and how an older one is brought up to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from ..errors import ConfigurationError
from ..names import match_key, search_words, similar_key

__all__ = ["FOUND", "MIGRATIONS", "check_sqlite", "prepare", "prepare_to_look", "transaction"]

_APPLICATION_ID: Final = 0x53444F52
"""``SDOR`` in the file's header: how we know our own."""

_OLDEST_SQLITE: Final = (3, 38, 0)
"""STRICT tables came with 3.37, JSON for everybody with 3.38."""

_FUNCTIONS: Final[Mapping[str, Callable[[str], str]]] = {
    "match_key": match_key,
    "similar_key": similar_key,
    "search_words": lambda text: " ".join(search_words(text)),
}
"""What migrations need beyond SQL. No trigger, view or index does: any program can write to the file."""

FOUND: Final = (("artists", "id"), ("albums", "id"), ("songs", "id"), ("videos", "upload"))
"""Tables that a search looks through, in the order of `entries.KINDS`, and what numbers their rows."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
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
    (
        # Songs come with uploads, several uploads may bring one album, and a later upload's file may take the place
        # of an earlier one's. Entries are filed under the number of their upload, which says what is later.
        "DROP VIEW credits",
        "DROP VIEW covers",
        # `similar`: how people may spell it. `words`: what it is found by. `shown`: whether it is there for whoever
        # asks; what only replaced entries refer to is not.
        "ALTER TABLE artists ADD COLUMN similar TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE artists ADD COLUMN words TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE artists ADD COLUMN more TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE artists ADD COLUMN shown INTEGER NOT NULL DEFAULT 0 CHECK (shown IN (0, 1))",
        "UPDATE artists SET similar = similar_key(key), words = search_words(key)",
        # `kept` as of artists. An album that uploads bring is there as long as one of them refers to it.
        """
        CREATE TABLE albums_2 (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            artist INTEGER NOT NULL REFERENCES artists (id),
            key TEXT NOT NULL,
            release TEXT NOT NULL,
            name TEXT NOT NULL,
            similar TEXT NOT NULL,
            words TEXT NOT NULL,
            more TEXT NOT NULL,
            kept INTEGER NOT NULL CHECK (kept IN (0, 1)),
            cover TEXT,
            shown INTEGER NOT NULL CHECK (shown IN (0, 1)),
            UNIQUE (artist, key, release)
        ) STRICT
        """,
        """
        INSERT INTO albums_2 (id, artist, key, release, name, similar, words, more, kept, cover, shown)
            SELECT albums.id, artist, albums.key, release, albums.name, similar_key(albums.key),
                search_words(albums.key), artists.words, 1, cover, 0
            FROM albums JOIN artists ON artists.id = albums.artist
        """,
        "DELETE FROM sqlite_sequence WHERE name = 'albums_2'",
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'albums_2', seq FROM sqlite_sequence WHERE name = 'albums'",
        """
        CREATE TABLE videos_2 (
            upload INTEGER PRIMARY KEY REFERENCES uploads (seq) ON DELETE CASCADE,
            artist INTEGER NOT NULL REFERENCES artists (id),
            credit TEXT NOT NULL,
            path TEXT NOT NULL,
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
            codec TEXT NOT NULL,
            words TEXT NOT NULL,
            more TEXT NOT NULL,
            shown INTEGER NOT NULL CHECK (shown IN (0, 1))
        ) STRICT
        """,
        """
        INSERT INTO videos_2
            SELECT seq, artist, credit, path, videos.name, videos.key, release, origin, size, sha1, sha256, duration,
                width, height, codec, search_words(videos.key), artists.words, 0
            FROM videos JOIN uploads USING (uid) JOIN artists ON artists.id = videos.artist
        """,
        # `artist`, `key` and `release` name the album that was found, also while it is not there.
        """
        CREATE TABLE artworks_2 (
            upload INTEGER PRIMARY KEY REFERENCES uploads (seq) ON DELETE CASCADE,
            artist TEXT NOT NULL,
            key TEXT NOT NULL,
            release TEXT NOT NULL,
            path TEXT NOT NULL,
            credit TEXT NOT NULL,
            title TEXT NOT NULL,
            wanted TEXT,
            sha256 TEXT NOT NULL
        ) STRICT
        """,
        """
        INSERT INTO artworks_2
            SELECT seq, coalesce(artists.key, match_key(artworks.credit)), coalesce(albums.key, match_key(title)),
                coalesce(release, ''), path, artworks.credit, title, wanted, sha256
            FROM artworks JOIN uploads USING (uid)
                LEFT JOIN (albums JOIN artists ON artists.id = albums.artist) ON albums.id = artworks.album
        """,
        """
        CREATE TABLE illustrations_2 (
            upload INTEGER PRIMARY KEY REFERENCES uploads (seq) ON DELETE CASCADE,
            directory TEXT NOT NULL,
            thumbnail TEXT NOT NULL,
            preview TEXT NOT NULL
        ) STRICT
        """,
        """
        INSERT INTO illustrations_2
            SELECT seq, directory, thumbnail, preview FROM illustrations JOIN uploads USING (uid)
        """,
        "DROP TABLE illustrations",
        "DROP TABLE videos",
        "DROP TABLE artworks",
        "DROP TABLE songs",  # schema 1 had no way to fill it
        "DROP TABLE albums",
        "ALTER TABLE albums_2 RENAME TO albums",
        "ALTER TABLE videos_2 RENAME TO videos",
        "ALTER TABLE artworks_2 RENAME TO artworks",
        "ALTER TABLE illustrations_2 RENAME TO illustrations",
        # What one upload brings of an album.
        """
        CREATE TABLE parts (
            upload INTEGER PRIMARY KEY REFERENCES uploads (seq) ON DELETE CASCADE,
            album INTEGER NOT NULL REFERENCES albums (id),
            credit TEXT NOT NULL,
            name TEXT NOT NULL,
            origin TEXT NOT NULL,
            sha1 TEXT NOT NULL COLLATE NOCASE,
            shown INTEGER NOT NULL CHECK (shown IN (0, 1))
        ) STRICT
        """,
        """
        CREATE TABLE songs (
            id INTEGER PRIMARY KEY,
            upload INTEGER NOT NULL REFERENCES parts (upload) ON DELETE CASCADE,
            album INTEGER NOT NULL REFERENCES albums (id),
            artist INTEGER NOT NULL REFERENCES artists (id),
            credit TEXT NOT NULL,
            path TEXT NOT NULL,
            name TEXT NOT NULL,
            key TEXT NOT NULL,
            disc INTEGER NOT NULL,
            number INTEGER NOT NULL,
            size INTEGER NOT NULL,
            sha1 TEXT NOT NULL COLLATE NOCASE,
            sha256 TEXT NOT NULL,
            duration REAL NOT NULL,
            codec TEXT NOT NULL,
            words TEXT NOT NULL,
            more TEXT NOT NULL,
            shown INTEGER NOT NULL CHECK (shown IN (0, 1))
        ) STRICT
        """,
        # The covers that uploads bring or make, worked out from artworks, parts and illustrations.
        """
        CREATE TABLE pictures (
            upload INTEGER PRIMARY KEY REFERENCES uploads (seq) ON DELETE CASCADE,
            path TEXT NOT NULL,
            artist TEXT NOT NULL,
            key TEXT NOT NULL,
            release TEXT NOT NULL,
            shown INTEGER NOT NULL CHECK (shown IN (0, 1))
        ) STRICT
        """,
        "INSERT INTO pictures SELECT upload, path, artist, key, release, 1 FROM artworks",
        "CREATE INDEX artists_by_similar ON artists (similar)",
        "CREATE INDEX albums_by_key ON albums (key)",
        "CREATE INDEX albums_by_similar ON albums (similar)",
        "CREATE INDEX albums_by_release ON albums (release)",
        "CREATE INDEX parts_by_album ON parts (album, shown, upload)",
        "CREATE INDEX parts_by_sha1 ON parts (sha1)",
        "CREATE INDEX parts_by_origin ON parts (origin)",
        "CREATE UNIQUE INDEX songs_shown ON songs (path) WHERE shown",
        "CREATE INDEX songs_by_upload ON songs (upload)",
        "CREATE INDEX songs_by_path ON songs (path, upload)",
        "CREATE INDEX songs_by_album ON songs (album, shown, disc, number, path)",
        "CREATE INDEX songs_by_artist ON songs (artist, shown, upload, credit)",
        "CREATE INDEX songs_by_key ON songs (key, path) WHERE shown",
        "CREATE INDEX songs_by_sha1 ON songs (sha1)",
        "CREATE UNIQUE INDEX videos_shown ON videos (path) WHERE shown",
        "CREATE INDEX videos_by_path ON videos (path, upload)",
        "CREATE INDEX videos_by_artist ON videos (artist, shown, upload, credit)",
        "CREATE INDEX videos_by_release ON videos (release)",
        "CREATE INDEX videos_by_origin ON videos (origin)",
        "CREATE INDEX videos_by_sha1 ON videos (sha1)",
        "CREATE UNIQUE INDEX pictures_shown ON pictures (path) WHERE shown",
        "CREATE INDEX pictures_by_path ON pictures (path, upload)",
        "CREATE INDEX pictures_by_album ON pictures (artist, key, release, shown, upload)",
        # `first`: of one upload, the album's artist speaks before the songs'.
        """
        CREATE VIEW credits (upload, first, artist, credit) AS
            SELECT upload, 0, artist, credit FROM videos WHERE shown
            UNION ALL
            SELECT upload, 0, artist, credit FROM parts JOIN albums ON albums.id = parts.album WHERE parts.shown
            UNION ALL
            SELECT upload, 1, artist, credit FROM songs WHERE shown
        """,
        """
        CREATE VIEW covers (album, path) AS
            SELECT albums.id, coalesce(
                (
                    SELECT path FROM pictures
                    WHERE artist = artists.key AND key = albums.key AND release = albums.release AND shown
                    ORDER BY upload DESC LIMIT 1
                ),
                albums.cover
            ) FROM albums JOIN artists ON artists.id = albums.artist
        """,
        # Full text of what is shown. The words are folded before they come here, so the tokenizer only parts them at
        # spaces; the text itself is not stored. A table a kind, because a common word has many songs and few artists.
        *(
            statement
            for table, number in FOUND
            for statement in (
                f"""
                CREATE VIRTUAL TABLE {table}_found USING fts5 (
                    words, more, content='', columnsize=0, detail=column, prefix='1 2 3', tokenize='ascii'
                )
                """,
                f"CREATE VIRTUAL TABLE {table}_index USING fts5vocab ({table}_found, instance)",
                f"""
                CREATE TRIGGER {table}_come AFTER INSERT ON {table} WHEN new.shown BEGIN
                    INSERT INTO {table}_found (rowid, words, more) VALUES (new.{number}, new.words, new.more);
                END
                """,  # noqa: S608 -- constants
                f"""
                CREATE TRIGGER {table}_shown AFTER UPDATE OF shown ON {table} WHEN new.shown > old.shown BEGIN
                    INSERT INTO {table}_found (rowid, words, more) VALUES (new.{number}, new.words, new.more);
                END
                """,  # noqa: S608 -- constants
                f"""
                CREATE TRIGGER {table}_hidden AFTER UPDATE OF shown ON {table} WHEN new.shown < old.shown BEGIN
                    INSERT INTO {table}_found ({table}_found, rowid, words, more)
                    VALUES ('delete', old.{number}, old.words, old.more);
                END
                """,  # noqa: S608 -- constants
                f"""
                CREATE TRIGGER {table}_gone AFTER DELETE ON {table} WHEN old.shown BEGIN
                    INSERT INTO {table}_found ({table}_found, rowid, words, more)
                    VALUES ('delete', old.{number}, old.words, old.more);
                END
                """,  # noqa: S608 -- constants
            )
        ),
        "UPDATE videos SET shown = 1",
        "UPDATE albums SET shown = 1",
        "UPDATE artists SET shown = 1",
        "PRAGMA user_version = 2",
    ),
)
"""Step ``i`` takes a file of schema ``i`` to ``i + 1``, and ends by saying so. Statements only: a step that ever
left this house is never changed, another one is added."""


def check_sqlite() -> None:
    """Refuse to go on with an SQLite that is too old.

    Raises:
        ConfigurationError: It is.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ConfigurationError(
            f"Python was built with SQLite {sqlite3.sqlite_version}, the catalogue needs 3.38 or newer."
        )


def prepare(connection: sqlite3.Connection, place: str, durable: bool) -> None:
    """Bring a fresh connection and its file into order.

    Raises:
        ConfigurationError: The file is not ours to open, or its file system cannot do what is needed.
        sqlite3.Error: It cannot be opened, or it is damaged.
    """
    _equip(connection)
    if connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone() is None:
        raise ConfigurationError("Python's SQLite was built without full-text search (FTS5), the catalogue needs it.")
    _check_ours(connection, place)  # before the first change, and switching to WAL is one
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal" and place != ":memory:":
        raise ConfigurationError(
            f"The file system of {place!r} cannot keep a database in WAL mode. Put the catalogue on a local disk."
        )
    connection.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = OFF")
    connection.execute("PRAGMA foreign_keys = ON")
    with transaction(connection, "BEGIN IMMEDIATE"):
        # Asked again under the write lock: another process may have been faster.
        for step in MIGRATIONS[_check_ours(connection, place) :]:
            for statement in step:
                connection.execute(statement)


def prepare_to_look(connection: sqlite3.Connection, place: str) -> None:
    """Bring a connection that only reads into order; its file stays as it is.

    Raises:
        ConfigurationError: The file is not ours, or has another schema than the present one.
        sqlite3.Error: It cannot be opened, or it is damaged.
    """
    _equip(connection)
    if _check_ours(connection, place) != len(MIGRATIONS):
        raise ConfigurationError(f"The catalogue {place!r} has an older schema; the next start of the server mends it.")


def _equip(connection: sqlite3.Connection) -> None:
    connection.row_factory = sqlite3.Row
    for name, function in _FUNCTIONS.items():
        connection.create_function(name, 1, function, deterministic=True)


def _check_ours(connection: sqlite3.Connection, place: str) -> int:
    """The file's schema version; 0 for an empty one."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    objects: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != _APPLICATION_ID:
        if application or version or objects:
            raise ConfigurationError(f"{place!r} is another program's database. Give the catalogue a file of its own.")
        return 0
    if version > len(MIGRATIONS):
        raise ConfigurationError(
            f"The catalogue {place!r} has schema {version}, this version of stagedoor knows up to "
            f"{len(MIGRATIONS)}. Update stagedoor; the file was not touched."
        )
    return version


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    """Everything inside, or nothing of it."""
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
