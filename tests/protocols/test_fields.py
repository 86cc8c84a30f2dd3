"""Header fields: what is taken, what is refused, and that hostile text costs no more than it is long."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.protocols import fields
from stagedoor.protocols.fields import Answer, InvalidField, Token

LATIN = st.text(st.characters(max_codepoint=255))


def test_names_are_lower_case_and_lists_are_joined() -> None:
    raw = [(b"Upload-Metadata", b" a YQ== "), (b"upload-metadata", b"b Yg=="), (b"X-Other", b"1"), (b"X-Other", b"2")]
    assert fields.collect(raw) == {"upload-metadata": "a YQ==, b Yg==", "x-other": "2"}


@pytest.mark.parametrize("name", ["Upload-Offset", "Content-Length", "Tus-Resumable", "X-HTTP-Method-Override"])
def test_a_field_with_one_value_may_not_come_twice(name: str) -> None:
    twice = [(name.encode(), b"1"), (name.lower().encode(), b"1")]
    with pytest.raises(InvalidField) as caught:
        fields.collect(twice)
    assert caught.value.code == "duplicate_header"
    assert name.lower() in caught.value.sentence


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=8))
def test_any_bytes_are_collected_or_refused(raw: list[tuple[bytes, bytes]]) -> None:
    try:
        headers = fields.collect(raw)
    except InvalidField:
        return
    assert set(headers) == {name.decode("latin-1").lower() for name, _ in raw}
    Answer(200, tuple(headers.items()))  # and none of them can end its line


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "\0", "\x7f", "Ł"])
def test_no_answer_carries_a_value_that_begins_another_line(value: str) -> None:
    with pytest.raises(InvalidField):
        Answer(200, (("Upload-Metadata", value),))


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1 ", "1_0", "0x1", "1.0", "١", "²", "9" * 19, "1" * 5000])
def test_a_number_is_digits_and_nothing_else(text: str) -> None:
    with pytest.raises(InvalidField):
        fields.number("Upload-Offset", text)


def test_numbers_reach_to_the_largest_file() -> None:
    assert fields.number("n", "9223372036854775807") == 2**63 - 1
    assert fields.number("n", "007") == 7


@pytest.mark.parametrize("text", ["YQ", "YQ=", "YQ===", "YQ==YQ==", "Y Q==", "YQ==\n", "Y-==", "Y_==", "é===", "="])
def test_base64_is_strict(text: str) -> None:
    with pytest.raises(InvalidField):
        fields.base64_of("Upload-Metadata", text)


@given(st.binary())
def test_base64_comes_back(data: bytes) -> None:
    import base64

    assert fields.base64_of("x", base64.b64encode(data).decode()) == data


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (1403712000.9, "Wed, 25 Jun 2014 16:00:00 GMT"),
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (1e300, "Fri, 31 Dec 9999 23:59:59 GMT"),
        (-5, "Thu, 01 Jan 1970 00:00:00 GMT"),
    ],
)
def test_dates_are_imf_fixdates(time: float, text: str) -> None:
    assert fields.http_date(time) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("inline", None),
        ('inline; filename="file name.jpg"', "file name.jpg"),
        ("inline; filename=plain.jpg", "plain.jpg"),
        ("attachment; FileName=\"a.mp3\" ; filename*=UTF-8''%e2%82%ac%20rates.mp3", "€ rates.mp3"),
        ("inline; filename*=iso-8859-1'en'%A3.mp3; filename=x", "£.mp3"),
        ("inline; filename*=UTF-8''%ff; filename=fallback.mp3", "fallback.mp3"),
        ("inline; filename*=koi8-r''%41; filename=fallback.mp3", "fallback.mp3"),
        (r'inline; filename="a \"b\" \\c.mp3"', "c.mp3"),
        ('inline; filename="../../etc/passwd"', "passwd"),
        ('inline; filename="C:\\\\music\\\\a.mp3"', "a.mp3"),
        ('inline; filename="dir/"', None),
        ('inline; filename="' + "Motörhead.mp3".encode().decode("latin-1") + '"', "Motörhead.mp3"),
        ('inline; filename="Mot\xf6rhead.mp3"', "Motörhead.mp3"),
        ('form-data; name="x"; filename="y;z"', "y;z"),
        ("inline;", None),
        ("", None),
    ],
)
def test_file_names_in_content_disposition(text: str, name: str | None) -> None:
    assert fields.content_disposition(text) == name


@pytest.mark.parametrize(
    "text", ['inline; filename="a', "inline filename=a", "inline; filename=", "=", "inline; filename=a; filename=b"]
)
def test_a_disposition_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        fields.content_disposition(text)
    assert caught.value.code == "invalid_disposition"


@given(LATIN)
def test_any_disposition_is_read_or_refused(text: str) -> None:
    try:
        name = fields.content_disposition(text)
    except InvalidField:
        return
    assert name is None or ("/" not in name and "\\" not in name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("?1", True), ("?0", False), (" ?1 ", True), ("?1;a=1", True),
        ("", None), ("1", None), ("?2", None), ("true", None), ("?1, ?1", None), ("??1", None), ('"?1"', None),
    ],
)  # fmt: skip
def test_booleans(text: str, value: bool | None) -> None:
    assert fields.structured_boolean(text) is value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("42", 42), (" 7", 7), ("00", 0), ("999999999999999", 999999999999999), ("-0", 0), ("5;q=1", 5),
        ("", None), ("-1", None), ("1000000000000000", None), ("1.0", None), ("+1", None), ("1, 1", None),
        ("?1", None), ("1 2", None), ("٣", None), ('"1"', None), ("1\t", None),
    ],
)  # fmt: skip
def test_integers(text: str, value: int | None) -> None:
    assert fields.structured_integer(text) == value


def test_a_dictionary_with_everything_in_it() -> None:
    text = (
        'a=1, b=-2.5;x=?0 ,\tc="q\\"\\\\", d=tok/en:*, e=:YQ==:, f=:YQ:, g, h=?0, i=(1 "two" :Yg==:);p, j=()'
        ', k=@1659578233, l=%"caf%c3%a9", a=3, *m=*;y="z"'
    )
    parsed = fields.structured_dictionary("X", text)
    assert list(parsed) == ["b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "a", "*m"]
    assert parsed["a"] == 3
    assert parsed["b"] == Decimal("-2.5")
    assert parsed["c"] == 'q"\\'
    assert isinstance(parsed["d"], Token)
    assert parsed["e"] == parsed["f"] == b"a"
    assert parsed["g"] is True
    assert parsed["h"] is False
    assert parsed["i"] == (1, "two", b"b")
    assert parsed["j"] == ()
    assert parsed["k"] == datetime(2022, 8, 4, 1, 57, 13, tzinfo=UTC)
    assert parsed["l"] == "café"
    assert fields.structured_dictionary("X", "") == fields.structured_dictionary("X", "  ") == {}


@pytest.mark.parametrize(
    "text",
    [
        "a=", "=1", "A=1", "a=1,", "a=1 b=2", "a=1,,b=2", "a==1", "a=1;", "a=1;=2", 'a="x', 'a="\\n"', 'a="é"',
        "a=:Y:", "a=:YQ", "a=:Y*==:", "a=(1", "a=(1,2)", "a=(1)2", 'a=("x""y")', "a=1.", "a=1.2345", "a=-", "a=?",
        "a=1234567890123456", "a=%\"%C3%A9\"", "a=%\"%ff\"", "a=@1.5", "é=1", "\ta=1",
    ],
)  # fmt: skip
def test_dictionaries_that_are_none(text: str) -> None:
    with pytest.raises(InvalidField):
        fields.structured_dictionary("X", text)


@given(LATIN | st.text('ab=?01,; ()":%@-.*\t\\', max_size=40))
def test_any_text_is_a_dictionary_or_refused(text: str) -> None:
    with suppress(InvalidField):
        fields.structured_dictionary("X", text)
    fields.structured_boolean(text)
    fields.structured_integer(text)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z*][a-z0-9_.*-]{0,8}", fullmatch=True),
        st.booleans() | st.binary() | st.integers(-(10**15) + 1, 10**15 - 1),
    )
)
def test_dictionaries_come_back(members: dict[str, int | bool | bytes]) -> None:
    assert fields.structured_dictionary("X", fields.to_dictionary(members)) == members


def test_an_integer_beyond_the_syntax_is_told_as_the_largest() -> None:
    assert fields.to_dictionary({"max-size": 2**63}) == "max-size=999999999999999"


def _lines(function: Callable[[str], object], text: str) -> int:
    """How many lines of this library run: a measure that no other process disturbs."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with suppress(InvalidField):
            function(text)
    finally:
        sys.settrace(before)
    return count


