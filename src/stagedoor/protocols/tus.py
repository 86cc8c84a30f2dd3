"""tus 1.0.0: the core protocol and every extension.

`parse_request` turns method and header fields into one of `Options`, `Head`, `Create`, `Patch`, `Terminate`, or raises
`TusError`, which knows its status number. `options`, `created`, `head`, `patched`, `terminated` and `refused` make the
answers. The bytes of a body, and what is on record, are the server's affair.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0. Where it leaves a choice, the docstrings say which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from hmac import compare_digest
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from attrs import field, frozen

from ..errors import ConfigurationError, Refused, UploadError
from ..tasks import JSON, Offer, check_checksum, check_id
from .fields import LARGEST, Answer, Headers, InvalidField, base64_of, http_date, media_type, number
from .offers import guess_contenttype
from .problems import Wire, WireError, problem, status_of

__all__ = [
    "CONTENT_TYPE",
    "DIGEST_SIZES",
    "VERSION",
    "Checksum",
    "Concat",
    "Create",
    "Extension",
    "Head",
    "Limits",
    "Metadata",
    "Options",
    "Patch",
    "Request",
    "Terminate",
    "TusError",
    "created",
    "final_upload",
    "head",
    "is_tus",
    "offer_for",
    "options",
    "parse_checksum",
    "parse_metadata",
    "parse_request",
    "part_id",
    "patched",
    "refused",
    "terminated",
]

VERSION: Final = "1.0.0"
CONTENT_TYPE: Final = "application/offset+octet-stream"
"""What a body of bytes has to be called."""
DIGEST_SIZES: Final[Mapping[str, int]] = MappingProxyType({"sha1": 20, "sha256": 32, "sha512": 64})
"""Checksum algorithms that can be offered, by the names that `hashlib` knows, and the bytes of a digest."""

_RESUMABLE: Final = ("Tus-Resumable", VERSION)
_NO_STORE: Final = ("Cache-Control", "no-store")
_METHODS: Final = "OPTIONS, HEAD, POST, PATCH, DELETE"


class Extension(StrEnum):
    """What a server can do beyond the core."""

    CREATION = "creation"
    CREATION_WITH_UPLOAD = "creation-with-upload"
    CREATION_DEFER_LENGTH = "creation-defer-length"
    EXPIRATION = "expiration"
    CHECKSUM = "checksum"
    CHECKSUM_TRAILER = "checksum-trailer"
    TERMINATION = "termination"
    CONCATENATION = "concatenation"
    CONCATENATION_UNFINISHED = "concatenation-unfinished"


_NEEDS: Final[Mapping[Extension, Extension]] = {
    Extension.CREATION_WITH_UPLOAD: Extension.CREATION,
    Extension.CREATION_DEFER_LENGTH: Extension.CREATION,
    Extension.CHECKSUM_TRAILER: Extension.CHECKSUM,
    Extension.CONCATENATION: Extension.CREATION,
    Extension.CONCATENATION_UNFINISHED: Extension.CONCATENATION,
}
_USUAL: Final = frozenset(Extension) - {Extension.CHECKSUM_TRAILER, Extension.CONCATENATION_UNFINISHED}


@frozen(kw_only=True)
class Limits:
    """What a server offers and takes.

    Attributes:
        max_size: The largest upload, in bytes.
        extensions: What is offered. One that needs another is only told, and only taken, together with it.
        algorithms: Checksum algorithms that are offered, keys of `DIGEST_SIZES`.
        max_metadata: The longest ``Upload-Metadata``, in characters.
        max_keys: The most keys in it.
        max_parts: The most partial uploads in a final one.

    Raises:
        ConfigurationError: An algorithm is not one of `DIGEST_SIZES`.
    """

    max_size: int
    extensions: frozenset[Extension] = _USUAL
    algorithms: tuple[str, ...] = ("sha1", "sha256")
    max_metadata: int = 32 << 10
    max_keys: int = 100
    max_parts: int = 1000

    def __attrs_post_init__(self) -> None:
        for algorithm in self.algorithms:
            if algorithm not in DIGEST_SIZES:
                raise ConfigurationError(f"{algorithm!r} is not among {', '.join(DIGEST_SIZES)}.")

    def offers(self, extension: Extension) -> bool:
        """Whether an extension, and all that it needs, is offered."""
        needed = _NEEDS.get(extension)
        return extension in self.extensions and (needed is None or self.offers(needed))


class TusError(WireError):
    """A request that does not follow tus, or asks for what is not offered here."""


# ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Checksum:
    """What the bytes of one request must hash to.

    Attributes:
        algorithm: A name that `hashlib` knows.
        digest: The bytes of the digest.
    """

    algorithm: str
    digest: bytes

    def matches(self, digest: bytes) -> bool:
        """Whether a computed digest is the declared one."""
        return compare_digest(self.digest, digest)


_NOTHING: Mapping[str, bytes | None] = MappingProxyType({})


@frozen
class Metadata:
    """What a client says about an upload.

    Attributes:
        raw: Exactly as received; goes back with each answer to HEAD.
        values: Decoded; ``None`` for a key without a value.
    """

    raw: str = ""
    values: Mapping[str, bytes | None] = field(default=_NOTHING, hash=False)

    def text(self, key: str) -> str | None:
        """A value as text, empty for a key without one, ``None`` without the key.

        Raises:
            TusError: It is not UTF-8.
        """
        if key not in self.values:
            return None
        try:
            return (self.values[key] or b"").decode()
        except UnicodeDecodeError:
            raise TusError(
                f"The metadata value of {key} must be UTF-8 text in base64.", code="invalid_metadata"
            ) from None


@frozen
class Concat:
    """The role of an upload in a concatenation.

    Attributes:
        raw: Exactly as received; goes back with each answer to HEAD.
        parts: Ids of the partial uploads in their order, the same one perhaps several times; ``None`` for an upload
            that is itself partial.
    """

    raw: str
    parts: tuple[str, ...] | None = None

    @property
    def final(self) -> bool:
        """Whether the upload is made of others."""
        return self.parts is not None


@frozen
class Options:
    """What can this server do?"""


@frozen
class Head:
    """Where does this upload stand?"""

    id: str


@frozen(kw_only=True)
class Create:
    """A new upload.

    Attributes:
        length: In bytes; ``None`` when it comes later, and for a final upload, whose parts decide.
        metadata: What the client says about it.
        concat: Its role in a concatenation, if it has one.
        body: Whether the request brings bytes.
        content_length: Their number, if it is declared.
        checksum: What they must hash to.
        trailer: Whether a checksum follows the bytes, as a trailer.
    """

    length: int | None
    metadata: Metadata = Metadata()
    concat: Concat | None = None
    body: bool = False
    content_length: int | None = None
    checksum: Checksum | None = None
    trailer: bool = False


@frozen(kw_only=True)
class Patch:
    """Bytes for an upload.

    Attributes:
        id: Of the upload.
        offset: Where the bytes belong; the server compares it with what is on record before it reads one.
        length: The length of the upload, when it was deferred and is told now.
        content_length: The number of bytes, if it is declared.
        checksum: What they must hash to; else the chunk is discarded.
        trailer: Whether a checksum follows the bytes, as a trailer.
    """

    id: str
    offset: int
    length: int | None = None
    content_length: int | None = None
    checksum: Checksum | None = None
    trailer: bool = False


@frozen
class Terminate:
    """Away with this upload."""

    id: str


Request: TypeAlias = "Options | Head | Create | Patch | Terminate"


def is_tus(method: str, headers: Headers) -> bool:
    """Whether a request speaks tus, where several protocols share an address."""
    return "tus-resumable" in headers


def parse_request(
    method: str, headers: Headers, uploadid: str | None, limits: Limits, *, prefixes: Sequence[str] = ("/",)
) -> Request:
    """Read a request; its body is not needed for that.

    Args:
        method: As sent; ``X-HTTP-Method-Override`` is obeyed here.
        headers: From `fields.collect`.
        uploadid: The id in the path, or ``None`` for the creation address.
        limits: What is offered and allowed.
        prefixes: Paths below which uploads are addressed, as clients see them, each with a slash at its end. Behind
            a proxy that takes a prefix away these are two.

    Raises:
        TusError: With status, code and the fields that the answer needs.
    """
    method = headers.get("x-http-method-override", method).upper()
    if method == "OPTIONS":  # whatever version the client speaks
        return Options()
    if headers.get("tus-resumable") != VERSION:
        raise TusError(
            f"This server speaks tus {VERSION}; send it as Tus-Resumable.",
            status=412,
            code="unsupported_version",
            headers=(("Tus-Version", VERSION),),
        )
    try:
        if uploadid is None:
            if method == "POST" and limits.offers(Extension.CREATION):
                return _create(headers, limits, prefixes)
        else:
            _known_id(uploadid)
            match method:
                case "HEAD":
                    return Head(uploadid)
                case "PATCH":
                    return _patch(headers, uploadid, limits)
                case "DELETE" if limits.offers(Extension.TERMINATION):
                    return Terminate(uploadid)
    except InvalidField as error:
        raise TusError(error.sentence, code=error.code) from error
    raise TusError(
        f"{method[:20]!a} is not possible here.",
        status=405,
        code="method_not_allowed",
        headers=(("Allow", _METHODS if uploadid is not None else "OPTIONS, POST"),),
    )


def _known_id(uploadid: str) -> None:
    try:
        check_id(uploadid)
    except Refused as error:
        # No client can tell a strange address from one that is gone.
        raise TusError(error.sentence, status=404, code="not_found") from None


def _create(headers: Headers, limits: Limits, prefixes: Sequence[str]) -> Create:
    concat = _concat(headers, limits, prefixes)
    length = _new_length(headers, limits, concat)
    metadata = parse_metadata(headers.get("upload-metadata", ""), limits)
    content_length = _content_length(headers)
    called = media_type(headers.get("content-type", "")) == CONTENT_TYPE
    brings = content_length != 0 and (content_length is not None or "transfer-encoding" in headers)
    # Over HTTP/2 a body needs neither a length nor an encoding: then only its name tells.
    body = called and content_length != 0
    if body or brings:
        if not called:
            raise TusError(
                f"A body must be called {CONTENT_TYPE} in Content-Type.", status=415, code="unsupported_media_type"
            )
        if concat is not None and concat.final:
            raise TusError("A final upload is made of its parts; it takes no bytes.", status=403, code="final_upload")
        _need(limits, Extension.CREATION_WITH_UPLOAD)
        _fits(0, content_length, length)
    checksum, trailer = _checksums(headers, limits)
    return Create(
        length=length,
        metadata=metadata,
        concat=concat,
        body=body,
        content_length=content_length,
        checksum=checksum if body else None,
        trailer=trailer and body,
    )


def _new_length(headers: Headers, limits: Limits, concat: Concat | None) -> int | None:
    length, deferred = headers.get("upload-length"), headers.get("upload-defer-length")
    if concat is not None and concat.final:
        if length is not None or deferred is not None:
            raise TusError("The length of a final upload is that of its parts; send none.", code="length_of_final")
        return None
    if length is not None and deferred is not None:
        raise TusError("Send Upload-Length or Upload-Defer-Length, not both.", code="length_twice")
    if deferred is not None:
        if deferred != "1":
            raise TusError("Upload-Defer-Length must be 1.", code="invalid_header")
        _need(limits, Extension.CREATION_DEFER_LENGTH)
        return None
    if length is None:
        raise TusError(
            "Send the size of the file as Upload-Length, or Upload-Defer-Length: 1 if it is not known yet.",
            code="length_missing",
        )
    return _length(length, limits)


def _length(text: str, limits: Limits) -> int:
    # A number that is too long to be read is a number all the same, and too large.
    huge = text.isascii() and text.isdecimal() and len(text.lstrip("0")) > 18
    length = LARGEST if huge else number("Upload-Length", text)
    if huge or length > limits.max_size:
        raise TusError(
            f"The file is larger than the {limits.max_size:,} bytes that are allowed.",
            status=413,
            code="file_too_large",
        )
    return length


def _patch(headers: Headers, uploadid: str, limits: Limits) -> Patch:
    if media_type(headers.get("content-type", "")) != CONTENT_TYPE:
        raise TusError(
            f"The bytes must be called {CONTENT_TYPE} in Content-Type.",
            status=415,
            code="unsupported_media_type",
            headers=(("Accept-Patch", CONTENT_TYPE),),
        )
    if "upload-offset" not in headers:
        raise TusError("Say in Upload-Offset where the bytes belong.", code="offset_missing")
    offset = number("Upload-Offset", headers["upload-offset"])
    length = _length(headers["upload-length"], limits) if "upload-length" in headers else None
    content_length = _content_length(headers)
    _fits(offset, content_length, length)
    checksum, trailer = _checksums(headers, limits)
    return Patch(
        id=uploadid,
        offset=offset,
        length=length,
        content_length=content_length,
        checksum=checksum,
        trailer=trailer,
    )


def _content_length(headers: Headers) -> int | None:
    return number("Content-Length", headers["content-length"]) if "content-length" in headers else None


def _fits(offset: int, more: int | None, length: int | None) -> None:
    if length is not None and offset + (more or 0) > length:
        raise TusError(
            f"These bytes would end at {offset + (more or 0):,}, beyond the file's length of {length:,}.",
            status=413,
            code="beyond_the_end",
        )


def _need(limits: Limits, extension: Extension) -> None:
    if not limits.offers(extension):
        raise TusError(f"This server does not offer {extension}.", code="not_offered")


# ── checksums ─────────────────────────────────────────────────────────────────────────────────────────────────


def _checksums(headers: Headers, limits: Limits) -> tuple[Checksum | None, bool]:
    announced = {name.strip(" \t").lower() for name in headers.get("trailer", "").split(",")}
    trailer = "upload-checksum" in announced
    if trailer:
        _need(limits, Extension.CHECKSUM_TRAILER)
    if "upload-checksum" not in headers:
        return None, trailer
    if trailer:
        raise TusError("Send Upload-Checksum as a header or as a trailer, not both.", code="checksum_twice")
    return parse_checksum(headers["upload-checksum"], limits), False


def parse_checksum(text: str, limits: Limits) -> Checksum:
    """Read the value of ``Upload-Checksum``, header or trailer: algorithm, space, base64.

    Raises:
        TusError: ``unsupported_algorithm``, ``invalid_checksum``; status 400.
    """
    _need(limits, Extension.CHECKSUM)
    algorithm, space, encoded = text.partition(" ")
    if not space:
        raise TusError("Upload-Checksum must be an algorithm, a space and base64.", code="invalid_checksum")
    if algorithm not in limits.algorithms:
        raise TusError(
            f"The checksum algorithm {algorithm[:20]!a} is not offered; use {' or '.join(limits.algorithms)}.",
            code="unsupported_algorithm",
        )
    try:
        digest = base64_of("Upload-Checksum", encoded)
    except InvalidField as error:
        raise TusError(error.sentence, code="invalid_checksum") from None
    size = DIGEST_SIZES[algorithm]
    if len(digest) != size:
        raise TusError(f"A {algorithm} has {size} bytes, not {len(digest)}.", code="invalid_checksum")
    return Checksum(algorithm, digest)


# ── metadata ──────────────────────────────────────────────────────────────────────────────────────────────────


def parse_metadata(text: str, limits: Limits) -> Metadata:
    """Read ``Upload-Metadata``: pairs of a key and base64, separated by commas. Empty text is no metadata.

    Raises:
        TusError: ``invalid_metadata`` (400), ``metadata_too_large`` (413).
    """
    if len(text) > limits.max_metadata:
        raise TusError(
            f"Upload-Metadata has {len(text):,} characters, {limits.max_metadata:,} are allowed.",
            status=413,
            code="metadata_too_large",
        )
    if not text.strip(" \t"):
        return Metadata()
    if not (text.isascii() and text.isprintable()):
        raise TusError("Upload-Metadata must be printable ASCII.", code="invalid_metadata")
    pairs = text.split(",", limits.max_keys)
    if len(pairs) > limits.max_keys:
        raise TusError(f"Upload-Metadata has more than {limits.max_keys} keys.", status=413, code="metadata_too_large")
    values: dict[str, bytes | None] = {}
    for pair in pairs:
        key, _, encoded = pair.strip(" ").partition(" ")
        if not key:
            raise TusError("A key in Upload-Metadata is empty.", code="invalid_metadata")
        if key in values:
            raise TusError(f"The key {key[:40]} is in Upload-Metadata twice.", code="invalid_metadata")
        try:
            values[key] = base64_of(f"The metadata value of {key[:40]}", encoded) if encoded else None
        except InvalidField as error:
            raise TusError(error.sentence, code="invalid_metadata") from None
    return Metadata(text, MappingProxyType(values))


_UNDERSTOOD: Final = frozenset({"filename", "filetype", "contenttype", "sha1", "checksum"})


def offer_for(create: Create, uploadid: str) -> Offer:
    """The offer that a creation stands for.

    ``filename``, ``filetype`` (the MIME type), ``contenttype`` and ``sha1`` or ``checksum`` are understood; every
    other key becomes an annotation, empty for a key without a value. Bytes that are no text cannot be annotations:
    they only go back with HEAD. Without a content type the MIME type or the name suggests one.

    A length of 0, which tus allows and an offer does not, is left out of the offer: the server declares it.

    Args:
        create: What the client asked for.
        uploadid: A new id; `offers.new_id` makes one.

    Raises:
        TusError: A key that is understood holds no text, or two checksums contradict each other.
        Refused: As `Offer` says.
    """
    metadata = create.metadata
    filename = metadata.text("filename") or ""
    mimetype = metadata.text("filetype") or "application/octet-stream"
    checksums = {check_checksum(text) for key in ("sha1", "checksum") if (text := metadata.text(key))}
    if len(checksums) > 1:
        raise TusError("The metadata sha1 and checksum are not the same.", code="invalid_metadata")
    annotations: dict[str, JSON] = {}
    for key, value in metadata.values.items():
        if key not in _UNDERSTOOD:
            try:
                annotations[key] = (value or b"").decode()
            except UnicodeDecodeError:
                continue
    return Offer(
        uploadid,
        filename=filename,
        contenttype=metadata.text("contenttype") or guess_contenttype(mimetype, filename),
        filesize=create.length or None,
        sha1=next(iter(checksums), None),
        mimetype=mimetype,
        annotations=annotations,
    )


# ── concatenation ─────────────────────────────────────────────────────────────────────────────────────────────


def _concat(headers: Headers, limits: Limits, prefixes: Sequence[str]) -> Concat | None:
    text = headers.get("upload-concat")
    if text is None:
        return None
    _need(limits, Extension.CONCATENATION)
    if text == "partial":
        return Concat(text)
    word, semicolon, urls = text.partition(";")
    if word != "final" or not semicolon:
        raise TusError("Upload-Concat must be partial, or final; and addresses of uploads.", code="invalid_header")
    if not (text.isascii() and text.isprintable()):
        raise TusError("The addresses in Upload-Concat must be ASCII.", code="invalid_header")
    # The specification has no space behind the semicolon; some clients send one.
    references = urls.strip(" ").split(" ", limits.max_parts)
    if len(references) > limits.max_parts:
        raise TusError(f"More than {limits.max_parts} parts.", status=413, code="too_many_parts")
    return Concat(text, tuple(part_id(reference, prefixes) for reference in references))


def part_id(reference: str, prefixes: Iterable[str]) -> str:
    """The id of the upload that an address stands for; nothing is fetched, and the host is not looked at.

    Args:
        reference: Absolute, absolute without host, or relative to the creation address.
        prefixes: Paths below which uploads are addressed, each with a slash at its end.

    Raises:
        TusError: ``invalid_part``; it is no address of an upload here.
    """
    try:
        parts = urlsplit(reference)
    except ValueError:
        parts = urlsplit("")
    name = parts.path
    if name.startswith("/"):
        name = next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), "")
    elif not parts.netloc:
        name = name.removeprefix("./")
    try:
        if not (parts.query or parts.fragment) and parts.scheme in ("", "http", "https"):
            return check_id(name)
    except Refused:
        pass
    raise TusError(f"{reference[:80]!a} is not the address of an upload here.", code="invalid_part")


def final_upload() -> TusError:
    """The refusal of bytes for an upload that is made of others."""
    return TusError("A final upload is made of its parts; it takes no bytes.", status=403, code="final_upload")


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────


def options(limits: Limits) -> Answer:
    """204, with all that is offered here."""
    headers = [_RESUMABLE, ("Tus-Version", VERSION)]
    extensions = [extension.value for extension in Extension if limits.offers(extension)]
    if extensions:
        headers.append(("Tus-Extension", ",".join(extensions)))
    headers.append(("Tus-Max-Size", str(limits.max_size)))
    if limits.offers(Extension.CHECKSUM):
        headers.append(("Tus-Checksum-Algorithm", ",".join(limits.algorithms)))
    return Answer(204, tuple(headers))


def created(location: str, *, offset: int | None = None, expires: float | None = None) -> Answer:
    """201.

    Args:
        location: The address of the upload as the client reaches it, absolute or relative.
        offset: Bytes on record, when the request brought some.
        expires: When the upload expires, in seconds since the epoch; ``None`` for never.
    """
    headers = [_RESUMABLE, ("Location", location)]
    if offset is not None:
        headers.append(("Upload-Offset", str(offset)))
    return Answer(201, (*headers, *_expires(expires)))


def head(
    *,
    offset: int | None,
    length: int | None,
    metadata: str = "",
    concat: str | None = None,
    expires: float | None = None,
) -> Answer:
    """200: where an upload stands.

    Args:
        offset: Bytes on record; ``None`` only for a final upload that is not made yet.
        length: Of the whole file; ``None`` while it is not known.
        metadata: ``Upload-Metadata`` exactly as received.
        concat: ``Upload-Concat`` exactly as received.
        expires: When the upload expires, in seconds since the epoch; ``None`` for never.

    Raises:
        InvalidField: A value that is on record cannot be sent.
    """
    headers = [_RESUMABLE, _NO_STORE]
    if offset is not None:
        headers.append(("Upload-Offset", str(offset)))
    if length is not None:
        headers.append(("Upload-Length", str(length)))
    elif concat is None or not concat.startswith("final"):
        headers.append(("Upload-Defer-Length", "1"))
    if metadata:
        headers.append(("Upload-Metadata", metadata))
    if concat is not None:
        headers.append(("Upload-Concat", concat))
    return Answer(200, (*headers, *_expires(expires)))


def patched(offset: int, *, expires: float | None = None) -> Answer:
    """204: the bytes are on record up to ``offset``."""
    return Answer(204, (_RESUMABLE, ("Upload-Offset", str(offset)), *_expires(expires)))


def terminated() -> Answer:
    """204: the upload is gone."""
    return Answer(204, (_RESUMABLE,))


def refused(error: UploadError, *, offset: int | None = None, expires: float | None = None) -> Answer:
    """The answer to a request that cannot be met, with a problem document as its body.

    Args:
        error: What happened, here or in the engine.
        offset: Bytes on record, where the client should know them; never told of an upload that is not there.
        expires: When the upload expires.
    """
    headers = [_RESUMABLE, *_expires(expires)]
    if offset is not None and status_of(error, Wire.TUS) not in (403, 404, 410):
        headers.append(("Upload-Offset", str(offset)))
    return problem(error, Wire.TUS, headers=headers)


def _expires(time: float | None) -> tuple[tuple[str, str], ...]:
    return () if time is None else (("Upload-Expires", http_date(time)),)
