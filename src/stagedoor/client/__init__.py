"""A client for programs: files that arrive whatever the network does, and the server's API with Python names.

::

    with Client("http://127.0.0.1:8337", key=key) as client:
        done = client.upload("film.mp4", annotations={"artistname": "Blender Foundation"})
        print(client.plan(done.id))

`AsyncClient` is the same for asyncio. Both need httpx: ``pip install 'stagedoor[client]'``. What the server refuses is
a `RemoteError` with the server's own ``code``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, TypeVar, cast

import httpx
from attrs import evolve

from . import calls
from .calls import Event, EventReader, RemoteUpload
from .steps import (
    JSON,
    Answer,
    Ask,
    Cut,
    FileChanged,
    Local,
    Part,
    Patience,
    Pause,
    Progress,
    RemoteError,
    Steps,
    Unreachable,
    Uploaded,
    Waiting,
    Work,
    answered,
    send_file,
)

__all__ = [
    "AsyncClient",
    "Client",
    "Event",
    "FileChanged",
    "Patience",
    "Progress",
    "RemoteError",
    "RemoteUpload",
    "Unreachable",
    "Uploaded",
    "Waiting",
]

log = logging.getLogger("stagedoor.client")

T = TypeVar("T")

_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)


def _log(waiting: Waiting) -> None:
    """Say it once in a row, so that nobody wonders."""
    log.log(logging.WARNING if waiting.attempt == 1 else logging.INFO, "%s", waiting)


class _Base:
    """What both clients have alike.

    Args:
        url: The server's address, with the path where it is mounted.
        key: An API key, if the server wants one. It is sent to that server only.
        patience: How long to try when the server does not answer.
        waiting: Called before each pause of it.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        patience: Patience | None = None,
        waiting: Callable[[Waiting], None] | None = None,
    ) -> None:
        self.url = url.rstrip("/") + "/"
        self._waiting = waiting or _log
        self._patience = patience or Patience()
        self._headers = {"Accept": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def _local(
        self,
        path: str | os.PathLike[str],
        contenttype: str | None,
        annotations: Mapping[str, JSON] | None,
        progress: Callable[[Progress], None] | None,
        more: Mapping[str, Any],
    ) -> Local:
        name = os.fspath(path)
        return Local(
            path=name,
            filename=more.get("filename") or os.fsencode(os.path.basename(name)).decode("utf-8", "replace"),
            id=more.get("id"),
            contenttype=contenttype,
            mimetype=more.get("mimetype"),
            annotations=annotations or {},
            report=progress or (lambda _: None),
            **({"chunk": more["chunk"]} if more.get("chunk") else {}),
        )

    @staticmethod
    def _answer(response: httpx.Response, body: bytes) -> Answer:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, body, str(response.url))

    @staticmethod
    def _cut(error: httpx.HTTPError) -> Cut:
        return Cut(str(error) or type(error).__name__)


