"""Server-Sent Events over a real server: what is told, to whom, and how one goes on after a break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.lifecycle import State
from stagedoor.notices import Notice, NoticeKind
from stagedoor.server.api.events import Events
from stagedoor.server.core import Core

from .answering import answering, listening
from .serving import Served, core_of

if TYPE_CHECKING:
    from conftest import House


@pytest.fixture
def served(house: House) -> Iterator[Served]:
    with answering(house) as running:
        yield running


def data(event: dict[str, str]) -> Any:
    return json.loads(event["data"])


def test_whoever_comes_anew_is_told_to_fetch_the_list(served: Served) -> None:
    with listening(served) as stream:
        first = stream.event()
        assert (first["event"], first["retry"], data(first)) == ("reset", "1000", {"list": "/api/uploads"})


def test_every_change_is_told_with_a_line_of_the_list(house: House, served: Served) -> None:
    with listening(served) as stream:
        stream.event()
        house.send()
        told = [data(stream.event()) for _ in range(2)]
        assert [(one["kind"], one["state"]) for one in told] == [
            ("ChunkRequest", "waitforchunk"),
            ("StateUpdate", "uploadcomplete"),
        ]
        assert told[1]["upload"] == served("GET", "/api/uploads").json["uploads"][0]
        assert (told[0]["chunksize"], told[0]["offset"]) == (len(house.DATA), 0)
        assert str(house.root) not in json.dumps(told)


def test_ids_rise_and_whoever_comes_back_hears_what_was_missed(house: House, served: Served) -> None:
    with listening(served) as stream:
        stream.event()
        house.bring(State.WAITFORCHUNK)
        assert "id" not in stream.event()
        house.uploads.annotate("one", name="First")
        first = stream.event()
    house.uploads.annotate("one", name="Missed")
    house.uploads.annotate("one", name="Missed too")
    with listening(served, last=first["id"]) as stream:
        missed = [stream.event(), stream.event()]
        assert [data(event)["upload"]["names"]["name"] for event in missed] == ["Missed", "Missed too"]
        house.uploads.annotate("one", name="Live")
        live = stream.event()
        assert data(live)["upload"]["names"]["name"] == "Live"
    numbers = [int(event["id"].partition("-")[2]) for event in (first, *missed, live)]
    assert numbers == sorted(set(numbers))


def test_whoever_comes_back_hears_where_all_uploads_stand(house: House, served: Served) -> None:
    with listening(served) as stream:
        stream.event()
        house.bring(State.WAITFORCHUNK)
        stream.event()
        house.uploads.initiate(house.offer("two", b"abcdef"))
        stream.event()
        house.uploads.annotate("one", name="Last")
        last = stream.event()
    house.uploads.receive("two", offset=0, data=b"ab")
    house.uploads.receive("two", offset=2, data=b"cd")
    house.uploads.initiate(house.offer("three", b"abc"))
    with listening(served, last=last["id"]) as stream:
        told = [stream.event(), stream.event()]
        assert [(data(event)["uploadid"], data(event)["offset"]) for event in told] == [("two", 4), ("three", 0)]
        assert all("id" not in event for event in told)
        house.uploads.receive("two", offset=4, data=b"e")
        moved = stream.event()
        assert (moved["event"], "id" in moved) == ("progress", False)
        assert data(moved) == {
            "uploads": [{"id": "two", "uid": house.uploads.get("two").uid, "offset": 5, "filesize": 6}]
        }


@pytest.mark.parametrize("last", ["", "x", "0", "12345678-0", "-1", "é-1", "\u0661-1"])
def test_an_id_of_another_run_is_out_of_reach(served: Served, last: str) -> None:
    with listening(served, last=last.encode().decode("latin-1")) as stream:
        assert stream.event()["event"] == "reset"


def test_an_id_that_was_never_given_is_out_of_reach(house: House, served: Served) -> None:
    with listening(served) as stream:
        run = stream.event()["id"].partition("-")[0]
    for number in ("99", "-1", "1" * 30, "1.5", ""):
        with listening(served, last=f"{run}-{number}") as stream:
            assert stream.event()["event"] == "reset"


def test_a_quiet_stream_says_that_the_server_lives(house: House) -> None:
    with answering(house, heartbeat=0.01) as served, listening(served) as stream:
        stream.event()
        stream.comment()
        stream.comment()
        house.bring(State.WAITFORCHUNK)
        assert stream.event()["event"] == "notice"


def test_a_stop_ends_the_streams(house: House) -> None:
    with ExitStack() as stack:
        served = stack.enter_context(answering(house))
        stream = stack.enter_context(listening(served))
        stream.event()
        app: Any = served.app
        app.core.hub._loop.call_soon_threadsafe(app.core.drain)
        stream.end()


def test_whoever_leaves_is_forgotten(house: House, served: Served) -> None:
    app: Any = served.app
    with listening(served) as stream:
        stream.event()
        assert app.core.hub.count() == 1

    async def gone() -> None:
        while app.core.hub.count():
            await asyncio.sleep(0)

    asyncio.run_coroutine_threadsafe(gone(), app.core.hub._loop).result(10)


def test_head_begins_no_stream(served: Served) -> None:
    reply = served("HEAD", "/api/events")
    assert (reply.status, reply["content-type"], reply.body) == (200, "text/event-stream", b"")
    app: Any = served.app
    assert app.core.hub.count() == 0


# ── what is remembered ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def events(house: House) -> Events:
    """Somebody listens."""
    house.bring(State.WAITFORCHUNK)
    events = Events(core_of(house.uploads, parts=False), remembered=4)
    events._come()
    return events


def notice(house: House, kind: NoticeKind = NoticeKind.STATE_UPDATE, message: str | None = None) -> Notice:
    return Notice(kind, "one", house.uploads.get("one"), message)


def numbers(events: Events, after: int) -> list[int] | None:
    missed = events._missed(f"{events._run}-{after}")
    return None if missed is None else [number for number, _ in missed]


def test_what_is_too_long_ago_is_out_of_reach(house: House, events: Events) -> None:
    for _ in range(6):
        events.hear(notice(house))
    assert numbers(events, 1) is None
    assert numbers(events, 2) == [3, 4, 5, 6]
    assert numbers(events, 6) == []
    assert numbers(events, 7) is None


def test_of_progress_only_the_newest_is_remembered(house: House, events: Events) -> None:
    events.hear(notice(house))
    for _ in range(50):
        events.hear(notice(house, NoticeKind.CHUNK_REQUEST))
    events.hear(notice(house))
    assert numbers(events, 0) == [1, 52]  # it is overtaken by what is told of the same upload
    for _ in range(4):
        events.hear(notice(house))
    events.hear(notice(house, NoticeKind.CHUNK_REQUEST))
    assert numbers(events, 56) == [57]
    assert numbers(events, 57) == [57]  # it may have been on its way: nobody knows who has heard it
    assert len(events._progress) == 1


def test_nothing_is_remembered_for_nobody(house: House, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    events.hear(notice(house))
    events._leave()
    for _ in range(4):
        events.hear(notice(house))
    assert numbers(events, 1) == [2, 3, 4, 5]
    events.hear(notice(house))
    assert (numbers(events, 2), len(events._ring), events._bytes) == (None, 0, 0)
    made: list[Notice] = []
    monkeypatch.setattr(Events, "_event", lambda *told: made.append(told[-1]))
    events.hear(notice(house))
    assert made == []
    monkeypatch.undo()
    events._come()
    assert (numbers(events, 6), numbers(events, 7)) == (None, [])
    events.hear(notice(house))
    assert numbers(events, 7) == [8]
    assert events.encode(notice(house)).payload.startswith(b"id: ")


def test_what_is_remembered_is_bounded_in_bytes(house: House) -> None:
    house.bring(State.WAITFORCHUNK)
    events = Events(core_of(house.uploads, parts=False), volume=10_000)
    events._come()
    for _ in range(3):
        events.hear(notice(house, NoticeKind.CHUNK_REQUEST))
    for _ in range(9):
        events.hear(notice(house, message="x" * 3_000))
    assert numbers(events, 10) == [11, 12]
    assert numbers(events, 5) is None
    assert (events._bytes, events._progress) == (sum(len(event) for _, event in events._ring.values()), {})
    assert 6_000 < events._bytes <= 10_000
    huge = notice(house, message="x" * 20_000)
    events.hear(huge)
    assert (numbers(events, 13), numbers(events, 12), events._bytes) == ([], None, 0)
    assert len(events.encode(huge).payload) > 20_000  # who listens hears it all the same


def test_a_message_that_is_no_unicode_is_told_all_the_same(house: House, events: Events) -> None:
    told = notice(house, message="bad \udcff name\nid: 5")
    events.hear(told)
    payload = events.encode(told).payload
    assert payload.count(b"\n") == 4  # three lines and the empty one: a name begins no field
    assert json.loads(payload.split(b"data: ")[1])["message"] == "bad ? name\nid: 5"


def test_whoever_does_not_keep_up_is_told_so_and_disturbs_nobody(house: House) -> None:
    """A listener that reads nothing: its queue fills, the others hear everything."""
    house.bring(State.WAITFORCHUNK)

    async def play() -> tuple[list[bytes], int]:
        core: Core = core_of(house.uploads, parts=False, backlog=3)
        events = Events(core, remembered=3)
        core.hub.tap(events.hear)
        await core.start()
        sent: list[bytes] = []
        stuck = asyncio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                sent.append(message["body"])
                await stuck.wait()

        slow, quick = core.hub.listen(events.encoder), core.hub.listen(events.encoder)
        streaming = asyncio.create_task(events._stream(slow, send))
        heard = 0
        for number in range(6):
            house.uploads.annotate("one", name=str(number))
            heard += len(await quick.messages())
        stuck.set()
        await streaming
        await core.stop()
        return sent, heard

    sent, heard = asyncio.run(play())
    assert heard == 6
    assert sent[-2:] == [b"event: overrun\ndata: {}\n\n", b""]
    assert b"".join(sent).count(b"event: notice") < 6
