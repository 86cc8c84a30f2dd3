"""What operators ask: numbers, whether the server lives, and whether it can work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from stagedoor.errors import StorageError
from stagedoor.lifecycle import State
from stagedoor.settings import Settings

from .answering import answering, listening
from .serving import Served

if TYPE_CHECKING:
    from conftest import House


@pytest.fixture
def served(house: House) -> Iterator[Served]:
    with answering(house) as running:
        yield running


def numbers(served: Served) -> dict[tuple[str, ...], float]:
    """Values by name and labels, these in the order of their names."""
    reply = served("GET", "/metrics")
    assert reply.status == 200
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in parse(reply.body.decode())
        for sample in family.samples
    }


def test_uploads_are_counted_by_state(house: House, served: Served) -> None:
    house.bring(State.PREPROCESSED, "one")
    house.bring(State.WAITFORCHUNK, "two")
    found = numbers(served)
    assert found["stagedoor_uploads", "preprocessed"] == 1
    assert found["stagedoor_uploads", "waitforchunk"] == 1
    assert found["stagedoor_uploads", "importcomplete"] == 0


def test_requests_are_counted_by_route_and_not_by_what_strangers_ask_for(served: Served) -> None:
    for path in ("/api/uploads/a", "/api/uploads/b", "/api/nothing/else", "/secret.php"):
        served("GET", path)
    served("TRACE", "/api/uploads/a")
    found = numbers(served)
    assert found["stagedoor_requests_total", "GET", "/api/uploads/{id}", "404"] == 2
    assert found["stagedoor_requests_total", "other", "/api/uploads/{id}", "405"] == 1
    routes = {key[2] for key in found if key[0] == "stagedoor_requests_total"}
    assert not any("nothing" in route or "secret" in route for route in routes)


def test_steps_failures_notices_and_bytes_are_counted(house: House, served: Served) -> None:
    served("PUT", "/api/uploads/one/data?filename=a.mp4", {}, b"bad film")
    house.worker.drain()
    failed = house.uploads.get("one").code
    assert failed
    served("POST", "/api/uploads/one/retry")
    house.uploads.initiate(house.offer("one", b"bad film", filename="a.mp4", sha1=None))  # tells the same again
    found = numbers(served)
    assert found["stagedoor_received_bytes_total", "http"] == 8
    assert found["stagedoor_steps_total", "preprocess"] == 1
    assert found["stagedoor_steps_total", "retry"] == 1
    assert found["stagedoor_failures_total", failed, "preprocess"] == 1
    assert found["stagedoor_notices_total", "InternalError"] == 1
    assert found["stagedoor_work_waiting",] == 1


def test_listeners_and_room_are_told(house: House, served: Served) -> None:
    assert numbers(served)["stagedoor_listeners",] == 0
    with listening(served) as stream:
        stream.event()
        found = numbers(served)
    assert found["stagedoor_listeners",] == 1
    assert found["stagedoor_notices_waiting",] == 0
    assert found["stagedoor_free_bytes",] > 0
    assert found["stagedoor_uptime_seconds",] >= 0
    assert ("stagedoor_management_up",) not in found  # somebody else's affair


def test_openmetrics_is_spoken_to_who_asks_for_it(served: Served) -> None:
    reply = served("GET", "/metrics", {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
    assert reply["content-type"].startswith("application/openmetrics-text")
    families: Any = parse_openmetrics  # which says nothing of its types
    assert {family.name for family in families(reply.body.decode())} >= {"stagedoor_uploads"}


def test_nothing_is_global(house: House) -> None:
    before = {family.name for family in REGISTRY.collect()}
    with answering(house) as one, answering(house) as other:
        one("GET", "/api/uploads")
        assert ("stagedoor_requests_total", "GET", "/api/uploads", "200") in numbers(one)
        assert ("stagedoor_requests_total", "GET", "/api/uploads", "200") not in numbers(other)
    assert {family.name for family in REGISTRY.collect()} == before


# ── life signs ────────────────────────────────────────────────────────────────────────────────────────────────


def not_ready(served: Served) -> list[str]:
    reply = served("GET", "/readyz")
    assert (reply.status, reply.json["code"], reply["retry-after"]) == (503, "not_ready", "5")
    assert served("GET", "/healthz").json == {"alive": True}
    reasons: list[str] = reply.json["reasons"]
    return reasons


def test_a_server_that_can_work_says_so(house: House) -> None:
    with answering(house, worker=True) as served:
        assert served("GET", "/readyz").json == {"ready": True}
        assert numbers(served)["stagedoor_management_up",] == 1


def test_a_management_that_does_not_run(house: House) -> None:
    with answering(house, worker=True) as served:
        app: Any = served.app
        app.core._worker.stop()
        assert not_ready(served) == ["no_management"]
        assert numbers(served)["stagedoor_management_up",] == 0


def test_a_full_disk(closed: House) -> None:
    closed.open(free_floor=1 << 62)
    with answering(closed) as served:
        assert not_ready(served) == ["disk_full"]


def test_a_disk_that_does_not_answer(house: House, served: Served) -> None:
    def fail(*_: object) -> None:
        raise StorageError("It is gone: /secret/place.")

    house.before["bytes.free"] = fail
    assert not_ready(served) == ["disk_failed"]
    assert b"secret" not in served("GET", "/readyz").body


def test_an_engine_that_is_closed(closed: House) -> None:
    uploads = closed.open()
    with answering(closed) as served:
        closed.close()
        assert uploads.closed
        assert not_ready(served) == ["closed"]


def test_a_server_that_stops(house: House, served: Served) -> None:
    app: Any = served.app
    app.core.draining = True
    assert not_ready(served) == ["draining"]


def test_the_floor_is_that_of_the_settings() -> None:
    assert Settings().free_floor > 0
