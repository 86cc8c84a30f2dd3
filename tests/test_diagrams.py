"""Diagrams: current, complete, safe with hostile names, and drawn so that nothing covers anything."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable, Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagedoor.diagrams import (
    assuming,
    content_path,
    contents,
    document,
    dot,
    draw,
    happy_path,
    hash_of,
    json_text,
    main,
    markdown,
    mermaid,
    plantuml,
    png,
    rows_taken,
    scxml,
    stale,
    svg,
    write,
)
from stagedoor.diagrams.files import Drawing
from stagedoor.diagrams.pictures import sha256
from stagedoor.diagrams.shapes import PALETTES, Theme
from stagedoor.diagrams.sheet import Sheet
from stagedoor.diagrams.views import clean, read
from stagedoor.errors import ConfigurationError
from stagedoor.lifecycle import ROWS, STORED_STATES, By, Kind, Phase, Row, State, Trigger
from stagedoor.tasks import Event, UploadTask

DIRECTORY = Path(__file__).parents[1] / "diagrams"
VIDEO = content_path(has_artwork=True)
SVG = "{http://www.w3.org/2000/svg}"


def upload(*steps: tuple[str, str, str], **changes: Any) -> UploadTask:
    """A task with this history, in the state where that ends."""
    history = tuple(Event(number, float(number), *step) for number, step in enumerate(steps, 1))
    task = UploadTask(
        id="clip-1", filesize=10, offset=10, contenttype="video", mimetype="video/mp4", sourcefilename="clip.mp4",
        sourcechecksum=None, destinationpath="video-x.mp4", uid="0" * 32, created=0.0, updated=0.0, history=history,
        state=State(history[-1].dest) if history else State.WAITFORCHUNK,
    )  # fmt: skip
    return attrs.evolve(task, **changes)


WALK = (
    ("create", "waitforchunk", "waitforchunk"),
    ("chunk", "waitforchunk", "waitforchunk"),
    ("complete", "waitforchunk", "uploadcomplete"),
    ("preprocess", "uploadcomplete", "preprocessed"),
    ("integrate", "preprocessed", "integrated"),
    ("undo", "integrated", "preprocessed"),
    ("integrate", "preprocessed", "integrationfailed"),
)
TASK = upload(*WALK, message="There is such a file already.")

TEXTS: Mapping[str, Callable[..., str]] = {
    "dot": dot, "svg": svg, "mermaid": mermaid, "plantuml": plantuml, "scxml": scxml, "json": json_text, "md": markdown,
}  # fmt: skip


# ── the files ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DIRECTORY.parent)


@pytest.mark.parametrize("name", contents())
def test_the_files_are_current(name: str) -> None:
    wrong = [sentence for sentence in stale(Path("diagrams")) if f"diagrams/{name} " in sentence]
    assert not wrong, wrong[0]


def test_nothing_else_is_in_the_directory() -> None:
    assert {path.name for path in DIRECTORY.iterdir()} == set(contents())


def test_pictures_bear_the_hash_of_their_dot() -> None:
    for name, content in contents().items():
        found = hash_of((DIRECTORY / name).read_bytes())
        if isinstance(content, Drawing):
            assert found == sha256(content.dot), name
        else:
            assert (found is not None) == name.endswith(".svg"), name
    assert hash_of((DIRECTORY / "lifecycle.svg").read_bytes()) == sha256((DIRECTORY / "lifecycle.dot").read_text())


def test_pictures_have_a_size_for_a_page() -> None:
    for path in DIRECTORY.glob("*.svg"):
        root = ET.parse(path).getroot()
        width, height = int(root.attrib["width"]), int(root.attrib["height"])
        assert 500 <= width <= 760, path
        assert height <= 1.7 * width, path
    for path in DIRECTORY.glob("*.png"):
        data = path.read_bytes()
        width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
        assert 1000 <= width <= 1500, path
        assert height <= 1.7 * width, path
        assert path.stat().st_size < 500_000


def test_a_stale_directory_is_told_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in DIRECTORY.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / "lifecycle.mmd").write_text("old")
    (tmp_path / "lifecycle.md").unlink()
    assert main(["--check", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path}/lifecycle.mmd is stale. Run: python -m stagedoor.diagrams --write {tmp_path}\n" in told
    assert f"{tmp_path}/lifecycle.md is missing. Run:" in told
    assert write(tmp_path) == ["lifecycle.mmd", "lifecycle.md"]
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / "lifecycle.png").write_bytes(png(happy_path()) if graphviz() else b"\x89PNG\r\n\x1a\n")
    assert stale(tmp_path)[0].startswith(f"{tmp_path}/lifecycle.png is stale.")


def test_a_change_of_the_table_makes_files_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tuple(row for row in ROWS if row.trigger is not Trigger.FAIL)
    for emitter in TEXTS.values():
        monkeypatch.setattr(emitter, "__defaults__", (changed,))
    wrong = " ".join(stale(Path("diagrams")))
    for name in ("dot", "mmd", "puml", "scxml", "json", "md", "svg", "png"):
        assert f"diagrams/lifecycle.{name} is stale" in wrong


def test_files_do_not_depend_on_the_order_of_sets() -> None:
    code = (
        "import hashlib; from stagedoor.diagrams import contents\n"
        "print(hashlib.sha256(repr(sorted(contents().items())).encode()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1


# ── completeness ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["dot", "svg", "mermaid", "plantuml", "scxml", "json"])
def test_every_row_and_state_is_there(name: str) -> None:
    text = TEXTS[name]()
    words = set(re.split(r"[^\w:]+", text))
    assert {row.id for row in ROWS} <= words
    assert set(State) <= words
    assert {guard for row in ROWS for guard in row.guards} <= words


def test_every_row_is_in_the_tables_for_people() -> None:
    found = set()
    for line in markdown().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0].startswith("`"):
            trigger, sources, dest, guards, before, by, _ = cells
            for source in re.findall(r"`(\w+)`", sources):
                found.add((trigger.strip("`"), source, dest.strip("`"), guards, before, by))
    assert found == {
        (
            row.trigger.value,
            row.source.value,
            row.dest.value if row.dest else "",
            ", ".join(f"`{guard}`" for guard in row.guards),
            ", ".join(f"`{callback}`" for callback in row.before),
            "/".join(row.by),
        )
        for row in ROWS
    }
    assert all(f"| `{state}` | {state.phase} | {html.escape(state.meaning)} |" in markdown() for state in State)


def test_the_document_has_what_a_page_needs() -> None:
    page = json.loads(json_text())
    assert page == document()
    assert set(page) == {"schema", "initial", "phases", "states", "triggers", "guards", "rows"}
    assert page["initial"] == "waitforchunk"
    assert page["phases"] == list(Phase)
    names = [state["name"] for state in page["states"]]
    assert names == list(State)
    for state in page["states"]:
        assert set(state) == {"name", "phase", "meaning", "kind", "virtual", "due", "expires"}
        assert state["phase"] in page["phases"]
        assert state["meaning"] == State(state["name"]).meaning
        assert state["kind"] in {"ordinary", "failure", "goal", "end"}
    kinds = {state["name"]: state["kind"] for state in page["states"]}
    assert {name for name, kind in kinds.items() if kind == "failure"} == {
        "uploadfailed", "invalidcontent", "integrationfailed", "importfailed",
    }  # fmt: skip
    assert [name for name, kind in kinds.items() if kind in ("goal", "end")] == [
        "importcomplete", "remove", "notexisting",
    ]  # fmt: skip
    assert [state["name"] for state in page["states"] if state["virtual"]] == ["notexisting"]
    for found, row in zip(page["rows"], ROWS, strict=True):
        told = {field.name: getattr(row, field.name) for field in attrs.fields(Row)}
        assert found == {**json.loads(json.dumps(told)), "id": row.id, "phase": row.phase}
        assert found["source"] in names
        assert found["dest"] is None or found["dest"] in names
        assert found["trigger"] in page["triggers"]
        assert set(found["guards"]) <= set(page["guards"])


def test_what_is_true_of_every_upload_is_drawn_once() -> None:
    for text in (dot(), mermaid(), plantuml()):
        assert len(re.findall(r"^ *anystate -\S*> remove ", text, re.MULTILINE)) in (1, 2)  # or one for each trigger
        assert not re.findall(r"^ *(?!anystate)\w+ -\S*> remove\b", text, re.MULTILINE)
    for state in STORED_STATES:
        assert not re.findall(rf"^ *{state} -\S*> *{state}\b", dot() + mermaid() + plantuml(), re.MULTILINE)


# ── views ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_content_type_without_artwork_has_no_artwork_state() -> None:
    rows = content_path(has_artwork=False)
    assert State.IMPORTARTWORK not in {row.source for row in rows} | {row.dest for row in rows}
    assert "import_:startimport:importcomplete" in {row.id for row in rows}
    assert "importartwork" not in dot(rows)
    assert len(rows) == len(ROWS) - 7


def test_a_content_type_with_artwork_always_makes_it() -> None:
    gone = {row.id for row in ROWS} - {row.id for row in VIDEO}
    assert gone == {"import_:startimport:importcomplete"}
    assert not any("has_artwork_step" in row.guards for row in VIDEO)
    assert [row.id for row in VIDEO] == [row.id for row in ROWS if row.id not in gone], "the order stays"


def test_assuming_nothing_leaves_the_table_as_it_is() -> None:
    assert assuming() == ROWS


def test_the_happy_path_has_no_mishaps() -> None:
    rows = happy_path(VIDEO)
    assert {row.kind for row in rows} == {Kind.PROGRESS}
    assert [row.dest for row in rows if row.dest] == [
        "uploadcomplete", "preprocessed", "integrated", "startimport", "importartwork", "importcomplete",
    ]  # fmt: skip
    assert "failed" not in svg(rows)


def test_rows_that_cannot_be_drawn_are_refused() -> None:
    wrong = (
        Row(Trigger.RETRY, State.REMOVE, State.WAITFORCHUNK, doc="No."),
        Row(Trigger.RETRY, State.WAITFORCHUNK, State.NOTEXISTING, doc="No."),
    )
    for row in wrong:
        for emitter in TEXTS.values():
            with pytest.raises(ConfigurationError, match="cannot be drawn"):
                emitter([*ROWS, row])


@pytest.mark.parametrize("guard", ["a b", "x' && true", "a--b", "x\ny", '"/>', ""])
def test_guards_that_are_no_names_never_reach_a_chart(guard: str) -> None:
    rows = [*ROWS, Row(Trigger.FAIL, State.PREPROCESSED, State.INTEGRATIONFAILED, guards=(guard,), doc="Hm.")]
    for emitter in (mermaid, plantuml, scxml, markdown):
        with pytest.raises(ConfigurationError, match="no name"):
            emitter(rows)
    ET.fromstring(svg(rows))
    check_dot(dot(rows))


# ── a task ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_taken_are_those_of_the_history() -> None:
    assert rows_taken(TASK) == (
        "chunk:waitforchunk:internal", "complete:waitforchunk:uploadcomplete", "preprocess:uploadcomplete:preprocessed",
        "integrate:preprocessed:integrated", "undo:integrated:preprocessed",
        "integrate:preprocessed:integrationfailed",
    )  # fmt: skip


def test_the_way_of_a_task_is_bold_and_numbered() -> None:
    root = ET.fromstring(svg(VIDEO, task=TASK))
    taken = {group.attrib["data-rows"] for group in root.iter(f"{SVG}g") if group.attrib["class"].endswith(" taken")}
    assert taken == set(rows_taken(TASK)) - {"chunk:waitforchunk:internal"}
    (here,) = (group for group in root.iter(f"{SVG}g") if group.attrib["class"].endswith(" here"))
    assert here.attrib["data-state"] == "integrationfailed"
    for group in root.iter(f"{SVG}g"):
        if group.attrib["data-rows" if "row" in group.attrib["class"] else "class"] == "undo:integrated:preprocessed":
            assert "".join(group.itertext()).replace("\n", "").startswith("undo:")
            assert "5  undo" in "".join(group.itertext())
    bold = [line for line in dot(VIDEO, task=TASK).splitlines() if 'penwidth="2.8"' in line]
    assert {re.search(r' id="([^"]+)"', line)[1] for line in bold} == taken  # type: ignore[index]
    assert (
        bold == [line for line in dot(VIDEO, task=TASK).splitlines() if "->" in line and "class" in line][-len(bold) :]
    )


def test_of_lines_that_say_the_same_the_taken_one_is_whole() -> None:
    way = (
        *WALK[:5],
        ("start_import", "integrated", "startimport"),
        ("import_", "startimport", "importartwork"),
        ("import_artwork", "importartwork", "importcomplete"),
        ("undo", "importcomplete", "preprocessed"),
    )
    for task in (TASK, upload(*way), upload(*way, ("integrate", "preprocessed", "integrated"), *WALK[5:6])):
        sheet = Sheet(read(VIDEO), task)
        undo = {link.source: link for link in sheet.links if link.rows[0].trigger is Trigger.UNDO}
        for state, link in undo.items():
            assert link.head or not link.taken
            assert link.taken == any(e.trigger == "undo" and e.source == state for e in task.history)
        labelled = [link for link in undo.values() if link.label is not None and link.source != State.IMPORTFAILED]
        assert len(labelled) == 1
        numbers = labelled[0].words.lines[0][0].text.strip()
        taken = [str(i) for i, step in enumerate(rows_taken(task, VIDEO), 1) if step.startswith("undo")]
        assert numbers == ",".join(taken)


def test_a_removed_task_went_by_any_state() -> None:
    task = upload(*WALK, ("expire", "integrationfailed", "remove"))
    root = ET.fromstring(svg(task=task))
    (end,) = (group for group in root.iter(f"{SVG}g") if group.attrib["class"] == "row end taken")
    assert "expire:integrationfailed:remove" in end.attrib["data-rows"]
    assert "7  expire" in "".join(end.itertext())
    assert document(task=task)["task"]["state"] == "remove"


def test_a_task_in_a_state_that_a_view_leaves_out() -> None:
    for name, emitter in TEXTS.items():
        assert emitter(happy_path(), task=TASK), name


def test_a_long_history_stays_legible() -> None:
    many = [("retry", "uploadfailed", "waitforchunk"), ("fail", "waitforchunk", "uploadfailed")] * 90
    sheet = Sheet(read(ROWS), upload(*many))
    check_sheet(sheet)


# ── hostile names ─────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = [
    'a"b', "a'b", "a --> b", "a\nb\r\nc\u2028d", "<b>x</b>", "</text></svg><script>alert(1)</script>", "<!-- x", "]]>",
    "--", "a\\", "\\N \\G \\n \\\"", "`x`", "|a|b|", "[x](javascript:alert(1))", "http://x.example www.x.example",
    "%%{init: {}}%%", "x; y: z", "#35;&amp;&#60;", "{{x}} }", "end note\n@enduml\n@startuml", "[[http://x]] __u__",
    "**b** ~~s~~", "' comment", "/' comment '/", "<U+0041>", "\x00\x01\x1b[31m", "\u202egnp.exe", "\ud800", "\ufffe",
    "\U0001f3ac" * 60, "字" * 200, "x" * 5000, " ", "", "= <i> =", "- x", "1. x", "---", "```", "{% x %}",
    "$(x) ${x}", "@import 'x'",
]  # fmt: skip


def hostile(text: str) -> UploadTask:
    """A task that says it everywhere."""
    history = (*TASK.history, Event(99, 99.0, text, text, text, text))
    return attrs.evolve(TASK, id=text, message=text, sourcefilename=text, contenttype=text, code=text, history=history)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_text_everywhere(text: str) -> None:
    check_texts(hostile(text))


@given(text=st.text(max_size=80) | st.text(alphabet="-->%#&;:<>[]{}()|`'\"\\\n*_~$@!/ aé", max_size=60))
@settings(max_examples=25, deadline=None)
def test_any_name_is_text_everywhere(text: str) -> None:
    check_texts(hostile(text))


def check_texts(task: UploadTask) -> None:
    """Every format holds the task's words as words, and is otherwise as it is for a harmless task."""
    same = attrs.evolve(TASK, history=(*TASK.history, Event(99, 99.0, "x", "x", "x", "x")))
    picture = ET.fromstring(svg(VIDEO, task=task))
    assert {e.tag.removeprefix(SVG) for e in picture.iter()} <= {
        "svg", "title", "style", "rect", "circle", "path", "g", "text", "tspan",
    }  # fmt: skip
    assert not {key for e in picture.iter() for key in e.attrib if key.startswith("on") or "href" in key}
    title = picture.findtext(f"{SVG}title") or ""
    assert title == (clean(task.id, 48) or "?") or clean(task.id, 48).startswith(title.rstrip("…"))
    check_sheet(Sheet(read(VIDEO), task))
    check_dot(dot(VIDEO, task=task))
    check_mermaid(mermaid(VIDEO, task=task))
    check_plantuml(plantuml(VIDEO, task=task))
    chart = ET.fromstring(scxml(VIDEO, task=task))
    harmless = ET.fromstring(scxml(VIDEO, task=same))
    assert [(e.tag, e.attrib) for e in chart.iter()][1:] == [(e.tag, e.attrib) for e in harmless.iter()][1:]
    assert json.loads(json_text(VIDEO, task=task))["task"]["id"] == clean(task.id, 128)
    check_markdown(markdown(VIDEO, task=task), markdown(VIDEO, task=same))


