"""What the user has to decide: questions, answers, and the note that something is there already."""

from __future__ import annotations

import json
import os
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import attrs
import pytest
from attrs import evolve

from stagedoor.cli import main
from stagedoor.content.decoding.archive import ArchiveLimits
from stagedoor.engine import Uploads
from stagedoor.errors import Refused
from stagedoor.explain import explain
from stagedoor.lifecycle import State as S
from stagedoor.ports import Preprocessed, Source, Surroundings
from stagedoor.tasks import Finding, Plan, PlannedFile, UploadTask, dump, load
from stagedoor.testing.content import PlainContent

if TYPE_CHECKING:
    from conftest import House

WHICH = Finding("which", "hold", "Which one is it?", options=("left", "right"))
WHERE = Finding("where", "hold", "Where does it go?", options=("here",))
ODD = Finding("odd", "warn", "That is odd.")


class Asking(PlainContent):
    """Asks about the content, and about its place."""

    def __init__(self, content: Sequence[Finding] = (), place: Sequence[Finding] = ()) -> None:
        super().__init__()
        self.content, self.place = tuple(content), tuple(place)

    def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
        """See `ContentType.preprocess`."""
        return evolve(super().preprocess(task, source), findings=self.content)

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """See `ContentType.plan`."""
        plan = super().plan(task, around)
        return evolve(plan, problems=(*plan.problems, *self.place))


def asking(closed: House, *, content: Sequence[Finding] = (), place: Sequence[Finding] = ()) -> House:
    closed.open(contents=[Asking(content, place)])
    closed.bring(S.PREPROCESSED)
    return closed


# ── questions and answers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("content", "place", "code"), [((WHICH,), (), "which"), ((), (WHERE,), "where")])
@pytest.mark.parametrize("how", ["request", "integrate"])
def test_an_open_question_refuses_integration(
    closed: House, content: tuple[Finding, ...], place: tuple[Finding, ...], code: str, how: str
) -> None:
    house = asking(closed, content=content, place=place)
    options = ", ".join((*content, *place)[0].options)
    with house.refused(Refused, code, guard="no_open_question", says=rf"answers\.{code} \({options}\) first"):
        getattr(house.uploads, how)("one")


def test_the_question_about_the_content_is_the_first(closed: House) -> None:
    house = asking(closed, content=[WHICH], place=[WHERE])
    with house.refused(Refused, "which", guard="no_open_question"):
        house.uploads.integrate("one")
    house.uploads.annotate("one", {"answers.which": "left"})
    with house.refused(Refused, "where", guard="no_open_question"):
        house.uploads.integrate("one")
    house.uploads.annotate("one", {"answers.where": "here"})
    assert house.uploads.integrate("one").state is S.INTEGRATED


@pytest.mark.parametrize("wrong", ["up", "", "LEFT", None, True, ["left"], {"left": True}])
def test_a_wrong_option_leaves_it_open(closed: House, wrong: Any) -> None:
    house = asking(closed, content=[WHICH])
    task = house.uploads.annotate("one", {"answers.which": wrong})
    assert task.open_questions == (WHICH,)
    with house.refused(Refused, "which", guard="no_open_question"):
        house.uploads.request("one")


@pytest.mark.parametrize("answer", ["anything", False, 0, None])
def test_a_question_without_options_takes_any_answer(closed: House, answer: Any) -> None:
    house = asking(closed, content=[attrs.evolve(WHICH, options=())])
    assert house.uploads.annotate("one", {"answers.which": answer}).open_questions == ()
    assert house.uploads.integrate("one").state is S.INTEGRATED


def test_an_answer_may_come_with_the_offer(closed: House) -> None:
    closed.open(contents=[Asking([WHICH], [WHERE])])
    answers = {"answers.which": "right", "answers.where": "here"}
    closed.bring(S.PREPROCESSED, annotations={**closed.NAMES, **answers})
    assert closed.uploads.integrate("one").state is S.INTEGRATED


def test_the_plan_shows_what_is_open(closed: House) -> None:
    house = asking(closed, place=[WHERE, ODD])
    assert house.uploads.plan("one").problems == (WHERE, ODD)
    house.uploads.annotate("one", {"answers.where": "here"})
    assert house.uploads.plan("one").problems == (ODD,)


