"""Words, boxes, lines and colours: what a drawing is made of. Lengths are points of 1/72 inch, y grows downwards."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from attrs import define, field, frozen

from ..lifecycle import Kind, Row, State

__all__: list[str] = []

Theme: TypeAlias = Literal["light", "dark"]
"""For which background the colours are."""

PALETTES: Final[Mapping[Theme, Mapping[str, str]]] = {
    "light": {
        "paper": "#ffffff", "ink": "#1c2128", "muted": "#59636e", "faint": "#a3adb8",
        "band": "#f5f7f9", "rim": "#d5dce3", "node": "#ffffff", "here": "#ffffff",
        "progress": "#0a61a9", "failure": "#c2350c", "repair": "#007355", "end": "#59626c",
        "progress-fill": "#e8f2fc", "failure-fill": "#fdece6", "end-fill": "#e9ecef",
    },
    "dark": {
        "paper": "#0d1117", "ink": "#e9eef4", "muted": "#9aa5b1", "faint": "#5b6572",
        "band": "#151b23", "rim": "#2f3742", "node": "#0d1117", "here": "#0d1117",
        "progress": "#62b0f5", "failure": "#ff8560", "repair": "#3fd0a4", "end": "#98a3ae",
        "progress-fill": "#102c47", "failure-fill": "#42180c", "end-fill": "#262c34",
    },
}  # fmt: skip
"""Colours by what they mean. The colour-blind can tell the hues apart, and nothing is told by hue alone: failures have
square corners and a cross, repairs are dashed, ends are dotted and double-ringed.
Source: after Okabe and Ito, https://jfly.uni-koeln.de/color/, with a contrast of 4.5 and more for words."""

DASHES: Final[Mapping[Kind, str]] = {
    Kind.PROGRESS: "solid",
    Kind.FAILURE: "solid",
    Kind.REPAIR: "dashed",
    Kind.END: "dotted",
}
"""Graphviz's names of lines."""

HEADS: Final[Mapping[Kind, str]] = {
    Kind.PROGRESS: "normal",
    Kind.FAILURE: "normal",
    Kind.REPAIR: "empty",
    Kind.END: "vee",
}
"""Graphviz's names of arrowheads."""

ARROW: Final = 7.5
"""Length of an arrowhead."""


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Run:
    """Words in one style; ``colour`` is a name of the palette. Graphviz knows whole sizes only."""

    text: str
    colour: str
    size: int = 10
    bold: bool = False

    @property
    def width(self) -> float:
        """About; fonts differ."""
        return sum(map(_advance, self.text)) * self.size * (1.13 if self.bold else 1.0)


Line: TypeAlias = "tuple[Run, ...]"

_ADVANCES: Final[Mapping[str, float]] = {
    **dict.fromkeys("ijlI|'", 0.30),
    **dict.fromkeys(" .,:;/·!()[]", 0.40),
    **dict.fromkeys("frt-", 0.42),
    **dict.fromkeys("scz_", 0.55),
    **dict.fromkeys("w", 0.83),
    **dict.fromkeys("mMW@%—…", 1.0),
}


def _advance(char: str) -> float:
    """How wide a character is, in ems: as in DejaVu Sans, which is wider than what most readers have."""
    if char in _ADVANCES:
        return _ADVANCES[char]
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    return 0.7 if char.isupper() else 0.64


def width_of(line: Line) -> float:
    """How wide a line is."""
    return sum(run.width for run in line)


def height_of(line: Line) -> float:
    """How high a line is."""
    return max(run.size for run in line) * 1.24


@frozen
class Words:
    """Lines of text, one below the other."""

    lines: tuple[Line, ...] = ()

    @property
    def width(self) -> float:
        """Of the longest line."""
        return max(map(width_of, self.lines), default=0.0)

    @property
    def height(self) -> float:
        """Of all lines."""
        return sum(map(height_of, self.lines))


