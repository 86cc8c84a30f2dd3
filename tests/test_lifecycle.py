"""The table itself: what it says, what its check would notice, and that the machine does what it says."""

import importlib.util
import inspect
import logging
from collections.abc import Callable
from itertools import product
from typing import Any

import attrs
import pytest
from attrs import evolve
from transitions import MachineError

from stagedoor import lifecycle
from stagedoor.errors import ConfigurationError
from stagedoor.lifecycle import (
    CHECKED,
    DEADLINE_STATES,
    DUE_STATES,
    ROWS,
    STORED_STATES,
    By,
    Kind,
    Phase,
    Row,
    Standing,
    State,
    Trigger,
    build_machine,
    due,
    ladders,
    machine,
    row_taken,
)
from stagedoor.session import Session

THIRTEEN = (
    "waitforchunk", "uploadcomplete", "uploadfailed", "preprocessed", "invalidcontent", "integrated",
    "integrationfailed", "startimport", "importfailed", "importartwork", "importcomplete", "remove", "notexisting",
)  # fmt: skip

S, T = State, Trigger


# ── states and rows ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_states_are_the_thirteen_of_the_specification() -> None:
    assert tuple(state.value for state in State) == THIRTEEN
    assert set(STORED_STATES) == set(State) - {S.NOTEXISTING}


@pytest.mark.parametrize("state", State)
def test_every_state_has_a_sentence_and_a_phase(state: State) -> None:
    assert state.meaning.endswith(".")
    assert state.phase in Phase
    assert str(state) == state.value


def test_the_words_of_phases_kinds_and_actors() -> None:
    """Diagrams, documents and clients spell them."""
    assert [phase.value for phase in Phase] == ["upload", "content", "library", "end"]
    assert [kind.value for kind in Kind] == ["progress", "failure", "repair", "end"]
    assert [by.value for by in By] == ["client", "engine", "worker", "timer"]


def test_what_stands_behind_the_states_of_a_row_is_named() -> None:
    """Two tuples of names in a row would soon be taken for each other."""
    found = inspect.signature(Row).parameters.values()
    named = {one.name: one.default for one in found if one.kind is inspect.Parameter.KEYWORD_ONLY}
    assert [one.name for one in found][:3] == ["trigger", "source", "dest"]
    assert named == {
        "guards": (), "before": (), "kind": Kind.PROGRESS, "by": (By.CLIENT,), "doc": inspect.Parameter.empty,
    }  # fmt: skip


def test_a_table_with_mistakes_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = attrs.frozen

    def frozen(cls: type[Any]) -> type[Any]:
        made = real(cls)
        if cls.__name__ == "Row":
            made.id = property(lambda row: "this row")
        return made

    spec = importlib.util.find_spec("stagedoor.lifecycle")
    assert spec is not None
    assert spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    monkeypatch.setattr("attrs.frozen", frozen)
    says = "^The life cycle is unsound: this row: stands twice; this row: stands twice"
    with pytest.raises(ConfigurationError, match=says):
        spec.loader.exec_module(again)


def test_an_event_writes_nothing_to_the_log() -> None:
    """The machine's own lines cost six times the event."""
    assert logging.getLogger("transitions").level == logging.WARNING


def test_the_table_is_sound() -> None:
    assert lifecycle.check() == []
    assert CHECKED == []


def test_every_trigger_is_used() -> None:
    assert {row.trigger for row in ROWS} == set(Trigger)


def test_rows_have_ids_of_their_own() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row_taken(row.trigger, row.source, row.dest) is row
    assert row_taken(T.CHUNK, S.REMOVE, None) is None


def test_remove_is_left_by_nothing_and_reached_from_everywhere() -> None:
    assert not [row for row in ROWS if row.source in (S.REMOVE, S.NOTEXISTING)]
    assert {row.source for row in ROWS if row.trigger is T.REMOVE} == set(STORED_STATES) - {S.REMOVE}
    assert all(row.guards == () for row in ROWS if row.trigger is T.REMOVE)


