"""Schedules: a slice of what `make proof` plays, that a play can be seen again, and that races would be found."""

from __future__ import annotations

import heapq
import logging
import queue
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import pytest

from stagedoor import engine
from stagedoor.adapters import inprocess
from stagedoor.adapters.inprocess import InlineBus
from stagedoor.adapters.memory import MemoryTasks, MemoryTree
from stagedoor.engine import Uploads
from stagedoor.lifecycle import ROWS, Row, Trigger
from stagedoor.notices import Notice, NoticeKind
from stagedoor.ports import WorkItem
from stagedoor.session import Session
from stagedoor.tasks import JSON, PlacedFile, UploadTask, evolve
from stagedoor.testing.baton import Deadlock, Endless, Scheduler, finely
from stagedoor.testing.schedules import play, plays


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Steps that fail and callbacks that raise would each be logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


# ── the plays ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_promises_hold_whoever_goes_next() -> None:
    found = plays(range(150))
    assert found.wrong == []
    assert found.seeds == 150
    assert len(found.rows) > 45


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("fine", [False, True], ids=["ports", "statements"])
def test_on_all_adapters_and_between_all_statements(on_disk: bool, fine: bool) -> None:
    taken: Counter[str] = Counter()
    for seed in range(6):
        taken += play(seed, on_disk=on_disk, fine=fine).rows
    assert set(taken) <= {row.id for row in ROWS}
    assert len(taken) > 15


@pytest.mark.parametrize("seed", [3, 4, 8])
def test_a_play_can_be_seen_again(seed: int) -> None:
    traces = [play(seed).scheduler.trace(10_000) for _ in range(2)]
    assert traces[0] == traces[1]
    program = (
        "import sys, logging; logging.disable(50); from stagedoor.testing.schedules import play; "
        f"sys.stdout.write(play({seed}).scheduler.trace(10_000))"
    )
    for order in ("1", "2"):  # in another process, with other hashes of strings
        done = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": order}, check=True, capture_output=True, text=True
        )
        assert done.stdout == traces[0]


def test_another_seed_is_another_play() -> None:
    assert len({play(seed).scheduler.trace(10_000) for seed in range(20)}) == 20


# ── it would notice ───────────────────────────────────────────────────────────────────────────────────────────


def no_lock(patch: pytest.MonkeyPatch) -> None:
    """The lock of an upload locks nothing."""

    class Free:
        def acquire(self, wait: bool = True) -> bool:
            return True

        def release(self) -> None:
            """Do nothing."""

    held = engine._Lock
    patch.setattr(engine, "_Lock", lambda _: held(Free()))  # type: ignore[arg-type]  # that is the fault


def unchecked(patch: pytest.MonkeyPatch) -> None:
    """Annotations need no lock, and whoever saves last is right."""

    def cas(self: MemoryTasks, task: UploadTask, expected_revision: int) -> None:
        self._tasks[task.id] = task

    def annotate(self: Uploads, uploadid: str, annotations: Mapping[str, JSON] | None = None) -> UploadTask:
        return self._event(Trigger.ANNOTATE, self._need(uploadid), annotations=annotations)

    patch.setattr(MemoryTasks, "cas", cas)
    patch.setattr(Uploads, "annotate", annotate)


def told_first(patch: pytest.MonkeyPatch) -> None:
    """A notice goes out before its change is saved."""
    commit = Uploads._commit

    def told_then_saved(self: Uploads, row: Row, session: Session) -> UploadTask:
        if row.dest is not None:
            task = evolve(session.task, state=row.dest, revision=session.task.revision + 1)
            self._publish(Notice(NoticeKind.STATE_UPDATE, task.id, task))
        return commit(self, row, session)

    patch.setattr(Uploads, "_commit", told_then_saved)


def two_deliver(patch: pytest.MonkeyPatch) -> None:
    """Two threads may deliver notices at once."""

    def flush(self: inprocess.InlineBus) -> None:
        while not self._outbox.empty():
            with suppress(queue.Empty):
                notice = self._outbox.get_nowait()
                for subscription in self._subscriptions:
                    inprocess._deliver(subscription.subscriber, notice)

    patch.setattr(inprocess.InlineBus, "flush", flush)


def no_wake_up(patch: pytest.MonkeyPatch) -> None:
    """Who waits for work is not told that there is some."""

    def submit(self: inprocess.LocalQueue, item: WorkItem) -> None:
        key = (item.id, item.uid)
        with self._changed:
            if key not in self._due or item.not_before < self._due[key]:
                self._due[key] = item.not_before
                heapq.heappush(self._heap, (item.not_before, item.id, item.uid))

    patch.setattr(inprocess.LocalQueue, "submit", submit)


def told_while_claimed(patch: pytest.MonkeyPatch) -> None:
    """Subscribers are called while the thread that calls them has a claim on the upload."""

    @contextmanager
    def claimed(self: Uploads, uploadid: str) -> Iterator[None]:
        try:
            yield
        finally:
            with self._idle:
                self._busy.discard(uploadid)
                self._idle.notify_all()
            task = self._load(uploadid)
            if task is not None:
                self._submit(task)

    patch.setattr(Uploads, "_claimed", claimed)


def no_claim(patch: pytest.MonkeyPatch) -> None:
    """Two workers may be at one step, and nobody looks whose it is in the end."""
    patch.setattr(Uploads, "perform", lambda self, uploadid: self._perform(uploadid))
    patch.setattr(engine, "_same_step", lambda task, session: True)
    patch.setattr(Session, "holds_step", lambda self: True)


