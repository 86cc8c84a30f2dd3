"""`AsyncUploads`: the same answers as `Uploads`, commits that survive a cancelled caller, and the stream of notices."""

import asyncio
import gc
import hashlib
import inspect
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stagedoor.adapters.inprocess import InlineBus
from stagedoor.aio import AsyncUploads, Notices, Overrun
from stagedoor.engine import Uploads
from stagedoor.errors import Duplicate, OffsetMismatch, TaskNotFound, UploadError, WrongState
from stagedoor.library.memory import MemoryLibrary
from stagedoor.notices import Notice, NoticeKind
from stagedoor.tasks import Offer, UploadTask
from stagedoor.testing.content import PlainContent
from stagedoor.worker import Worker, manage

T = TypeVar("T")
NAMES = {"artistname": "Queen", "name": "Jazz"}
PATIENCE = 10.0
"""Seconds after which a test that hangs fails."""


class Gate(PlainContent):
    """Content whose pre-processing waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.opened = threading.Event(), threading.Event()

    def preprocess(self, task: UploadTask, source: Any) -> Any:
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        return super().preprocess(task, source)


class GateTask:
    """A callback that lets an event through when a test says so: a commit that takes its time."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        self.entered.set()
        assert self.opened.wait(PATIENCE)


def make(tmp_path: Path, **extras: Any) -> Uploads:
    extras.setdefault("contents", [PlainContent()])
    extras.setdefault("bus", InlineBus())
    return Uploads.open(
        tmp_path / "uploads",
        music=tmp_path / "music",
        artwork=tmp_path / "artwork",
        library=MemoryLibrary(),
        durability="none",
        **extras,
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Uploads]:
    with make(tmp_path) as engine:
        yield engine


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


def offer(uploadid: str = "one", data: bytes = b"a film", **other: Any) -> Offer:
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    declared: dict[str, Any] = {"filename": "clip.mp4", "contenttype": "video", "filesize": len(data), "sha1": sha1}
    return Offer(uploadid, **declared | other)


async def entered(gate: Gate | GateTask) -> None:
    assert await asyncio.to_thread(gate.entered.wait, PATIENCE)


def told(notice: Notice) -> tuple[str, str, int]:
    return notice.uploadid, notice.state.value, notice.offset


# ── the methods ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_life(engine: Uploads) -> None:
    async def life() -> None:
        worker = Worker(engine)
        async with AsyncUploads(engine) as uploads:
            task = await uploads.initiate(offer(annotations={"name": "News"}, filesize=None, sha1=None))
            assert (task.state, task.offset) == ("waitforchunk", 0)
            task = await uploads.receive("one", offset=0, data=b"a fi")
            task = await uploads.declare("one", filesize=6, sha1=offer().sha1)
            assert (task.offset, task.filesize) == (4, 6)
            task = await uploads.receive("one", offset=4, data=memoryview(b"lm"))
            assert task.state == "uploadcomplete"
            worker.drain()
            task = await uploads.annotate("one", NAMES, name="Jazz", release=1978)
            assert dict(task.annotations) == {**NAMES, "release": 1978}
            plan = await uploads.plan("one")
            assert plan.files[0].path == "Queen/Jazz.mp4"
            assert (await uploads.integrate("one")).state == "integrated"
            assert (await uploads.undo("one")).state == "preprocessed"
            assert (await uploads.request("one", trigger_import=False)).wanted == "integrate"
            worker.drain()
            assert (await uploads.start_import("one")).state == "startimport"
            worker.drain()
            assert (await uploads.get("one")).state == "importcomplete"
            assert [summary.id for summary in await uploads.list()] == ["one"]
            assert [task.id async for task in uploads.tasks()] == ["one"]
            assert (await uploads.remove("one")).state == "remove"
            worker.drain()
            assert await uploads.wait("one") is None

    run(life())


def test_a_retry(engine: Uploads) -> None:
    async def life() -> str:
        async with AsyncUploads(engine) as uploads:
            await uploads.initiate(offer(sha1="0" * 40))
            await uploads.receive("one", offset=0, data=b"a film")
            return (await uploads.retry("one")).state.value

    assert run(life()) == "waitforchunk"


def test_the_methods_are_those_of_uploads() -> None:
    """Same names, same parameters, same defaults; what only the worker and the owner call is left out."""
    left_out = {"close", "expire", "inflow", "open", "perform", "settle", "subscribe", "sweep"}

    def methods(cls: type) -> dict[str, inspect.Signature]:
        return {n: inspect.signature(m) for n, m in vars(cls).items() if inspect.isfunction(m) and n[0] != "_"}

    theirs, ours = methods(Uploads), methods(AsyncUploads)
    assert set(theirs) - left_out == set(ours) - {"close", "notices"}
    for name in set(theirs) - left_out:
        assert theirs[name].parameters == ours[name].parameters, name


