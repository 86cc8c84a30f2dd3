"""The faults of the original, each with a test of its name: none of them is here, nothing is lost, work goes on."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import orjson
import pytest

from stagedoor.adapters.inprocess import ThreadedBus
from stagedoor.content import builtin
from stagedoor.engine import Uploads
from stagedoor.errors import (
    Duplicate,
    OffsetMismatch,
    Refused,
    StorageError,
    StorageFull,
    TaskNotFound,
    TooLarge,
    WrongState,
)
from stagedoor.lifecycle import State
from stagedoor.notices import Notice
from stagedoor.tasks import to_dict
from stagedoor.testing import media
from stagedoor.testing.disk import Crash, FuseDisk
from stagedoor.worker import manage

if TYPE_CHECKING:
    from conftest import House

S = State
DAY = 86_400.0


def fail(error: BaseException) -> Callable[..., NoReturn]:
    """A hook, or a subscriber, that raises."""

    def hook(*_: object, **__: object) -> NoReturn:
        raise error

    return hook


@pytest.fixture
def studio(closed: House) -> Iterator[House]:
    """A house that looks into videos for real."""
    contents, close = builtin()
    try:
        closed.open(contents=contents)
        yield closed
    finally:
        closed.close()
        close()


VIDEO = {"artistname": "Alpha", "name": "Beta", "release": "2001"}


def finish_video(house: House) -> None:
    """The worker works: another video gets to the end."""
    house.send("other", media.video(seconds=1, audio=False), annotations={**VIDEO, "artistname": "Other"})
    house.worker.drain(100)
    house.uploads.integrate("other", trigger_import=True)
    house.worker.drain(100)
    task = house.uploads.get("other")
    assert (task.state, task.message) == (S.IMPORTCOMPLETE, None)
    assert "Other/2001 - Beta.mp4" in house.files("music")


# ── the worker ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bad", ["raises", "crashes"])
def test_a_worker_thread_dies_of_one_bad_file_and_again_after_each_restart(closed: House, bad: str) -> None:
    uploads = closed.open(bus=ThreadedBus(), backoff=0.0)

    def bad_file(task: Any, *_: object) -> None:
        if task.id == "one":
            raise RuntimeError("Boom.") if bad == "raises" else SystemExit

    closed.before["content.preprocess"] = bad_file
    for start in range(3):
        with manage(uploads):
            if start:
                uploads.retry("one")
            else:
                closed.send()
            closed.send(f"good{start}", annotations={"artistname": "Good", "name": f"Good{start}"})
            for uploadid, state in ((f"good{start}", S.PREPROCESSED), ("one", S.INVALIDCONTENT)):
                task = uploads.wait(uploadid, closed.PATIENCE)
                assert task is not None
                assert task.state is state
        uploads = closed.restart(bus=ThreadedBus(), backoff=0.0)
    task = uploads.get("one")
    assert task.state is S.INVALIDCONTENT  # it is over, and starts no more
    assert "Tried 3 times" in str(task.message)
    assert closed.stored() == closed.DATA
    closed.finish()


def test_a_successful_import_reports_failure(house: House) -> None:
    task = house.bring(S.IMPORTCOMPLETE)
    assert (task.message, task.code) == (None, None)
    assert [n for n in house.notices if n.kind == "InternalError" or n.message is not None] == []
    assert [n.state for n in house.notices[-3:]] == [S.STARTIMPORT, S.IMPORTARTWORK, S.IMPORTCOMPLETE]
    assert house.entries() == {task.uid: "Alpha/Beta.mp4"}
    house.finish()


def test_an_unknown_id_crashes_instead_of_notifying(house: House) -> None:
    uploads = house.uploads
    for call in (
        lambda: uploads.get("nobody"),
        lambda: uploads.receive("nobody", offset=0, data=b"x"),
        lambda: uploads.annotate("nobody", name="x"),
        lambda: uploads.integrate("nobody"),
        lambda: uploads.start_import("nobody"),
        lambda: uploads.undo("nobody"),
        lambda: uploads.remove("nobody"),
        lambda: uploads.retry("nobody"),
        lambda: uploads.declare("nobody", filesize=1),
        lambda: uploads.plan("nobody"),
    ):
        with pytest.raises(TaskNotFound) as caught:
            call()
        assert caught.value.code == "not_found"
        assert house.heard() == [("InternalError", "notexisting", "not_found")]
    assert uploads.perform("nobody") is False
    house.finish()


# ── paths ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("uploadid", ["../evil", "/etc/evil", "..", "a/../../evil", "evil\0", ".lock"])
def test_path_traversal_through_the_upload_id(house: House, uploadid: str) -> None:
    for call in (
        lambda: house.offer(uploadid),
        lambda: house.uploads.get(uploadid),
        lambda: house.uploads.remove(uploadid),
    ):
        with house.refused(Refused, "invalid_id"):
            call()
    house.finish()


@pytest.mark.parametrize("checksum", ["../../../evil", "/" * 40, "." * 40, "0" * 38 + "/x"])
def test_path_traversal_through_the_checksum(house: House, checksum: str) -> None:
    with house.refused(Refused, "invalid_checksum"):
        house.offer(sha1=checksum)
    house.bring(S.WAITFORCHUNK, sha1=None)
    with house.refused(Refused, "invalid_checksum"):
        house.uploads.declare("one", sha1=checksum)
    house.finish()


def test_path_traversal_through_the_content_type_or_file_name(house: House) -> None:
    with house.refused(Refused, "invalid_contenttype"):
        house.offer(contenttype="../evil")
    task = house.uploads.initiate(house.offer(filename="../../evil.mp4/../x.m/p4"))
    assert task.destinationpath == f"data/{task.key}/video-pending.mp4"
    house.finish()


@pytest.mark.parametrize(
    ("artist", "name"),
    [
        ("../../evil", "evil"),
        ("..", "evil"),
        ("fine", "../../../evil"),
        ("/etc/cron.d", "evil"),
        ("evil\0", "\0/../evil"),
        ("~root", "$HOME"),
        ("..\\..\\evil", "C:\\evil"),
    ],
    ids=["up", "dots", "name", "absolute", "zero", "shell", "backslash"],
)
def test_path_traversal_through_the_annotations(studio: House, artist: str, name: str) -> None:
    outside = sorted(p for p in studio.root.iterdir())
    data = media.video(seconds=1, audio=False)
    studio.bring(S.UPLOADCOMPLETE, data=data, annotations={"artistname": artist, "name": name, "release": "2001"})
    studio.worker.drain(100)
    task = studio.uploads.integrate("one", trigger_import=True)
    studio.worker.drain(100)
    task = studio.uploads.get("one")
    assert sorted(p for p in studio.root.iterdir()) == outside
    if artist == "..":
        assert (task.state, task.code) == (S.INTEGRATIONFAILED, "unusable_name")
        assert studio.files("music") == {}
        return
    assert task.state is S.IMPORTCOMPLETE
    (path,) = studio.files("music")
    assert path.count("/") == 1
    assert all(part not in ("", ".", "..") and not part.startswith(".") for part in path.split("/"))
    assert {p.split("/")[0] for p in studio.files("artwork")} == {path.split("/")[0]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("destinationpath", "../../evil.mp4"),
        ("destinationpath", "/etc/passwd"),
        ("videofile", "../evil.mp4"),
        ("created_directories", ["music/../.."]),
        ("uid", "../../" + "0" * 26),
        ("placed", [{"root": "music", "path": "../evil", "size": 5, "sha256": "0" * 64}]),
        ("placed", [{"root": "music", "path": "/etc/passwd", "size": 5, "sha256": "0" * 64}]),
    ],
    ids=["up", "absolute", "video", "directory", "uid", "placed", "placed-absolute"],
)
def test_path_traversal_through_the_stored_path_in_a_task_file(house: House, key: str, value: object) -> None:
    house.bring(S.IMPORTCOMPLETE)
    victim = house.root / "evil"
    victim.write_bytes(b"mine!")
    house.close()
    path = house.root / "uploads" / "tasks" / "one.json"
    path.write_bytes(orjson.dumps({**json.loads(path.read_bytes()), key: value}))
    house.open()
    for call in (house.uploads.undo, house.uploads.remove):
        with pytest.raises((TaskNotFound, StorageError)):
            call("one")
    house.worker.drain(100)
    assert victim.read_bytes() == b"mine!"
    assert list(house.files("music")) == ["Alpha/Beta.mp4"]
    house.restart()
    assert [s.id for s in house.uploads.list()] == []
    house.finish()


def test_writing_outside_the_library_through_an_absolute_artist_name(studio: House) -> None:
    target = studio.root / "outside"
    target.mkdir()
    annotations = {**VIDEO, "artistname": str(target)}
    studio.bring(S.UPLOADCOMPLETE, data=media.video(seconds=1, audio=False), annotations=annotations)
    studio.worker.drain(100)
    assert studio.uploads.integrate("one").state is S.INTEGRATED
    assert os.listdir(target) == []
    assert len(studio.files("music")) == 1
    finish_video(studio)


@pytest.mark.parametrize("part", ["music", "artwork"])
@pytest.mark.parametrize("when", ["early", "late"])
def test_writing_outside_the_library_through_a_symbolic_link(house: House, part: str, when: str) -> None:
    outside = house.root / "outside"
    outside.mkdir()
    house.bring(S.PREPROCESSED)

    def link(*_: object) -> None:
        (house.root / part / "Alpha").symlink_to(outside, target_is_directory=True)

    if when == "early":
        link()
    else:
        house.before[f"{part}.place"] = link  # after the plan has looked
    house.uploads.request("one", trigger_import=True)
    for _ in range(4):  # whatever takes several attempts
        house.worker.drain(100)
        house.before.clear()
        house.clock.forward(100)
    task = house.uploads.get("one")
    assert os.listdir(outside) == []
    assert task.code == "unsafe_path"
    assert task.state in (S.INTEGRATIONFAILED, S.IMPORTFAILED)
    assert house.stored() == house.DATA
    house.uploads.remove("one")
    house.worker.drain(100)
    assert house.uploads.list() == []
    assert os.listdir(outside) == []
    house.finish()


# ── chunks ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", [s for s in State if s not in (S.WAITFORCHUNK, S.NOTEXISTING)])
def test_chunks_are_accepted_in_any_state(house: House, state: State) -> None:
    size = house.bring(state).offset
    for offset in (0, size):
        with house.refused(WrongState, "wrong_state"):
            house.uploads.receive("one", offset=offset, data=b"more")
    house.finish()


def test_chunks_are_accepted_after_verification(house: House) -> None:
    house.bring(S.UPLOADCOMPLETE)
    for offset, data in ((0, b"evil"), (9, b"more"), (0, house.DATA)):
        with house.refused(WrongState, "wrong_state"):
            house.uploads.receive("one", offset=offset, data=data)
    house.worker.drain(100)
    assert house.uploads.get("one").state is S.PREPROCESSED
    house.finish()


def test_chunks_are_accepted_with_uploads_switched_off(house: House) -> None:
    house.bring(S.WAITFORCHUNK)
    house.restart(allow=False)
    with house.refused(Refused, "uploads_off", guard="chunk_fits"):
        house.uploads.receive("one", offset=0, data=b"fine")
    with house.refused(Refused, "uploads_off"):
        house.uploads.initiate(house.offer("two"))
    house.restart()
    house.send()
    house.worker.drain(100)
    assert house.uploads.get("one").state is S.PREPROCESSED
    house.finish()


def test_chunks_are_accepted_beyond_the_declared_size(house: House) -> None:
    house.bring(S.WAITFORCHUNK)
    with house.refused(TooLarge, "beyond_the_end", guard="chunk_fits"):
        house.uploads.receive("one", offset=0, data=house.DATA + b"!")
    house.uploads.receive("one", offset=0, data=b"fine")
    with house.refused(TooLarge, "beyond_the_end", guard="chunk_fits"):
        house.uploads.receive("one", offset=4, data=b" film!")
    assert house.uploads.receive("one", offset=4, data=b" film").state is S.UPLOADCOMPLETE
    house.finish()


def test_a_replayed_chunk_corrupts_an_upload(house: House) -> None:
    house.bring(S.WAITFORCHUNK)
    for _ in range(3):
        assert house.uploads.receive("one", offset=0, data=b"fine").offset == 4
    for _ in range(3):
        assert house.uploads.receive("one", offset=4, data=b" fi").offset == 7
    assert house.uploads.receive("one", offset=0, data=b"fine fi").offset == 7
    with house.refused(OffsetMismatch, "offset_mismatch", guard="chunk_fits"):
        house.uploads.receive("one", offset=0, data=b"fire")
    assert house.stored() == b"fine fi"
    assert house.uploads.receive("one", offset=7, data=b"lm").state is S.UPLOADCOMPLETE
    house.finish()


def test_an_empty_chunk_restarts_an_upload(house: House) -> None:
    house.bring(S.WAITFORCHUNK)
    house.uploads.receive("one", offset=0, data=b"fine")
    for offset in (0, 4, 9):
        with house.refused(Refused, "empty_chunk", guard="chunk_fits"):
            house.uploads.receive("one", offset=offset, data=b"")
    assert house.uploads.receive("one", offset=4, data=b" film").state is S.UPLOADCOMPLETE
    house.finish()


@pytest.mark.parametrize("state", [S.WAITFORCHUNK, S.UPLOADCOMPLETE, S.PREPROCESSED, S.IMPORTCOMPLETE])
def test_an_id_offered_again_truncates_finished_data(house: House, state: State) -> None:
    house.bring(state)
    if state is S.WAITFORCHUNK:
        house.uploads.receive("one", offset=0, data=b"fine")
    stored = house.everything()
    house.uploads.initiate(house.offer())
    with house.refused(Duplicate, "duplicate"):
        house.uploads.initiate(house.offer(data=b"something else"))
    assert house.everything() == stored
    house.finish()


def test_two_ids_with_one_checksum_share_a_file(house: House) -> None:
    house.bring(S.PREPROCESSED, "a")
    house.bring(S.WAITFORCHUNK, "b")
    house.uploads.receive("b", offset=0, data=b"fine")
    first, second = (house.uploads.get(i) for i in "ab")
    assert first.sourcechecksum == second.sourcechecksum
    assert first.destinationpath != second.destinationpath
    house.uploads.receive("b", offset=4, data=b" film")
    house.uploads.remove("b")
    house.worker.drain(100)
    assert house.stored("a") == house.DATA
    assert house.uploads.integrate("a").state is S.INTEGRATED
    house.finish()


def test_derived_files_of_two_uploads_collide(house: House) -> None:
    """Two videos of one name in two containers are two files, but would have one place for their artwork."""
    house.bring(S.PREPROCESSED, "a")
    house.bring(S.PREPROCESSED, "b", data=b"fine film, webm", filename="film.webm")
    for uploadid in "ab":
        assert house.uploads.integrate(uploadid, trigger_import=True).state is S.INTEGRATED
    house.worker.drain(100)
    first, second = (house.uploads.get(i) for i in "ab")
    assert first.state is S.IMPORTCOMPLETE
    assert (second.state, second.code) == (S.IMPORTFAILED, "destination_exists")
    assert house.files("artwork") == {"Alpha/Beta/frame.jpg": b"JPEGfine film"}
    house.uploads.undo("b")  # takes back what is its own, and nothing else
    assert house.files("artwork") == {"Alpha/Beta/frame.jpg": b"JPEGfine film"}
    assert house.files("music") == {"Alpha/Beta.mp4": house.DATA}
    assert house.entries() == {first.uid: "Alpha/Beta.mp4"}
    house.finish()


# ── threads ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dictionary_is_changed_during_iteration(house: House) -> None:
    for i in range(20):
        house.bring(S.WAITFORCHUNK, f"id{i:02}")
    seen = []
    for task in house.uploads.tasks():
        seen.append(task.id)
        house.bring(S.REMOVE, f"new-{task.id}")
        house.uploads.remove(task.id)
        house.worker.drain(100)
    assert seen == [f"id{i:02}" for i in range(20)]
    lines = house.uploads.list()
    house.bring(S.WAITFORCHUNK)
    assert len(lines) == 0
    for line in house.uploads.list():
        house.uploads.remove(line.id)
    house.finish()


def test_writers_are_not_synchronised(closed: House) -> None:
    """Four clients with the whole file each, chunk by chunk, as fast as they can: one file comes out of it."""
    uploads, data = closed.open(), bytes(range(256)) * 8
    uploads.initiate(closed.offer(data=data))
    stored: list[bytes] = []
    closed.before["bytes.append"] = lambda key, offset, chunk: stored.append(bytes(chunk))

    def send(_: int) -> None:
        for offset in range(0, len(data), 64):
            try:
                uploads.receive("one", offset=offset, data=data[offset : offset + 64])
            except (OffsetMismatch, WrongState):
                return  # somebody else has finished

    with closed.threads() as pool:
        list(pool.map(send, range(4)))
    assert b"".join(stored) == data
    closed.worker.drain(100)
    assert closed.uploads.get("one").state is S.PREPROCESSED
    assert closed.stored() == data
    closed.finish()


def test_blocking_calls_from_a_foreign_thread(closed: House) -> None:
    """Every operation may be called from any thread, a subscriber's included, and none waits for another upload's."""
    uploads = closed.open(bus=ThreadedBus())
    gate, integrated = closed.gate(), threading.Event()

    def integrate(notice: Notice) -> None:
        if notice.state is S.PREPROCESSED and notice.task is not None and notice.task.wanted is None:
            assert uploads.integrate(notice.uploadid).state is S.INTEGRATED
            integrated.set()

    uploads.subscribe(integrate)
    closed.before["music.place"] = gate
    try:
        closed.bring(S.UPLOADCOMPLETE)
        uploads.perform("one")
        gate.reached()  # the subscriber's thread is in the blocking call
        closed.before.clear()
        with closed.threads() as pool:
            second = pool.submit(closed.send, "two", annotations={"artistname": "Two", "name": "Two"})
            assert second.result(closed.PATIENCE).state is S.UPLOADCOMPLETE
            listed = pool.submit(lambda: [t.id for t in uploads.tasks()])
            assert listed.result(closed.PATIENCE) == ["one", "two"]
            annotated = pool.submit(uploads.annotate, "one", {"mood": "good"})
            assert annotated.result(closed.PATIENCE).annotations["mood"] == "good"
    finally:
        gate.open()
    assert integrated.wait(closed.PATIENCE)
    assert uploads.get("one").state is S.INTEGRATED


def test_callbacks_are_removed_during_delivery(house: House) -> None:
    heard: list[str] = []
    stops: dict[str, Callable[[], None]] = {}

    def listen(name: str, victims: str) -> Callable[[Notice], None]:
        def callback(_: Notice) -> None:
            heard.append(name)
            for victim in victims:
                stops[victim]()

        return callback

    for name, victims in (("a", "a"), ("b", "c"), ("c", ""), ("d", "")):
        stops[name] = house.uploads.subscribe(listen(name, victims))
    house.bring(S.WAITFORCHUNK)
    assert heard == ["a", "b", "d"]
    house.uploads.annotate("one", mood="good")
    assert heard == ["a", "b", "d", "b", "d"]
    house.finish()


# ── the disk ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("durability", ["none", "power"])
def test_a_short_write_followed_by_a_resend(closed: House, durability: Any) -> None:
    closed.disk = fuse = FuseDisk(error=OSError(errno.ENOSPC, ""), when="torn", only=("write_at",))
    uploads = closed.open(durability=durability)
    closed.bring(S.WAITFORCHUNK)
    uploads.receive("one", offset=0, data=b"fin")
    for data in (b"e fi", b"e f"):
        fuse.at = len(fuse.calls) + 1
        with closed.refused(StorageFull, "storage_full"):
            uploads.receive("one", offset=3, data=data)
        assert (uploads.get("one").offset, closed.stored()) == (3, b"fin")
    uploads.receive("one", offset=3, data=b"e f")
    uploads.receive("one", offset=6, data=b"ilm")
    closed.worker.drain(100)
    assert uploads.get("one").state is S.PREPROCESSED
    assert closed.stored() == closed.DATA
    closed.finish()


@pytest.mark.parametrize("step", range(1, 4))
def test_a_short_write_followed_by_a_restart_and_a_resend(closed: House, step: int) -> None:
    closed.disk = fuse = FuseDisk(error=Crash, when="torn", only=("write_at",))
    closed.open()
    closed.bring(S.WAITFORCHUNK)
    fuse.at = len(fuse.calls) + step
    with pytest.raises(Crash):
        closed.send(chunk=4)
    fuse.release()
    closed.disk = FuseDisk()
    closed.restart()
    task = closed.uploads.initiate(closed.offer())
    if task.state is S.WAITFORCHUNK:
        assert task.offset in (0, 4)
        closed.uploads.receive("one", offset=task.offset, data=closed.DATA[task.offset :])
    closed.worker.drain(100)
    assert closed.uploads.get("one").state is S.PREPROCESSED
    assert closed.stored() == closed.DATA
    closed.finish()


@pytest.mark.parametrize("durability", ["none", "process", "power"])
def test_there_is_no_resumption_after_a_restart(closed: House, durability: Any) -> None:
    closed.open(durability=durability)
    closed.bring(S.WAITFORCHUNK)
    for offset in range(4):
        closed.restart(durability=durability)
        closed.heard()
        assert closed.uploads.initiate(closed.offer()).offset == 2 * offset
        assert [(n.kind.value, n.offset) for n in closed.notices] == [("ChunkRequest", 2 * offset)]
        closed.uploads.receive("one", offset=2 * offset, data=closed.DATA[2 * offset : 2 * offset + 2])
    closed.uploads.receive("one", offset=8, data=b"m")
    closed.worker.drain(100)
    assert closed.uploads.get("one").state is S.PREPROCESSED
    assert closed.stored() == closed.DATA
    closed.finish()


@pytest.mark.parametrize(
    "kind", ["torn", "empty", "foreign", "incomplete", "renamed", "directory", "link", "binary", "deep"]
)
def test_torn_empty_foreign_or_incomplete_task_files_stop_the_start(house: House, kind: str) -> None:
    good = house.bring(S.PREPROCESSED, "good")
    house.bring(S.PREPROCESSED)
    house.close()
    tasks = house.root / "uploads" / "tasks"
    path = tasks / "one.json"
    document = json.loads(path.read_bytes())
    data = house.root / "uploads" / document["destinationpath"]
    match kind:
        case "torn":
            path.write_bytes(path.read_bytes()[:-30])
        case "empty":
            path.write_bytes(b"")
        case "foreign":
            path.write_bytes(b'{"name": "package.json", "version": 1}')
        case "incomplete":
            path.write_bytes(json.dumps({k: v for k, v in document.items() if k != "uid"}).encode())
        case "renamed":
            path.rename(tasks / "another.json")
        case "directory":
            path.unlink()
            path.mkdir()
        case "link":
            path.unlink()
            path.symlink_to("/etc/passwd")
        case "binary":
            path.write_bytes(bytes(range(256)))
        case "deep":
            path.write_bytes(b"[" * 100_000 + b"]" * 100_000)
    house.open()
    assert [s.id for s in house.uploads.list()] == ["good"]
    assert house.uploads.get("good") == good
    quarantined = house.uploads.recovery.quarantined
    assert len(quarantined) == 2  # the document, and the data that is nobody's now
    assert all(
        (house.root / "uploads" / name).is_symlink() or (house.root / "uploads" / name).exists() for name in quarantined
    )
    assert not data.exists()
    assert house.DATA in house.files("uploads/quarantine").values()  # nothing is thrown away
    house.finish("one")  # the id is free


# ── removal ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("part", ["library.put", "content.illustrate", "artwork.place"])
def test_removal_while_importing_is_overwritten(house: House, part: str) -> None:
    house.bring(S.STARTIMPORT if part == "library.put" else S.IMPORTARTWORK)
    gate = house.gate()
    house.before[part] = gate
    with house.threads() as pool:
        step = pool.submit(house.uploads.perform, "one")
        gate.reached()
        house.uploads.remove("one")
        gate.open()
        step.result(house.PATIENCE)
    house.before.clear()
    assert house.uploads.get("one").state is S.REMOVE
    assert json.loads(house.document() or b"")["state"] == "remove"
    house.restart()
    assert house.uploads.get("one").state is S.REMOVE
    house.worker.drain(100)
    assert house.uploads.list() == []
    assert (house.files("uploads/tasks"), os.listdir(house.root / "uploads" / "data")) == ({}, [])
    house.finish()


@pytest.mark.parametrize("part", ["bytes.append", "bytes.commit", "bytes.seal"])
def test_removal_races_with_a_chunk(house: House, part: str) -> None:
    house.bring(S.WAITFORCHUNK)
    gate = house.gate()
    house.before[part] = gate
    data = house.DATA if part == "bytes.seal" else b"fine"
    with house.threads() as pool:
        chunk = pool.submit(house.uploads.receive, "one", offset=0, data=data)
        gate.reached()
        removal = pool.submit(house.uploads.remove, "one")
        late = pool.submit(house.uploads.receive, "one", offset=0, data=b"fire")
        wait_for([removal, late], 0.05)  # they would be done by now, if nothing held them up
        gate.open()
        assert chunk.result(house.PATIENCE).offset == len(data)
        assert removal.result(house.PATIENCE).state is S.REMOVE
        assert isinstance(late.exception(house.PATIENCE), WrongState | OffsetMismatch)
    house.before.clear()
    with house.refused(WrongState, "wrong_state"):
        house.uploads.receive("one", offset=4, data=b" film")
    house.worker.drain(100)
    with house.refused(TaskNotFound, "not_found"):
        house.uploads.receive("one", offset=4, data=b" film")
    assert (house.files("uploads/tasks"), os.listdir(house.root / "uploads" / "data")) == ({}, [])
    house.finish("one")


def test_a_deletion_takes_the_next_upload_of_that_id_with_it(house: House) -> None:
    """An id may be used again: what is left of the deletion must go by the uid."""
    old = house.bring(S.REMOVE)
    house.worker.drain(100)
    new = house.bring(S.WAITFORCHUNK)
    assert new.uid != old.uid
    house.uploads.perform("one")
    house.worker.drain(100)
    assert house.uploads.get("one") == new
    house.send()
    house.finish()


# ── library ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [Crash(), StorageError("Tired.")], ids=["crash", "error"])
def test_a_crash_after_the_catalogues_insert_makes_the_retry_fail(house: House, error: BaseException) -> None:
    house.bring(S.STARTIMPORT)
    house.after["library.put"] = fail(error)
    if isinstance(error, Crash):
        with pytest.raises(Crash):
            house.worker.drain(100)
        house.after.clear()
        house.restart()
    else:
        house.worker.drain(100)
        house.after.clear()
        house.clock.forward(1)
    house.worker.drain(100)
    task = house.uploads.get("one")
    assert (task.state, task.message) == (S.IMPORTCOMPLETE, None)
    assert house.entries() == {task.uid: "Alpha/Beta.mp4"}
    house.finish()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
@pytest.mark.parametrize("method", ["write_at", "link", "mkdir"])
def test_a_partial_copy_stays_in_the_library(closed: House, method: str, code: int) -> None:
    closed.disk = fuse = FuseDisk(error=OSError(code, ""), when="torn", only=(method,))
    uploads = closed.open()
    closed.bring(S.PREPROCESSED)

    def arm(*_: object) -> None:
        fuse.at = len(fuse.calls) + 1

    closed.before["music.place"] = arm
    with pytest.raises(StorageError if code == errno.EIO else (StorageError, StorageFull)):
        uploads.integrate("one")
    assert fuse.blown
    assert closed.files("music") == {}
    closed.before.clear()
    closed.clock.forward(1)
    closed.worker.drain(100)
    assert uploads.get("one").state is S.INTEGRATED
    assert closed.files("music") == {"Alpha/Beta.mp4": closed.DATA}
    closed.finish()


def test_a_partial_copy_stays_in_the_library_after_giving_up(house: House) -> None:
    house.bring(S.PREPROCESSED)
    house.uploads.request("one")
    house.after["music.place"] = fail(StorageError("Tired."))  # the file is there, and nobody could record it
    for _ in range(4):
        house.worker.drain(100)
        house.clock.forward(100)
    assert house.uploads.get("one").state is S.INTEGRATIONFAILED
    house.after.clear()
    assert house.files("music") == {}
    assert os.listdir(house.root / "music") == []
    house.uploads.retry("one")
    assert house.uploads.integrate("one").state is S.INTEGRATED
    house.finish()


def test_two_integrations_at_once_of_one_upload(house: House) -> None:
    house.bring(S.PREPROCESSED)
    gate = house.gate()
    house.before["music.place"] = gate
    with house.threads() as pool:
        first = pool.submit(house.uploads.integrate, "one", trigger_import=False)
        gate.reached()
        second = pool.submit(house.uploads.integrate, "one")
        gate.open()
        assert {first.result(house.PATIENCE).state, second.result(house.PATIENCE).state} == {S.INTEGRATED}
    assert house.took().count("integrate:preprocessed:integrated") == 1
    assert house.files("music") == {"Alpha/Beta.mp4": house.DATA}
    house.finish()


def test_two_integrations_at_once_for_one_destination(house: House) -> None:
    house.bring(S.PREPROCESSED, "a", data=b"fine a")
    house.bring(S.PREPROCESSED, "b", data=b"fine b")
    barrier = threading.Barrier(2)
    house.before["music.place"] = lambda *_: barrier.wait(house.PATIENCE)
    with house.threads() as pool:
        both = dict(zip("ab", pool.map(house.uploads.integrate, "ab"), strict=True))
    house.before.clear()
    assert sorted(t.state.value for t in both.values()) == ["integrated", "integrationfailed"]
    (winner,) = (i for i, t in both.items() if t.state is S.INTEGRATED)
    (loser,) = (i for i, t in both.items() if t.state is not S.INTEGRATED)
    assert both[loser].code == "destination_exists"
    assert house.files("music") == {"Alpha/Beta.mp4": f"fine {winner}".encode()}
    house.uploads.remove(loser)
    house.worker.drain(100)
    assert house.files("music") == {"Alpha/Beta.mp4": f"fine {winner}".encode()}
    house.finish()


def test_an_undo_brings_a_file_back_whose_upload_was_removed_before_it_was_on_record(house: House) -> None:
    """What is being placed is not replaced: who is removed meanwhile takes it back, and it must not be elsewhere."""
    house.rivals()
    gate = house.gate()
    house.after["music.place"] = gate
    with house.threads() as pool:
        first = pool.submit(house.uploads.integrate, "a")
        gate.reached()  # the file is in the library, and on no record
        house.after.clear()
        house.uploads.remove("a")
        with pytest.raises(StorageError, match="just putting its file"):
            house.uploads.integrate("b")
        gate.open()
        wait_for([first], house.PATIENCE)
    house.worker.drain(100)
    assert [task.id for task in house.uploads.tasks()] == ["b"]
    house.clock.forward(100)
    house.worker.drain(100)
    assert house.files("music") == {"Alpha/Beta.mp4": b"fine b"}
    house.uploads.undo("b")
    assert house.files("music") == {}
    house.finish()


def test_there_is_no_way_to_import_later_what_was_integrated_without(house: House) -> None:
    house.bring(S.INTEGRATED)
    house.restart()
    assert house.uploads.start_import("one").state is S.STARTIMPORT
    house.worker.drain(100)
    assert house.uploads.get("one").state is S.IMPORTCOMPLETE
    assert list(house.entries().values()) == ["Alpha/Beta.mp4"]
    house.finish()


# ── annotations ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_annotation_is_final(house: House) -> None:
    task = house.bring(S.INTEGRATIONFAILED)
    assert task.code == "annotation_missing"
    assert house.files("music") == {}
    house.uploads.annotate("one", house.NAMES)
    house.uploads.retry("one")
    assert house.uploads.integrate("one", trigger_import=True).state is S.INTEGRATED
    house.worker.drain(100)
    assert house.uploads.get("one").state is S.IMPORTCOMPLETE
    house.finish()


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"release": 1979}, "Alpha/1979 - Beta.mp4"),
        ({"name": 1979}, "Alpha/2001 - 1979.mp4"),
        ({"artistname": 311}, "311/2001 - Beta.mp4"),
        ({"release": 1979.0, "origin": 5}, "Alpha/1979 - Beta.mp4"),
        ({"name": None}, ""),
        ({"name": ["x"]}, ""),
        ({"artistname": {"x": 1}}, ""),
        ({"release": True}, ""),
        ({"name": True}, ""),
    ],
    ids=["year", "name", "artist", "float", "none", "list", "object", "true-year", "true-name"],
)
def test_numbers_where_text_is_expected(studio: House, wrong: dict[str, Any], path: str) -> None:
    data = media.video(seconds=1, audio=False)
    studio.bring(S.UPLOADCOMPLETE, data=data, annotations={**VIDEO, **wrong})
    studio.worker.drain(100)
    task = studio.uploads.integrate("one")
    if path:
        assert (task.state, task.videofile) == (S.INTEGRATED, path)
        assert list(studio.files("music")) == [path]
        return
    assert task.state is S.INTEGRATIONFAILED
    assert task.code in ("annotation_missing", "unusable_name", "invalid_release")
    assert studio.files("music") == {}
    studio.uploads.annotate("one", VIDEO)
    studio.uploads.retry("one")
    assert studio.uploads.integrate("one").state is S.INTEGRATED


def test_annotations_after_integration_silently_diverge(house: House) -> None:
    """File, catalogue and plan are of one mind; what was said later counts when it is integrated anew."""
    house.bring(S.INTEGRATED)
    task = house.uploads.annotate("one", name="Gamma")
    assert task.annotations["name"] == "Gamma"
    house.uploads.start_import("one")
    house.worker.drain(100)
    task = house.uploads.get("one")
    (entry,) = house.library.entries()
    assert (entry.path, getattr(entry.entry, "name", None)) == ("Alpha/Beta.mp4", "Beta")
    assert list(house.files("music")) == ["Alpha/Beta.mp4"]
    assert house.uploads.plan("one").entry["name"] == "Beta"  # what was done can be told from what is said
    house.uploads.undo("one")
    house.uploads.integrate("one", trigger_import=True)
    house.worker.drain(100)
    (entry,) = house.library.entries()
    assert (entry.path, getattr(entry.entry, "name", None)) == ("Alpha/Gamma.mp4", "Gamma")
    house.finish()


def _deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "error", "code"),
    [
        (object(), Refused, "annotations_invalid"),
        ({1, 2}, Refused, "annotations_invalid"),
        (b"bytes", Refused, "annotations_invalid"),
        (float("inf"), Refused, "annotations_invalid"),
        (10**400, Refused, "annotations_invalid"),
        ("\udfff", Refused, "annotations_invalid"),
        ("x" * (64 << 10), TooLarge, "annotations_too_large"),
        (["x"] * (64 << 10), TooLarge, "annotations_too_large"),
        (_deep(9), TooLarge, "annotations_too_deep"),
        (_deep(100_000), TooLarge, "annotations_too_deep"),
    ],
    ids=["object", "set", "bytes", "inf", "big", "surrogate", "text", "list", "deep", "bottomless"],
)
def test_unserialisable_huge_or_deeply_nested_annotations(
    house: House, value: Any, error: type[Refused], code: str
) -> None:
    house.bring(S.PREPROCESSED)
    with house.refused(error, code, guard="annotations_valid"):
        house.uploads.annotate("one", mood="good", evil=value)
    assert "mood" not in house.uploads.get("one").annotations
    with pytest.raises(error):
        house.uploads.initiate(house.offer("two", annotations={"evil": value}))
    house.restart()
    assert house.uploads.integrate("one").state is S.INTEGRATED
    house.finish()


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", [S.WAITFORCHUNK, S.UPLOADFAILED, S.INVALIDCONTENT, S.PREPROCESSED, S.IMPORTCOMPLETE])
def test_nothing_is_ever_cleaned_up(house: House, state: State) -> None:
    house.bring(state)
    library = house.everything()[1:3]
    house.restart()
    house.clock.forward(30 * DAY + 1)
    house.worker.drain(100)
    assert house.uploads.list() == []
    assert (house.files("uploads/tasks"), os.listdir(house.root / "uploads" / "data")) == ({}, [])
    assert house.everything()[1:3] == library
    assert not (house.root / "music" / ".stagedoor").exists()
    house.finish()


@pytest.mark.parametrize("late", [False, True], ids=["offered", "declared"])
def test_upper_case_checksums(house: House, late: bool) -> None:
    checksum = str(house.offer().sha1).upper()
    assert checksum != checksum.lower()
    if late:
        house.bring(S.WAITFORCHUNK, sha1=None)
        house.uploads.declare("one", sha1=checksum)
        task = house.uploads.receive("one", offset=0, data=house.DATA)
    else:
        task = house.send(sha1=checksum)
    assert (task.state, task.sourcechecksum) == (S.UPLOADCOMPLETE, checksum.lower())
    assert task.destinationpath.endswith(f"/video-{checksum.lower()}.mp4")
    assert house.uploads.initiate(house.offer(sha1=checksum)).uid == task.uid
    house.finish()


def test_the_whole_file_is_hashed_in_the_callers_thread(closed: House) -> None:
    """After a restart the bytes before have to be hashed again: by the worker, and never in a chunk's answer."""
    uploads, data = closed.open(max_chunk=1 << 20), b"fine" + bytes(range(256)) * 4096 * 3
    uploads.initiate(closed.offer(data=data))
    uploads.receive("one", offset=0, data=data[: 1 << 20])
    closed.restart()
    opened: list[str] = []
    closed.before["bytes.open"] = lambda *_: opened.append(threading.current_thread().name)
    for offset in range(1 << 20, len(data), 1 << 20):
        task = closed.uploads.receive("one", offset=offset, data=data[offset : offset + (1 << 20)])
    assert (task.state, opened) == (S.WAITFORCHUNK, [])
    with manage(closed.uploads):
        found = closed.uploads.wait("one", closed.PATIENCE)
    assert found is not None
    assert found.state is S.PREPROCESSED
    assert {name.partition("_")[0] for name in opened} == {"stagedoor-step"}
    closed.before.clear()
    closed.finish()


