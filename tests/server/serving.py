"""A real server in a thread of its own, and requests as a stranger would write them."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from attrs import frozen

from stagedoor.engine import Uploads
from stagedoor.errors import UploadError
from stagedoor.protocols.problems import Wire, problem
from stagedoor.server.app import Application
from stagedoor.server.config import ServerConfig
from stagedoor.server.core import Core
from stagedoor.server.http import Disconnected, Receive, Request, Scope, Send, respond
from stagedoor.server.opening import open_parts
from stagedoor.server.resumable import Resumable
from stagedoor.server.tus import Tus
from stagedoor.settings import Settings
from stagedoor.worker import Worker

if TYPE_CHECKING:
    from conftest import House

PATIENCE = 20.0
"""Seconds after which a test that hangs fails."""

App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Wires:
    """The HTTP wires for uploads alone, behind the gate; the life of the core is the lifespan's."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.routes: dict[str, tuple[Wire, Callable[[Request, Send], Awaitable[None]]]] = {
            "/files": (Wire.TUS, Tus(core)),
            "/uploads": (Wire.RESUMABLE, Resumable(core)),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self.loop = asyncio.get_running_loop()
            await self.core.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.core.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
        request = Request.of(scope, receive)
        wire, handler = next(route for prefix, route in self.routes.items() if request.path.startswith(prefix))
        try:
            self.core.gate.check(request.headers, secure=request.secure)
            self.core.gate.authorize(request.headers)
            await handler(request, send)
        except Disconnected:
            pass
        except UploadError as error:
            await respond(send, problem(error, wire))


class Whole(Application):
    """The application, and the loop that it runs on."""

    loop: asyncio.AbstractEventLoop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.loop = asyncio.get_running_loop()
        await super().__call__(scope, receive, send)


def core_of(uploads: Uploads, *, parts: bool = True, worker: bool = False, **config: Any) -> Core:
    """A core around somebody's engine, which stays open when the server stops; not so the parts' engine."""
    settings = ServerConfig(**({"durability": "none"} | config))
    return Core(
        uploads,
        settings,
        parts=open_parts(settings, uploads.settings, clock=uploads.clock) if parts else None,
        worker=Worker(uploads) if worker else None,
        owned=False,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def main_loop(self) -> None:
        """Wait to be told to stop, and do not look ten times a second."""
        await self.on_tick(0)
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.ready.set()
        await self._stop.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)


@frozen
class Reply:
    """An answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __getitem__(self, name: str) -> str:
        return self.headers[name.lower()]

    def __contains__(self, name: str) -> bool:
        return name.lower() in self.headers


@frozen
class Served:
    """A server that runs."""

    app: App
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __call__(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None, **more: Any
    ) -> Reply:
        """One request over a connection of its own; a body that is an iterator goes in chunks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}), **more)
            reply = connection.getresponse()
            return Reply(reply.status, {n.lower(): v for n, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def raw(self, text: str, body: bytes = b"") -> socket.socket:
        """A connection on which a request is under way; ``text`` has its lines, without the empty one at the end."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.sendall("\r\n".join([*text.strip().splitlines(), "", ""]).encode() + body)
        return connection


def answer(connection: socket.socket) -> bytes:
    """The head of what comes back."""
    got = b""
    while b"\r\n\r\n" not in got and (more := connection.recv(65_536)):
        got += more
    return got


@contextmanager
def serve(app: App, **options: Any) -> Iterator[Served]:
    """Run a server on a free port of the loopback interface."""
    options.setdefault("loop", "uvloop")
    config = uvicorn.Config(app, port=0, log_level="warning", http="httptools", lifespan="on", **options)
    server = _Server(config)
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    thread.start()
    assert server.ready.wait(PATIENCE), "the server did not start"
    try:
        yield Served(app, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server did not stop"


class Arrival:
    """Tells when so many bytes of a file have been written."""

    def __init__(self, house: House, size: int) -> None:
        self._size, self._there = size, threading.Event()
        house.after["bytes.append"] = self

    def __call__(self, key: str, offset: int, data: bytes) -> None:
        if offset + len(data) >= self._size:
            self._there.set()

    def wait(self) -> None:
        """Return when they have."""
        assert self._there.wait(PATIENCE), "the bytes did not come"


class Watch:
    """What `Core` reads the time from, so that a body is too slow when a test says so, and not when the machine is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now, self._runs = 0.0, False
        monkeypatch.setattr("stagedoor.server.core.time", self)

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        """Stands still, or has moved on by a second whenever it is looked at."""
        self._now += self._runs
        return self._now

    def run(self) -> None:
        """Let time pass from now on."""
        self._runs = True


@contextmanager
def standing(house: House, *, worker: bool = False, parts: bool = True, **config: Any) -> Iterator[Served]:
    """A server on the engine of a house."""
    config.setdefault("data", house.root / "served")
    core = core_of(house.uploads, parts=parts, worker=worker, **config)
    try:
        with serve(Whole(core)) as served:
            yield served
    finally:
        if core.parts is not None:
            core.parts.close()


def settle(uploads: Uploads, uploadid: str, there: Callable[[Any], bool]) -> None:
    """Wait until an upload is as wished; a test that waits in vain fails."""
    heard = threading.Event()
    stop = uploads.subscribe(lambda _: heard.set())
    try:
        while not there(uploads.find(uploadid)):
            assert heard.wait(PATIENCE), f"{uploads.find(uploadid)} is as it was"
            heard.clear()
    finally:
        stop()


def limits(**more: Any) -> Settings:
    """Limits that suit a small disk."""
    return Settings(**({"free_floor": 0} | more))