def late_look(patch: pytest.MonkeyPatch) -> None:
    """Whether a name is taken is asked before the lock of the tree is taken, and not again."""
    place = MemoryTree.place

    def careless(
        self: MemoryTree, uid: str, path: str, source: BinaryIO, sha256: str | None = None, *, replace: bool = False
    ) -> PlacedFile:
        free = not self.exists(path)
        with self._lock:  # somebody else may go on here
            pass
        if free and not replace:
            self.files.pop(path, None)
        return place(self, uid, path, source, sha256, replace=replace)

    patch.setattr(MemoryTree, "place", careless)


def not_seen_again(patch: pytest.MonkeyPatch) -> None:
    """A removal counts as done when the bytes are gone: what is left in the tree is left."""
    patch.setattr(Session, "clear_trees", lambda self: None)


@pytest.mark.parametrize(
    ("plant", "seeds"),
    [
        (no_lock, range(40)), (unchecked, range(200)), (told_first, range(5)), (two_deliver, range(200)),
        (no_wake_up, range(20)), (told_while_claimed, range(200)), (no_claim, range(300)),
        (late_look, range(1_200, 1_800)),  # four in the first 2,500
        (not_seen_again, range(300)),
    ],
)  # fmt: skip
def test_a_planted_race_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for seed in seeds:
        found = plays([seed], on_disk=False)
        if found.wrong:
            assert found.wrong[0].startswith(f"seed {seed}: ")
            assert found.wrong == plays([seed], on_disk=False).wrong  # and can be seen again
            return
    pytest.fail(f"{len(seeds)} plays did not find it")


# ── the scheduler ─────────────────────────────────────────────────────────────────────────────────────────────


def test_two_locks_in_another_order_are_a_deadlock() -> None:
    def run(seed: int) -> bool:
        scheduler = Scheduler(seed)
        one, other = scheduler.threads.Lock(), scheduler.threads.Lock()

        def both(first: Any, second: Any) -> None:
            with first, second:
                pass

        scheduler.spawn("a", lambda: both(one, other))
        scheduler.spawn("b", lambda: both(other, one))
        try:
            scheduler.run()
        except Deadlock as error:
            said.append(str(error))
            return True
        return False

    said: list[str] = []
    assert {run(seed) for seed in range(40)} == {True, False}
    assert {one for text in said for one in text.removeprefix("Nobody can go on: ").rstrip(".").split("; ")} == {
        "a waits for the lock of b",
        "b waits for the lock of a",
    }


def test_who_goes_on_for_ever_is_stopped() -> None:
    scheduler = Scheduler(1, limit=100)
    scheduler.spawn("a", lambda: list(map(scheduler.pause, [""] * 1_000)))
    with pytest.raises(Endless, match="100 steps"):
        scheduler.run()


def test_time_passes_when_nobody_can_go_on() -> None:
    scheduler = Scheduler(1)
    event, heard = scheduler.threads.Event(), list[tuple[str, float]]()

    def wait(name: str, seconds: float) -> None:
        heard.append((name, scheduler.now if event.wait(seconds) else -scheduler.now))

    scheduler.spawn("short", lambda: wait("short", 1.0))
    scheduler.spawn("long", lambda: wait("long", 9.0))

    def ring() -> None:
        scheduler.sleep(5.0)
        event.set()

    scheduler.spawn("ring", ring)
    scheduler.run()
    assert heard == [("short", -1.0), ("long", 5.0)]


def test_what_an_actor_raises_ends_the_run_and_the_others() -> None:
    def run(seed: int) -> tuple[str, ...]:
        scheduler = Scheduler(seed)
        lock, heard = scheduler.threads.RLock(), list[str]()

        def wait() -> None:
            heard.append("begun")
            try:
                with lock:
                    scheduler.block("nothing")
            finally:
                heard.append("gone")

        def fail() -> None:
            scheduler.pause()
            raise ValueError("this one")

        scheduler.spawn("wait", wait)
        scheduler.spawn("fail", fail)
        with pytest.raises(ValueError, match="this one"):
            scheduler.run()
        return tuple(heard)

    assert {run(seed) for seed in range(20)} == {(), ("begun", "gone")}


def test_locks_conditions_and_semaphores_do_what_threads_do() -> None:
    for seed in range(20):
        scheduler = Scheduler(seed)
        threads = scheduler.threads
        slots, queue, taken, most = threads.Semaphore(2), threads.SimpleQueue(), list[object](), 0

        def work(slots: Any = slots, queue: Any = queue, scheduler: Scheduler = scheduler) -> None:
            nonlocal most
            with threads_of(slots):
                most = max(most, 2 - slots._value)
                scheduler.pause()
                queue.put(scheduler.current)

        for number in range(4):
            scheduler.spawn(f"w{number}", work)
        scheduler.spawn("r", lambda queue=queue, taken=taken: taken.extend(queue.get() for _ in range(4)))  # type: ignore[misc]
        scheduler.run()
        assert sorted(map(str, taken)) == ["w0", "w1", "w2", "w3"]
        assert most <= 2


@contextmanager
def threads_of(semaphore: Any) -> Iterator[None]:
    semaphore.acquire()
    try:
        yield
    finally:
        semaphore.release()


def test_pauses_between_statements_are_put_in_and_taken_out() -> None:
    code, calls = InlineBus.flush.__code__, list[int]()
    with finely([inprocess], lambda: calls.append(1)) as number:
        assert number > 20
        InlineBus().flush()
        assert calls
    assert InlineBus.flush.__code__ is code
    calls.clear()
    InlineBus().flush()
    assert not calls