def test_the_whole_file_is_hashed_with_the_file_in_memory(closed: House) -> None:
    class Counting(FuseDisk):
        largest = 0

        def stream(self, fd: int) -> Any:
            stream, counting = super().stream(fd), self

            class Reader:
                def __enter__(self) -> Any:
                    stream.__enter__()
                    return self

                def __exit__(self, *exc: Any) -> None:
                    stream.__exit__(*exc)

                def read(self, size: int = -1) -> bytes:
                    assert size >= 0, "the whole file at once"
                    counting.largest = max(counting.largest, size)
                    return stream.read(size)

                def __getattr__(self, name: str) -> Any:
                    return getattr(stream, name)

            return Reader()

    closed.disk = disk = Counting()
    data = b"fine" + bytes(5 << 20)
    closed.open()
    closed.uploads.initiate(closed.offer(data=data))
    closed.uploads.receive("one", offset=0, data=data[: 1 << 20])
    closed.restart()
    closed.send(data=data)
    closed.worker.drain(100)
    closed.uploads.integrate("one", trigger_import=True)
    closed.worker.drain(100)
    assert closed.uploads.get("one").state is S.IMPORTCOMPLETE
    assert 16 <= disk.largest <= 1 << 20
    closed.finish()


def test_a_chunk_costs_the_same_however_large_the_file_is(house: House) -> None:
    """Nothing that was stored before is read again for a new chunk, and nothing but the chunk is written."""
    house.uploads.initiate(house.offer(filesize=1 << 30, sha1=None))
    parts: list[str] = []

    def note(part: str) -> Callable[..., None]:
        return lambda *_: parts.append(part)

    for part in ("bytes.open", "bytes.append", "bytes.commit", "tasks.cas"):
        house.before[part] = note(part)
    for offset in range(0, 50 << 10, 1 << 10):
        house.uploads.receive("one", offset=offset, data=bytes(1 << 10))
    assert parts == ["bytes.append", "bytes.commit"] * 50


