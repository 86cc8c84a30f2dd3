"""Templates of paths: text, fields, and sections that vanish. Much less than a template engine, on purpose.

::

    {albumartist}/{year} - {album}/[Disc {disc}/][{track:02} ]{title}

* ``{field}`` is filled in, ``{field:02}`` is a number with zeros in front;
* ``[…]`` vanishes when a field in it is empty;
* ``/`` separates components; a section that ends with one is a whole component, and vanishes as such;
* ``{{``, ``}}``, ``[[`` and ``]]`` stand for the single characters.

Text and values become components by `component`, each component on its own and after the fields were filled in: no
value can add a component, remove one, or lead out of the directory.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, NoReturn, TypeAlias

from attrs import field, frozen

from ...errors import ConfigurationError, ContentRejected
from .components import component

__all__ = ["FieldRejected", "Template", "Value"]

Value: TypeAlias = str | int | None
"""What a field is filled with; ``None`` and blank text are empty."""

# Doubled characters come first, then whole fields, then what has a meaning alone, then text.
_TOKEN: Final = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{[^{}]*\}|[\[\]{}/\\]|[^\[\]{}/\\]+")
_FIELD: Final = re.compile(r"\{([a-z]+)(?::0([1-9]))?\}")
_CLOSING: Final = re.compile(r"\](?!\])")

_MAY_BE_EMPTY: Final = "a component of which nothing may be left"
_LARGEST: Final = 999_999
"""Numbers in paths are of discs, tracks and years."""


class FieldRejected(ContentRejected):
    """A field that a path needs is empty (``annotation_missing``), or cannot be in a name (``unusable_name``).

    Attributes:
        field: Its name.
    """

    def __init__(self, sentence: str, *, code: str, field: str) -> None:
        super().__init__(sentence, code=code)
        self.field = field


@frozen
class _Field:
    name: str
    meaning: str
    width: int

    def fill(self, values: Mapping[str, Value]) -> str:
        """The text that stands for the field, not yet safe.

        Raises:
            FieldRejected: It is empty or unusable.
        """
        value = values.get(self.name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
            return str(value).zfill(self.width)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise FieldRejected(
                f"The field “{self.name}” is missing. Say what {self.meaning} is, then try again.",
                code="annotation_missing",
                field=self.name,
            )
        try:
            if isinstance(value, str):
                component(value)  # alone: "01 " in front must not hide that there is no title
                text = value.strip()
                return text.zfill(self.width) if text.isascii() and text.isdecimal() else text
        except ContentRejected:
            pass
        raise FieldRejected(
            f"The field “{self.name}” cannot be part of a file name. "
            f"Give {self.meaning} as text with letters or digits, or as a number up to {_LARGEST}.",
            code="unusable_name",
            field=self.name,
        )


@frozen
class _Section:
    parts: tuple[str | _Field, ...]

    def fill(self, values: Mapping[str, Value]) -> str:
        try:
            return _fill(self.parts, values)
        except FieldRejected:
            return ""


_Piece: TypeAlias = str | _Field | _Section


@frozen
class _Component:
    pieces: tuple[_Piece, ...]
    optional: bool


def _fill(pieces: Iterable[_Piece], values: Mapping[str, Value]) -> str:
    return "".join(piece if isinstance(piece, str) else piece.fill(values) for piece in pieces)


@frozen
class Template:
    """A template of relative paths, without the extension. Make it with `parse`.

    Attributes:
        text: As it was written.
    """

    text: str
    _components: tuple[_Component, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, *, fields: Mapping[str, str], required: Collection[str] = ()) -> Template:
        """Read a template.

        Args:
            text: See the module.
            fields: The names that may be used, and what each one is for people (``"the title of the song"``).
            required: Fields that must be there, outside of sections.

        Raises:
            ConfigurationError: ``invalid_template``; the sentence names the place and the fields.
        """
        template = cls(text, tuple(_Parser(text, fields).components()))
        for name in required:
            if name not in template.mandatory:
                _refuse(text, fields, f"it needs {{{name}}}, outside of square brackets")
        return template

    @property
    def mandatory(self) -> frozenset[str]:
        """The fields without which there is no path: those outside of sections."""
        return frozenset(piece.name for piece in self._mandatory())

    @property
    def fields(self) -> frozenset[str]:
        """All fields."""
        pieces = [piece for part in self._components for piece in part.pieces]
        inside = [piece for section in pieces if isinstance(section, _Section) for piece in section.parts]
        return frozenset(piece.name for piece in (*pieces, *inside) if isinstance(piece, _Field))

    def problems(self, values: Mapping[str, Value]) -> tuple[FieldRejected, ...]:
        """What `path` would raise, for all fields at once; each field once, in the order of the path."""
        found: dict[str, FieldRejected] = {}
        for piece in self._mandatory():
            try:
                piece.fill(values)
            except FieldRejected as error:
                found.setdefault(piece.name, error)
        return tuple(found.values())

    def path(self, values: Mapping[str, Value], extension: str = "", *, there: Iterable[str] = ()) -> str:
        """The path for these values, relative, every component as `component` makes it.

        Args:
            values: By field. What the template does not name is ignored, what is left out is empty. A field in a
                section counts as empty, too, when it is unusable. Numbers are 0 to 999,999.
            extension: Added to the last component after a dot.
            there: Directories that may be used as they are spelled on the disk (`Match.spelling`): instead of a
                component that `component` would make of them. Without it, a directory in NFD gets a twin in NFC.

        Raises:
            FieldRejected: ``annotation_missing`` or ``unusable_name``, and which field.
            ContentRejected: ``unusable_name``: the extension is none.
        """
        texts = []
        for part in self._components:
            try:
                texts.append(_fill(part.pieces, values))
            except FieldRejected:
                if not part.optional:
                    raise
        directories, file = map(component, texts[:-1]), texts[-1]
        spelled = dict(_spelled(there))
        return "/".join([*(spelled.get(name, name) for name in directories), component(file, extension=extension)])

    def _mandatory(self) -> Iterator[_Field]:
        for part in self._components:
            if not part.optional:
                yield from (piece for piece in part.pieces if isinstance(piece, _Field))

    def __str__(self) -> str:
        return self.text


def _spelled(there: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names by the component that they would be, of those that may be components themselves."""
    for name in there:
        if not name.startswith(".") and "/" not in name and "\0" not in name:
            with suppress(ContentRejected, UnicodeEncodeError):  # a lone surrogate could not be put on record
                if len(name.encode()) <= 255:
                    yield component(name), name


