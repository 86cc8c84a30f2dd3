"""Faults that this engine had, each with the smallest thing that shows it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stagedoor.adapters.disk import Disk
from stagedoor.adapters.inprocess import InlineBus, LocalQueue
from stagedoor.adapters.local import LocalBytes, LocalTasks
from stagedoor.adapters.memory import MemoryBytes, MemoryTasks, MemoryTree
from stagedoor.engine import Uploads
from stagedoor.errors import Refused, StorageError, StorageFull
from stagedoor.library.memory import MemoryLibrary
from stagedoor.lifecycle import State
from stagedoor.ports import Buffer, Surroundings, WorkItem
from stagedoor.settings import Settings
from stagedoor.tasks import Offer, Plan, UploadTask, evolve
from stagedoor.testing.content import PlainContent
from stagedoor.testing.stores import full_task
from stagedoor.worker import Worker, manage

DATA = b"fine film"


def parts() -> dict[str, Any]:
    return {
        "bytes": MemoryBytes(),
        "tasks": MemoryTasks(),
        "trees": {name: MemoryTree(name) for name in ("music", "artwork")},
        "library": MemoryLibrary(),
        "contents": [PlainContent(has_artwork=False)],
        "bus": InlineBus(),
    }


def offer(uploads: Uploads, uploadid: str = "one") -> UploadTask:
    names = {"artistname": "Alpha", "name": "Beta"}
    return uploads.initiate(
        Offer(uploadid, filename="a.mp4", contenttype="video", filesize=len(DATA), annotations=names)
    )


def imported(uploads: Uploads, uploadid: str = "one") -> None:
    offer(uploads, uploadid)
    uploads.receive(uploadid, offset=0, data=DATA)
    uploads.perform(uploadid)
    uploads.integrate(uploadid)


def test_an_undo_that_goes_on_spares_what_another_upload_has_placed_since() -> None:
    class Cut(BaseException):
        pass

    class Tasks(MemoryTasks):
        power = True

        def cas(self, task: UploadTask, expected_revision: int) -> None:
            if task.state is State.PREPROCESSED and not self.power:
                raise Cut  # the file is gone, the record not yet
            super().cas(task, expected_revision)

    shared = {**parts(), "tasks": (tasks := Tasks())}
    with Uploads(**shared) as uploads:
        imported(uploads)
        tasks.power = False
        with pytest.raises(Cut):
            uploads.undo("one")
        tasks.power = True
    with Uploads(**{**shared, "bus": InlineBus()}) as uploads:
        imported(uploads, "two")
        uploads.perform("one")
        assert uploads.get("one").state is State.PREPROCESSED
        assert uploads.get("two").state is State.INTEGRATED
        assert list(shared["trees"]["music"].files) == ["Alpha/Beta.mp4"]


def test_a_failure_outside_a_step_leaves_one_item_in_the_queue() -> None:
    class Tasks(MemoryTasks):
        full = False

        def cas(self, task: UploadTask, expected_revision: int) -> None:
            if self.full:
                raise StorageFull("There is no room.")
            super().cas(task, expected_revision)

    now = [1e6]
    shared = {**parts(), "tasks": (tasks := Tasks()), "clock": lambda: now[0]}
    with Uploads(**shared) as uploads:
        offer(uploads)
        uploads.receive("one", offset=0, data=DATA)
        tasks.full = True
        worker = Worker(uploads)
        for _ in range(12):
            taken = 0
            while worker.step():
                taken += 1
            assert taken <= 1
            now[0] += 1.5  # time passes between two looks at the clock, so the items differ
        tasks.full = False
        worker.drain(10)
        assert uploads.get("one").state is State.PREPROCESSED


def test_close_waits_for_what_is_being_written(tmp_path: Path) -> None:
    writing, go_on = threading.Event(), threading.Event()

    class Slow(Disk):
        def write_at(self, fd: int, data: Buffer, offset: int) -> None:
            if data == DATA[:4]:
                writing.set()
                assert go_on.wait(60)
            super().write_at(fd, data, offset)

    store = LocalBytes(str(tmp_path), durability="none", disk=Slow())
    tasks = LocalTasks(str(tmp_path), durability="none")
    uploads = Uploads(**{**parts(), "bytes": store, "tasks": tasks, "resources": [store.release]})
    offer(uploads)
    told: list[int] = []
    client = threading.Thread(
        target=lambda: told.append(uploads.receive("one", offset=0, data=DATA[:4]).offset), daemon=True
    )
    client.start()
    assert writing.wait(60)
    closing = threading.Thread(target=uploads.close, daemon=True)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    go_on.set()
    closing.join(60)
    client.join(60)
    assert (told, closing.is_alive()) == ([4], False)


def test_a_chunk_that_could_not_be_recorded_can_be_sent_again() -> None:
    class Bytes(MemoryBytes):
        short_of_memory = True

        def seal(self, key: str, name: str) -> str:
            if self.short_of_memory:
                self.short_of_memory = False
                raise MemoryError
            return super().seal(key, name)

    with Uploads(**{**parts(), "bytes": Bytes()}) as uploads:
        offer(uploads)
        uploads.receive("one", offset=0, data=DATA[:4])
        with pytest.raises(MemoryError):
            uploads.receive("one", offset=4, data=DATA[4:])
        task = uploads.receive("one", offset=4, data=DATA[4:])
        while uploads.perform("one"):
            task = uploads.get("one")
        assert task.state is State.PREPROCESSED
        assert task.sourcechecksum == hashlib.sha1(DATA).hexdigest()


def test_nobody_sees_an_offset_that_is_not_on_record() -> None:
    seen: list[int] = []

    class Bytes(MemoryBytes):
        look: Callable[[], UploadTask]

        def seal(self, key: str, name: str) -> str:
            seen.append(self.look().offset)
            return super().seal(key, name)

    store = Bytes()
    with Uploads(**{**parts(), "bytes": store}) as uploads:
        store.look = lambda: uploads.get("one")
        offer(uploads)
        uploads.receive("one", offset=0, data=DATA[:4])
        uploads.receive("one", offset=4, data=DATA[4:])
    assert seen == [4]


def test_an_active_upload_does_not_expire_however_short_the_retention() -> None:
    now = [1e6]
    settings = Settings(retention={State.WAITFORCHUNK: 600.0})
    with Uploads(**{**parts(), "settings": settings, "clock": lambda: now[0]}) as uploads:
        offer(uploads)
        for offset in range(len(DATA) - 1):
            now[0] += 400.0
            uploads.sweep()
            assert uploads.receive("one", offset=offset, data=DATA[offset : offset + 1]).offset == offset + 1


def test_a_plan_that_fails_is_counted_and_told() -> None:
    class Planless(PlainContent):
        def plan(self, task: UploadTask, around: Surroundings) -> Plan:
            raise KeyError("a mistake in a plug-in")

    settings = Settings(backoff=0.0)
    with Uploads(**{**parts(), "contents": [Planless()], "settings": settings}) as uploads:
        offer(uploads)
        uploads.receive("one", offset=0, data=DATA)
        uploads.perform("one")
        uploads.request("one")
        assert Worker(uploads).drain(50) <= 10
        task = uploads.get("one")
        assert task.state is State.INTEGRATIONFAILED
        assert task.message is not None
        assert "KeyError" in task.message


def test_undo_refuses_what_nothing_is_on_record_about() -> None:
    shared = parts()
    task = evolve(
        full_task("one"), state=State.IMPORTCOMPLETE, placed=(), plan=None, step=None, wanted=None, contenttype="video"
    )
    shared["tasks"].create(task)
    with Uploads(**shared) as uploads, pytest.raises(Refused) as refused:
        uploads.undo("one")
    assert refused.value.code == "nothing_on_record"
    assert refused.value.sentence == (
        "Nothing is on record about the files in the library, so nothing can be taken back. "
        "Remove them by hand if they are not wanted."
    )


def test_the_dispatcher_outlives_a_queue_that_fails() -> None:
    class Queue(LocalQueue):
        failures = 2

        def take(self, now: float) -> WorkItem | None:
            if self.failures:
                self.failures -= 1
                raise StorageError("the queue's server is away")
            return super().take(now)

    settings = Settings(backoff=0.01)
    with Uploads(**{**parts(), "work": Queue(), "settings": settings}) as uploads, manage(uploads):
        offer(uploads)
        uploads.receive("one", offset=0, data=DATA)
        task = uploads.wait("one", timeout=60)
        assert task is not None
        assert task.state is State.PREPROCESSED


def test_a_wish_for_the_import_is_not_lost_to_another_client() -> None:
    with Uploads(**parts()) as uploads:
        offer(uploads)
        uploads.receive("one", offset=0, data=DATA)
        uploads.perform("one")
        uploads.request("one", trigger_import=True)
        assert uploads.request("one").import_wanted
