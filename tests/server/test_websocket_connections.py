"""Who may connect, who is cut off and why, and what hostile clients can do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from stagedoor.notices import Notice, NoticeKind
from stagedoor.protocols import frames
from stagedoor.server.websocket import largest_message
from stagedoor.settings import Settings

from .serving import PATIENCE
from .talking import Binary, MusicDB, Stage, digest, staged

if TYPE_CHECKING:
    from conftest import House


@pytest.mark.parametrize(
    ("origin", "host", "path", "status"),
    [
        ("https://evil.example", None, "/ws", 403),
        (None, "evil.example", "/ws", 403),
        (None, None, "/elsewhere", 403),
        (None, None, "/ws", None),
        ("http://127.0.0.1:{port}", None, "/ws", None),
        ("https://friend.example", None, "/ws", None),
    ],
)
def test_strangers_are_refused_before_they_are_let_in(
    house: House, origin: str | None, host: str | None, path: str, status: int | None
) -> None:
    with staged(house, origins=("https://friend.example",)) as stage:
        origin = None if origin is None else origin.format(port=stage.served.port)
        if host is not None:  # a client library writes its own
            text = (
                f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            with socket.create_connection(("127.0.0.1", stage.served.port), timeout=PATIENCE) as raw:
                raw.sendall(text.encode())
                assert raw.recv(100).startswith(f"HTTP/1.1 {status}".encode())
        elif status is not None:
            with pytest.raises(InvalidStatus) as caught:
                stage.connect(path, origin=origin)
            assert caught.value.response.status_code == status
        else:
            with stage.musicdb(path=path, origin=origin) as one:
                one.settled()


def test_too_many_connections_are_told_to_come_again(house: House) -> None:
    with staged(house, connections=2) as stage, stage.musicdb() as one:
        with stage.musicdb() as other:
            other.settled()
            with stage.musicdb() as third:
                assert third.ending()[0] == 1013
        one.settled()


def test_at_a_stop_everybody_hears_why(house: House) -> None:
    data = os.urandom(100_000)
    with staged(house, ask=10_000) as stage, stage.musicdb() as one, stage.binary() as other:
        one.settled()
        other.initiate(data)
        other.chunk(other.hear("ask"), data)
        other.settled()
        with stage.musicdb() as silent:
            stage.do(stage.core.drain)
            for client in (one, other, silent):
                code, reason = client.ending()
                assert (code, "connect again" in reason) == (1012, True)
        with stage.musicdb() as late:
            assert late.ending()[0] == 1012
    assert house.uploads.get("one").offset == 10_000


def change(number: int, size: int = 1_000) -> Notice:
    return Notice(NoticeKind.STATE_UPDATE, f"u{number}", None, "x" * size)


async def _hundred(stage: Stage) -> None:
    """A hundred who listen, and one that does not read; two dialects."""
    address = f"ws://127.0.0.1:{stage.served.port}/ws"
    hello = json.dumps({"type": "hello", "version": 1})
    number, listeners = 2_000, list[Any]()

    async def open_one(dialect: int) -> Any:
        client = await connect(address, compression=None, proxy=None, max_size=None, ping_interval=None)
        if dialect:
            await client.send(hello)
            assert json.loads(await client.recv())["type"] == "welcome"
        else:
            await client.send(json.dumps({"method": "request", "fncname": "GetUploads"}))
            assert json.loads(await client.recv())["method"] == "response"
        return client

    slow = await connect(address, compression=None, proxy=None, max_size=None, max_queue=1, ping_interval=None)
    await slow.send(hello)
    assert json.loads(await slow.recv())["type"] == "welcome"
    listeners = await asyncio.gather(*(open_one(number % 2) for number in range(100)))
    told = 0

    async def read(client: Any, until: int) -> list[int]:
        heard = list[int]()
        while not heard or heard[-1] < until:
            message = json.loads(await client.recv())
            data = message.get("arguments", message)
            heard.append(int(data["uploadid"][1:]))
        return heard

    heard: list[list[int]] = [[] for _ in range(100)]
    while stage.core.hub.count() > 100 and told < 100 * number:  # until the slow one has no room any more
        batch = [change(told + n, 4_000) for n in range(50)]
        told += len(batch)
        await asyncio.to_thread(stage.do, partial(stage.core.uploads.bus.publish, batch))
        await asyncio.to_thread(stage.do, stage.core.uploads.bus.flush)
        for found, more in zip(heard, await asyncio.gather(*(read(c, told - 1) for c in listeners)), strict=True):
            found += more
    assert all(found == list(range(told)) for found in heard)
    assert stage.core.hub.count() == 100
    late = list[int]()
    with pytest.raises(ConnectionClosedError):  # noqa: PT012  -- after what had left the server before
        async for message in slow:
            late.append(int(json.loads(message)["uploadid"][1:]))
    assert late == list(range(len(late)))
    assert len(late) < told
    assert (slow.close_code, "too slowly" in (slow.close_reason or "")) == (1013, True)
    await asyncio.gather(*(client.close() for client in listeners))


def test_one_that_does_not_read_disturbs_nobody(house: House) -> None:
    with staged(house, backlog=200) as stage:
        asyncio.run(asyncio.wait_for(_hundred(stage), 6 * PATIENCE))


_FLOOD = 3_000  # requests of 50 kB: far beyond what sockets hold


def test_who_asks_and_does_not_read_is_not_answered_for_ever(house: House) -> None:
    """The server reads no more while answers wait, so that the client's own writing comes to a halt."""
    for number in range(50):
        house.send(f"u{number}")

    async def flood(stage: Stage) -> int:
        address = f"ws://127.0.0.1:{stage.served.port}/ws"
        sent = 0
        async with connect(
            address, compression=None, proxy=None, max_size=None, max_queue=1, ping_interval=None, close_timeout=0.1
        ) as one:
            await one.send(json.dumps({"type": "hello", "version": 1}))
            filler = " " * 50_000
            while sent < _FLOOD:
                sent += 1
                sending = asyncio.create_task(one.send(json.dumps({"type": "list", "n": sent}) + filler))
                turns = 0
                while not sending.done() and turns < 200:
                    turns += 1
                    await asyncio.sleep(0)
                    await asyncio.to_thread(stage.do, lambda: None)  # the server has had its turn
                if not sending.done():
                    sending.cancel()
                    break
            one.transport.abort()
        return sent

    with staged(house) as stage:
        assert asyncio.run(flood(stage)) < _FLOOD
        with stage.binary() as other:
            assert len(other.ask("list")["tasks"]) == 50


