"""The management thread: one thing at a time when a test drives it, and threads that outlive everything."""

from __future__ import annotations

import errno
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from stagedoor.adapters.inprocess import InlineBus, LocalQueue, ThreadedBus
from stagedoor.errors import ContentRejected, StorageError, StorageFull
from stagedoor.lifecycle import State, Trigger
from stagedoor.notices import Notice
from stagedoor.ports import WorkItem
from stagedoor.testing.disk import FuseDisk
from stagedoor.worker import Courtesy, Worker, busy_thread, manage

if TYPE_CHECKING:
    from conftest import House

S = State
DAY = 86_400.0


def fail(error: BaseException) -> Callable[..., NoReturn]:
    """A hook that raises."""

    def hook(*_: object, **__: object) -> NoReturn:
        raise error

    return hook


class Watched(LocalQueue):
    """A queue that tells how it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.empty_takes = 0
        self.waits: list[float | None] = []
        self.idle = threading.Semaphore(0)

    def take(self, now: float) -> WorkItem | None:
        item = super().take(now)
        self.empty_takes += item is None
        return item

    def wait(self, now: float, timeout: float | None) -> None:
        self.waits.append(timeout)
        self.idle.release()
        super().wait(now, timeout)


class Until:
    """A subscriber that waits for a state."""

    def __init__(self, state: State, uploadid: str = "one") -> None:
        self._wanted, self._reached = (state, uploadid), threading.Event()

    def __call__(self, notice: Notice) -> None:
        if (notice.state, notice.uploadid) == self._wanted:
            self._reached.set()

    def wait(self, patience: float) -> None:
        assert self._reached.wait(patience), f"{self._wanted} was not reached"


class TestStep:
    def test_does_one_thing_at_a_time(self, house: House) -> None:
        for uploadid in ("one", "two", "three"):
            house.send(uploadid)
        house.took()
        steps = []
        while house.worker.step():
            steps.append(house.took())
        one = ["begin:uploadcomplete:internal", "preprocess:uploadcomplete:preprocessed"]
        assert [rows for rows in steps if rows] == [one] * 3
        assert house.worker.step() is False

    def test_two_runs_take_the_same_rows_in_the_same_order(self, house: House) -> None:
        def run(*ids: str) -> list[str]:
            for uploadid in ids:
                house.send(uploadid, annotations={"artistname": uploadid, "name": uploadid})
            house.worker.drain(100)
            for uploadid in ids:
                house.uploads.request(uploadid, trigger_import=True)
            house.worker.drain(100)
            for uploadid in ids:
                house.uploads.undo(uploadid)
                house.uploads.remove(uploadid)
            house.worker.drain(100)
            return house.took()

        first = run("a", "b", "c")
        assert len(first) == 3 * 16
        assert run("a", "b", "c") == first

    def test_takes_an_outdated_item_for_nothing(self, house: House) -> None:
        task = house.bring(S.PREPROCESSED)
        house.worker.drain(100)
        house.uploads.work.submit(WorkItem(0.0, "one", task.uid))
        house.uploads.work.submit(WorkItem(0.0, "gone", "0" * 32))
        stored = house.everything()
        house.worker.drain(100)
        assert house.everything() == stored

    def test_drain_says_how_often(self, house: House) -> None:
        house.send()
        house.worker.step()  # the sweep of the start
        assert house.worker.drain(100) <= 3
        assert house.worker.drain(100) == 0

    def test_drain_has_a_limit(self, house: House) -> None:
        house.send()
        house.send("two")
        with pytest.raises(RuntimeError, match="still work after 1 steps"):
            house.worker.drain(1)

    def test_sweeps_from_time_to_time(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.worker.drain(100)
        house.clock.forward(7 * DAY - 1)
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.WAITFORCHUNK
        house.clock.forward(59)
        assert house.worker.step() is False  # the deadline has passed, but the last look was less than a minute ago
        house.clock.forward(1)
        house.worker.drain(100)
        assert house.uploads.list() == []

    def test_a_sweep_that_fails_is_survived(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        house.bring(S.WAITFORCHUNK)
        house.clock.forward(8 * DAY)
        house.before["tasks.list"] = fail(StorageError("The disk is tired."))
        house.worker.drain(100)
        house.before.clear()
        assert "looking for expired uploads failed" in caplog.text
        house.clock.forward(60)
        house.worker.drain(100)
        assert house.uploads.list() == []

    def test_an_upload_that_cannot_expire_does_not_keep_the_others(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK, "a")
        house.bring(S.WAITFORCHUNK, "b")
        house.clock.forward(8 * DAY)

        def only_a(task: Any, *_: object) -> None:
            if task.id == "a":
                raise StorageError("This file cannot be written.")

        house.before["tasks.cas"] = only_a
        house.worker.drain(100)
        assert [s.id for s in house.uploads.list()] == ["a"]


class TestFailures:
    """What goes wrong in a step is tried again: after 1 s, 4 s, and then it is the failure state."""

    STEPS = (
        (S.UPLOADCOMPLETE, "content.preprocess", S.INVALIDCONTENT, S.PREPROCESSED),
        (S.PREPROCESSED, "music.place", S.INTEGRATIONFAILED, S.INTEGRATED),
        (S.STARTIMPORT, "library.put", S.IMPORTFAILED, S.IMPORTCOMPLETE),
        (S.IMPORTARTWORK, "content.illustrate", S.IMPORTFAILED, S.IMPORTCOMPLETE),
    )

    REJECTED = tuple(step for step in STEPS if step[1] != "music.place")  # a tree rejects nothing

    def begin(self, house: House, state: State) -> None:
        house.bring(state)
        if state is S.PREPROCESSED:
            house.uploads.request("one")
        house.heard()

    @pytest.mark.parametrize(("state", "part", "failed", "fine"), STEPS, ids=[s[0] for s in STEPS])
    def test_back_off_and_then_the_failure_state(
        self, house: House, state: State, part: str, failed: State, fine: State
    ) -> None:
        self.begin(house, state)
        house.before[part] = fail(StorageError("The disk is tired.", code="tired"))
        for attempt, pause in ((1, 1.0), (2, 4.0)):
            house.worker.drain(100)
            step = house.uploads.get("one").step
            assert step is not None
            assert (step.attempt, step.token, step.not_before) == (attempt, "", house.clock.now + pause)
            assert house.heard() == [("InternalError", state.value, "tired")]
            assert house.uploads.get("one").message == "The disk is tired."
            house.clock.forward(pause - 0.001)
            house.worker.drain(100)
            assert house.heard() == []  # not a moment too early
            house.clock.forward(0.001)
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.code, task.message) == (failed, "tired", "Tried 3 times. The disk is tired.")
        assert (task.step, task.wanted) == (None, None)
        # Nobody waits for an attempt that is not left.
        assert house.heard() == [("InternalError", state.value, "tired"), ("InternalError", failed.value, "tired")]
        assert json.loads(house.document() or b"")["message"] == task.message
        house.before.clear()
        house.uploads.retry("one")
        if state is S.PREPROCESSED:
            house.uploads.request("one")
        house.worker.drain(100)
        assert (house.uploads.get("one").state, house.uploads.get("one").message) == (fine, None)
        house.finish()

    @pytest.mark.parametrize(("state", "part", "failed", "fine"), STEPS, ids=[s[0] for s in STEPS])
    def test_a_passing_error_passes(self, house: House, state: State, part: str, failed: State, fine: State) -> None:
        self.begin(house, state)
        house.before[part] = fail(StorageFull("There is no room."))
        house.worker.drain(100)
        assert house.heard() == [("InternalError", state.value, "storage_full")]
        house.before.clear()
        house.clock.forward(1)
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.message, task.step) == (fine, None, None)

    @pytest.mark.parametrize(("state", "part", "failed", "fine"), REJECTED, ids=[s[0] for s in REJECTED])
    def test_a_rejection_is_final_at_once(
        self, house: House, state: State, part: str, failed: State, fine: State
    ) -> None:
        self.begin(house, state)
        house.before[part] = fail(ContentRejected("I do not like it.", code="dislike"))
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.code, task.message) == (failed, "dislike", "I do not like it.")
        assert house.heard() == [("InternalError", failed.value, "dislike")]

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("x"),
            KeyError(),
            RecursionError(),
            MemoryError(),
            OSError(errno.EIO, "x"),
            StopIteration(),
            AssertionError(),
        ],
        ids=lambda e: type(e).__name__,
    )
    def test_exceptions_of_any_kind_are_survived(
        self, house: House, error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        house.send()
        house.before["content.preprocess"] = fail(error)
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.code) == (S.UPLOADCOMPLETE, "upload_error")
        assert "failed unexpectedly" in caplog.text
        for _ in range(3):
            house.clock.forward(100)
            house.worker.drain(100)
        assert house.uploads.get("one").state is S.INVALIDCONTENT
        house.before.clear()
        house.finish()

    @pytest.mark.parametrize(
        "error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=lambda e: type(e).__name__
    )
    def test_even_those_that_end_a_thread(self, closed: House, error: BaseException) -> None:
        uploads = closed.open(backoff=0.0)
        until = Until(S.INVALIDCONTENT)
        uploads.subscribe(until)
        closed.before["content.preprocess"] = fail(error)
        with manage(uploads):
            closed.send()
            until.wait(closed.PATIENCE)
        closed.before.clear()
        closed.finish()

    def test_a_content_type_that_answers_nonsense_is_survived(self, house: House) -> None:
        house.send()
        house.send("two", data=b"film two")
        house.uploads.ports.contents["video"].preprocess = lambda *_: None  # type: ignore[method-assign,assignment]  # that is the point
        for _ in range(5):
            house.worker.drain(100)
            house.clock.forward(100)
        assert {t.state for t in house.uploads.tasks()} == {S.INVALIDCONTENT}

    def test_one_upload_that_fails_stops_no_other(self, house: House) -> None:
        house.send("a", data=b"shaky one")
        house.send("b", data=b"fine film")

        def shaky(task: Any, *_: object) -> None:
            if task.id == "a":
                raise RuntimeError("I am the bad one.")

        house.before["content.preprocess"] = shaky
        house.worker.drain(100)
        assert {t.id: t.state for t in house.uploads.tasks()} == {"a": S.UPLOADCOMPLETE, "b": S.PREPROCESSED}

    @pytest.mark.parametrize("call", [1, 2], ids=["begin", "end"])
    def test_the_task_store_failing_is_survived(
        self, house: House, call: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        house.send()
        calls = iter(range(1, 100))

        def nth(*_: object) -> None:
            if next(calls) >= call:
                raise StorageError("The task store is tired.")

        house.before["tasks.cas"] = nth
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.UPLOADCOMPLETE
        assert "The task store is tired" in caplog.text
        house.before.clear()
        house.clock.forward(1)
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED
        house.finish()

    def test_the_task_store_failing_unexpectedly_is_survived(self, house: House) -> None:
        house.send()
        house.before["tasks.get"] = fail(RuntimeError("A bug."))
        house.worker.drain(100)
        house.before.clear()
        house.clock.forward(1)
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED

    def test_a_disk_without_room_for_documents_is_survived(self, closed: House) -> None:
        closed.disk = fuse = FuseDisk(error=OSError(errno.ENOSPC, ""), lasting=True, only=("write_at",))
        closed.open()
        closed.bring(S.UPLOADCOMPLETE)
        fuse.at = len(fuse.calls) + 1
        closed.worker.drain(100)
        assert closed.uploads.get("one").state is S.UPLOADCOMPLETE
        closed.close()
        closed.disk = FuseDisk()
        closed.open()
        closed.worker.drain(100)
        assert closed.uploads.get("one").state is S.PREPROCESSED

    def test_a_disk_that_cannot_delete_does_not_keep_the_worker_busy(self, house: House) -> None:
        house.bring(S.REMOVE)
        house.before["bytes.delete"] = fail(StorageError("The disk is tired."))
        steps = 0
        while steps < 20 and house.worker.step():
            steps += 1
        assert steps < 5
        house.before.clear()
        house.clock.forward(60)
        house.finish()
        assert [s.id for s in house.uploads.list()] == ["other"]

    def test_a_row_that_cannot_be_recorded_is_not_told(self, house: House) -> None:
        """Promise 7: nobody hears of what is not durable."""
        house.send()
        house.heard()
        house.before["tasks.cas"] = fail(StorageError("The task store is tired."))
        house.worker.drain(100)
        assert house.heard() == []


class TestThreads:
    def test_does_the_work_from_the_first_chunk_to_the_end(self, closed: House) -> None:
        uploads = closed.open(bus=ThreadedBus())
        ready, done, gone = Until(S.PREPROCESSED), Until(S.IMPORTCOMPLETE), Until(S.REMOVE)
        for until in (ready, done, gone):
            uploads.subscribe(until)
        with manage(uploads):
            closed.send()
            ready.wait(closed.PATIENCE)
            uploads.integrate("one", trigger_import=True)
            done.wait(closed.PATIENCE)
            uploads.remove("one")
            gone.wait(closed.PATIENCE)
            assert uploads.wait("one", closed.PATIENCE) is None

    def test_finds_what_was_left_from_the_last_run(self, closed: House) -> None:
        uploads = closed.open()
        closed.send()
        closed.restart()
        uploads = closed.uploads
        with manage(uploads):
            task = uploads.wait("one", closed.PATIENCE)
        assert task is not None
        assert task.state is S.PREPROCESSED

    def test_start_and_stop_may_be_called_twice(self, house: House) -> None:
        before = threading.active_count()
        house.worker.stop()
        house.worker.start()
        house.worker.start()
        assert [t.name for t in threading.enumerate()].count("stagedoor-management") == 1
        house.send()
        task = house.uploads.wait("one", house.PATIENCE)
        assert task is not None
        assert task.state is S.PREPROCESSED
        house.worker.stop()
        house.worker.stop()
        assert threading.active_count() == before

    def test_can_be_started_again(self, house: House) -> None:
        for uploadid in ("one", "two", "three"):
            house.worker.start()
            house.send(uploadid, annotations={"artistname": uploadid, "name": uploadid})
            task = house.uploads.wait(uploadid, house.PATIENCE)
            assert task is not None
            assert task.state is S.PREPROCESSED
            house.worker.stop()

    def test_stop_lets_the_step_under_way_end(self, house: House) -> None:
        gate = house.gate()
        house.before["content.preprocess"] = gate
        house.worker.start()
        house.send()
        gate.reached()
        with house.threads() as pool:
            stopped = pool.submit(house.worker.stop)
            assert not stopped.done()
            gate.open()
            stopped.result(house.PATIENCE)
        assert house.uploads.get("one").state is S.PREPROCESSED
        assert [t.name for t in threading.enumerate() if t.name.startswith("stagedoor-")] == []

    def test_stop_starts_nothing_new(self, closed: House) -> None:
        gate = closed.gate()
        closed.open(threads=1)
        closed.before["content.preprocess"] = gate
        closed.worker.start()
        closed.send("b")
        gate.reached()
        closed.send("a")
        with closed.threads() as pool:
            stopped = pool.submit(closed.worker.stop)
            assert closed.worker._stop.wait(closed.PATIENCE)  # it is asked for before the step ends
            gate.open()
            stopped.result(closed.PATIENCE)
        assert {t.id: t.state for t in closed.uploads.tasks()} == {"b": S.PREPROCESSED, "a": S.UPLOADCOMPLETE}
        closed.worker.drain(100)
        assert closed.uploads.get("a").state is S.PREPROCESSED

    def test_a_slow_step_does_not_keep_the_others(self, closed: House) -> None:
        gate = closed.gate()
        closed.open(threads=2)

        def only_a(task: Any, *_: object) -> None:
            if task.id == "a":
                gate()

        closed.before["content.preprocess"] = only_a
        with manage(closed.uploads, threads=2):
            closed.send("a")
            gate.reached()
            closed.send("b")
            task = closed.uploads.wait("b", closed.PATIENCE)
            assert task is not None
            assert task.state is S.PREPROCESSED
            assert closed.uploads.get("a").state is S.UPLOADCOMPLETE
            gate.open()
            closed.uploads.wait("a", closed.PATIENCE)

    def test_no_more_steps_at_once_than_threads(self, closed: House) -> None:
        closed.open()
        now, most, lock = 0, 0, threading.Lock()

        def enter(*_: object) -> None:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)

        def leave(*_: object) -> None:
            nonlocal now
            with lock:
                now -= 1

        closed.before["content.preprocess"], closed.after["content.preprocess"] = enter, leave
        for i in range(20):
            closed.send(f"id{i}")
        with manage(closed.uploads, threads=2):
            for i in range(20):
                closed.uploads.wait(f"id{i}", closed.PATIENCE)
        assert {t.state for t in closed.uploads.tasks()} == {S.PREPROCESSED}
        assert 1 <= most <= 2

    def test_waits_instead_of_asking_again_and_again(self, closed: House) -> None:
        queue = Watched()
        uploads = closed.open(work=queue, sweep=30.0)
        with manage(uploads):
            assert queue.idle.acquire(timeout=closed.PATIENCE)
            assert queue.empty_takes == 1
            closed.send()
            closed.uploads.wait("one", closed.PATIENCE)
            uploads.integrate("one", trigger_import=True)
            closed.uploads.wait("one", closed.PATIENCE)
        assert closed.uploads.get("one").state is S.IMPORTCOMPLETE
        assert queue.empty_takes <= len(queue.waits) + 1  # every time there is nothing, it waits
        assert set(queue.waits) == {30.0}  # and not for a moment only
        assert len(queue.waits) < 30

    def test_a_pause_is_waited_for_and_not_polled(self, closed: House) -> None:
        queue = Watched()
        uploads = closed.open(work=queue, backoff=1000.0)
        closed.before["content.preprocess"] = fail(StorageError("The disk is tired."))
        heard = Until(S.UPLOADCOMPLETE)
        with manage(uploads):
            closed.send()
            heard(closed.notices[-1])
            heard.wait(closed.PATIENCE)
            with uploads._idle:
                assert uploads._idle.wait_for(lambda: uploads.get("one").message is not None, closed.PATIENCE)
            waits = len(queue.waits)
        assert waits < 10
        step = uploads.get("one").step
        assert step is not None
        assert (step.trigger, step.attempt) == (Trigger.PREPROCESS, 1)

    def test_leaves_no_thread(self, closed: House) -> None:
        before = set(threading.enumerate())
        uploads = closed.open(bus=ThreadedBus())
        uploads.subscribe(lambda _: None)
        with manage(uploads):
            closed.send()
            closed.uploads.wait("one", closed.PATIENCE)
        closed.close()
        assert set(threading.enumerate()) == before

    def test_stops_when_the_block_ends_with_an_error(self, house: House) -> None:
        with pytest.raises(ZeroDivisionError), manage(house.uploads):
            _ = 1 // 0
        assert "stagedoor-management" not in [t.name for t in threading.enumerate()]

    def test_may_be_stopped_by_a_subscriber_of_a_threaded_bus(self, closed: House) -> None:
        uploads = closed.open(bus=ThreadedBus())
        stopped = threading.Event()

        def stop(notice: Notice) -> None:
            if notice.state is S.PREPROCESSED:
                closed.worker.stop()
                stopped.set()

        uploads.subscribe(stop)
        closed.worker.start()
        closed.send()
        assert stopped.wait(closed.PATIENCE)

    def test_two_workers_share_the_work(self, house: House) -> None:
        """Nothing is done twice, whoever takes an item."""
        other = Worker(house.uploads, threads=2)
        for i in range(20):
            house.send(f"id{i}")
        house.took()
        house.worker.start()
        other.start()
        for i in range(20):
            house.uploads.wait(f"id{i}", house.PATIENCE)
        other.stop()
        house.worker.stop()
        assert house.took().count("preprocess:uploadcomplete:preprocessed") == 20

    def test_a_subscriber_that_calls_the_engine_from_the_pool(self, closed: House) -> None:
        uploads = closed.open(bus=InlineBus())
        done = Until(S.IMPORTCOMPLETE)

        def go_on(notice: Notice) -> None:
            if notice.state is S.PREPROCESSED and notice.task is not None and notice.task.wanted is None:
                uploads.request(notice.uploadid, trigger_import=True)

        uploads.subscribe(go_on)
        uploads.subscribe(done)
        with manage(uploads):
            closed.send()
            done.wait(closed.PATIENCE)

    def test_ordinary_work_logs_nothing(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            house.worker.start()
            house.send()
            house.uploads.wait("one", house.PATIENCE)
            house.worker.stop()
        assert [r for r in caplog.records if r.levelno >= logging.WARNING or r.name.startswith("transitions")] == []


class Now:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class TestCourtesy:
    def test_nobody_waits_for_those_who_have_nothing_to_do(self) -> None:
        assert Courtesy(lambda: False).pause() == 0

    def test_half_of_the_time_is_ours_however_long_the_others_are_busy(self) -> None:
        now = Now()
        courtesy = Courtesy(lambda: True, patience=2.0, clock=now)
        asked = []
        for _ in range(80):
            asked.append(courtesy.pause() > 0)
            now.time += 0.125
        assert asked == ([True] * 16 + [False] * 16) * 2 + [True] * 16

    def test_others_that_only_wait_for_us_do_not_begin_a_new_burst(self) -> None:
        now, busy = Now(), iter([True, True, False, True, False, True])
        courtesy = Courtesy(lambda: next(busy), patience=2.0, clock=now)
        asked = []
        for _ in range(6):
            asked.append(courtesy.pause() > 0)
            now.time += 0.4
        assert asked == [True, True, False, True, False, False]

    def test_after_a_burst_the_next_one_goes_first_again(self) -> None:
        now, busy = Now(), iter([True, True, False, True])
        courtesy = Courtesy(lambda: next(busy), patience=2.0, clock=now)
        assert courtesy.pause() > 0
        now.time += 2.0
        assert courtesy.pause() == 0
        now.time += 0.5
        assert courtesy.pause() == 0
        assert courtesy.pause() > 0

    def test_the_time_for_which_a_thread_wants_the_processor_says_whether_it_is_busy(self) -> None:
        now, used = Now(), [5.0]
        busy = busy_thread(1, share=0.25, over=0.5, clock=now, used=lambda _: used[0])
        used[0] += 0.4
        now.time += 0.25
        assert not busy(), "within so little time the answer stays"
        now.time += 0.75
        assert busy()
        used[0] += 1.0
        now.time += 4.0
        assert busy(), "just a quarter"
        used[0] += 1.0
        now.time += 4.125
        assert not busy()

    @pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs a Linux that counts")
    def test_the_system_counts(self) -> None:
        now = Now()
        busy = busy_thread(threading.get_native_id(), share=0.3, clock=now)
        before = time.thread_time()
        while time.thread_time() - before < 0.1:
            pass
        now.time += 0.15
        assert busy()
        now.time += 1e6
        assert not busy()

    def test_a_thread_that_has_ended_is_not_busy(self) -> None:
        now, asked = Now(), list[Callable[[], bool]]()
        thread = threading.Thread(target=lambda: asked.append(busy_thread(threading.get_native_id(), clock=now)))
        thread.start()
        thread.join()
        now.time += 1
        assert not asked[0]()

    def test_nothing_begins_while_others_go_first(self, house: House) -> None:
        looked, go = threading.Semaphore(0), threading.Event()

        def busy() -> bool:
            looked.release()
            return not go.is_set()

        house.worker.courtesy = Courtesy(busy, patience=1e6)
        house.send()
        house.took()
        house.worker.start()
        for _ in range(3):
            assert looked.acquire(timeout=house.PATIENCE)
        assert house.took() == []
        go.set()
        house.uploads.wait("one", house.PATIENCE)
        assert house.took() == ["begin:uploadcomplete:internal", "preprocess:uploadcomplete:preprocessed"]
        house.worker.stop()

    def test_a_stop_does_not_wait_for_others_and_loses_nothing(self, house: House) -> None:
        looked = threading.Semaphore(0)

        def busy() -> bool:
            looked.release()
            return True

        house.worker.courtesy = Courtesy(busy, patience=1e6)
        house.send()
        house.took()
        house.worker.start()
        assert looked.acquire(timeout=house.PATIENCE)
        house.worker.stop()
        assert house.took() == []
        house.worker.courtesy = None
        house.worker.start()
        house.uploads.wait("one", house.PATIENCE)
        assert house.took() == ["begin:uploadcomplete:internal", "preprocess:uploadcomplete:preprocessed"]
        house.worker.stop()
