"""Header fields, in and out: one mapping from what arrived, and the few syntaxes that the wires share.

A parser takes text from a stranger and returns values, or raises `InvalidField`; each reads its text once. Sources:
RFC 9110 (fields, dates), RFC 9651 (structured fields; everything of its syntax is read, because members that nobody
knows have to be skipped correctly), RFC 6266 and 8187 (``Content-Disposition``), RFC 4648 (base64).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from functools import lru_cache
from typing import Final, NoReturn, TypeAlias
from urllib.parse import unquote_to_bytes

from attrs import frozen

from ..errors import UploadError

__all__ = [
    "Answer",
    "BareItem",
    "Headers",
    "InvalidField",
    "Token",
    "base64_of",
    "collect",
    "content_disposition",
    "http_date",
    "media_type",
    "number",
    "structured_boolean",
    "structured_dictionary",
    "structured_integer",
    "to_dictionary",
]

Headers: TypeAlias = Mapping[str, str]
"""Header fields by their lower-case names, as `collect` makes them."""

_LISTS: Final = frozenset(
    {
        "accept", "access-control-request-headers", "connection", "content-digest", "expect", "forwarded",
        "repr-digest", "te", "trailer", "transfer-encoding", "upload-metadata", "vary", "via", "want-content-digest",
        "want-repr-digest", "x-forwarded-for",
    }
)  # fmt: skip
"""Fields that may come in several lines: their value is a comma-separated list."""

_SINGLE: Final = frozenset(
    {
        "authorization", "content-disposition", "content-length", "content-type", "host", "origin", "tus-resumable",
        "upload-checksum", "upload-complete", "upload-concat", "upload-defer-length", "upload-draft-interop-version",
        "upload-length", "upload-offset", "x-api-key", "x-http-method-override",
    }
)  # fmt: skip
"""Fields that mean something else to the next reader when they come twice."""

LARGEST: Final = 2**63 - 1
"""The largest length or offset in bytes."""
LARGEST_STRUCTURED: Final = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651, section 3.3.1)."""


class InvalidField(UploadError):
    """A header field does not have the syntax that its specification asks for."""

    default_code = "invalid_header"


@frozen
class Answer:
    """An HTTP answer, ready to be sent.

    Attributes:
        status: The status number.
        headers: Names as written in the specifications, and values; ``Content-Length`` is the server's affair.
        body: What follows; an answer to HEAD is sent without it.

    Raises:
        InvalidField: A value would end its line and begin another.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __attrs_post_init__(self) -> None:
        for name, value in self.headers:
            if _UNSAFE.search(value):
                raise InvalidField(f"The value of {name} cannot be sent: it holds a control or is not Latin-1.")

    def header(self, name: str) -> str | None:
        """The value of a field, its name in any case, or ``None``."""
        wanted = name.lower()
        return next((value for known, value in self.headers if known.lower() == wanted), None)

    def with_headers(self, more: Iterable[tuple[str, str]]) -> Answer:
        """The same answer with more fields."""
        return Answer(self.status, (*self.headers, *more), self.body)


_UNSAFE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


def collect(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header fields as a mapping with lower-case names; values are Latin-1 without white space around them.

    The lines of a list are joined. Of other fields that no wire reads, the last line counts.

    Raises:
        InvalidField: ``duplicate_header``, a field that has one value came twice; ``invalid_header``, a control
            character in a value.
    """
    found: dict[str, list[str]] = {}
    for name, value in raw:
        text = value.decode("latin-1").strip(" \t")
        if _UNSAFE.search(text):
            raise InvalidField(f"The header {_shown(name.decode('latin-1'))} holds a control character.")
        found.setdefault(name.decode("latin-1").lower(), []).append(text)
    headers: dict[str, str] = {}
    for key, values in found.items():
        if len(values) > 1 and key in _SINGLE:
            raise InvalidField(f"The header {key} came {len(values)} times; send it once.", code="duplicate_header")
        headers[key] = ", ".join(values) if key in _LISTS else values[-1]
    return headers


# ── plain values ──────────────────────────────────────────────────────────────────────────────────────────────

_DIGITS = re.compile(r"[0-9]{1,19}", re.ASCII)


def number(name: str, text: str) -> int:
    """A non-negative integer below 2**63, in decimal digits and nothing else.

    Raises:
        InvalidField: It is something else; the sentence has the name of the field.
    """
    if _DIGITS.fullmatch(text):
        value = int(text)
        if value <= LARGEST:
            return value
    raise InvalidField(f"{name} must be an integer from 0 to {LARGEST}, not {_shown(text)}.")


