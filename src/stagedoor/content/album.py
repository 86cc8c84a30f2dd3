"""Albums: an archive of songs, or a single song. One upload, one plan, one import, one undo.

An archive is never unpacked into a directory. Pre-processing reads its songs one after the other through a nameless
file, integration reads them again, straight into the library, and takes only those that have the hash from the
first time.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

from attrs import evolve

from ..errors import ContentRejected, DataLost, StorageError
from ..names import match_key
from ..ports import AlbumEntry, Illustrated, Library, MusicLibrary, Preprocessed, SongEntry, Source, Surroundings
from ..tasks import JSON, Finding, Plan, PlannedFile, UploadTask, extension_of
from . import naming
from .annotations import origin, release_year, text, yes_or_no
from .artists import settle_artist
from .corrections import corrected
from .covers import SIZES, cover_names, free_cover
from .decoding import Decoder
from .decoding.archive import ArchiveLimits, extract
from .decoding.audio import embedded_cover
from .decoding.image import CoverPictures, make_cover
from .gathering import Gatherer
from .records import no_plan, number, recorded, string
from .songs import Track, guess_album, in_order, listed, look_at_tracks, tracks_from
from .spool import Spool

__all__ = ["Album"]

_log = logging.getLogger(__name__)


class Album:
    """The content type ``album``.

    Annotations, each taking the place of what tags and names say: ``artistname``, ``albumname``, ``release`` (text or
    number), ``origin``; ``compilation`` (true or false); ``tracks``, an object by running number from ``"1"`` of
    objects with ``title``, ``artist``, ``disc``, ``number``, and ``skip`` (true leaves the song out).

    Args:
        decoder: Its child processes open the files.
        scheme: Names the files.
        extensions: True types that are let into the library.
        limits: What an archive may hold.
        songs: The most songs in an upload.
        scratch: Directory on a disk with room for the largest song; ``None`` is the system's temporary directory.
    """

    name = "album"
    has_artwork = True

    def __init__(
        self,
        decoder: Decoder,
        *,
        scheme: naming.Scheme = naming.SCHEMES["musicdb"],
        extensions: tuple[str, ...] = ("mp3", "m4a", "aac", "flac", "ogg", "opus", "wav", "aiff"),
        limits: ArchiveLimits | None = None,
        songs: int = 500,
        scratch: str | os.PathLike[str] | None = None,
    ) -> None:
        self._decoder = decoder
        self._scheme = scheme
        self._limits = limits or ArchiveLimits()
        self._scratch = scratch
        self._gatherer = Gatherer(decoder, extensions, self._limits, songs, scratch)

    # ── preprocess ────────────────────────────────────────────────────────────────────────────────────────────

    def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
        """Look at every song.

        The facts: ``kind`` (of the archive, or of the song), ``tracks`` (`Track` as JSON, in the order of discs and
        numbers), ``cover`` (where the picture comes from, or ``None``), ``guess`` (suggestions for annotations),
        ``left_out`` (names of what stays in the archive).

        Raises:
            ContentRejected: ``empty``, or as `Gatherer.gather`.
            StorageError: As `Decoder.run`; or there is no room to look at a song.
            ConfigurationError: ``media_missing``.
        """
        found = self._gatherer.gather(task, source)
        sound = [track for track in found.tracks if not track.problem]
        if not sound:
            first = found.tracks[0]
            raise ContentRejected(
                f"No song of the album can be used. {listed([first.name])}: {first.reason}", code="no_songs"
            )
        tracks = in_order(found.tracks)
        guess = guess_album(sound, _outside(task) if tracks[0].member is not None else "")
        findings = [*look_at_tracks(tracks), *found.findings]
        if found.cover is None:
            findings.append(
                Finding("no_cover", "warn", "There is no cover, neither as a picture nor in the songs. Send one later.")
            )
        if guess.compilation and "artistname" not in task.annotations:
            findings.append(
                Finding("compilation", "warn", f"The songs are by several artists; the album is by {guess.artist}.")
            )
        return Preprocessed(
            content={
                "kind": found.kind,
                "tracks": [track.to_json() for track in tracks],
                "cover": found.cover,
                "guess": guess.to_json(),
                "left_out": list(found.left_out),
            },
            findings=findings,
        )

    # ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """Name the files, or say what is missing.

        Problems: ``annotation_missing``, ``unusable_name``, ``invalid_release``, ``invalid_tracks``,
        ``nothing_left``, ``not_preprocessed``; questions: ``artist_similar``, ``album_exists``; warnings:
        ``artist_matched``, ``already_in_library``, ``names_guessed``.
        """
        problems: list[Finding] = []
        tracks = tracks_from(task.content.get("tracks"))
        guess = task.content.get("guess")
        if not tracks or not isinstance(guess, Mapping):
            return Plan(files=(), problems=(_NOT_YET,))
        # Of one file there is one song, so its hash is its name; bytes and facts stay where they are on record.
        at = {track.sha256: index for index, track in enumerate(tracks)}
        tracks = corrected(tracks, task.annotations.get("tracks"), problems)
        artist = text(task, "artistname", problems, default=guess.get("artistname"))
        album = text(task, "albumname", problems, default=guess.get("albumname"))
        compilation = yes_or_no(task, "compilation", problems, default=guess.get("compilation") is True)
        wants_year = "year" in self._scheme.for_songs(compilation=compilation).mandatory
        release = release_year(task, problems, default=guess.get("release"), required=wants_year)
        if artist is None or album is None or release is None or any(p.severity == "reject" for p in problems):
            return Plan(files=(), problems=tuple(problems))
        by = settle_artist(task, around, artist, problems)
        named: dict[str, naming.Value] = {"albumartist": by.filed, "album": album, "year": release or None}
        several = any(track.disc > 1 or track.discs > 1 for track in tracks)
        songs: list[JSON] = []
        files: list[PlannedFile] = []
        taken: dict[str, int] = {}
        for track in tracks:
            try:
                path = self._path(track, named, by.there, compilation=compilation, several=several, taken=taken)
            except ContentRejected as error:
                problems.append(Finding(error.code, "reject", f"{track.name[:120]}: {error.sentence}"))
                continue
            source = "" if track.member is None else f"member-{track.member}"
            files.append(PlannedFile("music", path, source, track.size, track.sha256))
            songs.append(
                {
                    "track": at[track.sha256], "name": track.title, "artist": track.artist or by.name,
                    "disc": track.disc or 1, "number": track.track,
                }
            )  # fmt: skip
        problems += _from_names(task, guess)
        problems += _known_already(around, tracks, by.name, album, release, _replaced(task, around, files))
        entry: dict[str, JSON] = {
            "artist": by.name,
            "album": album,
            "release": release,
            "origin": origin(task),
            "sha1": task.sourcechecksum or "",
            "songs": songs,
        }
        artwork: tuple[PlannedFile, ...] = ()
        cover = task.content.get("cover")
        if isinstance(cover, Mapping):
            try:
                base = self._scheme.cover.path(named)
            except ContentRejected as error:
                problems.append(
                    Finding("no_cover", "warn", f"The cover has no name, and is left out. {error.sentence}")
                )
            else:
                artwork = _artwork(around, base)
                where = {"member": cover.get("member"), "embedded": cover.get("embedded") is True}
                entry["cover"] = {**where, "base": base}
        return Plan(files=tuple(files), artwork=artwork, entry=entry, problems=tuple(problems))

    def _path(
        self,
        track: Track,
        named: Mapping[str, naming.Value],
        there: Sequence[str],
        *,
        compilation: bool,
        several: bool,
        taken: dict[str, int],
    ) -> str:
        """A path of its own for a song.

        Args:
            taken: The paths of the other songs, as compared, and the last number that one of this name got.
        """
        values: dict[str, naming.Value] = {
            **named,
            "artist": track.artist or None,
            "disc": (track.disc or 1) if several else None,
            "track": track.track or None,
        }

        def path_of(title: str) -> str:
            return self._scheme.song_path(
                {**values, "title": title}, track.extension, compilation=compilation, there=there
            )

        path = path_of(track.title)
        if match_key(path) in taken:  # of a long title the end would be cut off, and with it the number
            short = track.title[:_SHORT]
            series = match_key(path_of(short))
            number = taken.get(series, 1)
            while match_key(path) in taken:
                number += 1
                path = path_of(f"{short} ({number})")
            taken[series] = number
        taken.setdefault(match_key(path), 1)
        return path

    # ── integrate ─────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def produce(
        self, task: UploadTask, source: Source, files: Sequence[PlannedFile]
    ) -> Iterator[Iterator[tuple[PlannedFile, BinaryIO]]]:
        """The songs of an archive, in its order.

        Raises:
            ContentRejected: As `extract`.
            DataLost: The archive is not the one that was looked at.
            StorageError: As `Decoder.run`.
        """
        wanted = {_member(file): file for file in files}
        try:
            with extract(self._decoder, source, _kind(task), wanted, self._limits) as members:
                yield ((wanted[member.index], stream) for member, stream in members)
        except ContentRejected as error:
            # It was read to its end before: whoever sent it is blamed only if it is still what was sent.
            if error.code.startswith("archive_") and _sha256(source) != task.sha256:
                raise DataLost(
                    "The stored file is not the one that was looked at: the disk has changed it. Remove this upload, "
                    "and upload the file again."
                ) from error
            raise

    # ── import ────────────────────────────────────────────────────────────────────────────────────────────────

    def import_(self, task: UploadTask, library: Library) -> None:
        """Tell the catalogue. Songs that were there already, byte for byte, stay those of the upload that brought them.

        Raises:
            ContentRejected: ``no_plan``, ``nothing_to_place``, or the catalogue's.
        """
        entry = recorded(task)
        tracks = tracks_from(task.content.get("tracks")) or ()
        placed = {file.sha256: file for file in task.placed if file.root == "music"}
        planned = {file.sha256 for file in task.plan.files} if task.plan else ()
        songs = []
        for song in _sequence(entry, "songs"):
            at = song.get("track") if isinstance(song, Mapping) else None
            if not isinstance(song, Mapping) or not isinstance(at, int) or not 0 <= at < len(tracks):
                raise no_plan()
            track = tracks[at]
            if track.sha256 not in placed:
                if track.sha256 in planned:
                    raise no_plan()
                continue  # it is there already, as the song of an earlier upload
            file = placed[track.sha256]
            songs.append(
                SongEntry(
                    path=file.path,
                    name=string(song, "name"),
                    artist=string(song, "artist"),
                    disc=int(number(song, "disc")),
                    number=int(number(song, "number")),
                    size=file.size,
                    sha1=track.sha1,
                    sha256=file.sha256,
                    duration=float(track.duration),
                    codec=track.codec,
                )
            )
        if not songs:
            raise ContentRejected("All songs of it are those of earlier uploads.", code="nothing_to_place")
        library.put(
            task.uid,
            AlbumEntry(
                artist=string(entry, "artist"),
                name=string(entry, "album"),
                release=string(entry, "release"),
                origin=string(entry, "origin"),
                sha1=string(entry, "sha1"),
                songs=tuple(songs),
            ),
        )

    def renamed(self, plan: Plan, around: Surroundings) -> Plan:
        """Other names for the cover: see `stagedoor.ports.Renamer`."""
        cover = plan.entry.get("cover")
        base = cover.get("base") if isinstance(cover, Mapping) else None
        return evolve(plan, artwork=_artwork(around, base)) if isinstance(base, str) else plan

    # ── illustrate ────────────────────────────────────────────────────────────────────────────────────────────

    def illustrate(self, task: UploadTask, source: Source) -> Illustrated:
        """Make the cover and its small copies; nothing when there is no picture, or none can be made of it.

        Raises:
            ContentRejected: ``no_plan``.
            StorageError: As `Decoder.run`.
        """
        entry = recorded(task)
        assert task.plan is not None
        nothing = Illustrated(files={}, directory="", thumbnail="", preview="")
        if not task.plan.artwork:
            return nothing
        paths = {file.source: file.path for file in task.plan.artwork}
        cover = entry.get("cover")
        if not isinstance(cover, Mapping) or not {"cover", str(SIZES[1])} <= paths.keys():
            raise no_plan()
        try:
            pictures = self._cover(task, source, cover)
        except ContentRejected as error:  # it was looked at before; an album is not worth less without
            _log.warning("upload %s gets no cover: %s", task.id, error.sentence)
            return evolve(
                nothing, findings=[Finding("no_cover", "warn", f"The cover could not be made. {error.sentence}")]
            )
        made = {"cover": pictures.full, **{str(side): data for side, data in pictures.small.items()}}
        directory, _, name = paths["cover"].rpartition("/")
        return Illustrated(
            files={path: made[word] for word, path in paths.items()},
            directory=directory,
            thumbnail=paths[str(SIZES[1])].rpartition("/")[2],
            preview=name,
        )

    def _cover(self, task: UploadTask, source: Source, cover: Mapping[str, JSON]) -> CoverPictures:
        member, embedded = cover.get("member"), cover.get("embedded") is True
        if not isinstance(member, int):
            return self._render(source, embedded=embedded)
        with (
            Spool(self._scratch) as spool,
            extract(self._decoder, source, _kind(task), [member], self._limits) as members,
        ):
            for _, stream in members:
                spool.fill(stream)
            return self._render(spool.source, embedded=embedded)

    def _render(self, source: Source, *, embedded: bool) -> CoverPictures:
        pictures = (
            embedded_cover(self._decoder, source, SIZES) if embedded else make_cover(self._decoder, source, SIZES)
        )
        if pictures is None:
            raise ContentRejected("The picture in the song cannot be found any more.", code="no_picture")
        return pictures


def _outside(task: UploadTask) -> str:
    """The archive's name, without what says that it is one."""
    stem = task.sourcefilename
    while (extension := extension_of(stem)) in ("zip", "tar", "gz", "xz", "bz2", "tgz", "txz", "tbz2"):
        stem = stem[: -len(extension) - 1]
    return stem


# ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────────

_BLOCK: Final = 1 << 20
_SHORT: Final = 40
"""Characters of a title that leave room for a number behind it."""
_NOT_YET: Final = Finding("not_preprocessed", "reject", "The content has not been examined yet. Wait until it is.")


def _from_names(task: UploadTask, guess: Mapping[str, JSON]) -> Iterator[Finding]:
    """What was guessed from names of files, and nobody has said otherwise: nobody may have meant it."""
    named = guess.get("named")
    keys = [
        key
        for key in (named if isinstance(named, Sequence) and not isinstance(named, str) else ())
        if isinstance(key, str) and key in _MEANINGS and task.annotations.get(key) in (None, "")
    ]
    if keys:
        said = ", ".join(f"{_MEANINGS[key]} “{guess.get(key)}”" for key in keys)
        others = " or ".join(f"“{key}”" for key in keys)
        yield Finding(
            "names_guessed",
            "warn",
            f"Taken from the file's name, or from names in the archive, for no tag says it: {said}. If that is wrong, "
            f"annotate {others}.",
        )


_MEANINGS: Final = {"artistname": "artist", "albumname": "album", "release": "year"}


def _replaced(task: UploadTask, around: Surroundings, files: Sequence[PlannedFile]) -> Set[str | None]:
    """SHA-256 of the songs that take the names of others, as the user has decided: nothing is added by these."""
    if task.annotations.get("answers.destination_exists") != "replace":
        return set()
    found = set()
    for file in files:
        with suppress(StorageError):  # whoever looks for what is in the way says so
            if around.exists(file.root, file.path):
                found.add(file.sha256)
    return found


