"""The campaigns of `proof` that search: for bad schedules, for bytes that break a parser, for code without a test."""

from __future__ import annotations

import importlib.util
import json
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final

from stagedoor.lifecycle import ROWS
from stagedoor.testing.fuzzing import TARGETS, Target
from stagedoor.testing.schedules import Found, plays

from .boxes import Box

_BATCH: Final = 50
_RUNS: Final = 5_000_000
"""Executions of a target; then the next one has its turn."""


# ── schedules ─────────────────────────────────────────────────────────────────────────────────────────────────


def _batch(first: int) -> Found:
    logging.disable(logging.CRITICAL)
    return plays(range(first, first + _BATCH))


def schedules(box: Box) -> Mapping[str, Any]:
    """Plays with new seeds, beginning somewhere else each time. The report has the seeds of those that went wrong."""
    first = time.time_ns() // 1_000_000_000 % 10_000_000 * 1_000
    found, jobs, next_seed = Found(), set[Future[Found]](), first
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        while box.left > 0 and len(found.wrong) < 20:
            while len(jobs) < 2 * (os.cpu_count() or 1):
                jobs.add(pool.submit(_batch, next_seed))
                next_seed += _BATCH
            done, jobs = wait(jobs, return_when=FIRST_COMPLETED)
            for job in done:
                found.add(job.result())
            last = found.wrong[-1].partition("\n")[0] if found.wrong else "nothing wrong"
            box.say(f"{found.seeds:,} seeds, {found.steps:,} pauses, {len(found.wrong)} wrong; {last}")
        for job in jobs:
            job.cancel()
    never = sorted({row.id for row in ROWS} - set(found.rows))
    return {
        "first": first,
        "seeds": found.seeds,
        "steps": found.steps,
        "rows": len(found.rows),
        "never": ", ".join(never),
        "wrong": found.wrong,
    }


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def fuzz(box: Box) -> Mapping[str, Any]:
    """Each target for its share of the time, one on each core."""
    if importlib.util.find_spec("atheris") is None:
        return {"skipped": "Atheris is not installed: pip install --group fuzz"}
    cores = os.cpu_count() or 1
    share = max(10, int(box.left * cores / len(TARGETS)) - 5)
    wrong: list[str] = []
    figures: dict[str, Any] = {}
    with ThreadPoolExecutor(cores) as pool:
        for target, runs, sentences in pool.map(lambda target: _fuzz(target, share), TARGETS):
            figures[target.name] = runs
            wrong += sentences
            box.say(", ".join(f"{name} {count:,}" for name, count in figures.items()))
    return {"share": share, **figures, "wrong": wrong}


def _fuzz(target: Target, seconds: int) -> tuple[Target, int, list[str]]:
    """One target in a process of its own; how often, and what it found."""
    home = Path(".cache/fuzz") / target.name
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), target.name]
    end, runs, wrong = time.monotonic() + seconds, 0, list[str]()
    while not wrong and runs < _RUNS and (left := int(end - time.monotonic())) > 0:
        before = set(_artifacts(home))
        box = ["--runs", str(_RUNS - runs), "--seconds", str(left)]
        done = subprocess.run([*command, *box], capture_output=True, text=True, errors="replace")
        found = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
        runs += int(found[1]) if found else 0
        new = [path for path in _artifacts(home) if path not in before]
        for path in new:
            again = [*command, "--show", str(path)]
            if (
                path.name.startswith(("timeout-", "slow-unit-"))
                and not subprocess.run(again, capture_output=True).returncode
            ):
                path.unlink()  # it takes no time: the machine had none
            else:
                show = f"python bench/fuzz.py {target.name} --show {path}"
                wrong.append(f"{target.name}: {_reason(done.stderr)}; {show}")
        if done.returncode and not new:
            wrong.append(f"{target.name}: it ended with {done.returncode}: {_reason(done.stderr)}")
    return target, runs, wrong


def _artifacts(home: Path) -> Iterator[Path]:
    for kind in ("crash", "timeout", "oom", "leak", "slow-unit"):
        yield from home.glob(f"{kind}-*")


def _reason(said: str) -> str:
    """The exception, or what the fuzzer says."""
    lines = said.splitlines()
    for number, line in enumerate(lines):
        if "Uncaught Python exception" in line:
            return lines[min(number + 1, len(lines) - 1)].strip()[:300]
    return next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "nothing was said")[:300]


# ── faults in our own code ────────────────────────────────────────────────────────────────────────────────────


def mutation(box: Box) -> Mapping[str, Any]:
    """Faults planted into the life cycle, the engine and the local adapters: which of them no test notices."""
    if importlib.util.find_spec("mutmut") is None or importlib.util.find_spec("coverage") is None:
        return {"skipped": "mutmut and coverage are not installed: pip install --group mutation"}
    if os.geteuid() == 0:
        return {"skipped": "faults may delete what they should not: run bench/mutation.py in a container"}
    seed = time.time_ns() % 1_000_000
    command = [sys.executable, str(Path(__file__).with_name("mutation.py")), "--seed", str(seed)]
    with subprocess.Popen(
        [*command, "--minutes", f"{box.left / 60:.2f}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        last = ""
        for line in running.stderr:
            last = line.strip()
            box.say(last)
        said = running.stdout.read()
    if running.returncode:
        return {"seed": seed, "wrong": [f"it ended with {running.returncode}: {last}"]}
    return dict(json.loads(said))
