"""The model: a dictionary that says what must be, beside the real engine on any set of adapters.

`UploadsModel` is a Hypothesis `RuleBasedStateMachine`. Each rule does one thing to the real engine, possibly with
a crash at one of the storage calls on the way, and knows *exactly* what must be true afterwards: state, offset,
annotations, message code, library, catalogue. After a crash there are a few possibilities, and reality must be one
of them. The ten promises are invariants that are checked after every rule.

Use it on your own adapters::

    class MyWorld(World): ...

    class TestMyAdapters(UploadsModel.TestCase): ...       # UploadsModel.world = MyWorld in a subclass

Rows of the life cycle that were taken are counted in `UploadsModel.rows_taken`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self

import attrs
from attrs import define, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ..adapters.inprocess import InlineBus
from ..engine import Uploads
from ..errors import DataLost, OffsetMismatch, Refused, StorageError, TaskNotFound, WrongState
from ..lifecycle import DEADLINE_STATES, Row, State, Trigger, row_taken
from ..notices import Notice
from ..tasks import Offer, UploadTask
from .disk import Crash
from .worlds import SETTINGS, World

__all__ = ["Expected", "UploadsModel"]

S = State
_IDS = ("one", "two", "three")
_NAMES = ("Alpha", "Beta")
_SCRIPTS = ("fine", "fine", "bad", "ask", "noart", "noimport")
_ATTEMPTS = SETTINGS.attempts


@define
class Expected:
    """What must be true of one upload."""

    uid: str
    script: str
    content: bytes
    sha1: str
    contenttype: str = "video"
    state: State = S.WAITFORCHUNK
    offset: int = 0
    hashed: bool | None = True
    """Whether the bytes were hashed as they came; ``None``: a fault may have ended that."""
    annotations: dict[str, object] = field(factory=dict)
    wanted: Trigger | None = None
    import_wanted: bool = False
    attempt: int = 0
    attempted: Trigger | None = None
    plan: tuple[str, str] | str | None = None
    """Artist and name, or the code of the plan's problem."""
    placed: frozenset[tuple[str, str]] = frozenset()
    """Root and path of what is on record in the library."""
    loose: frozenset[tuple[str, str]] = frozenset()
    """What a crashed step may have left there, off the record."""
    taken: frozenset[tuple[str, str]] = frozenset()
    """What an undo that was interrupted has taken already."""
    code: str | None = None

    @property
    def question(self) -> bool:
        return self.script == "ask" and "answers.which" not in self.annotations

    def due(self) -> Trigger | None:
        if self.state is S.WAITFORCHUNK:
            return Trigger.COMPLETE if self.offset == len(self.content) else None
        fixed = {
            S.UPLOADCOMPLETE: Trigger.PREPROCESS,
            S.STARTIMPORT: Trigger.IMPORT,
            S.IMPORTARTWORK: Trigger.IMPORT_ARTWORK,
            S.REMOVE: Trigger.REMOVE,
        }
        return fixed.get(self.state, self.wanted)


class _Doing:
    """Runs one operation; a crash on the way ends the process and starts it again."""

    def __init__(self, model: UploadsModel, call: int) -> None:
        self.model, self.call = model, abs(call)
        self.error = StorageError("The disk failed, said the test.") if call < 0 else None
        self.crashed = self.failed = False

    def __enter__(self) -> Self:
        self.model.where.arm(self.call, self.error)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> bool:
        self.model.where.arm(0)
        if kind is not None and issubclass(kind, Crash):
            self.crashed = True
            self.model.restart(clean=False)
            return True
        if self.error is not None and (kind is None or issubclass(kind, StorageError | DataLost)):
            self.failed = self.model.dirty = True
            return True
        return False

    @property
    def disturbed(self) -> bool:
        """Something went wrong on the way: more than one outcome is right."""
        return self.crashed or self.failed


crash_calls = st.one_of(st.just(0), st.integers(1, 6), st.integers(1, 14))
"""0: all is well; n: a crash at storage call n."""
fault_calls = st.one_of(crash_calls, st.integers(-14, -1))
"""As above; -n: storage call n fails."""
chunk_calls = st.one_of(st.integers(1, 6), st.integers(-6, 6))
"""As above; a chunk makes few calls."""
ids = st.sampled_from(_IDS)


