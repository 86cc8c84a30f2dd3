"""Who changes uploads for a command: `Uploads` in this process, or the server that owns the directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import AttrsInstance, define, field, fields

from ..errors import (
    ConfigurationError,
    ContentRejected,
    InUse,
    Refused,
    StorageError,
    StorageFull,
    TaskNotFound,
    TooLarge,
    UploadError,
    WrongState,
)
from ..lifecycle import State, due
from ..notices import Notice, NoticeKind
from ..ports import Clock
from ..server.whereabouts import Whereabouts
from ..tasks import JSON, Offer, Plan, UploadTask, check_annotations, evolve, load, thaw

if TYPE_CHECKING:
    from ..client import Client, RemoteError

__all__ = ["Desk", "RemoteDesk", "api_key", "server_desk"]

_ATTEMPTS: Final = 4
"""A server on this machine answers at once, or is stopping: after so many requests, in two seconds, it is given up."""
_SOON: Final = 0.02
"""Seconds between the first two looks at an upload that the server works on; each further pause is twice as long."""
_LATER: Final = 0.5
"""Seconds; no pause is longer."""
_LONG: Final = 60.0
"""Seconds after which a removal that is on record is taken for one that the server cannot finish now."""
_DEEPEST: Final = 30
"""Annotations nested deeper than the API reads are refused here, with the engine's own sentence."""
_BY_STATUS: Final[Mapping[int, type[UploadError]]] = {
    409: Refused,
    413: TooLarge,
    422: ContentRejected,
    503: StorageError,
    507: StorageFull,
}


class Desk(Protocol):
    """As much of `Uploads` as commands about one upload need; the methods mean and raise what they do there."""

    @property
    def clock(self) -> Clock:
        """Seconds since the epoch."""

    def get(self, uploadid: str) -> UploadTask:
        """See `Uploads.get`."""

    def find(self, uploadid: str) -> UploadTask | None:
        """See `Uploads.find`."""

    def known(self, sha1: str) -> Sequence[str]:
        """See `Uploads.known`."""

    def initiate(self, offer: Offer) -> UploadTask:
        """See `Uploads.initiate`."""

    def annotate(self, uploadid: str, annotations: Mapping[str, JSON], /) -> UploadTask:
        """See `Uploads.annotate`."""

    def plan(self, uploadid: str) -> Plan:
        """See `Uploads.plan`."""

    def request(self, uploadid: str, *, trigger_import: bool = False) -> UploadTask:
        """See `Uploads.request`."""

    def start_import(self, uploadid: str) -> UploadTask:
        """See `Uploads.start_import`."""

    def retry(self, uploadid: str) -> UploadTask:
        """See `Uploads.retry`."""

    def undo(self, uploadid: str) -> UploadTask:
        """See `Uploads.undo`."""

    def remove(self, uploadid: str) -> UploadTask:
        """See `Uploads.remove`."""

    def perform(self, uploadid: str) -> bool:
        """See `Uploads.perform`."""

    def subscribe(self, subscriber: Callable[[Notice], None]) -> Callable[[], None]:
        """See `Uploads.subscribe`."""


