"""The HTTP API at ``/api/``, and what operators ask: ``/metrics``, ``/healthz``, ``/readyz``.

`TABLE` has every route once; it dispatches, checks what comes, and is what ``/api/openapi.json`` says. The rooms:
``routes`` (the table's lines and checks), ``schemas``, ``conditions``; ``board`` (the list), ``artwork``; ``uploads``,
``catalogue``, ``events``, ``metrics``, ``about`` (routes and what answers them); ``documents``.
"""

from __future__ import annotations

from typing import Final

from ...notices import Notice
from ...protocols.fields import Answer
from ..core import Core
from ..http import Request, Send, respond
from .about import ABOUT, AboutRoutes
from .board import Board
from .catalogue import CATALOGUE, CatalogueRoutes
from .events import EVENTS, Events
from .metrics import OPERATION, Operation
from .routes import Handler, Table
from .uploads import UPLOADS, UploadRoutes

__all__ = ["TABLE", "Api"]

TABLE: Final = Table((*UPLOADS, *EVENTS, *CATALOGUE, *ABOUT, *OPERATION))
"""Every route."""


class Api:
    """Answers requests for the routes of `TABLE`.

    Args:
        core: The server's.

    Attributes:
        board: All uploads in a few lines each.
        events: The Server-Sent Events.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.board = Board(core.uploads)
        self.events = Events(core, remembered=core.config.backlog)
        core.hub.tap(self._hear)
        core.background(self._fill)
        self._handlers: dict[str, Handler] = {
            **UploadRoutes(core, self.board).handlers,
            **self.events.handlers,
            **CatalogueRoutes(core).handlers,
            **AboutRoutes(core).handlers,
            **Operation(core, self.board).handlers,
        }
        assert self._handlers.keys() == {route.name for route in TABLE.routes}

    async def __call__(self, request: Request, send: Send) -> None:
        """Answer a request.

        Raises:
            UploadError: It is refused; the caller makes a problem document of it.
            Disconnected: The client is gone.
        """
        if request.method == "OPTIONS" and (allow := TABLE.allow(request.path)) is not None:
            await respond(send, Answer(204, (("Allow", allow),)))
            return
        route, inside = TABLE.find(request)
        call = await TABLE.call(request, route, inside)
        answer = await self._handlers[route.name](call, send)
        if answer is not None:
            await respond(send, _headless(answer) if request.method == "HEAD" else answer)

    def _hear(self, notice: Notice) -> None:
        self._core.tally.hear(notice, changed=self.board.hear(notice))
        self.events.hear(notice)

    async def _fill(self) -> None:
        await self._core.read(self.board.fill)


def _headless(answer: Answer) -> Answer:
    """The answer to HEAD: the fields that GET has, without the body."""
    if answer.header("content-length") is not None or not answer.status >= 200 or answer.status in (204, 304):
        return Answer(answer.status, answer.headers)
    return Answer(answer.status, (*answer.headers, ("Content-Length", str(len(answer.body)))))
