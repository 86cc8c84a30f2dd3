"""Live fan-out: every notice to every listener, each at its own pace.

Messages are encoded once for all listeners of a dialect. A listener has a queue of its own: of the progress of one
upload only the newest waits (`Message.key`), changes of state are never left out. A listener that is too far behind, in
messages or in bytes, is closed, and hears all uploads anew when it comes back; nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from ..engine import Uploads
from ..notices import Notice
from ..protocols.messages import Message

__all__ = ["Encoder", "Hub", "Listener"]

log = logging.getLogger(__name__)

Encoder: TypeAlias = Callable[[Notice], Message | None]
"""Makes a message of a notice, or leaves it out. Called once a notice, on the event loop."""

_AT_ONCE: Final = 64
"""Notices that are given to the listeners before they get the time to send them."""


class Listener:
    """One who listens. Used on the event loop only.

    Attributes:
        encoder: Makes its messages.
        closed: Whether it is over.
        overrun: Whether it is over because too much waited.
    """

    def __init__(self, hub: Hub, encoder: Encoder, backlog: int, volume: int) -> None:
        self._hub = hub
        self._backlog = backlog
        self._volume = volume
        self._queue: dict[object, Message] = {}  # in the order of arrival; by key where a newer one may take the place
        self._lasting = 0  # messages without a key
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._taken: asyncio.Event | None = None
        self._ends: list[Callable[[], None]] = []
        self.encoder = encoder
        self.closed = False
        self.overrun = False

    async def messages(self) -> list[Message]:
        """What has come since the last call, oldest first; waits for something. Empty when it is over."""
        while not self._queue and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.take()

    def take(self) -> list[Message]:
        """What has come since the last call, oldest first."""
        waiting, self._queue = list(self._queue.values()), {}
        self._lasting = self._bytes = 0
        if self._taken is not None:
            self._taken.set()
            self._taken = None
        return waiting

    async def room(self, most: int) -> None:
        """Wait until no more than so many messages wait, for one who adds to its own queue faster than it reads."""
        while len(self._queue) > most and not self.closed:
            if self._taken is None:
                self._taken = asyncio.Event()
            await self._taken.wait()

    def put(self, message: Message) -> None:
        """Queue a message."""
        if self.closed:
            return
        if message.key is not None:
            former = self._queue.pop(message.key, None)  # to the end: what it tells is newer than what waits
            if former is not None:
                self._bytes -= len(former.payload)
            self._queue[message.key] = message
        else:
            self._queue[object()] = message
            self._lasting += 1
        self._bytes += len(message.payload)
        if self._lasting > self._backlog or (self._bytes > self._volume and len(self._queue) > 1):
            self.overrun = True
            self.take()
            self.close()
        else:
            self._wake()

    def retune(self, encoder: Encoder) -> None:
        """Hear another dialect from now on; what waits stays as it is."""
        if not self.closed:
            self._hub.forget(self)
            self.encoder = encoder
            self._hub.remember(self)

    def at_end(self, function: Callable[[], None]) -> None:
        """Call a function when it is over; at once, if it is."""
        if self.closed:
            function()
        else:
            self._ends.append(function)

    def close(self) -> None:
        """Hear nothing more."""
        if self.closed:
            return
        self.closed = True
        self._hub.forget(self)
        self._wake()
        if self._taken is not None:
            self._taken.set()
        ends, self._ends = self._ends, []
        for function in ends:
            function()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Hub:
    """Brings the engine's notices to the event loop, and there to the listeners.

    Args:
        uploads: The engine.
        backlog: Messages that may wait for one listener, progress not counted.
        volume: Bytes that may wait for one listener. All that are slow share the messages, so that this is also about
            what all of them together hold.
    """

    def __init__(self, uploads: Uploads, *, backlog: int = 1_000, volume: int = 16 << 20) -> None:
        self._backlog = backlog
        self._volume = volume
        self._closed = False
        self._uploads = uploads
        self._inbox: deque[Notice] = deque()
        self._scheduled = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._listeners: dict[Encoder, dict[Listener, None]] = {}  # in the order in which they came
        self._taps: tuple[Callable[[Notice], None], ...] = ()
        self._unsubscribe: Callable[[], None] | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; called on the loop."""
        self._loop, self._thread = loop, threading.get_ident()
        self._unsubscribe = self._uploads.subscribe(self._hear)

    def listen(self, encoder: Encoder) -> Listener:
        """A new listener. Messages are shared by all listeners that give the same encoder."""
        listener = Listener(self, encoder, self._backlog, self._volume)
        if self._closed:
            listener.close()
        else:
            self.remember(listener)
        return listener

    def remember(self, listener: Listener) -> None:
        """A listener hears what its encoder makes, from now on."""
        self._listeners.setdefault(listener.encoder, {})[listener] = None

    def tell(self, encoder: Encoder, message: Message) -> None:
        """A message to all who have this encoder."""
        for listener in tuple(self._listeners.get(encoder, ())):
            listener.put(message)

    def tap(self, function: Callable[[Notice], None]) -> None:
        """Have a function called with every notice, on the event loop and before the encoders, whoever listens."""
        self._taps = (*self._taps, function)

    def waiting(self) -> int:
        """Notices that are not delivered to the listeners' queues yet."""
        return len(self._inbox)

    def forget(self, listener: Listener) -> None:
        """A listener hears nothing more."""
        others = self._listeners.get(listener.encoder)
        if others is not None:
            others.pop(listener, None)
            if not others:
                del self._listeners[listener.encoder]

    def count(self) -> int:
        """How many listen."""
        return sum(len(listeners) for listeners in self._listeners.values())

    def close(self) -> None:
        """Let all listeners go; whoever comes now is let go at once."""
        self._closed = True
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        for listeners in tuple(self._listeners.values()):
            for listener in tuple(listeners):
                listener.close()

    def _hear(self, notice: Notice) -> None:
        """Of the engine's; from any thread."""
        self._inbox.append(notice)
        self._schedule()

    def _schedule(self) -> None:
        with self._lock:
            if self._scheduled or self._loop is None or self._loop.is_closed():
                return
            self._scheduled = True
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._deliver)
        else:
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # it was closed just now
                return

    def _deliver(self) -> None:
        with self._lock:
            self._scheduled = False
        try:
            for _ in range(min(len(self._inbox), _AT_ONCE)):
                self._give(self._inbox.popleft())
        finally:  # whatever went wrong with one notice, the rest is delivered
            if self._inbox:  # listeners send first: a burst must not overrun those that read
                self._schedule()

    def _give(self, notice: Notice) -> None:
        for tap in self._taps:
            try:
                tap(notice)
            except Exception:  # promise 9: what one does not take, the others hear all the same
                log.exception("a notice of upload %r cannot be noted", notice.uploadid)
        for encoder, listeners in tuple(self._listeners.items()):
            try:
                message = encoder(notice)
            except Exception:  # promise 9: what one dialect cannot say, the others say all the same
                log.exception("a notice of upload %r cannot be encoded", notice.uploadid)
                continue
            if message is None:
                continue
            for listener in tuple(listeners):
                try:
                    listener.put(message)
                except Exception:  # promise 9: one that is let go may have something to do then, which fails
                    log.exception("a notice of upload %r cannot be put to a listener", notice.uploadid)
