"""tus 1.0.0 at ``/files/``: what a request asks for, said to the engine; see `stagedoor.protocols.tus`.

Pieces of a concatenation are in an engine of their own (``core.parts``) and have ids that tell. A final upload is an
ordinary one whose bytes come from there: a job of the server copies them, and after a restart finds what is left to
copy by what `stagedoor.tasks.UploadTask.wire` holds. While a final upload needs them, its parts stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import orjson
from attrs import evolve

from ..engine import Uploads
from ..errors import DataLost, OffsetMismatch, Refused, StorageError, TaskNotFound, TooLarge, UploadError
from ..lifecycle import State
from ..protocols import tus
from ..protocols.fields import Answer
from ..protocols.offers import new_id
from ..protocols.tus import Create, Extension, Limits, Patch
from ..tasks import JSON, Offer, UploadTask
from .concatenation import PARTS, Assembly, is_final, part_expires, refuse_final
from .core import Core
from .http import Request, Send, respond

__all__ = ["Tus"]

_PREFIX: Final = "/files"
_PART: Final = "part-"
_KEPT_IN_CREATION: Final = frozenset({"draining", "too_slow"})
"""What ends a body and keeps what came: the client of a creation has to hear where that is."""


class Tus:
    """Answers tus requests.

    Args:
        core: The running server.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        settings = core.uploads.settings
        extensions = {
            Extension.CREATION,
            Extension.CREATION_WITH_UPLOAD,
            Extension.CREATION_DEFER_LENGTH,
            # ASGI hands no trailers of requests to applications: no checksum-trailer.
            Extension.CHECKSUM,
            Extension.TERMINATION,
        }
        if settings.retention.get(State.WAITFORCHUNK) is not None:
            extensions.add(Extension.EXPIRATION)
        self._assembly: Assembly | None = None
        if core.parts is not None:
            extensions.add(Extension.CONCATENATION)
            self._assembly = Assembly(core, core.parts)
            core.background(self._assembly.run)
        self._limits = Limits(max_size=settings.max_file_size, extensions=frozenset(extensions))

    async def __call__(self, request: Request, send: Send) -> None:
        """Answer a request; nothing but a client that went away is raised."""
        try:
            answer = await self._answer(request)
        except UploadError as error:
            answer = tus.refused(error)
        await respond(send, answer)

    async def _answer(self, request: Request) -> Answer:
        uploadid = request.path[len(_PREFIX) + 1 :] or None
        headers = request.headers
        if request.method == "GET" and uploadid is not None and "x-http-method-override" not in headers:
            return self._show(uploadid)
        prefixes = _prefixes(headers["upload-concat"]) if "upload-concat" in headers else ()
        match tus.parse_request(request.method, headers, uploadid, self._limits, prefixes=prefixes):
            case Patch() as patch:
                return await self._patch(patch, request)
            case tus.Head(id=found):
                return await self._head(found)
            case Create() as create:
                return await self._create(create, request)
            case tus.Terminate(id=found):
                return await self._terminate(found)
            case tus.Options():
                return tus.options(self._limits)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────

    def _engine(self, uploadid: str) -> Uploads:
        parts = self._core.parts
        # Clients of other wires choose their ids, and may like ours.
        if parts is not None and uploadid.startswith(_PART) and parts.find(uploadid) is not None:
            return parts
        return self._core.uploads

    def _find(self, engine: Uploads, uploadid: str) -> UploadTask:
        """The task, if a client may still do something with it.

        Raises:
            TaskNotFound, Refused: ``expired``, as long as something is left that tells; else it is not found.
            DataLost: Its bytes are not those that the client declared, or not there: it has to begin anew.
        """
        task = engine.find(uploadid)
        if task is None:
            raise TaskNotFound(uploadid)
        expires = _expires(engine, task)
        if task.state is State.REMOVE or (expires is not None and expires <= engine.clock()):
            raise Refused("This upload has expired or was removed. Begin anew.", code="expired")
        if task.state is State.UPLOADFAILED:
            raise DataLost(f"{task.message or 'The upload failed.'} Begin anew.")
        return task

    def _show(self, uploadid: str) -> Answer:
        """For people who put the address into a browser: the upload's page in the API."""
        if self._core.uploads.find(uploadid) is None:
            raise TaskNotFound(uploadid)
        where = f"../api/uploads/{uploadid}"
        headers = (("Tus-Resumable", tus.VERSION), ("Location", where), ("Content-Type", "application/json"))
        return Answer(303, headers, orjson.dumps({"id": uploadid, "upload": where}))

    async def _head(self, uploadid: str) -> Answer:
        engine = self._engine(uploadid)
        # Who asks where to go on wants to send: a former connection that hangs must not stand in the way.
        await self._core.take_over(engine, uploadid)
        task = self._find(engine, uploadid)
        concat = _text(task.wire, "concat")
        waits = task.state is State.WAITFORCHUNK
        return tus.head(
            offset=None if waits and is_final(task) else task.offset,
            length=task.filesize,
            metadata=_text(task.wire, "metadata") or "",
            concat=concat,
            expires=_expires(engine, task),
        )

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _create(self, create: Create, request: Request) -> Answer:
        core, concat = self._core, create.concat
        if concat is not None and concat.final:
            return await self._concatenate(create, request)
        engine = core.uploads
        if concat is not None:
            assert core.parts is not None  # else it is not offered
            engine = core.parts
            offer = Offer(_PART + new_id(), filename="", contenttype="part", filesize=create.length or None)
        else:
            offer = tus.offer_for(create, new_id())
        task = await core.event(offer.id, engine.initiate, evolve(offer, wire=_wire(create)))
        if create.length == 0:
            task = await core.event(task.id, engine.declare, task.id, filesize=0)
        offset = None
        if create.body:
            task = await self._begin(engine, task, create, request)
            offset = task.offset
        _check(task)
        return tus.created(_location(request, task.id), offset=offset, expires=_expires(engine, task))

    async def _begin(self, engine: Uploads, task: UploadTask, create: Create, request: Request) -> UploadTask:
        """The first bytes, which come with the creation. Who hears of an error only knows no address to go on at."""
        core = self._core
        try:
            return await core.take_in(engine, task.id, request.body, offset=0, digest=_digest(create))
        except UploadError as error:
            if error.code in _KEPT_IN_CREATION:
                return await core.event(task.id, engine.get, task.id)
            if not isinstance(error, StorageError | DataLost):  # those are for people to look at
                await core.event(task.id, _discard, engine, task.id)
            raise

    async def _patch(self, patch: Patch, request: Request) -> Answer:
        core = self._core
        engine = self._engine(patch.id)
        await core.take_over(engine, patch.id)
        task = self._find(engine, patch.id)
        refuse_final(task)
        try:
            if patch.offset != task.offset:
                raise OffsetMismatch(
                    f"The upload stands at byte {task.offset:,}, not at {patch.offset:,}. Send from there on.",
                    expected=task.offset,
                )
            if patch.length is not None and patch.length != task.filesize:
                task = await core.event(patch.id, engine.declare, patch.id, filesize=patch.length)
            end = patch.offset + (patch.content_length or 0)
            if end > (engine.settings.max_file_size if task.filesize is None else task.filesize):
                raise _too_much(task.filesize)
            if task.offset == task.filesize:
                if not await request.body.is_empty():  # whose length was not told
                    raise _too_much(task.filesize)
            else:
                task = await core.take_in(engine, patch.id, request.body, offset=patch.offset, digest=_digest(patch))
            _check(task)
        except UploadError as error:
            now = engine.find(patch.id)
            if now is None or now.state in (State.REMOVE, State.UPLOADFAILED):
                return tus.refused(error)
            return tus.refused(error, offset=now.offset, expires=_expires(engine, now))
        return tus.patched(task.offset, expires=_expires(engine, task))

    async def _terminate(self, uploadid: str) -> Answer:
        core, engine = self._core, self._engine(uploadid)
        if self._assembly is not None and engine is core.parts:
            await self._assembly.ready()
            if self._assembly.needs(uploadid):
                raise Refused("A final upload is being made of this part. Try again in a moment.", code="locked")
        await core.take_over(engine, uploadid)
        self._find(engine, uploadid)
        await core.event(uploadid, engine.remove, uploadid)
        if engine is core.parts:
            await core.step(uploadid, engine.perform, uploadid)
        return tus.terminated()

    # ── concatenation ─────────────────────────────────────────────────────────────────────────────────────────

    async def _concatenate(self, create: Create, request: Request) -> Answer:
        core, concat, assembly = self._core, create.concat, self._assembly
        assert assembly is not None  # else it is not offered
        assert concat is not None
        assert concat.parts is not None
        await assembly.ready()
        offer = tus.offer_for(create, new_id())
        with assembly.expecting(offer.id, concat.parts):
            length = assembly.measure(concat.parts)
            if length > self._limits.max_size:
                raise TooLarge(
                    f"The parts have {length:,} bytes together, {self._limits.max_size:,} are allowed.",
                    code="file_too_large",
                )
            wire = {**_wire(create), PARTS: concat.parts}
            offer = evolve(offer, filesize=length or None, wire=wire)
            task = await core.event(offer.id, core.uploads.initiate, offer)
            if not length:
                task = await core.event(task.id, core.uploads.declare, task.id, filesize=0)
        _check(task)
        return tus.created(_location(request, task.id), expires=_expires(core.uploads, task))


