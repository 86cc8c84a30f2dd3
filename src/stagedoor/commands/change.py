"""Commands that change an upload, and ``work``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs
from attrs import define

from ..errors import ConfigurationError, StorageError, TaskNotFound, UploadError
from ..explain import count, size
from ..lifecycle import FAILURE_STATES, State, Trigger, due
from ..server.whereabouts import Whereabouts
from ..tasks import JSON, Plan, UploadTask
from ..worker import Worker
from . import FAILED, FINE, WAITING
from .call import Call, a_pair, sentence_of, status_of
from .desk import Desk
from .look import draw_plan, obstacles, plan_document, questions_of, value_of, whereabouts_of
from .screen import Level
from .stopping import Stop, Stopped, stoppable

__all__ = ["Errand", "changing", "register", "work_on"]

_TAGS: Final = {"artistname": "artist", "name": "title", "release": "date"}
"""Annotations, and where the content facts have them if the file says so."""


def register(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands to a parser."""
    annotate = changing(command, "annotate", _annotate, "Say something about an upload.", "ID KEY=VALUE…")
    annotate.add_argument("annotation", nargs="+", type=a_pair, metavar="KEY=VALUE", help="artistname, name, release …")
    changing(command, "integrate", _integrate, "Put an upload into the library, without importing it.", "ID")
    changing(command, "import", _import, "Put an upload into the library, if it is not there, and import it.", "ID")
    changing(command, "retry", _retry, "Try again what failed.", "ID")
    undo = changing(command, "undo", _undo, "Take an upload back out of library and music database.", "ID")
    undo.add_argument("--missing", action="store_true", help="its files are gone from the library, and that is right")
    command("work", _work_all, "Do everything that is due, remove what has expired, and stop.")
    changing(
        command,
        "remove",
        _remove,
        "Remove an upload; what it put into the library stays there, what it replaced there is deleted.",
        "ID",
    )


def changing(
    command: Callable[..., argparse.ArgumentParser],
    name: str,
    run: Callable[[Call], int],
    sentence: str,
    arguments: str,
) -> argparse.ArgumentParser:
    """Add a command that goes through the server which owns the uploads directory, if there is one."""
    made = command(name, run, sentence, arguments)
    made.add_argument(
        "--key-file", metavar="FILE",
        help="a file with the API key, for a server that owns the uploads directory (or $STAGEDOOR_KEY)",
    )  # fmt: skip
    return made


def work_on(uploads: Desk, uploadid: str, stop: Stop) -> UploadTask | None:
    """Do what is due for one upload, or let its server, until it rests; nothing for others. ``None``: it is gone."""
    while True:
        stop.check()
        done = uploads.perform(uploadid)
        task = uploads.find(uploadid)
        if task is None or due(task) is None:
            return task
        if not done:
            again = task.step.not_before if task.step is not None else 0.0
            stop.pause(max(0.01, again - uploads.clock()))


