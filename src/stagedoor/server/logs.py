"""The server's log: lines for people, or one JSON object a line for machines.

What strangers sent cannot forge a line or control a terminal in either form, and no API key gets in.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

__all__ = ["JsonLines", "TextLines", "logging_to"]

_USUAL: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
_LOGGERS: Final = ("stagedoor", "uvicorn")


class _Lines(logging.Formatter):
    """What both forms have alike.

    Args:
        keys: API keys, which are left out wherever they should turn up.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        super().__init__()
        self._keys = keys

    def clean(self, text: str) -> str:
        """A text without keys."""
        for key in self._keys:
            text = text.replace(key, "[key]")
        return text

    @staticmethod
    def time(record: logging.LogRecord) -> str:
        """When it was, in UTC to the millisecond."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @staticmethod
    def more(record: logging.LogRecord) -> dict[str, object]:
        """What was given as ``extra``."""
        return {name: value for name, value in record.__dict__.items() if name not in _USUAL and value is not None}

    def trace(self, record: logging.LogRecord) -> str:
        """The traceback, if there is one."""
        return self.formatException(record.exc_info) if record.exc_info else ""


class TextLines(_Lines):
    """``2026-01-31T12:00:00.000Z info stagedoor.server: what happened``; a traceback is indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        told = " ".join([record.getMessage(), *(f"{name}={value}" for name, value in self.more(record).items())])
        first = f"{self.time(record)} {record.levelname.lower()} {record.name}: {told}"
        lines = [first, *(f"    {line}" for line in self.trace(record).splitlines())]
        return "\n".join(_visible(self.clean(line)) for line in lines)


class JsonLines(_Lines):
    """``{"time": …, "level": …, "logger": …, "message": …}``, what was given as ``extra``, and ``trace``; in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        document: dict[str, object] = {
            "time": self.time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.more(record),
        }
        trace = self.trace(record)
        if trace:
            document["trace"] = trace
        # Before JSON writes some characters of a key in another way.
        return json.dumps(
            {
                name: value if value is None or isinstance(value, int | float) else self.clean(str(value))
                for name, value in document.items()
            }
        )


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


@contextmanager
def logging_to(
    stream: TextIO, form: Literal["text", "json"], *, keys: Sequence[str] = (), debug: bool = False
) -> Iterator[None]:
    """Write the log to a stream, and let the loggers be as they were afterwards.

    Args:
        stream: Where to.
        form: In which form.
        keys: API keys that must not get in.
        debug: Also every request.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter((JsonLines if form == "json" else TextLines)(keys))
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers[:], logger.propagate = [handler], False
        # Of uvicorn only what is wrong: what it is doing, we say ourselves.
        logger.setLevel(logging.WARNING if logger.name == "uvicorn" else logging.DEBUG if debug else logging.INFO)
    try:
        yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
