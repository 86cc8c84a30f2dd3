"""Status numbers and problem documents."""

from __future__ import annotations

import inspect

import orjson
import pytest

from stagedoor import errors
from stagedoor.errors import OffsetMismatch, Refused, StorageFull, TaskNotFound, TooLarge, UploadError, WrongState
from stagedoor.protocols.messages import MessageError
from stagedoor.protocols.problems import Wire, WireError, problem, problem_document, status_of

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, UploadError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_on_every_wire(kind: type[UploadError]) -> None:
    error = kind.__new__(kind)
    UploadError.__init__(error, "A sentence.")
    for wire in Wire:
        assert 400 <= status_of(error, wire) < 600


@pytest.mark.parametrize(
    ("error", "http", "tus", "resumable"),
    [
        (TaskNotFound("x"), 404, 404, 404),
        (OffsetMismatch("Elsewhere.", expected=7), 409, 409, 409),
        (WrongState("Not now."), 409, 409, 409),
        (TooLarge("Too much."), 413, 413, 413),
        (TooLarge("Beyond.", code="beyond_the_end"), 413, 413, 400),
        (TooLarge("Many.", code="too_many_unfinished"), 503, 503, 503),
        (StorageFull("Full."), 507, 507, 507),
        (Refused("Off.", code="uploads_off"), 403, 403, 403),
        (Refused("Odd.", code="invalid_id"), 400, 400, 400),
        (Refused("Wrong.", code="checksum_mismatch"), 422, 460, 400),
        (Refused("Busy.", code="locked"), 423, 423, 409),
        (errors.DataLost("Lost."), 500, 410, 410),
        (errors.StorageError("Disk."), 503, 503, 503),
        (errors.Conflict("Moved."), 409, 409, 409),
        (MessageError("Deep.", code="too_deep"), 413, 413, 413),
        (MessageError("No.", code="invalid_json"), 400, 400, 400),
        (WireError("Teapot.", status=418), 418, 418, 418),
    ],
)
def test_the_table(error: UploadError, http: int, tus: int, resumable: int) -> None:
    assert [status_of(error, wire) for wire in (Wire.HTTP, Wire.TUS, Wire.RESUMABLE)] == [http, tus, resumable]


def test_a_class_of_somebody_else_has_the_status_of_its_base() -> None:
    class Mine(WrongState):
        default_code = "mine"

    assert status_of(Mine("No.")) == 409


def test_a_problem_document_has_its_members() -> None:
    document = orjson.loads(problem_document(OffsetMismatch("At 7.", expected=7, guard="fits"), 409, {"more": (1,)}))
    assert document == {
        "type": "https://iana.org/assignments/http-problem-types#mismatching-upload-offset",
        "title": "Mismatching Upload Offset",
        "status": 409,
        "detail": "At 7.",
        "code": "offset_mismatch",
        "guard": "fits",
        "expected-offset": 7,
        "more": [1],
    }
    plain = orjson.loads(problem_document(TaskNotFound("x"), 404))
    assert (plain["type"], plain["title"]) == ("about:blank", "Not Found")
    assert orjson.loads(problem_document(Refused("x"), 460))["title"] == "Checksum Mismatch"
    assert orjson.loads(problem_document(Refused("x"), 599))["title"] == "Error"


def test_a_stranger_s_text_does_not_break_the_document() -> None:
    assert orjson.loads(problem_document(Refused("name \ud800", code="\udfff"), 400))["detail"] == "name ?"


def test_the_whole_answer() -> None:
    full = problem(StorageFull("Full."), Wire.TUS, headers=[("Tus-Resumable", "1.0.0")])
    assert full.status == 507
    assert full.header("content-type") == "application/problem+json"
    assert full.header("Retry-After") == "30"
    assert full.header("Tus-Resumable") == "1.0.0"
    assert problem(WireError("No.", status=405, headers=[("Allow", "GET")])).header("allow") == "GET"
    assert problem(TaskNotFound("x")).header("Retry-After") is None
    assert problem(Refused("Who?", code="unauthorized")).header("WWW-Authenticate") == "Bearer"
