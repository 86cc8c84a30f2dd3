"""``stagedoor add``: files and folders, from their first byte to wherever they are wanted."""

from __future__ import annotations

import argparse
import hashlib
import mimetypes
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from attrs import define

from ..engine import Uploads
from ..errors import ConfigurationError, Duplicate, UploadError
from ..explain import count, duration
from ..lifecycle import FAILURE_STATES, State, Trigger, due
from ..notices import Notice
from ..protocols.offers import contenttype_of
from ..tasks import Offer, UploadTask
from . import FINE, WAITING, folder
from .call import Call, a_pair, an_id
from .change import Errand, changing, work_on
from .desk import RemoteDesk
from .screen import Screen, ellipsis, safe
from .stopping import Stop, stoppable

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["register"]

_CHUNK: Final = 4 << 20
_FILES_AT_ONCE: Final = 4
_DOING: Final[Mapping[State, str]] = {
    State.WAITFORCHUNK: "sending",
    State.UPLOADCOMPLETE: "looking at the content",
    State.PREPROCESSED: "accepted",
    State.INTEGRATED: "in the library",
    State.STARTIMPORT: "importing",
    State.IMPORTARTWORK: "making the artwork",
    State.IMPORTCOMPLETE: "imported",
    State.REMOVE: "removing what was there",
    **dict.fromkeys(FAILURE_STATES, "failed"),
}


def register(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to a parser."""
    add = changing(command, "add", _add, "Bring files into the library.", "FILE…")
    add.add_argument(
        "files", nargs="+", metavar="FILE",
        help="a video, an album (an archive, a song, or a folder of songs) or a picture",
    )  # fmt: skip
    add.add_argument(
        "--annotate", action="append", default=[], type=a_pair, metavar="KEY=VALUE",
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
    add.add_argument("--id", type=an_id, help="the upload's id; the SHA-1 of the file when not given")
    add.add_argument("--type", metavar="TYPE", help="video, album, artwork; by the extension when not given")


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
                label = safe(ellipsis(os.path.basename(name), 32))
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

    def ended(self, name: str, errand: Errand) -> None:
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
        if notice.message and notice.state not in FAILURE_STATES:
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
    errand: Errand
    parts: Sequence[folder.Part] = ()
    packed: BinaryIO | None = None

    def run(self, uploads: Uploads | RemoteDesk, stop: Stop, bars: _Bars, taken: dict[str, str]) -> None:
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

    def _deliver(self, uploads: Uploads | RemoteDesk, stop: Stop, bars: _Bars, taken: dict[str, str]) -> None:
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
            work_on(uploads, uploadid, stop)
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

    def _pack(self, stop: Stop, bars: _Bars) -> None:
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

    def _hash(self, stop: Stop, bars: _Bars) -> str:
        digest, done = hashlib.sha1(usedforsecurity=False), 0
        bars.doing(self.path, "reading", self.size)
        with self._opened() as file:
            while data := file.read(_CHUNK):
                digest.update(data)
                done += len(data)
                bars.at(self.path, done)
                stop.check()
        return digest.hexdigest()

    def _send(self, uploads: Uploads | RemoteDesk, task: UploadTask, stop: Stop, bars: _Bars) -> None:
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


def _delivery(call: Call, path: str) -> _Delivery:
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
    errand = Errand(
        call, path, integrate=not options.plan, imports=options.imports, annotations=dict(options.annotate),
        tags=options.tags,
    )  # fmt: skip
    total = sum(part.size for part in parts) if parts else found.st_size
    return _Delivery(path, name, total, contenttype, errand, parts)


def _add(call: Call) -> int:
    paths = {os.path.realpath(path): path for path in reversed(call.options.files)}
    deliveries = [_delivery(call, path) for path in reversed(paths.values())]
    if call.options.id and len(deliveries) > 1:
        raise ConfigurationError("--id is for one file.")
    bars = _Bars(call.err)
    taken: dict[str, str] = {}
    with stoppable(call.err) as stop, call.desk(stop, create=True) as uploads, bars.shown():
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


def _summary(call: Call, errands: Sequence[Errand]) -> None:
    for errand in errands:
        errand.report()
    fine = sum(errand.status == FINE for errand in errands)
    if any(errand.task is not None and errand.task.placed for errand in errands):
        call.out.say(f"The library is {call.trees['music']}, its artwork {call.trees['artwork']}.")
    if len(errands) > 1:
        call.out.say(f"{fine} of {count(len(errands), 'file')} went well.")