@define
class Errand:
    """What is wanted of one upload, and how far that came.

    Attributes:
        call: The command.
        name: What people call it.
        uploadid: The upload.
        integrate: Whether the library may be touched; else a plan is all that is wanted.
        imports: Whether it is imported, too.
        annotations: What is to be said about it before it is integrated.
        tags: Whether the file's own tags may say what is missing.
        task: As it was last.
        plan: What is planned, or was done.
        status: Exit status.
        code: Stable code of what went wrong.
        sentences: How it ended.
        known: Where the library had the same bytes before, relative to the music directory.
    """

    call: Call
    name: str
    uploadid: str = ""
    integrate: bool = True
    imports: bool = True
    annotations: Mapping[str, JSON] = attrs.field(factory=dict)
    tags: bool = False
    task: UploadTask | None = None
    plan: Plan | None = None
    status: int = FINE
    code: str | None = None
    sentences: list[str] = attrs.field(factory=list)
    known: Sequence[str] = ()

    def attempt(self, do: Callable[[], None]) -> None:
        """Do something, and keep what it raises as the end of this errand; others go on."""
        try:
            do()
        except Stopped as stopped:
            task = self.task
            where = f" at {task.offset:,} of {size(task.filesize)}" if task and task.state is State.WAITFORCHUNK else ""
            self.end(stopped.status, "stopped", f"Stopped{where}. The same command again goes on.")
        except (UploadError, OSError) as error:
            code = error.code if isinstance(error, UploadError) else "os_error"
            self.end(status_of(error), code, sentence_of(error))

    def end(self, status: int, code: str | None, *sentences: str) -> None:
        """This is how it ended."""
        self.status, self.code, self.sentences = status, code, list(sentences)

    def walk(self, uploads: Desk, stop: Stop, send: Callable[[UploadTask], None] | None = None) -> None:
        """Go from wherever the upload is to where it is wanted, or to where somebody has to say something."""
        old = uploads.get(self.uploadid).state
        task = self._arrived(work_on(uploads, self.uploadid, stop))
        if task.state is old and old in FAILURE_STATES and (send is not None or old is not State.UPLOADFAILED):
            uploads.retry(self.uploadid)  # it failed some other time; what fails now is the end
        while True:
            task = self._arrived(work_on(uploads, self.uploadid, stop))
            match task.state:
                case State.WAITFORCHUNK if send is not None:
                    send(task)
                case State.WAITFORCHUNK | State.UPLOADFAILED if send is None:
                    missing = "Only a part of the file is here. Send the rest: stagedoor add FILE."
                    return self.end(FAILED, task.code or "incomplete", task.message or missing)
                case State.PREPROCESSED:
                    if not self._prepare(uploads, task):
                        return None
                    uploads.request(self.uploadid, trigger_import=self.imports)
                case State.INTEGRATED if self.imports:
                    uploads.start_import(self.uploadid)
                case State.INTEGRATED:
                    return self.end(FINE, None, "It is in the library, and not imported.", *self._too_late(task))
                case State.IMPORTCOMPLETE:
                    return self.end(FINE, None, "It is in the library and imported.", *self._too_late(task))
                case _:
                    return self.end(FAILED, task.code, task.message or f"It is {task.state}.")

    def _prepare(self, uploads: Desk, task: UploadTask) -> bool:
        """Annotate and plan; whether the plan may be carried out."""
        wanted = dict(self.annotations)
        found = task.content.get("tags")
        if self.tags and isinstance(found, Mapping):
            for key, tag in _TAGS.items():
                if key not in task.annotations and key not in wanted and found.get(tag):
                    wanted[key] = found[tag]
        changed = {key: value for key, value in wanted.items() if task.annotations.get(key) != value}
        if changed:
            task = self._arrived(uploads.annotate(self.uploadid, changed))
        self.plan = uploads.plan(self.uploadid)
        if held := obstacles(self.plan, task):
            rejected = [problem for problem in self.plan.problems if problem.severity == "reject"]
            problems = [problem.code for problem in (*questions_of(self.plan, task), *rejected)]
            hint = _hint(task) if "annotation_missing" in problems else []
            self.end(WAITING, problems[0], *held, *hint)
            return False
        if not self.integrate:
            self.end(FINE, None, "It is ready; nothing in the library was touched.")
        return self.integrate

    def _too_late(self, task: UploadTask) -> Iterator[str]:
        if any(task.annotations.get(key) != value for key, value in self.annotations.items()):
            yield f"It was there before under other annotations; to change them: stagedoor undo {task.id}"

    def _arrived(self, task: UploadTask | None) -> UploadTask:
        if task is None:
            raise TaskNotFound(self.uploadid)
        self.task = task
        self.plan = task.plan or self.plan
        return task

    def look(self, uploads: Desk) -> None:
        """See how it is in the end, if somebody is there to tell."""
        with suppress(UploadError, Stopped):  # what was done, and how that ended, is what counts
            self.task = uploads.find(self.uploadid) or self.task

    def document(self) -> dict[str, object]:
        """For scripts."""
        task = self.task
        return {
            "id": self.uploadid,
            "state": None if task is None else task.state.value,
            "status": self.status,
            "code": self.code,
            "sentences": self.sentences,
            "known": list(self.known),
            "plan": None if self.plan is None or task is None else plan_document(self.plan, task),
            "placed": [] if task is None else [attrs.asdict(file) for file in task.placed],
        }

    def report(self) -> None:
        """For people."""
        out, task = self.call.out, self.task
        stopped = self.status > 128
        level: Level = "good" if self.status == FINE else "warn" if self.status == WAITING or stopped else "bad"
        out.sign(level, f"{self.name}: {self.sentences[0]}")
        for sentence in self.sentences[1:]:
            out.say(sentence, indent=2)
        for path in self.known:
            out.say(f"You already have this: {path}", indent=2)
        if task is None:
            return
        if not self.integrate and self.plan is not None and not obstacles(self.plan, task):
            draw_plan(self.call, self.plan, task)
        for _, where in whereabouts_of(task, self.call.trees):
            out.say(where, "cyan", indent=2)
        if task.state is not State.REMOVE:
            out.say(f"id {task.id}, {task.state}", "dim", indent=2)


def _hint(task: UploadTask) -> list[str]:
    """What the file itself says, when names are missing."""
    found = task.content.get("tags")
    if not isinstance(found, Mapping):
        return []
    says = [f"{key} “{found[tag]}”" for key, tag in _TAGS.items() if found.get(tag) and key not in task.annotations]
    return [f"The file's own tags say: {', '.join(says)}; --tags takes them."] if says else []


