"""One WebSocket connection: a task that reads, a task that writes, and one way to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final, Protocol, TypeAlias

from attrs import frozen

from ...notices import Notice
from ...protocols.messages import Message
from ..core import Core
from ..http import Receive, Send
from ..hub import Encoder

__all__ = ["Choose", "Connection", "Dialect", "Ending", "Told"]

log = logging.getLogger("stagedoor.server")

_WAITING: Final = 32
"""Messages that may wait for a client before the next of its own is read: answers must not pile up."""
_WAITING_BYTES: Final = 4 << 20
"""Bytes of the same: the largest answers are as large, and so no more than two of them wait."""
_TURN: Final = 8
"""Messages of one client in a row before the others have their turn; each is handled in well under a millisecond."""
_FAREWELL: Final = 5.0
"""Seconds that a client which does not read has to take the reason for which it is cut off."""
_PATIENCE: Final = 30.0
"""Seconds that a client has to show its key."""


@frozen
class Told(Message):
    """A notice as a message; who writes it may have to look at it."""

    notice: Notice | None = None


@frozen
class Ending:
    """Why a connection ends.

    Attributes:
        code: RFC 6455, section 7.4.1, and the registry of close codes; ``None`` when the client is gone.
        reason: For people; at most 123 bytes.
    """

    code: int | None
    reason: str = ""


class Dialect(Protocol):
    """What is said on a connection. All on the event loop; `take` is called by one task."""

    @property
    def encoder(self) -> Encoder:
        """Makes its messages of notices; the same for all connections with this dialect."""
        ...

    @property
    def heartbeat(self) -> Message:
        """Sent when nothing else was for a while."""
        ...

    async def take(self, frame: str | bytes) -> None:
        """A message of the client; text, or bytes of a binary frame."""
        ...

    def sending(self, notice: Notice) -> None:
        """A notice is going to be sent now."""
        ...

    def tick(self) -> None:
        """Time has passed: half of a heartbeat."""
        ...

    async def close(self) -> None:
        """The connection is over: what came goes on record."""
        ...


Choose: TypeAlias = Callable[["Connection", "str | bytes | None"], "Dialect | None"]
"""Finds the dialect of a connection from its first message; from ``None`` when the client says nothing."""


class Connection:
    """A connection, from the handshake to the end.

    A client that reads slowly holds up nobody: the server's ``send`` waits until the transport takes more, and what
    waits behind it is bounded (`Listener`). A client that writes fast is bounded as well: the next message is read
    when the one before is done and its answer has been taken away.

    Args:
        core: The server.
        receive: ASGI's.
        send: ASGI's.
        choose: Finds the dialect.
        overheard: Makes messages of what is to be heard before the dialect is known, or of nothing.
        trust: Called when the client has shown a key, where there are keys.

    Attributes:
        trust: As given, for the dialects.
    """

    def __init__(
        self,
        core: Core,
        receive: Receive,
        send: Send,
        choose: Choose,
        overheard: Encoder,
        trust: Callable[[], None] = lambda: None,
    ) -> None:
        self.core = core
        self.listener = core.hub.listen(overheard)
        self.dialect: Dialect | None = None
        self.trust = trust
        self._receive, self._send = receive, send
        self._choose = choose
        self._end: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._open = False
        self._spoke = True
        self._silent = True
        self._ticks = 0

    # ── for the dialects ──────────────────────────────────────────────────────────────────────────────────────

    def say(self, message: Message) -> None:
        """Send a message after those that wait."""
        self.listener.put(message)

    def end(self, code: int | None, reason: str = "") -> None:
        """End the connection, after what waits was sent as far as the client takes it. The first reason counts."""
        if not self._end.done():
            self._end.set_result(Ending(code, reason))

    def open(self) -> None:
        """The client may be told things: what waits is sent from now on."""
        if not self._open:
            self._open = True
            self.spawn(self._write())

    def spawn(self, job: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Do something beside reading; it ends with the connection."""
        task = asyncio.create_task(job)
        self._tasks.append(task)
        task.add_done_callback(self._done)
        return task

    # ── life ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Until it ends."""
        self.listener.at_end(self._listener_over)
        self.spawn(self._read())
        try:
            ending = await self._end
            await self._finish(ending)
        finally:
            self.listener.close()
            for task in tuple(self._tasks):
                task.cancel()

    def tick(self) -> None:
        """Half of a heartbeat has passed."""
        self._ticks += 1
        if self._open and self.dialect is not None:
            self.dialect.tick()
            if not self._spoke:
                self.say(self.dialect.heartbeat)
            self._spoke = False
        elif self.core.config.keys:
            if self._ticks * self.core.config.heartbeat / 2 > _PATIENCE:
                self.end(1008, "Nobody said who is there. Send a key.")
        elif self.dialect is None and self._ticks > 1:  # it has been there for half a heartbeat at least
            self.dialect = self._choose(self, None)
            if self.dialect is not None:
                self.say(self.dialect.heartbeat)

    async def _meet(self, frame: str | bytes) -> None:
        """The first message of the client tells the dialect, whatever its silence was taken for."""
        dialect = self._choose(self, frame)
        if dialect is None or type(dialect) is type(self.dialect):
            return
        if self.dialect is not None:
            await self.dialect.close()
            self.listener.take()
        self.dialect = dialect

    async def _finish(self, ending: Ending) -> None:
        waiting = self.listener.take()
        self.listener.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.dialect is not None:
            await self.dialect.close()
        if ending.code is None:
            return
        try:
            async with asyncio.timeout(_FAREWELL):
                for message in waiting if self._open else ():
                    await self._transmit(message)
                await self._send({"type": "websocket.close", "code": ending.code, "reason": ending.reason})
        except (TimeoutError, OSError):
            log.info("a client was cut off and did not hear why: %s", ending.reason)

    def _listener_over(self) -> None:
        if self.listener.overrun:
            self.end(1013, "You read too slowly. Connect again, and ask for the list of uploads.")
        elif self.core.draining:
            self.end(1012, "The server stops. What you sent is kept: connect again, and go on.")

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, OSError):  # ASGI: nobody is there any more
            self.end(None)
        elif error is not None:  # the edge: one connection's fault stops no other (promise 9)
            log.error("a connection failed unexpectedly", exc_info=error)
            self.end(1011, "Something went wrong here. The server's log has the details.")

    async def _read(self) -> None:
        row = 0
        while True:
            event = await self._receive()
            if event["type"] != "websocket.receive":
                self.end(None)
                return
            text = event.get("text")
            frame: str | bytes = text if text is not None else event.get("bytes") or b""
            del event, text
            if self._silent:
                self._silent = False
                await self._meet(frame)
            if self.dialect is not None:
                await self.dialect.take(frame)
            del frame  # it may be large, and the next one may be long in coming
            await self.listener.room(_WAITING, _WAITING_BYTES)
            row += 1
            if row % _TURN == 0:  # `receive` does not wait when something is there
                await asyncio.sleep(0)

    async def _write(self) -> None:
        while messages := await self.listener.messages():
            for row, message in enumerate(messages, 1):
                await self._transmit(message)
                if row % _TURN == 0:  # `send` does not wait while the transport takes more
                    await asyncio.sleep(0)

    async def _transmit(self, message: Message) -> None:
        if self.dialect is not None and isinstance(message, Told) and message.notice is not None:
            self.dialect.sending(message.notice)
        await self._send({"type": "websocket.send", "text": message.text})
        self._spoke = True
