"""The file calls, and the disks that fail: a simulated one must behave like the real one, but for what it forgets."""

import ctypes
import errno
import os
import random
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from stagedoor.adapters.disk import Disk, DiskEntry, is_full, make_root, storage_errors
from stagedoor.errors import StorageError, StorageFull, UploadError
from stagedoor.testing.disk import POLICIES, SECTOR, CarelessDisk, Crash, FuseDisk, SimulatedDisk, WatchedDisk

# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_missing_room_is_an_error_of_its_own(code: int) -> None:
    with pytest.raises(StorageFull) as full, storage_errors("a new upload"):
        raise OSError(code, "")
    assert "a new upload" in full.value.sentence
    assert is_full(OSError(code, ""))


@pytest.mark.parametrize(("code", "expected"), [(errno.EMFILE, "too_many_open_files"), (errno.EIO, "storage_error")])
def test_other_errors_say_what_was_being_done(code: int, expected: str) -> None:
    with pytest.raises(StorageError) as failed, storage_errors("storing a chunk"):
        raise OSError(code, "")
    assert failed.value.code == expected
    assert failed.value.sentence.startswith("Storing a chunk failed: ")
    assert isinstance(failed.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.EDQUOT, "There is no room for a new upload. Free some space; the upload then goes on."),
        (errno.EMFILE, "A new upload failed: too many open files. Raise the limit (ulimit -n) and try again."),
        (errno.ENFILE, "A new upload failed: too many open files. Raise the limit (ulimit -n) and try again."),
        (errno.EIO, "A new upload failed: Input/output error."),
        (None, "A new upload failed: Success."),
    ],
)
def test_what_people_read_when_the_disk_fails(code: int | None, sentence: str) -> None:
    error = OSError("no number") if code is None else OSError(code, "")
    with pytest.raises(UploadError) as failed, storage_errors("a new upload"):
        raise error
    assert failed.value.sentence == sentence
    assert failed.value.__cause__ is error
    assert is_full(error) == isinstance(failed.value, StorageFull)


def test_an_error_without_a_number_is_one_too() -> None:
    with pytest.raises(StorageError), storage_errors("storing a chunk"):
        raise OSError("no number")


def test_a_crash_is_no_error() -> None:
    with pytest.raises(Crash), storage_errors("storing a chunk"):
        raise Crash
    assert not issubclass(Crash, Exception)


# ── every disk ────────────────────────────────────────────────────────────────────────────────────────────────


class Place:
    """A disk and a directory on it."""

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk, self.root = disk, root

    def __call__(self, name: str) -> str:
        return os.path.join(self.root, name)

    def put(self, name: str, data: bytes) -> None:
        fd = self.disk.open(self(name), create=True)
        self.disk.write_at(fd, data, 0)
        self.disk.close(fd)


