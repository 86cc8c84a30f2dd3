"""The page at ``/``: plain files that are read once, and nothing that runs but our own script.

No build step, no code of others. The policy forbids everything that is not a file of ours; what comes from uploads goes
into the page as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Final
from urllib.parse import quote

from attrs import frozen

from ...protocols.fields import Answer
from ...protocols.problems import WireError
from ..core import Core
from ..http import Request, Send, respond

__all__ = ["POLICY", "Page"]

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # With a key, pictures are fetched and shown as blobs.
        "img-src 'self' blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        # It makes the address of the worker that hashes files, and nothing else.
        "trusted-types stagedoor-worker",
    )
)
"""The Content-Security-Policy of the page: no ``unsafe-*``, and no way to make markup of a string."""

_TYPES: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@frozen
class _File:
    body: bytes
    fields: tuple[tuple[str, str], ...]
    etag: str


def _read(name: str) -> _File:
    body = files(__name__).joinpath("static", name).read_bytes()
    etag = f'"{sha256(body).hexdigest()[:32]}"'
    fields = (
        ("Content-Type", _TYPES[name.rpartition(".")[2]]),
        ("Content-Security-Policy", POLICY),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
        # Asked anew each time, and answered with 304: after an update nobody has half of the old page.
        ("Cache-Control", "no-cache"),
        ("ETag", etag),
    )
    return _File(body, fields, etag)


class Page:
    """Answers requests for the page and its files.

    Args:
        core: The server's.
    """

    def __init__(self, core: Core) -> None:
        static = files(__name__).joinpath("static")
        names = sorted(entry.name for entry in static.iterdir() if entry.name.rpartition(".")[2] in _TYPES)
        self._files = {f"/{name}": _read(name) for name in names}
        self._files["/"] = self._files.pop("/index.html")

    async def __call__(self, request: Request, send: Send) -> None:
        """Answer a request.

        Raises:
            WireError: ``no_such_page`` (404), ``method_not_allowed`` (405).
        """
        file = self._files.get(request.path)
        if file is None:
            request.route = "(unknown)"
            raise WireError("There is no such page. The page is at /.", status=404, code="no_such_page")
        request.route = request.path
        allow = (("Allow", "GET, HEAD, OPTIONS"),)
        if request.method == "OPTIONS":
            await respond(send, Answer(204, allow))
        elif request.method not in ("GET", "HEAD"):
            raise WireError("A page can only be read.", status=405, code="method_not_allowed", headers=allow)
        elif request.mount and request.scope["path"] == request.mount:
            # Without the slash at the end the page's files would be looked for beside the mount.
            await respond(send, Answer(307, (("Location", quote(f"{request.mount}/")), ("Cache-Control", "no-cache"))))
        elif _has(request, file.etag):
            await respond(send, Answer(304, file.fields))
        elif request.method == "HEAD":
            await respond(send, Answer(200, (*file.fields, ("Content-Length", str(len(file.body))))))
        else:
            await respond(send, Answer(200, file.fields, file.body))


def _has(request: Request, etag: str) -> bool:
    said = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in said or said == ["*"]
