"""The WebSocket: one endpoint, ``/ws``, and two dialects, told apart by the first message.

A message of our own dialect has a ``type`` (`stagedoor.protocols.frames`); everything else is MusicDB's
(`stagedoor.protocols.musicdb`). Who says nothing, on a server without keys, is taken for a client of MusicDB that
listens, after half a heartbeat; nothing that happened before is missed. With keys nothing is told before the right one
has come.

What the server that runs this has to set (uvicorn; `run` does):

* ``ws="websockets-sansio"``: it pauses reading while a message waits here, and ``send`` waits while the client does not
  read. So a connection holds what one read of the socket brought, a message under way, and a bounded queue.
* ``ws_max_size`` of at least `largest_message`; ``ws_max_queue``, where there is such a queue, of 1.
* Our own protocol (`connections`) holds messages small until a key was shown (`trust_of`), and bounds what all take
  together. Another server has to bound its memory itself: ``ws_max_size`` times its connections is much.
* ``ws_per_message_deflate=False``: media do not compress, and nobody has to bound what comes out.
* ``ws_ping_interval`` and ``ws_ping_timeout`` as they are: they find connections that are gone.
* ``TCP_USER_TIMEOUT`` on the listening socket, so that the kernel ends connections whose client never reads again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..errors import UploadError
from ..protocols import musicdb
from ..protocols.fields import collect
from ..protocols.messages import JSONLimits, MessageError, parse_object
from ..settings import Settings
from .core import Core
from .http import Receive, Scope, Send, trust_of
from .hub import SILENCE
from .sockets.binary import Binary, teller
from .sockets.board import Board, Documents
from .sockets.connection import Connection, Dialect
from .sockets.musicdb import UNDECIDED, MusicDB

__all__ = ["Sockets", "largest_message"]

log = logging.getLogger("stagedoor.server")

_PATH = "/ws"
_FIRST = JSONLimits(max_bytes=4096, max_values=100, max_depth=4)
"""A hello is no larger."""


def largest_message(settings: Settings) -> int:
    """Bytes of the largest message that a client may send: a chunk as hexadecimal digits."""
    limits = musicdb.Limits(
        max_chunk=settings.max_chunk,
        max_annotations=settings.max_annotations,
        max_annotation_depth=settings.max_annotation_depth,
    )
    return limits.json.max_bytes


class Sockets:
    """The endpoint."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._documents = Documents()
        self._board = Board(core, self._documents)
        self._teller = teller(self._documents)
        self._connections: set[Connection] = set()
        core.background(self._tick)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        core = self._core
        await receive()  # websocket.connect
        try:
            headers = collect(scope["headers"])
            core.gate.check(headers, secure=scope.get("scheme") == "wss")
        except UploadError as error:
            log.info("a WebSocket was refused: %s", error.sentence)
            await _refuse(send)
            return
        path, mount = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
        if (path.removeprefix(mount) if mount else path) != _PATH:
            await _refuse(send)
            return
        try:
            await send({"type": "websocket.accept"})
            if len(self._connections) >= core.config.connections:
                await send(
                    {"type": "websocket.close", "code": 1013, "reason": "Too many connections. Try again later."}
                )
                return
            await self._serve(receive, send, trust_of(scope))
        except OSError:  # ASGI: the client is gone
            return

    async def _serve(self, receive: Receive, send: Send, trust: Callable[[], None]) -> None:
        overheard = SILENCE if self._core.config.keys else UNDECIDED
        connection = Connection(self._core, receive, send, self._choose, overheard, trust)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _choose(self, connection: Connection, frame: str | bytes | None) -> Dialect | None:
        """See `Choose`."""
        if frame is None:
            if self._core.config.keys:
                return None
            listening = MusicDB(connection, self._board)
            connection.spawn(listening.begin())
            return listening
        if isinstance(frame, bytes):
            connection.end(1008, "Say hello first.")
            return None
        try:
            first = parse_object(frame, _FIRST)
        except MessageError:
            first = {}
        if "type" in first and "method" not in first:
            return Binary(connection, self._documents, self._teller)
        return MusicDB(connection, self._board)

    async def _tick(self) -> None:
        """Whoever has heard nothing for half a heartbeat hears one, so that nobody waits longer than a whole one."""
        while True:
            await asyncio.sleep(self._core.config.heartbeat / 2)
            self.tick()

    def tick(self) -> None:
        """Half of a heartbeat has passed."""
        for connection in tuple(self._connections):
            connection.tick()


async def _refuse(send: Send) -> None:
    """Closed before it is accepted: status 403."""
    try:
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
    except OSError:  # ASGI: the client is gone
        return
