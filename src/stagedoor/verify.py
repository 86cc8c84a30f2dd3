"""Proof that a life cycle is what it should be: every case, every row, and every small mistake in the table.

`verify` puts the table (`stagedoor.lifecycle.ROWS`, or one of your own) on trial:

* **Cases.** Every state × every trigger × every answer of the guards that matter there is fired through the machine
  that `build_machine` makes, on a model of facts without I/O, and compared with an *oracle*: a second, hand-written
  statement of the life cycle. `specification` is the one for ``ROWS``; it is written from the contract and shares
  nothing with the table but the names.
* **Rows.** Every row is taken at least once.
* **Structure.** What `lifecycle.check` finds; what `due` names has rows; who may fire what; what kinds promise.
* **Mutants.** Thousands of tables with one mistake each. Each must fail one of the checks above (*killed*), or be the
  same table written in another order (*equivalent*). All others are *survivors*: mistakes that could be made in the
  table and nobody would notice.

For a life cycle of your own, write an oracle; without one, the table is judged by its structure, and its mutants by
what it does itself::

    report = verify(rows, states=(State.WAITFORCHUNK, ...), oracle=None, due=None)
    assert report.ok, report.problems + report.survivors

`replay` fires the history of a stored upload once more.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise, product
from typing import Any, Final, TypeAlias

import attrs
from attrs import field, frozen
from transitions import Machine, MachineError

from .errors import ConfigurationError
from .lifecycle import (
    DEADLINE_STATES,
    ROWS,
    STORED_STATES,
    By,
    Facts,
    Kind,
    Phase,
    Row,
    Standing,
    State,
    Trigger,
    build_machine,
    check,
    due,
    ladders,
    machine,
)
from .tasks import Event, UploadTask

__all__ = [
    "NO_ROW",
    "Case",
    "Model",
    "Mutant",
    "Oracle",
    "Outcome",
    "Report",
    "Tally",
    "cases",
    "mutants",
    "recorded",
    "replay",
    "specification",
    "structure",
    "verify",
]

NO_ROW: Final = "no row"
"""The refusal when the table has no row for a trigger in a state."""

Key: TypeAlias = tuple[Trigger, State]
Due: TypeAlias = Callable[[Facts], Trigger | None]


@frozen
class Outcome:
    """What one event does, or must do.

    Attributes:
        state: The state afterwards.
        refusal: ``None`` when a row is taken; else the guard that says no, or `NO_ROW`.
        before: The callbacks that are called, in their order.
        kind: Of the row that is taken.
        by: Who may fire it.
    """

    state: State
    refusal: str | None = None
    before: tuple[str, ...] = ()
    kind: Kind | None = None
    by: frozenset[By] = frozenset()

    def __str__(self) -> str:
        if self.refusal == NO_ROW:
            said = "there is no row"
        elif self.refusal is not None:
            said = f"refused by {self.refusal}"
        else:
            said = f"leads to {self.state}"
        more = [*self.before, *([self.kind.value] if self.kind else []), *sorted(f"by {by}" for by in self.by)]
        return f"{said} ({', '.join(more)})" if more else said


Oracle: TypeAlias = Callable[[State, Trigger, Mapping[str, bool]], Outcome]
"""Says what must happen when a trigger fires in a state. The mapping gives the answer of each guard; the order in
which an oracle *reads* it is the order in which the table has to ask, because a slow guard must not work before a
cheap one has said yes. Only the first reading of a guard counts."""


# ── the second statement ──────────────────────────────────────────────────────────────────────────────────────


def specification(state: State, trigger: Trigger, guards: Mapping[str, bool]) -> Outcome:
    """What the contract says about the life of an upload, told by events and without the table.

    Source: the documentation of MusicDB's upload manager (task states, ``RequestRemoveUpload``,
    ``PreProcessUploadedFile``, ``IntegrateUploadedFile``), and stagedoor's rules where it is silent.
    """
    S, T = State, Trigger  # noqa: N806  # read by its words, as the table

    def to(dest: State, before: str, *by: By, kind: Kind = Kind.PROGRESS) -> Outcome:
        return Outcome(dest, None, (before,), kind, frozenset(by))

    def failed(dest: State, by: By) -> Outcome:
        return to(dest, "note_failure", by, kind=Kind.FAILURE)

    def unless(*names: str) -> Outcome | None:
        return next((Outcome(state, name) for name in names if not guards[name]), None)

    no_row = Outcome(state, NO_ROW)
    if state is S.REMOVE:  # "the task ID should no longer be considered as valid"
        return no_row

    match trigger:
        # "The upload task can be in any state", and "only the remove state gets set".
        case T.REMOVE:
            return to(S.REMOVE, "forget_wishes", By.CLIENT, kind=Kind.END)
        # What the management thread has to go on with does not expire under its hands.
        case T.EXPIRE if state not in (S.UPLOADCOMPLETE, S.STARTIMPORT, S.IMPORTARTWORK):
            return unless("deadline_passed") or to(S.REMOVE, "forget_wishes", By.TIMER, kind=Kind.END)
        # "This can be done during or after the upload process."
        case T.ANNOTATE:
            return unless("annotations_valid") or to(state, "merge_annotations", By.CLIENT)

        # While the file comes in. A complete file whose SHA-1 is wrong has failed; an incomplete one has not.
        case T.CHUNK if state is S.WAITFORCHUNK:
            return unless("chunk_fits") or to(state, "store_chunk", By.CLIENT)
        case T.DECLARE if state is S.WAITFORCHUNK:
            return unless("declaration_fits") or to(state, "adopt_declaration", By.CLIENT)
        case T.FAIL if state is S.WAITFORCHUNK:
            return failed(S.UPLOADFAILED, By.ENGINE)
        case T.COMPLETE if state is S.WAITFORCHUNK:
            if refused := unless("all_bytes_here"):
                return refused
            if guards["checksum_matches"]:
                return to(S.UPLOADCOMPLETE, "seal_file", By.ENGINE)
            return failed(S.UPLOADFAILED, By.ENGINE)

        # Slow work happens wherever the management thread goes on, or an import may be taken back: not in the
        # three failures before the library. Who ends a step must hold it.
        case T.BEGIN if state not in (S.UPLOADFAILED, S.INVALIDCONTENT, S.INTEGRATIONFAILED):
            return unless("step_is_due", "attempts_left") or to(state, "take_step", By.WORKER)
        case T.RELEASE if state not in (S.UPLOADFAILED, S.INVALIDCONTENT, S.INTEGRATIONFAILED):
            return unless("holds_step") or to(state, "give_step_back", By.WORKER, kind=Kind.FAILURE)

        # "The task must be in uploadcomplete state, otherwise nothing happens."
        case T.PREPROCESS if state is S.UPLOADCOMPLETE:
            if refused := unless("holds_step"):
                return refused
            if guards["content_accepted"]:
                return to(S.PREPROCESSED, "adopt_content", By.WORKER)
            return failed(S.INVALIDCONTENT, By.WORKER)
        # "The upload task must be in preprocessed state. If not, nothing happens." An open question holds.
        case T.REQUEST if state is S.PREPROCESSED:
            return unless("no_open_question") or to(state, "note_request", By.CLIENT)
        case T.INTEGRATE if state is S.PREPROCESSED:
            if refused := unless("holds_step"):
                return refused
            if guards["placed_in_library"]:
                return to(S.INTEGRATED, "adopt_placement", By.WORKER)
            return failed(S.INTEGRATIONFAILED, By.WORKER)

        # "startimport: importing the integrated file started." With triggerimport the management thread asks for it.
        case T.START_IMPORT if state is S.INTEGRATED:
            return unless("no_undo_pending") or to(S.STARTIMPORT, "note_import", By.CLIENT, By.WORKER)
        # An artwork upload has no artwork of its own to make.
        case T.IMPORT if state is S.STARTIMPORT:
            if refused := unless("holds_step"):
                return refused
            if not guards["imported"]:
                return failed(S.IMPORTFAILED, By.WORKER)
            after = S.IMPORTARTWORK if guards["has_artwork_step"] else S.IMPORTCOMPLETE
            return to(after, "adopt_import", By.WORKER)
        # "importfailed: import process failed (importing the music or generating the artwork)"
        case T.IMPORT_ARTWORK if state is S.IMPORTARTWORK:
            if refused := unless("holds_step"):
                return refused
            if guards["artwork_made"]:
                return to(S.IMPORTCOMPLETE, "adopt_artwork", By.WORKER)
            return failed(S.IMPORTFAILED, By.WORKER)

        # A failure is mended by doing again what failed, from the state before it.
        case T.RETRY if state is S.UPLOADFAILED:
            return to(S.WAITFORCHUNK, "start_over", By.CLIENT, kind=Kind.REPAIR)
        case T.RETRY if state is S.INVALIDCONTENT:
            return to(S.UPLOADCOMPLETE, "forget_failure", By.CLIENT, kind=Kind.REPAIR)
        case T.RETRY if state is S.INTEGRATIONFAILED:
            return to(S.PREPROCESSED, "forget_failure", By.CLIENT, kind=Kind.REPAIR)
        case T.RETRY if state is S.IMPORTFAILED:
            repaired = to(S.STARTIMPORT, "forget_failure", By.CLIENT, kind=Kind.REPAIR)
            return unless("no_undo_pending") or repaired

        # An import is taken back where it rests. An undo that cannot be done changes nothing: no failure row.
        case T.REQUEST_UNDO if state in (S.INTEGRATED, S.IMPORTFAILED, S.IMPORTCOMPLETE):
            return unless("library_untouched") or to(state, "note_undo", By.CLIENT, kind=Kind.REPAIR)
        case T.UNDO if state in (S.INTEGRATED, S.IMPORTFAILED, S.IMPORTCOMPLETE):
            return unless("holds_step", "undone") or to(S.PREPROCESSED, "adopt_undo", By.WORKER, kind=Kind.REPAIR)
    return no_row


# ── firing ────────────────────────────────────────────────────────────────────────────────────────────────────


class _Answers(Mapping[str, bool]):
    """Answers of guards that remember who was asked, in the order of the first time.

    Args:
        known: The answers.
        curious: Say yes for a guard that is not known, to find out which ones somebody asks for.
    """

    __slots__ = ("_curious", "_known", "asked")

    def __init__(self, known: Mapping[str, bool], *, curious: bool = False) -> None:
        self._known = known
        self._curious = curious
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> bool:
        if name not in self.asked:
            self.asked.append(name)
        return self._known.get(name, True) if self._curious else self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class Model:
    """Something to fire a machine on: facts without I/O.

    Guards answer from a mapping, callbacks are written down. A name that is neither is an error, not a yes.

    Args:
        state: The state before.
        guards: The answer of each guard, asked by ``guards[name]``.
        callbacks: The names that a row may call.

    Attributes:
        state: Read and written by the machine.
        called: The callbacks, in their order.
        said_no: The last guard that said no; after a refusal the one that is to blame, because the last row of a
            ladder has the preconditions only.
    """

    __slots__ = ("_callbacks", "_guards", "called", "said_no", "state")

    def __init__(self, state: State, guards: Mapping[str, bool], callbacks: Collection[str] = ()) -> None:
        self.state = state.value
        self._guards = guards
        self._callbacks = callbacks
        self.called: list[str] = []
        self.said_no: str | None = None

    def __getattr__(self, name: str) -> Callable[[], bool | None]:
        if name in self._callbacks:
            return lambda: self.called.append(name)
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda: self._ask(name)

    def _ask(self, name: str) -> bool:
        try:
            yes = self._guards[name]
        except KeyError:
            raise ConfigurationError(f"The machine asks for {name}, which nobody here knows.") from None
        if not yes:
            self.said_no = name
        return yes


@frozen
class _Table:
    """Ladders with their machine. Cheap enough to be made for every mutant, of the ladders that it touches."""

    ladders: Mapping[Key, tuple[Row, ...]]
    machine: Machine
    callbacks: frozenset[str]

    @classmethod
    def of(cls, rows: Collection[Row]) -> _Table:
        for row in rows:  # the machine would notice when the row is taken
            if row.dest is not None and row.dest not in STORED_STATES:
                raise ConfigurationError(f"No machine can lead to {row.dest}: {row.id}.")
        return cls(ladders(rows), machine if rows is ROWS else build_machine(rows), _callbacks(rows))

    def guards(self, key: Key) -> tuple[str, ...]:
        """Every guard of a ladder, once."""
        return tuple(dict.fromkeys(name for row in self.ladders.get(key, ()) for name in row.guards))

    def fire(self, key: Key, guards: Mapping[str, bool]) -> tuple[Outcome, Row | None]:
        """Fire on a new model, and find the row that was taken by what the machine did."""
        trigger, state = key
        event = self.machine.events.get(trigger.value)
        model = Model(state, guards, self.callbacks)
        try:
            taken = event is not None and event.trigger(model)
        except MachineError:
            event = None
        if event is None:
            return Outcome(state, NO_ROW), None
        after = State(model.state)
        if not taken:
            return Outcome(after, model.said_no, tuple(model.called)), None
        dest = None if after is state else after
        row = next((row for row in self.ladders[key] if row.dest is dest), None)
        if row is None:  # a row that leads to its own source; `check` has a sentence for it
            return Outcome(after, None, tuple(model.called)), None
        return Outcome(after, None, tuple(model.called), row.kind, frozenset(row.by)), row


def _callbacks(rows: Iterable[Row]) -> frozenset[str]:
    return frozenset(name for row in rows for name in row.before)


def recorded(rows: Collection[Row] = ROWS) -> Oracle:
    """An oracle that says what a table does now. It finds changes, not mistakes.

    Raises:
        ConfigurationError: A row leads to a state that is never stored.
    """
    table = _Table.of(rows)
    return lambda state, trigger, guards: table.fire((trigger, state), guards)[0]


@frozen
class _Question:
    """What an oracle says of one case."""

    guards: Mapping[str, bool]
    must: Outcome
    reads: tuple[str, ...]


class _Questions:
    """An oracle's answers to all cases of a ladder; kept, because thousands of mutants ask for the same."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._kept: dict[tuple[Key, frozenset[str]], Sequence[_Question]] = {}

    def __call__(self, key: Key, guards: Iterable[str]) -> Sequence[_Question]:
        """All answers of the guards that a table asks and of those that the oracle reads, all yes first."""
        names = tuple(guards)
        kept = self._kept.get((key, frozenset(names)))
        if kept is None:
            kept = self._kept[key, frozenset(names)] = self._all(key, names)
        return kept

    def _all(self, key: Key, names: tuple[str, ...]) -> Sequence[_Question]:
        trigger, state = key
        found = []
        for values in product((True, False), repeat=len(names)):
            known = dict(zip(names, values, strict=True))
            answers = _Answers(known, curious=True)
            must = self._oracle(state, trigger, answers)
            if more := tuple(name for name in answers.asked if name not in known):
                return self._all(key, names + more)
            found.append(_Question(known, must, tuple(answers.asked)))
        return found


