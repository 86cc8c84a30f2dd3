"""Archives, sound and hostile.

Those that are refused cost a child each, so most of them are read in this process, by the child's own code.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st

from stagedoor.content.decoding import SENTENCES, Decoder, DecoderLimits
from stagedoor.content.decoding import pool as module
from stagedoor.content.decoding.archive import (
    ArchiveFacts,
    ArchiveLimits,
    Member,
    extract,
    is_archive,
    list_archive,
)
from stagedoor.content.decoding.child import archive as child
from stagedoor.content.decoding.child.common import Input, RejectedError
from stagedoor.errors import ContentRejected
from stagedoor.ports import Source
from stagedoor.testing import archives
from stagedoor.testing.archives import Entry, entry, tar_with, zip_of

MISBEHAVING = Path(__file__).with_name("misbehaving_child.py")
PATIENT = DecoderLimits(seconds=300, cpu_seconds=300, start_seconds=300)
CODES = {code for code in SENTENCES if code.startswith("archive_")} | {"unsupported_archive"}

NOISE = random.Random(0).randbytes(700_000)
FILES = {
    "Album/01 Ä.mp3": NOISE,
    "Album/02 empty.mp3": b"",
    "Album/03 silence.mp3": bytes(600_000),
    "Album/cover.jpg": NOISE[:262_144],  # one full frame
}
SMALL = {"Album/1.mp3": NOISE[:3000], "Album/2.mp3": b"tone " * 900, "Album/3.jpg": NOISE[5000:7000]}
PACKED = [
    pytest.param("zip", lambda files: archives.zips(files), id="stored zip"),
    pytest.param("zip", lambda files: archives.zips(files, zipfile.ZIP_DEFLATED), id="deflated zip"),
    pytest.param("zip", lambda files: archives.zips(files, zipfile.ZIP_BZIP2), id="zip with bzip2"),
    pytest.param("zip", lambda files: archives.described_zip(files), id="stored zip from a pipe"),
    pytest.param("zip", lambda files: archives.described_zip(files, 8), id="deflated zip from a pipe"),
    pytest.param("zip", archives.wide_zip, id="zip64"),
    pytest.param("tar", archives.tar_of, id="tar"),
    pytest.param("tar", lambda files: archives.tar_of(files, form=tarfile.GNU_FORMAT), id="GNU tar"),
    pytest.param("tar", lambda files: archives.tar_of(files, form=tarfile.USTAR_FORMAT), id="ustar"),
    pytest.param("tar.gz", lambda files: archives.tar_of(files, "gz"), id="tar.gz"),
    pytest.param("tar.bz2", lambda files: archives.tar_of(files, "bz2"), id="tar.bz2"),
    pytest.param("tar.xz", lambda files: archives.tar_of(files, "xz"), id="tar.xz"),
]


def of(data: bytes) -> Source:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return opened


def on_disk(path: Path) -> Source:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        with open(path, "rb", buffering=0) as file:
            yield file

    return opened


class Direct(Decoder):
    """Runs the child's operations in this process. What they raise, but for verdicts, comes through."""

    @contextlib.contextmanager
    def stream(
        self, operation: str, source: Source, arguments: Mapping[str, Any] | None = None
    ) -> Iterator[Iterator[Mapping[str, Any] | bytes]]:
        work = {"list_archive": child.list_archive, "extract_archive": child.extract_archive}[operation]
        with source() as file, module._descriptor(file) as (fd, size):
            yield self._judge(work(Input(fd, size), json.loads(json.dumps(arguments)), {}))

    def _judge(self, frames: Iterator[Any]) -> Iterator[Mapping[str, Any] | bytes]:
        try:
            for frame in frames:
                yield frame if isinstance(frame, bytes) else json.loads(json.dumps(frame))
        except RejectedError as rejected:
            raise self._rejected(rejected.code, rejected.numbers) from None


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(limits=PATIENT, processes=1) as made:
        yield made


@pytest.fixture(scope="module")
def direct() -> Iterator[Decoder]:
    with Direct() as made:
        yield made


def contents(
    decoder: Decoder,
    data: bytes,
    facts: ArchiveFacts | str,
    indices: Iterable[int],
    limits: ArchiveLimits | None = None,
) -> dict[str, bytes]:
    with extract(decoder, of(data), facts, indices, limits) as members:
        return {member.name: stream.read() for member, stream in members}


def everything(decoder: Decoder, data: bytes) -> dict[str, bytes]:
    facts = list_archive(decoder, of(data))
    return contents(decoder, data, facts, [member.index for member in facts.members])


def code_of(decoder: Decoder, data: bytes, limits: ArchiveLimits | None = None) -> str:
    with pytest.raises(ContentRejected) as caught:
        list_archive(decoder, of(data), limits)
    assert caught.value.sentence.endswith(".")
    assert "{" not in caught.value.sentence
    return caught.value.code


def names(decoder: Decoder, data: bytes) -> list[str]:
    return [member.name for member in list_archive(decoder, of(data)).members]


# ── what is taken ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("kind", "packed"), PACKED)
def test_all_there(decoder: Decoder, kind: str, packed: Any) -> None:
    data = packed(FILES)
    facts = list_archive(decoder, of(data))
    assert facts == ArchiveFacts(
        kind=kind,
        members=tuple(Member(index, name, len(content)) for index, (name, content) in enumerate(FILES.items())),
    )
    assert contents(decoder, data, facts, range(4)) == FILES
    assert contents(decoder, data, kind, range(4)) == FILES
    assert len(decoder.pids()) == 1  # the same for all: nothing was wrong with it


@pytest.mark.parametrize(("kind", "packed"), PACKED)
def test_some_in_the_order_of_the_archive(direct: Decoder, kind: str, packed: Any) -> None:
    data = packed(FILES)
    facts = list_archive(direct, of(data))
    assert list(contents(direct, data, facts, [3, 0, 3])) == ["Album/01 Ä.mp3", "Album/cover.jpg"]
    assert contents(direct, data, facts, []) == {}
    with pytest.raises(ValueError, match=r"\[7\]"):
        contents(direct, data, facts, [0, 7])


