"""A place for bytes that come out of an archive, so that a decoder can be given them as a file.

It has no name (``O_TMPFILE`` where the file system knows it): nothing is extracted by name, and a crash leaves
nothing behind.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO, Final, Self

from attrs import frozen

from ..errors import StorageError, StorageFull

__all__ = ["Spool", "Spooled"]

_BLOCK: Final = 1 << 20


@frozen
class Spooled:
    """What was written.

    Attributes:
        size: Bytes.
        sha1: Hex digits.
        sha256: Hex digits.
    """

    size: int
    sha1: str
    sha256: str


class Spool:
    """A nameless file for one thing after the other. A context manager.

    Args:
        directory: Where; on a disk with room for the largest thing. ``None`` is the system's temporary directory.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        with _storage_errors():
            self._file = tempfile.TemporaryFile(dir=directory, prefix="stagedoor-", buffering=0)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def fill(self, stream: BinaryIO) -> Spooled:
        """Hold the bytes of a stream, from where it stands to its end, instead of what was held before.

        Raises:
            StorageFull: No room.
            StorageError: The disk failed.
        """
        sha1, sha256, size = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), 0
        with _storage_errors():
            self._file.seek(0)
            self._file.truncate()
        while block := stream.read(_BLOCK):
            sha1.update(block)
            sha256.update(block)
            size += len(block)
            view = memoryview(block)
            while view:
                with _storage_errors():
                    view = view[self._file.write(view) :]
        return Spooled(size, sha1.hexdigest(), sha256.hexdigest())

    @contextmanager
    def source(self) -> Iterator[BinaryIO]:
        """Open what is held for reading; a `stagedoor.ports.Source`."""
        with _storage_errors():
            # A descriptor that can only read: a decoder gets this very one.
            fd = os.open(f"/proc/self/fd/{self._file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            yield file


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("There is no room to unpack the upload. Free some, and it is tried again.") from error
        raise StorageError(f"The upload could not be unpacked: {error.strerror}.") from error