STRING = r'"(?:[^"\\\n]|\\.)*"'


def check_dot(text: str) -> None:
    """Statements of the shapes that we write, and labels that are well-formed."""
    labels = re.findall(r"<<table.*?</table>>", text)
    for found in labels:
        ET.fromstring(found[1:-1])
        assert "\\" not in found.replace("\\\\", ""), "Graphviz expands it"
    bare = re.sub(r"<<table.*?</table>>", '""', text)
    bare = re.sub(STRING, "S", bare)
    attributes = r"\[\w+=S(?:, \w+=S)*\]"
    shape = rf"digraph stagedoor \{{|  subgraph \w+ \{{|  \}}|\}}| +\w+(?: -> \w+)? {attributes};"
    for line in bare.splitlines():
        assert re.fullmatch(shape, line), line


def check_mermaid(text: str) -> None:
    """Lines of the grammar, with words in which nothing has a meaning."""
    words = r"(?:[^\W_]|_(?!_)|[ .,()\[\]·✗↺●…]|#\d+;)*"
    first, *lines = text.splitlines()
    assert first == "stateDiagram-v2"
    shape = rf"|    (?:direction TB|%%(?: [\w:]+)+(?: {words})?|(?:\[\*\]|\w+) --> (?:\[\*\]|\w+)(?: : {words})?"
    shape += rf"|\w+ : {words}|note right of \w+ : {words}|classDef \w+ [\w#:, -]+|class [\w,]+ \w+)"
    for line in lines:
        assert re.fullmatch(shape, line), line
    assert text.count("note right of") <= 1


