"""Clients on bare sockets, so that the other end is what is measured: HTTP/1.1 with tus, copyparty's wire, and PUT."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import ClassVar, Protocol

_PERIOD = (8 << 20) + 4093  # a prime beyond a power of two: no two chunks of a load are alike


@cache
def _noise() -> memoryview:
    return memoryview(random.Random(1).randbytes(_PERIOD))


def content(start: int, size: int) -> list[memoryview]:
    """Bytes of an endless file, as the pieces of a buffer."""
    pieces, noise = [], _noise()
    while size:
        at = start % _PERIOD
        piece = noise[at : at + min(size, _PERIOD - at)]
        pieces.append(piece)
        start, size = start + len(piece), size - len(piece)
    return pieces


def sha1_of(start: int, size: int) -> str:
    sha1 = hashlib.sha1(usedforsecurity=False)
    for piece in content(start, size):
        sha1.update(piece)
    return sha1.hexdigest()


class Failed(RuntimeError):
    """The server did not do what a client may expect."""


class Http:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Sequence[memoryview | bytes] = ()
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, and content."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), 120)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if method not in ("GET", "HEAD", "OPTIONS"):
            lines.append(f"Content-Length: {sum(len(piece) for piece in body)}")
        head = "\r\n".join([*lines, "", ""]).encode()
        if body and len(body[0]) <= 65536:
            self._socket.sendall(b"".join((head, *body)))
        else:
            self._socket.sendall(head)
            for piece in body:
                self._socket.sendall(piece)
        while True:
            answer = self._answer(method)
            if answer[0] >= 200:
                return answer

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(1 << 18)
        if not data:
            self.close()
            raise Failed("the server closed the connection before it had answered")
        return data

    def _answer(self, method: str) -> tuple[int, dict[str, str], bytes]:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += self._more()
        head, _, rest = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split(" ", 2)[1])
        if method == "HEAD" or status in (204, 304) or status < 200:
            return status, headers, b""
        if "chunked" in headers.get("transfer-encoding", ""):
            while not rest.endswith(b"0\r\n\r\n"):
                rest += self._more()
            body = b""
            while rest:
                size, _, rest = rest.partition(b"\r\n")
                body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
            return status, headers, body
        while len(rest) < int(headers.get("content-length", "0")):
            rest += self._more()
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, rest


class Sender(Protocol):
    """Sends files of `content` over a connection.

    Attributes:
        times: Seconds of each request, by its name.
    """

    times: dict[str, list[float]]

    def send(self, start: int, size: int, chunk: int) -> None:
        """Send a file in chunks."""


class _Timed:
    def __init__(self, port: int, path: str) -> None:
        self.http, self.path = Http(port), path
        self.times: dict[str, list[float]] = {}

    def _ask(
        self,
        what: str,
        fine: tuple[int, ...],
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Sequence[memoryview | bytes] = (),
    ) -> tuple[dict[str, str], bytes]:
        began = time.perf_counter()
        status, got, text = self.http.ask(method, path, headers, body)
        self.times.setdefault(what, []).append(time.perf_counter() - began)
        if status not in fine:
            raise Failed(f"{what}: {status} {text[:200]!r}")
        return got, text


_TUS = {"Tus-Resumable": "1.0.0"}
_PATCH = {**_TUS, "Content-Type": "application/offset+octet-stream"}


class Tus(_Timed):
    """tus 1.0.0."""

    metadata = "filename " + base64.b64encode(b"bench.bin").decode()

    def create(self, size: int, body: Sequence[memoryview] = ()) -> str:
        """Make an upload, with all of its bytes if they are given; returns its path."""
        headers = {**(_PATCH if body else _TUS), "Upload-Length": str(size), "Upload-Metadata": self.metadata}
        got, _ = self._ask("create", (201,), "POST", self.path, headers, body)
        if body and got.get("upload-offset") != str(size):
            raise Failed(f"the offset is {got.get('upload-offset')}, not {size}")
        where = got["location"]
        if where.startswith("http"):
            return "/" + where.split("/", 3)[3]
        return where if where.startswith("/") else self.path.rpartition("/")[0] + "/" + where

    def patch(self, path: str, start: int, offset: int, size: int) -> None:
        headers = {**_PATCH, "Upload-Offset": str(offset)}
        got, _ = self._ask("chunk", (200, 204), "PATCH", path, headers, content(start + offset, size))
        if got.get("upload-offset") != str(offset + size):
            raise Failed(f"the offset is {got.get('upload-offset')}, not {offset + size}")

    def head(self, path: str) -> None:
        self._ask("head", (200, 204), "HEAD", path, _TUS)

    def send(self, start: int, size: int, chunk: int) -> None:
        path = self.create(size)
        for offset in range(0, size, chunk):
            self.patch(path, start, offset, min(chunk, size - offset))


class TusAtOnce(Tus):
    """tus, with the bytes in the request that makes the upload."""

    def send(self, start: int, size: int, chunk: int) -> None:
        self.create(size, content(start, size))


class Put(_Timed):
    """One PUT a file: no resuming."""

    def send(self, start: int, size: int, chunk: int) -> None:
        body = content(start, size)
        self._ask("put", (200, 201, 204), "PUT", f"{self.path.rstrip('/')}/{start}-{size}.bin", {}, body)


class Up2k(_Timed):
    """copyparty's own: a handshake with the hash of each block, then the blocks that it wants.

    A client hashes before it sends; that is no part of what is measured, so `prepare` does it.
    """

    _known: ClassVar[dict[tuple[int, int], list[tuple[str, int, int]]]] = {}

    @classmethod
    def prepare(cls, start: int, size: int) -> None:
        block, step, twice = 1 << 20, 512 << 10, False
        while -(-size // block) > 256 and not (block >= 32 << 20 and -(-size // block) <= 4096):
            block += step
            step, twice = step * (1 + twice), not twice
        found = []
        for offset in range(0, size, block):
            length = min(block, size - offset)
            sha512 = hashlib.sha512()
            for piece in content(start + offset, length):
                sha512.update(piece)
            found.append((base64.urlsafe_b64encode(sha512.digest()[:33]).decode(), offset, length))
        cls._known[start, size] = found

    def send(self, start: int, size: int, chunk: int) -> None:
        blocks = self._known[start, size]
        told = {"name": f"{start}-{size}.bin", "size": size, "lmod": 1, "hash": [name for name, _, _ in blocks]}
        _, text = self._ask(
            "create", (200,), "POST", self.path, {"Content-Type": "text/plain"}, [json.dumps(told).encode()]
        )
        answer = json.loads(text)
        wanted = [block for block in blocks if block[0] in set(answer["hash"])]
        at_once = max(1, chunk // max(length for _, _, length in blocks))
        for first in range(0, len(wanted), at_once):
            some = wanted[first : first + at_once]
            headers = {
                "X-Up2k-Hash": ",".join(name for name, _, _ in some),
                "X-Up2k-Wark": answer["wark"],
                "Content-Type": "application/octet-stream",
            }
            body = [piece for _, offset, length in some for piece in content(start + offset, length)]
            self._ask("chunk", (200,), "POST", answer["purl"], headers, body)
