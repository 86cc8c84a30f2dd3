"""Our own dialect on a connection: `stagedoor.protocols.frames` has the messages and the rules.

The bytes go straight into an `Inflow`: a chunk is written and hashed in line as it comes, and the next one is asked for
at once. They go on record together, every `ServerConfig.progress` bytes, at the end, or when the client has paused for
half a heartbeat; with durability ``power`` one sync then stands for several chunks, and meanwhile the next ones are on
their way. Chunks out of order are refused: nothing of them is kept in memory.
"""

from __future__ import annotations

import asyncio
import logging
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from operator import attrgetter
from typing import Concatenate, Final, ParamSpec, TypeAlias, TypeVar

import orjson
from attrs import asdict, define, field

from ...engine import Inflow
from ...errors import OffsetMismatch, Refused, TaskNotFound, UploadError, WrongState
from ...lifecycle import State
from ...notices import Notice
from ...protocols import frames
from ...protocols.messages import Message, MessageError, encode_task
from ...tasks import Offer, Plan, UploadTask, thaw
from ..concatenation import refuse_final
from ..hub import SILENCE, Encoder
from .board import Documents
from .connection import Connection, Told

__all__ = ["Binary", "teller"]

log = logging.getLogger("stagedoor.server")

_SLOW: Final = 4
"""Requests of a connection that may take long and are worked on at a time; the next message is read after one ends."""

P = ParamSpec("P")
T = TypeVar("T")

_Wished: TypeAlias = "Coroutine[None, None, UploadTask | Plan | Message | None]"
"""What a request comes to: the task, or something else; ``None`` when it was answered already."""


def teller(documents: Documents) -> Encoder:
    """The encoder of this dialect; one for all connections."""

    def encode(notice: Notice) -> Told:
        message = frames.encode_notice(notice, task=None if notice.task is None else documents.of(notice.task))
        return Told(message.payload, message.key, notice=notice)

    return Encoder(encode, frames.encode_progress)


@define(eq=False)
class _Flow:
    """An upload that the client is asked for.

    Attributes:
        handle: What stands for it.
        uploadid: The upload.
        uid: Of the upload.
        inflow: Where the bytes go.
        size: Of the file in bytes, if it is known.
        on_record: Bytes.
        ahead: Where the next chunk that is asked for begins.
        asks: Offset and length of those that are on their way, in order.
        fresh: Whether something came since the last tick.
        lock: For whoever waits while it uses the inflow.
    """

    handle: int
    uploadid: str
    uid: str
    inflow: Inflow
    size: int | None
    on_record: int
    ahead: int
    asks: deque[tuple[int, int]] = field(factory=deque)
    fresh: bool = False
    lock: asyncio.Lock = field(factory=asyncio.Lock)


