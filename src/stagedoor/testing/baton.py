"""Threads that go one at a time: real code under a scheduler that a seed decides.

`Scheduler` runs *actors*, each a function on a stack of its own. Exactly one has the baton; it hands it on where it
says `Scheduler.pause`, and where it would have to wait for another one. So a run is a function of its seed: what was
found once can be seen again.

`Scheduler.threads` stands in for the modules ``threading`` and ``queue``: its locks, conditions, events and threads
hand the baton on where the real ones let a thread sleep. `standing_in` puts it into modules for a while, and nothing
else on the machine notices. Time is a number that moves on only when nobody can go on, to the moment for which somebody
waits; when nobody does, that is a deadlock, and found.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import queue
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import CodeType, FunctionType, ModuleType, TracebackType
from typing import Any, Final, Literal, Self

from attrs import define, field
from greenlet import GreenletExit, greenlet

__all__ = ["Deadlock", "Endless", "Scheduler", "finely", "standing_in"]


class Deadlock(AssertionError):
    """Nobody can go on, and not everybody is at the end."""


class Endless(AssertionError):
    """They go on and on."""


@define(eq=False)
class _Actor:
    """Somebody who has the baton at times.

    Attributes:
        name: In traces.
        number: Also its thread id.
        background: Nobody waits for its end.
        waits: For what it waits; empty when it can go on.
        until: When it has waited long enough.
        woken: Whether it was called, rather than out of patience.
        rank: Who has the highest one goes first, where ranks decide.
    """

    name: str
    number: int
    background: bool = False
    stack: greenlet = field(init=False)
    waits: str = ""
    until: float | None = None
    woken: bool = False
    over: bool = False
    rank: float = 0.0


class Scheduler:
    """Decides who goes on.

    Some seeds decide anew at each pause; some let one go on for a while; and some give everybody a rank that changes a
    few times only, which finds what needs one certain actor to be very slow.

    Args:
        seed: Decides. The same seed, the same run.
        limit: Pauses after which a run is `Endless`.

    Attributes:
        now: Seconds that have passed.
        steps: Pauses so far.
        threads: Stands in for ``threading`` and ``queue``.
        stuck: Called when nobody can go on before some time passes; it may raise.
    """

    def __init__(self, seed: int, *, limit: int = 200_000) -> None:
        self.now = 0.0
        self.steps = 0
        self.stuck: Callable[[], None] = lambda: None
        self.threads = Threads(self)
        self._random = random.Random(seed)  # noqa: S311  # not for secrets
        self._limit = limit
        self._actors: list[_Actor] = []
        self._ready: list[_Actor] = []
        self._waiting: list[_Actor] = []
        self._current: _Actor | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._trace: list[tuple[_Actor, str]] = []
        self._passed = 0
        self._hub = greenlet.getcurrent()
        ranks = self._random.random() < 0.3
        self._pace = self._random.choice((1, 2, 4, 10, 30))
        self._changes = sorted(self._random.randrange(1_500) for _ in range(5)) if ranks else None
        self._left = 0

    @property
    def current(self) -> str:
        """Who has the baton; empty outside of `run`."""
        return "" if self._current is None else self._current.name

    @property
    def number(self) -> int:
        """The thread id of who has it."""
        return 0 if self._current is None else self._current.number

    def spawn(self, name: str, do: Callable[[], object], *, background: bool = False) -> _Actor:
        """Somebody more, who begins when it is their turn.

        Args:
            name: In traces.
            do: What they do; what it raises ends the run.
            background: `run` does not wait for their end.
        """
        actor = _Actor(name, len(self._actors) + 1, background)
        actor.rank = self._random.random()

        def live() -> None:
            try:
                do()
            except GreenletExit:
                pass
            except BaseException as error:  # noqa: BLE001  # it ends the run, and is raised there
                if self._failure is None:
                    self._failure = error
            actor.over = True
            with suppress(ValueError):
                self._ready.remove(actor)

        actor.stack = greenlet(live, self._hub)
        self._actors.append(actor)
        self._ready.append(actor)
        return actor

    def run(self) -> None:
        """Let them go until those who are not in the background are at the end.

        Raises:
            Deadlock, Endless: See there.
            BaseException: What an actor raised.
        """
        self._hub = greenlet.getcurrent()
        try:
            while self._failure is None and not all(actor.over or actor.background for actor in self._actors):
                if not self._ready:
                    self._pass_time()
                self._current = self._pick()
                self._current.stack.switch()
                self._current = None
            if self._failure is not None:
                raise self._failure
        finally:
            self._end()

    def trace(self, most: int = 400) -> str:
        """Who did what, one turn a line; of long runs the last ones."""
        lines = []
        for actor, turns in itertools.groupby(self._trace, key=lambda turn: turn[0]):
            lines.append(f"{actor.name:<10} {', '.join(what for _, what in turns)}")
        left = f"… {len(lines) - most} turns before\n" if len(lines) > most else ""
        return left + "\n".join(lines[-most:])

    def pause(self, what: str = "") -> None:
        """Somebody else may go on here. Outside of `run` nothing happens.

        Args:
            what: Is about to be done; for traces.
        """
        me = self._current
        if me is None:
            return
        if self._ended:
            raise GreenletExit
        if what:
            self._trace.append((me, what))
        self.steps += 1
        if self._changes is None:
            self._left -= 1
            if self._left > 0:
                return
        elif self._changes and self.steps >= self._changes[0]:
            self._changes.pop(0)
            me.rank -= 1.0
        if self.steps > self._limit:
            # At once, and not when it comes to the end of the stack: what is cleaned up there may fail as well.
            self._failure = Endless(f"{self._limit} steps, and no end: {self._waits()}.")
            raise self._failure
        other = self._pick()
        if other is not me:
            self._hand_to(other)

    def sleep(self, seconds: float) -> None:
        """Wait until that much time has passed."""
        self.block("time", seconds)

    def block(self, what: str, timeout: float | None = None) -> bool:
        """Wait to be woken.

        Args:
            what: For; in traces.
            timeout: Seconds.

        Returns:
            Whether somebody woke us in time.
        """
        me = self._current
        if self._ended:
            raise GreenletExit
        if me is None:
            raise Deadlock(f"Somebody outside waits for {what}, and nobody can go on meanwhile.")
        me.waits, me.woken = what, False
        me.until = None if timeout is None else self.now + timeout
        self._trace.append((me, f"waits for {what}"))
        self._ready.remove(me)
        self._waiting.append(me)
        if self._ready:
            self._hand_to(self._pick())
        else:
            self._hub.switch()
        return me.woken

    def wake(self, actor: _Actor | None) -> None:
        """Let somebody go on who waits."""
        if actor is not None and actor.waits and not actor.over:
            self._go_on(actor, woken=True)

    def me(self) -> _Actor | None:
        """Who has the baton, to be woken later."""
        return self._current

    def _go_on(self, actor: _Actor, *, woken: bool) -> None:
        actor.waits, actor.woken, actor.until = "", woken, None
        self._waiting.remove(actor)
        self._ready.append(actor)

    def _pick(self) -> _Actor:
        if self._changes is not None:
            return max(self._ready, key=lambda actor: actor.rank)
        self._left = self._random.randint(1, 2 * self._pace - 1)
        return self._ready[int(self._random.random() * len(self._ready))]

    def _hand_to(self, other: _Actor) -> None:
        self._current = other
        other.stack.switch()
        if self._ended:
            raise GreenletExit

    def _pass_time(self) -> None:
        self.stuck()
        patient = [actor for actor in self._waiting if actor.until is not None]
        if not patient:
            raise Deadlock(f"Nobody can go on: {self._waits()}.")
        first = min(patient, key=lambda actor: (actor.until or 0.0, actor.number))
        assert first.until is not None
        self._passed += 1
        if self._passed > self._limit // 50:
            raise Endless(f"Time passes, and nothing else happens: {self._waits()}.")
        self.now = max(self.now, first.until)
        self._go_on(first, woken=False)

    def _waits(self) -> str:
        return "; ".join(f"{actor.name} waits for {actor.waits}" for actor in self._waiting)

    def _end(self) -> None:
        """Take everybody off the stage who is still on it."""
        self._ended = True
        for actor in self._actors:
            for _ in range(100):  # what they clean up on the way out may not wait either
                if actor.stack.dead or not actor.stack:
                    break
                self._current = actor
                actor.stack.throw(GreenletExit)
        self._current = None


# ── instead of the modules threading and queue ────────────────────────────────────────────────────────────────


class _Lock:
    """`threading.Lock` and `threading.RLock`."""

    def __init__(self, scheduler: Scheduler, *, again: bool = False) -> None:
        self._scheduler = scheduler
        self._again = again
        self._owner: _Actor | Literal[False] | None = False
        self._depth = 0
        self._queue: deque[_Actor] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = self._scheduler
        scheduler.pause()
        me = scheduler.me()
        if self._owner is not False and self._again and self._owner is me:
            self._depth += 1
            return True
        while self._owner is not False:
            if not blocking:
                return False
            owner = "somebody outside" if self._owner is None else self._owner.name
            if me is not None:
                self._queue.append(me)
            if not scheduler.block(f"the lock of {owner}", None if timeout < 0 else timeout):
                if me is not None and me in self._queue:
                    self._queue.remove(me)
                return False
        self._owner, self._depth = me, 1
        return True

    def release(self) -> None:
        if self._owner is False or (self._again and self._owner is not self._scheduler.me()):
            raise RuntimeError("This lock is somebody else's.")
        self._depth -= 1
        if not self._depth:
            self._owner = False
            while self._queue:  # whoever comes first has it: a thread that wakes late finds it taken
                self._scheduler.wake(self._queue.popleft())

    def locked(self) -> bool:
        return self._owner is not False

    def _let_go(self) -> int:
        depth, self._depth = self._depth, 1
        self.release()
        return depth

    def _take_again(self, depth: int) -> None:
        self.acquire()
        self._depth = depth

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


class _Condition:
    """`threading.Condition`."""

    def __init__(self, scheduler: Scheduler, lock: _Lock | None = None) -> None:
        self._scheduler = scheduler
        self._lock = lock or _Lock(scheduler, again=True)
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self._queue: deque[_Actor] = deque()

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        me = self._scheduler.me()
        if me is not None:
            self._queue.append(me)
        depth = self._lock._let_go()
        try:
            woken = self._scheduler.block("a condition", timeout)
            if not woken and me is not None and me in self._queue:
                self._queue.remove(me)
            return woken
        finally:
            self._lock._take_again(depth)

    def wait_for(self, predicate: Callable[[], object], timeout: float | None = None) -> bool:
        until = None if timeout is None else self._scheduler.now + timeout
        while not (found := predicate()):
            left = None if until is None else until - self._scheduler.now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return bool(found)

    def notify(self, n: int = 1) -> None:
        for _ in range(min(n, len(self._queue))):
            self._scheduler.wake(self._queue.popleft())

    def notify_all(self) -> None:
        self.notify(len(self._queue))


class _Event:
    """`threading.Event`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._condition, self._set = _Condition(scheduler), False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        with self._condition:
            self._set = True
            self._condition.notify_all()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self._set, timeout)