@frozen
class Case:
    """One event, fired.

    Attributes:
        trigger: What was fired.
        state: In which state.
        guards: The answers of the guards that matter there.
        does: What the table did.
        asked: The guards that the machine asked, in the order of the first time.
        must: What the oracle says.
        reads: The guards that the oracle read, likewise.
        row: Id of the row that was taken.
    """

    trigger: Trigger
    state: State
    guards: Mapping[str, bool]
    does: Outcome
    asked: tuple[str, ...]
    must: Outcome
    reads: tuple[str, ...]
    row: str | None

    @property
    def right(self) -> bool:
        """Table and oracle agree."""
        return self.does == self.must and self.asked == self.reads

    def __str__(self) -> str:
        answers = ", ".join(f"{name} {'yes' if yes else 'no'}" for name, yes in self.guards.items())
        where = f"{self.trigger} in {self.state}" + (f" with {answers}" if answers else "")
        if self.does != self.must:
            return f"{where}: the table says {self.does}, the oracle says {self.must}."
        asked, reads = (", ".join(names) or "nobody" for names in (self.asked, self.reads))
        return f"{where}: {self.does}; the table asks {asked}, the oracle {reads}."


def _fired(table: _Table, key: Key, questions: _Questions) -> Iterator[Case]:
    for question in questions(key, table.guards(key)):
        answers = _Answers(question.guards)
        does, row = table.fire(key, answers)
        yield Case(
            *key, question.guards, does, tuple(answers.asked), question.must, question.reads, row.id if row else None
        )


