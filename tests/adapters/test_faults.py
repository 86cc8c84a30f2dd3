"""A failing file call, at every place where there is one: the right error, nothing on record lost, and life goes on."""

import errno
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from stagedoor.adapters.local import DirectoryLock, LocalBytes, LocalTasks, LocalTree, adopt_musicdb
from stagedoor.errors import Conflict, DataLost, StorageError, StorageFull, UploadError
from stagedoor.lifecycle import State
from stagedoor.tasks import PlacedFile, UploadTask
from stagedoor.testing.disk import POLICIES, FuseDisk, SimulatedDisk, When
from stagedoor.testing.stores import full_task, upload_task

from .test_crashes import MusicDBLife

UID = f"{1:032x}"
KEY = f"{UID}.0"
NAME, FINAL = "video-pending.mp4", f"video-{'a' * 40}.mp4"

_OPENING = ("open", "open_directory", "sync_directory", "sync_all", "entries", "read")

FAULTS = [
    pytest.param(code, when, lasting, id=f"{errno.errorcode[code]}-{when}-{'lasting' if lasting else 'once'}")
    for code, whens in (
        (errno.ENOSPC, ("before", "torn")),
        (errno.EIO, ("before", "after", "torn")),
        (errno.EMFILE, ("before",)),
    )
    for when in whens
    for lasting in (False, True)
]


def fuses(run: Callable[[FuseDisk], object], code: int, when: When, lasting: bool) -> Iterator[FuseDisk]:
    """A new disk for each of the calls that a run makes, where this call fails."""
    # Only what opens something can run out of descriptors.
    only = _OPENING if code == errno.EMFILE else ()
    whole = FuseDisk(_disk(), only=only)
    run(whole)
    for number in range(1, len(whole.calls) + 1):
        yield FuseDisk(_disk(), at=number, error=OSError(code, ""), when=when, lasting=lasting, only=only)


def _disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    for root in ("/uploads", "/music"):
        disk.mkdir(root)
    disk.sync_directory("/")
    return disk


def heal(fuse: FuseDisk) -> SimulatedDisk:
    fuse.at, fuse.lasting = 0, False
    assert isinstance(fuse.inner, SimulatedDisk)
    return fuse.inner


def demand(error: UploadError, code: int) -> None:
    """An error is of the class, and has the code, that its cause asks for."""
    cause = error.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == code
    assert type(error) is (StorageFull if code == errno.ENOSPC else StorageError)
    assert (error.code == "too_many_open_files") == (code == errno.EMFILE)


