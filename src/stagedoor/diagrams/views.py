"""Which rows are shown, and what emitters want to know of them."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import evolve, field, frozen

from ..errors import ConfigurationError
from ..lifecycle import ROWS, By, Kind, Phase, Row, State, Trigger, ladders
from ..tasks import UploadTask

__all__ = ["assuming", "content_path", "happy_path", "rows_taken"]

START: Final = State.WAITFORCHUNK
ANY: Final = "anystate"
"""Stands for every state in charts that draw once what is true of every upload."""


# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────


def assuming(rows: Iterable[Row] = ROWS, **answers: bool) -> tuple[Row, ...]:
    """The rows that are left when the answers of some guards are known: ``assuming(has_artwork_step=False)``.

    Rows that need another answer go, rows below one that is now always taken first go, and so does everything that
    can no longer be reached. The rows that stay are without the guards that need not be asked.
    """
    left: list[Row] = []
    for row in rows:
        if all(answers.get(guard, True) for guard in row.guards):
            left.append(evolve(row, guards=tuple(guard for guard in row.guards if guard not in answers)))
    kept: list[Row] = []
    for ladder in ladders(left).values():
        for place, row in enumerate(ladder):
            if not any(set(above.guards) <= set(row.guards) for above in ladder[:place]):
                kept.append(row)
    reached = _reached(kept)
    chosen = {row.id for row in kept if row.source in reached}
    return tuple(row for row in left if row.id in chosen)


def content_path(*, has_artwork: bool, rows: Iterable[Row] = ROWS) -> tuple[Row, ...]:
    """The life of an upload whose content type makes artwork, or makes none."""
    return assuming(rows, has_artwork_step=has_artwork)


def happy_path(rows: Iterable[Row] = ROWS) -> tuple[Row, ...]:
    """The way from the first chunk to the end when nothing goes wrong and nobody has second thoughts."""
    good = [row for row in rows if row.kind is Kind.PROGRESS]
    reached = _reached(good)
    return tuple(row for row in good if row.source in reached)


def rows_taken(task: UploadTask, rows: Iterable[Row] = ROWS) -> tuple[str, ...]:
    """Ids of the rows that a task's history tells of, in the order in which they were taken.

    What none of the rows allows is left out: ``create``, ``recover``, and steps of an older table.
    """
    known = {row.id for row in rows}
    steps = (f"{e.trigger}:{e.source}:{'internal' if e.source == e.dest else e.dest}" for e in task.history)
    return tuple(step for step in steps if step in known)


def _reached(rows: Iterable[Row]) -> set[State]:
    onward: dict[State, set[State]] = defaultdict(set)
    for row in rows:
        onward[row.source].add(row.dest or row.source)
    found, todo = {START}, [START]
    while todo:
        new = onward[todo.pop()] - found
        found |= new
        todo += new
    return found


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Group:
    """Rows that differ in nothing but the state they start from."""

    rows: tuple[Row, ...]

    @property
    def row(self) -> Row:
        """One for all."""
        return self.rows[0]

    @property
    def ids(self) -> str:
        """Of all, with spaces between."""
        return " ".join(row.id for row in self.rows)

    def exception(self, live: Sequence[State]) -> str:
        """From which states, in words; empty when from all."""
        sources = [row.source for row in self.rows]
        missing = [state for state in live if state not in sources]
        if not missing:
            return ""
        return "not from " + ", ".join(missing) if len(missing) < len(sources) else "only from " + ", ".join(sources)


def grouped(rows: Iterable[Row]) -> tuple[Group, ...]:
    """The rows, those together that differ in their source only."""
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.trigger, row.dest, row.guards, row.before, row.kind, row.by, row.doc].append(row)
    return tuple(Group(tuple(group)) for group in groups.values())


@frozen
class Reading:
    """What emitters want to know of some rows.

    Attributes:
        rows: All of them.
        states: Those that the rows name, in the order of `State`; beside ``remove`` also ``notexisting``.
        live: Those that an upload can leave.
        moves: Rows that lead from one live state to another.
        inside: Rows that stay, by state, but those that are the same in every state.
        anywhere: Rows that stay and are the same in every state, and rows that lead to the end.
        failures: States entered when something went wrong.
        goals: States in which nothing is left to do.
    """

    rows: tuple[Row, ...]
    states: tuple[State, ...]
    live: tuple[State, ...]
    moves: tuple[Row, ...]
    inside: Mapping[State, tuple[Row, ...]]
    anywhere: tuple[Group, ...]
    failures: frozenset[State]
    goals: frozenset[State]
    _ladders: Mapping[tuple[Trigger, State], tuple[Row, ...]] = field(alias="ladders")

    @property
    def stays(self) -> tuple[Group, ...]:
        """Steps that every state allows and none is left by."""
        return tuple(group for group in self.anywhere if group.row.dest is None)

    @property
    def ends(self) -> tuple[Group, ...]:
        """Steps that lead to the end."""
        return tuple(group for group in self.anywhere if group.row.dest is not None)

    def choices(self, row: Row) -> tuple[tuple[str, bool], ...]:
        """The row's guards, each with whether it is a precondition of the whole ladder."""
        ladder = self._ladders[row.trigger, row.source]
        common = set(ladder[-1].guards) if len(ladder) > 1 else set()
        return tuple((guard, guard in common) for guard in row.guards)

    def otherwise(self, row: Row) -> bool:
        """Whether the row is the one that is taken when those above it are not."""
        ladder = self._ladders[row.trigger, row.source]
        return len(ladder) > 1 and ladder[-1].id == row.id

    def kind(self, state: State) -> str:
        """``ordinary``, ``failure``, ``goal`` or ``end``."""
        if state.phase is Phase.END:
            return "end"
        return "failure" if state in self.failures else "goal" if state in self.goals else "ordinary"


