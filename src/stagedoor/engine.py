"""The engine: lock the task, load it, fire the trigger on a session, save, tell everybody.

`Uploads` is the library's front door. It is synchronous, safe under many threads, and the only place that saves
and publishes. Which state follows which is in `stagedoor.lifecycle`, what happens on the way in
`stagedoor.session`; here is only the order of things:

* A document is durable before anybody hears of it. Notices are queued on the bus under the upload's lock, so that
  those of one upload go out in the order of its revisions, and delivered after it is released, so that a
  subscriber may call the engine.
* A slow step has three parts: *begin* goes on record under the lock, the *work* is done without it, and the *end*
  looks at the record again: if the upload was removed meanwhile, the work is dropped.
* While chunks are expected, the offset on record is the byte store's; the document learns it at the next change
  of state, or at a checkpoint.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from attrs import define, field
from transitions import MachineError

from .adapters.inprocess import LocalQueue, ThreadedBus
from .adapters.local import DirectoryLock, Durability, LocalBytes, LocalTasks, LocalTree, adopt_musicdb
from .errors import (
    ConfigurationError,
    Conflict,
    DataLost,
    Duplicate,
    InUse,
    Refused,
    StorageError,
    StorageFull,
    TaskNotFound,
    TooLarge,
    UploadError,
    WrongState,
)
from .lifecycle import DEADLINE_STATES, By, Kind, Row, Standing, State, Trigger, due, ladders, machine, row_taken
from .notices import Notice, NoticeKind
from .ports import (
    Buffer,
    ByteStore,
    Clock,
    ContentType,
    EventBus,
    Ids,
    Keeper,
    Library,
    MusicLibrary,
    Quarantine,
    Room,
    Subscriber,
    Summary,
    TaskStore,
    Tree,
    WorkItem,
    WorkQueue,
)
from .session import PLANNING_STATES, Chunk, Declaration, Ports, Session, file_too_large, without_leave
from .settings import Settings
from .tasks import (
    JSON,
    Offer,
    Plan,
    UploadTask,
    check_annotations,
    check_checksum,
    check_id,
    check_size,
    evolve,
    extension_of,
    new_uid,
    pending_name,
)

if TYPE_CHECKING:
    from .content.naming import Scheme

__all__ = ["Inflow", "Recovery", "Uploads"]

log = logging.getLogger(__name__)

_LADDERS = ladders()
_EXTENSIONS: Mapping[str, str] = {
    "video/mp4": "mp4", "video/x-m4v": "m4v", "video/webm": "webm", "video/x-matroska": "mkv",
    "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp",
    "audio/mpeg": "mp3", "audio/mp4": "m4a", "audio/aac": "aac", "audio/flac": "flac", "audio/ogg": "ogg",
    "audio/opus": "opus", "audio/wav": "wav", "audio/x-wav": "wav", "audio/aiff": "aiff",
    "application/zip": "zip", "application/x-tar": "tar", "application/gzip": "tgz",
}  # fmt: skip
_DECLARED = ("contenttype", "filesize", "sourcechecksum", "sourcefilename")


@define
class _Live:
    """An upload that receives chunks: its task with the offset on record, and its SHA-1 so far.

    Attributes:
        sha1: Of the first ``task.offset`` bytes; ``None`` when it has to be computed from the stored bytes.
        inflow: Who brings bytes piece by piece now.
    """

    task: UploadTask
    sha1: Any  # hashlib's type has no public name
    inflow: Inflow | None = None


@define
class _Lock:
    lock: threading.RLock
    users: int = 0


@define
class Recovery:
    """What was found at the start.

    Attributes:
        tasks: How many uploads there are.
        lost: Ids of uploads whose data is missing, with the reason.
        quarantined: What belongs to no upload, relative to the uploads directory.
        deleted: Leftovers that were deleted.
        adopted: Uploads taken over from MusicDB 7.
        kept: Files of the library that were replaced by uploads of which nothing is known any more: where each is,
            ``music/.stagedoor/…``, and the name that it had, ``music/…``, empty if nobody knows. They can be moved
            back by hand.
    """

    tasks: int = 0
    lost: Mapping[str, str] = field(factory=dict)
    quarantined: Sequence[str] = ()
    deleted: Sequence[str] = ()
    adopted: int = 0
    kept: Mapping[str, str] = field(factory=dict)


class _Locked:
    """The lock of an upload. A class, not a generator: each small upload takes it eight times."""

    __slots__ = ("_engine", "_held", "_id")

    def __init__(self, engine: Uploads, uploadid: str) -> None:
        self._engine = engine
        self._id = check_id(uploadid)

    def __enter__(self) -> None:
        self.enter()

    def enter(self, *, wait: bool = True) -> bool:
        """Take it; without waiting, only if nobody has it: else nothing happens, and the answer is no."""
        engine = self._engine
        if os.getpid() != engine._pid:
            raise InUse("The uploads belong to the process that opened them. Open them after the fork, in one process.")
        if engine._closed:
            raise InUse("The uploads are closed. Open them again.", code="closed")
        with engine._lock:
            held = engine._locks.get(self._id)
            if held is None:
                held = engine._locks[self._id] = _Lock(threading.RLock())
            held.users += 1
        self._held = held
        if not held.lock.acquire(wait):
            self._leave()
            return False
        engine._hold(1)
        return True

    def __exit__(self, *exc: object) -> None:
        engine = self._engine
        engine._hold(-1)
        self._held.lock.release()
        self._leave()
        engine._flush()

    def _leave(self) -> None:
        engine, held = self._engine, self._held
        with engine._lock:
            held.users -= 1
            if not held.users:
                del engine._locks[self._id]
        if engine._closed:
            engine._notify()


class _Storing:
    """What an error while bytes are stored means for the upload, whose lock is held. A class, as `_Locked`."""

    __slots__ = ("_engine", "_task")

    def __init__(self, engine: Uploads, task: UploadTask) -> None:
        self._engine, self._task = engine, task

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._engine._failed_storing(self._task, error)


class Uploads:
    """All uploads of a server.

    Usually made by `Uploads.open`. Use it as a context manager, or call `close`.

    Args:
        bytes: Where the bytes are kept.
        tasks: Where the documents are kept.
        trees: ``music`` and ``artwork``.
        library: The music database.
        contents: The content types.
        settings: The limits.
        bus: Carries notices; a `ThreadedBus` when none is given.
        work: Carries what is due; a `LocalQueue` when none is given.
        clock: Seconds since the epoch.
        ids: Makes random names.
        trace: Called under the upload's lock with every row that is taken, before it is saved; for verification.
        resources: Closed, last first, by `close`.
    """

    def __init__(
        self,
        *,
        bytes: ByteStore,  # the port's name; the type is not needed here
        tasks: TaskStore,
        trees: Mapping[str, Tree],
        library: Library,
        contents: Sequence[ContentType] = (),
        settings: Settings | None = None,
        bus: EventBus | None = None,
        work: WorkQueue | None = None,
        clock: Clock = time.time,
        ids: Ids = new_uid,
        trace: Callable[[Row, UploadTask], None] | None = None,
        resources: Sequence[Callable[[], None]] = (),
    ) -> None:
        self.settings = settings or Settings()
        self.ports = Ports(bytes, trees, library, {c.name: c for c in contents}, self.settings)
        self.work: WorkQueue = LocalQueue() if work is None else work
        self.bus: EventBus = ThreadedBus() if bus is None else bus
        self.recovery = Recovery()
        self._bytes, self._tasks = bytes, tasks
        self._room = bytes if isinstance(bytes, Room) else None  # asked for each new upload: to look is not for free
        self.clock, self._ids, self._trace = clock, ids, trace
        self._locks: dict[str, _Lock] = {}
        self._lock = threading.Lock()
        self._holding = threading.local()
        self._live: OrderedDict[str, _Live] = OrderedDict()
        self._busy: set[str] = set()
        self._idle = threading.Condition()
        self._counts: Counter[State] = Counter()
        self._resources = list(resources)
        self._pid = os.getpid()
        self._closed = False
        self._recover()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        music: str | os.PathLike[str],
        artwork: str | os.PathLike[str] | None = None,
        library: Library | None = None,
        contents: Sequence[ContentType] | None = None,
        naming: str | Scheme = "musicdb",
        durability: Durability = "power",
        settings: Settings | None = None,
        bus: EventBus | None = None,
        clock: Clock = time.time,
    ) -> Uploads:
        """Uploads in local directories.

        Args:
            path: The uploads directory; one process owns it.
            music: The music directory.
            artwork: The artwork directory; ``artwork`` beside the uploads directory when not given.
            library: The music database; the SQLite catalogue ``catalogue.sqlite`` in the uploads directory when not
                given.
            contents: The content types; the built-in ones, and those that installed packages register, when not given.
            naming: How the built-in content types name files in the library: a scheme, or the name of one.
            durability: What an acknowledgement survives.
            settings: The limits.
            bus: Carries notices.
            clock: Seconds since the epoch.

        Raises:
            InUse: Another process owns the directory.
            ConfigurationError: It cannot work like this.
        """
        if durability not in ("power", "process", "none"):
            raise ConfigurationError(f"The durability is power, process or none, not {durability!r}.")
        root = os.path.abspath(os.fspath(path))
        lock = DirectoryLock(root)
        resources: list[Callable[[], None]] = [lock.close]
        try:
            settings = settings or Settings()
            adopted = adopt_musicdb(root, durability=durability, retention=settings.retention)
            stored = LocalBytes(root, durability=durability)
            resources.append(stored.release)
            trees = {
                "music": LocalTree("music", os.path.abspath(os.fspath(music)), durability),
                "artwork": LocalTree(
                    "artwork",
                    os.path.abspath(os.fspath(artwork)) if artwork else os.path.join(os.path.dirname(root), "artwork"),
                    durability,
                ),
            }
            if library is None:
                from .library.catalogue import Catalogue

                library = Catalogue.open(os.path.join(root, "catalogue.sqlite"), durable=durability == "power")
                resources.append(library.close)
            if contents is None:
                from .content import builtin

                contents, close = builtin(scheme=naming, scratch=root)
                resources.append(close)
            uploads = cls(
                bytes=stored,
                tasks=LocalTasks(root, durability=durability),
                trees=trees,
                library=library,
                contents=contents,
                settings=settings,
                bus=bus,
                clock=clock,
                resources=resources,
            )
        except BaseException:
            with ExitStack() as stack:
                for close in resources:
                    stack.callback(close)
            raise
        uploads.recovery.adopted = adopted
        return uploads

    def close(self) -> None:
        """Let go of everything. Stop the management first; what is stored stays."""
        if self._closed:
            return
        self._closed = True
        with self._idle:  # what is being written has to be on record before another process may own the directory
            self._idle.wait_for(lambda: not self._locks)
        with ExitStack() as stack:
            for close in self._resources:
                stack.callback(close)
            stack.callback(self.bus.close)
            stack.callback(self.work.close)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ── what clients ask for ──────────────────────────────────────────────────────────────────────────────

    def initiate(self, offer: Offer) -> UploadTask:
        """Declare an upload, or take up one that was declared before.

        The same declaration again resumes: in ``waitforchunk`` all clients hear the request for the chunk at the
        offset on record, in ``uploadfailed`` the upload starts over, later nothing changes.

        Returns:
            The task; send from ``task.offset`` on.

        Raises:
            Duplicate: The id belongs to another declaration.
            TooLarge: A limit: the file, the number of uploads.
            StorageFull: No room.
            Refused: Uploads are switched off; the content type is not known here; the id is being removed.
        """
        self._refuse(self._offer_problem(offer), offer.id)
        with self._locked(offer.id):
            task = self._load(offer.id)
            if task is None:
                return self._create(offer)
            self._refuse(_duplicate(task, offer), offer.id, task)
            if task.state is State.UPLOADFAILED:
                return self._event(Trigger.RETRY, task)
            if task.state is State.REMOVE:
                self._refuse(
                    WrongState(f"The upload {task.id} is being removed. Offer it again in a moment.", code="removing"),
                    task.id,
                    task,
                )
            if task.state is State.WAITFORCHUNK:
                self._publish(self._request_chunk(task))
            else:
                self._publish(Notice(NoticeKind.STATE_UPDATE, task.id, task, task.message, task.code))
            return task

    def declare(self, uploadid: str, *, filesize: int | None = None, sha1: str | None = None) -> UploadTask:
        """Tell the length in bytes, or the SHA-1, of an upload that was offered without.

        Raises:
            TaskNotFound, WrongState, Refused: ``declared_already``, ``length_too_small``.
        """
        declaration = Declaration(check_size(filesize, empty=True), check_checksum(sha1))
        with self._locked(uploadid):
            task = self._need(uploadid)
            live = self._live.get(task.uid)
            flow = None if live is None else live.inflow
            if flow is not None:  # the length is judged by all that came, and bounds what comes
                flow.settle()
                task = self._need(uploadid)
            task = self._event(Trigger.DECLARE, task, declaration=declaration)
            if flow is not None and task.filesize is not None:
                flow.bound(task.filesize)
            live = self._live.get(task.uid)
            if due(task) and live is not None and live.sha1 is not None:
                return self._event(Trigger.COMPLETE, task, digest=live.sha1.hexdigest())
            return task

    def receive(self, uploadid: str, *, offset: int | None, data: Buffer) -> UploadTask:
        """Take a chunk. When this returns, its bytes survive what the chosen durability promises.

        Args:
            uploadid: The upload.
            offset: Where the bytes belong, in bytes from the start; ``None`` for the offset on record, for protocols
                whose chunks carry none.
            data: At least one byte, at most ``settings.max_chunk``.

        Returns:
            The task; ``task.offset`` is where to go on. After the last chunk the state is ``uploadcomplete`` or
            ``uploadfailed`` (after a restart it may still be ``waitforchunk``: the worker then hashes first).

        Raises:
            OffsetMismatch: ``expected`` tells where the upload stands. A chunk that was stored before, with the
                same bytes, is no mismatch: its answer was lost.
            TooLarge: The chunk, or the file, would be larger than allowed.
            StorageFull: No room. The upload waits.
            StorageError: The disk failed; the upload is now ``uploadfailed``.
            TaskNotFound, WrongState, Refused: Nothing changed.
        """
        if not isinstance(data, bytes | bytearray):
            data = memoryview(data).cast("B")  # its length is then in bytes
        with self._locked(uploadid):
            task = self._need(uploadid)
            if self._end_inflow(task):
                task = self._need(uploadid)
            if offset is None:
                offset = task.offset
            with _Storing(self, task):
                return self._receive(task, offset, data)

    def inflow(self, uploadid: str, *, offset: int | None = None, digest: tuple[str, bytes] | None = None) -> Inflow:
        """Take bytes piece by piece, as the body of a request brings them.

        Whoever brought bytes to this upload until now has to let go at once: what was received is put on record.

        Args:
            uploadid: The upload.
            offset: Where the bytes belong; ``None`` for the offset on record.
            digest: Name of a hash and what it must give for all bytes of this inflow; until then nothing of them goes
                on record.

        Raises:
            OffsetMismatch: ``expected`` tells where the upload stands.
            TaskNotFound, WrongState, Refused: Nothing changed.
        """
        with self._locked(uploadid):
            task = self._need(uploadid)
            if self._end_inflow(task):
                task = self._need(uploadid)
            session = self._session(task)
            # Asked before the first byte is stored; it is the machine that is asked when they go on record.
            session.chunk = Chunk(task.offset if offset is None else offset, None, size=1)
            if task.state is not State.WAITFORCHUNK:
                raise WrongState(_wrong_state(Trigger.CHUNK, task))
            if not session.chunk_fits():
                raise session.refusal("chunk_fits")
            live = self._live.get(task.uid)
            if live is None:
                live = _Live(task, None)
                self._remember(live)
            live.inflow = Inflow(self, task, live.sha1, digest)
            return live.inflow

    def settle(self, uploadid: str) -> UploadTask | None:
        """Put on record what somebody brings piece by piece and has not committed; whoever brings it goes on.

        For whoever asks where an upload stands. What has to have a checksum is not settled, but let go of.

        Returns:
            The task; ``None`` when there is none.

        Raises:
            StorageFull, StorageError, DataLost: As `receive`.
        """
        with self._locked(uploadid):
            task = self._load(uploadid)
            live = None if task is None else self._live.get(task.uid)
            if live is None or live.inflow is None:
                return task
            live.inflow.settle()
            return self._load(uploadid)

    def _end_inflow(self, task: UploadTask) -> bool:
        """Whoever brings bytes piece by piece lets go, and what came is on record. The upload's lock is held."""
        live = self._live.get(task.uid)
        if live is None or live.inflow is None:
            return False
        live.inflow.end(
            Refused(
                "Another connection sends this upload now. Ask where it stands, and go on there.", code="taken_over"
            )
        )
        return True

    def _failed_storing(self, task: UploadTask, error: BaseException) -> None:
        match error:
            case StorageFull():
                self._drop(task)
                now = self._load(task.id)
                self._publish(Notice(NoticeKind.INTERNAL_ERROR, task.id, now, error.sentence, error.code))
            case Refused():
                pass  # nothing was stored
            case Conflict():
                self._take_back(task)  # nothing is wrong with the disk: somebody has to send again
            case StorageError() | DataLost():
                self._drop(task)
                now = self._load(task.id)
                if error.code != "too_many_open_files" and now is not None and now.state is State.WAITFORCHUNK:
                    log.error("upload %s failed while storing a chunk: %s", task.id, error.sentence)
                    self._event(Trigger.FAIL, now, failure=error)
            case _:
                self._take_back(task)

    def _take_back(self, task: UploadTask) -> None:
        """After an error between appending and recording: back to what is on record, unless that has moved on."""
        self._drop(task)
        try:
            now = self._tasks.get(task.id)
            if now is not None and now.key == task.key and now.state is State.WAITFORCHUNK:
                self._bytes.rollback(task.key)
        except UploadError as error:
            log.warning("upload %s: taking back a chunk has to wait: %s", task.id, error.sentence)

    def _receive(self, task: UploadTask, offset: int, data: Buffer) -> UploadTask:
        digest = self._digest_with(self._live.get(task.uid), task, offset, data)
        return self._chunk(task, Chunk(offset, data, record=digest is None), digest)

    def _chunk(self, task: UploadTask, chunk: Chunk, digest: str | None) -> UploadTask:
        """A chunk; with the SHA-1 of the whole file, the last one, which goes on record together with the new state."""
        before = task.offset
        task = self._event(Trigger.CHUNK, task, chunk=chunk)
        if digest is None or task.offset == before:
            return task
        try:
            return self._event(Trigger.COMPLETE, task, digest=digest)
        except UploadError as error:
            # Completing failed. If the bytes can go on record all the same, the worker completes.
            self._drop(task)
            try:
                if self._bytes.commit(task.key) != task.offset:
                    raise error
            except Conflict:
                raise error from None
            log.warning("upload %s could not be completed at once: %s", task.id, error.sentence)
            task = self._need(task.id)
            self._submit(task)
            return task

    def annotate(self, uploadid: str, annotations: Mapping[str, JSON] | None = None, /, **more: JSON) -> UploadTask:
        """Say something about an upload, in any state before removal; keys are merged over those that are there.

        Raises:
            TypeError: Not a mapping with string keys.
            TooLarge: ``annotations_too_large``, ``annotations_too_deep``.
            TaskNotFound, WrongState, Refused: Nothing changed.
        """
        if annotations is not None and not isinstance(annotations, Mapping):
            raise TypeError(f"Annotations must be a mapping, not {type(annotations).__name__}.")
        merged = {**(annotations or {}), **more}
        if not all(isinstance(key, str) for key in merged):
            raise TypeError("The keys of annotations must be str.")
        with self._locked(uploadid):
            return self._event(Trigger.ANNOTATE, self._need(uploadid), annotations=merged)

    def plan(self, uploadid: str) -> Plan:
        """What integration would do, without touching anything; in later states, what it did.

        Raises:
            TaskNotFound: There is no such upload.
            WrongState: The content was not accepted (yet).
        """
        task = self._need(uploadid)
        if task.plan is not None and task.state is not State.INTEGRATIONFAILED:
            return task.plan
        if task.state not in PLANNING_STATES:
            raise WrongState(f"There is no plan in state {task.state}: the content was not accepted (yet).")
        return self._session(task).plan

    def request(self, uploadid: str, *, trigger_import: bool = False) -> UploadTask:
        """Ask for integration, and import, durably; a worker does it.

        Raises:
            TaskNotFound, WrongState, Refused: An open question has to be answered first; the code names it.
        """
        with self._locked(uploadid):
            return self._event(Trigger.REQUEST, self._need(uploadid), trigger_import=trigger_import)

    def integrate(self, uploadid: str, *, trigger_import: bool = False) -> UploadTask:
        """Put the files into the music directory, now and here; the import, if wished, is left to a worker.

        Returns:
            The task in ``integrated``, ``startimport`` (or further), or ``integrationfailed``.

        Raises:
            TaskNotFound, WrongState, Refused: Nothing changed.
            StorageError: It could not be done now and is tried again by a worker.
        """
        return self._blocking(self.request(uploadid, trigger_import=trigger_import), Trigger.INTEGRATE)

    def start_import(self, uploadid: str) -> UploadTask:
        """Ask for the import of what is integrated.

        Raises:
            TaskNotFound, WrongState, Refused: Nothing changed.
        """
        return self._simple(Trigger.START_IMPORT, uploadid)

    def retry(self, uploadid: str) -> UploadTask:
        """Leave a failure state for the state before it.

        Raises:
            TaskNotFound, WrongState, Refused: Nothing changed.
        """
        return self._simple(Trigger.RETRY, uploadid)

    def undo(self, uploadid: str) -> UploadTask:
        """Take the import back exactly, now and here: files, directories, artwork, catalogue entry.

        Returns:
            The task in ``preprocessed``.

        Raises:
            Refused: ``changed_since``, a file was changed after the import; nothing is taken back.
            TaskNotFound, WrongState: Nothing changed.
            StorageError: It could not be finished now and is tried again by a worker.
        """
        warm = self._session(self._need(uploadid))
        warm.library_untouched()  # reads every file, so not under the lock
        with self._locked(uploadid):
            task = self._need(uploadid)
            session = warm if task.placed == warm.task.placed else self._session(task)
            session.refresh(task)
            task = self._event(Trigger.REQUEST_UNDO, task, session=session)
        return self._blocking(task, Trigger.UNDO)

    def remove(self, uploadid: str) -> UploadTask:
        """Remove an upload in any state; library and catalogue are not touched. A worker deletes.

        Raises:
            TaskNotFound: There is no such upload.
            WrongState: It is being removed already.
        """
        return self._simple(Trigger.REMOVE, uploadid)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────

    def get(self, uploadid: str) -> UploadTask:
        """The task as it is now.

        Raises:
            TypeError: The id is no string.
            TaskNotFound: All clients are told as well.
        """
        return self._need(uploadid)

    def find(self, uploadid: str) -> UploadTask | None:
        """The task as it is now, or ``None``; unlike `get` it tells nobody."""
        return self._load(check_id(uploadid))

    def known(self, sha1: str) -> Sequence[str]:
        """Where the library has a file, or a former upload, with this SHA-1: advice before a byte is sent.

        Empty when it has none, or cannot tell. Nothing may be skipped because of it alone.

        Raises:
            TypeError, Refused: It is no SHA-1.
        """
        digest = check_checksum(sha1)
        library = self.ports.library
        return library.find_sha1(digest) if digest and isinstance(library, MusicLibrary) else ()

    def list(self) -> Sequence[Summary]:
        """All uploads, a short line each, ordered by id."""
        return self._tasks.list()

    def tasks(self) -> Iterator[UploadTask]:
        """All uploads as they are now, read one by one."""
        for summary in self._tasks.list():
            task = self._load(summary.id)
            if task is not None:
                yield task

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Hear every notice from now on; the returned function ends it.

        The subscriber is called with a `Notice`. What it raises is logged and disturbs nobody.
        """
        return self.bus.subscribe(subscriber)

    def wait(self, uploadid: str, timeout: float | None = None) -> UploadTask | None:
        """Block until an upload rests: it waits for a client, or is at an end. Somebody must do the work.

        Args:
            uploadid: The upload.
            timeout: In seconds.

        Returns:
            The task; ``None`` when it is removed.

        Raises:
            TimeoutError: It does not rest yet.
        """
        check_id(uploadid)
        found: list[UploadTask | None] = []

        def rests() -> bool:
            found[:] = [task := self._load(uploadid)]
            return task is None or (uploadid not in self._busy and due(task) is None)

        with self._idle:
            if not self._idle.wait_for(rests, timeout):
                state = found[0].state if found[0] else "gone"
                raise TimeoutError(f"The upload {uploadid} is still busy in state {state}.")
        return found[0]

    # ── what the worker asks for ──────────────────────────────────────────────────────────────────────────

    def perform(self, uploadid: str) -> bool:
        """Do the one step that is due for an upload, if nobody else is at it.

        What goes wrong in the step is recorded and tried again later; nothing but a failure of the task store
        itself is raised.

        Returns:
            Whether there was something to do.
        """
        with self._idle:
            if uploadid in self._busy:
                return False
            self._busy.add(uploadid)
        with self._claimed(uploadid):
            return self._perform(uploadid)

    def expire(self, uploadid: str) -> UploadTask:
        """Remove an upload whose deadline has passed.

        Raises:
            TaskNotFound, WrongState, Refused: It has not expired.
        """
        return self._simple(Trigger.EXPIRE, uploadid)

    def sweep(self) -> int:
        """Expire what has a deadline in the past, and empty the quarantine of what has been there long enough.

        Returns:
            How many uploads expired.
        """
        now, expired = self.clock(), 0
        for summary in self._tasks.list():
            if summary.deadline is not None and summary.deadline <= now and summary.state in DEADLINE_STATES:
                try:
                    self.expire(summary.id)
                    expired += 1
                except (Refused, TaskNotFound):
                    continue  # somebody was faster
                except UploadError as error:  # promise 9
                    log.error("upload %s cannot expire now: %s", summary.id, error.sentence)
        if isinstance(self._bytes, Quarantine):
            try:
                self._bytes.age_out(now - self.settings.quarantine)
            except UploadError as error:
                log.error("the quarantine cannot be emptied now: %s", error.sentence)
        return expired

    # ── creating ──────────────────────────────────────────────────────────────────────────────────────────

    def _offer_problem(self, offer: Offer) -> UploadError | None:
        settings = self.settings
        if not settings.allow:
            return Refused(
                "Uploads are switched off on this server. Switch them on in its configuration (uploads.allow).",
                code="uploads_off",
            )
        if offer.contenttype not in self.ports.contents:
            known = ", ".join(sorted(self.ports.contents)) or "none"
            return Refused(
                f"This server has no content type {offer.contenttype!r}; it has: {known}.",
                code="unsupported_contenttype",
            )
        if offer.filesize is not None and offer.filesize > settings.max_file_size:
            return file_too_large(offer.filesize, settings.max_file_size)
        return None

    def _room_problem(self, offer: Offer) -> UploadError | None:
        settings = self.settings
        if self._counts.total() >= settings.max_uploads:
            return TooLarge("There are too many uploads. Remove some that are done.", code="too_many_uploads")
        if self._counts[State.WAITFORCHUNK] >= settings.max_unfinished:
            return TooLarge("There are too many unfinished uploads. Finish or remove some.", code="too_many_unfinished")
        if self._room is not None and self._room.free() - (offer.filesize or 0) < settings.free_floor:
            return StorageFull("There is not enough room on the server's disk for this file. Free some space.")
        return None

    def _create(self, offer: Offer) -> UploadTask:
        with self._lock:  # room is taken before it is used: two threads must not get past a limit together
            problem = self._room_problem(offer)
            if problem is None:
                self._counts[State.WAITFORCHUNK] += 1
        self._refuse(problem, offer.id)
        try:
            return self._create_counted(offer)
        except BaseException:
            with self._lock:
                self._counts[State.WAITFORCHUNK] -= 1
            raise

    def _create_counted(self, offer: Offer) -> UploadTask:
        now, uid = self.clock(), self._ids()
        extension = extension_of(offer.filename) or _EXTENSIONS.get(offer.mimetype, "bin")
        task = UploadTask(
            id=offer.id,
            filesize=offer.filesize,
            offset=0,
            contenttype=offer.contenttype,
            mimetype=offer.mimetype,
            sourcefilename=offer.filename,
            sourcechecksum=offer.sha1,
            destinationpath="",
            state=State.WAITFORCHUNK,
            uid=uid,
            created=now,
            updated=now,
            deadline=self._deadline(State.WAITFORCHUNK, now),
            wire=offer.wire,
        )
        try:
            settings = self.settings
            annotations = check_annotations(
                offer.annotations, max_bytes=settings.max_annotations, max_depth=settings.max_annotation_depth
            )
            path = self._bytes.create(task.key, pending_name(task.contenttype, extension))
            try:
                history = task.happened("create", task.state, task.state, now)
                # Nobody has seen yet what would be replaced.
                task = evolve(task, destinationpath=path, history=history, annotations=without_leave(annotations))
                self._tasks.create(task)
            except BaseException:
                self._bytes.delete(task.key)
                raise
        except UploadError as error:
            self._publish(Notice(NoticeKind.INTERNAL_ERROR, offer.id, None, error.sentence, error.code))
            raise
        self._remember(_Live(task, hashlib.sha1(usedforsecurity=False)))
        self._publish(self._request_chunk(task))
        return task

    # ── events ────────────────────────────────────────────────────────────────────────────────────────────

    def _event(
        self,
        trigger: Trigger,
        task: UploadTask,
        *,
        session: Session | None = None,
        chunk: Chunk | None = None,
        declaration: Declaration | None = None,
        annotations: Mapping[str, JSON] | None = None,
        trigger_import: bool = False,
        digest: str | None = None,
        failure: UploadError | None = None,
    ) -> UploadTask:
        """Fire a trigger and save; the upload's lock is held."""
        if session is None:
            session = Session(
                task,
                self.ports,
                self.clock(),
                chunk=chunk,
                declaration=declaration,
                annotations=annotations,
                trigger_import=trigger_import,
                digest=digest,
                failure=failure,
            )
        row = self._fire(trigger, session)
        return self._commit(row, session)

    def _fire(self, trigger: Trigger, session: Session) -> Row:
        """Let the machine take a row.

        Raises:
            WrongState: There is no row for the state.
            Refused: A precondition says no; the error is the guard's.
        """
        source = session.task.state
        try:
            taken = machine.events[trigger.value].trigger(session)
        except MachineError:
            raise WrongState(_wrong_state(trigger, session.task)) from None
        if not taken:
            ladder = _LADDERS[trigger, source]
            # The last row has the preconditions only: one of them said no.
            guard = next(name for name in ladder[-1].guards if not getattr(session, name)())
            raise session.refusal(guard)
        dest = None if session.state == source else State(session.state)
        row = row_taken(trigger, source, dest)
        assert row is not None
        return row

    def _commit(self, row: Row, session: Session) -> UploadTask:
        """Save what the session holds, and tell everybody."""
        if self._trace is not None:
            self._trace(row, session.task)
        if row.trigger is Trigger.CHUNK:
            return self._commit_chunk(row, session)
        old, now = session.task, session.now
        state = State(session.state)
        reason = (old.message or "") if row.kind is Kind.FAILURE else ""
        rests = due(Standing(state, old.offset, old.filesize, old.wanted)) is None
        task = evolve(
            old,
            state=state,
            revision=old.revision + 1,
            updated=now,
            deadline=self._deadline(state, now) if rests and not old.replaced else None,
            history=old.happened(row.trigger, row.source, state, now, reason),
        )
        self._tasks.cas(task, old.revision)
        if state is not row.source:
            with self._lock:
                self._counts[row.source] -= 1
                self._counts[state] += 1
        live = self._live.get(task.uid)
        if live is not None:
            if state is State.WAITFORCHUNK and live.task.key == task.key:
                live.task = task
            else:
                self._drop(task)
        if row.trigger is Trigger.RETRY and state is State.WAITFORCHUNK:
            self._remember(_Live(task, hashlib.sha1(usedforsecurity=False)))
        if row.trigger is not Trigger.BEGIN:
            kind = NoticeKind.INTERNAL_ERROR if row.kind is Kind.FAILURE else NoticeKind.STATE_UPDATE
            self._publish(Notice(kind, task.id, task, task.message, task.code))
        if row.trigger is Trigger.RETRY and state is State.WAITFORCHUNK:
            self._publish(self._request_chunk(task))
        self._afterwards(session)
        if row.trigger is not Trigger.BEGIN:  # whoever began it, ends it
            self._submit(task)
        self._notify()
        return task

    def _commit_chunk(self, row: Row, session: Session) -> UploadTask:
        task, chunk = session.task, session.chunk
        assert chunk is not None
        if not chunk.record:
            return task  # not on record, so nobody may see it: `complete` follows, or the chunk is taken back
        live = self._live.get(task.uid)
        if live is None:
            # After a restart: the bytes before this one are hashed again, by the worker, at the end.
            live = _Live(task, None)
            self._remember(live)
        if live.task.offset != task.offset:  # no replay
            if live.sha1 is not None and chunk.data is not None:
                live.sha1.update(chunk.data)
            live.task = task
        keep = self.settings.retention.get(task.state)
        pause = self.settings.checkpoint if keep is None else min(self.settings.checkpoint, keep / 2)
        if session.now - task.updated > pause:
            task = live.task = self._checkpoint(row, task, session.now)
        self._publish(self._request_chunk(task))
        if task.offset == task.filesize:
            self._submit(task)
        return task

    def _checkpoint(self, row: Row, task: UploadTask, now: float) -> UploadTask:
        """Renew the document, and with it the deadline. The chunk is on record without it, so it may fail."""
        renewed = evolve(
            task,
            revision=task.revision + 1,
            updated=now,
            deadline=self._deadline(task.state, now),
            history=task.happened(row.trigger, row.source, row.source, now),
        )
        try:
            self._tasks.cas(renewed, task.revision)
        except UploadError as error:
            log.warning("upload %s: the deadline cannot be renewed now: %s", task.id, error.sentence)
            return task
        return renewed

    def _digest_with(self, live: _Live | None, task: UploadTask, offset: int, data: Buffer) -> str | None:
        """SHA-1 of the whole file if this chunk is its last and the bytes before were hashed as they came."""
        if live is None or live.sha1 is None or offset != task.offset or offset + len(data) != task.filesize:
            return None
        if len(data) > self.settings.max_chunk:
            return None
        sha1 = live.sha1.copy()
        sha1.update(data)
        return str(sha1.hexdigest())

    # ── slow steps ────────────────────────────────────────────────────────────────────────────────────────

    def _blocking(self, task: UploadTask, trigger: Trigger) -> UploadTask:
        """Do, or wait for, a step that was just recorded as wanted."""
        with self._idle:
            self._idle.wait_for(lambda: task.id not in self._busy)
            self._busy.add(task.id)
        with self._claimed(task.id):
            now = self._load(task.id)
            if now is not None and now.uid == task.uid and due(now) is trigger:
                self._perform(task.id, at_once=True)
        after = self._need(task.id)
        if after.uid == task.uid and after.wanted is trigger:
            why = after.message or "It was asked for anew meanwhile."
            raise StorageError(f"It could not be done now and is tried again: {why}", code=after.code)
        if trigger is Trigger.UNDO and after.state is not State.PREPROCESSED and after.message:
            raise Refused(after.message, code=after.code)
        return after

    @contextmanager
    def _claimed(self, uploadid: str) -> Iterator[None]:
        """Give a claim back at the end, look for what is due next, and only then deliver what this thread told:
        a subscriber may ask for another step of the same upload.
        """
        self._hold(1)
        failed = True
        try:
            yield
            failed = False
        finally:
            with self._idle:
                self._busy.discard(uploadid)
                self._idle.notify_all()
            self._hold(-1)
            try:
                task = self._load(uploadid)
                if task is not None:
                    self._submit(task, self.clock() + self.settings.backoff if failed else 0.0)
            finally:
                self._flush()

    def _perform(self, uploadid: str, *, at_once: bool = False) -> bool:
        with self._locked(uploadid):
            task = self._load(uploadid)
            trigger = due(task) if task is not None else None
            if task is None or trigger is None:
                return False
            if not at_once and task.step is not None and task.step.not_before > self.clock():
                return False
            if trigger is Trigger.START_IMPORT:
                self._event(trigger, task)
                return True
            if trigger is not Trigger.REMOVE:
                session = self._begin(task, trigger)
        if trigger is Trigger.REMOVE:
            self._delete(task)
            return True
        try:
            session.work()
        except Exception as error:  # promise 9: one upload's exception stops nobody else
            if not isinstance(error, UploadError):
                log.exception("step %s of upload %s failed unexpectedly", trigger, uploadid)
            self._release(session, error)
            if isinstance(error, Conflict) and error.code == "conflict":  # `Tree.place`: it is not settled
                self._settle_others()  # so that the next attempt has nothing in its way
            return True
        with self._locked(uploadid):
            now = self._load(uploadid)
            if now is None or now.uid != task.uid or now.state is not task.state or not _same_step(now, session):
                log.info("step %s of upload %s is dropped: the upload has moved on", trigger, uploadid)
                return True
            session.refresh(now)
            session.now = self.clock()
            try:
                self._event(trigger, now, session=session)
                return True
            except Refused as refused:  # an undo that found a change
                failure: Exception = session.failure or refused
            except UploadError as error:
                failure = error
        self._release(session, failure)
        return True

    def _settle_others(self) -> None:
        """Settle what is on record and could not be settled then: it may be in the way of whoever replaces a file."""
        try:
            waiting = {uid for tree in self.ports.trees.values() for uid in tree.unsettled()}
            ids = {summary.uid: summary.id for summary in self._tasks.list() if summary.uid in waiting}
        except UploadError as error:
            log.warning("nobody knows what was not settled in the library: %s", error.sentence)
            return
        for uid, uploadid in ids.items():  # what is of no upload here may be of another engine's
            locked = self._locked(uploadid)
            if not locked.enter(wait=False):
                continue  # somebody is at it
            try:
                task = self._load(uploadid)
                # What is due otherwise may have put something there that is on no record yet.
                if task is None or task.uid != uid or due(task) in (None, Trigger.START_IMPORT, Trigger.IMPORT):
                    for tree in self.ports.trees.values():
                        tree.settle(uid)
            except UploadError as error:
                log.warning("upload %s: cleaning up has to wait: %s", uploadid, error.sentence)
            finally:
                locked.__exit__()

    def _begin(self, task: UploadTask, trigger: Trigger) -> Session:
        """Record the beginning of a step; or, when its attempts are used up, prepare its failure row."""
        session = Session(task, self.ports, self.clock(), step=trigger, token=self._ids())
        if session.attempts_left():
            begun = self._event(Trigger.BEGIN, task, session=session)
            session.refresh(begun)
            return session
        assert task.step is not None
        session.token = task.step.token
        session.given_up = UploadError(
            f"Tried {task.step.attempt} times. {task.message or 'The server stopped each time before it was done.'}",
            code=task.code or "gave_up",
        )
        return session

    def _release(self, session: Session, error: Exception) -> None:
        """Record that a step gave up for now."""
        with self._locked(session.task.id):
            task = self._load(session.task.id)
            if task is None or task.uid != session.task.uid or not _same_step(task, session):
                return
            assert task.step is not None
            again = Session(task, self.ports, self.clock(), step=session.step, token=session.token)
            again.failure = (
                error
                if isinstance(error, UploadError)
                else UploadError(f"It failed unexpectedly ({type(error).__name__}). The server's log has the details.")
            )
            # An undo has no failure row: a refusal, or the last attempt, ends the wish. Everything else has one,
            # and gets there when the attempts are used up.
            refused = isinstance(error, Refused) and not isinstance(error, StorageFull)
            if session.step is not Trigger.UNDO or not (refused or session.given_up is not None):
                left = task.step.attempt < self.settings.attempts
                pause = self.settings.backoff * 4.0 ** min(task.step.attempt - 1, 10)
                again.retry_at = again.now + (pause if left or session.given_up is not None else 0.0)
            log.warning("step %s of upload %s gave up: %s", session.step, task.id, again.failure.sentence)
            self._event(Trigger.RELEASE, task, session=again)

    def _delete(self, task: UploadTask) -> None:
        """What is left of ``remove``: data first, the task file last."""
        try:
            self._session(task).clear_trees()
            self._bytes.delete(task.key)
            with self._locked(task.id):
                now = self._load(task.id)
                if now is None or now.uid != task.uid:
                    return
                self._tasks.delete(task.id)
                with self._lock:
                    self._counts[task.state] -= 1
                self._drop(task)
        except UploadError as error:
            log.warning("upload %s cannot be deleted now: %s", task.id, error.sentence)
            raise
        self._notify()

    # ── start ─────────────────────────────────────────────────────────────────────────────────────────────

    def _recover(self) -> None:
        """Bring everything into order, and find what is due. No memory of the last run is needed."""
        with _without_collector():
            self._recover_all()

    def _recover_all(self) -> None:
        quarantined = list(self._tasks.recover())
        summaries = self._tasks.list()
        found = self._bytes.recover({s.key: s.state for s in summaries})
        quarantined += found.quarantined
        self._counts.update(s.state for s in summaries)
        lost: dict[str, str] = {}
        intents: set[str] = set()
        for summary in summaries:
            if summary.key in found.lost:
                lost[summary.id] = found.lost[summary.key]
                log.error("upload %s: %s", summary.id, lost[summary.id])
                if summary.state is State.WAITFORCHUNK:
                    self._fail_lost(summary, lost[summary.id])
                    continue
            if summary.due is not None:
                intents.add(summary.uid)
                self.work.submit(WorkItem(summary.not_before, summary.id, summary.uid))
            elif summary.filesize is not None and found.offsets.get(summary.key) == summary.filesize:
                self.work.submit(WorkItem(summary.not_before, summary.id, summary.uid))
        for tree in self.ports.trees.values():
            for uid in tree.unsettled():
                if uid not in intents:
                    tree.settle(uid)
        kept = self._orphans({summary.uid for summary in summaries})
        self.recovery = Recovery(len(summaries), lost, quarantined, found.deleted, kept=kept)

    def _orphans(self, known: Set[str]) -> Mapping[str, str]:
        """What was replaced for uploads that are lost. Nobody can undo them, and nobody deletes it."""
        orphans: dict[str, str] = {}
        for root, tree in self.ports.trees.items():
            try:
                kept = tree.kept(known) if isinstance(tree, Keeper) else {}
            except UploadError as error:  # nothing depends on it
                log.error("nobody knows whether there is something of lost uploads: %s", error.sentence)
                continue
            for files in kept.values():
                orphans |= {f"{root}/{file.at}": f"{root}/{file.path}" if file.path else "" for file in files}
        for at, path in orphans.items():
            log.warning(
                "%r was replaced by an upload that is lost; the name that it had is %r. Put it back by hand, or "
                "delete it.", at, path or "unknown",
            )  # fmt: skip
        return orphans

    def _fail_lost(self, summary: Summary, reason: str) -> None:
        try:
            task = self._tasks.get(summary.id)
            if task is not None:
                self._event(Trigger.FAIL, task, failure=DataLost(f"Data was lost. {reason}"))
        except UploadError as error:  # promise 9: one upload does not stop the start
            log.error("upload %s: its failure cannot be recorded now: %s", summary.id, error.sentence)

    # ── helpers ───────────────────────────────────────────────────────────────────────────────────────────

    def _simple(self, trigger: Trigger, uploadid: str) -> UploadTask:
        with self._locked(uploadid):
            return self._event(trigger, self._need(uploadid))

    def _session(self, task: UploadTask) -> Session:
        return Session(task, self.ports, self.clock())

    def _load(self, uploadid: str) -> UploadTask | None:
        task = self._tasks.get(uploadid)
        if task is None or task.state is not State.WAITFORCHUNK:
            return task
        live = self._live.get(task.uid)
        if live is not None and live.task.revision == task.revision:
            return live.task
        try:
            offset = self._bytes.size(task.key)
        except (DataLost, StorageError):
            return task  # the next chunk finds out, and says so; a list of all uploads is not spoiled by one
        return task if offset == task.offset else evolve(task, offset=offset)

    def _need(self, uploadid: str) -> UploadTask:
        check_id(uploadid)
        task = self._load(uploadid)
        if task is None:
            error = TaskNotFound(uploadid)
            self._publish(Notice(NoticeKind.INTERNAL_ERROR, uploadid, None, error.sentence, error.code))
            raise error
        return task

    def _refuse(self, problem: UploadError | None, uploadid: str, task: UploadTask | None = None) -> None:
        if problem is not None:
            self._publish(Notice(NoticeKind.INTERNAL_ERROR, uploadid, task, problem.sentence, problem.code))
            raise problem

    def _deadline(self, state: State, now: float) -> float | None:
        keep = self.settings.retention.get(state)
        return None if keep is None else now + keep

    def _request_chunk(self, task: UploadTask) -> Notice:
        if due(task) is not None:  # all bytes are here, and the worker hashes them first
            return Notice(NoticeKind.STATE_UPDATE, task.id, task)
        size = self.settings.chunk_size
        if task.filesize is not None:
            size = min(size, task.filesize - task.offset)
        return Notice(NoticeKind.CHUNK_REQUEST, task.id, task, chunksize=size)

    def _publish(self, notice: Notice) -> None:
        self.bus.publish((notice,))
        self._flush()

    def _submit(self, task: UploadTask, not_before: float = 0.0) -> None:
        if due(task) is not None and not self._closed:
            if task.step is not None:
                not_before = max(not_before, task.step.not_before)
            self.work.submit(WorkItem(not_before, task.id, task.uid))

    def _notify(self) -> None:
        with self._idle:
            self._idle.notify_all()

    def _remember(self, live: _Live) -> None:
        with self._lock:
            self._live[live.task.uid] = live
            while len(self._live) > 4096:  # a forgotten one is hashed again at its end
                uid, oldest = self._live.popitem(last=False)
                if oldest.inflow is not None:
                    self._live[uid] = oldest
                    break

    def _drop(self, task: UploadTask) -> None:
        with self._lock:
            live = self._live.pop(task.uid, None)
        if live is not None and live.inflow is not None:
            live.inflow.abandon()

    def _afterwards(self, session: Session) -> None:
        todo, session.afterwards = session.afterwards, []
        for action in todo:
            try:
                action()
            except UploadError as error:
                log.warning("upload %s: cleaning up has to wait: %s", session.task.id, error.sentence)

    def _locked(self, uploadid: str) -> _Locked:
        return _Locked(self, uploadid)

    def _hold(self, more: int) -> None:
        """Count the locks and claims of this thread."""
        self._holding.count = getattr(self._holding, "count", 0) + more

    def _flush(self) -> None:
        """Deliver, unless this thread holds something that a subscriber could wait for."""
        if not getattr(self._holding, "count", 0):
            self.bus.flush()


