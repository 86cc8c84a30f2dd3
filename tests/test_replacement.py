"""Replacing files of the library by decision, and undoing it: the engine's side. The tree's is in tests/adapters."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.adapters.disk import Disk
from stagedoor.cli import main
from stagedoor.errors import Refused, StorageError, UploadError
from stagedoor.explain import explain
from stagedoor.library.catalogue import Catalogue
from stagedoor.lifecycle import State as S
from stagedoor.lifecycle import Trigger
from stagedoor.tasks import UploadTask
from stagedoor.testing.disk import Crash, FuseDisk

if TYPE_CHECKING:
    from conftest import House

LEAVE = {"answers.destination_exists": "replace"}
WHERE = "Alpha/Beta.mp4"
OLD = b"somebody else's"


@pytest.fixture
def there(house: House) -> House:
    """A house whose library has a file that no upload brought."""
    _put(house, OLD)
    return house


def _put(house: House, data: bytes) -> None:
    path = house.root / "music" / WHERE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def content(house: House) -> bytes | None:
    path = house.root / "music" / WHERE
    return path.read_bytes() if path.exists() else None


def library(house: House) -> object:
    """All that people see, and what is hidden as well."""
    return house.files("music"), house.files("artwork"), house.entries()


def ready(house: House, uploadid: str = "one", **other: Any) -> UploadTask:
    """Accepted, with the leave to replace what is in the way."""
    house.bring(S.PREPROCESSED, uploadid, **other)
    return house.uploads.annotate(uploadid, LEAVE)


def import_(house: House, uploadid: str, data: bytes, **other: Any) -> UploadTask:
    """To the end, replacing what is in the way."""
    ready(house, uploadid, data=data, **other)
    house.uploads.integrate(uploadid, trigger_import=True)
    house.worker.drain(20)
    task = house.uploads.get(uploadid)
    assert (task.state, task.message) == (S.IMPORTCOMPLETE, None)
    assert content(house) == data
    return task


# ── the decision ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_in_the_way_is_a_problem_with_a_way_out(there: House) -> None:
    there.bring(S.PREPROCESSED)
    plan = there.uploads.plan("one")
    (problem,) = plan.problems
    assert (problem.code, problem.severity, problem.options) == ("destination_exists", "reject", ("replace",))
    assert not any(file.replace for file in plan.files)
    there.uploads.annotate("one", LEAVE)
    plan = there.uploads.plan("one")
    assert plan.problems == ()
    assert [(file.path, file.replace) for file in plan.files] == [(WHERE, True)]
    assert content(there) == OLD


@pytest.mark.parametrize("wrong", ["yes", True, "", "Replace", None])
def test_anything_else_is_no_leave(there: House, wrong: Any) -> None:
    there.bring(S.PREPROCESSED)
    there.uploads.annotate("one", {"answers.destination_exists": wrong})
    task = there.uploads.integrate("one")
    assert (task.state, task.code, content(there)) == (S.INTEGRATIONFAILED, "destination_exists", OLD)


def test_all_files_in_the_way_are_one_sentence(there: House) -> None:
    there.bring(S.PREPROCESSED)
    (there.root / "artwork/Alpha/Beta").mkdir(parents=True)
    (there.root / "artwork/Alpha/Beta/frame.jpg").write_bytes(b"picture")
    (problem,) = there.uploads.plan("one").problems
    assert problem.sentence.startswith(f"There is {WHERE} in the music directory already. So is another, and they are")
    there.uploads.annotate("one", LEAVE)
    plan = there.uploads.plan("one")
    assert [file.replace for file in (*plan.files, *plan.artwork)] == [True, True]


def test_a_directory_is_never_replaced(house: House) -> None:
    (house.root / "music" / WHERE).mkdir(parents=True)
    ready(house)
    task = house.uploads.integrate("one")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "destination_exists")
    assert (house.root / "music" / WHERE).is_dir()


def test_a_file_that_comes_after_the_plan_is_not_replaced(house: House) -> None:
    ready(house)
    house.before["music.place"] = lambda *_: _put(house, OLD)
    task = house.uploads.integrate("one")
    assert (task.state, task.code, content(house)) == (S.INTEGRATIONFAILED, "destination_exists", OLD)


# ── back again ────────────────────────────────────────────────────────────────────────────────────────────────


def test_undo_brings_the_old_file_back(there: House) -> None:
    before = library(there)
    task = import_(there, "one", b"fine new")
    (placed,) = (file for file in task.placed if file.root == "music")
    assert placed.replaced == hashlib.sha256(OLD).hexdigest()
    there.uploads.undo("one")
    assert library(there) == before


def test_undo_of_an_integration_that_was_never_imported(there: House) -> None:
    before = library(there)
    ready(there)
    there.uploads.integrate("one")
    there.uploads.undo("one")
    assert library(there) == before


def test_removal_discards_the_old_file(there: House) -> None:
    import_(there, "one", b"fine new")
    assert any(data == OLD for data in there.files("music").values())
    there.uploads.remove("one")
    there.worker.drain(10)
    assert there.files("music") == {WHERE: b"fine new"}
    assert there.uploads.find("one") is None


def test_a_failed_integration_puts_the_old_file_back(there: House) -> None:
    before = library(there)
    ready(there)
    stored = there.root / "uploads" / there.uploads.get("one").destinationpath
    stored.chmod(0o600)
    stored.write_bytes(b"fine fork")  # after the verification
    task = there.uploads.integrate("one")
    assert task.state is S.INTEGRATIONFAILED
    assert library(there) == before


def test_undo_refuses_a_replacement_that_was_changed(there: House) -> None:
    import_(there, "one", b"fine new")
    _put(there, b"tagged")
    there.uploads.wait("one", 0)
    with there.refused(Refused, "changed_since", guard="library_untouched"):
        there.uploads.undo("one")


# ── two uploads ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_of_an_earlier_upload(house: House) -> None:
    house.bring(S.IMPORTCOMPLETE, "a", data=b"fine a")
    before = library(house)
    import_(house, "b", b"fine b")
    house.uploads.undo("b")
    assert library(house) == before
    house.uploads.undo("a")
    assert library(house) == ({}, {}, {})


def test_the_earlier_upload_cannot_be_undone_first(house: House) -> None:
    house.bring(S.IMPORTCOMPLETE, "a", data=b"fine a")
    import_(house, "b", b"fine b")
    with house.refused(Refused, "changed_since", guard="library_untouched"):
        house.uploads.undo("a")


def test_the_same_bytes_replace_nothing(house: House) -> None:
    """Else the undo of the earlier upload would take the later one's file for its own."""
    house.bring(S.IMPORTCOMPLETE, "a", data=b"fine a")
    before = library(house)
    ready(house, "b", data=b"fine a")
    problems = house.uploads.plan("b").problems
    assert [p.code for p in problems] == ["already_there", "nothing_to_place"]
    assert problems[1].sentence == "There is nothing to put into the library."
    task = house.uploads.integrate("b")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "nothing_to_place")
    assert library(house) == before
    house.uploads.undo("a")
    assert library(house) == ({}, {}, {})