@pytest.mark.parametrize("honest", [True, False])
def test_a_tiny_image_that_needs_gigabytes(studio: House, honest: bool) -> None:
    data = media.huge_frame(honest=honest)
    assert len(data) < 1 << 20
    studio.send(data=data, filename="tiny.webm", annotations=VIDEO)
    studio.worker.drain(100)
    task = studio.uploads.get("one")
    assert task.state is S.INVALIDCONTENT
    assert task.code not in (None, "upload_error", "storage_error")
    assert task.message
    finish_video(studio)


@pytest.mark.parametrize(
    "data",
    [media.noise(), media.ffconcat(), media.hls(), media.sdp(), media.still_cover()],
    ids=["noise", "ffconcat", "hls", "sdp", "jpeg"],
)
def test_a_file_that_is_no_video_stops_the_worker(studio: House, data: bytes) -> None:
    studio.send(data=data, annotations=VIDEO)
    studio.worker.drain(100)
    task = studio.uploads.get("one")
    assert (task.state, task.code) == (S.INVALIDCONTENT, "not_a_video")
    studio.uploads.retry("one")
    studio.worker.drain(100)
    assert studio.uploads.get("one").state is S.INVALIDCONTENT


def test_a_real_video_goes_all_the_way_and_back(studio: House) -> None:
    data = media.video(title="Beta")
    studio.send(data=data, chunk=4096, annotations={**VIDEO, "origin": "CD"})
    studio.worker.drain(100)
    studio.restart(contents=list(studio.uploads.ports.contents.values()))
    studio.uploads.integrate("one", trigger_import=True)
    studio.worker.drain(100)
    task = studio.uploads.get("one")
    assert (task.state, task.message) == (S.IMPORTCOMPLETE, None)
    assert studio.files("music") == {"Alpha/2001 - Beta.mp4": data}
    assert len(studio.files("artwork")) == 11
    (entry,) = studio.library.entries()
    assert entry.illustration is not None
    for name in (entry.illustration.thumbnail, entry.illustration.preview):
        assert f"{entry.illustration.directory}/{name}" in studio.files("artwork")
    studio.uploads.undo("one")
    assert (studio.files("music"), studio.files("artwork"), studio.library.entries()) == ({}, {}, ())


