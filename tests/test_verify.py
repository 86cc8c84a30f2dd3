"""The trial of the life cycle: the table passes, and each mistake that somebody plants is found and named."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, cast

import attrs
import pytest

from stagedoor.adapters.inprocess import InlineBus
from stagedoor.adapters.memory import MemoryBytes, MemoryTasks, MemoryTree
from stagedoor.engine import Uploads
from stagedoor.errors import ConfigurationError, UploadError
from stagedoor.library.memory import MemoryLibrary
from stagedoor.lifecycle import (
    DEADLINE_STATES,
    DUE_STATES,
    ROWS,
    STORED_STATES,
    By,
    Kind,
    Row,
    Standing,
    State,
    Trigger,
    build_machine,
    check,
    due,
    ladders,
)
from stagedoor.session import Ports, Session
from stagedoor.settings import Settings
from stagedoor.tasks import Event, Offer, PlacedFile, Plan, PlannedFile, Step, UploadTask, evolve
from stagedoor.testing.content import PlainContent
from stagedoor.verify import (
    _WISHES,
    NO_ROW,
    Case,
    Model,
    Oracle,
    Outcome,
    Report,
    _Court,
    _normal,
    _Questions,
    _standings,
    cases,
    mutants,
    recorded,
    replay,
    specification,
    structure,
    verify,
)
from stagedoor.worker import Worker

S, T = State, Trigger


@pytest.fixture(scope="module")
def report() -> Report:
    return verify()


# ── the life cycle itself ─────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_wrong_and_no_mistake_would_go_unnoticed(report: Report) -> None:
    assert report.problems == ()
    assert report.survivors == ()
    assert report.ok


def test_every_state_and_trigger_is_tried_with_every_answer(report: Report) -> None:
    fired = cases()
    assert len(fired) == report.cases >= 300
    assert {(case.state, case.trigger) for case in fired} == {(s, t) for s in STORED_STATES for t in T}
    for case in fired:
        same = [c for c in fired if (c.state, c.trigger) == (case.state, case.trigger)]
        assert len(same) == 2 ** len(case.guards)
        assert len({tuple(c.guards.items()) for c in same}) == len(same)
    for (trigger, source), ladder in ladders().items():
        asked = {name for row in ladder for name in row.guards}
        assert all(set(c.guards) == asked for c in fired if (c.trigger, c.state) == (trigger, source))


def test_every_row_is_taken(report: Report) -> None:
    assert report.rows == report.rows_taken == len(ROWS)
    assert set(report.taken) == {row.id for row in ROWS}
    assert all(report.taken.values())


def test_thousands_of_mutants_die_and_those_that_live_are_the_same_table(report: Report) -> None:
    assert report.mutants == report.killed + report.equivalent
    assert report.killed >= 10_000
    assert sum(report.killed_by.values()) == report.killed
    assert set(report.killed_by) == {"cases", "rows", "structure"}
    assert {name for name, tally in report.operators.items() if tally.equivalent} == {"put last", "change by"}
    assert report.operators["change by"].equivalent == 1  # start_import: client and worker in another order
    assert len(report.operators) == 20


def test_the_report_is_plain_json(report: Report) -> None:
    read = json.loads(json.dumps(report.as_dict()))
    keys = {"ok", "cases", "rows", "rows_taken", "mutants", "killed", "equivalent", "survivors", "seconds", "problems"}
    assert keys <= read.keys()
    assert read["ok"] is True
    assert read["operators"]["drop row"] == {"mutants": len(ROWS), "killed": len(ROWS), "equivalent": 0}
    assert read["seconds"] > 0


def test_the_specification_shares_no_code_with_the_table() -> None:
    assert not {"ROWS", "ladders", "machine", "due", "DUE_STATES"} & set(specification.__code__.co_names)


# ── planted in the table ──────────────────────────────────────────────────────────────────────────────────────


def place(name: str) -> int:
    return next(place for place, row in enumerate(ROWS) if row.id == name)


def changed(name: str, **changes: Any) -> tuple[Row, ...]:
    at = place(name)
    return (*ROWS[:at], attrs.evolve(ROWS[at], **changes), *ROWS[at + 1 :])


def dropped(name: str) -> tuple[Row, ...]:
    return tuple(row for row in ROWS if row.id != name)


def swapped(one: str, two: str) -> tuple[Row, ...]:
    rows = list(ROWS)
    rows[place(one)], rows[place(two)] = rows[place(two)], rows[place(one)]
    return tuple(rows)


def added(trigger: Trigger, source: State, dest: State | None, **more: Any) -> tuple[Row, ...]:
    return (*ROWS, Row(trigger, source, dest, doc="Planted.", **more))


PLANTED: Mapping[str, tuple[tuple[Row, ...], str]] = {
    "a failure row without its precondition": (
        changed("preprocess:uploadcomplete:invalidcontent", guards=()),
        "preprocess in uploadcomplete with holds_step no, content_accepted yes: the table says leads to invalidcontent "
        "(note_failure, failure, by worker), the oracle says refused by holds_step.",
    ),
    "an incomplete upload fails": (
        changed("complete:waitforchunk:uploadfailed", guards=()),
        "complete in waitforchunk with all_bytes_here no, checksum_matches yes: the table says leads to uploadfailed "
        "(note_failure, failure, by engine), the oracle says refused by all_bytes_here.",
    ),
    "an unchecked file is complete": (
        changed("complete:waitforchunk:uploadcomplete", guards=("all_bytes_here",)),
        "complete in waitforchunk with all_bytes_here yes, checksum_matches no: the table says leads to uploadcomplete "
        "(seal_file, progress, by engine), the oracle says leads to uploadfailed",
    ),
    "an unfinished file is hashed": (
        changed("complete:waitforchunk:uploadcomplete", guards=("checksum_matches", "all_bytes_here")),
        "complete in waitforchunk with checksum_matches yes, all_bytes_here no: refused by all_bytes_here; "
        "the table asks checksum_matches, all_bytes_here, the oracle all_bytes_here.",
    ),
    "a removed upload is removed": (
        added(T.REMOVE, S.REMOVE, S.REMOVE, before=("forget_wishes",), kind=Kind.END),
        "remove:remove:remove: nothing may leave remove",
    ),
    "what is done is imported again": (
        added(T.RETRY, S.IMPORTCOMPLETE, S.STARTIMPORT, before=("forget_failure",), kind=Kind.REPAIR),
        "retry in importcomplete: the table says leads to startimport (forget_failure, repair, by client), "
        "the oracle says there is no row.",
    ),
    "a chunk after the end": (
        added(T.CHUNK, S.UPLOADCOMPLETE, None, guards=("chunk_fits",), before=("store_chunk",)),
        "chunk in uploadcomplete with chunk_fits yes: the table says leads to uploadcomplete (store_chunk, progress, "
        "by client), the oracle says there is no row.",
    ),
    "no artwork step": (
        swapped("import_:startimport:importartwork", "import_:startimport:importcomplete"),
        "import_ in startimport with holds_step yes, imported yes, has_artwork_step yes: the table says leads to "
        "importcomplete (adopt_import, progress, by worker), the oracle says leads to importartwork",
    ),
    "a row that is never reached": (
        swapped("import_:startimport:importartwork", "import_:startimport:importcomplete"),
        "import_:startimport:importartwork: is never taken",
    ),
    "undo stops half-way": (
        changed("undo:importcomplete:preprocessed", dest=S.INTEGRATED),
        "undo in importcomplete with holds_step yes, undone yes: the table says leads to integrated",
    ),
    "annotations of a removed upload": (
        added(T.ANNOTATE, S.REMOVE, None, guards=("annotations_valid",), before=("merge_annotations",)),
        "annotate in remove with annotations_valid yes: the table says leads to remove (merge_annotations, progress, "
        "by client), the oracle says there is no row.",
    ),
    "an upload expires at once": (
        changed("expire:integrated:remove", guards=()),
        "expire in integrated with deadline_passed no: the table says leads to remove",
    ),
    "work expires under the worker's hands": (
        added(T.EXPIRE, S.STARTIMPORT, S.REMOVE, guards=("deadline_passed",), kind=Kind.END, by=(By.TIMER,)),
        "expire:startimport: there is always work to do in startimport, it cannot expire",
    ),
    "no way out of a failure": (dropped("retry:integrationfailed:preprocessed"), "the table says there is no row"),
    "a step that cannot begin": (
        dropped("begin:preprocessed:internal"),
        "begin:preprocessed: has no row, although integrate is a slow step that can be due there",
    ),
    "work without rows": (
        dropped("undo:importfailed:preprocessed"),
        "undo:importfailed: can be due, and has no row",
    ),
    "the failure is not recorded": (
        changed("integrate:preprocessed:integrationfailed", before=()),
        "integrate in preprocessed with holds_step yes, placed_in_library no: the table says leads to "
        "integrationfailed (failure, by worker), the oracle says leads to integrationfailed (note_failure, failure",
    ),
    "a client ends a step": (
        changed("preprocess:uploadcomplete:preprocessed", by=(By.CLIENT,)),
        "preprocess:uploadcomplete: who fires cannot know which row it will be, yet not all are theirs",
    ),
    "the undo is forgotten by a retry": (
        changed("retry:importfailed:startimport", guards=()),
        "retry in importfailed with no_undo_pending no: the table says leads to startimport",
    ),
    "a failure that looks like progress": (
        changed("import_artwork:importartwork:importfailed", kind=Kind.PROGRESS),
        "import_artwork:importartwork:importfailed: a failure leads to a state of failure, and nothing else does",
    ),
    "a state that is never stored": (
        changed("fail:waitforchunk:uploadfailed", dest=S.NOTEXISTING),
        "No machine can lead to notexisting: fail:waitforchunk:notexisting.",
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_mistake_is_found_and_named(planted: str) -> None:
    rows, sentence = PLANTED[planted]
    report = verify(rows)
    assert not report.ok
    assert any(sentence in problem for problem in report.problems), "\n".join(report.problems)
    assert report.mutants == 0, "its own mistake would kill them all"


@pytest.mark.parametrize("planted", [name for name, (rows, _) in PLANTED.items() if not check(rows)])
def test_what_check_lets_pass_is_found_by_the_oracle_or_the_structure(planted: str) -> None:
    """Tables that load: `lifecycle.check` alone would not do."""
    rows, _ = PLANTED[planted]
    assert structure(rows) or not all(case.right for case in cases(rows))


# ── planted in the oracle ─────────────────────────────────────────────────────────────────────────────────────


def mistaken(trigger: Trigger, where: State, **changes: Any) -> Oracle:
    def oracle(now: State, fired: Trigger, guards: Mapping[str, bool]) -> Outcome:
        said = specification(now, fired, guards)
        here = (fired, now) == (trigger, where) and said.refusal is None
        return attrs.evolve(said, **changes) if here else said

    return oracle


@pytest.mark.parametrize(
    ("oracle", "sentence"),
    [
        (mistaken(T.UNDO, S.INTEGRATED, state=S.UPLOADCOMPLETE), "undo in integrated with"),
        (mistaken(T.RETRY, S.UPLOADFAILED, before=("forget_failure",)), "retry in uploadfailed: the table says"),
        (mistaken(T.REQUEST, S.PREPROCESSED, kind=Kind.REPAIR), "request in preprocessed with"),
        (mistaken(T.FAIL, S.WAITFORCHUNK, by=frozenset({By.CLIENT})), "fail in waitforchunk: the table says"),
        (mistaken(T.REMOVE, S.INTEGRATED, refusal="library_untouched"), "remove in integrated: the table says"),
        (mistaken(T.REMOVE, S.IMPORTARTWORK, refusal=NO_ROW), "remove in importartwork: the table says"),
    ],
)
def test_a_mistake_in_the_oracle_is_found_as_well(oracle: Oracle, sentence: str) -> None:
    report = verify(oracle=oracle)
    assert not report.ok
    assert report.problems
    assert all(problem.startswith(sentence) for problem in report.problems)


def test_an_oracle_that_reads_another_guard_is_contradicted() -> None:
    """Its guard is tried with both answers although no row has it."""

    def oracle(state: State, trigger: Trigger, guards: Mapping[str, bool]) -> Outcome:
        said = specification(state, trigger, guards)
        if (trigger, state) == (T.REMOVE, S.INTEGRATED) and not guards["library_untouched"]:
            return Outcome(state, "library_untouched")
        return said

    problems = [str(case) for case in cases(oracle=oracle) if not case.right]
    assert problems == [
        "remove in integrated with library_untouched yes: leads to remove (forget_wishes, end, by client); "
        "the table asks nobody, the oracle library_untouched.",
        "remove in integrated with library_untouched no: the table says leads to remove (forget_wishes, end, by "
        "client), the oracle says refused by library_untouched.",
    ]


# ── the trial itself is on trial ──────────────────────────────────────────────────────────────────────────────


def _row(trigger: Trigger, source: State, dest: State | None, **more: Any) -> Row:
    return Row(trigger, source, dest, doc="A row of a small life.", **more)


SMALL_STATES = (S.WAITFORCHUNK, S.UPLOADCOMPLETE, S.UPLOADFAILED, S.REMOVE)
SMALL = (
    _row(T.CHUNK, S.WAITFORCHUNK, None, guards=("fits",), before=("keep",)),
    _row(T.COMPLETE, S.WAITFORCHUNK, S.UPLOADCOMPLETE, guards=("whole", "sound"), before=("seal",), by=(By.ENGINE,)),
    _row(T.COMPLETE, S.WAITFORCHUNK, S.UPLOADFAILED, guards=("whole",), kind=Kind.FAILURE, by=(By.ENGINE,)),
    _row(T.RETRY, S.UPLOADFAILED, S.WAITFORCHUNK, kind=Kind.REPAIR),
    _row(T.REMOVE, S.UPLOADFAILED, S.REMOVE, kind=Kind.END, by=(By.CLIENT, By.WORKER)),
    _row(T.REMOVE, S.UPLOADCOMPLETE, S.REMOVE, guards=("may_go",), kind=Kind.END, by=(By.CLIENT,)),
)


def small(state: State, trigger: Trigger, guards: Mapping[str, bool]) -> Outcome:
    """An oracle of the small life, as somebody else would write it."""
    client, engine = frozenset({By.CLIENT}), frozenset({By.ENGINE})
    if (state, trigger) == (S.WAITFORCHUNK, T.CHUNK):
        return Outcome(state, None, ("keep",), Kind.PROGRESS, client) if guards["fits"] else Outcome(state, "fits")
    if (state, trigger) == (S.WAITFORCHUNK, T.COMPLETE):
        if not guards["whole"]:
            return Outcome(state, "whole")
        if guards["sound"]:
            return Outcome(S.UPLOADCOMPLETE, None, ("seal",), Kind.PROGRESS, engine)
        return Outcome(S.UPLOADFAILED, None, (), Kind.FAILURE, engine)
    if (state, trigger) == (S.UPLOADFAILED, T.RETRY):
        return Outcome(S.WAITFORCHUNK, None, (), Kind.REPAIR, client)
    if (state, trigger) == (S.UPLOADFAILED, T.REMOVE):
        return Outcome(S.REMOVE, None, (), Kind.END, client | {By.WORKER})
    if (state, trigger) == (S.UPLOADCOMPLETE, T.REMOVE):
        return Outcome(S.REMOVE, None, (), Kind.END, client) if guards["may_go"] else Outcome(state, "may_go")
    return Outcome(state, NO_ROW)


@pytest.mark.parametrize("oracle", [None, small], ids=["without an oracle", "with one"])
def test_a_life_cycle_of_ones_own(oracle: Oracle | None) -> None:
    report = verify(SMALL, oracle=oracle, states=SMALL_STATES, due=None)
    assert report.ok, report.problems + report.survivors
    assert report.cases == len(SMALL_STATES) * len(T) + 1 + 3 + 1
    assert report.rows_taken == report.rows == len(SMALL)
    assert report.mutants == report.killed + report.equivalent > 400


@pytest.mark.slow
def test_the_life_cycle_without_an_oracle() -> None:
    report = verify(oracle=None)
    assert report.ok, report.problems + report.survivors
    assert report.killed >= 10_000


def test_without_an_oracle_the_structure_still_speaks() -> None:
    report = verify((*SMALL, _row(T.RETRY, S.REMOVE, S.WAITFORCHUNK)), oracle=None, states=SMALL_STATES, due=None)
    assert "retry:remove:waitforchunk: nothing may leave remove" in report.problems


def test_a_life_cycle_of_ones_own_needs_its_own_states() -> None:
    problems = structure(SMALL, due=None)
    assert "integrated: cannot be reached" in problems
    problems = structure(ROWS, states=SMALL_STATES, due=None)
    assert "begin:preprocessed:internal: names a state that the life cycle does not have" in problems


def _differs_in(case: Case, *names: str) -> set[str]:
    return {name for name in names if getattr(case.does, name) != getattr(case.must, name)}


BLIND: Mapping[str, Callable[[Case], bool]] = {
    "change by": lambda case: not _differs_in(case, "state", "refusal", "before", "kind"),
    "change kind": lambda case: not _differs_in(case, "state", "refusal", "before", "by"),
    "drop callback": lambda case: not _differs_in(case, "state", "refusal", "kind", "by"),
    "change dest": lambda case: not _differs_in(case, "refusal", "before", "kind", "by"),
    "drop guard": lambda case: case.must.refusal is not None or not _differs_in(case, "state", "refusal", "before"),
    "swap guard": lambda case: case.does == case.must,
}


@pytest.mark.parametrize("operator", BLIND)
def test_a_check_that_looks_away_leaves_survivors(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Case, "right", property(BLIND[operator]))
    report = verify(SMALL, oracle=small, states=SMALL_STATES, due=None)
    assert not report.ok
    assert report.mutants == report.killed + report.equivalent + len(report.survivors)
    assert any(f"({operator})" in sentence for sentence in report.survivors), report.survivors
    assert all(sentence.startswith("Nobody notices when ") for sentence in report.survivors)


def test_only_the_ladders_that_a_mutant_touches_behave_differently() -> None:
    """The shortcut of the trial, compared with whole machines."""
    court = _Court(_normal(ROWS), _Questions(specification), STORED_STATES, due)
    untouched = {(c.trigger, c.state, tuple(c.guards.items())): (c.does, c.asked) for c in cases()}
    for mutant in random.Random(7).sample(list(mutants()), 150):
        fired = cases(mutant.rows)
        wrong = {(case.trigger, case.state) for case in fired if not case.right}
        assert wrong <= mutant.touched
        assert (court.verdict(mutant) == "cases") == bool(wrong)
        for case in fired:
            if (case.trigger, case.state) not in mutant.touched:
                assert untouched[case.trigger, case.state, tuple(case.guards.items())] == (case.does, case.asked)


def test_mutants_are_different_tables() -> None:
    tables = [mutant.rows for mutant in mutants(SMALL, states=SMALL_STATES)]
    assert len(set(tables)) == len(tables) > 400
    assert SMALL not in tables
    assert all(mutant.sentence and mutant.touched for mutant in mutants(SMALL, states=SMALL_STATES))


def test_the_same_table_in_another_order_is_the_same() -> None:
    other = [attrs.evolve(row, by=row.by[::-1], guards=row.guards * 2, doc="Said otherwise.") for row in SMALL]
    assert _normal([*other[1:], other[0]]) == _normal(SMALL)
    assert _normal([other[0], other[2], other[1], *other[3:]]) != _normal(SMALL), "the order in a ladder matters"


def test_a_table_that_changes_its_mind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One machine serves all uploads: what one does must not depend on those before it."""

    def forgetful(rows: tuple[Row, ...]) -> Oracle:
        first = recorded(rows)

        def oracle(state: State, trigger: Trigger, guards: Mapping[str, bool]) -> Outcome:
            said = first(state, trigger, guards)
            return attrs.evolve(said, state=S.REMOVE) if trigger is T.RETRY and said.refusal is None else said

        return oracle

    monkeypatch.setattr("stagedoor.verify.recorded", forgetful)
    report = verify(SMALL, oracle=small, states=SMALL_STATES, due=None)
    assert report.problems == (
        "retry in uploadfailed: leads to waitforchunk (repair, by client); "
        "fired again: leads to remove (repair, by client).",
    )


