"""What all wires of a server share: the engine, who listens, and how work gets off the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from attrs import define, field

from ..engine import Inflow, Uploads
from ..errors import Refused, TooLarge, UploadError
from ..tasks import UploadTask
from ..worker import Courtesy, Worker, busy_thread
from .config import ServerConfig
from .http import Body
from .hub import Hub
from .security import Gate
from .tally import Tally

__all__ = ["Core", "Flow"]

log = logging.getLogger(__name__)

LetGo: TypeAlias = Callable[[str, UploadError], None]
"""Told the id of an upload, and why somebody else has it now."""

_STEPS: Final = 8
"""Slow steps that clients wait for and that are worked on at a time; each may keep a decoder busy."""
_QUEUED: Final = 256
"""Slow steps that wait for their turn; whoever asks for one more is told to come back."""

P = ParamSpec("P")
T = TypeVar("T")


class Core:
    """The running parts of a server.

    Args:
        uploads: The engine.
        config: The server's settings.
        parts: An engine for the pieces of tus concatenations; without one there is no concatenation.
        worker: The management, if the server is to run it; else somebody else does.
        owned: Whether `stop` closes the engines.

    Attributes:
        draining: Whether the server is stopping: what is under way lets go, nothing new begins.
    """

    def __init__(
        self,
        uploads: Uploads,
        config: ServerConfig,
        *,
        parts: Uploads | None = None,
        worker: Worker | None = None,
        owned: bool = True,
    ) -> None:
        self.uploads = uploads
        self.parts = parts
        self.config = config
        self.gate = Gate.of(config)
        self.hub = Hub(uploads, backlog=config.backlog)
        self.tally = Tally()
        self.draining = False
        self.started = time.time()
        self._worker = worker
        self._owned = owned
        # Nothing is synced for a chunk: what an event costs then is less than a hop to a thread and back.
        self._inline = config.durability != "power"
        # Apart from each other, so that what takes minutes, or many who read, never hold up an acknowledgement.
        self._events = _Pool("event", 32)  # as many syncs can be under way; more of them gain nothing
        self._reads = _Pool("read", 8)
        self._steps = _Pool("step", _STEPS)
        self._pools = (self._events, self._reads, self._steps)
        self._endings: set[asyncio.Task[None]] = set()
        self._flows: dict[tuple[Uploads, str], Flow] = {}
        self._holders: dict[tuple[Uploads, str], LetGo] = {}
        self._jobs: list[Callable[[], Coroutine[None, None, None]]] = [self._watch_flows]
        self._running: list[asyncio.Task[None]] = []

    def background(self, job: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run a job of a wire from the start of the server to its stop, which cancels it."""
        self._jobs.append(job)

    async def start(self) -> None:
        """Begin, on the event loop that serves."""
        self.hub.attach(asyncio.get_running_loop())
        if self._worker is not None:
            self._worker.courtesy = Courtesy(busy_thread(threading.get_native_id()))
            self._worker.start()
        self._running = [asyncio.create_task(job()) for job in self._jobs]
        for running in self._running:
            running.add_done_callback(_ended)

    async def stop(self) -> None:
        """End everything; bodies under way are told to let go, and what they had brought is kept."""
        self.drain()
        for job in self._running:
            job.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        while self._endings:
            await asyncio.gather(*self._endings, return_exceptions=True)
        if self._worker is not None:
            await asyncio.to_thread(self._worker.stop)
        if self._owned:
            for engine in (self.parts, self.uploads):
                if engine is not None:
                    await asyncio.to_thread(engine.close)
        for pool in self._pools:
            pool.close()

    @property
    def managed(self) -> bool | None:
        """Whether the management runs; ``None`` when it is somebody else's affair."""
        return None if self._worker is None else self._worker.running

    def drain(self) -> None:
        """Tell everything under way to let go; what was received is kept."""
        self.draining = True
        self.hub.close()
        for flow in tuple(self._flows.values()):
            flow.cancel(_draining())

    # ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def event(self, uploadid: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Let something happen to an upload that takes microseconds; unless it has to sync: then in a thread.

        The events of one upload happen in the order in which they were asked for, one at a time. What has begun is not
        cancelled half-way.
        """
        if self._inline:
            return function(*args, **kwargs)
        return await self._events.call(uploadid, function, *args, **kwargs)

    async def step(self, uploadid: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something with an upload that may take minutes, in a thread; the steps of one upload one at a time.

        Raises:
            Refused: ``busy``: too many wait for theirs.
        """
        if self._steps.calls >= _STEPS + _QUEUED:
            raise Refused("Too many steps wait for their turn here. Ask again in a while.", code="busy")
        return await self._steps.call(uploadid, function, *args, **kwargs)

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Look at what may have to come from a disk, in a thread. What has begun is not cancelled half-way."""
        return await self._reads.call(None, function, *args, **kwargs)

    def see_to(self, job: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Have something done even if nobody waits for it any more; `stop` does."""
        task = asyncio.create_task(job)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        task.add_done_callback(_failed)
        return task

    # ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _flowing(self, engine: Uploads, uploadid: str) -> Iterator[Flow]:
        """Keep an eye on the body that the current task receives; whoever sent to the same upload lets go."""
        task = asyncio.current_task()
        assert task is not None
        flow = Flow(task, time.monotonic())
        self._displace(engine, uploadid)
        self._flows[engine, uploadid] = flow
        try:
            yield flow
        except asyncio.CancelledError:
            if flow.reason is None:
                raise  # the server's, not ours
            task.uncancel()
            raise flow.reason from None
        finally:
            if self._flows.get((engine, uploadid)) is flow:
                del self._flows[engine, uploadid]

    def hold(self, engine: Uploads, uploadid: str, let_go: LetGo) -> None:
        """A connection that is asked for the bytes of an upload has it from now on; whoever sends to it lets go.

        Args:
            engine: `uploads` or `parts`.
            uploadid: The upload.
            let_go: Called on the event loop when somebody else has the upload.
        """
        if not self.holds(engine, uploadid, let_go):
            self._displace(engine, uploadid)
            self._holders[engine, uploadid] = let_go

    def holds(self, engine: Uploads, uploadid: str, let_go: LetGo) -> bool:
        """Whether nobody else has had it since `hold`."""
        return self._holders.get((engine, uploadid)) == let_go

    def release(self, engine: Uploads, uploadid: str, let_go: LetGo) -> None:
        """It is not asked any more."""
        if self.holds(engine, uploadid, let_go):
            del self._holders[engine, uploadid]

    def _displace(self, engine: Uploads, uploadid: str) -> None:
        former = self._flows.get((engine, uploadid))
        if former is not None:
            former.cancel(_taken_over())
        holder = self._holders.pop((engine, uploadid), None)
        if holder is not None:
            holder(uploadid, _taken_over())

    async def take_over(self, engine: Uploads, uploadid: str) -> None:
        """Whoever sends a body to an upload lets go at once, and what came is on record when this returns.

        For clients that ask where to go on: their former connection may hang for minutes. A WebSocket that is asked for
        the upload goes on being asked, until somebody really sends.
        """
        flow = self._flows.get((engine, uploadid))
        if flow is not None:
            flow.cancel(_taken_over())
            if flow.inflow is not None:
                await self.let_go(uploadid, flow.inflow)
        elif (engine, uploadid) in self._holders:
            await self.event(uploadid, engine.settle, uploadid)

    async def take_in(
        self,
        engine: Uploads,
        uploadid: str,
        body: Body,
        *,
        offset: int | None,
        digest: tuple[str, bytes] | None = None,
    ) -> UploadTask:
        """Store a body behind what an upload has; whatever ends it, what came is kept and put on record.

        Args:
            engine: `uploads` or `parts`.
            uploadid: The upload.
            body: What comes.
            offset: Where it belongs, in bytes from the start of the file; ``None`` for where the upload stands.
            digest: Name of a hash, and what it must give for the body: else nothing of it is kept.

        Returns:
            The task, with the offset now on record.

        Raises:
            Disconnected: The client is gone; what came is kept.
            Refused: ``taken_over``, ``too_slow``, ``draining``: what came is kept.
            UploadError: As `Uploads.inflow`.
        """
        if self.draining:
            raise _draining()
        inflow = None
        try:
            # Registered before the first await: whoever comes later has it in the end.
            with self._flowing(engine, uploadid) as flow:
                inflow = await self.event(uploadid, engine.inflow, uploadid, offset=offset, digest=digest)
                flow.inflow = inflow
                committed = inflow.offset
                while piece := await body.piece():
                    # In line, whatever the durability: a write into the page cache and a SHA-1 of some 64 KiB cost less
                    # than a thread for each (measured: 2.3 against 2.8 CPU seconds a GB).
                    if not inflow.write_at_once(piece):
                        await self.event(uploadid, inflow.write, piece)
                    flow.seen(len(piece))
                    if digest is None and inflow.offset - committed >= self.config.progress:
                        task = await self.event(uploadid, inflow.commit)
                        committed = inflow.offset
                        if inflow.over is not None:  # it is complete, and nothing may follow
                            if await body.piece():
                                raise TooLarge("More bytes came than the file has.", code="beyond_the_end")
                            return task
                return await self.event(uploadid, inflow.finish)
        finally:
            if inflow is not None and inflow.over is None:
                await self.let_go(uploadid, inflow)

    def let_go(self, uploadid: str, inflow: Inflow) -> asyncio.Future[None]:
        """Close an inflow, which puts on record what came; it happens even if nobody waits for it any more."""
        return asyncio.shield(self.see_to(self._close(uploadid, inflow)))

    async def _close(self, uploadid: str, inflow: Inflow) -> None:
        try:
            await self.event(uploadid, inflow.close)
        except UploadError as error:
            log.warning("upload %s: what came could not be put on record: %s", uploadid, error.sentence)

    async def _watch_flows(self) -> None:
        """Ends bodies that have become too slow."""
        config = self.config
        while True:
            await asyncio.sleep(min(5.0, config.body_idle / 4))
            now = time.monotonic()
            for flow in tuple(self._flows.values()):
                age = now - flow.since
                slow = age > config.body_idle and flow.received < config.body_rate * age
                if slow or now - flow.last > config.body_idle:
                    flow.cancel(
                        Refused("The body came too slowly. What came is kept: go on from there.", code="too_slow")
                    )


