"""Both clients and the command line against the real server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from stagedoor.client import AsyncClient, Client, Patience, Progress, RemoteError, Unreachable, Uploaded
from stagedoor.commands import upload as commands
from stagedoor.server.config import ServerConfig
from stagedoor.server.run import Service
from stagedoor.settings import Settings

PATIENCE = 30.0
KEY = "a-secret-key"
LARGE = 256 << 20
"""Bytes; enough for a client to be stopped in the middle of them."""
DATA = os.urandom(3_000_000)
SHA1 = hashlib.sha1(DATA, usedforsecurity=False).hexdigest()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server in a thread, as `serve` runs it."""
    config = ServerConfig(
        port=0, data=tmp_path / "uploads", music=tmp_path / "Music", durability="none", keys=(KEY,), drain=1.0
    )
    found: list[str] = []
    ready = threading.Event()

    def told(address: str) -> None:
        found.append(address)
        ready.set()

    service = Service(config, Settings(free_floor=0))
    thread = threading.Thread(target=service.run, args=(told,))
    thread.start()
    assert ready.wait(PATIENCE)
    yield found[0]
    service.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(DATA)
    return path


def test_a_client_does_everything(address: str, film: Path, tmp_path: Path) -> None:
    with Client(address, key=KEY) as client:
        done = client.upload(film, annotations={"artistname": "Somebody"}, chunk=1 << 20)
        assert (done.id, done.resumed, done.known) == (SHA1, 0, ())
        events = client.events()
        upload = client.annotate(SHA1, {"name": "Film"})
        assert upload.document["annotations"] == {"artistname": "Somebody", "name": "Film"}
        assert (upload.filename, upload.filesize, upload.offset) == ("film.mp4", len(DATA), len(DATA))
        assert [found.id for found in client.uploads(order="newest")] == [SHA1]
        assert list(client.uploads(state="importcomplete")) == []
        assert client.known(SHA1) == ()
        with pytest.raises(RemoteError) as caught:
            client.start_import(SHA1)
        assert (caught.value.code, caught.value.status) == ("wrong_state", 409)
        assert next(events).name == "reset"
        client.remove(SHA1)
        for event in events:
            if event.name == "notice" and event.data["state"] == "remove":
                assert event.data["uploadid"] == SHA1
                break
        with pytest.raises(RemoteError) as caught:
            client.plan("nothing")
        assert caught.value.code == "not_found"


def test_many_pages(address: str, tmp_path: Path) -> None:
    with Client(address, key=KEY) as client:
        for number in range(105):
            path = tmp_path / f"{number}.mp4"
            path.write_bytes(b"%d" % number)
            client.upload(path, id=f"n{number:03}")
        assert [upload.id for upload in client.uploads()] == [f"n{number:03}" for number in range(105)]


def test_the_key_is_needed(address: str, film: Path) -> None:
    for key in (None, "another-key"):
        with Client(address, key=key) as client, pytest.raises(RemoteError) as caught:
            client.upload(film)
        assert (caught.value.code, caught.value.status) == ("unauthorized", 401)


def test_asyncio(address: str, film: Path) -> None:
    async def main() -> None:
        async with AsyncClient(address, key=KEY) as client:
            done = await client.upload(film, chunk=1_000_000)
            assert done.id == SHA1
            events = client.events()
            assert (await anext(events)).name == "reset"
            await client.remove(SHA1)
            async for event in events:
                if event.data.get("state") == "remove":
                    break
            await events.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_both_clients_declare_and_request(address: str) -> None:
    offer = {"id": "declared", "filename": "film.mp4", "filesize": 3, "annotations": {"name": "Film"}}

    async def main() -> None:
        async with AsyncClient(address, key=KEY) as client:
            assert (await client.initiate(offer)).revision == found.revision
            with pytest.raises(RemoteError) as caught:
                await client.request("declared", trigger_import=True)
            assert caught.value.code == "wrong_state"

    with Client(address, key=KEY) as client:
        found = client.initiate(offer)
        assert (found.id, found.state, found.document["annotations"]) == ("declared", "waitforchunk", {"name": "Film"})
        with pytest.raises(RemoteError) as caught:
            client.request("declared")
        assert caught.value.code == "wrong_state"
        with pytest.raises(RemoteError) as caught:
            client.initiate(offer | {"filesize": 4})
        assert caught.value.code == "duplicate"
    asyncio.run(main())


def test_a_stopped_upload_goes_on(address: str, film: Path) -> None:
    class Stopped(Exception):
        pass

    def progress(made: Progress) -> None:
        if made.phase == "sending" and made.done > 1_500_000:
            raise Stopped

    with Client(address, key=KEY, patience=Patience(base=0.01)) as client:
        with pytest.raises(Stopped):
            client.upload(film, progress=progress)
        done = client.upload(film)
    assert 0 < done.resumed < len(DATA)
    assert done.size == len(DATA)


