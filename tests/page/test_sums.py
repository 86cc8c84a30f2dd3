"""SHA-1, CRC-32 and the archive of a folder, compared with what others make of the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.content.decoding.child.archive import extract_archive, list_archive
from stagedoor.content.decoding.child.common import Input

from .browsing import chromium, needs_node, node, serving, tab

if TYPE_CHECKING:
    from playwright.sync_api import Page

# FIPS 180-4 names the standard's own examples: NIST, "SHA1.pdf", and the million letters of FIPS 180-1, appendix C.
VECTORS = {
    "": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "abc": "a9993e364706816aba3e25717850c26c9cd0d89d",
    "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
    "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
    "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu": "a49b2446a02c645bf419f995b67091253a04a259",
}
MILLION = "34aa973cd4c4daa4f61eeb2bdbad27316534016f"
MIB = 1 << 20


@needs_node
def test_sha1_of_the_standards_examples() -> None:
    found = node(
        """
        import { Sha1 } from "STATIC/sha1.js";
        const encoder = new TextEncoder();
        const texts = JSON.parse(process.argv.at(-1));
        const million = new Sha1();
        for (let i = 0; i < 1000; i++) million.update(encoder.encode("a".repeat(1000)));
        const sums = texts.map((text) => new Sha1().update(encoder.encode(text)).hex());
        console.log(JSON.stringify([sums, million.hex()]));
        """,
        json.dumps(list(VECTORS)),
    )
    assert found == [list(VECTORS.values()), MILLION]


@needs_node
def test_sums_of_every_length_whatever_the_pieces() -> None:
    """All lengths around the ends of blocks, each cut at two places, also within a larger buffer."""
    data = bytes(i * i * 7 >> 3 & 255 for i in range(300))
    found = node(
        """
        import { Sha1 } from "STATIC/sha1.js";
        import { crc32 } from "STATIC/crc32.js";
        const data = new Uint8Array(303).map((_, i) => (i < 3 ? 9 : ((i - 3) * (i - 3) * 7) >> 3));
        const sums = [];
        for (let size = 0; size <= 300; size++) {
          const bytes = data.subarray(3, 3 + size);
          const [a, b] = [Math.floor(size / 3), Math.floor((size * 7) / 8)];
          const pieces = [bytes.subarray(0, a), bytes.subarray(a, b), bytes.subarray(b)];
          const sha1 = new Sha1();
          let crc = 0;
          for (const piece of pieces) {
            sha1.update(piece);
            crc = crc32(piece, crc);
          }
          sums.push([sha1.hex(), crc]);
        }
        console.log(JSON.stringify(sums));
        """
    )
    sha1s = [hashlib.sha1(data[:n], usedforsecurity=False).hexdigest() for n in range(301)]
    assert found == [[sha1, zlib.crc32(data[:n])] for n, sha1 in enumerate(sha1s)]


@needs_node
@pytest.mark.slow
def test_sha1_of_more_bits_than_fit_into_32() -> None:
    """The length in bits needs its upper word from 512 MiB on."""
    found = node(
        """
        import { Sha1 } from "STATIC/sha1.js";
        const sha1 = new Sha1();
        const piece = new Uint8Array(1 << 20).fill(7);
        for (let i = 0; i < 512; i++) sha1.update(piece);
        sha1.update(piece.subarray(0, 5));
        console.log(JSON.stringify(sha1.hex()));
        """
    )
    expected = hashlib.sha1(usedforsecurity=False)
    for _ in range(512):
        expected.update(b"\7" * MIB)
    expected.update(b"\7" * 5)
    assert found == expected.hexdigest()


# ── in the worker of a browser ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with serving(tmp_path_factory.mktemp("site")) as site, chromium() as browser:
        yield tab(browser, site)


def test_the_worker_of_a_browser_makes_the_same_sums(page: Page) -> None:
    """Under the page's policy: the worker's address is made by the one policy that may."""
    found = page.evaluate(
        """async (texts) => {
          const { Hashers } = await import("./hash.js");
          const hashers = new Hashers();
          const sums = await Promise.all(texts.map((text) => hashers.sha1(new Blob([text]))));
          const million = new Blob(Array(1000).fill("a".repeat(1000)));
          return [sums, await hashers.sha1(million), await hashers.crc32(million)];
        }""",
        list(VECTORS),
    )
    assert found == [list(VECTORS.values()), MILLION, zlib.crc32(b"a" * 1_000_000)]


@pytest.mark.slow
def test_a_large_file_is_read_with_words_about_progress(page: Page, tmp_path: Path) -> None:
    """More than 2³² bits, of a file with nothing in it but a beginning and an end."""
    path = tmp_path / "large.mp4"
    size = 513 * MIB + 77
    with path.open("wb") as file:
        file.write(b"begin")
        file.truncate(size)
        file.seek(size - 3)
        file.write(b"end")
    expected = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(MIB):
            expected.update(piece)
    page.set_input_files("#field", path)
    found = page.evaluate(
        """async () => {
          const { Hashers } = await import("./hash.js");
          const said = [];
          const progress = (done) => said.push(done);
          const [file] = document.querySelector("#field").files;
          const sum = await new Hashers().sha1(file, { progress });
          return [sum, said.every((done, i) => i === 0 || done > said[i - 1]), said.at(-1) <= file.size, said.length];
        }"""
    )
    assert found[:3] == [expected.hexdigest(), True, True]
    assert found[3] > 2


def test_reading_can_be_stopped_and_whoever_waits_has_the_place(page: Page) -> None:
    found = page.evaluate(
        """async () => {
          const { Hashers } = await import("./hash.js");
          const hashers = new Hashers({ size: 1 });
          const piece = new Blob([new Uint8Array(1 << 20)]);
          const endless = new Blob(Array(4096).fill(piece)); // references: no memory
          const [first, second] = [new AbortController(), new AbortController()];
          const codes = [];
          const begun = new Promise((progress) => {
            hashers.sha1(endless, { signal: first.signal, progress }).catch((problem) => codes.push(problem.code));
          });
          const waits = hashers.sha1(endless, { signal: second.signal }).catch((problem) => codes.push(problem.code));
          const last = hashers.sha1(new Blob(["abc"]));
          await begun;
          second.abort();
          await waits;
          first.abort();
          return [await last, codes];
        }"""
    )
    assert found == [VECTORS["abc"], ["stopped", "stopped"]]


def test_a_file_that_changes_while_it_is_read_is_told_of(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"before")
    page.set_input_files("#field", path)
    path.write_bytes(b"another one")
    os.utime(path, (1, 1))
    found = page.evaluate(
        """async () => {
          const { Hashers } = await import("./hash.js");
          const [file] = document.querySelector("#field").files;
          return new Hashers().sha1(file).catch(({ code, message }) => [code, message]);
        }"""
    )
    assert found == ["file_changed", "The file was changed, moved or deleted while it was read. Choose it again."]


# ── archives ──────────────────────────────────────────────────────────────────────────────────────────────────

LIMITS = {
    "members": 100_000, "name": 1024, "names": 8 * MIB, "member_bytes": 1 << 40, "bytes": 1 << 40,
    "ratio": 100, "ratio_from": 1 << 40,
}  # fmt: skip


def listed(path: Path) -> list[Any]:
    with path.open("rb") as file:
        frames = list(list_archive(Input(file.fileno(), path.stat().st_size), {"limits": LIMITS, "heartbeat": MIB}, {}))
    assert frames[0] == {"kind": "zip"}
    return [list(entry) for frame in frames[1:] for entry in frame["entries"]]  # type: ignore[call-overload]


def extracted(path: Path, indices: list[int]) -> list[bytes]:
    arguments = {"limits": LIMITS, "heartbeat": MIB, "indices": indices, "frame": 1 << 16}
    found: list[bytes] = []
    with path.open("rb") as file:
        for frame in extract_archive(Input(file.fileno(), path.stat().st_size), arguments, {}):
            if isinstance(frame, bytes):
                found[-1] += frame
            elif "member" in frame:
                found.append(b"")
    return found


ZIPPING = """
import { writeFileSync } from "node:fs";
import { zipOf } from "STATIC/zip.js";
const { names, path } = JSON.parse(process.argv.at(-1));
const entries = names.map((name, i) => ({ path: name, blob: new Blob(["x".repeat(i * 1000), name]) }));
const said = [];
const zip = await zipOf(entries, (done) => said.push(done));
writeFileSync(path, new Uint8Array(await zip.arrayBuffer()));
const total = entries.reduce((sum, { blob }) => sum + blob.size, 0);
console.log(JSON.stringify([zip.size, zip.type, said.at(-1) === total, entries.every(({ crc }) => crc !== undefined)]));
"""


@needs_node
def test_a_folder_becomes_an_archive_that_the_server_takes(tmp_path: Path) -> None:
    """Whatever the order in which the browser found the files, and whoever wrote their names how."""
    names = ["Alpha/02 Zwei.mp3", "Alpha/cover.jpg", "Alpha/01 Se\u0301ance \u6771\u4eac.mp3", "Alpha/CD2/01 B.flac"]
    composed = [name.replace("e\u0301", "\u00e9") for name in names]
    paths = [tmp_path / "one.zip", tmp_path / "two.zip"]
    assert node(ZIPPING, json.dumps({"names": names, "path": str(paths[0])}))[1:] == ["application/zip", True, True]
    entries = listed(paths[0])
    assert [entry[2] for entry in entries] == sorted(composed)
    assert {entry[0] for entry in entries} == {"file"}
    held = extracted(paths[0], list(range(4)))
    assert held == [
        b"x" * (1000 * composed.index(name)) + names[composed.index(name)].encode() for name in sorted(composed)
    ]
    again = """
    import { writeFileSync } from "node:fs";
    import { zipOf } from "STATIC/zip.js";
    const { names, path } = JSON.parse(process.argv.at(-1));
    const entries = names.map((name, i) => ({ path: name, blob: new Blob(["x".repeat(i * 1000), name]) })).reverse();
    const zip = await zipOf(entries);
    writeFileSync(path, new Uint8Array(await zip.arrayBuffer()));
    console.log(zip.size);
    """
    node(again, json.dumps({"names": names, "path": str(paths[1])}))
    assert paths[0].read_bytes() == paths[1].read_bytes()


@needs_node
def test_an_archive_of_nothing_and_of_very_many(tmp_path: Path) -> None:
    """More than 65,535 files need the larger form of the directory's end."""
    path = tmp_path / "many.zip"
    names = [f"Many/{number:05}" for number in range(66_000)]
    script = ZIPPING.replace('"x".repeat(i * 1000), name', '""').replace(
        "JSON.parse(process.argv.at(-1))",
        "{ path: process.argv.at(-1),"
        " names: [...Array(66000).keys()].map((i) => `Many/${String(i).padStart(5, '0')}`) }",
    )
    node(script, str(path))
    assert [entry[2] for entry in listed(path)] == names
    script = ZIPPING.replace("JSON.parse(process.argv.at(-1))", "{ path: process.argv.at(-1), names: [] }")
    empty = tmp_path / "empty.zip"
    assert node(script.replace("said.at(-1) === total", "true"), str(empty))[0] == 22
    assert listed(empty) == []


