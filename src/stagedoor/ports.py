"""The ports: what the engine needs from the world, and nothing more.

Adapters implement these protocols; `stagedoor.testing` ships a conformance suite for each. Optional abilities
are protocols of their own. All methods may be called from several threads, but the engine calls at most one
*changing* method at a time for one key or task.

Errors: an adapter raises `StorageError` (or `DataLost`, `StorageFull`, `Conflict`) and nothing else on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol, TypeAlias, runtime_checkable

from attrs import field, frozen

from .lifecycle import State, Trigger
from .notices import Notice
from .tasks import JSON, Finding, PlacedFile, Plan, PlannedFile, UploadTask

__all__ = [
    "AlbumEntry",
    "ArtworkEntry",
    "Buffer",
    "ByteStore",
    "Clock",
    "ContentType",
    "Entry",
    "EventBus",
    "Ids",
    "Illustrated",
    "Keeper",
    "KeptFile",
    "Library",
    "MusicLibrary",
    "Preprocessed",
    "Producer",
    "Quarantine",
    "Recovered",
    "Renamer",
    "Room",
    "SongEntry",
    "Source",
    "Subscriber",
    "Summary",
    "Surroundings",
    "TaskStore",
    "Tree",
    "VideoEntry",
    "WorkItem",
    "WorkQueue",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
Clock: TypeAlias = Callable[[], float]
"""Seconds since the epoch."""
Ids: TypeAlias = Callable[[], str]
"""A random name of 32 hexadecimal digits, never the same twice."""
Source: TypeAlias = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens the uploaded bytes for reading, seekable and unbuffered."""


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────


class ByteStore(Protocol):
    """Keeps the bytes of uploads, and the offset R up to which they are on record.

    A key is ``<uid>.<generation>``. What `commit` returned from survives a crash, as the chosen level promises.
    """

    def create(self, key: str, name: str) -> str:
        """Make an empty place, durably.

        Args:
            key: New; a place that is there already is a `Conflict`.
            name: File name that the bytes should have (safe: letters, digits, dot, dash).

        Returns:
            The path of the bytes relative to the store, for people and for ``destinationpath``.
        """
        ...

    def append(self, key: str, offset: int, data: Buffer) -> None:
        """Write bytes behind what was appended before. They are on record after `commit` or `seal`.

        After an error nothing is appended: the next call is with the same offset.

        Args:
            key: Of an open place.
            offset: Where the bytes belong; must be the end of what is there.
            data: Any contiguous bytes; not kept.

        Raises:
            Conflict: ``offset`` is not the end, or the bytes are sealed.
            StorageFull: No room; what is on record stands, and the next call may succeed.
            DataLost: The place is gone.
            StorageError: The disk failed. The key is not to be appended to again.
        """
        ...

    def commit(self, key: str) -> int:
        """Make durable what was appended, and then the record of it, in this order.

        Returns:
            The offset now on record, R, in bytes.

        Raises:
            StorageFull: No room; R stands where it was.
            StorageError: The disk failed. The key is not to be appended to again.
        """
        ...

    def rollback(self, key: str) -> int:
        """Cut away what was appended and is not on record; returns R."""
        ...

    def size(self, key: str) -> int:
        """The offset on record, R, in bytes.

        Raises:
            DataLost: Fewer bytes are there than the record says, or none at all.
        """
        ...

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Open the bytes for reading: seekable, unbuffered, closed by the context.

        Raises:
            DataLost: They are gone.
        """
        ...

    def seal(self, key: str, name: str) -> str:
        """Make durable what was appended and give it its final name; afterwards `append` is a `Conflict`.

        Idempotent. The offset need not be on record: the caller records the new state of the upload next, and
        after a crash before that the record that there was holds again.

        Returns:
            The path relative to the store.
        """
        ...

    def close(self, key: str) -> None:
        """Nothing will be appended any more: let go of descriptors and of the offset's record."""
        ...

    def delete(self, key: str) -> None:
        """Delete the bytes and everything beside them, durably. A key that is not there is no error."""
        ...

    def recover(self, known: Mapping[str, State]) -> Recovered:
        """Bring the store into order after a crash. Called once, before anything else.

        Data beyond R is cut away, other generations of known uploads are deleted, and places that no task knows
        go into quarantine.

        Args:
            known: State of each task by its key.
        """
        ...


