"""Every notice as Server-Sent Events (WHATWG HTML, section 9.2), with ids to go on from.

An id is ``<run>-<number>``: the run is that of the server, so that an id of yesterday is not taken for one of today.
Changes of state and errors have ids, and the last of them are remembered; so is the newest request for a chunk of each
upload, without an id, since the listeners hear of progress at different times (`stagedoor.server.hub`). Whoever comes
back with an id that is still in reach hears the changes that were missed, and all the requests; everybody else first
gets a ``reset``: fetch the list, the events that follow are newer. Nothing is remembered for nobody: it begins with the
first listener, and ends when those who left cannot be in reach any more.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
from attrs import frozen

from ...notices import Notice, NoticeKind
from ...protocols.fields import Answer
from ...protocols.messages import Message, coalescing_key, moved
from ...tasks import new_uid
from ..core import Core
from ..http import Disconnected, Request, Send
from ..hub import Encoder, Listener
from .board import Line, line_of
from .routes import Call, Handler, Media, Reply, Route

__all__ = ["EVENTS", "Events", "Progress", "Reset", "Told"]

_TYPE: Final = "text/event-stream"
_HEADERS: Final = (("Content-Type", _TYPE), ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
_HEARTBEAT: Final = b":\n\n"
_PIECE: Final = 64 << 10


@frozen(kw_only=True)
class Told:
    """The data of a ``notice``.

    Attributes:
        kind: One of the specification's three notifications.
        uploadid: The upload.
        state: Its state; ``notexisting`` when there is no such upload.
        offset: Bytes on record.
        chunksize: The most that should be sent next, in bytes.
        message: A sentence, or ``None``.
        code: Stable code for it.
        upload: As in the list; ``None`` when there is no such upload.
    """

    kind: NoticeKind
    uploadid: str
    state: str
    offset: int
    chunksize: int
    message: str | None
    code: str | None
    upload: Line | None


@frozen(kw_only=True)
class Moved:
    """An upload that has got more bytes, and is the same otherwise.

    Attributes:
        id: Of the upload.
        uid: Random and never used again.
        offset: Bytes on record.
        filesize: In bytes; ``None`` while it is not known.
    """

    id: str
    uid: str
    offset: int
    filesize: int | None


@frozen(kw_only=True)
class Progress:
    """The data of a ``progress``.

    Attributes:
        uploads: All that have moved since the last one.
    """

    uploads: tuple[Moved, ...]


@frozen(kw_only=True)
class Reset:
    """The data of a ``reset``: what was missed cannot be told any more.

    Attributes:
        list: Where all uploads are, relative to this server; fetch it now.
    """

    list: str


EVENTS: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/events",
        "events",
        "What happens to all uploads, as Server-Sent Events, until the client leaves.\n\n"
        "`notice` tells of one upload, `progress` of all that have got more bytes since the last one. `reset` comes "
        "first unless `Last-Event-ID` is in reach: fetch the list then. `overrun` comes last when the client did not "
        "keep up: connect again. A key goes into a header, so a page reads this with fetch. The messages are described "
        "in asyncapi.json.",
        tag="events",
        replies=(Reply(200, "The stream.", (Media(_TYPE),)),),
    ),
)


class Events:
    """Answers `EVENTS`.

    Args:
        core: The server's.
        remembered: Notices that can be told again.
        volume: Bytes that they may take together.
    """

    def __init__(self, core: Core, *, remembered: int = 1_000, volume: int = 4 << 20) -> None:
        self._core = core
        self._remembered = remembered
        self._volume = volume
        self._run = new_uid()[:8]
        self._last = 0
        self._floor = 0  # notices up to this number cannot be told again
        self._ring: OrderedDict[int, tuple[str, bytes]] = OrderedDict()  # ids of uploads, and events
        self._bytes = 0
        self._progress: dict[str, int] = {}
        self._heard: tuple[Notice, bytes] | None = None
        self._listening = 0
        self._left: int | None = None  # where the last one left; `None` when nobody can come back
        self.encoder = Encoder(self.encode, self.encode_progress)
        self.handlers: dict[str, Handler] = {"events": self._answer}

    def hear(self, notice: Notice) -> None:
        """Remember a notice as the event that it is: a task may be a thousand times as large."""
        self._last += 1
        self._heard = None
        if not self._listening and (self._left is None or self._last - self._left > self._remembered):
            self._forget()
            return
        event = self._event(self._last, notice)
        self._heard = notice, event
        before = self._progress.pop(notice.uploadid, None)
        if before is not None:  # whatever else is told of the upload is newer
            self._bytes -= len(self._ring.pop(before)[1])
        if notice.kind is NoticeKind.CHUNK_REQUEST:
            self._progress[notice.uploadid] = self._last
        self._ring[self._last] = (notice.uploadid, event)
        self._bytes += len(event)
        while len(self._ring) > self._remembered or self._bytes > self._volume:
            self._floor, (uploadid, oldest) = self._ring.popitem(last=False)
            self._bytes -= len(oldest)
            if self._progress.get(uploadid) == self._floor:
                del self._progress[uploadid]

    def encode(self, notice: Notice) -> Message:
        """See `Encoder.one`: the notice that was heard last, once for all who listen."""
        heard = self._heard
        event = heard[1] if heard is not None and heard[0] is notice else self._event(self._last, notice)
        return Message(event, coalescing_key(notice))

    def encode_progress(self, notices: Sequence[Notice]) -> Message:
        """See `Encoder.moved`."""
        return Message(b"event: progress\ndata: %b\n\n" % orjson.dumps({"uploads": moved(notices)}))

    def _forget(self) -> None:
        """Nobody can come back."""
        if self._ring:
            self._ring.clear()
            self._progress.clear()
            self._bytes = 0
        self._left, self._floor = None, self._last

    def _event(self, number: int, notice: Notice) -> bytes:
        told: dict[str, Any] = {
            "kind": notice.kind.value,
            "uploadid": _unicode(notice.uploadid),
            "state": notice.state.value,
            "offset": notice.offset,
            "chunksize": notice.chunksize,
            "message": None if notice.message is None else _unicode(notice.message),
            "code": notice.code,
            "upload": None if notice.task is None else line_of(notice.task),
        }
        event = b"event: notice\ndata: %b\n\n" % orjson.dumps(told)
        if notice.kind is NoticeKind.CHUNK_REQUEST:
            return event
        return b"id: %s-%d\n%b" % (self._run.encode(), number, event)

    def _missed(self, since: str | None) -> list[tuple[int, bytes]] | None:
        """The changes that came after an id, and the newest of all progress; ``None`` when it is out of reach."""
        run, _, number = (since or "").partition("-")
        if run != self._run or not number.isdecimal() or not number.isascii() or len(number) > 18:
            return None
        after = int(number)
        if not self._floor <= after <= self._last:
            return None
        progress = set(self._progress.values())
        return [(at, event) for at, (_, event) in self._ring.items() if at > after or at in progress]

    async def _answer(self, call: Call, send: Send) -> Answer | None:
        request = call.request
        if request.method == "HEAD":
            return Answer(200, _HEADERS)
        listener = self._core.hub.listen(self.encoder)
        self._come()
        leaving = asyncio.create_task(_until_gone(request, listener))
        try:
            # No notice comes between the two: both are on the loop.
            first = list(self._first(request))
            headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for piece in first:
                await self._send(send, piece)
            await self._stream(listener, send)
        finally:
            leaving.cancel()
            listener.close()
            self._leave()
        return None

    def _come(self) -> None:
        """Somebody hears, and may come back."""
        if not self._listening and self._left is None:
            self._floor = self._last
        self._listening += 1

    def _leave(self) -> None:
        self._listening -= 1
        self._left = self._last

    def _first(self, request: Request) -> Iterator[bytes]:
        missed = self._missed(request.headers.get("last-event-id"))
        if missed is None:
            data = orjson.dumps({"list": f"{request.mount}/api/uploads"})
            yield b"retry: 1000\nid: %s-%d\nevent: reset\ndata: %b\n\n" % (self._run.encode(), self._last, data)
            return
        yield from _joined([b"retry: 1000\n\n", *(event for _, event in missed)])

    async def _stream(self, listener: Listener, send: Send) -> None:
        while True:
            messages: list[Message] = []
            try:
                async with asyncio.timeout(self._core.config.heartbeat):
                    messages = await listener.messages()
            except TimeoutError:
                await self._send(send, _HEARTBEAT)
                continue
            for piece in _joined([message.payload for message in messages]):
                await self._send(send, piece)
            if not messages:
                if listener.overrun:
                    await self._send(send, b"event: overrun\ndata: {}\n\n")
                await send({"type": "http.response.body", "body": b""})
                return

    async def _send(self, send: Send, piece: bytes) -> None:
        """Send a piece, or give up a client that reads nothing any more.

        Raises:
            Disconnected: It has read nothing for so long.
        """
        try:
            async with asyncio.timeout(self._core.config.body_idle):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            raise Disconnected from None


async def _until_gone(request: Request, listener: Listener) -> None:
    """A stream ends when its client does; only whoever reads notices."""
    try:
        while await request.body.piece():
            pass
        while (await request.body.receive())["type"] != "http.disconnect":
            pass
    except Disconnected:
        pass
    finally:
        listener.close()


def _joined(events: list[bytes]) -> Iterator[bytes]:
    """The events in pieces that a connection takes at once."""
    waiting: list[bytes] = []
    size = 0
    for event in events:
        waiting.append(event)
        size += len(event)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _unicode(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
