"""A file arrives whatever the network does: both clients against a server that is as bad as the test wants it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from attrs import define, field

from stagedoor.client import (
    AsyncClient,
    Client,
    FileChanged,
    Patience,
    Progress,
    RemoteError,
    Unreachable,
    Uploaded,
    Waiting,
)

DATA = bytes(range(256)) * 64
SHA1 = hashlib.sha1(DATA, usedforsecurity=False).hexdigest()
PATIENCE = Patience(attempts=4, random=lambda: 1.0)

Fault = Callable[["Remote", httpx.Request], httpx.Response | None]


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"detail": f"It is {code}.", "code": code}, headers=headers)


@define
class Remote:
    """A server in memory: declarations by the API, bytes by tus.

    Attributes:
        faults: What goes wrong with the next requests for bytes, one each; ``None`` for nothing.
    """

    stored: dict[str, bytearray] = field(factory=dict)
    declared: dict[str, dict[str, Any]] = field(factory=dict)
    asked: list[str] = field(factory=list)
    faults: list[Fault | None] = field(factory=list)
    known: list[str] = field(factory=list)
    keys: set[str | None] = field(factory=set)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """For both transports: the body is read here, as far as the fault lets it."""
        path = request.url.path.removeprefix("/mount/")
        self.asked.append(f"{request.method} {path}")
        self.keys.add(request.headers.get("authorization"))
        if path == "api/uploads" and request.method == "POST":
            return self.declare(json.loads(request.content))
        if path.startswith("api/uploads/"):
            uploadid = path.removeprefix("api/uploads/")
            if request.method == "PATCH":
                self.declared[uploadid].setdefault("annotations", {}).update(json.loads(request.content)["annotations"])
            return httpx.Response(200, json=self.task(uploadid))
        uploadid = path.removeprefix("files/")
        assert request.headers["tus-resumable"] == "1.0.0"
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            answer = fault(self, request)
            if answer is not None:
                return answer
        if uploadid not in self.stored:
            return problem(404, "not_found")
        stored = self.stored[uploadid]
        if request.method == "PATCH":
            if int(request.headers["upload-offset"]) != len(stored):
                return problem(409, "offset_mismatch")
            assert int(request.headers["content-length"]) > 0
            before = len(stored)
            async for piece in pieces(request):
                stored += piece
            assert len(stored) - before == int(request.headers["content-length"])
            return httpx.Response(204, headers={"Upload-Offset": str(len(stored))})
        return httpx.Response(200, headers={"Upload-Offset": str(len(stored))})

    def declare(self, offer: dict[str, Any]) -> httpx.Response:
        new = offer["id"] not in self.stored
        if not new and self.declared[offer["id"]]["filename"] != offer["filename"]:
            return problem(409, "duplicate")
        self.declared.setdefault(offer["id"], offer)
        self.stored.setdefault(offer["id"], bytearray())
        return httpx.Response(201 if new else 200, json={"upload": self.task(offer["id"]), "known": self.known})

    def task(self, uploadid: str) -> dict[str, Any]:
        offer, offset = self.declared[uploadid], len(self.stored[uploadid])
        return {
            "id": uploadid, "offset": offset, "filesize": offer["filesize"], "sourcechecksum": offer["sha1"],
            "state": "waitforchunk" if offset < offer["filesize"] else "preprocessed",
        }  # fmt: skip


async def pieces(request: httpx.Request) -> AsyncIterator[bytes]:
    if isinstance(request.stream, httpx.AsyncByteStream):
        async for piece in request.stream:
            yield piece
    else:
        assert isinstance(request.stream, httpx.SyncByteStream)
        for piece in request.stream:
            yield piece


class Sync(httpx.BaseTransport):
    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "PATCH" or "/files/" not in request.url.path:
            request.read()
        return asyncio.run(self._remote(request))


class Async(httpx.AsyncBaseTransport):
    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "PATCH" or "/files/" not in request.url.path:
            await request.aread()
        return await self._remote(request)


Send = Callable[..., Uploaded]


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture(params=["threads", "asyncio"])
def send(request: pytest.FixtureRequest, remote: Remote, slept: list[float]) -> Iterator[Send]:
    """Both clients' `upload`."""
    if request.param == "threads":
        with Client(
            "http://h/mount", key="a-secret-key", patience=PATIENCE, sleep=slept.append, transport=Sync(remote)
        ) as client:
            yield client.upload
        return

    def upload(*args: Any, **more: Any) -> Uploaded:
        async def main() -> Uploaded:
            async def sleep(seconds: float) -> None:
                slept.append(seconds)

            async with AsyncClient(
                "http://h/mount/", key="a-secret-key", patience=PATIENCE, sleep=sleep, transport=Async(remote)
            ) as client:
                return await client.upload(*args, **more)

        return asyncio.run(main())

    yield upload


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(DATA)
    return path


