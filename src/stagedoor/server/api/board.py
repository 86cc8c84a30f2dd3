"""The board: all uploads in a few lines each, and pages of them in the same time however many there are.

The engine's own list sorts all uploads each time it is asked. Here they stay sorted, state by state, in two orders;
what the engine tells moves one of them. What the lines need beyond that is read from the documents of one page.

A filter by content type or text has to look into documents. It looks into a bounded number of them for one request,
remembers what it saw of each revision, and hands out a page that may be short and a cursor to go on with.
"""

from __future__ import annotations

import math
import re
import struct
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import merge
from typing import Any, Final, Literal, TypeAlias

from attrs import define, field, frozen

from ...engine import Uploads
from ...lifecycle import STORED_STATES, State, due
from ...notices import Notice
from ...protocols.problems import WireError
from ...tasks import UploadTask

__all__ = ["LISTED", "Board", "Line", "Order", "Page", "line_of"]

Order: TypeAlias = Literal["id", "newest"]

LISTED: Final[tuple[State, ...]] = tuple(state for state in STORED_STATES if state is not State.REMOVE)
"""States of the uploads on the board. The id of one that is being removed is no longer valid."""

_READ: Final = 500
"""So many documents are read for one request at most, beside those of the page itself."""
_SEEN: Final = 20_000
"""So many uploads whose facts are remembered are looked at for one request at most."""
_NAMES: Final = ("artistname", "albumname", "name", "albumid")
_LONGEST: Final = 200


@frozen(kw_only=True)
class Line:
    """An upload in a list and in an event: what a board shows.

    Attributes:
        id: Of the upload.
        uid: Random and never used again.
        state: See the life cycle.
        contenttype: ``video``, ``album``, ``artwork`` or a registered one.
        filename: As declared.
        mimetype: As declared.
        filesize: In bytes; ``None`` while it is not known.
        offset: Bytes on record.
        revision: Rises by one with each change of the document.
        created: Seconds since the epoch.
        updated: Seconds since the epoch.
        message: The reason for the last failure, or ``None``.
        code: Stable code for it.
        questions: Codes of the questions that integration waits for.
        due: What the management does next, or ``None`` while the upload waits for a client or rests.
        names: ``artistname``, ``albumname``, ``name`` and ``albumid``, where they are text, cut at 200 characters: as
            annotated, else what the content itself suggests and the plan would take.
    """

    id: str
    uid: str
    state: State
    contenttype: str
    filename: str
    mimetype: str
    filesize: int | None
    offset: int
    revision: int
    created: float
    updated: float
    message: str | None
    code: str | None
    questions: tuple[str, ...]
    due: str | None
    names: Mapping[str, str]


def line_of(task: UploadTask) -> dict[str, Any]:
    """The members of `Line` for a task, as JSON values. Written out because it is made for each notice."""
    step = due(task)
    return {
        "id": task.id,
        "uid": task.uid,
        "state": task.state.value,
        "contenttype": task.contenttype,
        "filename": task.sourcefilename,
        "mimetype": task.mimetype,
        "filesize": task.filesize,
        "offset": task.offset,
        "revision": task.revision,
        "created": task.created,
        "updated": task.updated,
        "message": task.message,
        "code": task.code,
        "questions": [question.code for question in task.open_questions],
        "due": None if step is None else step.value,
        "names": {key: name[:_LONGEST] for key, name in _names(task).items()},
    }


def _names(task: UploadTask) -> dict[str, str]:
    guess = task.content.get("guess")
    known = {**guess, **task.annotations} if isinstance(guess, Mapping) else task.annotations
    return {key: name for key in _NAMES if isinstance(name := known.get(key), str)}


@frozen
class Page:
    """A page of the list.

    Attributes:
        tasks: The uploads, in order.
        next: Where the next page begins; ``None`` when this is the last one.
    """

    tasks: Sequence[UploadTask]
    next: str | None


_Key: TypeAlias = tuple[float, str]
"""By this the uploads of a state are sorted: the negative time of the last change (0 in the order of ids), the id."""


