"""Journeys through the page: a server that can be killed, a line that can be held and cut, visitors who complain."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field

from stagedoor.testing import media

from .browsing import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page

__all__ = ["CUT", "SIZES", "Served", "Wire", "chip", "drop", "film", "live", "row", "visiting", "wire_to"]

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
MIB = 1 << 20
CUT = (r"net::ERR_", r"WebSocket connection to .* failed")
"""What a browser itself writes into its console when there is no server."""


def film(size: int = 0, *, title: str = "", seed: int = 0) -> bytes:
    """A video of a few seconds with as many bytes of padding, which players skip, as are wanted; a file each seed."""
    data = media.video(seconds=3, title=title)
    room = max(size - len(data), 16)
    return data + struct.pack(">I4sQ", room, b"free", seed) + bytes(room - 16)


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────


@define
class Served:
    """``stagedoor serve`` as a process of its own."""

    root: Path
    port: int = 0
    keys: str = ""
    _process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def music(self) -> Path:
        return self.root / "Music"

    def start(self) -> None:
        """Start it, at the same address as before."""
        command = [sys.executable, "-m", "stagedoor", "serve", "--port", str(self.port), "--durability", "process"]
        command += ["--data", str(self.root / "uploads"), "--music", str(self.music), "--ask", "64KiB"]
        environment = {**os.environ, "STAGEDOOR_KEYS": self.keys}
        with (self.root / "errors").open("a") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, cwd=self.root, text=True, env=environment
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:  # it says so when it listens
            if found := re.match(r"Serving http://\S+?:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError(f"the server did not start: {(self.root / 'errors').read_text()}")

    def kill(self) -> None:
        """As a power cut does it to a process: it cannot even say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        if self._process is not None:
            self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


# ── the line ──────────────────────────────────────────────────────────────────────────────────────────────────


@define
class Wire:
    """A line to a server, whose own port stays.

    What clients send over WebSockets stops after so many bytes (``hold``), so that a test finds an upload in the
    middle, however fast the machine is. What servers say, and plain HTTP, goes on.
    """

    server: int
    sent: int = 0
    """Bytes of WebSockets that went to the server."""
    _most: float = float("inf")
    _up: bool = True
    _open: set[socket.socket] = field(factory=set)
    _turn: threading.Condition = field(factory=threading.Condition)
    _listener: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def hold(self, more: int) -> None:
        """Let so many bytes more go through, then none."""
        with self._turn:
            self._most = self.sent + more
            self._turn.notify_all()

    def release(self) -> None:
        """Let everything through."""
        with self._turn:
            self._most = float("inf")
            self._turn.notify_all()

    def cut(self) -> None:
        """Pull the plug: what is open breaks, and nothing can be opened."""
        with self._turn:
            self._up = False
            self._turn.notify_all()
            broken = tuple(self._open)
            self._open.clear()
        for one in broken:
            _reset(one)

    def mend(self) -> None:
        """Put it in again."""
        with self._turn:
            self._up = True

    def serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if not self._up:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self.server))
            except OSError:
                _reset(client)
                continue
            with self._turn:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(source, sink, source is client), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _forward(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        is_socket = None
        try:
            while data := source.recv(16_384):
                if is_socket is None:
                    is_socket = b"upgrade: websocket" in data.lower()
                elif is_socket and counts:
                    self._wait(len(data), source)
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):  # a browser and our server close both ways at once
            self._open.discard(one)
            _reset(one)

    def _wait(self, size: int, source: socket.socket) -> None:
        with self._turn:
            while self.sent + size > self._most and source in self._open:
                self._turn.wait()
            if source not in self._open:
                raise ConnectionResetError
            self.sent += size


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A line for the length of a ``with`` block."""
    wire = Wire(port)
    threading.Thread(target=wire.serve, name="wire", daemon=True).start()
    try:
        yield wire
    finally:
        wire.close()


# ── visitors ──────────────────────────────────────────────────────────────────────────────────────────────────

_POLICE = """addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
  console.error(`against the policy: ${violatedDirective} ${blockedURI}`));"""
_NO_PICKER = "delete window.showOpenFilePicker; delete window.showDirectoryPicker;"


@contextmanager
def visiting(
    browser: Browser, *, size: str = "desktop", expected: Sequence[str] = (), picker: bool = True, **options: Any
) -> Iterator[BrowserContext]:
    """Somebody with a browser, who fails the test about every error in its console, and everything against the policy.

    Args:
        browser: It.
        size: Of the window.
        expected: Patterns of errors that the browser writes by itself in this test.
        picker: Without, files are chosen through a field, as in browsers that have nothing better.
        options: Of the context.
    """
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(PATIENCE * 1000)
    context.add_init_script(_POLICE if picker else _POLICE + _NO_PICKER)
    said: list[str] = []
    context.on("console", lambda message: said.append(_line(message)) if message.type == "error" else None)
    context.on("weberror", lambda error: said.append(f"uncaught: {getattr(error.error, 'stack', error.error)}"))
    try:
        try:
            yield context
        except BaseException as error:
            error.add_note(f"The browser's console had {said}")
            for page in context.pages:
                error.add_note(f"A tab showed: {_shown(page)}")
            raise
        wrong = [text for text in said if not any(re.search(pattern, text) for pattern in expected)]
        assert not wrong, f"the browser's console has {wrong}"
    finally:
        context.close()


def _shown(page: Page) -> str:
    with suppress(Exception):  # whatever is wrong with the tab, what it is about was said before
        return str(page.evaluate("document.body.innerText.replace(/\\s+/g, ' ').slice(0, 1000)"))
    return "nothing"


def _line(message: ConsoleMessage) -> str:
    return f"{message.text} ({message.location.get('url', '')})"


def live(context: BrowserContext, url: str) -> Page:
    """A tab that is connected."""
    page = context.new_page()
    page.on("filechooser", lambda _: None)  # from the start: whoever waits for one later might be too late
    page.goto(url)
    page.locator("#connection", has_text="Live").wait_for()
    return page


def row(page: Page, name: str) -> Locator:
    """An upload on the board."""
    return page.locator("upload-board .row", has_text=name)


def chip(page: Page, text: str) -> Locator:
    """The state on a card."""
    return page.locator(".card-head .chip", has_text=text)


def drop(page: Page, *paths: Path) -> None:
    """Drops files and folders on the page, as a file manager does it: with handles that can be kept.

    Whether a drop is wanted the browser learns from the answer to the last "over", which comes when it comes; a hand
    moves on and asks again all the time. So this one moves until the page has had its drop.
    """
    session = page.context.new_cdp_session(page)
    data: Mapping[str, Any] = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}

    def move(kind: str) -> None:
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 400, "data": data})
        page.evaluate("() => new Promise((seen) => requestAnimationFrame(() => setTimeout(seen)))")

    had = "() => { window.had = 0; addEventListener('drop', () => { window.had += 1; }, { once: true }); }"
    page.evaluate(had)
    for _ in range(20):
        for kind in ("dragEnter", "dragOver", "dragOver", "drop"):
            move(kind)
        if page.evaluate("() => window.had"):
            break
    else:
        raise AssertionError("the page takes no drop")
    session.detach()
