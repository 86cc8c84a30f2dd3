"""Uploads into a music server as an explicit, durable finite-state machine.

A life cycle is a table (`stagedoor.lifecycle`). An upload is a value (`UploadTask`), kept as one JSON document. The
engine (`Uploads`) locks the upload, puts a session around it, lets the machine fire a trigger, saves, and tells
everybody. Whatever the record says is due, a worker does (`manage`), so that a restart needs no memory.

    from stagedoor import Offer, Uploads, manage

    with Uploads.open("uploads/", music="Music/") as uploads, manage(uploads):
        uploads.subscribe(lambda notice: print(notice.kind, notice.uploadid, notice.state))
        task = uploads.initiate(Offer("clip-1", filename="clip.mp4", contenttype="video", filesize=n, sha1=digest))
        task = uploads.receive("clip-1", offset=task.offset, data=chunk)
"""

from .aio import AsyncUploads
from .engine import Uploads
from .errors import (
    ConfigurationError,
    Conflict,
    ContentRejected,
    DataLost,
    Duplicate,
    InUse,
    OffsetMismatch,
    Refused,
    StorageError,
    StorageFull,
    TaskNotFound,
    TooLarge,
    UploadError,
    WrongState,
)
from .lifecycle import State, Trigger
from .notices import Notice, NoticeKind
from .settings import Settings
from .tasks import Finding, Offer, Plan, UploadTask
from .worker import Worker, manage

__all__ = [
    "AsyncUploads",
    "ConfigurationError",
    "Conflict",
    "ContentRejected",
    "DataLost",
    "Duplicate",
    "Finding",
    "InUse",
    "Notice",
    "NoticeKind",
    "Offer",
    "OffsetMismatch",
    "Plan",
    "Refused",
    "Settings",
    "State",
    "StorageError",
    "StorageFull",
    "TaskNotFound",
    "TooLarge",
    "Trigger",
    "UploadError",
    "UploadTask",
    "Uploads",
    "Worker",
    "WrongState",
    "manage",
]

__version__ = "0.1.0"
