"""Pictures in a decoder: what they are, and covers made of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from ...ports import Source
from .checks import integer
from .pool import Answer, Decoder, DecoderLimits

__all__ = ["CoverPictures", "ImageFacts", "cover_pictures", "image_facts", "make_cover", "probe_image"]

_log = logging.getLogger(__name__)

_KINDS: Final = ("jpg", "png", "webp")
_FRAMES: Final = 1 << 32


@frozen(kw_only=True)
class ImageFacts:
    """What a picture is.

    Attributes:
        kind: True type: ``jpg``, ``png`` or ``webp``.
        width: Pixels as shown.
        height: Pixels as shown.
        orientation: How the stored picture has to be turned or mirrored to be shown, 1 (not at all) to 8 (EXIF).
        frames: Pictures of an animation, as the file says; 1 for a still one.
        has_alpha: Whether it may be seen through in places.
    """

    kind: str
    width: int
    height: int
    orientation: int
    frames: int
    has_alpha: bool


@frozen(kw_only=True)
class CoverPictures:
    """A cover as progressive JPEGs that hold pixels and nothing else: sRGB, upright, on white.

    Attributes:
        full: As large as the original (at most `DecoderLimits.picture_side`).
        small: By the side of the square into which each fits, in pixels. Never larger than ``full``.
        width: Pixels of ``full``.
        height: Pixels of ``full``.
    """

    full: bytes
    small: Mapping[int, bytes]
    width: int
    height: int


def probe_image(decoder: Decoder, source: Source) -> ImageFacts:
    """What a picture is, after all of it has been decoded.

    Raises:
        ContentRejected: ``not_an_image``, ``picture_too_large``, ``truncated``, ``picture_damaged``, or one of
            `Decoder.run`'s.
        StorageError: As `Decoder.run`.
        ConfigurationError: As `Decoder.run`.
    """
    answer = decoder.run("probe_image", source)
    try:
        return image_facts(answer.document, decoder.limits)
    except (KeyError, TypeError, ValueError) as error:
        _log.warning("A decoder's facts are impossible: %s", error)
        raise decoder.nonsense() from None


def make_cover(decoder: Decoder, source: Source, sizes: Sequence[int] = (50, 150, 500)) -> CoverPictures:
    """A cover, and copies of it that fit into squares.

    Args:
        decoder: Its child processes open the file.
        source: A picture.
        sizes: Sides of the squares, in pixels.

    Raises:
        ContentRejected, StorageError, ConfigurationError: As `probe_image`.
    """
    answer = decoder.run("make_cover", source, {"sizes": list(sizes)})
    try:
        return cover_pictures(answer, sizes, decoder.limits)
    except (KeyError, TypeError, ValueError) as error:
        _log.warning("A decoder's pictures are none: %s", error)
        raise decoder.nonsense() from None


def image_facts(document: Mapping[str, Any], limits: DecoderLimits) -> ImageFacts:
    """Check what a child says about a picture.

    Raises:
        KeyError, TypeError, ValueError: It cannot be true.
    """
    if document["kind"] not in _KINDS:
        raise ValueError("an unknown kind")
    if not isinstance(document["alpha"], bool):
        raise TypeError("alpha is no truth value")
    width, height = (integer(document[key], 1, limits.max_side) for key in ("width", "height"))
    return ImageFacts(
        kind=document["kind"],
        width=width,
        height=integer(height, 1, limits.max_pixels // width),
        orientation=integer(document["orientation"], 1, 8),
        frames=integer(document["frames"], 1, _FRAMES),
        has_alpha=document["alpha"],
    )


def cover_pictures(answer: Answer, sizes: Sequence[int], limits: DecoderLimits) -> CoverPictures:
    """Check the pictures that a child made: each is a JPEG of the size that it says and that was asked for.

    Raises:
        KeyError, TypeError, ValueError: They are not.
    """
    facts = image_facts(answer.document, limits)
    made = answer.document["made"]
    if not isinstance(made, list) or not len(made) == len(answer.blobs) == 1 + len(sizes):
        raise ValueError("not as many pictures as were asked for")
    for blob, size, bound in zip(answer.blobs, made, (limits.picture_side, *sizes), strict=True):
        width, height = size
        integer(width, 1, min(bound, facts.width))
        integer(height, 1, min(bound, facts.height))
        if _jpeg_size(blob) != (width, height):
            raise ValueError("a picture that is no JPEG of its size")
    full, *small = answer.blobs
    return CoverPictures(
        full=full, small=dict(zip(sizes, small, strict=True)), width=int(made[0][0]), height=int(made[0][1])
    )


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height in the frame header of a progressive JPEG that has nothing in front of it but tables.

    Source: ITU-T T.81, annex B. A segment of anything else (EXIF, a profile, a comment) in front of the pixels means
    that the child let through what it is to leave out.
    """
    at = 2
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        raise ValueError("no JPEG")
    while at + 9 <= len(data):
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == b"\xff\xc2":
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        if marker not in (b"\xff\xe0", b"\xff\xdb", b"\xff\xc4", b"\xff\xdd") or length < 2:
            break
        at += 2 + length
    raise ValueError("a JPEG with more in it than pixels")
