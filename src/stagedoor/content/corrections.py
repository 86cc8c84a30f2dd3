"""What people say about single songs of an upload, in the annotation ``tracks``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from ..tasks import JSON, Finding
from .songs import Track

__all__ = ["corrected"]


def corrected(tracks: Sequence[Track], corrections: JSON, problems: list[Finding]) -> tuple[Track, ...]:
    """The songs to take, as the user corrected them: sound ones, each file once."""
    if corrections is None:
        corrections = {}
    if not isinstance(corrections, Mapping):
        problems.append(_invalid('The annotation “tracks” must be an object by running number, as in {"1": {…}}.'))
        return ()
    numbers = {str(number) for number in range(1, len(tracks) + 1)}
    strangers = sorted(set(corrections) - numbers)
    if strangers:
        problems.append(
            _invalid(f"The annotation “tracks” names song {strangers[0][:20]!r}; there are 1 to {len(tracks)}.")
        )
    taken: dict[str, Track] = {}
    for number, track in enumerate(tracks, 1):
        change = corrections.get(str(number))
        changed = track if change is None else _changed(track, number, change, problems)
        if changed is not None and not changed.problem:
            taken.setdefault(changed.sha256, changed)
    if not taken:
        problems.append(Finding("nothing_left", "reject", "Every song is left out. Take at least one."))
    return tuple(taken.values())


_TRACK_KEYS: Final[Mapping[str, str]] = {"title": "title", "artist": "artist", "disc": "disc", "number": "track"}


def _changed(track: Track, number: int, change: JSON, problems: list[Finding]) -> Track | None:
    if not isinstance(change, Mapping) or not set(change) <= {*_TRACK_KEYS, "skip"}:
        problems.append(_invalid(f"Of song {number} one may annotate {', '.join(_TRACK_KEYS)} and skip, in an object."))
        return track
    skip = change.get("skip", False)
    if not isinstance(skip, bool):
        problems.append(_invalid(f"Of song {number} skip must be true or false."))
    elif skip:
        return None
    values: dict[str, Any] = {}
    for key, value in change.items():
        if key in ("title", "artist") and isinstance(value, str) and value.strip():
            values[_TRACK_KEYS[key]] = " ".join(value.split())
        elif key in ("disc", "number") and isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1000:
            values[_TRACK_KEYS[key]] = value
        elif key != "skip":
            kind = "text" if key in ("title", "artist") else "a whole number from 1 to 999"
            problems.append(_invalid(f"Of song {number} the {key} must be {kind}."))
    return attrs.evolve(track, **values)


def _invalid(sentence: str) -> Finding:
    return Finding("invalid_tracks", "reject", sentence)