# ── the model of facts ────────────────────────────────────────────────────────────────────────────────────────


def test_the_model_writes_down_what_is_called() -> None:
    model = Model(S.STARTIMPORT, {"holds_step": True, "imported": True, "has_artwork_step": False}, {"adopt_import"})
    assert build_machine().events["import_"].trigger(model) is True
    assert model.state == "importcomplete"
    assert model.called == ["adopt_import"]
    assert model.said_no == "has_artwork_step"


def test_the_model_does_not_make_up_answers() -> None:
    model = Model(S.STARTIMPORT, {"holds_step": True}, {"adopt_import"})
    with pytest.raises(ConfigurationError, match="asks for imported, which nobody here knows"):
        build_machine().events["import_"].trigger(model)
    with pytest.raises(AttributeError):
        model.__wrapped__  # noqa: B018


def test_a_refusal_asks_no_more_than_it_must() -> None:
    """A worker that lost its step must not import once more to find that out."""
    (case,) = [
        case
        for case in cases()
        if (case.trigger, case.state) == (T.IMPORT, S.STARTIMPORT)
        and case.guards == {"holds_step": False, "imported": True, "has_artwork_step": True}
    ]
    assert case.asked == ("holds_step",)
    assert case.does == Outcome(S.STARTIMPORT, "holds_step")
    assert case.row is None


