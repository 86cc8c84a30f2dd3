"""Commands that change, where a server owns the uploads directory: the same as without one, through the server."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from stagedoor import cli
from stagedoor.adapters.local import DirectoryLock
from stagedoor.client import Client, Patience
from stagedoor.commands import change
from stagedoor.commands.call import status_of
from stagedoor.commands.desk import RemoteDesk, api_key
from stagedoor.commands.stopping import Stop
from stagedoor.engine import Uploads
from stagedoor.errors import (
    ConfigurationError,
    InUse,
    Refused,
    StorageError,
    TaskNotFound,
    TooLarge,
    UploadError,
    WrongState,
)
from stagedoor.lifecycle import State
from stagedoor.server import whereabouts
from stagedoor.server.config import ServerConfig
from stagedoor.server.run import Service
from stagedoor.settings import Settings
from stagedoor.tasks import Offer, UploadTask, evolve, load
from stagedoor.testing.content import PlainContent

PATIENCE = 30.0
"""Seconds after which a test that hangs fails."""
KEY = "a-secret-key"
NAMES = {"artistname": "Blender", "name": "Bunny"}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("STAGEDOOR_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("stagedoor.content.builtin", lambda **_: ((PlainContent(),), lambda: None))


class Place:
    """An uploads directory with its library, and what the commands say of it.

    Attributes:
        root: Where both are.
        key: What is sent as an API key.
    """

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        self.out = self.err = ""

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    def run(self, *argv: str) -> int:
        """Run a command; returns its exit code."""
        self._capsys.readouterr()
        where = ("--data", str(self.uploads), "--music", str(self.root / "Music"), "--durability", "none")
        status = cli.main([argv[0], *where, *argv[1:]])
        self.out, self.err = self._capsys.readouterr()
        return status

    def json(self, *argv: str) -> tuple[int, Any]:
        status = self.run(*argv, "--json")
        return status, json.loads(self.out.replace(str(self.root), "ROOT"))

    def task(self, uploadid: str) -> UploadTask:
        return load((self.uploads / f"tasks/{uploadid}.json").read_bytes())

    def tree(self) -> Sequence[str]:
        """All files of the library."""
        return sorted(
            str(path.relative_to(self.root))
            for name in ("Music", "artwork")
            for path in (self.root / name).rglob("*")
            if path.is_file()
        )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Uploads in many states."""
    root = tmp_path_factory.mktemp("template")
    with Uploads.open(
        root / "uploads", music=root / "Music", contents=[PlainContent()], durability="none",
        settings=Settings(free_floor=0),
    ) as uploads:  # fmt: skip

        def put(uploadid: str, data: bytes, names: Mapping[str, str], size: int | None = None) -> None:
            offer = Offer(
                uploadid, filename="x.mp4", contenttype="video", filesize=size or len(data), annotations=names
            )
            uploads.initiate(offer)
            uploads.receive(uploadid, offset=0, data=data)
            while uploads.perform(uploadid):
                pass

        put("clip", b"fine film", NAMES)
        uploads.integrate("clip", trigger_import=True)
        while uploads.perform("clip"):
            pass
        assert uploads.get("clip").state is State.IMPORTCOMPLETE
        put("ready", b"another", {"artistname": "Blender", "name": "Sintel"})
        put("taken", b"same name", NAMES)
        put("bad", b"bad film", NAMES)
        put("ask", b"ask me", {"artistname": "Blender", "name": "Asked"})
        put("nameless", b"nameless", {})
        put("unwanted", b"noimport", {"artistname": "Blender", "name": "Unwanted"})
        put("part", b"the first", NAMES, 1_000)
    return root


@contextmanager
def serving(place: Place, **config: Any) -> Iterator[str]:
    """A server in a thread, as ``stagedoor serve`` runs it; gives its address."""
    found: list[str] = []
    ready = threading.Event()

    def told(address: str) -> None:
        found.append(address)
        ready.set()

    settings: dict[str, Any] = {
        "port": 0, "data": place.uploads, "music": place.root / "Music", "durability": "none", "drain": 1.0,
    }  # fmt: skip
    service = Service(ServerConfig(**(settings | config)), Settings(free_floor=0))
    thread = threading.Thread(target=service.run, args=(told,), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE), "the server did not start"
    try:
        yield found[0]
    finally:
        service.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def copy(template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Place]:
    def copied(name: str) -> Place:
        shutil.copytree(template, tmp_path / name)
        return Place(tmp_path / name, capsys)

    return copied


