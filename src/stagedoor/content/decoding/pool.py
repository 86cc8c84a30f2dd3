"""Decoders in child processes: strangers' bytes are never decoded in this one.

A `Decoder` keeps a bounded pool of processes that run `stagedoor.content.decoding.child`. They are spawned and never
forked, nice, locked in (see `Sandbox`), serve several requests each, and are replaced after a number of requests
and after any failure. The input goes over as a file descriptor, so a child needs no path and can open none.

A child is taken for hostile from its first request on: everything that it says is bounded, parsed and checked
here, and sentences for people are made here from codes. PyAV and Pillow are never imported in this process.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import orjson
from attrs import frozen

from ...errors import ConfigurationError, ContentRejected, StorageError
from ...ports import Source
from .sentences import SENTENCES

__all__ = ["Answer", "Decoder", "DecoderLimits", "Sandbox"]

_log = logging.getLogger(__name__)

_PROGRAM: Final = Path(__file__).parent / "child" / "__main__.py"
_MAX_DOCUMENT: Final = 1 << 22
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MAX_FRAME: Final = 1 << 20
_FRAME: Final = struct.Struct(">cI")
_PACE: Final = 1 << 20
"""Bytes a second that a stream has to bring, or to pass over, on top of the time that a request has."""


@frozen(kw_only=True)
class DecoderLimits:
    """What a child process may use, and what content may ask for.

    Attributes:
        memory: Address space of a child, in bytes. Measured with H.264: 180 MB for 720p, 410 MB for 2160p,
            710 MB for 4320p.
        seconds: Wall-clock time for a request; waiting for a free child does not count.
        cpu_seconds: Processor time for a request.
        start_seconds: Wall-clock time until a new child is ready.
        requests: A child is replaced after so many. Measured: a start takes 0.3 s, as long as forty songs; memory after
            500 mixed requests was what it was after 20.
        max_side: Largest width or height of a picture, in pixels, before anything is decoded.
        max_pixels: Largest width × height.
        picture_side: Frames with a longer side are made smaller, in pixels.
        answer: Most that a child may answer, in bytes.
    """

    memory: int = 1 << 30
    seconds: float = 120.0
    cpu_seconds: float = 90.0
    start_seconds: float = 60.0
    requests: int = 200
    max_side: int = 8192
    max_pixels: int = 40_000_000
    picture_side: int = 3840
    answer: int = 64 << 20


@frozen(kw_only=True)
class Sandbox:
    """What holds a child in. Measured by the child itself before it saw any input.

    Attributes:
        memory: Limit of its address space in bytes. With it always: processor time, no writing to files
            (``RLIMIT_FSIZE`` 0), 16 descriptors, no core dumps, no new processes.
        landlock: ABI of the kernel's Landlock, 0 for none. From 1 on no file can be opened (3: truncated),
            from 4 on TCP is denied, from 6 on signals and abstract sockets of others are out of reach.
        seccomp: Sockets, processes, signals, tracing, attributes of files and more are refused.
        no_capabilities: What root may do was given up.
        no_new_privileges: ``PR_SET_NO_NEW_PRIVS``.
        undumpable: Processes of the same user cannot look into it.
    """

    memory: int
    landlock: int
    seccomp: bool
    no_capabilities: bool
    no_new_privileges: bool
    undumpable: bool


@frozen(kw_only=True)
class Answer:
    """What a child said. Bounded, but hostile: check each value before use.

    Attributes:
        document: A JSON object.
        blobs: Bytes.
    """

    document: Mapping[str, Any]
    blobs: Sequence[bytes]


# ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Gone(Exception):
    """The child closed the connection."""


class _Late(Exception):
    """The child did not answer in time."""


class _Nonsense(Exception):
    """The child does not keep to the protocol."""


class _Spawner:
    """The thread that starts children.

    ``PR_SET_PDEATHSIG`` kills a child when the *thread* that started it ends (prctl(2)), and the threads that ask for
    decoding come and go. So one thread starts them all, and ends with the decoder or with the process.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, args=(self._orders,), name="stagedoor-spawner", daemon=True)
        self._thread.start()
        # For a decoder that is dropped and not closed: the thread knows the queue, not this object.
        weakref.finalize(self, self._orders.put, None)

    @staticmethod
    def _run(orders: queue.SimpleQueue[Any]) -> None:
        while (order := orders.get()) is not None:
            start, future = order
            try:
                future.set_result(start())
            except OSError as error:
                future.set_exception(error)

    def start(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        future: Future[subprocess.Popen[bytes]] = Future()
        self._orders.put((start, future))
        return future.result()

    def close(self) -> None:
        self._orders.put(None)
        self._thread.join()


class _Child:
    """A child process and the connection to it. Used by one thread at a time, but `kill` by any."""

    def __init__(self, program: Path, limits: DecoderLimits, spawner: _Spawner) -> None:
        self.served = 0
        self.good = False
        self._limit = limits.answer
        ours, theirs = socket.socketpair()
        # What it says before it is locked in; afterwards it cannot write any more.
        self._errors = os.memfd_create("stagedoor-decoder-errors")
        command = [sys.executable, "-I", "-S", "-B", str(program), str(theirs.fileno()), str(os.getpid())]
        environment = {"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"}
        if "LD_LIBRARY_PATH" in os.environ:  # Python itself may need it
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        self._socket = ours
        try:
            with theirs:
                self._process = spawner.start(
                    lambda: subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=self._errors,
                        env=environment,
                        cwd="/",
                        pass_fds=(theirs.fileno(),),
                        # The terminal's Ctrl-C is for the program, which then closes the decoder.
                        start_new_session=True,
                    )
                )
        except OSError as error:
            self._socket.close()
            os.close(self._errors)
            raise _not_started(f"{error}") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def cpu_seconds(self) -> float | None:
        """Processor time used so far, as the kernel counts it; ``None`` when it is gone."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / _TICKS if fields[0] != b"Z" else None

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def greet(self, limits: DecoderLimits) -> Sandbox:
        """Configure a new child and wait until it is locked in.

        Raises:
            ConfigurationError: ``media_missing``.
            StorageError: ``decoder_unavailable``.
        """
        configuration = {
            "path": [entry for entry in sys.path if os.path.isabs(entry)],
            "memory": limits.memory,
            "cpu_seconds": limits.cpu_seconds,
            "requests": limits.requests,
            "max_side": limits.max_side,
            "max_pixels": limits.max_pixels,
            "picture_side": limits.picture_side,
        }
        try:
            answer = self.ask(configuration, None, limits.start_seconds).document
            if "missing" in answer:
                raise ConfigurationError(
                    f"Media libraries are missing ({answer['missing']}). Install them: pip install 'stagedoor[media]'.",
                    code="media_missing",
                )
            return Sandbox(**answer["ready"])
        except (BrokenPipeError, _Gone, _Late, _Nonsense, KeyError, TypeError) as error:
            said = os.pread(self._errors, 1 << 16, 0).decode("utf-8", "replace").strip()
            raise _not_started(said or _why(error, limits)) from error

    def send(self, request: Mapping[str, Any], fd: int | None, seconds: float) -> None:
        """Send a request.

        Raises:
            BrokenPipeError: The child was gone before it had the request.
            _Late: It did not take it in time.
        """
        raw = orjson.dumps(request)
        message = len(raw).to_bytes(4, "big") + raw
        self._socket.settimeout(seconds)
        try:
            sent = socket.send_fds(self._socket, [message], [] if fd is None else [fd])
            if sent < len(message):  # else it may have the request, and be dead of it, already
                self._socket.sendall(message[sent:])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise BrokenPipeError from error
        except TimeoutError:
            raise _Late from None

    def frame(self, seconds: float) -> tuple[Mapping[str, Any] | bytes, bool]:
        """The next bit of a stream, and whether it is the last.

        Raises:
            _Gone, _Late, _Nonsense: As `ask`.
        """
        deadline = time.monotonic() + seconds
        kind, length = _FRAME.unpack(self._read(_FRAME.size, deadline))
        if length > _MAX_FRAME or kind not in (b"B", b"D", b"E"):
            raise _Nonsense(f"a frame {kind!r} of {length} bytes")
        raw = self._read(length, deadline)
        if kind == b"B":
            return raw, False
        try:
            document = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _Nonsense("no JSON in a frame") from error
        if not isinstance(document, dict):
            raise _Nonsense("no JSON object in a frame")
        return document, kind == b"E"

    def ask(self, request: Mapping[str, Any], fd: int | None, seconds: float) -> Answer:
        """Send a request and wait for the answer.

        Raises:
            BrokenPipeError: The child was gone before it had the request.
            _Gone: It went away after that.
            _Late: It did not answer in time.
            _Nonsense: It did not keep to the protocol.
        """
        deadline = time.monotonic() + seconds
        self.send(request, fd, seconds)
        length = int.from_bytes(self._read(4, deadline), "big")
        if length > _MAX_DOCUMENT:
            raise _Nonsense(f"a document of {length} bytes")
        try:
            document = orjson.loads(self._read(length, deadline))
            sizes = document.pop("blobs")
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise _Nonsense("no JSON object with blobs") from error
        if (
            not isinstance(sizes, list)
            or not all(type(size) is int and size >= 0 for size in sizes)
            or len(sizes) > 1000
            or sum(sizes) > self._limit
        ):
            raise _Nonsense("blobs beyond the limit")
        return Answer(document=document, blobs=[self._read(size, deadline) for size in sizes])

    def _read(self, count: int, deadline: float) -> bytes:
        buffer = bytearray(count)
        view = memoryview(buffer)
        while view:
            rest = deadline - time.monotonic()
            if rest <= 0:
                raise _Late
            self._socket.settimeout(rest)
            try:
                received = self._socket.recv_into(view)
            except TimeoutError:
                raise _Late from None
            except ConnectionResetError as error:
                raise _Gone from error
            if not received:
                raise _Gone
            view = view[received:]
        return bytes(buffer)

    def kill(self) -> None:
        """End the process, at once, and wait until it is gone. Another thread's `ask` ends with `_Gone`."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of the descriptors; only for the one who uses the child."""
        self.kill()
        self._socket.close()
        os.close(self._errors)


