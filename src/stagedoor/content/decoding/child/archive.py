"""Archives in the child: what is in them, and what their members hold.

Zip archives are read here from their definition (PKWARE's APPNOTE 6.3, named by section below) and not with `zipfile`,
which takes much of what is refused here, and not the same in each version: entries that share their bytes, a
directory that contradicts the headers, something in front. Of `tarfile` only the reading of one header is used:
on its own it takes a broken header for the end of the archive.

Nothing is unpacked further than it is asked for, and every byte is counted.
"""

from __future__ import annotations

import bz2
import lzma
import re
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .common import Frame, Input, RejectedError

_BLOCK = 1 << 16
_HEAD = 512
"""Bytes of a member that tell whether it is an archive itself."""
_BATCH = 1 << 15
_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08", ""),  # in several parts
    (b"\x1f\x8b", "tar.gz"),
    (b"BZh", "tar.bz2"),
    (b"\xfd7zXZ\x00", "tar.xz"),
    (b"7z\xbc\xaf\x27\x1c", ""),
    (b"Rar!\x1a\x07", ""),
    (b"\x28\xb5\x2f\xfd", ""),  # Zstandard
)


def _kind_of(head: bytes) -> str | None:
    """What the first 512 bytes say: a kind, the empty string for one that is not supported, ``None`` for no archive."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return "tar" if head[257:262] == b"ustar" else None


class _Tally:
    """What an archive has said and given so far, against the limits."""

    def __init__(self, limits: Mapping[str, int], packed: int) -> None:
        self._limits = limits
        self._packed = packed
        self._entries = 0
        self._headers = 0
        self._names = 0
        self._bytes = 0

    def header(self) -> None:
        """One more header of a tar; an entry has up to four."""
        self._headers += 1
        if self._headers > 4 * self._limits["members"] + 4:
            raise RejectedError("archive_too_many", most=self._limits["members"])

    def entries(self, count: int) -> None:
        self._entries += count
        if self._entries > self._limits["members"]:
            raise RejectedError("archive_too_many", most=self._limits["members"])

    def name(self, length: int) -> None:
        self._names += length
        if length > self._limits["name"] or self._names > self._limits["names"]:
            raise RejectedError("archive_names", most=self._limits["name"])

    def extras(self, length: int) -> None:
        """Bytes of an extended header, of which only the name is kept."""
        if length > self._limits["names"]:
            raise RejectedError("archive_names", most=self._limits["name"])

    def member(self, size: int) -> None:
        """What a member says of itself."""
        if size > self._limits["member_bytes"]:
            raise RejectedError("archive_too_large", most=self._limits["member_bytes"] // 1_000_000)

    def unpacked(self, count: int) -> None:
        """So many bytes more, of members or of all that is packed together with them."""
        self._bytes += count
        if self._bytes > self._limits["ratio_from"] and self._bytes > self._limits["ratio"] * self._packed:
            raise RejectedError("archive_bomb", ratio=self._limits["ratio"])
        if self._bytes > self._limits["bytes"]:
            raise RejectedError("archive_too_large", most=self._limits["bytes"] // 1_000_000)


# ── unpacking ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Unpacker(Protocol):
    """What `bz2.BZ2Decompressor` and `lzma.LZMADecompressor` have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Inflater:
    """`zlib`, with what the others have.

    Args:
        window: -15 for bare deflate, 31 for gzip.
    """

    def __init__(self, window: int) -> None:
        self._zlib = zlib.decompressobj(window)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        # A full answer may leave more in zlib's own window, although it took all of its input.
        self.needs_input = not self._zlib.unconsumed_tail and len(out) < max_length
        return out


_Opener = Callable[[], _Unpacker]
_OPENERS: dict[str, _Opener | None] = {
    "tar": None,
    "tar.gz": lambda: _Inflater(31),
    "tar.bz2": bz2.BZ2Decompressor,
    "tar.xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
}
_METHODS: dict[int, _Opener | None] = {0: None, 8: lambda: _Inflater(-15), 12: bz2.BZ2Decompressor}
"""Of zip, 4.4.5."""


