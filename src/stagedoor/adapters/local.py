"""Adapters for a local directory: bytes, tasks, and the trees of the library.

The uploads directory::

    <uploads>/
      .lock                      one process owns the directory
      tasks/<id>.json            one document a task
      data/<uid>.<generation>/   the bytes, under the name that the specification gives them
        video-<sha1>.mp4
        .offset                  how much of it is on record, while chunks are expected
      quarantine/                what nobody owns, until it ages out

A library tree has, while something is being placed or taken back, ``.stagedoor/<uid>/`` with the copies that become
visible by a link, or, where there are no links, by a rename that never replaces. What an upload has replaced is in
``.stagedoor/<uid>.kept/`` until an undo brings it back, or the upload is removed; beside each file is a note, its name
and ``.path``, with the name that it had in the tree.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import logging
import os
import re
import struct
import threading
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, Literal, TypeAlias

import orjson
from attrs import define, field, fields

from ..errors import ConfigurationError, Conflict, DataLost, InUse, StorageError, UploadError
from ..lifecycle import Standing, State, Trigger, due
from ..ports import Buffer, KeptFile, Recovered, Summary
from ..tasks import SCHEMA, InvalidDocument, PlacedFile, UploadTask, dump, evolve, load, pending_name
from .disk import Disk, FileInfo, is_full, make_root, storage_errors

__all__ = ["DirectoryLock", "Durability", "LocalBytes", "LocalTasks", "LocalTree", "adopt_musicdb"]

log = logging.getLogger(__name__)

Durability: TypeAlias = Literal["power", "process", "none"]
"""What an acknowledgement survives: a power cut, a killed process, or nothing in particular."""

_COPY: Final = 1 << 20
_NAMES_KEPT: Final = 4096
_ATTEMPTS: Final = 100
_QUARANTINE: Final = "quarantine"


class DirectoryLock:
    """One process a directory: a lock on a file that is never unlinked.

    Args:
        root: The directory; made when it is not there.
        disk: The file calls for making it; the lock itself is the operating system's.

    Raises:
        InUse: Another process, or another `Uploads` of this one, owns the directory.
    """

    def __init__(self, root: str, *, disk: Disk | None = None) -> None:
        self.path = os.path.join(root, ".lock")
        with storage_errors("locking the uploads directory"):
            make_root(disk or Disk(), root, sync=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._fd = os.open(self.path, flags, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = ""
            with suppress(OSError):
                owner = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise ConfigurationError(f"{self.path} cannot be locked: {os.strerror(error.errno or 0)}.") from error
            raise InUse(
                f"The uploads directory {root} is in use by process {owner or 'unknown'}. "
                "Stop that process, or talk to it instead."
            ) from None
        with suppress(OSError):  # who it is only helps people; a full disk must not stop the start
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Give the directory free."""
        if self._fd >= 0:
            with suppress(OSError):  # the lock is given back all the same
                os.close(self._fd)
            self._fd = -1


class _Quarantine:
    """Where things go that nobody owns. Names get the time of their arrival in front, and age out by it."""

    def __init__(self, root: str, disk: Disk, sync: bool) -> None:
        self._root, self._disk, self._sync = root, disk, sync

    def add(self, path: str) -> str:
        directory = os.path.join(self._root, _QUARANTINE)
        self._disk.mkdir(directory)
        if self._sync:  # nothing may move to where a crash leaves nothing; the move itself may be repeated
            self._disk.sync_directory(self._root)
        # A name as long as a name may be has no room for the time; one that is no UTF-8 stays out of the logs.
        found = os.fsencode(os.path.basename(path)).decode("utf-8", "replace")
        base = f"{int(time.time())}-" + found.encode()[:200].decode("utf-8", "ignore")
        name, n = base, 0
        while self._disk.info(os.path.join(directory, name)) is not None:
            n += 1
            name = f"{base}.{n}"
        self._disk.replace(path, os.path.join(directory, name))
        log.error("%r belongs to no upload; it was moved to %r", path, os.path.join(directory, name))
        return f"{_QUARANTINE}/{name}"

    def age_out(self, before: float) -> int:
        directory, gone = os.path.join(self._root, _QUARANTINE), 0
        for entry in self._disk.entries(directory):
            arrived = entry.name.partition("-")[0]
            if arrived.isdecimal() and int(arrived) < before:
                self._delete(os.path.join(directory, entry.name), entry.is_dir)
                gone += 1
        return gone

    def _delete(self, path: str, is_directory: bool) -> None:
        if not is_directory:
            self._disk.unlink(path)
            return
        for entry in self._disk.entries(path):
            self._delete(os.path.join(path, entry.name), entry.is_dir)
        self._disk.rmdir(path)


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

_SLOT: Final = struct.Struct("<4sQQI")
_SLOT_MAGIC: Final = b"SDR1"
_SLOT_AT: Final = (0, 4096)
"""Two slots in two blocks, written in turn: whatever a crash does to one, the other still holds."""


_FOREIGN: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO})
"""What opening says when a link, a directory or a pipe has the name of a file of ours."""


_KEY: Final = re.compile(r"[0-9a-f]{32}\.[0-9]+")
_OURS: Final = re.compile(r"[a-z][a-z0-9]*-(?:pending|[0-9a-f]{40})\.[A-Za-z0-9]{1,16}")
"""How the uploaded file is named: by the specification's scheme, and until it is verified."""


@define
class _Place:
    """An upload's bytes that somebody works with.

    Attributes:
        name: File name of the bytes.
        fd: Of the bytes.
        slots: Of the record; -1 when it was let go.
        recorded: R.
        end: Where the next bytes belong.
        sequence: Number of the last record that was tried; none is used twice.
        slot: Which slot holds R; a record is always written into the other one.
        doubtful: A record was begun and failed: it may say more than R. What it says must stay readable until it
            is replaced.
        tail: There may be bytes behind R that nobody owns.
        sealed: Nothing may be appended.
        broken: The disk failed; nothing is written through these descriptors any more.
        users: How many threads are at it.
        retired: To be closed by the last of them.
    """

    name: str
    fd: int = -1
    slots: int = -1
    recorded: int = 0
    end: int = 0
    sequence: int = 0
    slot: int = 1
    doubtful: bool = False
    tail: bool = False
    sealed: bool = False
    broken: bool = False
    users: int = 0
    retired: bool = False

    @property
    def idle(self) -> bool:
        """Whether it can be closed, and read again from the disk, without anybody noticing."""
        busy = self.users or self.doubtful or self.tail or self.sealed or self.broken
        return not busy and self.end == self.recorded


