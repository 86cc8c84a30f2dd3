"""Mutation: small faults are planted into the code, one at a time, and a test has to notice each.

``python bench/mutation.py --minutes 60`` is what `bench/proof.py` runs. A fault is tried in a forked process, in which
everything is imported and all tests are collected: the code of one function is exchanged for that of the mutant, and
the tests run that reach its lines, which coverage.py has told before, the shortest first, until one fails. Faults
outside of functions, and in what runs while the package is imported, need an import of their own.

The life cycle is tried first, and as a whole if the box holds it. Of the other files, as many mutants as the box
holds, in an order that the seed decides. What survives is in ``.cache/mutation/survivors.txt``;
``bench/equivalent.toml`` has those that were read and change nothing that anybody could see, each with the reason.

Code that is wrong on purpose may delete what it should not. Each child works in a directory of its own, but only a
container, or a mount namespace in which all else is read-only, makes sure.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import logging
import multiprocessing
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import attrs
import pytest
from attrs import define, frozen
from coverage import Coverage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.mutants import Mutant, mutants

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src"
CACHE: Final = ROOT / ".cache" / "mutation"
TABLE: Final = "stagedoor/lifecycle.py"
FILES: Final[Mapping[str, Sequence[str]]] = {
    TABLE: ("tests/test_lifecycle.py", "tests/test_session.py",
            "tests/test_docs.py::test_the_life_cycle_has_all_its_rows_and_states", "tests/test_explain.py",
            "tests/test_engine.py", "tests/test_verify.py"),
    "stagedoor/engine.py": ("tests/test_engine.py", "tests/test_questions.py", "tests/test_inflow.py"),
    "stagedoor/session.py": ("tests/test_session.py", "tests/test_engine.py", "tests/test_questions.py",
                             "tests/test_replacement.py"),
    "stagedoor/adapters/local.py": ("tests/adapters/test_local.py", "tests/test_engine.py"),
    "stagedoor/adapters/disk.py": ("tests/adapters/test_disk.py", "tests/adapters/test_local.py"),
}  # fmt: skip
"""What is mutated, and its own tests. Faults that need an import of their own have to be noticed by these."""

TESTS: Final = (
    "tests/test_lifecycle.py", "tests/test_session.py", "tests/test_tasks.py", "tests/test_names.py",
    "tests/test_engine.py", "tests/test_inflow.py", "tests/test_questions.py", "tests/test_replacement.py",
    "tests/test_worker.py", "tests/test_aio.py", "tests/test_faults.py", "tests/test_regressions.py",
    "tests/test_model_finds.py", "tests/test_hostile.py", "tests/test_musicdb.py", "tests/test_albums.py",
    "tests/test_explain.py", "tests/test_verify.py", "tests/test_stress.py", "tests/test_schedules.py",
    "tests/test_model.py", "tests/test_power.py", "tests/adapters", "tests/library",
)  # fmt: skip
"""Those that look at engine, session and adapters. The server's and the page's have other things to look at."""

OF_TESTS: Final = ("left_out_is_noticed", "planted_fault_is_found")
"""Names of tests that look at other tests: they take minutes, and say nothing of the code."""

WORST: Final = 0.90
"""The share that has to be killed of a file other than the life cycle, once so many were tried:"""
MANY: Final = 50
PATIENCE: Final = 15.0
"""Seconds before a test counts as hanging, besides twenty times what it took before."""
ENOUGH: Final = 8.0
"""Seconds of tests, as they took before, that a mutant of a function has to survive, besides those of its file."""
LONGEST: Final = 5.0
"""A test that takes more seconds is left out."""
SHORT: Final = 0.1
"""Tests that take less are run once in such a process without a mutant, to see that it changes nothing by itself."""
_SAME: Final = 3
_TICK: Final = 0.05
_MEMORY: Final = 6 << 30


@frozen
class Test:
    """A test that passes without a mutant, and how long it takes in seconds."""

    id: str
    seconds: float


@frozen
class Baseline:
    """What tests do when nothing is wrong.

    Attributes:
        tests: All that may be used.
        lines: By file and line, the numbers of the tests that come by.
        imported: By file, the lines that run when the package is imported.
    """

    tests: Sequence[Test]
    lines: Mapping[str, Mapping[int, Sequence[int]]]
    imported: Mapping[str, frozenset[int]]

    def reaching(self, mutant: Mutant) -> list[int]:
        """The tests that run a mutant's statement, the shortest first."""
        by_line, (first, last) = self.lines.get(mutant.file, {}), mutant.lines
        found = {test for line in range(first, last + 1) for test in by_line.get(line, ())}
        return sorted(found, key=lambda number: self.tests[number].seconds)