@pytest.mark.parametrize(("kind", "packed"), PACKED)
def test_archives_are_known_by_their_first_bytes(kind: str, packed: Any) -> None:
    assert is_archive(packed(FILES)[:512])


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff\xe0" + archives.zips(FILES), b"ID3" + bytes(600), b"MZ" + archives.zips(FILES), b"PK"],
    ids=["nothing", "a picture with a zip behind", "a song", "a program that unpacks itself", "initials"],
)
def test_what_is_no_archive(direct: Decoder, data: bytes) -> None:
    assert not is_archive(data)
    assert code_of(direct, data) == "unsupported_archive"


@pytest.mark.parametrize(
    "data",
    [
        b"7z\xbc\xaf\x27\x1c\0\4" + bytes(600),
        b"Rar!\x1a\x07\x01\0" + bytes(600),
        b"\x28\xb5\x2f\xfd" + bytes(600),
        b"PK\x07\x08" + archives.zips(FILES),
        zip_of([entry("a", b"1")], end={"disk": 1}),
        zip_of([entry("a", b"1")], end={"here": 0}),
        zip_of([evolve(entry("a", b"1"), central={"disk": 1})]),
        zip_of([entry("a", b"1", 9)]),
        zip_of([entry("a", b"1", 14)]),
        archives.pack(NOISE, "gz"),
        archives.pack(b"short", "xz"),
    ],
    ids=[
        "7z", "RAR", "Zstandard", "first of several parts", "another disk", "entries elsewhere", "an entry elsewhere",
        "Deflate64", "LZMA", "gzip of something else", "xz of something short",
    ],
)  # fmt: skip
def test_archives_of_other_kinds(direct: Decoder, data: bytes) -> None:
    assert is_archive(data)
    assert code_of(direct, data) == "unsupported_archive"


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar")
@pytest.mark.parametrize("options", ["--format=gnu", "--format=pax", "--format=ustar"])
@pytest.mark.parametrize(("packer", "kind"), [("gzip", "tar.gz"), ("cat", "tar")])
def test_what_another_program_wrote(direct: Decoder, tmp_path: Path, options: str, packer: str, kind: str) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    os.symlink("cover.jpg", tmp_path / "Album/link.jpg")
    os.link(tmp_path / "Album/cover.jpg", tmp_path / "Album/other.jpg")
    os.mkfifo(tmp_path / "Album/pipe")
    command = f"tar {options} --sort=name -c Album | {packer}"
    data = subprocess.run(["sh", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE, check=True).stdout
    facts = list_archive(direct, of(data))
    assert (facts.kind, facts.links, facts.devices) == (kind, 2, 1)
    assert contents(direct, data, facts, [member.index for member in facts.members]) == FILES


def test_streams_one_after_the_other(direct: Decoder) -> None:
    tape = archives.tar_of(FILES)
    packings: tuple[archives.Packing, ...] = ("gz", "bz2", "xz")
    for packing in packings:
        pieces = [archives.pack(tape[at : at + 500_000], packing) for at in range(0, len(tape), 500_000)]
        assert everything(direct, b"".join(pieces)) == FILES
        assert everything(direct, b"".join(pieces) + bytes(100_000)) == FILES
        assert everything(direct, bytes(100_000).join(pieces)) == FILES
        assert code_of(direct, b"".join(pieces) + bytes(512) + b"something" * 9) == "archive_unreadable"


@pytest.mark.parametrize("size", [(256 << 10) + more for more in (-1, 0, 1, 100, 1000, 256 << 10)])
@pytest.mark.parametrize("method", [0, 8, 12])
def test_around_the_size_of_a_frame(direct: Decoder, size: int, method: int) -> None:
    """What packs so well is still to come out when all of it has gone in."""
    assert everything(direct, archives.zips({"a": bytes(size)}, method)) == {"a": bytes(size)}


def test_gaps_comments_and_directories_of_a_zip(direct: Decoder) -> None:
    directory = Entry(name=b"Album/", mode=0o40755, described=True)
    files = [entry(name, content, 8) for name, content in FILES.items()]
    data = zip_of([directory, *files], comment=b"PK\x05\x06 is how it ends")
    assert everything(direct, data) == FILES
    # What is in nobody's range is left alone, as old versions of a file after an update.
    gap = zip_of([entry("old", b"old", 0)])[: 30 + 3 + 3]
    assert everything(direct, zip_of([entry("a.mp3", b"new")], front=gap)) == {"a.mp3": b"new"}


@pytest.mark.parametrize("signature", [b"PK\x07\x08", b""], ids=["signed", "unsigned"])
@pytest.mark.parametrize("form", ["<III", "<IQQ"], ids=["4", "8"])
def test_sizes_behind_the_bytes(direct: Decoder, signature: bytes, form: str) -> None:
    import struct

    content = b"music"
    behind = signature + struct.pack(form, zlib.crc32(content), 5, 5)
    silent = {"crc": 0, "packed": 0, "size": 0}
    told = {"packed": 5, "size": 5, "crc": zlib.crc32(content)}
    one = Entry(name=b"a.mp3", content=content, flags=8, packed=content + behind, local=silent, central=told)
    assert everything(direct, zip_of([one])) == {"a.mp3": content}
    wrong = evolve(one, packed=content + signature + struct.pack(form, zlib.crc32(content), 5, 6))
    assert code_of(direct, zip_of([wrong])) == "archive_unreadable"
    missing = evolve(one, packed=content)
    assert code_of(direct, zip_of([missing])) == "archive_unreadable"


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────

SONG = b"not empty"


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("../../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("//server/share/x", "server/share/x"),
        ("C:\\Windows\\x.dll", "Windows/x.dll"),
        ("a\\..\\..\\b", "a/b"),
        ("a/./b/. ./.../c", "a/b/c"),
        ("a\0b.mp3", "ab.mp3"),
        ("a\r\nb\x1b[31m\u202egpj.exe", "a b[31mgpj.exe"),
        ("..", "unnamed"),
        ("/", None),
        ("", "unnamed"),
        ("Bjo\u0308rk/x", "Björk/x"),
        ("...And Justice for All/One.mp3", "...And Justice for All/One.mp3"),
        (".38 Special/x.mp3", ".38 Special/x.mp3"),
        ("a" * 3000 + ".mp3", "a" * 3000 + ".mp3"),
    ],
)
def test_names_are_for_people(direct: Decoder, stored: str, name: str | None) -> None:
    other = entry("other", SONG)
    expected = [name, "other"] if name is not None else ["other"]
    zipped = zip_of([Entry(name=stored.encode(), content=SONG), other])
    assert names(direct, zipped) == expected
    if "\0" in stored or not stored:
        return  # tar has none of these
    info = tarfile.TarInfo("x" if stored == "/" else stored)
    taped = tar_with(
        [archives.pax_header({"path": stored.encode()}), (info, SONG if name else b""), (_info("other"), SONG)]
    )
    assert names(direct, taped) == expected


