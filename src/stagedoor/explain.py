"""Why an upload is where it is, what happens next, and who may do what about it: in sentences.

Nothing here decides anything. What may be done is read from the table (`stagedoor.lifecycle`); whether a precondition
holds, and the sentence when it does not, comes from the guards of a fresh `Session`. Guards that work (hash, decode,
copy, import, read the library's files) are never asked: what depends on one is said to depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs
from attrs import frozen

from .errors import Refused, UploadError
from .lifecycle import FAILURE_STATES, By, State, Trigger, due, ladders
from .ports import Clock
from .session import PLANNING_STATES, Chunk, Declaration, Ports, Session
from .settings import Settings
from .tasks import Event, Finding, Plan, UploadTask

__all__ = ["Action", "Explanation", "House", "Refusal", "count", "duration", "explain", "moment", "size", "stamp"]

_LADDERS: Final = ladders()
_CHEAP: Final = frozenset({
    "all_bytes_here", "annotations_valid", "chunk_fits", "deadline_passed", "declaration_fits", "no_open_question",
    "no_undo_pending",
})  # fmt: skip
"""Guards that look at the record and nothing else. One that is added to the table is not asked until it is here."""


class House(Protocol):
    """What has to be known of the place where an upload lives. `Uploads` has all of it."""

    @property
    def settings(self) -> Settings:
        """The limits."""
        ...

    @property
    def ports(self) -> Ports:
        """For a `Session`: trees are asked which names are taken, content types for a plan; nothing else is used."""
        ...

    @property
    def clock(self) -> Clock:
        """Seconds since the epoch."""
        ...

    def find(self, uploadid: str, /) -> UploadTask | None:
        """The upload as it is now, or ``None``."""
        ...


@frozen
class Action:
    """Something that may be done now.

    Attributes:
        trigger: What it fires.
        by: Who may.
        sentence: What it does, for people.
        command: The command line that does it; empty where there is none.
    """

    trigger: Trigger
    by: tuple[By, ...]
    sentence: str
    command: str = ""


@frozen
class Refusal:
    """Something that would be refused now.

    Attributes:
        triggers: What is refused.
        guard: Which guard says no; ``None`` when the life cycle has no such row for the state.
        code: Of the error that it would be.
        sentence: Why.
        remedy: What to do about it; empty where nothing has to be done.
        command: The command line that does that; empty where there is none.
    """

    triggers: tuple[Trigger, ...]
    guard: str | None
    code: str
    sentence: str
    remedy: str
    command: str = ""


@frozen
class Explanation:
    """An upload in sentences.

    Attributes:
        id: The upload.
        state: Where it is.
        why: How it came there, and what is known of it.
        next: What happens by itself, and when.
        due: What the management thread does next, if anything.
        obstacles: What an integration would fail of, as things stand.
        possible: What may be done.
        refused: What may not.
    """

    id: str
    state: State
    why: tuple[str, ...]
    next: tuple[str, ...]
    due: Trigger | None
    obstacles: tuple[str, ...]
    possible: tuple[Action, ...]
    refused: tuple[Refusal, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return attrs.asdict(self)


def explain(house: House, task: UploadTask | str) -> Explanation:
    """Explain an upload. Changes nothing, tells nobody, and is done in no time.

    Args:
        house: An `Uploads`, or something that knows as much.
        task: The upload as it is to be explained; or an id, of which there need not be an upload.
    """
    if isinstance(task, str):
        found = house.find(task)
        if found is None:
            return _nobody(task)
        task = found
    return _Explainer(house, task).explanation()


# ── words for people ──────────────────────────────────────────────────────────────────────────────────────────

_UNITS: Final = ((1, 60, "second"), (60, 60, "minute"), (3_600, 48, "hour"), (86_400, float("inf"), "day"))


def count(number: int, what: str) -> str:
    """``1 byte``, ``2,345 bytes``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def size(number: int | None) -> str:
    """A size in bytes with separators; ``an unknown number of bytes`` while nobody has declared it."""
    return "an unknown number of bytes" if number is None else count(number, "byte")


