"""Test archives, made on the spot: sound ones, and the hostile ones that strangers send.

`zip_of` writes each field by itself, because `zipfile` cannot be made to lie; `tar_of` uses `tarfile`. Everything is
deterministic.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from attrs import field, frozen

__all__ = [
    "Entry",
    "Form",
    "Packing",
    "bomb",
    "cuts",
    "described_zip",
    "entry",
    "grown_xz",
    "overlapping_zip",
    "pack",
    "pax_header",
    "quoting_zip",
    "tar_of",
    "tar_with",
    "wide_zip",
    "zip_of",
    "zips",
]

Packing: TypeAlias = Literal["", "gz", "bz2", "xz"]
Form: TypeAlias = Literal[0, 1, 2]
"""``tarfile.USTAR_FORMAT``, ``GNU_FORMAT`` or ``PAX_FORMAT``."""

_NEVER = (1980, 1, 1, 0, 0, 0)
_EPOCH = 0x0021  # the same, as MS-DOS has it


# ── zip ───────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class Entry:
    """An entry of a zip archive, true unless told otherwise.

    Attributes:
        name: As stored.
        content: What it holds.
        method: 0 stored, 8 deflated, 12 bzip2; others are stored and say so.
        flags: Of both headers.
        mode: Unix mode, with the type.
        extra: Extra fields of both headers.
        packed: The bytes in the archive, if not what `method` makes of the content.
        described: Whether the local header is silent, and a descriptor follows.
        wide: Whether sizes and offset are in zip64 fields, although they would fit.
        local: What the local header says instead: ``name``, ``method``, ``flags``, ``crc``, ``packed``, ``size``.
        central: What the directory says instead: the same, and ``header`` and ``disk``.
    """

    name: bytes
    content: bytes = b""
    method: int = 0
    flags: int = 0
    mode: int = 0o100644
    extra: bytes = b""
    packed: bytes | None = None
    described: bool = False
    wide: bool = False
    local: Mapping[str, bytes | int] = field(factory=dict)
    central: Mapping[str, bytes | int] = field(factory=dict)


def entry(name: str, content: bytes = b"", method: int = 0) -> Entry:
    """An entry as most programs write it: the name in UTF-8, and flagged so."""
    return Entry(name=name.encode(), content=content, method=method, flags=0x800)


def _packed(one: Entry) -> bytes:
    if one.method == 8:
        return _deflated(one.content)
    return bz2.compress(one.content) if one.method == 12 else one.content


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def zip_of(
    entries: Iterable[Entry],
    *,
    front: bytes = b"",
    comment: bytes = b"",
    behind: bytes = b"",
    wide: bool = False,
    end: Mapping[str, int] | None = None,
) -> bytes:
    """A zip archive, byte by byte (APPNOTE 6.3).

    Args:
        entries: In this order, in the file and in the directory.
        front: Bytes before everything; the offsets count them.
        comment: Of the archive.
        behind: Bytes after everything.
        wide: With a zip64 end.
        end: What the end says instead: ``disk``, ``here``, ``count``, ``size``, ``start``.
    """
    out, directory = bytearray(front), bytearray()
    listed = list(entries)
    for one in listed:
        packed = _packed(one) if one.packed is None else one.packed
        true: dict[str, int | bytes] = {
            "name": one.name, "method": one.method, "flags": one.flags | 8 * one.described,
            "crc": zlib.crc32(one.content), "packed": len(packed), "size": len(one.content), "header": len(out),
            "disk": 0,
        }  # fmt: skip
        told = {**true, **one.central}
        silent = {"crc": 0, "packed": 0, "size": 0} if one.described else {}
        out += _local({**true, **silent, **one.local}, one) + packed
        if one.described:
            out += struct.pack("<4sIII", b"PK\x07\x08", zlib.crc32(one.content), len(packed), len(one.content))
        directory += _central(told, one)
    said = {
        "disk": 0,
        "here": len(listed),
        "count": len(listed),
        "size": len(directory),
        "start": len(out),
        **(end or {}),
    }
    out += directory
    if wide:
        at = len(out)
        out += struct.pack(
            "<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, *(said[key] for key in ("here", "count", "size", "start"))
        )
        out += struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
        said.update(here=0xFFFF, count=0xFFFF, size=0xFFFFFFFF, start=0xFFFFFFFF)
    out += struct.pack(
        "<4s4H2IH", b"PK\x05\x06", said["disk"], said["disk"], said["here"], said["count"], said["size"], said["start"],
        len(comment),
    )  # fmt: skip
    return bytes(out) + comment + behind


def _local(told: Mapping[str, int | bytes], one: Entry) -> bytes:
    name, extra, sizes = told["name"], one.extra, (told["packed"], told["size"])
    assert isinstance(name, bytes)
    if one.wide:
        extra = struct.pack("<2H2Q", 1, 16, told["size"], told["packed"]) + extra
        sizes = (0xFFFFFFFF, 0xFFFFFFFF)
    fixed = (20, told["flags"], told["method"], 0, _EPOCH, told["crc"], *sizes, len(name), len(extra))
    return struct.pack("<4s5H3I2H", b"PK\x03\x04", *fixed) + name + extra


def _central(told: Mapping[str, int | bytes], one: Entry) -> bytes:
    name, extra, sizes, header = told["name"], one.extra, (told["packed"], told["size"]), told["header"]
    assert isinstance(name, bytes)
    if one.wide:
        extra = struct.pack("<2H3Q", 1, 24, told["size"], told["packed"], header) + extra
        sizes, header = (0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF
    fixed = (
        0x0314, 20, told["flags"], told["method"], 0, _EPOCH, told["crc"], *sizes, len(name), len(extra), 0,
        told["disk"], 0, one.mode << 16, header,
    )  # fmt: skip
    return struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *fixed) + name + extra


def zips(files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An ordinary zip archive, by `zipfile`."""
    return _by_zipfile(io.BytesIO(), files, method)


