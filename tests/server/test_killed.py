"""The real server, killed with SIGKILL under real clients, again and again: nothing acknowledged is lost.

``KILLS=200`` makes a campaign of it (``make kills``).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stagedoor.engine import Uploads
from stagedoor.lifecycle import State

KILLS = int(os.environ.get("KILLS", "4"))
CLIENTS = 6
CHUNK = 96 << 10
PATIENCE = 120.0
TUS = {"Tus-Resumable": "1.0.0"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Victim:
    """The server's process, and who brings it back."""

    def __init__(self, root: Path, kills: int, seed: int) -> None:
        self.port = free_port()
        self.kills = 0
        self._most = kills
        self._random = random.Random(seed)
        self._root = root
        self._lock = threading.Lock()
        self._up = threading.Condition(self._lock)
        self._acknowledged = 0
        self._next = 0
        self._starting = False
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "stagedoor", "serve", "--port", str(self.port)]
        command += [
            "--data",
            str(self._root / "uploads"),
            "--music",
            str(self._root / "Music"),
            "--durability",
            "process",
        ]
        with (self._root / "errors").open("w") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=self._root, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:  # it says so when it listens
            if line.startswith("Serving"):
                return
        raise AssertionError(f"the server did not start: {(self._root / 'errors').read_text()}")

    def acknowledged(self, size: int) -> None:
        """A client heard that bytes are kept: at some of these moments, while others are busy, the server dies."""
        with self._lock:
            self._acknowledged += size
            if self.kills >= self._most or self._acknowledged < self._next or self._starting:
                return
            self._next = self._acknowledged + self._random.randrange(CHUNK, 20 * CHUNK)
            self.kills += 1
            self._starting = True
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._start()
        with self._lock:
            self._starting = False
            self._up.notify_all()

    def back(self) -> None:
        """Wait until it is there again."""
        with self._lock:
            assert self._up.wait_for(lambda: not self._starting, timeout=PATIENCE)

    @property
    def done(self) -> bool:
        return self.kills >= self._most

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert self._process.wait(PATIENCE) == 0


def upload(victim: Victim, number: int, data: bytes) -> str:
    """Send a file over tus, whatever happens to the server; returns the upload's id."""
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    name = base64.b64encode(f"{number}.mp4".encode()).decode()
    digest = base64.b64encode(sha1.encode()).decode()
    created = {"Upload-Length": str(len(data)), "Upload-Metadata": f"filename {name},sha1 {digest}"}
    location = ""
    acknowledged = 0
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", victim.port, timeout=PATIENCE)
        try:
            if not location:
                connection.request("POST", "/files/", headers={**TUS, **created, "Content-Length": "0"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 201, answer.status
                location = str(answer.headers["Location"]).rpartition("/")[2]
            connection.request("HEAD", f"/files/{location}", headers=TUS)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            offset = int(str(answer.headers["Upload-Offset"]))
            assert offset >= acknowledged, "bytes that were acknowledged are lost"
            while offset < len(data):
                piece = data[offset : offset + CHUNK]
                connection.request(
                    "PATCH",
                    f"/files/{location}",
                    body=piece,
                    headers={
                        **TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream",
                    },
                )  # fmt: skip
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 204, answer.status
                offset = acknowledged = int(str(answer.headers["Upload-Offset"]))
                victim.acknowledged(len(piece))
        except (OSError, http.client.HTTPException):  # it was killed; what was acknowledged stays
            victim.back()
        else:
            return location
        finally:
            connection.close()


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    victim = Victim(tmp_path, KILLS, seed=7)
    sent: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()

    def client(which: int) -> None:
        source = random.Random(which)
        number = 0
        while not victim.done or number == 0:
            data = source.randbytes(source.randrange(CHUNK, 8 * CHUNK))
            identity = upload(victim, 1000 * which + number, data)
            sent.put((identity, hashlib.sha256(data).digest()))
            number += 1

    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            for result in [pool.submit(client, which) for which in range(CLIENTS)]:
                result.result(timeout=PATIENCE + 10 * KILLS)
    finally:
        victim.stop()
    assert victim.kills == KILLS
    with Uploads.open(tmp_path / "uploads", music=tmp_path / "Music", durability="process") as uploads:
        assert not uploads.recovery.lost
        count = 0
        while not sent.empty():
            identity, digest = sent.get()
            task = uploads.get(identity)
            # The noise is no video, which nobody looks at before the SHA-1 was right.
            assert task.state in (State.UPLOADCOMPLETE, State.INVALIDCONTENT), (task.state, task.message)
            with uploads.ports.bytes.open(task.key) as file:
                assert hashlib.sha256(file.read()).digest() == digest
            count += 1
    assert count >= CLIENTS
    if os.environ.get("KILLS"):
        sys.stderr.write(f"no loss in {victim.kills} kills of the server under {CLIENTS} clients, {count} uploads\n")
