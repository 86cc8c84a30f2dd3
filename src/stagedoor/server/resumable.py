"""Resumable uploads for HTTP at ``/uploads/``: what a request asks for, said to the engine; see
`stagedoor.protocols.resumable`.

Interim answers (104) tell a client the address of its upload before the first byte is through. ASGI lets no
application send them, so a client whose creation breaks off begins anew; one that wants to be sure creates an upload
without bytes first. The draft asks for them with a SHOULD.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from attrs import evolve

from ..errors import DataLost, OffsetMismatch, Refused, StorageError, TaskNotFound, TooLarge, UploadError
from ..lifecycle import State
from ..protocols import resumable
from ..protocols.fields import Answer
from ..protocols.offers import new_id
from ..protocols.resumable import Append, Create, Digest, Limits
from ..tasks import UploadTask
from .concatenation import refuse_final
from .core import Core
from .http import Request, Send, respond

__all__ = ["Resumable"]

_PREFIX: Final = "/uploads"
_STRENGTH: Final = ("sha512", "sha256", "sha1")
_BLOCK: Final = 1 << 20
_KEPT: Final = frozenset({"draining", "too_slow"})


class Resumable:
    """Answers requests of the draft.

    Args:
        core: The running server.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._limits = Limits(max_size=core.uploads.settings.max_file_size)

    async def __call__(self, request: Request, send: Send) -> None:
        """Answer a request; nothing but a client that went away is raised."""
        version = resumable.NEWEST
        try:
            version = resumable.version_of(request.headers)
            answer = await self._answer(request)
        except UploadError as error:
            answer = resumable.refused(error, self._limits, version)
        await respond(send, answer)

    async def _answer(self, request: Request) -> Answer:
        uploadid = request.path[len(_PREFIX) + 1 :] or None
        match resumable.parse_request(request.method, request.headers, uploadid, self._limits):
            case Append() as append:
                return await self._append(append, request)
            case Create() as create:
                return await self._create(create, request)
            case resumable.Retrieve(id=found, version=version):
                return await self._retrieve(found, version)
            case resumable.Cancel(id=found):
                return await self._cancel(found)
            case resumable.Options(version=version):
                return resumable.options(self._limits, version)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────

    def _find(self, uploadid: str) -> UploadTask:
        """The task, if a client may still do something with it.

        Raises:
            TaskNotFound, Refused: ``expired``, as long as something is left that tells; else it is not found.
            DataLost: Its bytes are not those that the client declared, or not there: it has to begin anew.
        """
        uploads = self._core.uploads
        task = uploads.find(uploadid)
        if task is None:
            raise TaskNotFound(uploadid)
        waits = task.state is State.WAITFORCHUNK
        if task.state is State.REMOVE or (waits and task.deadline is not None and task.deadline <= uploads.clock()):
            raise Refused("This upload has expired or was removed. Begin anew.", code="expired")
        if task.state is State.UPLOADFAILED:
            raise DataLost(f"{task.message or 'The upload failed.'} Begin anew.")
        return task

    async def _retrieve(self, uploadid: str, version: int) -> Answer:
        await self._core.take_over(self._core.uploads, uploadid)
        task = self._find(uploadid)
        return resumable.state(
            self._limits,
            version,
            offset=task.offset,
            complete=_complete(task),
            length=task.filesize,
            max_age=self._max_age(task),
        )

    def _max_age(self, task: UploadTask) -> float | None:
        if task.state is not State.WAITFORCHUNK or task.deadline is None:
            return None
        return task.deadline - self._core.uploads.clock()

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _create(self, create: Create, request: Request) -> Answer:
        core = self._core
        offer = resumable.offer_for(create, new_id())
        digest = _strongest(create.content)
        represents = next((d for d in create.representation if d.algorithm != "sha1"), None)
        if create.complete and digest is None:
            digest = represents  # the content is the whole file
        elif represents is not None:
            offer = evolve(offer, wire={"repr-digest": {represents.algorithm: represents.digest.hex()}})
        task = await core.event(offer.id, core.uploads.initiate, offer)
        try:
            task = await self._take(task, request, offset=0, digest=digest, complete=create.complete)
        except UploadError as error:
            if error.code not in _KEPT:
                # Nobody knows its address. Where the disk failed, it stays for people to look at.
                if not isinstance(error, StorageError | DataLost):
                    await core.event(task.id, _discard, core, task.id)
                raise
            task = core.uploads.get(task.id)
        where = task.id if request.path.endswith("/") else f"{_PREFIX[1:]}/{task.id}"
        return resumable.created(
            where,
            self._limits,
            create.version,
            complete=_complete(task),
            offset=task.offset,
            max_age=self._max_age(task),
        )

    async def _append(self, append: Append, request: Request) -> Answer:
        core = self._core
        await core.take_over(core.uploads, append.id)
        task = self._find(append.id)
        refuse_final(task)
        try:
            task = await self._append_to(task, append, request)
        except UploadError as error:
            now = core.uploads.find(append.id)
            known = now is not None and now.state not in (State.REMOVE, State.UPLOADFAILED)
            return resumable.refused(
                error,
                self._limits,
                append.version,
                provided_offset=append.offset,
                offset=now.offset if known and now is not None else None,
                complete=known and now is not None and _complete(now),
            )
        return resumable.appended(
            append.version, complete=_complete(task), offset=task.offset, location=f"../api/uploads/{task.id}"
        )

    async def _append_to(self, task: UploadTask, append: Append, request: Request) -> UploadTask:
        if append.offset != task.offset:
            raise OffsetMismatch(
                f"The upload stands at byte {task.offset:,}, not at {append.offset:,}. Send from there on.",
                expected=task.offset,
            )
        if append.length is not None and append.length != task.filesize:
            if task.filesize is not None:
                raise resumable.inconsistent_length(
                    f"The file was said to have {task.filesize:,} bytes, and now {append.length:,}."
                )
            # A length that this request only tells by its end is declared then: the body may break off.
            if "upload-length" in request.headers:
                task = await self._declare(task, append.length)
        if append.content_length and task.filesize is not None and task.offset + append.content_length > task.filesize:
            raise _too_much(task.filesize)
        if _complete(task):
            # The bytes are all here, and only the word that they are may be missing.
            if not append.complete or not await request.body.is_empty():
                raise resumable.completed_upload()
            return await self._verified(task)
        return await self._take(
            task, request, offset=append.offset, digest=_strongest(append.content), complete=append.complete
        )

    async def _take(
        self, task: UploadTask, request: Request, *, offset: int, digest: Digest | None, complete: bool
    ) -> UploadTask:
        core = self._core
        task = await core.take_in(
            core.uploads,
            task.id,
            request.body,
            offset=offset,
            digest=None if digest is None else (digest.algorithm, digest.digest),
        )
        if complete and not _complete(task) and task.state is not State.UPLOADFAILED:
            if task.filesize is not None:
                raise resumable.inconsistent_length(
                    f"The request says that the file ends at {task.offset:,}, but it has {task.filesize:,} bytes."
                )
            task = await self._declare(task, task.offset)
        if task.state is State.UPLOADFAILED:
            raise DataLost(task.message or "The upload failed. Begin anew.", code=task.code)
        return await self._verified(task)

    async def _declare(self, task: UploadTask, filesize: int) -> UploadTask:
        uploads = self._core.uploads
        return await self._core.event(task.id, uploads.declare, task.id, filesize=filesize)

    async def _verified(self, task: UploadTask) -> UploadTask:
        """The engine knows the SHA-1 of a file. What a client declared beside it is checked before it hears of success,
        each time: the word may have been lost on the way, or the check.

        Raises:
            Refused: ``checksum_mismatch``; the upload is removed. ``busy``.
        """
        core, expected = self._core, task.wire.get("repr-digest")
        if not isinstance(expected, Mapping) or not _complete(task):
            return task
        for algorithm, digest in expected.items():
            if await core.step(task.id, _hash, core, task, algorithm) != digest:  # minutes, of a large file
                await core.event(task.id, _discard, core, task.id)
                raise Refused(
                    f"The file that arrived has not the {algorithm} that was declared. It is removed: send it again.",
                    code="checksum_mismatch",
                )
        return task

    async def _cancel(self, uploadid: str) -> Answer:
        core = self._core
        await core.take_over(core.uploads, uploadid)
        self._find(uploadid)
        await core.event(uploadid, core.uploads.remove, uploadid)
        return resumable.cancelled()


def _complete(task: UploadTask) -> bool:
    """Whether all bytes are here; in later states there is nothing else."""
    return task.offset == task.filesize


def _strongest(digests: tuple[Digest, ...]) -> Digest | None:
    """One is enough, and RFC 9530 leaves the choice to who checks it."""
    return min(digests, key=lambda digest: _STRENGTH.index(digest.algorithm), default=None)


def _too_much(length: int) -> TooLarge:
    return TooLarge(
        f"The bytes would end beyond the file's {length:,} bytes. Send no more than was declared.",
        code="beyond_the_end",
    )


def _hash(core: Core, task: UploadTask, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with core.uploads.ports.bytes.open(task.key) as file:
        while data := file.read(_BLOCK):
            digest.update(data)
    return digest.hexdigest()


def _discard(core: Core, uploadid: str) -> None:
    try:
        core.uploads.remove(uploadid)
    except (TaskNotFound, Refused):
        return  # somebody was faster