@pytest.fixture
def place(copy: Callable[[str], Place]) -> Place:
    return copy("place")


@pytest.fixture
def served(place: Place) -> Iterator[Place]:
    """A place whose uploads a server owns."""
    with serving(place):
        yield place


# ── the same as without a server ──────────────────────────────────────────────────────────────────────────────


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


ALIKE: Mapping[str, Sequence[Sequence[str]]] = {
    "annotate": (
        ("annotate", "clip", "origin=CD", "note=a=b"),
        ("annotate", "ready", 'tracks={"3": {"title": "Intro", "skip": true}}'),
        ("annotate", "ready", f"x={'y' * 70_000}"),
        ("annotate", "ready", f"x={nested(9)}"),
        ("annotate", "ready", f"x={nested(40)}"),
        ("annotate", "ready", 'x={"a": NaN}'),
        ("annotate", "ready", f'x={{"a": {10**30}}}'),
        ("annotate", "ready", "x=\udcff"),
        ("annotate", "nobody", "x=y"),
    ),
    "import": (("import", "ready"), ("import", "ready"), ("integrate", "ready"), ("import", "ready", "--verbose")),
    "integrate": (("integrate", "ready"), ("integrate", "ready"), ("import", "ready"), ("undo", "ready")),
    "undo": (("undo", "clip"), ("undo", "clip"), ("annotate", "clip", "name=Other"), ("import", "clip")),
    "undo what was changed": (("undo", "clip"),),
    "undo what is gone": (("undo", "clip"), ("undo", "clip", "--missing")),
    "remove": (("remove", "clip"), ("remove", "clip"), ("remove", "part"), ("remove", "bad")),
    "retry": (("retry", "bad"), ("retry", "clip"), ("retry", "part"), ("import", "bad")),
    "a question": (("import", "ask"), ("annotate", "ask", "answers.which=this"), ("import", "ask")),
    "a name is missing": (("import", "nameless"), ("integrate", "nameless"), ("undo", "nameless")),
    "a name is taken": (
        ("import", "taken"), ("annotate", "taken", "answers.destination_exists=replace"), ("import", "taken"),
        ("undo", "taken"),
    ),
    "an import that fails": (
        ("import", "unwanted"), ("retry", "unwanted"), ("import", "unwanted"), ("undo", "unwanted"),
    ),
    "an upload that is not whole": (("import", "part"), ("integrate", "part"), ("undo", "part")),
}  # fmt: skip
STATUSES = {
    "annotate": [0, 0, 1, 1, 1, 1, 1, 1, 3], "import": [0, 0, 0, 0], "integrate": [0, 0, 0, 0], "undo": [0, 1, 0, 0],
    "undo what was changed": [1], "undo what is gone": [2, 0], "remove": [0, 3, 0, 0], "retry": [1, 1, 1, 1],
    "a question": [5, 0, 0], "a name is missing": [5, 5, 1], "a name is taken": [5, 0, 0, 0],
    "an import that fails": [1, 1, 1, 0], "an upload that is not whole": [1, 1, 1],
}  # fmt: skip


