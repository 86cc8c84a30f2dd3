"""How fast songs get into the library, and where the time goes.

    make bench                                             25 albums of 20 songs, and 500 single songs
    python bench/songs.py --seconds 240 --albums 5 --json  songs of an ordinary length
    python bench/songs.py --durability power --as albums

Each run sends its uploads one after the other, in chunks, and waits until each is imported, in one thread, so that the
parts of the profile add up to the whole. A second run with the management threads says what the same work takes when
nobody measures. There is no bar; the figures are in README.md.
"""

from __future__ import annotations

import argparse
import functools
import gc
import hashlib
import inspect
import json
import shutil
import tempfile
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from stagedoor.adapters.disk import Disk
from stagedoor.adapters.inprocess import InlineBus
from stagedoor.adapters.local import Durability, LocalBytes, LocalTasks, LocalTree
from stagedoor.content.album import Album
from stagedoor.content.decoding import pool
from stagedoor.content.spool import Spool
from stagedoor.engine import Uploads
from stagedoor.library.catalogue import Catalogue
from stagedoor.lifecycle import State
from stagedoor.session import Session
from stagedoor.settings import Settings
from stagedoor.tasks import Offer
from stagedoor.testing import media
from stagedoor.testing.sounds import id3_picture, id3_text, song, with_id3
from stagedoor.worker import Worker, manage

CHUNK = 4 << 20
NAMES = [
    "Alfa", "Bravo", "Charlie", "Delta", "Echo", "Foxtrot", "Golf", "Hotel", "India", "Juliett", "Kilo", "Lima", "Mike",
    "November", "Oscar", "Papa", "Quebec", "Romeo", "Sierra", "Tango", "Uniform", "Victor", "Whiskey", "Xray", "Zulu",
]  # fmt: skip
"""So different that nobody is asked whether two of them are the same."""


# ── the songs ─────────────────────────────────────────────────────────────────────────────────────────────────