class LocalBytes:
    """`ByteStore` in a directory.

    Args:
        root: The uploads directory.
        durability: ``power`` syncs data and record in `commit`; ``process`` and ``none`` sync nothing.
        disk: The file calls.
        open_places: How many uploads keep their descriptors (two each) between chunks.
    """

    def __init__(
        self, root: str, *, durability: Durability = "power", disk: Disk | None = None, open_places: int = 256
    ) -> None:
        self._disk = disk or Disk()
        self._root = root
        self._data = os.path.join(root, "data")
        self._sync = durability == "power"
        self._limit = open_places
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._names: OrderedDict[str, str] = OrderedDict()  # of those that were closed last: somebody reads them soon
        self._lock = threading.Lock()
        with storage_errors("making the data directory"):
            self._disk.mkdir(self._data)
            if self._sync:
                self._disk.sync_directory(root)

    def release(self) -> None:
        """Close all descriptors. Changes nothing on the disk; whoever goes on opens them again."""
        with self._lock:
            for place in self._places.values():
                self._retire(place)
            self._places.clear()

    def create(self, key: str, name: str) -> str:
        """See `ByteStore.create`."""
        directory = os.path.join(self._data, key)
        place = _Place(name)
        with storage_errors("a new upload"):
            if not self._disk.mkdir(directory):
                raise Conflict(f"There is data of {key} already.")
            try:
                place.fd = self._disk.open(os.path.join(directory, name), create=True)
                place.slots = self._disk.open(os.path.join(directory, ".offset"), create=True)
                if self._sync:
                    self._disk.sync(place.fd)
                    self._disk.sync(place.slots)
                    self._disk.sync_directory(directory)
                    self._disk.sync_directory(self._data)
            except OSError:
                self._let_go(place)
                with suppress(OSError):  # the first error is the one to tell
                    self._delete(key)
                raise
        with self._lock:
            self._places[key] = place
            self._evict()
        return f"data/{key}/{name}"

    def append(self, key: str, offset: int, data: Buffer) -> None:
        """See `ByteStore.append`."""
        size = memoryview(data).nbytes
        with self._use(key) as place:
            if place.sealed or place.broken or place.slots < 0:
                raise _over(key)
            if offset != place.end:
                raise Conflict(f"{key} stands at {place.end}, not at {offset}.")
            with storage_errors("storing a chunk"), _Failing(self, place, offset):
                self._tidy(place)
                place.tail = True
                self._disk.write_at(place.fd, data, offset)
                place.tail = False
            place.end = offset + size

    def commit(self, key: str) -> int:
        """See `ByteStore.commit`."""
        with self._use(key) as place:
            if place.broken:
                raise _over(key)
            if place.end != place.recorded:
                with storage_errors("storing a chunk"), _Failing(self, place, place.recorded):
                    if self._sync:
                        self._disk.sync_data(place.fd)
                    self._record(place, place.end)
            return place.recorded

    def rollback(self, key: str) -> int:
        """See `ByteStore.rollback`."""
        with self._use(key) as place, storage_errors("taking back a chunk"):
            place.tail = place.tail or place.end != place.recorded
            place.end, place.sealed = place.recorded, False
            if not place.broken:
                self._tidy(place)
            return place.recorded

    def size(self, key: str) -> int:
        """See `ByteStore.size`."""
        with self._use(key) as place:
            return place.recorded

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """See `ByteStore.open`."""
        with storage_errors("reading an upload"):
            try:
                try:
                    fd = self._disk.open(os.path.join(self._data, key, self._name(key)))
                except FileNotFoundError:  # it may be getting its final name just now
                    fd = self._disk.open(os.path.join(self._data, key, self._listed(key)))
            except OSError as error:
                if error.errno == errno.ENOENT or error.errno in _FOREIGN:
                    raise _gone(key) from error
                raise
            with self._disk.stream(fd) as file:
                yield file

    def seal(self, key: str, name: str) -> str:
        """See `ByteStore.seal`."""
        with self._use(key) as place:
            if place.broken:
                raise _over(key)
            directory = os.path.join(self._data, key)
            with storage_errors("completing an upload"):
                with _Failing(self, place, place.recorded):
                    self._tidy(place)
                    if self._sync:
                        self._disk.sync_data(place.fd)
                if place.name != name:
                    self._disk.replace(os.path.join(directory, place.name), os.path.join(directory, name))
                    place.name = name
                if self._sync:
                    self._disk.sync_directory(directory)
            place.sealed = True
        return f"data/{key}/{name}"

    def close(self, key: str) -> None:
        """See `ByteStore.close`."""
        self._forget(key)
        with storage_errors("closing an upload"):
            self._disk.unlink(os.path.join(self._data, key, ".offset"))

    def delete(self, key: str) -> None:
        """See `ByteStore.delete`."""
        self._forget(key)
        with self._lock:
            self._names.pop(key, None)
        with storage_errors("deleting an upload"):
            self._delete(key)

    def _delete(self, key: str) -> None:
        directory = os.path.join(self._data, key)
        info = self._disk.info(directory)
        if info is not None and info.is_dir:
            self._empty(directory)
            self._disk.rmdir(directory)
        elif info is not None:
            self._disk.unlink(directory)
        if self._sync:  # also if it is gone: an earlier attempt may have got no further
            self._disk.sync_directory(self._data)

    def _empty(self, directory: str) -> None:
        for entry in self._disk.entries(directory):
            path = os.path.join(directory, entry.name)
            if entry.is_dir:
                self._empty(path)
                self._disk.rmdir(path)
            else:
                self._disk.unlink(path)

    def age_out(self, before: float) -> int:
        """Empty the quarantine of what came before; see `stagedoor.ports.Quarantine`."""
        with storage_errors("emptying the quarantine"):
            return _Quarantine(self._root, self._disk, self._sync).age_out(before)

    def free(self) -> int:
        """Bytes that may still be stored; see `stagedoor.ports.Room`."""
        with storage_errors("looking for room"):
            return self._disk.free(self._root)

    def recover(self, known: Mapping[str, State]) -> Recovered:
        """See `ByteStore.recover`."""
        uids = {key.partition(".")[0] for key in known}
        offsets: dict[str, int] = {}
        lost: dict[str, str] = {}
        quarantined: list[str] = []
        deleted: list[str] = []
        quarantine = _Quarantine(self._root, self._disk, self._sync)
        with storage_errors("recovering the uploads"):
            ours: set[str] = set()
            for entry in self._disk.entries(self._data):
                if entry.is_dir and entry.name in known:
                    ours.add(entry.name)
                elif entry.is_dir and (entry.name.partition(".")[0] in uids or self._is_unused(entry.name)):
                    self._delete(entry.name)  # a retry, or an initiation, was interrupted
                    deleted.append(f"data/{entry.name}")
                else:
                    quarantined.append(quarantine.add(os.path.join(self._data, entry.name)))
            if self._sync and any(known[key] is State.WAITFORCHUNK for key in ours):
                # A record that a killed process wrote and did not sync is told to clients from here on.
                self._disk.sync_all(self._root)
            for key, state in known.items():
                if key not in ours:
                    if state is not State.REMOVE:
                        lost[key] = "The uploaded data is gone from the disk."
                elif state is State.WAITFORCHUNK:
                    try:
                        offsets[key] = self._resume(key)
                    except DataLost as error:
                        lost[key] = error.sentence
                    except StorageError as error:
                        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EIO:
                            raise
                        lost[key] = error.sentence  # one bad sector does not stop the start
        return Recovered(offsets, lost, quarantined, deleted)

    def _is_unused(self, name: str) -> bool:
        """A place as `create` makes it, without a byte: the process ended before the task was on record."""
        directory = os.path.join(self._data, name)
        if not _KEY.fullmatch(name):
            return False
        infos = [self._disk.info(os.path.join(directory, entry.name)) for entry in self._disk.entries(directory)]
        return all(info is not None and info.is_file and info.size == 0 for info in infos)

    def _resume(self, key: str) -> int:
        with self._use(key) as place, storage_errors("recovering an upload"):
            if place.slots < 0:
                raise DataLost("There is no record of how many bytes are there.")
            if self._disk.info_of(place.fd).size > place.recorded:
                self._disk.truncate(place.fd, place.recorded)
            return place.recorded

    def _take_over(self, key: str, offset: int) -> None:
        """Put the first ``offset`` bytes of a file on record that somebody else has put into its place."""
        with self._use(key) as place, storage_errors("taking over an upload"):
            if place.slots < 0:
                directory = os.path.join(self._data, key)
                place.slots = self._disk.open(os.path.join(directory, ".offset"), create=True)
                place.recorded = 0
            self._record(place, offset)
            place.end, place.tail = offset, True
            self._tidy(place)

    # A place is opened once and kept; the engine sees to it that only one thread changes it at a time, the
    # count of users that nobody closes it meanwhile.

    def _use(self, key: str) -> _Use:
        with self._lock:
            place = self._places.get(key)
            if place is not None:
                place.users += 1
                self._places.move_to_end(key)
        if place is None:
            loaded = self._load(key)
            with self._lock:
                place = self._places.setdefault(key, loaded)
                place.users += 1
                self._evict()
            if place is not loaded:
                self._let_go(loaded)
        return _Use(self, place)

    def _used(self, place: _Place) -> None:
        with self._lock:
            place.users -= 1
            if place.retired:
                self._retire(place)

    def _evict(self) -> None:
        for key in list(self._places) if len(self._places) > self._limit else ():
            place = self._places[key]
            if place.idle:
                del self._places[key]
                self._let_go(place)
                if len(self._places) <= self._limit:
                    break

    def _forget(self, key: str) -> None:
        with self._lock:
            place = self._places.pop(key, None)
            if place is not None:
                self._names[key] = place.name
                if len(self._names) > _NAMES_KEPT:
                    self._names.popitem(last=False)
                self._retire(place)

    def _retire(self, place: _Place) -> None:
        """Close a place now, or when the last one who uses it is done: its descriptors may be others' by then."""
        place.retired = True
        if not place.users:
            self._let_go(place)

    def _let_go(self, place: _Place) -> None:
        for fd in (place.fd, place.slots):
            if fd >= 0:
                with suppress(OSError):  # closing tells of nothing that a sync has not told before
                    self._disk.close(fd)
        place.fd = place.slots = -1

    def _name(self, key: str) -> str:
        with self._lock:
            place = self._places.get(key)
            name = self._names.get(key) if place is None else place.name
        return self._listed(key) if name is None else name

    def _listed(self, key: str) -> str:
        try:
            entries = self._disk.entries(os.path.join(self._data, key))
        except NotADirectoryError:
            entries = []
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
        if len(names) > 1:  # a file manager may have left something beside it
            names = [name for name in names if _OURS.fullmatch(name)] or names
        if len(names) != 1:
            raise _gone(key) if not names else DataLost(f"The data of {key} is not one file.")
        return names[0]

    def _load(self, key: str) -> _Place:
        directory = os.path.join(self._data, key)
        with storage_errors("opening an upload"):
            place = _Place(self._listed(key))
            try:
                place.fd = self._disk.open(os.path.join(directory, place.name), write=True)
                with suppress(FileNotFoundError):
                    place.slots = self._disk.open(os.path.join(directory, ".offset"), write=True)
                size = self._disk.info_of(place.fd).size
                if place.slots < 0:
                    place.recorded = size
                else:
                    place.sequence, place.recorded, place.slot = self._read_slots(place.slots)
                if size < place.recorded:
                    raise DataLost(f"{place.recorded:,} bytes are on record, but only {size:,} are on the disk.")
            except OSError as error:
                self._let_go(place)
                if error.errno == errno.ENOENT or error.errno in _FOREIGN:
                    raise _gone(key) from error
                raise
            except DataLost:
                self._let_go(place)
                raise
        place.end = place.recorded
        return place

    def _read_slots(self, fd: int) -> tuple[int, int, int]:
        best = (0, 0, 1)
        for slot, at in enumerate(_SLOT_AT):
            raw = self._disk.read_at(fd, _SLOT.size, at)
            if len(raw) == _SLOT.size:
                magic, sequence, offset, check = _SLOT.unpack(raw)
                if magic == _SLOT_MAGIC and check == zlib.crc32(raw[:-4]):
                    best = max(best, (sequence, offset, slot))
        return best

    def _record(self, place: _Place, offset: int) -> None:
        """Put an offset on record. Even if that is torn or fails half-way, the slot of R holds."""
        place.sequence += 1
        raw = _SLOT.pack(_SLOT_MAGIC, place.sequence, offset, 0)[:-4]
        raw += zlib.crc32(raw).to_bytes(4, "little")
        place.doubtful = True
        self._disk.write_at(place.slots, raw, _SLOT_AT[1 - place.slot])
        if self._sync:
            self._disk.sync_data(place.slots)
        place.slot, place.recorded, place.doubtful = 1 - place.slot, offset, False

    def _failed(self, place: _Place, end: int, error: OSError) -> None:
        # What a failed sync lost stays lost, whatever the next one says: never again on this descriptor.
        # Where only room is missing, what was lost is written anew.
        place.broken = not is_full(error)
        place.tail = place.tail or place.end != end
        place.end, place.sealed = end, False
        if not place.broken and not place.doubtful:
            try:
                self._tidy(place)
            except OSError as second:
                log.error("cutting back after %s failed as well: %s", error, second)
        if error.errno in (errno.EMFILE, errno.ENFILE):  # nothing was opened: it is the disk that failed
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from error

    def _tidy(self, place: _Place) -> None:
        """Replace a record that failed, and cut away what nobody owns; in this order."""
        if place.doubtful:
            self._record(place, place.recorded)
            place.tail = True
        if place.tail:
            self._disk.truncate(place.fd, place.end)
            place.tail = False


