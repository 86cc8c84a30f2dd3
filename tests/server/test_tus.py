"""tus over a real server: every sentence that the protocol has for a server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest

from stagedoor.errors import StorageError
from stagedoor.lifecycle import State
from stagedoor.server.concatenation import PARTS, Assembly

from .serving import PATIENCE, Arrival, Reply, Served, Watch, Whole, answer, core_of, serve, settle, standing

if TYPE_CHECKING:
    from conftest import House

DATA = bytes(range(256)) * 40
SHA1 = hashlib.sha1(DATA, usedforsecurity=False)
VERSION = {"Tus-Resumable": "1.0.0"}
BYTES = {**VERSION, "Content-Type": "application/offset+octet-stream"}
PATHS = ("/files/", "/files")


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.fixture
def served(house: House) -> Iterator[Served]:
    with standing(house) as running:
        yield running


def meta(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def checksum(data: bytes, name: str = "sha1") -> str:
    return f"{name} {base64.b64encode(hashlib.new(name, data).digest()).decode()}"


def create(served: Served, size: int | None = len(DATA), path: str = "/files/", body: Any = None, **more: str) -> str:
    """The path of a new upload."""
    headers = {**VERSION, "Upload-Metadata": meta(filename="film.mp4")}
    headers.update({"Upload-Defer-Length": "1"} if size is None else {"Upload-Length": str(size)})
    headers.update({key.replace("_", "-"): value for key, value in more.items()})
    reply = served("POST", path, headers, body)
    assert reply.status == 201, reply.body
    return urljoin(path, reply["location"])


def patch(served: Served, path: str, offset: int, body: Any, **more: str) -> Reply:
    headers = {**BYTES, "Upload-Offset": str(offset), **{key.replace("_", "-"): value for key, value in more.items()}}
    return served("PATCH", path, headers, body)


def head(served: Served, path: str) -> Reply:
    return served("HEAD", path, VERSION)


def offset(served: Served, path: str) -> int:
    return int(head(served, path)["upload-offset"])


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


def stored(house: House, path: str) -> bytes:
    task = house.uploads.get(id_of(path))
    with house.uploads.ports.bytes.open(task.key) as file:
        return file.read()


# ── the core protocol ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_arrives_in_pieces(served: Served, house: House) -> None:
    path = create(served)
    for at in range(0, len(DATA), 4000):
        reply = patch(served, path, at, DATA[at : at + 4000])
        assert (reply.status, reply["upload-offset"]) == (204, str(min(at + 4000, len(DATA))))
        assert not reply.body
    task = house.uploads.get(id_of(path))
    assert (task.state, task.sourcechecksum, task.sourcefilename) == (
        State.UPLOADCOMPLETE,
        SHA1.hexdigest(),
        "film.mp4",
    )
    assert stored(house, path) == DATA


def test_every_answer_but_to_options_says_the_version(served: Served) -> None:
    path = create(served)
    replies = [
        served("POST", "/files/", {**VERSION, "Upload-Length": "5"}),
        served("POST", "/files/", VERSION),
        head(served, path),
        head(served, "/files/none"),
        patch(served, path, 0, b"x"),
        patch(served, path, 7, b"x"),
        served("GET", path),
        served("GET", "/files/none"),
        served("PUT", path, VERSION),
        served("HEAD", path),
        served("DELETE", path, VERSION),
        served("DELETE", path, VERSION),
    ]
    assert [reply["tus-resumable"] for reply in replies] == ["1.0.0"] * len(replies)


@pytest.mark.parametrize("version", [None, "0.2.2", "2.0.0"])
def test_another_version_is_412_and_nothing_happens(served: Served, house: House, version: str | None) -> None:
    path = create(served)
    headers = {**BYTES, "Upload-Offset": "0", "Upload-Length": "9"}
    del headers["Tus-Resumable"]
    if version is not None:
        headers["Tus-Resumable"] = version
    for method, where in (("PATCH", path), ("POST", "/files/"), ("HEAD", path), ("DELETE", path)):
        reply = served(method, where, headers, None if method in ("HEAD", "DELETE") else b"abc")
        assert (reply.status, reply["tus-version"]) == (412, "1.0.0")
    assert len(house.uploads.list()) == 1
    assert offset(served, path) == 0


@pytest.mark.parametrize("version", [None, "0.2.2"])
@pytest.mark.parametrize("where", ["/files/", "/files", "/files/whatever"])
def test_options_tells_what_is_offered_whatever_the_version(served: Served, version: str | None, where: str) -> None:
    reply = served("OPTIONS", where, {} if version is None else {"Tus-Resumable": version})
    assert reply.status == 204
    assert reply["tus-version"] == "1.0.0"
    assert reply["tus-max-size"] == str(1 << 40)
    assert reply["tus-checksum-algorithm"] == "sha1,sha256"
    assert reply["tus-extension"].split(",") == [
        "creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum", "termination",
        "concatenation",
    ]  # fmt: skip


def test_what_is_not_there_is_not_offered(house: House) -> None:
    house.restart(retention={State.WAITFORCHUNK: None})
    with standing(house, parts=False) as served:
        extensions = served("OPTIONS", "/files/")["tus-extension"].split(",")
        assert "expiration" not in extensions
        assert "concatenation" not in extensions
        assert "checksum-trailer" not in extensions
        path = create(served)
        assert "upload-expires" not in head(served, path)
        reply = served("POST", "/files/", {**VERSION, "Upload-Length": "5", "Upload-Concat": "partial"})
        assert (reply.status, reply.json["code"]) == (400, "not_offered")


def test_a_method_can_be_overridden(served: Served) -> None:
    path = create(served)
    headers = {**BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert served("POST", path, headers, DATA[:9]).status == 204
    reply = served("GET", path, {**VERSION, "X-HTTP-Method-Override": "HEAD"})
    assert (reply.status, reply["upload-offset"]) == (200, "9")
    assert served("POST", path, {**VERSION, "X-HTTP-Method-Override": "DELETE"}).status == 204
    assert head(served, path).status == 410


def test_head_says_where_an_upload_stands(served: Served) -> None:
    metadata = meta(filename="film.mp4", mood="low") + ",lonely"
    path = create(served, Upload_Metadata=metadata)
    reply = head(served, path)
    assert reply.status == 200
    assert reply["upload-offset"] == "0"
    assert reply["upload-length"] == str(len(DATA))
    assert reply["upload-metadata"] == metadata
    assert reply["cache-control"] == "no-store"
    assert not reply.body


@pytest.mark.parametrize("uploadid", ["none", "part-none", "..%2f..%2fetc", "a%00b", "x" * 200])
def test_what_is_not_there_has_no_offset(served: Served, uploadid: str) -> None:
    for reply in (head(served, f"/files/{uploadid}"), patch(served, f"/files/{uploadid}", 0, b"abc")):
        assert reply.status == 404
        assert "upload-offset" not in reply


def test_another_content_type_is_415(served: Served) -> None:
    path = create(served)
    reply = patch(served, path, 0, b"abc", Content_Type="application/octet-stream")
    assert (reply.status, reply.json["code"]) == (415, "unsupported_media_type")
    assert offset(served, path) == 0


@pytest.mark.parametrize("wrong", [1, 99, 2000])
def test_a_wrong_offset_is_409_and_the_upload_untouched(served: Served, house: House, wrong: int) -> None:
    path = create(served)
    patch(served, path, 0, DATA[:100])
    reply = patch(served, path, wrong, b"abc")
    assert (reply.status, reply["upload-offset"]) == (409, "100")
    assert reply.json["expected-offset"] == 100
    assert offset(served, path) == 100
    assert stored(house, path) == DATA[:100]


@pytest.mark.parametrize("chunked", [False, True])
def test_more_than_the_length_is_refused_and_not_stored(served: Served, house: House, chunked: bool) -> None:
    path = create(served, 100)
    patch(served, path, 0, DATA[:90])
    body: Any = iter([DATA[90:95], DATA[:20]]) if chunked else DATA[:20]
    reply = patch(served, path, 90, body)
    assert (reply.status, reply.json["code"]) == (413, "beyond_the_end")
    at = offset(served, path)
    assert at in ((90, 95) if chunked else (90,))
    assert stored(house, path) == DATA[:at]
    assert patch(served, path, at, DATA[at:100]).status == 204


def test_bytes_behind_a_complete_upload_are_refused(served: Served, house: House) -> None:
    path = create(served, 100)
    patch(served, path, 0, DATA[:100])
    for body in (b"more", iter([b"more"])):
        reply = patch(served, path, 100, body)
        assert (reply.status, reply.json["code"]) == (413, "beyond_the_end")
    assert patch(served, path, 100, b"").status == 204
    assert patch(served, path, 50, b"x").status == 409
    assert stored(house, path) == DATA[:100]


def test_a_chunk_without_bytes_changes_nothing(served: Served) -> None:
    path = create(served)
    reply = patch(served, path, 0, b"")
    assert (reply.status, reply["upload-offset"]) == (204, "0")


def test_what_arrived_of_a_broken_body_is_kept(served: Served, house: House) -> None:
    path = create(served)
    connection = served.raw(
        f"""PATCH {path} HTTP/1.1