@pytest.fixture(params=["real", "simulated", "watched"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "real":
        return Place(Disk(), str(tmp_path))
    disk: Disk = SimulatedDisk()
    make_root(disk, "/some/where", sync=True)
    if request.param == "watched":
        disk = FuseDisk(CarelessDisk(disk, lambda _: False))
    return Place(disk, "/some/where")


def raises(code: int) -> pytest.RaisesExc[OSError]:
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == code)


def test_files(at: Place) -> None:
    fd = at.disk.open(at("a"), create=True)
    at.disk.write_at(fd, b"hello", 0)
    at.disk.write_at(fd, memoryview(b"XYZ"), 7)
    assert at.disk.read_at(fd, 100, 0) == b"hello\0\0XYZ"
    assert at.disk.read_at(fd, 2, 8) == b"YZ"
    assert at.disk.read_at(fd, 2, 80) == b""
    at.disk.truncate(fd, 3)
    assert at.disk.info_of(fd).size == 3
    at.disk.truncate(fd, 5)
    at.disk.sync(fd)
    at.disk.sync_data(fd)
    assert at.disk.read(at("a")) == b"hel\0\0"
    assert at.disk.read(at("a"), 2) == b"he"
    info = at.disk.info(at("a"))
    assert info is not None
    assert (info.inode, info.size, info.is_file, info.is_dir) == (at.disk.info_of(fd).inode, 5, True, False)
    at.disk.close(fd)
    with raises(errno.EBADF):
        at.disk.read_at(fd, 1, 0)
    with raises(errno.EEXIST):
        at.disk.open(at("a"), create=True)
    with raises(errno.ENOENT):
        at.disk.open(at("b"))
    with raises(errno.ENOENT):
        at.disk.read(at("b"))
    assert at.disk.info(at("b")) is None


def test_large_files_are_read_whole(at: Place) -> None:
    data = random.Random(1).randbytes(200_000)
    at.put("a", data)
    assert at.disk.read(at("a")) == data
    assert at.disk.read(at("a"), 70_000) == data[:70_000]
    with at.disk.stream(at.disk.open(at("a"))) as file:
        assert file.read(10) == data[:10]
        assert file.seek(-5, os.SEEK_END) == 199_995
        assert file.read() == data[-5:]
        assert file.seek(3) == 3
        assert file.seek(2, os.SEEK_CUR) == 5
        assert file.read(1) == data[5:6]
    assert file.closed


def test_directories(at: Place) -> None:
    assert at.disk.mkdir(at("d"))
    assert not at.disk.mkdir(at("d"))
    at.put("d/f", b"")
    assert sorted(e.name for e in at.disk.entries(at("d"))) == ["f"]
    assert at.disk.entries(at("d")) == [DiskEntry("f", is_dir=False, is_file=True)]
    assert at.disk.entries(at("x")) == []
    assert at.disk.is_directory(at("d"))
    assert not at.disk.is_directory(at("d/f"))
    assert not at.disk.rmdir(at("d"))
    at.disk.unlink(at("d/f"))
    at.disk.unlink(at("d/f"))
    at.disk.sync_directory(at("d"))
    at.disk.sync_all(at("d"))
    fd = at.disk.open_directory(at("d"))
    at.disk.sync(fd)
    at.disk.close(fd)
    assert at.disk.rmdir(at("d"))
    assert not at.disk.rmdir(at("d"))
    with raises(errno.ENOENT):
        at.disk.sync_directory(at("d"))
    with raises(errno.ENOENT):
        at.disk.mkdir(at("d/e"))
    assert at.disk.free(at.root) > 0


def test_names(at: Place) -> None:
    at.put("a", b"a")
    at.put("b", b"b")
    at.disk.replace(at("a"), at("b"))
    assert at.disk.read(at("b")) == b"a"
    assert at.disk.link(at("b"), at("c"))
    first, second = at.disk.info(at("b")), at.disk.info(at("c"))
    assert first is not None
    assert second is not None
    assert (first.device, first.inode) == (second.device, second.inode)
    with raises(errno.EEXIST):
        at.disk.link(at("b"), at("c"))
    with raises(errno.ENOENT):
        at.disk.link(at("missing"), at("d"))
    with raises(errno.ENOENT):
        at.disk.replace(at("missing"), at("d"))
    with raises(errno.EEXIST):
        at.disk.rename_exclusive(at("b"), at("c"))
    assert at.disk.read(at("c")) == b"a"
    at.disk.rename_exclusive(at("b"), at("d"))
    assert at.disk.info(at("b")) is None
    with raises(errno.ENOENT):
        at.disk.rename_exclusive(at("b"), at("e"))


def test_two_names_change_places(at: Place) -> None:
    at.disk.mkdir(at("d"))
    at.put("a", b"a")
    at.put("d/b", b"b")
    if not at.disk.exchange(at("a"), at("d/b")):
        pytest.skip("the file system cannot exchange names")
    assert (at.disk.read(at("a")), at.disk.read(at("d/b"))) == (b"b", b"a")
    for one, other in (("a", "missing"), ("missing", "a")):
        with raises(errno.ENOENT):
            at.disk.exchange(at(one), at(other))
    assert at.disk.read(at("a")) == b"b"


def test_a_name_that_is_too_long(at: Place) -> None:
    with raises(errno.ENAMETOOLONG):
        at.disk.open(at("x" * 256), create=True)


def test_a_file_is_no_directory(at: Place) -> None:
    at.put("f", b"")
    with raises(errno.ENOTDIR):
        at.disk.open(at("f/g"), create=True)
    assert at.disk.info(at("f/g")) is None
    with raises(errno.ENOTDIR):
        at.disk.entries(at("f"))
    with raises(errno.EEXIST):
        at.disk.mkdir(at("f"))
    for call in (at.disk.open_directory, at.disk.sync_directory):
        with raises(errno.ENOTDIR):
            call(at("f"))
    at.disk.mkdir(at("d"))
    with raises(errno.EISDIR):
        at.disk.open(at("d"))
    with raises(errno.EISDIR):
        at.disk.replace(at("f"), at("d"))
    with pytest.raises(OSError, match=r"\[Errno"):
        at.disk.unlink(at("d"))
    with raises(errno.ENOTDIR):
        at.disk.rmdir(at("f"))


def test_a_link_is_not_followed_at_the_end(at: Place, tmp_path: Path) -> None:
    at.put("f", b"secret")
    at.disk.mkdir(at("d"))
    for target, name in (("f", "to-f"), ("d", "to-d"), ("nowhere", "to-nowhere")):
        if isinstance(at.disk, WatchedDisk):
            inner = at.disk.inner
            assert isinstance(inner, WatchedDisk)
            assert isinstance(inner.inner, SimulatedDisk)
            inner.inner.symlink(target, at(name))
        elif isinstance(at.disk, SimulatedDisk):
            at.disk.symlink(target, at(name))
        else:
            os.symlink(target, at(name))
    for name in ("to-f", "to-nowhere"):
        with raises(errno.ELOOP):
            at.disk.open(at(name))
        with raises(errno.ELOOP):
            at.disk.read(at(name))
    with raises(errno.ENOTDIR):
        at.disk.entries(at("to-d"))
    info = at.disk.info(at("to-f"))
    assert info is not None
    assert not info.is_file
    assert not info.is_dir
    kinds = {entry.name: (entry.is_dir, entry.is_file) for entry in at.disk.entries(at.root)}
    assert kinds["to-d"] == kinds["to-f"] == (False, False)
    with raises(errno.EEXIST):
        at.disk.mkdir(at("to-d"))
    assert at.disk.is_directory(at("to-d"))
    at.put("to-d/g", b"on the way it is followed")
    assert at.disk.read(at("d/g")) == b"on the way it is followed"
    at.disk.unlink(at("to-f"))
    assert at.disk.read(at("f")) == b"secret"


def test_a_root_is_made_with_what_is_above_it(at: Place) -> None:
    make_root(at.disk, at("a/b/c"), sync=True)
    make_root(at.disk, at("a/b/c"), sync=True)
    assert at.disk.is_directory(at("a/b/c"))
    at.put("f", b"")
    with raises(errno.EEXIST):
        make_root(at.disk, at("f"), sync=False)


def test_a_real_pipe_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with raises(errno.ENXIO):
        Disk().open(str(tmp_path / "pipe"))
    with raises(errno.ENXIO):
        Disk().read(str(tmp_path / "pipe"))
    os.mkfifo(tmp_path / "pipe2")
    with raises(errno.ENXIO):
        Disk().open(str(tmp_path / "pipe2"), write=True)


def test_real_files_are_for_their_owner_to_write(tmp_path: Path) -> None:
    disk = Disk()
    disk.close(disk.open(str(tmp_path / "f"), create=True))
    disk.mkdir(str(tmp_path / "d"))
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) & 0o022 == 0
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) & 0o022 == 0
    fd = disk.open(str(tmp_path / "f"))
    assert not os.get_inheritable(fd)
    disk.close(fd)


