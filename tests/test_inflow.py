"""Bytes that come piece by piece, as the body of a request brings them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from stagedoor import errors
from stagedoor.engine import Uploads
from stagedoor.lifecycle import State
from stagedoor.notices import NoticeKind
from stagedoor.tasks import Offer

if TYPE_CHECKING:
    from conftest import House

DATA = bytes(range(256)) * 40
SHA1 = hashlib.sha1(DATA, usedforsecurity=False).hexdigest()


def offered(uploads: Uploads, *, size: int | None = len(DATA), sha1: str | None = SHA1) -> None:
    uploads.initiate(Offer("one", filename="a.mp4", contenttype="video", filesize=size, sha1=sha1))


def test_pieces_become_a_file(house: House) -> None:
    uploads = house.uploads
    offered(uploads)
    flow = uploads.inflow("one", offset=0)
    for start in range(0, len(DATA), 1000):
        flow.write(DATA[start : start + 1000])
        assert uploads.get("one").offset == 0  # nothing is on record
    task = flow.commit()
    assert (task.state, task.offset) == (State.UPLOADCOMPLETE, len(DATA))
    with uploads.ports.bytes.open(task.key) as file:
        assert file.read() == DATA
    assert flow.over is not None
    assert flow.close() is None


def test_what_is_on_record_is_told_once(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one", offset=0)
    told = len(house.notices)
    flow.write(DATA[:100])
    flow.write(DATA[100:200])
    assert len(house.notices) == told
    flow.commit()
    (notice,) = house.notices[told:]
    assert notice.kind is NoticeKind.CHUNK_REQUEST
    assert notice.task is not None
    assert notice.task.offset == 200
    assert [row.trigger.value for row in house.rows][-1] == "chunk"


def test_a_restart_forgets_what_was_not_on_record(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one", offset=0)
    flow.write(DATA[:300])
    flow.commit()
    flow.write(DATA[300:500])
    uploads = house.restart()
    assert uploads.get("one").offset == 300
    flow = uploads.inflow("one", offset=300)
    flow.write(DATA[300:])
    task = flow.commit()
    assert task.state is State.WAITFORCHUNK  # the first bytes were hashed before the restart
    uploads.perform("one")
    assert uploads.get("one").state is State.UPLOADCOMPLETE


def test_a_newcomer_has_the_upload_at_once_and_nothing_is_lost(house: House) -> None:
    uploads = house.uploads
    offered(uploads)
    old = uploads.inflow("one", offset=0)
    old.write(DATA[:700])
    with pytest.raises(errors.OffsetMismatch) as caught:
        uploads.inflow("one", offset=0)
    assert caught.value.expected == 700
    new = uploads.inflow("one", offset=700)
    with pytest.raises(errors.Refused) as refused:
        old.write(b"more")
    assert refused.value.code == "taken_over"
    with pytest.raises(errors.Refused):
        old.commit()
    assert old.close() is None
    new.write(DATA[700:])
    assert new.commit().state is State.UPLOADCOMPLETE


def test_a_chunk_by_another_wire_takes_over(house: House) -> None:
    uploads = house.uploads
    offered(uploads)
    flow = uploads.inflow("one", offset=0)
    flow.write(DATA[:700])
    assert uploads.receive("one", offset=700, data=DATA[700:900]).offset == 900
    with pytest.raises(errors.Refused):
        flow.write(b"x")
    assert uploads.receive("one", offset=900, data=DATA[900:]).state is State.UPLOADCOMPLETE


def test_closing_keeps_what_came(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one")
    flow.write(DATA[:50])
    task = flow.close()
    assert task is not None
    assert task.offset == 50
    assert flow.close() is None
    with pytest.raises(errors.Refused) as caught:
        flow.write(b"x")
    assert caught.value.code == "closed"


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_a_checksum_decides_whether_anything_is_kept(house: House, name: str) -> None:
    uploads = house.uploads
    offered(uploads)
    flow = uploads.inflow("one", offset=0, digest=(name, hashlib.new(name, DATA[:400]).digest()))
    flow.write(DATA[:300])
    flow.write(DATA[300:400])
    assert flow.commit().offset == 400
    flow.close()
    flow = uploads.inflow("one", offset=400, digest=(name, hashlib.new(name, b"other").digest()))
    flow.write(DATA[400:500])
    with pytest.raises(errors.Refused) as caught:
        flow.commit()
    assert caught.value.code == "body_checksum_mismatch"
    assert uploads.get("one").offset == 400
    flow = uploads.inflow("one", offset=400)
    flow.write(DATA[400:])
    assert flow.commit().state is State.UPLOADCOMPLETE  # at once: the SHA-1 was not lost


def test_closing_before_the_checksum_is_right_keeps_nothing(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one", offset=0, digest=("sha1", hashlib.sha1(DATA).digest()))
    flow.write(DATA[:50])
    task = flow.close()
    assert task is not None
    assert task.offset == 0
    assert house.uploads.inflow("one", offset=0).offset == 0


def test_nothing_beyond_the_end_is_stored(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one")
    flow.write(DATA[:-1])
    with pytest.raises(errors.TooLarge):
        flow.write(b"xy")
    assert flow.commit().offset == len(DATA) - 1


def test_who_sends_too_much_is_told_where_the_file_ends(house: House) -> None:
    offered(house.uploads, size=100)
    flow = house.uploads.inflow("one", offset=0)
    flow.write(DATA[:60])
    with pytest.raises(errors.TooLarge) as refused:
        flow.write(DATA[:1000])
    assert refused.value.sentence == (
        "The bytes would end at 1,060, the file ends at 100. Send no more than was declared."
    )
    assert flow.offset == 60


def test_who_has_let_go_writes_nothing_more(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one", offset=0)
    flow.write(DATA[:60])
    assert flow.close() is not None
    for call in (lambda: flow.write(b"x"), flow.commit, flow.finish):
        with pytest.raises(errors.Refused) as refused:
            call()
        assert (refused.value.code, refused.value.sentence) == (
            "closed",
            "This connection has let go of the upload.",
        )
    assert house.uploads.get("one").offset == 60


def test_settling_puts_on_record_what_came_and_goes_on(house: House) -> None:
    offered(house.uploads)
    assert house.uploads.settle("nobody") is None
    flow = house.uploads.inflow("one", offset=0)
    flow.write(DATA[:700])
    assert house.uploads.get("one").offset == 0
    settled = house.uploads.settle("one")
    assert settled is not None
    assert settled.offset == 700
    flow.write(DATA[700:])
    assert flow.commit().state is State.UPLOADCOMPLETE


def test_removal_ends_it(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one")
    flow.write(DATA[:10])
    house.uploads.remove("one")
    for act in (lambda: flow.write(b"x"), flow.commit):
        with pytest.raises(errors.WrongState):
            act()
    assert flow.close() is None
    house.uploads.perform("one")
    assert house.uploads.find("one") is None
    assert flow.close() is None


def test_a_wrong_state_and_a_wrong_offset_are_refused_before_a_byte_is_stored(house: House) -> None:
    uploads = house.uploads
    offered(uploads)
    with pytest.raises(errors.OffsetMismatch):
        uploads.inflow("one", offset=5)
    uploads.receive("one", offset=0, data=DATA)
    with pytest.raises(errors.WrongState):
        uploads.inflow("one", offset=0)
    with pytest.raises(errors.TaskNotFound):
        uploads.inflow("two")


def test_switched_off(house: House) -> None:
    offered(house.uploads)
    uploads = house.restart(allow=False)
    with pytest.raises(errors.Refused) as caught:
        uploads.inflow("one")
    assert caught.value.code == "uploads_off"


def test_a_full_disk_is_no_failure(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one")
    flow.write(DATA[:100])
    full = [errors.StorageFull("The disk is full.")]

    def fill(*_: object) -> None:
        if full:
            raise full.pop()

    house.before["bytes.append"] = fill
    with pytest.raises(errors.StorageFull):
        flow.write(DATA[100:200])
    task = house.uploads.get("one")
    assert (task.state, task.offset) == (State.WAITFORCHUNK, 100)  # what had room is kept
    flow = house.uploads.inflow("one", offset=task.offset)
    flow.write(DATA[task.offset :])
    house.worker.drain()
    flow.commit()
    house.worker.drain()
    assert house.uploads.get("one").sourcechecksum == SHA1
    assert house.uploads.get("one").offset == len(DATA)


def test_who_comes_too_late_is_told_what_to_do(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one")
    house.uploads.remove("one")
    with pytest.raises(errors.WrongState) as caught:
        flow.write(DATA)
    assert caught.value.sentence == "The upload takes no bytes any more. Ask for its state."


def test_a_disk_that_is_too_full_to_put_on_record_what_came(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one")
    flow.write(DATA[:100])

    def full(*_: object) -> None:
        raise errors.StorageFull("The disk is full.")

    house.before["bytes.append"] = house.before["bytes.commit"] = full
    with pytest.raises(errors.StorageFull):
        flow.write(DATA[100:200])
    house.before.clear()
    task = house.uploads.get("one")
    assert (task.state, task.offset) == (State.WAITFORCHUNK, 0)
    with pytest.raises(errors.StorageFull):  # why nothing more is taken
        flow.write(DATA[100:200])
    again = house.uploads.inflow("one", offset=0)
    again.write(DATA)
    again.finish()
    house.worker.drain()  # which hashes what is stored: nobody knows what the first one had
    task = house.uploads.get("one")
    assert (task.state, task.sourcechecksum) == (State.PREPROCESSED, SHA1)
    with house.uploads.ports.bytes.open(task.key) as file:
        assert file.read() == DATA


def test_a_broken_disk_fails_the_upload(house: House) -> None:
    offered(house.uploads)
    flow = house.uploads.inflow("one")

    def broken(*_: object) -> None:
        raise errors.StorageError("The disk is gone.")

    house.before["bytes.append"] = broken
    with pytest.raises(errors.StorageError):
        flow.write(DATA[:100])
    assert house.uploads.get("one").state is State.UPLOADFAILED
    with pytest.raises(errors.WrongState):
        flow.write(DATA[:100])


def test_a_length_that_comes_later_bounds_it(house: House) -> None:
    uploads = house.uploads
    offered(uploads, size=None, sha1=None)
    flow = uploads.inflow("one")
    flow.write(DATA)
    assert flow.commit().state is State.WAITFORCHUNK
    flow.close()
    uploads.declare("one", filesize=len(DATA))
    house.worker.drain()
    assert uploads.get("one").sourcechecksum == SHA1


def test_nothing_at_all_is_complete_and_then_refused(house: House) -> None:
    """tus may declare a length of 0: complete at once, and no content (contract, "Size 0")."""
    uploads = house.uploads
    offered(uploads, size=None, sha1=None)
    uploads.declare("one", filesize=0)
    house.worker.drain()
    assert uploads.get("one").sourcechecksum == hashlib.sha1(b"", usedforsecurity=False).hexdigest()
    assert uploads.get("one").offset == 0
    assert house.restart().get("one").filesize == 0


def test_what_a_wire_keeps_is_kept(house: House) -> None:
    wire = {"upload-metadata": "filename YQ=="}
    house.uploads.initiate(Offer("one", filename="a.mp4", contenttype="video", filesize=5, wire=wire))
    assert house.restart().get("one").wire == wire


def test_finishing_puts_on_record_and_lets_go(house: House) -> None:
    uploads = house.uploads
    offered(uploads)
    flow = uploads.inflow("one", offset=0)
    flow.write(DATA[:600])
    assert flow.finish().offset == 600
    with pytest.raises(errors.Refused) as caught:
        flow.write(b"x")
    assert caught.value.code == "closed"
    flow = uploads.inflow("one", offset=600)
    flow.write(DATA[600:])
    assert flow.finish().state is State.UPLOADCOMPLETE
    assert flow.close() is None


def test_finishing_with_a_wrong_checksum_keeps_nothing(house: House) -> None:
    uploads = house.uploads
    offered(uploads)
    flow = uploads.inflow("one", offset=0, digest=("sha1", b"\0" * 20))
    flow.write(DATA[:600])
    with pytest.raises(errors.Refused) as caught:
        flow.finish()
    assert caught.value.code == "body_checksum_mismatch"
    assert uploads.get("one").offset == 0
    flow = uploads.inflow("one", offset=0)
    flow.write(DATA)
    assert flow.finish().state is State.UPLOADCOMPLETE


@pytest.mark.parametrize("declared", [200, 300, 301])
def test_a_length_that_comes_while_bytes_come_is_judged_by_all_of_them(house: House, declared: int) -> None:
    """Else the file on the disk would be longer than the one whose SHA-1 was taken."""
    uploads = house.uploads
    offered(uploads, size=None, sha1=None)
    flow = uploads.inflow("one")
    flow.write(DATA[:200])
    flow.commit()
    flow.write(DATA[200:300])
    if declared < 300:
        with pytest.raises(errors.Refused) as caught:
            uploads.declare("one", filesize=declared)
        assert caught.value.code == "length_too_small"
        assert uploads.get("one").offset == 300
        return
    uploads.declare("one", filesize=declared)
    if declared > 300:
        with pytest.raises(errors.TooLarge):
            flow.write(DATA[300:302])
        flow.write(DATA[300:301])
        flow.commit()
    task = uploads.get("one")
    assert (task.state, task.offset) == (State.UPLOADCOMPLETE, declared)
    with uploads.ports.bytes.open(task.key) as file:
        stored = file.read()
    assert stored == DATA[:declared]
    assert task.sourcechecksum == hashlib.sha1(stored, usedforsecurity=False).hexdigest()
    with pytest.raises(errors.Refused):
        flow.write(b"x")


def test_a_length_that_comes_while_bytes_wait_for_their_checksum(house: House) -> None:
    uploads = house.uploads
    offered(uploads, size=None, sha1=None)
    flow = uploads.inflow("one", digest=("sha1", hashlib.sha1(DATA).digest()))
    flow.write(DATA[:50])
    uploads.declare("one", filesize=100)
    assert uploads.get("one").offset == 0
    with pytest.raises(errors.Refused) as refused:
        flow.write(b"x")
    assert refused.value.code == "taken_over"
