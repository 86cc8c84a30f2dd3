"""Annotations that become names, and what is said about those that are missing or cannot be one."""

from __future__ import annotations

from typing import Final

from ..errors import ContentRejected
from ..tasks import JSON, Finding, UploadTask
from . import naming

__all__ = ["missing", "origin", "release_year", "text", "yes_or_no"]

_MEANINGS: Final = {
    "albumname": "the title of the album",
    "artistname": "the artist",
    "name": "the title of the video",
    "release": "the year of the release",
}


def missing(key: str) -> Finding:
    """The problem of an annotation without which there is no path."""
    return Finding(
        "annotation_missing",
        "reject",
        f"The annotation “{key}” is missing. Say what {_MEANINGS[key]} is, then try again.",
    )


def text(task: UploadTask, key: str, problems: list[Finding], *, default: JSON = None) -> str | None:
    """An annotation that becomes a part of a path, as people wrote it.

    Args:
        task: The upload.
        key: Of the annotation.
        problems: Gets what is wrong with it: ``annotation_missing`` or ``unusable_name``, both ``reject``.
        default: What is taken when nobody has said anything, such as a tag.

    Returns:
        The text, or ``None`` when there is a problem.
    """
    value = task.annotations.get(key)
    if value is None or (isinstance(value, str) and not value.strip()):
        value = default
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # a video called 1979 arrives as a number
    if value is None or (isinstance(value, str) and not value.strip()):
        problems.append(missing(key))
        return None
    try:
        if isinstance(value, str):
            naming.component(value)
            return value.strip()
    except ContentRejected:
        pass
    problems.append(
        Finding(
            "unusable_name",
            "reject",
            f"The annotation “{key}” cannot be part of a file name. "
            f"Give {_MEANINGS[key]} as text with letters or digits.",
        )
    )
    return None


def release_year(
    task: UploadTask, problems: list[Finding], *, default: JSON = None, required: bool = True
) -> str | None:
    """The year of the annotation ``release``, four digits.

    Args:
        task: The upload.
        problems: Gets what is wrong with it: ``annotation_missing`` or ``invalid_release``, both ``reject``.
        default: What is taken when nobody has said anything, such as a tag.
        required: Whether there is no path without it.

    Returns:
        The year; empty when nobody knows it and it is not required; ``None`` when there is a problem.
    """
    value = task.annotations.get("release")
    if value is None or value == "":
        value = default
    if value is None or value == "":
        if not required:
            return ""
        problems.append(missing("release"))
        return None
    release = naming.year(value)
    if release is None:
        problems.append(
            Finding(
                "invalid_release",
                "reject",
                "The annotation “release” must start with a year of four digits, as in 2020 or 2020-05-01.",
            )
        )
    return release


_WORDS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
"""As forms and command lines send it, which know nothing but text."""


def yes_or_no(task: UploadTask, key: str, problems: list[Finding], *, default: bool) -> bool:
    """An annotation that is true or false.

    Args:
        task: The upload.
        key: Of the annotation.
        problems: Gets what is wrong with it: ``invalid_answer`` (reject).
        default: What is taken when nobody has said anything.
    """
    said = task.annotations.get(key)
    if isinstance(said, bool):
        return said
    if said is None or (isinstance(said, str) and not said.strip()):
        return default
    meant = _WORDS.get(said.strip().lower()) if isinstance(said, str) else None
    if meant is None:
        problems.append(Finding("invalid_answer", "reject", f"The annotation “{key}” must be true or false."))
    return default if meant is None else meant


def origin(task: UploadTask) -> str:
    """Where the content came from, as annotated."""
    said = task.annotations.get("origin")
    return said if isinstance(said, str) and said.strip() else "internet"
