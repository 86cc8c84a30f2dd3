"""The local adapters: the promises of their ports, and what is theirs alone.

Crashes are in ``test_crashes.py``, failing calls in ``test_faults.py``.
"""

import errno
import fcntl
import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs
import orjson
import pytest

from stagedoor.adapters.disk import Disk
from stagedoor.adapters.local import DirectoryLock, LocalBytes, LocalTasks, LocalTree, _Place, adopt_musicdb
from stagedoor.errors import ConfigurationError, Conflict, DataLost, InUse, StorageError
from stagedoor.lifecycle import State
from stagedoor.ports import ByteStore, KeptFile, TaskStore, Tree
from stagedoor.tasks import SCHEMA, PlacedFile, UploadTask, dump, load, to_dict
from stagedoor.testing.disk import FuseDisk, SimulatedDisk
from stagedoor.testing.stores import ByteStoreContract, TaskStoreContract, TreeContract, full_task, upload_task

from .test_crashes import musicdb_task

UID = f"{1:032x}"
KEY = f"{UID}.0"
NAME = "video-pending.mp4"
FINAL = f"video-{'a' * 40}.mp4"


class TestBytes(ByteStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ByteStore]:
        self.root = tmp_path
        self.stores = [LocalBytes(str(tmp_path), durability="process", open_places=3)]
        yield self.stores[0]
        for store in self.stores:
            store.release()

    def reopen(self, store: ByteStore) -> ByteStore:
        self.stores.append(LocalBytes(str(self.root), durability="process", open_places=3))
        return self.stores[-1]

    def damage(self, store: ByteStore, key: str, size: int | None) -> None:
        path = self.root / "data" / key / NAME
        path.unlink() if size is None else os.truncate(path, size)


class TestDurableBytes(TestBytes):
    @pytest.fixture
    def store(self) -> ByteStore:
        self.disk = SimulatedDisk()
        self.disk.mkdir("/uploads")
        self.disk.sync_directory("/")
        return LocalBytes("/uploads", disk=self.disk)

    def reopen(self, store: ByteStore) -> ByteStore:
        self.disk = self.disk.crash("none")
        return LocalBytes("/uploads", disk=self.disk)

    def damage(self, store: ByteStore, key: str, size: int | None) -> None:
        path = f"/uploads/data/{key}/{NAME}"
        if size is None:
            self.disk.unlink(path)
        else:
            fd = self.disk.open(path, write=True)
            self.disk.truncate(fd, size)
            self.disk.close(fd)


