"""Small faults for a file of source code: what `bench/mutation.py` plants, one at a time.

The operators are mutmut's (another value for a literal, ``None`` for an argument or one left out, the opposite of an
operator, a name assigned ``None`` …). mutmut itself leaves out whatever has a decorator and whatever stands outside of
functions: here that is half of the adapters' promises and all of the life cycle. So they are applied to the whole file.
Three are added, since most of a durable program is calls in an order: a call, a ``raise`` or a ``del`` left out, and a
condition turned round.

Left alone are annotations, decorators, docstrings, ``__all__``, what is written to the log, and the words of sentences
that have values in them (f-strings).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import libcst as cst
import libcst.matchers as m
from attrs import field, frozen
from libcst.metadata import CodeRange, MetadataWrapper, ParentNodeProvider, PositionProvider
from mutmut.mutation.mutators import mutation_operators

__all__ = ["Mutant", "mutants"]

_Position: TypeAlias = tuple[int, int]
"""Line from 1, column from 0."""

_LEAVE: Final = (
    m.Annotation()
    | m.Decorator()
    | m.Call(func=m.Name("len") | m.Name("isinstance") | m.Attribute(value=m.Name("log")))
    | m.If(test=m.Name("TYPE_CHECKING"))
    | m.Assign(targets=[m.AssignTarget(target=m.Name("__all__"))])
    | m.AnnAssign(annotation=m.Annotation(annotation=m.Name("TypeAlias")))
)
"""Not mutated, nor what is in it. Some are mutmut's own exceptions."""


@frozen
class Mutant:
    """One fault.

    Attributes:
        file: The path of the file.
        where: Class and function, or ``module``.
        start: Of what is replaced.
        end: Behind it.
        was: The text there.
        now: What stands there instead.
        lines: Of the statement, from and to: tests that come by here may notice.
        function: First line (that of its decorators) of the outermost function whose body has it; 0 when there is none,
            and the fault is at work while the module is loaded.
    """

    file: str
    where: str
    start: _Position
    end: _Position
    was: str
    now: str
    lines: tuple[int, int]
    function: int = field(default=0)

    @property
    def name(self) -> str:
        """For people; it does not change with lines above."""
        return f"{self.file}, {self.where}: {_short(self.was)} → {_short(self.now)}"

    def apply(self, text: str) -> str:
        """The source with the fault."""
        lines = text.splitlines(keepends=True)
        (first, column), (last, behind) = self.start, self.end
        before = "".join(lines[: first - 1]) + lines[first - 1][:column]
        after = lines[last - 1][behind:] + "".join(lines[last:])
        return before + self.now + after


def mutants(file: str, text: str) -> list[Mutant]:
    """All faults for a source, in its order; none twice. A few cannot be compiled."""
    finder = _Finder(file, text)
    MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True).visit(finder)
    found: dict[str, Mutant] = {}
    for mutant in finder.found:
        mutated = mutant.apply(text)
        if mutated != text:
            found.setdefault(mutated, mutant)
    return sorted(found.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.now))


class _Finder(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider, ParentNodeProvider)

    def __init__(self, file: str, text: str) -> None:
        super().__init__()
        self.found: list[Mutant] = []
        self._file, self._lines = file, text.splitlines(keepends=True)
        self._blank = cst.Module([])
        self._names: list[str] = []
        self._functions: list[int] = []
        self._statements: list[tuple[int, int]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if m.matches(node, _LEAVE) or self._is_default_of_more_than_a_word(node):
            return False
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._names.append(node.name.value)
        if (function := self._function_of(node)) is not None:
            self._functions.append(function)
        if (lines := self._statement(node)) is not None:
            self._statements.append(lines)
        self._mutate(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        node = original_node
        if m.matches(node, _LEAVE) or self._is_default_of_more_than_a_word(node):
            return
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._names.pop()
        if self._function_of(node) is not None:
            self._functions.pop()
        if self._statement(node) is not None:
            self._statements.pop()

    def _is_default_of_more_than_a_word(self, node: cst.CSTNode) -> bool:
        """As mutmut: what is computed while a function is made would only fail there."""
        simple = cst.Name | cst.BaseNumber | cst.BaseString
        return isinstance(node, cst.Param) and node.default is not None and not isinstance(node.default, simple)

    def _range(self, node: cst.CSTNode) -> CodeRange:
        found = self.get_metadata(PositionProvider, node)
        assert isinstance(found, CodeRange)
        return found

    def _function_of(self, node: cst.CSTNode) -> int | None:
        """The first line of a function, if this is its body."""
        parent = self.get_metadata(ParentNodeProvider, node, None)
        if not isinstance(parent, cst.FunctionDef) or node is not parent.body:
            return None
        first = parent.decorators[0] if parent.decorators else parent
        line: int = self._range(first).start.line
        return line

    def _statement(self, node: cst.CSTNode) -> tuple[int, int] | None:
        """First and last line of a statement; of one with a body, those before it."""
        if isinstance(node, cst.BaseSmallStatement):
            found = self._range(node)
            return found.start.line, found.end.line
        if isinstance(node, cst.BaseCompoundStatement | cst.ExceptHandler):
            start = self._range(node).start.line
            return start, max(start, self._range(node.body).start.line - 1)
        return None

    def _mutate(self, node: cst.CSTNode) -> None:
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for number, changed in enumerate(operator(node)):
                    if not isinstance(node, cst.SimpleString) or not number:  # other letters, where others are there
                        self._add(node, changed)
        for old, new in _own(node):
            self._add(old, new)

    def _add(self, node: cst.CSTNode, changed: cst.CSTNode) -> None:
        found = self._range(node)  # without the parentheses around it
        parentheses = getattr(node, "lpar", ())
        if parentheses and getattr(changed, "lpar", ()) is parentheses:
            changed = changed.with_changes(lpar=[], rpar=[])
        start, end = (found.start.line, found.start.column), (found.end.line, found.end.column)
        self.found.append(
            Mutant(
                self._file,
                ".".join(self._names) or "module",
                start,
                end,
                self._text(start, end),
                self._blank.code_for_node(changed),
                self._statements[-1] if self._statements else (start[0], end[0]),
                self._functions[0] if self._functions else 0,
            )
        )

    def _text(self, start: _Position, end: _Position) -> str:
        lines = self._lines[start[0] - 1 : end[0]]
        lines[-1] = lines[-1][: end[1]]
        lines[0] = lines[0][start[1] :]
        return "".join(lines)


def _own(node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    """The operators that mutmut has not: what is replaced, and by what."""
    if m.matches(node, m.Expr(value=m.Call() & ~m.Call(func=m.Attribute(value=m.Name("log")))) | m.Raise() | m.Del()):
        yield node, cst.Pass()
    if isinstance(node, cst.If | cst.While | cst.IfExp | cst.Assert | cst.CompIf):
        test = node.test
        if not isinstance(test, cst.UnaryOperation | cst.Comparison):  # those have operators of their own
            inner = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
            yield test, cst.UnaryOperation(cst.Not(), inner)


def _short(text: str) -> str:
    return " ".join(text.split())