# ── structure ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_is_sound() -> None:
    assert structure() == []


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (changed("retry:importfailed:startimport", kind=Kind.PROGRESS), "progress leads forward in the life"),
        (changed("start_import:integrated:startimport", kind=Kind.REPAIR), "progress leads forward in the life"),
        (changed("start_import:integrated:startimport", kind=Kind.FAILURE), "a failure leads to a state of failure"),
        (changed("remove:integrated:remove", kind=Kind.PROGRESS), "an end leads to remove, and nothing else does"),
        (changed("chunk:waitforchunk:internal", kind=Kind.END), "an end leads to remove, and nothing else does"),
        (changed("expire:integrated:remove", by=(By.CLIENT,)), "the timer fires what expires, and nothing else"),
        (changed("remove:integrated:remove", by=(By.TIMER,)), "the timer fires what expires, and nothing else"),
        (changed("fail:waitforchunk:uploadfailed", by=(By.CLIENT,)), "a failure is not the client's to fire"),
        (changed("fail:waitforchunk:uploadfailed", by=()), "nobody may fire it"),
        (changed("chunk:waitforchunk:internal", before=("holds_step",)), "holds_step: is a guard and a callback"),
        (
            changed("preprocess:uploadcomplete:invalidcontent", dest=S.UPLOADFAILED),
            "leads back to the phase upload, and is no repair",
        ),
        (
            changed("start_import:integrated:startimport", trigger=T.RETRY),
            "start_import:integrated: can be due, and has no row",
        ),
        (
            changed("release:importcomplete:internal", source=S.UPLOADFAILED),
            "release:importcomplete: has no row, although undo is a slow step that can be due there",
        ),
        (dropped("import_artwork:importartwork:importcomplete"), ""),
    ],
)
def test_structure_finds(rows: tuple[Row, ...], sentence: str) -> None:
    if sentence:
        assert any(sentence in problem for problem in structure(rows)), structure(rows)
    else:  # a ladder without its progress is sound as such: only the oracle knows that something is missing
        assert structure(rows) == []
        assert not all(case.right for case in cases(rows))


