"""The command line: every command as people and scripts use it."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stagedoor import __version__, cli
from stagedoor.adapters.local import DirectoryLock, LocalTasks
from stagedoor.cli import main, safe
from stagedoor.commands import completion, doctor, look
from stagedoor.commands.screen import Screen
from stagedoor.commands.stopping import Stop
from stagedoor.engine import Uploads
from stagedoor.errors import StorageError
from stagedoor.lifecycle import ROWS, State
from stagedoor.settings import Settings
from stagedoor.tasks import Offer, UploadTask, dump, evolve, load
from stagedoor.testing import media
from stagedoor.testing.content import PlainContent

pytest.importorskip("av", reason="needs the media extra")

NAMES = ("--annotate", "artistname=Blender", "--annotate", "name=Bunny", "--annotate", "release=2008")
PAIRS = (("artistname", "Blender"), ("name", "Bunny"), ("release", "2008"))
NOW = 1_700_000_000.0
HOSTILE = "\x1b[31m\x07[bold]a\u202egpj.\u200b\x9b2J\n'\"$(x)[/].mp4"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("STAGEDOOR_DATA", "STAGEDOOR_MUSIC", "STAGEDOOR_ARTWORK", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Home:
    """A directory in which somebody works, and what the commands said there."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self._capsys = path, capsys
        self.out = self.err = ""

    def run(self, *argv: str, status: int = 0, clock: Callable[[], float] = time.time) -> str:
        """Run a command; returns what it printed."""
        self._capsys.readouterr()
        got = main([*argv], clock=clock)
        self.out, self.err = self._capsys.readouterr()
        assert got == status, f"{got}\n{self.out}\n{self.err}"
        return self.out

    def json(self, *argv: str, status: int = 0, clock: Callable[[], float] = time.time) -> Any:
        return json.loads(self.run(*argv, "--json", status=status, clock=clock))

    def file(self, name: str, data: bytes | None = None) -> str:
        """A file of the user's."""
        (self.path / name).write_bytes(clip() if data is None else data)
        return name

    def put(self, *tasks: UploadTask, data: bytes | None = b"") -> None:
        """Put documents into the uploads directory, as if a server had."""
        (self.path / "uploads/tasks").mkdir(parents=True, exist_ok=True)
        for task in tasks:
            (self.path / f"uploads/tasks/{task.id}.json").write_bytes(dump(task))
            if data is not None:
                (self.path / f"uploads/data/{task.key}").mkdir(parents=True, exist_ok=True)

    def task(self, uploadid: str = "clip") -> UploadTask:
        return load((self.path / f"uploads/tasks/{uploadid}.json").read_bytes())

    def library(self) -> list[str]:
        return sorted(str(p.relative_to(self.path)) for p in (self.path / "Music").rglob("*") if p.is_file())

    def everything(self) -> Mapping[str, tuple[int, bytes]]:
        """All files, when they were changed, and what is in them."""
        return {
            str(p.relative_to(self.path)): (p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else b"")
            for p in sorted(self.path.rglob("*"))
        }

    def command(self, *argv: str, script: str = "") -> list[str]:
        """The command as a process of its own; ``script`` is run in it first."""
        code = f"import sys\nfrom stagedoor import cli\n{textwrap.dedent(script)}\nsys.exit(cli.main(sys.argv[1:]))"
        return [sys.executable, "-c", code, *argv]

    def process(self, *argv: str, script: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*argv, script=script),
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def clip(title: str = "") -> bytes:
    return media.video(seconds=1, title=title)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Home:
    """An empty place."""
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path, capsys)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an upload ``clip`` was imported."""
    path = tmp_path_factory.mktemp("template")
    (path / "clip.mp4").write_bytes(clip())
    status = main([
        "add", str(path / "clip.mp4"), "--id", "clip", *NAMES, "--durability", "none",
        "--data", str(path / "uploads"), "--music", str(path / "Music"),
    ])  # fmt: skip
    assert status == 0
    return path


@pytest.fixture
def lived(home: Home, template: Path) -> Home:
    """A place where an upload ``clip`` was imported."""
    shutil.copytree(template, home.path, dirs_exist_ok=True)
    return home


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Content that needs no decoder: ``bad…`` is refused, ``ask…`` has a question."""
    monkeypatch.setattr("stagedoor.content.builtin", lambda **_: ((PlainContent(),), lambda: None))


