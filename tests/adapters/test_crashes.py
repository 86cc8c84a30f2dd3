"""A crash at every file call of the local adapters, with what may survive of it, and recovery after it.

A `Life` is what the engine does with an adapter, and what it has told others so far. It runs on a simulated disk
until a crash at one call; then the power is cut (any legal set of what was not synced survives), or only the process
killed. Recovery must find what was told. Leaving out any call of a kind that matters must make a check fail: that
is a test here as well.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import orjson
import pytest

from stagedoor.adapters.disk import Disk
from stagedoor.adapters.local import LocalBytes, LocalTasks, LocalTree, adopt_musicdb
from stagedoor.errors import Conflict, UploadError
from stagedoor.lifecycle import State
from stagedoor.tasks import PlacedFile, UploadTask, evolve
from stagedoor.testing.disk import POLICIES, Call, CarelessDisk, Crash, FuseDisk, Policy, SimulatedDisk
from stagedoor.testing.stores import full_task, upload_task

UID, OTHER = f"{1:032x}", f"{2:032x}"
ONE, LATER, TWO = f"{UID}.0", f"{UID}.1", f"{OTHER}.0"
NAME, FINAL = "video-pending.mp4", f"video-{'a' * 40}.mp4"


def plain(disk: Disk) -> Disk:
    return disk


class Life(ABC):
    """What is done, what was told of it, and what must be there after a crash."""

    def __init__(self, wrap: Callable[[Disk], Disk] = plain) -> None:
        self.wrap = wrap

    def disk(self) -> SimulatedDisk:
        disk = SimulatedDisk()
        for root in ("/uploads", "/music"):
            disk.mkdir(root)
        disk.sync_directory("/")
        return disk

    @abstractmethod
    def live(self, disk: Disk) -> None: ...

    @abstractmethod
    def check(self, after: SimulatedDisk, *, go_on: bool = True) -> object:
        """Recover, compare with what was told, and go on; returns what was told by the recovery."""

    def told(self, before: object, after: object) -> None:
        """What one recovery told must hold after the next: a killed process, and then a power cut."""
        assert after == before


# ── the lives ─────────────────────────────────────────────────────────────────────────────────────────────────

_BYTES = random.Random(7).randbytes(6000)
_WRONG = random.Random(8).randbytes(6000)


class BytesLife(Life):
    """Two uploads; one goes through rollback, seal and close, fails, is retried and removed. A stranger is there."""

    def __init__(self, wrap: Callable[[Disk], Disk] = plain) -> None:
        super().__init__(wrap)
        self.known: dict[str, State] = {}
        self.acknowledged: dict[str, int] = {}
        self.made: set[str] = set()
        self.deleted: set[str] = set()

    def disk(self) -> SimulatedDisk:
        disk = super().disk()
        disk.plant("/uploads/data/stranger.0/file", b"precious")
        return disk

    def live(self, disk: Disk) -> None:
        store = LocalBytes("/uploads", disk=self.wrap(disk))
        assert not store.recover({}).lost
        self._create(store, TWO)
        self._send(store, TWO, 0, 900)
        store.append(TWO, 900, b"too much")
        store.rollback(TWO)
        with store.open(TWO) as file:
            assert file.read() == _BYTES[:900]
        self._create(store, ONE)
        at = 0
        for size in (700, 1300, 12, 500, 2000):
            at = self._send(store, ONE, at, size)
        store.append(ONE, at, _WRONG[at : at + 900])
        assert store.rollback(ONE) == at
        at = self._send(store, ONE, at, 600)
        store.append(ONE, at, _BYTES[at:5600])
        store.append(ONE, 5600, _BYTES[5600:])
        store.seal(ONE, FINAL)
        self.known[ONE] = State.UPLOADCOMPLETE
        store.close(ONE)
        store.create(LATER, NAME)
        del self.known[ONE], self.acknowledged[ONE]
        self.known[LATER] = State.WAITFORCHUNK
        self.acknowledged[LATER] = 0
        store.delete(ONE)
        self.deleted.add(ONE)
        self._send(store, LATER, 0, 1000)
        self.known[LATER] = State.REMOVE
        store.delete(LATER)
        self.deleted.add(LATER)
        del self.known[LATER]
        store.seal(TWO, FINAL)  # after a restart all may be on record
        store.release()

    def _create(self, store: LocalBytes, key: str) -> None:
        store.create(key, NAME)
        self.known[key] = State.WAITFORCHUNK
        self.acknowledged[key] = 0

    def _send(self, store: LocalBytes, key: str, at: int, size: int) -> int:
        store.append(key, at, _BYTES[at : at + size])
        self.acknowledged[key] = store.commit(key)
        assert self.acknowledged[key] == at + size
        return at + size

    def check(self, after: SimulatedDisk, *, go_on: bool = True) -> object:
        store = LocalBytes("/uploads", disk=self.wrap(after))
        found = store.recover(self.known)
        assert not found.lost
        for key, state in self.known.items():
            if state is State.REMOVE:
                continue
            with store.open(key) as file:
                data = file.read()
            if state is State.UPLOADCOMPLETE:
                assert data == _BYTES
                continue
            offset = found.offsets[key]
            assert self.acknowledged[key] <= offset == store.size(key)
            assert data == _BYTES[:offset]
        files = after.files("/uploads")
        assert b"precious" in files.values()
        for key, state in self.known.items():
            assert state is not State.UPLOADCOMPLETE or f"data/{key}/{FINAL}" in files
        for path in files:
            room, _, rest = path.partition("/")
            key = rest.partition("/")[0]
            assert (room == "data" and key in self.known) or room == "quarantine"
            # Only what no task ever knew may be found there, never what was deleted.
            assert not any(gone in path for gone in self.deleted)
        told = dict(found.offsets)
        if go_on:
            for key, offset in found.offsets.items():
                store.append(key, offset, _BYTES[offset:])
                store.seal(key, FINAL)
                with store.open(key) as file:
                    assert file.read() == _BYTES
        store.release()
        assert after.descriptors == 0
        return told

    def told(self, before: object, after: object) -> None:
        assert isinstance(before, dict)
        assert isinstance(after, dict)
        assert all(after[key] >= offset for key, offset in before.items())


class TasksLife(Life):
    """Two tasks; one is created, changed, deleted and created anew."""

    def __init__(self, wrap: Callable[[Disk], Disk] = plain) -> None:
        super().__init__(wrap)
        self.stored: dict[str, UploadTask | None] = {"one": None, "two": None}
        self.possible: dict[str, UploadTask | None] = dict(self.stored)

    def live(self, disk: Disk) -> None:
        store = LocalTasks("/uploads", disk=self.wrap(disk))
        assert store.recover() == []
        two = upload_task("two", uid=OTHER)
        self._do(partial(store.create, two), "two", two)
        task = upload_task("one", annotations={"text": "x" * 2000})
        self._do(partial(store.create, task), "one", task)
        for revision in (2, 3):
            task = full_task("one", revision=revision, annotations={"text": str(revision) * 3000})
            self._do(partial(store.cas, task, revision - 1), "one", task)
        self._do(partial(store.delete, "one"), "one", None)
        task = upload_task("one", uid=f"{3:032x}")
        self._do(partial(store.create, task), "one", task)
        self._do(partial(store.delete, "two"), "two", None)

    def _do(self, action: Callable[[], None], uploadid: str, task: UploadTask | None) -> None:
        self.possible[uploadid] = task
        action()
        self.stored[uploadid] = task

    def check(self, after: SimulatedDisk, *, go_on: bool = True) -> object:
        store = LocalTasks("/uploads", disk=self.wrap(after))
        assert store.recover() == []
        told = {}
        for uploadid, stored in self.stored.items():
            told[uploadid] = task = store.get(uploadid)
            assert task in (stored, self.possible[uploadid])
            assert [line.revision for line in store.list() if line.id == uploadid] == [
                task.revision for task in (task,) if task is not None
            ]
            if task is not None and go_on:
                store.cas(evolve(task, revision=task.revision + 1), task.revision)
                store.delete(uploadid)
        names = {path for path in after.files("/uploads/tasks") if not go_on}
        assert names == {f"{uploadid}.json" for uploadid, task in told.items() if task is not None and not go_on}
        return told


class TreeLife(Life):
    """Two uploads beside each other's and other people's files: integrated, taken back, undone."""

    links: ClassVar[bool] = True

    def __init__(self, wrap: Callable[[Disk], Disk] = plain) -> None:
        super().__init__(wrap)
        self.recorded: dict[str, bytes] = {}
        self.possible: dict[str, bytes] = {}
        self.owner: dict[str, str] = {}
        self.directories: list[str] = []
        self.artwork: dict[str, bytes] = {}

    def disk(self) -> SimulatedDisk:
        disk = SimulatedDisk(links=self.links)
        disk.plant("/music/Theirs/song.mp3", b"theirs")
        disk.plant("/music/A/Other/taken.mp4", b"taken")
        return disk

    def live(self, disk: Disk) -> None:
        artwork = LocalTree("artwork", "/srv/library/artwork", disk=self.wrap(disk))
        artwork.place(UID, "cover.jpg", BytesIO(b"cover"))
        self.artwork["srv/library/artwork/cover.jpg"] = b"cover"
        tree = LocalTree("music", "/music", disk=self.wrap(disk))
        self._place(tree, UID, "A/B/1.mp4", _BYTES[:3000])
        self._place(tree, UID, "A/B/2.mp4", _BYTES[:10])
        self._record(tree, UID)
        # An integration that fails at its second file takes back the first.
        self._place(tree, OTHER, "A/B/3.mp4", _BYTES[:700])
        with pytest.raises(Conflict):
            tree.place(OTHER, "A/Other/taken.mp4", BytesIO(b"mine"))
        self._withdraw(tree, OTHER, "A/B/3.mp4")
        self._place(tree, OTHER, "C/D/4.mp4", _BYTES[:512])
        self._withdraw(tree, OTHER, "C/D/4.mp4")
        self._place(tree, OTHER, "5.mp4", _BYTES[:513])
        self._withdraw(tree, OTHER, "5.mp4")
        # Undo.
        files = [PlacedFile("music", path, len(data), _sha256(data)) for path, data in self.recorded.items()]
        self.recorded.clear()
        tree.remove(UID, files, ["A/B"])
        self.possible.clear()
        tree.settle(UID)

    def _place(self, tree: LocalTree, uid: str, path: str, data: bytes) -> None:
        self.owner[path] = uid
        self.possible[path] = data
        self.directories = list(tree.missing_directories(path))
        placed = tree.place(uid, path, BytesIO(data))
        assert placed == PlacedFile("music", path, len(data), _sha256(data))

    def _record(self, tree: LocalTree, uid: str) -> None:
        for path, owner in self.owner.items():
            if owner == uid:
                self.recorded[path] = self.possible[path]
        tree.settle(uid)

    def _withdraw(self, tree: LocalTree, uid: str, path: str) -> None:
        tree.withdraw(uid, [path], self.directories)
        del self.possible[path]

    def check(self, after: SimulatedDisk, *, go_on: bool = True) -> object:
        visible = self._visible(after)
        # Whatever the adapter does next, this is what players see now.
        theirs = {"Theirs/song.mp3": b"theirs", "A/Other/taken.mp4": b"taken"}
        assert theirs.items() <= visible.items()
        assert self.recorded.items() <= visible.items()
        assert visible.items() <= {**theirs, **self.possible}.items()
        assert self.artwork.items() <= after.files().items()
        if not go_on:
            return None
        loose = {path: data for path, data in self.possible.items() if path not in self.recorded}
        # The step is repeated, and then taken back after all.
        tree = LocalTree("music", "/music", disk=self.wrap(after))
        for uid in (UID, OTHER):
            mine = {path: data for path, data in loose.items() if self.owner[path] == uid}
            if self.recorded or uid == OTHER:
                for path, data in mine.items():
                    placed = tree.place(uid, path, BytesIO(data))
                    assert placed == PlacedFile("music", path, len(data), _sha256(data))
                assert mine.items() <= self._visible(after.crash("none")).items()
                tree.withdraw(uid, mine, ["C/D", "C"])
            else:  # an undo
                files = [PlacedFile("music", path, len(data), _sha256(data)) for path, data in mine.items()]
                tree.remove(UID, files, ["A/B"])
                tree.settle(UID)
        for disk in (after, after.crash("none"), after.crash("all")):
            assert self._visible(disk) == {**theirs, **self.recorded}
            directories = {path for path in disk.directories("/music") if not path.startswith(".stagedoor")}
            assert directories == {"A", "A/Other", "Theirs"} | ({"A/B"} if self.recorded else set())
        assert list(tree.unsettled()) == []
        assert ".stagedoor" not in after.directories("/music")
        # A killed process goes on.
        artwork = LocalTree("artwork", "/srv/library/artwork", disk=self.wrap(after))
        if not self.artwork:
            artwork.place(UID, "cover.jpg", BytesIO(b"cover"))
        assert after.crash("none").files("/srv/library/artwork")["cover.jpg"] == b"cover"
        assert after.descriptors == 0
        return None

    def _visible(self, disk: SimulatedDisk) -> dict[str, bytes]:
        return {path: data for path, data in disk.files("/music").items() if not path.startswith(".stagedoor")}


class TreeLifeWithoutLinks(TreeLife):
    links = False


_STATES = (State.WAITFORCHUNK, State.PREPROCESSED, State.UPLOADCOMPLETE, State.REMOVE)


class MusicDBLife(Life):
    """The uploads directory of a MusicDB 7: two tasks share a file, one of them still expects chunks."""

    def disk(self) -> SimulatedDisk:
        disk = super().disk()
        for number, state in enumerate(_STATES):
            checksum = f"{min(number, 2):040x}"  # the last two share a file
            disk.plant(f"/uploads/tasks/id{number}.json", orjson.dumps(musicdb_task(f"id{number}", checksum, state)))
            disk.plant(f"/uploads/video-{checksum}.MP4", self._content(checksum))
        return disk

    def _content(self, checksum: str) -> bytes:
        return (checksum.encode() * 30)[:1100]

    def live(self, disk: Disk) -> None:
        adopt_musicdb("/uploads", disk=self.wrap(disk))

    def check(self, after: SimulatedDisk, *, go_on: bool = True) -> object:
        disk = self.wrap(after)
        if go_on:
            adopt_musicdb("/uploads", disk=disk)
            assert adopt_musicdb("/uploads", disk=disk) == 0
            after = after.crash("none")
            disk = self.wrap(after)
        tasks = LocalTasks("/uploads", disk=disk)
        if not go_on:
            return None
        assert tasks.recover() == []
        store = LocalBytes("/uploads", disk=disk)
        found = store.recover({line.key: line.state for line in tasks.list()})
        assert not found.lost
        assert not found.quarantined
        assert [line.id for line in tasks.list()] == [f"id{number}" for number in range(len(_STATES))]
        for number, state in enumerate(_STATES):
            task = tasks.get(f"id{number}")
            assert task is not None
            assert task.state is state
            content = self._content(f"{min(number, 2):040x}")
            if state is State.WAITFORCHUNK:
                assert found.offsets == {task.key: 1000}
                assert task.offset == 1000
                content = content[:1000]
            with store.open(task.key) as file:
                assert file.read() == content
        store.release()
        left = {path.partition("/")[0] for path in after.files("/uploads")}
        assert left - {".adopting"} == {"data", "tasks"}  # a mark that comes back does no harm
        return None


def musicdb_task(uploadid: str, checksum: str, state: State, **changes: object) -> dict[str, object]:
    task: dict[str, object] = {
        "id": uploadid,
        "filesize": 1100,
        "offset": 1000 if state is State.WAITFORCHUNK else 1100,
        "contenttype": "video",
        "mimetype": "video/mp4",
        "sourcefilename": "Clip.MP4",
        "sourcechecksum": checksum,
        "destinationpath": f"/srv/uploads/video-{checksum}.MP4",
        "videofile": None,
        "artworkfile": None,
        "state": state.value,
        "annotations": {},
    }
    return {**task, **changes}


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


LIVES: tuple[type[Life], ...] = (BytesLife, TasksLife, TreeLife, TreeLifeWithoutLinks, MusicDBLife)


# ── crashes ───────────────────────────────────────────────────────────────────────────────────────────────────


def crashes(make: Callable[[], Life]) -> Iterator[tuple[Life, SimulatedDisk, FuseDisk]]:
    """The life at each of its crashes: before its first call, after each call, and in the middle of each write."""
    life = make()
    whole = FuseDisk(life.disk())
    life.live(whole)
    for number, call in enumerate(whole.calls, 1):
        for when in ("after", "torn") if call.method == "write_at" else ("after",):
            life = make()
            disk = life.disk()
            fuse = FuseDisk(disk, at=number, when=when)
            with pytest.raises(Crash):
                life.live(fuse)
            fuse.release()
            yield life, disk, fuse


def _cut(life: Life, disk: SimulatedDisk, samples: int, seed: int) -> None:
    """Cut the power now; and kill the process only, recover, and cut the power then."""
    chance = random.Random(seed)
    for survivors in (*POLICIES, *(random.Random(chance.random()) for _ in range(samples))):
        life.check(disk.crash(survivors))
    killed = disk.crash("all")  # nothing is lost by a kill; but nothing of it is on the disk for sure
    assert killed.files() == disk.files()
    told = life.check(disk, go_on=False)
    life.told(told, life.check(disk.crash("none"), go_on=False))
    life.check(disk)


@pytest.mark.parametrize("kind", LIVES)
def test_a_power_cut_at_every_call(kind: type[Life]) -> None:
    cuts = 0
    for life, disk, fuse in crashes(kind):
        _cut(life, disk, 5, fuse.at)
        cuts += 1
    assert cuts > 40


@pytest.mark.parametrize("kind", LIVES)
def test_all_is_well_without_a_crash(kind: type[Life]) -> None:
    life = kind()
    disk = life.disk()
    life.live(disk)
    _cut(life, disk, 50, 0)


@pytest.mark.parametrize("kind", LIVES)
def test_crashes_while_recovering_from_a_crash(kind: type[Life]) -> None:
    chance = random.Random(11)
    for life, disk, _ in crashes(kind):
        if chance.random() > 0.25:
            continue
        first = disk.crash(chance)
        again = kind()
        again.__dict__.update({k: v for k, v in life.__dict__.items() if k != "wrap"})

        def recover(second: SimulatedDisk, fuse: FuseDisk, again: Life = again) -> None:
            again.wrap = lambda _: fuse
            again.check(second, go_on=False)

        second = first.crash("all")
        whole = FuseDisk(second)
        recover(second, whole)
        for _ in range(3 if whole.calls else 0):
            second = first.crash("all")
            fuse = FuseDisk(second, at=chance.randint(1, len(whole.calls)), when=chance.choice(("before", "after")))
            with pytest.raises(Crash):
                recover(second, fuse)
            life.check(second.crash(chance))


def test_a_kill_at_every_call_on_the_real_file_system(tmp_path: Path) -> None:
    """The simulated disk is not only true to itself: the same life on the disk of this machine."""
    for number in range(1, 400):
        root = tmp_path / str(number)
        (root / "uploads").mkdir(parents=True)
        fuse = FuseDisk(_Below(str(root)), at=number, when="after" if number % 2 else "torn")
        life = BytesLife()
        try:
            life.live(fuse)
        except Crash:
            fuse.release()
        else:
            break
        store = LocalBytes("/uploads", disk=_Below(str(root)))
        found = store.recover(life.known)
        assert not found.lost
        for key, offset in found.offsets.items():
            assert offset >= life.acknowledged[key]
            with store.open(key) as file:
                assert file.read() == _BYTES[:offset]
        store.release()
    assert number > 60


class _Below(Disk):
    """The operating system's disk, below another root."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __getattribute__(self, name: str) -> object:
        value = object.__getattribute__(self, name)
        if name.startswith("_") or not callable(value):
            return value
        root = object.__getattribute__(self, "_root")

        def call(*args: object, **kwargs: object) -> object:
            return value(*(root + a if isinstance(a, str) and a.startswith("/") else a for a in args), **kwargs)

        return call


