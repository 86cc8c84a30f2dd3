"""What integration put on record for the import: read with care, because the document may be from another version."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ContentRejected
from ..tasks import JSON, UploadTask

__all__ = ["no_plan", "number", "recorded", "string"]


def no_plan() -> ContentRejected:
    """The error for a task without the record that is needed."""
    return ContentRejected(
        "It is not on record what was integrated, because an older version did it. Undo or remove this upload, "
        "and upload the file again.",
        code="no_plan",
    )


def recorded(task: UploadTask) -> Mapping[str, JSON]:
    """What the catalogue is to be told, frozen at integration.

    Raises:
        ContentRejected: ``no_plan``.
    """
    if task.plan is None or not task.plan.entry:
        raise no_plan()
    return task.plan.entry


def string(entry: Mapping[str, JSON], key: str) -> str:
    """A text of the record.

    Raises:
        ContentRejected: ``no_plan``.
    """
    value = entry.get(key)
    if not isinstance(value, str):
        raise no_plan()
    return value


def number(entry: Mapping[str, JSON], key: str) -> float:
    """A number of the record.

    Raises:
        ContentRejected: ``no_plan``.
    """
    value = entry.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise no_plan()
    return float(value)
