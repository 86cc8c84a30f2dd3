"""Our own dialect: text frames of control, binary frames of bytes."""

from __future__ import annotations

import inspect
from typing import Any

import orjson
import pytest
from attrs import NOTHING, fields
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.errors import OffsetMismatch, TooLarge, UploadError, WrongState
from stagedoor.notices import NoticeKind
from stagedoor.protocols import frames
from stagedoor.protocols.frames import Ask, Chunk, Error, Hello, Initiate, Limits, ListTasks, Stop, Told
from stagedoor.protocols.messages import MessageError, encode_task

from .documents import SERVER, notice, task

LIMITS = Limits(max_chunk=1000, max_annotations=500)

CLIENT: list[frames.ClientMessage] = [
    Hello(version=1, key="secret", window=4),
    Initiate(n=1, uploadid="u1", filename="a.mp4", contenttype="video"),
    Initiate(n=1, uploadid="u1", filename="ä", contenttype="album", filesize=9, sha1="0" * 40, mimetype="audio/flac",
             annotations={"a": [1, {"b": None}]}),
    frames.Declare(n=2, uploadid="u1", filesize=7, sha1=None),
    frames.Claim(n=3, uploadid="u1"),
    frames.Release(n=4, uploadid="u1"),
    frames.Annotate(n=5, uploadid="u1", annotations={"name": "N"}),
    frames.Plan(n=6, uploadid="u1"),
    frames.Request(n=7, uploadid="u1", trigger_import=True),
    frames.Integrate(n=8, uploadid="u1"),
    frames.Import(n=9, uploadid="u1"),
    frames.Retry(n=10, uploadid="u1"),
    frames.Undo(n=11, uploadid="u1"),
    frames.Remove(n=12, uploadid="u1"),
    ListTasks(n=13, after="u1", limit=50),
]  # fmt: skip
SERVER_MESSAGES: list[frames.ServerMessage] = [
    frames.Welcome(version=1, chunk_size=5, max_chunk=9, max_file_size=1 << 40, max_annotations=0, window=2,
                   heartbeat=3),
    Ask(uploadid="u1", handle=2**32 - 1, offset=2**40, length=5),
    Stop(handle=7, uploadid=None, code="unknown_handle", sentence="Forget it.", expected=5),
    Told(kind="StateUpdate", uploadid="u1", state="preprocessed", offset=5, message=None, code=None, task={"id": "u1"}),
    frames.Progress(uploads=[{"id": "u1", "uid": "f", "offset": 5, "filesize": None}]),
    frames.Tasks(n=1, tasks=[{"id": "u1"}], more=True),
    frames.Done(n=2, task={"id": "u1"}, plan=None),
    Error(n=None, code="invalid_json", sentence="No."),
    frames.Heartbeat(),
]  # fmt: skip


def _names(message: frames.ClientMessage | frames.ServerMessage) -> str:
    return f"{type(message).__name__}-{getattr(message, 'filename', '')}"


@pytest.mark.parametrize("message", CLIENT, ids=_names)
def test_what_a_client_says_comes_back(message: frames.ClientMessage) -> None:
    encoded = frames.encode(message)
    assert not encoded.binary
    assert frames.parse_client(encoded.payload, LIMITS) == frames.parse_client(encoded.text, LIMITS) == message


@pytest.mark.parametrize("message", SERVER_MESSAGES, ids=_names)
def test_what_a_server_says_comes_back(message: frames.ServerMessage) -> None:
    assert frames.parse_server(frames.encode(message).payload) == message


def test_every_message_is_tried_here() -> None:
    said = {type(message).__name__ for message in (*CLIENT, *SERVER_MESSAGES)}
    written = {
        name
        for name, cls in inspect.getmembers(frames, inspect.isclass)
        if cls.__module__ == frames.__name__ and not name.startswith("_") and name not in {"Limits", "Chunk"}
    }
    assert said == written
    aliases = f"{frames.ClientMessage} | {frames.ServerMessage}"
    assert written == set(aliases.split(" | "))


