"""How a command is stopped: by Ctrl-C or SIGTERM, between two pieces of work."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .screen import Screen

__all__ = ["Stop", "Stopped", "stoppable"]


class Stopped(Exception):
    """Somebody pressed Ctrl-C; the step under way is over."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class Stop:
    """Whether somebody wants us to stop. The first signal asks for it, the second one does not ask."""

    def __init__(self, screen: Screen) -> None:
        self.number = 0
        self._event = threading.Event()
        self._screen = screen

    def __call__(self, number: int, _: object) -> None:
        """Handle a signal. Nothing here may wait for a lock that the interrupted code holds, so a thread speaks."""
        if self._event.is_set():
            if self._screen.console is not None:
                os.write(2, b"\x1b[?25h")  # rich hides the cursor while a bar is drawn
            os._exit(128 + number)
        self.number = number
        self._event.set()
        threading.Thread(target=self._say, daemon=True).start()

    def _say(self) -> None:
        with suppress(OSError, ValueError):  # that nobody hears it is no reason not to stop
            self._screen.say("Stopping after the step under way. Press Ctrl-C again to stop at once.", "yellow")

    def check(self) -> None:
        """Raise `Stopped` if it is time."""
        if self._event.is_set():
            raise Stopped(128 + self.number)

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than somebody wants us to."""
        self._event.wait(seconds)
        self.check()


@contextmanager
def stoppable(screen: Screen) -> Iterator[Stop]:
    """Stop for signals, and say so on a screen; in threads that do not get them, for nobody."""
    stop = Stop(screen)
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