class TestTasks(TaskStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> TaskStore:
        self.root = tmp_path
        return LocalTasks(str(tmp_path), durability="process", cached=2)

    def reopen(self, store: TaskStore) -> TaskStore:
        return LocalTasks(str(self.root), durability="process", cached=2)


class TestDurableTasks(TestTasks):
    @pytest.fixture
    def store(self) -> TaskStore:
        self.disk = SimulatedDisk()
        self.disk.mkdir("/uploads")
        self.disk.sync_directory("/")
        return LocalTasks("/uploads", disk=self.disk, cached=2)

    def reopen(self, store: TaskStore) -> TaskStore:
        self.disk = self.disk.crash("none")
        return LocalTasks("/uploads", disk=self.disk, cached=2)


class LocalTreeContract(TreeContract):
    root: Path

    def reopen(self, tree: Tree) -> Tree:
        return LocalTree("music", str(self.root), "none")

    def read(self, tree: Tree, path: str) -> bytes | None:
        file = self.root / path
        return file.read_bytes() if file.exists() else None

    def write(self, tree: Tree, path: str, data: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def delete(self, tree: Tree, path: str) -> None:
        (self.root / path).unlink()

    def kept(self, tree: Tree, uid: str) -> Sequence[bytes]:
        found = (self.root / ".stagedoor" / f"{uid}.kept").glob("*")
        return [file.read_bytes() for file in found if file.suffix != ".path"]


class TestTree(LocalTreeContract):
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        self.root = tmp_path / "deep" / "Music"
        return LocalTree("music", str(self.root), "none")


class NoLinks(Disk):
    def link(self, source: str, dest: str) -> bool:
        return False


class TestTreeWithoutLinks(LocalTreeContract):
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        self.root = tmp_path
        return LocalTree("music", str(tmp_path), "none", NoLinks())

    def reopen(self, tree: Tree) -> Tree:
        return LocalTree("music", str(self.root), "none", NoLinks())


class TestDurableTree(TreeContract):
    links = True
    exclusive = True

    @pytest.fixture
    def tree(self) -> Tree:
        self.disk = SimulatedDisk(links=self.links, exclusive=self.exclusive)
        return LocalTree("music", "/music", disk=self.disk)

    def reopen(self, tree: Tree) -> Tree:
        self.disk = self.disk.crash("none")
        return LocalTree("music", "/music", disk=self.disk)

    def read(self, tree: Tree, path: str) -> bytes | None:
        return self.disk.files("/music").get(path)

    def write(self, tree: Tree, path: str, data: bytes) -> None:
        self.disk.plant(f"/music/{path}", data)

    def delete(self, tree: Tree, path: str) -> None:
        self.disk.unlink(f"/music/{path}")
        self.disk.sync_directory(os.path.dirname(f"/music/{path}"))

    def kept(self, tree: Tree, uid: str) -> Sequence[bytes]:
        found = self.disk.files(f"/music/.stagedoor/{uid}.kept")
        return [data for name, data in found.items() if not name.endswith(".path")]


class TestDurableTreeWithoutLinks(TestDurableTree):
    links = False


class TestDurableTreeWithoutRenames(TestDurableTree):
    """As over NFS: links, but neither a rename that never replaces nor one that exchanges."""

    exclusive = False


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_are_bounded_when_a_thousand_uploads_are_open(tmp_path: Path) -> None:
    store = LocalBytes(str(tmp_path), durability="none", open_places=50)
    before = descriptors()
    keys = [f"{number:032x}.0" for number in range(1000)]
    for key in keys:
        store.create(key, NAME)
    for at in range(3):
        for key in keys:
            store.append(key, at, b"x")
            assert store.commit(key) == at + 1
            assert descriptors() - before <= 2 * 51
    for key in keys[:500]:
        store.seal(key, FINAL)
        store.close(key)
    store.release()
    assert descriptors() == before
    assert store.size(keys[-1]) == 3
    store.release()


def test_what_is_not_on_record_keeps_its_descriptors(tmp_path: Path) -> None:
    """Closing them would forget where the next bytes belong."""
    store = LocalBytes(str(tmp_path), durability="none", open_places=1)
    keys = [f"{number:032x}.0" for number in range(5)]
    for key in keys:
        store.create(key, NAME)
        store.append(key, 0, b"abc")
    for key in keys:
        store.append(key, 3, b"def")
        assert store.commit(key) == 6
    store.seal(keys[0], FINAL)
    for key in keys[1:]:
        store.append(key, 6, b"x")
        store.commit(key)
    with pytest.raises(Conflict):  # sealed, whatever was opened since
        store.append(keys[0], 6, b"x")
    store.release()


def test_a_deletion_does_not_close_what_another_thread_uses(tmp_path: Path) -> None:
    """Its descriptors might be another file's by then."""
    entered, let_go = threading.Event(), threading.Event()

    class Slow(Disk):
        def write_at(self, fd: int, data: object, offset: int) -> None:
            entered.set()
            assert let_go.wait(30)
            super().write_at(fd, data, offset)  # type: ignore[arg-type]  # a buffer, for those who call it

    store = LocalBytes(str(tmp_path), durability="none", disk=Slow())
    store.create(KEY, NAME)
    before = descriptors()
    writer = threading.Thread(target=store.append, args=(KEY, 0, b"abc"))
    writer.start()
    assert entered.wait(30)
    store.delete(KEY)
    assert descriptors() == before
    let_go.set()
    writer.join(30)
    assert descriptors() == before - 2
    with pytest.raises(DataLost):
        store.size(KEY)


@pytest.mark.parametrize("what", ["link", "file", "pipe", "directory link"])
def test_what_has_the_name_of_a_place_goes_into_quarantine(tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root = tmp_path / "uploads"
    root.mkdir()
    store = LocalBytes(str(root), durability="process")
    for uid in range(2):
        plant(root / "data" / f"{uid:032x}.0", what, outside)
    found = store.recover({f"{0:032x}.0": State.PREPROCESSED})
    assert len(found.quarantined) == 2
    assert set(found.lost) == {f"{0:032x}.0"}
    assert list((root / "data").iterdir()) == []
    assert (outside / "secret").read_bytes() == b"secret"
    store.create(f"{0:032x}.0", NAME)
    store.release()


def plant(path: Path, what: str, outside: Path) -> None:
    """Something that is no file of ours."""
    if what == "link":
        path.symlink_to(outside / "secret")
    elif what == "directory link":
        path.symlink_to(outside)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
        (path / "something").write_bytes(b"in it")
    else:
        path.write_bytes(b"a file")


@pytest.mark.parametrize("name", [NAME, ".offset"])
@pytest.mark.parametrize("what", ["link", "pipe", "directory", "directory link"])
def test_what_has_the_name_of_a_file_of_ours_is_lost_data(tmp_path: Path, name: str, what: str) -> None:
    """It is not followed, does not block, and the other uploads start."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    other = f"{2:032x}.0"
    store = LocalBytes(str(tmp_path), durability="process")
    for key in (KEY, other):
        store.create(key, NAME)
        store.append(key, 0, b"abc")
        store.commit(key)
    store.release()
    (tmp_path / "data" / KEY / name).unlink()
    plant(tmp_path / "data" / KEY / name, what, outside)
    store = LocalBytes(str(tmp_path), durability="process")
    found = store.recover({KEY: State.WAITFORCHUNK, other: State.WAITFORCHUNK})
    assert set(found.lost) == {KEY}
    assert dict(found.offsets) == {other: 3}
    if name == NAME:
        with pytest.raises(DataLost), store.open(KEY):
            pass
    store.delete(KEY)
    assert not (tmp_path / "data" / KEY).exists()
    assert (outside / "secret").read_bytes() == b"secret"
    store.release()


def test_a_missing_record_is_lost_data_and_not_an_empty_upload(tmp_path: Path) -> None:
    store = LocalBytes(str(tmp_path), durability="process")
    store.create(KEY, NAME)
    store.append(KEY, 0, b"abc")
    store.commit(KEY)
    store.release()
    (tmp_path / "data" / KEY / ".offset").unlink()
    found = LocalBytes(str(tmp_path), durability="process").recover({KEY: State.WAITFORCHUNK})
    assert set(found.lost) == {KEY}


@pytest.mark.parametrize("flip", [0, 3, 4, 12, 20, 23])
def test_a_record_with_a_wrong_bit_is_not_believed(tmp_path: Path, flip: int) -> None:
    """The other slot holds the record before it, and less is on record than there is: that is cut away."""
    store = LocalBytes(str(tmp_path), durability="process")
    store.create(KEY, NAME)
    for at in (0, 3):
        store.append(KEY, at, b"abc")
        store.commit(KEY)
    store.release()
    path = tmp_path / "data" / KEY / ".offset"
    raw = bytearray(path.read_bytes())
    raw[4096 + flip] ^= 1
    path.write_bytes(raw)
    store = LocalBytes(str(tmp_path), durability="process")
    assert dict(store.recover({KEY: State.WAITFORCHUNK}).offsets) == {KEY: 3}
    store.append(KEY, 3, b"xyz")
    assert store.commit(KEY) == 6
    store.release()


def test_what_a_file_manager_leaves_beside_the_data_does_no_harm(tmp_path: Path) -> None:
    store = LocalBytes(str(tmp_path), durability="process")
    store.create(KEY, NAME)
    store.append(KEY, 0, b"data")
    store.commit(KEY)
    store.release()
    (tmp_path / "data" / KEY / "Thumbs.db").write_bytes(b"x")
    store = LocalBytes(str(tmp_path), durability="process")
    assert store.recover({KEY: State.WAITFORCHUNK}).offsets == {KEY: 4}
    store.delete(KEY)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_place_that_no_task_came_to_use_is_deleted_and_one_with_bytes_is_kept(tmp_path: Path) -> None:
    other = f"{'f' * 32}.0"
    store = LocalBytes(str(tmp_path), durability="process")
    store.create(KEY, NAME)  # the process was killed before the task was on record
    store.create(other, NAME)
    store.append(other, 0, b"data")
    store.commit(other)
    store.release()
    found = LocalBytes(str(tmp_path), durability="process").recover({})
    assert list(found.deleted) == [f"data/{KEY}"]
    assert [name.partition("-")[2] for name in found.quarantined] == [other]
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("what", ["file", "link", "directory link"])
def test_what_has_the_name_of_a_place_is_deleted_and_not_what_it_leads_to(tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store = LocalBytes(str(tmp_path), durability="process")
    if what == "file":
        (tmp_path / "data" / KEY).write_bytes(b"")
    else:
        (tmp_path / "data" / KEY).symlink_to(outside / "secret" if what == "link" else outside)
    store.delete(KEY)
    assert list((tmp_path / "data").iterdir()) == []
    assert (outside / "secret").read_bytes() == b"secret"


def test_too_many_open_files_at_a_write_is_the_disk(tmp_path: Path) -> None:
    """Nothing was opened: to wait for descriptors would help nobody."""
    fuse = FuseDisk(error=OSError(errno.EMFILE, ""), only=("write_at",))
    store = LocalBytes(str(tmp_path), durability="process", disk=fuse)
    store.create(KEY, NAME)
    fuse.at = len(fuse.calls) + 1
    with pytest.raises(StorageError) as failed:
        store.append(KEY, 0, b"data")
    assert (failed.value.code, failed.value.sentence) == (
        "storage_error",
        "Storing a chunk failed: Input/output error.",
    )
    store.release()


def test_two_files_in_a_place_are_not_guessed_between(tmp_path: Path) -> None:
    store = LocalBytes(str(tmp_path), durability="process")
    store.create(KEY, NAME)
    store.release()
    (tmp_path / "data" / KEY / f"video-{'a' * 40}.mp4").write_bytes(b"x")
    store = LocalBytes(str(tmp_path), durability="process")
    assert set(store.recover({KEY: State.WAITFORCHUNK}).lost) == {KEY}
    store.delete(KEY)
    assert list((tmp_path / "data").iterdir()) == []


def test_the_quarantine_is_emptied_of_what_came_before(tmp_path: Path) -> None:
    store = LocalBytes(str(tmp_path), durability="process")
    assert store.age_out(1e12) == 0
    quarantine = tmp_path / "quarantine"
    (quarantine / "100-old" / "deep").mkdir(parents=True)
    (quarantine / "100-old" / "deep" / "file").write_bytes(b"x")
    (quarantine / "100-old" / "link").symlink_to(tmp_path)
    (quarantine / "99-file").write_bytes(b"x")
    (quarantine / "98-a-name-with-more").write_bytes(b"x")
    (quarantine / "200-new").write_bytes(b"x")
    (quarantine / "no time").write_bytes(b"x")
    assert store.age_out(200.0) == 3
    assert {path.name for path in quarantine.iterdir()} == {"200-new", "no time"}
    assert (tmp_path / "data").is_dir()


def test_it_knows_how_much_room_there_is(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert LocalBytes(str(tmp_path)).free() <= found.f_blocks * found.f_frsize


def test_a_data_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name, adapter in (("data", LocalBytes), ("tasks", LocalTasks)):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StorageError):
            adapter(str(tmp_path))


def test_what_is_missing_and_what_is_there_twice_are_told_apart(tmp_path: Path) -> None:
    store = LocalBytes(str(tmp_path), durability="none")
    for key in (f"{1:032x}.0", f"{2:032x}.0"):
        store.create(key, NAME)
    store.release()
    (tmp_path / "data" / f"{1:032x}.0" / NAME).unlink()
    (tmp_path / "data" / f"{2:032x}.0" / FINAL).write_bytes(b"x")
    assert LocalBytes(str(tmp_path), durability="none").recover(
        {f"{number:032x}.0": State.WAITFORCHUNK for number in (1, 2, 3)}
    ).lost == {
        f"{1:032x}.0": f"The data of {1:032x}.0 is gone.",
        f"{2:032x}.0": f"The data of {2:032x}.0 is not one file.",
        f"{3:032x}.0": "The uploaded data is gone from the disk.",
    }


@pytest.mark.parametrize(
    "busy", [{"users": 1}, {"doubtful": True}, {"tail": True}, {"sealed": True}, {"broken": True}, {"end": 1}], ids=str
)
def test_a_place_is_closed_in_between_when_nothing_of_it_is_in_memory_only(busy: dict[str, Any]) -> None:
    assert _Place("name").idle
    assert not _Place("name", **busy).idle


class Unclosing(Disk):
    """Closes, and says that it has not."""

    def close(self, fd: int) -> None:
        super().close(fd)
        raise OSError(errno.EIO, "")


def test_closing_tells_of_nothing_that_a_sync_has_not_told(tmp_path: Path) -> None:
    store = LocalBytes(str(tmp_path), durability="none", disk=Unclosing())
    before = os.listdir("/proc/self/fd")
    store.create(KEY, NAME)
    store.append(KEY, 0, b"data")
    store.commit(KEY)
    store.release()
    assert store.size(KEY) == 4
    store.release()
    assert os.listdir("/proc/self/fd") == before


# ── what people read when the disk fails ──────────────────────────────────────────────────────────────────────


class Failing(Disk):
    """Every call fails from now on, once it is told to; a name that is asked about is there."""

    failing = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("failing", "__class__", "__dict__") or not object.__getattribute__(self, "failing"):
            return object.__getattribute__(self, name)

        def fails(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "")

        return fails


def _with(store: LocalBytes, **changes: Any) -> LocalBytes:
    """Something was written that is not on record."""
    for name, value in changes.items():
        setattr(store._places[KEY], name, value)
    return store


@pytest.mark.parametrize(
    ("call", "doing"),
    [
        (lambda store: store.create(f"{2:032x}.0", NAME), "A new upload"),
        (lambda store: store.append(KEY, 4, b"x"), "Storing a chunk"),
        (lambda store: _with(store, end=5).commit(KEY), "Storing a chunk"),
        (lambda store: _with(store, tail=True).rollback(KEY), "Taking back a chunk"),
        (lambda store: store.open(KEY).__enter__(), "Reading an upload"),
        (lambda store: store.seal(KEY, FINAL), "Completing an upload"),
        (lambda store: store.close(KEY), "Closing an upload"),
        (lambda store: store.delete(KEY), "Deleting an upload"),
        (lambda store: store.recover({}), "Recovering the uploads"),
        (lambda store: (store.release(), store.size(KEY)), "Opening an upload"),
        (lambda store: store.age_out(0), "Emptying the quarantine"),
        (lambda store: store.free(), "Looking for room"),
    ],
    ids=[
        "create",
        "append",
        "commit",
        "rollback",
        "open",
        "seal",
        "close",
        "delete",
        "recover",
        "size",
        "age out",
        "free",
    ],
)
def test_what_people_read_when_bytes_fail(tmp_path: Path, call: Callable[[LocalBytes], object], doing: str) -> None:
    disk = Failing()
    store = LocalBytes(str(tmp_path), durability="power", disk=disk)
    store.create(KEY, NAME)
    store.append(KEY, 0, b"data")
    store.commit(KEY)
    disk.failing = True
    with pytest.raises(StorageError) as failed:
        call(store)
    assert failed.value.sentence == f"{doing} failed: Input/output error."
    disk.failing = False
    store.release()


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────

_WELL = to_dict(full_task())

FOREIGN: dict[str, bytes] = {
    "torn": dump(full_task())[:-20],
    "empty": b"",
    "zeros": bytes(4096),
    "no JSON": b"\xff\xfe\x00",
    "no object": b"[1, 2]",
    "another's": dump(full_task("two")),
    "a newer schema": orjson.dumps({**_WELL, "schema": SCHEMA + 1}),
    "schema true": orjson.dumps({**_WELL, "schema": True}),
    "a key too many": orjson.dumps({**_WELL, "extra": 1}),
    "a key too few": orjson.dumps({k: v for k, v in _WELL.items() if k != "plan"} | {"x": 1}),
    "a hostile uid": orjson.dumps({**_WELL, "uid": "../../../etc"}),
    "a deadline in words": orjson.dumps({**_WELL, "deadline": "tomorrow"}),
    "an offset in words": orjson.dumps({**_WELL, "offset": "5"}),
    "no offset": orjson.dumps({**_WELL, "offset": None, "filesize": None}),
    "a revision true": orjson.dumps({**_WELL, "revision": True}),
    "an unknown state": orjson.dumps({**_WELL, "state": "sleeping"}),
    "a virtual state": orjson.dumps({**_WELL, "state": "notexisting"}),
    "a step in words": orjson.dumps({**_WELL, "step": "later"}),
    "a step without time": orjson.dumps({**_WELL, "step": {"not_before": "now"}}),
}


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in FOREIGN.items()])
def test_a_foreign_document_goes_into_quarantine_and_the_start_goes_on(tmp_path: Path, raw: bytes) -> None:
    store = LocalTasks(str(tmp_path), durability="process")
    store.create(kept := full_task("kept"))
    (tmp_path / "tasks" / "one.json").write_bytes(raw)
    store = LocalTasks(str(tmp_path), durability="process")
    [name] = store.recover()
    assert (tmp_path / name).read_bytes() == raw
    assert [line.id for line in store.list()] == ["kept"]
    assert store.get("kept") == kept
    assert store.get("one") is None
    store.create(upload_task())
    assert LocalTasks(str(tmp_path), durability="process").recover() == []


@pytest.mark.parametrize("what", ["link", "directory", "directory link", "pipe"])
@pytest.mark.parametrize("name", ["one.json", ".one.json.1.tmp", "data"])
def test_what_is_no_file_goes_into_quarantine(tmp_path: Path, what: str, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(dump(full_task()))
    store = LocalTasks(str(tmp_path), durability="process")
    plant(tmp_path / "tasks" / name, what, outside)
    assert len(store.recover()) == 1
    assert list((tmp_path / "tasks").iterdir()) == []
    assert (outside / "secret").exists()
    assert store.list() == []


def test_names_of_all_kinds_go_into_quarantine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As long as a name may be, not UTF-8, with what a terminal would take for a command; none is lost."""
    store = LocalTasks(str(tmp_path), durability="process")
    names = [
        b"x" * 255,
        b"\xc3\xa4" * 120 + b".json",
        b"\xff\xfe.json",
        b"a\nERROR forged\x1b[2J",
        b".hidden.json",
        b".json",
    ]
    for name in names:
        (tmp_path / "tasks" / os.fsdecode(name)).write_bytes(name)
    quarantined = store.recover()
    assert len(quarantined) == len(names)
    assert {(tmp_path / name).read_bytes() for name in quarantined} == set(names)
    for moved in quarantined:
        moved.encode()
    assert "\x1b" not in caplog.text
    assert "\nERROR forged" not in caplog.text


def test_two_of_one_name_have_two_names_in_quarantine(tmp_path: Path) -> None:
    store = LocalTasks(str(tmp_path), durability="process")
    for raw in (b"1", b"2", b"3"):
        (tmp_path / "tasks" / "x").write_bytes(raw)
        store.recover()
    assert sorted(p.read_bytes() for p in (tmp_path / "quarantine").iterdir()) == [b"1", b"2", b"3"]


def test_names_in_quarantine_have_the_time_in_front_and_a_number_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1234.9)
    store = LocalTasks(str(tmp_path), durability="process")
    for name in ("x", "x", "x", "ä" * 127, "z" * 250):
        (tmp_path / "tasks" / name).write_bytes(b"")
        [moved] = store.recover()
        assert moved.startswith("quarantine/")
    names = {path.name for path in (tmp_path / "quarantine").iterdir()}
    assert names == {"1234-x", "1234-x.1", "1234-x.2", "1234-" + "ä" * 100, "1234-" + "z" * 200}
    assert "It is not named like a task." in caplog.text


def test_a_name_in_quarantine_is_cut_between_two_letters(tmp_path: Path) -> None:
    store = LocalTasks(str(tmp_path), durability="process")
    (tmp_path / "tasks" / ("a" + "ä" * 120)).write_bytes(b"")
    [moved] = store.recover()
    assert moved.endswith("-a" + "ä" * 99)


def test_whatever_the_order_everything_is_read(tmp_path: Path) -> None:
    """Temporary files, strangers and documents, in any order that a directory may have."""
    store = LocalTasks(str(tmp_path), durability="process")
    for number in range(40):
        store.create(full_task(f"task{number}"))
        (tmp_path / "tasks" / f".{number}.json.7f.tmp").write_bytes(b"torn")
        (tmp_path / "tasks" / f"stranger{number}").write_bytes(b"")
    store = LocalTasks(str(tmp_path), durability="process")
    assert len(store.recover()) == 40
    assert len(store.list()) == len(list((tmp_path / "tasks").iterdir())) == 40


def test_a_deletion_that_may_not_have_happened_can_be_asked_for_again(tmp_path: Path) -> None:
    fuse = FuseDisk(error=OSError(errno.EIO, ""), only=("sync_directory",))
    store = LocalTasks(str(tmp_path), durability="power", disk=fuse)
    store.create(task := upload_task())
    store.get("one")
    fuse.at = len(fuse.calls) + 1
    with pytest.raises(StorageError):
        store.delete("one")
    assert [line.id for line in store.list()] == ["one"]
    assert store.get("one") == task
    store.delete("one")
    assert store.list() == []


def test_a_document_that_is_exchanged_while_nobody_looks_is_nobodys(tmp_path: Path) -> None:
    store = LocalTasks(str(tmp_path), durability="process")
    store.create(full_task("one"))
    store = LocalTasks(str(tmp_path), durability="process")
    store.recover()
    (tmp_path / "tasks" / "one.json").write_bytes(dump(full_task("two")))
    assert store.get("one") is None
    assert store.get("two") is None


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EPERM])
def test_a_document_that_cannot_be_read_today_stops_the_start(tmp_path: Path, code: int) -> None:
    LocalTasks(str(tmp_path), durability="process").create(full_task())
    fuse = FuseDisk(error=OSError(code, ""), only=("read",), at=1)
    with pytest.raises(StorageError) as failed:
        LocalTasks(str(tmp_path), durability="process", disk=fuse).recover()
    assert failed.value.sentence == (
        f"tasks/one.json cannot be read: {os.strerror(code)}. Mend the disk or the file's permissions, or move the "
        "file away; its data then goes into quarantine."
    )
    assert not (tmp_path / "quarantine").exists()
    assert (tmp_path / "tasks" / "one.json").exists()


