"""The upload manager with the names of MusicDB's specification: a drop-in over `stagedoor.engine`.

`UploadManager` has the operations of ``mdbapi.uploadmanager.UploadManager`` with its arguments, return values and
exceptions; tasks are dictionaries, refusals are ``False`` and a line in the log. Everything is done by an `Uploads`,
which is there as `UploadManager.uploads` for what the specification has no name for: undo, retry, plan. No state
is decided here: a method fires a trigger, and the life cycle's table answers.

What the specification leaves to the imagination:

* The dictionaries are copies. A method that takes one goes by its ``id`` (and ``uid``, so that an old copy never
  stands for a new upload with the same id), and brings the dictionary up to date when it is done.
* A callback is called as ``function(notification, data)``, with a `NoticeKind` value and a dictionary with the keys
  ``uploadid``, ``offset``, ``chunksize``, ``state``, ``message`` and ``uploadtask``, in a thread of its own.
* One `UploadManager` owns the uploads directory, as one `Uploads` does.
"""

# ruff: noqa: N802  -- the names of the methods are the specification's

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol, Self, TypeAlias

from attrs import define, evolve, frozen

from .adapters.inprocess import ThreadedBus
from .adapters.local import Durability
from .engine import Uploads
from .errors import Refused, TaskNotFound, UploadError
from .lifecycle import ROWS, By, Kind, Phase, State, Trigger, due, row_taken
from .notices import Notice, NoticeKind
from .ports import Clock, ContentType, EventBus, Library, Subscriber
from .protocols.musicdb import waits_for_annotation
from .settings import Settings
from .tasks import SPECIFICATION_KEYS, Event, Offer, UploadTask, to_dict
from .worker import Worker

__all__ = [
    "ArtworkConfig",
    "Callback",
    "Config",
    "Configuration",
    "InvalidValue",
    "MusicConfig",
    "Task",
    "UploadManager",
    "UploadsConfig",
]

log = logging.getLogger(__name__)

Task: TypeAlias = dict[str, Any]
"""A task dictionary: the specification's keys and the library's own, plain JSON, paths absolute."""
Callback: TypeAlias = Callable[[str, dict[str, Any]], object]
"""``function(notification, data)``; what it returns is ignored."""

_SPECIFIED: Final = ("video", "album", "artwork")
"""Content types that are never a ``ValueError``, whether this server handles them or not."""


class InvalidValue(Refused, ValueError):
    """The ``ValueError`` of the specification. Like every error of the library it has a ``code`` for programs."""

    default_code = "invalid_value"


# ── configuration ─────────────────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class UploadsConfig:
    """Section ``uploads``.

    Attributes:
        path: The uploads directory.
        allow: Whether uploads are taken; off, as in MusicDB, unless switched on.
    """

    path: str | os.PathLike[str]
    allow: bool = False


@frozen(kw_only=True)
class MusicConfig:
    """Section ``music``.

    Attributes:
        path: The music directory.
    """

    path: str | os.PathLike[str]


@frozen(kw_only=True)
class ArtworkConfig:
    """Section ``artwork``.

    Attributes:
        path: The artwork directory.
    """

    path: str | os.PathLike[str]


@frozen(kw_only=True)
class Config:
    """A configuration for `UploadManager`; any object with these attributes does as well."""

    uploads: UploadsConfig
    music: MusicConfig
    artwork: ArtworkConfig


class _Directory(Protocol):
    @property
    def path(self) -> str | os.PathLike[str]: ...


class _Uploads(_Directory, Protocol):
    @property
    def allow(self) -> bool: ...


class Configuration(Protocol):
    """What `UploadManager` reads of a configuration: ``uploads.path``, ``uploads.allow``, ``music.path`` and
    ``artwork.path``. MusicDB's own configuration object has them.
    """

    @property
    def uploads(self) -> _Uploads:
        """The uploads directory, and whether uploads are taken."""
        ...

    @property
    def music(self) -> _Directory:
        """The music directory."""
        ...

    @property
    def artwork(self) -> _Directory:
        """The artwork directory."""
        ...