def test_a_question_that_comes_up_after_the_request_is_no_reason_to_go_on(closed: House) -> None:
    content = Asking()
    closed.open(contents=[content])
    closed.bring(S.PREPROCESSED)
    closed.uploads.request("one")
    content.place = (WHERE,)  # somebody else has changed the library
    closed.worker.drain(10)
    task = closed.uploads.get("one")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "where")
    assert closed.files("music") == {}
    closed.uploads.retry("one")
    closed.uploads.annotate("one", {"answers.where": "here"})
    assert closed.uploads.integrate("one").state is S.INTEGRATED


def test_a_plan_that_cannot_be_made_now_asks_nothing(closed: House) -> None:
    house = asking(closed, place=[WHERE])
    house.before["content.plan"] = lambda *_: None
    house.before["music.missing_directories"] = _fails
    with pytest.raises(OSError, match="disk"):
        house.uploads.plan("one")


def _fails(*_: object) -> None:
    raise OSError("The disk is away.")


def test_explained(closed: House) -> None:
    house = asking(closed, content=[WHICH], place=[WHERE, ODD])
    told = explain(house.uploads, "one")
    assert "An open question: Which one is it? (left, right)" in told.why
    assert "An open question: Where does it go? (here)" in told.why
    assert "What was noticed: That is odd." in told.why
    (refusal,) = [refused for refused in told.refused if refused.guard == "no_open_question"]
    assert refusal.command == "stagedoor annotate one answers.which=ANSWER"
    house.uploads.annotate("one", {"answers.which": "left"})
    told = explain(house.uploads, "one")
    assert "It was asked: Which one is it? The answer is “left”." in told.why
    (refusal,) = [refused for refused in told.refused if refused.guard == "no_open_question"]
    assert refusal.command == "stagedoor annotate one answers.where=here"  # there is no other


def test_a_wrong_answer_is_explained(closed: House) -> None:
    house = asking(closed, content=[WHICH])
    house.uploads.annotate("one", {"answers.which": "up"})
    told = explain(house.uploads, "one").why
    assert "An open question: Which one is it? (left, right) The answer “up” is none of these." in told
    assert not any(line.startswith("It was asked") for line in told)


def test_options_survive_the_document(closed: House) -> None:
    house = asking(closed, content=[WHICH])
    task = house.uploads.get("one")
    assert load(dump(task)).findings == (WHICH,)


# ── a content type that makes too little ──────────────────────────────────────────────────────────────────────


class Forgetful(PlainContent):
    """Plans two files, and makes one."""

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """See `ContentType.plan`."""
        return evolve(
            super().plan(task, around),
            files=(PlannedFile("music", "Alpha/1.txt", "one"), PlannedFile("music", "Alpha/2.txt", "two")),
        )

    @contextmanager
    def produce(
        self, task: UploadTask, source: Source, files: Sequence[PlannedFile]
    ) -> Iterator[Iterator[tuple[PlannedFile, BinaryIO]]]:
        """See `Producer.produce`."""
        with source() as file:
            yield iter([(files[0], file)])


def test_an_integration_that_makes_too_little_fails_and_leaves_nothing(closed: House) -> None:
    closed.open(contents=[Forgetful()])
    closed.bring(S.PREPROCESSED)
    task = closed.uploads.integrate("one")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "cannot_produce")
    assert task.message == "1 of 2 planned files were not made, Alpha/2.txt among them."
    assert closed.files("music") == {}


class Both(Forgetful):
    """Plans one file that is made, and the uploaded file as it is."""

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """See `ContentType.plan`."""
        made, itself = PlannedFile("music", "Alpha/1.txt", "one"), PlannedFile("music", "Alpha/2.txt")
        return evolve(super().plan(task, around), files=(made, itself))


def test_what_is_made_is_placed_beside_the_uploaded_file_as_planned(closed: House) -> None:
    closed.open(contents=[Both()])
    closed.bring(S.PREPROCESSED)
    task = closed.uploads.integrate("one")
    assert (task.state, task.code) == (S.INTEGRATED, None)
    assert [file.path for file in task.placed] == ["Alpha/1.txt", "Alpha/2.txt"]
    assert closed.files("music") == dict.fromkeys(["Alpha/1.txt", "Alpha/2.txt"], closed.DATA)


