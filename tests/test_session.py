"""Sessions: the methods that the table names, what they answer, and what they say when they say no."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import pytest

import stagedoor.session
from stagedoor.errors import ConfigurationError, ContentRejected, DataLost, Refused, StorageError, UploadError
from stagedoor.lifecycle import ROWS, STORED_STATES, Row, State, Trigger, due, ladders, machine
from stagedoor.session import Chunk, Declaration, Session, _already_there, _collision, _listed
from stagedoor.tasks import Finding, PlannedFile, Step, UploadTask, evolve

if TYPE_CHECKING:
    from conftest import House

S, T = State, Trigger
GUARDS = sorted({guard for row in ROWS for guard in row.guards})
CALLBACKS = sorted({name for row in ROWS for name in row.before})
PRECONDITIONS = sorted({guard for ladder in ladders().values() for guard in ladder[-1].guards})
SLOW = {
    T.COMPLETE: (S.WAITFORCHUNK, "checksum_matches", "bytes.open"),
    T.PREPROCESS: (S.UPLOADCOMPLETE, "content_accepted", "content.preprocess"),
    T.INTEGRATE: (S.PREPROCESSED, "placed_in_library", "music.place"),
    T.IMPORT: (S.STARTIMPORT, "imported", "content.import_"),
    T.IMPORT_ARTWORK: (S.IMPORTARTWORK, "artwork_made", "content.illustrate"),
    T.UNDO: (S.IMPORTCOMPLETE, "undone", "library.forget"),
}


def load_session(change: Callable[[str], str]) -> ModuleType:
    """The module, imported from changed source."""
    source = change(inspect.getsource(stagedoor.session))
    module = ModuleType("stagedoor.changed")
    module.__file__, module.__package__ = stagedoor.session.__file__, "stagedoor"
    sys.modules[module.__name__] = module  # attrs looks the annotations up there
    try:
        exec(compile(source, "changed.py", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


def session_for(house: House, task: UploadTask, trigger: Trigger) -> Session:
    """A session that may be asked every guard of a trigger."""
    return Session(
        task,
        house.uploads.ports,
        house.clock.now,
        chunk=Chunk(task.offset, b"fine"),
        declaration=Declaration(),
        annotations={"mood": "good"},
        step=due(task) if trigger is T.BEGIN else trigger,
        token="mine",
    )


def begun(house: House, trigger: Trigger) -> Session:
    """A session of a slow step that has begun."""
    state, _, _ = SLOW[trigger]
    if state is S.WAITFORCHUNK:
        task = house.bring(state)
        house.uploads.ports.bytes.append(task.key, 0, house.DATA)
        house.uploads.ports.bytes.commit(task.key)
        task = evolve(task, offset=9)
    else:
        task = house.bring(state)
    if trigger in (T.INTEGRATE, T.UNDO):
        task = evolve(task, wanted=trigger)
    session = Session(task, house.uploads.ports, house.clock.now, step=trigger, token="mine")
    assert machine.events[T.BEGIN.value].trigger(session)
    assert session.holds_step()
    return session


class TestNames:
    def test_the_table_and_the_class_fit(self) -> None:
        load_session(lambda source: source)

    @pytest.mark.parametrize("name", [*GUARDS, *CALLBACKS])
    def test_a_method_that_is_missing_fails_at_import(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=f"names {name}, which Session does not have"):
            load_session(lambda source: source.replace(f"def {name}(", "def something_else("))

    def test_a_property_is_no_guard(self) -> None:
        """The machine would take the property's object, which is true, for the answer."""
        with pytest.raises(ConfigurationError, match="names has_artwork_step"):
            load_session(lambda s: s.replace("    def has_artwork_step(", "    @property\n    def has_artwork_step("))

    def test_a_row_that_names_nothing_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        row = Row(T.CHUNK, S.WAITFORCHUNK, None, guards=("no_such_guard",), doc="Wrong.")
        monkeypatch.setattr(stagedoor.session, "ROWS", (row,))
        with pytest.raises(ConfigurationError, match="no_such_guard"):
            stagedoor.session._check_names()

    def test_every_method_is_named_by_the_table(self) -> None:
        """What no row names is dead, or should have been a row."""
        helpers = {"refresh", "work", "refusal", "clear_trees"}
        methods = {n for n, f in vars(Session).items() if inspect.isfunction(f) and not n.startswith("_")}
        assert methods - helpers == {*GUARDS, *CALLBACKS}

    @pytest.mark.parametrize("guard", GUARDS)
    def test_guards_are_declared_to_answer_bool(self, guard: str) -> None:
        assert inspect.signature(getattr(Session, guard)).return_annotation == "bool"

    @pytest.mark.parametrize("callback", CALLBACKS)
    def test_callbacks_answer_nothing(self, callback: str) -> None:
        assert inspect.signature(getattr(Session, callback)).return_annotation == "None"

    def test_the_slow_guards_are_those_of_the_steps(self) -> None:
        assert {t: guard for t, (_, guard, _) in SLOW.items()} == dict(stagedoor.session._SLOW)


