"""The machine's model: one upload while one thing happens to it.

A `Session` is put around a task, the machine fires a trigger on it, and the engine saves what it then holds. If
anything raises, the session is thrown away: nothing was saved, so nothing happened. Its methods are the guards
and callbacks that `stagedoor.lifecycle` names; here is the logic of checksum, pre-processing, integration and
import. Sessions call ports; only the engine saves and publishes.

Guards are methods that return ``bool``. The work behind a slow guard runs once, on first access, in a cached
property, because a guard is asked again for every row of its ladder; its failure is kept in ``failure``. A
guard that says no has a reason in `refusal`.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import BinaryIO, Final

import attrs
from attrs import define, field, frozen

from .errors import (
    ConfigurationError,
    Conflict,
    ContentRejected,
    DataLost,
    OffsetMismatch,
    Refused,
    StorageError,
    TooLarge,
    UploadError,
)
from .lifecycle import ROWS, State, Trigger, due
from .ports import Buffer, ByteStore, ContentType, Illustrated, Library, Preprocessed, Producer, Renamer, Tree
from .settings import Settings
from .tasks import (
    JSON,
    Finding,
    PlacedFile,
    Plan,
    PlannedFile,
    Step,
    UploadTask,
    answered,
    check_annotations,
    evolve,
    pending_name,
)

__all__ = ["PLANNING_STATES", "Chunk", "Declaration", "Ports", "Session", "file_too_large", "without_leave"]

log = logging.getLogger(__name__)

_BLOCK: Final = 1 << 20
_FINAL_ERRORS: Final = frozenset({"destination_exists", "unsafe_path"})
"""Codes of storage errors that no second attempt mends."""


@frozen
class Ports:
    """What a session works with."""

    bytes: ByteStore
    trees: Mapping[str, Tree]
    library: Library
    contents: Mapping[str, ContentType]
    settings: Settings


@frozen
class Chunk:
    """Bytes for an offset.

    Attributes:
        offset: Where they belong.
        data: The bytes; ``None`` when they were appended already, piece by piece.
        record: Whether they go on record right away.
        size: How many.
    """

    offset: int
    data: Buffer | None
    record: bool = True
    size: int = field()

    @size.default
    def _(self) -> int:
        return 0 if self.data is None else len(self.data)


@frozen
class Declaration:
    """A length or checksum that came late."""

    filesize: int | None = None
    sha1: str | None = None


@define
class Session:
    """One event in the life of one upload.

    Attributes:
        task: As it is, and then as it is going to be saved.
        ports: What to work with.
        now: Seconds since the epoch.
        state: Read and written by the machine.
        chunk: For ``chunk``.
        declaration: For ``declare``.
        annotations: For ``annotate``.
        trigger_import: For ``request``.
        step: For ``begin``: the trigger that will end the step; for its end, the same.
        token: Proves that the step is ours.
        digest: For ``complete``: SHA-1 of the stored bytes, when it was computed as they came.
        failure: What went wrong, for the rows that record it.
        given_up: The attempts are used up; slow guards answer no without working.
        retry_at: For ``release``: when to try again; ``None`` drops the step and the wish behind it.
        afterwards: What to do once the task is saved; may fail without harm, and a placement is settled later then.
    """

    task: UploadTask
    ports: Ports
    now: float
    state: str = field(init=False)
    chunk: Chunk | None = None
    declaration: Declaration | None = None
    annotations: Mapping[str, JSON] | None = None
    trigger_import: bool = False
    step: Trigger | None = None
    token: str = ""
    digest: str | None = None
    failure: UploadError | None = None
    given_up: UploadError | None = None
    retry_at: float | None = None
    afterwards: list[Callable[[], None]] = field(factory=list)
    _noticed: tuple[Finding, ...] = ()

    def __attrs_post_init__(self) -> None:
        self.state = self.task.state.value

    def refresh(self, task: UploadTask) -> None:
        """Go on with the task as it is now; what the slow guards found stays."""
        self.task = task
        self.state = task.state.value

    def work(self) -> None:
        """Do the work of the step's slow guard, so that the machine finds its answer at once."""
        slow = _SLOW.get(self.step) if self.step else None
        if slow is not None:
            getattr(self, slow)()

    def refusal(self, guard: str) -> Refused:
        """Why a guard says no, and what to do about it."""
        reason = getattr(self, f"_{guard}_refusal", None)
        found = reason() if reason is not None else None
        if found is None and guard in _SLOW.values():
            failure = self.failure or UploadError("The step failed and nobody said why.")
            found = Refused(failure.sentence, code=failure.code)
        elif found is None:
            found = Refused(_REFUSALS[guard], code=guard)
        found.guard = guard
        return found

    # ── upload ────────────────────────────────────────────────────────────────────────────────────────────

    def chunk_fits(self) -> bool:
        """The chunk starts at the offset on record, has bytes, and stays within the file.

        A chunk that was stored already, with the same bytes, fits as well: its answer was lost.
        """
        return self._chunk_problem is None

    @cached_property
    def _chunk_problem(self) -> Refused | None:
        chunk, task, settings = self.chunk, self.task, self.ports.settings
        assert chunk is not None
        size, limit = chunk.size, task.filesize
        if not settings.allow:
            return Refused("Uploads are switched off on this server.", code="uploads_off")
        if size == 0:
            return Refused("The chunk is empty. Send at least one byte.", code="empty_chunk")
        if size > settings.max_chunk and chunk.data is not None:
            return TooLarge(
                f"The chunk has {size:,} bytes, at most {settings.max_chunk:,} are taken. Send smaller ones.",
                code="chunk_too_large",
            )
        if chunk.offset != task.offset and not self._replayed:
            return OffsetMismatch(
                f"The upload stands at byte {task.offset:,}, the chunk starts at {chunk.offset:,}. "
                f"Send from {task.offset:,} on.",
                expected=task.offset,
            )
        if limit is None:
            limit = settings.max_file_size
        if chunk.offset + size > limit:
            return TooLarge(
                f"The chunk ends at byte {chunk.offset + size:,}, the file at {limit:,}. Nothing was stored.",
                code="beyond_the_end",
            )
        return None

    def _chunk_fits_refusal(self) -> Refused | None:
        return self._chunk_problem

    @cached_property
    def _replayed(self) -> bool:
        chunk = self.chunk
        assert chunk is not None
        end = chunk.offset + chunk.size
        if chunk.data is None or not 0 <= chunk.offset < end <= self.task.offset:
            return False
        with self._open() as file:
            file.seek(chunk.offset)
            return _read_exactly(file, len(chunk.data)) == bytes(chunk.data)

    def store_chunk(self) -> None:
        """Append, and move the record behind it."""
        chunk, task, store = self.chunk, self.task, self.ports.bytes
        assert chunk is not None
        if chunk.offset != task.offset:
            return  # a replay
        if chunk.data is not None:
            store.append(task.key, chunk.offset, chunk.data)
        if chunk.record:
            store.commit(task.key)
        self.task = evolve(task, offset=chunk.offset + chunk.size)

    def declaration_fits(self) -> bool:
        """What is declared was not known before, or is the same, and fits the bytes that are here."""
        return self._declaration_problem is None

    @cached_property
    def _declaration_problem(self) -> Refused | None:
        new, task = self.declaration, self.task
        assert new is not None
        for value, known, what in (
            (new.filesize, task.filesize, "length"),
            (new.sha1, task.sourcechecksum, "checksum"),
        ):
            if value is not None and known is not None and value != known:
                return Refused(f"The {what} is declared already and cannot change.", code="declared_already")
        if new.filesize is not None and new.filesize < task.offset:
            return Refused(
                f"{task.offset:,} bytes are here already, the file cannot have {new.filesize:,}.",
                code="length_too_small",
            )
        if new.filesize is not None and new.filesize > self.ports.settings.max_file_size:
            return file_too_large(new.filesize, self.ports.settings.max_file_size)
        return None

    def _declaration_fits_refusal(self) -> Refused | None:
        return self._declaration_problem

    def adopt_declaration(self) -> None:
        """Keep what is new."""
        new = self.declaration
        assert new is not None
        self.task = evolve(
            self.task,
            filesize=self.task.filesize if new.filesize is None else new.filesize,
            sourcechecksum=self.task.sourcechecksum or new.sha1,
        )

    def all_bytes_here(self) -> bool:
        """The offset on record is the file's size."""
        return self.task.offset == self.task.filesize

    def checksum_matches(self) -> bool:
        """The SHA-1 of what was stored is the declared one, or none was declared. Slow after a restart."""
        if self.given_up is not None:
            self.failure = self.given_up
            return False
        expected, found = self.task.sourcechecksum, self._digest
        if expected in (None, found):
            return True
        self.failure = DataLost(
            f"The file that arrived has the SHA-1 {found}, but {expected} was declared. Send it again.",
            code="checksum_mismatch",
        )
        return False

    @cached_property
    def _digest(self) -> str:
        if self.digest is not None:
            return self.digest
        return self._hash("sha1")[0]

    def seal_file(self) -> None:
        """Give the file its final name, durably, before the new state is recorded."""
        task = self.task
        name = f"{task.contenttype}-{self._digest}.{task.extension}"
        path = self.ports.bytes.seal(task.key, name)
        self.task = evolve(task, sourcechecksum=self._digest, destinationpath=path, step=None, message=None, code=None)
        self.afterwards.append(lambda: self.ports.bytes.close(task.key))

    def start_over(self) -> None:
        """A new, empty place for the bytes; the old one goes when this is on record."""
        task, store = self.task, self.ports.bytes
        old, new = task.key, evolve(task, generation=task.generation + 1, offset=0)
        store.delete(new.key)  # an earlier retry may have failed to be recorded
        path = store.create(new.key, pending_name(task.contenttype, task.extension))
        self.task = evolve(new, destinationpath=path, message=None, code=None, step=None, findings=(), sha256=None)
        self.afterwards.append(lambda: store.delete(old))

    # ── slow steps ────────────────────────────────────────────────────────────────────────────────────────

    def step_is_due(self) -> bool:
        """The step that is to begin is what the record asks for."""
        return self.step is not None and self.step is due(self.task)

    def attempts_left(self) -> bool:
        """The step was not tried too often already."""
        return self._attempt <= self.ports.settings.attempts

    @property
    def _attempt(self) -> int:
        last = self.task.step
        return last.attempt + 1 if last is not None and last.trigger is self.step else 1

    def take_step(self) -> None:
        """Record attempt and token; for an integration, the plan, before the disk is touched."""
        assert self.step is not None
        plan = self.task.plan
        if self.step is Trigger.INTEGRATE and (plan is None or self._attempt == 1):
            plan = self._plan_if_it_can_be
        elif self.step is Trigger.IMPORT_ARTWORK and plan is not None:
            plan = self._with_free_names(plan)
        self.task = evolve(self.task, step=Step(self.step, self.token, self._attempt, self.now), plan=plan)

    def _with_free_names(self, plan: Plan) -> Plan:
        """The plan, with other names for artwork whose names somebody has taken since the integration."""
        content = self._content
        if not isinstance(content, Renamer) or not any(file.optional for file in plan.artwork):
            return plan
        if self._attempt > 1:  # what an attempt before this one has placed is no stranger's
            self._take_back()
        if not any(self._tree(file.root).exists(file.path) for file in plan.artwork):
            return plan
        return content.renamed(plan, _Surroundings(self.ports))

    def holds_step(self) -> bool:
        """The step on record is ours."""
        step = self.task.step
        return step is not None and step.trigger is self.step and step.token == self.token

    def give_step_back(self) -> None:
        """Record why the step gave up, and when it is tried again."""
        step = self.task.step
        assert step is not None
        if self.retry_at is None:
            # An undo ends half-way: what it has taken is ours no longer, whoever places something there next.
            held = tuple(file for file in self.task.placed if self._tree(file.root).holds(self.task.uid, file))
            self.task = evolve(self.task, step=None, wanted=None, placed=held)
            self._settle_afterwards()
        else:
            self.task = evolve(self.task, step=attrs.evolve(step, token="", not_before=self.retry_at))
        self._keep_failure()

    def note_failure(self) -> None:
        """Record what went wrong; the step and the wishes behind it are over."""
        task = self.task
        self.task = evolve(task, step=None, wanted=None, import_wanted=False)
        self._keep_failure()
        if task.state is State.WAITFORCHUNK:
            self.afterwards.append(lambda: self.ports.bytes.close(task.key))

    def _keep_failure(self) -> None:
        failure = self.failure or UploadError("Something went wrong and nobody said what.", code="unknown")
        self.task = evolve(self.task, message=failure.sentence, code=failure.code)

    def forget_failure(self) -> None:
        """Start afresh: no message, no attempts, no plan that could be out of date."""
        importing = self.task.state is State.IMPORTFAILED
        self.task = evolve(
            self.task,
            message=None,
            code=None,
            step=None,
            plan=self.task.plan if importing else None,
        )

    def forget_wishes(self) -> None:
        """Nothing but the deletion is due any more. The plan stays: the deletion takes back what is half done."""
        self.task = evolve(self.task, step=None, wanted=None, import_wanted=False)

    # ── content ───────────────────────────────────────────────────────────────────────────────────────────

    def content_accepted(self) -> bool:
        """The stored bytes are still those that were verified, and the content type takes them. Slow."""
        if self.given_up is not None:
            self.failure = self.given_up
            return False
        return self._preprocessed is not None

    @cached_property
    def _preprocessed(self) -> tuple[str, Preprocessed] | None:
        try:
            sha1, sha256 = self._hash("sha1", "sha256")
            if sha1 != self.task.sourcechecksum:
                raise DataLost("The stored file is not the one that was verified: the disk has changed it.")
            return sha256, self._content.preprocess(evolve(self.task, sha256=sha256), self._open)
        except (ContentRejected, DataLost) as error:
            self.failure = error
            return None

    def adopt_content(self) -> None:
        """Keep what pre-processing found."""
        assert self._preprocessed is not None
        sha256, found = self._preprocessed
        self.task = evolve(
            self.task,
            sha256=sha256,
            content=found.content,
            findings=tuple(found.findings),
            step=None,
            message=None,
            code=None,
        )

    def annotations_valid(self) -> bool:
        """What the user says is JSON of a reasonable size."""
        return not isinstance(self._merged, Refused)

    @cached_property
    def _merged(self) -> Mapping[str, JSON] | Refused:
        assert self.annotations is not None
        settings = self.ports.settings
        try:
            return check_annotations(
                {**self.task.annotations, **self.annotations},
                max_bytes=settings.max_annotations,
                max_depth=settings.max_annotation_depth,
            )
        except Refused as refused:
            return refused

    def _annotations_valid_refusal(self) -> Refused | None:
        return self._merged if isinstance(self._merged, Refused) else None

    def merge_annotations(self) -> None:
        """Put the new annotations over the old ones, key by key.

        The leave to replace files counts only where it can be seen which ones these are. Whoever changes names may
        have other files in the way: then it has to be given once more, with the change or after it.
        """
        assert self.annotations is not None
        assert not isinstance(self._merged, Refused)
        task = evolve(self.task, annotations=self._merged)
        if _REPLACE in self.annotations:
            stands = task.state in PLANNING_STATES
        else:
            stands = _REPLACE not in self._merged or self._names(task) <= self._names(self.task)
        self.task = task if stands else evolve(task, annotations=without_leave(self._merged))

    def _names(self, task: UploadTask) -> Set[tuple[str, str]]:
        """What would be placed, as the annotations are; nothing while that cannot be said."""
        plan = Session(task, self.ports, self.now)._outline_if_it_can_be
        return set() if plan is None else {(file.root, file.path) for file in (*plan.files, *plan.artwork)}

    def no_open_question(self) -> bool:
        """The user has answered what had to be asked, about the content and about its place in the library."""
        return not self.questions

    @cached_property
    def questions(self) -> tuple[Finding, ...]:
        """What the user still has to answer."""
        plan = self._outline_if_it_can_be
        planned = plan.problems if plan is not None else ()
        return (*self.task.open_questions, *(problem for problem in planned if problem.severity == "hold"))

    def _no_open_question_refusal(self) -> Refused | None:
        question = self.questions[0]
        choice = f" ({', '.join(question.options)})" if question.options else ""
        return Refused(
            f"{question.sentence} Answer with the annotation answers.{question.code}{choice} first.",
            code=question.code,
        )

    def note_request(self) -> None:
        """Integration is wanted, and import if asked for."""
        task = self.task
        waiting = task.step is not None  # its message says why
        self.task = evolve(
            task,
            wanted=Trigger.INTEGRATE,
            import_wanted=task.import_wanted or self.trigger_import,
            message=task.message if waiting else None,
            code=task.code if waiting else None,
        )

    # ── library ───────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def plan(self) -> Plan:
        """What integration would do now: the outline, without files that are there already, byte for byte.

        Where files may be replaced, those of the same size are read: slow. A file that is there already stays whose
        it is: nothing would be won by replacing it, and nobody could tell whose it is then, not even the undo of the
        upload that brought it.
        """
        plan = self.outline
        same = [file for file in plan.files if file.replace and self._is_there(file)]
        if not same:
            return plan
        problems = [*plan.problems, _already_there(same)]
        if len(same) == len(plan.files):
            problems.append(Finding("nothing_to_place", "reject", _NOTHING_TO_PLACE))
        files = tuple(file for file in plan.files if file not in same)
        return attrs.evolve(plan, files=files, problems=tuple(problems))

    def _is_there(self, file: PlannedFile) -> bool:
        """Whether the file that has a planned name has the planned bytes, too."""
        size, sha256 = file.size, file.sha256
        if not file.source:
            size, sha256 = self.task.filesize, self.task.sha256
        if size is None or sha256 is None:
            return False
        tree, like = self._tree(file.root), PlacedFile(file.root, file.path, size, sha256)
        return tree.check(self.task.uid, like) and tree.holds(self.task.uid, like)

    @cached_property
    def outline(self) -> Plan:
        """What integration would do now: names from the content type, collisions from the trees. No file is read.

        Questions that are answered are left out of its problems.
        """
        plan = self._content.plan(self.task, _Surroundings(self.ports))
        problems = [p for p in plan.problems if p.severity != "hold" or not answered(p, self.task.annotations)]
        files: dict[PlannedFile, PlannedFile] = {}
        directories: dict[str, None] = {}
        for file in (*plan.files, *plan.artwork):
            files[file] = file
            tree = self.ports.trees.get(file.root)
            if tree is None:
                problems.append(Finding("no_tree", "reject", f"This server has no {file.root} directory."))
                continue
            try:
                directories.update(dict.fromkeys(f"{file.root}/{d}" for d in tree.missing_directories(file.path)))
                if tree.exists(file.path):
                    files[file] = attrs.evolve(file, replace=True)
            except StorageError as error:
                if error.code not in _FINAL_ERRORS:
                    raise
                problems.append(Finding(error.code, "reject", error.sentence))
        taken = [file for file, planned in files.items() if planned.replace]
        if taken and not answered(collision := _collision(taken), self.task.annotations):
            problems.append(collision)
            files = {file: file for file in files}
        return attrs.evolve(
            plan,
            files=tuple(files[file] for file in plan.files),
            artwork=tuple(files[file] for file in plan.artwork),
            directories=tuple(directories),
            problems=tuple(problems),
        )

    @cached_property
    def _plan_if_it_can_be(self) -> Plan | None:
        return self._if_it_can_be(lambda: self.plan)

    @cached_property
    def _outline_if_it_can_be(self) -> Plan | None:
        return self._if_it_can_be(lambda: self.outline)

    def _if_it_can_be(self, planned: Callable[[], Plan]) -> Plan | None:
        try:
            return planned()
        except ContentRejected as error:
            return Plan((), problems=(Finding(error.code, "reject", error.sentence),))
        # The work of the step meets it again, where it is counted, told and tried again.
        except UploadError as error:
            log.warning("upload %s cannot be planned now: %s", self.task.id, error.sentence)
            return None
        except Exception:
            log.exception("upload %s cannot be planned", self.task.id)
            return None

    def placed_in_library(self) -> bool:
        """Every planned file is in its tree, whole and with the verified hash. Slow."""
        if self.given_up is not None:
            self.failure = self.given_up
            self._take_back()
            return False
        return self._placement is not None

    @cached_property
    def _placement(self) -> tuple[PlacedFile, ...] | None:
        plan = self.task.plan
        if plan is None:
            _ = self.plan  # what went wrong at the beginning of the step goes wrong again, or was passing
            raise StorageError("The plan could not be made at first.", code="no_plan_yet")
        placed = []
        with self._placing():
            for problem in plan.problems:
                if problem.severity != "warn":
                    raise ContentRejected(problem.sentence, code=problem.code)
            if not plan.files:
                raise ContentRejected(_NOTHING_TO_PLACE, code="nothing_to_place")
            for file in plan.files:
                if not file.source:
                    with self._open() as source:
                        placed.append(self._place(file, source, file.sha256))
            made = [file for file in plan.files if file.source]
            if made:
                with self._producer(made[0]).produce(self.task, self._open, made) as sources:
                    placed += [self._place(file, source, file.sha256) for file, source in sources]
            if missing := {(f.root, f.path) for f in plan.files} - {(f.root, f.path) for f in placed}:
                raise ContentRejected(
                    f"{len(missing)} of {len(plan.files)} planned files were not made, {min(missing)[1]} among them.",
                    code="cannot_produce",
                )
            if same := [file.path for file in placed if file.replaced == file.sha256]:
                # Somebody was faster, with the same bytes; or only now it is known what they are.
                raise ContentRejected(
                    f"{_listed(same)} {'is' if len(same) == 1 else 'are'} there already, byte for byte, and not "
                    "replaced. Try again, and what is there is left out.",
                    code="already_there",
                )
        if self.failure is not None:
            return None
        # As planned, whatever order suited the producer.
        order = {(file.root, file.path): at for at, file in enumerate(plan.files)}
        return tuple(sorted(placed, key=lambda file: order[file.root, file.path]))

    def _producer(self, file: PlannedFile) -> Producer:
        content = self._content
        if not isinstance(content, Producer):
            raise ContentRejected(f"{content.name} cannot make the file {file.source}.", code="cannot_produce")
        return content

    def _place(self, file: PlannedFile, source: BinaryIO, sha256: str | None = None) -> PlacedFile:
        return self._tree(file.root).place(self.task.uid, file.path, source, sha256, replace=file.replace)

    @contextmanager
    def _placing(self) -> Iterator[None]:
        """What no second attempt mends becomes `failure`, and what was placed is taken back; the rest is raised."""
        try:
            yield
            return
        except (ContentRejected, DataLost) as error:
            self.failure = error
        except StorageError as error:
            if error.code not in _FINAL_ERRORS:
                raise
            self.failure = error
        self._take_back()

    def adopt_placement(self) -> None:
        """The files are ours; what is only needed to find them again after a crash goes."""
        assert self._placement is not None
        task = self.task
        assert task.plan is not None
        first = self._placement[0].path
        self.task = evolve(
            task,
            placed=self._placement,
            created_directories=task.plan.directories,
            videofile=first if task.contenttype == "video" else None,
            artworkfile=first if task.contenttype == "artwork" else None,
            step=None,
            wanted=Trigger.START_IMPORT if task.import_wanted else None,
            message=None,
            code=None,
        )
        self._settle_afterwards()

    def no_undo_pending(self) -> bool:
        """Nobody has asked to take the import back."""
        return self.task.wanted is not Trigger.UNDO

    def note_import(self) -> None:
        """The wish is fulfilled: the import has started."""
        self.task = evolve(self.task, wanted=None, import_wanted=False)

    def imported(self) -> bool:
        """The music database has the entry. Slow."""
        if self.given_up is not None:
            self.failure = self.given_up
            return False
        return self._import

    @cached_property
    def _import(self) -> bool:
        try:
            for file in self.task.placed:
                if not self._tree(file.root).exists(file.path):
                    raise ContentRejected(
                        f"{file.path} is not in the {file.root} directory any more. Undo, and integrate again.",
                        code="file_missing",
                    )
            self._content.import_(self.task, self.ports.library)
        except ContentRejected as error:
            self.failure = error
            return False
        return True

    def has_artwork_step(self) -> bool:
        """The content type makes artwork."""
        return self._content.has_artwork

    def adopt_import(self) -> None:
        """The entry is there."""
        self.task = evolve(self.task, step=None, message=None, code=None)

    def artwork_made(self) -> bool:
        """The artwork is in its tree and the music database knows it. Slow."""
        if self.given_up is not None:
            self.failure = self.given_up
            self._take_back()
            return False
        return self._artwork is not None

    @cached_property
    def _artwork(self) -> tuple[PlacedFile, ...] | None:
        placed: list[PlacedFile] = []
        with self._placing():
            made: Illustrated = self._content.illustrate(self.task, self._open)
            planned = {file.path: file for file in self.task.plan.artwork} if self.task.plan else {}
            try:
                for path, data in made.files.items():
                    placed.append(self._place(planned.get(path) or PlannedFile("artwork", path), io.BytesIO(data)))
            except Conflict as error:
                if error.code != "destination_exists" or not all(file.optional for file in planned.values()):
                    raise
                self._take_back()
                raise StorageError(
                    "Somebody was faster with a name. Another one is looked for.", code="name_taken"
                ) from error
            self._noticed = tuple(made.findings)
            if made.files:
                self.ports.library.illustrate(self.task.uid, made.directory, made.thumbnail, made.preview)
        return None if self.failure is not None else tuple(placed)

    def adopt_artwork(self) -> None:
        """The artwork is ours as well."""
        assert self._artwork is not None
        known = {(file.root, file.path) for file in self._artwork}
        placed = tuple(file for file in self.task.placed if (file.root, file.path) not in known)
        self.task = evolve(
            self.task,
            placed=(*placed, *self._artwork),
            findings=(*self.task.findings, *self._noticed),
            step=None,
            message=None,
            code=None,
        )
        self._settle_afterwards()

    def library_untouched(self) -> bool:
        """Something is on record as placed, and every file of it is as it was, or gone. Reads them all: slow."""
        known = bool(self.task.placed) or self.task.plan is not None
        return known and self._changed_file is None

    @cached_property
    def _changed_file(self) -> PlacedFile | None:
        return next((file for file in self.task.placed if not self._tree(file.root).check(self.task.uid, file)), None)

    def _library_untouched_refusal(self) -> Refused | None:
        file = self._changed_file
        if file is None:
            return Refused(
                "Nothing is on record about the files in the library, so nothing can be taken back. "
                "Remove them by hand if they are not wanted.",
                code="nothing_on_record",
            )
        return Refused(
            f"{file.path} in the {file.root} directory has changed since the import; undo would lose the change. "
            "Restore it, or remove it by hand.",
            code="changed_since",
        )

    def note_undo(self) -> None:
        """Undo is wanted; an import that was wanted is not any more. If it is under way already, it goes on."""
        task = self.task
        waiting = task.wanted is Trigger.UNDO and task.step is not None  # its message says why
        self.task = evolve(
            task,
            wanted=Trigger.UNDO,
            import_wanted=False,
            step=task.step if waiting else None,
            message=task.message if waiting else None,
            code=task.code if waiting else None,
        )

    def undone(self) -> bool:
        """Files, directories and entry are gone from library and music database. Slow.

        Before anything is taken, everything is looked at: only a file that changes in between makes it end half-way.
        """
        if self.given_up is not None:
            self.failure = self.given_up
            return False
        return self._undone

    @cached_property
    def _undone(self) -> bool:
        task, trees = self.task, self.ports.trees
        if not self.library_untouched():
            self.failure = self.refusal("library_untouched")
            return False
        self.ports.library.forget(task.uid)
        for root, tree in trees.items():
            try:
                files = [file for file in task.placed if file.root == root]
                tree.remove(task.uid, files, _directories(task.created_directories, root))
            except Conflict as error:  # changed between the check and now
                self.failure = Refused(error.sentence, code=error.code)
                return False
        return True

    def adopt_undo(self) -> None:
        """As before the integration; the annotations stay, but not the leave to replace: it was for that one time."""
        self.task = evolve(
            self.task, annotations=without_leave(self.task.annotations), plan=None, placed=(),
            created_directories=(), videofile=None, artworkfile=None, step=None, wanted=None, import_wanted=False,
            message=None, code=None,
        )  # fmt: skip
        self._settle_afterwards()

    # ── end ───────────────────────────────────────────────────────────────────────────────────────────────

    def deadline_passed(self) -> bool:
        """The upload has a deadline, it is over, and there is nothing left to do that would change that."""
        task = self.task
        return task.deadline is not None and self.now >= task.deadline and due(task) is None

    def clear_trees(self) -> None:
        """Before a deletion: take back what a step placed and nobody recorded, and let go of what was replaced.

        What steps before this one had hidden and cleared away may be back after a crash; a start leaves that alone
        for whoever still has something to do, and this is the last who has.
        """
        self._take_back()
        for tree in self.ports.trees.values():
            tree.discard(self.task.uid)
            tree.settle(self.task.uid)

    # ── helpers ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _content(self) -> ContentType:
        try:
            return self.ports.contents[self.task.contenttype]
        except KeyError:
            raise ContentRejected(
                f"This server cannot handle the content type {self.task.contenttype!r}.", code="unsupported_contenttype"
            ) from None

    def _tree(self, root: str) -> Tree:
        try:
            return self.ports.trees[root]
        except KeyError:
            raise StorageError(f"This server has no {root} directory.", code="no_tree") from None

    def _open(self) -> AbstractContextManager[BinaryIO]:
        return self.ports.bytes.open(self.task.key)

    def _hash(self, *names: str) -> Sequence[str]:
        digests = [hashlib.new(name, usedforsecurity=False) for name in names]
        size, block = 0, min(_BLOCK, (self.task.filesize or 0) + 1)  # a small file needs no room for a large one
        with self._open() as file:
            while data := file.read(block):
                size += len(data)
                for digest in digests:
                    digest.update(data)
        if size != self.task.filesize:
            raise DataLost(f"The file should have {self.task.filesize or 0:,} bytes, but {size:,} are on the disk.")
        return [digest.hexdigest() for digest in digests]

    def _take_back(self) -> None:
        task = self.task
        if task.plan is None:
            return
        pictures = {(file.root, file.path) for file in task.plan.artwork}
        if pictures and pictures.isdisjoint((file.root, file.path) for file in task.placed):
            self.ports.library.unillustrate(task.uid)
        recorded = {(file.root, file.path) for file in task.placed}
        for root, tree in self.ports.trees.items():
            paths = [
                f.path
                for f in (*task.plan.files, *task.plan.artwork)
                if f.root == root and (root, f.path) not in recorded and _reachable(tree, f.path)
            ]
            kept = any(file.root == root for file in task.placed)
            directories = [] if kept else _directories(task.plan.directories, root)
            directories = [d for d in directories if _reachable(tree, f"{d}/x")]
            tree.withdraw(task.uid, paths, directories)

    def _settle_afterwards(self) -> None:
        uid, trees = self.task.uid, self.ports.trees
        for tree in trees.values():
            self.afterwards.append(lambda tree=tree: tree.settle(uid))  # type: ignore[misc]  # mypy: lambda default