@runtime_checkable
class Room(Protocol):
    """Optional ability of a `ByteStore`: knows how much room is left."""

    def free(self) -> int:
        """Bytes that may still be stored."""
        ...


@runtime_checkable
class Quarantine(Protocol):
    """Optional ability of a `ByteStore`: keeps what belongs to nobody, for a while."""

    def age_out(self, before: float) -> int:
        """Delete what came into quarantine before this time, in seconds since the epoch; returns how much."""
        ...


@frozen
class Recovered:
    """What recovery found.

    Attributes:
        offsets: R of the keys whose task is in ``waitforchunk``.
        lost: Keys whose bytes are missing or short, with a sentence.
        quarantined: What nobody owns, relative paths.
        deleted: Leftovers that were deleted, relative paths.
    """

    offsets: Mapping[str, int] = field(factory=dict)
    lost: Mapping[str, str] = field(factory=dict)
    quarantined: Sequence[str] = ()
    deleted: Sequence[str] = ()


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Summary:
    """One line of a task store's index; small, because there may be a hundred thousand."""

    id: str
    key: str
    state: State
    revision: int
    updated: float
    deadline: float | None
    due: Trigger | None
    filesize: int | None
    not_before: float = 0.0

    @property
    def uid(self) -> str:
        """Of the task."""
        return self.key.partition(".")[0]


class TaskStore(Protocol):
    """Keeps one document a task."""

    def create(self, task: UploadTask) -> None:
        """Store a new task durably.

        Raises:
            Conflict: The id is taken.
        """
        ...

    def get(self, uploadid: str) -> UploadTask | None:
        """The task as stored last, or ``None``."""
        ...

    def cas(self, task: UploadTask, expected_revision: int) -> None:
        """Replace the task durably if its stored revision and uid are the expected ones.

        Raises:
            Conflict: They are not, or the task is gone.
        """
        ...

    def list(self) -> Sequence[Summary]:
        """All tasks, oldest id first, without reading their documents."""
        ...

    def delete(self, uploadid: str) -> None:
        """Delete the document durably. An id that is not there is no error."""
        ...

    def recover(self) -> Sequence[str]:
        """Bring the store into order after a crash: what is no document goes into quarantine.

        Returns:
            Relative paths of what was quarantined.
        """
        ...


# ── work and notices ──────────────────────────────────────────────────────────────────────────────────────────


@frozen(order=True)
class WorkItem:
    """Something is due.

    Attributes:
        not_before: Seconds since the epoch.
        id: The upload.
        uid: Which upload with this id.
    """

    not_before: float
    id: str
    uid: str


class WorkQueue(Protocol):
    """Hands due uploads to workers. Items may come twice, and may be outdated: the handler looks for itself."""

    def submit(self, item: WorkItem) -> None:
        """Add an item; never blocks."""
        ...

    def take(self, now: float) -> WorkItem | None:
        """The next item whose time has come, or ``None``."""
        ...

    def wait(self, now: float, timeout: float | None) -> None:
        """Block until `take` could have something, `close` is called, or ``timeout`` seconds passed."""
        ...

    def wake(self) -> None:
        """Let everybody who waits return from `wait` now."""
        ...

    def close(self) -> None:
        """Wake everybody who waits; from now on `wait` does not block."""
        ...


Subscriber: TypeAlias = Callable[[Notice], None]


