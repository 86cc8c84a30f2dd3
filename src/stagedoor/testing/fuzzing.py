"""What a stranger sends, and what reading it may lead to: targets for fuzzers.

A `Target` takes bytes, of whatever kind, and hands them to one of the parsers. It demands that nothing but the
documented errors comes of it, that an answer can be made of these, that what was read says the same when it is written
and read again, and that no more was read, kept or unpacked than is allowed. Seeds are made, not stored.

`mutations` feeds a target without a fuzzer: a few thousand variations of its seeds, the same ones for the same number.
``bench/fuzz.py`` feeds it with Atheris.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

import orjson
from attrs import frozen

from ..content.decoding.child import archive as archives_
from ..content.decoding.child import sound, tags
from ..content.decoding.child.common import Input, RejectedError
from ..content.naming.components import component
from ..content.naming.guesses import guess_album, guess_song
from ..content.naming.schemes import SCHEMES, SONG_FIELDS
from ..content.naming.templates import Template
from ..errors import ConfigurationError, ContentRejected, Refused, TooLarge
from ..names import match_key, search_words, similar_key
from ..protocols import fields, frames, messages, musicdb, resumable, tus
from ..tasks import JSON, InvalidDocument, dump, load
from . import archives, sounds

__all__ = ["TARGETS", "Target", "mutations"]


class Wrong(AssertionError):
    """A parser did what it must not; the sentence says what."""


@frozen
class Target:
    """A parser, and what it promises.

    Attributes:
        name: On the command line.
        what: What is parsed.
        look: Hands bytes to it; says whether they were taken, and raises what was found.
        seeds: Bytes to begin with.
        longest: More bytes than this find nothing that fewer do not.
    """

    name: str
    what: str
    look: Callable[[bytes], bool]
    seeds: Callable[[], Sequence[bytes]]
    longest: int = 4096


def _demand(fine: object, sentence: str) -> None:
    if not fine:
        raise Wrong(sentence)


# ── documents of tasks ────────────────────────────────────────────────────────────────────────────────────────


def _task(data: bytes) -> bool:
    try:
        task = load(data)
    except InvalidDocument:
        return False
    written = dump(task)
    _demand(load(written) == task, "a document that was written says something else")
    _demand(dump(load(written)) == written, "a document changes when it is written again")
    return True


def _tasks() -> Sequence[bytes]:
    from .stores import upload_task

    plain = upload_task()
    document = orjson.loads(dump(plain))
    old = {
        "id": "one", "filesize": 10, "offset": 10, "contenttype": "video", "mimetype": "video/mp4",
        "sourcefilename": "a.mp4", "sourcechecksum": "0" * 40, "destinationpath": "/srv/x", "videofile": None,
        "state": "preprocessed", "annotations": {"name": "A"}, "artworkfile": None,
    }  # fmt: skip
    plan = {
        "files": [{"root": "music", "path": "a/b.mp4", "size": 1, "sha256": "0" * 64}], "artwork": [],
        "directories": ["music/a"], "entry": {"x": 1}, "problems": [],
    }  # fmt: skip
    history = [{"sequence": 1, "time": 1.0, "trigger": "create", "source": "waitforchunk", "dest": "waitforchunk"}]
    step = {"trigger": "integrate", "token": "t", "attempt": 1, "started": 1.0}
    more = {"plan": plan, "history": history, "step": step, "wanted": "integrate", "state": "preprocessed"}
    return [dump(plain), orjson.dumps(old), orjson.dumps({**document, **more}), orjson.dumps({**document, "schema": 1})]


# ── packets and frames ────────────────────────────────────────────────────────────────────────────────────────

_MUSICDB: Final = musicdb.Limits(max_chunk=256, max_annotations=512, max_values=200)
_FRAMES: Final = frames.Limits(max_chunk=256, max_annotations=512, max_values=200)


def _packet(data: bytes) -> bool:
    try:
        packet = musicdb.parse_packet(data, _MUSICDB)
    except messages.MessageError:
        return False
    result = musicdb.answer(packet, {"a": 1})
    if result is not None:
        said = orjson.loads(result.payload)
        _demand(said["arguments"] == {"a": 1} and said["pass"] == packet.pass_, "an answer says something else")
    try:
        call = musicdb.parse_call(packet, _MUSICDB)
    except (messages.MessageError, TooLarge, Refused):
        return False
    if isinstance(call, musicdb.UploadChunk):
        _demand(len(call.data) <= _MUSICDB.max_chunk, "a chunk is larger than allowed")
    return True


def _packets() -> Sequence[bytes]:
    calls: Mapping[str, Mapping[str, Any]] = {
        "InitiateUpload": {
            "uploadid": "one", "mimetype": "video/mp4", "contenttype": "video", "filesize": 4, "checksum": "0" * 40,
            "filename": "a.mp4",
        },
        "UploadChunk": {"uploadid": "one", "chunkdata": "00ff"}, "GetUploads": {},
        "AnnotateUpload": {"uploadid": "one", "name": "A", "more": [1, {"a": None}]},
        "IntegrateUpload": {"uploadid": "one", "triggerimport": True}, "RemoveUpload": {"uploadid": "one"},
    }  # fmt: skip
    return [
        orjson.dumps({"method": method, "fncname": name, "fncsig": "s", "arguments": a, "pass": None, "key": "k"})
        for (name, a), method in zip(calls.items(), ("call", "request", "broadcast") * 2, strict=True)
    ]


def _frame(data: bytes) -> bool:
    """The first byte says which kind."""
    kind, data = data[:1], data[1:]
    if kind < b"@":
        try:
            chunk = frames.parse_chunk(data, _FRAMES)
        except (messages.MessageError, TooLarge):
            return False
        _demand(0 < len(chunk.data) <= _FRAMES.max_chunk, "a chunk is empty, or larger than allowed")
        _demand(frames.encode_chunk(chunk.handle, chunk.offset, chunk.data) == data, "a chunk says something else")
        return True
    parse: Callable[[bytes], Any] = frames.parse_server
    if kind < b"\x80":
        parse = lambda text: frames.parse_client(text, _FRAMES)  # noqa: E731
    try:
        message = parse(data)
    except messages.MessageError as error:
        _demand(error.request is None or error.request >= 0, "an error names no request")
        json.loads(frames.encode(frames.error_of(error)).payload)
        return False
    # Floats apart: JSON says them as it likes.
    _demand(parse(frames.encode(message).payload) == message, "a message says something else")
    return True


def _frames() -> Sequence[bytes]:
    names: Mapping[str, JSON] = {"name": "A", "more": [1, {"a": None}]}
    said: Sequence[frames.ClientMessage] = [
        frames.Hello(version=1, key="k", window=4),
        frames.Initiate(n=1, uploadid="one", filename="a.mp4", contenttype="video", filesize=3, annotations=names),
        frames.Declare(n=2, uploadid="one", sha1="0" * 40),
        frames.Annotate(n=3, uploadid="one", annotations=names),
        frames.Integrate(n=4, uploadid="one", trigger_import=True),
        frames.ListTasks(n=5, after="one", limit=10),
    ]
    heard: Sequence[frames.ServerMessage] = [
        frames.Ask(uploadid="one", handle=1, offset=0, length=1),
        frames.Stop(handle=1, uploadid="one", code="paused", sentence="Wait."),
        frames.Told(kind="StateUpdate", uploadid="one", state="remove", offset=1, task={"id": "one"}),
        frames.Tasks(n=5, tasks=[{"id": "one"}], more=True),
        frames.Error(n=1, code="locked", sentence="Later.", expected=7),
    ]
    return [
        b"0" + frames.encode_chunk(7, 100, b"bytes"),
        *(b"A" + frames.encode(one).payload for one in said),
        *(b"\xc0" + frames.encode(one).payload for one in heard),
    ]


# ── header fields ─────────────────────────────────────────────────────────────────────────────────────────────

_TUS: Final = tus.Limits(max_size=1 << 40, extensions=frozenset(tus.Extension), max_keys=10, max_parts=10)
_DRAFT: Final = resumable.Limits(max_size=1 << 40, min_size=1, max_append_size=1 << 20, min_append_size=2)


def _headers(data: bytes) -> tuple[str, str | None, dict[str, str]] | None:
    """A line with method and id, and lines with fields."""
    first, *lines = data.split(b"\n")
    method, _, uploadid = first.decode("latin-1").partition(" ")
    pairs = [line.partition(b":")[::2] for line in lines]
    try:
        return method, uploadid or None, fields.collect(pairs)
    except fields.InvalidField:
        return None


def _tus(data: bytes) -> bool:
    found = _headers(data)
    if found is None:
        return False
    method, uploadid, headers = found
    tus.is_tus(method, headers)
    try:
        request = tus.parse_request(method, headers, uploadid, _TUS, prefixes=("/files/", "https://a.example/files/"))
    except tus.TusError as error:
        tus.refused(error, offset=1, expires=1e9)
        return False
    if not isinstance(request, tus.Create):
        return True
    _demand(len(request.metadata.values) <= _TUS.max_keys, "more keys than allowed")
    _demand(request.metadata == tus.parse_metadata(request.metadata.raw, _TUS), "metadata say something else")
    tus.head(offset=0, length=request.length, metadata=request.metadata.raw)
    try:
        tus.offer_for(request, "one")
    except (tus.TusError, Refused) as error:
        tus.refused(error)
    return True


def _tus_seeds() -> Sequence[bytes]:
    version = b"\nTus-Resumable: 1.0.0"
    return [
        b"OPTIONS " + version,
        b"POST " + version + b"\nUpload-Length: 100\nUpload-Metadata: filename YS5tcDQ=,sha1 MDA=,is_confidential",
        b"POST " + version + b"\nUpload-Defer-Length: 1\nUpload-Concat: partial\nContent-Length: 0",
        b"POST " + version + b"\nUpload-Concat: final;/files/a https://a.example/files/b",
        b"POST " + version + b"\nUpload-Length: 3\nContent-Type: application/offset+octet-stream\nContent-Length: 3"
        b"\nUpload-Checksum: sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
        b"HEAD one" + version,
        b"PATCH one" + version + b"\nUpload-Offset: 5\nContent-Type: application/offset+octet-stream"
        b"\nContent-Length: 10\nUpload-Length: 50\nTransfer-Encoding: chunked\nTrailer: Upload-Checksum",
        b"POST one" + version + b"\nX-HTTP-Method-Override: DELETE",
    ]


def _draft(data: bytes) -> bool:
    found = _headers(data)
    if found is None:
        return False
    method, uploadid, headers = found
    resumable.is_resumable(method, headers)
    try:
        request = resumable.parse_request(method, headers, uploadid, _DRAFT)
    except resumable.ResumableError as error:
        resumable.refused(error, _DRAFT, resumable.NEWEST, provided_offset=1, offset=1)
        request = None
    if isinstance(request, resumable.Create):
        try:
            resumable.offer_for(request, "one")
        except Refused as error:
            resumable.refused(error, _DRAFT, request.version)
    for name, text in headers.items():
        with suppress(fields.InvalidField):
            members = fields.structured_dictionary(name, text)
            plain = {k: v for k, v in members.items() if isinstance(v, int | bool | bytes)}
            again = fields.structured_dictionary(name, fields.to_dictionary(plain))
            _demand(again == plain, f"{plain} is {again} when it is written and read again")
        with suppress(fields.InvalidField):
            fields.content_disposition(text)
        with suppress(fields.InvalidField):
            fields.media_type(text)
    return request is not None


def _draft_seeds() -> Sequence[bytes]:
    version = b"\nUpload-Draft-Interop-Version: 8"
    digest = b"sha-256=:" + b"A" * 43 + b"=:, sha=:2jmj7l5rSw0yVb/vlWAYkK/YBwk=:"
    return [
        b"OPTIONS " + version,
        b"POST " + version + b"\nUpload-Complete: ?1\nContent-Length: 10\nContent-Type: video/mp4; codecs=\"a\""
        b"\nContent-Disposition: attachment; filename=\"a b.mp4\"; filename*=UTF-8''%e2%82%ac.mp4",
        b"POST \nUpload-Draft-Interop-Version: 6\nUpload-Complete: ?0\nUpload-Length: 100\nRepr-Digest: " + digest,
        b"PUT " + version + b"\nUpload-Complete: ?0\nUpload-Length: 100\nWant-Repr-Digest: sha-256=9, sha-512=1",
        b"HEAD one" + version,
        b"PATCH one" + version + b"\nUpload-Offset: 5\nUpload-Complete: ?1\nContent-Length: 3"
        b"\nContent-Type: application/partial-upload\nContent-Digest: " + digest,
        b"DELETE one" + version,
        b"GET one\nUpload-Draft-Interop-Version: 3\nx: a=(1 2.5 tok \"s\");p=?0, b;q=:YQ==:, c=-12, d=\"e\"",
    ]  # fmt: skip


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _Counted(Input):
    """Bytes in memory as the child sees a file; it counts what is asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(-1, len(data))
        self._data = data
        self.calls = self.count = 0

    def read(self, count: int = -1) -> bytes:
        """See `Input.read`."""
        data = self._data[self.position :] if count < 0 else self._data[self.position : self.position + count]
        self.position += len(data)
        self.calls += 1
        self.count += len(data)
        return data

    def check(self) -> None:
        """Not more than such a file can be worth."""
        _demand(self.calls <= 40_000, f"{self.calls:,} reads of {self.size:,} bytes")
        _demand(self.count <= (1 << 22) + 64 * self.size, f"{self.count:,} bytes read of {self.size:,}")


