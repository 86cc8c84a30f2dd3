"""Power cuts in whole lives of uploads: the real engine on a disk that forgets, cut at every file call.

A `Life` is a list of steps, each of which says where an upload is to be. It is lived once without a crash; then again
and again with the power cut at the nth file call: before it, after it, and, if it writes, in its middle. Of all that
was not synced then, every set of survivors is tried where there are few, and sets by chance where there are many. Each
disk that can come of it is started on, and looked at:

* each upload is in a state that it had, or got, in the step that was cut, with what was told to anybody still true;
* what is visible in the library is whole, and was there before or is there after the step;
* no file belongs to nobody, and the history on record can have happened.

Of some, the recovery is cut again at each of its file calls; and some live on: the steps are taken again from the one
that was cut, and all has to end exactly as it did without a crash: states, library, catalogue.

Different sets of survivors often leave the same disk. They count as one state each, but each disk is started once.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Final

from attrs import define, evolve, field, frozen

from ..adapters.disk import Disk
from ..adapters.inprocess import InlineBus
from ..adapters.local import LocalBytes, LocalTasks, LocalTree
from ..engine import Uploads
from ..errors import Refused, UploadError
from ..library.memory import NullLibrary
from ..lifecycle import FAILURE_STATES, Row, State, Trigger, due
from ..notices import Notice
from ..ports import Entry
from ..tasks import Offer, UploadTask
from ..verify import replay
from .disk import POLICIES, Crash, Decisions, FuseDisk, SimulatedDisk, When
from .worlds import CONTENTS, SETTINGS

__all__ = ["LIVES", "Campaign", "Depth", "Found", "Life", "Step", "Wrong"]

S = State
_NOW: Final = 1_000_000.0
_ROOTS: Final = ("music", "artwork")
_ROUNDS: Final = 40
"""Steps of the worker that one upload needs at most before it rests."""


class Wrong(AssertionError):
    """A promise was broken; the sentence says which, and where."""


# ── lives ─────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Step:
    """Something that somebody wants of the engine; to want it twice is as good as once.

    Attributes:
        name: What it is called in a report.
        do: Does it, or what is left of it.
    """

    name: str
    do: Callable[[_House], None]


@frozen
class Life:
    """What happens to one or several uploads, one step after another.

    Attributes:
        name: What it is called in a report.
        steps: In their order.
        contents: What is sent, by the upload's id.
        ends: In which state each upload ends; one that is removed is not there.
        links: Whether the disk has hard links.
        exclusive: Whether the disk can rename without replacing, and exchange.
    """

    name: str
    steps: Sequence[Step]
    contents: Mapping[str, bytes]
    ends: Mapping[str, State]
    links: bool = True
    exclusive: bool = True


def _content(script: str, size: int = 1300) -> bytes:
    return (script.encode() + b" ").ljust(16, b".") + bytes(n % 251 for n in range(size))


def _offer(uploadid: str, data: bytes, *, known: bool = True, right: bool = True) -> Step:
    sha1 = hashlib.sha1(data if right else b"another", usedforsecurity=False).hexdigest()

    def do(house: _House) -> None:
        task = house.uploads.find(uploadid)
        if task is None:
            house.uploads.initiate(
                Offer(
                    uploadid,
                    filename="clip.mp4",
                    contenttype="video",
                    filesize=len(data) if known else None,
                    sha1=sha1 if known else None,
                )
            )

    return Step(f"offer {uploadid}", do)


def _send(uploadid: str, data: bytes, upto: int, *, piece: int = 1 << 20) -> Step:
    """Chunks until the upload stands at ``upto``."""

    def do(house: _House) -> None:
        while (task := house.uploads.get(uploadid)).state is S.WAITFORCHUNK and task.offset < upto:
            end = min(upto, task.offset + piece)
            house.uploads.receive(uploadid, offset=task.offset, data=data[task.offset : end])

    return Step(f"send {uploadid} up to {upto:,}", do)


def _pour(uploadid: str, data: bytes, upto: int, *, piece: int) -> Step:
    """The same as the body of a request brings it: pieces, one of which is on record in the middle."""

    def do(house: _House) -> None:
        task = house.uploads.get(uploadid)
        if task.state is not S.WAITFORCHUNK or task.offset >= upto:
            return
        inflow = house.uploads.inflow(uploadid)
        for number in itertools.count(1):
            inflow.write(data[inflow.offset : min(upto, inflow.offset + piece)])
            if inflow.offset == upto:
                inflow.finish()
                return
            if number % 2 == 0:
                inflow.commit()

    return Step(f"pour {uploadid} up to {upto:,}", do)


def _declare(uploadid: str, data: bytes) -> Step:
    def do(house: _House) -> None:
        task = house.uploads.get(uploadid)
        if task.filesize is None:
            house.uploads.declare(uploadid, filesize=len(data))
        if house.uploads.get(uploadid).sourcechecksum is None:
            with suppress(Refused):  # the size that came before has completed it
                sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
                house.uploads.declare(uploadid, sha1=sha1)

    return Step(f"declare {uploadid}", do)


def _annotate(uploadid: str, **annotations: str) -> Step:
    said = {key.replace("__", "."): value for key, value in annotations.items()}

    def do(house: _House) -> None:
        task = house.uploads.get(uploadid)
        if any(task.annotations.get(key) != value for key, value in said.items()):
            house.uploads.annotate(uploadid, said)

    return Step(f"annotate {uploadid}", do)


def _request(uploadid: str) -> Step:
    def do(house: _House) -> None:
        task = house.uploads.get(uploadid)
        if task.state is S.PREPROCESSED and task.wanted is None:
            house.uploads.request(uploadid, trigger_import=True)

    return Step(f"request {uploadid}", do)


def _work(uploadid: str) -> Step:
    """Whatever is due, until the upload rests."""

    def do(house: _House) -> None:
        for _ in range(_ROUNDS):
            task = house.uploads.find(uploadid)
            if task is None or due(task) is None:
                return
            house.uploads.perform(uploadid)
        raise AssertionError(f"{uploadid} does not come to rest")

    return Step(f"work on {uploadid}", do)


def _undo(uploadid: str) -> Step:
    def do(house: _House) -> None:
        task = house.uploads.get(uploadid)
        if task.wanted is Trigger.UNDO:
            _work(uploadid).do(house)
        elif task.state in (S.INTEGRATED, S.IMPORTCOMPLETE, S.IMPORTFAILED):
            house.uploads.undo(uploadid)

    return Step(f"undo {uploadid}", do)


def _retry(uploadid: str) -> Step:
    def do(house: _House) -> None:
        if house.uploads.get(uploadid).state in FAILURE_STATES:
            house.uploads.retry(uploadid)

    return Step(f"retry {uploadid}", do)


def _remove(uploadid: str) -> Step:
    def do(house: _House) -> None:
        task = house.uploads.find(uploadid)
        if task is not None and task.state is not S.REMOVE:
            house.uploads.remove(uploadid)
        _work(uploadid).do(house)

    return Step(f"remove {uploadid}", do)


def _restart() -> Step:
    return Step("restart", lambda house: house.restart())


def _expire() -> Step:
    def do(house: _House) -> None:
        house.now = max(house.now, _NOW + 400 * 86_400.0)
        house.uploads.sweep()

    return Step("expire", do)


def _refused(step: Step, code: str) -> Step:
    """Somebody asks for what must not be."""

    def do(house: _House) -> None:
        try:
            step.do(house)
        except Refused as refused:
            if refused.code == code:
                return
        raise Wrong(f"{step.name} was not refused with {code}")

    return Step(f"{step.name}, which is refused", do)


def _misfit(uploadid: str, offset: int, data: bytes, code: str) -> Step:
    """A chunk that does not belong there, while chunks are expected."""

    def do(house: _House) -> None:
        if house.uploads.get(uploadid).state is S.WAITFORCHUNK:
            wrong = Step("", lambda house: _void(house.uploads.receive(uploadid, offset=offset, data=data)))
            _refused(wrong, code).do(house)

    return Step(f"a chunk of {uploadid} at {offset:,}", do)


def _void(_: object) -> None:
    """Do nothing with a value."""


def _lives() -> Iterator[Life]:
    fine, other = _content("fine"), _content("other", 700)
    one, both = {"one": fine}, {"one": fine, "two": other}
    ready, done = {"one": S.PREPROCESSED}, {"one": S.IMPORTCOMPLETE}
    names = {"artistname": "Alpha", "name": "Beta"}
    half, end = 600, len(fine)
    bring = [_offer("one", fine), _send("one", fine, half), _annotate("one", **names), _send("one", fine, end)]
    into = [_work("one"), _request("one"), _work("one")]
    back = [_undo("one"), _remove("one")]
    yield Life("a whole life", [*bring, *into, *back], one, {})
    yield Life("without links", [*bring, *into, *back], one, {}, links=False)
    yield Life("in again after an undo", [*bring, *into, _undo("one"), _request("one"), _work("one")], one, done)
    pieces = [_offer("one", fine), _send("one", fine, end, piece=170)]
    yield Life("many chunks", [*pieces, _work("one"), _remove("one")], one, {})
    body = [_offer("one", fine), _pour("one", fine, 900, piece=150), _pour("one", fine, end, piece=90)]
    yield Life("as a body", [*body, _work("one")], one, ready)
    late = [_offer("one", fine, known=False), _pour("one", fine, half, piece=250), _send("one", fine, end)]
    yield Life("declared late", [*late, _declare("one", fine), _work("one")], one, ready)
    yield Life("hashed after a restart", [*bring[:2], _restart(), _send("one", fine, end), _work("one")], one, ready)
    gap, more = _misfit("one", half + 1, b"gap", "offset_mismatch"), _misfit("one", half, fine, "beyond_the_end")
    yield Life("chunks that do not fit", [*bring[:2], gap, more, _send("one", fine, end), _work("one")], one, ready)
    wrong = [_send("one", fine, half), _send("one", fine, end), _work("one")]
    twice = [_offer("one", fine, right=False), *wrong, _retry("one"), *wrong]
    yield Life("a wrong checksum, twice", twice, one, {"one": S.UPLOADFAILED})
    bad = _content("bad")
    refused = [_offer("one", bad), _send("one", bad, len(bad)), _work("one")]
    yield Life("bad content", refused, {"one": bad}, {"one": S.INVALIDCONTENT})
    ask = _content("ask")
    question = [_offer("one", ask), _send("one", ask, len(ask)), _annotate("one", **names), _work("one")]
    answer = [_annotate("one", answers__which="this"), _request("one"), _work("one")]
    yield Life("a question", [*question, *answer], {"one": ask}, done)
    for script, what in (("noimport", "no entry in the catalogue"), ("noart", "no pictures")):
        data = _content(script)
        steps = [_offer("one", data), _send("one", data, len(data)), _annotate("one", **names)]
        yield Life(what, [*steps, *into, _retry("one"), _work("one"), *back], {"one": data}, {})
    yield Life("expired", [*bring[:2], _expire(), _work("one")], one, {})
    second = [_offer("two", other), _send("two", other, len(other)), _annotate("two", **names), _work("two")]
    asked = [_request("two"), _work("two")]
    replaced = [*bring, *into, *second, _annotate("two", answers__destination_exists="replace"), *asked]
    restored = {**done, "two": S.PREPROCESSED}
    yield Life("replaced and brought back", [*replaced, _undo("two")], both, restored)
    yield Life("replaced without links", [*replaced, _undo("two")], both, restored, links=False)
    yield Life("replaced without renames", [*replaced, _undo("two")], both, restored, exclusive=False)
    yield Life("replaced for good", [*replaced, _remove("two")], both, done)
    failed = {**done, "two": S.INTEGRATIONFAILED}
    yield Life("in the way", [*bring, *into, *second, *asked], both, failed)
    yield Life("one id for two", [*bring[:2], _remove("one"), *bring, _work("one")], one, ready)


# ── the engine on a disk ──────────────────────────────────────────────────────────────────────────────────────

_SETTINGS: Final = evolve(SETTINGS, max_chunk=1 << 20, attempts=60)
"""With many attempts: what happens when a step was cut again and again is not what is looked at here."""


class _Ledger(NullLibrary):
    """A catalogue that no power cut touches, and that is quickly copied: whose durability is not ours to show."""

    def __init__(self, entries: Mapping[str, str] | None = None) -> None:
        self.paths = dict(entries or {})

    def put(self, uid: str, entry: Entry) -> None:
        """See `Library.put`."""
        self.paths[uid] = str(getattr(entry, "path", ""))

    def forget(self, uid: str) -> None:
        """See `Library.forget`."""
        self.paths.pop(uid, None)


class _House:
    """The engine on a disk, and what was told."""

    def __init__(self, disk: Disk, library: _Ledger, names: Iterator[str], now: float = _NOW) -> None:
        self.disk, self.library, self.now = disk, library, now
        self._names = names
        self.heard: dict[str, UploadTask] = {}
        self.versions: list[UploadTask] = []

    def open(self) -> None:
        bus = InlineBus()
        bus.subscribe(self._hear)
        self.uploads = Uploads(
            bytes=LocalBytes("/uploads", disk=self.disk),
            tasks=LocalTasks("/uploads", disk=self.disk),
            trees={name: LocalTree(name, f"/{name}", disk=self.disk) for name in _ROOTS},
            library=self.library,
            contents=CONTENTS,
            settings=_SETTINGS,
            bus=bus,
            clock=lambda: self.now,
            ids=lambda: next(self._names),
            trace=self._trace,
        )

    def restart(self) -> None:
        self.uploads.close()
        self.open()

    def _trace(self, row: Row, task: UploadTask) -> None:
        self.versions.append(task if row.dest is None else evolve(task, state=row.dest))

    def _hear(self, notice: Notice) -> None:
        if notice.task is not None:
            self.heard[notice.task.uid] = notice.task


def _names(first: int = 1) -> Iterator[str]:
    return (f"{n:032x}" for n in itertools.count(first))


def _empty(life: Life) -> SimulatedDisk:
    disk = SimulatedDisk(links=life.links, exclusive=life.exclusive)
    for root in ("uploads", *_ROOTS):
        disk.mkdir(f"/{root}")
    disk.sync_directory("/")
    return disk


# ── what was, and what may be ─────────────────────────────────────────────────────────────────────────────────


@frozen
class _View:
    """What is there, as far as anybody can see it."""

    tasks: Mapping[str, UploadTask]
    library: Mapping[tuple[str, str], bytes]
    entries: Mapping[str, str]
    hidden: int
    directories: Set[tuple[str, str]]


def _look(house: _House, disk: SimulatedDisk) -> _View:
    library, hidden = dict[tuple[str, str], bytes](), 0
    for root in _ROOTS:
        for path, data in disk.files(f"/{root}").items():
            if path.startswith(".stagedoor/"):
                hidden += 1
            else:
                library[root, path] = data
    directories = {
        (root, path) for root in _ROOTS for path in disk.directories(f"/{root}") if not path.startswith(".stagedoor")
    }
    tasks = {task.id: task for task in house.uploads.tasks()}
    return _View(tasks, library, dict(house.library.paths), hidden, directories)


def _start(disk: SimulatedDisk, library: _Ledger, now: float) -> _House:
    house = _House(disk, _Ledger(library.paths), _names(1_000), now)
    house.open()
    return house


def _essence(task: UploadTask) -> tuple[object, ...]:
    """What a crash must not change; it may change how often something was tried, and when."""
    return (
        task.uid, task.state, task.filesize, task.sourcechecksum, task.annotations, task.wanted, task.import_wanted,
        tuple(sorted((file.root, file.path, file.sha256) for file in task.placed)),
    )  # fmt: skip


@define
class _Record:
    """A life without a crash.

    Attributes:
        views: Before the first step, and after each.
        versions: What the uploads were in each step: before it, after each row, at its end.
        methods: All file calls, from the first start on.
    """

    views: list[_View] = field(factory=list)
    versions: list[list[UploadTask]] = field(factory=list)
    methods: list[str] = field(factory=list)


def _live(life: Life) -> _Record:
    record, disk = _Record(), _empty(life)
    cut, library = FuseDisk(disk), _Ledger()
    house = _House(cut, library, _names())
    house.open()

    def look() -> None:
        """By a second engine on a copy: the first one is not disturbed."""
        copy = disk.crash("all")
        record.views.append(_look(_start(copy, library, house.now), copy))

    look()
    for step in life.steps:
        house.versions = []
        step.do(house)
        look()
        before, after = record.views[-2:]
        record.versions.append([*before.tasks.values(), *house.versions, *after.tasks.values()])
    record.methods = [call.method for call in cut.calls]
    ends = {uploadid: task.state for uploadid, task in record.views[-1].tasks.items()}
    _demand(ends == life.ends, f"{life.name} ends with {ends}")
    for view in record.views:
        music = {data for (root, _), data in view.library.items() if root == "music"}
        _demand(music <= set(life.contents.values()), f"{life.name}: a file of the library is not what was sent")
    return record


def _demand(fine: bool, sentence: str) -> None:
    if not fine:
        raise Wrong(sentence)


@frozen
class _Moment:
    """Where a life was cut.

    Attributes:
        step: Steps that were finished.
        heard: What was told last of each upload, by uid.
        library: The catalogue then.
        now: The clock then.
    """

    step: int
    heard: Mapping[str, UploadTask]
    library: _Ledger
    now: float

    @property
    def key(self) -> tuple[object, ...]:
        """Two disks that look alike are one state only if this is the same."""
        told = sorted((uid, task.state, task.revision, task.offset) for uid, task in self.heard.items())
        return (self.step, tuple(told), tuple(sorted(self.library.paths.items())), self.now)


def _check(life: Life, record: _Record, moment: _Moment, house: _House, disk: SimulatedDisk) -> None:
    """What has to be true after any power cut.

    Raises:
        Wrong: It is not.
    """
    view = _look(house, disk)
    before, versions, after = _between(life, record, moment.step)
    for uploadid in {*view.tasks, *before.tasks, *after.tasks}:
        _check_upload(uploadid, view.tasks.get(uploadid), before, versions, after, moment)
    # A name whose file is replaced, or brought back, may be free for a moment.
    kept = {key for key, data in before.library.items() if after.library.get(key) == data}
    for key, data in view.library.items():
        _demand(data in (before.library.get(key), after.library.get(key)), f"{key} is not whole, or nobody's")
    _demand(kept <= view.library.keys(), f"{kept - view.library.keys()} is gone from the library")
    entries = {**before.entries, **after.entries}
    _demand(view.entries.items() <= entries.items(), f"entries of nobody: {view.entries}")
    _demand(before.entries.keys() & after.entries.keys() <= view.entries.keys(), "an entry is gone")
    strangers = _strangers(disk, view.tasks)
    _demand(not strangers, f"files of nobody: {strangers}")


def _between(life: Life, record: _Record, step: int) -> tuple[_View, Sequence[UploadTask], _View]:
    before = record.views[step]
    if step == len(life.steps):
        return before, tuple(before.tasks.values()), before
    return before, record.versions[step], record.views[step + 1]


def _check_upload(
    uploadid: str,
    task: UploadTask | None,
    before: _View,
    versions: Sequence[UploadTask],
    after: _View,
    moment: _Moment,
) -> None:
    was, becomes = before.tasks.get(uploadid), after.tasks.get(uploadid)
    told = next((moment.heard[t.uid] for t in (task, was) if t is not None and t.uid in moment.heard), None)
    if task is None:
        _demand(was is None or becomes is None or becomes.uid != was.uid, f"{uploadid} is gone")
        return
    mine = [version for version in versions if version.id == uploadid]
    _demand(_essence(task) in map(_essence, mine), f"{uploadid} is as it never was: {task}")
    if told is not None and told.uid == task.uid:
        _demand(task.revision >= told.revision, f"{uploadid} is older than what was told: {task.revision}")
        if told.state is task.state is S.WAITFORCHUNK and task.generation == told.generation:
            _demand(task.offset >= told.offset, f"{uploadid} has lost acknowledged bytes: {task.offset}")
    problems = replay(task)
    _demand(not problems, f"the history of {uploadid} cannot have happened: {problems}")


def _check_bytes(life: Life, house: _House, disk: SimulatedDisk) -> None:
    for task in house.uploads.tasks():
        if task.state in (S.UPLOADFAILED, S.REMOVE):
            continue
        found = [d for p, d in disk.files(f"/uploads/data/{task.key}").items() if p != ".offset"]
        _demand(len(found) == 1, f"{task.id} has {len(found)} files of data")
        sent = life.contents[task.id]
        _demand(found[0][: task.offset] == sent[: task.offset], f"{task.id}: bytes on record are not those sent")
        if task.state is not S.WAITFORCHUNK:
            _demand(found[0] == sent, f"{task.id} is {task.state} and not what was sent")


def _strangers(disk: SimulatedDisk, tasks: Mapping[str, UploadTask]) -> list[str]:
    keys, found = {task.key for task in tasks.values()}, list[str]()
    for path in disk.files("/uploads"):
        room, _, rest = path.partition("/")
        name = rest.partition("/")[0]
        fine = (room == "data" and name in keys) or (room == "tasks" and name.removesuffix(".json") in tasks)
        if room != "quarantine" and not fine:
            found.append(path)
    return found


def _live_on(life: Life, record: _Record, moment: _Moment, house: _House, disk: SimulatedDisk) -> None:
    """From where the power was cut to the end, which has to be the same.

    Raises:
        Wrong: It is not.
    """
    for step in life.steps[min(moment.step, len(life.steps) - 1) :]:
        try:
            step.do(house)
        except UploadError as error:
            raise Wrong(f"{step.name} cannot go on: {error.code}: {error.sentence}") from error
    end, view = record.views[-1], _look(house, disk)
    _demand(view.tasks.keys() == end.tasks.keys(), f"other uploads at the end: {set(view.tasks)}")
    for uploadid, task in view.tasks.items():
        as_it_was = _essence(end.tasks[uploadid])[1:]
        _demand(_essence(task)[1:] == as_it_was, f"{uploadid} ends otherwise: {task}")
    _demand(view.library == end.library, f"the library ends otherwise: {sorted(view.library)}")
    _demand(view.directories == end.directories, f"the library ends with {sorted(view.directories)}")
    _demand(sorted(view.entries.values()) == sorted(end.entries.values()), "the catalogue ends otherwise")
    _demand(view.hidden == end.hidden, f"{view.hidden} hidden files at the end, not {end.hidden}")
    _demand(not _strangers(disk, view.tasks), "files of nobody at the end")
    _check_bytes(life, house, disk)


# ── the campaign ──────────────────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class Depth:
    """How far to look.

    Attributes:
        exhaustive: So many decisions about what survives are tried in all combinations.
        samples: Sets of survivors by chance where there are more.
        recovery: Of so many disks one has its recovery cut, too, at each of its calls.
        live_on: Of so many disks one lives on to the end.
        calls: At most so many file calls of a life are cut, evenly spread; all of them when not said.
        seed: Of all that is by chance.
    """

    exhaustive: int = 10
    samples: int = 64
    recovery: int = 50
    live_on: int = 10
    calls: int | None = None
    seed: int = 0


@define
class Found:
    """What a campaign did, and found.

    Attributes:
        cuts: Power cuts: file calls, each before, after and in its middle.
        states: Disks that were left by them, one for each set of survivors.
        started: How many of these differ, and were started.
        recoveries: Cuts of a recovery; the disks they left are among the states.
        lived_on: Disks that lived on to the end.
        wrong: What is wrong, with where it was.
    """

    cuts: int = 0
    states: int = 0
    started: int = 0
    recoveries: int = 0
    lived_on: int = 0
    wrong: list[str] = field(factory=list)

    def add(self, other: Found) -> None:
        """Take another one's in."""
        for name in ("cuts", "states", "started", "recoveries", "lived_on"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.wrong += other.wrong


class Campaign:
    """Cuts one life.

    Args:
        life: Which.
        depth: How far.
        wrap: Put between adapters and disk, to leave calls out, say.
    """

    def __init__(self, life: Life, depth: Depth, *, wrap: Callable[[Disk], Disk] = lambda disk: disk) -> None:
        self.life, self.depth, self.found = life, depth, Found()
        self._wrap = wrap
        self._record = _live(life)
        self._seen: set[tuple[object, ...]] = set()

    def cuts(self) -> Sequence[tuple[int, When]]:
        """All places where it can be cut."""
        found: list[tuple[int, When]] = []
        methods = self._record.methods
        step = 1 if self.depth.calls is None else max(1, len(methods) // self.depth.calls)
        for at in range(step, len(methods) + 1, step):
            found += [(at, "before"), (at, "after")]
            if methods[at - 1] == "write_at":
                found.append((at, "torn"))
        return found

    def run(self, cuts: Sequence[tuple[int, When]] | None = None) -> Found:
        """Cut it in all these places."""
        for at, when in self.cuts() if cuts is None else cuts:
            self._cut(at, when)
        return self.found

    def _cut(self, at: int, when: When) -> None:
        disk, library = _empty(self.life), _Ledger()
        house = _House(self._wrap(FuseDisk(disk, at=at, when=when)), library, _names())
        step = 0
        try:
            house.open()
            for todo in self.life.steps:
                todo.do(house)
                step += 1
            return  # nothing is left to cut: a call was left out
        except Crash:
            pass
        self.found.cuts += 1
        moment = _Moment(step, house.heard, library, house.now)
        for survivors in self._survivors(disk, at, when):
            self._state(moment, survivors, f"{self.life.name}, call {at} ({when})")

    def _survivors(self, disk: SimulatedDisk, at: int, when: When) -> Iterator[SimulatedDisk]:
        decisions = Decisions()
        first = disk.crash(decisions)
        if decisions.count <= self.depth.exhaustive:
            yield first
            while decisions.advance():
                yield disk.crash(decisions)
            return
        for policy in POLICIES:
            yield disk.crash(policy)
        chance = random.Random(f"{self.depth.seed} {self.life.name} {at} {when}")  # noqa: S311  # not for secrets
        for _ in range(self.depth.samples):
            yield disk.crash(chance)

    def _state(self, moment: _Moment, disk: SimulatedDisk, where: str, *, again: bool = True) -> None:
        self.found.states += 1
        image = disk.image()
        key = (image, moment.key)
        if key in self._seen:
            return
        self._seen.add(key)
        self.found.started += 1
        number = self.found.started
        after = disk.crash("all")
        try:
            house = self._started(after, moment)
            _check(self.life, self._record, moment, house, after)
            _check_bytes(self.life, house, after)
            if number % self.depth.live_on == 0:
                self.found.lived_on += 1
                _live_on(self.life, self._record, moment, house, after)
        except (Wrong, UploadError, OSError, KeyError, AssertionError) as error:
            self.found.wrong.append(f"{where}, survivors {image.hex()[:12]}: {type(error).__name__}: {error}")
        if again and number % self.depth.recovery == 0:
            self._cut_recovery(moment, disk, where)

    def _started(self, disk: SimulatedDisk, moment: _Moment, cut: FuseDisk | None = None) -> _House:
        ledger = _Ledger(moment.library.paths)
        house = _House(self._wrap(disk if cut is None else cut), ledger, _names(1_000), moment.now)
        house.open()
        return house

    def _cut_recovery(self, moment: _Moment, disk: SimulatedDisk, where: str) -> None:
        for at in itertools.count(1):
            copy = disk.crash("all")
            when: When = "after" if at % 2 else "before"
            try:
                self._started(copy, moment, FuseDisk(copy, at=at, when=when))
                return  # it was through before
            except Crash:
                pass
            except (UploadError, OSError, AssertionError) as error:
                self.found.wrong.append(f"{where}, recovery: {type(error).__name__}: {error}")
                return
            self.found.recoveries += 1
            chance = random.Random(f"{self.depth.seed} {where} {at}")  # noqa: S311  # not for secrets
            for survivors in ("none", "all", chance):
                self._state(moment, copy.crash(survivors), f"{where}, recovery call {at} ({when})", again=False)


LIVES: Final[Sequence[Life]] = tuple(_lives())
"""What is cut."""
