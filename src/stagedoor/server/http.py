"""Requests and answers on bare ASGI: as little as the byte paths need, and the same for all HTTP wires."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from attrs import define, field

from ..errors import Refused, TooLarge
from ..protocols.fields import Answer, collect

__all__ = ["TRUST", "Body", "Disconnected", "Receive", "Request", "Scope", "Send", "place_of", "respond", "trust_of"]

TRUST: Final = "stagedoor"
"""The ASGI extension of our own server: its ``trust`` is called when a WebSocket's client has shown a key."""

# The types of the ASGI specification, which fixes keys and not values.
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Disconnected(Exception):
    """The client is gone: nobody hears an answer."""


@define
class Request:
    """A request.

    Attributes:
        method: In capitals.
        path: Below the application's mount, decoded, with the leading slash.
        mount: Where the application is mounted, without a slash at the end.
        headers: By lower-case name.
        query: As sent.
        body: What comes.
        scope: The server's.
        route: The route that answers, as its template, once it is known; for the metrics.
    """

    method: str
    path: str
    mount: str
    headers: dict[str, str]
    query: bytes
    body: Body
    scope: Scope
    route: str = ""

    @classmethod
    def of(cls, scope: Scope, receive: Receive, *, patience: float | None = None) -> Request:
        """From ASGI's values.

        Args:
            scope: The request's.
            receive: The request's.
            patience: See `Body`.

        Raises:
            InvalidField: A header cannot be understood.
        """
        mount, path = place_of(scope)
        headers = collect(scope["headers"])
        query = bytes(scope["query_string"])
        return cls(str(scope["method"]), path, mount, headers, query, Body(receive, patience), scope)

    @property
    def secure(self) -> bool:
        """Whether it came by TLS, as far as the server or a proxy that is believed says."""
        return self.scope.get("scheme") in ("https", "wss")


@define
class Body:
    """The body of a request, piece by piece.

    Attributes:
        receive: ASGI's.
        patience: Seconds in which a small body must have come whole; ``None`` for any time. Who reads piece by piece
            sees to that alone.
        received: Bytes so far.
        over: Whether everything has come.
    """

    receive: Receive
    patience: float | None = None
    received: int = 0
    over: bool = False
    _gone: bool = field(default=False, init=False)

    async def piece(self) -> bytes:
        """The next piece; empty at the end.

        Raises:
            Disconnected: The client is gone before the end.
        """
        while not self.over:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            self.over = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            if piece:
                self.received += len(piece)
                return piece
        return b""

    async def read(self, limit: int) -> bytes:
        """All of a small body.

        Raises:
            TooLarge: ``body_too_large``.
            Refused: ``too_slow``.
            Disconnected: As `piece`.
        """
        pieces = []
        async with self._in_time():
            while piece := await self.piece():
                if self.received > limit:
                    raise TooLarge(f"The body of this request may have {limit:,} bytes.", code="body_too_large")
                pieces.append(piece)
        return b"".join(pieces)

    async def is_empty(self) -> bool:
        """Whether nothing comes.

        Raises:
            Refused: ``too_slow``.
            Disconnected: As `piece`.
        """
        async with self._in_time():
            return not await self.piece()

    async def refuse_content(self) -> None:
        """For requests that have no body.

        Raises:
            Refused: ``unexpected_body``, ``too_slow``.
            Disconnected: As `piece`.
        """
        if not await self.is_empty():
            raise Refused("This request takes no body. Send it without.", code="unexpected_body")

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.patience) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            sentence = "The body came too slowly. Nothing of it counts: send it again."
            raise Refused(sentence, code="too_slow") from None


def place_of(scope: Scope) -> tuple[str, str]:
    """Where the application is mounted, and the path below that."""
    mount = str(scope.get("root_path", "")).rstrip("/")
    path = str(scope["path"])
    # Servers differ in whether the path still has the mount; the specification (2.3) says that it has.
    return mount, (path.removeprefix(mount) if mount else path) or "/"


def trust_of(scope: Scope) -> Callable[[], None]:
    """What is to be called when a WebSocket's client has shown a key; with other servers nothing happens then."""
    extension = (scope.get("extensions") or {}).get(TRUST) or {}
    trust: Callable[[], None] = extension.get("trust", _nothing)
    return trust


def _nothing() -> None:
    """There is nothing to do."""


async def respond(send: Send, answer: Answer) -> None:
    """Send an answer."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers]
    if answer.status >= 200 and answer.status != 204 and answer.header("content-length") is None:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
