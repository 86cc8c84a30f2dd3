"""What all wires share: whose turn it is, and that nobody waits for somebody else's disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.errors import Refused, UploadError
from stagedoor.lifecycle import State
from stagedoor.server.concatenation import PARTS
from stagedoor.server.core import Core
from stagedoor.server.http import Body
from stagedoor.tasks import Offer

from .serving import PATIENCE, Served, core_of, standing
from .talking import digest, staged

if TYPE_CHECKING:
    from conftest import House

DATA = bytes(range(256)) * 40
VERSION = {"Tus-Resumable": "1.0.0"}


def run(core: Core, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Something on the event loop of a server that runs."""

    async def main() -> None:
        await core.start()
        try:
            await asyncio.wait_for(job(), PATIENCE)
        finally:
            await core.stop()

    asyncio.run(main())


def offered(house: House, **more: Any) -> None:
    house.uploads.initiate(
        Offer("one", filename="film.mp4", contenttype="video", filesize=len(DATA), sha1=digest(DATA), **more)
    )


class Gate:
    """A place where a thread waits until the event loop lets it go on."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._open = threading.Event()
        self.opened_in_time = False

    def pass_(self, *_: object) -> None:
        self.arrived.set()
        self.opened_in_time = self._open.wait(PATIENCE)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.arrived.wait, PATIENCE)

    def open(self) -> None:
        self._open.set()


def pieces(*given: bytes) -> Body:
    waiting = list(given)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    return Body(receive)


def test_a_thread_that_syncs_for_an_upload_does_not_stop_the_loop_when_its_body_comes(house: House) -> None:
    offered(house)
    core, gate = core_of(house.uploads, parts=False, durability="power"), Gate()

    async def job() -> None:
        house.before["tasks.cas"] = gate.pass_
        annotating = asyncio.create_task(core.step("one", house.uploads.annotate, "one", name="x"))
        await gate.reached()  # it has the upload's lock, and waits for its disk
        house.before.clear()
        inflow = house.uploads.ports.bytes  # the body below is written into it when the lock is free
        sending = asyncio.create_task(core.take_in(house.uploads, "one", pieces(DATA[:100], DATA[100:]), offset=0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate.open()  # nobody opens it if the loop is stopped
        await annotating
        task = await sending
        assert task.state is State.UPLOADCOMPLETE
        with inflow.open(task.key) as file:
            assert file.read() == DATA

    run(core, job)
    assert gate.opened_in_time


def test_a_piece_waits_for_the_lock_in_a_thread(house: House) -> None:
    offered(house)
    core, gate = core_of(house.uploads, parts=False, durability="power"), Gate()
    first, rest = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not first.is_set():
            first.set()
            return {"type": "http.request", "body": DATA[:100], "more_body": True}
        await rest.wait()
        return {"type": "http.request", "body": DATA[100:], "more_body": False}

    async def job() -> None:
        sending = asyncio.create_task(core.take_in(house.uploads, "one", Body(receive), offset=0))
        await first.wait()
        house.before["tasks.cas"] = gate.pass_
        annotating = asyncio.create_task(core.step("one", house.uploads.annotate, "one", name="x"))
        await gate.reached()
        house.before.clear()
        rest.set()
        for _ in range(10):  # the piece comes, and finds the upload locked
            await asyncio.sleep(0)
        assert not sending.done()
        gate.open()
        await annotating
        task = await sending
        assert (task.state, task.annotations["name"]) == (State.UPLOADCOMPLETE, "x")

    run(core, job)
    assert gate.opened_in_time


def test_events_of_one_upload_take_one_thread_and_keep_their_order(house: House) -> None:
    offered(house)
    core, gate = core_of(house.uploads, parts=False, durability="power"), Gate()
    seen: list[int] = []

    async def job() -> None:
        slow = asyncio.create_task(core.event("one", gate.pass_))
        many = [asyncio.create_task(core.event("one", seen.append, n)) for n in range(100)]
        await gate.reached()
        assert await core.event("two", lambda: "served") == "served"
        for n in range(0, 100, 3):
            many[n].cancel()  # whoever waits goes away; what was asked for happens all the same, in its turn
        assert not seen
        gate.open()
        await slow
        await asyncio.gather(*many, return_exceptions=True)
        await core.event("one", seen.append, 100)
        assert seen == list(range(101))

    run(core, job)


def test_slow_steps_and_readers_do_not_hold_up_events(house: House) -> None:
    core, gate = core_of(house.uploads, parts=False, durability="power"), Gate()

    async def job() -> None:
        steps = [asyncio.create_task(core.step(f"u{n}", gate.pass_)) for n in range(264)]
        reads = [asyncio.create_task(core.read(gate.pass_)) for _ in range(50)]
        await gate.reached()
        assert await core.event("one", lambda: "served") == "served"
        with pytest.raises(Refused) as caught:
            await core.step("one", gate.pass_)
        assert caught.value.code == "busy"
        gate.open()
        await asyncio.gather(*steps, *reads)
        await core.step("one", gate.pass_)  # there is room again

    run(core, job)


def test_an_error_is_told_to_whoever_asked_and_to_nobody_who_comes_later(house: House) -> None:
    core = core_of(house.uploads, parts=False, durability="power")

    def fail() -> None:
        raise Refused("No.", code="no")

    async def job() -> None:
        failing = asyncio.create_task(core.event("one", fail))
        after = asyncio.create_task(core.event("one", lambda: "done"))
        with pytest.raises(Refused):
            await failing
        assert await after == "done"

    run(core, job)


def test_what_came_goes_on_record_though_whoever_closes_is_cancelled(house: House) -> None:
    offered(house)
    core, gate = core_of(house.uploads, parts=False, durability="power"), Gate()

    async def job() -> None:
        inflow = house.uploads.inflow("one")
        inflow.write(DATA[:100])
        before = asyncio.create_task(core.event("one", gate.pass_))
        await gate.reached()

        async def close() -> None:
            await core.let_go("one", inflow)

        closing = asyncio.create_task(close())
        await asyncio.sleep(0)
        closing.cancel()  # the close has not begun
        gate.open()
        await before

    run(core, job)  # the stop waits for it
    assert house.uploads.get("one").offset == 100


def test_whoever_comes_later_has_the_upload_in_the_end(house: House) -> None:
    offered(house)
    core, gate = core_of(house.uploads, parts=False, durability="power"), Gate()

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def job() -> None:
        blocked = asyncio.create_task(core.event("one", gate.pass_))
        await gate.reached()
        first = asyncio.create_task(core.take_in(house.uploads, "one", Body(never), offset=0))
        await asyncio.sleep(0)
        second = asyncio.create_task(core.take_in(house.uploads, "one", pieces(DATA), offset=0))
        await asyncio.sleep(0)
        gate.open()
        await blocked
        with pytest.raises(Refused) as caught:
            await first
        assert caught.value.code == "taken_over"
        assert (await second).state is State.UPLOADCOMPLETE

    run(core, job)


def test_an_error_of_an_embedding_program_is_not_hidden(house: House) -> None:
    """Events without a thread raise what they raise as well."""
    core = core_of(house.uploads, parts=False)

    async def job() -> None:
        with pytest.raises(UploadError):
            await core.event("one", house.uploads.annotate, "one", name="x")

    run(core, job)


# ── several wires ─────────────────────────────────────────────────────────────────────────────────────────────


def head(served: Served, uploadid: str) -> int:
    reply = served("HEAD", f"/files/{uploadid}", VERSION)
    assert reply.status == 200
    return int(reply["upload-offset"])


def test_who_asks_over_tus_sees_what_a_websocket_brought_and_does_not_end_it(house: House) -> None:
    with staged(house, ask=1000, progress=1 << 20) as stage, stage.binary(window=1) as one:
        one.initiate(DATA)
        one.chunk(one.hear("ask"), DATA)
        ask = one.hear("ask")  # so the first has come; it is not on record yet
        assert ask["offset"] == 1000
        assert house.uploads.get("one").offset == 0
        assert head(stage.served, "one") == 1000
        one.chunk(ask, DATA)
        ask = one.hear("ask")
        assert ask["offset"] == 2000
        one.chunk(ask, DATA)
        one.feed(DATA)
        assert not [message for message in one.heard if message["type"] == "stop"]


def test_a_claim_tells_what_the_one_before_had_brought(house: House) -> None:
    with staged(house, ask=1000, progress=1 << 20) as stage, stage.binary(window=1) as one:
        one.initiate(DATA)
        one.chunk(one.hear("ask"), DATA)
        one.hear("ask")
        with stage.binary(window=1) as two:
            assert two.ask("claim", uploadid="one")["task"]["offset"] == 1000
            assert two.hear("ask")["offset"] == 1000


@pytest.mark.parametrize("wire", ["claim", "initiate", "musicdb", "api"])
def test_what_is_put_together_takes_bytes_from_no_wire(house: House, wire: str) -> None:
    offered(house, wire={PARTS: ("part-1",)})
    if wire == "api":
        with standing(house) as served:
            reply = served("PUT", "/api/uploads/one/data", {}, DATA)
            assert (reply.status, reply.json["code"]) == (403, "final_upload")
    else:
        with staged(house) as stage:
            if wire == "musicdb":
                with stage.musicdb() as web:
                    web.initiate(DATA, "one")
                    assert web.told("InternalError")["state"] == "waitforchunk"
                    web.chunk("one", DATA)
                    web.settled()
            else:
                with stage.binary() as one:
                    said = one.ask("claim", uploadid="one") if wire == "claim" else one.initiate(DATA)
                    assert said["code"] == "final_upload"
    assert house.uploads.get("one").offset == 0