class _Flow:
    """Bytes of the input from one offset to another, unpacked while they are read.

    Args:
        opener: Makes an unpacker; ``None`` when nothing is packed.
        streams: One may follow the other, as gzip, bzip2 and xz allow; zeros may follow the last.
    """

    def __init__(self, source: Input, start: int, end: int, opener: _Opener | None, *, streams: bool = False) -> None:
        self._source = source
        self._at = start
        self._end = end
        self._opener = opener
        self._unpacker = opener() if opener else None
        self._rest = b""
        self._streams = streams
        self._ended = False

    @property
    def stored(self) -> bool:
        """Whether nothing is packed, so that bytes can be passed over without reading them."""
        return self._opener is None

    @property
    def used_up(self) -> bool:
        """Whether nothing of the input is left over."""
        return self._at == self._end and not self._rest

    def read(self, count: int) -> bytes:
        """So many bytes, fewer at the end only.

        Raises:
            RejectedError: ``archive_unreadable`` or ``archive_truncated``.
        """
        if self._unpacker is None:
            return self._take(count)
        pieces: list[bytes] = []
        try:
            while count and (piece := self._some(count)):
                pieces.append(piece)
                count -= len(piece)
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:  # bz2 says OSError
            raise RejectedError("archive_unreadable") from error
        return b"".join(pieces)

    def skip(self, count: int) -> None:
        """Pass over bytes that are `stored`."""
        self._at += count
        if self._at > self._end:
            raise RejectedError("archive_truncated")

    def _take(self, count: int) -> bytes:
        data = self._source.at(self._at, min(count, self._end - self._at))
        self._at += len(data)
        return data

    def _some(self, count: int) -> bytes:
        while not self._ended:
            assert self._unpacker is not None
            if self._unpacker.eof:
                self._next()
                continue
            data = b""
            if self._unpacker.needs_input:
                data, self._rest = self._rest or self._take(_BLOCK), b""
                if not data:
                    raise RejectedError("archive_truncated" if self._streams else "archive_unreadable")
            if out := self._unpacker.decompress(data, count):
                return out
        return b""

    def _next(self) -> None:
        """Go on to the stream that follows, if one does."""
        assert self._unpacker is not None
        assert self._opener is not None
        self._rest = self._unpacker.unused_data
        while self._streams and not self._rest.strip(b"\0"):
            self._rest = self._take(_BLOCK)
            if not self._rest:
                break
        self._ended = not self._streams or not self._rest
        if not self._ended:
            self._rest = self._rest.lstrip(b"\0")
            self._unpacker = self._opener()


# ── zip ───────────────────────────────────────────────────────────────────────────────────────────────────────

_LOCAL = struct.Struct("<4s5H3I2H")  # 4.3.7
_CENTRAL = struct.Struct("<4s6H3I5H2I")  # 4.3.12
_END64 = struct.Struct("<4sQ2H2I4Q")  # 4.3.14
_LOCATOR64 = struct.Struct("<4sIQI")  # 4.3.15
_END = struct.Struct("<4s4H2IH")  # 4.3.16
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED, _DESCRIBED = 0x2041, 0x0008  # 4.4.4: bits 0, 6 and 13; bit 3
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075  # 4.5.2


@dataclass(slots=True)
class _Entry:
    """A file or something else in an archive.

    Attributes:
        name: As stored.
        kind: ``file``, ``directory``, ``link``, ``device`` or ``nested``.
        size: Bytes unpacked.
    """

    name: bytes
    kind: str
    size: int


@dataclass(slots=True)
class _Zipped(_Entry):
    """An entry of a zip archive.

    Attributes:
        packed: Bytes in the archive.
        method: How they are packed.
        crc: CRC-32 of what they hold.
        header: Where its local header is.
        start: Where its bytes are.
        better: The name in UTF-8, if the archive has it besides.
    """

    packed: int
    method: int
    crc: int
    header: int
    start: int
    better: bytes | None