def test_the_mode_of_real_files_is_ours_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Disk().close(Disk().open(str(tmp_path / "f"), create=True))
        Disk().mkdir(str(tmp_path / "d"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o755


def test_real_errors_name_the_files_as_the_system_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, pipe = str(tmp_path / "one"), str(tmp_path / "other"), str(tmp_path / "pipe")
    os.mkdir(one)
    os.mkdir(other)
    os.mkfifo(pipe)

    def said(call: Callable[[], object]) -> tuple[object, ...]:
        try:
            call()
        except OSError as error:
            return error.errno, error.strerror, error.filename, error.filename2
        return ()

    disk = Disk()
    assert said(lambda: disk.open(one)) == (errno.EISDIR, "Is a directory", one, None)
    assert said(lambda: disk.open(pipe)) == (errno.ENXIO, "No such device or address", pipe, None)
    assert said(lambda: disk.rename_exclusive(one, other)) == (errno.EEXIST, "File exists", one, other)
    missing = str(tmp_path / "missing")
    assert said(lambda: disk.exchange(missing, one)) == (errno.ENOENT, "No such file or directory", missing, one)
    monkeypatch.setattr(disk, "is_directory", lambda _: False)
    assert said(lambda: make_root(disk, "/", sync=False)) == (errno.EIO, "Input/output error", "/", None)
    fd = disk.open(str(tmp_path / "f"), create=True)
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    assert said(lambda: disk.write_at(fd, b"x", 0)) == (errno.ENOSPC, "No space left on device", None, None)
    disk.close(fd)


class _Library:
    """A C library with the calls that a test gives it."""

    def __init__(self, **calls: Callable[..., int]) -> None:
        self.__dict__.update(calls)


def test_a_system_without_newer_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"a")
    synced: list[str] = []
    monkeypatch.setattr("ctypes.CDLL", lambda name, use_errno: _Library())
    monkeypatch.setattr(os, "sync", lambda: synced.append("all"))
    disk = Disk()
    disk.sync_all(str(tmp_path))
    assert synced == ["all"]
    assert not disk.exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSYS)) as unknown:
        disk.rename_exclusive(str(tmp_path / "a"), str(tmp_path / "b"))
    assert unknown.value.errno == errno.ENOSYS
    assert (tmp_path / "a").exists()