def test_the_largest_message(house: House) -> None:
    limits = Settings(max_chunk=1_000)
    assert largest_message(limits) >= 2 * 1_000 + 6 * limits.max_annotations
    house.uploads.settings  # noqa: B018  -- as the house has them
    with staged(house, uvicorn={"ws_max_size": 10_000}) as stage:
        with stage.musicdb() as one:
            one.socket.send("x" * 10_001)
            assert one.ending()[0] == 1009
        with stage.musicdb() as other:
            other.settled()


# ── hostile ───────────────────────────────────────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
NAMES = ["InitiateUpload", "UploadChunk", "GetUploads", "AnnotateUpload", "IntegrateUpload", "RemoveUpload"]
TYPES = [
    "hello", "initiate", "declare", "claim", "release", "annotate", "plan", "request", "integrate", "import", "retry",
    "undo", "remove", "list",
]  # fmt: skip
IDS = st.sampled_from(["one", "two", "../x", "", "\x00", "\ud800"]) | st.text(max_size=10)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "uploadid": IDS | JSON,
        "chunkdata": st.sampled_from(["00", "0", "zz", "ä"]) | JSON,
        "filesize": st.sampled_from([0, 1, -1, 3, 2**70]) | JSON,
        "contenttype": st.sampled_from(["video", "Tape"]) | JSON,
        "checksum": st.sampled_from([digest(b"abc"), "x"]) | JSON,
        "filename": st.sampled_from(["film.mp4", "\0"]) | JSON,
        "mimetype": st.just("video/mp4") | JSON,
        "triggerimport": st.booleans() | JSON,
        "annotations": JSON,
        "n": st.integers(0, 5) | JSON,
        "limit": st.integers(-1, 2000) | JSON,
        "after": IDS | JSON,
        "trigger_import": st.booleans() | JSON,
        "sha1": st.just(digest(b"abc")) | JSON,
    },
)
PACKETS = st.builds(
    lambda method, name, arguments, rest: {"method": method, "fncname": name, "arguments": arguments} | rest,
    st.sampled_from(["call", "request", "broadcast"]) | JSON, st.sampled_from(NAMES) | JSON, ARGUMENTS | JSON,
    st.fixed_dictionaries({}, optional={"fncsig": JSON, "pass": JSON, "key": JSON}),
)  # fmt: skip
MESSAGES = st.builds(lambda type_, rest: {**rest, "type": type_}, st.sampled_from(TYPES) | JSON, ARGUMENTS)
CHUNKS = st.builds(
    frames.encode_chunk, st.integers(0, 3) | st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 2]) | st.integers(0, 2**64 - 1), st.binary(min_size=1, max_size=5),
)  # fmt: skip
TEXTS = st.one_of(
    PACKETS.map(json.dumps), MESSAGES.map(json.dumps), st.text(max_size=50).filter(lambda t: t.isprintable()),
    st.sampled_from(["[" * 100_000, '{"a":' * 20 + "1" + "}" * 20, "[" + "1," * 30_000 + "1]", "{}", "x" * 600_000]),
)  # fmt: skip
FRAMES = st.one_of(TEXTS, CHUNKS, st.binary(max_size=30))