def test_a_second_task_of_one_id_is_a_conflict_that_names_it(tmp_path: Path) -> None:
    store = LocalTasks(str(tmp_path), durability="process")
    store.create(upload_task())
    with pytest.raises(Conflict) as conflict:
        store.create(upload_task())
    assert conflict.value.sentence == "There is an upload 'one' already."


@pytest.mark.parametrize(
    ("call", "doing"),
    [
        (lambda store: store.create(upload_task("two")), "Recording a task"),
        (lambda store: (store._cache.clear(), store.get("one")), "Reading a task"),
        (lambda store: store.delete("one"), "Deleting a task"),
        (lambda store: store.recover(), "Reading the tasks"),
    ],
    ids=["create", "get", "delete", "recover"],
)
def test_what_people_read_when_tasks_fail(tmp_path: Path, call: Callable[[LocalTasks], object], doing: str) -> None:
    disk = Failing()
    store = LocalTasks(str(tmp_path), durability="power", disk=disk)
    store.create(upload_task())
    disk.failing = True
    with pytest.raises(StorageError) as failed:
        call(store)
    assert failed.value.sentence == f"{doing} failed: Input/output error."


def test_temporary_files_are_deleted(tmp_path: Path) -> None:
    store = LocalTasks(str(tmp_path), durability="process")
    (tmp_path / "tasks" / ".one.json.7f.tmp").write_bytes(b"torn")
    assert store.recover() == []
    assert list((tmp_path / "tasks").iterdir()) == []