def test_syncing_everything_asks_for_the_file_system_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answer = 0

    def syncfs(fd: int) -> int:
        asked.append(os.readlink(f"/proc/self/fd/{fd}"))
        ctypes.set_errno(errno.EIO)
        return answer

    monkeypatch.setattr("ctypes.CDLL", lambda name, use_errno: _Library(syncfs=syncfs))
    open_before = os.listdir("/proc/self/fd")
    Disk().sync_all(str(tmp_path))
    answer = -1
    with pytest.raises(OSError, match=os.strerror(errno.EIO)) as failed:
        Disk().sync_all(str(tmp_path))
    assert (failed.value.errno, failed.value.filename) == (errno.EIO, str(tmp_path))
    assert asked == [str(tmp_path)] * 2
    assert os.listdir("/proc/self/fd") == open_before


def test_real_calls_leave_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, path = Disk(), str(tmp_path)
    (tmp_path / "f").write_bytes(b"x")
    before = os.listdir("/proc/self/fd")
    disk.read(path + "/f")
    disk.entries(path)
    disk.sync_directory(path)
    disk.sync_all(path)
    with raises(errno.EISDIR):
        disk.open(path)

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "")

    for name, call in (
        ("fsync", lambda: disk.sync_directory(path)),
        ("read", lambda: disk.read(path + "/f")),
        ("scandir", lambda: disk.entries(path)),
    ):
        with monkeypatch.context() as patch, raises(errno.EIO):
            patch.setattr(os, name, fails)
            call()
    assert os.listdir("/proc/self/fd") == before


def test_a_clone_is_asked_of_the_new_file(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr("fcntl.ioctl", lambda *arguments: asked.append(arguments))
    assert Disk().clone(7, 8)
    assert asked == [(8, 0x40049409, 7)]  # FICLONE of linux/fs.h


def test_the_room_is_what_an_ordinary_user_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(f_bavail=3, f_frsize=5, f_bfree=7, f_bsize=11)
    monkeypatch.setattr(os, "statvfs", lambda path: found if path == "/some/where" else None)
    assert Disk().free("/some/where") == 15


@pytest.mark.parametrize("size", [0, 1, 32_767, 32_768, 32_769, 65_536, 70_000])
def test_files_are_read_in_blocks_to_their_end_or_the_limit(size: int, tmp_path: Path) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    assert Disk().read(str(tmp_path / "f")) == data
    for limit in (1, 32_767, 32_768, 32_769, 65_536):
        assert Disk().read(str(tmp_path / "f"), limit) == data[:limit]


def test_what_is_above_a_new_root_is_synced(tmp_path: Path) -> None:
    synced: list[str] = []

    class Noting(Disk):
        def sync_directory(self, path: str) -> None:
            synced.append(os.path.relpath(path, tmp_path))

    make_root(Noting(), str(tmp_path / "a" / "b"), sync=True)
    assert synced == ["..", ".", "a"]
    synced.clear()
    make_root(Noting(), str(tmp_path / "c" / "d"), sync=False)
    make_root(Noting(), str(tmp_path / "a" / "b"), sync=False)
    assert synced == []
    make_root(Noting(), str(tmp_path / "a" / "b"), sync=True)  # whoever made it may have been killed before this
    assert synced == ["a"]


def test_a_short_write_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrote: list[int] = []
    pwrite = os.pwrite

    def short(fd: int, data: bytes | memoryview, offset: int) -> int:
        wrote.append(len(data))
        return pwrite(fd, bytes(data[:3]), offset)

    monkeypatch.setattr(os, "pwrite", short)
    disk = Disk()
    fd = disk.open(str(tmp_path / "f"), create=True)
    disk.write_at(fd, b"0123456789", 5)
    assert disk.read_at(fd, 100, 5) == b"0123456789"
    assert wrote == [10, 7, 4, 1]
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with raises(errno.ENOSPC):
        disk.write_at(fd, b"0123456789", 5)
    disk.close(fd)


def test_where_the_file_system_has_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "")

    monkeypatch.setattr(os, "link", refuse)
    assert not Disk().link(str(tmp_path / "a"), str(tmp_path / "b"))


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_where_the_file_system_cannot_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "")

    monkeypatch.setattr("stagedoor.adapters.disk._rename", refuse)
    assert not Disk().exchange(str(tmp_path / "a"), str(tmp_path / "b"))


