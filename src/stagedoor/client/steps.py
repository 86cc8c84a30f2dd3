"""How a file gets to a server, step by step and without I/O: the same for both clients, and for tests.

A conversation is a generator. It yields what is to be done next (`Ask` the server, `Pause`, do some `Work`) and is sent
what came of it, so that nothing in here knows whether it runs in a thread or on an event loop.

The file is read twice. Its SHA-1 is computed before the first byte is sent: so the server verifies what it stores
against what is on *this* disk, the same file is found again after a restart of either side (the SHA-1 is the upload's
id), and a file that the server has already need not be sent. Reading costs a second a gigabyte: no network notices.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import random
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

import orjson
from attrs import frozen

from ..errors import UploadError

__all__ = [
    "Answer",
    "Ask",
    "Cut",
    "Effect",
    "FileChanged",
    "Local",
    "Part",
    "Patience",
    "Pause",
    "Progress",
    "RemoteError",
    "Steps",
    "Unreachable",
    "Uploaded",
    "Waiting",
    "Work",
    "answered",
    "json_ask",
    "json_of",
    "persist",
    "send_file",
]

T = TypeVar("T")

JSON: TypeAlias = Any
"""What JSON can say."""

_BLOCK: Final = 1 << 20
_TUS: Final = {"Tus-Resumable": "1.0.0"}
_PASSING: Final = frozenset({408, 423, 425, 429, 500, 502, 503, 504, 507})
"""Answers after which the same request may succeed later."""
_GONE: Final = frozenset({403, 404, 410})
"""Answers after which an upload has to begin anew (tus 1.0.0, HEAD)."""


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────


class RemoteError(UploadError):
    """The server says no.

    Attributes:
        code: The server's stable code, ``http_NNN`` when an answer has none (it came from a proxy, say).
        status: The status number of the answer.
        document: The whole problem document, or an empty one.
    """

    default_code = "remote_error"

    def __init__(self, sentence: str, *, code: str, status: int, document: Mapping[str, JSON]) -> None:
        super().__init__(sentence, code=code)
        self.status = status
        self.document = document


class Unreachable(UploadError):
    """The server does not answer. What it has received so far is kept there."""

    default_code = "unreachable"


class FileChanged(UploadError):
    """The file is not the one any more that was begun with."""

    default_code = "file_changed"


# ── what a conversation asks for, and gets ────────────────────────────────────────────────────────────────────


@frozen
class Part:
    """A part of a file, to be sent as a body.

    Attributes:
        path: Of the file.
        offset: Where it begins, in bytes.
        size: In bytes.
        sent: Called after each block with the bytes of the part that are on their way.
    """

    path: str
    offset: int
    size: int
    sent: Callable[[int], None]

    def blocks(self) -> Iterator[bytes]:
        """Its bytes; fewer if the file has become shorter."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            done = 0
            while done < self.size:
                block = file.read(min(_BLOCK, self.size - done))
                if not block:
                    return
                yield block
                done += len(block)
                self.sent(done)


@frozen(kw_only=True)
class Ask:
    """A request.

    Attributes:
        method: In capitals.
        url: Relative to the server's address, or absolute.
        headers: Without the key.
        body: Bytes, a part of a file, or nothing.
    """

    method: str
    url: str
    headers: Mapping[str, str] = {}
    body: bytes | Part | None = None


