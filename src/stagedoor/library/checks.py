"""What a catalogue says, as one hash, and what can never be in one."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Final

import orjson

from ..names import match_key, search_words, similar_key
from .schema import FOUND

__all__ = ["content_hash", "faults"]

_CONTENT: Final = (
    "SELECT 'artist', key, name, kept FROM artists WHERE shown",
    """
    SELECT 'album', artists.key, albums.key, release, albums.name, albums.kept, cover, covers.path
    FROM albums JOIN artists ON artists.id = albums.artist JOIN covers ON covers.album = albums.id WHERE albums.shown
    """,
    """
    SELECT 'part', artists.key, albums.key, release, credit, parts.name, origin, parts.sha1, parts.shown, directory,
        thumbnail, preview
    FROM parts JOIN albums ON albums.id = parts.album JOIN artists ON artists.id = albums.artist
        LEFT JOIN illustrations USING (upload)
    """,
    """
    SELECT 'song', songs.path, artists.key, songs.credit, songs.name, disc, number, size, songs.sha1, sha256, duration,
        codec, songs.shown, owners.key, albums.key, release, parts.credit, parts.name, origin, parts.sha1
    FROM songs JOIN parts USING (upload) JOIN artists ON artists.id = songs.artist
        JOIN albums ON albums.id = songs.album JOIN artists AS owners ON owners.id = albums.artist
    """,
    """
    SELECT 'video', artists.key, videos.credit, path, videos.name, release, origin, size, sha1, sha256, duration,
        width, height, codec, videos.shown, directory, thumbnail, preview
    FROM videos JOIN artists ON artists.id = videos.artist LEFT JOIN illustrations USING (upload)
    """,
    """
    SELECT 'artwork', artworks.path, credit, title, sha256, artworks.artist, artworks.key, artworks.release, shown,
        directory, thumbnail, preview
    FROM artworks JOIN pictures USING (upload) LEFT JOIN illustrations USING (upload)
    """,
)
"""Everything that is said, with names where there are ids. What an upload asked for (``wanted``) is an id."""

_INVARIANTS: Final = (
    (
        "SELECT uid, kind FROM uploads WHERE CASE kind WHEN 'video' THEN seq IN (SELECT upload FROM videos) "
        "WHEN 'artwork' THEN seq IN (SELECT upload FROM artworks) ELSE seq IN (SELECT upload FROM songs) END = 0",
        "Upload {0!r} has no {1} here.",
    ),
    (
        "SELECT uid, 'a video' FROM videos JOIN uploads ON seq = upload WHERE kind <> 'video' "
        "UNION ALL SELECT uid, 'an artwork' FROM artworks JOIN uploads ON seq = upload WHERE kind <> 'artwork' "
        "UNION ALL SELECT uid, 'an album' FROM parts JOIN uploads ON seq = upload WHERE kind <> 'album'",
        "Upload {0!r} has {1} here, but is none.",
    ),
    (
        "SELECT songs.path FROM songs JOIN parts USING (upload) WHERE songs.album <> parts.album",
        "Song {0!r} is on another album than its upload says.",
    ),
    (
        "WITH claims (path, upload, shown, what) AS (SELECT path, upload, shown, 'Song' FROM songs "
        "UNION ALL SELECT path, upload, shown, 'Video' FROM videos), "
        "newest (path, upload) AS (SELECT path, max(upload) FROM claims GROUP BY path) "
        "SELECT what, path, iif(shown, 'shown', 'hidden') FROM claims JOIN newest USING (path) "
        "WHERE shown <> (claims.upload = newest.upload)",
        "{0} {1!r} is {2}, and should not be: the newest upload has the path.",
    ),
    (
        "SELECT path, iif(shown, 'shown', 'hidden') FROM pictures "
        "WHERE shown <> (upload = (SELECT max(upload) FROM pictures AS other WHERE other.path = pictures.path))",
        "Cover {0!r} is {1}, and should not be: the newest upload has the path.",
    ),
    (
        "WITH wanted AS (SELECT upload, path, artist, key, release FROM artworks UNION ALL "
        "SELECT upload, iif(directory = '', preview, directory || '/' || preview), artists.key, albums.key, release "
        "FROM illustrations JOIN parts USING (upload) JOIN albums ON albums.id = parts.album "
        "JOIN artists ON artists.id = albums.artist), "
        "there AS (SELECT upload, path, artist, key, release FROM pictures) "
        "SELECT uid FROM uploads WHERE seq IN (SELECT upload FROM (SELECT * FROM wanted EXCEPT SELECT * FROM there) "
        "UNION SELECT upload FROM (SELECT * FROM there EXCEPT SELECT * FROM wanted))",
        "The cover of upload {0!r} is not the one that it brought or made.",
    ),
    (
        "SELECT parts.name, uid FROM parts JOIN uploads ON seq = upload "
        "WHERE shown <> EXISTS (SELECT 1 FROM songs WHERE songs.upload = parts.upload AND songs.shown)",
        "Album {0!r} of upload {1!r} is there without a song, or hidden with one.",
    ),
    (
        "SELECT name FROM albums WHERE NOT kept AND id NOT IN (SELECT album FROM parts)",
        "Album {0!r} is left over: no upload refers to it.",
    ),
    (
        "SELECT name FROM albums WHERE shown <> (kept OR id IN (SELECT album FROM parts WHERE shown))",
        "Album {0!r} is shown without a song, or hidden with one.",
    ),
    (
        "SELECT name, (SELECT parts.name FROM parts WHERE album = albums.id AND shown ORDER BY upload LIMIT 1) "
        "AS oldest FROM albums WHERE NOT kept AND name <> oldest",
        "Album {0!r} should be spelled {1!r}.",
    ),
    (
        "SELECT albums.name FROM albums JOIN artists ON artists.id = albums.artist "
        "WHERE albums.kept AND NOT artists.kept",
        "Album {0!r} was added by hand, but its artist was not.",
    ),
    (
        "SELECT name FROM artists WHERE NOT kept AND id NOT IN "
        "(SELECT artist FROM videos UNION SELECT artist FROM songs UNION SELECT artist FROM albums)",
        "Artist {0!r} is left over: no upload refers to it.",
    ),
    (
        "SELECT name FROM artists WHERE shown <> (kept OR id IN (SELECT artist FROM credits))",
        "Artist {0!r} is shown without a work, or hidden with one.",
    ),
    (
        "SELECT name, (SELECT credit FROM credits WHERE artist = artists.id ORDER BY upload, first, credit LIMIT 1) "
        "AS oldest FROM artists WHERE NOT kept AND name <> oldest",
        "Artist {0!r} should be spelled {1!r}.",
    ),
)
"""Queries that must find nothing, and a sentence for each row that they do find."""

_KEYS: Final = (
    ("Artist", "SELECT name, key FROM artists"),
    ("Album", "SELECT name, key FROM albums"),
    ("Album", "SELECT parts.name, albums.key FROM parts JOIN albums ON albums.id = parts.album"),
    ("Song", "SELECT name, key FROM songs"),
    ("Video", "SELECT name, key FROM videos"),
    ("Credit", "SELECT credit, artists.key FROM credits JOIN artists ON artists.id = credits.artist"),
)
"""Names, and the keys under which they are filed."""

_SIMILAR: Final = (
    ("Artist", "SELECT name, similar FROM artists"),
    ("Album", "SELECT name, similar FROM albums"),
)

_WORDS: Final = (
    ("Artist", "SELECT name, words, '', more FROM artists"),
    (
        "Album",
        "SELECT albums.name, albums.words, artists.name, albums.more "
        "FROM albums JOIN artists ON artists.id = albums.artist",
    ),
    (
        "Song",
        "SELECT songs.name, songs.words, credit || ' ' || albums.name || ' ' || artists.name, songs.more "
        "FROM songs JOIN albums ON albums.id = songs.album JOIN artists ON artists.id = albums.artist",
    ),
    ("Video", "SELECT name, words, credit, more FROM videos"),
)
"""Names, and the words by which rows are found: of themselves, and of what they belong to."""


def content_hash(db: sqlite3.Connection) -> str:
    """See `Catalogue.content_hash`."""
    rows = sorted(orjson.dumps(tuple(row)) for query in _CONTENT for row in db.execute(query))
    return hashlib.sha256(b"\n".join(rows)).hexdigest()


def faults(db: sqlite3.Connection) -> Iterator[str]:
    """A sentence for each thing that is damaged or cannot be."""
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
    for what, query in _SIMILAR:
        for name, key in db.execute(query):
            if similar_key(name) != key:
                yield f"{what} {name!r} is similar to {key!r} instead of {similar_key(name)!r}."
    for what, query in _WORDS:
        for name, words, others, more in db.execute(query):
            if set(search_words(name)) != set(words.split()) or set(search_words(others)) != set(more.split()):
                yield f"{what} {name!r} is found by other words than its names have."
    for table, number in FOUND:
        if _sum_of_index(db, table) != _sum_of_rows(db, table, number):
            yield f"The index for searching {table} does not fit to what is there."


# Sums, because a set of a million words is more than a check should need.


def _sum_of_index(db: sqlite3.Connection, table: str) -> int:
    return sum(hash(tuple(row)) for row in db.execute(f"SELECT doc, col, term FROM {table}_index"))  # noqa: S608 -- constants


def _sum_of_rows(db: sqlite3.Connection, table: str, number: str) -> int:
    return sum(
        hash((row["number"], column, word))
        for row in db.execute(f"SELECT {number} AS number, words, more FROM {table} WHERE shown")  # noqa: S608 -- constants
        for column in ("words", "more")
        for word in set(row[column].split())
    )