def test_public_signatures_say_what_they_take() -> None:
    for cls in (AsyncUploads, Notices):
        for name, member in vars(cls).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                assert "Any" not in str(inspect.signature(member)), name


def test_errors_are_the_same(engine: Uploads) -> None:
    async def errors() -> None:
        async with AsyncUploads(engine) as uploads:
            with pytest.raises(TaskNotFound):
                await uploads.get("one")
            await uploads.initiate(offer())
            with pytest.raises(Duplicate):
                await uploads.initiate(offer(filename="other.mp4"))
            with pytest.raises(OffsetMismatch) as caught:
                await uploads.receive("one", offset=3, data=b"x")
            assert caught.value.expected == 0
            with pytest.raises(WrongState):
                await uploads.integrate("one")
            with pytest.raises(TypeError):
                await uploads.receive("one", offset=0, data=5)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await uploads.annotate("one", ["name"])  # type: ignore[arg-type]

    run(errors())


def test_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    async def both() -> None:
        gate = GateTask()
        with make(tmp_path) as engine:
            engine.subscribe(gate)  # an inline bus: the call ends when the subscriber has
            async with AsyncUploads(engine) as uploads:
                call = asyncio.create_task(uploads.initiate(offer()))
                await entered(gate)
                assert not call.done()
                gate.opened.set()
                assert (await call).id == "one"

    run(both())


def test_threads_are_bounded(engine: Uploads) -> None:
    async def many() -> set[str]:
        names: set[str] = set()
        engine.subscribe(lambda notice: names.add(threading.current_thread().name))
        async with AsyncUploads(engine, threads=2) as uploads:
            await asyncio.gather(*(uploads.initiate(offer(f"u{n}")) for n in range(50)))
        return names

    names = run(many())
    assert len(names) <= 2
    assert all(name.startswith("stagedoor-aio") for name in names)


def test_many_tasks_come_in_batches(engine: Uploads) -> None:
    ids = [f"u{n:03}" for n in range(150)]
    for uploadid in ids:
        engine.initiate(offer(uploadid))

    async def read() -> list[str]:
        async with AsyncUploads(engine) as uploads:
            return [task.id async for task in uploads.tasks()]

    assert run(read()) == ids


def test_a_buffer_may_be_used_again(engine: Uploads) -> None:
    async def reuse() -> bytes:
        async with AsyncUploads(engine) as uploads:
            await uploads.initiate(offer())
            buffer = bytearray(b"a film")
            call = asyncio.create_task(uploads.receive("one", offset=0, data=buffer))
            await asyncio.sleep(0)  # the call has begun
            buffer[:] = b"xxxxxx"
            await call
            with engine.ports.bytes.open((await uploads.get("one")).key) as file:
                return file.read()

    assert run(reuse()) == b"a film"


# ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_wait(tmp_path: Path) -> None:
    async def wait() -> str | None:
        content = Gate()
        with make(tmp_path, contents=[content], bus=None) as engine, manage(engine):
            async with AsyncUploads(engine) as uploads:
                await uploads.initiate(offer())
                await uploads.receive("one", offset=0, data=b"a film")
                with pytest.raises(TimeoutError):
                    await uploads.wait("one", timeout=0)
                waiting = asyncio.create_task(uploads.wait("one"))
                await entered(content)
                content.opened.set()
                task = await waiting
                return None if task is None else task.state.value

    assert run(wait()) == "preprocessed"


def test_a_wait_that_is_cancelled_frees_its_thread(engine: Uploads) -> None:
    async def wait() -> None:
        async with AsyncUploads(engine) as uploads:
            await uploads.initiate(offer())
            await uploads.receive("one", offset=0, data=b"a film")
            waiting = [asyncio.create_task(uploads.wait("one")) for _ in range(40)]
            await asyncio.sleep(0)
            assert (await uploads.get("one")).state == "uploadcomplete"  # those who wait are in nobody's way
            for task in waiting:
                task.cancel()
            assert all(
                isinstance(error, asyncio.CancelledError)
                for error in await asyncio.gather(*waiting, return_exceptions=True)
            )

    run(wait())
    assert not [t for t in threading.enumerate() if t.name.startswith("stagedoor-aio")]


# ── cancelling and closing ────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_that_has_begun_is_not_cancelled(engine: Uploads) -> None:
    async def cancel() -> None:
        gate = GateTask()
        async with AsyncUploads(engine) as uploads:
            await uploads.initiate(offer())
            unsubscribe = engine.subscribe(gate)
            call = asyncio.create_task(uploads.receive("one", offset=0, data=b"a film"))
            await entered(gate)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            gate.opened.set()
            unsubscribe()
        # closing has waited for it
        assert engine.get("one").state == "uploadcomplete"

    run(cancel())