class Inflow:
    """Bytes that come piece by piece, and go on record when whoever brings them says so. Made by `Uploads.inflow`.

    One thread uses it at a time. Whatever it raises, the upload goes on from the offset on record.

    Attributes:
        offset: Where the next piece belongs, in bytes from the start of the file.
    """

    def __init__(self, engine: Uploads, task: UploadTask, sha1: Any, digest: tuple[str, bytes] | None) -> None:
        self.offset = task.offset
        self._engine = engine
        self._task = task
        self._limit = engine.settings.max_file_size if task.filesize is None else task.filesize
        self._from = task.offset
        self._sha1 = None if sha1 is None else sha1.copy()
        self._expected = None if digest is None else digest[1]
        self._check = None if digest is None else hashlib.new(digest[0], usedforsecurity=False)
        self._over: UploadError | None = None

    @property
    def over(self) -> UploadError | None:
        """Why nothing more is taken; ``None`` as long as it is."""
        return self._over

    def write(self, data: Buffer) -> None:
        """Store and hash the next piece. It is not on record yet.

        Raises:
            TooLarge: ``beyond_the_end``: nothing of the piece was stored.
            Refused: ``taken_over``, or the upload has moved on.
            StorageFull, StorageError, DataLost: As `Uploads.receive`.
        """
        with self._engine._locked(self._task.id):
            self._write(data)

    def write_at_once(self, data: Buffer) -> bool:
        """As `write`, for event loops: when another thread works on this very upload, and may sync, nothing is done.

        Returns:
            Whether it was written; if not, call `write` in a thread.
        """
        locked = self._engine._locked(self._task.id)
        if not locked.enter(wait=False):
            return False
        try:
            self._write(data)
        finally:
            locked.__exit__()
        return True

    def _write(self, data: Buffer) -> None:
        engine = self._engine
        self._still_open()
        if self.offset + len(data) > self._limit:
            raise TooLarge(
                f"The bytes would end at {self.offset + len(data):,}, the file ends at {self._limit:,}. Send no "
                "more than was declared.",
                code="beyond_the_end",
            )
        with _Storing(engine, self._task):
            try:
                engine._bytes.append(self._task.key, self.offset, data)
            except StorageFull as full:
                self._keep_what_came(full)
                raise
        if self._sha1 is not None:
            self._sha1.update(data)
        if self._check is not None:
            self._check.update(data)
        self.offset += len(data)

    def commit(self) -> UploadTask:
        """Put on record what was written, and tell everybody; after the last byte, the upload is complete.

        Returns:
            As `Uploads.receive`.

        Raises:
            Refused: ``body_checksum_mismatch``: nothing of this inflow is kept; ``taken_over``, or the upload has
                moved on.
            StorageFull, StorageError, DataLost: As `Uploads.receive`.
        """
        engine = self._engine
        with engine._locked(self._task.id):
            self._still_open()
            return self._commit()

    def _commit(self) -> UploadTask:
        engine = self._engine
        task = engine._need(self._task.id)
        size = self.offset - self._from
        if not size:
            return task
        if self._check is not None and self._check.digest() != self._expected:
            self._over = Refused(
                "The bytes have not the checksum that was sent with them. Nothing of them was kept: send them again.",
                code="body_checksum_mismatch",
            )
            self._roll_back()
            raise self._over
        digest = None
        if self._sha1 is not None and self.offset == task.filesize:
            digest = str(self._sha1.hexdigest())
        try:
            with _Storing(engine, task):
                task = engine._chunk(task, Chunk(self._from, None, record=digest is None, size=size), digest)
        except Refused as refused:
            self._over = refused
            self._roll_back()
            raise
        live = engine._live.get(task.uid)
        if live is not None and self._sha1 is not None:
            live.sha1 = self._sha1.copy()
        self._from = self.offset
        return task

    def finish(self) -> UploadTask:
        """`commit`, and let go: the last of an inflow, at the price of one.

        Raises:
            Refused, StorageFull, StorageError, DataLost: As `commit`.
        """
        with self._engine._locked(self._task.id):
            self._still_open()
            try:
                return self._commit()
            finally:
                self._over = self._over or _closed()
                self._let_go()

    def close(self) -> UploadTask | None:
        """Let go. What was written is put on record, unless it had to have a checksum: then it is taken back.

        Returns:
            The task; ``None`` when somebody else has it now.

        Raises:
            StorageFull, StorageError, DataLost: As `Uploads.receive`.
        """
        with self._engine._locked(self._task.id):
            if self._over is not None:
                return None
            return self.end(_closed())

    def end(self, reason: UploadError) -> UploadTask | None:
        """Let go because of somebody else; the upload's lock is held."""
        try:
            if self._check is None:
                return self._commit()
            if self.offset != self._from:
                self._roll_back()
            return self._engine._need(self._task.id)
        finally:
            self._over = self._over or reason
            self._let_go()

    def _keep_what_came(self, full: StorageFull) -> None:
        """The next bytes have no room. Those before them are here."""
        try:
            self.end(full)
        except UploadError:
            self._roll_back()

    def _roll_back(self) -> None:
        """Cut away what is not on record; the SHA-1 of what is goes on."""
        try:
            self._engine._bytes.rollback(self._task.key)
        except UploadError:
            self._engine._take_back(self._task)
        self._let_go()

    def _let_go(self) -> None:
        live = self._engine._live.get(self._task.uid)
        if live is not None and live.inflow is self:
            live.inflow = None

    def settle(self) -> None:
        """Put on record what came, if that may be; the upload's lock is held."""
        if self._over is None and self._check is None:
            self._commit()
        elif self._over is None:
            self.end(Refused("The upload was looked at or declared anew while it was sent. Go on.", code="taken_over"))

    def bound(self, filesize: int) -> None:
        """Take no bytes beyond a length that came late; the upload's lock is held."""
        self._limit = filesize

    def abandon(self) -> None:
        """The upload has moved on: there is nothing to put on record any more."""
        self._over = self._over or WrongState("The upload takes no bytes any more. Ask for its state.")

    def _still_open(self) -> None:
        if self._over is not None:
            raise self._over


