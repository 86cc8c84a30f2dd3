"""The command line: ``stagedoor add clip.mp4``, ``stagedoor list``, ``stagedoor explain ID`` …

Commands that look need no lock: they read the documents as they are, beside a server that owns the directory, and
change nothing. Commands that change go through that server; without one they own the directory for as long as they run,
and do what is due for their own uploads themselves.

Exit codes::

    0    fine
    1    it failed, or was refused; the sentence says why
    2    wrong usage, or a configuration that cannot work
    3    there is no such upload, or no such file
    4    another process owns the uploads directory, and cannot be asked
    5    somebody has to say something first: an annotation is missing, a question is open
    130  stopped by Ctrl-C (143 by SIGTERM); the same command again goes on
    141  whoever read the output went away

What strangers wrote (names, annotations, reasons) reaches a terminal through `safe` only.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import logging
import mimetypes
import os
import platform
import resource
import shlex
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TextIO, TypeAlias, cast

import attrs
from attrs import define, frozen

from . import __version__
from .adapters.disk import Disk
from .adapters.inprocess import InlineBus
from .adapters.local import LocalBytes, LocalTree
from .commands import Usual, folder
from .commands import serve as serving
from .commands import upload as uploading
from .commands.desk import Desk, RemoteDesk, api_key, server_desk
from .engine import Uploads
from .errors import ConfigurationError, Duplicate, InUse, StorageError, TaskNotFound, UploadError, WrongState
from .explain import Explanation, count, duration, explain, moment, size, stamp
from .lifecycle import State, Trigger, due
from .notices import Notice
from .ports import Buffer, Clock, Library
from .protocols.offers import contenttype_of
from .server.whereabouts import Whereabouts, find, look_up
from .session import Ports, Session
from .settings import Settings
from .tasks import (
    JSON,
    Finding,
    InvalidDocument,
    Offer,
    Plan,
    UploadTask,
    answered,
    check_id,
    evolve,
    extension_of,
    load,
    thaw,
    to_dict,
)
from .worker import Worker

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["main", "safe"]

FINE, FAILED, USAGE, NOT_FOUND, IN_USE, WAITING, READER_GONE = 0, 1, 2, 3, 4, 5, 141

_CHUNK: Final = 4 << 20
_FILES_AT_ONCE: Final = 4
_DURABILITIES: Final = ("power", "process", "none")
_FORMATS: Final = ("dot", "mermaid", "plantuml", "scxml", "json", "markdown", "svg", "png")
_FAILURES: Final = (State.UPLOADFAILED, State.INVALIDCONTENT, State.INTEGRATIONFAILED, State.IMPORTFAILED)
_TAGS: Final = {"artistname": "artist", "name": "title", "release": "date"}
"""Annotations, and where the content facts have them if the file says so."""
_STYLES: Final[Mapping[State, str]] = {
    State.WAITFORCHUNK: "yellow",
    State.PREPROCESSED: "yellow",
    State.IMPORTCOMPLETE: "green",
    State.REMOVE: "dim",
    **dict.fromkeys(_FAILURES, "red"),
}


def main(argv: Sequence[str] | None = None, *, clock: Clock = time.time) -> int:
    """Run a command.

    Args:
        argv: The arguments; those of the process when not given.
        clock: Seconds since the epoch.

    Returns:
        The exit status.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as done:  # argparse has said what there is to say
        return done.code if isinstance(done.code, int) else USAGE
    call = _Call(options, Screen(sys.stdout), Screen(sys.stderr), clock)
    with _logging(call.err, everything=options.verbose):
        try:
            status = _run(call)
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_output()
            return READER_GONE
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except OSError as error:  # the output cannot be written
            _drop_output()
            call.err.say(f"stagedoor: {_sentence(error)}", "red")
            return FAILED
    return status