@define
class Tried:
    """What became of a mutant.

    Attributes:
        how: ``killed``, ``hung`` (killed as well), ``survived``, ``unreached`` (no test comes by), ``same`` (the
            compiler makes the same of it, or the table has the same rows), ``broken`` (it cannot be compiled).
        by: The test that noticed.
        tests: How many ran.
    """

    mutant: Mutant
    how: str
    by: str = ""
    tests: int = 0


# ── what tests do when nothing is wrong ───────────────────────────────────────────────────────────────────────


class _Watch:
    """A plugin: which test runs which lines, how long it takes, and whether it passes."""

    def __init__(self, coverage: Coverage) -> None:
        self.coverage = coverage
        self.took: dict[str, float] = defaultdict(float)
        self.wrong: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not any(word in item.nodeid for word in OF_TESTS)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.coverage.switch_context("nobody")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.nodeid] += report.duration
        if report.outcome != "passed":
            self.wrong.add(report.nodeid)


def _observe(tests: str, found: Path) -> None:
    """Run a file of tests once, and write down what it reaches; in a process of its own."""
    coverage = Coverage(data_file=None, include=[str(SOURCE / file) for file in FILES], config_file=False)
    coverage.set_option("run:concurrency", ["thread", "greenlet"])
    coverage.start()
    coverage.switch_context("nobody")
    watch = _Watch(coverage)
    _pytest([tests], watch)
    coverage.stop()
    data = coverage.get_data()
    lines = {file: data.contexts_by_lineno(str(SOURCE / file)) for file in FILES}
    good = {name for name in watch.took if name not in watch.wrong}
    observed = {
        "tests": {name: round(watch.took[name], 4) for name in sorted(good)},
        "wrong": len(watch.wrong),
        "lines": {
            file: {line: sorted(good.intersection(names)) for line, names in by_line.items()}
            for file, by_line in lines.items()
        },
    }
    found.write_text(json.dumps(observed), encoding="utf-8")


def baseline(jobs: int, say: Callable[[str], None]) -> Baseline:
    """What is known of each file of tests, if neither it nor the sources have changed since; else it is run."""
    common = hashlib.sha256()
    for path in sorted([*SOURCE.rglob("*.py"), ROOT / "tests" / "conftest.py"]):
        common.update(path.read_bytes())
    tests = sorted(path for one in TESTS for path in [ROOT / one, *(ROOT / one).rglob("test_*.py")] if path.is_file())
    pieces: list[Path] = []
    running: list[Any] = []
    for path in tests:
        digest = hashlib.sha256(common.digest() + path.read_bytes()).hexdigest()[:16]
        pieces.append(CACHE / f"{path.stem}-{digest}.json")
        if pieces[-1].exists():
            continue
        say(f"without a mutant: {path.relative_to(ROOT)}")
        arguments = (_observe, str(path.relative_to(ROOT)), pieces[-1])
        running.append(multiprocessing.get_context("fork").Process(target=_quiet, args=arguments))
        running[-1].start()
        if len(running) >= jobs:
            running.pop(0).join()
    for process in running:
        process.join()
    found: list[Test] = []
    lines: dict[str, dict[int, list[int]]] = {file: defaultdict(list) for file in FILES}
    left_out = 0
    for piece in pieces:
        said = json.loads(piece.read_bytes())
        left_out += said["wrong"]
        numbers = {name: len(found) + number for number, name in enumerate(said["tests"])}
        found += [Test(name, seconds) for name, seconds in said["tests"].items()]
        for file in FILES:
            for line, names in said["lines"][file].items():
                lines[file][int(line)] += [numbers[name] for name in names]
    if left_out:
        say(f"{left_out} tests are skipped or fail without a mutant, and are left out")
    out, into = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_quiet, args=(_import, into))
    process.start()
    imported = out.recv()
    process.join()
    return Baseline(found, lines, imported)