class _Use:
    """Somebody uses a place. A class, as the next one, not a generator: each chunk goes through them."""

    __slots__ = ("_place", "_store")

    def __init__(self, store: LocalBytes, place: _Place) -> None:
        self._store, self._place = store, place

    def __enter__(self) -> _Place:
        return self._place

    def __exit__(self, *exc: object) -> None:
        self._store._used(self._place)


class _Failing:
    """After an error, nothing counts behind ``end``; the room that a failed write took is given back."""

    __slots__ = ("_end", "_place", "_store")

    def __init__(self, store: LocalBytes, place: _Place, end: int) -> None:
        self._store, self._place, self._end = store, place, end

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            self._store._failed(self._place, self._end, error)


def _over(key: str) -> Conflict:
    return Conflict(f"Nothing may be appended to {key} any more.")


def _gone(key: str) -> DataLost:
    return DataLost(f"The data of {key} is gone.")


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────


_KEYS: Final = frozenset({"schema", *(attribute.name for attribute in fields(UploadTask))})
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_UID: Final = re.compile(r"[0-9a-f]{32}")
_NUMBER: Final = (float, int)
_STATES = {state.value: state for state in State if state is not State.NOTEXISTING}
_TRIGGERS: dict[str | None, Trigger | None] = {None: None, **{t.value: t for t in Trigger}}


def _summary(task: UploadTask) -> Summary:
    return Summary(
        task.id, task.key, task.state, task.revision, task.updated, task.deadline, due(task), task.filesize,
        task.step.not_before if task.step else 0.0,
    )  # fmt: skip


