"""Our own dialect against a server that runs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.adapters.local import Durability
from stagedoor.lifecycle import State
from stagedoor.protocols import frames
from stagedoor.worker import Worker

from .serving import PATIENCE, settle
from .talking import Binary, digest, staged

if TYPE_CHECKING:
    from conftest import House

KIB = 1 << 10


@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("window", [1, 4])
def test_an_upload_with_a_window(closed: House, durability: Durability, window: int) -> None:
    closed.open(durability=durability)
    data = os.urandom(300 * KIB + 17)
    config: dict[str, Any] = {"durability": durability, "ask": 16 * KIB, "progress": 64 * KIB}
    with staged(closed, **config) as stage, stage.binary() as other:  # noqa: SIM117
        with stage.binary(window=window) as one:
            assert one.initiate(data)["task"]["offset"] == 0
            asks = [one.hear("ask") for _ in range(window)]
            assert [(a["offset"], a["length"]) for a in asks] == [(n * 16 * KIB, 16 * KIB) for n in range(window)]
            assert all((a["uploadid"], a["handle"]) == ("one", asks[0]["handle"]) for a in asks)
            one.settled()
            assert "ask" not in {m["type"] for m in one.heard}  # no more than the window before something has come
            for ask in asks:
                one.chunk(ask, data)
            assert one.feed(data)["offset"] == len(data)
            assert closed.stored() == data
            mine = [m for m in one.heard if m["type"] == "notice"]
            other.feed(b"", state="uploadcomplete")
            others = [m for m in other.heard if m["type"] == "notice"]
            told = [(m["kind"], m["state"], m["offset"]) for m in others]
            assert [m for m in mine if m["kind"] == "StateUpdate"] == [m for m in others if m["kind"] == "StateUpdate"]
            offsets = [offset for kind, _, offset in told if kind == "ChunkRequest"]
            assert offsets == sorted(offsets)
            assert set(offsets) <= {n * 64 * KIB for n in range(5)}  # what goes on record together is told together


def test_more_is_asked_for_once_half_of_the_window_is_free(house: House) -> None:
    """Two requests in one packet wake a client once."""
    data = os.urandom(100 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary(window=4) as one:
        one.initiate(data)
        asks = [one.hear("ask") for _ in range(4)]
        one.chunk(asks[0], data)
        one.settled()
        assert "ask" not in {m["type"] for m in one.heard}
        one.chunk(asks[1], data)
        asks += [one.hear("ask") for _ in range(2)]
        assert [ask["offset"] for ask in asks] == [n * 10 * KIB for n in range(6)]
        one.settled()
        assert "ask" not in {m["type"] for m in one.heard}


def test_hello_and_what_is_welcome(house: House) -> None:
    with staged(house, window=3, ask=5000, heartbeat=2.5) as stage, Binary(stage.connect()) as one:
        one.say("hello", version=1, window=1000)
        settings = house.uploads.settings
        assert one.next() == {
            "type": "welcome", "version": 1, "chunk_size": 5000, "max_chunk": settings.max_chunk,
            "max_file_size": settings.max_file_size, "max_annotations": settings.max_annotations, "window": 3,
            "heartbeat": 3,
        }  # fmt: skip
        one.say("hello", version=1)
        assert one.hear("error")["code"] == "hello_again"


def test_the_first_that_is_heard_is_welcome_whatever_happened_before_hello(house: House) -> None:
    with staged(house) as stage, stage.binary() as other, Binary(stage.connect()) as one:
        other.initiate(b"x" * 100)
        stage.do(lambda: None)  # the notice is with everybody
        one.say("hello", version=1, window=1)
        assert one.next()["type"] == "welcome"
        other.initiate(b"y" * 100, "two")
        assert one.next()["uploadid"] == "two"


def test_hello_right_behind_the_tick_that_took_its_silence_for_another_dialect(house: House) -> None:
    """The task that begins the other dialect has not run yet."""
    with staged(house) as stage, stage.binary() as other, Binary(stage.connect()) as one:
        hello = json.dumps({"type": "hello", "version": 1, "window": 1})

        def race() -> None:
            (connection,) = (each for each in stage.doors.sockets._connections if each.dialect is None)

            async def meet() -> None:  # as the task that reads does
                connection._silent = False
                await connection._meet(hello)
                assert connection.dialect is not None
                await connection.dialect.take(hello)

            connection.tick()
            connection.tick()
            with pytest.raises(StopIteration):  # all of it before the first step of the task which the tick began
                meet().send(None)

        stage.do(race)
        one.hear("welcome")
        other.initiate(b"x" * 100)
        assert one.hear("notice")["uploadid"] == "one"


def test_whoever_says_something_else_first_is_sent_away(house: House) -> None:
    with staged(house, keys=("the-right-key",)) as stage:
        for first, codes in (
            ({"type": "list", "n": 1}, []), ({"type": "hello"}, ["invalid_argument"]), ({"type": 3}, ["unknown_type"]),
            ({"type": "hello", "version": 9, "key": "the-right-key"}, ["unsupported_version"]),
            ({"type": "hello", "version": 9, "key": "wrong"}, ["unauthorized"]),
            ({"type": "hello", "version": 1, "key": "wrong"}, ["unauthorized"]),
            ({"type": "hello", "version": 1}, ["unauthorized"]),
        ):  # fmt: skip
            with Binary(stage.connect()) as one:
                one.socket.send(json.dumps(first))
                assert one.ending()[0] == 1008
                assert [m["code"] for m in one.heard] == codes
        with Binary(stage.connect()) as one:
            one.socket.send(frames.encode_chunk(1, 0, b"x"))
            assert one.ending() == (1008, "Say hello first.")
            assert one.heard == []
        with stage.binary(key="the-right-key") as one:
            one.settled()


def test_nothing_is_told_before_the_key(house: House) -> None:
    with staged(house, keys=("the-right-key",)) as stage, Binary(stage.connect()) as one:
        with stage.binary(key="the-right-key") as other:
            other.initiate(b"abc")
            other.feed(b"abc")
        one.say("hello", version=1, key="the-right-key")
        assert one.next()["type"] == "welcome"
        one.settled()
        assert one.heard == []


def test_a_life(house: House) -> None:
    data = b"fine film"
    with staged(house, worker=True) as stage, stage.binary() as one:
        one.initiate(data, annotations={"artistname": "Alpha"})
        one.feed(data, state="preprocessed")
        assert one.ask("annotate", uploadid="one", annotations={"name": "Beta"})["task"]["annotations"] == house.NAMES
        plan = one.ask("plan", uploadid="one")["plan"]
        assert [f["path"] for f in plan["files"]] == ["Alpha/Beta.mp4"]
        done = one.ask("integrate", uploadid="one")
        assert done["task"]["state"] == "integrated"
        assert one.ask("import", uploadid="one")["type"] == "done"
        settle(house.uploads, "one", lambda task: task.state is State.IMPORTCOMPLETE)
        assert one.ask("undo", uploadid="one")["task"]["state"] == "preprocessed"
        assert house.files("music") == {}
        assert one.ask("request", uploadid="one", trigger_import=True)["type"] == "done"
        settle(house.uploads, "one", lambda task: task.state is State.IMPORTCOMPLETE)
        assert one.ask("retry", uploadid="one")["code"] == "wrong_state"
        assert one.ask("remove", uploadid="one")["task"]["state"] == "remove"
        assert house.uploads.wait("one", PATIENCE) is None
        revisions = [m["task"]["revision"] for m in one.heard if m["type"] == "notice" and m["task"]]
        assert revisions == sorted(revisions)


def test_who_asks_for_nothing_hears_so_alone(house: House) -> None:
    with staged(house) as stage, stage.binary() as one, stage.binary() as other:
        for name in ("claim", "release"):
            assert one.ask(name, uploadid="none")["code"] == "not_found"
        assert one.ask("claim", uploadid="../x")["code"] == "invalid_id"
        house.send()
        assert one.ask("claim", uploadid="one")["code"] == "wrong_state"
        other.settled()
        assert all(m["uploadid"] == "one" for m in other.heard)


def test_the_list_in_pages(house: House) -> None:
    for number in range(5):
        house.send(f"u{number}")
    with staged(house) as stage, stage.binary() as one:
        pages, after = [], ""
        while True:
            page = one.ask("list", after=after, limit=2)
            pages.append([t["id"] for t in page["tasks"]])
            if not page["more"]:
                break
            after = pages[-1][-1]
        assert pages == [["u0", "u1"], ["u2", "u3"], ["u4"]]
        assert one.ask("list", after="u4")["tasks"] == []
        assert one.ask("list", after="u1~")["tasks"][0]["id"] == "u2"


def test_what_came_is_on_record_when_the_connection_is_cut(house: House) -> None:
    """In the middle of a window; another connection goes on at once, and sends nothing twice."""
    data = os.urandom(100 * KIB)
    with staged(house, ask=10 * KIB) as stage:
        with stage.binary() as lost:
            lost.initiate(data)
            for _ in range(3):
                lost.chunk(lost.hear("ask"), data)
            lost.settled()
            assert house.uploads.get("one").offset == 0  # progress is told every 4 MiB
            lost.socket.socket.close()  # without a word
        settle(house.uploads, "one", lambda task: task.offset == 30 * KIB)
        with stage.binary() as one:
            assert one.ask("claim", uploadid="one")["task"]["offset"] == 30 * KIB
            one.feed(data)
            assert house.stored() == data
            assert min(m["offset"] for m in one.heard if m["type"] == "notice") == 100 * KIB


def test_the_newest_claim_wins(house: House) -> None:
    data = os.urandom(100 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary() as one, stage.binary() as other:
        one.initiate(data)
        first = one.hear("ask")
        one.chunk(first, data)
        one.settled()
        other.n = 100
        assert other.ask("claim", uploadid="one")["type"] == "done"
        stop = one.hear("stop")
        assert (stop["handle"], stop["uploadid"], stop["code"]) == (first["handle"], "one", "taken_over")
        one.chunk(first | {"offset": 10 * KIB}, data)
        assert one.hear("stop")["code"] == "unknown_handle"
        assert [other.hear("ask")["offset"] for _ in range(4)] == [10 * KIB, 20 * KIB, 30 * KIB, 40 * KIB]
        one.ask("claim", uploadid="one")
        assert other.hear("stop")["code"] == "taken_over"
        one.feed(data)
        assert house.stored() == data


def test_a_claim_again_is_asked_anew(house: House) -> None:
    data = os.urandom(30 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary() as one:
        one.initiate(data)
        old = one.hear("ask")
        one.ask("claim", uploadid="one")
        assert [m["code"] for m in one.heard if m["type"] == "stop"] == ["claimed_again"]
        one.chunk(old, data)
        assert one.hear("stop")["code"] == "unknown_handle"
        one.heard.clear()
        one.ask("claim", uploadid="one")
        one.feed(data)
        assert house.stored() == data


def test_a_short_chunk(house: House) -> None:
    data = os.urandom(50 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary(window=2) as one:
        one.initiate(data)
        first, second = one.hear("ask"), one.hear("ask")
        one.chunk(first | {"length": 7}, data)
        one.chunk(second, data)
        assert one.hear("stop")["code"] == "short_chunk"
        anew = one.hear("ask")
        assert (anew["offset"], anew["handle"] != first["handle"]) == (7, True)
        assert one.hear("stop", handle=first["handle"])["code"] == "unknown_handle"
        one.ask("claim", uploadid="one")
        one.feed(data)
        assert house.stored() == data


def test_a_short_chunk_without_another_behind_it(house: House) -> None:
    data = os.urandom(20 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary(window=1) as one:
        one.initiate(data)
        ask = one.hear("ask")
        one.chunk(ask | {"length": 7}, data)
        assert one.hear("ask")["offset"] == 7
        assert "stop" not in {m["type"] for m in one.heard}


def test_chunks_that_nobody_asked_for_change_nothing(house: House) -> None:
    data = os.urandom(50 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary(window=2) as one:
        for wrong in ({"offset": 10 * KIB}, {"offset": 5}, {"offset": 2**40}, {"length": 10 * KIB + 1}):
            one.initiate(data)
            one.heard.clear()
            ask = one.hear("ask")
            one.chunk(ask | wrong, data) if wrong[
                "offset" if "offset" in wrong else "length"
            ] < 2**40 else one.socket.send(frames.encode_chunk(ask["handle"], 2**40, b"x"))
            assert one.hear("stop")["code"] == "not_asked"
            assert house.uploads.get("one").offset == 0
        one.socket.send(frames.encode_chunk(77, 0, b"x"))
        stop = one.hear("stop")
        assert (stop["handle"], stop["uploadid"], stop["code"]) == (77, None, "unknown_handle")
        one.socket.send(b"\x11")
        assert one.hear("error")["code"] == "invalid_frame"
        one.socket.send(b"\x21" + bytes(20))
        assert one.hear("error")["code"] == "unsupported_version"


def test_an_upload_whose_length_comes_later(house: House) -> None:
    data = os.urandom(25 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary(window=2) as one:
        one.initiate(data, filesize=None, sha1=None)
        for _ in range(3):
            one.chunk(one.hear("ask"), data)
        one.heard.clear()
        assert one.ask("declare", uploadid="one", filesize=20)["code"] == "length_too_small"
        assert one.hear("ask")["offset"] == 25 * KIB
        done = one.ask("declare", uploadid="one", filesize=len(data))
        assert (done["task"]["filesize"], done["task"]["state"]) == (len(data), "uploadcomplete")
        assert one.ask("declare", uploadid="one", sha1=digest(data))["type"] == "error"
        assert house.stored() == data


def test_a_length_in_the_middle_and_a_release(house: House) -> None:
    data = os.urandom(25 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary(window=2) as one:
        one.initiate(data, filesize=None, sha1=None)
        one.chunk(one.hear("ask"), data)
        assert one.ask("declare", uploadid="one", sha1=digest(data))["task"]["sourcechecksum"] == digest(data)
        assert one.ask("declare", uploadid="one", filesize=len(data))["task"]["offset"] == 10 * KIB
        stop = next(m for m in one.heard if m["type"] == "stop")
        assert stop["code"] == "declared"
        first, second = one.hear("ask"), one.hear("ask")
        assert [(a["offset"], a["length"]) for a in (first, second)] == [(10 * KIB, 10 * KIB), (20 * KIB, 5 * KIB)]
        one.chunk(first, data)
        assert one.ask("release", uploadid="one")["task"]["offset"] == 20 * KIB
        assert one.ask("release", uploadid="one")["task"]["offset"] == 20 * KIB
        one.ask("claim", uploadid="one")
        one.feed(data)
        assert house.stored() == data


def test_an_upload_that_is_removed_is_not_asked_for(house: House) -> None:
    data = os.urandom(50 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary() as one, stage.binary() as other:
        one.initiate(data)
        one.chunk(one.hear("ask"), data)
        one.settled()
        other.ask("remove", uploadid="one")
        stop = one.hear("stop")
        assert (stop["uploadid"], stop["code"]) == ("one", "wrong_state")
        Worker(house.uploads).drain(100)
        assert house.uploads.find("one") is None


def test_a_pause_puts_on_record_what_came(house: House) -> None:
    data = os.urandom(50 * KIB)
    with staged(house, ask=10 * KIB) as stage, stage.binary() as one:
        one.initiate(data)
        one.chunk(one.hear("ask"), data)
        one.settled()
        assert house.uploads.get("one").offset == 0
        stage.tick()  # something came since the last one
        stage.tick()
        settle(house.uploads, "one", lambda task: task.offset == 10 * KIB)
        one.feed(data)
        assert house.stored() == data


def test_a_wrong_file_fails(house: House) -> None:
    data = os.urandom(20 * KIB)
    with staged(house) as stage, stage.binary() as one:
        one.initiate(data)
        one.feed(bytes(20 * KIB), state="uploadfailed")
        assert one.heard[-1]["kind"] == "InternalError"
        assert one.ask("retry", uploadid="one")["task"]["offset"] == 0
        one.ask("claim", uploadid="one")
        one.feed(data)


def test_a_full_disk_stops_and_goes_on(house: House) -> None:
    from stagedoor.errors import StorageFull

    data = os.urandom(20 * KIB)
    with staged(house, ask=5 * KIB) as stage, stage.binary(window=1) as one:
        one.initiate(data)
        one.chunk(one.hear("ask"), data)
        ask = one.hear("ask")

        def full(*_: object) -> None:
            raise StorageFull("There is no room.")

        house.before["bytes.append"] = full
        one.chunk(ask, data)
        assert one.hear("stop")["code"] == "storage_full"
        del house.before["bytes.append"]
        assert one.ask("claim", uploadid="one")["task"]["offset"] == 5 * KIB
        one.feed(data, state="waitforchunk")


def test_both_dialects_on_one_upload(house: House) -> None:
    data = os.urandom(1200 * KIB)
    with staged(house, ask=100 * KIB, progress=100 * KIB) as stage, stage.musicdb() as web, stage.binary() as one:
        web.settled()
        web.initiate(data, "one")
        web.told("ChunkRequest")
        web.chunk("one", data[: 400 * KIB])
        assert web.told("ChunkRequest")["offset"] == 400 * KIB
        assert one.ask("claim", uploadid="one")["task"]["offset"] == 400 * KIB
        for _ in range(4):
            one.chunk(one.hear("ask"), data)
        requests = 1
        while web.told("ChunkRequest")["offset"] < 800 * KIB:  # progress: the newest wins
            requests += 1
        web.chunk("one", data[400 * KIB : 800 * KIB])  # it holds the file, and answers every request
        assert "not asked" in web.told("InternalError")["message"]
        web.initiate(data, "one")
        assert one.hear("stop")["code"] == "taken_over"
        for _ in range(requests - 1):  # the answers to the others that it heard, but for the last
            web.chunk("one", b"old")
        web.told("ChunkRequest")
        web.chunk("one", data[800 * KIB :])
        assert web.told("StateUpdate")["state"] == "uploadcomplete"
        one.hear("notice", state="uploadcomplete")
        assert house.stored() == data
