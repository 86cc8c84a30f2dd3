"""Routes: what each one takes and answers, said once. The same table dispatches, checks and documents.

`Route` is a line of the table; `Table.find` looks a request up; `Call` has what came with it, checked. How a value is
checked (`Param`) is also what the OpenAPI document says of it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

import orjson
from attrs import field, frozen

from ...protocols.fields import Answer, media_type
from ...protocols.messages import JSONLimits, parse_object
from ...protocols.problems import WireError
from ..http import Request, Send
from .schemas import Schemas

__all__ = [
    "ID",
    "Call",
    "Handler",
    "Media",
    "Param",
    "Reply",
    "Route",
    "Table",
    "accepts",
    "json_answer",
    "parse_query",
]

MAX_BODY: Final = 1 << 20
"""Bytes of a JSON body."""
_LIMITS: Final = JSONLimits(max_bytes=MAX_BODY, max_values=100_000, max_depth=32)
_JSON: Final = "application/json"

Schema: TypeAlias = Callable[[Schemas], dict[str, Any]]
"""Makes a JSON schema; asked only when a document is written."""


@frozen
class Param:
    """A value that a request brings: in the path, in the query, or as a member of a JSON body.

    Attributes:
        name: Its name.
        doc: A sentence for people.
        kind: The JSON type; a ``list`` is comma-separated in a query.
        required: Whether it must be there.
        default: What counts when it is not.
        choices: The only values, or the only items of a list.
        least: Of an integer.
        most: Of an integer.
        longest: Characters of a string.
        pattern: What a string must be; for the document, and for strings in a path.
        null: Whether a body may say ``null``.
    """

    name: str
    doc: str
    kind: Literal["string", "integer", "boolean", "object", "list"] = field(kw_only=True, default="string")
    required: bool = field(kw_only=True, default=False)
    default: Any = field(kw_only=True, default=None)
    choices: tuple[str, ...] = field(kw_only=True, default=())
    least: int = field(kw_only=True, default=0)
    most: int = field(kw_only=True, default=2**53 - 1)
    longest: int = field(kw_only=True, default=1024)
    pattern: str | None = field(kw_only=True, default=None)
    null: bool = field(kw_only=True, default=False)

    @property
    def schema(self) -> dict[str, Any]:
        """What it may be."""
        if self.kind == "integer":
            schema: dict[str, Any] = {"type": "integer", "minimum": self.least, "maximum": self.most}
        elif self.kind == "list":
            schema = {"type": "array", "items": {"type": "string", "enum": list(self.choices)}, "minItems": 1}
        elif self.kind in ("boolean", "object"):
            schema = {"type": self.kind}
        elif self.choices:
            schema = {"type": "string", "enum": list(self.choices)}
        else:
            schema = {"type": "string", "maxLength": self.longest}
            if self.pattern is not None:
                schema["pattern"] = f"^{self.pattern}$"
            if self.required:
                schema["minLength"] = 1
        if self.null:
            schema["type"] = [schema["type"], "null"]
        if self.default is not None:
            schema["default"] = list(self.default) if self.kind == "list" else self.default
        return schema

    def of_text(self, text: str) -> Any:
        """The value that a path or a query says.

        Raises:
            WireError: ``invalid_argument``.
        """
        if self.kind == "integer":
            if re.fullmatch(r"[0-9]{1,16}", text, re.ASCII):
                return self.check(int(text))
            raise self._wrong()
        if self.kind == "boolean":
            if text not in ("true", "false"):
                raise self._wrong()
            return text == "true"
        if self.kind == "list":
            items = tuple(text.split(","))
            if not set(items) <= set(self.choices):
                raise self._wrong()
            return items
        return self.check(text)

    def check(self, value: Any) -> Any:
        """The value that a body says, if it may be.

        Raises:
            WireError: ``invalid_argument``.
        """
        if value is None and self.null:
            return None
        good = False
        if self.kind == "string":
            good = (
                isinstance(value, str)
                and len(value) <= self.longest
                and (not self.choices or value in self.choices)
                and (self.pattern is None or re.fullmatch(self.pattern, value) is not None)
                and bool(value or not self.required)
            )
        elif self.kind == "integer":
            good = isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most
        elif self.kind == "boolean":
            good = isinstance(value, bool)
        elif self.kind == "object":
            good = isinstance(value, dict)
        if not good:
            raise self._wrong()
        return value

    def _wrong(self) -> WireError:
        if self.kind == "integer":
            what = f"an integer from {self.least} to {self.most}"
        elif self.kind == "boolean":
            what = "true or false"
        elif self.kind == "object":
            what = "an object"
        elif self.choices:
            what = f"{'some' if self.kind == 'list' else 'one'} of {', '.join(self.choices)}"
        else:
            what = f"a string of at most {self.longest} characters"
            if self.pattern is not None:
                what += f" that is {self.pattern}"
        return WireError(f"{self.name} must be {what}.", code="invalid_argument")


ID: Final = Param("id", "The upload's id.", required=True, longest=128, pattern="[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@frozen
class Media:
    """A representation.

    Attributes:
        type: Its media type.
        schema: Of JSON; ``None`` for anything else.
    """

    type: str = _JSON
    schema: Schema | None = None


@frozen
class Reply:
    """An answer that is no problem.

    Attributes:
        status: The status number.
        doc: A sentence for people.
        media: What the body is; ``None`` without one. Several when the route chooses.
        headers: Fields worth telling of, with a sentence.
    """

    status: int
    doc: str
    media: tuple[Media, ...] = ()
    headers: Mapping[str, str] = field(factory=dict)


Handler: TypeAlias = Callable[["Call", Send], Awaitable[Answer | None]]
"""Answers a call, or has sent the answer itself and returns ``None``."""


@frozen
class Route:
    """A line of the table.

    Attributes:
        method: In capitals.
        path: A template: ``{id}`` is one segment, ``{path}`` the whole rest.
        name: Name of the handler, and the operation's id.
        doc: A sentence for people; more behind an empty line.
        tag: Under which it is documented.
        replies: What it answers.
        problems: Status numbers of the problem documents it may answer, beside those that every route may.
        inside: Params of the path.
        query: Params of the query.
        body: Members of the JSON body; ``None`` when it takes no body.
        raw: Whether the body is a file, which the handler reads.
        open: Whether it asks for no key.
    """

    method: str
    path: str
    name: str
    doc: str
    tag: str = field(kw_only=True)
    replies: tuple[Reply, ...] = field(kw_only=True)
    problems: tuple[int, ...] = field(kw_only=True, default=())
    inside: tuple[Param, ...] = field(kw_only=True, default=())
    query: tuple[Param, ...] = field(kw_only=True, default=())
    body: tuple[Param, ...] | None = field(kw_only=True, default=None)
    raw: bool = field(kw_only=True, default=False)
    open: bool = field(kw_only=True, default=False)
    pattern: re.Pattern[str] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        names = re.findall(r"\{(\w+)\}", self.path)
        assert names == [param.name for param in self.inside], self
        pattern = re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{'.+' if m[1] == 'path' else '[^/]+'})", self.path)
        object.__setattr__(self, "pattern", re.compile(pattern))


@frozen
class Call:
    """A request for a route, checked.

    Attributes:
        route: Which.
        request: As it came.
        values: Params of path and query, and members of the body, by name; those that were not said have their
            default, members of a body that were not said are absent when they have none.
    """

    route: Route
    request: Request
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)


@frozen
class Table:
    """All routes.

    Attributes:
        routes: In the order of the documents; of two that fit a path, the first counts.
    """

    routes: tuple[Route, ...]

    def find(self, request: Request) -> tuple[Route, dict[str, str]]:
        """The route of a request, and what its path says.

        Raises:
            WireError: ``no_such_route`` (404), ``method_not_allowed`` (405).
        """
        method = "GET" if request.method == "HEAD" else request.method
        allowed: dict[str, None] = {}
        template = ""
        for route in self.routes:
            found = route.pattern.fullmatch(request.path)
            if found is None:
                continue
            template = template or route.path
            if route.method == method:
                request.route = route.path
                return route, found.groupdict()
            allowed[route.method] = None
        if not allowed:
            raise WireError(
                "There is nothing at this address. What there is, is in /api/openapi.json.",
                status=404,
                code="no_such_route",
            )
        request.route = template
        raise WireError(
            f"{request.method[:20]} is not possible here.",
            status=405,
            code="method_not_allowed",
            headers=(("Allow", _allow(allowed)),),
        )

    def allow(self, path: str) -> str | None:
        """The ``Allow`` field for a path, or ``None`` when there is nothing at it."""
        methods = [route.method for route in self.routes if route.pattern.fullmatch(path)]
        return _allow(methods) if methods else None

    async def call(self, request: Request, route: Route, inside: Mapping[str, str]) -> Call:
        """Check what a request brings.

        Raises:
            WireError: ``invalid_argument``, ``not_acceptable`` (406), ``unsupported_media_type`` (415).
            MessageError: The body is no JSON, or too much of it.
            Refused: ``unexpected_body``, ``body_too_large``.
        """
        values: dict[str, Any] = {param.name: param.of_text(inside[param.name]) for param in route.inside}
        values |= _of_query(route, request.query)
        _check_accept(route, request)
        if not route.raw:
            if request.headers.get("content-encoding", "identity") != "identity":
                raise _unsupported("Send the body as it is, without a Content-Encoding.")
            if route.body is None:
                await request.body.refuse_content()
            else:
                values |= await _of_body(route.body, request)
        return Call(route, request, values)


def _allow(methods: Iterable[str]) -> str:
    names = dict.fromkeys(methods)
    if "GET" in names:
        names["HEAD"] = None
    return ", ".join([*names, "OPTIONS"])


def _of_query(route: Route, query: bytes) -> dict[str, Any]:
    said = parse_query(query)
    params = {param.name: param for param in route.query}
    stranger = next((name for name in said if name not in params), None)
    if stranger is not None:
        raise WireError(
            f"There is no parameter {stranger[:40]!r} here; there are: {', '.join(params) or 'none'}.",
            code="invalid_argument",
        )
    values: dict[str, Any] = {}
    for name, param in params.items():
        if name in said:
            values[name] = param.of_text(said[name])
        elif param.required:
            raise WireError(f"The parameter {name} is missing.", code="invalid_argument")
        else:
            values[name] = param.default
    return values


def parse_query(query: bytes) -> dict[str, str]:
    """The parameters of a query, percent-decoded UTF-8; ``+`` is a space.

    Raises:
        WireError: ``invalid_argument``: one comes twice, or is no UTF-8.
    """
    found: dict[str, str] = {}
    for part in query.split(b"&"):
        if not part:
            continue
        name, _, value = part.partition(b"=")
        try:
            key, text = (unquote_to_bytes(raw.replace(b"+", b" ")).decode() for raw in (name, value))
        except UnicodeDecodeError:
            raise WireError("The query is no UTF-8.", code="invalid_argument") from None
        if key in found:
            raise WireError(f"The parameter {key[:40]!r} came twice.", code="invalid_argument")
        found[key] = text
    return found


async def _of_body(members: tuple[Param, ...], request: Request) -> dict[str, Any]:
    kind = media_type(request.headers.get("content-type", ""))
    raw = await request.body.read(MAX_BODY)
    needed = [member.name for member in members if member.required]
    if not raw and not needed:
        return {member.name: member.default for member in members if member.default is not None}
    if kind != _JSON:
        raise _unsupported("Send the body as application/json.")
    said = parse_object(raw, _LIMITS)
    known = {member.name: member for member in members}
    stranger = next((name for name in said if name not in known), None)
    if stranger is not None:
        raise WireError(
            f"The body has no member {_unicode(stranger[:40])!r}; it may have: {', '.join(known) or 'none'}.",
            code="invalid_argument",
        )
    missing = next((name for name in needed if name not in said), None)
    if missing is not None:
        raise WireError(f"The body needs a member {missing}.", code="invalid_argument")
    values = {member.name: member.default for member in members if member.default is not None}
    return values | {name: known[name].check(value) for name, value in said.items()}


def _unsupported(sentence: str) -> WireError:
    # RFC 9110, section 15.5.16, and RFC 5789, section 3.1
    return WireError(
        sentence,
        status=415,
        code="unsupported_media_type",
        headers=(("Accept", _JSON), ("Accept-Patch", _JSON), ("Accept-Encoding", "identity")),
    )


def _unicode(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def json_answer(body: object, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An answer in JSON that nobody keeps.

    Args:
        body: Plain JSON values, or bytes that are JSON already.
        status: The status number.
        headers: More fields.
    """
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Answer(status, (("Content-Type", _JSON), ("Cache-Control", "no-store"), *headers), raw)


# ── Accept ────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_accept(route: Route, request: Request) -> None:
    accept = request.headers.get("accept")
    offered = [media.type for reply in route.replies for media in reply.media]
    if accept and offered and not any(accepts(accept, media) for media in offered):
        raise WireError(
            f"This answer comes as {' or '.join(dict.fromkeys(offered))} only.", status=406, code="not_acceptable"
        )


def accepts(accept: str, offered: str) -> bool:
    """Whether an ``Accept`` field (RFC 9110, section 12.5.1) allows a media type; the range that fits best counts."""
    wanted = offered.partition(";")[0]
    best, allowed = -1, False
    for part in accept.split(","):
        pieces = [piece.strip(" \t").lower() for piece in part.split(";")]
        for rank, pattern in enumerate(("*/*", wanted.partition("/")[0] + "/*", wanted)):
            if (pieces[0] == pattern or (offered == "*/*" and pieces[0])) and rank > best:
                best = rank
                allowed = not any(re.fullmatch(r"q=0(\.0{0,3})?", piece) for piece in pieces[1:])
    return allowed