def check_plantuml(text: str) -> None:
    """Lines of the grammar, with words in which nothing has a meaning."""
    words = r"(?:[^\W_]|_(?!_)|[ .,()·✗↺…\]]|\[(?!\[)|<U\+[0-9A-F]{4,6}>)*"
    first, *lines, last = text.splitlines()
    assert (first, last) == ("@startuml", "@enduml")
    shape = rf"|hide empty description|skinparam shadowing false|title {words}|caption {words}| *'(?: [\w:]+)+|\}}"
    shape += rf'|state "[\w ]+" as \w+(?: #[\w;:]+ \{{)?|  state \w+ #[\w;:.]+| *\w+ : {words}'
    shape += rf"|(?:\[\*\]|\w+) -(?:\[[#\w,=]+\])?-?> (?:\[\*\]|\w+)(?: : {words}(?:\\n{words})?)?"
    for line in lines:
        assert re.fullmatch(shape, line), line


def check_markdown(text: str, harmless: str) -> None:
    """No markup but ours."""
    lines = [line for line in text.splitlines() if not line.startswith("Message: ")]
    others = [line for line in harmless.splitlines() if not line.startswith("Message: ")]
    assert len([line for line in lines if line]) == len([line for line in others if line])
    assert [line.count("|") for line in lines if "|" in line] == [line.count("|") for line in others if "|" in line]
    assert not re.search(r"[<>]|www\.|://|\]\(|!\[", text)


