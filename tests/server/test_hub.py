"""The fan-out: order, coalescing, bounds, and who disturbs whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.adapters.inprocess import InlineBus
from stagedoor.notices import Notice, NoticeKind
from stagedoor.protocols.messages import Message
from stagedoor.server.hub import Encoder, Hub, Listener

if TYPE_CHECKING:
    from conftest import House


class Source:
    """What of an engine a hub uses."""

    def __init__(self) -> None:
        self.bus = InlineBus()
        self.subscribe = self.bus.subscribe

    def tell(self, *notices: Notice) -> None:
        self.bus.publish(notices)
        self.bus.flush()


def progress(uploadid: str, size: int = 0) -> Notice:
    return Notice(NoticeKind.CHUNK_REQUEST, uploadid, chunksize=size)


def change(uploadid: str, text: str = "") -> Notice:
    return Notice(NoticeKind.STATE_UPDATE, uploadid, message=text)


def say(notice: Notice) -> Message:
    key = notice.uploadid if notice.kind is NoticeKind.CHUNK_REQUEST else None
    return Message(f"{notice.uploadid}:{notice.chunksize or notice.message or ''}".encode(), key)


plain = Encoder(say)


def run(test: Callable[[Source, Hub], Coroutine[Any, Any, None]], **limits: int) -> None:
    async def main() -> None:
        source = Source()
        hub = Hub(source, **limits)  # type: ignore[arg-type]  # all that it uses
        hub.attach(asyncio.get_running_loop())
        await test(source, hub)
        hub.close()

    asyncio.run(main())


async def payloads(listener: Listener) -> list[str]:
    return [message.text for message in await listener.messages()]


async def many(listener: Listener, number: int) -> list[str]:
    """So many of them, of a listener that is not let go meanwhile."""
    heard: list[str] = []
    while len(heard) < number:
        assert not listener.closed
        heard += await payloads(listener)
    return heard


async def turns(number: int = 3) -> None:
    """Let the loop do what it has."""
    for _ in range(number):
        await asyncio.sleep(0)


def test_everybody_hears_everything_in_order_and_it_is_encoded_once() -> None:
    encoded: list[str] = []

    def counting(notice: Notice) -> Message:
        encoded.append(notice.uploadid)
        return say(notice)

    async def test(source: Source, hub: Hub) -> None:
        counted = Encoder(counting)
        listeners = [hub.listen(counted) for _ in range(5)]
        source.tell(change("a"), change("b"), change("a", "2"))
        for listener in listeners:
            assert await payloads(listener) == ["a:", "b:", "a:2"]
        assert encoded == ["a", "b", "a"]
        assert hub.count() == 5

    run(test)


def test_of_progress_the_newest_waits_and_of_changes_every_one() -> None:
    async def test(source: Source, hub: Hub) -> None:
        listener = hub.listen(plain)
        source.tell(
            progress("a", 1), change("a"), progress("a", 2), progress("b", 1), change("a", "2"), progress("a", 3)
        )
        await turns()
        assert await payloads(listener) == ["a:", "b:1", "a:2", "a:3"]

    run(test)


def test_progress_is_not_counted_but_weighed() -> None:
    async def test(source: Source, hub: Hub) -> None:
        listener = hub.listen(plain)
        source.tell(*(progress(f"{n:04}", 7) for n in range(10)))
        await turns()
        assert not listener.overrun
        source.tell(*(progress("same", 7) for _ in range(50)))  # in the place of each other
        await turns()
        assert not listener.overrun
        source.tell(*(progress(f"x{n:03}", 7) for n in range(10)))
        await turns()
        assert listener.overrun

    run(test, backlog=3, volume=100)


def test_whoever_is_too_far_behind_is_let_go_and_nobody_else() -> None:
    async def test(source: Source, hub: Hub) -> None:
        ended: list[str] = []
        slow, quick = hub.listen(plain), hub.listen(plain)
        slow.at_end(lambda: ended.append("slow"))
        quick.at_end(lambda: ended.append("quick"))
        heard: list[str] = []
        for n in range(6):
            source.tell(change(str(n)))
            heard += await payloads(quick)
        assert (slow.overrun, slow.closed, ended) == (True, True, ["slow"])
        assert await slow.messages() == []  # what waited is not kept
        assert heard == [f"{n}:" for n in range(6)]
        assert hub.count() == 1

    run(test, backlog=3)


def test_one_message_may_be_larger_than_what_may_wait() -> None:
    async def test(source: Source, hub: Hub) -> None:
        listener = hub.listen(plain)
        listener.put(Message(b"x" * 1000))
        assert not listener.overrun
        assert len(await payloads(listener)) == 1
        listener.put(Message(b"x" * 1000))
        listener.put(Message(b"x"))
        assert listener.overrun

    run(test, volume=100)


def test_a_burst_overruns_nobody_who_reads() -> None:
    async def test(source: Source, hub: Hub) -> None:
        listener = hub.listen(plain)
        source.tell(*(change(str(n)) for n in range(1000)))
        heard = await many(listener, 1000)
        assert heard == [f"{n}:" for n in range(1000)]
        assert not listener.overrun

    run(test, backlog=100)


def test_notices_of_many_threads_come_in_the_order_of_the_bus() -> None:
    async def test(source: Source, hub: Hub) -> None:
        listener = hub.listen(plain)
        work = [asyncio.to_thread(source.tell, *(change(f"{t}", str(n)) for n in range(50))) for t in range(4)]
        await asyncio.gather(*work)
        heard = await many(listener, 200)
        for thread in range(4):
            assert [h for h in heard if h.startswith(f"{thread}:")] == [f"{thread}:{n or 0}" for n in range(50)]

    run(test)


def test_what_one_dialect_cannot_say_the_others_say(caplog: pytest.LogCaptureFixture) -> None:
    def broken(notice: Notice) -> Message:
        raise ValueError(notice.uploadid)

    async def test(source: Source, hub: Hub) -> None:
        hub.listen(Encoder(broken))
        listener = hub.listen(plain)
        source.tell(change("a"), change("b"))
        assert await payloads(listener) == ["a:", "b:"]

    run(test)
    assert "cannot be encoded" in caplog.text


def test_a_tap_that_breaks_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    noted: list[str] = []

    def broken(notice: Notice) -> None:
        raise ValueError(notice.uploadid)

    async def test(source: Source, hub: Hub) -> None:
        hub.tap(broken)
        hub.tap(lambda notice: noted.append(notice.uploadid))
        listener = hub.listen(plain)
        source.tell(*(change(str(number)) for number in range(200)))
        assert len(await many(listener, 200)) == 200

    run(test)
    assert noted == [str(number) for number in range(200)]
    assert caplog.text.count("cannot be noted") == 200


def test_a_listener_whose_end_breaks_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("the end")

    async def test(source: Source, hub: Hub) -> None:
        unwell, listener = hub.listen(plain), hub.listen(plain)
        unwell.at_end(broken)
        for number in range(4):
            source.tell(change(str(number)))
            assert await payloads(listener) == [f"{number}:"]
        assert unwell.overrun

    run(test, backlog=2)
    assert caplog.text.count("cannot be put") == 1


def test_another_dialect_from_now_on() -> None:
    async def test(source: Source, hub: Hub) -> None:
        listener, other = hub.listen(plain), hub.listen(plain)
        source.tell(change("a"))
        await turns()
        listener.retune(Encoder(lambda notice: Message(b"other")))
        source.tell(change("b"))
        await turns()
        assert await payloads(listener) == ["a:", "other"]
        assert await payloads(other) == ["a:", "b:"]
        hub.tell(plain, Message(b"only"))
        assert await payloads(other) == ["only"]
        assert listener.take() == []
        assert hub.count() == 2

    run(test)


def test_who_adds_to_its_own_queue_waits_for_room() -> None:
    async def test(source: Source, hub: Hub) -> None:
        listener = hub.listen(plain)
        for _ in range(3):
            listener.put(Message(b"x"))
        await listener.room(3, 3)
        waiting = asyncio.create_task(listener.room(2, 100))
        await turns()
        assert not waiting.done()
        assert len(listener.take()) == 3
        await waiting
        for _ in range(3):
            listener.put(Message(b"x"))
        waiting = asyncio.create_task(listener.room(2, 100))
        await turns()
        listener.close()
        await waiting
        other = hub.listen(plain)
        other.put(Message(b"xxx"))
        waiting = asyncio.create_task(other.room(100, 2))
        await turns()
        assert not waiting.done()
        other.take()
        await waiting

    run(test)


def test_a_call_that_was_given_up_loses_nothing() -> None:
    async def test(source: Source, hub: Hub) -> None:
        listener = hub.listen(plain)
        waiting = asyncio.create_task(listener.messages())
        await turns()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        source.tell(change("a"))
        assert await payloads(listener) == ["a:"]

    run(test)


def test_the_end_lets_all_go_who_hear_what_waits() -> None:
    async def test(source: Source, hub: Hub) -> None:
        ended: list[int] = []
        listener, waiting = hub.listen(plain), hub.listen(plain)
        task = asyncio.create_task(waiting.messages())
        await turns()
        source.tell(change("a"))
        await turns()
        hub.close()
        source.tell(change("b"))
        await turns()
        assert [m.text for m in await task] == ["a:"]
        assert await payloads(listener) == ["a:"]
        assert await payloads(listener) == []
        late = hub.listen(plain)
        late.at_end(lambda: ended.append(1))
        assert (late.closed, ended, hub.count()) == (True, [1], 0)

    run(test)


def test_an_engine_is_heard_from_its_own_threads(house: House) -> None:
    async def main() -> None:
        hub = Hub(house.uploads)
        hub.attach(asyncio.get_running_loop())
        listener = hub.listen(Encoder(lambda notice: Message(f"{notice.kind} {notice.state}".encode())))
        await asyncio.to_thread(house.send)
        assert await payloads(listener) == ["ChunkRequest waitforchunk", "StateUpdate uploadcomplete"]
        hub.close()

    asyncio.run(main())