@pytest.mark.parametrize("case", ALIKE)
def test_a_command_says_and_does_the_same_through_a_server(case: str, copy: Callable[[str], Place]) -> None:
    """The same exit codes, the same documents, the same files, and the same on record."""
    here, there = copy("here"), copy("there")
    for place in (here, there):
        if case == "undo what was changed":
            (place.root / "Music/Blender/Bunny.mp4").write_bytes(b"tagged")
        elif case == "undo what is gone":
            shutil.rmtree(place.root / "Music/Blender")
            shutil.rmtree(place.root / "artwork/Blender")
    ours = [here.json(*argv) for argv in ALIKE[case]]
    with serving(there):
        theirs = [there.json(*argv) for argv in ALIKE[case]]
    for one, other, argv in zip(ours, theirs, ALIKE[case], strict=True):
        if case == "undo what is gone" and one[0] == 2:  # whose directories they are makes another remedy
            assert (
                one[1]["sentences"][0].partition(" Say where")[0]
                == other[1]["sentences"][0].partition(" Look whether")[0]
            )
            one[1]["sentences"] = other[1]["sentences"]
        assert one == other, argv
    assert [status for status, _ in ours] == STATUSES[case]
    assert here.tree() == there.tree()
    for path in (here.uploads / "tasks").glob("*.json"):
        mine, its = here.task(path.stem), there.task(path.stem)
        assert (mine.state, mine.annotations, mine.placed) == (its.state, its.annotations, its.placed)


@pytest.mark.parametrize("argv", [("import", "ready"), ("undo", "clip"), ("remove", "clip"), ("retry", "bad")])
def test_people_read_the_same_through_a_server(argv: Sequence[str], copy: Callable[[str], Place]) -> None:
    here, there = copy("here"), copy("there")
    ours = here.run(*argv), here.out.replace(str(here.root), ""), here.err
    with serving(there):
        assert (there.run(*argv), there.out.replace(str(there.root), ""), there.err) == ours


# ── add, and work ─────────────────────────────────────────────────────────────────────────────────────────────


def test_add_says_and_does_the_same_through_a_server(copy: Callable[[str], Place], tmp_path: Path) -> None:
    (tmp_path / "new.mp4").write_bytes(b"a new film " * 100_000)
    (tmp_path / "noise.mp4").write_bytes(b"bad film")
    (tmp_path / "album").mkdir()
    for name in ("1.mp3", "2.mp3"):
        (tmp_path / "album" / name).write_bytes(name.encode() * 1_000)
    new, noise, album = (str(tmp_path / name) for name in ("new.mp4", "noise.mp4", "album"))
    names = ("--annotate", "artistname=New", "--annotate", "name=Film")
    commands = (
        ("add", new, noise, *names, "--plan"),
        ("add", new, "--no-import"),
        ("add", new, noise),
        ("add", new, "--annotate", "name=Too"),
        ("add", new, "--id", "clip"),
        ("add", new, "--type", "artwork"),
        ("add", noise, "--id", "bad"),
        ("add", album, "--type", "video", "--id", "album", "--annotate", "artistname=New", "--annotate", "name=Album"),
        ("remove", "album"),
        ("add", album, "--type", "video", "--id", "album", "--annotate", "artistname=New", "--annotate", "name=Again"),
        ("add", str(tmp_path / "nothing.mp4")),
    )
    here, there = copy("here"), copy("there")
    ours = [here.json(*argv) for argv in commands]
    with serving(there):
        for (status, document), argv in zip(ours, commands, strict=True):
            assert there.json(*argv) == (status, document), argv
    assert [status for status, _ in ours] == [1, 0, 1, 0, 1, 1, 1, 0, 0, 0, 3]
    assert here.tree() == there.tree()


def test_add_goes_on_where_the_server_stands(place: Place, tmp_path: Path) -> None:
    data = b"a new film".ljust(1_000, b".")
    (tmp_path / "x.mp4").write_bytes(data)
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    with Uploads.open(place.uploads, music=place.root / "Music", durability="none") as uploads:
        offer = Offer("film", filename="x.mp4", contenttype="video", filesize=1_000, sha1=sha1, mimetype="video/mp4")
        uploads.initiate(offer)
        uploads.receive("film", offset=0, data=data[:400])
    names = ("--annotate", "artistname=New", "--annotate", "name=Film")
    with serving(place):
        status, found = place.json("add", str(tmp_path / "x.mp4"), "--id", "film", *names)
        assert (status, found["files"][0]["state"]) == (0, "importcomplete")
    assert "sending from byte 400 on" in place.err
    assert (place.root / "Music/New/Film.mp4").read_bytes() == data


