"""The decoder's child process: the only place where strangers' bytes meet FFmpeg and Pillow.

`stagedoor.content.decoder` runs this file as a program of its own (``python -I -S _child.py FD PARENT``), by path
and not with ``-m``: importing the package would load the whole library into a process that must know nothing.
So this module imports the standard library, and PyAV and Pillow once they can be found.

It reads one configuration from its socket, imports, uses everything once so that nothing is left to be loaded,
locks itself in (`confine`), says how, and then serves requests one after the other: a JSON document and the
input as a file descriptor, answered by a JSON document and blobs. It is told no path and can open none.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import io
import json
import os
import pkgutil
import platform
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from PIL.Image import Image

Answer: TypeAlias = tuple[dict[str, Any], list[bytes]]
Operation: TypeAlias = Callable[["Input", Mapping[str, Any], Mapping[str, Any]], Answer]
"""Called with the input, the request's arguments and the configuration."""

MAX_REQUEST = 1 << 16


class RejectedError(Exception):
    """The content will not do.

    Args:
        code: A word from the parent's table of sentences.
        numbers: Filled into the sentence.
    """

    def __init__(self, code: str, **numbers: int) -> None:
        super().__init__(code)
        self.code = code
        self.numbers = numbers


class Input:
    """The first bytes of a file descriptor as a file.

    Reads by position, because the descriptor shares its offset with the parent's.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.position = 0
        self.error: OSError | None = None

    def read(self, count: int = -1) -> bytes:
        """At most ``count`` bytes; an error of the disk is remembered, because FFmpeg turns it into its own."""
        rest = max(0, self.size - self.position)
        try:
            data = os.pread(self.fd, rest if count < 0 else min(count, rest), self.position)
        except OSError as error:
            self.error = error
            raise
        self.position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        base = (0, self.position, self.size)[whence]
        if base + offset < 0:
            raise ValueError("before the start")
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        """As of a file."""
        return self.position

    def at(self, offset: int, count: int) -> bytes:
        """Bytes from an offset."""
        self.seek(offset)
        return self.read(count)


# ── the sandbox ───────────────────────────────────────────────────────────────────────────────────────────────

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38

# linux/landlock.h. A right belongs to the ruleset from the ABI that knows it.
_LANDLOCK_FS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_LANDLOCK_NET = {4: 0b11}
_LANDLOCK_SCOPE = {6: 0b11}

# What a decoder never needs and Landlock does not govern: processes and threads, signals, sockets (UDP!), other
# processes' memory and limits, attributes of files that are open, and the kernel's larger surfaces. A list of
# what is denied and not of what is allowed: what libc calls for malloc or a clock differs from version to version.
_DENIED: dict[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        (
            41, 42, 43, 49, 50, 53, 288,  # socket connect accept bind listen socketpair accept4
            56, 57, 58, 435, 59, 322,  # clone fork vfork clone3 execve execveat
            62, 129, 200, 234, 297, 424, 434, 438,  # kill … tgkill, pidfd_*
            101, 310, 311, 312,  # ptrace process_vm_readv process_vm_writev kcmp
            160, 302, 141, 142, 144, 203, 251, 256, 279, 314,  # limits, priorities, affinity, pages of others
            90, 91, 92, 93, 94, 132, 235, 260, 261, 268, 280, 452,  # chmod, chown, times
            188, 189, 190, 197, 198, 199,  # extended attributes
            155, 161, 165, 166, 272, 308, 303, 304,  # mounts, namespaces, file handles
            167, 168, 169, 175, 176, 246, 313,  # swap, reboot, modules
            248, 249, 250, 298, 319, 321, 323, 425, 426, 427,  # keys, perf, memfd, bpf, userfaultfd, io_uring
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            198, 199, 200, 201, 202, 203, 242,
            220, 221, 281, 435,
            129, 130, 131, 138, 240, 424, 434, 438,
            117, 270, 271, 272,
            164, 261, 118, 119, 122, 140, 30, 238, 239, 274,
            52, 53, 54, 55, 88, 452,
            5, 6, 7, 14, 15, 16,
            39, 40, 41, 51, 97, 268, 264, 265,
            104, 105, 106, 142, 224, 225, 273,
            217, 218, 219, 241, 279, 280, 282, 425, 426, 427,
        ),
    ),
}  # fmt: skip


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> bool:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return bool(_libc().prctl(option, *(ctypes.c_ulong(value) for value in padded)) == 0)


def _landlock() -> int:
    """Allow nothing to be opened, connected or signalled; what is open already stays so.

    Returns:
        The kernel's Landlock ABI, 0 when it has none.
    """
    call = _libc().syscall
    call.restype = ctypes.c_long
    create, restrict = 444, 446  # the same on all architectures
    abi = call(ctypes.c_long(create), None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return 0
    words = [
        sum(bits for since, bits in table.items() if since <= abi)
        for table in (_LANDLOCK_FS, _LANDLOCK_NET, _LANDLOCK_SCOPE)
    ]
    known = 3 if abi >= 6 else 2 if abi >= 4 else 1
    attributes = struct.pack(f"={known}Q", *words[:known])
    ruleset = call(ctypes.c_long(create), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return 0
    done = call(ctypes.c_long(restrict), ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    os.close(ruleset)
    return int(abi) if done else 0


def _seccomp() -> bool:
    """Refuse the system calls of `_DENIED` with ``EPERM``, and kill on those of another architecture."""
    if platform.machine() not in _DENIED or sys.maxsize < 2**32:
        return False
    architecture, denied = _DENIED[platform.machine()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    kill, refuse, allow = 0x80000000, 0x00050000 | 1, 0x7FFF0000
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
    # The x32 calls of x86-64 have numbers of their own; other architectures have none so high.
    program.append((at_least, len(denied) + 1, 0, 0x40000000))
    program += [(equal, len(denied) - index, 0, number) for index, number in enumerate(denied)]
    program += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    return _prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(header))


def _drop_capabilities() -> bool:
    """Give up what root may do; without root there is nothing to give up."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    return bool(_libc().capset(header, bytes(24)) == 0)


