"""Sound files taken apart: what kind they are, where sound and tags are, and how long they promise to be.

Nothing is decoded here. The container's own bytes are the truth, whatever the file's name says. What FFmpeg gets to
see afterwards is the sound alone (`Layout.view`): tags and covers are cut out, because it would unpack and keep them.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from .common import ISO_BOXES, WHOLE, Input, Positioned, RejectedError
from .tags import (
    TAG_BLOCK,
    Bytes,
    Memory,
    Tags,
    Window,
    add_comment,
    boxes,
    id3_size,
    picture_head,
    read_ape,
    read_comments,
    read_id3,
    read_meta,
    read_picture,
)

SLACK = 0.1
"""Seconds that may be missing all the same: four frames of mp3."""
_SEARCH = 4096
"""Bytes before the first frame of an mp3, as files that were cut without care have them."""
_ROW = 4
"""Frames in a row that make an mp3 or aac."""


class Splice(Positioned):
    """Parts one after the other, as a file."""

    def __init__(self, parts: Sequence[Bytes]) -> None:
        self.parts = [part for part in parts if part.size]
        self.starts = [0, *accumulate(part.size for part in self.parts)]
        super().__init__(self.starts.pop())

    def at(self, offset: int, count: int) -> bytes:
        """As `Bytes`."""
        found = []
        count = min(count, self.size - offset)
        while count > 0:
            index = bisect_right(self.starts, offset) - 1
            data = self.parts[index].at(offset - self.starts[index], count)
            if not data:
                break
            found.append(data)
            offset += len(data)
            count -= len(data)
        return b"".join(found)

    def read(self, count: int = -1) -> bytes:
        """As of a file."""
        data = self.at(self.position, self.size if count < 0 else count)
        self.position += len(data)
        return data


@dataclass
class Layout:
    """A sound file.

    Attributes:
        kind: True type: ``mp3``, ``m4a``, ``aac``, ``flac``, ``ogg``, ``opus``, ``wav`` or ``aiff``.
        demuxer: FFmpeg's name of what reads it.
        view: The sound without tags.
        tags: What the tags hold.
        promised: Seconds that the headers promise at least; ``None`` when they promise nothing.
        pcm: Bytes and seconds of uncompressed sound, of which nothing has to be counted.
    """

    kind: str
    demuxer: str
    view: Splice
    tags: Tags = field(default_factory=Tags)
    promised: float | None = None
    pcm: tuple[int, float] | None = None


def missing(there: float, promised: float) -> bool:
    """Whether so much is missing that the file was cut off, in seconds."""
    return there < WHOLE * promised and there < promised - SLACK


def _check_whole(there: float, promised: float) -> None:
    if missing(there, promised):
        raise RejectedError("truncated", percent=int(100 * there / promised))


def examine(source: Input) -> Layout:
    """Take a sound file apart.

    Raises:
        RejectedError: ``not_audio``, ``unsupported_sound``, ``truncated``, ``unreadable``, ``tags_too_large``.
    """
    tags = Tags()
    start = 0
    for _ in range(8):  # programs that did not see the first tag wrote a second one
        size = id3_size(source.at(start, 10))
        if not size:
            break
        if start + size > source.size:
            raise RejectedError("truncated")
        read_id3(Window(source, start, size), tags)
        start += size
    head = source.at(start, 16)
    if head[:4] == b"fLaC":
        return _flac(source, start, tags)
    if head[:4] == b"OggS":
        return _ogg(source, start, tags)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return _wav(source, start, tags)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(source, start, tags)
    if head[4:8] in ISO_BOXES:
        return _m4a(source, start, tags)
    return _frames(source, start, tags)


# ── mp3 and aac: nothing but frames ───────────────────────────────────────────────────────────────────────────

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class _Header:
    """Of a frame: its size in bytes, samples, samples a second; where an mp3 would have its Xing header."""

    size: int
    samples: int
    rate: int
    xing: int = 0


def _mp3_header(data: bytes) -> _Header | None:
    """ISO/IEC 11172-3, 2.4.1.3, layer III only."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE6 != 0xE2:
        return None
    version, kbits, rate = data[1] >> 3 & 3, data[2] >> 4, data[2] >> 2 & 3
    if version == 1 or not 0 < kbits < 15 or rate == 3:
        return None
    first = version == 3
    per_second = _RATES[version][rate]
    size = (144 if first else 72) * 1000 * _KBITS[3 if first else 2][kbits] // per_second + (data[2] >> 1 & 1)
    mono = data[3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Header(size, 1152 if first else 576, per_second, 4 + side)


_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


def _adts_header(data: bytes) -> _Header | None:
    """ISO/IEC 14496-3, 1.A.2.2."""
    if len(data) < 7 or data[0] != 0xFF or data[1] & 0xF6 != 0xF0 or data[2] >> 2 & 15 >= len(_ADTS_RATES):
        return None
    size = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    return _Header(size, 1024, _ADTS_RATES[data[2] >> 2 & 15]) if size > 7 else None


def _in_a_row(source: Bytes, at: int, end: int, header: Callable[[bytes], _Header | None]) -> _Header | None:
    """The header of a frame that others follow. Two bytes look like one by chance soon enough."""
    first = None
    for number in range(_ROW):
        if number > 1 and at + 7 > end:
            break
        found = header(source.at(at, 8))
        if found is None or (first and (found.samples, found.rate) != (first.samples, first.rate)):
            return None
        first = first or found
        at += found.size
    return first


def _frames(source: Input, start: int, tags: Tags) -> Layout:
    end = source.size
    for _ in range(3):
        last = source.at(end - 128, 128) if end - start >= 128 else b""
        if last[:3] == b"TAG":
            tags.id3v1 = last
            end -= 128
        before = read_ape(source, end, tags)
        if before == end:
            break
        end = max(start, before)
    while start < end and not (block := source.at(start, 1 << 16)).strip(b"\0"):  # padding that no tag counts
        start += len(block) or end
    block = source.at(start, 1 << 16)
    start += len(block) - len(block.lstrip(b"\0"))
    block = source.at(start, _SEARCH)
    at = block.find(b"\xff")
    while at >= 0:
        for kind, parse in (("mp3", _mp3_header), ("aac", _adts_header)):
            first = _in_a_row(source, start + at, end, parse)
            if first is not None:
                view = Splice([Window(source, start + at, end - start - at)])
                promised = _xing(view, first) if kind == "mp3" else None
                return Layout(kind, kind, view, tags, promised)
        at = block.find(b"\xff", at + 1)
    raise RejectedError("not_audio")


def _xing(view: Bytes, first: _Header) -> float | None:
    """Seconds that the first frame promises; it holds no sound then.

    Xing's header is where the sound of a frame begins, and counts frames if its first flag says so; Fraunhofer's
    VBRI is always 32 bytes behind the frame's header.
    """
    head = view.at(first.xing, 12)
    if head[:4] in (b"Xing", b"Info") and head[7:8] and head[7] & 1:
        return int.from_bytes(head[8:12], "big") * first.samples / first.rate
    head = view.at(36, 18)
    if head[:4] == b"VBRI" and len(head) == 18:
        return int.from_bytes(head[14:18], "big") * first.samples / first.rate
    return None


# ── FLAC ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _flac(source: Input, start: int, tags: Tags) -> Layout:
    """RFC 9639, 8."""
    at, last, info = start + 4, False, b""
    for _ in range(10_000):
        if last:
            break
        head = source.at(at, 4)
        if len(head) < 4:
            raise RejectedError("truncated")
        last, kind, size = bool(head[0] & 0x80), head[0] & 0x7F, int.from_bytes(head[1:], "big")
        at += 4
        if kind == 6:
            block = Window(source, at, source.size)
            whole = picture_head(block) + int.from_bytes(block.at(picture_head(block) - 4, 4), "big")
            # 24 bits cannot say how large it is, and programs wrote it all the same.
            if whole > size and whole & 0xFFFFFF == size:
                size = whole
            read_picture(Window(source, at, size), tags)
        elif kind == 4:
            read_comments(source.at(at, size), tags)
        elif kind == 0 and not info:
            info = source.at(at, size)
        at += size
        if at > source.size:
            raise RejectedError("truncated")
    rate = int.from_bytes(info[10:13], "big") >> 4
    if len(info) != 34 or not rate:
        raise RejectedError("unreadable")
    samples = int.from_bytes(info[13:18], "big") & (1 << 36) - 1
    end = source.size - (128 if source.size - at > 128 and source.at(source.size - 128, 3) == b"TAG" else 0)
    view = Splice([Memory(b"fLaC\x80\0\0\x22" + info), Window(source, at, end - at)])
    return Layout("flac", "flac", view, tags, samples / rate if samples else None)


# ── Ogg ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Stream:
    """A logical stream of an Ogg file."""

    codec: str
    rate: int
    packets: int = 0
    comment: bytearray = field(default_factory=bytearray)
    first: int = -1
    last: int = -1
    ended: bool = False


def _ogg_stream(packet: bytes) -> _Stream | None:
    """By its first packet; ``None`` for what is no sound."""
    if packet[:7] == b"\x01vorbis" and len(packet) >= 16:
        return _Stream("vorbis", int.from_bytes(packet[12:16], "little"))
    if packet[:8] == b"OpusHead":
        return _Stream("opus", 48_000)
    if packet[:5] == b"\x7fFLAC" and len(packet) >= 34:
        return _Stream("flac", int.from_bytes(packet[27:30], "big") >> 4)
    return None


def _pages(source: Input, start: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Header, lacing values and start of the content of each page (RFC 3533, 6).

    Raises:
        RejectedError: ``truncated``: the last one is not whole.
    """
    at = start
    while at < source.size:
        head = source.at(at, 282)
        if head[:4] != b"OggS":
            at = _next_page(source, at + 1)
            continue
        table = head[27 : 27 + head[26]] if len(head) > 26 else b""
        after = at + 27 + len(table) + sum(table)
        if len(head) < 27 or len(table) < head[26] or after > source.size:
            raise RejectedError("truncated")
        yield head, table, after - sum(table)
        at = after


def _next_page(source: Input, at: int) -> int:
    while at < source.size:
        block = source.at(at, 1 << 16)
        found = block.find(b"OggS")
        if found >= 0:
            return at + found
        at += max(1, len(block) - 3)
    return at


def _ogg(source: Input, start: int, tags: Tags) -> Layout:
    streams: dict[int, _Stream] = {}
    chain: list[_Stream] = []
    for head, table, content in _pages(source, start):
        serial = int.from_bytes(head[14:18], "little")
        if head[5] & 2:
            made = _ogg_stream(source.at(content, min(64, sum(table))))
            streams.pop(serial, None)
            if made is not None:
                streams[serial] = made
                chain.append(made)
                made.packets = -1  # until its own end has been seen
        stream = streams.get(serial)
        if stream is None:
            continue
        if stream.packets < 1:
            _collect_comment(source, stream, table, content)
        granule = int.from_bytes(head[6:14], "little", signed=True)
        if granule > 0:
            stream.first = granule if stream.first < 0 else stream.first
            stream.last = granule
        stream.ended = bool(head[5] & 4)
    if not chain:
        raise RejectedError("not_audio")
    first = chain[0]
    same = [stream for stream in chain if stream.codec == first.codec]
    if not first.rate or first.packets < 1:
        raise RejectedError("truncated" if first.packets < 1 and not first.ended else "unreadable")
    if not same[-1].ended:
        raise RejectedError("truncated")
    skip = {"vorbis": 7, "opus": 8, "flac": 4}[first.codec]
    read_comments(bytes(first.comment[skip:]), tags)
    promised = sum((stream.last - stream.first) / stream.rate for stream in same if stream.rate)
    kind = "opus" if first.codec == "opus" else "ogg"
    return Layout(kind, "ogg", Splice([Window(source, start, source.size)]), tags, promised)


def _collect_comment(source: Input, stream: _Stream, table: bytes, content: int) -> None:
    """The second packet, which may lie on several pages, is the comments."""
    for lacing in table:
        if stream.packets == 0:
            if len(stream.comment) > TAG_BLOCK:
                raise RejectedError("tags_too_large")
            stream.comment += source.at(content, lacing)
        content += lacing
        if lacing < 255:
            stream.packets += 1
            if stream.packets == 1:
                return


# ── WAV and AIFF ──────────────────────────────────────────────────────────────────────────────────────────────

_INFO = {
    b"INAM": b"title", b"TITL": b"title", b"IART": b"artist", b"IPRD": b"album", b"ICRD": b"date", b"YEAR": b"date",
    b"IGNR": b"genre", b"IPRT": b"track", b"ITRK": b"track", b"TRCK": b"track",
    b"NAME": b"title", b"AUTH": b"artist",
}  # fmt: skip


def _chunks(source: Bytes, start: int, order: str, sizes: dict[bytes, int]) -> Iterator[tuple[bytes, Window, int]]:
    """Name, content and promised size of chunks (EA IFF 85); the last content may be shorter than promised."""
    at = start
    for _ in range(10_000):
        head = source.at(at, 8)
        if len(head) < 8:
            return
        name, size = head[:4], int.from_bytes(head[4:], "little" if order == "<" else "big")
        size = sizes.get(name, size) if size == 0xFFFFFFFF else size
        yield name, Window(source, at + 8, size), size
        at += 8 + size + size % 2


def _take_text(name: bytes, content: Bytes, tags: Tags) -> None:
    tags.spend(content.size)
    text = content.at(0, min(content.size, 1 << 16)).split(b"\0")[0].strip()
    if text and name in _INFO:
        try:
            text.decode()
        except UnicodeDecodeError:
            text = text.decode("latin-1").encode()
        add_comment(_INFO[name] + b"=" + text, tags)


def _wav(source: Input, start: int, tags: Tags) -> Layout:
    """RIFF as Microsoft's and IBM's Multimedia Programming Interface (1991) has it, and EBU Tech 3306 (RF64)."""
    form, data, promised = b"", None, 0
    sizes: dict[bytes, int] = {}
    for name, content, size in _chunks(source, start + 12, "<", sizes):
        if name == b"ds64":
            sizes[b"data"] = int.from_bytes(content.at(8, 8), "little")
        elif name == b"fmt " and not form:
            form = content.at(0, 64)
        elif name == b"data" and data is None:
            rest = source.size - content.start
            if size in (0, 0xFFFFFFFF):  # recorded, and never finished
                size = rest
            data, promised = Window(source, content.start, size), size
        elif name == b"LIST" and content.at(0, 4) == b"INFO":
            for field_name, text, _ in _chunks(content, 4, "<", {}):
                _take_text(field_name, text, tags)
        elif name in (b"id3 ", b"ID3 "):
            read_id3(Window(content, 0, id3_size(content.at(0, 10)) or content.size), tags)
    if data is None or len(form) < 16:
        declared = int.from_bytes(source.at(start + 4, 4), "little")
        raise RejectedError("truncated" if start + 8 + declared > source.size else "unreadable")
    coding, _, rate, _, width = struct.unpack_from("<HHIIH", form)
    if coding == 0xFFFE:
        coding = int.from_bytes(form[24:26], "little")
    if coding not in (1, 3, 6, 7):
        raise RejectedError("unsupported_sound")
    if not rate or not width:
        raise RejectedError("unreadable")
    _check_whole(data.size / width / rate, promised / width / rate)
    most = 0xFFFFFFFF
    head = b"fmt " + len(form).to_bytes(4, "little") + form + bytes(len(form) % 2)
    head += b"data" + min(data.size, most).to_bytes(4, "little")
    riff = b"RIFF" + min(4 + len(head) + data.size, most).to_bytes(4, "little") + b"WAVE"
    seconds = data.size // width / rate
    return Layout("wav", "wav", Splice([Memory(riff + head), data]), tags, pcm=(data.size, seconds))


def _aiff(source: Input, start: int, tags: Tags) -> Layout:
    """Audio Interchange File Format 1.3, and AIFF-C of 1991."""
    common, sound, promised = b"", None, 0
    for name, content, size in _chunks(source, start + 12, ">", {}):
        if name == b"COMM" and not common:
            common = content.at(0, 64)
        elif name == b"SSND" and sound is None:
            sound, promised = content, size
        elif name in (b"NAME", b"AUTH"):
            _take_text(name, content, tags)
        elif name in (b"ID3 ", b"id3 "):
            read_id3(Window(content, 0, id3_size(content.at(0, 10)) or content.size), tags)
    if sound is None or len(common) < 18:
        declared = int.from_bytes(source.at(start + 4, 4), "big")
        raise RejectedError("truncated" if start + 8 + declared > source.size else "unreadable")
    channels, frames, bits = struct.unpack_from(">HIH", common)
    rate = _extended(common[8:18])
    coding = common[18:22].lower() if source.at(start + 8, 4) == b"AIFC" else b"none"
    sample = {b"ulaw": 1, b"alaw": 1, b"fl32": 4, b"fl64": 8}.get(coding, (bits + 7) // 8)
    if coding not in (b"none", b"sowt", b"twos", b"raw ", b"in24", b"in32", b"ulaw", b"alaw", b"fl32", b"fl64"):
        raise RejectedError("unsupported_sound")
    if not 0 < rate < 10_000_000 or not channels * sample:
        raise RejectedError("unreadable")
    there = max(0, sound.size - 8)
    _check_whole(there / rate, max(0, promised - 8) / rate)
    _check_whole(there // (channels * sample) / rate, frames / rate)
    kind = source.at(start + 8, 4)
    head = b"FVER\0\0\0\4\xa2\x80\x51\x40" if kind == b"AIFC" else b""
    head += b"COMM" + len(common).to_bytes(4, "big") + common + bytes(len(common) % 2)
    head += b"SSND" + min(sound.size, 0xFFFFFFFF).to_bytes(4, "big")
    form = b"FORM" + min(4 + len(head) + sound.size, 0xFFFFFFFF).to_bytes(4, "big") + kind
    seconds = min(frames, there // (channels * sample)) / rate
    return Layout("aiff", "aiff", Splice([Memory(form + head), sound]), tags, pcm=(there, seconds))


def _extended(data: bytes) -> float:
    """An 80 bit number of the 68881; 0 for one that no rate is."""
    exponent, mantissa = struct.unpack(">HQ", data)
    return mantissa * 2.0 ** (exponent - 16446) if 16383 <= exponent < 16447 else 0.0


# ── MP4 ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _m4a(source: Input, start: int, tags: Tags) -> Layout:
    """Boxes with tags become ``free`` ones for FFmpeg.

    Raises:
        RejectedError: ``truncated``, the index or the sound is longer than the file; ``unreadable``, there is no
            index; ``tags_too_large``.
    """
    hidden: list[int] = []
    index = False
    for name, at, inner, after in boxes(source, start, source.size):
        if name in (b"moov", b"mdat", b"moof") and after > source.size:
            raise RejectedError("truncated")
        if name in (b"uuid", b"meta"):
            hidden.append(at)
        elif name == b"moov":
            index = True
            hidden += _hide_tags(source, inner, after, tags)
    if not index:
        raise RejectedError("unreadable")
    parts: list[Bytes] = []
    done = 0
    for at in hidden:
        parts += [Window(source, done, at + 4 - done), Memory(b"free")]
        done = at + 8
    parts.append(Window(source, done, source.size))
    return Layout("m4a", "mov", Splice(parts), tags)


def _hide_tags(source: Input, start: int, end: int, tags: Tags) -> list[int]:
    hidden: list[int] = []
    for name, at, inner, after in boxes(source, start, end):
        if after > end:
            break
        if name == b"trak":
            hidden += [place for inside, place, _, _ in boxes(source, inner, after) if inside in (b"udta", b"meta")]
        elif name == b"meta":
            hidden.append(at)
            read_meta(source, inner, after, tags)
        elif name == b"udta":
            hidden.append(at)
            for inside, _, content, last in boxes(source, inner, after):
                if inside == b"meta":
                    read_meta(source, content, min(last, after), tags)
    return hidden
