"""What strangers can make a server hold, wait for and count: uvicorn's protocols with our limits."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
import uvicorn
from attrs import define, field
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.server import ServerState
from websockets.streams import StreamReader

from stagedoor.protocols import frames
from stagedoor.protocols.fields import Answer
from stagedoor.server import connections
from stagedoor.server.config import ServerConfig
from stagedoor.server.connections import FIELDS, PIPELINED, SPARE_EACH, STRANGER, Crowd, Inbox
from stagedoor.server.http import Receive, Scope, Send, respond
from stagedoor.server.run import _listening
from stagedoor.server.websocket import largest_message

from .serving import PATIENCE
from .talking import Stage, Talk, digest, staged

if TYPE_CHECKING:
    from conftest import House

KEY: Final = "a-secret-key"
NOBODY: Final = Crowd(1_000)


@contextmanager
def limited(house: House, inbox: int = 256 << 20, loop: str = "uvloop", **config: Any) -> Iterator[tuple[Stage, Inbox]]:
    """A server whose WebSockets have our limits."""
    room = Inbox(inbox)
    protocol = connections.websocket_protocol(ServerConfig(**config), NOBODY, room)
    with staged(house, uvicorn={"ws": protocol, "loop": loop}, **config) as stage:
        yield stage, room


# ── WebSockets: what is read ──────────────────────────────────────────────────────────────────────────────────


def read(
    reader: StreamReader, sizes: list[int], pieces: list[bytes], discard: int, give_up: int, *, late: bool
) -> list[object]:
    """What is read, in so many bytes, while a stream comes in pieces and ends; what is thrown away before one of these,
    and where whoever reads is exchanged for another, is the same for all readers."""
    found = list[object]()

    def reading(sizes: Iterator[int]) -> Iterator[None]:
        for size in sizes:
            found.append(bytes((yield from reader.read_exact(size))))

    rest = iter(sizes)
    parser = reading(rest)
    over = next(parser, parser) is parser
    for number, piece in enumerate([*pieces, None]):
        if number == discard:
            reader.discard()
        if number == give_up and not late:
            parser = reading(rest)  # the one before may have waited
            over = next(parser, parser) is parser
        taken = False  # to where it belongs, and nobody has to look at it
        if piece is None:
            reader.feed_eof()
        else:
            room = reader.room() if isinstance(reader, connections._Whole) and number % 3 else None
            if room is not None and isinstance(reader, connections._Whole):
                size = min(len(room), len(piece))
                room[:size] = piece[:size]
                piece, taken = piece[size:], not reader.took(size) and size == len(piece)
            if not taken:
                reader.feed_data(piece)
        if number == give_up and late and piece is not None:
            parser = reading(rest)
            over = next(parser, parser) is parser
        if taken:
            continue
        try:
            over = over or next(parser, parser) is parser
        except EOFError as error:
            return [*found, str(error)]
    return [*found, bytes(reader.buffer)]


@given(
    st.lists(st.integers(0, 40), max_size=8),
    st.lists(st.binary(min_size=1, max_size=20), max_size=12),
    st.integers(0, 24),
    st.integers(0, 24),
    st.booleans(),
)
@example([8], [bytes(4), bytes(5)], 0, 1, True)
def test_large_messages_are_read_as_others(
    sizes: list[int], pieces: list[bytes], discard: int, give_up: int, late: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "_LARGE", 8)
        patch.setattr(connections, "_ROOM", 10)
        patch.setattr(connections, "_GROWTH", 2)
        patch.setattr(connections, "_READ", 7)
        patch.setattr(connections, "_SPARE", 20)
        shelf = deque((bytearray(b"?" * size) for size in sizes[-1:]), maxlen=2)
        mine = read(connections._Whole(shelf), sizes, pieces, discard, give_up, late=late)
    assert mine == read(StreamReader(), sizes, pieces, discard, give_up, late=late)


@pytest.mark.parametrize("piece", [3, 100, 5_000, 1 << 20])
def test_a_large_message_takes_what_is_counted_and_not_much_more_than_came(piece: int) -> None:
    reader = connections._Whole(deque(maxlen=2))
    size = 16 << 20
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        parser = reader.read_exact(size)
        next(parser)
        came = 0
        while came + piece < min(size, 20_000 * piece):
            reader.feed_data(bytes(piece))
            came += piece
            assert came <= reader.held <= max(8 * came, 256 << 10)
        taken, _ = tracemalloc.get_traced_memory()
        assert reader.held <= taken - before < reader.held + 100_000
        reader.feed_data(bytes(size - came) + b"more")
        with pytest.raises(StopIteration) as done:
            next(parser)
        assert len(done.value.value) == size
        assert (bytes(reader.buffer), reader.held) == (b"more", 4)
    finally:
        tracemalloc.stop()


def test_messages_of_one_size_come_to_one_place_and_few_places_are_kept() -> None:
    shelf = deque[bytearray](maxlen=2)
    readers = [connections._Whole(shelf) for _ in range(5)]

    def read_all(size: int) -> list[int]:
        parsers = [reader.read_exact(size) for reader in readers]
        for number, (reader, parser) in enumerate(zip(readers, parsers, strict=True)):
            next(parser)
            assert reader.held == 256 << 10
            reader.feed_data(bytes([number]) * size)
        places = []
        for number, parser in enumerate(parsers):
            with pytest.raises(StopIteration) as done:
                next(parser)
            assert done.value.value == bytes([number]) * size
            places.append(id(done.value.value))
        return places

    first, second = read_all(1 << 20), read_all(1 << 20)
    assert first[-2:] == second[:2][::-1]
    assert [len(place) for place in shelf] == [1 << 20] * 2
    read_all(3 << 20)
    assert [len(place) for place in shelf] == [1 << 20] * 2
    assert [reader.held for reader in readers] == [0] * 5


def test_who_announces_much_and_sends_nothing_has_little_kept_free() -> None:
    async def play() -> None:
        with without_sockets() as server:
            one, _ = await server.websocket()
            one.data_received(frame(b"", length=16 << 20))
            assert one.inbox.used == 256 << 10
            one.connection_lost(None)
            await settle()
            assert one.inbox.used == 0

    asyncio.run(play())


@pytest.mark.parametrize(("first", "held"), [(0, 256 << 10), ((64 << 10) - 1, (512 << 10) - 8), (64 << 10, 2 << 20)])
def test_a_place_that_is_there_anyway_is_for_who_sends_a_part_at_once(first: int, held: int) -> None:
    shelf = deque([bytearray(2 << 20)], maxlen=2)
    reader = connections._Whole(shelf)
    reader.feed_data(bytes(first))
    parser = reader.read_exact(2 << 20)
    next(parser)
    assert reader.held == held
    reader.feed_data(bytes(held - first))
    assert reader.held == 2 << 20
    assert not shelf


def test_one_read_brings_no_more_than_a_mebibyte() -> None:
    """However large the message is: others want to be read, too."""
    reader = connections._Whole(deque(maxlen=2))
    reader.feed_data(bytes(1 << 20))
    parser = reader.read_exact(16 << 20)
    next(parser)
    room = reader.room()
    assert room is not None
    assert len(room) == 1 << 20 < reader.held - (1 << 20)


def test_a_stranger_has_nothing_kept_free() -> None:
    async def play() -> None:
        with without_sockets(keys=(KEY,)) as server:
            one, line = await server.websocket()
            assert one.stranger > connections._LARGE
            one.data_received(frame(b"", length=one.stranger))
            assert one.inbox.used == 0
            assert not line.ended
            one._trust()
            one.data_received(bytes(one.stranger))  # it was begun as a stranger's
            await settle()
            one.data_received(frame(b"", length=2 * one.stranger))
            assert one.inbox.used == 256 << 10
            one.connection_lost(None)
            await settle()

    asyncio.run(play())


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_large_messages_arrive_on_both_event_loops(house: House, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces that have nothing to do with where a message begins: a window of them is sent with one call."""
    data = random.Random(3).randbytes(5_000_000)
    took, straight = connections._Whole.took, list[int]()

    def noted(self: connections._Whole, size: int) -> bool:
        straight.append(size)
        return took(self, size)

    monkeypatch.setattr(connections._Whole, "took", noted)
    with limited(house, loop=loop, ask=700_000, window=8) as (stage, room), stage.binary(window=8) as one:
        one.initiate(data)
        sent = b""
        for _ in range(8):
            ask = one.hear("ask")
            part = data[ask["offset"] : ask["offset"] + ask["length"]]
            sent += frame(frames.encode_chunk(ask["handle"], ask["offset"], part))
        one.socket.socket.sendall(sent)
        one.until(lambda m: m["type"] == "notice" and m["state"] == "uploadcomplete")
        assert house.uploads.get("one").sourcechecksum == digest(data)
        until(stage, lambda: room.used == 0)
    assert sum(straight) > 0.6 * len(data)  # to where it belongs, without a copy


