"""What the tests of engine, worker and faults share: a house where everything is real but the clock."""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stagedoor.adapters.disk import Disk
from stagedoor.adapters.inprocess import InlineBus
from stagedoor.adapters.local import DirectoryLock, Durability, LocalBytes, LocalTasks, LocalTree
from stagedoor.engine import Uploads
from stagedoor.errors import TaskNotFound, UploadError
from stagedoor.library.memory import MemoryLibrary
from stagedoor.lifecycle import Row, State
from stagedoor.notices import Notice
from stagedoor.ports import ContentType, EventBus, WorkQueue
from stagedoor.settings import Settings
from stagedoor.tasks import Offer, UploadTask
from stagedoor.testing.content import PlainContent
from stagedoor.testing.disk import Crash
from stagedoor.worker import Worker

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds after which a test that hangs fails."""


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


class _NoSync(Disk):
    """Spares the tests a real sync for the lock, which nothing here needs."""

    def sync_directory(self, path: str) -> None:
        """Do nothing."""


class Gate:
    """A hook where a thread waits until the test lets it go on."""

    def __init__(self) -> None:
        self._entered, self._opened = threading.Event(), threading.Event()

    def __call__(self, *_: object, **__: object) -> None:
        self._entered.set()
        assert self._opened.wait(PATIENCE), "nobody opened the gate"

    def reached(self) -> None:
        """Wait until somebody stands at the gate."""
        assert self._entered.wait(PATIENCE), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()


class House:
    """An engine on real directories, and everything around it that a test wants to look at.

    ``before`` and ``after`` are hooks by part and method (``bytes.append``, ``tasks.cas``, ``music.place``,
    ``artwork.place``, ``library.put``, ``content.preprocess`` …): they get the arguments, and what they raise is
    raised. The engine, its adapters included, may be opened as often as a test likes: one at a time.
    """

    PATIENCE = PATIENCE
    NAMES: Mapping[str, str] = {"artistname": "Alpha", "name": "Beta"}
    DATA = b"fine film"
    WRONG = "0" * 40

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = Clock()
        self.before: dict[str, Callable[..., object]] = {}
        self.after: dict[str, Callable[..., object]] = {}
        self.library = self._hooked(MemoryLibrary, "library")()
        self.notices: list[Notice] = []
        self.rows: list[Row] = []
        self.disk: Disk = Disk()
        self._close: list[Callable[[], None]] = []

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────

    def open(
        self,
        *,
        contents: Sequence[ContentType] | None = None,
        bus: EventBus | None = None,
        work: WorkQueue | None = None,
        durability: Durability = "none",
        threads: int = 2,
        **limits: Any,  # of Settings
    ) -> Uploads:
        """Start on what is stored."""
        assert not self._close, "it is open already"
        limits.setdefault("free_floor", 0)
        directory = str(self.root / "uploads")
        lock = DirectoryLock(directory, disk=_NoSync())
        self._close.append(lock.close)
        store = self._hooked(LocalBytes, "bytes")(directory, durability=durability, disk=self.disk)
        self._close.append(store.release)
        plain = self._hooked(PlainContent, "content")
        self.uploads = Uploads(
            bytes=store,
            tasks=self._hooked(LocalTasks, "tasks")(directory, durability=durability, disk=self.disk),
            trees={
                name: self._hooked(LocalTree, name)(name, str(self.root / name), durability, self.disk)
                for name in ("music", "artwork")
            },
            library=self.library,
            contents=[plain(), plain("sound", has_artwork=False)] if contents is None else contents,
            settings=Settings(**limits),
            bus=bus or InlineBus(),
            work=work,
            clock=self.clock,
            trace=lambda row, task: self.rows.append(row),
        )
        self.worker = Worker(self.uploads, threads=threads)
        self._close.append(self.uploads.close)
        self._close.append(self.worker.stop)
        self.uploads.subscribe(self.notices.append)
        return self.uploads

    def close(self) -> None:
        """Stop: nothing in memory is kept."""
        while self._close:
            with suppress(Crash):  # of a disk that ended the process already
                self._close.pop()()

    def restart(self, **settings: Any) -> Uploads:
        self.close()
        return self.open(**settings)

    def _hooked(self, cls: type[T], part: str) -> type[T]:
        def hook(name: str, function: Callable[..., object]) -> Callable[..., object]:
            @wraps(function)
            def call(adapter: object, *args: object, **kwargs: object) -> object:
                nothing: Callable[..., object] = lambda *_, **__: None  # noqa: E731
                self.before.get(name, nothing)(*args)
                result = function(adapter, *args, **kwargs)
                self.after.get(name, nothing)(*args)
                return result

            return call

        public = [(n, f) for n, f in inspect.getmembers(cls, inspect.isfunction) if not n.startswith("_")]
        return type(cls.__name__, (cls,), {"__slots__": (), **{n: hook(f"{part}.{n}", f) for n, f in public}})

    # ── doing ────────────────────────────────────────────────────────────────────────────────────────────────

    def offer(self, uploadid: str = "one", data: bytes = DATA, **other: Any) -> Offer:
        """A declaration that fits the data."""
        declared: dict[str, Any] = {
            "filename": "film.mp4",
            "contenttype": "video",
            "mimetype": "video/mp4",
            "filesize": len(data),
            "sha1": hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            "annotations": self.NAMES,
        }
        return Offer(uploadid, **(declared | other))

    def send(self, uploadid: str = "one", data: bytes = DATA, chunk: int = 1 << 20, **other: Any) -> UploadTask:
        """Offer it, and send all of it."""
        task = self.uploads.initiate(self.offer(uploadid, data, **other))
        while task.offset < len(data):
            part = data[task.offset : task.offset + chunk]
            task = self.uploads.receive(uploadid, offset=task.offset, data=part)
        return task

    def bring(self, state: State, uploadid: str = "one", **other: Any) -> UploadTask:
        """Bring a new upload into a state, and leave it there."""
        uploads, step = self.uploads, self.uploads.perform
        match state:
            case State.WAITFORCHUNK:
                return uploads.initiate(self.offer(uploadid, **other))
            case State.UPLOADFAILED:
                return self.send(uploadid, **({"sha1": self.WRONG} | other))
            case State.UPLOADCOMPLETE:
                return self.send(uploadid, **other)
            case State.INVALIDCONTENT:
                self.send(uploadid, **({"data": b"bad film"} | other))
                step(uploadid)
            case State.PREPROCESSED:
                self.send(uploadid, **other)
                step(uploadid)
            case State.INTEGRATIONFAILED:
                self.bring(State.PREPROCESSED, uploadid, **({"annotations": {}} | other))
                return uploads.integrate(uploadid)
            case State.INTEGRATED:
                self.bring(State.PREPROCESSED, uploadid, **other)
                return uploads.integrate(uploadid)
            case State.STARTIMPORT:
                self.bring(State.INTEGRATED, uploadid, **other)
                return uploads.start_import(uploadid)
            case State.IMPORTFAILED:
                self.bring(State.STARTIMPORT, uploadid, **({"data": b"noimport"} | other))
                step(uploadid)
            case State.IMPORTARTWORK:
                self.bring(State.STARTIMPORT, uploadid, **other)
                step(uploadid)
            case State.IMPORTCOMPLETE:
                self.bring(State.IMPORTARTWORK, uploadid, **other)
                step(uploadid)
            case State.REMOVE:
                self.bring(State.WAITFORCHUNK, uploadid, **other)
                return uploads.remove(uploadid)
        task = uploads.get(uploadid)
        assert task.state is state
        return task

    def rivals(self) -> None:
        """Two uploads, ``a`` and ``b``, for one name in the library; the second one may replace."""
        self.bring(State.PREPROCESSED, "a", data=b"fine a")
        self.bring(State.PREPROCESSED, "b", data=b"fine b")
        self.uploads.annotate("b", {"answers.destination_exists": "replace"})

    def finish(self, uploadid: str = "other", data: bytes = b"another film") -> UploadTask:
        """The worker works: another upload gets to the end."""
        self.send(uploadid, data, annotations={"artistname": "Other", "name": uploadid.capitalize()})
        self.worker.drain(1000)
        self.uploads.request(uploadid, trigger_import=True)
        self.worker.drain(1000)
        task = self.uploads.get(uploadid)
        assert (task.state, task.message) == (State.IMPORTCOMPLETE, None)
        assert (self.root / "music" / "Other" / f"{uploadid.capitalize()}.mp4").read_bytes() == data
        return task

    @contextmanager
    def threads(self, number: int = 4) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(number, "test") as pool:
            yield pool

    @staticmethod
    def gate() -> Gate:
        return Gate()

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────

    def heard(self) -> list[tuple[str, str, str | None]]:
        """Kind, state and code of the notices since the last look."""
        found = [(n.kind.value, n.state.value, n.code) for n in self.notices]
        self.notices.clear()
        return found

    def took(self) -> list[str]:
        """The ids of the rows that were taken since the last look."""
        found = [row.id for row in self.rows]
        self.rows.clear()
        return found

    def files(self, part: str) -> dict[str, bytes]:
        """Every file below ``uploads``, ``music`` or ``artwork``, hidden ones included, by relative path."""
        base = self.root / part
        return {str(p.relative_to(base)): p.read_bytes() for p in sorted(base.rglob("*")) if p.is_file()}

    def document(self, uploadid: str = "one") -> bytes | None:
        """The task file."""
        path = self.root / "uploads" / "tasks" / f"{uploadid}.json"
        return path.read_bytes() if path.exists() else None

    def stored(self, uploadid: str = "one") -> bytes:
        """The bytes of an upload."""
        return (self.root / "uploads" / self.uploads.get(uploadid).destinationpath).read_bytes()

    def entries(self) -> dict[str, str]:
        """Path of the catalogue's entries by uid."""
        return {entry.uid: entry.path for entry in self.library.entries()}

    def everything(self) -> tuple[object, ...]:
        """All that is stored, to compare."""
        parts = ("uploads", "music", "artwork")
        directories = [sorted(str(p) for p in (self.root / part).rglob("*") if p.is_dir()) for part in parts]
        return (*(self.files(part) for part in parts), directories, self.library.entries())

    @contextmanager
    def refused(
        self, error: type[UploadError], code: str, *, guard: str | None = None, says: str = ""
    ) -> Iterator[pytest.ExceptionInfo[UploadError]]:
        """What is in the block is refused like this, and nothing that is stored changes."""
        stored = self.everything()
        with pytest.raises(error, match=says or None) as caught:
            yield caught
        assert type(caught.value) is error
        assert (caught.value.code, caught.value.guard) == (code, guard)
        assert caught.value.sentence.endswith(".")
        assert self.everything() == stored

    @contextmanager
    def refused_unknown(self) -> Iterator[None]:
        """What is in the block finds no upload ``one``, and everybody is told."""
        self.heard()
        with self.refused(TaskNotFound, "not_found", says="There is no upload 'one'"):
            yield
        assert self.heard() == [("InternalError", "notexisting", "not_found")]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[House]:
    """A house whose engine the test opens."""
    house = House(tmp_path)
    try:
        yield house
    finally:
        house.close()


@pytest.fixture
def house(closed: House) -> House:
    """A house with an engine."""
    closed.open()
    return closed