def wide_zip(files: Mapping[str, bytes]) -> bytes:
    """A zip archive with zip64 everywhere, although it is small."""
    return zip_of([Entry(name=name.encode(), content=content, wide=True) for name, content in files.items()], wide=True)


class _Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        raise OSError("a pipe")

    def tell(self) -> int:
        raise OSError("a pipe")


def described_zip(files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive written to a pipe, by `zipfile`: sizes come behind each file."""
    return _by_zipfile(_Pipe(), files, method)


def _by_zipfile(buffer: io.BytesIO, files: Mapping[str, bytes], method: int) -> bytes:
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _NEVER)
            info.compress_type = method
            archive.writestr(info, content)
    return buffer.getvalue()


def overlapping_zip(files: int = 250, size: int = 8 << 20) -> bytes:
    """Entries with one header and one content among them: 20 KB that unpack to 2 GB.

    David Fifield, "A better zip bomb" (2019), the first of its constructions.
    """
    content = bytes(size)
    first = zip_of([Entry(name=b"0", content=content, method=8)])
    one = Entry(name=b"0", content=content, method=8, central={"header": 0})
    directory = zip_of([one])[first.index(b"PK\x01\x02") : first.index(b"PK\x05\x06")]
    start = first.index(b"PK\x01\x02")
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, files, files, files * len(directory), start, 0)
    return first[:start] + directory * files + end


def quoting_zip(files: int = 250, size: int = 8 << 20) -> bytes:
    """Entries with headers and names of their own that share one content: 20 KB that unpack to 2 GB.

    The second construction of the same: the content of each starts with a stored block of deflate that quotes the
    next one's header, and goes on with what that holds. Every checksum is right, and many programs unpack it.
    """
    kernel = _deflated(bytes(size))
    tail, lengths, contents = b"", (len(kernel), size), b""
    directory: list[bytes] = []
    for number in reversed(range(files)):
        crc = zlib.crc32(bytes(size), zlib.crc32(contents))
        told: dict[str, int | bytes] = {
            "name": b"%04d" % number, "method": 8, "flags": 0, "crc": crc, "packed": lengths[0], "size": lengths[1],
            "header": 0, "disk": 0,
        }  # fmt: skip
        header = _local(told, Entry(name=b""))
        quote = struct.pack("<BHH", 0, len(header), len(header) ^ 0xFFFF) if number else b""
        directory.append(_central({**told, "header": number * (len(header) + 5)}, Entry(name=b"")))
        tail, contents = quote + header + tail, header + contents
        lengths = (lengths[0] + len(header) + 5, lengths[1] + len(header))
    listed = b"".join(reversed(directory))
    body = tail + kernel
    return body + listed + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, files, files, len(listed), len(body), 0)


# ── tar ───────────────────────────────────────────────────────────────────────────────────────────────────────


def pack(data: bytes, packing: Packing) -> bytes:
    """Bytes as ``gzip``, ``bzip2`` or ``xz`` leave them."""
    packers = {"": bytes, "gz": lambda data: gzip.compress(data, mtime=0), "bz2": bz2.compress, "xz": lzma.compress}
    return packers[packing](data)


def tar_of(files: Mapping[str, bytes], packing: Packing = "", *, form: Form = tarfile.PAX_FORMAT) -> bytes:
    """An ordinary tar archive."""
    return pack(tar_with([(tarfile.TarInfo(name), content) for name, content in files.items()], form=form), packing)


def tar_with(
    entries: Iterable[tuple[tarfile.TarInfo | bytes, bytes]], *, form: Form = tarfile.PAX_FORMAT, end: bool = True
) -> bytes:
    """A tar archive of headers as they are.

    Args:
        entries: Headers, or their bytes, with what follows each; the size of a header that has none is the content's.
        end: Whether it has an end.
    """
    out = bytearray()
    for header, content in entries:
        if isinstance(header, tarfile.TarInfo):
            header.size = header.size or len(content)
            header = header.tobuf(form, "utf-8", "strict")
        out += header + content + bytes(-len(content) % 512)
    return bytes(out) + bytes(1024 * end)


def pax_header(records: Mapping[str, bytes], kind: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    """An extended header for the entry after it, for `tar_with`; ``g`` is for all."""
    info = tarfile.TarInfo("extended")
    info.type = kind
    content = b""
    for key, value in records.items():
        rest = b" " + key.encode() + b"=" + value + b"\n"
        length = len(rest)
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        content += str(length).encode() + rest
    return info, content


def bomb(packing: Packing, size: int) -> bytes:
    """A tar with one file of zeros, and no end: so large that it is never reached.

    Args:
        size: Bytes of the file, in MiB rounded up; a MiB is packed once and repeated, where the format can.
    """
    info = tarfile.TarInfo("zeros.mp3")
    info.size = size
    return pack(info.tobuf(), packing) + pack(bytes(1 << 20), packing) * -(-size // (1 << 20))


def grown_xz(data: bytes, bits: int = 37) -> bytes:
    """Bytes packed by xz that ask for a large dictionary, although they need none.

    Args:
        bits: The size as in The .xz File Format 5.3.1: 37 is 1.5 GiB.
    """
    packed = bytearray(lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32))
    header, length = 12, (packed[12] + 1) * 4
    at = packed.index(b"\x21\x01", header) + 2  # LZMA2, one byte of properties
    packed[at] = bits
    struct.pack_into("<I", packed, header + length - 4, zlib.crc32(packed[header : header + length - 4]))
    return bytes(packed)


def cuts(data: bytes, count: int) -> Sequence[bytes]:
    """A file cut off at so many places."""
    return [data[: len(data) * at // count] for at in range(count)]
