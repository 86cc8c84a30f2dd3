"""The life cycle, and the documents that describe this server."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import Any, Final

import orjson

from ...diagrams import document, mermaid, svg
from ...protocols.fields import Answer
from ..core import Core
from ..http import Send
from .conditions import is_fresh
from .routes import Call, Handler, Media, Reply, Route
from .schemas import Schemas
from .uploads import SVG_HEADERS

__all__ = ["ABOUT", "AboutRoutes"]


def _any_object(schemas: Schemas) -> dict[str, Any]:
    return {"type": "object"}


def _route(path: str, name: str, doc: str, kind: str) -> Route:
    media = Media(kind, _any_object if kind == "application/json" else None)
    return Route("GET", path, name, doc, tag="about", replies=(Reply(200, "It.", (media,), {"ETag": "Of this."}),))


ABOUT: Final[tuple[Route, ...]] = (
    _route("/api/lifecycle", "lifecycle", "The life cycle: states, triggers, guards and rows.", "application/json"),
    _route("/api/lifecycle/diagram.svg", "lifecycle_svg", "The life cycle as a picture.", "image/svg+xml"),
    _route("/api/lifecycle/diagram.mmd", "lifecycle_mermaid", "The life cycle as a Mermaid chart.", "text/plain"),
    _route("/api/openapi.json", "openapi", "This document.", "application/json"),
    _route("/api/asyncapi.json", "asyncapi", "The events and the WebSocket's messages.", "application/json"),
)

_JSON: Final = (("Content-Type", "application/json"),)


class AboutRoutes:
    """Answers `ABOUT`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[str, Handler] = {route.name: self._show for route in ABOUT}

    async def _show(self, call: Call, send: Send) -> Answer:
        headers, body, etag = await self._core.read(_made, call.route.name)
        fields = (*headers, ("ETag", etag), ("Cache-Control", "no-cache"))
        return Answer(304, fields) if is_fresh(call.request, etag) else Answer(200, fields, body)


@cache
def _made(name: str) -> tuple[tuple[tuple[str, str], ...], bytes, str]:
    """Fields, body and ETag; made once, because none of it changes."""
    from .documents import asyncapi, openapi  # which know all routes, these too

    headers: tuple[tuple[str, str], ...]
    if name == "lifecycle_svg":
        headers, body = SVG_HEADERS, svg().encode()
    elif name == "lifecycle_mermaid":
        headers, body = (("Content-Type", "text/plain; charset=utf-8"),), mermaid().encode()
    else:
        made = {"lifecycle": document, "openapi": openapi, "asyncapi": asyncapi}[name]
        headers, body = _JSON, orjson.dumps(made())
    return headers, body, f'"{sha256(body).hexdigest()[:32]}"'
