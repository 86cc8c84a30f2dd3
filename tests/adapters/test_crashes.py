"""A crash at every file call of the local adapters, with what may survive of it, and recovery after it.

A `Life` is what the engine does with an adapter, and what it has told others so far. It runs on a simulated disk
until a crash at one call; then the power is cut (any legal set of what was not synced survives), or only the process
killed. Recovery must find what was told. Leaving out any call of a kind that matters must make a check fail: that
is a test here as well.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

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
    """Uploads beside each other's and other people's files: integrated, taken back, undone."""

    links: ClassVar[bool] = True
    exclusive: ClassVar[bool] = True
    theirs: ClassVar[dict[str, bytes]] = {"Theirs/song.mp3": b"theirs", "A/Other/taken.mp4": b"taken"}
    old: ClassVar[dict[str, bytes]] = {}
    """Files of other people that an upload replaces."""
    new: ClassVar[list[str]] = ["A/B", "C/D", "C"]
    """Directories that are made."""

    def __init__(self, wrap: Callable[[Disk], Disk] = plain) -> None:
        super().__init__(wrap)
        self.recorded: dict[str, bytes] = {}
        self.possible: dict[str, bytes] = {}
        self.owner: dict[str, str] = {}
        self.directories: list[str] = []
        self.artwork: dict[str, bytes] = {}
        self.taking = False
        """Something is being taken back: for a moment, neither ours nor the old file may have the name."""
        self.undoing = ""
        """The uid of what was on record and is being taken back."""
        self.over: set[str] = set()
        """The uids whose old files are being deleted for good."""
        self.discarded: set[str] = set()

    def disk(self) -> SimulatedDisk:
        disk = SimulatedDisk(links=self.links, exclusive=self.exclusive)
        for path, data in {**self.theirs, **self.old}.items():
            disk.plant(f"/music/{path}", data)
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
        self._undo(tree, UID)

    def _place(self, tree: LocalTree, uid: str, path: str, data: bytes) -> None:
        self.owner[path] = uid
        self.possible[path] = data
        self.directories = list(tree.missing_directories(path))
        placed = tree.place(uid, path, BytesIO(data), replace=path in self.old)
        assert placed == self._placed(path, data)

    def _placed(self, path: str, data: bytes) -> PlacedFile:
        replaced = _sha256(self.old[path]) if path in self.old else None
        return PlacedFile("music", path, len(data), _sha256(data), replaced)

    def _record(self, tree: LocalTree, uid: str) -> None:
        for path, owner in self.owner.items():
            if owner == uid:
                self.recorded[path] = self.possible[path]
        tree.settle(uid)

    def _withdraw(self, tree: LocalTree, uid: str, path: str) -> None:
        self.taking = True
        tree.withdraw(uid, [path], self.directories)
        self.taking = False
        del self.possible[path]

    def _undo(self, tree: LocalTree, uid: str) -> None:
        mine = {path: data for path, data in self.recorded.items() if self.owner[path] == uid}
        for path in mine:
            del self.recorded[path]
        self.taking, self.undoing = True, uid
        tree.remove(uid, [self._placed(path, data) for path, data in mine.items()], ["A/B"])
        self.taking = False
        for path in mine:
            del self.possible[path]
        tree.settle(uid)
        self.undoing = ""

    def _discard(self, tree: LocalTree, uid: str) -> None:
        self.over.add(uid)
        tree.discard(uid)
        self.discarded.add(uid)

    def check(self, after: SimulatedDisk, *, go_on: bool = True) -> object:
        visible = self._visible(after)
        # Whatever the adapter does next, this is what players see now.
        assert self.theirs.items() <= visible.items()
        assert self.recorded.items() <= visible.items()
        assert visible.keys() <= {**self.theirs, **self.old, **self.possible}.keys()
        for path, data in visible.items():
            assert data in (self.theirs.get(path), self.old.get(path), self.possible.get(path))
        for path, data in self.old.items():
            if path not in self.possible:
                assert visible[path] == data
            elif path not in visible:
                assert self.taking or not self.links
            if visible.get(path) != data and self.owner[path] not in self.over:
                # Whoever finds it in the journal knows where it belongs, whatever becomes of the upload.
                found = LocalTree("music", "/music", disk=after).kept()[self.owner[path]]
                assert data in [after.read(f"/music/{file.at}") for file in found if file.path == path]
        assert self.artwork.items() <= after.files().items()
        for uid in self.discarded:
            assert f".stagedoor/{uid}.kept" not in after.directories("/music")
        if not go_on:
            return None
        loose = {path: data for path, data in self.possible.items() if path not in self.recorded}
        # The step is repeated, and then taken back after all.
        tree = LocalTree("music", "/music", disk=self.wrap(after))
        for uid in (UID, OTHER):
            mine = {path: data for path, data in loose.items() if self.owner[path] == uid}
            if uid != self.undoing:
                self._go_on(tree, after, uid, mine)
            else:
                tree.remove(uid, [self._placed(path, data) for path, data in mine.items()], ["A/B"])
                tree.settle(uid)
        for disk in (after, after.crash("none"), after.crash("all")):
            assert self._visible(disk) == {**self.theirs, **self.old, **self.recorded}
            directories = {path for path in disk.directories("/music") if not path.startswith(".stagedoor")}
            assert directories == {"A", "A/Other", "Theirs"} | ({"A/B"} if "A/B/1.mp4" in self.recorded else set())
        assert list(tree.unsettled()) == []
        self._undo_what_is_recorded(tree, after)
        for uid in self.over:
            tree.discard(uid)
            assert f".stagedoor/{uid}.kept" not in after.crash("none").directories("/music")
        assert ".stagedoor" not in after.directories("/music")
        # A killed process goes on.
        artwork = LocalTree("artwork", "/srv/library/artwork", disk=self.wrap(after))
        if not self.artwork:
            artwork.place(UID, "cover.jpg", BytesIO(b"cover"))
        assert after.crash("none").files("/srv/library/artwork")["cover.jpg"] == b"cover"
        assert after.descriptors == 0
        return None

    def _go_on(self, tree: LocalTree, after: SimulatedDisk, uid: str, mine: dict[str, bytes]) -> None:
        if not self.taking:  # who takes back does not place again
            for path, data in mine.items():
                placed = tree.place(uid, path, BytesIO(data), replace=path in self.old)
                assert placed == self._placed(path, data)
            assert mine.items() <= self._visible(after.crash("none")).items()
        tree.withdraw(uid, mine, self.new)

    def _undo_what_is_recorded(self, tree: LocalTree, after: SimulatedDisk) -> None:
        """However long ago it was recorded, the old files come back; but for those that were given up."""
        gone = {path for path in self.recorded if self.owner[path] in self.over}
        for path, data in self.recorded.items():
            if path not in gone:
                tree.remove(self.owner[path], [self._placed(path, data)], ["A/B"])
                tree.settle(self.owner[path])
        kept = {path: data for path, data in self.recorded.items() if path in gone}
        for disk in (after, after.crash("none")):
            assert self._visible(disk) == {**self.theirs, **self.old, **kept}

    def _visible(self, disk: SimulatedDisk) -> dict[str, bytes]:
        return {path: data for path, data in disk.files("/music").items() if not path.startswith(".stagedoor")}


class TreeLifeWithoutLinks(TreeLife):
    links = False


class ReplaceLife(TreeLife):
    """Uploads that replace other people's files: integrated, taken back, undone, removed."""

    old: ClassVar[dict[str, bytes]] = {"A/Other/1.mp4": b"first", "Theirs/2.mp4": b"second" * 200, "3.mp4": b"third"}
    new: ClassVar[list[str]] = []

    def live(self, disk: Disk) -> None:
        self.artwork["srv/library/artwork/cover.jpg"] = b"cover"
        tree = LocalTree("music", "/music", disk=self.wrap(disk))
        self._place(tree, OTHER, "Theirs/2.mp4", _BYTES[:900])
        self._withdraw(tree, OTHER, "Theirs/2.mp4")
        self._place(tree, UID, "A/Other/1.mp4", _BYTES[:3000])
        self._place(tree, UID, "Theirs/2.mp4", _BYTES[:10])
        self._record(tree, UID)
        self._undo(tree, UID)
        self._place(tree, OTHER, "3.mp4", _BYTES[:700])
        self._record(tree, OTHER)
        self._discard(tree, OTHER)

    def disk(self) -> SimulatedDisk:
        disk = super().disk()
        disk.plant("/srv/library/artwork/cover.jpg", b"cover")
        return disk