# ── faults ────────────────────────────────────────────────────────────────────────────────────────────────────


def cut(remote: Remote, request: httpx.Request) -> None:
    raise httpx.ConnectError("connection refused")


def lost_answer(remote: Remote, request: httpx.Request) -> None:
    """Everything arrives, and the client hears nothing of it."""
    stored = remote.stored[request.url.path.rpartition("/")[2]]
    offset, size = int(request.headers["upload-offset"]), int(request.headers["content-length"])
    assert offset == len(stored)
    stored += DATA[offset : offset + size]
    raise httpx.ReadError("connection reset")


def broken_off(size: int) -> Fault:
    """The connection breaks after so many bytes."""

    def broken(remote: Remote, request: httpx.Request) -> None:
        offset = int(request.headers["upload-offset"])
        remote.stored[request.url.path.rpartition("/")[2]] += DATA[offset : offset + size]
        raise httpx.WriteError("broken pipe")

    broken.__name__ = f"broken_off_{size}"
    return broken


def forgotten(remote: Remote, request: httpx.Request) -> None:
    """The upload expires."""
    del remote.stored[request.url.path.rpartition("/")[2]]


def says(status: int, code: str = "some_code", **headers: str) -> Fault:
    def answers(remote: Remote, request: httpx.Request) -> httpx.Response:
        return problem(status, code, **headers)

    answers.__name__ = f"says_{status}"
    return answers


# ── arriving ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_arrives(send: Send, film: Path, remote: Remote, slept: list[float]) -> None:
    remote.known = ["Artist/Film.mp4"]
    done = send(film, "video", {"name": "Film", "year": 2008})
    assert done == Uploaded(
        id=SHA1, state="uploadcomplete", sha1=SHA1, size=len(DATA), resumed=0, known=("Artist/Film.mp4",)
    )
    assert remote.stored[SHA1] == DATA
    assert remote.declared[SHA1] == {
        "id": SHA1, "filename": "film.mp4", "filesize": len(DATA), "sha1": SHA1, "mimetype": "video/mp4",
        "contenttype": "video", "annotations": {"name": "Film", "year": 2008},
    }  # fmt: skip
    assert remote.asked == ["POST api/uploads", f"PATCH files/{SHA1}"]
    assert remote.keys == {"Bearer a-secret-key"}
    assert slept == []


def test_the_same_file_again_is_not_sent(send: Send, film: Path, remote: Remote) -> None:
    send(film)
    remote.asked.clear()
    again = send(film, annotations={"name": "Film"})
    assert (again.resumed, again.state) == (len(DATA), "preprocessed")
    assert remote.asked == ["POST api/uploads", f"PATCH api/uploads/{SHA1}"]
    assert remote.declared[SHA1]["annotations"] == {"name": "Film"}


def test_the_same_file_under_another_name_is_not_sent(send: Send, film: Path, remote: Remote) -> None:
    send(film)
    other = film.rename(film.with_name("other.mp4"))
    assert send(other).resumed == len(DATA)
    with pytest.raises(RemoteError) as caught:
        send(other, id=SHA1)  # somebody wants just this id for just this name
    assert (caught.value.code, caught.value.status, caught.value.sentence) == ("duplicate", 409, "It is duplicate.")


def test_it_goes_on_where_it_stood(send: Send, film: Path, remote: Remote) -> None:
    remote.declare({"id": SHA1, "filename": "film.mp4", "filesize": len(DATA), "sha1": SHA1})
    remote.stored[SHA1] += DATA[:5000]
    assert send(film).resumed == 5000
    assert remote.stored[SHA1] == DATA


def test_requests_have_a_limit(send: Send, film: Path, remote: Remote) -> None:
    send(film, chunk=5000)
    assert remote.asked[1:] == [f"PATCH files/{SHA1}"] * 4
    assert remote.stored[SHA1] == DATA


