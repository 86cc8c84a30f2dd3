"""Schedules: clients, workers and timers on one engine, one at a time, in an order that a seed decides.

A `Play` has an engine with real code everywhere, on adapters in memory or on the local ones with a simulated disk; a
few uploads; two or three clients who offer, send, pour, declare, annotate, ask, undo, remove and retry, some of them on
the same upload; subscribers that call back; one or two workers, real ones with their threads or such that only step;
somebody who lets months pass, and somebody who closes the house early; some uploads were begun with a server before
this one, and the disk fails now and then. They pause at each call of a port and at each lock (with some seeds: between
any two statements of the engine), and the seed decides who goes on. On the way and at the end the promises are looked
at:

1. what was acknowledged is stored, and whoever asks later hears of no less;
2. no offset and no revision falls;
3. what is complete has the declared hash;
4. what is visible in the library is whole, and belongs to whom it should;
5. files and entries of an upload are there once;
6. states follow rows only, from one to the next;
7. a notice follows its change, notices of an upload come in their order, and the last one tells how it ended;
8. and 10. nothing is left that belongs to nobody;
9. whoever raises disturbs nobody.

And all come to an end: no deadlock, nothing that is due and that nobody does, no count that is off.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from types import ModuleType
from typing import Any, BinaryIO, Final, TypeVar, cast

from attrs import define, evolve, field

from .. import engine as engine_module
from .. import worker as worker_module
from ..adapters import inprocess, local, memory
from ..adapters.disk import Disk
from ..engine import Uploads
from ..errors import InUse, OffsetMismatch, Refused, StorageError, TaskNotFound, TooLarge
from ..library import memory as library_module
from ..lifecycle import FAILURE_STATES, Row, State, Trigger, due
from ..notices import Notice, NoticeKind
from ..ports import Buffer, ContentType
from ..settings import Settings
from ..tasks import JSON, Offer, UploadTask, load
from ..verify import replay
from ..worker import Worker
from .baton import Scheduler, finely, standing_in
from .content import PlainContent
from .disk import SimulatedDisk, WatchedDisk

__all__ = ["Broken", "Found", "Play", "play", "plays"]

S = State
T = TypeVar("T")
_START: Final = 1_000_000.0
_MONTHS: Final = 100 * 86_400.0
_IDS: Final = ("one", "two", "three")
_SCRIPTS: Final = (*["fine"] * 7, "bad", "ask", "noart", "noimport", "shaky")
_ROOTS: Final = ("music", "artwork")
_INSIDE: Final = frozenset({S.INTEGRATED, S.STARTIMPORT, S.IMPORTARTWORK, S.IMPORTFAILED, S.IMPORTCOMPLETE})
_FINE: Final = (engine_module, inprocess)
"""Where some seeds pause between any two statements."""


class Broken(AssertionError):
    """A promise was broken; the sentence says which."""


def _demand(fine: object, sentence: str) -> None:
    if not fine:
        raise Broken(sentence)


class _Port:
    """An adapter at each of whose calls somebody else may go on."""

    def __init__(self, scheduler: Scheduler, name: str, adapter: object) -> None:
        self._adapter = adapter
        for method in dir(type(adapter)):
            value = getattr(adapter, method)
            if not method.startswith("_") and callable(value):
                setattr(self, method, partial(self._call, scheduler.pause, f"{name}.{method}", value))

    def __getattr__(self, name: str) -> object:
        return getattr(self._adapter, name)

    @staticmethod
    def _call(pause: Callable[[str], None], what: str, do: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        pause(what)
        return do(*args, **kwargs)


class _Bus(_Port):
    """Looks at what is told before anybody hears of it."""

    def __init__(self, scheduler: Scheduler, adapter: object, look: Callable[[Notice], None]) -> None:
        super().__init__(scheduler, "bus", adapter)
        publish: Callable[[Sequence[Notice]], None] = getattr(self, "publish")  # noqa: B009  # put there by name

        def looked_at(notices: Sequence[Notice]) -> None:
            for notice in notices:
                look(notice)
            publish(notices)

        self.publish = looked_at


class _Shaky:
    """A store that fails at times, and changes nothing then."""

    def __init__(self, store: Any, failures: Counter[str]) -> None:
        self._store, self._failures = store, failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """See `ByteStore.open`."""
        self._shake("open")
        found: AbstractContextManager[BinaryIO] = self._store.open(key)
        return found

    def append(self, key: str, offset: int, data: Buffer) -> None:
        """See `ByteStore.append`."""
        self._shake("append")
        self._store.append(key, offset, data)

    def _shake(self, method: str) -> None:
        if self._failures[method]:
            self._failures[method] -= 1
            raise StorageError("The disk shakes.")


class _PausingDisk(WatchedDisk):
    """A disk at each of whose calls somebody else may go on."""

    def __init__(self, scheduler: Scheduler, inner: Disk) -> None:
        super().__init__(inner)
        self._scheduler = scheduler

    def _call(self, method: str, do: Callable[[], T], instead: T) -> T:
        self._scheduler.pause(f"disk.{method}")
        return do()


class _Memory:
    """Adapters in memory, and what is in them."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.bytes_ = memory.MemoryBytes()
        self.tasks_ = memory.MemoryTasks()
        self.trees_ = {name: memory.MemoryTree(name) for name in _ROOTS}
        self.bytes: Any = _Port(scheduler, "bytes", self.bytes_)
        self.tasks: Any = _Port(scheduler, "tasks", self.tasks_)
        self.trees: Mapping[str, Any] = {n: _Port(scheduler, n, tree) for n, tree in self.trees_.items()}

    def stored(self, key: str) -> bytes | None:
        """What is on record of an upload's bytes."""
        place = self.bytes_._places.get(key)
        if place is None:
            return None
        # The last chunk goes on record together with the state that follows.
        return bytes(place.data if place.sealed else place.data[: place.recorded])

    def keys(self) -> Sequence[str]:
        """Of all places for bytes."""
        return self.bytes_.keys

    def task(self, uploadid: str) -> UploadTask | None:
        """As it is on record."""
        return self.tasks_.get(uploadid)

    def visible(self) -> dict[tuple[str, str], bytes]:
        """The files of the library."""
        return {(root, path): data for root, tree in self.trees_.items() for path, data in tree.files.items()}

    def leftovers(self) -> list[str]:
        """What is hidden in the library, and of no use any more."""
        return [f"{name}: {uid}" for name, tree in self.trees_.items() for uid in tree.unsettled()]