class ReplaceLifeWithoutLinks(ReplaceLife):
    links = False


class ReplaceLifeWithoutRenames(ReplaceLife):
    """As over NFS: links, but neither a rename that never replaces nor one that exchanges."""

    exclusive = False


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


LIVES: tuple[type[Life], ...] = (
    BytesLife, TasksLife, TreeLife, TreeLifeWithoutLinks, ReplaceLife, ReplaceLifeWithoutLinks,
    ReplaceLifeWithoutRenames, MusicDBLife,
)  # fmt: skip


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


# ── what was replaced ─────────────────────────────────────────────────────────────────────────────────────────

_OLD, _OURS, _LATER = b"old" * 300, _BYTES[:700], b"later"
_DISKS = [
    pytest.param(links, exclusive, id=name)
    for name, links, exclusive in (("", True, True), ("no links", False, True), ("no renames", True, False))
]


def _kept(disk: SimulatedDisk, uid: str = UID) -> list[bytes]:
    found = disk.files(f"/music/.stagedoor/{uid}.kept")
    return [data for name, data in found.items() if not name.endswith(".path")]


def _replaced(links: bool, exclusive: bool) -> tuple[SimulatedDisk, PlacedFile]:
    """A disk where an old file was replaced, on record."""
    disk = SimulatedDisk(links=links, exclusive=exclusive)
    disk.plant("/music/A/1.mp4", _OLD)
    tree = LocalTree("music", "/music", disk=disk)
    placed = tree.place(UID, "A/1.mp4", BytesIO(_OURS), replace=True)
    tree.settle(UID)
    disk.sync_all("/")
    return disk, placed


