"""Every operation of the engine against the contract: what it does, whom it tells, what it refuses and how."""

from __future__ import annotations

import errno
import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import attrs
import pytest

from stagedoor import engine
from stagedoor.adapters.inprocess import ThreadedBus
from stagedoor.adapters.local import Durability
from stagedoor.adapters.memory import MemoryBytes, MemoryTasks, MemoryTree
from stagedoor.engine import Uploads
from stagedoor.errors import (
    ConfigurationError,
    Conflict,
    ContentRejected,
    DataLost,
    Duplicate,
    InUse,
    OffsetMismatch,
    Refused,
    StorageError,
    StorageFull,
    TooLarge,
    WrongState,
)
from stagedoor.library.catalogue import Catalogue
from stagedoor.library.memory import MemoryLibrary, NullLibrary
from stagedoor.lifecycle import DUE_STATES, ROWS, STORED_STATES, By, State, Trigger, ladders
from stagedoor.notices import Notice, NoticeKind
from stagedoor.ports import Buffer, Illustrated, Source, Surroundings
from stagedoor.settings import Settings
from stagedoor.tasks import Offer, Plan, PlannedFile, UploadTask, to_dict
from stagedoor.testing.content import PlainContent
from stagedoor.testing.disk import Crash, FuseDisk

if TYPE_CHECKING:
    from conftest import House

S, T = State, Trigger
REQUEST, UPDATE, ERROR = "ChunkRequest", "StateUpdate", "InternalError"
DAY = 86_400.0
LIVE = tuple(s for s in STORED_STATES if s is not S.REMOVE)
FAILURES = (S.UPLOADFAILED, S.INVALIDCONTENT, S.INTEGRATIONFAILED, S.IMPORTFAILED)

OPERATIONS: dict[Trigger, Callable[[Uploads], object]] = {
    T.CHUNK: lambda u: u.receive("one", offset=0, data=b"x"),
    T.DECLARE: lambda u: u.declare("one", sha1="1" * 40),
    T.ANNOTATE: lambda u: u.annotate("one", mood="good"),
    T.REQUEST: lambda u: u.request("one"),
    T.START_IMPORT: lambda u: u.start_import("one"),
    T.RETRY: lambda u: u.retry("one"),
    T.REQUEST_UNDO: lambda u: u.undo("one"),
    T.EXPIRE: lambda u: u.expire("one"),
    T.REMOVE: lambda u: u.remove("one"),
}


def sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def fail(error: BaseException) -> Callable[..., NoReturn]:
    """A hook, or a subscriber, that raises."""

    def hook(*_: object, **__: object) -> NoReturn:
        raise error

    return hook


