"""The documents say what the server does: sound by their own rules, complete, and as they are in ``docs/``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from stagedoor.lifecycle import State
from stagedoor.notices import Notice, NoticeKind
from stagedoor.protocols import frames
from stagedoor.server.api import TABLE
from stagedoor.server.api.documents import asyncapi, contents, main, openapi, stale
from stagedoor.server.api.events import Events
from stagedoor.server.api.schemas import sentences
from stagedoor.tasks import UploadTask

from .answering import answering
from .serving import Served, core_of

if TYPE_CHECKING:
    from conftest import House

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def served(house: House) -> Iterator[Served]:
    with answering(house) as running:
        yield running


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def follow(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for part in reference[2:].split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


def validator(document: Any, schema: Any) -> Draft202012Validator:
    whole = {**schema, "components": document["components"]}
    Draft202012Validator.check_schema(whole)
    return Draft202012Validator(whole)


# ── OpenAPI ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_openapi_document_is_sound() -> None:
    validate(openapi())


def test_it_has_every_route_and_nothing_else() -> None:
    operations = {
        (method.upper(), path) for path, item in openapi()["paths"].items() for method in item if method != "head"
    }
    assert operations == {(route.method, route.path) for route in TABLE.routes}


def test_every_schema_is_used() -> None:
    document = openapi()
    used = {name.rpartition("/")[2] for name in references(document)}
    assert used == document["components"]["schemas"].keys()
    for reference in references(document):
        assert follow(document, reference)


def test_every_attribute_of_a_task_is_described() -> None:
    _, said = sentences(UploadTask)
    members = openapi()["components"]["schemas"]["UploadTask"]["properties"]
    assert members.keys() - {"schema"} <= said.keys()
    assert "foreign" not in members
    assert all(members[name]["description"].startswith(said[name][:10]) for name in members.keys() - {"schema"})


@pytest.mark.parametrize("state", [state for state in State if state not in (State.NOTEXISTING, State.REMOVE)])
def test_what_is_answered_is_what_is_described(state: State, house: House, served: Served) -> None:
    """In every state, every answer to a GET fits its schema."""
    house.bring(state)
    document = openapi()
    checked = 0
    for path, item in document["paths"].items():
        if "{path}" in path or "get" not in item or path == "/api/events":
            continue
        query = {"/api/catalogue/search": "?text=a", "/api/catalogue/suggest": "?field=artist"}.get(path, "")
        reply = served("GET", path.replace("{id}", "one").replace("{sha1}", "0" * 40) + query)
        content = item["get"]["responses"][str(reply.status)]["content"]
        kind = reply["content-type"].partition(";")[0]
        assert kind in content
        if kind.endswith("json"):
            validator(document, content[kind]["schema"]).validate(reply.json)
            checked += 1
    assert checked > 15


def test_the_server_answers_with_the_documents(served: Served) -> None:
    for name, made in (("openapi", openapi()), ("asyncapi", asyncapi())):
        reply = served("GET", f"/api/{name}.json")
        assert reply.json == json.loads(json.dumps(made))
        assert served("GET", f"/api/{name}.json", {"If-None-Match": reply["etag"]}).status == 304


# ── AsyncAPI ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_asyncapi_document_hangs_together() -> None:
    """AsyncAPI 3.0: what must be there, and what may refer to what."""
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert document["info"].keys() >= {"title", "version"}
    assert document.keys() <= {"asyncapi", "info", "defaultContentType", "channels", "operations", "components"}
    for reference in references(document):
        assert follow(document, reference), reference
    for channel in document["channels"].values():
        assert channel.keys() <= {"address", "description", "messages"}
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
    names = re.compile(r"[A-Za-z0-9._-]+")
    for kind in ("messages", "schemas"):
        assert all(names.fullmatch(name) for name in document["components"][kind])
    for message in document["components"]["messages"].values():
        assert message.keys() >= {"name", "summary", "contentType", "payload"}
        validator(document, message["payload"])


def test_it_has_every_message_of_the_dialect() -> None:
    messages = asyncapi()["components"]["messages"]
    described = {name for name in messages if not name.startswith("events.")}
    assert described == {f"client.{name}" for name in frames.CLIENT} | {f"server.{name}" for name in frames.SERVER} | {
        "client.chunk"
    }


def test_what_is_said_over_the_websocket_is_what_is_described(house: House) -> None:
    document = asyncapi()
    payloads = {name: message["payload"] for name, message in document["components"]["messages"].items()}
    house.bring(State.IMPORTCOMPLETE)
    task = house.uploads.get("one")
    told = frames.encode_notice(Notice(NoticeKind.STATE_UPDATE, "one", task)).payload
    validator(document, payloads["server.notice"]).validate(json.loads(told))
    moved = frames.encode_progress([Notice(NoticeKind.CHUNK_REQUEST, "one", task)]).payload
    validator(document, payloads["server.progress"]).validate(json.loads(moved))
    for message in (
        frames.Hello(version=1),
        frames.Initiate(n=1, uploadid="one", filename="a.mp4", contenttype="video", annotations={"a": [1, None]}),
        frames.Claim(n=2, uploadid="one"),
        frames.ListTasks(n=3),
    ):
        said = json.loads(frames.encode(message).payload)
        validator(document, payloads[f"client.{said['type']}"]).validate(said)
    wrong = json.loads(frames.encode(frames.Claim(n=2, uploadid="one")).payload) | {"n": "2"}
    assert not validator(document, payloads["client.claim"]).is_valid(wrong)


@pytest.mark.parametrize("state", [state for state in State if state is not State.NOTEXISTING])
def test_what_is_told_as_an_event_is_what_is_described(state: State, house: House) -> None:
    document = asyncapi()
    check = validator(document, document["components"]["messages"]["events.notice"]["payload"])
    house.bring(state)
    events = Events(core_of(house.uploads, parts=False))
    for notice in house.notices:
        events.hear(notice)
        check.validate(json.loads(events.encode(notice).payload.split(b"data: ")[1]))
    assert house.notices
    moved = document["components"]["messages"]["events.progress"]["payload"]
    told = events.encode_progress([notice for notice in house.notices if notice.task is not None])
    validator(document, moved).validate(json.loads(told.payload.split(b"data: ")[1]))


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_files_in_docs_are_as_they_would_be_written_now() -> None:
    assert stale(DOCS) == [], "run: make documents"


def test_stale_files_are_found_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert "openapi.json is stale" in capsys.readouterr().err
    assert main(["--write", str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == contents()
    (tmp_path / "asyncapi.json").write_bytes(b"{}")
    assert stale(tmp_path) == ["asyncapi.json"]
