"""A decoder's child that does on request what a child must not do. Run by path, like the real one."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import json
import mmap
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_PATH = Path(__file__).parents[2] / "src/stagedoor/content/decoding/child/main.py"
sys.path.insert(0, str(_PATH.parents[1]))
child = importlib.import_module("child.main")
del sys.path[0]

_libc = ctypes.CDLL(None, use_errno=True)
Answer = tuple[dict[str, Any], list[bytes]]


def _attempt(deed: Callable[[], object]) -> str:
    try:
        deed()
    except OSError as error:
        return f"refused {error.errno}"
    except (RuntimeError, ValueError) as error:  # how Python says it of threads and of limits
        return f"refused {error}"
    return "done"


def _libc_call(name: str, *arguments: Any) -> Callable[[], None]:
    def deed() -> None:
        if getattr(_libc, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)

    return deed


def _hoard(fd: int) -> None:
    """Open more descriptors than are allowed."""
    with contextlib.ExitStack() as hoard:
        for _ in range(16):
            hoard.callback(os.close, os.dup(fd))


def attempts(source: Any, arguments: Mapping[str, Any], configuration: Mapping[str, Any]) -> Answer:
    """Try what a decoder has no business with."""
    parent, fd, connection = os.getppid(), source.fd, int(sys.argv[1])
    new, there = arguments["directory"] + "/new", arguments["file"]
    set_signal, set_flags, set_lease = 10, 0x40086602, 1024  # F_SETSIG, FS_IOC_SETFLAGS, F_SETLEASE
    deeds: dict[str, Callable[[], object]] = {
        "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "read itself": lambda: os.open(_PATH, os.O_RDONLY),
        "list a directory": lambda: os.listdir("/"),
        "write a file": lambda: os.open(new, os.O_WRONLY | os.O_CREAT),
        "make a directory": lambda: os.mkdir(new),
        "make a link": lambda: os.link(there, new),
        "make a symbolic link": lambda: os.symlink("/etc", new),
        "make a pipe with a name": lambda: os.mkfifo(new),
        "rename a file": lambda: os.rename(there, new),
        "truncate a file": lambda: os.truncate(there, 0),
        "delete a file": lambda: os.unlink(there),
        "change a file's mode": lambda: os.chmod(there, 0o777),
        "watch a directory": _libc_call("inotify_init"),
        "write to the input": lambda: os.pwrite(fd, b"x", 0),
        "truncate the input": lambda: os.ftruncate(fd, 0),
        "change the input's mode": lambda: os.fchmod(fd, 0o777),
        "change the input's times": lambda: os.utime(fd, (0, 0)),
        "map the input to write": lambda: mmap.mmap(fd, 1, mmap.MAP_SHARED, mmap.PROT_WRITE),
        "change the input's attributes": lambda: fcntl.ioctl(fd, set_flags, bytes(8)),
        "change how the input is read": lambda: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT),
        "lock the input": lambda: fcntl.flock(fd, fcntl.LOCK_EX),
        "lock a part of the input": lambda: fcntl.lockf(fd, fcntl.LOCK_SH, 1),
        "keep others from the input": lambda: fcntl.fcntl(fd, set_lease, fcntl.F_WRLCK),
        "have more descriptors": lambda: _hoard(fd),
        "connect by TCP": lambda: socket.create_connection(("127.0.0.1", arguments["port"])),
        "send by UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
        "make a socket": lambda: socket.socket(socket.AF_UNIX),
        "ask the kernel about the network": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "fork": os.fork,
        "start a thread": threading.Thread(target=int).start,
        "execute": lambda: os.execv("/bin/true", ["true"]),
        "signal the parent": lambda: os.kill(parent, 0),
        "signal a thread of the parent": _libc_call("tgkill", parent, parent, 0),
        "have the kernel signal the parent": lambda: fcntl.fcntl(connection, fcntl.F_SETOWN, parent),
        "have the kernel signal it by ioctl": lambda: fcntl.ioctl(connection, 0x8901, parent.to_bytes(4, "little")),
        "choose that signal": lambda: fcntl.fcntl(connection, set_signal, signal.SIGKILL),
        "outlive the parent": _libc_call("prctl", 1, 0, 0, 0, 0),
        "be looked into": _libc_call("prctl", 4, 1, 0, 0, 0),
        "trace the parent": _libc_call("ptrace", ctypes.c_long(16), ctypes.c_long(parent), None, None),
        "limit the parent": _libc_call("prlimit64", parent, 7, bytes(16), None),
        "slow the parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
        "write out all disks": _libc_call("syncfs", fd),
        "write out the input": lambda: os.fsync(fd),
        "read the kernel's log": _libc_call("klogctl", 10, None, 0),
        "leave memory behind": _libc_call("shmget", 0, 1 << 20, 0o1600),
        "leave a queue behind": _libc_call("msgget", 0, 0o1600),
        "leave semaphores behind": _libc_call("semget", 0, 1, 0o1600),
        "open a queue with a name": _libc_call("mq_open", b"/hostile", os.O_RDWR | os.O_CREAT, 0o600, None),
        "have memory as a file": _libc_call("memfd_create", b"hostile", 0),
        "become another": lambda: os.setuid(65534),
        "get more memory": lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)),
    }
    return {name: _attempt(deed) for name, deed in deeds.items()}, []


def spin(*_: Any) -> Answer:
    while True:
        pass


def block(*_: Any) -> Answer:
    while True:
        signal.pause()


def bomb(*_: Any) -> Answer:
    hoard = []
    while True:
        hoard.append(bytes(1 << 24))


def die(_: Any, arguments: Mapping[str, Any], __: Any) -> Answer:
    if arguments["how"] == "exit":
        os._exit(7)
    ctypes.string_at(0)  # a segmentation fault
    raise AssertionError


def fail(*_: Any) -> Answer:
    raise ZeroDivisionError("text that\nwants into a log")


def say(_: Any, arguments: Mapping[str, Any], __: Any) -> Answer:
    """Write any bytes as the answer, then wait or leave."""
    data = bytes.fromhex(arguments["hex"])
    while data:
        data = data[os.write(int(sys.argv[1]), data) :]
    if arguments["then"] == "wait":
        block()
    os._exit(0)


def echo(source: Any, arguments: Mapping[str, Any], __: Any) -> Answer:
    source.seek(0)
    return {"pid": os.getpid(), "size": source.size, **arguments}, [source.read()]


def answer(_: Any, arguments: Mapping[str, Any], __: Any) -> Answer:
    return arguments["document"], [bytes.fromhex(blob) for blob in arguments["blobs"]]


_kept: list[int] = []


def keep(source: Any, arguments: Mapping[str, Any], __: Any) -> Answer:
    """Ask about a path, read the input of the request before, and keep this one's open."""
    path = arguments["path"]
    exists = os.path.exists(path)
    kept = os.pread(_kept[-1], 100, 0).decode() if _kept else None
    _kept.append(os.dup(source.fd))
    return {"exists": exists, "size": os.stat(path).st_size if exists else 0, "kept": kept}, []


