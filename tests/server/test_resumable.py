"""The IETF draft over a real server, by the interop versions that clients speak."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest

from stagedoor.lifecycle import State
from stagedoor.server import resumable
from stagedoor.server.core import Core
from stagedoor.tasks import UploadTask

from .serving import Arrival, Reply, Served, Watch, Whole, answer, core_of, serve, settle, standing

if TYPE_CHECKING:
    from conftest import House

DATA = bytes(range(256)) * 40
IANA = "https://iana.org/assignments/http-problem-types#"

every_version = pytest.mark.parametrize("version", [5, 6, 7, 8, 9])


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.fixture
def served(house: House) -> Iterator[Served]:
    with standing(house) as running:
        yield running


def told(version: int | None, **more: str) -> dict[str, str]:
    headers = {} if version is None else {"Upload-Draft-Interop-Version": str(version)}
    return {**headers, **{key.replace("_", "-"): value for key, value in more.items()}}


def create(
    served: Served, body: Any = b"", version: int | None = 9, complete: str = "?0", path: str = "/uploads/", **more: str
) -> Reply:
    return served("POST", path, told(version, Upload_Complete=complete, **more), body)


def begun(served: Served, body: Any = b"", version: int | None = 9, **more: str) -> str:
    reply = create(served, body, version, **more)
    assert reply.status == 201, reply.body
    return urljoin("/uploads/", reply["location"])


def append(
    served: Served, path: str, offset: int, body: Any, version: int | None = 9, complete: str = "?0", **more: str
) -> Reply:
    headers = {"Content_Type": "application/partial-upload", "Upload_Offset": str(offset), **more}
    return served("PATCH", path, told(version, Upload_Complete=complete, **headers), body)


def state(served: Served, path: str, version: int | None = 9, method: str = "HEAD") -> Reply:
    return served(method, path, told(version))


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


def stored(house: House, path: str) -> bytes:
    task = house.uploads.get(id_of(path))
    with house.uploads.ports.bytes.open(task.key) as file:
        return file.read()


def digest(name: str, data: bytes) -> str:
    names = {"sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
    return f"{name}=:{base64.b64encode(hashlib.new(names[name], data).digest()).decode()}:"


# ── the way of a file ─────────────────────────────────────────────────────────────────────────────────────────


@every_version
def test_a_file_in_one_request(served: Served, house: House, version: int) -> None:
    reply = create(
        served, DATA, version, "?1", Content_Type="video/mp4", Content_Disposition='attachment; filename="film.mp4"'
    )
    assert reply.status == 201
    assert (reply["upload-complete"], reply["upload-offset"]) == ("?1", str(len(DATA)))
    path = urljoin("/uploads/", reply["location"])
    task = house.uploads.get(id_of(path))
    assert (task.state, task.filesize, task.sourcefilename, task.mimetype) == (
        State.UPLOADCOMPLETE, len(DATA), "film.mp4", "video/mp4",
    )  # fmt: skip
    assert stored(house, path) == DATA


@every_version
def test_a_file_in_several_requests(served: Served, house: House, version: int) -> None:
    path = begun(served, DATA[:4000], version)
    reply = append(served, path, 4000, DATA[4000:6000], version)
    assert reply.status == (204 if version >= 7 else 201)
    assert (reply["upload-complete"], reply["upload-offset"]) == ("?0", "6000")
    assert house.uploads.get(id_of(path)).filesize is None  # nobody has said it
    reply = append(served, path, 6000, DATA[6000:], version, "?1")
    assert (reply.status, reply["upload-complete"]) == (201, "?1")
    assert urljoin(path, reply["location"]) == f"/api/uploads/{id_of(path)}"
    assert house.uploads.get(id_of(path)).state is State.UPLOADCOMPLETE
    assert stored(house, path) == DATA


def test_who_says_no_version_speaks_the_newest(served: Served) -> None:
    path = begun(served, DATA[:10], version=None)
    assert append(served, path, 10, b"x", version=None).status == 204


@pytest.mark.parametrize("version", ["4", "10", "?1", "six"])
def test_other_versions_are_refused(served: Served, version: str) -> None:
    reply = served("POST", "/uploads/", {"Upload-Draft-Interop-Version": version, "Upload-Complete": "?1"}, DATA)
    assert (reply.status, reply.json["code"]) == (400, "unsupported_version")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_may_have_no_length(served: Served, house: House, method: str, chunked: bool) -> None:
    body: Any = iter([DATA[:99], DATA[99:]]) if chunked else DATA
    reply = served(method, "/uploads/", told(9, Upload_Complete="?1"), body)
    assert (reply.status, reply["upload-complete"]) == (201, "?1")
    assert stored(house, urljoin("/uploads/", reply["location"])) == DATA


@every_version
def test_an_empty_last_request_completes(served: Served, house: House, version: int) -> None:
    path = begun(served, DATA, version)
    reply = append(served, path, len(DATA), b"", version, "?1")
    assert (reply.status, reply["upload-complete"]) == (201, "?1")
    assert house.uploads.get(id_of(path)).state is State.UPLOADCOMPLETE
    again = append(served, path, len(DATA), b"", version, "?1")  # its answer was lost
    assert (again.status, again["upload-complete"]) == (201, "?1")


def test_an_empty_file_is_complete_at_once(served: Served, house: House) -> None:
    reply = create(served, b"", 9, "?1")
    assert (reply.status, reply["upload-complete"], reply["upload-offset"]) == (201, "?1", "0")
    task = house.uploads.get(id_of(urljoin("/uploads/", reply["location"])))
    assert (task.state, task.filesize) == (State.UPLOADCOMPLETE, 0)


def test_a_length_that_is_reached_completes(served: Served, house: House) -> None:
    path = begun(served, DATA[:100], Upload_Length="200")
    reply = append(served, path, 100, DATA[100:200])
    assert (reply.status, reply["upload-complete"]) == (201, "?1")
    assert append(served, path, 200, b"", complete="?1").status == 201


def test_a_missing_upload_complete_is_refused(served: Served, house: House) -> None:
    reply = served("POST", "/uploads/", told(9), DATA)
    assert (reply.status, reply.json["code"]) == (400, "complete_missing")
    assert not house.uploads.list()


# ── fields of answers ─────────────────────────────────────────────────────────────────────────────────────────


@every_version
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_head_and_get_say_where_an_upload_stands(served: Served, version: int, method: str) -> None:
    path = begun(served, DATA[:100], version, Upload_Length="200")
    reply = state(served, path, version, method)
    assert reply.status == 204
    assert (reply["upload-offset"], reply["upload-complete"], reply["upload-length"]) == ("100", "?0", "200")
    assert reply["cache-control"] == "no-store"
    if version >= 6:
        life = "max-age" if version >= 7 else "expires"
        assert reply["upload-limit"] == f"max-size=1099511627776, {life}=604800"
    append(served, path, 100, DATA[100:200], version, "?1")
    reply = state(served, path, version, method)
    assert (reply["upload-offset"], reply["upload-complete"]) == ("200", "?1")


def test_a_length_that_is_not_known_is_not_told(served: Served) -> None:
    assert "upload-length" not in state(served, begun(served, DATA[:100]))


@pytest.mark.parametrize("where", ["/uploads/", "/uploads", "/uploads/any"])
def test_options_tells_the_limits(served: Served, where: str) -> None:
    reply = served("OPTIONS", where)
    assert reply.status == 204
    assert reply["upload-limit"] == "max-size=1099511627776"
    assert reply["accept-patch"] == "application/partial-upload"


def test_a_creation_tells_the_limits(served: Served) -> None:
    assert create(served)["upload-limit"] == "max-size=1099511627776, max-age=604800"


@pytest.mark.parametrize("path", ["/uploads/", "/uploads"])
def test_the_address_is_right_wherever_it_is_mounted(house: House, path: str) -> None:
    core = core_of(house.uploads, parts=False, data=house.root / "served")
    with serve(Whole(core), root_path="/music") as served:
        reply = create(served, path=path)
        assert state(served, urljoin(path, reply["location"])).status == 204
        assert urljoin("https://proxy.example/music" + path, reply["location"]).startswith(
            "https://proxy.example/music/uploads/"
        )


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────


@every_version
@pytest.mark.parametrize("wrong", [0, 99, 101])
def test_a_wrong_offset_is_409_with_the_right_one(served: Served, house: House, version: int, wrong: int) -> None:
    path = begun(served, DATA[:100], version)
    reply = append(served, path, wrong, b"more", version)
    assert (reply.status, reply["upload-offset"], reply["upload-complete"]) == (409, "100", "?0")
    assert reply["content-type"] == "application/problem+json"
    assert reply.json["type"] == IANA + "mismatching-upload-offset"
    assert (reply.json["expected-offset"], reply.json["provided-offset"]) == (100, wrong)
    assert stored(house, path) == DATA[:100]


def test_lengths_that_contradict_each_other(served: Served, house: House) -> None:
    path = begun(served, DATA[:100], Upload_Length="200")
    replies = [
        create(served, DATA[:100], 9, "?1", Upload_Length="200"),
        append(served, path, 100, DATA[100:200], Upload_Length="300"),
        append(served, path, 100, DATA[100:150], complete="?1"),
        append(served, path, 100, DATA[100:300]),
        append(served, path, 100, iter([DATA[100:150]]), complete="?1"),
    ]
    for reply in replies:
        assert (reply.status, reply.json["type"]) == (400, IANA + "inconsistent-upload-length"), reply.body
    # Of the last one the end was seen only when its bytes had come: they are right all the same.
    assert state(served, path)["upload-offset"] == "150"
    assert stored(house, path) == DATA[:150]


def test_more_than_the_length_is_not_stored(served: Served, house: House) -> None:
    path = begun(served, DATA[:100], Upload_Length="150")
    reply = append(served, path, 100, iter([DATA[100:200]]))
    assert (reply.status, reply.json["type"]) == (400, IANA + "inconsistent-upload-length")
    assert stored(house, path) == DATA[:100]


def test_nothing_can_be_added_to_a_complete_upload(served: Served, house: House) -> None:
    path = begun(served, DATA[:100], complete="?1")
    for complete in ("?0", "?1"):
        for body in (b"more", iter([b"more"])):
            reply = append(served, path, 100, body, complete=complete)
            assert reply.status == 400
            assert reply["upload-complete"] == "?1"
    assert append(served, path, 100, b"", complete="?0").json["type"] == IANA + "completed-upload"
    assert stored(house, path) == DATA[:100]


@every_version
def test_another_media_type_is_415_from_6_on(served: Served, version: int) -> None:
    path = begun(served, b"", version)
    reply = append(served, path, 0, DATA[:10], version, Content_Type="application/octet-stream")
    if version < 6:
        assert reply.status == 201
    else:
        assert (reply.status, reply["accept-patch"]) == (415, "application/partial-upload")
        assert state(served, path, version)["upload-offset"] == "0"


def test_a_file_that_is_too_big_is_413(house: House) -> None:
    house.restart(max_file_size=1000)
    with standing(house) as served:
        reply = create(served, b"", Upload_Length="1001")
        assert (reply.status, reply["upload-limit"]) == (413, "max-size=1000")
        assert not house.uploads.list()
        path = begun(served, DATA[:900])
        assert append(served, path, 900, DATA[900:1100]).status == 413
        assert append(served, path, 900, iter([DATA[900:1100]])).status == 400  # its end was seen late
        assert state(served, path)["upload-offset"] == "900"


@pytest.mark.parametrize("uploadid", ["none", "part-none", "..%2fetc", "x" * 200])
def test_what_is_not_there(served: Served, uploadid: str) -> None:
    path = f"/uploads/{uploadid}"
    for reply in (state(served, path), append(served, path, 0, b"x"), served("DELETE", path, told(9))):
        assert reply.status == 404
        assert "upload-offset" not in reply


@every_version
def test_fields_that_do_not_belong_are_refused_until_6(served: Served, version: int) -> None:
    path = begun(served, b"", version)
    assert served("HEAD", path, told(version, Upload_Offset="0")).status == (400 if version <= 6 else 204)


def test_a_method_that_is_not_known(served: Served) -> None:
    assert served("GET", "/uploads/", told(9)).status == 405
    assert served("PUT", "/uploads/any", told(9)).status == 405


# ── cancelling, expiring, failing ─────────────────────────────────────────────────────────────────────────────


@every_version
def test_what_is_cancelled_is_gone(served: Served, house: House, version: int) -> None:
    path = begun(served, DATA[:100], version)
    assert served("DELETE", path, told(version)).status == 204
    assert state(served, path, version).status == 410
    house.worker.drain()
    for reply in (state(served, path, version), append(served, path, 100, b"x", version)):
        assert reply.status == 404
        assert "upload-offset" not in reply


def test_what_has_expired_is_gone(served: Served, house: House) -> None:
    path = begun(served, DATA[:100])
    house.clock.forward(86_400)
    assert state(served, path)["upload-limit"].endswith("max-age=518400")
    house.clock.forward(7 * 86_400)
    assert state(served, path).status == 410
    assert append(served, path, 100, b"x").status == 410


# ── who sends now ─────────────────────────────────────────────────────────────────────────────────────────────


def sending(served: Served, house: House, path: str, size: int) -> socket.socket:
    """A connection that has sent some bytes and hangs."""
    arrival = Arrival(house, size)
    connection = served.raw(
        f"""PATCH {path} HTTP/1.1