def _info(name: str, kind: bytes = tarfile.REGTYPE, **values: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in values.items():
        setattr(info, key, value)
    return info


def test_names_in_other_encodings(direct: Decoder) -> None:
    import struct

    def named(*stored: bytes) -> list[str]:
        return names(direct, zip_of([Entry(name=name, content=SONG) for name in stored]))

    assert named("Motörhead.mp3".encode("cp437"), b"b") == ["Motörhead.mp3", "b"]
    assert named("Château élève Âge.mp3".encode("cp437", "replace")) == ["Château élève ?ge.mp3"]
    assert named("Motörhead.mp3".encode()) == ["Motörhead.mp3"]
    assert named("東京/さくら.mp3".encode("cp932"), "東京/雨.mp3".encode("cp932")) == ["東京/さくら.mp3", "東京/雨.mp3"]
    assert names(direct, zip_of([Entry(name=b"\xe1.mp3", content=SONG, flags=0x800)])) == ["ß.mp3"]
    better = "Ω.mp3".encode()
    for crc, expected in ((zlib.crc32(b"?.mp3"), "Ω.mp3"), (1, "?.mp3")):
        extra = struct.pack("<2HBI", 0x7075, 5 + len(better), 1, crc) + better
        assert names(direct, zip_of([Entry(name=b"?.mp3", content=SONG, extra=extra)])) == [expected]
    latin = tar_with([(_named(b"Mot\xf6rhead.mp3"), SONG)])
    assert names(direct, latin) == ["Motörhead.mp3"]


def _named(name: bytes) -> bytes:
    """A header with bytes for a name that are no UTF-8."""
    info = tarfile.TarInfo(name.decode("latin-1"))
    info.size = len(SONG)
    return info.tobuf(tarfile.USTAR_FORMAT, "latin-1", "strict")


@given(st.text())
def test_any_name_becomes_harmless(stored: str) -> None:
    from stagedoor.content.decoding.archive import _name

    name = _name(stored)
    assert name
    assert name == _name(name) or name.split("/")[0][1:] == ":"
    assert name.isprintable()
    assert not {"", ".", ".."} & set(name.split("/"))
    assert "\\" not in name


@pytest.mark.parametrize(("kind", "packed"), [PACKED[0].values, PACKED[6].values], ids=["zip", "tar"])
def test_what_systems_leave_behind(direct: Decoder, kind: str, packed: Any) -> None:
    junk = [
        "__MACOSX/Album/._01.mp3", "Album/.DS_Store", "Album/Thumbs.db", "Album/desktop.ini", "Album/._01.mp3",
        ".hidden", "Album/@eaDir/01.mp3", "Icon\r", ".git/config",
    ]  # fmt: skip
    facts = list_archive(direct, of(packed({**dict.fromkeys(junk, b"x"), "Album/01.mp3": SONG})))
    assert facts.ignored == tuple(name.strip() for name in junk)
    assert facts.members == (Member(len(junk), "Album/01.mp3", len(SONG)),)
    assert code_of(direct, packed(dict.fromkeys(junk, b"x"))) == "archive_empty"


@pytest.mark.parametrize(("kind", "packed"), [param.values for param in PACKED], ids=[str(p.id) for p in PACKED])
def test_archives_in_archives_are_not_opened(direct: Decoder, kind: str, packed: Any) -> None:
    inner = {f"{number}.mp3": packed(SMALL) for number in range(3)}  # by their bytes, not their names
    facts = list_archive(direct, of(packed({**inner, "song.zip": SONG})))
    assert facts.nested == ("0.mp3", "1.mp3", "2.mp3")
    assert facts.members == (Member(3, "song.zip", len(SONG)),)
    assert code_of(direct, packed(inner)) == "archive_empty"


# ── links and devices ─────────────────────────────────────────────────────────────────────────────────────────


def test_links_and_devices_of_a_zip(direct: Decoder) -> None:
    special = [0o120777, 0o020666, 0o060666, 0o010666, 0o140777]
    entries = [Entry(name=b"%d" % mode, content=b"/etc/passwd", mode=mode) for mode in special]
    facts = list_archive(direct, of(zip_of([*entries, entry("a.mp3", SONG)])))
    assert facts == ArchiveFacts(kind="zip", members=(Member(5, "a.mp3", 9),), links=1, devices=4)
    assert code_of(direct, zip_of(entries)) == "archive_empty"
    with pytest.raises(ContentRejected) as caught:
        contents(direct, zip_of(entries), "zip", [0])
    assert caught.value.code == "archive_changed"


def test_links_and_devices_of_a_tar(direct: Decoder) -> None:
    entries = [
        (_info("hard", tarfile.LNKTYPE, linkname="a.mp3"), b""),
        (_info("soft", tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
        (_info("through/it", tarfile.SYMTYPE, linkname="../.."), b""),
        (_info("null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        (_info("disk", tarfile.BLKTYPE, devmajor=8), b""),
        (_info("pipe", tarfile.FIFOTYPE), b""),
        (_info("Album", tarfile.DIRTYPE), b""),
    ]
    for size in (0, 512):  # of the file that it leads to: no bytes follow
        entries[0][0].size = size
        facts = list_archive(direct, of(tar_with([*entries, (_info("a.mp3"), SONG)])))
        assert facts == ArchiveFacts(kind="tar", members=(Member(7, "a.mp3", 9),), links=3, devices=3)
    assert code_of(direct, tar_with(entries)) == "archive_empty"
    with pytest.raises(ContentRejected) as caught:
        contents(direct, tar_with(entries), "tar", [1])
    assert caught.value.code == "archive_changed"


# ── hostile zips ──────────────────────────────────────────────────────────────────────────────────────────────

A, B = entry("a.mp3", b"aaaa" * 99, 8), entry("b.mp3", b"bbbb" * 99, 8)
LONGER = {"packed": len(A.content) + 10, "size": len(A.content) + 10}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(archives.overlapping_zip, "archive_overlap", id="one content for all"),
        pytest.param(archives.quoting_zip, "archive_overlap", id="a content that quotes the next"),
        pytest.param(lambda: zip_of([A, evolve(B, central={"header": 0})]), "archive_overlap", id="one header for two"),
        pytest.param(lambda: zip_of([evolve(A, central={"packed": 60})]), "archive_overlap", id="into the directory"),
        pytest.param(
            lambda: zip_of([evolve(A, method=0, extra=b"\x99\x99\x10\0" + bytes(16), local=LONGER, central=LONGER), B]),
            "archive_overlap",
            id="into the next by an extra field",
        ),
        pytest.param(lambda: zip_of([evolve(A, central={"header": 10**6})]), "archive_overlap", id="behind the end"),
        pytest.param(
            lambda: zip_of([evolve(A, extra=b"", local={"packed": 0}, central={"packed": 0, "size": 0}), B]),
            "archive_unreadable",
            id="no bytes",
        ),
        pytest.param(lambda: zip_of([evolve(A, flags=1)]), "archive_encrypted", id="a password"),
        pytest.param(lambda: zip_of([evolve(A, flags=0x41)]), "archive_encrypted", id="strong encryption"),
        pytest.param(lambda: zip_of([evolve(A, flags=0x2000)]), "archive_encrypted", id="a hidden directory"),
        pytest.param(lambda: zip_of([evolve(A, method=99)]), "archive_encrypted", id="AES"),
        pytest.param(lambda: zip_of([evolve(A, local={"flags": 1})]), "archive_unreadable", id="a password in secret"),
        pytest.param(lambda: zip_of([evolve(A, local={"name": b"a.exe"})]), "archive_unreadable", id="another name"),
        pytest.param(lambda: zip_of([evolve(A, local={"name": b"a.mp"})]), "archive_overlap", id="a shorter name"),
        pytest.param(lambda: zip_of([evolve(A, local={"size": 5})]), "archive_unreadable", id="another size"),
        pytest.param(lambda: zip_of([evolve(A, local={"packed": 5})]), "archive_unreadable", id="fewer bytes"),
        pytest.param(lambda: zip_of([evolve(A, local={"method": 0})]), "archive_unreadable", id="another method"),
        pytest.param(lambda: zip_of([evolve(A, local={"crc": 5})]), "archive_unreadable", id="another CRC"),
        pytest.param(
            lambda: zip_of([evolve(A, described=True, local={"size": 5})]), "archive_unreadable", id="half silent"
        ),
        pytest.param(
            lambda: zip_of([evolve(A, method=0, central={"size": 9}, local={"size": 9})]),
            "archive_unreadable",
            id="stored and longer",
        ),
        pytest.param(lambda: zip_of([A], end={"count": 2, "here": 2}), "archive_unreadable", id="an entry too many"),
        pytest.param(lambda: zip_of([A, B], end={"count": 1, "here": 1}), "archive_unreadable", id="an entry too few"),
        pytest.param(lambda: zip_of([A], end={"start": 0}), "archive_unreadable", id="another directory"),
        pytest.param(lambda: zip_of([A], end={"size": 0xFFFFFFFF}), "archive_unreadable", id="zip64 that is not there"),
        pytest.param(lambda: zip_of([A], behind=b"\0"), "archive_unreadable", id="something behind"),
        pytest.param(lambda: zip_of([A], comment=zip_of([B])), "archive_unreadable", id="a zip in the comment"),
        pytest.param(lambda: zip_of([A], comment=zip_of([])), "archive_unreadable", id="an end in the comment"),
        pytest.param(lambda: archives.zips({}), "archive_empty", id="empty"),
        pytest.param(lambda: zip_of([Entry(name=b"Album/", mode=0o40755)]), "archive_empty", id="a directory"),
        pytest.param(lambda: b"PK\x03\x04" + bytes(600), "archive_truncated", id="initials"),
        pytest.param(
            lambda: zip_of([evolve(A, wide=True, extra=b"\1\0\x08\0" + bytes(8))]), "archive_unreadable", id="two zip64"
        ),
    ],
)
def test_hostile_zips(direct: Decoder, data: Any, code: str) -> None:
    made = data()
    assert is_archive(made)
    assert code_of(direct, made) == code


def test_zip64_ends_that_contradict_the_others(direct: Decoder) -> None:
    data = bytearray(archives.wide_zip({"a.mp3": SONG}))
    assert everything(direct, bytes(data)) == {"a.mp3": SONG}
    for at, value in ((-22 + 8, b"\2\0"), (-22 + 12, b"\1\0\0\0"), (-22 - 20 + 8, b"\1"), (-22 - 20 - 56 + 4, b"\1")):
        changed = data.copy()
        changed[len(data) + at : len(data) + at + len(value)] = value
        assert code_of(direct, bytes(changed)) == "archive_unreadable"


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param({"crc": 1}, id="wrong CRC"),
        pytest.param({"size": 395}, id="longer than told"),
        pytest.param({"size": 397}, id="shorter than told"),
    ],
)
@pytest.mark.parametrize("method", [8, 12])
def test_a_zip_that_lies_about_its_bytes(direct: Decoder, method: int, lie: Mapping[str, int]) -> None:
    one = evolve(A, method=method, local=lie, central=lie)
    data = zip_of([B, one])
    facts = list_archive(direct, of(data))
    with extract(direct, of(data), facts, [0, 1]) as members:
        _, stream = next(members)
        assert stream.read() == B.content
        _, stream = next(members)
        with pytest.raises(ContentRejected) as caught:
            stream.read(lie.get("size", 396))
        assert caught.value.code == "archive_unreadable"
        with pytest.raises(ContentRejected):
            stream.read()


def test_the_last_bytes_come_after_the_checksum(direct: Decoder) -> None:
    """Whoever reads as many bytes as were listed, and not to the end, has them checked all the same."""
    lie = {"crc": 1}
    data = zip_of([Entry(name=b"a.mp3", content=NOISE, local=lie, central=lie)])
    with extract(direct, of(data), list_archive(direct, of(data)), [0]) as members:
        _, stream = next(members)
        assert stream.read(2 * 262_144) == NOISE[: 2 * 262_144]
        with pytest.raises(ContentRejected):
            stream.read(1)


def test_bytes_behind_a_member_are_refused(direct: Decoder) -> None:
    one = evolve(A, packed=archives._packed(A) + b"more")
    data = zip_of([one])
    with pytest.raises(ContentRejected) as caught:
        contents(direct, data, "zip", [0])
    assert caught.value.code == "archive_unreadable"


# ── hostile tars ──────────────────────────────────────────────────────────────────────────────────────────────

SOUND = (tarfile.TarInfo("a.mp3"), SONG)


def broken(header: tarfile.TarInfo, at: int, value: bytes, *, mend: bool = True) -> bytes:
    """A header with other bytes in it, its checksum right."""
    raw = bytearray(header.tobuf())
    raw[at : at + len(value)] = value
    if mend:
        raw[148:156] = b" " * 8
        raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(lambda: tar_with([SOUND], end=False), "archive_truncated", id="no end"),
        pytest.param(lambda: tar_with([]) + bytes(512), "unsupported_archive", id="zeros"),
        pytest.param(lambda: archives.pack(tar_with([]), "gz"), "archive_empty", id="packed zeros"),
        pytest.param(
            lambda: tar_with([SOUND, (broken(_info("b"), 0, b"c", mend=False), b"")]),
            "archive_unreadable",
            id="a wrong checksum",
        ),
        pytest.param(
            lambda: tar_with([(broken(_info("b"), 148, b"\0" * 8, mend=False), b"")]), "unsupported_archive", id="none"
        ),
        pytest.param(
            lambda: tar_with([SOUND, (broken(_info("b"), 124, b"\xff" * 12), b"")]),
            "archive_unreadable",
            id="a negative size",
        ),
        pytest.param(
            lambda: tar_with([SOUND, (broken(_info("b"), 124, b"\x80" + b"\x7f" * 11), b"")]),
            "archive_too_large",
            id="an endless size",
        ),
        pytest.param(
            lambda: tar_with([SOUND, (_info("b", size=10_000), b"")]), "archive_truncated", id="too few bytes"
        ),
        pytest.param(lambda: tar_with([(_info("b", tarfile.GNUTYPE_SPARSE), b"")]), "unsupported_archive", id="sparse"),
        pytest.param(
            lambda: tar_with([archives.pax_header({"GNU.sparse.major": b"1"}), SOUND]),
            "unsupported_archive",
            id="sparse by pax",
        ),
        pytest.param(lambda: tar_with([(_info("b", b"M"), b"")]), "unsupported_archive", id="from another volume"),
        pytest.param(lambda: tar_with([(_info("b", b"!"), b"")]), "unsupported_archive", id="never heard of"),
        pytest.param(
            lambda: tar_with([(_info("b", b"5", size=512), bytes(512))]), "archive_unreadable", id="a full directory"
        ),
        pytest.param(
            lambda: tar_with([archives.pax_header({"path": b"x"})]), "archive_unreadable", id="a name for nothing"
        ),
        pytest.param(
            lambda: tar_with([archives.pax_header({"path": b"x"}, b"g"), SOUND]),
            "archive_unreadable",
            id="a name for all",
        ),
        pytest.param(
            lambda: tar_with([archives.pax_header({"size": b"-1"}), SOUND]), "archive_unreadable", id="size -1"
        ),
        pytest.param(
            lambda: tar_with([archives.pax_header({"size": b"9" * 500}), SOUND]), "archive_unreadable", id="size 9…"
        ),
        pytest.param(
            lambda: tar_with([archives.pax_header({"size": b"9" * 18}), SOUND]), "archive_too_large", id="size 10^18"
        ),
        pytest.param(lambda: tar_with([(_info("x", b"x"), b"9 a=b"), SOUND]), "archive_unreadable", id="pax too long"),
        pytest.param(
            lambda: tar_with([(_info("x", b"x"), b"0 a=b\n"), SOUND]), "archive_unreadable", id="pax of length 0"
        ),
        pytest.param(
            lambda: tar_with([(_info("x", b"x"), b"-6 a=b\n"), SOUND]), "archive_unreadable", id="pax going back"
        ),
        pytest.param(
            lambda: tar_with([(_info("x", b"x"), b"6 abc\n"), SOUND]), "archive_unreadable", id="pax without ="
        ),
        pytest.param(
            lambda: tar_with([(_info("x", b"x"), b"7" * 99), SOUND]), "archive_unreadable", id="pax of digits"
        ),
        pytest.param(lambda: tar_with([(_info("L", b"L"), b"n" * 5000), SOUND]), "archive_names", id="a long name"),
        pytest.param(
            lambda: tar_with([archives.pax_header({"path": b"n" * 5000}), SOUND]),
            "archive_names",
            id="a long name by pax",
        ),
        pytest.param(lambda: tar_with([(_info("x", b"x", size=300 << 20), b"")]), "archive_names", id="300 MB of pax"),
        pytest.param(
            lambda: tar_with([(_info("L", b"L", size=1 << 40), b"")], form=tarfile.GNU_FORMAT),
            "archive_names",
            id="1 TB of name",
        ),
        pytest.param(
            lambda: tar_with([archives.pax_header({"comment": b""}, b"g")] * 9000),
            "archive_too_many",
            id="headers for nothing",
        ),
    ],
)
@pytest.mark.parametrize("packing", ["", "gz"])
def test_hostile_tars(direct: Decoder, data: Any, code: str, packing: archives.Packing) -> None:
    made = data()
    if packing and made[:8] == bytes(8):
        code = "archive_empty"
    assert code_of(direct, made if made[:2] == b"\x1f\x8b" else archives.pack(made, packing)) == code


