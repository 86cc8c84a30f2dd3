"""What MusicDB's client shows: the list of uploads that goes with every notification, made once for all who listen.

The list is kept in memory and follows the notices; the store is asked once, when the first client comes. It holds the
uploads that changed last, up to `LIST` bytes of JSON: a hundred or more. An album's task may take tens of kilobytes,
uploads are kept for a month, and the list goes to every client with each change of state: with thousands of uploads a
complete one would be megabytes a notification. A notification that waits is without it: it gets the newest when it is
sent, and all that are sent before the next change share one text. What does not fit is not kept either; the store is
asked again when an eighth of the list was removed. ``GetUploads`` returns all uploads, up to
`EVERYTHING` bytes, newest first as well. Whoever needs more takes pages, from the other dialect or from the API.

An upload that is being removed is in no list: its id is not valid any more, and nobody would hear when it is gone.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from attrs import frozen

from ...errors import UploadError
from ...lifecycle import State
from ...notices import Notice
from ...protocols.messages import Message, encode_task
from ...protocols.musicdb import Listing, Packet, answer, broadcast_uploads, encode_notice, encode_uploads
from ...tasks import UploadTask
from ..core import Core
from ..hub import Encoder
from .connection import Told

__all__ = ["EVERYTHING", "LIST", "Board", "Documents"]

log = logging.getLogger("stagedoor.server")

LIST: Final = 128 << 10
"""Bytes of JSON of the tasks in a list that goes with a notification."""
EVERYTHING: Final = 4 << 20
"""Bytes of JSON of the tasks in an answer to ``GetUploads``."""
_TEXTS: Final = 16
"""Messages whose texts with the list are kept: a burst goes to one listener after the other."""
_LEAST: Final = 256
"""No task takes fewer bytes of JSON."""


class Documents:
    """Tasks as JSON, each encoded once though both dialects tell of it."""

    def __init__(self) -> None:
        self._task: UploadTask | None = None
        self._document = b""

    def of(self, task: UploadTask) -> bytes:
        """See `encode_task`."""
        if task is not self._task:
            self._document = encode_task(task)
            self._task = task
        return self._document


@frozen(eq=False, kw_only=True)
class _Listed(Told):
    """A message that gets the list of uploads when it is sent."""

    listing: Listing
    board: Board

    @property
    def text(self) -> str:
        """With the list as it is now."""
        return self.board.text_of(self.listing)


class _Entry:
    """An upload in the list; encoded when the list is made, which is far less often than its offset changes."""

    __slots__ = ("document", "task")

    def __init__(self, task: UploadTask, document: bytes | None = None) -> None:
        self.task = task
        self.document = document


class Board:
    """The list of uploads, and what MusicDB's clients hear. On the event loop, but for what is said otherwise.

    Args:
        core: The server.
        documents: Shared with the other dialect.
        size: Bytes of a list, see `LIST`.

    Attributes:
        encoder: Of MusicDB's dialect.
    """

    def __init__(self, core: Core, documents: Documents, *, size: int = LIST) -> None:
        self._core = core
        self._documents = documents
        self._size = size
        self._users = 0
        self._entries: dict[str, _Entry | None] = {}  # the newest last; `None` for what is gone, while it is filled
        self._filling: asyncio.Task[None] | None = None
        self._refilling: asyncio.Task[None] | None = None
        self._noted: set[str] = set()  # of whom something was told since that began
        self._more = False  # whether there may be uploads that did not fit
        self._removed = 0  # uploads, since the store was asked
        self._list: bytes | None = None
        self._former = encode_uploads(())  # what those hear who are told after the last one has left
        self._texts: dict[Listing, str] = {}
        self.encoder = Encoder(self.encode)
        self._collecting: asyncio.Task[bytes] | None = None
        core.hub.tap(self._note)

    async def enter(self) -> None:
        """A client needs the list; `leave` ends that."""
        self._users += 1
        if self._users == 1:
            self._filling = asyncio.create_task(self._fill())
        try:
            if self._filling is not None:
                await asyncio.shield(self._filling)
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """A client needs it no more; without any, nothing is kept but the list itself."""
        if self._users == 1:
            self._former = self.uploadslist()
        self._users -= 1
        if not self._users:
            self._entries, self._list, self._filling, self._refilling = {}, None, None, None

    def document(self, task: UploadTask) -> bytes:
        """A task as JSON."""
        return self._documents.of(task)

    def encode(self, notice: Notice) -> Told:
        """A notice as MusicDB's clients hear it."""
        message = encode_notice(
            notice,
            chunk_size=self._core.uploads.settings.chunk_size,
            task=None if notice.task is None else self._documents.of(notice.task),
        )
        if isinstance(message, Listing):
            return self._listed(message, notice)
        return Told(message.payload, message.key, notice=notice)

    def broadcast(self, packet: Packet) -> Told:
        """What a client lets everybody have of ``GetUploads``: the list that goes with notifications."""
        return self._listed(broadcast_uploads(packet))

    def _listed(self, listing: Listing, notice: Notice | None = None) -> Told:
        return _Listed(listing.payload, listing.key, notice=notice, listing=listing, board=self)

    def text_of(self, listing: Listing) -> str:
        """A message with the newest list."""
        text = self._texts.get(listing)
        if text is None:
            text = listing.filled(self.uploadslist()).decode()
            if len(self._texts) >= _TEXTS:
                del self._texts[next(iter(self._texts))]
            self._texts[listing] = text
        return text

    def uploadslist(self) -> bytes:
        """The uploads that changed last, as `encode_uploads` makes them."""
        if not self._users or self._filling is not None:
            return self._former
        if self._list is None:
            chosen, size = list[_Entry](), 0
            while self._entries:
                entry = self._entries.popitem()[1]
                if entry is None:
                    continue
                if entry.document is None:
                    entry.document = self._documents.of(entry.task)
                size += len(entry.document)
                if size > self._size and chosen:
                    self._more = True
                    break
                chosen.append(entry)
            # What did not fit is forgotten: it comes back when it changes, or when there is room.
            self._entries = {entry.task.id: entry for entry in reversed(chosen)}
            self._list = _in_order((entry.task, entry.document or b"") for entry in chosen)
        return self._list

    async def everything(self, packet: Packet) -> Message:
        """All uploads, as the answer to ``GetUploads``; several who ask at a time share what is read for it."""
        if self._collecting is None:
            self._collecting = asyncio.create_task(self._core.read(self._collect_all))
            self._collecting.add_done_callback(self._collected)
        return await self._core.read(_answer, packet, await asyncio.shield(self._collecting))

    def _collect_all(self) -> bytes:
        return _in_order(self._newest(EVERYTHING)[0])

    def _collected(self, task: asyncio.Task[bytes]) -> None:
        self._collecting = None
        if not task.cancelled():
            task.exception()  # whoever waits has it

    def _note(self, notice: Notice) -> None:
        if not self._users:
            return
        self._list = None
        self._texts.clear()
        former = self._entries.pop(notice.uploadid, None)
        if self._refilling is not None:
            self._noted.add(notice.uploadid)
        if notice.task is not None and notice.task.state is not State.REMOVE:
            self._entries[notice.uploadid] = _Entry(notice.task)
        else:
            self._removed += former is not None
            if self._filling is not None:
                self._entries[notice.uploadid] = None
        if self._filling is not None:
            return
        if len(self._entries) > self._size // _LEAST + 1:  # more cannot be in a list
            del self._entries[next(iter(self._entries))]
            self._more = True
        self._look_for_more()

    def _look_for_more(self) -> None:
        """Others have room when some were removed."""
        if self._more and self._refilling is None and self._removed * 8 > len(self._entries):
            self._noted, self._removed = set(), 0
            self._refilling = self._core.see_to(self._refill())

    async def _refill(self) -> None:
        try:
            found, more = await self._core.read(self._newest, self._size)
        except UploadError as error:
            log.warning("the list of uploads cannot be filled anew: %s", error.sentence)
            found, more = [], True
        if self._refilling is not asyncio.current_task():
            return  # everybody has left
        # What is listed changed later than what is not, and what was told meanwhile is newer than what was found.
        entries: dict[str, _Entry | None] = {
            task.id: _Entry(task, document)
            for task, document in reversed(found)
            if task.id not in self._entries and task.id not in self._noted
        }
        entries.update(self._entries)
        self._entries, self._list, self._refilling, self._more = entries, None, None, more
        self._texts.clear()
        self._look_for_more()

    async def _fill(self) -> None:
        found, more = await self._core.read(self._newest, self._size)
        if self._filling is not asyncio.current_task():
            return  # everybody has left
        self._more, self._removed = more, 0
        # What changed meanwhile is newer than what was found.
        entries: dict[str, _Entry | None] = {
            task.id: _Entry(task, document) for task, document in reversed(found) if task.id not in self._entries
        }
        entries.update((key, entry) for key, entry in self._entries.items() if entry is not None)
        self._entries, self._list, self._filling = entries, None, None
        self._texts.clear()

    def _newest(self, size: int) -> tuple[list[tuple[UploadTask, bytes]], bool]:
        """The uploads that changed last, newest first, up to so many bytes, and if there are others; in any thread."""
        uploads, found = self._core.uploads, list[tuple[UploadTask, bytes]]()
        summaries = uploads.list()
        # No task takes less than this; so the others need not be sorted.
        most = size // _LEAST
        for summary in heapq.nlargest(min(len(summaries), most), summaries, key=attrgetter("updated")):
            task = uploads.find(summary.id)
            if task is None or task.state is State.REMOVE:
                continue
            document = encode_task(task)
            size -= len(document)
            if size < 0 and found:
                return found, True
            found.append((task, document))
        return found, len(summaries) > most


def _answer(packet: Packet, uploads: bytes) -> Message:
    """In a thread: it may be large, and is made into text here."""
    message = answer(packet, uploads)
    assert message is not None, "it was a request"
    message.text  # noqa: B018  -- kept in it
    return message


def _in_order(tasks: Iterable[tuple[UploadTask, bytes]]) -> bytes:
    """In the order of creation, so that a list on a screen does not jump."""
    ordered = sorted(tasks, key=lambda pair: (pair[0].created, pair[0].id))
    return encode_uploads((task.contenttype, document) for task, document in ordered)
