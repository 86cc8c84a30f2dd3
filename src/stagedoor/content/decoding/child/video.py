"""Videos: probing and pictures, by PyAV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from .common import ISO_BOXES, WHOLE, Answer, Input, RejectedError, fit, save

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from PIL.Image import Image

_VIDEO_CODECS = {
    "h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "theora",
}  # fmt: skip
# By the names of decoders, of which a codec may have several.
_DECODERS = (
    "h264,hevc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mpeg4,mpeg2video,mpeg1video,theora,"
    "aac,ac3,eac3,alac,flac,mp3,mp3float,opus,libopus,vorbis,pcm_s16le,pcm_s16be,pcm_s24le,dca"
)
_EBML = b"\x1a\x45\xdf\xa3"
_FIRST_FRAMES = 3
_TAIL_FRAMES = 600
_FRAMES = 5
_PATIENCE = 300
"""Packets without a frame, or with an error, after which decoding is given up."""


def _refuse_to_open(*_: object) -> Any:
    raise PermissionError("a media file may not refer to others")


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """An EBML element (RFC 8794): its id, where its content starts, and its size, -1 when it is unknown."""
    first = data[at]
    length = 9 - first.bit_length()
    identity = int.from_bytes(data[at : at + length], "big")
    at += length
    first = data[at]
    length = 9 - first.bit_length()
    size = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return identity, at + length, -1 if size == (1 << 7 * length) - 1 else size


def _matroska(source: Input) -> str:
    """``webm`` or ``mkv``, from the EBML header.

    Raises:
        RejectedError: ``truncated``, the segment is longer than the file; ``unreadable``.
    """
    head = source.at(0, 4096)
    try:
        _, at, size = _element(head, 0)
        end, kind = at + size, "mkv"
        while at < end:
            identity, at, size = _element(head, at)
            if identity == 0x4282 and head[at : at + size].rstrip(b"\0") == b"webm":
                kind = "webm"
            at += size
        identity, at, size = _element(head, end)
    except IndexError:
        raise RejectedError("unreadable") from None
    # 0x18538067: the segment. Its size is unknown when it was recorded live.
    if identity == 0x18538067 and size >= 0 and at + size > source.size:
        raise RejectedError("truncated")
    return kind


def _iso(source: Input) -> str:
    """``mp4``, ``m4v`` or ``mov``, from the brand (ISO/IEC 14496-12, 4.2 and 4.3).

    Raises:
        RejectedError: ``truncated``, the index or the media is longer than the file.
    """
    kind, at = "mov", 0
    for _ in range(10_000):  # fragmented files have one box a second or so; the index tells the rest
        head = source.at(at, 16)
        if len(head) < 8:
            break
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        elif size == 0:  # to the end of the file
            break
        if name == b"ftyp":
            kind = {b"qt  ": "mov"}.get(head[8:12], "m4v" if head[8:11] == b"M4V" else "mp4")
        if name in (b"moov", b"mdat", b"moof") and at + size > source.size:
            raise RejectedError("truncated")
        if size < 8:
            break
        at += size
    return kind


def _open(source: Input, configuration: Mapping[str, Any]) -> tuple[str, InputContainer, av.VideoStream]:
    """Open a video, with everything checked that can be checked before a frame is decoded.

    Returns:
        The true type (``mp4``, ``m4v``, ``mov``, ``webm`` or ``mkv``), the container and the stream.
    """
    import av

    head = source.at(0, 16)
    if head[:4] == _EBML:
        kind, demuxer = _matroska(source), "matroska"
    elif head[4:8] in ISO_BOXES:
        kind, demuxer = _iso(source), "mov"
    else:
        raise RejectedError("unsupported_format")
    source.seek(0)
    options = {
        "format_whitelist": "mov,mp4,matroska,webm",
        "codec_whitelist": _DECODERS,
        "protocol_whitelist": "",
        "max_streams": "100",
        "max_pixels": str(configuration["max_pixels"]),
        "threads": "1",
    }
    try:
        container = av.open(
            source, "r", format=demuxer, options=options, metadata_errors="replace",
            buffer_size=1 << 17, io_open=_refuse_to_open,
        )  # fmt: skip
    except MemoryError:
        raise
    except av.FFmpegError:
        raise RejectedError("unreadable") from None
    shown_only = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & shown_only]
    if not streams:
        raise RejectedError("no_video")
    stream = streams[0]
    if stream.codec_context is None or stream.codec_context.codec.canonical_name not in _VIDEO_CODECS:
        raise RejectedError("unsupported_codec")
    width, height = stream.codec_context.width, stream.codec_context.height
    if max(width, height) > configuration["max_side"] or width * height > configuration["max_pixels"]:
        raise RejectedError("frame_too_large", width=width, height=height)
    if min(width, height) < 1:
        raise RejectedError("undecodable")
    stream.codec_context.thread_count = 1
    # For frames that are larger than the header says.
    stream.codec_context.options = {"max_pixels": str(configuration["max_pixels"])}
    return kind, container, stream


def _decoded(packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame] | None:
    """The frames of a packet; ``None`` when it is damaged."""
    import av

    try:
        return packet.decode()
    except MemoryError:
        raise
    except av.FFmpegError:
        return None


def _frames(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decode from where the container stands, over single damaged packets."""
    patience = _PATIENCE
    for packet in container.demux(stream):
        frames = _decoded(packet)
        if frames:
            yield from frames
        else:
            patience -= 1
            if not patience:
                return


