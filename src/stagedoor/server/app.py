"""The ASGI application: one engine behind every wire, at paths of its own or mounted in somebody else's."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final

from ..errors import Refused, UploadError
from ..protocols import tus as tus_codec
from ..protocols.fields import Answer
from ..protocols.problems import Wire, problem
from .api import Api
from .core import Core
from .http import Disconnected, Receive, Request, Scope, Send, place_of, respond
from .page import Page
from .resumable import Resumable
from .tus import Tus
from .websocket import Sockets

__all__ = ["Application"]

log = logging.getLogger("stagedoor.server")

Handler = Callable[[Request, Send], Awaitable[None]]

_SECURITY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-site"),
)

_UPLOAD: Final = re.compile(r"/(?:files|(?:api/)?uploads)/([^/]+)")


class Application:
    """An ASGI 3 application; `stagedoor.server.create_app` makes it."""

    def __init__(self, core: Core) -> None:
        self.core = core
        tus, resumable, api, page = Tus(core), Resumable(core), Api(core), Page(core)
        self._sockets = Sockets(core)
        self._routes: tuple[tuple[str, Wire, Handler, bool], ...] = (
            # prefix, the wire whose errors it speaks, handler, whether a key is asked for
            ("/files", Wire.TUS, tus, True),
            ("/uploads", Wire.RESUMABLE, resumable, True),
            ("/api", Wire.HTTP, api, True),
            ("/metrics", Wire.HTTP, api, True),
            ("/healthz", Wire.HTTP, api, False),
            ("/readyz", Wire.HTTP, api, False),
            ("/", Wire.HTTP, page, False),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From start to stop, for whoever gets no lifespan events: those of a mounted application go nowhere.

        Raises:
            UploadError: It cannot start.
        """
        await self.core.start()
        try:
            yield
        finally:
            self.core.drain()
            await self.core.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._sockets(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.core.start()
                except UploadError as error:
                    await send({"type": "lifespan.startup.failed", "message": error.sentence})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.core.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status = 0
        request: Request | None = None
        wire = Wire.HTTP
        more: tuple[tuple[bytes, bytes], ...] = _SECURITY

        async def telling(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        try:
            prefix, wire, handler, guarded = self._route(place_of(scope)[1])
            request = Request.of(scope, receive, patience=self.core.config.body_idle)
            request.route = prefix
            origin = request.headers.get("origin")
            more = (*_SECURITY, *_encoded(self.core.gate.cors.headers(origin)))
            self.core.gate.check(request.headers, secure=request.secure, method=request.method)
            if self.core.gate.cors.is_preflight(request.method, request.headers):
                more = (*_SECURITY, *_encoded(self.core.gate.cors.preflight(origin)))
                await respond(telling, Answer(204))
                return
            if guarded:
                self.core.gate.authorize(request.headers)
            await handler(request, telling)
        except Disconnected:
            pass
        except UploadError as error:
            if not status:
                await respond(telling, _refusal(error, wire))
        except asyncio.CancelledError:
            raise
        except Exception:  # the edge: one request's fault stops no other (promise 9)
            log.exception("a request failed unexpectedly: %s %r", scope.get("method"), scope.get("path"))
            if status:
                raise
            unexpected = Refused("Something went wrong here. The server's log has the details.", code="unexpected")
            await respond(telling, _refusal(unexpected, wire))
        finally:
            if request is not None:
                self.core.tally.request(request.route, request.method, status)
                if request.body.received:
                    self.core.tally.received[wire.value] += request.body.received
            if log.isEnabledFor(logging.DEBUG):
                _log_access(scope, request, wire, status, time.perf_counter() - began)

    def _route(self, path: str) -> tuple[str, Wire, Handler, bool]:
        for route in self._routes:
            prefix = route[0]
            if prefix == "/" or path == prefix or path.startswith(prefix + "/"):
                return route
        raise AssertionError("the last route takes everything")


def _log_access(scope: Scope, request: Request | None, wire: Wire, status: int, seconds: float) -> None:
    found = _UPLOAD.match("" if request is None else request.path)
    told = {
        "wire": wire.value,
        "upload": None if found is None else found[1],
        "status": status,
        "bytes": 0 if request is None else request.body.received,
        "ms": round(1e3 * seconds, 1),
    }
    log.debug("%s %s", scope["method"], scope["path"], extra=told)


def _encoded(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode(), value.encode()) for name, value in headers)


def _refusal(error: UploadError, wire: Wire) -> Answer:
    """The answer to a request that does not get to its handler."""
    return tus_codec.refused(error) if wire is Wire.TUS else problem(error, wire)
