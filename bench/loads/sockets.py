"""WebSocket clients on bare sockets: both dialects of the server, the bare sink, and those who only listen."""

from __future__ import annotations

import base64
import json
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .wires import Failed, content, sha1_of

_NO_MASK = bytes(4)
"""A mask of zeros is one, and costs the client nothing; the server unmasks all the same."""


class WebSocket:
    """A connection to a path."""

    def __init__(self, port: int, path: str = "/ws") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self._buffer = bytearray()
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Failed(f"no WebSocket: {head[:80]!r}")
        self._buffer[:] = rest

    def close(self) -> None:
        self.socket.close()

    def _fill(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise Failed("the server closed the WebSocket")
        self._buffer += data

    def send(self, pieces: Sequence[bytes | memoryview], *, binary: bool) -> None:
        size, first = sum(len(piece) for piece in pieces), 0x82 if binary else 0x81
        if size < 126:
            head = struct.pack(">BB", first, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", first, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", first, 0x80 | 127, size)
        self.socket.sendall(b"".join((head, _NO_MASK, *pieces)) if size <= 65536 else head + _NO_MASK)
        for piece in pieces if size > 65536 else ():
            self.socket.sendall(piece)

    def say(self, **message: Any) -> None:
        self.send([json.dumps(message).encode()], binary=False)

    def waiting(self) -> Iterator[bytes]:
        """The messages that are here whole; pings are answered on the way."""
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            size, begin = buffer[at + 1] & 127, at + 2
            if size == 126:
                begin += 2
            elif size == 127:
                begin += 8
            if len(buffer) < begin:
                break
            if size > 125:
                size = int.from_bytes(buffer[at + 2 : begin])
            if len(buffer) < begin + size:
                break
            kind, payload, at = buffer[at] & 15, bytes(buffer[begin : begin + size]), begin + size
            if kind == 9:
                self.socket.sendall(struct.pack(">BB", 0x8A, 0x80 | size) + _NO_MASK + payload)
            elif kind == 8:
                raise Failed(f"the server ends the WebSocket: {payload!r}")
            elif kind < 3:
                yield payload
        del buffer[:at]

    def read(self) -> list[bytes]:
        """The next messages; at least one."""
        while not (found := list(self.waiting())):
            self._fill()
        return found

    def hear(self) -> list[bytes]:
        """What one look at the socket brings."""
        self._fill()
        return list(self.waiting())


def send_binary(port: int, start: int, size: int, *, window: int = 4) -> float:
    """A file in our own dialect; seconds to ``uploadcomplete``."""
    ws = WebSocket(port)
    ws.say(type="hello", version=1, window=window)
    name = f"bench-{start}-{size}"
    sha1 = sha1_of(start, size)
    began = time.perf_counter()
    ws.say(
        type="initiate", n=1, uploadid=name, filename="a.mp4", contenttype="video", filesize=size, sha1=sha1,
        mimetype="video/mp4",
    )  # fmt: skip
    while True:
        for raw in ws.read():
            if raw.startswith(b'{"type":"ask"'):
                ask = json.loads(raw)
                head = struct.pack(">BIQ", 0x11, ask["handle"], ask["offset"])
                ws.send([head, *content(start + ask["offset"], ask["length"])], binary=True)
            elif b'"state":"uploadcomplete"' in raw[:400] and name.encode() in raw[:400]:
                ws.close()
                return time.perf_counter() - began
            elif raw.startswith((b'{"type":"error"', b'{"type":"stop"')):
                raise Failed(repr(raw[:300]))


def send_musicdb(port: int, start: int, size: int) -> float:
    """A file in MusicDB's dialect, whose chunks are hexadecimal digits in JSON; seconds to ``uploadcomplete``.

    The digits are made before: it is the server that is measured.
    """
    ws = WebSocket(port)
    name, step = sha1_of(start, size), 409_600
    digits = [b"".join(content(start + at, min(step, size - at))).hex().encode() for at in range(0, size, step)]

    def call(function: str, **arguments: object) -> dict[str, object]:
        return {"method": "call", "fncname": function, "fncsig": None, "arguments": arguments, "pass": None}

    began = time.perf_counter()
    ws.say(
        **call(
            "InitiateUpload",
            uploadid=name,
            mimetype="video/mp4",
            contenttype="video",
            filesize=size,
            checksum=name,
            filename="a.mp4",
        )
    )
    before, _, after = json.dumps(call("UploadChunk", uploadid=name, chunkdata="#")).encode().partition(b"#")
    sent = -1
    while True:
        for raw in ws.read():
            if b'"MusicDB:Upload"' not in raw[:80] or name.encode() not in raw:
                continue
            message = json.loads(raw)
            told = message["arguments"]
            if told["uploadid"] != name:
                continue
            if message["fncsig"] == "ChunkRequest" and told["offset"] > sent:
                sent = told["offset"]
                ws.send([before, digits[sent // step], after], binary=False)
            elif told["state"] == "uploadcomplete":
                ws.close()
                return time.perf_counter() - began
            elif told["state"] == "uploadfailed":
                raise Failed(repr(raw[:300]))


def send_sink(port: int, start: int, size: int, *, window: int = 4, chunk: int = 1 << 20) -> float:
    """A file into the bare sink, with as many chunks on their way; seconds."""
    ws = WebSocket(port)
    began, answered, at = time.perf_counter(), 0, 0
    chunks = -(-size // chunk)
    for _ in range(min(window, chunks)):
        ws.send(content(start + at, min(chunk, size - at)), binary=True)
        at += chunk
    while answered < chunks:
        for _ in ws.read():
            answered += 1
            if at < size:
                ws.send(content(start + at, min(chunk, size - at)), binary=True)
                at += chunk
    ws.close()
    return time.perf_counter() - began


def listen(connections: list[WebSocket], names: set[bytes], state: bytes, seconds: float) -> dict[bytes, list[float]]:
    """When each of many connections hears that an upload is in a state.

    Args:
        connections: They have said hello.
        names: Of the uploads; it is over when everybody has heard of all of them.
        state: Which.
        seconds: The longest that it may take.

    Returns:
        For each upload, when it was heard, by `time.perf_counter`, once a connection.
    """
    heard: dict[bytes, list[float]] = {name: [] for name in names}
    told = b'"state":"' + state + b'"'
    poll = select.epoll()
    by_number = {ws.socket.fileno(): ws for ws in connections}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    missing, deadline = len(names) * len(connections), time.perf_counter() + seconds
    while missing:
        if time.perf_counter() > deadline:
            raise Failed(f"{missing} of {len(names) * len(connections)} messages did not come")
        for number, _ in poll.poll(1):
            messages = by_number[number].hear()
            now = time.perf_counter()
            for raw in messages:
                head = raw[:300]
                if told in head:
                    name = head.partition(b'"uploadid":"')[2].partition(b'"')[0]
                    if name in heard:
                        heard[name].append(now)
                        missing -= 1
    return heard


def listeners(port: int, count: int) -> list[WebSocket]:
    """Those who have said hello in our own dialect, and hear everything from now on."""
    found = []
    for _ in range(count):
        ws = WebSocket(port)
        ws.say(type="hello", version=1, window=1)
        while not any(b'"welcome"' in raw[:60] for raw in ws.read()):
            pass
        found.append(ws)
    return found
