"""Strategies, counts of rows, and profiles, as they are shipped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from stagedoor.lifecycle import ROWS, Row, State
from stagedoor.tasks import Event, evolve
from stagedoor.testing.stores import upload_task
from stagedoor.testing.strategies import RowCounts, histories, register_profiles, videos
from stagedoor.verify import replay


@given(histories())
@settings(max_examples=60, deadline=None)
def test_a_way_through_the_life_cycle_is_a_history_that_can_be_replayed(way: list[Row]) -> None:
    state = State.WAITFORCHUNK
    lines = [Event(1, 0.0, "create", state, state)]
    for number, row in enumerate(way, 2):
        lines.append(Event(number, 0.0, row.trigger, row.source, row.dest or row.source))
        state = row.dest or state
    assert replay(evolve(upload_task(), history=tuple(lines), state=state)) == []


def test_counts_name_the_rows_that_were_never_taken() -> None:
    counts = RowCounts()
    for row in ROWS[1:]:
        counts.taken(row, upload_task())
    with pytest.raises(AssertionError, match=ROWS[0].id):
        counts.check()
    counts.check(but=[ROWS[0].id])
    counts.taken(ROWS[0], upload_task())
    counts.check()


def test_profiles() -> None:
    register_profiles()
    assert settings.get_profile("ci").derandomize
    assert settings.get_profile("nightly").max_examples > settings.get_profile("dev").max_examples


@given(videos())
@settings(max_examples=3, deadline=None)
def test_videos_are_files(video: bytes) -> None:
    assert len(video) > 500
