"""Clients that others wrote, as they are, against the server as a process of its own, over good and bad lines."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import io
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import aiotus
import pytest
from attrs import frozen
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed
from tusclient.storage.filestorage import FileStorage

from .proxy import line_to

PATIENCE: Final = 60.0
"""Seconds after which a test that hangs fails."""
DATA: Final = random.Random(5).randbytes(3 << 20)
SHA1: Final = hashlib.sha1(DATA, usedforsecurity=False).hexdigest()
HALF: Final = len(DATA) // 2
ROOM: Final = 400 << 10
"""Bytes that may go twice: header fields, and for each cut what uvicorn had read and gives nobody who did not ask."""

_CACHE: Final = Path(__file__).parents[2] / ".cache" / "tus-js-client"
_SCRIPT: Final = Path(__file__).parent / "tus_client.cjs"


@frozen
class Process:
    """``stagedoor serve``."""

    port: int

    @property
    def files(self) -> str:
        return f"http://127.0.0.1:{self.port}/files/"

    def task(self, url: str) -> dict[str, Any]:
        """The upload of an address, as the API knows it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", f"/api/uploads/{url.rpartition('/')[2]}")
            reply = connection.getresponse()
            found: dict[str, Any] = json.loads(reply.read())
            assert reply.status == 200, found
            return found
        finally:
            connection.close()

    def arrived(self, url: str) -> None:
        """Assert that the whole file is there, by the SHA-1 that the server computed."""
        task = self.task(url)
        assert (task["filesize"], task["offset"], task["sourcechecksum"]) == (len(DATA), len(DATA), SHA1)
        assert task["state"] not in ("waitforchunk", "uploadfailed")

    def here(self, url: str) -> str:
        """The same upload without a line in between."""
        return f"http://127.0.0.1:{self.port}{urlsplit(url).path}"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    where = tmp_path_factory.mktemp("clients")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("STAGEDOOR_", "PYTEST_"))}
    child = subprocess.Popen(
        [sys.executable, "-m", "stagedoor", "serve", "--port", "0", "--json", "--durability", "process"],
        cwd=where, env=clean, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    watchdog = threading.Timer(PATIENCE, child.kill)
    watchdog.start()
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line, "the server did not start"
        port = urlsplit(json.loads(line)["address"]).port
        watchdog.cancel()
        assert port is not None
        yield Process(port)
    finally:
        watchdog.cancel()
        child.terminate()
        child.communicate(timeout=PATIENCE)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(DATA)
    return path


# ── tuspy ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Stream(io.BytesIO):
    """What tuspy reads: it leaves files open that it opens itself, and closes streams that it wants to use again."""

    def close(self) -> None:
        """Stay open."""


def tuspy(files: str, **more: Any) -> Any:
    client: Any = TusClient(files)
    return client.uploader(file_stream=_Stream(DATA), metadata={"filename": "film.mp4"}, retry_delay=0, **more)


def _storage(where: Path) -> Any:
    storage: Any = FileStorage
    return storage(str(where / "urls.json"))


@pytest.mark.parametrize("chunk", [len(DATA), 700_000])
def test_tuspy(process: Process, chunk: int) -> None:
    uploader = tuspy(process.files, chunk_size=chunk)
    uploader.upload()
    process.arrived(uploader.url)


def test_tuspy_with_checksums(process: Process) -> None:
    uploader = tuspy(process.files, chunk_size=700_000, upload_checksum=True)
    uploader.upload()
    process.arrived(uploader.url)


def test_tuspy_goes_on_after_a_cut(process: Process) -> None:
    with line_to(process.port, 1 << 20, 1 << 20) as line:
        uploader = tuspy(line.url + "/files/", chunk_size=len(DATA), retries=3)
        uploader.upload()
        assert not line.cuts
        assert line.sent < len(DATA) + 2 * ROOM  # nothing went twice
    process.arrived(uploader.url)


def test_tuspy_goes_on_in_another_run(process: Process, tmp_path: Path) -> None:
    with line_to(process.port, HALF) as line:
        kept = _storage(tmp_path)
        storage = {"store_url": True, "url_storage": kept}
        with pytest.raises(TusUploadFailed):
            tuspy(line.url + "/files/", chunk_size=len(DATA), retries=0, **storage).upload()
        uploader = tuspy(line.url + "/files/", chunk_size=len(DATA), **storage)
        assert uploader.offset > 0
        uploader.upload()
        kept.close()
        assert line.sent < len(DATA) + ROOM
    process.arrived(uploader.url)


# ── aiotus ────────────────────────────────────────────────────────────────────────────────────────────────────

AT_ONCE: Final = aiotus.RetryConfiguration(retry_attempts=5, max_retry_period_seconds=0.001)


def aiotus_uploads(files: str) -> str:
    metadata = {"filename": b"film.mp4", "empty": None}
    upload = aiotus.upload(files, io.BytesIO(DATA), metadata, config=AT_ONCE, chunksize=1 << 20)
    return str(asyncio.run(upload))


def test_aiotus(process: Process) -> None:
    url = aiotus_uploads(process.files)
    process.arrived(url)
    assert asyncio.run(aiotus.metadata(url, config=AT_ONCE)) == {"filename": b"film.mp4", "empty": None}


def test_aiotus_goes_on_after_a_cut(process: Process) -> None:
    with line_to(process.port, 900_000, 900_000) as line:
        url = aiotus_uploads(line.url + "/files/")
        assert not line.cuts
        assert line.sent < len(DATA) + 2 * ROOM
    process.arrived(url)


def test_aiotus_puts_parts_together(process: Process) -> None:
    parts = [io.BytesIO(DATA[:HALF]), io.BytesIO(DATA[HALF:])]
    upload = aiotus.upload_multiple(process.files, parts, {"filename": b"film.mp4"}, config=AT_ONCE, chunksize=1 << 20)
    assembled(process, str(asyncio.run(upload)))


def assembled(process: Process, url: str) -> None:
    """Wait for the end of a concatenation: the events of the server say when to look again."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=PATIENCE)
    try:
        connection.request("GET", "/api/events")
        events = connection.getresponse()
        while process.task(url)["sourcechecksum"] is None:
            assert events.fp.readline(), "the events ended"
    finally:
        connection.close()
    process.arrived(url)


# ── curl ──────────────────────────────────────────────────────────────────────────────────────────────────────

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(url: str, *argv: str, method: str, data: bytes | None = None, fails: bool = False) -> dict[str, str]:
    """A request; the header fields of the answer in lower case, and its ``status``."""
    body = [] if data is None else ["--data-binary", "@-"]
    done = subprocess.run(
        ["curl", "-sS", "-D", "-", "-o", os.devnull, *(["-I"] if method == "HEAD" else ["-X", method]), *body,
         *(part for field in argv for part in ("-H", field)), "-H", "Expect:", url],
        input=data, capture_output=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    if fails:
        assert done.returncode != 0
        return {}
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    return {"status": lines[0].split()[1], **{name.lower(): value for name, value in fields.items()}}


TUS: Final = "Tus-Resumable: 1.0.0"
BYTES: Final = "Content-Type: application/offset+octet-stream"


def begun_by_curl(files: str) -> str:
    told = curl(files, TUS, f"Upload-Length: {len(DATA)}", "Upload-Metadata: filename ZmlsbS5tcDQ=", method="POST")
    assert told["status"] == "201"
    return urljoin(files, told["location"])


@needs_curl
def test_curl(process: Process) -> None:
    url = begun_by_curl(process.files)
    told = curl(url, TUS, BYTES, "Upload-Offset: 0", method="PATCH", data=DATA)
    assert (told["status"], told["upload-offset"]) == ("204", str(len(DATA)))
    process.arrived(url)


@needs_curl
def test_curl_goes_on_after_a_cut(process: Process) -> None:
    with line_to(process.port, HALF) as line:
        url = begun_by_curl(line.url + "/files/")
        curl(url, TUS, BYTES, "Upload-Offset: 0", method="PATCH", data=DATA, fails=True)
        at = int(curl(url, TUS, method="HEAD")["upload-offset"])
        assert HALF - ROOM < at < HALF
        told = curl(url, TUS, BYTES, f"Upload-Offset: {at}", method="PATCH", data=DATA[at:])
        assert told["status"] == "204"
    process.arrived(url)


@needs_curl
@pytest.mark.parametrize("version", [5, 6, 9])
def test_curl_speaks_the_draft_and_goes_on_after_a_cut(process: Process, version: int) -> None:
    spoken = f"Upload-Draft-Interop-Version: {version}"
    with line_to(process.port, HALF) as line:
        told = curl(line.url + "/uploads/", spoken, "Upload-Complete: ?0", method="POST", data=b"")
        url = urljoin(line.url + "/uploads/", told["location"])
        fields = [spoken, "Content-Type: application/partial-upload", "Upload-Complete: ?1"]
        curl(url, *fields, "Upload-Offset: 0", method="PATCH", data=DATA, fails=True)
        told = curl(url, spoken, method="HEAD")
        assert told["upload-complete"] == "?0"
        at = int(told["upload-offset"])
        assert HALF - ROOM < at < HALF
        told = curl(url, *fields, f"Upload-Offset: {at}", method="PATCH", data=DATA[at:])
        assert (told["status"], told["upload-complete"]) == ("201", "?1")
    process.arrived(url)


# ── tus-js-client ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def modules() -> Path:
    """Where tus-js-client is; it is fetched once."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    found = _CACHE / "node_modules"
    if not (found / "tus-js-client").is_dir():
        if shutil.which("npm") is None:
            pytest.skip("tus-js-client is not there, and npm is not installed")
        _CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(_CACHE)]
        fetched = subprocess.run([*command, "tus-js-client@4"], capture_output=True, check=False, timeout=120)
        if fetched.returncode or not (found / "tus-js-client").is_dir():
            pytest.skip("tus-js-client cannot be fetched")
    return found