def test_a_document_that_is_foreign_on_a_closer_look_does_not_spoil_the_list(tmp_path: Path) -> None:
    """The index reads what it needs; whoever reads the rest finds it."""
    store = LocalTasks(str(tmp_path), durability="process")
    store.create(kept := full_task("kept"))
    raw = orjson.dumps({**_WELL, "findings": ["no finding"]})
    (tmp_path / "tasks" / "one.json").write_bytes(raw)
    store = LocalTasks(str(tmp_path), durability="process")
    assert store.recover() == []
    assert [store.get(line.id) for line in store.list()] == [kept, None]
    assert [line.id for line in store.list()] == ["kept"]
    [quarantined] = (tmp_path / "quarantine").iterdir()
    assert quarantined.read_bytes() == raw
    store.create(upload_task())


def test_nobody_reads_a_document_that_is_not_durable_yet(tmp_path: Path) -> None:
    seen: list[UploadTask | None] = []

    class Looking(Disk):
        def replace(self, source: str, dest: str) -> None:
            super().replace(source, dest)
            if armed:
                store.get("two")  # there is room for one: the other has to be read again
                seen.append(store.get("one"))

    armed = False
    store = LocalTasks(str(tmp_path), durability="power", cached=1, disk=Looking())
    store.create(one := upload_task())
    store.create(upload_task("two", uid=f"{2:032x}"))
    armed = True
    store.cas(attrs.evolve(one, revision=2, message="new"), 1)
    armed = False
    assert seen == [one]
    assert store.get("one") == attrs.evolve(one, revision=2, message="new")