def test_a_key_is_never_shown() -> None:
    assert "secret" not in repr(CLIENT[0])


@pytest.mark.parametrize("message", CLIENT, ids=_names)
def test_what_has_a_default_may_be_left_out_and_nothing_else(message: frames.ClientMessage) -> None:
    whole = orjson.loads(frames.encode(message).payload)
    for member in fields(type(message)):
        short = {key: value for key, value in whole.items() if key != member.name}
        if member.default is NOTHING:
            with pytest.raises(MessageError) as caught:
                frames.parse_client(orjson.dumps(short), LIMITS)
            assert caught.value.argument == member.name
        else:
            assert getattr(frames.parse_client(orjson.dumps(short), LIMITS), member.name) == member.default


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"n": -1}, "n"), ({"n": "1"}, "n"), ({"n": True}, "n"), ({"n": None}, "n"), ({"n": 2**53}, "n"),
        ({"uploadid": 1}, "uploadid"), ({"uploadid": "x" * 1025}, "uploadid"), ({"filesize": 1.5}, "filesize"),
        ({"filesize": False}, "filesize"), ({"annotations": []}, "annotations"), ({"annotations": None}, "annotations"),
        ({"filename": None}, "filename"), ({"what": 1}, "'what'"),
    ],
)  # fmt: skip
def test_an_error_names_the_member(change: dict[str, Any], argument: str) -> None:
    whole = orjson.loads(frames.encode(CLIENT[1]).payload)
    with pytest.raises(MessageError) as caught:
        frames.parse_client(orjson.dumps(whole | change), LIMITS)
    assert (caught.value.code, caught.value.argument) == ("invalid_argument", argument)
    assert caught.value.request == (None if argument == "n" else 1)


@pytest.mark.parametrize("kind", [None, "", "welcome", "Hello", 1, ["hello"], {}])
def test_an_unknown_type_keeps_the_number_of_the_request(kind: object) -> None:
    with pytest.raises(MessageError) as caught:
        frames.parse_client(orjson.dumps({"type": kind, "n": 5}), LIMITS)
    assert (caught.value.code, caught.value.request) == ("unknown_type", 5)
    assert frames.error_of(caught.value) == Error(n=5, code="unknown_type", sentence=caught.value.sentence)


def test_errors_as_messages() -> None:
    mismatch = frames.error_of(OffsetMismatch("At 7.", expected=7, guard="fits"), 3)
    assert mismatch == Error(n=3, code="offset_mismatch", sentence="At 7.", guard="fits", expected=7)
    assert frames.error_of(WrongState("\ud800"), 3).sentence == "?"
    wrong = MessageError("n is missing.", code="invalid_argument", argument="n")
    assert frames.error_of(wrong) == Error(code="invalid_argument", sentence="n is missing.", argument="n")


def test_a_notice_is_encoded_once_and_progress_can_be_left_out() -> None:
    progress = frames.encode_notice(notice(NoticeKind.CHUNK_REQUEST, task()))
    assert progress.key == "progress u1"
    assert SERVER.encode() not in progress.payload
    told = frames.parse_server(progress.payload)
    assert isinstance(told, Told)
    assert (told.kind, told.state, told.offset) == ("ChunkRequest", "waitforchunk", 40)
    assert told.task is not None
    assert told.task["id"] == "u1"
    gone = frames.encode_notice(notice(NoticeKind.INTERNAL_ERROR, message="Gone \ud800", code="not_found"))
    assert gone.key is None
    assert frames.parse_server(gone.payload) == Told(
        kind="InternalError", uploadid="u1", state="notexisting", offset=0, message="Gone ?", code="not_found"
    )
    assert frames.encode(frames.Heartbeat()).key == "heartbeat"