def test_what_musicdb_did_not_sync_is_synced_when_it_is_taken_over() -> None:
    life = MusicDBLife()
    disk = life.disk()
    path = f"/uploads/video-{0:040x}.MP4"
    content = disk.read(path)
    disk.unlink(path)
    fd = disk.open(path, create=True)
    disk.write_at(fd, content, 0)
    disk.close(fd)
    life.live(disk)
    life.check(disk.crash("none"))


class _Race(FuseDisk):
    """Somebody takes the name at the last moment."""

    def rename_exclusive(self, source: str, dest: str) -> None:
        assert isinstance(self.inner, SimulatedDisk)
        self.inner.plant(dest, b"first")
        super().rename_exclusive(source, dest)


def test_the_note_of_a_move_that_failed_adopts_no_stranger() -> None:
    disk = SimulatedDisk(links=False)
    with pytest.raises(Conflict):
        LocalTree("music", "/music", disk=_Race(disk)).place(UID, "1.mp4", BytesIO(b"mine!"))
    for inode in range(2, 20):  # whatever number the file system gives to the next file
        after = disk.crash("all")
        after.unlink("/music/1.mp4")
        after = after.crash("all")
        while "1.mp4" not in after.files("/music"):
            after.plant("/music/new", b"again")
            info = after.info("/music/new")
            assert info is not None
            after.replace("/music/new", "/music/1.mp4" if info.inode >= inode else f"/music/{info.inode}")
        with pytest.raises(Conflict):
            LocalTree("music", "/music", disk=after).place(UID, "1.mp4", BytesIO(b"mine!"))
        assert after.files("/music")["1.mp4"] == b"again"