Host: 127.0.0.1
Upload-Draft-Interop-Version: 6
Content-Type: application/partial-upload
Upload-Offset: 0
Upload-Complete: ?1
Content-Length: {len(DATA)}""",
        DATA[:size],
    )
    arrival.wait()
    return connection


def test_a_new_request_ends_the_old_one(served: Served, house: House) -> None:
    path = begun(served, version=6)
    hanging = sending(served, house, path, 3000)
    assert state(served, path, 6)["upload-offset"] == "3000"
    assert b" 409 " in answer(hanging)
    hanging.close()
    hanging = sending_at(served, house, path)
    reply = append(served, path, 3000, b"wrong", 6)
    assert (reply.status, reply["upload-offset"]) == (409, "5000")
    assert b" 409 " in answer(hanging)
    hanging.close()
    assert append(served, path, 5000, DATA[5000:], 6, "?1").status == 201
    assert stored(house, path) == DATA


def sending_at(served: Served, house: House, path: str) -> socket.socket:
    arrival = Arrival(house, 5000)
    connection = served.raw(
        f"""PATCH {path} HTTP/1.1
Host: 127.0.0.1
Content-Type: application/partial-upload
Upload-Offset: 3000
Upload-Complete: ?0
Content-Length: 99999""",
        DATA[3000:5000],
    )
    arrival.wait()
    return connection


def test_a_removal_ends_who_sends(served: Served, house: House) -> None:
    path = begun(served)
    hanging = sending(served, house, path, 3000)
    assert served("DELETE", path, told(9)).status == 204
    assert b" 409 " in answer(hanging) or b" 410 " in answer(hanging)
    hanging.close()


def test_what_arrived_of_a_broken_body_is_kept_and_not_complete(served: Served, house: House) -> None:
    path = begun(served)
    sending(served, house, path, 3000).close()
    settle(house.uploads, id_of(path), lambda task: task.offset == 3000)
    reply = state(served, path)
    assert (reply["upload-offset"], reply["upload-complete"]) == ("3000", "?0")
    assert append(served, path, 3000, DATA[3000:], complete="?1").status == 201
    assert stored(house, path) == DATA


def test_a_creation_that_is_interrupted_says_where_to_go_on(house: House, watch: Watch) -> None:
    with standing(house, body_idle=0.2) as served:
        arrival = Arrival(house, 77)
        connection = served.raw(
            """POST /uploads/ HTTP/1.1