@pytest.mark.parametrize(("links", "exclusive"), _DISKS)
@pytest.mark.parametrize("policy", POLICIES)
def test_an_undo_of_a_file_that_is_gone_brings_the_old_one_back(links: bool, exclusive: bool, policy: Policy) -> None:
    """Whatever stops it, and the old file is not taken for ours, changed."""

    def prepared() -> tuple[SimulatedDisk, PlacedFile]:
        disk, placed = _replaced(links, exclusive)
        disk.unlink("/music/A/1.mp4")
        disk.sync_all("/")
        return disk, placed

    disk, placed = prepared()
    whole = FuseDisk(disk)
    LocalTree("music", "/music", disk=whole).remove(UID, [placed], ["A"])
    for at in range(1, len(whole.calls) + 1):
        disk, placed = prepared()
        fuse = FuseDisk(disk, at=at, when="after")
        with pytest.raises(Crash):
            LocalTree("music", "/music", disk=fuse).remove(UID, [placed], ["A"])
        fuse.release()
        for after in (disk, disk.crash(policy)):
            tree = LocalTree("music", "/music", disk=after)
            assert tree.check(UID, placed), f"call {at} of {len(whole.calls)}"
            tree.remove(UID, [placed], ["A"])
            assert after.crash("none").files("/music")["A/1.mp4"] == _OLD
            tree.settle(UID)
            assert after.directories("/music") == ["A"]


