"""The faults of the original that only a server on the network can have, each with a test of its name.

The others are in ``tests/test_faults.py``; docs/durability.md lists them all.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import InvalidStatus

from stagedoor.lifecycle import State
from stagedoor.testing.kills import TUS

from .serving import settle, standing
from .talking import Binary, staged

if TYPE_CHECKING:
    from conftest import House

KEY = "the right key, which nobody may read"
EVIL = "https://evil.example"
DRAFT = {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?1"}


def test_the_right_api_key_is_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Not even for the filter to take it out: no line is ever made with it, on any wire, right or wrong."""
    caplog.set_level(logging.DEBUG)
    with standing(house, keys=(KEY,)) as served:
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-Api-Key": KEY}):
            assert served("GET", "/api/uploads", headers).status == 200
            assert served("POST", "/files/", {**TUS, **headers, "Upload-Length": "5"}).status == 201
            assert served("POST", "/uploads/", {**DRAFT, **headers}, b"fine").status in (200, 201, 204)
            assert served("GET", "/api/uploads/nobody", headers).status == 404
        for headers in ({}, {"Authorization": f"Bearer {KEY}!"}, {"Authorization": f"Basic {KEY}"}):
            assert served("GET", "/api/uploads", headers).status == 401
        assert served("GET", f"/api/uploads?key={KEY.replace(' ', '+')}").status == 401
    with staged(house, keys=(KEY,)) as stage:
        with stage.musicdb(KEY) as one:
            one.settled()
        with stage.binary(key=KEY) as other:
            other.settled()
        with Binary(stage.connect()) as stranger:
            stranger.say("hello", version=1, window=4, key=KEY + "!")
            assert stranger.ending()[0] == 1008
    # The clients of this test may log what they send.
    records = [record for record in caplog.records if record.name.startswith(("stagedoor", "uvicorn"))]
    assert records
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in records)
    assert KEY not in text
    assert KEY.replace(" ", "+") not in text


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/files/", {**TUS, "Upload-Length": "5"}),
        ("POST", "/files", {**TUS, "Upload-Length": "5"}),
        ("DELETE", "/files/one", TUS),
        ("POST", "/uploads/", DRAFT),
        ("PATCH", "/api/uploads/one/annotations", {"Content-Type": "application/json"}),
        ("DELETE", "/api/uploads/one", {}),
        ("POST", "/api/uploads/one/integrate", {}),
    ],
)
def test_there_is_no_check_of_the_origin(house: House, method: str, path: str, headers: dict[str, str]) -> None:
    house.bring(State.PREPROCESSED)
    before = house.everything()
    with standing(house) as served:
        assert served(method, path, {**headers, "Origin": EVIL}, b"{}").status == 403
    assert house.everything() == before
    assert [task.id for task in house.uploads.tasks()] == ["one"]
    house.finish()


def test_there_is_no_check_of_the_origin_of_a_websocket(house: House) -> None:
    with staged(house) as stage:
        with pytest.raises(InvalidStatus) as caught:
            stage.connect(origin=EVIL)
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize("late", [False, True], ids=["declared", "not declared"])
def test_the_whole_file_is_hashed_in_the_event_loop(closed: House, late: bool) -> None:
    """After a restart all of it has to be read again: beside the loop, which answers."""
    data = b"fine" + bytes(3 << 20)
    closed.open()
    closed.uploads.initiate(closed.offer(data=data, sha1=None) if late else closed.offer(data=data))
    closed.uploads.receive("one", offset=0, data=data[: 1 << 20])
    uploads = closed.restart()
    readers: list[str] = []
    closed.before["bytes.open"] = lambda *_: readers.append(threading.current_thread().name)
    with standing(closed, worker=True) as served:
        patch = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(1 << 20)}
        assert served("PATCH", "/files/one", patch, data[1 << 20 :]).status == 204
        if late:
            assert served("HEAD", "/files/one", TUS)["upload-offset"] == str(len(data))
        settle(uploads, "one", lambda task: task.state is State.PREPROCESSED)
    assert readers
    assert "server" not in readers  # the thread of the loop
    closed.before.clear()
    assert closed.stored() == data


def test_server_paths_are_told_to_every_client_on_every_wire(house: House) -> None:
    house.bring(State.IMPORTCOMPLETE)
    house.bring(State.WAITFORCHUNK, "two")
    with standing(house) as served:
        replies = [
            *(served("GET", f"/api/uploads{rest}") for rest in ("", "/one", "/two", "/one/plan", "/nobody")),
            *(served("HEAD", f"/files/{one}", TUS) for one in ("one", "two")),
            *(served("HEAD", f"/uploads/{one}", DRAFT) for one in ("one", "two")),
        ]
        assert {reply.status for reply in replies} >= {200, 404}
        said = " ".join(f"{reply.headers} {reply.body.decode()}" for reply in replies)
        assert "Alpha/Beta.mp4" in said
        assert str(house.root) not in said
    with staged(house) as stage, stage.musicdb() as one:
        listed = str(one.ask("GetUploads"))
        assert "two" in listed
        assert str(house.root) not in listed