def _run(call: _Call) -> int:
    try:
        return int(call.options.run(call))
    except BrokenPipeError:
        raise
    except _Stopped as stopped:
        call.err.say("Stopped. What was done is on record; the same command again goes on.")
        return stopped.status
    except (UploadError, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise
        return call.fail(error)


def _status(error: Exception) -> int:
    match error:
        case TaskNotFound() | FileNotFoundError():
            return NOT_FOUND
        case InUse():
            return IN_USE
        case ConfigurationError():
            return USAGE
    return FAILED


def _sentence(error: Exception) -> str:
    if isinstance(error, UploadError):
        return error.sentence
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return f"{error}"


def _drop_output() -> None:
    """Let the interpreter's last flush go nowhere, or it would complain after us (docs.python.org, SIGPIPE)."""
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


@contextmanager
def _logging(screen: Screen, *, everything: bool) -> Iterator[None]:
    """Show what the library logs: the unexpected only, if not everything, for commands say themselves what is up."""
    log = logging.getLogger("stagedoor")
    level, handler = log.level, _ScreenHandler(screen)
    if everything:
        log.setLevel(logging.INFO)
    else:
        handler.addFilter(lambda record: record.exc_info is not None)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _ScreenHandler(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            self._screen.say(f"{record.levelname.lower()}: {line}", "dim")


# ── the screen ────────────────────────────────────────────────────────────────────────────────────────────────


def safe(text: str) -> str:
    """A text as it may reach a terminal: what controls it, turns writing around or cannot be seen is spelled out."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode() for c in text
    )


Cell: TypeAlias = "str | tuple[str, str]"
"""A text, or a text and its style."""

_SIGNS: Final = {"good": ("✓", "green"), "note": ("•", "dim"), "warn": ("!", "yellow"), "bad": ("✗", "red")}
Level: TypeAlias = Literal["good", "note", "warn", "bad"]


class Screen:
    """One stream to write to: with colours and wrapped lines on a terminal if rich is there, else plain lines.

    Every text goes through `safe`, but for `raw`, which is for documents of our own.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.console = _console(stream)
        with suppress(AttributeError):  # a terminal that knows ASCII only still says what happened
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def say(self, text: str = "", style: str = "", *, indent: int = 0) -> None:
        """A paragraph."""
        if self.console is None:
            self.stream.write(f"{' ' * indent}{safe(text)}\n")
            return
        from rich.padding import Padding
        from rich.text import Text

        line = Padding(Text(safe(text), style=style), (0, 0, 0, indent), expand=False)
        self.console.print(line if text else "")

    def sign(self, level: Level, text: str, *, indent: int = 0) -> None:
        """A sentence with a sign in front of it."""
        sign, style = _SIGNS[level]
        self.bullet(sign, text, style, indent=indent)

    def bullet(self, mark: str, text: str, style: str = "", *, indent: int = 0) -> None:
        """A paragraph that hangs on a mark."""
        if self.console is None:
            self.stream.write(f"{' ' * indent}{mark} {safe(text)}\n")
            return
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(" " * indent + mark, style=style), Text(safe(text)))
        self.console.print(grid)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        right: Sequence[str] = (),
        loose: Sequence[str] = (),
    ) -> None:
        """A table; with an empty name in every column it has no head.

        Args:
            columns: Their names.
            rows: Their cells.
            right: Columns of numbers.
            loose: Columns that are cut where the terminal is narrow. The last one is wrapped, the others stay whole.
        """
        cells = [[(c, "") if isinstance(c, str) else c for c in row] for row in rows]
        if self.console is None:
            self._plain_table(columns, [[safe(text) for text, _ in row] for row in cells], right)
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=any(columns), header_style="bold")
        for number, column in enumerate(columns):
            if number == len(columns) - 1:
                table.add_column(column, overflow="fold")
                continue
            widest = max(len(column), *(len(safe(row[number][0])) for row in cells), 0)
            table.add_column(
                column,
                justify="right" if column in right else "left",
                no_wrap=True,
                overflow="ellipsis",
                min_width=None if column in loose else widest,
            )
        for row in cells:
            table.add_row(*(Text(safe(text), style=style) for text, style in row))
        self.console.print(table)

    def _plain_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
        lines = [list(columns), *rows] if any(columns) else list(rows)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)] if lines else []
        for line in lines:
            parts = [
                text.rjust(width) if column in right else text.ljust(width)
                for text, width, column in zip(line, widths, columns, strict=True)
            ]
            self.stream.write("  ".join(parts).rstrip() + "\n")

    def raw(self, text: str) -> None:
        """A document of ours, as it is."""
        self.stream.write(text if text.endswith("\n") else text + "\n")

    def binary(self, data: bytes) -> None:
        """A picture."""
        self.stream.flush()
        self.stream.buffer.write(data)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show that something takes its time, on a terminal."""
        if self.console is None:
            yield
            return
        from rich.text import Text

        with self.console.status(Text(safe(text))):
            yield

    def json(self, value: object) -> None:
        """A JSON document; in ASCII, so that nothing in it can do anything to a terminal."""
        self.stream.write(json.dumps(value, indent=2, default=_plain) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _console(stream: TextIO) -> Console | None:
    if not stream.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, markup=False, highlight=False, emoji=False)


# ── one call ──────────────────────────────────────────────────────────────────────────────────────────────────


@frozen(slots=False)
class _Call:
    """A command, and what it works with."""

    options: argparse.Namespace
    out: Screen
    err: Screen
    clock: Clock

    @property
    def root(self) -> str:
        return os.path.abspath(str(self.options.data))

    @property
    def music(self) -> str:
        return os.path.abspath(str(self.options.music))

    @property
    def artwork(self) -> str:
        given = self.options.artwork
        return os.path.abspath(given) if given else os.path.join(os.path.dirname(self.root), "artwork")

    @property
    def trees(self) -> Mapping[str, str]:
        """The library's directories by their names: those of the server that owns the uploads directory, if it tells.

        Others than the server's have nothing to do with its uploads.
        """
        ours = {"music": self.music, "artwork": self.artwork}
        return ours if self.server is None else {**ours, **self.server.trees}

    @cached_property
    def server(self) -> Whereabouts | None:
        """The server that owns the uploads directory, if there is one and it has put its address on record."""
        owner = _owner(self.root)
        return None if owner is None or owner[0] <= 0 else find(Path(self.root), owner[0])

    def placed(self, task: UploadTask) -> list[str]:
        """Where its files are; empty if that cannot be seen from here: a server may be in a room of its own."""
        trees = self.trees
        if self.server is not None and not all(os.path.isdir(self.server.trees.get(f.root, "")) for f in task.placed):
            return []
        return [os.path.join(trees.get(file.root, ""), file.path) for file in task.placed]

    @cached_property
    def records(self) -> Records:
        """The uploads on record, for looking only.

        Raises:
            ConfigurationError: There is no uploads directory.
        """
        self._must_exist()
        naming = None if self.server is None else self.server.naming
        return Records(self.root, self.trees, self.clock, naming or self.options.naming)

    def _must_exist(self) -> None:
        if not os.path.isdir(self.root):
            raise ConfigurationError(
                f"There is no uploads directory {self.root}. Say where it is with --data or STAGEDOOR_DATA; "
                "stagedoor add makes one."
            )
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise ConfigurationError(
                f"The uploads directory {self.root} is another user's, and you may not look into it. If a server "
                "serves it, that can be asked: over its page, its API, or with stagedoor upload --server URL."
            )

    def uploadid(self) -> str:
        """The id that was meant: as given, or the only one that starts like it.

        Raises:
            TaskNotFound: There is none.
            ConfigurationError: There are several.
        """
        given: str = self.options.id
        known = self.records.ids()
        if given in known:
            return given
        meant = [uploadid for uploadid in known if uploadid.startswith(given)]
        if len(meant) > 1:
            raise ConfigurationError(
                f"{given} could be {', '.join(meant[:5])}{' …' * (len(meant) > 5)}. Say more of it."
            )
        if not meant:
            raise TaskNotFound(given)
        return meant[0]

    def task(self) -> UploadTask:
        """The upload that was meant."""
        uploadid = self.uploadid()
        task = self.records.find(uploadid)
        if task is None:
            raise TaskNotFound(uploadid)
        return task

    def fail(self, error: Exception) -> int:
        """Say what went wrong; returns the exit status."""
        status, sentence = _status(error), _sentence(error)
        if isinstance(error, InUse) and error.code == InUse.default_code:
            owner = _owner(self.root)
            if owner is not None and owner[1]:
                sentence = f"{sentence} Process {owner[0]} is: {owner[1]}"
            address = look_up(Path(self.root), owner[0] if owner is not None and owner[0] > 0 else None)
            if address is not None:
                sentence = f"{sentence.rstrip('.')}. It serves {address}: stagedoor upload sends files there."
        if self.options.json:
            code = error.code if isinstance(error, UploadError) else "os_error"
            self.out.json({"error": {"code": code, "sentence": sentence, "status": status}})
        self.err.say(f"stagedoor: {sentence}", "red")
        return status

    @contextmanager
    def desk(self, stop: _Stop, *, create: bool = False) -> Iterator[Uploads | RemoteDesk]:
        """Whom to ask for changes: the server that owns the directory, else `uploads`."""
        if self.server is None:
            with self.uploads(create=create) as uploads:
                yield uploads
        else:
            key = api_key(self.options.key_file)
            with server_desk(self.server, key, root=self.root, pause=stop.pause, clock=self.clock) as desk:
                yield desk

    @contextmanager
    def uploads(self, *, create: bool = False) -> Iterator[Uploads]:
        """Own the directory for a while.

        Args:
            create: Make directories that are missing. Else it is a mistake if they are: a library in the wrong place
                would be taken for an empty one.
        """
        if not create:
            self._must_exist()
            if not os.path.isdir(self.music):
                raise ConfigurationError(
                    f"There is no music directory {self.music}. Say where it is with --music or STAGEDOOR_MUSIC."
                )
        with Uploads.open(
            self.root,
            music=self.music,
            artwork=self.artwork,
            naming=self.options.naming,
            durability=self.options.durability,
            bus=InlineBus(),
            clock=self.clock,
        ) as uploads:
            for path in uploads.recovery.quarantined:
                self.err.sign("warn", f"{path} belonged to no upload and was put there.")
            for uploadid, reason in uploads.recovery.lost.items():
                self.err.sign("bad", f"Upload {uploadid}: {reason}")
            for at, path in uploads.recovery.kept.items():
                self.err.sign("warn", _homeless(at, path))
            yield uploads


# ── looking without the lock ──────────────────────────────────────────────────────────────────────────────────


class _Looking(Disk):
    """A disk that is only looked at. What opens for writing gets to read; everything that changes is refused."""

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        if create:
            raise _read_only(path)
        return super().open(path)

    def mkdir(self, path: str) -> bool:
        return False  # who needs the directory finds out

    def write_at(self, fd: int, data: Buffer, offset: int) -> None:
        raise _read_only()

    def truncate(self, fd: int, size: int) -> None:
        raise _read_only()

    def replace(self, source: str, dest: str) -> None:
        raise _read_only(source)

    def rename_exclusive(self, source: str, dest: str) -> None:
        raise _read_only(source)

    def link(self, source: str, dest: str) -> bool:
        raise _read_only(source)

    def unlink(self, path: str) -> None:
        raise _read_only(path)

    def rmdir(self, path: str) -> bool:
        raise _read_only(path)

    def clone(self, source: int, dest: int) -> bool:
        return False


def _read_only(path: str | None = None) -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS), path)


class Records:
    """The documents in an uploads directory that somebody else may own, and all that `explain` needs of it."""

    def __init__(self, root: str, trees: Mapping[str, str], clock: Clock, naming: str = "musicdb") -> None:
        self.root, self.clock, self.settings = root, clock, Settings()
        self._trees, self._naming = trees, naming
        self._tasks = os.path.join(root, "tasks")
        self._disk = _Looking()
        self.unreadable: dict[str, str] = {}
        """What is in ``tasks`` and no document, with the reason; known after `all`."""

    def ids(self) -> list[str]:
        """Of all documents, sorted."""
        self.unreadable.clear()
        found = []
        for entry in self._disk.entries(self._tasks):
            if entry.name.startswith("."):
                continue  # a temporary file
            if entry.is_file and entry.name.endswith(".json") and _is_id(entry.name.removesuffix(".json")):
                found.append(entry.name.removesuffix(".json"))
            else:
                self.unreadable[entry.name] = "It is not named like a task."
        return sorted(found)

    def find(self, uploadid: str, /) -> UploadTask | None:
        """The upload as it is on record; ``None`` if it is not there.

        Raises:
            InvalidDocument: Its document is none.
        """
        try:
            task = load(self._disk.read(os.path.join(self._tasks, f"{uploadid}.json")), expected_id=uploadid)
        except FileNotFoundError:
            return None
        if task.state is not State.WAITFORCHUNK:
            return task
        # While chunks are expected the byte store knows how many there are, and the document hears of it later.
        store = LocalBytes(self.root, durability="none", disk=self._disk)
        try:
            return evolve(task, offset=store.size(task.key))
        except UploadError:
            return task
        finally:
            store.release()

    def all(self) -> Iterator[UploadTask]:
        """All uploads, ordered by id. What is no document is left out and remembered."""
        for uploadid in self.ids():
            try:
                task = self.find(uploadid)
            except InvalidDocument as error:
                self.unreadable[f"{uploadid}.json"] = error.sentence
                continue
            except OSError as error:
                self.unreadable[f"{uploadid}.json"] = f"{error.strerror}."
                continue
            if task is not None:
                yield task

    @cached_property
    def ports(self) -> Ports:
        """For looking: neither directories nor a music database are made, and nothing is written."""
        from .content import builtin

        contents, _ = builtin(scheme=self._naming)
        trees = {name: LocalTree(name, path, "none", self._disk) for name, path in self._trees.items()}
        store = LocalBytes(self.root, durability="none", disk=self._disk)
        return Ports(store, trees, self._library(), {c.name: c for c in contents}, self.settings)

    def _library(self) -> Library:
        """The catalogue as it is now; without one that can be read, a library that knows nothing."""
        from .library.catalogue import Catalogue
        from .library.memory import NullLibrary

        with suppress(UploadError, FileNotFoundError):
            return Catalogue.look(os.path.join(self.root, "catalogue.sqlite"))
        return NullLibrary()


def _is_id(name: str) -> bool:
    try:
        check_id(name)
    except UploadError:
        return False
    return True


def _owner(root: str) -> tuple[int, str] | None:
    """The process that has locked an uploads directory and its command line, as far as the system tells."""
    # Asking by taking the lock, for a moment even, could make a server fail that starts just then.
    try:
        inode = os.stat(os.path.join(root, ".lock")).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return None
    for fields in lines:
        if fields[1:2] == ["FLOCK"] and len(fields) > 5 and fields[5].rpartition(":")[2] == str(inode):
            # A device number would settle which file system's inode it is, but overlays and subvolumes show another
            # one here than stat does; the process that it names has the file open, or it is not this lock.
            pid = int(fields[4])
            if pid <= 0 or _has_open(pid, os.path.join(root, ".lock")):
                return pid, _command_line(pid)
    return None


def _has_open(pid: int, path: str) -> bool:
    try:
        found = os.stat(path)
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), found):
                    return True
    except OSError:
        return True  # another user's process: nobody lets us look
    return False


def _command_line(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).split(b"\0")
    except OSError:
        return ""
    return " ".join(word.decode("utf-8", "replace") for word in words).strip()[:200]


# ── commands that look ────────────────────────────────────────────────────────────────────────────────────────


def _list(call: _Call) -> int:
    wanted = set(call.options.state or ())
    if call.options.quiet and not wanted:
        for uploadid in call.records.ids():
            call.out.raw(uploadid)
        return FINE
    tasks = [task for task in call.records.all() if not wanted or task.state in wanted]
    unreadable = call.records.unreadable
    if call.options.quiet:
        for task in tasks:
            call.out.raw(task.id)
    elif call.options.json:
        call.out.json({"uploads": [_line(task) for task in tasks], "unreadable": unreadable})
    elif not tasks:
        which = f" in {', '.join(sorted(wanted))}" if wanted else ""
        call.out.say(f"There are no uploads{which} in {call.root}.")
    else:
        short = _short([task.id for task in tasks]) if call.out.console is not None else {}
        call.out.table(
            ("id", "state", "progress", "bytes", "name", "message"),
            (
                (
                    short.get(task.id, task.id),
                    (task.state.value, _STYLES.get(task.state, "cyan")),
                    _progress(task),
                    "?" if task.filesize is None else f"{task.filesize:,}",
                    _ellipsis(task.sourcefilename, 32 if short else 1024),
                    task.message or "",
                )
                for task in tasks
            ),
            right=("progress", "bytes"),
            loose=("name",),
        )
    for name, sentence in unreadable.items():
        call.err.sign("warn", f"tasks/{name} is left out. {sentence}")
    return FINE


def _line(task: UploadTask) -> dict[str, object]:
    ending = due(task)
    return {
        "id": task.id,
        "state": task.state.value,
        "offset": task.offset,
        "filesize": task.filesize,
        "contenttype": task.contenttype,
        "sourcefilename": task.sourcefilename,
        "message": task.message,
        "code": task.code,
        "due": None if ending is None else ending.value,
        "revision": task.revision,
        "created": task.created,
        "updated": task.updated,
        "deadline": task.deadline,
    }


def _progress(task: UploadTask) -> str:
    if task.state not in (State.WAITFORCHUNK, State.UPLOADFAILED):
        return "100 %"
    return "?" if task.filesize is None else f"{task.offset * 100 // task.filesize} %"


def _short(ids: Sequence[str]) -> Mapping[str, str]:
    """The least of each long id that is still its own; every command takes it."""
    length = 12
    while len({i[:length] for i in ids}) < len(ids):
        length += 1
    return {uploadid: uploadid if len(uploadid) <= length + 4 else uploadid[:length] for uploadid in ids}


def _ellipsis(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _show(call: _Call) -> int:
    task = call.task()
    if call.options.json:
        call.out.json(to_dict(task))
        return FINE
    call.out.table(("", ""), [((name, "bold"), text) for name, text in _facts(call, task) if text])
    return FINE


def _facts(call: _Call, task: UploadTask) -> Iterator[tuple[str, str]]:
    now = call.clock()
    yield "id", task.id
    yield "state", f"{task.state}: {task.state.meaning}"
    yield "message", f"{task.message} ({task.code})" if task.message else ""
    yield "name", task.sourcefilename
    yield "type", f"{task.contenttype}, {task.mimetype}"
    yield "size", size(task.filesize)
    yield "on record", f"{size(task.offset)} ({_progress(task)})" if task.state is State.WAITFORCHUNK else ""
    yield "SHA-1", task.sourcechecksum or "not declared"
    yield "SHA-256", task.sha256 or ""
    yield "stored as", task.destinationpath
    for key, value in task.annotations.items():
        yield f"annotation {key}", _value(value)
    for key, value in task.content.items():
        if isinstance(value, Sequence) and all(isinstance(one, Mapping) for one in value):
            for number, one in enumerate(value, 1):
                yield f"content {key} {number}", _few(one)
        else:
            yield f"content {key}", _few(value) if isinstance(value, Mapping) else _value(value)
    for finding in (*task.findings, *_planned(call, task)):
        is_open = finding.severity == "hold" and not answered(finding, task.annotations)
        yield f"{finding.severity} {finding.code}", _asked(finding, task) if is_open else finding.sentence
    yield "songs", _hint_of_songs(task)
    for root, where in _whereabouts(task, {}):
        yield f"in {root}", where
    if task.step is not None:
        held = "began" if task.step.token else "was given back; it began"
        yield "step", f"{task.step.trigger}, attempt {task.step.attempt}, {held} {moment(task.step.started, now)}"
    yield "wanted", task.wanted or ""
    for name, then in (("created", task.created), ("updated", task.updated), ("expires", task.deadline)):
        yield name, "" if then is None else f"{stamp(then)} ({moment(then, now)})"
    yield "revision", f"{task.revision}"


def _planned(call: _Call, task: UploadTask) -> Sequence[Finding]:
    """What would be said of the plan now, where it is still to be carried out."""
    if task.state not in (State.PREPROCESSED, State.INTEGRATIONFAILED):
        return ()
    try:
        return Session(task, call.records.ports, call.clock()).plan.problems
    except UploadError:
        return ()


def _whereabouts(task: UploadTask, trees: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Where its files are, by tree: one by its path, more by their directory."""
    for root in dict.fromkeys(file.root for file in task.placed):
        paths = [os.path.join(trees.get(root, ""), file.path) for file in task.placed if file.root == root]
        yield root, paths[0] if len(paths) == 1 else f"{_in_common(paths)} ({count(len(paths), 'file')})"


