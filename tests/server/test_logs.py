"""Nobody forges a line of the log, and no key gets in."""

from __future__ import annotations

import io
import json
import logging

import pytest

from stagedoor.server.logs import logging_to

KEY = "a-secret-key"
HOSTILE = "\n2026 info stagedoor: forged\x1b[31m\u202e\udc80\x00"

log = logging.getLogger("stagedoor.server.tested")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_record_is_one_line(form: str) -> None:
    stream = io.StringIO()
    with logging_to(stream, form, keys=[KEY]):  # type: ignore[arg-type]
        log.warning("name %s, key %s", HOSTILE, KEY, extra={"upload": HOSTILE, "bytes": 5, "left_out": None})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert text.encode("utf-8")
    assert KEY not in text
    assert "[key]" in text
    assert "left_out" not in text
    if form == "json":
        document = json.loads(text)
        assert (document["level"], document["logger"], document["upload"], document["bytes"]) == (
            "warning",
            "stagedoor.server.tested",
            HOSTILE,
            5,
        )
    else:
        assert "bytes=5" in text


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_is_kept_and_as_harmless(form: str) -> None:
    stream = io.StringIO()
    with logging_to(stream, form, keys=[KEY]):  # type: ignore[arg-type]
        try:
            raise ValueError(f"{HOSTILE} {KEY}")
        except ValueError:
            log.exception("unexpected")
    text = stream.getvalue()
    assert "ValueError" in text
    assert KEY not in text
    assert "\x1b" not in text
    assert not any(line.startswith("2026 info stagedoor: forged") for line in text.splitlines())
    if form == "json":
        assert "ValueError" in json.loads(text)["trace"]


def test_a_key_with_marks_is_left_out_of_json_too() -> None:
    """JSON writes some characters of a key in another way."""
    key = 'quote"back\\slash'
    stream = io.StringIO()
    with logging_to(stream, "json", keys=[key]):
        log.warning("key %s", key)
    assert "[key]" in json.loads(stream.getvalue())["message"]
    assert key not in json.loads(stream.getvalue())["message"]


def test_levels_and_loggers_are_put_back() -> None:
    ours, theirs = logging.getLogger("stagedoor"), logging.getLogger("uvicorn")
    before = [(one.level, one.handlers[:], one.propagate) for one in (ours, theirs)]
    quiet, loud = io.StringIO(), io.StringIO()
    for stream, debug in ((quiet, False), (loud, True)):
        with logging_to(stream, "text", debug=debug):
            log.debug("a request")
            log.info("a start")
            logging.getLogger("uvicorn.error").info("what it is doing")
            logging.getLogger("uvicorn.error").warning("what is wrong")
    assert [line.partition(": ")[2] for line in quiet.getvalue().splitlines()] == ["a start", "what is wrong"]
    assert [line.partition(": ")[2] for line in loud.getvalue().splitlines()] == [
        "a request",
        "a start",
        "what is wrong",
    ]
    assert before == [(one.level, one.handlers[:], one.propagate) for one in (ours, theirs)]