def base64_of(name: str, text: str) -> bytes:
    """What base64 with its padding stands for (RFC 4648, section 4).

    Raises:
        InvalidField: It is no such base64; the sentence has the name of the field.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error, and text that is not ASCII
        raise InvalidField(f"{name} is no base64 with padding: {_shown(text)}.") from None


def http_date(time: float) -> str:
    """Seconds since the epoch as an IMF-fixdate (RFC 9110, section 5.6.7); a fraction of a second is cut away."""
    return _date(min(max(int(time), 0), 253_402_300_799))  # the last second of the year 9999


@lru_cache(maxsize=16)
def _date(seconds: int) -> str:
    """Uploads that are made within one second, or asked for again, expire at the same time."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


def media_type(text: str) -> str:
    """Type and subtype in lower case, without parameters; empty when there is none."""
    return text.partition(";")[0].strip(" \t").lower()


_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(
    rf'[ \t]*;[ \t]*(?:({_WORD})[ \t]*=[ \t]*(?:({_WORD})|"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~\x80-\xff])*)"))?'
)
_DISPOSITION = re.compile(rf"[ \t]*{_WORD}")
_EXTENDED = re.compile(r"(?i:(utf-8|iso-8859-1))'[A-Za-z0-9-]*'((?:[!#$&+\-.^_`|~0-9A-Za-z]|%[0-9A-Fa-f]{2})*)")


def content_disposition(text: str) -> str | None:
    """The file name in a ``Content-Disposition`` (RFC 6266), or ``None`` without one.

    ``filename*`` is preferred to ``filename``; of a path only the last part is taken. Bytes of a plain ``filename``
    that are UTF-8 are taken for it, because that is what clients send.

    Raises:
        InvalidField: ``invalid_disposition``.
    """
    unreadable = InvalidField(f"Content-Disposition cannot be read: {_shown(text)}.", code="invalid_disposition")
    found = _DISPOSITION.match(text)
    end = found.end() if found else 0
    plain: str | None = None
    extended: str | None = None
    seen: set[str] = set()
    while found is not None and (found := _PARAMETER.match(text, end)):
        end = found.end()
        key, token, quoted = (found[1] or "").lower(), found[2], found[3]
        if key and key in seen:
            raise unreadable
        seen.add(key)
        if key == "filename":
            plain = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        elif key == "filename*" and token is not None:
            extended = _extended(token)
    if text[end:].strip(" \t"):
        raise unreadable
    name = extended or (None if plain is None else _utf8(plain))
    return (name.replace("\\", "/").rpartition("/")[2] or None) if name else None


def _extended(value: str) -> str | None:
    found = _EXTENDED.fullmatch(value)
    if found is None:
        return None  # RFC 8187, section 3.2.1: what cannot be decoded is ignored
    try:
        return unquote_to_bytes(found[2]).decode(found[1].lower())
    except UnicodeDecodeError:
        return None


def _utf8(text: str) -> str:
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


# ── structured fields ─────────────────────────────────────────────────────────────────────────────────────────


class Token(str):
    """A token of a structured field, which is not the same as a string with its characters."""

    __slots__ = ()


BareItem: TypeAlias = "bool | int | Decimal | str | bytes | datetime"
"""A value of a structured field; a `Token` is a ``str``."""

_BARE = re.compile(
    r"""
    (?P<boolean> \?[01] )
  | (?P<decimal> -?[0-9]{1,12}\.[0-9]{1,3} (?![0-9.]) )
  | (?P<integer> -?[0-9]{1,15} (?![0-9.]) )
  | (?P<string> "(?: [\x20\x21\x23-\x5b\x5d-\x7e] | \\["\\] )*" )
  | (?P<bytes> :[A-Za-z0-9+/=]*: )
  | (?P<date> @-?[0-9]{1,15} (?![0-9.]) )
  | (?P<display> %"(?: [\x20\x21\x23\x24\x26-\x7e] | %[0-9a-f]{2} )*" )
  | (?P<token> [A-Za-z*][!\#$%&'*+\-.^_`|~0-9A-Za-z:/]* )
    """,
    re.VERBOSE,
)
_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_SPACES = re.compile(r" *")
_OPTIONAL_SPACE = re.compile(r"[ \t]*")


