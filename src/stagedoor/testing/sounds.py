"""Test songs, made on the spot: sound ones with tags and covers, and the hostile ones that strangers send.

Everything is deterministic (the same arguments give the same bytes with the same FFmpeg) and small: two seconds are
10 to 40 KB, uncompressed 350 KB. Needs ``stagedoor[media]``; PyAV is imported by the functions that use it, so
importing this module costs nothing.
"""

from __future__ import annotations

import array
import base64
import functools
import io
import math
import struct
import sys
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from .media import cut

__all__ = [
    "KINDS",
    "Kind",
    "compressed_tag",
    "huge_cover",
    "id3",
    "id3_picture",
    "id3_text",
    "large_tag",
    "midi",
    "overstated_mp3",
    "playlist",
    "song",
    "truncated",
    "unfinished_ogg",
    "with_id3",
]

Kind: TypeAlias = Literal["mp3", "m4a", "alac", "aac", "flac", "ogg", "opus", "wav", "aiff"]
"""By true type, and ``alac`` for an m4a without loss."""
KINDS: tuple[Kind, ...] = get_args(Kind)

# Encoder, its options, muxer, and the muxer's options.
_MADE: dict[str, tuple[str, dict[str, str], str, dict[str, str]]] = {
    "mp3": ("libmp3lame", {}, "mp3", {}),
    "m4a": ("aac", {}, "mp4", {"brand": "M4A "}),
    "alac": ("alac", {}, "mp4", {"brand": "M4A "}),
    "aac": ("aac", {}, "adts", {"write_id3v2": "1"}),
    "flac": ("flac", {}, "flac", {}),
    "ogg": ("vorbis", {"strict": "experimental"}, "ogg", {}),
    "opus": ("libopus", {}, "opus", {}),
    "wav": ("pcm_s16le", {}, "wav", {}),
    "aiff": ("pcm_s16be", {}, "aiff", {"write_id3v2": "1"}),
}
_TAKES_COVERS = ("mp3", "m4a", "alac", "flac")
"""Of FFmpeg's muxers."""
_BLOCK = 4410


@functools.cache
def song(
    kind: Kind = "mp3",
    seconds: float = 2,
    *,
    title: str = "",
    artist: str = "",
    albumartist: str = "",
    album: str = "",
    date: str = "",
    track: str = "",
    disc: str = "",
    genre: str = "",
    compilation: bool = False,
    cover: bytes | None = None,
    rate: int = 44_100,
    kbits: int = 0,
    silent: bool = False,
    encoder: tuple[tuple[str, str], ...] = (),
    muxer: tuple[tuple[str, str], ...] = (),
    seed: int = 0,
) -> bytes:
    """A song in stereo: a tone that rises.

    Args:
        kind: What it is.
        seconds: Length.
        title, artist, albumartist, album, genre: Tags.
        date: As in ``1995`` or ``1995-06-13``.
        track: As in ``3`` or ``3/12``.
        disc: As in ``1`` or ``1/2``.
        compilation: Tagged as part of one.
        cover: A JPEG, as the front cover.
        rate: Samples a second; Opus always has 48,000.
        kbits: Thousands of bits a second, for the lossy ones; 0 for what the encoder likes.
        silent: No tone.
        encoder: Further options of FFmpeg's encoder.
        muxer: Further options of FFmpeg's muxer.
        seed: Another seed gives another tone and so another file.
    """
    import av

    codec, encoding, form, muxing = _MADE[kind]
    rate = 48_000 if kind == "opus" else rate
    tags = {
        "title": title, "artist": artist, "album_artist": albumartist, "album": album, "date": date, "track": track,
        "disc": disc, "genre": genre, "compilation": "1" if compilation else "",
    }  # fmt: skip
    if kind in ("ogg", "opus") and cover is not None:
        tags["METADATA_BLOCK_PICTURE"] = base64.b64encode(_flac_picture(cover)).decode()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form, options={"fflags": "+bitexact", **muxing, **dict(muxer)}) as output:
        output.metadata.update({key: value for key, value in tags.items() if value})
        stream = output.add_stream(codec, rate=rate, layout="stereo", options={**encoding, **dict(encoder)})
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.thread_count = 1
        if kbits:
            stream.codec_context.bit_rate = kbits * 1000
        if cover is not None and kind in _TAKES_COVERS:
            _attach(output, cover)
        wanted = stream.codec_context
        output.start_encoding()
        resampler = av.AudioResampler(wanted.format, wanted.layout, rate, wanted.frame_size or 1024)
        total = round(seconds * rate)
        for start in range(0, total, _BLOCK):
            samples = min(_BLOCK, total - start)
            block = av.AudioFrame(format="s16", layout="stereo", samples=samples)
            block.planes[0].update(bytes(4 * samples) if silent else _tone(start, samples, rate, seed))
            block.sample_rate, block.pts, block.time_base = rate, start, Fraction(1, rate)
            for piece in resampler.resample(block):
                output.mux(stream.encode(piece))
        for piece in resampler.resample(None):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    data = buffer.getvalue()
    if kind == "aac" and cover is not None:
        data = with_id3(data, [id3_picture(cover)])
    if kind == "aiff" and cover is not None:
        data = _with_chunk(data, ">", b"ID3 ", id3([id3_picture(cover)]))
    if kind == "wav" and (cover is not None or albumartist or disc or compilation):
        # What RIFF has no names for.
        frames = [("TPE2", albumartist), ("TPOS", disc), ("TCMP", "1" if compilation else "")]
        made = [id3_text(name, value) for name, value in frames if value]
        data = _with_chunk(data, "<", b"id3 ", id3([*made, *([id3_picture(cover)] if cover is not None else [])]))
    return data