def test_progress_is_one_message_and_no_document() -> None:
    notices = [notice(NoticeKind.CHUNK_REQUEST, task(id=f"u{n}", offset=n, filesize=None)) for n in range(3)]
    told = frames.parse_server(frames.encode_progress(notices).payload)
    assert isinstance(told, frames.Progress)
    assert told.uploads == [{"id": f"u{n}", "uid": "f" * 32, "offset": n, "filesize": None} for n in range(3)]
    assert frames.encode_progress(notices).key is None


def test_answers_from_json_that_is_there() -> None:
    document = encode_task(task())
    done = frames.parse_server(frames.encode_done(4, task=document).payload)
    assert done == frames.Done(n=4, task=orjson.loads(document))
    page = frames.parse_server(frames.encode_tasks(5, [document, document], more=True).payload)
    assert page == frames.Tasks(n=5, tasks=[orjson.loads(document)] * 2, more=True)
    plan = frames.parse_server(frames.encode_done(6, plan=b'{"files":[]}').payload)
    assert plan == frames.Done(n=6, plan={"files": []})


# ── binary frames ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_header_is_what_the_description_says() -> None:
    assert frames.HEADER_SIZE == 13
    assert frames.encode_chunk(7, 258, b"xyz") == b"\x11" + b"\0\0\0\x07" + b"\0\0\0\0\0\0\x01\x02" + b"xyz"
    assert frames.chunk_header(7, 258) + b"xyz" == frames.encode_chunk(7, 258, memoryview(b"xyz"))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(min_size=1, max_size=1000))
def test_chunks_come_back(handle: int, offset: int, data: bytes) -> None:
    assert frames.parse_chunk(frames.encode_chunk(handle, offset, data), LIMITS) == Chunk(
        handle, offset, memoryview(data)
    )


def test_nothing_is_copied() -> None:
    frame = bytearray(frames.encode_chunk(1, 2, b"abc"))
    chunk = frames.parse_chunk(frame, LIMITS)
    frame[-1] = ord("d")
    assert bytes(chunk.data) == b"abd"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", "invalid_frame"),
        (b"\x11", "invalid_frame"),
        (frames.chunk_header(1, 0), "invalid_frame"),
        (b"\x21" + frames.encode_chunk(1, 0, b"x")[1:], "unsupported_version"),
        (b"\x12" + frames.encode_chunk(1, 0, b"x")[1:], "invalid_frame"),
        (frames.encode_chunk(1, 0, b"x" * 1001), "chunk_too_large"),
    ],
)
def test_frames_that_are_none(frame: bytes, code: str) -> None:
    with pytest.raises(UploadError) as caught:
        frames.parse_chunk(frame, LIMITS)
    assert caught.value.code == code


@given(st.binary(max_size=40))
def test_any_bytes_are_a_chunk_or_refused(frame: bytes) -> None:
    try:
        chunk = frames.parse_chunk(frame, LIMITS)
    except (MessageError, TooLarge):
        return
    assert frames.encode_chunk(chunk.handle, chunk.offset, chunk.data) == frame


MEMBERS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["n", "uploadid", "filename", "annotations", "version", "window", "limit", "trigger_import"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just({}),
)


@given(st.sampled_from(["hello", "initiate", "claim", "list", "request", "annotate", "x"]), MEMBERS)
def test_any_message_is_read_or_refused(kind: str, members: dict[str, Any]) -> None:
    members = {key: value for key, value in members.items() if not (isinstance(value, int) and abs(value) >= 2**63)}
    try:
        message = frames.parse_client(orjson.dumps({"type": kind} | members), LIMITS)
    except MessageError:
        return
    assert frames.parse_client(frames.encode(message).payload, LIMITS) == message


@given(st.text() | st.binary())
def test_any_text_is_a_message_or_refused(text: str | bytes) -> None:
    for parse in (lambda t: frames.parse_client(t, LIMITS), frames.parse_server):
        with pytest.raises(MessageError):
            parse(text)
