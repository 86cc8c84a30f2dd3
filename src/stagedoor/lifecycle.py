"""The life cycle of an upload, as a table.

Everything that decides which state may follow which is in this file. No transition exists outside `ROWS`;
the machine, the diagrams, the documentation and the checks are all made from it. What the guards and
callbacks *do* is in `stagedoor.session`, which is checked against the names used here when it is imported.

How to read a row: in state ``source``, when ``trigger`` fires and all ``guards`` say yes, ``before`` is called
and the state becomes ``dest``; a row without ``dest`` is internal, it changes the document but not the state.
Rows of one trigger and source form a *ladder* and are tried from top to bottom. The last one carries only the
preconditions, which stand on every row of the ladder, so that a refusal never falls through to a failure row.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Protocol

from attrs import field, frozen
from transitions import Machine

from .errors import ConfigurationError

__all__ = [
    "CHECKED",
    "DEADLINE_STATES",
    "DUE_STATES",
    "FAILURE_STATES",
    "ROWS",
    "STORED_STATES",
    "By",
    "Kind",
    "Phase",
    "Row",
    "Standing",
    "State",
    "Trigger",
    "build_machine",
    "check",
    "due",
    "ladders",
    "machine",
    "row_taken",
]

# An INFO line an event costs six times the event.
logging.getLogger("transitions").setLevel(logging.WARNING)


class State(StrEnum):
    """The thirteen states of the specification. The wire value, the stored value and this are the same word."""

    WAITFORCHUNK = "waitforchunk"
    UPLOADCOMPLETE = "uploadcomplete"
    UPLOADFAILED = "uploadfailed"
    PREPROCESSED = "preprocessed"
    INVALIDCONTENT = "invalidcontent"
    INTEGRATED = "integrated"
    INTEGRATIONFAILED = "integrationfailed"
    STARTIMPORT = "startimport"
    IMPORTFAILED = "importfailed"
    IMPORTARTWORK = "importartwork"
    IMPORTCOMPLETE = "importcomplete"
    REMOVE = "remove"
    NOTEXISTING = "notexisting"
    """Virtual: there is no such upload. Never stored, only told."""

    @property
    def meaning(self) -> str:
        """A sentence for people."""
        return _MEANING[self]

    @property
    def phase(self) -> Phase:
        """The part of the life that the state belongs to."""
        return _PHASE[self]


class Trigger(StrEnum):
    """What can happen to an upload."""

    CHUNK = "chunk"
    DECLARE = "declare"
    COMPLETE = "complete"
    FAIL = "fail"
    BEGIN = "begin"
    RELEASE = "release"
    PREPROCESS = "preprocess"
    ANNOTATE = "annotate"
    REQUEST = "request"
    INTEGRATE = "integrate"
    START_IMPORT = "start_import"
    IMPORT = "import_"
    IMPORT_ARTWORK = "import_artwork"
    RETRY = "retry"
    REQUEST_UNDO = "request_undo"
    UNDO = "undo"
    EXPIRE = "expire"
    REMOVE = "remove"


class Phase(StrEnum):
    """A part of the life; diagrams draw it as a cluster."""

    UPLOAD = "upload"
    CONTENT = "content"
    LIBRARY = "library"
    END = "end"


class Kind(StrEnum):
    """What a row means for the person who waits."""

    PROGRESS = "progress"
    FAILURE = "failure"
    REPAIR = "repair"
    END = "end"


class By(StrEnum):
    """Who may fire a row."""

    CLIENT = "client"
    ENGINE = "engine"
    WORKER = "worker"
    TIMER = "timer"


_MEANING: Mapping[State, str] = {
    State.WAITFORCHUNK: "A chunk was requested and is expected.",
    State.UPLOADCOMPLETE: "The whole file is here and its SHA-1 is right.",
    State.UPLOADFAILED: "The bytes could not be stored, or the SHA-1 did not match.",
    State.PREPROCESSED: "The content was accepted and is ready for the library.",
    State.INVALIDCONTENT: "The content was unexpected or invalid.",
    State.INTEGRATED: "What it brought is in the library.",
    State.INTEGRATIONFAILED: "It could not be put into the library.",
    State.STARTIMPORT: "Importing into the music database has started.",
    State.IMPORTFAILED: "Importing, or making the artwork, failed.",
    State.IMPORTARTWORK: "The import succeeded, the artwork is being made.",
    State.IMPORTCOMPLETE: "Everything is done.",
    State.REMOVE: "The upload is being removed; its id is no longer valid.",
    State.NOTEXISTING: "There is no such upload.",
}

_PHASE: Mapping[State, Phase] = {
    State.WAITFORCHUNK: Phase.UPLOAD,
    State.UPLOADFAILED: Phase.UPLOAD,
    State.UPLOADCOMPLETE: Phase.CONTENT,
    State.INVALIDCONTENT: Phase.CONTENT,
    State.PREPROCESSED: Phase.CONTENT,
    State.INTEGRATED: Phase.LIBRARY,
    State.INTEGRATIONFAILED: Phase.LIBRARY,
    State.STARTIMPORT: Phase.LIBRARY,
    State.IMPORTARTWORK: Phase.LIBRARY,
    State.IMPORTFAILED: Phase.LIBRARY,
    State.IMPORTCOMPLETE: Phase.LIBRARY,
    State.REMOVE: Phase.END,
    State.NOTEXISTING: Phase.END,
}

STORED_STATES: tuple[State, ...] = tuple(s for s in State if s is not State.NOTEXISTING)
"""The states that a task document may have."""

_LIVE = tuple(s for s in STORED_STATES if s is not State.REMOVE)


@frozen
class Row:
    """One line of the life cycle.

    Attributes:
        trigger: What fires it.
        source: The state before.
        dest: The state after; ``None`` leaves the state as it is.
        guards: Names of `Session` methods that must all answer ``True``.
        before: Names of `Session` methods called once the row is chosen, before the state changes.
        kind: What it means for the person who waits.
        by: Who may fire it.
        doc: A sentence for people.
    """

    trigger: Trigger
    source: State
    dest: State | None
    guards: tuple[str, ...] = field(kw_only=True, default=())
    before: tuple[str, ...] = field(kw_only=True, default=())
    kind: Kind = field(kw_only=True, default=Kind.PROGRESS)
    by: tuple[By, ...] = field(kw_only=True, default=(By.CLIENT,))
    doc: str = field(kw_only=True)

    @property
    def phase(self) -> Phase:
        """The part of the life in which the row starts (``end`` for rows that end it)."""
        return Phase.END if self.dest is State.REMOVE else self.source.phase

    @property
    def id(self) -> str:
        """``trigger:source:dest``, unique in the table."""
        return f"{self.trigger}:{self.source}:{self.dest or 'internal'}"


# fmt: off
def _rows() -> Iterable[Row]:
    S, T = State, Trigger  # noqa: N806  # the table is read by its words
    worker, engine, client, timer = (By.WORKER,), (By.ENGINE,), (By.CLIENT,), (By.TIMER,)

    # ── upload ────────────────────────────────────────────────────────────────────────────────────────────
    yield Row(
        T.CHUNK, S.WAITFORCHUNK, None, guards=("chunk_fits",), before=("store_chunk",), by=client,
        doc="Bytes arrived at the offset on record and were stored.",
    )
    yield Row(
        T.DECLARE, S.WAITFORCHUNK, None, guards=("declaration_fits",), before=("adopt_declaration",), by=client,
        doc="The length or the checksum came later than the upload itself.",
    )
    yield Row(
        T.COMPLETE, S.WAITFORCHUNK, S.UPLOADCOMPLETE, guards=("all_bytes_here", "checksum_matches"),
        before=("seal_file",), by=engine,
        doc="All bytes are here and their SHA-1 is the declared one.",
    )
    yield Row(
        T.COMPLETE, S.WAITFORCHUNK, S.UPLOADFAILED, guards=("all_bytes_here",), before=("note_failure",),
        kind=Kind.FAILURE, by=engine,
        doc="All bytes are here, but their SHA-1 is not the declared one.",
    )
    yield Row(
        T.FAIL, S.WAITFORCHUNK, S.UPLOADFAILED, before=("note_failure",), kind=Kind.FAILURE, by=engine,
        doc="The disk failed, or bytes on record were lost.",
    )
    yield Row(
        T.RETRY, S.UPLOADFAILED, S.WAITFORCHUNK, before=("start_over",), kind=Kind.REPAIR, by=client,
        doc="The upload starts again from its first byte.",
    )

    # ── slow steps: begin, work without the lock, finish by firing the step's own trigger ──────────────────
    for state in (
        S.WAITFORCHUNK, S.UPLOADCOMPLETE, S.PREPROCESSED, S.STARTIMPORT, S.IMPORTARTWORK,
        S.INTEGRATED, S.IMPORTFAILED, S.IMPORTCOMPLETE,
    ):
        yield Row(
            T.BEGIN, state, None, guards=("step_is_due", "attempts_left"), before=("take_step",), by=worker,
            doc="A slow step starts: its plan, attempt and token go on record first.",
        )
        yield Row(
            T.RELEASE, state, None, guards=("holds_step",), before=("give_step_back",), kind=Kind.FAILURE, by=worker,
            doc="A slow step gave up for now: the reason, and when it is tried again, go on record.",
        )

    # ── content ───────────────────────────────────────────────────────────────────────────────────────────
    yield Row(
        T.PREPROCESS, S.UPLOADCOMPLETE, S.PREPROCESSED, guards=("holds_step", "content_accepted"),
        before=("adopt_content",), by=worker,
        doc="The content is what it says and can be used.",
    )
    yield Row(
        T.PREPROCESS, S.UPLOADCOMPLETE, S.INVALIDCONTENT, guards=("holds_step",), before=("note_failure",),
        kind=Kind.FAILURE, by=worker,
        doc="The content is damaged, unexpected or not allowed.",
    )
    yield Row(
        T.RETRY, S.INVALIDCONTENT, S.UPLOADCOMPLETE, before=("forget_failure",), kind=Kind.REPAIR, by=client,
        doc="The content is looked at once more.",
    )
    yield Row(
        T.REQUEST, S.PREPROCESSED, None, guards=("no_open_question",), before=("note_request",), by=client,
        doc="Integration, and import if wished, is asked for durably.",
    )
    yield Row(
        T.INTEGRATE, S.PREPROCESSED, S.INTEGRATED, guards=("holds_step", "placed_in_library"),
        before=("adopt_placement",), by=worker,
        doc="The files are in the music directory under their final names.",
    )
    yield Row(
        T.INTEGRATE, S.PREPROCESSED, S.INTEGRATIONFAILED, guards=("holds_step",), before=("note_failure",),
        kind=Kind.FAILURE, by=worker,
        doc="The files could not be put into the library; none of them is there.",
    )
    yield Row(
        T.RETRY, S.INTEGRATIONFAILED, S.PREPROCESSED, before=("forget_failure",), kind=Kind.REPAIR, by=client,
        doc="Back to where annotations can be corrected and integration asked for again.",
    )

    # ── library ───────────────────────────────────────────────────────────────────────────────────────────
    yield Row(
        T.START_IMPORT, S.INTEGRATED, S.STARTIMPORT, guards=("no_undo_pending",), before=("note_import",),
        by=(By.CLIENT, By.WORKER),
        doc="Importing into the music database is asked for.",
    )
    yield Row(
        T.IMPORT, S.STARTIMPORT, S.IMPORTARTWORK, guards=("holds_step", "imported", "has_artwork_step"),
        before=("adopt_import",), by=worker,
        doc="The music database knows the files; their artwork comes next.",
    )
    yield Row(
        T.IMPORT, S.STARTIMPORT, S.IMPORTCOMPLETE, guards=("holds_step", "imported"), before=("adopt_import",),
        by=worker,
        doc="The music database knows the files, and there is no artwork to make.",
    )
    yield Row(
        T.IMPORT, S.STARTIMPORT, S.IMPORTFAILED, guards=("holds_step",), before=("note_failure",), kind=Kind.FAILURE,
        by=worker,
        doc="The music database did not take the files.",
    )
    yield Row(
        T.IMPORT_ARTWORK, S.IMPORTARTWORK, S.IMPORTCOMPLETE, guards=("holds_step", "artwork_made"),
        before=("adopt_artwork",), by=worker,
        doc="The artwork is made and known to the music database.",
    )
    yield Row(
        T.IMPORT_ARTWORK, S.IMPORTARTWORK, S.IMPORTFAILED, guards=("holds_step",), before=("note_failure",),
        kind=Kind.FAILURE, by=worker,
        doc="The artwork could not be made.",
    )
    yield Row(
        T.RETRY, S.IMPORTFAILED, S.STARTIMPORT, guards=("no_undo_pending",), before=("forget_failure",),
        kind=Kind.REPAIR, by=client,
        doc="The import is tried once more.",
    )
    for state in (S.INTEGRATED, S.IMPORTFAILED, S.IMPORTCOMPLETE):
        yield Row(
            T.REQUEST_UNDO, state, None, guards=("library_untouched",), before=("note_undo",), kind=Kind.REPAIR,
            by=client,
            doc="Taking the import back is asked for durably.",
        )
        yield Row(
            T.UNDO, state, S.PREPROCESSED, guards=("holds_step", "undone"), before=("adopt_undo",), kind=Kind.REPAIR,
            by=worker,
            doc="The library and the music database are as they were before.",
        )

    # ── in every state ────────────────────────────────────────────────────────────────────────────────────
    for state in _LIVE:
        yield Row(
            T.ANNOTATE, state, None, guards=("annotations_valid",), before=("merge_annotations",), by=client,
            doc="What the user says about the upload was merged into it.",
        )
    for state in _LIVE:
        if state not in (S.UPLOADCOMPLETE, S.STARTIMPORT, S.IMPORTARTWORK):
            yield Row(
                T.EXPIRE, state, S.REMOVE, guards=("deadline_passed",), before=("forget_wishes",), kind=Kind.END,
                by=timer,
                doc="Nothing happened for longer than the retention allows.",
            )
    for state in _LIVE:
        yield Row(
            T.REMOVE, state, S.REMOVE, before=("forget_wishes",), kind=Kind.END, by=client,
            doc="Somebody asked for the removal of the upload; library and catalogue are not touched.",
        )
# fmt: on


ROWS: tuple[Row, ...] = tuple(_rows())
"""The life cycle."""

DEADLINE_STATES: frozenset[State] = frozenset(r.source for r in ROWS if r.trigger is Trigger.EXPIRE)
"""States in which an upload may expire."""

DUE_STATES: Mapping[State, Trigger] = {
    State.UPLOADCOMPLETE: Trigger.PREPROCESS,
    State.STARTIMPORT: Trigger.IMPORT,
    State.IMPORTARTWORK: Trigger.IMPORT_ARTWORK,
}
"""States that always have work to do, and the trigger that ends it."""

FAILURE_STATES: tuple[State, ...] = tuple(dict.fromkeys(r.dest for r in ROWS if r.kind is Kind.FAILURE and r.dest))
"""States in which an upload waits for somebody to mend something."""


class Facts(Protocol):
    """What `due` needs to know of a task."""

    @property
    def state(self) -> State: ...
    @property
    def offset(self) -> int: ...
    @property
    def filesize(self) -> int | None: ...
    @property
    def wanted(self) -> Trigger | None: ...


@frozen
class Standing:
    """The facts alone, for those who have no task at hand."""

    state: State
    offset: int
    filesize: int | None
    wanted: Trigger | None


def due(task: Facts) -> Trigger | None:
    """What the management thread has to do with a task next, from what is on record alone.

    Returns:
        The trigger to fire; ``Trigger.REMOVE`` in state ``remove`` stands for the deletion that is left to
        do; ``None`` when the upload waits for a client or rests.
    """
    state = task.state
    if state is State.REMOVE:
        return Trigger.REMOVE
    if state is State.WAITFORCHUNK:
        return Trigger.COMPLETE if task.offset == task.filesize else None
    return DUE_STATES.get(state) or task.wanted


def ladders(rows: Iterable[Row] = ROWS) -> dict[tuple[Trigger, State], tuple[Row, ...]]:
    """The rows grouped by trigger and source, in their order."""
    found: dict[tuple[Trigger, State], list[Row]] = defaultdict(list)
    for row in rows:
        found[row.trigger, row.source].append(row)
    return {key: tuple(group) for key, group in found.items()}


def check(rows: Collection[Row] = ROWS) -> list[str]:
    """Look for mistakes in a table's structure.

    Checked: no row twice; ``remove`` and ``notexisting`` are left by nothing; every stored state is reached
    from ``waitforchunk`` and reaches ``remove``; every ladder ends in a row with the preconditions only, which
    all rows above carry, each with a choice of its own (no gap, no row that can never be taken); an internal
    row is alone on its ladder; failures and repairs lead somewhere else.

    Returns:
        A sentence for each mistake; empty when the table is sound.
    """
    wrong: list[str] = []
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            wrong.append(f"{row.id}: stands twice")
        seen.add(row.id)
        if row.source not in STORED_STATES or row.source is State.REMOVE:
            wrong.append(f"{row.id}: nothing may leave {row.source}")
        if row.dest is State.NOTEXISTING:
            wrong.append(f"{row.id}: {row.dest} is never stored")
        if row.dest is row.source:
            wrong.append(f"{row.id}: a row that stays must be internal")
        if not row.by:
            wrong.append(f"{row.id}: nobody may fire it")
        if not row.doc.endswith("."):
            wrong.append(f"{row.id}: has no sentence")
    for (trigger, source), ladder in ladders(rows).items():
        name = f"{trigger}:{source}"
        preconditions = set(ladder[-1].guards)
        choices: list[set[str]] = []
        for row in ladder[:-1]:
            if not preconditions <= set(row.guards):
                wrong.append(f"{row.id}: misses a precondition of {name}")
            choice = set(row.guards) - preconditions
            if not choice or any(above <= choice for above in choices):
                wrong.append(f"{row.id}: rows below or itself can never be taken")
            choices.append(choice)
        if len(ladder) > 1 and any(row.dest is None for row in ladder):
            wrong.append(f"{name}: an internal row must be alone on its ladder")
    forward: dict[State, set[State]] = defaultdict(set)
    for row in rows:
        if row.dest is not None:
            forward[row.source].add(row.dest)
    backward: dict[State, set[State]] = defaultdict(set)
    for source, dests in forward.items():
        for dest in dests:
            backward[dest].add(source)
    for state in set(STORED_STATES) - _reach(forward, State.WAITFORCHUNK):
        wrong.append(f"{state}: cannot be reached")
    for state in set(STORED_STATES) - _reach(backward, State.REMOVE):
        wrong.append(f"{state}: has no way to the end")
    return wrong


def _reach(edges: Mapping[State, set[State]], start: State) -> set[State]:
    found, todo = {start}, [start]
    while todo:
        for state in edges.get(todo.pop(), ()):
            if state not in found:
                found.add(state)
                todo.append(state)
    return found


def build_machine(rows: Iterable[Row] = ROWS) -> Machine:
    """Make a `transitions.Machine` that is shared by all uploads and owns no model.

    Fire with ``machine.events[trigger].trigger(model)`` on any object with a ``state`` attribute and the
    guards and callbacks as methods. Models are never registered: ``add_model`` costs 8.7 kB each and is
    quadratic in their number.
    """
    built = Machine(model=None, states=[state.value for state in STORED_STATES], initial=None, auto_transitions=False)
    for row in rows:
        built.add_transition(
            row.trigger.value,
            row.source.value,
            None if row.dest is None else row.dest.value,
            conditions=list(row.guards),
            before=list(row.before),
        )
    return built


def row_taken(trigger: Trigger, source: State, dest: State | None) -> Row | None:
    """The row of a step that was seen, or ``None`` when no row allows it."""
    return _BY_ID.get(f"{trigger}:{source}:{dest or 'internal'}")


CHECKED = check()
if CHECKED:
    raise ConfigurationError("The life cycle is unsound: " + "; ".join(CHECKED))
_BY_ID = {row.id: row for row in ROWS}
machine: Machine = build_machine()
"""The machine of `ROWS`."""
