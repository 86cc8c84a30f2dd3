"""The documents that describe the server: OpenAPI 3.1 of its routes, AsyncAPI 3.0 of what it tells.

Both are made from what dispatches and encodes: the table of routes, and the classes of the messages. Copies for readers
are in ``docs/``; ``python -m stagedoor.server.api.documents --write docs`` makes them, ``--check docs`` tells whether
they are stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson

from ... import __version__
from ...protocols import frames
from ...protocols.problems import PROBLEM_TYPE
from . import TABLE
from .events import Progress, Reset, Told
from .routes import Param, Reply, Route
from .schemas import Schemas, sentences
from .uploads import task_schema

__all__ = ["asyncapi", "openapi"]

_ALWAYS: Final = (400, 401, 403, 406, 408)
"""Any route may answer these: a request that makes no sense, a key that is missing, a foreign page, a foreign type."""

_TAGS: Final = {
    "uploads": "Uploads, from the offer to the removal.",
    "events": "What happens, as it happens.",
    "catalogue": "What the library has.",
    "about": "How all this works.",
    "operation": "For those who run the server.",
}


# ── OpenAPI ───────────────────────────────────────────────────────────────────────────────────────────────────


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of all routes, as plain JSON values."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in TABLE.routes:
        item = paths.setdefault(route.path, {})
        item[route.method.lower()] = _operation(route, schemas)
        if route.method == "GET":
            item["head"] = {**_operation(route, schemas, head=True), "operationId": f"{route.name}_head"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stagedoor",
            "version": __version__,
            "summary": "Uploads into a music server.",
            "description": "Bytes also come over tus (/files/), HTTP resumable uploads (/uploads/) and WebSocket (/ws, "
            "see asyncapi.json). Errors are problem documents (RFC 9457) with a stable `code`.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": doc} for name, doc in _TAGS.items()],
        "security": [{"bearer": []}, {"key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {**schemas.found, "Problem": _problem()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The API key, where one is set."},
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
    }


def _operation(route: Route, schemas: Schemas, *, head: bool = False) -> dict[str, Any]:
    summary, _, more = route.doc.partition("\n\n")
    operation: dict[str, Any] = {"operationId": route.name, "tags": [route.tag], "summary": summary}
    if head:
        operation["summary"] = "The header fields of the same GET."
    elif more:
        operation["description"] = more
    if route.open:
        operation["security"] = []
    parameters = [
        *({**_parameter(param), "in": "path", "required": True} for param in route.inside),
        *({**_parameter(param), "in": "query"} for param in route.query),
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.raw:
        file = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": file}}
    elif route.body:
        operation["requestBody"] = _body(route.body)
    operation["responses"] = dict(_responses(route, schemas, head))
    return operation


def _parameter(param: Param) -> dict[str, Any]:
    said: dict[str, Any] = {"name": param.name, "description": param.doc, "schema": param.schema}
    if param.required:
        said["required"] = True
    if param.kind == "list":
        said |= {"style": "form", "explode": False}
    return said


def _body(members: Sequence[Param]) -> dict[str, Any]:
    required = [member.name for member in members if member.required]
    schema = {
        "type": "object",
        "properties": {member.name: {**member.schema, "description": member.doc} for member in members},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


def _responses(route: Route, schemas: Schemas, head: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for reply in route.replies:
        yield str(reply.status), _reply(reply, schemas, head)
        if "ETag" in reply.headers and route.method == "GET" and not route.path.startswith("/api/uploads"):
            yield "304", {"description": "It is what If-None-Match says."}
    always = [status for status in _ALWAYS if not (status == 401 and route.open)]
    for status in sorted({*always, *route.problems}):
        content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        yield str(status), {"description": HTTPStatus(status).phrase + ".", **({} if head else {"content": content})}


def _reply(reply: Reply, schemas: Schemas, head: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"description": reply.doc}
    if reply.headers:
        said["headers"] = {
            name: {"description": doc, "schema": {"type": "string"}} for name, doc in reply.headers.items()
        }
    if reply.media and not head:
        said["content"] = {
            media.type: {} if media.schema is None else {"schema": media.schema(schemas)} for media in reply.media
        }
    return said


def _problem() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What happened and what to do, for people."},
            "code": {"type": "string", "description": "A stable word for programs."},
            "guard": {"type": "string", "description": "The guard of the life cycle that said no."},
            "expected-offset": {"type": "integer", "description": "Where the upload stands, in bytes."},
        },
        "required": ["type", "title", "status", "detail", "code"],
    }


# ── AsyncAPI ──────────────────────────────────────────────────────────────────────────────────────────────────


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of events and of the WebSocket's own dialect, as plain JSON values."""
    schemas = Schemas()
    task_schema(schemas)
    events = {
        name: _event(name, cls, schemas) for name, cls in (("notice", Told), ("progress", Progress), ("reset", Reset))
    }
    events["overrun"] = {
        "name": "overrun",
        "summary": "The client did not keep up; connect again.",
        "contentType": "application/json",
        "payload": {"type": "object", "maxProperties": 0},
    }
    theirs = {name: _frame(name, cls, schemas) for name, cls in frames.CLIENT.items()}
    ours = {name: _frame(name, cls, schemas) for name, cls in frames.SERVER.items()}
    theirs["chunk"] = {
        "name": "chunk",
        "summary": "A binary frame: bytes of an upload behind a header.",
        "description": f"{frames.HEADER_SIZE} bytes, big-endian: uint8 {frames.VERSION << 4 | 1:#x}, uint32 handle, "
        "uint64 offset; the raw bytes follow.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "contentMediaType": "application/octet-stream"},
    }
    channels = {
        "events": ("/api/events", "Server-Sent Events of all notices.", {f"events.{k}": v for k, v in events.items()}),
        "websocket": (
            "/ws",
            "The WebSocket in our own dialect. MusicDB's JSON dialect is at the same address and is described by "
            "MusicDB.",
            {**{f"client.{k}": v for k, v in theirs.items()}, **{f"server.{k}": v for k, v in ours.items()}},
        ),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "stagedoor",
            "version": __version__,
            "description": "What the server tells, and how chunks are sent over a WebSocket. Requests over HTTP are in "
            "openapi.json.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {
            name: {
                "address": address,
                "description": doc,
                "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in messages},
            }
            for name, (address, doc, messages) in channels.items()
        },
        "operations": {
            "hearEvents": _action("send", "events", [f"events.{name}" for name in events]),
            "hear": _action("send", "websocket", [f"server.{name}" for name in ours]),
            "say": _action("receive", "websocket", [f"client.{name}" for name in theirs]),
        },
        "components": {
            "messages": {key: message for _, _, messages in channels.values() for key, message in messages.items()},
            "schemas": schemas.found,
        },
    }


