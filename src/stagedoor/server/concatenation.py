"""Final uploads of tus: made of their parts in the background, and gone on with after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from ..engine import Uploads
from ..errors import Refused, TaskNotFound, UploadError
from ..lifecycle import State
from ..protocols.tus import TusError, final_upload
from ..tasks import UploadTask
from .core import Core

__all__ = ["PARTS", "Assembly", "is_final", "part_expires", "refuse_final"]

log = logging.getLogger(__name__)

PARTS: Final = "parts"
"""Key of `stagedoor.tasks.UploadTask.wire` for the ids of the parts, in their order."""

_BLOCK: Final = 1 << 20


def is_final(task: UploadTask) -> bool:
    """Whether an upload is made of others."""
    return PARTS in task.wire


def refuse_final(task: UploadTask) -> None:
    """Whatever the wire, nobody sends what is put together here.

    Raises:
        TusError: ``final_upload``.
    """
    if is_final(task):
        raise final_upload()


def part_expires(parts: Uploads, updated: float) -> float | None:
    """When a part goes that is complete: nothing is due for it, so its document has no deadline."""
    keep = parts.settings.retention.get(State.WAITFORCHUNK)
    return None if keep is None else updated + keep


class Assembly:
    """Copies parts into final uploads, and removes parts that nobody wants any more.

    Args:
        core: The running server; `run` is to be its job.
        parts: The engine of the parts.
    """

    def __init__(self, core: Core, parts: Uploads) -> None:
        self._core, self._parts = core, parts
        self._pending: dict[str, Sequence[str]] = {}
        self._new: set[str] = set()  # not on record yet
        self._looked = asyncio.Event()
        self._wanted = asyncio.Event()

    async def ready(self) -> None:
        """Return when it is known which parts are needed."""
        await self._looked.wait()

    @contextmanager
    def expecting(self, uploadid: str, parts: Sequence[str]) -> Iterator[None]:
        """While a final upload is created; afterwards it is made, and until then its parts stay."""
        self._new.add(uploadid)
        self._pending[uploadid] = parts
        try:
            yield
        except BaseException:
            del self._pending[uploadid]
            raise
        finally:
            self._new.discard(uploadid)
        self._wanted.set()

    def needs(self, part: str) -> bool:
        """Whether a final upload still has to be made of a part."""
        return any(part in parts for parts in tuple(self._pending.values()))

    def measure(self, parts: Sequence[str]) -> int:
        """The bytes that parts have together.

        Raises:
            TusError: ``invalid_part``, there is no such part, or it has expired; ``unfinished_part``.
        """
        total, now = 0, self._parts.clock()
        for name in parts:
            task = self._part(name)
            ends = part_expires(self._parts, task.updated)
            if ends is not None and ends <= now:
                raise _no_part(name)
            total += task.offset
        return total

    def _part(self, name: str) -> UploadTask:
        task = self._parts.find(name)
        if task is None or task.state in (State.REMOVE, State.UPLOADFAILED):
            raise _no_part(name)
        if task.offset != task.filesize:
            raise TusError(f"The part {name} is not finished. Finish it first.", code="unfinished_part")
        return task

    # ── the job ───────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Work until cancelled."""
        read, pause = self._core.read, max(1.0, self._parts.settings.sweep)
        whole = False
        while True:
            whole = whole or await read(self._look)
            self._looked.set()  # also if not all can be read now: what is new does not wait for them
            self._wanted.clear()
            for uploadid in tuple(self._pending):
                await read(self._make, uploadid)
            if whole:  # else a part may be needed by an upload that could not be read
                await read(self.sweep)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), pause)

    def _look(self) -> bool:
        """Find the final uploads that a former run left unfinished, or failed to make: they can be tried again.

        Returns:
            Whether all uploads could be read; the others have to be looked at once more.
        """
        uploads, whole = self._core.uploads, True
        try:
            lines = uploads.list()
        except UploadError as error:
            log.error("the uploads cannot be listed now, to find those made of parts: %s", error.sentence)
            return False
        for line in lines:
            if line.state in (State.WAITFORCHUNK, State.UPLOADFAILED) and line.filesize:
                try:
                    task = uploads.find(line.id)
                except UploadError as error:  # promise 9
                    log.error("upload %s, which may be made of parts, cannot be read now: %s", line.id, error.sentence)
                    whole = False
                    continue
                if task is not None and is_final(task):
                    self._pending[task.id] = _names(task)
        return whole

    def _make(self, uploadid: str) -> None:
        if uploadid in self._new:
            return
        try:
            task = self._core.uploads.find(uploadid)
            if task is not None and task.state is State.WAITFORCHUNK and task.offset != task.filesize:
                self._copy(task)
                task = self._core.uploads.find(uploadid)
        except TusError as error:
            # The client believes that it has an upload: now it hears that there is none, and can begin anew.
            log.error("upload %s cannot be made of its parts and is removed: %s", uploadid, error.sentence)
            try:
                with suppress(TaskNotFound, Refused):
                    self._core.uploads.remove(uploadid)
            except UploadError as failed:  # with the next turn
                log.error("upload %s cannot be removed now: %s", uploadid, failed.sentence)
                return
            task = None
        except UploadError as error:
            log.warning("upload %s cannot be made of its parts now: %s", uploadid, error.sentence)
            return
        # One that failed may be tried again, and then needs its parts once more.
        done = task is None or task.state not in (State.WAITFORCHUNK, State.UPLOADFAILED)
        if done or (task is not None and task.offset == task.filesize and task.state is State.WAITFORCHUNK):
            self._pending.pop(uploadid, None)

    def _copy(self, task: UploadTask) -> None:
        core, total = self._core, task.filesize
        inflow = core.uploads.inflow(task.id)
        try:
            skip = committed = inflow.offset
            for name in _names(task):
                part = self._part(name)
                if skip >= part.offset:
                    skip -= part.offset
                    continue
                with self._parts.ports.bytes.open(part.key) as file:
                    file.seek(skip)
                    left, skip = part.offset - skip, 0
                    while left:
                        if core.draining:
                            return
                        data = file.read(min(_BLOCK, left))
                        if not data:
                            raise TusError(f"The part {name} has lost {left:,} bytes.", code="invalid_part")
                        left -= len(data)
                        inflow.write(data)
                        if inflow.offset - committed >= core.config.progress and inflow.offset != total:
                            inflow.commit()
                            committed = inflow.offset
            inflow.finish()
        finally:
            if inflow.over is None:
                inflow.close()

    def sweep(self) -> int:
        """Remove parts that have expired and are not needed; returns how many."""
        parts, gone = self._parts, 0
        now = parts.clock()
        try:
            lines = parts.list()
        except UploadError as error:
            log.error("the parts cannot be listed now: %s", error.sentence)
            return 0
        for line in lines:
            try:
                if line.state is not State.REMOVE:
                    ends = part_expires(parts, line.updated) if line.deadline is None else line.deadline
                    if ends is None or ends > now or self.needs(line.id):
                        continue
                    parts.remove(line.id)
                    gone += 1
                parts.perform(line.id)
            except (Refused, TaskNotFound):
                continue  # somebody was faster
            except UploadError as error:  # promise 9
                log.error("part %s cannot be removed now: %s", line.id, error.sentence)
        return gone


def _names(task: UploadTask) -> Sequence[str]:
    names = task.wire.get(PARTS)
    return tuple(str(name) for name in names) if isinstance(names, tuple) else ()


def _no_part(name: str) -> TusError:
    return TusError(f"There is no part {name[:80]}. Only partial uploads can be put together.", code="invalid_part")
