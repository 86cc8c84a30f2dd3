"""The HTTP API over a real server: what people, scripts and the page ask for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.errors import Refused
from stagedoor.library.catalogue import Catalogue
from stagedoor.lifecycle import ROWS, By, State, Trigger
from stagedoor.ports import Preprocessed
from stagedoor.protocols.cors import Cors
from stagedoor.protocols.problems import WireError
from stagedoor.server.api import TABLE
from stagedoor.server.api.artwork import open_picture
from stagedoor.server.api.board import LISTED, Board
from stagedoor.server.api.routes import Param, accepts, parse_query
from stagedoor.server.api.uploads import TRIGGERS
from stagedoor.server.config import ServerConfig
from stagedoor.server.security import Gate
from stagedoor.tasks import Offer

from .answering import answering
from .serving import Served

if TYPE_CHECKING:
    from conftest import House

DATA = b"fine film of some length"
SHA1 = hashlib.sha1(DATA, usedforsecurity=False).hexdigest()
JPEG = b"\xff\xd8\xff\xe0" + bytes(40)


@pytest.fixture
def catalogue(closed: House, tmp_path: Path) -> Iterator[Catalogue]:
    """Ask for it before the house."""
    with Catalogue.open(tmp_path / "catalogue.sqlite", durable=False) as found:
        closed.library = found  # type: ignore[assignment]  # any library will do
        yield found


@pytest.fixture
def served(house: House) -> Iterator[Served]:
    with answering(house) as running:
        yield running


def problem(reply: Any, status: int, code: str) -> dict[str, Any]:
    assert (reply.status, reply["content-type"]) == (status, "application/problem+json"), reply.body
    said: dict[str, Any] = reply.json
    assert (said["status"], said["code"]) == (status, code)
    assert said["detail"].endswith(".")
    return said


def post(served: Served, path: str, body: Any = None, **headers: str) -> Any:
    sent = None if body is None else json.dumps(body).encode()
    said = {"Content-Type": "application/json"} if body is not None else {}
    return served("POST", path, said | {k.replace("_", "-"): v for k, v in headers.items()}, sent)


# ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────


def ids(reply: Any) -> list[str]:
    assert reply.status == 200, reply.body
    return [line["id"] for line in reply.json["uploads"]]


def test_an_empty_list(served: Served) -> None:
    reply = served("GET", "/api/uploads")
    assert reply.json == {"uploads": [], "next": None, "counts": {s.value: 0 for s in LISTED}, "total": 0}
    assert reply["cache-control"] == "no-store"


def test_pages_follow_each_other_whatever_was_there_before_the_server(house: House, served: Served) -> None:
    names = [f"upload-{number:02}" for number in range(23)]
    for name in names[::-1]:
        house.bring(State.WAITFORCHUNK, name)
    found: list[str] = []
    cursor = ""
    for _ in range(5):
        reply = served("GET", f"/api/uploads?limit=5{cursor}")
        found += ids(reply)
        if reply.json["next"] is None:
            break
        cursor = f"&cursor={reply.json['next']}"
    assert found == names
    assert reply.json["total"] == 23


def test_the_newest_change_comes_first(house: House, served: Served) -> None:
    for name in ("a", "b", "c"):
        house.clock.forward(1)
        house.bring(State.WAITFORCHUNK, name)
    assert ids(served("GET", "/api/uploads?order=newest")) == ["c", "b", "a"]
    house.clock.forward(1)
    house.uploads.annotate("a", name="New")
    first = served("GET", "/api/uploads?order=newest&limit=1")
    assert ids(first) == ["a"]
    assert ids(served("GET", f"/api/uploads?order=newest&cursor={first.json['next']}")) == ["c", "b"]


def test_the_list_follows_every_state(house: House, served: Served) -> None:
    assert served("GET", "/api/uploads").json["total"] == 0
    for state in LISTED:
        names = {} if state is State.INTEGRATIONFAILED else {"artistname": "Alpha", "name": state.value}
        house.bring(state, f"in-{state}", annotations=names)
    for state in LISTED:
        reply = served("GET", f"/api/uploads?state={state}")
        assert ids(reply) == [f"in-{state}"]
        assert reply.json["counts"][state] == 1
    both = served("GET", "/api/uploads?state=uploadfailed,preprocessed")
    assert ids(both) == ["in-preprocessed", "in-uploadfailed"]
    house.uploads.remove("in-preprocessed")
    gone = served("GET", "/api/uploads")
    assert "in-preprocessed" not in ids(gone)
    assert gone.json["counts"]["preprocessed"] == 0


def test_a_line_says_what_a_board_shows(house: House, served: Served) -> None:
    house.bring(State.INVALIDCONTENT, "one")
    (line,) = served("GET", "/api/uploads").json["uploads"]
    task = house.uploads.get("one")
    assert line["message"] == task.message
    assert line["names"] == {"artistname": "Alpha", "name": "Beta"}
    assert (line["revision"], line["uid"], line["filename"]) == (task.revision, task.uid, "film.mp4")
    assert str(house.root) not in json.dumps(line)


def test_a_line_has_the_names_that_the_content_brings_along(
    house: House, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Preprocessed(content={"guess": {"artistname": "The Guessed", "albumname": "From Tags", "release": 1999}})
    monkeypatch.setattr(house.uploads.ports.contents["video"], "preprocess", lambda task, source: found)
    house.bring(State.PREPROCESSED, "one", annotations={"artistname": "The Said"})
    (line,) = served("GET", "/api/uploads").json["uploads"]
    assert line["names"] == {"artistname": "The Said", "albumname": "From Tags"}
    assert ids(served("GET", "/api/uploads?text=tags")) == ["one"]
    assert ids(served("GET", "/api/uploads?text=guessed")) == []


def test_filters_look_into_documents(house: House, served: Served) -> None:
    house.bring(State.WAITFORCHUNK, "one", filename="Straße.mp4")
    house.bring(State.WAITFORCHUNK, "two", contenttype="sound", annotations={"artistname": "Ünder World"})
    assert ids(served("GET", "/api/uploads?contenttype=sound")) == ["two"]
    assert ids(served("GET", "/api/uploads?text=STRASSE")) == ["one"]
    assert ids(served("GET", "/api/uploads?text=world+%C3%BCnder")) == ["two"]
    house.uploads.annotate("one", name="Underworld")
    assert ids(served("GET", "/api/uploads?text=world")) == ["one", "two"]
    assert ids(served("GET", "/api/uploads?text=world&contenttype=video")) == ["one"]


def test_a_filter_looks_at_a_bounded_number_and_says_where_to_go_on(house: House) -> None:
    for number in range(620):
        house.bring(State.WAITFORCHUNK, f"u{number:03}", filename="rare.mp4" if number == 610 else "a.mp4")
    board = Board(house.uploads)
    board.fill()
    first = board.page(text="rare")
    assert (first.tasks, first.next is None) == ([], False)
    second = board.page(text="rare", cursor=first.next)
    assert [task.id for task in second.tasks] == ["u610"]
    # What was seen once need not be read again.
    assert [task.id for task in board.page(text="rare").tasks] == ["u610"]


def test_a_page_costs_what_is_on_it_and_not_what_there_is(house: House, served: Served) -> None:
    for number in range(60):
        house.bring(State.PREPROCESSED, f"u{number:02}", annotations={"artistname": "Alpha", "name": str(number)})
    served("GET", "/api/uploads?limit=1")
    asked: list[str] = []
    house.before["tasks.list"] = lambda: asked.append("all")
    house.before["tasks.get"] = asked.append
    assert ids(served("GET", "/api/uploads?limit=3&cursor=i~u40")) == ["u41", "u42", "u43"]
    assert asked == ["u41", "u42", "u43"]
    asked.clear()
    served("GET", "/api/uploads?limit=2&order=newest")
    served("GET", "/metrics")
    assert len(asked) == 2


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "n~one",
        "i~",
        "nzz~one",
        "i~one%0A",
        "n7ff8000000000000~one",
        "n0000000000000000~one",
        "i~../x",
    ],
)
def test_a_foreign_cursor_is_refused(served: Served, cursor: str) -> None:
    problem(served("GET", f"/api/uploads?cursor={cursor}"), 400, "invalid_cursor")


def test_a_cursor_outlives_the_upload_that_it_names(house: House, served: Served) -> None:
    for name in "abc":
        house.bring(State.WAITFORCHUNK, name)
    cursor = served("GET", "/api/uploads?limit=2").json["next"]
    house.uploads.remove("b")
    assert ids(served("GET", f"/api/uploads?cursor={cursor}")) == ["c"]


def test_an_upload_that_is_lost_behind_our_back_leaves_the_board(house: House, served: Served) -> None:
    house.bring(State.WAITFORCHUNK, "one")
    assert ids(served("GET", "/api/uploads")) == ["one"]
    house.uploads._tasks.delete("one")
    assert ids(served("GET", "/api/uploads")) == []
    assert served("GET", "/api/uploads").json["total"] == 0


def test_an_id_that_is_used_again_is_another_upload(house: House, served: Served) -> None:
    house.bring(State.WAITFORCHUNK, "one")
    before = served("GET", "/api/uploads").json["uploads"][0]["uid"]
    house.uploads.remove("one")
    house.worker.drain()
    house.bring(State.WAITFORCHUNK, "one")
    (line,) = served("GET", "/api/uploads").json["uploads"]
    assert line["uid"] != before


def test_a_refused_offer_takes_no_upload_off_the_board(house: House, served: Served) -> None:
    house.bring(State.WAITFORCHUNK, "one")
    with pytest.raises(Refused):
        house.uploads.initiate(Offer("one", filename="x", contenttype="nonsense"))
    assert ids(served("GET", "/api/uploads")) == ["one"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "state=remove", "state=", "order=size", "stat=x", "limit=1&limit=2"]
)
def test_a_query_that_makes_no_sense_is_refused(served: Served, query: str) -> None:
    problem(served("GET", f"/api/uploads?{query}"), 400, "invalid_argument")


# ── one upload ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_is_shown_whole_with_relative_paths(house: House, served: Served) -> None:
    house.bring(State.IMPORTCOMPLETE)
    reply = served("GET", "/api/uploads/one")
    assert reply.json["videofile"] == "Alpha/Beta.mp4"
    assert reply.json["history"][0]["trigger"] == "create"
    assert str(house.root) not in reply.body.decode()
    assert "foreign" not in reply.json


def test_looking_for_what_is_not_there_disturbs_nobody(house: House, served: Served) -> None:
    house.heard()
    for path in ("", "/plan", "/history", "/explain", "/thumbnail", "/diagram.svg"):
        problem(served("GET", f"/api/uploads/none{path}"), 404, "not_found")
    assert house.heard() == []


def test_head_is_get_without_the_body(house: House, served: Served) -> None:
    house.bring(State.PREPROCESSED)
    for path in ("/api/uploads", "/api/uploads/one", "/healthz", "/api/lifecycle", "/metrics"):
        head, get = served("HEAD", path), served("GET", path)
        assert (head.status, head.body) == (200, b"")
        assert head["content-type"] == get["content-type"]
        if path != "/metrics":
            assert int(head["content-length"]) == len(get.body)


def test_what_there_is_not_and_what_cannot_be_done(served: Served) -> None:
    problem(served("GET", "/api/nothing"), 404, "no_such_route")
    problem(served("GET", "/api"), 404, "no_such_route")
    reply = served("PUT", "/api/uploads/one")
    problem(reply, 405, "method_not_allowed")
    assert reply["allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"
    options = served("OPTIONS", "/api/uploads/one")
    assert (options.status, options["allow"]) == (204, reply["allow"])


def test_types_that_are_not_ours_are_refused(house: House, served: Served) -> None:
    house.bring(State.PREPROCESSED)
    problem(served("GET", "/api/uploads", {"Accept": "text/html"}), 406, "not_acceptable")
    assert served("GET", "/api/uploads", {"Accept": "text/html, */*;q=0.1"}).status == 200
    for kind in ("application/merge-patch+json", "text/plain"):
        reply = served("PATCH", "/api/uploads/one", {"Content-Type": kind}, b'{"annotations": {}}')
        problem(reply, 415, "unsupported_media_type")
        assert reply["accept-patch"] == "application/json"
    coded = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    problem(served("PATCH", "/api/uploads/one", coded, b"{}"), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b'{"annotations": ' + b'{"a":' * 40 + b"1" + b"}" * 41, 413, "too_deep"),
        (b'{"annotations": {"a": "' + b"x" * (1 << 20) + b'"}}', 413, "body_too_large"),
        (b'{"annotations": {"a": "' + b"x" * (80 << 10) + b'"}}', 413, "annotations_too_large"),
        (b"{}", 400, "invalid_argument"),
        (b'{"annotations": 5}', 400, "invalid_argument"),
        (b'{"annotations": {}, "state": "remove"}', 400, "invalid_argument"),
        (b'{"annotations": {"a": 1e999}}', 400, None),
        (b'{"annotations": {"a": 99999999999999999999}}', 400, None),
    ],
)
def test_bodies_of_strangers(house: House, served: Served, body: bytes, status: int, code: str | None) -> None:
    house.bring(State.PREPROCESSED)
    before = house.document()
    reply = served("PATCH", "/api/uploads/one", {"Content-Type": "application/json"}, body)
    assert reply.status == status or (code is None and reply.status == 200 and status == 400), reply.body
    if code is not None:
        problem(reply, status, code)
        assert house.document() == before


def test_annotations_are_merged_key_by_key_and_null_is_a_value(house: House, served: Served) -> None:
    house.bring(State.PREPROCESSED)
    body = json.dumps({"annotations": {"name": "Gamma", "origin": None}}).encode()
    reply = served("PATCH", "/api/uploads/one", {"Content-Type": "application/json"}, body)
    assert reply.json["annotations"] == {"artistname": "Alpha", "name": "Gamma", "origin": None}


def test_if_match_holds_back_what_was_decided_on_an_older_sight(house: House, served: Served) -> None:
    house.bring(State.PREPROCESSED)
    etag = served("GET", "/api/uploads/one")["etag"]
    house.uploads.annotate("one", name="Other")
    headers = {"Content-Type": "application/json", "If-Match": etag}
    mine = b'{"annotations": {"name": "Mine"}}'
    problem(served("PATCH", "/api/uploads/one", headers, mine), 412, "precondition_failed")
    problem(served("DELETE", "/api/uploads/one", {"If-Match": etag}), 412, "precondition_failed")
    problem(post(served, "/api/uploads/one/request", If_Match=etag), 412, "precondition_failed")
    assert house.uploads.get("one").annotations["name"] == "Other"
    headers["If-Match"] = f'"x", {served("GET", "/api/uploads/one")["etag"]}'
    done = served("PATCH", "/api/uploads/one", headers, mine)
    assert done.json["annotations"]["name"] == "Mine"
    assert done["etag"] == served("GET", "/api/uploads/one")["etag"]


def test_delete_removes_once(house: House, served: Served) -> None:
    house.bring(State.PREPROCESSED)
    reply = served("DELETE", "/api/uploads/one")
    assert (reply.status, reply.body) == (204, b"")
    problem(served("DELETE", "/api/uploads/one"), 409, "wrong_state")
    house.worker.drain()
    problem(served("DELETE", "/api/uploads/one"), 404, "not_found")


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_offer_says_where_to_send_and_what_is_there_already(house: House, served: Served) -> None:
    house.bring(State.IMPORTCOMPLETE, "former", data=DATA)
    body = {"id": "one", "filename": "film.mp4", "filesize": len(DATA), "sha1": SHA1.upper()}
    reply = post(served, "/api/uploads", body)
    assert (reply.status, reply["location"]) == (201, "/api/uploads/one")
    assert reply.json["known"] == ["Alpha/Beta.mp4"]
    assert reply.json["upload"]["contenttype"] == "video"
    assert reply.json["send"]["tus"] == {"url": "/files/one", "method": "PATCH", "offset": 0}
    house.uploads.receive("one", offset=0, data=DATA[:5])
    again = post(served, "/api/uploads", body)
    assert (again.status, again.json["send"]["http"]["offset"]) == (200, 5)
    problem(post(served, "/api/uploads", body | {"filesize": 5}), 409, "duplicate")
    assert served("GET", f"/api/known/{SHA1}").json == {"sha1": SHA1, "known": ["Alpha/Beta.mp4"]}
    assert served("GET", f"/api/known/{'0' * 40}").json["known"] == []
    problem(served("GET", "/api/known/xyz"), 400, "invalid_argument")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"filesize": 0}, 400, "invalid_argument"),
        ({"filesize": True}, 400, "invalid_argument"),
        ({"filesize": "5"}, 400, "invalid_argument"),
        ({"filename": 5}, 400, "invalid_argument"),
        ({"filename": ""}, 400, "invalid_argument"),
        ({"filename": "a\0b"}, 400, "invalid_filename"),
        ({"id": "../x"}, 400, "invalid_argument"),
        ({"sha1": "abc"}, 400, "invalid_argument"),
        ({"contenttype": "nonsense"}, 415, "unsupported_contenttype"),
        ({"filesize": 1 << 50}, 413, "file_too_large"),
        ({"strange": 1}, 400, "invalid_argument"),
    ],
)
def test_an_offer_that_makes_no_sense(served: Served, change: Any, status: int, code: str) -> None:
    problem(post(served, "/api/uploads", {"filename": "film.mp4"} | change), status, code)
    assert served("GET", "/api/uploads").json["total"] == 0


def test_one_request_uploads_a_file(house: House, served: Served) -> None:
    headers = {"Content-Type": "video/mp4"}
    reply = served("PUT", f"/api/uploads/one/data?filename=film.mp4&sha1={SHA1}", headers, DATA)
    assert (reply.status, reply.json["state"]) == (201, "uploadcomplete")
    assert reply.json["mimetype"] == "video/mp4"
    assert house.stored() == DATA
    problem(served("PUT", "/api/uploads/one/data", headers, DATA), 409, "wrong_state")


def test_a_file_whose_length_nobody_knows_ends_with_its_body(house: House, served: Served) -> None:
    reply = served("PUT", "/api/uploads/one/data?filename=a.mp4", {}, iter([DATA[:7], DATA[7:]]), encode_chunked=True)
    assert (reply.status, reply.json["filesize"], reply.json["state"]) == (201, len(DATA), "uploadcomplete")
    assert house.stored() == DATA


def test_the_rest_of_a_file_goes_where_the_upload_stands(house: House, served: Served) -> None:
    house.uploads.initiate(house.offer(data=DATA))
    house.uploads.receive("one", offset=0, data=DATA[:9])
    said = problem(served("PUT", "/api/uploads/one/data", {}, DATA), 409, "offset_mismatch")
    assert said["expected-offset"] == 9
    reply = served("PUT", "/api/uploads/one/data?offset=9", {}, DATA[9:])
    assert (reply.status, reply.json["state"]) == (200, "uploadcomplete")


def test_a_file_that_is_none(house: House, served: Served) -> None:
    problem(served("PUT", "/api/uploads/one/data", {}, b""), 400, "empty")
    house.uploads.initiate(house.offer(data=DATA))
    problem(served("PUT", "/api/uploads/one/data", {}, DATA + b"more"), 413, "beyond_the_end")
    problem(served("PUT", "/api/uploads/one/data", {"Content-Range": "bytes 0-1/2"}, b"ab"), 400, "bad_request")
    problem(served("PUT", "/api/uploads/one/data", {"Content-Encoding": "gzip"}, b"ab"), 415, "unsupported_media_type")


# ── triggers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_client_trigger_of_the_table_has_a_route() -> None:
    clients = {row.trigger for row in ROWS if By.CLIENT in row.by}
    assert set(TRIGGERS) == clients - {Trigger.CHUNK} | {Trigger.INTEGRATE}
    paths = {route.path for route in TABLE.routes if route.method == "POST"}
    words = {"undo" if trigger is Trigger.REQUEST_UNDO else trigger.value for trigger in TRIGGERS}
    assert paths == {"/api/uploads"} | {f"/api/uploads/{{id}}/{word}" for word in words}


def test_a_whole_life_by_its_triggers(house: House, served: Served) -> None:
    house.bring(State.INTEGRATIONFAILED)

    def fire(word: str, body: Any = None) -> str:
        reply = post(served, f"/api/uploads/one/{word}", body)
        assert reply.status == 200, reply.body
        return str(reply.json["state"])

    assert fire("retry") == "preprocessed"
    assert fire("annotate", {"annotations": {"artistname": "Alpha", "name": "Beta"}}) == "preprocessed"
    assert served("GET", "/api/uploads/one/plan").json["files"][0]["path"] == "Alpha/Beta.mp4"
    assert fire("integrate") == "integrated"
    assert fire("start_import") == "startimport"
    house.worker.drain()
    assert fire("undo") == "preprocessed"
    assert fire("request", {"trigger_import": True}) == "preprocessed"
    house.worker.drain()
    assert house.uploads.get("one").state is State.IMPORTCOMPLETE
    triggers = [line["trigger"] for line in served("GET", "/api/uploads/one/history").json["history"]]
    assert triggers[-1] == "import_artwork"
    assert fire("remove") == "remove"


def test_declare_tells_the_length_later(house: House, served: Served) -> None:
    post(served, "/api/uploads", {"id": "one", "filename": "film.mp4"})
    house.uploads.receive("one", offset=0, data=DATA)
    reply = post(served, "/api/uploads/one/declare", {"filesize": len(DATA), "sha1": SHA1})
    assert reply.json["state"] == "uploadcomplete"
    problem(post(served, "/api/uploads/one/declare", {"filesize": 5}), 409, "wrong_state")


def test_what_the_life_cycle_refuses_is_refused_with_its_code(house: House, served: Served) -> None:
    house.bring(State.WAITFORCHUNK)
    for word in ("retry", "request", "integrate", "start_import", "undo"):
        problem(post(served, f"/api/uploads/one/{word}"), 409, "wrong_state")
    problem(served("GET", "/api/uploads/one/plan"), 409, "wrong_state")
    problem(post(served, "/api/uploads/none/retry"), 404, "not_found")
    problem(post(served, "/api/uploads/one/retry", {"a": 1}), 400, "invalid_argument")
    problem(served("DELETE", "/api/uploads/one", {}, b"body"), 400, "unexpected_body")


def test_an_upload_is_explained_and_drawn(house: House, served: Served) -> None:
    house.bring(State.UPLOADFAILED)
    said = served("GET", "/api/uploads/one/explain").json
    assert (said["id"], said["state"]) == ("one", "uploadfailed")
    assert "retry" in [action["trigger"] for action in said["possible"]]
    drawn = served("GET", "/api/uploads/one/diagram.svg")
    assert drawn["content-type"] == "image/svg+xml"
    assert "sandbox" in drawn["content-security-policy"]
    assert b"<svg" in drawn.body
    assert b"<script" not in drawn.body


# ── the life cycle, the catalogue, pictures ───────────────────────────────────────────────────────────────────


def test_the_life_cycle_is_that_of_the_table(served: Served) -> None:
    reply = served("GET", "/api/lifecycle")
    assert [row["id"] for row in reply.json["rows"]] == [row.id for row in ROWS]
    again = served("GET", "/api/lifecycle", {"If-None-Match": reply["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert b"<svg" in served("GET", "/api/lifecycle/diagram.svg").body
    assert (
        served("GET", "/api/lifecycle/diagram.mmd").body.startswith(b"---\n")
        or b"stateDiagram" in served("GET", "/api/lifecycle/diagram.mmd").body
    )


def test_a_library_that_cannot_be_looked_through(served: Served) -> None:
    problem(served("GET", "/api/catalogue"), 404, "no_catalogue")


def test_the_catalogue_answers(catalogue: Catalogue, house: House, served: Served) -> None:
    house.bring(State.IMPORTCOMPLETE)
    album = catalogue.add_album("Alpha", "Gamma", "1999")
    assert served("GET", "/api/catalogue").json["videos"] == 1
    found = served("GET", "/api/catalogue/search?text=alp").json["found"]
    assert {(one["kind"], one["name"]) for one in found} >= {("artist", "Alpha"), ("video", "Beta")}
    assert served("GET", "/api/catalogue/suggest?field=artist&prefix=al").json == {"suggestions": ["Alpha"]}
    (listed,) = served("GET", "/api/catalogue/albums?artist=alpha").json["albums"]
    assert (listed["id"], listed["name"]) == (album, "Gamma")
    assert served("GET", f"/api/catalogue/albums/{album}").json["album"] == listed
    problem(served("GET", "/api/catalogue/albums/999"), 404, "not_in_catalogue")
    (video,) = served("GET", "/api/catalogue/videos?search=beta").json["videos"]
    assert video["entry"]["path"] == "Alpha/Beta.mp4"
    assert served("GET", "/api/catalogue/songs").json == {"songs": []}
    problem(served("GET", "/api/catalogue/search"), 400, "invalid_argument")
    problem(served("GET", "/api/catalogue/suggest?field=key"), 400, "invalid_argument")
    problem(served("GET", "/api/catalogue/search?text=%ff"), 400, "invalid_argument")


def picture(house: House, path: str, body: bytes = JPEG) -> None:
    file = house.root / "artwork" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(body)


def test_pictures_are_shown_and_can_do_nothing(house: House, served: Served) -> None:
    body = JPEG + os.urandom(600_000)
    picture(house, "Alpha/Bêta – 1.jpg", body)
    path = "/api/artwork/Alpha/B%C3%AAta%20%E2%80%93%201.jpg"
    reply = served("GET", path)
    assert (reply.status, reply["content-type"], reply.body) == (200, "image/jpeg", body)
    assert reply["content-security-policy"] == "default-src 'none'; sandbox"
    again = served("GET", path, {"If-None-Match": reply["etag"]})
    assert (again.status, again.body, again["etag"]) == (304, b"", reply["etag"])
    head = served("HEAD", path)
    assert (head.status, head.body, head["content-length"]) == (200, b"", str(len(body)))
    picture(house, "Alpha/Bêta – 1.jpg", body + b"x")
    assert served("GET", path, {"If-None-Match": reply["etag"]}).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "../secret.jpg", "..%2Fsecret.jpg", "%2Fetc%2Fpasswd", "a/../../secret.jpg", "link.jpg", "linked/x.jpg",
        ".stagedoor/x.jpg", "a/.x.jpg", "page.html", "fake.jpg", "fake.svg", "folder.jpg", "none.jpg", "a%00.jpg",
        "a//x.jpg", "fifo.jpg", "x.jpg/x.jpg", "%ff.jpg",
    ],
)  # fmt: skip
def test_nothing_but_pictures_of_the_tree_is_shown(house: House, served: Served, path: str) -> None:
    (house.root / "secret.jpg").write_bytes(JPEG)
    for name in ("x.jpg", "a/x.jpg", ".stagedoor/x.jpg", "a/.x.jpg", "page.html"):
        picture(house, name)
    picture(house, "fake.jpg", b"<svg onload=alert(1)>")
    picture(house, "fake.svg", b"<svg onload=alert(1)>")
    root = house.root / "artwork"
    (root / "folder.jpg").mkdir()
    (root / "link.jpg").symlink_to(root / "x.jpg")
    (root / "linked").symlink_to(root / "a")
    os.mkfifo(root / "fifo.jpg")
    problem(served("GET", f"/api/artwork/{path}"), 404, "no_picture")
    assert served("GET", "/api/artwork/a/x.jpg").status == 200


def test_opening_pictures_leaves_no_descriptors(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"no picture")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("a/x.jpg", "a/none.jpg", "b/x.jpg", "a/x.jpg/x.jpg"):
        with pytest.raises(WireError):
            open_picture(str(tmp_path), path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_upload_has_a_thumbnail_once_its_artwork_is_there(house: House, served: Served) -> None:
    house.bring(State.PREPROCESSED)
    problem(served("GET", "/api/uploads/one/thumbnail"), 404, "no_picture")
    house.uploads.integrate("one", trigger_import=True)
    house.worker.drain()
    task = house.uploads.get("one")
    pictures = [file for file in task.placed if file.root == "artwork"]
    assert pictures
    assert any(file.path.endswith((".jpg", ".png", ".webp")) for file in pictures)
    for file in pictures:
        (house.root / "artwork" / file.path).write_bytes(JPEG)
    assert served("GET", "/api/uploads/one/thumbnail").body == JPEG


# ── who may ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_with_a_key_nothing_but_life_signs_is_for_everybody(house: House) -> None:
    with answering(house, keys=("correct horse",)) as served:
        for path in ("/api/uploads", "/api/openapi.json", "/api/events", "/metrics"):
            reply = served("GET", path)
            problem(reply, 401, "unauthorized")
            assert reply["www-authenticate"] == "Bearer"
        problem(served("GET", "/api/uploads", {"Authorization": "Bearer wrong horse"}), 401, "unauthorized")
        assert served("GET", "/api/uploads", {"Authorization": "Bearer correct horse"}).status == 200
        assert served("GET", "/api/uploads", {"X-Api-Key": "correct horse"}).status == 200
        problem(served("GET", "/api/uploads?key=correct+horse"), 401, "unauthorized")
        for path in ("/healthz", "/readyz", "/"):
            assert served("GET", path).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Same-Origin"])
def test_pages_of_other_sites_change_nothing_though_they_send_no_origin(method: str, site: str) -> None:
    gate = Gate(ServerConfig(), Cors())
    headers = {"host": "localhost:8337", "sec-fetch-site": site}
    with pytest.raises(Refused, match="may not change anything") as refused:
        gate.check(headers, secure=False, method=method)
    assert refused.value.code == "forbidden"


@pytest.mark.parametrize(
    ("method", "site"),
    [
        ("GET", "cross-site"),
        ("HEAD", "same-site"),
        ("OPTIONS", "cross-site"),
        ("POST", "same-origin"),
        ("POST", "none"),
    ],
)
def test_looking_and_our_own_pages_pass(method: str, site: str) -> None:
    Gate(ServerConfig(), Cors()).check({"host": "localhost", "sec-fetch-site": site}, secure=False, method=method)


def test_programs_say_nothing_about_sites_and_allowed_pages_say_who_they_are() -> None:
    gate = Gate.of(ServerConfig(origins=("https://music.example",)))
    gate.check({"host": "localhost"}, secure=False, method="POST")
    headers = {"host": "localhost", "sec-fetch-site": "cross-site", "origin": "https://music.example"}
    gate.check(headers, secure=False, method="POST")
    with pytest.raises(Refused, match="Pages of"):
        gate.check(headers | {"origin": "https://evil.example"}, secure=False, method="POST")


def test_a_cross_site_request_is_refused_over_the_wire(house: House, served: Served) -> None:
    house.bring(State.PREPROCESSED)
    problem(post(served, "/api/uploads/one/remove", Sec_Fetch_Site="cross-site"), 403, "forbidden")
    assert house.uploads.get("one").state is State.PREPROCESSED


# ── small parts ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        ("*/*", True),
        ("application/*", True),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/html", False),
        ("text/html, application/json;q=0.1", True),
        ("application/json;q=0", False),
        ("*/*, application/json;q=0", False),
        ("*/*;q=0, application/json", True),
        ("application/*;q=0.000", False),
        ("", False),
    ],
)
def test_accept_is_read_as_it_is_meant(accept: str, answer: bool) -> None:
    assert accepts(accept, "application/json") is answer


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=4))
def test_queries_come_back_as_they_were_written(values: dict[str, str]) -> None:
    from urllib.parse import urlencode

    assert parse_query(urlencode(values).encode()) == values


@given(st.binary(max_size=60))
def test_any_query_is_read_or_refused(query: bytes) -> None:
    refused: WireError | None = None
    try:
        parse_query(query)
    except WireError as error:
        refused = error
    assert refused is None or refused.code == "invalid_argument"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(JSON, st.sampled_from([p for r in TABLE.routes for p in (*r.inside, *r.query, *(r.body or ()))]))
def test_any_value_is_of_its_kind_or_refused(value: Any, param: Param) -> None:
    refused: WireError | None = None
    try:
        param.check(value)
    except WireError as error:
        refused = error
    kinds: dict[str, Any] = {"string": str, "integer": int, "boolean": bool, "object": dict, "list": (list, tuple)}
    if refused is None:
        assert isinstance(value, kinds[param.kind]) or (value is None and param.null)
    else:
        assert (refused.code, refused.sentence.split()[0]) == ("invalid_argument", param.name)
