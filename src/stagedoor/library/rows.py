"""How entries become rows, and what follows from them for the other rows.

Every change is made inside `settling`. It notes which paths an upload claims before and after, lets the newest upload
have each, and then brings up to date what the entries that are there say about albums and artists. All of it is
worked out from the entries of the moment, never from how it was before; that is why uploads may be forgotten in any
order.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from attrs import field, fields, frozen

from ..names import match_key, search_words, similar_key
from ..ports import AlbumEntry, ArtworkEntry, Entry, SongEntry, VideoEntry
from .entries import album_ambiguous, album_not_found, cover_path

__all__ = [
    "SONG_FIELDS",
    "VIDEO_FIELDS",
    "candidates",
    "keep_album",
    "one",
    "put",
    "set_picture",
    "settling",
    "upload_of",
]

VIDEO_FIELDS: Final = tuple(a.name for a in fields(VideoEntry))
SONG_FIELDS: Final = tuple(a.name for a in fields(SongEntry))


def one(db: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> sqlite3.Row | None:
    """The first row of an answer, or ``None``."""
    row: sqlite3.Row | None = db.execute(query, values).fetchone()
    return row


def upload_of(db: sqlite3.Connection, uid: str) -> int | None:
    """The number of an upload that has an entry, or ``None``."""
    row = one(db, "SELECT seq FROM uploads WHERE uid = ?", (uid,))
    return None if row is None else int(row["seq"])


# ── entries ───────────────────────────────────────────────────────────────────────────────────────────────────


def put(db: sqlite3.Connection, uid: str, entry: Entry) -> None:
    """Make an entry that of its upload; inside `settling`.

    Raises:
        ContentRejected: ``album_not_found``, ``album_ambiguous``.
    """
    kind = "video" if isinstance(entry, VideoEntry) else "album" if isinstance(entry, AlbumEntry) else "artwork"
    # An entry of another kind is another entry; cascades clear the old one's rows.
    db.execute("DELETE FROM uploads WHERE uid = ? AND kind <> ?", (uid, kind))
    db.execute("INSERT INTO uploads (uid, kind) VALUES (?, ?) ON CONFLICT (uid) DO NOTHING", (uid, kind))
    upload = upload_of(db, uid)
    assert upload is not None
    if isinstance(entry, VideoEntry):
        _put_video(db, upload, entry)
    elif isinstance(entry, AlbumEntry):
        _put_album(db, upload, entry)
    else:
        _put_artwork(db, upload, entry)
    set_picture(db, upload)


def _put_video(db: sqlite3.Connection, upload: int, entry: VideoEntry) -> None:
    values = {name: getattr(entry, name) for name in VIDEO_FIELDS}
    values |= {"upload": upload, "artist": _artist(db, entry.artist), "credit": entry.artist}
    values |= {"key": match_key(entry.name), "words": _words(entry.name), "more": _words(entry.artist)}
    db.execute("DELETE FROM videos WHERE upload = ?", (upload,))
    db.execute(
        """
        INSERT INTO videos (
            upload, artist, credit, path, name, key, release, origin, size, sha1, sha256, duration, width, height,
            codec, words, more, shown
        ) VALUES (
            :upload, :artist, :credit, :path, :name, :key, :release, :origin, :size, :sha1, :sha256, :duration, :width,
            :height, :codec, :words, :more, 0
        )
        """,
        values,
    )


def _put_album(db: sqlite3.Connection, upload: int, entry: AlbumEntry) -> None:
    album = _album(db, entry.artist, entry.name, entry.release)
    artists = {name: _artist(db, name) for name in {song.artist for song in entry.songs}}
    around = f"{_words(entry.name)} {_words(entry.artist)}"
    more = {name: _words(f"{name} {around}") for name in artists}
    db.execute("DELETE FROM parts WHERE upload = ?", (upload,))
    db.execute(
        "INSERT INTO parts (upload, album, credit, name, origin, sha1, shown) VALUES (?, ?, ?, ?, ?, ?, 0)",
        (upload, album, entry.artist, entry.name, entry.origin, entry.sha1),
    )
    db.executemany(
        """
        INSERT INTO songs (
            upload, album, artist, credit, path, name, key, disc, number, size, sha1, sha256, duration, codec, words,
            more, shown
        ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
        """,
        [
            (
                upload,
                album,
                artists[song.artist],
                song.artist,
                song.path,
                song.name,
                match_key(song.name),
                song.disc,
                song.number,
                song.size,
                song.sha1,
                song.sha256,
                song.duration,
                song.codec,
                _words(song.name),
                more[song.artist],
            )
            for song in entry.songs
        ],
    )


def _put_artwork(db: sqlite3.Connection, upload: int, entry: ArtworkEntry) -> None:
    found = candidates(db, entry.artist, entry.album, entry.albumid)
    if not found:
        raise album_not_found(entry)
    if len(found) > 1:
        raise album_ambiguous(entry)
    db.execute("DELETE FROM artworks WHERE upload = ?", (upload,))
    db.execute(
        """
        INSERT INTO artworks (upload, artist, key, release, path, credit, title, wanted, sha256)
            SELECT ?, artists.key, albums.key, release, ?, ?, ?, ?, ?
            FROM albums JOIN artists ON artists.id = albums.artist WHERE albums.id = ?
        """,
        (upload, entry.path, entry.artist, entry.album, entry.albumid, entry.sha256, found[0]),
    )


def candidates(db: sqlite3.Connection, artist: str, album: str, albumid: str | None) -> list[int]:
    """The albums that are meant, by year.

    The id names the album; one that leads nowhere, as after a new start of the catalogue, leaves the names.
    """
    if albumid is not None and re.fullmatch(r"[1-9][0-9]{0,17}", albumid):
        row = one(db, "SELECT id FROM albums WHERE id = ? AND shown", (int(albumid),))
        if row is not None:
            return [int(row["id"])]
    rows = db.execute(
        """
        SELECT albums.id FROM albums JOIN artists ON artists.id = albums.artist
        WHERE artists.key = ? AND albums.key = ? AND albums.shown ORDER BY release
        """,
        (match_key(artist), match_key(album)),
    )
    return [int(row["id"]) for row in rows]


def keep_album(db: sqlite3.Connection, artist: str, name: str, release: str, cover: str | None) -> int:
    """Add an album by hand, or take one over that uploads brought; its id."""
    key = match_key(artist)
    db.execute(
        """
        INSERT INTO artists (key, name, similar, words, kept, shown) VALUES (?, ?, ?, ?, 1, 1)
        ON CONFLICT (key) DO UPDATE SET name = excluded.name, kept = 1, shown = 1 WHERE NOT kept
        """,
        (key, artist, similar_key(artist), _words(artist)),
    )
    album = _album(db, artist, name, release)
    db.execute(
        "UPDATE albums SET name = ?, cover = ?, kept = 1, shown = 1 WHERE id = ? AND NOT kept", (name, cover, album)
    )
    return album


def set_picture(db: sqlite3.Connection, upload: int) -> None:
    """Work out which cover an upload brings or makes; inside `settling`."""
    db.execute("DELETE FROM pictures WHERE upload = ?", (upload,))
    row = one(
        db,
        """
        SELECT artists.key AS artist, albums.key, release, directory, preview
        FROM illustrations JOIN parts USING (upload) JOIN albums ON albums.id = parts.album
            JOIN artists ON artists.id = albums.artist
        WHERE upload = ?
        """,
        (upload,),
    )
    if row is not None:
        path = cover_path(row["directory"], row["preview"])
        values = (upload, path, row["artist"], row["key"], row["release"])
        db.execute("INSERT INTO pictures (upload, path, artist, key, release, shown) VALUES (?, ?, ?, ?, ?, 0)", values)
    db.execute(
        """
        INSERT INTO pictures (upload, path, artist, key, release, shown)
            SELECT upload, path, artist, key, release, 0 FROM artworks WHERE upload = ?
        """,
        (upload,),
    )


def _artist(db: sqlite3.Connection, name: str) -> int:
    key = match_key(name)
    row = one(db, "SELECT id FROM artists WHERE key = ?", (key,))
    if row is not None:
        return int(row["id"])
    added = db.execute(
        "INSERT INTO artists (key, name, similar, words, kept, shown) VALUES (?, ?, ?, ?, 0, 0)",
        (key, name, similar_key(name), _words(name)),
    )
    assert added.lastrowid is not None
    return added.lastrowid


def _album(db: sqlite3.Connection, artist: str, name: str, release: str) -> int:
    known = (_artist(db, artist), match_key(name), release)
    row = one(db, "SELECT id FROM albums WHERE artist = ? AND key = ? AND release = ?", known)
    if row is not None:
        return int(row["id"])
    added = db.execute(
        """
        INSERT INTO albums (artist, key, release, name, similar, words, more, kept, shown)
        VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)
        """,
        (*known, name, similar_key(name), _words(name), _words(artist)),
    )
    assert added.lastrowid is not None
    return added.lastrowid


def _words(text: str) -> str:
    return " ".join(search_words(text))


# ── what follows ──────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class _Touched:
    """Rows that a change may have changed something for."""

    uploads: set[int] = field(factory=set)
    albums: set[int] = field(factory=set)
    artists: set[int] = field(factory=set)

    def note(self, db: sqlite3.Connection, paths: Iterable[str]) -> None:
        for path in paths:
            rows = db.execute(
                """
                SELECT upload, album, songs.artist, albums.artist AS owner
                FROM songs JOIN albums ON albums.id = album WHERE path = ?1
                UNION ALL SELECT upload, NULL, artist, artist FROM videos WHERE path = ?1
                """,
                (path,),
            )
            for row in rows:
                self.artists.update((row["artist"], row["owner"]))
                if row["album"] is not None:
                    self.uploads.add(row["upload"])
                    self.albums.add(row["album"])


@contextmanager
def settling(db: sqlite3.Connection, uid: str) -> Iterator[None]:
    """Change an upload's rows inside; afterwards everything else fits to them again."""
    touched = _Touched()
    music, pictures = _claims(db, uid)
    touched.note(db, music)
    yield
    more_music, more_pictures = _claims(db, uid)
    touched.note(db, more_music)
    _give_to_the_newest(db, music | more_music, pictures | more_pictures)
    for upload in touched.uploads:
        db.execute(
            "UPDATE parts SET shown = EXISTS (SELECT 1 FROM songs WHERE songs.upload = parts.upload AND shown) "
            "WHERE upload = ?",
            (upload,),
        )
    for album in touched.albums:
        _settle_album(db, album)
    for artist in touched.artists:
        _settle_artist(db, artist)


