"""Hours of a bad network in minutes: a hundred clients, a line that cuts, delays, stalls and trickles, and one server.

The clients send over tus, send twice, vanish in the middle and come back, listen, look, and remove what has arrived.
Between them and the server is a proxy that treats each connection as chance will have it. What is watched: that every
file arrives with its SHA-1, that descriptors, threads and memory of the server come back to where they were, and that
nothing is left when all is removed.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from stagedoor.client import AsyncClient, Patience, RemoteError, Unreachable

from .boxes import Box
from .loads.machine import memory

CLIENTS: Final = 100
SIZES: Final = (4_000, 60_000, 400_000, 2_000_000)
_KINDS: Final = ("fine", "fine", "cut", "cut", "late", "half", "slow", "deaf")
_PATIENCE: Final = Patience(attempts=60, base=0.05, most=1.0)


# ── the line ──────────────────────────────────────────────────────────────────────────────────────────────────


@define
class BadLine:
    """Forwards connections to a server, each as badly as chance will have it.

    Attributes:
        target: Port of the server.
        chance: Decides.
        met: How often each kind of fault was met.
        good: Nothing is wrong with new connections any more.
    """

    target: int
    chance: random.Random
    met: Counter[str] = field(factory=Counter)
    good: bool = False
    server: asyncio.Server | None = None

    async def open(self) -> str:
        """Begin; returns the address."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = "fine" if self.good else self.chance.choice(_KINDS)
        self.met[kind] += 1
        budget = self.chance.randrange(200, 1_500_000) if kind in ("cut", "half", "deaf") else None
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._carry(reader, back, kind, budget)),
            asyncio.create_task(self._carry(there, writer, kind, budget if kind == "deaf" else None)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if kind in ("half", "deaf"):  # whoever waits for the other side waits
                await asyncio.sleep(self.chance.uniform(1, 8))
        except asyncio.CancelledError:
            return  # all is over; asyncio would complain of a connection that was cancelled
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, back):
                end.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str, budget: int | None
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if kind == "late":
                    await asyncio.sleep(self.chance.uniform(0, 0.2))
                elif kind == "slow":
                    await asyncio.sleep(len(data) / 400_000)
                if budget is not None:
                    if len(data) >= budget:
                        writer.write(data[:budget])
                        return
                    budget -= len(data)
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()


# ── the clients ───────────────────────────────────────────────────────────────────────────────────────────────


@define
class Crowd:
    """All clients, and what came of their files."""

    url: str
    files: list[Path]
    chance: random.Random
    stop: float
    arrived: int = 0
    bytes: int = 0
    vanished: int = 0
    removed: int = 0
    heard: int = 0
    hashed_later: int = 0
    wrong: list[str] = field(factory=list)

    async def client(self, number: int) -> None:
        """Sends until it is time to stop; everybody has files of its own."""
        chance = random.Random(self.chance.random())  # not for secrets
        while time.monotonic() < self.stop:
            own = self.files[number * len(SIZES) + chance.randrange(len(SIZES))]
            with own.open("r+b") as file:  # another upload each time
                file.write(os.urandom(16))
            await self._bring(own, chance)

    async def _bring(self, path: Path, chance: random.Random) -> None:
        while True:
            async with AsyncClient(self.url, patience=_PATIENCE, waiting=lambda _: None) as client:
                sending = asyncio.create_task(client.upload(path))
                if chance.random() < 0.3 and time.monotonic() < self.stop:  # it vanishes, and comes back
                    await asyncio.wait((sending,), timeout=chance.uniform(0.05, 2.0))
                    if not sending.done():
                        sending.cancel()
                        with suppress(asyncio.CancelledError):
                            await sending
                        self.vanished += 1
                        continue
                try:
                    done = await sending
                except (Unreachable, RemoteError) as error:
                    self.wrong.append(f"{path.name}: {type(error).__name__} {error.code}: {error.sentence}")
                    return
                self.arrived += 1
                self.bytes += done.size
                if done.state == "waitforchunk":  # all bytes are there, and the management hashes them
                    self.hashed_later += 1
                elif done.state == "uploadfailed":
                    self.wrong.append(f"{path.name} ends in {done.state}")
                with suppress(Unreachable, RemoteError):  # it may have gone with the answer lost
                    await client.remove(done.id)
                    self.removed += 1
                return

    async def listener(self) -> None:
        """Hears what happens, and comes back when the line breaks."""
        while time.monotonic() < self.stop:
            with suppress(Unreachable, RemoteError, TimeoutError):
                async with (
                    AsyncClient(self.url, patience=_PATIENCE, waiting=lambda _: None) as client,
                    asyncio.timeout(max(0.1, self.stop - time.monotonic())),
                ):
                    async for _ in client.events():
                        self.heard += 1


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────


