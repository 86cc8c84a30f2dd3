"""Worlds: sets of adapters that outlive a crash, for the stateful model."""

from __future__ import annotations

import errno
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..adapters.inprocess import InlineBus
from ..adapters.local import LocalBytes, LocalTasks, LocalTree
from ..adapters.memory import MemoryBytes, MemoryTasks, MemoryTree
from ..engine import Uploads
from ..errors import StorageError
from ..library.memory import MemoryLibrary
from ..lifecycle import Row
from ..settings import Settings
from ..tasks import UploadTask
from .content import PlainContent
from .disk import Crash, FuseDisk, SimulatedDisk

__all__ = ["CONTENTS", "SETTINGS", "Fuse", "MemoryWorld", "PowerWorld", "World", "fused"]

SETTINGS = Settings(backoff=0.0, free_floor=0, attempts=3, max_chunk=64)
"""Settings of the model's engine."""
CONTENTS = (PlainContent(), PlainContent("sound", has_artwork=False))
"""Content types of the model's engine."""


class World(ABC):
    """A set of adapters that survives crashes, and raw access that goes around them."""

    @abstractmethod
    def open(self, *, bus: InlineBus, clock: Callable[[], float], trace: Callable[[Row, UploadTask], None]) -> Uploads:
        """The engine over what is stored, as after a start: with `CONTENTS` and `SETTINGS`."""

    @abstractmethod
    def arm(self, call: int, error: StorageError | None = None) -> None:
        """Crash at this storage call from now on, the first being 1; 0 disarms.

        With an ``error``, the call raises it once instead, and has no effect.
        """

    @abstractmethod
    def lose(self, task: UploadTask) -> None:
        """Destroy the stored bytes of an upload behind everybody's back."""

    @abstractmethod
    def crashed(self) -> None:
        """The process is gone: let go of locks and descriptors without writing anything."""

    @abstractmethod
    def tree(self, root: str) -> Mapping[str, bytes]:
        """All files of a library tree, hidden ones included, by relative path."""

    @abstractmethod
    def tamper(self, root: str, path: str, data: bytes) -> None:
        """Put another content under a path of a tree, like a tag editor."""

    @abstractmethod
    def entries(self) -> Mapping[str, str]:
        """Path of the catalogue's entry by uid."""

    @abstractmethod
    def strangers(self, tasks: Mapping[str, UploadTask]) -> list[str]:
        """Files of the uploads storage that belong to no task and are not in quarantine."""

    @abstractmethod
    def stored(self, task: UploadTask) -> bytes | None:
        """The bytes of an upload as they are stored; ``None`` when they are gone."""

    @abstractmethod
    def documents(self) -> Mapping[str, object]:
        """The stored documents of all tasks by id, as bytes or anything else that can be compared."""

    @abstractmethod
    def destroy(self) -> None:
        """The test is over."""


class Fuse:
    """Counts the calls of wrapped adapters, and crashes at one of them: before its effect if the number is odd,
    after it if it is even.
    """

    def __init__(self) -> None:
        self._left = 0
        self._error: StorageError | None = None

    def arm(self, call: int, error: StorageError | None = None) -> None:
        """Crash at this call from now on, or raise an error at it once; 0 never."""
        self._left, self._error = call, error

    def call(self, function: Callable[..., object], *args: object, **kwargs: object) -> object:
        """Call through the fuse."""
        if self._left < 0:
            raise Crash
        if self._left == 0:
            return function(*args, **kwargs)
        self._left -= 1
        if self._left == 0 and self._error is not None:
            raise self._error
        if self._left == 0:
            self._left = -1
            if id(function) % 32 < 16:
                function(*args, **kwargs)
            raise Crash
        return function(*args, **kwargs)


def fused(adapter: object, fuse: Fuse) -> Any:
    """An adapter whose calls go through a fuse. Typed ``Any`` because it has the adapter's own type."""

    class Fused:
        def __getattr__(self, name: str) -> object:
            value = getattr(adapter, name)
            return partial(fuse.call, value) if callable(value) else value

    return Fused()