def test_clone_says_whether_it_did(tmp_path: Path) -> None:
    disk = Disk()
    (tmp_path / "a").write_bytes(b"data")
    source, dest = disk.open(str(tmp_path / "a")), disk.open(str(tmp_path / "b"), create=True)
    assert (tmp_path / "b").read_bytes() == (b"data" if disk.clone(source, dest) else b"")
    disk.close(source)
    disk.close(dest)


# ── the fuse ──────────────────────────────────────────────────────────────────────────────────────────────────


def _three(disk: Disk) -> None:
    disk.mkdir("/a")
    disk.mkdir("/b")
    disk.mkdir("/c")


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("when", ["before", "after", "torn"])
def test_a_fuse_ends_the_process_at_its_call(number: int, when: str) -> None:
    disk = SimulatedDisk()
    fuse = FuseDisk(disk, at=number, when=when)  # type: ignore[arg-type]  # parametrized
    with pytest.raises(Crash):
        _three(fuse)
    assert fuse.blown
    assert fuse.dead
    assert disk.directories() == ["a", "b", "c"][: number if when == "after" else number - 1]
    for call in (
        lambda: fuse.mkdir("/d"), lambda: fuse.info("/a"), lambda: fuse.close(3), lambda: fuse.entries("/"),
        lambda: fuse.write_at(3, b"", 0), lambda: fuse.open("/x"), lambda: fuse.free("/"), lambda: fuse.unlink("/a"),
    ):  # fmt: skip
        with pytest.raises(Crash):
            call()
    assert len(fuse.calls) == number


def test_a_fuse_that_is_not_set_only_counts() -> None:
    fuse = FuseDisk(SimulatedDisk())
    _three(fuse)
    assert [(call.method, call.site) for call in fuse.calls] == [("mkdir", "_three")] * 3
    assert len({call.line for call in fuse.calls}) == 3
    assert not fuse.blown


@pytest.mark.parametrize("lasting", [False, True])
def test_an_error_comes_once_or_for_good(lasting: bool) -> None:
    fuse = FuseDisk(SimulatedDisk(), at=2, error=OSError(errno.EIO, ""), lasting=lasting, only=("mkdir",))
    failed = []
    for number in range(4):
        assert fuse.info(f"/{number}") is None
        try:
            fuse.mkdir(f"/{number}")
        except OSError as error:
            failed.append((number, error.errno))
    assert failed == [(1, errno.EIO), (2, errno.EIO), (3, errno.EIO)][: None if lasting else 1]


def test_a_torn_write_reaches_the_file_with_its_first_half() -> None:
    disk = SimulatedDisk()
    fuse = FuseDisk(disk, at=2, when="torn")
    fd = fuse.open("/f", create=True)
    with pytest.raises(Crash):
        fuse.write_at(fd, b"0123456789", 0)
    assert disk.read("/f") == b"01234"
    assert disk.descriptors == 1
    fuse.release()
    assert disk.descriptors == 0


def test_descriptors_of_a_killed_process_are_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    fuse = FuseDisk(at=3, when="after")
    with suppress(Crash):
        for name in "abc":
            fuse.open(str(tmp_path / name), create=True)
    assert len(os.listdir("/proc/self/fd")) == before + 3
    fuse.release()
    fuse.release()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_open_that_fails_leaves_no_descriptor() -> None:
    disk = SimulatedDisk()
    fuse = FuseDisk(disk, at=1, error=OSError(errno.EIO, ""), when="after")
    with raises(errno.EIO):
        fuse.open("/f", create=True)
    assert disk.descriptors == 0
    assert disk.files() == {"f": b""}


