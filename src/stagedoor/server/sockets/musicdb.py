"""MusicDB's dialect on a connection: `stagedoor.protocols.musicdb` has the packets.

Chunks carry no offset. MusicDB's web client answers every request for a chunk that it hears for an upload whose file it
holds, in the order in which it hears them; so each connection that declared an upload remembers which offsets it was
asked for, and a chunk belongs to the oldest of them. Whether the connection is the one that may write is another
question: the one that declared the upload last is, on whatever wire (`Core.hold`).

What it heard before it declared the upload it answers as well if it had the file by then, as after a reconnect, and
else not. So it is with what it was asked for on a connection that is lost, of this server or of the one before: when it
declares here what was begun elsewhere, it may be reading the chunk that is wanted already. Nobody knows, but these
answers come first: a chunk that is what is stored at such an offset is one of them, and the first that is not ends the
question.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Final, TypeAlias

import orjson
from attrs import define, evolve, field

from ...engine import Uploads
from ...errors import OffsetMismatch, Refused, StorageFull, TaskNotFound, UploadError
from ...lifecycle import State
from ...notices import Notice, NoticeKind
from ...protocols.messages import Message, MessageError, coalescing_key
from ...protocols.musicdb import (
    HEARTBEAT,
    AnnotateUpload,
    Call,
    GetUploads,
    InitiateUpload,
    IntegrateUpload,
    Limits,
    Method,
    Packet,
    RemoveUpload,
    UploadChunk,
    answer,
    parse_call,
    parse_packet,
    waits_for_annotation,
)
from ...protocols.tus import final_upload
from ...tasks import Offer, UploadTask
from ..concatenation import is_final
from ..hub import Encoder
from .board import Board
from .connection import Connection, Told

__all__ = ["UNDECIDED", "MusicDB"]

_INLINE: Final = 1 << 20
"""Characters of a packet that are read in line: 2 ms for MusicDB's own chunks. Larger ones are read in a thread."""
_ECHO: Final = 4 << 10
"""Bytes of JSON that go back with an answer as they came, which may go to everybody."""
_UNANSWERED: Final = 1_000
"""Requests for chunks of an upload that may be without an answer before a connection has to declare it again."""
_OVERHEARD: Final = 64
"""Requests for chunks that are remembered of an upload which was not declared, and such uploads of a connection."""
_PATIENCE: Final = 2
"""Halves of a heartbeat in which the chunk has to come that was asked for after one that was had already."""

_INTEGRATED: Final = (State.INTEGRATED, State.STARTIMPORT, State.IMPORTARTWORK, State.IMPORTCOMPLETE)
_UNFINISHED: Final = (State.WAITFORCHUNK, State.UPLOADFAILED)

_Read: TypeAlias = "tuple[Packet, Call | UploadError]"


def _hold_back(notice: Notice) -> Told:
    return Told(b"", coalescing_key(notice), notice=notice)


UNDECIDED: Final = Encoder(_hold_back)
"""Of those whose dialect is not known yet: the notice itself, to be encoded later."""


@define(eq=False)
class _File:
    """An upload that this connection has declared, or may declare.

    Attributes:
        uid: Of the upload, so that another one with the same id gets none of its chunks.
        overheard: Offsets in requests that the client may have answered, or not; all before those in `asked`.
        asked: Offsets that the client was asked for, oldest first.
        patience: Halves of a heartbeat until it is asked again, because a chunk was taken for one that is had already
            and none has come since; 0 for never.
    """

    uid: str | None = None
    overheard: deque[int] = field(factory=lambda: deque(maxlen=_OVERHEARD))
    asked: deque[int] = field(factory=deque)
    patience: int = 0

    def is_about(self, task: UploadTask) -> None:
        """What was asked for before was another upload, if this is one."""
        if self.uid != task.uid:
            self.uid = task.uid
            self.overheard.clear()
            self.asked.clear()


