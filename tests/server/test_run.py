"""The program that serves, as a process: it is started, found, stopped in the middle of things, and started again."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import define, field

from stagedoor.adapters.local import DirectoryLock
from stagedoor.server import whereabouts
from stagedoor.server.connections import FIELDS

PATIENCE = 30.0
"""Seconds after which a test that hangs fails."""

DATA = os.urandom(1 << 20)
SHA1 = hashlib.sha1(DATA, usedforsecurity=False).hexdigest()


@define
class Process:
    """``stagedoor serve`` in a directory."""

    where: Path
    child: subprocess.Popen[str]
    address: str = ""
    told: list[str] = field(factory=list)

    @property
    def place(self) -> tuple[str, int]:
        parts = urlsplit(self.address)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def connect(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=PATIENCE)

    def http(self) -> http.client.HTTPConnection:
        host, port = self.place
        return http.client.HTTPConnection(host, port, timeout=PATIENCE)

    def ask(self, method: str, path: str, document: object = None, **headers: str) -> tuple[int, Any]:
        connection = self.http()
        try:
            body = None if document is None else json.dumps(document)
            more = {} if document is None else {"Content-Type": "application/json"}
            connection.request(method, path, body, more | headers)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else dict(answer.headers)
        finally:
            connection.close()

    def ask_status(self, path: str) -> int:
        """The status of an answer that may be no JSON."""
        connection = self.http()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def declare(self, uploadid: str = "film") -> None:
        offer = {"id": uploadid, "filename": "film.mp4", "filesize": len(DATA), "sha1": SHA1}
        assert self.ask("POST", "/api/uploads", offer)[0] == 201

    def begin(self, size: int, uploadid: str = "film") -> socket.socket:
        """Announce the whole file, and send the first bytes of it; returns when they are on record."""
        one = self.connect()
        head = (
            f"PATCH /files/{uploadid} HTTP/1.1\r\nHost: {self.place[0]}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(DATA)}\r\n\r\n"
        )
        one.sendall(head.encode() + DATA[:size])
        deadline = time.monotonic() + PATIENCE
        while self.ask("GET", f"/api/uploads/{uploadid}")[1]["offset"] < size:
            assert time.monotonic() < deadline
        return one

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def wait(self) -> int:
        """The exit status; what it said is in `told`."""
        out, err = self.child.communicate(timeout=PATIENCE)
        self.told += [out, err]
        return self.child.returncode


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("STAGEDOOR_", "PYTEST_"))} | more


def command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "stagedoor", *argv]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Process]]:
    """Processes that are ended with the test."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        if process.child.poll() is None:
            process.child.kill()
        process.child.communicate()


