"""Who may call from a browser: an exact list of origins, and the header fields that follow from it.

Off unless origins are listed. Sources: the Fetch standard (section "HTTP extensions"); tus and the IETF draft for the
fields that their clients send and read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import field, frozen

from ..errors import ConfigurationError
from .fields import Headers

__all__ = ["ALLOWED", "EXPOSED", "METHODS", "Cors"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Methods that a page may use."""

ALLOWED: Final = (
    "Authorization", "Content-Digest", "Content-Disposition", "Content-Type", "Last-Event-ID", "Repr-Digest",
    "Tus-Resumable", "Upload-Checksum", "Upload-Complete", "Upload-Concat", "Upload-Defer-Length",
    "Upload-Draft-Interop-Version", "Upload-Length", "Upload-Metadata", "Upload-Offset", "Want-Repr-Digest",
    "X-API-Key", "X-HTTP-Method-Override", "X-Request-ID", "X-Requested-With",
)  # fmt: skip
"""Request fields that a page may send."""

EXPOSED: Final = (
    "Accept-Patch", "Content-Digest", "Location", "Repr-Digest", "Retry-After", "Tus-Checksum-Algorithm",
    "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version", "Upload-Complete", "Upload-Concat",
    "Upload-Defer-Length", "Upload-Draft-Interop-Version", "Upload-Expires", "Upload-Length", "Upload-Limit",
    "Upload-Metadata", "Upload-Offset",
)  # fmt: skip
"""Answer fields that a page may read; without this list a browser hides them from tus clients."""


def _origins(value: Iterable[str]) -> frozenset[str]:
    origins = frozenset(value)
    for origin in origins:
        if "*" in origin or not origin.partition("://")[2] or origin.endswith("/"):
            raise ConfigurationError(f"An origin is scheme://host or scheme://host:port, exactly; not {origin!r}.")
    return origins


@frozen
class Cors:
    """Answers the questions that browsers ask on behalf of pages from elsewhere.

    Attributes:
        origins: As browsers write them: ``https://music.example`` or with a port. Empty: CORS is off.
        max_age: For how long a browser may remember an answer, in seconds.

    Raises:
        ConfigurationError: An origin is a pattern, has a path, or is no origin.
    """

    origins: frozenset[str] = field(converter=_origins, default=frozenset())
    max_age: int = 86_400

    def allows(self, origin: str | None) -> bool:
        """Whether pages of this origin may call; for a request without one the answer is no."""
        return origin is not None and origin in self.origins

    def is_preflight(self, method: str, headers: Headers) -> bool:
        """Whether a request only asks if another one would be allowed."""
        return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers

    def preflight(self, origin: str | None) -> tuple[tuple[str, str], ...]:
        """Fields of the answer to a preflight."""
        if not self.allows(origin):
            return self.headers(origin)
        return (
            *self.headers(origin),
            ("Access-Control-Allow-Methods", ", ".join(METHODS)),
            ("Access-Control-Allow-Headers", ", ".join(ALLOWED)),
            ("Access-Control-Max-Age", str(self.max_age)),
        )

    def headers(self, origin: str | None) -> tuple[tuple[str, str], ...]:
        """Fields that go on every answer, refusals too: a page must be able to read why."""
        if not self.origins:
            return ()
        if origin is None or not self.allows(origin):
            return (("Vary", "Origin"),)
        return (
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", ", ".join(EXPOSED)),
        )
