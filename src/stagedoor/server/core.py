"""What all wires of a server share: the engine, who listens, and how work gets off the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeAlias, TypeVar

from attrs import define, field

from ..engine import Inflow, Uploads
from ..errors import Refused, TooLarge, UploadError
from ..tasks import UploadTask
from ..worker import Worker
from .config import ServerConfig
from .http import Body
from .hub import Hub
from .security import Gate
from .tally import Tally

__all__ = ["Core", "Flow"]

log = logging.getLogger(__name__)

LetGo: TypeAlias = Callable[[str, UploadError], None]
"""Told the id of an upload, and why somebody else has it now."""

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
        self._threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="stagedoor-server")
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
        if self._worker is not None:
            await asyncio.to_thread(self._worker.stop)
        if self._owned:
            for engine in (self.parts, self.uploads):
                if engine is not None:
                    await asyncio.to_thread(engine.close)
        self._threads.shutdown(wait=False)

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

    async def quick(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what takes microseconds, unless it has to sync: then in a thread."""
        if self._inline:
            return function(*args, **kwargs)
        return await self.slow(function, *args, **kwargs)

    async def slow(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what may wait for a disk, in a thread. What has begun is not cancelled half-way."""
        future = self._threads.submit(lambda: function(*args, **kwargs))
        return await asyncio.shield(asyncio.wrap_future(future))

    # ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _flowing(self, engine: Uploads, uploadid: str, inflow: Inflow) -> Iterator[Flow]:
        """Keep an eye on the body that the current task receives; whoever sent to the same upload lets go."""
        task = asyncio.current_task()
        assert task is not None
        flow = Flow(task, inflow, time.monotonic())
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
        """Whoever sends to an upload lets go at once, and what came is on record when this returns.

        For clients that ask where to go on: their former connection may hang for minutes.
        """
        flow = self._flows.get((engine, uploadid))
        if flow is not None:
            flow.cancel(_taken_over())
            await self._let_go(flow.inflow.close)

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
        inflow = await self.quick(engine.inflow, uploadid, offset=offset, digest=digest)
        try:
            with self._flowing(engine, uploadid, inflow) as flow:
                committed = inflow.offset
                while piece := await body.piece():
                    # In line, whatever the durability: a write into the page cache and a SHA-1 of some 64 KiB cost less
                    # than a thread for each (measured: 2.3 against 2.8 CPU seconds a GB).
                    inflow.write(piece)
                    flow.seen(len(piece))
                    if digest is None and inflow.offset - committed >= self.config.progress:
                        task = await self.quick(inflow.commit)
                        committed = inflow.offset
                        if inflow.over is not None:  # it is complete, and nothing may follow
                            if await body.piece():
                                raise TooLarge("More bytes came than the file has.", code="beyond_the_end")
                            return task
                return await self.quick(inflow.finish)
        finally:
            if inflow.over is None:
                await self._let_go(inflow.close)

    async def _let_go(self, close: Callable[[], object]) -> None:
        try:
            await self.quick(close)
        except UploadError as error:
            log.warning("what a request brought could not be put on record: %s", error.sentence)

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
        inflow: Where it goes.
        since: When it began, monotonic seconds.
        last: When the last piece came.
        received: Bytes.
        reason: Why it was told to let go, for its client.
    """

    task: asyncio.Task[object]
    inflow: Inflow
    since: float
    last: float = field(init=False)
    received: int = 0
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


def _taken_over() -> Refused:
    return Refused("Another connection has this upload now. Ask where it stands, and go on there.", code="taken_over")


def _draining() -> Refused:
    return Refused("The server stops. What you sent is kept: go on when it is back.", code="draining")


def _ended(job: asyncio.Task[None]) -> None:
    """Nobody waits for a job of the background: what ended it is said here."""
    error = None if job.cancelled() else job.exception()
    if error is not None:
        log.error("a job of the background has ended, and is missing until a restart", exc_info=error)