def _directory(config: Configuration, section: str) -> str:
    path = getattr(getattr(config, section, None), "path", None)
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(name, str):
        raise TypeError(f"config.{section}.path must be a path, not {type(path).__name__}.")
    return os.path.abspath(name)


def _allow(config: Configuration) -> bool:
    allow = getattr(getattr(config, "uploads", None), "allow", None)
    if not isinstance(allow, bool):
        raise TypeError(f"config.uploads.allow must be a bool, not {type(allow).__name__}.")
    return allow


def _check_database(database: object) -> None:
    methods = [name for name in vars(Library) if not name.startswith("_")]
    missing = [name for name in methods if not callable(getattr(database, name, None))]
    if database is not None and missing:
        raise TypeError(
            f"The database must be a stagedoor Library or None, not {type(database).__name__}: "
            f"it has no {' and no '.join(missing)}."
        )


# ── the upload manager ────────────────────────────────────────────────────────────────────────────────────────


@frozen
class _KeptBus:
    """A bus that outlives the `Uploads` that publishes on it: `UploadManager.LoadTasks` opens another one."""

    bus: EventBus

    def publish(self, notices: Sequence[Notice]) -> None:
        self.bus.publish(notices)

    def flush(self) -> None:
        self.bus.flush()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        return self.bus.subscribe(subscriber)

    def close(self) -> None:
        """Not yet."""


@define(eq=False)
class _Registered:
    """A callback's place in the list; two registrations of one function are two."""

    function: Callback
    unsubscribe: Callable[[], None]
    active: bool = True


