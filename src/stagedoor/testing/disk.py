"""Disks that fail: for showing what an adapter does when a file call goes wrong, or the power is cut.

`FuseDisk` stands before any disk and makes the nth file call fail, or end the process. `SimulatedDisk` is a file
system in memory that knows what was synced; its `SimulatedDisk.crash` gives a disk as it may look after a power cut.
`CarelessDisk` leaves calls out, to show that a test would notice. All of them know only the file calls of
`stagedoor.adapters.disk.Disk`, and are for adapters that make theirs through one::

    disk = SimulatedDisk()
    fuse = FuseDisk(disk, at=17)
    with suppress(Crash):
        MyStore("/uploads", disk=fuse).create("…")
    for survivors in (*POLICIES, Random(1), Random(2)):
        MyStore("/uploads", disk=disk.crash(survivors)).recover(…)
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO, Concatenate, Final, Literal, ParamSpec, TypeAlias, TypeVar, cast

from attrs import define, field, frozen

from ..adapters.disk import Disk, DiskEntry, FileInfo
from ..ports import Buffer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "POLICIES",
    "SECTOR",
    "Call",
    "CarelessDisk",
    "Crash",
    "Decisions",
    "FuseDisk",
    "Policy",
    "SimulatedDisk",
    "WatchedDisk",
    "When",
]

T = TypeVar("T")

SECTOR: Final = 512
"""What a disk writes in one go, in bytes: of a write that was not synced, any set of sectors may survive."""

When: TypeAlias = Literal["before", "after", "torn"]
"""Whether a call that fails has its effect: not, fully, or (a write) in its first half."""

Policy: TypeAlias = Literal["none", "all", "names", "sizes", "data"]
"""What survives of all that was not synced.

