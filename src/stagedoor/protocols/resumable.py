"""Resumable uploads for HTTP, ``draft-ietf-httpbis-resumable-upload``: interop versions 5 to 9.

`parse_request` turns method and header fields into one of `Options`, `Create`, `Retrieve`, `Append`, `Cancel`, or
raises `ResumableError`, which knows its status number. `created`, `state`, `appended`, `cancelled`, `options` and
`refused` make the answers; `interim` makes the 104 that servers send where they can.

A client says its version in ``Upload-Draft-Interop-Version``; one that says none speaks the newest, as clients of the
finished specification will. What differs (numbers of the drafts in parentheses):

==============================  ==============  ==============  =========================
what                            5 (-03)         6 (-04, -05)    7 to 9 (-06 to -12)
==============================  ==============  ==============  =========================
media type of PATCH             any             partial-upload  partial-upload
lifetime in ``Upload-Limit``    no such field   ``expires``     ``max-age``
answer to an incomplete PATCH   201             201             204
``Upload-Offset`` in answers    always          always          where it is of use
HEAD, DELETE with such fields   400             400             the fields are ignored
==============================  ==============  ==============  =========================

Fields that are no structured field of their type are ignored, as the draft says; a needed field is missing then.
"""

from __future__ import annotations

from collections.abc import Mapping
from hmac import compare_digest
from typing import Final, TypeAlias

from attrs import frozen

from ..errors import OffsetMismatch, Refused, UploadError
from ..tasks import JSON, Offer, check_id
from .fields import (
    LARGEST,
    Answer,
    Headers,
    InvalidField,
    content_disposition,
    media_type,
    number,
    structured_boolean,
    structured_dictionary,
    structured_integer,
    to_dictionary,
)
from .offers import guess_contenttype
from .problems import Wire, WireError, problem, status_of

__all__ = [
    "ALGORITHMS",
    "CONTENT_TYPE",
    "NEWEST",
    "VERSIONS",
    "Append",
    "Cancel",
    "Create",
    "Digest",
    "Limits",
    "Options",
    "Request",
    "ResumableError",
    "Retrieve",
    "appended",
    "cancelled",
    "completed_upload",
    "created",
    "digest_field",
    "inconsistent_length",
    "interim",
    "is_resumable",
    "limit_field",
    "offer_for",
    "options",
    "parse_digests",
    "parse_request",
    "refused",
    "state",
    "version_of",
]

CONTENT_TYPE: Final = "application/partial-upload"
"""What the body of a PATCH has to be called."""
VERSIONS: Final = (5, 6, 7, 8, 9)
"""Interop versions that are spoken here."""
NEWEST: Final = VERSIONS[-1]

ALGORITHMS: Final[Mapping[str, str]] = {"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1"}
"""Digest algorithms of RFC 9530 that are verified, and their names in `hashlib`. All others are ignored."""
_SIZES: Final[Mapping[str, int]] = {"sha256": 32, "sha512": 64, "sha1": 20}
_WIRE_NAMES: Final[Mapping[str, str]] = {name: wire for wire, name in ALGORITHMS.items()}

_NO_STORE: Final = ("Cache-Control", "no-store")
_VERSION: Final = "upload-draft-interop-version"
_METHODS: Final = "OPTIONS, HEAD, GET, PATCH, DELETE"


@frozen(kw_only=True)
class Limits:
    """What a server takes; sizes in bytes.

    Attributes:
        max_size: The largest upload.
        min_size: The smallest upload; announced, and the engine's affair.
        max_append_size: The largest body of one request.
        min_append_size: The smallest body of a request that does not complete its upload.
    """

    max_size: int | None = None
    min_size: int | None = None
    max_append_size: int | None = None
    min_append_size: int | None = None


class ResumableError(WireError):
    """A request that does not follow the draft, or contradicts itself."""


def inconsistent_length(sentence: str) -> ResumableError:
    """Lengths that contradict each other or the bytes (problem type ``inconsistent-upload-length``)."""
    return ResumableError(sentence, code="inconsistent_upload_length")