@pytest.fixture
def no_media(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor starts no decoder."""
    monkeypatch.setattr(doctor, "_look_at_media", lambda call: iter(()))


def some(uploadid: str = "one", **other: Any) -> UploadTask:
    """An upload that waits for bytes."""
    values: dict[str, Any] = {
        "id": uploadid, "filesize": 1_234_567, "offset": 0, "contenttype": "video", "mimetype": "video/mp4",
        "sourcefilename": f"{uploadid}.mp4", "sourcechecksum": "a" * 40, "destinationpath": "data/x/video-pending.mp4",
        "state": State.WAITFORCHUNK, "uid": hashlib.sha256(uploadid.encode()).hexdigest()[:32],
        "created": NOW - 120, "updated": NOW - 60, "deadline": NOW + 3 * 86_400,
    }  # fmt: skip
    task = UploadTask(**(values | other))
    return (
        evolve(task, history=task.happened("create", task.state, task.state, NOW - 120)) if not task.history else task
    )


def at(now: float = NOW) -> Callable[[], float]:
    return lambda: now


# ── add ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_add_brings_a_file_into_the_library(home: Home) -> None:
    home.file("clip.mp4")
    out = home.run("add", "clip.mp4", *NAMES)
    assert home.library() == ["Music/Blender/2008 - Bunny.mp4"]
    assert (home.path / "Music/Blender/2008 - Bunny.mp4").read_bytes() == clip()
    sha1 = hashlib.sha1(clip()).hexdigest()
    assert out.splitlines() == [
        "✓ clip.mp4: It is in the library and imported.",
        f"  {home.path}/Music/Blender/2008 - Bunny.mp4",
        f"  {home.path}/artwork/Blender/2008 - Bunny/ (11 files)",
        f"  id {sha1}, importcomplete",
        f"The library is {home.path}/Music, its artwork {home.path}/artwork.",
    ]
    assert home.err.splitlines() == [
        f"clip.mp4: {what}"
        for what in (
            "reading", "sending", "looking at the content", "accepted", "putting it into the library", "in the library",
            "importing", "making the artwork", "imported", "done",
        )
    ]  # fmt: skip


def test_add_again_changes_nothing(lived: Home) -> None:
    def kept() -> Mapping[str, tuple[int, bytes]]:
        return {name: what for name, what in lived.everything().items() if not name.startswith("uploads/catalogue")}

    before = kept()
    assert "It is in the library and imported." in lived.run("add", "clip.mp4", "--id", "clip", *NAMES)
    assert "other annotations" not in lived.out
    lived.run("add", "clip.mp4", "--id", "clip", "--annotate", "name=Other")
    assert "It was there before under other annotations; to change them: stagedoor undo clip" in lived.out
    changed = {name for name, what in kept().items() if before.get(name) != what}
    assert changed <= {"uploads", "uploads/.lock"}


def test_add_plan_shows_where_it_would_go_and_touches_nothing(home: Home) -> None:
    home.file("clip.mp4")
    out = home.run("add", "clip.mp4", "--plan", *NAMES)
    assert "✓ clip.mp4: It is ready; nothing in the library was touched." in out
    assert f"music: {home.path}/Music\n└── Blender/  (new)\n    └── 2008 - Bunny.mp4  ({len(clip()):,} bytes)\n" in out
    assert "        ├── frame-1.jpg\n" in out
    assert home.library() == []
    home.run("add", "clip.mp4")
    assert home.library() == ["Music/Blender/2008 - Bunny.mp4"]
    assert "(new)" not in home.run("plan", hashlib.sha1(clip()).hexdigest())


def test_add_says_which_annotations_are_missing(home: Home) -> None:
    home.file("clip.mp4", clip("Big [b]Bunny"))
    out = home.run("add", "clip.mp4", "--annotate", "artistname=Blender", status=5)
    assert "! clip.mp4: The annotation “name” is missing." in out
    assert "The file's own tags say: name “Big [b]Bunny”; --tags takes them." in out
    assert home.library() == []
    found = home.json("add", "clip.mp4", status=5)["files"][0]
    assert (found["status"], found["code"], found["state"]) == (5, "annotation_missing", "preprocessed")
    home.run("add", "clip.mp4", "--tags", "--annotate", "release=2008")
    assert home.library() == ["Music/Blender/2008 - Big [b]Bunny.mp4"]


def test_add_takes_several_files_and_reports_each(home: Home) -> None:
    home.file("good.mp4")
    home.file("good.webm", media.video(seconds=1, container="webm", title="Webm"))
    home.file("bad.mp4", media.truncated_mp4())
    found = home.json("add", "good.mp4", "bad.mp4", "good.webm", "--tags", *NAMES[:2], *NAMES[4:], status=1)
    assert [(f["file"], f["status"], f["state"]) for f in found["files"]] == [
        ("good.mp4", 5, "preprocessed"),
        ("bad.mp4", 1, "invalidcontent"),
        ("good.webm", 0, "importcomplete"),
    ]
    assert home.library() == ["Music/Blender/2008 - Webm.webm"]
    out = home.run("add", "good.mp4", "bad.mp4", "good.webm", *NAMES[:2], *NAMES[4:], status=1)
    assert "✗ bad.mp4: The file is cut off" in out
    assert out.endswith("1 of 3 files went well.\n")


@pytest.mark.usefixtures("plain")
def test_add_asks_once_more_what_failed_some_other_time(home: Home) -> None:
    home.file("noise.mp4", b"bad film")
    found = home.json("add", "noise.mp4", "--id", "noise", status=1)["files"][0]
    assert (found["code"], found["state"]) == ("bad", "invalidcontent")
    home.run("add", "noise.mp4", "--id", "noise", status=1)
    looks = [e.trigger for e in home.task("noise").history if e.trigger in ("preprocess", "retry")]
    assert looks == ["preprocess", "retry", "preprocess"]


@pytest.mark.usefixtures("plain")
def test_the_same_content_is_sent_once(home: Home) -> None:
    (home.path / "other").mkdir()
    home.file("clip.mp4")
    home.file("other/clip.mp4")
    found = home.json("add", "clip.mp4", "./clip.mp4", "other/clip.mp4", *NAMES)["files"]
    assert [f["file"] for f in found] == ["clip.mp4", "other/clip.mp4"]
    assert sorted(str(f["code"]) for f in found) == ["None", "same_file"]
    assert home.library() == ["Music/Blender/Bunny.mp4"]


@pytest.mark.usefixtures("plain")
def test_add_without_import_and_import_later(home: Home) -> None:
    home.file("clip.mp4")
    out = home.run("add", "clip.mp4", "--id", "clip", "--no-import", *NAMES)
    assert "✓ clip.mp4: It is in the library, and not imported." in out
    assert home.task().state is State.INTEGRATED
    assert "✓ clip: It is in the library and imported." in home.run("import", "clip")
    assert home.task().state is State.IMPORTCOMPLETE
    assert home.json("import", "clip")["state"] == "importcomplete"


@pytest.mark.usefixtures("plain")
def test_integrate_is_the_first_half(home: Home) -> None:
    home.file("clip.mp4")
    home.run("add", "clip.mp4", "--id", "clip", "--plan", *NAMES)
    found = home.json("integrate", "cl")
    assert (found["id"], found["state"], len(found["placed"])) == ("clip", "integrated", 1)


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (["nothing.mp4"], 3, "nothing.mp4: No such file or directory."),
        (["sub"], 2, "There is no song in the folder sub. Name the files that are meant."),
        (["empty.mp4"], 2, "empty.mp4 is empty."),
        (["pipe.mp4"], 2, "pipe.mp4 is no regular file."),
        (["clip.xyz"], 2, "clip.xyz: the name does not tell what it is. Say so with --type."),
        (["clip.mp4", "two.mp4", "--id", "x"], 2, "--id is for one file."),
        (["clip.mp4", "--annotate", "x"], 2, "'x' is not KEY=VALUE"),
        (["clip.mp4", "--id", "../x"], 2, "The upload id must be"),
    ],
)
def test_what_cannot_be_added_is_said_before_anything_begins(
    argv: list[str], status: int, says: str, home: Home
) -> None:
    for name in ("clip.mp4", "two.mp4", "clip.xyz"):
        home.file(name)
    home.file("empty.mp4", b"")
    (home.path / "sub").mkdir()
    os.mkfifo(home.path / "pipe.mp4")
    home.run("add", *argv, status=status)
    assert says in home.err
    assert not (home.path / "uploads").exists()


def test_a_content_type_that_nobody_knows_is_refused(home: Home) -> None:
    home.file("song.mp3", media.noise())
    assert "has no content type 'score'" in home.run("add", "song.mp3", "--type", "score", status=1)


def test_another_file_under_an_id_that_is_taken_is_refused(lived: Home) -> None:
    lived.file("other.mp4", clip("other"))
    assert "The id clip belongs to another upload" in lived.run("add", "other.mp4", "--id", "clip", status=1)


def test_a_file_that_is_being_removed_is_added_anew(lived: Home) -> None:
    task = lived.task()
    lived.put(evolve(task, state=State.REMOVE), data=None)
    out = lived.run("add", "clip.mp4", "--id", "clip", "--plan", *NAMES, status=5)
    assert "There is Blender/2008 - Bunny.mp4 in the music directory already." in out
    assert lived.task().uid != task.uid


def test_a_file_that_shrinks_while_it_is_sent_is_noticed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home.path / home.file("clip.mp4")
    real = Uploads.initiate

    def initiate(self: Uploads, offer: Offer) -> UploadTask:
        path.write_bytes(b"short")
        return real(self, offer)

    monkeypatch.setattr(Uploads, "initiate", initiate)
    found = home.json("add", "clip.mp4", "--id", "clip", status=1)["files"][0]
    assert (found["code"], found["state"]) == ("changed", "waitforchunk")


def test_what_the_start_found_is_told(lived: Home) -> None:
    (lived.path / "uploads/tasks/odd.txt").write_text("?")
    shutil.rmtree(lived.path / f"uploads/data/{lived.task().key}")
    lived.run("annotate", "clip", "origin=CD")
    assert "! quarantine/" in lived.err
    assert "✗ Upload clip: The uploaded data is gone from the disk." in lived.err


# ── stopping ──────────────────────────────────────────────────────────────────────────────────────────────────

STOPPING = """
    import os, signal, threading
    from stagedoor.commands import add
    from stagedoor.commands.stopping import Stop
    from stagedoor.engine import Uploads
    add._CHUNK = 4096
    handled = threading.Event()
    handle, receive = Stop.__call__, Uploads.receive
    def stop(self, *args):
        handle(self, *args)
        handled.set()
    def third(self, *args, **kwargs):
        task = receive(self, *args, **kwargs)
        if task.offset == 3 * 4096:
            signal.pthread_kill(threading.main_thread().ident, signal.{signal})
            assert handled.wait(10)
            {then}
        return task
    Stop.__call__, Uploads.receive = stop, third
"""


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stopped_add_goes_on(name: str, status: int, home: Home) -> None:
    home.file("clip.mp4")
    done = home.process("add", "clip.mp4", "--id", "clip", *NAMES, script=STOPPING.format(signal=name, then=""))
    assert done.returncode == status, done.stderr
    assert f"! clip.mp4: Stopped at 12,288 of {len(clip()):,} bytes. The same command again goes on." in done.stdout
    assert "Stopping after the step under way. Press Ctrl-C again to stop at once." in done.stderr
    assert "Traceback" not in done.stderr
    assert home.json("show", "clip")["offset"] == 12_288
    home.run("add", "clip.mp4", "--id", "clip")
    assert "clip.mp4: sending from byte 12,288 on" in home.err
    assert home.library() == ["Music/Blender/Bunny.mp4"]


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    ("then", "status"),
    [
        ("signal.pthread_kill(threading.main_thread().ident, signal.SIGINT); threading.Event().wait()", 130),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
    ids=["a second Ctrl-C", "a kill"],
)
def test_an_add_that_is_stopped_at_once_goes_on_as_well(then: str, status: int, home: Home) -> None:
    home.file("clip.mp4")
    done = home.process("add", "clip.mp4", "--id", "clip", *NAMES, script=STOPPING.format(signal="SIGINT", then=then))
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    home.run("add", "clip.mp4", "--id", "clip")
    assert "clip.mp4: sending from byte 12,288 on" in home.err
    assert home.library() == ["Music/Blender/Bunny.mp4"]


@pytest.mark.usefixtures("plain")
def test_a_command_for_one_upload_stops_as_well(home: Home) -> None:
    home.file("clip.mp4")
    home.run("add", "clip.mp4", "--id", "clip", "--plan", *NAMES)
    script = """
        import os, signal
        import stagedoor.content
        from stagedoor.engine import Uploads
        from stagedoor.testing.content import PlainContent
        stagedoor.content.builtin = lambda **_: ((PlainContent(),), lambda: None)
        request = Uploads.request
        def stop(self, *args, **kwargs):
            os.kill(os.getpid(), signal.SIGINT)
            return request(self, *args, **kwargs)
        Uploads.request = stop
    """
    done = home.process("import", "clip", script=script)
    assert done.returncode == 130, done.stderr
    assert "! clip: Stopped. The same command again goes on." in done.stdout
    assert home.library() == []
    home.run("import", "clip")
    assert home.library() == ["Music/Blender/Bunny.mp4"]


def test_the_handlers_of_the_program_are_put_back(lived: Home) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    lived.run("annotate", "clip", "origin=CD")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_reader_that_goes_away_is_no_error(home: Home) -> None:
    home.put(*(some(f"upload-{n:04}") for n in range(1500)))
    with subprocess.Popen(
        home.command("list"), cwd=home.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("id")
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("argv", [("list",), ("list", "--json")])
def test_an_output_that_cannot_be_written_is_told(argv: tuple[str, ...], home: Home) -> None:
    home.put(*(some(f"upload-{n:04}") for n in range(200)))
    with open("/dev/full", "w") as full:
        done = subprocess.run(home.command(*argv), cwd=home.path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "stagedoor: No space left on device.\n")


# ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_list_is_a_table(home: Home) -> None:
    home.put(
        some("one"),
        some("two", state=State.UPLOADFAILED, offset=617_284, message="The disk failed.", code="storage_error"),
        some("three", filesize=None, sourcefilename=""),
        some("four", state=State.PREPROCESSED, offset=1_234_567),
    )
    assert home.run("list").splitlines() == [
        "id     state         progress      bytes  name      message",
        "four   preprocessed     100 %  1,234,567  four.mp4",
        "one    waitforchunk       0 %  1,234,567  one.mp4",
        "three  waitforchunk         ?          ?",
        "two    uploadfailed      50 %  1,234,567  two.mp4   The disk failed.",
    ]
    assert home.run("list", "--state", "uploadfailed", "--quiet") == "two\n"
    assert home.run("list", "-q").split() == ["four", "one", "three", "two"]
    found = home.json("list", "--state", "preprocessed", "--state", "waitforchunk")
    assert [line["id"] for line in found["uploads"]] == ["four", "one", "three"]
    assert found["uploads"][0]["due"] is None
    assert "There are no uploads in remove in" in home.run("list", "--state", "remove")


def test_list_leaves_out_what_is_no_document(home: Home) -> None:
    home.put(some("one"))
    (home.path / "uploads/tasks/torn.json").write_text('{"id": "torn"')
    (home.path / "uploads/tasks/.one.json.1f.tmp").write_text("{}")
    (home.path / "uploads/tasks/link.json").symlink_to("one.json")
    (home.path / "uploads/tasks/directory.json").mkdir()
    home.run("list")
    assert "one" in home.out
    assert "! tasks/torn.json is left out. The document is no JSON" in home.err
    (home.path / "uploads/tasks/\x1b[2J.json").write_text("{}")
    assert sorted(home.json("list")["unreadable"]) == ["\x1b[2J.json", "directory.json", "link.json", "torn.json"]
    assert "! tasks/\\x1b[2J.json is left out. It is not named like a task." in (home.run("list") and home.err)
    assert home.run("list", "--quiet").split() == ["one", "torn"]
    home.run("show", "torn", status=1)
    assert "The document is no JSON" in home.err


def test_an_empty_place(home: Home) -> None:
    (home.path / "uploads").mkdir()
    assert home.run("list") == f"There are no uploads in {home.path}/uploads.\n"
    assert home.json("list") == {"uploads": [], "unreadable": {}}


READING = ("list", "show clip", "explain clip", "history clip", "replay clip", "plan clip", "diagram --task clip")


@pytest.mark.usefixtures("no_media")
@pytest.mark.parametrize("command", [*READING, "doctor"])
def test_looking_needs_no_lock_and_changes_nothing(command: str, lived: Home) -> None:
    part = some("part", offset=0)
    lived.put(part)
    (lived.path / "uploads/tasks/torn.json").write_text("{")
    (lived.path / "uploads/tasks/.clip.json.1f.tmp").write_text("{}")
    (lived.path / "uploads/data/stranger").mkdir()
    lock = DirectoryLock(str(lived.path / "uploads"))
    try:
        before = lived.everything()
        status = 1 if command == "doctor" else 0
        lived.run(*command.split(), status=status)
        lived.json(*command.split(), status=status)
        after = lived.everything()
    finally:
        lock.close()
    for name in {*before, *after}:
        # The doctor tries what the library's file system can do, which shows in the time of the directory.
        assert after.get(name) == before.get(name) or (command == "doctor" and name in ("Music", "artwork"))


@pytest.mark.parametrize("command", READING)
def test_looking_makes_no_directories(command: str, lived: Home) -> None:
    before = lived.everything()
    lived.run(*command.split(), "--music", "nowhere/Music", "--artwork", "nowhere/artwork")
    assert lived.everything() == before


def test_the_offset_of_an_upload_under_way_is_the_one_on_record(home: Home) -> None:
    data = media.noise(1000)
    with Uploads.open("uploads", music="Music", durability="process") as uploads:
        uploads.initiate(Offer("one", filename="x.mp4", contenttype="video", filesize=1000))
        uploads.receive("one", offset=0, data=data[:390])
        assert load((home.path / "uploads/tasks/one.json").read_bytes()).offset == 0
        assert home.json("list")["uploads"][0]["offset"] == 390
        assert "390 of 1,000 bytes have arrived (39 %)." in home.run("explain", "one")
        assert "390 bytes (39 %)" in home.run("show", "one")


def test_an_upload_without_its_data_is_shown_as_its_document_says(home: Home) -> None:
    home.put(some("one", offset=99), data=None)
    assert home.json("show", "one")["offset"] == 99


def test_a_task_of_musicdb_is_shown(home: Home) -> None:
    (home.path / "uploads/tasks").mkdir(parents=True)
    document = {
        "id": "old", "filesize": 10, "offset": 4, "contenttype": "video", "mimetype": "video/mp4",
        "sourcefilename": "a.mp4", "sourcechecksum": "b" * 40, "destinationpath": "/srv/x", "videofile": None,
        "artworkfile": None, "state": "waitforchunk", "annotations": {},
    }  # fmt: skip
    (home.path / "uploads/tasks/old.json").write_text(json.dumps(document))
    assert home.json("show", "old")["offset"] == 4
    assert "40 %" in home.run("list")


def test_show_tells_everything(lived: Home) -> None:
    out = lived.run("show", "clip")
    for line in (
        "id                           clip",
        "state                        importcomplete: Everything is done.",
        "annotation artistname        Blender",
        "content video_codec          h264",
        "in music                     Blender/2008 - Bunny.mp4",
        "in artwork                   Blender/2008 - Bunny/ (11 files)",
    ):
        assert line in out.splitlines()
    assert lived.json("show", "clip")["revision"] == lived.task().revision


def test_show_tells_of_a_step(home: Home) -> None:
    from stagedoor.lifecycle import Trigger
    from stagedoor.tasks import Finding, Step

    home.put(
        some(
            "one", state=State.UPLOADCOMPLETE, message="The disk failed.", code="storage_error", wanted=Trigger.UNDO,
            findings=(Finding("odd", "warn", "It is odd."),), step=Step(Trigger.PREPROCESS, "", 2, NOW - 5, NOW + 4),
        )
    )  # fmt: skip
    out = home.run("show", "one", clock=at())
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "message The disk failed. (storage_error)" in lines
    assert "warn odd It is odd." in lines
    assert "step preprocess, attempt 2, was given back; it began 5 seconds ago" in lines
    assert "expires 2023-11-17 22:13:20 (in 3 days)" in lines


def test_explain_is_text_or_json(lived: Home) -> None:
    out = lived.run("explain", "clip")
    assert out.startswith("clip: importcomplete\n\nWhy it is here\n  It was completed ")
    assert "\n\nWhat may be done\n  • Take it back out of library and music database" in out
    assert "\n      stagedoor undo clip\n" in out
    found = lived.json("explain", "clip")
    assert found["state"] == "importcomplete"
    assert [a["trigger"] for a in found["possible"]] == ["request_undo", "annotate", "remove"]


def test_explain_tells_that_nobody_works(home: Home) -> None:
    home.put(some("one", state=State.UPLOADCOMPLETE, offset=1_234_567))
    nobody = "No process owns the uploads directory now: nothing happens before a server, or stagedoor work."
    assert nobody in home.run("explain", "one")
    lock = DirectoryLock(str(home.path / "uploads"))
    try:
        assert nobody not in home.run("explain", "one")
    finally:
        lock.close()


def test_explain_names_the_guard(home: Home) -> None:
    from stagedoor.tasks import Finding

    home.put(some("one", state=State.PREPROCESSED, findings=(Finding("which", "hold", "Which one is it?"),)))
    out = home.run("explain", "one")
    assert "Answer with the annotation answers.which first. (no_open_question) Then ask again." in out
    assert "stagedoor annotate one answers.which=ANSWER" in out


def test_explain_knows_an_upload_that_is_not_there(lived: Home) -> None:
    assert "notexisting" in lived.run("explain", "nobody", status=3)
    assert lived.json("explain", "nobody", status=3)["state"] == "notexisting"


def test_history_is_a_table(lived: Home) -> None:
    lines = lived.run("history", "clip").splitlines()
    assert lines[0].split() == ["time", "trigger", "from", "to", "reason"]
    assert lines[1].split()[0] == "1"
    assert lines[-1].split()[-3:] == ["import_artwork", "importartwork", "importcomplete"]
    assert [e["trigger"] for e in lived.json("history", "clip")] == [e.trigger for e in lived.task().history]


def test_replay_believes_a_history_or_does_not(lived: Home) -> None:
    count = len(lived.task().history)
    assert lived.run("replay", "clip") == f"✓ All {count} lines of the history can have happened like this.\n"
    assert lived.json("replay", "clip") == {"id": "clip", "events": count, "problems": []}
    task = lived.task()
    lived.put(evolve(task, history=task.history[:3]), data=None)
    assert "✗ The task is in importcomplete" in lived.run("replay", "clip", status=1)
    assert lived.json("replay", "clip", status=1)["problems"]


def test_plan_shows_what_is_missing(home: Home) -> None:
    home.put(some("one", state=State.PREPROCESSED), some("two"))
    assert "✗ The annotation “artistname” is missing." in home.run("plan", "one", status=5)
    found = home.json("plan", "one", status=5)
    assert [p["code"] for p in found["plan"]["problems"]][:2] == ["annotation_missing"] * 2
    home.run("plan", "two", status=1)
    assert "There is no plan in state waitforchunk" in home.err


def test_an_upload_is_found_by_its_beginning(home: Home) -> None:
    home.put(some("abc1"), some("abc2"), some("abd"), some("ab"))
    assert home.json("show", "abd")["id"] == "abd"
    assert home.json("show", "abc1")["id"] == "abc1"
    assert home.json("show", "ab")["id"] == "ab"
    home.run("show", "abc", status=2)
    assert home.err == "stagedoor: abc could be abc1, abc2. Say more of it.\n"
    home.run("show", "b", status=3)
    assert "There is no upload 'b'." in home.err


def test_where_things_are_may_be_said_in_three_ways(lived: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    where = str(lived.path / "uploads")
    assert "clip" in lived.run("--data", where, "list")
    assert "clip" in lived.run("list", "--data", where)
    lived.run("list", status=2)
    assert "There is no uploads directory /uploads. Say where it is with --data" in lived.err
    monkeypatch.setenv("STAGEDOOR_DATA", where)
    assert "clip" in lived.run("list")
    monkeypatch.setenv("STAGEDOOR_MUSIC", "/m")
    monkeypatch.setenv("STAGEDOOR_ARTWORK", "/a")
    out = lived.run("plan", "clip")
    assert "music: /m\n" in out
    assert "artwork: /a\n" in out
    assert "music: /n\n" in lived.run("--music", "/x", "plan", "clip", "--music", "/n")


# ── changing ──────────────────────────────────────────────────────────────────────────────────────────────────

CHANGING = (
    "add clip.mp4",
    "annotate clip a=b",
    "integrate clip",
    "import clip",
    "retry clip",
    "undo clip",
    "remove clip",
)


@pytest.mark.parametrize("command", CHANGING)
def test_changing_needs_the_lock(command: str, lived: Home) -> None:
    lock = DirectoryLock(str(lived.path / "uploads"))
    try:
        before = lived.everything()
        lived.run(*command.split(), status=4)
        assert f"is in use by process {os.getpid()}." in lived.err
        assert f"Process {os.getpid()} is: {sys.executable}" in lived.err or "Process" in lived.err
        assert lived.json(*command.split(), status=4)["error"]["code"] == "in_use"
        assert lived.everything() == before
    finally:
        lock.close()


@pytest.mark.parametrize("command", CHANGING[1:])
def test_changing_never_makes_a_library_in_the_wrong_place(command: str, lived: Home) -> None:
    before = lived.everything()
    lived.run(*command.split(), "--music", "nowhere", status=2)
    assert "There is no music directory" in lived.err
    lived.run(*command.split(), "--data", "nowhere", status=2)
    assert "There is no uploads directory" in lived.err
    assert lived.everything() == before


@pytest.mark.parametrize("command", CHANGING[1:])
def test_changing_an_upload_that_is_not_there(command: str, lived: Home) -> None:
    lived.run(*command.replace("clip", "nobody").split(), status=3)
    assert lived.err == "stagedoor: There is no upload 'nobody'. It was never offered, or it has been removed.\n"
    found = lived.json(*command.replace("clip", "nobody").split(), status=3)
    assert (found["error"]["code"], found["error"]["status"]) == ("not_found", 3)


def test_annotate(lived: Home) -> None:
    out = lived.run("annotate", "clip", "origin=CD", "note=a=b")
    assert out.startswith("✓ clip: origin is now “CD”, note is now “a=b”. In the library nothing changes before")
    assert (lived.task().annotations["origin"], lived.task().annotations["note"]) == ("CD", "a=b")
    assert "take" in lived.run("annotate", "clip", f"x={'y' * 70_000}", status=1)


def test_undo_takes_everything_back(lived: Home) -> None:
    out = lived.run("undo", "clip")
    assert "✓ clip: Library and music database are as they were before; the upload is kept." in out
    assert lived.library() == []
    assert lived.task().state is State.PREPROCESSED
    assert "undo is not possible" in lived.run("undo", "clip", status=1).replace("request_undo", "undo")


def test_undo_keeps_what_was_changed(lived: Home) -> None:
    (lived.path / "Music/Blender/2008 - Bunny.mp4").write_bytes(b"tagged")
    found = lived.json("undo", "clip", status=1)
    assert (found["code"], found["state"]) == ("changed_since", "importcomplete")
    assert lived.library() == ["Music/Blender/2008 - Bunny.mp4"]


def test_undo_does_not_take_a_library_in_the_wrong_place_for_an_empty_one(lived: Home) -> None:
    (lived.path / "other").mkdir()
    argv = ("undo", "clip", "--music", "other", "--artwork", "other/artwork")
    found = lived.json(*argv, status=2)
    assert "None of its 12 files is in the library" in found["sentences"][0]
    assert lived.task().state is State.IMPORTCOMPLETE
    assert lived.json(*argv, "--missing")["state"] == "preprocessed"


def test_undo_is_tried_again(lived: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from stagedoor.library.catalogue import Catalogue

    real, failures = Catalogue.forget, [StorageError("The disk is slow.")]

    def forget(self: Catalogue, uid: str) -> None:
        if failures:
            raise failures.pop()
        real(self, uid)

    monkeypatch.setattr(Catalogue, "forget", forget)
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: later.append(seconds))
    later: list[float] = []
    now = iter(range(1_000_000, 2_000_000, 10))
    assert lived.json("undo", "clip", clock=lambda: float(next(now)))["state"] == "preprocessed"
    assert not failures


def test_remove_leaves_the_library(lived: Home) -> None:
    out = lived.run("remove", "clip")
    assert "✓ clip: The upload is removed. What it put into the library stays there:" in out
    assert not list((lived.path / "uploads/tasks").iterdir())
    assert not list((lived.path / "uploads/data").iterdir())
    assert lived.library() == ["Music/Blender/2008 - Bunny.mp4"]


def test_a_removal_that_was_begun_is_finished(lived: Home) -> None:
    lived.put(evolve(lived.task(), state=State.REMOVE), data=None)
    assert lived.json("remove", "clip")["status"] == 0
    assert not list((lived.path / "uploads/tasks").iterdir())


def test_a_removal_that_fails_says_so(lived: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from stagedoor.adapters.local import LocalBytes

    def delete(self: LocalBytes, key: str) -> None:
        raise StorageError("The disk is slow.")

    monkeypatch.setattr(LocalBytes, "delete", delete)
    assert "✗ clip: The disk is slow." in lived.run("remove", "clip", status=1)
    assert lived.task().state is State.REMOVE


@pytest.mark.usefixtures("plain")
def test_retry_looks_again_or_asks_for_the_file(home: Home) -> None:
    home.file("noise.mp4", b"bad film")
    home.run("add", "noise.mp4", "--id", "noise", status=1)
    found = home.json("retry", "noise", status=1)
    assert (found["code"], found["state"]) == ("bad", "invalidcontent")
    with Uploads.open("uploads", music="Music", durability="none") as uploads:
        uploads.initiate(Offer("wrong", filename="x.mp4", contenttype="video", filesize=1, sha1="0" * 40))
        uploads.receive("wrong", offset=0, data=b"x")
    assert "✓ wrong: Send it again from the first byte: stagedoor add FILE." in home.run("retry", "wrong")
    assert "Only a part of the file is here." in home.run("import", "wrong", status=1)
    assert "retry is not possible in state waitforchunk" in home.run("retry", "wrong", status=1)


@pytest.mark.usefixtures("plain")
def test_import_goes_on_from_a_failure(home: Home) -> None:
    home.file("clip.mp4")
    home.run("add", "clip.mp4", "--id", "clip", "--plan", *NAMES)
    (home.path / "Music/Blender").mkdir()
    (home.path / "Music/Blender/Bunny.mp4").write_bytes(b"somebody else's")
    found = home.json("import", "clip", status=5)
    assert (found["code"], found["state"]) == ("destination_exists", "preprocessed")
    with Uploads.open("uploads", music="Music", durability="none") as uploads:
        assert uploads.integrate("clip").state is State.INTEGRATIONFAILED
    assert home.json("import", "clip", status=5)["state"] == "preprocessed"
    home.run("annotate", "clip", "name=Other")
    assert home.json("import", "clip")["state"] == "importcomplete"
    assert "Music/Blender/Other.mp4" in home.library()


@pytest.mark.usefixtures("plain")
def test_work_does_what_is_due_for_all(home: Home) -> None:
    with Uploads.open("uploads", music="Music", durability="none") as uploads:
        for name, data in (("good", b"fine film"), ("bad", b"bad film"), ("gone", b"another")):
            uploads.initiate(
                Offer(name, filename="x.mp4", contenttype="video", filesize=len(data), annotations=dict(PAIRS))
            )
            uploads.receive(name, offset=0, data=data)
        uploads.remove("gone")
        uploads.initiate(Offer("part", filename="x.mp4", contenttype="video", filesize=9))
    out = home.run("work")
    assert out == "✓ 3 steps done.\n"
    assert "good: preprocessed" in home.err
    states = {line["id"]: line["state"] for line in home.json("list")["uploads"]}
    assert states == {"good": "preprocessed", "bad": "invalidcontent", "part": "waitforchunk"}
    later = time.time() + 60 * 86_400
    assert home.json("work", clock=at(later)) == {"steps": 4, "left": []}
    assert home.json("list")["uploads"] == []


def test_work_tells_what_failed_for_now(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    content = PlainContent(failures={"preprocess": 1})
    monkeypatch.setattr("stagedoor.content.builtin", lambda **_: ((content,), lambda: None))
    with Uploads.open("uploads", music="Music", durability="none") as uploads:
        uploads.initiate(Offer("shaky", filename="x.mp4", contenttype="video", filesize=5))
        uploads.receive("shaky", offset=0, data=b"shaky")
    assert "! shaky failed for now; stagedoor explain shaky tells" in home.run("work", clock=at(1e9), status=1)
    assert home.json("work", clock=at(1e9), status=1) == {"steps": 0, "left": ["shaky"]}
    assert home.json("work", clock=at(1e9 + 2)) == {"steps": 1, "left": []}


@pytest.mark.usefixtures("plain")
def test_a_question_has_to_be_answered_first(home: Home) -> None:
    home.file("clip.mp4", b"ask me")
    out = home.run("add", "clip.mp4", "--id", "clip", *NAMES, status=5)
    assert "! clip.mp4: Which one is it? Answer it: stagedoor annotate clip answers.which=ANSWER" in out
    home.run("add", "clip.mp4", "--id", "clip", "--annotate", "answers.which=this")
    assert home.library() == ["Music/Blender/Bunny.mp4"]


# ── the life cycle ────────────────────────────────────────────────────────────────────────────────────────────


def test_verify(home: Home) -> None:
    out = home.run("verify")
    assert f"✓ Each of the {len(ROWS)} rows is taken at least once." in out
    assert "make no difference" in out


def test_verify_says_what_is_wrong(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from stagedoor import verify as module

    real = module.verify
    rows = tuple(row for row in ROWS if row.id != "retry:uploadfailed:waitforchunk")
    monkeypatch.setattr(module, "verify", lambda: real(rows))
    assert "✗ " in home.run("verify", status=1)
    found = home.json("verify", status=1)
    assert found["ok"] is False
    assert found["problems"]


def test_table(home: Home) -> None:
    assert home.run("table").startswith("# The life of an upload")
    for argv in (("table", "--json"), ("table", "--format", "json")):
        assert {r["id"] for r in json.loads(home.run(*argv))["rows"]} == {row.id for row in ROWS}


@pytest.mark.parametrize("name", ["dot", "mermaid", "plantuml", "scxml", "json", "markdown", "svg"])
def test_diagram(name: str, lived: Home) -> None:
    whole = lived.run("diagram", "--format", name)
    assert "waitforchunk" in whole
    assert lived.run("diagram", "--format", name, "--task", "clip") != whole
    lived.run("diagram", "--format", name, "-o", "picture")
    assert (lived.path / "picture").read_text() == whole


def test_diagram_chooses_by_name(lived: Home) -> None:
    for file, name in (("x.gv", "dot"), ("x.mmd", "mermaid"), ("x.puml", "plantuml"), ("x.md", "markdown")):
        lived.run("diagram", "-o", file)
        assert (lived.path / file).read_text() == lived.run("diagram", "--format", name)
        assert f"✓ {file} is written (" in lived.err or not lived.err
    lived.run("diagram", "-o", "x.gif", status=2)
    assert "x.gif: no format is known for this name." in lived.err
    lived.run("diagram", "-o", "no/such/place.svg", status=3)
    lived.run("diagram", "--task", "nobody", status=3)


def test_a_picture_is_bytes(lived: Home) -> None:
    if shutil.which("dot") is None:
        pytest.importorskip("pygraphviz", reason="needs Graphviz")
    lived.run("diagram", "--task", "clip", "-o", "x.png")
    assert (lived.path / "x.png").read_bytes().startswith(b"\x89PNG")
    done = subprocess.run(lived.command("diagram", "--format", "png"), cwd=lived.path, capture_output=True, check=True)
    assert done.stdout.startswith(b"\x89PNG")


# ── doctor ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_healthy_place(lived: Home) -> None:
    out = lived.run("doctor")
    for line in (
        "  • No process owns it.",
        "  ✓ 1 upload: 1 importcomplete.",
        "  ✓ Nothing is left over, and nothing is in quarantine.",
        "  ✓ The music directory has hard links: a file appears whole, and never replaces another.",
        "It can work.",
    ):
        assert line in out.splitlines()
    found = lived.json("doctor")
    assert found["ok"] is True
    assert {r["level"] for r in found["remarks"]} <= {"good", "note", "warn"}
    assert not list((lived.path / "Music").glob(".*"))


@pytest.mark.usefixtures("no_media")
def test_an_empty_place_can_work(home: Home) -> None:
    out = home.run("doctor")
    assert f"• The uploads directory {home.path}/uploads is not there yet; stagedoor add makes it" in out
    assert list(home.path.iterdir()) == []


@pytest.mark.usefixtures("no_media")
def test_a_place_where_much_is_wrong(lived: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    lived.put(some("lost", state=State.UPLOADCOMPLETE, offset=1_234_567), data=None)
    (lived.path / "uploads/tasks/torn.json").write_text("{")
    (lived.path / "uploads/tasks/.x.json.1.tmp").write_text("{}")
    (lived.path / "uploads/data/stranger.0").mkdir()
    (lived.path / "uploads/quarantine").mkdir()
    (lived.path / "uploads/quarantine/1-thing").write_text("")
    (lived.path / "artwork/.stagedoor/uid").mkdir(parents=True)
    shutil.rmtree(lived.path / "Music")
    (lived.path / "Music").write_text("")
    out = lived.run("doctor", status=1)
    for text in (
        "✗ tasks/torn.json is no upload.",
        f"✗ The data of upload lost is gone: data/{some('lost').key} is missing.",
        "! tasks/.x.json.1.tmp is left over",
        "! data/stranger.0 is left over",
        "! 1 upload could go on, but no process owns the directory: stagedoor work.",
        "• 1 thing in quarantine",
        "✗ The music directory",
        "is no directory. Move away what is there.",
        "has 1 upload half placed",
        "3 things must be mended.",
    ):
        assert text in out
    assert lived.json("doctor", status=1)["ok"] is False


@pytest.mark.usefixtures("no_media")
def test_the_owner_is_named(lived: Home) -> None:
    script = """
        from stagedoor.adapters.local import DirectoryLock
        import sys, time
        DirectoryLock("uploads")
        print("locked", flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=lived.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdin is not None
        assert owner.stdout.readline() == b"locked\n"
        try:
            # Whoever the lock file names may be long gone; the system knows better.
            assert f"• Process {owner.pid} owns it: {sys.executable} -c" in lived.run("doctor")
            lived.run("undo", "clip", status=4)
            assert f"is in use by process {owner.pid}." in lived.err
            assert f"Process {owner.pid} is: {sys.executable} -c" in lived.err
        finally:
            owner.stdin.close()
    assert "No process owns it." in lived.run("doctor")


@pytest.mark.usefixtures("no_media")
@pytest.mark.parametrize(
    ("links", "renames", "level", "says"),
    [
        (False, True, "good", "has no hard links, but a rename that never replaces"),
        (False, False, "bad", "has neither hard links nor a rename that never replaces"),
        (True, False, "note", "not needed where there are links"),
    ],
)
def test_what_the_file_system_of_the_library_can_do(
    links: bool, renames: bool, level: str, says: str, lived: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stagedoor.adapters.disk import Disk

    monkeypatch.setattr(Disk, "link", lambda *_: links)
    monkeypatch.setattr(doctor, "_never_replaces", lambda *_: renames)
    remarks = lived.json("doctor", status=int(level == "bad"))["remarks"]
    assert [r["level"] for r in remarks if says in r["sentence"]] == [level, level]


@pytest.mark.usefixtures("no_media")
def test_a_library_that_cannot_be_written(lived: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: real(path, mode) and not str(path).endswith("Music"))
    assert f"✗ The music directory {lived.path}/Music cannot be written by this user" in lived.run("doctor", status=1)


@pytest.mark.usefixtures("no_media")
def test_a_full_or_fleeting_disk(lived: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_file_system", lambda path: "tmpfs")
    assert "is in memory: nothing there survives a power cut." in lived.run("doctor")
    monkeypatch.setattr(doctor, "_file_system", lambda path: "nfs4")
    assert "is on a nfs4 file system" in lived.run("doctor")
    monkeypatch.setattr(doctor, "Settings", lambda: Settings(free_floor=1 << 60))
    assert "New uploads need 1,152,921,504,606,846,976 bytes to be left." in lived.run("doctor", status=1)


def test_missing_media_packages(lived: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError, version

    def none(name: str) -> str:
        if name == "av":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", none)
    out = lived.run("doctor", status=1)
    assert "✗ av missing: no file can be looked at. pip install 'stagedoor[media]'" in out


# ── strangers' text ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – ü “x” 音楽\u3000家", "plain – ü “x” 音楽\u3000家"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\tc\r\x07\x7f\x9b", "a\\nb\\tc\\r\\x07\\x7f\\x9b"),
        ("\u202eabc\u2066\u200f", "\\u202eabc\\u2066\\u200f"),
        ("\u200b\ufeff\u2028\xad", "\\u200b\\ufeff\\u2028\\xad"),
        ("\ud800\U000e0001", "\\ud800\\U000e0001"),
        ("[bold]x[/]:smile:", "[bold]x[/]:smile:"),
    ],
)
def test_what_reaches_a_terminal_is_safe(text: str, shown: str) -> None:
    assert safe(text) == shown


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def hostile(state: State = State.PREPROCESSED) -> UploadTask:
    from stagedoor.tasks import Finding

    task = some(
        "one", state=state, sourcefilename=HOSTILE, message=HOSTILE, code="bad",
        annotations={HOSTILE: HOSTILE, "x": [HOSTILE]}, mimetype=HOSTILE, content={"tags": {"title": HOSTILE}},
        findings=(Finding("odd", "warn", HOSTILE),),
    )  # fmt: skip
    history = task.happened("annotate", task.state, task.state, NOW, HOSTILE)
    return evolve(task, history=history)


@pytest.mark.usefixtures("no_media")
@pytest.mark.parametrize("terminal", [False, True], ids=["plain", "rich"])
@pytest.mark.parametrize(
    "command",
    ["list", "show one", "explain one", "history one", "replay one", "plan one", "doctor", "diagram --task one"],
)
def test_no_text_of_a_stranger_controls_the_terminal(
    command: str, terminal: bool, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.put(hostile())
    out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    main(command.split(), clock=at())
    written = out.getvalue() + err.getvalue()
    for evil in ("\x1b[31m\x07", "\x07", "\u202e", "\u200b", "\x9b"):
        assert evil not in written
    if command in ("list", "show one"):
        assert "\\x1b[31m\\x07[bold]a\\u202e"[:12] in written
        assert "[bold]" in written


@pytest.mark.parametrize("command", ["list", "show one", "explain one", "history one", "replay one", "plan one"])
def test_json_is_ascii(command: str, home: Home) -> None:
    home.put(hostile())
    main([*command.split(), "--json"])
    out = home.run("list", "--json")
    assert out.isascii()
    assert "\x1b" not in out


@pytest.mark.usefixtures("plain")
def test_add_escapes_names(home: Home) -> None:
    home.file("a\x1b[31m\u202e.mp4", b"bad film")
    out = home.run("add", "a\x1b[31m\u202e.mp4", status=1)
    assert "a\\x1b[31m\\u202e.mp4: This content is bad" in out
    assert "\x1b" not in out + home.err
    assert "a\\x1b[31m\\u202e.mp4: sending" in home.err


@pytest.mark.usefixtures("plain")
def test_a_name_that_is_no_text_is_taken(home: Home) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    (home.path / name).write_bytes(b"bad film")
    found = home.json("add", name, "--id", "x", status=1)
    assert found["files"][0]["state"] == "invalidcontent"
    assert home.task("x").sourcefilename == "caf\N{REPLACEMENT CHARACTER}.mp4"


# ── terminals ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs commands on a terminal; returns what they wrote."""

    def run(*argv: str) -> str:
        out, err = Terminal(), Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            main(argv, clock=at())
        return out.getvalue() + err.getvalue()

    return run


def test_a_terminal_gets_colours_and_short_ids(home: Home, terminal: Callable[..., str]) -> None:
    ids = [f"{n}{'0' * 39}" for n in "ab"]
    home.put(*(some(i, sourcefilename="n" * 50, message="A long message. " * 20) for i in ids), some("short-name"))
    written = terminal("list")
    assert "\x1b[" in written
    assert "a00000000000 " in written
    assert ids[0] not in written
    assert "short-name" in written
    assert f"{'n' * 31}…" in written
    lines = written.splitlines()
    assert len(lines) > 4
    assert all("a00000" not in line for line in lines[2:4])


def test_long_ids_that_begin_alike_stay_apart(home: Home, terminal: Callable[..., str]) -> None:
    home.put(some("0" * 39 + "a"), some("0" * 39 + "b"))
    assert "0" * 39 + "a" in terminal("list")


def test_no_colour_where_none_is_wanted(
    home: Home, terminal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home.put(some("one"))
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in terminal("list")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in terminal("list")


def test_all_works_without_rich(lived: Home, terminal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "rich" or name.startswith("rich.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    for command in ("list", "explain clip"):
        assert "\x1b" not in terminal(*command.split())


def test_a_stream_that_knows_ascii_only(home: Home) -> None:
    home.put(some("one", sourcefilename="音楽.mp4"))
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Screen(stream).sign("good", "音楽")
    stream.flush()
    assert raw.getvalue() == b"\\u2713 \\u97f3\\u697d\n"


def test_the_bars_of_a_real_terminal(home: Home) -> None:
    home.file("clip.mp4", clip("Bunny"))
    home.file("[red]noise.mkv", media.noise())
    leader, follower = pty.openpty()
    argv = ("add", "clip.mp4", "[red]noise.mkv", "--tags", *NAMES[:2], *NAMES[4:])
    with subprocess.Popen(
        home.command(*argv), cwd=home.path, stdin=follower, stdout=follower, stderr=follower
    ) as process:
        os.close(follower)
        written = b""
        while select.select([leader], [], [], 60)[0]:
            try:
                part = os.read(leader, 65_536)
            except OSError:  # the other side is closed
                break
            written += part
        assert process.wait(60) == 1
    os.close(leader)
    text = written.decode()
    assert "━━" in text
    assert "[red]noise.mkv" in text
    assert "making the artwork" in text
    assert text.rstrip().endswith("1 of 2 files went well.")
    assert text.count("\x1b[?25h") >= 1, "the cursor is hidden"


# ── usage ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_usage(home: Home) -> None:
    assert home.run("--version") == f"stagedoor {__version__}\n"
    assert "exit codes: 0 fine" in home.run("--help")
    home.run(status=2)
    assert "Bring files into the library." in home.err
    home.run("frob", status=2)
    home.run("list", "--state", "frob", status=2)
    home.run("show", "a/b", status=2)
    assert "The upload id must be" in home.err
    for name in completion._commands(cli._parser()):
        assert "common options" in home.run(name, "--help")


def test_a_module_that_runs(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stagedoor", "list"], cwd=home.path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("stagedoor: There is no uploads directory")


def test_the_log_is_shown_when_asked_for(lived: Home) -> None:
    (lived.path / "uploads/tasks/torn.json").write_text("{")
    handlers = list(logging.getLogger("stagedoor").handlers)
    lived.run("annotate", "clip", "a=b", "--verbose")
    assert "error: " in lived.err
    (lived.path / "uploads/tasks/torn.json").write_text("{")
    lived.run("annotate", "clip", "a=b")
    assert "error: " not in lived.err
    assert logging.getLogger("stagedoor").handlers == handlers


def test_what_nobody_expected_is_shown_in_full(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def preprocess(self: PlainContent, task: UploadTask, source: object) -> None:
        raise ZeroDivisionError("\x1b[31m")

    monkeypatch.setattr("stagedoor.content.builtin", lambda **_: ((PlainContent(),), lambda: None))
    monkeypatch.setattr(PlainContent, "preprocess", preprocess)
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: None)
    ticks = iter(range(1_000_000_000, 2_000_000_000, 30))
    home.file("clip.mp4", b"fine film")
    home.run("add", "clip.mp4", "--id", "clip", status=1, clock=lambda: float(next(ticks)))
    assert "error: Traceback (most recent call last):" in home.err
    assert "error: ZeroDivisionError: \\x1b[31m" in home.err
    assert home.task().state is State.INVALIDCONTENT


def test_an_interrupted_look_is_no_error(lived: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(call: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(look, "_list", interrupted)
    lived.run("list", status=130)


def test_a_durability_that_nobody_knows(lived: Home) -> None:
    lived.run("list", "--durability", "much", status=2)


# ── completion ────────────────────────────────────────────────────────────────────────────────────────────────


def complete(home: Home, words: Sequence[str]) -> list[str]:
    """What bash would offer for the last word."""
    stagedoor = f'stagedoor() {{ "{sys.executable}" -m stagedoor "$@"; }}'
    script = home.run("completion", "bash")
    line = " ".join(f"'{word}'" for word in words)
    code = (
        f"{stagedoor}\n{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _stagedoor\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], cwd=home.path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(lived: Home) -> None:
    assert complete(lived, ["stagedoor", "re"]) == ["replay", "retry", "remove"]
    assert "--version" in complete(lived, ["stagedoor", "--"])
    assert complete(lived, ["stagedoor", "show", "c"]) == ["clip"]
    assert complete(lived, ["stagedoor", "--data", "elsewhere", "show", ""]) == []
    assert complete(lived, ["stagedoor", "add", "--pl"]) == ["--plan"]
    assert complete(lived, ["stagedoor", "list", "--state", "inte"]) == ["integrated", "integrationfailed"]
    assert complete(lived, ["stagedoor", "add", "cl"]) == ["clip.mp4"]
    assert complete(lived, ["stagedoor", "diagram", "--format", "p"]) == ["plantuml", "png"]
    assert complete(lived, ["stagedoor", "completion", ""]) == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_scripts(shell: str, home: Home) -> None:
    script = home.run("completion", shell)
    for name in completion._commands(cli._parser()):
        assert name in script
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    (home.path / "script").write_text(script)
    subprocess.run([shell, "-n", "script"], cwd=home.path, check=True)


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes(lived: Home) -> None:
    (lived.path / "script.fish").write_text(lived.run("completion", "fish"))
    code = f'function stagedoor; "{sys.executable}" -m stagedoor $argv; end; source script.fish; '
    for line, offered in (("stagedoor re", {"replay", "retry", "remove"}), ("stagedoor show c", {"clip"})):
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"{code}complete -C '{line}'"],
            cwd=lived.path, capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(lived.path)},
        )  # fmt: skip
        assert {row.split("\t")[0] for row in done.stdout.splitlines()} == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_defines_the_completion(home: Home) -> None:
    (home.path / "script.zsh").write_text(home.run("completion", "zsh"))
    code = "source script.zsh; print $_comps[stagedoor]"
    done = subprocess.run(
        ["zsh", "-f", "-c", code], cwd=home.path, capture_output=True, text=True, check=True,
        env={**os.environ, "HOME": str(home.path)},
    )  # fmt: skip
    assert "_stagedoor" in done.stdout


def test_the_store_is_never_recovered_by_looking(lived: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def recover(self: LocalTasks) -> list[str]:
        raise AssertionError("this moves files")

    monkeypatch.setattr(LocalTasks, "recover", recover)
    for command in READING:
        lived.run(*command.split())
