"""Conditional requests (RFC 9110, section 13), as far as reading needs them."""

from __future__ import annotations

from ..http import Request

__all__ = ["is_fresh"]


def is_fresh(request: Request, etag: str) -> bool:
    """Whether the client has what has this ETag already."""
    known = request.headers.get("if-none-match")
    if known is None or request.method not in ("GET", "HEAD"):
        return False
    return known.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(","))
