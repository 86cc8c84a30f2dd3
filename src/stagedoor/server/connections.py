"""Connections of strangers: uvicorn's protocols, and what they wait for, hold and count has an end.

uvicorn makes one protocol a connection, by its class: `http_protocol` and `websocket_protocol` make the classes for a
configuration. What uvicorn and websockets leave open, and what is done here:

* A header that does not come whole, or has too many fields; trailers, extensions of chunks, empty lines.
* Requests that do not wait for answers, and bodies that go on after theirs.
* Connections of one address.
* A WebSocket message of somebody who has not shown a key; and the memory that messages take of all connections
  together: each may be as large as the largest chunk, in as many fragments as it likes, and need not end.
* Answers to pings that nobody reads.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # what its parser uses
from websockets.streams import StreamReader

from .config import ServerConfig
from .http import TRUST

__all__ = [
    "FIELDS",
    "PIPELINED",
    "SPARE",
    "SPARE_EACH",
    "STRANGER",
    "Crowd",
    "Inbox",
    "http_protocol",
    "websocket_protocol",
]

log = logging.getLogger("stagedoor.server")

SPARE: Final = 64
"""Connections beyond the limit that still hear why they are not served."""
SPARE_EACH: Final = 8
"""The same of one address."""
FIELDS: Final = 100
"""Fields that a request's header may have."""
PIPELINED: Final = 32
"""Requests that may wait for the answers to those before them."""
STRANGER: Final = 64 << 10
"""Bytes of a WebSocket message of somebody who has not shown a key, when there are keys and nothing else is said."""

_LINGER: Final = 16 << 20
"""Bytes that a client may send on after the answer; a connection cut at once would take the answer with it."""
_LARGE: Final = 128 << 10
"""Bytes of a frame for which room is made; a smaller one is copied in no time."""
_ROOM: Final = 256 << 10
"""Bytes for which room is made when a large message begins."""
_GROWTH: Final = 8
"""How many times what came of it there is room for at most; it is copied a seventh of a time more, all in all."""
_SHELF: Final = 2
"""Places of messages that are kept for others of the same size, and"""
_SPARE: Final = 2 << 20
"""bytes of the largest."""
_SHARE: Final = 32
"""The same for a place that is there anyway: who sends at once has so much of a chunk in the first read."""
_READ: Final = 1 << 20
"""Bytes of it that one read brings at most; others want to be read, too."""
_DESK: Final = 64 << 10
"""Bytes that one read brings of anything else."""
_FRAGMENT: Final = 128
"""Bytes that a fragment of a message takes beside its content, in round figures; it may be empty."""
_MESSAGE: Final = 512
"""The same of a message that waits."""
_QUIET: Final = 60.0
"""Seconds between two lines in the log about addresses with too many connections."""
_PONG: Final = b"\x8a"
"""How a frame with the answer to a ping begins: RFC 6455, section 5.2."""


class Crowd:
    """How many connections each address has. Proxies have many, and so has this machine, where proxies run.

    Args:
        most: Connections of one address.
        proxies: Addresses and networks that are not counted, or ``*`` for all; names are no addresses.
        clock: Monotonic seconds.
    """

    def __init__(self, most: int, proxies: Iterable[str] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._clock = clock
        self._warned: float | None = None
        self._unsaid = 0  # connections beyond the limit since then
        self._proxies = list[ipaddress.IPv4Network | ipaddress.IPv6Network]()
        self._counts: Counter[str] = Counter()
        self._all = "*" in proxies
        for proxy in proxies:
            try:
                self._proxies.append(ipaddress.ip_network(proxy, strict=False))
            except ValueError:
                continue

    def whose(self, client: tuple[str, int] | None) -> str | None:
        """Under which name a connection counts; ``None`` when it does not.

        Who has one address of IPv6 has the 2**64 around it as well.
        """
        if client is None or self._all:
            return None
        try:
            address = ipaddress.ip_address(client[0].partition("%")[0])
        except ValueError:  # of another family
            return None
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback or any(address in proxy for proxy in self._proxies):
            return None
        return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))

    def enter(self, whose: str | None) -> int:
        """A connection is there; returns how many they are beyond the limit."""
        if whose is None:
            return 0
        self._counts[whose] += 1
        beyond = self._counts[whose] - self.most
        if beyond > 0:
            self._warn(whose)
        return beyond

    def leave(self, whose: str | None) -> None:
        """It is gone."""
        if whose is not None:
            self._counts[whose] -= 1
            if not self._counts[whose]:
                del self._counts[whose]

    def _warn(self, whose: str) -> None:
        """Strangers do not decide how much is logged."""
        now = self._clock()
        if self._warned is not None and now - self._warned < _QUIET:
            self._unsaid += 1
            return
        log.warning(
            "%s has %d connections; more are refused (connections_each, forwarded). Others since the last line: %d",
            whose, self.most, self._unsaid,
        )  # fmt: skip
        self._warned, self._unsaid = now, 0