Host: 127.0.0.1
Tus-Resumable: 1.0.0
Content-Type: application/offset+octet-stream
Upload-Offset: 0
Content-Length: {len(DATA)}""",
        DATA[:5000],
    )
    connection.shutdown(socket.SHUT_WR)
    connection.close()
    settle(house.uploads, id_of(path), lambda task: task.offset == 5000)
    assert offset(served, path) == 5000
    assert patch(served, path, 5000, DATA[5000:]).status == 204
    assert stored(house, path) == DATA


def sending(served: Served, path: str, at: int = 0, size: int = len(DATA), body: bytes = b"") -> socket.socket:
    """A connection that has begun to send; what it does next is the test's affair."""
    connection = served.raw(
        f"""PATCH {path} HTTP/1.1
Host: 127.0.0.1
Tus-Resumable: 1.0.0
Content-Type: application/offset+octet-stream
Upload-Offset: {at}
Content-Length: {size - at}
Expect: 100-continue"""
    )
    assert b" 100 " in answer(connection)
    connection.sendall(body)
    return connection


def test_a_client_that_comes_back_has_the_upload_at_once(served: Served, house: House) -> None:
    path, arrival = create(served), Arrival(house, 3000)
    hanging = sending(served, path, body=DATA[:3000])
    arrival.wait()
    assert house.uploads.get(id_of(path)).offset == 0  # not on record until somebody asks
    assert offset(served, path) == 3000
    assert b" 423 " in answer(hanging)
    assert patch(served, path, 3000, DATA[3000:]).status == 204
    hanging.close()
    assert stored(house, path) == DATA
    assert house.uploads.get(id_of(path)).state is State.UPLOADCOMPLETE