def test_sizes_by_pax(direct: Decoder) -> None:
    # The size of a file of more than 8 GiB is in the extended header, and the other one is to be ignored.
    data = tar_with(
        [archives.pax_header({"size": b"9", "mtime": b"1.5"}), (broken(_info("a.mp3"), 124, b"7" * 11), SONG)]
    )
    assert everything(direct, data) == {"a.mp3": SONG}


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "packed"), [PACKED[0].values, PACKED[6].values, PACKED[9].values], ids=["zip", "tar", "tar.gz"]
)
@pytest.mark.parametrize(
    ("files", "limits", "code"),
    [
        ({f"{n}.mp3": b"" for n in range(10_000)}, ArchiveLimits(), "archive_too_many"),
        ({f"{n}.mp3": b"" for n in range(4)}, ArchiveLimits(members=3), "archive_too_many"),
        ({".DS_Store": b"", "__MACOSX/x": b"", "a": b"1"}, ArchiveLimits(members=2), "archive_too_many"),
        ({"a": bytes(1000), "b": b""}, ArchiveLimits(member_bytes=999), "archive_too_large"),
        ({"a": bytes(1000), "b": bytes(1000)}, ArchiveLimits(bytes=1999), "archive_too_large"),
        ({"n" * 200: b"1"}, ArchiveLimits(name=199), "archive_names"),
        ({f"{n:0200}": b"1" for n in range(10)}, ArchiveLimits(names=1999), "archive_names"),
    ],
)
def test_limits(direct: Decoder, kind: str, packed: Any, files: Any, limits: ArchiveLimits, code: str) -> None:
    data = packed(files)
    assert code_of(direct, data, limits) == code
    with pytest.raises(ContentRejected) as caught:
        contents(direct, data, kind, range(len(files)), limits)
    assert caught.value.code == code


