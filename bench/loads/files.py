"""Bars 1 to 3: files over the wire of each server, large and in chunks, or small and many."""

from __future__ import annotations

import hashlib
from pathlib import Path

from . import crowd
from .machine import Meter, at_rest
from .targets import Target
from .wires import Sender, Up2k, sha1_of

Row = dict[str, float]


def load(target: Target, store: Path, *, files: int, size: int, chunk: int, clients: int) -> Row:
    """Send files from several clients at once, and look at what the server then has.

    Args:
        target: The server.
        store: Where it stores; new.
        files: How many, all different.
        size: Of each in bytes.
        chunk: Bytes of a request.
        clients: Connections that share the files.
    """
    starts = [n * (size + 7919) for n in range(files)]
    if target.make is Up2k:
        for start in starts:
            Up2k.prepare(start, size)
    with target.running(store) as server:
        # A server that runs has done this before: ours has started its decoder by then, others have made their tables.
        first, little = files * (size + 7919), min(size, 1 << 20)
        if target.make is Up2k:
            Up2k.prepare(first, little)
        target.sender(server.port).send(first, little, chunk)
        at_rest(server.pid)
        senders: list[Sender] = [target.sender(server.port) for _ in range(clients)]

        def client(number: int) -> dict[str, list[float]]:
            for start in starts[number::clients]:
                senders[number].send(start, size, chunk)
            return senders[number].times

        def warm(number: int) -> None:
            sha1_of(0, 1)  # the noise is made before the word

        gathered: crowd.Crowd[dict[str, list[float]]] = crowd.Crowd(clients, client, warm)
        with Meter(server) as meter:
            gathered.begin()
            told, seconds = gathered.end()
        rested = at_rest(server.pid) - meter.before
    requests = [seconds for times in told for values in times.values() for seconds in values]
    total = files * size
    verified = _verified(store, {sha1_of(start, size) for start in starts}, size)
    forget(store)
    return {
        "MB_s": total / seconds / 1e6,
        "up_s": files / seconds,
        "cpu_s_GB": meter.cpu / total * 1e9,
        "cpu_ms_up": meter.cpu / files * 1e3,
        "rested_ms_up": rested / files * 1e3,
        "request_p99_ms": crowd.percentile(requests, 0.99) * 1e3,
        "peak_MiB": meter.peak,
        "lost": meter.lost,
        "verified": verified,
    }


def forget(store: Path) -> None:
    """Delete what is large below a store.

    Its pages are then there for the next load. A page cache that grows takes new memory from the host, and on a virtual
    machine that costs more than the load itself. Small files stay: after many deletions, ext4 makes new ones slowly.
    """
    for path in store.rglob("*"):
        if path.is_file() and path.stat().st_size >= 1 << 20:
            path.unlink()


def _verified(store: Path, expected: set[str], size: int) -> bool:
    """Whether all that was sent is stored: of other servers we hash what they have, and of ours as well."""
    for path in store.rglob("*"):
        if path.is_file() and path.stat().st_size == size:
            with path.open("rb") as file:
                expected.discard(hashlib.file_digest(file, "sha1").hexdigest())
    return not expected