def test_a_newcomer_that_does_not_ask_first_has_it_too(served: Served, house: House) -> None:
    path, arrival = create(served), Arrival(house, 3000)
    hanging = sending(served, path, body=DATA[:3000])
    arrival.wait()
    reply = patch(served, path, 0, DATA)
    assert (reply.status, reply["upload-offset"]) == (409, "3000")
    assert b" 423 " in answer(hanging)
    hanging.close()
    assert patch(served, path, 3000, DATA[3000:]).status == 204
    assert stored(house, path) == DATA


def test_a_checksum_that_was_under_way_is_not_believed_when_somebody_takes_over(served: Served, house: House) -> None:
    path, arrival = create(served), Arrival(house, 3000)
    hanging = served.raw(
        f"""PATCH {path} HTTP/1.1
Host: 127.0.0.1
Tus-Resumable: 1.0.0
Content-Type: application/offset+octet-stream
Upload-Offset: 0
Upload-Checksum: {checksum(DATA)}
Content-Length: {len(DATA)}""",
        DATA[:3000],
    )
    arrival.wait()
    assert offset(served, path) == 0  # what was promised to be checked was not
    hanging.close()
    assert patch(served, path, 0, DATA).status == 204
    assert stored(house, path) == DATA


def test_a_removal_ends_who_sends(served: Served, house: House) -> None:
    path, arrival = create(served), Arrival(house, 3000)
    hanging = sending(served, path, body=DATA[:3000])
    arrival.wait()
    assert served("DELETE", path, VERSION).status == 204
    assert b" 423 " in answer(hanging)
    hanging.close()


def test_a_body_that_pauses_too_long_is_told_to_go_and_kept(house: House, watch: Watch) -> None:
    with standing(house, body_idle=0.2) as served:
        path, arrival = create(served), Arrival(house, 77)
        slow = sending(served, path, body=DATA[:77])
        arrival.wait()
        watch.run()
        assert b" 408 " in answer(slow)
        slow.close()
        assert offset(served, path) == 77


def test_a_stop_keeps_what_came(house: House) -> None:
    with standing(house) as served:
        path, arrival = create(served), Arrival(house, 77)
        connection = sending(served, path, body=DATA[:77])
        arrival.wait()
        app = served.app
        assert isinstance(app, Whole)
        app.loop.call_soon_threadsafe(app.core.drain)
        assert b" 503 " in answer(connection)
        connection.close()
        reply = patch(served, path, 77, b"x")
        assert (reply.status, reply["retry-after"]) == (503, "5")
    assert house.uploads.get(id_of(path)).offset == 77


# ── creation ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_creation_is_201_with_the_address(served: Served, house: House) -> None:
    reply = served("POST", "/files/", {**VERSION, "Upload-Length": "5"})
    assert reply.status == 201
    assert house.uploads.get(id_of(urljoin("/files/", reply["location"]))).filesize == 5