def tusjs(modules: Path, film: Path, **options: Any) -> dict[str, Any]:
    done = subprocess.run(
        ["node", str(_SCRIPT), json.dumps({"file": str(film), **options})],
        env={**os.environ, "NODE_PATH": str(modules)}, capture_output=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("chunk", [None, 700_000])
def test_tus_js_client(process: Process, modules: Path, film: Path, chunk: int | None) -> None:
    told = tusjs(modules, film, endpoint=process.files, chunk=chunk)
    assert "error" not in told
    process.arrived(told["url"])


def test_tus_js_client_goes_on_after_a_cut(process: Process, modules: Path, film: Path) -> None:
    with line_to(process.port, 1 << 20, 1 << 20) as line:
        told = tusjs(modules, film, endpoint=line.url + "/files/", retry=True)
        assert "error" not in told
        assert not line.cuts
        assert line.sent < len(DATA) + 2 * ROOM
    process.arrived(told["url"])


def test_tus_js_client_goes_on_in_another_run(process: Process, modules: Path, film: Path, tmp_path: Path) -> None:
    with line_to(process.port, HALF) as line:
        options = {"endpoint": line.url + "/files/", "storage": str(tmp_path / "urls.json")}
        assert "error" in tusjs(modules, film, **options)
        told = tusjs(modules, film, **options)
        assert "error" not in told
        assert line.sent < len(DATA) + ROOM
    process.arrived(told["url"])


def test_tus_js_client_in_parallel(process: Process, modules: Path, film: Path) -> None:
    told = tusjs(modules, film, endpoint=process.files, parallel=3)
    assert "error" not in told
    assembled(process, told["url"])


# ── begun by one, finished by another ─────────────────────────────────────────────────────────────────────────


@needs_curl
def test_three_clients_share_an_upload(process: Process, modules: Path, film: Path) -> None:
    uploader = tuspy(process.files, chunk_size=1 << 20)
    uploader.upload(stop_at=1 << 20)
    told = curl(uploader.url, TUS, BYTES, f"Upload-Offset: {1 << 20}", method="PATCH", data=DATA[1 << 20 : 2 << 20])
    assert told["upload-offset"] == str(2 << 20)
    assert "error" not in tusjs(modules, film, endpoint=process.files, url=uploader.url)
    process.arrived(uploader.url)


def test_tus_js_client_begins_and_tuspy_finishes(process: Process, modules: Path, film: Path) -> None:
    told = tusjs(modules, film, endpoint=process.files, chunk=1 << 20, stop=1 << 20)
    assert told["accepted"] == 1 << 20
    uploader = tuspy(process.files, chunk_size=len(DATA), url=told["url"])
    assert uploader.offset == 1 << 20
    uploader.upload()
    process.arrived(told["url"])


@needs_curl
def test_the_draft_begins_and_tus_finishes(process: Process) -> None:
    fields = ("Upload-Complete: ?0", f"Upload-Length: {len(DATA)}", "Content-Type: video/mp4")
    told = curl(f"http://127.0.0.1:{process.port}/uploads/", *fields, method="POST", data=DATA[:HALF])
    assert told["upload-offset"] == str(HALF)
    url = process.files + told["location"]
    uploader = tuspy(process.files, chunk_size=len(DATA), url=url)
    assert uploader.offset == HALF
    uploader.upload()
    process.arrived(url)


@needs_curl
def test_tus_begins_and_the_draft_finishes(process: Process) -> None:
    uploader = tuspy(process.files, chunk_size=HALF)
    uploader.upload(stop_at=HALF)
    url = uploader.url.replace("/files/", "/uploads/")
    fields = ("Content-Type: application/partial-upload", "Upload-Complete: ?1", f"Upload-Offset: {HALF}")
    told = curl(url, *fields, method="PATCH", data=DATA[HALF:])
    assert (told["status"], told["upload-complete"]) == ("201", "?1")
    process.arrived(url)