class LocalTasks:
    """`TaskStore` in a directory: ``tasks/<id>.json``.

    An index of all tasks is in memory, a few hundred bytes each; documents are read when somebody wants them,
    and the ones used last stay parsed.

    Args:
        root: The uploads directory.
        durability: ``power`` syncs every document and its directory; ``process`` and ``none`` sync nothing.
        disk: The file calls.
        cached: How many parsed tasks are kept.
    """

    def __init__(
        self, root: str, *, durability: Durability = "power", disk: Disk | None = None, cached: int = 1024
    ) -> None:
        self._disk = disk or Disk()
        self._root = root
        self._directory = os.path.join(root, "tasks")
        self._sync = durability == "power"
        self._index: dict[str, Summary] = {}
        self._cache: OrderedDict[str, UploadTask] = OrderedDict()
        self._replacing: dict[str, UploadTask] = {}
        self._cached = cached
        self._lock = threading.Lock()
        with storage_errors("making the tasks directory"):
            self._disk.mkdir(self._directory)
            if self._sync:
                self._disk.sync_directory(root)

    def create(self, task: UploadTask) -> None:
        """See `TaskStore.create`."""
        with self._lock:
            if task.id in self._index:
                raise Conflict(f"There is an upload {task.id!r} already.")
        self._put(task, None)

    def get(self, uploadid: str) -> UploadTask | None:
        """See `TaskStore.get`."""
        while True:
            with self._lock:
                line = self._index.get(uploadid)
                # While a document is replaced, the new one is not durable, and nobody is told of it.
                task = self._replacing.get(uploadid) or self._cache.get(uploadid)
                if line is None or task is not None:
                    if uploadid in self._cache:
                        self._cache.move_to_end(uploadid)
                    return task if line is not None else None
            task = self._read(uploadid, line)
            with self._lock:
                if self._index.get(uploadid) is line and uploadid not in self._replacing:
                    if task is not None and (task.key, task.revision) == (line.key, line.revision):
                        self._remember(task)
                    return task
            # It was replaced or deleted meanwhile: look again.

    def _read(self, uploadid: str, line: Summary) -> UploadTask | None:
        path = self._path(uploadid)
        with storage_errors("reading a task"):
            try:
                return load(self._disk.read(path), expected_id=uploadid)
            except FileNotFoundError:
                with self._lock:
                    if self._index.get(uploadid) is line:
                        raise
                return None
            except InvalidDocument as error:
                # Its index line looked well at the start. One such document must not spoil every list of tasks.
                with self._lock:
                    if self._index.get(uploadid) is line and uploadid not in self._replacing:
                        log.error("%r is not used: %s", path, error.sentence)
                        del self._index[uploadid]
                        _Quarantine(self._root, self._disk, self._sync).add(path)
                return None

    def cas(self, task: UploadTask, expected_revision: int) -> None:
        """See `TaskStore.cas`."""
        before = self.get(task.id)
        if before is None or before.revision != expected_revision or before.uid != task.uid:
            raise Conflict(f"The upload {task.id!r} has changed meanwhile.")
        with self._lock:
            self._replacing[task.id] = before
        try:
            self._put(task, before)
        finally:
            with self._lock:
                del self._replacing[task.id]

    def list(self) -> Sequence[Summary]:
        """See `TaskStore.list`."""
        with self._lock:
            lines = list(self._index.values())
        return sorted(lines, key=lambda s: s.id)  # outside: 100,000 take some 50 ms

    def delete(self, uploadid: str) -> None:
        """See `TaskStore.delete`."""
        with self._lock:
            line = self._index.pop(uploadid, None)
            task = self._cache.pop(uploadid, None)
        try:
            with storage_errors("deleting a task"):
                self._disk.unlink(self._path(uploadid))
                if self._sync:
                    self._disk.sync_directory(self._directory)
        except UploadError:
            if line is not None:  # it may be there still: say so until it is gone for sure
                with self._lock:
                    self._index[uploadid] = line
                    if task is not None:  # who tries again has to find it, and the document may be gone by now
                        self._cache[uploadid] = task
            raise

    def recover(self) -> Sequence[str]:
        """See `TaskStore.recover`."""
        quarantined: list[str] = []
        quarantine = _Quarantine(self._root, self._disk, self._sync)
        index: dict[str, Summary] = {}
        with storage_errors("reading the tasks"):
            if self._sync:
                # A document that a killed process renamed and did not sync is told to clients from here on.
                self._disk.sync_directory(self._directory)
            for entry in self._disk.entries(self._directory):
                path = f"{self._directory}/{entry.name}"
                uploadid, dot, suffix = entry.name.rpartition(".")
                if entry.name.startswith(".") and suffix == "tmp" and entry.is_file:
                    self._disk.unlink(path)  # a temporary file of ours
                    continue
                try:
                    if not entry.is_file or not dot or suffix != "json":
                        raise InvalidDocument("It is not named like a task.")
                    index[uploadid] = self._scan(self._disk.read(path), uploadid)
                except InvalidDocument as error:
                    log.error("%r is not used: %s", path, error.sentence)
                    quarantined.append(quarantine.add(path))
                except OSError as error:
                    if error.errno not in (errno.EIO, errno.EACCES, errno.EPERM):
                        raise
                    # It may be readable tomorrow. To go on without it would make an orphan of its data today.
                    raise StorageError(
                        f"tasks/{entry.name} cannot be read: {os.strerror(error.errno)}. Mend the disk or the file's "
                        "permissions, or move the file away; its data then goes into quarantine."
                    ) from error
        with self._lock:
            self._index = index
            self._cache.clear()
        return quarantined

    def _scan(self, raw: bytes, uploadid: str) -> Summary:
        """An index line from a document, without making a task of it (64 µs a task count with 100,000)."""
        try:
            doc = orjson.loads(raw)
            step, uid, size, deadline = doc["step"], doc["uid"], doc["filesize"], doc["deadline"]
            offset, generation, revision = doc["offset"], doc["generation"], doc["revision"]
            updated, not_before = doc["updated"], 0.0 if step is None else step["not_before"]
            # Written out: as loops over the numbers these checks would take a sixth of the start.
            if (
                doc.keys() == _KEYS
                and type(doc["schema"]) is int
                and doc["schema"] == SCHEMA
                and doc["id"] == uploadid
                and _ID.fullmatch(uploadid)
                and _UID.fullmatch(uid)
                and type(offset) is int
                and type(generation) is int
                and type(revision) is int
                and (size is None or (type(size) is int and offset <= size))
                and offset >= 0
                and generation >= 0
                and revision >= 1
                and type(updated) in _NUMBER
                and type(not_before) in _NUMBER
                and (deadline is None or type(deadline) in _NUMBER)
            ):
                state = _STATES[doc["state"]]
                ending = due(Standing(state, offset, size, _TRIGGERS[doc["wanted"]]))
                key = f"{uid}.{generation}"
                return Summary(uploadid, key, state, revision, updated, deadline, ending, size, not_before)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            pass
        # Something is odd: let the real parser say what.
        return _summary(load(raw, expected_id=uploadid))

    def _path(self, uploadid: str) -> str:
        return os.path.join(self._directory, f"{uploadid}.json")

    def _put(self, task: UploadTask, before: UploadTask | None) -> None:
        path, raw = self._path(task.id), dump(task)
        try:
            write_document(self._disk, path, raw, sync=self._sync)
        except UploadError:
            self._put_back(path, raw, before)
            raise
        with self._lock:
            self._index[task.id] = _summary(task)
            self._remember(task)

    def _put_back(self, path: str, raw: bytes, before: UploadTask | None) -> None:
        """After an error, what the caller was not told of must not be there after the next start either."""
        with suppress(OSError, UploadError):  # the first error is the one to tell
            if self._disk.read(path) != raw:
                return
            if before is not None:
                write_document(self._disk, path, dump(before), sync=self._sync)
                return
            self._disk.unlink(path)
            if self._sync:
                self._disk.sync_directory(self._directory)

    def _remember(self, task: UploadTask) -> None:
        self._cache[task.id] = task
        self._cache.move_to_end(task.id)
        while len(self._cache) > self._cached:
            self._cache.popitem(last=False)


