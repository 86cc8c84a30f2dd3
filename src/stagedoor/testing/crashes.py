"""Real uploads in a process of its own, and what it told: for crashes that are real.

A `Scene` is what five uploads do: they are sent, integrated, imported, taken back, put in the place of another one's
file, removed. Who plays it needs no memory: what is to be done next stands in the uploads themselves, so it can be
played on after any crash. A `Stage` is a process that plays scenes, and tells a `Ledger` in *this* process each thing
that was acknowledged. Then somebody takes its disk away (`stagedoor.testing.kernel`), or kills it::

    with Theatre() as theatre:
        ledger = Ledger(scenes_of("a", 3))
        stage = theatre.perform(root, ledger)
        stage.listen(lambda: ledger.lines >= 40)
        ...                                   # crash
        stage.leave()
        with open_uploads(root) as uploads:
            assert ledger.check(uploads, root) == []
            play(uploads, ledger)             # on to the end
            assert ledger.check_end(uploads, root) == []

The engine is the one of `Uploads.open`, with the catalogue in SQLite; its content is that of
`stagedoor.testing.content`, which needs no decoders. ``open_uploads`` can be one of your own.
"""

from __future__ import annotations

import array
import hashlib
import json
import logging
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from attrs import define, field, frozen

from ..adapters.inprocess import InlineBus
from ..adapters.local import Durability
from ..engine import Uploads
from ..errors import UploadError
from ..library.catalogue import Catalogue
from ..lifecycle import FAILURE_STATES, State, Trigger, due
from ..notices import Notice
from ..settings import Settings
from ..tasks import Offer, UploadTask
from ..verify import replay
from .content import PlainContent

__all__ = [
    "Actor",
    "Fate",
    "Ledger",
    "Part",
    "Scene",
    "Stage",
    "Theatre",
    "open_uploads",
    "play",
    "scenes_of",
]

S: Final = State
Fate: TypeAlias = Literal["keep", "again", "left", "stop", "replace"]
Hold: TypeAlias = Literal["start", "play"]
Tell: TypeAlias = Callable[[Mapping[str, object]], None]
_OUT: Final = (S.WAITFORCHUNK, S.UPLOADCOMPLETE, S.PREPROCESSED)
_IN: Final = (S.INTEGRATED, S.STARTIMPORT, S.IMPORTARTWORK, S.IMPORTCOMPLETE)
_ROUNDS: Final = 400
"""Steps that one upload needs at most before it is where it should be."""
_ATTEMPTS: Final = 40
"""Steps of the worker that are waited for before somebody gives up for now."""
_HANGS: Final = 60.0
"""Seconds after which a process that says nothing counts as hanging."""


# ── what uploads do ───────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Part:
    """What one upload does, and what it is; all of it follows from its id.

    Attributes:
        id: The upload's.
        scene: Whose part it is; also the artist in the library.
        fate: ``keep``: goes into the library and stays. ``again``: goes in, is taken back, goes in again.
            ``left``: goes in, and the upload is removed; its file stays. ``stop``: is sent by half, and removed.
            ``replace``: takes the place of the file of ``keep``, is taken back, and removed.
        size: In bytes.
    """

    id: str
    scene: str
    fate: Fate
    size: int

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return random.Random(self.id).randbytes(self.size)  # noqa: S311  # not for secrets

    @property
    def path(self) -> str:
        """Where it is in the music directory."""
        return f"{self.scene}/{'keep' if self.fate == 'replace' else self.fate}.mp4"

    @property
    def goes(self) -> bool:
        """Whether it is removed at the end."""
        return self.fate in ("left", "stop", "replace")


@frozen
class Scene:
    """Five uploads of one client, one after another."""

    name: str
    parts: Sequence[Part]