class TestEveryOperation:
    @pytest.mark.parametrize(
        ("trigger", "state"),
        [(t, s) for t in OPERATIONS for s in STORED_STATES if (t, s) not in ladders()],
        ids=str,
    )
    def test_in_a_state_without_a_row_is_refused(self, house: House, trigger: Trigger, state: State) -> None:
        house.bring(state)
        house.heard()
        house.took()
        with house.refused(WrongState, "wrong_state", says=f"{trigger} is not possible in state {state}. It needs: "):
            OPERATIONS[trigger](house.uploads)
        assert house.heard() == []
        assert house.took() == []

    @pytest.mark.parametrize("state", STORED_STATES)
    def test_a_refusal_says_where_it_would_be_possible_and_what_is_now(self, house: House, state: State) -> None:
        house.bring(state)
        now = sorted({row.trigger.value for row in ROWS if row.source is state and By.CLIENT in row.by})
        for trigger, operation in OPERATIONS.items():
            sources = sorted(row.source.value for row in ROWS if row.trigger is trigger)
            if state in sources:
                continue
            with pytest.raises(WrongState) as caught:
                operation(house.uploads)
            assert caught.value.sentence == (
                f"{trigger} is not possible in state {state}. It needs: {', '.join(sources)}. "
                f"Possible now: {', '.join(now) or 'nothing'}."
            )

    @pytest.mark.parametrize(
        ("trigger", "state"),
        [(t, s) for t in OPERATIONS for s in STORED_STATES if (t, s) in ladders() and t is not T.CHUNK],
        ids=str,
    )
    def test_in_a_state_with_a_row_takes_it_in_one_revision(self, house: House, trigger: Trigger, state: State) -> None:
        other: dict[str, Any] = {"sha1": None} if trigger is T.DECLARE else {}
        before = house.bring(state, **other)
        house.took()
        if trigger is T.EXPIRE:
            assert before.deadline is not None
            house.clock.forward(before.deadline - house.clock.now)
        OPERATIONS[trigger](house.uploads)
        (row, *rest) = house.took()
        assert row.startswith(f"{trigger}:{state}:")
        task = house.uploads.get("one")
        assert task.revision == before.revision + 1 + len(rest)
        assert len(rest) == (2 if trigger is T.REQUEST_UNDO else 0)  # begin, undo
        document = json.loads(house.document() or b"")
        assert (document["state"], document["revision"]) == (task.state, task.revision)
        assert document["updated"] == house.clock.now

    @pytest.mark.parametrize("trigger", OPERATIONS, ids=str)
    def test_with_an_unknown_id_tells_everybody(self, house: House, trigger: Trigger) -> None:
        with house.refused_unknown():
            OPERATIONS[trigger](house.uploads)

    @pytest.mark.parametrize("look", ["get", "plan", "integrate"])
    def test_with_an_unknown_id_tells_everybody_as_well(self, house: House, look: str) -> None:
        with house.refused_unknown():
            getattr(house.uploads, look)("one")

    @pytest.mark.parametrize("uploadid", ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a" * 129, "a\0", "ä", "a b"])
    def test_with_an_id_that_is_none_is_refused(self, house: House, uploadid: str) -> None:
        uploads = house.uploads
        for call in (
            lambda: uploads.get(uploadid),
            lambda: uploads.receive(uploadid, offset=0, data=b"x"),
            lambda: uploads.annotate(uploadid, name="x"),
            lambda: uploads.remove(uploadid),
            lambda: uploads.plan(uploadid),
            lambda: uploads.wait(uploadid, 0),
            lambda: house.offer(uploadid),
        ):
            with house.refused(Refused, "invalid_id", says="letters, digits, dots, dashes or underscores"):
                call()

    @pytest.mark.parametrize("uploadid", [None, 1, b"one"])
    def test_with_an_id_that_is_no_text_is_a_type_error(self, house: House, uploadid: Any) -> None:
        for call in (house.uploads.get, house.uploads.remove, house.uploads.retry, house.uploads.plan, house.offer):
            with pytest.raises(TypeError, match="must be a str"):
                call(uploadid)

    @pytest.mark.parametrize("state", STORED_STATES)
    def test_the_deadline_follows_the_state(self, house: House, state: State) -> None:
        task = house.bring(state)
        keep = Settings().retention.get(state)
        assert task.deadline == (None if keep is None else house.clock.now + keep)
        assert (keep is None) == (state in DUE_STATES or state is S.REMOVE)

    def test_retention_none_keeps_for_ever(self, closed: House) -> None:
        uploads = closed.open(retention={S.WAITFORCHUNK: None})
        assert closed.bring(S.WAITFORCHUNK).deadline is None
        closed.clock.forward(1000 * DAY)
        assert uploads.sweep() == 0

    def test_a_whole_life_takes_these_rows_and_tells_these_notices(self, house: House) -> None:
        uploads = house.uploads
        house.send(chunk=4)
        house.worker.drain(100)
        uploads.integrate("one", trigger_import=True)
        house.worker.drain(100)
        uploads.undo("one")
        uploads.remove("one")
        house.worker.drain(100)
        assert [(n.kind.value, n.state.value, n.offset, n.chunksize, n.message) for n in house.notices] == [
            (REQUEST, "waitforchunk", 0, 9, None),
            (REQUEST, "waitforchunk", 4, 5, None),
            (REQUEST, "waitforchunk", 8, 1, None),
            (UPDATE, "uploadcomplete", 9, 0, None),
            (UPDATE, "preprocessed", 9, 0, None),
            (UPDATE, "preprocessed", 9, 0, None),  # requested
            (UPDATE, "integrated", 9, 0, None),
            (UPDATE, "startimport", 9, 0, None),
            (UPDATE, "importartwork", 9, 0, None),
            (UPDATE, "importcomplete", 9, 0, None),
            (UPDATE, "importcomplete", 9, 0, None),  # undo requested
            (UPDATE, "preprocessed", 9, 0, None),
            (UPDATE, "remove", 9, 0, None),
        ]
        assert house.took() == [
            "chunk:waitforchunk:internal",
            "chunk:waitforchunk:internal",
            "chunk:waitforchunk:internal",
            "complete:waitforchunk:uploadcomplete",
            "begin:uploadcomplete:internal",
            "preprocess:uploadcomplete:preprocessed",
            "request:preprocessed:internal",
            "begin:preprocessed:internal",
            "integrate:preprocessed:integrated",
            "start_import:integrated:startimport",
            "begin:startimport:internal",
            "import_:startimport:importartwork",
            "begin:importartwork:internal",
            "import_artwork:importartwork:importcomplete",
            "request_undo:importcomplete:internal",
            "begin:importcomplete:internal",
            "undo:importcomplete:preprocessed",
            "remove:preprocessed:remove",
        ]
        revisions = [
            n.task.revision for n in house.notices if n.task is not None and n.kind is not NoticeKind.CHUNK_REQUEST
        ]
        assert revisions == sorted(set(revisions))
        assert house.everything()[1:3] == ({}, {})

    def test_content_without_artwork_skips_the_step(self, house: House) -> None:
        house.bring(S.STARTIMPORT, contenttype="sound")
        house.heard()
        house.worker.drain(100)
        assert house.heard() == [(UPDATE, "importcomplete", None)]

    def test_nothing_is_kept_in_memory_of_what_is_gone(self, house: House) -> None:
        for i, state in enumerate(STORED_STATES):
            house.bring(state, f"id{i}", annotations={"artistname": "Alpha", "name": f"Beta{i}"} if i != 6 else {})
        for task in house.uploads.tasks():
            if task.state is not S.REMOVE:
                house.uploads.remove(task.id)
        house.worker.drain(1000)
        assert house.uploads.list() == []
        uploads = house.uploads
        assert (uploads._locks, uploads._live, uploads._busy) == ({}, {}, set())
        assert uploads._counts.total() == 0
        assert uploads.work.take(1e12) is None

    def test_a_notice_follows_what_is_durable(self, house: House) -> None:
        """Promise 7: whoever hears of a change finds it on the disk."""
        seen: list[tuple[int, int]] = []

        def look(notice: Notice) -> None:
            if notice.task is not None and notice.task.state is not S.REMOVE:
                document = json.loads(house.document() or b"{}")
                seen.append((notice.task.revision, document["revision"]))

        house.uploads.subscribe(look)
        house.bring(S.IMPORTCOMPLETE)
        assert len(seen) == 8
        assert all(told <= stored for told, stored in seen)


class TestInitiate:
    def test_creates_the_upload_and_asks_for_the_first_chunk(self, house: House) -> None:
        task = house.uploads.initiate(house.offer(annotations={"name": "x"}))
        assert (task.id, task.state, task.offset, task.filesize, task.revision) == ("one", S.WAITFORCHUNK, 0, 9, 1)
        assert (task.contenttype, task.mimetype, task.sourcefilename) == ("video", "video/mp4", "film.mp4")
        assert task.sourcechecksum == sha1(house.DATA)
        assert dict(task.annotations) == {"name": "x"}
        assert (task.created, task.updated) == (house.clock.now, house.clock.now)
        assert [e.trigger for e in task.history] == ["create"]
        assert task.destinationpath == f"data/{task.key}/video-pending.mp4"
        assert house.stored() == b""
        assert json.loads(house.document() or b"")["state"] == "waitforchunk"
        (notice,) = house.notices
        assert (notice.kind, notice.uploadid, notice.task, notice.offset) == (REQUEST, "one", task, 0)
        assert (notice.chunksize, notice.message, notice.code) == (9, None, None)

    def test_asks_for_chunks_of_musicdbs_size(self, house: House) -> None:
        house.uploads.initiate(house.offer(filesize=1 << 30))
        assert house.notices[0].chunksize == 409_600

    def test_a_length_that_is_not_known_yet_limits_no_chunk(self, house: House) -> None:
        house.uploads.initiate(house.offer(filesize=None))
        assert house.notices[0].chunksize == 409_600

    @pytest.mark.parametrize(
        ("filename", "mimetype", "extension"),
        [
            ("Film.MKV", "video/mp4", "mkv"),
            ("film", "video/webm", "webm"),
            ("film.m p4", "video/mp4", "mp4"),
            ("../../etc/passwd", "", "bin"),
            (".mp4", "odd/type", "bin"),
            ("film.waytoolongone", "image/jpeg", "jpg"),
            ("C:\\films\\a.webm", "", "webm"),
            *(
                ("file", mimetype, extension)
                for extension, mimetypes in {
                    "mp4": "video/mp4",
                    "m4v": "video/x-m4v",
                    "webm": "video/webm",
                    "mkv": "video/x-matroska",
                    "jpg": "image/jpeg",
                    "png": "image/png",
                    "webp": "image/webp",
                    "mp3": "audio/mpeg",
                    "m4a": "audio/mp4",
                    "aac": "audio/aac",
                    "flac": "audio/flac",
                    "ogg": "audio/ogg",
                    "opus": "audio/opus",
                    "wav": "audio/wav audio/x-wav",
                    "aiff": "audio/aiff",
                    "zip": "application/zip",
                    "tar": "application/x-tar",
                    "tgz": "application/gzip",
                }.items()
                for mimetype in mimetypes.split()
            ),
        ],
    )
    def test_the_extension_is_the_files_or_the_mime_types(
        self, house: House, filename: str, mimetype: str, extension: str
    ) -> None:
        task = house.uploads.initiate(house.offer(filename=filename, mimetype=mimetype))
        assert task.destinationpath == f"data/{task.key}/video-pending.{extension}"
        assert task.sourcefilename == filename

    @pytest.mark.parametrize(
        ("value", "wrong"),
        [
            ("filename", 1),
            ("contenttype", None),
            ("mimetype", b""),
            ("filesize", "9"),
            ("filesize", True),
            ("filesize", 9.0),
            ("sha1", 1),
            ("annotations", "x"),
        ],
    )
    def test_wrong_types_are_type_errors(self, house: House, value: str, wrong: object) -> None:
        with pytest.raises(TypeError):
            house.offer(**cast("dict[str, Any]", {value: wrong}))

    @pytest.mark.parametrize(
        ("value", "wrong", "error", "code"),
        [
            ("filesize", 0, Refused, "empty"),
            ("filesize", -1, Refused, "empty"),
            ("filesize", 2**63, TooLarge, "invalid_filesize"),
            ("sha1", "x" * 40, Refused, "invalid_checksum"),
            ("sha1", "a" * 39, Refused, "invalid_checksum"),
            ("contenttype", "", Refused, "invalid_contenttype"),
            ("contenttype", "../video", Refused, "invalid_contenttype"),
            ("filename", "x" * 1025, Refused, "invalid_filename"),
            ("filename", "a\0b", Refused, "invalid_filename"),
            ("mimetype", "\ud800", Refused, "invalid_mimetype"),
        ],
    )
    def test_impossible_values_are_refused(
        self, house: House, value: str, wrong: object, error: type[Refused], code: str
    ) -> None:
        with house.refused(error, code):
            house.offer(**cast("dict[str, Any]", {value: wrong}))

    @pytest.mark.parametrize(
        ("limits", "offer", "error", "code", "says"),
        [
            ({"allow": False}, {}, Refused, "uploads_off", "Switch them on"),
            ({}, {"contenttype": "poem"}, Refused, "unsupported_contenttype", "it has: sound, video"),
            ({"max_file_size": 8}, {}, TooLarge, "file_too_large", "up to 8"),
            ({"max_uploads": 0}, {}, TooLarge, "too_many_uploads", "Remove some"),
            ({"max_unfinished": 0}, {}, TooLarge, "too_many_unfinished", "Finish or remove some"),
            ({"free_floor": 1 << 62}, {}, StorageFull, "storage_full", "Free some space"),
        ],
    )
    def test_beyond_a_limit_nothing_is_created_and_everybody_is_told(
        self, closed: House, limits: dict[str, Any], offer: dict[str, Any], error: type[Refused], code: str, says: str
    ) -> None:
        uploads = closed.open(**limits)
        with closed.refused(error, code, says=says):
            uploads.initiate(closed.offer(**offer))
        assert closed.heard() == [(ERROR, "notexisting", code)]
        assert uploads.list() == []
        assert closed.files("uploads/data") == {}

    @pytest.mark.parametrize(
        ("annotations", "error", "code"),
        [
            ({"a": "x" * 100}, TooLarge, "annotations_too_large"),
            ({"a": [[[[1]]]]}, TooLarge, "annotations_too_deep"),
            ({"a": object()}, Refused, "annotations_invalid"),
        ],
    )
    def test_annotations_beyond_a_limit_create_nothing(
        self, closed: House, annotations: dict[str, Any], error: type[Refused], code: str
    ) -> None:
        uploads = closed.open(max_annotations=100, max_annotation_depth=3)
        with closed.refused(error, code):
            uploads.initiate(closed.offer(annotations=annotations))
        assert uploads.list() == []

    def test_just_within_every_limit_is_fine(self, closed: House) -> None:
        size = len(json.dumps(closed.NAMES, separators=(",", ":")))
        uploads = closed.open(
            max_file_size=9, max_uploads=1, max_unfinished=1, max_annotations=size, max_annotation_depth=1, max_chunk=9
        )
        assert uploads.initiate(closed.offer()).state is S.WAITFORCHUNK
        assert uploads.receive("one", offset=0, data=closed.DATA).state is S.UPLOADCOMPLETE

    def test_the_disk_must_keep_room_for_the_file_above_the_floor(self, closed: House) -> None:
        uploads = closed.open()
        free = os.statvfs(closed.root)
        room = free.f_bavail * free.f_frsize
        with closed.refused(StorageFull, "storage_full"):
            uploads.initiate(closed.offer(filesize=2 * room))

    def test_what_is_removed_makes_room_again(self, closed: House) -> None:
        uploads = closed.open(max_uploads=1)
        closed.bring(S.REMOVE)
        with closed.refused(TooLarge, "too_many_uploads"):
            uploads.initiate(closed.offer("two"))
        closed.worker.drain(100)
        assert uploads.initiate(closed.offer("two")).state is S.WAITFORCHUNK

    def test_what_is_finished_makes_room_for_unfinished_ones(self, closed: House) -> None:
        uploads = closed.open(max_unfinished=1)
        closed.bring(S.WAITFORCHUNK)
        with closed.refused(TooLarge, "too_many_unfinished"):
            uploads.initiate(closed.offer("two"))
        closed.restart(max_unfinished=1)
        with closed.refused(TooLarge, "too_many_unfinished"):
            closed.uploads.initiate(closed.offer("two"))
        closed.uploads.receive("one", offset=0, data=closed.DATA)
        closed.worker.drain(100)
        assert closed.uploads.initiate(closed.offer("two")).state is S.WAITFORCHUNK

    def test_the_last_one_within_a_limit_is_fine(self, closed: House) -> None:
        uploads = closed.open(max_unfinished=2)
        closed.bring(S.WAITFORCHUNK)
        closed.bring(S.WAITFORCHUNK, "two")
        with closed.refused(TooLarge, "too_many_unfinished"):
            uploads.initiate(closed.offer("three"))

    @pytest.mark.parametrize("floor", [91, 92])
    def test_the_floor_itself_may_be_reached(self, closed: House, monkeypatch: pytest.MonkeyPatch, floor: int) -> None:
        monkeypatch.setattr("stagedoor.adapters.local.LocalBytes.free", lambda _: 100)
        uploads = closed.open(free_floor=floor)
        if floor == 91:
            assert uploads.initiate(closed.offer()).filesize == 9
        else:
            with closed.refused(StorageFull, "storage_full"):
                uploads.initiate(closed.offer())

    def test_what_could_not_be_created_takes_no_room(self, closed: House) -> None:
        uploads = closed.open(max_uploads=2, max_unfinished=2)
        closed.before["bytes.create"] = fail(StorageError("The disk is tired."))
        for _ in range(3):
            with pytest.raises(StorageError):
                uploads.initiate(closed.offer())
        closed.before.clear()
        closed.bring(S.WAITFORCHUNK)
        closed.bring(S.WAITFORCHUNK, "two")
        with closed.refused(TooLarge, "too_many_uploads"):
            uploads.initiate(closed.offer("three"))

    def test_two_threads_do_not_get_past_a_limit_together(self, closed: House) -> None:
        uploads, gate = closed.open(max_uploads=1), closed.gate()
        turns, decided = iter([gate]), threading.Event()

        def first_waits(*_: object) -> None:
            turn = next(turns, decided.set)  # the second should not come here
            turn()

        def offer(uploadid: str) -> str:
            try:
                return uploads.initiate(closed.offer(uploadid)).id
            except TooLarge as error:
                decided.set()
                return error.code

        closed.before["bytes.create"] = first_waits
        with closed.threads(2) as pool:
            first = pool.submit(offer, "one")
            gate.reached()
            second = pool.submit(offer, "two")
            decided.wait(1)  # or it has to wait for the first, which is as well
            gate.open()
            assert [first.result(closed.PATIENCE), second.result(closed.PATIENCE)] == ["one", "too_many_uploads"]
        assert len(uploads.list()) == 1

    def test_again_resumes_at_the_offset_on_record(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        stored = house.everything()
        house.heard()
        task = house.uploads.initiate(house.offer(annotations={}))
        assert (task.offset, task.state) == (4, S.WAITFORCHUNK)
        assert [(n.kind, n.offset, n.chunksize) for n in house.notices] == [(REQUEST, 4, 5)]
        assert house.everything() == stored

    def test_again_resumes_after_a_restart(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        house.restart()
        assert house.uploads.initiate(house.offer()).offset == 4
        house.finish()

    def test_again_without_what_was_declared_resumes_too(self, house: House) -> None:
        uid = house.bring(S.WAITFORCHUNK).uid
        assert house.uploads.initiate(house.offer(filesize=None, sha1=None)).uid == uid

    @pytest.mark.parametrize("state", [s for s in LIVE if s not in (S.WAITFORCHUNK, S.UPLOADFAILED)])
    def test_again_in_a_later_state_changes_nothing_and_tells_the_state(self, house: House, state: State) -> None:
        data = {S.INVALIDCONTENT: b"bad film", S.IMPORTFAILED: b"noimport"}.get(state, house.DATA)
        before = house.bring(state)
        stored = house.everything()
        house.heard()
        assert house.uploads.initiate(house.offer(data=data)) == before
        assert house.heard() == [(UPDATE, state.value, before.code)]
        assert house.everything() == stored

    def test_again_after_a_failure_starts_over(self, house: House) -> None:
        before = house.bring(S.UPLOADFAILED)
        house.heard()
        task = house.uploads.initiate(house.offer(sha1=house.WRONG))
        assert (task.state, task.offset, task.uid, task.message) == (S.WAITFORCHUNK, 0, before.uid, None)
        assert house.heard() == [(UPDATE, "waitforchunk", None), (REQUEST, "waitforchunk", None)]

    def test_again_while_being_removed_is_refused(self, house: House) -> None:
        house.bring(S.REMOVE)
        house.heard()
        with house.refused(WrongState, "removing", says="Offer it again in a moment"):
            house.uploads.initiate(house.offer())
        assert house.heard() == [(ERROR, "remove", "removing")]

    def test_an_id_may_be_used_again_after_removal(self, house: House) -> None:
        before = house.bring(S.REMOVE)
        house.worker.drain(100)
        task = house.uploads.initiate(house.offer(data=b"something else"))
        assert task.uid != before.uid
        assert task.revision == 1

    @pytest.mark.parametrize(
        ("other", "says"),
        [
            ({"filesize": 10}, "filesize is 9, not 10"),
            ({"sha1": "1" * 40}, "sourcechecksum"),
            ({"contenttype": "sound"}, "contenttype is 'video', not 'sound'"),
            ({"filename": "other.mp4"}, "sourcefilename"),
        ],
    )
    @pytest.mark.parametrize("state", [S.WAITFORCHUNK, S.UPLOADCOMPLETE, S.IMPORTCOMPLETE])
    def test_another_declaration_is_refused(self, house: House, state: State, other: dict[str, Any], says: str) -> None:
        house.bring(state)
        house.heard()
        with house.refused(Duplicate, "duplicate", says=says):
            house.uploads.initiate(house.offer(**other))
        assert house.heard() == [(ERROR, state.value, "duplicate")]

    def test_two_threads_make_one_upload(self, house: House) -> None:
        gate = house.gate()
        house.before["bytes.create"] = gate
        with house.threads() as pool:
            first = pool.submit(house.uploads.initiate, house.offer())
            gate.reached()
            second = pool.submit(house.uploads.initiate, house.offer())
            gate.open()
            assert first.result(house.PATIENCE).uid == second.result(house.PATIENCE).uid
        assert house.heard() == [(REQUEST, "waitforchunk", None)] * 2
        assert len(house.files("uploads/tasks")) == 1

    @pytest.mark.parametrize("part", ["bytes.create", "tasks.create"])
    def test_a_disk_that_fails_leaves_nothing(self, house: House, part: str) -> None:
        house.before[part] = fail(StorageError("The disk is tired."))
        with house.refused(StorageError, "storage_error"):
            house.uploads.initiate(house.offer())
        assert house.heard() == [(ERROR, "notexisting", "storage_error")]
        assert house.files("uploads/data") == {}
        assert os.listdir(house.root / "uploads" / "data") == []
        house.before.clear()
        house.finish("one")


class TestReceive:
    def test_stores_and_asks_for_the_next_chunk(self, house: House) -> None:
        before = house.bring(S.WAITFORCHUNK)
        document = house.document()
        house.heard()
        task = house.uploads.receive("one", offset=0, data=b"fine")
        assert (task.offset, task.state, task.revision) == (4, S.WAITFORCHUNK, before.revision)
        assert house.document() == document  # progress changes no document
        assert house.stored() == b"fine"
        assert [(n.kind, n.offset, n.chunksize) for n in house.notices] == [(REQUEST, 4, 5)]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_takes_any_bytes(self, house: House, kind: Callable[[bytes], Buffer]) -> None:
        house.bring(S.WAITFORCHUNK)
        assert house.uploads.receive("one", offset=0, data=kind(house.DATA)).state is S.UPLOADCOMPLETE

    def test_counts_bytes_and_not_words(self, house: House) -> None:
        house.uploads.initiate(house.offer(data=b"12345678"))
        task = house.uploads.receive("one", offset=0, data=memoryview(b"12345678").cast("I"))
        assert (task.state, task.offset) == (S.UPLOADCOMPLETE, 8)

    def test_the_last_chunk_verifies_and_names_the_file(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        house.heard()
        task = house.uploads.receive("one", offset=4, data=b" film")
        assert (task.state, task.offset, task.revision) == (S.UPLOADCOMPLETE, 9, 2)
        assert task.destinationpath == f"data/{task.key}/video-{sha1(b'fine film')}.mp4"
        assert house.stored() == b"fine film"
        assert sorted(os.listdir(house.root / "uploads" / "data" / task.key)) == [f"video-{sha1(b'fine film')}.mp4"]
        assert house.heard() == [(UPDATE, "uploadcomplete", None)]

    def test_the_wrong_bytes_fail_with_the_reason(self, house: House) -> None:
        task = house.bring(S.UPLOADFAILED)
        assert (task.code, task.revision) == ("checksum_mismatch", 2)
        assert sha1(house.DATA) in str(task.message)
        assert house.WRONG in str(task.message)
        assert house.heard()[-1] == (ERROR, "uploadfailed", "checksum_mismatch")
        assert house.notices == []
        house.finish()

    def test_what_was_stored_is_compared_and_not_what_was_sent(self, house: House) -> None:
        """After a restart the hash is made of the disk's bytes."""
        house.bring(S.WAITFORCHUNK)
        task = house.uploads.receive("one", offset=0, data=b"fine")
        (house.root / "uploads" / task.destinationpath).write_bytes(b"fire")
        house.restart()
        house.uploads.receive("one", offset=4, data=b" film")
        house.worker.drain(100)
        assert house.uploads.get("one").code == "checksum_mismatch"

    def test_an_unknown_checksum_is_worked_out(self, house: House) -> None:
        task = house.send(sha1=None)
        assert (task.state, task.sourcechecksum) == (S.UPLOADCOMPLETE, sha1(house.DATA))

    @pytest.mark.parametrize(
        ("offset", "data", "error", "code", "says"),
        [
            (4, b"", Refused, "empty_chunk", "Send at least one byte"),
            (0, b"", Refused, "empty_chunk", "Send at least one byte"),
            (4, b"12345", TooLarge, "chunk_too_large", "Send smaller ones"),
            (5, b"x", OffsetMismatch, "offset_mismatch", "Send from 4 on"),
            (3, b"ex", OffsetMismatch, "offset_mismatch", "Send from 4 on"),
            (0, b"fin!", OffsetMismatch, "offset_mismatch", "Send from 4 on"),
            (-1, b"x", OffsetMismatch, "offset_mismatch", "Send from 4 on"),
            (-4, b"fine", OffsetMismatch, "offset_mismatch", "Send from 4 on"),
            (4, b"abcd", TooLarge, "beyond_the_end", "the file at 7"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, closed: House, offset: int, data: bytes, error: type[Refused], code: str, says: str
    ) -> None:
        uploads = closed.open(max_chunk=4)
        uploads.initiate(closed.offer(data=b"fine fi"))
        uploads.receive("one", offset=0, data=b"fine")
        closed.heard()
        with closed.refused(error, code, guard="chunk_fits", says=says) as caught:
            uploads.receive("one", offset=offset, data=data)
        assert getattr(caught.value, "expected", 4) == 4
        assert closed.heard() == []
        assert uploads.receive("one", offset=4, data=b" fi").state is S.UPLOADCOMPLETE

    def test_switched_off_later_takes_no_more_chunks(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.restart(allow=False)
        with house.refused(Refused, "uploads_off", guard="chunk_fits"):
            house.uploads.receive("one", offset=0, data=b"fine")
        house.restart()
        house.uploads.receive("one", offset=0, data=house.DATA)
        house.finish()

    def test_without_a_length_the_largest_file_is_the_limit(self, closed: House) -> None:
        uploads = closed.open(max_file_size=4)
        uploads.initiate(closed.offer(filesize=None))
        uploads.receive("one", offset=0, data=b"fine")
        with closed.refused(TooLarge, "beyond_the_end", guard="chunk_fits"):
            uploads.receive("one", offset=4, data=b"!")

    @pytest.mark.parametrize("again", [False, True], ids=["running", "restarted"])
    @pytest.mark.parametrize(("offset", "data"), [(0, b"fi"), (0, b"fine"), (2, b"ne"), (1, b"i")])
    def test_a_chunk_whose_answer_was_lost_succeeds_again(
        self, house: House, again: bool, offset: int, data: bytes
    ) -> None:
        house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fi")
        house.uploads.receive("one", offset=2, data=b"ne")
        if again:
            house.restart()
        stored = house.everything()
        house.heard()
        task = house.uploads.receive("one", offset=offset, data=data)
        assert (task.offset, task.state) == (4, S.WAITFORCHUNK)
        assert house.everything() == stored
        assert [(n.kind, n.offset) for n in house.notices] == [(REQUEST, 4)]
        house.uploads.receive("one", offset=4, data=b" film")
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED

    def test_a_full_disk_is_no_failure(self, closed: House) -> None:
        closed.disk = fuse = FuseDisk(error=OSError(errno.ENOSPC, ""), when="torn", only=("write_at",))
        uploads = closed.open()
        closed.bring(S.WAITFORCHUNK)
        uploads.receive("one", offset=0, data=b"fine")
        closed.heard()
        fuse.at = len(fuse.calls) + 1
        with closed.refused(StorageFull, "storage_full", says="Free some space"):
            uploads.receive("one", offset=4, data=b" fi")
        assert closed.heard() == [(ERROR, "waitforchunk", "storage_full")]
        assert uploads.get("one").offset == 4
        uploads.receive("one", offset=4, data=b" fi")
        uploads.receive("one", offset=7, data=b"lm")
        closed.worker.drain(100)
        assert uploads.get("one").state is S.PREPROCESSED
        closed.finish()

    def test_everybody_is_told_what_the_client_is_told(self, closed: House) -> None:
        closed.disk = fuse = FuseDisk(error=OSError(errno.ENOSPC, ""), when="torn", only=("write_at",))
        uploads = closed.open()
        closed.bring(S.WAITFORCHUNK)
        closed.notices.clear()
        fuse.at = len(fuse.calls) + 1
        with pytest.raises(StorageFull) as full:
            uploads.receive("one", offset=0, data=b"fine")
        assert [(n.message, n.code, n.task) for n in closed.notices] == [
            (full.value.sentence, "storage_full", uploads.get("one"))
        ]

    def test_a_broken_disk_is_a_failure_that_a_retry_mends(self, closed: House) -> None:
        closed.disk = fuse = FuseDisk(error=OSError(errno.EIO, ""), when="torn", only=("write_at",))
        uploads = closed.open()
        closed.bring(S.WAITFORCHUNK)
        closed.heard()
        fuse.at = len(fuse.calls) + 1
        with pytest.raises(StorageError) as caught:
            uploads.receive("one", offset=0, data=b"fine")
        task = uploads.get("one")
        assert (task.state, task.message) == (S.UPLOADFAILED, caught.value.sentence)
        assert closed.heard() == [(ERROR, "uploadfailed", "storage_error")]
        assert uploads.retry("one").offset == 0
        closed.send()
        closed.worker.drain(100)
        assert uploads.get("one").state is S.PREPROCESSED
        closed.finish()

    def test_too_many_open_files_is_nobodys_failure(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.before["bytes.append"] = fail(StorageError("Too many.", code="too_many_open_files"))
        with house.refused(StorageError, "too_many_open_files"):
            house.uploads.receive("one", offset=0, data=b"fine")
        house.before.clear()
        house.uploads.receive("one", offset=0, data=b"fine")
        house.uploads.receive("one", offset=4, data=b" film")
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED

    def test_bytes_that_vanished_are_said_loudly(self, house: House) -> None:
        task = house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        house.before["bytes.append"] = fail(DataLost("The bytes are gone."))
        house.heard()
        with pytest.raises(DataLost):
            house.uploads.receive("one", offset=4, data=b" film")
        task = house.uploads.get("one")
        assert (task.state, task.code) == (S.UPLOADFAILED, "data_lost")
        assert house.heard() == [(ERROR, "uploadfailed", "data_lost")]

    def test_when_only_completing_fails_the_worker_completes(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.before["tasks.cas"] = fail(StorageError("The disk is tired."))
        task = house.uploads.receive("one", offset=0, data=house.DATA)
        assert (task.state, task.offset) == (S.WAITFORCHUNK, 9)
        house.before.clear()
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED

    def test_the_chunk_that_completes_a_restarted_upload_asks_for_no_other(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        house.restart()
        house.heard()
        task = house.uploads.receive("one", offset=4, data=b" film")
        assert (task.state, task.offset) == (S.WAITFORCHUNK, 9)
        house.worker.drain(100)
        assert (UPDATE, "uploadcomplete", None) in house.heard()
        assert not [n for n in house.notices if n.kind is NoticeKind.CHUNK_REQUEST and n.chunksize == 0]

    def test_no_notice_asks_for_nothing(self, house: House) -> None:
        """MusicDB's client answers every ChunkRequest; one for zero bytes makes it send an empty chunk."""
        house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        house.restart()
        house.uploads.receive("one", offset=4, data=b" film")
        house.uploads.initiate(house.offer())  # offered again before the worker has hashed it
        house.uploads.receive("one", offset=4, data=b" film")  # and its last chunk replayed
        assert [n.offset for n in house.notices if n.kind is NoticeKind.CHUNK_REQUEST and n.chunksize == 0] == []

    def test_two_threads_with_one_chunk_store_it_once(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        gate = house.gate()
        house.before["bytes.append"] = gate
        with house.threads() as pool:
            sends = [pool.submit(house.uploads.receive, "one", offset=0, data=b"fine") for _ in range(4)]
            gate.reached()
            gate.open()
            assert [f.result(house.PATIENCE).offset for f in sends] == [4] * 4
        assert house.stored() == b"fine"

    def test_two_threads_with_different_chunks_for_one_place_store_one(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        chunks = [b"fine", b"fire", b"file", b"fire!"]
        found: list[bytes] = []

        def send(data: bytes) -> None:
            try:
                house.uploads.receive("one", offset=0, data=data)
                found.append(data)
            except OffsetMismatch as error:
                assert error.expected in (4, 5)  # noqa: PT017

        with house.threads() as pool:
            list(pool.map(send, chunks))
        assert len(found) == 1
        assert house.stored() == found[0]

    def test_a_chunk_renews_the_deadline_when_the_document_is_old(self, house: House) -> None:
        before = house.bring(S.WAITFORCHUNK)
        house.clock.forward(3600)
        assert house.uploads.receive("one", offset=0, data=b"f").revision == before.revision
        house.clock.forward(1)
        task = house.uploads.receive("one", offset=1, data=b"i")
        assert (task.revision, task.updated) == (before.revision + 1, house.clock.now)
        assert task.deadline == house.clock.now + 7 * DAY
        document = json.loads(house.document() or b"")
        assert (document["deadline"], document["offset"]) == (task.deadline, 2)
        house.clock.forward(3600)
        assert house.uploads.receive("one", offset=2, data=b"n").revision == task.revision
        house.restart()
        house.send()
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED

    def test_a_deadline_that_cannot_be_renewed_for_want_of_room_loses_nothing(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.clock.forward(3601)
        house.before["tasks.cas"] = fail(StorageFull("There is no room."))
        assert house.uploads.receive("one", offset=0, data=b"fine").offset == 4
        house.before.clear()
        assert house.uploads.get("one").state is S.WAITFORCHUNK
        house.uploads.receive("one", offset=4, data=b" film")
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED
        assert house.stored() == house.DATA


class TestDeclare:
    def test_a_length_that_comes_late(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK, filesize=None)
        house.uploads.receive("one", offset=0, data=b"fine")
        house.heard()
        task = house.uploads.declare("one", filesize=9)
        assert (task.filesize, task.offset, task.revision) == (9, 4, 2)
        assert house.heard() == [(UPDATE, "waitforchunk", None)]
        assert house.uploads.receive("one", offset=4, data=b" film").state is S.UPLOADCOMPLETE

    def test_a_length_that_is_reached_already_completes(self, house: House) -> None:
        house.send(filesize=None)
        house.heard()
        task = house.uploads.declare("one", filesize=9)
        assert (task.state, task.revision) == (S.UPLOADCOMPLETE, 3)
        assert house.heard() == [(UPDATE, "waitforchunk", None), (UPDATE, "uploadcomplete", None)]

    def test_a_length_that_is_reached_already_reads_nothing_again(self, house: House) -> None:
        house.send(filesize=None)
        house.before["bytes.open"] = fail(StorageError("Who wants to read?"))
        assert house.uploads.declare("one", filesize=9).state is S.UPLOADCOMPLETE

    def test_after_a_restart_the_worker_completes(self, house: House) -> None:
        house.send(filesize=None)
        house.restart()
        assert house.uploads.declare("one", filesize=9).state is S.WAITFORCHUNK
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED

    def test_an_upload_whose_bytes_are_all_here_waits_for_nobody_and_does_not_expire(self, house: House) -> None:
        house.send(filesize=None)
        house.restart()
        assert house.uploads.get("one").deadline is not None
        assert house.uploads.declare("one", filesize=9).deadline is None

    def test_a_checksum_that_comes_late_is_checked(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK, sha1=None)
        assert house.uploads.declare("one", sha1="A" * 40).sourcechecksum == "a" * 40
        assert house.uploads.receive("one", offset=0, data=house.DATA).code == "checksum_mismatch"

    @pytest.mark.parametrize(("what", "value"), [("length", {"filesize": 8}), ("checksum", {"sha1": "1" * 40})])
    def test_something_else_is_refused_by_name(self, house: House, what: str, value: dict[str, Any]) -> None:
        house.bring(S.WAITFORCHUNK)
        with pytest.raises(Refused) as refused:
            house.uploads.declare("one", **value)
        assert refused.value.sentence == f"The {what} is declared already and cannot change."

    def test_the_same_again_is_fine(self, house: House) -> None:
        task = house.bring(S.WAITFORCHUNK)
        again = house.uploads.declare("one", filesize=9, sha1=str(task.sourcechecksum).upper())
        assert (again.filesize, again.sourcechecksum) == (9, task.sourcechecksum)

    @pytest.mark.parametrize(
        ("declared", "error", "code"),
        [
            ({"filesize": 10}, Refused, "declared_already"),
            ({"sha1": "1" * 40}, Refused, "declared_already"),
        ],
    )
    def test_something_else_is_refused(
        self, house: House, declared: dict[str, Any], error: type[Refused], code: str
    ) -> None:
        house.bring(S.WAITFORCHUNK)
        house.heard()
        with house.refused(error, code, guard="declaration_fits"):
            house.uploads.declare("one", **declared)
        assert house.heard() == []

    @pytest.mark.parametrize(
        ("length", "error", "code", "guard"),
        [
            (3, Refused, "length_too_small", "declaration_fits"),
            (21, TooLarge, "file_too_large", "declaration_fits"),
            (0, Refused, "length_too_small", "declaration_fits"),
            (2**63, TooLarge, "invalid_filesize", None),
        ],
    )
    def test_a_length_that_cannot_be(
        self, closed: House, length: int, error: type[Refused], code: str, guard: str | None
    ) -> None:
        uploads = closed.open(max_file_size=20)
        closed.bring(S.WAITFORCHUNK, filesize=None)
        uploads.receive("one", offset=0, data=b"fine")
        with closed.refused(error, code, guard=guard):
            uploads.declare("one", filesize=length)

    def test_the_largest_length_there_is(self, closed: House) -> None:
        uploads = closed.open(max_file_size=20)
        closed.bring(S.WAITFORCHUNK, filesize=None)
        assert uploads.declare("one", filesize=20).filesize == 20


class TestAnnotate:
    @pytest.mark.parametrize("state", LIVE)
    def test_merges_in_every_state_before_removal(self, house: House, state: State) -> None:
        before = house.bring(state)
        house.heard()
        task = house.uploads.annotate("one", {"name": "New", "mood": ["good", 1]}, origin="CD")
        expected = {**before.annotations, "name": "New", "mood": ("good", 1), "origin": "CD"}
        assert (dict(task.annotations), task.state) == (expected, state)
        assert house.heard() == [(UPDATE, state.value, before.code)]
        assert json.loads(house.document() or b"")["annotations"]["mood"] == ["good", 1]

    def test_while_no_plan_can_be_made_the_leave_to_replace_stands(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.uploads.annotate("one", {"answers.destination_exists": "replace"})
        house.before["content.plan"] = fail(ContentRejected("There is no name for it.", code="odd"))
        task = house.uploads.annotate("one", {"mood": "good"})
        assert (task.annotations["mood"], task.annotations["answers.destination_exists"]) == ("good", "replace")

    def test_does_not_lose_the_offset_during_the_upload(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        assert house.uploads.annotate("one", mood="good").offset == 4
        assert house.uploads.receive("one", offset=4, data=b" film").state is S.UPLOADCOMPLETE

    @pytest.mark.parametrize("wrong", ["text", 5, {1: "x"}, [1]])
    def test_what_is_no_mapping_of_text_is_a_type_error(self, house: House, wrong: Any) -> None:
        house.bring(S.WAITFORCHUNK)
        stored = house.everything()
        with pytest.raises((TypeError, ValueError)) as caught:
            house.uploads.annotate("one", wrong)
        assert type(caught.value) is TypeError
        if isinstance(wrong, dict):
            assert str(caught.value) == "The keys of annotations must be str."
        assert house.everything() == stored

    @pytest.mark.parametrize(
        ("value", "error", "code", "says"),
        [
            ("x" * 200, TooLarge, "annotations_too_large", "Shorten or remove some"),
            ([[[[1]]]], TooLarge, "annotations_too_deep", "too deeply"),
            ({"a": {"b": {"c": 1}}}, TooLarge, "annotations_too_deep", "too deeply"),
            (object(), Refused, "annotations_invalid", "object"),
            (float("nan"), Refused, "annotations_invalid", "finite"),
            (2**63, Refused, "annotations_invalid", "too large"),
            ("\ud800", Refused, "annotations_invalid", "Unicode"),
            ({1: 2}, Refused, "annotations_invalid", "key"),
            (b"x", Refused, "annotations_invalid", "bytes"),
        ],
        ids=["long", "lists", "objects", "object", "nan", "number", "surrogate", "key", "bytes"],
    )
    def test_what_is_too_much_or_no_json_is_refused(
        self, closed: House, value: Any, error: type[Refused], code: str, says: str
    ) -> None:
        uploads = closed.open(max_annotations=200, max_annotation_depth=3)
        closed.bring(S.WAITFORCHUNK)
        closed.heard()
        with closed.refused(error, code, guard="annotations_valid", says=says):
            uploads.annotate("one", x=value)
        assert closed.heard() == []

    def test_many_small_ones_meet_the_limit_too(self, closed: House) -> None:
        uploads = closed.open(max_annotations=200)
        closed.bring(S.WAITFORCHUNK)
        uploads.annotate("one", x="x" * 100)
        with closed.refused(TooLarge, "annotations_too_large", guard="annotations_valid"):
            uploads.annotate("one", y="y" * 100)
        assert "y" not in uploads.get("one").annotations

    @pytest.mark.parametrize(
        ("state", "wish", "part", "then"),
        [
            (S.UPLOADCOMPLETE, "", "content.preprocess", S.PREPROCESSED),
            (S.PREPROCESSED, "request", "music.place", S.INTEGRATED),
            (S.STARTIMPORT, "", "library.put", S.IMPORTARTWORK),
            (S.IMPORTARTWORK, "", "content.illustrate", S.IMPORTCOMPLETE),
        ],
    )
    def test_during_a_slow_step_is_not_lost(
        self, house: House, state: State, wish: str, part: str, then: State
    ) -> None:
        house.bring(state)
        if wish:
            getattr(house.uploads, wish)("one")
        gate = house.gate()
        house.before[part] = gate
        with house.threads() as pool:
            step = pool.submit(house.uploads.perform, "one")
            gate.reached()
            revision = house.uploads.annotate("one", mood="good").revision
            gate.open()
            assert step.result(house.PATIENCE)
        task = house.uploads.get("one")
        assert (task.state, task.annotations["mood"], task.revision) == (then, "good", revision + 1)

    def test_two_threads_lose_nothing(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        with house.threads() as pool:
            list(pool.map(lambda i: house.uploads.annotate("one", {f"key{i}": i}), range(20)))
        task = house.uploads.get("one")
        assert {f"key{i}": i for i in range(20)}.items() <= task.annotations.items()
        assert task.revision == 21


class TestPlan:
    def test_names_the_files_and_touches_nothing(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        stored = house.everything()
        house.heard()
        plan = house.uploads.plan("one")
        assert [(f.root, f.path) for f in plan.files] == [("music", "Alpha/Beta.mp4")]
        assert [(f.root, f.path) for f in plan.artwork] == [("artwork", "Alpha/Beta/frame.jpg")]
        assert plan.directories == ("music/Alpha", "artwork/Alpha", "artwork/Alpha/Beta")
        assert plan.problems == ()
        assert (house.everything(), house.heard()) == (stored, [])

    def test_says_what_is_in_the_way(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        (house.root / "music" / "Alpha").mkdir(parents=True)
        (house.root / "music" / "Alpha" / "Beta.mp4").write_bytes(b"older")
        (problem,) = house.uploads.plan("one").problems
        assert (problem.code, problem.severity) == ("destination_exists", "reject")
        assert "change the annotations" in problem.sentence

    def test_says_what_is_missing(self, house: House) -> None:
        house.bring(S.PREPROCESSED, annotations={})
        assert [p.code for p in house.uploads.plan("one").problems] == ["annotation_missing"]

    @pytest.mark.parametrize("state", [S.WAITFORCHUNK, S.UPLOADFAILED, S.UPLOADCOMPLETE, S.INVALIDCONTENT, S.REMOVE])
    def test_before_the_content_is_accepted_there_is_none(self, house: House, state: State) -> None:
        house.bring(state)
        with house.refused(WrongState, "wrong_state"):
            house.uploads.plan("one")

    @pytest.mark.parametrize("state", [S.INTEGRATED, S.STARTIMPORT, S.IMPORTARTWORK, S.IMPORTFAILED, S.IMPORTCOMPLETE])
    def test_later_it_is_what_was_done(self, house: House, state: State) -> None:
        house.bring(state)
        house.uploads.annotate("one", name="Gamma")
        assert [f.path for f in house.uploads.plan("one").files] == ["Alpha/Beta.mp4"]

    def test_after_a_failed_integration_it_follows_the_annotations(self, house: House) -> None:
        """The user corrects the annotations, looks at the plan, and retries; not the other way round."""
        house.bring(S.INTEGRATIONFAILED)
        house.uploads.annotate("one", house.NAMES)
        plan = house.uploads.plan("one")
        assert plan.problems == ()
        assert [f.path for f in plan.files] == ["Alpha/Beta.mp4"]

    def test_after_a_retry_and_after_an_undo_it_follows_the_annotations(self, house: House) -> None:
        house.bring(S.INTEGRATIONFAILED)
        house.uploads.retry("one")
        house.uploads.annotate("one", house.NAMES)
        assert [f.path for f in house.uploads.plan("one").files] == ["Alpha/Beta.mp4"]
        house.uploads.integrate("one")
        house.uploads.undo("one")
        house.uploads.annotate("one", name="Gamma")
        assert [f.path for f in house.uploads.plan("one").files] == ["Alpha/Gamma.mp4"]

    def test_what_is_around_is_told(self, closed: House) -> None:
        class Looking(PlainContent):
            def plan(self, task: UploadTask, around: Surroundings) -> Plan:
                seen.append((around.names("music"), around.names("music", "Alpha"), around.names("elsewhere")))
                return super().plan(task, around)

        seen: list[tuple[Sequence[str], ...]] = []
        closed.open(contents=[Looking()])
        (closed.root / "music" / "Alpha").mkdir()
        (closed.root / "music" / "Alpha" / "Gamma.mp4").write_bytes(b"theirs")
        closed.bring(S.PREPROCESSED)
        seen.clear()
        closed.uploads.plan("one")
        (told,) = {tuple(map(tuple, line)) for line in seen}
        assert told == (("Alpha",), ("Gamma.mp4",), ())

    @pytest.mark.parametrize("code", ["destination_exists", "unsafe_path"])
    def test_a_name_that_no_time_will_mend_is_a_problem(self, house: House, code: str) -> None:
        house.bring(S.PREPROCESSED)
        house.before["music.missing_directories"] = fail(StorageError("Such a name cannot be.", code=code))
        (problem,) = house.uploads.plan("one").problems
        assert (problem.code, problem.severity, problem.sentence) == (code, "reject", "Such a name cannot be.")
        task = house.uploads.integrate("one")
        assert (task.state, task.code) == (S.INTEGRATIONFAILED, code)

    def test_a_content_type_that_is_not_there_any_more_is_said(self, house: House) -> None:
        house.bring(S.UPLOADCOMPLETE)
        house.close()
        house.open(contents=[PlainContent("poem")])
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.code) == (S.INVALIDCONTENT, "unsupported_contenttype")
        assert task.message == "This server cannot handle the content type 'video'."

    def test_a_tree_that_is_not_there_is_a_problem(self) -> None:
        with Uploads(
            bytes=MemoryBytes(),
            tasks=MemoryTasks(),
            trees={"music": MemoryTree("music")},
            library=MemoryLibrary(),
            contents=[PlainContent()],
        ) as uploads:
            names = {"artistname": "Alpha", "name": "Beta"}
            uploads.initiate(Offer("one", filename="a.mp4", contenttype="video", filesize=1, annotations=names))
            uploads.receive("one", offset=0, data=b"x")
            uploads.perform("one")
            (problem,) = uploads.plan("one").problems
            assert (problem.code, problem.severity) == ("no_tree", "reject")
            assert problem.sentence == "This server has no artwork directory."
            task = uploads.integrate("one")
            assert (task.state, task.code) == (S.INTEGRATIONFAILED, "no_tree")


class TestRequest:
    def test_is_durable_and_a_worker_does_it(self, house: House) -> None:
        before = house.bring(S.PREPROCESSED)
        house.heard()
        task = house.uploads.request("one")
        assert (task.state, task.wanted, task.import_wanted) == (S.PREPROCESSED, T.INTEGRATE, False)
        assert (task.revision, task.deadline) == (before.revision + 1, None)
        assert house.heard() == [(UPDATE, "preprocessed", None)]
        assert house.files("music") == {}
        house.restart()
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.INTEGRATED
        assert house.files("music") == {"Alpha/Beta.mp4": house.DATA}

    def test_again_keeps_the_reason_of_what_waits(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.before["music.place"] = fail(StorageError("The disk is tired.", code="tired"))
        house.uploads.request("one")
        house.worker.drain(100)
        again = house.uploads.request("one", trigger_import=True)
        assert (again.message, again.code, again.import_wanted) == ("The disk is tired.", "tired", True)

    def test_after_one_that_was_given_up_forgets_its_reason(self, house: House) -> None:
        house.bring(S.INTEGRATED)
        house.before["music.remove"] = fail(StorageError("The disk is tired.", code="tired"))
        with suppress(StorageError):
            house.uploads.undo("one")
        house.before.clear()
        for _ in range(10):
            house.clock.forward(DAY)
            house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED
        asked = house.uploads.request("one")
        assert (asked.message, asked.code) == (None, None)

    def test_with_import_goes_to_the_end(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.uploads.request("one", trigger_import=True)
        house.restart()
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.wanted, task.import_wanted) == (S.IMPORTCOMPLETE, None, False)
        assert house.entries() == {task.uid: "Alpha/Beta.mp4"}

    def test_an_open_question_refuses_and_names_itself(self, house: House) -> None:
        house.bring(S.PREPROCESSED, data=b"ask film")
        house.heard()
        with house.refused(Refused, "which", guard="no_open_question", says=r"annotation answers\.which"):
            house.uploads.request("one")
        with house.refused(Refused, "which", guard="no_open_question"):
            house.uploads.integrate("one")
        assert house.heard() == []
        house.uploads.annotate("one", {"answers.which": "this one"})
        assert house.uploads.integrate("one").state is S.INTEGRATED


class TestIntegrate:
    def test_returns_when_the_files_are_there(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.heard()
        task = house.uploads.integrate("one")
        assert (task.state, task.videofile, task.artworkfile) == (S.INTEGRATED, "Alpha/Beta.mp4", None)
        assert [(f.root, f.path, f.size) for f in task.placed] == [("music", "Alpha/Beta.mp4", 9)]
        assert task.placed[0].sha256 == hashlib.sha256(house.DATA).hexdigest()
        assert house.heard() == [(UPDATE, "preprocessed", None), (UPDATE, "integrated", None)]
        assert house.files("music") == {"Alpha/Beta.mp4": house.DATA}
        assert house.stored() == house.DATA
        assert house.library.entries() == ()

    def test_the_import_is_left_to_the_worker(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        task = house.uploads.integrate("one", trigger_import=True)
        assert (task.state, task.wanted) == (S.INTEGRATED, T.START_IMPORT)
        assert house.uploads.perform("one"), "something was done"
        assert house.uploads.get("one").state is S.STARTIMPORT
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.IMPORTCOMPLETE

    def test_what_cannot_be_is_a_state_and_leaves_nothing(self, house: House) -> None:
        house.bring(S.PREPROCESSED, annotations={})
        house.heard()
        task = house.uploads.integrate("one")
        assert (task.state, task.code, task.placed) == (S.INTEGRATIONFAILED, "annotation_missing", ())
        assert house.heard() == [
            (UPDATE, "preprocessed", None),
            (ERROR, "integrationfailed", "annotation_missing"),
        ]
        assert house.everything()[1] == {}

    def test_an_existing_file_is_never_replaced(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        (house.root / "music" / "Alpha").mkdir()
        (house.root / "music" / "Alpha" / "Beta.mp4").write_bytes(b"older")
        task = house.uploads.integrate("one")
        assert (task.state, task.code) == (S.INTEGRATIONFAILED, "destination_exists")
        assert house.files("music") == {"Alpha/Beta.mp4": b"older"}

    def test_a_file_that_appears_after_the_plan_is_not_replaced_either(self, house: House) -> None:
        house.bring(S.PREPROCESSED)

        def appear(*_: object) -> None:
            (house.root / "music" / "Alpha").mkdir()
            (house.root / "music" / "Alpha" / "Beta.mp4").write_bytes(b"older")

        house.before["music.place"] = appear
        task = house.uploads.integrate("one")
        assert (task.state, task.code) == (S.INTEGRATIONFAILED, "destination_exists")
        assert house.files("music") == {"Alpha/Beta.mp4": b"older"}

    def test_content_that_refuses_to_plan_says_why(self, closed: House) -> None:
        class Refusing(PlainContent):
            def plan(self, task: UploadTask, around: Surroundings) -> Plan:
                raise ContentRejected("This one has no name.", code="nameless")

        closed.open(contents=[Refusing()])
        closed.bring(S.PREPROCESSED)
        task = closed.uploads.integrate("one")
        assert (task.state, task.message, task.code) == (S.INTEGRATIONFAILED, "This one has no name.", "nameless")
        assert task.plan is not None
        assert [(p.code, p.severity, p.sentence) for p in task.plan.problems] == [
            ("nameless", "reject", "This one has no name.")
        ]

    @pytest.mark.parametrize(
        ("files", "code", "says"),
        [
            ((), "nothing_to_place", "There is nothing to put into the library."),
            ((PlannedFile("music", "A/b", source="track 1"),), "cannot_produce", "video cannot make the file track 1."),
        ],
        ids=["no file", "a file that it cannot make"],
    )
    def test_a_plan_that_nobody_can_follow_leaves_nothing(
        self, closed: House, files: tuple[PlannedFile, ...], code: str, says: str
    ) -> None:
        class Promising(PlainContent):
            def plan(self, task: UploadTask, around: Surroundings) -> Plan:
                return Plan(files)

        closed.open(contents=[Promising()])
        closed.bring(S.PREPROCESSED)
        task = closed.uploads.integrate("one")
        assert (task.state, task.code) == (S.INTEGRATIONFAILED, code)
        assert says in str(task.message)
        assert closed.files("music") == {}

    def test_does_now_what_waits_for_its_next_attempt(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.before["music.place"] = fail(StorageError("The disk is tired."))
        house.uploads.request("one")
        house.worker.drain(100)
        house.before.clear()
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED
        assert house.uploads.integrate("one").state is S.INTEGRATED

    def test_all_files_or_none(self, closed: House) -> None:
        class Two(PlainContent):
            def plan(self, task: UploadTask, around: Surroundings) -> Plan:
                plan = super().plan(task, around)
                return attrs.evolve(plan, files=(*plan.files, PlannedFile("music", "Alpha/Gamma.mp4")))

        uploads = closed.open(contents=[Two()])
        closed.bring(S.PREPROCESSED)
        theirs = closed.root / "music" / "Alpha" / "Gamma.mp4"

        def appear(_uid: str, path: str, *_: object) -> None:
            if path == "Alpha/Gamma.mp4":
                assert "Alpha/Beta.mp4" in closed.files("music")
                theirs.write_bytes(b"theirs")

        closed.before["music.place"] = appear
        task = uploads.integrate("one")
        assert (task.state, task.code) == (S.INTEGRATIONFAILED, "destination_exists")
        assert closed.files("music") == {"Alpha/Gamma.mp4": b"theirs"}
        theirs.unlink()
        closed.before.clear()
        uploads.retry("one")
        assert uploads.integrate("one").state is S.INTEGRATED
        assert list(closed.files("music")) == ["Alpha/Beta.mp4", "Alpha/Gamma.mp4"]
        uploads.undo("one")
        assert closed.files("music") == {}

    def test_bytes_that_changed_since_they_were_verified_do_not_stay_in_the_library(self, house: House) -> None:
        task = house.bring(S.PREPROCESSED)
        (house.root / "uploads" / task.destinationpath).write_bytes(b"fire film")
        task = house.uploads.integrate("one")
        assert (task.state, task.code) == (S.INTEGRATIONFAILED, "data_lost")
        assert os.listdir(house.root / "music") == []

    def test_bytes_that_changed_since_they_were_verified_are_never_seen_in_the_library(self, house: House) -> None:
        """Promise 4: what is visible has the verified hash, and not only after a second look."""
        task = house.bring(S.PREPROCESSED)
        (house.root / "uploads" / task.destinationpath).write_bytes(b"fire film")
        seen: list[str] = []

        def look(*_: object, **__: object) -> None:
            seen.extend(name for name in house.files("music") if not name.startswith("."))

        house.after["music.place"] = look
        house.uploads.integrate("one")
        assert seen == []

    def test_what_has_to_be_tried_again_is_told_with_reason_and_code(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.before["music.place"] = fail(StorageError("The disk is tired.", code="tired"))
        with pytest.raises(StorageError) as waiting:
            house.uploads.integrate("one")
        assert (waiting.value.code, waiting.value.sentence) == (
            "tired",
            "It could not be done now and is tried again: The disk is tired.",
        )

    def test_waits_for_the_worker_that_has_the_step(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        gate = house.gate()
        house.before["music.place"] = gate
        house.uploads.request("one")
        with house.threads() as pool:
            step = pool.submit(house.uploads.perform, "one")
            gate.reached()
            done = pool.submit(house.uploads.integrate, "one")
            gate.open()
            assert step.result(house.PATIENCE)
            assert done.result(house.PATIENCE).state is S.INTEGRATED
        assert house.took().count("begin:preprocessed:internal") == 1

    @pytest.mark.parametrize("call", range(1, 13))
    @pytest.mark.parametrize("operation", ["integrate", "undo"])
    def test_a_document_that_cannot_be_read_once_blocks_nobody(self, house: House, operation: str, call: int) -> None:
        house.bring(S.PREPROCESSED if operation == "integrate" else S.INTEGRATED)
        calls = iter(range(1, 1000))

        def once(*_: object) -> None:
            if next(calls) == call:
                raise StorageError("The task store is tired.")

        house.before["tasks.get"] = once
        with suppress(StorageError):
            getattr(house.uploads, operation)("one")
        house.before.clear()
        for _ in range(3):
            house.worker.drain(100)
            house.clock.forward(10)
        task = house.uploads.wait("one", 0)  # whatever became of it: nobody is still at it
        assert task is not None
        if task.state is S.PREPROCESSED:
            house.uploads.request("one")
            house.worker.drain(100)
        assert house.uploads.get("one").state is S.INTEGRATED

    def test_a_subscriber_who_asks_anew_is_named_as_the_reason(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.before["music.place"] = fail(Conflict("In the way.", code="destination_exists"))

        def again(notice: Notice) -> None:
            if notice.state is S.INTEGRATIONFAILED:
                house.uploads.retry("one")
                house.uploads.request("one")

        house.uploads.subscribe(again)
        with pytest.raises(StorageError, match="tried again: It was asked for anew meanwhile"):
            house.uploads.integrate("one")
        house.before.clear()
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.INTEGRATED

    def test_removed_meanwhile_returns_that(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        gate = house.gate()
        house.before["music.place"] = gate
        with house.threads() as pool:
            done = pool.submit(house.uploads.integrate, "one")
            gate.reached()
            house.uploads.remove("one")
            gate.open()
            assert done.result(house.PATIENCE).state is S.REMOVE
        house.worker.drain(100)
        assert house.files("music") == {}

    def test_a_passing_error_is_told_and_tried_again(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.before["music.place"] = fail(StorageError("The disk is tired."))
        with pytest.raises(StorageError, match="tried again: The disk is tired"):
            house.uploads.integrate("one")
        assert house.uploads.get("one").wanted is T.INTEGRATE
        house.before.clear()
        house.clock.forward(1)
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.INTEGRATED


class TestStartImport:
    def test_imports_later_what_was_integrated_without(self, house: House) -> None:
        house.bring(S.INTEGRATED)
        house.heard()
        task = house.uploads.start_import("one")
        assert (task.state, task.deadline) == (S.STARTIMPORT, None)
        assert house.heard() == [(UPDATE, "startimport", None)]
        house.restart()
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert task.state is S.IMPORTCOMPLETE
        assert house.entries() == {task.uid: "Alpha/Beta.mp4"}
        assert house.files("artwork") == {"Alpha/Beta/frame.jpg": b"JPEG" + house.DATA}
        (entry,) = house.library.entries()
        assert entry.illustration is not None
        assert entry.illustration.directory == "Alpha/Beta"

    @pytest.mark.parametrize("state", [S.INTEGRATED, S.IMPORTFAILED])
    def test_is_refused_while_an_undo_is_pending(self, house: House, state: State) -> None:
        with (
            pending_undo(house, state),
            house.refused(Refused, "no_undo_pending", guard="no_undo_pending", says="Wait"),
        ):
            (house.uploads.start_import if state is S.INTEGRATED else house.uploads.retry)("one")


@contextmanager
def pending_undo(house: House, state: State) -> Iterator[None]:
    """An upload whose undo was asked for and could not be done yet."""
    house.bring(state)
    house.before["library.forget"] = fail(StorageError("The catalogue is tired."))
    with pytest.raises(StorageError, match="tried again"):
        house.uploads.undo("one")
    assert house.uploads.get("one").wanted is T.UNDO
    house.heard()
    yield
    house.before.clear()


class TestRetry:
    def test_of_a_failed_upload_starts_over_with_new_bytes(self, house: House) -> None:
        before = house.bring(S.UPLOADFAILED)
        house.heard()
        task = house.uploads.retry("one")
        assert (task.state, task.offset, task.generation, task.uid) == (S.WAITFORCHUNK, 0, 1, before.uid)
        assert (task.message, task.code) == (None, None)
        assert [(n.kind, n.offset) for n in house.notices] == [(UPDATE, 0), (REQUEST, 0)]
        assert os.listdir(house.root / "uploads" / "data") == [task.key]
        assert house.stored() == b""
        house.restart()
        assert house.uploads.get("one").offset == 0

    def test_of_a_failed_upload_completes_with_the_right_bytes(self, house: House) -> None:
        house.uploads.initiate(house.offer())
        house.uploads.receive("one", offset=0, data=b"wrongbits")
        house.uploads.retry("one")
        assert house.uploads.receive("one", offset=0, data=house.DATA).state is S.UPLOADCOMPLETE

    @pytest.mark.parametrize(
        ("failed", "before"),
        [
            (S.UPLOADFAILED, S.WAITFORCHUNK),
            (S.INVALIDCONTENT, S.UPLOADCOMPLETE),
            (S.INTEGRATIONFAILED, S.PREPROCESSED),
            (S.IMPORTFAILED, S.STARTIMPORT),
        ],
    )
    def test_leads_back_and_forgets_the_failure(self, house: House, failed: State, before: State) -> None:
        assert house.bring(failed).message
        house.heard()
        task = house.uploads.retry("one")
        assert (task.state, task.message, task.code, task.step) == (before, None, None, None)
        assert house.heard()[0] == (UPDATE, before.value, None)

    @pytest.mark.parametrize("failed", FAILURES)
    def test_two_threads_retry_once(self, house: House, failed: State) -> None:
        house.bring(failed)

        def retry(_: int) -> str:
            try:
                return house.uploads.retry("one").state.value
            except WrongState as error:
                return error.code

        with house.threads() as pool:
            found = sorted(pool.map(retry, range(4)))
        assert found.count("wrong_state") == 3


class TestUndo:
    @pytest.mark.parametrize("state", [S.INTEGRATED, S.IMPORTFAILED, S.IMPORTCOMPLETE])
    def test_takes_everything_back(self, house: House, state: State) -> None:
        house.bring(S.PREPROCESSED)
        (house.root / "music" / "Theirs").mkdir()
        before = house.everything()[1:]
        house.uploads.remove("one")
        house.worker.drain(100)
        house.bring(state)
        assert (house.uploads.get("one").message is not None) is (state is S.IMPORTFAILED)
        house.heard()
        told = len(house.notices)
        task = house.uploads.undo("one")
        wanted = house.notices[told].task
        assert wanted is not None
        assert (wanted.wanted, wanted.message, wanted.code) == (T.UNDO, None, None), "what went wrong before is over"
        assert (task.state, task.placed, task.plan, task.videofile) == (S.PREPROCESSED, (), None, None)
        assert task.artworkfile is None
        assert (task.created_directories, task.wanted, task.import_wanted) == ((), None, False)
        assert house.heard() == [(UPDATE, state.value, None), (UPDATE, "preprocessed", None)]
        assert house.everything()[1:2] == before[0:1]
        assert house.everything()[4] == before[3]
        assert not (house.root / "music" / "Alpha").exists()
        assert not (house.root / "artwork" / "Alpha").exists()
        assert dict(task.annotations) == dict(house.NAMES)

    def test_may_be_followed_by_another_integration(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        house.uploads.undo("one")
        house.uploads.annotate("one", name="Gamma")
        house.uploads.integrate("one", trigger_import=True)
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.IMPORTCOMPLETE
        assert house.files("music") == {"Alpha/Gamma.mp4": house.DATA}

    @pytest.mark.parametrize("part", ["music/Alpha/Beta.mp4", "artwork/Alpha/Beta/frame.jpg"])
    def test_a_file_that_was_changed_is_kept_and_everything_else_too(self, house: House, part: str) -> None:
        before = house.bring(S.IMPORTCOMPLETE)
        (house.root / part).write_bytes(b"tagged")
        house.heard()
        with house.refused(Refused, "changed_since", guard="library_untouched", says="Restore it"):
            house.uploads.undo("one")
        assert house.heard() == []
        assert house.uploads.get("one").revision == before.revision

    def test_artwork_is_taken_back_as_well(self, closed: House) -> None:
        closed.open(contents=[PlainContent("artwork")])
        task = closed.bring(S.IMPORTCOMPLETE, contenttype="artwork")
        assert (task.artworkfile, task.videofile) == ("Alpha/Beta.mp4", None)
        task = closed.uploads.undo("one")
        assert (task.artworkfile, task.videofile) == (None, None)

    def test_a_file_that_changes_at_the_last_moment_is_kept(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        path = house.root / "music" / "Alpha" / "Beta.mp4"
        house.before["library.forget"] = lambda *_: path.write_bytes(b"tagged")
        with pytest.raises(Refused) as caught:
            house.uploads.undo("one")
        assert caught.value.code == "changed_since"
        assert path.read_bytes() == b"tagged"
        task = house.uploads.get("one")
        assert (task.state, task.wanted, task.step) == (S.IMPORTCOMPLETE, None, None)
        house.finish()

    def test_what_an_undo_took_before_it_ended_half_way_is_not_held_any_more(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        picture = house.root / "artwork" / "Alpha" / "Beta" / "frame.jpg"
        house.before["artwork.remove"] = lambda *_: picture.write_bytes(b"tagged")
        house.before["music.remove"] = lambda *_: picture.write_bytes(b"tagged")
        with pytest.raises(Refused) as caught:
            house.uploads.undo("one")
        assert caught.value.code == "changed_since"
        there = [root for root in ("music", "artwork") if any(not name.startswith(".") for name in house.files(root))]
        assert [file.root for file in house.uploads.get("one").placed] == there == ["artwork"]

    def test_reads_the_files_without_keeping_others_from_the_upload(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        gate = house.gate()
        house.before["music.check"] = gate
        with house.threads() as pool:
            undo = pool.submit(house.uploads.undo, "one")
            gate.reached()
            annotate = pool.submit(house.uploads.annotate, "one", {"mood": "good"})
            try:
                assert annotate.result(2).annotations["mood"] == "good"
            finally:
                gate.open()
            task = undo.result(house.PATIENCE)
        assert (task.state, task.annotations["mood"]) == (S.PREPROCESSED, "good")

    def test_reads_each_file_once_to_answer_and_once_to_be_sure(self, house: House) -> None:
        """Files are large: what was read before the lock was taken is not read again under it."""
        house.bring(S.INTEGRATED)
        checked: list[object] = []
        house.before["music.check"] = lambda uid, file: checked.append(file.path)
        with house.threads() as pool:
            gate = house.gate()
            house.before["library.forget"] = gate
            undo = pool.submit(house.uploads.undo, "one")
            gate.reached()
            asked = len(checked)
            gate.open()
            assert undo.result(house.PATIENCE).state is S.PREPROCESSED
        assert asked == 2

    def test_again_keeps_the_reason_of_what_waits(self, house: House) -> None:
        house.bring(S.INTEGRATED)
        house.before["music.remove"] = fail(StorageError("The disk is tired.", code="tired"))
        with pytest.raises(StorageError):
            house.uploads.undo("one")
        reasons: list[object] = []
        house.before["music.remove"] = lambda *_: reasons.append(house.uploads.get("one").message)
        assert house.uploads.undo("one").state is S.PREPROCESSED
        assert reasons == ["The disk is tired."]

    def test_given_up_leaves_nothing_in_hiding(self, house: House) -> None:
        house.bring(S.INTEGRATED)
        house.before["library.forget"] = fail(StorageError("The disk is tired."))
        with suppress(StorageError):
            house.uploads.undo("one")
        for _ in range(10):
            house.clock.forward(DAY)
            house.worker.drain(100)
        assert house.uploads.get("one").wanted is None
        assert not (house.root / "music" / ".stagedoor").exists()

    def test_asked_for_twice_at_once_is_done_once_and_both_are_told(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        gate, recorded = house.gate(), threading.Event()
        house.before["library.forget"] = gate
        with house.threads() as pool:
            first = pool.submit(house.uploads.undo, "one")
            gate.reached()
            house.after["tasks.cas"] = lambda *_: recorded.set()
            second = pool.submit(house.uploads.undo, "one")
            try:
                assert recorded.wait(house.PATIENCE)
            finally:
                gate.open()
            assert first.result(house.PATIENCE).state is S.PREPROCESSED
            assert second.result(house.PATIENCE).state is S.PREPROCESSED
        assert house.took().count("begin:importcomplete:internal") == 1

    def test_a_file_that_is_gone_is_no_obstacle(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        (house.root / "music" / "Alpha" / "Beta.mp4").unlink()
        assert house.uploads.undo("one").state is S.PREPROCESSED

    def test_directories_with_others_files_stay(self, house: House) -> None:
        house.bring(S.INTEGRATED)
        (house.root / "music" / "Alpha" / "mine.txt").write_bytes(b"mine")
        house.uploads.undo("one")
        assert house.files("music") == {"Alpha/mine.txt": b"mine"}

    @pytest.mark.parametrize("part", ["library.forget", "music.remove", "artwork.remove", "tasks.cas"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_interrupted_by_a_crash_goes_on_after_the_start(self, house: House, part: str, when: str) -> None:
        task = house.bring(S.IMPORTCOMPLETE)
        calls = iter([None, None] if part == "tasks.cas" else [])  # the request and the beginning go on record

        def crash(*_: object) -> None:
            if next(calls, 1) == 1:
                raise Crash

        getattr(house, when)[part] = crash
        with pytest.raises(Crash):
            house.uploads.undo("one")
        getattr(house, when).clear()
        house.restart()
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.wanted, task.placed) == (S.PREPROCESSED, None, ())
        assert house.everything()[1:3] == ({}, {})
        assert house.library.entries() == ()
        house.finish()

    def test_a_passing_error_is_told_and_tried_again(self, house: House) -> None:
        with pending_undo(house, S.IMPORTCOMPLETE):
            pass
        house.clock.forward(1)
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED
        assert house.files("music") == {}

    def test_what_lasts_ends_the_wish_with_the_reason(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        house.before["library.forget"] = fail(StorageError("The catalogue is tired."))
        with pytest.raises(StorageError):
            house.uploads.undo("one")
        house.heard()
        for _ in range(5):
            house.clock.forward(1000)
            house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.wanted, task.step) == (S.IMPORTCOMPLETE, None, None)
        assert "Tried 3 times" in str(task.message)
        assert task.deadline is not None
        house.before.clear()
        assert house.uploads.undo("one").state is S.PREPROCESSED

    def test_ends_a_wish_for_the_import(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.uploads.integrate("one", trigger_import=True)
        task = house.uploads.undo("one")
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED
        assert not task.import_wanted

    def test_of_one_upload_leaves_the_others(self, house: House) -> None:
        house.finish()
        house.bring(S.IMPORTCOMPLETE)
        house.uploads.undo("one")
        assert house.files("music") == {"Other/Other.mp4": b"another film"}
        assert house.entries() == {house.uploads.get("other").uid: "Other/Other.mp4"}


class TestRemove:
    @pytest.mark.parametrize("state", LIVE)
    def test_leaves_nothing_but_what_is_in_the_library(self, house: House, state: State) -> None:
        before = house.bring(state)
        library = house.everything()[1:3], house.library.entries()
        house.heard()
        task = house.uploads.remove("one")
        assert (task.state, task.deadline, task.wanted, task.step) == (S.REMOVE, None, None, None)
        assert task.revision == before.revision + 1
        assert house.heard() == [(UPDATE, "remove", before.code)]
        assert house.stored() == house.DATA or state in (S.WAITFORCHUNK, S.INVALIDCONTENT, S.IMPORTFAILED)
        house.worker.drain(100)
        assert house.uploads.list() == []
        assert house.files("uploads/tasks") == {}
        assert os.listdir(house.root / "uploads" / "data") == []
        assert (house.everything()[1:3], house.library.entries()) == library
        with house.refused_unknown():
            house.uploads.get("one")

    def test_survives_a_restart(self, house: House) -> None:
        house.bring(S.REMOVE)
        house.restart()
        house.worker.drain(100)
        assert house.uploads.list() == []
        assert os.listdir(house.root / "uploads" / "data") == []

    @pytest.mark.parametrize("part", ["bytes.delete", "tasks.delete"])
    def test_interrupted_by_a_crash_is_finished_after_the_start(self, house: House, part: str) -> None:
        house.bring(S.REMOVE)

        house.before[part] = fail(Crash())
        with pytest.raises(Crash):
            house.worker.step()
        house.before.clear()
        house.restart()
        house.worker.drain(100)
        assert house.uploads.list() == []
        assert (house.files("uploads/tasks"), os.listdir(house.root / "uploads" / "data")) == ({}, [])

    @pytest.mark.parametrize("part", ["bytes.delete", "tasks.delete"])
    def test_a_disk_that_fails_is_tried_again(self, house: House, part: str) -> None:
        house.bring(S.REMOVE)
        house.before[part] = fail(StorageError("The disk is tired."))
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.REMOVE
        house.before.clear()
        house.clock.forward(60)
        house.worker.drain(100)
        assert house.uploads.list() == []

    def test_during_the_check_of_the_checksum(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        house.restart()
        house.uploads.receive("one", offset=4, data=b" film")
        self.during(house, "bytes.open")

    @pytest.mark.parametrize(
        ("state", "wish", "part"),
        [
            (S.UPLOADCOMPLETE, "", "content.preprocess"),
            (S.PREPROCESSED, "request", "music.place"),
            (S.STARTIMPORT, "", "content.import_"),
            (S.IMPORTARTWORK, "", "content.illustrate"),
            (S.IMPORTARTWORK, "", "artwork.place"),
            (S.IMPORTARTWORK, "", "library.illustrate"),
        ],
    )
    def test_during_a_slow_step(self, house: House, state: State, wish: str, part: str) -> None:
        house.bring(state)
        music = house.files("music")
        if wish:
            getattr(house.uploads, wish)("one")
        self.during(house, part)
        assert house.files("music") == music
        assert house.files("artwork") == {}
        assert not (house.root / "artwork" / ".stagedoor").exists()
        house.finish()

    def during(self, house: House, part: str) -> None:
        gate = house.gate()
        house.before[part] = gate
        house.heard()
        with house.threads() as pool:
            step = pool.submit(house.uploads.perform, "one")
            gate.reached()
            task = house.uploads.remove("one")
            assert json.loads(house.document() or b"")["state"] == "remove"  # at once
            with house.refused(WrongState, "wrong_state"):
                house.uploads.annotate("one", name="Late")
            gate.open()
            assert step.result(house.PATIENCE)
        house.before.clear()
        assert house.uploads.get("one") == task  # the step has not overwritten it
        assert house.heard() == [(UPDATE, "remove", None)]
        house.worker.drain(100)
        assert house.uploads.list() == []
        assert (house.files("uploads/tasks"), os.listdir(house.root / "uploads" / "data")) == ({}, [])

    def missing_artwork(self, house: House) -> list[str]:
        """What the catalogue names and the artwork directory has not."""
        shown = [e.illustration for e in house.library.entries() if e.illustration and e.illustration.thumbnail]
        named = [f"{i.directory}/{name}" for i in shown for name in (i.thumbnail, i.preview)]
        return [name for name in named if name not in house.files("artwork")]

    def test_during_the_artwork_leaves_a_catalogue_that_names_no_missing_file(self, house: House) -> None:
        """The artwork that nobody recorded is taken back; the catalogue must not go on to name it."""
        house.bring(S.IMPORTARTWORK)
        gate = house.gate()
        house.before["library.illustrate"] = gate
        with house.threads() as pool:
            step = pool.submit(house.uploads.perform, "one")
            gate.reached()
            house.uploads.remove("one")
            gate.open()
            step.result(house.PATIENCE)
        house.worker.drain(100)
        assert self.missing_artwork(house) == []

    def test_an_artwork_step_given_up_leaves_a_catalogue_that_names_no_missing_file(self, house: House) -> None:
        house.bring(S.IMPORTARTWORK)
        house.after["library.illustrate"] = fail(StorageError("The catalogue is tired."))
        for _ in range(4):
            house.worker.drain(100)
            house.clock.forward(100)
        assert house.uploads.get("one").state is S.IMPORTFAILED
        assert self.missing_artwork(house) == []

    def test_after_cleaning_up_had_to_wait_nothing_stays_in_hiding(self, house: House) -> None:
        house.before["music.settle"] = fail(StorageError("The disk is tired."))
        house.bring(S.INTEGRATED)
        assert len(house.files("music")) > 1
        house.before.clear()
        house.uploads.remove("one")
        house.worker.drain(100)
        assert house.files("music") == {"Alpha/Beta.mp4": house.DATA}
        assert os.listdir(house.root / "music") == ["Alpha"]

    def test_a_deletion_is_something_done(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.uploads.remove("one")
        assert house.uploads.perform("one")
        assert not house.uploads.perform("one")

    def test_nothing_else_is_wanted_any_more(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        task = house.uploads.request("one", trigger_import=True)
        assert (task.wanted, task.import_wanted) == (T.INTEGRATE, True)
        task = house.uploads.remove("one")
        assert (task.wanted, task.import_wanted, task.step) == (None, False, None)

    def test_during_an_undo(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        gate = house.gate()
        house.before["library.forget"] = gate
        with house.threads() as pool:
            undo = pool.submit(house.uploads.undo, "one")
            gate.reached()
            house.uploads.remove("one")
            gate.open()
            assert undo.result(house.PATIENCE).state is S.REMOVE
        house.worker.drain(100)
        assert house.uploads.list() == []
        assert house.everything()[1:3] == ({}, {})
        assert house.library.entries() == ()

    def test_two_threads_remove_once(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)

        def remove(_: int) -> str:
            try:
                return house.uploads.remove("one").state.value
            except WrongState as error:
                return error.code

        with house.threads() as pool:
            assert sorted(pool.map(remove, range(4))) == ["remove", "wrong_state", "wrong_state", "wrong_state"]


class TestLooking:
    def test_get_is_the_task_as_it_is_now(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        assert house.uploads.get("one").offset == 4

    def test_a_task_cannot_be_changed_by_who_gets_it(self, house: House) -> None:
        task = house.bring(S.WAITFORCHUNK)
        with pytest.raises(TypeError):
            task.annotations["name"] = "x"  # type: ignore[index]  # that is the point
        with pytest.raises(AttributeError):
            task.offset = 5  # type: ignore[misc]  # that is the point
        to_dict(task)["annotations"]["name"] = "x"
        assert house.uploads.get("one").annotations["name"] == "Beta"

    def test_list_is_a_line_each_ordered_by_id(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK, "b")
        house.bring(S.UPLOADCOMPLETE, "a")
        assert [(s.id, s.state, s.due) for s in house.uploads.list()] == [
            ("a", S.UPLOADCOMPLETE, T.PREPROCESS),
            ("b", S.WAITFORCHUNK, None),
        ]

    def test_tasks_are_as_they_are_now(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK, "a")
        house.bring(S.WAITFORCHUNK, "b")
        house.uploads.receive("b", offset=0, data=b"fine")
        assert {t.id: t.offset for t in house.uploads.tasks()} == {"a": 0, "b": 4}

    def test_progress_does_not_show_in_a_notice_heard_before(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        (notice,) = house.notices
        house.uploads.receive("one", offset=0, data=b"fine")
        assert notice.offset == 0


class TestSubscribe:
    def test_hears_until_the_returned_function_is_called(self, house: House) -> None:
        heard: list[Notice] = []
        stop = house.uploads.subscribe(heard.append)
        house.bring(S.WAITFORCHUNK)
        stop()
        stop()
        house.uploads.annotate("one", x=1)
        assert len(heard) == 1

    def test_a_subscriber_that_raises_disturbs_nobody(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        heard: list[Notice] = []
        house.uploads.subscribe(fail(RuntimeError("I am a bad listener.")))
        house.uploads.subscribe(heard.append)
        house.bring(S.IMPORTCOMPLETE)
        assert heard == house.notices
        assert "I am a bad listener" in caplog.text

    def test_a_subscriber_may_call_the_engine(self, house: House) -> None:
        """MusicDB's client integrates an artwork as soon as it hears that it is pre-processed."""
        states: list[str] = []

        def integrate(notice: Notice) -> None:
            states.append(notice.state.value)
            if notice.state is S.PREPROCESSED and notice.task is not None and notice.task.wanted is None:
                house.uploads.integrate(notice.uploadid, trigger_import=True)

        house.uploads.subscribe(integrate)
        house.send()
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.IMPORTCOMPLETE
        assert states == [n.state.value for n in house.notices]
        assert states[-5:] == ["preprocessed", "integrated", "startimport", "importartwork", "importcomplete"]

    def test_a_subscriber_may_remove_what_it_hears_of(self, house: House) -> None:
        def remove(notice: Notice) -> None:
            if notice.state is S.UPLOADCOMPLETE:
                house.uploads.remove(notice.uploadid)

        house.uploads.subscribe(remove)
        house.send()
        assert house.uploads.get("one").state is S.REMOVE
        assert house.heard()[-1] == (UPDATE, "remove", None)

    def test_a_subscriber_that_blocks_holds_up_nobody(self, closed: House) -> None:
        uploads, gate, heard = closed.open(bus=ThreadedBus()), closed.gate(), threading.Event()
        uploads.subscribe(gate)
        uploads.subscribe(lambda n: heard.set() if n.state is S.IMPORTCOMPLETE else None)
        try:
            closed.bring(S.WAITFORCHUNK)
            gate.reached()
            closed.uploads.receive("one", offset=0, data=closed.DATA)
            closed.finish()
            assert heard.wait(closed.PATIENCE)
        finally:
            gate.open()

    def test_notices_of_one_upload_arrive_in_its_order(self, closed: House) -> None:
        """Promise 7, with a thread a subscriber and many writers."""
        uploads = closed.open(bus=ThreadedBus())
        closed.bring(S.WAITFORCHUNK)
        heard: list[int] = []
        uploads.subscribe(lambda n: heard.append(n.task.revision) if n.task else None)
        with closed.threads() as pool:
            list(pool.map(lambda i: uploads.annotate("one", {"n": i}), range(100)))
        closed.close()  # delivers what is queued
        assert heard == list(range(2, 102))


class TestNotices:
    def test_name_their_upload_and_show_it(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        house.uploads.initiate(house.offer())
        house.uploads.annotate("one", {"mood": "good"})
        house.uploads.undo("one")
        house.restart()
        house.bring(S.UPLOADFAILED, "two")
        house.uploads.retry("two")
        house.uploads.receive("two", offset=0, data=b"fine")
        house.restart()
        house.uploads.initiate(house.offer("two", sha1=house.WRONG))
        house.uploads.receive("two", offset=4, data=b" film")
        assert {notice.uploadid for notice in house.notices} == {"one", "two"}
        assert all(notice.task is not None and notice.task.id == notice.uploadid for notice in house.notices)

    def test_ask_for_nothing_when_all_bytes_are_here(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.before["tasks.cas"] = fail(StorageError("The disk is tired."))
        house.uploads.receive("one", offset=0, data=house.DATA)
        house.before.clear()
        house.notices.clear()
        task = house.uploads.initiate(house.offer())
        assert [(n.kind.value, n.uploadid, n.task) for n in house.notices] == [(UPDATE, "one", task)]


class TestWait:
    def test_returns_at_once_when_the_upload_rests(self, house: House) -> None:
        assert house.uploads.wait("one") is None
        task = house.bring(S.WAITFORCHUNK)
        assert house.uploads.wait("one", 0) == task

    def test_gives_up_when_nobody_does_the_work(self, house: House) -> None:
        house.bring(S.UPLOADCOMPLETE)
        with pytest.raises(TimeoutError, match="still busy in state uploadcomplete"):
            house.uploads.wait("one", 0)

    def test_waits_for_the_worker(self, house: House) -> None:
        gate = house.gate()
        house.before["content.preprocess"] = gate
        house.bring(S.UPLOADCOMPLETE)
        with house.threads() as pool:
            found = pool.submit(house.uploads.wait, "one", house.PATIENCE)
            step = pool.submit(house.uploads.perform, "one")
            gate.reached()
            assert not found.done()
            gate.open()
            assert step.result(house.PATIENCE)
            task = found.result(house.PATIENCE)
        assert task is not None
        assert task.state is S.PREPROCESSED

    def test_waits_for_a_deletion(self, house: House) -> None:
        house.bring(S.REMOVE)
        with house.threads() as pool:
            found = pool.submit(house.uploads.wait, "one", house.PATIENCE)
            house.worker.drain(100)
            assert found.result(house.PATIENCE) is None


class TestPerform:
    @pytest.mark.parametrize("state", [s for s in STORED_STATES if s not in DUE_STATES and s is not S.REMOVE])
    def test_has_nothing_to_do_for_who_rests(self, house: House, state: State) -> None:
        house.bring(state)
        stored = house.everything()
        assert house.uploads.perform("one") is False
        assert house.everything() == stored

    def test_has_nothing_to_do_for_nobody(self, house: House) -> None:
        assert house.uploads.perform("one") is False
        assert house.notices == []

    def test_does_a_step_once_for_two_threads(self, house: House) -> None:
        house.bring(S.UPLOADCOMPLETE)
        gate = house.gate()
        house.before["content.preprocess"] = gate
        with house.threads() as pool:
            first = pool.submit(house.uploads.perform, "one")
            gate.reached()
            assert house.uploads.perform("one") is False
            gate.open()
            assert first.result(house.PATIENCE) is True
        assert house.uploads.get("one").state is S.PREPROCESSED

    def test_records_the_beginning_before_the_work(self, house: House) -> None:
        house.bring(S.UPLOADCOMPLETE)
        seen: list[dict[str, Any]] = []
        house.before["content.preprocess"] = lambda *_: seen.append(json.loads(house.document() or b""))
        house.heard()
        house.uploads.perform("one")
        assert [(d["step"]["trigger"], d["step"]["attempt"], d["state"]) for d in seen] == [
            ("preprocess", 1, "uploadcomplete")
        ]
        assert house.heard() == [(UPDATE, "preprocessed", None)]  # the beginning is told to nobody
        assert house.uploads.get("one").step is None

    def test_records_the_plan_before_it_touches_the_library(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        seen: list[dict[str, Any]] = []
        house.before["music.place"] = lambda *_: seen.append(json.loads(house.document() or b""))
        house.uploads.integrate("one")
        assert [f["path"] for f in seen[0]["plan"]["files"]] == ["Alpha/Beta.mp4"]

    def test_forgets_why_completing_had_to_wait(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.before["bytes.seal"] = fail(StorageError("The disk is tired.", code="tired"))
        house.uploads.receive("one", offset=0, data=house.DATA)
        house.uploads.perform("one")
        task = house.uploads.get("one")
        assert (task.state, task.message, task.code) == (S.WAITFORCHUNK, "The disk is tired.", "tired")
        house.before.clear()
        house.clock.forward(DAY)
        house.uploads.perform("one")
        task = house.uploads.get("one")
        assert (task.state, task.message, task.code, task.step) == (S.UPLOADCOMPLETE, None, None, None)

    def test_the_content_type_is_told_the_sha256(self, house: House) -> None:
        house.bring(S.UPLOADCOMPLETE)
        told: list[str | None] = []
        house.before["content.preprocess"] = lambda task, *_: told.append(task.sha256)
        house.uploads.perform("one")
        assert told == [hashlib.sha256(house.DATA).hexdigest()] == [house.uploads.get("one").sha256]

    def test_content_that_changed_on_the_disk_is_found(self, house: House) -> None:
        task = house.bring(S.UPLOADCOMPLETE)
        (house.root / "uploads" / task.destinationpath).write_bytes(b"fire film")
        house.uploads.perform("one")
        task = house.uploads.get("one")
        assert (task.state, task.code) == (S.INVALIDCONTENT, "data_lost")


def test_who_comes_to_an_upload_that_somebody_has_waits(house: House) -> None:
    house.bring(S.WAITFORCHUNK)
    gate = house.gate()
    house.before["bytes.append"] = gate
    with house.threads() as pool:
        chunk = pool.submit(house.uploads.receive, "one", offset=0, data=house.DATA[:4])
        gate.reached()
        other = pool.submit(house.uploads.annotate, "one", {"mood": "good"})
        deadline = time.monotonic() + house.PATIENCE
        while house.uploads._locks["one"].users < 2:
            assert time.monotonic() < deadline
            assert not other.done()
        gate.open()
        assert chunk.result(house.PATIENCE).offset == 4
        task = other.result(house.PATIENCE)
    assert (task.offset, task.annotations["mood"]) == (4, "good")
    assert house.uploads._locks == {}


class Surprising(PlainContent):
    """Makes a picture that it has not planned."""

    def illustrate(self, task: UploadTask, source: Source) -> Illustrated:
        made = super().illustrate(task, source)
        return attrs.evolve(made, files={path.replace("frame", "other"): data for path, data in made.files.items()})


def test_a_picture_that_was_not_planned_is_placed_and_taken_back(closed: House) -> None:
    closed.open(contents=[Surprising()])
    task = closed.bring(S.IMPORTCOMPLETE)
    (picture,) = (file.path for file in task.placed if file.root == "artwork")
    assert picture.endswith("other.jpg")
    assert list(closed.files("artwork")) == [picture]
    closed.uploads.undo("one")
    assert closed.files("artwork") == {}


class Renaming(PlainContent):
    """Finds another name for its picture when somebody has the first one."""

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        plan = super().plan(task, around)
        return attrs.evolve(plan, artwork=tuple(attrs.evolve(file, optional=True) for file in plan.artwork))

    def renamed(self, plan: Plan, around: Surroundings) -> Plan:
        (file,) = plan.artwork
        free = next(
            path for path in (f"Alpha/Beta/frame{n}.jpg" for n in range(9)) if not around.exists("artwork", path)
        )
        return attrs.evolve(plan, artwork=(attrs.evolve(file, path=free),))


def test_what_went_wrong_before_is_forgotten_when_it_worked(closed: House) -> None:
    closed.open(contents=[PlainContent(has_artwork=False)])
    closed.bring(S.STARTIMPORT)
    closed.before["library.put"] = fail(StorageError("The catalogue is tired."))
    closed.uploads.perform("one")
    task = closed.uploads.get("one")
    assert (task.state, task.message, task.code) == (S.STARTIMPORT, "The catalogue is tired.", "storage_error")
    closed.before.clear()
    closed.clock.forward(DAY)
    closed.worker.drain(100)
    task = closed.uploads.get("one")
    assert (task.state, task.message, task.code, task.step) == (S.IMPORTCOMPLETE, None, None, None)


def test_a_file_that_goes_before_the_import_is_missed(house: House) -> None:
    house.bring(S.STARTIMPORT)
    (house.root / "music" / "Alpha" / "Beta.mp4").unlink()
    house.worker.drain(100)
    task = house.uploads.get("one")
    assert (task.state, task.code) == (S.IMPORTFAILED, "file_missing")
    assert task.message == "Alpha/Beta.mp4 is not in the music directory any more. Undo, and integrate again."
    assert house.library.entries() == ()


class TestNamesOfArtwork:
    def make(self, house: House) -> Path:
        house.open(contents=[Renaming()])
        house.bring(S.STARTIMPORT)
        return house.root / "artwork" / "Alpha" / "Beta" / "frame.jpg"

    def finish(self, house: House, name: str) -> None:
        house.clock.forward(DAY)
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.message) == (S.IMPORTCOMPLETE, None)
        assert [file.path for file in task.placed if file.root == "artwork"] == [f"Alpha/Beta/{name}"]
        assert (house.root / "artwork" / "Alpha" / "Beta" / name).read_bytes().startswith(b"JPEG")

    def test_that_is_free_is_kept(self, closed: House) -> None:
        self.make(closed)
        self.finish(closed, "frame.jpg")

    def test_that_somebody_has_taken_since_is_left_to_him(self, closed: House) -> None:
        picture = self.make(closed)
        picture.parent.mkdir(parents=True)
        picture.write_bytes(b"theirs")
        self.finish(closed, "frame0.jpg")
        assert picture.read_bytes() == b"theirs"

    def test_that_somebody_takes_at_the_last_moment_is_left_to_him(self, closed: House) -> None:
        picture = self.make(closed)

        def take(*_: object) -> None:
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(b"theirs")

        closed.before["artwork.place"] = take
        closed.worker.drain(100)
        task = closed.uploads.get("one")
        assert (task.state, task.code) == (S.IMPORTARTWORK, "name_taken")
        assert task.message == "Somebody was faster with a name. Another one is looked for."
        closed.before.clear()
        self.finish(closed, "frame0.jpg")
        assert picture.read_bytes() == b"theirs"

    def test_that_an_attempt_has_taken_is_no_strangers(self, closed: House) -> None:
        self.make(closed)
        closed.before["library.illustrate"] = fail(Crash())
        with pytest.raises(Crash):
            closed.worker.drain(100)
        closed.before.clear()
        closed.restart(contents=[Renaming()])
        self.finish(closed, "frame.jpg")
        assert sorted(closed.files("artwork")) == ["Alpha/Beta/frame.jpg"]


class TestExpire:
    @pytest.mark.parametrize("state", [s for s in LIVE if (T.EXPIRE, s) in ladders()])
    def test_not_before_the_deadline(self, house: House, state: State) -> None:
        task = house.bring(state)
        assert task.deadline is not None
        house.clock.forward(task.deadline - house.clock.now - 0.5)
        house.heard()
        with house.refused(Refused, "deadline_passed", guard="deadline_passed", says="not expired"):
            house.uploads.expire("one")
        assert house.uploads.sweep() == 0
        house.clock.forward(0.5)
        assert house.uploads.expire("one").state is S.REMOVE
        assert house.heard() == [(UPDATE, "remove", task.code)]

    def test_not_while_there_is_work_to_do(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.uploads.request("one")
        house.clock.forward(1000 * DAY)
        with house.refused(Refused, "deadline_passed", guard="deadline_passed"):
            house.uploads.expire("one")
        assert house.uploads.sweep() == 0

    def test_a_user_who_annotates_is_still_there(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.clock.forward(29 * DAY)
        house.uploads.annotate("one", mood="good")
        house.clock.forward(29 * DAY)
        assert house.uploads.sweep() == 0

    def test_sweep_expires_what_is_over_and_nothing_else(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK, "old")
        house.bring(S.IMPORTCOMPLETE, "done")
        house.bring(S.UPLOADCOMPLETE, "busy", annotations={"artistname": "A", "name": "B"})
        house.clock.forward(7 * DAY)
        house.bring(S.WAITFORCHUNK, "new")
        assert house.uploads.sweep() == 1
        assert {s.id: s.state for s in house.uploads.list()} == {
            "old": S.REMOVE,
            "done": S.IMPORTCOMPLETE,
            "busy": S.UPLOADCOMPLETE,
            "new": S.WAITFORCHUNK,
        }
        assert house.uploads.sweep() == 0

    def test_sweep_counts_what_it_expires(self, house: House) -> None:
        for name in ("a", "b", "c"):
            house.bring(S.WAITFORCHUNK, name)
        house.clock.forward(1000 * DAY)
        assert house.uploads.sweep() == 3

    def test_expiry_does_not_touch_the_library(self, house: House) -> None:
        house.bring(S.IMPORTCOMPLETE)
        house.clock.forward(30 * DAY)
        house.uploads.sweep()
        house.worker.drain(100)
        assert house.uploads.list() == []
        assert list(house.files("music")) == ["Alpha/Beta.mp4"]
        assert len(house.library.entries()) == 1

    def test_what_is_in_quarantine_ages_out(self, closed: House) -> None:
        tasks = closed.root / "uploads" / "tasks"
        tasks.mkdir(parents=True)
        (tasks / "torn.json").write_bytes(b'{"id"')
        uploads = closed.open(quarantine=0.0, sweep=1.0)
        (name,) = uploads.recovery.quarantined
        assert (closed.root / "uploads" / name).exists()
        closed.clock.now = 1e12  # whatever the clock on the wall says
        uploads.sweep()
        assert not (closed.root / "uploads" / name).exists()


class TestRecovery:
    @pytest.mark.parametrize("state", STORED_STATES)
    def test_every_state_is_as_it_was(self, house: House, state: State) -> None:
        before = house.bring(state)
        house.restart()
        assert house.uploads.recovery.tasks == 1
        assert (house.uploads.recovery.lost, house.uploads.recovery.quarantined) == ({}, [])
        after = house.uploads.get("one")
        assert after == before
        house.finish()

    def test_data_beyond_the_record_is_cut_away(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        task = house.uploads.receive("one", offset=0, data=b"fine")
        with (house.root / "uploads" / task.destinationpath).open("ab") as file:
            file.write(b" unacknowledged")
        house.restart()
        assert (house.uploads.get("one").offset, house.stored()) == (4, b"fine")
        house.uploads.receive("one", offset=4, data=b" film")
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED

    @pytest.mark.parametrize("damage", ["short", "missing"])
    def test_data_that_is_lost_is_a_failure_and_is_said_loudly(
        self, house: House, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        house.bring(S.WAITFORCHUNK)
        path = house.root / "uploads" / house.uploads.receive("one", offset=0, data=b"fine").destinationpath
        path.write_bytes(b"fin") if damage == "short" else path.unlink()
        house.restart()
        task = house.uploads.get("one")
        assert (task.state, task.code) == (S.UPLOADFAILED, "data_lost")
        assert "Data was lost" in str(task.message)
        assert list(house.uploads.recovery.lost) == ["one"]
        assert any(r.levelname == "ERROR" and "one" in r.getMessage() for r in caplog.records)
        house.uploads.retry("one")
        house.send()
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED
        house.finish()

    @pytest.mark.parametrize("damage", ["file", "directory"])
    def test_verified_data_that_is_lost_is_found_by_the_step(self, house: House, damage: str) -> None:
        path = house.root / "uploads" / house.bring(S.UPLOADCOMPLETE).destinationpath
        path.unlink()
        if damage == "directory":
            path.parent.rmdir()
        house.restart()
        assert list(house.uploads.recovery.lost) == (["one"] if damage == "directory" else [])
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.code) == (S.INVALIDCONTENT, "data_lost")
        house.finish()

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("torn.json", b'{"id": "torn", "filesi'),
            ("empty.json", b""),
            ("other.json", b'{"id": "another"}'),
            ("list.json", b"[]"),
            ("notes.txt", b"do not forget"),
            ("newer.json", b'{"schema": 99, "id": "newer"}'),
            (".json", b"{}"),
        ],
    )
    def test_what_is_no_task_goes_into_quarantine(self, house: House, name: str, content: bytes) -> None:
        house.bring(S.PREPROCESSED)
        house.close()
        (house.root / "uploads" / "tasks" / name).write_bytes(content)
        house.open()
        (found,) = house.uploads.recovery.quarantined
        assert (house.root / "uploads" / found).read_bytes() == content
        assert [s.id for s in house.uploads.list()] == ["one"]
        house.finish()

    def test_data_of_nobody_goes_into_quarantine(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        place = house.root / "uploads" / "data" / ("0" * 32 + ".0")
        place.mkdir()
        (place / "video-pending.mp4").write_bytes(b"whose?")
        house.restart()
        (found,) = house.uploads.recovery.quarantined
        assert (house.root / "uploads" / found / "video-pending.mp4").read_bytes() == b"whose?"
        house.finish()

    def test_temporary_files_are_deleted(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        (house.root / "uploads" / "tasks" / ".one.json.7f.tmp").write_bytes(b"{")
        house.restart()
        assert list(house.files("uploads/tasks")) == ["one.json"]

    def test_all_bytes_on_record_completes(self, house: House) -> None:
        house.bring(S.WAITFORCHUNK)
        house.before["tasks.cas"] = fail(StorageError("The disk is tired."))
        house.uploads.receive("one", offset=0, data=house.DATA)
        house.before.clear()
        house.restart()
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED

    @pytest.mark.parametrize(
        ("state", "part", "then"),
        [
            (S.UPLOADCOMPLETE, "content.preprocess", S.PREPROCESSED),
            (S.PREPROCESSED, "music.place", S.INTEGRATED),
            (S.STARTIMPORT, "library.put", S.IMPORTCOMPLETE),
            (S.IMPORTARTWORK, "artwork.place", S.IMPORTCOMPLETE),
            (S.IMPORTARTWORK, "library.illustrate", S.IMPORTCOMPLETE),
        ],
    )
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_step_that_a_crash_ended_is_done_again(
        self, house: House, state: State, part: str, then: State, when: str
    ) -> None:
        house.bring(state)
        if state is S.PREPROCESSED:
            house.uploads.request("one")

        getattr(house, when)[part] = fail(Crash())
        with pytest.raises(Crash):
            house.uploads.perform("one")
        getattr(house, when).clear()
        house.restart()
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.message) == (then, None)
        assert house.files("music") in ({}, {"Alpha/Beta.mp4": house.DATA})
        assert len(house.library.entries()) <= 1
        house.finish()

    def test_one_lost_upload_keeps_nobody_from_the_others(self, house: House) -> None:
        lost = [house.bring(S.WAITFORCHUNK, name) for name in ("a", "b")]
        house.bring(S.UPLOADCOMPLETE, "c")
        for task in lost:
            shutil.rmtree(house.root / "uploads" / "data" / task.key)
        house.restart()
        assert set(house.uploads.recovery.lost) == {"a", "b"}
        assert [house.uploads.get(task.id).state for task in lost] == [S.UPLOADFAILED] * 2
        house.worker.drain(100)
        assert house.uploads.get("c").state is S.PREPROCESSED

    def test_bytes_that_are_missing_are_counted(self, house: House) -> None:
        task = house.bring(S.WAITFORCHUNK)
        house.uploads.receive("one", offset=0, data=b"fine")
        (path,) = (house.root / "uploads" / "data" / task.key).glob("video-*")
        os.truncate(path, 2)
        house.restart()
        assert house.uploads.get("one").message == ("Data was lost. 4 bytes are on record, but only 2 are on the disk.")

    def test_data_that_is_lost_is_told_with_the_reason(self, house: House) -> None:
        task = house.bring(S.WAITFORCHUNK)
        shutil.rmtree(house.root / "uploads" / "data" / task.key)
        house.restart()
        task = house.uploads.get("one")
        assert (task.state, task.message) == (
            S.UPLOADFAILED,
            "Data was lost. The uploaded data is gone from the disk.",
        )

    def test_after_three_crashes_the_step_has_failed(self, house: House) -> None:
        house.bring(S.UPLOADCOMPLETE)

        house.before["content.preprocess"] = fail(Crash())
        for _ in range(3):
            with pytest.raises(Crash):
                house.worker.drain(100)
            house.restart()
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.code) == (S.INVALIDCONTENT, "gave_up")
        assert task.message == "Tried 3 times. The server stopped each time before it was done."
        house.before.clear()
        house.finish()

    def test_after_three_crashes_no_artwork_stays_that_nobody_knows(self, house: House) -> None:
        house.bring(S.IMPORTARTWORK)
        house.before["library.illustrate"] = fail(Crash())
        for _ in range(3):
            with pytest.raises(Crash):
                house.worker.drain(100)
            house.restart()
        assert "Alpha/Beta/frame.jpg" in house.files("artwork")
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.code) == (S.IMPORTFAILED, "gave_up")
        assert house.files("artwork") == {}

    def test_somebody_elses_file_at_the_destination_is_not_adopted(self, house: House) -> None:
        house.bring(S.PREPROCESSED)
        house.uploads.request("one")

        house.before["music.place"] = fail(Crash())
        with pytest.raises(Crash):
            house.uploads.perform("one")
        house.before.clear()
        (house.root / "music" / "Alpha").mkdir()
        (house.root / "music" / "Alpha" / "Beta.mp4").write_bytes(house.DATA)  # the same bytes, even
        house.restart()
        house.worker.drain(100)
        task = house.uploads.get("one")
        assert (task.state, task.code) == (S.INTEGRATIONFAILED, "destination_exists")
        assert house.files("music") == {"Alpha/Beta.mp4": house.DATA}

    def test_a_hidden_copy_that_nobody_needs_is_deleted(self, house: House) -> None:
        house.bring(S.INTEGRATED)
        hidden = house.root / "music" / ".stagedoor" / ("1" * 32)
        hidden.mkdir(parents=True)
        (hidden / "copy").write_bytes(b"half")
        house.restart()
        assert list(house.files("music")) == ["Alpha/Beta.mp4"]
        assert not (house.root / "music" / ".stagedoor").exists()

    def test_an_interrupted_retry_leaves_one_set_of_bytes(self, house: House) -> None:
        house.bring(S.UPLOADFAILED)

        house.before["tasks.cas"] = fail(Crash())
        with pytest.raises(Crash):
            house.uploads.retry("one")
        house.before.clear()
        house.restart()
        task = house.uploads.get("one")
        assert task.state is S.UPLOADFAILED
        assert os.listdir(house.root / "uploads" / "data") == [task.key]
        assert house.uploads.retry("one").generation == 1

    def test_back_off_survives_a_restart(self, house: House) -> None:
        house.bring(S.UPLOADCOMPLETE)
        house.before["content.preprocess"] = fail(StorageError("The disk is tired."))
        house.worker.drain(100)
        house.before.clear()
        house.restart()
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.UPLOADCOMPLETE
        house.clock.forward(1)
        house.worker.drain(100)
        assert house.uploads.get("one").state is S.PREPROCESSED


def open_in(path: Path, **options: Any) -> Uploads:
    options.setdefault("library", MemoryLibrary())
    options.setdefault("contents", [PlainContent()])
    return Uploads.open(path / "uploads", music=path / "music", durability="none", **options)


class TestOpen:
    def test_twice_on_one_directory_is_in_use(self, tmp_path: Path) -> None:
        with open_in(tmp_path):
            with pytest.raises(InUse, match=rf"in use by process {os.getpid()}\. Stop that process") as caught:
                open_in(tmp_path)
            assert caught.value.code == "in_use"
        with open_in(tmp_path) as uploads:
            assert uploads.list() == []

    def test_artwork_goes_where_it_should(self, tmp_path: Path) -> None:
        with Uploads.open(tmp_path / "uploads", music=tmp_path / "Music", artwork=tmp_path / "pictures", contents=[]):
            assert sorted(os.listdir(tmp_path)) == ["Music", "pictures", "uploads"]

    def test_a_library_that_cannot_be_asked_knows_nothing(self, tmp_path: Path) -> None:
        with Uploads.open(tmp_path / "uploads", music=tmp_path / "Music", library=NullLibrary(), contents=[]) as there:
            assert there.known("0" * 40) == ()

    def test_from_another_process_is_in_use(self, tmp_path: Path) -> None:
        script = """
            import sys
            from stagedoor.engine import Uploads
            from stagedoor.errors import InUse
            from stagedoor.library.memory import NullLibrary
            try:
                Uploads.open(sys.argv[1], music=sys.argv[2], library=NullLibrary(), contents=[])
            except InUse as error:
                print(error.code)
        """
        with open_in(tmp_path):
            assert python(script, str(tmp_path / "uploads"), str(tmp_path / "music")) == "in_use"

    def test_after_a_failed_start_the_directory_is_free(self, tmp_path: Path) -> None:
        (tmp_path / "music").write_text("no directory")
        with pytest.raises(StorageError):
            open_in(tmp_path)
        (tmp_path / "music").unlink()
        with open_in(tmp_path) as uploads:
            assert uploads.list() == []

    def test_an_unknown_durability_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="power, process or none"):
            Uploads.open(tmp_path, music=tmp_path, durability="maybe")  # type: ignore[arg-type]  # that is the point

    @pytest.mark.parametrize("durability", ["power", "process", "none"])
    def test_the_durability_is_that_of_every_part(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability
    ) -> None:
        seen: list[tuple[str, object]] = []

        def watch(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def made(*args: object, **kwargs: object) -> object:
                bound = inspect.signature(real).bind(*args, **kwargs)
                seen.append((name, bound.arguments["durability"]))
                return real(*args, **kwargs)

            return made

        parts = ("LocalBytes", "LocalTasks", "LocalTree", "adopt_musicdb")
        for name in parts:
            monkeypatch.setattr(f"stagedoor.engine.{name}", watch(name, getattr(engine, name)))
        opened: list[bool] = []
        catalogue = Catalogue.open

        def open_catalogue(path: str, *, durable: bool) -> Catalogue:
            opened.append(durable)
            return catalogue(path)

        monkeypatch.setattr(Catalogue, "open", open_catalogue)
        Uploads.open(tmp_path / "u", music=tmp_path / "m", durability=durability, contents=[]).close()
        assert sorted(seen) == sorted((name, durability) for name in (*parts, "LocalTree"))
        assert opened == [durability == "power"]

    def test_built_in_content_is_named_and_ended_as_it_should(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[object] = []

        def builtin(*, scheme: object, scratch: object) -> tuple[list[PlainContent], Callable[[], None]]:
            asked.append((scheme, scratch))
            return [PlainContent()], lambda: asked.append("ended")

        monkeypatch.setattr("stagedoor.content.builtin", builtin)
        Uploads.open(tmp_path / "u", music=tmp_path / "m", durability="none", naming="plain").close()
        assert asked == [("plain", str(tmp_path / "u")), "ended"]

    def test_artwork_is_beside_the_uploads(self, tmp_path: Path) -> None:
        with open_in(tmp_path):
            assert (tmp_path / "artwork").is_dir()

    def test_the_catalogue_and_the_content_types_are_built_in(self, tmp_path: Path) -> None:
        with Uploads.open(tmp_path / "u", music=tmp_path / "m", durability="none") as uploads:
            assert "video" in uploads.ports.contents
            assert (tmp_path / "u" / "catalogue.sqlite").exists()

    def test_close_twice(self, tmp_path: Path) -> None:
        uploads = open_in(tmp_path)
        uploads.close()
        uploads.close()

    def test_close_lets_go_of_every_descriptor(self, tmp_path: Path) -> None:
        before = set(os.listdir("/proc/self/fd"))
        with open_in(tmp_path) as uploads:
            uploads.initiate(Offer("one", filename="a.mp4", contenttype="video", filesize=9))
            uploads.receive("one", offset=0, data=b"fine")
        assert set(os.listdir("/proc/self/fd")) <= before

    def test_after_close_nothing_is_written(self, tmp_path: Path) -> None:
        """The lock is gone: somebody else may own the directory."""
        first = open_in(tmp_path)
        first.initiate(Offer("one", filename="a.mp4", contenttype="video", filesize=9))
        first.close()
        with open_in(tmp_path) as second:
            with pytest.raises(InUse) as closed:
                first.annotate("one", name="x")
            assert closed.value.code == "closed"
            with pytest.raises(StorageError):
                first.initiate(Offer("two", filename="a.mp4", contenttype="video", filesize=9))
            with pytest.raises(StorageError):
                first.receive("one", offset=0, data=b"fine")
            second.receive("one", offset=0, data=b"good")
            assert second.get("one").revision == 1

    def test_a_forked_child_must_not_write(self, tmp_path: Path) -> None:
        script = """
            import os, sys
            from stagedoor.engine import Uploads
            from stagedoor.errors import InUse
            from stagedoor.library.memory import MemoryLibrary
            from stagedoor.tasks import Offer
            from stagedoor.testing.content import PlainContent
            from stagedoor.adapters.inprocess import InlineBus

            with Uploads.open(sys.argv[1], music=sys.argv[2], library=MemoryLibrary(), contents=[PlainContent()],
                              durability="none", bus=InlineBus()) as uploads:
                offer = lambda id: Offer(id, filename="a.mp4", contenttype="video", filesize=9)
                for id in ("one", "gone", "going"):
                    uploads.initiate(offer(id))
                uploads.remove("going")
                child = os.fork()
                if not child:
                    wrote = ""
                    for name, call in {
                        "annotate": lambda: uploads.annotate("one", name="x"),
                        "remove": lambda: uploads.remove("gone"),
                        "initiate": lambda: uploads.initiate(offer("two")),
                        "receive": lambda: uploads.receive("one", offset=0, data=b"fine"),
                        "delete": lambda: uploads.perform("going"),
                    }.items():
                        try:
                            call()
                            wrote += name + " "
                        except InUse:
                            pass
                    print(wrote, flush=True)
                    os._exit(0)
                os.waitpid(child, 0)
                task = uploads.get("one")
                print(sorted(s.id for s in uploads.list()), task.revision, task.offset)
                print(sorted(os.listdir(sys.argv[1] + "/tasks")), len(os.listdir(sys.argv[1] + "/data")))
                data = sys.argv[1] + "/" + task.destinationpath
                print(os.path.getsize(data), uploads.receive("one", offset=0, data=b"good").offset)
        """
        said = python(script, str(tmp_path / "uploads"), str(tmp_path / "music")).splitlines()
        assert said == [
            "",
            "['going', 'gone', 'one'] 1 0",
            "['going.json', 'gone.json', 'one.json'] 3",
            "0 4",
        ]

    def test_task_files_of_musicdb_7_load(self, tmp_path: Path) -> None:
        data, root = b"fine film", tmp_path / "uploads"
        (root / "tasks").mkdir(parents=True)

        def musicdb(uploadid: str, state: str, offset: int, **other: object) -> None:
            checksum = sha1(data + uploadid.encode())
            document = {
                "id": uploadid, "filesize": len(data), "offset": offset, "contenttype": "video",
                "mimetype": "video/mp4", "sourcefilename": f"{uploadid}.mp4", "sourcechecksum": checksum,
                "destinationpath": f"/srv/uploads/video-{checksum}.mp4", "videofile": None,
                "artworkfile": None, "state": state, "annotations": {"name": "Beta", "artistname": "Alpha"},
            }  # fmt: skip
            (root / "tasks" / f"{uploadid}.json").write_text(json.dumps(document | other))
            (root / f"video-{checksum}.mp4").write_bytes(data[:offset])

        musicdb("waiting", "waitforchunk", 4)
        musicdb("ready", "preprocessed", 9)
        musicdb("done", "importcomplete", 9, videofile="/srv/music/Alpha/2000 - Beta.mp4", extra=["kept"])
        with open_in(tmp_path) as uploads:
            assert uploads.recovery.adopted == 3
            assert {t.id: (t.state, t.offset) for t in uploads.tasks()} == {
                "waiting": (S.WAITFORCHUNK, 4),
                "ready": (S.PREPROCESSED, 9),
                "done": (S.IMPORTCOMPLETE, 9),
            }
            done = uploads.get("done")
            assert (done.videofile, done.placed) == (None, ())
            assert done.foreign["extra"] == ("kept",)
            assert done.foreign["videofile"] == "/srv/music/Alpha/2000 - Beta.mp4"
            assert uploads.receive("waiting", offset=4, data=data[4:]).offset == 9
            assert uploads.integrate("ready").state is S.INTEGRATED
            assert (tmp_path / "music" / "Alpha" / "Beta.mp4").read_bytes() == data
        with open_in(tmp_path) as uploads:
            assert uploads.recovery.adopted == 0
            assert len(uploads.list()) == 3


def python(script: str, *arguments: str) -> str:
    """What a program says, started afresh: nothing is inherited but the directory."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.removesuffix("\n")