def test_a_replacement_is_replaced(there: House) -> None:
    states = [library(there)]
    for uploadid in "abc":
        import_(there, uploadid, f"fine {uploadid}".encode())
        states.append(library(there))
    for uploadid in "ab":
        with there.refused(Refused, "changed_since", guard="library_untouched"):
            there.uploads.undo(uploadid)
    for uploadid in "cba":
        assert library(there) == states.pop()
        there.uploads.undo(uploadid)
    assert library(there) == states.pop()


def test_the_earlier_upload_is_removed_meanwhile(there: House) -> None:
    import_(there, "a", b"fine a")
    import_(there, "b", b"fine b")
    there.uploads.remove("a")
    there.worker.drain(10)
    assert content(there) == b"fine b"
    there.uploads.undo("b")
    assert (there.files("music"), content(there)) == ({WHERE: b"fine a"}, b"fine a")


def test_the_catalogue_is_as_before(closed: House, tmp_path: Path) -> None:
    with Catalogue.open(tmp_path / "catalogue.sqlite", durable=False) as catalogue:
        closed.library = catalogue  # type: ignore[assignment]
        closed.open()
        closed.bring(S.IMPORTCOMPLETE, "a", data=b"fine a")
        before = catalogue.content_hash()
        import_(closed, "b", b"fine b")
        assert catalogue.content_hash() != before
        assert len(catalogue.videos()) == 1
        closed.uploads.undo("b")
        assert catalogue.content_hash() == before
        assert catalogue.check() == []
        closed.close()