def _unreadable(condition: object) -> None:
    if condition:
        raise RejectedError("archive_unreadable")


def _extras(data: bytes) -> dict[int, bytes]:
    """The fields of 4.5.1; those that are there twice, or too long, count as not there."""
    fields: dict[int, bytes] = {}
    twice = set()
    at = 0
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("<2H", data, at)
        at += 4 + length
        if at > len(data):
            break
        if kind in fields:
            twice.add(kind)
        fields[kind] = data[at - length : at]
    return {kind: field for kind, field in fields.items() if kind not in twice}


def _wide(values: Sequence[int], extra: bytes | None) -> list[int]:
    """The values with those that do not fit into four bytes taken from the field of 4.5.3, which has them in order."""
    rest = extra or b""
    found = []
    for value in values:
        if value == _FULL32:
            _unreadable(len(rest) < 8)
            value, rest = int.from_bytes(rest[:8], "little"), rest[8:]
        found.append(value)
    return found


def _zip_end(source: Input) -> tuple[int, int, int]:
    """Number of entries, where the directory starts, and where it ends."""
    tail_at = max(0, source.size - _END.size - _FULL16)
    tail = source.at(tail_at, source.size - tail_at)
    signed = [found.start() for found in re.finditer(rb"PK\x05\x06", tail)]
    if not signed:
        raise RejectedError("archive_truncated")
    ends = [
        at
        for at in signed
        if at + _END.size <= len(tail) and at + _END.size + tail[at + 20] + 256 * tail[at + 21] == len(tail)
    ]
    # With two, one of them in the comment of the other, it would be two archives.
    _unreadable(len(ends) != 1)
    end = tail_at + ends[0]
    _, disk, first_disk, here, count, size, start, _ = _END.unpack_from(tail, ends[0])
    directory_end = end
    located = source.at(end - _LOCATOR64.size, _LOCATOR64.size) if end >= _LOCATOR64.size else b""
    if located.startswith(b"PK\x06\x07"):
        _, _, end64, disks = _LOCATOR64.unpack(located)
        record = source.at(end64, _END64.size)
        _unreadable(len(record) < _END64.size or not record.startswith(b"PK\x06\x06"))
        _, length, _, _, disk64, first_disk64, here64, count64, size64, start64 = _END64.unpack(record)
        _unreadable(end64 + 12 + length != end - _LOCATOR64.size)
        if disks > 1 or disk64 or first_disk64 or here64 != count64:
            raise RejectedError("unsupported_archive")
        for small, full, large in (
            (disk, _FULL16, 0), (first_disk, _FULL16, 0), (here, _FULL16, here64),
            (count, _FULL16, count64), (size, _FULL32, size64), (start, _FULL32, start64),
        ):  # fmt: skip
            _unreadable(small not in (full, large))
        count, size, start, directory_end = count64, size64, start64, end64
    elif disk or first_disk or here != count:
        raise RejectedError("unsupported_archive")
    _unreadable(start + size != directory_end)
    return count, start, directory_end


def _zip_entries(source: Input, tally: _Tally) -> list[_Zipped]:
    """The entries by the directory, each compared with its own header.

    Raises:
        RejectedError: ``archive_unreadable``, ``archive_truncated``, ``archive_encrypted``, ``archive_overlap``,
            ``archive_too_many``, ``archive_too_large``, ``archive_bomb``, ``archive_names``, ``unsupported_archive``.
    """
    count, at, end = _zip_end(source)
    tally.entries(count)
    entries = []
    start = at
    for _ in range(count):
        record = source.at(at, min(_CENTRAL.size, end - at))
        _unreadable(len(record) < _CENTRAL.size or not record.startswith(b"PK\x01\x02"))
        lengths = struct.unpack_from("<3H", record, 28)
        at += _CENTRAL.size + sum(lengths)
        _unreadable(at > end)
        tally.name(lengths[0])
        entries.append(_zip_entry(record, source.at(at - sum(lengths), lengths[0] + lengths[1])))
    _unreadable(at != end)
    _lay_out(source, entries, start)
    for entry in entries:
        tally.member(entry.size)
        tally.unpacked(entry.size)
    return entries


