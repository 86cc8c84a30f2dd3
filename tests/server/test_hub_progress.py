"""Progress in the fan-out: who hears it when, at what share of the time, and never behind what was told before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import orjson
import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st

from stagedoor.adapters.inprocess import InlineBus
from stagedoor.lifecycle import State
from stagedoor.notices import Notice, NoticeKind
from stagedoor.protocols.messages import Message, coalescing_key, moved
from stagedoor.server import hub as module
from stagedoor.server.hub import SILENCE, Encoder, Hub, Listener
from stagedoor.tasks import UploadTask

MESSAGE = 40e-6
"""Seconds that the hub counts for a message."""


class Source:
    """What of an engine a hub uses."""

    def __init__(self) -> None:
        self.bus = InlineBus()
        self.subscribe = self.bus.subscribe


@define
class Timer:
    """Time, as the hub has it: it passes when a test says so."""

    pauses: list[float] = field(factory=list)
    waiting: Callable[[], None] | None = None

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        assert self.waiting is None, "one pause at a time"
        self.pauses.append(seconds)
        self.waiting = function
        return self

    def cancel(self) -> None:
        self.waiting = None

    def over(self) -> bool:
        """The pause is over, if there is one."""
        function, self.waiting = self.waiting, None
        if function is None:
            return False
        function()
        return True


@define
class Stage:
    """A hub, its engine and its time; tasks as they are now."""

    hub: Hub
    source: Source
    timer: Timer
    tasks: dict[str, UploadTask] = field(factory=dict)

    def tell(self, *notices: Notice) -> None:
        """The engine tells, and the hub gives it on."""
        idle = self.timer.waiting is None
        self.source.bus.publish(notices)
        self.source.bus.flush()
        self.hub._deliver()
        if idle and not all(each.kind is NoticeKind.CHUNK_REQUEST and each.offset for each in notices):
            self.rest()  # from telling a change

    def new(self, *names: str) -> None:
        for name in names:
            self.tasks[name] = UploadTask(
                id=name, filesize=1000, offset=0, contenttype="video", mimetype="video/mp4", sourcefilename="a.mp4",
                sourcechecksum=None, destinationpath="a", state=State.WAITFORCHUNK, uid=f"uid-{name}", created=1.0,
                updated=1.0,
            )  # fmt: skip
            self.tell(Notice(NoticeKind.CHUNK_REQUEST, name, self.tasks[name]))

    def move(self, *names: str, by: int = 1) -> None:
        notices = []
        for name in names:
            task = self.tasks[name] = evolve(self.tasks[name], offset=self.tasks[name].offset + by)
            notices.append(Notice(NoticeKind.CHUNK_REQUEST, name, task))
        self.tell(*notices)

    def change(self, name: str, state: State = State.UPLOADCOMPLETE, **rest: Any) -> None:
        old = self.tasks[name]
        self.tasks[name] = evolve(old, state=state, revision=old.revision + 1, **rest)
        self.tell(Notice(NoticeKind.STATE_UPDATE, name, self.tasks[name]))

    def rest(self) -> None:
        """Let all pauses pass."""
        while self.timer.over():
            pass


def say(notice: Notice) -> Message:
    kind = "!" if notice.kind is NoticeKind.STATE_UPDATE else "="
    return Message(f"{notice.uploadid}{kind}{notice.offset}".encode(), coalescing_key(notice))


def join(notices: Sequence[Notice]) -> Message:
    return Message(" ".join(f"{each['id']}+{each['offset']}" for each in moved(notices)).encode())


joined = Encoder(say, join)
"""A dialect with one message for all that moved."""
single = Encoder(say)
"""A dialect with a message for each."""


def run(test: Callable[[Stage], Coroutine[Any, Any, None]], **limits: int) -> None:
    async def main() -> None:
        source, timer = Source(), Timer()
        hub = Hub(source, later=timer.later, **limits)  # type: ignore[arg-type]  # all that it uses
        hub.attach(asyncio.get_running_loop())
        await test(Stage(hub, source, timer))
        hub.close()
        assert timer.waiting is None

    asyncio.run(main())


def heard(listener: Listener) -> list[str]:
    return [message.text for message in listener.take()]


def test_a_few_hear_it_at_once_and_all_that_moved_in_one_message() -> None:
    async def test(stage: Stage) -> None:
        one, other, third = stage.hub.listen(joined), stage.hub.listen(joined), stage.hub.listen(single)
        stage.new("a", "b")
        assert heard(one) == heard(other) == heard(third) == ["a=0", "b=0"]
        stage.move("a")
        assert heard(one) == heard(other) == ["a+1"]
        assert heard(third) == ["a=1"]
        stage.move("a", "b", "a")  # in the pause
        assert heard(one) == []
        stage.rest()
        (said,), (same,) = one.take(), other.take()
        assert (said.text, said is same) == ("b+1 a+3", True)  # the newest of each, encoded once
        assert heard(third) == ["b=1", "a=3"]

    run(test)


def test_who_waits_is_woken_for_it() -> None:
    async def test(stage: Stage) -> None:
        listener = stage.hub.listen(joined)
        stage.new("a")
        await listener.messages()
        waiting = asyncio.create_task(listener.messages())
        await asyncio.sleep(0)
        stage.move("a")
        assert [message.text for message in await waiting] == ["a+1"]
        stage.rest()
        stage.move("a")
        stage.change("a")  # before it was taken
        assert [message.text for message in await listener.messages()] == ["a!2"]
        waiting = asyncio.create_task(listener.messages())
        await asyncio.sleep(0)
        assert not waiting.done()  # its turn came, with nothing to hear
        listener.close()
        assert await waiting == []

    run(test)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("encoder", [joined, single])
def test_it_takes_a_fifth_of_the_time_however_many_listen_and_move(encoder: Encoder, late: bool) -> None:
    names = [f"u{number:02}" for number in range(20)]

    async def test(stage: Stage) -> None:
        listeners = [stage.hub.listen(encoder) for _ in range(130)]
        stage.new(*names)
        for listener in listeners:
            listener.take()
        stage.timer.pauses.clear()
        told, most = 0, 0
        rounds = 1 + 130 * (1 if encoder is joined else len(names)) // 50
        for _ in range(3 * rounds):
            stage.timer.over()
            stage.move(*names[: 1 if late else None])
            if late:  # more has moved when it is taken
                stage.move(*names)
            now = sum(len(listener.take()) for listener in listeners)
            told, most = told + now, max(most, now)
        if not late:
            assert most <= 50 + (len(names) if encoder is single else 1)  # 2 ms, and what one of them took more
        stage.rest()
        told += sum(len(listener.take()) for listener in listeners)
        stage.move(names[0])  # what was too much is made up for
        assert told * MESSAGE <= 0.2 * sum(stage.timer.pauses)
        assert told * MESSAGE > 0.15 * sum(stage.timer.pauses)  # and it does use its share
        stage.rest()
        for listener in listeners:
            listener.take()
            assert listener.heard == stage.hub.number  # everybody has had a turn, and knows the newest
        assert not stage.timer.over()

    run(test)


def test_progress_makes_way_for_changes_but_not_for_ever() -> None:
    async def test(stage: Stage) -> None:
        listeners = [stage.hub.listen(joined) for _ in range(500)]
        stage.new("a", "b")
        stage.timer.pauses.clear()
        stage.source.bus.publish([Notice(NoticeKind.STATE_UPDATE, "b", stage.tasks["b"])])
        stage.move("a")
        assert stage.timer.pauses == [pytest.approx(500 * MESSAGE)]  # until the change is told
        assert not any(listener.due for listener in listeners)
        assert stage.timer.over()
        assert sum(listener.due for listener in listeners) == 50
        stage.source.bus.publish([Notice(NoticeKind.STATE_UPDATE, "b", stage.tasks["b"])] * 50)
        stage.source.bus.flush()
        stage.hub._deliver()  # a second's work
        assert stage.timer.over()
        assert sum(listener.due for listener in listeners) == 100
        assert stage.timer.pauses[-1] == pytest.approx(50 * MESSAGE / 0.2 + 0.1, rel=0.02)

    run(test)


@pytest.mark.parametrize("rate", [1, 3, 30, 90])
def test_each_pause_is_followed_by_a_turn_however_much_changes(rate: int) -> None:
    """Changes to 500 listeners, so many in each pause: everybody hears of progress, and within a second or so."""

    async def test(stage: Stage) -> None:
        listeners = [stage.hub.listen(joined) for _ in range(500)]
        stage.new("a", "b")
        change = Notice(NoticeKind.STATE_UPDATE, "b", stage.tasks["b"])
        stage.hub._give(change)
        stage.timer.pauses.clear()
        stage.move("a")
        assert not any(listener.due for listener in listeners)  # what changes goes first
        for turn in range(1, 11):
            for _ in range(rate):
                stage.hub._give(change)
            stage.move("a")
            assert stage.timer.over()
            assert sum(listener.due for listener in listeners) == 50 * turn
        assert sum(stage.timer.pauses) < 1.2

    run(test)


def test_a_listener_costs_the_same_however_many_uploads_move() -> None:
    names = [f"u{number:03}" for number in range(200)]

    async def test(stage: Stage) -> None:
        listeners = [stage.hub.listen(joined) for _ in range(10)]
        stage.new(*names)
        stage.rest()
        for listener in listeners:
            listener.take()
        stage.move(*names)
        stage.rest()
        for listener in listeners:
            assert len(listener.take()) <= 2

    run(test)


def test_changes_and_new_uploads_wait_for_no_pause() -> None:
    async def test(stage: Stage) -> None:
        one = stage.hub.listen(joined)
        stage.new("a", "b")
        stage.move("a")
        assert heard(one) == ["a=0", "b=0", "a+1"]
        stage.move("b")
        stage.change("a")
        stage.new("c")
        stage.change("b", State.WAITFORCHUNK, annotations={"name": "x"})
        assert heard(one) == ["a!1", "c=0", "b!1"]
        stage.rest()
        assert heard(one) == []  # what was held back of `b` was told with the change
        stage.move("b")
        stage.tell(Notice(NoticeKind.CHUNK_REQUEST, "b", evolve(stage.tasks["b"], revision=9, offset=7)))
        assert heard(one) == ["b=7"]  # more than the offset is new

    run(test)


def test_who_has_not_had_a_turn_does_not_hear_what_a_change_has_overtaken() -> None:
    async def test(stage: Stage) -> None:
        listeners = [stage.hub.listen(joined) for _ in range(60)]
        stage.new("a", "b")
        for listener in listeners:
            listener.take()
        stage.move("a", "b")
        first, last = listeners[0], listeners[-1]
        assert (heard(first), heard(last)) == (["a+1 b+1"], [])  # the last one has not had its turn
        stage.change("a")
        stage.rest()
        assert (heard(first), heard(last)) == (["a!1"], ["a!1", "b+1"])

    run(test)


def test_an_upload_of_the_same_id_is_another_one() -> None:
    async def test(stage: Stage) -> None:
        one = stage.hub.listen(joined)
        stage.new("a")
        stage.move("a", by=5)
        stage.change("a", State.REMOVE)
        stage.new("a")
        stage.move("a")
        stage.rest()
        assert heard(one) == ["a!5", "a=0", "a+1"]

    run(test)


def test_who_is_going_to_answer_hears_each_request_at_once_and_once() -> None:
    async def test(stage: Stage) -> None:
        holder, tab, other = (stage.hub.listen(single) for _ in range(3))
        holder.follow("a")
        tab.follow("a")
        stage.new("a", "b")
        assert heard(holder) == heard(tab) == heard(other) == ["a=0", "b=0"]
        stage.move("b")
        assert heard(holder) == heard(tab) == heard(other) == ["b=1"]
        for offset in range(1, 5):  # all in the pause
            stage.move("a")
            assert heard(holder) == heard(tab) == [f"a={offset}"]
        stage.move("b")
        holder.unfollow("a")
        assert heard(other) == []
        stage.rest()
        assert heard(holder) == heard(tab) == ["b=2"]
        assert heard(other) == ["a=4", "b=2"]
        stage.move("a", "a")
        assert heard(holder) == heard(tab) == heard(other) == ["a=6"]  # it was not taken before the newer one came
        stage.rest()
        assert heard(holder) == heard(tab) == heard(other) == []
        tab.close()
        assert stage.hub._followers == {}

    run(test)


def test_one_that_reads_nothing_is_not_filled_and_hears_the_newest() -> None:
    async def test(stage: Stage) -> None:
        slow, quick = stage.hub.listen(joined), stage.hub.listen(joined)
        stage.new("a", "b")
        quick.take()
        for _ in range(100):
            stage.move("a", "b")
            stage.rest()
            assert heard(quick)
        assert not slow.overrun
        assert heard(slow) == ["a=0", "b=0", "a+100 b+100"]

    run(test, backlog=3, volume=100)


def test_whoever_comes_hears_what_moves_from_then_on() -> None:
    async def test(stage: Stage) -> None:
        undecided = Encoder(say)
        stage.new("a", "b", "c")  # for nobody
        one, silent = stage.hub.listen(undecided), stage.hub.listen(SILENCE)
        stage.move("a")
        assert one.due  # nobody reads for it yet
        stage.move("b")
        stage.rest()
        one.retune(joined)
        silent.retune(joined)
        late = stage.hub.listen(joined)
        stage.rest()
        stage.move("c")
        stage.rest()
        assert [heard(listener) for listener in (one, silent, late)] == [["a+1 b+1 c+1"], ["c+1"], ["c+1"]]

    run(test)


def test_for_nobody_nothing_is_encoded_or_kept() -> None:
    asked: list[str] = []

    def noting(notice: Notice) -> Message:
        asked.append(notice.uploadid)
        return say(notice)

    async def test(stage: Stage) -> None:
        silent = stage.hub.listen(SILENCE)
        gone = stage.hub.listen(Encoder(noting, join))
        gone.close()
        stage.new("a")
        stage.move("a")
        stage.change("a")
        assert (asked, stage.timer.pauses) == ([], [])
        silent.close()
        stage.new("b")
        stage.move("b")
        assert not stage.hub._moved
        last = stage.hub.listen(joined)
        stage.move("b", "b")
        assert stage.hub._moved
        last.close()
        assert not stage.hub._moved

    run(test)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOVED", 3)
    monkeypatch.setattr(module, "_KNOWN", 5)

    async def test(stage: Stage) -> None:
        slow, quick = stage.hub.listen(joined), stage.hub.listen(joined)
        stage.new(*"abcde")
        slow.take()
        quick.take()
        stage.move(*"abcde")
        stage.rest()
        assert heard(quick) == heard(slow) == ["c+1 d+1 e+1"]
        stage.new("f")
        quick.take()
        stage.move("a")
        assert heard(quick) == ["a=2"]  # nobody remembers that the rest of it was told
        assert list(stage.hub._known) == [*"cdefa"]

    run(test)


def test_what_one_dialect_cannot_say_of_progress_the_others_say(caplog: pytest.LogCaptureFixture) -> None:
    def broken(notices: Sequence[Notice]) -> Message:
        raise ValueError(len(notices))

    async def test(stage: Stage) -> None:
        unwell, one = stage.hub.listen(Encoder(say, broken)), stage.hub.listen(joined)
        stage.new("a")
        stage.move("a")
        assert (heard(unwell), heard(one)) == (["a=0"], ["a=0", "a+1"])
        stage.change("a")
        assert heard(unwell) == ["a!1"]

    run(test)
    assert "cannot be encoded" in caplog.text


def test_progress_in_our_own_words_has_no_more_than_a_board_needs() -> None:
    async def test(stage: Stage) -> None:
        stage.new("a")
        (said,) = moved([Notice(NoticeKind.CHUNK_REQUEST, "a", stage.tasks["a"])])
        assert orjson.loads(orjson.dumps(said)) == {"id": "a", "uid": "uid-a", "offset": 0, "filesize": 1000}
        assert moved([Notice(NoticeKind.CHUNK_REQUEST, "a")]) == []

    run(test)


# ── whatever happens ──────────────────────────────────────────────────────────────────────────────────────────

NAMES = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["new", "move", "move", "annotate", "end", "remove"]), NAMES),
        st.tuples(st.sampled_from(["follow", "unfollow"]), NAMES),
        st.tuples(st.sampled_from(["take", "take", "pause"]), st.sampled_from("012")),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(steps=STEPS)
def test_nobody_hears_of_less_than_before_and_everybody_of_the_newest(steps: list[tuple[str, str]]) -> None:
    """Three listeners, of which the last one follows now and then; in the end all know where every upload stands."""

    async def test(stage: Stage) -> None:
        listeners = [stage.hub.listen(joined), stage.hub.listen(single), stage.hub.listen(single)]
        known: list[dict[str, tuple[str, int]]] = [{}, {}, {}]
        follows: set[str] = set()
        asked: list[str] = []

        def take(number: int) -> None:
            for message in listeners[number].take():
                for said in message.text.split():
                    name, sign, offset = said[0], said[1], int(said[2:])
                    before = known[number].get(name, ("!", -1))
                    if sign == "+" or (sign == "=" and before[0] == "="):
                        assert name in known[number], "progress of something that was never told of"
                        assert offset > before[1] or stage.tasks[name].revision > 1 or offset == 0
                    known[number][name] = ("=" if sign == "+" else sign, offset)
                    if number == 2 and sign == "=" and name in follows:
                        asked.append(said)

        for what, which in steps:
            task = stage.tasks.get(which)
            takes = task is not None and task.state is State.WAITFORCHUNK
            if what == "new" and (task is None or task.state is State.REMOVE):
                stage.new(which)
            elif what == "move" and takes:
                take(2)
                asked.clear()
                stage.move(which)
                take(2)
                if which in follows:
                    assert asked.count(f"{which}={stage.tasks[which].offset}") == 1
            elif what == "annotate" and takes:
                stage.change(which, State.WAITFORCHUNK)
            elif what == "end" and takes:
                stage.change(which)
            elif what == "remove" and task is not None and task.state is not State.REMOVE:
                stage.change(which, State.REMOVE)
            elif what == "follow":
                follows.add(which)
                listeners[2].follow(which)
            elif what == "unfollow":
                follows.discard(which)
                listeners[2].unfollow(which)
            elif what == "take":
                take(int(which))
            elif what == "pause":
                stage.timer.over()
        stage.rest()
        for number in range(3):
            take(number)
        stage.rest()
        for number in range(3):
            take(number)
            assert {name: offset for name, (_, offset) in known[number].items()} == {
                name: task.offset for name, task in stage.tasks.items()
            }
            for name, (sign, _) in known[number].items():
                if stage.tasks[name].state is not State.WAITFORCHUNK:
                    assert sign == "!", "progress after the end"

    run(test)
