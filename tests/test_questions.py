"""What the user has to decide: questions, answers, and the note that something is there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import attrs
import pytest
from attrs import evolve

from stagedoor.errors import Refused
from stagedoor.explain import explain
from stagedoor.lifecycle import State as S
from stagedoor.ports import Preprocessed, Source, Surroundings
from stagedoor.tasks import Finding, Plan, PlannedFile, UploadTask, dump, load
from stagedoor.testing.content import PlainContent

if TYPE_CHECKING:
    from conftest import House

WHICH = Finding("which", "hold", "Which one is it?", options=("left", "right"))
WHERE = Finding("where", "hold", "Where does it go?", options=("here",))
ODD = Finding("odd", "warn", "That is odd.")


class Asking(PlainContent):
    """Asks about the content, and about its place."""

    def __init__(self, content: Sequence[Finding] = (), place: Sequence[Finding] = ()) -> None:
        super().__init__()
        self.content, self.place = tuple(content), tuple(place)

    def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
        """See `ContentType.preprocess`."""
        return evolve(super().preprocess(task, source), findings=self.content)

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """See `ContentType.plan`."""
        plan = super().plan(task, around)
        return evolve(plan, problems=(*plan.problems, *self.place))


def asking(closed: House, *, content: Sequence[Finding] = (), place: Sequence[Finding] = ()) -> House:
    closed.open(contents=[Asking(content, place)])
    closed.bring(S.PREPROCESSED)
    return closed


# ── questions and answers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("content", "place", "code"), [((WHICH,), (), "which"), ((), (WHERE,), "where")])
@pytest.mark.parametrize("how", ["request", "integrate"])
def test_an_open_question_refuses_integration(
    closed: House, content: tuple[Finding, ...], place: tuple[Finding, ...], code: str, how: str
) -> None:
    house = asking(closed, content=content, place=place)
    options = ", ".join((*content, *place)[0].options)
    with house.refused(Refused, code, guard="no_open_question", says=rf"answers\.{code} \({options}\) first"):
        getattr(house.uploads, how)("one")


def test_the_question_about_the_content_is_the_first(closed: House) -> None:
    house = asking(closed, content=[WHICH], place=[WHERE])
    with house.refused(Refused, "which", guard="no_open_question"):
        house.uploads.integrate("one")
    house.uploads.annotate("one", {"answers.which": "left"})
    with house.refused(Refused, "where", guard="no_open_question"):
        house.uploads.integrate("one")
    house.uploads.annotate("one", {"answers.where": "here"})
    assert house.uploads.integrate("one").state is S.INTEGRATED


@pytest.mark.parametrize("wrong", ["up", "", "LEFT", None, True, ["left"], {"left": True}])
def test_a_wrong_option_leaves_it_open(closed: House, wrong: Any) -> None:
    house = asking(closed, content=[WHICH])
    task = house.uploads.annotate("one", {"answers.which": wrong})
    assert task.open_questions == (WHICH,)
    with house.refused(Refused, "which", guard="no_open_question"):
        house.uploads.request("one")


@pytest.mark.parametrize("answer", ["anything", False, 0, None])
def test_a_question_without_options_takes_any_answer(closed: House, answer: Any) -> None:
    house = asking(closed, content=[attrs.evolve(WHICH, options=())])
    assert house.uploads.annotate("one", {"answers.which": answer}).open_questions == ()
    assert house.uploads.integrate("one").state is S.INTEGRATED


def test_an_answer_may_come_with_the_offer(closed: House) -> None:
    closed.open(contents=[Asking([WHICH], [WHERE])])
    answers = {"answers.which": "right", "answers.where": "here"}
    closed.bring(S.PREPROCESSED, annotations={**closed.NAMES, **answers})
    assert closed.uploads.integrate("one").state is S.INTEGRATED


def test_the_plan_shows_what_is_open(closed: House) -> None:
    house = asking(closed, place=[WHERE, ODD])
    assert house.uploads.plan("one").problems == (WHERE, ODD)
    house.uploads.annotate("one", {"answers.where": "here"})
    assert house.uploads.plan("one").problems == (ODD,)


def test_a_question_that_comes_up_after_the_request_is_no_reason_to_go_on(closed: House) -> None:
    content = Asking()
    closed.open(contents=[content])
    closed.bring(S.PREPROCESSED)
    closed.uploads.request("one")
    content.place = (WHERE,)  # somebody else has changed the library
    closed.worker.drain(10)
    task = closed.uploads.get("one")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "where")
    assert closed.files("music") == {}
    closed.uploads.retry("one")
    closed.uploads.annotate("one", {"answers.where": "here"})
    assert closed.uploads.integrate("one").state is S.INTEGRATED


def test_a_plan_that_cannot_be_made_now_asks_nothing(closed: House) -> None:
    house = asking(closed, place=[WHERE])
    house.before["content.plan"] = lambda *_: None
    house.before["music.missing_directories"] = _fails
    with pytest.raises(OSError, match="disk"):
        house.uploads.plan("one")


def _fails(*_: object) -> None:
    raise OSError("The disk is away.")


def test_explained(closed: House) -> None:
    house = asking(closed, content=[WHICH], place=[WHERE, ODD])
    told = explain(house.uploads, "one")
    assert "An open question: Which one is it? (left, right)" in told.why
    assert "An open question: Where does it go? (here)" in told.why
    assert "What was noticed: That is odd." in told.why
    (refusal,) = [refused for refused in told.refused if refused.guard == "no_open_question"]
    assert refusal.command == "stagedoor annotate one answers.which=ANSWER"
    house.uploads.annotate("one", {"answers.which": "left"})
    told = explain(house.uploads, "one")
    assert "It was asked: Which one is it? The answer is “left”." in told.why
    (refusal,) = [refused for refused in told.refused if refused.guard == "no_open_question"]
    assert refusal.command == "stagedoor annotate one answers.where=here"  # there is no other


def test_a_wrong_answer_is_explained(closed: House) -> None:
    house = asking(closed, content=[WHICH])
    house.uploads.annotate("one", {"answers.which": "up"})
    told = explain(house.uploads, "one").why
    assert "An open question: Which one is it? (left, right) The answer “up” is none of these." in told
    assert not any(line.startswith("It was asked") for line in told)


def test_options_survive_the_document(closed: House) -> None:
    house = asking(closed, content=[WHICH])
    task = house.uploads.get("one")
    assert load(dump(task)).findings == (WHICH,)


# ── a content type that makes too little ──────────────────────────────────────────────────────────────────────


class Forgetful(PlainContent):
    """Plans two files, and makes one."""

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """See `ContentType.plan`."""
        return evolve(
            super().plan(task, around),
            files=(PlannedFile("music", "Alpha/1.txt", "one"), PlannedFile("music", "Alpha/2.txt", "two")),
        )

    @contextmanager
    def produce(
        self, task: UploadTask, source: Source, files: Sequence[PlannedFile]
    ) -> Iterator[Iterator[tuple[PlannedFile, BinaryIO]]]:
        """See `Producer.produce`."""
        with source() as file:
            yield iter([(files[0], file)])


def test_an_integration_that_makes_too_little_fails_and_leaves_nothing(closed: House) -> None:
    closed.open(contents=[Forgetful()])
    closed.bring(S.PREPROCESSED)
    task = closed.uploads.integrate("one")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "cannot_produce")
    assert task.message == "1 of 2 planned files were not made, Alpha/2.txt among them."
    assert closed.files("music") == {}


# ── before a byte is sent ─────────────────────────────────────────────────────────────────────────────────────


def test_known(house: House) -> None:
    assert house.uploads.known("0" * 40) == ()
    task = house.bring(S.IMPORTCOMPLETE)
    assert task.sourcechecksum is not None
    assert list(house.uploads.known(task.sourcechecksum.upper())) == ["Alpha/Beta.mp4"]
    house.uploads.undo("one")
    assert list(house.uploads.known(task.sourcechecksum)) == []


@pytest.mark.parametrize("wrong", ["", "x" * 40, "0" * 39])
def test_known_needs_a_sha1(house: House, wrong: str) -> None:
    with pytest.raises(Refused) as caught:
        house.uploads.known(wrong)
    assert caught.value.code == "invalid_checksum"


def test_it_is_no_reason_to_refuse_anything(house: House) -> None:
    house.bring(S.IMPORTCOMPLETE)
    names: Mapping[str, str] = {**house.NAMES, "name": "Gamma"}
    assert house.bring(S.IMPORTCOMPLETE, "two", annotations=names).placed[0].path == "Alpha/Gamma.mp4"
