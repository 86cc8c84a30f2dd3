"""Covers in the artwork directory: which files there are, and which of their names are free.

A cover is four files: ``Artist - Album.jpg``, and copies ``Artist - Album (50).jpg``, ``(150)`` and ``(500)`` that fit
into squares of so many pixels. They are named alike: when one of the four names is taken, all get the next number, as
in ``Artist - Album [2].jpg`` and ``Artist - Album [2] (50).jpg``. Nothing that is there is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, count
from typing import Final

from ..errors import StorageError
from ..ports import Surroundings
from . import naming

__all__ = ["SIZES", "cover_names", "free_cover"]

SIZES: Final = (50, 150, 500)
"""Sides of the squares into which the small copies fit, in pixels; part of their names."""

_ROOM: Final = len(" [99999] (500).jpg")


def cover_names(stem: str) -> Mapping[str, str]:
    """The paths of a cover's files by the words for their bytes: ``cover``, ``50``, ``150``, ``500``."""
    return {"cover": f"{stem}.jpg", **{str(side): f"{stem} ({side}).jpg" for side in SIZES}}


def free_cover(around: Surroundings, path: str) -> str:
    """A path without extension under which all files of a cover can be placed.

    Args:
        around: The libraries as they are now.
        path: As the naming scheme has it, without extension, made of safe components.
    """
    stem = _stem(path)
    numbered = (f"{stem} [{number}]" for number in count(2))
    return next(free for free in chain([stem], numbered) if not _taken(around, free))


def _stem(path: str) -> str:
    directory, slash, name = path.rpartition("/")
    # Cut before the words behind it are added, so that all four are cut alike.
    return directory + slash + naming.component(name, max_bytes=255 - _ROOM)


def _taken(around: Surroundings, stem: str) -> bool:
    try:
        return any(around.exists("artwork", path) for path in cover_names(stem).values())
    except StorageError as error:
        if error.code != "unsafe_path":
            raise
        return False  # a link is in the way: who makes the plan meets it again, and has the words for it