@define(eq=False)
class RemoteDesk:
    """The uploads of a server that runs. What it refuses is raised as the engine here would raise it.

    Args:
        client: Of the server.
        server: Where it is.
        pause: Waits so many seconds; what it raises ends the waiting.
        clock: Seconds since the epoch.
    """

    client: Client
    server: Whereabouts
    pause: Callable[[float], None]
    clock: Clock
    _seen: dict[str, tuple[str, int, float, float]] = field(factory=dict, init=False)
    _subscribers: list[Callable[[Notice], None]] = field(factory=list, init=False)

    def get(self, uploadid: str) -> UploadTask:
        """The task as it is now."""
        with self._asking(uploadid):
            return _task(self.client.get(uploadid).document, uploadid)

    def find(self, uploadid: str) -> UploadTask | None:
        """The task as it is now, or ``None``."""
        try:
            return self.get(uploadid)
        except TaskNotFound:
            return None

    def known(self, sha1: str) -> Sequence[str]:
        """Where the library has this SHA-1."""
        with self._asking():
            return self.client.known(sha1)

    def initiate(self, offer: Offer) -> UploadTask:
        """Declare an upload."""
        document = {
            "id": offer.id,
            "filename": offer.filename,
            "contenttype": offer.contenttype,
            "mimetype": offer.mimetype,
            "filesize": offer.filesize,
            "sha1": offer.sha1,
            "annotations": _sendable(offer.annotations),
        }
        with self._asking(offer.id):
            return _task(self.client.initiate(document).document, offer.id)

    def annotate(self, uploadid: str, annotations: Mapping[str, JSON], /) -> UploadTask:
        """Say something about an upload."""
        said = _sendable(annotations)
        with self._asking(uploadid):
            return _task(self.client.annotate(uploadid, said).document, uploadid)

    def plan(self, uploadid: str) -> Plan:
        """What integration would do, or did."""
        with self._asking(uploadid):
            plan = self.client.plan(uploadid)
            document = self.client.get(uploadid).document
        found = _task(
            {**document, "plan": _known(plan, Plan)}, uploadid
        ).plan  # a document is read, and checked, as a whole
        assert found is not None
        return found

    def request(self, uploadid: str, *, trigger_import: bool = False) -> UploadTask:
        """Ask for integration."""
        with self._asking(uploadid):
            return _task(self.client.request(uploadid, trigger_import=trigger_import).document, uploadid)

    def start_import(self, uploadid: str) -> UploadTask:
        """Ask for the import of what is integrated."""
        with self._asking(uploadid):
            return _task(self.client.start_import(uploadid).document, uploadid)

    def retry(self, uploadid: str) -> UploadTask:
        """Leave a failure state."""
        with self._asking(uploadid):
            return _task(self.client.retry(uploadid).document, uploadid)

    def undo(self, uploadid: str) -> UploadTask:
        """Take the import back, and wait until that is done."""
        with self._asking(uploadid):
            return _task(self.client.undo(uploadid).document, uploadid)

    def remove(self, uploadid: str) -> UploadTask:
        """Remove an upload; the task as it was, in ``remove``, for the server may be done with it by now."""
        task = self.get(uploadid)
        with self._asking(uploadid):
            self.client.remove(uploadid)
        return evolve(task, state=State.REMOVE)

    def perform(self, uploadid: str) -> bool:
        """Let the server work: wait a little if something is due for an upload.

        Raises:
            StorageError: ``not_removed``: a removal is on record, and the server has not come to its end for long.
        """
        task = self.find(uploadid)
        if task is None or due(task) is None:
            self._seen.pop(uploadid, None)
            return True
        uid, revision, seconds, waited = self._seen.get(uploadid, ("", 0, 0.0, 0.0))
        if (uid, revision) != (task.uid, task.revision):
            seconds, waited = _SOON, 0.0
            self._tell(task)
        elif task.state is State.REMOVE and waited > _LONG:
            raise StorageError(
                "The removal is on record, and the server has not finished it so far. It goes on trying; its log says "
                "what is in the way.",
                code="not_removed",
            )
        self._seen[uploadid] = (task.uid, task.revision, min(2 * seconds, _LATER), waited + seconds)
        self.pause(seconds)
        return True

    def subscribe(self, subscriber: Callable[[Notice], None]) -> Callable[[], None]:
        """Hear of what is seen of uploads while they are waited for; not all that happens is."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def send(self, path: str, task: UploadTask, progress: Callable[[int], None]) -> UploadTask:
        """Send the bytes of a file that are missing.

        Args:
            path: The file; it is read once more for its SHA-1.
            task: Its upload, as it was declared.
            progress: Called with the bytes that are there, often; what it raises ends the sending.

        Raises:
            OSError: It cannot be read.
            UploadError: ``file_changed``, or what the server says.
        """
        with self._asking(task.id):
            self.client.upload(
                path, task.contenttype, progress=lambda made: progress(made.done if made.phase == "sending" else 0),
                id=task.id, filename=task.sourcefilename, mimetype=task.mimetype,
            )  # fmt: skip
        return self.get(task.id)

    def _tell(self, task: UploadTask) -> None:
        for subscriber in self._subscribers:
            subscriber(Notice(NoticeKind.STATE_UPDATE, task.id, task, task.message, task.code))

    @contextmanager
    def _asking(self, uploadid: str = "") -> Iterator[None]:
        from ..client import RemoteError, Unreachable

        try:
            yield
        except Unreachable as error:
            raise self._away(error.sentence) from None
        except RemoteError as error:
            raise self._ours(error, uploadid) from None

    def _away(self, sentence: str) -> InUse:
        where = f"It is process {self.server.pid}, at {self.server.address}"
        return InUse(f"{sentence} {where}. When it has stopped, the same command works without it.", code="unreachable")

    def _ours(self, error: RemoteError, uploadid: str) -> UploadError:
        """What the engine would have raised, or what keeps us away from it."""
        address, guard = self.server.address, error.document.get("guard")
        match error.code:
            case "not_found":
                return TaskNotFound(uploadid)
            case "unauthorized":
                return ConfigurationError(
                    f"The server at {address} owns the uploads directory and wants an API key that it knows. Say it "
                    "with --key-file FILE or STAGEDOOR_KEY.",
                    code="unauthorized",
                )
            case "forbidden":
                return ConfigurationError(
                    f"The server at {address} owns the uploads directory, and lets nobody in by this name: "
                    f"{error.sentence} Its setting hosts decides.",
                    code="forbidden",
                )
            case "draining" | "closed":
                return self._away("The server stops.")
            case "configuration":
                return ConfigurationError(error.sentence)
            case "wrong_state":
                return WrongState(error.sentence, guard=guard)
        return _BY_STATUS.get(error.status, UploadError)(error.sentence, code=error.code, guard=guard)


@contextmanager
def server_desk(
    server: Whereabouts, key: str | None, *, root: str, pause: Callable[[float], None], clock: Clock
) -> Iterator[RemoteDesk]:
    """Go through the server that owns an uploads directory.

    Args:
        server: Where it is.
        key: An API key, if there is one.
        root: The uploads directory.
        pause: Waits so many seconds; what it raises ends the waiting.
        clock: Seconds since the epoch.

    Raises:
        InUse: It takes a package that is not installed.
        ConfigurationError: Its address on record is none.
    """
    try:
        import httpx

        from ..client import Client, Patience
    except ModuleNotFoundError as error:
        raise InUse(
            f"The uploads directory {root} is in use by process {server.pid}. With the package {error.name} this "
            "command goes through it: pip install 'stagedoor[client]'"
        ) from None

    class Direct(httpx.HTTPTransport):
        """No proxy: it is this machine's server, and the key is nobody else's. And no end to the wait for a step."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "POST":  # an undo reads every file of an upload before it answers
                request.extensions["timeout"] = {**request.extensions.get("timeout", {}), "read": None}
            return super().handle_request(request)

    patience = Patience(attempts=_ATTEMPTS, base=0.25, most=1.0)
    try:
        client = Client(server.address, key=key, patience=patience, sleep=pause, transport=Direct())
    except httpx.InvalidURL as error:
        raise ConfigurationError(
            f"The address {server.address[:100]} that the server has put on record is none: {error}."
        ) from None
    with client:
        yield RemoteDesk(client, server, pause, clock)