# ── plausible, whatever is drawn ──────────────────────────────────────────────────────────────────────────────


def check_sheet(sheet: Sheet) -> None:
    """Nothing covers anything: labels, states, notes; and lines run straight up, down and aside."""
    boxes = [*sheet.boxes.values(), *([sheet.any_box] if sheet.any_box else [])]
    assert not any(one.overlap(other) for one, other in combinations(boxes, 2))
    for link in sheet.links:
        assert all(x0 == x1 or y0 == y1 for (x0, y0), (x1, y1) in pairwise(link.points))
        assert not sheet.is_crowded(link), link.rows[0].id
    for number, note in enumerate(sheet.notes):
        assert not any(note.box.overlap(other.box) for other in sheet.notes[:number]), note.words
    for note in sheet.notes:
        assert note.box.right <= sheet.width
        assert note.box.bottom <= sheet.height
    for _, (begin, end) in sheet.samples:
        for box in (note.box for note in sheet.notes):
            assert box.right < begin[0] or box.left > end[0] or box.top > 60


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        VIDEO,
        content_path(has_artwork=False),
        happy_path(),
        happy_path(VIDEO),
        happy_path(content_path(has_artwork=False)),
        *(tuple(row for row in ROWS if row.kind is not kind) for kind in Kind),
        tuple(row for row in ROWS if row.dest is not None),
        (),
    ],
)
@pytest.mark.parametrize("task", [None, TASK], ids=["table", "task"])
def test_nothing_covers_anything(rows: tuple[Row, ...], task: UploadTask | None) -> None:
    check_sheet(Sheet(read(rows), task))
    ET.fromstring(svg(rows, task=task))
    check_dot(dot(rows, task=task))
    check_mermaid(mermaid(rows, task=task))
    check_plantuml(plantuml(rows, task=task))