class _OnDisk:
    """The local adapters on a simulated disk, and what is in them."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.disk = SimulatedDisk()
        pausing = _PausingDisk(scheduler, self.disk)
        for root in ("uploads", *_ROOTS):
            self.disk.mkdir(f"/{root}")
        self.bytes: Any = local.LocalBytes("/uploads", disk=pausing)
        self.tasks: Any = local.LocalTasks("/uploads", disk=pausing)
        trees = {name: local.LocalTree(name, f"/{name}", disk=pausing) for name in _ROOTS}
        for tree in trees.values():
            tree._turn = scheduler.threads.Lock()  # type: ignore[assignment]  # it was made when the class was
        self.trees: Mapping[str, Any] = trees

    def stored(self, key: str) -> bytes | None:
        """What is stored of an upload's bytes; what is not on record yet may be among them."""
        found = [d for path, d in self.disk.files(f"/uploads/data/{key}").items() if path != ".offset"]
        return found[0] if len(found) == 1 else None

    def keys(self) -> Sequence[str]:
        """Of all places for bytes."""
        return sorted({path.partition("/")[0] for path in self.disk.files("/uploads/data")})

    def task(self, uploadid: str) -> UploadTask | None:
        """As it is on record; nobody pauses on the way."""
        document = self.disk.files("/uploads/tasks").get(f"{uploadid}.json")
        return None if document is None else load(document)

    def visible(self) -> dict[tuple[str, str], bytes]:
        """The files of the library."""
        return {(root, path): data for root in _ROOTS for path, data in self.disk.files(f"/{root}").items()
                if not path.startswith(".stagedoor/")}  # fmt: skip

    def leftovers(self) -> list[str]:
        """What is hidden in the library, and of no use any more."""
        return [f"{name}: {uid}" for name, tree in self.trees.items() for uid in tree.unsettled()]


@define
class _Upload:
    """What a play is about."""

    id: str
    content: bytes
    known: bool
    right: bool
    name: str
    kind: str

    @property
    def sha1(self) -> str:
        return hashlib.sha1(self.content, usedforsecurity=False).hexdigest()

    @property
    def declared(self) -> str:
        return self.sha1 if self.right else "0" * 40

    def offer(self) -> Offer:
        if not self.known:
            return Offer(self.id, filename="clip.mp4", contenttype=self.kind)
        size = len(self.content)
        return Offer(self.id, filename="clip.mp4", contenttype=self.kind, filesize=size, sha1=self.declared)


@define
class _Seen:
    """What is known of one upload, by its uid.

    Attributes:
        revision: The newest that anybody was given.
        acknowledged: Bytes, by key.
        said: Annotations that were acknowledged.
        state: After the last row.
        task: As it was when the last row was taken.
        told: By subscriber, what was told last.
        removed: Whether it is to be deleted.
        undoing: Whether an undo was asked for and is not over.
        half: Whether an undo ended half-way, or was under way when it was removed: what it had taken is gone.
    """

    revision: int = 0
    acknowledged: Counter[str] = field(factory=Counter)
    said: dict[str, JSON] = field(factory=dict)
    state: State = S.WAITFORCHUNK
    task: UploadTask | None = None
    told: dict[int, UploadTask] = field(factory=dict)
    removed: bool = False
    undoing: bool = False
    half: bool = False