def cases(
    rows: Collection[Row] = ROWS, *, oracle: Oracle | None = specification, states: Collection[State] = STORED_STATES
) -> list[Case]:
    """Fire every trigger in every state with every answer of the guards that the table, or the oracle, asks there.

    Args:
        rows: The life cycle.
        oracle: What must happen; ``None`` for what the table does.
        states: The states of the life cycle.

    Returns:
        The cases in the order of states and triggers; ``2 ** n`` for a ladder with ``n`` guards.

    Raises:
        ConfigurationError: A row leads to a state that is never stored.
    """
    table, questions = _Table.of(rows), _Questions(oracle or recorded(rows))
    return [case for state in states for trigger in Trigger for case in _fired(table, (trigger, state), questions)]


# ── structure ─────────────────────────────────────────────────────────────────────────────────────────────────

_FAILURES: Final = frozenset({State.UPLOADFAILED, State.INVALIDCONTENT, State.INTEGRATIONFAILED, State.IMPORTFAILED})
_LIFE: Final = {state: place for place, state in enumerate(State)}
"""The specification lists the states in the order of an upload's life."""
_PHASES: Final = {phase: place for place, phase in enumerate(Phase)}
_WITHOUT_A_STEP: Final = frozenset({Trigger.START_IMPORT, Trigger.REMOVE})
"""What the management thread does at once, without ``begin``."""