def test_close_waits_for_a_commit(engine: Uploads) -> None:
    async def close() -> None:
        gate = GateTask()
        uploads = AsyncUploads(engine)
        engine.subscribe(gate)
        call = asyncio.create_task(uploads.initiate(offer()))
        await entered(gate)
        call.cancel()
        closing = asyncio.create_task(uploads.close())
        await asyncio.sleep(0)
        assert not closing.done()
        gate.opened.set()
        await closing
        assert engine.get("one").state == "waitforchunk"
        assert not [t for t in threading.enumerate() if t.name.startswith("stagedoor-aio")]

    run(close())


def test_a_close_that_is_cancelled_ends_the_streams_all_the_same(engine: Uploads) -> None:
    async def close() -> None:
        gate = GateTask()
        uploads = AsyncUploads(engine)
        stream = uploads.notices()
        engine.subscribe(gate)
        call = asyncio.create_task(uploads.initiate(offer()))
        await entered(gate)
        closing = asyncio.create_task(uploads.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        gate.opened.set()
        await call
        assert [told(notice) async for notice in stream] == [("one", "waitforchunk", 0)]
        await uploads.close()

    run(close())


def test_a_call_that_no_thread_has_begun_is_taken_back(engine: Uploads) -> None:
    async def cancel() -> None:
        gate = GateTask()
        unsubscribe = engine.subscribe(gate)
        async with AsyncUploads(engine, threads=1) as uploads:
            first = asyncio.create_task(uploads.initiate(offer()))
            await entered(gate)
            second = asyncio.create_task(uploads.initiate(offer("two")))
            await asyncio.sleep(0)
            second.cancel()
            gate.opened.set()
            unsubscribe()
            await first
        assert [summary.id for summary in engine.list()] == ["one"]

    run(cancel())


def test_what_nobody_hears_any_more_is_logged(engine: Uploads, caplog: pytest.LogCaptureFixture) -> None:
    async def cancel() -> None:
        gate = GateTask()
        unsubscribe = engine.subscribe(gate)
        async with AsyncUploads(engine) as uploads:
            call = asyncio.create_task(uploads.get("unknown"))  # the clients are told, through the gate
            await entered(gate)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            gate.opened.set()
            unsubscribe()

    run(cancel())
    assert "nobody waits for any more" in caplog.text


def test_after_close_everything_is_refused(engine: Uploads) -> None:
    async def close() -> None:
        uploads = AsyncUploads(engine)
        await uploads.close()
        await uploads.close()
        with pytest.raises(UploadError, match="closed") as caught:
            await uploads.get("one")
        assert caught.value.code == "closed"
        with pytest.raises(UploadError, match="closed"):
            uploads.notices()

    run(close())
    assert engine.list() == []  # the uploads below stay open


# ── notices ───────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def listening(engine: Uploads, **arguments: Any) -> AsyncIterator[tuple[AsyncUploads, Notices]]:
    async with AsyncUploads(engine) as uploads:
        yield uploads, uploads.notices(**arguments)


def test_notices_come_in_order(engine: Uploads) -> None:
    async def listen() -> list[tuple[str, str, int]]:
        async with listening(engine) as (uploads, stream):
            await uploads.initiate(offer())
            heard = [told(await anext(stream))]
            await uploads.annotate("one", NAMES)
            await uploads.receive("one", offset=0, data=b"a film")
            await uploads.remove("one")
            stream.close()
            return heard + [told(notice) async for notice in stream]

    assert run(listen()) == [
        ("one", "waitforchunk", 0),
        ("one", "waitforchunk", 0),
        ("one", "uploadcomplete", 6),
        ("one", "remove", 6),
    ]


def test_a_reader_that_waits_is_woken_from_another_thread(tmp_path: Path) -> None:
    async def listen() -> tuple[str, str, int]:
        with make(tmp_path, bus=None) as engine:
            async with listening(engine) as (_, stream):
                reading = asyncio.create_task(anext(stream))
                await asyncio.sleep(0)
                await asyncio.to_thread(engine.initiate, offer())
                return told(await reading)

    assert run(listen()) == ("one", "waitforchunk", 0)


def test_several_streams_hear_the_same(engine: Uploads) -> None:
    async def listen() -> list[tuple[str, str, int]]:
        async with AsyncUploads(engine) as uploads:
            streams = [uploads.notices() for _ in range(3)]
            await uploads.initiate(offer())
            return [told(await anext(stream)) for stream in streams]

    assert run(listen()) == [("one", "waitforchunk", 0)] * 3


def test_several_readers_share_a_stream(engine: Uploads) -> None:
    async def listen() -> set[str]:
        async with listening(engine) as (_, stream):
            readers = [asyncio.create_task(anext(stream)) for _ in range(10)]
            await asyncio.sleep(0)
            for n in range(10):
                engine.initiate(offer(f"u{n}"))
            return {notice.uploadid for notice in await asyncio.gather(*readers)}

    assert run(listen()) == {f"u{n}" for n in range(10)}


def test_of_the_requests_of_one_upload_the_newest_waits(engine: Uploads) -> None:
    async def listen() -> list[tuple[str, str, int]]:
        async with listening(engine) as (_, stream):
            engine.initiate(offer("one"))
            engine.initiate(offer("two"))
            engine.receive("one", offset=0, data=b"a ")
            engine.annotate("one", NAMES)
            engine.receive("one", offset=2, data=b"fi")
            stream.close()
            return [(n.kind.value, n.uploadid, n.offset) async for n in stream]

    assert run(listen()) == [("ChunkRequest", "two", 0), ("StateUpdate", "one", 2), ("ChunkRequest", "one", 4)]


def test_a_reader_that_is_too_slow_gets_what_waits_and_then_an_error(engine: Uploads) -> None:
    async def listen() -> list[int]:
        async with listening(engine, backlog=3) as (uploads, stream):
            engine.initiate(offer())
            for n in range(5):
                engine.annotate("one", n=n)
            heard = [await anext(stream) for _ in range(3)]
            with pytest.raises(Overrun, match="List the uploads again") as caught:
                await anext(stream)
            assert caught.value.code == "notices_overrun"
            with pytest.raises(Overrun):
                await anext(stream)
            assert not uploads._streams
            assert [n.kind for n in heard] == [NoticeKind.CHUNK_REQUEST, *[NoticeKind.STATE_UPDATE] * 2]
            return [n.task.revision for n in heard if n.task is not None]

    assert run(listen()) == [1, 2, 3]  # what waits has no gap


def test_requests_alone_do_not_overrun(engine: Uploads) -> None:
    async def listen() -> tuple[str, str, int]:
        async with listening(engine, backlog=1) as (_, stream):
            engine.initiate(offer(data=bytes(100)))
            for n in range(99):
                engine.receive("one", offset=n, data=b"\0")
            return told(await anext(stream))

    assert run(listen()) == ("one", "waitforchunk", 99)


@pytest.mark.parametrize("backlog", [0, -1])
def test_a_backlog_of_nothing(backlog: int, engine: Uploads) -> None:
    async def listen() -> None:
        async with AsyncUploads(engine) as uploads:
            with pytest.raises(ValueError, match="backlog"):
                uploads.notices(backlog=backlog)

    run(listen())


def test_closing_the_uploads_ends_a_stream(engine: Uploads) -> None:
    async def listen() -> list[str]:
        uploads = AsyncUploads(engine)
        stream = uploads.notices()

        async def read() -> list[str]:
            return [notice.uploadid async for notice in stream]

        reading = asyncio.create_task(read())
        await uploads.initiate(offer())
        await uploads.close()
        return await reading

    assert run(listen()) == ["one"]


def test_a_closed_stream_hears_nothing_more(engine: Uploads) -> None:
    async def listen() -> list[str]:
        async with listening(engine) as (uploads, stream):
            with stream:
                await uploads.initiate(offer())
            await uploads.remove("one")
            stream.close()
            return [notice.state.value async for notice in stream]

    assert run(listen()) == ["waitforchunk"]


def test_a_stream_that_nobody_has_is_forgotten(engine: Uploads) -> None:
    async def listen() -> int:
        async with AsyncUploads(engine) as uploads:
            stream = uploads.notices()
            await uploads.initiate(offer())
            async for _ in stream:
                break
            del stream
            gc.collect()
            await uploads.remove("one")
            return len(uploads._streams)

    assert run(listen()) == 0


def test_a_stream_whose_loop_is_gone_disturbs_nobody(engine: Uploads) -> None:
    uploads = AsyncUploads(engine)

    async def listen() -> Notices:
        return uploads.notices()

    stream = run(listen())
    engine.initiate(offer())
    engine.remove("one")
    assert not stream._waiting
    run(uploads.close())


def test_calls_from_several_loops(engine: Uploads) -> None:
    uploads = AsyncUploads(engine)

    def initiate(uploadid: str) -> UploadTask:
        return run(uploads.initiate(offer(uploadid)))

    ids = [f"u{n}" for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert [task.id for task in pool.map(initiate, ids)] == ids
    run(uploads.close())