class _Semaphore:
    """`threading.Semaphore`."""

    def __init__(self, scheduler: Scheduler, value: int = 1) -> None:
        self._condition, self._value = _Condition(scheduler), value

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        with self._condition:
            if not self._condition.wait_for(lambda: self._value > 0, timeout if blocking else 0):
                return False
            self._value -= 1
            return True

    def release(self) -> None:
        with self._condition:
            self._value += 1
            self._condition.notify()


class _Thread:
    """`threading.Thread`."""

    def __init__(
        self,
        scheduler: Scheduler,
        target: Callable[..., object],
        name: str = "thread",
        args: Sequence[object] = (),
        *,
        daemon: bool = False,
    ) -> None:
        self._scheduler, self._daemon = scheduler, daemon
        self.name = name.removeprefix("stagedoor-")
        self._do: Callable[[], object] = lambda: target(*args)
        self._done = _Event(scheduler)
        self._actor: _Actor | None = None

    def start(self) -> None:
        self._actor = self._scheduler.spawn(self.name, self._live, background=self._daemon)
        self._scheduler.pause(f"starts {self.name}")

    def _live(self) -> None:
        self._do()
        self._done.set()

    def join(self, timeout: float | None = None) -> None:
        self._done.wait(timeout)

    def is_alive(self) -> bool:
        return self._actor is not None and not self._actor.over

    @property
    def ident(self) -> int | None:
        return None if self._actor is None else self._actor.number