def test_what_can_be_wanted_where() -> None:
    """Every state with every wish that events can leave on record in it."""
    nothing = {state: {None} for state in STORED_STATES}
    assert {
        state: {s.wanted for s in _standings(ladders()) if s.state is state} for state in STORED_STATES
    } == nothing | {
        S.PREPROCESSED: {None, T.INTEGRATE},
        S.INTEGRATED: {None, T.START_IMPORT, T.UNDO},
        S.IMPORTFAILED: {None, T.UNDO},
        S.IMPORTCOMPLETE: {None, T.UNDO},
    }


def test_due_says_what_the_contract_says() -> None:
    """Who moves a state on, from the contract's table of states."""
    management = {S.UPLOADCOMPLETE: T.PREPROCESS, S.STARTIMPORT: T.IMPORT, S.IMPORTARTWORK: T.IMPORT_ARTWORK}
    assert management == DUE_STATES
    for state in STORED_STATES:
        for wanted in (None, T.INTEGRATE, T.START_IMPORT, T.UNDO):
            for offset, size in ((0, None), (0, 1), (1, 1), (1, 2)):
                named = due(Standing(state, offset, size, wanted))
                if state is S.REMOVE:
                    assert named is T.REMOVE
                elif state is S.WAITFORCHUNK:
                    assert named is (T.COMPLETE if (offset, size) == (1, 1) else None)
                else:
                    assert named is management.get(state, wanted)


