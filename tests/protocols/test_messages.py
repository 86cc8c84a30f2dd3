"""JSON from strangers, and tasks as clients may see them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.notices import NoticeKind
from stagedoor.protocols.messages import (
    JSONLimits,
    MessageError,
    coalescing_key,
    encode_task,
    key_matches,
    parse_object,
)
from stagedoor.tasks import SPECIFICATION_KEYS

from .documents import SERVER, notice, task

LIMITS = JSONLimits(max_bytes=10_000, max_values=500, max_depth=4)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_json"), ("[]", "invalid_json"), ("1", "invalid_json"), ('"a"', "invalid_json"),
        ("{", "invalid_json"), ("{}{}", "invalid_json"), ('{"a":NaN}', "invalid_json"), ('{"a":1,}', "invalid_json"),
        ('{"a":"\\ud800"}', "invalid_json"), ('{"a":"\ud800"}', "invalid_json"), ("{'a':1}", "invalid_json"),
        ('{"a":' + "1" * 10_000 + "}", "too_large"), ('{"a":[' + "1," * 600 + "1]}", "too_large"),
        ('{"a":' + "[" * 400 + "]" * 400 + "}", "too_deep"), ('{"a":{"b":{"c":{"d":{}}}}}', "too_deep"),
        (b"\xff\xfe{}", "invalid_json"), (b'{"a":"\xff"}', "invalid_json"),
    ],
)  # fmt: skip
def test_what_is_no_message(text: str | bytes, code: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_object(text, LIMITS)
    assert caught.value.code == code


def test_a_hundred_thousand_brackets_are_not_even_parsed() -> None:
    wide = JSONLimits(max_bytes=1 << 20, max_values=1 << 20, max_depth=1 << 20)
    for text in ('{"a":' + "[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(MessageError):
            parse_object(text, wide)


def test_depth_and_values_up_to_the_limit() -> None:
    assert parse_object('{"a":{"b":{"c":{"d":1}}}}', LIMITS) == {"a": {"b": {"c": {"d": 1}}}}
    assert parse_object(b'{"a":[' + b"1," * 400 + b"1]}", LIMITS)["a"] == [1] * 401


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=5))
def test_objects_come_back(value: dict[str, Any]) -> None:
    limits = JSONLimits(max_bytes=1 << 20, max_depth=50)
    assert parse_object(orjson.dumps(value), limits) == parse_object(orjson.dumps(value).decode(), limits) == value


@given(st.text() | st.binary() | st.text('{}[]",:0a\\u'))
def test_any_text_is_an_object_or_refused(text: str | bytes) -> None:
    try:
        assert isinstance(parse_object(text, LIMITS), dict)
    except MessageError as error:
        refusal = error.code
    else:
        return
    assert refusal in {"invalid_json", "too_large", "too_deep"}


def test_a_task_keeps_the_server_s_paths_and_tokens_to_itself() -> None:
    raw = encode_task(task())
    assert SERVER.encode() not in raw
    assert b"token-of-a-worker" not in raw
    document = orjson.loads(raw)
    assert set(SPECIFICATION_KEYS) <= set(document)
    assert document["destinationpath"] == "ab/video-pending.mp4"
    assert document["annotations"] == {"name": "Ünï", "nested": {"a": [1, None, True]}}
    assert document["step"]["trigger"] == "preprocess"
    assert orjson.loads(encode_task(task(step=None)))["step"] is None


def test_only_progress_may_be_left_out() -> None:
    assert coalescing_key(notice(NoticeKind.CHUNK_REQUEST, task())) == "progress u1"
    assert coalescing_key(notice(NoticeKind.STATE_UPDATE, task())) is None
    assert coalescing_key(notice(NoticeKind.INTERNAL_ERROR)) is None


@pytest.mark.parametrize(
    ("expected", "given_", "right"),
    [
        (None, None, True), (None, "x", True), ("k", "k", True), ("kéy", "kéy", True), ("k", None, False),
        ("k", "", False), ("k", "K", False), ("", None, False), ("", "", True), ("k", "\ud800", False),
    ],
)  # fmt: skip
def test_keys(expected: str | None, given_: str | None, right: bool) -> None:
    assert key_matches(expected, given_) is right
