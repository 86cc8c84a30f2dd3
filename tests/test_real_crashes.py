"""Crashes of what is real: slices of what `make proof` does for long, and that they would notice a fault.

They need root, and ``strace``; else they are skipped, and say what is missing.
"""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stagedoor.adapters.local import LocalTree
from stagedoor.lifecycle import due
from stagedoor.testing.crashes import Ledger, Theatre, open_uploads, play, scenes_of
from stagedoor.testing.kernel import CALLS, Ext4Image, Injection, SmallDisk
from stagedoor.testing.kills import TUS, Victim
from stagedoor.testing.trials import Faults, Full, Shutdowns


def needs(missing: Callable[[], str | None]) -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    with Theatre() as theatre:
        yield theatre


@pytest.fixture(scope="module")
def faults(theatre: Theatre) -> Faults:
    needs(Injection.missing)
    return Faults(theatre)


def test_nothing_is_lost_when_the_file_system_goes(theatre: Theatre) -> None:
    needs(Ext4Image.missing)
    with Shutdowns(theatre, seed=3) as trials:
        for _ in range(5):
            trials.one()
    assert trials.found.wrong == []
    assert trials.found.trials == 5
    assert trials.found.told > 100


def test_that_somebody_who_does_not_sync_loses_something_is_noticed(theatre: Theatre) -> None:
    needs(Ext4Image.missing)
    with Shutdowns(theatre, seed=4, durability="process") as trials:
        for _ in range(20):
            trials.one()
            if trials.found.wrong:
                return
    pytest.fail("Nothing was synced, and nothing was missed.")


def test_a_killed_process_is_played_on_to_the_end(theatre: Theatre, tmp_path: Path) -> None:
    ledger = Ledger(scenes_of("k", 2, largest=20_000))
    for more in (5, 20, 40):
        stage = theatre.perform(tmp_path, ledger, durability="process", clients=2)
        enough = ledger.lines + more
        stage.listen(lambda enough=enough: ledger.lines >= enough)  # type: ignore[misc]  # mypy: lambda default
        stage.kill()
        stage.leave()
        assert not stage.ended
        with open_uploads(tmp_path, "process") as uploads:
            assert ledger.check(uploads, tmp_path) == []
    with open_uploads(tmp_path, "process") as uploads:
        play(uploads, ledger)
        assert ledger.check_end(uploads, tmp_path) == []


class Off(BaseException):
    """The process is stopped by force."""


def test_a_step_that_was_interrupted_each_time_may_have_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def off(*_: object, **__: object) -> None:
        raise Off

    ledger = Ledger(scenes_of("i", 1, largest=20_000))
    with monkeypatch.context() as patch:
        patch.setattr(LocalTree, "place", off)
        for _ in range(3):
            with open_uploads(tmp_path) as uploads, pytest.raises(Off):
                play(uploads, ledger)
            ledger.crashed()
    with open_uploads(tmp_path) as uploads:
        (task,) = (task for task in uploads.tasks() if due(task) is not None)
        uploads.perform(task.id)
        assert ledger.check(uploads, tmp_path) == []
        assert ledger.interrupted == {task.id: 3}
        ledger.interrupted[task.id] = 2
        (wrong,) = ledger.check(uploads, tmp_path)
        assert "integrationfailed: Tried 3 times" in wrong
        ledger.interrupted[task.id] = 3
        play(uploads, ledger)
        assert ledger.check_end(uploads, tmp_path) == []


