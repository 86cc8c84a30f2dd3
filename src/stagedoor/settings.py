"""Every limit, in one place."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from .errors import ConfigurationError
from .lifecycle import State

__all__ = ["Settings"]

_DAY = 86_400.0

_RETENTION: Mapping[State, float | None] = {
    State.WAITFORCHUNK: 7 * _DAY,
    State.UPLOADFAILED: 7 * _DAY,
    State.INVALIDCONTENT: 30 * _DAY,
    State.PREPROCESSED: 30 * _DAY,
    State.INTEGRATIONFAILED: 30 * _DAY,
    State.INTEGRATED: 30 * _DAY,
    State.IMPORTFAILED: 30 * _DAY,
    State.IMPORTCOMPLETE: 30 * _DAY,
}


@frozen(kw_only=True)
class Settings:
    """What an `Uploads` allows and for how long it waits. Sizes in bytes, times in seconds.

    Attributes:
        allow: Whether new uploads and chunks are taken at all.
        chunk_size: Advice to clients; MusicDB asks for 409,600.
        max_chunk: The largest chunk.
        max_file_size: The largest file.
        max_annotations: The most that an upload's annotations may take as JSON.
        max_annotation_depth: How deeply they may be nested.
        max_uploads: Uploads in all states together.
        max_unfinished: Uploads in ``waitforchunk``.
        free_floor: Room that a new upload must leave on the disk.
        attempts: How often a slow step is tried before it counts as failed.
        backoff: Pause before the second attempt; each further one is four times as long.
        retention: How long an upload may rest in a state before it expires; ``None`` for ever. States that are
            left out keep their default.
        checkpoint: A chunk renews the document, and with it the deadline, when the document is older than this.
        quarantine: How long things stay in quarantine.
        sweep: Pause between two looks for what has expired.
    """

    allow: bool = True
    chunk_size: int = 409_600
    max_chunk: int = 16 << 20
    max_file_size: int = 1 << 40
    max_annotations: int = 64 << 10
    max_annotation_depth: int = 8
    max_uploads: int = 1_000_000
    max_unfinished: int = 10_000
    free_floor: int = 64 << 20
    attempts: int = 3
    backoff: float = 1.0
    retention: Mapping[State, float | None] = field(factory=lambda: dict(_RETENTION))
    checkpoint: float = 3_600.0
    quarantine: float = 30 * _DAY
    sweep: float = 60.0

    def __attrs_post_init__(self) -> None:
        for name in ("chunk_size", "max_chunk", "max_file_size", "max_annotation_depth", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"The setting {name} must be at least 1, not {getattr(self, name)}.")
        for name in ("max_annotations", "max_uploads", "max_unfinished", "free_floor", "backoff", "checkpoint",
                     "quarantine", "sweep"):  # fmt: skip
            if getattr(self, name) < 0:
                raise ConfigurationError(f"The setting {name} must not be negative.")
        strangers = [state for state in self.retention if state not in _RETENTION]
        if strangers:
            raise ConfigurationError(f"Uploads never rest in {strangers[0]!r}: it can have no retention.")
        # What is not said is as usual, and not for ever.
        object.__setattr__(self, "retention", {**_RETENTION, **self.retention})