def read(rows: Iterable[Row]) -> Reading:
    """Read rows that may be part of a table only.

    Raises:
        ConfigurationError: A row leaves or enters a state that no row can.
    """
    rows = tuple(rows)
    named = {START} | {row.source for row in rows} | {row.dest for row in rows if row.dest is not None}
    for row in rows:
        if row.source.phase is Phase.END or row.dest is State.NOTEXISTING:
            raise ConfigurationError(f"{row.id} cannot be drawn: {row.source.phase.value} states are not left or told.")
    if State.REMOVE in named:
        named.add(State.NOTEXISTING)
    states = tuple(state for state in State if state in named)
    live = tuple(state for state in states if state.phase is not Phase.END)
    stays = grouped(row for row in rows if row.dest is None)
    everywhere = tuple(group for group in stays if len(live) > 1 and {row.source for row in group.rows} == set(live))
    common = {row.id for group in everywhere for row in group.rows}
    moves = tuple(row for row in rows if row.dest is not None and row.dest is not State.REMOVE)
    failures = frozenset(row.dest for row in moves if row.dest is not None and row.kind is Kind.FAILURE)
    onward = {row.source for row in moves if row.kind is Kind.PROGRESS}
    return Reading(
        rows=rows,
        states=states,
        live=live,
        moves=moves,
        inside={s: tuple(r for r in rows if r.source is s and r.dest is None and r.id not in common) for s in live},
        anywhere=(*everywhere, *grouped(row for row in rows if row.dest is State.REMOVE)),
        failures=failures,
        goals=frozenset(state for state in live if state not in failures and state not in onward),
        ladders=ladders(rows),
    )


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────


def heading(task: UploadTask | None, title: str | None = None) -> tuple[str, str, str]:
    """Title, subtitle and message, each clean and on one line."""
    if task is None:
        return clean(title or "The life of an upload", 60), "", ""
    about = " · ".join(filter(None, (task.contenttype, task.state.value, task.sourcefilename)))
    return clean(title or task.id, 48) or "?", clean(about, 80), clean(task.message or "", 300)


def clean(text: str, limit: int) -> str:
    """One line that every format and font can hold: no control characters, no half characters, not too long.

    Source: XML 1.0, section 2.2, has no control characters and no surrogates, not even escaped; marks that turn the
    direction of writing around could make a picture say something else.
    """
    kept = []
    for char in text:
        category = unicodedata.category(char)
        if category in ("Cs", "Cn", "Co"):
            kept.append("\N{REPLACEMENT CHARACTER}")
        elif category != "Cf":
            kept.append(" " if category in ("Cc", "Zl", "Zp") else char)
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def name(word: str) -> str:
    """A guard or callback, which must be a name: it stands where other text would need escapes, or be run.

    Raises:
        ConfigurationError: It is none.
    """
    if not word.isidentifier():
        raise ConfigurationError(f"{clean(word, 40)!r} is no name for a guard or callback.")
    return word


def actors(by: Iterable[By]) -> str:
    """Who may fire a row."""
    return "/".join(by)


def label(reading: Reading, row: Row) -> str:
    """What a row says, on one line; a failure and a repair begin with a sign."""
    guards = [name(guard) for guard in row.guards]
    if reading.otherwise(row):
        guards.append("otherwise")
    sign = {Kind.FAILURE: "✗ ", Kind.REPAIR: "↺ "}.get(row.kind, "")
    condition = f" [{', '.join(guards)}]" if guards else ""
    return f"{sign}{row.trigger}{condition} ({actors(row.by)})"