class EventBus(Protocol):
    """Carries notices to whoever wants them. Lossy by contract: who misses some lists the tasks anew."""

    def publish(self, notices: Sequence[Notice]) -> None:
        """Queue notices; the order of calls is the order of delivery. Never blocks, never calls a subscriber."""
        ...

    def flush(self) -> None:
        """Deliver what is queued, if that is done in the caller's thread. Called without any lock held.

        Never raises because of a subscriber.
        """
        ...

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned function takes it off again."""
        ...

    def close(self) -> None:
        """Deliver what is queued and stop."""
        ...


# ── library ───────────────────────────────────────────────────────────────────────────────────────────────────


class Tree(Protocol):
    """A directory tree that people's players read: the music directory, the artwork directory.

    Paths are relative, made of safe components separated by ``/``. A file appears whole, under its final name,
    or not at all, and never replaces one that was there.
    """

    def missing_directories(self, path: str) -> tuple[str, ...]:
        """The parents of a path that do not exist yet, outermost first, relative."""
        ...

    def exists(self, path: str) -> bool:
        """Whether something has this name."""
        ...

    def names(self, directory: str = "") -> Sequence[str]:
        """What is in a directory, sorted, hidden things left out; empty when there is no such directory."""
        ...

    def place(
        self, uid: str, path: str, source: BinaryIO, sha256: str | None = None, *, replace: bool = False
    ) -> PlacedFile:
        """Copy a file into the tree; the name appears only when the copy is whole, durable and the right one.

        Idempotent: a file that an earlier call for this ``uid`` and ``path`` placed is adopted, until `settle`.

        With ``replace``, a regular file that has the name is moved into the upload's journal first, durably, from
        where `withdraw` and `remove` bring it back; ``PlacedFile.replaced`` is its SHA-256. It is never overwritten.
        What another upload has placed and not settled is not replaced yet: it may be withdrawn, and nobody may bring
        it back then.

        Raises:
            Conflict: ``destination_exists``, somebody else's file has the name; ``conflict``, it is not settled.
            DataLost: The bytes have not the ``sha256`` that is expected; nothing is visible.
            StorageError: It could not be done; nothing is visible.
        """
        ...

    def settle(self, uid: str) -> None:
        """Forget what is only needed to adopt or to repeat; called when the placement, or the removal, is on record.

        If that failed it is called again: at a start, or when somebody else wants to replace such a file.

        What was replaced is kept, and so is what `remove` has to know to bring it back.
        """
        ...

    def discard(self, uid: str) -> None:
        """Delete what was replaced for an upload, durably: the upload is being removed. Idempotent.

        What an interrupted `remove` has not brought back, because it got no further, comes back now.
        """
        ...

    def unsettled(self) -> Sequence[str]:
        """The uids for which something can still be adopted."""
        ...

    def withdraw(self, uid: str, paths: Iterable[str], directories: Iterable[str]) -> None:
        """Take back what `place` did for a ``uid`` and was not settled, and directories that are empty again."""
        ...

    def check(self, uid: str, file: PlacedFile) -> bool:
        """Whether a file that was placed for an upload is still the same, or gone. Reads the file.

        One that another upload has replaced is not, be it by the same bytes: it comes back with the other's removal.
        """
        ...

    def holds(self, uid: str, file: PlacedFile) -> bool:
        """Whether a file that was placed for an upload is still there, and no interrupted `remove` has taken it.

        One that was taken is held all the same as long as what it replaced has not come back, and its name is free.
        """
        ...

    def remove(self, uid: str, files: Iterable[PlacedFile], directories: Iterable[str]) -> None:
        """Take back what is on record as placed for an upload, and directories that are empty then, durably.

        May be interrupted and repeated until `settle`: what was taken once is known, and a file that somebody
        else has placed there since, be it the same bytes, is not touched. What a placement replaced comes back
        under its name; when somebody else has taken the name since, it stays in the journal, and `settle` keeps it.

        Raises:
            Conflict: ``changed_since``: a file is not the one that was placed; it is kept.
        """
        ...


@frozen
class KeptFile:
    """A file of the library that an upload has replaced, kept aside.

    Attributes:
        path: The name that it had, relative to the tree; empty if nobody knows.
        at: Where it is now, in the words of the tree: for one on a disk the path relative to it.
    """

    path: str
    at: str


@runtime_checkable
class Keeper(Protocol):
    """Optional ability of a `Tree`: tells what it keeps for undo, so that it can be found without the upload."""

    def kept(self, known: Container[str] = ()) -> Mapping[str, Sequence[KeptFile]]:
        """What was replaced and neither came back nor was discarded, by the uid of the upload, ordered.

        Args:
            known: Uids that are left out.
        """
        ...


@frozen(kw_only=True)
class VideoEntry:
    """A music video for the catalogue.

    Attributes:
        path: In the music directory, relative.
        artist: As in `path`'s first component, before it was made safe.
        name: Title.
        release: Year, four digits, or empty.
        origin: Where it came from (``internet``, ``CD`` …), free text.
        size: Bytes.
        sha1: Of the file.
        sha256: Of the file.
        duration: Seconds.
        width: Pixels as stored.
        height: Pixels as stored.
        codec: Video codec, FFmpeg's name.
    """

    path: str
    artist: str
    name: str
    release: str
    origin: str
    size: int
    sha1: str
    sha256: str
    duration: float
    width: int
    height: int
    codec: str


@frozen(kw_only=True)
class ArtworkEntry:
    """A cover for an album of the catalogue.

    Attributes:
        path: In the artwork directory, relative.
        artist: Name of the album's artist.
        album: Name of the album.
        albumid: Id of the album in the catalogue, when the user named it.
        sha256: Of the file.
    """

    path: str
    artist: str
    album: str
    albumid: str | None
    sha256: str


@frozen(kw_only=True)
class SongEntry:
    """A song of an album.

    Attributes:
        path: In the music directory, relative.
        name: Title.
        artist: Of the song; on a compilation not that of the album.
        disc: From 1 up.
        number: Of the track on its disc; 0 when nobody knows.
        size: Bytes.
        sha1: Of the file.
        sha256: Of the file.
        duration: Seconds.
        codec: FFmpeg's name.
    """

    path: str
    name: str
    artist: str
    disc: int
    number: int
    size: int
    sha1: str
    sha256: str
    duration: float
    codec: str


@frozen(kw_only=True)
class AlbumEntry:
    """Songs of an album, all that one upload brings. Several uploads may bring one album, a disc or a song each.

    Attributes:
        artist: Of the album, before it was made safe.
        name: Title.
        release: Year, four digits, or empty.
        origin: Where it came from, free text.
        sha1: Of the uploaded file, be it an archive or a song.
        songs: At least one.
    """

    artist: str
    name: str
    release: str
    origin: str
    sha1: str
    songs: tuple[SongEntry, ...]


Entry: TypeAlias = VideoEntry | ArtworkEntry | AlbumEntry


class Library(Protocol):
    """The music database."""

    def put(self, uid: str, entry: Entry) -> None:
        """Insert or update the one entry of an upload, durably.

        Raises:
            ContentRejected: The catalogue cannot take it (``album_not_found`` …).
        """
        ...

    def illustrate(self, uid: str, directory: str, thumbnail: str, preview: str) -> None:
        """Record the artwork of an entry: names of files in ``directory`` of the artwork tree.

        Raises:
            ContentRejected: ``entry_not_found``, nothing was put for this upload.
        """
        ...

    def unillustrate(self, uid: str) -> None:
        """Take back what `illustrate` did; the entry stays. Idempotent, also without an entry."""
        ...

    def forget(self, uid: str) -> None:
        """Take back exactly what `put` and `illustrate` did for an upload. Idempotent."""
        ...

    def close(self) -> None:
        """Let go of resources."""
        ...


@runtime_checkable
class MusicLibrary(Protocol):
    """Optional ability of a `Library`: answers, before a byte is sent or a file is placed."""

    def find_sha1(self, sha1: str) -> Sequence[str]:
        """Relative paths of the entries whose file, or whose upload, has this SHA-1. Advice, no proof."""
        ...

    def find_artists(self, name: str) -> Sequence[str]:
        """The spellings of the artists who may be meant by a name: first the one that matches, then similar ones."""
        ...

    def find_songs(self, artist: str, album: str, release: str) -> Sequence[SongEntry]:
        """The songs of an album, by disc and number; empty when it is not known."""
        ...

    def find_albums(self, artist: str, album: str, albumid: str | None) -> Sequence[str]:
        """The ids of the albums that an artwork with these names would be the cover of."""
        ...


# ── content ───────────────────────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class Preprocessed:
    """What a content type found out about accepted content.

    Attributes:
        content: Facts as plain JSON; they become ``task.content``.
        findings: Holds and warnings.
    """

    content: Mapping[str, JSON] = field(factory=dict)
    findings: Sequence[Finding] = ()


@frozen(kw_only=True)
class Illustrated:
    """Artwork that a content type made.

    Attributes:
        files: Bytes by path in the artwork tree; the paths are those of ``plan.artwork``. Without any, the library
            hears of no artwork.
        directory: Common directory of the files.
        thumbnail: File name in ``directory``.
        preview: File name in ``directory``.
        findings: Warnings.
    """

    files: Mapping[str, bytes]
    directory: str
    thumbnail: str
    preview: str
    findings: Sequence[Finding] = ()


class Surroundings(Protocol):
    """What planning may look at: the libraries as they are now."""

    @property
    def library(self) -> Library:
        """The music database; it may be a `MusicLibrary`."""
        ...

    def exists(self, root: str, path: str) -> bool:
        """Whether something has this name in a tree."""
        ...

    def names(self, root: str, directory: str = "") -> Sequence[str]:
        """What is in a directory of a tree; empty when there is none."""
        ...


class ContentType(Protocol):
    """Everything that depends on what an upload is. Registered by name; knows neither engine nor stores.

    Methods do their work for real, may take long, are called without any lock, and may be called again after a
    crash. `ContentRejected` says that the content (or its annotations) will not do; any other error is taken
    for a passing one and the step is tried again later.
    """

    @property
    def name(self) -> str:
        """The word in ``contenttype``."""
        ...

    @property
    def has_artwork(self) -> bool:
        """Whether the life goes through ``importartwork``."""
        ...

    def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
        """Decide whether the content can be used.

        Raises:
            ContentRejected: It cannot; the code and the sentence are kept and shown.
        """
        ...

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """Name the files from annotations and facts. Touches nothing; collisions are the engine's business.

        Never raises for what the user can mend: it goes into ``Plan.problems`` with severity ``reject``, or
        ``hold`` for a question that integration waits for, or ``warn``.
        """
        ...

    def import_(self, task: UploadTask, library: Library) -> None:
        """Tell the catalogue, from ``task.plan`` and ``task.placed`` alone.

        Raises:
            ContentRejected: The catalogue cannot take it.
        """
        ...

    def illustrate(self, task: UploadTask, source: Source) -> Illustrated:
        """Make the artwork that ``task.plan.artwork`` names.

        Raises:
            ContentRejected: It cannot be made.
        """
        ...


@runtime_checkable
class Producer(Protocol):
    """Optional ability of a `ContentType`: makes the files of a plan that are not the uploaded one."""

    def produce(
        self, task: UploadTask, source: Source, files: Sequence[PlannedFile]
    ) -> AbstractContextManager[Iterable[tuple[PlannedFile, BinaryIO]]]:
        """The bytes of planned files whose ``source`` is not empty.

        Each is given once, in an order that suits the producer. A stream is read from start to end, once, before
        the next one is asked for; it need not be seekable.

        Raises:
            ContentRejected: They cannot be made.
        """
        ...


@runtime_checkable
class Renamer(Protocol):
    """Optional ability of a `ContentType`: finds other names for artwork that is `PlannedFile.optional`."""

    def renamed(self, plan: Plan, around: Surroundings) -> Plan:
        """The plan with free names for its artwork: somebody else has one of the former by now."""
        ...
