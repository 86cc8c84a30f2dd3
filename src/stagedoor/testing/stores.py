"""The promises of the ports as tests, for whoever writes an adapter.

Subclass a contract in a test module and say how to make the adapter::

    class TestMyBytes(ByteStoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            return MyBytes(tmp_path)

        def reopen(self, store):                 # optional
            return MyBytes(store.root)

``reopen`` gives a new adapter over the same storage, as after a restart in which the old one was not closed. It and
the other hooks are raw access that bypasses the adapter; without one, the tests that need it are skipped, and the
reason names it. What a power cut does is not asked here, for that see `stagedoor.testing.disk`.
"""

from __future__ import annotations

import hashlib
import io
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO, Final, cast

import pytest

from ..errors import Conflict, DataLost, StorageError, StorageFull
from ..lifecycle import STORED_STATES, State, Trigger, due
from ..notices import Notice, NoticeKind
from ..ports import ByteStore, EventBus, Keeper, Recovered, Summary, TaskStore, Tree, WorkItem, WorkQueue
from ..tasks import Event, Finding, PlacedFile, Plan, PlannedFile, Step, UploadTask, evolve

__all__ = [
    "ByteStoreContract",
    "EventBusContract",
    "TaskStoreContract",
    "TreeContract",
    "WorkQueueContract",
    "full_task",
    "upload_task",
]

_THREADS: Final = 16
_PATIENCE: Final = 30.0
"""Seconds after which a thread that should have been woken counts as hanging. Never waited for if all is well."""

_ONE: Final = f"{1:032x}.0"
_TWO: Final = f"{2:032x}.0"
_ONE_LATER: Final = f"{1:032x}.1"
_UID: Final = f"{1:032x}"
_OTHER_UID: Final = f"{2:032x}"
_NAME: Final = "video-pending.mp4"
_FINAL: Final = f"video-{'a' * 40}.mp4"


def upload_task(uploadid: str = "one", **changes: object) -> UploadTask:
    """A plausible task in ``waitforchunk``."""
    task = UploadTask(
        id=uploadid,
        filesize=1000,
        offset=0,
        contenttype="video",
        mimetype="video/mp4",
        sourcefilename="clip.mp4",
        sourcechecksum="a" * 40,
        destinationpath=f"data/{_ONE}/{_NAME}",
        state=State.WAITFORCHUNK,
        uid=_UID,
        created=1_700_000_000.25,
        updated=1_700_000_000.25,
    )
    return evolve(task, **changes)


def full_task(uploadid: str = "one", **changes: object) -> UploadTask:
    """A task with something in every attribute."""
    file = PlannedFile("music", "Björk/1997 - Jóga.mp4", "", 1000, "b" * 64, replace=True)
    values: dict[str, object] = {
        "offset": 1000,
        "state": State.INTEGRATED,
        "revision": 17,
        "generation": 2,
        "videofile": file.path,
        "artworkfile": "Björk/Jóga/frame-1.jpg",
        "annotations": {"name": "Jóga", "list": [1, -(2**63), 0.5, None, True, {"deep": ["\U0001f3b8"]}], "": ""},
        "sha256": "b" * 64,
        "message": "It failed unexpectedly.",
        "code": "storage_error",
        "findings": (
            Finding("which", "hold", "Which one is it?", ("this", "that")),
            Finding("dropped", "warn", "A line was dropped."),
        ),
        "content": {"duration": 4.5, "streams": [{"codec": "h264"}]},
        "plan": Plan(
            files=(file,),
            artwork=(PlannedFile("artwork", "Björk/Jóga/frame-1.jpg", "frame-1", optional=True),),
            directories=("music/Björk", "artwork/Björk", "artwork/Björk/Jóga"),
            entry={"artist": "Björk", "release": "1997"},
            problems=(Finding("odd_name", "warn", "The name is odd."),),
        ),
        "placed": (PlacedFile("music", file.path, 1000, "b" * 64, replaced="d" * 64),),
        "created_directories": ("music/Björk",),
        "step": Step(Trigger.UNDO, "c" * 32, 2, 1_700_000_001.5, 1_700_000_009.75),
        "wanted": Trigger.UNDO,
        "import_wanted": True,
        "deadline": 1_800_000_000.0,
        "history": (
            Event(1, 1_700_000_000.25, "create", "waitforchunk", "waitforchunk"),
            Event(3, 1_700_000_001.0, "complete", "waitforchunk", "uploadcomplete", "all is here"),
        ),
        "wire": {"upload-metadata": "filename Y2xpcC5tcDQ="},
        "foreign": {"legacy": {"of": ["MusicDB"]}},
    }
    return evolve(upload_task(uploadid), **{**values, **changes})