def completed_upload() -> ResumableError:
    """Bytes for an upload that is complete (problem type ``completed-upload``)."""
    return ResumableError("The upload is complete; nothing can be added to it.", code="completed_upload")


# ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Digest:
    """What some bytes must hash to.

    Attributes:
        algorithm: A name that `hashlib` knows.
        digest: The bytes of the digest.
    """

    algorithm: str
    digest: bytes

    def matches(self, digest: bytes) -> bool:
        """Whether a computed digest is the declared one."""
        return compare_digest(self.digest, digest)


@frozen
class Options:
    """What can this server do?"""

    version: int = NEWEST


@frozen(kw_only=True)
class Create:
    """A new upload.

    Attributes:
        version: Interop version.
        complete: Whether the bytes of this request are the whole file.
        length: Of the whole file, if it can be told by now.
        content_length: The number of bytes in this request, if it is declared.
        filename: From ``Content-Disposition``, or ``None``.
        mimetype: From ``Content-Type``; empty without one.
        representation: Digests of the whole file.
        content: Digests of the bytes of this request; if one does not match, they are discarded.
        wanted: Digest algorithms that the client would like to hear of, by their `hashlib` names, best first.
    """

    version: int = NEWEST
    complete: bool
    length: int | None = None
    content_length: int | None = None
    filename: str | None = None
    mimetype: str = ""
    representation: tuple[Digest, ...] = ()
    content: tuple[Digest, ...] = ()
    wanted: tuple[str, ...] = ()


@frozen
class Retrieve:
    """Where does this upload stand?"""

    id: str
    version: int = NEWEST


@frozen(kw_only=True)
class Append:
    """Bytes for an upload.

    Attributes:
        id: Of the upload.
        version: Interop version.
        offset: Where the bytes belong; the server compares it with what is on record before it reads one.
        complete: Whether the file ends with them. There may be none.
        length: Of the whole file, if this request tells it; it must be the one that was told before.
        content_length: The number of bytes in this request, if it is declared.
        content: Digests of the bytes of this request; if one does not match, they are discarded.
    """

    id: str
    version: int = NEWEST
    offset: int
    complete: bool
    length: int | None = None
    content_length: int | None = None
    content: tuple[Digest, ...] = ()


@frozen
class Cancel:
    """Away with this upload."""

    id: str
    version: int = NEWEST


Request: TypeAlias = "Options | Create | Retrieve | Append | Cancel"


def is_resumable(method: str, headers: Headers) -> bool:
    """Whether a request speaks this protocol, where several share an address.

    A tus client may send ``Upload-Offset`` and ``Upload-Length`` too, but always says ``Tus-Resumable``.
    """
    return "tus-resumable" not in headers and (_VERSION in headers or "upload-complete" in headers)


def version_of(headers: Headers) -> int:
    """The interop version of a request.

    Raises:
        ResumableError: ``unsupported_version``.
    """
    text = headers.get(_VERSION)
    version = NEWEST if text is None else structured_integer(text)
    if version not in VERSIONS:
        raise ResumableError(
            f"This server speaks the interop versions {VERSIONS[0]} to {VERSIONS[-1]}, not {(text or '')[:20]!a}.",
            code="unsupported_version",
        )
    return version


def parse_request(method: str, headers: Headers, uploadid: str | None, limits: Limits) -> Request:
    """Read a request; its body is not needed for that.

    Args:
        method: As sent.
        headers: From `fields.collect`.
        uploadid: The id in the path, or ``None`` for the creation address.
        limits: What is allowed.

    Raises:
        ResumableError: With status, code and the fields that the answer needs.
    """
    version = version_of(headers)
    if method == "OPTIONS":
        return Options(version)
    try:
        if uploadid is None:
            if method in ("POST", "PUT"):
                return _create(headers, version, limits)
        else:
            _known_id(uploadid)
            match method:
                case "HEAD" | "GET":
                    _without(headers, version, "upload-offset", "upload-complete", "upload-length")
                    return Retrieve(uploadid, version)
                case "PATCH":
                    return _append(headers, uploadid, version, limits)
                case "DELETE":
                    _without(headers, version, "upload-offset", "upload-complete")
                    return Cancel(uploadid, version)
    except InvalidField as error:
        raise ResumableError(error.sentence, code=error.code) from error
    raise ResumableError(
        f"{method[:20]!a} is not possible here.",
        status=405,
        code="method_not_allowed",
        headers=(("Allow", _METHODS if uploadid is not None else "OPTIONS, POST, PUT"),),
    )


