"""Live fan-out: every notice to every listener, each at its own pace.

Messages are encoded once for all listeners of a dialect, and not at all when nobody has it. A listener has a queue of
its own, in which changes of state and errors wait, and none of them is left out. A listener that is too far behind, in
messages or in bytes, is closed, and hears all uploads anew when it comes back; nobody else notices.

**Progress is held back.** A message to a listener costs some 40 µs, most of it in the kernel: 500 listeners that hear
500 requests for chunks a second are more than five cores. So of each upload the newest request for a chunk waits here,
and the listeners are told in turns what has moved since their last one: as many at a time as cost 2 ms, and then a
pause, so that progress takes a fifth of the loop at most. Changes go first, and make pauses longer; but each pause is
followed by a turn, however much changes. A few listeners hear progress at once, 500 of them ten times a second. A
dialect may tell of all uploads that moved in one message. What is held back of an upload is dropped when something else
is told of it, so that nobody hears of less than has been told already.

* What a request for a chunk tells beyond the offset, of a new upload above all, is no progress: it is told at once.
* Who is going to answer the requests for an upload hears them at once, and each of them once (`Listener.follow`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from attrs import define, field, frozen

from ..engine import Uploads
from ..lifecycle import State
from ..notices import Notice, NoticeKind
from ..protocols.messages import Message

__all__ = ["SILENCE", "Encoder", "Hub", "Later", "Listener"]

log = logging.getLogger(__name__)

_AT_ONCE: Final = 64
"""Notices that are given to the listeners before they get the time to send them."""
_MESSAGE: Final = 40e-6
"""Seconds that a message to one listener takes; 20 to 40 µs were measured, from the queue to the kernel."""
_BYTE: Final = 1e-9
"""Seconds for a byte of it."""
_ALONE: Final = 2_000
"""Bytes for an upload that moved, in a message of its own."""
_JOINED: Final = 150
"""The same in a message with others."""
_SLICE: Final = 2e-3
"""Seconds for which progress is given before something else has its turn."""
_SHARE: Final = 0.2
"""Of the time of the loop, for progress."""
_WAY: Final = 0.1
"""Seconds that a pause is longer at most, for changes that were told."""
_MOVED: Final = 1_024
"""Uploads whose progress waits; what moved first is left out where there are more."""
_KNOWN: Final = 16_384
"""Uploads of which it is remembered what was told; others are told of whole when they move."""


@frozen(eq=False)
class Encoder:
    """How a dialect says what happened. Listeners that have the same one share its messages.

    Attributes:
        one: Makes a message of a notice, or leaves it out. Called on the event loop.
        moved: Makes one message of the newest requests for chunks of several uploads, in the order in which they came;
            without it each of them is a message of its own. It never waits in a queue.
    """

    one: Callable[[Notice], Message | None]
    moved: Callable[[Sequence[Notice]], Message] | None = None


SILENCE: Final = Encoder(lambda _: None)
"""Of those who may hear nothing; when they change to another one they hear what comes from then on."""


class Handle(Protocol):
    """Of a call that is to come."""

    def cancel(self) -> None:
        """Do not call."""
        ...


Later: TypeAlias = Callable[[float, Callable[[], None]], Handle]
"""Calls a function on the event loop after so many seconds."""


@define(eq=False)
class _Moved:
    """An upload that has moved.

    Attributes:
        number: Rises with each movement of any upload.
        notice: The newest request for a chunk.
        messages: Of `Encoder.one`.
    """

    number: int
    notice: Notice
    messages: dict[Encoder, Message | None] = field(factory=dict)

    def message(self, encoder: Encoder) -> Message | None:
        """As this dialect says it, encoded once."""
        if encoder not in self.messages:
            self.messages[encoder] = encoder.one(self.notice)
        return self.messages[encoder]


class Listener:
    """One who listens. Used on the event loop only.

    Attributes:
        encoder: Makes its messages.
        heard: Number of the newest movement that it was told of.
        due: Whether it has its turn to be told what moved.
        allowed: Seconds that this may take; what it takes beyond is made up for.
        closed: Whether it is over.
        overrun: Whether it is over because too much waited.
    """

    def __init__(self, hub: Hub, encoder: Encoder, heard: int, backlog: int, volume: int) -> None:
        self._hub = hub
        self._backlog = backlog
        self._volume = volume
        self._queue: dict[object, Message] = {}  # in the order of arrival; by key where a newer one may take the place
        self._lasting = 0  # messages without a key
        self._bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._taken: asyncio.Event | None = None
        self._ends: list[Callable[[], None]] = []
        self._follows: set[str] = set()
        self._ahead: dict[str, int] = {}  # numbers of movements that were told at once
        self.encoder = encoder
        self.heard = heard
        self.due = False
        self.allowed = 0.0
        self.closed = False
        self.overrun = False

    async def messages(self) -> list[Message]:
        """What has come since the last call, oldest first; waits for something. Empty when it is over."""
        while True:
            if self._queue or self.due or self.closed:
                messages = self.take()
                if messages or self.closed:
                    return messages  # what moved may have been told otherwise since
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def take(self) -> list[Message]:
        """What has come since the last call, oldest first; if it is its turn, also what has moved since the last."""
        waiting = self._empty()
        if self.due:
            self.due = False
            waiting += self._hub.movements(self)
        return waiting

    def told_at_once(self, uploadid: str) -> int:
        """Number of the newest movement of an upload that this one was told out of turn."""
        return self._ahead.get(uploadid, 0)

    def catch_up(self, number: int) -> None:
        """It is told of everything up to a movement."""
        self.heard = number
        self._ahead.clear()

    async def room(self, most: int, volume: int) -> None:
        """Wait until no more waits than so many messages and bytes, for one who adds to its own queue."""
        while (len(self._queue) > most or self._bytes > volume) and not self.closed:
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
            self._empty()
            self.close()
        else:
            self._wake()

    def retune(self, encoder: Encoder) -> None:
        """Hear another dialect from now on; what waits in the queue stays as it is."""
        if not self.closed:
            self._hub.forget(self)
            if self.encoder is SILENCE:
                self.catch_up(self._hub.number)
            self.encoder = encoder
            self._hub.remember(self)

    def give_turn(self, seconds: float) -> None:
        """It may take what moved, which is about so much work."""
        self.due, self.allowed = True, seconds
        self._wake()

    def follow(self, uploadid: str) -> None:
        """Hear each request for a chunk of an upload at once, and once: it is going to be answered."""
        if not self.closed:
            self._follows.add(uploadid)
            self._hub.follow(self, uploadid)

    def unfollow(self, uploadid: str) -> None:
        """Hear it in turn, as everybody does."""
        if uploadid in self._follows:
            self._follows.discard(uploadid)
            self._hub.unfollow(self, uploadid)

    def tell_at_once(self, moved: _Moved) -> None:
        """Queue a movement out of turn."""
        message = moved.message(self.encoder)
        if message is not None:
            self._ahead[moved.notice.uploadid] = moved.number
            self.put(message)

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
        for uploadid in tuple(self._follows):
            self.unfollow(uploadid)
        self._hub.forget(self)
        self._hub.tidy()
        self._wake()
        if self._taken is not None:
            self._taken.set()
        ends, self._ends = self._ends, []
        for function in ends:
            function()

    def _empty(self) -> list[Message]:
        waiting, self._queue = list(self._queue.values()), {}
        self._lasting = self._bytes = 0
        if self._taken is not None:
            self._taken.set()
            self._taken = None
        return waiting

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
        later: Paces progress; the event loop's own timer when not given.

    Attributes:
        number: Of the newest movement of an upload.
    """

    def __init__(
        self, uploads: Uploads, *, backlog: int = 1_000, volume: int = 16 << 20, later: Later | None = None
    ) -> None:
        self.number = 0
        self._backlog = backlog
        self._volume = volume
        self._later = later
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
        self._known: OrderedDict[str, tuple[str, int]] = OrderedDict()  # uids and revisions by the ids of uploads
        self._moved: OrderedDict[str, _Moved] = OrderedDict()  # by the ids of uploads, in the order of the numbers
        self._joined: dict[tuple[Encoder, int], Message] = {}  # by the number of the first movement in it
        self._followers: dict[str, dict[Listener, None]] = {}
        self._turn: deque[Listener] = deque()  # who is still to be told in this round
        self._round = 0  # the newest movement when it began
        self._pause: Handle | None = None
        self._debt = 0.0  # seconds of progress beyond what was allowed
        self._changes = 0.0  # seconds that it takes to tell the changes that came since the last pause began

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; called on the loop."""
        self._loop, self._thread = loop, threading.get_ident()
        if self._later is None:
            self._later = loop.call_later
        self._unsubscribe = self._uploads.subscribe(self._hear)

    def listen(self, encoder: Encoder) -> Listener:
        """A new listener. Messages are shared by all listeners that give the same encoder."""
        listener = Listener(self, encoder, self.number, self._backlog, self._volume)
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

    def tidy(self) -> None:
        """What waits for nobody is forgotten."""
        if not self._listeners:
            self._moved.clear()
            self._joined.clear()

    def follow(self, listener: Listener, uploadid: str) -> None:
        """See `Listener.follow`."""
        self._followers.setdefault(uploadid, {})[listener] = None

    def unfollow(self, listener: Listener, uploadid: str) -> None:
        """See `Listener.unfollow`."""
        others = self._followers.get(uploadid)
        if others is not None:
            others.pop(listener, None)
            if not others:
                del self._followers[uploadid]

    def movements(self, listener: Listener) -> list[Message]:
        """What moved since a listener was told last, as its dialect says it; it is told now."""
        encoder, alone = listener.encoder, False
        found: list[_Moved] = []
        for uploadid, moved in reversed(self._moved.items()):
            if moved.number <= listener.heard:
                break
            if moved.number > listener.told_at_once(uploadid):
                found.append(moved)
            else:
                alone = True
        found.reverse()
        self._debt += max(0.0, _cost(encoder, len(found)) - listener.allowed)  # more has moved since
        listener.catch_up(self.number)
        if not found:
            return []
        try:
            if encoder.moved is None:
                return [message for moved in found if (message := moved.message(encoder)) is not None]
            key = encoder, found[0].number
            message = None if alone else self._joined.get(key)
            if message is None:
                message = encoder.moved([moved.notice for moved in found])
                if not alone:
                    self._joined[key] = message
            return [message]
        except Exception:  # promise 9: what one dialect cannot say, the others say all the same
            log.exception("the progress of %d uploads cannot be encoded", len(found))
            return []

    def count(self) -> int:
        """How many listen."""
        return sum(len(listeners) for listeners in self._listeners.values())

    def close(self) -> None:
        """Let all listeners go; whoever comes now is let go at once."""
        self._closed = True
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
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
            self._progress()
        finally:  # whatever went wrong with one notice, the rest is delivered
            if self._inbox:  # listeners send first: a burst must not overrun those that read
                self._schedule()

    def _give(self, notice: Notice) -> None:
        for tap in self._taps:
            try:
                tap(notice)
            except Exception:  # promise 9: what one does not take, the others hear all the same
                log.exception("a notice of upload %r cannot be noted", notice.uploadid)
        if self._is_progress(notice):
            self._hold_back(notice)
            return
        if self._moved.pop(notice.uploadid, None) is not None:
            self._joined.clear()
        for encoder, listeners in tuple(self._listeners.items()):
            try:
                message = encoder.one(notice)
            except Exception:  # promise 9: what one dialect cannot say, the others say all the same
                log.exception("a notice of upload %r cannot be encoded", notice.uploadid)
                continue
            if message is None:
                continue
            self._changes += len(listeners) * _MESSAGE
            for listener in tuple(listeners):
                try:
                    listener.put(message)
                except Exception:  # promise 9: one that is let go may have something to do then, which fails
                    log.exception("a notice of upload %r cannot be put to a listener", notice.uploadid)

    # ── progress ──────────────────────────────────────────────────────────────────────────────────────────────

    def _is_progress(self, notice: Notice) -> bool:
        """Whether all of it but the offset was told before: its document is the same."""
        task = notice.task
        if task is None or task.state is not State.WAITFORCHUNK:
            self._known.pop(notice.uploadid, None)
            return False
        told = self._known.pop(notice.uploadid, None)
        self._known[notice.uploadid] = task.uid, task.revision
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return notice.kind is NoticeKind.CHUNK_REQUEST and told == (task.uid, task.revision)

    def _hold_back(self, notice: Notice) -> None:
        if not self._listeners:
            return
        self.number += 1
        moved = _Moved(self.number, notice)
        self._moved.pop(notice.uploadid, None)
        self._moved[notice.uploadid] = moved
        if len(self._moved) > _MOVED:
            self._moved.popitem(last=False)
        self._joined.clear()
        for listener in tuple(self._followers.get(notice.uploadid, ())):
            try:
                listener.tell_at_once(moved)
            except Exception:  # promise 9: what one cannot be told, the others are told all the same
                log.exception("a request for a chunk of upload %r cannot be put to a listener", notice.uploadid)

    def _progress(self, *, rested: bool = False) -> None:
        """Give as many listeners their turn as may have it now, and pause for as long as that costs.

        Args:
            rested: A pause is just over: changes that came meanwhile do not put progress off again.
        """
        if self._pause is not None or self._closed or self._later is None:
            return
        cost, way = self._debt, min(self._changes, _WAY)
        self._debt = self._changes = 0.0
        while cost < _SLICE and (rested or not way):
            if not self._turn and not self._begin_round():
                break
            listener = self._turn.popleft()
            if listener.closed or listener.due:
                continue  # one that is due has not taken what it could have: it costs nothing
            seconds = self._seconds(listener)
            if seconds:
                cost += seconds
                listener.give_turn(seconds)
        if cost or way:
            self._pause = self._later(cost / _SHARE + way, self._paused)

    def _paused(self) -> None:
        self._pause = None
        self._progress(rested=True)

    def _begin_round(self) -> bool:
        """Everybody who has something to hear is to be told; ``False`` when that is nobody."""
        if self._round == self.number:
            return False
        self._round = self.number
        oldest = self.number
        for encoder, listeners in self._listeners.items():
            if encoder is SILENCE:
                continue
            for listener in listeners:
                oldest = min(oldest, listener.heard)
                if listener.heard < self.number:
                    self._turn.append(listener)
        while self._moved and next(iter(self._moved.values())).number <= oldest:  # everybody knows
            self._moved.popitem(last=False)
        return bool(self._turn)

    def _seconds(self, listener: Listener) -> float:
        """How long it takes to tell a listener what moved."""
        count = 0
        for moved in reversed(self._moved.values()):
            if moved.number <= listener.heard:
                break
            count += 1
        return _cost(listener.encoder, count)


def _cost(encoder: Encoder, count: int) -> float:
    """Seconds to tell one listener of so many uploads."""
    if encoder.moved is None:
        return count * (_MESSAGE + _ALONE * _BYTE)
    return _MESSAGE + count * _JOINED * _BYTE if count else 0.0