def _parallel(work: Callable[[int], object], threads: int = _THREADS) -> list[Any]:
    """Run a function in many threads at once; raises what the first of them raised."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> object:
        barrier.wait(_PATIENCE)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────


class ByteStoreContract:
    """Every promise of `ByteStore`. See the module for its use."""

    # ── what the author of an adapter gives ───────────────────────────────────────────────────────────────────

    @pytest.fixture
    def store(self) -> ByteStore:
        """An empty store; override it."""
        raise NotImplementedError("Override the fixture `store`.")

    def reopen(self, store: ByteStore) -> ByteStore:
        """A new adapter over the same storage; the old one was not closed."""
        pytest.skip("the adapter's tests give no reopen(store)")

    def damage(self, store: ByteStore, key: str, size: int | None) -> None:
        """Cut the stored bytes of a key to a size, or delete them, behind the back of the adapter."""
        pytest.skip("the adapter's tests give no damage(store, key, size)")

    # ── helpers ───────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, store: ByteStore, key: str) -> bytes:
        with store.open(key) as file:
            parts = []
            while data := file.read(1 << 16):
                parts.append(data)
        return b"".join(parts)

    def _fill(self, store: ByteStore, key: str, recorded: bytes, more: bytes = b"") -> None:
        store.create(key, _NAME)
        if recorded:
            store.append(key, 0, recorded)
            assert store.commit(key) == len(recorded)
        if more:
            store.append(key, len(recorded), more)

    def _restart(self, store: ByteStore, known: dict[str, State]) -> tuple[ByteStore, Recovered]:
        store = self.reopen(store)
        return store, store.recover(known)

    # ── create ────────────────────────────────────────────────────────────────────────────────────────────────

    def test_a_new_place_is_empty(self, store: ByteStore) -> None:
        """Nothing is on record and nothing is there to read."""
        store.create(_ONE, _NAME)
        assert store.size(_ONE) == 0
        assert store.commit(_ONE) == 0
        assert self._read(store, _ONE) == b""

    def test_create_tells_a_relative_path_with_the_name(self, store: ByteStore) -> None:
        """It goes into ``destinationpath``, which may only lead downwards."""
        parts = store.create(_ONE, _NAME).split("/")
        assert parts[-1] == _NAME
        assert not {"", ".", ".."} & set(parts)

    def test_two_places_have_two_paths(self, store: ByteStore) -> None:
        """Two uploads of the same content never share a file."""
        assert store.create(_ONE, _NAME) != store.create(_TWO, _NAME)

    def test_create_twice_is_a_conflict_and_changes_nothing(self, store: ByteStore) -> None:
        """Data that is there is never truncated."""
        self._fill(store, _ONE, b"recorded", b"more")
        for name in (_NAME, "other.mp4"):
            with pytest.raises(Conflict):
                store.create(_ONE, name)
        assert self._read(store, _ONE) == b"recordedmore"
        assert store.commit(_ONE) == 12

    # ── append and commit ─────────────────────────────────────────────────────────────────────────────────────

    def test_appended_bytes_are_on_record_after_commit_only(self, store: ByteStore) -> None:
        """R moves in `commit`, and its answer is R."""
        store.create(_ONE, _NAME)
        store.append(_ONE, 0, b"abc")
        assert store.size(_ONE) == 0
        assert store.commit(_ONE) == 3
        assert store.size(_ONE) == 3

    def test_several_appends_make_one_commit(self, store: ByteStore) -> None:
        """Bytes follow each other; how they were cut leaves no trace."""
        store.create(_ONE, _NAME)
        data = bytes(range(256)) * 20
        at = 0
        for size in (1, 511, 512, 513, 1000, 2583):
            store.append(_ONE, at, data[at : at + size])
            at += size
        assert store.commit(_ONE) == at == len(data)
        assert self._read(store, _ONE) == data

    def test_commit_again_answers_the_same(self, store: ByteStore) -> None:
        """Nothing new is no error."""
        self._fill(store, _ONE, b"abc")
        assert store.commit(_ONE) == 3

    @pytest.mark.parametrize("kind", ["bytes", "bytearray", "memoryview", "slice", "wide"])
    def test_any_contiguous_bytes_are_taken_and_not_kept(self, store: ByteStore, kind: str) -> None:
        """The caller may use its buffer for something else at once. Sizes are in bytes, whatever an item is."""
        buffer = bytearray(b"0123456789abcdef")
        given: dict[str, Any] = {
            "bytes": bytes(buffer),
            "bytearray": buffer,
            "memoryview": memoryview(buffer),
            "slice": memoryview(buffer)[4:12],
            "wide": memoryview(buffer).cast("I"),
        }
        expected = bytes(given[kind])
        store.create(_ONE, _NAME)
        store.append(_ONE, 0, given[kind])
        given.clear()
        buffer[:] = b"-" * 16
        store.append(_ONE, len(expected), b"!")
        assert store.commit(_ONE) == len(expected) + 1
        assert self._read(store, _ONE) == expected + b"!"

    @pytest.mark.parametrize("offset", [0, 1, 3, 7, 9, 1 << 40, -1])
    def test_append_elsewhere_is_a_conflict_and_changes_nothing(self, store: ByteStore, offset: int) -> None:
        """Bytes belong at the end of what is there, recorded or not: no hole, no rewriting."""
        self._fill(store, _ONE, b"abc", b"defgh")
        with pytest.raises(Conflict):
            store.append(_ONE, offset, b"xyz")
        assert self._read(store, _ONE) == b"abcdefgh"
        assert store.size(_ONE) == 3
        store.append(_ONE, 8, b"i")
        assert store.commit(_ONE) == 9

    def test_an_empty_append_changes_nothing(self, store: ByteStore) -> None:
        """It is for the engine to refuse."""
        self._fill(store, _ONE, b"abc")
        store.append(_ONE, 3, b"")
        assert store.commit(_ONE) == 3
        assert self._read(store, _ONE) == b"abc"

    def test_a_key_that_is_not_there_is_lost_data(self, store: ByteStore) -> None:
        """Never an empty file, and nothing that is created on the way."""
        attempts: list[Callable[[], object]] = [
            lambda: store.append(_ONE, 0, b"abc"),
            lambda: store.commit(_ONE),
            lambda: store.rollback(_ONE),
            lambda: store.size(_ONE),
            lambda: store.seal(_ONE, _FINAL),
            lambda: self._read(store, _ONE),
        ]
        for attempt in attempts:
            with pytest.raises(DataLost):
                attempt()
        store.create(_ONE, _NAME)

    def test_uploads_in_many_threads_do_not_mix(self, store: ByteStore) -> None:
        """Each key has one writer, and there are many keys."""

        def upload(number: int) -> None:
            key, data = f"{number:032x}.0", bytes([number]) * 1000
            store.create(key, _NAME)
            for at in range(0, len(data), 100):
                store.append(key, at, data[at : at + 100])
                assert store.commit(key) == at + 100
            store.seal(key, _FINAL)
            store.close(key)

        _parallel(upload)
        for number in range(_THREADS):
            assert self._read(store, f"{number:032x}.0") == bytes([number]) * 1000

    # ── rollback ──────────────────────────────────────────────────────────────────────────────────────────────

    def test_rollback_cuts_back_to_what_is_on_record(self, store: ByteStore) -> None:
        """Other bytes may take the place."""
        self._fill(store, _ONE, b"abc", b"defgh")
        assert store.rollback(_ONE) == 3
        assert self._read(store, _ONE) == b"abc"
        store.append(_ONE, 3, b"XY")
        assert store.commit(_ONE) == 5
        assert self._read(store, _ONE) == b"abcXY"

    def test_rollback_of_nothing_answers_r(self, store: ByteStore) -> None:
        """What is on record stays."""
        self._fill(store, _ONE, b"abc")
        assert store.rollback(_ONE) == 3
        assert self._read(store, _ONE) == b"abc"

    # ── open ──────────────────────────────────────────────────────────────────────────────────────────────────

    def test_readers_seek_and_do_not_disturb_each_other(self, store: ByteStore) -> None:
        """Each has its own position, and appending goes on beside them."""
        self._fill(store, _ONE, b"0123456789")
        with store.open(_ONE) as first, store.open(_ONE) as second:
            assert first.seekable()
            assert first.read(3) == b"012"
            assert second.read(1) == b"0"
            assert first.seek(-2, io.SEEK_END) == 8
            store.append(_ONE, 10, b"ab")
            assert second.seek(5) == 5
            assert second.read(2) == b"56"
            assert first.read(2) == b"89"
        assert first.closed
        assert second.closed

    def test_reading_goes_on_while_the_name_changes(self, store: ByteStore) -> None:
        """`seal` is no moment at which the bytes are gone."""
        for round_ in range(20):
            key = f"{round_:032x}.0"
            self._fill(store, key, b"abc")

            def work(number: int, key: str = key) -> None:
                if number:
                    assert self._read(store, key) == b"abc"
                else:
                    store.seal(key, _FINAL)

            _parallel(work, 3)

    # ── seal and close ────────────────────────────────────────────────────────────────────────────────────────

    def test_seal_gives_the_final_name_and_ends_appending(self, store: ByteStore) -> None:
        """Bytes that are not on record are in it."""
        self._fill(store, _ONE, b"abc", b"defgh")
        path = store.seal(_ONE, _FINAL)
        assert path.split("/")[-1] == _FINAL
        with pytest.raises(Conflict):
            store.append(_ONE, 8, b"x")
        assert self._read(store, _ONE) == b"abcdefgh"

    def test_seal_is_idempotent(self, store: ByteStore) -> None:
        """A step that is repeated answers the same."""
        self._fill(store, _ONE, b"abc", b"defgh")
        path = store.seal(_ONE, _FINAL)
        assert store.seal(_ONE, _FINAL) == path
        with pytest.raises(Conflict):
            store.append(_ONE, 8, b"x")
        assert self._read(store, _ONE) == b"abcdefgh"

    def test_seal_may_keep_the_name(self, store: ByteStore) -> None:
        """The name says nothing about being sealed."""
        path = store.create(_ONE, _NAME)
        store.append(_ONE, 0, b"abc")
        assert store.seal(_ONE, _NAME) == path
        with pytest.raises(Conflict):
            store.append(_ONE, 3, b"x")

    def test_after_close_nothing_is_appended_and_the_bytes_are_there(self, store: ByteStore) -> None:
        """Closing again, or what is not there, is no error."""
        self._fill(store, _ONE, b"abc")
        store.seal(_ONE, _FINAL)
        store.close(_ONE)
        store.close(_ONE)
        store.close(_TWO)
        with pytest.raises(Conflict):
            store.append(_ONE, 3, b"x")
        assert self._read(store, _ONE) == b"abc"

    # ── delete ────────────────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("life", ["new", "appended", "sealed", "closed"])
    def test_delete_leaves_nothing(self, store: ByteStore, life: str) -> None:
        """Others are untouched, and the key may be used again."""
        self._fill(store, _TWO, b"other")
        self._fill(store, _ONE, b"abc" if life != "new" else b"", b"def" if life == "appended" else b"")
        if life in ("sealed", "closed"):
            store.seal(_ONE, _FINAL)
        if life == "closed":
            store.close(_ONE)
        store.delete(_ONE)
        with pytest.raises(DataLost):
            store.size(_ONE)
        with pytest.raises(DataLost):
            self._read(store, _ONE)
        assert self._read(store, _TWO) == b"other"
        store.create(_ONE, _NAME)
        assert store.size(_ONE) == 0
        assert self._read(store, _ONE) == b""
        store.append(_ONE, 0, b"new")
        assert store.commit(_ONE) == 3
        assert self._read(store, _ONE) == b"new"

    def test_delete_of_what_is_not_there_is_no_error(self, store: ByteStore) -> None:
        """A deletion may be repeated."""
        store.delete(_ONE)
        self._fill(store, _ONE, b"abc")
        store.delete(_ONE)
        store.delete(_ONE)

    # ── recover ───────────────────────────────────────────────────────────────────────────────────────────────

    def test_an_empty_store_recovers_to_nothing(self, store: ByteStore) -> None:
        """The first start of all."""
        found = store.recover({})
        assert (dict(found.offsets), dict(found.lost)) == ({}, {})
        assert (list(found.quarantined), list(found.deleted)) == ([], [])

    @pytest.mark.parametrize("recorded", [b"", b"a", b"abc" * 1000])
    def test_what_was_committed_is_there_after_a_restart(self, store: ByteStore, recorded: bytes) -> None:
        """R is as it was, the bytes up to R too, and the upload goes on."""
        self._fill(store, _ONE, recorded)
        store, found = self._restart(store, {_ONE: State.WAITFORCHUNK})
        assert dict(found.offsets) == {_ONE: len(recorded)}
        assert not found.lost
        assert store.size(_ONE) == len(recorded)
        store.append(_ONE, len(recorded), b"more")
        assert store.commit(_ONE) == len(recorded) + 4
        assert self._read(store, _ONE) == recorded + b"more"

    def test_what_was_not_committed_is_cut_away_after_a_restart(self, store: ByteStore) -> None:
        """Nobody was told of it; other bytes may come instead."""
        self._fill(store, _ONE, b"abc", b"defgh")
        store, found = self._restart(store, {_ONE: State.WAITFORCHUNK})
        assert dict(found.offsets) == {_ONE: 3}
        assert self._read(store, _ONE) == b"abc"
        with pytest.raises(Conflict):
            store.append(_ONE, 8, b"i")
        store.append(_ONE, 3, b"X")
        assert store.commit(_ONE) == 4
        assert self._read(store, _ONE) == b"abcX"

    def test_r_never_falls_over_many_restarts(self, store: ByteStore) -> None:
        """Each start goes on where the last one stopped."""
        data = bytes(range(100))
        store.create(_ONE, _NAME)
        for at in range(0, 100, 10):
            store, found = self._restart(store, {_ONE: State.WAITFORCHUNK})
            assert dict(found.offsets) == {_ONE: at}
            store.append(_ONE, at, data[at : at + 10])
            store.commit(_ONE)
        assert self._read(store, _ONE) == data

    def test_sealed_but_still_expecting_chunks_holds_the_record_that_there_was(self, store: ByteStore) -> None:
        """The crash came before the new state was recorded; the rest is sent, and sealed, again."""
        self._fill(store, _ONE, b"abc", b"defgh")
        path = store.seal(_ONE, _FINAL)
        store, found = self._restart(store, {_ONE: State.WAITFORCHUNK})
        assert dict(found.offsets) == {_ONE: 3}
        store.append(_ONE, 3, b"defgh")
        assert store.seal(_ONE, _FINAL) == path
        assert self._read(store, _ONE) == b"abcdefgh"

    def test_sealed_and_recorded_is_whole_after_a_restart(self, store: ByteStore) -> None:
        """It needs no offset any more."""
        self._fill(store, _ONE, b"abc", b"defgh")
        store.seal(_ONE, _FINAL)
        store, found = self._restart(store, {_ONE: State.UPLOADCOMPLETE})
        assert (dict(found.offsets), dict(found.lost)) == ({}, {})
        assert self._read(store, _ONE) == b"abcdefgh"

    def test_closed_is_whole_after_a_restart(self, store: ByteStore) -> None:
        """And is not asked for its offset."""
        self._fill(store, _ONE, b"abc")
        store.seal(_ONE, _FINAL)
        store.close(_ONE)
        store, found = self._restart(store, {_ONE: State.PREPROCESSED})
        assert (dict(found.offsets), dict(found.lost)) == ({}, {})
        assert self._read(store, _ONE) == b"abc"

    def test_other_generations_are_deleted(self, store: ByteStore) -> None:
        """A retry was interrupted: one of the two is not on record."""
        self._fill(store, _ONE, b"old")
        self._fill(store, _ONE_LATER, b"new")
        store, found = self._restart(store, {_ONE_LATER: State.WAITFORCHUNK})
        assert len(found.deleted) == 1
        assert dict(found.offsets) == {_ONE_LATER: 3}
        assert not found.quarantined
        with pytest.raises(DataLost):
            store.size(_ONE)
        store.create(_ONE, _NAME)

    def test_strangers_go_into_quarantine(self, store: ByteStore) -> None:
        """What no task knows is nobody's; its place may be used again."""
        self._fill(store, _ONE, b"stranger")
        self._fill(store, _TWO, b"known")
        store, found = self._restart(store, {_TWO: State.UPLOADCOMPLETE})
        assert len(found.quarantined) == 1
        assert not found.deleted
        with pytest.raises(DataLost):
            store.size(_ONE)
        assert self._read(store, _TWO) == b"known"
        store.create(_ONE, _NAME)

    @pytest.mark.parametrize("state", STORED_STATES)
    def test_missing_bytes_are_lost(self, store: ByteStore, state: State) -> None:
        """In every state but ``remove``, whose data may be gone already. The others go on."""
        self._fill(store, _TWO, b"known")
        store, found = self._restart(store, {_ONE: state, _TWO: State.WAITFORCHUNK})
        assert set(found.lost) == ({_ONE} if state is not State.REMOVE else set())
        assert all(sentence.endswith(".") for sentence in found.lost.values())
        assert dict(found.offsets) == {_TWO: 5}

    @pytest.mark.parametrize("size", [0, 2, None])
    def test_fewer_bytes_than_on_record_are_lost(self, store: ByteStore, size: int | None) -> None:
        """They were acknowledged: never go on as if nothing had been."""
        self._fill(store, _ONE, b"abc")
        self._fill(store, _TWO, b"known")
        store = self.reopen(store)
        self.damage(store, _ONE, size)
        found = store.recover({_ONE: State.WAITFORCHUNK, _TWO: State.WAITFORCHUNK})
        assert set(found.lost) == {_ONE}
        assert dict(found.offsets) == {_TWO: 5}
        with pytest.raises(DataLost):
            store.size(_ONE)
        with pytest.raises(DataLost):
            store.append(_ONE, 3, b"x")

    def test_recovering_again_finds_nothing_new(self, store: ByteStore) -> None:
        """A start that was interrupted is repeated."""
        self._fill(store, _ONE, b"old")
        self._fill(store, _ONE_LATER, b"abc", b"def")
        self._fill(store, _TWO, b"stranger")
        known = {_ONE_LATER: State.WAITFORCHUNK}
        store, _ = self._restart(store, known)
        store, found = self._restart(store, known)
        assert dict(found.offsets) == {_ONE_LATER: 3}
        assert not found.lost
        assert (list(found.quarantined), list(found.deleted)) == ([], [])


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────