@frozen
class Answer:
    """What a server answered.

    Attributes:
        status: The number.
        headers: By lower-case name.
        body: All of it.
        url: Of the request, absolute.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@frozen
class Cut:
    """There was no answer: no connection, or it broke.

    Attributes:
        why: For people.
    """

    why: str


@frozen
class Waiting:
    """The server does not answer, or cannot now; it is going to be asked again.

    Attributes:
        why: A sentence for people.
        attempt: How many have failed in a row.
        seconds: Until the next one.
    """

    why: str
    attempt: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.why} Trying again in {self.seconds:.1f} s."


@frozen
class Pause:
    """Do nothing for so many seconds, and tell why."""

    seconds: float
    waiting: Waiting


@frozen
class Work:
    """Call something that reads a disk; what it returns is sent back."""

    function: Callable[[], object]


Effect: TypeAlias = "Ask | Pause | Work"
Steps: TypeAlias = "Generator[Effect, Any, T]"
"""A conversation that ends with a value."""


@frozen
class Progress:
    """How far a file has come.

    Attributes:
        phase: ``reading`` for the SHA-1, ``sending``, or ``waiting`` for a server that does not answer.
        done: Bytes.
        total: Bytes of the file.
    """

    phase: Literal["reading", "sending", "waiting"]
    done: int
    total: int


@frozen(kw_only=True)
class Patience:
    """How long a client tries.

    Attributes:
        attempts: In a row, without a byte of progress, before it gives up.
        base: Seconds before the second attempt; each pause is twice as long as the one before.
        most: Seconds; no pause is longer.
        random: Numbers from 0 to 1: many clients that lost one server must not come back as one.
    """

    attempts: int = 10
    base: float = 0.5
    most: float = 30.0
    random: Callable[[], float] = random.random

    def pause(self, attempt: int, answer: Answer | Cut) -> Pause:
        """What to do before the next attempt, after the n-th (from 1) has failed."""
        seconds = min(self.most, self.base * 2.0 ** (attempt - 1)) * (0.5 + 0.5 * self.random())
        said = answer.headers.get("retry-after", "") if isinstance(answer, Answer) else ""
        seconds = max(seconds, min(self.most, float(said)) if said.isdecimal() else 0.0)
        why = f"The server does not answer: {answer.why}." if isinstance(answer, Cut) else _no(answer).sentence
        return Pause(seconds, Waiting(why, attempt, seconds))

    @staticmethod
    def is_passing(answer: Answer) -> bool:
        """Whether the same request may succeed later."""
        return answer.status in _PASSING

    @staticmethod
    def given_up(last: Answer | Cut) -> UploadError:
        """What to raise when there were enough attempts."""
        return _no(last)


# ── one request ───────────────────────────────────────────────────────────────────────────────────────────────


def persist(ask: Ask, patience: Patience) -> Steps[Answer]:
    """Ask until there is an answer that counts.

    Raises:
        Unreachable: There is none.
        RemoteError: The server is there, and says again and again that it cannot now.
    """
    attempt = 0
    while True:
        answer: Answer | Cut = yield ask
        if isinstance(answer, Answer) and not patience.is_passing(answer):
            return answer
        attempt += 1
        if attempt >= patience.attempts:
            raise _no(answer)
        yield patience.pause(attempt, answer)


def answered(answer: Answer) -> Answer:
    """The answer, if it is no refusal.

    Raises:
        RemoteError: It is.
    """
    if answer.status >= 300:
        raise _no(answer)
    return answer


def _no(answer: Answer | Cut) -> UploadError:
    if isinstance(answer, Cut):
        return Unreachable(f"The server does not answer: {answer.why}. What it has is kept; try again later.")
    document: Mapping[str, JSON] = {}
    try:
        found = orjson.loads(answer.body)
        document = found if isinstance(found, dict) else {}
    except orjson.JSONDecodeError:
        pass
    code, sentence = document.get("code"), document.get("detail")
    return RemoteError(
        sentence if isinstance(sentence, str) and sentence else f"The server answered {answer.status}.",
        code=code if isinstance(code, str) and code else f"http_{answer.status}",
        status=answer.status,
        document=document,
    )


# ── one file ──────────────────────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class Local:
    """A file that is to be sent.

    Attributes:
        path: Where it is.
        filename: What it is called there; the server shows it.
        id: Of the upload; the SHA-1 of the file when not given.
        contenttype: ``video``, ``album``, ``artwork`` or a registered one; ``None`` lets the server guess.
        mimetype: Its MIME type; by the name when not given.
        annotations: What is to be known about it.
        chunk: Bytes of a request at most: proxies have limits.
        report: Called with the progress.
    """

    path: str
    filename: str
    id: str | None = None
    contenttype: str | None = None
    mimetype: str | None = None
    annotations: Mapping[str, JSON] = {}
    chunk: int = 16 << 20
    report: Callable[[Progress], None] = lambda progress: None


@frozen(kw_only=True)
class Uploaded:
    """A file that is on the server, whole and verified.

    Attributes:
        id: Of the upload.
        state: Of the upload as it was heard of last, such as ``uploadcomplete``.
        sha1: Of the file, as 40 hexadecimal digits.
        size: In bytes.
        resumed: The offset from which it went on; 0 for one that was begun now, ``size`` when nothing had to be sent.
        known: Where the library had a file with this SHA-1 before; advice.
    """

    id: str
    state: str
    sha1: str
    size: int
    resumed: int
    known: tuple[str, ...]


@frozen
class _Facts:
    size: int
    sha1: str
    stamp: tuple[int, int, int]


@frozen
class _Begun:
    """An upload on the server, as the answer to its declaration tells."""

    id: str
    state: str
    offset: int
    known: tuple[str, ...] = ()


def send_file(local: Local, patience: Patience) -> Steps[Uploaded]:
    """Bring a file to the server, from wherever an earlier attempt has come to: declared by the API, sent over tus.

    The upload's id is the SHA-1 of the file, as MusicDB's own client has it, unless another is wanted. So nothing has
    to be remembered here for an upload to go on.

    Args:
        local: The file.
        patience: How long to try.

    Raises:
        Unreachable, RemoteError: As `persist`.
        FileChanged: It was written to meanwhile.
        OSError: It cannot be read.
    """
    facts: _Facts = yield Work(lambda: _read(local))
    begun = yield from _declare(local, facts, patience)
    resumed = offset = begun.offset
    failures = 0
    while True:
        local.report(Progress("sending", offset, facts.size))
        if offset >= facts.size:
            break
        yield Work(lambda: _check_unchanged(local, facts))
        answer: Answer | Cut = yield _patch(local, facts, begun.id, offset)
        if isinstance(answer, Answer):
            said = answer.headers.get("upload-offset", "")
            if answer.status == 204 and said.isdecimal() and offset < int(said) <= facts.size:
                offset, failures = int(said), 0
                continue
            if answer.status not in (*_PASSING, *_GONE, 204, 409, 460):
                raise _no(answer)
        failures += 1
        if failures >= patience.attempts:
            raise _no(answer)
        if not (isinstance(answer, Answer) and answer.status == 409):  # that one says only that we were wrong
            local.report(Progress("waiting", offset, facts.size))
            yield patience.pause(failures, answer)
        found = yield from _where(begun.id, patience)
        if found is None:  # it expired, somebody removed it, or what arrived was not what the file holds
            begun = yield from _declare(local, facts, patience)
            found = begun.offset
        elif found > offset:
            failures = 0
        offset = found
    state = begun.state if resumed == offset == facts.size else "uploadcomplete"
    return Uploaded(id=begun.id, state=state, sha1=facts.sha1, size=facts.size, resumed=resumed, known=begun.known)


def _declare(local: Local, facts: _Facts, patience: Patience) -> Steps[_Begun]:
    """Offer the file; the same offer again finds the upload that it made."""
    uploadid = local.id or facts.sha1
    offer = {
        "id": uploadid,
        "filename": local.filename,
        "filesize": facts.size,
        "sha1": facts.sha1,
        "mimetype": local.mimetype or mimetypes.guess_type(local.filename)[0] or "application/octet-stream",
        **({"contenttype": local.contenttype} if local.contenttype else {}),
        **({"annotations": dict(local.annotations)} if local.annotations else {}),
    }
    answer = yield from persist(json_ask("POST", "api/uploads", offer), patience)
    try:
        document = json_of(answered(answer))
    except RemoteError as error:
        if error.code != "duplicate" or local.id:
            raise
        # The same bytes came under another name. They need not come again.
        answer = yield from persist(Ask(method="GET", url=f"api/uploads/{uploadid}"), patience)
        task = json_of(answered(answer))
        if (task.get("sourcechecksum"), task.get("filesize")) != (facts.sha1, facts.size):
            raise
        return _Begun(uploadid, str(task["state"]), int(task["offset"]))
    task = document["upload"]
    if answer.status == 200 and local.annotations:  # of an offer that was made before, only the first ones count
        said = json_ask("PATCH", f"api/uploads/{uploadid}", {"annotations": dict(local.annotations)})
        answered((yield from persist(said, patience)))
    offset: int | None = int(task["offset"])
    if answer.status == 200 and task["state"] == "waitforchunk":
        # Our former connection may hang still. Asking over tus ends it, and puts on record what it brought.
        offset = yield from _where(uploadid, patience)
    return _Begun(uploadid, str(task["state"]), offset or 0, tuple(map(str, document.get("known", ()))))


def json_ask(method: str, url: str, document: JSON) -> Ask:
    """A request with a JSON body."""
    return Ask(method=method, url=url, headers={"Content-Type": "application/json"}, body=orjson.dumps(document))


def json_of(answer: Answer) -> dict[str, JSON]:
    """The JSON object of an answer.

    Raises:
        RemoteError: ``no_json``: it is none, so this is not a server of ours.
    """
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise RemoteError(
            f"{answer.url} does not answer as a stagedoor server does. Is the address right?",
            code="no_json",
            status=answer.status,
            document={},
        )
    return found


def _read(local: Local) -> _Facts:
    """Size and SHA-1."""
    sha1 = hashlib.sha1(usedforsecurity=False)
    with open(local.path, "rb") as file:
        before = os.fstat(file.fileno())
        done = 0
        while block := file.read(_BLOCK):
            sha1.update(block)
            done += len(block)
            local.report(Progress("reading", done, before.st_size))
        facts = _Facts(done, sha1.hexdigest(), _stamp(os.fstat(file.fileno())))
    if facts.stamp != _stamp(before) or done != before.st_size:
        raise _changed(local)
    return facts


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check_unchanged(local: Local, facts: _Facts) -> None:
    if _stamp(os.stat(local.path)) != facts.stamp:
        raise _changed(local)


def _changed(local: Local) -> FileChanged:
    return FileChanged(f"{local.path} is being written to. Try again when it is finished.")


def _where(uploadid: str, patience: Patience) -> Steps[int | None]:
    """Bytes that the server has; ``None`` when the upload has to begin anew."""
    answer = yield from persist(Ask(method="HEAD", url=f"files/{uploadid}", headers=_TUS), patience)
    said = answer.headers.get("upload-offset", "")
    if answer.status == 200 and said.isdecimal():
        return int(said)
    if answer.status in _GONE:
        return None
    raise _no(answer)


def _patch(local: Local, facts: _Facts, uploadid: str, offset: int) -> Ask:
    size = min(local.chunk, facts.size - offset)
    return Ask(
        method="PATCH",
        url=f"files/{uploadid}",
        headers={
            **_TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(size),
        },
        body=Part(local.path, offset, size, lambda done: local.report(Progress("sending", offset + done, facts.size))),
    )