@pytest.mark.parametrize("base", ["http://music.example/files", "https://music.example:8443/some/where/files"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_address_is_right_behind_whatever_a_proxy_makes_of_it(served: Served, base: str, slash: str) -> None:
    """A proxy that ends TLS, renames the host and takes a prefix away; nobody has to believe its header fields."""
    lies = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "ftp", "Forwarded": "host=evil.example"}
    reply = served("POST", "/files" + slash, {**VERSION, **lies, "Upload-Length": "5"})
    address = urljoin(base + slash, reply["location"])
    assert address.startswith(base + "/")
    assert head(served, "/files/" + address.removeprefix(base + "/")).status == 200


@pytest.mark.parametrize("path", ["/files/", "/files"])
def test_the_address_is_right_below_a_mount_path(house: House, path: str) -> None:
    core = core_of(house.uploads, parts=False, data=house.root / "served")
    with serve(Whole(core), root_path="/music/server") as served:
        address = create(served, path=path)  # uvicorn puts the root path in front, as the specification of ASGI says
        assert head(served, address).status == 200


@pytest.mark.parametrize("size", [(1 << 40) + 1, 10**30])
def test_a_file_that_is_too_big_is_413(served: Served, house: House, size: int) -> None:
    reply = served("POST", "/files/", {**VERSION, "Upload-Length": str(size)})
    assert (reply.status, reply.json["code"]) == (413, "file_too_large")
    assert not house.uploads.list()


def test_an_empty_file_is_complete_at_once(served: Served, house: House) -> None:
    path = create(served, 0)
    assert house.uploads.get(id_of(path)).state is State.UPLOADCOMPLETE
    reply = head(served, path)
    assert (reply["upload-offset"], reply["upload-length"]) == ("0", "0")


@pytest.mark.parametrize("text", ["filename", "a YQ==,a YQ==", "a YQ", "a not base64!", ",", "a YQ==,", "a YQ== YQ=="])
def test_metadata_has_unique_keys_and_base64(served: Served, text: str) -> None:
    reply = served("POST", "/files/", {**VERSION, "Upload-Length": "5", "Upload-Metadata": text})
    if text == "filename":
        assert reply.status == 201  # a value may be absent
    else:
        assert (reply.status, reply.json["code"]) == (400, "invalid_metadata")


@pytest.mark.parametrize("key", ["sha1", "checksum"])
def test_metadata_that_is_understood(served: Served, house: House, key: str) -> None:
    sha1 = SHA1.hexdigest().upper()
    metadata = meta(filename="x.wav", filetype="audio/wav", contenttype="sound", mood="loud", **{key: sha1})
    task = house.uploads.get(id_of(create(served, Upload_Metadata=metadata)))
    assert (task.sourcefilename, task.mimetype, task.contenttype) == ("x.wav", "audio/wav", "sound")
    assert task.sourcechecksum == SHA1.hexdigest()
    assert task.annotations == {"mood": "loud"}


def test_without_a_checksum_the_server_computes_it(served: Served, house: House) -> None:
    path = create(served)
    assert house.uploads.get(id_of(path)).sourcechecksum is None
    patch(served, path, 0, DATA)
    assert house.uploads.get(id_of(path)).sourcechecksum == SHA1.hexdigest()


def test_a_file_that_is_not_what_was_declared_is_460_and_gone(served: Served, house: House) -> None:
    path = create(served, Upload_Metadata=meta(filename="a.mp4", sha1="0" * 40))
    reply = patch(served, path, 0, DATA)
    assert (reply.status, reply.json["code"]) == (460, "checksum_mismatch")
    assert house.uploads.get(id_of(path)).state is State.UPLOADFAILED
    again = head(served, path)  # what makes a client begin anew
    assert again.status == 410
    assert "upload-offset" not in again
    assert patch(served, path, 0, DATA).status == 410


def test_a_length_can_come_later(served: Served, house: House) -> None:
    path = create(served, None)
    reply = head(served, path)
    assert (reply["upload-defer-length"], reply["upload-offset"]) == ("1", "0")
    assert "upload-length" not in reply
    patch(served, path, 0, DATA[:100])
    assert head(served, path)["upload-defer-length"] == "1"
    assert patch(served, path, 100, DATA[100:200], Upload_Length=str(len(DATA))).status == 204
    reply = head(served, path)
    assert reply["upload-length"] == str(len(DATA))
    assert "upload-defer-length" not in reply
    changed = patch(served, path, 200, DATA[200:300], Upload_Length="999")
    assert (changed.status, changed.json["code"]) == (409, "declared_already")
    assert offset(served, path) == 200
    assert patch(served, path, 200, DATA[200:], Upload_Length=str(len(DATA))).status == 204
    assert stored(house, path) == DATA


def test_a_length_that_comes_with_nothing_completes(served: Served, house: House) -> None:
    path = create(served, None)
    patch(served, path, 0, DATA)
    assert patch(served, path, len(DATA), b"", Upload_Length=str(len(DATA))).status == 204
    assert house.uploads.get(id_of(path)).state is State.UPLOADCOMPLETE


def test_a_length_with_a_wrong_offset_stays_unknown(served: Served) -> None:
    path = create(served, None)
    assert patch(served, path, 5, b"x", Upload_Length="10").status == 409
    assert head(served, path)["upload-defer-length"] == "1"


@pytest.mark.parametrize(
    "headers", [{"Upload-Defer-Length": "2"}, {"Upload-Defer-Length": "1", "Upload-Length": "5"}, {}]
)
def test_a_length_is_told_or_deferred_by_1(served: Served, headers: dict[str, str]) -> None:
    assert served("POST", "/files/", {**VERSION, **headers}).status == 400


@pytest.mark.parametrize("size", [100, len(DATA)])
def test_the_first_bytes_come_with_the_creation(served: Served, house: House, size: int) -> None:
    headers = {**BYTES, "Upload-Length": str(len(DATA))}
    reply = served("POST", "/files/", headers, DATA[:size])
    assert (reply.status, reply["upload-offset"]) == (201, str(size))
    path = urljoin("/files/", reply["location"])
    if size < len(DATA):
        patch(served, path, size, DATA[size:])
    assert stored(house, path) == DATA


def test_a_creation_whose_bytes_are_wrong_leaves_nothing(served: Served, house: House) -> None:
    headers = {**BYTES, "Upload-Length": str(len(DATA)), "Upload-Checksum": checksum(b"other")}
    reply = served("POST", "/files/", headers, DATA[:100])
    assert (reply.status, reply.json["code"]) == (460, "body_checksum_mismatch")
    reply = served("POST", "/files/", {**BYTES, "Upload-Length": "10"}, iter([DATA[:100]]))
    assert (reply.status, reply.json["code"]) == (413, "beyond_the_end")
    assert [line.state for line in house.uploads.list()] == [State.REMOVE] * 2


def test_a_creation_that_is_interrupted_says_where_to_go_on(house: House, watch: Watch) -> None:
    with standing(house, body_idle=0.2) as served:
        arrival = Arrival(house, 77)
        connection = served.raw(
            """POST /files/ HTTP/1.1
Host: 127.0.0.1
Tus-Resumable: 1.0.0
Content-Type: application/offset+octet-stream
Upload-Length: 1000
Content-Length: 1000""",
            DATA[:77],
        )
        arrival.wait()
        watch.run()
        reply = answer(connection).lower()
        connection.close()
        assert b" 201 " in reply
        assert b"upload-offset: 77" in reply


# ── expiration ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_deadline_is_told_until_the_upload_is_complete(served: Served, house: House) -> None:
    reply = served("POST", "/files/", {**VERSION, "Upload-Length": str(len(DATA))})
    path = urljoin("/files/", reply["location"])
    deadline = house.uploads.get(id_of(path)).deadline
    told = [reply, head(served, path), patch(served, path, 0, b"x"), patch(served, path, 0, b"wrong offset")]
    for each in told:
        assert parsedate_to_datetime(each["upload-expires"]).timestamp() == deadline
    assert "upload-expires" not in patch(served, path, 1, DATA[1:])
    assert "upload-expires" not in head(served, path)


def test_what_has_expired_is_gone(served: Served, house: House) -> None:
    path = create(served)
    patch(served, path, 0, b"x")
    house.clock.forward(8 * 86_400)
    for reply in (head(served, path), patch(served, path, 1, b"x")):
        assert reply.status == 410
        assert "upload-offset" not in reply
    assert house.uploads.sweep() == 1
    assert head(served, path).status == 410  # as long as something is left that tells
    house.worker.drain()
    assert head(served, path).status == 404


# ── checksum ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_a_checksum_is_verified(served: Served, house: House, name: str) -> None:
    path = create(served)
    assert patch(served, path, 0, DATA[:500], Upload_Checksum=checksum(DATA[:500], name)).status == 204
    reply = patch(served, path, 500, DATA[500:900], Upload_Checksum=checksum(b"other", name))
    assert (reply.status, reply.json["code"], reply["upload-offset"]) == (460, "body_checksum_mismatch", "500")
    assert offset(served, path) == 500
    assert stored(house, path) == DATA[:500]
    assert patch(served, path, 500, DATA[500:], Upload_Checksum=checksum(DATA[500:], name)).status == 204
    assert stored(house, path) == DATA


@pytest.mark.parametrize(
    ("value", "code"),
    [("md5 " + "A" * 24, "unsupported_algorithm"), ("sha1", "invalid_checksum"), ("sha1 !", "invalid_checksum")],
)
def test_an_unknown_checksum_is_400_and_the_chunk_discarded(served: Served, value: str, code: str) -> None:
    path = create(served)
    reply = patch(served, path, 0, DATA[:500], Upload_Checksum=value)
    assert (reply.status, reply.json["code"]) == (400, code)
    assert offset(served, path) == 0


def test_a_checksum_in_a_trailer_is_not_offered(served: Served) -> None:
    path = create(served)
    reply = patch(served, path, 0, iter([b"abc"]), Trailer="Upload-Checksum")
    assert (reply.status, reply.json["code"]) == (400, "not_offered")


# ── termination ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_terminated_is_gone(served: Served, house: House) -> None:
    path = create(served)
    patch(served, path, 0, DATA[:100])
    assert served("DELETE", path, VERSION).status == 204
    assert head(served, path).status == 410
    assert served("DELETE", path, VERSION).status == 410
    house.worker.drain()
    for reply in (head(served, path), patch(served, path, 100, b"x"), served("DELETE", path, VERSION)):
        assert reply.status == 404


# ── concatenation ─────────────────────────────────────────────────────────────────────────────────────────────


def part(served: Served, data: bytes) -> str:
    path = create(served, len(data), Upload_Concat="partial")
    assert patch(served, path, 0, data).status == 204
    return path


def final(served: Served, *parts: str, **more: str) -> Reply:
    headers = {**VERSION, "Upload-Concat": "final;" + " ".join(parts)}
    return served("POST", "/files/", {**headers, **{key.replace("_", "-"): value for key, value in more.items()}})


def test_parts_become_a_file(served: Served, house: House) -> None:
    one, two = part(served, DATA[:4000]), part(served, DATA[4000:])
    assert head(served, one)["upload-concat"] == "partial"
    assert not house.uploads.list()  # nobody hears of parts
    reply = final(served, one, two, Upload_Metadata=meta(filename="whole.mp4"))
    assert reply.status == 201
    path = urljoin("/files/", reply["location"])
    settle(house.uploads, id_of(path), lambda task: task.state is State.UPLOADCOMPLETE)
    assert stored(house, path) == DATA
    told = head(served, path)
    assert told["upload-concat"] == f"final;{one} {two}"
    assert (told["upload-offset"], told["upload-length"]) == (str(len(DATA)), str(len(DATA)))
    assert told["upload-metadata"] == meta(filename="whole.mp4")
    assert house.uploads.get(id_of(path)).sourcechecksum == SHA1.hexdigest()


def test_parts_become_a_file_though_clients_wait_for_more_than_can_be_done(served: Served, house: House) -> None:
    served.app.core._steps.calls = 10_000  # type: ignore[attr-defined]
    path = urljoin("/files/", final(served, part(served, DATA[:5000]), part(served, DATA[5000:]))["location"])
    settle(house.uploads, id_of(path), lambda task: task.state is State.UPLOADCOMPLETE)
    assert stored(house, path) == DATA


def test_parts_can_be_used_again_and_twice(served: Served, house: House) -> None:
    one, two = part(served, b"one"), part(served, b"two")
    for parts, whole in (((one, two), b"onetwo"), ((two, one, two), b"twoonetwo")):
        path = urljoin("/files/", final(served, *parts)["location"])
        settle(house.uploads, id_of(path), lambda task: task.state is State.UPLOADCOMPLETE)
        assert stored(house, path) == whole


@pytest.mark.parametrize("prefix", ["http://127.0.0.1/files/", "https://music.example/behind/a/proxy/files/", ""])
def test_parts_are_found_as_their_client_sees_them(served: Served, house: House, prefix: str) -> None:
    names = [id_of(part(served, b"one")), id_of(part(served, b"two"))]
    reply = final(served, *(prefix + name for name in names))
    assert reply.status == 201, reply.body
    path = urljoin("/files/", reply["location"])
    settle(house.uploads, id_of(path), lambda task: task.state is State.UPLOADCOMPLETE)
    assert stored(house, path) == b"onetwo"


def test_metadata_of_parts_is_not_inherited(served: Served, house: House) -> None:
    one = create(served, 3, Upload_Concat="partial", Upload_Metadata=meta(filename="part", mood="low"))
    patch(served, one, 0, b"one")
    assert head(served, one)["upload-metadata"] == meta(filename="part", mood="low")
    path = urljoin("/files/", final(served, one)["location"])
    assert "upload-metadata" not in head(served, path)
    task = house.uploads.get(id_of(path))
    assert (task.sourcefilename, task.annotations) == ("", {})


def test_a_final_upload_takes_no_bytes_and_no_length(served: Served) -> None:
    one = part(served, b"one")
    path = urljoin("/files/", final(served, one)["location"])
    reply = patch(served, path, 0, b"x")
    assert (reply.status, reply.json["code"]) == (403, "final_upload")
    assert "upload-offset" not in reply
    assert final(served, one, Upload_Length="3").status == 400
    with_bytes = served("POST", "/files/", {**BYTES, "Upload-Concat": f"final;{one}"}, b"x")
    assert with_bytes.status == 403
    draft = {"Content-Type": "application/partial-upload", "Upload-Offset": "0", "Upload-Complete": "?0"}
    assert served("PATCH", path.replace("/files/", "/uploads/"), draft, b"x").status == 403


def test_only_finished_parts_can_be_put_together(served: Served, house: House) -> None:
    unfinished = create(served, 10, Upload_Concat="partial")
    whole = create(served, 3)
    patch(served, whole, 0, b"abc")
    for reference, code in (
        (unfinished, "unfinished_part"),
        (whole, "invalid_part"),
        ("/files/part-none", "invalid_part"),
        ("/etc/passwd", "invalid_part"),
        ("", "invalid_part"),
    ):
        reply = final(served, reference)
        assert (reply.status, reply.json["code"]) == (400, code)
    assert [line.id for line in house.uploads.list()] == [id_of(whole)]


def test_empty_parts_become_an_empty_file(served: Served, house: House) -> None:
    path = urljoin("/files/", final(served, create(served, 0, Upload_Concat="partial"))["location"])
    assert house.uploads.get(id_of(path)).state is State.UPLOADCOMPLETE
    assert head(served, path)["upload-offset"] == "0"


def test_a_part_can_have_its_length_later_and_be_terminated(served: Served) -> None:
    path = create(served, None, Upload_Concat="partial")
    patch(served, path, 0, b"abc", Upload_Length="3")
    assert head(served, path)["upload-length"] == "3"
    assert served("DELETE", path, VERSION).status == 204
    assert head(served, path).status == 404


def test_a_final_upload_is_gone_on_with_after_a_restart(house: House) -> None:
    """Its first part is copied, then the server stops, and another one goes on."""
    with standing(house, progress=1) as served:
        one, two = part(served, DATA[:4000]), part(served, DATA[4000:])
        standstill = house.gate()
        house.before["bytes.append"] = lambda key, at, data: standstill() if at else None
        path = urljoin("/files/", final(served, one, two)["location"])
        standstill.reached()
        told = head(served, path)
        assert told["upload-length"] == str(len(DATA))
        assert "upload-offset" not in told  # until it is made
        assert served("DELETE", one, VERSION).status == 423  # it is needed
        app = served.app
        assert isinstance(app, Whole)
        app.loop.call_soon_threadsafe(app.core.drain)
        house.before.pop("bytes.append")
        standstill.open()
    assert house.uploads.get(id_of(path)).offset >= 4000
    house.restart()
    with standing(house, worker=True) as served:
        settle(house.uploads, id_of(path), lambda task: task.state not in (State.WAITFORCHUNK,))
        assert stored(house, path) == DATA
        assert served("DELETE", one, VERSION).status == 204
        assert head(served, two).status == 200


def fail(*_: object) -> None:
    raise StorageError("The disk is tired.")


def test_one_that_cannot_be_read_at_the_start_holds_up_no_other(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with standing(house) as served:
        one = part(served, b"one")
        house.before["bytes.append"] = fail
        first = urljoin("/files/", final(served, one)["location"])
    house.before.pop("bytes.append")
    house.restart()
    tried = threading.Event()

    def unreadable(uploadid: str) -> None:
        if uploadid == id_of(first):
            tried.set()
            fail()

    house.before["tasks.get"] = unreadable
    with standing(house) as served:
        assert tried.wait(PATIENCE)
        second = urljoin("/files/", final(served, one)["location"])
        settle(house.uploads, id_of(second), lambda task: task.state is State.UPLOADCOMPLETE)
        house.before.pop("tasks.get")
        house.uploads.retry(id_of(first))
        third = urljoin("/files/", final(served, one)["location"])  # with it all are looked at again
        for path in (first, third):
            settle(house.uploads, id_of(path), lambda task: task.state is State.UPLOADCOMPLETE)
            assert stored(house, path) == b"one"
    assert "cannot be read now: The disk is tired." in caplog.text


def test_one_that_cannot_be_removed_is_removed_later(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with standing(house) as served:
        app = served.app
        assert isinstance(app, Whole)
        assert app.core.parts is not None
        assembly = Assembly(app.core, app.core.parts)
        house.uploads.initiate(house.offer("one", wire={PARTS: ("none",)}))
        with assembly.expecting("one", ("none",)):
            pass
        house.before["tasks.cas"] = fail
        assembly._make("one")
        assert "cannot be removed now: The disk is tired." in caplog.text
        assert assembly.needs("none")
        house.before.pop("tasks.cas")
        assembly._make("one")
        assert house.uploads.get("one").state is State.REMOVE
        assert not assembly.needs("none")


def test_a_job_that_ends_says_so(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async def job() -> None:
        raise ValueError("by mistake")

    async def main() -> None:
        core = core_of(house.uploads, parts=False)
        core.background(job)
        await core.start()
        for _ in range(3):
            await asyncio.sleep(0)
        await core.stop()

    asyncio.run(main())
    assert "a job of the background has ended" in caplog.text
    assert "by mistake" in caplog.text


def test_parts_expire(house: House) -> None:
    with standing(house) as served:
        done, begun, needed = part(served, b"one"), create(served, 10, Upload_Concat="partial"), part(served, b"two")
        deadline = house.clock() + 7 * 86_400
        for path in (done, begun):
            assert parsedate_to_datetime(head(served, path)["upload-expires"]).timestamp() == deadline
        house.clock.forward(8 * 86_400)
        assert [head(served, path).status for path in (done, begun, needed)] == [410] * 3
        assert final(served, needed).status == 400
        app = served.app
        assert isinstance(app, Whole)
        assert app.core.parts is not None  # no worker looks after it
        assert Assembly(app.core, app.core.parts).sweep() == 3
        assert not app.core.parts.list()
        assert [head(served, path).status for path in (done, begun)] == [404] * 2


# ── in later states ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", [State.PREPROCESSED, State.INVALIDCONTENT, State.IMPORTCOMPLETE])
def test_a_complete_upload_has_its_length_as_offset(served: Served, house: House, state: State) -> None:
    task = house.bring(state)
    reply = head(served, f"/files/{task.id}")
    assert (reply["upload-offset"], reply["upload-length"]) == (str(task.filesize), str(task.filesize))


def test_get_points_to_the_page_of_the_upload(served: Served) -> None:
    path = create(served)
    reply = served("GET", path)
    assert reply.status == 303
    page = urljoin(path, reply["location"])
    assert page == f"/api/uploads/{id_of(path)}"
    assert served("GET", page).json["id"] == id_of(path)
    assert served("GET", "/files/none").status == 404
    assert served("GET", "/files/", VERSION).status == 405


# ── who may ───────────────────────────────────────────────────────────────────────────────────────────────────


def everything(root: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for directory, _, files in os.walk(root):
        for name in files:
            info = (Path(directory) / name).stat()
            found[str(Path(directory) / name)] = (info.st_size, info.st_mtime_ns)
    return found


@pytest.mark.parametrize("key", [None, "Bearer wrong-key-entirely", "Basic c2VjcmV0"])
def test_bytes_without_a_key_never_reach_the_disk(house: House, key: str | None) -> None:
    with standing(house, keys=("secret-key",)) as served:
        allowed = {"Authorization": "Bearer secret-key"}
        path = create(served, Authorization=allowed["Authorization"])
        before = everything(house.root)
        stranger = {} if key is None else {"Authorization": key}
        post = served("POST", "/files/", {**BYTES, **stranger, "Upload-Length": "9000"}, DATA[:9000])
        sent = patch(served, path, 0, DATA, **stranger)
        assert (post.status, sent.status) == (401, 401)
        assert post["tus-resumable"] == sent["tus-resumable"] == "1.0.0"
        assert everything(house.root) == before
        assert served("HEAD", path, {**VERSION, **allowed})["upload-offset"] == "0"
        assert patch(served, path, 0, DATA, **allowed).status == 204


def test_a_page_of_an_allowed_origin_may_ask_and_read(house: House) -> None:
    origin = "https://music.example"
    with standing(house, keys=("secret-key",), origins=(origin,)) as served:
        asks = {"Origin": origin, "Access-Control-Request-Method": "PATCH"}
        reply = served("OPTIONS", "/files/any", asks)
        assert (reply.status, reply["access-control-allow-origin"]) == (204, origin)
        assert "Upload-Offset" in reply["access-control-allow-headers"]
        refused = served("POST", "/files/", {**VERSION, "Origin": origin})  # without the key
        assert (refused.status, refused["access-control-allow-origin"]) == (401, origin)
        assert "Location" in refused["access-control-expose-headers"]
        other = served("POST", "/files/", {**VERSION, "Origin": "https://evil.example", "Upload-Length": "5"})
        assert other.status == 403
        assert "access-control-allow-origin" not in other


def test_a_stranger_is_refused_before_the_body_is_asked_for(house: House) -> None:
    with standing(house, keys=("secret-key",)) as served:
        connection = served.raw(
            """POST /files/ HTTP/1.1
Host: 127.0.0.1
Tus-Resumable: 1.0.0
Content-Type: application/offset+octet-stream
Upload-Length: 1000
Content-Length: 1000
Expect: 100-continue"""
        )
        assert answer(connection).startswith(b"HTTP/1.1 401 ")  # and no 100 before it
        connection.close()
