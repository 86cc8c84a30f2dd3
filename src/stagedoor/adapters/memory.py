"""Adapters in memory: the same promises for as long as the process lives. For tests, demos and small embedders."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from attrs import define, field

from ..errors import Conflict, DataLost, StorageError
from ..lifecycle import State, due
from ..ports import Buffer, KeptFile, Recovered, Summary
from ..tasks import PlacedFile, UploadTask

__all__ = ["MemoryBytes", "MemoryTasks", "MemoryTree"]


@define
class _Place:
    name: str
    data: bytearray = field(factory=bytearray)
    recorded: int = 0
    sealed: bool = False
    closed: bool = False


class MemoryBytes:
    """`ByteStore` in a dictionary."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    @property
    def keys(self) -> Sequence[str]:
        """The keys of all places."""
        return sorted(self._places)

    def create(self, key: str, name: str) -> str:
        """See `ByteStore.create`."""
        if self._places.setdefault(key, place := _Place(name)) is not place:
            raise Conflict(f"There is data of {key} already.")
        return f"data/{key}/{name}"

    def append(self, key: str, offset: int, data: Buffer) -> None:
        """See `ByteStore.append`."""
        place = self._place(key)
        if place.sealed or place.closed:
            raise Conflict(f"Nothing may be appended to {key} any more.")
        if offset != len(place.data):
            raise Conflict(f"{key} stands at {len(place.data)}, not at {offset}.")
        place.data += data

    def commit(self, key: str) -> int:
        """See `ByteStore.commit`."""
        place = self._place(key)
        place.recorded = len(place.data)
        return place.recorded

    def rollback(self, key: str) -> int:
        """See `ByteStore.rollback`."""
        place = self._place(key)
        del place.data[place.recorded :]
        place.sealed = False
        return place.recorded

    def size(self, key: str) -> int:
        """See `ByteStore.size`."""
        return self._place(key).recorded

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """See `ByteStore.open`."""
        with io.BytesIO(bytes(self._place(key).data)) as file:
            yield file

    def seal(self, key: str, name: str) -> str:
        """See `ByteStore.seal`."""
        place = self._place(key)
        place.name, place.sealed = name, True
        return f"data/{key}/{name}"

    def close(self, key: str) -> None:
        """See `ByteStore.close`."""
        place = self._places.get(key)
        if place is not None:
            place.closed = True

    def delete(self, key: str) -> None:
        """See `ByteStore.delete`."""
        self._places.pop(key, None)

    def recover(self, known: Mapping[str, State]) -> Recovered:
        """See `ByteStore.recover`."""
        uids = {key.partition(".")[0] for key in known}
        strangers = [key for key in self._places if key not in known]
        for key in strangers:
            del self._places[key]
        offsets: dict[str, int] = {}
        lost: dict[str, str] = {}
        for key, state in known.items():
            if key not in self._places:
                if state is not State.REMOVE:
                    lost[key] = "The uploaded data is gone."
            elif state is State.WAITFORCHUNK:
                if self._places[key].closed:
                    lost[key] = "There is no record of how many bytes are there."
                    continue
                try:
                    offsets[key] = self.rollback(key)
                except DataLost as error:
                    lost[key] = error.sentence
        return Recovered(
            offsets,
            lost,
            quarantined=[key for key in strangers if key.partition(".")[0] not in uids],
            deleted=[key for key in strangers if key.partition(".")[0] in uids],
        )

    def _place(self, key: str) -> _Place:
        try:
            place = self._places[key]
        except KeyError:
            raise DataLost(f"The data of {key} is gone.") from None
        if len(place.data) < place.recorded:
            raise DataLost(f"{place.recorded:,} bytes are on record, but only {len(place.data):,} are there.")
        return place