def test_progress_is_told(send: Send, film: Path, remote: Remote) -> None:
    remote.faults = [broken_off(1000)]
    told: list[Progress] = []
    send(film, progress=told.append)
    phases = list(dict.fromkeys(progress.phase for progress in told))
    assert phases == ["reading", "sending", "waiting"]
    assert told[-1] == Progress("sending", len(DATA), len(DATA))
    assert Progress("sending", 1000, len(DATA)) in told


@pytest.mark.parametrize(
    "faults",
    [
        [cut],
        [cut, cut, None],  # the question where to go on is lost as well
        [lost_answer],
        [broken_off(0)],
        [broken_off(1), None, broken_off(4000), None, broken_off(1)],
        [says(423)],
        [says(460)],
        [says(503), says(503)],
        [says(502)],
        [says(409)],
        [forgotten],
        [broken_off(4000), forgotten],
        [says(410), says(410)],
    ],
    ids=lambda faults: " ".join(getattr(fault, "__name__", "-") for fault in faults),
)
def test_it_arrives_whatever_happens(faults: list[Fault | None], send: Send, film: Path, remote: Remote) -> None:
    remote.faults = list(faults)
    done = send(film, chunk=5000)
    assert remote.stored[done.id] == DATA
    assert not remote.faults


def test_pauses_double_and_a_server_may_ask_for_longer_ones(
    send: Send, film: Path, remote: Remote, slept: list[float]
) -> None:
    remote.faults = [cut, cut, cut, says(503, **{"Retry-After": "7"})]
    send(film)
    assert slept == [0.5, 0.5, 1.0, 7.0]


def test_progress_renews_the_patience(send: Send, film: Path, remote: Remote, slept: list[float]) -> None:
    """More cuts than attempts, but each time something arrived."""
    for _ in range(3 * PATIENCE.attempts):
        remote.faults += [broken_off(100), None]
    send(film)
    assert remote.stored[SHA1] == DATA
    assert set(slept) == {0.5}


# ── giving up ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_is_gone(send: Send, film: Path, remote: Remote, slept: list[float]) -> None:
    remote.faults = [cut] * 20
    with pytest.raises(Unreachable, match="connection refused") as caught:
        send(film)
    assert caught.value.code == "unreachable"
    assert len(slept) == PATIENCE.attempts  # one after the bytes, the others between four questions


def test_a_body_that_never_gets_through(send: Send, film: Path, remote: Remote) -> None:
    """The question where to go on is answered each time, and nothing has arrived."""
    remote.faults = [broken_off(0), None] * 20
    with pytest.raises(Unreachable):
        send(film)
    assert len(remote.faults) == 40 - 2 * PATIENCE.attempts + 1


def test_an_upload_that_is_always_forgotten(send: Send, film: Path, remote: Remote) -> None:
    remote.faults = [says(410), says(410)] * 20
    with pytest.raises(RemoteError) as caught:
        send(film)
    assert caught.value.status == 410


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (413, "beyond_the_end"), (400, "bad_request")])
def test_a_refusal_is_not_tried_again(
    status: int, code: str, send: Send, film: Path, remote: Remote, slept: list[float]
) -> None:
    remote.faults = [says(status, code)]
    with pytest.raises(RemoteError) as caught:
        send(film)
    assert (caught.value.code, caught.value.status, caught.value.document["code"]) == (code, status, code)
    assert slept == []


def test_an_answer_of_somebody_else(send: Send, film: Path, remote: Remote) -> None:
    remote.faults = [lambda remote, request: httpx.Response(418, text="<h1>teapot</h1>")]
    with pytest.raises(RemoteError) as caught:
        send(film)
    assert (caught.value.code, caught.value.sentence) == ("http_418", "The server answered 418.")


def test_a_file_that_is_written_to(send: Send, film: Path, remote: Remote) -> None:
    def written(remote: Remote, request: httpx.Request) -> httpx.Response:
        film.write_bytes(b"x" + DATA)
        return problem(503, "storage_error")

    remote.faults = [written]
    with pytest.raises(FileChanged, match=r"film\.mp4 is being written to"):
        send(film)