# ── WebSockets: before a key is known ─────────────────────────────────────────────────────────────────────────


def frame(payload: bytes, *, opcode: int = 2, fin: bool = True, length: int | None = None) -> bytes:
    """A frame as a client sends it, with a mask of zeros; it may claim to be longer than it is."""
    size = len(payload) if length is None else length
    return bytes([0x80 * fin | opcode, 0xFF]) + size.to_bytes(8, "big") + bytes(4) + payload


@pytest.mark.parametrize(
    "sent",
    [
        frame(b"x" * (STRANGER + 1), opcode=1),
        frame(b"x" * (STRANGER + 1)),
        frame(b"x" * STRANGER, opcode=1, fin=False) + frame(b"x", opcode=0),
        frame(b"x" * STRANGER, fin=False) + frame(b"", opcode=0, fin=False) + frame(b"x", opcode=0),
        frame(b"x" * STRANGER * 64),
    ],
    ids=["text", "bytes", "fragments", "fragments of bytes", "very much"],
)
def test_a_stranger_sends_little(house: House, sent: bytes) -> None:
    with limited(house, keys=(KEY,)) as (stage, room), Talk(stage.connect()) as one:
        with suppress(OSError):  # its own end may be closed before it has sent all
            one.socket.socket.sendall(sent)
        code, reason = one.ending()
        assert code == 1009
        assert "key" in reason
        assert room.used == 0


