"""Live fan-out: every notice to every listener, each at its own pace.

Messages are encoded once for all listeners of a dialect. A listener has a queue of its own: of the progress of one
upload only the newest waits (`Message.key`), changes of state are never left out. A listener that is too far behind is
closed, and hears all uploads anew when it comes back; nobody else notices.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from ..engine import Uploads
from ..notices import Notice
from ..protocols.messages import Message

__all__ = ["Encoder", "Hub", "Listener"]

Encoder: TypeAlias = Callable[[Notice], Message | None]
"""Makes a message of a notice, or leaves it out. Called once a notice, on the event loop."""


class Listener:
    """One who listens. Used on the event loop only."""

    def __init__(self, hub: Hub, encoder: Encoder, backlog: int) -> None:
        self._hub = hub
        self._backlog = backlog
        self._queue: dict[object, Message] = {}  # in the order of arrival; by key where a newer one may take the place
        self._waiter: asyncio.Future[None] | None = None
        self.encoder = encoder
        self.closed = False
        self.overrun = False

    async def messages(self) -> list[Message]:
        """What has come since the last call, oldest first; waits for something. Empty when it is over."""
        while not self._queue and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        waiting, self._queue = list(self._queue.values()), {}
        return waiting

    def put(self, message: Message) -> None:
        """Queue a message."""
        if self.closed:
            return
        if message.key is not None:
            self._queue.pop(message.key, None)  # to the end: what it tells is newer than what waits
            self._queue[message.key] = message
        else:
            self._queue[object()] = message
        if len(self._queue) > self._backlog:
            self.overrun = True
            self.close()
        self._wake()

    def close(self) -> None:
        """Hear nothing more."""
        self.closed = True
        self._hub.forget(self)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Hub:
    """Brings the engine's notices to the event loop, and there to the listeners."""

    def __init__(self, uploads: Uploads, *, backlog: int = 1_000) -> None:
        self._backlog = backlog
        self._uploads = uploads
        self._inbox: deque[Notice] = deque()
        self._scheduled = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._listeners: dict[Encoder, set[Listener]] = {}
        self._unsubscribe: Callable[[], None] | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; called on the loop."""
        self._loop, self._thread = loop, threading.get_ident()
        self._unsubscribe = self._uploads.subscribe(self._hear)

    def listen(self, encoder: Encoder) -> Listener:
        """A new listener. Messages are shared by all listeners that give the same encoder."""
        listener = Listener(self, encoder, self._backlog)
        self._listeners.setdefault(encoder, set()).add(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        """A listener hears nothing more."""
        others = self._listeners.get(listener.encoder)
        if others is not None:
            others.discard(listener)
            if not others:
                del self._listeners[listener.encoder]

    def count(self) -> int:
        """How many listen."""
        return sum(len(listeners) for listeners in self._listeners.values())

    def close(self) -> None:
        """Let all listeners go."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        for listeners in tuple(self._listeners.values()):
            for listener in tuple(listeners):
                listener.close()

    def _hear(self, notice: Notice) -> None:
        """Of the engine's; from any thread."""
        self._inbox.append(notice)
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
        while self._inbox:
            notice = self._inbox.popleft()
            for encoder, listeners in tuple(self._listeners.items()):
                message = encoder(notice)
                if message is not None:
                    for listener in tuple(listeners):
                        listener.put(message)
