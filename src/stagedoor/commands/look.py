"""Commands that look: ``list``, ``show``, ``explain``, ``history``, ``replay``, ``plan``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from ..errors import TaskNotFound, UploadError, WrongState
from ..explain import Explanation, count, explain, moment, size, stamp
from ..lifecycle import FAILURE_STATES, State, due
from ..session import PLANNING_STATES, Session
from ..tasks import JSON, Finding, Plan, UploadTask, answered, thaw, to_dict
from . import FAILED, FINE, NOT_FOUND, WAITING
from .call import Call
from .records import owner_of
from .screen import Screen, ellipsis

__all__ = ["draw_plan", "obstacles", "plan_document", "questions_of", "register", "value_of", "whereabouts_of"]

_STYLES: Final[Mapping[State, str]] = {
    State.WAITFORCHUNK: "yellow",
    State.PREPROCESSED: "yellow",
    State.IMPORTCOMPLETE: "green",
    State.REMOVE: "dim",
    **dict.fromkeys(FAILURE_STATES, "red"),
}


def register(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands to a parser."""
    every = command("list", _list, "List the uploads.")
    every.add_argument(
        "--state", action="append", choices=[s.value for s in State if s is not State.NOTEXISTING],
        help="those in this state only; may be repeated",
    )  # fmt: skip
    every.add_argument("-q", "--quiet", action="store_true", help="ids only, one a line")
    command("show", _show, "Show everything that is on record about an upload.", "ID")
    command("explain", _explain, "Say why an upload is where it is, what happens next, and what may be done.", "ID")
    command("history", _history, "Show what happened to an upload.", "ID")
    command("replay", _replay, "Check that an upload's history can have happened.", "ID")
    command("plan", _plan, "Show where an upload's files would go, or went.", "ID")


def _list(call: Call) -> int:
    wanted = set(call.options.state or ())
    if call.options.quiet and not wanted:
        for uploadid in call.records.ids():
            call.out.raw(uploadid)
        return FINE
    tasks = [task for task in call.records.all() if not wanted or task.state in wanted]
    unreadable = call.records.unreadable
    if call.options.quiet:
        for task in tasks:
            call.out.raw(task.id)
    elif call.options.json:
        call.out.json({"uploads": [_line(task) for task in tasks], "unreadable": unreadable})
    elif not tasks:
        which = f" in {', '.join(sorted(wanted))}" if wanted else ""
        call.out.say(f"There are no uploads{which} in {call.root}.")
    else:
        short = _short([task.id for task in tasks]) if call.out.console is not None else {}
        call.out.table(
            ("id", "state", "progress", "bytes", "name", "message"),
            (
                (
                    short.get(task.id, task.id),
                    (task.state.value, _STYLES.get(task.state, "cyan")),
                    _progress(task),
                    "?" if task.filesize is None else f"{task.filesize:,}",
                    ellipsis(task.sourcefilename, 32 if short else 1024),
                    task.message or "",
                )
                for task in tasks
            ),
            right=("progress", "bytes"),
            loose=("name",),
        )
    for name, sentence in unreadable.items():
        call.err.sign("warn", f"tasks/{name} is left out. {sentence}")
    return FINE


def _line(task: UploadTask) -> dict[str, object]:
    ending = due(task)
    return {
        "id": task.id,
        "state": task.state.value,
        "offset": task.offset,
        "filesize": task.filesize,
        "contenttype": task.contenttype,
        "sourcefilename": task.sourcefilename,
        "message": task.message,
        "code": task.code,
        "due": None if ending is None else ending.value,
        "revision": task.revision,
        "created": task.created,
        "updated": task.updated,
        "deadline": task.deadline,
    }


def _progress(task: UploadTask) -> str:
    if task.state not in (State.WAITFORCHUNK, State.UPLOADFAILED):
        return "100 %"
    return "?" if task.filesize is None else f"{task.offset * 100 // task.filesize} %"


def _short(ids: Sequence[str]) -> Mapping[str, str]:
    """The least of each long id that is still its own; every command takes it."""
    length = 12
    while len({i[:length] for i in ids}) < len(ids):
        length += 1
    return {uploadid: uploadid if len(uploadid) <= length + 4 else uploadid[:length] for uploadid in ids}


def _show(call: Call) -> int:
    task = call.task()
    if call.options.json:
        call.out.json(to_dict(task))
        return FINE
    call.out.table(("", ""), [((name, "bold"), text) for name, text in _facts(call, task) if text])
    return FINE