def test_a_close_that_fails_closes() -> None:
    disk = SimulatedDisk()
    fuse = FuseDisk(disk, at=2, error=OSError(errno.EIO, ""))
    fd = fuse.open("/f", create=True)
    with raises(errno.EIO):
        fuse.close(fd)
    assert disk.descriptors == 0


def test_a_careless_disk_leaves_out_and_remembers() -> None:
    disk = SimulatedDisk()
    careless = CarelessDisk(disk, lambda call: call.method == "mkdir")
    _three(careless)
    careless.sync_directory("/")
    assert disk.directories() == []
    assert [call.method for call in careless.omitted] == ["mkdir"] * 3


# ── what survives ─────────────────────────────────────────────────────────────────────────────────────────────


def outcomes(make: Callable[[SimulatedDisk], object], look: Callable[[SimulatedDisk], object]) -> set[object]:
    """What may be there after a power cut."""
    disk = SimulatedDisk()
    make(disk)
    cuts = [disk.crash(policy) for policy in POLICIES]
    cuts += [disk.crash(random.Random(seed)) for seed in range(200)]
    return {look(cut) for cut in cuts}


def write(disk: SimulatedDisk, path: str, data: bytes, at: int = 0, *, create: bool = True, sync: bool = False) -> None:
    fd = disk.open(path, write=True, create=create)
    disk.write_at(fd, data, at)
    if sync:
        disk.sync(fd)
    disk.close(fd)


def content(path: str) -> Callable[[SimulatedDisk], bytes | None]:
    return lambda disk: disk.files().get(path)


def test_nothing_is_durable_before_it_is_synced() -> None:
    found = outcomes(lambda disk: write(disk, "/f", b"data"), content("f"))
    assert {None, b"", b"data"} <= found


def test_a_synced_name_of_a_file_that_was_not_may_be_anything() -> None:
    def make(disk: SimulatedDisk) -> None:
        write(disk, "/f", b"data")
        disk.sync_directory("/")

    assert {None, b"", b"data", b"\xa5" * 4} <= outcomes(make, content("f"))


def test_a_synced_file_without_a_synced_name_is_whole_or_not_there() -> None:
    assert outcomes(lambda disk: write(disk, "/f", b"data", sync=True), content("f")) == {None, b"data"}


def test_what_is_synced_stays() -> None:
    def make(disk: SimulatedDisk) -> None:
        write(disk, "/f", b"data", sync=True)
        disk.sync_directory("/")

    assert outcomes(make, content("f")) == {b"data"}


def test_a_rename_may_survive_what_it_renames() -> None:
    """The classic: a new document without its bytes in place of the old one."""

    def make(disk: SimulatedDisk, sync: bool = False) -> None:
        disk.plant("/f", b"old")
        write(disk, "/new", b"new", sync=sync)
        disk.replace("/new", "/f")

    assert b"" in outcomes(make, content("f"))
    assert outcomes(lambda disk: make(disk, sync=True), content("f")) == {b"old", b"new"}


def test_sectors_of_a_write_survive_each_on_its_own() -> None:
    old, new = b"o" * SECTOR * 3, b"n" * SECTOR * 3

    def make(disk: SimulatedDisk) -> None:
        disk.plant("/f", old)
        write(disk, "/f", new, create=False)

    found = outcomes(make, content("f"))
    assert len(found) == 8
    assert all(isinstance(data, bytes) and set(data[i * SECTOR : (i + 1) * SECTOR]) in ({111}, {110})
               for data in found for i in range(3))  # fmt: skip


def test_an_overwritten_sector_is_old_or_new_and_never_torn() -> None:
    def make(disk: SimulatedDisk) -> None:
        disk.plant("/f", b"a" * 100)
        write(disk, "/f", b"b" * 24, 10, create=False)

    assert outcomes(make, content("f")) == {b"a" * 100, b"a" * 10 + b"b" * 24 + b"a" * 66}


def test_a_cut_may_be_forgotten() -> None:
    def make(disk: SimulatedDisk) -> None:
        disk.plant("/f", b"data")
        fd = disk.open("/f", write=True)
        disk.truncate(fd, 2)

    assert outcomes(make, content("f")) == {b"data", b"da"}


