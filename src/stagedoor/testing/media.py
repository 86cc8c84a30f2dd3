"""Test media, made on the spot: sound ones, and the hostile ones that strangers send.

Everything is deterministic (the same arguments give the same bytes with the same FFmpeg) and small: four seconds
of 320×180 are 5 to 45 KB. Needs ``stagedoor[media]``; PyAV and Pillow are imported by the functions that use
them, so importing this module costs nothing.
"""

from __future__ import annotations

import functools
import io
import math
import random
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Container",
    "audio_with_cover",
    "cut",
    "empty",
    "ffconcat",
    "hls",
    "huge_frame",
    "noise",
    "overstated_webm",
    "sdp",
    "still_cover",
    "truncated_mp4",
    "truncated_webm",
    "video",
]

Container: TypeAlias = Literal["mp4", "m4v", "mov", "webm", "mkv"]

_MUXER: dict[str, str] = {"mp4": "mp4", "m4v": "ipod", "mov": "mov", "webm": "webm", "mkv": "matroska"}
_RATE = 10
_SAMPLES = 48_000
BACKGROUNDS = ((200, 40, 40), (40, 160, 40), (40, 40, 200), (200, 180, 40), (160, 40, 180))
"""RGB of the five fifths of a clip, so that a frame tells where it was taken from (±10, the codec's loss)."""


@functools.cache
def video(
    seconds: float = 4,
    size: tuple[int, int] = (320, 180),
    container: Container = "mp4",
    *,
    codec: str | None = None,
    sar: tuple[int, int] = (1, 1),
    rotation: int = 0,
    faststart: bool = False,
    audio: bool = True,
    keyframes: int = 10,
    live: bool = False,
    fragmented: bool = False,
    title: str = "",
    seed: int = 0,
) -> bytes:
    """A clip of five coloured fifths with a square that moves, and a quiet tone.

    Args:
        seconds: Length.
        size: Width and height in pixels as stored, even numbers.
        container: ``mp4``, ``m4v`` and ``mov`` hold H.264 and AAC, ``webm`` and ``mkv`` VP8 and Opus.
        codec: FFmpeg's name of another video encoder.
        sar: Sample aspect ratio.
        rotation: Degrees that a player has to turn the picture counterclockwise (ISO containers only).
        faststart: Put the index in front (ISO containers only).
        audio: With a tone.
        keyframes: A key frame every so many frames; there are ten frames a second.
        live: As a browser records it: no duration, no index (``webm`` and ``mkv`` only).
        fragmented: As streaming sites make it: the index in pieces (ISO containers only).
        title: A title tag.
        seed: Another seed gives other pixels and so another file.
    """
    import av
    from av.audio.resampler import AudioResampler

    iso = container in ("mp4", "m4v", "mov")
    name = codec or ("libx264" if iso else "libvpx")
    buffer = io.BytesIO()
    options = {"fflags": "+bitexact"}
    if live:
        options["live"] = "1"
    if fragmented:
        options["movflags"] = "dash"
    with av.open(buffer, "w", format=_MUXER[container], options=options) as output:
        if title:
            output.metadata["title"] = title
        picture = output.add_stream(name, rate=_RATE)
        assert isinstance(picture, av.VideoStream)
        picture.width, picture.height = size
        picture.pix_fmt = "yuv420p"
        picture.codec_context.thread_count = 1
        picture.codec_context.gop_size = keyframes
        picture.codec_context.sample_aspect_ratio = Fraction(*sar)
        picture.codec_context.time_base = Fraction(1, _RATE)
        picture.codec_context.options = {
            "libx264": {"preset": "ultrafast", "bf": "2"},
            "libvpx": {"deadline": "realtime", "cpu-used": "8"},
        }.get(name, {})
        if rotation:
            picture.set_display_rotation(rotation)
        tone = None
        if audio:
            # Opus as FFmpeg's own encoder is experimental; AAC as its own is not.
            tone = output.add_stream("aac" if iso else "libopus", rate=_SAMPLES, layout="mono")
        frames = max(1, round(seconds * _RATE))
        for index in range(frames):
            frame: av.VideoFrame = av.VideoFrame.from_image(_picture(index / frames, size, seed))  # type: ignore[no-untyped-call]
            frame.pts, frame.time_base = index, Fraction(1, _RATE)
            output.mux(picture.encode(frame))
        output.mux(picture.encode(None))
        if tone is not None:
            assert isinstance(tone, av.AudioStream)
            wanted = tone.codec_context
            resampler = AudioResampler(wanted.format, wanted.layout, _SAMPLES, wanted.frame_size or 960)
            for start in range(0, int(seconds * _SAMPLES), 4800):
                block = av.AudioFrame(format="s16", layout="mono", samples=4800)
                block.planes[0].update(_tone(start, 4800))
                block.sample_rate, block.pts, block.time_base = _SAMPLES, start, Fraction(1, _SAMPLES)
                for piece in resampler.resample(block):
                    output.mux(tone.encode(piece))
            for piece in resampler.resample(None):
                output.mux(tone.encode(piece))
            output.mux(tone.encode(None))
    return _index_first(buffer.getvalue()) if faststart else buffer.getvalue()