def test_what_expires_has_a_retention() -> None:
    assert set(Settings().retention) == DEADLINE_STATES == set(STORED_STATES) - set(DUE_STATES) - {S.REMOVE}


def _task(state: State, **more: Any) -> UploadTask:
    return UploadTask(
        id="one", filesize=3, offset=3, contenttype="video", mimetype="", sourcefilename="a.mp4", sourcechecksum=None,
        destinationpath="video-pending.mp4", state=state, uid="0" * 32, created=0.0, updated=0.0, **more,
    )  # fmt: skip


WISHES_BEFORE = (None, T.INTEGRATE, T.START_IMPORT, T.UNDO)


WITH_BYTES = {"store_chunk", "adopt_declaration", "seal_file", "start_over", "adopt_content", "adopt_artwork"}
"""Callbacks that need stored bytes or a catalogue; the engine's tests look at them."""


@pytest.mark.parametrize("name", sorted({name for row in ROWS for name in row.before} - WITH_BYTES))
def test_callbacks_leave_the_wishes_on_record_that_verification_counts_on(name: str) -> None:
    ports = Ports(MemoryBytes(), {"music": MemoryTree("music")}, MemoryLibrary(), {"video": PlainContent()}, Settings())
    held, plan = Step(T.INTEGRATE, "token", 1, 0.0), Plan((PlannedFile("music", "A/B.mp4"),))
    for wish in WISHES_BEFORE:
        seen = set()
        for import_wanted, retry_at in product((False, True), (None, 1.0)):
            task = _task(S.PREPROCESSED, wanted=wish, import_wanted=import_wanted, step=held, plan=plan)
            session = Session(task, ports, 1.0, step=T.INTEGRATE, token="token", retry_at=retry_at, annotations={})
            session.failure = UploadError("It failed.")
            if name == "adopt_placement":  # what its guard would have found
                cast("Any", session)._placement = (PlacedFile("music", "A/B.mp4", 3, "0" * 64),)
            getattr(session, name)()
            seen.add(session.task.wanted)
        assert seen == (set(_WISHES[name](wish)) if name in _WISHES else {wish})