_LIMITS: Final = {
    "members": 40, "bytes": 1 << 20, "member_bytes": 1 << 19, "ratio": 200, "ratio_from": 1 << 16, "names": 1 << 13,
    "name": 512,
}  # fmt: skip
_ASKED: Final[Mapping[str, Any]] = {"limits": _LIMITS, "heartbeat": 1 << 16}


def _archive(data: bytes) -> bool:
    source = _Counted(data)
    entries: list[tuple[str, int, str]] = []
    try:
        for frame in archives_.list_archive(source, _ASKED, {}):
            assert isinstance(frame, dict)
            json.dumps(frame)
            entries += frame.get("entries", ())
    except RejectedError as error:
        json.dumps(error.numbers)
        return False
    finally:
        source.check()
    _demand(len(entries) <= _LIMITS["members"], "more entries than allowed")
    indices = [index for index, (kind, _, _) in enumerate(entries) if kind == "file"]
    source = _Counted(data)
    total, whole = 0, 0
    try:
        for frame in archives_.extract_archive(source, {**_ASKED, "indices": indices, "frame": 1 << 14}, {}):
            if isinstance(frame, bytes):
                _demand(len(frame) <= 1 << 14, "a frame is larger than asked for")
                total += len(frame)
            elif "member" in frame:
                _demand(frame["size"] == entries[frame["member"]][1], "a file has another size than in the list")
            elif "whole" in frame:
                whole += entries[frame["whole"]][1]
                _demand(total == whole, f"{total:,} bytes came, {whole:,} were said")
    except RejectedError as error:
        _demand(error.code != "archive_changed", "what was in the list is not there")
    finally:
        source.check()
    _demand(total <= _LIMITS["bytes"], "more bytes than allowed")
    return True