# ── the leave is for one time ─────────────────────────────────────────────────────────────────────────────────


def test_after_an_undo_the_leave_has_to_be_given_again(there: House) -> None:
    import_(there, "one", b"fine new")
    task = there.uploads.undo("one")
    assert dict(task.annotations) == there.NAMES
    task = there.uploads.integrate("one")
    assert (task.state, task.code, content(there)) == (S.INTEGRATIONFAILED, "destination_exists", OLD)
    there.uploads.retry("one")
    there.uploads.annotate("one", LEAVE)
    assert there.uploads.integrate("one").state is S.INTEGRATED
    assert content(there) == b"fine new"


def test_a_failed_integration_spends_no_leave(there: House) -> None:
    ready(there, annotations={"name": "Beta"})
    assert there.uploads.integrate("one").code == "annotation_missing"
    there.uploads.retry("one")
    assert there.uploads.get("one").annotations["answers.destination_exists"] == "replace"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"name": "Gamma"}, False),
        ({"name": "Gamma", **LEAVE}, True),
        ({"name": "Beta"}, True),  # as it was
        ({"answers.which": "left"}, True),
        ({}, True),
    ],
)
def test_the_leave_is_for_the_names_that_there_were(there: House, said: Mapping[str, str], kept: bool) -> None:
    there.bring(S.PREPROCESSED)
    there.uploads.annotate("one", LEAVE)
    task = there.uploads.annotate("one", said)
    assert (task.annotations.get("answers.destination_exists") == "replace") is kept


@pytest.mark.parametrize("state", [S.WAITFORCHUNK, S.UPLOADCOMPLETE, S.INTEGRATED, S.IMPORTCOMPLETE])
def test_who_cannot_see_what_is_replaced_gives_no_leave(house: House, state: S) -> None:
    """A blank cheque counts for nothing, in the offer or later; other annotations do."""
    house.bring(state, annotations={**house.NAMES, **LEAVE})
    assert dict(house.uploads.get("one").annotations) == house.NAMES
    task = house.uploads.annotate("one", {"origin": "internet", **LEAVE})
    assert dict(task.annotations) == {**house.NAMES, "origin": "internet"}


def test_the_leave_may_be_given_after_the_failure(there: House) -> None:
    there.bring(S.PREPROCESSED)
    assert there.uploads.integrate("one").code == "destination_exists"
    there.uploads.annotate("one", LEAVE)
    there.uploads.retry("one")
    assert there.uploads.integrate("one").state is S.INTEGRATED
    assert content(there) == there.DATA


# ── how long it is kept ───────────────────────────────────────────────────────────────────────────────────────


def test_what_is_replaced_is_not_deleted_because_time_passes(there: House) -> None:
    other = there.bring(S.IMPORTCOMPLETE, "other", annotations={"artistname": "Alpha", "name": "Gamma"})
    task = import_(there, "one", b"fine new")
    assert (other.deadline is None, task.deadline) == (False, None)
    there.clock.forward(1e9)
    there.restart()
    there.uploads.sweep()
    there.worker.drain(20)
    assert [line.id for line in there.uploads.list()] == ["one"]
    there.uploads.undo("one")
    assert content(there) == OLD
    assert there.uploads.get("one").deadline is not None  # nothing is kept for it any more


def test_it_is_said_before_somebody_removes_it(there: House) -> None:
    task = import_(there, "one", b"fine new")
    said = explain(there.uploads, task)
    assert "It does not expire, for then 1 file that it replaced would be deleted with it." in said.next
    (remove,) = (action.sentence for action in said.possible if action.trigger is Trigger.REMOVE)
    assert remove.endswith("stays there. 1 file that it replaced is deleted with it.")
    there.uploads.remove("one")
    assert "1 file that it replaced is deleted with it." in explain(there.uploads, "one").why