_Wish: TypeAlias = Trigger | None
_WISHES: Final[Mapping[str, Callable[[_Wish], Collection[_Wish]]]] = {
    "note_request": lambda _: (Trigger.INTEGRATE,),
    "adopt_placement": lambda _: (Trigger.START_IMPORT, None),
    "note_import": lambda _: (None,),
    "note_undo": lambda _: (Trigger.UNDO,),
    "adopt_undo": lambda _: (None,),
    "note_failure": lambda _: (None,),
    "forget_wishes": lambda _: (None,),
    "give_step_back": lambda wish: (wish, None),
}
"""What callbacks leave on record as ``wanted``, given what was there; all others leave it alone."""


def structure(
    rows: Collection[Row] = ROWS, *, states: Collection[State] = STORED_STATES, due: Due | None = due
) -> list[str]:
    """Look for mistakes that need no oracle.

    Beyond `lifecycle.check`: kinds keep their promise (failures lead to failure states, progress forward, repairs
    back, ends to ``remove``); all rows of a ladder can be fired by the same, the timer fires what expires and nothing
    else, no client fires a failure; no name is guard and callback; and what `due` can name, in every combination of
    state and wish that events can bring about, has rows, those for beginning it and giving it back included.

    Args:
        rows: The life cycle.
        states: Its states; rows may name no others.
        due: Who tells the management thread what to do; ``None`` when there is none.

    Returns:
        A sentence for each mistake.
    """
    wrong = _checked(rows, states)
    wrong += [f"{state}: is never stored" for state in states if state not in STORED_STATES]
    table = ladders(rows)
    for row in rows:
        if row.source not in states or (row.dest is not None and row.dest not in states):
            wrong.append(f"{row.id}: names a state that the life cycle does not have")
        else:
            wrong += _kind_problems(row)
        if (By.TIMER in row.by) != (row.trigger is Trigger.EXPIRE):
            wrong.append(f"{row.id}: the timer fires what expires, and nothing else")
        if row.kind is Kind.FAILURE and By.CLIENT in row.by:
            wrong.append(f"{row.id}: a failure is not the client's to fire")
    for (trigger, source), ladder in table.items():
        if len({frozenset(row.by) for row in ladder}) > 1:
            wrong.append(f"{trigger}:{source}: who fires cannot know which row it will be, yet not all are theirs")
    guards = {name for row in rows for name in row.guards}
    wrong += [f"{name}: is a guard and a callback" for name in sorted(guards & _callbacks(rows))]
    if due is not None:
        wrong += _due_problems(table, states, due)
    if tuple(rows) == ROWS and {row.source for row in ROWS if row.trigger is Trigger.EXPIRE} != DEADLINE_STATES:
        wrong.append("DEADLINE_STATES are not the states that expire")
    return wrong