def _action(action: str, channel: str, messages: Sequence[str]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _event(name: str, cls: type, schemas: Schemas) -> dict[str, Any]:
    return {
        "name": name,
        "summary": sentences(cls)[0],
        "contentType": "application/json",
        "payload": schemas.of(cls, name=f"Event{cls.__name__}"),
    }


def _frame(name: str, cls: type, schemas: Schemas) -> dict[str, Any]:
    payload = schemas.of(cls, name=f"Frame{cls.__name__}", more={"type": {"const": name}}, optional=True)
    return {"name": name, "summary": sentences(cls)[0], "contentType": "application/json", "payload": payload}


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────

FILES: Final = {"openapi.json": openapi, "asyncapi.json": asyncapi}


def contents() -> dict[str, bytes]:
    """The files by name."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {name: orjson.dumps(make(), option=options) for name, make in FILES.items()}


def stale(directory: Path) -> list[str]:
    """The names of files that are not as they would be written now."""
    found = {name: directory / name for name in FILES}
    return [name for name, raw in contents().items() if not found[name].is_file() or found[name].read_bytes() != raw]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the documents, or tell which are stale."""
    parser = argparse.ArgumentParser(prog="python -m stagedoor.server.api.documents", description=main.__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", type=Path, metavar="DIR", help="write openapi.json and asyncapi.json here")
    choice.add_argument("--check", type=Path, metavar="DIR", help="tell which of them are stale")
    chosen = parser.parse_args(arguments)
    if chosen.write is not None:
        for name, raw in contents().items():
            (chosen.write / name).write_bytes(raw)
        return 0
    wrong = stale(chosen.check)
    for name in wrong:
        sys.stderr.write(f"{chosen.check / name} is stale: make documents\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