def api_key(path: str | None) -> str | None:
    """The key that is sent to a server: the first line of a file, else ``STAGEDOOR_KEY``; ``None`` without either.

    Raises:
        ConfigurationError: There is none in the file, or it cannot be one.
        OSError: The file cannot be read.
    """
    if path is None:
        key = os.environ.get("STAGEDOOR_KEY") or None
    else:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines()]
        key = next((line for line in lines if line and not line.startswith("#")), None)
        if key is None:
            raise ConfigurationError(f"There is no key in {path}.")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"What {path or 'STAGEDOOR_KEY'} holds is no API key: those are printable ASCII.")
    return key


def _sendable(annotations: Mapping[str, JSON]) -> dict[str, Any]:
    """Annotations as JSON can say them; the server decides on how much that may be."""
    checked = check_annotations(annotations, max_bytes=1 << 30, max_depth=_DEEPEST)
    return {key: thaw(value) for key, value in checked.items()}


def _task(document: Mapping[str, Any], uploadid: str) -> UploadTask:
    """A task as a server tells of it: without what nobody else may know, which is nothing here."""
    step = document.get("step")
    whole = {**_known(document, UploadTask), "foreign": {}, "step": None if step is None else {**step, "token": ""}}
    return load({"schema": document.get("schema"), **whole}, expected_id=uploadid)


def _known(document: Mapping[str, Any], kind: type[AttrsInstance]) -> dict[str, Any]:
    """What a class has attributes for: an answer may tell people more than is on record."""
    return {attribute.name: document[attribute.name] for attribute in fields(kind) if attribute.name in document}