class MemoryTasks:
    """`TaskStore` in a dictionary."""

    def __init__(self) -> None:
        self._tasks: dict[str, UploadTask] = {}
        self._lock = threading.Lock()

    def create(self, task: UploadTask) -> None:
        """See `TaskStore.create`."""
        with self._lock:
            if task.id in self._tasks:
                raise Conflict(f"There is an upload {task.id!r} already.")
            self._tasks[task.id] = task

    def get(self, uploadid: str) -> UploadTask | None:
        """See `TaskStore.get`."""
        return self._tasks.get(uploadid)

    def cas(self, task: UploadTask, expected_revision: int) -> None:
        """See `TaskStore.cas`."""
        with self._lock:
            stored = self._tasks.get(task.id)
            if stored is None or stored.revision != expected_revision or stored.uid != task.uid:
                raise Conflict(f"The upload {task.id!r} has changed meanwhile.")
            self._tasks[task.id] = task

    def list(self) -> Sequence[Summary]:
        """See `TaskStore.list`."""
        with self._lock:
            tasks = sorted(self._tasks.values(), key=lambda t: t.id)
        return [
            Summary(
                t.id,
                t.key,
                t.state,
                t.revision,
                t.updated,
                t.deadline,
                due(t),
                t.filesize,
                t.step.not_before if t.step else 0.0,
            )
            for t in tasks
        ]

    def delete(self, uploadid: str) -> None:
        """See `TaskStore.delete`."""
        with self._lock:
            self._tasks.pop(uploadid, None)

    def recover(self) -> Sequence[str]:
        """See `TaskStore.recover`."""
        return ()