def _checked(rows: Collection[Row], states: Collection[State]) -> list[str]:
    absent = set(STORED_STATES) - set(states)
    excused = {f"{state}: {what}" for state in absent for what in ("cannot be reached", "has no way to the end")}
    return [sentence for sentence in check(rows) if sentence not in excused]


def _kind_problems(row: Row) -> Iterator[str]:
    if (row.kind is Kind.END) != (row.dest is State.REMOVE):
        yield f"{row.id}: an end leads to {State.REMOVE}, and nothing else does"
    if row.dest is None or row.dest is State.REMOVE:
        return
    if (row.kind is Kind.FAILURE) != (row.dest in _FAILURES):
        yield f"{row.id}: a failure leads to a state of failure, and nothing else does"
    ahead = _LIFE[row.dest] > _LIFE[row.source]
    if (row.kind is Kind.REPAIR and ahead) or (row.kind is Kind.PROGRESS and not ahead):
        yield f"{row.id}: progress leads forward in the life, and a repair back"
    if row.kind is not Kind.REPAIR and _PHASES[row.dest.phase] < _PHASES[row.source.phase]:
        yield f"{row.id}: leads back to the phase {row.dest.phase}, and is no repair"


def _due_problems(table: Mapping[Key, Sequence[Row]], states: Collection[State], due: Due) -> Iterator[str]:
    named: dict[Key, None] = {}
    for standing in _standings(table):
        trigger = due(standing)
        if trigger is not None and not (trigger is Trigger.REMOVE and standing.state is State.REMOVE):
            named[trigger, standing.state] = None
    for trigger, state in named:
        if (trigger, state) not in table:
            yield f"{trigger}:{state}: can be due, and has no row"
        if trigger not in _WITHOUT_A_STEP:
            for step in (Trigger.BEGIN, Trigger.RELEASE):
                if (step, state) not in table:
                    yield f"{step}:{state}: has no row, although {trigger} is a slow step that can be due there"
    for state in states:
        busy = state is not State.REMOVE and due(Standing(state, 0, None, None)) is not None
        if busy and (Trigger.EXPIRE, state) in table:
            yield f"{Trigger.EXPIRE}:{state}: there is always work to do in {state}, it cannot expire"


def _standings(table: Mapping[Key, Sequence[Row]]) -> Iterable[Standing]:
    """Every combination of state, wish and completeness (of a file of one byte) that rows can bring about."""
    leaving: dict[State, list[Row]] = {}
    for (_, source), ladder in table.items():
        leaving.setdefault(source, []).extend(ladder)
    first = Standing(State.WAITFORCHUNK, 0, 1, None)
    found, todo = {first: None}, [first]
    while todo:
        now = todo.pop()
        for row in leaving.get(now.state, ()):
            if "all_bytes_here" in row.guards and now.offset != now.filesize:
                continue
            if "no_undo_pending" in row.guards and now.wanted is Trigger.UNDO:
                continue
            for after in _after(now, row):
                if after not in found:
                    found[after] = None
                    todo.append(after)
    return found


def _after(now: Standing, row: Row) -> Iterator[Standing]:
    wishes: dict[_Wish, None] = {now.wanted: None}
    offsets: tuple[int, ...] = (now.offset,)
    for name in row.before:
        if name in _WISHES:
            wishes = {new: None for old in wishes for new in _WISHES[name](old)}
        offsets = {"store_chunk": (0, 1), "start_over": (0,)}.get(name, offsets)
    for wish, offset in product(wishes, offsets):
        yield Standing(row.dest or row.source, offset, now.filesize, wish)


# ── mutants ───────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Mutant:
    """A table with one mistake.

    Attributes:
        operator: The kind of mistake.
        sentence: Which one, for people.
        rows: The whole table.
        touched: The ladders that may behave differently.
    """

    operator: str
    sentence: str
    rows: tuple[Row, ...] = field(repr=False)
    touched: frozenset[Key]


_Edits: TypeAlias = Mapping[int, tuple[Row, ...]]
"""What stands in place of the row at each position."""
_Slip: TypeAlias = tuple[str, str, _Edits]
"""Operator, sentence, edits."""