# ── replay ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    with Uploads(
        bytes=MemoryBytes(),
        tasks=MemoryTasks(),
        trees={name: MemoryTree(name) for name in ("music", "artwork")},
        library=MemoryLibrary(),
        contents=[PlainContent()],
        settings=Settings(backoff=0.0, free_floor=0),
        bus=InlineBus(),
        clock=lambda: 1.0,
    ) as uploads:
        yield uploads


@pytest.fixture
def lived(uploads: Uploads) -> UploadTask:
    """An upload that was refused, mended, imported and taken back."""
    worker = Worker(uploads)
    uploads.initiate(Offer("one", filename="a.mp4", contenttype="video", filesize=6, sha1="0" * 40))
    uploads.receive("one", offset=0, data=b"afi")
    uploads.receive("one", offset=3, data=b"lm!")
    assert uploads.get("one").state is S.UPLOADFAILED
    uploads.retry("one")
    uploads.remove("one")
    worker.drain()
    uploads.initiate(Offer("one", filename="a.mp4", contenttype="video", filesize=6))
    uploads.receive("one", offset=0, data=b"afilm!")
    worker.drain()
    uploads.annotate("one", name="B")
    uploads.integrate("one")
    assert uploads.get("one").state is S.INTEGRATIONFAILED
    uploads.annotate("one", artistname="A")
    uploads.retry("one")
    uploads.request("one", trigger_import=True)
    worker.drain()
    assert uploads.get("one").state is S.IMPORTCOMPLETE
    return uploads.undo("one")


