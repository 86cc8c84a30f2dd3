"""The campaigns of `proof` that crash what is real: file systems, system calls, disks without room, the server."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from stagedoor.testing.crashes import Theatre
from stagedoor.testing.kernel import Ext4Image, Injection, SmallDisk
from stagedoor.testing.kills import CLIENTS, kill_server
from stagedoor.testing.trials import Faults, Full, Shutdowns, Tally

from .boxes import Box


def _figures(found: Tally, **more: object) -> Mapping[str, Any]:
    return {**more, **attrs.asdict(found)}


def shutdown(box: Box) -> Mapping[str, Any]:
    """An ext4 file system that the kernel shuts down under three clients, mounted again, and again."""
    if (reason := Ext4Image.missing()) is not None:
        return {"skipped": reason}
    seed = time.time_ns() % 1_000_000
    with Theatre() as theatre, Shutdowns(theatre, seed) as trials:
        while box.left > 0:
            trials.one()
            box.say(f"{trials.found.trials:,} crashes, {trials.found.told:,} told, {len(trials.found.wrong)} wrong")
        return _figures(trials.found, seed=seed)


def faults(box: Box) -> Mapping[str, Any]:
    """Every system call that has to do with files, failing once and for good; in an order by chance."""
    if (reason := Injection.missing()) is not None:
        return {"skipped": reason}
    seed = time.time_ns() % 1_000_000
    with Theatre() as theatre:
        trials = Faults(theatre)
        todo = list(trials.all())
        random.Random(seed).shuffle(todo)
        for injection in todo:
            if box.left < 0:
                break
            trials.one(injection)
            box.say(f"{trials.found.trials:,} of {len(todo):,}: {injection}, {len(trials.found.wrong)} wrong")
        return _figures(trials.found, seed=seed, possible=len(todo), calls=dict(trials.counts))


def full(box: Box) -> Mapping[str, Any]:
    """Too little room: bytes, files, the length of a file; from none to enough, in ever finer steps."""
    if (reason := SmallDisk.missing()) is not None:
        return {"skipped": reason}
    with Theatre() as theatre:
        trials = Full(theatre)
        for step in (16, 8, 4, 1):
            for pages in range(0, 64, step):
                if box.left < 0:
                    break
                trials.room(pages << 12, files=False)
                trials.room(pages, files=True)
                trials.length(1 + (pages << 8))
                box.say(f"{trials.found.trials:,} disks, {len(trials.found.wrong)} wrong")
        return _figures(trials.found)


def kills(box: Box) -> Mapping[str, Any]:
    """The server, killed under its clients in rounds of 50."""
    done, uploads, seed = 0, 0, time.time_ns() % 1_000_000
    wrong: list[str] = []
    while box.left > 0 and not wrong:
        with tempfile.TemporaryDirectory() as home:
            try:
                uploads += kill_server(Path(home), 50, seed=seed + done)
            except AssertionError as error:
                wrong.append(f"round with seed {seed + done}: {error}")
        done += 50
        box.say(f"{done:,} kills, {uploads:,} uploads, {len(wrong)} wrong")
    return {"kills": done, "clients": CLIENTS, "uploads": uploads, "seed": seed, "wrong": wrong}
