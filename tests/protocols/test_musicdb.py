"""MusicDB's JSON dialect."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.errors import Refused, TooLarge, UploadError
from stagedoor.lifecycle import State
from stagedoor.notices import Notice, NoticeKind
from stagedoor.protocols import musicdb
from stagedoor.protocols.messages import MessageError, encode_task
from stagedoor.protocols.musicdb import (
    AnnotateUpload,
    GetUploads,
    InitiateUpload,
    IntegrateUpload,
    Limits,
    Method,
    Packet,
    RemoveUpload,
    UploadChunk,
    parse_call,
    parse_packet,
)
from stagedoor.tasks import Offer

from .documents import SERVER, notice, task

LIMITS = Limits(max_chunk=1000, max_annotations=500)
SHA1 = hashlib.sha1(b"x").hexdigest()
DECLARATION = {
    "uploadid": SHA1, "mimetype": "image/png", "contenttype": "artwork", "filesize": 5, "checksum": SHA1,
    "filename": "a.png",
}  # fmt: skip


def packet(fncname: str = "GetUploads", arguments: Any = None, **rest: Any) -> str:
    whole = {"method": "request", "fncname": fncname, "fncsig": "s", "arguments": arguments, "pass": None, "key": "k"}
    return orjson.dumps(whole | rest).decode()


def call(fncname: str, **arguments: Any) -> musicdb.Call:
    return parse_call(parse_packet(packet(fncname, arguments), LIMITS), LIMITS)


@pytest.mark.parametrize("method", ["call", "request", "broadcast"])
def test_a_packet(method: str) -> None:
    found = parse_packet(packet("F", {"a": 1}, method=method, **{"pass": {"b": [1]}}), LIMITS)
    assert found == Packet(Method(method), "F", "s", {"a": 1}, {"b": [1]}, "k")
    assert "'k'" not in repr(found)  # a key is in no log
    assert parse_packet(b'{"method":"call","fncname":"F"}', LIMITS).arguments == {}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"method": "response"}, "method"), ({"method": None}, "method"), ({"method": ["call"]}, "method"),
        ({"fncname": ""}, "fncname"), ({"fncname": 1}, "fncname"), ({"fncname": "x" * 65}, "fncname"),
        ({"arguments": []}, "arguments"), ({"arguments": "x"}, "arguments"), ({"key": 1}, "key"),
    ],
)  # fmt: skip
def test_packets_that_are_none(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_packet(packet(**changes), LIMITS)
    assert (caught.value.code, caught.value.argument) == ("invalid_packet", name)
    assert name in caught.value.sentence


def test_a_packet_is_bounded() -> None:
    with pytest.raises(MessageError):
        parse_packet(packet(arguments={"a": "x" * 100_000}), LIMITS)
    with pytest.raises(MessageError):
        parse_packet(packet(arguments={"a": [0] * 8000}, fncsig=[0] * 13_000), Limits(max_chunk=1 << 20))
    largest = packet("UploadChunk", {"uploadid": "u", "chunkdata": "0f" * 1000})
    assert parse_packet(largest, LIMITS).fncname == "UploadChunk"


def test_initiate() -> None:
    assert call("InitiateUpload", **DECLARATION) == InitiateUpload(
        Offer(SHA1, filename="a.png", contenttype="artwork", filesize=5, sha1=SHA1, mimetype="image/png")
    )


@pytest.mark.parametrize("name", list(DECLARATION))
@pytest.mark.parametrize("value", [None, [], {}, True, 1.5])
def test_an_error_names_the_argument(name: str, value: object) -> None:
    with pytest.raises(MessageError) as caught:
        call("InitiateUpload", **(DECLARATION | {name: value}))
    assert (caught.value.code, caught.value.argument) == ("invalid_argument", name)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"filesize": 0}, "empty"), ({"filesize": -1}, "empty"), ({"checksum": "x"}, "invalid_checksum"),
     ({"uploadid": "../x"}, "invalid_id"), ({"contenttype": "../x"}, "invalid_contenttype")],
)  # fmt: skip
def test_a_declaration_that_nobody_takes(change: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as caught:
        call("InitiateUpload", **(DECLARATION | change))
    assert caught.value.code == code


@given(st.binary(max_size=1000))
def test_chunks_come_back(data: bytes) -> None:
    assert call("UploadChunk", uploadid="u", chunkdata=data.hex()) == UploadChunk("u", data)
    assert call("UploadChunk", uploadid="u", chunkdata=data.hex().upper()) == UploadChunk("u", data)


@pytest.mark.parametrize("digits", ["0", "0g", "0x00", " 00", "00\n", "é0", "00 00", None, 5, ["00"]])
def test_a_chunk_is_hexadecimal_digits_and_nothing_else(digits: object) -> None:
    with pytest.raises(MessageError) as caught:
        call("UploadChunk", uploadid="u", chunkdata=digits)
    assert caught.value.argument == "chunkdata"


def test_a_chunk_is_bounded() -> None:
    with pytest.raises(TooLarge) as caught:
        call("UploadChunk", uploadid="u", chunkdata="00" * 1001)
    assert caught.value.code == "chunk_too_large"


def test_the_other_calls() -> None:
    assert call("GetUploads") == GetUploads()
    assert call("AnnotateUpload", uploadid="u", name="N", release=2020) == AnnotateUpload(
        "u", {"name": "N", "release": 2020}
    )
    assert call("IntegrateUpload", uploadid="u", triggerimport=True) == IntegrateUpload("u", True)
    assert call("RemoveUpload", uploadid="u") == RemoveUpload("u")


@pytest.mark.parametrize(
    ("fncname", "arguments", "name"),
    [
        ("IntegrateUpload", {"uploadid": "u"}, "triggerimport"),
        ("IntegrateUpload", {"uploadid": "u", "triggerimport": 1}, "triggerimport"),
        ("IntegrateUpload", {"triggerimport": True}, "uploadid"),
        ("RemoveUpload", {"uploadid": 7}, "uploadid"),
        ("AnnotateUpload", {"name": "x"}, "uploadid"),
        ("UploadChunk", {"chunkdata": "00"}, "uploadid"),
    ],
)
def test_arguments_that_are_missing_or_wrong(fncname: str, arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(MessageError) as caught:
        call(fncname, **arguments)
    assert caught.value.argument == name


def test_unknown_functions_and_annotations_beyond_the_limits() -> None:
    with pytest.raises(MessageError) as unknown:
        call("Shutdown")
    assert unknown.value.code == "unknown_function"
    with pytest.raises(TooLarge):
        call("AnnotateUpload", uploadid="u", name="x" * 600)
    deep: Any = "x"
    for _ in range(9):
        deep = [deep]
    with pytest.raises(TooLarge):
        call("AnnotateUpload", uploadid="u", name=deep)


def test_a_request_is_answered_a_call_is_not() -> None:
    asked = parse_packet(packet("GetUploads", **{"pass": {"x": 1}}), LIMITS)
    answer = musicdb.answer(asked, True)
    assert answer is not None
    assert answer.key is None
    assert orjson.loads(answer.payload) == {
        "method": "response", "fncname": "GetUploads", "fncsig": "s", "arguments": True, "pass": {"x": 1},
    }  # fmt: skip
    everybody = musicdb.answer(parse_packet(packet(method="broadcast"), LIMITS), b'{"videos":[]}')
    assert everybody is not None
    assert orjson.loads(everybody.text)["method"] == "broadcast"
    assert orjson.loads(everybody.text)["arguments"] == {"videos": []}
    assert musicdb.answer(parse_packet(packet(method="call"), LIMITS), True) is None


def test_uploads_are_listed_by_content_type() -> None:
    assert orjson.loads(musicdb.encode_uploads([])) == {"videos": [], "albums": [], "artworks": []}
    album = task(id="u2", contenttype="album")
    listed = orjson.loads(musicdb.encode_uploads([task(), ("album", encode_task(album)), task(contenttype="booklet")]))
    assert [t["id"] for t in listed["videos"]] == ["u1"]
    assert [t["id"] for t in listed["albums"]] == ["u2"]
    assert len(listed["booklets"]) == 1


def heard(about: Notice, uploads: bytes | None = None, **rest: Any) -> dict[str, Any]:
    message = musicdb.encode_notice(about, chunk_size=50, **rest)
    assert SERVER.encode() not in message.payload
    assert isinstance(message, musicdb.Listing) == (uploads is not None), "not everything needs the list"
    payload = message.payload
    if isinstance(message, musicdb.Listing):
        assert b"uploadslist" in payload
        payload = message.filled(uploads or b"")
    document: dict[str, Any] = orjson.loads(payload)
    assert document["method"] == "notification"
    assert document["fncname"] == "MusicDB:Upload"
    assert document["pass"] is None
    return document


def test_a_request_for_a_chunk() -> None:
    document = heard(notice(NoticeKind.CHUNK_REQUEST, task(), chunksize=50))
    assert document["fncsig"] == "ChunkRequest"
    data = document["arguments"]
    assert set(data) == {"uploadid", "offset", "chunksize", "state", "message", "uploadtask"}
    assert (data["uploadid"], data["offset"], data["chunksize"], data["state"]) == ("u1", 40, 50, "waitforchunk")
    assert data["message"] is None
    assert data["uploadtask"]["id"] == "u1"
    assert heard(notice(NoticeKind.CHUNK_REQUEST, task(offset=80), chunksize=50))["arguments"]["chunksize"] == 20


def test_everything_else_has_the_list_of_uploads() -> None:
    done = task(state=State.PREPROCESSED, offset=100)
    uploads = musicdb.encode_uploads([done])
    document = heard(notice(NoticeKind.STATE_UPDATE, done), uploads, task=encode_task(done))
    assert document["fncsig"] == "StateUpdate"
    assert [t["id"] for t in document["arguments"]["uploadslist"]["videos"]] == ["u1"]
    assert document["arguments"]["chunksize"] == 50
    gone = heard(notice(NoticeKind.INTERNAL_ERROR, message="There is no upload '\ud800'."), b'{"videos":[]}')[
        "arguments"
    ]
    assert (gone["state"], gone["uploadtask"], gone["chunksize"], gone["offset"]) == ("notexisting", None, 0, 0)
    assert gone["message"] == "There is no upload '?'."
    assert gone["uploadslist"] == {"videos": []}


@pytest.mark.parametrize("pass_", [None, {"a": ['},"pass":null}']}])
def test_a_broadcast_of_the_list_gets_it_when_it_is_sent(pass_: Any) -> None:
    packet = musicdb.Packet(musicdb.Method.BROADCAST, "GetUploads", "All", pass_=pass_)
    message = musicdb.broadcast_uploads(packet)
    assert message.key is None
    for listed in (musicdb.encode_uploads([]), musicdb.encode_uploads([task()])):
        whole = musicdb.answer(packet, listed)
        assert whole is not None
        assert orjson.loads(message.filled(listed)) == orjson.loads(whole.payload)


def test_the_heartbeat_is_a_notification_that_the_client_ignores() -> None:
    document = orjson.loads(musicdb.HEARTBEAT.payload)
    assert (document["method"], document["fncname"]) == ("notification", "MusicDB:Heartbeat")


ARGUMENTS = st.dictionaries(
    st.sampled_from([*DECLARATION, "chunkdata", "triggerimport", "name"]) | st.text(max_size=4),
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=10) | st.lists(st.integers(0, 5)),
)
FUNCTIONS = ["InitiateUpload", "UploadChunk", "GetUploads", "AnnotateUpload", "IntegrateUpload", "RemoveUpload"]


@given(st.sampled_from(FUNCTIONS) | st.text(max_size=5), ARGUMENTS)
def test_any_call_is_typed_or_refused(fncname: str, arguments: dict[str, Any]) -> None:
    whole = Packet(Method.CALL, fncname, None, arguments)
    try:
        found = parse_call(whole, LIMITS)
    except UploadError as error:
        refusal: UploadError | None = error
    else:
        refusal = None
        assert type(found).__name__ == fncname
    assert refusal is None or isinstance(refusal, Refused | MessageError)


@given(st.text() | st.binary())
def test_any_text_is_a_packet_or_refused(text: str | bytes) -> None:
    try:
        found = parse_packet(text, LIMITS)
    except MessageError:
        return
    assert isinstance(found, Packet)


PARTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["method", "fncname", "fncsig", "arguments", "pass", "key"]),
    st.sampled_from(["call", "request", "GetUploads", None, 1, True, [], ["call"], {}, {"uploadid": "u"}]),
)


@given(PARTS)
def test_any_object_is_a_packet_or_refused(parts: dict[str, Any]) -> None:
    try:
        found = parse_packet(orjson.dumps(parts), LIMITS)
    except MessageError as error:
        refusal = error.argument
    else:
        assert musicdb.answer(found, None) is None or found.method is not Method.CALL
        return
    assert refusal in {"method", "fncname", "arguments", "key"}