@define
class Server:
    """The real one, in a process of its own."""

    root: Path
    process: subprocess.Popen[str]
    port: int

    @classmethod
    def start(cls, root: Path) -> Server:
        program = [sys.executable, "-m", "stagedoor", "serve", "--port", "0", "--data", str(root / "uploads")]
        process = subprocess.Popen(
            [*program, "--music", str(root / "Music"), "--durability", "process", "--body-idle", "10"],
            stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        line = next(line for line in process.stdout if "serving http" in line)
        port = int(line.split("http://127.0.0.1:")[1].split("/")[0])
        log = (root / "log").open("w")
        threading.Thread(target=lambda: log.writelines(process.stdout or ()), daemon=True).start()
        return cls(root, process, port)

    def look(self) -> Mapping[str, int]:
        """What it holds: descriptors, threads, and KiB of memory; the decoders, which are not needed here, apart."""
        pid = self.process.pid
        return {
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "kib": int(memory(pid, alone=True) * 1024),
        }


# ── the campaign ──────────────────────────────────────────────────────────────────────────────────────────────


async def _run(root: Path, seconds: float, say: Callable[[str], None], seed: int) -> dict[str, Any]:
    chance = random.Random(seed)  # not for secrets
    server = await asyncio.to_thread(Server.start, root)
    files = []
    for number in range(CLIENTS):
        for size in SIZES:
            files.append(root / f"{number}-{size}.mp4")
            files[-1].write_bytes(os.urandom(size))
    line = BadLine(server.port, chance)
    url = await line.open()
    before = server.look()
    crowd = Crowd(url, files, chance, time.monotonic() + seconds)
    samples: list[tuple[float, Mapping[str, int]]] = []
    began = time.monotonic()

    async def watch() -> None:
        while True:
            await asyncio.sleep(5)
            samples.append((time.monotonic() - began, server.look()))
            now = samples[-1][1]
            say(
                f"{crowd.arrived:,} files, {crowd.vanished:,} vanished, {sum(line.met.values()):,} connections; "
                f"{now['descriptors']} descriptors, {now['threads']} threads, {now['kib'] // 1024} MiB"
            )

    watching = asyncio.create_task(watch())
    try:
        jobs = [crowd.client(number) for number in range(CLIENTS)] + [crowd.listener() for _ in range(10)]
        await asyncio.gather(*jobs)
        line.good = True
        async with AsyncClient(f"http://127.0.0.1:{server.port}") as client:  # what lost its removal goes now
            async for upload in client.uploads():
                with suppress(RemoteError):
                    await client.remove(upload.id)
            left = 1
            for _ in range(600):  # until the management has removed all
                found = [one async for one in client.uploads()]
                left = len(found) + len(os.listdir(root / "uploads" / "data"))
                if not left:
                    break
                await asyncio.sleep(0.1)
        for _ in range(400):  # until the connections that hang are cut
            after = server.look()
            if after["descriptors"] <= before["descriptors"] + 2:
                break
            await asyncio.sleep(0.1)
        after = server.look()
    finally:
        watching.cancel()
        server.process.terminate()
        await asyncio.to_thread(server.process.wait, 30)
    wrong = list(crowd.wrong)
    if left:
        wrong.append(f"{left} uploads or directories are left when all is removed")
    if after["descriptors"] > before["descriptors"] + 2:
        wrong.append(f"descriptors: {before['descriptors']} before, {after['descriptors']} after")
    early = [look["kib"] for at, look in samples if seconds * 0.3 < at <= seconds * 0.6]
    late = [look["kib"] for at, look in samples if seconds * 0.7 < at <= seconds]
    growth = (sum(late) / len(late)) / (sum(early) / len(early)) - 1 if early and late else 0.0
    busy = max((look["threads"] for at, look in samples if at <= seconds * 0.6), default=before["threads"])
    if after["threads"] > busy:  # threads of pools stay
        wrong.append(f"threads: {busy} at work, {after['threads']} after")
    if growth > 0.1:
        wrong.append(f"memory grew by {growth:.0%} after the warm-up")
    if server.process.returncode:
        wrong.append(f"the server ended with {server.process.returncode}")
    log = (root / "log").read_text()
    if "Traceback" in log:
        wrong.append("the server's log has a traceback: " + log[log.index("Traceback") :][:600])
    return {
        "clients": CLIENTS, "seed": seed, "files": crowd.arrived, "bytes": crowd.bytes, "vanished": crowd.vanished,
        "removed": crowd.removed, "heard": crowd.heard, "hashed_later": crowd.hashed_later,
        "connections": dict(line.met),
        "before": before, "after": after, "memory_growth": round(growth, 3),
        "most": {key: max(look[key] for _, look in samples) for key in before} if samples else {}, "wrong": wrong,
    }  # fmt: skip


def soak(box: Box) -> Mapping[str, Any]:
    """Run it; its figures, and what is ``wrong``."""
    root = Path(tempfile.mkdtemp(prefix="stagedoor-soak-"))
    try:
        return asyncio.run(_run(root, box.left, box.say, time.time_ns() % 1_000_000))
    finally:
        shutil.rmtree(root, ignore_errors=True)