def write_document(disk: Disk, path: str, raw: bytes, *, sync: bool) -> None:
    """Replace a document so that a crash leaves the old one or the new one, never a torn one.

    Raises:
        StorageFull: No room; the old one stands.
        StorageError: The disk failed; the old one or the new one stands.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{threading.get_ident():x}.tmp")
    home = -1
    with storage_errors("recording a task"):
        try:
            fd = disk.open(temporary, create=True)
        except FileExistsError:  # of a process that was killed, or of a call that failed
            disk.unlink(temporary)
            fd = disk.open(temporary, create=True)
        try:
            try:
                disk.write_at(fd, raw, 0)
                if sync:
                    disk.sync(fd)
                    home = disk.open_directory(directory)
            finally:
                disk.close(fd)
            disk.replace(temporary, path)
            if sync:
                disk.sync(home)
        except OSError:
            with suppress(OSError):  # the first error is the one to tell
                disk.unlink(temporary)
            raise
        finally:
            if home >= 0:
                disk.close(home)


# ── uploads of MusicDB 7 ──────────────────────────────────────────────────────────────────────────────────────


def adopt_musicdb(
    root: str,
    *,
    durability: Durability = "power",
    disk: Disk | None = None,
    retention: Mapping[State, float | None] | None = None,
) -> int:
    """Take over the uploads directory of a MusicDB 7: rewrite its task files and put the data where ours is.

    A file that several tasks name is copied for each; the paths in the task files are not believed. May be
    interrupted and repeated; ``.adopting`` in the directory says that it was not finished.

    Args:
        root: The uploads directory.
        durability: As of the stores.
        disk: The file calls.
        retention: How long an upload may rest in a state, in seconds from now; for ever where nothing is said.

    Returns:
        How many tasks were taken over.
    """
    disk = disk or Disk()
    marker = os.path.join(root, ".adopting")
    with storage_errors("taking over the tasks of MusicDB"):
        # MusicDB keeps its data beside the tasks, where we keep none; to look into every document at each start
        # would double its time.
        names = {entry.name for entry in disk.entries(root) if entry.is_file}
        fresh = disk.info(os.path.join(root, "data")) is None
        if not (fresh or ".adopting" in names or any(_MUSICDB.fullmatch(name) for name in names)):
            return 0
        found = _musicdb_tasks(disk, os.path.join(root, "tasks"))
        if found and ".adopting" not in names:
            disk.close(disk.open(marker, create=True))
        if found:
            _adopt_all(disk, root, found, durability, retention or {})
        disk.unlink(marker)  # not synced: if a power cut brings it back, the next start looks once more
    return len(found)


_MUSICDB: Final = re.compile(r"[a-z]+-[0-9a-fA-F]{40}\.[^/]*")
"""Name of a file that MusicDB received."""


def _adopt_all(
    disk: Disk,
    root: str,
    found: Sequence[tuple[UploadTask, str]],
    durability: Durability,
    retention: Mapping[State, float | None],
) -> None:
    with storage_errors("taking over the tasks of MusicDB"):
        if durability == "power":
            disk.sync_all(root)  # MusicDB syncs nothing; and the marker
        store = LocalBytes(root, durability=durability, disk=disk)
        left = Counter(name for _, name in found)
        try:
            for task, name in found:
                left[name] -= 1
                keep = retention.get(task.state) if due(task) is None else None
                task = evolve(task, deadline=None if keep is None else time.time() + keep)
                _adopt(disk, root, store, task, name, last=not left[name], sync=durability == "power")
        finally:
            store.release()
    log.info("took over %d uploads from MusicDB 7", len(found))


def _musicdb_tasks(disk: Disk, directory: str) -> list[tuple[UploadTask, str]]:
    """The tasks that MusicDB wrote, each with the name of its file in the uploads directory."""
    found = []
    for entry in disk.entries(directory):
        uploadid = entry.name.removesuffix(".json")
        if not entry.is_file or uploadid == entry.name or entry.name.startswith("."):
            continue
        raw = disk.read(os.path.join(directory, entry.name))
        if raw.startswith(b'{"schema":'):  # our own documents start like this
            continue
        try:
            document = orjson.loads(raw)
            if isinstance(document, dict) and "schema" not in document:
                task = load(document, expected_id=uploadid)
                found.append((task, _musicdb_name(task)))
        except (orjson.JSONDecodeError, InvalidDocument):
            continue  # `LocalTasks.recover` says what is wrong with it
    return found


def _musicdb_name(task: UploadTask) -> str:
    """The file's name, from the scheme. Of the stored path only the case of letters and the extension are believed,
    for the scheme takes them from the checksum and the source file as they are.
    """
    stored = task.foreign.get("destinationpath")
    name = stored.replace("\\", "/").rpartition("/")[2] if isinstance(stored, str) else ""
    stem, _, extension = name.partition(".")
    scheme = task.destinationpath.partition(".")[0]
    return name if stem.lower() == scheme and re.fullmatch(r"[A-Za-z0-9]{0,16}", extension) else task.destinationpath


def _adopt(disk: Disk, root: str, store: LocalBytes, task: UploadTask, name: str, *, last: bool, sync: bool) -> None:
    """Move the file, or copy it unless it is the last task that needs it; then the document."""
    waiting = task.state is State.WAITFORCHUNK
    target = pending_name(task.contenttype, task.extension) if waiting else task.destinationpath
    data = os.path.join(root, "data")
    place = os.path.join(data, task.key)
    old, new = os.path.join(root, name), os.path.join(place, target)
    there = disk.info(new)
    info = disk.info(old)
    if info is not None and info.is_file:
        disk.mkdir(place)
        if sync:  # a file must not move to where a crash leaves nothing
            disk.sync_directory(data)
        if there is not None:  # an earlier run got this far
            if last:
                disk.unlink(old)
        elif last:
            disk.replace(old, new)
        else:
            _copy_file(disk, old, new, sync=sync)
        there = disk.info(new)
    offset = task.offset
    if waiting:
        offset = min(offset, there.size if there is not None else 0)
        if there is not None:
            store._take_over(task.key, offset)
    if sync and there is not None:
        disk.sync_directory(place)
    now = there.mtime if there is not None else time.time()
    task = evolve(
        task,
        destinationpath=f"data/{task.key}/{target}",
        offset=offset,
        created=now,
        updated=now,
        history=task.happened("recover", task.state, task.state, now, "taken over from MusicDB 7"),
    )
    write_document(disk, os.path.join(root, "tasks", f"{task.id}.json"), dump(task), sync=sync)


def _copy_file(disk: Disk, source: str, dest: str, *, sync: bool) -> None:
    temporary = os.path.join(os.path.dirname(dest), ".copy")
    disk.unlink(temporary)
    inp = disk.open(source)
    try:
        out = disk.open(temporary, create=True)
        try:
            at = 0
            while data := disk.read_at(inp, _COPY, at):
                disk.write_at(out, data, at)
                at += len(data)
            if sync:
                disk.sync(out)
        finally:
            disk.close(out)
    finally:
        disk.close(inp)
    disk.replace(temporary, dest)


# ── trees ─────────────────────────────────────────────────────────────────────────────────────────────────────

_KEPT: Final = ".kept"
_PATH: Final = ".path"


@define
class LocalTree:
    """`Tree` in a directory: the music directory, or the artwork directory.

    Args:
        name: ``music`` or ``artwork``; the ``root`` of what is placed here.
        root: The directory; made when it is not there.
        durability: ``none`` syncs nothing; what is visible in a library is durable with the other two.
        disk: The file calls.
    """

    name: str
    root: str
    durability: Durability = "power"
    disk: Disk = field(factory=Disk)
    _sync: bool = field(init=False)
    _turn: threading.Lock = field(factory=threading.Lock, init=False, repr=False, eq=False)
    """Held while names change: no upload takes a name that another one leaves free for a moment."""

    def __attrs_post_init__(self) -> None:
        self._sync = self.durability != "none"
        with storage_errors(f"making the {self.name} directory"):
            make_root(self.disk, self.root, sync=self._sync)

    def missing_directories(self, path: str) -> tuple[str, ...]:
        """See `Tree.missing_directories`."""
        with storage_errors(f"looking into the {self.name} directory"):
            self._at(path)
            return tuple(p for p in _parents(path) if self.disk.info(self._at(p)) is None)

    def exists(self, path: str) -> bool:
        """See `Tree.exists`."""
        with storage_errors(f"looking into the {self.name} directory"):
            return self.disk.info(self._at(path)) is not None

    def names(self, directory: str = "") -> Sequence[str]:
        """See `Tree.names`."""
        with storage_errors(f"looking into the {self.name} directory"):
            if directory:
                self._at(f"{directory}/x")  # refuses what is no directory
            # The root itself may be a link.
            found = self.disk.entries(os.path.join(self.root, directory or "."))
            return tuple(sorted(entry.name for entry in found if not entry.name.startswith(".")))

    def place(
        self, uid: str, path: str, source: BinaryIO, sha256: str | None = None, *, replace: bool = False
    ) -> PlacedFile:
        """See `Tree.place`."""
        with storage_errors(f"putting a file into the {self.name} directory"):
            hidden, dest = self._hidden(uid, path), self._at(path)
            if self._mine(uid, path) is not None:
                size, found = self._measure(dest)
            else:
                self._forget(hidden)
                there = self.disk.info(dest)
                if there is not None and not (replace and there.is_file):
                    raise _taken(path)
                try:
                    self._make_hidden(uid)
                    size, found = self._copy(source, hidden)
                    if sha256 in (None, found):
                        self._show(uid, path, replace)
                except (OSError, UploadError):
                    self._take_back(uid, path)
                    raise
            if sha256 not in (None, found):
                self._take_back(uid, path)
                raise DataLost(
                    f"What was to become {path} has changed since it was verified; it is not in the library."
                )
            replaced = None
            try:
                if self._sync:
                    self.disk.sync_directory(os.path.dirname(dest))
                kept = self._kept(uid, path)
                if self.disk.info(kept) is not None:
                    if self._sync:  # an exchange of two names is durable when both directories are
                        self.disk.sync_directory(os.path.dirname(hidden))
                    replaced = self._measure(kept)[1]
            except OSError:
                self._take_back(uid, path)
                raise
        return PlacedFile(self.name, path, size, found, replaced)

    def settle(self, uid: str) -> None:
        """See `Tree.settle`. Nothing is synced: what a crash brings back is found by `unsettled`."""
        with storage_errors(f"cleaning the {self.name} directory"):
            directory = self._at(f".stagedoor/{uid}")
            for note in self._loose(uid):
                self.disk.unlink(os.path.join(directory + _KEPT, note))
            self.disk.rmdir(directory + _KEPT)
            waiting = self._waiting(uid)
            for entry in self.disk.entries(directory):
                if entry.name not in waiting:
                    self.disk.unlink(os.path.join(directory, entry.name))
            self.disk.rmdir(directory)
            self.disk.rmdir(self._at(".stagedoor"))

    def discard(self, uid: str) -> None:
        """See `Tree.discard`."""
        with storage_errors(f"cleaning the {self.name} directory"):
            for path in self._waiting(uid).values():  # nobody undoes it any more, and there must be one of both
                with self._turn:
                    self._put_back(uid, path)
            directory = self._at(f".stagedoor/{uid}{_KEPT}")
            for entry in self.disk.entries(directory):
                self.disk.unlink(os.path.join(directory, entry.name))
            self.disk.rmdir(directory)
            if self._sync:  # also if it is gone: an earlier attempt may have got no further
                try:
                    self.disk.sync_directory(os.path.dirname(directory))
                except FileNotFoundError:
                    self.disk.sync_directory(self.root)
            self.disk.rmdir(os.path.dirname(directory))

    def unsettled(self) -> Sequence[str]:
        """See `Tree.unsettled`."""
        with storage_errors(f"looking into the {self.name} directory"):
            hidden = self.disk.info(self._at(".stagedoor"))
            if hidden is None or not hidden.is_dir:
                return ()
            found = {entry.name for entry in self.disk.entries(self._at(".stagedoor")) if entry.is_dir}
            journals = {name.removesuffix(_KEPT) for name in found if name.endswith(_KEPT)}
            # The notes of old files that were given back may have come back alone.
            loose = {uid for uid in journals if self._loose(uid) or not self._names_kept(uid)}
            return sorted({name for name in found if not name.endswith(_KEPT)} | loose)

    def kept(self, known: Container[str] = ()) -> Mapping[str, Sequence[KeptFile]]:
        """See `Keeper.kept`."""
        with storage_errors(f"looking into the {self.name} directory"):
            hidden = self.disk.info(self._at(".stagedoor"))
            if hidden is None or not hidden.is_dir:
                return {}
            found = {uid: self._files_kept(uid) for uid in self._keepers() if uid not in known}
            return {uid: files for uid, files in found.items() if files}

    def _keepers(self) -> Sequence[str]:
        """The uids that have a journal of what they replaced."""
        names = sorted(entry.name for entry in self.disk.entries(self._at(".stagedoor")) if entry.is_dir)
        return [name.removesuffix(_KEPT) for name in names if name.endswith(_KEPT)]

    def _files_kept(self, uid: str) -> Sequence[KeptFile]:
        directory, files = f".stagedoor/{uid}{_KEPT}", []
        for name in sorted(self._names_kept(uid)):
            if not name.endswith(_PATH):
                path = b""
                with suppress(OSError):  # whoever looks for the file wants to hear of it all the same
                    path = self.disk.read(self._at(f"{directory}/{_note_of(name)}"))
                files.append(KeptFile(path.decode("utf-8", "replace"), f"{directory}/{name}"))
        return sorted(files, key=lambda file: (file.path, file.at))

    def _loose(self, uid: str) -> Sequence[str]:
        """Notes of old files that are not there any more."""
        names = self._names_kept(uid)
        notes = names - {_note_of(name) for name in names if not name.endswith(_PATH)}
        return sorted(note for note in notes if note.endswith(_PATH))

    def _names_kept(self, uid: str) -> Set[str]:
        return {entry.name for entry in self.disk.entries(self._at(f".stagedoor/{uid}{_KEPT}")) if entry.is_file}

    def withdraw(self, uid: str, paths: Iterable[str], directories: Iterable[str]) -> None:
        """See `Tree.withdraw`."""
        with storage_errors(f"cleaning the {self.name} directory"):
            settled = self.disk.info(self._at(f".stagedoor/{uid}")) is None
            for path in paths:
                with self._turn:
                    if self._mine(uid, path) is not None:
                        self.disk.unlink(self._at(path))
                    if not settled:
                        self._put_back(uid, path)
                self._sync_parent(path)  # also if it is gone: an earlier attempt may have got no further
        self.settle(uid)
        self._remove_empty(directories)

    def check(self, uid: str, file: PlacedFile) -> bool:
        """See `Tree.check`."""
        with storage_errors(f"reading the {self.name} directory"):
            info = self.disk.info(self._at(file.path))
            if info is None or not self._has(uid, file.path):
                return True
            if not info.is_file or info.size != file.size:
                return False
            try:
                return self._measure(self._at(file.path))[1] == file.sha256 and not self._is_kept(uid, file)
            except FileNotFoundError:  # somebody was faster
                return True

    def _is_kept(self, uid: str, file: PlacedFile) -> bool:
        """Whether another upload has replaced our file and keeps it: what looks like it is that other's, then."""
        if self.disk.info(self._kept(uid, file.path)) is not None:
            return False  # we came later
        for other in self._keepers():
            info = self.disk.info(kept := self._kept(other, file.path))
            if info is not None and info.size == file.size and self._measure(kept)[1] == file.sha256:
                return True
        return False

    def holds(self, uid: str, file: PlacedFile) -> bool:
        """See `Tree.holds`."""
        with storage_errors(f"looking into the {self.name} directory"):
            return self._has(uid, file.path) or file.path in self._waiting(uid).values()

    def _has(self, uid: str, path: str) -> bool:
        taken = self.disk.info(self._hidden(uid, path) + ".taken")
        info = self.disk.info(self._at(path))
        return info is not None and (taken is None or (taken.device, taken.inode) == (info.device, info.inode))

    def _waiting(self, uid: str) -> Mapping[str, str]:
        """Where an interrupted `remove` has taken our file and not brought the old one back: the paths, which are
        free, by the name of what says so in hiding.
        """
        found: dict[str, str] = {}
        for name in self._names_kept(uid):
            if "." in name:  # a note, or nobody's to bring back
                continue
            taken = f"{name}.taken"
            if self.disk.info(self._at(f".stagedoor/{uid}/{taken}")) is None:
                continue
            with suppress(FileNotFoundError):
                path = self.disk.read(self._at(f".stagedoor/{uid}{_KEPT}/{name}{_PATH}")).decode("utf-8", "replace")
                if self._kept(uid, path).endswith(f"/{name}") and self.disk.info(self._at(path)) is None:
                    found[taken] = path
        return found

    def remove(self, uid: str, files: Iterable[PlacedFile], directories: Iterable[str]) -> None:
        """See `Tree.remove`. A file is linked into hiding before its name goes: who repeats this knows it again."""
        files = list(files)
        for file in files:
            if not self.check(uid, file):
                raise _changed(file.path)
        with storage_errors(f"taking files out of the {self.name} directory"):
            for file in files:
                with self._turn:
                    self._take(uid, file)
                    self._put_back(uid, file.path)
            for parent in {os.path.dirname(file.path): file.path for file in files}.values():
                self._sync_parent(parent)
        self._remove_empty(directories)

    def _take(self, uid: str, file: PlacedFile) -> None:
        at, taken = self._at(file.path), self._hidden(uid, file.path) + ".taken"
        ours = self.disk.info(taken)
        if ours is None:
            gone = self.disk.info(at) is None
            if gone and self.disk.info(self._kept(uid, file.path)) is None:
                return
            self._make_hidden(uid)
            if gone:  # what comes back now must not be taken for ours, changed, by who repeats this
                self._note(taken, "gone")
            elif not self.disk.link(at, taken):
                self.disk.rename_exclusive(at, taken)
            ours = self.disk.info(taken)
            if not gone and self._measure(taken)[1] != file.sha256:  # somebody was faster than the check
                if self.disk.info(at) is None:
                    self.disk.rename_exclusive(taken, at)
                else:
                    self.disk.unlink(taken)
                raise _changed(file.path)
        if self._sync:  # also if it is there: whoever linked it may have been stopped before this
            self.disk.sync_directory(os.path.dirname(taken))
        if _same(self.disk.info(at), ours):
            self.disk.unlink(at)

    def _remove_empty(self, directories: Iterable[str]) -> None:
        with storage_errors(f"cleaning the {self.name} directory"):
            for path in sorted(directories, key=lambda p: p.count("/"), reverse=True):
                self.disk.rmdir(self._at(path))
                self._sync_parent(path)

    def _sync_parent(self, path: str) -> None:
        """Make it durable that a name is gone; where its directory is gone as well, there is nothing to do."""
        parent = os.path.dirname(self._at(path))
        if self._sync:
            with suppress(FileNotFoundError):
                self.disk.sync_directory(parent)

    def _at(self, path: str) -> str:
        """The absolute path; refuses what leads out of the tree, by name or by a symbolic link on the way."""
        parts = path.split("/")
        if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise StorageError(f"{path[:80]!r} leads out of the {self.name} directory.", code="unsafe_path")
        at = self.root
        for part in parts[:-1]:
            at = os.path.join(at, part)
            info = self.disk.info(at)
            if info is None:
                break
            if not info.is_dir:
                raise StorageError(
                    f"{os.path.relpath(at, self.root)} is in the way: it is no directory of the {self.name} tree "
                    "(links are not followed). Move it away, or choose other names.",
                    code="unsafe_path",
                )
        return os.path.join(self.root, *parts)

    def _hidden(self, uid: str, path: str) -> str:
        return self._at(f".stagedoor/{uid}/{_digest(path)}")

    def _kept(self, uid: str, path: str) -> str:
        return self._at(f".stagedoor/{uid}{_KEPT}/{_digest(path)}")

    def _mine(self, uid: str, path: str) -> FileInfo | None:
        """The file at a path if it is the copy that we made for an upload and have not settled."""
        info = self.disk.info(self._at(path))
        if info is None or not info.is_file:
            return None
        hidden = self._hidden(uid, path)
        copy = self.disk.info(hidden)
        if copy is not None:
            return info if _same(copy, info) else None
        with suppress(FileNotFoundError):
            noted = self.disk.read(hidden + ".renamed").decode("ascii", "replace")
            return info if noted == f"{info.device} {info.inode} {info.size}" else None
        return None

    def _take_back(self, uid: str, path: str) -> None:
        """After an error: nothing of it stays visible, also if a call did more than it said."""
        with suppress(OSError, StorageError), self._turn:  # the first error is the one to tell
            if self._mine(uid, path) is not None:
                self.disk.unlink(self._at(path))
            self._put_back(uid, path)
            self._forget(self._hidden(uid, path))

    def _forget(self, hidden: str) -> None:
        self.disk.unlink(hidden)
        self.disk.unlink(hidden + ".swap")
        self.disk.unlink(hidden + ".taken")
        self.disk.unlink(hidden + ".renamed")

    def _show(self, uid: str, path: str, replace: bool) -> None:
        """Give the whole copy its name in the tree."""
        with self._turn:
            if replace and self._replace(uid, path):
                return
            if not self._give(self._hidden(uid, path), path, ours=True):
                raise _taken(path)

    def _replace(self, uid: str, path: str) -> bool:
        """Move an old file into the journal, and give its name to our copy, which is whole and durable by now.

        The old file gets a second name in the journal, durably, and only then loses the first one: by an exchange of
        names in one step, so that there is always a file under the name; what somebody put there at the last moment
        comes out of the exchange, and is put back. Without such a call (NFS) ours is renamed over the old file.
        Without links the old file is moved, and there is none under the name until ours is: for a sync and a rename.

        Returns:
            ``False`` when our copy is yet to be given the name, which is free now.
        """
        hidden, dest, kept = self._hidden(uid, path), self._at(path), self._kept(uid, path)
        old, held, linked = self.disk.info(dest), self.disk.info(kept), False
        if old is None and held is None:
            return False
        if old is not None:
            if not old.is_file:
                raise _taken(path)
            if any(self._mine(other, path) is not None for other in self.unsettled() if other != uid):
                raise _busy(path)
            self._make_hidden(uid + _KEPT)
            self._tell(kept, path)
            linked = _same(held, old)  # an attempt before this one got no further
            if not linked:
                if held is not None:
                    self._set_aside(kept, path)
                linked = self.disk.link(dest, kept)
                if not linked:
                    if self._sync:  # the note first
                        self.disk.sync_directory(os.path.dirname(kept))
                    self._move(dest, kept)
        if self._sync:  # also if it was moved before: whoever did may have been stopped before this
            self.disk.sync_directory(os.path.dirname(kept))
        held = self.disk.info(kept)
        if held is None or not held.is_file:  # somebody was faster, with a directory or a link
            raise _taken(path)
        if not linked:
            return False
        swap = hidden + ".swap"
        self.disk.link(hidden, swap)
        if self.disk.exchange(swap, dest):
            if not _same(self.disk.info(swap), held):
                self.disk.exchange(swap, dest)
                raise _taken(path)
        else:
            if not _same(self.disk.info(dest), held):
                raise _taken(path)
            self.disk.replace(swap, dest)
        return True

    def _tell(self, kept: str, path: str) -> None:
        """Note the name of an old file, for who finds it without the upload. A note that is there is never torn."""
        fresh = f"{kept}.new{_PATH}"
        self.disk.unlink(fresh)
        self._note(fresh, path)
        self.disk.replace(fresh, kept + _PATH)

    def _put_back(self, uid: str, path: str) -> None:
        """Give an old file its name again. If somebody else has it, the file stays in the journal."""
        dest, kept = self._at(path), self._kept(uid, path)
        old = self.disk.info(kept)
        if old is None:
            return
        if not self._give(kept, path, ours=False) and not _same(self.disk.info(dest), old):
            self._set_aside(kept, path)
            return
        if self._sync:
            self.disk.sync_directory(os.path.dirname(dest))
        self.disk.unlink(kept)
        if self._sync:
            self.disk.sync_directory(os.path.dirname(kept))

    def _set_aside(self, kept: str, path: str) -> None:
        """Keep an old file whose name somebody else has: it is nobody's to bring back, and waits for `discard`."""
        number = 1
        while self.disk.info(f"{kept}.{number}") is not None:
            number += 1
        self.disk.replace(kept, f"{kept}.{number}")
        if self._sync:
            self.disk.sync_directory(os.path.dirname(kept))
        log.warning("somebody else has the name %r now; the file that had it before is %r", path, f"{kept}.{number}")

    def _give(self, source: str, path: str, *, ours: bool) -> bool:
        """Give a hidden file its name in the tree; ``False`` if the name is taken."""
        dest = self._at(path)
        for attempt in range(_ATTEMPTS):
            try:
                self._make_parents(path)
                try:
                    if not self.disk.link(source, dest):
                        if ours:  # it leaves hiding: note who it is, for who wants to adopt it
                            info = self.disk.info(source)
                            assert info is not None
                            self.disk.unlink(source + ".renamed")
                            self._note(source + ".renamed", f"{info.device} {info.inode} {info.size}")
                            if self._sync:
                                self.disk.sync_directory(os.path.dirname(source))
                        self._move(source, dest)
                except FileExistsError:
                    return False
                return True
            except FileNotFoundError:
                # Another upload was taken back just now, and the empty directory with it.
                if attempt + 1 == _ATTEMPTS:
                    raise
        return False

    def _note(self, path: str, text: str) -> None:
        fd = self.disk.open(path, create=True)
        try:
            self.disk.write_at(fd, text.encode(), 0)
            if self._sync:
                self.disk.sync(fd)
        finally:
            self.disk.close(fd)

    def _move(self, source: str, dest: str) -> None:
        """For file systems without links: move, never replacing."""
        try:
            self.disk.rename_exclusive(source, dest)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EINVAL):
                log.error("the file system of %r has neither hard links nor a rename that never replaces", self.root)
                raise ConfigurationError(  # clients read it: no path of the server
                    f"The file system of the {self.name} directory has neither hard links nor a rename that never "
                    "replaces. Put the library on another file system."
                ) from error
            raise

    def _make_parents(self, path: str) -> None:
        for parent in _parents(path):
            at = self._at(parent)
            self._at(parent + "/x")  # refuses a link in the way
            self.disk.mkdir(at)
            if self._sync:  # also if it is there: whoever made it may have been stopped before this
                self.disk.sync_directory(os.path.dirname(at))

    def _make_hidden(self, uid: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                self.disk.mkdir(self._at(".stagedoor"))
                self.disk.mkdir(self._at(f".stagedoor/{uid}"))
            except FileNotFoundError:  # another upload was settled just now, and took the empty directory away
                continue
            if self._sync:
                self.disk.sync_directory(self._at(".stagedoor"))
                self.disk.sync_directory(self.root)
            return
        log.error("a working directory in %r cannot be made", self.root)
        raise StorageError(f"A working directory in the {self.name} directory cannot be made.")

    def _copy(self, source: BinaryIO, hidden: str) -> tuple[int, str]:
        fd = self.disk.open(hidden, create=True)
        try:
            digest, at = hashlib.sha256(), 0
            whole = source.seekable()
            if whole:
                source.seek(0)
            cloned = whole and _is_file(source) and self.disk.clone(source.fileno(), fd)
            while data := source.read(_COPY):
                digest.update(data)
                if not cloned:
                    self.disk.write_at(fd, data, at)
                at += len(data)
            if self._sync:
                self.disk.sync(fd)
        finally:
            self.disk.close(fd)
        if self._sync:
            self.disk.sync_directory(os.path.dirname(hidden))
        return at, digest.hexdigest()

    def _measure(self, path: str) -> tuple[int, str]:
        fd = self.disk.open(path)
        try:
            digest, at = hashlib.sha256(), 0
            while data := self.disk.read_at(fd, _COPY, at):
                digest.update(data)
                at += len(data)
        finally:
            self.disk.close(fd)
        return at, digest.hexdigest()


def _is_file(source: BinaryIO) -> bool:
    """Whether what a stream reads is what its descriptor has; that of a packed file has the packed bytes."""
    raw = source.raw if isinstance(source, io.BufferedReader) else source
    return type(raw) is io.FileIO


def _same(one: FileInfo | None, other: FileInfo | None) -> bool:
    """Whether two names are those of one file."""
    return one is not None and other is not None and (one.device, one.inode) == (other.device, other.inode)


def _digest(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def _note_of(name: str) -> str:
    """What has the path of a kept file; those of one path have one note, and a number behind the name."""
    return name.partition(".")[0] + _PATH


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]


def _busy(path: str) -> Conflict:
    """What is not on record yet is nobody's to replace: it may be taken back, and must not be brought back then."""
    return Conflict(f"Another upload is just putting its file {path} into the library.")


def _changed(path: str) -> Conflict:
    return Conflict(
        f"{path} has changed since it was placed; it is kept. Remove it by hand if it is not wanted.",
        code="changed_since",
    )


def _taken(path: str) -> Conflict:
    return Conflict(
        f"There is a file {path} in the library already; it was not touched. Change the annotations, or remove the "
        "upload.",
        code="destination_exists",
    )
