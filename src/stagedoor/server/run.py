"""The program that serves: uvicorn with httptools and uvloop, limits that it has not, and a stop that loses nothing.

What limits what, from the outside to the inside:

* Connections: uvicorn answers 503 beyond `ServerConfig.connections`; a few more, and they are cut without an answer.
  Those of one address: `connections` (`ServerConfig.connections_each`).
* A header that does not come, or does not end: `connections` (`ServerConfig.header_time`, `ServerConfig.header_size`),
  for uvicorn has no limit for either with httptools. The same for trailers and for extensions of chunks.
* A body that nobody reads any more, since the request is answered: `connections`.
* A body that comes too slowly: `Core` (`ServerConfig.body_idle`, `ServerConfig.body_rate`), small ones `Body`.
* A body that is too large: the engine, from the upload's declared size; small bodies have limits of their own.
* A connection without a request: uvicorn (`ServerConfig.keep_alive`).
* A WebSocket message: uvicorn (`largest_message`); `connections` before a key was shown, and all messages together
  (`ServerConfig.inbox`).
* A client that takes nothing any more, not even what TCP asks: the kernel.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import uvicorn

from ..adapters.local import LocalTree
from ..errors import ConfigurationError
from ..settings import Settings
from . import create_app, whereabouts
from .app import Application
from .config import ServerConfig
from .connections import STRANGER, Crowd, Inbox, http_protocol, websocket_protocol
from .websocket import largest_message

__all__ = ["Service", "serve"]

log = logging.getLogger("stagedoor.server")

_MIB: Final = 1 << 20
_UNTAKEN: Final = 60.0
"""Seconds after which the kernel ends a connection whose other end takes nothing of what is sent."""
_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


def serve(config: ServerConfig, settings: Settings | None = None, *, ready: Callable[[str], None] | None = None) -> int:
    """Serve until a signal says stop (SIGINT, SIGTERM); a second one ends the process at once.

    Args:
        config: The server's settings.
        settings: The engine's limits.
        ready: Called with the address as soon as it is served.

    Returns:
        0.

    Raises:
        InUse: Another process owns the directory.
        ConfigurationError: It cannot work like this: ``address``, ``in_use`` and others.
    """
    return Service(config, settings).run(ready)


class Service:
    """A server, from start to stop.

    Args:
        config: The server's settings.
        settings: The engine's limits.
    """

    def __init__(self, config: ServerConfig, settings: Settings | None = None) -> None:
        self._config = config
        self._settings = settings or Settings()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._app: Application | None = None
        self._stopping = False

    def run(self, ready: Callable[[str], None] | None = None) -> int:
        """See `serve`. In a thread that is not the main one, signals are somebody else's affair: use `stop`."""
        _tune_memory()
        sockets = _listening(self._config)
        try:
            self._app = create_app(config=self._config, settings=self._settings)
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve(self._app, sockets, ready))
        finally:
            for one in sockets:
                one.close()
        return 0

    def stop(self) -> None:
        """Begin to stop; from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has stopped
                self._loop.call_soon_threadsafe(self._drain)

    async def _serve(self, app: Application, sockets: list[socket.socket], ready: Callable[[str], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        config, data = self._config, self._config.data
        address = _address(config, sockets[0].getsockname()[1])

        def started() -> None:
            trees = app.core.uploads.ports.trees.items()
            roots = {name: tree.root for name, tree in trees if isinstance(tree, LocalTree)}
            whereabouts.note(data, address, roots, config.naming)
            log.info("serving %s, uploads in %s", address, os.path.abspath(data))
            if ready is not None:
                ready(address)

        self._server = _Server(_settings_of_uvicorn(app, config, self._settings), started)
        with self._signals():
            try:
                await app.core.start()
                _spare_what_stays()
                await self._server.serve(sockets=sockets)
            finally:
                gc.unfreeze()
                whereabouts.forget(data)
                await app.core.stop()
                log.info("stopped")

    def _drain(self) -> None:
        if self._stopping or self._app is None or self._server is None:
            return
        self._stopping = True
        log.info("stopping: requests under way keep what they brought")
        self._app.core.drain()
        self._server.should_exit = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        assert self._loop is not None
        for number in _STOPS:
            self._loop.add_signal_handler(number, self._signal, number)
        try:
            yield
        finally:
            for number in _STOPS:
                self._loop.remove_signal_handler(number)

    def _signal(self, number: int) -> None:
        if self._stopping:
            log.warning("ended at once by a second signal; the next start goes on with what was under way")
            logging.shutdown()
            os._exit(128 + number)  # whatever is in memory only was never acknowledged
        self._drain()


class _Server(uvicorn.Server):
    """uvicorn's server, which would catch signals itself, and end by raising them again."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()