def _archives() -> Sequence[bytes]:
    files = {"CD1/01 A.mp3": b"a" * 300, "cover.jpg": bytes(range(256)), "CD1/": b""}
    entry = archives.entry
    return [
        archives.zip_of([entry("a", b"one"), entry("b/c", b"two" * 50, 8), entry("d", b"three" * 9, 12)]),
        archives.described_zip(dict(list(files.items())[:2]), 8),
        archives.wide_zip({"a": b"one"}),
        *(archives.tar_of(dict(list(files.items())[:2]), packing) for packing in ("", "gz", "bz2", "xz")),
        archives.tar_with([archives.pax_header({"path": b"long/name", "size": b"3"}), (_header("a"), b"abc")]),
    ]


def _header(name: str) -> Any:
    import tarfile

    return tarfile.TarInfo(name)


def _tag(data: bytes) -> bool:
    source = _Counted(data)
    try:
        layout = sound.examine(source)
        said = tags.said(layout.tags)
    except RejectedError:
        return False
    finally:
        source.check()
    json.dumps(said)
    for name, value in said.items():
        fine = value is True or (isinstance(value, str) and len(value) <= 1000) or 0 < value < 10_000
        _demand(fine, f"{name} is {value!r}")
    for picture in layout.tags.pictures:
        _demand(picture.data.size <= tags.PICTURE, "a picture is larger than allowed")
    return True


