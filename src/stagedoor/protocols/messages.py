"""What the two dialects of the WebSocket share: reading JSON from strangers, and tasks as clients may see them."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import orjson
from attrs import frozen

from ..errors import UploadError
from ..notices import Notice, NoticeKind
from ..tasks import UploadTask, to_dict

__all__ = [
    "JSONLimits",
    "Message",
    "MessageError",
    "coalescing_key",
    "encode_task",
    "key_matches",
    "moved",
    "parse_object",
]


class MessageError(UploadError):
    """A message that cannot be taken.

    Attributes:
        argument: The name of the argument that is wrong, or ``None``.
        request: The number of the request, where it could be read.
    """

    default_code = "invalid_message"

    def __init__(
        self, sentence: str, *, code: str | None = None, argument: str | None = None, request: int | None = None
    ) -> None:
        super().__init__(sentence, code=code)
        self.argument = argument
        self.request = request


@frozen
class Message:
    """One message to a client, encoded once for all that hear it.

    Attributes:
        payload: UTF-8 JSON, or bytes.
        key: A newer message with the same key stands for an older one that still waits in a queue; ``None`` for
            messages of which none may be left out.
        binary: Whether it goes into a binary frame.
    """

    payload: bytes
    key: str | None = None
    binary: bool = False

    @cached_property
    def text(self) -> str:
        """The payload of a text frame, decoded once for all that hear it."""
        return self.payload.decode()


@frozen(kw_only=True)
class JSONLimits:
    """How much JSON a stranger may send.

    Attributes:
        max_bytes: The longest text.
        max_values: The most values in it; counted by the characters that separate them, before it is parsed, because
            a small text can become many objects.
        max_depth: How deeply lists and objects may be nested.
    """

    max_bytes: int
    max_values: int = 20_000
    max_depth: int = 16


def parse_object(text: str | bytes, limits: JSONLimits) -> dict[str, Any]:
    """A JSON object from a stranger.

    Args:
        text: What came; of a ``str`` the characters are counted, not the bytes.
        limits: How much it may be.

    Raises:
        MessageError: ``too_large``, ``too_deep``, ``invalid_json``.
    """
    if len(text) > limits.max_bytes:
        raise MessageError(
            f"The message has more than {limits.max_bytes:,} bytes. Send less at once.", code="too_large"
        )
    separators = sum(map(text.count, ",[{")) if isinstance(text, str) else sum(map(text.count, (b",", b"[", b"{")))
    if separators > limits.max_values:
        raise MessageError(f"The message has more than {limits.max_values:,} values.", code="too_large")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MessageError(f"The message is no JSON: {error}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise MessageError("The message is no JSON object.", code="invalid_json")
    _check_depth(value, limits.max_depth)
    return value


def _check_depth(value: dict[str, Any], max_depth: int) -> None:
    level: list[Any] = [value]
    for _ in range(max_depth):
        inner: list[Any] = []
        for container in level:
            inner += [
                item
                for item in (container.values() if isinstance(container, dict) else container)
                if isinstance(item, dict | list)
            ]
        if not inner:
            return
        level = inner
    raise MessageError(f"The message is nested more than {max_depth} deep.", code="too_deep")


def encode_task(task: UploadTask) -> bytes:
    """A task as clients may see it: its document, every path relative to its directory.

    The document of a task that MusicDB left has absolute paths of the server among the keys that nobody here knows;
    those keys, and the token of whoever works on the task, stay here.
    """
    document = to_dict(task)
    del document["foreign"]
    if document["step"] is not None:
        del document["step"]["token"]
    return orjson.dumps(document)


def coalescing_key(notice: Notice) -> str | None:
    """The `Message.key` of a notice: requests for chunks, from which clients show progress, replace each other.

    Changes of state, and errors, are never left out.
    """
    return f"progress {notice.uploadid}" if notice.kind is NoticeKind.CHUNK_REQUEST else None


def moved(notices: Iterable[Notice]) -> list[dict[str, str | int | None]]:
    """What a board shows of uploads that have got more bytes and are the same otherwise, as JSON values."""
    return [
        {"id": task.id, "uid": task.uid, "offset": task.offset, "filesize": task.filesize}
        for notice in notices
        if (task := notice.task) is not None
    ]


def key_matches(expected: str | None, given: str | None) -> bool:
    """Whether an API key is the right one; the time that it takes says nothing about the key.

    Args:
        expected: The configured key; ``None`` when none is asked for.
        given: What a client sent.
    """
    if expected is None:
        return True
    wanted, offered = expected.encode("utf-8", "replace"), (given or "").encode("utf-8", "replace")
    return hmac.compare_digest(wanted, offered) and given is not None
