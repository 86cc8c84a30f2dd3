"""draft-ietf-httpbis-resumable-upload, interop versions 5 to 9, sentence by sentence."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.errors import DataLost, OffsetMismatch, Refused, TaskNotFound, TooLarge, UploadError
from stagedoor.protocols import resumable
from stagedoor.protocols.fields import Answer, structured_dictionary
from stagedoor.protocols.resumable import (
    NEWEST,
    VERSIONS,
    Append,
    Cancel,
    Create,
    Digest,
    Limits,
    Options,
    ResumableError,
    Retrieve,
)

LIMITS = Limits(max_size=1000, max_append_size=500, min_append_size=10)
FREE = Limits()
SHA256 = hashlib.sha256(b"hello").digest()
SHA1 = hashlib.sha1(b"hello").digest()


def field(digest: bytes) -> str:
    return f":{base64.b64encode(digest).decode()}:"


def ask(
    method: str, uploadid: str | None = None, limits: Limits = FREE, version: int | str | None = 9, **headers: str
) -> resumable.Request:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if version is not None:
        fields["upload-draft-interop-version"] = str(version)
    return resumable.parse_request(method, fields, uploadid, limits)


def create(**rest: Any) -> Create:
    request = ask("POST", **({"upload_complete": "?1"} | rest))
    assert isinstance(request, Create)
    return request


def append(**rest: Any) -> Append:
    usual = {"content_type": resumable.CONTENT_TYPE, "upload_offset": "100", "upload_complete": "?1"}
    request = ask("PATCH", "u1", **(usual | rest))
    assert isinstance(request, Append)
    return request


def refusal(method: str, uploadid: str | None = None, **rest: Any) -> ResumableError:
    with pytest.raises(ResumableError) as caught:
        ask(method, uploadid, **rest)
    return caught.value


def refused_append(**rest: Any) -> ResumableError:
    usual = {"content_type": resumable.CONTENT_TYPE, "upload_offset": "100", "upload_complete": "?1"}
    return refusal("PATCH", "u1", **(usual | rest))


def answered(error: UploadError, **rest: Any) -> Answer:
    return resumable.refused(error, LIMITS, NEWEST, **rest)


# ── versions ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", VERSIONS)
def test_versions_that_are_spoken(version: int) -> None:
    assert create(version=version).version == version
    assert append(version=version).version == version
    assert ask("HEAD", "u1", version=version) == Retrieve("u1", version)


@pytest.mark.parametrize("version", ["2", "3", "4", "10", "?1", "six", "", "6.0", "-6", "9, 9"])
def test_versions_that_are_not(version: str) -> None:
    error = refusal("POST", version=version, upload_complete="?1")
    assert (error.status, error.code) == (400, "unsupported_version")


def test_who_says_none_speaks_the_newest() -> None:
    assert create(version=None).version == NEWEST == 9


def test_what_speaks_this_protocol() -> None:
    assert resumable.is_resumable("POST", {"upload-complete": "?1"})
    assert resumable.is_resumable("HEAD", {"upload-draft-interop-version": "6"})
    assert not resumable.is_resumable("POST", {"content-type": "text/plain"})
    assert not resumable.is_resumable("POST", {"tus-resumable": "1.0.0", "upload-complete": "?1"})


# ── creation ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_creation(method: str) -> None:
    request = ask(
        method, upload_complete="?1", content_length="5", upload_length="5", content_type="Audio/FLAC; x=y",
        content_disposition="inline; filename=\"file name.flac\"; filename*=UTF-8''f%C3%BCr.flac",
        repr_digest=f"sha-256={field(SHA256)}, sha={field(SHA1)}", content_digest=f"sha-256={field(SHA256)}",
        want_repr_digest="sha-256=3, sha-512=10, md5=9, sha=0",
    )  # fmt: skip
    assert request == Create(
        complete=True,
        length=5,
        content_length=5,
        filename="für.flac",
        mimetype="audio/flac",
        representation=(Digest("sha256", SHA256), Digest("sha1", SHA1)),
        content=(Digest("sha256", SHA256),),
        wanted=("sha512", "sha256"),
    )
    offer = resumable.offer_for(request, "u1")
    assert (offer.filename, offer.contenttype, offer.filesize, offer.sha1) == ("für.flac", "album", 5, SHA1.hex())


def test_an_offer_needs_little() -> None:
    offer = resumable.offer_for(create(content_length="0"), "u1")
    assert (offer.filesize, offer.sha1, offer.contenttype, offer.filename) == (None, None, "video", "")


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({"upload_complete": "?1", "content_length": "7"}, 7),
        ({"upload_complete": "?0", "content_length": "7"}, None),
        ({"upload_complete": "?0", "content_length": "7", "upload_length": "9"}, 9),
        ({"upload_complete": "?1", "upload_length": "9"}, 9),
        ({"upload_complete": "?1"}, None),
        ({"upload_complete": "?1", "content_length": "7", "upload_length": "seven"}, 7),
        ({"upload_complete": "?0", "upload_length": "-1"}, None),
    ],
)
def test_two_ways_to_tell_the_length(headers: dict[str, str], length: int | None) -> None:
    assert create(**headers).length == length


@pytest.mark.parametrize(
    "headers",
    [
        {"upload_complete": "?1", "content_length": "7", "upload_length": "9"},
        {"upload_complete": "?1", "content_length": "9", "upload_length": "7"},
        {"upload_complete": "?0", "content_length": "9", "upload_length": "7"},
    ],
)
def test_lengths_that_contradict_each_other(headers: dict[str, str]) -> None:
    error = refusal("POST", **headers)
    answer = answered(error)
    assert answer.status == 400
    assert orjson.loads(answer.body)["type"] == (
        "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"
    )


@pytest.mark.parametrize("value", [None, "", "1", "true", "?2", "?1, ?0", '"?1"'])
def test_completeness_has_to_be_told(value: str | None) -> None:
    headers = {} if value is None else {"upload_complete": value}
    assert refusal("POST", **headers).code == "complete_missing"


def test_an_offset_does_not_belong_in_a_creation_until_version_6() -> None:
    assert refusal("POST", version=6, upload_complete="?1", upload_offset="0").code == "unexpected_header"
    assert create(version=7, upload_offset="0")


def test_limits_of_size() -> None:
    for headers in ({"upload_length": "1001"}, {"upload_length": "2000", "upload_complete": "?0"}):
        error = refusal("POST", limits=LIMITS, **({"upload_complete": "?1"} | headers))
        assert error.status == 413
        assert resumable.refused(error, LIMITS, 9).header("Upload-Limit") == (
            "max-size=1000, max-append-size=500, min-append-size=10"
        )
    assert refusal("POST", limits=LIMITS, upload_complete="?1", content_length="501").status == 413
    assert refusal("POST", limits=LIMITS, upload_complete="?0", content_length="9").code == "append_too_small"
    assert create(limits=LIMITS, upload_complete="?0", content_length="0")  # a careful creation is always allowed
    assert create(limits=LIMITS, upload_complete="?1", content_length="9")  # and the end of the file may be small
    assert refusal("POST", upload_complete="?1", content_length="-1").status == 400


@pytest.mark.parametrize(
    "headers",
    [{"content_digest": "sha-256=:AAAA:"}, {"repr_digest": "sha-256=1"}, {"repr_digest": "sha-256"},
     {"content_digest": "sha-256=:x"}, {"repr_digest": "sha=(:AAAA:)"}],
)  # fmt: skip
def test_a_digest_that_cannot_be_checked_is_refused(headers: dict[str, str]) -> None:
    assert refusal("POST", upload_complete="?1", **headers).code == "invalid_digest"


def test_unknown_digests_are_ignored() -> None:
    assert create(repr_digest=f"md5={field(b'x')}, unixsum=30637, sha-256={field(SHA256)};a").representation == (
        Digest("sha256", SHA256),
    )
    assert create(want_repr_digest="!").wanted == create(want_repr_digest="sha-256=?1, sha=a").wanted == ()


def test_digests_match_or_not() -> None:
    assert Digest("sha256", SHA256).matches(SHA256)
    assert not Digest("sha256", SHA256).matches(SHA1)
    assert resumable.digest_field({"sha256": SHA256, "sha1": SHA1}) == f"sha-256={field(SHA256)}, sha={field(SHA1)}"
    assert answered(Refused("Not these.", code="checksum_mismatch")).status == 400


def test_a_name_that_cannot_be_read_is_refused() -> None:
    assert refusal("POST", upload_complete="?1", content_disposition='inline; filename="x').code == (
        "invalid_disposition"
    )


# ── append ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_append() -> None:
    assert append(content_length="5") == Append(id="u1", offset=100, complete=True, length=105, content_length=5)
    assert append(upload_complete="?0", content_length="5").length is None
    assert append(content_length="0").length == 100  # completes without bytes
    assert append(content_digest=f"sha={field(SHA1)}").content == (Digest("sha1", SHA1),)


@pytest.mark.parametrize("kind", ["", "application/octet-stream", "application/offset+octet-stream"])
def test_append_has_its_media_type_from_version_6_on(kind: str) -> None:
    error = refused_append(content_type=kind, version=6)
    assert error.status == 415
    assert resumable.refused(error, FREE, 6).header("Accept-Patch") == "application/partial-upload"
    assert append(content_type=kind, version=5)
    assert append(content_type="Application/Partial-Upload; x=y")


@pytest.mark.parametrize("offset", ["", "x", "-1", "1.5", "?1", "1, 2", "1" * 16])
def test_an_offset_of_another_type_is_ignored_and_missed(offset: str) -> None:
    assert refused_append(upload_offset=offset).code == "offset_missing"


def test_completeness_has_to_be_told_with_each_append() -> None:
    assert refused_append(upload_complete="yes").code == "complete_missing"


@pytest.mark.parametrize(
    "headers",
    [{"content_length": "5", "upload_length": "106"}, {"content_length": "5", "upload_length": "104"},
     {"upload_length": "99"}, {"content_length": "5", "upload_length": "104", "upload_complete": "?0"}],
)  # fmt: skip
def test_an_append_that_contradicts_the_length(headers: dict[str, str]) -> None:
    assert refused_append(**headers).code == "inconsistent_upload_length"


def test_an_append_beyond_the_largest_file() -> None:
    assert refused_append(limits=LIMITS, upload_offset="999", content_length="2").status == 413
    assert refused_append(limits=LIMITS, content_length="501").status == 413
    assert refused_append(limits=LIMITS, content_length="9", upload_complete="?0").code == "append_too_small"


def test_a_wrong_offset() -> None:
    answer = answered(OffsetMismatch("At 12500000.", expected=12_500_000), provided_offset=25_000_000)
    assert answer.status == 409
    assert answer.header("Upload-Offset") == "12500000"
    assert answer.header("Upload-Complete") == "?0"
    assert answer.header("Content-Type") == "application/problem+json"
    document = orjson.loads(answer.body)
    assert document["type"] == "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
    assert (document["expected-offset"], document["provided-offset"]) == (12_500_000, 25_000_000)


def test_a_complete_upload_takes_nothing() -> None:
    answer = answered(resumable.completed_upload(), offset=5)
    assert answer.status == 400
    assert answer.header("Upload-Complete") == "?1"
    assert orjson.loads(answer.body)["type"].endswith("#completed-upload")


def test_bytes_beyond_the_end() -> None:
    answer = answered(TooLarge("Beyond.", code="beyond_the_end"), offset=5)
    assert answer.status == 400
    assert orjson.loads(answer.body)["type"].endswith("#inconsistent-upload-length")


@pytest.mark.parametrize(("version", "status"), [(5, 201), (6, 201), (7, 204), (8, 204), (9, 204)])
def test_more_is_expected(version: int, status: int) -> None:
    answer = resumable.appended(version, complete=False, offset=7, location="/x")
    assert answer.status == status
    assert answer.header("Upload-Complete") == "?0"
    assert answer.header("Upload-Offset") == "7"
    assert answer.header("Location") is None


def test_the_last_answer_is_that_of_a_creation() -> None:
    answer = resumable.appended(9, complete=True, offset=7, location="/api/uploads/x")
    assert (answer.status, answer.header("Upload-Complete")) == (201, "?1")
    assert answer.header("Location") == "/api/uploads/x"


# ── the other requests ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_where_does_it_stand(method: str) -> None:
    assert ask(method, "u1") == Retrieve("u1")
    answer = resumable.state(LIMITS, 9, offset=0, complete=False, length=100, max_age=3600.7)
    assert answer.status == 204
    assert answer.header("Upload-Offset") == "0"
    assert answer.header("Upload-Complete") == "?0"
    assert answer.header("Upload-Length") == "100"
    assert answer.header("Cache-Control") == "no-store"
    assert structured_dictionary("X", answer.header("Upload-Limit") or "")["max-age"] == 3600
    assert resumable.state(FREE, 9, offset=1, complete=True, length=None).header("Upload-Length") is None


@pytest.mark.parametrize("name", ["upload_offset", "upload_complete", "upload_length"])
def test_until_version_6_such_fields_are_400_with_head(name: str) -> None:
    fields: dict[str, Any] = {name: "1"}
    assert refusal("HEAD", "u1", version=6, **fields).status == 400
    assert ask("HEAD", "u1", version=7, **fields) == Retrieve("u1", 7)


def test_cancel() -> None:
    assert ask("DELETE", "u1") == Cancel("u1")
    assert refusal("DELETE", "u1", version=5, upload_complete="?1").status == 400
    assert resumable.cancelled().status == 204


def test_options_has_the_limits() -> None:
    assert ask("OPTIONS", version=6) == Options(6)
    answer = resumable.options(LIMITS)
    assert answer.status == 204
    assert answer.header("Upload-Limit") == "max-size=1000, max-append-size=500, min-append-size=10"
    assert resumable.options(FREE).header("Upload-Limit") == "min-size=0"


def test_the_lifetime_has_changed_its_name() -> None:
    assert resumable.limit_field(FREE, 6, 10) == "expires=10"
    assert resumable.limit_field(FREE, 7, 10) == "max-age=10"
    assert resumable.limit_field(FREE, 9, -10) == "max-age=0"
    assert resumable.limit_field(Limits(max_size=2**63), 9) == "max-size=999999999999999"


def test_created() -> None:
    answer = resumable.created("https://h/x", LIMITS, 9, complete=False, offset=5, max_age=60)
    assert answer.status == 201
    assert answer.header("Location") == "https://h/x"
    assert (answer.header("Upload-Complete"), answer.header("Upload-Offset")) == ("?0", "5")
    assert "max-age=60" in str(answer.header("Upload-Limit"))
    assert resumable.created("/x", LIMITS, 5, complete=True, offset=5).header("Upload-Limit") is None


def test_the_interim_answer_has_the_version_of_the_request() -> None:
    answer = resumable.interim("https://h/x", LIMITS, 6)
    assert answer.status == 104
    assert answer.header("Upload-Draft-Interop-Version") == "6"
    assert answer.header("Location")


@pytest.mark.parametrize("error", [TaskNotFound("x"), DataLost("Gone.")])
def test_what_is_not_there_has_no_state(error: UploadError) -> None:
    answer = answered(error, offset=5)
    assert answer.status in (404, 410)
    assert answer.header("Upload-Offset") is None
    assert answer.header("Upload-Complete") is None


@pytest.mark.parametrize("uploadid", ["..", "", "a/b", "x" * 129])
def test_an_impossible_id_is_not_found(uploadid: str) -> None:
    assert refusal("HEAD", uploadid).status == 404


@pytest.mark.parametrize(("method", "uploadid"), [("PATCH", None), ("POST", "u1"), ("TRACE", "u1"), ("HEAD", None)])
def test_other_methods_are_405(method: str, uploadid: str | None) -> None:
    error = refusal(method, uploadid)
    assert error.status == 405
    assert answered(error).header("Allow")


NAMES = st.sampled_from(
    ["upload-length", "upload-complete", "upload-offset", "content-type", "content-length", "content-disposition",
     "repr-digest", "content-digest", "want-repr-digest", "upload-draft-interop-version"]
)  # fmt: skip
VALUES = (
    st.text(st.characters(max_codepoint=255), max_size=40)
    | st.text('0123456789?=:;, "sha-', max_size=30)
    | st.sampled_from(["?0", "?1", "6", "9", "0", resumable.CONTENT_TYPE, f"sha={field(SHA1)}"])
)


@given(
    st.sampled_from(["OPTIONS", "HEAD", "POST", "PUT", "PATCH", "DELETE", "GET"]) | st.text(max_size=8),
    st.dictionaries(NAMES, VALUES, max_size=8),
    st.none() | st.just("u1") | st.text(max_size=10),
    st.sampled_from([LIMITS, FREE]),
)
def test_any_request_is_read_or_refused(
    method: str, headers: dict[str, str], uploadid: str | None, limits: Limits
) -> None:
    try:
        request = resumable.parse_request(method, headers, uploadid, limits)
    except ResumableError as error:
        answer = resumable.refused(error, limits, NEWEST)
    else:
        answer = _answered(request, limits)
    assert 200 <= answer.status < 500


def _answered(request: resumable.Request, limits: Limits) -> Answer:
    if isinstance(request, Create):
        with suppress(Refused):
            resumable.offer_for(request, "u1")
    if isinstance(request, Create | Append) and request.length is not None and limits.max_size is not None:
        assert request.length <= limits.max_size
    return resumable.cancelled()
