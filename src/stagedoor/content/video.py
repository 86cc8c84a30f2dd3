"""Music videos: ``Artist/YYYY - Name.ext`` in the music directory, frames and a preview in the artwork directory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from ..errors import ContentRejected
from ..ports import Illustrated, Library, Preprocessed, Source, Surroundings, VideoEntry
from ..tasks import JSON, Finding, PlacedFile, Plan, PlannedFile, UploadTask, extension_of
from .annotations import origin, release_year, text
from .artists import settle_artist
from .decoding import Decoder
from .decoding.video import VideoFacts, probe_video, video_artwork
from .naming import SCHEMES, Scheme
from .records import no_plan, number, recorded, string
from .sniffing import head_of, kind_of

__all__ = ["Video"]

_log = logging.getLogger(__name__)

FRAMES: Final = 5
SMALL: Final = 150
"""Width of the small frames in pixels; part of their names."""

_LARGE_NAMES: Final = tuple(f"frame-{number}.jpg" for number in range(1, FRAMES + 1))
_SMALL_NAMES: Final = tuple(f"frame-{number} ({SMALL}).jpg" for number in range(1, FRAMES + 1))
_PREVIEW: Final = "preview.webp"
_NAMES: Final = (*_LARGE_NAMES, *_SMALL_NAMES, _PREVIEW)

_EBML: Final = b"\x1a\x45\xdf\xa3"
_ISO_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


class Video:
    """The content type ``video``.

    Annotations: ``artistname``, ``name`` and ``release`` (text or number) make the path, ``origin`` says where the
    video came from.

    Args:
        decoder: Its child processes open the files.
        scheme: Names the files.
        extensions: True types that are let into the library. ``mov`` may be added.
    """

    name = "video"
    has_artwork = True

    def __init__(
        self,
        decoder: Decoder,
        *,
        scheme: Scheme = SCHEMES["musicdb"],
        extensions: tuple[str, ...] = ("mp4", "m4v", "webm", "mkv"),
    ) -> None:
        self._decoder = decoder
        self._scheme = scheme
        self._extensions = extensions

    # ── preprocess ────────────────────────────────────────────────────────────────────────────────────────────

    def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
        """Decide whether this is a whole video of an allowed kind.

        The facts: ``container``, ``extension`` (the true one), ``duration`` (seconds), ``width``, ``height``,
        ``sample_aspect_ratio`` (``"4:3"``), ``rotation`` (degrees), ``display_width``, ``display_height``,
        ``video_codec``, ``audio_codec``, ``fps`` and ``tags`` (suggestions for annotations).

        Raises:
            ContentRejected: ``empty``, ``not_a_video``, ``unsupported_format``, or as `probe_video`.
            StorageError: As `Decoder.run`.
            ConfigurationError: ``media_missing``.
        """
        _sniff(head_of(source))
        facts = probe_video(self._decoder, source)
        named = extension_of(task.sourcefilename)
        # mp4 and m4v are one container with two names, and players do not mind.
        interchangeable = {named, facts.kind} <= {"mp4", "m4v"}
        extension = named if interchangeable and named else facts.kind
        if extension not in self._extensions:
            raise ContentRejected(
                f"The file is a {extension} video, which is not supported. "
                f"Convert it to one of these: {', '.join(self._extensions)}.",
                code="unsupported_format",
            )
        findings: tuple[Finding, ...] = ()
        if named is not None and named != extension:
            findings = (
                Finding(
                    "renamed_to_true_type",
                    "warn",
                    f"The file is named .{named}, but it is a {extension} video. It will be filed as .{extension}.",
                ),
            )
        return Preprocessed(content=_content(facts, extension), findings=findings)

    # ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """Name the files, or say what is missing.

        Problems: ``annotation_missing``, ``unusable_name``, ``invalid_release``, ``not_preprocessed``; a question:
        ``artist_similar``; a warning: ``artist_matched``.
        """
        problems: list[Finding] = []
        artist = text(task, "artistname", problems)
        title = text(task, "name", problems)
        release = release_year(task, problems, required="year" in self._scheme.video.mandatory)
        extension = task.content.get("extension")
        if not isinstance(extension, str):
            problems.append(_NOT_YET)
        if problems or artist is None or title is None or release is None or not isinstance(extension, str):
            return Plan(files=(), problems=tuple(problems))
        by = settle_artist(task, around, artist, problems)
        named = {"artist": by.filed, "title": title, "year": release or None}
        try:
            path = self._scheme.video.path(named, extension, there=by.there)
            pictures = self._scheme.pictures.path(named)
        except ContentRejected as error:  # a scheme of one's own may want more
            return Plan(files=(), problems=(*problems, Finding(error.code, "reject", error.sentence)))
        entry: dict[str, JSON] = {
            "artist": by.name,
            "name": title,
            "release": release,
            "origin": origin(task),
            "sha1": task.sourcechecksum or "",
            "directory": pictures,
            # Players that know MusicDB look for the small copies beside the frame that is named here.
            "thumbnail": _LARGE_NAMES[0],
            "preview": _PREVIEW,
            "duration": task.content.get("duration", 0.0),
            "width": task.content.get("width", 0),
            "height": task.content.get("height", 0),
            "codec": task.content.get("video_codec", ""),
        }
        return Plan(
            files=(PlannedFile("music", path, size=task.filesize, sha256=task.sha256),),
            artwork=tuple(PlannedFile("artwork", f"{pictures}/{name}", source=name) for name in _NAMES),
            entry=entry,
            problems=tuple(problems),
        )

    # ── import ────────────────────────────────────────────────────────────────────────────────────────────────

    def import_(self, task: UploadTask, library: Library) -> None:
        """Tell the catalogue.

        Raises:
            ContentRejected: ``no_plan``, the task is from a version that kept none; or the catalogue's.
        """
        entry = recorded(task)
        placed = _placed(task)
        library.put(
            task.uid,
            VideoEntry(
                path=placed.path,
                artist=string(entry, "artist"),
                name=string(entry, "name"),
                release=string(entry, "release"),
                origin=string(entry, "origin"),
                size=placed.size,
                sha1=string(entry, "sha1"),
                sha256=placed.sha256,
                duration=number(entry, "duration"),
                width=int(number(entry, "width")),
                height=int(number(entry, "height")),
                codec=string(entry, "codec"),
            ),
        )

    # ── illustrate ────────────────────────────────────────────────────────────────────────────────────────────

    def illustrate(self, task: UploadTask, source: Source) -> Illustrated:
        """Make the frames and the preview.

        Raises:
            ContentRejected: ``no_plan``, or as `video_artwork`.
            StorageError: As `Decoder.run`.
            ConfigurationError: ``media_missing``.
        """
        entry = recorded(task)
        assert task.plan is not None
        pictures = video_artwork(self._decoder, source, duration=number(entry, "duration"), small=SMALL)
        made = dict(zip(_NAMES, (*pictures.frames, *pictures.small, pictures.preview), strict=True))
        names = {file.path: PurePosixPath(file.path).name for file in task.plan.artwork}
        if not made.keys() >= set(names.values()):
            raise no_plan()
        return Illustrated(
            files={path: made[name] for path, name in names.items()},
            directory=string(entry, "directory"),
            thumbnail=string(entry, "thumbnail"),
            preview=string(entry, "preview"),
        )


# ── preprocess ────────────────────────────────────────────────────────────────────────────────────────────────


def _sniff(head: bytes) -> None:
    """Refuse what cannot be a video, without a decoder."""
    if head[:4] == _EBML or head[4:8] in _ISO_BOXES:
        return
    kind = kind_of(head)
    instead = f", but {kind}" if kind else ""
    raise ContentRejected(
        f"The file is no MP4, M4V, WebM or Matroska video{instead}. Convert it to one of these.",
        code="not_a_video",
    )


def _content(facts: VideoFacts, extension: str) -> Mapping[str, JSON]:
    return {
        "container": "matroska" if facts.kind in ("mkv", "webm") else "mp4",
        "extension": extension,
        "duration": facts.duration,
        "width": facts.width,
        "height": facts.height,
        "sample_aspect_ratio": "{}:{}".format(*facts.sample_aspect_ratio),
        "rotation": facts.rotation,
        "display_width": facts.display_width,
        "display_height": facts.display_height,
        "video_codec": facts.video_codec,
        "audio_codec": facts.audio_codec,
        "fps": facts.fps,
        "tags": dict(facts.tags),
    }


# ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────────

_NOT_YET: Final = Finding("not_preprocessed", "reject", "The content has not been examined yet. Wait until it is.")


# ── what integration put on record ────────────────────────────────────────────────────────────────────────────


def _placed(task: UploadTask) -> PlacedFile:
    for file in task.placed:
        if file.root == "music":
            return file
    raise no_plan()