@define
class Found:
    """What plays found.

    Attributes:
        seeds: How many.
        steps: Pauses.
        rows: Taken, by their ids.
        wrong: Seeds and what went wrong.
    """

    seeds: int = 0
    steps: int = 0
    rows: Counter[str] = field(factory=Counter)
    wrong: list[str] = field(factory=list)

    def add(self, other: Found) -> None:
        """Take another one's in."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.rows += other.rows
        self.wrong += other.wrong


class Play:
    """One run. It is over when `run` returns.

    Args:
        seed: Decides everything.
        on_disk: Whether the adapters are the local ones; the seed decides when not given.
        fine: Whether to pause between any two statements; the seed decides when not given.

    Attributes:
        scheduler: Who had the baton when.
        rows: Rows that were taken.
    """

    def __init__(self, seed: int, *, on_disk: bool | None = None, fine: bool | None = None) -> None:
        self.seed = seed
        self.dice = dice = random.Random(f"{seed} play")  # noqa: S311  # not for secrets
        self.rows: Counter[str] = Counter()
        self.on_disk = dice.random() < 0.1 if on_disk is None else on_disk
        self.fine = dice.random() < 0.15 if fine is None else fine
        self.rush = dice.random() < 0.3
        self.scheduler = Scheduler(seed, limit=500_000 if self.fine else 50_000)
        self.settings = Settings(
            backoff=dice.choice((0.0, 1.0)),
            free_floor=0,
            attempts=3,
            max_chunk=64,
            checkpoint=dice.choice((0.0, 3_600.0)),
            max_unfinished=dice.choice((1, 2, 100)),
        )
        number = dice.choice((1, 2, 2, 3, 3))
        self.uploads_ = [self._upload(dice, uploadid) for uploadid in _IDS[:number]]
        self.later = 0.0
        self.seen: dict[str, _Seen] = {}
        self.left_to_come = 0
        self.over = False
        before = random.Random(f"{seed} before")  # noqa: S311  # not for secrets
        self.begun = before.random() if before.random() < 0.25 else None
        self.failures = Counter(open=before.choice((0, 0, 0, 1, 4)), append=before.choice((0, 0, 0, 0, 0, 1)))
        self._names = iter(range(1, 1 << 30))
        self._where: _Memory | _OnDisk
        self.uploads: Uploads

    @staticmethod
    def _upload(dice: random.Random, uploadid: str) -> _Upload:
        script = dice.choice(_SCRIPTS)
        content = script.encode() + b"-" * dice.randint(4, 30) + uploadid.encode()
        return _Upload(
            uploadid,
            content,
            dice.random() < 0.7,
            dice.random() < 0.9,
            dice.choice(("Alpha", "Alpha", "Alpha", "Beta")),
            dice.choice(("video", "video", "video", "sound")),
        )

    @property
    def now(self) -> float:
        """The clock of the engine."""
        return _START + self.later + self.scheduler.now

    # ── the play ──────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Let them play.

        Raises:
            Broken: A promise was not kept.
            Deadlock, Endless: They do not come to an end.
            Exception: Whatever nobody may see.
        """
        threads = self.scheduler.threads
        places: dict[ModuleType, Mapping[str, object]] = {
            engine_module: {"threading": threads},
            memory: {"threading": threads},
            local: {"threading": threads},
            inprocess: {"threading": threads, "queue": threads, "time": threads},
            worker_module: {"threading": threads, "ThreadPoolExecutor": threads.ThreadPoolExecutor},
            library_module: {"Lock": threads.Lock},
        }
        with standing_in(places), ExitStack() as stack:
            self._where = _OnDisk(self.scheduler) if self.on_disk else _Memory(self.scheduler)
            self.library = library_module.MemoryLibrary()
            shaking = dict.fromkeys(("preprocess", "import_", "illustrate"), 2)
            contents = [PlainContent(failures=shaking), PlainContent("sound", has_artwork=False)]
            if self.begun is not None and not self.rush:
                self._open(contents, inprocess.InlineBus())
                self._begin_all(self.begun)
            self._open(contents, inprocess.ThreadedBus() if self.seed % 4 == 0 else inprocess.InlineBus())
            if self.rush:
                self._bring_all()
            if self.fine:
                stack.enter_context(finely(_FINE, self.scheduler.pause))
            self._cast()
            self.scheduler.stuck = self._nobody_is_idle
            self.scheduler.run()
            self.scheduler.stuck = lambda: None
            if self.uploads.closed:
                self._open(contents, inprocess.InlineBus())
                for _ in range(9):  # a step may have been given back until later, more than once
                    Worker(self.uploads).drain()
                    self.later += 100.0
            self._look_back()
            self.uploads.close()

    def _open(self, contents: Sequence[PlainContent], bus: inprocess.InlineBus | inprocess.ThreadedBus) -> None:
        scheduler, where = self.scheduler, self._where
        self.bus = bus
        self.uploads = Uploads(
            bytes=_Shaky(where.bytes, self.failures),
            tasks=where.tasks,
            trees=where.trees,
            library=_Port(scheduler, "library", self.library),  # type: ignore[arg-type]  # has what the library has
            contents=[cast("ContentType", _Port(scheduler, "content", content)) for content in contents],
            settings=self.settings,
            bus=_Bus(scheduler, bus, self._told),  # type: ignore[arg-type]
            work=_Port(scheduler, "work", inprocess.LocalQueue()),  # type: ignore[arg-type]
            clock=lambda: self.now,
            ids=lambda: f"{next(self._names):032x}",
            trace=self._trace,
        )
        self.uploads.subscribe(partial(self._heard, 0))

    def _bring_all(self) -> None:
        """All is sent and looked at when the play begins, and everybody wants into the library."""
        for upload in self.uploads_:
            upload.known = upload.right = True
            with suppress(TooLarge, StorageError):  # the settings may allow one at a time
                self.uploads.initiate(upload.offer())
                self.uploads.receive(upload.id, offset=0, data=upload.content)
                self.uploads.annotate(upload.id, {"artistname": "Artist", "name": upload.name, "answers.which": "this"})
        Worker(self.uploads).drain()

    def _begin_all(self, share: float) -> None:
        """So much of each was sent to a server that is gone, and with it what it knew of the hash."""
        for upload in self.uploads_:
            with suppress(TooLarge, StorageError):
                self.uploads.initiate(upload.offer())
                self.uploads.receive(upload.id, offset=0, data=upload.content[: 1 + int(share * len(upload.content))])
        self.uploads.close()

    def _cast(self) -> None:
        """Who is in it."""
        dice, scheduler = self.dice, self.scheduler
        if dice.random() < 0.3:
            self.uploads.subscribe(self._raise)
        if dice.random() < 0.4:
            self.uploads.subscribe(_Helper(self, random.Random(f"{self.seed} helper")).hear)  # noqa: S311
        self.uploads.subscribe(partial(self._heard, 1))
        clients = [(upload, "sender") for upload in self.uploads_]
        while len(clients) < 2 or (len(clients) < 3 and dice.random() < 0.4):
            clients.append((dice.choice(self.uploads_), dice.choice(("sender", "meddler"))))
        self.left_to_come = len(clients)
        for number, (upload, part) in enumerate(clients):
            own = random.Random(f"{self.seed} client {number}")  # noqa: S311  # not for secrets
            part = "asker" if self.rush and part == "sender" else part
            client = _Client(self, upload, own)
            scheduler.spawn(f"{part}{number}", partial(client.run, part))
        if dice.random() < 0.3:
            self.left_to_come += 1
            scheduler.spawn("time", self._let_time_pass)
        workers = self._workers()
        scheduler.spawn("porter", partial(self._close_the_house, workers, dice.random() < 0.1))

    def _workers(self) -> Sequence[Callable[[], None]]:
        """Start them; each function ends one."""
        worker, number = Worker(self.uploads, threads=self.dice.choice((1, 2))), self.dice.choice((1, 2))
        if self.dice.random() < 0.4:
            worker.start()
            return [worker.stop]
        ends = []
        for n in range(number):
            steps = _Steps(self.uploads)
            thread = self.scheduler.threads.Thread(steps.run, f"worker{n}", daemon=True)
            thread.start()
            ends.append(partial(steps.stop, thread))
        return ends

    def _close_the_house(self, workers: Sequence[Callable[[], None]], early: bool) -> None:
        if early:
            self.scheduler.sleep(0.0)
            for _ in range(self.dice.randrange(60)):
                self.scheduler.pause("porter")
            for stop in workers:
                stop()
            self.uploads.close()
            return
        if self.left_to_come:
            self.scheduler.block("the clients")
        resting = False
        while not resting:
            for upload in self.uploads_:
                self.uploads.wait(upload.id)
            self.scheduler.sleep(1.0)  # until nobody has anything to do, be it because of what they were told
            tasks = [self._where.task(upload.id) for upload in self.uploads_]
            resting = all(task is None or due(task) is None for task in tasks)
        for stop in workers:
            stop()
        self.bus.close()  # what is told last is heard as well
        self.over = True

    def left(self) -> None:
        """A client has gone."""
        self.left_to_come -= 1
        if not self.left_to_come:
            for actor in self.scheduler._waiting:
                if actor.waits == "the clients":
                    self.scheduler.wake(actor)
                    return

    def _let_time_pass(self) -> None:
        for _ in range(self.dice.randrange(80)):
            self.scheduler.pause("time")
        self.later += _MONTHS
        self.uploads.work.wake()  # it has measured its pause by a clock that was put forward now
        try:
            self.uploads.sweep()
        except InUse as error:
            _demand(error.code == "closed", f"the sweep was refused: {error}")
        finally:
            self.left()

    def _nobody_is_idle(self) -> None:
        """Nobody can go on before some time passes. What is due should be under way, then."""
        if self.uploads.closed:
            return
        for upload in self.uploads_:
            task = self.uploads.find(upload.id)
            if task is None or due(task) is None or upload.id in self.uploads._busy:
                continue
            _demand(
                task.step is not None and task.step.not_before > self.now - 1e-6,
                f"{upload.id} is in {task.state}, {due(task)} is due, and nobody does it",
            )

    # ── on the way ────────────────────────────────────────────────────────────────────────────────────────────

    def _of(self, task: UploadTask) -> _Seen:
        return self.seen.setdefault(task.uid, _Seen())

    def _trace(self, row: Row, task: UploadTask) -> None:
        """A row is taken; the lock is held."""
        self.rows[row.id] += 1
        seen = self._of(task)
        _demand(seen.state is row.source, f"promise 6: {row.id} from {seen.state}")
        _demand(not seen.removed, f"promise 6: {row.id} after the removal")
        if row.dest is not None:
            seen.state = row.dest
        seen.task = evolve(task, state=row.dest or row.source)
        seen.removed = row.dest is S.REMOVE
        ended = row.trigger is Trigger.RELEASE and task.wanted is None
        seen.half = seen.half or (seen.undoing and (seen.removed or ended))
        if row.trigger in (Trigger.REQUEST_UNDO, Trigger.UNDO) or ended:
            seen.undoing = row.trigger is Trigger.REQUEST_UNDO
        if row.trigger is Trigger.UNDO:
            seen.half = False

    def _told(self, notice: Notice) -> None:
        """Somebody is about to be told."""
        task = notice.task
        if task is None:
            return
        there = self._where.task(task.id)
        if there is None or there.uid != task.uid:
            _demand(self._of(task).removed, f"promise 7: told of {task.id}, which is not there")
            return
        _demand(there.revision >= task.revision, f"promise 7: told of {task.id} in {task.state} before it was saved")
        if task.state is S.WAITFORCHUNK and there.key == task.key:
            stored = self._where.stored(task.key)
            _demand(
                stored is not None and len(stored) >= task.offset, "promise 7: told of bytes that are not on record"
            )

    def _heard(self, who: int, notice: Notice) -> None:
        """Somebody is told."""
        task = notice.task
        if task is None:
            return
        told = self._of(task).told
        before = told.get(who)
        told[who] = task
        if before is not None:
            _demand(before.revision <= task.revision, f"promise 7: {task.id} was told of out of order")
            if before.key == task.key and notice.kind is NoticeKind.CHUNK_REQUEST and before.state is S.WAITFORCHUNK:
                _demand(before.offset <= task.offset, f"promise 2: {task.id} went back in what was told")

    @staticmethod
    def _raise(notice: Notice) -> None:
        raise RuntimeError("a callback of somebody else")

    def did(self, client: str, upload: _Upload, do: Callable[[], UploadTask | None]) -> UploadTask | None:
        """Do something for a client, and look at the answer."""
        before = {uid: (seen.revision, seen.acknowledged.copy()) for uid, seen in self.seen.items()}
        task = do()
        if task is None:
            return None
        seen = self._of(task)
        revision, acknowledged = before.get(task.uid, (0, Counter[str]()))
        _demand(task.revision >= revision, f"promise 2: {client} was given revision {task.revision} after {revision}")
        if task.state is S.WAITFORCHUNK:
            offset = acknowledged[task.key]
            _demand(task.offset >= offset, f"promise 2: {client} was told {task.offset} after {offset}")
            seen.acknowledged[task.key] = max(seen.acknowledged[task.key], task.offset)
        there = self._where.task(task.id)
        if there is not None and there.key == task.key and there.state not in (S.REMOVE, S.UPLOADFAILED):
            stored = self._where.stored(task.key)
            _demand(stored is not None, f"promise 1: the bytes of {task.id} are gone")
            assert stored is not None
            _demand(len(stored) >= task.offset, f"promise 1: {task.offset} told, {len(stored)} stored")
            _demand(stored[: task.offset] == upload.content[: task.offset], "promise 1: other bytes than were sent")
        seen.revision = max(seen.revision, task.revision)
        return task

    # ── at the end ────────────────────────────────────────────────────────────────────────────────────────────

    def _look_back(self) -> None:
        contents = {upload.id: upload for upload in self.uploads_}
        tasks = {task.id: task for task in self.uploads.tasks()}
        for task in tasks.values():
            self._look_at(task, contents[task.id])
        _demand(self.uploads._locks == {}, "a lock is left")
        _demand(self.uploads._busy == set(), "a claim is left")
        counts = Counter(task.state for task in tasks.values())
        _demand(+self.uploads._counts == counts, f"{+self.uploads._counts} are counted, {counts} are there")
        waiting = {task.uid for task in tasks.values() if task.state is S.WAITFORCHUNK}
        _demand(set(self.uploads._live) <= waiting, "something is kept in mind of what is over")
        _demand(sorted(self._where.keys()) == sorted(task.key for task in tasks.values()), "promise 8")
        _demand(not self._where.leftovers(), f"promise 8: left in the library: {self._where.leftovers()}")
        self._look_at_library(tasks, contents)
        for uid, seen in self.seen.items():
            if seen.removed:
                _demand(uid not in {task.uid for task in tasks.values()}, "a removed upload is there")

    def _look_at(self, task: UploadTask, upload: _Upload) -> None:
        seen = self._of(task)
        _demand(due(task) is None, f"{task.id} does not rest in {task.state}")
        _demand(seen.state is task.state, f"promise 6: {task.state} on record, {seen.state} after the last row")
        problems = replay(task)
        _demand(not problems, f"promise 6: {problems}")
        _demand(task.revision >= seen.revision, f"promise 2: revision {task.revision} after {seen.revision}")
        missing = {k: v for k, v in seen.said.items() if task.annotations.get(k) != v}
        _demand(not missing, f"acknowledged annotations are lost: {missing}")
        stored = self._where.stored(task.key)
        _demand(stored is not None, f"promise 1: the bytes of {task.id} are gone")
        assert stored is not None
        if task.state is S.WAITFORCHUNK:
            _demand(task.offset >= seen.acknowledged[task.key], "promise 1: acknowledged bytes are lost")
            _demand(stored[: task.offset] == upload.content[: task.offset], "promise 1: other bytes than were sent")
        elif task.state is not S.UPLOADFAILED:
            _demand(stored == upload.content, "promise 3: not what was sent")
            _demand(task.sourcechecksum == upload.sha1, "promise 3: not the hash that was declared")
        if self.over:
            for who, told in seen.told.items():
                same = told.state is task.state and told.revision == task.revision
                if told.key == task.key and task.state is S.WAITFORCHUNK:
                    same = same and told.offset == task.offset
                _demand(same, f"promise 7: {who} heard last that {task.id} is in {told.state}, it is in {task.state}")

    def _look_at_library(self, tasks: Mapping[str, UploadTask], contents: Mapping[str, _Upload]) -> None:
        visible, entries = self._where.visible(), {entry.uid: entry.path for entry in self.library.entries()}
        _demand(len(entries) == len(self.library.entries()), "promise 5: two entries of an upload")
        gone = [seen.task for seen in self.seen.values() if seen.removed and seen.task is not None]
        everybody = [*tasks.values(), *gone]
        placed: dict[tuple[str, str], set[str]] = {}
        halves: set[tuple[str, str]] = set()
        for task in everybody:
            for file in task.placed:
                placed.setdefault((file.root, file.path), set()).add(file.sha256)
                if self._of(task).half:
                    halves.add((file.root, file.path))
        for (root, path), data in visible.items():
            _demand(
                hashlib.sha256(data).hexdigest() in placed.get((root, path), ()),
                f"promise 4: {root}/{path} belongs to nobody, or is not whole",
            )
        first = Counter((file.root, file.path) for task in everybody for file in task.placed if file.replaced is None)
        twice = {place for place, number in first.items() if number > 1 and place not in halves}
        _demand(not twice, f"promise 4: {twice} was placed twice, and nothing says that it was replaced")
        whole = [task for task in tasks.values() if not self._of(task).half]
        for task in whole:
            _demand(bool(task.placed) == (task.state in _INSIDE), f"promise 4: {task.placed} in {task.state}")
        _demand(set(placed) - halves <= set(visible), f"promise 4: {set(placed) - set(visible)} is missing")
        known = {task.uid for task in everybody}
        _demand(set(entries) <= known, "promise 5: an entry belongs to nobody")
        for task in whole:
            if task.state in (S.IMPORTCOMPLETE, S.IMPORTARTWORK):
                _demand(entries.get(task.uid) == task.placed[0].path, f"promise 5: {task.id} has no entry")
            elif task.state not in (S.IMPORTFAILED, S.STARTIMPORT):
                _demand(task.uid not in entries, f"promise 5: {task.id} in {task.state} has an entry")


