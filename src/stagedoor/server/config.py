"""What a server is told: one name for each thing, for flags, environment and file alike."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from ..adapters.local import Durability
from ..errors import ConfigurationError

__all__ = ["ServerConfig"]

_MIB = 1 << 20


@frozen(kw_only=True)
class ServerConfig:
    """The server's own settings; the engine's are `stagedoor.settings.Settings`. Sizes in bytes, times in seconds.

    Attributes:
        host: Where to listen. Beyond the loopback interface a key is required.
        port: Where to listen; 0 picks a free one.
        data: The uploads directory, with the catalogue.
        music: The music directory.
        artwork: The artwork directory; ``artwork`` beside ``data`` when not given.
        naming: How files are named in the library, see `stagedoor.content.naming.SCHEMES`.
        durability: What an acknowledgement survives: ``power``, ``process`` or ``none``.
        workers: Threads of the management.
        keys: API keys; whoever sends one may do everything. Without any, everybody may.
        origins: Origins of other sites' pages that may talk to this server, exactly as browsers send them, such as
            ``https://music.example``. Pages of this server always may.
        hosts: Names in the ``Host`` header that are served; empty serves all. On loopback without a key it defaults
            to the names of the loopback interface, against DNS rebinding.
        forwarded: Addresses of proxies whose ``Forwarded`` headers are believed, or ``*``.
        connections: The most connections at a time.
        connections_each: The most of one address (of IPv6: of one /64). Connections from this machine, and of proxies
            in ``forwarded``, are not counted: they stand for many clients.
        keep_alive: A connection without a request is closed after so long.
        header_time: The header of a request must have come whole so soon.
        header_size: Bytes that it may have.
        body_idle: A request's body may pause so long; a small one, such as JSON, must have come whole so soon.
        body_rate: Bytes a second that a body must have brought on average once it is older than ``body_idle``.
        progress: A body puts what it brought on record whenever so many bytes have come.
        drain: How long a stop waits for requests under way; what they had sent is kept in any case.
        heartbeat: Listeners hear something at least so often.
        backlog: Messages that may wait for one listener, progress not counted.
        inbox: Bytes that WebSocket messages may take of all connections together, while they come, wait and are worked
            on, with the room that is kept for what is missing; beyond it the connection with the most is closed.
        window: Chunks that a client of the binary dialect may be asked for ahead.
        ask: Bytes of a chunk that a client of the binary dialect is asked for.
        log: ``text`` or ``json``.
    """

    host: str = "127.0.0.1"
    port: int = 8337
    data: Path = Path("uploads")
    music: Path = Path("Music")
    artwork: Path | None = None
    naming: str = "musicdb"
    durability: Durability = "power"
    workers: int = 2
    keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    forwarded: tuple[str, ...] = ()
    connections: int = 1_000
    connections_each: int = 250
    keep_alive: float = 30.0
    header_time: float = 15.0
    header_size: int = 64 << 10
    body_idle: float = 60.0
    body_rate: int = 0
    progress: int = 4 * _MIB
    drain: float = 10.0
    heartbeat: float = 2.0
    backlog: int = 1_000
    inbox: int = 256 * _MIB
    window: int = 4
    ask: int = _MIB
    log: Literal["text", "json"] = "text"

    def __attrs_post_init__(self) -> None:
        for name in (
            "workers", "connections", "connections_each", "header_size",
            "progress", "backlog", "inbox", "window", "ask",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigurationError(f"The setting {name} must be at least 1, not {getattr(self, name)}.")
        for name in ("keep_alive", "header_time", "body_idle", "heartbeat"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"The setting {name} must be above 0, not {getattr(self, name)}.")
        for name in ("body_rate", "drain"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"The setting {name} must not be negative.")
        if not 0 <= self.port < 65_536:
            raise ConfigurationError(f"There is no port {self.port}.")
        for key in self.keys:
            if len(key) < 8 or not key.isprintable() or not key.isascii():
                raise ConfigurationError("An API key needs at least 8 printable ASCII characters.")
        for origin in self.origins:
            if origin == "*" or "://" not in origin or origin.endswith("/"):
                raise ConfigurationError(
                    f"{origin[:80]!r} is no origin. Give it as browsers send it, as in https://music.example."
                )
        if not self.loopback and not self.keys:
            raise ConfigurationError(
                f"Without an API key this server listens on the loopback interface only, not on {self.host}. Set a key "
                "(STAGEDOOR_KEYS or --keys-file), or leave --host out.",
                code="key_required",
            )

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
