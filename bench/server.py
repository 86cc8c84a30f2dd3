"""The server against bars 1 to 8, and against servers that others wrote.

    make bench-server                                 everything: ten minutes
    python bench/server.py --only 1,3 --rounds 5      some bars
    python bench/server.py --peers tuspyserver        some of the others; --peers '' none
    python bench/server.py --json .cache/bench/a.json the rows, for machines

Targets take turns, load by load and round by round, so that whatever else the machine does disturbs all alike; medians
are told. What is wanted and cannot be had is named and left out. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.loads import files, machine, ours
from bench.loads.files import Row
from bench.loads.machine import MIB
from bench.loads.targets import CACHE, PEERS, TARGETS
from bench.loads.wires import content

SIZES = {
    "4 MiB": {"files": 1, "size": 256 * MIB, "chunk": 4 * MIB, "clients": 1},
    "256 KiB": {"files": 1, "size": 128 * MIB, "chunk": MIB // 4, "clients": 1},
    "200 x 1 MiB": {"files": 200, "size": MIB, "chunk": MIB, "clients": 4},
    "2000 x 4 KiB": {"files": 2000, "size": 4096, "chunk": 4096, "clients": 8},
}
OF_BAR = {"1": ("4 MiB",), "2": ("4 MiB", "256 KiB"), "3": ("200 x 1 MiB", "2000 x 4 KiB")}
PYTHON = ("tuspyserver", "asgi-tus", "copyparty")
"""The last one has blocks of its own, never below 1 MiB: with smaller chunks it cannot be compared."""
OURS: Mapping[str, Mapping[str, Callable[[Path], Row]]] = {
    "4": {"power": ours.power},
    "5": {"binary": ours.binary, "musicdb": ours.musicdb},
    "6": {
        "beside a big one": ours.mixed,
        "beside slow ones": ours.slow,
        "100 listeners": lambda store: ours.notices(store, count=100, uploads=50, size=4096, chunk=4096, at_once=1),
        "500 listeners": lambda store: ours.notices(store, count=500, uploads=50, size=MIB, chunk=MIB // 4, at_once=2),
        "500 listeners, 50 at once": lambda store: ours.notices(
            store, count=500, uploads=150, size=MIB, chunk=MIB // 64, at_once=50
        ),
        "500 listeners, 50 end": lambda store: ours.notices(
            store, count=500, uploads=50, size=MIB, chunk=MIB // 4, at_once=50, together=True
        ),
    },
    "7": {"100,000 stored": ours.grow},
    "8": {"memory": ours.peak},
}

Results = dict[tuple[str, str], list[Row]]
_numbers = itertools.count()


def store() -> Path:
    """A new directory. Small files stay there until somebody deletes it: to delete many makes ext4 slow for minutes."""
    return CACHE / "stores" / f"{os.getpid()}-{next(_numbers)}"


def note(results: Results, what: str, target: str, row: Row) -> None:
    results[what, target].append(row)
    told = ", ".join(f"{name} {value:,.4g}" for name, value in row.items() if isinstance(value, float | int))
    print(f"  {what:<26} {target:<14} {told}", flush=True)


def measure(only: set[str], peers: list[str], rounds: int) -> Results:
    results: Results = defaultdict(list)
    names = ["stagedoor", "unmanaged", "at-once", "sink", *peers]
    loads = dict.fromkeys(load for bar, some in OF_BAR.items() if bar in only for load in some)
    for round_, load in itertools.product(range(rounds), loads):
        for name in names:
            if name == "at-once" and load != "2000 x 4 KiB":
                continue
            try:
                note(results, load, name, files.load(TARGETS[name], store(), **SIZES[load]))
            except (RuntimeError, OSError) as error:
                if name in PEERS:
                    print(f"  {load:<26} {name:<14} failed in round {round_}: {error}"[:300], flush=True)
                else:
                    raise
    for bar, some in OURS.items():
        if bar in only:
            for _, (what, load_of) in itertools.product(range(1 if bar == "7" else rounds), some.items()):
                where = store()
                note(results, what, "stagedoor", load_of(where))
                files.forget(where)
    return results


def bars(results: Results, only: set[str]) -> Iterator[tuple[str, str, float, float, bool]]:
    """Bar, what, value, limit, and whether the value has to be at least the limit."""

    def median(load: str, target: str, figure: str) -> float:
        rows = results.get((load, target))
        return statistics.median(float(row[figure]) for row in rows) if rows else 0.0

    def best(load: str, figure: str, names: tuple[str, ...]) -> float:
        return max(median(load, name, figure) for name in names)

    if "1" in only:
        yield "1", "4 MiB chunks, CPU s/GB", median("4 MiB", "stagedoor", "cpu_s_GB"), 2.4, False
        yield "1", "MB/s; the best peer", median("4 MiB", "stagedoor", "MB_s"), best("4 MiB", "MB_s", PEERS), True
    if "2" in only:
        small, large = median("256 KiB", "stagedoor", "MB_s"), median("4 MiB", "stagedoor", "MB_s")
        yield "2", "256 KiB chunks, of our own 4 MiB", small / large, 0.6, True
        yield "2", "MB/s; twice the best Python peer", small, 2 * best("256 KiB", "MB_s", PYTHON[:2]), True
    if "3" in only:
        load = "200 x 1 MiB"
        yield (
            "3",
            "1 MiB, up/s; twice the best Python peer",
            median(load, "stagedoor", "up_s"),
            2 * best(load, "up_s", PYTHON),
            True,
        )
        load = "2000 x 4 KiB"
        five = 5 * median(load, "tuspyserver", "up_s")
        yield "3", "4 KiB, up/s to uploadcomplete; 5 × tuspyserver", median(load, "stagedoor", "up_s"), five, True
        yield "3", "  without the management", median(load, "unmanaged", "up_s"), five, True
        yield "3", "  CPU ms to uploadcomplete", median(load, "stagedoor", "cpu_ms_up"), 1.0, False
        yield "3", "  without the management", median(load, "unmanaged", "cpu_ms_up"), 1.0, False
    if "4" in only:
        yield "4", "power, of the bare loop", median("power", "stagedoor", "one_ratio"), 0.6, True
        yield "4", "power, 256 at once", median("power", "stagedoor", "many_ratio"), 0.6, True
    if "5" in only:
        yield "5", "WebSocket, of the bare sink", median("binary", "stagedoor", "ratio"), 0.85, True
        yield "5", "MusicDB's dialect, MB/s", median("musicdb", "stagedoor", "MB_s"), 90, True
        yield "5", "  p99 of tiny uploads beside it, ms", median("musicdb", "stagedoor", "tiny_p99_ms"), 10, False
    if "6" in only:
        yield (
            "6",
            "p99 of tiny uploads beside a big one, ms",
            median("beside a big one", "stagedoor", "p99_ms"),
            10,
            False,
        )
        yield "6", "  beside 200 slow ones, ms", median("beside slow ones", "stagedoor", "p99_ms"), 10, False
        yield "6", "p99 of a notice to 100 listeners, ms", median("100 listeners", "stagedoor", "p99_ms"), 20, False
    if "7" in only:
        for what in ("create", "chunk", "head", "list"):
            full, empty = (median("100,000 stored", "stagedoor", f"{how}_{what}_p50_ms") for how in ("full", "empty"))
            yield "7", f"{what}, 100,000 stored against none", full / empty, 1.5, False
    if "8" in only:
        yield "8", "memory with one upload, MiB", median("memory", "stagedoor", "one_MiB"), 60, False
        yield "8", "  a connection more, MiB", median("memory", "stagedoor", "a_connection_MiB"), 8, False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="1,2,3,4,5,6,7,8", help="bars, as in 1,3")
    parser.add_argument("--peers", default=",".join(PEERS), help="as in tuspyserver,copyparty")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nice", type=int, default=0, help="of servers and clients; below 0 where others work")
    parser.add_argument("--json", type=Path, help="where to put the rows")
    options = parser.parse_args()
    machine.FIRST = options.nice
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    only = set(options.only.split(","))
    (CACHE / "stores").mkdir(parents=True, exist_ok=True)
    warm_up()
    peers = []
    for name in filter(None, options.peers.split(",")):
        if missing := TARGETS[name].missing:
            print(f"{name}: left out, {missing}")
        else:
            peers.append(name)
    load_before = os.getloadavg()[0]
    began = time.time()
    results = measure(only, peers, options.rounds)
    print(f"load before {load_before:.1f}, after {os.getloadavg()[0]:.1f}; {time.time() - began:.0f} s\n")
    for (load, target), rows in results.items():
        middle = {name: round(statistics.median(float(row[name]) for row in rows), 3) for name in rows[0]}
        print(f"{load:<26} {target:<12} {middle}")
    print()
    missed = 0
    for bar, what, value, limit, at_least in bars(results, only):
        fine = value >= limit if at_least else value <= limit
        missed += not fine
        print(f"{bar}  {'ok  ' if fine else 'MISS'}  {value:>9,.2f} ({'≥' if at_least else '≤'} {limit:,.2f})  {what}")
    if options.json:
        told = [{"load": load, "target": target, "rows": rows} for (load, target), rows in results.items()]
        options.json.write_text(json.dumps(told, indent=1))
    return 1 if missed else 0


def warm_up() -> None:
    """A GiB of page cache that the host has given already, see `files.forget`; and what clients send, made before."""
    content(0, 1)
    path = CACHE / "stores" / "warm"
    with path.open("wb") as file:
        for _ in range(256):
            file.write(bytes(4 * MIB))
    path.unlink()


if __name__ == "__main__":
    sys.exit(main())