def test_the_index_says_what_the_documents_say(tmp_path: Path) -> None:
    """It is made without parsing them; so it is compared."""
    store = LocalTasks(str(tmp_path), durability="none", cached=0)
    for number, state in enumerate(s for s in State if s is not State.NOTEXISTING):
        for variant, make in enumerate((upload_task, full_task)):
            uid = f"{number * 2 + variant:032x}"
            store.create(make(f"t{number}-{variant}", state=state, uid=uid))
    told = store.list()
    again = LocalTasks(str(tmp_path), durability="none")
    again.recover()
    assert again.list() == told
    assert all(type(value) is type(other) for a, b in zip(told, again.list(), strict=True)
               for value, other in zip(vars_of(a), vars_of(b), strict=True))  # fmt: skip
    assert all(again.get(line.id) == store.get(line.id) for line in told)


def vars_of(line: object) -> list[object]:
    return [getattr(line, name) for name in line.__slots__ if name != "__weakref__"]  # type: ignore[attr-defined]


def test_a_document_of_musicdb_is_read_where_it_was_not_taken_over(tmp_path: Path) -> None:
    store = LocalTasks(str(tmp_path), durability="process")
    raw = orjson.dumps({"id": "one", "filesize": 5, "offset": 0, "contenttype": "video", "state": "preprocessed",
                        "sourcefilename": "a.mp4", "sourcechecksum": "A" * 40})  # fmt: skip
    (tmp_path / "tasks" / "one.json").write_bytes(raw)
    assert store.recover() == []
    assert store.get("one") == load(raw)


def test_documents_are_cached_as_many_as_asked_for(tmp_path: Path) -> None:
    disk = FuseDisk()
    store = LocalTasks(str(tmp_path), durability="none", disk=disk, cached=2)
    for name in ("a", "b", "c"):
        store.create(upload_task(name))
    disk.calls.clear()
    for name, reads in (("c", 0), ("b", 0), ("a", 1), ("a", 1), ("b", 1), ("c", 2)):
        store.get(name)
        assert sum(call.method == "read" for call in disk.calls) == reads


# ── trees ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tree(tmp_path: Path) -> LocalTree:
    return LocalTree("music", str(tmp_path / "Music"), "none")