def test_a_ledger_misses_what_it_was_told_of(theatre: Theatre, tmp_path: Path) -> None:
    ledger = Ledger(scenes_of("m", 1, largest=20_000))
    stage = theatre.perform(tmp_path, ledger, durability="none")
    stage.leave()
    assert stage.ended
    assert ledger.finished
    with open_uploads(tmp_path, "none") as uploads:
        assert ledger.check_end(uploads, tmp_path) == []
        keep = next(part for part in ledger.parts.values() if part.fate == "keep")
        file = tmp_path / "Music" / keep.path
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        assert any("not whole" in sentence for sentence in ledger.check(uploads, tmp_path))
        file.unlink()
        assert any("not in the library" in sentence for sentence in ledger.check(uploads, tmp_path))
        file.write_bytes(whole)
        (data,) = (tmp_path / "uploads" / "data" / uploads.get(keep.id).key).glob("video-*")
        data.write_bytes(b"x" + whole[1:])
        assert any("not those that were sent" in sentence for sentence in ledger.check(uploads, tmp_path))
        data.write_bytes(whole)
        (tmp_path / "uploads" / "tasks" / "stranger").touch()
        assert any("belongs to nobody" in sentence for sentence in ledger.check(uploads, tmp_path))
        (tmp_path / "uploads" / "tasks" / "stranger").unlink()
        assert ledger.check_end(uploads, tmp_path) == []
        uploads.ports.library.forget(uploads.get(keep.id).uid)
        assert any("not in the catalogue" in sentence for sentence in ledger.check(uploads, tmp_path))
        uploads.remove(keep.id)
        uploads.perform(keep.id)
    with open_uploads(tmp_path, "none") as uploads:
        assert any(f"{keep.id} is gone" in sentence for sentence in ledger.check(uploads, tmp_path))


def test_the_system_calls_that_matter_are_all_seen(faults: Faults) -> None:
    used = {"openat", "close", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "linkat", "unlink", "rmdir"}
    assert used <= faults.counts.keys() <= set(CALLS)
    assert len(faults.all()) == 6 * sum(faults.counts.values())


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EMFILE"])
@pytest.mark.parametrize(
    "call",
    [
        "openat",
        "pwrite64",
        "fsync",
        "fdatasync",
        "rename",
        "linkat",
        "unlink",
        "mkdir",
        "close",
        "getdents64",
        "newfstatat",
    ],
)
def test_a_failing_system_call_loses_nothing(faults: Faults, call: str, error: str) -> None:
    before = len(faults.found.wrong), faults.found.trials
    count = faults.counts[call]
    faults.one(Injection(call, error, at=2 * count // 3))
    faults.one(Injection(call, error, at=count // 2, lasting=True))
    assert faults.found.wrong[before[0] :] == []
    assert faults.found.trials == before[1] + 2


def test_a_full_disk_is_said_to_be_full_and_then_it_goes_on(theatre: Theatre) -> None:
    needs(SmallDisk.missing)
    trials = Full(theatre)
    for pages in (0, 2, 5, 9):
        trials.room(pages << 12, files=False)
        trials.room(pages, files=True)
        trials.length(1 + pages * 700)
    assert trials.found.wrong == []
    assert trials.found.errors["storage_full"] >= 8
    assert trials.found.finished == trials.found.trials == 12


def test_a_server_on_a_full_disk_says_507_and_takes_the_rest_when_there_is_room() -> None:
    needs(SmallDisk.missing)
    data = os.urandom(3 << 20)
    with SmallDisk(160 << 20) as disk:
        victim = Victim(disk.root, kills=0, seed=0)
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", victim.port, timeout=60)) as connection:

                def ask(
                    method: str, path: str, body: bytes = b"", **headers: str
                ) -> tuple[int, http.client.HTTPMessage]:
                    more = {name.replace("_", "-"): value for name, value in headers.items()}
                    connection.request(method, path, body=body, headers={**TUS, **more})
                    answer = connection.getresponse()
                    answer.read()
                    return answer.status, answer.headers

                def send(at: int) -> int:
                    kind = "application/offset+octet-stream"
                    return ask("PATCH", path, data[at:], Upload_Offset=str(at), Content_Type=kind)[0]

                def where() -> int:
                    status, headers = ask("HEAD", path)
                    assert status == 200
                    return int(str(headers["Upload-Offset"]))

                status, headers = ask("POST", "/files/", Upload_Length=str(len(data)))
                assert status == 201
                path = "/files/" + str(headers["Location"]).rpartition("/")[2]
                disk.resize(disk.used + (1 << 20))
                assert send(0) == 507
                first = where()
                assert first < 2 << 20
                assert send(first) == 507
                # Between the two the file system may have found a block more: what fitted into it is kept.
                second = where()
                assert first <= second < 2 << 20
                disk.resize(160 << 20)
                assert send(second) == 204
                assert where() == len(data)
        finally:
            victim.stop()
        (stored,) = (disk.root / "uploads" / "data").glob("*/video-*")
        assert stored.read_bytes() == data