def _import(into: Connection) -> None:
    coverage = Coverage(data_file=None, include=[str(SOURCE / file) for file in FILES], config_file=False)
    with coverage.collect():
        for file in FILES:
            importlib.import_module(_module(file))
    data = coverage.get_data()
    into.send({file: frozenset(data.lines(str(SOURCE / file)) or ()) for file in FILES})


def _module(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


def _pytest(paths: Iterable[str], plugin: object) -> None:
    arguments = [
        "-o",
        "addopts=",
        "-p",
        "no:terminal",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:schemathesis",
    ]
    arguments += ["--import-mode=importlib", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    arguments += ["-p", "no:faulthandler", "--hypothesis-seed=1"]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # a plugin that was loaded before the fork
    pytest.main([*arguments, *(str(ROOT / path) for path in paths)], plugins=[plugin])


def _quiet(function: Callable[..., None], *arguments: object) -> None:
    """In a process that was forked: what it prints is nobody's business, and it works in a directory of its own."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    with tempfile.TemporaryDirectory(prefix="stagedoor-mutation-") as scratch:
        _settle_in(scratch)
        function(*arguments)


def _settle_in(scratch: str) -> None:
    os.environ["PYTEST_DEBUG_TEMPROOT"] = os.environ["TMPDIR"] = tempfile.tempdir = scratch
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = os.path.join(scratch, "hypothesis")
    os.chdir(scratch)


# ── one mutant ────────────────────────────────────────────────────────────────────────────────────────────────


class _First:
    """A plugin for a child: tells which test is about to run, and ends the process with the first that fails."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        os.write(self._pipe, nodeid.encode()[:900] + b"\n")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os._exit(1)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            os.write(self._pipe, b"import\n")
            os._exit(1)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not any(word in item.nodeid for word in OF_TESTS)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


def _functions() -> Mapping[tuple[str, int], list[FunctionType]]:
    """Everything that is loaded of the files, by path and first line."""
    found: dict[tuple[str, int], list[FunctionType]] = defaultdict(list)
    paths = {str(SOURCE / file) for file in FILES}
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename in paths:
            found[one.__code__.co_filename, one.__code__.co_firstlineno].append(one)
    return found


def _same(one: CodeType, other: CodeType) -> bool:
    """Whether two pieces of code are the same but for places in the text."""
    if one.co_code != other.co_code or len(one.co_consts) != len(other.co_consts):
        return False
    if (one.co_names, one.co_varnames, one.co_exceptiontable) != (
        other.co_names,
        other.co_varnames,
        other.co_exceptiontable,
    ):
        return False
    for mine, yours in zip(one.co_consts, other.co_consts, strict=True):
        if isinstance(mine, CodeType) and isinstance(yours, CodeType):
            if not _same(mine, yours):
                return False
        elif type(mine) is not type(yours) or repr(mine) != repr(yours):
            return False
    return True


def _limit() -> None:
    """What a mutant in a loop without an end may take."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MEMORY, _MEMORY))


def _trial(mutant: Mutant, play: Callable[[int], None], patience: Callable[[str], float]) -> Tried:
    """Fork, let the child play, and see how it ends. Time is counted in ticks, so that whoever is stopped meanwhile
    (``SIGSTOP``) loses nothing."""
    scratch = tempfile.mkdtemp()
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(out)
            _limit()
            _settle_in(scratch)
            play(into)
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a mutant may raise whatever it likes
            os._exit(1)
    os.close(into)
    last, ran, rest, waited, hung = "", 0, b"", 0.0, False
    while True:
        if not select.select([out], [], [], _TICK)[0]:
            waited += _TICK
            if waited > patience(last):
                hung = True
                break
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break  # a process that it started still has the pipe
            continue
        data = os.read(out, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            last, waited = lines[-1].decode(errors="replace"), 0.0
            ran += len(lines)
    os.close(out)
    try:
        os.killpg(child, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        if hung:
            os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shutil.rmtree(scratch, ignore_errors=True)
    if hung:
        return Tried(mutant, "hung", last, ran)
    if status == _SAME:
        return Tried(mutant, "same")
    return Tried(mutant, "survived" if status == 0 else "killed", last if status else "", ran)


# ── mutants of functions: everything is loaded, one function is exchanged ─────────────────────────────────────


class _Exchange:
    """A plugin: instead of the tests themselves, it runs those of each mutant in a child."""

    def __init__(self, todo: Connection, base: Baseline) -> None:
        self._todo, self._base = todo, base
        self._noticed: dict[tuple[str, str], deque[int]] = defaultdict(lambda: deque(maxlen=6))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        numbers = {test.id: number for number, test in enumerate(self._base.tests)}
        functions = _functions()
        gc.collect()
        gc.freeze()
        texts = {file: (SOURCE / file).read_text(encoding="utf-8") for file in FILES}
        originals = {
            file: _by_line(compile(text, str(SOURCE / file), "exec", dont_inherit=True)) for file, text in texts.items()
        }

        def patience(last: str) -> float:
            known = numbers.get(last)
            return PATIENCE + (0 if known is None else 20 * self._base.tests[known].seconds)

        def run(pipe: int, chosen: Sequence[int]) -> None:
            session.config.pluginmanager.register(_First(pipe))
            some = [items[self._base.tests[number].id] for number in chosen]
            for item, following in zip(some, [*some[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

        def one(mutant: Mutant) -> Tried:
            path = str(SOURCE / mutant.file)
            try:
                code = _by_line(compile(mutant.apply(texts[mutant.file]), path, "exec", dont_inherit=True))[
                    mutant.function
                ]
            except SyntaxError:
                return Tried(mutant, "broken")
            if _same(code, originals[mutant.file][mutant.function]):
                return Tried(mutant, "same")
            if not (chosen := self._choose(mutant)):
                return Tried(mutant, "unreached")

            def play(pipe: int) -> None:
                for function in functions[path, mutant.function]:
                    function.__code__ = code
                run(pipe, chosen)

            tried = _trial(mutant, play, patience)
            if tried.by in numbers:
                noticed, number = self._noticed[mutant.file, mutant.where], numbers[tried.by]
                if number in noticed:
                    noticed.remove(number)
                noticed.appendleft(number)
            return tried

        mutant = self._todo.recv()
        if mutant is not None:
            short = [number for number, test in enumerate(self._base.tests) if test.seconds < SHORT]
            control = _trial(mutant, lambda pipe: run(pipe, short), patience)
            if control.how != "survived" or control.tests < len(short):
                self._todo.send(RuntimeError(f"Without a mutant {control.by or 'the first test'} is {control.how}."))
                return True
        while mutant is not None:
            self._todo.send(one(mutant))
            mutant = self._todo.recv()
        return True

    def _choose(self, mutant: Mutant) -> list[int]:
        """The tests that noticed other mutants of the function, those of the file, and enough others."""
        tests = self._base.tests
        reaching = [n for n in self._base.reaching(mutant) if tests[n].seconds <= LONGEST]
        known = set(reaching)
        first = [number for number in self._noticed[mutant.file, mutant.where] if number in known]
        own = [number for number in reaching if tests[number].id.startswith(tuple(FILES[mutant.file]))]
        others, seconds, left_out = list[int](), 0.0, {*first, *own}
        for number in reaching:
            if number not in left_out and (seconds := seconds + tests[number].seconds) <= ENOUGH:
                others.append(number)
        return [*first, *(number for number in own if number not in first), *others]


def _by_line(code: CodeType) -> dict[int, CodeType]:
    """The outermost functions of a module and its classes, by their first line."""
    found: dict[int, CodeType] = {}
    for one in reversed(list(_codes(code))):
        if one.co_flags & 0x2 and "<locals>" not in one.co_qualname and one.co_name[0] != "<":  # CO_NEWLOCALS
            found[one.co_firstlineno] = one
    return found


def _serve_functions(todo: Connection, base: Baseline) -> None:
    logging.disable(logging.NOTSET)
    _pytest(TESTS, _Exchange(todo, base))
    todo.close()


# ── mutants of what runs at the import ────────────────────────────────────────────────────────────────────────


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from another text."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        self._name, self._path, self._code = name, path, code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def _table(code: CodeType) -> str:
    """The rows that the life cycle would have."""
    module: dict[str, Any] = {"__name__": "stagedoor.lifecycle", "__package__": "stagedoor"}
    exec(code, module)
    return repr(module["ROWS"])


def _serve_imports(todo: Connection) -> None:
    """Everything that is not ours is loaded; each child imports the package for itself."""
    for name in _not_ours():
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001  # whoever needs it says so
            continue
    gc.freeze()
    texts = {file: (SOURCE / file).read_text(encoding="utf-8") for file in FILES}
    originals = {file: compile(text, str(SOURCE / file), "exec") for file, text in texts.items()}

    def player(file: str, code: CodeType, where: str = "") -> Callable[[int], None]:
        def play(pipe: int) -> None:
            sys.path.insert(0, str(SOURCE))
            sys.meta_path.insert(0, _Instead(_module(file), str(SOURCE / file), code))
            if where == "_rows" and _table(code) == _table(originals[file]):
                os._exit(_SAME)  # an argument left out that was the default
            for stage in FILES[file]:
                _pytest([stage], _First(pipe))

        return play

    controlled: set[str] = set()
    while (mutant := todo.recv()) is not None:
        path = str(SOURCE / mutant.file)
        if mutant.file not in controlled:
            controlled.add(mutant.file)
            control = _trial(mutant, player(mutant.file, originals[mutant.file]), lambda last: 4 * PATIENCE)
            if control.how != "survived" or not control.tests:
                todo.send(RuntimeError(f"Without a mutant {control.by or 'the import'} is {control.how}."))
                return
        try:
            code = compile(mutant.apply(texts[mutant.file]), path, "exec", dont_inherit=True)
        except SyntaxError:
            todo.send(Tried(mutant, "broken"))
            continue
        if _same(code, originals[mutant.file]):
            todo.send(Tried(mutant, "same"))
            continue

        todo.send(_trial(mutant, player(mutant.file, code, mutant.where), lambda last: 2 * PATIENCE))
    todo.close()


@cache
def _not_ours() -> Sequence[str]:
    """What the tests import besides this project."""
    out, into = multiprocessing.Pipe(duplex=False)

    class Collected:
        def pytest_collection_finish(self) -> None:
            ours = ("stagedoor", "tests", "conftest", "bench", "__")
            into.send([name for name in sys.modules if not name.startswith(ours)])

    process = multiprocessing.get_context("fork").Process(target=_quiet, args=(_pytest, TESTS[:6], Collected()))
    process.start()
    into.close()
    found = out.recv()
    process.join()
    return [str(name) for name in found]


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────


@define
class Count:
    """The figures of a file.

    Attributes:
        mutants: How many there are.
        tried: How many were tried, those left out that the compiler knows to be the same, or not to be Python.
        killed: How many a test noticed, those that hung included.
        equivalent: Survivors that stand in ``bench/equivalent.toml``.
    """

    mutants: int = 0
    tried: int = 0
    killed: int = 0
    hung: int = 0
    unreached: int = 0
    equivalent: int = 0

    @property
    def share(self) -> float:
        """Killed, of those that could be."""
        return self.killed / max(1, self.tried - self.equivalent)


def plan(base: Baseline, seed: int, only: Callable[[Mutant], bool]) -> tuple[list[Mutant], list[Mutant], Counter[str]]:
    """Those that need an import, those of functions, and how many each file has; the table's first."""
    todo: list[Mutant] = []
    number: Counter[str] = Counter()
    chance = random.Random(seed)
    for file in FILES:
        text = (SOURCE / file).read_text(encoding="utf-8")
        found = [one for one in mutants(file, text) if only(one)]
        number[file] = len(found)
        todo += found
    chance.shuffle(todo)
    todo.sort(key=lambda mutant: mutant.file != TABLE)
    early: list[Mutant] = []
    late: list[Mutant] = []
    for mutant in todo:
        first, last = mutant.lines
        imported = base.imported[mutant.file].intersection(range(first, last + 1))
        (early if not mutant.function or imported else late).append(mutant)
    return early, late, number


def run(
    minutes: float, seed: int, jobs: int, only: Callable[[Mutant], bool], say: Callable[[str], None]
) -> Mapping[str, Any]:
    """Try what the box holds; the figures, and what is wrong."""
    began = time.monotonic()
    CACHE.mkdir(parents=True, exist_ok=True)
    base = baseline(jobs, say)
    early, late, number = plan(base, seed, only)
    say(f"{len(early):,} mutants of what is imported, {len(late):,} of functions, {len(base.tests):,} tests")
    counts = {file: Count(number[file]) for file in FILES}
    known = _equivalent()
    survivors: list[Tried] = []

    log = (CACHE / "tried.txt").open("w", encoding="utf-8", buffering=1)

    def take(tried: Tried) -> None:
        log.write(f"{time.monotonic() - began:7.1f} {_line(tried)}\n")
        count = counts[tried.mutant.file]
        if tried.how in ("same", "broken"):
            count.mutants -= 1
            return
        count.tried += 1
        count.killed += tried.how in ("killed", "hung")
        count.hung += tried.how == "hung"
        count.unreached += tried.how == "unreached"
        if tried.how in ("survived", "unreached"):
            if tried.mutant.name in known:
                count.equivalent += 1
            else:
                survivors.append(tried)
        say(", ".join(f"{Path(f).stem} {c.killed:,}/{c.tried:,} of {c.mutants:,}" for f, c in counts.items()))

    def left() -> bool:
        return time.monotonic() - began < minutes * 60

    _not_ours()
    table = [mutant for mutant in late if mutant.file == TABLE]
    others = [mutant for mutant in early if mutant.file != TABLE]
    rest = [mutant for mutant in late if mutant.file != TABLE]
    share = len(others) / max(1, len(others) + len(rest))
    _spread(_serve_imports, (), [m for m in early if m.file == TABLE], jobs, left, take)
    _spread(_serve_functions, (base,), table, jobs, left, take)
    until = time.monotonic() + share * max(0.0, minutes * 60 - (time.monotonic() - began))
    _spread(_serve_imports, (), others, jobs, lambda: time.monotonic() < until, take)
    _spread(_serve_functions, (base,), rest, jobs, left, take)
    _write(survivors)
    wrong = [f"{one.mutant.name} ({one.how})" for one in survivors if one.mutant.file == TABLE]
    wrong += [
        f"{file}: {count.share:.1%} of {count.tried:,} killed"
        for file, count in counts.items()
        if file != TABLE and count.tried >= MANY and count.share < WORST
    ]
    figures = {
        Path(file).stem: {**attrs.asdict(count), "share": round(count.share, 4)} for file, count in counts.items()
    }
    return {"seed": seed, "tests": len(base.tests), **figures, "wrong": wrong}


def _spread(
    serve: Callable[..., None],
    arguments: Sequence[object],
    todo: Sequence[Mutant],
    jobs: int,
    left: Callable[[], bool],
    take: Callable[[Tried], None],
) -> None:
    """Give mutants to processes, one at a time each."""
    if not todo:
        return
    context, waiting = multiprocessing.get_context("fork"), deque(todo)
    pipes: dict[Connection, Any] = {}
    for _ in range(min(jobs, len(todo))):
        mine, theirs = context.Pipe()
        process = context.Process(target=_quiet, args=(serve, theirs, *arguments), daemon=True)
        process.start()
        theirs.close()
        pipes[mine] = process
        mine.send(waiting.popleft())
    while pipes:
        for pipe in wait(list(pipes)):
            assert isinstance(pipe, Connection)
            if isinstance(tried := pipe.recv(), Exception):
                raise tried
            take(tried)
            if waiting and left():
                pipe.send(waiting.popleft())
            else:
                pipe.send(None)
                pipes.pop(pipe).join()


def _only(options: argparse.Namespace) -> Callable[[Mutant], bool]:
    again = set(options.again.read_text(encoding="utf-8").splitlines()) if options.again else None
    pattern = re.compile(options.only)
    return lambda mutant: bool(pattern.search(mutant.name)) and (again is None or mutant.name in again)


def _equivalent() -> frozenset[str]:
    path = Path(__file__).with_name("equivalent.toml")
    found = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return frozenset(name for kind in found.get("kind", ()) for name in kind["mutants"])


def _line(one: Tried) -> str:
    by = f", {one.by}" if one.by else ""
    return f"{one.mutant.file}:{one.mutant.start[0]} {one.how}: {one.mutant.name} [{one.tests} tests{by}]"


def _write(survivors: Sequence[Tried]) -> None:
    lines = [one.mutant.name for one in sorted(survivors, key=lambda one: (one.mutant.file, one.mutant.start))]
    (CACHE / "survivors.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Try mutants; prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="a pattern: those whose name has it, as survivors.txt writes it")
    parser.add_argument("--again", type=Path, help="a file with names, one a line: only these")
    options = parser.parse_args(argv)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    print(json.dumps(run(options.minutes, options.seed, options.jobs, _only(options), say)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