def _one(call: Call, do: Callable[[Errand, Desk, Stop], None], **wanted: Any) -> int:
    """A command about one upload that changes it."""
    uploadid = call.uploadid()
    errand = Errand(call, uploadid, uploadid, **wanted)
    with stoppable(call.err) as stop, call.desk(stop) as uploads:
        errand.task = uploads.get(uploadid)
        errand.attempt(lambda: do(errand, uploads, stop))
        errand.look(uploads)
    if call.options.json:
        call.out.json(errand.document())
    else:
        errand.report()
    return errand.status


def _import(call: Call) -> int:
    return _one(call, Errand.walk, imports=True)


def _integrate(call: Call) -> int:
    return _one(call, Errand.walk, imports=False)


def _retry(call: Call) -> int:
    def retry(errand: Errand, uploads: Desk, stop: Stop) -> None:
        uploads.retry(errand.uploadid)
        task = work_on(uploads, errand.uploadid, stop)
        if task is None:
            raise TaskNotFound(errand.uploadid)
        if task.state in FAILURE_STATES:
            return errand.end(FAILED, task.code, task.message or task.state.meaning)
        todo = {
            State.WAITFORCHUNK: "Send it again from the first byte: stagedoor add FILE.",
            State.PREPROCESSED: f"It is ready: stagedoor plan {task.id} shows where it would go.",
        }
        return errand.end(FINE, None, todo.get(task.state, task.state.meaning))

    return _one(call, retry)


def _undo(call: Call) -> int:
    def undo(errand: Errand, uploads: Desk, stop: Stop) -> None:
        task = uploads.get(errand.uploadid)
        files = call.placed(task)
        if files and not call.options.missing and all(map(_is_gone, files)):
            where = "Say where the library is with --music and --artwork"
            if call.server is not None:
                where = "Look whether the server's library is where it should be"
            raise ConfigurationError(
                f"None of its {count(len(files), 'file')} is in the library, {files[0]} for one. {where}; or, if "
                "somebody has deleted them, say --missing."
            )
        try:
            uploads.undo(task.id)
        except StorageError:
            if (after := uploads.find(task.id)) is None or after.wanted is not Trigger.UNDO:
                raise  # else it is on record, and tried again here
        end = work_on(uploads, task.id, stop)
        if end is None:
            raise TaskNotFound(task.id)
        if end.state is not State.PREPROCESSED:
            return errand.end(FAILED, end.code, end.message or "It could not be taken back.")
        return errand.end(FINE, None, "Library and music database are as they were before; the upload is kept.")

    return _one(call, undo)


def _is_gone(path: str) -> bool:
    """Whether there is nothing; what we may not look at is not gone."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _remove(call: Call) -> int:
    def remove(errand: Errand, uploads: Desk, stop: Stop) -> None:
        task = uploads.get(errand.uploadid)
        if task.state is not State.REMOVE:
            task = uploads.remove(task.id)
        errand.task = task
        work_on(uploads, task.id, stop)
        gone, are = count(task.replaced, "file"), "is" if task.replaced == 1 else "are"
        lost = f" {gone} that it had replaced {are} deleted with it." if task.replaced else ""
        stays = " What it put into the library stays there:" if task.placed else ""
        errand.end(FINE, None, f"The upload is removed.{lost}{stays}")

    return _one(call, remove)


def _work_all(call: Call) -> int:
    if call.server is not None:
        return _work_of(call, call.server)
    done = 0
    with stoppable(call.err) as stop, call.uploads() as uploads:
        uploads.subscribe(lambda notice: call.err.say(f"{notice.uploadid}: {notice.state}"))
        worker = Worker(uploads)
        while worker.step():
            done += 1
            stop.check()
        left = [summary.id for summary in uploads.list() if summary.due is not None]
    if call.options.json:
        call.out.json({"steps": done, "left": left})
    else:
        call.out.sign("good", f"{count(done, 'step')} done.")
        for uploadid in left:
            call.out.sign(
                "warn", f"{uploadid} failed for now; stagedoor explain {uploadid} tells when it is tried again."
            )
    return FAILED if left else FINE


def _work_of(call: Call, server: Whereabouts) -> int:
    """There is a server, which needs nobody to tell it that something is due."""
    left = [task.id for task in call.records.all() if due(task) is not None]
    if call.options.json:
        call.out.json({"steps": 0, "left": left})
    else:
        much = f"something is due for {count(len(left), 'upload')}" if left else "nothing is due"
        call.out.sign("good", f"The server at {server.address} does the work by itself; {much}.")
        for uploadid in left:
            call.out.sign("note", f"stagedoor explain {uploadid} tells what happens next.")
    return FINE


def _annotate(call: Call) -> int:
    def annotate(errand: Errand, uploads: Desk, _: Stop) -> None:
        task = uploads.annotate(errand.uploadid, dict(call.options.annotation))
        said = ", ".join(f"{key} is now “{value_of(task.annotations[key])}”" for key, _ in call.options.annotation)
        late = " In the library nothing changes before the import is taken back." if task.placed else ""
        errand.end(FINE, None, f"{said}.{late}")

    return _one(call, annotate)