@pytest.mark.parametrize(("links", "exclusive"), _DISKS)
@pytest.mark.parametrize("policy", POLICIES)
def test_an_old_file_whose_name_somebody_takes_meanwhile_stays(links: bool, exclusive: bool, policy: Policy) -> None:
    """An undo is interrupted while nobody has the name."""
    disk, placed = _replaced(links, exclusive)
    whole = FuseDisk(disk)
    LocalTree("music", "/music", disk=whole).remove(UID, [placed], ["A"])
    taken = 0
    for at in range(1, len(whole.calls) + 1):
        disk, placed = _replaced(links, exclusive)
        fuse = FuseDisk(disk, at=at, when="after")
        with pytest.raises(Crash):
            LocalTree("music", "/music", disk=fuse).remove(UID, [placed], ["A"])
        fuse.release()
        after = disk.crash(policy)
        if "A/1.mp4" in after.files("/music"):
            continue
        taken += 1
        after.plant("/music/A/1.mp4", _LATER)
        tree = LocalTree("music", "/music", disk=after)
        for _ in range(2):
            tree.remove(UID, [placed], ["A"])
        tree.settle(UID)
        for now in (after, after.crash("none")):
            assert now.files("/music")["A/1.mp4"] == _LATER
            assert _kept(now) == [_OLD]
        tree.discard(UID)
        assert after.crash("none").files("/music") == {"A/1.mp4": _LATER}
    assert taken or policy in ("none", "data")


class _Faster(FuseDisk):
    """Somebody puts another file, or a link, under a name just before a call."""

    def __init__(self, inner: SimulatedDisk, method: str, link: bool = False) -> None:
        super().__init__(inner)
        self.method, self.with_a_link = method, link

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if method == self.method and _LATER not in self.inner.files("/music").values():  # type: ignore[attr-defined]
            self.method = ""
            self.put()
        return super()._call(method, *args, **kwargs)

    def put(self) -> None:
        disk = self.inner
        assert isinstance(disk, SimulatedDisk)
        disk.unlink("/music/A/1.mp4")
        if self.with_a_link:
            disk.symlink("/secret", "/music/A/1.mp4")
        else:
            disk.plant("/music/A/1.mp4", _LATER)


@pytest.mark.parametrize(("links", "exclusive"), _DISKS)
def test_an_old_file_in_the_journal_never_lost_its_name(links: bool, exclusive: bool) -> None:
    """Whatever of a replacement survives, it can be put back by hand."""
    for number in range(2, 400):  # the first call is before everything
        disk = SimulatedDisk(links=links, exclusive=exclusive)
        disk.plant("/music/A/1.mp4", _OLD)
        fuse = FuseDisk(disk, at=number, when="after")
        with suppress(Crash):
            LocalTree("music", "/music", disk=fuse).place(UID, "A/1.mp4", BytesIO(_OURS), replace=True)
        for survivors in (*POLICIES, *(random.Random(seed) for seed in range(20))):
            after = disk.crash(survivors)
            for file in LocalTree("music", "/music", disk=after).kept().get(UID, ()):
                assert file.path == "A/1.mp4" or after.files("/music").get("A/1.mp4") == _OLD
        if not fuse.blown:
            return
    pytest.fail("There is no end to it.")


@pytest.mark.parametrize(("method", "links"), [("link", True), ("exchange", True), ("rename_exclusive", False)])
@pytest.mark.parametrize("link", [False, True])
def test_what_comes_at_the_last_moment_is_not_overwritten(method: str, links: bool, link: bool) -> None:
    disk = SimulatedDisk(links=links)
    disk.plant("/secret", b"secret")
    disk.plant("/music/A/1.mp4", _OLD)
    tree = LocalTree("music", "/music", disk=_Faster(disk, method, link))
    if link or method == "exchange":
        with pytest.raises(Conflict):
            tree.place(UID, "A/1.mp4", BytesIO(_OURS), replace=True)
    else:  # early enough: it is what is replaced
        placed = tree.place(UID, "A/1.mp4", BytesIO(_OURS), replace=True)
        assert placed.replaced == _sha256(_LATER)
        tree.withdraw(UID, ["A/1.mp4"], [])
    assert disk.crash("none").files("/music")["A/1.mp4"] == (b"/secret" if link else _LATER)
    assert disk.files()["secret"] == b"secret"
    # He took the name from the old file himself; if that was after we had it, it is not lost even so.
    assert _kept(disk) == ([_OLD] if method == "exchange" else [])