def mutants(rows: Collection[Row] = ROWS, *, states: Collection[State] = STORED_STATES) -> Iterator[Mutant]:
    """Make the mistakes that people make in such a table, one a mutant, no table twice.

    A row is dropped, copied (above or below itself with another dest, to another state, for another trigger), led
    elsewhere, made internal or external, taken from another state, fired by another trigger, or put last; two rows of
    a ladder change places; a guard or a callback is dropped, added, replaced, or changes places with another; other
    people may fire the row; its kind changes.

    Args:
        rows: The table.
        states: Its states.
    """
    whole = tuple(rows)
    numbers: dict[Row, int] = {}
    original = [numbers.setdefault(row, len(numbers)) for row in whole]
    seen = {tuple(original)}
    for operator, sentence, edits in _slips(whole, tuple(states)):
        mutated, fingerprint = list(whole), list(original)
        touched: set[Key] = set()
        for place in sorted(edits, reverse=True):
            new = edits[place]
            touched.update((row.trigger, row.source) for row in (whole[place], *new))
            mutated[place : place + 1] = new
            fingerprint[place : place + 1] = [numbers.setdefault(row, len(numbers)) for row in new]
        if tuple(fingerprint) not in seen:
            seen.add(tuple(fingerprint))
            yield Mutant(operator, sentence, tuple(mutated), frozenset(touched))