def test_work_is_the_servers(served: Place) -> None:
    assert served.json("work") == (0, {"steps": 0, "left": []})
    assert served.run("work") == 0
    assert "does the work by itself; nothing is due." in served.out


def test_work_tells_what_is_still_due(served: Place) -> None:
    path = served.uploads / "tasks/due.json"
    document = json.loads((served.uploads / "tasks/clip.json").read_bytes())
    path.write_text(json.dumps({**document, "id": "due", "state": "startimport"}))  # nobody tells the server of it
    assert served.json("work") == (0, {"steps": 0, "left": ["due"]})
    assert served.run("work") == 0
    assert "something is due for 1 upload.\n• stagedoor explain due tells what happens next." in served.out


# ── directories ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_servers_directories_count(served: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever talks to a server need not know where its library is, nor can be wrong about it."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for more in ((), ("--music", str(tmp_path / "elsewhere"))):
        assert cli.main(["plan", "clip", "--data", str(served.uploads), *more]) == 0
        assert cli.main(["import", "clip", "--data", str(served.uploads), *more]) == 0
    served._capsys.readouterr()
    assert cli.main(["undo", "clip", "--data", str(served.uploads), "--music", "nowhere"]) == 0
    assert served.tree() == []
    assert cli.main(["import", "clip", "--data", str(served.uploads)]) == 0
    out = served._capsys.readouterr().out
    assert f"  {served.root}/Music/Blender/Bunny.mp4\n  {served.root}/artwork/Blender/Bunny/frame.jpg\n" in out


def test_the_servers_naming_counts(served: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that is shown beside a server is the one that the server is going to carry out."""
    schemes: list[str] = []

    def builtin(*, scheme: str) -> tuple[Sequence[PlainContent], Callable[[], None]]:
        schemes.append(scheme)
        return (PlainContent(),), lambda: None

    monkeypatch.setattr("stagedoor.content.builtin", builtin)
    found = whereabouts.find(served.uploads)
    assert found is not None
    for told in ("jellyfin", None):
        whereabouts.note(served.uploads, found.address, found.trees, told)
        assert served.run("plan", "ready") == 0
        assert served.run("plan", "ready", "--naming", "beets") == 0
    assert schemes == ["jellyfin", "jellyfin", "musicdb", "beets"]


def test_what_cannot_be_seen_is_not_judged(served: Place) -> None:
    """A server in a container has its library under names that are none here."""
    found = whereabouts.find(served.uploads)
    assert found is not None
    whereabouts.note(served.uploads, found.address, {name: f"/nowhere{path}" for name, path in found.trees.items()})
    assert served.json("undo", "clip")[1]["state"] == "preprocessed"
    whereabouts.note(served.uploads, found.address, {})
    assert served.json("import", "clip")[1]["state"] == "importcomplete"
    assert served.json("undo", "clip")[1]["state"] == "preprocessed"


@pytest.mark.parametrize(
    "document",
    [
        "", "[", "[]", "1" * 5_000, "[" * 60_000, '{"address": "http://[::1]/"}', '{"address": 1, "pid": 1}',
        '{"address": "http://a\\u001b", "pid": 1}', '{"address": "file:///etc", "pid": 1}',
        '{"address": "http://a/", "pid": true}', '{"address": "http://a/", "pid": 2}',
    ],
)  # fmt: skip
def test_a_record_that_is_none(document: str, tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text(document)
    assert whereabouts.find(tmp_path, 1) is None
    assert whereabouts.look_up(tmp_path, 1) is None


def test_directories_on_record_are_absolute_paths(tmp_path: Path) -> None:
    trees = {"music": "/m\udcff", "a": "b", "c": 1, "d": "/\0"}
    (tmp_path / "server.json").write_text(json.dumps({"address": "http://a/", "pid": 1, "directories": trees}))
    assert whereabouts.find(tmp_path) == whereabouts.Whereabouts("http://a/", 1, {"music": "/m\udcff"})
    document = {"address": "http://a/", "pid": 1, "directories": [1], "naming": 1}
    (tmp_path / "server.json").write_text(json.dumps(document))
    assert whereabouts.find(tmp_path) == whereabouts.Whereabouts("http://a/", 1, {})


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_comes_from_a_file_or_the_environment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.root / "key").write_text(f"# mine\n\n  {KEY}\n")
    (place.root / "wrong").write_text("another-key\n")
    with serving(place, keys=(KEY,)) as address:
        for more in ((), ("--key-file", str(place.root / "wrong"))):
            status, found = place.json("annotate", "clip", "origin=CD", *more)
            assert (status, found["error"]["code"], found["error"]["status"]) == (2, "unauthorized", 2)
            sentence = f"The server at {address} owns the uploads directory and wants an API key that it knows."
            assert found["error"]["sentence"].startswith(sentence)
        assert place.json("annotate", "clip", "origin=CD", "--key-file", str(place.root / "key"))[0] == 0
        monkeypatch.setenv("STAGEDOOR_KEY", KEY)
        assert place.json("undo", "clip")[1]["state"] == "preprocessed"
        assert place.json("annotate", "clip", "a=b", "--key-file", str(place.root / "wrong"))[0] == 2
        assert place.json("annotate", "clip", "a=b", "--key-file", str(place.root / "none"))[0] == 3
    assert place.task("clip").annotations["origin"] == "CD"
    assert "a" not in place.task("clip").annotations


@pytest.mark.parametrize("content", ["", "# only a remark\n", "schlüssel-aus-dem-tal\n", "two\x00words\n"])
def test_what_is_no_key_is_not_sent(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(ConfigurationError, match=r"no API key|no key in"):
        api_key(str(tmp_path / "key"))
    monkeypatch.setenv("STAGEDOOR_KEY", "two\nlines")
    with pytest.raises(ConfigurationError, match="STAGEDOOR_KEY"):
        api_key(None)


def test_a_key_goes_to_the_server_and_to_no_proxy(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(place, keys=(KEY,)), socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))  # and does not listen: whoever asks it gets nowhere
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("STAGEDOOR_KEY", KEY)
        assert place.json("annotate", "clip", "origin=CD")[0] == 0


# ── servers that cannot be asked ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, which take no time."""
    pauses: list[float] = []
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: pauses.append(seconds))
    return pauses