class _Steps:
    """A worker that only steps."""

    def __init__(self, uploads: Uploads) -> None:
        self._worker, self._uploads = Worker(uploads), uploads
        self._stop = False

    def run(self) -> None:
        uploads = self._uploads
        while not self._stop:
            if not self._worker.step():
                uploads.work.wait(uploads.clock(), uploads.settings.sweep)

    def stop(self, thread: Any) -> None:
        self._stop = True
        while thread.is_alive():
            self._uploads.work.wake()
            thread.join(1.0)


class _Helper:
    """A subscriber who does the next thing at once, and sometimes something else."""

    def __init__(self, play: Play, dice: random.Random) -> None:
        self._play, self._dice = play, dice
        self._patience = 12

    def hear(self, notice: Notice) -> None:
        """See `Subscriber`."""
        task, uploads, dice = notice.task, self._play.uploads, self._dice
        if task is None or self._patience == 0 or dice.random() < 0.5:
            return
        self._patience -= 1
        other = dice.choice(self._play.uploads_).id
        try:
            if task.state is S.PREPROCESSED and dice.random() < 0.7:
                ask = uploads.integrate if dice.random() < 0.5 else uploads.request
                ask(task.id, trigger_import=True)
            elif task.state in FAILURE_STATES and dice.random() < 0.5:
                uploads.retry(task.id)
            elif dice.random() < 0.1:
                uploads.remove(other)
            elif dice.random() < 0.3 and isinstance(self._play.bus, inprocess.ThreadedBus):
                uploads.wait(other, 0.5)  # in a thread of its own, which keeps no worker waiting
            else:
                uploads.get(other)
        except (Refused, TaskNotFound, TimeoutError, InUse):
            pass
        except StorageError as error:
            _only_shaky(error)