def test_files_and_offsets_beyond_4_gib(page: Page, tmp_path: Path) -> None:
    """A file of holes: only what stands before and behind it is written. (node cannot make a Blob of such a file.)"""
    large, path = tmp_path / "large.wav", tmp_path / "large.zip"
    size = (1 << 32) + 1234
    with large.open("wb") as file:
        file.truncate(size)
    page.set_input_files("#field", large)
    total, behind, head, tail = page.evaluate(
        """async () => {
          const { zipOf } = await import("./zip.js");
          const [large] = document.querySelector("#field").files;
          const entries = [
            { path: "A/1 small.wav", blob: new Blob(["first"]) },
            { path: "A/2 large.wav", blob: large, crc: 0x12345678 },
            { path: "A/3 small.wav", blob: new Blob(["last"]) },
          ];
          const zip = await zipOf(entries);
          const bytes = async (blob) => [...new Uint8Array(await blob.arrayBuffer())];
          const start = 30 + 13 + 5 + 30 + 20 + 13;
          const behind = start + large.size;
          return [zip.size, behind, await bytes(zip.slice(0, start)), await bytes(zip.slice(behind))];
        }"""
    )
    assert behind + len(tail) == total
    with path.open("wb") as file:
        file.write(bytes(head))
        file.seek(behind)
        file.write(bytes(tail))
    assert listed(path) == [["file", 5, "A/1 small.wav"], ["file", size, "A/2 large.wav"], ["file", 4, "A/3 small.wav"]]
    assert extracted(path, [0, 2]) == [b"first", b"last"]