def test_removals_and_links_may_be_forgotten() -> None:
    def make(disk: SimulatedDisk) -> None:
        disk.plant("/a", b"a")
        disk.link("/a", "/b")
        disk.unlink("/a")
        disk.mkdir("/d")

    found = outcomes(make, lambda disk: (*sorted(disk.files()), *disk.directories()))
    assert found == {(*a, *b, *d) for a in ((), ("a",)) for b in ((), ("b",)) for d in ((), ("d",))}


def test_a_rename_between_directories_is_one_change() -> None:
    def make(disk: SimulatedDisk) -> None:
        disk.plant("/x/f", b"f")
        disk.plant("/y/other", b"")
        disk.rename_exclusive("/x/f", "/y/f")

    found = outcomes(make, lambda disk: tuple(sorted(disk.files())))
    assert found == {("x/f", "y/other"), ("y/f", "y/other")}

    def synced(disk: SimulatedDisk) -> None:
        make(disk)
        disk.sync_directory("/y")

    assert outcomes(synced, lambda disk: tuple(sorted(disk.files()))) == {("y/f", "y/other")}


def test_an_exchange_is_one_change_and_durable_when_both_directories_are() -> None:
    def make(disk: SimulatedDisk, *synced: str) -> None:
        disk.plant("/x/f", b"f")
        disk.plant("/y/g", b"g")
        assert disk.exchange("/x/f", "/y/g")
        for directory in synced:
            disk.sync_directory(directory)

    def look(disk: SimulatedDisk) -> tuple[bytes, bytes]:
        return disk.read("/x/f"), disk.read("/y/g")

    before, after = (b"f", b"g"), (b"g", b"f")
    for synced in ((), ("/x",), ("/y",)):
        assert outcomes(lambda disk, synced=synced: make(disk, *synced), look) == {before, after}  # type: ignore[misc]
    assert outcomes(lambda disk: make(disk, "/y", "/x"), look) == {after}


def test_what_is_in_a_directory_that_does_not_survive_is_gone() -> None:
    def make(disk: SimulatedDisk) -> None:
        disk.mkdir("/d")
        write(disk, "/d/f", b"data", sync=True)
        disk.sync_directory("/d")

    assert outcomes(make, content("d/f")) == {None, b"data"}


def test_numbers_of_lost_files_are_used_again() -> None:
    disk = SimulatedDisk()
    write(disk, "/f", b"data")
    lost = disk.info("/f")
    after = disk.crash("none")
    write(after, "/g", b"other")
    found = after.info("/g")
    assert lost is not None
    assert found is not None
    assert (found.device, found.inode) == (lost.device, lost.inode)


def test_a_power_cut_leaves_the_disk_that_was_cut() -> None:
    disk = SimulatedDisk()
    write(disk, "/f", b"data")
    after = disk.crash("all")
    after.unlink("/f")
    write(after, "/g", b"")
    assert disk.files() == {"f": b"data"}
    assert disk.crash("none").files() == {}
    assert after.crash("none").files() == {"f": b"data"}  # it was cut with everything: that is durable now


def test_syncing_everything_syncs_everything() -> None:
    disk = SimulatedDisk()
    make_root(disk, "/a/b", sync=False)
    write(disk, "/a/b/f", b"data")
    disk.sync_all("/")
    assert disk.crash("none").files() == {"a/b/f": b"data"}


def test_room_is_limited() -> None:
    disk = SimulatedDisk(room=10)
    fd = disk.open("/f", create=True)
    disk.write_at(fd, b"0123456789", 0)
    disk.write_at(fd, b"abc", 0)
    with raises(errno.ENOSPC):
        disk.write_at(fd, b"x", 10)
    assert disk.free("/") == 0
    disk.truncate(fd, 4)
    assert disk.free("/") == 6


def test_a_file_system_without_links_or_renames_that_never_replace() -> None:
    disk = SimulatedDisk(links=False, exclusive=False)
    disk.plant("/f", b"")
    assert not disk.link("/f", "/g")
    with raises(errno.EINVAL):
        disk.rename_exclusive("/f", "/g")
    disk.plant("/g", b"g")
    assert not disk.exchange("/f", "/g")
    assert disk.read("/g") == b"g"


def test_a_root_on_a_disk_that_answers_nothing_is_an_error_of_the_disk() -> None:
    class Silent(Disk):
        def is_directory(self, path: str) -> bool:
            return False

    with pytest.raises(OSError, match="Input/output error"):
        make_root(Silent(), "/nowhere/at/all", sync=True)