LIVE = [state for state in STORED_STATES if state is not State.REMOVE]
NAMES = st.lists(st.sampled_from(["holds_step", "imported", "undone", "all_bytes_here"]), max_size=3, unique=True)
ROW = st.builds(
    Row,
    st.sampled_from(Trigger),
    st.sampled_from(LIVE),
    st.none() | st.sampled_from([*LIVE, State.REMOVE]),
    guards=NAMES.map(tuple),
    kind=st.sampled_from(Kind),
    by=st.lists(st.sampled_from(By), min_size=1, max_size=2, unique=True).map(tuple),
    doc=st.just("A row."),
)


@given(rows=st.lists(ROW, max_size=40, unique_by=lambda row: row.id))
@settings(max_examples=25, deadline=None)
def test_any_table_can_be_drawn(rows: list[Row]) -> None:
    """Perhaps not well, but wholly: tables that nobody has checked yet, too."""
    for name, text in {name: emitter(rows) for name, emitter in TEXTS.items()}.items():
        words = set(re.split(r"[^\w:]+", text))
        assert name == "md" or {row.id for row in rows} <= words
    ET.fromstring(svg(rows))
    ET.fromstring(scxml(rows))
    check_dot(dot(rows))
    check_mermaid(mermaid(rows))
    check_plantuml(plantuml(rows))
    sheet = Sheet(read(rows))
    assert set(sheet.boxes) == set(read(rows).states)
    assert not any(one.overlap(other) for one, other in combinations(sheet.boxes.values(), 2))