def _attach(output: object, cover: bytes) -> None:
    import av
    from PIL import Image

    assert isinstance(output, av.container.OutputContainer)
    stream = output.add_stream("mjpeg")
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height = Image.open(io.BytesIO(cover)).size
    stream.pix_fmt = "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic
    stream.metadata.update({"title": "Album cover", "comment": "Cover (front)"})
    output.start_encoding()
    packet = av.Packet(cover)
    packet.stream = stream
    packet.pts = packet.dts = 0
    output.mux(packet)


@functools.lru_cache(maxsize=200)
def _tone(start: int, samples: int, rate: int, seed: int) -> bytes:
    """Interleaved 16 bit samples, little-endian; the right side is the left one upside down."""
    pitch = 2 * math.pi * (220 + 20 * seed) / rate
    values = array.array("h", bytes(4 * samples))
    for index in range(samples):
        at = start + index
        value = int(5000 * math.sin(pitch * at * (1 + at / (20 * rate))))
        values[2 * index], values[2 * index + 1] = value, -value
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _flac_picture(cover: bytes) -> bytes:
    return struct.pack(">II10sI16xI", 3, 10, b"image/jpeg", 0, len(cover)) + cover


def _with_chunk(data: bytes, order: str, name: bytes, content: bytes) -> bytes:
    """A RIFF (``<``) or AIFF (``>``) file with a chunk more."""
    grown = data + name + struct.pack(f"{order}I", len(content)) + content + bytes(len(content) % 2)
    return grown[:4] + struct.pack(f"{order}I", len(grown) - 8) + grown[8:]


# ── ID3 ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3(frames: Sequence[tuple[str, bytes]], version: int = 3, *, flags: int = 0, frame_flags: int = 0) -> bytes:
    """An ID3v2 tag.

    Args:
        frames: Names and contents.
        version: 2, 3 or 4.
        flags: Of the tag; what they say has to be done already. With 0x80 the zeros are put in here.
        frame_flags: The second byte of flags, of each frame.
    """
    body = b""
    for name, content in frames:
        size = len(content)
        if version == 2:
            body += name.encode() + size.to_bytes(3, "big") + content
        else:
            length = _synchsafe(size) if version == 4 else size.to_bytes(4, "big")
            body += name.encode() + length + bytes((0, frame_flags)) + content
    if flags & 0x80:
        body = body.replace(b"\xff\x00", b"\xff\x00\x00").replace(b"\xff\xe0", b"\xff\x00\xe0")
        for byte in range(0xE1, 0x100):
            body = body.replace(bytes((0xFF, byte)), bytes((0xFF, 0, byte)))
    return b"ID3" + bytes((version, 0, flags)) + _synchsafe(len(body)) + body


def id3_text(
    name: str, value: str, encoding: Literal["latin-1", "utf-16", "utf-16-be", "utf-8"] = "utf-8"
) -> tuple[str, bytes]:
    """A text frame."""
    codes = ("latin-1", "utf-16", "utf-16-be", "utf-8")
    return name, bytes((codes.index(encoding),)) + value.encode(encoding)


def id3_picture(cover: bytes, role: int = 3, mime: str = "image/jpeg") -> tuple[str, bytes]:
    """A picture frame."""
    return "APIC", b"\0" + mime.encode() + b"\0" + bytes((role,)) + b"\0" + cover


def with_id3(data: bytes, frames: Sequence[tuple[str, bytes]], version: int = 3, **flags: int) -> bytes:
    """A file with an ID3v2 tag in front."""
    return id3(frames, version, **flags) + data


# ── hostile ───────────────────────────────────────────────────────────────────────────────────────────────────


