"""Disks that the Linux kernel takes away, fills, or lets fail.

`Ext4Image` is an ext4 file system on a loop device, which can be shut down in the middle of everything: what was not
synced is gone, as after a power cut, and the next mount replays the journal. `SmallDisk` is a tmpfs that is soon full.
`Injection` lets a system call of a running process fail, by ``strace``. Each says with its ``missing`` why it cannot
work here: most need root. Nothing here knows the library; `stagedoor.testing.crashes` has the uploads.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from attrs import define, field, frozen

__all__ = ["CALLS", "Ext4Image", "Flush", "Injection", "SmallDisk", "fastest_directory", "traced"]

Flush: TypeAlias = Literal["default", "logflush", "nologflush"]
"""What a shutdown still writes: everything; the journal, but no data; nothing."""

_SHUTDOWN: Final = 0x8004587D
_FLAGS: Final[Mapping[Flush, int]] = {"default": 0, "logflush": 1, "nologflush": 2}
_PATIENCE: Final = 20.0

CALLS: Final[Sequence[str]] = (
    "openat", "close", "read", "pread64", "write", "pwrite64", "writev", "pwritev", "ftruncate", "fsync", "fdatasync",
    "syncfs", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir",
    "stat", "lstat", "fstat", "newfstatat", "statx", "statfs", "fstatfs", "getdents64", "copy_file_range", "sendfile",
    "fallocate", "access", "faccessat2",
)  # fmt: skip
"""The system calls that have to do with files.

Without ``fcntl``: SQLite takes every error of a lock for a lock of somebody else, and waits for it.
"""


def fastest_directory() -> Path:
    """Where images are best: in memory, if there is such a place."""
    shm = Path("/dev/shm")  # noqa: S108  # what is made there has a name of its own
    return shm if shm.is_dir() and os.access(shm, os.W_OK) else Path(tempfile.gettempdir())


def _run(*command: str) -> str:
    """Run a program.

    Raises:
        OSError: It failed; with what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _lacking(*programs: str) -> str | None:
    if os.geteuid() != 0:
        return "only root can mount"
    lacking = [program for program in programs if shutil.which(program) is None]
    return f"there is no {lacking[0]}" if lacking else None


class _Mounted:
    """Something that is mounted below a directory of its own."""

    def __init__(self, where: Path | None) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="stagedoor-disk-", dir=where))
        self.root = self._home / "mount"
        self.root.mkdir()
        self._mounted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def unmount(self) -> None:
        """Take it off.

        Raises:
            OSError: Somebody still uses it.
        """
        end = time.monotonic() + _PATIENCE
        while self._mounted:
            try:
                _run("umount", str(self.root))
                self._mounted = False
            except OSError:  # the kernel may still be closing the files of a process that has ended
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def close(self) -> None:
        """Take it off, and delete it."""
        self.unmount()
        shutil.rmtree(self._home)


class Ext4Image(_Mounted):
    """An ext4 file system in a file, mounted by way of a loop device.

    Args:
        where: A directory for the image; `fastest_directory` when not given.
        size: In bytes; at least 16 MiB.
        block: Size of a block in bytes: 1,024, 2,048 or 4,096.
        data: How the journal treats bytes: ``ordered``, ``writeback`` or ``journal``.

    Attributes:
        root: Where it is mounted.

    Raises:
        OSError: The kernel or a program refuses; the reason is in it.
    """

    def __init__(
        self, where: Path | None = None, *, size: int = 64 << 20, block: int = 4096, data: str = "ordered"
    ) -> None:
        super().__init__(where or fastest_directory())
        self._image = self._home / "image"
        self._data = data
        try:
            with self._image.open("wb") as file:
                file.truncate(size)
            _run("mkfs.ext4", "-q", "-F", "-b", str(block), "-J", "size=4", str(self._image))
            self.mount()
        except OSError:
            self.close()
            raise

    @staticmethod
    def missing() -> str | None:
        """Why there can be none here; ``None`` when there can be. A small one is made, and shut down, to find out."""
        reason = _lacking("mkfs.ext4", "mount", "umount", "losetup")
        if reason is not None:
            return reason
        try:
            with Ext4Image(size=16 << 20) as image:
                image.shut_down("nologflush")
        except OSError as error:
            return f"no ext4 on a loop device: {error}"
        return None

    def mount(self) -> None:
        """Mount it; what is in the journal is replayed."""
        _run("mount", "-o", f"loop,data={self._data}", str(self._image), str(self.root))
        self._mounted = True

    def shut_down(self, flush: Flush = "nologflush") -> None:
        """The disk is gone: from now on each call fails. `unmount` and `mount` bring back what it had."""
        fd = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _FLAGS[flush]))
        finally:
            os.close(fd)

    def check(self) -> None:
        """Let ``fsck`` look at it, without a change; not while it is mounted, and after a mount that has replayed.

        Raises:
            OSError: It is damaged; with what it said.
        """
        _run("fsck.ext4", "-f", "-n", str(self._image))