def _zip_entry(record: bytes, after: bytes) -> _Zipped:
    (
        _, _, _, flags, method, _, _, crc, packed, size, name_length, _, _, disk, _, attributes, header,
    ) = _CENTRAL.unpack(record)  # fmt: skip
    name, fields = after[:name_length], _extras(after[name_length:])
    if disk:
        raise RejectedError("unsupported_archive")
    size, packed, header = _wide((size, packed, header), fields.get(_ZIP64))
    mode = attributes >> 16
    kind = "file"
    if name.endswith((b"/", b"\\")) or stat.S_ISDIR(mode):
        kind = "directory"
    elif stat.S_ISLNK(mode):
        kind = "link"
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        kind = "device"
    if flags & _ENCRYPTED or method == 99:
        raise RejectedError("archive_encrypted")
    if kind == "file" and method not in _METHODS:
        raise RejectedError("unsupported_archive")
    _unreadable(method == 0 and packed != size)
    return _Zipped(name, kind, size, packed, method, crc, header, 0, _better(name, fields.get(_UNICODE_PATH)))


def _better(name: bytes, field: bytes | None) -> bytes | None:
    """The name of the field of 4.6.9, if it was made for this name."""
    if field is None or len(field) < 5 or field[0] != 1 or int.from_bytes(field[1:5], "little") != zlib.crc32(name):
        return None
    return field[5:]


def _lay_out(source: Input, entries: Sequence[_Zipped], end: int) -> None:
    """Find where each entry's bytes are. They belong to it alone, and its header says what the directory says.

    Args:
        end: Where the directory starts.

    Raises:
        RejectedError: ``archive_overlap``, ``archive_unreadable``.
    """
    ordered = sorted(entries, key=lambda entry: entry.header)
    bounds = [*(entry.header for entry in ordered[1:]), end]
    for entry, bound in zip(ordered, bounds, strict=False):
        if entry.header + _LOCAL.size + len(entry.name) + entry.packed > bound:
            raise RejectedError("archive_overlap")
    for entry, bound in zip(ordered, bounds, strict=False):
        header = source.at(entry.header, _LOCAL.size)
        _unreadable(not header.startswith(b"PK\x03\x04"))
        _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
        after = source.at(entry.header + _LOCAL.size, name_length + extra_length)
        _unreadable(after[:name_length] != entry.name or method != entry.method or flags & _ENCRYPTED)
        field = _extras(after[name_length:]).get(_ZIP64)
        told = (entry.crc, entry.size, entry.packed)
        if flags & _DESCRIBED:  # it was not known yet, 4.4.4
            if field is not None:
                size, packed = _wide((size, packed), field)
            _unreadable(
                any(value not in (0, _FULL32, truth) for value, truth in zip((crc, size, packed), told, strict=True))
            )
        else:
            size, packed = _wide((size, packed), field)
            _unreadable((crc, size, packed) != told)
        entry.start = entry.header + _LOCAL.size + name_length + extra_length
        end_of_entry = entry.start + entry.packed
        if flags & _DESCRIBED and entry.kind == "file":  # some write none for a directory
            end_of_entry += _descriptor_length(source, entry)
        if end_of_entry > bound:
            raise RejectedError("archive_overlap")