def http_protocol(config: ServerConfig, crowd: Crowd) -> type[asyncio.Protocol]:
    """The class for HTTP."""
    return type("LimitedHTTP", (_HTTP,), {"limits": config, "crowd": crowd})


def websocket_protocol(
    config: ServerConfig, crowd: Crowd, inbox: Inbox, stranger: int = STRANGER
) -> type[asyncio.BufferedProtocol]:
    """The class for WebSockets of one event loop.

    Args:
        stranger: Bytes of a message before a key was shown, when there are keys.
    """
    copies = isinstance(apply_mask(bytearray(4), bytes(4)), bytes)  # else a message would stay in its place
    shelf = deque[bytearray](maxlen=_SHELF if copies else 0)
    members = {"limits": config, "crowd": crowd, "inbox": inbox, "stranger": stranger, "shelf": shelf}
    socket = type("LimitedWebSocket", (_WebSocket,), members)
    return type("LimitedInlet", (_Inlet,), {"make": socket, "desk": memoryview(bytearray(_DESK))})


# ── HTTP ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Enough(Exception):
    """Ends the parser."""


class _HTTP(HttpToolsProtocol):
    """A connection with HTTP/1.1.

    Attributes:
        limits: The server's settings.
        crowd: The addresses.
    """

    limits: ServerConfig
    crowd: Crowd

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None  # for the header that is expected
        self._leaving: asyncio.TimerHandle | None = None  # for whatever comes after the answer
        self._moved = False  # whether the bytes that came last were anything but a part of a header
        self._loose = 0  # bytes since then
        self._wasted = 0  # bytes after the answer
        self._fields = 0
        self._whose: str | None = None
        self._unwanted = False
        self._upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.limits.header_time, self._too_late)
        self._whose = self.crowd.whose(self.client)
        beyond = self.crowd.enter(self._whose)
        if beyond > 0:
            self._unwanted, self.limit_concurrency = True, 0  # uvicorn answers with 503, and closes
        if beyond > SPARE_EACH or len(self.connections) > self.limits.connections + SPARE:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_came()
        self._end_leaving()
        self.crowd.leave(self._whose)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._moved:
            self._moved = False
        else:
            self._loose += len(data)
            if self._loose > self.limits.header_size and not self.transport.is_closing():
                self._refuse(b"431 Request Header Fields Too Large")
        answered = self.cycle is not None and self.cycle.response_complete
        if answered and self._deadline is None and self._leaving is None and not self._upgraded:
            # The rest of a body, pieces of its framing, or empty lines: each byte puts off uvicorn's own end.
            self._leaving = self.loop.call_later(self.limits.keep_alive, self.transport.abort)

    def handle_websocket_upgrade(self) -> None:
        if self._unwanted:
            self._refuse(b"503 Service Unavailable")
            return
        self._upgraded = True
        self.crowd.leave(self._whose)
        self._whose = None
        super().handle_websocket_upgrade()  # whose connection counts for itself
        self._end_leaving()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._end_leaving()
        self._wasted = self._fields = 0
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.limits.header_time, self._too_late)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._deadline is None:
            return  # a trailer, and nobody here reads those
        self._fields += 1
        if self._fields > FIELDS:
            self._refuse(b"431 Request Header Fields Too Large")
            raise _Enough
        super().on_header(name, value)

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():  # else it has heard what is wrong
            super().send_400_response(msg)

    def on_headers_complete(self) -> None:
        self._header_came()
        self._moved, self._loose = True, 0
        super().on_headers_complete()
        if len(self.pipeline) > PIPELINED:  # one read may bring thousands, and each takes more here than there
            self.transport.abort()
            raise _Enough

    def on_body(self, body: bytes) -> None:
        self._moved, self._loose = True, 0
        if self.cycle is not None and self.cycle.response_complete:
            self._wasted += len(body)
            if self._wasted > _LINGER:
                self.transport.abort()
        super().on_body(body)

    def _header_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_leaving(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _too_late(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # It has begun its next request before our answer to the last: we may not even be reading.
            self._deadline = self.loop.call_later(self.limits.header_time, self._too_late)
        elif not self.transport.is_closing():
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        self._header_came()
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()


# ── WebSockets ────────────────────────────────────────────────────────────────────────────────────────────────


class Inbox:
    """What messages of all WebSockets take: those that are not whole yet, that wait, and that are worked on.

    Args:
        most: In bytes; beyond it the connection with the most is closed.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._of: dict[_WebSocket, int] = {}

    def set(self, connection: _WebSocket, size: int) -> None:
        """What a connection takes now."""
        self.used += size - self._of.pop(connection, 0)
        if size:
            self._of[connection] = size
        while self.used > self.most:
            largest = max(self._of, key=self._of.__getitem__)
            log.warning(
                "WebSocket messages take %d bytes, and inbox is %d: one of %s with %d is closed",
                self.used, self.most, largest.client, self._of[largest],
            )  # fmt: skip
            largest.cut(1013, "The server has too much to do. Connect again, and go on.")


class _Whole(StreamReader):
    """Has a large message written to where it will lie when it is whole.

    The reader of websockets appends each piece that comes to one growing array, and cuts the message out of that, which
    copies it twice or more. To keep the pieces until there are all of them is no better: each read then goes to memory
    that the processor has long forgotten.

    What was read has to be used before anybody reads on, since the next message may come to the same place. websockets
    does: what clients send is masked, and what takes the mask away makes a copy.

    Args:
        shelf: Places that messages were in, for those of the same size: of all connections of an event loop.

    Attributes:
        roomy: Whether room is made; else large messages are read as websockets does it.
    """

    def __init__(self, shelf: deque[bytearray]) -> None:
        super().__init__()
        self.roomy = True
        self._shelf = shelf
        # Of a large message, while it comes:
        self._place = bytearray()
        self._came = self._wanted = 0  # bytes

    @property
    def held(self) -> int:
        """Bytes that were not read yet, and those that are kept free for more."""
        return len(self.buffer) + len(self._place)

    def room(self) -> memoryview | None:
        """Where what comes next belongs, if that is to a large message; see `took`."""
        if self._came == self._wanted or self.eof:
            return None
        return memoryview(self._place)[self._came : self._came + _READ]

    def took(self, size: int) -> bool:
        """So many bytes were written to the `room`. Returns whether somebody has to look: it is full."""
        self._came += size
        if self._came < len(self._place):
            return False
        if self._came < self._wanted:
            self._make_room(self._place)
        return True

    def feed_data(self, data: bytes | bytearray | memoryview) -> None:
        """Also what comes otherwise, from an event loop that knows no `asyncio.BufferedProtocol`, goes there first."""
        rest = memoryview(data)
        while rest and (room := self.room()) is not None:
            size = min(len(room), len(rest))
            room[:size] = rest[:size]
            rest = rest[size:]
            self.took(size)
        super().feed_data(rest)  # type: ignore[arg-type]  # whatever can be appended

    def read_exact(self, n: int) -> Generator[None, None, bytearray]:
        if len(self.buffer) >= n:  # as most of what is in front of a message, so it must not cost much
            found = self.buffer[:n]
            del self.buffer[:n]
            return found
        if n < _LARGE or not self.roomy:
            return (yield from super().read_exact(n))
        self._came, self._wanted = len(self.buffer), n
        self._make_room(self.buffer)
        self.buffer = bytearray()
        whole = False
        try:
            while self._came < n and not self.eof:
                yield
            whole = self._came == n
        finally:
            place, self._place = self._place, bytearray()
            if not whole:  # whoever reads on finds it where it was
                self.buffer = place[: self._came] + self.buffer
            self._came = self._wanted = 0
        if not whole:
            return (yield from super().read_exact(n))  # which knows what to say
        if n <= _SPARE:
            self._shelf.append(place)
        return place

    def discard(self) -> None:
        super().discard()
        self._came = 0

    def _make_room(self, came: bytearray) -> None:
        """Not all at once: who announces much and sends nothing is not to have much kept free."""
        if self._shelf and len(self._shelf[-1]) == self._wanted <= _SHARE * len(came):
            self._place = self._shelf.pop()
        else:
            self._place = bytearray(min(self._wanted, max(_GROWTH * len(came), _ROOM)))
        self._place[: len(came)] = came


class _WebSocket(WebSocketsSansIOProtocol):
    """A connection with WebSocket frames.

    Attributes:
        limits: The server's settings.
        crowd: The addresses.
        inbox: What all connections take.
        stranger: Bytes of a message before a key was shown, when there are keys.
        shelf: Of the readers of all connections.
        reader: What came and was not looked at.
    """

    limits: ServerConfig
    crowd: Crowd
    inbox: Inbox
    stranger: int
    shelf: deque[bytearray]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = self.conn.reader = _Whole(self.shelf)
        self.conn.parser = self.conn.parse()  # which has begun to read elsewhere
        next(self.conn.parser)
        self._whose: str | None = None
        self._known = not self.limits.keys
        self.reader.roomy = self._known  # nothing is kept free for strangers
        self._assembled = 0  # bytes of the fragments of a message that is not whole
        self._waiting: deque[int] = deque()  # of each message that waits
        self._waits = 0  # of all of these
        self._worked_on = 0  # bytes of the message that the application has
        self._cut = False
        self._wasted = 0  # bytes since then
        self._pong = b""  # to be sent when the client reads again

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._whose = self.crowd.whose(self.client)
        self.crowd.enter(self._whose)

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.leave(self._whose)
        self._cut = True
        self.inbox.set(self, 0)
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        self.scope["extensions"][TRUST] = {"trust": self._trust}
        await super().run_asgi()

    def _trust(self) -> None:
        """The client has shown a key: it may send what others may."""
        self._known = True
        self.reader.roomy = True

    def data_received(self, data: bytes) -> None:
        if self._cut:
            self._wasted += len(data)
            if self._wasted > _LINGER:
                self.transport.abort()
            return
        super().data_received(data)
        under_way = self._count()
        # What came behind a message that was not looked at yet may be that of a friend.
        if not self._known and not self._waiting and under_way > self.stranger:
            self._too_large()

    def handle_text(self, event: Any) -> None:
        self._assembled = len(event.data) + _FRAGMENT
        super().handle_text(event)

    def handle_bytes(self, event: Any) -> None:
        self._assembled = len(event.data) + _FRAGMENT
        super().handle_bytes(event)

    def handle_cont(self, event: Any) -> None:
        self._assembled += len(event.data) + _FRAGMENT
        super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            # It does not read, and answers must not pile up; the newest stands for all: RFC 6455, section 5.5.3.
            for output in self.conn.data_to_send():
                if output[:1] == _PONG:
                    self._pong = output
                else:
                    self.transport.write(output)

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and not self._cut and not self.close_sent and not self.transport.is_closing():
            self.transport.write(pong)

    def send_receive_event_to_app(self) -> None:
        before = self.queue.qsize()
        super().send_receive_event_to_app()
        if self.queue.qsize() > before:
            self._waiting.append(self._assembled + _MESSAGE)
            self._waits += self._waiting[-1]
        self._assembled = 0

    async def receive(self) -> Any:
        self._worked_on = 0
        self._count()
        message = await super().receive()
        if message["type"] != "websocket.receive" or self._cut:
            return message
        self._waits -= self._waiting.popleft()
        content = message.get("text") or message.get("bytes") or b""
        if not self._known and len(content) > self.stranger:
            self._too_large()
            return await super().receive()
        self._worked_on = sys.getsizeof(content)  # of text one character may make four bytes of each
        self._count()
        return message

    def cut(self, code: int, reason: str) -> None:
        """Take no more messages, say why, and give back what they take.

        Args:
            code: RFC 6455, section 7.4.1.
            reason: For people; at most 123 bytes.
        """
        if self._cut:
            return
        self._cut = True
        self._assembled = self._waits = self._worked_on = 0
        self._waiting.clear()
        self.frames = []
        while not self.queue.empty():
            self.queue.get_nowait()
        self.reader.discard()
        self.conn.fail(code, reason)
        self.inbox.set(self, 0)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = self.disconnected = True  # whoever sends now hears that nobody is there
        self.writable.set()
        self.stop_keepalive()
        # Closed at once, with bytes of the client unread, the connection would be reset, and the reason with it.
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            if self.read_paused:
                self.read_paused = False
                self.transport.resume_reading()
        else:
            self.transport.close()

    def _too_large(self) -> None:
        self.cut(1009, f"Before your key is known a message may have {self.stranger:,} bytes.")

    def _count(self) -> int:
        """Tell what is held here; returns how much of that is under way."""
        if self._cut:
            return 0
        under_way = self.reader.held + self._assembled
        self.inbox.set(self, under_way + self._waits + self._worked_on)
        return under_way


class _Inlet(asyncio.BufferedProtocol):
    """What the transport of a WebSocket talks to: bytes of a large message are read to where they belong.

    Attributes:
        make: The class of what it stands for.
        desk: Where everything else is read to; one for all connections of an event loop, since what was read is taken
            away before the next read.
        socket: What it stands for.
    """

    make: type[_WebSocket]
    desk: memoryview

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.socket = socket = self.make(*args, **kwargs)
        self._reader = socket.reader
        self._to_the_reader = False
        self.connection_made = socket.connection_made  # type: ignore[method-assign]
        self.connection_lost = socket.connection_lost  # type: ignore[method-assign]
        self.pause_writing = socket.pause_writing  # type: ignore[method-assign]
        self.resume_writing = socket.resume_writing  # type: ignore[method-assign]
        self.eof_received = socket.eof_received  # type: ignore[method-assign]
        self.data_received = socket.data_received  # uvicorn hands over the request that asked for a WebSocket

    def get_buffer(self, sizehint: int) -> memoryview:
        room = self._reader.room()
        self._to_the_reader = room is not None
        return self.desk if room is None else room

    def buffer_updated(self, nbytes: int) -> None:
        if not self._to_the_reader:
            self.data_received(bytes(self.desk[:nbytes]))
        elif self._reader.took(nbytes):
            self.data_received(b"")