class MemoryTree:
    """`Tree` in a dictionary.

    Args:
        name: ``music`` or ``artwork``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.files: dict[str, bytes] = {}
        self.directories: set[str] = set()
        self._owners: dict[str, tuple[str, bytes]] = {}
        self._gone: set[tuple[str, str]] = set()
        self._replaced: dict[tuple[str, str], bytes] = {}
        self._aside: list[tuple[str, str, bytes]] = []
        self._lock = threading.Lock()

    def missing_directories(self, path: str) -> tuple[str, ...]:
        """See `Tree.missing_directories`."""
        self._check(path)
        return tuple(p for p in _parents(path) if p not in self.directories)

    def exists(self, path: str) -> bool:
        """See `Tree.exists`."""
        self._check(path)
        return path in self.files or path in self.directories

    def names(self, directory: str = "") -> Sequence[str]:
        """See `Tree.names`."""
        self._check(*([f"{directory}/x"] if directory else ()))
        with self._lock:
            found = (path.rpartition("/") for path in (*self.files, *self.directories))
            return sorted(name for parent, _, name in found if parent == directory and not name.startswith("."))

    def replaced(self, uid: str) -> Sequence[bytes]:
        """What an upload has replaced and nothing has brought back."""
        with self._lock:
            replaced = [data for (owner, _), data in self._replaced.items() if owner == uid]
            return [*replaced, *(data for owner, _, data in self._aside if owner == uid)]

    def kept(self, known: Container[str] = ()) -> Mapping[str, Sequence[KeptFile]]:
        """See `Keeper.kept`."""
        with self._lock:
            found = sorted([*self._replaced, *((uid, path) for uid, path, _ in self._aside)])
            kept: dict[str, list[KeptFile]] = {}
            for uid, path in found:
                if uid not in known:
                    kept.setdefault(uid, []).append(KeptFile(path, f"{uid}: {path}"))
            return kept

    def place(
        self, uid: str, path: str, source: BinaryIO, sha256: str | None = None, *, replace: bool = False
    ) -> PlacedFile:
        """See `Tree.place`."""
        self._check(path)
        if source.seekable():
            source.seek(0)
        data = source.read()
        found = hashlib.sha256(data).hexdigest()
        if sha256 not in (None, found):
            raise DataLost(f"What was to become {path} has changed since it was verified; it is not in the library.")
        with self._lock:
            if self.exists(path) and not self._mine(uid, path):
                if not replace or path not in self.files:
                    raise Conflict(
                        f"There is a file {path} in the library already; it was not touched.", code="destination_exists"
                    )
                if self._mine(self._owners.get(path, (uid,))[0], path):
                    raise Conflict(f"Another upload is just putting its file {path} into the library.")
                self._set_aside(uid, path)
                self._replaced[uid, path] = self.files.pop(path)
            self.directories.update(_parents(path))
            data = self.files.setdefault(path, data)
            self._owners[path] = uid, data
            self._gone.discard((uid, path))
            old = self._replaced.get((uid, path))
        replaced = None if old is None else hashlib.sha256(old).hexdigest()
        return PlacedFile(self.name, path, len(data), hashlib.sha256(data).hexdigest(), replaced)

    def settle(self, uid: str) -> None:
        """See `Tree.settle`."""
        with self._lock:
            self._owners = {path: owner for path, owner in self._owners.items() if owner[0] != uid}
            self._gone = {gone for gone in self._gone if gone[0] != uid}

    def discard(self, uid: str) -> None:
        """See `Tree.discard`."""
        with self._lock:
            self._replaced = {key: data for key, data in self._replaced.items() if key[0] != uid}
            self._aside = [kept for kept in self._aside if kept[0] != uid]

    def unsettled(self) -> Sequence[str]:
        """See `Tree.unsettled`."""
        with self._lock:
            return sorted({*(uid for uid, _ in self._owners.values()), *(uid for uid, _ in self._gone)})

    def withdraw(self, uid: str, paths: Iterable[str], directories: Iterable[str]) -> None:
        """See `Tree.withdraw`."""
        paths, directories = list(paths), list(directories)
        self._check(*paths, *directories)
        with self._lock:
            for path in paths:
                if self._owners.get(path, ("",))[0] == uid:
                    if self._mine(uid, path):
                        del self.files[path]
                    del self._owners[path]
                    self._put_back(uid, path)
            self._remove_empty(directories)
        self.settle(uid)

    def check(self, uid: str, file: PlacedFile) -> bool:
        """See `Tree.check`."""
        self._check(file.path)
        with self._lock:
            return self._same(uid, file)

    def _same(self, uid: str, file: PlacedFile) -> bool:
        data = self.files.get(file.path)
        if data is None or (uid, file.path) in self._gone:
            return True
        if hashlib.sha256(data).hexdigest() != file.sha256:
            return False
        # What is there looks like ours. It is another upload's, if that has replaced ours and keeps it.
        return (uid, file.path) in self._replaced or not any(
            path == file.path and hashlib.sha256(kept).hexdigest() == file.sha256
            for (_, path), kept in self._replaced.items()
        )

    def holds(self, uid: str, file: PlacedFile) -> bool:
        """See `Tree.holds`."""
        self._check(file.path)
        return file.path in self.files and (uid, file.path) not in self._gone

    def remove(self, uid: str, files: Iterable[PlacedFile], directories: Iterable[str]) -> None:
        """See `Tree.remove`."""
        files, directories = list(files), list(directories)
        self._check(*directories)
        with self._lock:
            for file in files:
                if not self._same(uid, file):
                    raise Conflict(f"{file.path} has changed since it was placed; it is kept.", code="changed_since")
            for file in files:
                if (uid, file.path) not in self._gone:
                    self.files.pop(file.path, None)
                    self._gone.add((uid, file.path))
                self._put_back(uid, file.path)
            self._remove_empty(directories)

    def _mine(self, uid: str, path: str) -> bool:
        """Whether a path has the file that was placed for an upload and not settled."""
        owner, data = self._owners.get(path, ("", b""))
        return owner == uid and self.files.get(path) is data

    def _put_back(self, uid: str, path: str) -> None:
        """Give an old file its name again. If somebody else has it, the file stays in the journal."""
        if self.exists(path):
            self._set_aside(uid, path)
        elif (uid, path) in self._replaced:
            self.directories.update(_parents(path))
            self.files[path] = self._replaced.pop((uid, path))

    def _set_aside(self, uid: str, path: str) -> None:
        if (uid, path) in self._replaced:
            self._aside.append((uid, path, self._replaced.pop((uid, path))))

    def _check(self, *paths: str) -> None:
        """Refuse what leads out of the tree, or through a file."""
        for path in paths:
            if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
                raise StorageError(f"{path[:80]!r} leads out of the {self.name} directory.", code="unsafe_path")
            for parent in _parents(path):
                if parent in self.files:
                    raise StorageError(f"{parent} is in the way: it is no directory.", code="unsafe_path")

    def _remove_empty(self, directories: Iterable[str]) -> None:
        for path in sorted(directories, key=lambda p: p.count("/"), reverse=True):
            if not any(other.startswith(path + "/") for other in (*self.files, *self.directories)):
                self.directories.discard(path)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]