def _settings_of_uvicorn(app: Application, config: ServerConfig, settings: Settings) -> uvicorn.Config:
    largest = largest_message(settings)
    crowd = Crowd(config.connections_each, config.forwarded)
    return uvicorn.Config(
        app,
        http=http_protocol(config, crowd),
        ws=websocket_protocol(  # type: ignore[arg-type]  # it asks for no more than uvicorn calls
            config,
            crowd,
            Inbox(max(config.inbox, 2 * largest)),  # one must always have room
            # A first packet may declare an upload with its annotations; escapes make them six times as long.
            stranger=6 * settings.max_annotations + STRANGER,
        ),
        ws_max_size=largest,
        ws_per_message_deflate=False,  # media do not compress, and a small message must not become a large one
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(config.forwarded),
        forwarded_allow_ips=",".join(config.forwarded) or None,
        limit_concurrency=config.connections + 1,  # uvicorn refuses the one that makes the number full
        timeout_keep_alive=config.keep_alive,  # type: ignore[arg-type]  # a number for call_later
        timeout_graceful_shutdown=config.drain,  # type: ignore[arg-type]  # a number for wait_for
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


# ── addresses ─────────────────────────────────────────────────────────────────────────────────────────────────


def _listening(config: ServerConfig) -> list[socket.socket]:
    """A socket for each address that the host stands for, bound before anything else is begun.

    Raises:
        ConfigurationError: ``address``.
    """
    port, sockets = config.port, list[socket.socket]()
    why = ""
    try:
        found = socket.getaddrinfo(
            config.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
    except OSError as error:
        raise ConfigurationError(f"There is no host {config.host!r} here: {error.strerror}.", code="address") from None
    for family, kind, protocol, _, where in dict.fromkeys(found):
        one = socket.socket(family, kind, protocol)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; each connection has it from here
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * _UNTAKEN))
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((where[0], port, *where[2:]))
            port = port or one.getsockname()[1]  # all of a host's addresses have one port
        except OSError as error:
            one.close()
            why = os.strerror(error.errno or 0)
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # a name may stand for an address that this machine has not
            break
        sockets.append(one)
    else:
        if sockets:
            return sockets
    for one in sockets:
        one.close()
    remedy = " Choose another with --port; 0 picks a free one." if why == os.strerror(errno.EADDRINUSE) else ""
    raise ConfigurationError(f"Cannot listen on {config.host}, port {port}: {why}.{remedy}", code="address")


def _address(config: ServerConfig, port: int) -> str:
    """Where a person on this machine finds the server."""
    host = config.host
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host or 'localhost'}:{port}/"
    if ip.is_unspecified:
        host = "127.0.0.1" if ip.version == 4 else "::1"
    return f"http://[{host}]:{port}/" if ip.version == 6 else f"http://{host}:{port}/"


# ── memory ────────────────────────────────────────────────────────────────────────────────────────────────────

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc


def _tune_memory() -> None:
    """Keep receive buffers in the heap: glibc may else map each anew, or give the heap's top back after each.

    Whether it does depends on what else is in the heap. A bare uvicorn that stores bodies took a third less CPU time
    with this; in this server, 512 MiB in 4 MiB requests, neither page faults nor CPU time differed measurably.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(_M_MMAP_THRESHOLD, 64 * _MIB)
    mallopt(_M_TRIM_THRESHOLD, 256 * _MIB)
    mallopt(_M_TOP_PAD, 16 * _MIB)


def _spare_what_stays() -> None:
    """Take what is there after the start out of what the garbage collector looks at: it stays until the stop.

    Modules and the index of the stored uploads are 100,000 objects and more, and each look at all of them held up
    everybody for 20 to 70 ms, in the midst of a burst.
    """
    gc.collect()
    gc.freeze()