def test_just_within_the_limits(direct: Decoder) -> None:
    files = {"n" * 200: bytes(1000), "b": bytes(1000)}
    limits = ArchiveLimits(members=2, bytes=2000, member_bytes=1000, names=201, name=200, ratio=1, ratio_from=2000)
    data = archives.zips(files, 8)
    facts = list_archive(direct, of(data), limits)
    assert contents(direct, data, facts, [0, 1], limits) == files
    assert code_of(direct, data, evolve(limits, ratio_from=1999)) == "archive_bomb"


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_a_bomb_is_stopped_while_it_goes_off(decoder: Decoder, packing: archives.Packing) -> None:
    """It has no end, and what comes after 300 MiB is no packed data at all: nobody gets there."""
    data = archives.bomb(packing, 300 << 20)
    assert len(data) < 1 << 20
    assert code_of(decoder, data + b"x" * 200_000) == "archive_bomb"


def test_a_bomb_in_a_zip(direct: Decoder) -> None:
    assert code_of(direct, archives.zips({"a": bytes(65 << 20)}, 8)) == "archive_bomb"
    assert len(everything(direct, archives.zips({"a": bytes(64 << 20)}, 8))["a"]) == 64 << 20


def test_a_bomb_that_lies_about_its_size(direct: Decoder) -> None:
    lie = {"size": 1000}
    data = zip_of([Entry(name=b"a", content=bytes(10 << 20), method=8, local=lie, central=lie)])
    with extract(direct, of(data), list_archive(direct, of(data)), [0]) as members:
        _, stream = next(members)
        with pytest.raises(ContentRejected) as caught:
            stream.read()
    assert caught.value.code == "archive_unreadable"