class TaskStoreContract:
    """Every promise of `TaskStore`. See the module for its use."""

    # ── what the author of an adapter gives ───────────────────────────────────────────────────────────────────

    @pytest.fixture
    def store(self) -> TaskStore:
        """An empty store; override it."""
        raise NotImplementedError("Override the fixture `store`.")

    def reopen(self, store: TaskStore) -> TaskStore:
        """A new adapter over the same storage; the old one was not closed."""
        pytest.skip("the adapter's tests give no reopen(store)")

    def _restart(self, store: TaskStore) -> TaskStore:
        store = self.reopen(store)
        assert list(store.recover()) == []
        return store

    # ── one task ──────────────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("make", [upload_task, full_task])
    def test_what_is_created_is_there(self, store: TaskStore, make: Callable[[], UploadTask]) -> None:
        """Every attribute, as it was."""
        task = make()
        store.create(task)
        assert store.get("one") == task

    def test_an_unknown_id_has_no_task(self, store: TaskStore) -> None:
        """No error: the engine knows what to say."""
        assert store.get("one") is None
        store.create(upload_task())
        assert store.get("two") is None

    def test_create_twice_is_a_conflict_and_changes_nothing(self, store: TaskStore) -> None:
        """Ids are chosen by clients, so this will happen."""
        first = upload_task()
        store.create(first)
        with pytest.raises(Conflict):
            store.create(upload_task(uid=_OTHER_UID))
        assert store.get("one") == first

    def test_cas_replaces_what_is_expected(self, store: TaskStore) -> None:
        """And the next one expects what this one stored."""
        task = upload_task()
        store.create(task)
        for revision in range(2, 10):
            task = evolve(full_task(), revision=revision)
            store.cas(task, revision - 1)
            assert store.get("one") == task

    @pytest.mark.parametrize("expected", [1, 3, 0, -1])
    def test_cas_with_another_revision_is_a_conflict(self, store: TaskStore, expected: int) -> None:
        """The record moved on; nothing is overwritten."""
        store.create(upload_task())
        second = upload_task(revision=2, message="second")
        store.cas(second, 1)
        with pytest.raises(Conflict):
            store.cas(upload_task(revision=expected + 1, message="late"), expected)
        assert store.get("one") == second

    def test_cas_of_another_upload_with_the_id_is_a_conflict(self, store: TaskStore) -> None:
        """Ids are used again after a removal: the uid tells whose task it is."""
        stored = upload_task(uid=_OTHER_UID)
        store.create(stored)
        with pytest.raises(Conflict):
            store.cas(upload_task(revision=2), 1)
        assert store.get("one") == stored

    def test_cas_of_what_is_gone_is_a_conflict(self, store: TaskStore) -> None:
        """A removed upload does not come back."""
        with pytest.raises(Conflict):
            store.cas(upload_task(revision=2), 1)
        store.create(upload_task())
        store.delete("one")
        with pytest.raises(Conflict):
            store.cas(upload_task(revision=2), 1)
        assert store.get("one") is None

    def test_delete_and_use_the_id_again(self, store: TaskStore) -> None:
        """Deleting twice is no error."""
        store.create(upload_task())
        store.delete("one")
        store.delete("one")
        store.delete("two")
        assert store.get("one") is None
        assert list(store.list()) == []
        again = upload_task(uid=_OTHER_UID)
        store.create(again)
        assert store.get("one") == again

    # ── all tasks ─────────────────────────────────────────────────────────────────────────────────────────────

    def test_the_list_has_every_task_by_id(self, store: TaskStore) -> None:
        """Ordered, with what is deleted left out."""
        ids = ["b", "a", "a.json", "B", "a-1", "a_1", "a..b", "0", "con", "x" * 128]
        for number, uploadid in enumerate(ids):
            store.create(upload_task(uploadid, uid=f"{number:032x}"))
        store.delete("con")
        ids.remove("con")
        assert [line.id for line in store.list()] == sorted(ids)
        for uploadid in ids:
            task = store.get(uploadid)
            assert task is not None
            assert task.id == uploadid

    @pytest.mark.parametrize("state", STORED_STATES)
    def test_a_line_of_the_list_is_true(self, store: TaskStore, state: State) -> None:
        """After creation, after each change, and after a restart."""
        tasks = [
            upload_task(state=state),
            full_task(state=state, revision=2, generation=0, wanted=None, step=None),
            full_task(state=state, revision=3, wanted=Trigger.INTEGRATE),
            full_task(state=state, revision=4, filesize=None, offset=5, deadline=None),
        ]
        store.create(tasks[0])
        for task in tasks:
            if task.revision > 1:
                store.cas(task, task.revision - 1)
            assert list(store.list()) == [_line(task)]
        with suppress(pytest.skip.Exception):  # the part above needs no restart
            assert list(self._restart(store).list()) == [_line(tasks[-1])]

    # ── restart ───────────────────────────────────────────────────────────────────────────────────────────────

    def test_everything_is_there_after_a_restart(self, store: TaskStore) -> None:
        """Created, replaced and deleted."""
        kept = full_task("kept", uid=_OTHER_UID, revision=1)
        store.create(kept)
        store.create(upload_task())
        store.cas(changed := full_task(revision=2), 1)
        store.create(upload_task("gone"))
        store.delete("gone")
        store = self._restart(store)
        assert store.get("kept") == kept
        assert store.get("one") == changed
        assert store.get("gone") is None
        assert [line.id for line in store.list()] == ["kept", "one"]

    def test_life_goes_on_after_a_restart(self, store: TaskStore) -> None:
        """Conflicts are known, and changes are stored."""
        store.create(upload_task())
        store = self._restart(store)
        with pytest.raises(Conflict):
            store.create(upload_task())
        with pytest.raises(Conflict):
            store.cas(upload_task(revision=3), 2)
        store.cas(second := upload_task(revision=2), 1)
        store = self._restart(store)
        assert store.get("one") == second

    # ── threads ───────────────────────────────────────────────────────────────────────────────────────────────

    def test_readers_never_see_a_task_go_back(self, store: TaskStore) -> None:
        """One writer a task, many readers; tasks are whole, and what is told is stored."""
        last, done = 40, threading.Event()
        stored = [0] * 4

        def work(number: int) -> None:
            uploadid, mine = f"task{number % 4}", number % 4
            if number < 4:
                try:
                    store.create(upload_task(uploadid, uid=f"{number:032x}"))
                    stored[mine] = 1
                    for revision in range(2, last):
                        changed = full_task(uploadid, uid=f"{number:032x}", revision=revision, message=str(revision))
                        store.cas(changed, revision - 1)
                        stored[mine] = revision
                finally:
                    done.set()
                return
            seen = 0
            while not done.is_set():
                before = stored[mine]
                task = store.get(uploadid)
                assert task is not None or before == 0
                if task is not None:
                    assert task.revision >= max(seen, before)
                    assert task.message in (None, str(task.revision))
                    seen = task.revision
                lines = [line.revision for line in store.list() if line.id == uploadid]
                assert all(revision >= seen for revision in lines)

        _parallel(work)

    def test_an_id_that_is_used_again_and_again_never_shows_an_older_life(self, store: TaskStore) -> None:
        """What was read before a deletion must not be remembered after it."""
        done = threading.Event()
        life = [0]

        def work(number: int) -> None:
            if number == 0:
                try:
                    for uid in range(1, 40):
                        store.create(upload_task(uid=f"{uid:032x}"))
                        life[0] = uid
                        task = store.get("one")
                        assert task is not None
                        assert task.uid == f"{uid:032x}"
                        store.delete("one")
                finally:
                    done.set()
                return
            while not done.is_set():
                before = life[0]
                task = store.get("one")
                assert task is None or int(task.uid, 16) >= before

        _parallel(work, 4)