@define(eq=False)
class Flow:
    """A body under way.

    Attributes:
        task: Who receives it.
        since: When it began, monotonic seconds.
        last: When the last piece came.
        received: Bytes.
        inflow: Where it goes, as soon as that is open.
        reason: Why it was told to let go, for its client.
    """

    task: asyncio.Task[object]
    since: float
    last: float = field(init=False)
    received: int = 0
    inflow: Inflow | None = None
    reason: UploadError | None = None

    def __attrs_post_init__(self) -> None:
        self.last = self.since

    def seen(self, size: int) -> None:
        """A piece came."""
        self.received += size
        self.last = time.monotonic()

    def cancel(self, reason: UploadError) -> None:
        """Tell it to let go."""
        if self.reason is None:
            self.reason = reason
            self.task.cancel()


class _Pool:
    """Threads for one kind of work. Used on the event loop only.

    Attributes:
        calls: How many are under way, or wait.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, f"stagedoor-{name}")
        self._last: dict[str, asyncio.Future[Any]] = {}
        self.calls = 0

    async def call(self, key: str | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a thread, after all calls with the same key that were asked for before.

        They wait here, not in threads for one another's locks: many events of one upload must not take the threads
        from all others.
        """
        job = asyncio.create_task(self._call(None if key is None else self._last.get(key), function, *args, **kwargs))
        self.calls += 1
        job.add_done_callback(self._done)
        if key is not None:
            self._last[key] = job
            job.add_done_callback(lambda _: self._forget(key, job))
        return await asyncio.shield(job)

    async def _call(
        self, before: asyncio.Future[Any] | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        if before is not None:
            await asyncio.wait((before,))
        future = self._threads.submit(lambda: function(*args, **kwargs))
        return await asyncio.wrap_future(future)

    def _done(self, job: asyncio.Future[Any]) -> None:
        self.calls -= 1
        if not job.cancelled():
            job.exception()  # whoever waits has it; nobody may be waiting any more

    def _forget(self, key: str, job: asyncio.Future[Any]) -> None:
        if self._last.get(key) is job:
            del self._last[key]

    def close(self) -> None:
        """Take no more calls."""
        self._threads.shutdown(wait=False)


def _taken_over() -> Refused:
    return Refused("Another connection has this upload now. Ask where it stands, and go on there.", code="taken_over")


def _draining() -> Refused:
    return Refused("The server stops. What you sent is kept: go on when it is back.", code="draining")


def _failed(job: asyncio.Task[None]) -> None:
    """Nobody may wait for what had to be done."""
    error = None if job.cancelled() else job.exception()
    if error is not None:
        log.error("something could not be done to its end", exc_info=error)


def _ended(job: asyncio.Task[None]) -> None:
    """Nobody waits for a job of the background: what ended it is said here."""
    error = None if job.cancelled() else job.exception()
    if error is not None:
        log.error("a job of the background has ended, and is missing until a restart", exc_info=error)
