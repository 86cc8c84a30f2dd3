"""The real server, killed with SIGKILL under real clients, again and again: nothing acknowledged is lost.

`kill_server` is all of it, for tests and campaigns: it starts ``stagedoor serve`` with the durability ``process``,
sends files over tus from several clients at a time, kills the server at moments when somebody has just heard that
bytes are kept, starts it again, and looks at the end whether all is there.
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
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from ..engine import Uploads
from ..lifecycle import State

__all__ = ["CLIENTS", "TUS", "Victim", "kill_server"]

CLIENTS: Final = 6
_CHUNK: Final = 96 << 10
_PATIENCE: Final = 120.0
TUS: Final[Mapping[str, str]] = {"Tus-Resumable": "1.0.0"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Victim:
    """The server's process, and who brings it back.

    Args:
        root: A directory for all that it has.
        kills: How often it is killed; not at all after that.
        seed: Of the moments.

    Attributes:
        port: Where it listens, always the same.
        kills: How often it was killed so far.
    """

    def __init__(self, root: Path, kills: int, seed: int) -> None:
        self.port = _free_port()
        self.kills = 0
        self._most = kills
        self._random = random.Random(seed)  # noqa: S311  # not for secrets
        self._root = root
        self._lock = threading.Lock()
        self._up = threading.Condition(self._lock)
        self._acknowledged = 0
        self._next = 0
        self._starting = False
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "stagedoor", "serve", "--port", str(self.port), "--durability", "process"]
        command += ["--data", str(self._root / "uploads"), "--music", str(self._root / "Music")]
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
            self._next = self._acknowledged + self._random.randrange(_CHUNK, 20 * _CHUNK)
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
            assert self._up.wait_for(lambda: not self._starting, timeout=_PATIENCE)

    @property
    def done(self) -> bool:
        """Whether it was killed often enough."""
        return self.kills >= self._most

    def stop(self) -> None:
        """End it as one should."""
        self._process.terminate()
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert self._process.wait(_PATIENCE) == 0


def _upload(victim: Victim, number: int, data: bytes) -> str:
    """Send a file over tus, whatever happens to the server; returns the upload's id."""
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    name = base64.b64encode(f"{number}.mp4".encode()).decode()
    digest = base64.b64encode(sha1.encode()).decode()
    created = {"Upload-Length": str(len(data)), "Upload-Metadata": f"filename {name},sha1 {digest}"}
    location = ""
    acknowledged = 0
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", victim.port, timeout=_PATIENCE)
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
                piece = data[offset : offset + _CHUNK]
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


def kill_server(root: Path, kills: int, *, seed: int = 7) -> int:
    """Kill the server so often, and look at what its clients had heard.

    Args:
        root: An empty directory.
        kills: How often.
        seed: Of the moments, and of what is sent.

    Returns:
        How many uploads were sent whole; each was there in the end, with the bytes that were sent.

    Raises:
        AssertionError: Something was lost; it says what.
    """
    victim = Victim(root, kills, seed)
    sent: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()

    def client(which: int) -> None:
        source = random.Random(f"{seed} {which}")  # noqa: S311  # not for secrets
        number = 0
        while not victim.done or number == 0:
            data = source.randbytes(source.randrange(_CHUNK, 8 * _CHUNK))
            identity = _upload(victim, 1_000_000 * which + number, data)
            sent.put((identity, hashlib.sha256(data).digest()))
            number += 1

    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            for result in [pool.submit(client, which) for which in range(CLIENTS)]:
                result.result(timeout=_PATIENCE + 10 * kills)
    finally:
        victim.stop()
    assert victim.kills == kills
    with Uploads.open(root / "uploads", music=root / "Music", durability="process") as uploads:
        assert not uploads.recovery.lost
        count = 0
        while not sent.empty():
            identity, digest = sent.get()
            task = uploads.get(identity)
            if task.state is State.WAITFORCHUNK and task.offset == task.filesize:
                # Of what was begun before a kill the server hashes all at the end, beside the answers; it may have been
                # stopped before that.
                uploads.perform(identity)
                task = uploads.get(identity)
            # The noise is no video, which nobody looks at before the SHA-1 was right.
            assert task.state in (State.UPLOADCOMPLETE, State.INVALIDCONTENT), (task.state, task.message)
            with uploads.ports.bytes.open(task.key) as file:
                assert hashlib.sha256(file.read()).digest() == digest, f"{identity} is not what was sent"
            count += 1
    return count
