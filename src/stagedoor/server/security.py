"""Who may do what: keys, origins and hosts. Asked before the first byte of a body is read."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from attrs import frozen

from ..errors import Refused
from ..protocols.cors import Cors
from ..protocols.messages import key_matches
from .config import ServerConfig

__all__ = ["Gate"]

_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS = frozenset({"same-origin", "none"})


@frozen
class Gate:
    """What stands before every request.

    Attributes:
        config: The server's.
        cors: For the origins that are allowed.
    """

    config: ServerConfig
    cors: Cors

    @classmethod
    def of(cls, config: ServerConfig) -> Gate:
        """From the server's settings."""
        return cls(config, Cors(config.origins))

    def check(self, headers: Mapping[str, str], *, secure: bool, method: str = "GET") -> None:
        """Refuse foreign hosts and foreign pages.

        A browser that sends no ``Origin`` still says where a request comes from (``Sec-Fetch-Site``, Fetch Metadata):
        what may change something is then taken from our own pages, and from the user's own hand, only.

        Raises:
            Refused: ``forbidden``.
        """
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Refused(f"This server is not called {host[:100]!r}. Use its own name.", code="forbidden")
        origin = headers.get("origin")
        if origin is not None and not self._may(origin, host, secure=secure):
            raise Refused(
                f"Pages of {origin[:100]} may not use this server. Its owner can allow them (origins).",
                code="forbidden",
            )
        if origin is None and method not in _SAFE and headers.get("sec-fetch-site", "none") not in _OURS:
            raise Refused("Pages of other sites may not change anything on this server.", code="forbidden")

    def authorize(self, headers: Mapping[str, str]) -> None:
        """Refuse whoever has no key, when keys are set.

        A key is sent as ``Authorization: Bearer KEY`` or ``X-Api-Key: KEY``; never in the address.

        Raises:
            Refused: ``unauthorized``.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not self.knows(given):
            raise Refused("This server wants an API key: send it as “Authorization: Bearer KEY”.", code="unauthorized")

    def knows(self, key: str | None) -> bool:
        """Whether a key is one of ours; always, when there are none. Takes the same time for every wrong one."""
        matches = [key_matches(ours, key) for ours in self.config.keys]
        return any(matches) or not matches

    def _may(self, origin: str, host: str, *, secure: bool) -> bool:
        own = f"{'https' if secure else 'http'}://{host}"
        return origin == own or self.cors.allows(origin)

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
        if self.config.hosts:
            return name.lower() in self.config.hosts
        # A page of a stranger can make its own name point here, and is then no stranger to a browser. The usual names
        # come first: to read an address takes longer than all the rest.
        ours = self.config.keys or name.lower() in _LOCAL
        return bool(ours) or not self.config.loopback or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
