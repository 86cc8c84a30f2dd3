"""What the operations of the child have in common: their input, their verdicts, saving pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from PIL.Image import Image

Answer: TypeAlias = tuple[dict[str, Any], list[bytes]]
Operation: TypeAlias = Callable[["Input", Mapping[str, Any], Mapping[str, Any]], Answer]
"""Called with the input, the request's arguments and the configuration."""

Frame: TypeAlias = "dict[str, Any] | bytes"
Streaming: TypeAlias = Callable[["Input", Mapping[str, Any], Mapping[str, Any]], Iterator[Frame]]
"""An operation that answers bit by bit: documents, and bytes that belong to the document before them."""


WHOLE = 0.98
"""A file that ends before this share of what its headers promise is taken for cut off."""
ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
"""How a file of the MP4 family begins, after four bytes of length (ISO/IEC 14496-12, 4.2)."""


class RejectedError(Exception):
    """The content will not do.

    Args:
        code: A word from the parent's table of sentences.
        numbers: Filled into the sentence.
    """

    def __init__(self, code: str, **numbers: int) -> None:
        super().__init__(code)
        self.code = code
        self.numbers = numbers


class Positioned:
    """What a file is beside its bytes: a size, and a position in it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.position = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file."""
        base = (0, self.position, self.size)[whence]
        if base + offset < 0:
            raise ValueError("before the start")
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        """As of a file."""
        return self.position

    def seekable(self) -> bool:
        """As of a file."""
        return True

    def readable(self) -> bool:
        """As of a file."""
        return True


class Input(Positioned):
    """The first bytes of a file descriptor as a file.

    Reads by position, because the descriptor shares its offset with the parent's.
    """

    def __init__(self, fd: int, size: int) -> None:
        super().__init__(size)
        self.fd = fd
        self.error: OSError | None = None

    def read(self, count: int = -1) -> bytes:
        """At most ``count`` bytes; an error of the disk is remembered, because FFmpeg turns it into its own."""
        rest = max(0, self.size - self.position)
        if not rest:  # and no system call, for which a file may name an offset that is too large
            return b""
        try:
            data = os.pread(self.fd, rest if count < 0 else min(count, rest), self.position)
        except OSError as error:
            self.error = error
            raise
        self.position += len(data)
        return data

    def at(self, offset: int, count: int) -> bytes:
        """Bytes from an offset."""
        self.seek(offset)
        return self.read(count)


def fit(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """The size with its ratio, as large as fits."""
    factor = min(width / size[0], height / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def save(picture: Image, form: str, **options: Any) -> bytes:
    """A picture as a file of one of Pillow's formats."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()