def _known_id(uploadid: str) -> None:
    try:
        check_id(uploadid)
    except Refused as error:
        raise ResumableError(error.sentence, status=404, code="not_found") from None


def _without(headers: Headers, version: int, *names: str) -> None:
    """Until version 6 some fields are forbidden in some requests; later they are only ignored."""
    for name in names:
        if version <= 6 and name in headers:
            raise ResumableError(f"{name} does not belong in this request.", code="unexpected_header")


def _create(headers: Headers, version: int, limits: Limits) -> Create:
    _without(headers, version, "upload-offset")
    complete = _complete(headers)
    content_length = _content_length(headers)
    _check_body(content_length, complete, limits, version, creation=True)
    length = _consistent(headers, 0, content_length, complete)
    _check_size(length if length is not None else content_length, limits, version)
    disposition = headers.get("content-disposition")
    return Create(
        version=version,
        complete=complete,
        length=length,
        content_length=content_length,
        filename=content_disposition(disposition) if disposition is not None else None,
        mimetype=media_type(headers.get("content-type", "")),
        representation=parse_digests("Repr-Digest", headers.get("repr-digest", "")),
        content=parse_digests("Content-Digest", headers.get("content-digest", "")),
        wanted=_wanted(headers.get("want-repr-digest", "")),
    )


def _append(headers: Headers, uploadid: str, version: int, limits: Limits) -> Append:
    if version >= 6 and media_type(headers.get("content-type", "")) != CONTENT_TYPE:
        raise ResumableError(
            f"The bytes must be called {CONTENT_TYPE} in Content-Type.",
            status=415,
            code="unsupported_media_type",
            headers=(("Accept-Patch", CONTENT_TYPE),),
        )
    offset = structured_integer(headers.get("upload-offset", ""))
    if offset is None:
        raise ResumableError("Say in Upload-Offset, an integer, where the bytes belong.", code="offset_missing")
    complete = _complete(headers)
    content_length = _content_length(headers)
    _check_body(content_length, complete, limits, version, creation=False)
    length = _consistent(headers, offset, content_length, complete)
    _check_size(length if length is not None else offset + (content_length or 0), limits, version)
    return Append(
        id=uploadid,
        version=version,
        offset=offset,
        complete=complete,
        length=length,
        content_length=content_length,
        content=parse_digests("Content-Digest", headers.get("content-digest", "")),
    )


def _complete(headers: Headers) -> bool:
    complete = structured_boolean(headers.get("upload-complete", ""))
    if complete is None:
        raise ResumableError(
            "Say in Upload-Complete whether the file ends with this request, ?1 or ?0.", code="complete_missing"
        )
    return complete


def _content_length(headers: Headers) -> int | None:
    return number("Content-Length", headers["content-length"]) if "content-length" in headers else None


def _consistent(headers: Headers, offset: int, content_length: int | None, complete: bool) -> int | None:
    """The length of the whole file, from the one or the other field, or from both if they agree."""
    told = structured_integer(headers.get("upload-length", ""))
    if content_length is None:
        if told is not None and offset > told:
            raise inconsistent_length(f"The offset {offset:,} is beyond the file's length of {told:,}.")
        return told
    end = offset + content_length
    if told is not None and (end > told or (complete and end != told)):
        raise inconsistent_length(f"These bytes end at {end:,}, but the file has a length of {told:,}.")
    return end if complete else told


