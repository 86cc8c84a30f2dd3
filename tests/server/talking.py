"""A server with the WebSocket, and clients of both dialects as strangers would write them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import pytest
from attrs import define, field, frozen
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from stagedoor.protocols import frames
from stagedoor.server.core import Core
from stagedoor.server.http import Receive, Scope, Send
from stagedoor.server.websocket import Sockets, largest_message

from .serving import PATIENCE, Served, Wires, core_of, serve

if TYPE_CHECKING:
    from conftest import House

__all__ = ["Binary", "MusicDB", "Stage", "Talk", "digest", "offer_of", "staged"]

FOREVER = 3600.0
"""Seconds between heartbeats, so that time passes when a test says so."""


def digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


class _Doors(Wires):
    """The WebSocket, and beside it the HTTP wires for uploads."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self.sockets = Sockets(core)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.sockets(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


@frozen
class Stage:
    """A server that runs, and who talks to it."""

    doors: _Doors
    served: Served

    @property
    def core(self) -> Core:
        return self.doors.core

    def do(self, function: Callable[[], object]) -> None:
        """Have something done on the event loop, and wait for it."""
        done = threading.Event()

        def call() -> None:
            try:
                function()
            finally:
                done.set()

        self.doors.loop.call_soon_threadsafe(call)
        assert done.wait(PATIENCE)

    def tick(self) -> None:
        """Let half of a heartbeat pass."""
        self.do(self.doors.sockets.tick)

    def connect(self, path: str = "/ws", **options: Any) -> ClientConnection:
        options.setdefault("max_size", None)
        opening = connect(
            f"ws://127.0.0.1:{self.served.port}{path}", compression=None, proxy=None, open_timeout=PATIENCE,
            close_timeout=PATIENCE, **options,
        )  # fmt: skip
        connection: ClientConnection = opening.__enter__()
        return connection  # whoever talks closes it: `Talk.__exit__`

    def musicdb(self, key: str | None = None, **options: Any) -> MusicDB:
        return MusicDB(self.connect(**options), key)

    def binary(self, *, window: int = 4, key: str | None = None, **options: Any) -> Binary:
        client = Binary(self.connect(**options))
        client.say("hello", version=1, window=window, key=key)
        client.hear("welcome")
        return client


@contextmanager
def staged(
    house: House, *, worker: bool = False, uvicorn: Mapping[str, Any] | None = None, **config: Any
) -> Iterator[Stage]:
    """A server with the WebSocket on the engine of a house."""
    config.setdefault("heartbeat", FOREVER)
    core = core_of(house.uploads, parts=False, worker=worker, **config)
    doors = _Doors(core)
    options = {"ws": "websockets-sansio", "ws_max_size": largest_message(house.uploads.settings)} | dict(uvicorn or {})
    with serve(doors, **options) as served:
        yield Stage(doors, served)