def unreadable_disk(source: Any, *_: Any) -> Answer:
    os.close(source.fd)
    with contextlib.suppress(OSError):
        source.read(1)
    os.dup2(0, source.fd)
    raise ValueError("what FFmpeg makes of it")


def surroundings(*_: Any) -> Answer:
    return {
        "environment": sorted(os.environ),
        "directory": os.getcwd(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "umbrella": "stagedoor" in sys.modules,
        "path": sys.path,
    }, []


def frames(_: Any, arguments: Mapping[str, Any], __: Any) -> Iterator[Any]:
    """A stream of what the test wants; text stands for bytes."""
    for frame in arguments["frames"]:
        yield bytes.fromhex(frame) if isinstance(frame, str) else frame


def count(source: Any, arguments: Mapping[str, Any], __: Any) -> Iterator[Any]:
    """So many documents, each with a KiB of bytes, and then a deed."""
    for number in range(arguments["count"]):
        yield {"number": number, "pid": os.getpid()}
        yield bytes([number % 256]) * 1024
    deed = arguments.get("then")
    if deed == "reject":
        raise child.RejectedError("frame_too_large", width=7)
    if deed:
        OPERATIONS[deed](source, {"how": "segmentation fault"}, {})


def work_hard(*_: Any) -> Iterator[Any]:
    """Use up some processor time, say that much was passed over, and tell what time was left before and after."""
    given = left = signal.getitimer(signal.ITIMER_PROF)[0]
    while left > given - 0.2:
        left = signal.getitimer(signal.ITIMER_PROF)[0]
    yield {"given": given, "left": left}
    yield {"passed": 64 << 20}
    yield {"left": signal.getitimer(signal.ITIMER_PROF)[0]}


def taken_over(source: Any, arguments: Mapping[str, Any], configuration: Mapping[str, Any]) -> Answer:
    """A video that says what is to be done, behind its magic number; others are looked at."""
    data = source.read()
    if not data.startswith(TAKES_OVER):
        source.seek(0)
        probed: Answer = _probe_video(source, arguments, configuration)
        return probed
    deed = json.loads(data.removeprefix(TAKES_OVER))
    done: Answer = OPERATIONS[deed.pop("deed")](source, deed, configuration)
    return done


TAKES_OVER = b"\x1a\x45\xdf\xa3 now "
OPERATIONS = child.OPERATIONS
_probe_video = OPERATIONS["probe_video"]
child.STREAMS.update(frames=frames, count=count, work_hard=work_hard)
child.OPERATIONS.update(
    attempts=attempts,
    spin=spin,
    block=block,
    bomb=bomb,
    die=die,
    fail=fail,
    say=say,
    echo=echo,
    keep=keep,
    answer=answer,
    surroundings=surroundings,
    unreadable_disk=unreadable_disk,
    probe_video=taken_over,
)

if __name__ == "__main__":
    child.main()
