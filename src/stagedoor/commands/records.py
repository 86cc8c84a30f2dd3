"""Uploads as they are on record, read without the lock and without writing; and who has the lock."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property

from ..adapters.disk import Disk
from ..adapters.local import LocalBytes, LocalTree
from ..errors import UploadError
from ..lifecycle import State
from ..ports import Buffer, Clock, Library
from ..session import Ports
from ..settings import Settings
from ..tasks import InvalidDocument, UploadTask, check_id, evolve, load

__all__ = ["Looking", "Records", "owner_of"]


class Looking(Disk):
    """A disk that is only looked at. What opens for writing gets to read; everything that changes is refused."""

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """See `Disk.open`."""
        if create:
            raise _read_only(path)
        return super().open(path)

    def mkdir(self, path: str) -> bool:
        """See `Disk.mkdir`."""
        return False  # who needs the directory finds out

    def write_at(self, fd: int, data: Buffer, offset: int) -> None:
        """See `Disk.write_at`."""
        raise _read_only()

    def truncate(self, fd: int, size: int) -> None:
        """See `Disk.truncate`."""
        raise _read_only()

    def replace(self, source: str, dest: str) -> None:
        """See `Disk.replace`."""
        raise _read_only(source)

    def rename_exclusive(self, source: str, dest: str) -> None:
        """See `Disk.rename_exclusive`."""
        raise _read_only(source)

    def link(self, source: str, dest: str) -> bool:
        """See `Disk.link`."""
        raise _read_only(source)

    def unlink(self, path: str) -> None:
        """See `Disk.unlink`."""
        raise _read_only(path)

    def rmdir(self, path: str) -> bool:
        """See `Disk.rmdir`."""
        raise _read_only(path)

    def clone(self, source: int, dest: int) -> bool:
        """See `Disk.clone`."""
        return False


def _read_only(path: str | None = None) -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS), path)


class Records:
    """The documents in an uploads directory that somebody else may own, and all that `explain` needs of it."""

    def __init__(self, root: str, trees: Mapping[str, str], clock: Clock, naming: str = "musicdb") -> None:
        self.root, self.clock, self.settings = root, clock, Settings()
        self._trees, self._naming = trees, naming
        self._tasks = os.path.join(root, "tasks")
        self._disk = Looking()
        self.unreadable: dict[str, str] = {}
        """What is in ``tasks`` and no document, with the reason; known after `all`."""

    def ids(self) -> list[str]:
        """Of all documents, sorted."""
        self.unreadable.clear()
        found = []
        for entry in self._disk.entries(self._tasks):
            if entry.name.startswith("."):
                continue  # a temporary file
            if entry.is_file and entry.name.endswith(".json") and _is_id(entry.name.removesuffix(".json")):
                found.append(entry.name.removesuffix(".json"))
            else:
                self.unreadable[entry.name] = "It is not named like a task."
        return sorted(found)

    def find(self, uploadid: str, /) -> UploadTask | None:
        """The upload as it is on record; ``None`` if it is not there.

        Raises:
            InvalidDocument: Its document is none.
        """
        try:
            task = load(self._disk.read(os.path.join(self._tasks, f"{uploadid}.json")), expected_id=uploadid)
        except FileNotFoundError:
            return None
        if task.state is not State.WAITFORCHUNK:
            return task
        # While chunks are expected the byte store knows how many there are, and the document hears of it later.
        store = LocalBytes(self.root, durability="none", disk=self._disk)
        try:
            return evolve(task, offset=store.size(task.key))
        except UploadError:
            return task
        finally:
            store.release()

    def all(self) -> Iterator[UploadTask]:
        """All uploads, ordered by id. What is no document is left out and remembered."""
        for uploadid in self.ids():
            try:
                task = self.find(uploadid)
            except InvalidDocument as error:
                self.unreadable[f"{uploadid}.json"] = error.sentence
                continue
            except OSError as error:
                self.unreadable[f"{uploadid}.json"] = f"{error.strerror}."
                continue
            if task is not None:
                yield task

    @cached_property
    def ports(self) -> Ports:
        """For looking: neither directories nor a music database are made, and nothing is written."""
        from ..content import builtin

        contents, _ = builtin(scheme=self._naming)
        trees = {name: LocalTree(name, path, "none", self._disk) for name, path in self._trees.items()}
        store = LocalBytes(self.root, durability="none", disk=self._disk)
        return Ports(store, trees, self._library(), {c.name: c for c in contents}, self.settings)

    def _library(self) -> Library:
        """The catalogue as it is now; without one that can be read, a library that knows nothing."""
        from ..library.catalogue import Catalogue
        from ..library.memory import NullLibrary

        with suppress(UploadError, FileNotFoundError):
            return Catalogue.look(os.path.join(self.root, "catalogue.sqlite"))
        return NullLibrary()


def _is_id(name: str) -> bool:
    try:
        check_id(name)
    except UploadError:
        return False
    return True


def owner_of(root: str) -> tuple[int, str] | None:
    """The process that has locked an uploads directory and its command line, as far as the system tells."""
    # Asking by taking the lock, for a moment even, could make a server fail that starts just then.
    try:
        inode = os.stat(os.path.join(root, ".lock")).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return None
    for fields in lines:
        if fields[1:2] == ["FLOCK"] and len(fields) > 5 and fields[5].rpartition(":")[2] == str(inode):
            # A device number would settle which file system's inode it is, but overlays and subvolumes show another
            # one here than stat does; the process that it names has the file open, or it is not this lock.
            pid = int(fields[4])
            if pid <= 0 or _has_open(pid, os.path.join(root, ".lock")):
                return pid, _command_line(pid)
    return None


def _has_open(pid: int, path: str) -> bool:
    try:
        found = os.stat(path)
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), found):
                    return True
    except OSError:
        return True  # another user's process: nobody lets us look
    return False


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).split(b"\0")
    except OSError:
        return ""
    return " ".join(word.decode("utf-8", "replace") for word in words).strip()[:200]