class TestGuards:
    @pytest.mark.parametrize("state", [s for s in STORED_STATES if s is not S.REMOVE])
    def test_answer_true_or_false_and_nothing_like_it(self, house: House, state: State) -> None:
        task = house.bring(state)
        asked = Counter[str]()
        for (trigger, source), ladder in ladders().items():
            if source is not state:
                continue
            session = session_for(house, task, trigger)
            slow = SLOW.get(trigger, (None, None, None))[1]
            for guard in {g for row in ladder for g in row.guards} - {slow}:
                answers = [getattr(session, guard)() for _ in range(2)]
                assert [type(answer) for answer in answers] == [bool, bool], guard
                assert answers[0] == answers[1], guard
                asked[guard] += 1
        assert asked

    @pytest.mark.parametrize("trigger", SLOW)
    def test_slow_ones_answer_true_or_false_as_well(self, house: House, trigger: Trigger) -> None:
        guard = SLOW[trigger][1]
        assert getattr(begun(house, trigger), guard)() is True

    @pytest.mark.parametrize("trigger", SLOW)
    def test_the_work_of_a_step_runs_once(self, house: House, trigger: Trigger) -> None:
        _, guard, part = SLOW[trigger]
        session = begun(house, trigger)
        calls: list[object] = []
        house.before[part] = lambda *args, **_: calls.append(args)
        session.work()
        assert len(calls) == 1
        assert getattr(session, guard)() is True
        assert machine.events[trigger.value].trigger(session)
        assert len(calls) == 1

    @pytest.mark.parametrize(
        ("trigger", "dest"),
        [(T.PREPROCESS, S.INVALIDCONTENT), (T.IMPORT, S.IMPORTFAILED), (T.IMPORT_ARTWORK, S.IMPORTFAILED)],
    )
    def test_work_that_says_no_runs_once_as_well(self, house: House, trigger: Trigger, dest: State) -> None:
        """A guard is asked again for every row of its ladder."""
        part = SLOW[trigger][2]
        session = begun(house, trigger)
        calls: list[object] = []

        def reject(*args: object, **_: object) -> None:
            calls.append(args)
            raise ContentRejected("No.", code="no")

        house.before[part] = reject
        session.work()
        assert machine.events[trigger.value].trigger(session)
        assert (session.state, session.task.code, len(calls)) == (dest, "no", 1)

    @pytest.mark.parametrize("trigger", SLOW)
    def test_work_that_fails_for_now_raises_and_answers_nothing(self, house: House, trigger: Trigger) -> None:
        session = begun(house, trigger)
        task = session.task

        def tired(*_: object, **__: object) -> None:
            raise StorageError("Tired.")

        house.before[SLOW[trigger][2]] = tired
        with pytest.raises(StorageError):
            session.work()
        assert session.task == task

    @pytest.mark.parametrize("trigger", SLOW)
    def test_when_the_attempts_are_used_up_nothing_is_worked(self, house: House, trigger: Trigger) -> None:
        _, guard, part = SLOW[trigger]
        session = begun(house, trigger)
        session.given_up = UploadError("Tried 3 times. Tired.", code="tired")

        def never(*_: object, **__: object) -> None:
            pytest.fail("it worked")

        house.before[part] = never
        session.work()
        assert getattr(session, guard)() is False
        assert session.failure is session.given_up

    def test_data_that_changed_is_not_pre_processed(self, house: House) -> None:
        session = begun(house, T.PREPROCESS)
        (house.root / "uploads" / session.task.destinationpath).write_bytes(b"fire film")
        assert session.content_accepted() is False
        assert isinstance(session.failure, DataLost)

    def test_a_step_of_somebody_else_is_not_held(self, house: House) -> None:
        session = begun(house, T.PREPROCESS)
        session.token = "theirs"
        assert session.holds_step() is False
        session.token, session.step = "mine", T.IMPORT
        assert session.holds_step() is False

    def test_attempts_are_counted_for_each_step_of_its_own(self, house: House) -> None:
        session = begun(house, T.PREPROCESS)
        session.task = evolve(session.task, step=Step(T.PREPROCESS, "", 3, 0.0))
        assert session.attempts_left() is False
        session.task = evolve(session.task, step=Step(T.PREPROCESS, "", 2, 0.0))
        assert session.attempts_left() is True
        session.task = evolve(session.task, step=Step(T.IMPORT, "", 3, 0.0))
        assert session.attempts_left() is True


