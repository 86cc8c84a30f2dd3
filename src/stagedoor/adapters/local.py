"""Adapters for a local directory: bytes, tasks, and the trees of the library.

The uploads directory::

    <uploads>/
      .lock                      one process owns the directory
      tasks/<id>.json            one document a task
      data/<uid>.<generation>/   the bytes, under the name that the specification gives them
        video-<sha1>.mp4
        .offset                  how much of it is on record, while chunks are expected
      quarantine/                what nobody owns, until it ages out

A library tree has, while something is being placed, ``.stagedoor/<uid>/`` with the copies that become visible
by a link, or, where there are no links, by a rename that never replaces.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import logging
import os
import struct
import threading
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, Literal, TypeAlias

import orjson
from attrs import define, field

from ..errors import ConfigurationError, Conflict, DataLost, InUse, StorageError, StorageFull
from ..lifecycle import Standing, State, Trigger, due
from ..ports import Buffer, Recovered, Summary
from ..tasks import SCHEMA, InvalidDocument, PlacedFile, UploadTask, dump, evolve, load
from .disk import Disk, FileInfo, storage_errors

__all__ = ["DirectoryLock", "Durability", "LocalBytes", "LocalTasks", "LocalTree", "adopt_musicdb"]

log = logging.getLogger(__name__)

Durability: TypeAlias = Literal["power", "process", "none"]
"""What an acknowledgement survives: a power cut, a killed process, or nothing in particular."""

_COPY: Final = 1 << 20
_QUARANTINE: Final = "quarantine"


class DirectoryLock:
    """One process a directory: a lock on a file that is never unlinked.

    Raises:
        InUse: Another process, or another `Uploads` of this one, owns the directory.
    """

    def __init__(self, root: str) -> None:
        self.path = os.path.join(root, ".lock")
        with storage_errors("locking the uploads directory"):
            os.makedirs(root, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise ConfigurationError(f"{self.path} cannot be locked: {os.strerror(error.errno or 0)}.") from error
            raise InUse(
                f"The uploads directory {root} is in use by process {owner or 'unknown'}. "
                "Stop that process, or talk to it instead."
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Give the directory free."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Quarantine:
    """Where things go that nobody owns. Names get the time of their arrival in front, and age out by it."""

    def __init__(self, root: str, disk: Disk, sync: bool) -> None:
        self._root, self._disk, self._sync = root, disk, sync

    def add(self, path: str) -> str:
        directory = os.path.join(self._root, _QUARANTINE)
        if self._disk.mkdir(directory) and self._sync:
            self._disk.sync_directory(self._root)
        base = f"{int(time.time())}-{os.path.basename(path)}"
        name, n = base, 0
        while self._disk.info(os.path.join(directory, name)) is not None:
            n += 1
            name = f"{base}.{n}"
        self._disk.replace(path, os.path.join(directory, name))
        if self._sync:
            self._disk.sync_directory(directory)
            self._disk.sync_directory(os.path.dirname(path))
        log.error("%s belongs to no upload; it was moved to %s", path, os.path.join(directory, name))
        return f"{_QUARANTINE}/{name}"


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

_SLOT: Final = struct.Struct("<4sQQI")
_SLOT_MAGIC: Final = b"SDR1"
_SLOT_AT: Final = (0, 4096)
"""Two slots in two blocks, written in turn: whatever a crash does to one, the other still holds."""


@define
class _Place:
    """An upload's bytes that somebody works with."""

    path: str
    fd: int = -1
    slots: int = -1
    recorded: int = 0
    end: int = 0
    sequence: int = 0
    sealed: bool = False
    broken: bool = False
    users: int = 0


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
        self._lock = threading.Lock()
        with storage_errors("making the data directory"):
            if self._disk.mkdir(self._data) and self._sync:
                self._disk.sync_directory(root)

    def create(self, key: str, name: str) -> str:
        """See `ByteStore.create`."""
        directory = os.path.join(self._data, key)
        with storage_errors("a new upload"):
            if not self._disk.mkdir(directory):
                raise Conflict(f"There is data of {key} already.")
            try:
                fd = self._disk.open(os.path.join(directory, name), create=True)
                if self._sync:
                    self._disk.sync(fd)
                    self._disk.sync_directory(directory)
                    self._disk.sync_directory(self._data)
            except OSError:
                self._delete(key)
                raise
        with self._lock:
            self._places[key] = _Place(name, fd)
            self._evict()
        return f"data/{key}/{name}"

    def append(self, key: str, offset: int, data: Buffer) -> None:
        """See `ByteStore.append`."""
        with self._use(key) as place:
            if place.sealed or place.broken:
                raise Conflict(f"Nothing may be appended to {key} any more.")
            if offset != place.end:
                raise Conflict(f"{key} stands at {place.end}, not at {offset}.")
            try:
                self._disk.write_at(place.fd, data, offset)
            except OSError as error:
                self._cut(place, error)
                with storage_errors("storing a chunk"):
                    raise
            place.end = offset + len(data)

    def commit(self, key: str) -> int:
        """See `ByteStore.commit`."""
        with self._use(key) as place:
            if place.end == place.recorded:
                return place.recorded
            try:
                if self._sync:
                    self._disk.sync_data(place.fd)
                self._record(key, place, place.end)
            except OSError as error:
                # What a failed sync lost stays lost, whatever the next one says: never again on this descriptor.
                place.broken = error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
                self._cut(place, error)
                with storage_errors("storing a chunk"):
                    raise
            return place.recorded

    def rollback(self, key: str) -> int:
        """See `ByteStore.rollback`."""
        with self._use(key) as place, storage_errors("taking back a chunk"):
            if place.end != place.recorded:
                self._disk.truncate(place.fd, place.recorded)
                place.end = place.recorded
            place.sealed = False
            return place.recorded

    def size(self, key: str) -> int:
        """See `ByteStore.size`."""
        with self._use(key) as place:
            return place.recorded

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """See `ByteStore.open`."""
        path = os.path.join(self._data, key, self._name(key))
        try:
            fd = self._disk.open(path)
        except FileNotFoundError as error:
            raise DataLost(f"The data of {key} is gone.") from error
        except OSError:
            with storage_errors("reading an upload"):
                raise
        with io.FileIO(fd, "rb", closefd=True) as file, storage_errors("reading an upload"):
            yield file

    def seal(self, key: str, name: str) -> str:
        """See `ByteStore.seal`."""
        with self._use(key) as place:
            directory = os.path.join(self._data, key)
            with storage_errors("completing an upload"):
                if self._sync and place.end != place.recorded:
                    try:
                        self._disk.sync_data(place.fd)
                    except OSError:
                        place.broken = True
                        raise
                if place.path != name:
                    self._disk.replace(os.path.join(directory, place.path), os.path.join(directory, name))
                    place.path = name
                    if self._sync:
                        self._disk.sync_directory(directory)
            place.sealed = True
        return f"data/{key}/{name}"

    def close(self, key: str) -> None:
        """See `ByteStore.close`."""
        with self._lock:
            place = self._places.pop(key, None)
        had_slots = place is None or place.slots >= 0
        if place is not None:
            self._let_go(place)
        if had_slots:
            with storage_errors("closing an upload"):
                self._disk.unlink(os.path.join(self._data, key, ".offset"))

    def delete(self, key: str) -> None:
        """See `ByteStore.delete`."""
        with self._lock:
            place = self._places.pop(key, None)
        if place is not None:
            self._let_go(place)
        with storage_errors("deleting an upload"):
            self._delete(key)

    def _delete(self, key: str) -> None:
        directory = os.path.join(self._data, key)
        for entry in self._disk.entries(directory):
            self._disk.unlink(os.path.join(directory, entry.name))
        if self._disk.rmdir(directory) and self._sync:
            self._disk.sync_directory(self._data)

    def free(self) -> int:
        """Bytes that may still be stored; see `stagedoor.engine.Room`."""
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
            found = {entry.name: entry for entry in self._disk.entries(self._data)}
            for name, entry in found.items():
                if name in known and entry.is_dir:
                    continue
                if entry.is_dir and name.partition(".")[0] in uids:
                    self._delete(name)  # another generation: a retry was interrupted
                    deleted.append(f"data/{name}")
                else:
                    quarantined.append(quarantine.add(os.path.join(self._data, name)))
            for key, state in known.items():
                if key not in found:
                    if state is not State.REMOVE:
                        lost[key] = "The uploaded data is gone from the disk."
                elif state is State.WAITFORCHUNK:
                    try:
                        with self._use(key) as place:
                            if self._disk.info_of(place.fd).size > place.recorded:
                                self._disk.truncate(place.fd, place.recorded)
                            offsets[key] = place.recorded
                    except DataLost as error:
                        lost[key] = error.sentence
        return Recovered(offsets, lost, quarantined, deleted)

    # A place is opened once and kept; the engine sees to it that only one thread changes it at a time, the
    # count of users that nobody closes it meanwhile.

    @contextmanager
    def _use(self, key: str) -> Iterator[_Place]:
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
        try:
            yield place
        finally:
            with self._lock:
                place.users -= 1

    def _evict(self) -> None:
        for key in list(self._places) if len(self._places) > self._limit else ():
            place = self._places[key]
            if not place.users and place.end == place.recorded and not place.broken:
                del self._places[key]
                self._let_go(place)
                if len(self._places) <= self._limit:
                    break

    def _let_go(self, place: _Place) -> None:
        for fd in (place.fd, place.slots):
            if fd >= 0:
                with suppress(OSError):  # closing tells of nothing that a sync has not told before
                    self._disk.close(fd)
        place.fd = place.slots = -1

    def _name(self, key: str) -> str:
        with self._lock:
            place = self._places.get(key)
        if place is not None:
            return place.path
        with storage_errors("looking for an upload"):
            names = [e.name for e in self._disk.entries(os.path.join(self._data, key)) if not e.name.startswith(".")]
        if len(names) != 1:
            raise DataLost(f"The data of {key} is gone." if not names else f"The data of {key} is not one file.")
        return names[0]

    def _load(self, key: str) -> _Place:
        name = self._name(key)
        directory = os.path.join(self._data, key)
        try:
            fd = self._disk.open(os.path.join(directory, name), write=True)
        except FileNotFoundError as error:
            raise DataLost(f"The data of {key} is gone.") from error
        except OSError:
            with storage_errors("opening an upload"):
                raise
        place = _Place(name, fd)
        try:
            with storage_errors("opening an upload"):
                with suppress(FileNotFoundError):
                    place.slots = self._disk.open(os.path.join(directory, ".offset"), write=True)
                if place.slots >= 0:
                    place.sequence, place.recorded = self._read_slots(place.slots)
                size = self._disk.info_of(fd).size
            if size < place.recorded:
                raise DataLost(f"{place.recorded:,} bytes are on record, but only {size:,} are on the disk.")
        except (StorageError, StorageFull, DataLost):
            self._let_go(place)
            raise
        place.end = place.recorded
        return place

    def _read_slots(self, fd: int) -> tuple[int, int]:
        best = (0, 0)
        for at in _SLOT_AT:
            raw = self._disk.read_at(fd, _SLOT.size, at)
            if len(raw) == _SLOT.size:
                magic, sequence, offset, check = _SLOT.unpack(raw)
                if magic == _SLOT_MAGIC and check == zlib.crc32(raw[:-4]):
                    best = max(best, (sequence, offset))
        return best

    def _record(self, key: str, place: _Place, offset: int) -> None:
        directory = os.path.join(self._data, key)
        new = place.slots < 0
        if new:
            place.slots = self._disk.open(os.path.join(directory, ".offset"), create=True)
        sequence = place.sequence + 1
        raw = _SLOT.pack(_SLOT_MAGIC, sequence, offset, 0)[:-4]
        raw += zlib.crc32(raw).to_bytes(4, "little")
        # Even if this write is torn or fails half-way, the other slot holds; a sequence is never used again.
        place.sequence = sequence
        self._disk.write_at(place.slots, raw, _SLOT_AT[sequence % 2])
        if self._sync:
            self._disk.sync_data(place.slots)
            if new:
                self._disk.sync_directory(directory)
        place.recorded = offset

    def _cut(self, place: _Place, cause: OSError) -> None:
        """Back to what is on record; the room that a failed write took is given back."""
        place.end, place.sealed = place.recorded, False
        try:
            self._disk.truncate(place.fd, place.recorded)
        except OSError as error:
            place.broken = True
            log.error("cutting back after %s failed as well: %s", cause, error)


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────


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
        self._cached = cached
        self._lock = threading.Lock()
        with storage_errors("making the tasks directory"):
            if self._disk.mkdir(self._directory) and self._sync:
                self._disk.sync_directory(root)

    def create(self, task: UploadTask) -> None:
        """See `TaskStore.create`."""
        with self._lock:
            if task.id in self._index:
                raise Conflict(f"There is an upload {task.id!r} already.")
        self._put(task)

    def get(self, uploadid: str) -> UploadTask | None:
        """See `TaskStore.get`."""
        with self._lock:
            if uploadid not in self._index:
                return None
            task = self._cache.get(uploadid)
            if task is not None:
                self._cache.move_to_end(uploadid)
                return task
        with storage_errors("reading a task"):
            try:
                raw = self._disk.read(self._path(uploadid))
            except FileNotFoundError:
                with self._lock:
                    gone = uploadid not in self._index
                if gone:
                    return None
                raise
        try:
            task = load(raw, expected_id=uploadid)
        except InvalidDocument as error:
            raise StorageError(f"The record of {uploadid!r} cannot be read: {error.sentence}") from error
        with self._lock:
            indexed = self._index.get(uploadid)
            if indexed is not None and indexed.revision == task.revision:
                self._remember(task)
        return task

    def cas(self, task: UploadTask, expected_revision: int) -> None:
        """See `TaskStore.cas`."""
        with self._lock:
            stored = self._index.get(task.id)
        if stored is None or stored.revision != expected_revision or stored.uid != task.uid:
            raise Conflict(f"The upload {task.id!r} has changed meanwhile.")
        self._put(task)

    def list(self) -> Sequence[Summary]:
        """See `TaskStore.list`."""
        with self._lock:
            return sorted(self._index.values(), key=lambda s: s.id)

    def delete(self, uploadid: str) -> None:
        """See `TaskStore.delete`."""
        with storage_errors("deleting a task"):
            self._disk.unlink(self._path(uploadid))
            if self._sync:
                self._disk.sync_directory(self._directory)
        with self._lock:
            self._index.pop(uploadid, None)
            self._cache.pop(uploadid, None)

    def recover(self) -> Sequence[str]:
        """See `TaskStore.recover`."""
        quarantined: list[str] = []
        quarantine = _Quarantine(self._root, self._disk, self._sync)
        index: dict[str, Summary] = {}
        with storage_errors("reading the tasks"):
            for entry in self._disk.entries(self._directory):
                path = os.path.join(self._directory, entry.name)
                uploadid, dot, suffix = entry.name.rpartition(".")
                if entry.name.startswith(".") and entry.is_file:
                    self._disk.unlink(path)  # a temporary file of ours
                    continue
                try:
                    if not entry.is_file or not dot or suffix != "json":
                        raise InvalidDocument("It is not named like a task.")
                    index[uploadid] = self._scan(self._disk.read(path), uploadid)
                except InvalidDocument as error:
                    log.error("%s is not used: %s", path, error.sentence)
                    quarantined.append(quarantine.add(path))
        with self._lock:
            self._index = index
            self._cache.clear()
        return quarantined

    def _scan(self, raw: bytes, uploadid: str) -> Summary:
        """An index line from a document, without making a task of it (64 µs a task count with 100,000)."""
        try:
            doc = orjson.loads(raw)
            if doc["schema"] != SCHEMA or doc["id"] != uploadid or uploadid.startswith("."):
                raise KeyError
            state, wanted, step = _STATES[doc["state"]], _TRIGGERS[doc["wanted"]], doc["step"]
            facts = Standing(state, doc["offset"], doc["filesize"], wanted)
            return Summary(
                uploadid, f"{doc['uid']}.{doc['generation']}", state, doc["revision"], doc["updated"], doc["deadline"],
                due(facts), doc["filesize"], step["not_before"] if step else 0.0,
            )  # fmt: skip
        except (orjson.JSONDecodeError, KeyError, TypeError):
            # Something is odd: let the real parser say what.
            return _summary(load(raw, expected_id=uploadid))

    def _path(self, uploadid: str) -> str:
        return os.path.join(self._directory, f"{uploadid}.json")

    def _put(self, task: UploadTask) -> None:
        write_document(self._disk, self._path(task.id), dump(task), sync=self._sync)
        with self._lock:
            self._index[task.id] = _summary(task)
            self._remember(task)

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
    with storage_errors("recording a task"):
        disk.unlink(temporary)
        fd = disk.open(temporary, create=True)
        try:
            disk.write_at(fd, raw, 0)
            if sync:
                disk.sync(fd)
        except OSError:
            disk.close(fd)
            with suppress(OSError):  # the first error is the one to tell
                disk.unlink(temporary)
            raise
        disk.close(fd)
        disk.replace(temporary, path)
        if sync:
            disk.sync_directory(directory)


