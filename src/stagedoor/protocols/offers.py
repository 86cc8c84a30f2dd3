"""What the HTTP wires have to make up, because their clients do not say it: an id, and a kind of content.

Neither tus nor the IETF draft knows MusicDB's content types. What a client says of the file's type and name is a
hint; looking at the bytes decides, after the upload.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ..tasks import extension_of, new_uid

__all__ = ["contenttype_of", "guess_contenttype", "new_id"]

_EXTENSIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("m4v", "mp4", "mov", "webm", "mkv"), "video"),
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif", "png", "webp"), "artwork"),
    **dict.fromkeys(("zip", "tar", "tgz", "tbz", "tbz2", "txz", "gz", "xz", "bz2"), "album"),
    **dict.fromkeys(("mp3", "m4a", "m4b", "aac", "flac", "ogg", "oga", "opus"), "album"),
    **dict.fromkeys(("wav", "wave", "aiff", "aif", "aifc"), "album"),
}
_TYPES: Final[Mapping[str, str]] = {"video": "video", "image": "artwork", "audio": "album"}
_ARCHIVE = re.compile(
    r"application/(?:zip|x-zip-compressed|x-tar|gzip|x-gzip|x-gtar|x-compressed-tar|x-bzip2?|x-xz|ogg)"
)


def new_id() -> str:
    """A random upload id that nobody can guess: 128 bits as 32 hexadecimal digits."""
    return new_uid()


def contenttype_of(filename: str) -> str | None:
    """The content type that a file name suggests; ``None`` when it suggests none."""
    return _EXTENSIONS.get(extension_of(filename) or "")


def guess_contenttype(mimetype: str, filename: str) -> str:
    """The content type that a MIME type, or else a file name, suggests; ``video`` when neither does."""
    kind = mimetype.partition(";")[0].strip().lower()
    if _ARCHIVE.fullmatch(kind):
        return "album"
    return _TYPES.get(kind.partition("/")[0]) or contenttype_of(filename) or "video"
