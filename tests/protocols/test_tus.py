"""tus 1.0.0, sentence by sentence. Numbers of sections are those of docs of the protocol: core, creation, …"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.errors import ConfigurationError, DataLost, OffsetMismatch, Refused, StorageFull, TaskNotFound
from stagedoor.protocols import tus
from stagedoor.protocols.fields import Answer, InvalidField
from stagedoor.protocols.offers import guess_contenttype, new_id
from stagedoor.protocols.tus import Create, Extension, Head, Limits, Metadata, Options, Patch, Terminate, TusError
from stagedoor.tasks import check_id

LIMITS = Limits(max_size=1000)
BARE = Limits(max_size=1000, extensions=frozenset())
EVERYTHING = Limits(max_size=1000, extensions=frozenset(Extension))
BYTES = {"content-type": tus.CONTENT_TYPE}


def ask(
    method: str = "POST", uploadid: str | None = None, limits: Limits = LIMITS, prefixes: tuple[str, ...] = ("/tus/",),
    **headers: str,
) -> tus.Request:  # fmt: skip
    """A request whose headers are keywords with underscores; it speaks 1.0.0."""
    fields = {"tus-resumable": "1.0.0"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return tus.parse_request(method, fields, uploadid, limits, prefixes=prefixes)


def create(**headers: Any) -> Create:
    request = ask("POST", **headers)
    assert isinstance(request, Create)
    return request


def patch(**headers: Any) -> Patch:
    request = ask("PATCH", "u1", **({"content_type": tus.CONTENT_TYPE} | headers))
    assert isinstance(request, Patch)
    return request


def refusal(method: str = "POST", uploadid: str | None = None, **rest: Any) -> TusError:
    with pytest.raises(TusError) as caught:
        ask(method, uploadid, **rest)
    return caught.value


# ── core ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", ["0.2.2", "1.0.1", "2.0.0", "", "1.0"])
@pytest.mark.parametrize(("method", "uploadid"), [("POST", None), ("HEAD", "u"), ("PATCH", "u"), ("DELETE", "u")])
def test_another_version_is_412_with_the_versions_and_unprocessed(method: str, uploadid: str, version: str) -> None:
    error = refusal(method, uploadid, tus_resumable=version)
    assert (error.status, error.code) == (412, "unsupported_version")
    answer = tus.refused(error)
    assert answer.status == 412
    assert answer.header("Tus-Version") == answer.header("Tus-Resumable") == "1.0.0"


def test_no_version_is_412_too() -> None:
    with pytest.raises(TusError) as caught:
        tus.parse_request("HEAD", {}, "u", LIMITS)
    assert caught.value.status == 412


@pytest.mark.parametrize("version", [None, "0.0.1", "1.0.0"])
def test_options_ignores_the_version(version: str | None) -> None:
    headers = {} if version is None else {"tus-resumable": version}
    for uploadid in (None, "u"):
        assert tus.parse_request("OPTIONS", headers, uploadid, LIMITS) == Options()


def test_options_tells_what_is_offered() -> None:
    answer = tus.options(LIMITS)
    assert answer.status == 204
    assert answer.header("Tus-Version") == "1.0.0"
    assert answer.header("Tus-Max-Size") == "1000"
    assert answer.header("Tus-Checksum-Algorithm") == "sha1,sha256"
    assert answer.header("Tus-Extension") == (
        "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,concatenation"
    )
    assert "checksum-trailer" in str(tus.options(EVERYTHING).header("Tus-Extension"))


def test_what_is_not_offered_is_not_told() -> None:
    answer = tus.options(BARE)
    assert answer.header("Tus-Extension") is None
    assert answer.header("Tus-Checksum-Algorithm") is None
    # creation-with-upload depends on creation and must not be offered without it
    alone = Limits(max_size=1, extensions=frozenset({Extension.CREATION_WITH_UPLOAD}))
    assert tus.options(alone).header("Tus-Extension") is None


def test_the_method_can_be_overridden() -> None:
    assert ask("POST", "u1", x_http_method_override="DELETE") == Terminate("u1")
    assert ask("GET", "u1", x_http_method_override="HEAD") == Head("u1")
    request = ask("POST", "u1", x_http_method_override="PATCH", content_type=tus.CONTENT_TYPE, upload_offset="0")
    assert isinstance(request, Patch)
    # The actual method is ignored, also where it would have been fine.
    assert refusal("HEAD", "u1", x_http_method_override="POST").status == 405


@pytest.mark.parametrize(
    ("method", "uploadid", "limits"),
    [("GET", "u", LIMITS), ("POST", "u", LIMITS), ("PUT", None, LIMITS), ("PATCH", None, LIMITS),
     ("HEAD", None, LIMITS), ("POST", None, BARE), ("DELETE", "u", BARE), ("\r\n", "u", LIMITS)],
)  # fmt: skip
def test_other_methods_are_405_and_say_which_are_allowed(method: str, uploadid: str | None, limits: Limits) -> None:
    error = refusal(method, uploadid, limits=limits)
    assert error.status == 405
    assert tus.refused(error).header("Allow")


@pytest.mark.parametrize("uploadid", ["../x", ".hidden", "a/b", "a" * 129, "", "é", "a\n"])
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_an_impossible_id_is_not_found_and_has_no_offset(method: str, uploadid: str) -> None:
    error = refusal(method, uploadid)
    assert error.status == 404
    assert tus.refused(error, offset=5).header("Upload-Offset") is None


def test_head_has_the_offset_always_and_no_store() -> None:
    answer = tus.head(offset=0, length=100)
    assert answer.status == 200
    assert answer.header("Upload-Offset") == "0"
    assert answer.header("Upload-Length") == "100"
    assert answer.header("Cache-Control") == "no-store"
    assert answer.header("Tus-Resumable") == "1.0.0"
    assert answer.header("Upload-Defer-Length") is None
    complete = tus.head(offset=100, length=100)
    assert complete.header("Upload-Offset") == "100"


def test_head_has_the_metadata_whole() -> None:
    raw = "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential"
    assert tus.head(offset=0, length=1, metadata=raw).header("Upload-Metadata") == raw
    assert tus.head(offset=0, length=1).header("Upload-Metadata") is None
    assert tus.parse_metadata(raw, LIMITS).raw == raw


def test_metadata_cannot_smuggle_a_header() -> None:
    with pytest.raises(InvalidField):
        tus.head(offset=0, length=1, metadata="a YQ==\r\nX-Evil: 1")


@pytest.mark.parametrize("error", [TaskNotFound("x"), DataLost("Gone."), Refused("No.", code="final_upload")])
def test_what_is_not_there_has_no_offset(error: Any) -> None:
    answer = tus.refused(error, offset=3)
    assert answer.status in (403, 404, 410)
    assert answer.header("Upload-Offset") is None


@pytest.mark.parametrize("kind", [None, "", "application/octet-stream", "application/offset+octet-streams"])
def test_patch_of_another_type_is_415(kind: str | None) -> None:
    headers = {} if kind is None else {"content_type": kind}
    assert refusal("PATCH", "u", upload_offset="0", **headers).status == 415


def test_patch() -> None:
    assert patch(upload_offset="70", content_length="30") == Patch(id="u1", offset=70, content_length=30)
    assert patch(content_type="Application/Offset+Octet-Stream; charset=utf-8", upload_offset="0").offset == 0
    assert patch(upload_offset="0", transfer_encoding="chunked").content_length is None


@pytest.mark.parametrize("offset", [None, "", "-1", "x", "1.5", "9" * 30, "1, 1"])
def test_patch_needs_an_offset(offset: str | None) -> None:
    headers = {} if offset is None else {"upload_offset": offset}
    assert refusal("PATCH", "u", content_type=tus.CONTENT_TYPE, **headers).status == 400


def test_a_wrong_offset_is_409_and_says_the_right_one() -> None:
    answer = tus.refused(OffsetMismatch("At 7.", expected=7), offset=7)
    assert answer.status == 409
    assert answer.header("Upload-Offset") == "7"
    assert orjson.loads(answer.body)["expected-offset"] == 7


def test_success_is_204_with_the_new_offset() -> None:
    answer = tus.patched(100, expires=1403712000)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.header("Upload-Offset") == "100"
    assert answer.header("Upload-Expires") == "Wed, 25 Jun 2014 16:00:00 GMT"


def test_more_than_the_length_is_refused_before_a_byte_is_read() -> None:
    error = refusal("PATCH", "u", content_type=tus.CONTENT_TYPE, upload_offset="90", content_length="11",
                    upload_length="100")  # fmt: skip
    assert (error.status, error.code) == (413, "beyond_the_end")
    assert patch(upload_offset="90", content_length="10", upload_length="100").length == 100


@pytest.mark.parametrize(
    "answer",
    [tus.created("/x"), tus.head(offset=0, length=1), tus.patched(1), tus.terminated(),
     tus.refused(TaskNotFound("x")), tus.refused(StorageFull("Full."))],
)  # fmt: skip
def test_every_answer_says_the_version(answer: Answer) -> None:
    assert answer.header("Tus-Resumable") == "1.0.0"


def test_only_409_and_423_of_the_4xx_are_tried_again() -> None:
    """So a full disk must be 5xx, a lock 423, and what is lost for good anything else."""
    assert tus.refused(StorageFull("Full.")).status == 507
    assert tus.refused(Refused("Wait.", code="locked")).status == 423
    assert tus.refused(Refused("Wait.", code="locked")).header("Retry-After") == "1"
    assert tus.refused(DataLost("Lost.")).status == 410


# ── creation ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_creation() -> None:
    assert create(upload_length="100", content_length="0") == Create(length=100, content_length=0)
    assert create(upload_length="0").length == 0
    answer = tus.created("https://music.example/app/tus/x", expires=0)
    assert answer.status == 201
    assert answer.header("Location") == "https://music.example/app/tus/x"
    assert answer.header("Upload-Expires")
    assert answer.header("Upload-Offset") is None


@pytest.mark.parametrize("length", ["1001", "9223372036854775807", "9" * 19, "9" * 20, "9" * 4000])
def test_too_big_is_413(length: str) -> None:
    assert refusal(upload_length=length).status == 413


def test_a_number_beyond_all_numbers_is_too_big_without_a_limit_too() -> None:
    assert refusal(limits=Limits(max_size=2**63 - 1), upload_length="9" * 30).status == 413


@pytest.mark.parametrize("length", ["-1", "", "1e3", "0x10", "ten", "1 2", "١"])
def test_a_length_is_a_number(length: str) -> None:
    assert refusal(upload_length=length).status == 400


def test_a_length_is_needed_once() -> None:
    assert refusal().code == "length_missing"
    assert refusal(upload_length="1", upload_defer_length="1").code == "length_twice"


@pytest.mark.parametrize("value", ["0", "2", "true", "", "01", "1 "])
def test_only_1_defers_the_length(value: str) -> None:
    assert refusal(upload_defer_length=value).status == 400


def test_a_deferred_length_is_repeated_until_it_is_set() -> None:
    assert create(upload_defer_length="1").length is None
    answer = tus.head(offset=5, length=None)
    assert answer.header("Upload-Defer-Length") == "1"
    assert answer.header("Upload-Length") is None
    assert patch(upload_offset="5", upload_length="9").length == 9
    assert refusal("PATCH", "u", content_type=tus.CONTENT_TYPE, upload_offset="0", upload_length="1001").status == 413
    assert refusal(
        limits=Limits(max_size=9, extensions=frozenset({Extension.CREATION})), upload_defer_length="1"
    ).code == ("not_offered")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("  ", {}),
        ("filename YS5tcDM=,is_confidential", {"filename": b"a.mp3", "is_confidential": None}),
        ("a YQ==, b Yg==", {"a": b"a", "b": b"b"}),
        ("a ,b", {"a": None, "b": None}),
        ("bin /wA=", {"bin": b"\xff\x00"}),
        ("A YQ==,a Yg==", {"A": b"a", "a": b"b"}),
    ],
)
def test_metadata(text: str, values: Mapping[str, bytes | None]) -> None:
    assert dict(tus.parse_metadata(text, LIMITS).values) == values


@pytest.mark.parametrize(
    "text", [",", "a YQ==,", ",a YQ==", "a YQ==,a Yg==", "a Y", "a YQ", "a YQ== x", "a  YQ==", "a Y-==", "é YQ==",
             "a\tYQ==", "a YQ==,,b Yg==", "a YQ==\0"]
)  # fmt: skip
def test_metadata_that_is_none(text: str) -> None:
    error = refusal(upload_length="1", upload_metadata=text)
    assert (error.status, error.code) == (400, "invalid_metadata")


def test_metadata_is_bounded() -> None:
    assert refusal(upload_length="1", upload_metadata="a" * (32 << 10) + "b").status == 413
    assert refusal(upload_length="1", upload_metadata=",".join(f"k{i}" for i in range(101))).status == 413
    assert len(create(upload_length="1", upload_metadata=",".join(f"k{i}" for i in range(100))).metadata.values) == 100


def encoded(**values: str | bytes | None) -> Metadata:
    def pair(key: str, value: str | bytes | None) -> str:
        raw = value.encode() if isinstance(value, str) else value
        return key if raw is None else f"{key} {base64.b64encode(raw).decode()}"

    return tus.parse_metadata(",".join(pair(*item) for item in values.items()), LIMITS)


def test_understood_keys_make_the_offer_and_all_others_are_annotations() -> None:
    sha1 = hashlib.sha1(b"x").hexdigest()
    metadata = encoded(
        filename="Ä.webm", filetype="video/webm", contenttype="video", sha1=sha1.upper(), checksum=sha1,
        artistname="Björk", marked=None, binary=b"\xff",
    )  # fmt: skip
    offer = tus.offer_for(Create(length=9, metadata=metadata), "u1")
    assert (offer.id, offer.filename, offer.mimetype, offer.contenttype) == ("u1", "Ä.webm", "video/webm", "video")
    assert (offer.filesize, offer.sha1) == (9, sha1)
    assert dict(offer.annotations) == {"artistname": "Björk", "marked": ""}


def test_an_offer_needs_no_metadata_and_no_length() -> None:
    offer = tus.offer_for(Create(length=None), "u1")
    assert (offer.filesize, offer.sha1, offer.contenttype, offer.filename) == (None, None, "video", "")
    assert tus.offer_for(Create(length=0), "u1").filesize is None


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({"filename": b"\xff"}, "invalid_metadata"),
        ({"sha1": "0" * 40, "checksum": "1" * 40}, "invalid_metadata"),
        ({"sha1": "nonsense"}, "invalid_checksum"),
        ({"contenttype": "../../x"}, "invalid_contenttype"),
        ({"filename": "a\0b"}, "invalid_filename"),
    ],
)
def test_offers_that_are_none(metadata: dict[str, Any], code: str) -> None:
    with pytest.raises((TusError, Refused)) as caught:
        tus.offer_for(Create(length=1, metadata=encoded(**metadata)), "u1")
    assert caught.value.code == code
    assert tus.refused(caught.value).status == 400


@pytest.mark.parametrize(
    ("mimetype", "filename", "contenttype"),
    [
        ("video/mp4", "x", "video"), ("image/png", "x.mp4", "artwork"), ("audio/flac", "", "album"),
        ("application/zip", "", "album"), ("application/octet-stream", "a.ZIP", "album"), ("", "a.tar.gz", "album"),
        ("", "cover.JPG", "artwork"), ("", "a.opus", "album"), ("", "a.mkv", "video"), ("", "noext", "video"),
        ("Application/X-Tar; x=y", "", "album"), ("application/x-xz", "a", "album"),
        ("application/x-bzip2", "", "album"), ("", "a.tar.xz", "album"), ("", "a.tar.bz2", "album"),
        ("", "a.txz", "album"), ("", "a.tbz2", "album"), ("", "a.oga", "album"), ("", "a.aif", "album"),
        ("", "a.m4b", "album"), ("", "a.wave", "album"),
    ],
)  # fmt: skip
def test_a_content_type_is_guessed(mimetype: str, filename: str, contenttype: str) -> None:
    assert guess_contenttype(mimetype, filename) == contenttype


def test_ids_are_random_and_allowed() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(check_id(one) for one in ids)


# ── creation with upload ──────────────────────────────────────────────────────────────────────────────────────


def test_creation_can_bring_bytes() -> None:
    request = create(upload_length="100", content_length="5", content_type=tus.CONTENT_TYPE)
    assert request.body
    assert request.content_length == 5
    assert tus.created("/x", offset=5).header("Upload-Offset") == "5"
    assert create(upload_length="9", transfer_encoding="chunked", content_type=tus.CONTENT_TYPE).body
    assert create(upload_length="9", content_type=tus.CONTENT_TYPE).body  # HTTP/2 announces nothing
    assert not create(upload_length="9", content_length="0", content_type=tus.CONTENT_TYPE).body
    assert not create(upload_length="9", content_length="0", content_type="text/plain").body


def test_bytes_of_another_type_or_too_many_are_refused() -> None:
    assert refusal(upload_length="9", content_length="5", content_type="text/plain").status == 415
    assert refusal(upload_length="9", transfer_encoding="chunked").status == 415
    assert refusal(upload_length="9", content_length="10", content_type=tus.CONTENT_TYPE).code == "beyond_the_end"
    alone = Limits(max_size=9, extensions=frozenset({Extension.CREATION}))
    error = refusal(limits=alone, upload_length="9", content_length="1", content_type=tus.CONTENT_TYPE)
    assert error.code == "not_offered"


# ── checksum ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_checksums(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"hello world").digest()
    header = f"{algorithm} {base64.b64encode(digest).decode()}"
    checksum = patch(upload_offset="0", upload_checksum=header).checksum
    assert checksum is not None
    assert checksum.algorithm == algorithm
    assert checksum.matches(digest)
    assert not checksum.matches(digest[::-1])
    created = create(upload_length="11", content_length="11", content_type=tus.CONTENT_TYPE, upload_checksum=header)
    assert created.checksum == checksum


def test_the_example_of_the_protocol() -> None:
    checksum = tus.parse_checksum("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", LIMITS)
    assert checksum.matches(hashlib.sha1(b"hello world").digest())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("md5 XrY7u+Ae7tCTyyK7j1rNww==", "unsupported_algorithm"),
        ("SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "unsupported_algorithm"),
        ("sha512 AAAA", "unsupported_algorithm"),
        ("sha1", "invalid_checksum"),
        ("", "invalid_checksum"),
        ("sha1 ", "invalid_checksum"),
        ("sha1 !", "invalid_checksum"),
        ("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0", "invalid_checksum"),
        ("sha1 AAAA", "invalid_checksum"),
        ("sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "invalid_checksum"),
    ],
)
def test_checksums_that_are_none_are_400(text: str, code: str) -> None:
    error = refusal("PATCH", "u", content_type=tus.CONTENT_TYPE, upload_offset="0", upload_checksum=text)
    assert (error.status, error.code) == (400, code)


def test_a_mismatch_is_460() -> None:
    answer = tus.refused(Refused("The bytes are not the ones that were hashed.", code="checksum_mismatch"), offset=4)
    assert answer.status == 460
    assert answer.header("Upload-Offset") == "4"


def test_a_checksum_can_come_as_a_trailer_where_that_is_offered() -> None:
    asked = {"content_type": tus.CONTENT_TYPE, "upload_offset": "0", "trailer": "X, Upload-Checksum"}
    assert patch(limits=EVERYTHING, **asked).trailer
    assert refusal("PATCH", "u", **asked).code == "not_offered"
    both = asked | {"upload_checksum": "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="}
    assert refusal("PATCH", "u", limits=EVERYTHING, **both).code == "checksum_twice"


def test_only_algorithms_that_can_be_computed_are_offered() -> None:
    with pytest.raises(ConfigurationError):
        Limits(max_size=1, algorithms=("crc32",))


# ── termination and concatenation ─────────────────────────────────────────────────────────────────────────────


def test_termination() -> None:
    assert ask("DELETE", "u1") == Terminate("u1")
    assert tus.terminated().status == 204
    assert tus.refused(TaskNotFound("u1")).status == 404
    assert tus.refused(Refused("Too late.", code="expired")).status == 410


def test_a_partial_upload() -> None:
    concat = create(upload_length="5", upload_concat="partial").concat
    assert concat is not None
    assert not concat.final
    assert tus.head(offset=0, length=5, concat=concat.raw).header("Upload-Concat") == "partial"


@pytest.mark.parametrize(
    ("reference", "prefixes"),
    [
        ("/tus/a", ("/tus/",)), ("https://music.example/tus/a", ("/tus/",)), ("//host/tus/a", ("/tus/",)),
        ("https://h/app/tus/a", ("/tus/", "/app/tus/")), ("a", ("/tus/",)), ("./a", ("/tus/",)),
        ("http://h:8080/tus/a", ("/tus/",)),
    ],
)  # fmt: skip
def test_addresses_of_parts(reference: str, prefixes: tuple[str, ...]) -> None:
    concat = create(upload_concat=f"final;{reference} {reference}", prefixes=prefixes).concat
    assert concat is not None
    assert concat.final
    assert concat.parts == ("a", "a")  # partials are reusable
    assert concat.raw == f"final;{reference} {reference}"  # HEAD tells it as received


@pytest.mark.parametrize(
    "reference",
    ["", "/files/a", "/tus/", "/tus/a/b", "/tus/../a", "/tus/%61", "/tus/a?x=1", "/tus/a#f", "file:///tus/a", "../a",
     "javascript:a", "https://[x/tus/a", "http://h", "//a", "/tus/.a"],
)  # fmt: skip
def test_addresses_that_are_none_of_ours(reference: str) -> None:
    error = refusal(upload_concat=f"final;{reference}")
    assert (error.status, error.code) == (400, "invalid_part")


@pytest.mark.parametrize("text", ["", "Partial", "final", "partial;/tus/a", "first;/tus/a", " partial", "final;/tus/é"])
def test_other_roles_are_refused(text: str) -> None:
    assert refusal(upload_length="1", upload_concat=text).status == 400


def test_a_final_upload_has_no_length_and_takes_no_bytes() -> None:
    assert create(upload_concat="final;/tus/a /tus/b").length is None
    assert refusal(upload_concat="final;/tus/a", upload_length="5").code == "length_of_final"
    assert refusal(upload_concat="final;/tus/a", upload_defer_length="1").code == "length_of_final"
    brought = refusal(upload_concat="final;/tus/a", content_length="5", content_type=tus.CONTENT_TYPE)
    assert brought.status == 403
    assert tus.refused(tus.final_upload()).status == 403


def test_the_number_of_parts_is_bounded() -> None:
    assert refusal(upload_concat="final;" + " ".join(["/tus/a"] * 1001)).status == 413


def test_a_final_upload_has_its_own_metadata_only() -> None:
    assert create(upload_concat="final;/tus/a").metadata == Metadata()
    assert create(upload_concat="final;/tus/a", upload_metadata="a YQ==").metadata.values == {"a": b"a"}


def test_head_of_a_final_upload() -> None:
    waiting = tus.head(offset=None, length=11, concat="final;/tus/a /tus/b")
    assert waiting.header("Upload-Offset") is None
    assert waiting.header("Upload-Concat") == "final;/tus/a /tus/b"
    assert waiting.header("Upload-Defer-Length") is None
    assert tus.head(offset=None, length=None, concat="final;/tus/a").header("Upload-Defer-Length") is None
    made = tus.head(offset=11, length=11, concat="final;/tus/a /tus/b")
    assert made.header("Upload-Offset") == made.header("Upload-Length") == "11"


# ── strangers ─────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = st.sampled_from(
    ["upload-length", "upload-defer-length", "upload-offset", "upload-metadata", "upload-concat", "upload-checksum",
     "content-type", "content-length", "transfer-encoding", "trailer", "x-http-method-override", "tus-resumable"]
)  # fmt: skip
VALUES = (
    st.text(st.characters(max_codepoint=255), max_size=40)
    | st.text("0123456789;, /=:afinlprt", max_size=30)
    | st.sampled_from(["1.0.0", "1", "0", "partial", "final;/tus/a", tus.CONTENT_TYPE, "upload-checksum", "a YQ==",
                       "PATCH", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="])
)  # fmt: skip


@given(
    st.sampled_from(["OPTIONS", "HEAD", "POST", "PATCH", "DELETE", "GET"]) | st.text(max_size=8),
    st.dictionaries(NAMES, VALUES, max_size=8),
    st.none() | st.just("u1") | st.text(max_size=10),
    st.sampled_from([LIMITS, BARE, EVERYTHING]),
)
def test_any_request_is_read_or_refused(
    method: str, headers: dict[str, str], uploadid: str | None, limits: Limits
) -> None:
    headers.setdefault("tus-resumable", "1.0.0")
    try:
        request = tus.parse_request(method, headers, uploadid, limits, prefixes=("/tus/",))
    except TusError as error:
        answer = tus.refused(error)
    else:
        answer = _answered(request, limits)
    assert 200 <= answer.status < 500


def _answered(request: tus.Request, limits: Limits) -> Answer:
    if isinstance(request, Create):
        assert request.length is None or request.length <= limits.max_size
        with suppress(TusError, Refused):
            tus.offer_for(request, "u1")
        concat = None if request.concat is None else request.concat.raw
        return tus.head(offset=0, length=1, metadata=request.metadata.raw, concat=concat)
    return tus.terminated()


@given(
    st.dictionaries(st.from_regex(r"[!-+\--~]{1,12}", fullmatch=True), st.none() | st.binary(min_size=1, max_size=50))
)
def test_metadata_comes_back(values: dict[str, bytes | None]) -> None:
    text = ",".join(k if v is None else f"{k} {base64.b64encode(v).decode()}" for k, v in values.items())
    assert dict(tus.parse_metadata(text, LIMITS).values) == values


def test_what_speaks_tus() -> None:
    assert tus.is_tus("POST", {"tus-resumable": "9"})
    assert not tus.is_tus("POST", {"upload-complete": "?1"})
