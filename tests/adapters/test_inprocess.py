import logging
import threading
from collections.abc import Iterator

import pytest

from stagedoor.adapters.inprocess import InlineBus, LocalQueue, ThreadedBus
from stagedoor.notices import Notice, NoticeKind
from stagedoor.ports import EventBus, WorkQueue
from stagedoor.testing.stores import EventBusContract, WorkQueueContract


class TestInlineBus(EventBusContract):
    isolated = False

    @pytest.fixture
    def bus(self) -> Iterator[EventBus]:
        bus = InlineBus()
        yield bus
        bus.close()

    def test_one_that_takes_off_another_spares_it_the_notice(self, bus: EventBus) -> None:
        heard: list[str] = []
        bus.subscribe(lambda _: unsubscribe())
        unsubscribe = bus.subscribe(lambda _: heard.append("taken off"))
        bus.publish([_notice()])
        bus.flush()
        assert heard == []

    def test_flush_without_anything_is_no_error(self, bus: EventBus) -> None:
        bus.flush()


class TestThreadedBus(EventBusContract):
    @pytest.fixture
    def bus(self) -> Iterator[EventBus]:
        bus = ThreadedBus()
        yield bus
        bus.close()


class TestLocalQueue(WorkQueueContract):
    @pytest.fixture
    def work(self) -> WorkQueue:
        return LocalQueue()


def _notice() -> Notice:
    return Notice(NoticeKind.STATE_UPDATE, "one")


def test_a_subscriber_that_lags_misses_notices_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    bus = ThreadedBus(backlog=3)
    entered, let_go = threading.Event(), threading.Event()
    heard = []

    def slow(notice: Notice) -> None:
        entered.set()
        let_go.wait(30)
        heard.append(notice)

    bus.subscribe(slow)
    bus.publish([_notice()])
    assert entered.wait(30)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            bus.publish([_notice()])
    let_go.set()
    bus.close()
    assert len(heard) == 4
    assert caplog.text.count("misses some") == 1


def test_threads_of_subscribers_end() -> None:
    before = threading.active_count()
    bus = ThreadedBus()
    unsubscribe = bus.subscribe(lambda _: None)
    bus.subscribe(lambda _: None)
    listeners = bus._listeners
    unsubscribe()
    bus.close()
    for listener in listeners:
        listener.thread.join(30)
    bus.subscribe(lambda _: None)  # nobody would end its thread
    assert threading.active_count() == before