def _facts(call: Call, task: UploadTask) -> Iterator[tuple[str, str]]:
    now = call.clock()
    yield "id", task.id
    yield "state", f"{task.state}: {task.state.meaning}"
    yield "message", f"{task.message} ({task.code})" if task.message else ""
    yield "name", task.sourcefilename
    yield "type", f"{task.contenttype}, {task.mimetype}"
    yield "size", size(task.filesize)
    yield "on record", f"{size(task.offset)} ({_progress(task)})" if task.state is State.WAITFORCHUNK else ""
    yield "SHA-1", task.sourcechecksum or "not declared"
    yield "SHA-256", task.sha256 or ""
    yield "stored as", task.destinationpath
    for key, value in task.annotations.items():
        yield f"annotation {key}", value_of(value)
    for key, value in task.content.items():
        if isinstance(value, Sequence) and all(isinstance(one, Mapping) for one in value):
            for number, one in enumerate(value, 1):
                yield f"content {key} {number}", _few(one)
        else:
            yield f"content {key}", _few(value) if isinstance(value, Mapping) else value_of(value)
    for finding in (*task.findings, *_planned(call, task)):
        is_open = finding.severity == "hold" and not answered(finding, task.annotations)
        yield f"{finding.severity} {finding.code}", _asked(finding, task) if is_open else finding.sentence
    yield "songs", _hint_of_songs(task)
    for root, where in whereabouts_of(task, {}):
        yield f"in {root}", where
    if task.step is not None:
        held = "began" if task.step.token else "was given back; it began"
        yield "step", f"{task.step.trigger}, attempt {task.step.attempt}, {held} {moment(task.step.started, now)}"
    yield "wanted", task.wanted or ""
    for name, then in (("created", task.created), ("updated", task.updated), ("expires", task.deadline)):
        yield name, "" if then is None else f"{stamp(then)} ({moment(then, now)})"
    yield "revision", f"{task.revision}"


def _planned(call: Call, task: UploadTask) -> Sequence[Finding]:
    """What would be said of the plan now, where it is still to be carried out."""
    if task.state not in PLANNING_STATES:
        return ()
    try:
        return Session(task, call.records.ports, call.clock()).plan.problems
    except UploadError:
        return ()