def _descriptor_length(source: Input, entry: _Zipped) -> int:
    """4.3.9: with a signature or without, with lengths of four bytes or of eight."""
    found = source.at(entry.start + entry.packed, 24)
    for signature in (b"PK\x07\x08", b""):
        for form in ("<IQQ", "<III"):
            if form == "<IQQ" or max(entry.packed, entry.size) <= _FULL32:
                descriptor = signature + struct.pack(form, entry.crc, entry.packed, entry.size)
                if found.startswith(descriptor):
                    return len(descriptor)
    raise RejectedError("archive_unreadable")


def _zip_flow(source: Input, entry: _Zipped) -> _Flow:
    return _Flow(source, entry.start, entry.start + entry.packed, _METHODS[entry.method])


def _list_zip(source: Input, tally: _Tally) -> Iterator[Frame]:
    entries = _zip_entries(source, tally)
    for entry in entries:
        if entry.kind == "file" and _kind_of(_zip_flow(source, entry).read(min(_HEAD, entry.size))) is not None:
            entry.kind = "nested"
    yield from _said(entries, _texts([entry.better or entry.name for entry in entries], "cp437"))


def _extract_zip(source: Input, tally: _Tally, wanted: Sequence[int], frame: int) -> Iterator[Frame]:
    entries = _zip_entries(source, tally)
    for index in wanted:
        if index >= len(entries) or entries[index].kind != "file":
            raise RejectedError("archive_changed")
        entry = entries[index]
        yield {"member": index, "size": entry.size, "name": _texts([entry.better or entry.name], "cp437")[0]}
        flow, crc, rest = _zip_flow(source, entry), 0, entry.size
        while rest:
            data = flow.read(min(frame, rest))
            _unreadable(len(data) < min(frame, rest))
            crc = zlib.crc32(data, crc)
            rest -= len(data)
            yield data
        _unreadable(flow.read(1) or not flow.used_up or crc != entry.crc)
        yield {"whole": index}


# ── tar ───────────────────────────────────────────────────────────────────────────────────────────────────────

_RECORD = 512
_LINKS = (b"1", b"2")
_DEVICES = (b"3", b"4", b"6")
_FILES = (b"0", b"\0", b"7")
_LABEL, _DUMPED = b"V", b"D"


class _Tape:
    """The bytes of a tar in their order, counted.

    Args:
        heartbeat: After so many bytes that are passed over the parent is told.
    """

    def __init__(self, flow: _Flow, tally: _Tally, heartbeat: int) -> None:
        self._flow = flow
        self._tally = tally
        self._heartbeat = heartbeat
        self._passed = 0
        self.read_any = False

    def read(self, count: int) -> bytes:
        """So many bytes.

        Raises:
            RejectedError: ``archive_truncated``, or as `_Flow.read` and `_Tally.unpacked`.
        """
        data = self._flow.read(count)
        self._tally.unpacked(len(data))
        if len(data) < count:
            # What is shorter than one header never was a tar.
            raise RejectedError("archive_truncated" if self.read_any else "unsupported_archive")
        self.read_any = True
        return data

    def read_padded(self, count: int) -> bytes:
        return self.read(_padded(count))[:count]

    def skip(self, count: int) -> Iterator[Frame]:
        """Pass over bytes; those that are packed have to be unpacked for it."""
        if self._flow.stored:
            self._tally.unpacked(count)
            self._flow.skip(count)
            return
        while count:
            step = min(count, _BLOCK)
            self.read(step)
            count -= step
            yield from self._tell(step)

    def drain(self) -> Iterator[Frame]:
        """Read on to the end: there are the check sums of what was packed."""
        while not self._flow.stored and (data := self._flow.read(_BLOCK)):
            self._tally.unpacked(len(data))
            yield from self._tell(len(data))

    def _tell(self, count: int) -> Iterator[Frame]:
        self._passed += count
        if self._passed >= self._heartbeat:
            yield {"passed": self._passed}
            self._passed = 0