@pytest.mark.parametrize("policy", POLICIES)
def test_an_undo_that_goes_on_after_a_power_cut_spares_what_came_since(policy: Policy) -> None:
    """Somebody else places the same bytes under the same name before the undo goes on."""
    path, data = "A/1.mp4", _BYTES[:700]
    ours = PlacedFile("music", path, len(data), _sha256(data))

    def prepared() -> SimulatedDisk:
        disk = SimulatedDisk()
        disk.mkdir("/music")
        tree = LocalTree("music", "/music", disk=disk)
        tree.place(UID, path, BytesIO(data))
        tree.settle(UID)
        disk.sync_all("/")
        return disk

    whole = FuseDisk(prepared())
    LocalTree("music", "/music", disk=whole).remove(UID, [ours], ["A"])
    for at in range(1, len(whole.calls) + 1):
        fuse = FuseDisk(disk := prepared(), at=at)
        with pytest.raises(Crash):
            LocalTree("music", "/music", disk=fuse).remove(UID, [ours], ["A"])
        fuse.release()
        after = disk.crash(policy)
        tree = LocalTree("music", "/music", disk=after)
        if not tree.exists(path):
            tree.place(OTHER, path, BytesIO(data))
            tree.settle(OTHER)
            tree.remove(UID, [ours], ["A"])
            assert tree.exists(path), f"call {at} of {len(whole.calls)}"
        else:
            tree.remove(UID, [ours], ["A"])
            assert not tree.exists(path)
        tree.settle(UID)