def test_a_stranger_who_never_comes_to_an_end_sends_little(house: House) -> None:
    """The length that a frame tells is not waited for, and neither is the last fragment."""
    with limited(house, keys=(KEY,)) as (stage, _):
        with Talk(stage.connect()) as one:
            one.socket.socket.sendall(frame(b"x" * 2 * STRANGER, length=4 * STRANGER))
            assert one.ending()[0] == 1009
        with Talk(stage.connect()) as one:
            one.socket.socket.sendall(frame(b"x" * STRANGER, fin=False) + frame(b"x" * 99, opcode=0, fin=False))
            assert one.ending()[0] == 1009


def test_who_is_cut_and_goes_on_sending_is_not_heard_for_ever() -> None:
    async def play() -> None:
        with without_sockets(keys=(KEY,)) as server:
            one, line = await server.websocket()
            # A first packet may declare an upload with all the annotations that it may have.
            assert one.stranger >= frames.Limits(max_chunk=1).json.max_bytes
            one.data_received(frame(b"x" * 2 * one.stranger))
            await settle()
            assert line.ended
            assert not line.closed  # so that it can read why
            one.data_received(b"x" * (16 << 20))
            assert not line.closed
            one.data_received(b"x")
            assert line.aborted
            one.connection_lost(None)
            await settle()

    asyncio.run(play())


def test_who_has_shown_a_key_sends_what_others_may(house: House) -> None:
    data = bytes(3 * STRANGER)
    with limited(house, keys=(KEY,)) as (stage, _), stage.binary(key=KEY) as one:
        one.initiate(data)
        one.feed(data)
        assert house.uploads.get("one").offset == len(data)


def test_who_has_shown_a_key_in_every_packet_sends_what_others_may(house: House) -> None:
    data = bytes(2 * STRANGER)
    with limited(house, keys=(KEY,)) as (stage, _), stage.musicdb(key=KEY) as one:
        uploadid = one.initiate(data)
        one.told("ChunkRequest")
        one.chunk(uploadid, data)
        one.told(state="uploadcomplete")


def test_a_wrong_key_is_no_key(house: House) -> None:
    with limited(house, keys=(KEY,)) as (stage, _), stage.musicdb(key="a-wrong-key") as one:
        one.say("GetUploads", method="request")
        one.chunk("one", bytes(STRANGER))
        assert one.ending()[0] == 1009