def _known_already(
    around: Surroundings,
    tracks: Sequence[Track],
    artist: str,
    album: str,
    release: str,
    replaced: Set[str | None],
) -> Iterator[Finding]:
    library = around.library
    if not isinstance(library, MusicLibrary):
        return
    there = [track.name for track in tracks if library.find_sha1(track.sha1)]
    if there:
        yield Finding(
            "already_in_library",
            "warn",
            f"{len(there)} of {len(tracks)} songs are in the library already, byte for byte.",
        )
    songs = library.find_songs(artist, album, release)
    new = {_place(track.disc or 1, track.track, track.title) for track in tracks if track.sha256 not in replaced}
    if any(_place(song.disc, song.number, song.name) in new for song in songs):
        old = ", ".join(sorted({song.codec for song in songs}))
        now = ", ".join(sorted({track.codec for track in tracks}))
        yield Finding(
            "album_exists",
            "hold",
            f"The library has songs of this album already: {len(songs)}, {old}; this upload has {len(tracks)}, {now}. "
            "Add these beside them? Else undo the former import first, or remove this upload.",
            options=("add",),
        )


def _place(disc: int, number: int, title: str) -> tuple[int, int | str]:
    """What makes a song the same one on an album: its number, or where nobody knows it, its title."""
    return disc, number or match_key(title)


def _artwork(around: Surroundings, base: str) -> tuple[PlannedFile, ...]:
    names = cover_names(free_cover(around, base))
    return tuple(PlannedFile("artwork", path, word, optional=True) for word, path in names.items())


# ── what integration put on record ────────────────────────────────────────────────────────────────────────────


def _member(file: PlannedFile) -> int:
    word, _, number = file.source.partition("-")
    if word != "member" or not number.isdecimal():
        raise no_plan()
    return int(number)


def _kind(task: UploadTask) -> str:
    kind = task.content.get("kind")
    if not isinstance(kind, str):
        raise no_plan()
    return kind


def _sha256(source: Source) -> str:
    with source() as file:
        digest = hashlib.sha256()
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sequence(entry: Mapping[str, JSON], key: str) -> Sequence[JSON]:
    value = entry.get(key)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise no_plan()
    return value
