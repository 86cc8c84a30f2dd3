"""Where the server of an uploads directory listens: ``server.json`` beside the lock.

It only helps people: the lock says whether there is a server at all. A file of a server that was killed stays until the
next one starts, so whoever reads it compares the process with the one that has the lock.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["forget", "look_up", "note"]

log = logging.getLogger(__name__)

_NAME: Final = "server.json"
_LARGEST: Final = 4096


def note(data: Path, address: str) -> None:
    """Put the address of this process on record. A full disk stops no server."""
    new = data / f".{_NAME}.{os.getpid()}"
    try:
        new.write_text(json.dumps({"address": address, "pid": os.getpid()}) + "\n", encoding="ascii")
        os.replace(new, data / _NAME)
    except OSError as error:
        log.warning("the address of this server cannot be put on record: %s", error.strerror)
        with suppress(OSError):
            new.unlink()


def forget(data: Path) -> None:
    """This process listens no more."""
    with suppress(OSError):
        (data / _NAME).unlink()


def look_up(data: Path, pid: int | None = None) -> str | None:
    """The address on record.

    Args:
        data: The uploads directory.
        pid: The process that has the lock, if it is known: an address of another one is an old one.
    """
    try:
        with open(data / _NAME, "rb") as file:
            document = json.loads(file.read(_LARGEST))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or (pid is not None and document.get("pid") != pid):
        return None
    address = document.get("address")
    if not isinstance(address, str) or not address.startswith(("http://", "https://")) or not address.isprintable():
        return None
    return address