def confine(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Lock this process in, for good.

    Returns:
        What is in force; `stagedoor.content.decoder.Sandbox` explains the keys.
    """
    limits = {
        resource.RLIMIT_AS: configuration["memory"],
        resource.RLIMIT_CPU: int(configuration["cpu_seconds"] * configuration["requests"]) + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 16,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    undumpable = _prctl(_PR_SET_DUMPABLE, 0)
    capabilities = _drop_capabilities()
    no_new_privileges = _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return {
        "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
        "undumpable": undumpable,
        "no_capabilities": capabilities,
        "no_new_privileges": no_new_privileges,
        "landlock": _landlock(),
        "seccomp": _seccomp(),
    }


def _warm_up() -> None:
    """Use once what is loaded at its first use; afterwards no file can be opened."""
    from PIL import Image, JpegImagePlugin, WebPImagePlugin  # noqa: F401 (registers the two formats)

    Image.preinit()
    picture = Image.new("RGB", (16, 16))
    for form, options in (("JPEG", {"progressive": True}), ("WEBP", {"save_all": True, "append_images": [picture]})):
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        Image.open(buffer, formats=(form,)).load()
    import av

    # PyAV imports a module for each kind of stream when it meets the first one.
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    frame = av.VideoFrame(16, 16, "yuv420p")
    _image(frame, (8, 8)).resize((4, 4), Image.Resampling.LANCZOS)
    "\N{LATIN SMALL LETTER A}".encode("utf-8", "replace").decode("utf-8", "replace")


# ── video ─────────────────────────────────────────────────────────────────────────────────────────────────────

_VIDEO_CODECS = {
    "h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "theora",
}  # fmt: skip
# By the names of decoders, of which a codec may have several.
_DECODERS = (
    "h264,hevc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mpeg4,mpeg2video,mpeg1video,theora,"
    "aac,ac3,eac3,alac,flac,mp3,mp3float,opus,libopus,vorbis,pcm_s16le,pcm_s16be,pcm_s24le,dca"
)
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_EBML = b"\x1a\x45\xdf\xa3"
_FIRST_FRAMES = 3
_TAIL_FRAMES = 600
_FRAMES = 5
_PATIENCE = 300
"""Packets without a frame, or with an error, after which decoding is given up."""
WHOLE = 0.98
"""A file whose packets end before this share of its declared duration is taken for cut off."""


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
    elif head[4:8] in _ISO_BOXES:
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


def _image(frame: av.VideoFrame, size: tuple[int, int]) -> Image:
    # One thread: the sandbox allows no other.
    image: Image = frame.to_image(width=size[0], height=size[1], interpolation="BICUBIC", threads=1)  # type: ignore[no-untyped-call]
    return image


def _fit(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The size with its ratio, as large as fits."""
    factor = min(width / size[0], height / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _save(picture: Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


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
                    shown = _fit(shown, side, side)
                stored = shown[::-1] if rotation % 180 else shown
                picture = _image(frame, stored)
                if rotation:
                    picture = picture.transpose(turns[rotation])
                large.append(_save(picture, "JPEG", quality=90, progressive=True))
                tiny = picture.resize(_fit(shown, arguments["small"], 4 * arguments["small"]), Image.Resampling.LANCZOS)
                small.append(_save(tiny, "JPEG", quality=85, progressive=True))
                moving.append(
                    picture.resize(_fit(shown, arguments["preview"], arguments["preview"]), Image.Resampling.LANCZOS)
                )
        except MemoryError:
            raise
        except av.FFmpegError:
            raise RejectedError("undecodable") from None
    preview = _save(
        moving[0], "WEBP", save_all=True, append_images=moving[1:],
        duration=arguments["milliseconds"], loop=0, quality=75, method=4,
    )  # fmt: skip
    return {"frames": len(large)}, [*large, *small, preview]


OPERATIONS: dict[str, Operation] = {"probe_video": probe_video, "video_artwork": video_artwork}


# ── the protocol ──────────────────────────────────────────────────────────────────────────────────────────────


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """A request: four bytes of length, big-endian, and JSON; a descriptor comes along. ``None`` at the end."""
    data, fds, _, _ = socket.recv_fds(connection, 4 + MAX_REQUEST, 2)
    while data and (len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big")):
        more = connection.recv(4 + MAX_REQUEST)
        if not more:
            return None
        data += more
    return (json.loads(data[4:]), fds) if data else None


def send(connection: socket.socket, document: Mapping[str, Any], blobs: list[bytes]) -> None:
    """An answer: four bytes of length, big-endian, and JSON with the lengths of the blobs; then the blobs."""
    raw = json.dumps({**document, "blobs": [len(blob) for blob in blobs]}).encode()
    connection.sendall(len(raw).to_bytes(4, "big") + raw)
    for blob in blobs:
        connection.sendall(blob)


def _where(error: BaseException) -> str:
    lines, trace = [], error.__traceback__
    while trace is not None:
        lines.append(f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {error} in {' '.join(lines)}"[:1000]


def serve(connection: socket.socket, configuration: Mapping[str, Any]) -> None:
    """Answer requests until the parent closes the connection."""
    while (message := receive(connection)) is not None:
        request, fds = message
        source = Input(fds[0], request["size"])
        # Its signal ends the process, and is not blocked by a loop in C. The parent counts wall-clock time.
        signal.setitimer(signal.ITIMER_PROF, configuration["cpu_seconds"])
        blobs: list[bytes] = []
        document: dict[str, Any]
        try:
            answer, blobs = OPERATIONS[request["operation"]](source, request["arguments"], configuration)
            document = {"answer": answer}
        except RejectedError as rejected:
            document = {"rejected": rejected.code, "numbers": rejected.numbers}
        except MemoryError:
            document = {"rejected": "decoder_memory", "numbers": {}}
        except Exception as error:  # noqa: BLE001 (the edge of the process: the parent logs it)
            document = {"failed": _where(error)}
        signal.setitimer(signal.ITIMER_PROF, 0)
        if source.error is not None:
            document, blobs = {"storage": source.error.errno or 0}, []
        os.close(source.fd)
        send(connection, document, blobs)


def main() -> None:
    """Run the child: ``argv[1]`` is the socket's descriptor, ``argv[2]`` the process id of the parent."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[2]):
        return  # it died before the line above
    connection = socket.socket(fileno=int(sys.argv[1]))
    message = receive(connection)
    if message is None:
        return
    configuration = message[0]
    sys.path += [entry for entry in configuration["path"] if entry not in sys.path]
    try:
        import av

        _warm_up()
    except ImportError as error:
        send(connection, {"missing": str(error)}, [])
        return
    os.nice(10)
    av.logging.set_level(None)
    send(connection, {"ready": confine(configuration)}, [])
    serve(connection, configuration)


if __name__ == "__main__":
    main()