class UploadManager:
    """Manages uploading content to the server.

    Close it with `Close`, or use it as a context manager.

    Args:
        config: A `Config`, or any object with the attributes of `Configuration`.
        database: The music database, an object with the methods of `stagedoor.ports.Library`; ``None`` for the
            SQLite catalogue ``catalogue.sqlite`` in the uploads directory. One that is given is not closed here.
        durability: What an acknowledgement survives: ``power``, ``process`` or ``none``.
        contents: The content types; the built-in ones when not given.
        settings: The limits; ``allow`` is the configuration's.
        bus: Carries notices, and is closed here; a bus with a thread for each callback when none is given.
        clock: Seconds since the epoch.
        threads: How many slow steps the management does at once.

    The management has to be started; see `StartUploadManagementThread`.

    Raises:
        TypeError: ``config`` or ``database`` is not of the correct type.
        InUse: The uploads directory belongs to another process, or to another `UploadManager`.
        ConfigurationError: It cannot work like this.
    """

    def __init__(
        self,
        config: Configuration,
        database: Library | None,
        *,
        durability: Durability = "power",
        contents: Sequence[ContentType] | None = None,
        settings: Settings | None = None,
        bus: EventBus | None = None,
        clock: Clock = time.time,
        threads: int = 2,
    ) -> None:
        uploads, music, artwork = (_directory(config, name) for name in ("uploads", "music", "artwork"))
        settings = evolve(settings or Settings(), allow=_allow(config))
        _check_database(database)
        self._roots = {"destinationpath": uploads, "videofile": music, "artworkfile": artwork}
        self._bus = bus or ThreadedBus()
        self._open = partial(
            Uploads.open,
            uploads,
            music=music,
            artwork=artwork,
            library=database,
            contents=contents,
            durability=durability,
            settings=settings,
            bus=_KeptBus(self._bus),
            clock=clock,
        )
        self._threads = threads
        self._lock = threading.Lock()
        self._callbacks: list[_Registered] = []
        self._worker: Worker | None = None
        self._uploads = self._open()

    @property
    def uploads(self) -> Uploads:
        """What does the work. Another one after `LoadTasks`."""
        return self._uploads

    def Close(self) -> None:
        """Stop the management, tell the callbacks what is still to be told, and give the directory free.

        Closing twice is no error.
        """
        self.StopUploadManagementThread()
        self._bus.close()
        self._uploads.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.Close()

    # ── management thread ─────────────────────────────────────────────────────────────────────────────────

    def StartUploadManagementThread(self) -> None:
        """Let threads do what is due: pre-process, import, make artwork, remove. Starting twice is no error."""
        with self._lock:
            if self._worker is None:
                self._worker = Worker(self._uploads, threads=self._threads)
                self._worker.start()

    def StopUploadManagementThread(self) -> None:
        """Let the steps under way end, and return when the threads are gone. Stopping twice is no error.

        Not from a callback that a step under way is waiting for.
        """
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    # ── callbacks ─────────────────────────────────────────────────────────────────────────────────────────

    def RegisterCallback(self, function: Callback) -> None:
        """Call a function on every notification from now on. A function that raises disturbs no other.

        Args:
            function: Called as ``function(notification, data)``; registered twice, it is called twice.

        Raises:
            TypeError: It cannot be called.
        """
        if not callable(function):
            raise TypeError(f"A callback must be callable, not {type(function).__name__}.")
        with self._lock:
            registered = _Registered(function, _nothing)
            registered.unsubscribe = self._subscribe(registered)
            self._callbacks.append(registered)

    def RemoveCallback(self, function: Callback) -> None:
        """Call a function no more, not even for what is on its way. Safe at any time, in a callback too.

        A function that is not registered is no error, but a warning in the log.
        """
        with self._lock:
            registered = next((r for r in self._callbacks if r.function == function), None)
            if registered is None:
                log.warning("a callback that is not registered cannot be removed")
                return
            registered.active = False
            self._callbacks.remove(registered)
        registered.unsubscribe()

    def NotifyClient(self, notification: str, task: Task | None, message: str | None = None) -> None:
        """Tell all clients something about an upload as it is on record now.

        Args:
            notification: ``ChunkRequest``, ``StateUpdate`` or ``InternalError``.
            task: The upload; ``None``, or a task that is gone, is told as state ``notexisting``.
            message: A sentence for people.

        Raises:
            TypeError: ``task`` is no task dictionary, or ``message`` no text.
            ValueError: The name of the notification is unknown.
        """
        kind = next((kind for kind in NoticeKind if kind == notification), None)
        if kind is None:
            raise InvalidValue(f"There is no notification {_printable(str(notification))!r}.", code="no_notification")
        if not isinstance(message, str | None):
            raise TypeError(f"The message must be a str or None, not {type(message).__name__}.")
        uploadid = "" if task is None else _id_of(task)
        found = None
        if task is not None:
            with suppress(UploadError):  # it is no id at all
                found = self.uploads.find(uploadid)
        if found is not None and task is not None and task.get("uid", found.uid) != found.uid:
            found = None
        self._tell(Notice(kind, uploadid, found, message))

    # ── uploading ─────────────────────────────────────────────────────────────────────────────────────────

    def InitiateUpload(
        self, uploadid: str, mimetype: str, contenttype: str, filesize: int, checksum: str, sourcefilename: str
    ) -> None:
        """Declare an upload and request its first chunk; or take up one that was declared in the same way before.

        A refusal (uploads are switched off, the id belongs to another declaration, a limit, no room) creates
        nothing: the clients are sent an ``InternalError``.

        Args:
            uploadid: Chosen by the client: 1 to 128 letters, digits, dots, dashes and underscores.
            mimetype: As the client says; advice only.
            contenttype: ``video``, ``album``, ``artwork``, or the name of another content type of this server.
            filesize: In bytes, at least 1.
            checksum: SHA-1 of the file, 40 hexadecimal digits.
            sourcefilename: Name of the file; its extension is used.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument has a value that is never allowed; ``code`` says which (``empty`` …).
        """
        for name, value in (
            ("uploadid", uploadid), ("mimetype", mimetype), ("contenttype", contenttype), ("checksum", checksum),
            ("sourcefilename", sourcefilename),
        ):  # fmt: skip
            _check_text(name, value)
        if isinstance(filesize, bool) or not isinstance(filesize, int):
            raise TypeError(f"filesize must be an int, not {type(filesize).__name__}.")
        known = {*_SPECIFIED, *self.uploads.ports.contents}
        if contenttype not in known:
            raise InvalidValue(
                f"There is no content type {_printable(contenttype[:40])!r}; there are: {', '.join(sorted(known))}.",
                code="invalid_contenttype",
            )
        try:
            offer = Offer(
                uploadid, filename=sourcefilename, contenttype=contenttype, filesize=filesize, sha1=checksum,
                mimetype=mimetype,
            )  # fmt: skip
        except Refused as error:
            raise InvalidValue(error.sentence, code=error.code) from error
        try:
            self.uploads.initiate(offer)
        except UploadError as error:  # the engine has told the clients
            _log_refusal("InitiateUpload", uploadid, error)

    def NewChunk(self, uploadid: str, rawdata: bytes) -> bool:
        """Append a chunk at the offset on record, and request the next one or complete the upload.

        Args:
            uploadid: The upload.
            rawdata: At least one byte.

        Returns:
            Whether the chunk was stored, and, if it was the last one, the file is as declared. ``False`` for an
            unknown id as well, which the clients are told.

        Raises:
            TypeError: ``rawdata`` is not ``bytes``, or the id no ``str``.
        """
        _check_text("uploadid", uploadid)
        if not isinstance(rawdata, bytes):
            raise TypeError(f"rawdata must be bytes, not {type(rawdata).__name__}.")
        try:
            # Whoever was overtaken by another chunk is refused: its bytes were meant for an offset that is past.
            task = self.uploads.receive(uploadid, offset=self._get(uploadid).offset, data=rawdata)
            if due(task) is Trigger.COMPLETE:  # the bytes came before and after a restart, and are hashed again
                self.uploads.perform(uploadid)
                task = self.uploads.get(uploadid)
        except UploadError as error:
            _log_refusal("NewChunk", uploadid, error)
            return False
        return not _failed(task, Trigger.COMPLETE)

    def UploadCompleted(self, task: Task) -> bool:
        """Compare the SHA-1 of what was stored with the declared one. `NewChunk` does it after the last chunk.

        Returns:
            Whether the upload was completed successfully, by this call or before. ``False`` when bytes are
            missing, or for an unknown upload.
        """
        now = self._find(task)
        if now is None:
            return False
        if now.state.phase in (Phase.CONTENT, Phase.LIBRARY):
            _bring_up_to_date(task, self._dictionary(now))
            return True
        return self._step(task, Trigger.COMPLETE)

    def AnnotateUpload(self, uploadid: str, annotations: Mapping[str, Any]) -> bool:
        """Say something about an upload, during or after it; keys are merged over those that are there.

        Args:
            uploadid: The upload.
            annotations: Any JSON, by keys of text.

        Returns:
            Whether they were taken; too many or impossible ones are not, nor those for an upload that is removed.

        Raises:
            TypeError: ``uploadid`` is no ``str``, or ``annotations`` no dictionary with keys of text.
            ValueError: The id is unknown; the clients are told.
        """
        _check_text("uploadid", uploadid)
        if not isinstance(annotations, Mapping):
            raise TypeError(f"annotations must be a dict, not {type(annotations).__name__}.")
        try:
            self._get(uploadid)
            self.uploads.annotate(uploadid, annotations)
        except TaskNotFound as error:
            raise InvalidValue(error.sentence, code=error.code) from error
        except UploadError as error:
            _log_refusal("AnnotateUpload", uploadid, error)
            return False
        return True

    def RequestRemoveUpload(self, uploadid: str) -> bool:
        """Put an upload into the state ``remove``. The management deletes it; music and database are not touched.

        Returns:
            Whether it was done; ``False`` when it is being removed already, and for an unknown id, which the
            clients are told.

        Raises:
            TypeError: ``uploadid`` is no ``str``.
        """
        _check_text("uploadid", uploadid)
        try:
            self._get(uploadid)
            self.uploads.remove(uploadid)
        except UploadError as error:
            _log_refusal("RequestRemoveUpload", uploadid, error)
            return False
        return True

    # ── content ───────────────────────────────────────────────────────────────────────────────────────────

    def PreProcessUploadedFile(self, task: Task) -> bool:
        """Look into an uploaded file, in state ``uploadcomplete`` only.

        Returns:
            Whether the content was accepted. ``False``, with an error in the log, in another state, for an
            unknown upload, and when the management is at it already.
        """
        methods = {
            "video": self.PreProcessVideo,
            "artwork": self.PreProcessArtwork,
            "album": self.PreProcessAlbum,
        }
        now = self._find(task)
        if now is None:
            return False
        method = methods.get(now.contenttype)
        return self._step(task, Trigger.PREPROCESS) if method is None else method(task)

    def PreProcessVideo(self, task: Task) -> bool:
        """`PreProcessUploadedFile` for videos only."""
        return self._step(task, Trigger.PREPROCESS, "video")

    def PreProcessArtwork(self, task: Task) -> bool:
        """`PreProcessUploadedFile` for artworks only."""
        return self._step(task, Trigger.PREPROCESS, "artwork")

    def PreProcessAlbum(self, task: Task) -> bool:
        """`PreProcessUploadedFile` for albums only."""
        return self._step(task, Trigger.PREPROCESS, "album")

    # ── library ───────────────────────────────────────────────────────────────────────────────────────────

    def IntegrateUploadedFile(self, uploadid: str, triggerimport: bool) -> bool:
        """Put the uploaded file into the music directory, in state ``preprocessed`` only.

        After an undo nothing happens before somebody has annotated the upload: MusicDB's web client integrates an
        artwork as soon as it hears ``preprocessed``, and would undo the undo.

        Args:
            uploadid: The upload.
            triggerimport: Whether the import starts as well; the management does it.

        Returns:
            Whether the files are in the music directory now. ``False`` when nothing happened, and when the state
            became ``integrationfailed``; the reason is in the log.

        Raises:
            TypeError: ``uploadid`` is no ``str``.
            ValueError: The id is unknown; the clients are told.
        """
        _check_text("uploadid", uploadid)
        try:
            return self._integrate("IntegrateUploadedFile", self._get(uploadid), bool(triggerimport))
        except TaskNotFound as error:
            raise InvalidValue(error.sentence, code=error.code) from error

    def IntegrateVideo(self, task: Task) -> bool:
        """`IntegrateUploadedFile` for videos only, without the import.

        Returns:
            ``False``, with an error in the log, when an annotation is missing that the path needs; and for
            another content type, another state, or an unknown upload.
        """
        return self._integrate_as("video", "IntegrateVideo", task)

    def IntegrateArtwork(self, task: Task) -> bool:
        """`IntegrateVideo` for artworks."""
        return self._integrate_as("artwork", "IntegrateArtwork", task)

    def IntegrateAlbum(self, task: Task) -> bool:
        """`IntegrateVideo` for albums."""
        return self._integrate_as("album", "IntegrateAlbum", task)

    def ImportVideo(self, task: Task) -> bool:
        """Tell the music database about a video, in state ``startimport`` only.

        Returns:
            Whether it knows it now. ``False`` for another state or content type, for an unknown upload, and when
            the management is at it already.
        """
        return self._step(task, Trigger.IMPORT, "video")

    def ImportArtwork(self, task: Task) -> bool:
        """`ImportVideo` for artworks."""
        return self._step(task, Trigger.IMPORT, "artwork")

    def ImportAlbum(self, task: Task) -> bool:
        """`ImportVideo` for albums."""
        return self._step(task, Trigger.IMPORT, "album")

    def ImportVideoArtwork(self, task: Task) -> bool:
        """Make the frames and the preview of a video, in state ``importartwork`` only.

        Returns:
            Whether they are made. ``False`` for another state or content type, for an unknown upload, and when the
            management is at it already.
        """
        return self._step(task, Trigger.IMPORT_ARTWORK, "video")

    def ImportAlbumArtwork(self, task: Task) -> bool:
        """`ImportVideoArtwork` for the cover of an album."""
        return self._step(task, Trigger.IMPORT_ARTWORK, "album")

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────

    def GetTaskByID(self, uploadid: str) -> Task:
        """A copy of a task.

        Raises:
            TypeError: ``uploadid`` is no ``str``.
            ValueError: The id is unknown; the clients are sent an ``InternalError`` with state ``notexisting``.
        """
        _check_text("uploadid", uploadid)
        try:
            return self._dictionary(self._get(uploadid))
        except TaskNotFound as error:
            raise InvalidValue(error.sentence, code=error.code) from error

    def GetTasks(self) -> dict[str, Task]:
        """Copies of all tasks, by id."""
        return {task.id: self._dictionary(task) for task in self.uploads.tasks()}

    def LoadTasks(self) -> None:
        """Read ``tasks/*.json`` in the uploads directory anew: what the files say is what there is from now on.

        Like a restart: it recovers, and takes over tasks that MusicDB left. Tasks are always read from their
        files, so this is only needed after somebody else changed files. The management is stopped meanwhile,
        callbacks stay; nobody may be inside another method.

        Raises:
            StorageError: The files cannot be read. The manager is closed then.
        """
        managed = self._worker is not None
        self.StopUploadManagementThread()
        self._uploads.close()
        self._uploads = self._open()
        if managed:
            self.StartUploadManagementThread()

    def SaveTask(self, task: Task) -> None:
        """Make what the caller changed in a copy of a task durable, in ``tasks/<id>.json``.

        New and changed annotations are merged, a changed state fires the row of the life cycle that leads to it,
        as in `UpdateTaskState`. Nothing else can be changed by anybody.

        Raises:
            TypeError: It is no task dictionary.
            ValueError: The upload is unknown (the clients are told); no row leads to the state; something else
                was changed; the task has changed since the copy was made.
        """
        now = self._need(task)
        state = _state(task.get("state", now.state))
        annotations = task.get("annotations", {})
        if not isinstance(annotations, Mapping):
            raise TypeError(f"annotations must be a dict, not {type(annotations).__name__}.")
        record = self._dictionary(now)
        changed = {k: v for k, v in annotations.items() if k not in now.annotations or record["annotations"][k] != v}
        if task.get("revision", now.revision) == now.revision:
            for key in SPECIFICATION_KEYS:
                if key not in ("state", "annotations", "offset") and task.get(key, record[key]) != record[key]:
                    raise InvalidValue(f"{key} of an upload cannot be changed.", code="unchangeable")
            gone = sorted(set(record["annotations"]) - set(annotations)) if "annotations" in task else []
            if gone:
                raise InvalidValue(
                    f"Annotations can be replaced, not taken away: {_printable(', '.join(gone)[:200])}.",
                    code="unchangeable",
                )
        elif changed or state is not now.state:
            raise InvalidValue(
                f"The upload {now.id} has changed since this copy was made. Get it again, and change that.",
                code="changed_meanwhile",
            )
        trigger = None if state is now.state else _leading(now.state, state)
        if changed:
            now = self._or_invalid(lambda: self.uploads.annotate(now.id, changed))
        if trigger is not None:
            now = self._lead(now, trigger, state)
        _bring_up_to_date(task, self._dictionary(now))

    def UpdateTaskState(self, task: Task, state: str, errormessage: str | None = None) -> None:
        """Fire the row of the life cycle that leads from the present state to another one.

        What a row needs, it needs here too: a step is done for real, and a failure cannot be claimed. In the
        state that is there already, only the notification is sent.

        Args:
            task: The upload; brought up to date.
            state: The new state.
            errormessage: Told to the clients in an ``InternalError``, after the change.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The upload is unknown (the clients are told); there is no such state; no row leads to it,
                or the row's conditions are not met.
        """
        if not isinstance(errormessage, str | None):
            raise TypeError(f"errormessage must be a str or None, not {type(errormessage).__name__}.")
        wanted = _state(state)
        now = self._need(task)
        if wanted is not now.state:
            now = self._lead(now, _leading(now.state, wanted), wanted)
        elif errormessage is None:
            self._tell(Notice(NoticeKind.STATE_UPDATE, now.id, now, now.message, now.code))
        if errormessage is not None:
            self._tell(Notice(NoticeKind.INTERNAL_ERROR, now.id, now, errormessage))
        _bring_up_to_date(task, self._dictionary(now))

    def RemoveTask(self, task: Task) -> bool:
        """Delete the uploaded file, what was derived from it, and ``tasks/<id>.json``, now.

        Returns:
            Whether it is gone. ``False`` when a step under way has to end first (the management deletes then), and
            for an unknown upload, which the clients are told.
        """
        now = self._find(task)
        if now is None:
            return False
        try:
            if due(now) is not Trigger.REMOVE:
                _bring_up_to_date(task, self._dictionary(self.uploads.remove(now.id)))
            self.uploads.perform(now.id)
            left = self.uploads.wait(now.id, timeout=0)
        except TimeoutError:
            return False
        except UploadError as error:
            _log_refusal("RemoveTask", now.id, error)
            return False
        return left is None or left.uid != now.uid

    # ── helpers ───────────────────────────────────────────────────────────────────────────────────────────

    def _get(self, uploadid: str) -> UploadTask:
        """The task of an id; whoever asks for an unknown one, the clients are told."""
        try:
            return self.uploads.get(uploadid)
        except Refused as error:  # it is no id at all, so there is no such upload
            self._tell(Notice(NoticeKind.INTERNAL_ERROR, _printable(uploadid[:128]), None, error.sentence, error.code))
            raise TaskNotFound(_printable(uploadid)) from error

    def _need(self, task: Task) -> UploadTask:
        found = self._find(task)
        if found is None:
            raise InvalidValue(f"There is no upload {_printable(_id_of(task)[:128])!r}.", code="not_found")
        return found

    def _find(self, task: Task) -> UploadTask | None:
        """What is on record for a dictionary; the clients are told when it is nothing."""
        uploadid = _id_of(task)
        try:
            now = self._get(uploadid)
            if task.get("uid", now.uid) != now.uid:
                gone = TaskNotFound(uploadid)
                self._tell(Notice(NoticeKind.INTERNAL_ERROR, uploadid, None, gone.sentence, gone.code))
                raise gone
        except TaskNotFound as error:
            _log_refusal("looking up", uploadid, error)
            return None
        return now

    def _step(self, task: Task, trigger: Trigger, contenttype: str | None = None) -> bool:
        """Do the step that is due, if it is this one; whether it went well."""
        before = self._find(task)
        if before is None:
            return False
        if due(before) is not trigger or contenttype not in (None, before.contenttype):
            log.error(
                "%s is not due for upload %s, a %s in state %s", trigger, before.id, before.contenttype, before.state
            )
            return False
        try:
            self.uploads.perform(before.id)
            after = self.uploads.get(before.id)
        except UploadError as error:
            _log_refusal(trigger, before.id, error)
            return False
        _bring_up_to_date(task, self._dictionary(after))
        return _succeeded(before, after, trigger)

    def _integrate_as(self, contenttype: str, name: str, task: Task) -> bool:
        now = self._find(task)
        if now is None:
            return False
        if now.contenttype != contenttype:
            log.error("%s is not for upload %s, a %s", name, now.id, now.contenttype)
            return False
        try:
            done = self._integrate(name, now, trigger_import=False)
            _bring_up_to_date(task, self._dictionary(self.uploads.get(now.id)))
        except UploadError as error:
            _log_refusal(name, now.id, error)
            return False
        return done

    def _integrate(self, name: str, before: UploadTask, trigger_import: bool) -> bool:
        if waits_for_annotation(before):
            log.error("%s: the import of upload %s was undone; it has to be annotated first", name, before.id)
            return False
        try:
            after = self.uploads.integrate(before.id, trigger_import=trigger_import)
        except TaskNotFound:
            raise
        except UploadError as error:
            _log_refusal(name, before.id, error)
            return False
        if due(after) is Trigger.START_IMPORT:
            with suppress(UploadError):  # it is on record: the management does it, or was faster
                self.uploads.start_import(after.id)
        return _succeeded(before, after, Trigger.INTEGRATE)

    def _lead(self, before: UploadTask, trigger: Trigger, state: State) -> UploadTask:
        """Fire a trigger that should lead to a state."""
        uploads, uploadid = self.uploads, before.id
        simple: Mapping[Trigger, Callable[[str], UploadTask]] = {
            Trigger.RETRY: uploads.retry,
            Trigger.INTEGRATE: uploads.integrate,
            Trigger.START_IMPORT: uploads.start_import,
            Trigger.UNDO: uploads.undo,
            Trigger.REMOVE: uploads.remove,
        }

        def fire() -> UploadTask:
            if trigger in simple:
                return simple[trigger](uploadid)
            if due(before) is trigger:
                uploads.perform(uploadid)
            return uploads.get(uploadid)

        after = self._or_invalid(fire)
        if not any(e.dest == state for e in _news(before, after)):
            raise InvalidValue(
                f"{trigger} did not lead upload {uploadid} from {before.state} to {state}: it is in {after.state}. "
                f"{after.message or 'The conditions are not met.'}",
                code=after.code or "not_reached",
            )
        return after

    def _or_invalid(self, action: Callable[[], UploadTask]) -> UploadTask:
        try:
            return action()
        except UploadError as error:
            raise InvalidValue(error.sentence, code=error.code) from error

    def _dictionary(self, task: UploadTask) -> Task:
        document = to_dict(task)
        for key, root in self._roots.items():
            if document[key] is not None:
                document[key] = os.path.join(root, document[key])
        return document

    def _tell(self, notice: Notice) -> None:
        self._bus.publish((notice,))
        self._bus.flush()

    def _subscribe(self, registered: _Registered) -> Callable[[], None]:
        def deliver(notice: Notice) -> None:
            if registered.active:
                registered.function(notice.kind.value, self._data(notice))

        return self._bus.subscribe(deliver)

    def _data(self, notice: Notice) -> dict[str, Any]:
        # The specification has `chunksize` in every notification, so it is not only that of a request.
        size = self._uploads.settings.chunk_size
        task = notice.task
        if task is not None and task.filesize is not None and task.state is State.WAITFORCHUNK:
            size = min(size, task.filesize - task.offset)
        return {
            "uploadid": notice.uploadid or None,
            "offset": notice.offset,
            "chunksize": 0 if task is None else size,
            "state": notice.state.value,
            "message": notice.message,
            "uploadtask": None if task is None else self._dictionary(task),
        }


