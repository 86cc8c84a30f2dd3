"""The campaigns that show the promises of docs/durability.md the hard way, each within its box of time.

``make proof`` runs all of them, in this order, and writes what each did and found into ``.cache/proof/report.json``, so
that two runs can be compared. ``python bench/proof.py power kills`` runs some; ``--minutes 5`` makes the boxes smaller.
A campaign that cannot run here says why, and counts as not done.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import frozen

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.boxes import Box
from bench.proofs_crash import faults, full, kills, shutdown
from bench.proofs_search import fuzz, mutation, schedules
from bench.soak import soak
from stagedoor.testing.power import LIVES, Campaign, Depth, Found

REPORT: Final = Path(".cache/proof/report.json")
MINUTE: Final = 60.0
_PARTS: Final = 16
"""Of a life, in the campaign of power cuts: a box is left at the end of one."""


@frozen
class Proof:
    """A campaign.

    Attributes:
        name: On the command line and in the report.
        what: In a sentence.
        minutes: Its box.
        run: Returns its figures; ``wrong`` lists what it found.
    """

    name: str
    what: str
    minutes: float
    run: Callable[[Box], Mapping[str, Any]]


# ── power cuts on a simulated disk ────────────────────────────────────────────────────────────────────────────


def _cut_life(name: str, part: int, parts: int, seed: int) -> Found:
    """Some of the cuts of a life, in a process of its own."""
    logging.disable(logging.CRITICAL)
    life = next(life for life in LIVES if life.name == name)
    one = Campaign(life, Depth(exhaustive=9, samples=48, seed=seed))
    return one.run(one.cuts()[part::parts])


def power(box: Box) -> Mapping[str, Any]:
    """Every file call of every life, in small parts; again with other survivors by chance while there is time."""
    found, done, seed = Found(), 0, 0
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        while box.left > 0 and not found.wrong:
            jobs = [pool.submit(_cut_life, life.name, part, _PARTS, seed) for part in range(_PARTS) for life in LIVES]
            for job in jobs:
                if box.left < 0:
                    job.cancel()
                    continue
                found.add(job.result())
                done += 1
                box.say(f"{done} of {_PARTS * len(LIVES)} parts: {found.states:,} states, {len(found.wrong)} wrong")
            seed += 1
    return {"lives": len(LIVES), "rounds": round(done / _PARTS / len(LIVES), 2), **attrs.asdict(found)}


PROOFS: Final[Sequence[Proof]] = (
    Proof("power", "power cuts at every file call of whole lives, on a simulated disk", 20, power),
    Proof(
        "shutdown", "an ext4 file system that the kernel shuts down under clients, and what is left of it", 10, shutdown
    ),
    Proof("faults", "each system call that has to do with files, failing once and for good", 30, faults),
    Proof("full", "too little room for bytes, for files, and for the length of a file", 5, full),
    Proof("kills", "the server, killed under its clients", 15, kills),
    Proof("schedules", "clients, workers and timers, in orders that seeds decide", 30, schedules),
    Proof("soak", "a hundred clients behind a bad line", 15, soak),
    Proof("fuzz", "whatever parses what strangers send, under Atheris", 80, fuzz),
    Proof("mutation", "faults planted into the code, which a test has to notice", 60, mutation),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run campaigns; 0 when none found anything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *(proof.name for proof in PROOFS)], metavar="NAME")
    parser.add_argument("--minutes", type=float, help="for each, instead of its own box")
    parser.add_argument("--report", type=Path, default=REPORT)
    options = parser.parse_args(argv)
    document: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "campaigns": {},
    }
    if options.names and options.report.exists():  # the others stay as they were
        document["campaigns"] = json.loads(options.report.read_bytes())["campaigns"]
    wrong = 0
    for proof in PROOFS:
        if options.names and proof.name not in options.names:
            continue
        print(f"── {proof.name}: {proof.what}", flush=True)
        began = time.monotonic()
        minutes = options.minutes or proof.minutes
        said = dict(proof.run(Box(minutes * MINUTE, began, _progress())))
        said["seconds"] = round(time.monotonic() - began, 1)
        document["campaigns"][proof.name] = said
        wrong += len(said.get("wrong", ()))
        for name, value in said.items():
            if name != "wrong":
                print(f"   {name:<12} {value:,}" if isinstance(value, int | float) else f"   {name:<12} {value}")
        for sentence in said.get("wrong", ()):
            print(f" ✗ {sentence}")
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"The report is in {options.report}.")
    return 1 if wrong else 0


def _progress() -> Callable[[str], None]:
    """A line a while; on a terminal always the same one."""
    last = 0.0

    def say(line: str) -> None:
        nonlocal last
        if sys.stderr.isatty():
            print(f"\r   {line}\033[K", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - last > 15:
            last = time.monotonic()
            print(f"   {line}", file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
