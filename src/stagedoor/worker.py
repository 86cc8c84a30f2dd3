"""The management thread: does what is due, tries again what failed, expires what nobody wants.

A `Worker` needs no memory: what is due stands in the documents, and the engine finds it again at the start. One
dispatcher thread waits for work and hands it to a small pool; there is no polling while there is nothing to do.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from .engine import Uploads
from .errors import UploadError
from .ports import WorkItem

__all__ = ["Courtesy", "Worker", "busy_thread", "manage"]

log = logging.getLogger(__name__)

_NAP: Final = 0.02


class Courtesy:
    """Lets others go first, in bursts: an upload can wait for its examination, a client not for its answer.

    Both share the interpreter, and on one core each turn that they take from each other costs both of them. As long as
    the others are busy, nothing begins for ``patience`` seconds, then everything for as long: under a load without an
    end the management has half of the time. A burst that was seen to be over is forgotten.

    Args:
        busy: Whether the others have much to do just now.
        patience: Seconds.
        clock: Seconds, never going back.
    """

    def __init__(
        self, busy: Callable[[], bool], *, patience: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._busy = busy
        self._patience = patience
        self._clock = clock
        self._since = self._last = float("-inf")

    def pause(self) -> float:
        """Seconds to wait before it is asked again; 0: go on."""
        now = self._clock()
        if not self._busy():
            if now - self._last >= self._patience / 4:  # else they are only waiting for us
                self._since = float("-inf")
            return 0.0
        self._last = now
        if now - self._since >= 2 * self._patience:
            self._since = now
        return _NAP if now - self._since < self._patience else 0.0


def busy_thread(
    thread: int,
    *,
    share: float = 0.3,
    over: float = 0.02,
    clock: Callable[[], float] = time.monotonic,
    used: Callable[[int], float | None] | None = None,
) -> Callable[[], bool]:
    """Whether a thread has wanted the processor for a share of the time since it was asked for last.

    Args:
        thread: As `threading.get_native_id` says. Where the system does not count, it is never busy.
        share: Of one core. A thread that wants all of it and competes with another one for the interpreter gets about
            half.
        over: Seconds; within less the answer stays.
        clock: Seconds, never going back.
        used: Seconds for which a thread has wanted the processor so far; from Linux, when not given.
    """
    count = used or _wanted
    since, before, busy = clock(), count(thread), False

    def ask() -> bool:
        nonlocal since, before, busy
        now = clock()
        if now - since >= over:
            total = count(thread)
            busy = total is not None and before is not None and total - before >= share * (now - since)
            since, before = now, total
        return busy

    return ask


def _wanted(thread: int) -> float | None:
    """Seconds for which a thread has run, or could have, had others not; ``None`` when nobody knows.

    What it runs alone would not do: on a machine that is full, the busiest thread runs little.
    """
    try:
        with open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as file:
            ran, waited, _ = file.read().split()
    except (OSError, ValueError):  # another system, or the thread has ended
        return None
    return (int(ran) + int(waited)) / 1e9


class Worker:
    """Does the work of an `Uploads`.

    Use `start` and `stop` for threads of its own, or call `step` to do one thing at a time in the order that a
    test, or another scheduler, decides.

    Args:
        uploads: Whose work to do.
        threads: How many slow steps run at once.

    Attributes:
        courtesy: Whom its threads let go first; `step` asks nobody.
    """

    def __init__(self, uploads: Uploads, *, threads: int = 2) -> None:
        self.uploads = uploads
        self.courtesy: Courtesy | None = None
        self._threads = threads
        self._stop = threading.Event()
        self._slots = threading.Semaphore(threads)
        self._dispatcher: threading.Thread | None = None
        self._swept = 0.0

    def start(self) -> None:
        """Start the dispatcher and the pool. Starting twice is no error."""
        if self._dispatcher is None or not self._dispatcher.is_alive():
            self._stop.clear()
            self._dispatcher = threading.Thread(target=self._run, name="stagedoor-management", daemon=True)
            self._dispatcher.start()

    def stop(self) -> None:
        """Let the steps under way end, and return when the threads are gone. What is left is done after the next
        start. Stopping twice is no error.
        """
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is not None:
            self._stop.set()
            while dispatcher.is_alive():
                # Another worker of the same queue may have taken the call for its own.
                self.uploads.work.wake()
                dispatcher.join(1.0)

    @property
    def running(self) -> bool:
        """Whether the dispatcher is alive."""
        return self._dispatcher is not None and self._dispatcher.is_alive()

    def step(self) -> bool:
        """Do the next thing that is due, now and in this thread.

        Returns:
            Whether there was one; ``False`` means that nothing is due before some time passes.
        """
        now = self.uploads.clock()
        item = self.uploads.work.take(now)
        if item is not None:
            self._perform(item)
            return True
        if now - self._swept >= self.uploads.settings.sweep:
            self._swept = now
            return self._sweep()
        return False

    def drain(self, limit: int = 1_000_000) -> int:
        """Call `step` until nothing is due; returns how often."""
        for done in range(limit):
            if not self.step():
                return done
        raise RuntimeError(f"There is still work after {limit} steps.")

    def _run(self) -> None:
        with ThreadPoolExecutor(self._threads, "stagedoor-step") as pool:
            while not (self._stop.is_set() or self.uploads.closed):
                try:
                    self._dispatch(pool)
                except Exception:  # promise 9: the dispatcher outlives a queue that fails
                    log.exception("looking for work failed")
                    self._stop.wait(self.uploads.settings.backoff or 0.1)

    def _dispatch(self, pool: ThreadPoolExecutor) -> None:
        uploads = self.uploads
        if uploads.clock() - self._swept >= uploads.settings.sweep:
            self._swept = uploads.clock()
            self._sweep()
        self._slots.acquire()
        item = None
        try:
            now = uploads.clock()  # after the wait for a free thread: something may have become due meanwhile
            item = None if self._stop.is_set() else uploads.work.take(now)
        finally:
            if item is None:
                self._slots.release()
        if item is not None:
            if self._give_way():
                pool.submit(self._perform_in_pool, item)
            else:  # for the next start
                self._slots.release()
                uploads.work.submit(item)
        elif not self._stop.is_set():
            uploads.work.wait(now, uploads.settings.sweep)

    def _give_way(self) -> bool:
        """Let others go first; returns whether to go on then."""
        while self.courtesy is not None and not self._stop.is_set() and (pause := self.courtesy.pause()):
            self._stop.wait(pause)
        return not self._stop.is_set()

    def _perform_in_pool(self, item: WorkItem) -> None:
        try:
            self._perform(item)
        finally:
            self._slots.release()

    def _perform(self, item: WorkItem) -> None:
        try:
            self.uploads.perform(item.id)
        except Exception as error:  # promise 9: the worker outlives every task
            # The task store itself failed; the step is still due, and tried again when the disk may be better.
            if isinstance(error, UploadError):
                log.error("upload %s: %s", item.id, error.sentence)
            else:
                log.exception("upload %s failed unexpectedly", item.id)
            pause = self.uploads.settings.backoff
            self.uploads.work.submit(WorkItem(self.uploads.clock() + pause, item.id, item.uid))

    def _sweep(self) -> bool:
        try:
            return self.uploads.sweep() > 0
        except Exception:  # promise 9: the worker outlives every sweep
            log.exception("looking for expired uploads failed")
            return False


@contextmanager
def manage(uploads: Uploads, *, threads: int = 2) -> Iterator[Worker]:
    """Run the management threads for the length of a ``with`` block."""
    worker = Worker(uploads, threads=threads)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()