class TestRefusals:
    """For each precondition: a session in which it says no, and the code of the refusal."""

    def cases(self, house: House) -> Iterator[tuple[str, Session, str]]:
        ports, now = house.uploads.ports, house.clock.now
        waiting, done = house.bring(S.WAITFORCHUNK, "waiting"), house.bring(S.IMPORTCOMPLETE, "done")
        changed = evolve(done, placed=(evolve_file(done),))
        question = evolve(waiting, findings=(Finding("which", "hold", "Which one?"),))
        tired = evolve(waiting, step=Step(T.COMPLETE, "", 3, now))
        yield "chunk_fits", Session(waiting, ports, now, chunk=Chunk(5, b"x")), "offset_mismatch"
        yield "declaration_fits", Session(waiting, ports, now, declaration=Declaration(5)), "declared_already"
        yield "all_bytes_here", Session(waiting, ports, now), "all_bytes_here"
        yield "annotations_valid", Session(waiting, ports, now, annotations={"x": object()}), "annotations_invalid"  # type: ignore[dict-item]  # that is the point
        yield "step_is_due", Session(waiting, ports, now, step=T.PREPROCESS), "step_is_due"
        yield "attempts_left", Session(tired, ports, now, step=T.COMPLETE), "attempts_left"
        yield "holds_step", Session(waiting, ports, now, step=T.PREPROCESS, token="mine"), "holds_step"
        yield "no_open_question", Session(question, ports, now), "which"
        yield "no_undo_pending", Session(evolve(done, wanted=T.UNDO), ports, now), "no_undo_pending"
        yield "library_untouched", Session(changed, ports, now), "changed_since"
        yield "deadline_passed", Session(waiting, ports, now), "deadline_passed"
        undo = Session(changed, ports, now, step=T.UNDO)
        yield "undone", undo, "changed_since"

    def test_each_guard_has_a_code_and_a_sentence(self, house: House) -> None:
        found = set()
        for guard, session, code in self.cases(house):
            assert getattr(session, guard)() is False, guard
            refusal = session.refusal(guard)
            assert isinstance(refusal, Refused)
            assert (refusal.code, refusal.guard) == (code, guard)
            assert refusal.sentence[0].isupper(), refusal.sentence
            assert refusal.sentence.endswith("."), refusal.sentence
            assert " " in refusal.sentence
            found.add(guard)
        assert found == set(PRECONDITIONS)

    def test_each_slow_guard_repeats_what_went_wrong(self, house: House) -> None:
        session = Session(house.bring(S.WAITFORCHUNK), house.uploads.ports, house.clock.now)
        for _, guard, _ in SLOW.values():
            session.failure = StorageError("The disk is tired.", code="tired")
            refusal = session.refusal(guard)
            assert (refusal.sentence, refusal.code, refusal.guard) == ("The disk is tired.", "tired", guard)
            session.failure = None
            assert session.refusal(guard).sentence

    def test_a_refusal_changes_nothing_in_the_session(self, house: House) -> None:
        for guard, session, _ in self.cases(house):
            task, state = session.task, session.state
            for (trigger, source), ladder in ladders().items():
                if source == state and guard in ladder[-1].guards:
                    assert not machine.events[trigger.value].trigger(session)
            assert (session.task, session.state) == (task, state)