def wrapped(runs: Iterable[Run], limit: float, separator: str = " · ") -> list[Line]:
    """As few lines as the limit allows, and these of about the same length."""
    runs = list(runs)
    lines = tried = _filled(runs, limit, separator)
    while len(lines) > 1 and len(tried) == len(lines) and limit > 0:
        lines = tried
        limit -= 4
        tried = _filled(runs, limit, separator)
    return lines


def _filled(runs: Iterable[Run], limit: float, separator: str) -> list[Line]:
    lines: list[Line] = []
    for run in runs:
        between = Run(separator, "faint", run.size)
        if lines and width_of(lines[-1]) + between.width + run.width <= limit:
            lines[-1] = (*lines[-1], between, run)
        else:
            lines.append((run,))
    return lines


# ── places ────────────────────────────────────────────────────────────────────────────────────────────────────

Point: TypeAlias = "tuple[float, float]"
Align: TypeAlias = Literal["left", "center", "right"]


@frozen
class Box:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def x(self) -> float:
        """Of the middle."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """Of the middle."""
        return (self.top + self.bottom) / 2

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top

    def grown(self, by: float) -> Box:
        """Larger on all sides."""
        return Box(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return across * down if across > 0 and down > 0 else 0.0


@frozen
class Note:
    """Words in their place."""

    box: Box
    words: Words
    align: Align = "left"


def note_at(x: float, y: float, words: Words) -> Note:
    """Words with their upper left corner there."""
    return Note(Box(x, y, x + words.width, y + words.height), words)


@define(eq=False)
class Link:
    """A line from state to state: rows of one kind between the same two.

    Attributes:
        rows: What it stands for.
        source: Where it starts; ``None`` for any state.
        dest: Where it ends.
        taken: Whether the task went this way.
        words: Its label.
        points: Corners of its way; each lies straight above, below or beside the one before.
        head: Whether it ends in an arrow; else it runs into a line that says the same.
        told: Whether its label is drawn; else that line bears it.
        label: Where.
    """

    rows: tuple[Row, ...]
    source: State | None
    dest: State
    taken: bool = False
    words: Words = Words()
    points: list[Point] = field(factory=list)
    head: bool = True
    told: bool = True
    label: Note | None = None

    @property
    def kind(self) -> Kind:
        """Of all its rows."""
        return self.rows[0].kind

    @property
    def origin(self) -> State:
        """Where it starts, for those that start in one state."""
        assert self.source is not None
        return self.source

    def segments(self) -> Iterator[Box]:
        """Its straight pieces."""
        for (x0, y0), (x1, y1) in pairwise(self.points):
            yield Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))

    def like(self, other: Link) -> bool:
        """Whether two lines lead to the same state and say the same."""
        said, also = ([(row.trigger, row.guards, row.by) for row in link.rows] for link in (self, other))
        return self.dest is other.dest and self.kind is other.kind and said == also


def curve(points: Sequence[Point], *, head: bool) -> tuple[list[Point], Point | None]:
    """A way with round corners as the control points of Bézier curves, and the tip of its arrow."""
    (x, y), tip = points[-2:]
    corners = list(points)
    if head:
        dx, dy = (tip[0] > x) - (tip[0] < x), (tip[1] > y) - (tip[1] < y)
        corners[-1] = tip[0] - dx * ARROW, tip[1] - dy * ARROW
    at = corners[0]
    path = [at]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        radius = min(9.0, _distance(before, corner) / 2, _distance(corner, after) / 2)
        enter = _between(corner, before, radius / max(_distance(corner, before), 0.01))
        leave = _between(corner, after, radius / max(_distance(corner, after), 0.01))
        path += [_between(at, enter, 1 / 3), _between(at, enter, 2 / 3), enter]
        path += [_between(enter, corner, 0.55), _between(leave, corner, 0.55), leave]
        at = leave
    path += [_between(at, corners[-1], 1 / 3), _between(at, corners[-1], 2 / 3), corners[-1]]
    return path, tip if head else None


def _between(one: Point, other: Point, part: float) -> Point:
    return one[0] + (other[0] - one[0]) * part, one[1] + (other[1] - one[1]) * part


def _distance(one: Point, other: Point) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
