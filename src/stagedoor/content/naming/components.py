"""The one place that makes path components out of what people and files say.

Every name that reaches a library tree goes through `component`. The scheme is MusicDB's: a ``/`` becomes U+2215,
everything else that a file name may hold stays as people wrote it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

from ...errors import ContentRejected
from ...tasks import JSON

__all__ = ["component", "year"]

_REPLACED: Final = str.maketrans({"/": "\N{DIVISION SLASH}", "\\": "\N{REVERSE SOLIDUS OPERATOR}"})

# Invisible, although Unicode calls them letters, marks or symbols (DerivedCoreProperties.txt,
# Default_Ignorable_Code_Point, and the blank Braille pattern): two names that look the same must be the same.
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)

# Naming Files, Paths, and Namespaces (Microsoft): reserved with any extension, in any case. A music directory is
# often shared with such machines.
_DEVICE: Final = re.compile(
    r"(?:con|prn|aux|nul|clock\$|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(?:\..*)?", re.IGNORECASE
)
_EXTENSION: Final = re.compile(r"[A-Za-z0-9]{1,16}")
_YEAR: Final = re.compile(r"\s*([0-9]{4})(?![0-9])")

_LOST_BY_CUTTING: Final = 9
"""Bytes of the dash and eight digits that mark a name that was cut."""


def component(text: str, *, extension: str = "", max_bytes: int = 255) -> str:
    """Make one component of a path: safe on any file system, and as close to the text as that allows.

    NFC; ``/`` and the backslash become characters that look like them; control, bidi and zero-width characters go;
    white space becomes single spaces; no dot or dash in front, no dot or space at the end; device names of other
    systems get an underscore in front; at most ``max_bytes`` of UTF-8, cut between characters with a short hash
    of the whole text. The same text always gives the same component, and a component gives itself.

    Args:
        text: What somebody wrote.
        extension: Added after a dot, and never cut; letters and digits.
        max_bytes: Limit in bytes, at least 64.

    Raises:
        ContentRejected: ``unusable_name``: nothing is left, or the extension is none.
    """
    if max_bytes < 64:
        raise ValueError("A component needs at least 64 bytes.")
    if extension and not _EXTENSION.fullmatch(extension):
        raise ContentRejected(f"{extension[:20]!r} is no file extension.", code="unusable_name")
    clean = _clean(text)
    if not clean:
        raise ContentRejected(
            f"{text[:40]!r} cannot be used as a name: nothing readable is left of it. Choose another one.",
            code="unusable_name",
        )
    suffix = f".{extension}" if extension else ""
    room = max_bytes - len(suffix)
    if len(clean.encode()) > room:
        digest = hashlib.sha256(clean.encode()).hexdigest()[: _LOST_BY_CUTTING - 1]
        clean = f"{_cut(clean, room - _LOST_BY_CUTTING)}-{digest}"
    return clean + suffix


def _clean(text: str) -> str:
    spaced = "".join(" " if c.isspace() else c for c in text)
    visible = "".join(c for c in _INVISIBLE.sub("", spaced) if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    # After the invisible ones are gone: they keep a letter and its accent apart.
    composed = " ".join(unicodedata.normalize("NFC", visible).translate(_REPLACED).split())
    trimmed = composed.lstrip(" .-").rstrip(" .")
    return f"_{trimmed}" if _DEVICE.fullmatch(trimmed) else trimmed


def _cut(text: str, room: int) -> str:
    end = len(text.encode()[:room].decode("utf-8", "ignore"))
    # A letter keeps all of its accents or goes with them, unless it has absurdly many.
    start = end
    while start > 1 and end - start < 8 and unicodedata.combining(text[start]):
        start -= 1
    if not unicodedata.combining(text[start]):
        end = start
    return text[:end].rstrip(" .")


def year(release: JSON) -> str | None:
    """The year of a release as four digits, from ``2020``, ``"2020"`` or ``"2020-05-01"``; ``None`` without one.

    Clients send it as text or as a number.
    """
    if isinstance(release, bool):
        return None
    if isinstance(release, float) and release.is_integer():
        release = int(release)
    if isinstance(release, int):
        release = str(release)
    found = _YEAR.match(release) if isinstance(release, str) else None
    return found[1] if found else None
