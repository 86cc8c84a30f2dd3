"""Work queue and notices inside one process."""

from __future__ import annotations

import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from ..notices import Notice
from ..ports import Subscriber, WorkItem

__all__ = ["InlineBus", "LocalQueue", "ThreadedBus"]

log = logging.getLogger(__name__)


class LocalQueue:
    """`WorkQueue` as a heap: the item that is due first comes first. A process that starts finds what is due in
    the task store, so nothing here needs to survive.
    """

    def __init__(self) -> None:
        # As tuples: items compare attribute by attribute in Python, which took a tenth of the time of a small upload.
        self._heap: list[tuple[float, str, str]] = []
        self._due: dict[tuple[str, str], float] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._woken = False

    def submit(self, item: WorkItem) -> None:
        """See `WorkQueue.submit`. Of several items of one upload the earliest counts."""
        key = (item.id, item.uid)
        with self._changed:
            if key not in self._due or item.not_before < self._due[key]:
                self._due[key] = item.not_before
                heapq.heappush(self._heap, (item.not_before, item.id, item.uid))
                self._changed.notify()

    def take(self, now: float) -> WorkItem | None:
        """See `WorkQueue.take`."""
        with self._changed:
            while self._heap and self._heap[0][0] <= now:
                not_before, uploadid, uid = heapq.heappop(self._heap)
                if self._due.get((uploadid, uid)) == not_before:
                    del self._due[uploadid, uid]
                    return WorkItem(not_before, uploadid, uid)
            return None

    def wait(self, now: float, timeout: float | None) -> None:
        """See `WorkQueue.wait`."""
        with self._changed:
            if self._closed or (self._heap and self._heap[0][0] <= now):
                return
            if self._heap:
                pause = self._heap[0][0] - now
                timeout = pause if timeout is None else min(timeout, pause)
            if not self._woken:
                self._changed.wait(timeout)
            self._woken = False

    def waiting(self) -> int:
        """Uploads for which something is, or will be, due."""
        return len(self._due)

    def wake(self) -> None:
        """See `WorkQueue.wake`."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """See `WorkQueue.close`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _deliver(subscriber: Subscriber, notice: Notice) -> None:
    try:
        subscriber(notice)
    except Exception:  # promise 9: one callback's exception stops nobody else
        log.exception("a subscriber failed on %s of upload %s", notice.kind, notice.uploadid)


class _Subscription:
    """One subscriber, as often as it subscribed."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.active = True


class InlineBus:
    """`EventBus` that calls subscribers in the thread that flushes: for tests and for a server that queues itself.

    One thread delivers at a time; what others publish meanwhile it delivers too, so that order is kept and a
    subscriber may call the engine.
    """

    def __init__(self) -> None:
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._outbox: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._delivering = threading.Lock()
        self._deliverer: int | None = None
        self._closing = False
        self._lock = threading.Lock()

    def publish(self, notices: Sequence[Notice]) -> None:
        """See `EventBus.publish`."""
        if not self._subscriptions:
            return
        for notice in notices:
            self._outbox.put(notice)

    def flush(self) -> None:
        """See `EventBus.flush`."""
        while not self._outbox.empty() and self._delivering.acquire(blocking=False):
            self._drain()

    def _drain(self) -> None:
        """Deliver; the lock is held, and given back."""
        self._deliverer = threading.get_ident()
        try:
            while True:
                try:
                    notice = self._outbox.get_nowait()
                except queue.Empty:
                    break
                for subscription in self._subscriptions:
                    if subscription.active:  # it may be taken off while this notice is delivered
                        _deliver(subscription.subscriber, notice)
        finally:
            if self._closing:
                with self._lock:
                    self._subscriptions = ()
            self._deliverer = None
            self._delivering.release()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """See `EventBus.subscribe`."""
        subscription = _Subscription(subscriber)
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)

        def unsubscribe() -> None:
            subscription.active = False
            with self._lock:
                self._subscriptions = tuple(other for other in self._subscriptions if other is not subscription)

        return unsubscribe

    def close(self) -> None:
        """See `EventBus.close`: returns when everything is delivered, unless a subscriber calls it."""
        self._closing = True
        if self._deliverer != threading.get_ident():
            self._delivering.acquire()
            self._drain()


class _Listener(_Subscription):
    """A subscriber with a thread of its own."""

    def __init__(self, subscriber: Subscriber) -> None:
        super().__init__(subscriber)
        self.inbox: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self.lagging = False
        self.thread = threading.Thread(target=self._run, name="stagedoor-notices", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (notice := self.inbox.get()) is not None:
            if self.active:
                _deliver(self.subscriber, notice)


class ThreadedBus:
    """`EventBus` with a thread a subscriber: a slow or blocked one delays nobody but itself.

    Args:
        backlog: Notices that may wait for one subscriber; a subscriber that lags further behind misses
            notices, which is said in the log.
    """

    def __init__(self, *, backlog: int = 100_000) -> None:
        self._backlog = backlog
        self._listeners: tuple[_Listener, ...] = ()
        self._closed = False
        self._lock = threading.Lock()

    def publish(self, notices: Sequence[Notice]) -> None:
        """See `EventBus.publish`."""
        for listener in self._listeners:
            for notice in notices:
                lags = listener.inbox.qsize() >= self._backlog
                if lags and not listener.lagging:  # once, not for each notice that it misses
                    log.warning("a subscriber lags %d notices behind and misses some", self._backlog)
                listener.lagging = lags
                if lags:
                    break
                listener.inbox.put(notice)

    def flush(self) -> None:
        """See `EventBus.flush`: the listeners' threads deliver."""

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """See `EventBus.subscribe`."""
        with self._lock:
            if self._closed:
                return lambda: None
            listener = _Listener(subscriber)
            self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            listener.active = False
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not listener)
            listener.inbox.put(None)

        return unsubscribe

    def close(self) -> None:
        """See `EventBus.close`: waits for the subscribers to hear what is queued, up to 5 s for all together."""
        with self._lock:
            self._closed = True
            listeners, self._listeners = self._listeners, ()
        for listener in listeners:
            listener.inbox.put(None)
        until = time.monotonic() + 5
        for listener in listeners:
            if listener.thread is not threading.current_thread():
                listener.thread.join(timeout=max(0.0, until - time.monotonic()))