def test_a_dictionary_larger_than_memory(decoder: Decoder) -> None:
    data = archives.tar_of({"a.mp3": SONG})
    assert everything(decoder, archives.grown_xz(data, bits=20)) == {"a.mp3": SONG}
    assert code_of(decoder, archives.grown_xz(data)) == "decoder_memory"


@pytest.mark.slow
def test_an_extended_header_larger_than_memory(decoder: Decoder) -> None:
    """The limit of names is what refuses it; were it lifted, the child's memory would."""
    header = _info("x", b"x", size=900 << 20).tobuf()
    data = archives.pack(header, "gz") + archives.pack(bytes(1 << 20), "gz") * 900
    assert code_of(decoder, data) == "archive_names"
    loose = ArchiveLimits(names=1 << 40, ratio=10**6, bytes=1 << 40)
    assert code_of(decoder, data, loose) == "decoder_memory"


# ── damage ────────────────────────────────────────────────────────────────────────────────────────────────────


def what_is_had(decoder: Decoder, data: bytes) -> dict[str, bytes] | str:
    try:
        return everything(decoder, data)
    except ContentRejected as error:
        return error.code


@pytest.mark.parametrize(("kind", "packed"), PACKED)
def test_cut_off_at_many_places(direct: Decoder, kind: str, packed: Any) -> None:
    data = packed(SMALL)
    for cut in archives.cuts(data.rstrip(b"\0") if kind == "tar" else data, 20):
        found = what_is_had(direct, cut)
        assert found in CODES
        if len(cut) > 512:
            assert found in ("archive_truncated", "archive_unreadable")


@pytest.mark.parametrize(("kind", "packed"), PACKED)
def test_flipped_at_many_places(direct: Decoder, kind: str, packed: Any) -> None:
    """Right bytes or a code. A tar without packing cannot tell what changed within a member."""
    data = packed(SMALL)
    chance = random.Random(0)
    refused = 0
    for _ in range(200):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        found = what_is_had(direct, bytes(changed))
        if isinstance(found, str):
            assert found in CODES
            refused += 1
        elif kind == "tar":
            assert [len(content) for content in found.values()] == [len(content) for content in SMALL.values()]
        else:
            assert {content for content in found.values()} <= set(SMALL.values())
    assert refused > (1 if kind == "tar" else 100)


@given(st.data())
def test_nothing_else_comes_of_headers_that_are_noise(direct: Decoder, data: st.DataObject) -> None:
    sound = data.draw(st.sampled_from(_HEADERS))
    noise = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(sound) - 1))
        value = data.draw(st.binary(min_size=1, max_size=8))
        noise[at : at + len(value)] = value
    found = what_is_had(direct, bytes(noise))
    assert isinstance(found, dict) or found in CODES