class MusicDB:
    """See `Dialect`."""

    def __init__(self, connection: Connection, board: Board) -> None:
        self._connection = connection
        self._core = connection.core
        self._board = board
        settings = self._core.uploads.settings
        self._limits = Limits(
            max_chunk=settings.max_chunk,
            max_annotations=settings.max_annotations,
            max_annotation_depth=settings.max_annotation_depth,
        )
        self._files: dict[str, _File] = {}  # that were declared here
        self._others: OrderedDict[str, _File] = OrderedDict()  # that were asked for lately
        self._beginning: asyncio.Task[None] | None = None
        self._entered = False
        self._closed = False

    @property
    def encoder(self) -> Encoder:
        """See `Dialect`."""
        return self._board.encoder

    @property
    def heartbeat(self) -> Message:
        """See `Dialect`."""
        return HEARTBEAT

    async def begin(self) -> None:
        """The client is known: it is told everything from now on."""
        if self._beginning is None:
            self._beginning = self._connection.spawn(self._begin())
        if not self._entered:
            await self._beginning

    async def _begin(self) -> None:
        if self._closed:
            return  # somebody of the other dialect has spoken: the listener is theirs
        listener = self._connection.listener
        if listener.encoder is not UNDECIDED:
            listener.retune(UNDECIDED)
        await self._board.enter()
        if self._closed:
            self._board.leave()
            return
        self._entered = True
        waiting = listener.take()
        listener.retune(self.encoder)
        for message in waiting:
            held = message.notice if isinstance(message, Told) else None
            listener.put(message if held is None else self._board.encode(held))
        self._connection.open()

    async def close(self) -> None:
        """See `Dialect`."""
        self._closed = True
        for uploadid in tuple(self._files):
            self._forget(uploadid)
        if self._entered:
            self._entered = False
            self._board.leave()

    def tick(self) -> None:
        """See `Dialect`: a chunk that was the same as another one may have been the one that was wanted."""
        for uploadid, file in tuple(self._files.items()):
            if file.patience:
                file.patience -= 1
                if not file.patience:
                    self._connection.spawn(self._ask_again(uploadid, file))

    def sending(self, notice: Notice) -> None:
        """See `Dialect`: what the client is asked for is what it is going to send."""
        uploadid, task = notice.uploadid, notice.task
        if task is None:
            return
        file = self._files.get(uploadid)
        if notice.kind is not NoticeKind.CHUNK_REQUEST:
            if notice.state not in _UNFINISHED:
                if file is not None and file.uid == task.uid:
                    self._forget(uploadid)
                self._others.pop(uploadid, None)
        elif file is not None:
            file.is_about(task)
            file.asked.append(notice.offset)
            if len(file.asked) > _UNANSWERED:
                self._forget(uploadid)
        else:
            file = self._others.pop(uploadid, None) or _File()
            self._remember(uploadid, file)
            file.is_about(task)
            file.overheard.append(notice.offset)

    # ── packets ───────────────────────────────────────────────────────────────────────────────────────────────

    async def take(self, frame: str | bytes) -> None:
        """See `Dialect`."""
        try:
            if isinstance(frame, bytes):
                raise MessageError("Chunks are hexadecimal here, or say hello first.", code="invalid_frame")
            if len(frame) > _INLINE:
                read = await self._core.read(self._read, frame)
            else:
                read = self._read(frame)
        except MessageError as error:
            if not self._core.config.keys:
                await self.begin()
            if self._entered:
                self._refuse("", error)
            return
        if read is None:
            return  # a wrong key: dropped, as the contract has it
        self._connection.trust()
        await self.begin()
        packet, call = read
        message: Message | None = None
        done = False
        uploadid = _id_of(packet)
        try:
            if isinstance(call, UploadError):
                raise call
            message = await self._do(packet, call)
            done = True
        except (TaskNotFound, StorageFull):
            pass  # the engine has told everybody
        except UploadError as error:
            if not isinstance(call, InitiateUpload):  # of these the engine has told everybody
                self._refuse(uploadid, error)
        message = message or answer(packet, None)
        if message is None:
            return
        if packet.method is Method.BROADCAST and done:  # what was refused concerns nobody else
            self._core.hub.tell(self.encoder, message)
        else:
            self._connection.say(message)

    def _read(self, text: str) -> _Read | None:
        """A packet and its call; the call is not looked at before the key is known to be right."""
        packet = parse_packet(text, self._limits)
        if not self._core.gate.knows(packet.key):
            return None
        if len(orjson.dumps([packet.fncsig, packet.pass_])) > _ECHO:
            error = MessageError(f"fncsig and pass may have {_ECHO:,} bytes of JSON together.", code="too_large")
            return Packet(Method.CALL, packet.fncname, arguments=packet.arguments), error  # nothing is echoed
        try:
            return packet, parse_call(packet, self._limits)
        except UploadError as error:
            return packet, error

    async def _do(self, packet: Packet, call: Call) -> Message | None:
        """Do what is asked for; the answer, where there is more to say than that it is done."""
        core, uploads = self._core, self._core.uploads
        match call:
            case InitiateUpload():
                await self._initiate(call)
            case UploadChunk():
                await self._chunk(call)
            case GetUploads():
                if packet.method is Method.REQUEST:
                    return await self._board.everything(packet)
                if packet.method is Method.BROADCAST:
                    return self._board.broadcast(packet)
            case AnnotateUpload():
                await core.event(call.uploadid, uploads.annotate, call.uploadid, call.annotations)
            case IntegrateUpload():
                await self._integrate(call)
            case RemoveUpload():
                await core.event(call.uploadid, uploads.remove, call.uploadid)
        return None

    async def _initiate(self, call: InitiateUpload) -> None:
        core, uploadid = self._core, call.offer.id
        # Before the engine asks for the first chunk: what is sent to the client has to be remembered.
        known = uploadid in self._files
        file = self._files.get(uploadid) or self._others.pop(uploadid, None) or _File()
        self._files[uploadid] = file
        self._connection.listener.follow(uploadid)
        try:
            task, begun = await core.event(uploadid, _declare, core.uploads, call.offer)
        except UploadError:
            if not known and self._files.pop(uploadid, None) is not None:
                self._connection.listener.unfollow(uploadid)
                file.overheard.extend(file.asked)
                file.asked.clear()
                self._remember(uploadid, file)
            raise
        if is_final(task):  # which the engine does not mind
            self._forget(uploadid)
            self._refuse(uploadid, final_upload())
        elif task.state is State.WAITFORCHUNK:
            file.is_about(task)
            if begun and not known:
                file.overheard.append(task.offset)
            core.hold(core.uploads, uploadid, self._lost)
        else:
            self._forget(uploadid)

    async def _integrate(self, call: IntegrateUpload) -> None:
        core, uploads = self._core, self._core.uploads
        task = await core.event(call.uploadid, uploads.get, call.uploadid)
        if waits_for_annotation(task):
            raise Refused("The import was undone. Annotate the upload before it is integrated.", code="undone")
        if task.wanted is not None or task.state in _INTEGRATED:
            return  # the web client asks with each `preprocessed` that it hears; it has been asked for before
        await core.step(call.uploadid, uploads.request, call.uploadid, trigger_import=call.trigger_import)

    async def _chunk(self, call: UploadChunk) -> None:
        core, uploads, uploadid = self._core, self._core.uploads, call.uploadid
        file = self._files.get(uploadid)
        task = await core.event(uploadid, uploads.get, uploadid)
        offset = None if file is None else await self._answered(file, task, call.data)
        if file is None or not core.holds(uploads, uploadid, self._lost):
            raise Refused(
                "This connection was not asked for chunks of this upload. Declare the upload here to go on with it.",
                code="not_asked",
            )
        if offset is None or file.uid != task.uid:
            raise Refused("One chunk for each request: this one was not asked for.", code="not_asked")
        if offset < task.offset:
            return  # it was asked for twice, and has come before: the request that followed is on its way
        try:
            await core.event(uploadid, uploads.receive, uploadid, offset=offset, data=call.data)
        except OffsetMismatch:
            if _stands(uploads.find(uploadid)) > offset:
                return  # somebody who had the upload before put on record what had come
            raise
        file.patience = 0
        core.tally.received["websocket"] += len(call.data)

    async def _answered(self, file: _File, task: UploadTask, data: bytes) -> int | None:
        """The offset in the request that a chunk answers; ``None`` when it answers none."""
        overheard, asked = file.overheard, file.asked
        while overheard:
            offset = overheard.popleft()
            had = offset < task.offset and await self._core.read(_has, self._core.uploads, task, offset, data)
            if (had or offset == task.offset) and offset in asked:
                asked.remove(offset)  # the chunk is the same, whichever it answers: the other may be answered yet
                overheard.appendleft(offset)
                return offset
            if had:
                file.patience = _PATIENCE
                return offset
            if offset == task.offset and not asked:
                return offset
            # Else this one was not answered, and will not be: the chunk answers a later one.
        return asked.popleft() if asked else None

    async def _ask_again(self, uploadid: str, file: _File) -> None:
        core = self._core
        try:
            task = await core.event(uploadid, core.uploads.find, uploadid)
        except UploadError:  # it cannot be read, and so not be written either
            return
        if task is None or task.uid != file.uid or task.state is not State.WAITFORCHUNK:
            return
        if core.holds(core.uploads, uploadid, self._lost):
            file.overheard.extend(file.asked)
            file.asked.clear()
            self._connection.say(self._board.encode(Notice(NoticeKind.CHUNK_REQUEST, uploadid, task)))

    def _lost(self, uploadid: str, reason: UploadError) -> None:
        """Somebody else has the upload. What is asked for is remembered all the same: it is going to be answered."""

    def _remember(self, uploadid: str, file: _File) -> None:
        """The client may declare it, and have answered before that."""
        self._others[uploadid] = file
        if len(self._others) > _OVERHEARD:
            self._others.popitem(last=False)

    def _forget(self, uploadid: str) -> None:
        self._files.pop(uploadid, None)
        self._connection.listener.unfollow(uploadid)
        self._core.release(self._core.uploads, uploadid, self._lost)

    def _refuse(self, uploadid: str, error: UploadError) -> None:
        """A refusal concerns the one who asked, and nobody else."""
        task = None
        if uploadid:
            try:
                task = self._core.uploads.find(uploadid)
            except UploadError:  # it is no id at all
                task = None
        notice = Notice(NoticeKind.INTERNAL_ERROR, uploadid, task, error.sentence, error.code)
        self._connection.say(evolve(self._board.encode(notice), notice=None))


def _declare(uploads: Uploads, offer: Offer) -> tuple[UploadTask, bool]:
    """Initiate an upload; also, whether somebody may have been asked for what it waits for now already."""
    try:
        former = uploads.find(offer.id)
    except UploadError:  # the engine says it, and tells everybody
        former = None
    task = uploads.initiate(offer)
    return task, former is not None and (former.uid, former.state) == (task.uid, State.WAITFORCHUNK)


def _has(uploads: Uploads, task: UploadTask, offset: int, data: bytes) -> bool:
    """Whether the bytes at an offset, as far as they are on record, are these; in a thread."""
    size = min(len(data), task.offset - offset)
    with uploads.ports.bytes.open(task.key) as file:
        file.seek(offset)
        found = bytearray()
        while len(found) < size and (piece := file.read(size - len(found))):
            found += piece
    return found == data[:size]


def _stands(task: UploadTask | None) -> int:
    return 0 if task is None else task.offset


def _id_of(packet: Packet) -> str:
    uploadid = packet.arguments.get("uploadid")
    return uploadid[:1024] if isinstance(uploadid, str) else ""