def _nothing() -> None:
    """No subscription yet."""


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}.")


def _id_of(task: object) -> str:
    if not isinstance(task, dict):
        raise TypeError(f"A task must be a dict, not {type(task).__name__}.")
    uploadid = task.get("id")
    if not isinstance(uploadid, str):
        raise TypeError(f"The id of a task must be a str, not {type(uploadid).__name__}.")
    return uploadid


def _state(state: object) -> State:
    _check_text("state", state)
    found = next((known for known in State if known == state), None)
    if found is None:
        raise InvalidValue(f"There is no state {_printable(str(state)[:40])!r}.", code="no_state")
    return found


def _leading(source: State, dest: State) -> Trigger:
    """The trigger that somebody may fire to get from one state to another.

    Failure rows are not among them: their guards, not a caller, find that something failed.
    """
    for row in ROWS:
        if (row.source, row.dest) == (source, dest) and row.kind is not Kind.FAILURE and row.by != (By.TIMER,):
            return row.trigger
    raise InvalidValue(f"Nothing that can be asked for leads from {source} to {dest}.", code="no_row")


def _news(before: UploadTask, after: UploadTask) -> list[Event]:
    """The lines of history since then."""
    last = before.history[-1].sequence if before.history else 0
    return [line for line in after.history if line.sequence > last]


