"""The whole application on the engine of a house, and Server-Sent Events as they come."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrs import define, field

from stagedoor.server.app import Application

from .serving import PATIENCE, Served, core_of, serve

if TYPE_CHECKING:
    from conftest import House

__all__ = ["Stream", "answering", "listening"]


@contextmanager
def answering(house: House, *, worker: bool = False, **config: Any) -> Iterator[Served]:
    """A server on the engine of a house; its ``app`` is an `Application`."""
    config.setdefault("data", house.root / "served")
    with serve(Application(core_of(house.uploads, parts=False, worker=worker, **config))) as served:
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
