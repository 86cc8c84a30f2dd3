"""Pictures of the artwork directory, for whoever shows covers.

Only regular files below the directory whose first bytes are those of a picture; no link is followed, and nothing hidden
is shown. A picture that is opened by itself can do nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from attrs import frozen

from ...adapters.local import LocalTree
from ...engine import Uploads
from ...errors import DataLost, StorageError
from ...protocols.fields import Answer
from ...protocols.problems import WireError
from ...session import PLANNING_STATES
from ...tasks import UploadTask
from ..core import Core
from ..http import Request, Send
from .conditions import is_fresh

__all__ = ["Picture", "answer_picture", "find_thumbnail", "open_picture", "read_cover", "send_picture"]

_PIECE: Final = 256 << 10
_LARGEST: Final = 8 << 20
"""Bytes of a cover that is shown as it was sent."""
_TYPES: Final = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


@frozen
class Picture:
    """An open picture.

    Attributes:
        fd: Its descriptor, which whoever opened it closes.
        size: In bytes.
        type: Its media type.
        etag: Changes with the file.
    """

    fd: int
    size: int
    type: str
    etag: str


def open_picture(root: str, path: str) -> Picture:
    """Open a picture below a directory.

    Args:
        root: The directory; it may be a link itself.
        path: Relative, components separated by ``/``.

    Raises:
        WireError: ``no_picture`` (404), whatever the reason: what else there is on the disk is nobody's business.
    """
    parts = path.split("/")
    kind = _TYPES.get(parts[-1].rpartition(".")[2].lower())
    if kind is None or "\0" in path or any(not part or part.startswith(".") for part in parts):
        raise _nothing()
    try:
        with _directory(root, parts[:-1]) as at:
            fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    except (OSError, UnicodeEncodeError):
        raise _nothing() from None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or _sniffed(os.pread(fd, 12, 0)) != kind:
            raise _nothing()
    except BaseException:
        os.close(fd)
        raise
    return Picture(fd, info.st_size, kind, f'"{info.st_ino:x}-{info.st_mtime_ns:x}-{info.st_size:x}"')


@contextmanager
def _directory(root: str, parts: list[str]) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    at = os.open(root, flags)
    try:
        for part in parts:
            inner = os.open(part, flags | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        yield at
    finally:
        os.close(at)


def _sniffed(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return None


def _nothing() -> WireError:
    return WireError("There is no such picture.", status=404, code="no_picture")


def artwork_root(uploads: Uploads) -> str:
    """Where the artwork is.

    Raises:
        WireError: ``no_picture``: not in a directory of this machine.
    """
    tree = uploads.ports.trees.get("artwork")
    if not isinstance(tree, LocalTree):
        raise _nothing()
    return tree.root


async def send_picture(core: Core, path: str, request: Request, send: Send) -> Answer | None:
    """Answer with a picture of the artwork directory, piece by piece.

    Raises:
        WireError: ``no_picture``.
    """
    picture = await core.read(open_picture, artwork_root(core.uploads), path)
    try:
        fields = _fields(picture.type, picture.etag)
        if is_fresh(request, picture.etag):
            return Answer(304, fields)
        fields = (*fields, ("Content-Length", str(picture.size)))
        if request.method == "HEAD":
            return Answer(200, fields)
        headers = [(name.lower().encode(), value.encode()) for name, value in fields]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        at = 0
        while at < picture.size:
            piece = await core.read(os.pread, picture.fd, min(_PIECE, picture.size - at), at)
            if not piece:
                break  # it was cut meanwhile: the server closes the connection, and the client notices
            at += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": at < picture.size})
        if not picture.size:
            await send({"type": "http.response.body", "body": b""})
        return None
    finally:
        os.close(picture.fd)


def _fields(kind: str, etag: str) -> tuple[tuple[str, str], ...]:
    return (
        ("Content-Type", kind),
        ("ETag", etag),
        ("Cache-Control", "private, no-cache"),
        ("Content-Security-Policy", "default-src 'none'; sandbox"),
        ("Content-Disposition", "inline"),
    )


def read_cover(uploads: Uploads, task: UploadTask) -> bytes | None:
    """A cover as it was sent, once pre-processing has decoded the whole of it; ``None`` for anything else."""
    fine = task.state in PLANNING_STATES and task.contenttype == "artwork" and "kind" in task.content
    if not fine or not 0 < (task.filesize or 0) <= _LARGEST:
        return None
    try:
        with uploads.ports.bytes.open(task.key) as file:
            data = file.read(_LARGEST)
    except (DataLost, StorageError):  # it is being removed, or the disk is bad: others tell of that
        return None
    return data if _sniffed(data[:12]) else None


def answer_picture(data: bytes, etag: str, request: Request) -> Answer:
    """Answer with a picture that is in memory."""
    fields = _fields(_sniffed(data[:12]) or "application/octet-stream", etag)
    return Answer(304, fields) if is_fresh(request, etag) else Answer(200, fields, data)


def find_thumbnail(uploads: Uploads, task: UploadTask) -> str | None:
    """The path of a small picture of what an upload brought, in the artwork directory; ``None`` when there is none."""
    pictures = [
        file
        for file in task.placed
        if file.root == "artwork" and file.path.rpartition(".")[2].lower() in _TYPES and file.size
    ]
    entry = getattr(uploads.ports.library, "entry", None)
    record = entry(task.uid) if callable(entry) and pictures else None
    illustration = getattr(record, "illustration", None)
    if illustration is not None:
        wanted = "/".join(filter(None, (illustration.directory, illustration.thumbnail)))
        if any(file.path == wanted for file in pictures):
            return wanted
    return min(pictures, key=lambda file: (file.size, file.path)).path if pictures else None
