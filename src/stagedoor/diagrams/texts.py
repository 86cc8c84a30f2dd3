"""The rows as text for people and for other programs: JSON, Markdown, Mermaid, PlantUML, SCXML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from ..lifecycle import DEADLINE_STATES, DUE_STATES, ROWS, Kind, Phase, Row, State
from ..tasks import UploadTask
from .views import ANY, START, Reading, actors, clean, grouped, heading, label, name, read, rows_taken

__all__ = ["document", "json_text", "markdown", "mermaid", "plantuml", "scxml"]


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────


def document(rows: Iterable[Row] = ROWS, *, task: UploadTask | None = None) -> dict[str, Any]:
    """The table as a new dictionary of plain JSON values, for a page that draws or explains it.

    Keys: ``schema`` (1), ``initial``, ``phases``, ``states`` (``name``, ``phase``, ``meaning``, ``kind``:
    ``ordinary``, ``failure``, ``goal`` or ``end``; ``virtual``; ``due``: the trigger of the step that it always
    waits for, or ``null``; ``expires``), ``triggers``, ``guards``, and ``rows`` (all attributes of `Row`, ``id`` and
    ``phase``). With a task also ``task`` (``id``, ``contenttype``, ``state``, ``message``, ``taken``: ids of rows).
    """
    reading = read(rows)
    known: dict[str, Any] = {
        "schema": 1,
        "initial": START.value,
        "phases": [phase.value for phase in Phase if any(state.phase is phase for state in reading.states)],
        "states": [
            {
                "name": state.value,
                "phase": state.phase.value,
                "meaning": state.meaning,
                "kind": reading.kind(state),
                "virtual": state is State.NOTEXISTING,
                "due": DUE_STATES[state].value if state in DUE_STATES else None,
                "expires": state in DEADLINE_STATES,
            }
            for state in reading.states
        ],
        "triggers": list(dict.fromkeys(row.trigger.value for row in reading.rows)),
        "guards": list(dict.fromkeys(guard for row in reading.rows for guard in row.guards)),
        "rows": [
            {
                "id": row.id,
                "trigger": row.trigger.value,
                "source": row.source.value,
                "dest": None if row.dest is None else row.dest.value,
                "guards": list(row.guards),
                "before": list(row.before),
                "kind": row.kind.value,
                "by": [by.value for by in row.by],
                "phase": row.phase.value,
                "doc": row.doc,
            }
            for row in reading.rows
        ],
    }
    if task is not None:
        known["task"] = {
            "id": clean(task.id, 128),
            "contenttype": clean(task.contenttype, 32),
            "state": task.state.value,
            "message": None if task.message is None else clean(task.message, 1000),
            "taken": list(rows_taken(task, reading.rows)),
        }
    return known


def json_text(rows: Iterable[Row] = ROWS, *, task: UploadTask | None = None) -> str:
    """`document` as JSON text."""
    return orjson.dumps(document(rows, task=task), option=orjson.OPT_INDENT_2).decode() + "\n"


# ── Markdown ──────────────────────────────────────────────────────────────────────────────────────────────────


def markdown(rows: Iterable[Row] = ROWS, *, task: UploadTask | None = None) -> str:
    """Tables for people: states, and rows, with those that differ in their source only on one line.

    With a task, what happened to it comes first.
    """
    reading = read(rows)
    title, about, message = heading(task)
    lines = [f"# {_markdown(title)}", ""]
    if task is not None:
        lines += [_markdown(about), ""]
        lines += [f"Message: {_markdown(message)}", ""] if message else []
        lines += ["| | step | from | to | reason |", "|--:|---|---|---|---|"]
        for event in task.history:
            told = map(_markdown, (event.trigger, event.source, event.dest, event.reason))
            lines.append(f"| {event.sequence} | {' | '.join(told)} |")
        lines.append("")
    lines += ["## States", "", "| state | phase | |", "|---|---|---|"]
    lines += [f"| `{state}` | {state.phase} | {_markdown(state.meaning)} |" for state in reading.states]
    lines += ["", "## Rows", ""]
    lines += [
        "Rows of one trigger and state are tried from top to bottom; the first whose guards all say yes is taken."
    ]
    lines += ["", "| trigger | from | to | if | then | by | |", "|---|---|---|---|---|---|---|"]
    for group in grouped(reading.rows):
        row, exception = group.row, group.exception(reading.live)
        sources = ", ".join(f"`{row.source}`" for row in group.rows)
        cells = (
            f"`{row.trigger}`",
            sources if exception else f"any state: {sources}" if len(group.rows) > 1 else sources,
            "" if row.dest is None else f"`{row.dest}`",
            ", ".join(f"`{name(guard)}`" for guard in row.guards),
            ", ".join(f"`{name(callback)}`" for callback in row.before),
            actors(row.by),
            ("" if row.kind is Kind.PROGRESS else f"*{row.kind}:* ") + _markdown(row.doc),
        )
        lines.append("|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|")
    return "\n".join(lines) + "\n"


_MARKUP: Final = str.maketrans({char: f"&#{ord(char)};" for char in '&<>\\`*_{}[]#+!|~"$@/'})


def _markdown(text: str) -> str:
    """Text in which nothing is markup, and no address becomes a link."""
    return clean(text, 1000).translate(_MARKUP).replace("www.", "www&#46;")


# ── Mermaid ───────────────────────────────────────────────────────────────────────────────────────────────────


def mermaid(rows: Iterable[Row] = ROWS, *, task: UploadTask | None = None) -> str:
    """A ``stateDiagram-v2`` for Mermaid, which GitHub draws wherever it finds one.

    Phases are shades instead of composite states, because Mermaid cannot lead a transition from inside one composite
    state into another (https://mermaid.js.org/syntax/stateDiagram.html#composite-states). Ids of rows stand in
    comments. With a task, the rows it took bear a dot.
    """
    reading = read(rows)
    taken = frozenset(rows_taken(task, reading.rows)) if task is not None else frozenset()
    lines = ["stateDiagram-v2", "    direction TB"]
    for state in reading.states:
        lines.append(f"    {state} : {state}")
        inside = reading.inside.get(state, ())
        if inside:
            lines += [f"    %% {row.id} {_mermaid(label(reading, row))}" for row in inside]
            lines += [f"    {state} : {_mermaid(', '.join(row.trigger for row in inside))}"]
    if reading.anywhere:
        lines.append(f"    {ANY} : any state")
    if reading.stays:
        lines += [f"    %% {group.ids} {_mermaid(label(reading, group.row))}" for group in reading.stays]
        lines += [f"    {ANY} : {_mermaid(', '.join(group.row.trigger for group in reading.stays))}"]
    lines += ["", f"    [*] --> {START}"]
    for row in reading.moves:
        dot = "● " if row.id in taken else ""
        lines += [f"    %% {row.id}", f"    {row.source} --> {row.dest} : {_mermaid(dot + label(reading, row))}"]
    for group in reading.ends:
        dot = "● " if taken.intersection(group.ids.split()) else ""
        text = " ".join(filter(None, (dot + label(reading, group.row), group.exception(reading.live))))
        lines += [f"    %% {group.ids}", f"    {ANY} --> {group.row.dest} : {_mermaid(text)}"]
    if State.NOTEXISTING in reading.states:
        lines += [f"    {State.REMOVE} --> {State.NOTEXISTING}", f"    {State.NOTEXISTING} --> [*]"]
    here = [task.state] if task is not None and task.state in reading.states else []
    if task is not None:
        told = " · ".join(filter(None, heading(task)))
        lines += ["", f"    note right of {here[0] if here else START} : {_mermaid(told)}"]
    lines.append("")
    classes: dict[str, list[str]] = {
        **{phase: [s for s in reading.live if s.phase is phase and s not in reading.failures] for phase in Phase},
        "failure": [state for state in reading.live if state in reading.failures],
        "end": [*([ANY] if reading.anywhere else []), *(s for s in reading.states if s.phase is Phase.END)],
        "here": [*here],
    }
    lines += [f"    classDef {kind} {_MERMAID[kind]}" for kind, states in classes.items() if states]
    lines += [f"    class {','.join(states)} {kind}" for kind, states in classes.items() if states]
    return "\n".join(lines) + "\n"


_MERMAID: Final[Mapping[str, str]] = {
    "upload": "fill:#eef6fd,stroke:#0a61a9,color:#1c2128",
    "content": "fill:#d9eafa,stroke:#0a61a9,color:#1c2128",
    "library": "fill:#c0dcf5,stroke:#0a61a9,color:#1c2128",
    "failure": "fill:#fdece6,stroke:#c2350c,color:#1c2128,stroke-width:2px",
    "end": "fill:#e9ecef,stroke:#59626c,color:#1c2128,stroke-dasharray:3 3",
    "here": "fill:#1c2128,stroke:#e9ecef,color:#ffffff,stroke-width:4px",
}


def _mermaid(text: str) -> str:
    """Text behind a colon: it ends at a newline or semicolon, so what is not plain is given by its number."""
    plain = " _.,()[]·✗↺●…"
    told = "".join(char if char.isalnum() or char in plain else f"#{ord(char)};" for char in clean(text, 600))
    return told.replace("__", "_#95;")


# ── PlantUML ──────────────────────────────────────────────────────────────────────────────────────────────────


def plantuml(rows: Iterable[Row] = ROWS, *, task: UploadTask | None = None) -> str:
    """A state diagram for PlantUML. Ids of rows stand in comments."""
    reading = read(rows)
    taken = frozenset(rows_taken(task, reading.rows)) if task is not None else frozenset()
    title, about, message = heading(task)
    lines = ["@startuml", "hide empty description", "skinparam shadowing false", f"title {_plantuml(title)}"]
    if task is not None:
        lines.append(f"caption {_plantuml(' · '.join(filter(None, (about, message))))}")
    for phase in Phase:
        states = [state for state in reading.states if state.phase is phase]
        if not states:
            continue
        lines += ["", f'state "{phase}" as phase_{phase} #F5F7F9;line:59636E {{']
        for state in states:
            here = ";line.bold" if task is not None and task.state is state else ""
            lines.append(f"  state {state} #{_PLANTUML_STATES[reading.kind(state)]}{here}")
            for row in reading.inside.get(state, ()):
                lines += [f"  ' {row.id}", f"  {state} : {_plantuml(label(reading, row))}"]
        lines.append("}")
    lines += ["", f'state "any state" as {ANY}'] if reading.anywhere else []
    for group in reading.stays:
        lines += [f"' {group.ids}", f"{ANY} : {_plantuml(label(reading, group.row))}"]
    lines += ["", f"[*] --> {START}"]
    for row in reading.moves:
        style = _PLANTUML_LINES[row.kind] + (",thickness=3" if row.id in taken else "")
        lines += [f"' {row.id}", f"{row.source} -[{style}]-> {row.dest} : {_plantuml(label(reading, row))}"]
    for group in reading.ends:
        row, exception = group.row, group.exception(reading.live)
        style = _PLANTUML_LINES[row.kind] + (",thickness=3" if taken.intersection(group.ids.split()) else "")
        text = _plantuml(label(reading, row)) + (r"\n" + _plantuml(exception) if exception else "")
        lines += [f"' {group.ids}", f"{ANY} -[{style}]-> {row.dest} : {text}"]
    if State.NOTEXISTING in reading.states:
        lines += [f"{State.REMOVE} -[{_PLANTUML_LINES[Kind.END]}]-> {State.NOTEXISTING}"]
        lines += [f"{State.NOTEXISTING} --> [*]"]
    lines.append("@enduml")
    return "\n".join(lines) + "\n"


_PLANTUML_LINES: Final[Mapping[Kind, str]] = {
    Kind.PROGRESS: "#0A61A9",
    Kind.FAILURE: "#C2350C",
    Kind.REPAIR: "#007355,dashed",
    Kind.END: "#59626C,dotted",
}
_PLANTUML_STATES: Final[Mapping[str, str]] = {
    "ordinary": "E8F2FC;line:0A61A9",
    "goal": "E8F2FC;line:0A61A9",
    "failure": "FDECE6;line:C2350C",
    "end": "E9ECEF;line:59626C",
}


def _plantuml(text: str) -> str:
    """Text in which nothing is markup: what is not plain is given by its number."""
    plain = " _.,()[]·✗↺…"
    escaped = (char if char.isalnum() or char in plain else f"<U+{ord(char):04X}>" for char in clean(text, 400))
    return "".join(escaped).replace("__", "_<U+005F>").replace("[[", "[<U+005B>")


# ── SCXML ─────────────────────────────────────────────────────────────────────────────────────────────────────


def scxml(rows: Iterable[Row] = ROWS, *, task: UploadTask | None = None) -> str:
    """A state chart that other programs run (https://www.w3.org/TR/scxml/).

    Guards are booleans of the data model, ``false`` until somebody sets them; ``row`` names the row that was taken
    last. Rows stand in their order, so that a ladder is tried from top to bottom. What else a row says is in
    attributes of a namespace of ours, which the specification lets programs ignore. Given a task, the chart starts
    where the task is.
    """
    reading = read(rows)
    start = task.state if task is not None and task.state in reading.states else START
    told = zip(("task", "about", "message"), heading(task), strict=True) if task is not None else ()
    more = "".join(f" sd:{key}={_quoted(value)}" for key, value in told if value)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<scxml xmlns="http://www.w3.org/2005/07/scxml" xmlns:sd="https://stagedoor.invalid/lifecycle" version="1.0"',
        f'       name="stagedoor" datamodel="ecmascript" initial="{start}"{more}>',
        "  <datamodel>",
        '    <data id="row" expr="\'\'"/>',
        # "false" is no word in the data models of all programs.
        *(f'    <data id="{guard}" expr="1 == 0"/>' for guard in _guards(reading)),
        "  </datamodel>",
    ]
    for phase in Phase:
        states = [state for state in reading.live if state.phase is phase]
        if not states:
            continue
        lines.append(f'  <state id="{phase}" initial="{start if start in states else states[0]}">')
        for state in states:
            lines.append(f'    <state id="{state}" sd:meaning={_quoted(state.meaning)}>')
            for row in reading.rows:
                lines += _transition(row) if row.source is state else ()
            lines.append("    </state>")
        lines.append("  </state>")
    ends = (state for state in reading.states if state.phase is Phase.END)
    lines += [f'  <final id="{state}" sd:meaning={_quoted(state.meaning)}/>' for state in ends]
    lines.append("</scxml>")
    return "\n".join(lines) + "\n"


def _guards(reading: Reading) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name(guard) for row in reading.rows for guard in row.guards))


def _transition(row: Row) -> Iterator[str]:
    attributes = {
        "event": row.trigger.value,
        "cond": " && ".join(row.guards),
        "target": "" if row.dest is None else row.dest.value,
        "sd:before": " ".join(map(name, row.before)),
        "sd:kind": row.kind.value,
        "sd:by": " ".join(row.by),
        "sd:doc": row.doc,
    }
    told = " ".join(f"{key}={_quoted(value)}" for key, value in attributes.items() if value)
    yield f"      <transition {told}>"
    yield f'        <assign location="row" expr="\'{row.id}\'"/>'
    yield "      </transition>"


def _quoted(text: str) -> str:
    """An attribute's value for XML, with its quotes."""
    return f'"{html.escape(clean(text, 1000))}"'