# ── what clients are told ─────────────────────────────────────────────────────────────────────────────────────


def assert_no_server_path(house: House) -> None:
    assert house.notices
    for notice in house.notices:
        told = f"{notice.message} {to_dict(notice.task) if notice.task else ''}"
        assert str(house.root) not in told


def test_server_paths_are_told_to_every_client(house: House) -> None:
    task = house.bring(S.IMPORTCOMPLETE)
    assert (task.destinationpath, task.videofile) == (
        f"data/{task.key}/video-{task.sourcechecksum}.mp4",
        "Alpha/Beta.mp4",
    )
    house.uploads.undo("one")
    house.uploads.remove("one")
    house.finish()
    assert_no_server_path(house)


def test_server_paths_are_told_to_every_client_when_a_link_is_in_the_way(house: House) -> None:
    house.bring(S.PREPROCESSED)
    (house.root / "music" / "Alpha").symlink_to(house.root)
    house.uploads.request("one")
    house.worker.drain(100)
    assert house.notices[-1].code == "unsafe_path"
    assert_no_server_path(house)


def test_server_paths_are_told_to_every_client_when_something_fails_unexpectedly(house: House) -> None:
    house.bring(S.UPLOADCOMPLETE)
    house.before["content.preprocess"] = fail(RuntimeError(f"cannot open {house.root}/uploads/data"))
    house.worker.drain(100)
    assert house.uploads.get("one").message
    assert_no_server_path(house)


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EMFILE])
@pytest.mark.parametrize("method", ["open", "write_at", "mkdir", "entries", "info"])
def test_server_paths_are_told_to_every_client_when_the_disk_fails(closed: House, method: str, code: int) -> None:
    closed.disk = fuse = FuseDisk(error=OSError(code, ""), lasting=True, only=(method,))
    uploads = closed.open()
    closed.bring(S.PREPROCESSED)
    uploads.initiate(closed.offer("two"))
    fuse.at = len(fuse.calls) + 1
    calls: list[Callable[[], object]] = [
        lambda: uploads.initiate(closed.offer("three")),
        lambda: uploads.receive("two", offset=0, data=b"fine"),
        lambda: uploads.integrate("one"),
    ]
    for call in calls:
        try:
            call()
        except (StorageError, Refused) as error:
            assert str(closed.root) not in error.sentence  # noqa: PT017
    fuse.lasting = False
    assert_no_server_path(closed)


def test_a_refused_start_says_nothing_to_clients(tmp_path: Path) -> None:
    """Paths are for the operator who starts the server, and only there."""
    with (
        Uploads.open(tmp_path / "u", music=tmp_path / "m", durability="none", contents=[]),
        pytest.raises(StorageError, match="in use by process"),
    ):
        Uploads.open(tmp_path / "u", music=tmp_path / "m", durability="none", contents=[])


# ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_manual_lists_these_tests_and_those_of_the_server() -> None:
    here = Path(__file__).parent
    table = (here.parent / "docs" / "durability.md").read_text("utf-8").partition("## The faults of the original")[2]
    rows = [line for line in table.partition("\n## ")[0].splitlines() if line.startswith("| ")][2:]
    told = [f"test_{name}" for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[2])]
    tests = [
        node.name
        for path in (here / "test_faults.py", here / "server" / "test_faults.py")
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert sorted(told) == sorted(set(tests) - {"test_the_manual_lists_these_tests_and_those_of_the_server"})