class _Reader:
    """Reads a structured field from left to right (RFC 9651, section 4.2); raises `InvalidField`."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.at = _end(_SPACES, text, 0)

    def dictionary(self) -> dict[str, BareItem | tuple[BareItem, ...]]:
        members: dict[str, BareItem | tuple[BareItem, ...]] = {}
        while self.at < len(self.text):
            key = self.key()
            value: BareItem | tuple[BareItem, ...] = True
            if self.took("="):
                value = self.inner_list() if self.sees("(") else self.bare()
            self.parameters()
            members.pop(key, None)  # the last one counts, in its own place
            members[key] = value
            self.at = _end(_OPTIONAL_SPACE, self.text, self.at)
            if self.at == len(self.text):
                return members
            if not self.took(","):
                self.fail()
            self.at = _end(_OPTIONAL_SPACE, self.text, self.at)
            if self.at == len(self.text):
                self.fail()  # a comma with nothing behind it
        return members

    def item(self) -> BareItem:
        value = self.bare()
        self.parameters()
        self.at = _end(_SPACES, self.text, self.at)
        if self.at != len(self.text):
            self.fail()
        return value

    def inner_list(self) -> tuple[BareItem, ...]:
        self.at += 1
        items: list[BareItem] = []
        while True:
            before = self.at
            self.at = _end(_SPACES, self.text, self.at)
            if self.took(")"):
                return tuple(items)
            if items and before == self.at:
                self.fail()
            items.append(self.bare())
            self.parameters()

    def parameters(self) -> None:
        while self.took(";"):
            self.at = _end(_SPACES, self.text, self.at)
            self.key()
            if self.took("="):
                self.bare()

    def key(self) -> str:
        found = _KEY.match(self.text, self.at)
        if found is None:
            self.fail()
        self.at = found.end()
        return found[0]

    def bare(self) -> BareItem:
        found = _BARE.match(self.text, self.at)
        if found is None:
            self.fail()
        self.at = found.end()
        text = found[0]
        match found.lastgroup:
            case "boolean":
                return text == "?1"
            case "integer":
                return int(text)
            case "decimal":
                return Decimal(text)
            case "string":
                return re.sub(r"\\(.)", r"\1", text[1:-1])
            case "bytes":
                return self.bytes(text[1:-1])
            case "date":
                return self.date(int(text[1:]))
            case "display":
                return self.display(text[2:-1])
            case _:
                return Token(text)

    def bytes(self, text: str) -> bytes:
        stripped = text.rstrip("=")  # section 4.2.7: padding may be missing
        try:
            return binascii.a2b_base64(stripped + "=" * (-len(stripped) % 4), strict_mode=True)
        except ValueError:
            self.fail()

    def date(self, seconds: int) -> datetime | int:
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):
            return seconds  # beyond what a calendar knows, and of no use to anybody here

    def display(self, text: str) -> str:
        try:
            return unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            self.fail()

    def sees(self, character: str) -> bool:
        return self.text.startswith(character, self.at)

    def took(self, character: str) -> bool:
        if self.sees(character):
            self.at += 1
            return True
        return False

    def fail(self) -> NoReturn:
        raise InvalidField(f"{self.name} is no structured field: {_shown(self.text)}, at character {self.at}.")


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return start if found is None else found.end()


def structured_boolean(text: str) -> bool | None:
    """A Boolean item, ``?0`` or ``?1``; ``None`` for anything else, because such a field has to be ignored."""
    value = _item(text)
    return value if isinstance(value, bool) else None


def structured_integer(text: str) -> int | None:
    """A non-negative Integer item; ``None`` for anything else, because such a field has to be ignored."""
    value = _item(text)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _item(text: str) -> BareItem | None:
    try:
        return _Reader("The field", text).item()
    except InvalidField:
        return None


def structured_dictionary(name: str, text: str) -> dict[str, BareItem | tuple[BareItem, ...]]:
    """A Dictionary: its members in order, an inner list as a tuple. Parameters are checked and left out.

    Raises:
        InvalidField: It is none; the sentence has the name of the field.
    """
    return _Reader(name, text).dictionary()


def to_dictionary(members: Mapping[str, int | bool | bytes]) -> str:
    """A Dictionary as text; integers beyond what a structured field can hold become the largest that it can."""
    return ", ".join(f"{key}{_serialized(value)}" for key, value in members.items())


def _serialized(value: int | bool | bytes) -> str:
    if value is True:
        return ""  # section 4.1.2: a member that is true is its key
    if value is False:
        return "=?0"
    if isinstance(value, bytes):
        return f"=:{binascii.b2a_base64(value, newline=False).decode()}:"
    return f"={min(value, LARGEST_STRUCTURED)}"


def _shown(text: str) -> str:
    """The beginning of a stranger's text, printable."""
    return ascii(text[:60])
