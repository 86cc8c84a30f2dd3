"""Errors on a wire: status numbers and problem documents. Nothing else in the library knows a status number.

The table goes from the general to the special: the class of an error, then its code, then its code on one wire.
Sources: RFC 9110 (status codes), RFC 9457 (problem documents), tus 1.0.0, draft-ietf-httpbis-resumable-upload.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

import orjson

from ..errors import (
    ConfigurationError,
    Conflict,
    ContentRejected,
    DataLost,
    Duplicate,
    OffsetMismatch,
    Refused,
    StorageError,
    StorageFull,
    TaskNotFound,
    TooLarge,
    UploadError,
    WrongState,
)
from ..tasks import JSON, thaw
from .fields import Answer, InvalidField

__all__ = ["PROBLEM_TYPE", "Wire", "WireError", "problem", "problem_document", "status_of"]

PROBLEM_TYPE: Final = "application/problem+json"
"""Media type of a problem document."""


class Wire(StrEnum):
    """Who reads the status number."""

    HTTP = "http"
    TUS = "tus"
    RESUMABLE = "resumable"


class WireError(UploadError):
    """A request that a wire cannot take, whatever the engine would say.

    Args:
        sentence: What happened and what to do, for people.
        status: The status number of the answer.
        code: A stable lower-case word for programs.
        headers: Fields that the answer has to carry.
    """

    default_code = "bad_request"

    def __init__(
        self, sentence: str, *, status: int = 400, code: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        super().__init__(sentence, code=code)
        self.status = status
        self.headers = tuple(headers)


_BY_CLASS: Final[Mapping[type[UploadError], int]] = {
    UploadError: 500,
    TaskNotFound: 404,
    Refused: 409,
    WrongState: 409,
    OffsetMismatch: 409,
    TooLarge: 413,
    Duplicate: 409,
    StorageFull: 507,
    ContentRejected: 422,
    DataLost: 500,
    StorageError: 503,
    Conflict: 409,
    ConfigurationError: 500,
    InvalidField: 400,
}

_BY_CODE: Final[Mapping[str, int]] = {
    # What was said makes no sense.
    "annotations_invalid": 400,
    "empty": 400,
    "empty_chunk": 400,
    "invalid_argument": 400,
    "invalid_checksum": 400,
    "invalid_contenttype": 400,
    "invalid_filename": 400,
    "invalid_filesize": 413,
    "invalid_id": 400,
    "invalid_json": 400,
    "invalid_message": 400,
    "invalid_mimetype": 400,
    "length_too_small": 400,
    "too_deep": 413,
    "too_large": 413,
    # Not here, or not for you.
    "expired": 410,
    "final_upload": 403,
    "forbidden": 403,
    "unauthorized": 401,
    "unsupported_contenttype": 415,
    "uploads_off": 403,
    # Not now.
    "busy": 503,
    "closed": 503,
    "locked": 423,
    "too_many_unfinished": 503,
    "too_many_uploads": 503,
    "checksum_mismatch": 422,
    "body_checksum_mismatch": 422,
    "body_too_large": 413,
    "draining": 503,
    "taken_over": 409,
    "too_slow": 408,
    "unexpected": 500,
    "unexpected_body": 400,
}

_BY_WIRE: Final[Mapping[Wire, Mapping[str, int]]] = {
    Wire.HTTP: {},
    # A tus client tries again after 409, 423 and 5xx; after any other 4xx it starts from zero or gives up. So what
    # is lost must say so for good.
    Wire.TUS: {"checksum_mismatch": 460, "body_checksum_mismatch": 460, "taken_over": 423, "data_lost": 410},
    # The draft has one number for everything that contradicts itself, and retries after 5xx only.
    Wire.RESUMABLE: {
        "beyond_the_end": 400,
        "checksum_mismatch": 400,
        "body_checksum_mismatch": 400,
        "completed_upload": 400,
        "data_lost": 410,
        "declared_already": 400,
        "inconsistent_upload_length": 400,
        "locked": 409,
    },
}

_TITLES: Final[Mapping[int, str]] = {460: "Checksum Mismatch"}

_IANA: Final = "https://iana.org/assignments/http-problem-types#"
_TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "offset_mismatch": (_IANA + "mismatching-upload-offset", "Mismatching Upload Offset"),
    "completed_upload": (_IANA + "completed-upload", "Upload Is Completed"),
    "inconsistent_upload_length": (_IANA + "inconsistent-upload-length", "Inconsistent Upload Length Values"),
    "beyond_the_end": (_IANA + "inconsistent-upload-length", "Inconsistent Upload Length Values"),
    "declared_already": (_IANA + "inconsistent-upload-length", "Inconsistent Upload Length Values"),
}
"""Problem types that IANA is asked to register (section "Problem Types" of the draft); all others are about:blank."""

_RETRY_AFTER: Final[Mapping[int, int]] = {423: 1, 503: 5, 507: 30}
"""Seconds after which it makes sense to try again."""


def status_of(error: UploadError, wire: Wire = Wire.HTTP) -> int:
    """The status number that says this error on this wire."""
    if isinstance(error, WireError):
        return error.status
    status = _BY_WIRE[wire].get(error.code) or _BY_CODE.get(error.code)
    if status is not None:
        return status
    return next(_BY_CLASS[kind] for kind in type(error).__mro__ if kind in _BY_CLASS)


def problem_document(error: UploadError, status: int, members: Mapping[str, JSON] | None = None) -> bytes:
    """The problem document of an error (RFC 9457): UTF-8 JSON.

    Its members are ``type``, ``title``, ``status``, ``detail`` (the sentence) and ``code``; ``expected-offset`` for an
    `OffsetMismatch`; ``guard`` when a guard said no.

    Args:
        error: What happened.
        status: The status number of the answer.
        members: More members, for example ``provided-offset``.
    """
    kind, title = _TYPES.get(error.code, ("about:blank", _title(status)))
    document: dict[str, Any] = {
        "type": kind,
        "title": title,
        "status": status,
        "detail": _unicode(error.sentence),
        "code": _unicode(error.code),
    }
    if error.guard is not None:
        document["guard"] = error.guard
    if isinstance(error, OffsetMismatch):
        document["expected-offset"] = error.expected
    document.update({key: thaw(value) for key, value in (members or {}).items()})
    return orjson.dumps(document)


def problem(
    error: UploadError,
    wire: Wire = Wire.HTTP,
    members: Mapping[str, JSON] | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Answer:
    """The whole answer for an error: status, ``Content-Type``, ``Cache-Control``, ``Retry-After``, problem document.

    Args:
        error: What happened.
        wire: Who reads it.
        members: More members of the document.
        headers: More fields of the answer.
    """
    status = status_of(error, wire)
    fields = [("Content-Type", PROBLEM_TYPE), ("Cache-Control", "no-store")]
    if status == 401:
        fields.append(("WWW-Authenticate", "Bearer"))  # RFC 9110, section 15.5.2
    if status in _RETRY_AFTER:
        fields.append(("Retry-After", str(_RETRY_AFTER[status])))
    if isinstance(error, WireError):
        fields += error.headers
    return Answer(status, (*fields, *headers), problem_document(error, status, members))


def _title(status: int) -> str:
    try:
        return _TITLES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _unicode(text: str) -> str:
    """Text without lone surrogates, which a stranger's name may hold and JSON cannot."""
    return text.encode("utf-8", "replace").decode()
