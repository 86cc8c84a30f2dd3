"""What people and scripts see: colours, tables and bars on a terminal, plain text and JSON elsewhere."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal, TextIO, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Cell", "Level", "Screen", "ellipsis", "safe"]


def safe(text: str) -> str:
    """A text as it may reach a terminal: what controls it, turns writing around or cannot be seen is spelled out."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode() for c in text
    )


Cell: TypeAlias = "str | tuple[str, str]"
"""A text, or a text and its style."""
_SIGNS: Final = {"good": ("✓", "green"), "note": ("•", "dim"), "warn": ("!", "yellow"), "bad": ("✗", "red")}
Level: TypeAlias = Literal["good", "note", "warn", "bad"]


class Screen:
    """One stream to write to: with colours and wrapped lines on a terminal if rich is there, else plain lines.

    Every text goes through `safe`, but for `raw`, which is for documents of our own.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.console = _console(stream)
        with suppress(AttributeError):  # a terminal that knows ASCII only still says what happened
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def say(self, text: str = "", style: str = "", *, indent: int = 0) -> None:
        """A paragraph."""
        if self.console is None:
            self.stream.write(f"{' ' * indent}{safe(text)}\n")
            return
        from rich.padding import Padding
        from rich.text import Text

        line = Padding(Text(safe(text), style=style), (0, 0, 0, indent), expand=False)
        self.console.print(line if text else "")

    def sign(self, level: Level, text: str, *, indent: int = 0) -> None:
        """A sentence with a sign in front of it."""
        sign, style = _SIGNS[level]
        self.bullet(sign, text, style, indent=indent)

    def bullet(self, mark: str, text: str, style: str = "", *, indent: int = 0) -> None:
        """A paragraph that hangs on a mark."""
        if self.console is None:
            self.stream.write(f"{' ' * indent}{mark} {safe(text)}\n")
            return
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(Text(" " * indent + mark, style=style), Text(safe(text)))
        self.console.print(grid)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        right: Sequence[str] = (),
        loose: Sequence[str] = (),
    ) -> None:
        """A table; with an empty name in every column it has no head.

        Args:
            columns: Their names.
            rows: Their cells.
            right: Columns of numbers.
            loose: Columns that are cut where the terminal is narrow. The last one is wrapped, the others stay whole.
        """
        cells = [[(c, "") if isinstance(c, str) else c for c in row] for row in rows]
        if self.console is None:
            self._plain_table(columns, [[safe(text) for text, _ in row] for row in cells], right)
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=any(columns), header_style="bold")
        for number, column in enumerate(columns):
            if number == len(columns) - 1:
                table.add_column(column, overflow="fold")
                continue
            widest = max(len(column), *(len(safe(row[number][0])) for row in cells), 0)
            table.add_column(
                column,
                justify="right" if column in right else "left",
                no_wrap=True,
                overflow="ellipsis",
                min_width=None if column in loose else widest,
            )
        for row in cells:
            table.add_row(*(Text(safe(text), style=style) for text, style in row))
        self.console.print(table)

    def _plain_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
        lines = [list(columns), *rows] if any(columns) else list(rows)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)] if lines else []
        for line in lines:
            parts = [
                text.rjust(width) if column in right else text.ljust(width)
                for text, width, column in zip(line, widths, columns, strict=True)
            ]
            self.stream.write("  ".join(parts).rstrip() + "\n")

    def raw(self, text: str) -> None:
        """A document of ours, as it is."""
        self.stream.write(text if text.endswith("\n") else text + "\n")

    def binary(self, data: bytes) -> None:
        """A picture."""
        self.stream.flush()
        self.stream.buffer.write(data)

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show that something takes its time, on a terminal."""
        if self.console is None:
            yield
            return
        from rich.text import Text

        with self.console.status(Text(safe(text))):
            yield

    def json(self, value: object) -> None:
        """A JSON document; in ASCII, so that nothing in it can do anything to a terminal."""
        self.stream.write(json.dumps(value, indent=2, default=_plain) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _console(stream: TextIO) -> Console | None:
    if not stream.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, markup=False, highlight=False, emoji=False)


def ellipsis(text: str, most: int) -> str:
    """A text of so many characters at most."""
    return text if len(text) <= most else text[: most - 1] + "…"