# ── parsing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _refuse(text: object, fields: Iterable[str], what: str, at: int | None = None) -> NoReturn:
    place = "" if at is None else f", at character {at + 1}"
    raise ConfigurationError(
        f"The template {str(text)[:200]!r} cannot be used: {what}{place}. The fields are {', '.join(fields)}.",
        code="invalid_template",
    )


class _Parser:
    """Reads one template, from left to right."""

    def __init__(self, text: str, fields: Mapping[str, str]) -> None:
        if not isinstance(text, str):  # a configuration file may hold anything
            _refuse(text, fields, "it is no text")
        self._text, self._fields = text, fields
        self._pieces: list[_Piece] = []
        self._section: list[str | _Field] | None = None
        self._opened = self._began = 0

    def components(self) -> Iterator[_Component]:
        for found in _TOKEN.finditer(self._text):
            piece, at = found[0], found.start()
            if piece == "[":
                if self._section is not None:
                    self._refuse("a section in a section", at)
                self._section, self._opened = [], at
            elif piece == "]":
                self._close(at)
            elif piece == "/" and self._section is None:
                yield self._end(at, self._pieces)
                self._pieces, self._began = [], found.end()
            elif piece == "/":
                # `[Disc {disc}/]`: the closing bracket is looked at here, so that no other slash can be in a section.
                if self._pieces or not _CLOSING.match(self._text, found.end()):
                    self._refuse("a “/” in a section that is not a whole component, as in “[Disc {disc}/]”", at)
                assert self._section is not None
                yield self._end(at, self._section, optional=True)
                self._began = found.end() + 1
            else:
                (self._pieces if self._section is None else self._section).append(self._part(piece, at))
        if self._section is not None:
            self._refuse("a “[” that is not closed", self._opened)
        yield self._end(len(self._text), self._pieces)

    def _part(self, piece: str, at: int) -> str | _Field:
        if piece in ("{{", "}}", "[[", "]]"):
            return piece[0]
        if piece in ("{", "}"):
            self._refuse(f"a “{piece}” without its counterpart (a single one is written twice)", at)
        if piece == "\\":
            self._refuse("a backslash; components are separated by “/”", at)
        if not piece.startswith("{"):
            return piece
        found = _FIELD.fullmatch(piece)
        if found is None:
            self._refuse(f"{piece} is no field; one is written as in {{title}} or {{track:02}}", at)
        if found[1] not in self._fields:
            self._refuse(f"there is no field {piece}", at)
        return _Field(found[1], self._fields[found[1]], int(found[2] or 0))

    def _close(self, at: int) -> None:
        if self._section is None:
            self._refuse("a “]” that closes nothing", at)
        if not any(isinstance(part, _Field) for part in self._section):
            self._refuse("a section without a field, which would never vanish", self._opened)
        if self._began <= self._opened:  # else it was a component, and is done
            self._pieces.append(_Section(tuple(self._section)))
        self._section = None

    def _end(self, at: int, pieces: Iterable[_Piece], *, optional: bool = False) -> _Component:
        part = _Component(tuple(pieces), optional)
        literal = "".join(piece for piece in part.pieces if isinstance(piece, str))
        if not part.pieces:
            self._refuse("the path has to be relative" if at == 0 and self._text else "an empty component", at)
        if not any(isinstance(piece, _Field) for piece in part.pieces):
            # Sections may all vanish; then the text is what remains.
            try:
                component(literal)
            except ContentRejected:
                what = "a component that leads elsewhere" if literal.strip() in (".", "..") else _MAY_BE_EMPTY
                self._refuse(what, self._began)
        return part

    def _refuse(self, what: str, at: int) -> NoReturn:
        _refuse(self._text, self._fields, what, at)