# ── nothing may be left out ───────────────────────────────────────────────────────────────────────────────────

_MATTERS = frozenset({
    "sync", "sync_data", "sync_directory", "sync_all", "link", "replace", "rename_exclusive", "unlink", "truncate",
    "mkdir", "rmdir", "write_at", "open_directory",
})  # fmt: skip

_ELSEWHERE = {
    ("unlink", "close"): "nobody asks for the offset any more: test_close_leaves_the_bytes_alone",
    ("unlink", "write_document"): "only after an error: test_a_failing_call_of_the_task_store",
    ("unlink", "_copy_file"): "only after a crash that left one, and recovery there needs it in one case of many",
    ("unlink", "_rename"): "only if another upload was taken back at that moment: the contract's threads",
    ("unlink", "_discard"): "test_the_note_of_a_move_that_failed_adopts_no_stranger, and the contract",
    ("sync_directory", "_take"): "test_an_undo_that_goes_on_after_a_power_cut_spares_what_came_since",
    ("unlink", "adopt_musicdb"): "test_the_mark_of_a_takeover_is_gone_at_its_end",
    ("sync_all", "_adopt_all"): "test_what_musicdb_did_not_sync_is_synced_when_it_is_taken_over",
}
"""Calls that a crash does not show, with what does, or why nothing does."""