``none`` and ``all`` say it; ``names``: names, but no byte of the files; ``sizes``: names and the sizes of files, with
something else in them; ``data``: the bytes, but no name.
"""

POLICIES: Final[tuple[Policy, ...]] = ("none", "all", "names", "sizes", "data")


class Decisions:
    """Every set of survivors, one after another.

    ::

        decisions = Decisions()
        while True:
            look_at(disk.crash(decisions))
            if not decisions.advance():
                break

    """

    def __init__(self) -> None:
        self._path: list[bool] = []
        self._at = 0

    @property
    def count(self) -> int:
        """Decisions of the last crash; the sets are at most two to the power of it."""
        return self._at

    def decide(self) -> bool:
        """Whether something survives; asked in the same order as long as the answers are the same."""
        if self._at == len(self._path):
            self._path.append(False)
        self._at += 1
        return self._path[self._at - 1]

    def advance(self) -> bool:
        """Go on to the next set; there is none any more when this says no, and then it begins anew."""
        self._at = 0
        while self._path and self._path[-1]:
            self._path.pop()
        if not self._path:
            return False
        self._path[-1] = True
        return True


class _Chance:
    """Who decides what survives: by chance, or one set after another."""

    def __init__(self, source: random.Random | Decisions) -> None:
        self._random = source if isinstance(source, random.Random) else None
        self._decisions = source if isinstance(source, Decisions) else None
        # With one probability for everything, most sets of a thousand changes would look alike.
        self._likely = self._random.choice((0.1, 0.5, 0.9)) if self._random is not None else 0.0

    def survives(self) -> bool:
        return self._happens(self._likely)

    def rarely(self) -> bool:
        return self._happens(0.3)

    def filler(self) -> bytes:
        return b"\0" if self._happens(0.5) else b"\xa5"

    def _happens(self, probability: float) -> bool:
        if self._random is not None:
            return self._random.random() < probability
        assert self._decisions is not None
        return self._decisions.decide()


class Crash(BaseException):
    """The process ends here. Nothing but a test may catch it, and no file call works any more after it."""


@frozen
class Call:
    """A file call that was made.

    Attributes:
        method: Of `Disk`.
        site: The function that called it.
        line: Where in its file.
    """

    method: str
    site: str
    line: int


# ── disks that stand before another disk ──────────────────────────────────────────────────────────────────────


class WatchedDisk(Disk):
    """Hands every call on to another disk, by way of `_call`. A base for disks with a will of their own.

    Args:
        inner: Who does the work; the operating system when not given.
    """

    def __init__(self, inner: Disk | None = None) -> None:
        self.inner = inner or Disk()

    @abstractmethod
    def _call(self, method: str, do: Callable[[], T], instead: T) -> T:
        """Make a call, or not.

        Args:
            method: Its name.
            do: Makes it.
            instead: What the method could return without having done anything.
        """

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """See `Disk.open`."""
        return self._call("open", lambda: self.inner.open(path, write=write, create=create), -1)

    def stream(self, fd: int) -> BinaryIO:
        """See `Disk.stream`."""
        return cast("BinaryIO", _Stream(self, fd, self.inner))

    def close(self, fd: int) -> None:
        """See `Disk.close`."""
        self._call("close", lambda: self.inner.close(fd), None)

    def write_at(self, fd: int, data: Buffer, offset: int) -> None:
        """See `Disk.write_at`."""
        self._call("write_at", lambda: self.inner.write_at(fd, data, offset), None)

    def read_at(self, fd: int, length: int, offset: int) -> bytes:
        """See `Disk.read_at`."""
        return self._call("read_at", lambda: self.inner.read_at(fd, length, offset), b"")

    def truncate(self, fd: int, size: int) -> None:
        """See `Disk.truncate`."""
        self._call("truncate", lambda: self.inner.truncate(fd, size), None)

    def info_of(self, fd: int) -> FileInfo:
        """See `Disk.info_of`."""
        return self._call("info_of", lambda: self.inner.info_of(fd), FileInfo(0, 0, 0, 0.0, False, True))

    def sync_data(self, fd: int) -> None:
        """See `Disk.sync_data`."""
        self._call("sync_data", lambda: self.inner.sync_data(fd), None)

    def sync(self, fd: int) -> None:
        """See `Disk.sync`."""
        self._call("sync", lambda: self.inner.sync(fd), None)

    def open_directory(self, path: str) -> int:
        """See `Disk.open_directory`."""
        return self._call("open_directory", lambda: self.inner.open_directory(path), -1)

    def sync_directory(self, path: str) -> None:
        """See `Disk.sync_directory`."""
        self._call("sync_directory", lambda: self.inner.sync_directory(path), None)

    def sync_all(self, path: str) -> None:
        """See `Disk.sync_all`."""
        self._call("sync_all", lambda: self.inner.sync_all(path), None)

    def read(self, path: str, limit: int = 1 << 26) -> bytes:
        """See `Disk.read`."""
        return self._call("read", lambda: self.inner.read(path, limit), b"")

    def replace(self, source: str, dest: str) -> None:
        """See `Disk.replace`."""
        self._call("replace", lambda: self.inner.replace(source, dest), None)

    def rename_exclusive(self, source: str, dest: str) -> None:
        """See `Disk.rename_exclusive`."""
        self._call("rename_exclusive", lambda: self.inner.rename_exclusive(source, dest), None)

    def exchange(self, one: str, other: str) -> bool:
        """See `Disk.exchange`."""
        return self._call("exchange", lambda: self.inner.exchange(one, other), True)

    def link(self, source: str, dest: str) -> bool:
        """See `Disk.link`."""
        return self._call("link", lambda: self.inner.link(source, dest), True)

    def unlink(self, path: str) -> None:
        """See `Disk.unlink`."""
        self._call("unlink", lambda: self.inner.unlink(path), None)

    def mkdir(self, path: str) -> bool:
        """See `Disk.mkdir`."""
        return self._call("mkdir", lambda: self.inner.mkdir(path), False)

    def rmdir(self, path: str) -> bool:
        """See `Disk.rmdir`."""
        return self._call("rmdir", lambda: self.inner.rmdir(path), False)

    def entries(self, path: str) -> list[DiskEntry]:
        """See `Disk.entries`."""
        return self._call("entries", lambda: self.inner.entries(path), [])

    def is_directory(self, path: str) -> bool:
        """See `Disk.is_directory`."""
        return self._call("is_directory", lambda: self.inner.is_directory(path), True)

    def info(self, path: str) -> FileInfo | None:
        """See `Disk.info`."""
        return self._call("info", lambda: self.inner.info(path), None)

    def clone(self, source: int, dest: int) -> bool:
        """See `Disk.clone`."""
        return self._call("clone", lambda: self.inner.clone(source, dest), False)

    def free(self, path: str) -> int:
        """See `Disk.free`."""
        return self._call("free", lambda: self.inner.free(path), 1 << 40)


class _Stream(io.RawIOBase):
    """A file of a disk that is not the operating system's, as a stream."""

    def __init__(self, disk: Disk, fd: int, real: Disk) -> None:
        self._disk, self._fd, self._at = disk, fd, 0
        self._real = type(real) is Disk

    def fileno(self) -> int:
        if not self._real:
            raise io.UnsupportedOperation("This file is not the operating system's.")
        return self._fd

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (self._disk.info_of(self._fd).size if start is None else start)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._disk.read_at(self._fd, len(view), self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._disk.close(self._fd)


def _call_of(method: str) -> Call:
    """Who made a call: the nearest function that is not a part of this module."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename == __file__ or frame.f_code.co_name.startswith("<")):
        frame = frame.f_back
    assert frame is not None
    return Call(method, frame.f_code.co_name, frame.f_lineno)


class FuseDisk(WatchedDisk):
    """Counts file calls, and lets one of them fail.

    Args:
        inner: Who does the work.
        at: The number of the call that fails, the first being 1; 0 lets all succeed.
        error: What it raises; a `Crash` also makes every later call on this disk raise one.
        when: Whether it has its effect all the same.
        lasting: Whether every later call of the same method fails as well.
        only: Counts the calls of these methods alone; all when empty.

    Attributes:
        calls: The calls that were counted.
        dead: Whether the process has ended.
    """

    def __init__(
        self,
        inner: Disk | None = None,
        *,
        at: int = 0,
        error: type[Crash] | OSError = Crash,
        when: When = "before",
        lasting: bool = False,
        only: tuple[str, ...] = (),
    ) -> None:
        super().__init__(inner)
        self.at, self.error, self.when, self.lasting, self.only = at, error, when, lasting, only
        self.calls: list[Call] = []
        self.dead = False
        self._failing = ""
        self._open: set[int] = set()

    @property
    def blown(self) -> bool:
        """Whether the call that should fail has been made."""
        return bool(self._failing)

    def release(self) -> None:
        """Close what is still open, as the operating system does when a process ends."""
        while self._open:
            self.inner.close(self._open.pop())

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """See `Disk.open`."""
        return self._call("open", lambda: self._opened(self.inner.open(path, write=write, create=create)), -1)

    def open_directory(self, path: str) -> int:
        """See `Disk.open_directory`."""
        return self._call("open_directory", lambda: self._opened(self.inner.open_directory(path)), -1)

    def _opened(self, fd: int) -> int:
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        """See `Disk.close`. A descriptor is closed even if that fails, as Linux does it."""
        if not self.dead and fd in self._open:
            self._open.discard(fd)
            self.inner.close(fd)
        self._call("close", lambda: None, None)

    def write_at(self, fd: int, data: Buffer, offset: int) -> None:
        """See `Disk.write_at`."""
        half = memoryview(data).cast("B")[: len(data) // 2]
        self._call(
            "write_at",
            lambda: self.inner.write_at(fd, data, offset),
            None,
            torn=lambda: self.inner.write_at(fd, half, offset),
        )

    def _call(self, method: str, do: Callable[[], T], instead: T, torn: Callable[[], T] | None = None) -> T:
        if self.dead:
            raise Crash
        if not self.only or method in self.only:
            self.calls.append(_call_of(method))
            fails = len(self.calls) == self.at or (self.lasting and method == self._failing)
            if fails:
                self._failing = method
                with suppress(OSError):  # what would have failed anyway has no effect
                    if self.when == "after":
                        made = do()
                        if isinstance(made, int) and made in self._open and isinstance(self.error, OSError):
                            self._open.discard(made)  # an error has no descriptor
                            self.inner.close(made)
                    elif self.when == "torn" and torn is not None:
                        torn()
                if isinstance(self.error, OSError):
                    raise OSError(self.error.errno, os.strerror(self.error.errno or 0))
                self.dead = True
                raise self.error
        return do()


class CarelessDisk(WatchedDisk):
    """Leaves calls out and says that they were made: a mutation of the adapter that uses it.

    Args:
        inner: Who does the work.
        omit: Whether to leave out a call.

    Attributes:
        omitted: What was left out.
    """

    def __init__(self, inner: Disk | None, omit: Callable[[Call], bool]) -> None:
        super().__init__(inner)
        self._omit = omit
        self.omitted: list[Call] = []

    def _call(self, method: str, do: Callable[[], T], instead: T) -> T:
        call = _call_of(method)
        if self._omit(call):
            self.omitted.append(call)
            return instead
        return do()


# ── a disk in memory ──────────────────────────────────────────────────────────────────────────────────────────


P = ParamSpec("P")


def _atomic(method: Callable[Concatenate[SimulatedDisk, P], T]) -> Callable[Concatenate[SimulatedDisk, P], T]:
    """One call at a time, as the kernel has it for names."""

    @wraps(method)
    def call(self: SimulatedDisk, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._mutex:
            return method(self, *args, **kwargs)

    return call


@define(eq=False)
class _Node:
    """A file, a directory or a symbolic link.

    ``data`` and ``names`` are what the running system sees, ``synced`` and ``stable`` what no power cut takes away.
    """

    inode: int
    kind: Literal["file", "directory", "link"]
    data: bytearray = field(factory=bytearray)
    synced: bytes = b""
    unsynced: list[tuple[int, bytes | None]] = field(factory=list)
    """Writes (offset, bytes) and cuts (size, ``None``) since then."""
    born: bool = True
    """Whether it is on the disk at all; a new file is not before it is synced itself."""
    names: dict[str, int] = field(factory=dict)
    stable: dict[str, int] = field(factory=dict)
    target: str = ""


@define(eq=False)
class _Change:
    """Names that change in one go, all or none: (directory, name, inode or none).

    ``homes`` are the directories whose sync makes it durable; those that were synced are taken off.
    """

    homes: set[int]
    items: list[tuple[int, str, int | None]]


class SimulatedDisk(Disk):
    """A file system in memory that keeps apart what was synced and what was not.

    Of a file, its bytes and size are durable after `sync` or `sync_data`, not before; of a directory, its names
    after `sync_directory` (or `sync` on it), whatever was synced of the files; a new file may be missing all the
    same, unless it was synced itself. Nothing orders the one before the other, and nothing orders changes of names
    among themselves: that is less than ext4 and XFS give, and all that POSIX does. A rename is one change, also
    between directories; the sync of the directory that it leads to makes it durable. So is an exchange of two names,
    and the sync of both directories makes it durable.

    Args:
        room: How many bytes all files together may have.
        links: Whether there are hard links.
        exclusive: Whether there is a rename that never replaces, and one that exchanges.
    """

    def __init__(self, *, room: int = 1 << 40, links: bool = True, exclusive: bool = True) -> None:
        self.room, self.links, self.exclusive = room, links, exclusive
        self._nodes: dict[int, _Node] = {1: _Node(1, "directory")}
        self._changes: list[_Change] = []
        self._files: dict[int, _Node] = {}
        self._last_fd = 1000
        self._mutex = threading.RLock()

    # ── for tests ─────────────────────────────────────────────────────────────────────────────────────────────

    @_atomic
    def crash(self, survivors: random.Random | Decisions | Policy) -> SimulatedDisk:
        """The disk as it may be after a power cut now. This one stays as it is, so that it can be cut again.

        Args:
            survivors: What survives of all that was not synced, by name, by chance, or one set after another.
        """
        after = SimulatedDisk(room=self.room, links=self.links, exclusive=self.exclusive)
        source: _Chance | str = survivors if isinstance(survivors, str) else _Chance(survivors)
        chance = None if isinstance(source, str) else source
        names = {inode: dict(node.stable) for inode, node in self._nodes.items()}
        for change in self._changes:
            if chance.survives() if chance is not None else survivors in ("all", "names", "sizes"):
                for directory, name, inode in change.items:
                    _set(names[directory], name, inode)
        for found in names.values():
            for name, inode in list(found.items()):
                if not self._nodes[inode].born and (chance.rarely() if chance is not None else survivors == "none"):
                    del found[name]
        todo = [1]
        while todo:
            node = self._nodes[todo.pop()]
            new = _Node(node.inode, node.kind, target=node.target)
            if node.kind == "file":
                new.data = _surviving(node, source)
                new.synced = bytes(new.data)
            new.names, new.stable = names[node.inode], dict(names[node.inode])
            after._nodes[node.inode] = new
            todo += [inode for inode in new.names.values() if inode not in after._nodes]
        return after

    @_atomic
    def image(self) -> bytes:
        """A digest of all that is there: two disks with the same one cannot be told apart."""
        digest = hashlib.blake2b(digest_size=16)
        for inode, node in sorted(self._nodes.items()):
            digest.update(f"{inode} {node.kind} {node.target!r} {sorted(node.names.items())} ".encode())
            digest.update(b"%d " % len(node.data) + node.data)
        return digest.digest()

    @_atomic
    def plant(self, path: str, data: bytes) -> None:
        """Put a file there, durably, and the directories above it; replaces the bytes of one that is there."""
        parent = os.path.dirname(path)
        if not self.is_directory(parent):
            self._plant_directory(parent)
        node = self._look(path)
        if node is None:
            node = self._new("file")
            self._change(parent, os.path.basename(path), node.inode)
        node.data[:] = data
        self._sync(node)
        self.sync_directory(parent)

    def _plant_directory(self, path: str) -> None:
        parent = os.path.dirname(path)
        if not self.is_directory(parent):
            self._plant_directory(parent)
        self.mkdir(path)
        self.sync_directory(parent)

    @_atomic
    def symlink(self, target: str, path: str) -> None:
        """Make a symbolic link, durably."""
        node = self._new("link")
        node.target = target
        self._change(os.path.dirname(path), os.path.basename(path), node.inode)
        self.sync_directory(os.path.dirname(path))

    @_atomic
    def files(self, root: str = "/") -> dict[str, bytes]:
        """The bytes of all files below a directory by their relative paths; of a link, its target."""
        return {path: node.target.encode() if node.kind == "link" else bytes(node.data)
                for path, node in self._walk(root) if node.kind != "directory"}  # fmt: skip

    @_atomic
    def directories(self, root: str = "/") -> list[str]:
        """The relative paths of all directories below a directory."""
        return sorted(path for path, node in self._walk(root) if node.kind == "directory")

    def _walk(self, root: str) -> Iterator[tuple[str, _Node]]:
        top = self._look(root, follow=True)
        todo = [("", top)] if top is not None else []
        while todo:
            at, node = todo.pop()
            for name, inode in node.names.items():
                below = self._nodes[inode]
                yield f"{at}{name}", below
                if below.kind == "directory":
                    todo.append((f"{at}{name}/", below))

    @property
    def descriptors(self) -> int:
        """How many files are open."""
        return len(self._files)

    # ── file calls ────────────────────────────────────────────────────────────────────────────────────────────

    @_atomic
    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """See `Disk.open`."""
        node = self._look(path)
        if create:
            if node is not None:
                raise _error(errno.EEXIST, path)
            node = self._new("file")
            self._change(os.path.dirname(path), os.path.basename(path), node.inode)
        if node is None:
            raise _error(errno.ENOENT, path)
        if node.kind != "file":
            raise _error(errno.EISDIR if node.kind == "directory" else errno.ELOOP, path)
        return self._opened(node)

    @_atomic
    def stream(self, fd: int) -> BinaryIO:
        """See `Disk.stream`."""
        return cast("BinaryIO", _Stream(self, fd, self))

    @_atomic
    def close(self, fd: int) -> None:
        """See `Disk.close`."""
        self._node(fd)
        del self._files[fd]

    @_atomic
    def write_at(self, fd: int, data: Buffer, offset: int) -> None:
        """See `Disk.write_at`."""
        node, raw = self._node(fd), bytes(data)
        if not raw:
            return
        if self._used() + max(0, offset + len(raw) - len(node.data)) > self.room:
            raise _error(errno.ENOSPC)
        _write(node.data, offset, raw)
        node.unsynced.append((offset, raw))

    @_atomic
    def read_at(self, fd: int, length: int, offset: int) -> bytes:
        """See `Disk.read_at`."""
        return bytes(self._node(fd).data[offset : offset + length])

    @_atomic
    def truncate(self, fd: int, size: int) -> None:
        """See `Disk.truncate`."""
        node = self._node(fd)
        _cut(node.data, size)
        node.unsynced.append((size, None))

    @_atomic
    def info_of(self, fd: int) -> FileInfo:
        """See `Disk.info_of`."""
        return _info(self._node(fd))

    @_atomic
    def sync_data(self, fd: int) -> None:
        """See `Disk.sync_data`."""
        self._sync(self._node(fd))

    @_atomic
    def sync(self, fd: int) -> None:
        """See `Disk.sync`."""
        self._sync(self._node(fd))

    @_atomic
    def open_directory(self, path: str) -> int:
        """See `Disk.open_directory`."""
        return self._opened(self._directory(path))

    @_atomic
    def sync_directory(self, path: str) -> None:
        """See `Disk.sync_directory`."""
        self._sync(self._directory(path))

    @_atomic
    def sync_all(self, path: str) -> None:
        """See `Disk.sync_all`."""
        self._directory(path)
        for node in self._nodes.values():
            self._sync(node)

    @_atomic
    def read(self, path: str, limit: int = 1 << 26) -> bytes:
        """See `Disk.read`."""
        fd = self.open(path)
        try:
            return self.read_at(fd, limit, 0)
        finally:
            self.close(fd)

    @_atomic
    def replace(self, source: str, dest: str) -> None:
        """See `Disk.replace`."""
        node, there = self._look(source), self._look(dest)
        if node is None:
            raise _error(errno.ENOENT, source)
        if there is not None and there.kind == "directory":
            raise _error(errno.EISDIR if node.kind != "directory" else errno.ENOTEMPTY, dest)
        self._rename(node, source, dest)

    @_atomic
    def rename_exclusive(self, source: str, dest: str) -> None:
        """See `Disk.rename_exclusive`."""
        node = self._look(source)
        if not self.exclusive:
            raise _error(errno.EINVAL, source)
        if node is None:
            raise _error(errno.ENOENT, source)
        if self._look(dest) is not None:
            raise _error(errno.EEXIST, dest)
        self._rename(node, source, dest)

    @_atomic
    def exchange(self, one: str, other: str) -> bool:
        """See `Disk.exchange`."""
        if not self.exclusive:
            return False
        places = []
        for path in (one, other):
            node = self._look(path)
            if node is None:
                raise _error(errno.ENOENT, path)
            places.append((self._directory(os.path.dirname(path)), os.path.basename(path), node.inode))
        (first, was, left), (second, now, right) = places
        _set(first.names, was, right)
        _set(second.names, now, left)
        items: list[tuple[int, str, int | None]] = [(first.inode, was, right), (second.inode, now, left)]
        self._changes.append(_Change({first.inode, second.inode}, items))
        return True

    @_atomic
    def link(self, source: str, dest: str) -> bool:
        """See `Disk.link`."""
        if not self.links:
            return False
        node = self._look(source)
        if node is None:
            raise _error(errno.ENOENT, source)
        if self._look(dest) is not None:
            raise _error(errno.EEXIST, dest)
        self._change(os.path.dirname(dest), os.path.basename(dest), node.inode)
        return True

    @_atomic
    def unlink(self, path: str) -> None:
        """See `Disk.unlink`."""
        node = self._look(path)
        if node is None:
            return
        if node.kind == "directory":
            raise _error(errno.EISDIR, path)
        self._change(os.path.dirname(path), os.path.basename(path), None)

    @_atomic
    def mkdir(self, path: str) -> bool:
        """See `Disk.mkdir`."""
        node = self._look(path)
        if node is not None:
            if node.kind != "directory":
                raise _error(errno.EEXIST, path)
            return False
        parent = self._directory(os.path.dirname(path))
        self._change_in(parent, os.path.basename(path), self._new("directory").inode)
        return True

    @_atomic
    def rmdir(self, path: str) -> bool:
        """See `Disk.rmdir`."""
        node = self._look(path)
        if node is None:
            return False
        if node.kind != "directory":
            raise _error(errno.ENOTDIR, path)
        if node.names:
            return False
        self._change(os.path.dirname(path), os.path.basename(path), None)
        return True

    @_atomic
    def entries(self, path: str) -> list[DiskEntry]:
        """See `Disk.entries`."""
        node = self._look(path)
        if node is None:
            return []
        if node.kind != "directory":
            raise _error(errno.ENOTDIR, path)
        kinds = ((name, self._nodes[inode].kind) for name, inode in node.names.items())
        return [DiskEntry(name, kind == "directory", kind == "file") for name, kind in kinds]

    @_atomic
    def is_directory(self, path: str) -> bool:
        """See `Disk.is_directory`."""
        node = self._look(path, follow=True)
        return node is not None and node.kind == "directory"

    @_atomic
    def info(self, path: str) -> FileInfo | None:
        """See `Disk.info`."""
        try:
            node = self._look(path)
        except NotADirectoryError:
            return None
        return None if node is None else _info(node)

    @_atomic
    def clone(self, source: int, dest: int) -> bool:
        """See `Disk.clone`."""
        return False

    @_atomic
    def free(self, path: str) -> int:
        """See `Disk.free`."""
        self._directory(path)
        return max(0, self.room - self._used())

    # ── inside ────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self, path: str, *, follow: bool = False, depth: int = 0) -> _Node | None:
        """The node that has a name; links on the way are followed, at the end only if asked for."""
        if depth > 40:
            raise _error(errno.ELOOP, path)
        node, at = self._nodes[1], "/"
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for i, part in enumerate(parts):
            if node.kind != "directory":
                raise _error(errno.ENOTDIR, path)
            if len(os.fsencode(part)) > 255:
                raise _error(errno.ENAMETOOLONG, path)
            if part == "..":
                at = os.path.dirname(at)
                node = cast("_Node", self._look(at))
                continue
            inode = node.names.get(part)
            if inode is None:
                if i + 1 < len(parts):
                    return None
                return None
            node = self._nodes[inode]
            if node.kind == "link" and (follow or i + 1 < len(parts)):
                at = os.path.join(at, node.target)
                found = self._look(at, follow=True, depth=depth + 1)
                if found is None:
                    return None
                node = found
            else:
                at = os.path.join(at, part)
        return node

    def _directory(self, path: str) -> _Node:
        node = self._look(path, follow=True)
        if node is None:
            raise _error(errno.ENOENT, path)
        if node.kind != "directory":
            raise _error(errno.ENOTDIR, path)
        return node

    def _node(self, fd: int) -> _Node:
        if fd not in self._files:
            raise _error(errno.EBADF)
        return self._files[fd]

    def _opened(self, node: _Node) -> int:
        self._last_fd += 1
        self._files[self._last_fd] = node
        return self._last_fd

    def _new(self, kind: Literal["file", "directory", "link"]) -> _Node:
        # The lowest number that is free: after a crash, those of lost files are used again.
        inode = next(i for i in range(2, len(self._nodes) + 3) if i not in self._nodes)
        node = self._nodes[inode] = _Node(inode, kind, born=kind != "file")
        return node

    def _change(self, directory: str, name: str, inode: int | None) -> None:
        self._change_in(self._directory(directory), name, inode)

    def _change_in(self, directory: _Node, name: str, inode: int | None) -> None:
        _set(directory.names, name, inode)
        self._changes.append(_Change({directory.inode}, [(directory.inode, name, inode)]))

    def _rename(self, node: _Node, source: str, dest: str) -> None:
        old, new = self._directory(os.path.dirname(source)), self._directory(os.path.dirname(dest))
        was, now = os.path.basename(source), os.path.basename(dest)
        _set(old.names, was, None)
        _set(new.names, now, node.inode)
        self._changes.append(_Change({new.inode}, [(old.inode, was, None), (new.inode, now, node.inode)]))

    def _sync(self, node: _Node) -> None:
        if node.kind == "file":
            node.synced, node.born = bytes(node.data), True
            node.unsynced.clear()
            return
        pending = []
        for change in self._changes:
            change.homes.discard(node.inode)
            if change.homes:
                pending.append(change)
                continue
            for directory, name, inode in change.items:
                _set(self._nodes[directory].stable, name, inode)
                for earlier in pending:  # what is durable now is later than they are
                    earlier.items = [item for item in earlier.items if item[:2] != (directory, name)]
        self._changes = pending

    def _used(self) -> int:
        return sum(len(node.data) for node in self._nodes.values())


def _error(code: int, path: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), path)


def _info(node: _Node) -> FileInfo:
    return FileInfo(1, node.inode, len(node.data), 0.0, node.kind == "directory", node.kind == "file")


def _set(names: dict[str, int], name: str, inode: int | None) -> None:
    if inode is None:
        names.pop(name, None)
    else:
        names[name] = inode


def _cut(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


def _write(data: bytearray, offset: int, raw: bytes) -> None:
    if len(data) < offset:
        _cut(data, offset)
    data[offset : offset + len(raw)] = raw


def _surviving(node: _Node, survivors: _Chance | str) -> bytearray:
    """The bytes of a file after a crash."""
    data = bytearray(node.synced)
    if survivors == "sizes":
        known = len(data)
        _cut(data, len(node.data))
        data[known:] = b"\xa5" * (len(data) - known)
    if survivors in ("all", "data"):
        return bytearray(node.data)
    if isinstance(survivors, str) or not node.unsynced:
        return data
    # Of data that was cut away and written anew, the old may come back: each sector is on its own.
    filler = survivors.filler()
    for offset, raw in node.unsynced:
        if raw is None:
            if survivors.survives():
                _cut(data, offset)
            continue
        if survivors.rarely():  # the size is there before the bytes are
            known = len(data)
            _cut(data, max(known, offset + len(raw)))
            data[known:] = filler * (len(data) - known)
        at = offset
        while at < offset + len(raw):
            end = min((at // SECTOR + 1) * SECTOR, offset + len(raw))
            if survivors.survives():
                _write(data, at, raw[at - offset : end - offset])
            at = end
    return data