_LOSSY: Final[Sequence[sounds.Kind]] = ("mp3", "ogg", "opus", "m4a")
_WHOLE: Final[Sequence[sounds.Kind]] = ("flac", "wav", "aiff")


@cache
def _sounds() -> Sequence[bytes]:
    """Short ones: what is behind the tags is of no interest here."""
    said = {"title": "T", "artist": "A", "album": "L", "date": "1999", "track": "3/9", "disc": "1/2", "genre": "G"}
    cover = b"\xff\xd8\xff" + bytes(40)
    text = [sounds.id3_text("TIT2", "T"), sounds.id3_text("TPE1", "A"), sounds.id3_text("TRCK", "1/2")]
    lossy = [sounds.song(kind, 0.1, **said) for kind in _LOSSY]
    whole = [sounds.song(kind, 0.1, rate=8_000, **said) for kind in _WHOLE]
    short = b"\xff\xfb\x90\x00" + bytes(413)
    old = b"ID3\2\0\0\0\0\0\x0eTT2\0\0\3\0AB" + bytes(5)
    ape = b"APETAGEX\xd0\x07\0\0\x2e\0\0\0\1\0\0\0\0\0\0\0" + bytes(8)
    return [
        *lossy,
        *whole,
        *(sounds.id3([*text, sounds.id3_picture(cover)], version) + 2 * short for version in (3, 4)),
        old + 2 * short + b"TAG" + b"Title".ljust(125, b"\0"),
        2 * short + b"\1\0\0\0\0\0\0\0Title\0A" + ape,
    ]


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _safe(part: str) -> None:
    """What is demanded of one component of a path."""
    _demand(0 < len(part.encode()) <= 255, f"{part!r} is empty or too long")
    _demand(not set(part) & set("/\\\0\n\r\t"), f"{part!r} has what no name may have")
    _demand(part[0] not in ".- " and part[-1] not in ". ", f"{part!r} begins or ends badly")
    _demand(component(part) == part, f"{part!r} is no component of itself, but {component(part)!r}")