HOSTILE: list[tuple[str, Callable[[str], object], Callable[[int], str]]] = [
    ("members", lambda t: fields.structured_dictionary("X", t), lambda n: ",".join(f"a{i}" for i in range(n))),
    ("parameters", lambda t: fields.structured_dictionary("X", t), lambda n: "a" + ";b=1" * n),
    ("inner list", lambda t: fields.structured_dictionary("X", t), lambda n: "a=(" + "1 " * n),
    ("parentheses", lambda t: fields.structured_dictionary("X", t), lambda n: "a=" + "(" * n),
    ("disposition", fields.content_disposition, lambda n: "inline" + ";" * n),
    ("names", fields.content_disposition, lambda n: "inline" + "".join(f";a{i}=b" for i in range(n))),
]


@pytest.mark.parametrize(("_", "function", "make"), HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_twice_the_text_takes_twice_the_steps(
    _: str, function: Callable[[str], object], make: Callable[[int], str]
) -> None:
    assert _lines(function, make(2000)) <= 2.2 * _lines(function, make(1000)) + 50


@pytest.mark.parametrize(
    "text",
    ['a="' + "x" * 1_000_000, "a=:" + "A" * 1_000_000, 'a="' + '\\"' * 500_000, " " * 1_000_000 + "!",
     "inline; " + "a" * 1_000_000, 'inline; filename="' + "\\a" * 500_000, "inline" + " " * 1_000_000,
     "inline;" + "a " * 500_000, "inline; filename*=UTF-8''" + "%41" * 300_000 + "%"],
    ids=lambda text: text[:20].strip(),
)  # fmt: skip
def test_a_megabyte_of_malice_is_read_at_once(text: str) -> None:
    """Backtracking would not come to an end here."""
    for function in (lambda t: fields.structured_dictionary("X", t), fields.content_disposition):
        with suppress(InvalidField):
            function(text)


def test_a_sentence_does_not_repeat_all_that_was_sent() -> None:
    with pytest.raises(InvalidField) as caught:
        fields.structured_dictionary("X", "!" * 10_000)
    assert len(caught.value.sentence) < 200