class Upload:
    """A client that sends other bytes each time that it is refused, and a store that may fail."""

    def __init__(self, fuse: FuseDisk, code: int) -> None:
        self.fuse, self.code = fuse, code
        self.chance = random.Random(5)
        self.acknowledged = b""
        self.sent = b""
        self.errors = 0
        self.state = State.WAITFORCHUNK

    def run(self) -> bool:
        """Whether it went through."""
        try:
            self.store = LocalBytes("/uploads", disk=self.fuse)
            if not self._create():
                return False
            for size in (700, 30, 1300, 600):
                if not self._send(size):
                    return False
            self.sent = self.acknowledged
            return self._seal()
        except (StorageError, StorageFull) as error:  # at the start
            demand(error, self.code)
            return False

    def _create(self) -> bool:
        for _ in range(2):
            try:
                self.store.create(KEY, NAME)
                return True
            except (StorageError, StorageFull) as error:
                self._note(error)
                if self.fuse.lasting:
                    return False
                self.store.delete(KEY)
        return False

    def _send(self, size: int) -> bool:
        for _ in range(2):
            self.sent = self.chance.randbytes(size)
            try:
                self.store.append(KEY, len(self.acknowledged), self.sent[: size // 2])
                self.store.append(KEY, len(self.acknowledged) + size // 2, self.sent[size // 2 :])
                assert self.store.commit(KEY) == len(self.acknowledged) + size
                self.acknowledged += self.sent
                self.sent = b""
                return True
            except (StorageError, StorageFull) as error:
                self._note(error)
                assert self.store.size(KEY) == len(self.acknowledged)
                if self.fuse.lasting or self.code == errno.EIO:
                    self._stays_broken()
                    return False
                assert self.store.rollback(KEY) == len(self.acknowledged)
                with self.store.open(KEY) as file:
                    assert file.read() == self.acknowledged
        return False

    def _stays_broken(self) -> None:
        """What a disk has lost it has lost: the key is refused from now on, also when the disk is well again."""
        heal(self.fuse)
        if self.code == errno.EIO:
            with pytest.raises(Conflict):
                self.store.append(KEY, len(self.acknowledged), b"x")
            with pytest.raises(Conflict):
                self.store.commit(KEY)
            assert self.store.size(KEY) == len(self.acknowledged)

    def _seal(self) -> bool:
        last = self.chance.randbytes(900)
        for _ in range(2):
            try:
                self.store.append(KEY, len(self.acknowledged), last)
                self.sent = last
                self.store.seal(KEY, FINAL)
                self.acknowledged, self.sent, self.state = self.acknowledged + last, b"", State.UPLOADCOMPLETE
                return self._close()
            except Conflict:
                return False
            except (StorageError, StorageFull) as error:
                self._note(error)
                if not self.sent or self.code == errno.EIO or self.fuse.lasting:
                    return False
                self.store.rollback(KEY)
        return False

    def _close(self) -> bool:
        for _ in range(2):
            try:
                self.store.close(KEY)
                return True
            except (StorageError, StorageFull) as error:
                self._note(error)
        return False

    def _note(self, error: UploadError) -> None:
        demand(error, self.code)
        self.errors += 1
        for survivors in (*POLICIES, random.Random(self.errors)):
            assert isinstance(self.fuse.inner, SimulatedDisk)
            if self.acknowledged:
                self.check(self.fuse.inner.crash(survivors))

    def check(self, disk: SimulatedDisk) -> None:
        store = LocalBytes("/uploads", disk=disk)
        found = store.recover({KEY: self.state})
        assert not found.lost
        with store.open(KEY) as file:
            data = file.read()
        if self.state is State.UPLOADCOMPLETE:
            assert data == self.acknowledged
            return
        offset = found.offsets[KEY]
        assert len(data) == offset >= len(self.acknowledged)
        assert data == (self.acknowledged + self.sent)[:offset]
        store.append(KEY, offset, b"the end")
        store.seal(KEY, FINAL)
        with store.open(KEY) as file:
            assert file.read() == data + b"the end"
        store.release()
        assert disk.descriptors == 0


@pytest.mark.parametrize(("code", "when", "lasting"), FAULTS)
def test_a_failing_call_of_the_byte_store(code: int, when: When, lasting: bool) -> None:
    noticed = through = 0
    for fuse in fuses(lambda disk: Upload(disk, 0).run(), code, when, lasting):
        upload = Upload(fuse, code)
        through += upload.run()
        noticed += upload.errors > 0
        disk = heal(fuse)
        if hasattr(upload, "store"):
            upload.store.release()
        assert disk.descriptors == 0
        if upload.acknowledged:
            upload.check(disk.crash("none"))
            upload.check(disk)
    assert noticed > (3 if code == errno.EMFILE else 10)
    assert through > 30 or lasting or code != errno.ENOSPC


def test_a_failed_sync_is_never_followed_by_a_record() -> None:
    """The kernel tells of a lost write once; the next sync on the descriptor succeeds and means nothing."""
    disk = _disk()
    fuse = FuseDisk(disk)
    store = LocalBytes("/uploads", disk=fuse)
    store.create(KEY, NAME)
    store.append(KEY, 0, b"abc")
    fuse.at, fuse.error = len(fuse.calls) + 1, OSError(errno.EIO, "")
    with pytest.raises(StorageError):
        store.seal(KEY, FINAL)
    for action in (lambda: store.commit(KEY), lambda: store.seal(KEY, FINAL), lambda: store.append(KEY, 0, b"abc")):
        with pytest.raises(Conflict):
            action()
    assert store.size(KEY) == 0


def test_a_record_that_failed_never_costs_the_one_that_holds() -> None:
    """The first slot fails, then the power goes in the middle of writing the next one."""
    disk = _disk()
    fuse = FuseDisk(disk)
    store = LocalBytes("/uploads", disk=fuse)
    store.create(KEY, NAME)
    for at in range(4):
        store.append(KEY, at, b"x")
        store.commit(KEY)
    for _ in range(3):
        store.append(KEY, 4, b"y")
        fuse.only, fuse.error = ("sync_data",), OSError(errno.ENOSPC, "")
        fuse.calls.clear()
        fuse.at = 2  # the bytes are synced, the record is not
        with pytest.raises(StorageFull):
            store.commit(KEY)
        fuse.at = 0
        for survivors in POLICIES:
            found = LocalBytes("/uploads", disk=disk.crash(survivors)).recover({KEY: State.WAITFORCHUNK})
            assert found.offsets[KEY] in (4, 5)


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _tasks(disk: FuseDisk, code: int) -> tuple[UploadTask | None, UploadTask | None]:
    """What is stored now, and what is possible after a restart, having done all there is."""
    now: UploadTask | None = None
    fell = False
    try:
        store = LocalTasks("/uploads", disk=disk)
        store.recover()
    except (StorageError, StorageFull) as error:
        demand(error, code)
        return None, None
    steps: list[tuple[Callable[[UploadTask], None], UploadTask]] = [
        (store.create, upload_task()),
        (lambda task: store.cas(task, 1), full_task(revision=2)),
        (lambda task: store.cas(task, 2), full_task(revision=3, message="again")),
    ]
    for step, task in steps:
        try:
            step(task)
        except (StorageError, StorageFull) as error:
            demand(error, code)
            fell = True
            assert store.get("one") == now
            if disk.lasting:
                return now, task
            step(task)
        now = task
        assert store.get("one") == now
    for _ in range(2):
        try:
            store.delete("one")
            break
        except (StorageError, StorageFull) as error:
            demand(error, code)
            assert [line.id for line in store.list()] == ["one"]
            if disk.lasting:
                return now, None
            assert not fell
    assert store.get("one") is None
    return None, None


@pytest.mark.parametrize(("code", "when", "lasting"), FAULTS)
def test_a_failing_call_of_the_task_store(code: int, when: When, lasting: bool) -> None:
    for fuse in fuses(lambda disk: _tasks(disk, 0), code, when, lasting):
        now, possible = _tasks(fuse, code)
        disk = heal(fuse)
        assert disk.descriptors == 0
        for after in (disk, disk.crash("none"), disk.crash("all")):
            store = LocalTasks("/uploads", disk=after)
            assert store.recover() == []
            assert store.get("one") in (now, possible)
            assert all(name.endswith(".json") for name in after.files("/uploads/tasks"))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE])
def test_what_the_caller_was_not_told_of_is_not_there_after_a_restart(code: int, when: When) -> None:
    """A removal that failed must not come true at the next start."""

    def change(disk: FuseDisk) -> None:
        LocalTasks("/uploads", disk=disk)  # no more than one object: the fuse counts its calls as well

    disk = _disk()
    store = LocalTasks("/uploads", disk=disk)
    store.create(first := upload_task())
    whole = FuseDisk(disk.crash("none"))
    _cas(whole, first)
    for number in range(1, len(whole.calls) + 1):
        fuse = FuseDisk(disk.crash("none"), at=number, error=OSError(code, ""), when=when)
        if _cas(fuse, first):
            continue
        for after in (heal(fuse), heal(fuse).crash("none"), heal(fuse).crash("all")):
            again = LocalTasks("/uploads", disk=after)
            again.recover()
            assert again.get("one") == first
    change(FuseDisk(disk))


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_upload_that_nobody_was_told_of_is_not_there_after_a_power_cut(when: When) -> None:
    def create(disk: FuseDisk) -> bool:
        try:
            store = LocalTasks("/uploads", disk=disk)
            store.recover()
            store.create(upload_task())
        except StorageError:
            return False
        return True

    whole = FuseDisk(_disk())
    create(whole)
    for number in range(1, len(whole.calls) + 1):
        fuse = FuseDisk(_disk(), at=number, error=OSError(errno.EIO, ""), when=when)
        if create(fuse):
            continue
        for survivors in (*POLICIES, *(random.Random(seed) for seed in range(20))):
            again = LocalTasks("/uploads", disk=heal(fuse).crash(survivors))
            again.recover()
            assert again.get("one") is None


def _cas(disk: FuseDisk, first: UploadTask) -> bool:
    try:
        store = LocalTasks("/uploads", disk=disk)
        store.recover()
        store.cas(upload_task(revision=2, state=State.REMOVE), first.revision)
    except (StorageError, StorageFull):
        return False
    return True


# ── trees ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _visible(disk: SimulatedDisk) -> dict[str, bytes]:
    return {path: data for path, data in disk.files("/music").items() if not path.startswith(".stagedoor")}


def _tree(disk: FuseDisk, code: int) -> None:
    try:
        tree = LocalTree("music", "/music", disk=disk)
    except (StorageError, StorageFull) as error:
        demand(error, code)
        return
    inner = disk.inner
    assert isinstance(inner, SimulatedDisk)
    placed = PlacedFile("music", "A/B/1.mp4", 2000, hashlib.sha256(bytes(2000)).hexdigest())
    steps: list[tuple[Callable[[], object], dict[str, bytes], dict[str, bytes]]] = [
        (lambda: tree.place(UID, "A/B/1.mp4", BytesIO(bytes(2000))), {}, {"A/B/1.mp4": bytes(2000)}),
        (lambda: tree.withdraw(UID, ["A/B/1.mp4"], ["A", "A/B"]), {"A/B/1.mp4": bytes(2000)}, {}),
        (lambda: tree.place(UID, "A/B/1.mp4", BytesIO(bytes(2000))), {}, {"A/B/1.mp4": bytes(2000)}),
        (lambda: tree.settle(UID), {"A/B/1.mp4": bytes(2000)}, {"A/B/1.mp4": bytes(2000)}),
        (lambda: tree.remove(UID, [placed], ["A", "A/B"]), {"A/B/1.mp4": bytes(2000)}, {}),
        (lambda: tree.settle(UID), {}, {}),
    ]
    for number, (step, before, after) in enumerate(steps):
        try:
            step()
        except (StorageError, StorageFull) as error:
            demand(error, code)
            # A failed `place` shows nothing, unless even the taking back fails.
            assert _visible(inner) == before or (_visible(inner) == after and (number not in (0, 2) or disk.lasting))
            heal(disk)
            step()
        assert _visible(inner) == after
    assert inner.directories("/music") == []


@pytest.mark.parametrize(("code", "when", "lasting"), FAULTS)
def test_a_failing_call_of_the_tree(code: int, when: When, lasting: bool) -> None:
    for fuse in fuses(lambda disk: _tree(disk, 0), code, when, lasting):
        _tree(fuse, code)
        assert heal(fuse).descriptors == 0


def _replacing(disk: FuseDisk, code: int) -> None:
    """Replace, withdraw, undo, and remove; each step is repeated when it has failed."""
    inner = disk.inner
    assert isinstance(inner, SimulatedDisk)
    path, old, ours = "A/1.mp4", b"old" * 100, bytes(2000)
    inner.plant(f"/music/{path}", old)
    try:
        tree = LocalTree("music", "/music", disk=disk)
    except (StorageError, StorageFull) as error:
        demand(error, code)
        return
    digests = [hashlib.sha256(data).hexdigest() for data in (ours, old)]
    placed = PlacedFile("music", path, len(ours), digests[0], digests[1])

    def place() -> None:
        assert tree.place(UID, path, BytesIO(ours), replace=True) == placed

    steps: list[tuple[Callable[[], object], bytes, bytes]] = [
        (place, old, ours),
        (lambda: tree.withdraw(UID, [path], ["A"]), ours, old),
        (place, old, ours),
        (lambda: tree.settle(UID), ours, ours),
        (lambda: tree.remove(UID, [placed], ["A"]), ours, old),
        (lambda: tree.settle(UID), old, old),
        (place, old, ours),
        (lambda: tree.settle(UID), ours, ours),
        (lambda: tree.discard(UID), ours, ours),
    ]
    for step, before, after in steps:
        try:
            step()
        except (StorageError, StorageFull) as error:
            demand(error, code)
            visible = _visible(inner).get(path)
            # A failed `place` leaves the old file, unless even the bringing back fails.
            assert visible == before or (visible in (None, after) and (step is not place or disk.lasting))
            assert old in inner.files("/music").values() or step is steps[-1][0]
            heal(disk)
            step()
        assert _visible(inner) == {path: after}
    assert inner.directories("/music") == ["A"]


@pytest.mark.parametrize(("code", "when", "lasting"), FAULTS)
def test_a_failing_call_of_the_tree_while_replacing(code: int, when: When, lasting: bool) -> None:
    for fuse in fuses(lambda disk: _replacing(disk, 0), code, when, lasting):
        _replacing(fuse, code)
        assert heal(fuse).descriptors == 0


def test_a_copy_that_finds_no_room_gives_it_back() -> None:
    disk = SimulatedDisk(room=1500)
    tree = LocalTree("music", "/music", disk=disk)
    disk.plant("/music/2.mp4", b"old")
    for path in ("1.mp4", "2.mp4"):
        with pytest.raises(StorageFull):
            tree.place(UID, path, BytesIO(bytes(3000)), replace=True)
        assert disk.free("/") == 1497
    assert disk.files("/music") == {"2.mp4": b"old"}
    disk.room = 4000
    tree.place(UID, "1.mp4", BytesIO(bytes(3000)))


# ── MusicDB ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EMFILE])
def test_a_failing_call_while_taking_over(code: int) -> None:
    life = MusicDBLife()
    whole = FuseDisk(life.disk())
    life.live(whole)
    for number in range(1, len(whole.calls) + 1):
        fuse = FuseDisk(life.disk(), at=number, error=OSError(code, ""))
        try:
            adopt_musicdb("/uploads", disk=fuse)
        except (StorageError, StorageFull) as error:
            demand(error, code)
        disk = heal(fuse)
        assert disk.descriptors == 0
        life.check(disk)


# ── one sector ────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_record_that_cannot_be_read_does_not_stop_the_start() -> None:
    disk = _disk()
    store = LocalBytes("/uploads", disk=disk)
    keys = [f"{number:032x}.0" for number in range(3)]
    for key in keys:
        store.create(key, NAME)
    fuse = FuseDisk(disk, only=("read_at",), at=3, error=OSError(errno.EIO, os.strerror(errno.EIO)))
    found = LocalBytes("/uploads", disk=fuse).recover(dict.fromkeys(keys, State.WAITFORCHUNK))
    assert len(found.lost) == 1
    assert len(found.offsets) == 2


def test_no_permission_stops_the_start() -> None:
    """Somebody can mend that, and nothing is lost: failing every upload would be worse."""
    disk = _disk()
    LocalBytes("/uploads", disk=disk).create(KEY, NAME)
    fuse = FuseDisk(disk, only=("open",), at=1, error=OSError(errno.EACCES, ""))
    with pytest.raises(StorageError):
        LocalBytes("/uploads", disk=fuse).recover({KEY: State.WAITFORCHUNK})


def test_reading_that_fails_is_a_storage_error_and_not_lost_data() -> None:
    disk = _disk()
    store = LocalBytes("/uploads", disk=FuseDisk(disk))
    store.create(KEY, NAME)
    fuse = FuseDisk(disk, only=("read_at",), at=1, error=OSError(errno.EIO, ""))
    reader = LocalBytes("/uploads", disk=fuse)
    with pytest.raises(StorageError), reader.open(KEY) as file:
        file.read()
    disk.unlink(f"/uploads/data/{KEY}/{NAME}")
    with pytest.raises(DataLost), reader.open(KEY):
        pass


def test_a_sync_is_never_short_of_descriptors() -> None:
    """What fails with such a code has failed like any other: the upload does not wait for what cannot get better."""
    disk = SimulatedDisk()
    disk.mkdir("/uploads")
    fuse = FuseDisk(disk, only=("sync_data",), at=1, error=OSError(errno.EMFILE, ""))
    store = LocalBytes("/uploads", disk=fuse)
    key = f"{1:032x}.0"
    store.create(key, "video-pending.mp4")
    store.append(key, 0, b"abc")
    with pytest.raises(StorageError) as caught:
        store.commit(key)
    assert caught.value.code == "storage_error"


def test_the_lock_is_given_back_although_closing_fails(tmp_path: Path) -> None:
    lock = DirectoryLock(str(tmp_path))
    os.close(lock._fd)
    lock.close()
    DirectoryLock(str(tmp_path)).close()


def test_a_deletion_that_could_not_be_synced_can_be_tried_again() -> None:
    """The document has gone, and nobody may say so yet: whoever wants it gone still finds it, and goes on."""
    disk = SimulatedDisk()
    disk.mkdir("/uploads")
    fuse = FuseDisk(disk, only=("sync_directory",))
    store = LocalTasks("/uploads", disk=fuse)
    task = upload_task("one")
    store.create(task)
    fuse.at, fuse.error = len(fuse.calls) + 1, OSError(errno.EIO, "")
    with pytest.raises(StorageError):
        store.delete("one")
    assert store.get("one") == task
    store.delete("one")
    assert store.get("one") is None
    assert list(store.list()) == []