def _name(data: bytes) -> bool:
    """A line with a template, a line with an extension, and a text."""
    template, _, rest = data.decode("utf-8", "surrogateescape").partition("\n")
    extension, _, text = rest.partition("\n")
    with suppress(ContentRejected):
        _safe(component(text))
    with suppress(ContentRejected):
        name = component(text, extension=extension, max_bytes=64)
        _demand(len(name.encode()) <= 64, "too long")
        _demand(not extension or name.endswith(f".{extension}"), "the extension is gone")
    accepted = False
    values = {name: text for name in SONG_FIELDS}
    values["track"] = text[:4]
    with suppress(ConfigurationError, ContentRejected):
        parsed = Template.parse(template, fields=SONG_FIELDS)
        _demand(Template.parse(str(parsed), fields=SONG_FIELDS) == parsed, "a template says something else")
        if parsed.problems(values):
            _refuses(parsed, values)
        else:
            for part in parsed.path(values, "mp3").split("/"):
                _safe(part)
            for part in parsed.path(values, "mp3", there=(text,)).split("/"):
                _demand(part == text or component(part) == part, f"{part!r} is neither there nor a component")
            accepted = True
    if match_key(match_key(text)) == match_key(text):
        _demand(similar_key(match_key(text)) == similar_key(text), "one name, and two similar keys")
    _demand(all(0 < len(word) <= 64 for word in search_words(text)), "a word is empty or too long")
    guess_song(text)
    guess_album(text)
    return accepted


