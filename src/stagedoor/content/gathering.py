"""The songs and pictures of an upload, looked at one after the other: an archive of songs, or a single song.

An archive is never unpacked into a directory: what is looked at goes through one nameless file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

import attrs
from attrs import frozen

from ..errors import ContentRejected
from ..ports import Source
from ..tasks import JSON, Finding, UploadTask
from . import naming
from .covers import SIZES
from .decoding import Decoder
from .decoding.archive import ArchiveFacts, ArchiveLimits, Member, extract, is_archive, list_archive
from .decoding.audio import AudioFacts, embedded_cover, probe_audio
from .decoding.image import probe_image
from .sniffing import head_of
from .songs import LONGEST, Track, count, listed, short, without_disc
from .spool import Spool, Spooled

__all__ = ["Gathered", "Gatherer"]

_SONGS: Final = frozenset(
    {"mp3", "m4a", "m4b", "mp4", "aac", "flac", "ogg", "oga", "opus", "wav", "wave", "aiff", "aif", "aifc"}
    | {"wma", "ape", "wv", "mpc", "mka", "tta", "dsf", "dff", "ac3"}
)
"""Names of members that are taken for songs, also those that will be refused: nobody wants an album without them."""
_PICTURES: Final = frozenset({"jpg", "jpeg", "png", "webp"})
_FRONT: Final = ("cover", "folder", "front", "album", "albumart", "artwork")
"""What people call the picture of the front, best first."""
_MOST_PICTURES: Final = 8
_MOST_BROKEN: Final = 20
"""Broken songs after which an archive is given up: each costs a decoder its process, some 0.4 s."""
_CPU: Final = 30.0
_CPU_A_SONG: Final = 0.5
_CPU_A_GIB: Final = 30.0
"""Seconds of processor time that the songs of an archive may take to decode; real ones take half of that by size."""
_MOST_EMBEDDED: Final = 3
"""Songs whose picture is tried; an album has the same in all of them."""
_COVER_BYTES: Final = 64 << 20
_MOST_LEFT_OUT: Final = 100
"""Names on record."""


@frozen
class Gathered:
    """What is in an upload.

    Attributes:
        kind: Of the archive, or of the song.
        tracks: The songs, broken ones too, in the archive's order.
        cover: Where the picture of the front comes from; ``None`` without one.
        left_out: Names of what stays in the archive, the first hundred.
        findings: What was noticed.
    """

    kind: str
    tracks: tuple[Track, ...]
    cover: Mapping[str, JSON] | None
    left_out: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@frozen
class Gatherer:
    """Looks at uploads.

    Attributes:
        decoder: Its child processes open the files.
        extensions: True types that are let into the library.
        limits: What an archive may hold.
        songs: The most songs in an upload.
        scratch: See `Spool`.
    """

    decoder: Decoder
    extensions: tuple[str, ...]
    limits: ArchiveLimits
    songs: int
    scratch: str | os.PathLike[str] | None

    def gather(self, task: UploadTask, source: Source) -> Gathered:
        """Look at everything in an upload.

        Raises:
            ContentRejected: ``no_songs``, ``too_many_songs``, ``unsupported_format``, or as `list_archive` and
                `probe_audio`.
            StorageError: As `Decoder.run`; or there is no room to look at a song.
            ConfigurationError: ``media_missing``.
        """
        return self._archive(source) if is_archive(head_of(source)) else self._single(task, source)

    def _single(self, task: UploadTask, source: Source) -> Gathered:
        facts = probe_audio(self.decoder, source)
        if facts.kind not in self.extensions:
            raise ContentRejected(
                f"The song is in the format {facts.kind}, which is not supported. "
                f"Convert it to one of these: {', '.join(self.extensions)}.",
                code="unsupported_format",
            )
        spooled = Spooled(task.filesize or 0, task.sourcechecksum or "", task.sha256 or "")
        track = _track(None, task.sourcefilename, spooled, facts)
        cover, problem = self._embedded(track, source) if track.cover else (None, None)
        said = (*_said({code: [track.name] for code in facts.warnings}), *([problem] if problem else []))
        return Gathered(facts.kind, (track,), cover, findings=said)

    def _archive(self, source: Source) -> Gathered:
        facts = list_archive(self.decoder, source, self.limits)
        songs = {member for member in facts.members if _extension(member.name) in _SONGS}
        if not songs:
            raise ContentRejected(
                f"There is no song in the archive. Add some: songs are {', '.join(self.extensions)}.", code="no_songs"
            )
        if len(songs) > self.songs:
            raise ContentRejected(
                f"The archive has {len(songs)} songs, at most {self.songs} are taken at a time. Divide it.",
                code="too_many_songs",
            )
        pictures = _pictures(facts.members)
        tracks: list[Track] = []
        covers: dict[Member, Mapping[str, JSON]] = {}
        embedded: Mapping[str, JSON] | None = None
        warned: dict[str, list[str]] = {}
        unusable: dict[Member, Finding] = {}
        tries = _MOST_EMBEDDED
        limit = self.decoder.spent() + _CPU + _CPU_A_SONG * len(songs)
        limit += _CPU_A_GIB * sum(member.size for member in songs) / (1 << 30)
        wanted = [member.index for member in (*songs, *pictures)]
        with (
            Spool(self.scratch) as spool,
            extract(self.decoder, source, facts, wanted, self.limits) as members,
        ):
            for member, stream in members:
                spooled = spool.fill(stream)
                found: Mapping[str, JSON] | None
                problem: Finding | None
                if member not in songs:
                    found, problem = self._picture(member, spool.source)
                    if found is not None:
                        covers[member] = found
                else:
                    track, codes = self._song(member, spooled, spool.source)
                    tracks.append(track)
                    if self.decoder.spent() > limit:
                        raise ContentRejected(
                            "To look at the songs of this archive takes far more than songs need, at the latest "
                            f"{listed([track.name])}. Leave out what is no ordinary song.",
                            code="decoder_budget",
                        )
                    if sum(bool(one.problem) for one in tracks) > _MOST_BROKEN:
                        raise ContentRejected(
                            f"More than {_MOST_BROKEN} songs of the archive cannot be used, the first of them "
                            f"{listed([one.name for one in tracks if one.problem][:1])}: "
                            f"{next(one.reason for one in tracks if one.problem)} Make the archive anew.",
                            code="too_many_broken",
                        )
                    for code in codes:
                        warned.setdefault(code, []).append(track.name)
                    problem = None
                    if track.cover and not covers and embedded is None and tries:
                        tries -= 1
                        embedded, problem = self._embedded(track, spool.source)
                if problem is not None:
                    unusable[member] = problem
        best = next((covers[member] for member in pictures if member in covers), None)
        findings = [*_said_of_archive(facts), *_said(warned)]
        # Of a picture in a song that cannot be used nobody needs to hear when there is a better one.
        findings += [finding for member, finding in unusable.items() if best is None or member not in songs]
        left_out = [short(member.name) for member in facts.members if member not in songs and member not in covers]
        others = [PurePosixPath(name).name for name in left_out if _extension(name) not in _PICTURES]
        if others:
            stay = "stays" if len(others) == 1 else "stay"
            behind = f"{count(len(others), 'file')} of the archive {stay} behind: {listed(others)}."
            findings.append(Finding("left_out", "warn", behind))
        return Gathered(facts.kind, tuple(tracks), best or embedded, tuple(left_out[:_MOST_LEFT_OUT]), tuple(findings))

    def _song(self, member: Member, spooled: Spooled, source: Source) -> tuple[Track, Sequence[str]]:
        try:
            facts = probe_audio(self.decoder, source)
            if facts.kind not in self.extensions:
                raise ContentRejected(f"The format {facts.kind} is not supported.", code="unsupported_format")
        except ContentRejected as error:
            broken = _track(member.index, member.name, spooled, None)
            return attrs.evolve(broken, problem=error.code, reason=error.sentence), ()
        return _track(member.index, member.name, spooled, facts), facts.warnings

    def _picture(self, member: Member, source: Source) -> tuple[Mapping[str, JSON] | None, Finding | None]:
        try:
            facts = probe_image(self.decoder, source)
        except ContentRejected as error:
            return None, _unusable(f"{listed([member.name])} cannot be the cover. {error.sentence}")
        return _cover(member.index, member.name, facts.width, facts.height, embedded=False), None

    def _embedded(self, track: Track, source: Source) -> tuple[Mapping[str, JSON] | None, Finding | None]:
        """The picture in a song, if it can be used."""
        reason = "There is no whole picture in it."
        try:
            pictures = embedded_cover(self.decoder, source, SIZES)
        except ContentRejected as error:
            pictures, reason = None, error.sentence
        if pictures is None:
            return None, _unusable(f"The picture in {listed([track.name])} cannot be used. {reason}")
        return _cover(track.member, track.name, pictures.width, pictures.height, embedded=True), None


def _cover(member: int | None, name: str, width: int, height: int, *, embedded: bool) -> Mapping[str, JSON]:
    return {"member": member, "name": short(name), "embedded": embedded, "width": width, "height": height}


def _unusable(sentence: str) -> Finding:
    return Finding("cover_unusable", "warn", sentence)


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
        title=(guess.title or PurePosixPath(name).stem)[:LONGEST],
        artist=(guess.artist or "")[:LONGEST],
        track=guess.track or 0,
        disc=guess.disc or 0,
    )
    if facts is None:
        return known
    tags = facts.tags
    album, disc = without_disc(tags.album)
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
        album=album,
        year=tags.year or "",
        track=tags.track or known.track,
        tracks=tags.tracks or 0,
        disc=tags.disc or disc or known.disc,
        discs=tags.discs or 0,
        compilation=tags.compilation,
    )


_WARNINGS: Final[Mapping[str, str]] = {
    "tags_unreadable": "The tags cannot be read, and names are guessed from those of the files: {}.",
    "tags_repaired": "The tags were damaged in part: {}.",
    "cover_too_large": "The picture is too large, and is not looked at: {}.",
}


def _said(warned: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """One sentence for all songs of which the same is to be said."""
    for code, names in warned.items():
        sentence = _WARNINGS.get(code, code.replace("_", " ").capitalize() + ": {}.")
        yield Finding(code, "warn", sentence.replace("{}", listed(names)))


def _said_of_archive(facts: ArchiveFacts) -> Iterator[Finding]:
    if facts.nested:
        yield Finding("nested_archive", "warn", f"Archives in the archive are not opened: {listed(facts.nested)}.")
    if facts.links or facts.devices:
        yield Finding(
            "links_left_out", "warn", f"{facts.links + facts.devices} links and devices in the archive are left out."
        )


_WORDS: Final = re.compile(r"[^\W_]+")


def _pictures(members: Sequence[Member]) -> list[Member]:
    """The pictures that may be the cover, best first."""

    def rank(member: Member) -> tuple[int, int, str]:
        path = PurePosixPath(member.name.lower())
        words = _WORDS.findall(path.stem)
        named = next((at for at, word in enumerate(_FRONT) if path.stem == word), None)
        if named is None:
            named = next((at + len(_FRONT) for at, word in enumerate(_FRONT) if word in words), 2 * len(_FRONT))
        if not _BACK.isdisjoint(words):
            named = 3 * len(_FRONT)
        return named, len(path.parts), path.name

    pictures = [m for m in members if _extension(m.name) in _PICTURES and m.size <= _COVER_BYTES]
    return sorted(pictures, key=rank)[:_MOST_PICTURES]


_BACK: Final = frozenset(
    {"back", "inlay", "booklet", "cd", "disc", "disk", "inside", "tray", "matrix", "artist", "band"}
)
"""What people call the other pictures."""
