"""Finding the directory that an artist has already, under whatever spelling."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

from attrs import frozen

from ...names import match_key, similar_key
from .components import component

__all__ = ["Match", "match"]


@frozen
class Match:
    """What is there for a name.

    Attributes:
        spelling: The component to use, as it is on the disk when it is there. Give it to `Template.path` as ``there``
            too: `component` would turn a directory in NFD into another one.
        how: ``same``, there is exactly this; ``matched``, there is one that differs in case or in Unicode's forms
            only; ``new``, there is neither.
        similar: Others that are there, most alike first. For ``new``, ask whether one of them is meant.
    """

    spelling: str
    how: Literal["new", "same", "matched"]
    similar: tuple[str, ...] = ()


def match(name: str, existing: Iterable[str]) -> Match:
    """Find a name among the entries of a directory.

    Names that have one `match_key` are one: of several, the one that is written the same is taken, else the first in
    order. Names that have one `similar_key` may be one, which only people know. Hidden entries are nobody's.

    Args:
        name: As somebody wrote it, or a component.
        existing: Names of the entries.

    Raises:
        ContentRejected: ``unusable_name``, as `component`.
    """
    wanted = component(name)
    key, alike = match_key(wanted), similar_key(wanted)
    start = unicodedata.normalize("NFD", alike)[:_START]
    matched: set[str] = set()
    similar: set[str] = set()
    for entry in existing:
        head = entry[:_START]
        if head.isascii() and head.isalnum():
            # Keys leave such letters and digits as they are, but for their case.
            if head.lower() != start:
                continue
        elif entry.startswith(".") or not _may_begin(entry, start[:1]):
            continue
        if similar_key(entry) == alike:
            (matched if match_key(entry) == key else similar).add(entry)
    hits = sorted(matched, key=lambda entry: (entry != wanted, entry))
    rest = (*hits[1:], *sorted(similar))
    if not hits:
        return Match(wanted, "new", rest)
    return Match(hits[0], "same" if hits[0] == wanted else "matched", rest)


# ── looking at beginnings only ────────────────────────────────────────────────────────────────────────────────────
# A key takes a few microseconds, and a music directory may have twenty thousand entries. So keys are made only of those
# whose key can begin as the wanted one does; when that is not clear, it can.

_START: Final = 4
"""Characters; enough for an article and the space after it."""

_UNCLEAR: Final = ""
_NOTHING: Final = " "


@lru_cache(maxsize=1 << 14)
def _begins(character: str) -> str:
    """What the key of a name begins with that has this character in front."""
    key = unicodedata.normalize("NFD", similar_key(character))
    kinds = {unicodedata.category(c)[0] for c in (character, *key[:1])}
    if "M" in kinds:
        return _UNCLEAR  # a mark may go, change places, be composed with others, or go with the article behind it
    # Keys keep letters and numbers; punctuation only when there is nothing else.
    return key[0] if key and unicodedata.category(key[0])[0] in "LN" else _NOTHING


def _beginning(entry: str) -> str:
    for character in entry:
        begins = _begins(character)
        if begins != _NOTHING:
            return begins
    return _UNCLEAR


def _may_begin(entry: str, first: str) -> bool:
    beginning = _beginning(entry)
    if beginning in (first, _UNCLEAR):
        return True
    if beginning != "t":
        return False
    if entry[0] in "tT" and entry[:4].isascii():
        # An article goes, but only where it is a word, and only one.
        article = entry[:3].lower() == "the" and not entry[3:4].isalnum()
        return article and _beginning(entry[3:]) in (first, _UNCLEAR)
    return True