def _line(task: UploadTask) -> Summary:
    return Summary(
        task.id, task.key, task.state, task.revision, task.updated, task.deadline, due(task), task.filesize,
        task.step.not_before if task.step else 0.0,
    )  # fmt: skip


# ── trees ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Failing(io.RawIOBase):
    """A source that breaks off."""

    def __init__(self, error: Exception) -> None:
        self._error, self._read = error, False

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset

    def read(self, size: int = -1, /) -> bytes:
        if self._read or size < 0:
            raise self._error
        self._read = True
        return b"half of it"


class _Pipe(io.BytesIO):
    """A source that is read once, from where it stands."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("This source is not seekable.")

    tell = seek  # type: ignore[assignment]  # whatever is asked, there is no position


class TreeContract:
    """Every promise of `Tree`. See the module for its use."""

    # ── what the author of an adapter gives ───────────────────────────────────────────────────────────────────

    @pytest.fixture
    def tree(self) -> Tree:
        """An empty tree with the name ``music``; override it."""
        raise NotImplementedError("Override the fixture `tree`.")

    def reopen(self, tree: Tree) -> Tree:
        """A new adapter over the same storage; the old one was not closed."""
        pytest.skip("the adapter's tests give no reopen(tree)")

    def read(self, tree: Tree, path: str) -> bytes | None:
        """The bytes of a visible file, past the adapter; ``None`` if there is none."""
        pytest.skip("the adapter's tests give no read(tree, path)")

    def write(self, tree: Tree, path: str, data: bytes) -> None:
        """Make or replace a file like somebody else would, with the directories above it, past the adapter."""
        pytest.skip("the adapter's tests give no write(tree, path, data)")

    def delete(self, tree: Tree, path: str) -> None:
        """Delete a file like somebody else would, past the adapter."""
        pytest.skip("the adapter's tests give no delete(tree, path)")

    def kept(self, tree: Tree, uid: str) -> Sequence[bytes]:
        """What is in the journal of an upload of the files that it replaced, past the adapter, in any order."""
        pytest.skip("the adapter's tests give no kept(tree, uid)")

    def _place(self, tree: Tree, path: str = "Artist/Name.mp4", data: bytes = b"data", uid: str = _UID) -> PlacedFile:
        return tree.place(uid, path, io.BytesIO(data))

    # ── place ─────────────────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("data", [b"", b"data", bytes(range(256)) * 9000], ids=["empty", "small", "large"])
    def test_a_placed_file_is_there_as_it_was_told(self, tree: Tree, data: bytes) -> None:
        """Bytes, size and hash."""
        placed = self._place(tree, data=data)
        assert placed == PlacedFile("music", "Artist/Name.mp4", len(data), hashlib.sha256(data).hexdigest())
        assert tree.exists(placed.path)
        assert tree.check(_UID, placed)
        assert self.read(tree, placed.path) == data

    @pytest.mark.parametrize("path", ["Name.mp4", "A/B/C/D.mp4", "Sigur Rós/( )/'1' \"x\" <&>.mp4", "x" * 200])
    def test_any_safe_path_will_do(self, tree: Tree, path: str) -> None:
        """As deep as it is."""
        self._place(tree, path)
        assert self.read(tree, path) == b"data"

    def test_the_source_is_read_from_its_start(self, tree: Tree) -> None:
        """Wherever the caller left it."""
        source = io.BytesIO(b"data")
        source.seek(2)
        assert tree.place(_UID, "Name.mp4", source).size == 4

    def test_a_source_that_cannot_be_sought_is_read_from_where_it_stands(self, tree: Tree) -> None:
        """What comes out of an archive, or a pipe."""
        source = _Pipe(b"read already, data")
        source.read(len(b"read already, "))
        placed = tree.place(_UID, "Name.mp4", source, hashlib.sha256(b"data").hexdigest())
        assert placed.size == 4
        assert self.read(tree, "Name.mp4") == b"data"

    def test_place_shows_nothing_but_what_was_verified(self, tree: Tree) -> None:
        """The source has another hash than expected: it never becomes visible."""
        with pytest.raises(DataLost):
            tree.place(_UID, "Artist/Name.mp4", io.BytesIO(b"changed"), hashlib.sha256(b"verified").hexdigest())
        assert not tree.exists("Artist/Name.mp4")
        placed = tree.place(_UID, "Artist/Name.mp4", io.BytesIO(b"right"), hashlib.sha256(b"right").hexdigest())
        assert placed.sha256 == hashlib.sha256(b"right").hexdigest()

    def test_place_again_adopts_the_file(self, tree: Tree) -> None:
        """A step that is repeated finds what it did, and the source is not needed."""
        placed = self._place(tree)
        assert self._place(tree) == placed
        assert list(tree.unsettled()) == [_UID]

    def test_a_file_of_somebody_else_is_never_replaced(self, tree: Tree) -> None:
        """Neither one that nobody placed, nor another upload's, nor an own one that is settled."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        self._taken(tree, "Artist/Name.mp4", _UID)
        assert self.read(tree, "Artist/Name.mp4") == b"theirs"
        self._place(tree, "two.mp4", b"two", _OTHER_UID)
        self._taken(tree, "two.mp4", _UID)
        tree.settle(_OTHER_UID)
        self._taken(tree, "two.mp4", _OTHER_UID)
        self._taken(tree, "two.mp4", _UID)
        assert self.read(tree, "two.mp4") == b"two"

    def test_a_directory_with_the_name_is_a_conflict(self, tree: Tree) -> None:
        """It is not looked into."""
        self._place(tree, "Artist/Name.mp4")
        self._taken(tree, "Artist", _OTHER_UID)
        self._taken(tree, "Artist", _UID)

    def _taken(self, tree: Tree, path: str, uid: str) -> None:
        with pytest.raises(Conflict) as conflict:
            self._place(tree, path, b"mine", uid)
        assert conflict.value.code == "destination_exists"
        assert path in conflict.value.sentence

    def test_after_a_conflict_the_upload_may_go_elsewhere(self, tree: Tree) -> None:
        """Nothing stays behind that is in the way."""
        self._place(tree, "two.mp4", b"two", _OTHER_UID)
        self._taken(tree, "two.mp4", _UID)
        self._place(tree, "one.mp4")
        tree.settle(_UID)
        assert list(tree.unsettled()) == [_OTHER_UID]

    @pytest.mark.parametrize("error", [OSError(5, "gone"), StorageError("gone")])
    def test_a_source_that_breaks_off_leaves_nothing_visible(self, tree: Tree, error: Exception) -> None:
        """A copy that is not whole never has the name, and the next attempt succeeds."""
        with pytest.raises((StorageError, StorageFull, OSError)):
            tree.place(_UID, "Artist/Name.mp4", cast("BinaryIO", _Failing(error)))
        assert not tree.exists("Artist/Name.mp4")
        self._place(tree)
        assert self.read(tree, "Artist/Name.mp4") == b"data"

    def test_of_many_that_want_a_name_one_gets_it(self, tree: Tree) -> None:
        """The others are told, and nothing of theirs is mixed in."""

        def work(number: int) -> str | None:
            data = bytes([number]) * 100_000
            try:
                return self._place(tree, "Artist/Name.mp4", data, f"{number:032x}").sha256
            except Conflict:
                return None

        winners = [sha256 for sha256 in _parallel(work) if sha256]
        assert len(winners) == 1
        data = self.read(tree, "Artist/Name.mp4")
        assert data is not None
        assert hashlib.sha256(data).hexdigest() == winners[0]

    def test_placing_and_taking_back_side_by_side(self, tree: Tree) -> None:
        """Somebody's empty directory is removed while another wants to put a file there."""

        def work(number: int) -> None:
            uid, path = f"{number:032x}", f"Artist/Album/{number}.mp4"
            for _ in range(10):
                self._place(tree, path, uid=uid)
                assert tree.exists(path)
                tree.withdraw(uid, [path], ["Artist", "Artist/Album"])

        _parallel(work, 8)
        assert list(tree.unsettled()) == []

    # ── replace ───────────────────────────────────────────────────────────────────────────────────────────────

    def _replace(self, tree: Tree, path: str = "Artist/Name.mp4", data: bytes = b"data", uid: str = _UID) -> PlacedFile:
        return tree.place(uid, path, io.BytesIO(data), replace=True)

    @pytest.mark.parametrize("path", ["Artist/Name.mp4", "Name.mp4"])
    def test_what_is_replaced_is_told_and_kept(self, tree: Tree, path: str) -> None:
        """Its hash is on record with the placement, its bytes are in the journal."""
        self.write(tree, path, b"theirs")
        placed = self._replace(tree, path)
        assert placed == PlacedFile(
            "music", path, 4, hashlib.sha256(b"data").hexdigest(), hashlib.sha256(b"theirs").hexdigest()
        )
        assert self.read(tree, path) == b"data"
        assert list(self.kept(tree, _UID)) == [b"theirs"]

    def test_where_there_is_nothing_to_replace_nothing_is_told(self, tree: Tree) -> None:
        """It is a wish, no condition."""
        assert self._replace(tree).replaced is None
        tree.settle(_UID)
        assert list(self.kept(tree, _UID)) == []

    def test_nothing_is_replaced_that_is_no_file(self, tree: Tree) -> None:
        """And nothing at all without the wish."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        self._taken(tree, "Artist/Name.mp4", _UID)
        with pytest.raises(Conflict) as conflict:
            self._replace(tree, "Artist")
        assert conflict.value.code == "destination_exists"
        assert self.read(tree, "Artist/Name.mp4") == b"theirs"
        assert list(self.kept(tree, _UID)) == []

    def test_a_replacement_is_adopted_with_what_it_replaced(self, tree: Tree) -> None:
        """Also after a restart; nothing is replaced twice."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        placed = self._replace(tree)
        assert self._replace(tree) == placed
        tree = self.reopen(tree)
        assert list(tree.unsettled()) == [_UID]
        assert self._replace(tree) == placed
        assert list(self.kept(tree, _UID)) == [b"theirs"]

    @pytest.mark.parametrize("error", [OSError(5, "gone"), StorageError("gone"), None])
    def test_a_replacement_that_fails_leaves_the_old_file(self, tree: Tree, error: Exception | None) -> None:
        """A source that breaks off, or has not the bytes that were verified."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        source = io.BytesIO(b"changed") if error is None else cast("BinaryIO", _Failing(error))
        with pytest.raises((StorageError, DataLost, OSError)):
            tree.place(_UID, "Artist/Name.mp4", source, hashlib.sha256(b"data").hexdigest(), replace=True)
        assert self.read(tree, "Artist/Name.mp4") == b"theirs"
        assert list(self.kept(tree, _UID)) == []
        assert self._replace(tree).replaced == hashlib.sha256(b"theirs").hexdigest()

    def test_withdraw_brings_the_old_file_back(self, tree: Tree) -> None:
        """Idempotent, also after a restart."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        self._replace(tree)
        tree = self.reopen(tree)
        for _ in range(2):
            tree.withdraw(_UID, ["Artist/Name.mp4"], ["Artist"])
            assert self.read(tree, "Artist/Name.mp4") == b"theirs"
        assert list(tree.unsettled()) == []
        assert list(self.kept(tree, _UID)) == []

    def test_settle_keeps_what_was_replaced(self, tree: Tree) -> None:
        """There is nothing to adopt, and nothing to withdraw, but something that undo can bring back."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        placed = self._replace(tree)
        tree.settle(_UID)
        assert list(tree.unsettled()) == []
        tree = self.reopen(tree)
        tree.settle(_UID)  # as a recovery does: a settlement need not survive a power cut
        assert list(tree.unsettled()) == []
        assert list(self.kept(tree, _UID)) == [b"theirs"]
        tree.withdraw(_UID, [placed.path], [])
        assert self.read(tree, placed.path) == b"data"
        self.delete(tree, placed.path)
        tree.withdraw(_UID, [placed.path], [])
        assert not tree.exists(placed.path)
        assert list(self.kept(tree, _UID)) == [b"theirs"]

    @pytest.mark.parametrize("gone", [False, True])
    def test_undo_brings_the_old_file_back(self, tree: Tree, gone: bool) -> None:
        """Also when ours has been deleted since; a removal that is repeated knows what it did."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        placed = self._replace(tree)
        tree.settle(_UID)
        if gone:
            self.delete(tree, placed.path)
        for _ in range(3):
            tree.remove(_UID, [placed], ["Artist"])
            assert self.read(tree, placed.path) == b"theirs"
            assert not tree.holds(_UID, placed)
            assert tree.check(_UID, placed)
            tree = self.reopen(tree)
        assert list(self.kept(tree, _UID)) == []
        tree.settle(_UID)
        assert list(tree.unsettled()) == []
        assert self.read(tree, placed.path) == b"theirs"

    def test_the_old_file_comes_back_where_its_directories_are_gone(self, tree: Tree) -> None:
        """Somebody has deleted the album."""
        self.write(tree, "Artist/Album/Name.mp4", b"theirs")
        placed = self._replace(tree, "Artist/Album/Name.mp4")
        tree.settle(_UID)
        self.delete(tree, placed.path)
        tree.remove(_UID, [], ["Artist", "Artist/Album"])
        assert not tree.exists("Artist")
        tree.remove(_UID, [placed], [])
        assert self.read(tree, placed.path) == b"theirs"

    def test_an_old_file_that_has_the_same_bytes_is_an_old_file(self, tree: Tree) -> None:
        """Whose a file is does not depend on what is in it."""
        self.write(tree, "Artist/Name.mp4", b"data")
        placed = self._replace(tree)
        assert placed.replaced == placed.sha256
        tree.settle(_UID)
        for _ in range(2):
            tree.remove(_UID, [placed], ["Artist"])
            assert self.read(tree, placed.path) == b"data"
        tree.settle(_UID)
        assert self.read(tree, placed.path) == b"data"

    def test_the_old_file_stays_in_the_journal_when_somebody_else_has_its_name(self, tree: Tree) -> None:
        """Be it at an undo that was interrupted, or at a withdrawal; the next placement replaces what is there now."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        self._replace(tree)
        self.delete(tree, "Artist/Name.mp4")
        self.write(tree, "Artist/Name.mp4", b"later")
        tree.withdraw(_UID, ["Artist/Name.mp4"], [])
        assert self.read(tree, "Artist/Name.mp4") == b"later"
        assert list(self.kept(tree, _UID)) == [b"theirs"]
        assert list(tree.unsettled()) == []
        placed = self._replace(tree)
        assert placed.replaced == hashlib.sha256(b"later").hexdigest()
        assert sorted(self.kept(tree, _UID)) == [b"later", b"theirs"]
        tree.settle(_UID)
        tree.remove(_UID, [placed], [])
        assert self.read(tree, "Artist/Name.mp4") == b"later"
        tree.settle(_UID)
        assert list(self.kept(tree, _UID)) == [b"theirs"]

    def test_what_was_replaced_twice_is_kept_twice(self, tree: Tree) -> None:
        """Between two attempts somebody has put another file there. The newest comes back."""
        path = "Artist/Name.mp4"
        self.write(tree, path, b"theirs")
        self._replace(tree)
        self.delete(tree, path)
        self.write(tree, path, b"later")
        placed = self._replace(tree)
        assert placed.replaced == hashlib.sha256(b"later").hexdigest()
        tree = self.reopen(tree)
        assert sorted(self.kept(tree, _UID)) == [b"later", b"theirs"]
        tree.settle(_UID)
        tree.remove(_UID, [placed], [])
        assert self.read(tree, path) == b"later"
        assert list(self.kept(tree, _UID)) == [b"theirs"]

    def test_an_old_file_that_lost_its_name_is_not_brought_back(self, tree: Tree) -> None:
        """However often that happens, each is kept; also after a restart, and when the name is free again."""
        path = "Artist/Name.mp4"
        for number in range(3):
            self.write(tree, path, b"theirs %d" % number)
            self._replace(tree)
            self.delete(tree, path)
            self.write(tree, path, b"later")
            tree.withdraw(_UID, [path], [])
            tree = self.reopen(tree)
        old = [b"theirs 0", b"theirs 1", b"theirs 2"]
        assert sorted(self.kept(tree, _UID)) == old
        self.delete(tree, path)
        placed = self._replace(tree)
        assert placed.replaced is None
        tree.settle(_UID)
        tree.remove(_UID, [placed], [])
        assert not tree.exists(path)
        assert sorted(self.kept(tree, _UID)) == old

    def test_what_is_kept_is_found_without_the_upload(self, tree: Tree) -> None:
        """Its name is told with it, so that somebody can put it back by hand. Only of a tree that can `Keeper.kept`."""
        if not isinstance(tree, Keeper):
            pytest.skip("the tree does not tell what it keeps")
        self._place(tree, "Artist/New.mp4")
        assert tree.kept() == {}
        for name, uid in (("B", _UID), ("A", _UID), ("C", _OTHER_UID)):
            self.write(tree, f"Artist/{name}.mp4", b"theirs")
            self._replace(tree, f"Artist/{name}.mp4", uid=uid)
        tree.settle(_UID)
        tree = self.reopen(tree)
        assert isinstance(tree, Keeper)
        kept = tree.kept()
        assert {uid: [file.path for file in files] for uid, files in kept.items()} == {
            _UID: ["Artist/A.mp4", "Artist/B.mp4"],
            _OTHER_UID: ["Artist/C.mp4"],
        }
        assert len({file.at for files in kept.values() for file in files}) == 3
        assert list(tree.kept({_UID})) == [_OTHER_UID]
        tree.withdraw(_OTHER_UID, ["Artist/C.mp4"], [])
        tree.discard(_UID)
        assert tree.kept() == {}

    def test_an_old_file_whose_name_is_taken_is_found_as_well(self, tree: Tree) -> None:
        """After an undo that could not bring it back."""
        if not isinstance(tree, Keeper):
            pytest.skip("the tree does not tell what it keeps")
        self.write(tree, "Artist/Name.mp4", b"theirs")
        self._replace(tree)
        self.delete(tree, "Artist/Name.mp4")
        self.write(tree, "Artist/Name.mp4", b"later")
        tree.withdraw(_UID, ["Artist/Name.mp4"], [])
        assert [file.path for file in tree.kept()[_UID]] == ["Artist/Name.mp4"]

    def test_discard_deletes_what_was_replaced_and_nothing_else(self, tree: Tree) -> None:
        """The upload is removed: what it placed stays, and so does what another one replaced."""
        for name in ("1", "2"):
            self.write(tree, f"Artist/{name}.mp4", b"theirs " + name.encode())
        self._replace(tree, "Artist/1.mp4")
        tree.settle(_UID)
        self._replace(tree, "Artist/2.mp4", uid=_OTHER_UID)
        for _ in range(2):
            tree.discard(_UID)
        tree = self.reopen(tree)
        assert list(self.kept(tree, _UID)) == []
        assert list(self.kept(tree, _OTHER_UID)) == [b"theirs 2"]
        assert self.read(tree, "Artist/1.mp4") == b"data"
        tree.withdraw(_OTHER_UID, ["Artist/2.mp4"], [])
        assert self.read(tree, "Artist/2.mp4") == b"theirs 2"
        tree.discard("f" * 32)

    def test_an_upload_may_replace_what_another_one_placed(self, tree: Tree) -> None:
        """Taken back in turn, everything is as it was; out of turn, nothing is lost."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        first = self._replace(tree, data=b"first")
        tree.settle(_UID)
        second = self._replace(tree, data=b"second", uid=_OTHER_UID)
        tree.settle(_OTHER_UID)
        assert second.replaced == first.sha256
        with pytest.raises(Conflict):
            tree.remove(_UID, [first], [])
        tree.remove(_OTHER_UID, [second], [])
        assert self.read(tree, "Artist/Name.mp4") == b"first"
        tree.remove(_UID, [first], [])
        assert self.read(tree, "Artist/Name.mp4") == b"theirs"

    def test_what_another_upload_has_not_settled_is_not_replaced(self, tree: Tree) -> None:
        """It may be withdrawn, and would come back with the undo of who had replaced it."""
        self.write(tree, "Artist/Name.mp4", b"theirs")
        for replace in (False, True):
            path = "Artist/Name.mp4" if replace else "Artist/New.mp4"
            tree.place(_UID, path, io.BytesIO(b"first"), replace=replace)
            for _ in range(2):
                with pytest.raises(Conflict) as caught:
                    self._replace(tree, path, data=b"second", uid=_OTHER_UID)
                assert caught.value.code == "conflict"
                assert path in caught.value.sentence
                assert self.read(tree, path) == b"first"
                tree = self.reopen(tree)
            tree.withdraw(_UID, [path], [])
            second = self._replace(tree, path, data=b"second", uid=_OTHER_UID)
            tree.settle(_OTHER_UID)
            tree.remove(_OTHER_UID, [second], [])
            tree.settle(_OTHER_UID)
            assert self.read(tree, path) == (b"theirs" if replace else None)

    def test_what_was_replaced_by_the_same_bytes_is_not_there_before_it_is_back(self, tree: Tree) -> None:
        """Else it came back when nobody had it any more."""
        first = tree.place(_UID, "Artist/Name.mp4", io.BytesIO(b"the same"))
        tree.settle(_UID)
        second = self._replace(tree, data=b"the same", uid=_OTHER_UID)
        tree.settle(_OTHER_UID)
        for _ in range(2):
            assert not tree.check(_UID, first)
            with pytest.raises(Conflict) as caught:
                tree.remove(_UID, [first], [])
            assert caught.value.code == "changed_since"
            assert tree.check(_OTHER_UID, second)
            tree = self.reopen(tree)
        tree.remove(_OTHER_UID, [second], [])
        tree.settle(_OTHER_UID)
        assert tree.check(_UID, first)
        tree.remove(_UID, [first], [])
        tree.settle(_UID)
        assert not tree.exists("Artist/Name.mp4")

    def test_of_many_that_replace_a_file_each_keeps_what_it_found(self, tree: Tree) -> None:
        """One after the other, in whatever order: no file is lost, and the name is never free for the next one."""
        self.write(tree, "Artist/Name.mp4", b"theirs")

        def work(number: int) -> PlacedFile:
            uid = f"{number:032x}"
            while True:
                with suppress(Conflict):  # it is not settled, so that somebody else has to wait
                    placed = self._replace(tree, data=b"%d" % number, uid=uid)
                    tree.settle(uid)
                    return placed

        placed = _parallel(work)
        data = self.read(tree, "Artist/Name.mp4")
        assert data is not None
        left = [data, *(old for number in range(len(placed)) for old in self.kept(tree, f"{number:032x}"))]
        assert sorted(left) == sorted([b"theirs", *(b"%d" % number for number in range(len(placed)))])

    # ── settle ────────────────────────────────────────────────────────────────────────────────────────────────

    def test_settle_keeps_the_file_and_forgets_the_rest(self, tree: Tree) -> None:
        """Once the placement is on record there is nothing to adopt."""
        placed = self._place(tree)
        assert list(tree.unsettled()) == [_UID]
        tree.settle(_UID)
        tree.settle(_UID)
        tree.settle(_OTHER_UID)
        assert list(tree.unsettled()) == []
        assert tree.check(_UID, placed)
        assert self.read(tree, placed.path) == b"data"

    def test_settle_is_about_one_upload(self, tree: Tree) -> None:
        """Another one's files can still be adopted."""
        self._place(tree, "one.mp4")
        placed = self._place(tree, "two.mp4", uid=_OTHER_UID)
        tree.settle(_UID)
        assert list(tree.unsettled()) == [_OTHER_UID]
        assert self._place(tree, "two.mp4", uid=_OTHER_UID) == placed

    def test_adopting_works_after_a_restart(self, tree: Tree) -> None:
        """That is what it is for."""
        placed = self._place(tree)
        tree = self.reopen(tree)
        assert list(tree.unsettled()) == [_UID]
        assert self._place(tree) == placed
        tree.settle(_UID)
        assert list(tree.unsettled()) == []

    # ── withdraw ──────────────────────────────────────────────────────────────────────────────────────────────

    def test_withdraw_takes_back_what_was_not_settled(self, tree: Tree) -> None:
        """With the directories that are empty again; idempotent."""
        directories = tree.missing_directories("Artist/Album/Name.mp4")
        self._place(tree, "Artist/Album/Name.mp4")
        for _ in range(2):
            tree.withdraw(_UID, ["Artist/Album/Name.mp4"], directories)
        assert not tree.exists("Artist/Album/Name.mp4")
        assert not tree.exists("Artist")
        assert list(tree.unsettled()) == []
        self._place(tree, "Artist/Album/Name.mp4", uid=_OTHER_UID)

    def test_withdraw_works_after_a_restart(self, tree: Tree) -> None:
        """An upload that is removed in the middle of its integration leaves nothing."""
        self._place(tree, "Artist/Name.mp4")
        tree = self.reopen(tree)
        tree.withdraw(_UID, ["Artist/Name.mp4"], ["Artist"])
        assert not tree.exists("Artist")

    def test_withdraw_touches_nothing_else(self, tree: Tree) -> None:
        """Not what is settled, another's or nobody's, and no directory that was not named or is not empty."""
        self.write(tree, "Artist/theirs.mp4", b"theirs")
        self._place(tree, "Artist/other.mp4", b"other", _OTHER_UID)
        self._place(tree, "Artist/settled.mp4", b"settled")
        tree.settle(_UID)
        self._place(tree, "Artist/Album/mine.mp4")
        names = ("theirs", "other", "settled", "missing")
        tree.withdraw(_UID, [f"Artist/{name}.mp4" for name in names], ["Artist", "Artist/Album"])
        assert self.read(tree, "Artist/theirs.mp4") == b"theirs"
        assert self.read(tree, "Artist/other.mp4") == b"other"
        assert self.read(tree, "Artist/settled.mp4") == b"settled"

    def test_directories_that_were_not_named_stay(self, tree: Tree) -> None:
        """They were there before, empty or not."""
        self._place(tree, "Artist/Album/Name.mp4")
        tree.withdraw(_UID, ["Artist/Album/Name.mp4"], ["Artist/Album"])
        assert not tree.exists("Artist/Album")
        assert tree.exists("Artist")

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────

    def test_missing_directories_outermost_first(self, tree: Tree) -> None:
        """Those that `place` would make, and no others; asking makes none."""
        assert tuple(tree.missing_directories("Name.mp4")) == ()
        assert tuple(tree.missing_directories("A/B/C.mp4")) == ("A", "A/B")
        assert not tree.exists("A")
        self._place(tree, "A/x.mp4")
        assert tuple(tree.missing_directories("A/B/C.mp4")) == ("A/B",)
        assert tuple(tree.missing_directories("A/C.mp4")) == ()

    def test_exists_knows_files_and_directories(self, tree: Tree) -> None:
        """Anything that has the name."""
        assert not tree.exists("A/B.mp4")
        self._place(tree, "A/B.mp4")
        assert tree.exists("A/B.mp4")
        assert tree.exists("A")
        assert not tree.exists("A/C.mp4")

    def test_names_are_those_in_a_directory(self, tree: Tree) -> None:
        """Sorted, files and directories; hidden ones, and what is further down, are not among them."""
        assert list(tree.names()) == list(tree.names("Artist")) == list(tree.names("Artist/Album")) == []
        for path in ("Artist/b.mp4", "Artist/Album/c.mp4", "Artist/a.mp4", "Artist/.hidden", "Other/x.mp4"):
            self.write(tree, path, b"theirs")
        self._place(tree, "Artist/Z.mp4")
        assert list(tree.names("Artist")) == ["Album", "Z.mp4", "a.mp4", "b.mp4"]
        assert list(tree.names("Artist/Album")) == ["c.mp4"]
        assert list(tree.names()) == ["Artist", "Other"]
        assert list(tree.names("Art")) == list(tree.names("Artist/Album/Deeper/Down")) == []

    def test_check_notices_any_change(self, tree: Tree) -> None:
        """A file that is gone is no change; undo has less to do."""
        placed = self._place(tree)
        tree.settle(_UID)
        assert tree.check(_UID, placed)
        for data in (b"dataX", b"dat", b"DATA", b""):
            self.write(tree, placed.path, data)
            assert not tree.check(_UID, placed)
        self.write(tree, placed.path, b"data")
        assert tree.check(_UID, placed)
        tree.remove(_UID, [placed], [])
        assert tree.check(_UID, placed)

    # ── remove ────────────────────────────────────────────────────────────────────────────────────────────────

    def test_a_removal_that_is_repeated_spares_what_came_since(self, tree: Tree) -> None:
        """The same bytes under the same name, from another upload: until `settle`, the tree knows whose they are."""
        placed = self._place(tree)
        tree.settle(_UID)
        tree.remove(_UID, [placed], [])
        theirs = self._place(tree, uid=_OTHER_UID)
        tree.settle(_OTHER_UID)
        assert tree.check(_UID, placed)
        assert not tree.holds(_UID, placed)
        assert tree.holds(_OTHER_UID, theirs)
        tree.remove(_UID, [placed], [])
        assert tree.exists(placed.path)
        tree.settle(_UID)
        tree.remove(_OTHER_UID, [theirs], [])
        assert not tree.exists(placed.path)
        tree.settle(_OTHER_UID)
        assert list(tree.unsettled()) == []

    def test_remove_takes_files_and_empty_directories(self, tree: Tree) -> None:
        """Idempotent, and files that are gone are no error."""
        directories = tree.missing_directories("A/B/1.mp4")
        files = [self._place(tree, "A/B/1.mp4"), self._place(tree, "A/B/2.mp4")]
        tree.settle(_UID)
        for _ in range(2):
            tree.remove(_UID, files, directories)
        assert not tree.exists("A")
        tree.remove(_UID, [], [])

    def test_remove_keeps_directories_with_something_in_them(self, tree: Tree) -> None:
        """Whoever's it is."""
        file = self._place(tree, "A/B/1.mp4")
        self.write(tree, "A/theirs.txt", b"theirs")
        tree.remove(_UID, [file], ["A", "A/B"])
        assert not tree.exists("A/B")
        assert self.read(tree, "A/theirs.txt") == b"theirs"

    def test_remove_of_a_changed_file_removes_nothing(self, tree: Tree) -> None:
        """Undo would lose somebody's work."""
        files = [self._place(tree, f"A/{n}.mp4") for n in range(3)]
        tree.settle(_UID)
        self.write(tree, "A/1.mp4", b"edited")
        with pytest.raises(Conflict) as conflict:
            tree.remove(_UID, files, ["A"])
        assert conflict.value.code == "changed_since"
        assert [self.read(tree, f.path) for f in files] == [b"data", b"edited", b"data"]

    # ── paths ─────────────────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize(
        "path", ["../x", "a/../../x", "..", ".", "", "/etc/x", "a//b", "a/", "./a", "a/.", "a\0b", "/"]
    )
    def test_a_path_that_leads_out_is_refused_everywhere(self, tree: Tree, path: str) -> None:
        """Names are made safe before they come here. This is the second lock on the door."""
        attempts: list[Callable[[], object]] = [
            lambda: self._place(tree, path),
            lambda: tree.exists(path),
            lambda: tree.missing_directories(path),
            lambda: tree.check(_UID, PlacedFile("music", path, 1, "a" * 64)),
            lambda: tree.remove(_UID, [PlacedFile("music", path, 1, "a" * 64)], []),
            lambda: tree.remove(_UID, [], [path]),
            lambda: tree.withdraw(_UID, [path], []),
            lambda: tree.withdraw(_UID, [], [path]),
            lambda: self._replace(tree, path),
            lambda: tree.names(path or "."),
        ]
        for attempt in attempts:
            with pytest.raises(StorageError) as refusal:
                attempt()
            assert refusal.value.code == "unsafe_path"

    def test_a_file_in_the_way_of_a_directory_is_refused(self, tree: Tree) -> None:
        """And stays."""
        self.write(tree, "Artist", b"a file")
        with pytest.raises(StorageError) as refusal:
            self._place(tree, "Artist/Name.mp4")
        assert refusal.value.code == "unsafe_path"
        with pytest.raises(StorageError) as refusal:
            tree.names("Artist")
        assert refusal.value.code == "unsafe_path"
        assert self.read(tree, "Artist") == b"a file"