def test_a_life_can_be_fired_once_more(lived: UploadTask) -> None:
    assert lived.state is S.PREPROCESSED
    assert len(lived.history) > 15
    assert replay(lived) == []


def forged(task: UploadTask, at: int, **changes: Any) -> UploadTask:
    line = attrs.evolve(task.history[at], **changes)
    return evolve(task, history=(*task.history[:at], line, *task.history[at + 1 :]))


def history(*lines: tuple[int, str, str, str], state: State | None = None) -> UploadTask:
    events = tuple(Event(number, 0.0, trigger, source, dest) for number, trigger, source, dest in lines)
    return _task(state or State(events[-1].dest), history=events)


BORN = (1, "create", "waitforchunk", "waitforchunk")
COMPLETED = (2, "complete", "waitforchunk", "uploadcomplete")


@pytest.mark.parametrize(
    ("task", "problems"),
    [
        (history(BORN, COMPLETED), []),
        (history((1, "recover", "integrated", "integrated")), []),
        (history(BORN, COMPLETED, (5, "annotate", "preprocessed", "preprocessed")), []),
        (
            history(BORN, (2, "retry", "waitforchunk", "importcomplete")),
            ["Line 2: retry from waitforchunk to importcomplete is no row."],
        ),
        (
            history(BORN, COMPLETED, (3, "remove", "uploadcomplete", "remove"), (4, "retry", "remove", "waitforchunk")),
            ["Line 4: retry from remove to waitforchunk is no row."],
        ),
        (
            history(BORN, (2, "publish", "waitforchunk", "published"), state=S.WAITFORCHUNK),
            [
                "Line 2: publish from waitforchunk to published names what the life cycle does not know.",
                "The task is in waitforchunk, but its history ends in published.",
            ],
        ),
        (
            history(BORN, (2, "annotate", "integrated", "integrated")),
            ["Line 2: starts in integrated, but line 1 ends in waitforchunk and nothing leads there."],
        ),
        (
            history(BORN, COMPLETED, (4, "start_import", "integrated", "startimport")),
            [
                "Line 4: starts in integrated, but line 2 ends in uploadcomplete and nothing leads there "
                "across 1 missing line."
            ],
        ),
        (history(BORN, COMPLETED, (5, "start_import", "integrated", "startimport")), []),
        (history(BORN, state=S.INTEGRATED), ["The task is in integrated, but its history ends in waitforchunk."]),
        (
            history((1, "create", "integrated", "integrated")),
            ["Line 1: an upload is created in waitforchunk, not in integrated."],
        ),
        (
            history((1, "create", "waitforchunk", "integrated")),
            ["Line 1: create leads nowhere, not to integrated."],
        ),
        (
            history((1, "recover", "notexisting", "notexisting"), state=S.INTEGRATED),
            [
                "Line 1: notexisting is no state that an upload can have.",
                "The task is in integrated, but its history ends in notexisting.",
            ],
        ),
        (history(COMPLETED), ["Line 2: a history begins with line 1, create or recover, not complete."]),
        (
            history(BORN, (2, "recover", "waitforchunk", "waitforchunk")),
            ["Line 2: only the first line can be recover."],
        ),
        (
            history(BORN, COMPLETED, (2, "annotate", "uploadcomplete", "uploadcomplete")),
            ["Line 2: comes after line 2."],
        ),
        (_task(S.INTEGRATED), ["The history is empty; it must begin with create or recover."]),
    ],
)
def test_replay_finds_what_cannot_have_happened(task: UploadTask, problems: list[str]) -> None:
    assert replay(task) == problems