def adopt_musicdb(root: str, *, durability: Durability = "power", disk: Disk | None = None) -> int:
    """Take over the uploads directory of a MusicDB 7: rewrite its task files and put the data where ours is.

    A file that several tasks name is copied for each; the paths in the task files are not believed. May be
    interrupted and repeated.

    Returns:
        How many tasks were taken over.
    """
    disk = disk or Disk()
    sync = durability == "power"
    directory = os.path.join(root, "tasks")
    found: list[UploadTask] = []
    with storage_errors("taking over the tasks of MusicDB"):
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
                    found.append(load(document, expected_id=uploadid))
            except (orjson.JSONDecodeError, InvalidDocument):
                continue  # `LocalTasks.recover` says what is wrong with it
        shared = Counter(task.destinationpath for task in found)
        for task in found:
            name = task.destinationpath
            waiting = task.state is State.WAITFORCHUNK
            target = f"{task.contenttype}-pending.{task.extension}" if waiting else name
            place = os.path.join(root, "data", task.key)
            old, new = os.path.join(root, name), os.path.join(place, target)
            info = disk.info(old)
            if info is not None and info.is_file and disk.info(new) is None:
                disk.mkdir(os.path.join(root, "data"))
                disk.mkdir(place)
                if shared[name] > 1:
                    _copy_file(disk, old, new, sync=sync)
                else:
                    disk.replace(old, new)
            info = disk.info(new)
            offset = min(task.offset, info.size if info is not None else 0) if waiting else task.offset
            if waiting and info is not None:
                store = LocalBytes(root, durability=durability, disk=disk)
                with store._use(task.key) as held:
                    held.end = offset
                store.commit(task.key)
                store._let_go(held)
            if sync and info is not None:
                for path in (place, os.path.join(root, "data"), root):
                    disk.sync_directory(path)
            now = info.mtime if info is not None else time.time()
            history = task.happened("recover", task.state, task.state, now, "taken over from MusicDB 7")
            path = f"data/{task.key}/{target}"
            task = evolve(task, destinationpath=path, offset=offset, created=now, updated=now, history=history)
            write_document(disk, os.path.join(directory, f"{task.id}.json"), dump(task), sync=sync)
        for name, count in shared.items():
            if count > 1:
                disk.unlink(os.path.join(root, name))
    if found:
        log.info("took over %d uploads from MusicDB 7", len(found))
    return len(found)


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

    def __attrs_post_init__(self) -> None:
        self._sync = self.durability != "none"
        with storage_errors(f"making the {self.name} directory"):
            os.makedirs(self.root, exist_ok=True)

    def missing_directories(self, path: str) -> tuple[str, ...]:
        """See `Tree.missing_directories`."""
        with storage_errors(f"looking into the {self.name} directory"):
            return tuple(p for p in _parents(path) if self.disk.info(self._at(p)) is None)

    def exists(self, path: str) -> bool:
        """See `Tree.exists`."""
        with storage_errors(f"looking into the {self.name} directory"):
            return self.disk.info(self._at(path)) is not None

    def place(self, uid: str, path: str, source: BinaryIO) -> PlacedFile:
        """See `Tree.place`."""
        with storage_errors(f"putting a file into the {self.name} directory"):
            hidden, dest = self._hidden(uid, path), self._at(path)
            mine = self._mine(uid, path)
            if mine is not None:
                size, sha256 = self._measure(dest)
                self._sync_parents(path)
                return PlacedFile(self.name, path, size, sha256)
            self.disk.unlink(hidden)
            self.disk.unlink(hidden + ".renamed")
            if self.disk.info(dest) is not None:
                raise _taken(path)
            self._make_parents(path)
            self._make_hidden(uid)
            size, sha256 = self._copy(source, hidden)
            try:
                if not self.disk.link(hidden, dest):
                    self._rename(hidden, dest)
            except FileExistsError:
                self.disk.unlink(hidden)
                raise _taken(path) from None
            self._sync_parents(path)
        return PlacedFile(self.name, path, size, sha256)

    def settle(self, uid: str) -> None:
        """See `Tree.settle`."""
        with storage_errors(f"cleaning the {self.name} directory"):
            directory = self._at(f".stagedoor/{uid}")
            for entry in self.disk.entries(directory):
                self.disk.unlink(os.path.join(directory, entry.name))
            if self.disk.rmdir(directory):
                self.disk.rmdir(self._at(".stagedoor"))
                if self._sync:
                    self.disk.sync_directory(self.root)

    def unsettled(self) -> Sequence[str]:
        """See `Tree.unsettled`."""
        with storage_errors(f"looking into the {self.name} directory"):
            return sorted(entry.name for entry in self.disk.entries(self._at(".stagedoor")) if entry.is_dir)

    def withdraw(self, uid: str, paths: Iterable[str], directories: Iterable[str]) -> None:
        """See `Tree.withdraw`."""
        with storage_errors(f"cleaning the {self.name} directory"):
            for path in paths:
                if self._mine(uid, path) is not None:
                    self.disk.unlink(self._at(path))
                    if self._sync:
                        self.disk.sync_directory(os.path.dirname(self._at(path)))
        self.settle(uid)
        self._remove_empty(directories)

    def check(self, file: PlacedFile) -> bool:
        """See `Tree.check`."""
        with storage_errors(f"reading the {self.name} directory"):
            info = self.disk.info(self._at(file.path))
            if info is None:
                return True
            return info.is_file and info.size == file.size and self._measure(self._at(file.path))[1] == file.sha256

    def remove(self, files: Iterable[PlacedFile], directories: Iterable[str]) -> None:
        """See `Tree.remove`."""
        files = list(files)
        for file in files:
            if not self.check(file):
                raise Conflict(
                    f"{file.path} has changed since it was placed; it is kept, and so is everything else. "
                    "Remove it by hand if it is not wanted.",
                    code="changed_since",
                )
        with storage_errors(f"taking files out of the {self.name} directory"):
            for file in files:
                self.disk.unlink(self._at(file.path))
            if self._sync:
                for parent in {os.path.dirname(self._at(file.path)) for file in files}:
                    if self.disk.info(parent) is not None:
                        self.disk.sync_directory(parent)
        self._remove_empty(directories)

    def _remove_empty(self, directories: Iterable[str]) -> None:
        with storage_errors(f"cleaning the {self.name} directory"):
            for path in sorted(directories, key=lambda p: p.count("/"), reverse=True):
                if self.disk.rmdir(self._at(path)) and self._sync:
                    self.disk.sync_directory(os.path.dirname(self._at(path)))

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
                    f"{at} is in the way: it is no directory of the {self.name} tree (links are not followed). "
                    "Move it away, or choose other names.",
                    code="unsafe_path",
                )
        return os.path.join(self.root, *parts)

    def _hidden(self, uid: str, path: str) -> str:
        return self._at(f".stagedoor/{uid}/{hashlib.sha256(path.encode()).hexdigest()[:32]}")

    def _mine(self, uid: str, path: str) -> FileInfo | None:
        """The file at a path if it is the copy that we made for an upload and have not settled."""
        info = self.disk.info(self._at(path))
        if info is None or not info.is_file:
            return None
        hidden = self._hidden(uid, path)
        copy = self.disk.info(hidden)
        if copy is not None:
            return info if (copy.device, copy.inode) == (info.device, info.inode) else None
        with suppress(FileNotFoundError):
            noted = self.disk.read(hidden + ".renamed").decode("ascii", "replace")
            return info if noted == f"{info.device} {info.inode} {info.size}" else None
        return None

    def _rename(self, hidden: str, dest: str) -> None:
        """For file systems without links: note who we are, then move, never replacing."""
        info = self.disk.info(hidden)
        assert info is not None
        fd = self.disk.open(hidden + ".renamed", create=True)
        try:
            self.disk.write_at(fd, f"{info.device} {info.inode} {info.size}".encode(), 0)
            if self._sync:
                self.disk.sync(fd)
        finally:
            self.disk.close(fd)
        if self._sync:
            self.disk.sync_directory(os.path.dirname(hidden))
        try:
            self.disk.rename_exclusive(hidden, dest)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EINVAL):
                raise ConfigurationError(
                    f"The file system of {self.root} has neither hard links nor a rename that never replaces. "
                    "Put the library on another file system."
                ) from error
            raise

    def _make_parents(self, path: str) -> None:
        for parent in _parents(path):
            at = self._at(parent)
            self._at(parent + "/x")  # refuses a link in the way
            if self.disk.mkdir(at) and self._sync:
                self.disk.sync_directory(os.path.dirname(at))

    def _make_hidden(self, uid: str) -> None:
        for _ in range(100):
            self.disk.mkdir(self._at(".stagedoor"))
            try:
                self.disk.mkdir(self._at(f".stagedoor/{uid}"))
            except FileNotFoundError:  # another upload was settled just now, and took the empty directory away
                continue
            if self._sync:
                self.disk.sync_directory(self._at(".stagedoor"))
                self.disk.sync_directory(self.root)
            return
        raise StorageError(f"A working directory in {self.root} cannot be made.")

    def _copy(self, source: BinaryIO, hidden: str) -> tuple[int, str]:
        fd = self.disk.open(hidden, create=True)
        try:
            digest, at = hashlib.sha256(), 0
            source.seek(0)
            cloned = _has_descriptor(source) and self.disk.clone(source.fileno(), fd)
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

    def _sync_parents(self, path: str) -> None:
        if self._sync:
            self.disk.sync_directory(os.path.dirname(self._at(path)))


def _has_descriptor(source: BinaryIO) -> bool:
    try:
        source.fileno()
    except (OSError, io.UnsupportedOperation):
        return False
    return True


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]


def _taken(path: str) -> Conflict:
    return Conflict(
        f"There is a file {path} in the library already; it was not touched. Change the annotations, or remove the "
        "upload.",
        code="destination_exists",
    )