def test_of_two_files_one_is_there(closed: House) -> None:
    closed.open(contents=[Both()])
    closed.bring(S.PREPROCESSED)
    closed.uploads.annotate("one", {"answers.destination_exists": "replace"})
    music = closed.root / "music" / "Alpha"
    music.mkdir()
    (music / "2.txt").write_bytes(closed.DATA)
    plan = closed.uploads.plan("one")
    assert [file.path for file in plan.files] == ["Alpha/1.txt"]
    assert [problem.code for problem in plan.problems] == ["already_there"]
    task = closed.uploads.integrate("one")
    assert (task.state, [file.path for file in task.placed]) == (S.INTEGRATED, ["Alpha/1.txt"])


@pytest.mark.parametrize("count", [1, 2])
def test_the_same_bytes_at_the_last_moment_are_not_replaced(closed: House, count: int) -> None:
    closed.open(contents=[Both()])
    closed.bring(S.PREPROCESSED)
    closed.uploads.annotate("one", {"answers.destination_exists": "replace"})
    music = closed.root / "music" / "Alpha"
    music.mkdir()
    for name in ("1.txt", "2.txt"):
        (music / name).write_bytes(b"older")

    def faster(*_: object) -> None:
        for name in ("1.txt", "2.txt")[:count]:
            (music / name).write_bytes(closed.DATA)

    closed.before["music.place"] = faster
    task = closed.uploads.integrate("one")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "already_there")
    said = "Alpha/1.txt is" if count == 1 else "Alpha/2.txt, Alpha/1.txt are"
    assert task.message is not None
    assert task.message.startswith(f"{said} there already, byte for byte, and not replaced.")


# ── before a byte is sent ─────────────────────────────────────────────────────────────────────────────────────


def test_known(house: House) -> None:
    assert house.uploads.known("0" * 40) == ()
    task = house.bring(S.IMPORTCOMPLETE)
    assert task.sourcechecksum is not None
    assert list(house.uploads.known(task.sourcechecksum.upper())) == ["Alpha/Beta.mp4"]
    house.uploads.undo("one")
    assert list(house.uploads.known(task.sourcechecksum)) == []


@pytest.mark.parametrize("wrong", ["", "x" * 40, "0" * 39])
def test_known_needs_a_sha1(house: House, wrong: str) -> None:
    with pytest.raises(Refused) as caught:
        house.uploads.known(wrong)
    assert caught.value.code == "invalid_checksum"


def test_it_is_no_reason_to_refuse_anything(house: House) -> None:
    house.bring(S.IMPORTCOMPLETE)
    names: Mapping[str, str] = {**house.NAMES, "name": "Gamma"}
    assert house.bring(S.IMPORTCOMPLETE, "two", annotations=names).placed[0].path == "Alpha/Gamma.mp4"


# ── the command line ──────────────────────────────────────────────────────────────────────────────────────────


