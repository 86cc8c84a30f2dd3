"""Sound files in a decoder: what they are, what their tags say, and the covers in them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from ...ports import Source
from .checks import integer, positive, text, word
from .image import CoverPictures, cover_pictures
from .pool import Decoder

__all__ = ["AudioFacts", "AudioTags", "embedded_cover", "probe_audio"]

_log = logging.getLogger(__name__)

_KINDS: Final = ("mp3", "m4a", "aac", "flac", "ogg", "opus", "wav", "aiff")
_LOSSLESS: Final = ("alac", "flac")
_COMPANDED: Final = ("pcm_alaw", "pcm_mulaw")
"""Eight bits for what had 13 or 14."""
_WARNINGS: Final = ("cover_too_large", "tags_repaired", "tags_unreadable")
_YEAR: Final = re.compile(r"(?<!\d)([12]\d{3})(?!\d)")
_HIGHEST: Final = {"track": 9999, "tracks": 9999, "disc": 999, "discs": 999}
"""Numbers above are no numbers of tracks and discs, and are dropped."""


@frozen(kw_only=True)
class AudioTags:
    """What the tags of a song say. Texts have no control characters and at most 200 characters; empty when missing.

    Attributes:
        title: Of the song.
        artist: Of the song; several are one text, with commas.
        albumartist: Of the album; as `artist`.
        album: Title of the album.
        date: As tagged.
        year: The four digits in ``date``, if it has them.
        track: Number on its disc, from 1 up.
        tracks: How many the disc has.
        disc: Number of the disc, from 1 up.
        discs: How many there are.
        genre: Several are one text, with commas.
        compilation: Tagged as part of one.
    """

    title: str = ""
    artist: str = ""
    albumartist: str = ""
    album: str = ""
    date: str = ""
    year: str | None = None
    track: int | None = None
    tracks: int | None = None
    disc: int | None = None
    discs: int | None = None
    genre: str = ""
    compilation: bool = False


@frozen(kw_only=True)
class AudioFacts:
    """What a sound file is.

    Attributes:
        kind: True type: ``mp3``, ``m4a``, ``aac``, ``flac``, ``ogg``, ``opus``, ``wav`` or ``aiff``.
        duration: Seconds, counted and not as the file says.
        codec: FFmpeg's name: ``mp3``, ``aac``, ``alac``, ``flac``, ``vorbis``, ``opus`` or ``pcm_…``.
        bitrate: Bits a second, on average, of the sound alone.
        sample_rate: Samples a second, as played.
        channels: From 1 up.
        bits: Of a sample; ``None`` for lossy codings.
        lossless: Whether the coding keeps every sample.
        tags: What its tags say.
        cover: Whether it carries a picture that `embedded_cover` can try.
        warnings: Codes: ``tags_unreadable``, nothing of the tags can be read; ``tags_repaired``, a part of them
            cannot; ``cover_too_large``, a picture of more than 16 MiB is left out.
    """

    kind: str
    duration: float
    codec: str
    bitrate: int
    sample_rate: int
    channels: int
    bits: int | None
    lossless: bool
    tags: AudioTags
    cover: bool
    warnings: tuple[str, ...] = ()


def probe_audio(decoder: Decoder, source: Source) -> AudioFacts:
    """What a sound file is, after all of it has been read, and its start and its end have been decoded.

    A cover of any size is no reason to refuse a file whose sound can be reached without reading it; other tags of
    more than 16 MiB, unpacked, are. In Ogg files the cover is a part of the other tags. An mp3 without a header that
    counts its frames, and an aac, cannot be told from shorter ones when they are cut off.

    Raises:
        ContentRejected: ``not_audio``, ``is_video``, ``unsupported_sound``, ``unreadable``, ``truncated``,
            ``undecodable``, ``tags_too_large``, or one of `Decoder.run`'s.
        StorageError: As `Decoder.run`.
        ConfigurationError: As `Decoder.run`.
    """
    answer = decoder.run("probe_audio", source)
    try:
        return _audio_facts(answer.document)
    except (KeyError, TypeError, ValueError) as error:
        _log.warning("A decoder's facts are impossible: %s", error)
        raise decoder.nonsense() from None


def embedded_cover(decoder: Decoder, source: Source, sizes: Sequence[int] = (50, 150, 500)) -> CoverPictures | None:
    """The front cover in a sound file, else another picture in it, and copies that fit into squares.

    Args:
        decoder: Its child processes open the file.
        source: A sound file.
        sizes: Sides of the squares, in pixels.

    Returns:
        ``None`` when there is no picture, or none of at most 16 MiB.

    Raises:
        ContentRejected: As `probe_image` when there is a picture that cannot be used, as `probe_audio` otherwise.
        StorageError: As `Decoder.run`.
        ConfigurationError: As `Decoder.run`.
    """
    answer = decoder.run("embedded_cover", source, {"sizes": list(sizes)})
    if not answer.document and not answer.blobs:
        return None
    try:
        return cover_pictures(answer, sizes, decoder.limits)
    except (KeyError, TypeError, ValueError) as error:
        _log.warning("A decoder's pictures are none: %s", error)
        raise decoder.nonsense() from None


def _audio_facts(document: Mapping[str, Any]) -> AudioFacts:
    if document["kind"] not in _KINDS:
        raise ValueError("an unknown kind")
    if not isinstance(document["cover"], bool):
        raise TypeError("cover is no truth value")
    if not isinstance(document["warnings"], list) or not set(document["warnings"]) <= set(_WARNINGS):
        raise ValueError("unknown warnings")
    codec = word(document["codec"])
    bits = document["bits"]
    return AudioFacts(
        kind=document["kind"],
        duration=positive(document["duration"], 1e7),
        codec=codec,
        bitrate=integer(document["bitrate"], 0, 1 << 40),
        sample_rate=integer(document["sample_rate"], 1, 10_000_000),
        channels=integer(document["channels"], 1, 1 << 16),
        bits=None if bits is None else integer(bits, 1, 64),
        lossless=codec in _LOSSLESS or (codec.startswith("pcm_") and codec not in _COMPANDED),
        tags=_audio_tags(document["tags"]),
        cover=document["cover"],
        warnings=tuple(document["warnings"]),
    )


def _audio_tags(said: object) -> AudioTags:
    if not isinstance(said, dict):
        raise TypeError("tags are no object")
    date = text(said.get("year", ""))
    year = _YEAR.search(date)
    return AudioTags(
        title=text(said.get("title", "")),
        artist=text(said.get("artist", "")),
        albumartist=text(said.get("albumartist", "")),
        album=text(said.get("album", "")),
        date=date,
        year=year[1] if year else None,
        track=_number(said, "track", "track"),
        tracks=_number(said, "track_total", "tracks"),
        disc=_number(said, "disc", "disc"),
        discs=_number(said, "disc_total", "discs"),
        genre=text(said.get("genre", "")),
        compilation=said.get("compilation") is True,
    )


def _number(said: Mapping[str, Any], key: str, name: str) -> int | None:
    value = said.get(key)
    return value if type(value) is int and 0 < value <= _HIGHEST[name] else None