def _refuses(template: Template, values: Mapping[str, str]) -> None:
    """What has problems has no path."""
    try:
        template.path(values, "mp3")
    except ContentRejected:
        return
    raise Wrong(f"{template} has problems, and a path")


def _names() -> Sequence[bytes]:
    texts = [
        "01 - Björk – Jóga (Live) [1997]", "con.txt", "…/../a", "\u202eabc\u200b", "CD 1/03_the_prodigy-breathe.mp3",
        "e\u0301" * 200, "한글 と ภาษา", "AC/DC", "-. ", "Track 3.wav", "\udc80x", "3",
    ]  # fmt: skip
    templates = [*(SCHEMES[name].song.text for name in sorted(SCHEMES)), "[{artist}/]{title}", "{", "a//b"]
    return [
        f"{templates[n % len(templates)]}\nmp3\n{text}".encode("utf-8", "surrogateescape")
        for n, text in enumerate(texts)
    ]


TARGETS: Final[Sequence[Target]] = (
    Target("tasks", "documents of tasks", _task, _tasks),
    Target("musicdb", "packets of MusicDB's web client", _packet, _packets, 2048),
    Target("frames", "text and binary frames of our own socket", _frame, _frames, 2048),
    Target("tus", "header fields of tus", _tus, _tus_seeds, 2048),
    Target("draft", "header fields of the resumable uploads of HTTP", _draft, _draft_seeds, 2048),
    Target("archives", "zip and tar archives, in the decoder's child", _archive, _archives, 8192),
    Target("tags", "sound files and their tags, in the decoder's child", _tag, _sounds, 16_384),
    Target("names", "names of files, templates of paths", _name, _names, 1024),
)
"""Everything that parses what a stranger sent."""


# ── without a fuzzer ──────────────────────────────────────────────────────────────────────────────────────────

_ODD: Final = (b"\0", b"\xff", b"\x7f", b"\x80", b"\n", b"{", b"]", b'"', b",", b"-1", b"null", b"1e999", b"\xff" * 4,
               b"\0" * 4, b"9" * 20, b"\\ud800", b"\xe2\x80\xae")  # fmt: skip


def mutations(target: Target, count: int, seed: int = 0) -> Iterator[bytes]:
    """Variations of a target's seeds, after these themselves."""
    seeds = target.seeds()
    yield from seeds
    dice = random.Random(seed)  # noqa: S311  # not for secrets
    for _ in range(count):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 2, 4, 8))):
            _mutate(data, dice, seeds)
        yield bytes(data[: target.longest])


def _mutate(data: bytearray, dice: random.Random, seeds: Sequence[bytes]) -> None:
    at = dice.randrange(len(data) + 1)
    kind = dice.randrange(8)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << dice.randrange(8)
    elif kind == 1 and data:
        data[at % len(data)] = dice.randrange(256)
    elif kind == 2:
        del data[at : at + dice.choice((1, 2, 4, 30, 500))]
    elif kind == 3:
        data[at:at] = dice.choice(_ODD)
    elif kind == 4:
        odd = dice.choice(_ODD)
        data[at : at + len(odd)] = odd
    elif kind == 5:
        del data[at:]
    elif kind == 6:
        data[at:at] = data[max(0, at - 40) : at]
    else:
        other = dice.choice(seeds)
        data[at:] = other[dice.randrange(len(other) + 1) :]