@contextmanager
def owned(place: Place, address: str) -> Iterator[None]:
    """This process owns the directory and says that it serves."""
    lock = DirectoryLock(str(place.uploads))
    whereabouts.note(place.uploads, address, {})
    try:
        yield
    finally:
        lock.close()


CHANGING = ("annotate clip a=b", "integrate clip", "import clip", "retry clip", "undo clip", "remove clip")


@pytest.mark.parametrize("command", CHANGING)
def test_a_server_that_does_not_answer(command: str, place: Place, hurried: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    before = {path: path.read_bytes() for path in (place.uploads / "tasks").iterdir()}
    with owned(place, address):
        status, found = place.json(*command.split())
        assert (status, found["error"]["code"], found["error"]["status"]) == (4, "unreachable", 4)
        assert f"It is process {os.getpid()}, at {address}. When it has stopped," in found["error"]["sentence"]
        assert "stagedoor upload" not in found["error"]["sentence"]  # which it would not take either
    assert 0 < sum(hurried) < 4  # a person waits
    assert {path: path.read_bytes() for path in (place.uploads / "tasks").iterdir()} == before
    assert place.json(*command.split())[0] in (0, 1)  # the record is an old one by now


def test_a_record_of_another_process_is_not_believed(place: Place) -> None:
    with serving(place) as address:
        record = json.loads((place.uploads / "server.json").read_bytes())
        (place.uploads / "server.json").write_text(json.dumps({**record, "pid": record["pid"] + 1}))
        status, found = place.json("annotate", "clip", "a=b")
        assert (status, found["error"]["code"]) == (4, "in_use")
        assert address not in found["error"]["sentence"]


def test_without_httpx_the_owner_is_named(served: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    status, found = served.json("undo", "clip")
    assert (status, found["error"]["code"]) == (4, "in_use")
    sentence = found["error"]["sentence"]
    assert f"is in use by process {os.getpid()}." in sentence
    assert "pip install 'stagedoor[client]'" in sentence
    address = whereabouts.look_up(served.uploads)
    assert sentence.endswith(f"It serves {address}: stagedoor upload sends files there.")
    assert served.json("work")[0] == 0


def test_a_server_under_another_name_only(place: Place) -> None:
    with serving(place, hosts=("music.example",)):
        status, found = place.json("annotate", "clip", "a=b")
    assert (status, found["error"]["code"]) == (2, "forbidden")
    assert "Its setting hosts decides." in found["error"]["sentence"]


def test_an_address_that_is_none(place: Place) -> None:
    with owned(place, "http://[::1/"):
        status, found = place.json("annotate", "clip", "a=b")
    assert status == 2
    assert "The address http://[::1/ that the server has put on record is none" in found["error"]["sentence"]


def test_what_is_stopped_goes_on_at_the_server(served: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    request = RemoteDesk.request

    def stop(self: RemoteDesk, uploadid: str, *, trigger_import: bool = False) -> UploadTask:
        os.kill(os.getpid(), signal.SIGINT)
        return request(self, uploadid, trigger_import=trigger_import)

    monkeypatch.setattr(RemoteDesk, "request", stop)
    assert served.run("import", "ready") == 130
    assert "! ready: Stopped. The same command again goes on." in served.out
    monkeypatch.undo()
    assert served.json("import", "ready")[1]["state"] == "importcomplete"


NOBODY = 65_534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a command as somebody else")
def test_a_server_that_another_user_runs(place: Place, template: Path) -> None:
    """What nobody but its owner may write, its server changes for others; what they may not see is said."""
    script = (  # what it imports may be where nobody else may look
        "import encodings.ascii, encodings.idna, os, sys, httpx; from stagedoor import cli, client; os.setgroups([]); "
        f"os.setgid({NOBODY}); os.setuid({NOBODY}); sys.exit(cli.main(sys.argv[1:]))"
    )

    def as_nobody(*argv: str) -> tuple[int, Any]:
        command = [sys.executable, "-c", script, *argv, "--json"]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    with ExitStack() as stack:
        open_to_all = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        open_to_all.chmod(0o755)
        shutil.copytree(template, open_to_all, dirs_exist_ok=True)
        open_to_all.chmod(0o755)
        theirs = Place(open_to_all, place._capsys)
        data = ("--data", str(theirs.uploads))
        with serving(theirs):
            status, found = as_nobody("undo", "clip", *data)
            assert (status, found["state"]) == (0, "preprocessed")
            (theirs.uploads).chmod(0o700)
            status, found = as_nobody("import", "clip", *data)
            assert status == 2
            assert "is another user's, and you may not look into it." in found["error"]["sentence"]
            (theirs.uploads).chmod(0o755)
        with serving(theirs, keys=(KEY,)):
            assert as_nobody("import", "clip", *data)[0] == 2


# ── the desk ──────────────────────────────────────────────────────────────────────────────────────────────────

Handler = Callable[[httpx.Request], httpx.Response]


def desk(answer: Handler, pause: Callable[[float], None] = lambda seconds: None) -> RemoteDesk:
    client = Client(
        "http://127.0.0.1:1/", patience=Patience(attempts=2), sleep=pause, transport=httpx.MockTransport(answer)
    )
    return RemoteDesk(client, whereabouts.Whereabouts("http://127.0.0.1:1/", 4711, {}), pause, lambda: 0.0)


@pytest.mark.parametrize(
    ("status", "code", "kind", "exits"),
    [
        (404, "not_found", TaskNotFound, 3), (404, "http_404", UploadError, 1),
        (401, "unauthorized", ConfigurationError, 2),
        (403, "forbidden", ConfigurationError, 2), (503, "draining", InUse, 4), (503, "closed", InUse, 4),
        (500, "configuration", ConfigurationError, 2), (409, "wrong_state", WrongState, 1),
        (409, "changed_since", Refused, 1), (413, "annotations_too_large", TooLarge, 1),
        (503, "storage_error", StorageError, 1), (500, "unexpected", UploadError, 1),
    ],
)  # fmt: skip
def test_what_a_server_refuses_is_what_the_engine_would_raise(
    status: int, code: str, kind: type[UploadError], exits: int
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"code": code, "detail": "A sentence.", "guard": "a_guard"})

    with pytest.raises(kind) as caught:
        desk(refuse).get("clip")
    assert status_of(caught.value) == exits
    if kind in (WrongState, Refused, TooLarge, StorageError):
        assert (caught.value.code, caught.value.sentence, caught.value.guard) == (code, "A sentence.", "a_guard")


def test_a_task_is_read_as_the_server_tells_of_it(template: Path) -> None:
    """A step has a token there, which is nobody's business, and here is none."""
    document = json.loads((template / "uploads/tasks/clip.json").read_bytes())
    step = {"trigger": "integrate", "token": "secret", "attempt": 2, "started": 1.0, "not_before": 2.0}
    whole = load({**document, "step": step})
    del document["foreign"], step["token"]
    found = desk(lambda request: httpx.Response(200, json={**document, "step": step})).get("clip")
    assert found.step is not None
    assert whole.step is not None
    assert found == evolve(whole, step=found.step)
    assert (found.step.attempt, found.step.not_before, found.step.token) == (2, 2.0, "")


@pytest.mark.parametrize("imports", [False, True])
def test_what_is_asked_for_is_said(imports: bool, template: Path) -> None:
    document = json.loads((template / "uploads/tasks/ready.json").read_bytes())
    asked: list[tuple[str, Any]] = []

    def tell(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json=document)

    assert desk(tell).request("ready", trigger_import=imports) == load(document)
    assert asked == [("/api/uploads/ready/request", {"trigger_import": imports})]


def test_an_answer_may_tell_more_than_is_on_record(template: Path) -> None:
    document = json.loads((template / "uploads/tasks/clip.json").read_bytes())

    def tell(request: httpx.Request) -> httpx.Response:
        found = document["plan"] if request.url.path.endswith("/plan") else document
        return httpx.Response(200, json={**found, "said": "for people"})

    assert desk(tell).get("clip") == load(document)
    assert desk(tell).plan("clip") == load(document).plan
    document["schema"] = 1_000
    with pytest.raises(UploadError, match="this version knows"):
        desk(tell).get("clip")


def test_the_pauses_grow_until_something_happens(template: Path) -> None:
    document = json.loads((template / "uploads/tasks/clip.json").read_bytes()) | {"state": "startimport"}
    pauses: list[float] = []
    heard: list[State] = []
    asked = desk(lambda request: httpx.Response(200, json=document), pauses.append)
    end = asked.subscribe(lambda notice: heard.append(notice.state))
    for _ in range(7):
        assert asked.perform("clip")
    assert pauses == [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]
    document["revision"] += 1
    assert asked.perform("clip")
    assert pauses[7:] == [0.02]
    assert heard == [State.STARTIMPORT, State.STARTIMPORT]
    end()
    document |= {"state": "importcomplete"}
    assert asked.perform("clip")
    assert len(pauses) == 8


def test_a_removal_that_does_not_end_is_told(template: Path) -> None:
    document = json.loads((template / "uploads/tasks/clip.json").read_bytes()) | {"state": "remove"}
    waited: list[float] = []
    asked = desk(lambda request: httpx.Response(200, json=document), waited.append)

    def wait() -> None:
        for _ in range(1_000):
            asked.perform("clip")

    with pytest.raises(StorageError, match="goes on trying") as caught:
        wait()
    assert caught.value.code == "not_removed"
    assert 60 <= sum(waited) < 61


def test_nobody_looks_into_what_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What may not be looked at is not gone."""
    (tmp_path / "file").touch()
    assert not change._is_gone(str(tmp_path / "file"))
    assert change._is_gone(str(tmp_path / "other"))
    assert change._is_gone(str(tmp_path / "file/other"))

    def denied(path: str) -> os.stat_result:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("os.lstat", denied)
    assert not change._is_gone(str(tmp_path / "other"))
