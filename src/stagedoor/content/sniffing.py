"""A look at the first bytes, before a decoder is asked."""

from __future__ import annotations

from typing import Final

from ..errors import ConfigurationError, ContentRejected
from ..ports import Source

__all__ = ["head_of", "kind_of"]

_HEAD: Final = 8192


def head_of(source: Source) -> bytes:
    """The first bytes of a file, at most 8 KiB.

    Raises:
        ContentRejected: ``empty``.
        StorageError: They cannot be read.
    """
    with source() as stream:
        head = stream.read(_HEAD)
    if not head:
        raise ContentRejected("The file is empty. Choose a file with something in it.", code="empty")
    return head


def kind_of(head: bytes) -> str | None:
    """What the first bytes look like, as a MIME type, for a sentence that says what a file is instead.

    Raises:
        ConfigurationError: ``media_missing``.
    """
    try:
        import filetype
    except ImportError as error:
        raise ConfigurationError(
            "The package “filetype” is missing. Install it: pip install 'stagedoor[media]'.", code="media_missing"
        ) from error
    kind = filetype.guess(head)
    return None if kind is None else str(kind.mime)