def test_nothing_happens_without_a_state_that_is_stored() -> None:
    assert all(row.dest is not S.NOTEXISTING for row in ROWS)


def test_rows_that_end_a_life_are_in_the_end_phase() -> None:
    for row in ROWS:
        assert (row.phase is Phase.END) == (row.dest is S.REMOVE)
        assert (row.kind is Kind.END) == (row.dest is S.REMOVE)


def test_failures_lead_to_failure_states_and_each_can_be_repaired() -> None:
    failed = {S.UPLOADFAILED, S.INVALIDCONTENT, S.INTEGRATIONFAILED, S.IMPORTFAILED}
    assert {row.dest for row in ROWS if row.kind is Kind.FAILURE and row.dest} == failed
    assert {row.source for row in ROWS if row.trigger is T.RETRY} == failed


def test_artwork_of_an_upload_without_the_step_is_skipped() -> None:
    dests = [row.dest for row in ladders()[T.IMPORT, S.STARTIMPORT]]
    assert dests == [S.IMPORTARTWORK, S.IMPORTCOMPLETE, S.IMPORTFAILED]


def test_clients_cannot_fire_what_is_the_workers() -> None:
    for row in ROWS:
        if row.trigger in (T.PREPROCESS, T.INTEGRATE, T.IMPORT, T.IMPORT_ARTWORK, T.UNDO, T.BEGIN, T.RELEASE):
            assert row.by == (By.WORKER,)
        if row.trigger in (T.COMPLETE, T.FAIL):
            assert row.by == (By.ENGINE,)


def test_states_that_have_work_to_do_do_not_expire() -> None:
    assert DEADLINE_STATES.isdisjoint(DUE_STATES)
    assert set(DUE_STATES) | DEADLINE_STATES == set(STORED_STATES) - {S.REMOVE}


# ── what check() would notice ─────────────────────────────────────────────────────────────────────────────────


def first(trigger: Trigger, source: State, dest: State | None = None) -> Row:
    return next(r for r in ROWS if r.trigger is trigger and r.source is source and (dest is None or r.dest is dest))


def replaced(old: Row, **changes: Any) -> list[Row]:
    return [evolve(old, **changes) if row is old else row for row in ROWS]


def without(*rows: Row) -> list[Row]:
    return [row for row in ROWS if row not in rows]


_COMPLETE = first(T.COMPLETE, S.WAITFORCHUNK, S.UPLOADCOMPLETE)
_FAILED = first(T.COMPLETE, S.WAITFORCHUNK, S.UPLOADFAILED)
_CHUNK = first(T.CHUNK, S.WAITFORCHUNK)

_BEGIN = "chunk:waitforchunk"
_NEVER = "rows below or itself can never be taken"
_ARTWORK = first(T.IMPORT, S.STARTIMPORT, S.IMPORTARTWORK)
_IMPORTED = first(T.IMPORT, S.STARTIMPORT, S.IMPORTCOMPLETE)
_NOT_IMPORTED = first(T.IMPORT, S.STARTIMPORT, S.IMPORTFAILED)

