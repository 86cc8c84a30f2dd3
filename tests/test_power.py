"""Power cuts in whole lives of uploads: slices of what `make proof` does, and that they would notice a fault."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from stagedoor.adapters.disk import Disk
from stagedoor.errors import UploadError
from stagedoor.session import Session
from stagedoor.testing.disk import Call, CarelessDisk, Decisions, SimulatedDisk
from stagedoor.testing.power import LIVES, Campaign, Depth, Life

_LIVES = {life.name: life for life in LIVES}
SLICE = Depth(exhaustive=5, samples=2, recovery=200, live_on=5, calls=5)


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
def test_nothing_is_lost_in_a_power_cut(life: Life) -> None:
    found = Campaign(life, SLICE).run()
    assert found.wrong == []
    assert found.states >= found.started > 0
    assert found.cuts > 0


def test_a_campaign_can_be_repeated() -> None:
    life = _LIVES["as a body"]
    assert Campaign(life, SLICE).run() == Campaign(life, SLICE).run()


def test_every_set_of_survivors_comes_once() -> None:
    disk = SimulatedDisk()
    fd = disk.open("/a", create=True)
    disk.write_at(fd, b"a" * 600, 0)
    disk.mkdir("/b")
    decisions, images = Decisions(), []
    while True:
        images.append(disk.crash(decisions).image())
        if not decisions.advance():
            break
    assert len(images) > len(set(images)) == 20  # different sets may leave the same disk
    assert {disk.crash(random.Random(seed)).image() for seed in range(300)} <= set(images)
    assert {disk.crash("none").image(), disk.crash("all").image()} <= set(images)


# ── it would notice ───────────────────────────────────────────────────────────────────────────────────────────


def noticed(name: str, depth: Depth, wrap: Callable[[Disk], Disk] = lambda disk: disk) -> bool:
    try:
        campaign = Campaign(_LIVES[name], depth, wrap=wrap)
    except (AssertionError, UploadError):
        return True  # not even a life without a power cut goes well
    for cut in campaign.cuts():
        try:
            campaign.run([cut])
        except (AssertionError, UploadError, OSError, KeyError):
            return True
        if campaign.found.wrong:
            return True
    return False


@pytest.mark.parametrize(
    ("method", "life"),
    [
        ("sync", "a whole life"), ("sync_data", "many chunks"), ("sync_directory", "a whole life"),
        ("link", "a whole life"), ("unlink", "a whole life"), ("replace", "a whole life"), ("rmdir", "a whole life"),
        ("rename_exclusive", "without links"), ("exchange", "replaced and brought back"),
    ],
)  # fmt: skip
def test_a_kind_of_call_that_is_left_out_is_noticed(method: str, life: str) -> None:
    def omit(call: Call) -> bool:
        return call.method == method

    assert noticed(life, Depth(exhaustive=3, samples=6, live_on=1, calls=100), lambda disk: CarelessDisk(disk, omit))


@pytest.mark.parametrize(
    ("check", "life"),
    [
        ("checksum_matches", "a wrong checksum, twice"), ("chunk_fits", "chunks that do not fit"),
        ("content_accepted", "bad content"), ("placed_in_library", "in the way"), ("step_is_due", "one id for two"),
    ],
)  # fmt: skip
def test_a_check_that_is_left_out_is_noticed(check: str, life: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, check, lambda self: check != "step_is_due")
    assert noticed(life, SLICE)