# ── notices ───────────────────────────────────────────────────────────────────────────────────────────────────


def _notice(number: int, uploadid: str = "one") -> Notice:
    return Notice(NoticeKind.STATE_UPDATE, uploadid, chunksize=number)


class _Ear:
    """A subscriber that remembers."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self._queue: queue.SimpleQueue[Notice] = queue.SimpleQueue()

    def __call__(self, notice: Notice) -> None:
        self.heard.append(notice.chunksize)
        self._queue.put(notice)

    def wait(self, number: int) -> None:
        """Until so many more were heard."""
        for _ in range(number):
            self._queue.get(timeout=_PATIENCE)


class EventBusContract:
    """Every promise of `EventBus`. See the module for its use."""

    isolated = True
    """Whether a subscriber that blocks delays no other. Set it to ``False`` for a bus that delivers one by one."""

    # ── what the author of an adapter gives ───────────────────────────────────────────────────────────────────

    @pytest.fixture
    def bus(self) -> Iterable[EventBus]:
        """A bus that nobody listens to; override it, and close it afterwards."""
        raise NotImplementedError("Override the fixture `bus`.")

    def _tell(self, bus: EventBus, *numbers: int, uploadid: str = "one") -> None:
        bus.publish([_notice(number, uploadid) for number in numbers])
        bus.flush()

    # ── delivery ──────────────────────────────────────────────────────────────────────────────────────────────

    def test_the_order_of_calls_is_the_order_of_delivery(self, bus: EventBus) -> None:
        """For every subscriber."""
        ears = [_Ear(), _Ear(), _Ear()]
        for ear in ears:
            bus.subscribe(ear)
        for start in range(0, 1000, 10):
            bus.publish([_notice(start + i) for i in range(10)])
        bus.flush()
        for ear in ears:
            ear.wait(1000)
            assert ear.heard == list(range(1000))

    def test_nobody_listens(self, bus: EventBus) -> None:
        """No error, and whoever comes later hears nothing of it."""
        self._tell(bus, 1, 2)
        bus.subscribe(ear := _Ear())
        self._tell(bus)
        self._tell(bus, 3)
        ear.wait(1)
        assert ear.heard == [3]

    def test_publish_calls_no_subscriber(self, bus: EventBus) -> None:
        """It is called under an upload's lock."""
        publishing = threading.local()
        wrong: list[Notice] = []
        bus.subscribe(lambda notice: wrong.append(notice) if getattr(publishing, "now", False) else None)
        bus.subscribe(ear := _Ear())
        publishing.now = True
        bus.publish([_notice(1)])
        publishing.now = False
        bus.flush()
        ear.wait(1)
        assert wrong == []

    def test_what_many_threads_publish_comes_in_the_order_of_each(self, bus: EventBus) -> None:
        """The notices of one upload never overtake each other."""
        heard: dict[str, list[int]] = {}
        everything = threading.Semaphore(0)

        def listen(notice: Notice) -> None:
            heard.setdefault(notice.uploadid, []).append(notice.chunksize)
            everything.release()

        bus.subscribe(listen)

        def work(number: int) -> None:
            for i in range(100):
                self._tell(bus, i, uploadid=str(number))

        _parallel(work)
        for _ in range(_THREADS * 100):
            assert everything.acquire(timeout=_PATIENCE)
        assert heard == {str(number): list(range(100)) for number in range(_THREADS)}

    # ── subscribers ───────────────────────────────────────────────────────────────────────────────────────────

    def test_a_subscriber_that_raises_disturbs_nobody(self, bus: EventBus, caplog: pytest.LogCaptureFixture) -> None:
        """Neither the one who publishes, nor others, nor itself the next time. It is said in the log."""
        heard = []

        def raises(notice: Notice) -> None:
            heard.append(notice.chunksize)
            raise ValueError("a mistake in a subscriber")

        before, after = _Ear(), _Ear()
        with caplog.at_level(logging.ERROR):
            for subscriber in (before, raises, after):
                bus.subscribe(subscriber)
            self._tell(bus, 1, 2)
            self._tell(bus, 3)
            for ear in (before, after):
                ear.wait(3)
                assert ear.heard == [1, 2, 3]
            bus.close()
        assert heard == [1, 2, 3]
        assert "a mistake in a subscriber" in caplog.text

    def test_after_unsubscribing_nothing_is_heard(self, bus: EventBus) -> None:
        """Taking off twice is no error."""
        gone, stays = _Ear(), _Ear()
        unsubscribe = bus.subscribe(gone)
        bus.subscribe(stays)
        self._tell(bus, 1)
        gone.wait(1)
        unsubscribe()
        unsubscribe()
        self._tell(bus, 2)
        stays.wait(2)
        bus.close()
        assert gone.heard == [1]
        assert stays.heard == [1, 2]

    def test_a_function_that_subscribed_twice_hears_twice(self, bus: EventBus) -> None:
        """Each subscription ends on its own, however often that is said."""
        ear = _Ear()
        first = bus.subscribe(ear)
        bus.subscribe(ear)
        self._tell(bus, 1)
        ear.wait(2)
        first()
        first()
        self._tell(bus, 2)
        ear.wait(1)
        bus.close()
        assert ear.heard == [1, 1, 2]

    def test_a_subscriber_may_take_itself_off_while_it_is_told(self, bus: EventBus) -> None:
        """Others miss nothing by it."""
        heard = []

        def once(notice: Notice) -> None:
            heard.append(notice.chunksize)
            unsubscribe()

        before = _Ear()
        bus.subscribe(before)
        unsubscribe = bus.subscribe(once)
        bus.subscribe(after := _Ear())
        self._tell(bus, 1, 2, 3)
        for ear in (before, after):
            ear.wait(3)
        bus.close()
        assert heard == [1]
        assert before.heard == after.heard == [1, 2, 3]

    def test_subscribers_may_come_while_others_are_told(self, bus: EventBus) -> None:
        """They hear what is published afterwards."""
        late = _Ear()
        come = threading.Event()

        def invite(notice: Notice) -> None:
            if not come.is_set():
                bus.subscribe(late)
                come.set()

        bus.subscribe(invite)
        self._tell(bus, 1)
        assert come.wait(_PATIENCE)
        self._tell(bus, 2)
        late.wait(1)
        bus.close()
        assert late.heard[-1] == 2

    def test_a_subscriber_may_publish(self, bus: EventBus) -> None:
        """It calls the engine, which has something to tell; order is kept."""

        def answer(notice: Notice) -> None:
            if notice.chunksize < 5:
                self._tell(bus, notice.chunksize + 1)

        bus.subscribe(answer)
        bus.subscribe(ear := _Ear())
        self._tell(bus, 1)
        ear.wait(5)
        assert ear.heard == [1, 2, 3, 4, 5]

    def test_a_subscriber_that_blocks_does_not_stop_the_publishers(self, bus: EventBus) -> None:
        """`publish` never blocks, and neither does `flush` while somebody else delivers."""
        entered, let_go = threading.Event(), threading.Event()

        def slow(notice: Notice) -> None:
            entered.set()
            let_go.wait(_PATIENCE)

        bus.subscribe(slow)
        deliverer = threading.Thread(target=self._tell, args=(bus, 1))
        deliverer.start()
        try:
            assert entered.wait(_PATIENCE)
            other = threading.Thread(target=self._tell, args=(bus, 2, 3))
            other.start()
            other.join(_PATIENCE)
            assert not other.is_alive()
        finally:
            let_go.set()
            deliverer.join(_PATIENCE)

    def test_a_subscriber_that_blocks_delays_no_other(self, bus: EventBus) -> None:
        """One client's slowness stops nobody else."""
        if not self.isolated:
            pytest.skip("this bus is not `isolated`: it tells one subscriber after the other")
        let_go = threading.Event()

        def slow(notice: Notice) -> None:
            let_go.wait(_PATIENCE)

        bus.subscribe(slow)
        bus.subscribe(ear := _Ear())
        try:
            self._tell(bus, *range(100))
            ear.wait(100)
        finally:
            let_go.set()

    # ── close ─────────────────────────────────────────────────────────────────────────────────────────────────

    def test_close_delivers_what_is_queued_and_ends_it(self, bus: EventBus) -> None:
        """Also without a flush before. Closing twice is no error."""
        bus.subscribe(ear := _Ear())
        bus.publish([_notice(number) for number in range(100)])
        bus.close()
        assert ear.heard == list(range(100))
        self._tell(bus, 100)
        bus.close()
        assert ear.heard == list(range(100))

    def test_a_subscriber_may_close(self, bus: EventBus) -> None:
        """It does not wait for itself."""
        bus.subscribe(lambda notice: bus.close())
        bus.subscribe(ear := _Ear())
        thread = threading.Thread(target=self._tell, args=(bus, 1))
        thread.start()
        thread.join(_PATIENCE)
        assert not thread.is_alive()
        ear.wait(1)