_HEADERS = [
    archives.zips({"a": b"1", "b": b""}),
    archives.described_zip({"a": b"1", "b": b"22"}, 8),
    archives.wide_zip({"a": b"1"}),
    archives.tar_of({"ä" * 60: b"1", "b": b""}),
    archives.tar_of({"ä" * 60: b"1"}, form=tarfile.GNU_FORMAT),
]


# ── streams ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_moving_on_passes_over_what_was_not_read(decoder: Decoder) -> None:
    data = archives.tar_of(FILES, "gz")
    facts = list_archive(decoder, of(data))
    before = decoder.pids()
    with extract(decoder, of(data), facts, range(4)) as members:
        for member, stream in members:
            if member.index == 0:
                assert stream.read(5) == NOISE[:5]
                assert not stream.seekable()
                first = stream
            if member.index == 2:
                buffer = bytearray(700_000)
                assert stream.readinto(buffer) == 600_000  # type: ignore[attr-defined]
                assert stream.read() == b""
        with pytest.raises(ValueError, match="closed"):
            first.read(1)
    assert decoder.pids() == before


@pytest.mark.parametrize("packing", ["", "xz"])
def test_leaving_early_leaves_nobody_behind(decoder: Decoder, packing: archives.Packing) -> None:
    data = archives.tar_of(FILES, packing)
    facts = list_archive(decoder, of(data))
    with extract(decoder, of(data), facts, range(4)) as members:
        _, stream = next(members)
        assert stream.read(1000) == NOISE[:1000]
        (pid,) = decoder.pids()
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)
    assert list(members) == []
    assert decoder.pids() == ()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert everything(decoder, data) == FILES


def test_errors_of_the_reader_come_through(decoder: Decoder) -> None:
    data = archives.zips(FILES)

    def read() -> None:
        with extract(decoder, of(data), "zip", [0]) as members:
            next(members)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read()
    assert decoder.pids() == ()


def test_other_requests_while_a_member_is_read(decoder: Decoder) -> None:
    """As an import does: a song comes out of the archive, and is looked at by the same decoder."""
    data = archives.zips(FILES)
    with extract(decoder, of(data), "zip", range(4)) as members:
        for _, stream in members:
            stream.read(1000)
            assert len(list_names_of_another(decoder)) == 4


def list_names_of_another(decoder: Decoder) -> Sequence[str]:
    with decoder._slot("runs") as other:  # streams have one place here, and it is taken
        other.good = True
    return list(FILES)


