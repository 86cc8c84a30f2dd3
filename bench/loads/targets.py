"""The servers: ours, ours without some of it, and others. How each is started, and what it speaks."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .machine import Server, free_port
from .wires import Http, Put, Sender, Tus, TusAtOnce, Up2k

HERE = Path(__file__).parent.parent
CACHE = HERE.parent / ".cache" / "bench"

Command = Callable[[int, Path], tuple[list[str], dict[str, str], Path]]
"""Command, environment and working directory, for a port and a store."""


class Target:
    """A server to measure.

    Args:
        name: For people.
        command: How it is started.
        sender: What it speaks.
        path: Where uploads are made.
        needs: What has to be there; else the target is left out.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        sender: Callable[[int, str], Sender] = Tus,
        *,
        path: str = "/files/",
        needs: Path | None = None,
    ) -> None:
        self.name, self.path, self.make = name, path, sender
        self._command, self._needs = command, needs

    @property
    def missing(self) -> str | None:
        """Why it cannot be measured."""
        return f"{self._needs} is not there: make peers" if self._needs and not self._needs.exists() else None

    def sender(self, port: int) -> Sender:
        return self.make(port, self.path)

    @contextmanager
    def running(self, store: Path) -> Iterator[Server]:
        """Started on a store, and ended."""
        store.mkdir(parents=True, exist_ok=True)
        port = free_port()
        command, env, cwd = self._command(port, store)
        with Server(command, port, env=env, cwd=str(cwd), log=CACHE / f"{self.name}.log") as server:
            deadline = time.monotonic() + 30
            while True:  # some listen before they answer
                try:
                    http = Http(port)
                    http.ask("OPTIONS", self.path)
                    http.close()
                    break
                except (OSError, RuntimeError):
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield server


def ours(*options: str) -> Command:
    def command(port: int, store: Path) -> tuple[list[str], dict[str, str], Path]:
        words = [sys.executable, "-m", "stagedoor", "serve", "--port", str(port), "--data", str(store / "uploads")]
        return [*words, "--music", str(store / "Music"), *options], {}, store

    return command


def _sink(*how: str) -> Command:
    return lambda port, store: ([sys.executable, str(HERE / "sink.py"), str(port), str(store), *how], {}, store)


def _uvicorn(environment: str, module: str) -> Command:
    def command(port: int, store: Path) -> tuple[list[str], dict[str, str], Path]:
        words = [str(CACHE / environment / "bin" / "uvicorn"), f"{module}:app", "--app-dir", str(HERE / "peers")]
        words += ["--port", str(port), "--no-access-log", "--log-level", "warning"]
        return words, {"STORE": str(store)}, store

    return command


def _copyparty(port: int, store: Path) -> tuple[list[str], dict[str, str], Path]:
    words = [str(CACHE / "copyparty" / "bin" / "python"), "-m", "copyparty", "-q", "-nid", "-nih", "--no-crt"]
    words += ["-i", "127.0.0.1", "-p", str(port), "-v", f"{store}::rwmd", "-e2d"]
    home = str(store) + ".home"
    return words, {"XDG_CONFIG_HOME": home, "HOME": home}, store


def _node(port: int, store: Path) -> tuple[list[str], dict[str, str], Path]:
    node = shutil.which("node") or "node"
    return [node, str(HERE / "peers" / "tusnode.mjs")], {"STORE": str(store), "PORT": str(port)}, CACHE / "node"


_ALL = (
    Target("stagedoor", ours("--durability", "process")),
    Target("unmanaged", _sink("unmanaged", "process")),
    Target("at-once", _sink("unmanaged", "process"), TusAtOnce),
    Target("power", ours("--durability", "power")),
    Target("sink", _sink(), Put, path="/"),
    Target("tuspyserver", _uvicorn("tuspyserver", "tuspy"), needs=CACHE / "tuspyserver"),
    Target("asgi-tus", _uvicorn("asgi-tus", "asgitus"), needs=CACHE / "asgi-tus"),
    Target("tusnode", _node, needs=CACHE / "node" / "node_modules", path="/files"),
    Target("copyparty", _copyparty, Up2k, path="/", needs=CACHE / "copyparty"),
    Target("copyparty-put", _copyparty, Put, path="/", needs=CACHE / "copyparty"),
)
TARGETS: Mapping[str, Target] = {target.name: target for target in _ALL}
PEERS = ("tuspyserver", "asgi-tus", "tusnode", "copyparty")