@define(eq=False)
class _Entry:
    uid: str
    state: State
    revision: int
    updated: float
    facts: tuple[str, str] | None = None  # content type and what text is looked for in


@define(eq=False)
class _Sorted:
    ids: list[_Key] = field(factory=list)
    newest: list[_Key] = field(factory=list)


class Board:
    """All uploads of an engine but those that are being removed.

    Args:
        uploads: The engine.
    """

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._sorted: dict[State, _Sorted] = {state: _Sorted() for state in LISTED}
        self._filled = False

    def fill(self) -> None:
        """Take over what the engine knows; what `hear` heard before is newer. Once, and idempotent."""
        if self._filled:
            return
        lines = self._uploads.list()
        with self._lock:
            if self._filled:
                return
            self._filled = True
            for line in lines:
                if line.id not in self._entries and line.state is not State.REMOVE:
                    self._entries[line.id] = _Entry(line.uid, line.state, line.revision, line.updated)
            for at in self._sorted.values():
                at.ids.clear()
                at.newest.clear()
            for uploadid, entry in self._entries.items():
                at = self._sorted[entry.state]
                at.ids.append((0.0, uploadid))
                at.newest.append((-entry.updated, uploadid))
            for at in self._sorted.values():
                at.ids.sort()
                at.newest.sort()

    def hear(self, notice: Notice) -> bool:
        """Follow the engine; from any thread, in the order of an upload's notices.

        Returns:
            Whether the notice is the first of its revision.
        """
        task = notice.task
        if task is None:
            return False  # an offer may have been refused whose id an upload has; what is gone is found by `page`
        with self._lock:
            entry = self._entries.get(task.id)
            if entry is not None and entry.uid == task.uid:
                if entry.revision >= task.revision:
                    return False
                if task.state is State.REMOVE:
                    self._forget(task.id)
                    return True
                if entry.state is task.state:
                    self._move(self._sorted[entry.state].newest, entry.updated, task)
                else:
                    self._take_out(task.id, entry)
                    self._put_in(task)
                entry.state, entry.revision, entry.updated, entry.facts = task.state, task.revision, task.updated, None
                return True
            if task.state is State.REMOVE:
                return False
            if entry is not None:
                self._forget(task.id)
            self._entries[task.id] = _Entry(task.uid, task.state, task.revision, task.updated)
            self._put_in(task)
            return True

    def counts(self) -> dict[str, int]:
        """How many uploads are in each state."""
        with self._lock:
            return {state.value: len(at.ids) for state, at in self._sorted.items()}

    def page(
        self,
        *,
        states: Collection[State] = LISTED,
        contenttype: str | None = None,
        text: str | None = None,
        order: Order = "id",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """A page of the list. Reads documents, so not on the event loop.

        Args:
            states: Only uploads in one of these.
            contenttype: Only these.
            text: Only those in whose id, file name, names or message every one of these words is found, in any case.
            order: By id, or the one that changed last first.
            limit: The most uploads to return, at least 1.
            cursor: `Page.next` of the page before, with the same other arguments.

        Raises:
            WireError: ``invalid_cursor``.
            StorageError: A document cannot be read.
        """
        words = tuple((text or "").casefold().split())
        after = _after(cursor, order)
        found: list[UploadTask] = []
        reads = looks = 0
        for key in self._keys(states, order, after):
            uploadid = key[1]
            if contenttype is not None or words:
                facts = self._facts(uploadid)
                looks += 1
                if facts is None:
                    reads += 1
                elif not _fits(facts, contenttype, words):
                    if looks >= _SEEN:
                        return Page(found, _cursor(key, order))
                    continue
            task = self._uploads.find(uploadid)
            if task is None or task.state is State.REMOVE:
                self._gone(uploadid)
            else:
                facts = self._remember(task)
                if task.state in states and _fits(facts, contenttype, words):
                    found.append(task)
            if len(found) >= limit or reads >= _READ:
                return Page(found, _cursor(key, order) if self._more(states, order, key) else None)
        return Page(found, None)

    # ── in order ──────────────────────────────────────────────────────────────────────────────────────────────

    def _keys(self, states: Collection[State], order: Order, after: _Key | None) -> Iterator[_Key]:
        """Keys in order. They are copied in small pieces: nothing is held while documents are read."""
        size = 64
        while True:
            with self._lock:
                pieces = []
                for state in states:
                    if state in self._sorted:
                        keys = self._order(state, order)
                        start = 0 if after is None else bisect_right(keys, after)
                        pieces.append(keys[start : start + size])
            piece = [key for key, _ in zip(merge(*pieces), range(size), strict=False)]
            yield from piece
            if len(piece) < size:
                return
            after, size = piece[-1], min(2 * size, 4096)

    def _more(self, states: Collection[State], order: Order, after: _Key) -> bool:
        with self._lock:
            lists = [self._order(state, order) for state in states if state in self._sorted]
            return any(bisect_right(keys, after) < len(keys) for keys in lists)

    def _order(self, state: State, order: Order) -> list[_Key]:
        return self._sorted[state].ids if order == "id" else self._sorted[state].newest

    # ── what is known; the lock is held ───────────────────────────────────────────────────────────────────────

    def _put_in(self, task: UploadTask) -> None:
        at = self._sorted[task.state]
        insort(at.ids, (0.0, task.id))
        insort(at.newest, (-task.updated, task.id))

    def _take_out(self, uploadid: str, entry: _Entry) -> None:
        at = self._sorted[entry.state]
        _remove(at.ids, (0.0, uploadid))
        _remove(at.newest, (-entry.updated, uploadid))

    def _move(self, keys: list[_Key], before: float, task: UploadTask) -> None:
        _remove(keys, (-before, task.id))
        insort(keys, (-task.updated, task.id))

    def _forget(self, uploadid: str) -> None:
        entry = self._entries.pop(uploadid, None)
        if entry is not None:
            self._take_out(uploadid, entry)

    # ── what documents say ────────────────────────────────────────────────────────────────────────────────────

    def _facts(self, uploadid: str) -> tuple[str, str] | None:
        with self._lock:
            entry = self._entries.get(uploadid)
            return None if entry is None else entry.facts

    def _remember(self, task: UploadTask) -> tuple[str, str]:
        text = "\n".join((task.id, task.sourcefilename, *_names(task).values(), task.message or "")).casefold()
        facts = (task.contenttype, text)
        with self._lock:
            entry = self._entries.get(task.id)
            if entry is not None and entry.uid == task.uid and entry.revision <= task.revision:
                entry.facts = facts
        return facts

    def _gone(self, uploadid: str) -> None:
        """Nobody is told when the last of an upload is deleted, and an upload may be lost behind our back."""
        with self._lock:
            task = self._uploads.find(uploadid)
            if task is None or task.state is State.REMOVE:
                self._forget(uploadid)


def _fits(facts: tuple[str, str], contenttype: str | None, words: Sequence[str]) -> bool:
    return (contenttype is None or facts[0] == contenttype) and all(word in facts[1] for word in words)


def _remove(keys: list[_Key], key: _Key) -> None:
    at = bisect_left(keys, key)
    if at < len(keys) and keys[at] == key:
        del keys[at]


# ── cursors ───────────────────────────────────────────────────────────────────────────────────────────────────

_CURSOR: Final = re.compile(r"(?:i|n(?P<updated>[0-9a-f]{16}))~(?P<id>[A-Za-z0-9][A-Za-z0-9._-]{0,127})")
_DOUBLE: Final = struct.Struct(">d")


def _cursor(key: _Key, order: Order) -> str:
    """Made of characters that need no escape in an address."""
    return f"i~{key[1]}" if order == "id" else f"n{_DOUBLE.pack(key[0]).hex()}~{key[1]}"


def _after(cursor: str | None, order: Order) -> _Key | None:
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is not None and (found["updated"] is None) == (order == "id"):
        updated = 0.0 if order == "id" else _DOUBLE.unpack(bytes.fromhex(found["updated"]))[0]
        if not math.isnan(updated):
            return updated, found["id"]
    raise WireError("This cursor is of another list. Begin at the first page.", code="invalid_cursor")
