"""The emitted SCXML, run by another state machine library, against the machine: the same in every case.

python-statemachine reads SCXML and knows nothing of `transitions` or of us. For every state, trigger and outcome of the
guards that the rows name, both must choose the same row, or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import pytest
from attrs import frozen
from transitions import Machine, MachineError

from stagedoor.diagrams import content_path, scxml
from stagedoor.lifecycle import ROWS, STORED_STATES, Row, State, Trigger, build_machine, ladders
from stagedoor.tasks import UploadTask

io = pytest.importorskip("statemachine.io", reason="python-statemachine, which reads SCXML, is not installed")

GUARDS = tuple(dict.fromkeys(guard for row in ROWS for guard in row.guards))
BY_ID = {row.id: row for row in ROWS}


@frozen
class Case:
    """A state, a trigger, and what each guard says."""

    state: State
    trigger: Trigger
    answers: Mapping[str, bool]


@frozen
class Outcome:
    """The state afterwards, and the callbacks of the row that was taken, if one was."""

    state: str
    before: tuple[str, ...] | None


def cases(rows: Iterable[Row] = ROWS, **fixed: bool) -> Iterator[Case]:
    """All outcomes of the guards that count in a state, with all others once silent and once agreeing."""
    known = ladders(rows)
    for state, trigger in product(STORED_STATES, Trigger):
        asked = sorted({guard for row in known.get((trigger, state), ()) for guard in row.guards} - set(fixed))
        for said in product((False, True), repeat=len(asked)):
            for others in (False, True):
                answers = {**dict.fromkeys(GUARDS, others), **dict(zip(asked, said, strict=True)), **fixed}
                yield Case(state, trigger, answers)


class Model:
    """A model of `transitions` whose guards say what they are told, and whose callbacks are noted."""

    def __init__(self, case: Case) -> None:
        self.state = case.state.value
        self.called: list[str] = []
        for name, answer in case.answers.items():
            setattr(self, name, lambda answer=answer: answer)
        for name in {name for row in ROWS for name in row.before}:
            setattr(self, name, lambda name=name: self.called.append(name))


def by_transitions(machine: Machine, case: Case) -> Outcome:
    """What our machine does."""
    model = Model(case)
    try:
        taken = machine.events[case.trigger.value].trigger(model)
    except MachineError:
        taken = False
    assert taken or not model.called
    return Outcome(model.state, tuple(model.called) if taken else None)


class Chart:
    """A chart in python-statemachine, which is in the same state for each case."""

    def __init__(self, text: str) -> None:
        self._new = io.load(text, format="scxml")
        self._running = self._new()

    def outcome(self, case: Case) -> Outcome:
        """What python-statemachine does."""
        running = self._running
        # The library fills the data model of the first instance of a class only.
        for name, answer in {"row": "", **case.answers}.items():
            setattr(running.model, name, answer)
        running.send(case.trigger.value)
        row = running.model.row
        (state,) = set(running.configuration_values) & set(State)
        if row:
            assert (BY_ID[row].trigger, BY_ID[row].source) == (case.trigger, case.state)
            assert state == (BY_ID[row].dest or case.state)
        if state != case.state:
            self._running = self._new()
        return Outcome(str(state), BY_ID[row].before if row else None)


def chart_from(state: State, rows: Iterable[Row]) -> Chart:
    """A chart that starts in a state, as it is emitted for a task there."""
    task = UploadTask(
        id="x", filesize=1, offset=0, contenttype="video", mimetype="", sourcefilename="", sourcechecksum=None,
        destinationpath="x", state=state, uid="0" * 32, created=0.0, updated=0.0,
    )  # fmt: skip
    text = scxml(rows, task=task)
    assert f'initial="{state}"' in text
    return Chart(text)


def test_another_library_takes_the_same_rows(record_property: Any) -> None:
    machine = build_machine()
    charts = {state: chart_from(state, ROWS) for state in STORED_STATES}
    seen: dict[str, int] = {"taken": 0, "refused": 0}
    befores = set()
    for case in cases():
        ours, theirs = by_transitions(machine, case), charts[case.state].outcome(case)
        assert ours == theirs, case
        seen["taken" if ours.before is not None else "refused"] += 1
        if ours.before is not None:
            befores.add((case.trigger, case.state, ours.state if ours.state != case.state else None))
    assert befores == {(row.trigger, row.source, row.dest) for row in ROWS}, "every row is taken by some case"
    told = f"{sum(seen.values())} cases: {seen['taken']} took a row, {seen['refused']} were refused"
    record_property("differential", told)
    print(f"\ntransitions and python-statemachine agree in {told}")  # noqa: T201  # the figure is asked for


@pytest.mark.parametrize("has_artwork", [True, False])
def test_a_view_of_one_content_type_does_what_the_whole_table_does(has_artwork: bool) -> None:
    machine, rows = build_machine(), content_path(has_artwork=has_artwork)
    charts = {state: chart_from(state, rows) for state in {row.source for row in rows}}
    count = 0
    for case in cases(has_artwork_step=has_artwork):
        if case.state in charts:
            assert by_transitions(machine, case) == charts[case.state].outcome(case), case
            count += 1
    print(f"\nwith has_artwork_step={has_artwork} they agree in {count} cases")  # noqa: T201


def test_the_chart_starts_with_all_guards_silent() -> None:
    running = io.load(scxml(), format="scxml")()
    assert set(running.configuration_values) == {"upload", "waitforchunk"}
    assert {name: getattr(running.model, name) for name in GUARDS} == dict.fromkeys(GUARDS, False)
    assert running.model.row == ""


def test_a_wrong_chart_is_noticed() -> None:
    """The differential finds a condition that was turned around and rows that were exchanged."""
    machine, text = build_machine(), scxml()
    turned = text.replace('cond="all_bytes_here &amp;&amp; checksum_matches"', 'cond="all_bytes_here"')
    rung = re.compile(r'(      <transition event="complete".*?</transition>\n)', re.DOTALL)
    first, second = rung.findall(text)
    for wrong in (turned, text.replace(first + second, second + first)):
        assert wrong != text
        chart = Chart(wrong)
        here = (case for case in cases() if (case.state, case.trigger) == (State.WAITFORCHUNK, Trigger.COMPLETE))
        assert any(by_transitions(machine, case) != chart.outcome(case) for case in here)
