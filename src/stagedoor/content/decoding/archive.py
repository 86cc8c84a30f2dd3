"""Archives in a decoder: what is in them, and their members as streams. Nothing is ever extracted by name.

zip, tar, tar.gz, tar.bz2 and tar.xz, by their first bytes and never by their name: a picture with a zip behind it is a
picture, and a program that unpacks itself is no archive. A zip is taken if it can be understood in one way only, and
the CRC-32 of each member is checked. A tar has none: what changed inside a member shows only in a packed one, by the
check sums of gzip, bzip2 and xz. Entries of one name are all there; which counts is for others to say.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import unicodedata
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Final, cast

from attrs import asdict, frozen

from ...errors import ContentRejected
from ...ports import Source
from .checks import integer
from .pool import Decoder
from .sentences import SENTENCES

__all__ = ["ArchiveFacts", "ArchiveLimits", "Member", "extract", "is_archive", "is_junk", "list_archive"]

_log = logging.getLogger(__name__)

_KINDS: Final = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
_FRAME: Final = 256 << 10
_HEARTBEAT: Final = 64 << 20
_MAGIC: Final = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x07\x08",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x28\xb5\x2f\xfd",
)


@frozen(kw_only=True)
class ArchiveLimits:
    """What an archive may ask for.

    Attributes:
        members: Most entries, with directories and with what is ignored.
        bytes: Most bytes when everything is unpacked.
        member_bytes: Most bytes of one entry.
        ratio: Most that it may grow, as bytes unpacked over bytes of the archive.
        ratio_from: From so many bytes unpacked on; silence packs well, and does no harm while it is short.
        names: Most bytes of all names together, and of one extended header of a tar.
        name: Most bytes of a name with its directories.
    """

    members: int = 2000
    bytes: int = 16 << 30
    member_bytes: int = 4 << 30
    ratio: int = 200
    ratio_from: int = 64 << 20
    names: int = 1 << 20
    name: int = 4 << 10


@frozen
class Member:
    """A regular file in an archive.

    Attributes:
        index: Its number among all entries, from 0.
        name: For people and for guesses, never for a path: parts with a ``/`` between them, without control
            characters, ``.``, ``..``, a root or a drive.
        size: Bytes unpacked.
    """

    index: int
    name: str
    size: int


@frozen(kw_only=True)
class ArchiveFacts:
    """What is in an archive.

    Attributes:
        kind: ``zip``, ``tar``, ``tar.gz``, ``tar.bz2`` or ``tar.xz``.
        members: The files, in the archive's order; at least one.
        ignored: Names of what systems leave in archives, such as ``.DS_Store``.
        nested: Names of archives in the archive. They are not opened.
        links: Number of links, of both sorts.
        devices: Number of devices, pipes and sockets.
    """

    kind: str
    members: tuple[Member, ...]
    ignored: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    links: int = 0
    devices: int = 0


def is_archive(head: bytes) -> bool:
    """Whether a file is an archive, also of a kind that is refused. Its first 512 bytes are enough."""
    return head.startswith(_MAGIC) or head[257:262] == b"ustar"


def list_archive(decoder: Decoder, source: Source, limits: ArchiveLimits | None = None) -> ArchiveFacts:
    """What is in an archive. A packed tar is unpacked for it, once and to nowhere.

    Raises:
        ContentRejected: ``archive_unreadable``, ``archive_truncated``, ``archive_encrypted``, ``archive_empty``,
            ``archive_too_many``, ``archive_too_large``, ``archive_bomb``, ``archive_overlap``, ``archive_names``,
            ``unsupported_archive``, or one of `Decoder.run`'s.
        StorageError: As `Decoder.run`.
        ConfigurationError: As `Decoder.run`.
    """
    limits = limits or ArchiveLimits()
    with source() as file:
        packed = file.seek(0, os.SEEK_END)
    try:
        arguments = {"limits": asdict(limits), "heartbeat": _HEARTBEAT}
        with decoder.stream("list_archive", source, arguments) as frames:
            facts = _facts(_Documents(frames, limits), limits, packed)
    except (KeyError, TypeError, ValueError) as error:
        _log.warning("A decoder's list of an archive is impossible: %s", error)
        raise decoder.nonsense() from None
    if not facts.members:
        raise ContentRejected(SENTENCES["archive_empty"], code="archive_empty")
    return facts


@contextlib.contextmanager
def extract(
    decoder: Decoder,
    source: Source,
    facts: ArchiveFacts | str,
    indices: Iterable[int],
    limits: ArchiveLimits | None = None,
) -> Iterator[Iterator[tuple[Member, BinaryIO]]]:
    """Some members of an archive, one after the other in its order, in one pass.

    A stream can be read once, from start to end, until the next member is asked for; what is left of it is then
    passed over. The last bytes of a zip's member come only after its CRC-32 was found right. At most a few hundred
    KiB are in memory. Leave early, and the child process is ended.

    Args:
        facts: What `list_archive` found, and the archive has to be still; or only its kind.
        indices: The members' numbers.

    Raises:
        ContentRejected: ``archive_changed``: it is not what it was; or as `list_archive`. Here or while reading.
        StorageError: As `Decoder.run`.
        ConfigurationError: As `Decoder.run`.
        ValueError: No such member.
    """
    limits = limits or ArchiveLimits()
    wanted = sorted(set(indices))
    known = {}
    if isinstance(facts, ArchiveFacts):
        known = {member.index: member for member in facts.members}
        if missing := [index for index in wanted if index not in known]:
            raise ValueError(f"The archive has no members {missing[:5]}.")
    arguments = {"limits": asdict(limits), "heartbeat": _HEARTBEAT, "indices": wanted, "frame": _FRAME}
    with decoder.stream("extract_archive", source, arguments) as frames:
        kind = facts.kind if isinstance(facts, ArchiveFacts) else facts
        members = _Members(decoder, _Documents(frames, limits), kind, wanted, known, limits)
        sequence = members.sequence()
        try:
            yield sequence
        finally:
            sequence.close()
            members.close()


class _Documents:
    """The frames of a stream without the signs of life among them, which are no more than the limits allow."""

    def __init__(self, frames: Iterator[Mapping[str, Any] | bytes], limits: ArchiveLimits) -> None:
        self._frames = frames
        self._rest = limits.bytes

    def next(self) -> Mapping[str, Any] | bytes | None:
        """The next one; ``None`` at the end.

        Raises:
            ValueError, TypeError: It is none.
        """
        while (frame := next(self._frames, None)) is not None:
            if isinstance(frame, bytes) or "passed" not in frame:
                return frame
            self._rest -= integer(frame["passed"], _HEARTBEAT, self._rest)
        return None

    def document(self) -> Mapping[str, Any] | None:
        """The next one, which is a document; ``None`` at the end."""
        frame = self.next()
        if isinstance(frame, bytes):
            raise TypeError("bytes that belong to nothing")
        return frame

    def kind(self) -> str:
        """The first one."""
        document = self.document()
        if document is None or document["kind"] not in _KINDS:
            raise ValueError("an unknown kind")
        return cast("str", document["kind"])


# ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────


def _facts(documents: _Documents, limits: ArchiveLimits, packed: int) -> ArchiveFacts:
    kind = documents.kind()
    members: list[Member] = []
    named: dict[str, list[str]] = {"ignored": [], "nested": []}
    counted = {"link": 0, "device": 0, "directory": 0}
    index, total, names = 0, 0, 0
    while (document := documents.document()) is not None:
        if not document["entries"]:
            raise ValueError("a list of nothing")
        for sort, size, raw in document["entries"]:
            total += integer(size, 0, limits.member_bytes)
            names += len(raw)
            name = _name(raw)
            if sort in counted:
                counted[sort] += 1
            elif sort not in ("file", "nested"):
                raise ValueError("an unknown sort of entry")
            elif is_junk(name):
                named["ignored"].append(name)
            elif sort == "nested":
                named["nested"].append(name)
            else:
                members.append(Member(index, name, size))
            index += 1
            if index > limits.members or names > limits.names:
                raise ValueError("more entries, or longer names, than it was told to take")
    if total > limits.bytes or (total > limits.ratio_from and total > limits.ratio * packed):
        raise ValueError("more bytes than it was told to take")
    return ArchiveFacts(
        kind=kind,
        members=tuple(members),
        ignored=tuple(named["ignored"]),
        nested=tuple(named["nested"]),
        links=counted["link"],
        devices=counted["device"],
    )


_JUNK_NAMES: Final = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon"})
_JUNK_DIRECTORIES: Final = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "system volume information", ".appledouble", ".git", ".svn"}
    | {".trashes", ".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100"}
)


def is_junk(name: str) -> bool:
    """Whether a system left it there, and no person.

    A dot in front is not enough: there is a band called .38 Special, and an album "...And Justice for All". Hidden are
    names with a dot in front and none after it (``.directory``), and macOS's ``._name``.
    """
    *directories, last = name.lower().split("/")
    hidden = last.startswith("._") or (last.startswith(".") and "." not in last[1:])
    return hidden or last in _JUNK_NAMES or not _JUNK_DIRECTORIES.isdisjoint(directories)


def _name(raw: object) -> str:
    """A name for people, whatever somebody wrote."""
    if not isinstance(raw, str):
        raise TypeError("a name is no text")
    parts = [_part(part) for part in re.split(r"[/\\]", raw)]
    if re.fullmatch("[A-Za-z]:", parts[0]):
        del parts[0]
    return "/".join(part for part in parts if part.strip(". ")) or "unnamed"


def _part(raw: str) -> str:
    spaced = "".join(" " if c.isspace() else c for c in raw)
    kept = "".join(c for c in spaced if unicodedata.category(c)[0] != "C")
    return unicodedata.normalize("NFC", " ".join(kept.split()))


# ── the members ───────────────────────────────────────────────────────────────────────────────────────────────


class _Members:
    """The members as a child sends them: of each a document, its bytes in full frames, and that they are whole."""

    def __init__(
        self,
        decoder: Decoder,
        documents: _Documents,
        kind: str,
        wanted: list[int],
        known: Mapping[int, Member],
        limits: ArchiveLimits,
    ) -> None:
        self._decoder = decoder
        self._documents = documents
        self._kind = kind
        self._wanted = wanted
        self._known = known
        self._limits = limits
        self._total = 0
        self._current: tuple[_Bytes, BinaryIO] | None = None

    def sequence(self) -> Generator[tuple[Member, BinaryIO], None, None]:
        """One after the other."""
        with self.impossible():
            if self._documents.kind() != self._kind:
                raise _changed()
        for index in self._wanted:
            with self.impossible():
                member = self._next(index)
                content = _Bytes(self, member)
            stream: BinaryIO = io.BufferedReader(content, 64 << 10)
            self._current = content, stream
            yield member, stream
            content.drain()
            self.close()
        with self.impossible():
            if self._documents.next() is not None:
                raise ValueError("more than was asked for")

    def close(self) -> None:
        """Nothing more is read from the current member."""
        if self._current is not None:
            self._current[0].end()
            self._current[1].close()
            self._current = None

    @contextlib.contextmanager
    def impossible(self) -> Iterator[None]:
        """What a child cannot mean is nonsense."""
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            _log.warning("A decoder's bytes of an archive are impossible: %s", error)
            raise self._decoder.nonsense() from None

    def _next(self, index: int) -> Member:
        document = self._documents.document()
        if document is None or document["member"] != index:
            raise ValueError("not the member that was asked for")
        size = integer(document["size"], 0, self._limits.member_bytes)
        self._total += size
        if self._total > self._limits.bytes:
            raise ValueError("more bytes than it was told to take")
        if not self._known:
            return Member(index, _name(document["name"]), size)
        if self._known[index].size != size:
            raise _changed()
        return self._known[index]

    def block(self, index: int, rest: int) -> bytes:
        """The next bytes of a member that has so many to come; its last come when they are known to be right."""
        with self.impossible():
            block = b""
            if rest:
                frame = self._documents.next()
                if not isinstance(frame, bytes) or len(frame) != min(rest, _FRAME):
                    raise ValueError("not the bytes that were announced")
                block = frame
            if rest == len(block):
                document = self._documents.document()
                if document is None or document["whole"] != index:
                    raise ValueError("a member without an end")
            return block


class _Bytes(io.RawIOBase):
    """What a member holds."""

    def __init__(self, members: _Members, member: Member) -> None:
        super().__init__()
        self._members = members
        self._index = member.index
        self._rest = member.size
        self._over = False
        self._block = memoryview(b"")
        if not self._rest:
            members.block(self._index, 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._over:
            raise ValueError("This member is over: its archive was left, or another member asked for.")
        if not self._block and self._rest:
            self._fill()
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._block))
        view[:count] = self._block[:count]
        self._block = self._block[count:]
        return count

    def drain(self) -> None:
        """Pass over what nobody read."""
        while self._rest:
            self._fill()

    def end(self) -> None:
        """Let nobody read any more."""
        self._over = True
        self._block = memoryview(b"")

    def _fill(self) -> None:
        self._block = memoryview(self._members.block(self._index, self._rest))
        self._rest -= len(self._block)


def _changed() -> ContentRejected:
    return ContentRejected(SENTENCES["archive_changed"], code="archive_changed")
