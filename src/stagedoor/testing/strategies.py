"""Hypothesis strategies for the values of the library, counts of the rows that a test took, and profiles.

from hypothesis import given
from stagedoor.testing.strategies import tasks

@given(tasks())
def test_my_store_keeps_a_task(task): ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ..lifecycle import ROWS, STORED_STATES, Row, State, Trigger
from ..tasks import (
    JSON,
    Annotations,
    Event,
    Finding,
    Offer,
    PlacedFile,
    Plan,
    PlannedFile,
    Step,
    UploadTask,
)
from . import media

__all__ = [
    "RowCounts",
    "histories",
    "json_objects",
    "json_values",
    "offers",
    "register_profiles",
    "tasks",
    "videos",
]

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_time = st.floats(0, 4e9, allow_nan=False)
_component = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda part: part not in (".", "..")
)
_path = st.lists(_component, min_size=1, max_size=3).map("/".join)
_id = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
_contenttype = st.from_regex(r"[a-z][a-z0-9]{0,31}", fullmatch=True)


def _hex(size: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=size, max_size=size)


def json_values() -> st.SearchStrategy[JSON]:
    """Anything that JSON can say, of a few leaves."""
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | _text
    )
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3), max_leaves=6
    )


def json_objects() -> st.SearchStrategy[Annotations]:
    """Mappings of any JSON: what a user may say about an upload."""
    return st.dictionaries(_text, json_values(), max_size=3)


def offers() -> st.SearchStrategy[Offer]:
    """Declarations that are allowed: with and without length and checksum."""
    return st.builds(
        Offer,
        _id,
        filename=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
        contenttype=_contenttype,
        filesize=st.none() | st.integers(1, 2**40),
        sha1=st.none() | _hex(40),
        mimetype=st.sampled_from(["video/mp4", "image/png", "application/octet-stream"]),
        annotations=json_objects(),
    )


def tasks() -> st.SearchStrategy[UploadTask]:
    """Tasks as a document may hold them; not all of them could come about. `histories` has those that can."""
    root = st.sampled_from(["music", "artwork"])
    size = st.integers(1, 2**63 - 1)
    planned = st.builds(PlannedFile, root, _path, _path | st.just(""), st.none() | size, st.none() | _hex(64))
    finding = st.builds(Finding, _text, st.sampled_from(["reject", "hold", "warn"]), _text)
    few_paths = st.lists(_path, max_size=2).map(tuple)
    few_findings = st.lists(finding, max_size=2).map(tuple)
    few_planned = st.lists(planned, max_size=2).map(tuple)
    event = st.builds(Event, st.integers(1, 99), _time, _text, _text, _text, _text)
    return st.builds(
        UploadTask,
        id=_id,
        filesize=st.none() | st.integers(10**6, 2**63 - 1),
        offset=st.integers(0, 10**6),
        contenttype=_contenttype,
        mimetype=_text,
        sourcefilename=_text,
        sourcechecksum=st.none() | _hex(40),
        destinationpath=_path,
        state=st.sampled_from(STORED_STATES),
        uid=_hex(32),
        created=_time,
        updated=_time,
        videofile=st.none() | _path,
        artworkfile=st.none() | _path,
        annotations=json_objects(),
        revision=st.integers(1, 2**53),
        generation=st.integers(0, 99),
        sha256=st.none() | _hex(64),
        message=st.none() | _text,
        code=st.none() | _text,
        findings=few_findings,
        content=json_objects(),
        plan=st.none() | st.builds(Plan, few_planned, few_planned, few_paths, json_objects(), few_findings),
        placed=st.lists(st.builds(PlacedFile, root, _path, size, _text), max_size=2).map(tuple),
        created_directories=few_paths,
        step=st.none() | st.builds(Step, st.sampled_from(Trigger), _text, st.integers(1, 9), _time, _time),
        wanted=st.sampled_from([None, Trigger.INTEGRATE, Trigger.START_IMPORT, Trigger.UNDO]),
        import_wanted=st.booleans(),
        deadline=st.none() | _time,
        history=st.lists(event, max_size=2).map(tuple),
        foreign=json_objects(),
    )


@st.composite
def histories(draw: st.DrawFn, rows: Sequence[Row] = ROWS, *, longest: int = 20) -> list[Row]:
    """Ways through a life cycle from ``waitforchunk``, row by row, whatever the guards would say.

    Args:
        draw: Given by Hypothesis.
        rows: The life cycle.
        longest: The most rows.
    """
    state, way = State.WAITFORCHUNK, []
    for _ in range(draw(st.integers(0, longest))):
        onward = [row for row in rows if row.source is state]
        if not onward:
            break
        row = draw(st.sampled_from(onward))
        way.append(row)
        state = row.dest or state
    return way


def videos() -> st.SearchStrategy[bytes]:
    """Small music videos that are sound, of every container that is taken. Needs ``stagedoor[media]``."""
    return st.builds(
        media.video,
        seconds=st.integers(1, 2),
        size=st.sampled_from([(160, 90), (64, 64), (90, 160)]),
        container=st.sampled_from(["mp4", "m4v", "webm", "mkv"]),
        audio=st.booleans(),
        seed=st.integers(0, 9),
    )


class RowCounts(Counter[str]):
    """How often each row of a life cycle was taken. Give `taken` to `Uploads` as ``trace``."""

    def taken(self, row: Row, task: UploadTask) -> None:
        """Count one."""
        self[row.id] += 1

    def check(self, rows: Iterable[Row] = ROWS, *, but: Iterable[str] = ()) -> None:
        """Fail if a row was never taken.

        Args:
            rows: The life cycle.
            but: Ids of rows that need not be.

        Raises:
            AssertionError: Names the rows.
        """
        never = sorted({row.id for row in rows} - set(self) - set(but))
        assert not never, f"never taken: {', '.join(never)}"


def register_profiles() -> None:
    """Register ``dev`` (few examples), ``ci`` (the same ones each time), ``nightly`` (many) with Hypothesis."""
    patient = settings(deadline=None, suppress_health_check=list(HealthCheck))
    settings.register_profile("dev", patient, max_examples=30)
    settings.register_profile("ci", patient, max_examples=100, derandomize=True, database=None)
    settings.register_profile("nightly", patient, max_examples=3000)