def _closed() -> Refused:
    return Refused("This connection has let go of the upload.", code="closed")


@contextmanager
def _without_collector() -> Iterator[None]:
    """The index of a full store is a million objects and no garbage: to look through it takes a third of the start."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _same_step(task: UploadTask, session: Session) -> bool:
    step = task.step
    return step is not None and step.trigger is session.step and step.token == session.token


def _duplicate(task: UploadTask, offer: Offer) -> Duplicate | None:
    declared = (offer.contenttype, offer.filesize, offer.sha1, offer.filename)
    for name, new in zip(_DECLARED, declared, strict=True):
        known = getattr(task, name)
        if new != known and not (new is None and name in ("filesize", "sourcechecksum")):
            return Duplicate(
                f"The id {task.id} belongs to another upload: its {name} is {known!r}, not {new!r}. Choose another id, "
                "remove that upload first, or declare what was not known then."
            )
    return None


def _wrong_state(trigger: Trigger, task: UploadTask) -> str:
    sources = sorted({source.value for (t, source) in _LADDERS if t is trigger})
    rows = [row for (_, source), ladder in _LADDERS.items() if source is task.state for row in ladder]
    possible = sorted({row.trigger.value for row in rows if By.CLIENT in row.by})
    return (
        f"{trigger} is not possible in state {task.state}. It needs: {', '.join(sources)}. "
        f"Possible now: {', '.join(possible) or 'nothing'}."
    )
