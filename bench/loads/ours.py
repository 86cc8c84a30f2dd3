"""Bars 4 to 8, which are about our server alone: syncs, WebSockets, latencies, a full store, memory, listeners."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

from stagedoor.lifecycle import State
from stagedoor.tasks import Event, UploadTask, dump, new_uid

from . import crowd, sockets
from .files import Row, forget
from .machine import MIB, SERVER, Meter, Server, at_rest, forget_peak, memory
from .targets import TARGETS
from .wires import Http, Tus, content

PROCESS, POWER, SINK = TARGETS["stagedoor"], TARGETS["power"], TARGETS["sink"]


def tus(port: int) -> Tus:
    return Tus(port, "/files/")


def tiny(port: int, count: int, pause: float = 0.0) -> list[float]:
    """Seconds from beginning to end of 4 KiB uploads, one after the other."""
    client, took = tus(port), []
    for number in range(count):
        began = time.perf_counter()
        client.send((1 << 40) + number * 8209, 4096, 4096)
        took.append(time.perf_counter() - began)
        if pause:
            time.sleep(pause)
    return took


def beside(server: Server, work: Callable[[], object], count: int) -> tuple[list[float], object]:
    """Tiny uploads from one client while another works; and what that one says."""

    def client(number: int) -> object:
        if number:
            time.sleep(0.05)  # the other has begun
            return tiny(server.port, count, pause=0.002)
        return work()

    told, _ = crowd.run(2, client)
    took = told[1]
    assert isinstance(took, list)
    return took, told[0]


def _ms(values: list[float], share: float) -> float:
    return crowd.percentile(values, share) * 1e3


# ── bar 4: every acknowledgement survives a power cut ─────────────────────────────────────────────────────────


def synced_loop(where: Path, size: int, chunk: int) -> float:
    """MB/s of write, `fdatasync` and SHA-1 on the server's core, with nothing around it."""
    where.mkdir(parents=True, exist_ok=True)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, SERVER)
    fd = os.open(where / "loop", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    sha1, blocks = hashlib.sha1(usedforsecurity=False), [b"".join(content(at, chunk)) for at in range(0, size, chunk)]
    began = time.perf_counter()
    for number, block in enumerate(blocks):
        os.pwrite(fd, block, number * chunk)
        os.fdatasync(fd)
        sha1.update(block)
    took = time.perf_counter() - began
    os.close(fd)
    os.sched_setaffinity(0, cores)
    return size / took / 1e6


def power(store: Path) -> Row:
    """One file, and 256 at once, in chunks of 4 MiB, against the loop just before and after."""
    chunk, size = 4 * MIB, 128 * MIB
    before = synced_loop(store / "bare", size, chunk)
    with POWER.running(store) as server:
        _, one = crowd.run(1, lambda _: tus(server.port).send(0, size, chunk))
        at_rest(server.pid)  # what came is examined, and is no part of what comes next

        def client(number: int) -> None:  # 8 processes of 32 connections: their bytes come at once
            def thread(at: int) -> None:
                tus(server.port).send((number * 32 + at) * (chunk + 7919), chunk, chunk)

            threads = [threading.Thread(target=thread, args=(at,)) for at in range(32)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()

        with Meter(server) as meter:
            _, many = crowd.run(8, client)
        done = _finished(server)
    after = synced_loop(store / "bare", size, chunk)
    loop = statistics.mean((before, after))
    one_speed, many_speed = size / one / 1e6, 256 * chunk / many / 1e6
    return {
        "loop_MB_s": loop, "one_MB_s": one_speed, "one_ratio": one_speed / loop, "many_MB_s": many_speed,
        "many_ratio": many_speed / loop, "peak_MiB": meter.peak, "complete": done,
    }  # fmt: skip


def _finished(server: Server) -> int:
    """Uploads that have all their bytes."""
    _, _, text = Http(server.port).ask("GET", "/api/uploads?limit=1000")
    states = [one["state"] for one in json.loads(text)["uploads"]]
    return sum(state not in ("waitforchunk", "uploadfailed") for state in states)


# ── bar 5: WebSockets ─────────────────────────────────────────────────────────────────────────────────────────


def _sent(send: Callable[[int, int, int], float], port: int, start: int, size: int, _: int) -> float:
    return send(port, start, size)


def binary(store: Path) -> Row:
    """Our own dialect with a window of 4 against the bare sink, in turn."""
    size = 128 * MIB
    speed: dict[str, list[float]] = {"": [], "sink_": []}
    cpu: dict[str, list[float]] = {"": [], "sink_": []}
    with PROCESS.running(store / "a") as server, SINK.running(store / "b") as sink:
        for turn in range(8):
            name, one, send = (("", server, sockets.send_binary), ("sink_", sink, sockets.send_sink))[turn % 2]
            job = functools.partial(_sent, send, one.port, turn * (size + 7919), size)
            with Meter(one) as meter:
                seconds, _ = crowd.run(1, job)
            if turn > 1:  # the first of each is to warm up
                speed[name].append(size / seconds[0] / 1e6)
                cpu[name].append(meter.cpu / size * 1e9)
            at_rest(one.pid)  # the other has the same core, and its turn is not for examining what this one took in
            forget(store)
    found: Row = {name + "MB_s": statistics.median(values) for name, values in speed.items()}
    found |= {name + "cpu_s_GB": statistics.median(values) for name, values in cpu.items()}
    return {**found, "ratio": statistics.median(speed[""]) / statistics.median(speed["sink_"])}


def musicdb(store: Path) -> Row:
    """MusicDB's dialect: digits; alone, and with tiny uploads beside it."""
    size = 64 * MIB
    with PROCESS.running(store) as server:
        with Meter(server) as meter:
            seconds, _ = crowd.run(1, lambda _: sockets.send_musicdb(server.port, 0, size))
        at_rest(server.pid)
        took, _ = beside(server, lambda: sockets.send_musicdb(server.port, size + 1, size), 100)
    return {
        "MB_s": size / seconds[0] / 1e6, "cpu_s_GB": meter.cpu / size * 1e9,
        "tiny_p50_ms": _ms(took, 0.5), "tiny_p99_ms": _ms(took, 0.99),
    }  # fmt: skip


# ── bar 6: nobody waits for somebody else ─────────────────────────────────────────────────────────────────────


def mixed(store: Path) -> Row:
    """Tiny uploads alone, and beside a file of 1 GiB in chunks of 4 MiB."""
    with PROCESS.running(store) as server:
        alone, _ = crowd.run(1, lambda _: tiny(server.port, 300, pause=0.002))
        took, _ = beside(server, lambda: tus(server.port).send(0, 1024 * MIB, 4 * MIB), 300)
    return {
        "alone_p50_ms": _ms(alone[0], 0.5), "alone_p99_ms": _ms(alone[0], 0.99),
        "p50_ms": _ms(took, 0.5), "p99_ms": _ms(took, 0.99), "max_ms": max(took) * 1e3,
    }  # fmt: skip


def slow(store: Path) -> Row:
    """Tiny uploads, while 200 clients send a byte a second."""
    with PROCESS.running(store) as server:
        alone, _ = crowd.run(1, lambda _: tiny(server.port, 300, pause=0.002))
        ended = threading.Event()

        def drip() -> None:
            client = tus(server.port)
            dripping = []
            for _ in range(200):
                head = f"PATCH {client.create(100_000)} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                head += "Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Length: 100000\r\n"
                one = socket.create_connection(("127.0.0.1", server.port))
                one.sendall(head.encode() + b"Content-Type: application/offset+octet-stream\r\n\r\n")
                dripping.append(one)
            while not ended.wait(1.0):
                for one in dripping:
                    one.sendall(b"x")

        threading.Thread(target=drip, daemon=True).start()
        time.sleep(1.5)
        with Meter(server) as meter:
            took, _ = crowd.run(1, lambda _: tiny(server.port, 600, pause=0.005))
        ended.set()
    return {
        "alone_p50_ms": _ms(alone[0], 0.5), "alone_p99_ms": _ms(alone[0], 0.99),
        "p50_ms": _ms(took[0], 0.5), "p99_ms": _ms(took[0], 0.99), "cpu_share": meter.cpu / meter.wall,
    }  # fmt: skip


def notices(
    store: Path, *, count: int, uploads: int, size: int, chunk: int, at_once: int, together: bool = False
) -> Row:
    """How soon listeners hear that an upload is complete, from the request that completes it.

    Args:
        store: A new one.
        count: Listeners, in our own dialect.
        uploads: That end while they listen.
        size: Of each in bytes.
        chunk: Bytes of a request.
        at_once: How many are under way together. Each sends a request in 100 ms, as clients on a network do.
        together: Whether those end within 100 ms; else one ends after the other, all the time.
    """
    apart = 0.1 if together else 0.1 * size / chunk
    with PROCESS.running(store) as server:
        tiny(server.port, 20)
        before = memory(server.pid, alone=True)
        who = sockets.listeners(server.port, count)
        time.sleep(0.5)
        a_listener = (memory(server.pid, alone=True) - before) / count * 1024
        client = tus(server.port)
        paths = [client.create(size) for _ in range(uploads)]
        names = {path.rpartition("/")[2].encode() for path in paths}

        def send(number: int, asked: dict[bytes, float]) -> None:
            sender = tus(server.port)
            time.sleep(apart * number / at_once)
            for at in range(number, uploads, at_once):
                for offset in range(0, size, chunk):
                    began = asked[paths[at].rpartition("/")[2].encode()] = time.perf_counter()
                    sender.patch(paths[at], at * 8209, offset, min(chunk, size - offset))
                    time.sleep(max(0.0, began + 0.1 - time.perf_counter()))

        def job(number: int) -> object:
            if number:
                return sockets.listen(who, names, b"uploadcomplete", 120)
            asked: dict[bytes, float] = {}
            threads = [threading.Thread(target=send, args=(at, asked)) for at in range(at_once)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            return asked

        with Meter(server) as meter:
            told, _ = crowd.run(2, job)
    asked, heard = told
    assert isinstance(asked, dict)
    assert isinstance(heard, dict)
    every = [when - asked[name] for name, times in heard.items() for when in times]
    return {
        "p50_ms": _ms(every, 0.5), "p99_ms": _ms(every, 0.99), "max_ms": max(every) * 1e3, "heard": len(every),
        "KiB_a_listener": a_listener, "cpu_share": meter.cpu / meter.wall,
    }  # fmt: skip


# ── bar 7: a full store ───────────────────────────────────────────────────────────────────────────────────────


def grow(store: Path, stored: int = 100_000) -> Row:
    """Requests to a new store, and to one with many uploads, of which a tenth waits for bytes."""
    found: Row = {}
    full = store / "full"
    fill(full / "uploads", stored)
    for name, where in (("empty", store / "empty"), ("full", full)):
        began = time.perf_counter()
        with PROCESS.running(where) as server:
            ready = time.perf_counter() - began

            def probe(_: int, port: int = server.port) -> dict[str, list[float]]:
                client = tus(port)
                for number in range(400):
                    path = client.create(8192)
                    client.patch(path, number * 8209, 0, 4096)
                    client.head(path)
                    client._ask("list", (200,), "GET", "/api/uploads?limit=100", {})
                return client.times

            with Meter(server) as meter:
                told, _ = crowd.run(1, probe)
            for what, times in told[0].items():
                found[f"{name}_{what}_p50_ms"] = _ms(times, 0.5)
                found[f"{name}_{what}_p99_ms"] = _ms(times, 0.99)
            found[f"{name}_cpu_ms"] = meter.cpu / 400 * 1e3
            found[f"{name}_MiB"] = memory(server.pid, alone=True)
            found[f"{name}_ready_s"] = ready
    return found


def fill(data: Path, count: int) -> None:
    """Make uploads without a server: documents, and directories without bytes for those that are done."""
    (data / "tasks").mkdir(parents=True)
    (data / "data").mkdir()
    at_rest = (State.IMPORTCOMPLETE, State.PREPROCESSED, State.INVALIDCONTENT)
    for number in range(count):
        uid, name = new_uid(), f"{number:032x}"
        key, state = f"{uid}.0", at_rest[number % 3]
        (data / "data" / key).mkdir()
        task = UploadTask(
            id=name, filesize=MIB, offset=MIB, contenttype="video", mimetype="video/mp4",
            sourcefilename=f"clip {number}.mp4", sourcechecksum=f"{number:040x}",
            destinationpath=f"data/{key}/video-{number:040x}.mp4", state=state, uid=uid, created=1.0,
            updated=2.0 + number, revision=9, deadline=1e12,
            annotations={"artistname": f"Artist {number % 500}", "name": f"Title {number}"},
            history=tuple(Event(n, 1.0, "preprocess", "uploadcomplete", "preprocessed") for n in range(1, 9)),
        )  # fmt: skip
        (data / "tasks" / f"{name}.json").write_bytes(dump(task))


# ── bar 8: memory ─────────────────────────────────────────────────────────────────────────────────────────────


def peak(store: Path) -> Row:
    """The server's process with one upload, then with 64 at once, in chunks of 4 MiB."""
    with PROCESS.running(store) as server:
        idle = memory(server.pid, alone=True)
        forget_peak(server.pid)
        crowd.run(1, lambda _: tus(server.port).send(0, 256 * MIB, 4 * MIB))
        one = memory(server.pid, "VmHWM", alone=True)
        forget_peak(server.pid)

        def client(number: int) -> None:
            threads = [
                threading.Thread(target=tus(server.port).send, args=((8 * number + at) * 40 * MIB, 16 * MIB, 4 * MIB))
                for at in range(8)
            ]
            for each in threads:
                each.start()
            for each in threads:
                each.join()

        crowd.run(8, client)
        many = memory(server.pid, "VmHWM", alone=True)
        family = memory(server.pid)
    return {
        "idle_MiB": idle,
        "one_MiB": one,
        "many_MiB": many,
        "a_connection_MiB": (many - one) / 63,
        "family_MiB": family,
    }