def _prefixes(concat: str) -> Sequence[str]:
    """Paths below which the parts of a final upload may be.

    A client writes the addresses as it sees them. Behind a proxy that takes a prefix away nobody here knows it, so any
    will do: which upload is meant is said by the id alone, which nobody can guess.
    """
    found = {_PREFIX + "/"}
    for reference in concat.partition(";")[2].split(" "):
        try:
            path = urlsplit(reference).path
        except ValueError:
            continue  # the codec says so
        found.add(path[: path.rfind(_PREFIX + "/") + len(_PREFIX) + 1] or "/")
    return sorted(found, key=len, reverse=True)


def _location(request: Request, uploadid: str) -> str:
    """The address of a new upload, relative to that of the request.

    So it is right wherever the application is mounted, whatever host, scheme and prefix a proxy makes of it, and no
    header has to be believed for that. RFC 9110, section 10.2.2, allows it, and tus as well.
    """
    return uploadid if request.path.endswith("/") else f"{_PREFIX[1:]}/{uploadid}"


def _wire(create: Create) -> Mapping[str, JSON]:
    """What HEAD gives back as it came."""
    wire: dict[str, JSON] = {}
    if create.metadata.raw:
        wire["metadata"] = create.metadata.raw
    if create.concat is not None:
        wire["concat"] = create.concat.raw
    return wire


def _text(wire: Mapping[str, JSON], key: str) -> str | None:
    value = wire.get(key)
    return value if isinstance(value, str) else None


def _digest(request: Create | Patch) -> tuple[str, bytes] | None:
    checksum = request.checksum
    return None if checksum is None else (checksum.algorithm, checksum.digest)


def _expires(engine: Uploads, task: UploadTask) -> float | None:
    """When an upload that waits for bytes, or is a part, goes; what is complete is not the client's any more."""
    if task.state is State.WAITFORCHUNK:
        return task.deadline
    return part_expires(engine, task.updated) if task.contenttype == "part" else None


def _check(task: UploadTask) -> None:
    """Tell a client at once that the whole file is not what it declared, if that is known at once."""
    if task.state is State.UPLOADFAILED:
        raise DataLost(task.message or "The upload failed. Begin anew.", code=task.code)


def _too_much(length: int | None) -> TooLarge:
    return TooLarge(
        f"The bytes would end beyond the file's {length or 0:,} bytes. Send no more than was declared.",
        code="beyond_the_end",
    )


def _discard(engine: Uploads, uploadid: str) -> None:
    try:
        engine.remove(uploadid)
    except (TaskNotFound, Refused):
        return  # somebody was faster
