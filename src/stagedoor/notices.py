"""What clients are told.

All clients hear of all uploads, so that each can show progress and state. A notice is a value; wires encode it.
"""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

from .lifecycle import State
from .tasks import UploadTask

__all__ = ["Notice", "NoticeKind"]


class NoticeKind(StrEnum):
    """The three notifications of the specification."""

    CHUNK_REQUEST = "ChunkRequest"
    STATE_UPDATE = "StateUpdate"
    INTERNAL_ERROR = "InternalError"


@frozen
class Notice:
    """Something that happened, after it is durable.

    Attributes:
        kind: The specification's name for it.
        uploadid: The upload that it is about.
        task: The task as it is now; ``None`` when there is no such upload.
        message: A sentence for people, or ``None``.
        code: Stable code for `message`, or ``None``.
        chunksize: The most that should be sent next, in bytes.
    """

    kind: NoticeKind
    uploadid: str
    task: UploadTask | None = None
    message: str | None = None
    code: str | None = None
    chunksize: int = 0

    @property
    def state(self) -> State:
        """State of the upload; ``notexisting`` without a task."""
        return State.NOTEXISTING if self.task is None else self.task.state

    @property
    def offset(self) -> int:
        """Offset in bytes of the data to send next."""
        return 0 if self.task is None else self.task.offset