def scenes_of(
    name: str, count: int, *, largest: int = 120_000, fates: Sequence[Fate] = get_args(Fate)
) -> Sequence[Scene]:
    """Some scenes; ``name`` says which, and they are the same for the same one.

    Args:
        name: Letters and digits.
        count: How many.
        largest: Size of the largest upload in bytes.
        fates: What its uploads do, in their order.
    """
    chance = random.Random(name)  # noqa: S311  # not for secrets
    return tuple(
        Scene(
            f"{name}x{number}",
            [Part(f"{name}x{number}-{fate}", f"{name}x{number}", fate, chance.randint(1, largest)) for fate in fates],
        )
        for number in range(count)
    )


def open_uploads(
    root: Path, durability: Durability = "power", subscriber: Callable[[Notice], None] | None = None
) -> Uploads:
    """The engine in a directory, as `Uploads.open` makes it; ``subscriber`` hears everything from the start on."""
    bus = InlineBus()
    if subscriber is not None:
        bus.subscribe(subscriber)
    return Uploads.open(
        root / "uploads",
        music=root / "Music",
        artwork=root / "artwork",
        contents=[PlainContent()],
        durability=durability,
        settings=Settings(backoff=0.0, free_floor=0),
        bus=bus,
    )


class Actor:
    """Plays parts on an engine, from wherever they stand.

    Args:
        uploads: The engine.
        ending: Ids of uploads whose removal was wanted before; those that are not there are done.
        tell: Hears what was acknowledged, and what is about to be wanted.
        patience: How many errors of one part are borne by asking again.
    """

    def __init__(self, uploads: Uploads, ending: Sequence[str], tell: Tell, *, patience: int = 0) -> None:
        self.uploads, self.tell = uploads, tell
        self._ending = set(ending)
        self._patience = patience

    def play(self, part: Part) -> None:
        """All of it, or what is left.

        Raises:
            UploadError: Of the engine.
        """
        errors = 0
        while True:
            try:
                self._play(part)
            except UploadError as error:
                self.tell({"error": error.code, "id": part.id, "sentence": error.sentence})
                errors += 1
                if errors > self._patience:
                    raise
            else:
                self.tell({"done": part.id})
                return

    def _play(self, part: Part) -> None:
        if part.id in self._ending:
            self._remove(part)
            return
        self._work(part)  # an undo that was begun ends before anybody asks whether there was one
        if part.fate == "stop":
            self._reach(part, S.WAITFORCHUNK)
            self._remove(part)
            return
        if not self._was_undone(part) or part.fate == "again":
            self._reach(part, S.IMPORTCOMPLETE)
        if part.fate in ("again", "replace"):
            if not self._was_undone(part):
                self.uploads.undo(part.id)
            self._reach(part, S.IMPORTCOMPLETE if part.fate == "again" else S.PREPROCESSED)
        if part.goes:
            self._remove(part)

    def _work(self, part: Part) -> None:
        task = None
        for _ in range(_ATTEMPTS):
            task = self.uploads.find(part.id)
            if task is None or due(task) is None:
                return
            self.uploads.perform(part.id)
        raise UploadError(f"It does not come to rest: {task and task.message}", code=task.code if task else None)

    def _was_undone(self, part: Part) -> bool:
        task = self.uploads.find(part.id)
        return task is not None and any(event.trigger == Trigger.UNDO for event in task.history)

    def _reach(self, part: Part, goal: State) -> None:
        """Whatever is next, until the upload rests where it should."""
        failures = attempts = 0
        for _ in range(_ROUNDS):
            task = self.uploads.find(part.id)
            if task is None:
                self.uploads.initiate(_offer(part))
            elif due(task) is not None:
                attempts += 1
                if attempts > _ATTEMPTS:
                    raise UploadError(f"It stays {task.state}: {task.message}", code=task.code)
                self.uploads.perform(part.id)
            elif task.state in FAILURE_STATES:
                failures += 1
                if failures > self._patience:
                    raise UploadError(f"It is {task.state}: {task.message}", code=task.code)
                self.uploads.retry(part.id)
            elif task.state is S.WAITFORCHUNK:
                if goal is S.WAITFORCHUNK and task.offset >= part.size // 2:
                    return
                self._send(part, task)
            elif task.state is goal:
                return
            elif task.state is S.PREPROCESSED:
                if part.fate == "replace" and "answers.destination_exists" not in task.annotations:
                    self.uploads.annotate(part.id, {"answers.destination_exists": "replace"})
                self.uploads.request(part.id, trigger_import=True)
            else:
                raise AssertionError(f"{part.id} should be {goal}, and is {task.state}: {task.message}")
        raise AssertionError(f"{part.id} does not get to {goal}; it is {self.uploads.find(part.id)}")

    def _send(self, part: Part, task: UploadTask) -> None:
        if not task.offset and "name" not in task.annotations:
            self.uploads.annotate(part.id, {"artistname": part.scene, "name": part.path.split("/")[1][:-4]})
        at, data = task.offset, part.data
        chance = random.Random(f"{part.id} {at}")  # noqa: S311  # not for secrets
        # The first byte alone: of a file of one byte, half is nothing.
        most = part.size if part.fate != "stop" else max(at + 1, part.size * 3 // 4)
        piece = chance.randint(1, max(1, part.size // 3))
        if chance.random() < 0.5:
            task = self.uploads.receive(part.id, offset=at, data=data[at : min(most, at + piece)])
        else:  # as the body of a request brings it
            inflow = self.uploads.inflow(part.id, offset=at)
            for _ in range(chance.randint(1, 5)):
                inflow.write(data[inflow.offset : min(most, inflow.offset + piece)])
                if inflow.offset == most:
                    break
                if chance.random() < 0.5:
                    self._acknowledged(inflow.commit())
            task = inflow.finish()
        self._acknowledged(task)

    def _acknowledged(self, task: UploadTask) -> None:
        self.tell(_told(task))

    def _remove(self, part: Part) -> None:
        task = self.uploads.find(part.id)
        if task is not None:
            self.tell({"ending": part.id})
            self._ending.add(part.id)
            if task.state is not S.REMOVE:
                self.uploads.remove(part.id)
            self.uploads.perform(part.id)
        self.tell({"gone": part.id})


def _offer(part: Part) -> Offer:
    sha1 = hashlib.sha1(part.data, usedforsecurity=False).hexdigest()
    return Offer(part.id, filename="clip.mp4", contenttype="video", filesize=part.size, sha1=sha1)


def _told(task: UploadTask, *, notice: bool = False) -> Mapping[str, object]:
    return {
        "notice": notice,
        "id": task.id,
        "uid": task.uid,
        "state": task.state,
        "revision": task.revision,
        "offset": task.offset,
        "generation": task.generation,
    }


# ── what was told ─────────────────────────────────────────────────────────────────────────────────────────────


@define
class _Told:
    """What was told last of an upload."""

    uid: str
    state: str
    revision: int
    offset: int
    generation: int


@define
class Ledger:
    """What a process told, kept where its crash cannot reach, and what has to be true therefore.

    Attributes:
        scenes: What it plays.
        told: What was told last of each upload.
        ending: Uploads whose removal was wanted.
        gone: Uploads whose removal was acknowledged.
        done: Parts that were played to their end.
        errors: Codes of the engine's errors, in their order.
        sentences: Of them.
        wrong: What the process itself found wrong.
        lines: How much was told.
        may_fail: Whether an upload may be in a failure state: only after a failing disk.
        interrupted: How often the process was stopped by force since an upload came to its state. A step that was
            interrupted each time it was tried has failed in the end, and may.
        down: The disk is being taken away. What is told from now on does not count as acknowledged: after a power cut
            nobody would have heard it, and a sync that the kernel has begun by then may return without an error.
        late: How much was told of all the same.
    """

    scenes: Sequence[Scene]
    told: dict[str, _Told] = field(factory=dict)
    ending: set[str] = field(factory=set)
    gone: set[str] = field(factory=set)
    done: set[str] = field(factory=set)
    errors: list[str] = field(factory=list)
    sentences: list[str] = field(factory=list)
    wrong: list[str] = field(factory=list)
    lines: int = 0
    may_fail: bool = False
    interrupted: dict[str, int] = field(factory=dict)
    down: bool = False
    late: int = 0
    _heard: dict[str, _Told] = field(factory=dict, repr=False)
    _lock: threading.Lock = field(factory=threading.Lock, repr=False)

    def take(self, line: Mapping[str, Any]) -> None:
        """Something was told."""
        with self._lock:
            self.lines += 1
            if self.down:
                self.late += not {"ending", "error", "wrong"} & line.keys()
                if {"gone", "done", "revision"} & line.keys():
                    return
            match line:
                case {"error": str(code), "sentence": str(sentence)}:
                    self.errors.append(code)
                    self.sentences.append(f"{line['id']}: {sentence}")
                case {"ending": str(uploadid)}:
                    self.ending.add(uploadid)
                case {"gone": str(uploadid)}:
                    self.gone.add(uploadid)
                case {"done": str(uploadid)}:
                    self.done.add(uploadid)
                case {"wrong": str(sentence)}:
                    self.wrong.append(sentence)
                case {"id": str(uploadid)}:
                    self._take_told(uploadid, line)

    def crashed(self) -> None:
        """The process was stopped by force, with whatever it was doing."""
        for uploadid in self.told:
            self.interrupted[uploadid] = self.interrupted.get(uploadid, 0) + 1

    def _take_told(self, uploadid: str, line: Mapping[str, Any]) -> None:
        now = _Told(*(line[name] for name in ("uid", "state", "revision", "offset", "generation")))
        was = self.told.get(uploadid)
        if was is None or was.uid != now.uid or (now.revision, now.offset) >= (was.revision, was.offset):
            self.told[uploadid] = now
            if now.state not in FAILURE_STATES and (was is None or was.state != now.state):
                self.interrupted[uploadid] = 0
        # A notice may come after the answer to what it tells of; of notices, each is later than the one before.
        heard = self._heard.get(now.uid)
        if line["notice"]:
            if heard is not None and (heard.revision, heard.offset) > (now.revision, now.offset):
                self.wrong.append(f"{uploadid}: a notice says {now} after {heard}")
            self._heard[now.uid] = now

    @property
    def parts(self) -> Mapping[str, Part]:
        """All parts, by the upload's id."""
        return {part.id: part for scene in self.scenes for part in scene.parts}

    @property
    def finished(self) -> bool:
        """Whether every part was played to its end."""
        return self.done >= self.parts.keys()

    def check(self, uploads: Uploads, root: Path) -> list[str]:
        """What is not as it was promised, right after a start; nothing, it is to be hoped."""
        return [*self._check(uploads, root)]

    def _check(self, uploads: Uploads, root: Path) -> Iterator[str]:
        if uploads.recovery.lost:
            yield f"the start found lost data: {dict(uploads.recovery.lost)}"
        yield from (f"the process: {sentence}" for sentence in self.wrong)
        tasks, parts = {task.id: task for task in uploads.tasks()}, self.parts
        for uploadid in self.told.keys() - tasks.keys() - self.ending:
            yield f"{uploadid} is gone; {self.told[uploadid]} was told"
        for uploadid in self.gone & tasks.keys():
            yield f"{uploadid} is back; its removal was acknowledged"
        for uploadid, task in tasks.items():
            if uploadid not in parts:
                yield f"{uploadid} was never offered"
                continue
            yield from self._check_task(uploads, task, parts[uploadid])
        yield from self._check_library(uploads, root, tasks)
        yield from (f"{path} belongs to nobody" for path in _strangers(root, tasks.values()))

    def _check_task(self, uploads: Uploads, task: UploadTask, part: Part) -> Iterator[str]:
        told = self.told.get(task.id)
        if told is not None and told.uid == task.uid:
            if task.revision < told.revision:
                yield f"{task.id} is at revision {task.revision}; {told} was told"
            if task.revision == told.revision and task.state != told.state:
                yield f"{task.id} is {task.state}; {told} was told"
            if task.state is S.WAITFORCHUNK and task.key.endswith(f".{told.generation}") and task.offset < told.offset:
                yield f"{task.id} has lost acknowledged bytes: it is at {task.offset}; {told} was told"
        yield from (f"{task.id}: {sentence}" for sentence in replay(task))
        if task.state in FAILURE_STATES:
            tried = self.interrupted.get(task.id, 0)
            if not self.may_fail and not (task.code == "gave_up" and tried >= uploads.settings.attempts):
                yield f"{task.id} is {task.state}: {task.message}"
            if task.state is S.UPLOADFAILED:
                return
        if task.state is S.REMOVE:
            return
        try:
            with uploads.ports.bytes.open(task.key) as file:
                stored = file.read()
        except UploadError as error:
            yield f"{task.id} is {task.state}, and its bytes cannot be read: {error.sentence}"
            return
        if stored[: task.offset] != part.data[: task.offset]:
            yield f"{task.id}: the {task.offset} bytes on record are not those that were sent"
        if task.state is not S.WAITFORCHUNK and stored != part.data:
            yield f"{task.id} is {task.state}, and its {len(stored)} bytes are not those that were sent"

    def _check_library(self, uploads: Uploads, root: Path, tasks: Mapping[str, UploadTask]) -> Iterator[str]:
        for path, data in _files(root / "Music").items():
            owners = [part for part in self.parts.values() if part.path == path and part.data == data]
            if not owners and not path.startswith(".stagedoor/"):
                yield f"{path} in the library is not whole, or nobody's"
            for part in owners:
                task = tasks.get(part.id)
                if task is None and part.fate != "left":
                    yield f"{path} is in the library, and {part.id} is removed"
                if task is not None and task.state in _OUT and due(task) is None:
                    yield f"{path} is in the library, and {part.id} is {task.state}"
        for part in self.parts.values():
            task = tasks.get(part.id)
            other = tasks.get(f"{part.scene}-replace")
            inside = self._rests(task, _IN) or (part.fate == "left" and part.id in self.gone)
            # While it is taken out by an undo, the name may be free for a moment.
            free = other is not None and not self._rests(other, State)
            if inside and not free and not (root / "Music" / part.path).is_file():
                yield f"{part.id} is {task and task.state}, and {part.path} is not in the library"
            library = uploads.ports.library
            if task is not None and isinstance(library, Catalogue):
                listed = library.entry(task.uid) is not None
                if self._rests(task, (S.IMPORTARTWORK, S.IMPORTCOMPLETE)) and not listed:
                    yield f"{part.id} is {task.state}, and not in the catalogue"
                if self._rests(task, (*_OUT, S.INTEGRATED)) and listed:
                    yield f"{part.id} is {task.state}, and in the catalogue"

    def _rests(self, task: UploadTask | None, states: Iterable[State]) -> bool:
        """Whether an upload is in one of these states, and no undo is under way, or has given up half-way."""
        if task is None or task.state not in states or task.wanted is not None:
            return False
        return not (self.may_fail and task.history[-1].trigger == Trigger.RELEASE)

    def check_end(self, uploads: Uploads, root: Path) -> list[str]:
        """What is not as it has to be when all scenes were played to their end."""
        return [*self._check(uploads, root), *self._check_end(uploads, root)]

    def _check_end(self, uploads: Uploads, root: Path) -> Iterator[str]:
        tasks = {task.id: task.state for task in uploads.tasks()}
        expected = {part.id: S.IMPORTCOMPLETE for part in self.parts.values() if not part.goes}
        if tasks != expected:
            yield f"at the end there are {tasks}"
        library = {part.path: part.data for part in self.parts.values() if part.fate in ("keep", "again", "left")}
        found = _files(root / "Music")
        if found != library:
            yield f"at the end the library has {sorted(found)}, not just {sorted(library)}"


def _files(root: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _strangers(root: Path, tasks: Iterable[UploadTask]) -> Sequence[str]:
    """Files of the uploads directory that belong to no upload and are not in quarantine."""
    keys, found = {task.key: task.id for task in tasks}, []
    documents = {f"{uploadid}.json" for uploadid in keys.values()}
    for path in (root / "uploads").rglob("*"):
        if path.is_dir():
            continue
        room, *rest = path.relative_to(root / "uploads").parts
        if room.startswith((".lock", "catalogue.sqlite")) and not rest:
            continue
        fine = (room == "data" and rest[0] in keys) or (room == "tasks" and rest[-1] in documents)
        if room != "quarantine" and not fine:
            found.append(str(path.relative_to(root)))
    return found


def play(uploads: Uploads, ledger: Ledger) -> None:
    """Play all scenes to their end, in this process.

    Raises:
        UploadError: Of the engine.
    """
    actor = Actor(uploads, sorted(ledger.ending), ledger.take, patience=2)
    for scene in ledger.scenes:
        for part in scene.parts:
            actor.play(part)


# ── the process ───────────────────────────────────────────────────────────────────────────────────────────────


class _Eye(logging.Handler):
    """Tells of each exception that nobody was prepared for."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._tell({"wrong": f"{record.getMessage()}\n{''.join(traceback.format_exception(*record.exc_info))}"})


class Theatre:
    """Starts processes that play. They are forks of one that has everything loaded, so one takes milliseconds.

    That one has no threads, and nothing open but its pipes; it warms up by playing a scene in a temporary directory.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # The tests' own modules are not imported there, and the working directory is nobody's file system.
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd="/"
            )
        self._socket = ours
        if ours.recv(1) != b".":
            raise AssertionError("The process that starts the others did not start.")

    def __enter__(self) -> Theatre:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()
        self._process.wait(_HANGS)

    def perform(
        self,
        root: Path,
        ledger: Ledger,
        *,
        durability: Durability = "power",
        clients: int = 1,
        patience: int = 0,
        hold: Hold | None = None,
    ) -> Stage:
        """Start a process that plays a ledger's scenes, or what is left of them.

        Args:
            root: The directory of `open_uploads`.
            ledger: Who is told.
            durability: What an acknowledgement is to survive.
            clients: Threads.
            patience: See `Actor`.
            hold: Before what it waits for `Stage.go`: before the engine starts, or before the first part.
        """
        ours, theirs = socket.socketpair()
        order = {
            "root": str(root),
            "scenes": [[scene.name, [[p.id, p.scene, p.fate, p.size] for p in scene.parts]] for scene in ledger.scenes],
            "ending": sorted(ledger.ending),
            "durability": durability,
            "clients": clients,
            "patience": patience,
            "hold": hold,
        }
        raw = json.dumps(order).encode()
        with theirs:
            fds = array.array("i", [theirs.fileno()])
            header = len(raw).to_bytes(4, "big")
            self._socket.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            self._socket.sendall(raw)
            self._socket.recv(1)  # it has the socket now
        return Stage(ours, ledger)


class Stage:
    """A process that plays.

    Attributes:
        pid: Its number.
        ready: Whether its engine has started, and it waits for `go`.
        ended: Whether it said that it came to an end by itself: to that of its scenes, or to an error of ours.
    """

    def __init__(self, connection: socket.socket, ledger: Ledger) -> None:
        self.ready = self.ended = False
        self._connection, self._ledger = connection, ledger
        self._rest = b""
        self._over = False
        self.pid = 0
        self.listen(lambda: self.pid != 0)
        self._handle = os.pidfd_open(self.pid)

    def go(self) -> None:
        """It was held: let it begin."""
        signal.pidfd_send_signal(self._handle, signal.SIGUSR1)

    def listen(self, enough: Callable[[], bool] = lambda: False, *, seconds: float = _HANGS) -> bool:
        """Take in what it tells, until it is enough, or it has ended.

        Returns:
            Whether it was in time.
        """
        end = time.monotonic() + seconds
        while not self._over and not enough():
            ready, _, _ = select.select([self._connection], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return False
            data = b""
            with suppress(ConnectionResetError):
                data = self._connection.recv(1 << 16)
            self._over = not data
            *lines, self._rest = (self._rest + data).split(b"\n")
            for raw in lines:
                line = json.loads(raw)
                if "pid" in line:
                    self.pid = line["pid"]
                elif "ready" in line:
                    self.ready = True
                elif "end" in line:
                    self.ended = True
                else:
                    self._ledger.take(line)
        return True

    def before_the_crash(self) -> None:
        """Take in all that was told by now. Nothing later counts as acknowledged."""
        self.listen(seconds=0.0)
        self._ledger.down = True

    def kill(self) -> None:
        """End it at once."""
        with suppress(OSError):  # it has ended, and may have been left
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def leave(self, *, seconds: float = _HANGS) -> None:
        """Take in the rest of what it tells, and wait for its end; one that does not end is wrong, and killed."""
        if not self.listen(seconds=seconds):
            self._ledger.wrong.append(f"the process hung for {seconds:g} seconds")
            self.kill()
            self.listen()
        select.select([self._handle], [], [], seconds)
        os.close(self._handle)
        self._connection.close()


def _main(number: int) -> None:
    """The process that starts the others."""
    logging.getLogger().addHandler(logging.NullHandler())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who has ended is gone
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    warm = Path(tempfile.mkdtemp())
    try:
        with open_uploads(warm, "none") as uploads:
            play(uploads, Ledger(scenes_of("warm", 1)))
    finally:
        shutil.rmtree(warm)
    with socket.socket(fileno=number) as orders:
        orders.sendall(b".")
        while True:
            header, ancillary, _, _ = orders.recvmsg(4, socket.CMSG_LEN(4))
            if not header:
                return
            fds = array.array("i")
            fds.frombytes(ancillary[0][2][:4])
            size, raw = int.from_bytes(header, "big"), b""
            while len(raw) < size:
                raw += orders.recv(size - len(raw))
            if os.fork() == 0:
                orders.close()
                code = 1
                try:
                    _perform(socket.socket(fileno=fds[0]), json.loads(raw))
                    code = 0
                finally:
                    os._exit(code)
            os.close(fds[0])
            orders.sendall(b".")


def _perform(connection: socket.socket, order: Mapping[str, Any]) -> None:
    lock = threading.Lock()

    def tell(line: Mapping[str, object]) -> None:  # sent, not written: no file call of its own
        with lock:
            connection.sendall(json.dumps(line).encode() + b"\n")

    def hear(notice: Notice) -> None:
        if notice.task is not None:
            tell(_told(notice.task, notice=True))

    def unraisable(found: Any) -> None:  # its type has no public name
        tell({"wrong": f"{found.err_msg}: {found.exc_type.__name__}: {found.exc_value}"})

    logging.getLogger().addHandler(_Eye(tell))
    sys.unraisablehook = unraisable
    tell({"pid": os.getpid()})
    if order["hold"] == "start":
        signal.sigwait([signal.SIGUSR1])
    scenes = [Scene(name, [Part(*part) for part in parts]) for name, parts in order["scenes"]]

    def client(actor: Actor, mine: Sequence[Scene]) -> None:
        try:
            for scene in mine:
                for part in scene.parts:
                    actor.play(part)
        except UploadError:
            return  # it was told
        except BaseException:  # noqa: BLE001  # whatever it is, it is not ours, and has to be seen
            tell({"wrong": traceback.format_exc()})

    try:
        uploads = open_uploads(Path(order["root"]), order["durability"], hear)
        if order["hold"] == "play":
            tell({"ready": True})
            signal.sigwait([signal.SIGUSR1])
        actor = Actor(uploads, order["ending"], tell, patience=order["patience"])
        count = order["clients"]
        if count == 1:
            client(actor, scenes)
        else:
            threads = [threading.Thread(target=client, args=(actor, scenes[n::count])) for n in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        uploads.close()
    except UploadError as error:
        tell({"error": error.code, "id": "", "sentence": error.sentence})
    except BaseException:  # noqa: BLE001  # as above
        tell({"wrong": traceback.format_exc()})
    tell({"end": True})


if __name__ == "__main__":
    _main(int(sys.argv[1]))