class SmallDisk(_Mounted):
    """A tmpfs of a few pages.

    Args:
        size: In bytes.
        files: The most files and directories.

    Attributes:
        root: Where it is mounted.

    Raises:
        OSError: It cannot be mounted.
    """

    def __init__(self, size: int, *, files: int = 100_000) -> None:
        super().__init__(None)
        try:
            _run("mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={files}", "stagedoor", str(self.root))
            self._mounted = True
        except OSError:
            self.close()
            raise

    @staticmethod
    def missing() -> str | None:
        """Why there can be none here; ``None`` when there can be."""
        reason = _lacking("mount", "umount")
        if reason is not None:
            return reason
        try:
            SmallDisk(1 << 16).close()
        except OSError as error:
            return f"no tmpfs: {error}"
        return None

    def resize(self, size: int, *, files: int = 100_000) -> None:
        """Make room, or take it away; what is there stays."""
        _run("mount", "-o", f"remount,size={size},nr_inodes={files}", str(self.root))

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        found = os.statvfs(self.root)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    @property
    def files(self) -> int:
        """Files and directories that are there."""
        found = os.statvfs(self.root)
        return found.f_files - found.f_ffree


@frozen
class Injection:
    """A system call that fails.

    Attributes:
        call: Its name.
        error: ``EIO``, say.
        at: Which one, the first being 1.
        lasting: Whether all after it fail as well.
    """

    call: str
    error: str
    at: int
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.call} {self.at}{' and all after it' if self.lasting else ''}: {self.error}"

    @staticmethod
    def missing() -> str | None:
        """Why it cannot be done here; ``None`` when it can be. A process is traced to find out."""
        if shutil.which("strace") is None:
            return "there is no strace"
        with subprocess.Popen(["sleep", "60"]) as process:
            try:
                with traced(process.pid):
                    return None
            except OSError as error:
                return str(error)
            finally:
                process.kill()


@define
class traced:  # noqa: N801  # it is used as a function is
    """Watch the system calls of a process that runs, and let one fail.

    A context; at its end the process has ended, or is let go.

    Args:
        pid: The process; it must not be doing what is to be watched before the context has begun.
        injection: What fails; nothing when not given.

    Attributes:
        counts: At its end: how often the process made which of `CALLS`.
        injected: At its end: how often a call was made to fail.

    Raises:
        OSError: It cannot be traced.
    """

    pid: int
    injection: Injection | None = None
    counts: Mapping[str, int] = field(factory=dict, init=False)
    injected: int = field(default=0, init=False)
    _log: str = field(default="", init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        handle, self._log = tempfile.mkstemp(prefix="stagedoor-trace-")
        os.close(handle)
        # A leading question mark: not every machine has every call. What is not looked at costs nothing to write.
        one = self.injection
        names = ",".join(f"?{name}" for name in CALLS) if one is None else one.call
        command = ["strace", "-f", "-qq", "-o", self._log, "-s", "0", "-e", "signal=none", "-e", f"trace={names}"]
        if one is not None:
            command += ["-e", f"inject={one.call}:error={one.error}:when={one.at}{'+' * one.lasting}"]
        self._process = subprocess.Popen([*command, "-p", str(self.pid)], stderr=subprocess.PIPE)
        end = time.monotonic() + _PATIENCE
        while not self._attached():
            if self._process.poll() is not None or time.monotonic() > end:
                assert self._process.stderr is not None
                said = self._process.stderr.read() if self._process.poll() is not None else b"it takes too long"
                self._stop()
                raise OSError(f"strace cannot attach: {said.decode().strip()}")
            time.sleep(0.001)
        return self

    def _attached(self) -> bool:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            return False
        return "\nTracerPid:\t0\n" not in status

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def _stop(self) -> None:
        process = self._process
        assert process is not None
        try:
            process.wait(0.0 if self._attached() else _PATIENCE)
        except subprocess.TimeoutExpired:
            process.terminate()  # it lets the process go
            process.wait(_PATIENCE)
        assert process.stderr is not None
        process.stderr.close()
        lines = Path(self._log).read_text(encoding="utf-8", errors="replace").splitlines()
        os.unlink(self._log)
        names = [found[1] for line in lines if (found := re.match(r"\d+ +(\w+)\(", line))]
        self.counts = Counter(names)
        self.injected = sum("(INJECTED)" in line for line in lines)
