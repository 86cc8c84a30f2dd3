"""Processes: started on a core of their own, accounted with all their children, stopped by their number."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
CORES = sorted(os.sched_getaffinity(0))
SERVER = {CORES[0]}
CLIENT = {CORES[-1]}
FIRST = 0
"""Niceness of servers and clients alike; below 0 they go before what else runs here, where that is allowed."""


def settle(cores: set[int]) -> None:
    """The current process belongs to the measurement."""
    os.sched_setaffinity(0, cores)
    if FIRST:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, FIRST)
        with suppress(OSError):  # where the kernel shares time among sessions first, this is what counts
            Path("/proc/self/autogroup").write_text(str(FIRST))


def family(pid: int) -> list[int]:
    """A process and all below it that live now."""
    found = [pid]
    for parent in found:  # grows while it is walked
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in file.read_text().split()]
            except OSError:
                continue
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a family, those who have ended included."""
    ticks = 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS


def at_rest(pid: int, patience: float = 30.0) -> float:
    """`cpu_seconds` once a family has done all that is left to do, or has no end."""
    used, deadline = cpu_seconds(pid), time.monotonic() + patience
    while True:
        time.sleep(0.3)
        before, used = used, cpu_seconds(pid)
        if used - before <= 0.01 or time.monotonic() > deadline:  # a clock's tick: listeners hear a heartbeat
            return used


def memory(pid: int, what: str = "VmRSS", *, alone: bool = False) -> float:
    """MiB of a family, or of one process: ``VmRSS`` now, ``VmHWM`` at most since `forget_peak`."""
    total = 0
    for member in [pid] if alone else family(pid):
        try:
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith(what + ":"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


def forget_peak(pid: int) -> None:
    """From now on ``VmHWM`` is about what comes."""
    for member in family(pid):
        try:
            Path(f"/proc/{member}/clear_refs").write_text("5")
        except OSError:
            continue


def core_seconds() -> tuple[float, float]:
    """Seconds that the server's core worked, and those the host took from it."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name == f"cpu{CORES[0]}":
            user, nice, system, _, _, irq, soft, steal = (int(n) for n in numbers[:8])
            return (user + nice + system + irq + soft) / TICKS, steal / TICKS
    return 0.0, 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server on a core of its own."""

    def __init__(self, command: Sequence[str], port: int, *, env: Mapping[str, str], cwd: str, log: Path) -> None:
        self.port = port
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # so that its children can be ended with it, and nobody else
                preexec_fn=lambda: settle(SERVER),
            )
        self.pid = self._process.pid
        try:
            self._await(log)
        except BaseException:
            self.stop()
            raise

    def _await(self, log: Path) -> None:
        deadline = time.monotonic() + 60
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"it ended with status {self._process.returncode}; see {log}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"it does not listen; see {log}") from None
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class Meter:
    """What a server spends while a block runs.

    Attributes:
        wall: Seconds.
        cpu: Seconds of the server's family.
        before: `cpu_seconds` at the beginning.
        peak: MiB of the server's family at most.
        lost: Share of the server's core that others took, the host included.
    """

    wall = cpu = before = peak = lost = 0.0

    def __init__(self, server: Server) -> None:
        self._pid = server.pid

    def __enter__(self) -> Self:
        forget_peak(self._pid)
        self.before, self._core, self._wall = cpu_seconds(self._pid), core_seconds(), time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.wall = time.perf_counter() - self._wall
        self.cpu = cpu_seconds(self._pid) - self.before
        worked, stolen = (now - then for now, then in zip(core_seconds(), self._core, strict=True))
        self.lost = max(0.0, worked - self.cpu + stolen) / self.wall
        self.peak = memory(self._pid, "VmHWM")
