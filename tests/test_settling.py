"""What is put into the library and could not be settled, and who meets it."""

from __future__ import annotations

import io
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING

import pytest

from stagedoor.errors import StorageError
from stagedoor.lifecycle import State

if TYPE_CHECKING:
    from conftest import House

S = State


def tired(*_: object) -> None:
    raise StorageError("The disk is tired.")


@pytest.mark.parametrize("tree", ["music", "artwork"])
def test_who_could_not_settle_holds_up_nobody(house: House, tree: str) -> None:
    """What one has put on record is replaced by another, also if a disk has failed in between, at the next attempt."""
    house.rivals()
    house.before[f"{tree}.settle"] = tired
    house.uploads.request("a", trigger_import=True)
    house.worker.drain(100)
    assert house.uploads.get("a").state is S.IMPORTCOMPLETE
    house.uploads.request("b", trigger_import=True)
    house.worker.drain(100)
    task = house.uploads.get("b")
    assert (task.state, task.code) == ((S.PREPROCESSED if tree == "music" else S.IMPORTARTWORK), "conflict")
    house.before.clear()
    for _ in range(2):
        house.clock.forward(1000)
        house.worker.drain(100)
    task = house.uploads.get("b")
    assert (task.state, task.message) == (S.IMPORTCOMPLETE, None)
    assert house.files("music")["Alpha/Beta.mp4"] == b"fine b"
    house.uploads.undo("b")
    house.worker.drain(100)
    assert house.files("music")["Alpha/Beta.mp4"] == b"fine a"
    house.finish()


def test_one_that_cannot_be_settled_does_not_keep_others_from_it(house: House) -> None:
    house.before["music.settle"] = tired
    for n in range(6):
        house.bring(S.INTEGRATED, f"a{n}", data=b"fine %d" % n, annotations={"artistname": "A", "name": f"N{n}"})
    bad = {house.uploads.get(f"a{n}").uid for n in range(5)}

    def picky(uid: str) -> None:
        if uid in bad:
            raise StorageError("The disk is tired.")

    house.before["music.settle"] = picky
    house.bring(S.PREPROCESSED, "b", data=b"fine b", annotations={"artistname": "A", "name": "N5"})
    house.uploads.annotate("b", {"answers.destination_exists": "replace"})
    with pytest.raises(StorageError, match="just putting its file"):
        house.uploads.integrate("b")
    assert house.uploads.integrate("b").state is S.INTEGRATED


def test_who_waits_for_the_catalogue_does_not_keep_others_from_replacing(house: House) -> None:
    """What it has put into the library is on record."""
    house.rivals()
    house.before["music.settle"] = house.before["library.put"] = tired
    house.uploads.request("a", trigger_import=True)
    house.worker.drain(100)
    assert house.uploads.get("a").state is S.STARTIMPORT
    del house.before["music.settle"]
    with pytest.raises(StorageError, match="just putting its file"):
        house.uploads.integrate("b")
    assert house.uploads.integrate("b").state is S.INTEGRATED


def test_what_another_engine_puts_into_the_same_library_is_not_settled_here(house: House) -> None:
    """Nobody here knows whether it is on record there."""
    music, stranger = house.uploads.ports.trees["music"], "f" * 32
    music.place(stranger, "Alpha/Beta.mp4", io.BytesIO(b"of another server"))
    house.bring(S.PREPROCESSED, "b", data=b"fine b")
    house.uploads.annotate("b", {"answers.destination_exists": "replace"})
    for _ in range(2):
        with pytest.raises(StorageError, match="just putting its file"):
            house.uploads.integrate("b")
    assert stranger in music.unsettled()
    music.withdraw(stranger, ["Alpha/Beta.mp4"], [])
    assert house.uploads.integrate("b").state is S.INTEGRATED


def test_what_somebody_works_on_is_settled_by_nobody_else(house: House) -> None:
    """Else his file was nobody's after a crash."""
    house.rivals()
    gate = house.gate()
    house.after["music.place"] = gate
    with house.threads() as pool:
        first = pool.submit(house.uploads.integrate, "a")
        gate.reached()
        house.after.clear()
        for _ in range(2):
            with pytest.raises(StorageError, match="just putting its file"):
                house.uploads.integrate("b")
        assert house.uploads.get("a").uid in house.uploads.ports.trees["music"].unsettled()
        gate.open()
        wait_for([first], house.PATIENCE)
    house.uploads.integrate("b")
    assert house.files("music")["Alpha/Beta.mp4"] == b"fine b"