class Omitted:
    """Leaves a call out of every adapter of a life."""

    def __init__(self, omit: Callable[[Call], bool]) -> None:
        self.omit = omit

    def __call__(self, disk: Disk) -> Disk:
        return CarelessDisk(disk, self.omit)

    def noticed(self, kind: type[Life]) -> bool:
        try:
            life = kind(self)
            disk = life.disk()
            life.live(disk)
            _cut(life, disk, 2, 0)
            for life, disk, fuse in crashes(lambda: kind(self)):
                _cut(life, disk, 2, fuse.at)
        except (AssertionError, UploadError, OSError, KeyError, pytest.fail.Exception):
            return True
        return False


def _sites(kind: type[Life]) -> list[Call]:
    seen: dict[Call, None] = {}
    watch = Omitted(lambda call: bool(seen.update({call: None})))
    life = kind(watch)
    disk = life.disk()
    life.live(disk)
    for life, disk, fuse in crashes(lambda: kind(watch)):
        if fuse.at % 3 == 0:
            life.check(disk.crash("all"))
    return [call for call in seen if call.method in _MATTERS and (call.method, call.site) not in _ELSEWHERE]


_SITES = {kind: _sites(kind) for kind in LIVES}


@pytest.mark.parametrize(
    "call",
    sorted({c for sites in _SITES.values() for c in sites}, key=str),
    ids=lambda c: f"{c.method} in {c.site}, line {c.line}",
)
def test_a_call_that_is_left_out_is_noticed(call: Call) -> None:
    omitted = Omitted(lambda made: made == call)
    assert any(omitted.noticed(kind) for kind, sites in _SITES.items() if call in sites)


@pytest.mark.parametrize("method", sorted(_MATTERS - {"open_directory"}))
def test_a_kind_of_call_that_is_left_out_is_noticed(method: str) -> None:
    omitted = Omitted(lambda made: made.method == method)
    kinds = [kind for kind, sites in _SITES.items() if any(call.method == method for call in sites)]
    assert any(omitted.noticed(kind) for kind in kinds)
