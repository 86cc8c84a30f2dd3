"""The JSON dialect of MusicDB's own web client.

`parse_packet` reads a packet, `parse_call` makes a typed call of it, `answer` encodes what a function returned, and
`encode_notice` what happened, once for all listeners. The list of uploads that goes with most notifications is put in
when they are sent (`Listing`). A packet is an object with ``method``, ``fncname``, ``fncsig``,
``arguments``, ``pass`` and ``key``; a chunk is a string of hexadecimal digits and carries no offset.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias

import orjson
from attrs import field, frozen

from ..errors import TooLarge
from ..lifecycle import State, Trigger
from ..notices import Notice, NoticeKind
from ..tasks import JSON, Annotations, Offer, UploadTask, check_annotations, thaw
from .messages import JSONLimits, Message, MessageError, coalescing_key, encode_task, key_matches, parse_object

__all__ = [
    "HEARTBEAT",
    "AnnotateUpload",
    "Call",
    "GetUploads",
    "InitiateUpload",
    "IntegrateUpload",
    "Limits",
    "Listing",
    "Method",
    "Packet",
    "RemoveUpload",
    "UploadChunk",
    "answer",
    "broadcast_uploads",
    "encode_notice",
    "encode_uploads",
    "key_matches",
    "parse_call",
    "parse_packet",
    "waits_for_annotation",
]


@frozen(kw_only=True)
class Limits:
    """What a client may send; sizes in bytes.

    Attributes:
        max_chunk: The largest chunk, before it is made hexadecimal.
        max_annotations: The most that annotations may take as JSON.
        max_annotation_depth: How deeply they may be nested.
        max_values: The most JSON values in a packet.
    """

    max_chunk: int
    max_annotations: int = 64 << 10
    max_annotation_depth: int = 8
    max_values: int = 20_000

    @property
    def json(self) -> JSONLimits:
        """Limits of a packet as JSON; escapes make text up to six times as long."""
        return JSONLimits(
            max_bytes=2 * self.max_chunk + 6 * self.max_annotations + _ENVELOPE,
            max_values=self.max_values,
            max_depth=self.max_annotation_depth + 4,
        )


_ENVELOPE: Final = 16 << 10
_LONGEST_NAME: Final = 64


class Method(StrEnum):
    """What a client expects of a packet."""

    CALL = "call"
    REQUEST = "request"
    BROADCAST = "broadcast"


@frozen
class Packet:
    """A packet of a client.

    Attributes:
        method: ``call`` is not answered, ``request`` is, to the caller; the answer to ``broadcast`` goes to everybody.
        fncname: The function.
        fncsig: Goes back with the answer as it came.
        arguments: Of the function.
        pass_: Goes back with the answer as it came.
        key: The API key; never shown.
    """

    method: Method
    fncname: str
    fncsig: JSON = None
    arguments: Mapping[str, Any] = field(factory=dict, repr=False)
    pass_: JSON = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)


def parse_packet(text: str | bytes, limits: Limits) -> Packet:
    """Read a packet.

    Raises:
        MessageError: ``too_large``, ``too_deep``, ``invalid_json``, or ``invalid_packet`` with the name of the part.
    """
    document = parse_object(text, limits.json)
    method, fncname = document.get("method"), document.get("fncname")
    if method not in tuple(Method):
        raise _bad("method", "must be call, request or broadcast")
    if not isinstance(fncname, str) or not 0 < len(fncname) <= _LONGEST_NAME:
        raise _bad("fncname", f"must be a string of 1 to {_LONGEST_NAME} characters")
    arguments = document.get("arguments")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise _bad("arguments", "must be an object")
    key = document.get("key")
    if key is not None and not isinstance(key, str):
        raise _bad("key", "must be a string")
    return Packet(Method(method), fncname, document.get("fncsig"), arguments, document.get("pass"), key)


def _bad(name: str, what: str, code: str = "invalid_packet") -> MessageError:
    return MessageError(f"{name} {what}.", code=code, argument=name)


# ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class InitiateUpload:
    """Declare an upload, or take one up again."""

    offer: Offer


@frozen
class UploadChunk:
    """The chunk that was asked for last."""

    uploadid: str
    data: bytes = field(repr=False)


@frozen
class GetUploads:
    """All uploads."""


@frozen
class AnnotateUpload:
    """Say something about an upload."""

    uploadid: str
    annotations: Annotations


@frozen
class IntegrateUpload:
    """Place the files, and import them if asked to."""

    uploadid: str
    trigger_import: bool


@frozen
class RemoveUpload:
    """Away with an upload."""

    uploadid: str


Call: TypeAlias = "InitiateUpload | UploadChunk | GetUploads | AnnotateUpload | IntegrateUpload | RemoveUpload"


def parse_call(packet: Packet, limits: Limits) -> Call:
    """The typed call that a packet makes.

    An ``uploadid`` may be any string: there is simply no upload with an impossible one, and the engine says so.

    Raises:
        MessageError: ``unknown_function``, or ``invalid_argument`` with its name.
        TooLarge: ``chunk_too_large``, ``annotations_too_large``, ``annotations_too_deep``.
        Refused: A declaration that `Offer`, or an annotation that `check_annotations`, does not take.
    """
    arguments = packet.arguments
    match packet.fncname:
        case "InitiateUpload":
            return _initiate(arguments)
        case "UploadChunk":
            return _chunk(arguments, limits)
        case "GetUploads":
            return GetUploads()
        case "AnnotateUpload":
            annotations = check_annotations(
                {key: value for key, value in arguments.items() if key != "uploadid"},
                max_bytes=limits.max_annotations,
                max_depth=limits.max_annotation_depth,
            )
            return AnnotateUpload(_text(arguments, "uploadid"), annotations)
        case "IntegrateUpload":
            trigger_import = arguments.get("triggerimport")
            if not isinstance(trigger_import, bool):
                raise _bad("triggerimport", "must be true or false", "invalid_argument")
            return IntegrateUpload(_text(arguments, "uploadid"), trigger_import)
        case "RemoveUpload":
            return RemoveUpload(_text(arguments, "uploadid"))
    raise MessageError(f"There is no function {packet.fncname!a} here.", code="unknown_function")


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise _bad(name, "must be a string", "invalid_argument")
    return value


def _initiate(arguments: Mapping[str, Any]) -> InitiateUpload:
    filesize = arguments.get("filesize")
    if isinstance(filesize, bool) or not isinstance(filesize, int):
        raise _bad("filesize", "must be an integer", "invalid_argument")
    return InitiateUpload(
        Offer(
            _text(arguments, "uploadid"),
            filename=_text(arguments, "filename"),
            contenttype=_text(arguments, "contenttype"),
            filesize=filesize,
            sha1=_text(arguments, "checksum"),
            mimetype=_text(arguments, "mimetype"),
        )
    )


def _chunk(arguments: Mapping[str, Any], limits: Limits) -> UploadChunk:
    uploadid, digits = _text(arguments, "uploadid"), _text(arguments, "chunkdata")
    if len(digits) > 2 * limits.max_chunk:
        raise TooLarge(
            f"The chunk has {len(digits) // 2:,} bytes, {limits.max_chunk:,} are allowed.", code="chunk_too_large"
        )
    try:
        return UploadChunk(uploadid, binascii.a2b_hex(digits))
    except ValueError:  # binascii.Error, and text that is not ASCII
        raise _bad("chunkdata", "must be an even number of hexadecimal digits", "invalid_argument") from None


def waits_for_annotation(task: UploadTask) -> bool:
    """Whether MusicDB's client has to annotate an upload before it is integrated: its import was undone.

    That client integrates an artwork as soon as it hears ``preprocessed``, and would undo the undo.
    """
    for line in reversed(task.history):
        if line.trigger in (Trigger.ANNOTATE, Trigger.UNDO):
            return line.trigger == Trigger.UNDO
    return False


# ── answers and notices ───────────────────────────────────────────────────────────────────────────────────────


@frozen(eq=False)
class Listing(Message):
    """A message with a list of uploads, without the list: it is large, and nobody wants one of yesterday.

    Attributes:
        gap: Where it belongs in the payload.
    """

    gap: int = 0

    def filled(self, uploadslist: bytes) -> bytes:
        """The payload with what `encode_uploads` made."""
        return b"".join((self.payload[: self.gap], uploadslist, self.payload[self.gap :]))


def broadcast_uploads(packet: Packet) -> Listing:
    """What ``GetUploads`` returned, for everybody."""
    head = _encode("broadcast", packet.fncname, packet.fncsig, None, None).removesuffix(_NOTHING)
    return Listing(b'%b,"pass":%b}' % (head, orjson.dumps(packet.pass_)), gap=len(head))


def answer(packet: Packet, result: JSON | bytes) -> Message | None:
    """What a function returned, for the caller of a ``request`` or for everybody after a ``broadcast``.

    Args:
        packet: What is answered.
        result: JSON, or JSON that is encoded already (from `encode_uploads`).

    Returns:
        ``None`` for a ``call``, which is not answered.
    """
    if packet.method is Method.CALL:
        return None
    value = orjson.Fragment(result) if isinstance(result, bytes) else thaw(result)
    method = "response" if packet.method is Method.REQUEST else "broadcast"
    return Message(_encode(method, packet.fncname, packet.fncsig, value, packet.pass_))


def encode_uploads(tasks: Iterable[UploadTask | tuple[str, bytes]]) -> bytes:
    """What ``GetUploads`` returns: tasks by their content type, as JSON.

    Args:
        tasks: Tasks, or pairs of a content type and what `messages.encode_task` made of a task earlier.
    """
    lists: dict[str, list[bytes]] = {"videos": [], "albums": [], "artworks": []}
    for task in tasks:
        contenttype, document = task if isinstance(task, tuple) else (task.contenttype, encode_task(task))
        lists.setdefault(f"{contenttype}s", []).append(document)
    return b"{" + b",".join(b'"%b":[%b]' % (name.encode(), b",".join(found)) for name, found in lists.items()) + b"}"


def encode_notice(notice: Notice, *, chunk_size: int, task: bytes | None = None) -> Message:
    """A notice as every listener hears it; everything but a ``ChunkRequest`` is a `Listing`.

    Args:
        notice: What happened.
        chunk_size: The chunk size that clients are advised to use; the specification has it in every notification.
        task: From `messages.encode_task`, if it was made earlier.
    """
    now = notice.task
    size = notice.chunksize or (0 if now is None else chunk_size)
    if now is not None and now.filesize is not None and now.state is State.WAITFORCHUNK:
        size = min(size, now.filesize - now.offset)
    document = None if now is None else orjson.Fragment(task if task is not None else encode_task(now))
    data: dict[str, Any] = {
        "uploadid": _unicode(notice.uploadid) or None,
        "offset": notice.offset,
        "chunksize": size,
        "state": notice.state.value,
        "message": None if notice.message is None else _unicode(notice.message),
        "uploadtask": document,
    }
    encoded = _encode("notification", "MusicDB:Upload", notice.kind.value, data, None)
    if notice.kind is NoticeKind.CHUNK_REQUEST:
        return Message(encoded, coalescing_key(notice))
    head = encoded.removesuffix(_END) + b',"uploadslist":'
    return Listing(head + _END, gap=len(head))


def _encode(method: str, fncname: str, fncsig: object, arguments: object, pass_: object) -> bytes:
    return orjson.dumps({"method": method, "fncname": fncname, "fncsig": fncsig, "arguments": arguments, "pass": pass_})


_END: Final = b'},"pass":null}'
"""Of a notification, behind the last member of its data."""
_NOTHING: Final = b'null,"pass":null}'
"""Of a message whose arguments are nothing."""


def _unicode(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


HEARTBEAT: Final = Message(_encode("notification", "MusicDB:Heartbeat", "Heartbeat", {}, None), "heartbeat")
"""Sent every few seconds: a client that hears nothing for 5 s reconnects."""
