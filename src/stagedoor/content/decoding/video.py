"""Videos in a decoder: what they are, and pictures of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from ...ports import Source
from .checks import integer, positive, text, word
from .pool import Decoder, DecoderLimits

__all__ = ["VideoFacts", "VideoPictures", "probe_video", "video_artwork"]

_log = logging.getLogger(__name__)

_KINDS: Final = ("mp4", "m4v", "mov", "webm", "mkv")


@frozen(kw_only=True)
class VideoFacts:
    """What a video is.

    Attributes:
        kind: True type: ``mp4``, ``m4v``, ``mov``, ``webm`` or ``mkv``.
        duration: Seconds.
        width: Pixels as stored.
        height: Pixels as stored.
        sample_aspect_ratio: Width of a pixel over its height, as numerator and denominator.
        rotation: Degrees by which a player turns the picture counterclockwise: 0, 90, 180 or 270.
        display_width: Pixels as shown.
        display_height: Pixels as shown.
        video_codec: FFmpeg's name.
        audio_codec: FFmpeg's name; ``None`` for a silent film.
        fps: Frames a second, on average.
        tags: ``title``, ``artist`` and ``date`` as the file says, if it does; at most 200 characters each.
    """

    kind: str
    duration: float
    width: int
    height: int
    sample_aspect_ratio: tuple[int, int]
    rotation: int
    display_width: int
    display_height: int
    video_codec: str
    audio_codec: str | None
    fps: float | None
    tags: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class VideoPictures:
    """Pictures of a video.

    Attributes:
        frames: Five JPEGs in the size that a player shows (at most `DecoderLimits.picture_side`).
        small: The same, small.
        preview: The same as an animated WebP.
    """

    frames: tuple[bytes, ...]
    small: tuple[bytes, ...]
    preview: bytes


def probe_video(decoder: Decoder, source: Source) -> VideoFacts:
    """What a video is, after its start and its end have been decoded.

    Raises:
        ContentRejected: ``unsupported_format``, ``unreadable``, ``no_video``, ``unsupported_codec``,
            ``frame_too_large``, ``truncated``, ``undecodable``, or one of `Decoder.run`'s.
        StorageError: As `Decoder.run`.
        ConfigurationError: As `Decoder.run`.
    """
    answer = decoder.run("probe_video", source)
    try:
        return _video_facts(answer.document, decoder.limits)
    except (KeyError, TypeError, ValueError) as error:
        _log.warning("A decoder's facts are impossible: %s", error)
        raise decoder.nonsense() from None


def video_artwork(
    decoder: Decoder, source: Source, *, duration: float, small: int = 150, preview: int = 320, milliseconds: int = 600
) -> VideoPictures:
    """Five frames of a video at L/(2·6) + i·L/6, the aspect ratio and the rotation applied.

    Args:
        source: The video.
        duration: L, in seconds.
        small: Width of the small frames, in pixels.
        preview: Longest side of the preview, in pixels.
        milliseconds: A frame of the preview is shown so long; the preview never ends.

    Raises:
        ContentRejected: As `probe_video`.
        StorageError: As `Decoder.run`.
        ConfigurationError: As `Decoder.run`.
    """
    answer = decoder.run(
        "video_artwork",
        source,
        {"duration": duration, "small": small, "preview": preview, "milliseconds": milliseconds},
    )
    *stills, animation = (*answer.blobs, b"")[: max(1, len(answer.blobs))]
    jpegs = all(still.startswith(b"\xff\xd8\xff") for still in stills)
    webp = animation[:4] == b"RIFF" and animation[8:12] == b"WEBP"
    if len(stills) != 10 or not jpegs or not webp:
        _log.warning("A decoder's pictures are none")
        raise decoder.nonsense()
    return VideoPictures(frames=tuple(stills[:5]), small=tuple(stills[5:]), preview=animation)


def _video_facts(document: Mapping[str, Any], limits: DecoderLimits) -> VideoFacts:
    if document["kind"] not in _KINDS:
        raise ValueError("an unknown kind")
    numerator, denominator = (integer(part, 1, 1 << 31) for part in document["sar"])
    if not isinstance(document["tags"], dict):
        raise TypeError("tags are no object")
    tags = {key: text(document["tags"][key]) for key in ("title", "artist", "date") if key in document["tags"]}
    audio, fps = document["audio_codec"], document["fps"]
    width = integer(document["width"], 1, limits.max_side)
    height = integer(document["height"], 1, limits.max_side)
    return VideoFacts(
        kind=document["kind"],
        duration=positive(document["duration"], 1e7),
        width=width,
        height=height,
        sample_aspect_ratio=(numerator, denominator),
        rotation=integer(document["rotation"], 0, 270) // 90 * 90,
        display_width=integer(document["display_width"], 1, 16 * limits.max_side),
        display_height=integer(document["display_height"], 1, 16 * limits.max_side),
        video_codec=word(document["video_codec"]),
        audio_codec=None if audio is None else word(audio),
        fps=None if fps is None or not math.isfinite(fps) else positive(fps, 100_000),
        tags={key: text for key, text in tags.items() if text},
    )