def songs_of(album: int, songs: int, seconds: float, *, covered: bool) -> Mapping[str, bytes]:
    """Songs that are the same sound under other tags, each with the cover or without."""
    sound, cover = song("mp3", seconds), media.still_cover((600, 600))
    artist = NAMES[album % len(NAMES)] + " " * (album >= len(NAMES)) + "I" * (album // len(NAMES))
    made = {}
    for track in range(1, songs + 1):
        frames = {"TIT2": f"Song {track}", "TPE1": artist, "TALB": f"Album of {artist}", "TYER": "2001"}
        tags = [id3_text(name, value) for name, value in {**frames, "TRCK": f"{track}/{songs}"}.items()]
        made[f"{track:02} Song {track}.mp3"] = with_id3(sound, [*tags, *([id3_picture(cover)] if covered else [])])
    return made


def uploads_of(kind: str, albums: int, songs: int, seconds: float) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of what is sent."""
    for album in range(albums):
        # Single songs of an album that come together want one name for their covers, and only one gets it.
        made = songs_of(album, songs, seconds, covered=kind == "albums")
        if kind == "songs":
            yield from made.items()
            continue
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in made.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        yield f"{album}.zip", buffer.getvalue()


# ── the profile ───────────────────────────────────────────────────────────────────────────────────────────────


class Profile:
    """Seconds and calls by part; what one part spends in another counts for the other."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._inside: list[str] = ["engine"]
        self._since = time.perf_counter()

    def _turn(self) -> None:
        now = time.perf_counter()
        self.seconds[self._inside[-1]] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is in the block belongs to this part. ``{}`` stands for the part around it."""
        name = self._inside[-1] if self._inside[-1] == STARTING else name.format(self._inside[-1])
        self._turn()
        self._inside.append(name)
        self.calls[name] += 1
        try:
            yield
        finally:
            self._turn()
            self._inside.pop()

    def wrap(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call


STARTING = "decoders: starting"
"""Includes what is asked of a new one."""
PARTS: tuple[tuple[type, str, str], ...] = (
    (LocalTasks, "", "documents"),
    (LocalBytes, "append commit create seal close size", "taking chunks in"),
    (LocalTree, "place", "copying into the trees, hashing"),
    (LocalTree, "settle check holds exists names missing_directories withdraw", "trees, the rest"),
    (Catalogue, "", "catalogue"),
    (Session, "_hash", "hashing uploads"),
    (Spool, "fill", "spooling songs, hashing"),
    (Album, "preprocess plan import_ illustrate", "album"),
    (pool._Child, "ask", "decoders: songs and pictures"),
    (pool._Child, "send frame", "decoders: archives"),
    (pool._Child, "__init__ greet", STARTING),
    (Disk, "sync sync_data sync_directory sync_all", "syncs: {}"),
)


@contextmanager
def profiled() -> Iterator[Profile]:
    """Measure what is in the block."""
    profile, kept = Profile(), []
    for cls, names, part in PARTS:
        public = [name for name, _ in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")]
        for name in names.split() or public:
            if name not in vars(cls):
                continue
            kept.append((cls, name, vars(cls)[name]))
            setattr(cls, name, profile.wrap(vars(cls)[name], part))
    try:
        yield profile
        with profile.part("engine"):
            pass
    finally:
        for cls, name, function in kept:
            setattr(cls, name, function)


# ── a run ─────────────────────────────────────────────────────────────────────────────────────────────────────


def send(uploads: Uploads, uploadid: str, filename: str, data: bytes) -> None:
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    uploads.initiate(Offer(uploadid, filename=filename, contenttype="album", filesize=len(data), sha1=sha1))
    for at in range(0, len(data), CHUNK):
        uploads.receive(uploadid, offset=at, data=memoryview(data)[at : at + CHUNK])


def run(kind: str, durability: Durability, where: Path, options: argparse.Namespace, *, threads: int) -> dict[str, Any]:
    """Import everything; with ``threads`` 0 in this thread and measured."""
    root = Path(tempfile.mkdtemp(dir=where))
    uploads = Uploads.open(
        root / "uploads", music=root / "music", artwork=root / "artwork", durability=durability,
        settings=Settings(free_floor=0), bus=None if threads else InlineBus(),
    )  # fmt: skip
    spent, count, size = 0.0, 0, 0
    profile = Profile()
    try:
        if threads:
            with manage(uploads, threads=threads):
                made = list(uploads_of(kind, options.albums, options.songs, options.seconds))
                start = time.perf_counter()
                for number, (name, data) in enumerate(made):
                    send(uploads, f"u{number}", name, data)
                for number in range(len(made)):
                    uploads.wait(f"u{number}", timeout=600)
                    uploads.request(f"u{number}", trigger_import=True)
                for number in range(len(made)):
                    uploads.wait(f"u{number}", timeout=600)
                spent = time.perf_counter() - start
                size = sum(len(data) for _, data in made)
        else:
            worker = Worker(uploads)
            for number, (name, data) in enumerate(uploads_of(kind, options.albums, options.songs, options.seconds)):
                gc.collect()
                start = time.perf_counter()
                with profiled() as one:
                    send(uploads, f"u{number}", name, data)
                    worker.drain(100)
                    uploads.request(f"u{number}", trigger_import=True)
                    worker.drain(100)
                spent += time.perf_counter() - start
                size += len(data)
                for name, seconds in one.seconds.items():
                    profile.seconds[name] += seconds
                profile.calls.update(one.calls)
        for task in uploads.tasks():
            assert task.state is State.IMPORTCOMPLETE, task
            count += sum(file.root == "music" for file in task.placed)
    finally:
        uploads.close()
        shutil.rmtree(root)
    assert count == options.albums * options.songs
    return {
        "as": kind,
        "durability": durability,
        "threads": threads,
        "songs": count,
        "megabytes": round(size / 1e6, 1),
        "seconds": round(spent, 2),
        "songs_per_second": round(count / spent, 1),
        "parts": {
            name: {"ms_per_song": round(1e3 * seconds / count, 3), "share": round(seconds / spent, 3),
                   "calls_per_song": round(profile.calls[name] / count, 2)}
            for name, seconds in sorted(profile.seconds.items(), key=lambda part: -part[1])
        },
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as", dest="kind", choices=("albums", "songs"), help="one zip an album, or single songs")
    parser.add_argument("--durability", choices=("power", "process", "none"))
    parser.add_argument("--albums", type=int, default=25)
    parser.add_argument("--songs", type=int, default=20, help="of an album")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a song")
    parser.add_argument("--threads", type=int, default=2, help="of the run that is not measured in parts; 0 for none")
    parser.add_argument("--dir", type=Path, help="where to write; a temporary directory when not given")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    where = Path(tempfile.mkdtemp(prefix="stagedoor-bench-", dir=options.dir))
    try:
        for kind in (options.kind,) if options.kind else ("albums", "songs"):
            for durability in (options.durability,) if options.durability else ("power", "process"):
                for threads in (0, options.threads) if options.threads else (0,):
                    show(run(kind, durability, where, options, threads=threads), options)
    finally:
        shutil.rmtree(where)
    return 0


def show(found: Mapping[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(found))
        return
    how = f"{found['threads']} management threads" if found["threads"] else "one thread, measured"
    print(f"{found['songs']} songs of {options.seconds:g} s as {found['as']}, {found['megabytes']} MB, durability "
          f"{found['durability']}, {how}: {found['seconds']} s, {found['songs_per_second']} songs/s")  # fmt: skip
    for name, part in found["parts"].items():
        spent = f"{part['ms_per_song']:8.2f} ms a song  {part['share']:6.1%}"
        print(f"    {spent}  {part['calls_per_song']:6.2f} calls a song  {name}")


if __name__ == "__main__":
    raise SystemExit(main())
