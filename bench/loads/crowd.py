"""Many clients at once, each a process of its own on the clients' core."""

from __future__ import annotations

import os
import pickle
import time
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from .machine import CLIENT, settle

T = TypeVar("T")


class Crowd(Generic[T]):
    """Clients that have come and wait for the word.

    Args:
        count: How many.
        job: What each does, told its number; gives what can be pickled.
        ready: Called in each of them before it waits, told its number.
    """

    def __init__(self, count: int, job: Callable[[int], T], ready: Callable[[int], None] | None = None) -> None:
        self._pipes: list[tuple[int, int]] = []
        self._began = 0.0
        go, self._go = os.pipe()
        for number in range(count):
            come, tell_come = os.pipe()
            read, write = os.pipe()
            pid = os.fork()
            if not pid:
                try:
                    os.close(self._go)
                    settle(CLIENT)
                    if ready is not None:
                        ready(number)
                    os.close(tell_come)
                    os.read(go, 1)  # until it is closed
                    result: tuple[bool, object] = (True, job(number))
                except BaseException:  # noqa: BLE001  # told to the parent, whatever it is
                    result = (False, traceback.format_exc())
                with os.fdopen(write, "wb") as pipe:
                    pickle.dump(result, pipe)
                os._exit(0)
            os.close(tell_come)
            os.close(write)
            os.read(come, 1)  # until it is closed there
            os.close(come)
            self._pipes.append((pid, read))
        os.close(go)

    def begin(self) -> None:
        self._began = time.perf_counter()
        os.close(self._go)

    def end(self) -> tuple[list[T], float]:
        """What each has to say, and seconds from the word to the last of them."""
        told = []
        for pid, read in self._pipes:
            with os.fdopen(read, "rb") as pipe:
                told.append(pickle.load(pipe))
            os.waitpid(pid, 0)
        seconds = time.perf_counter() - self._began
        for fine, result in told:
            if not fine:
                raise RuntimeError(f"a client failed:\n{result}")
        return [result for _, result in told], seconds


def run(count: int, job: Callable[[int], T]) -> tuple[list[T], float]:
    crowd = Crowd(count, job)
    crowd.begin()
    return crowd.end()


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
