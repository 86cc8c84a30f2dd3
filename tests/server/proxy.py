"""A bad line: a proxy on the loopback interface that cuts connections when so many bytes have gone through."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["Line", "line_to"]

_RESET: Final = struct.pack("ii", 1, 0)
_PATIENCE: Final = 60.0
"""Seconds after which a client is cut although the server has not ended."""


class Line:
    """Forwards bytes as they come.

    Args:
        port: Of the server.
        cuts: After so many bytes of the clients, all connections together, the one that brought the last of them is
            cut: the server hears the end after what went through; when it has ended too, the client hears a reset.
            Then the next number counts, from zero. Without more, nothing is cut.

    Attributes:
        port: Of the proxy.
        cuts: Those that are left.
        sent: Bytes of the clients that went through.
    """

    def __init__(self, port: int, cuts: Sequence[int] = ()) -> None:
        self.cuts = list(cuts)
        self.sent = 0
        self._since = 0
        self._server = ("127.0.0.1", port)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Cut everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in tuple(self._open):
            _reset(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self._open |= {client, server}
            cut = threading.Event()
            back = threading.Thread(target=self._answer, args=(server, client, cut), daemon=True)
            back.start()
            threading.Thread(target=self._forward, args=(client, server, cut, back), daemon=True).start()

    def _forward(
        self, client: socket.socket, server: socket.socket, cut: threading.Event, back: threading.Thread
    ) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                allowed, last = self._allow(len(data))
                server.sendall(data[:allowed])
                if last:
                    cut.set()
                    server.shutdown(socket.SHUT_WR)
                    back.join(_PATIENCE)  # else the client is back before the server has read what went through
                    _reset(client)
                    return
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                client.sendall(data)
            if not cut.is_set():
                client.shutdown(socket.SHUT_WR)

    def _allow(self, size: int) -> tuple[int, bool]:
        with self._lock:
            cut = bool(self.cuts) and self._since + size >= self.cuts[0]
            if cut:
                size = self.cuts.pop(0) - self._since
            self._since = 0 if cut else self._since + size
            self.sent += size
            return size, cut


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def line_to(port: int, *cuts: int) -> Iterator[Line]:
    """A line for the length of a ``with`` block."""
    line = Line(port, cuts)
    try:
        yield line
    finally:
        line.close()