def test_a_forged_line_in_a_real_history_is_found(lived: UploadTask) -> None:
    for at, line in enumerate(lived.history):
        for dest in STORED_STATES:
            if dest != line.dest:
                assert replay(forged(lived, at, dest=dest.value)), f"{line} leads to {dest}"
    assert replay(evolve(lived, history=lived.history[:-1]))
    assert replay(evolve(lived, history=lived.history[1:]))


def test_replay_of_another_life_cycle(lived: UploadTask) -> None:
    task = history(BORN, COMPLETED, (3, "remove", "uploadcomplete", "remove"))
    assert replay(task, SMALL) == []
    assert "Line 2: begin from uploadcomplete to uploadcomplete is no row." in replay(
        history(BORN, (2, "begin", "uploadcomplete", "uploadcomplete")), SMALL
    )


def test_a_row_that_another_one_hides_cannot_have_happened() -> None:
    hidden = swapped("complete:waitforchunk:uploadcomplete", "complete:waitforchunk:uploadfailed")
    (problem,) = replay(history(BORN, COMPLETED), hidden)
    assert problem.startswith("Line 2: complete from waitforchunk to uploadcomplete: leads to uploadfailed")


def test_a_long_history_with_its_middle_left_out(uploads: Uploads) -> None:
    uploads.initiate(Offer("one", filename="a.mp4", contenttype="video", filesize=2, sha1="0" * 40))
    for _ in range(150):  # nothing but changes of state, so that those are left out, too
        uploads.receive("one", offset=0, data=b"ab")
        uploads.retry("one")
    task = uploads.get("one")
    assert task.history[1].sequence > 2, "nothing was left out"
    assert replay(task) == []