def _why(error: Exception, limits: DecoderLimits) -> str:
    """A sentence for a child that said nothing itself. Whether the request still reached it is chance."""
    match error:
        case BrokenPipeError() | _Gone():
            return "it ended without a word"
        case _Late():
            return f"it was not ready within {limits.start_seconds:g} seconds"
        case _:
            return f"it does not keep to the protocol ({error})"


def _not_started(reason: str) -> StorageError:
    return StorageError(f"A process for decoding could not be had: {reason[-500:]}", code="decoder_unavailable")


# ── the pool ──────────────────────────────────────────────────────────────────────────────────────────────────


class Decoder:
    """A bounded pool of child processes that decode. Safe for threads; made after a fork, not before.

    Nothing is started before the first request. Close it, or use it as a context manager; when the program dies,
    the children die with it.

    Args:
        processes: The most children at a time; more requests wait.
        limits: What they may use.
        program: The child's program, if not ours.
    """

    def __init__(self, *, processes: int = 2, limits: DecoderLimits | None = None, program: Path | None = None) -> None:
        if processes < 1:
            raise ConfigurationError("A decoder needs at least one process.")
        self.limits = limits or DecoderLimits()
        self._program = program or _PROGRAM
        self._processes = processes
        self._condition = threading.Condition()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        # Whoever reads a stream asks for other things meanwhile; with places in common they could wait in a circle.
        self._slots = {"runs": processes, "streams": processes}
        self._closed = False
        self._spawner: _Spawner | None = None
        self._sandbox: Sandbox | None = None
        self._owner = os.getpid()
        self._thread = threading.local()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all children, also those at work: their requests end with a `StorageError`. Idempotent."""
        if os.getpid() != self._owner:
            return  # after a fork: they are somebody else's
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            for child in (*self._idle, *self._busy):
                child.kill()
            for child in self._idle:
                child.close()
            self._idle.clear()
            while any(free < self._processes for free in self._slots.values()):
                self._condition.wait()
            spawner, self._spawner = self._spawner, None
        if spawner is not None:
            spawner.close()

    def sandbox(self) -> Sandbox:
        """What holds the children in; starts one if none was started yet.

        Raises:
            ConfigurationError: ``media_missing``.
            StorageError: No child can be started.
        """
        with self._slot("runs") as child:
            child.good = True
        assert self._sandbox is not None
        return self._sandbox

    def pids(self) -> tuple[int, ...]:
        """Process ids of the children."""
        with self._condition:
            return tuple(child.pid for child in (*self._idle, *self._busy))

    def run(self, operation: str, source: Source, arguments: Mapping[str, Any] | None = None) -> Answer:
        """Have a child do one of its operations. The seam for content types; what it answers is hostile.

        Args:
            operation: Name in the child's table.
            source: Opens the input.
            arguments: Plain JSON.

        Raises:
            ContentRejected: The child says so; or ``decoder_timeout``, ``decoder_memory``, ``decoder_crashed``.
            StorageError: The input cannot be read, no child can be started, or the decoder was closed.
            ConfigurationError: ``media_missing``.
        """
        with source() as stream, _descriptor(stream) as (fd, size), self._slot("runs") as child:
            request = {"operation": operation, "size": size, "arguments": dict(arguments or {})}
            child.served += 1
            with self._metered(child):
                with self._judged(child, operation):
                    answer = child.ask(request, fd, self.limits.seconds)
                self._check(child, operation, answer.document)
            child.good = True
            return Answer(document=answer.document["answer"], blobs=answer.blobs)

    @contextlib.contextmanager
    def stream(
        self, operation: str, source: Source, arguments: Mapping[str, Any] | None = None
    ) -> Iterator[Iterator[Mapping[str, Any] | bytes]]:
        """Have a child do an operation that answers bit by bit: documents, and bytes that belong to the last one.

        The child waits while nobody asks for the next bit. It has a place of its own in the pool: other requests may
        be made meanwhile, also by the one who reads; but no second stream inside the first, which could wait for
        itself. The child has the time of a request in all, and a second more for each MiB. Whoever leaves before the
        end has the child ended. `close` waits until the readers have left, so it is for another thread.

        Args:
            operation: Name in the child's table of streams.
            source: Opens the input.
            arguments: Plain JSON.

        Raises:
            ContentRejected, StorageError, ConfigurationError: As `run`, here or while reading.
        """
        with source() as file, _descriptor(file) as (fd, size), self._slot("streams") as child:
            request = {"operation": operation, "size": size, "arguments": dict(arguments or {})}
            child.served += 1
            with self._judged(child, operation):
                child.send(request, fd, self.limits.seconds)
            frames = self._frames(child, operation)
            try:
                yield frames
            finally:
                frames.close()  # the child may be another's from here on

    def _frames(self, child: _Child, operation: str) -> Generator[Mapping[str, Any] | bytes, None, None]:
        left = self.limits.seconds
        while True:
            asked = time.monotonic()
            with self._judged(child, operation):
                frame, last = child.frame(min(left, self.limits.seconds))
            left -= time.monotonic() - asked
            if last:
                assert not isinstance(frame, bytes)
                self._check(child, operation, frame)
                child.good = True
                return
            passed = len(frame) if isinstance(frame, bytes) else frame.get("passed", 0)
            if type(passed) is int:  # whether it can be true, the reader knows
                left += max(0, passed) / _PACE
            yield frame

    @contextlib.contextmanager
    def _judged(self, child: _Child, operation: str) -> Iterator[None]:
        """What a child's end says about the content."""
        try:
            yield
        except BrokenPipeError:
            # It never had the input, so the input is not to blame.
            raise self._stopped() if self._closed else _not_started("it was killed while it waited") from None
        except _Late:
            raise self._rejected("decoder_timeout") from None
        except _Nonsense as error:
            _log.warning("A decoder answered nonsense to %s: %s", operation, error)
            raise self._rejected("decoder_crashed") from None
        except _Gone:
            child.kill()
            over_time = child.returncode in (-signal.SIGXCPU, -signal.SIGPROF)
            _log.warning("A decoder ended with %s during %s", child.returncode, operation)
            raise self._rejected("decoder_timeout" if over_time else "decoder_crashed") from None

    def spent(self) -> float:
        """Seconds of processor time that children have used for `run` of the calling thread so far."""
        return getattr(self._thread, "spent", 0.0)

    @contextlib.contextmanager
    def _metered(self, child: _Child) -> Iterator[None]:
        began, before = time.monotonic(), child.cpu_seconds()
        try:
            yield
        finally:
            after = child.cpu_seconds()
            # Of one that is gone nobody can say; it was not idle.
            used = time.monotonic() - began if after is None or before is None else after - before
            self._thread.spent = self.spent() + used

    def _check(self, child: _Child, operation: str, document: Mapping[str, Any]) -> None:
        if "storage" in document:
            raise StorageError("The uploaded file could not be read.", code="storage_error")
        if "rejected" in document:
            # An orderly refusal is an answer like any other; a new process for each would be a weapon.
            code = document["rejected"]
            child.good = isinstance(code, str) and code in SENTENCES and not code.startswith("decoder_")
            raise self._rejected(document["rejected"], document.get("numbers"))
        if not isinstance(document.get("answer"), dict):
            _log.warning("A decoder failed at %s: %r", operation, str(document.get("failed"))[:1000])
            raise self._rejected("decoder_crashed")

    def _rejected(self, code: object, numbers: object = None) -> Exception:
        if self._closed:
            return self._stopped()
        known = str(code) if str(code) in SENTENCES else "decoder_crashed"
        safe = defaultdict[str, int](int)
        if isinstance(numbers, dict):
            safe.update({key: value for key, value in numbers.items() if type(value) is int})
        return ContentRejected(SENTENCES[known].format_map(safe), code=known)

    def nonsense(self) -> Exception:
        """The error for an answer that keeps to the protocol and cannot be true."""
        return self._rejected("decoder_crashed")

    @staticmethod
    def _stopped() -> StorageError:
        return StorageError("The decoder was closed. Start the upload manager again.", code="decoder_closed")

    @contextlib.contextmanager
    def _slot(self, kind: str) -> Iterator[_Child]:
        """A child for the time of a request. It is ended afterwards, unless it was found to be `good`."""
        if os.getpid() != self._owner:
            raise ConfigurationError("This decoder belongs to the process that was forked. Make one after the fork.")
        with self._condition:
            while not self._slots[kind] and not self._closed:
                self._condition.wait()
            if self._closed:
                raise self._stopped()
            self._slots[kind] -= 1
            self._spawner = self._spawner or _Spawner()
            spawner = self._spawner
            child = self._take_idle()
        try:
            if child is None:
                child = _Child(self._program, self.limits, spawner)
                with self._condition:
                    self._busy.add(child)
                    closed = self._closed
                if closed:  # it did not know of this child
                    child.kill()
                try:
                    sandbox = child.greet(self.limits)
                except StorageError as error:
                    raise self._stopped() if self._closed else error from None
                if self._sandbox is None and not (sandbox.landlock and sandbox.seccomp):
                    _log.warning("Decoders run with a part of their sandbox only: %s", sandbox)
                self._sandbox = sandbox
            yield child
        finally:
            with self._condition:
                if child is not None:
                    self._busy.discard(child)
                    if child.good and child.served < self.limits.requests and not self._closed:
                        self._idle.append(child)
                    else:
                        child.close()
                self._slots[kind] += 1
                self._condition.notify_all()

    def _take_idle(self) -> _Child | None:
        while self._idle:
            child = self._idle.pop()
            if child.alive:
                child.good = False
                self._busy.add(child)
                return child
            child.close()  # killed by somebody else meanwhile
        return None


@contextlib.contextmanager
def _descriptor(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """A read-only descriptor of an input and its size in bytes; an input without one is copied to memory."""
    size = stream.seek(0, os.SEEK_END)
    fd = None
    with contextlib.suppress(OSError, AttributeError):  # io.UnsupportedOperation is an OSError
        fd = stream.fileno()
    if fd is not None and _is_readonly_file(fd):
        yield fd, size
        return
    spool = os.memfd_create("stagedoor-input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        stream.seek(0)
        while block := stream.read(1 << 20):
            view = memoryview(block)
            while view:
                view = view[os.write(spool, view) :]
        # The child gets this very descriptor, so what it may not do has to be the file's own rule.
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(spool, fcntl.F_ADD_SEALS, seals)
        yield spool, size
    finally:
        os.close(spool)


def _is_readonly_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