def test_what_comes_right_behind_the_key_may_be_large(house: House) -> None:
    """Both may come with one read, before anybody has looked at the key."""
    hello = json.dumps({"type": "hello", "version": 1, "window": 1, "key": KEY}).encode()
    with limited(house, keys=(KEY,)) as (stage, _), Talk(stage.connect()) as one:
        one.socket.socket.sendall(frame(hello, opcode=1) + frame(b"x" * 2 * STRANGER))
        assert one.next()["type"] == "welcome"
        assert one.next()["type"] == "error"  # such a frame there is not

    async def play() -> None:
        with without_sockets(keys=(KEY,)) as server:
            one, line = await server.websocket()
            one.data_received(frame(hello, opcode=1) + frame(b"x" * 2 * STRANGER, length=3 * STRANGER))
            assert not line.ended
            one.connection_lost(None)
            await settle()

    asyncio.run(play())


def test_without_keys_everybody_may(house: House) -> None:
    data = bytes(2 * STRANGER)
    with limited(house) as (stage, _), stage.musicdb() as one:
        uploadid = one.initiate(data)
        one.told("ChunkRequest")
        one.chunk(uploadid, data)
        one.told(state="uploadcomplete")


def test_below_another_server_keys_work_as_well(house: House) -> None:
    data = bytes(2 * STRANGER)
    with staged(house, keys=(KEY,)) as stage, stage.binary(key=KEY) as one:
        one.initiate(data)
        one.feed(data)
        assert house.uploads.get("one").offset == len(data)


# ── WebSockets: what all take together ────────────────────────────────────────────────────────────────────────


def test_of_all_who_send_at_a_time_the_largest_goes(house: House) -> None:
    whole = frame(b"x" * 100_000)
    with limited(house, inbox=400_000) as (stage, room), Talk(stage.connect()) as one, Talk(stage.connect()) as other:
        one.socket.socket.sendall(whole[:90_000])
        other.socket.socket.sendall(frame(b"x" * 350_000, length=1 << 20))
        assert other.ending()[0] == 1013
        one.socket.socket.sendall(whole[90_000:] + frame(b'{"type": "hello", "version": 1}', opcode=1))
        code, reason = one.ending()
        assert (code, reason) == (1008, "Say hello first.")  # so the whole one was looked at
        assert room.used == 0


def test_who_leaves_in_the_middle_takes_nothing(house: House) -> None:
    with limited(house) as (stage, room):
        with Talk(stage.connect()) as one:
            one.socket.socket.sendall(frame(b"x" * 50_000, length=100_000))
            until(stage, lambda: room.used >= 50_000)
            one.socket.socket.shutdown(socket.SHUT_RDWR)
        until(stage, lambda: room.used == 0)


def until(stage: Stage, there: Callable[[], bool]) -> None:
    """Wait for something on the event loop of a server."""
    found: list[bool] = []
    deadline = time.monotonic() + PATIENCE
    while not any(found):
        assert time.monotonic() < deadline
        stage.do(lambda: found.append(there()))


def test_fragments_count_even_if_they_are_empty(house: House) -> None:
    with limited(house, inbox=100_000) as (stage, room), Talk(stage.connect()) as one:
        one.socket.socket.sendall(frame(b"", fin=False) + frame(b"", opcode=0, fin=False) * 1_000)
        assert one.ending()[0] == 1013
        assert room.used == 0


def test_messages_that_wait_count_and_those_that_are_done_do_not(house: House) -> None:
    used: list[int] = []
    with limited(house, inbox=300_000) as (stage, room), stage.binary() as one:
        for _ in range(20):  # more than there is room for, one after another
            one.socket.send(b"x" * 100_000)
            one.hear("error")
            stage.do(lambda: used.append(room.used))
        assert set(used) == {0}
        many = frame(b'{"type": "list", "n": 1}', opcode=1) * 1_000  # and all at once they take more than their bytes
        one.socket.socket.sendall(many)
        assert one.ending()[0] == 1013
        assert room.used == 0


def test_one_message_always_has_room() -> None:
    """A small inbox refuses nothing that the engine would take."""
    settings = uvicorn_settings(inbox=1)
    protocol = settings.ws
    assert isinstance(protocol, type)
    assert cast("Any", protocol).make.inbox.most >= 2 * settings.ws_max_size