def _interval(stream: av.VideoStream) -> float:
    """Seconds from frame to frame, about."""
    return float(1 / stream.average_rate) if stream.average_rate else 0.04


def _declared(container: InputContainer) -> float | None:
    """The duration in the headers, in seconds."""
    if not container.duration or container.duration < 0:
        return None
    whole = container.duration / 1_000_000
    # In fragmented mp4 FFmpeg adds the start of a track to its duration, which has it already.
    tracks = [
        float(stream.duration * stream.time_base)
        for stream in container.streams
        if stream.duration and stream.duration > 0 and stream.time_base
    ]
    return min(whole, max(tracks)) if tracks else whole


def _tail(container: InputContainer, stream: av.VideoStream, duration: float | None) -> tuple[float, int]:
    """Read to the last packet, from the last key frame when that can be found, and decode what is there.

    Args:
        duration: As declared, in seconds; ``None`` reads the whole file.

    Returns:
        Where the last packet of any stream ends, in seconds from the start, and the number of decoded frames.
    """
    import av

    start = (container.start_time or 0) / 1_000_000
    try:
        container.seek(int((start + (duration or 0)) * 1_000_000))
        end, frames, packets = 0.0, 0, 0
        for packet in container.demux():
            if packet.is_corrupt:
                raise RejectedError("truncated")
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and packet.time_base is not None:
                length = packet.duration or 0
                last = float((time + length) * packet.time_base) - start
                if not length and packet.stream is stream:
                    last += _interval(stream)
                end = max(end, last)
            if packet.stream is stream and packets < _TAIL_FRAMES:
                packets += 1
                frames += len(_decoded(cast("av.Packet[av.VideoStream]", packet)) or ())
    except MemoryError:
        raise
    except av.FFmpegError:
        if duration is not None:  # no way to seek: read it all
            return _tail(container, stream, None)
        raise RejectedError("truncated") from None
    return end, frames


def _fraction(value: Fraction | None) -> Fraction:
    """A sample aspect ratio that can be meant."""
    return value if value and Fraction(1, 16) <= value <= 16 else Fraction(1)


def _display_size(stream: av.VideoStream, rotation: int) -> tuple[int, int]:
    """Pixels that a player shows; the stored ones are never shrunk."""
    ratio = _fraction(stream.sample_aspect_ratio)
    width, height = stream.codec_context.width, stream.codec_context.height
    if ratio >= 1:
        width = round(width * ratio)
    else:
        height = round(height / ratio)
    return (height, width) if rotation % 180 else (width, height)


def _rotation(frame: av.VideoFrame) -> int:
    """Degrees counterclockwise, a multiple of 90."""
    return round(frame.rotation / 90) * 90 % 360