@pytest.mark.parametrize("path", ["Artist/Name.mp4", "Artist/Album/Name.mp4"])
def test_a_link_in_the_way_is_not_followed(tree: LocalTree, tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Name.mp4").write_bytes(b"theirs")
    (tmp_path / "Music" / "Artist").symlink_to(outside)
    placed = PlacedFile("music", path, 6, "a" * 64)
    for attempt in (
        lambda: tree.place(UID, path, io.BytesIO(b"mine")),
        lambda: tree.exists(path),
        lambda: tree.check(UID, placed),
        lambda: tree.remove(UID, [placed], []),
        lambda: tree.withdraw(UID, [path], []),
        lambda: tree.missing_directories("Artist/Album/Name.mp4"),
        lambda: tree.place(UID, path, io.BytesIO(b"mine"), replace=True),
        lambda: tree.names("Artist"),
        lambda: tree.names("Artist/Album"),
    ):
        with pytest.raises(StorageError) as refusal:
            attempt()
        assert refusal.value.code == "unsafe_path"
    assert [p.name for p in outside.iterdir()] == ["Name.mp4"]


def test_what_people_read_of_files_that_are_not_ours(tree: LocalTree, tmp_path: Path) -> None:
    file = tree.place(UID, "A/b", io.BytesIO(b"data"), None)
    with pytest.raises(Conflict) as taken:
        tree.place(f"{2:032x}", "A/b", io.BytesIO(b"other"), None)
    assert (taken.value.code, taken.value.sentence) == (
        "destination_exists",
        "There is a file A/b in the library already; it was not touched. Change the annotations, or remove the upload.",
    )
    (tmp_path / "Music" / "A" / "b").write_bytes(b"tagged")
    with pytest.raises(Conflict) as changed:
        tree.remove(UID, [file], [])
    assert (changed.value.code, changed.value.sentence) == (
        "changed_since",
        "A/b has changed since it was placed; it is kept. Remove it by hand if it is not wanted.",
    )


def test_what_people_read_of_bytes_that_do_not_fit(tree: LocalTree, tmp_path: Path) -> None:
    with pytest.raises(DataLost) as changed:
        tree.place(UID, "A/b", io.BytesIO(b"data"), "0" * 64)
    assert changed.value.sentence == (
        "What was to become A/b has changed since it was verified; it is not in the library."
    )
    store = LocalBytes(str(tmp_path), durability="none")
    store.create(KEY, "video-pending.mp4")
    store.append(KEY, 0, b"data")
    with pytest.raises(Conflict, match=f"^{KEY} stands at 4, not at 5\\.$"):
        store.append(KEY, 5, b"data")
    store.commit(KEY)
    store.seal(KEY, "video.mp4")
    with pytest.raises(Conflict, match=f"^Nothing may be appended to {KEY} any more\\.$"):
        store.append(KEY, 4, b"data")
    store.release()


def test_a_second_name_for_a_link_is_a_link(tmp_path: Path) -> None:
    """What a link leads to, outside of the library perhaps, gets no name in it."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    assert Disk().link(str(tmp_path / "link"), str(tmp_path / "other"))
    assert (tmp_path / "other").is_symlink()


def test_an_old_file_without_its_note_is_told_without_a_name(tree: LocalTree, tmp_path: Path) -> None:
    kept = tmp_path / "Music" / ".stagedoor" / f"{UID}.kept"
    kept.mkdir(parents=True)
    name = "ab" * 16
    (kept / name).write_bytes(b"old")
    assert tree.kept() == {UID: [KeptFile("", f".stagedoor/{UID}.kept/{name}")]}
    (kept / f"{name}.path").write_bytes("Alpha/ä.mp4".encode())
    assert tree.kept() == {UID: [KeptFile("Alpha/ä.mp4", f".stagedoor/{UID}.kept/{name}")]}
    assert tree.kept({UID}) == {}


def test_nothing_is_copied_for_a_name_that_is_taken(tree: LocalTree) -> None:
    class Unread(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise AssertionError("it was read")

    tree.place(UID, "A/b", io.BytesIO(b"data"), None)
    with pytest.raises(Conflict):
        tree.place(f"{2:032x}", "A/b", Unread(), None)


def test_a_file_that_goes_while_it_is_looked_at_is_gone(tmp_path: Path) -> None:
    class Vanishing(Disk):
        def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
            if path == str(tmp_path / "a.mp4"):
                os.unlink(path)
            return super().open(path, write=write, create=create)

    placed = LocalTree("music", str(tmp_path), "none").place(UID, "a.mp4", io.BytesIO(b"film"))
    assert LocalTree("music", str(tmp_path), "none", Vanishing()).check(UID, placed)


def test_a_link_with_the_name_is_a_conflict_and_no_file_of_ours(tree: LocalTree, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"data")
    link = tmp_path / "Music" / "Name.mp4"
    link.symlink_to(tmp_path / "secret")
    with pytest.raises(Conflict):
        tree.place(UID, "Name.mp4", io.BytesIO(b"data"))
    placed = tree.place(UID, "Other.mp4", io.BytesIO(b"data"))
    assert not tree.check(UID, PlacedFile("music", "Name.mp4", placed.size, placed.sha256))
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(Conflict):
        tree.place(UID, "Name.mp4", io.BytesIO(b"data"))
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("what", ["link", "directory", "pipe", "nowhere"])
def test_only_a_file_is_replaced(tree: LocalTree, tmp_path: Path, what: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    name = tmp_path / "Music" / "Name.mp4"
    if what == "directory":
        name.mkdir()
    elif what == "pipe":
        os.mkfifo(name)
    else:
        name.symlink_to(tmp_path / ("secret" if what == "link" else "nowhere"))
    before = name.lstat()
    with pytest.raises(Conflict) as conflict:
        tree.place(UID, "Name.mp4", io.BytesIO(b"mine"), replace=True)
    assert conflict.value.code == "destination_exists"
    assert name.lstat().st_ino == before.st_ino
    assert (tmp_path / "secret").read_bytes() == b"secret"
    tree.settle(UID)
    assert os.listdir(tmp_path / "Music") == ["Name.mp4"]


def test_the_old_file_is_the_same_file_when_it_comes_back(tree: LocalTree, tmp_path: Path) -> None:
    """With its times and rights, and whoever has it open goes on playing."""
    old = tmp_path / "Music" / "Name.mp4"
    old.write_bytes(b"theirs")
    os.utime(old, (1, 2))
    old.chmod(0o600)
    before = old.stat()
    with open(old, "rb") as player:
        placed = tree.place(UID, "Name.mp4", io.BytesIO(b"mine"), replace=True)
        tree.settle(UID)
        assert old.read_bytes() == b"mine"
        assert player.read() == b"theirs"
    tree.remove(UID, [placed], [])
    after = old.stat()
    assert (after.st_ino, after.st_mtime, after.st_mode, after.st_nlink) == (before.st_ino, 2, before.st_mode, 1)


class Foreign(Disk):
    """Linux refuses a second name for somebody else's file (``fs.protected_hardlinks``); ours may have one."""

    def link(self, source: str, dest: str) -> bool:
        return not dest.partition(".stagedoor/")[2].partition("/")[0].endswith(".kept") and super().link(source, dest)


def test_a_file_of_another_user_is_moved(tmp_path: Path) -> None:
    tree = LocalTree("music", str(tmp_path), "none", Foreign())
    (tmp_path / "Name.mp4").write_bytes(b"theirs")
    placed = tree.place(UID, "Name.mp4", io.BytesIO(b"mine"), replace=True)
    assert placed.replaced == hashlib.sha256(b"theirs").hexdigest()
    tree.settle(UID)
    assert (tmp_path / "Name.mp4").read_bytes() == b"mine"
    tree.remove(UID, [placed], [])
    tree.settle(UID)
    assert (tmp_path / "Name.mp4").read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["Name.mp4"]


def test_a_pipe_with_the_name_blocks_nobody(tree: LocalTree, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Music" / "Name.mp4")
    with pytest.raises(Conflict):
        tree.place(UID, "Name.mp4", io.BytesIO(b"data"))
    assert not tree.check(UID, PlacedFile("music", "Name.mp4", 0, "a" * 64))


@pytest.mark.parametrize("what", ["link", "file", "directory link"])
def test_a_hidden_directory_that_is_none_is_refused(tree: LocalTree, tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / UID).mkdir()
    (outside / "secret").write_bytes(b"secret")
    plant(tmp_path / "Music" / ".stagedoor", what, outside)
    assert tree.unsettled() == ()
    with pytest.raises(StorageError):
        tree.place(UID, "Name.mp4", io.BytesIO(b"data"))
    assert not tree.exists("Name.mp4")
    assert list((outside / UID).iterdir()) == []


def test_a_library_behind_a_link_will_do(tmp_path: Path) -> None:
    (tmp_path / "nas").mkdir()
    (tmp_path / "Music").symlink_to(tmp_path / "nas")
    tree = LocalTree("music", str(tmp_path / "Music"))
    tree.place(UID, "A/Name.mp4", io.BytesIO(b"data"))
    tree.settle(UID)
    assert (tmp_path / "nas" / "A" / "Name.mp4").read_bytes() == b"data"
    assert tree.names() == ("A",)
    assert tree.names("A") == ("Name.mp4",)


def test_a_library_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Music").write_bytes(b"")
    with pytest.raises(StorageError):
        LocalTree("music", str(tmp_path / "Music"))


class Neither(NoLinks):
    def rename_exclusive(self, source: str, dest: str) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def test_a_file_system_that_can_do_neither_is_refused_by_name(tmp_path: Path) -> None:
    tree = LocalTree("music", str(tmp_path), "none", Neither())
    with pytest.raises(ConfigurationError, match="neither hard links"):
        tree.place(UID, "Name.mp4", io.BytesIO(b"data"))
    tree.settle(UID)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "Name.mp4").write_bytes(b"theirs")
    with pytest.raises(ConfigurationError, match="neither hard links"):
        tree.place(UID, "Name.mp4", io.BytesIO(b"data"), replace=True)
    assert (tmp_path / "Name.mp4").read_bytes() == b"theirs"
    tree.settle(UID)
    assert os.listdir(tmp_path) == ["Name.mp4"]


class Cloning(Disk):
    """A file system that can clone, as Btrfs and XFS can."""

    def clone(self, source: int, dest: int) -> bool:
        os.pwrite(dest, os.pread(source, 1 << 20, 0), 0)
        return True


def test_only_a_whole_file_is_cloned(tmp_path: Path) -> None:
    """What a stream reads need not be what its descriptor has: part of an archive, or what was packed."""
    tree = LocalTree("music", str(tmp_path / "Music"), "none", Cloning())
    (tmp_path / "plain").write_bytes(b"data")
    with gzip.open(tmp_path / "packed", "wb") as packed:
        packed.write(b"data")
    with tarfile.open(tmp_path / "archive", "w") as archive:
        archive.add(tmp_path / "plain", "plain")
    with (
        open(tmp_path / "plain", "rb") as buffered, open(tmp_path / "plain", "rb", buffering=0) as raw,
        gzip.open(tmp_path / "packed", "rb") as unpacked, tarfile.open(tmp_path / "archive") as archive,
        subprocess.Popen(["cat", tmp_path / "plain"], stdout=subprocess.PIPE) as cat,
    ):  # fmt: skip
        member = archive.extractfile("plain")
        for number, source in enumerate((buffered, raw, unpacked, member, cat.stdout)):
            placed = tree.place(UID, f"{number}.mp4", cast("BinaryIO", source))
            assert placed.sha256 == hashlib.sha256(b"data").hexdigest()
            assert (tmp_path / "Music" / f"{number}.mp4").read_bytes() == b"data"


def test_a_placed_file_is_no_second_name_of_the_upload(tree: LocalTree, tmp_path: Path) -> None:
    """Tag editors write in place."""
    store = LocalBytes(str(tmp_path), durability="none")
    store.create(KEY, NAME)
    store.append(KEY, 0, b"data" * 1000)
    store.seal(KEY, FINAL)
    with store.open(KEY) as source:
        tree.place(UID, "Name.mp4", source)
    tree.settle(UID)
    placed = tmp_path / "Music" / "Name.mp4"
    assert placed.stat().st_nlink == 1
    placed.write_bytes(b"edited")
    with store.open(KEY) as source:
        assert source.read() == b"data" * 1000
    store.release()


# ── the lock ──────────────────────────────────────────────────────────────────────────────────────────────────

_HOLD = """
import sys
from stagedoor.adapters.local import DirectoryLock
from stagedoor.errors import InUse
try:
    lock = DirectoryLock(sys.argv[1])
except InUse as error:
    print(error.code, error.sentence, flush=True)
    sys.exit(3)
print("held", flush=True)
sys.stdin.read()
"""


def hold(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("call", "doing"),
    [
        (lambda tree, file: tree.exists("A/b"), "Looking into the music directory"),
        (lambda tree, file: tree.settle(UID), "Cleaning the music directory"),
        (lambda tree, file: tree.discard(UID), "Cleaning the music directory"),
        (lambda tree, file: tree.unsettled(), "Looking into the music directory"),
        (lambda tree, file: tree.kept(), "Looking into the music directory"),
        (lambda tree, file: tree.withdraw(UID, ["A/b"], []), "Cleaning the music directory"),
        (lambda tree, file: tree.check(UID, file), "Reading the music directory"),
    ],
    ids=["exists", "settle", "discard", "unsettled", "kept", "withdraw", "check"],
)
def test_what_people_read_when_the_library_fails(
    tmp_path: Path, call: Callable[[LocalTree, PlacedFile], object], doing: str
) -> None:
    disk = Failing()
    tree = LocalTree("music", str(tmp_path), "power", disk)
    file = tree.place(UID, "A/b", io.BytesIO(b"data"), None)
    disk.failing = True
    with pytest.raises(StorageError) as failed:
        call(tree, file)
    assert failed.value.sentence == f"{doing} failed: Input/output error."


def test_the_directory_that_is_locked_is_durable(tmp_path: Path) -> None:
    disk = FuseDisk()
    DirectoryLock(str(tmp_path / "new" / "uploads"), disk=disk).close()
    made = [call.method for call in disk.calls]
    assert made.count("mkdir") >= 2
    assert made[-1] == "sync_directory"


def test_a_second_process_is_refused_at_once_and_told_who_has_it(tmp_path: Path) -> None:
    lock = DirectoryLock(str(tmp_path / "new" / "uploads"))
    with hold(tmp_path / "new" / "uploads") as second:
        told, _ = second.communicate(timeout=30)
    assert second.returncode == 3
    assert told.startswith("in_use")
    assert f"process {os.getpid()}" in told
    lock.close()
    lock.close()


def test_a_process_that_is_killed_gives_the_directory_free(tmp_path: Path) -> None:
    with hold(tmp_path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InUse) as refusal:
            DirectoryLock(str(tmp_path))
        assert f"process {first.pid}" in refusal.value.sentence
        first.send_signal(signal.SIGKILL)
        first.wait(30)
    DirectoryLock(str(tmp_path)).close()
    assert (tmp_path / ".lock").exists()


def test_a_file_system_without_locks_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "")

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfigurationError) as refused:
        DirectoryLock(str(tmp_path))
    assert refused.value.sentence == f"{tmp_path}/.lock cannot be locked: {os.strerror(errno.ENOLCK)}."
    assert os.listdir("/proc/self/fd") == before