def _check_size(size: int | None, limits: Limits, version: int) -> None:
    largest = LARGEST if limits.max_size is None else limits.max_size
    if size is not None and size > largest:
        raise ResumableError(
            f"The file has {size:,} bytes or more, {largest:,} are allowed.",
            status=413,
            code="file_too_large",
            headers=_limit(limits, version, None),
        )


def _check_body(size: int | None, complete: bool, limits: Limits, version: int, *, creation: bool) -> None:
    if size is None:
        return
    if limits.max_append_size is not None and size > limits.max_append_size:
        raise ResumableError(
            f"One request may bring {limits.max_append_size:,} bytes, this one has {size:,}.",
            status=413,
            code="append_too_large",
            headers=_limit(limits, version, None),
        )
    exempt = complete or (creation and size == 0)
    if limits.min_append_size is not None and size < limits.min_append_size and not exempt:
        raise ResumableError(
            f"A request must bring at least {limits.min_append_size:,} bytes, this one has {size:,}.",
            code="append_too_small",
            headers=_limit(limits, version, None),
        )


# ── digests ───────────────────────────────────────────────────────────────────────────────────────────────────


def parse_digests(name: str, text: str) -> tuple[Digest, ...]:
    """Read ``Repr-Digest`` or ``Content-Digest`` (RFC 9530). Unknown algorithms are left out.

    A field that is there and cannot be read is refused, not ignored: somebody wants these bytes to be checked.

    Raises:
        InvalidField: ``invalid_digest``.
    """
    if not text:
        return ()
    try:
        members = structured_dictionary(name, text)
    except InvalidField as error:
        raise InvalidField(error.sentence, code="invalid_digest") from None
    digests: list[Digest] = []
    for key, value in members.items():
        algorithm = ALGORITHMS.get(key)
        if algorithm is not None:
            if not isinstance(value, bytes) or len(value) != _SIZES[algorithm]:
                raise InvalidField(f"{name} has no {key} of {_SIZES[algorithm]} bytes.", code="invalid_digest")
            digests.append(Digest(algorithm, value))
    return tuple(digests)


def digest_field(digests: Mapping[str, bytes]) -> str:
    """The value of ``Repr-Digest`` for digests by their `hashlib` names."""
    return to_dictionary({_WIRE_NAMES[algorithm]: digest for algorithm, digest in digests.items()})


def _wanted(text: str) -> tuple[str, ...]:
    """Algorithms in ``Want-Repr-Digest``, best first; it is a wish, so what cannot be read is no error."""
    try:
        members = structured_dictionary("Want-Repr-Digest", text)
    except InvalidField:
        return ()
    weights = {
        ALGORITHMS[key]: weight
        for key, weight in members.items()
        if key in ALGORITHMS and isinstance(weight, int) and not isinstance(weight, bool) and 0 < weight <= 10
    }
    return tuple(sorted(weights, key=lambda algorithm: -weights[algorithm]))


def offer_for(create: Create, uploadid: str) -> Offer:
    """The offer that a creation stands for: name, MIME type and digest as declared, the content type guessed.

    A length of 0 is left out of the offer: the server declares it, and the engine refuses the empty file.

    Args:
        create: What the client asked for.
        uploadid: A new id; `offers.new_id` makes one.

    Raises:
        Refused: As `Offer` says.
    """
    filename = create.filename or ""
    return Offer(
        uploadid,
        filename=filename,
        contenttype=guess_contenttype(create.mimetype, filename),
        filesize=create.length or None,
        sha1=next((d.digest.hex() for d in create.representation if d.algorithm == "sha1"), None),
        mimetype=create.mimetype or "application/octet-stream",
    )


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────


def limit_field(limits: Limits, version: int, max_age: float | None = None) -> str:
    """The value of ``Upload-Limit``.

    Args:
        limits: What is allowed.
        version: Interop version.
        max_age: The time that is left to the upload, in seconds.
    """
    members = {
        "max-size": limits.max_size,
        "min-size": limits.min_size,
        "max-append-size": limits.max_append_size,
        "min-append-size": limits.min_append_size,
        ("max-age" if version >= 7 else "expires"): None if max_age is None else max(int(max_age), 0),
    }
    told = {key: value for key, value in members.items() if value is not None}
    # A dictionary without members cannot be sent as a field.
    return to_dictionary(told or {"min-size": 0})