def probe_video(source: Input, _: Mapping[str, Any], configuration: Mapping[str, Any]) -> Answer:
    """What a video is, after its start and its end have been decoded."""
    kind, container, stream = _open(source, configuration)
    with container:
        first = None
        for number, frame in enumerate(_frames(container, stream), 1):
            first = first or frame
            if number == _FIRST_FRAMES:
                break
        if first is None:
            raise RejectedError("undecodable")
        declared = _declared(container)
        end, decoded = _tail(container, stream, declared)
        if not decoded and declared is not None and end < WHOLE * declared:
            # The last key frame is not there, so nothing was read. Where does it really end?
            end, decoded = _tail(container, stream, None)
        if declared is not None and end < WHOLE * declared:
            raise RejectedError("truncated", percent=int(100 * end / declared))
        if not decoded:
            raise RejectedError("undecodable")
        rotation = _rotation(first)
        width, height = _display_size(stream, rotation)
        ratio = _fraction(stream.sample_aspect_ratio)
        sounds = [sound.codec_context for sound in container.streams.audio if sound.codec_context is not None]
        return {
            "kind": kind,
            "duration": declared or end,
            "width": stream.codec_context.width,
            "height": stream.codec_context.height,
            "sar": [ratio.numerator, ratio.denominator],
            "rotation": rotation,
            "display_width": width,
            "display_height": height,
            "video_codec": stream.codec_context.codec.canonical_name,
            "audio_codec": sounds[0].codec.canonical_name if sounds else None,
            "fps": float(stream.average_rate) if stream.average_rate else None,
            "tags": {
                key.lower(): value[:1000]
                for key, value in container.metadata.items()
                if key.lower() in ("title", "artist", "date")
            },
        }, []


def _needs_seek(stream: av.VideoStream, position: float | None, target: float, start: float) -> bool:
    """Whether a key frame lies between here and there; else decoding on is shorter than going back."""
    if position is None or stream.time_base is None:
        return True
    entries = stream.index_entries
    index = entries.search_timestamp(int((start + target) / stream.time_base))
    if index < 0:
        return target - position > 10
    return bool(entries[index].timestamp * stream.time_base - start > position)


def _pictures_at(container: InputContainer, stream: av.VideoStream, times: list[float]) -> Iterator[av.VideoFrame]:
    """The frame that is shown at each of the times, in seconds from the start, ascending."""
    start = (container.start_time or 0) / 1_000_000
    interval = _interval(stream)
    frames: Iterator[av.VideoFrame] = iter(())
    position: float | None = None
    shown: av.VideoFrame | None = None
    for time in times:
        if shown is not None and position is not None and position + interval > time:
            yield shown
            continue
        if _needs_seek(stream, position, time, start):
            container.seek(int((start + time) * 1_000_000))
            frames, position = _frames(container, stream), None
        for frame in frames:
            shown = frame
            position = frame.time - start if frame.pts is not None else (position or 0.0) + interval
            if position + interval > time + 1e-6:
                break
        if shown is None:
            raise RejectedError("undecodable")
        yield shown


def image_of(frame: av.VideoFrame, size: tuple[int, int]) -> Image:
    """A frame as a picture of a size."""
    # One thread: the sandbox allows no other.
    image: Image = frame.to_image(width=size[0], height=size[1], interpolation="BICUBIC", threads=1)  # type: ignore[no-untyped-call]
    return image


def video_artwork(source: Input, arguments: Mapping[str, Any], configuration: Mapping[str, Any]) -> Answer:
    """Five frames as JPEG, then five small ones, then the preview as animated WebP."""
    import av
    from PIL import Image

    turns = {
        90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    large, small, moving = [], [], []
    _, container, stream = _open(source, configuration)
    with container:
        length = float(arguments["duration"])
        times = [length / (2 * (_FRAMES + 1)) + i * length / (_FRAMES + 1) for i in range(_FRAMES)]
        try:
            for frame in _pictures_at(container, stream, times):
                rotation = _rotation(frame)
                shown = _display_size(stream, rotation)
                side = configuration["picture_side"]
                if max(shown) > side:
                    shown = fit(shown, side, side)
                stored = shown[::-1] if rotation % 180 else shown
                picture = image_of(frame, stored)
                if rotation:
                    picture = picture.transpose(turns[rotation])
                large.append(save(picture, "JPEG", quality=90, progressive=True))
                tiny = picture.resize(fit(shown, arguments["small"], 4 * arguments["small"]), Image.Resampling.LANCZOS)
                small.append(save(tiny, "JPEG", quality=85, progressive=True))
                moving.append(
                    picture.resize(fit(shown, arguments["preview"], arguments["preview"]), Image.Resampling.LANCZOS)
                )
        except MemoryError:
            raise
        except av.FFmpegError:
            raise RejectedError("undecodable") from None
    preview = save(
        moving[0], "WEBP", save_all=True, append_images=moving[1:],
        duration=arguments["milliseconds"], loop=0, quality=75, method=4,
    )  # fmt: skip
    return {"frames": len(large)}, [*large, *small, preview]