def _index_first(data: bytes) -> bytes:
    """Move ``moov`` before ``mdat``. FFmpeg's own ``faststart`` wants to open the file a second time, by name."""
    boxes, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes.append(data[at : at + size])
        at += size
    moov = bytearray(next(box for box in boxes if box[4:8] == b"moov"))
    # ISO/IEC 14496-12, 8.7.5: a chunk offset counts from the start of the file, and everything moves back.
    at = moov.find(b"stco")
    while at >= 0:
        (count,) = struct.unpack_from(">I", moov, at + 8)
        offsets = struct.unpack_from(f">{count}I", moov, at + 12)
        struct.pack_into(f">{count}I", moov, at + 12, *(offset + len(moov) for offset in offsets))
        at = moov.find(b"stco", at + 12 + 4 * count)
    rest = [box for box in boxes if box[4:8] != b"moov"]
    return b"".join((rest[0], bytes(moov), *rest[1:]))


def _picture(position: float, size: tuple[int, int], seed: int) -> Image:
    from PIL import Image

    width, height = size
    image = Image.new("RGB", size, BACKGROUNDS[min(4, int(position * 5))])
    # Above half the height, so that the lower part of every frame is the plain colour of its fifth.
    side = max(2, height // 6)
    left = int(position * (width - side))
    top = random.Random(seed).randrange(max(1, height // 4))  # noqa: S311 (pixels, no secret)
    image.paste((255, 255, 255), (left, top, left + side, top + side))
    return image


@functools.cache
def _tone(start: int, samples: int) -> bytes:
    return struct.pack(
        f"<{samples}h", *(int(2000 * math.sin(2 * math.pi * 440 * n / _SAMPLES)) for n in range(start, start + samples))
    )


# ── hostile ───────────────────────────────────────────────────────────────────────────────────────────────────


def cut(data: bytes, share: float) -> bytes:
    """The first part of a file, as a connection that broke leaves it."""
    return data[: int(len(data) * share)]


def truncated_mp4(share: float = 0.7) -> bytes:
    """An mp4 with the index in front and its tail cut off: it opens, and says its full length."""
    return cut(video(faststart=True), share)


def truncated_webm(share: float = 0.7) -> bytes:
    """A webm with its tail cut off: it opens, says its full length, and decodes without an error."""
    return cut(video(container="webm"), share)


def overstated_webm(factor: float = 1.8) -> bytes:
    """A webm that is all there, but says that it is longer: what cutting at a block's border and mending leaves."""
    data = bytearray(video(container="webm"))
    # Duration (0x4489), a float of eight bytes, in milliseconds.
    at = data.index(b"\x44\x89\x88") + 3
    (duration,) = struct.unpack_from(">d", data, at)
    struct.pack_into(">d", data, at, duration * factor)
    return bytes(data)


def ffconcat(path: str = "/etc/passwd") -> bytes:
    """A text that makes FFmpeg read another file, unless formats are an allow-list."""
    return f"ffconcat version 1.0\nfile '{path}'\nduration 4\n".encode()


def hls(url: str = "file:///etc/passwd") -> bytes:
    """A playlist that makes FFmpeg read another file or connect somewhere."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{url}\n#EXT-X-ENDLIST\n".encode()


def sdp(port: int = 5004) -> bytes:
    """A session description that makes FFmpeg listen on the network."""
    text = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video {port} RTP/AVP 96\r\n"
    return text.encode() + b"a=rtpmap:96 H264/90000\r\n"


@functools.cache
def audio_with_cover() -> bytes:
    """A song in an mp4 with a cover, which FFmpeg shows as a stream of video."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as output:
        tone = output.add_stream("aac", rate=_SAMPLES, layout="mono")
        cover = output.add_stream("mjpeg")
        assert isinstance(tone, av.AudioStream)
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height = 64, 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.Packet(still_cover())
        picture.stream = cover
        picture.pts = picture.dts = 0
        output.start_encoding()
        output.mux(picture)
        for start in range(0, _SAMPLES, 1024):
            block = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            block.planes[0].update(bytes(4096))
            block.sample_rate, block.pts, block.time_base = _SAMPLES, start, Fraction(1, _SAMPLES)
            output.mux(tone.encode(block))
        output.mux(tone.encode(None))
    return buffer.getvalue()


@functools.cache
def still_cover(size: tuple[int, int] = (64, 64)) -> bytes:
    """A JPEG of one colour."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", size, (20, 90, 160)).save(buffer, "JPEG")
    return buffer.getvalue()


@functools.cache
def huge_frame(side: int = 16_383, *, honest: bool = True) -> bytes:
    """A webm of some KB whose frames claim to be 268 megapixels.

    Args:
        side: Width and height that are claimed, below 16,384.
        honest: The container's header claims it as well, not only the frames.
    """
    data = bytearray(video(seconds=1, container="webm", audio=False))
    # RFC 6386, 9.1: a key frame has a start code, then 14 bits each of width and height.
    position = data.find(b"\x9d\x01\x2a")
    while position >= 0:
        data[position + 3 : position + 7] = struct.pack("<HH", side, side)
        position = data.find(b"\x9d\x01\x2a", position + 1)
    if honest:
        # PixelWidth (0xB0) of 320 takes two bytes, PixelHeight of 180 one: the width alone can grow in place.
        header = data.index(b"\xb0\x82\x01\x40")
        data[header + 2 : header + 4] = struct.pack(">H", side)
    return bytes(data)


def noise(size: int = 4096, seed: int = 0) -> bytes:
    """Random bytes."""
    return random.Random(seed).randbytes(size)  # noqa: S311 (test data)


def empty() -> bytes:
    """Nothing."""
    return b""