class _Local:
    """`threading.local`."""

    _scheduler: Scheduler
    _of: dict[tuple[int, str], object]

    def __init__(self, scheduler: Scheduler) -> None:
        object.__setattr__(self, "_scheduler", scheduler)
        object.__setattr__(self, "_of", {})

    def __getattr__(self, name: str) -> object:
        try:
            return self._of[self._scheduler.number, name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self._of[self._scheduler.number, name] = value


class _Queue:
    """`queue.SimpleQueue`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._condition = _Condition(scheduler)
        self._items: deque[object] = deque()

    def put(self, item: object) -> None:
        with self._condition:
            self._items.append(item)
            self._condition.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> object:
        with self._condition:
            if not self._condition.wait_for(lambda: self._items, timeout if block else 0):
                raise queue.Empty
            return self._items.popleft()

    def get_nowait(self) -> object:
        return self.get(block=False)

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        self._condition._scheduler.pause()
        return not self._items


class _Pool:
    """`concurrent.futures.ThreadPoolExecutor`, of which only the end of a ``with`` block waits."""

    def __init__(self, scheduler: Scheduler, most: int = 1, prefix: str = "") -> None:
        self._scheduler, self._prefix = scheduler, prefix
        self._threads: list[_Thread] = []

    def submit(self, do: Callable[..., object], *args: object) -> None:
        self._threads.append(thread := _Thread(self._scheduler, do, f"{self._prefix}-{len(self._threads)}", args))
        thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for thread in self._threads:
            thread.join()


class Threads:
    """What stands in; see `standing_in`."""

    Empty = queue.Empty

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def Lock(self) -> _Lock:  # noqa: N802  # as the original
        """A `threading.Lock`."""
        return _Lock(self._scheduler)

    def RLock(self) -> _Lock:  # noqa: N802
        """A `threading.RLock`."""
        return _Lock(self._scheduler, again=True)

    def Condition(self, lock: _Lock | None = None) -> _Condition:  # noqa: N802
        """A `threading.Condition`."""
        return _Condition(self._scheduler, lock)

    def Event(self) -> _Event:  # noqa: N802
        """A `threading.Event`."""
        return _Event(self._scheduler)

    def Semaphore(self, value: int = 1) -> _Semaphore:  # noqa: N802
        """A `threading.Semaphore`."""
        return _Semaphore(self._scheduler, value)

    def Thread(  # noqa: N802
        self,
        target: Callable[..., object],
        name: str = "thread",
        args: Sequence[object] = (),
        daemon: bool = False,
    ) -> _Thread:
        """A `threading.Thread`."""
        return _Thread(self._scheduler, target, name, args, daemon=daemon)

    def ThreadPoolExecutor(self, max_workers: int = 1, thread_name_prefix: str = "") -> _Pool:  # noqa: N802
        """A `concurrent.futures.ThreadPoolExecutor`."""
        return _Pool(self._scheduler, max_workers, thread_name_prefix.removeprefix("stagedoor-"))

    def SimpleQueue(self) -> _Queue:  # noqa: N802
        """A `queue.SimpleQueue`."""
        return _Queue(self._scheduler)

    def local(self) -> _Local:
        """A `threading.local`."""
        return _Local(self._scheduler)

    def get_ident(self) -> int:
        """See `threading.get_ident`."""
        return self._scheduler.number

    def current_thread(self) -> object:
        """See `threading.current_thread`."""
        return self._scheduler.me()

    def monotonic(self) -> float:
        """See `time.monotonic`."""
        return self._scheduler.now


@contextmanager
def standing_in(where: Mapping[ModuleType, Mapping[str, object]]) -> Iterator[None]:
    """Put other things under names of modules for the length of a ``with`` block."""
    with ExitStack() as back:
        for module, names in where.items():
            for name, thing in names.items():
                back.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, thing)
        yield


# ── a pause between any two statements ────────────────────────────────────────────────────────────────────────

_PAUSE: Final = "_pause_between_statements"


class _Between(ast.NodeTransformer):
    """Puts a pause before each statement of each function."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if not isinstance(node, ast.Module | ast.ClassDef):
            for name in ("body", "orelse", "finalbody"):
                body = getattr(node, name, None)
                if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                    setattr(node, name, [line for statement in body for line in (self._pause(statement), statement)])
        return node

    def _pause(self, before: ast.stmt) -> ast.stmt:
        call = ast.Expr(ast.Call(ast.Name(_PAUSE, ast.Load()), [], []))
        return ast.fix_missing_locations(ast.copy_location(call, before))


def _codes(code: CodeType, prefix: str = "") -> Iterator[tuple[str, CodeType]]:
    """All functions in a piece of code by their qualified names and first lines."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield f"{constant.co_qualname}:{constant.co_firstlineno}", constant
            yield from _codes(constant)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """The functions of a module, and the methods of its classes."""
    for thing in vars(module).values():
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing):
            yield inspect.unwrap(thing)
        elif inspect.isclass(thing):
            for member in vars(thing).values():
                member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                if inspect.isfunction(member):
                    yield inspect.unwrap(member)


@contextmanager
def finely(modules: Sequence[ModuleType], pause: Callable[[], Any]) -> Iterator[int]:
    """Call ``pause`` before each statement of the functions of these modules, for the length of a ``with`` block.

    Yields:
        How many functions that are.
    """
    with ExitStack() as back:
        done = 0
        for module in modules:
            new = _instrumented(module)
            setattr(module, _PAUSE, pause)
            back.callback(delattr, module, _PAUSE)
            for function in _functions(module):
                code = new.get(f"{function.__code__.co_qualname}:{function.__code__.co_firstlineno}")
                if code is not None and code.co_freevars == function.__code__.co_freevars:
                    back.callback(setattr, function, "__code__", function.__code__)
                    function.__code__ = code
                    done += 1
        yield done


_known: dict[str, Mapping[str, CodeType]] = {}


def _instrumented(module: ModuleType) -> Mapping[str, CodeType]:
    """The code of a module's functions with pauses."""
    if module.__name__ not in _known:
        tree = _Between().visit(ast.parse(inspect.getsource(module)))
        _known[module.__name__] = dict(_codes(compile(tree, module.__file__ or "", "exec")))
    return _known[module.__name__]
