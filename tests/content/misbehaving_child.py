"""A decoder's child that does on request what a child must not do. Run by path, like the real one."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
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


def attempts(source: Any, arguments: Mapping[str, Any], configuration: Mapping[str, Any]) -> Answer:
    """Try what a decoder has no business with."""
    parent, fd = os.getppid(), source.fd
    deeds: dict[str, Callable[[], object]] = {
        "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "read itself": lambda: os.open(_PATH, os.O_RDONLY),
        "list a directory": lambda: os.listdir("/"),
        "write a file": lambda: os.open(arguments["directory"] + "/new", os.O_WRONLY | os.O_CREAT),
        "make a directory": lambda: os.mkdir(arguments["directory"] + "/new"),
        "truncate a file": lambda: os.truncate(arguments["file"], 0),
        "delete a file": lambda: os.unlink(arguments["file"]),
        "write to the input": lambda: os.pwrite(fd, b"x", 0),
        "truncate the input": lambda: os.ftruncate(fd, 0),
        "change the input's mode": lambda: os.fchmod(fd, 0o777),
        "change the input's times": lambda: os.utime(fd, (0, 0)),
        "connect by TCP": lambda: socket.create_connection(("127.0.0.1", arguments["port"])),
        "send by UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
        "make a socket": lambda: socket.socket(socket.AF_UNIX),
        "fork": os.fork,
        "start a thread": threading.Thread(target=int).start,
        "execute": lambda: os.execv("/bin/true", ["true"]),
        "signal the parent": lambda: os.kill(parent, 0),
        "trace the parent": _libc_call("ptrace", ctypes.c_long(16), ctypes.c_long(parent), None, None),
        "limit the parent": _libc_call("prlimit64", parent, 7, bytes(16), None),
        "slow the parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
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


OPERATIONS = child.OPERATIONS
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
    answer=answer,
    surroundings=surroundings,
    unreadable_disk=unreadable_disk,
)

if __name__ == "__main__":
    child.main()