def test_a_file_that_is_not_there(send: Send, film: Path, remote: Remote) -> None:
    with pytest.raises(FileNotFoundError):
        send(film.with_name("nowhere"))
    assert remote.asked == []


def test_whoever_hears_the_progress_may_stop_it(film: Path, remote: Remote) -> None:
    """As Ctrl-C does; what arrived is kept."""

    class Enough(Exception):
        pass

    def progress(made: Progress) -> None:
        if made.phase == "sending" and made.done:
            raise Enough

    with Client("http://h/mount", transport=Sync(remote)) as client:
        with pytest.raises(Enough):
            client.upload(film, progress=progress)
        assert client.upload(film).size == len(DATA)


def test_jitter_keeps_clients_apart() -> None:
    answer = httpx.Response(503)
    assert answer.status_code == 503
    for number in (0.0, 0.5, 1.0):
        patience = Patience(base=1.0, most=8.0, random=lambda number=number: number)  # type: ignore[misc]
        pauses = [patience.pause(attempt, _no_answer()).seconds for attempt in range(1, 7)]
        assert pauses == [seconds * (0.5 + number / 2) for seconds in (1, 2, 4, 8, 8, 8)]


def _no_answer() -> Any:
    from stagedoor.client.steps import Cut

    return Cut("nothing")


# ── what is told meanwhile ────────────────────────────────────────────────────────────────────────────────────


async def never_there(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


async def stopping(request: httpx.Request) -> httpx.Response:
    return httpx.Response(503, json={"detail": "The server stops.", "code": "draining"}, headers={"Retry-After": "5"})


Act = Literal["get", "events"]


def ask(how: str, remote: Any, act: Act = "get", patience: Patience = PATIENCE, **options: Any) -> None:
    """Look for an upload, or for what happens, with either client. Time flies."""
    if how == "threads":
        transport = Sync(remote)
        with Client("http://h", patience=patience, sleep=lambda _: None, transport=transport, **options) as client:
            next(client.events()) if act == "events" else client.get("one")
        return

    async def main() -> None:
        async def sleep(seconds: float) -> None:
            """Time flies."""

        at = Async(remote)
        async with AsyncClient("http://h", patience=patience, sleep=sleep, transport=at, **options) as client:
            await (anext(client.events()) if act == "events" else client.get("one"))

    asyncio.run(main())


@pytest.mark.parametrize("how", ["threads", "asyncio"])
def test_whoever_wants_to_hears_at_once_that_the_server_does_not_answer(how: str) -> None:
    told: list[Waiting] = []
    with pytest.raises(Unreachable):
        ask(how, never_there, waiting=told.append)
    why = "The server does not answer: connection refused."
    assert told == [Waiting(why, 1, 0.5), Waiting(why, 2, 1.0), Waiting(why, 3, 2.0)]
    assert str(told[1]) == f"{why} Trying again in 1.0 s."
    told.clear()
    with pytest.raises(RemoteError):
        ask(how, stopping, waiting=told.append)
    assert told[0] == Waiting("The server stops.", 1, 5.0)


@pytest.mark.parametrize("how", ["threads", "asyncio"])
def test_else_the_log_has_it(how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "stagedoor.client")
    with pytest.raises(Unreachable):
        ask(how, never_there)
    ours = [record for record in caplog.records if record.name == "stagedoor.client"]
    assert [record.levelname for record in ours] == ["WARNING", "INFO", "INFO"]  # a warning is shown to everybody
    assert "Trying again in 0.5 s." in ours[0].getMessage()


def test_a_failure_while_a_file_is_sent_is_told_as_well(film: Path, remote: Remote) -> None:
    told: list[Waiting] = []
    remote.faults = [cut]
    with Client(
        "http://h/mount", patience=PATIENCE, sleep=lambda _: None, transport=Sync(remote), waiting=told.append
    ) as client:
        client.upload(film)
    assert [waiting.attempt for waiting in told] == [1]


@pytest.mark.parametrize("how", ["threads", "asyncio"])
def test_whoever_listens_hears_that_nothing_comes(how: str) -> None:
    told: list[Waiting] = []
    with pytest.raises(Unreachable):
        ask(how, never_there, "events", Patience(attempts=2, random=lambda: 1.0), waiting=told.append)
    assert [(waiting.attempt, waiting.seconds) for waiting in told] == [(1, 0.5)]