def test_the_answer_is_told_as_a_command(there: House) -> None:
    task = there.bring(S.PREPROCESSED)
    (obstacle,) = explain(there.uploads, task).obstacles
    assert "until the upload is removed: then it is deleted." in obstacle
    assert obstacle.endswith("Answer it: stagedoor annotate one answers.destination_exists=replace")


def test_nobody_reads_the_library_to_see_whether_there_is_a_question(house: House) -> None:
    """Only who asks for the plan, and the beginning of the step, compare bytes."""
    house.bring(S.IMPORTCOMPLETE, "a", data=b"fine a")
    ready(house, "b", data=b"fine a")
    read: list[object] = []
    house.before["music.check"] = lambda *args: read.append(args)
    explain(house.uploads, "b")
    house.uploads.request("b")
    assert read == []
    house.worker.drain(5)
    assert (house.uploads.get("b").code, len(read)) == ("nothing_to_place", 1)


def test_a_file_of_another_size_is_not_read(there: House) -> None:
    there.bring(S.PREPROCESSED, data=b"fine, and longer than that")
    there.uploads.annotate("one", LEAVE)
    opened: list[str] = []
    there.disk.open = lambda path, **how: opened.append(path) or Disk.open(there.disk, path, **how)  # type: ignore
    assert [file.replace for file in there.uploads.plan("one").files] == [True]
    assert opened == []


