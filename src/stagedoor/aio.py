"""The uploads for asyncio: the methods of `Uploads`, each done by a thread, and the notices as a stream.

Disks, hashes and decoders block whatever one does, so the engine is written once, for threads, and this is a thin
skin over it. What a thread has begun it ends: a caller that is cancelled hears no more of it, but nothing is left
half done, and `AsyncUploads.close` waits for it.

    with Uploads.open("uploads/", music="Music/") as engine, manage(engine):
        async with AsyncUploads(engine) as uploads:
            stream = uploads.notices()
            task = await uploads.initiate(Offer(…))
            async for notice in stream:
                …
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count, islice
from typing import Final, ParamSpec, Self, TypeVar

from .engine import Uploads
from .errors import UploadError
from .notices import Notice, NoticeKind
from .ports import Buffer, Summary
from .tasks import JSON, Offer, Plan, UploadTask

__all__ = ["AsyncUploads", "Notices", "Overrun"]

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_SLICE: Final = 1.0
"""For how many seconds a thread waits for an upload before it looks whether anybody still wants to know."""
_BATCH: Final = 64
_WAITERS: Final = 32


class Overrun(UploadError):
    """A reader of notices was too slow and has missed some. List the uploads again, then read a new stream."""

    default_code = "notices_overrun"


class AsyncUploads:
    """The same methods as `Uploads`, for asyncio. Close it before the `Uploads` below, which it leaves open.

    The methods raise what those of `Uploads` raise, and `UploadError` with code ``closed`` after `close`. They may be
    called from any event loop; a stream belongs to the loop in which it was made.

    Args:
        uploads: What does the work.
        threads: How many calls are done at once; more of them queue.
    """

    def __init__(self, uploads: Uploads, *, threads: int = 8) -> None:
        self.uploads = uploads
        self._closed = False
        self._calls = ThreadPoolExecutor(threads, "stagedoor-aio")
        # Waiting takes a thread but does nothing, so it is kept from those that do something.
        self._waiters = ThreadPoolExecutor(_WAITERS, "stagedoor-aio-wait")
        self._streams: weakref.WeakSet[Notices] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._unsubscribe: Callable[[], None] | None = None

    async def close(self) -> None:
        """Wait for the calls that were made, also for those whose caller was cancelled, and end the streams.

        Takes up to a second when somebody is in `wait`. Closing twice is no error.
        """
        self._closed = True
        try:
            await asyncio.shield(asyncio.to_thread(self._shut))
        finally:
            with self._lock:
                unsubscribe, self._unsubscribe = self._unsubscribe, None
                streams = list(self._streams)
            if unsubscribe is not None:
                unsubscribe()
            for stream in streams:
                stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # ── what clients ask for ──────────────────────────────────────────────────────────────────────────────

    async def initiate(self, offer: Offer) -> UploadTask:
        """See `Uploads.initiate`."""
        return await self._call(self.uploads.initiate, offer)

    async def declare(self, uploadid: str, *, filesize: int | None = None, sha1: str | None = None) -> UploadTask:
        """See `Uploads.declare`."""
        return await self._call(self.uploads.declare, uploadid, filesize=filesize, sha1=sha1)

    async def receive(self, uploadid: str, *, offset: int | None, data: Buffer) -> UploadTask:
        """See `Uploads.receive`.

        Anything but ``bytes`` is copied first: a caller that is cancelled may fill its buffer anew while the thread
        still reads it.
        """
        own = data if isinstance(data, bytes) else bytes(memoryview(data))
        return await self._call(self.uploads.receive, uploadid, offset=offset, data=own)

    async def annotate(
        self, uploadid: str, annotations: Mapping[str, JSON] | None = None, /, **more: JSON
    ) -> UploadTask:
        """See `Uploads.annotate`."""
        return await self._call(self.uploads.annotate, uploadid, {**(annotations or {}), **more})

    async def plan(self, uploadid: str) -> Plan:
        """See `Uploads.plan`."""
        return await self._call(self.uploads.plan, uploadid)

    async def request(self, uploadid: str, *, trigger_import: bool = False) -> UploadTask:
        """See `Uploads.request`."""
        return await self._call(self.uploads.request, uploadid, trigger_import=trigger_import)

    async def integrate(self, uploadid: str, *, trigger_import: bool = False) -> UploadTask:
        """See `Uploads.integrate`."""
        return await self._call(self.uploads.integrate, uploadid, trigger_import=trigger_import)

    async def start_import(self, uploadid: str) -> UploadTask:
        """See `Uploads.start_import`."""
        return await self._call(self.uploads.start_import, uploadid)

    async def retry(self, uploadid: str) -> UploadTask:
        """See `Uploads.retry`."""
        return await self._call(self.uploads.retry, uploadid)

    async def undo(self, uploadid: str) -> UploadTask:
        """See `Uploads.undo`."""
        return await self._call(self.uploads.undo, uploadid)

    async def remove(self, uploadid: str) -> UploadTask:
        """See `Uploads.remove`."""
        return await self._call(self.uploads.remove, uploadid)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, uploadid: str) -> UploadTask:
        """See `Uploads.get`."""
        return await self._call(self.uploads.get, uploadid)

    async def find(self, uploadid: str) -> UploadTask | None:
        """See `Uploads.find`."""
        return await self._call(self.uploads.find, uploadid)

    async def known(self, sha1: str) -> Sequence[str]:
        """See `Uploads.known`."""
        return await self._call(self.uploads.known, sha1)

    async def list(self) -> Sequence[Summary]:
        """See `Uploads.list`."""
        return await self._call(self.uploads.list)

    async def tasks(self) -> AsyncIterator[UploadTask]:
        """See `Uploads.tasks`; read in batches."""
        source = self.uploads.tasks()
        while batch := await self._call(lambda: tuple(islice(source, _BATCH))):
            for task in batch:
                yield task

    async def wait(self, uploadid: str, timeout: float | None = None) -> UploadTask | None:
        """See `Uploads.wait`. Cancelling it frees its thread within a second."""
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while True:
            left = _SLICE if end is None else max(0.0, min(_SLICE, end - loop.time()))
            try:
                return await self._in(self._waiters, partial(self.uploads.wait, uploadid, left))
            except TimeoutError:
                if end is not None and loop.time() >= end:
                    raise

    def notices(self, *, backlog: int = 1_000) -> Notices:
        """Hear every notice from now on, in order. To be called in the event loop that reads them.

        Args:
            backlog: How many notices may wait to be read.
        """
        self._check_open()
        stream = Notices(self, asyncio.get_running_loop(), backlog)
        with self._lock:
            self._streams.add(stream)
            if self._unsubscribe is None:
                self._unsubscribe = self.uploads.subscribe(_fan_out(weakref.ref(self)))
        return stream

    # ── helpers ───────────────────────────────────────────────────────────────────────────────────────────

    def _shut(self) -> None:
        self._calls.shutdown()
        self._waiters.shutdown()

    def _check_open(self) -> None:
        if self._closed:
            raise UploadError("The asynchronous uploads are closed.", code="closed")

    def _hear(self, notice: Notice) -> None:
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream._push(notice)

    def _forget(self, stream: Notices) -> None:
        with self._lock:
            self._streams.discard(stream)

    async def _call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in(self._calls, partial(function, *args, **kwargs))

    async def _in(self, executor: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        self._check_open()
        future = executor.submit(contextvars.copy_context().run, function)
        try:
            # Cancelling this takes a call back that no thread has begun, and no other.
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(_log_unheard)
            raise


def _fan_out(reference: weakref.ref[AsyncUploads]) -> Callable[[Notice], None]:
    """A subscriber that keeps nobody alive."""

    def subscriber(notice: Notice) -> None:
        uploads = reference()
        if uploads is not None:
            uploads._hear(notice)

    return subscriber


def _log_unheard(future: Future[T]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, TimeoutError):
        log.warning("a call that nobody waits for any more failed: %r", error)


class Notices:
    """A stream of notices: ``async for notice in uploads.notices()``. Ends when the uploads are closed.

    What waits to be read is bounded. Of several requests for a chunk of one upload only the newest waits, for it
    is the only one that counts; nothing else is left out. A reader that is too slow even so gets what waits, and
    then `Overrun`.

    It may be closed, is a context manager, and closes itself when nobody has it any more.
    """

    def __init__(self, uploads: AsyncUploads, loop: asyncio.AbstractEventLoop, backlog: int) -> None:
        if backlog < 1:
            raise ValueError("The backlog must be at least 1.")
        self._uploads = weakref.ref(uploads)
        self._loop = loop
        self._backlog = backlog
        self._waiting: OrderedDict[int | str, Notice] = OrderedDict()
        self._numbers = count()
        self._lock = threading.Lock()
        self._ready = asyncio.Event()
        self._signalled = False
        self._ended = False
        self._error: Overrun | None = None

    def close(self) -> None:
        """Hear nothing more; what waits can still be read. From any thread; closing twice is no error."""
        uploads = self._uploads()
        if uploads is not None:
            uploads._forget(self)
        with self._lock:
            self._ended = True
        self._signal()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        while True:
            with self._lock:
                if self._waiting:
                    return self._waiting.popitem(last=False)[1]
                if self._error is not None:
                    raise self._error
                if self._ended:
                    raise StopAsyncIteration
                self._ready.clear()
                self._signalled = False
            await self._ready.wait()

    def _push(self, notice: Notice) -> None:
        """Called in the bus's thread."""
        chunk = notice.kind is NoticeKind.CHUNK_REQUEST
        with self._lock:
            if self._ended:
                return
            # The newest takes the last place: it must not overtake what happened before it.
            key = notice.uploadid if chunk else next(self._numbers)
            self._waiting.pop(key, None)
            overrun = len(self._waiting) >= self._backlog
            if overrun:
                self._error = Overrun(
                    f"More than {self._backlog:,} notices were waiting to be read, and some are missed. "
                    "List the uploads again, then read a new stream."
                )
            else:
                self._waiting[key] = notice
        if overrun:
            self.close()
        else:
            self._signal()

    def _signal(self) -> None:
        with self._lock:
            if self._signalled:
                return
            self._signalled = True
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the loop is closed, and the reader with it
            with self._lock:
                self._ended = True
                self._waiting.clear()