# ── the command line ──────────────────────────────────────────────────────────────────────────────────────────


def upload(where: Path, address: str, *argv: str, key: str = KEY) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("STAGEDOOR_", "PYTEST_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "stagedoor", "upload", "--server", address, *argv],
        cwd=where, env=env | {"STAGEDOOR_KEY": key}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, f"{out}\n{err}"
    return out, err


def test_files_are_sent(address: str, film: Path, tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_bytes(b"other")
    argv = ("film.mp4", "other.mp4", "nowhere.mp4", "--annotate", "name=Film", "--jobs", "2")
    out, err = finished(upload(tmp_path, address, *argv), status=3)
    assert "✓ film.mp4: 3,000,000 bytes are there, and verified.\n" in out
    assert "✓ other.mp4: 5 bytes are there, and verified.\n" in out
    assert "✗ nowhere.mp4: There is no such file.\n" in out
    assert "film.mp4: sending\n" in err
    again = upload(tmp_path, address, "film.mp4", "--json")
    (file,) = json.loads(again.communicate(timeout=PATIENCE)[0])["files"]
    assert (file["id"], file["resumed"], file["status"]) == (SHA1, len(DATA), again.returncode)
    assert file["status"] == int(file["state"] == "invalidcontent")  # it is no video, which may be known by now
    with Client(address, key=KEY) as client:
        assert client.get(SHA1).document["annotations"] == {"name": "Film"}


@pytest.mark.parametrize("message", ["There is no picture in it.", None])
def test_one_that_is_there_and_failed_is_not_called_fine(message: str | None) -> None:
    failed = Uploaded(id="one", state="invalidcontent", sha1=SHA1, size=9, resumed=9, known=())
    client = Mock(**{"upload.return_value": failed, "get.return_value.document": {"message": message, "code": None}})
    errand = commands._Errand("film.mp4")
    commands._run(errand, Mock(**{"options.annotate": []}), client, Mock(), Mock())
    assert (errand.status, errand.code, errand.done) == (1, "invalidcontent", failed)
    assert errand.sentence == f"film.mp4: {message or 'The server has it, and the upload is in invalidcontent.'}"


def test_a_wrong_key_is_told_and_never_shown(address: str, film: Path, tmp_path: Path) -> None:
    out, err = finished(upload(tmp_path, address, "film.mp4", key="another-key"), status=1)
    assert "This server wants an API key" in out
    assert "another-key" not in out + err


def test_ctrl_c_and_the_same_command_again(address: str, tmp_path: Path) -> None:
    """What was sent stays, whatever the command was doing."""
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(LARGE)
    process = upload(tmp_path, address, "large.mp4")
    assert process.stderr is not None
    assert any("sending" in line for line in process.stderr)
    with Client(address, key=KEY) as client:
        while not any(found.offset for found in client.uploads()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = finished(process, status=130)
        assert "Stopped. The same command again goes on." in out
        assert "Traceback" not in out + err
        (stood,) = client.uploads()
    assert 0 < stood.offset < LARGE
    (file,) = json.loads(finished(upload(tmp_path, address, "large.mp4", "--json"))[0])["files"]
    assert file["size"] == LARGE
    assert stood.offset <= file["resumed"] < LARGE
    with Client(address, key=KEY) as client:
        client.remove(file["id"])  # it is on a real disk


class Absent(socketserver.StreamRequestHandler):
    """A server that hangs up on the first who asks, and refuses the next."""

    asked = 0

    def handle(self) -> None:
        type(self).asked += 1
        while self.rfile.readline().strip():
            pass
        if self.asked > 1:
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def test_the_command_says_that_it_waits(tmp_path: Path, film: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Absent) as absent:
        thread = threading.Thread(target=absent.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            command = upload(tmp_path, f"http://127.0.0.1:{absent.server_address[1]}", "film.mp4")
            out, err = finished(command, status=1)
        finally:
            absent.shutdown()
            thread.join(PATIENCE)
    assert "The server does not answer: " in err
    assert "Trying again in " in err
    assert "403" in out


def test_no_server(tmp_path: Path, film: Path) -> None:
    with (
        Client("http://127.0.0.1:9", patience=Patience(attempts=2, base=0.0)) as client,
        pytest.raises(Unreachable, match="does not answer"),
    ):
        client.upload(film)
    assert "is no address" in finished(upload(tmp_path, "ftp://nowhere", "film.mp4"), status=2)[1]
