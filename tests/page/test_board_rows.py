"""What a row of the board says, and that what it offers is what the life cycle allows."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from stagedoor.lifecycle import ROWS, By, State

from .browsing import needs_node, node

pytestmark = needs_node

LINE: Final[dict[str, Any]] = {
    "id": "a" * 40, "uid": "u", "state": "waitforchunk", "contenttype": "video", "filename": "clip.mp4",
    "mimetype": "video/mp4", "filesize": 2_000_000, "offset": 500_000, "revision": 3, "created": 1.0, "updated": 2.0,
    "message": None, "code": None, "questions": [], "due": None, "names": {}, "rate": 0, "eta": None,
}  # fmt: skip
SOURCE: Final[dict[str, Any]] = {
    "localId": "l", "id": None, "name": "clip.mp4", "size": 2_000_000, "phase": "sending", "done": 500_000,
    "problem": None, "known": [], "regrant": False,
}  # fmt: skip

NAMED: Final[dict[str, Any]] = {"names": {"artistname": "A", "name": "B"}}

LOOK: Final = """
import { actionsFor, viewOf } from "STATIC/rows.js";
const cases = JSON.parse(process.argv.at(-1));
const found = [];
for (const { line, source } of cases) {
  const actions = [];
  for (const action of actionsFor(line, source)) {
    const calls = [];
    const called = (name) => (...values) => { calls.push([name, ...values]); return true; };
    const all = new Proxy({}, { get: (_, name) => called(name) });
    globalThis.location = { set hash(place) { calls.push(["open", place]); } };
    const app = {
      api: { post: async (path, body) => calls.push(["post", path, body]) }, sources: all,
      confirm: async (asked) => calls.push(["confirm", asked]) > 0,
      complain: called("complain"),
      choose: called("choose"),
    };
    await action.run(app);
    actions.push({ icon: action.icon, label: action.label, calls });
  }
  found.push({ view: viewOf(line, source), actions });
}
console.log(JSON.stringify(found));
"""


def rows(*cases: tuple[dict[str, Any] | None, dict[str, Any] | None]) -> list[Any]:
    asked = [{k: v for k, v in (("line", line), ("source", source)) if v is not None} for line, source in cases]
    found: list[Any] = node(LOOK, json.dumps(asked))
    return found


def row(line: dict[str, Any] | None = None, source: dict[str, Any] | None = None) -> Any:
    (found,) = rows((LINE | line if line is not None else None, SOURCE | source if source is not None else None))
    return found


def posts(action: Any) -> list[tuple[str, Any]]:
    return [(call[1].rpartition("/")[2], call[2]) for call in action["calls"] if call[0] == "post"]


def test_what_is_offered_is_what_the_life_cycle_lets_a_client_do() -> None:
    """For every state, with and without a question, and with something that is due."""
    states = [state for state in State if state is not State.NOTEXISTING]
    lines = [
        LINE | {"state": state.value, "questions": questions, "due": due} | names
        for state in states
        for questions in ([], ["album"])
        for due in (None, "integrate")
        for names in ({}, NAMED)
    ]
    allowed = {(row.trigger.value, row.source) for row in ROWS if By.CLIENT in row.by}
    offered = set()
    for line, found in zip(lines, rows(*((line, None) for line in lines)), strict=True):
        assert len(found["actions"]) <= 2
        for action in found["actions"]:
            for trigger, _ in posts(action):
                assert (trigger, State(line["state"])) in allowed
                assert not (trigger == "request" and line["questions"]), "an open question refuses it"
                offered.add((trigger, line["state"]))
    wanted = {
        ("request", "preprocessed"), ("start_import", "integrated"), ("retry", "uploadfailed"),
        ("retry", "invalidcontent"), ("retry", "integrationfailed"), ("retry", "importfailed"),
        ("remove", "waitforchunk"), ("remove", "importcomplete"),
    }  # fmt: skip
    assert wanted <= offered


def test_whatever_deletes_asks_first() -> None:
    states = ["waitforchunk", "uploadfailed", "invalidcontent", "preprocessed", "importfailed", "importcomplete"]
    found = rows(*((LINE | {"state": state}, None) for state in states), (LINE, SOURCE | {"id": LINE["id"]}))
    for one in found:
        (deleting,) = [action for action in one["actions"] if action["icon"] in ("remove", "cancel")]
        (asked, *_), (done, *_) = deleting["calls"]
        assert (asked, done in ("post", "cancel")) == ("confirm", True)
    kept = found[states.index("importcomplete")]["actions"][0]["calls"][0][1]["text"]
    assert "What is in the library stays" in kept


def test_import_asks_for_both_integration_and_import() -> None:
    found = row({"state": "preprocessed"} | NAMED)
    assert posts(found["actions"][0]) == [("request", {"trigger_import": True})]
    assert found["view"]["look"] == "asking"
    waiting = row({"state": "preprocessed", "due": "integrate"} | NAMED)
    assert (waiting["actions"], waiting["view"]["look"]) == ([], "working")


@pytest.mark.parametrize(
    ("contenttype", "names", "missing"),
    [
        ("video", {"artistname": "A"}, True),
        ("video", {"artistname": "A", "name": "B"}, False),
        ("artwork", {"artistname": "A", "name": "B"}, True),
        ("artwork", {"artistname": "A", "albumname": "B"}, False),
        ("artwork", {"albumid": "7"}, False),
        ("album", {}, False),
    ],
)
def test_what_cannot_be_imported_without_names_says_so(contenttype: str, names: dict[str, str], missing: bool) -> None:
    found = row({"state": "preprocessed", "contenttype": contenttype, "names": names})
    assert (found["view"]["chip"] == "Something is missing") is missing
    assert [action["label"] for action in found["actions"]] == ["Say what it is" if missing else "Import", "Remove"]


@pytest.mark.parametrize(
    ("code", "label"),
    [("destination_exists", "Answer"), ("annotation_missing", "Say what it is"), ("no_tree", "Try again")],
)
def test_what_could_not_be_placed_is_tried_again_only_where_that_helps(code: str, label: str) -> None:
    found = row({"state": "integrationfailed", "code": code, "message": "annotate answers.x"})
    assert found["actions"][0]["label"] == label
    assert ("annotate" in found["view"]["sub"]) is (label == "Try again")


def test_a_question_leads_to_the_card() -> None:
    found = row({"state": "preprocessed", "questions": ["album", "disc"], "message": "old"})
    assert found["view"]["sub"] == "Open it and answer 2 questions."
    assert found["actions"][0]["calls"] == [["open", f"#/uploads/{LINE['id']}"]]


@pytest.mark.parametrize(
    ("source", "look", "calls"),
    [
        ({"phase": "reading"}, "working", ["cancel"]),
        ({"phase": "known", "known": ["x"]}, "asking", ["sendAnyway", "forget"]),
        ({"phase": "waiting"}, "moving", ["pause", "cancel"]),
        ({"phase": "sending"}, "moving", ["pause", "cancel"]),
        ({"phase": "paused"}, "gone", ["resume", "cancel"]),
        ({"phase": "lost", "regrant": True}, "asking", ["regrant", "cancel"]),
        ({"phase": "lost"}, "asking", ["choose", "cancel"]),
        ({"phase": "failed", "problem": {"message": "It is gone. Choose it again."}}, "failed", ["retry", "forget"]),
    ],
)
def test_what_this_tab_sends(source: dict[str, Any], look: str, calls: list[str]) -> None:
    found = row(None, source)
    assert found["view"]["look"] == look
    assert [action["calls"][-1][0] for action in found["actions"]] == calls
    assert all(call[1:] in ([], ["l"]) for action in found["actions"] for call in action["calls"])
    if "problem" in source:
        assert (found["view"]["sub"], found["view"]["matters"]) == ("It is gone. Choose it again.", True)


def test_this_tab_knows_better_only_while_the_file_is_on_its_way() -> None:
    paused = {"id": LINE["id"], "phase": "paused"}
    assert row({}, paused)["view"]["chip"] == "Paused"
    assert row({"state": "invalidcontent", "message": "Broken."}, paused)["view"]["chip"] == "Cannot be used"
    done = row({}, {"id": LINE["id"], "phase": "done"})
    assert [action["label"] for action in done["actions"]] == ["Cancel"]
    assert done["actions"][0]["calls"][-1][0] == "post"


def test_numbers_of_what_moves() -> None:
    view = row({"rate": 2_500_000, "eta": 75.2})["view"]
    assert (view["numbers"], view["share"], view["sub"]) == ("25 % · 2.5 MB/s", 0.25, "1 min 15 s left · 2.0 MB")
    unknown = row({"filesize": None})["view"]
    assert (unknown["numbers"], unknown["share"], unknown["sub"]) == ("500 kB", None, "")
    still = row({"state": "importcomplete"})["view"]
    assert (still["numbers"], "share" in still) == ("", False)


def test_names_come_from_the_tags_where_there_are_some() -> None:
    named = row({"names": {"artistname": "A", "name": "B", "albumname": "C"}, "state": "importcomplete"})["view"]
    assert (named["title"], named["sub"]) == ("A – B", "clip.mp4 · 2.0 MB")
    assert row({"names": {"artistname": "A", "albumname": "C"}})["view"]["title"] == "A – C"
    assert row({"names": {}})["view"]["title"] == "clip.mp4"


def test_every_state_has_words_of_its_own() -> None:
    states = [state.value for state in State if state is not State.NOTEXISTING]
    chips = [found["view"]["chip"] for found in rows(*((LINE | {"state": state}, None) for state in states))]
    assert len(set(chips)) == len(chips)
    assert not [chip for chip in chips if not re.fullmatch(r"[A-Z][a-z, ]+", chip)]