def test_a_full_disk_does_not_stop_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "")

    for name in ("ftruncate", "pwrite"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refuse)
            lock = DirectoryLock(str(tmp_path))
        with pytest.raises(InUse):
            DirectoryLock(str(tmp_path))
        lock.close()


def test_the_mode_of_the_lock_is_ours_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        DirectoryLock(str(tmp_path)).close()
    finally:
        os.umask(before)
    assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o644


def test_the_number_of_an_earlier_process_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("99999999999999999\n")
    lock = DirectoryLock(str(tmp_path))
    assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    lock.close()


def test_a_second_one_in_this_process_is_refused_too(tmp_path: Path) -> None:
    lock = DirectoryLock(str(tmp_path))
    before = descriptors()
    with pytest.raises(InUse):
        DirectoryLock(str(tmp_path))
    assert descriptors() == before
    lock.close()
    DirectoryLock(str(tmp_path)).close()


@pytest.mark.parametrize("what", ["link", "directory", "directory link"])
def test_a_lock_that_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    plant(tmp_path / ".lock", what, outside)
    with pytest.raises(StorageError):
        DirectoryLock(str(tmp_path))
    assert (outside / "secret").read_bytes() == b"secret"


# ── MusicDB ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", [s for s in State if s is not State.NOTEXISTING])
def test_a_task_of_musicdb_is_taken_over_in_every_state(tmp_path: Path, state: State) -> None:
    (tmp_path / "tasks").mkdir()
    checksum = hashlib.sha1(b"data").hexdigest()
    document = musicdb_task("one", checksum, state, filesize=6, offset=4, videofile="/music/A/2001 - B.mp4")
    (tmp_path / "tasks" / "one.json").write_bytes(orjson.dumps(document))
    (tmp_path / f"video-{checksum}.MP4").write_bytes(b"data??")
    assert adopt_musicdb(str(tmp_path), durability="process") == 1
    assert adopt_musicdb(str(tmp_path), durability="process") == 0
    tasks, store = LocalTasks(str(tmp_path), durability="process"), LocalBytes(str(tmp_path), durability="process")
    assert tasks.recover() == []
    task = tasks.get("one")
    assert task is not None
    assert (task.state, task.offset, task.videofile) == (state, 4, None)
    assert task.foreign["videofile"] == "/music/A/2001 - B.mp4"
    assert task.history[-1].trigger == "recover"
    assert (tmp_path / task.destinationpath).exists()
    name = NAME if state is State.WAITFORCHUNK else f"video-{checksum}.mp4"
    assert task.destinationpath == f"data/{task.key}/{name}"
    found = store.recover({task.key: state})
    assert not found.lost
    with store.open(task.key) as file:
        assert file.read() == (b"data" if state is State.WAITFORCHUNK else b"data??")
    store.release()


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../etc/passwd", "..", "", "/srv/uploads/../../secret", "tasks/two.json", "catalogue.sqlite",
     "data/x/y", "video-{0}.mp4/../../secret", "VIDEO-{0}.\u202emp4", "video-{0}", "video-{0}.", 5, None, ["x"]],
)  # fmt: skip
def test_paths_in_a_task_of_musicdb_are_not_believed(tmp_path: Path, path: object) -> None:
    root = tmp_path / "srv" / "uploads"
    (root / "tasks").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "catalogue.sqlite").write_bytes(b"secret")
    checksum = "ab" * 20
    if isinstance(path, str):
        path = path.replace("{0}", checksum)
    document = musicdb_task("one", checksum, State.PREPROCESSED, destinationpath=path)
    (root / "tasks" / "one.json").write_bytes(orjson.dumps(document))
    assert adopt_musicdb(str(root), durability="none") == 1
    tasks, store = LocalTasks(str(root), durability="none"), LocalBytes(str(root), durability="none")
    assert tasks.recover() == []
    assert set(store.recover({line.key: line.state for line in tasks.list()}).lost) == {tasks.list()[0].key}
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (root / "catalogue.sqlite").read_bytes() == b"secret"