class Shell:
    """Commands in a directory of their own, and what they said."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self._capsys = path, capsys
        self.err = ""

    def run(self, *argv: str, status: int = 0) -> str:
        self._capsys.readouterr()
        got = main([*argv, "--durability", "none"])
        out, self.err = self._capsys.readouterr()
        assert got == status, f"{got}\n{out}\n{self.err}"
        return out

    def json(self, *argv: str, status: int = 0) -> Any:
        return json.loads(self.run(*argv, "--json", status=status))

    def song(self, name: str, seed: int, **tags: str) -> str:
        from stagedoor.testing.sounds import song

        pytest.importorskip("av", reason="needs the media extra")
        said = {
            "artist": "Björk",
            "album": "Debut",
            "date": "1993",
            "title": f"Song {seed}",
            "track": str(seed),
            **tags,
        }
        (self.path / name).write_bytes(song("mp3", 0.5, seed=seed, **said))
        return name

    def files(self) -> list[str]:
        return sorted(
            str(p.relative_to(self.path / "Music")) for p in (self.path / "Music").rglob("*.*") if p.is_file()
        )


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    for name in ("STAGEDOOR_DATA", "STAGEDOOR_MUSIC", "STAGEDOOR_ARTWORK", "STAGEDOOR_NAMING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capsys)


def test_commands_show_the_questions_of_a_plan(shell: Shell) -> None:
    shell.run("add", shell.song("1.mp3", 1), "--id", "one")
    out = shell.run("add", shell.song("other.mp3", 2, artist="Bjork"), "--id", "two", status=5)
    question = "The library has Björk. Is that Bjork?"
    answers = "stagedoor annotate two answers.artist_similar=Bjork or"
    assert question in out
    for command in ("plan", "show", "explain"):  # offline, and still they know the library
        before = _snapshot(shell.path)
        out = " ".join(shell.run(command, "two", status=5 if command == "plan" else 0).split())
        assert question in out
        assert answers in out or command == "explain"
        assert _snapshot(shell.path) == before
    found = shell.json("plan", "two", status=5)["plan"]["questions"]
    assert [(q["code"], q["options"]) for q in found] == [("artist_similar", ["Bjork", "Björk"])]
    assert shell.json("import", "two", status=5)["code"] == "artist_similar"
    shell.run("annotate", "two", "answers.artist_similar=Björk")
    shell.run("import", "two")
    assert shell.files() == ["Björk/1993 - Debut/1 Song 1.mp3", "Björk/1993 - Debut/2 Song 2.mp3"]
    assert shell.json("plan", "two")["plan"]["questions"] == []


def _snapshot(path: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in path.rglob("*"))


def test_a_warning_is_no_reason_to_stop_and_no_code_of_one(shell: Shell) -> None:
    shell.run("add", shell.song("1.mp3", 1), "--id", "one")
    out = shell.run("add", shell.song("2.mp3", 2, artist="BJÖRK", album=""), "--id", "two", status=5)
    assert "The annotation “albumname” is missing." in out
    out = shell.run("add", "2.mp3", "--id", "two", "--plan", "--annotate", "albumname=Debut")
    assert "! BJÖRK is filed under Björk, as the library has it." in out


def test_a_file_that_is_there_is_replaced_when_somebody_says_so(shell: Shell) -> None:
    shell.run("add", shell.song("1.mp3", 1), "--id", "one")
    more = ("--annotate", "answers.album_exists=add", "--annotate", "answers.destination_exists=replace")
    shell.song("better.mp3", 5, title="Song 1", track="1")
    assert (
        shell.json("add", "better.mp3", "--id", "two", *more[:2], status=5)["files"][0]["code"] == "destination_exists"
    )
    assert "instead of the one that is there" in shell.run("add", "better.mp3", "--id", "two", "--plan", *more)
    shell.run("import", "two")
    path = shell.path / "Music/Björk/1993 - Debut/1 Song 1.mp3"
    assert path.read_bytes() == (shell.path / "better.mp3").read_bytes()
    shell.run("undo", "two")
    assert path.read_bytes() == (shell.path / "1.mp3").read_bytes()
    out = " ".join(shell.run("plan", "two", status=5).split())
    command = "Answer it: stagedoor annotate two answers.destination_exists=replace"
    assert command in out
    assert command in " ".join(shell.run("explain", "two").split())
    shell.run("annotate", "two", "answers.destination_exists=replace")
    deleted = "1 file that is there is replaced, kept for undo, and deleted when the upload is removed."
    assert deleted in " ".join(shell.run("plan", "two").split())
    shell.run("import", "two")
    assert deleted in " ".join(shell.run("plan", "two").split())
    assert "1 file that it had replaced is deleted with it." in shell.run("remove", "two")
    assert deleted not in shell.run("plan", "one")


def test_songs_are_corrected_from_the_command_line(shell: Shell) -> None:
    shell.run("add", shell.song("1.mp3", 1), "--id", "one", "--plan")
    shell.run("annotate", "one", 'tracks={"1": {"title": "Other", "number": 7}}')
    shell.run("import", "one")
    assert shell.files() == ["Björk/1993 - Debut/7 Other.mp3"]


def test_you_already_have_this(shell: Shell) -> None:
    shell.run("add", shell.song("1.mp3", 1), "--id", "one")
    assert "already have" not in shell.err
    assert shell.json("add", "1.mp3", "--id", "one")["files"][0]["known"] == []  # it is the upload itself
    found = shell.json("add", "1.mp3", "--id", "two", "--plan", status=5)["files"][0]
    assert found["known"] == ["Björk/1993 - Debut/1 Song 1.mp3"]
    said = shell.err.splitlines()
    note = said.index("1.mp3: You already have this: Björk/1993 - Debut/1 Song 1.mp3")
    assert note < said.index("1.mp3: sending")


def test_naming(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.run("add", shell.song("1.mp3", 1), "--id", "one", "--naming", "jellyfin")
    assert shell.files() == ["Björk/Debut/Track 01 Song 1.mp3"]
    monkeypatch.setenv("STAGEDOOR_NAMING", "beets")
    shell.run("add", shell.song("2.mp3", 2), "--id", "two", "--plan")
    assert shell.json("plan", "two")["plan"]["files"][0]["path"] == "Björk/Debut/02 Song 2.mp3"
    path = shell.json("plan", "two", "--naming", "musicdb")["plan"]["files"][0]["path"]
    assert path == "Björk/1993 - Debut/2 Song 2.mp3"
    shell.run("add", "2.mp3", "--naming", "mine", status=2)
    assert "There is no naming scheme 'mine'. Choose one of these: musicdb, navidrome, beets, jellyfin." in shell.err
    shell.run("plan", "two", "--naming", "mine", status=2)


def test_a_server_may_own_the_directory_while_somebody_looks(shell: Shell) -> None:
    shell.run("add", shell.song("1.mp3", 1), "--id", "one")
    shell.run("add", shell.song("2.mp3", 2, artist="Bjork"), "--id", "two", status=5)
    with Uploads.open("uploads", music="Music", durability="none"):
        assert "Is that Bjork?" in shell.run("plan", "two", status=5)


# ── albums on the command line ────────────────────────────────────────────────────────────────────────────────


def _folder(shell: Shell) -> Path:
    """Two songs on two discs and a picture, junk, and links to elsewhere."""
    from stagedoor.testing.pictures import picture

    album = shell.path / "Debut"
    for disc in (1, 2):
        (album / f"CD {disc}").mkdir(parents=True)
        shell.song(f"Debut/CD {disc}/1 Song.mp3", disc, disc=str(disc), track="1")
    (album / "cover.jpg").write_bytes(picture(size=(600, 600)))
    (album / ".DS_Store").write_bytes(b"junk")
    (shell.path / "elsewhere.mp3").write_bytes(b"secret")
    (album / "3 Link.mp3").symlink_to(shell.path / "elsewhere.mp3")
    (album / "Linked").symlink_to(shell.path)
    return album


def test_a_folder_is_one_album(shell: Shell) -> None:
    album = _folder(shell)
    found = shell.json("add", "Debut/")["files"][0]
    assert (found["state"], shell.files()) == (
        "importcomplete",
        ["Björk/1993 - Debut/1-1 Song 1.mp3", "Björk/1993 - Debut/2-1 Song 2.mp3"],
    )
    task = load((shell.path / f"uploads/tasks/{found['id']}.json").read_bytes())
    with zipfile.ZipFile(shell.path / "uploads" / task.destinationpath) as packed:
        members = packed.infolist()
        assert packed.read(members[0]) == (album / "CD 1/1 Song.mp3").read_bytes()
    assert [member.filename for member in members] == ["CD 1/1 Song.mp3", "CD 2/1 Song.mp3", "cover.jpg"]
    assert {(m.compress_type, m.date_time) for m in members} == {(zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))}
    assert task.sourcefilename == "Debut.zip"
    assert sorted(path.name for path in (shell.path / "uploads").iterdir() if path.name.startswith(".stagedoor-")) == []


def test_a_folder_gives_the_same_bytes_whenever_it_is_packed(shell: Shell) -> None:
    album = _folder(shell)
    first = shell.json("add", "Debut", "--plan")["files"][0]["id"]
    for path in sorted(album.glob("CD*/*.mp3")):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        os.utime(path, (1, 1))
    album.rename(shell.path / "x")
    (shell.path / "x").rename(album)
    assert shell.json("add", "./Debut", "--plan")["files"][0]["id"] == first
    assert len(shell.json("list")["uploads"]) == 1


def test_a_folder_that_is_no_album_is_not_packed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    (shell.path / "texts").mkdir()
    (shell.path / "texts/notes.txt").write_bytes(b"x")
    shell.run("add", "texts", status=2)
    assert "There is no song in the folder texts." in shell.err
    for name in "ab":
        (shell.path / f"texts/{name}.mp3").write_bytes(b"x" * 100)
    for limits in (ArchiveLimits(members=2), ArchiveLimits(bytes=200)):
        monkeypatch.setattr("stagedoor.commands.folder.ArchiveLimits", lambda limits=limits: limits)
        shell.run("add", "texts", status=2)
        assert "texts holds more than" in shell.err
    assert not (shell.path / "uploads").exists()


@pytest.mark.parametrize("name", ["album.tar.xz", "album.tar.gz", "album.tar.bz2", "album.txz", "album.tbz2"])
def test_the_name_of_a_packed_tar_tells_what_it_is(shell: Shell, name: str) -> None:
    from stagedoor.testing.archives import pack, tar_of

    data = tar_of({"1.mp3": (shell.path / shell.song("1.mp3", 1)).read_bytes()})
    kind = {"txz": "xz", "tbz2": "bz2"}.get(name.rpartition(".")[2], name.rpartition(".")[2])
    (shell.path / name).write_bytes(pack(data, cast("Any", kind)))
    assert shell.json("add", name, "--plan")["files"][0]["state"] == "preprocessed"


def test_show_and_plan_tell_how_songs_are_corrected(shell: Shell) -> None:
    _folder(shell)
    shell.run("add", "Debut", "--id", "one", "--plan")
    hint = """stagedoor annotate one tracks='{"2": {"title": "…"}}'"""
    shown = shell.run("show", "one")
    assert hint in shown
    assert "member 0, name CD 1/1 Song.mp3" in shown
    assert hint in shell.run("plan", "one")
    shell.run(*(word.replace("…", "B") for word in shlex.split(hint)[1:]))
    shell.run("import", "one")
    assert "Björk/1993 - Debut/2-1 B.mp3" in shell.files()
    assert hint not in shell.run("plan", "one")
    assert "Björk - Debut*.jpg (4 files)" in shell.run("show", "one")


def test_a_guess_from_the_name_of_a_file_is_told(shell: Shell) -> None:
    from stagedoor.testing.sounds import song

    (shell.path / "untagged.mp3").write_bytes(song("mp3", 0.5))
    names = ("--annotate", "artistname=A", "--annotate", "release=2000", "--annotate", "albumname=B")
    assert "from the file's name" not in shell.run("add", "untagged.mp3", "--id", "one", "--plan", *names)
    with zipfile.ZipFile(shell.path / "untagged.zip", "w") as packed:
        packed.writestr("1.mp3", song("mp3", 0.5))
    assert "from the file's name" in shell.run("add", "untagged.zip", "--id", "two", "--plan", *names[:4])
    for command in ("plan", "show"):
        assert "album “untagged”" in shell.run(command, "two")


def test_what_was_added_as_something_else_is_refused_at_once(shell: Shell) -> None:
    """It is no second attempt, and nothing says that it is one."""
    from stagedoor.testing.pictures import picture

    (shell.path / "cover.png").write_bytes(picture("PNG"))
    uploadid = shell.json("add", "cover.png", status=5)["files"][0]["id"]
    out = shell.run("add", "cover.png", "--type", "album", status=1)
    assert f"stagedoor remove {uploadid}" in out
    assert "tries again" not in shell.err
    shell.run("remove", uploadid)
    assert shell.json("add", "cover.png", "--type", "album", status=1)["files"][0]["code"] == "not_audio"


def test_a_refused_request_is_no_second_attempt(shell: Shell) -> None:
    first, second = shell.song("1.mp3", 1), shell.song("2.mp3", 2)
    shell.run("add", first, "--id", "one", "--plan")
    assert "belongs to another upload" in shell.run("add", second, "--id", "one", status=1)
    assert "tries again" not in shell.err