def _succeeded(before: UploadTask, after: UploadTask, trigger: Trigger) -> bool:
    """Whether a step ended since then, by whomever, and went well; if not, the log says why."""
    for line in reversed(_news(before, after)):
        if line.trigger == trigger:
            row = row_taken(trigger, State(line.source), State(line.dest))
            if row is not None and row.kind is not Kind.FAILURE:
                return True
            log.error("%s of upload %s failed: %s", trigger, after.id, _printable(line.reason))
            return False
    log.warning("%s of upload %s is not over: %s", trigger, after.id, _printable(after.message or "wait"))
    return False


def _failed(task: UploadTask, trigger: Trigger) -> bool:
    """Whether the last thing that happened is a failure of this kind."""
    line = task.history[-1] if task.history else None
    if line is None or line.trigger != trigger:
        return False
    row = row_taken(trigger, State(line.source), State(line.dest))
    return row is not None and row.kind is Kind.FAILURE


def _bring_up_to_date(task: Task, record: Task) -> None:
    task.clear()
    task.update(record)


def _log_refusal(what: str, uploadid: str, error: UploadError) -> None:
    log.warning("%s, upload %s: %s", what, _printable(uploadid[:128]), _printable(error.sentence))


def _printable(text: str) -> str:
    """Text of a stranger for one line of a log: controls, line ends and invisible characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
