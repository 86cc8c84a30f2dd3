"""A folder as one upload: a *stored* zip, sorted, with fixed times.

The same folder always gives the same bytes, so that an upload that was stopped goes on, and one that was made before
is known again.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Final

from attrs import frozen

from ..content.decoding.archive import ArchiveLimits, is_junk
from ..errors import ConfigurationError
from ..protocols.offers import contenttype_of

__all__ = ["Part", "pack", "parts_of"]

_BLOCK: Final = 4 << 20
_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The first that a zip can say."""


@frozen
class Part:
    """A file in a folder.

    Attributes:
        name: In the archive, relative to the folder, with slashes.
        path: On the disk.
        size: Bytes.
    """

    name: str
    path: str
    size: int


def parts_of(directory: str) -> Sequence[Part]:
    """The regular files in a directory and below, by name. Links are not followed, and junk of systems is left out.

    Raises:
        ConfigurationError: It is no album: there is no song in it, or more than an archive may hold.
        OSError: It cannot be read.
    """
    limits = ArchiveLimits()
    parts: list[Part] = []
    size = 0
    for part in _walk(directory, ""):
        size += part.size
        parts.append(part)
        if len(parts) > limits.members or size > limits.bytes:
            raise ConfigurationError(
                f"{directory} holds more than {limits.members:,} files or {limits.bytes >> 30} GiB. "
                "Name folders of one album each."
            )
    if not any(contenttype_of(part.name) == "album" for part in parts):
        raise ConfigurationError(f"There is no song in the folder {directory}. Name the files that are meant.")
    return sorted(parts, key=lambda part: part.name)


def _walk(directory: str, above: str) -> Iterator[Part]:
    with os.scandir(directory) as entries:
        found = list(entries)
    for entry in found:
        name = above + os.fsencode(entry.name).decode("utf-8", "replace")
        if is_junk(name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{name}/")
        elif entry.is_file(follow_symlinks=False):
            yield Part(name, entry.path, entry.stat(follow_symlinks=False).st_size)


def pack(parts: Sequence[Part], into: BinaryIO, tick: Callable[[int], None]) -> None:
    """Write a zip.

    Args:
        parts: What is in it, in this order.
        into: Where to; it can seek.
        tick: Called with the bytes read so far, again and again. What it raises ends the work.

    Raises:
        OSError: A file cannot be read, or there is no room.
    """
    done = 0
    with zipfile.ZipFile(into, "w", zipfile.ZIP_STORED) as archive:
        for part in parts:
            info = zipfile.ZipInfo(part.name, _TIME)
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            info.file_size = part.size  # decides how much room its header has
            # What was a file a moment ago may be a link by now.
            fd = os.open(part.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb", buffering=0) as file, archive.open(info, "w") as member:
                while block := file.read(_BLOCK):
                    member.write(block)
                    done += len(block)
                    tick(done)
