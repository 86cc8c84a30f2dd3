"""MusicDB's dialect, as its web client speaks it, against a server that runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.adapters.local import Durability
from stagedoor.lifecycle import State
from stagedoor.notices import Notice, NoticeKind
from stagedoor.protocols.messages import Message
from stagedoor.protocols.musicdb import Listing
from stagedoor.server.sockets import board
from stagedoor.testing.content import PlainContent
from stagedoor.worker import Worker

from .serving import PATIENCE, core_of, settle
from .talking import MusicDB, digest, offer_of, staged

if TYPE_CHECKING:
    from conftest import House

CHUNK = 409_600


def web_client(
    client: MusicDB, files: dict[str, bytes], *, until: str, integrate: bool = False
) -> list[dict[str, Any]]:
    """Do what the web client does until a state is heard: answer every request for a chunk of a file that it holds,
    and integrate an artwork as soon as it is preprocessed. Everything that was heard.
    """
    heard = []
    while True:
        message = client.next()
        if message["fncname"] != "MusicDB:Upload":
            continue
        heard.append(message)
        data = message["arguments"]
        uploadid = data["uploadid"]
        if message["fncsig"] == "ChunkRequest" and uploadid in files:
            client.chunk(uploadid, files[uploadid][data["offset"] : data["offset"] + data["chunksize"]])
        if integrate and data["state"] == "preprocessed" and data["uploadtask"]["contenttype"] == "artwork":
            client.say("IntegrateUpload", uploadid=uploadid, triggerimport=True)
        if data["state"] == until:
            return heard


def test_one_uploads_and_both_hear_everything_in_order(house: House) -> None:
    data = os.urandom(2 * CHUNK + 17)
    with staged(house) as stage, stage.musicdb() as one, stage.musicdb() as other:
        assert other.ask("GetUploads") == {"videos": [], "albums": [], "artworks": []}
        uploadid = one.initiate(data)
        mine = web_client(one, {uploadid: data}, until="uploadcomplete")
        others = web_client(other, {}, until="uploadcomplete")
        assert [(m["fncsig"], m["arguments"]["offset"], m["arguments"]["chunksize"]) for m in mine] == [
            ("ChunkRequest", 0, CHUNK),
            ("ChunkRequest", CHUNK, CHUNK),
            ("ChunkRequest", 2 * CHUNK, 17),
            ("StateUpdate", 2 * CHUNK + 17, CHUNK),
        ]
        assert others == mine
        assert all((m["method"], m["pass"], m["fncname"]) == ("notification", None, "MusicDB:Upload") for m in mine)
        (listed,) = mine[-1]["arguments"]["uploadslist"]["videos"]
        assert listed == mine[-1]["arguments"]["uploadtask"]
        assert one.ask("GetUploads")["videos"] == [listed]
        assert house.stored(uploadid) == data


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_life_as_the_web_client_leads_it(closed: House, durability: Durability) -> None:
    closed.open(contents=[PlainContent("artwork", has_artwork=False)], durability=durability)
    data = os.urandom(CHUNK + 1)
    with staged(closed, worker=True, durability=durability) as stage, stage.musicdb() as one, stage.musicdb() as other:
        other.settled()
        uploadid = one.initiate(data, contenttype="artwork", mimetype="image/jpeg", filename="cover.jpg")
        one.say("AnnotateUpload", uploadid=uploadid, artistname="Alpha", name="Beta", year=1999)
        heard = web_client(one, {uploadid: data}, until="importcomplete", integrate=True)
        states = [m["arguments"]["state"] for m in heard]
        assert list(dict.fromkeys(states)) == [
            "waitforchunk", "uploadcomplete", "preprocessed", "integrated", "startimport", "importcomplete",
        ]  # fmt: skip
        revisions = [m["arguments"]["uploadtask"]["revision"] for m in heard]
        assert revisions == sorted(revisions)
        assert all(m["arguments"]["message"] is None for m in heard)
        assert web_client(other, {}, until="importcomplete")[-1] == heard[-1]
        assert heard[-1]["arguments"]["uploadtask"]["annotations"] == {
            "artistname": "Alpha", "name": "Beta", "year": 1999,
        }  # fmt: skip
        assert list(closed.files("music").values()) == [data]


def test_after_an_undo_integration_waits_for_an_annotation(closed: House) -> None:
    closed.open(contents=[PlainContent("artwork", has_artwork=False)])
    closed.bring(State.INTEGRATED, contenttype="artwork")
    closed.uploads.undo("one")
    with staged(closed) as stage, stage.musicdb() as one, stage.musicdb() as other:
        other.settled()
        one.say("IntegrateUpload", uploadid="one", triggerimport=True)
        refused = one.told("InternalError")
        assert (refused["state"], "Annotate" in refused["message"]) == ("preprocessed", True)
        one.say("AnnotateUpload", uploadid="one", name="Gamma")
        one.say("IntegrateUpload", uploadid="one", triggerimport=False)
        assert one.told("StateUpdate")["uploadtask"]["annotations"]["name"] == "Gamma"
        assert one.told("StateUpdate")["uploadtask"]["wanted"] == "integrate"
        assert other.told()["uploadtask"]["annotations"]["name"] == "Gamma"  # the refusal was not for them


def test_calls_requests_and_broadcasts(house: House) -> None:
    house.send("one")
    with staged(house) as stage, stage.musicdb() as one, stage.musicdb() as other:
        other.settled()
        one.say("GetUploads")  # a call is not answered
        assert [t["id"] for t in one.ask("GetUploads")["videos"]] == ["one"]
        assert one.heard == []
        one.say("GetUploads", method="broadcast", fncsig="All", pass_=[1])
        for client in (one, other):
            answer = client.until(lambda m: m["method"] == "broadcast")
            assert (answer["fncname"], answer["fncsig"], answer["pass"]) == ("GetUploads", "All", [1])
            assert [t["id"] for t in answer["arguments"]["videos"]] == ["one"]
        one.say("RemoveUpload", method="request", uploadid="one")
        answers = {m["method"]: m["arguments"] for m in (one.next(), one.next())}
        assert (answers["response"], answers["notification"]["state"]) == (None, "remove")
        assert other.told("StateUpdate", "remove")["uploadslist"] == {"videos": [], "albums": [], "artworks": []}


def test_what_is_echoed_is_small_and_of_what_is_refused_nobody_else_hears(house: House) -> None:
    with staged(house) as stage, stage.musicdb() as one, stage.musicdb() as other:
        other.settled()
        for method in ("request", "broadcast"):
            one.say("GetUploads", method=method, fncsig="x" * 2_000, pass_=["y" * 2_100])
            assert "fncsig and pass" in one.told("InternalError")["message"]
        one.say("Nonsense", method="broadcast", fncsig="All", pass_=[1])
        assert "no function" in one.told("InternalError")["message"]
        answer = one.next()
        assert (answer["method"], answer["pass"], answer["arguments"]) == ("broadcast", [1], None)
        one.settled()
        other.settled()
        assert (one.heard, other.heard) == ([], [])
        one.say("GetUploads", method="broadcast", fncsig="x" * 2_000, pass_=["y" * 2_000])
        assert other.until(lambda m: m["method"] == "broadcast")["pass"] == ["y" * 2_000]


def test_an_unknown_upload_is_told_to_everybody(house: House) -> None:
    with staged(house) as stage, stage.musicdb() as one, stage.musicdb() as other:
        other.settled()
        for name, rest in (
            ("RemoveUpload", {}), ("AnnotateUpload", {"name": "x"}), ("IntegrateUpload", {"triggerimport": True}),
            ("UploadChunk", {"chunkdata": "00"}),
        ):  # fmt: skip
            one.say(name, uploadid="none", **rest)
            for client in (one, other):
                told = client.told()
                assert (told["uploadid"], told["state"], told["uploadtask"]) == ("none", "notexisting", None)
                assert "There is no upload" in told["message"]
        one.settled()
        assert one.heard == []


def test_what_is_refused_is_told_once_to_the_one_who_asked(house: House) -> None:
    data = b"some bytes"
    with staged(house) as stage, stage.musicdb() as one, stage.musicdb() as other:
        other.settled()
        offer = offer_of(data)
        for wrong, says in (
            ({"filesize": 0}, "empty"), ({"filesize": "1"}, "filesize must be an integer"),
            ({"contenttype": "Tape!"}, "no content type"), ({"uploadid": "../x"}, "upload id"),
            ({"checksum": "xyz"}, "checksum"), ({"mimetype": None}, "mimetype must be a string"),
        ):  # fmt: skip
            one.say("InitiateUpload", **(offer | wrong))
            assert says in one.told("InternalError")["message"]
        one.say("Nonsense")
        assert "no function" in one.told("InternalError")["message"]
        one.say("IntegrateUpload", uploadid="x", triggerimport=1)
        assert "triggerimport" in one.told("InternalError")["message"]
        one.socket.send("no json")
        assert one.told("InternalError")["uploadid"] is None
        one.socket.send(b"\x00")
        assert "hexadecimal" in one.told("InternalError")["message"]
        one.settled()
        other.settled()
        assert (one.heard, other.heard) == ([], [])
        one.say("InitiateUpload", **(offer | {"contenttype": "tape"}))  # what the engine refuses, all hear
        assert [c.told()["message"] for c in (one, other)] == [
            "This server has no content type 'tape'; it has: sound, video."
        ] * 2
        one.settled()
        assert one.heard == []


def test_two_tabs_hold_the_same_file(house: House) -> None:
    """Both answer every request that they hear; the one that declared it last is the writer."""
    data = os.urandom(3 * CHUNK)
    with staged(house) as stage, stage.musicdb() as one, stage.musicdb() as other:
        other.settled()
        uploadid = one.initiate(data)
        assert one.told("ChunkRequest")["offset"] == 0
        assert other.told("ChunkRequest")["offset"] == 0
        other.initiate(data)
        for client in (one, other):  # `one` hears the request that `other` caused
            assert client.told("ChunkRequest")["offset"] == 0
        one.chunk(uploadid, data[:CHUNK])
        refused = one.told("InternalError")
        assert ("not asked" in refused["message"], refused["offset"], refused["state"]) == (True, 0, "waitforchunk")
        other.chunk(uploadid, data[:CHUNK])
        for client in (one, other):
            assert client.told("ChunkRequest")["offset"] == CHUNK
        one.initiate(data)  # back again, with answers to two former requests still to come
        assert one.told("ChunkRequest")["offset"] == CHUNK
        one.chunk(uploadid, data[:CHUNK])  # to the one that `other` had caused
        one.chunk(uploadid, data[CHUNK : 2 * CHUNK])  # to the one that was heard as a listener
        assert one.told("ChunkRequest")["offset"] == 2 * CHUNK
        one.chunk(uploadid, data[CHUNK : 2 * CHUNK])  # to the one that its own declaration caused
        one.chunk(uploadid, data[2 * CHUNK :])
        assert one.told("StateUpdate")["state"] == "uploadcomplete"
        assert house.stored(uploadid) == data


def test_one_chunk_for_each_request(house: House) -> None:
    with staged(house) as stage, stage.musicdb() as one, stage.musicdb() as stranger:
        stranger.settled()
        stage.core.uploads.initiate(house.offer("one", b"abc"))  # nobody here holds it
        for client in (one, stranger):
            client.told("ChunkRequest") if client is stranger else client.settled()
            client.chunk("one", b"abc")
            assert "Declare the upload here" in client.told("InternalError")["message"]
        one.initiate(b"abc", "one", checksum=house.offer("one", b"abc").sha1)
        assert one.told("ChunkRequest")["offset"] == 0
        one.chunk("one", b"abc")
        one.chunk("one", b"def")
        heard = {m["fncsig"]: m["arguments"] for m in (one.next(), one.next())}
        assert heard["StateUpdate"]["state"] == "uploadcomplete"
        assert "was not asked" in heard["InternalError"]["message"]
        assert house.stored("one") == b"abc"


def test_a_request_is_repeated_when_the_upload_is_declared_again(house: House) -> None:
    """A client that waits in vain; the answer to the first request is on its way, and both are answered."""
    data = os.urandom(CHUNK + 5)
    with staged(house) as stage, stage.musicdb() as one:
        uploadid = one.initiate(data)
        assert one.told("ChunkRequest")["offset"] == 0
        one.initiate(data)
        assert one.told("ChunkRequest")["offset"] == 0
        one.chunk(uploadid, data[:CHUNK])
        one.chunk(uploadid, data[:CHUNK])
        assert one.told()["offset"] == CHUNK
        one.settled()
        assert one.heard == []  # and the second of them asks for nothing
        one.chunk(uploadid, data[CHUNK:])
        assert one.told()["state"] == "uploadcomplete"


def test_another_connection_goes_on(house: House) -> None:
    data = os.urandom(3 * CHUNK)
    with staged(house) as stage:
        with stage.musicdb() as lost:
            uploadid = lost.initiate(data)
            lost.told("ChunkRequest")
            lost.chunk(uploadid, data[:CHUNK])
            lost.told("ChunkRequest")
        with stage.musicdb() as one:
            assert one.ask("GetUploads")["videos"][0]["offset"] == CHUNK
            one.initiate(data)
            assert [m["arguments"]["offset"] for m in web_client(one, {uploadid: data}, until="uploadcomplete")] == [
                CHUNK, 2 * CHUNK, 3 * CHUNK,
            ]  # fmt: skip


def requests(client: MusicDB, uploadid: str) -> list[int]:
    """The offsets that were asked for, as far as the server has got; nothing is heard of anything else."""
    client.settled()
    heard, client.heard = client.heard, []
    found = []
    for message in heard:
        data = message["arguments"]
        assert (data["uploadid"], data.get("message")) == (uploadid, None)
        if message["fncsig"] == "ChunkRequest":
            found.append(data["offset"])
        else:
            assert data["state"] == "uploadcomplete"
    return found


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("answers", [True, False])
def test_what_was_heard_before_the_declaration_may_be_answered_or_not(
    closed: House, durability: Durability, first: bool, answers: bool
) -> None:
    """A client that comes back with its file answers all that it hears, in order; another one held no file before."""
    closed.open(durability=durability)
    data = os.urandom(8 * CHUNK + 5)
    with staged(closed, durability=durability) as stage, stage.musicdb() as lost, stage.musicdb() as one:
        held = []
        if not first:
            one.settled()
        uploadid = lost.initiate(data)
        for number in range(4):
            assert lost.told("ChunkRequest")["offset"] == number * CHUNK
            if not first:
                held.append(one.told("ChunkRequest")["offset"])
            if number < 3:
                lost.chunk(uploadid, data[number * CHUNK : (number + 1) * CHUNK])
        lost.socket.close()
        due: list[object] = []
        while not due and first:  # it is held back until it is known who this is
            stage.do(lambda: due.extend(x for x in stage.doors.sockets._connections if x.listener.due))
        one.initiate(data)
        held += requests(one, uploadid)
        assert held[-2:] == [3 * CHUNK] * 2
        if not answers:
            del held[:-1]
        while held:
            offset = held.pop(0)
            one.chunk(uploadid, data[offset : offset + CHUNK])
            held += requests(one, uploadid)
            if closed.uploads.get(uploadid).offset == len(data):
                break
        task = closed.uploads.get(uploadid)
        assert (task.state, task.message) == (State.UPLOADCOMPLETE, None)
        assert closed.stored(uploadid) == data


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("stored", [0, 2])
@pytest.mark.parametrize("answers", [True, False])
def test_what_was_asked_on_a_lost_connection_may_be_answered_on_the_next_one(
    closed: House, durability: Durability, stored: int, answers: bool
) -> None:
    """The file was being read when the connection went: its chunk is sent over the new one, and is not the next one."""
    closed.open(durability=durability)
    data = os.urandom(5 * CHUNK + 5)
    with staged(closed, durability=durability) as stage:
        with stage.musicdb() as lost:
            uploadid = lost.initiate(data)
            for number in range(stored):
                assert lost.told("ChunkRequest")["offset"] == number * CHUNK
                lost.chunk(uploadid, data[number * CHUNK : (number + 1) * CHUNK])
            asked = lost.told("ChunkRequest")["offset"]
        held = [asked] if answers else []
        with stage.musicdb() as one:
            one.initiate(data)
            held += requests(one, uploadid)
            assert set(held) == {stored * CHUNK}
            while held:
                offset = held.pop(0)
                one.chunk(uploadid, data[offset : offset + CHUNK])
                held += requests(one, uploadid)
        task = closed.uploads.get(uploadid)
        assert (task.state, task.message) == (State.UPLOADCOMPLETE, None)
        assert closed.stored(uploadid) == data


def test_an_answer_counts_at_once_although_its_chunk_came_another_way(house: House) -> None:
    """The last chunk of the lost connection was being stored when the upload was declared on the next one."""
    data = os.urandom(2 * CHUNK + 5)
    with staged(house) as stage, stage.musicdb() as lost, stage.musicdb() as one:
        uploadid = lost.initiate(data)
        assert lost.told("ChunkRequest")["offset"] == 0
        one.initiate(data)
        assert 0 in requests(one, uploadid)
        stage.core.uploads.receive(uploadid, offset=0, data=data[:CHUNK])
        assert requests(one, uploadid) == [CHUNK]
        one.chunk(uploadid, data[:CHUNK])
        one.chunk(uploadid, data[CHUNK : 2 * CHUNK])
        assert requests(one, uploadid) == [2 * CHUNK]
        one.chunk(uploadid, data[2 * CHUNK :])
        assert one.told()["state"] == "uploadcomplete"
        assert house.stored(uploadid) == data


@pytest.mark.parametrize("answers", [True, False])
def test_where_chunks_are_alike_one_that_was_taken_for_another_is_asked_for_again(house: House, answers: bool) -> None:
    data = bytes(4 * CHUNK) + os.urandom(2 * CHUNK)
    with staged(house) as stage, stage.musicdb() as lost, stage.musicdb() as one:
        one.settled()
        uploadid = lost.initiate(data)
        for number in range(2):
            assert lost.told("ChunkRequest")["offset"] == one.told("ChunkRequest")["offset"] == number * CHUNK
            lost.chunk(uploadid, data[:CHUNK])
        assert lost.told("ChunkRequest")["offset"] == one.told("ChunkRequest")["offset"] == 2 * CHUNK
        one.initiate(data)
        assert one.told("ChunkRequest")["offset"] == 2 * CHUNK
        held = [0, CHUNK, 2 * CHUNK, 2 * CHUNK] if answers else [2 * CHUNK]
        while True:
            for offset in held:
                one.chunk(uploadid, data[offset : offset + CHUNK])
            held = []
            one.settled()
            if not one.heard:  # it waits, and so does the server
                stage.tick()
                one.settled()
                assert one.heard == []
                stage.tick()
                one.heard.append(one.next())
            for message in one.heard:
                if message["arguments"]["state"] == "uploadcomplete":
                    assert house.stored(uploadid) == data
                    return
                assert message["fncsig"] == "ChunkRequest", message
                held.append(message["arguments"]["offset"])
            one.heard.clear()


def test_what_is_remembered_of_uploads_that_others_have_is_bounded(house: House) -> None:
    from stagedoor.server.sockets import musicdb

    with staged(house) as stage, stage.musicdb() as one:
        one.settled()
        for number in range(musicdb._OVERHEARD + 5):
            uploadid = f"u{number:02}"
            stage.core.uploads.initiate(house.offer(uploadid, b"x" * 100))
            one.told("ChunkRequest", uploadid=uploadid)
        for offset in range(musicdb._OVERHEARD + 5):
            stage.core.uploads.receive(uploadid, offset=offset, data=b"x")
            stage.core.uploads.annotate(uploadid, name=str(offset))
            stage.core.uploads.initiate(house.offer(uploadid, b"x" * 100))
        one.settled()
        (connection,) = stage.doors.sockets._connections
        dialect = connection.dialect
        assert isinstance(dialect, musicdb.MusicDB)
        assert len(dialect._others) == musicdb._OVERHEARD
        assert max(len(file.overheard) for file in dialect._others.values()) <= musicdb._OVERHEARD
        stage.core.uploads.remove(uploadid)
        one.told("StateUpdate", "remove", uploadid)
        one.settled()
        assert uploadid not in dialect._others
        assert dialect._files == {}


def test_a_wrong_file_fails_and_starts_over(house: House) -> None:
    data, wrong = b"x" * 100, b"y" * 100
    with staged(house) as stage, stage.musicdb() as one:
        uploadid = one.initiate(data)
        one.told("ChunkRequest")
        one.chunk(uploadid, wrong)
        assert one.told("InternalError")["state"] == "uploadfailed"
        one.initiate(data)
        assert one.told("ChunkRequest")["offset"] == 0
        one.chunk(uploadid, data)
        assert one.told("StateUpdate", "uploadcomplete")["offset"] == 100


def test_a_full_disk_is_told_once(house: House) -> None:
    from stagedoor.errors import StorageFull

    data = b"x" * 100
    with staged(house) as stage, stage.musicdb() as one:
        uploadid = one.initiate(data)
        one.told("ChunkRequest")

        def full(*_: object) -> None:
            raise StorageFull("There is no room.")

        house.before["bytes.append"] = full
        one.chunk(uploadid, data)
        assert one.told()["message"] == "There is no room."
        del house.before["bytes.append"]
        one.chunk(uploadid, data)
        assert "One chunk for each request" in one.told("InternalError")["message"]
        one.settled()
        assert (one.heard, house.uploads.get(uploadid).offset) == ([], 0)
        one.initiate(data)
        assert one.told("ChunkRequest")["offset"] == 0
        one.chunk(uploadid, data)
        one.settled()
        Worker(house.uploads).drain(100)  # its bytes are hashed anew
        assert one.told(state="uploadcomplete")["offset"] == 100


def test_the_key_goes_with_every_packet(house: House) -> None:
    with staged(house, keys=("the-right-key",)) as stage:  # noqa: SIM117
        with stage.musicdb("the-right-key") as one, stage.musicdb("the-wrong-key") as other, stage.musicdb() as none:
            other.say("GetUploads", method="request")
            none.say("GetUploads", method="request")
            other.initiate(b"abc", "others")
            none.socket.send("no json")
            one.settled()
            one.initiate(b"abc", "mine")
            one.told("ChunkRequest", uploadid="mine")
            one.key = "the-wrong-key"
            one.say("RemoveUpload", uploadid="mine")
            one.key = "the-right-key"
            one.settled()
            assert one.heard == []
            assert [t["id"] for t in one.ask("GetUploads")["videos"]] == ["mine"]
            stage.tick()  # in the test's time that is long enough
            for client in (other, none):
                assert client.ending()[0] == 1008
                assert client.heard == []
            one.key, one.heard = "the-right-key", []
            one.settled()


def test_who_only_listens_hears_everything(house: House) -> None:
    with staged(house) as stage, stage.musicdb() as listener, stage.musicdb() as one:
        uploadid = one.initiate(b"abc")
        one.told("ChunkRequest")
        stage.tick()
        stage.tick()  # it has said nothing for half a heartbeat
        assert listener.next()["fncname"] == "MusicDB:Upload"
        assert listener.next()["fncname"] == "MusicDB:Heartbeat"
        one.chunk(uploadid, b"abc")
        assert listener.told()["state"] == "uploadcomplete"


def test_a_heartbeat_when_nothing_else_is_said(house: House) -> None:
    with staged(house) as stage, stage.musicdb() as one:
        one.settled()
        beats = []
        for _ in range(2):
            stage.tick()  # something was said since the last one
            stage.tick()
            beats.append(one.next())
        assert [(b["method"], b["fncname"], b["pass"]) for b in beats] == [
            ("notification", "MusicDB:Heartbeat", None)
        ] * 2
        one.settled()
        assert one.heard == []


def test_a_heartbeat_in_real_time(house: House) -> None:
    with staged(house, heartbeat=0.05) as stage, stage.musicdb() as one:
        assert {one.next()["fncname"] for _ in range(3)} == {"MusicDB:Heartbeat"}


def test_large_packets_are_read_beside_the_loop(house: House) -> None:
    data = os.urandom(3 << 20)
    with staged(house) as stage, stage.musicdb() as one:
        uploadid = one.initiate(data)
        one.told("ChunkRequest")
        one.chunk(uploadid, data)  # the size that was asked for is advice
        assert one.told()["state"] == "uploadcomplete"
        assert house.stored(uploadid) == data


def test_the_list_is_bounded_and_the_newest_are_in_it(closed: House) -> None:
    closed.open()
    for number in range(120):
        closed.uploads.initiate(closed.offer(f"u{number:03}", annotations={"text": "x" * 10_000}))
        closed.clock.forward(1)
    with staged(closed) as stage, stage.musicdb() as one:
        everything = [t["id"] for t in one.ask("GetUploads")["videos"]]
        assert everything == [f"u{number:03}" for number in range(120)]
        one.say("AnnotateUpload", uploadid="u000", name="First")
        listed = [t["id"] for t in one.told("StateUpdate")["uploadslist"]["videos"]]
        assert listed == sorted(listed)
        assert listed[0] == "u000"
        assert 10 < len(listed) < 14
        assert listed[1:] == everything[-len(listed) + 1 :]
        one.say("RemoveUpload", uploadid="u119")
        assert one.told("StateUpdate")["uploadslist"]["videos"][-1]["id"] == "u118"


def test_when_uploads_are_removed_others_come_into_the_list(closed: House) -> None:
    closed.open()
    for number in range(40):
        closed.uploads.initiate(closed.offer(f"u{number:02}", annotations={"text": "x" * 10_000}))
        closed.clock.forward(1)
    with staged(closed) as stage, stage.musicdb() as one:
        one.settled()
        noticed = None
        for number in reversed(range(10, 40)):
            one.say("RemoveUpload", uploadid=f"u{number:02}")
            noticed = one.told("StateUpdate", "remove", f"u{number:02}")
        assert noticed is not None
        one.settled()
        one.say("AnnotateUpload", uploadid="u00", name="Zeta")  # the first message after the store was asked
        listed = [t["id"] for t in one.told("StateUpdate", "waitforchunk", "u00")["uploadslist"]["videos"]]
        assert listed == [f"u{number:02}" for number in range(10)]


def test_the_list_is_filled_anew_now_and_then_and_with_what_is_true(closed: House) -> None:
    """The store is asked while changes go on; what it found is older than these."""
    closed.open()
    for number in range(40):
        closed.uploads.initiate(closed.offer(f"u{number:02}", annotations={"text": "x" * 10_000}))
        closed.clock.forward(1)

    async def play() -> None:
        core = core_of(closed.uploads, parts=False)
        await core.start()
        made = board.Board(core, board.Documents())
        await made.enter()
        asked: list[asyncio.Event] = []
        read = core.read

        async def slow(function: Callable[..., Any], *args: Any) -> Any:
            found = await read(function, *args)
            asked.append(asyncio.Event())
            await asked[-1].wait()
            return found

        async def until(fits: Callable[[], bool]) -> None:
            async with asyncio.timeout(PATIENCE):
                while not fits():
                    await asyncio.sleep(0)

        def listed() -> list[str]:
            return [task["id"] for task in json.loads(made.uploadslist())["videos"]]

        core.read = slow  # type: ignore[method-assign, assignment]
        assert listed() == [f"u{number}" for number in range(28, 40)]
        closed.uploads.remove("u39")
        await until(lambda: len(listed()) == 11)
        assert made._refilling is None  # not for one alone
        closed.uploads.remove("u38")
        await until(lambda: len(asked) == 1)
        assert listed() == [f"u{number}" for number in range(28, 38)]  # which goes on meanwhile
        for number in (37, 27, 26):
            closed.uploads.remove(f"u{number}")
        closed.uploads.annotate("u36", name="Newest")
        await until(lambda: len(listed()) == 9 and b"Newest" in made.uploadslist())
        asked[0].set()
        await until(lambda: made._refilling is None)
        assert listed() == [f"u{number}" for number in range(28, 37)]
        assert b"Newest" in made.uploadslist()
        closed.uploads.remove("u36")
        await until(lambda: len(asked) == 2)
        asked[1].set()
        await until(lambda: made._refilling is None)
        assert listed() == [f"u{number}" for number in (*range(22, 26), *range(28, 36))]
        made.leave()
        await core.stop()

    asyncio.run(play())


def test_all_of_them_are_bounded_too(closed: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "EVERYTHING", 50_000)
    closed.open()
    for number in range(20):
        closed.uploads.initiate(closed.offer(f"u{number:02}", annotations={"text": "x" * 10_000}))
        closed.clock.forward(1)
    with staged(closed) as stage, stage.musicdb() as one:
        assert [t["id"] for t in one.ask("GetUploads")["videos"]] == ["u16", "u17", "u18", "u19"]


def test_who_uploads_is_asked_at_once_and_the_others_hear_of_it_when_there_is_time(house: House) -> None:
    """The pause after the first notice does not end, and the upload goes on all the same."""
    data = os.urandom(4 * CHUNK)
    pauses: list[Callable[[], None]] = []

    class Pause:
        def cancel(self) -> None:
            pauses.clear()

    def later(_: float, function: Callable[[], None]) -> Pause:
        pauses.append(function)
        return Pause()

    with staged(house) as stage, stage.musicdb() as one, stage.musicdb() as other, stage.binary() as third:
        other.settled()
        stage.do(lambda: setattr(stage.core.hub, "_later", later))
        uploadid = one.initiate(data)
        for number in range(4):
            assert one.told()["offset"] == number * CHUNK
            one.settled()
            assert one.heard == []  # once each
            if number == 3:
                other.settled()
                assert [m["arguments"]["offset"] for m in other.heard] == [0]
                stage.do(lambda: pauses.pop()())
                assert other.told("ChunkRequest")["offset"] == 3 * CHUNK
            one.chunk(uploadid, data[number * CHUNK : (number + 1) * CHUNK])
        assert one.told()["state"] == other.told()["state"] == "uploadcomplete"
        third.settled()
        told = [m for m in third.heard if m["type"] != "tasks"]
        assert [m["uploads"][0]["offset"] for m in told if m["type"] == "progress"] == [3 * CHUNK]
        assert [m["offset"] for m in told if m["type"] == "notice"] == [0, 4 * CHUNK]


def test_what_waits_is_without_the_list_and_all_that_are_sent_share_the_newest(closed: House) -> None:
    closed.open()
    for number in range(20):
        closed.uploads.initiate(closed.offer(f"u{number:02}", annotations={"text": "x" * 10_000}))

    def change(number: int) -> Notice:
        return Notice(NoticeKind.STATE_UPDATE, f"u{number:02}", closed.uploads.get(f"u{number:02}"))

    async def play() -> None:
        core = core_of(closed.uploads, parts=False)
        await core.start()
        made = board.Board(core, board.Documents())
        await made.enter()
        slow, quick = core.hub.listen(made.encoder), core.hub.listen(made.encoder)
        for number in range(900):
            closed.uploads.bus.publish([change(number % 20)])
        closed.uploads.bus.flush()
        last: list[Message] = []
        for _ in range(900 // 64 + 1):
            last = await quick.messages()
        assert not slow.overrun
        waiting = slow.take()
        assert len(waiting) == 900
        assert len(waiting[0].text) > 100_000
        assert len(waiting[0].payload) < 15_000
        assert last[-1].text is waiting[-1].text  # made once
        lists = {json.dumps(json.loads(message.text)["arguments"]["uploadslist"]) for message in waiting[::100]}
        assert len(lists) == 1
        closed.uploads.annotate("u00", name="Newest")
        assert '"Newest"' not in waiting[5].text
        await quick.messages()
        assert '"Newest"' in waiting[5].text
        assert len(made._texts) <= 16
        made.leave()
        assert made.text_of(Listing(b"", gap=0)) == made.uploadslist().decode()
        assert '"Newest"' in waiting[6].text  # who is told after everybody has left hears no empty list
        await core.stop()

    asyncio.run(play())


def test_over_one_wire_what_was_begun_over_another(house: House) -> None:
    """A request of tus takes the upload, the WebSocket takes it back."""
    data = os.urandom(3 * CHUNK)
    head = {"Tus-Resumable": "1.0.0"}
    with staged(house) as stage, stage.musicdb() as one:
        uploadid = one.initiate(data)
        one.told("ChunkRequest")
        one.chunk(uploadid, data[:CHUNK])
        one.told("ChunkRequest")
        patch = head | {"Upload-Offset": str(CHUNK), "Content-Type": "application/offset+octet-stream"}
        reply = stage.served("PATCH", f"/files/{uploadid}", patch, data[CHUNK : 2 * CHUNK])
        assert reply.status == 204
        assert one.told("ChunkRequest")["offset"] == 2 * CHUNK
        one.chunk(uploadid, data[CHUNK : 2 * CHUNK])  # to the request before the last
        assert "not asked" in one.told("InternalError")["message"]
        assert house.uploads.get(uploadid).offset == 2 * CHUNK
        one.chunk(uploadid, data[2 * CHUNK :])  # to the one that tus caused: still it is not ours
        assert "not asked" in one.told("InternalError")["message"]
        one.initiate(data)
        assert one.told("ChunkRequest")["offset"] == 2 * CHUNK
        one.chunk(uploadid, data[2 * CHUNK :])
        assert one.told("StateUpdate")["state"] == "uploadcomplete"


def test_a_removed_upload_may_be_offered_again_with_its_id(house: House) -> None:
    data = b"abcdef"
    with staged(house) as stage, stage.musicdb() as one:
        uploadid = one.initiate(data)
        one.told("ChunkRequest")
        one.say("RemoveUpload", uploadid=uploadid)
        one.told("StateUpdate", "remove")
        Worker(house.uploads).drain(100)
        assert house.uploads.find(uploadid) is None
        one.chunk(uploadid, data)  # to the request of the one that is gone
        assert one.told("InternalError")["state"] == "notexisting"
        one.initiate(data)
        one.told("ChunkRequest")
        one.chunk(uploadid, data)
        assert one.told("StateUpdate")["state"] == "uploadcomplete"
        settle(house.uploads, digest(data), lambda task: task.state is State.UPLOADCOMPLETE)
    assert PATIENCE