# ── the upload is lost ────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_lost_upload_replaced_is_found(
    there: House, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its name, so that somebody can put it back."""
    _put(there, OLD)
    import_(there, "one", b"fine new")
    assert there.uploads.recovery.kept == {}
    there.close()
    assert "that is lost" not in _doctor(there, capsys)
    (there.root / "uploads/tasks/one.json").write_bytes(b"torn")
    there.open()
    ((at, path),) = there.uploads.recovery.kept.items()
    assert path == f"music/{WHERE}"
    assert (there.root / at).read_bytes() == OLD
    assert at in caplog.text
    assert f"'{path}'" in caplog.text
    there.close()
    said = _doctor(there, capsys)
    assert f"{there.root}/{at} was replaced by an upload that is lost; it was {there.root}/{path}." in said
    (there.root / at).rename(there.root / path)
    assert "that is lost" not in _doctor(there, capsys)
    there.open()
    assert there.uploads.recovery.kept == {}


def test_what_two_lost_uploads_replaced_is_found(there: House) -> None:
    _put(there, OLD)
    import_(there, "one", b"fine new")
    import_(there, "two", b"fine newer")
    there.close()
    for name in ("one", "two"):
        (there.root / f"uploads/tasks/{name}.json").write_bytes(b"torn")
    there.open()
    kept = there.uploads.recovery.kept
    music = [at for at, path in kept.items() if path == f"music/{WHERE}"]
    assert sorted((there.root / at).read_bytes() for at in music) == sorted([OLD, b"fine new"])
    assert {path.partition("/")[0] for path in kept.values()} == {"music", "artwork"}


def test_what_a_lost_upload_replaced_may_have_lost_its_name(there: House, caplog: pytest.LogCaptureFixture) -> None:
    _put(there, OLD)
    import_(there, "one", b"fine new")
    there.close()
    (there.root / "uploads/tasks/one.json").write_bytes(b"torn")
    (note,) = (there.root / "music/.stagedoor").glob("*.kept/*.path")
    note.unlink()
    there.open()
    ((at, path),) = there.uploads.recovery.kept.items()
    assert path == ""
    assert (there.root / at).read_bytes() == OLD
    assert "the name that it had is 'unknown'" in caplog.text


def test_a_library_that_cannot_be_looked_into_stops_no_start(there: House, caplog: pytest.LogCaptureFixture) -> None:
    import_(there, "one", b"fine new")

    def broken(*_: object) -> None:
        raise StorageError("The disk is gone.")

    there.close()
    there.before["music.kept"] = broken
    there.open()
    assert there.uploads.get("one").state is S.IMPORTCOMPLETE
    assert "The disk is gone." in caplog.text


def _doctor(house: House, capsys: pytest.CaptureFixture[str]) -> str:
    where = ("--data", "uploads"), ("--music", "music"), ("--artwork", "artwork")
    capsys.readouterr()
    main(["doctor", *(word for option, name in where for word in (option, str(house.root / name)))])
    return capsys.readouterr().out


# ── crashes ───────────────────────────────────────────────────────────────────────────────────────────────────


def _calls(closed: House, act: str) -> int:
    """How many file calls an act makes."""
    closed.disk = fuse = FuseDisk()
    closed.open(durability="power")
    _prepare(closed, act)
    before = len(fuse.calls)
    _ACTS[act](closed)
    closed.close()
    return len(fuse.calls) - before


def _prepare(house: House, act: str) -> None:
    _put(house, OLD)
    ready(house)
    if act != "integrate":
        house.uploads.integrate("one")


_ACTS: Mapping[str, Callable[[House], object]] = {
    "integrate": lambda house: house.uploads.integrate("one"),
    "undo": lambda house: house.uploads.undo("one"),
    "remove": lambda house: (house.uploads.remove("one"), house.worker.drain(10)),
}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("then", ["undo", "remove"])
def test_an_undo_that_gave_up_anywhere_keeps_the_old_file(
    closed: House, tmp_path: Path, then: str, restart: bool
) -> None:
    """It took our file and could not bring back the old one, until its attempts were used up: a full disk, say."""
    make = type(closed)
    gave_up = 0
    for at in range(1, _calls(make(tmp_path / "count"), "undo") + 1):
        house = make(tmp_path / f"{at}")
        house.disk = fuse = FuseDisk(error=OSError(errno.ENOSPC, ""), lasting=True)
        house.open(durability="power", backoff=0.0, attempts=2)
        _prepare(house, "undo")
        fuse.at = len(fuse.calls) + at
        with suppress(UploadError):
            house.uploads.undo("one")
        for _ in range(4):
            with suppress(UploadError):
                house.uploads.perform("one")
        fuse.at, fuse.lasting = 0, False
        task = house.uploads.get("one")
        if task.state is S.INTEGRATED and task.wanted is None:
            gave_up += content(house) is None
            if restart:
                house.restart(durability="power")
            house.uploads.undo("one") if then == "undo" else house.uploads.remove("one")
        elif task.state is S.INTEGRATED:  # it could not even be recorded that it gave up
            house.restart(durability="power")
        house.worker.drain(20)
        if then == "undo":
            assert content(house) == OLD, at
        if house.uploads.find("one") is not None:
            house.uploads.remove("one")
            house.worker.drain(20)
        left = [OLD] if then == "undo" else [OLD, house.DATA]
        assert house.files("music") in [{WHERE: data} for data in left], at
        house.close()
    assert gave_up


@pytest.mark.parametrize("act", _ACTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_anywhere(closed: House, tmp_path: Path, act: str, when: Any) -> None:
    """Nothing is lost, and whatever was asked for is done after a restart; then undo gives back what there was."""
    make = type(closed)
    total = _calls(make(tmp_path / "count"), act)
    assert total > 20
    for at in range(1, total + 1):
        house = make(tmp_path / f"{at}")
        house.disk = fuse = FuseDisk(when=when)
        house.open(durability="power")
        _prepare(house, act)
        fuse.at = len(fuse.calls) + at
        with suppress(Crash):
            _ACTS[act](house)
        assert fuse.dead, at
        house.close()
        assert {OLD, house.DATA} & set(house.files("music").values()), at
        house.disk = FuseDisk()
        house.open(durability="power")
        house.worker.drain(50)
        task = house.uploads.find("one")
        if act == "remove" and task is None:
            assert house.files("music") == {WHERE: house.DATA}, at
        else:
            assert task is not None
            if task.state is S.PREPROCESSED and LEAVE.items() <= task.annotations.items():
                task = house.uploads.integrate("one")  # the crash was before the request
            if task.state is S.INTEGRATED:
                assert content(house) == house.DATA, at
                assert task.placed[0].replaced == hashlib.sha256(OLD).hexdigest(), at
                house.uploads.undo("one")
            assert house.files("music") == {WHERE: OLD}, at
        assert house.files("artwork") == {}, at
        house.close()
