"""Albums: an archive of songs, or a single song. One upload, one plan, one import, one undo.

An archive is never unpacked into a directory. Pre-processing reads its songs one after the other through a nameless
file, integration reads them again, straight into the library, and takes only those that have the hash from the
first time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO, Final

import attrs
from attrs import frozen

from ..errors import ContentRejected
from ..names import match_key
from ..ports import AlbumEntry, Illustrated, Library, MusicLibrary, Preprocessed, SongEntry, Source, Surroundings
from ..tasks import JSON, Finding, Plan, PlannedFile, UploadTask, extension_of
from . import naming
from .annotations import origin, release_year, text
from .artists import settle_artist
from .corrections import corrected
from .covers import SIZES, cover_names, free_cover
from .decoding import Decoder
from .decoding.archive import ArchiveFacts, ArchiveLimits, Member, extract, is_archive, list_archive
from .decoding.audio import AudioFacts, embedded_cover, probe_audio
from .decoding.image import CoverPictures, make_cover, probe_image
from .records import no_plan, number, recorded, string
from .sniffing import head_of
from .songs import Track, count, guess_album, look_at_tracks, tracks_from
from .spool import Spool, Spooled

__all__ = ["Album"]

_log = logging.getLogger(__name__)

_SONGS: Final = frozenset(
    {"mp3", "m4a", "m4b", "mp4", "aac", "flac", "ogg", "oga", "opus", "wav", "wave", "aiff", "aif", "aifc"}
    | {"wma", "ape", "wv", "mpc", "mka", "tta", "dsf", "dff", "ac3"}
)
"""Names of members that are taken for songs, also those that will be refused: nobody wants an album without them."""
_PICTURES: Final = frozenset({"jpg", "jpeg", "png", "webp"})
_FRONT: Final = ("cover", "folder", "front", "album", "albumart", "artwork")
"""What people call the picture of the front, best first."""
_MOST_PICTURES: Final = 8
_COVER_BYTES: Final = 64 << 20


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
        self._extensions = extensions
        self._limits = limits or ArchiveLimits()
        self._songs = songs
        self._scratch = scratch

    # ── preprocess ────────────────────────────────────────────────────────────────────────────────────────────

    def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
        """Look at every song.

        The facts: ``kind`` (of the archive, or of the song), ``tracks`` (`Track` as JSON, in the order of discs and
        numbers), ``cover`` (where the picture comes from, or ``None``), ``guess`` (suggestions for annotations),
        ``left_out`` (names of what stays in the archive).

        Raises:
            ContentRejected: ``empty``, ``no_songs``, ``too_many_songs``, or as `list_archive` and `probe_audio`.
            StorageError: As `Decoder.run`; or there is no room to look at a song.
            ConfigurationError: ``media_missing``.
        """
        found = self._archive(source) if is_archive(head_of(source)) else self._single(task, source)
        sound = [track for track in found.tracks if not track.problem]
        if not sound:
            first = found.tracks[0]
            raise ContentRejected(f"No song of the album can be used. {first.name}: {first.reason}", code="no_songs")
        tracks = sorted(found.tracks, key=lambda track: (track.disc, track.track or _LAST, track.name))
        guess = guess_album(sound, _name(task, tracks))
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

    def _single(self, task: UploadTask, source: Source) -> _Found:
        facts = probe_audio(self._decoder, source)
        if facts.kind not in self._extensions:
            raise ContentRejected(
                f"The song is in the format {facts.kind}, which is not supported. "
                f"Convert it to one of these: {', '.join(self._extensions)}.",
                code="unsupported_format",
            )
        size, sha1, sha256 = task.filesize or 0, task.sourcechecksum or "", task.sha256 or ""
        track = _track(None, task.sourcefilename, Spooled(size, sha1, sha256), facts)
        findings = list(_said_of(track, facts))
        cover: Mapping[str, JSON] | None = None
        if facts.cover:
            cover, problem = self._embedded(track, source)
            findings += problem
        return _Found(facts.kind, (track,), cover, (), tuple(findings))

    def _archive(self, source: Source) -> _Found:
        facts = list_archive(self._decoder, source, self._limits)
        songs = [member for member in facts.members if _extension(member.name) in _SONGS]
        if not songs:
            raise ContentRejected(
                f"There is no song in the archive. Songs are {', '.join(self._extensions)}.", code="no_songs"
            )
        if len(songs) > self._songs:
            raise ContentRejected(
                f"The archive has {len(songs)} songs, at most {self._songs} are taken at a time. Divide it.",
                code="too_many_songs",
            )
        pictures = _pictures(facts.members)
        findings = list(_said_of_archive(facts))
        wanted = {member.index: member for member in (*songs, *pictures)}
        tracks: list[Track] = []
        covers: dict[int, Mapping[str, JSON]] = {}
        embedded: Mapping[str, JSON] | None = None
        with Spool(self._scratch) as spool, self._extracting(source, facts, wanted) as members:
            for member, stream in members:
                if member in pictures:
                    if member.size <= _COVER_BYTES:
                        spool.fill(stream)
                        covers.update(self._picture(member, spool.source, findings))
                    continue
                spooled = spool.fill(stream)
                track, said = self._song(member, spooled, spool.source)
                tracks.append(track)
                findings += said
                if track.cover and embedded is None and not pictures:
                    embedded, said = self._embedded(track, spool.source)
                    findings += said
        best = next((covers[member.index] for member in pictures if member.index in covers), None)
        taken = {member.index for member in songs} | set(covers)
        left_out = tuple(member.name for member in facts.members if member.index not in taken)
        others = [name for name in left_out if _extension(name) not in _PICTURES]
        if others:
            listed = ", ".join(PurePosixPath(name).name[:80] for name in others[:5])
            findings.append(
                Finding("left_out", "warn", f"{count(len(others), 'file')} of the archive stay behind: {listed}.")
            )
        return _Found(facts.kind, tuple(tracks), best or embedded, left_out, tuple(findings))

    @contextmanager
    def _extracting(
        self, source: Source, facts: ArchiveFacts | str, indices: Iterable[int]
    ) -> Iterator[Iterator[tuple[Member, BinaryIO]]]:
        with extract(self._decoder, source, facts, sorted(indices), self._limits) as members:
            yield members

    def _song(self, member: Member, spooled: Spooled, source: Source) -> tuple[Track, list[Finding]]:
        try:
            facts = probe_audio(self._decoder, source)
            if facts.kind not in self._extensions:
                raise ContentRejected(f"The format {facts.kind} is not supported.", code="unsupported_format")
        except ContentRejected as error:
            broken = _track(member.index, member.name, spooled, None)
            return attrs.evolve(broken, problem=error.code, reason=error.sentence), []
        track = _track(member.index, member.name, spooled, facts)
        return track, list(_said_of(track, facts))

    def _picture(self, member: Member, source: Source, findings: list[Finding]) -> Mapping[int, Mapping[str, JSON]]:
        try:
            facts = probe_image(self._decoder, source)
        except ContentRejected as error:
            findings.append(
                Finding("cover_unusable", "warn", f"{member.name[:120]} cannot be the cover. {error.sentence}")
            )
            return {}
        found: dict[str, JSON] = {
            "member": member.index, "name": member.name, "embedded": False,
            "width": facts.width, "height": facts.height,
        }  # fmt: skip
        return {member.index: found}

    def _embedded(self, track: Track, source: Source) -> tuple[Mapping[str, JSON] | None, list[Finding]]:
        """The picture in a song, if it can be used."""
        reason = "There is no whole picture in it."
        try:
            pictures = embedded_cover(self._decoder, source, SIZES)
        except ContentRejected as error:
            pictures, reason = None, error.sentence
        if pictures is None:
            sentence = f"The picture in {track.name[:120]} cannot be used. {reason}"
            return None, [Finding("cover_unusable", "warn", sentence)]
        found: dict[str, JSON] = {
            "member": track.member, "name": track.name, "embedded": True,
            "width": pictures.width, "height": pictures.height,
        }  # fmt: skip
        return found, []

    # ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """Name the files, or say what is missing.

        Problems: ``annotation_missing``, ``unusable_name``, ``invalid_release``, ``invalid_tracks``,
        ``nothing_left``, ``not_preprocessed``; questions: ``artist_similar``, ``album_exists``; warnings:
        ``artist_matched``, ``already_in_library``.
        """
        problems: list[Finding] = []
        tracks = tracks_from(task.content.get("tracks"))
        guess = task.content.get("guess")
        if not tracks or not isinstance(guess, Mapping):
            return Plan(files=(), problems=(_NOT_YET,))
        tracks = corrected(tracks, task.annotations.get("tracks"), problems)
        artist = text(task, "artistname", problems, default=guess.get("artistname"))
        album = text(task, "albumname", problems, default=guess.get("albumname"))
        compilation = task.annotations.get("compilation", guess.get("compilation")) is True
        wants_year = "year" in self._scheme.for_songs(compilation=compilation).mandatory
        release = release_year(task, problems, default=guess.get("release"), required=wants_year)
        if artist is None or album is None or release is None or any(p.severity == "reject" for p in problems):
            return Plan(files=(), problems=tuple(problems))
        by = settle_artist(task, around, artist, problems)
        named: dict[str, naming.Value] = {"albumartist": by.filed, "album": album, "year": release or None}
        several = any(track.disc > 1 or track.discs > 1 for track in tracks)
        songs: list[JSON] = []
        files: list[PlannedFile] = []
        taken: set[str] = set()
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
                    "path": path, "name": track.title, "artist": track.artist or by.name, "disc": track.disc or 1,
                    "number": track.track, "sha1": track.sha1, "duration": track.duration, "codec": track.codec,
                }
            )  # fmt: skip
        problems += _known_already(around, tracks, by.name, album, release)
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
                stem = free_cover(around, self._scheme.cover.path(named))
            except ContentRejected as error:
                return Plan(files=(), problems=(*problems, Finding(error.code, "reject", error.sentence)))
            artwork = tuple(PlannedFile("artwork", path, word) for word, path in cover_names(stem).items())
            entry["cover"] = {"member": cover.get("member"), "embedded": cover.get("embedded") is True}
        return Plan(files=tuple(files), artwork=artwork, entry=entry, problems=tuple(problems))

    def _path(
        self,
        track: Track,
        named: Mapping[str, naming.Value],
        there: Sequence[str],
        *,
        compilation: bool,
        several: bool,
        taken: set[str],
    ) -> str:
        """A path of its own for a song."""
        values: dict[str, naming.Value] = {
            **named,
            "artist": track.artist or None,
            "disc": (track.disc or 1) if several else None,
            "track": track.track or None,
        }
        for attempt in range(1, len(taken) + 2):
            title = track.title if attempt == 1 else f"{track.title} ({attempt})"  # two songs may have one name
            path = self._scheme.song_path(
                {**values, "title": title}, track.extension, compilation=compilation, there=there
            )
            if match_key(path) not in taken:
                break
        taken.add(match_key(path))
        return path

    # ── integrate ─────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def produce(
        self, task: UploadTask, source: Source, files: Sequence[PlannedFile]
    ) -> Iterator[Iterator[tuple[PlannedFile, BinaryIO]]]:
        """The songs of an archive, in its order.

        Raises:
            ContentRejected: As `extract`.
            StorageError: As `Decoder.run`.
        """
        wanted = {_member(file): file for file in files}
        with self._extracting(source, _kind(task), wanted) as members:
            yield ((wanted[member.index], stream) for member, stream in members)

    # ── import ────────────────────────────────────────────────────────────────────────────────────────────────

    def import_(self, task: UploadTask, library: Library) -> None:
        """Tell the catalogue.

        Raises:
            ContentRejected: ``no_plan``, or the catalogue's.
        """
        entry = recorded(task)
        placed = {file.path: file for file in task.placed if file.root == "music"}
        songs = []
        for song in _sequence(entry, "songs"):
            if not isinstance(song, Mapping) or string(song, "path") not in placed:
                raise no_plan()
            file = placed[string(song, "path")]
            songs.append(
                SongEntry(
                    path=file.path,
                    name=string(song, "name"),
                    artist=string(song, "artist"),
                    disc=int(number(song, "disc")),
                    number=int(number(song, "number")),
                    size=file.size,
                    sha1=string(song, "sha1"),
                    sha256=file.sha256,
                    duration=number(song, "duration"),
                    codec=string(song, "codec"),
                )
            )
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

    # ── illustrate ────────────────────────────────────────────────────────────────────────────────────────────

    def illustrate(self, task: UploadTask, source: Source) -> Illustrated:
        """Make the cover and its small copies; nothing when there is no picture.

        Raises:
            ContentRejected: ``no_plan``, or as `make_cover`.
            StorageError: As `Decoder.run`.
        """
        entry = recorded(task)
        assert task.plan is not None
        if not task.plan.artwork:
            return Illustrated(files={}, directory="", thumbnail="", preview="")
        pictures = self._cover(task, source, entry)
        made = {"cover": pictures.full, **{str(side): data for side, data in pictures.small.items()}}
        paths = {file.source: file.path for file in task.plan.artwork}
        if not made.keys() >= paths.keys() or "cover" not in paths or str(SIZES[1]) not in paths:
            raise no_plan()
        directory, _, name = paths["cover"].rpartition("/")
        return Illustrated(
            files={path: made[word] for word, path in paths.items()},
            directory=directory,
            thumbnail=paths[str(SIZES[1])].rpartition("/")[2],
            preview=name,
        )

    def _cover(self, task: UploadTask, source: Source, entry: Mapping[str, JSON]) -> CoverPictures:
        cover = entry.get("cover")
        if not isinstance(cover, Mapping):
            raise no_plan()
        member, embedded = cover.get("member"), cover.get("embedded") is True
        if not isinstance(member, int):
            return self._render(source, embedded=embedded)
        with Spool(self._scratch) as spool, self._extracting(source, _kind(task), [member]) as members:
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


@frozen
class _Found:
    kind: str
    tracks: tuple[Track, ...]
    cover: Mapping[str, JSON] | None
    left_out: tuple[str, ...]
    findings: tuple[Finding, ...]


# ── preprocess ────────────────────────────────────────────────────────────────────────────────────────────────

_LAST: Final = 1 << 30


def _extension(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def _track(member: int | None, name: str, spooled: Spooled, facts: AudioFacts | None) -> Track:
    """A song with what its tags say, and where they are silent, what its name says."""
    guess = naming.guess_song(name)
    known = Track(
        member=member,
        name=name,
        size=spooled.size,
        sha1=spooled.sha1,
        sha256=spooled.sha256,
        title=guess.title or PurePosixPath(name).stem,
        artist=guess.artist or "",
        track=guess.track or 0,
        disc=guess.disc or 0,
    )
    if facts is None:
        return known
    tags = facts.tags
    return attrs.evolve(
        known,
        extension=facts.kind,
        duration=facts.duration,
        codec=facts.codec,
        bitrate=facts.bitrate,
        lossless=facts.lossless,
        cover=facts.cover,
        title=tags.title or known.title,
        artist=tags.artist or known.artist,
        albumartist=tags.albumartist,
        album=tags.album,
        year=tags.year or "",
        track=tags.track or known.track,
        tracks=tags.tracks or 0,
        disc=tags.disc or known.disc,
        discs=tags.discs or 0,
        compilation=tags.compilation,
    )


_WARNINGS: Final[Mapping[str, str]] = {
    "tags_unreadable": "its tags cannot be read; names are guessed from the file's",
    "tags_repaired": "its tags were damaged in part",
    "cover_too_large": "its picture is too large and is not looked at",
}


def _said_of(track: Track, facts: AudioFacts) -> Iterator[Finding]:
    for code in facts.warnings:
        yield Finding(code, "warn", f"{track.name[:120]}: {_WARNINGS.get(code, code.replace('_', ' '))}.")


def _said_of_archive(facts: ArchiveFacts) -> Iterator[Finding]:
    if facts.nested:
        listed = ", ".join(facts.nested[:5])
        yield Finding("nested_archive", "warn", f"Archives in the archive are not opened: {listed[:400]}.")
    if facts.links or facts.devices:
        yield Finding(
            "links_left_out", "warn", f"{facts.links + facts.devices} links and devices in the archive are left out."
        )


def _pictures(members: Sequence[Member]) -> list[Member]:
    """The pictures that may be the cover, best first."""

    def rank(member: Member) -> tuple[int, int, str]:
        path = PurePosixPath(member.name.lower())
        named = next((at for at, word in enumerate(_FRONT) if path.stem.startswith(word)), None)
        if named is None:
            named = next((at for at, word in enumerate(_FRONT) if word in path.stem), len(_FRONT))
        return named, len(path.parts), path.name

    pictures = [member for member in members if _extension(member.name) in _PICTURES]
    return sorted(pictures, key=rank)[:_MOST_PICTURES]


def _name(task: UploadTask, tracks: Sequence[Track]) -> str:
    """What the album is called from outside: the directory of all songs, else the archive's name."""
    tops = {PurePosixPath(track.name).parts[0] for track in tracks if "/" in track.name}
    if len(tops) == 1 and all("/" in track.name for track in tracks):
        return tops.pop()
    if len(tracks) == 1 and tracks[0].member is None:
        return ""
    stem = task.sourcefilename
    while (extension := extension_of(stem)) in ("zip", "tar", "gz", "xz", "bz2", "tgz", "txz", "tbz2"):
        stem = stem[: -len(extension) - 1]
    return stem


# ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────────

_NOT_YET: Final = Finding("not_preprocessed", "reject", "The content has not been examined yet. Wait until it is.")


def _known_already(
    around: Surroundings, tracks: Sequence[Track], artist: str, album: str, release: str
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
    numbers = {(track.disc or 1, track.track) for track in tracks}
    if any((song.disc, song.number) in numbers for song in songs):
        old = ", ".join(sorted({song.codec for song in songs}))
        new = ", ".join(sorted({track.codec for track in tracks}))
        yield Finding(
            "album_exists",
            "hold",
            f"The library has this album already: {len(songs)} songs, {old}; this upload has {len(tracks)}, {new}. Add "
            "these beside them? Else undo the former import first, or remove this upload.",
            options=("add",),
        )


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


def _sequence(entry: Mapping[str, JSON], key: str) -> Sequence[JSON]:
    value = entry.get(key)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise no_plan()
    return value
