"""Tasks and notices for the tests of the two dialects."""

from __future__ import annotations

from typing import Any

from stagedoor.lifecycle import State, Trigger
from stagedoor.notices import Notice, NoticeKind
from stagedoor.tasks import Step, UploadTask

SERVER = "/srv/secret"
"""Where the server keeps things: no client may read it."""


def task(**changes: Any) -> UploadTask:
    """A task that MusicDB left, with everything in it that must not leave the server."""
    values: dict[str, Any] = {
        "id": "u1",
        "filesize": 100,
        "offset": 40,
        "contenttype": "video",
        "mimetype": "video/mp4",
        "sourcefilename": "a.mp4",
        "sourcechecksum": "0" * 40,
        "destinationpath": "ab/video-pending.mp4",
        "state": State.WAITFORCHUNK,
        "uid": "f" * 32,
        "created": 1.0,
        "updated": 2.0,
        "videofile": "Artist/2020 - Name.mp4",
        "annotations": {"name": "Ünï", "nested": {"a": [1, None, True]}},
        "foreign": {"destinationpath": f"{SERVER}/uploads/video-x.mp4"},
        "step": Step(Trigger.PREPROCESS, "token-of-a-worker", 1, 3.0),
    }
    return UploadTask(**(values | changes))


def notice(kind: NoticeKind, about: UploadTask | None = None, **rest: Any) -> Notice:
    return Notice(kind, "u1", about, **rest)