def test_whatever_the_order_every_task_of_musicdb_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    raw = orjson.dumps(musicdb_task("one", "ab" * 20, State.PREPROCESSED))
    for number in range(30):
        document = musicdb_task(f"task{number}", "ab" * 20, State.PREPROCESSED)
        (tmp_path / "tasks" / f"task{number}.json").write_bytes(orjson.dumps(document))
        (tmp_path / "tasks" / f".task{number}.json").write_bytes(raw)
        (tmp_path / "tasks" / f"note{number}").write_bytes(raw)
        (tmp_path / "tasks" / f"torn{number}.json").write_bytes(raw[:-5])
        (tmp_path / "tasks" / f"ours{number}.json").write_bytes(dump(full_task(f"ours{number}")))
    assert adopt_musicdb(str(tmp_path), durability="none") == 30
    assert (tmp_path / "tasks" / ".task0.json").read_bytes() == raw


def test_an_unfinished_upload_of_musicdb_without_its_file_has_nothing(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    document = musicdb_task("one", "ab" * 20, State.WAITFORCHUNK, filesize=6, offset=4)
    (tmp_path / "tasks" / "one.json").write_bytes(orjson.dumps(document))
    assert adopt_musicdb(str(tmp_path), durability="none") == 1

    assert load(orjson.loads((tmp_path / "tasks" / "one.json").read_bytes())).offset == 0


def test_a_file_of_musicdb_is_cut_to_what_was_told(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    document = musicdb_task("one", "ab" * 20, State.WAITFORCHUNK, filesize=6, offset=4)
    (tmp_path / "tasks" / "one.json").write_bytes(orjson.dumps(document))
    (tmp_path / f"video-{'ab' * 20}.MP4").write_bytes(b"data??")
    assert adopt_musicdb(str(tmp_path), durability="none") == 1
    [file] = tmp_path.glob("data/*/video-*")
    assert file.read_bytes() == b"data"


def test_what_people_read_when_a_takeover_fails(tmp_path: Path) -> None:
    disk = Failing()
    disk.failing = True
    with pytest.raises(StorageError) as failed:
        adopt_musicdb(str(tmp_path), durability="none", disk=disk)
    assert failed.value.sentence == "Taking over the tasks of MusicDB failed: Input/output error."


def test_what_is_taken_over_expires_where_the_retention_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    (tmp_path / "tasks").mkdir()
    states = {"rests": State.PREPROCESSED, "works": State.UPLOADCOMPLETE, "stays": State.INVALIDCONTENT}
    for name, state in states.items():
        document = musicdb_task(name, "ab" * 20, state)
        (tmp_path / "tasks" / f"{name}.json").write_bytes(orjson.dumps(document))
    keep = {State.PREPROCESSED: 50.0, State.UPLOADCOMPLETE: 50.0, State.INVALIDCONTENT: None}
    assert adopt_musicdb(str(tmp_path), durability="none", retention=keep) == 3
    assert not (tmp_path / ".adopting").exists()
    tasks = LocalTasks(str(tmp_path), durability="none")
    tasks.recover()
    assert {line.id: line.deadline for line in tasks.list()} == {"rests": 1_050.0, "works": None, "stays": None}


def test_a_link_with_the_name_of_an_upload_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    checksum = "ab" * 20
    (tmp_path / f"video-{checksum}.MP4").symlink_to(tmp_path / "secret")
    (tmp_path / "tasks" / "one.json").write_bytes(orjson.dumps(musicdb_task("one", checksum, State.PREPROCESSED)))
    assert adopt_musicdb(str(tmp_path), durability="none") == 1
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert not list((tmp_path).glob("data/*/*"))


@pytest.mark.parametrize(
    ("checksum", "filename", "stored"),
    [("AB" * 20, "clip.mp4", "AB" * 20 + ".mp4"), ("ab" * 20, "CLIP.MP4", "ab" * 20 + ".MP4"),
     ("ab" * 20, "clip", "ab" * 20 + "."), ("ab" * 20, "clip", "ab" * 20), ("Ab" * 20, "a.b.Mp4", "Ab" * 20 + ".Mp4")],
)  # fmt: skip
def test_the_file_is_found_however_musicdb_spelled_it(
    tmp_path: Path, checksum: str, filename: str, stored: str
) -> None:
    """MusicDB takes checksum and extension as they are; ours are lower-case."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / f"video-{stored}").write_bytes(b"data")
    document = musicdb_task(
        "one", checksum, State.PREPROCESSED, sourcefilename=filename, destinationpath=f"/srv/video-{stored}"
    )
    (tmp_path / "tasks" / "one.json").write_bytes(orjson.dumps(document))
    assert adopt_musicdb(str(tmp_path), durability="none") == 1
    [file] = tmp_path.glob("data/*/*")
    assert file.read_bytes() == b"data"
    assert file.name == file.name.lower()


def test_what_is_no_task_of_musicdb_is_left_for_the_quarantine(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "torn.json").write_bytes(b'{"id": "torn", ')
    (tasks / "other.json").write_bytes(orjson.dumps(musicdb_task("one", "ab" * 20, State.PREPROCESSED)))
    (tasks / "list.json").write_bytes(b"[]")
    (tasks / "virtual.json").write_bytes(orjson.dumps(musicdb_task("virtual", "ab" * 20, State.NOTEXISTING)))
    (tasks / ".hidden.json").write_bytes(b"{}")
    (tasks / "readme").write_bytes(b"{}")
    (tasks / "pipe.json").mkdir()
    newer = orjson.dumps({"annotations": {}, "schema": 7})
    (tasks / "newer.json").write_bytes(newer)
    assert adopt_musicdb(str(tmp_path), durability="none") == 0
    assert len(list(tasks.iterdir())) == 8
    assert len(LocalTasks(str(tmp_path), durability="none").recover()) == 8


def test_the_mark_of_a_takeover_is_gone_at_its_end(tmp_path: Path) -> None:
    (tmp_path / ".adopting").touch()  # an earlier run was interrupted
    assert adopt_musicdb(str(tmp_path), durability="process") == 0
    assert not (tmp_path / ".adopting").exists()


def test_there_need_not_be_anything_to_take_over(tmp_path: Path) -> None:
    assert adopt_musicdb(str(tmp_path / "missing"), durability="none") == 0
    LocalTasks(str(tmp_path), durability="none").create(upload_task())
    assert adopt_musicdb(str(tmp_path), durability="none") == 0


class _Unable(NoLinks):
    """A file system that has no way to take a free name safely."""

    def rename_exclusive(self, source: str, dest: str) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def test_what_a_file_system_cannot_do_is_said_without_its_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = LocalTree("artwork", str(tmp_path), "none", _Unable())
    with pytest.raises(ConfigurationError, match="file system of the artwork directory has neither") as caught:
        tree.place("0" * 32, "A/1.jpg", io.BytesIO(b"cover"))
    assert str(tmp_path) not in caught.value.sentence
    assert str(tmp_path) in caplog.text
