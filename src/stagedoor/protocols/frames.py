"""Our own dialect of the WebSocket, version 1: control in JSON text frames, bytes in binary frames.

The server pulls, as in MusicDB's dialect, but says what it wants and may want several chunks ahead::

    client                                server
    hello (version, key, window)     →
                                     ←    welcome (version, limits, window)
    initiate (n=1, uploadid, …)      →
                                     ←    done (n=1, task)
                                     ←    ask (uploadid, handle 7, offset 0, length 1 MiB)
                                     ←    ask (uploadid, handle 7, offset 1 MiB, length 1 MiB)
    binary: chunk header + bytes     →    (handle 7, offset 0)
                                     ←    ask (handle 7, offset 2 MiB, …), notice (to everybody) …
    binary: chunk header + bytes     →    (handle 7, offset 1 MiB)

A **text frame** is a JSON object whose ``type`` names one of the classes below and whose other members are its
attributes; what has a default may be left out, and nothing else may be there. A client numbers its requests with
``n``; exactly one ``done``, ``tasks`` or ``error`` with the same ``n`` answers each of them.

A **binary frame** goes from client to server only. Its header is 13 bytes, big-endian: ``uint8`` 0x11 (high half: the
version of this dialect, low half: 1, a chunk), ``uint32`` handle, ``uint64`` offset; the raw bytes follow.

Rules:

* ``hello`` is first; before ``welcome`` nothing else is answered. A server that does not speak the version answers
  with an ``error`` (``unsupported_version``).
* ``initiate`` makes the connection the one that is asked for chunks; so does ``claim``, for an upload that is there
  and whose file the client holds. The newest claim wins; the handles of the one before get a ``stop``. ``release``
  gives it up.
* A handle stands for one upload on one connection. A chunk for a handle that is not valid (any more), or at an offset
  that was not asked for, is answered with a ``stop``, and changes nothing.
* Each ``ask`` is answered with one chunk of at most ``length`` bytes, in the order of asking. A shorter chunk leaves a
  gap in front of the next one; the server then says ``stop`` and asks anew.
* A client that waits for an ``ask`` and hears nothing repeats its ``claim``: the server asks anew from the offset on
  record. A server repeats nothing by itself.
* ``heartbeat`` comes every few seconds; who hears nothing for a while connects anew, and gets the full list with
  ``list``.
* Every listener hears every ``notice``: each change of state, each error, and each upload that is new. Whoever comes
  asks for the full list first (``list``, to its last page); what is heard meanwhile is as new, or newer.
* When uploads have got more bytes and nothing else about them is new, that is no notice: ``progress`` tells the newest
  offset of all that moved since the last one, as often as the server can spare the time. It never goes back behind a
  notice that came before. One with a `Message.key` may be left out for a newer one with the same key.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeGuard

import orjson
from attrs import NOTHING, Attribute, field, fields, frozen

from ..errors import OffsetMismatch, TooLarge, UploadError
from ..notices import Notice
from ..tasks import JSON, thaw
from .messages import JSONLimits, Message, MessageError, coalescing_key, encode_task, moved, parse_object

__all__ = [
    "CLIENT",
    "HEADER_SIZE",
    "SERVER",
    "VERSION",
    "Annotate",
    "Ask",
    "Chunk",
    "Claim",
    "ClientMessage",
    "Declare",
    "Done",
    "Error",
    "Heartbeat",
    "Hello",
    "Import",
    "Initiate",
    "Integrate",
    "Limits",
    "ListTasks",
    "Plan",
    "Progress",
    "Release",
    "Remove",
    "Request",
    "Retry",
    "ServerMessage",
    "Stop",
    "Tasks",
    "Told",
    "Undo",
    "Welcome",
    "chunk_header",
    "encode",
    "encode_chunk",
    "encode_done",
    "encode_notice",
    "encode_progress",
    "encode_tasks",
    "error_of",
    "parse_chunk",
    "parse_client",
    "parse_server",
]

VERSION: Final = 1
"""Of this dialect."""

_HEADER: Final = struct.Struct(">BIQ")
HEADER_SIZE: Final = _HEADER.size
"""Bytes in front of the data of a chunk."""
_CHUNK: Final = VERSION << 4 | 1

_MOST: Final = 2**53 - 1
"""The largest integer that a JavaScript client can say."""


@frozen(kw_only=True)
class Limits:
    """What a client may send; sizes in bytes.

    Attributes:
        max_chunk: The largest chunk.
        max_annotations: The most that annotations may take as JSON.
        max_annotation_depth: How deeply they may be nested.
        max_values: The most JSON values in a text frame.
    """

    max_chunk: int
    max_annotations: int = 64 << 10
    max_annotation_depth: int = 8
    max_values: int = 20_000

    @property
    def json(self) -> JSONLimits:
        """Limits of a text frame; escapes make text up to six times as long."""
        return JSONLimits(
            max_bytes=6 * self.max_annotations + (16 << 10),
            max_values=self.max_values,
            max_depth=self.max_annotation_depth + 4,
        )


# ── the shape of a message ────────────────────────────────────────────────────────────────────────────────────

_Check: TypeAlias = Callable[[Any], bool]


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _member(what: str, check: _Check, default: Any = NOTHING, *, none: bool = False, repr_: bool = True) -> Any:
    """An attribute that is a member of the JSON object; ``what`` ends the sentence "… must be …"."""
    metadata = {"what": what + (" or null" if none else ""), "check": check, "none": none}
    return field(default=default, metadata=metadata, repr=repr_)


def _text(default: Any = NOTHING, *, longest: int = 1024, none: bool = False, repr_: bool = True) -> Any:
    return _member(
        f"a string of at most {longest} characters",
        lambda value: isinstance(value, str) and len(value) <= longest,
        default,
        none=none,
        repr_=repr_,
    )


def _integer(default: Any = NOTHING, *, least: int = 0, most: int = _MOST, none: bool = False) -> Any:
    return _member(
        f"an integer from {least} to {most}",
        lambda value: _is_int(value) and least <= value <= most,
        default,
        none=none,
    )


def _flag(default: Any = NOTHING) -> Any:
    return _member("true or false", lambda value: isinstance(value, bool), default)


def _object(default: Any = NOTHING, *, none: bool = False) -> Any:
    return _member("an object", lambda value: isinstance(value, Mapping), default, none=none)


def _objects() -> Any:
    return _member(
        "a list of objects",
        lambda value: isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value),
    )


def _n() -> Any:
    return _integer()


def _id() -> Any:
    return _text(longest=1024)


# ── from the client ───────────────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class Hello:
    """The first message.

    Attributes:
        version: Of this dialect.
        key: The API key, if one is asked for; never shown.
        window: How many chunks the client would like to be asked for ahead.
    """

    version: int = _integer(least=1, most=255)
    key: str | None = _text(None, none=True, repr_=False)
    window: int = _integer(1, least=1, most=1024)


@frozen(kw_only=True)
class Initiate:
    """Declare an upload, or take one up again; this connection is asked for its chunks.

    The attributes are those of `Offer`; ``n`` is the number of the request, here and in all that follow.
    """

    n: int = _n()
    uploadid: str = _id()
    filename: str = _text()
    contenttype: str = _text(longest=64)
    filesize: int | None = _integer(None, none=True)
    sha1: str | None = _text(None, longest=64, none=True)
    mimetype: str = _text("application/octet-stream")
    annotations: Mapping[str, JSON] = _object(MappingProxyType({}))


@frozen(kw_only=True)
class Declare:
    """Tell the size in bytes, or the SHA-1, of an upload that was offered without."""

    n: int = _n()
    uploadid: str = _id()
    filesize: int | None = _integer(None, none=True)
    sha1: str | None = _text(None, longest=64, none=True)


@frozen(kw_only=True)
class Claim:
    """I hold the file of this upload: ask me for its chunks, from the offset on record."""

    n: int = _n()
    uploadid: str = _id()


@frozen(kw_only=True)
class Release:
    """Do not ask me any more."""

    n: int = _n()
    uploadid: str = _id()


@frozen(kw_only=True)
class Annotate:
    """Say something about an upload; keys are merged."""

    n: int = _n()
    uploadid: str = _id()
    annotations: Mapping[str, JSON] = _object()


@frozen(kw_only=True)
class Plan:
    """What would integration do?"""

    n: int = _n()
    uploadid: str = _id()


@frozen(kw_only=True)
class Request:
    """Ask for integration, and import, durably; answered when that is on record, and done later."""

    n: int = _n()
    uploadid: str = _id()
    trigger_import: bool = _flag(False)


@frozen(kw_only=True)
class Integrate:
    """Place the files, and import them if asked to; answered when they are placed."""

    n: int = _n()
    uploadid: str = _id()
    trigger_import: bool = _flag(False)


@frozen(kw_only=True)
class Import:
    """Import what was integrated without."""

    n: int = _n()
    uploadid: str = _id()


@frozen(kw_only=True)
class Retry:
    """Try again what failed."""

    n: int = _n()
    uploadid: str = _id()


@frozen(kw_only=True)
class Undo:
    """Take integration and import back."""

    n: int = _n()
    uploadid: str = _id()


@frozen(kw_only=True)
class Remove:
    """Away with the upload."""

    n: int = _n()
    uploadid: str = _id()


@frozen(kw_only=True)
class ListTasks:
    """All uploads, a page at a time.

    Attributes:
        n: Number of the request.
        after: The last id of the page before; empty for the first page.
        limit: The most uploads in a page.
    """

    n: int = _n()
    after: str = _text("")
    limit: int = _integer(100, least=1, most=1000)


ClientMessage: TypeAlias = (
    "Hello | Initiate | Declare | Claim | Release | Annotate | Plan | Request | Integrate | Import | Retry | Undo"
    " | Remove | ListTasks"
)

# ── from the server ───────────────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class Welcome:
    """The answer to `Hello`; sizes in bytes.

    Attributes:
        version: Of this dialect.
        chunk_size: What the server is going to ask for at once.
        max_chunk: The largest chunk.
        max_file_size: The largest file.
        max_annotations: The most that annotations may take as JSON.
        window: How many chunks it is going to ask for ahead; when half of them have come, for more.
        heartbeat: Seconds between two heartbeats at most.
    """

    version: int = _integer(least=1, most=255)
    chunk_size: int = _integer(least=1)
    max_chunk: int = _integer(least=1)
    max_file_size: int = _integer(least=1)
    max_annotations: int = _integer()
    window: int = _integer(least=1, most=1024)
    heartbeat: int = _integer(least=1)


@frozen(kw_only=True)
class Ask:
    """Send these bytes.

    Attributes:
        uploadid: The upload.
        handle: What stands for it in the header of the chunk.
        offset: Of the first byte.
        length: The most bytes to send.
    """

    uploadid: str = _id()
    handle: int = _integer(most=2**32 - 1)
    offset: int = _integer()
    length: int = _integer(least=1)


@frozen(kw_only=True)
class Stop:
    """Forget what was asked for with this handle; what is still on its way is not taken.

    Attributes:
        handle: As in the chunk that is answered, or of an `Ask` before.
        uploadid: The upload, or ``None`` when the handle stands for none.
        code: Why, for programs.
        sentence: Why, for people.
        expected: The offset on record in bytes, where that is the reason.
    """

    handle: int = _integer(most=2**32 - 1)
    uploadid: str | None = _text(None, none=True)
    code: str = _text()
    sentence: str = _text(longest=65_536)
    expected: int | None = _integer(None, none=True)


@frozen(kw_only=True)
class Told:
    """A notice; ``type`` is ``notice``.

    Attributes:
        kind: One of the specification's three notifications.
        uploadid: The upload.
        state: Its state.
        offset: Bytes on record.
        message: A sentence, or ``None``.
        code: Stable code for it, or ``None``.
        task: The whole task, or ``None`` when there is no such upload.
    """

    kind: str = _text()
    uploadid: str = _id()
    state: str = _text()
    offset: int = _integer()
    message: str | None = _text(None, longest=65_536, none=True)
    code: str | None = _text(None, none=True)
    task: Mapping[str, Any] | None = _object(None, none=True)


@frozen(kw_only=True)
class Progress:
    """Uploads that have got more bytes.

    Attributes:
        uploads: For each its ``id``, its ``uid``, ``offset``, the bytes on record, and ``filesize``, in bytes or null.
    """

    uploads: Sequence[Mapping[str, Any]] = _objects()


@frozen(kw_only=True)
class Tasks:
    """A page of uploads; the answer to `ListTasks`.

    Attributes:
        n: Number of the request.
        tasks: Whole tasks, in the order of their ids.
        more: Whether there are more after the last one.
    """

    n: int = _n()
    tasks: Sequence[Mapping[str, Any]] = _objects()
    more: bool = _flag(False)


@frozen(kw_only=True)
class Done:
    """The answer to every other request.

    Attributes:
        n: Number of the request.
        task: The upload as it is now, where there is one.
        plan: The answer to `Plan`.
    """

    n: int = _n()
    task: Mapping[str, Any] | None = _object(None, none=True)
    plan: Mapping[str, Any] | None = _object(None, none=True)


@frozen(kw_only=True)
class Error:
    """A request was refused, or a message could not be taken.

    Attributes:
        n: Number of the request; ``None`` when it could not be read.
        code: For programs.
        sentence: For people.
        argument: The member that is wrong, if one is.
        guard: The guard that said no, if one did.
        expected: The offset on record in bytes, for ``offset_mismatch``.
    """

    n: int | None = _integer(None, none=True)
    code: str = _text()
    sentence: str = _text(longest=65_536)
    argument: str | None = _text(None, none=True)
    guard: str | None = _text(None, none=True)
    expected: int | None = _integer(None, none=True)


@frozen
class Heartbeat:
    """I am still here."""


ServerMessage: TypeAlias = "Welcome | Ask | Stop | Told | Progress | Tasks | Done | Error | Heartbeat"

CLIENT: Final[Mapping[str, type]] = {
    "hello": Hello, "initiate": Initiate, "declare": Declare, "claim": Claim, "release": Release,
    "annotate": Annotate, "plan": Plan, "request": Request, "integrate": Integrate, "import": Import,
    "retry": Retry, "undo": Undo, "remove": Remove, "list": ListTasks,
}  # fmt: skip
SERVER: Final[Mapping[str, type]] = {
    "welcome": Welcome, "ask": Ask, "stop": Stop, "notice": Told, "progress": Progress, "tasks": Tasks, "done": Done,
    "error": Error, "heartbeat": Heartbeat,
}  # fmt: skip
"""The classes of messages by their ``type``: of a client, and of the server."""
_NAMES: Final[Mapping[type, str]] = {cls: name for table in (CLIENT, SERVER) for name, cls in table.items()}


# ── text frames ───────────────────────────────────────────────────────────────────────────────────────────────


def parse_client(text: str | bytes, limits: Limits) -> ClientMessage:
    """Read a text frame of a client.

    Raises:
        MessageError: ``too_large``, ``too_deep``, ``invalid_json``, ``unknown_type``, ``invalid_argument``; with the
            number of the request where it could be read.
    """
    message: ClientMessage = _parse(text, limits.json, CLIENT)
    return message


def parse_server(text: str | bytes, *, max_bytes: int = 256 << 20) -> ServerMessage:
    """Read a text frame of a server.

    Raises:
        MessageError: As `parse_client`.
    """
    limits = JSONLimits(max_bytes=max_bytes, max_values=max_bytes, max_depth=64)
    message: ServerMessage = _parse(text, limits, SERVER)
    return message


def _parse(text: str | bytes, limits: JSONLimits, table: Mapping[str, type]) -> Any:
    document = parse_object(text, limits)
    name = document.pop("type", None)
    n = document.get("n")
    request = n if _is_int(n) and 0 <= n <= _MOST else None
    cls = table.get(name) if isinstance(name, str) else None
    if cls is None:
        raise MessageError(f"There is no message of type {str(name)[:40]!a}.", code="unknown_type", request=request)
    values: dict[str, Any] = {}
    member: Attribute[Any]
    for member in fields(cls):
        if member.name in document:
            value = document.pop(member.name)
            if not (member.metadata["check"](value) or (value is None and member.metadata["none"])):
                raise _invalid(member.name, f"must be {member.metadata['what']}", request)
            values[member.name] = value
        elif member.default is NOTHING:
            raise _invalid(member.name, "is missing", request)
    if document:
        raise _invalid(ascii(next(iter(document))[:40]), f"is no member of a message of type {name}", request)
    return cls(**values)


def _invalid(name: str, what: str, request: int | None) -> MessageError:
    return MessageError(f"{name} {what}.", code="invalid_argument", argument=name, request=request)


def encode(message: ClientMessage | ServerMessage) -> Message:
    """A text frame; the newest heartbeat stands for older ones.

    Raises:
        TypeError: An attribute is no JSON.
    """
    kind = type(message)
    members = {member.name: thaw(getattr(message, member.name)) for member in fields(kind)}
    payload = orjson.dumps({"type": _NAMES[kind], **members})
    return Message(payload, "heartbeat" if kind is Heartbeat else None)


def encode_notice(notice: Notice, *, task: bytes | None = None) -> Message:
    """A notice as every listener hears it, encoded once.

    Args:
        notice: What happened.
        task: From `messages.encode_task`, if it was made earlier.
    """
    document = None
    if notice.task is not None:
        document = orjson.Fragment(task if task is not None else encode_task(notice.task))
    told = {
        "type": "notice",
        "kind": notice.kind.value,
        "uploadid": _sendable(notice.uploadid),
        "state": notice.state.value,
        "offset": notice.offset,
        "message": None if notice.message is None else _sendable(notice.message),
        "code": notice.code,
        "task": document,
    }
    return Message(orjson.dumps(told), coalescing_key(notice))


def encode_progress(notices: Iterable[Notice]) -> Message:
    """The newest requests for chunks of several uploads, as every listener hears them: a `Progress`."""
    return Message(orjson.dumps({"type": "progress", "uploads": moved(notices)}))


def encode_done(n: int, *, task: bytes | None = None, plan: bytes | None = None) -> Message:
    """A `Done` from JSON that is there already: a task from `messages.encode_task`, a plan."""
    answer = {"type": "done", "n": n, "task": _fragment(task), "plan": _fragment(plan)}
    return Message(orjson.dumps(answer))


def encode_tasks(n: int, tasks: Sequence[bytes], *, more: bool) -> Message:
    """A `Tasks` from what `messages.encode_task` made."""
    return Message(
        orjson.dumps({"type": "tasks", "n": n, "tasks": [orjson.Fragment(task) for task in tasks], "more": more})
    )


def _fragment(value: bytes | None) -> orjson.Fragment | None:
    return None if value is None else orjson.Fragment(value)


def error_of(error: UploadError, n: int | None = None) -> Error:
    """An error of the engine, or of this codec, as a message.

    Args:
        error: What happened.
        n: Number of the request; a `MessageError` knows it itself.
    """
    codec = error if isinstance(error, MessageError) else None
    return Error(
        n=codec.request if codec is not None and n is None else n,
        code=error.code,
        sentence=_sendable(error.sentence),
        argument=None if codec is None else codec.argument,
        guard=error.guard,
        expected=error.expected if isinstance(error, OffsetMismatch) else None,
    )


def _sendable(text: str) -> str:
    """Text without lone surrogates, which JSON cannot carry."""
    return text.encode("utf-8", "replace").decode()


# ── binary frames ─────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Chunk:
    """Bytes of an upload.

    Attributes:
        handle: Of an `Ask`.
        offset: Where the bytes belong.
        data: A view of the frame, nothing is copied; at least one byte.
    """

    handle: int
    offset: int
    data: memoryview = field(repr=False)


def parse_chunk(frame: bytes | bytearray | memoryview, limits: Limits) -> Chunk:
    """Read a binary frame of a client.

    Raises:
        MessageError: ``invalid_frame``, ``unsupported_version``.
        TooLarge: ``chunk_too_large``.
    """
    view = memoryview(frame)
    if len(view) <= HEADER_SIZE:
        raise MessageError(
            f"A chunk has a header of {HEADER_SIZE} bytes, and at least one byte of data.", code="invalid_frame"
        )
    kind, handle, offset = _HEADER.unpack_from(view)
    if kind >> 4 != VERSION:
        raise MessageError(f"A frame of version {kind >> 4}; this is version {VERSION}.", code="unsupported_version")
    if kind != _CHUNK:
        raise MessageError(f"There is no frame of kind {kind & 15}.", code="invalid_frame")
    data = view[HEADER_SIZE:]
    if len(data) > limits.max_chunk:
        raise TooLarge(f"The chunk has {len(data):,} bytes, {limits.max_chunk:,} are allowed.", code="chunk_too_large")
    return Chunk(handle, offset, data)


def chunk_header(handle: int, offset: int) -> bytes:
    """The header of a chunk, for clients that send header and bytes as two fragments of one frame."""
    return _HEADER.pack(_CHUNK, handle, offset)


def encode_chunk(handle: int, offset: int, data: bytes | bytearray | memoryview) -> bytes:
    """A binary frame."""
    return b"".join((chunk_header(handle, offset), data))
