"""Replacing files of the library by decision, and undoing it: the engine's side. The tree's is in tests/adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.errors import Refused
from stagedoor.library.catalogue import Catalogue
from stagedoor.lifecycle import State as S
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


def import_(house: House, uploadid: str, data: bytes, **other: Any) -> UploadTask:
    """To the end, replacing what is in the way."""
    house.bring(S.PREPROCESSED, uploadid, data=data, annotations={**house.NAMES, **LEAVE}, **other)
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
def test_anything_else_is_no_leave(there: House, wrong: object) -> None:
    there.bring(S.PREPROCESSED, annotations={**there.NAMES, "answers.destination_exists": wrong})
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
    house.bring(S.PREPROCESSED, annotations={**house.NAMES, **LEAVE})
    task = house.uploads.integrate("one")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "destination_exists")
    assert (house.root / "music" / WHERE).is_dir()


def test_a_file_that_comes_after_the_plan_is_not_replaced(house: House) -> None:
    house.bring(S.PREPROCESSED, annotations={**house.NAMES, **LEAVE})
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
    there.bring(S.PREPROCESSED, annotations={**there.NAMES, **LEAVE})
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
    there.bring(S.PREPROCESSED, annotations={**there.NAMES, **LEAVE})
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
    house.bring(S.PREPROCESSED, "b", data=b"fine a", annotations={**house.NAMES, **LEAVE})
    task = house.uploads.integrate("b")
    assert (task.state, task.code) == (S.INTEGRATIONFAILED, "already_there")
    assert f"{WHERE} is there already, byte for byte" in str(task.message)
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
    there.bring(S.PREPROCESSED, annotations={"name": "Beta", **LEAVE})
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
    house.bring(S.PREPROCESSED, annotations={**house.NAMES, **LEAVE})
    if act != "integrate":
        house.uploads.integrate("one")


_ACTS: Mapping[str, Callable[[House], object]] = {
    "integrate": lambda house: house.uploads.integrate("one"),
    "undo": lambda house: house.uploads.undo("one"),
    "remove": lambda house: (house.uploads.remove("one"), house.worker.drain(10)),
}


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
