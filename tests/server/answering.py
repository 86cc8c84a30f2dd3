"""The API and the page behind the gate, as the application has them, on the engine of a house."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field

from stagedoor.errors import UploadError
from stagedoor.protocols.problems import problem
from stagedoor.server.api import Api
from stagedoor.server.core import Core
from stagedoor.server.http import Disconnected, Receive, Request, Scope, Send, respond
from stagedoor.server.page import Page

from .serving import PATIENCE, Served, core_of, serve

if TYPE_CHECKING:
    from conftest import House

__all__ = ["Doors", "Stream", "answering", "doors_of", "listening"]


class Doors:
    """The API and the page alone; the life of the core is the lifespan's."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.api, self.page = Api(core), Page(core)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await self.core.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.core.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
        status = 0

        async def telling(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        request = Request.of(scope, receive)
        handler = self.api if request.path.startswith(("/api", "/metrics", "/healthz", "/readyz")) else self.page
        try:
            self.core.gate.check(request.headers, secure=request.secure, method=request.method)
            if request.path not in ("/healthz", "/readyz") and handler is self.api:
                self.core.gate.authorize(request.headers)
            await handler(request, telling)
        except Disconnected:
            pass
        except UploadError as error:
            await respond(telling, problem(error))
        self.core.tally.request(request.route, request.method, status)
        self.core.tally.received["http"] += request.body.received


def doors_of(house: House, **config: Any) -> Doors:
    """Without a server: for tests that call it themselves."""
    return Doors(core_of(house.uploads, parts=False, **config))


@contextmanager
def answering(house: House, *, worker: bool = False, **config: Any) -> Iterator[Served]:
    """A server on the engine of a house."""
    config.setdefault("data", house.root / "served")
    with serve(Doors(core_of(house.uploads, parts=False, worker=worker, **config))) as served:
        yield served


@define
class Stream:
    """Server-Sent Events as they come."""

    response: http.client.HTTPResponse
    comments: int = 0
    _fields: dict[str, str] = field(factory=dict)

    def event(self) -> dict[str, str]:
        """The next event: its fields by name. Waits for it."""
        fields: dict[str, str] = {}
        while line := self.response.readline():
            text = line.decode().rstrip("\n")
            if not text and ("event" in fields or "data" in fields):
                return fields
            if not text:
                fields = {}
            elif text.startswith(":"):
                self.comments += 1
            else:
                name, _, value = text.partition(": ")
                fields[name] = value
        raise EOFError("the stream ended")

    def comment(self) -> None:
        """Wait for a line that only says that the server lives."""
        while line := self.response.readline():
            if line.startswith(b":"):
                return
        raise EOFError("the stream ended")

    def end(self) -> bytes:
        """What comes until the stream ends."""
        return self.response.read()


@contextmanager
def listening(served: Served, *, last: str | None = None) -> Iterator[Stream]:
    """A connection to the events."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    try:
        connection.request("GET", "/api/events", headers={} if last is None else {"Last-Event-ID": last})
        response = connection.getresponse()
        assert response.status == 200
        assert response.getheader("content-type") == "text/event-stream"
        yield Stream(response)
    finally:
        connection.close()
