"""The file calls of the local adapters, one method each.

Everything the local adapters do to a disk goes through a `Disk`, so that tests can count the calls, fail one of
them, or put a disk in its place that forgets what was not synced.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import stat
from contextlib import suppress
from typing import BinaryIO, Final

from attrs import frozen

from ..errors import StorageError, StorageFull
from ..ports import Buffer

__all__ = ["Disk", "DiskEntry", "FileInfo", "is_full", "make_root", "storage_errors"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BLOCK: Final = 1 << 15
_FICLONE: Final = 0x40049409
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_datasync = getattr(os, "fdatasync", os.fsync)


def is_full(error: OSError) -> bool:
    """Whether room is missing, so that the same call may succeed later."""
    return error.errno in _FULL


class storage_errors:  # noqa: N801  # it is used as a function is
    """Turn an `OSError` into our own: `StorageFull` where room is missing, else `StorageError`.

    A class, not a generator: each upload goes through it a dozen times.
    """

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        doing = self._doing
        said = doing[:1].upper() + doing[1:]  # names in it stay as they are
        if is_full(error):
            raise StorageFull(f"There is no room for {doing}. Free some space; the upload then goes on.") from error
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise StorageError(
                f"{said} failed: too many open files. Raise the limit (ulimit -n) and try again.",
                code="too_many_open_files",
            ) from error
        raise StorageError(f"{said} failed: {os.strerror(error.errno or 0)}.") from error


@frozen
class DiskEntry:
    """One name in a directory; a symbolic link is neither file nor directory."""

    name: str
    is_dir: bool
    is_file: bool


@frozen
class FileInfo:
    """What `lstat` says, as far as anybody here wants to know.

    ``device`` and ``inode`` together identify a file whatever its name.
    """

    device: int
    inode: int
    size: int
    mtime: float
    is_dir: bool
    is_file: bool


class Disk:
    """The operating system's file calls.

    Methods raise `OSError`. None of them follows a symbolic link at the end of a path, but for those that neither
    read nor change anything there: `open_directory`, `sync_directory`, `sync_all`, `is_directory` and `free`.
    """

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """Open a regular file; ``create`` makes it and fails if it exists. Returns a descriptor.

        Raises:
            OSError: ``EISDIR`` or ``ENXIO`` for anything else that has the name; a pipe there does not block.
        """
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_RDWR if write or create else os.O_RDONLY)
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        fd = os.open(path, flags, 0o644)
        if not create and not stat.S_ISREG(mode := os.fstat(fd).st_mode):
            os.close(fd)
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO
            raise OSError(code, os.strerror(code), path)
        return fd

    def stream(self, fd: int) -> BinaryIO:
        """An unbuffered stream over a descriptor opened for reading; closing the stream closes it."""
        return io.FileIO(fd, "rb", closefd=True)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def write_at(self, fd: int, data: Buffer, offset: int) -> None:
        """Write all of it at a position; the kernel may take it in several goes."""
        done = os.pwrite(fd, data, offset)
        if done == len(data):
            return
        view = memoryview(data).cast("B")
        while done < len(view):
            wrote = os.pwrite(fd, view[done:], offset + done)
            if wrote == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done += wrote

    def read_at(self, fd: int, length: int, offset: int) -> bytes:
        """Read up to ``length`` bytes from a position."""
        return os.pread(fd, length, offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file to a size in bytes."""
        os.ftruncate(fd, size)

    def info_of(self, fd: int) -> FileInfo:
        """About an open file."""
        return _info(os.fstat(fd))

    def sync_data(self, fd: int) -> None:
        """Make a file's bytes, and the size needed to read them, durable."""
        _datasync(fd)

    def sync(self, fd: int) -> None:
        """Make a file, or the names in an open directory, durable."""
        os.fsync(fd)

    def open_directory(self, path: str) -> int:
        """Open a directory for `sync`: who does so before a rename cannot run out of descriptors after it."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync_directory(self, path: str) -> None:
        """Make a directory's names durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_all(self, path: str) -> None:
        """Make everything durable that the file system of a path still has in memory only."""
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if syncfs(fd):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), path)
        finally:
            os.close(fd)

    def read(self, path: str, limit: int = 1 << 26) -> bytes:
        """The content of a small regular file, at most ``limit`` bytes."""
        fd = self.open(path)
        try:
            # Most documents fit into the first block: one call, and no asking for the size.
            data = block = os.read(fd, min(_BLOCK, limit))
            while len(block) == _BLOCK and len(data) < limit:
                block = os.read(fd, min(_BLOCK, limit - len(data)))
                data += block
            return data
        finally:
            os.close(fd)

    def replace(self, source: str, dest: str) -> None:
        """Rename, replacing what has the name."""
        os.replace(source, dest)

    def rename_exclusive(self, source: str, dest: str) -> None:
        """Rename, failing with ``EEXIST`` if the name is taken, in one step.

        Raises:
            OSError: ``ENOSYS`` or ``EINVAL`` where the system cannot.
        """
        _rename(source, dest, _RENAME_NOREPLACE)

    def exchange(self, one: str, other: str) -> bool:
        """Let two files have each other's name, in one step.

        Returns:
            ``False`` where the system or the file system has no such call.
        """
        try:
            _rename(one, other, _RENAME_EXCHANGE)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                return False
            raise
        return True

    def link(self, source: str, dest: str) -> bool:
        """Give a file a second name, failing with ``EEXIST`` if it is taken.

        Returns:
            ``False`` where the file system has no links.
        """
        try:
            os.link(source, dest, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        return True

    def unlink(self, path: str) -> None:
        """Take a name away; a name that is not there is no error."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def mkdir(self, path: str) -> bool:
        """Make a directory; ``False`` if it is there already."""
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise
            return False
        return True

    def rmdir(self, path: str) -> bool:
        """Remove an empty directory; ``False`` if it is not empty or not there."""
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                return False
            raise
        return True

    def entries(self, path: str) -> list[DiskEntry]:
        """The names in a directory; empty if there is none."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return []
        try:
            with os.scandir(fd) as found:
                return [
                    DiskEntry(e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)) for e in found
                ]
        finally:
            os.close(fd)

    def is_directory(self, path: str) -> bool:
        """Whether a path leads to a directory; links are followed."""
        return os.path.isdir(path)

    def info(self, path: str) -> FileInfo | None:
        """About a name, without following a link; ``None`` if it is not there."""
        try:
            return _info(os.lstat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def clone(self, source: int, dest: int) -> bool:
        """Share the bytes of an open file with an empty one, copy on write; ``False`` where that cannot be."""
        try:
            import fcntl

            fcntl.ioctl(dest, _FICLONE, source)
        except (OSError, ImportError):
            return False
        return True

    def free(self, path: str) -> int:
        """Bytes that an unprivileged process may still use on the file system of a path."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize


def make_root(disk: Disk, path: str, *, sync: bool) -> None:
    """Make a directory that adapters live in, and what is missing above it; the last one may be a link to one.

    Raises:
        OSError: It cannot be made, or something else has the name.
    """
    path = os.path.abspath(path)
    parent = os.path.dirname(path)
    if disk.is_directory(path):
        if sync:
            # Whoever made it may have been killed before this. That a parent cannot be read is no reason to stop.
            with suppress(OSError):
                disk.sync_directory(parent)
        return
    if parent == path:  # even what is above everything cannot be looked at
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)
    make_root(disk, parent, sync=sync)
    disk.mkdir(path)
    if sync:
        disk.sync_directory(parent)


def _rename(source: str, dest: str, flags: int) -> None:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(dest), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source, None, dest)


def _info(found: os.stat_result) -> FileInfo:
    mode = found.st_mode
    return FileInfo(found.st_dev, found.st_ino, found.st_size, found.st_mtime, stat.S_ISDIR(mode), stat.S_ISREG(mode))
