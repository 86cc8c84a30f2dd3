"""Finds a place for every state, line and label.

The way to the end runs down the middle, in a band for each phase; failures stand to the right of the states that they
come from; what skips states or leads back runs on the outside, in lanes. What is true of every upload is drawn once,
below. A bare chain is folded into two columns. All of it is computed from the rows, so that any part of the table, or
another table, finds its places too; labels go where they cover nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from attrs import define, field

from ..lifecycle import Kind, Phase, Row, State
from ..tasks import UploadTask
from .shapes import Box, Line, Link, Note, Point, Run, Words, note_at, wrapped
from .views import START, Group, Reading, actors, clean, grouped, heading, rows_taken

__all__: list[str] = []

RING: Final = 4.0
"""Between the two outlines of a state."""

_WIDTH: Final = 156.0
_MARGIN: Final = 14.0
_GUTTER: Final = 70.0
_LANE: Final = 18.0
_FIRST: Final = 24.0
"""From a column of states to the first lane."""
_AROUND: Final = 1.0
"""Room around a label."""
_NOTHING: Final = 0.02
"""An area that nobody sees."""
_PATIENCE: Final = 8
"""How often more slack is tried."""
_HEAD: Final = 430.0
"""Width of the words at the top."""
_PLACES: Final = tuple(sorted((step / 48 for step in range(4, 45)), key=lambda place: abs(place - 0.5)))
"""Where along a line a label may be, the middle first."""


@define(eq=False)
class Sheet:
    """The drawing of some rows: where everything is, and what it looks like.

    Attributes:
        reading: What is drawn.
        task: Whose way is shown, if any.
        title: Instead of the usual one.
        boxes: The states.
        bands: The phases.
        links: The lines.
        any_box: Stands for every state.
        notes: Words beside states and lines.
        samples: The lines of the legend.
        width: Of the sheet.
        height: Of the sheet.
    """

    reading: Reading
    task: UploadTask | None = None
    title: str | None = None
    boxes: dict[State, Box] = field(factory=dict, init=False)
    bands: list[tuple[Phase, Box]] = field(factory=list, init=False)
    links: list[Link] = field(factory=list, init=False)
    any_box: Box | None = field(default=None, init=False)
    notes: list[Note] = field(factory=list, init=False)
    samples: list[tuple[Kind, list[Point]]] = field(factory=list, init=False)
    width: float = field(default=0.0, init=False)
    height: float = field(default=0.0, init=False)
    _cells: dict[State, tuple[int, int]] = field(factory=dict, init=False)
    _steps: dict[str, list[int]] = field(factory=dict, init=False)
    _visited: frozenset[State] = field(default=frozenset(), init=False)

    _slack: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        if self.task is not None:
            words = {word for event in self.task.history for word in (event.source, event.dest)}
            self._visited = frozenset(state for state in State if state in words or state is self.task.state)
        for self._slack in range(_PATIENCE):
            if self._arrange():
                break

    def _arrange(self) -> bool:
        """Find a place for everything, with more slack than the time before; whether the labels cover nothing."""
        for found in (self.boxes, self.bands, self.links, self.notes, self.samples, self._cells, self._steps):
            found.clear()
        if self.task is not None:
            for number, step in enumerate(rows_taken(self.task, self.reading.rows), 1):
                self._steps.setdefault(step, []).append(number)
        bundles: dict[tuple[State, State, Kind], list[Row]] = defaultdict(list)
        for row in self.reading.moves:
            assert row.dest is not None
            bundles[row.source, row.dest, row.kind].append(row)
        for (source, dest, _), rows in bundles.items():
            link = Link(tuple(rows), source, dest, taken=any(row.id in self._steps for row in rows))
            self._say(link, 160.0)
            self.links.append(link)
        spine = _spine(self.reading)
        way = [(link.source, link.dest) for link in self.links if link.kind is Kind.PROGRESS]
        bare = len(way) == len(self.links) and sorted(way) == sorted(pairwise(spine))
        top = self._head()
        if bare and set(spine) == set(self.reading.live) and spine[0].phase is not spine[-1].phase:
            self._fold(spine, top)
        else:
            self._stand(spine, top)
        self._end()
        for link in sorted(self.links, key=lambda link: (len(link.points), link.source is None)):
            self._place(link)
        self._legend()
        return not any(self.is_crowded(link) for link in self.links)

    # ── looks ─────────────────────────────────────────────────────────────────────────────────────────────

    def is_here(self, state: State) -> bool:
        """Whether the task is in this state."""
        return self.task is not None and self.task.state is state

    def is_dim(self, state: State) -> bool:
        """Whether the task never was in this state."""
        return self.task is not None and state not in self._visited

    def is_ringed(self, state: State) -> bool:
        """Whether the state has a double outline."""
        return self.reading.kind(state) in ("goal", "end")

    def is_square(self, state: State) -> bool:
        """Whether the state has square corners."""
        return self.reading.kind(state) == "failure"

    def colours(self, state: State) -> tuple[str, str]:
        """Of outline and inside, as names of the palette."""
        kind = {"failure": "failure", "end": "end"}.get(self.reading.kind(state), "progress")
        if self.is_here(state):
            return kind, kind
        return ("faint", "node") if self.is_dim(state) else (kind, f"{kind}-fill")

    def colour(self, link: Link) -> str:
        """Of a line, as a name of the palette."""
        return "faint" if self.task is not None and not link.taken else link.kind.value

    def outline(self, state: State) -> float:
        """Width of the outline of a state."""
        return 2.6 if self.is_here(state) else 1.8 if self.task is not None and not self.is_dim(state) else 1.2

    def edge(self, state: State) -> Box:
        """Where lines end."""
        box = self.boxes[state]
        return box.grown(RING) if self.is_ringed(state) else box

    def start(self) -> tuple[Point, Point]:
        """The dot from which all begins, and where its arrow ends."""
        box = self.edge(START)
        return (box.left - 32, box.y), (box.left, box.y)

    def gone(self) -> list[Point]:
        """The way from ``remove`` to where nothing is."""
        one, other = self.edge(State.REMOVE), self.edge(State.NOTEXISTING)
        return [(one.right, one.y), (other.left, other.y)]

    # ── words ─────────────────────────────────────────────────────────────────────────────────────────────

    def words(self, state: State) -> Words:
        """Name of a state, and the steps that stay in it."""
        colour = "here" if self.is_here(state) else "muted" if self.is_dim(state) else "ink"
        rows = self.reading.inside.get(state, ())
        inside = (Run(row.trigger.value, "here" if self.is_here(state) else "muted") for row in rows)
        return Words(((Run(state.value, colour, 13, bold=True),), *wrapped(inside, _WIDTH - 16)))

    def any_words(self) -> Words:
        """The same for the box that stands for every state."""
        inside = (Run(group.row.trigger.value, "muted") for group in self.reading.stays)
        return Words(((Run("any state", "ink", 13, bold=True),), *wrapped(inside, 104.0)))

    def _say(self, link: Link, limit: float) -> None:
        """Give the line its label, no wider than this."""
        link.words = Words(tuple(line for row in link.rows for line in self._told(row, limit)))

    def _told(self, row: Row, limit: float) -> list[Line]:
        steps = self._steps.get(row.id, ())
        dim = self.task is not None and not steps
        colour = "muted" if dim else row.kind.value
        first = [Run(_counted(steps) + "  ", "ink", 11, bold=True)] if steps else []
        if row.kind is Kind.FAILURE:
            first.append(Run("× ", colour, 11, bold=True))
        first += [Run(row.trigger.value, colour, 11, bold=True), Run(f"  {actors(row.by)}", "muted", 9)]
        if dim:
            return [tuple(first)]
        guards = [Run(clean(guard, 40), "muted" if common else "ink") for guard, common in self.reading.choices(row)]
        if self.reading.otherwise(row):
            guards.append(Run("otherwise", "ink"))
        return [tuple(first), *wrapped(guards, limit)]

    def _head(self) -> float:
        title, about, message = heading(self.task, self.title)
        if self.task is None:
            about = f"{len(self.reading.rows)} rows, {len(self.reading.states)} states"
            if any(map(self.reading.otherwise, self.reading.moves)):
                about += " · guards stand below their step, preconditions in grey"
        lines: list[Line] = [_fitted(title, 18, bold=True), _fitted(about, 11)]
        failed = self.task is not None and self.reading.kind(self.task.state) == "failure"
        runs = (Run(clean(word, 40), "failure" if failed else "ink", 11) for word in message.split())
        note = note_at(_MARGIN, _MARGIN, Words((*lines, *wrapped(runs, 390.0, " "))))
        self.notes.append(note)
        return max(note.box.bottom, _MARGIN + 42) + 12

    # ── places: upright ───────────────────────────────────────────────────────────────────────────────────

    def _stand(self, spine: Sequence[State], top: float) -> None:
        """The way to the end from top to bottom, everything else beside it."""
        rows = self._beside(spine)
        flat: dict[int, list[Link]] = defaultdict(list)
        down: dict[int, Link] = {}
        ways: dict[str, list[Link]] = {"left": [], "right": [], "middle": [], "elbow": []}
        for link in self.links:
            (source, at), (dest, to) = self._ends(link)
            bend, other = (at, to) if source == 0 else (to, at)
            if source == dest == 0 and to == at + 1 and at not in down and link.kind is Kind.PROGRESS:
                down[at] = link
                self._say(link, 200.0)
            elif source == dest == 0:
                ways["left"].append(link)
                self._say(link, 84.0)
            elif source == dest:
                ways["right"].append(link)
            elif at == to:
                flat[at].append(link)
            elif rows[bend][1] is not None:
                ways["middle"].append(link)
            elif any(rows[row][1] is not None for row in range(min(bend, other) + 1, max(bend, other))):
                ways["right"].append(link)
            else:
                ways["elbow"].append(link)

        inner, outer = self._lanes(ways["left"]), self._lanes(ways["right"])
        lane_width = _LANE + 12 * self._slack
        left = _MARGIN + _GUTTER + max([0.0, *(_FIRST + lane_width * lane for lane in inner.values())])
        gap = max([100.0, *(link.words.width + 40 for links in flat.values() for link in links)]) + 16 * self._slack
        right = left + _WIDTH + gap + lane_width * len(ways["middle"])
        edge = right + _WIDTH if any(pair[1] is not None for pair in rows) else left + _WIDTH + 110 + 16 * self._slack
        self.width = edge + _MARGIN + max([16.0, *(16 + lane_width * (lane + 1) for lane in outer.values())])
        legend = 230 if len({link.kind for link in self.links}) > 1 or self.reading.ends else _MARGIN
        self.width = max(self.width, 560.0, *(note.box.right + legend for note in self.notes))

        self._heights(rows, (left, right), flat, down, top)
        for number, link in down.items():
            above, under = self.edge(spine[number]), self.edge(spine[number + 1])
            link.points = [(above.x, above.bottom), (under.x, under.top)]
        long = {link: left - _FIRST - lane_width * lane for link, lane in inner.items()}
        long |= {link: edge + 18 + lane_width * lane for link, lane in outer.items()}
        long |= {link: right - 18 - lane_width * lane for lane, link in enumerate(ways["middle"])}
        long |= self._entries(ways["elbow"])
        ports = self._ports(long)
        for link, x in long.items():
            begin, finish = ports[link, False], ports[link, True]
            (source, at), (_, to) = self._ends(link)
            if link not in ways["elbow"]:
                link.points = [begin, (x, begin[1]), (x, finish[1]), finish]
            elif source == 0:
                box = self.edge(link.dest)
                link.points = [begin, (x, begin[1]), (x, box.top if at < to else box.bottom)]
            else:
                box = self.edge(link.origin)
                link.points = [(x, box.bottom if at < to else box.top), (x, finish[1]), finish]
        self._merge(ways["left"])
        self._merge(ways["right"])

    def _beside(self, spine: Sequence[State]) -> list[list[State | None]]:
        """Rows of two cells: on the left a state of the way to the end, on the right one that is not."""
        rows: list[list[State | None]] = [[state, None] for state in spine]
        for state in self.reading.live:
            if state in spine:
                continue
            before = [link.source for link in self.links if link.dest is state]
            leading = [row for row, other in enumerate(spine) if other in before]
            related = [row for row, other in enumerate(spine) if other.phase is state.phase]
            wish = [row for row in leading if row in related] or related or leading or [len(spine)]
            free = (row for row in range(wish[0], len(rows)) if rows[row][1] is None)
            row = next(free, len(rows))
            if row == len(rows):
                rows.append([None, None])
            rows[row][1] = state
        for number, pair in enumerate(rows):
            self._cells.update({state: (column, number) for column, state in enumerate(pair) if state is not None})
        return rows

    def _heights(
        self,
        rows: Sequence[Sequence[State | None]],
        columns: tuple[float, float],
        flat: Mapping[int, list[Link]],
        down: Mapping[int, Link],
        top: float,
    ) -> None:
        """As much room as the words in and between the states need, and a band for each phase."""
        phases = [next(state.phase for state in pair if state is not None) for pair in rows]
        y = begin = top
        for number, pair in enumerate(rows):
            links = sorted(flat.get(number, ()), key=lambda link: self._cells[link.origin][0])
            spread = sum(link.words.height + 8 for link in links[1:])
            height = max(spread + 20, *(self.words(state).height + 16 for state in pair if state is not None))
            y += 15 if y == begin else 0
            y += max(0.0, links[0].words.height + 6 + spread / 2 - height / 2) if links else 0.0
            for x, found in zip(columns, pair, strict=True):
                if found is not None:
                    self.boxes[found] = Box(x, y, x + _WIDTH, y + height)
            line = y + height / 2 - spread / 2
            for link in links:
                line += link.words.height + 8 if link is not links[0] else 0
                ends = [(columns[0] + _WIDTH, line), (columns[1], line)]
                link.points = ends if self._cells[link.origin][0] == 0 else ends[::-1]
            y += height
            below = down[number].words.height if number in down else 0.0
            if number + 1 < len(rows) and phases[number + 1] is phases[number]:
                y += max(30.0, below + 19) + 6 * self._slack
            else:
                y += max(15.0, below + 17) + 6 * self._slack
                self.bands.append((phases[number], Box(_MARGIN, begin, self.width - _MARGIN, y)))
                y = begin = y + 9
        self.height = y

    def _ends(self, link: Link) -> tuple[tuple[int, int], tuple[int, int]]:
        """Column and row of both ends."""
        return self._cells[link.origin], self._cells[link.dest]

    def _span(self, link: Link) -> tuple[int, int]:
        (_, at), (_, to) = self._ends(link)
        return min(at, to), max(at, to)

    def _lanes(self, links: Sequence[Link]) -> dict[Link, int]:
        """A lane for each, the longest outside; lines that say the same share one."""
        groups: list[tuple[int, int, list[Link]]] = []
        for link in links:
            alike = [other for other in links if other.like(link)]
            if alike[0] is link:
                spans = [self._span(other) for other in alike]
                groups.append((min(first for first, _ in spans), max(last for _, last in spans), alike))
        lanes: dict[Link, int] = {}
        used: list[list[tuple[int, int]]] = []
        for first, last, alike in sorted(groups, key=lambda group: (group[1] - group[0], group[0])):
            free = (i for i, spans in enumerate(used) if all(last < a or b < first for a, b in spans))
            lane = next(free, len(used))
            if lane == len(used):
                used.append([])
            used[lane].append((first, last))
            lanes.update(dict.fromkeys(alike, lane))
        return lanes

    def _entries(self, links: Sequence[Link]) -> dict[Link, float]:
        """Where lines with one corner meet the top or bottom of a state."""
        stacks: dict[tuple[State, bool], list[Link]] = defaultdict(list)
        for link in links:
            (source, at), (_, to) = self._ends(link)
            stacks[(link.dest, at < to) if source == 0 else (link.origin, to < at)].append(link)
        entries: dict[Link, float] = {}
        for (state, _), stack in stacks.items():
            pace = min(84.0, (_WIDTH - 20) / max(1, len(stack) - 1))
            for index, link in enumerate(sorted(stack, key=lambda link: link.dest is not state)):
                entries[link] = self.boxes[state].x + (index - (len(stack) - 1) / 2) * pace
        return entries

    def _ports(self, long: Mapping[Link, float]) -> dict[tuple[Link, bool], Point]:
        """Where lines leave and reach the sides of states, in an order in which they do not cross.

        A line that goes up must start above all lines that go further out, one that goes down below them.
        """
        meeting: dict[tuple[State, bool], list[tuple[Link, bool]]] = defaultdict(list)
        for link, x in long.items():
            for state, last in ((link.origin, False), (link.dest, True)):
                meeting[state, x > self.boxes[state].x].append((link, last))
        ports: dict[tuple[Link, bool], Point] = {}
        for (state, is_right), ends in meeting.items():
            box = self.edge(state)
            side = box.right if is_right else box.left
            ranks: dict[tuple[Link, bool], tuple[bool, float]] = {}
            for link, last in ends:
                downward = self._cells[link.origin if last else link.dest][1] > self._cells[state][1]
                reach = abs(long[link] - side)
                ranks[link, last] = downward, -reach if downward else reach
            levels: list[list[tuple[Link, bool]]] = []
            for end in sorted(ends, key=ranks.__getitem__):
                before = levels[-1][0] if levels else None
                if before is not None and end[1] and before[1] and before[0].like(end[0]):
                    levels[-1].append(end)  # they come as one line
                else:
                    levels.append([end])
            pace = min(14.0, (box.height - 14) / max(1, len(levels) - 1))
            for index, level in enumerate(levels):
                y = box.y + (index - (len(levels) - 1) / 2) * pace
                ports.update(dict.fromkeys(level, (side, y)))
        return ports

    def _merge(self, links: Sequence[Link]) -> None:
        """Let lines that say the same run into one of them, a taken or the longest, which bears the label."""
        done: set[Link] = set()
        for first in links:
            alike = [link for link in links if link.like(first)]
            if first in done or len(alike) < 2:
                continue
            done.update(alike)
            main = max(alike, key=lambda link: (link.taken, self._span(link)[1] - self._span(link)[0]))
            for number, row in enumerate(main.rows):
                steps = sorted(step for link in alike for step in self._steps.get(link.rows[number].id, ()))
                if steps:
                    self._steps[row.id] = steps
            self._say(main, 84.0)
            for link in alike:
                link.told = link is main
                if link is main or link.taken:
                    continue
                (x, y), (_, towards) = link.points[1:3]
                joins = main.points[1][1]
                if not min(y, towards) < joins < max(y, towards):
                    joins = y + 10 if towards > y else y - 10
                link.points = [link.points[0], (x, y), (x, joins)]
                link.head = False

    # ── places: folded ────────────────────────────────────────────────────────────────────────────────────

    def _fold(self, spine: Sequence[State], top: float) -> None:
        """A bare chain in two columns, parted where a phase begins."""
        seams = [row for row in range(1, len(spine)) if spine[row].phase is not spine[row - 1].phase]
        seam = min(seams, key=lambda row: abs(len(spine) - 2 * row))
        columns = spine[:seam], spine[seam:]
        over = next(link for link in self.links if link.source is spine[seam - 1])
        down = [link for link in self.links if link is not over]
        for link in self.links:
            self._say(link, 60.0 if link is over else 130.0)
        height = max(self.words(state).height + 16 for state in spine)
        pitch = height + max(
            [30.0, *(link.words.height + (21 if link.origin.phase is link.dest.phase else 54) for link in down)]
        )
        tall = (max(map(len, columns)) - 1) * pitch
        before, after = 46.0, max([24.0, *(12 + link.words.width - _WIDTH / 2 for link in down)])
        x, bottom = _MARGIN + before, top + 26 + tall + height + 18
        for column in columns:
            begin = top
            for row, state in enumerate(column):
                y = top + 26 + row * (tall / max(1, len(column) - 1))
                self.boxes[state] = Box(x, y, x + _WIDTH, y + height)
                if row and state.phase is not column[row - 1].phase:
                    self.bands.append((column[row - 1].phase, Box(x - before, begin, x + _WIDTH + after, y - 35)))
                    begin = y - 26
            self.bands.append((column[-1].phase, Box(x - before, begin, x + _WIDTH + after, bottom)))
            x += _WIDTH + after + over.words.width + 30 + before
        self.width = max(x - over.words.width - 30 - before + _MARGIN, *(n.box.right + _MARGIN for n in self.notes))
        self.height = bottom + 9
        for link in self.links:
            above, under = self.edge(link.origin), self.edge(link.dest)
            if link is over:
                turn = under.left - before - 12
                link.points = [(above.right, above.y), (turn, above.y), (turn, under.y), (under.left, under.y)]
            else:
                link.points = [(above.x, above.bottom), (under.x, under.top)]

    # ── places: what is true of every upload ──────────────────────────────────────────────────────────────

    def _end(self) -> None:
        ends = self.reading.ends
        if not ends:
            return
        for group in ends:  # drawn once, so counted once
            steps = sorted(step for row in group.rows for step in self._steps.get(row.id, ()))
            if steps:
                self._steps[group.row.id] = steps
        rows = tuple(row for group in ends for row in group.rows)
        link = Link(rows, None, State.REMOVE, taken=any(row.id in self._steps for row in rows))
        link.words = Words(tuple(line for group in ends for line in self._told(group.row, 150.0)))
        self.links.append(link)
        height = max(self.any_words().height, self.words(State.REMOVE).height) + 16
        top, left, right = self.height, _MARGIN + _GUTTER, self.width - _MARGIN - 20
        y = top + 14 + max(0.0, link.words.height + 5 - height / 2)
        x = left + 120 + (right - left - 3 * 120) * 0.65
        self.any_box = Box(left, y, left + 120, y + height)
        self.boxes[State.REMOVE] = Box(x, y, x + 120, y + height)
        self.boxes[State.NOTEXISTING] = Box(right - 120, y, right, y + height)
        link.points = [(self.any_box.right, self.any_box.y), (x - RING, self.any_box.y)]
        bottom = y + height + 12
        for group in ends:
            if exception := group.exception(self.reading.live):
                runs = [Run(word, "muted", 9) for word in f"{group.row.trigger}: {exception}".split()]
                note = note_at(left, bottom, Words(tuple(wrapped(runs, right - left, " "))))
                self.notes.append(note)
                bottom = note.box.bottom + 8
        self.bands.append((Phase.END, Box(_MARGIN, top, self.width - _MARGIN, bottom)))
        self.height = bottom + 9

    # ── labels ────────────────────────────────────────────────────────────────────────────────────────────

    def obstacles(self) -> Iterator[Box]:
        """What no label may cover."""
        yield from (box.grown(2) for box in self.boxes.values())
        if self.any_box is not None:
            yield self.any_box.grown(2)
        for link in self.links:
            yield from (segment.grown(4) for segment in link.segments())
            if link.label is not None:
                yield link.label.box.grown(_AROUND)
        for _, box in self.bands:
            yield Box(box.left, box.top - 2, box.right, box.top + 2)
            yield Box(box.left, box.bottom - 2, box.right, box.bottom + 2)
            yield Box(box.left - 2, box.top, box.left + 2, box.bottom)
            yield Box(box.right - 2, box.top, box.right + 2, box.bottom)
            yield Box(box.left, box.top, box.left + _GUTTER - 10, box.top + 20)

    def is_crowded(self, link: Link) -> bool:
        """Whether the label of a line covers something, or something covers it."""
        if link.label is None:
            return False
        others = list(self.obstacles())
        others.remove(link.label.box.grown(_AROUND))
        return self._covered(link.label, others) > _NOTHING

    def _covered(self, note: Note, others: Iterable[Box]) -> float:
        """The area that a label covers of what it must not cover, and that it has beyond the sheet."""
        box = note.box
        beyond = box.width * box.height - box.overlap(Box(_MARGIN, 0, self.width - _MARGIN, self.height))
        left, top, right, bottom = box.left, box.top, box.right, box.bottom
        near = (o for o in others if o.left < right and o.right > left and o.top < bottom and o.bottom > top)
        return beyond + sum(box.overlap(other) for other in near)

    def _place(self, link: Link) -> None:
        """Put the label where it covers nothing, or else as little as can be."""
        if not link.told:
            return
        others = list(self.obstacles())
        best = float("inf")
        for note in self._candidates(link):
            covered = self._covered(note, others)
            if covered < best - _NOTHING:
                best, link.label = covered, note
            if best <= _NOTHING:
                break

    def _candidates(self, link: Link) -> Iterator[Note]:
        width, height = link.words.width, link.words.height
        for segment in sorted(link.segments(), key=lambda s: (s.height < height, -s.height, -s.width)):
            for place in _PLACES:
                if segment.width == 0:
                    x, y = segment.x, segment.top + segment.height * place - height / 2
                    right = Note(Box(x + 7, y, x + 7 + width, y + height), link.words, "left")
                    left = Note(Box(x - 7 - width, y, x - 7, y + height), link.words, "right")
                    yield from (left, right) if len(link.points) > 2 and x > self.width / 3 else (right, left)
                else:
                    x, y = segment.left + segment.width * place - width / 2, segment.y
                    yield Note(Box(x, y - 4 - height, x + width, y - 4), link.words, "center")
                    yield Note(Box(x, y + 4, x + width, y + 4 + height), link.words, "center")

    # ── legend ────────────────────────────────────────────────────────────────────────────────────────────

    def _legend(self) -> None:
        """Kinds of lines in the upper right corner, steps that stay in their state at the bottom."""
        names = {Kind.PROGRESS: "progress", Kind.FAILURE: "× failure", Kind.REPAIR: "repair", Kind.END: "removal"}
        kinds = [kind for kind in names if any(link.kind is kind for link in self.links)]
        for index, kind in enumerate(reversed(kinds if len(kinds) > 1 else [])):
            x, y = self.width - _MARGIN - 92 - 104 * (index // 2), _MARGIN + 26 - 17 * (index % 2)
            self.samples.append((kind, [(x, y + 6), (x + 34, y + 6)]))
            self.notes.append(note_at(x + 41, y, Words(((Run(names[kind], "muted"),),))))
        groups = grouped(row for row in self.reading.rows if row.dest is None)
        if groups:
            title = Words(((Run("Steps that stay in their state", "ink", 11, bold=True),),))
            self.notes.append(note_at(_MARGIN, self.height + 2, title))
            x, y = _MARGIN, self.height + 20
            for group in groups:
                words = Words((self._flat(group),))
                if x > _MARGIN and x + words.width > self.width - _MARGIN:
                    x, y = _MARGIN, y + 16
                self.notes.append(note_at(x, y, words))
                x += words.width + 20
            self.height = y + 18
        self.height += _MARGIN - 4

    def _flat(self, group: Group) -> Line:
        """A step and its guards on one line."""
        steps = sorted(step for row in group.rows for step in self._steps.get(row.id, ()))
        if steps:
            self._steps[group.row.id] = steps
        first, *others = self._told(group.row, float("inf"))
        if group in self.reading.stays:
            others.append((Run("in every state", "muted", 9),))
        return tuple(run for line in (first, *((Run("  ", "muted"), *line) for line in others)) for run in line)


def _counted(steps: Sequence[int]) -> str:
    """The numbers of steps, of many the first and last."""
    return ",".join(map(str, steps if len(steps) < 5 else (*steps[:2], "…", steps[-1])))


def _fitted(text: str, size: int, *, bold: bool = False) -> Line:
    """A line that leaves room for the legend: smaller if need be, and then cut."""
    ink = "ink" if bold else "muted"
    while size > 11 and Run(text, ink, size, bold).width > _HEAD:
        size -= 1
    while Run(text, ink, size, bold).width > _HEAD:
        text = clean(text, len(text) - 1)
    return (Run(text, ink, size, bold),)


def _spine(reading: Reading) -> list[State]:
    """The states that are no failures: the longest way from the start by rows of progress, then what is beside it."""
    onward: dict[State, list[State]] = defaultdict(list)
    for row in reading.moves:
        if row.kind is Kind.PROGRESS and row.dest is not None and reading.kind(row.dest) != "failure":
            onward[row.source].append(row.dest)

    def longest(path: list[State]) -> list[State]:
        return max((longest([*path, s]) for s in onward[path[-1]] if s not in path), key=len, default=path)

    spine = longest([START])
    while left := [s for s in reading.live if s not in spine and reading.kind(s) != "failure"]:
        spine = max((longest([*spine, state]) for state in left), key=len)
    return spine
