"""Checks of what a child says: each value is parsed, or refused with `ValueError` or `TypeError`."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["integer", "positive", "text", "word"]

_SHAPE: Final = re.compile(r"[a-z0-9_]{1,32}")


def integer(value: object, low: int, high: int) -> int:
    """A whole number within bounds."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r:.40} is no whole number from {low} to {high}")
    return value


def positive(value: object, high: float) -> float:
    """A number above 0 and up to a bound."""
    if type(value) not in (int, float) or not 0 < value <= high:  # type: ignore[operator]
        raise ValueError(f"{value!r:.40} is no number above 0 and up to {high}")
    return float(value)  # type: ignore[arg-type]


def word(value: object) -> str:
    """A word of lower-case letters, digits and underscores, such as the name of a codec."""
    if not isinstance(value, str) or not _SHAPE.fullmatch(value):
        raise ValueError(f"{value!r:.40} is no word")
    return value


def text(value: object) -> str:
    """Text for people: no control, format or unassigned characters, one space at a time, 200 characters."""
    if not isinstance(value, str):
        raise TypeError("a tag is no text")
    spaced = "".join(" " if c.isspace() else c for c in value[:2000])
    kept = "".join(c for c in spaced if unicodedata.category(c)[0] != "C")
    return unicodedata.normalize("NFC", " ".join(kept.split()))[:200].strip()