def _in_common(paths: Sequence[str]) -> str:
    """The directory of files; of a file and its variants what all of them begin with, too."""
    directory = os.path.commonpath(paths)
    names = [os.path.relpath(path, directory) for path in paths]
    shortest, extension = os.path.splitext(min(names, key=len))
    alike = all(name.startswith(shortest) and name.endswith(extension) for name in names)
    return os.path.join(directory, f"{shortest}*{extension}") if alike else f"{directory}/"


def _few(facts: JSON) -> str:
    """Facts on one line, for people: what is empty is left out, and so are hashes. The first member is number 0."""
    assert isinstance(facts, Mapping)
    said = {
        key: value
        for key, value in facts.items()
        if "sha" not in key and (value not in (None, "", 0, False) or (key == "member" and value is not None))
    }
    return ", ".join(f"{key} {_value(value)}" for key, value in said.items())


def _value(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(thaw(value), ensure_ascii=False)


def _explain(call: _Call) -> int:
    given: str = call.options.id
    try:
        given = call.uploadid()
    except TaskNotFound:
        found, status = explain(call.records, given), NOT_FOUND
    else:
        found = explain(call.records, given)
        status = NOT_FOUND if found.state is State.NOTEXISTING else FINE
    if call.options.json:
        call.out.json(found.as_dict())
    else:
        _tell(call, found)
    return status


def _tell(call: _Call, found: Explanation) -> None:
    out = call.out
    out.say(f"{found.id}: {found.state}", "bold")
    after = list(found.next)
    if found.due is not None and _owner(call.root) is None:
        after.append("No process owns the uploads directory now: nothing happens before a server, or stagedoor work.")
    for title, lines in (
        ("Why it is here", found.why),
        ("What happens by itself", after),
        ("What stands in the way of the integration", found.obstacles),
    ):
        if lines:
            _headline(out, title)
        for line in lines:
            out.say(line, indent=2)
    if found.possible:
        _headline(out, "What may be done")
    for action in found.possible:
        _point(out, f"{action.sentence} ({', '.join(action.by)})", action.command)
    if found.refused:
        _headline(out, "What is refused")
    for refusal in found.refused:
        guard = f" ({refusal.guard})" if refusal.guard else ""
        _point(out, f"{refusal.sentence}{guard} {refusal.remedy}".rstrip(), refusal.command)


def _headline(out: Screen, title: str) -> None:
    out.say()
    out.say(title, "bold")


def _point(out: Screen, sentence: str, command: str) -> None:
    out.bullet("•", sentence, indent=2)
    if command:
        out.say(command, "cyan", indent=6)


def _history(call: _Call) -> int:
    task = call.task()
    if call.options.json:
        call.out.json([attrs.asdict(event) for event in task.history])
        return FINE
    call.out.table(
        ("", "time", "trigger", "from", "to", "reason"),
        (
            (
                f"{event.sequence}",
                stamp(event.time),
                event.trigger,
                event.source,
                "" if event.source == event.dest else event.dest,
                event.reason,
            )
            for event in task.history
        ),
        right=("",),
    )
    return FINE


def _replay(call: _Call) -> int:
    from .verify import replay

    task = call.task()
    problems = replay(task)
    if call.options.json:
        call.out.json({"id": task.id, "events": len(task.history), "problems": problems})
    elif problems:
        for problem in problems:
            call.out.sign("bad", problem)
    else:
        call.out.sign("good", f"All {count(len(task.history), 'line')} of the history can have happened like this.")
    return FAILED if problems else FINE


def _plan(call: _Call) -> int:
    task = call.task()
    plan = task.plan
    if task.state is State.INTEGRATIONFAILED or (plan is None and task.state is State.PREPROCESSED):
        plan = Session(task, call.records.ports, call.clock()).plan
    if plan is None:
        raise WrongState(f"There is no plan in state {task.state}: the content was not accepted (yet).")
    if call.options.json:
        call.out.json({"id": task.id, "state": task.state, "plan": _plan_document(plan, task)})
    else:
        _draw(call, plan, task)
    return WAITING if _held(plan, task) else FINE


def _plan_document(plan: Plan, task: UploadTask) -> dict[str, object]:
    return {**attrs.asdict(plan), "questions": [attrs.asdict(question) for question in _questions(plan, task)]}


def _questions(plan: Plan, task: UploadTask) -> list[Finding]:
    """What nobody has answered yet, about the content and about its place in the library."""
    if task.state not in (State.PREPROCESSED, State.INTEGRATIONFAILED):
        return []
    return [*task.open_questions, *(problem for problem in plan.problems if problem.severity == "hold")]


def _asked(question: Finding, task: UploadTask) -> str:
    """A question, and the commands that answer it."""
    answer = f"stagedoor annotate {task.id} answers.{question.code}"
    ways = " or ".join(f"{answer}={shlex.quote(option)}" for option in question.options) or f"{answer}=ANSWER"
    return f"{question.sentence} Answer it: {ways}"


def _held(plan: Plan, task: UploadTask) -> list[str]:
    """What somebody has to say or mend before a plan can be carried out."""
    if task.state not in (State.PREPROCESSED, State.INTEGRATIONFAILED):
        return []
    questions = [_asked(question, task) for question in _questions(plan, task)]
    rejected = [problem for problem in plan.problems if problem.severity == "reject"]
    return questions + [_asked(problem, task) if problem.options else problem.sentence for problem in rejected]


def _draw(call: _Call, plan: Plan, task: UploadTask) -> None:
    """The plan as a tree, and what stands in its way."""
    files = (*plan.files, *plan.artwork)
    for root in dict.fromkeys(file.root for file in files):
        branches: dict[str, Any] = {}
        notes = {}
        for file in files:
            if file.root == root:
                at = branches
                for part in file.path.split("/"):
                    at = at.setdefault(part, {})
                instead = ", instead of the one that is there" if file.replace and not task.placed else ""
                notes[file.path] = "" if file.size is None else f"  ({size(file.size)}{instead})"
        for directory in () if task.placed else plan.directories:
            notes[directory.removeprefix(f"{root}/")] = "  (new)"
        call.out.say(f"{root}: {call.trees.get(root, 'this server has no such directory')}", "bold")
        for line in _branches(branches, notes):
            call.out.say(line)
    replaced = task.replaced if task.placed else sum(file.replace for file in files)
    if replaced:
        what = "file that is there is" if replaced == 1 else "files that are there are"
        call.out.sign("warn", f"{replaced:,} {what} replaced, kept for undo, and deleted when the upload is removed.")
    for problem in plan.problems:
        if problem.severity == "warn":
            call.out.sign("warn", problem.sentence)
    for sentence in _held(plan, task):
        call.out.sign("bad", sentence)
    if hint := _hint_of_songs(task):
        call.out.sign("note", hint)


def _hint_of_songs(task: UploadTask) -> str:
    """How the songs of an album are corrected, as long as they can be."""
    tracks = task.content.get("tracks")
    if task.state not in (State.PREPROCESSED, State.INTEGRATIONFAILED) or not isinstance(tracks, Sequence):
        return ""
    pattern = shlex.quote(json.dumps({str(min(3, len(tracks))): {"title": "…"}}, ensure_ascii=False))
    return (
        f"Correct songs by their numbers in stagedoor show: stagedoor annotate {task.id} tracks={pattern}; "
        "title, artist, disc and number can be said, and skip leaves a song out."
    )


def _branches(tree: Mapping[str, Any], notes: Mapping[str, str], above: str = "", path: str = "") -> Iterator[str]:
    for number, (name, below) in enumerate(tree.items()):
        last = number == len(tree) - 1
        yield f"{above}{'└── ' if last else '├── '}{name}{'/' if below else ''}{notes.get(path + name, '')}"
        yield from _branches(below, notes, above + ("    " if last else "│   "), f"{path}{name}/")


def _verify(call: _Call) -> int:
    from .verify import verify

    with call.err.busy("Putting the life cycle on trial …"):
        report = verify()
    if call.options.json:
        call.out.json(report.as_dict())
        return FINE if report.ok else FAILED
    found, out = report.as_dict(), call.out
    for problem in report.problems:
        out.sign("bad", problem)
    if not report.problems:
        out.sign("good", f"All {found['cases']:,} events in all states do what the specification says.")
        out.sign("good", f"Each of the {found['rows']:,} rows is taken at least once.")
        killed, equal = f"{found['killed']:,} are noticed", f"{found['equivalent']:,} make no difference"
        level: Level = "bad" if report.survivors else "good"
        out.sign(level, f"Of {found['mutants']:,} mistakes that could be made in the table {killed}, {equal}.")
    for survivor in report.survivors:
        out.sign("bad", survivor)
    return FINE if report.ok else FAILED


def _diagram(call: _Call) -> int:
    from . import diagrams

    options = call.options
    target = options.output
    wanted = options.format or ("json" if options.json else extension_of(target or "") or "dot")
    wanted = {"md": "markdown", "gv": "dot", "mmd": "mermaid", "puml": "plantuml"}.get(wanted, wanted)
    if wanted not in _FORMATS:
        raise ConfigurationError(f"{target}: no format is known for this name. Say one with --format.")
    if wanted == "png" and target is None and call.out.stream.isatty():
        raise ConfigurationError("A picture is nothing for a terminal. Say where to write it with -o FILE.")
    task = call.task() if options.id else None
    made: str | bytes = getattr(diagrams, "json_text" if wanted == "json" else wanted)(task=task)
    if target is not None:
        with open(target, "wb") as file:
            file.write(made.encode() if isinstance(made, str) else made)
        call.err.sign("good", f"{target} is written ({size(os.path.getsize(target))}).")
    elif isinstance(made, str):
        call.out.raw(made)
    else:
        call.out.binary(made)
    return FINE


def _table(call: _Call) -> int:
    from . import diagrams

    wanted = call.options.format or ("json" if call.options.json else "markdown")
    call.out.raw(diagrams.json_text() if wanted == "json" else diagrams.markdown())
    return FINE


# ── commands that change ──────────────────────────────────────────────────────────────────────────────────────


class _Stopped(Exception):
    """Somebody pressed Ctrl-C; the step under way is over."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class _Stop:
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
        """Raise `_Stopped` if it is time."""
        if self._event.is_set():
            raise _Stopped(128 + self.number)

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than somebody wants us to."""
        self._event.wait(seconds)
        self.check()


@contextmanager
def _stoppable(screen: Screen) -> Iterator[_Stop]:
    stop = _Stop(screen)
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(uploads: Desk, uploadid: str, stop: _Stop) -> UploadTask | None:
    """Do what is due for one upload, or let its server, until it rests; nothing for others. ``None``: it is gone."""
    while True:
        stop.check()
        done = uploads.perform(uploadid)
        task = uploads.find(uploadid)
        if task is None or due(task) is None:
            return task
        if not done:
            again = task.step.not_before if task.step is not None else 0.0
            stop.pause(max(0.01, again - uploads.clock()))


@define
class _Errand:
    """What is wanted of one upload, and how far that came.

    Attributes:
        call: The command.
        name: What people call it.
        uploadid: The upload.
        integrate: Whether the library may be touched; else a plan is all that is wanted.
        imports: Whether it is imported, too.
        annotations: What is to be said about it before it is integrated.
        tags: Whether the file's own tags may say what is missing.
        task: As it was last.
        plan: What is planned, or was done.
        status: Exit status.
        code: Stable code of what went wrong.
        sentences: How it ended.
        known: Where the library had the same bytes before, relative to the music directory.
    """

    call: _Call
    name: str
    uploadid: str = ""
    integrate: bool = True
    imports: bool = True
    annotations: Mapping[str, JSON] = attrs.field(factory=dict)
    tags: bool = False
    task: UploadTask | None = None
    plan: Plan | None = None
    status: int = FINE
    code: str | None = None
    sentences: list[str] = attrs.field(factory=list)
    known: Sequence[str] = ()

    def attempt(self, do: Callable[[], None]) -> None:
        """Do something, and keep what it raises as the end of this errand; others go on."""
        try:
            do()
        except _Stopped as stopped:
            task = self.task
            where = f" at {task.offset:,} of {size(task.filesize)}" if task and task.state is State.WAITFORCHUNK else ""
            self.end(stopped.status, "stopped", f"Stopped{where}. The same command again goes on.")
        except (UploadError, OSError) as error:
            code = error.code if isinstance(error, UploadError) else "os_error"
            self.end(_status(error), code, _sentence(error))

    def end(self, status: int, code: str | None, *sentences: str) -> None:
        """This is how it ended."""
        self.status, self.code, self.sentences = status, code, list(sentences)

    def walk(self, uploads: Desk, stop: _Stop, send: Callable[[UploadTask], None] | None = None) -> None:
        """Go from wherever the upload is to where it is wanted, or to where somebody has to say something."""
        old = uploads.get(self.uploadid).state
        task = self._arrived(_work(uploads, self.uploadid, stop))
        if task.state is old and old in _FAILURES and (send is not None or old is not State.UPLOADFAILED):
            uploads.retry(self.uploadid)  # it failed some other time; what fails now is the end
        while True:
            task = self._arrived(_work(uploads, self.uploadid, stop))
            match task.state:
                case State.WAITFORCHUNK if send is not None:
                    send(task)
                case State.WAITFORCHUNK | State.UPLOADFAILED if send is None:
                    missing = "Only a part of the file is here. Send the rest: stagedoor add FILE."
                    return self.end(FAILED, task.code or "incomplete", task.message or missing)
                case State.PREPROCESSED:
                    if not self._prepare(uploads, task):
                        return None
                    uploads.request(self.uploadid, trigger_import=self.imports)
                case State.INTEGRATED if self.imports:
                    uploads.start_import(self.uploadid)
                case State.INTEGRATED:
                    return self.end(FINE, None, "It is in the library, and not imported.", *self._too_late(task))
                case State.IMPORTCOMPLETE:
                    return self.end(FINE, None, "It is in the library and imported.", *self._too_late(task))
                case _:
                    return self.end(FAILED, task.code, task.message or f"It is {task.state}.")

    def _prepare(self, uploads: Desk, task: UploadTask) -> bool:
        """Annotate and plan; whether the plan may be carried out."""
        wanted = dict(self.annotations)
        found = task.content.get("tags")
        if self.tags and isinstance(found, Mapping):
            for key, tag in _TAGS.items():
                if key not in task.annotations and key not in wanted and found.get(tag):
                    wanted[key] = found[tag]
        changed = {key: value for key, value in wanted.items() if task.annotations.get(key) != value}
        if changed:
            task = self._arrived(uploads.annotate(self.uploadid, changed))
        self.plan = uploads.plan(self.uploadid)
        if held := _held(self.plan, task):
            rejected = [problem for problem in self.plan.problems if problem.severity == "reject"]
            problems = [problem.code for problem in (*_questions(self.plan, task), *rejected)]
            hint = _hint(task) if "annotation_missing" in problems else []
            self.end(WAITING, problems[0], *held, *hint)
            return False
        if not self.integrate:
            self.end(FINE, None, "It is ready; nothing in the library was touched.")
        return self.integrate

    def _too_late(self, task: UploadTask) -> Iterator[str]:
        if any(task.annotations.get(key) != value for key, value in self.annotations.items()):
            yield f"It was there before under other annotations; to change them: stagedoor undo {task.id}"

    def _arrived(self, task: UploadTask | None) -> UploadTask:
        if task is None:
            raise TaskNotFound(self.uploadid)
        self.task = task
        self.plan = task.plan or self.plan
        return task

    def look(self, uploads: Desk) -> None:
        """See how it is in the end, if somebody is there to tell."""
        with suppress(UploadError, _Stopped):  # what was done, and how that ended, is what counts
            self.task = uploads.find(self.uploadid) or self.task

    def document(self) -> dict[str, object]:
        """For scripts."""
        task = self.task
        return {
            "id": self.uploadid,
            "state": None if task is None else task.state.value,
            "status": self.status,
            "code": self.code,
            "sentences": self.sentences,
            "known": list(self.known),
            "plan": None if self.plan is None or task is None else _plan_document(self.plan, task),
            "placed": [] if task is None else [attrs.asdict(file) for file in task.placed],
        }

    def report(self) -> None:
        """For people."""
        out, task = self.call.out, self.task
        stopped = self.status > 128
        level: Level = "good" if self.status == FINE else "warn" if self.status == WAITING or stopped else "bad"
        out.sign(level, f"{self.name}: {self.sentences[0]}")
        for sentence in self.sentences[1:]:
            out.say(sentence, indent=2)
        for path in self.known:
            out.say(f"You already have this: {path}", indent=2)
        if task is None:
            return
        if not self.integrate and self.plan is not None and not _held(self.plan, task):
            _draw(self.call, self.plan, task)
        for _, where in _whereabouts(task, self.call.trees):
            out.say(where, "cyan", indent=2)
        if task.state is not State.REMOVE:
            out.say(f"id {task.id}, {task.state}", "dim", indent=2)


def _hint(task: UploadTask) -> list[str]:
    """What the file itself says, when names are missing."""
    found = task.content.get("tags")
    if not isinstance(found, Mapping):
        return []
    says = [f"{key} “{found[tag]}”" for key, tag in _TAGS.items() if found.get(tag) and key not in task.annotations]
    return [f"The file's own tags say: {', '.join(says)}; --tags takes them."] if says else []


def _one(call: _Call, do: Callable[[_Errand, Desk, _Stop], None], **wanted: Any) -> int:
    """A command about one upload that changes it."""
    uploadid = call.uploadid()
    errand = _Errand(call, uploadid, uploadid, **wanted)
    with _stoppable(call.err) as stop, call.desk(stop) as uploads:
        errand.task = uploads.get(uploadid)
        errand.attempt(lambda: do(errand, uploads, stop))
        errand.look(uploads)
    if call.options.json:
        call.out.json(errand.document())
    else:
        errand.report()
    return errand.status


def _import(call: _Call) -> int:
    return _one(call, _Errand.walk, imports=True)


def _integrate(call: _Call) -> int:
    return _one(call, _Errand.walk, imports=False)


def _retry(call: _Call) -> int:
    def retry(errand: _Errand, uploads: Desk, stop: _Stop) -> None:
        uploads.retry(errand.uploadid)
        task = _work(uploads, errand.uploadid, stop)
        if task is None:
            raise TaskNotFound(errand.uploadid)
        if task.state in _FAILURES:
            return errand.end(FAILED, task.code, task.message or task.state.meaning)
        todo = {
            State.WAITFORCHUNK: "Send it again from the first byte: stagedoor add FILE.",
            State.PREPROCESSED: f"It is ready: stagedoor plan {task.id} shows where it would go.",
        }
        return errand.end(FINE, None, todo.get(task.state, task.state.meaning))

    return _one(call, retry)


def _undo(call: _Call) -> int:
    def undo(errand: _Errand, uploads: Desk, stop: _Stop) -> None:
        task = uploads.get(errand.uploadid)
        files = call.placed(task)
        if files and not call.options.missing and all(map(_is_gone, files)):
            where = "Say where the library is with --music and --artwork"
            if call.server is not None:
                where = "Look whether the server's library is where it should be"
            raise ConfigurationError(
                f"None of its {count(len(files), 'file')} is in the library, {files[0]} for one. {where}; or, if "
                "somebody has deleted them, say --missing."
            )
        try:
            uploads.undo(task.id)
        except StorageError:
            if (after := uploads.find(task.id)) is None or after.wanted is not Trigger.UNDO:
                raise  # else it is on record, and tried again here
        end = _work(uploads, task.id, stop)
        if end is None:
            raise TaskNotFound(task.id)
        if end.state is not State.PREPROCESSED:
            return errand.end(FAILED, end.code, end.message or "It could not be taken back.")
        return errand.end(FINE, None, "Library and music database are as they were before; the upload is kept.")

    return _one(call, undo)


def _is_gone(path: str) -> bool:
    """Whether there is nothing; what we may not look at is not gone."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _remove(call: _Call) -> int:
    def remove(errand: _Errand, uploads: Desk, stop: _Stop) -> None:
        task = uploads.get(errand.uploadid)
        if task.state is not State.REMOVE:
            task = uploads.remove(task.id)
        errand.task = task
        _work(uploads, task.id, stop)
        gone, are = count(task.replaced, "file"), "is" if task.replaced == 1 else "are"
        lost = f" {gone} that it had replaced {are} deleted with it." if task.replaced else ""
        stays = " What it put into the library stays there:" if task.placed else ""
        errand.end(FINE, None, f"The upload is removed.{lost}{stays}")

    return _one(call, remove)


def _work_all(call: _Call) -> int:
    if call.server is not None:
        return _work_of(call, call.server)
    done = 0
    with _stoppable(call.err) as stop, call.uploads() as uploads:
        uploads.subscribe(lambda notice: call.err.say(f"{notice.uploadid}: {notice.state}"))
        worker = Worker(uploads)
        while worker.step():
            done += 1
            stop.check()
        left = [summary.id for summary in uploads.list() if summary.due is not None]
    if call.options.json:
        call.out.json({"steps": done, "left": left})
    else:
        call.out.sign("good", f"{count(done, 'step')} done.")
        for uploadid in left:
            call.out.sign(
                "warn", f"{uploadid} failed for now; stagedoor explain {uploadid} tells when it is tried again."
            )
    return FAILED if left else FINE


def _work_of(call: _Call, server: Whereabouts) -> int:
    """There is a server, which needs nobody to tell it that something is due."""
    left = [task.id for task in call.records.all() if due(task) is not None]
    if call.options.json:
        call.out.json({"steps": 0, "left": left})
    else:
        much = f"something is due for {count(len(left), 'upload')}" if left else "nothing is due"
        call.out.sign("good", f"The server at {server.address} does the work by itself; {much}.")
        for uploadid in left:
            call.out.sign("note", f"stagedoor explain {uploadid} tells what happens next.")
    return FINE


def _annotate(call: _Call) -> int:
    def annotate(errand: _Errand, uploads: Desk, _: _Stop) -> None:
        task = uploads.annotate(errand.uploadid, dict(call.options.annotation))
        said = ", ".join(f"{key} is now “{_value(task.annotations[key])}”" for key, _ in call.options.annotation)
        late = " In the library nothing changes before the import is taken back." if task.placed else ""
        errand.end(FINE, None, f"{said}.{late}")

    return _one(call, annotate)


# ── add ───────────────────────────────────────────────────────────────────────────────────────────────────────

_DOING: Final[Mapping[State, str]] = {
    State.WAITFORCHUNK: "sending",
    State.UPLOADCOMPLETE: "looking at the content",
    State.PREPROCESSED: "accepted",
    State.INTEGRATED: "in the library",
    State.STARTIMPORT: "importing",
    State.IMPORTARTWORK: "making the artwork",
    State.IMPORTCOMPLETE: "imported",
    State.REMOVE: "removing what was there",
    **dict.fromkeys(_FAILURES, "failed"),
}


class _Bars:
    """How far each file is: a bar each on a terminal, else a line for each change."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = threading.Lock()
        self._said: dict[str, str] = {}
        self._tasks: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._progress: Progress | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw them."""
        if self._screen.console is None:
            yield
            return
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.text import Text

        class Share(ProgressColumn):
            """How much is done and how long the rest takes, while that is known."""

            def render(self, task: Task) -> Text:
                if task.total is None or task.finished or task.stop_time is not None:
                    return Text("")
                left = task.time_remaining
                return Text(f"{task.percentage:3.0f} %" + (f", {duration(left)} left" if left else ""), style="dim")

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[doing]}", markup=False),
            Share(),
            console=self._screen.console,
        )
        with self._progress:
            yield

    def doing(self, name: str, what: str, total: int | None = None) -> None:
        """A new part of the work on a file begins, of so many bytes or of nobody knows how much."""
        with self._lock:
            if self._said.get(name) == what:
                return
            self._said[name] = what
            if self._progress is None:
                with suppress(BrokenPipeError):  # that nobody listens is no reason to stop
                    self._screen.say(f"{name}: {what}")
                    self._screen.stream.flush()
            elif name not in self._tasks:
                label = safe(_ellipsis(os.path.basename(name), 32))
                self._tasks[name] = self._progress.add_task(label, total=total, doing=safe(what))
            else:
                self._progress.reset(self._tasks[name], total=total, doing=safe(what))

    def note(self, name: str, sentence: str) -> None:
        """Something that people should see now; it stays on the screen."""
        with self._lock, suppress(BrokenPipeError):
            self._screen.say(f"{name}: {sentence}")
            self._screen.stream.flush()

    def at(self, name: str, done: int) -> None:
        """So many bytes are done."""
        if self._progress is not None:
            self._progress.update(self._tasks[name], completed=done)

    def ended(self, name: str, errand: _Errand) -> None:
        """Nothing more happens to it."""
        how = "stopped" if errand.status > 128 else "failed"
        how = {FINE: "done", WAITING: "waits for you"}.get(errand.status, how)
        if self._progress is None:
            self.doing(name, how)
        elif name in self._tasks:
            number = self._tasks[name]
            self._progress.stop_task(number)
            if errand.status == FINE:
                self._progress.update(number, total=1, completed=1, doing=how)
            elif self._progress.tasks[number].total is None:
                self._progress.update(number, total=1, completed=0, doing=how)
            else:
                self._progress.update(number, doing=how)

    def follow(self, uploadid: str, name: str) -> None:
        """Show the states of an upload, too."""
        self._names[uploadid] = name

    def hear(self, notice: Notice) -> None:
        """A subscriber."""
        name = self._names.get(notice.uploadid)
        if name is None or notice.task is None or notice.state is State.WAITFORCHUNK:
            return
        if notice.message != notice.task.message:
            return  # a request was refused; whoever made it says so
        if notice.message and notice.state not in _FAILURES:
            self.doing(name, f"tries again: {notice.message}")
        elif due(notice.task) is Trigger.INTEGRATE:
            self.doing(name, "putting it into the library")
        else:
            self.doing(name, _DOING[notice.state])


@define
class _Delivery:
    """A file of the user's, or a folder that becomes one, and what becomes of it.

    Attributes:
        path: Of the file or the folder.
        filename: What it is called as an upload.
        size: Bytes; of a folder those in its files until it is packed.
        contenttype: What it is.
        errand: Its name is the path.
        parts: The files of the folder.
        packed: The folder as an archive, in a nameless file.
    """

    path: str
    filename: str
    size: int
    contenttype: str
    errand: _Errand
    parts: Sequence[folder.Part] = ()
    packed: BinaryIO | None = None

    def run(self, uploads: Uploads | RemoteDesk, stop: _Stop, bars: _Bars, taken: dict[str, str]) -> None:
        """From the file's first byte to wherever it is wanted."""
        errand = self.errand
        try:
            errand.attempt(lambda: self._deliver(uploads, stop, bars, taken))
        finally:
            if self.packed is not None:
                self.packed.close()
        if errand.uploadid:
            errand.look(uploads)
        bars.ended(self.path, errand)

    def _deliver(self, uploads: Uploads | RemoteDesk, stop: _Stop, bars: _Bars, taken: dict[str, str]) -> None:
        errand, options = self.errand, self.errand.call.options
        if self.parts:
            self._pack(stop, bars)
        sha1 = self._hash(stop, bars)
        uploadid = options.id or sha1
        other = taken.setdefault(uploadid, self.path)
        if other != self.path:
            return errand.end(FINE, "same_file", f"It has the same content as {other}, which is on its way.")
        bars.follow(uploadid, self.path)
        there = uploads.find(uploadid)
        if there is not None and there.state is State.REMOVE:
            _work(uploads, uploadid, stop)
        elif there is not None and there.contenttype != self.contenttype:
            raise Duplicate(
                f"It was added before, as {there.contenttype} and not as {self.contenttype}, with the id {uploadid}. "
                f"Remove that first: stagedoor remove {uploadid}. Or give this one another --id."
            )
        offer = Offer(
            uploadid,
            # A name that is no text in this system's encoding has to become some.
            filename=os.fsencode(self.filename).decode("utf-8", "replace"),
            contenttype=self.contenttype,
            mimetype=mimetypes.guess_type(self.filename)[0] or "application/octet-stream",
            filesize=self.size,
            sha1=sha1,
            annotations=errand.annotations,
        )
        if there is None:
            errand.known = uploads.known(sha1)
            for path in errand.known:
                bars.note(self.path, f"You already have this: {path}")
        errand.task = uploads.initiate(offer)
        errand.uploadid = uploadid
        return errand.walk(uploads, stop, lambda task: self._send(uploads, task, stop, bars))

    def _pack(self, stop: _Stop, bars: _Bars) -> None:
        def tick(done: int) -> None:
            bars.at(self.path, done)
            stop.check()

        bars.doing(self.path, "packing", self.size)
        # Beside the uploads, where there must be room for as much again in any case; unless they are somebody else's.
        root = self.errand.call.root
        beside = root if os.access(root, os.W_OK) else None
        self.packed = tempfile.TemporaryFile(dir=beside, prefix=".stagedoor-")  # noqa: SIM115
        folder.pack(self.parts, self.packed, tick)
        self.size = self.packed.tell()

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if self.packed is None:
            with open(self.path, "rb") as file:
                yield file
        else:
            self.packed.seek(0)
            yield self.packed

    def _hash(self, stop: _Stop, bars: _Bars) -> str:
        digest, done = hashlib.sha1(usedforsecurity=False), 0
        bars.doing(self.path, "reading", self.size)
        with self._opened() as file:
            while data := file.read(_CHUNK):
                digest.update(data)
                done += len(data)
                bars.at(self.path, done)
                stop.check()
        return digest.hexdigest()

    def _send(self, uploads: Uploads | RemoteDesk, task: UploadTask, stop: _Stop, bars: _Bars) -> None:
        where = f" from byte {task.offset:,} on" if task.offset else ""
        bars.doing(self.path, f"sending{where}", self.size)
        if isinstance(uploads, RemoteDesk):

            def sent(done: int) -> None:
                bars.at(self.path, done)
                stop.check()

            path = self.path if self.packed is None else f"/proc/self/fd/{self.packed.fileno()}"
            self.errand.task = uploads.send(path, task, sent)
            return
        with self._opened() as file:
            file.seek(task.offset)
            while task.state is State.WAITFORCHUNK and due(task) is None:
                stop.check()
                data = file.read(min(_CHUNK, uploads.settings.max_chunk, self.size - task.offset))
                if not data:
                    raise UploadError(f"{self.path} became shorter while it was sent. Add it again.", code="changed")
                task = self.errand.task = uploads.receive(task.id, offset=task.offset, data=data)
                bars.at(self.path, task.offset)


def _delivery(call: _Call, path: str) -> _Delivery:
    """Look at a file before anything is begun.

    Raises:
        FileNotFoundError: There is none.
        ConfigurationError: It cannot be added like this.
    """
    options = call.options
    found = os.stat(path)
    name = os.path.basename(os.path.abspath(path))
    parts: Sequence[folder.Part] = ()
    contenttype = options.type or contenttype_of(path)
    if stat.S_ISDIR(found.st_mode):
        parts, name, contenttype = folder.parts_of(path), f"{name or 'album'}.zip", options.type or "album"
    elif not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{path} is no regular file.")
    elif not found.st_size:
        raise ConfigurationError(f"{path} is empty.")
    elif contenttype is None:
        raise ConfigurationError(f"{path}: the name does not tell what it is. Say so with --type.")
    errand = _Errand(
        call, path, integrate=not options.plan, imports=options.imports, annotations=dict(options.annotate),
        tags=options.tags,
    )  # fmt: skip
    total = sum(part.size for part in parts) if parts else found.st_size
    return _Delivery(path, name, total, contenttype, errand, parts)


def _add(call: _Call) -> int:
    paths = {os.path.realpath(path): path for path in reversed(call.options.files)}
    deliveries = [_delivery(call, path) for path in reversed(paths.values())]
    if call.options.id and len(deliveries) > 1:
        raise ConfigurationError("--id is for one file.")
    bars = _Bars(call.err)
    taken: dict[str, str] = {}
    with _stoppable(call.err) as stop, call.desk(stop, create=True) as uploads, bars.shown():
        uploads.subscribe(bars.hear)
        with ThreadPoolExecutor(_FILES_AT_ONCE, "stagedoor-add") as pool:
            futures = [pool.submit(d.run, uploads, stop, bars, taken) for d in deliveries]
            # A signal that arrives just before the main thread goes to sleep is handled only when it wakes up.
            while wait(futures, timeout=0.5).not_done:
                pass
            for future in futures:
                future.result()
    errands = [delivery.errand for delivery in deliveries]
    statuses = {errand.status for errand in errands}
    if call.options.json:
        files = [{"file": d.path, **d.errand.document()} for d in deliveries]
        call.out.json({"uploads": call.root, **call.trees, "files": files})
    else:
        _summary(call, errands)
    return max((s for s in statuses if s > 128), default=next((s for s in (4, 2, 3, 1, 5) if s in statuses), FINE))


def _summary(call: _Call, errands: Sequence[_Errand]) -> None:
    for errand in errands:
        errand.report()
    fine = sum(errand.status == FINE for errand in errands)
    if any(errand.task is not None and errand.task.placed for errand in errands):
        call.out.say(f"The library is {call.trees['music']}, its artwork {call.trees['artwork']}.")
    if len(errands) > 1:
        call.out.say(f"{fine} of {count(len(errands), 'file')} went well.")


# ── doctor ────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class _Remark:
    """A sentence of the doctor's."""

    about: str
    level: Level
    sentence: str


def _doctor(call: _Call) -> int:
    remarks = []
    for about, look in (
        ("system", _look_at_system),
        ("uploads directory", _look_at_uploads),
        ("uploads", _look_at_records),
        ("library", _look_at_library),
        ("media", _look_at_media),
    ):
        found = [_Remark(about, level, sentence) for level, sentence in look(call)]
        remarks += found
        if not call.options.json:
            call.out.say(about.capitalize(), "bold")
            for remark in found:
                call.out.sign(remark.level, remark.sentence, indent=2)
    bad = sum(remark.level == "bad" for remark in remarks)
    if call.options.json:
        call.out.json({"ok": not bad, "remarks": [attrs.asdict(remark) for remark in remarks]})
    else:
        call.out.say("It can work." if not bad else f"{count(bad, 'thing')} must be mended.", "bold")
    return FAILED if bad else FINE


_Said: TypeAlias = tuple[Level, str]


def _look_at_system(call: _Call) -> Iterator[_Said]:
    yield (
        "note",
        f"stagedoor {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}.",
    )
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < 1024:
        yield "warn", f"A process may open {most:,} files only; uploads keep two each open. Raise it: ulimit -n 4096."
    if platform.system() != "Linux":
        yield "warn", "Only Linux is tested: locks, links and the sandbox may differ here."


def _look_at_uploads(call: _Call) -> Iterator[_Said]:
    yield from _directory(call.root, "The uploads directory", Settings().free_floor)
    if not os.path.isdir(call.root):
        return
    owner = _owner(call.root)
    if owner is None:
        yield "note", "No process owns it."
    else:
        who = f"Process {owner[0]}" if owner[0] > 0 else "A process that cannot be seen from here"
        what = f": {owner[1]}" if owner[1] else ""
        yield "note", f"{who} owns it{what}. What changes something has to go through that process."


def _directory(path: str, what: str, floor: int) -> Iterator[_Said]:
    """Whether a directory is there, can be written, and has room."""
    if os.path.lexists(path) and not os.path.isdir(path):
        yield "bad", f"{what} {path} is no directory. Move away what is there."
        return
    there = path
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    if not os.access(there, os.W_OK | os.X_OK):
        yield "bad", f"{what} {path} cannot be written by this user ({_user()}). Change who owns {there}."
    found = os.statvfs(there)
    free = found.f_bavail * found.f_frsize
    kind = _file_system(there)
    where = (
        f"{what} is {path} ({kind}, {size(free)} free)."
        if there == path
        else (f"{what} {path} is not there yet; stagedoor add makes it ({kind}, {size(free)} free).")
    )
    if free < floor:
        yield "bad", f"{where} New uploads need {size(floor)} to be left. Free some space."
    else:
        yield ("good" if there == path else "note"), where
    if kind in ("tmpfs", "ramfs"):
        yield "warn", f"{there} is in memory: nothing there survives a power cut."
    if kind.startswith(("nfs", "cifs", "smb", "9p", "fuse")):
        yield "warn", f"{there} is on a {kind} file system: whether locks and syncs keep their promises is up to it."


def _user() -> str:
    return os.environ.get("USER") or f"uid {os.getuid()}"


def _file_system(path: str) -> str:
    """Kind of the file system that a path is on (proc(5), mountinfo)."""
    best = ("", "an unknown file system")
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            front, _, back = line.partition(" - ")
            at = front.split()[4].replace("\\040", " ")
            if f"{os.path.realpath(path)}/".startswith(at.rstrip("/") + "/"):
                best = max(best, (at, back.split()[0]), key=lambda found: len(found[0]))
    return best[1]


def _look_at_records(call: _Call) -> Iterator[_Said]:
    if not os.path.isdir(call.root):
        yield "note", "There are none."
        return
    states: Counter[str] = Counter()
    keys: dict[str, str] = {}
    work = old = 0
    for task in call.records.all():
        states[task.state] += 1
        work += due(task) is not None
        if not task.created:  # of MusicDB 7, with its data elsewhere
            old += 1
        else:
            keys[task.key] = task.id if task.state is not State.REMOVE else ""
    found = ", ".join(f"{number:,} {state}" for state, number in states.items())
    yield "good", f"{count(states.total(), 'upload')}{f': {found}' if found else ''}."
    if old:
        yield "note", f"{count(old, 'upload')} of MusicDB 7 will be taken over by the next start."
    for name, sentence in call.records.unreadable.items():
        yield "bad", f"tasks/{name} is no upload. {sentence} The next start puts it into quarantine."
    owned = _owner(call.root) is not None
    if work and not owned:
        yield "warn", f"{count(work, 'upload')} could go on, but no process owns the directory: stagedoor work."
    disk = _Looking()
    torn = [e.name for e in disk.entries(os.path.join(call.root, "tasks")) if e.name.endswith(".tmp")]
    places = {e.name for e in disk.entries(os.path.join(call.root, "data"))}
    lost, strange = sorted(keys.keys() - places), sorted(places - keys.keys())
    for key in lost:
        if keys[key] and call.records.find(keys[key]) is not None:  # it was not removed meanwhile
            yield "bad", f"The data of upload {keys[key]} is gone: data/{key} is missing."
    for name in (*(f"tasks/{n}" for n in torn), *(f"data/{n}" for n in strange)):
        if owned:
            yield "note", f"{name} may belong to something that is being done."
        else:
            yield "warn", f"{name} is left over; the next start deletes it or puts it into quarantine."
    held = disk.entries(os.path.join(call.root, "quarantine"))
    if held:
        keep = duration(Settings().quarantine)
        yield "note", f"{count(len(held), 'thing')} in quarantine ({call.root}/quarantine), each kept for {keep}."
    elif not (torn or lost or strange):
        yield "good", "Nothing is left over, and nothing is in quarantine."


def _look_at_library(call: _Call) -> Iterator[_Said]:
    for name, path in call.trees.items():
        yield from _directory(path, f"The {name} directory", 0)
        if os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
            yield from _abilities(name, path)
            found = _Looking().entries(os.path.join(path, ".stagedoor"))
            hidden = [entry for entry in found if not entry.name.endswith(".kept")]  # those are looked at below
            if hidden and _owner(call.root) is None:
                yield (
                    "warn",
                    f"{path}/.stagedoor has {count(len(hidden), 'upload')} half placed; the next start goes on.",
                )
    try:
        for at, was in _orphans(call):
            yield "bad", _homeless(at, was)
    except StorageError as error:
        yield "warn", f"Whether lost uploads have replaced files is not known. {error.sentence}"
    catalogue = os.path.join(call.root, "catalogue.sqlite")
    if os.path.exists(catalogue):
        yield "good", f"The music database is {catalogue} ({size(os.path.getsize(catalogue))})."
    elif os.path.isdir(call.root):
        yield "note", f"There is no music database {catalogue} yet; it is made when it is needed."


def _orphans(call: _Call) -> Sequence[tuple[str, str]]:
    """What was replaced for uploads that are lost: where it is, and the name that it had."""
    trees = [LocalTree(name, path, "none", _Looking()) for name, path in call.trees.items() if os.path.isdir(path)]
    found: list[tuple[str, str]] = []
    for _ in range(2 if os.path.isdir(call.root) else 0):  # a server may have been at work between the two looks
        known = {task.uid for task in call.records.all()}
        before = found
        found = [
            (os.path.join(tree.root, file.at), os.path.join(tree.root, file.path) if file.path else "")
            for tree in trees
            for files in tree.kept(known).values()
            for file in files
        ]
        if not found:
            break
    return [orphan for orphan in found if orphan in before] if found else ()


def _homeless(at: str, path: str) -> str:
    name = f"it was {path}" if path else "the name that it had is not on record"
    return f"{at} was replaced by an upload that is lost; {name}. Put it back by hand, or delete it."


def _abilities(name: str, root: str) -> Iterator[_Said]:
    """Try, in a hidden directory that goes again, what a file system must be able to do for a library."""
    disk = Disk()
    place = os.path.join(root, f".stagedoor-doctor-{os.getpid()}")
    try:
        os.mkdir(place)
        try:
            one, two, three = (os.path.join(place, n) for n in ("one", "two", "three"))
            for path in (one, three):
                disk.close(disk.open(path, create=True))
            links = disk.link(one, two)
            renames = _never_replaces(disk, one, three)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        yield "bad", f"{error.strerror} in {root}: nothing can be placed there."
        return
    if links:
        yield "good", f"The {name} directory has hard links: a file appears whole, and never replaces another."
    elif renames:
        yield "good", f"The {name} directory has no hard links, but a rename that never replaces; that is used."
    else:
        yield (
            "bad",
            f"The {name} directory has neither hard links nor a rename that never replaces. Choose another one.",
        )
    if links and not renames:
        yield "note", f"The {name} directory has no rename that never replaces; it is not needed where there are links."


def _never_replaces(disk: Disk, source: str, taken: str) -> bool:
    try:
        disk.rename_exclusive(source, taken)
    except OSError as error:
        return error.errno == errno.EEXIST
    return False


def _look_at_media(_: _Call) -> Iterator[_Said]:
    missing = []
    for package in ("av", "pillow", "filetype"):
        try:
            yield "good", f"{package} {version(package)} is installed."
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        yield "bad", f"{', '.join(missing)} missing: no file can be looked at. pip install 'stagedoor[media]'"
        return
    from .content.decoding import Decoder

    with Decoder() as decoder:
        try:
            box = decoder.sandbox()
        except UploadError as error:
            yield "bad", error.sentence
            return
    if box.landlock:
        yield "good", f"Decoders are locked in by Landlock (version {box.landlock}): they can open no file."
    else:
        yield "warn", "This kernel has no Landlock: decoders are held in by the other walls only."
    for walls, fine, wanting in (
        (box.seccomp, "Decoders may make few system calls only (seccomp).", "Decoders run without seccomp."),
        (box.no_capabilities and box.no_new_privileges, "Decoders have no privileges.", "Decoders keep privileges."),
    ):
        yield ("good", fine) if walls else ("warn", wanting)
    yield "good", f"A decoder may use {size(box.memory)} of memory."


# ── completion ────────────────────────────────────────────────────────────────────────────────────────────────

_BASH: Final = """\
# stagedoor completion; in ~/.bashrc: eval "$(stagedoor completion bash)"
_stagedoor() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command= word n
    local -a data=()
    for ((n = 1; n < COMP_CWORD; n++)); do
        word=${{COMP_WORDS[n]}}
        case $word in
            --data) data=(--data "${{COMP_WORDS[n+1]}}") ;;
            {commands}) [[ -n $command ]] || command=$word ;;
        esac
    done
    case $previous in
{values}
        --data|--music|--artwork) COMPREPLY=($(compgen -d -- "$current")); return ;;
    esac
    case $command:$current in
        :*) COMPREPLY=($(compgen -W "{words} {options}" -- "$current")) ;;
{flags}
        completion:*) COMPREPLY=($(compgen -W "bash zsh fish" -- "$current")) ;;
        {takers}) COMPREPLY=($(compgen -W "$(stagedoor "${{data[@]}}" list --quiet 2>/dev/null)" -- "$current")) ;;
        *) COMPREPLY=($(compgen -f -- "$current")) ;;
    esac
}}
complete -o filenames -F _stagedoor stagedoor
"""

_ZSH: Final = """\
# stagedoor completion; in ~/.zshrc: eval "$(stagedoor completion zsh)"
autoload -Uz compinit bashcompinit
(( $+functions[compdef] )) || compinit
bashcompinit
"""


def _completion(call: _Call) -> int:
    parser = _parser()
    commands = _commands(parser)
    if call.options.shell == "fish":
        call.out.raw("\n".join(_fish(parser, commands)))
        return FINE
    names = "|".join(commands)
    values: dict[str, dict[str, None]] = {}
    for command in (parser, *commands.values()):
        for action in command._actions:
            for option in action.option_strings if action.choices else ():
                values.setdefault(option, {}).update(dict.fromkeys(map(str, action.choices or ())))
    script = _BASH.format(
        commands=names,
        words=" ".join(commands),
        options=" ".join(_options(parser)),
        values="\n".join(
            f'        {o}) COMPREPLY=($(compgen -W "{" ".join(v)}" -- "$current")); return ;;'
            for o, v in values.items()
        ),
        flags="\n".join(
            f'        {name}:-*) COMPREPLY=($(compgen -W "{" ".join(_options(command))}" -- "$current")) ;;'
            for name, command in commands.items()
        ),
        takers="|".join(f"{name}:*" for name, command in commands.items() if _takes_id(command)),
    )
    call.out.raw(script if call.options.shell == "bash" else _ZSH + script)
    return FINE


def _fish(parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield "# stagedoor completion; stagedoor completion fish > ~/.config/fish/completions/stagedoor.fish"
    yield "complete -c stagedoor -f"
    seen = f"__fish_seen_subcommand_from {' '.join(commands)}"
    for name, command in commands.items():
        yield f"complete -c stagedoor -n 'not {seen}' -a {name} -d {_fish_text(command.description or '')}"
    for name, command in (("", parser), *commands.items()):
        when = f"__fish_seen_subcommand_from {name}" if name else f"not {seen}"
        for action in command._actions:
            words = [f"{'-l' if o.startswith('--') else '-s'} {o.lstrip('-')}" for o in action.option_strings]
            if words and action.help is not argparse.SUPPRESS:
                value = " -x" if action.choices else " -r -F" if action.nargs != 0 else ""
                choices = f" -a {_fish_text(' '.join(map(str, action.choices)))}" if action.choices else ""
                yield f"complete -c stagedoor -n '{when}' {' '.join(words)}{value}{choices}"
        if _takes_id(command):
            yield f"complete -c stagedoor -n '{when}' -a '(stagedoor list --quiet 2>/dev/null)'"
        elif name in ("add", "upload"):
            yield f"complete -c stagedoor -n '{when}' -F"


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    choices = next(a.choices for a in parser._actions if isinstance(a.choices, dict))
    return cast("Mapping[str, argparse.ArgumentParser]", choices)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [o for a in parser._actions for o in a.option_strings if o.startswith("--")]


def _takes_id(parser: argparse.ArgumentParser) -> bool:
    return any(action.dest == "id" and not action.option_strings for action in parser._actions)


# ── the parser ────────────────────────────────────────────────────────────────────────────────────────────────

_EXITS: Final = """\
exit codes: 0 fine, 1 failed or refused, 2 usage or configuration, 3 not found, 4 the uploads directory is in use,
5 somebody has to say something first (an annotation is missing, a question is open), 130 stopped by Ctrl-C
"""


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="stagedoor",
        description="Uploads into a music server: every file goes through one life cycle, durably.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"stagedoor {__version__}")
    _common(top, defaults=True)
    top.set_defaults(run=lambda call: _no_command(top))
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, run: Callable[[_Call], int], sentence: str, arguments: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=sentence, description=sentence, usage=f"stagedoor {name} [options] {arguments}".rstrip()
        )
        if arguments.startswith("ID"):
            made.add_argument("id", metavar="ID", type=_id, help="the upload: its id, or enough of its beginning")
        _common(made, defaults=False)
        made.set_defaults(run=run)
        return made

    def changing(name: str, run: Callable[[_Call], int], sentence: str, arguments: str) -> argparse.ArgumentParser:
        made = command(name, run, sentence, arguments)
        made.add_argument(
            "--key-file", metavar="FILE",
            help="a file with the API key, for a server that owns the uploads directory (or $STAGEDOOR_KEY)",
        )  # fmt: skip
        return made

    add = changing("add", _add, "Bring files into the library.", "FILE…")
    add.add_argument(
        "files", nargs="+", metavar="FILE",
        help="a video, an album (an archive, a song, or a folder of songs) or a picture",
    )  # fmt: skip
    add.add_argument(
        "--annotate", action="append", default=[], type=_pair, metavar="KEY=VALUE",
        help="what is to be known of it: artistname, name, release …; may be repeated",
    )  # fmt: skip
    add.add_argument("--tags", action="store_true", help="take what is missing from the file's own tags")
    add.add_argument(
        "--plan", action="store_true", help="show where it would go, and stop before the library is touched"
    )
    add.add_argument(
        "--import", dest="imports", action=argparse.BooleanOptionalAction, default=True,
        help="tell the music database and make the artwork, too (the default)",
    )  # fmt: skip
    add.add_argument("--id", type=_id, help="the upload's id; the SHA-1 of the file when not given")
    add.add_argument("--type", metavar="TYPE", help="video, album, artwork; by the extension when not given")

    every = command("list", _list, "List the uploads.")
    every.add_argument(
        "--state", action="append", choices=[s.value for s in State if s is not State.NOTEXISTING],
        help="those in this state only; may be repeated",
    )  # fmt: skip
    every.add_argument("-q", "--quiet", action="store_true", help="ids only, one a line")
    command("show", _show, "Show everything that is on record about an upload.", "ID")
    command("explain", _explain, "Say why an upload is where it is, what happens next, and what may be done.", "ID")
    command("history", _history, "Show what happened to an upload.", "ID")
    command("replay", _replay, "Check that an upload's history can have happened.", "ID")
    command("plan", _plan, "Show where an upload's files would go, or went.", "ID")
    annotate = changing("annotate", _annotate, "Say something about an upload.", "ID KEY=VALUE…")
    annotate.add_argument("annotation", nargs="+", type=_pair, metavar="KEY=VALUE", help="artistname, name, release …")
    changing("integrate", _integrate, "Put an upload into the library, without importing it.", "ID")
    changing("import", _import, "Put an upload into the library, if it is not there, and import it.", "ID")
    changing("retry", _retry, "Try again what failed.", "ID")
    undo = changing("undo", _undo, "Take an upload back out of library and music database.", "ID")
    undo.add_argument("--missing", action="store_true", help="its files are gone from the library, and that is right")
    command("work", _work_all, "Do everything that is due, remove what has expired, and stop.")
    changing(
        "remove",
        _remove,
        "Remove an upload; what it put into the library stays there, what it replaced there is deleted.",
        "ID",
    )

    command("verify", _verify, "Put the life cycle on trial: all cases, and all mistakes.")
    diagram = command("diagram", _diagram, "Draw the life cycle.")
    diagram.add_argument("--format", choices=_FORMATS, help="by the name of the output when not given, else dot")
    diagram.add_argument("--task", dest="id", type=_id, metavar="ID", help="show where this upload stands")
    diagram.add_argument("-o", "--output", metavar="FILE", help="where to write it")
    table = command("table", _table, "Print the table of the life cycle.")
    table.add_argument("--format", choices=("markdown", "json"), help="markdown when not given")
    command("doctor", _doctor, "Look whether everything here can work.")
    shell = command("completion", _completion, "Print a script that completes commands in a shell.", "bash|zsh|fish")
    shell.add_argument("shell", choices=("bash", "zsh", "fish"))
    for module in (serving, uploading):
        module.register(command)
    return top


def _common(parser: argparse.ArgumentParser, *, defaults: bool) -> None:
    """Options that may stand before the command and behind it; the defaults belong to the place in front."""
    group = parser.add_argument_group("common options")

    def add(*names: str, default: object, **how: Any) -> None:
        usual = Usual(default) if isinstance(default, str) else default
        group.add_argument(*names, default=usual if defaults else argparse.SUPPRESS, **how)

    env = os.environ.get
    add(
        "--data",
        default=env("STAGEDOOR_DATA") or "uploads",
        metavar="DIR",
        help="uploads directory ($STAGEDOOR_DATA, or uploads)",
    )
    add(
        "--music",
        default=env("STAGEDOOR_MUSIC") or "Music",
        metavar="DIR",
        help="the library ($STAGEDOOR_MUSIC, or Music)",
    )
    add(
        "--artwork", default=env("STAGEDOOR_ARTWORK"), metavar="DIR",
        help="its artwork ($STAGEDOOR_ARTWORK, or artwork beside the uploads directory)",
    )  # fmt: skip
    add(
        "--naming", default=env("STAGEDOOR_NAMING") or "musicdb", metavar="SCHEME",
        help="how files are named: musicdb, navidrome, beets, jellyfin ($STAGEDOOR_NAMING, or musicdb)",
    )  # fmt: skip
    add("--durability", default="power", choices=_DURABILITIES, help="what an acknowledgement survives (power)")
    add("--json", default=False, action="store_true", help="for scripts: one JSON document")
    add("-v", "--verbose", default=False, action="store_true", help="say what the library logs")


def _no_command(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return USAGE


def _id(given: str) -> str:
    try:
        return check_id(given)
    except UploadError as error:
        raise argparse.ArgumentTypeError(safe(error.sentence)) from None


def _pair(given: str) -> tuple[str, JSON]:
    key, sign, value = given.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"{safe(given)!r} is not KEY=VALUE")
    if value.startswith("{"):  # as in tracks={"3": {"skip": true}}
        with suppress(ValueError):
            return key, json.loads(value)
    return key, value