class MemoryWorld(World):
    """The adapters in memory, with a fuse around each call of a port."""

    def __init__(self) -> None:
        self.fuse = Fuse()
        self.bytes = MemoryBytes()
        self.tasks = MemoryTasks()
        self.trees = {name: MemoryTree(name) for name in ("music", "artwork")}
        self.library = MemoryLibrary()

    def open(self, *, bus: InlineBus, clock: Callable[[], float], trace: Callable[[Row, UploadTask], None]) -> Uploads:
        """See `World.open`."""
        return Uploads(
            bytes=fused(self.bytes, self.fuse),
            tasks=fused(self.tasks, self.fuse),
            trees={name: fused(tree, self.fuse) for name, tree in self.trees.items()},
            library=fused(self.library, self.fuse),
            contents=CONTENTS,
            settings=SETTINGS,
            bus=bus,
            clock=clock,
            trace=trace,
        )

    def arm(self, call: int, error: StorageError | None = None) -> None:
        """See `World.arm`."""
        self.fuse.arm(call, error)

    def lose(self, task: UploadTask) -> None:
        """See `World.lose`."""
        self.bytes.delete(task.key)

    def crashed(self) -> None:
        """See `World.crashed`."""

    def tree(self, root: str) -> Mapping[str, bytes]:
        """See `World.tree`."""
        return self.trees[root].files

    def tamper(self, root: str, path: str, data: bytes) -> None:
        """See `World.tamper`."""
        self.trees[root].files[path] = data

    def entries(self) -> Mapping[str, str]:
        """See `World.entries`."""
        return {entry.uid: entry.path for entry in self.library.entries()}

    def strangers(self, tasks: Mapping[str, UploadTask]) -> list[str]:
        """See `World.strangers`."""
        return sorted(set(self.bytes.keys) - {task.key for task in tasks.values()})

    def stored(self, task: UploadTask) -> bytes | None:
        """See `World.stored`."""
        with self.bytes.open(task.key) as file:
            return file.read()

    def documents(self) -> Mapping[str, object]:
        """See `World.documents`."""
        return {task.id: task for s in self.tasks.list() if (task := self.tasks.get(s.id))}

    def destroy(self) -> None:
        """See `World.destroy`."""


class PowerWorld(World):
    """The local adapters, durability ``power``, on a disk that forgets what was not synced.

    A crash is a power cut: of all that was not synced, a random part survives.
    """

    def __init__(self) -> None:
        self.disk = SimulatedDisk()
        self.fuse = FuseDisk(self.disk)
        self.library = MemoryLibrary()
        for directory in ("/uploads", "/music", "/artwork"):
            self.disk.mkdir(directory)
        self.disk.sync_directory("/")

    def open(self, *, bus: InlineBus, clock: Callable[[], float], trace: Callable[[Row, UploadTask], None]) -> Uploads:
        """See `World.open`."""
        self.fuse = FuseDisk(self.disk)
        return Uploads(
            bytes=LocalBytes("/uploads", disk=self.fuse),
            tasks=LocalTasks("/uploads", disk=self.fuse),
            trees={name: LocalTree(name, f"/{name}", disk=self.fuse) for name in ("music", "artwork")},
            library=self.library,
            contents=CONTENTS,
            settings=SETTINGS,
            bus=bus,
            clock=clock,
            trace=trace,
        )

    def arm(self, call: int, error: StorageError | None = None) -> None:
        """See `World.arm`; large numbers reach far, because a step makes some hundred file calls."""
        reach = call if call <= 6 else 6 + (call - 6) * 9
        self.fuse.at = len(self.fuse.calls) + reach if call else 0
        self.fuse.error = Crash if error is None else OSError(errno.EIO, "Input/output error")
        self.fuse.when = self._chance(call).choice(("before", "after", "torn")) if error is None else "before"

    def _chance(self, salt: int) -> random.Random:
        """The same for the same life, so that Hypothesis can repeat it, and another for each moment in it: with one
        stream for all, the first crash of every life would be alike.
        """
        return random.Random(salt * 1_000_003 + len(self.fuse.calls))  # noqa: S311  # not for secrets

    def lose(self, task: UploadTask) -> None:
        """See `World.lose`."""
        for path in self.disk.files(f"/uploads/data/{task.key}"):
            self.disk.unlink(f"/uploads/data/{task.key}/{path}")

    def crashed(self) -> None:
        """See `World.crashed`."""
        self.fuse.release()
        self.disk = self.disk.crash(self._chance(self.fuse.at))

    def tree(self, root: str) -> Mapping[str, bytes]:
        """See `World.tree`."""
        return self.disk.files(f"/{root}")

    def tamper(self, root: str, path: str, data: bytes) -> None:
        """See `World.tamper`."""
        self.disk.plant(f"/{root}/{path}", data)

    def entries(self) -> Mapping[str, str]:
        """See `World.entries`."""
        return {entry.uid: entry.path for entry in self.library.entries()}

    def strangers(self, tasks: Mapping[str, UploadTask]) -> list[str]:
        """See `World.strangers`."""
        keys = {task.key for task in tasks.values()}
        known = []
        for path in self.disk.files("/uploads"):
            room, _, name = path.partition("/")
            name = name.partition("/")[0]
            if (
                room != "quarantine"
                and not (room == "data" and name in keys)
                and not (room == "tasks" and name.removesuffix(".json") in tasks)
            ):
                known.append(path)
        return known

    def stored(self, task: UploadTask) -> bytes | None:
        """See `World.stored`."""
        found = [d for p, d in self.disk.files(f"/uploads/data/{task.key}").items() if p != ".offset"]
        return found[0] if len(found) == 1 else None

    def documents(self) -> Mapping[str, object]:
        """See `World.documents`."""
        return self.disk.files("/uploads/tasks")

    def destroy(self) -> None:
        """See `World.destroy`."""