def _limit(limits: Limits, version: int, max_age: float | None) -> tuple[tuple[str, str], ...]:
    return (("Upload-Limit", limit_field(limits, version, max_age)),) if version >= 6 else ()


def _progress(complete: bool, offset: int | None = None) -> tuple[tuple[str, str], ...]:
    told = (("Upload-Complete", "?1" if complete else "?0"),)
    return told if offset is None else (*told, ("Upload-Offset", str(offset)))


def options(limits: Limits, version: int = NEWEST) -> Answer:
    """204, with the limits; ``Accept-Patch`` is there for clients of the drafts -10 and -11, which look for it."""
    return Answer(204, (("Upload-Limit", limit_field(limits, version)), ("Accept-Patch", CONTENT_TYPE)))


def interim(location: str, limits: Limits, version: int, *, max_age: float | None = None) -> Answer:
    """104, for servers that can send interim answers: the upload can be resumed, at this address.

    It is only for requests that said their version.
    """
    return Answer(
        104,
        (("Location", location), ("Upload-Draft-Interop-Version", str(version)), *_limit(limits, version, max_age)),
    )


def created(
    location: str, limits: Limits, version: int, *, complete: bool, offset: int, max_age: float | None = None
) -> Answer:
    """201: the upload exists.

    Args:
        location: The address of the upload as the client reaches it.
        limits: What is allowed.
        version: Interop version.
        complete: Whether all of it is here.
        offset: Bytes on record.
        max_age: The time that is left to the upload, in seconds.
    """
    return Answer(201, (("Location", location), *_progress(complete, offset), *_limit(limits, version, max_age)))


def state(
    limits: Limits, version: int, *, offset: int, complete: bool, length: int | None, max_age: float | None = None
) -> Answer:
    """204: where an upload stands; the answer to HEAD and GET."""
    told = () if length is None else (("Upload-Length", str(length)),)
    return Answer(204, (*_progress(complete, offset), *told, *_limit(limits, version, max_age), _NO_STORE))


def appended(version: int, *, complete: bool, offset: int, location: str | None = None) -> Answer:
    """The bytes are on record. Once complete, the answer is what a creation with all bytes would have got.

    Args:
        version: Interop version.
        complete: Whether all of it is here.
        offset: Bytes on record.
        location: Where to look for what becomes of a complete upload.
    """
    status = 201 if complete or version <= 6 else 204
    where = (("Location", location),) if complete and location is not None else ()
    return Answer(status, (*_progress(complete, offset), *where))


def cancelled() -> Answer:
    """204: the upload is gone."""
    return Answer(204)


def refused(
    error: UploadError,
    limits: Limits,
    version: int,
    *,
    provided_offset: int | None = None,
    offset: int | None = None,
    complete: bool = False,
) -> Answer:
    """The answer to a request that cannot be met, with a problem document as its body.

    Args:
        error: What happened, here or in the engine.
        limits: Told with a 413.
        version: Interop version.
        provided_offset: The offset in the request, if it had one.
        offset: Bytes on record, where the client should know them; an `OffsetMismatch` knows them itself.
        complete: Whether the upload is complete, and only its processing failed.
    """
    members: dict[str, JSON] = {}
    if isinstance(error, OffsetMismatch):
        offset = error.expected
        if provided_offset is not None:
            members["provided-offset"] = provided_offset
    headers: list[tuple[str, str]] = []
    status = status_of(error, Wire.RESUMABLE)
    if status not in (403, 404, 410):
        headers += _progress(complete or error.code == "completed_upload", offset)
    known = {name for name, _ in error.headers} if isinstance(error, WireError) else set()
    if status == 413 and "Upload-Limit" not in known:
        headers += _limit(limits, version, None)
    return problem(error, Wire.RESUMABLE, members, headers)