@pytest.mark.parametrize("recorded", [False, True])
def test_a_kill_at_every_call_of_a_replacement_on_the_real_file_system(tmp_path: Path, recorded: bool) -> None:
    """Placed and taken back, or placed, recorded and undone: the old file is never lost, and comes back."""
    for number in range(2, 400):  # the first call is before everything
        root = tmp_path / str(number)
        old = root / "A" / "1.mp4"
        old.parent.mkdir(parents=True)
        old.write_bytes(_OLD)
        fuse = FuseDisk(at=number, when="after")
        tree = LocalTree("music", str(root), "none", fuse)
        placed = None
        try:
            placed = tree.place(UID, "A/1.mp4", BytesIO(_OURS), replace=True)
            tree.settle(UID) if recorded else tree.withdraw(UID, ["A/1.mp4"], [])
            tree.remove(UID, [placed] if recorded else [], [])
        except Crash:
            fuse.release()
        assert _OLD in [path.read_bytes() for path in root.rglob("*") if path.is_file()]
        tree = LocalTree("music", str(root), "none")
        if recorded and placed is not None:
            tree.remove(UID, [placed], [])
            tree.settle(UID)
        else:
            tree.withdraw(UID, ["A/1.mp4"], [])
        assert old.read_bytes() == _OLD
        assert [path.name for path in root.iterdir()] == ["A"]
        if not fuse.blown:
            break
    assert number > 40


@pytest.mark.parametrize("again", [False, True])
def test_what_was_discarded_does_not_come_back(again: bool) -> None:
    """Also when the first attempt was stopped, and another upload has tidied up since."""
    disk, _ = _replaced(links=True, exclusive=True)
    if again:
        fuse = FuseDisk(disk, only=("rmdir",), at=1, when="after")
        with pytest.raises(Crash):
            LocalTree("music", "/music", disk=fuse).discard(UID)
        tree = LocalTree("music", "/music", disk=disk)
        tree.settle(OTHER)
        assert ".stagedoor" not in disk.directories("/music")
    LocalTree("music", "/music", disk=disk).discard(UID)
    assert disk.crash("none").files("/music") == {"A/1.mp4": _OURS}


# ── nothing may be left out ───────────────────────────────────────────────────────────────────────────────────

_MATTERS = frozenset({
    "sync", "sync_data", "sync_directory", "sync_all", "link", "replace", "rename_exclusive", "exchange", "unlink",
    "truncate", "mkdir", "rmdir", "write_at", "open_directory",
})  # fmt: skip

_ELSEWHERE = {
    ("unlink", "close"): "nobody asks for the offset any more: test_close_leaves_the_bytes_alone",
    ("unlink", "write_document"): "only after an error: test_a_failing_call_of_the_task_store",
    ("unlink", "_copy_file"): "only after a crash that left one, and recovery there needs it in one case of many",
    ("unlink", "_give"): "only if another upload was taken back at that moment: the contract's threads",
    ("unlink", "_forget"): "test_the_note_of_a_move_that_failed_adopts_no_stranger, and the contract",
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

    def noticed(self, kinds: list[type[Life]]) -> bool:
        """Whether one of the lives goes wrong; without a crash, or with few survivors by chance, that is seen soon."""
        return any(self._noticed(kind, samples) for samples in (0, 2, 20) for kind in kinds)

    def _noticed(self, kind: type[Life], samples: int) -> bool:
        try:
            if not samples:
                life = kind(self)
                disk = life.disk()
                life.live(disk)
                _cut(life, disk, 2, 0)
                return False
            for life, disk, fuse in crashes(lambda: kind(self)):
                _cut(life, disk, samples, fuse.at)
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
    assert omitted.noticed([kind for kind, sites in _SITES.items() if call in sites])


@pytest.mark.parametrize("method", sorted(_MATTERS - {"open_directory"}))
def test_a_kind_of_call_that_is_left_out_is_noticed(method: str) -> None:
    omitted = Omitted(lambda made: made.method == method)
    assert omitted.noticed([kind for kind, sites in _SITES.items() if any(call.method == method for call in sites)])
