"""Bars E1 to E3: the engine against the bare loops that it stands on, in one process and one run.

    make bench                      all, medians of 5 runs
    python bench/engine.py --only e2 --runs 9 --json

Each figure is a ratio of two things measured in turn, so that a busy machine disturbs both alike; CPU time is used
where no disk is involved. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stagedoor.adapters.inprocess import InlineBus
from stagedoor.adapters.local import Durability, LocalBytes, LocalTasks
from stagedoor.adapters.memory import MemoryBytes, MemoryTasks, MemoryTree
from stagedoor.engine import Uploads
from stagedoor.library.memory import MemoryLibrary
from stagedoor.lifecycle import State
from stagedoor.session import Session
from stagedoor.tasks import Event, Offer, UploadTask, dump, new_uid
from stagedoor.testing.content import PlainContent

MIB = 1 << 20
ROWS: list[dict[str, Any]] = []


def row(bar: str, what: str, value: float, limit: float, unit: str, *, at_least: bool, **extra: Any) -> None:
    fine = value >= limit if at_least else value <= limit
    ROWS.append({"bar": bar, "what": what, "value": round(value, 3), "limit": limit, "unit": unit, "ok": fine, **extra})


def in_memory() -> Uploads:
    return Uploads(
        bytes=MemoryBytes(),
        tasks=MemoryTasks(),
        trees={"music": MemoryTree("music"), "artwork": MemoryTree("artwork")},
        library=MemoryLibrary(),
        contents=[PlainContent()],
        bus=InlineBus(),
    )


def cpu(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


# ── E1: an event through table and session ────────────────────────────────────────────────────────────────────


def e1(runs: int) -> None:
    n, piece = 5000, b"x" * 64

    def chunks() -> float:
        with in_memory() as uploads:
            uploads.initiate(Offer("a", filename="a.mp4", contenttype="video", filesize=n * 64 + 1))

            def work() -> None:
                for i in range(n):
                    uploads.receive("a", offset=i * 64, data=piece)

            return cpu(work)

    def bare() -> float:
        store, sha1 = MemoryBytes(), hashlib.sha1(usedforsecurity=False)
        store.create("k", "n")

        def work() -> None:
            for i in range(n):
                store.append("k", i * 64, piece)
                store.commit("k")
                sha1.update(piece)

        return cpu(work)

    def annotations() -> float:
        with in_memory() as uploads:
            uploads.initiate(Offer("a", filename="a.mp4", contenttype="video", filesize=1))

            def work() -> None:
                for i in range(n):
                    uploads.annotate("a", name=f"name {i}")

            return cpu(work)

    pairs = [(chunks(), bare()) for _ in range(runs)]
    row(
        "E1",
        "chunk, beyond its I/O",
        statistics.median(a - b for a, b in pairs) / n * 1e6,
        40,
        "µs CPU",
        at_least=False,
    )
    told = statistics.median(annotations() for _ in range(runs)) / n * 1e6
    row("E1", "annotation, parsed, merged and recorded", told, 80, "µs CPU", at_least=False, note="no bar")


# ── E2: the chunk path against write + SHA-1 ──────────────────────────────────────────────────────────────────


def e2(runs: int, where: Path) -> None:
    cases: tuple[tuple[Durability, int, int, float], ...] = (
        ("process", MIB, 256 * MIB, 0.85),
        ("process", 4 * MIB, 256 * MIB, 0.85),
        ("power", 4 * MIB, 128 * MIB, 0.8),
    )
    for durability, block, total, limit in cases:
        data = os.urandom(block)
        ratios, engine_speed, bare_speed = [], [], []
        for _ in range(runs):
            bare_time = e2_bare(where, data, total, sync=durability == "power")
            engine_time = e2_engine(where, data, total, durability)
            ratios.append(bare_time / engine_time)
            engine_speed.append(total / engine_time / 1e6)
            bare_speed.append(total / bare_time / 1e6)
        row(
            "E2", f"{durability}, {block // MIB} MiB chunks, against the bare loop", statistics.median(ratios), limit,
            "ratio", at_least=True, engine_MB_s=round(statistics.median(engine_speed)),
            bare_MB_s=round(statistics.median(bare_speed)),
        )  # fmt: skip


def e2_bare(where: Path, data: bytes, total: int, *, sync: bool) -> float:
    path = where / "bare"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    sha1 = hashlib.sha1(usedforsecurity=False)
    start = time.perf_counter()
    for at in range(0, total, len(data)):
        os.pwrite(fd, data, at)
        if sync:
            os.fdatasync(fd)
        sha1.update(data)
    sha1.hexdigest()
    spent = time.perf_counter() - start
    os.close(fd)
    path.unlink()
    return spent


def e2_engine(where: Path, data: bytes, total: int, durability: Durability) -> float:
    root = where / "engine"
    root.mkdir()
    # A known digest, so that the last chunk is verified as it is in life.
    sha1 = hashlib.sha1(usedforsecurity=False)
    for _ in range(total // len(data)):
        sha1.update(data)
    with Uploads(
        bytes=LocalBytes(str(root), durability=durability),
        tasks=LocalTasks(str(root), durability=durability),
        trees={},
        library=MemoryLibrary(),
        contents=[PlainContent()],
        bus=InlineBus(),
    ) as uploads:
        uploads.initiate(Offer("a", filename="a.mp4", contenttype="video", filesize=total, sha1=sha1.hexdigest()))
        start = time.perf_counter()
        for at in range(0, total, len(data)):
            task = uploads.receive("a", offset=at, data=data)
        spent = time.perf_counter() - start
        assert task.state is State.UPLOADCOMPLETE, task
    shutil.rmtree(root)
    return spent


# ── E3: a hundred thousand stored tasks ───────────────────────────────────────────────────────────────────────

E3_TASKS = 100_000


def e3(runs: int, where: Path) -> None:
    root = where / "many"
    e3_fill(root)
    seconds, memory = [], []
    for _ in range(min(runs, 3)):
        command = [sys.executable, __file__, "--e3-child", str(root)]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert result["tasks"] == E3_TASKS
        assert result["machines"] == 1
        assert result["sessions"] == 0
        seconds.append(result["seconds"])
        memory.append(result["bytes"] / E3_TASKS)
    row("E3", f"{E3_TASKS:,} stored tasks, ready", statistics.median(seconds), 3.0, "s", at_least=False)
    row("E3", "memory of a task at rest", statistics.median(memory) / 1024, 2.0, "KiB", at_least=False)


def e3_fill(root: Path) -> None:
    tasks, data = root / "tasks", root / "data"
    tasks.mkdir(parents=True)
    data.mkdir()
    states = [State.IMPORTCOMPLETE] * 90 + [State.INVALIDCONTENT] * 5 + [State.PREPROCESSED] * 5
    for i in range(E3_TASKS):
        uid, sha1 = new_uid(), f"{i:040x}"
        state = states[i % 100]
        key = f"{uid}.0"
        (data / key).mkdir()
        task = UploadTask(
            id=sha1, filesize=1 << 20, offset=1 << 20, contenttype="video", mimetype="video/mp4",
            sourcefilename=f"clip {i}.mp4", sourcechecksum=sha1, destinationpath=f"data/{key}/video-{sha1}.mp4",
            state=state, uid=uid, created=1.0, updated=2.0, revision=9, deadline=1e12,
            annotations={"artistname": f"Artist {i % 500}", "name": f"Title {i}", "release": "2020"},
            history=tuple(Event(n, 1.0, "preprocess", "uploadcomplete", "preprocessed") for n in range(1, 9)),
        )  # fmt: skip
        (tasks / f"{sha1}.json").write_bytes(dump(task))


def e3_child(root: str) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    from transitions import Machine

    import stagedoor.content.video
    import stagedoor.library.catalogue  # noqa: F401  # code is not counted as memory of tasks

    gc.collect()
    before, start = resident(), time.perf_counter()
    uploads = Uploads.open(root, music=f"{root}/Music", durability="process", bus=InlineBus())
    seconds = time.perf_counter() - start
    gc.collect()
    used = resident() - before
    kinds = [type(o) for o in gc.get_objects()]
    print(
        json.dumps(
            {
                "tasks": len(uploads.list()),
                "seconds": seconds,
                "bytes": used,
                "machines": kinds.count(Machine),
                "sessions": kinds.count(Session),
            }
        )
    )
    uploads.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("e1", "e2", "e3"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="where to write; a temporary directory when not given")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--e3-child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.e3_child:
        e3_child(options.e3_child)
        return 0
    where = Path(tempfile.mkdtemp(prefix="stagedoor-bench-", dir=options.dir))
    try:
        if options.only in (None, "e1"):
            e1(options.runs)
        if options.only in (None, "e2"):
            e2(options.runs, where)
        if options.only in (None, "e3"):
            e3(options.runs, where)
    finally:
        shutil.rmtree(where)
    for r in ROWS:
        if options.json:
            print(json.dumps(r))
        else:
            sign = "≥" if r["value"] >= r["limit"] else "≤"
            more = ", ".join(
                f"{k} {v}" for k, v in r.items() if k not in ("bar", "what", "value", "limit", "unit", "ok")
            )
            verdict = "ok  " if r["ok"] else "MISS"
            print(f"{r['bar']}  {verdict}  {r['value']:>8} {r['unit']:<7} ({sign} {r['limit']})  {r['what']}"
                  + (f"  [{more}]" if more else ""))  # fmt: skip
    return 0 if all(r["ok"] for r in ROWS if "note" not in r) else 1


if __name__ == "__main__":
    sys.exit(main())