def duration(seconds: float) -> str:
    """A length of time in the unit in which people think of it: ``40 seconds``, ``3 days``."""
    for unit, most, name in _UNITS:
        if round(seconds / unit) < most:
            return count(round(seconds / unit), name)
    raise AssertionError("unreachable")


def moment(then: float, now: float) -> str:
    """A time as seen from now: ``in 3 days``, ``2 minutes ago``, ``just now``, ``at once``."""
    if abs(then - now) < 1:
        return "at once" if then > now else "just now"
    return f"in {duration(then - now)}" if then > now else f"{duration(now - then)} ago"


def stamp(then: float) -> str:
    """A time on the clock on the wall: ``2026-01-31 18:05:00``, local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))


# ── the tables of sentences ───────────────────────────────────────────────────────────────────────────────────

_WORKS: Final[Mapping[Trigger, str]] = {
    Trigger.COMPLETE: "reads all bytes again and compares their SHA-1",
    Trigger.PREPROCESS: "looks at the content",
    Trigger.INTEGRATE: "puts the files into the library",
    Trigger.START_IMPORT: "starts the import",
    Trigger.IMPORT: "tells the music database",
    Trigger.IMPORT_ARTWORK: "makes the artwork",
    Trigger.UNDO: "takes the import back",
    Trigger.REMOVE: "deletes the uploaded data, and the record of it last",
}

_RESTS: Final[Mapping[State, str]] = {
    State.WAITFORCHUNK: "Nothing, until the client sends more.",
    State.UPLOADFAILED: "Nothing: somebody has to start it again, or remove it.",
    State.PREPROCESSED: "Nothing: it waits for somebody to ask for the integration.",
    State.INVALIDCONTENT: "Nothing: somebody has to ask for another look, or remove it.",
    State.INTEGRATED: "Nothing: it waits for somebody to ask for the import.",
    State.INTEGRATIONFAILED: "Nothing: somebody has to mend the cause and retry, or remove it.",
    State.IMPORTFAILED: "Nothing: somebody has to retry, take the import back, or remove it.",
    State.IMPORTCOMPLETE: "Nothing: it is done.",
}

_RETRIES: Final[Mapping[State, str]] = {
    State.UPLOADFAILED: "Start again from the first byte.",
    State.INVALIDCONTENT: "Have the content looked at once more.",
    State.INTEGRATIONFAILED: "Go back to where annotations can be corrected and the integration asked for again.",
    State.IMPORTFAILED: "Try the import once more.",
}

_IN_LIBRARY: Final = (
    State.INTEGRATED,
    State.STARTIMPORT,
    State.IMPORTARTWORK,
    State.IMPORTFAILED,
    State.IMPORTCOMPLETE,
)

_WHAT: Final[Mapping[Trigger, str]] = {
    Trigger.CHUNK: "More bytes are not taken",
    Trigger.DECLARE: "Length and checksum cannot be declared any more",
    Trigger.REQUEST: "It cannot be integrated",
    Trigger.START_IMPORT: "It cannot be imported",
    Trigger.RETRY: "There is nothing to retry",
    Trigger.REQUEST_UNDO: "There is nothing to undo",
}
"""What a client may ask for in some states, and the beginning of the sentence for the others."""
_NEITHER: Final = "It can be neither integrated nor imported"


def _nobody(uploadid: str) -> Explanation:
    refused = tuple(t for t in Trigger if any(By.CLIENT in row.by for ladder in _of(t) for row in ladder))
    return Explanation(
        uploadid,
        State.NOTEXISTING,
        why=(f"There is no upload {uploadid[:128]!r}: it was never offered, or it has been removed.",),
        next=("Nothing.",),
        due=None,
        obstacles=(),
        possible=(),
        refused=(
            Refusal(
                refused, None, "not_found", "Whatever is asked of it is refused, because there is no such upload.",
                "Look at the list for the right id, or offer the file.", "stagedoor list",
            ),
        ),
    )  # fmt: skip


def _of(trigger: Trigger) -> Iterator[tuple[Any, ...]]:
    return (ladder for (t, _), ladder in _LADDERS.items() if t is trigger)


# ── one upload ────────────────────────────────────────────────────────────────────────────────────────────────


class _Explainer:
    def __init__(self, house: House, task: UploadTask) -> None:
        self._house, self._task, self._settings = house, task, house.settings
        self._now = house.clock()
        self._due = due(task)
        self._came = next((e for e in reversed(task.history) if e.dest == task.state and _moved(e)), None)

    def explanation(self) -> Explanation:
        task = self._task
        obstacles = tuple(self._obstacles())
        return Explanation(
            task.id,
            task.state,
            why=tuple(self._why()),
            next=tuple(self._next()),
            due=self._due,
            obstacles=obstacles,
            possible=tuple(self._possible(bool(obstacles))),
            refused=tuple(self._refused()),
        )

    # ── why ───────────────────────────────────────────────────────────────────────────────────────────────

    def _why(self) -> Iterator[str]:
        task = self._task
        yield from self._story()
        if task.message and task.state not in FAILURE_STATES and task.step is None:
            yield f"What went wrong last: {_full_stop(task.message)}"
        planned = self._planned()
        for finding in (*task.findings, *(f for f in planned if f.severity == "warn")):
            answer = task.annotations.get(f"answers.{finding.code}")
            if finding in task.open_questions:
                continue
            if finding.severity == "hold":
                yield f"It was asked: {_full_stop(finding.sentence)} The answer is “{answer}”."
            else:
                yield f"What was noticed: {_full_stop(finding.sentence)}"
        for question in (*task.open_questions, *(f for f in planned if f.severity == "hold")):
            answer = task.annotations.get(f"answers.{question.code}")
            choice = f" ({', '.join(question.options)})" if question.options else ""
            wrong = "" if answer is None else f" The answer “{answer}” is none of these."
            yield f"An open question: {_full_stop(question.sentence)}{choice}{wrong}"

    def _planned(self) -> Sequence[Finding]:
        """What planning has to say, as things stand; nothing where there is nothing to plan any more, or not now."""
        if self._task.state not in PLANNING_STATES:
            return ()
        try:
            return (self._begun or self._session().outline).problems
        except UploadError:
            return ()

    @property
    def _begun(self) -> Plan | None:
        # Once a step has begun, files that it placed are no strangers that are in its way.
        return self._task.plan if self._task.state is State.PREPROCESSED else None

    def _story(self) -> Iterator[str]:
        task, ago, came = self._task, self._ago(self._came), self._came.trigger if self._came else ""
        message = _full_stop(task.message or "nobody said why")
        match task.state:
            case State.WAITFORCHUNK:
                yield from self._receiving()
            case State.UPLOADCOMPLETE if came == Trigger.RETRY:
                yield f"All {size(task.filesize)} are here. Somebody asked {ago} to look at the content once more."
            case State.UPLOADCOMPLETE:
                yield f"All {size(task.filesize)} of {self._name} are here; their SHA-1 was found right {ago}."
            case State.UPLOADFAILED:
                yield f"The upload of {self._name} failed {ago}: {message}"
            case State.PREPROCESSED if came == Trigger.UNDO:
                yield f"The import was taken back {ago}; library and music database are as they were before it."
            case State.PREPROCESSED if came == Trigger.RETRY:
                yield f"The integration failed, and somebody went back {ago} to correct the annotations."
            case State.PREPROCESSED:
                yield f"The content of {self._name} was accepted {ago}."
            case State.INVALIDCONTENT:
                yield f"The content of {self._name} was refused {ago}: {message}"
            case State.INTEGRATIONFAILED:
                yield f"It could not be put into the library {ago}: {message}"
                yield "None of its files is there."
            case State.INTEGRATED:
                yield f"It was put into the library {ago}."
            case State.STARTIMPORT:
                yield f"It is in the library, and its import was started {ago}."
            case State.IMPORTARTWORK:
                yield f"The music database took it {ago}; the artwork is still to be made."
            case State.IMPORTFAILED:
                what = "The artwork could not be made" if came == Trigger.IMPORT_ARTWORK else "The import failed"
                yield f"{what} {ago}: {message}"
            case State.IMPORTCOMPLETE:
                yield f"It was completed {ago}: the library and the music database have it."
            case State.REMOVE:
                yield from self._leaving(came, ago)
        if task.state in _IN_LIBRARY:
            yield from self._files()
        yield from self._wishes()

    def _files(self) -> Iterator[str]:
        placed = self._task.placed
        for root in dict.fromkeys(file.root for file in placed):
            paths = [file.path for file in placed if file.root == root]
            what = f"The file is {paths[0]}" if len(paths) == 1 else f"{len(paths):,} files of it are"
            yield f"{what} in the {root} directory."

    def _receiving(self) -> Iterator[str]:
        task = self._task
        came = self._came
        if came is not None and came.trigger == Trigger.RETRY:
            failed = next((e for e in reversed(task.history) if e.dest == State.UPLOADFAILED and e.reason), None)
            yield f"{self._name} was started again {self._ago(came)}."
            if failed is not None:
                yield f"The attempt before failed: {_full_stop(failed.reason)}"
        else:
            ago = moment(min(self._now, task.created), self._now)
            long = "unknown length" if task.filesize is None else size(task.filesize)
            yield f"{self._name} was offered {ago} as {_article(task.contenttype)} of {long}."
        if self._due is not None:
            yield f"All {size(task.filesize)} are here, but their SHA-1 has not been compared yet."
        elif task.filesize is None:
            yield f"{size(task.offset).capitalize()} have arrived; how many there will be is not declared yet."
        elif task.offset:
            share = task.offset * 100 // task.filesize
            yield f"{task.offset:,} of {size(task.filesize)} have arrived ({share} %)."
        else:
            yield "Nothing of it has arrived yet."
        if task.sourcechecksum is None:
            yield "No SHA-1 was declared, so nobody can tell whether what arrives is what was sent."

    def _leaving(self, came: str, ago: str) -> Iterator[str]:
        if came == Trigger.EXPIRE:
            yield f"It expired {ago}: nothing had happened for longer than it is kept."
        else:
            yield f"Its removal was asked for {ago}."
        yield "Its id is no longer valid."
        if self._task.placed:
            yield "What it put into the library stays there."
        if self._task.replaced:
            yield f"{self._gone.capitalize()} {_are(self._task.replaced)} deleted with it."

    def _wishes(self) -> Iterator[str]:
        task = self._task
        if task.wanted is Trigger.INTEGRATE:
            asked = next((e for e in reversed(task.history) if e.trigger == Trigger.REQUEST), None)
            what = "Integration and import were" if task.import_wanted else "Integration was"
            yield f"{what} asked for {self._ago(asked)}."
        elif task.wanted is Trigger.START_IMPORT:
            yield "Its import was asked for together with the integration."
        elif task.wanted is Trigger.UNDO:
            asked = next((e for e in reversed(task.history) if e.trigger == Trigger.REQUEST_UNDO), None)
            yield f"Somebody asked {self._ago(asked)} to take the import back."

    # ── next ──────────────────────────────────────────────────────────────────────────────────────────────

    def _next(self) -> Iterator[str]:
        task = self._task
        if self._due is None:
            yield _RESTS[task.state]
            yield from self._end()
            return
        yield f"The management thread {_WORKS[self._due]}."
        dests = [row.dest for row in _LADDERS.get((self._due, task.state), ()) if row.dest is not None]
        yield from self._attempts(dests[-1] if dests else None)
        if self._over:
            return
        if self._due is Trigger.REMOVE:
            yield "Then the id may be used again."
        elif self._due is Trigger.IMPORT:
            yield f"Then it is {dests[0] if self._has_artwork() else dests[1]}, or {dests[2]} if that fails."
        elif len(dests) > 1:
            yield f"Then it is {dests[0]}, or {dests[-1]} if that fails."
        else:
            yield f"Then it is {dests[0]}."

    def _attempts(self, failure: State | None) -> Iterator[str]:
        step, most = self._task.step, self._settings.attempts
        if step is None or step.trigger is not self._due:
            return
        reason = f": {_full_stop(self._task.message)}" if self._task.message else "."
        which = f"Attempt {step.attempt} of {most}"
        if step.token:
            yield f"{which} began {moment(step.started, self._now)}."
            if self._task.message and step.attempt > 1:
                yield f"The one before failed{reason}"
        else:
            yield f"{which} failed{reason}"
            again = moment(step.not_before, self._now) if step.not_before > self._now else "at once"
            if step.attempt < most:
                yield f"It is tried again {again}."
            elif self._over:
                yield f"That was the last one: it becomes {failure} {again}."
            else:
                yield f"It is looked at once more {again}."

    @property
    def _over(self) -> bool:
        """The attempts of a step are used up, and only its failure is left."""
        step = self._task.step
        if step is None or step.trigger is not self._due or self._due is Trigger.UNDO:
            return False
        return not step.token and step.attempt >= self._settings.attempts

    def _end(self) -> Iterator[str]:
        deadline = self._task.deadline
        if deadline is None and self._task.replaced:
            yield f"It does not expire, for then {self._gone} would be deleted with it."
        elif deadline is None:
            yield "It is kept for ever."
        elif deadline <= self._now:
            yield f"It expired {moment(deadline, self._now)} and is removed as soon as the management thread looks."
        else:
            when = moment(deadline, self._now)
            stays = " What it put into the library stays there." if self._task.placed else ""
            yield f"If nobody does anything, it is removed {when}, on {stamp(deadline)[:-3]}.{stays}"

    # ── may, and may not ──────────────────────────────────────────────────────────────────────────────────

    def _obstacles(self) -> Iterator[str]:
        if self._task.state not in PLANNING_STATES:
            return
        try:
            for problem in (self._begun or self._session().outline).problems:
                if problem.severity == "reject":
                    answer = f"stagedoor annotate {self._task.id} answers.{problem.code}="
                    ways = " or ".join(answer + _quoted(option, "ANSWER") for option in problem.options)
                    yield _full_stop(problem.sentence) + (f" Answer it: {ways}" if ways else "")
        except UploadError as error:
            yield _full_stop(error.sentence)

    def _possible(self, obstacles: bool) -> Iterator[Action]:
        task = self._task
        for trigger, state in _LADDERS:
            if state is task.state and self._refusal(trigger) is None:
                sentence, command = self._offer(trigger, obstacles)
                if sentence:
                    yield Action(trigger, _LADDERS[trigger, state][0].by, sentence, command)

    def _offer(self, trigger: Trigger, obstacles: bool) -> tuple[str, str]:
        """What a trigger that is not refused does; nothing for those of worker and engine: they come by themselves."""
        task, here = self._task, self._task.state
        match trigger:
            case Trigger.CHUNK:
                what = f"Send the bytes from {task.offset:,} on" if task.offset else "Send it"
                most = f"at most {size(self._settings.max_chunk)} at a time"
                return f"{what}, {most}.", f"stagedoor add {_quoted(task.sourcefilename)}"
            case Trigger.DECLARE:
                missing = [w for w, v in (("length", task.filesize), ("SHA-1", task.sourcechecksum)) if v is None]
                return (f"Declare its {' and its '.join(missing)}." if missing else ""), ""
            case Trigger.ANNOTATE:
                late = here in _IN_LIBRARY
                later = " It changes nothing in the library before the import is taken back." if late else ""
                what = "Say what is missing or was wrong." if obstacles else "Say what is known about it."
                return f"{what}{later}", f"stagedoor annotate {task.id} KEY=VALUE"
            case Trigger.REQUEST:
                but = " It would fail as things stand." if obstacles else ""
                if task.wanted is Trigger.INTEGRATE:
                    return f"Ask for the integration again, with or without the import.{but}", ""
                return f"Have it put into the library, and imported.{but}", f"stagedoor import {task.id}"
            case Trigger.START_IMPORT:
                return "Have it imported into the music database.", f"stagedoor import {task.id}"
            case Trigger.RETRY:
                return _RETRIES[here], f"stagedoor retry {task.id}"
            case Trigger.REQUEST_UNDO if task.wanted is Trigger.UNDO:
                return "Ask once more to take it back.", f"stagedoor undo {task.id}"
            case Trigger.REQUEST_UNDO:
                return (
                    "Take it back out of library and music database, provided that none of its files was changed "
                    "since."
                ), f"stagedoor undo {task.id}"  # fmt: skip
            case Trigger.EXPIRE:
                return "Remove it, because its time is over.", ""
            case Trigger.REMOVE:
                stays = "; what it put into the library stays there" if task.placed else ""
                gone = f". {self._gone.capitalize()} {_are(task.replaced)} deleted with it" if task.replaced else ""
                return f"Remove it{stays}{gone}.", f"stagedoor remove {task.id}"
        return "", ""

    def _refused(self) -> Iterator[Refusal]:
        task = self._task
        if task.state is State.REMOVE:
            everything = (*_WHAT, Trigger.ANNOTATE, Trigger.REMOVE)
            yield Refusal(
                everything, None, "wrong_state", "Whatever is asked of it is refused, because it is being removed.",
                "Wait until it is gone; then the file can be offered again.",
            )  # fmt: skip
            return
        said: dict[tuple[str, str, str], list[Trigger]] = {}
        for trigger in _WHAT:
            if (trigger, task.state) not in _LADDERS:
                said.setdefault(self._not_now(trigger), []).append(trigger)
            elif (refused := self._refusal(trigger)) is not None:
                remedy, command = self._remedy(refused)
                # Nobody sent the byte that the guard was asked about.
                sentence = f"{_WHAT[trigger]}: all are here." if refused.code == "beyond_the_end" else refused.sentence
                yield Refusal((trigger,), refused.guard, refused.code, sentence, remedy, command)
        for (because, remedy, command), triggers in said.items():
            begins = _WHAT[triggers[0]] if Trigger.START_IMPORT not in triggers[1:] else _NEITHER
            yield Refusal(tuple(triggers), None, "wrong_state", f"{begins}: {because}.", remedy, command)
        if (refused := self._refusal(Trigger.ANNOTATE)) is not None:
            remedy = "Shorten what it says."
            yield Refusal((Trigger.ANNOTATE,), refused.guard, refused.code, refused.sentence, remedy)

    def _refusal(self, trigger: Trigger) -> Refused | None:
        """What the engine would say now, as far as the record alone can tell."""
        session = self._session()
        for guard in _LADDERS[trigger, self._task.state][-1].guards:
            if guard in _CHEAP and not getattr(session, guard)():
                return session.refusal(guard)
        return None

    def _session(self) -> Session:
        # The guards ask about a chunk, a declaration, annotations: the least of each that there can be.
        return Session(
            self._task,
            self._house.ports,
            self._now,
            chunk=Chunk(self._task.offset, b"\0"),
            declaration=Declaration(),
            annotations={},
        )

    def _remedy(self, refused: Refused) -> tuple[str, str]:
        task = self._task
        match refused.guard:
            case "no_open_question":
                options = next((q.options for q in self._session().questions if q.code == refused.code), ())
                answer = _quoted(options[0], "ANSWER") if len(options) == 1 else "ANSWER"
                command = f"stagedoor annotate {task.id} answers.{refused.code}={answer}"
                return "Then ask again.", command
            case "no_undo_pending":
                return "Once it is undone, ask for the integration again.", ""
            case "chunk_fits" if refused.code == "uploads_off":
                return "Ask whoever runs the server to switch uploads on.", ""
            case "chunk_fits":
                return "There is nothing left to send; wait for the checksum.", ""
        return "", ""

    def _not_now(self, trigger: Trigger) -> tuple[str, str, str]:
        """Why the life cycle has no such row for the state, what to do about it, and the command that does it."""
        task, state = self._task, self._task.state
        again, retry = f"stagedoor import {task.id}", f"stagedoor retry {task.id}"
        match trigger, state:
            case (Trigger.CHUNK | Trigger.DECLARE, State.UPLOADFAILED):
                return "the upload failed", "Retry first; then send it from the first byte.", retry
            case (Trigger.CHUNK | Trigger.DECLARE, _):
                return "the file is whole and verified", "For another file, offer another upload.", ""
            case (Trigger.REQUEST | Trigger.START_IMPORT, State.WAITFORCHUNK) if self._due is None:
                return "it is not here yet", "Send the rest first.", ""
            case (Trigger.REQUEST | Trigger.START_IMPORT, State.WAITFORCHUNK):
                return "nobody knows yet whether it arrived well", "Wait until its SHA-1 is compared.", ""
            case (Trigger.REQUEST | Trigger.START_IMPORT, State.UPLOADCOMPLETE):
                return "its content has not been looked at yet", "Wait until it has.", ""
            case (Trigger.REQUEST | Trigger.START_IMPORT, State.UPLOADFAILED):
                return "its upload failed", "Retry, and send it again.", retry
            case (Trigger.REQUEST | Trigger.START_IMPORT, State.INVALIDCONTENT):
                return "its content was refused", "Retry for another look, or upload a better file.", retry
            case (Trigger.REQUEST | Trigger.START_IMPORT, State.INTEGRATIONFAILED):
                return "the last attempt failed", "Mend the cause, then retry.", retry
            case (Trigger.REQUEST, _):
                return "it is in the library already", "To integrate it anew, take the import back first.", ""
            case (Trigger.START_IMPORT, State.IMPORTFAILED):
                return "the last attempt failed", "Mend the cause, then retry.", retry
            case (Trigger.START_IMPORT, State.STARTIMPORT | State.IMPORTARTWORK):
                return "that is being done", "Wait until it is.", ""
            case (Trigger.START_IMPORT, State.IMPORTCOMPLETE):
                return "that is done", "To import it anew, take the import back first.", ""
            case (Trigger.START_IMPORT, _):
                return "it is not in the library yet", "Ask for the integration, with the import.", again
            case (Trigger.REQUEST_UNDO, State.STARTIMPORT | State.IMPORTARTWORK):
                return "the import is not finished", "Wait until it is; then it can be taken back.", ""
            case (Trigger.REQUEST_UNDO, _):
                return "it is not in the library", "", ""
        return "nothing failed", "", ""

    # ── words ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _name(self) -> str:
        return f"“{self._task.sourcefilename}”" if self._task.sourcefilename else "The file"

    @property
    def _gone(self) -> str:
        return f"{count(self._task.replaced, 'file')} that it replaced"

    def _ago(self, event: Event | None) -> str:
        # A clock that was set back does not make the past the future.
        return moment(min(self._now, self._task.updated if event is None else event.time), self._now)

    def _has_artwork(self) -> bool:
        content = self._house.ports.contents.get(self._task.contenttype)
        return content is not None and content.has_artwork


def _moved(event: Event) -> bool:
    return event.source != event.dest or event.trigger in ("create", "recover")


def _full_stop(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "…")) else f"{sentence}."


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _quoted(name: str, otherwise: str = "FILE") -> str:
    # A name from a stranger never becomes part of a command that somebody may paste into a shell.
    plain = name and not name.startswith("-") and all(c.isalnum() or c in "._-+" for c in name)
    return name if plain else otherwise