@given(dropped=st.sets(st.sampled_from(ROWS), max_size=12))
@settings(max_examples=40, deadline=None)
def test_a_table_with_rows_left_out_is_drawn_well(dropped: set[Row]) -> None:
    check_sheet(Sheet(read(row for row in ROWS if row not in dropped)))


# ── colours ───────────────────────────────────────────────────────────────────────────────────────────────────


def contrast(one: str, other: str) -> float:
    """As WCAG 2.1 defines it."""

    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read(theme: Theme) -> None:
    palette = PALETTES[theme]
    for ground in ("paper", "band"):
        for word in ("ink", "muted", "progress", "failure", "repair", "end"):
            assert contrast(palette[word], palette[ground]) >= 4.5, (word, ground)
    for kind in ("progress", "failure", "end"):
        assert contrast(palette["ink"], palette[f"{kind}-fill"]) >= 7
        assert contrast(palette["muted"], palette[f"{kind}-fill"]) >= 4.5
        assert contrast(palette["here"], palette[kind]) >= 4.5
    assert contrast(palette["faint"], palette["band"]) >= 2


def test_an_svg_follows_the_reader_unless_told_otherwise() -> None:
    assert "prefers-color-scheme:dark" in svg()
    for theme in ("light", "dark"):
        text = svg(theme=theme)
        assert "prefers-color-scheme" not in text
        assert PALETTES[theme]["failure"] in text
    assert len(set(map(len, (dot(), dot(theme="dark"))))) == 1, "themes differ in colours only"