@define
class Talk:
    """A connection.

    Attributes:
        socket: The client library's.
        heard: What was heard while something else was waited for, and not looked at yet.
    """

    socket: ClientConnection
    heard: list[dict[str, Any]] = field(factory=list, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def next(self) -> dict[str, Any]:
        """The next message."""
        message = self.socket.recv(timeout=PATIENCE)
        assert isinstance(message, str)
        found = json.loads(message)
        assert isinstance(found, dict)
        return found

    def until(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message that fits; the others are kept in `heard`."""
        while True:
            message = self.next()
            if fits(message):
                return message
            self.heard.append(message)

    def ending(self) -> tuple[int, str]:
        """Code and reason with which the server closes; what comes before is kept in `heard`."""
        with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012  -- it is the last call that raises
            while True:
                self.heard.append(self.next())
        assert caught.value.rcvd is not None
        return caught.value.rcvd.code, caught.value.rcvd.reason


@define
class MusicDB(Talk):
    """A client as MusicDB's web client is one."""

    key: str | None = None

    def say(
        self, fncname: str, *, method: str = "call", fncsig: object = None, pass_: object = None, **arguments: Any
    ) -> None:
        packet = {"method": method, "fncname": fncname, "fncsig": fncsig, "arguments": arguments, "pass": pass_}
        self.socket.send(json.dumps(packet | ({} if self.key is None else {"key": self.key})))

    def ask(self, fncname: str, **arguments: Any) -> Any:
        """A request, and the arguments of its response."""
        self.say(fncname, method="request", fncsig="Show", pass_={"of": fncname}, **arguments)
        found = self.until(lambda m: m["method"] == "response" and m["fncname"] == fncname)
        assert (found["fncsig"], found["pass"]) == ("Show", {"of": fncname})
        return found["arguments"]

    def told(self, name: str | None = None, state: str | None = None, uploadid: str | None = None) -> dict[str, Any]:
        """The data of the next notification that fits."""

        def fits(message: dict[str, Any]) -> bool:
            data = message["arguments"]
            return (
                message["fncname"] == "MusicDB:Upload"
                and name in (None, message["fncsig"])
                and state in (None, data["state"])
                and uploadid in (None, data["uploadid"])
            )

        found = self.until(fits)
        assert (found["method"], found["pass"]) == ("notification", None)
        data = found["arguments"]
        assert isinstance(data, dict)
        assert ("uploadslist" in data) == (found["fncsig"] != "ChunkRequest")
        return data

    def chunk(self, uploadid: str, data: bytes) -> None:
        self.say("UploadChunk", uploadid=uploadid, chunkdata=data.hex())

    def initiate(self, data: bytes, uploadid: str | None = None, **other: Any) -> str:
        uploadid = uploadid or digest(data)
        self.say("InitiateUpload", **(offer_of(data) | {"uploadid": uploadid} | other))
        return uploadid

    def settled(self) -> None:
        """Everything that was said is done."""
        self.ask("GetUploads")


def offer_of(data: bytes) -> dict[str, Any]:
    """Arguments of InitiateUpload that fit some data."""
    return {
        "uploadid": digest(data), "mimetype": "video/mp4", "contenttype": "video", "filesize": len(data),
        "checksum": digest(data), "filename": "film.mp4",
    }  # fmt: skip


@define
class Binary(Talk):
    """A client of our own dialect."""

    n: int = 0

    def say(self, type_: str, **members: Any) -> None:
        self.socket.send(json.dumps({"type": type_, **members}))

    def hear(self, type_: str, **members: Any) -> dict[str, Any]:
        """The next message of a type with these members."""
        return self.until(lambda m: m["type"] == type_ and members.items() <= m.items())

    def ask(self, type_: str, **members: Any) -> dict[str, Any]:
        """A request and its answer."""
        self.n += 1
        self.say(type_, n=self.n, **members)
        return self.until(lambda m: m.get("n") == self.n)

    def initiate(self, data: bytes, uploadid: str = "one", **other: Any) -> dict[str, Any]:
        declared: dict[str, Any] = {
            "uploadid": uploadid, "filename": "film.mp4", "contenttype": "video", "mimetype": "video/mp4",
            "filesize": len(data), "sha1": digest(data),
        }  # fmt: skip
        return self.ask("initiate", **(declared | other))

    def settled(self) -> None:
        """Everything that was said is done."""
        self.ask("list")

    def chunk(self, ask: Mapping[str, Any], data: bytes) -> None:
        """Answer an ask from the file."""
        part = data[ask["offset"] : ask["offset"] + ask["length"]]
        self.socket.send(frames.encode_chunk(ask["handle"], ask["offset"], part))

    def feed(self, data: bytes, uploadid: str = "one", state: str = "uploadcomplete") -> dict[str, Any]:
        """Answer every ask, and those that were heard before, until a state is told."""
        asks = [m for m in self.heard if m["type"] == "ask" and m["uploadid"] == uploadid]
        for ask in asks:
            self.heard.remove(ask)
            if ask["handle"] == asks[-1]["handle"]:
                self.chunk(ask, data)
        while True:
            message = self.next()
            if message["type"] == "ask" and message["uploadid"] == uploadid:
                self.chunk(message, data)
            else:
                self.heard.append(message)
                if message["type"] == "notice" and (message["uploadid"], message["state"]) == (uploadid, state):
                    return message
