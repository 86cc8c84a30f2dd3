"""``stagedoor upload``: files to a server, several at once, and on from where they stood after any interruption."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from ..errors import ConfigurationError, UploadError
from ..lifecycle import FAILURE_STATES
from ..server.config import ServerConfig
from ..server.whereabouts import look_up
from . import FAILED, FINE, NOT_FOUND
from .call import Call
from .desk import api_key
from .screen import safe
from .stopping import Stop, Stopped, stoppable

if TYPE_CHECKING:
    from ..client import Client, Progress, Uploaded, Waiting

__all__ = ["register"]

_JOBS: Final = 3


def register(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    made = command("upload", _upload, "Send files to a server; the same command again goes on where it stood.", "FILE…")
    made.add_argument("files", nargs="+", metavar="FILE", help="a video, an album or a picture")
    made.add_argument(
        "--server", metavar="URL",
        help="its address ($STAGEDOOR_SERVER, or the one that serves the uploads directory)",
    )  # fmt: skip
    made.add_argument("--key-file", metavar="FILE", help="a file with the API key (or $STAGEDOOR_KEY)")
    made.add_argument(
        "--annotate", action="append", default=[], type=_pair, metavar="KEY=VALUE",
        help="what is to be known of them: artistname, name, release …; may be repeated",
    )  # fmt: skip
    made.add_argument("--type", metavar="TYPE", help="video, album, artwork; the server guesses when not given")
    made.add_argument("--jobs", type=_jobs, default=_JOBS, metavar="N", help=f"files at once ({_JOBS})")


@define
class _Errand:
    """One file, and what came of it."""

    path: str
    status: int = FINE
    code: str | None = None
    sentence: str = ""
    done: Uploaded | None = None

    def document(self) -> dict[str, object]:
        """For scripts."""
        done = self.done
        return {
            "file": self.path,
            "id": None if done is None else done.id,
            "state": None if done is None else done.state,
            "sha1": None if done is None else done.sha1,
            "size": None if done is None else done.size,
            "resumed": None if done is None else done.resumed,
            "known": [] if done is None else list(done.known),
            "status": self.status,
            "code": self.code,
            "sentence": self.sentence,
        }


def _upload(call: Call) -> int:
    try:
        from ..client import Client
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Sending to a server needs the package {error.name}: pip install 'stagedoor[client]'",
            code="missing_package",
        ) from None
    address = _address(call)
    errands = [_Errand(path) for path in dict.fromkeys(call.options.files)]
    bars = _Bars(call)
    with (
        stoppable(call.err) as stop,
        Client(address, key=api_key(call.options.key_file), sleep=stop.pause, waiting=bars.tell) as client,
        bars.shown(),
        ThreadPoolExecutor(call.options.jobs, "stagedoor-upload") as pool,
    ):
        futures = [pool.submit(_run, errand, call, client, stop, bars) for errand in errands]
        # A signal that arrives just before the main thread goes to sleep is handled only when it wakes up.
        while wait(futures, timeout=0.5).not_done:
            pass
        for future in futures:
            future.result()
    if call.options.json:
        call.out.json({"server": address, "files": [errand.document() for errand in errands]})
    else:
        for errand in errands:
            mild = errand.status > 128 or errand.done is not None  # stopped, or sent and then no good
            call.out.sign("good" if not errand.status else "warn" if mild else "bad", errand.sentence)
            if errand.done is not None:
                call.out.say(f"id {errand.done.id}, {errand.done.state}", "dim", indent=2)
    statuses = {errand.status for errand in errands}
    return max((s for s in statuses if s > 128), default=next((s for s in (2, 3, 1) if s in statuses), FINE))


def _run(errand: _Errand, call: Call, client: Client, stop: Stop, bars: _Bars) -> None:
    def progress(made: Progress) -> None:
        stop.check()
        bars.move(errand.path, made)

    try:
        stop.check()
        errand.done = done = client.upload(
            errand.path, call.options.type, dict(call.options.annotate), progress=progress
        )
        failed = client.get(done.id).document if done.state in FAILURE_STATES else None
    except Stopped as stopped:
        errand.status, errand.code = stopped.status, "stopped"
        errand.sentence = f"{errand.path}: Stopped. The same command again goes on."
    except FileNotFoundError:
        errand.status, errand.code = NOT_FOUND, "os_error"
        errand.sentence = f"{errand.path}: There is no such file."
    except OSError as error:
        errand.status, errand.code, errand.sentence = FAILED, "os_error", f"{errand.path}: {error.strerror}."
    except UploadError as error:
        errand.status, errand.code, errand.sentence = FAILED, error.code, f"{errand.path}: {error.sentence}"
    else:
        if failed is not None:
            errand.status, errand.code = FAILED, str(failed.get("code") or done.state)
            how = failed.get("message") or f"The server has it, and the upload is in {done.state}."
            errand.sentence = f"{errand.path}: {how}"
            return
        how = "It is there already." if done.resumed == done.size else f"{done.size:,} bytes are there, and verified."
        if 0 < done.resumed < done.size:
            how = f"{how} It went on at {done.resumed:,}."
        if done.known:
            how = f"{how} The library had it before: {', '.join(done.known[:3])}."
        errand.sentence = f"{errand.path}: {how}"
    finally:
        bars.end(errand.path)


def _address(call: Call) -> str:
    given = call.options.server or os.environ.get("STAGEDOOR_SERVER") or look_up(Path(call.root))
    address = given or f"http://127.0.0.1:{ServerConfig().port}/"
    if not address.startswith(("http://", "https://")):
        raise ConfigurationError(f"{address} is no address of a server. It begins with http:// or https://.")
    return address


def _pair(given: str) -> tuple[str, str]:
    key, sign, value = given.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"{given!a} is not KEY=VALUE")
    return key, value


def _jobs(given: str) -> int:
    if not given.isdecimal() or not 1 <= int(given) <= 32:
        raise argparse.ArgumentTypeError(f"{given!a} is not a number from 1 to 32")
    return int(given)


@define
class _Bars:
    """Bars on a terminal; else a line when something begins."""

    call: Call
    _progress: Any = field(default=None, init=False)
    _bars: dict[str, Any] = field(factory=dict, init=False)
    _phases: dict[str, str] = field(factory=dict, init=False)
    _lock: Any = field(factory=threading.Lock, init=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show them."""
        console = self.call.err.console
        if console is None or self.call.options.json:
            yield
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TextColumn("{task.fields[phase]}", style="dim"),
        )  # fmt: skip
        with Progress(*columns, console=console, transient=True) as self._progress:
            yield

    def move(self, path: str, made: Progress) -> None:
        """A file has come so far."""
        with self._lock:
            changed = self._phases.get(path) != made.phase
            self._phases[path] = made.phase
            if self._progress is not None:
                self._move_bar(path, made)
            elif changed and made.phase != "waiting" and not self.call.options.json:  # see `tell`
                self.call.err.say(f"{path}: {made.phase}")

    def tell(self, waiting: Waiting) -> None:
        """The server does not answer; also when nothing is sent yet, and nothing moves."""
        if not self.call.options.json:
            with self._lock:
                self.call.err.say(str(waiting), "dim")

    def _move_bar(self, path: str, made: Progress) -> None:
        from rich.markup import escape

        if path not in self._bars:
            name = escape(safe(os.path.basename(path)[:40]))
            self._bars[path] = self._progress.add_task(name, total=made.total, phase=made.phase)
        self._progress.update(self._bars[path], completed=made.done, total=made.total, phase=made.phase)

    def end(self, path: str) -> None:
        """Nothing more comes of a file."""
        with self._lock:
            if self._progress is not None and path in self._bars:
                self._progress.remove_task(self._bars.pop(path))
