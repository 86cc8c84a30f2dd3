"""Where the server of an uploads directory is: ``server.json`` beside the lock, with its address, its directories and
how it names files.

It only helps others to find it: the lock says whether there is a server at all. A file of a server that was killed
stays until the next one starts, so whoever reads it compares the process with the one that has the lock.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import frozen

__all__ = ["Whereabouts", "find", "forget", "look_up", "note"]

log = logging.getLogger(__name__)

_NAME: Final = "server.json"
_LARGEST: Final = 1 << 16


@frozen
class Whereabouts:
    """What a server has put on record about itself.

    Attributes:
        address: Where it listens.
        pid: Its process.
        trees: Its library's directories by their names, absolute; empty if it does not tell.
        naming: How it names files in the library, see `stagedoor.content.naming.SCHEMES`; ``None`` if it does not tell.
    """

    address: str
    pid: int
    trees: Mapping[str, str]
    naming: str | None = None


def note(data: Path, address: str, trees: Mapping[str, str], naming: str | None = None) -> None:
    """Put this process on record. A full disk stops no server.

    Args:
        data: The uploads directory.
        address: Where it listens.
        trees: The library's directories by their names, absolute.
        naming: How files are named there.
    """
    new = data / f".{_NAME}.{os.getpid()}"
    document = {"address": address, "pid": os.getpid(), "directories": dict(trees), "naming": naming}
    try:
        new.write_text(json.dumps(document) + "\n", encoding="ascii")
        os.replace(new, data / _NAME)
    except OSError as error:
        log.warning("the address of this server cannot be put on record: %s", error.strerror)
        with suppress(OSError):
            new.unlink()


def forget(data: Path) -> None:
    """This process listens no more."""
    with suppress(OSError):
        (data / _NAME).unlink()


def find(data: Path, pid: int | None = None) -> Whereabouts | None:
    """What is on record.

    Args:
        data: The uploads directory.
        pid: The process that has the lock, if it is known: a record of another one is an old one.
    """
    try:
        with open(data / _NAME, "rb") as file:
            document = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    address, owner, trees = document.get("address"), document.get("pid"), document.get("directories")
    naming = document.get("naming")
    if not isinstance(address, str) or not address.startswith(("http://", "https://")) or not address.isprintable():
        return None
    if type(owner) is not int or (pid is not None and owner != pid):
        return None
    told = trees.items() if isinstance(trees, dict) else ()
    paths = {name: path for name, path in told if isinstance(path, str) and os.path.isabs(path) and "\0" not in path}
    return Whereabouts(address, owner, paths, naming if isinstance(naming, str) else None)


def look_up(data: Path, pid: int | None = None) -> str | None:
    """The address on record; arguments as `find`."""
    found = find(data, pid)
    return None if found is None else found.address