def _slips(rows: tuple[Row, ...], states: tuple[State, ...]) -> Iterator[_Slip]:
    guards = tuple(dict.fromkeys(name for row in rows for name in row.guards))
    callbacks = tuple(dict.fromkeys(name for row in rows for name in row.before))
    last = len(rows) - 1
    for place, row in enumerate(rows):
        yield "drop row", f"{row.id} is dropped", {place: ()}
        if place != last:
            yield "put last", f"{row.id} is put at the end of the table", {place: (), last: (rows[last], row)}
        for operator, sentence, new in _row_slips(row, states, guards, callbacks):
            yield operator, f"{row.id} {sentence}", {place: new}
    places: dict[Key, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault((row.trigger, row.source), []).append(place)
    for (trigger, source), ladder in places.items():
        for above, below in combinations(ladder, 2):
            sentence = f"rows {ladder.index(above) + 1} and {ladder.index(below) + 1} of {trigger}:{source} are swapped"
            yield "swap rows", sentence, {above: (rows[below],), below: (rows[above],)}


def _row_slips(
    row: Row, states: tuple[State, ...], guards: tuple[str, ...], callbacks: tuple[str, ...]
) -> Iterator[tuple[str, str, tuple[Row, ...]]]:
    for dest in (None, *states):
        if dest is not row.dest:
            other = attrs.evolve(row, dest=dest)
            turned = "make internal" if dest is None else "make external" if row.dest is None else "change dest"
            yield turned, f"leads to {dest or 'nowhere'}", (other,)
            yield "copy with another dest", f"has a copy above that leads to {dest or 'nowhere'}", (other, row)
            yield "copy with another dest", f"has a copy below that leads to {dest or 'nowhere'}", (row, other)
    for state in states:
        if state is not row.source:
            other = attrs.evolve(row, source=state)
            yield "change source", f"starts in {state}", (other,)
            yield "copy to another source", f"has a copy that starts in {state}", (row, other)
    for trigger in Trigger:
        if trigger is not row.trigger:
            other = attrs.evolve(row, trigger=trigger)
            yield "change trigger", f"is fired by {trigger}", (other,)
            yield "copy to another trigger", f"has a copy that is fired by {trigger}", (row, other)
    for verb, sentence, names in _name_slips(row.guards, guards):
        yield f"{verb} guard", sentence, (attrs.evolve(row, guards=names),)
    for verb, sentence, names in _name_slips(row.before, callbacks):
        yield f"{verb} callback", sentence, (attrs.evolve(row, before=names),)
    for by in _by_slips(row.by):
        yield "change by", f"may be fired by {', '.join(by) or 'nobody'}", (attrs.evolve(row, by=by),)
    for kind in Kind:
        if kind is not row.kind:
            yield "change kind", f"is of the kind {kind}", (attrs.evolve(row, kind=kind),)


def _name_slips(names: tuple[str, ...], known: tuple[str, ...]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    others = [name for name in known if name not in names]
    for place, name in enumerate(names):
        above, below = names[:place], names[place + 1 :]
        yield "drop", f"drops {name}", above + below
        for other in others:
            yield "replace", f"has {other} in place of {name}", (*above, other, *below)
    for other in others:
        yield "add", f"has {other} in front", (other, *names)
        yield "add", f"has {other} at the end", (*names, other)
    for one, two in combinations(range(len(names)), 2):
        swapped = list(names)
        swapped[one], swapped[two] = names[two], names[one]
        yield "swap", f"swaps {names[one]} and {names[two]}", tuple(swapped)


def _by_slips(by: tuple[By, ...]) -> Iterator[tuple[By, ...]]:
    for one in by:
        yield tuple(other for other in by if other is not one)
    for one in By:
        if one not in by:
            yield (*by, one)
            yield (one,)
    if len(by) > 1:
        yield by[::-1]


# ── the trial ─────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Tally:
    """How the mutants of one operator fared."""

    mutants: int
    killed: int
    equivalent: int


@frozen
class Report:
    """What `verify` found.

    Attributes:
        cases: Events that were fired at the table itself.
        rows: Rows of the table.
        rows_taken: How many of them were taken at least once.
        taken: How often each row was taken, by its id.
        mutants: Tables with one mistake; 0 when the table itself is wrong, because its own mistake would kill all.
        killed: Mutants that failed a check.
        equivalent: Mutants that pass all checks because nothing of what makes a difference has changed: ladders stand
            in another order, the people who may fire a row are named in another, a guard is repeated.
        survivors: A sentence for each other mutant that passes all checks.
        killed_by: How many mutants failed which check first: ``cases``, ``rows`` (one is never taken),
            ``structure``.
        operators: The mutants by kind of mistake.
        problems: A sentence for each thing that is wrong with the table itself.
        seconds: How long it took.
    """

    cases: int
    rows: int
    rows_taken: int
    taken: Mapping[str, int] = field(repr=False)
    mutants: int
    killed: int
    equivalent: int
    survivors: tuple[str, ...]
    killed_by: Mapping[str, int]
    operators: Mapping[str, Tally] = field(repr=False)
    problems: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Nothing is wrong with the table, and no mistake in it would go unnoticed."""
        return not self.problems and not self.survivors

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "ok": self.ok,
            "cases": self.cases,
            "rows": self.rows,
            "rows_taken": self.rows_taken,
            "mutants": self.mutants,
            "killed": self.killed,
            "equivalent": self.equivalent,
            "survivors": list(self.survivors),
            "killed_by": dict(self.killed_by),
            "operators": {name: attrs.asdict(tally) for name, tally in self.operators.items()},
            "problems": list(self.problems),
            "seconds": round(self.seconds, 3),
        }


def _normal(rows: Iterable[Row]) -> Mapping[Key, Sequence[object]]:
    """What of a table can make a difference: the order of its ladders, of the people who may fire a row, and the
    repetition of a guard cannot, nor can a sentence.
    """
    return {
        key: [(r.dest, tuple(dict.fromkeys(r.guards)), r.before, r.kind, frozenset(r.by)) for r in ladder]
        for key, ladder in ladders(rows).items()
    }


@frozen
class _Court:
    """Judges mutants of one table. Only the ladders that a mutant touches can behave differently."""

    original: Mapping[Key, Sequence[object]]
    questions: _Questions
    states: Collection[State]
    due: Due | None

    def verdict(self, mutant: Mutant) -> str:
        """The check that the mutant fails first, ``equivalent``, or ``survivor``.

        Equivalence is decided by the tables and not by the checks: a check that looks away makes survivors.
        """
        table = _Table.of([row for row in mutant.rows if (row.trigger, row.source) in mutant.touched])
        taken = set()
        for key in mutant.touched:
            for case in _fired(table, key, self.questions):
                if not case.right:
                    return "cases"
                taken.add(case.row)
        if any(row.id not in taken for ladder in table.ladders.values() for row in ladder):
            return "rows"
        if structure(mutant.rows, states=self.states, due=self.due):
            return "structure"
        return "equivalent" if _normal(mutant.rows) == self.original else "survivor"


def verify(
    rows: Collection[Row] = ROWS,
    *,
    oracle: Oracle | None = specification,
    states: Collection[State] = STORED_STATES,
    due: Due | None = due,
) -> Report:
    """Put a life cycle on trial: its cases, its rows, its structure, and the mistakes that could be made in it.

    Takes some seconds, nearly all of it for the mutants. Nothing is read, written or waited for.

    Args:
        rows: The life cycle.
        oracle: A second statement of it. ``None``: there is none, the cases say only whether the table is
            deterministic, and mutants are compared with what the table does itself.
        states: The states that it has.
        due: Who tells the management thread what to do; ``None`` when there is none.
    """
    started = time.perf_counter()
    rows = tuple(rows)
    problems = structure(rows, states=states, due=due)
    fired: list[Case] = []
    try:
        own = recorded(rows)
    except ConfigurationError as error:
        problems.append(error.sentence)
    else:
        fired = cases(rows, oracle=oracle, states=states)
        problems += [str(case) for case in fired if not case.right]
        problems += _memory(fired, own)
    taken = Counter(case.row for case in fired if case.row is not None)
    times = {row.id: taken[row.id] for row in rows}
    problems += [f"{name}: is never taken" for name, number in times.items() if not number]
    verdicts: Counter[tuple[str, str]] = Counter()
    survivors = []
    if not problems:
        court = _Court(_normal(rows), _Questions(oracle or own), states, due)
        for mutant in mutants(rows, states=states):
            verdict = court.verdict(mutant)
            verdicts[mutant.operator, verdict] += 1
            if verdict == "survivor":
                survivors.append(f"Nobody notices when {mutant.sentence} ({mutant.operator}).")
    return _report(rows, fired, times, verdicts, survivors, problems, started)


def _memory(fired: Sequence[Case], own: Oracle) -> Iterator[str]:
    """Fire everything again on one machine, last first: what one upload does must not depend on another."""
    for case in reversed(fired):
        again = own(case.state, case.trigger, case.guards)
        if again != case.does:
            yield f"{case.trigger} in {case.state}: {case.does}; fired again: {again}."


def _report(
    rows: tuple[Row, ...],
    fired: Sequence[Case],
    times: Mapping[str, int],
    verdicts: Counter[tuple[str, str]],
    survivors: Sequence[str],
    problems: Sequence[str],
    started: float,
) -> Report:
    spared = ("equivalent", "survivor")
    killed_by: Counter[str] = Counter()
    operators: dict[str, Counter[str]] = {}
    for (operator, verdict), number in verdicts.items():
        fared = operators.setdefault(operator, Counter())
        fared["mutants"] += number
        fared[verdict if verdict in spared else "killed"] += number
        if verdict not in spared:
            killed_by[verdict] += number
    return Report(
        cases=len(fired),
        rows=len(rows),
        rows_taken=sum(1 for row in rows if times[row.id]),
        taken=times,
        mutants=verdicts.total(),
        killed=killed_by.total(),
        equivalent=sum(fared["equivalent"] for fared in operators.values()),
        survivors=tuple(survivors),
        killed_by=dict(killed_by),
        operators={
            operator: Tally(fared["mutants"], fared["killed"], fared["equivalent"])
            for operator, fared in operators.items()
        },
        problems=tuple(problems),
        seconds=time.perf_counter() - started,
    )


# ── history ───────────────────────────────────────────────────────────────────────────────────────────────────

_BIRTHS: Final = ("create", "recover")
"""Triggers of a first line: a new upload, and one taken over from MusicDB 7."""


def replay(task: UploadTask, rows: Collection[Row] = ROWS) -> list[str]:
    """Fire a task's history once more.

    The history must begin with ``create`` or ``recover``, each line must be a row of the table, start where the line
    before it ended, and the last must end in the task's state. Of a long history the middle is left out, which shows
    as a gap in the numbers; across a gap of ``n`` lines there must be a way of at most ``n`` rows.

    Args:
        task: An upload, as stored.
        rows: Its life cycle.

    Returns:
        A sentence for each line that cannot have happened; empty when all can.
    """
    table = _Table.of(rows)
    history = task.history
    if not history:
        return ["The history is empty; it must begin with create or recover."]
    wrong = [f"Line {line.sequence}: {problem}" for line in history if (problem := _line_problem(table, line))]
    birth = history[0]
    if birth.trigger not in _BIRTHS or birth.sequence != 1:
        wrong.insert(0, f"Line {birth.sequence}: a history begins with line 1, create or recover, not {birth.trigger}.")
    elif birth.trigger == "create" and birth.source != State.WAITFORCHUNK:
        wrong.insert(0, f"Line 1: an upload is created in {State.WAITFORCHUNK}, not in {birth.source}.")
    for before, line in pairwise(history):
        missing = line.sequence - before.sequence - 1
        if line.trigger in _BIRTHS:
            wrong.append(f"Line {line.sequence}: only the first line can be {line.trigger}.")
        if missing < 0:
            wrong.append(f"Line {line.sequence}: comes after line {before.sequence}.")
        elif not _leads(table, before.dest, line.source, missing):
            across = f" across {missing} missing line{'s' * (missing > 1)}" if missing else ""
            wrong.append(
                f"Line {line.sequence}: starts in {line.source}, but line {before.sequence} ends in {before.dest}"
                f" and nothing leads there{across}."
            )
    if history[-1].dest != task.state:
        wrong.append(f"The task is in {task.state}, but its history ends in {history[-1].dest}.")
    return wrong


def _line_problem(table: _Table, line: Event) -> str | None:
    if line.trigger in _BIRTHS:
        if line.source not in STORED_STATES:
            return f"{line.source} is no state that an upload can have."
        return None if line.source == line.dest else f"{line.trigger} leads nowhere, not to {line.dest}."
    said = f"{line.trigger} from {line.source} to {line.dest}"
    try:
        key, dest = (Trigger(line.trigger), State(line.source)), State(line.dest)
    except ValueError:
        return f"{said} names what the life cycle does not know."
    goal = None if dest is key[1] else dest
    row = next((row for row in table.ladders.get(key, ()) if row.dest is goal), None)
    if row is None:
        return f"{said} is no row."
    does, _ = table.fire(key, {name: name in row.guards for name in table.guards(key)})
    return None if does.state is dest and does.refusal is None else f"{said}: {does}."


def _leads(table: _Table, start: str, end: str, steps: int) -> bool:
    reached = {start}
    for _ in range(min(steps, len(State))):
        reached |= {
            row.dest for (_, source), ladder in table.ladders.items() if source in reached for row in ladder if row.dest
        }
    return end in reached