def _padded(size: int) -> int:
    return -(-size // _RECORD) * _RECORD


def _tar_entry(tape: _Tape, tally: _Tally) -> _Entry | None:
    """The next entry, read up to its bytes; ``None`` at the end.

    Raises:
        RejectedError: ``archive_unreadable``, ``archive_truncated``, ``archive_names``, ``unsupported_archive``.
    """
    name: bytes | None = None
    size: int | None = None
    extended = False
    while True:
        first = not tape.read_any
        block = tape.read(_RECORD)
        if not block.strip(b"\0"):
            _unreadable(extended)
            return None
        tally.header()
        try:
            header = tarfile.TarInfo.frombuf(block, "latin-1", "strict")
        except tarfile.HeaderError as error:
            raise RejectedError("unsupported_archive" if first else "archive_unreadable") from error
        _unreadable(header.size < 0)
        if header.type in (b"x", b"X", b"g"):
            tally.extras(header.size)
            records = _pax(tape.read_padded(header.size))
            if any(key.startswith(b"GNU.sparse.") for key in records):
                raise RejectedError("unsupported_archive")
            if header.type == b"g":
                _unreadable(b"path" in records or b"size" in records)  # one name for all of them
                continue
            name = records.get(b"path", name)
            if b"size" in records:
                _unreadable(not re.fullmatch(rb"[0-9]{1,18}", records[b"size"]))
                size = int(records[b"size"])
            extended = True
        elif header.type in (b"L", b"K"):
            tally.extras(header.size)
            text = tape.read_padded(header.size).split(b"\0", 1)[0]
            name = text if header.type == b"L" else name
            extended = True
        else:
            break
    tally.entries(1)
    if name is None:
        name = header.name.encode("latin-1")
    tally.name(len(name))
    if header.type in _LINKS:
        return _Entry(name, "link", 0)  # a size is of the file that it leads to
    if header.type in _DEVICES:
        return _Entry(name, "device", 0)
    size = header.size if size is None else size
    if header.type == tarfile.DIRTYPE or (name.endswith(b"/") and header.type in _FILES):
        _unreadable(size)
        return _Entry(name, "directory", 0)
    if header.type in (_LABEL, _DUMPED):
        return _Entry(name, "directory", size)  # of GNU tar: a title, a list of names
    if header.type not in _FILES:  # sparse, continued from another volume, or never heard of
        raise RejectedError("unsupported_archive")
    tally.member(size)
    return _Entry(name, "file", size)


def _pax(data: bytes) -> dict[bytes, bytes]:
    """The records of an extended header (POSIX.1-2017, pax): ``b"<length> <key>=<value>\\n"``."""
    records = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        _unreadable(space < 0 or not data[at:space].isdigit())
        end = at + int(data[at:space])
        _unreadable(end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        _unreadable(not equals)
        records[key] = value
        at = end
    return records


def _tape(source: Input, kind: str, tally: _Tally, heartbeat: int) -> _Tape:
    return _Tape(_Flow(source, 0, source.size, _OPENERS[kind], streams=True), tally, heartbeat)


def _list_tar(tape: _Tape, tally: _Tally) -> Iterator[Frame]:
    entries = []
    while (entry := _tar_entry(tape, tally)) is not None:
        entries.append(entry)
        head = b""
        if entry.kind == "file":
            head = tape.read(min(_HEAD, entry.size))
            if _kind_of(head) is not None:
                entry.kind = "nested"
        yield from tape.skip(_padded(entry.size) - len(head))
    yield from tape.drain()
    yield from _said(entries, _texts([entry.name for entry in entries], "latin-1"))


def _extract_tar(tape: _Tape, tally: _Tally, wanted: Sequence[int], frame: int) -> Iterator[Frame]:
    last, index = max(wanted, default=-1), -1
    chosen = set(wanted)
    while index < last:
        entry = _tar_entry(tape, tally)
        index += 1
        if entry is None or (index in chosen and entry.kind != "file"):
            raise RejectedError("archive_changed")
        if index not in chosen:
            yield from tape.skip(_padded(entry.size))
            continue
        yield {"member": index, "size": entry.size, "name": _texts([entry.name], "latin-1")[0]}
        rest = entry.size
        while rest:
            data = tape.read(min(frame, rest))
            rest -= len(data)
            yield data
        yield {"whole": index}
        yield from tape.skip(_padded(entry.size) - entry.size)


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────

_KANA = re.compile("[\u3041-\u30fa\u30fc]{2}")


def _texts(names: Sequence[bytes], fallback: str) -> list[str]:
    """The names as text: UTF-8, whether said or not; else Japanese, if they make sense so; else the fallback."""
    foreign = b"\n".join(name for name in names if _decoded(name, "utf-8") is None)
    japanese = _decoded(foreign, "cp932")
    if japanese is not None and _KANA.search(japanese):
        fallback = "cp932"
    found = ((name, _decoded(name, "utf-8")) for name in names)
    return [name.decode(fallback, "replace") if text is None else text for name, text in found]


def _decoded(name: bytes, codec: str) -> str | None:
    try:
        return name.decode(codec)
    except UnicodeDecodeError:
        return None


def _said(entries: Sequence[_Entry], names: Sequence[str]) -> Iterator[Frame]:
    """The list of entries, in documents of a bounded size."""
    batch: list[tuple[str, int, str]] = []
    length = 0
    for entry, name in zip(entries, names, strict=True):
        batch.append((entry.kind, entry.size, name))
        length += 32 + len(name)
        if length >= _BATCH:
            yield {"entries": batch}
            batch, length = [], 0
    if batch:
        yield {"entries": batch}


# ── operations ────────────────────────────────────────────────────────────────────────────────────────────────


def _begin(source: Input) -> str:
    kind = _kind_of(source.at(0, _HEAD))
    if not kind:
        raise RejectedError("unsupported_archive")
    return kind


def list_archive(source: Input, arguments: Mapping[str, Any], _: Mapping[str, Any]) -> Iterator[Frame]:
    """What is in an archive: its kind, then its entries in documents; in between signs of life, see `_Tape`.

    Arguments are ``limits`` and ``heartbeat`` in bytes.

    Raises:
        RejectedError: One of the codes that begin with ``archive_``, or ``unsupported_archive``.
    """
    kind, tally = _begin(source), _Tally(arguments["limits"], source.size)
    yield {"kind": kind}
    if kind == "zip":
        yield from _list_zip(source, tally)
    else:
        yield from _list_tar(_tape(source, kind, tally, arguments["heartbeat"]), tally)


def extract_archive(source: Input, arguments: Mapping[str, Any], _: Mapping[str, Any]) -> Iterator[Frame]:
    """What some of its files hold: of each a document, its bytes, and a document that says that they are whole.

    Arguments are ``limits``, ``heartbeat``, ``indices`` in ascending order, and ``frame``, the most bytes in one go.

    Raises:
        RejectedError: As `list_archive`, and ``archive_changed`` when there is no such file.
    """
    kind, tally = _begin(source), _Tally(arguments["limits"], source.size)
    yield {"kind": kind}
    if kind == "zip":
        yield from _extract_zip(source, tally, arguments["indices"], arguments["frame"])
    else:
        tape = _tape(source, kind, tally, arguments["heartbeat"])
        yield from _extract_tar(tape, tally, arguments["indices"], arguments["frame"])


def warm_up() -> None:
    """Use each codec once: afterwards no file can be opened."""
    for codec in ("utf-8", "latin-1", "cp437", "cp932"):
        _decoded(b"a", codec)
        b"\xff".decode(codec, "replace")
    for opener, packed in (
        (_OPENERS["tar.gz"], zlib.compress(b"a", wbits=31)),
        (_OPENERS["tar.bz2"], bz2.compress(b"a")),
        (_OPENERS["tar.xz"], lzma.compress(b"a")),
    ):
        assert opener is not None
        opener().decompress(packed, 1)
    tarfile.TarInfo.frombuf(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT), "latin-1", "strict")