class Binary:
    """See `Dialect`."""

    def __init__(self, connection: Connection, documents: Documents, encoder: Encoder) -> None:
        self._connection = connection
        self._core = connection.core
        self._documents = documents
        self._encoder = encoder
        settings, config = self._core.uploads.settings, self._core.config
        self._limits = frames.Limits(
            max_chunk=settings.max_chunk,
            max_annotations=settings.max_annotations,
            max_annotation_depth=settings.max_annotation_depth,
        )
        self._ask_size = min(config.ask, settings.max_chunk)
        self._window = 1
        self._welcome = False
        self._flows: dict[int, _Flow] = {}
        self._by_id: dict[str, _Flow] = {}
        self._handles = 0
        self._slow: set[asyncio.Task[None]] = set()
        connection.listener.retune(SILENCE)
        connection.listener.take()  # held back while nobody knew which dialect this is: `list` tells all of it

    @property
    def encoder(self) -> Encoder:
        """See `Dialect`."""
        return self._encoder

    @property
    def heartbeat(self) -> Message:
        """See `Dialect`."""
        return _HEARTBEAT

    def tick(self) -> None:
        """See `Dialect`."""
        for flow in tuple(self._flows.values()):
            if flow.fresh:
                flow.fresh = False
            elif not flow.lock.locked() and (flow.inflow.offset > flow.on_record or flow.inflow.over is not None):
                self._connection.spawn(self._settle(flow))

    def sending(self, notice: Notice) -> None:
        """See `Dialect`: an upload that takes no bytes any more is not asked for."""
        flow = self._by_id.get(notice.uploadid)
        if (
            flow is not None
            and notice.task is not None
            and notice.task.uid == flow.uid
            and notice.state is not State.WAITFORCHUNK
        ):
            self._stop(flow, WrongState(f"The upload takes no bytes any more: its state is {notice.state}."))

    async def close(self) -> None:
        """See `Dialect`."""
        for flow in tuple(self._flows.values()):
            self._drop(flow)
            await self._core.let_go(flow.uploadid, flow.inflow)

    # ── messages ──────────────────────────────────────────────────────────────────────────────────────────────

    async def take(self, frame: str | bytes) -> None:
        """See `Dialect`."""
        if isinstance(frame, bytes):
            if not self._welcome:
                self._connection.end(1008, "Say hello first.")
                return
            await self._chunk(frame)
            return
        try:
            message = frames.parse_client(frame, self._limits)
        except MessageError as error:
            if self._welcome:
                self._say(frames.error_of(error))
            else:
                self._connection.open()
                self._say(frames.error_of(error))
                self._connection.end(1008, "Say hello first.")
            return
        if isinstance(message, frames.Hello):
            self._hello(message)
        elif not self._welcome:
            self._connection.end(1008, "Say hello first.")
        else:
            await self._request(message)

    def _hello(self, hello: frames.Hello) -> None:
        connection, config, settings = self._connection, self._core.config, self._core.uploads.settings
        if self._welcome:
            self._say(frames.error_of(MessageError("You have said hello before.", code="hello_again")))
            return
        connection.open()
        if not self._core.gate.knows(hello.key):
            self._say(frames.error_of(Refused("This server wants an API key: say it in hello.", code="unauthorized")))
            connection.end(1008, "This server wants another API key.")
        elif hello.version != frames.VERSION:
            code = "unsupported_version"
            self._say(frames.error_of(MessageError(f"This server speaks version {frames.VERSION}.", code=code)))
            connection.end(1008, "This server speaks another version.")
        else:
            self._welcome = True
            connection.trust()
            self._window = min(hello.window, config.window)
            self._say(
                frames.Welcome(
                    version=frames.VERSION,
                    chunk_size=self._ask_size,
                    max_chunk=settings.max_chunk,
                    max_file_size=min(settings.max_file_size, 2**53 - 1),
                    max_annotations=settings.max_annotations,
                    window=self._window,
                    heartbeat=math.ceil(config.heartbeat),
                )
            )
            connection.listener.retune(self._encoder)

    async def _request(self, message: frames.ClientMessage) -> None:
        core, uploads = self._core, self._core.uploads
        match message:
            case frames.Initiate():
                await self._answer(message.n, self._initiate(message))
            case frames.Declare():
                await self._answer(message.n, self._declare(message))
            case frames.Claim():
                await self._answer(message.n, self._claim(message))
            case frames.Release():
                await self._answer(message.n, self._release(message))
            case frames.Annotate():
                await self._answer(message.n, self._event(message.uploadid, uploads.annotate, message.annotations))
            case frames.Import():
                await self._answer(message.n, self._event(message.uploadid, uploads.start_import))
            case frames.Retry():
                await self._answer(message.n, self._event(message.uploadid, uploads.retry))
            case frames.Remove():
                await self._answer(message.n, self._event(message.uploadid, uploads.remove))
            case frames.Request():
                wished = self._step(message.uploadid, uploads.request, trigger_import=message.trigger_import)
                await self._answer_later(message.n, wished)
            case frames.Integrate():
                wished = self._step(message.uploadid, uploads.integrate, trigger_import=message.trigger_import)
                await self._answer_later(message.n, wished)
            case frames.Undo():
                await self._answer_later(message.n, self._step(message.uploadid, uploads.undo))
            case frames.Plan():
                await self._answer_later(message.n, self._step(message.uploadid, uploads.plan))
            case frames.ListTasks():
                await self._answer_later(message.n, core.read(self._page, message))

    async def _event(
        self, uploadid: str, function: Callable[Concatenate[str, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._core.event(uploadid, function, uploadid, *args, **kwargs)

    async def _step(
        self, uploadid: str, function: Callable[Concatenate[str, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._core.step(uploadid, function, uploadid, *args, **kwargs)

    async def _answer(self, n: int, wished: _Wished) -> None:
        try:
            result = await wished
        except UploadError as error:
            self._say(frames.error_of(error, n))
            return
        if isinstance(result, UploadTask):
            result = frames.encode_done(n, task=self._documents.of(result))
        elif isinstance(result, Plan):
            result = frames.encode_done(n, plan=orjson.dumps(thaw(asdict(result))))
        if result is not None:
            self._connection.say(result)

    async def _answer_later(self, n: int, wished: _Wished) -> None:
        """What may take long does not hold up the chunks of the same client."""
        task = self._connection.spawn(self._answer(n, wished))
        self._slow.add(task)
        task.add_done_callback(self._slow.discard)
        if len(self._slow) >= _SLOW:
            await asyncio.wait(self._slow, return_when=asyncio.FIRST_COMPLETED)

    def _page(self, message: frames.ListTasks) -> Message:
        """In a thread."""
        uploads, found = self._core.uploads, list[bytes]()
        summaries = uploads.list()
        first = bisect_right(summaries, message.after, key=attrgetter("id"))
        last = first + message.limit
        for summary in summaries[first:last]:
            task = uploads.find(summary.id)
            if task is not None:
                found.append(encode_task(task))
        return frames.encode_tasks(message.n, found, more=last < len(summaries))

    def _say(self, message: frames.ServerMessage) -> None:
        self._connection.say(frames.encode(message))

    # ── uploads ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _initiate(self, message: frames.Initiate) -> None:
        offer = Offer(
            message.uploadid,
            filename=message.filename,
            contenttype=message.contenttype,
            filesize=message.filesize,
            sha1=message.sha1,
            mimetype=message.mimetype,
            annotations=message.annotations,
        )
        task = await self._core.event(offer.id, self._core.uploads.initiate, offer)
        await self._begin(message.n, task)

    async def _claim(self, message: frames.Claim) -> None:
        task = await self._find(message.uploadid)
        if task.state is not State.WAITFORCHUNK:
            raise WrongState(f"The upload takes no bytes any more: its state is {task.state}.")
        await self._begin(message.n, task)

    async def _release(self, message: frames.Release) -> UploadTask:
        flow = self._by_id.get(message.uploadid)
        if flow is not None:
            self._drop(flow)
            await self._core.let_go(flow.uploadid, flow.inflow)
        return await self._find(message.uploadid)

    async def _declare(self, message: frames.Declare) -> UploadTask | None:
        flow = self._by_id.get(message.uploadid)
        declare = partial(self._core.uploads.declare, message.uploadid, filesize=message.filesize, sha1=message.sha1)
        if flow is None or message.filesize is None:
            return await self._core.event(message.uploadid, declare)
        # What was asked for may go beyond the end; and what came has to be on record before the end is compared with.
        self._say_stop(flow, Refused("The size is known now: you are asked anew.", code="declared"))
        self._drop(flow)
        await self._core.let_go(flow.uploadid, flow.inflow)
        try:
            task = await self._core.event(message.uploadid, declare)
        except UploadError as error:
            self._say(frames.error_of(error, message.n))
            await self._ask_anew(flow.uploadid)
            return None
        await self._begin(message.n, task)
        return None

    async def _find(self, uploadid: str) -> UploadTask:
        """Who asks for an upload that is not there, hears so, and nobody else."""
        task = await self._event(uploadid, self._core.uploads.find)
        if task is None:
            raise TaskNotFound(uploadid)
        return task

    async def _begin(self, n: int, task: UploadTask) -> None:
        """Answer a request that makes this connection the one which is asked."""
        flow = None
        if task.state is State.WAITFORCHUNK and task.offset != task.filesize:
            refuse_final(task)
            flow = await self._open(task)
            if flow.inflow.offset != task.offset:  # whoever had it before let go of more than was known
                task = await self._find(task.id)
        self._connection.say(frames.encode_done(n, task=self._documents.of(task)))
        if flow is not None:
            self._ask(flow)

    async def _ask_anew(self, uploadid: str) -> None:
        try:
            self._ask(await self._open(await self._find(uploadid)))
        except UploadError as error:  # whoever waits for an ask claims again, and hears it then
            log.info("a client cannot be asked anew: %s", error.sentence)

    async def _open(self, task: UploadTask) -> _Flow:
        core, uploads = self._core, self._core.uploads
        former = self._by_id.get(task.id)
        if former is not None:
            self._say_stop(former, Refused("This connection has claimed the upload again.", code="claimed_again"))
            self._drop(former)
            await self._core.let_go(former.uploadid, former.inflow)
        core.hold(uploads, task.id, self._lost)
        try:
            inflow = await self._event(task.id, uploads.inflow)
        except BaseException:
            core.release(uploads, task.id, self._lost)
            raise
        self._handles += 1
        flow = _Flow(self._handles, task.id, task.uid, inflow, task.filesize, inflow.offset, inflow.offset)
        if not core.holds(uploads, task.id, self._lost):  # lost while it was opened
            await core.let_go(task.id, inflow)
            raise Refused("Another connection has this upload now.", code="taken_over")
        self._flows[flow.handle] = self._by_id[task.id] = flow
        return flow

    def _ask(self, flow: _Flow) -> None:
        """Fill the window, once half of it is free: so two requests share a packet, and wake the client once."""
        if len(flow.asks) > self._window // 2:
            return
        end = self._core.uploads.settings.max_file_size if flow.size is None else flow.size
        while len(flow.asks) < self._window and flow.ahead < end:
            length = min(self._ask_size, end - flow.ahead)
            self._say(frames.Ask(uploadid=flow.uploadid, handle=flow.handle, offset=flow.ahead, length=length))
            flow.asks.append((flow.ahead, length))
            flow.ahead += length

    # ── chunks ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _chunk(self, frame: bytes) -> None:
        try:
            chunk = frames.parse_chunk(frame, self._limits)
        except UploadError as error:
            self._say(frames.error_of(error))
            return
        flow = self._flows.get(chunk.handle)
        if flow is not None:
            async with flow.lock:
                if chunk.handle in self._flows:  # still
                    await self._store(flow, chunk)
                    return
        sentence = "Nothing is asked for with this handle. Claim the upload to go on with it."
        self._say(frames.Stop(handle=chunk.handle, uploadid=None, code="unknown_handle", sentence=sentence))

    async def _store(self, flow: _Flow, chunk: frames.Chunk) -> None:
        inflow, size = flow.inflow, len(chunk.data)
        offset, length = flow.asks[0] if flow.asks else (-1, 0)
        if chunk.offset != offset or size > length:
            self._stop(flow, Refused("These bytes were not asked for. Claim the upload again.", code="not_asked"))
            return
        flow.asks.popleft()
        try:
            if not inflow.write_at_once(chunk.data):
                await self._core.event(flow.uploadid, inflow.write, chunk.data)
                if flow.handle not in self._flows:  # somebody else has it now, and the client knows
                    return
        except UploadError as error:
            self._stop(flow, error)
            return
        flow.fresh = True
        self._core.tally.received["websocket"] += size
        if inflow.offset == flow.size:
            self._drop(flow)
            try:
                await self._core.event(flow.uploadid, inflow.finish)
            except UploadError as error:
                self._say_stop(flow, error)
            return
        if size < length and flow.asks:
            self._say_stop(flow, Refused("The chunk before was short: you are asked anew.", code="short_chunk"))
            self._drop(flow)
            await self._core.let_go(flow.uploadid, flow.inflow)
            await self._ask_anew(flow.uploadid)
            return
        if size < length:  # nothing was asked for behind it
            flow.ahead = inflow.offset
        self._ask(flow)
        if inflow.offset - flow.on_record >= self._core.config.progress:
            await self._commit(flow)

    async def _commit(self, flow: _Flow) -> None:
        try:
            await self._core.event(flow.uploadid, flow.inflow.commit)
        except UploadError as error:
            self._stop(flow, error)
        else:
            flow.on_record = flow.inflow.offset

    async def _settle(self, flow: _Flow) -> None:
        """The client pauses: what came goes on record; and it may be somebody else's turn."""
        async with flow.lock:
            if flow.handle not in self._flows:
                return
            if flow.inflow.over is not None:
                self._stop(flow, flow.inflow.over)
            else:
                await self._commit(flow)

    def _lost(self, uploadid: str, reason: UploadError) -> None:
        flow = self._by_id.get(uploadid)
        if flow is not None:
            self._stop(flow, reason)

    def _stop(self, flow: _Flow, reason: UploadError) -> None:
        """Ask no more, and put on record what came."""
        self._say_stop(flow, reason)
        self._drop(flow)
        self._core.let_go(flow.uploadid, flow.inflow)

    def _say_stop(self, flow: _Flow, reason: UploadError) -> None:
        self._say(
            frames.Stop(
                handle=flow.handle,
                uploadid=flow.uploadid,
                code=reason.code,
                sentence=reason.sentence,
                expected=reason.expected if isinstance(reason, OffsetMismatch) else None,
            )
        )

    def _drop(self, flow: _Flow) -> None:
        self._flows.pop(flow.handle, None)
        if self._by_id.get(flow.uploadid) is flow:
            del self._by_id[flow.uploadid]
            self._core.release(self._core.uploads, flow.uploadid, self._lost)


_HEARTBEAT: Final = frames.encode(frames.Heartbeat())