@frozen
class _Surroundings:
    """See `stagedoor.ports.Surroundings`."""

    ports: Ports

    @property
    def library(self) -> Library:
        return self.ports.library

    def exists(self, root: str, path: str) -> bool:
        return root in self.ports.trees and self.ports.trees[root].exists(path)

    def names(self, root: str, directory: str = "") -> Sequence[str]:
        return self.ports.trees[root].names(directory) if root in self.ports.trees else ()


_REPLACE: Final = "answers.destination_exists"
_NOTHING_TO_PLACE: Final = "There is nothing to put into the library."
PLANNING_STATES: Final = frozenset({State.PREPROCESSED, State.INTEGRATIONFAILED})
"""Where it can be seen what integration would do."""


def without_leave(annotations: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Without the leave to replace files that are in the way."""
    return {key: value for key, value in annotations.items() if key != _REPLACE}


def _collision(taken: Sequence[PlannedFile]) -> Finding:
    """One sentence for all files of the library that are in the way."""
    first, others = taken[0], len(taken) - 1
    what, old, gone = "It is", "old file is", "it is"
    if others:
        more = "So is another" if others == 1 else f"So are {others} more of the files"
        what, old, gone = f"{more}, and they are", "old files are", "they are"
    return Finding(
        "destination_exists",
        "reject",
        f"There is {first.path} in the {first.root} directory already. {what} never overwritten: change the "
        "annotations, or remove the upload; or annotate answers.destination_exists with “replace”, and the "
        f"{old} kept for undo until the upload is removed: then {gone} deleted.",
        options=("replace",),
    )


def _already_there(same: Sequence[PlannedFile]) -> Finding:
    """One sentence for all files that are left out, since the library has them."""
    left = "is left out: it is there already" if len(same) == 1 else "are left out: they are there already"
    return Finding(
        "already_there",
        "warn",
        f"{_listed([file.path for file in same])} {left}, byte for byte, and not this upload's to take back.",
    )


def _listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a sentence, the first ones of them."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _reachable(tree: Tree, path: str) -> bool:
    """Whether a path leads into the tree. Behind a link that is in the way, nothing is ours."""
    try:
        tree.exists(path)
    except StorageError as error:
        if error.code not in _FINAL_ERRORS:
            raise
        return False
    return True


def file_too_large(size: int, limit: int) -> TooLarge:
    """The refusal of a file that is larger than the server takes."""
    return TooLarge(f"The file has {size:,} bytes, this server takes up to {limit:,}.", code="file_too_large")


def _directories(names: Iterable[str], root: str) -> list[str]:
    return [name.partition("/")[2] for name in names if name.startswith(root + "/")]


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    parts = []
    while size and (data := file.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


_SLOW: Final[Mapping[Trigger, str]] = {
    Trigger.COMPLETE: "checksum_matches",
    Trigger.PREPROCESS: "content_accepted",
    Trigger.INTEGRATE: "placed_in_library",
    Trigger.IMPORT: "imported",
    Trigger.IMPORT_ARTWORK: "artwork_made",
    Trigger.UNDO: "undone",
}
"""The guard that does the work of a step."""

_REFUSALS: Final[Mapping[str, str]] = {
    "all_bytes_here": "Not all bytes are here yet. Send the missing chunks.",
    "attempts_left": "The step was tried too often. Look at the message, mend the cause, and retry.",
    "deadline_passed": "The upload has not expired.",
    "holds_step": "The step belongs to another worker, or is over.",
    "no_undo_pending": "The import is being taken back. Wait until that is done.",
    "step_is_due": "There is nothing of the kind to do now.",
}
"""Sentences of the guards that need no details."""


def _check_names() -> None:
    """The table and this class must fit together, or the module does not load."""
    for row in ROWS:
        for name in (*row.guards, *row.before):
            method = inspect.getattr_static(Session, name, None)
            if not inspect.isfunction(method):
                raise ConfigurationError(f"{row.id} names {name}, which Session does not have.")


_check_names()
