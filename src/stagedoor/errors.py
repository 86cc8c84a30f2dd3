"""One hierarchy of errors, each with a stable code.

::

    UploadError
     ├── TaskNotFound          no upload has this id
     ├── Refused               the request is not allowed now; nothing changed
     │    ├── WrongState       the life cycle has no such step from this state
     │    ├── OffsetMismatch   the chunk does not start where the upload stands
     │    ├── TooLarge         more than a limit allows
     │    ├── Duplicate        the id belongs to another upload
     │    └── StorageFull      no room; the upload waits and goes on later
     ├── ContentRejected       the bytes are whole, but not what they should be
     ├── DataLost              stored bytes are missing or were changed
     ├── StorageError          the disk, the catalogue or another port failed
     │    ├── Conflict         the record moved on, or the name is taken
     │    └── InUse            another process owns the uploads directory
     └── ConfigurationError    the library was set up in a way that cannot work

``code`` is for programs and never changes its meaning; the sentence is for people and says what to do.
Only wires turn codes into status numbers.
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "Conflict",
    "ContentRejected",
    "DataLost",
    "Duplicate",
    "InUse",
    "OffsetMismatch",
    "Refused",
    "StorageError",
    "StorageFull",
    "TaskNotFound",
    "TooLarge",
    "UploadError",
    "WrongState",
]


class UploadError(Exception):
    """Base of everything that stagedoor raises on purpose.

    Args:
        sentence: What happened and what to do, for people.
        code: A stable lower-case word for programs; each class has a default.
        guard: The guard that said no, if one did.
    """

    default_code = "upload_error"

    def __init__(self, sentence: str, *, code: str | None = None, guard: str | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code or self.default_code
        self.guard = guard


class TaskNotFound(UploadError):
    """No upload has this id, or it was removed."""

    default_code = "not_found"

    def __init__(self, uploadid: str) -> None:
        super().__init__(f"There is no upload {uploadid[:128]!r}. It was never offered, or it has been removed.")
        self.uploadid = uploadid


class Refused(UploadError):
    """The request is not allowed as things stand. The task is as it was."""

    default_code = "refused"


class WrongState(Refused):
    """The life cycle has no row for this trigger in the upload's state."""

    default_code = "wrong_state"


class OffsetMismatch(Refused):
    """A chunk does not start at the offset on record.

    Attributes:
        expected: Offset in bytes at which the upload stands.
    """

    default_code = "offset_mismatch"

    def __init__(self, sentence: str, *, expected: int, guard: str | None = None) -> None:
        super().__init__(sentence, guard=guard)
        self.expected = expected


class TooLarge(Refused):
    """More than a limit allows: a file, a chunk, annotations, a number of uploads."""

    default_code = "too_large"


class Duplicate(Refused):
    """The id is in use by an upload that was declared differently."""

    default_code = "duplicate"


class StorageFull(Refused):
    """No room on the disk. What was acknowledged is kept, and the upload goes on when there is room."""

    default_code = "storage_full"


class ContentRejected(UploadError):
    """The content cannot be used. ``code`` names the kind, the sentence is shown to the user."""

    default_code = "invalid_content"


class DataLost(UploadError):
    """Bytes that were acknowledged are missing or changed on the disk."""

    default_code = "data_lost"


class StorageError(UploadError):
    """A port failed: the disk, the catalogue, a server. Trying again later may help."""

    default_code = "storage_error"


class Conflict(StorageError):
    """The record is not at the expected revision, or the key is taken already."""

    default_code = "conflict"


class InUse(StorageError):
    """Another process owns the uploads directory."""

    default_code = "in_use"


class ConfigurationError(UploadError):
    """The library was set up in a way that cannot work."""

    default_code = "configuration"
