"""How names of artists, albums and titles are compared; used wherever two of them may mean the same."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["match_key", "search_words", "similar_key"]

_MARKS: Final = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # Latin, Greek, Cyrillic
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670]"  # Hebrew and Arabic points
)
"""Marks that people leave out. Those of Indic scripts and of Japanese are not among them: they make other words."""

_LETTERS: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe"}
    | {"&": " and "}
)
"""Letters with a stroke, and ligatures, which Unicode does not take apart; and one sign that is a word."""

_SCRIPTS_WITHOUT_SPACES: Final = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese letters: each is looked for by itself."""

_LONGEST_WORD: Final = 64
_APOSTROPHES: Final = re.compile("['’`]")

_ASCII_WORD: Final = re.compile("[a-z0-9]+")
_ASCII: Final = str.maketrans({"&": " and ", "'": "", "`": ""})

_ARTICLE: Final = re.compile(r"\A\W*the\s+(?=\S)|(?<=\S)\s*,\s*the\W*\Z")


def match_key(name: str) -> str:
    """The form in which names of artists and albums are compared: NFC(casefold(NFKC)).

    ``"BEYONCÉ"``, ``"Beyoncé"`` and the same with a combining accent are one artist.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())


def similar_key(name: str) -> str:
    """The form in which names that people mix up are equal; good for a question, not for an answer.

    Names of one `match_key` have one. Beyond that, diacritics, punctuation, symbols and white space do not count,
    nor does an article (``"The Beatles"``, ``"Beatles, The"``), and ``"&"`` is ``"and"``. Of a name that is nothing
    but punctuation, that stays.
    """
    bare = _ARTICLE.sub("", _letters(name), count=1)
    key = "".join(c for c in bare if _counts(c))
    return unicodedata.normalize("NFC", key or "".join(bare.split()))


def search_words(text: str) -> tuple[str, ...]:
    """The words to look for, or to be found by, each once, without diacritics, signs and case.

    A word is found by any beginning of it. Of scripts that put no space between words, each letter is one. Only the
    first 64 characters of a word count.
    """
    if text.isascii():  # the same, faster
        plain = _ASCII_WORD.findall(text.lower().translate(_ASCII))
        return tuple(dict.fromkeys(word[:_LONGEST_WORD] for word in plain))
    letters = unicodedata.normalize("NFC", _letters(text))
    apart = _SCRIPTS_WITHOUT_SPACES.sub(r" \1 ", _APOSTROPHES.sub("", letters))
    spaced = "".join(c if _counts(c) else " " for c in apart)
    return tuple(dict.fromkeys(word[:_LONGEST_WORD] for word in spaced.split()))


def _letters(name: str) -> str:
    return _MARKS.sub("", unicodedata.normalize("NFKD", match_key(name))).translate(_LETTERS)


def _counts(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"