def uvicorn_settings(**config: Any) -> uvicorn.Config:
    from stagedoor.server import run
    from stagedoor.settings import Settings

    settings = run._settings_of_uvicorn(cast("Any", patient), ServerConfig(**config), Settings())
    assert settings.ws_max_size == largest_message(Settings())
    return settings


async def patient(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that lets everybody in, and waits."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    elif scope["path"] == "/at-once":
        await respond(send, Answer(204))
        return
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass


# ── without a network ─────────────────────────────────────────────────────────────────────────────────────────


@define(eq=False)
class Line:
    """A transport; ``peer`` is who is at the other end."""

    peer: tuple[str, int]
    written: bytearray = field(factory=bytearray)
    closed: bool = False
    aborted: bool = False
    ended: bool = False
    protocol: Any = None

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": self.peer, "sockname": ("192.0.2.1", 80)}.get(name, default)

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol


@define
class Server:
    """A server without sockets."""

    config: uvicorn.Config
    state: ServerState = field(factory=ServerState)

    def connection(self, peer: str) -> tuple[Any, Line]:
        line = Line((peer, 1))
        protocol: Any = cast("Any", self.config.http_protocol_class)(self.config, self.state, {})
        protocol.connection_made(line)
        return protocol, line

    async def websocket(self) -> tuple[Any, Line]:
        protocol, line = self.connection("192.0.2.7")
        protocol.data_received(UPGRADE)
        await settle()
        assert line.written.startswith(b"HTTP/1.1 101 ")
        line.written.clear()
        return line.protocol.socket, line


@contextmanager
def without_sockets(**config: Any) -> Iterator[Server]:
    settings = uvicorn_settings(**config)
    settings.load()
    yield Server(settings)


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def settle() -> None:
    """Let everything that can happen without waiting happen."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_one_address_has_so_many_connections() -> None:
    async def play() -> None:
        with without_sockets(connections_each=2) as server:
            first, _ = server.connection("192.0.2.7")
            second, line = server.connection("192.0.2.7")
            second.data_received(UPGRADE)  # becomes another protocol, and counts as before
            second = line.protocol
            for sent in (GET, UPGRADE):
                third, line = server.connection("192.0.2.7")
                third.data_received(sent)
                await settle()
                assert line.written.startswith(b"HTTP/1.1 503 ")
                assert line.closed
                third.connection_lost(None)
            crowd = [server.connection("192.0.2.7") for _ in range(SPARE_EACH + 1)]
            assert [line.aborted for _, line in crowd] == [False] * SPARE_EACH + [True]
            for one, _ in crowd:
                one.connection_lost(None)
            for peer in ("192.0.2.8", "127.0.0.1"):  # others are others
                _, line = server.connection(peer)
                assert not line.closed
            second.connection_lost(None)
            third, line = server.connection("192.0.2.7")
            third.data_received(GET)
            await settle()
            assert not line.written.startswith(b"HTTP/1.1 503 ")
            first.connection_lost(None)
            third.connection_lost(None)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("address", "proxies", "name"),
    [
        ("192.0.2.7", (), "192.0.2.7"),
        ("127.0.0.9", (), None),
        ("::1", (), None),
        ("::ffff:192.0.2.7", (), "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", (), "2001:db8:1:2::/64"),
        ("fe80::1%eth0", (), "fe80::/64"),
        ("192.0.2.7", ("192.0.2.7",), None),
        ("192.0.2.7", ("192.0.2.0/24", "proxy"), None),
        ("192.0.2.7", ("2001:db8::/32",), "192.0.2.7"),
        ("192.0.2.7", ("*",), None),
        ("testclient", (), None),
    ],
)
def test_under_which_name_a_connection_counts(address: str, proxies: tuple[str, ...], name: str | None) -> None:
    assert Crowd(1, proxies).whose((address, 1)) == name


def test_an_upgrade_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        with without_sockets(connections_each=1) as server:
            one, line = server.connection("192.0.2.7")
            one.data_received(UPGRADE)
            await settle()
            assert line.written.startswith(b"HTTP/1.1 101 ")
            assert caplog.records == []  # nobody was refused, and nobody hears that somebody is
            crowd = one.crowd
            assert crowd.enter("192.0.2.7") == 1
            crowd.leave("192.0.2.7")
            line.protocol.connection_lost(None)
            await settle()
            assert crowd.enter("192.0.2.7") == 0

    asyncio.run(play())


def test_strangers_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = [1_000.0]
    crowd = Crowd(1, clock=lambda: now[0])
    for number in range(500):
        crowd.enter(f"192.0.2.{number % 100}")
        assert crowd.enter(f"192.0.2.{number % 100}") > 0
        crowd.leave(f"192.0.2.{number % 100}")
        crowd.leave(f"192.0.2.{number % 100}")
    (said,) = caplog.messages
    assert said.startswith("192.0.2.0 has 1 connections")
    now[0] += 60.0
    crowd.enter("192.0.2.7")
    crowd.enter("192.0.2.7")
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("192.0.2.7 ")
    assert caplog.messages[1].endswith(" 499")


def test_connections_without_an_address_do_not_count() -> None:
    crowd = Crowd(1)
    assert crowd.whose(None) is None
    assert [crowd.enter(None) for _ in range(3)] == [0, 0, 0]


def test_answers_to_pings_do_not_pile_up() -> None:
    async def play() -> None:
        with without_sockets() as server:
            one, line = await server.websocket()
            ping = bytes([0x89, 0x80 | 100]) + bytes(4) + b"x" * 100
            one.data_received(ping)
            assert len(line.written) == 102
            one.pause_writing()  # it does not read
            for _ in range(10):
                one.data_received(ping)
            last = ping[:-1] + b"!"
            one.data_received(ping + last + ping[:1] + b"\x80" + bytes(4) + last)
            assert len(line.written) == 102
            line.written.clear()
            one.resume_writing()  # the newest stands for all
            assert line.written == b"\x8ad" + b"x" * 99 + b"!"
            one.pause_writing()
            one.resume_writing()
            assert len(line.written) == 102  # once
            one.data_received(ping)
            assert len(line.written) == 204
            one.pause_writing()
            one.data_received(ping)
            one.cut(1013, "Enough.")
            line.written.clear()
            one.resume_writing()
            assert line.written == b""  # nothing comes behind the end
            one.connection_lost(None)
            await settle()

    asyncio.run(play())


def test_who_sends_too_many_fields_hears_that_and_nothing_else() -> None:
    async def play() -> None:
        with without_sockets() as server:
            one, line = server.connection("192.0.2.7")
            one.data_received(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * (FIELDS + 1) + b"\r\n")
            assert line.written.startswith(b"HTTP/1.1 431 ")
            assert line.written.count(b"HTTP/1.1 ") == 1
            assert line.closed
            assert not server.state.tasks  # nothing is begun of it
            one.connection_lost(None)

    asyncio.run(play())


def test_a_websocket_lives_on_whatever_the_connection_was_before() -> None:
    async def play() -> None:
        with without_sockets() as server:
            one, line = server.connection("192.0.2.7")
            one.data_received(GET.replace(b"/", b"/at-once", 1))
            await settle()
            assert line.written.startswith(b"HTTP/1.1 204 ")
            assert not line.closed
            one.data_received(UPGRADE)
            await settle()
            assert line.protocol is not None
            assert one._leaving is None
            assert one._deadline is None
            assert one.timeout_keep_alive_task is None
            line.protocol.connection_lost(None)
            await settle()

    asyncio.run(play())


def test_requests_that_wait_for_no_answer_are_few() -> None:
    async def play() -> None:
        with without_sockets() as server:
            one, line = server.connection("192.0.2.7")
            one.data_received(GET * (PIPELINED + 1))
            assert not line.closed
            one.connection_lost(None)
            one, line = server.connection("192.0.2.7")
            one.data_received(GET * (PIPELINED + 2) * 10)
            assert line.aborted
            assert len(one.pipeline) == PIPELINED + 1
            one.connection_lost(None)
            await settle()

    asyncio.run(play())


# ── the kernel ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no TCP_USER_TIMEOUT")
def test_the_kernel_ends_connections_whose_client_takes_nothing() -> None:
    (listening,) = _listening(ServerConfig(port=0))
    with listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