def sendable(frame: str | bytes) -> str | bytes:
    return frame if isinstance(frame, bytes) else frame.encode("utf-8", "replace").decode()


@settings(
    max_examples=30, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(binary=st.booleans(), sent=st.lists(FRAMES, max_size=12))
def test_whatever_is_sent_the_server_lives(
    house: House, caplog: pytest.LogCaptureFixture, binary: bool, sent: list[str | bytes]
) -> None:
    _hostile(house, caplog, binary, sent)


def _hostile(house: House, caplog: pytest.LogCaptureFixture, binary: bool, sent: list[str | bytes]) -> None:
    caplog.clear()
    with staged(house, ask=2, window=2) as stage:
        with stage.binary() if binary else stage.musicdb() as one:
            if not binary:
                one.socket.send(json.dumps({"method": "call", "fncname": "GetUploads"}))
            for frame in sent:
                one.socket.send(sendable(frame))
            if binary:
                assert isinstance(one, Binary)
                one.n = 1_000_000
                one.settled()
                known = {"ask", "stop", "notice", "tasks", "done", "error", "heartbeat"}
                assert {m["type"] for m in one.heard} <= known
            else:
                assert isinstance(one, MusicDB)
                one.say("GetUploads", method="request", fncsig="the last")
                one.until(lambda m: m["method"] == "response" and m["fncsig"] == "the last")
                assert {m["method"] for m in one.heard} <= {"notification", "response", "broadcast"}
        with stage.binary() as other:
            other.settled()
    assert not [r for r in caplog.records if r.levelname in ("ERROR", "CRITICAL")]


def test_some_that_were_thought_of(house: House, caplog: pytest.LogCaptureFixture) -> None:
    for binary in (True, False):
        _hostile(house, caplog, binary, ["[" * 100_000, '{"a":' * 20 + "1" + "}" * 20, "[" + "1," * 30_000 + "1]"])
        _hostile(house, caplog, binary, ["x" * 600_000, "", b"", b"\x11" * 13, b"\x11" * 14, "null", "3"])