@pytest.fixture
def serve(started: list[Process], tmp_path: Path) -> Any:
    def start(*argv: str, **env: str) -> Process:
        child = subprocess.Popen(
            command("serve", "--port", "0", "--json", "--durability", "process", *argv),
            cwd=tmp_path, env=environment(**env), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        process = Process(tmp_path, child)
        started.append(process)
        watchdog = threading.Timer(PATIENCE, child.kill)
        watchdog.start()
        assert child.stdout is not None
        line = child.stdout.readline()
        watchdog.cancel()
        if not line:
            assert child.stderr is not None
            pytest.fail(f"it did not start: {child.stderr.read()}")
        process.address = json.loads(line)["address"]
        assert json.loads(line)["pid"] == child.pid
        return process

    return start


def refused(where: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A start that fails."""
    return subprocess.run(
        command("serve", "--port", "0", *argv), cwd=where, env=environment(**env), capture_output=True, text=True,
        check=False, timeout=PATIENCE,
    )  # fmt: skip


# ── start and stop ────────────────────────────────────────────────────────────────────────────────────────────


def test_it_says_where_it_is_and_ends_when_told(serve: Any, tmp_path: Path) -> None:
    server = serve("--naming", "beets")
    assert server.ask("GET", "/healthz")[0] == 200
    assert whereabouts.look_up(tmp_path / "uploads", server.child.pid) == server.address
    found = whereabouts.find(tmp_path / "uploads")
    assert found is not None
    assert found.naming == "beets"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "Traceback" not in server.told[1]
    assert whereabouts.look_up(tmp_path / "uploads") is None
    DirectoryLock(str(tmp_path / "uploads")).close()


def test_ctrl_c_is_a_stop_like_any_other(serve: Any) -> None:
    server = serve()
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert "Traceback" not in server.told[1]


def test_a_person_gets_a_line_to_click(tmp_path: Path, started: list[Process]) -> None:
    child = subprocess.Popen(
        command("serve", "--port", "0"), cwd=tmp_path, env=environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    started.append(Process(tmp_path, child))
    assert child.stdout is not None
    assert child.stdout.readline().startswith("Serving http://127.0.0.1:")


def test_a_stop_in_the_middle_keeps_what_came_and_a_start_goes_on(serve: Any) -> None:
    server = serve("--progress", "1")  # each piece is put on record
    server.declare()
    half = 512 << 10
    one = server.begin(half)
    server.signal(signal.SIGTERM)
    answer = http.client.HTTPResponse(one)
    answer.begin()
    problem = json.loads(answer.read())
    assert (answer.status, problem["code"]) == (503, "draining")
    assert answer.headers["Retry-After"]
    one.close()
    assert server.wait() == 0

    server = serve()
    status, headers = server.ask("HEAD", "/files/film", **{"Tus-Resumable": "1.0.0"})
    assert (status, int(headers["upload-offset"])) == (200, half)
    connection = server.http()
    connection.request(
        "PATCH", "/files/film", DATA[half:],
        {"Tus-Resumable": "1.0.0", "Upload-Offset": str(half), "Content-Type": "application/offset+octet-stream"},
    )  # fmt: skip
    assert connection.getresponse().status == 204
    connection.close()
    task = server.ask("GET", "/api/uploads/film")[1]
    assert (task["offset"], task["sourcechecksum"]) == (len(DATA), SHA1)
    assert task["state"] != "uploadfailed"


def test_listeners_are_let_go(serve: Any) -> None:
    server = serve()
    one = server.connect()
    one.sendall(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert one.recv(1).startswith(b"H")
    server.signal(signal.SIGTERM)
    while one.recv(65_536):
        pass
    one.close()
    assert server.wait() == 0


def websocket(server: Process) -> socket.socket:
    """A client that shakes hands, and then says nothing any more, not even good-bye."""
    one = server.connect()
    one.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    found = b""
    while b"\r\n\r\n" not in found:
        found += one.recv(1)
    assert found.startswith(b"HTTP/1.1 101")
    return one


def test_websockets_are_closed_as_for_a_restart(serve: Any) -> None:
    server = serve("--drain", "100ms")
    one = websocket(server)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    _, close, rest = answer_of(one).rpartition(b"\x03\xf4")  # 1012, in a close frame (RFC 6455, section 5.5.1)
    assert close
    assert len(rest) < 126


def test_a_second_signal_ends_at_once(serve: Any) -> None:
    server = serve("--drain", "1h")
    one = websocket(server)
    server.signal(signal.SIGTERM)
    assert server.child.stderr is not None
    assert any("stopping" in line for line in server.child.stderr)
    server.signal(signal.SIGTERM)
    assert server.wait() == 128 + signal.SIGTERM
    one.close()


def test_a_killed_server_leaves_an_address_that_nobody_believes(serve: Any, tmp_path: Path) -> None:
    server = serve()
    server.signal(signal.SIGKILL)
    server.wait()
    assert whereabouts.look_up(tmp_path / "uploads") == server.address
    lock = DirectoryLock(str(tmp_path / "uploads"))
    try:
        done = refused(tmp_path)
        assert done.returncode == 4
        assert server.address not in done.stderr
    finally:
        lock.close()


# ── starts that fail ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_server_says_who_is_there(serve: Any, tmp_path: Path) -> None:
    server = serve()
    done = refused(tmp_path)
    assert done.returncode == 4
    assert f"is in use by process {server.child.pid}" in done.stderr
    assert f"It serves {server.address}" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run(
        command("remove", "film"), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode in (3, 4)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_beyond_loopback_a_key_is_needed(host: str, tmp_path: Path) -> None:
    done = refused(tmp_path, "--host", host)
    assert done.returncode == 2
    assert "API key" in done.stderr
    assert not (tmp_path / "uploads").exists()


def test_with_a_key_it_listens_for_all(serve: Any, tmp_path: Path) -> None:
    server = serve("--host", "0.0.0.0", "-v", STAGEDOOR_KEYS="a-secret-key")
    assert server.address.startswith("http://127.0.0.1:")
    assert server.ask("GET", "/api/uploads")[0] == 401
    assert server.ask("GET", "/api/uploads", Authorization="Bearer a-wrong-secret-key")[0] == 401
    assert server.ask("GET", "/api/uploads", Authorization="Bearer a-secret-key")[0] == 200
    assert server.ask("GET", "/api/uploads?text=a-secret-key", Authorization="Bearer a-secret-key")[0] == 200
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "a-secret-key" not in "".join(server.told)


def test_a_port_that_is_taken(serve: Any, tmp_path: Path) -> None:
    server = serve()
    done = refused(tmp_path, "--data", "other", "--port", str(server.place[1]))
    assert done.returncode == 2
    assert "Address already in use. Choose another with --port" in done.stderr
    assert not (tmp_path / "other").exists()


def test_an_unknown_setting(tmp_path: Path) -> None:
    (tmp_path / "stagedoor.toml").write_text("prot = 1\n")
    done = refused(tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "stagedoor: stagedoor.toml: there is no setting prot. Is port meant?\n",
    )


# ── what is waited for has an end ─────────────────────────────────────────────────────────────────────────────


def answer_of(one: socket.socket) -> bytes:
    """All that comes until the server closes."""
    one.settimeout(PATIENCE)
    found = b""
    with suppress(ConnectionResetError):
        while piece := one.recv(65_536):
            found += piece
    one.close()
    return found


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nHost: a", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /heal"],
    ids=["nothing", "half", "a second one"],
)
def test_a_header_that_does_not_come(sent: bytes, serve: Any) -> None:
    server = serve("--header-time", "200ms")
    one = server.connect()
    one.sendall(sent)
    last = answer_of(one).rpartition(b"HTTP/1.1 ")[2]
    assert last.startswith(b"408 ")
    assert server.ask("GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nX: " + b"a" * 2_000_000,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 400_000,
        b"GET /" + b"a" * 2_000_000,
        b"POST /files HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 2_000_000,
        b"POST /files HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=" + b"a" * 2_000_000,
    ],
    ids=["a long field", "many fields", "a long address", "a long trailer", "a long extension"],
)
def test_a_header_without_an_end(sent: bytes, serve: Any) -> None:
    server = serve("--header-size", "32KiB", "--keep-alive", "1h", "--header-time", "1h")
    one = server.connect()
    with suppress(ConnectionResetError, BrokenPipeError):
        one.sendall(sent)
    answer_of(one)  # it would wait for an hour
    assert server.ask("GET", "/healthz")[0] == 200


def test_fields_of_a_header_are_counted(serve: Any) -> None:
    server = serve()
    for more, status in ((FIELDS - 2, b"200"), (FIELDS - 1, b"431")):
        one = server.connect()
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"a:\r\n" * more + b"Connection: close\r\n\r\n")
        answer = answer_of(one)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert answer.count(b"HTTP/1.1 ") == 1


def test_an_empty_line_after_the_answer_keeps_nothing_open(serve: Any) -> None:
    """It begins no request, and yet uvicorn takes its own end back."""
    server = serve("--keep-alive", "200ms", "--header-time", "1h")
    one = server.connect()
    one.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert one.recv(12).startswith(b"HTTP/1.1 200")
    one.sendall(b"\r\n")
    answer_of(one)


def test_the_frame_of_a_body_after_the_answer_keeps_nothing_open(serve: Any) -> None:
    server = serve("--keep-alive", "200ms")
    one = server.connect()
    one.sendall(b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert one.recv(12).startswith(b"HTTP/1.1 4")
    one.sendall(b"5;a")
    answer_of(one)


@pytest.mark.parametrize(
    ("line", "sent"),
    [("POST /api/uploads", b""), ("POST /api/uploads", b'{"filename": '), ("GET /api/uploads", b"")],
    ids=["nothing of it", "some of it", "none was wanted"],
)
def test_a_small_body_that_does_not_come(line: str, sent: bytes, serve: Any) -> None:
    server = serve("--body-idle", "200ms", "--keep-alive", "200ms")
    one = server.connect()
    head = f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    one.sendall(head.encode() + sent)
    status, _, problem = answer_of(one).partition(b"\r\n\r\n")  # and the connection is closed
    assert status.startswith(b"HTTP/1.1 408 ")
    assert json.loads(problem)["code"] == "too_slow"


def test_a_body_after_the_answer_ends(serve: Any) -> None:
    """The answer comes before the body, which nobody reads: it may not come for ever."""
    server = serve("--keep-alive", "1h")
    one = server.connect()
    one.sendall(b"POST /files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n\r\n")
    assert one.recv(12).startswith(b"HTTP/1.1 4")
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        while sent < 1_000_000_000:
            sent += one.send(b"a" * 65_536)
    assert sent < 100_000_000
    one.close()


def test_a_rest_of_a_body_that_trickles_ends(serve: Any) -> None:
    """Each byte would put the end of the connection off, if that were all."""
    server = serve("--keep-alive", "200ms")
    one = server.connect()
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.sendall(b"POST /files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10000000\r\n\r\n")
    assert one.recv(12).startswith(b"HTTP/1.1 4")
    sent = 0
    with suppress(ConnectionResetError, BrokenPipeError):
        while sent < 1_000_000:
            sent += one.send(b"a")
    assert sent < 1_000_000
    one.close()


def test_connections_are_counted(serve: Any) -> None:
    """Beyond the limit they hear why, and far beyond it they are cut."""
    server = serve("--connections", "1", "--header-time", "1h")
    idle = server.connect()
    assert server.ask_status("/healthz") == 503
    idle.close()
    deadline = time.monotonic() + PATIENCE
    while server.ask_status("/healthz") != 200:  # until it has seen the others go
        assert time.monotonic() < deadline
    crowd = [server.connect() for _ in range(66)]
    assert answer_of(crowd.pop()) == b""
    for one in crowd:
        one.close()


# ── the log ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_log_is_json_when_wanted(serve: Any) -> None:
    server = serve("--log", "json", "-v")
    server.ask("GET", "/nowhere%0Aforged%1B%5B31m")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    lines = [json.loads(line) for line in server.told[1].splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    (access,) = (line for line in lines if "nowhere" in line["message"])
    assert {name: access[name] for name in ("level", "wire", "status", "bytes")} == {
        "level": "debug", "wire": "http", "status": 404, "bytes": 0,
    }  # fmt: skip
    assert access["ms"] >= 0
    assert "\x1b" not in server.told[1]


def test_the_log_is_text_that_nobody_forges(serve: Any) -> None:
    server = serve("-v")
    server.ask("GET", "/nowhere%0Aforged%1B%5B31m")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    lines = server.told[1].splitlines()
    assert not any(line.startswith("forged") for line in lines)
    assert any("nowhere" in line for line in lines)
    assert "\x1b" not in server.told[1]