Host: 127.0.0.1
Upload-Complete: ?1
Content-Length: 1000""",
            DATA[:77],
        )
        arrival.wait()
        watch.run()
        reply = answer(connection).lower()
        connection.close()
        assert b" 201 " in reply
        assert b"upload-offset: 77" in reply
        assert b"upload-complete: ?0" in reply


# ── digests ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["sha", "sha-256", "sha-512"])
def test_content_digests_decide_what_is_kept(served: Served, house: House, name: str) -> None:
    path = begun(served)
    assert append(served, path, 0, DATA[:100], Content_Digest=digest(name, DATA[:100])).status == 204
    reply = append(served, path, 100, DATA[100:200], Content_Digest=digest(name, b"other"))
    assert (reply.status, reply.json["code"], reply["upload-offset"]) == (400, "body_checksum_mismatch", "100")
    assert stored(house, path) == DATA[:100]
    bad = create(served, DATA, 9, "?1", Content_Digest=digest(name, b"other"))
    assert (bad.status, bad.json["code"]) == (400, "body_checksum_mismatch")
    assert [line.state for line in house.uploads.list() if line.id != id_of(path)] == [State.REMOVE]


@pytest.mark.parametrize("name", ["sha", "sha-256", "sha-512"])
@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("right", [True, False])
def test_representation_digests_are_of_the_whole_file(
    served: Served, house: House, name: str, pieces: int, right: bool
) -> None:
    declared = digest(name, DATA if right else b"other")
    if pieces == 1:
        reply = create(served, DATA, 9, "?1", Repr_Digest=declared)
    else:
        path = begun(served, DATA[:4000], Repr_Digest=declared)
        reply = append(served, path, 4000, DATA[4000:], complete="?1")
    if right:
        assert (reply.status, reply["upload-complete"]) == (201, "?1")
        assert [line.state for line in house.uploads.list()] == [State.UPLOADCOMPLETE]
    else:
        assert reply.status == 400
        assert reply.json["code"] in ("checksum_mismatch", "body_checksum_mismatch")
        assert house.uploads.list()[0].state in (State.UPLOADFAILED, State.REMOVE)


def test_nobody_who_reads_waits_for_the_digest_of_a_large_file(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes minutes, and eight of them would take all threads in which lists and large packets are read."""
    threads: list[str] = []
    real = resumable._hash

    def noted(core: Core, task: UploadTask, algorithm: str) -> str:
        threads.append(threading.current_thread().name)
        return real(core, task, algorithm)

    monkeypatch.setattr(resumable, "_hash", noted)
    path = begun(served, DATA[:4000], Repr_Digest=digest("sha-256", DATA))
    assert append(served, path, 4000, DATA[4000:], complete="?1").status == 201
    assert [name.rpartition("_")[0] for name in threads] == ["stagedoor-step"]