# ── work ──────────────────────────────────────────────────────────────────────────────────────────────────────


class WorkQueueContract:
    """Every promise of `WorkQueue`. See the module for its use."""

    # ── what the author of an adapter gives ───────────────────────────────────────────────────────────────────

    @pytest.fixture
    def work(self) -> WorkQueue:
        """An empty queue; override it."""
        raise NotImplementedError("Override the fixture `work`.")

    def _wait_in_threads(self, work: WorkQueue, then: Callable[[], None], threads: int = 4) -> None:
        """Some threads wait without end; ``then`` must let them all return."""
        waiting = [threading.Thread(target=work.wait, args=(0.0, None), daemon=True) for _ in range(threads)]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            for _ in range(int(_PATIENCE * 100)):
                then()  # again and again: who is not waiting yet is not woken
                thread.join(0.01)
                if not thread.is_alive():
                    break
        assert not any(thread.is_alive() for thread in waiting)

    # ── take ──────────────────────────────────────────────────────────────────────────────────────────────────

    def test_an_empty_queue_gives_nothing(self, work: WorkQueue) -> None:
        """Whatever the time."""
        assert work.take(0.0) is None
        assert work.take(1e12) is None

    def test_what_is_due_first_comes_first(self, work: WorkQueue) -> None:
        """Whatever the order of submission."""
        items = [WorkItem(time, f"id{time}", _UID) for time in (3.0, 1.0, 4.0, 1.5, 0.0, 2.0)]
        for item in items:
            work.submit(item)
        taken = []
        while (item_ := work.take(10.0)) is not None:
            taken.append(item_)
        assert taken == sorted(items)

    def test_nothing_comes_before_its_time(self, work: WorkQueue) -> None:
        """At its time it does."""
        later, now = WorkItem(100.0, "later", _UID), WorkItem(10.0, "now", _UID)
        work.submit(later)
        work.submit(now)
        assert work.take(9.999) is None
        assert work.take(10.0) == now
        assert work.take(99.999) is None
        assert work.take(100.0) == later

    def test_what_was_taken_may_be_submitted_again(self, work: WorkQueue) -> None:
        """A step that failed is tried again."""
        item = WorkItem(0.0, "one", _UID)
        for _ in range(3):
            work.submit(item)
            assert work.take(0.0) == item
        work.submit(item)
        work.submit(WorkItem(0.0, "one", _OTHER_UID))
        assert {cast("WorkItem", work.take(0.0)).uid, cast("WorkItem", work.take(0.0)).uid} == {_UID, _OTHER_UID}

    def test_nothing_is_lost_between_many_threads(self, work: WorkQueue) -> None:
        """Everything that was submitted is taken at least once."""
        items = {WorkItem(float(i % 7), f"{n}-{i}", _UID) for n in range(8) for i in range(100)}
        taken: list[WorkItem] = []

        def run(number: int) -> None:
            if number < 8:
                for item in items:
                    if item.id.startswith(f"{number}-"):
                        work.submit(item)
            while (item_ := work.take(10.0)) is not None:
                taken.append(item_)

        _parallel(run)
        while (item_ := work.take(10.0)) is not None:
            taken.append(item_)
        assert set(taken) == items

    # ── wait ──────────────────────────────────────────────────────────────────────────────────────────────────

    def test_wait_returns_at_once_when_something_is_due(self, work: WorkQueue) -> None:
        """It is not taken by that."""
        item = WorkItem(5.0, "one", _UID)
        work.submit(item)
        work.wait(5.0, None)
        assert work.take(5.0) == item

    def test_wait_ends_with_its_timeout(self, work: WorkQueue) -> None:
        """With nothing there, and with something that is due much later."""
        work.wait(0.0, 0.0)
        work.wait(0.0, 0.01)
        work.submit(WorkItem(1e9, "one", _UID))
        work.wait(0.0, 0.01)

    def test_wait_ends_when_the_time_of_the_next_item_has_come(self, work: WorkQueue) -> None:
        """Without a timeout, and without anybody who wakes it."""
        work.submit(WorkItem(100.01, "one", _UID))
        thread = threading.Thread(target=work.wait, args=(100.0, None), daemon=True)
        thread.start()
        thread.join(_PATIENCE)
        assert not thread.is_alive()

    def test_wait_ends_when_something_is_submitted(self, work: WorkQueue) -> None:
        """Also when what was there before is due much later."""
        work.submit(WorkItem(1e9, "later", _UID))
        number = iter(range(10_000))
        self._wait_in_threads(work, lambda: work.submit(WorkItem(0.0, f"{next(number)}", _UID)), threads=1)

    def test_wake_lets_everybody_return(self, work: WorkQueue) -> None:
        """With nothing to do."""
        self._wait_in_threads(work, work.wake)
        assert work.take(1e12) is None

    def test_close_lets_everybody_return(self, work: WorkQueue) -> None:
        """And from then on nobody waits."""
        self._wait_in_threads(work, work.close)
        work.wait(0.0, None)
        work.wait(0.0, None)
        work.close()

    def test_submitting_after_close_is_no_error(self, work: WorkQueue) -> None:
        """A step that ends while everything is closed has something to submit."""
        work.close()
        work.submit(WorkItem(0.0, "one", _UID))