MISTAKES: dict[str, tuple[list[Row], set[str]]] = {
    "a row twice": (
        [*ROWS, ROWS[0]],
        {f"{_BEGIN}:internal: stands twice", f"{_BEGIN}:internal: {_NEVER}",
         f"{_BEGIN}: an internal row must be alone on its ladder"},
    ),
    "a way out of remove": (
        [*ROWS, evolve(_CHUNK, source=S.REMOVE)], {"chunk:remove:internal: nothing may leave remove"},
    ),
    "a way out of nowhere": (
        [*ROWS, evolve(_CHUNK, source=S.NOTEXISTING, dest=S.WAITFORCHUNK)],
        {"chunk:notexisting:waitforchunk: nothing may leave notexisting"},
    ),
    "a way into nowhere": (
        replaced(first(T.FAIL, S.WAITFORCHUNK), dest=S.NOTEXISTING),
        {"fail:waitforchunk:notexisting: notexisting is never stored"},
    ),
    "a move that stays": (
        replaced(_CHUNK, dest=S.WAITFORCHUNK), {f"{_BEGIN}:waitforchunk: a row that stays must be internal"},
    ),
    "a row that nobody may fire": (replaced(_CHUNK, by=()), {f"{_BEGIN}:internal: nobody may fire it"}),
    "a row without a sentence": (replaced(_CHUNK, doc="Bytes"), {f"{_BEGIN}:internal: has no sentence"}),
    "a missing precondition": (
        replaced(_COMPLETE, guards=("checksum_matches",)),
        {f"{_COMPLETE.id}: misses a precondition of complete:waitforchunk"},
    ),
    "a row that shadows those below": (
        replaced(_COMPLETE, guards=("all_bytes_here",)), {f"{_COMPLETE.id}: {_NEVER}"},
    ),
    "rows in the wrong order": (
        [*without(_ARTWORK, _IMPORTED, _NOT_IMPORTED), _IMPORTED, _ARTWORK, _NOT_IMPORTED],
        {f"{_ARTWORK.id}: {_NEVER}"},
    ),
    "two rows with one choice": (replaced(_ARTWORK, guards=_IMPORTED.guards), {f"{_IMPORTED.id}: {_NEVER}"}),
    "a mistake in the last of three rows only": (
        replaced(_NOT_IMPORTED, guards=("holds_step", "imported")),
        {f"{_IMPORTED.id}: {_NEVER}"},
    ),
    "an internal row on a ladder": (
        replaced(_FAILED, dest=None), {"complete:waitforchunk: an internal row must be alone on its ladder"},
    ),
    "a state that cannot be reached": (
        without(*(row for row in ROWS if row.dest is S.IMPORTFAILED)), {"importfailed: cannot be reached"},
    ),
    "a state without a way to the end": (
        [r for r in ROWS if not (r.source is S.INTEGRATED and r.dest is not None)],
        {"integrated: has no way to the end", "startimport: cannot be reached", "importartwork: cannot be reached",
         "importfailed: cannot be reached", "importcomplete: cannot be reached"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "says"), MISTAKES.values(),
                         ids=list(MISTAKES))  # fmt: skip
def test_a_mistake_in_the_table_is_noticed(rows: list[Row], says: set[str]) -> None:
    """By its own sentence, and by no other."""
    found = lifecycle.check(rows)
    assert set(found) == says
    assert len(found) == len(says)


def test_every_way_between_states_can_be_needed() -> None:
    """Taking one row away is noticed, or leaves a table in which every state is still reached and left."""
    for row in ROWS:
        rows = without(row)
        reached = {r.dest for r in rows} | {S.WAITFORCHUNK}
        assert bool(lifecycle.check(rows)) or set(STORED_STATES) <= reached


# ── what is due ───────────────────────────────────────────────────────────────────────────────────────────────

_WISHES = (None, T.INTEGRATE, T.START_IMPORT, T.UNDO)


@pytest.mark.parametrize("state", STORED_STATES)
@pytest.mark.parametrize("wanted", _WISHES)
def test_what_is_due_in_every_state(state: State, wanted: Trigger | None) -> None:
    for offset, filesize in ((0, 10), (10, 10), (5, None)):
        found = due(Standing(state, offset, filesize, wanted))
        match state:
            case S.REMOVE:
                assert found is T.REMOVE
            case S.WAITFORCHUNK:
                assert found is (T.COMPLETE if offset == filesize else None)
            case S.UPLOADCOMPLETE:
                assert found is T.PREPROCESS
            case S.STARTIMPORT:
                assert found is T.IMPORT
            case S.IMPORTARTWORK:
                assert found is T.IMPORT_ARTWORK
            case _:
                assert found is wanted


def test_what_is_always_due_has_a_row_and_begins_as_a_step() -> None:
    for state, trigger in DUE_STATES.items():
        assert (trigger, state) in ladders()
        assert (T.BEGIN, state) in ladders()
        assert (T.RELEASE, state) in ladders()


# ── the machine ───────────────────────────────────────────────────────────────────────────────────────────────


class Dummy:
    """A model whose guards answer as told, and whose callbacks remember that they were called."""

    def __init__(self, state: State, no: frozenset[str] = frozenset()) -> None:
        self.state = state.value
        self.asked: list[str] = []
        self.called: list[str] = []
        self._no = no

    def __getattr__(self, name: str) -> Callable[[], bool | None]:
        if name in _GUARDS:
            return lambda: self._ask(name)
        if name in _CALLBACKS:
            return lambda: self.called.append(name)
        raise AttributeError(name)

    def _ask(self, name: str) -> bool:
        self.asked.append(name)
        return name not in self._no


_GUARDS = {name for row in ROWS for name in row.guards}
_CALLBACKS = {name for row in ROWS for name in row.before}


def fire(model: Dummy, trigger: Trigger, which: Any = machine) -> bool:
    return bool(which.events[trigger.value].trigger(model))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_row_can_be_taken(row: Row) -> None:
    ladder = ladders()[row.trigger, row.source]
    above = ladder[: ladder.index(row)]
    no = frozenset(name for other in above for name in set(other.guards) - set(row.guards))
    model = Dummy(row.source, no)
    assert fire(model, row.trigger)
    assert model.state == (row.dest or row.source).value
    assert model.called == list(row.before)


@pytest.mark.parametrize(("trigger", "source"), list(product(Trigger, STORED_STATES)), ids=str)
def test_the_machine_does_what_the_rows_say(trigger: Trigger, source: State) -> None:
    """With every combination of answers of the guards that are asked."""
    ladder = ladders().get((trigger, source), ())
    if not ladder:
        with pytest.raises(MachineError):
            fire(Dummy(source), trigger)
        return
    names = sorted({name for row in ladder for name in row.guards})
    for answers in product((True, False), repeat=len(names)):
        no = frozenset(name for name, answer in zip(names, answers, strict=True) if not answer)
        model = Dummy(source, no)
        expected = next((row for row in ladder if not no & set(row.guards)), None)
        assert fire(model, trigger) == (expected is not None)
        assert model.state == (source if expected is None else expected.dest or source).value
        assert model.called == ([] if expected is None else list(expected.before))


def test_a_refusal_never_falls_through_to_a_failure() -> None:
    """A precondition that says no leaves everything as it is, whatever the other guards say."""
    for (trigger, source), ladder in ladders().items():
        for precondition in ladder[-1].guards:
            model = Dummy(source, frozenset({precondition}))
            assert not fire(model, trigger)
            assert model.state == source.value
            assert not model.called


def test_the_machine_owns_no_model_and_knows_no_other_way() -> None:
    assert machine.models == []
    assert set(machine.states) == {state.value for state in STORED_STATES}
    assert set(machine.events) == {trigger.value for trigger in Trigger}
    transitions = [t for event in machine.events.values() for ts in event.transitions.values() for t in ts]
    assert len(transitions) == len(ROWS)


def test_a_machine_is_built_from_any_rows() -> None:
    small = build_machine([first(T.FAIL, S.WAITFORCHUNK)])
    model = Dummy(S.WAITFORCHUNK)
    assert fire(model, T.FAIL, small)
    assert model.state == "uploadfailed"
    assert set(small.events) == {"fail"}


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", sorted(_GUARDS | _CALLBACKS))
def test_guards_and_callbacks_are_methods_of_the_session(name: str) -> None:
    method = inspect.getattr_static(Session, name)
    assert inspect.isfunction(method)
    assert inspect.getdoc(method)
    expected = "bool" if name in _GUARDS else "None"
    assert inspect.signature(method).return_annotation == expected


def test_no_name_is_guard_and_callback() -> None:
    assert _GUARDS.isdisjoint(_CALLBACKS)