class Client(_Base):
    """A client for threads; safe under several of them.

    Args:
        url: The server's address, with the path where it is mounted.
        key: An API key, if the server wants one.
        patience: How long to try when the server does not answer.
        waiting: Called before each pause of it, with the reason; what it raises ends what is being done. When it is not
            given, the first one in a row is logged as a warning.
        sleep: How to pause; what it raises ends what is being done.
        transport: How requests travel, for tests and for applications in the same process.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        patience: Patience | None = None,
        waiting: Callable[[Waiting], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, key=key, patience=patience, waiting=waiting)
        self._sleep = sleep
        self._http = httpx.Client(base_url=self.url, headers=self._headers, timeout=_TIMEOUT, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def upload(
        self,
        path: str | os.PathLike[str],
        contenttype: str | None = None,
        annotations: Mapping[str, JSON] | None = None,
        progress: Callable[[Progress], None] | None = None,
        **more: Any,
    ) -> Uploaded:
        """Bring a file to the server; after a cut, or called again after anything, it goes on where it stood.

        Args:
            path: The file.
            contenttype: ``video``, ``album``, ``artwork`` or a registered one; the server guesses when not given.
            annotations: What is to be known about it.
            progress: Called often; what it raises ends the upload, and what arrived is kept.
            more: ``id`` (the SHA-1 of the file when not given), ``filename``, ``mimetype``, ``chunk`` (bytes of a
                request at most).

        Raises:
            Unreachable: The server did not answer for long.
            RemoteError: It refuses; the code says why.
            FileChanged: Somebody writes to the file.
            OSError: It cannot be read.
        """
        return self._run(send_file(self._local(path, contenttype, annotations, progress, more), self._patience))

    def uploads(
        self,
        *,
        state: str | Sequence[str] | None = None,
        contenttype: str | None = None,
        text: str | None = None,
        order: str | None = None,
    ) -> Iterator[RemoteUpload]:
        """All uploads, page by page as they are wanted; arguments as in the API."""
        filters = {"state": state, "contenttype": contenttype, "text": text, "order": order}
        page = self._run(calls.page(None, filters, self._patience))
        yield from page.uploads
        while page.next is not None:
            page = self._run(calls.page(page.next, filters, self._patience))
            yield from page.uploads

    def get(self, uploadid: str) -> RemoteUpload:
        """One upload."""
        return self._run(calls.get(uploadid, self._patience))

    def known(self, sha1: str) -> tuple[str, ...]:
        """Where the library has a file with this SHA-1; advice."""
        return self._run(calls.known(sha1, self._patience))

    def initiate(self, offer: Mapping[str, JSON]) -> RemoteUpload:
        """Declare an upload, as the API has it; the same offer again finds the one that it made."""
        return self._run(calls.initiate(offer, self._patience))

    def annotate(self, uploadid: str, annotations: Mapping[str, JSON]) -> RemoteUpload:
        """Say something about an upload; keys are merged."""
        return self._run(calls.annotate(uploadid, annotations, self._patience))

    def plan(self, uploadid: str) -> Mapping[str, JSON]:
        """What integration would do, or did."""
        return self._run(calls.plan(uploadid, self._patience))

    def request(self, uploadid: str, *, trigger_import: bool = False) -> RemoteUpload:
        """Ask for integration, and do not wait for it."""
        return self._run(calls.act(uploadid, "request", {"trigger_import": trigger_import}))

    def integrate(self, uploadid: str, *, trigger_import: bool = False) -> RemoteUpload:
        """Put an upload into the library, and wait until that is done."""
        return self._run(calls.act(uploadid, "integrate", {"trigger_import": trigger_import}))

    def start_import(self, uploadid: str) -> RemoteUpload:
        """Ask for the import of an upload that is in the library."""
        return self._run(calls.act(uploadid, "start_import", {}))

    def retry(self, uploadid: str) -> RemoteUpload:
        """Ask for what failed to be tried again."""
        return self._run(calls.act(uploadid, "retry", {}))

    def undo(self, uploadid: str) -> RemoteUpload:
        """Take an upload back out of library and catalogue."""
        return self._run(calls.act(uploadid, "undo", {}))

    def remove(self, uploadid: str) -> None:
        """Remove an upload; what it put into the library stays."""
        self._run(calls.remove(uploadid))

    def events(self) -> Iterator[Event]:
        """What happens on the server, as it happens; connects again by itself.

        Raises:
            Unreachable, RemoteError: As `upload`.
        """
        reader, attempt = EventReader(), 0
        while True:
            failed: Answer | Cut = Cut("the stream ended")
            try:
                with self._http.stream("GET", "api/events", headers=_listening(reader)) as response:
                    if response.status_code == 200:
                        for line in response.iter_lines():
                            attempt = 0
                            yield from reader.read(line)
                    else:
                        failed = self._answer(response, response.read())
            except httpx.HTTPError as error:
                failed = self._cut(error)
            attempt += 1
            waiting = _again(self._patience, reader, attempt, failed)
            self._waiting(waiting)
            self._sleep(waiting.seconds)

    def _run(self, steps: Steps[T]) -> T:
        given: object = None
        try:
            while True:
                effect = steps.send(given)
                match effect:
                    case Ask():
                        given = self._ask(effect)
                    case Pause(seconds, waiting):
                        given = None
                        self._waiting(waiting)
                        self._sleep(seconds)
                    case Work(function):
                        given = function()
        except StopIteration as done:
            return cast("T", done.value)

    def _ask(self, ask: Ask) -> Answer | Cut:
        content = ask.body.blocks() if isinstance(ask.body, Part) else ask.body
        try:
            response = self._http.request(ask.method, ask.url, headers=dict(ask.headers), content=content)
        except httpx.HTTPError as error:
            return self._cut(error)
        return self._answer(response, response.content)


class AsyncClient(_Base):
    """A client for asyncio; the same as `Client` otherwise.

    Args:
        url: The server's address, with the path where it is mounted.
        key: An API key, if the server wants one.
        patience: How long to try when the server does not answer.
        waiting: Called before each pause of it, with the reason; what it raises ends what is being done. When it is not
            given, the first one in a row is logged as a warning.
        sleep: How to pause.
        transport: How requests travel; ``httpx.ASGITransport(app)`` needs no network.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        patience: Patience | None = None,
        waiting: Callable[[Waiting], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, key=key, patience=patience, waiting=waiting)
        self._sleep = sleep
        self._http = httpx.AsyncClient(base_url=self.url, headers=self._headers, timeout=_TIMEOUT, transport=transport)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def upload(
        self,
        path: str | os.PathLike[str],
        contenttype: str | None = None,
        annotations: Mapping[str, JSON] | None = None,
        progress: Callable[[Progress], None] | None = None,
        **more: Any,
    ) -> Uploaded:
        """See `Client.upload`. While the SHA-1 is computed, ``progress`` is called in a thread."""
        return await self._run(send_file(self._local(path, contenttype, annotations, progress, more), self._patience))

    async def uploads(
        self,
        *,
        state: str | Sequence[str] | None = None,
        contenttype: str | None = None,
        text: str | None = None,
        order: str | None = None,
    ) -> AsyncIterator[RemoteUpload]:
        """See `Client.uploads`."""
        filters = {"state": state, "contenttype": contenttype, "text": text, "order": order}
        cursor: str | None = None
        while True:
            page = await self._run(calls.page(cursor, filters, self._patience))
            for upload in page.uploads:
                yield upload
            if page.next is None:
                return
            cursor = page.next

    async def get(self, uploadid: str) -> RemoteUpload:
        """See `Client.get`."""
        return await self._run(calls.get(uploadid, self._patience))

    async def known(self, sha1: str) -> tuple[str, ...]:
        """See `Client.known`."""
        return await self._run(calls.known(sha1, self._patience))

    async def initiate(self, offer: Mapping[str, JSON]) -> RemoteUpload:
        """See `Client.initiate`."""
        return await self._run(calls.initiate(offer, self._patience))

    async def annotate(self, uploadid: str, annotations: Mapping[str, JSON]) -> RemoteUpload:
        """See `Client.annotate`."""
        return await self._run(calls.annotate(uploadid, annotations, self._patience))

    async def plan(self, uploadid: str) -> Mapping[str, JSON]:
        """See `Client.plan`."""
        return await self._run(calls.plan(uploadid, self._patience))

    async def request(self, uploadid: str, *, trigger_import: bool = False) -> RemoteUpload:
        """See `Client.request`."""
        return await self._run(calls.act(uploadid, "request", {"trigger_import": trigger_import}))

    async def integrate(self, uploadid: str, *, trigger_import: bool = False) -> RemoteUpload:
        """See `Client.integrate`."""
        return await self._run(calls.act(uploadid, "integrate", {"trigger_import": trigger_import}))

    async def start_import(self, uploadid: str) -> RemoteUpload:
        """See `Client.start_import`."""
        return await self._run(calls.act(uploadid, "start_import", {}))

    async def retry(self, uploadid: str) -> RemoteUpload:
        """See `Client.retry`."""
        return await self._run(calls.act(uploadid, "retry", {}))

    async def undo(self, uploadid: str) -> RemoteUpload:
        """See `Client.undo`."""
        return await self._run(calls.act(uploadid, "undo", {}))

    async def remove(self, uploadid: str) -> None:
        """See `Client.remove`."""
        await self._run(calls.remove(uploadid))

    async def events(self) -> AsyncIterator[Event]:
        """See `Client.events`."""
        reader, attempt = EventReader(), 0
        while True:
            failed: Answer | Cut = Cut("the stream ended")
            try:
                async with self._http.stream("GET", "api/events", headers=_listening(reader)) as response:
                    if response.status_code == 200:
                        async for line in response.aiter_lines():
                            attempt = 0
                            for event in reader.read(line):
                                yield event
                    else:
                        failed = self._answer(response, await response.aread())
            except httpx.HTTPError as error:
                failed = self._cut(error)
            attempt += 1
            waiting = _again(self._patience, reader, attempt, failed)
            self._waiting(waiting)
            await self._sleep(waiting.seconds)

    async def _run(self, steps: Steps[T]) -> T:
        given: object = None
        try:
            while True:
                effect = steps.send(given)
                match effect:
                    case Ask():
                        given = await self._ask(effect)
                    case Pause(seconds, waiting):
                        given = None
                        self._waiting(waiting)
                        await self._sleep(seconds)
                    case Work(function):
                        given = await asyncio.to_thread(function)
        except StopIteration as done:
            return cast("T", done.value)

    async def _ask(self, ask: Ask) -> Answer | Cut:
        content = _blocks(ask.body) if isinstance(ask.body, Part) else ask.body
        try:
            response = await self._http.request(ask.method, ask.url, headers=dict(ask.headers), content=content)
        except httpx.HTTPError as error:
            return self._cut(error)
        return self._answer(response, response.content)


async def _blocks(part: Part) -> AsyncIterator[bytes]:
    blocks = part.blocks()
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block


def _listening(reader: EventReader) -> dict[str, str]:
    reader.restart()
    headers = {"Accept": "text/event-stream"}
    return headers if reader.last is None else {**headers, "Last-Event-ID": reader.last}


def _again(patience: Patience, reader: EventReader, attempt: int, failed: Answer | Cut) -> Waiting:
    """Before listening again.

    Raises:
        Unreachable, RemoteError: There is no sense in it.
    """
    if isinstance(failed, Answer) and not patience.is_passing(failed):
        answered(failed)
    if attempt >= patience.attempts:
        raise patience.given_up(failed)
    waiting = patience.pause(attempt, failed).waiting
    return evolve(waiting, seconds=max(waiting.seconds, reader.retry or 0.0))
