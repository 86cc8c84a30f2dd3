"""Fuzzing without a fuzzer: a second for each target, and what was found before."""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from typing import Any

import pytest

from stagedoor.testing.fuzzing import TARGETS, Target, mutations

TIMES = int(os.environ.get("STAGEDOOR_MUTATIONS", "2000"))
_TARGETS = {target.name: target for target in TARGETS}


@pytest.fixture(params=TARGETS, ids=lambda target: target.name)
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.param
    return found


def test_seeds_reach_what_is_behind_the_first_check(target: Target) -> None:
    seeds = target.seeds()
    assert len(seeds) >= 4
    assert sum(map(target.look, seeds)) >= len(seeds) / 4
    assert max(map(len, seeds)) <= target.longest


def test_nothing_but_documented_errors_comes_of_what_strangers_send(target: Target) -> None:
    for data in mutations(target, TIMES):
        try:
            target.look(data)
        except Exception as error:
            error.add_note(f"{target.name}: {data!r}")
            raise


def test_mutations_are_the_same_for_the_same_number(target: Target) -> None:
    assert list(mutations(target, 50)) == list(mutations(target, 50))
    assert list(mutations(target, 50)) != list(mutations(target, 50, 1))
    assert len(set(mutations(target, 200))) > 150


FOUND = [
    # A FLAC file that is shorter than the ID3v1 tag that could be at its end.
    (
        "tags",
        b64decode("ZkxhQwAAACICQAJAAACoAFVVVVVVVQAAAAAAAAAEVVVVVQAAAAAAAAAAiAAAAAAAAAAAAAAAAABjAAAAAAAAAAAAAAAAAAAA"),
    ),
]


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_found_stays_mended(name: str, data: bytes) -> None:
    _TARGETS[name].look(data)


# ── it would notice ───────────────────────────────────────────────────────────────────────────────────────────


def _unguarded_foot(source: Any, end: int, tags: object) -> int:
    source.at(end - 32, 32)  # there may be less
    return end


@pytest.mark.parametrize(
    ("name", "where", "plant"),
    [
        ("tasks", "tasks._CATTRS", ()),
        ("musicdb", "protocols.musicdb._text", lambda arguments, name: arguments[name]),
        ("frames", "protocols.frames.HEADER_SIZE", 0),
        ("tus", "protocols.tus.base64_of", lambda name, text: binascii.a2b_base64(text)),
        ("draft", "protocols.fields._serialized", str),
        ("archives", "content.decoding.child.archive._unreadable", lambda condition: None),
        ("tags", "content.decoding.child.sound.read_ape", _unguarded_foot),
        ("names", "content.naming.components._cut", lambda text, room: text[:room]),
    ],
)
def test_a_planted_fault_is_found(name: str, where: str, plant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"stagedoor.{where}", plant)
    assert any(_raises(_TARGETS[name], data) for data in mutations(_TARGETS[name], 3_000))


def _raises(target: Target, data: bytes) -> bool:
    try:
        target.look(data)
    except Exception:  # noqa: BLE001  # whatever it is
        return True
    return False
