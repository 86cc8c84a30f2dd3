"""The server's API as conversations: what both clients have alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import orjson
from attrs import frozen

from ..errors import UploadError
from .steps import (
    JSON,
    Answer,
    Ask,
    Cut,
    Patience,
    Steps,
    Unreachable,
    answered,
    json_ask,
    json_of,
    persist,
)

__all__ = [
    "Event",
    "EventReader",
    "Page",
    "RemoteUpload",
    "act",
    "annotate",
    "get",
    "initiate",
    "known",
    "look",
    "page",
    "plan",
    "remove",
]

T = TypeVar("T")

_ACTIONS: Final = frozenset({"request", "integrate", "start_import", "retry", "undo"})


@frozen(kw_only=True)
class RemoteUpload:
    """An upload as a server tells of it.

    Attributes:
        id: Of the upload.
        state: See the life cycle.
        contenttype: ``video``, ``album``, ``artwork`` or a registered one.
        filename: As declared.
        filesize: In bytes; ``None`` while it is not known.
        offset: Bytes on record.
        revision: Rises by one with each change.
        message: The reason of the last failure.
        code: A stable code for it.
        document: All that the server told.
    """

    id: str
    state: str
    contenttype: str
    filename: str
    filesize: int | None
    offset: int
    revision: int
    message: str | None
    code: str | None
    document: Mapping[str, JSON]

    @classmethod
    def of(cls, document: Mapping[str, JSON]) -> RemoteUpload:
        """From a whole task, or from a line of a list."""
        return cls(
            id=document["id"],
            state=document["state"],
            contenttype=document["contenttype"],
            filename=document["sourcefilename"] if "sourcefilename" in document else document["filename"],
            filesize=document["filesize"],
            offset=document["offset"],
            revision=document["revision"],
            message=document.get("message"),
            code=document.get("code"),
            document=document,
        )


@frozen
class Page:
    """A page of the list.

    Attributes:
        uploads: In order.
        next: Where the next page begins; ``None`` when this is the last one.
    """

    uploads: tuple[RemoteUpload, ...]
    next: str | None


def _path(uploadid: str, rest: str = "") -> str:
    return f"api/uploads/{quote(uploadid, safe='')}{rest}"


def look(url: str, patience: Patience) -> Steps[dict[str, JSON]]:
    """Read a document."""
    return json_of(answered((yield from persist(Ask(method="GET", url=url), patience))))


def get(uploadid: str, patience: Patience) -> Steps[RemoteUpload]:
    """One upload."""
    return RemoteUpload.of((yield from look(_path(uploadid), patience)))


def page(
    cursor: str | None, filters: Mapping[str, str | Sequence[str] | int | None], patience: Patience
) -> Steps[Page]:
    """A page of the list."""
    said = {name: value for name, value in filters.items() if value is not None}
    if cursor is not None:
        said["cursor"] = cursor
    query = urlencode(
        {name: value if isinstance(value, str | int) else ",".join(value) for name, value in said.items()}
    )
    found = yield from look(f"api/uploads?{query}" if query else "api/uploads", patience)
    return Page(tuple(map(RemoteUpload.of, found["uploads"])), found["next"])


def plan(uploadid: str, patience: Patience) -> Steps[dict[str, JSON]]:
    """What integration would do."""
    return (yield from look(_path(uploadid, "/plan"), patience))


def known(sha1: str, patience: Patience) -> Steps[tuple[str, ...]]:
    """Where the library has a file with this SHA-1."""
    found = yield from look(f"api/known/{quote(sha1, safe='')}", patience)
    return tuple(map(str, found["known"]))


def initiate(offer: Mapping[str, JSON], patience: Patience) -> Steps[RemoteUpload]:
    """Declare an upload; the same offer again finds the one that it made."""
    ask = json_ask("POST", "api/uploads", dict(offer))
    found = json_of(answered((yield from persist(ask, patience))))
    return RemoteUpload.of(found["upload"])


def annotate(uploadid: str, annotations: Mapping[str, JSON], patience: Patience) -> Steps[RemoteUpload]:
    """Say something; twice is as good as once."""
    ask = json_ask("PATCH", _path(uploadid), {"annotations": dict(annotations)})
    return RemoteUpload.of(json_of(answered((yield from persist(ask, patience)))))


def act(uploadid: str, action: str, document: Mapping[str, JSON]) -> Steps[RemoteUpload]:
    """Fire a trigger. Once: whether a lost answer was a yes is for the caller to look up."""
    assert action in _ACTIONS
    answer = yield from _once(json_ask("POST", _path(uploadid, f"/{action}"), dict(document)))
    return RemoteUpload.of(json_of(answered(answer)))


def remove(uploadid: str) -> Steps[None]:
    """Remove an upload."""
    answered((yield from _once(Ask(method="DELETE", url=_path(uploadid)))))


def _once(ask: Ask) -> Steps[Answer]:
    answer: Answer | Cut = yield ask
    if isinstance(answer, Cut):
        raise Unreachable(
            f"The server does not answer: {answer.why}. Look whether it has done it before you try again."
        )
    return answer


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Event:
    """Something that happened.

    Attributes:
        name: What kind of event.
        data: What it tells.
        id: From where to go on after it; ``None`` when the server gave none.
    """

    name: str
    data: JSON
    id: str | None


class EventReader:
    """Reads Server-Sent Events from lines (HTML Living Standard, 9.2.6).

    Attributes:
        last: Id of the last event, for ``Last-Event-ID``.
        retry: Seconds before connecting again, if the server said so.
    """

    def __init__(self) -> None:
        self.last: str | None = None
        self.retry: float | None = None
        self._name = ""
        self._data: list[str] = []

    def restart(self) -> None:
        """The connection is a new one: what was half read is gone."""
        self._name, self._data = "", []

    def read(self, line: str) -> Iterator[Event]:
        """The event that a line, without its end, completes, if it does."""
        if not line:
            if self._data:
                yield Event(self._name or "message", _document("\n".join(self._data)), self.last)
            self.restart()
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self.last = value
            case "retry" if value.isdecimal():
                self.retry = int(value) / 1000


def _document(text: str) -> JSON:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise UploadError(f"The server sent an event that is no JSON: {text[:80]!a}.", code="no_json") from None