def truncated(kind: Kind, share: float = 0.6, *, seconds: float = 4) -> bytes:
    """A song with its tail cut off; an m4a has its index in front."""
    whole = song(kind, seconds)
    return cut(_index_first(whole) if kind in ("m4a", "alac") else whole, share)


def _index_first(data: bytes) -> bytes:
    from . import media

    return media._index_first(data)


def overstated_mp3(factor: float = 240 / 139, *, seconds: float = 4) -> bytes:
    """An mp3 whose first frame counts more frames than there are."""
    data = bytearray(song("mp3", seconds))
    at = data.index(b"Info") + 8
    (frames,) = struct.unpack_from(">I", data, at)
    struct.pack_into(">I", data, at, round(frames * factor))
    return bytes(data)


def unfinished_ogg(kind: Literal["ogg", "opus"] = "ogg") -> bytes:
    """An Ogg file without its last page, cut where no page is torn."""
    data = song(kind, 4)
    return data[: data.rindex(b"OggS")]


@functools.cache
def compressed_tag(unpacked: int = 300 << 20, name: str = "TIT2") -> bytes:
    """An mp3 with a compressed tag of some 300 KB that says it is 300 MB of text.

    Args:
        unpacked: Bytes.
        name: Of the frame.
    """
    packer = zlib.compressobj(6)
    packed = [packer.compress(b"\0")]
    block = b"A" * (1 << 20)
    packed += [packer.compress(block) for _ in range(unpacked >> 20)]
    packed.append(packer.flush())
    content = unpacked.to_bytes(4, "big") + b"".join(packed)
    return with_id3(song("mp3"), [(name, content)], frame_flags=0x80)


def large_tag(size: int = 17 << 20, name: str = "PRIV") -> bytes:
    """An mp3 with so many bytes in a frame of its tag."""
    return with_id3(song("mp3"), [(name, bytes(size)), id3_text("TIT2", "Behind")])


def huge_cover(path: Path, kind: Literal["mp3", "m4a", "flac"], size: int = 200 << 20) -> None:
    """Write a song with a cover of so many bytes, nearly all of them a hole in the file.

    In FLAC no block can say so: the size is cut to 24 bits, as programs really do.
    """
    head, tail, start = {"mp3": _huge_mp3, "m4a": _huge_m4a, "flac": _huge_flac}[kind](size)
    with path.open("wb") as file:
        file.write(head + start)
        file.truncate(len(head) + size)
        file.seek(0, io.SEEK_END)
        file.write(tail)


_JPEG = b"\xff\xd8\xff\xe0"
_Huge: TypeAlias = tuple[bytes, bytes, bytes]


def _huge_mp3(size: int) -> _Huge:
    name, content = id3_picture(b"")
    frame = name.encode() + (len(content) + size).to_bytes(4, "big") + b"\0\0" + content
    title = id3([id3_text("TIT2", "Behind")])[10:]
    head = b"ID3\x03\0\0" + _synchsafe(len(frame) + size + len(title)) + frame
    return head, title + song("mp3"), _JPEG


def _huge_flac(size: int) -> _Huge:
    data = song("flac", title="Behind")
    picture = struct.pack(">II10sI16xI", 3, 10, b"image/jpeg", 0, size)
    block = b"\x06" + (len(picture) + size & 0xFFFFFF).to_bytes(3, "big") + picture
    return data[:42] + block, data[42:], _JPEG


def _huge_m4a(size: int) -> _Huge:
    small = b"\xff\xd8\xff" + b"cover" * 8
    data = bytearray(song("m4a", title="Behind"))
    item = struct.pack(">I4sI4sII", 24 + len(small), b"covr", 16 + len(small), b"data", 13, 0) + small
    at = data.index(b"ilst") - 4
    at += int.from_bytes(data[at : at + 4], "big")
    data[at:at] = item
    for name in (b"moov", b"udta", b"meta", b"ilst"):  # each of them grows
        _grow(data, data.index(name) - 4, len(item) + size - len(small))
    for name in (b"covr",):
        _grow(data, data.index(name) - 4, size - len(small))
        _grow(data, data.index(name) + 4, size - len(small))
    start = data.index(small)
    return bytes(data[:start]), bytes(data[start + len(small) :]), _JPEG


def _grow(data: bytearray, at: int, count: int) -> None:
    struct.pack_into(">I", data, at, int.from_bytes(data[at : at + 4], "big") + count)


def playlist(path: str = "/etc/passwd") -> bytes:
    """A playlist of a file, as people drop them beside songs."""
    return f"#EXTM3U\n#EXTINF:240,Song\n{path}\n".encode()


def midi() -> bytes:
    """Notes and no sound."""
    return b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0"