def whereabouts_of(task: UploadTask, trees: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Where its files are, by tree: one by its path, more by their directory."""
    for root in dict.fromkeys(file.root for file in task.placed):
        paths = [os.path.join(trees.get(root, ""), file.path) for file in task.placed if file.root == root]
        yield root, paths[0] if len(paths) == 1 else f"{_in_common(paths)} ({count(len(paths), 'file')})"


def _in_common(paths: Sequence[str]) -> str:
    """The directory of files; of a file and its variants what all of them begin with, too."""
    directory = os.path.commonpath(paths)
    names = [os.path.relpath(path, directory) for path in paths]
    shortest, extension = os.path.splitext(min(names, key=len))
    alike = all(name.startswith(shortest) and name.endswith(extension) for name in names)
    return os.path.join(directory, f"{shortest}*{extension}") if alike else f"{directory}/"


def _few(facts: JSON) -> str:
    """Facts on one line, for people: what is empty is left out, and so are hashes. The first member is number 0."""
    assert isinstance(facts, Mapping)
    said = {
        key: value
        for key, value in facts.items()
        if "sha" not in key and (value not in (None, "", 0, False) or (key == "member" and value is not None))
    }
    return ", ".join(f"{key} {value_of(value)}" for key, value in said.items())


def value_of(value: JSON) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(thaw(value), ensure_ascii=False)


def _explain(call: Call) -> int:
    given: str = call.options.id
    try:
        given = call.uploadid()
    except TaskNotFound:
        found, status = explain(call.records, given), NOT_FOUND
    else:
        found = explain(call.records, given)
        status = NOT_FOUND if found.state is State.NOTEXISTING else FINE
    if call.options.json:
        call.out.json(found.as_dict())
    else:
        _tell(call, found)
    return status


def _tell(call: Call, found: Explanation) -> None:
    out = call.out
    out.say(f"{found.id}: {found.state}", "bold")
    after = list(found.next)
    if found.due is not None and owner_of(call.root) is None:
        after.append("No process owns the uploads directory now: nothing happens before a server, or stagedoor work.")
    for title, lines in (
        ("Why it is here", found.why),
        ("What happens by itself", after),
        ("What stands in the way of the integration", found.obstacles),
    ):
        if lines:
            _headline(out, title)
        for line in lines:
            out.say(line, indent=2)
    if found.possible:
        _headline(out, "What may be done")
    for action in found.possible:
        _point(out, f"{action.sentence} ({', '.join(action.by)})", action.command)
    if found.refused:
        _headline(out, "What is refused")
    for refusal in found.refused:
        guard = f" ({refusal.guard})" if refusal.guard else ""
        _point(out, f"{refusal.sentence}{guard} {refusal.remedy}".rstrip(), refusal.command)


def _headline(out: Screen, title: str) -> None:
    out.say()
    out.say(title, "bold")


def _point(out: Screen, sentence: str, command: str) -> None:
    out.bullet("•", sentence, indent=2)
    if command:
        out.say(command, "cyan", indent=6)


def _history(call: Call) -> int:
    task = call.task()
    if call.options.json:
        call.out.json([attrs.asdict(event) for event in task.history])
        return FINE
    call.out.table(
        ("", "time", "trigger", "from", "to", "reason"),
        (
            (
                f"{event.sequence}",
                stamp(event.time),
                event.trigger,
                event.source,
                "" if event.source == event.dest else event.dest,
                event.reason,
            )
            for event in task.history
        ),
        right=("",),
    )
    return FINE


def _replay(call: Call) -> int:
    from ..verify import replay

    task = call.task()
    problems = replay(task)
    if call.options.json:
        call.out.json({"id": task.id, "events": len(task.history), "problems": problems})
    elif problems:
        for problem in problems:
            call.out.sign("bad", problem)
    else:
        call.out.sign("good", f"All {count(len(task.history), 'line')} of the history can have happened like this.")
    return FAILED if problems else FINE


def _plan(call: Call) -> int:
    task = call.task()
    plan = task.plan
    if task.state is State.INTEGRATIONFAILED or (plan is None and task.state is State.PREPROCESSED):
        plan = Session(task, call.records.ports, call.clock()).plan
    if plan is None:
        raise WrongState(f"There is no plan in state {task.state}: the content was not accepted (yet).")
    if call.options.json:
        call.out.json({"id": task.id, "state": task.state, "plan": plan_document(plan, task)})
    else:
        draw_plan(call, plan, task)
    return WAITING if obstacles(plan, task) else FINE


def plan_document(plan: Plan, task: UploadTask) -> dict[str, object]:
    """A plan with its open questions, for scripts."""
    return {**attrs.asdict(plan), "questions": [attrs.asdict(question) for question in questions_of(plan, task)]}


def questions_of(plan: Plan, task: UploadTask) -> list[Finding]:
    """What nobody has answered yet, about the content and about its place in the library."""
    if task.state not in PLANNING_STATES:
        return []
    return [*task.open_questions, *(problem for problem in plan.problems if problem.severity == "hold")]


def _asked(question: Finding, task: UploadTask) -> str:
    """A question, and the commands that answer it."""
    answer = f"stagedoor annotate {task.id} answers.{question.code}"
    ways = " or ".join(f"{answer}={shlex.quote(option)}" for option in question.options) or f"{answer}=ANSWER"
    return f"{question.sentence} Answer it: {ways}"


def obstacles(plan: Plan, task: UploadTask) -> list[str]:
    """What somebody has to say or mend before a plan can be carried out."""
    if task.state not in PLANNING_STATES:
        return []
    questions = [_asked(question, task) for question in questions_of(plan, task)]
    rejected = [problem for problem in plan.problems if problem.severity == "reject"]
    return questions + [_asked(problem, task) if problem.options else problem.sentence for problem in rejected]


def draw_plan(call: Call, plan: Plan, task: UploadTask) -> None:
    """The plan as a tree, and what stands in its way."""
    files = (*plan.files, *plan.artwork)
    for root in dict.fromkeys(file.root for file in files):
        branches: dict[str, Any] = {}
        notes = {}
        for file in files:
            if file.root == root:
                at = branches
                for part in file.path.split("/"):
                    at = at.setdefault(part, {})
                instead = ", instead of the one that is there" if file.replace and not task.placed else ""
                notes[file.path] = "" if file.size is None else f"  ({size(file.size)}{instead})"
        for directory in () if task.placed else plan.directories:
            notes[directory.removeprefix(f"{root}/")] = "  (new)"
        call.out.say(f"{root}: {call.trees.get(root, 'this server has no such directory')}", "bold")
        for line in _branches(branches, notes):
            call.out.say(line)
    replaced = task.replaced if task.placed else sum(file.replace for file in files)
    if replaced:
        what = "file that is there is" if replaced == 1 else "files that are there are"
        call.out.sign("warn", f"{replaced:,} {what} replaced, kept for undo, and deleted when the upload is removed.")
    for problem in plan.problems:
        if problem.severity == "warn":
            call.out.sign("warn", problem.sentence)
    for sentence in obstacles(plan, task):
        call.out.sign("bad", sentence)
    if hint := _hint_of_songs(task):
        call.out.sign("note", hint)


def _hint_of_songs(task: UploadTask) -> str:
    """How the songs of an album are corrected, as long as they can be."""
    tracks = task.content.get("tracks")
    if task.state not in PLANNING_STATES or not isinstance(tracks, Sequence):
        return ""
    pattern = shlex.quote(json.dumps({str(min(3, len(tracks))): {"title": "…"}}, ensure_ascii=False))
    return (
        f"Correct songs by their numbers in stagedoor show: stagedoor annotate {task.id} tracks={pattern}; "
        "title, artist, disc and number can be said, and skip leaves a song out."
    )


def _branches(tree: Mapping[str, Any], notes: Mapping[str, str], above: str = "", path: str = "") -> Iterator[str]:
    for number, (name, below) in enumerate(tree.items()):
        last = number == len(tree) - 1
        yield f"{above}{'└── ' if last else '├── '}{name}{'/' if below else ''}{notes.get(path + name, '')}"
        yield from _branches(below, notes, above + ("    " if last else "│   "), f"{path}{name}/")