class TestCallbacks:
    def test_a_failure_without_a_reason_says_so(self, house: House) -> None:
        session = begun(house, T.PREPROCESS)
        session.note_failure()
        assert (session.task.code, session.task.step) == ("unknown", None)

    @pytest.mark.parametrize("wish", [T.INTEGRATE, T.START_IMPORT, T.UNDO])
    def test_a_failure_ends_every_wish(self, house: House, wish: Trigger) -> None:
        session = begun(house, T.PREPROCESS)
        session.task = evolve(session.task, wanted=wish, import_wanted=True)
        session.failure = UploadError("No.", code="no")
        session.note_failure()
        assert (session.task.wanted, session.task.import_wanted, session.task.code) == (None, False, "no")

    def test_a_removal_keeps_the_plan_to_take_back_what_is_half_done(self, house: House) -> None:
        session = begun(house, T.INTEGRATE)
        assert session.task.plan is not None
        session.forget_wishes()
        assert (session.task.step, session.task.wanted) == (None, None)
        assert session.task.plan is not None

    def test_a_retry_of_an_import_keeps_the_plan_and_others_do_not(self, house: House) -> None:
        for state, kept in ((S.IMPORTFAILED, True), (S.INTEGRATIONFAILED, False)):
            task = house.bring(state, state.value, annotations=house.NAMES if kept else {})
            assert task.plan is not None
            session = Session(task, house.uploads.ports, house.clock.now)
            session.forget_failure()
            assert (session.task.plan is not None) is kept

    def test_only_a_second_attempt_keeps_the_plan_on_record(self, house: House) -> None:
        session = begun(house, T.INTEGRATE)
        planned = session.task.plan
        again = Session(
            evolve(session.task, annotations={"artistname": "New", "name": "New"}),
            house.uploads.ports, house.clock.now, step=T.INTEGRATE, token="other",
        )  # fmt: skip
        again.take_step()
        assert again.task.plan == planned
        assert again.task.step is not None
        assert again.task.step.attempt == 2

    def test_what_cleans_up_is_left_for_after_the_record(self, house: House) -> None:
        session = begun(house, T.INTEGRATE)
        session.work()
        assert machine.events[T.INTEGRATE.value].trigger(session)
        assert (house.root / "music" / ".stagedoor").exists()
        for action in session.afterwards:
            action()
        assert not (house.root / "music" / ".stagedoor").exists()


def evolve_file(task: UploadTask) -> Any:
    """The task's first file, with the hash of another."""
    file = task.placed[0]
    return attrs.evolve(file, sha256="0" * 64)


# ── sentences ─────────────────────────────────────────────────────────────────────────────────────────────────


def planned(count: int) -> list[PlannedFile]:
    return [PlannedFile("music", f"A/{number}.mp4") for number in range(count)]


def test_a_sentence_has_the_first_twenty_names() -> None:
    names = [f"{number}" for number in range(22)]
    assert _listed(names[:1]) == "0"
    assert _listed(names[:20]) == ", ".join(names[:20])
    assert _listed(names) == ", ".join(names[:20]) + " and 2 more"


@pytest.mark.parametrize(
    ("count", "what"),
    [
        (1, "already. It is never overwritten"),
        (2, "already. So is another, and they are never overwritten"),
        (4, "already. So are 3 more of the files, and they are never overwritten"),
    ],
)
def test_what_is_in_the_way_is_said(count: int, what: str) -> None:
    found = _collision(planned(count))
    assert (found.code, found.severity) == ("destination_exists", "reject")
    assert found.sentence.startswith(f"There is A/0.mp4 in the music directory {what}: change the annotations")
    old, gone = ("old file is", "it is") if count == 1 else ("old files are", "they are")
    assert f"and the {old} kept for undo until the upload is removed: then {gone} deleted." in found.sentence


def test_what_is_left_out_is_said() -> None:
    behind = "byte for byte, and not this upload's to take back."
    assert _already_there(planned(1)).sentence == f"A/0.mp4 is left out: it is there already, {behind}"
    assert _already_there(planned(2)).sentence == f"A/0.mp4, A/1.mp4 are left out: they are there already, {behind}"
    assert _already_there(planned(1)).severity == "warn"