# ── Graphviz ──────────────────────────────────────────────────────────────────────────────────────────────────


def graphviz() -> bool:
    """Whether something can draw."""
    try:
        draw("digraph { a }", "png")
    except ConfigurationError:
        return False
    return True


@pytest.mark.skipif(not graphviz(), reason="neither pygraphviz nor dot is here")
def test_graphviz_draws_what_the_dot_says() -> None:
    picture = png(VIDEO, task=hostile("\\N <b>\"'&"), dpi=72)
    assert hash_of(picture) == sha256(dot(VIDEO, task=hostile("\\N <b>\"'&")))
    sheet = Sheet(read(VIDEO), hostile("\\N <b>\"'&"))
    assert int.from_bytes(picture[16:20]) == pytest.approx(sheet.width, abs=12)
    assert int.from_bytes(picture[20:24]) == pytest.approx(sheet.height, abs=12)
    at, kinds = 8, []
    while at < len(picture):
        size, kind = int.from_bytes(picture[at : at + 4]), picture[at + 4 : at + 8]
        assert zlib.crc32(picture[at + 4 : at + 8 + size]) == int.from_bytes(picture[at + 8 + size : at + 12 + size])
        kinds.append(kind)
        at += 12 + size
    assert (kinds[0], kinds[-1], kinds.count(b"tEXt")) == (b"IHDR", b"IEND", 1)
    drawn = draw(dot(), "svg")
    assert hash_of(drawn) == sha256(dot())
    told = html.unescape(drawn.decode())
    assert all(f'id="{first}"' in told for first in re.findall(r' id="([^"]+)"', dot()))


@pytest.mark.skipif(not graphviz(), reason="neither pygraphviz nor dot is here")
def test_what_is_no_dot_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="could not draw") as caught:
        draw("digraph {{{", "png")
    assert caught.value.code == "graphviz_failed"


def test_without_graphviz_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"pip install stagedoor\[diagrams\]") as caught:
        png()
    assert caught.value.code == "graphviz_missing"
    assert svg(), "which needs none"


def test_without_graphviz_texts_are_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--write", str(tmp_path / "new")]) == 2
    assert "stagedoor[diagrams]" in capsys.readouterr().err
    texts = {name for name, content in contents().items() if not isinstance(content, Drawing)}
    assert {path.name for path in (tmp_path / "new").iterdir()} == texts


@pytest.mark.parametrize("fails", [False, True])
def test_a_dot_on_the_path_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: bool) -> None:
    program = tmp_path / "dot"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.stderr.write('no\\n\\x1bfont')\n"
        f"open({str(tmp_path / 'seen')!r}, 'w').write(repr(sys.argv[1:]) + sys.stdin.read())\n"
        + ("sys.exit(3)" if fails else "sys.stdout.write('<svg></svg>')")
    )
    program.chmod(0o755)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    if fails:
        with pytest.raises(ConfigurationError, match="could not draw: no font") as caught:
            draw("digraph { a }", "svg")
        assert caught.value.code == "graphviz_failed"
    else:
        picture = draw("digraph { a }", "svg", background="#ffffff")
        assert hash_of(picture) == sha256("digraph { a }")
        assert picture.endswith(b"\n<svg></svg>")
        assert (tmp_path / "seen").read_text() == "['-Tsvg', '-Gdpi=72', '-Gbgcolor=#ffffff']digraph { a }"


@pytest.mark.parametrize("picture", [b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR", b"<svg/>"])
def test_a_picture_without_a_hash(picture: bytes) -> None:
    assert hash_of(picture) is None