class UploadsModel(RuleBasedStateMachine):
    """See the module. Set ``world`` in a subclass."""

    world: ClassVar[Callable[[], World]]
    rows_taken: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.expected: dict[str, Expected] = {}
        self.library: dict[tuple[str, str], bytes] = {}
        self.entries: dict[str, str] = {}
        self.heard: dict[str, int] = {}
        self.offsets: dict[str, int] = {}
        self.dirty = False
        """A cleaning-up failed: the next start does it."""
        self.where = type(self).world()
        self.uploads: Uploads

    @initialize()
    def start(self) -> None:
        self._open()

    def teardown(self) -> None:
        if hasattr(self, "uploads"):
            self.uploads.close()
        self.where.destroy()

    # ── the process ───────────────────────────────────────────────────────────────────────────────────────

    def _open(self) -> None:
        bus = InlineBus()
        self.uploads = self.where.open(bus=bus, clock=lambda: self.now, trace=self._trace)
        bus.subscribe(self._hear)

    def restart(self, *, clean: bool) -> None:
        self.dirty = False
        if clean:
            self.uploads.close()
        else:
            self.where.crashed()
        self._open()
        for model in self.expected.values():
            model.hashed = False

    def _trace(self, row: Row, task: UploadTask) -> None:
        type(self).rows_taken[row.id] += 1

    def _hear(self, notice: Notice) -> None:
        if notice.task is None:
            return
        task = notice.task
        assert task.revision >= self.heard.get(task.uid, 0), "notices of an upload arrive out of order"
        self.heard[task.uid] = task.revision
        if task.state is S.WAITFORCHUNK:
            assert len(self.where.stored(task) or b"") >= task.offset, "told before it was stored"

    # ── rules ─────────────────────────────────────────────────────────────────────────────────────────────

    @rule(
        uploadid=ids, script=st.sampled_from(_SCRIPTS), size=st.integers(8, 40), right=st.integers(0, 5),
        kind=st.sampled_from(["video", "video", "sound"]), call=crash_calls,
    )  # fmt: skip
    def initiate(self, uploadid: str, script: str, size: int, right: int, kind: str, call: int) -> None:
        content = (script + "-" * size).encode()
        sha1 = hashlib.sha1(content if right else b"other").hexdigest()
        before = self.expected.get(uploadid)
        offer = Offer(uploadid, filename="clip.mp4", contenttype=kind, filesize=len(content), sha1=sha1)
        with _Doing(self, call) as doing:
            if before is None:
                self.uploads.initiate(offer)
            elif (before.content, before.sha1, before.contenttype) != (content, sha1, kind):
                same_size = len(before.content) == len(content)
                if not (same_size and before.sha1 == sha1 and before.contenttype == kind):
                    self._refused(lambda: self.uploads.initiate(offer), "duplicate")
                    return
                self.uploads.initiate(offer) if before.state is not S.REMOVE else None
            elif before.state is S.REMOVE:
                self._refused(lambda: self.uploads.initiate(offer), "removing")
                return
            else:
                self.uploads.initiate(offer)
        stored = self._stored(uploadid)
        if before is None:
            if stored is None:
                assert doing.crashed, "an upload that was accepted is not there"
                return
            self.expected[uploadid] = Expected(stored.uid, script, content, sha1, kind, hashed=not doing.crashed)
        elif before.state is S.UPLOADFAILED:
            self._became(uploadid, doing, before, self._started_over(before))

    @rule(uploadid=ids, script=st.sampled_from(_SCRIPTS), kind=st.sampled_from(["video", "sound"]), order=st.booleans())
    def declare_late(self, uploadid: str, script: str, kind: str, order: bool) -> None:
        """An upload whose length and checksum come after its bytes, or before."""
        if uploadid in self.expected:
            self._refused(lambda: self.uploads.declare(uploadid, filesize=1), *("declared_already", "wrong_state"))
            return
        content = (script + "+" * 12).encode()
        sha1 = hashlib.sha1(content).hexdigest()
        self.uploads.initiate(Offer(uploadid, filename="clip.mp4", contenttype=kind))
        if order:
            self.uploads.declare(uploadid, filesize=len(content))
            self.uploads.declare(uploadid, sha1=sha1)
        self.uploads.receive(uploadid, offset=0, data=content[:5])
        if not order:
            self._refused(lambda: self.uploads.declare(uploadid, filesize=3), "length_too_small")
            self.uploads.declare(uploadid, sha1=sha1.upper())
        task = self.uploads.receive(uploadid, offset=5, data=content[5:])
        if not order:
            task = self.uploads.declare(uploadid, filesize=len(content))
        self.expected[uploadid] = self._completed(Expected(task.uid, script, content, sha1, kind, offset=len(content)))

    @rule(
        uploadid=ids,
        kind=st.sampled_from(["next", "next", "next", "rest", "replay", "gap", "beyond", "empty", "other", "huge"]),
        length=st.integers(1, 30),
        call=fault_calls,
    )
    def chunk(self, uploadid: str, kind: str, length: int, call: int) -> None:
        model = self.expected.get(uploadid)
        if model is None:
            self._unknown(lambda: self.uploads.receive(uploadid, offset=0, data=b"x"))
            return
        offset, content = model.offset, model.content
        data = content[offset : offset + (len(content) if kind == "rest" else length)]
        if kind == "replay":
            offset = max(0, offset - length)
            data = content[offset : min(model.offset, offset + max(1, length // 2))]
        elif kind == "gap":
            offset += 1
        elif kind == "beyond":
            data = content[offset:] + b"more"
        elif kind == "other":
            offset = max(0, offset - length)
            data = b"?" * (model.offset - offset)
        elif kind == "huge":
            data = b"x" * 65
        elif kind == "empty":
            data = b""
        before = attrs.evolve(model)

        def send() -> None:
            self.uploads.receive(uploadid, offset=offset, data=data)

        if model.state is not S.WAITFORCHUNK:
            self._refused(send, "wrong_state")
            return
        if not data:
            self._refused(send, "empty_chunk")
            return
        if kind == "huge":
            self._refused(send, "chunk_too_large")
            return
        if kind in ("gap", "other") and offset != model.offset:
            try:
                send()
            except OffsetMismatch as error:
                assert error.expected == model.offset
            else:
                raise AssertionError("a chunk at a wrong offset was accepted")
            return
        if kind == "beyond":
            self._refused(send, "beyond_the_end")
            return
        with _Doing(self, call) as doing:
            send()
        after = attrs.evolve(before, offset=max(before.offset, offset + len(data)))
        unhashed = after
        if after.offset == len(content) and before.offset < len(content) and before.hashed is not False:
            after = self._completed(after)
        if doing.failed:
            stored = self._stored(uploadid)
            if stored is not None and stored.state is S.WAITFORCHUNK and stored.offset == len(content):
                after = attrs.evolve(before, offset=len(content))  # stored, but not completed: the worker will
            before.hashed = after.hashed = None
        elif before.hashed is None and self._stored_state(uploadid) is S.WAITFORCHUNK:
            after = unhashed
        failed = attrs.evolve(before, state=S.UPLOADFAILED, code="storage_error")
        self._became(uploadid, doing, before, after, *([failed] if doing.failed else []))

    @rule(uploadid=ids, key=st.sampled_from(["artistname", "name", "answers.which", "note"]),
          value=st.sampled_from([*_NAMES, "../evil", 7]), call=crash_calls)  # fmt: skip
    def annotate(self, uploadid: str, key: str, value: object, call: int) -> None:
        model = self.expected.get(uploadid)
        if model is None:
            self._unknown(lambda: self.uploads.annotate(uploadid, {key: "x"}))
            return
        if model.state is S.REMOVE:
            self._refused(lambda: self.uploads.annotate(uploadid, {key: "x"}), "wrong_state")
            return
        before = attrs.evolve(model)
        with _Doing(self, call) as doing:
            self.uploads.annotate(uploadid, {key: value})  # type: ignore[dict-item]  # JSON by construction
        self._became(uploadid, doing, before, attrs.evolve(before, annotations={**before.annotations, key: value}))

    @precondition(lambda self: any(m.state is S.WAITFORCHUNK for m in self.expected.values()))
    @rule(data=st.data(), length=st.integers(1, 4), times=st.integers(1, 5), call=chunk_calls)
    def next_chunks(self, data: st.DataObject, length: int, times: int, call: int) -> None:
        """The chunks that were asked for, one after another; something happens to the last."""
        waiting = sorted(i for i, m in self.expected.items() if m.state is S.WAITFORCHUNK)
        uploadid = data.draw(st.sampled_from(waiting))
        for number in range(times):
            model = self.expected[uploadid]
            if model.state is S.WAITFORCHUNK and model.offset < len(model.content):
                self.chunk(uploadid, "next", length, call if number == times - 1 else 0)

    @precondition(lambda self: any(m.state is S.WAITFORCHUNK for m in self.expected.values()))
    @rule(
        data=st.data(),
        kind=st.sampled_from(["gap", "beyond", "other", "huge", "empty"]),
        length=st.integers(1, 30),
    )
    def wrong_chunk(self, data: st.DataObject, kind: str, length: int) -> None:
        """A chunk that nobody should accept, for an upload that expects one."""
        waiting = sorted(i for i, m in self.expected.items() if m.state is S.WAITFORCHUNK)
        self.chunk(data.draw(st.sampled_from(waiting)), kind, length, 0)

    @precondition(lambda self: any(m.state is S.WAITFORCHUNK and m.offset for m in self.expected.values()))
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        """Bytes that are stored already come again, because their answer was lost: success, and nothing moves."""
        waiting = sorted(i for i, m in self.expected.items() if m.state is S.WAITFORCHUNK and m.offset)
        uploadid = data.draw(st.sampled_from(waiting))
        model = self.expected[uploadid]
        start = data.draw(st.integers(0, model.offset - 1))
        end = data.draw(st.integers(start + 1, model.offset))
        task = self.uploads.receive(uploadid, offset=start, data=model.content[start:end])
        difference = self._difference(task, model)
        assert difference is None, f"{uploadid}: after a duplicate: {difference}"

    @rule(uploadid=ids)
    def annotate_too_much(self, uploadid: str) -> None:
        if uploadid in self.expected and self.expected[uploadid].state is not S.REMOVE:
            self._refused(lambda: self.uploads.annotate(uploadid, note="x" * 70_000), "annotations_too_large")

    @rule(uploadid=ids, with_import=st.booleans(), call=crash_calls)
    def request(self, uploadid: str, with_import: bool, call: int) -> None:
        def ask() -> None:
            self.uploads.request(uploadid, trigger_import=with_import)

        model = self.expected.get(uploadid)
        if model is None:
            self._unknown(ask)
        elif model.state is not S.PREPROCESSED:
            self._refused(ask, "wrong_state")
        elif model.question:
            self._refused(ask, "which")
        else:
            before = attrs.evolve(model)
            with _Doing(self, call) as doing:
                ask()
            after = attrs.evolve(
                before,
                wanted=Trigger.INTEGRATE,
                import_wanted=before.import_wanted or with_import,
                code=before.code if before.attempt else None,
            )
            self._became(uploadid, doing, before, after)

    @rule(uploadid=ids, call=crash_calls)
    def start_import(self, uploadid: str, call: int) -> None:
        model = self.expected.get(uploadid)
        if model is None:
            self._unknown(lambda: self.uploads.start_import(uploadid))
        elif model.state is not S.INTEGRATED:
            self._refused(lambda: self.uploads.start_import(uploadid), "wrong_state")
        elif model.wanted is Trigger.UNDO:
            self._refused(lambda: self.uploads.start_import(uploadid), "no_undo_pending")
        else:
            before = attrs.evolve(model)
            with _Doing(self, call) as doing:
                self.uploads.start_import(uploadid)
            self._became(
                uploadid, doing, before, attrs.evolve(before, state=S.STARTIMPORT, wanted=None, import_wanted=False)
            )

    @rule(uploadid=ids, call=crash_calls)
    def retry(self, uploadid: str, call: int) -> None:
        model = self.expected.get(uploadid)
        back = {
            S.UPLOADFAILED: S.WAITFORCHUNK,
            S.INVALIDCONTENT: S.UPLOADCOMPLETE,
            S.INTEGRATIONFAILED: S.PREPROCESSED,
            S.IMPORTFAILED: S.STARTIMPORT,
        }
        if model is None:
            self._unknown(lambda: self.uploads.retry(uploadid))
        elif model.state not in back:
            self._refused(lambda: self.uploads.retry(uploadid), "wrong_state")
        elif model.wanted is Trigger.UNDO:
            self._refused(lambda: self.uploads.retry(uploadid), "no_undo_pending")
        else:
            before = attrs.evolve(model)
            if model.state is S.UPLOADFAILED:
                after = self._started_over(before)
            else:
                plan = before.plan if model.state is S.IMPORTFAILED else None
                after = attrs.evolve(before, state=back[model.state], code=None, attempt=0, attempted=None, plan=plan)
            with _Doing(self, call) as doing:
                self.uploads.retry(uploadid)
            self._became(uploadid, doing, before, after)

    @rule(uploadid=ids, call=crash_calls)
    def remove(self, uploadid: str, call: int) -> None:
        model = self.expected.get(uploadid)
        if model is None:
            self._unknown(lambda: self.uploads.remove(uploadid))
        elif model.state is S.REMOVE:
            self._refused(lambda: self.uploads.remove(uploadid), "wrong_state")
        else:
            before = attrs.evolve(model)
            with _Doing(self, call) as doing:
                self.uploads.remove(uploadid)
            self._became(uploadid, doing, before, self._removed(before))

    @rule(uploadid=ids, call=crash_calls)
    def undo(self, uploadid: str, call: int) -> None:
        model = self.expected.get(uploadid)
        if model is None:
            self._unknown(lambda: self.uploads.undo(uploadid))
        elif model.state not in (S.INTEGRATED, S.IMPORTFAILED, S.IMPORTCOMPLETE):
            self._refused(lambda: self.uploads.undo(uploadid), "wrong_state")
        elif self._tampered(model):
            self._refused(lambda: self.uploads.undo(uploadid), "changed_since")
        else:
            before = attrs.evolve(model)
            wish = attrs.evolve(before, wanted=Trigger.UNDO, import_wanted=False)
            if before.wanted is not Trigger.UNDO or before.attempted is not Trigger.UNDO:  # else it goes on
                wish = attrs.evolve(wish, attempt=0, attempted=None, code=None)
            gone = wish.attempt >= _ATTEMPTS
            begun = wish if gone else attrs.evolve(wish, attempt=wish.attempt + 1, attempted=Trigger.UNDO)
            after = self._stepped(begun, Trigger.UNDO, gone)
            with _Doing(self, call) as doing:
                try:
                    self.uploads.undo(uploadid)
                except Refused:
                    assert gone, "an undo was refused"
            self._became(uploadid, doing, before, after, wish, begun, loose_library=True)

    @rule(uploadid=ids, call=fault_calls)
    def perform(self, uploadid: str, call: int) -> None:
        """The worker's next step for one upload."""
        model = self.expected.get(uploadid)
        if model is None or model.due() is None:
            assert not self.uploads.perform(uploadid)
            return
        before = attrs.evolve(model)
        trigger = model.due()
        assert trigger is not None
        if trigger is Trigger.REMOVE:
            with _Doing(self, call) as doing:
                self.uploads.perform(uploadid)
            if self._stored(uploadid) is None:
                self._forget(uploadid)
            else:
                assert doing.disturbed, "a removed upload is still there"
                self._adopt_library(before, before)
            return
        if trigger is Trigger.START_IMPORT:
            with _Doing(self, call) as doing:
                self.uploads.perform(uploadid)
            after = attrs.evolve(before, state=S.STARTIMPORT, wanted=None, import_wanted=False)
            self._became(uploadid, doing, before, after)
            return
        attempt = before.attempt + 1 if before.attempted is trigger else 1
        gone = attempt > _ATTEMPTS
        begun = attrs.evolve(before, attempt=attempt, attempted=trigger)
        if gone:
            begun = attrs.evolve(before)
        elif trigger is Trigger.INTEGRATE and (attempt == 1 or before.plan is None):
            begun.plan = self._plan(before)
        after = self._stepped(begun, trigger, gone)
        with _Doing(self, call) as doing:
            self.uploads.perform(uploadid)
        released = attrs.evolve(begun, code="storage_error")
        if trigger is Trigger.UNDO and gone:
            released = attrs.evolve(after, code="storage_error")
        unplanned = attrs.evolve(begun, code="no_plan_yet")
        self._became(uploadid, doing, before, after, begun, released, unplanned, loose_library=True)

    @rule(
        uploadid=ids,
        script=st.sampled_from(_SCRIPTS),
        right=st.integers(0, 5),
        steps=st.integers(1, 14),
        call=crash_calls,
    )
    def carry_on(self, uploadid: str, script: str, right: int, steps: int, call: int) -> None:
        """What everybody hopes for, some steps of it; the last one with a crash."""
        for step in range(steps):
            last = call if step == steps - 1 else 0
            model = self.expected.get(uploadid)
            if model is None:
                self.initiate(uploadid, script, 20, right, "video", last)
            elif model.due() is not None:
                self.perform(uploadid, last)
            elif model.state is S.WAITFORCHUNK:
                self.chunk(uploadid, "rest", 1, last)
            elif model.state is S.PREPROCESSED:
                missing = [k for k in ("artistname", "name") if model.annotations.get(k) not in _NAMES]
                if missing:
                    self.annotate(uploadid, missing[0], _NAMES[_IDS.index(uploadid) % 2], last)
                elif model.question:
                    self.annotate(uploadid, "answers.which", "this", last)
                else:
                    self.request(uploadid, bool(right % 2), last)
            elif model.state is S.INTEGRATED:
                self.start_import(uploadid, last)
            elif model.state is S.IMPORTCOMPLETE:
                self.undo(uploadid, last)
            else:
                self.retry(uploadid, last)

    @rule(
        uploadid=ids, script=st.sampled_from(_SCRIPTS), right=st.integers(0, 9), steps=st.integers(7, 13),
        call=fault_calls,
    )  # fmt: skip
    def carry_far(self, uploadid: str, script: str, right: int, steps: int, call: int) -> None:
        """Most of a life at once, because chance alone seldom gets there; at the end a fault in the next step."""
        self.carry_on(uploadid, script, right, steps, 0)
        if uploadid in self.expected:
            self.perform(uploadid, call)

    @precondition(lambda self: any(m.placed and m.state is not S.REMOVE for m in self.expected.values()))
    @rule(data=st.data(), call=fault_calls)
    def undo_in_steps(self, data: st.DataObject, call: int) -> None:
        """An undo that is interrupted after the wish is on record, and is then the worker's."""
        states = (S.INTEGRATED, S.IMPORTFAILED, S.IMPORTCOMPLETE)
        ready = sorted(i for i, m in self.expected.items() if m.state in states and not self._tampered(m))
        if ready:
            uploadid = data.draw(st.sampled_from(ready))
            self.undo(uploadid, data.draw(st.integers(3, 14)))
            if self.expected[uploadid].wanted is Trigger.UNDO:
                self.perform(uploadid, call)

    @precondition(lambda self: any(m.state is S.WAITFORCHUNK for m in self.expected.values()))
    @rule(data=st.data(), call=fault_calls)
    def restart_in_an_upload(self, data: st.DataObject, call: int) -> None:
        """The bytes that came before a restart are hashed by the worker, at the end."""
        waiting = sorted(i for i, m in self.expected.items() if m.state is S.WAITFORCHUNK)
        uploadid = data.draw(st.sampled_from(waiting))
        if self.expected[uploadid].offset == 0:
            self.chunk(uploadid, "next", 3, 0)
        self.restart_cleanly()
        self.chunk(uploadid, "rest", 1, 0)
        self.perform(uploadid, call)

    @rule()
    def restart_cleanly(self) -> None:
        self.restart(clean=True)
        for model in self.expected.values():
            self._adopt_library(model, model)

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.now += hours * 3600.0

    @rule()
    def everything_expires(self) -> None:
        self.now += 100 * 86_400.0
        self.uploads.sweep()
        for uploadid, model in list(self.expected.items()):
            if model.state in DEADLINE_STATES and model.due() is None:
                self.expected[uploadid] = self._removed(model)

    @precondition(lambda self: any(m.state is S.WAITFORCHUNK and m.offset for m in self.expected.values()))
    @rule(data=st.data())
    def lose_data(self, data: st.DataObject) -> None:
        """The disk forgets an unfinished upload; the next start says so."""
        waiting = sorted(i for i, m in self.expected.items() if m.state is S.WAITFORCHUNK and m.offset)
        uploadid = data.draw(st.sampled_from(waiting))
        model = self.expected[uploadid]
        self.uploads.close()
        self.where.lose(self.uploads.get(uploadid))
        self._open()
        for other in self.expected.values():
            other.hashed = False
            self._adopt_library(other, other)
        task = self.uploads.get(uploadid)
        assert (task.state, task.code) == (S.UPLOADFAILED, "data_lost")
        self.expected[uploadid] = attrs.evolve(
            model, state=S.UPLOADFAILED, code="data_lost", offset=task.offset, attempt=0, attempted=None
        )

    @precondition(lambda self: any(m.placed for m in self.expected.values()))
    @rule(data=st.data())
    def tamper(self, data: st.DataObject) -> None:
        """Somebody edits a file of the library."""
        model = data.draw(st.sampled_from([m for m in self.expected.values() if m.placed]))
        root, path = data.draw(st.sampled_from(sorted(model.placed)))
        if (root, path) in self.library:
            self.library[root, path] += b"edited"
            self.where.tamper(root, path, self.library[root, path])

    # ── what must come of it ──────────────────────────────────────────────────────────────────────────────

    def _started_over(self, before: Expected) -> Expected:
        return attrs.evolve(before, state=S.WAITFORCHUNK, offset=0, hashed=True, code=None, attempt=0, attempted=None)

    def _completed(self, model: Expected) -> Expected:
        if hashlib.sha1(model.content).hexdigest() == model.sha1:
            return attrs.evolve(model, state=S.UPLOADCOMPLETE, code=None, attempt=0, attempted=None)
        return attrs.evolve(model, state=S.UPLOADFAILED, code="checksum_mismatch", attempt=0, attempted=None)

    def _removed(self, model: Expected) -> Expected:
        return attrs.evolve(model, state=S.REMOVE, wanted=None, import_wanted=False, attempt=0, attempted=None)

    def _plan(self, model: Expected) -> tuple[str, str] | str:
        names = []
        for key in ("artistname", "name"):
            value = model.annotations.get(key)
            if not isinstance(value, str):
                return "annotation_missing"
            if not value.isalnum():
                return "unusable_name"
            names.append(value)
        artist, name = names
        targets = _targets(artist, name)[: 2 if model.contenttype == "video" else 1]
        if any(self._taken(root, path, model) for root, path in targets):
            return "destination_exists"
        return artist, name

    def _taken(self, root: str, path: str, model: Expected) -> bool:
        return (root, path) in self.library and (root, path) not in model.loose

    def _stepped(self, begun: Expected, trigger: Trigger, gone: bool) -> Expected:
        """After a whole step; the library of the model is changed by `_settle`."""
        done = attrs.evolve(begun, attempt=0, attempted=None)
        failed = {
            Trigger.COMPLETE: S.UPLOADFAILED,
            Trigger.PREPROCESS: S.INVALIDCONTENT,
            Trigger.INTEGRATE: S.INTEGRATIONFAILED,
            Trigger.IMPORT: S.IMPORTFAILED,
            Trigger.IMPORT_ARTWORK: S.IMPORTFAILED,
        }
        if gone:
            if trigger is Trigger.UNDO:
                return attrs.evolve(done, wanted=None, code="gave_up", placed=self._held(begun), taken=frozenset())
            return attrs.evolve(done, state=failed[trigger], code="gave_up", wanted=None, import_wanted=False)
        if trigger is Trigger.COMPLETE:
            return self._completed(done)
        if trigger is Trigger.UNDO:
            if self._tampered(begun):
                return attrs.evolve(
                    done, wanted=None, code="changed_since", placed=self._held(begun), taken=frozenset()
                )
            return self._undone(begun)
        code: str | None = None
        if trigger is Trigger.PREPROCESS:
            code = "bad" if begun.script == "bad" else None
        elif trigger is Trigger.INTEGRATE:
            code = begun.plan if isinstance(begun.plan, str) else None
            if isinstance(begun.plan, tuple) and any(self._taken(r, p, begun) for r, p in _targets(*begun.plan)[:1]):
                code = "destination_exists"
        elif trigger is Trigger.IMPORT:
            code = "unwanted" if begun.script == "noimport" else None
            if any(key not in self.library for key in begun.placed):
                code = "file_missing"
            elif code is None and not begun.placed:
                code = "no_plan"
        else:
            code = "no_picture" if begun.script == "noart" else None
            assert isinstance(begun.plan, tuple)
            if code is None and self._taken(*_targets(*begun.plan)[1], begun):
                code = "destination_exists"
        if code is not None:
            return attrs.evolve(done, state=failed[trigger], code=code, wanted=None, import_wanted=False)
        done.code = None
        if trigger is Trigger.PREPROCESS:
            done.state = S.PREPROCESSED
        elif trigger is Trigger.INTEGRATE:
            assert isinstance(begun.plan, tuple)
            done.state = S.INTEGRATED
            done.wanted = Trigger.START_IMPORT if begun.import_wanted else None
            done.placed = frozenset(_targets(*begun.plan)[:1])
        elif trigger is Trigger.IMPORT:
            done.state = S.IMPORTARTWORK if begun.contenttype == "video" else S.IMPORTCOMPLETE
        else:
            assert isinstance(begun.plan, tuple)
            done.state = S.IMPORTCOMPLETE
            done.placed = frozenset(_targets(*begun.plan))
        return done

    def _held(self, model: Expected) -> frozenset[tuple[str, str]]:
        return frozenset(key for key in model.placed if key in self.library and key not in model.taken)

    def _undone(self, model: Expected) -> Expected:
        return attrs.evolve(
            model, state=S.PREPROCESSED, wanted=None, import_wanted=False, plan=None, placed=frozenset(),
            taken=frozenset(), attempt=0, attempted=None, code=None,
        )  # fmt: skip

    def _tampered(self, model: Expected) -> bool:
        originals = {("music", p): model.content for r, p in model.placed if r == "music"}
        originals |= {("artwork", p): b"JPEG" + model.content[:16] for r, p in model.placed if r == "artwork"}
        held = self._held(model)
        return any(key in held and self.library[key] != data for key, data in originals.items())

    # ── comparing ─────────────────────────────────────────────────────────────────────────────────────────

    def _became(
        self,
        uploadid: str,
        doing: _Doing,
        before: Expected,
        after: Expected,
        *between: Expected,
        loose_library: bool = False,
    ) -> None:
        """Reality must be ``after``; after a crash it may also be ``before``, or one of the states between."""
        candidates = [after, *between, before] if doing.disturbed else [after]
        task = self._stored(uploadid)
        differences = []
        for candidate in candidates:
            difference = self._difference(task, candidate)
            if difference is None:
                if doing.crashed:
                    candidate.hashed = False
                if doing.disturbed and task is not None and task.plan is None:
                    candidate.plan = None  # planning itself was disturbed
                self.expected[uploadid] = candidate
                if loose_library and doing.disturbed:
                    self._adopt_library(candidate, before)
                elif loose_library:
                    self._settle(before, candidate)
                return
            differences.append(difference)
        how = "a crash" if doing.crashed else "a fault" if doing.failed else "the rule"
        raise AssertionError(f"{uploadid}: after {how}: {differences}")

    def _difference(self, task: UploadTask | None, model: Expected) -> str | None:
        if task is None:
            return "it is gone"
        pairs = {
            "uid": (task.uid, model.uid),
            "state": (task.state, model.state),
            "offset": (task.offset, model.offset),
            "annotations": (dict(task.annotations), model.annotations),
            "wanted": (task.wanted, model.wanted),
            "import_wanted": (task.import_wanted, model.import_wanted),
            "attempt": (task.step.attempt if task.step else 0, model.attempt),
            "placed": (frozenset((f.root, f.path) for f in task.placed), model.placed),
        }
        if model.code != "gave_up":
            pairs["code"] = (task.code, model.code)
        wrong = [f"{name} is {found!r}, not {wanted!r}" for name, (found, wanted) in pairs.items() if found != wanted]
        return "; ".join(wrong) or None

    def _settle(self, before: Expected, after: Expected) -> None:
        """Carry a finished step over to the model's library and catalogue."""
        for key in (before.placed | before.loose) - after.placed - before.taken:
            self.library.pop(key, None)
        for root, path in after.placed - before.placed:
            self.library[root, path] = after.content if root == "music" else b"JPEG" + after.content[:16]
        after.loose = frozenset()
        if before.state in (S.INTEGRATED, S.IMPORTFAILED, S.IMPORTCOMPLETE) and after.state is S.PREPROCESSED:
            self.entries.pop(after.uid, None)
        if before.state is S.STARTIMPORT and after.state in (S.IMPORTARTWORK, S.IMPORTCOMPLETE):
            self.entries[after.uid] = next(path for root, path in after.placed if root == "music")

    def _adopt_library(self, model: Expected, before: Expected) -> None:
        """After a crash in a step, what the step places or takes away may be there or not: look."""
        targets = set(_targets(*model.plan)) if isinstance(model.plan, tuple) else set()
        targets |= before.placed | before.loose
        loose = set()
        real = {(root, path) for root in ("music", "artwork") for path in self._visible(root)}
        for key in targets | model.placed:
            if key in real and key not in self.library:
                loose.add(key)
                root, path = key
                data = model.content if root == "music" else b"JPEG" + model.content[:16]
                assert self.where.tree(root)[path] == data, "a file is visible and not whole"
                self.library[key] = data
            elif key not in real:
                self.library.pop(key, None)
                if key in model.placed:
                    model.taken |= {key}
        model.loose = (model.loose & real) | (loose - model.placed)
        entries = self.where.entries()
        if model.uid in entries and model.uid not in self.entries:
            self.entries[model.uid] = entries[model.uid]
        elif model.uid not in entries and (model.wanted is Trigger.UNDO or model.state is S.PREPROCESSED):
            self.entries.pop(model.uid, None)

    def _forget(self, uploadid: str) -> None:
        model = self.expected.pop(uploadid)
        for key in model.loose:
            self.library.pop(key, None)

    def _stored(self, uploadid: str) -> UploadTask | None:
        try:
            return self.uploads.get(uploadid)
        except TaskNotFound:
            return None

    def _stored_state(self, uploadid: str) -> State | None:
        task = self._stored(uploadid)
        return None if task is None else task.state

    def _visible(self, root: str) -> dict[str, bytes]:
        return {p: d for p, d in self.where.tree(root).items() if not p.startswith(".stagedoor/")}

    def _refused(self, action: Callable[[], object], *codes: str) -> None:
        before = self.where.documents()
        try:
            action()
        except Refused as refused:
            assert refused.code in codes, f"refused with {refused.code}, not {codes}: {refused}"
            assert isinstance(refused, WrongState) or refused.code != "wrong_state"
        else:
            raise AssertionError(f"accepted, although {codes}")
        assert self.where.documents() == before, "a refused request changed a document"

    def _unknown(self, action: Callable[[], object]) -> None:
        try:
            action()
        except TaskNotFound:
            return
        raise AssertionError("an unknown id was accepted")

    # ── the ten promises ──────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def nothing_but_what_the_model_says(self) -> None:
        if not hasattr(self, "uploads"):
            return
        tasks = {task.id: task for task in self.uploads.tasks()}
        assert set(tasks) == set(self.expected)
        for uploadid, model in self.expected.items():
            task = tasks[uploadid]
            difference = self._difference(task, model)
            assert difference is None, f"{uploadid}: {difference}"
            self._check_bytes(task, model)
            self._check_history(task)
        for root in ("music", "artwork"):
            visible = self._visible(root)
            assert visible == {p: d for (r, p), d in self.library.items() if r == root}, f"the {root} tree"
        assert dict(self.where.entries()) == self.entries, "the catalogue"
        if not self.dirty:
            assert self.where.strangers(tasks) == [], "promise 8"

    def _check_bytes(self, task: UploadTask, model: Expected) -> None:
        if task.state is S.REMOVE:
            return
        if task.state is S.UPLOADFAILED:
            return
        data = self.where.stored(task)
        assert data is not None, "the bytes are gone"
        assert data[: model.offset] == model.content[: model.offset], "promise 1: D[:R] = F[:R]"
        if task.state is not S.WAITFORCHUNK:
            assert data == model.content, "promise 3"
            assert hashlib.sha1(data).hexdigest() == task.sourcechecksum, "promise 3"
        key = task.key
        assert task.offset >= self.offsets.get(key, 0), "promise 2: R never falls"
        self.offsets[key] = task.offset

    def _check_history(self, task: UploadTask) -> None:
        state = S.WAITFORCHUNK.value
        last = 0
        for line in task.history:
            assert line.sequence > last
            last = line.sequence
            assert line.source == state, f"promise 6: {task.history}"
            state = line.dest
            if line.trigger not in ("create", "recover"):
                dest = State(line.dest) if line.dest != line.source else None
                assert row_taken(Trigger(line.trigger), State(line.source), dest) is not None, "promise 6"
        assert state == task.state


def _targets(artist: str, name: str) -> list[tuple[str, str]]:
    return [("music", f"{artist}/{name}.mp4"), ("artwork", f"{artist}/{name}/frame.jpg")]