def _claims(db: sqlite3.Connection, uid: str) -> tuple[set[str], set[str]]:
    """The paths of an upload in the music directory, and in the artwork directory."""
    upload = upload_of(db, uid)
    music = db.execute(
        "SELECT path FROM songs WHERE upload = ?1 UNION ALL SELECT path FROM videos WHERE upload = ?1", (upload,)
    )
    pictures = db.execute("SELECT path FROM pictures WHERE upload = ?", (upload,))
    return {row["path"] for row in music}, {row["path"] for row in pictures}


_NEWEST_MUSIC: Final = (
    "(SELECT max(upload) FROM (SELECT max(upload) AS upload FROM songs WHERE path = ?1 "
    "UNION ALL SELECT max(upload) FROM videos WHERE path = ?1))"
)
_NEWEST_PICTURE: Final = "(SELECT max(upload) FROM pictures WHERE path = ?1)"


def _give_to_the_newest(db: sqlite3.Connection, music: set[str], pictures: set[str]) -> None:
    tables = (
        ("songs", _NEWEST_MUSIC, music),
        ("videos", _NEWEST_MUSIC, music),
        ("pictures", _NEWEST_PICTURE, pictures),
    )
    # Hide first: a path is shown once.
    for change in ("shown = 0 WHERE path = ?1 AND shown AND upload <>", "shown = 1 WHERE path = ?1 AND upload ="):
        for table, newest, paths in tables:
            db.executemany(f"UPDATE {table} SET {change} {newest}", [(path,) for path in paths])  # noqa: S608 -- constants