def test_an_archive_that_changed(direct: Decoder) -> None:
    data = archives.zips(SMALL)
    facts = list_archive(direct, of(data))
    others = [
        archives.tar_of(SMALL),
        archives.zips({**SMALL, "Album/1.mp3": b"shorter"}),
        archives.zips({"Album/1.mp3": SMALL["Album/1.mp3"]}),
    ]
    for other in others:
        with pytest.raises(ContentRejected) as caught:
            contents(direct, other, facts, range(3))
        assert caught.value.code == "archive_changed"


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_memory_stays_flat(decoder: Decoder, tmp_path: Path, kind: str) -> None:
    """1 GiB comes through, and this process does not grow."""
    path, size = tmp_path / "archive", 1 << 30
    if kind == "zip":  # stored, and a hole in the file
        crc = 0
        for _ in range(64):
            crc = zlib.crc32(bytes(size // 64), crc)
        told: dict[str, bytes | int] = {"crc": crc, "packed": size, "size": size}
        raw = zip_of([Entry(name=b"a", local=told, central=told)], end={"start": size + 31})
        with open(path, "wb") as file:
            file.write(raw[:31])
            file.seek(size, os.SEEK_CUR)
            file.write(raw[31:])
    else:
        info = _info("a", size=size)
        mebibyte = archives.pack(bytes(1 << 20), "gz")
        with open(path, "wb") as file:
            file.write(archives.pack(info.tobuf(), "gz") + mebibyte * 1024 + archives.pack(bytes(1024), "gz"))
    limits = ArchiveLimits(ratio=5000)
    facts = list_archive(decoder, on_disk(path), limits)
    before, most, total = _resident(), 0, 0
    with extract(decoder, on_disk(path), facts, [0], limits) as members:
        for _, stream in members:
            while block := stream.read(1 << 20):
                total += len(block)
                most = max(most, _resident())
    assert total == size
    assert most - before < 16 << 20


# ── a child that lies ─────────────────────────────────────────────────────────────────────────────────────────


class Lying(Decoder):
    """Children answer what the test wants, whatever they are asked."""

    def __init__(self) -> None:
        super().__init__(processes=1, program=MISBEHAVING, limits=PATIENT)
        self.frames: list[Any] = []

    @contextlib.contextmanager
    def stream(
        self, operation: str, source: Source, arguments: Mapping[str, Any] | None = None
    ) -> Iterator[Iterator[Mapping[str, Any] | bytes]]:
        frames = [frame.hex() if isinstance(frame, bytes) else frame for frame in self.frames]
        with super().stream("frames", source, {"frames": frames}) as said:
            yield said


@pytest.fixture(scope="module")
def lying() -> Iterator[Lying]:
    made = Lying()
    with made:
        yield made


ZIP = {"kind": "zip"}
SAID: list[Any] = [ZIP, {"entries": [["file", 4, "a"], ["link", 0, "b"]]}]
BYTES: list[Any] = [ZIP, {"member": 0, "size": 4, "name": "a"}, b"1234", {"whole": 0}]


def test_a_list_that_may_be_true(lying: Lying) -> None:
    lying.frames = SAID
    assert list_archive(lying, of(b"PK")) == ArchiveFacts(kind="zip", members=(Member(0, "a", 4),), links=1)
    lying.frames = BYTES
    assert contents(lying, b"PK", "zip", [0]) == {"a": b"1234"}


def test_signs_of_life(lying: Lying) -> None:
    """A large archive may take its time, as long as it goes on."""
    lying.frames = [ZIP, {"passed": 64 << 20}, {"passed": 80 << 20}, *SAID[1:]]
    assert len(list_archive(lying, of(b"PK")).members) == 1
    lying.frames = [ZIP, {"passed": 64 << 20}, *BYTES[1:], {"passed": 64 << 20}]
    assert contents(lying, b"PK", "zip", [0]) == {"a": b"1234"}


@pytest.mark.parametrize("operation", [child.list_archive, child.extract_archive])
def test_signs_of_life_come_while_bytes_are_passed_over(operation: Any) -> None:
    tape = archives.tar_of({"a": bytes(3 << 20), "b": SONG})
    data = archives.pack(tape, "gz")
    arguments = {"limits": asdict(ArchiveLimits()), "heartbeat": 1 << 20, "indices": [1], "frame": 1 << 10}
    with module._descriptor(io.BytesIO(data)) as (fd, size):
        frames = list(operation(Input(fd, size), arguments, {}))
    passed = [frame["passed"] for frame in frames if isinstance(frame, dict) and "passed" in frame]
    assert len(passed) >= 2
    assert sum(passed) <= len(tape)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([], id="nothing"),
        pytest.param([{"kind": "exe"}], id="another kind"),
        pytest.param([{"kind": ["zip"]}], id="a kind that is none"),
        pytest.param([{"entries": []}], id="no kind"),
        pytest.param([b"zip"], id="bytes"),
        pytest.param([*SAID, b"bytes"], id="bytes in between"),
        pytest.param([*SAID, {"more": 1}], id="something else"),
        pytest.param([ZIP, {"entries": []}], id="a list of nothing"),
        pytest.param([ZIP, {"entries": "abc"}], id="a list that is none"),
        pytest.param([ZIP, {"entries": [["file", 1]]}], id="no name"),
        pytest.param([ZIP, {"entries": [["file", 1, 1]]}], id="a name that is none"),
        pytest.param([ZIP, {"entries": [["file", 1, ["a"]]]}], id="a name that is a list"),
        pytest.param([ZIP, {"entries": [["file", -1, "a"]]}], id="a negative size"),
        pytest.param([ZIP, {"entries": [["file", True, "a"]]}], id="a size that is none"),
        pytest.param([ZIP, {"entries": [["file", 5 << 30, "a"]]}], id="too large"),
        pytest.param([ZIP, {"entries": [["file", 4 << 30, "a"]] * 5}], id="too large together"),
        pytest.param([ZIP, {"entries": [["file", 65 << 20, "a"]]}], id="too large for its size"),
        pytest.param([ZIP, {"entries": [["door", 1, "a"]]}], id="another sort"),
        pytest.param([ZIP, {"entries": [[["file"], 1, "a"]]}], id="a sort that is none"),
        pytest.param([ZIP, *[{"entries": [["link", 0, "a"]] * 500}] * 5], id="too many"),
        pytest.param([ZIP, *[{"entries": [["file", 0, "a" * 600_000]]}] * 2], id="long names"),
        pytest.param([ZIP, {"passed": 1}], id="a sign of hardly any life"),
        pytest.param([ZIP, {"passed": "much"}], id="a sign of another life"),
        pytest.param([ZIP, *[{"passed": 8 << 30}] * 3], id="more signs of life than the limits allow"),
    ],
)
def test_impossible_lists(lying: Lying, frames: list[Any]) -> None:
    lying.frames = frames
    assert code_of(lying, b"PK") == "decoder_crashed"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param([], "decoder_crashed", id="nothing"),
        pytest.param([{"kind": "tar"}], "archive_changed", id="another kind"),
        pytest.param(BYTES[:1], "decoder_crashed", id="no member"),
        pytest.param(BYTES[:2], "decoder_crashed", id="no bytes"),
        pytest.param(BYTES[:3], "decoder_crashed", id="no end"),
        pytest.param([*BYTES, b"more"], "decoder_crashed", id="bytes behind"),
        pytest.param([*BYTES, BYTES[1]], "decoder_crashed", id="another member"),
        pytest.param([ZIP, b"1234"], "decoder_crashed", id="bytes of nothing"),
        pytest.param([*BYTES[:2], b"123", b"4", BYTES[3]], "decoder_crashed", id="bits of frames"),
        pytest.param([*BYTES[:2], b"12345", BYTES[3]], "decoder_crashed", id="a byte too many"),
        pytest.param([*BYTES[:2], b"", BYTES[3]], "decoder_crashed", id="empty frames"),
        pytest.param([*BYTES[:3], {"whole": 1}], "decoder_crashed", id="the end of another"),
        pytest.param([ZIP, {**BYTES[1], "member": 1}], "decoder_crashed", id="not the one asked for"),
        pytest.param([ZIP, {**BYTES[1], "size": 5}], "archive_changed", id="another size"),
        pytest.param([ZIP, {**BYTES[1], "size": "4"}], "decoder_crashed", id="a size that is none"),
        pytest.param(
            [*BYTES[:2], {"passed": 64 << 20}, b"1234", {"whole": 0}, {"passed": 1}], "decoder_crashed", id="life"
        ),
    ],
)
def test_impossible_bytes(lying: Lying, frames: list[Any], code: str) -> None:
    lying.frames = frames
    facts = ArchiveFacts(kind="zip", members=(Member(0, "a", 4),))
    with pytest.raises(ContentRejected) as caught:
        contents(lying, b"PK", facts, [0])
    assert caught.value.code == code


def test_more_bytes_than_the_limits_allow(lying: Lying) -> None:
    lying.frames = [ZIP, {"member": 0, "size": 11, "name": "a"}, b"12345678901", {"whole": 0}]
    assert contents(lying, b"PK", "zip", [0]) == {"a": b"12345678901"}
    for limits in (ArchiveLimits(bytes=10), ArchiveLimits(member_bytes=10)):
        with pytest.raises(ContentRejected) as caught:
            contents(lying, b"PK", "zip", [0], limits)
        assert caught.value.code == "decoder_crashed"


def test_every_code_has_a_sentence() -> None:
    text = Path(child.__file__).read_text()
    for code in CODES - {"archive_empty"}:
        assert f'"{code}"' in text, f"nobody says {code}"
    assert asdict(ArchiveLimits())["members"] == 2000