def test_a_digest_that_cannot_be_read_is_refused(served: Served, house: House) -> None:
    for name in ("Content_Digest", "Repr_Digest"):
        reply = create(served, DATA, 9, "?1", **{name: "sha-256=:AAAA:"})
        assert (reply.status, reply.json["code"]) == (400, "invalid_digest")
    assert not house.uploads.list()


def test_unknown_digests_are_ignored(served: Served) -> None:
    assert create(served, DATA, 9, "?1", Content_Digest="md5=:AAAA:").status == 201


# ── who may ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_bytes_without_a_key_never_reach_the_disk(house: House) -> None:
    with standing(house, keys=("secret-key",)) as served:
        path = begun(served, Authorization="Bearer secret-key")
        before = sorted(p for p in house.root.rglob("*") if p.is_file())
        assert create(served, DATA, 9, "?1").status == 401
        assert append(served, path, 0, DATA).status == 401
        assert sorted(p for p in house.root.rglob("*") if p.is_file()) == before
        assert house.uploads.get(id_of(path)).offset == 0


# ── with the other wire ───────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_has_the_same_id_on_both_wires(served: Served, house: House) -> None:
    path = begun(served, DATA[:4000])
    tus = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "4000"}
    other = path.replace("/uploads/", "/files/")
    reply = served("PATCH", other, {**tus, "Upload-Length": str(len(DATA))}, DATA[4000:5000])
    assert reply.status == 204
    reply = append(served, path, 5000, DATA[5000:], 6, "?1")
    assert (reply.status, reply["upload-complete"]) == (201, "?1")
    reply = served("HEAD", other, {"Tus-Resumable": "1.0.0"})
    assert (reply["upload-offset"], reply["upload-length"]) == (str(len(DATA)), str(len(DATA)))
    assert stored(house, path) == DATA


def test_a_digest_is_compared_even_if_somebody_else_sent_the_last_byte(served: Served, house: House) -> None:
    path = begun(served, DATA[:4000], Repr_Digest=digest("sha-256", b"other"))
    house.uploads.receive(id_of(path), offset=4000, data=DATA[4000:])
    house.uploads.declare(id_of(path), filesize=len(DATA))
    for _ in range(2):  # the first answer may have been lost
        reply = append(served, path, len(DATA), b"", complete="?1")
        assert reply.status in (400, 410)
    assert house.uploads.find(id_of(path)) is None or house.uploads.get(id_of(path)).state is State.REMOVE