def _only_shaky(error: StorageError) -> None:
    """Let pass what a play may meet: a step that fails, that others ask for anew, or that has to wait for another
    upload's; and that the uploads are closed.
    """
    if error.code == "closed":
        raise error
    known = ("shakes", "asked for anew", "just putting its file")
    _demand(
        any(words in error.sentence for words in known),
        f"an error that nobody planted: {type(error).__name__}: {error}",
    )


class _Client:
    """Does what a client does, with whatever answer."""

    def __init__(self, play: Play, upload: _Upload, dice: random.Random) -> None:
        self.play, self.upload, self.dice = play, upload, dice
        self.uploads = play.uploads
        self.notes = 0

    def run(self, part: str) -> None:
        """Its part, and then leave."""
        self.name = self.play.scheduler.current
        try:
            if part == "sender":
                self._send_all()
            elif part == "asker":
                self._ask(self.upload.id)
            for _ in range(self.dice.randint(2, 6)):
                self._something()
        except InUse as error:
            _demand(error.code == "closed", f"{self.name} was refused: {error}")
        finally:
            self.play.left()

    def _try(self, do: Callable[[], UploadTask | None]) -> UploadTask | None:
        try:
            return self.play.did(self.name, self.upload, do)
        except (Refused, TaskNotFound):
            return None
        except StorageError as error:
            _only_shaky(error)
            return None

    def _send_all(self) -> None:
        """Offer, send until nothing is wanted any more, say how it is called, ask for it."""
        uploads, upload, dice = self.uploads, self.upload, self.dice
        for _ in range(12):
            task = self._try(lambda: uploads.initiate(upload.offer()))
            if task is None or task.state is not S.WAITFORCHUNK:
                break
            if not upload.known and task.offset == len(upload.content):
                self._declare()
            elif dice.random() < 0.4:
                self._pour()
            else:
                self._chunks(task.offset)
            if dice.random() < 0.3:
                self._note()
            if not upload.known and dice.random() < 0.3:
                self._declare()
        self._name()
        try:
            task = uploads.wait(upload.id, 5_000.0)
        except TimeoutError:
            return
        if task is not None and task.state is S.PREPROCESSED:
            self._ask(task.id)

    def _chunks(self, offset: int) -> None:
        data = self.upload.content
        for _ in range(self.dice.randint(1, 3)):
            end = min(len(data), offset + self.dice.randint(1, 30))
            if offset >= end:
                return
            try:
                task = self.play.did(
                    self.name,
                    self.upload,
                    lambda at=offset, end=end: self.uploads.receive(self.upload.id, offset=at, data=data[at:end]),  # type: ignore[misc]
                )
            except OffsetMismatch as error:
                offset = error.expected
                continue
            except (Refused, TaskNotFound):
                return
            except StorageError as error:
                _only_shaky(error)
                return
            assert task is not None
            if task.state is not S.WAITFORCHUNK:
                return
            offset = task.offset

    def _pour(self) -> None:
        """As the body of a request."""
        data, dice = self.upload.content, self.dice
        try:
            inflow = self.uploads.inflow(self.upload.id)
            for _ in range(dice.randint(1, 4)):
                piece = data[inflow.offset : inflow.offset + dice.randint(1, 12)]
                if piece and not (dice.random() < 0.3 and inflow.write_at_once(piece)):
                    inflow.write(piece)
                if dice.random() < 0.3:
                    self._did(inflow.commit)
            self._did(dice.choice((inflow.finish, inflow.close)))
        except (Refused, TaskNotFound):
            return
        except StorageError as error:
            _only_shaky(error)

    def _did(self, do: Callable[[], UploadTask | None]) -> None:
        self.play.did(self.name, self.upload, do)

    def _declare(self) -> None:
        upload, uploads = self.upload, self.uploads
        if self.dice.random() < 0.5:
            self._try(lambda: uploads.declare(upload.id, filesize=len(upload.content), sha1=upload.declared))
        else:
            self._try(lambda: uploads.declare(upload.id, sha1=upload.declared))
            self._try(lambda: uploads.declare(upload.id, filesize=len(upload.content)))

    def _name(self) -> None:
        annotations: dict[str, JSON] = {"artistname": "Artist", "name": self.upload.name}
        if self.dice.random() < 0.7:
            annotations["answers.which"] = "this"
        self._try(lambda: self.uploads.annotate(self.upload.id, annotations))

    def _note(self) -> None:
        """Say something that is still to be said at the end."""
        self.notes += 1
        said = {f"{self.name}.{self.notes}": self.notes}
        task = self._try(lambda: self.uploads.annotate(self.upload.id, said))
        if task is not None:
            self.play._of(task).said.update(said)

    def _ask(self, uploadid: str) -> None:
        if self.dice.random() < 0.2:
            self._try(lambda: self.uploads.annotate(uploadid, {"answers.destination_exists": "replace"}))
        ask = self.uploads.integrate if self.dice.random() < 0.5 else self.uploads.request
        self._try(lambda: ask(uploadid, trigger_import=self.dice.random() < 0.8))

    def _something(self) -> None:
        """Anything, whether it fits or not; more often what does."""
        uploads, uploadid, dice = self.uploads, self.upload.id, self.dice
        task = self._try(lambda: uploads.find(uploadid))
        state = S.NOTEXISTING if task is None else task.state
        if dice.random() < 0.6:
            try:
                task = self._try(lambda: uploads.wait(uploadid, 50.0))
            except TimeoutError:
                return
        fitting: dict[State, list[Callable[[], object]]] = {
            S.NOTEXISTING: [self._send_all],
            S.WAITFORCHUNK: [self._send_all, lambda: self._chunks(0), self._pour, self._declare],
            S.PREPROCESSED: [self._name, partial(self._ask, uploadid), partial(self._ask, uploadid)],
            S.INTEGRATED: [lambda: self._try(lambda: uploads.start_import(uploadid)), self._undo],
            S.IMPORTCOMPLETE: [self._undo],
        }
        choices = fitting.get(state, [])
        if state in FAILURE_STATES:
            choices = [self._name, self._retry, self._retry, self._undo]
        if not choices or dice.random() < 0.3:
            choices = [
                self._note, self._retry, self._undo, self._name, self._declare,
                lambda: self._chunks(task.offset if task else 0),
                lambda: self._try(lambda: uploads.settle(uploadid)),
                lambda: self._try(lambda: uploads.request(uploadid, trigger_import=dice.random() < 0.5)),
                lambda: self._try(lambda: uploads.remove(uploadid)),
                self._look,
            ]  # fmt: skip
        dice.choice(choices)()

    def _retry(self) -> None:
        self._try(lambda: self.uploads.retry(self.upload.id))

    def _undo(self) -> None:
        self._try(lambda: self.uploads.undo(self.upload.id))

    def _look(self) -> None:
        def look() -> UploadTask | None:
            self.uploads.plan(self.upload.id)
            return self.uploads.get(self.upload.id)

        self._try(look)


@contextmanager
def _told_how(one: Play) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"Seed {one.seed}:\n{one.scheduler.trace()}")
        raise


def play(seed: int, *, on_disk: bool | None = None, fine: bool | None = None) -> Play:
    """One run; what goes wrong carries its trace as a note."""
    one = Play(seed, on_disk=on_disk, fine=fine)
    with _told_how(one):
        one.run()
    return one


def plays(seeds: Iterable[int], *, on_disk: bool | None = None, fine: bool | None = None) -> Found:
    """Many runs."""
    found = Found()
    for seed in seeds:
        found.seeds += 1
        one = Play(seed, on_disk=on_disk, fine=fine)
        try:
            one.run()
        except Exception as error:  # noqa: BLE001  # whatever it is, it was found
            found.wrong.append(f"seed {seed}: {type(error).__name__}: {error}\n{one.scheduler.trace(60)}")
        found.steps += one.scheduler.steps
        found.rows += one.rows
    return found