def _settle_album(db: sqlite3.Connection, album: int) -> None:
    """Remove it if no upload refers to it any more, or spell it as the oldest upload does of which songs are there."""
    row = one(db, "SELECT name FROM parts WHERE album = ? AND shown ORDER BY upload LIMIT 1", (album,))
    if row is not None:
        db.execute("UPDATE albums SET name = ?, shown = 1 WHERE id = ? AND NOT kept", (row["name"], album))
        return
    db.execute(
        "DELETE FROM albums WHERE id = ?1 AND NOT kept AND NOT EXISTS (SELECT 1 FROM parts WHERE album = ?1)", (album,)
    )
    db.execute("UPDATE albums SET shown = 0 WHERE id = ? AND NOT kept", (album,))


def _settle_artist(db: sqlite3.Connection, artist: int) -> None:
    """Likewise, after the albums."""
    row = one(db, "SELECT credit FROM credits WHERE artist = ? ORDER BY upload, first, credit LIMIT 1", (artist,))
    if row is not None:
        db.execute("UPDATE artists SET name = ?, shown = 1 WHERE id = ? AND NOT kept", (row["credit"], artist))
        return
    db.execute(
        """
        DELETE FROM artists WHERE id = ?1 AND NOT kept
            AND NOT EXISTS (SELECT 1 FROM videos WHERE artist = ?1)
            AND NOT EXISTS (SELECT 1 FROM songs WHERE artist = ?1)
            AND NOT EXISTS (SELECT 1 FROM albums WHERE artist = ?1)
        """,
        (artist,),
    )
    db.execute("UPDATE artists SET shown = 0 WHERE id = ? AND NOT kept", (artist,))
