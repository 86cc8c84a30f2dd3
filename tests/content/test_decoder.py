"""The decoder's children: what they may not do, and what happens when they do it all the same."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from stagedoor.content.decoding import Answer, Decoder, DecoderLimits
from stagedoor.content.decoding import pool as module
from stagedoor.content.decoding.video import probe_video, video_artwork
from stagedoor.errors import ConfigurationError, ContentRejected, StorageError, UploadError
from stagedoor.ports import Source
from stagedoor.testing import media

MISBEHAVING = Path(__file__).with_name("misbehaving_child.py")
PATIENT = DecoderLimits(seconds=300, cpu_seconds=300, start_seconds=300)
"""Limits that no test meets by being slow."""
SHORT = DecoderLimits(seconds=0.3, cpu_seconds=300, start_seconds=300)


def of(data: bytes) -> Source:
    """Bytes in memory, without a descriptor."""

    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return opened


def on_disk(path: Path, mode: str = "rb") -> Source:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        with open(path, mode, buffering=0) as file:
            yield file  # type: ignore[misc]

    return opened


def gone(pid: int) -> bool:
    """Whether there is no process of this id, not even a dead one that nobody waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(processes=1, program=MISBEHAVING, limits=PATIENT) as made:
        yield made


def code_of(decoder: Decoder, operation: str, arguments: Mapping[str, Any] | None = None) -> str:
    with pytest.raises(UploadError) as caught:
        decoder.run(operation, of(b"input"), arguments)
    return caught.value.code


def works(decoder: Decoder) -> int:
    """Use the decoder as intended; returns the child's process id."""
    answer = decoder.run("echo", of(b"input"))
    assert answer.blobs == [b"input"]
    return int(answer.document["pid"])


def works_for_real(decoder: Decoder) -> tuple[int, ...]:
    probe_video(decoder, of(media.video()))
    return decoder.pids()


# ── the sandbox ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_sandbox_says_what_is_in_force(decoder: Decoder) -> None:
    sandbox = decoder.sandbox()
    assert sandbox.memory == PATIENT.memory
    assert sandbox.no_capabilities
    assert sandbox.no_new_privileges
    assert sandbox.undumpable


def test_a_child_can_do_nothing_but_compute(decoder: Decoder, tmp_path: Path) -> None:
    sandbox = decoder.sandbox()
    if sandbox.landlock < 4 or not sandbox.seccomp:
        pytest.skip(f"this kernel has Landlock ABI {sandbox.landlock} and seccomp: {sandbox.seccomp}")
    file, given = tmp_path / "file", tmp_path / "input"
    file.write_bytes(b"kept")
    given.write_bytes(b"input")
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = {"directory": str(tmp_path), "file": str(file), "port": server.getsockname()[1]}
        results = dict(decoder.run("attempts", on_disk(given), arguments).document)
    assert {name: result for name, result in results.items() if not result.startswith("refused")} == {}
    assert len(results) > 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "input"]
    assert file.read_bytes() == b"kept"
    assert given.read_bytes() == b"input"
    works(decoder)


def test_what_a_child_can_do_all_the_same_is_what_the_manual_says(decoder: Decoder, tmp_path: Path) -> None:
    """Who closes one of these doors takes its line out of "What a hostile decoder can still do"."""
    given = tmp_path / "input"
    given.write_bytes(b"an earlier upload")
    pid = works(decoder)
    first = decoder.run("keep", on_disk(given), {"path": str(given)}).document
    assert first == {"exists": True, "size": 17, "kept": None}
    given.unlink()
    second = decoder.run("keep", of(b"a later one"), {"path": str(given)}).document
    assert second == {"exists": False, "size": 0, "kept": "an earlier upload"}
    assert decoder.pids() == (pid,)


def test_a_child_gets_nothing_from_its_surroundings(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSIC_API_KEY", "secret")
    with Decoder(program=MISBEHAVING, limits=PATIENT) as fresh:
        found = fresh.run("surroundings", of(b"")).document
    assert set(found["environment"]) <= {"LC_ALL", "MALLOC_ARENA_MAX", "LD_LIBRARY_PATH"}
    assert found["directory"] == "/"
    assert found["nice"] >= 10
    assert found["umbrella"] is False


def test_this_process_loads_no_media_library() -> None:
    script = (
        "import sys, stagedoor.content.video, stagedoor.testing.media\n"
        "assert not {'av', 'PIL', 'filetype'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", ["spin", "block"])
def test_wall_clock(operation: str) -> None:
    with Decoder(program=MISBEHAVING, limits=SHORT) as decoder:
        assert code_of(decoder, operation) == "decoder_timeout"
        assert decoder.pids() == ()


def test_processor_time() -> None:
    limits = DecoderLimits(seconds=300, cpu_seconds=0.2, start_seconds=300)
    with Decoder(program=MISBEHAVING, limits=limits) as decoder:
        assert code_of(decoder, "spin") == "decoder_timeout"
        works(decoder)


def test_memory(decoder: Decoder) -> None:
    assert code_of(decoder, "bomb") == "decoder_memory"
    works(decoder)


@pytest.mark.parametrize("how", ["exit", "segmentation fault"])
def test_a_crash(decoder: Decoder, how: str) -> None:
    before = works(decoder)
    assert code_of(decoder, "die", {"how": how}) == "decoder_crashed"
    assert works(decoder) != before
    assert gone(before)


def test_an_error_in_the_child_is_logged_in_one_line(decoder: Decoder, caplog: pytest.LogCaptureFixture) -> None:
    assert code_of(decoder, "fail") == "decoder_crashed"
    (record,) = caplog.records
    assert "ZeroDivisionError" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_an_unreadable_input_is_no_fault_of_the_content(decoder: Decoder) -> None:
    with pytest.raises(StorageError):
        decoder.run("unreadable_disk", of(b"input"))


# ── hostile answers ───────────────────────────────────────────────────────────────────────────────────────────


def framed(document: bytes) -> bytes:
    return len(document).to_bytes(4, "big") + document


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0\0", id="half a length"),
        pytest.param(b"\xff\xff\xff\xff", id="four gigabytes"),
        pytest.param(framed(b"{}")[:-1], id="half a document"),
        pytest.param(framed(b"{}"), id="no blobs"),
        pytest.param(framed(b"[]"), id="a list"),
        pytest.param(framed(b"nonsense"), id="no JSON"),
        pytest.param(framed(b"\xff\xfe"), id="no UTF-8"),
        pytest.param(framed(b'{"a":NaN,"blobs":[]}'), id="not a number"),
        pytest.param(framed(b"[" * 100_000), id="depth"),
        pytest.param(framed(b'{"answer":{},"blobs":[-1]}'), id="a negative length"),
        pytest.param(framed(b'{"answer":{},"blobs":[true]}'), id="a length that is none"),
        pytest.param(framed(b'{"answer":{},"blobs":"1"}'), id="lengths that are none"),
        pytest.param(framed(b'{"answer":{},"blobs":[99999999999]}'), id="100 GB"),
        pytest.param(framed(b'{"answer":{},"blobs":[' + b"1," * 1000 + b"1]}"), id="a thousand blobs"),
        pytest.param(framed(b'{"answer":{},"blobs":[5]}') + b"four", id="half a blob"),
        pytest.param(framed(b'{"answer":[],"blobs":[]}'), id="an answer that is none"),
        pytest.param(framed(b'{"rejected":["truncated"],"blobs":[]}'), id="a code that is none"),
        pytest.param(framed(b'{"rejected":"<script>","blobs":[]}'), id="a code that nobody knows"),
    ],
)
def test_nonsense(decoder: Decoder, said: bytes) -> None:
    assert code_of(decoder, "say", {"hex": said.hex(), "then": "leave"}) == "decoder_crashed"


def test_an_answer_that_never_ends() -> None:
    with Decoder(program=MISBEHAVING, limits=SHORT) as decoder:
        said = framed(b'{"answer":{},"blobs":[5]}') + b"four"
        assert code_of(decoder, "say", {"hex": said.hex(), "then": "wait"}) == "decoder_timeout"


def test_numbers_for_a_sentence_are_numbers() -> None:
    said = framed(b'{"rejected":"frame_too_large","numbers":{"width":"{0.__class__}","x":1},"blobs":[]}')
    with Decoder(program=MISBEHAVING, limits=PATIENT) as decoder:  # the child waits for ever afterwards
        with pytest.raises(ContentRejected, match="0×0") as caught:
            decoder.run("say", of(b""), {"hex": said.hex(), "then": "wait"})
        assert caught.value.code == "frame_too_large"


class Lying(Decoder):
    """Children answer what the test wants, whatever they are asked."""

    def __init__(self) -> None:
        super().__init__(processes=1, program=MISBEHAVING, limits=PATIENT)
        self.answer: tuple[Any, list[bytes]] = ({}, [])

    def run(self, operation: str, source: Source, arguments: Mapping[str, Any] | None = None) -> Answer:
        document, blobs = self.answer
        return super().run("answer", source, {"document": document, "blobs": [blob.hex() for blob in blobs]})


@pytest.fixture(scope="module")
def lying() -> Iterator[Lying]:
    made = Lying()
    with made:
        yield made


FACTS: dict[str, Any] = {
    "kind": "mp4", "duration": 4.0, "width": 320, "height": 180, "sar": [1, 1], "rotation": 0,
    "display_width": 320, "display_height": 180, "video_codec": "h264", "audio_codec": "aac", "fps": 25,
    "tags": {"title": "A  \u202eB\n" + "x" * 900, "comment": "not asked for"},
}  # fmt: skip


def test_facts_are_cleaned(lying: Lying) -> None:
    lying.answer = (FACTS, [])
    facts = probe_video(lying, of(b""))
    assert facts.tags == {"title": "A B " + "x" * 196}
    assert (facts.duration, facts.fps) == (4.0, 25.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "exe"), ("kind", ["mp4"]), ("duration", 0), ("duration", -1), ("duration", 1e300),
        ("duration", "4"), ("duration", True), ("width", 0), ("width", 10**6), ("height", 3.5), ("sar", [1]),
        ("sar", [0, 1]), ("sar", 1), ("rotation", 91 * 4), ("display_width", 10**9), ("video_codec", "../x"),
        ("video_codec", None), ("audio_codec", "A B"), ("fps", -1), ("fps", "25"), ("tags", []), ("tags", {"title": 1}),
    ],
    ids=lambda value: repr(value),
)  # fmt: skip
def test_impossible_facts(lying: Lying, key: str, value: object) -> None:
    lying.answer = ({**FACTS, key: value}, [])
    with pytest.raises(ContentRejected) as caught:
        probe_video(lying, of(b""))
    assert caught.value.code == "decoder_crashed"


_JPEG, _WEBP = b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBPVP8X"


@pytest.mark.parametrize(
    "blobs",
    [
        pytest.param([], id="none"),
        pytest.param([_JPEG] * 10, id="no preview"),
        pytest.param([_JPEG] * 9 + [_WEBP], id="one missing"),
        pytest.param([_JPEG] * 9 + [b"<svg/>", _WEBP], id="another format"),
        pytest.param([_JPEG] * 10 + [b"<svg/>"], id="another preview"),
    ],
)
def test_pictures_that_are_none(lying: Lying, blobs: list[bytes]) -> None:
    lying.answer = ({}, blobs)
    with pytest.raises(ContentRejected) as caught:
        video_artwork(lying, of(b""), duration=4)
    assert caught.value.code == "decoder_crashed"


# ── the pool ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_is_used_again_and_replaced_in_time() -> None:
    limits = DecoderLimits(requests=3, seconds=300, cpu_seconds=300, start_seconds=300)
    with Decoder(program=MISBEHAVING, limits=limits, processes=1) as decoder:
        pids = [works(decoder) for _ in range(7)]
    assert [pids.index(pid) for pid in pids] == [0, 0, 0, 3, 3, 3, 6]


def test_a_child_that_refused_in_order_is_used_again() -> None:
    """A process for each of a hundred bad files would be a weapon."""
    with Decoder(limits=PATIENT) as decoder:
        decoder.sandbox()
        before = decoder.pids()
        with pytest.raises(ContentRejected):
            probe_video(decoder, of(media.noise()))
        assert decoder.pids() == before


def test_what_children_spend_is_counted_by_thread() -> None:
    with Decoder(limits=PATIENT) as decoder:
        assert decoder.spent() == 0.0
        for _ in range(20):
            probe_video(decoder, of(media.video()))
        spent = decoder.spent()
        assert spent > 0.0
        elsewhere: list[float] = []
        thread = threading.Thread(target=lambda: elsewhere.append(decoder.spent()))
        thread.start()
        thread.join()
        assert elsewhere == [0.0]
        assert decoder.spent() == spent


def test_a_child_killed_while_idle_is_replaced_without_blame(decoder: Decoder) -> None:
    before = works(decoder)
    watch = os.pidfd_open(before)
    os.kill(before, signal.SIGKILL)
    select.select([watch], [], [])
    os.close(watch)
    assert works(decoder) != before


def test_no_more_children_than_allowed() -> None:
    limits = DecoderLimits(requests=2, seconds=300, cpu_seconds=300, start_seconds=300)
    most = 0

    def use(decoder: Decoder) -> None:
        nonlocal most
        for _ in range(4):
            works(decoder)
            most = max(most, len(decoder.pids()))

    with Decoder(program=MISBEHAVING, limits=limits, processes=2) as decoder:
        threads = [threading.Thread(target=use, args=(decoder,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 1 <= most <= 2


def test_children_outlive_the_thread_that_asked_for_them(decoder: Decoder) -> None:
    pids: list[int] = []
    with Decoder(program=MISBEHAVING, limits=PATIENT) as fresh:
        thread = threading.Thread(target=lambda: pids.append(works(fresh)))
        thread.start()
        thread.join()
        assert works(fresh) == pids[0]


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_close_leaves_nothing(busy: bool) -> None:
    before = set(os.listdir("/proc/self/fd"))
    threads_before = set(threading.enumerate())
    decoder = Decoder(program=MISBEHAVING, limits=PATIENT)
    pids = {works(decoder)}
    errors: list[StorageError] = []
    worker = None
    if busy:
        started = threading.Event()

        def spin() -> None:
            try:
                decoder.run("spin", announcing(started))
            except StorageError as error:
                errors.append(error)

        worker = threading.Thread(target=spin)
        worker.start()
        started.wait()
        pids.update(decoder.pids())
    decoder.close()
    decoder.close()
    if worker is not None:
        worker.join()
        assert [error.code for error in errors] == ["decoder_closed"]
    assert all(gone(pid) for pid in pids)
    assert set(os.listdir("/proc/self/fd")) <= before
    assert set(threading.enumerate()) <= threads_before
    with pytest.raises(StorageError) as caught:
        works(decoder)
    assert caught.value.code == "decoder_closed"


def announcing(event: threading.Event) -> Source:
    """An input that tells when it is about to be handed over."""

    class Announcing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            event.set()
            return super().read(size)

    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield Announcing(b"input")

    return opened


def test_close_while_children_start() -> None:
    decoder = Decoder(program=MISBEHAVING, limits=PATIENT)
    started = threading.Event()
    codes: list[str] = []

    def use() -> None:
        try:
            decoder.run("spin", announcing(started))
        except StorageError as error:
            codes.append(error.code)

    worker = threading.Thread(target=use)
    worker.start()
    started.wait()
    decoder.close()
    worker.join()
    assert codes == ["decoder_closed"]


def test_a_decoder_that_is_dropped_takes_its_children_along() -> None:
    # In a process of its own: what is dropped complains while it is collected, and rightly so.
    script = (
        "import gc, os, select, sys, threading\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import test_decoder as t\n"
        "from pathlib import Path\n"
        "before = set(threading.enumerate())\n"
        "d = t.Decoder(program=Path(sys.argv[1]), limits=t.PATIENT)\n"
        "watch = os.pidfd_open(t.works(d))\n"
        "(spawner,) = set(threading.enumerate()) - before\n"
        "del d\n"
        "gc.collect()\n"
        "spawner.join()\n"
        "select.select([watch], [], [])\n"
    )
    subprocess.run([sys.executable, "-c", script, str(MISBEHAVING), str(MISBEHAVING.parent)], check=True, timeout=300)


def test_children_die_with_the_program(tmp_path: Path) -> None:
    # The child at work notices no closed connection: it is killed by the kernel.
    script = (
        "import sys, threading\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "import test_decoder as t\n"
        "from pathlib import Path\n"
        "d = t.Decoder(program=Path(sys.argv[1]), limits=t.PATIENT, processes=2)\n"
        "e = threading.Event()\n"
        "threading.Thread(target=lambda: d.run('spin', t.announcing(e)), daemon=True).start()\n"
        "e.wait()\n"
        "while not d.pids(): pass\n"
        "first = d.pids()\n"
        "pid = t.works(d)\n"
        "print(pid, *first, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(MISBEHAVING), str(MISBEHAVING.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = {int(word) for word in parent.stdout.readline().split()}
        assert len(pids) == 2
        watches = [os.pidfd_open(pid) for pid in pids]
        parent.kill()
    for watch in watches:
        assert select.select([watch], [], [], 60)[0]
        os.close(watch)


# ── streams ───────────────────────────────────────────────────────────────────────────────────────────────────


def counted(decoder: Decoder, count: int, then: str = "") -> list[Mapping[str, Any] | bytes]:
    with decoder.stream("count", of(b"input"), {"count": count, "then": then}) as frames:
        return list(frames)


def test_a_stream_comes_in_order(decoder: Decoder) -> None:
    pid = works(decoder)
    expected: list[Mapping[str, Any] | bytes] = []
    for number in range(300):
        expected += [{"number": number, "pid": pid}, bytes([number % 256]) * 1024]
    assert counted(decoder, 300) == expected
    assert counted(decoder, 0) == []
    assert works(decoder) == pid  # the same for all of it


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("die", "decoder_crashed"),
        ("fail", "decoder_crashed"),
        ("bomb", "decoder_memory"),
        ("reject", "frame_too_large"),
        ("unreadable_disk", "storage_error"),
    ],
)
def test_what_ends_a_stream_in_the_middle(decoder: Decoder, then: str, code: str) -> None:
    with decoder.stream("count", of(b"input"), {"count": 2, "then": then}) as frames:
        assert [type(next(frames)) for _ in range(4)] == [dict, bytes] * 2
        with pytest.raises(UploadError) as caught:
            next(frames)
        assert list(frames) == []
    assert caught.value.code == code
    assert (decoder.pids() == ()) == (then != "reject")
    works(decoder)


def bit(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "big") + content


SAID = bit(b"D", b"{}")


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"D\0\0", id="half a head"),
        pytest.param(SAID[:-1], id="half a document"),
        pytest.param(bit(b"B", b"bytes")[:-1], id="half a frame"),
        pytest.param(SAID, id="no end"),
        pytest.param(bit(b"X", b"{}"), id="another kind"),
        pytest.param(b"B\xff\xff\xff\xff", id="four gigabytes"),
        pytest.param(b"B" + ((1 << 20) + 1).to_bytes(4, "big") + bytes((1 << 20) + 1), id="a MiB and a byte"),
        pytest.param(bit(b"D", b"nonsense"), id="no JSON"),
        pytest.param(bit(b"D", b"\xff\xfe"), id="no UTF-8"),
        pytest.param(bit(b"D", b"[]"), id="a list"),
        pytest.param(bit(b"D", b'{"a":NaN}'), id="not a number"),
        pytest.param(bit(b"D", b"[" * 100_000), id="depth"),
        pytest.param(bit(b"E", b"{}"), id="an end without an answer"),
        pytest.param(bit(b"E", b'{"answer":1}'), id="an answer that is none"),
        pytest.param(bit(b"E", b""), id="an end of nothing"),
        pytest.param(bit(b"E", b'{"rejected":["truncated"]}'), id="a code that is none"),
        pytest.param(bit(b"E", b'{"rejected":"<script>"}'), id="a code that nobody knows"),
    ],
)
def test_nonsense_in_a_stream(decoder: Decoder, said: bytes) -> None:
    with decoder.stream("say", of(b""), {"hex": (SAID + said).hex(), "then": "leave"}) as frames:
        assert next(frames) == {}
        with pytest.raises(ContentRejected) as caught:
            list(frames)
    assert caught.value.code == "decoder_crashed"
    assert decoder.pids() == ()


def test_the_largest_frame() -> None:
    large = bytes(1 << 20)
    said = bit(b"B", large) + bit(b"E", b'{"answer":{}}')
    with (
        Decoder(program=MISBEHAVING, limits=PATIENT) as decoder,
        decoder.stream("say", of(b""), {"hex": said.hex(), "then": "wait"}) as frames,
    ):
        assert list(frames) == [large]


@pytest.mark.parametrize("then", ["spin", "block"])
def test_each_frame_has_its_time(then: str) -> None:
    with Decoder(program=MISBEHAVING, limits=SHORT) as decoder:
        with decoder.stream("count", of(b""), {"count": 1, "then": then}) as frames:
            assert [type(next(frames)) for _ in range(2)] == [dict, bytes]
            with pytest.raises(ContentRejected) as caught:
                next(frames)
        assert caught.value.code == "decoder_timeout"
        assert decoder.pids() == ()


def test_a_frame_that_never_ends() -> None:
    with Decoder(program=MISBEHAVING, limits=SHORT) as decoder:
        said = bit(b"B", b"bytes")[:-1]
        with (
            decoder.stream("say", of(b""), {"hex": said.hex(), "then": "wait"}) as frames,
            pytest.raises(ContentRejected) as caught,
        ):
            next(frames)
        assert caught.value.code == "decoder_timeout"


def test_time_is_for_the_child_and_not_for_the_reader(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    hours, clock = 0, time.monotonic
    with monkeypatch.context() as patched, decoder.stream("count", of(b""), {"count": 5}) as frames:
        patched.setattr(time, "monotonic", lambda: clock() + 3600 * hours)
        for _ in frames:
            hours += 1
    assert hours == 10


@pytest.mark.parametrize(
    ("frame", "taken"), [({"a": 1}, 3), ({"passed": 0}, 3), ({"passed": True}, 3), ({"passed": 100 << 20}, 20)]
)
def test_a_stream_that_is_always_just_in_time(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, frame: Mapping[str, int], taken: int
) -> None:
    """Each frame takes 100 seconds of the 300, and more are left only for what was brought."""
    read, clock, late, found = module._Child.frame, time.monotonic, 0, 0

    def slow(child: module._Child, seconds: float) -> tuple[Mapping[str, Any] | bytes, bool]:
        nonlocal late
        said = read(child, seconds)
        late += 100
        return said

    def read_all() -> None:
        nonlocal found
        with decoder.stream("frames", of(b""), {"frames": [frame] * 20}) as frames:
            for _ in frames:
                found += 1

    with monkeypatch.context() as patched:
        patched.setattr(module._Child, "frame", slow)
        patched.setattr(time, "monotonic", lambda: clock() + late)
        if taken == 20:
            read_all()
        else:
            with pytest.raises(ContentRejected) as caught:
                read_all()
            assert caught.value.code == "decoder_timeout"
    assert found == taken
    works(decoder)


def test_processor_time_anew() -> None:
    limits = DecoderLimits(seconds=300, cpu_seconds=60, start_seconds=300)
    with (
        Decoder(program=MISBEHAVING, limits=limits) as decoder,
        decoder.stream("work_hard", of(b"")) as frames,
    ):
        before, _, after = (dict(frame) for frame in frames if not isinstance(frame, bytes))
    assert before["left"] <= before["given"] - 0.2
    assert after["left"] > before["left"]


@pytest.mark.parametrize("read", [0, 1, 100])
def test_a_reader_that_stops_early(decoder: Decoder, read: int) -> None:
    pid = works(decoder)
    with decoder.stream("count", of(b""), {"count": 10**9}) as frames:
        for _ in range(read):
            next(frames)
        assert decoder.pids() == (pid,)
    assert decoder.pids() == ()
    assert gone(pid)
    assert list(frames) == []  # it is over, and not the next one's
    works(decoder)


def test_a_reader_that_fails(decoder: Decoder) -> None:
    def read() -> None:
        with decoder.stream("count", of(b""), {"count": 10**9}) as frames:
            next(frames)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read()
    assert decoder.pids() == ()


def test_streams_that_are_dropped(decoder: Decoder) -> None:
    """Its end is not read, so nobody knows whether it is sound: the child is not used again."""
    with decoder.stream("count", of(b""), {"count": 1}) as frames:
        assert [type(next(frames)) for _ in range(2)] == [dict, bytes]
    assert decoder.pids() == ()


def test_two_streams_and_other_requests_at_once() -> None:
    with Decoder(program=MISBEHAVING, limits=PATIENT, processes=2) as decoder:
        with (
            decoder.stream("count", of(b""), {"count": 20}) as first,
            decoder.stream("count", of(b""), {"count": 20}) as second,
        ):
            pids = set()
            for one, other in zip(first, second, strict=True):
                if not isinstance(one, bytes):
                    assert not isinstance(other, bytes)
                    assert (one["number"], one["pid"] != other["pid"]) == (other["number"], True)
                    pids |= {one["pid"], other["pid"], works(decoder)}
        assert len(pids) == 3
        assert set(decoder.pids()) == pids


def test_streams_and_requests_of_many_do_not_wait_in_a_circle() -> None:
    """One place for streams and one for the rest, and each reader wants the other while it holds the first."""
    finished: list[int] = []

    def read(decoder: Decoder) -> None:
        with decoder.stream("count", of(b""), {"count": 20}) as frames:
            for frame in frames:
                if isinstance(frame, bytes):
                    works(decoder)
        finished.append(1)

    def ask(decoder: Decoder) -> None:
        for _ in range(20):
            works(decoder)
        finished.append(1)

    with Decoder(program=MISBEHAVING, limits=PATIENT, processes=1) as decoder:
        threads = [threading.Thread(target=work, args=(decoder,)) for work in (read, read, ask, ask, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(finished) == 5


def test_a_child_serves_streams_and_requests_until_it_is_replaced() -> None:
    limits = DecoderLimits(requests=4, seconds=300, cpu_seconds=300, start_seconds=300)
    with Decoder(program=MISBEHAVING, limits=limits, processes=1) as decoder:
        pids = []
        for _ in range(3):
            pids.append(works(decoder))
            document = counted(decoder, 1)[0]
            assert not isinstance(document, bytes)
            pids.append(document["pid"])
    assert [pids.index(pid) for pid in pids] == [0, 0, 0, 0, 4, 4]


def test_close_during_a_stream() -> None:
    before = set(os.listdir("/proc/self/fd"))
    decoder = Decoder(program=MISBEHAVING, limits=PATIENT)
    reading = threading.Event()
    codes: list[str] = []
    pids: list[int] = []

    def read() -> None:
        try:
            with decoder.stream("count", of(b""), {"count": 10**9}) as frames:
                for _ in frames:
                    pids[:] = pids or decoder.pids()
                    reading.set()
        except StorageError as error:
            codes.append(error.code)

    reader = threading.Thread(target=read)
    reader.start()
    reading.wait()
    decoder.close()
    assert all(gone(pid) for pid in pids)
    reader.join()
    assert codes == ["decoder_closed"]
    assert set(os.listdir("/proc/self/fd")) <= before
    with pytest.raises(StorageError) as caught:
        counted(decoder, 1)
    assert caught.value.code == "decoder_closed"


def test_close_while_a_reader_waits_for_its_turn() -> None:
    decoder = Decoder(program=MISBEHAVING, limits=PATIENT, processes=1)
    started = threading.Event()
    codes: list[str] = []

    def read() -> None:
        try:
            with decoder.stream("count", announcing(started), {"count": 1}) as frames:
                list(frames)
        except StorageError as error:
            codes.append(error.code)

    closer = threading.Thread(target=decoder.close)
    with decoder.stream("count", of(b""), {"count": 10**9}) as frames:
        next(frames)
        waiting = threading.Thread(target=read)
        waiting.start()
        started.wait()
        closer.start()
        waiting.join()
        with pytest.raises(StorageError) as caught:
            list(frames)
    closer.join()
    assert codes == [caught.value.code] == ["decoder_closed"]


def test_a_source_that_fails_before_a_stream(decoder: Decoder) -> None:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        raise StorageError("the disk is gone")
        yield

    with pytest.raises(StorageError, match="disk"), decoder.stream("count", opened, {"count": 1}):
        raise AssertionError
    works(decoder)


# ── start ─────────────────────────────────────────────────────────────────────────────────────────────────────


def program(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "program.py"
    path.write_text(text)
    return path


def without(package: str) -> str:
    run = f"runpy.run_path({str(module._PROGRAM)!r}, run_name='__main__')"
    return f"import sys, runpy\nsys.modules[{package!r}] = None\n{run}\n"


@pytest.mark.parametrize("package", ["av", "PIL"])
def test_missing_media_packages(tmp_path: Path, package: str) -> None:
    with (
        Decoder(program=program(tmp_path, without(package)), limits=PATIENT) as decoder,
        pytest.raises(ConfigurationError, match=r"stagedoor\[media\]") as caught,
    ):
        probe_video(decoder, of(b""))
    assert caught.value.code == "media_missing"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise SystemExit('no luck')", "no luck"),
        ("import sys; print('x' * 10_000, file=sys.stderr)", "xxx"),
        ("import os; os._exit(0)", "it ended without a word"),
        ("import os, sys; os.read(int(sys.argv[1]), 4); os._exit(0)", "it ended without a word"),
        ("import os, signal, sys; os.write(int(sys.argv[1]), b'good day'); signal.pause()", "it does not keep to the"),
    ],
    ids=["message", "much", "silent", "silent after the request", "nonsense"],
)
def test_a_child_that_does_not_start(tmp_path: Path, text: str, reason: str) -> None:
    with Decoder(program=program(tmp_path, text), limits=PATIENT) as decoder:
        with pytest.raises(StorageError, match=reason) as caught:
            probe_video(decoder, of(b""))
        assert decoder.pids() == ()
    assert caught.value.code == "decoder_unavailable"
    assert len(str(caught.value)) < 700


def test_a_child_that_starts_too_slowly(tmp_path: Path) -> None:
    limits = DecoderLimits(start_seconds=0.1)
    endless = program(tmp_path, "while True: pass")
    with Decoder(program=endless, limits=limits) as decoder, pytest.raises(StorageError) as caught:
        decoder.sandbox()
    assert caught.value.code == "decoder_unavailable"
    assert "it was not ready within 0.1 seconds" in str(caught.value)


def test_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Decoder(limits=PATIENT) as decoder, pytest.raises(StorageError) as caught:
        decoder.sandbox()
    assert caught.value.code == "decoder_unavailable"


def test_a_decoder_does_not_cross_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    with Decoder(limits=PATIENT) as decoder:
        before = works_for_real(decoder)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ConfigurationError, match="after the fork"):
            decoder.sandbox()
        decoder.close()
        monkeypatch.undo()
        assert works_for_real(decoder) == before


def test_a_decoder_without_processes() -> None:
    with pytest.raises(ConfigurationError):
        Decoder(processes=0)


# ── inputs ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["rb", "rb+"])
def test_files_and_their_position(decoder: Decoder, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 20_000)
    answer = decoder.run("echo", on_disk(path, mode))
    assert answer.blobs == [path.read_bytes()]
    assert answer.document["size"] == 5_120_000


def test_a_device_is_no_file(decoder: Decoder) -> None:
    """An input whose descriptor is no regular file is read here, and given on as memory."""

    class Odd(io.BytesIO):
        def fileno(self) -> int:
            return null.fileno()

    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield Odd(b"input")

    null = open("/dev/null", "rb")  # noqa: SIM115

    with null:
        assert decoder.run("echo", opened).blobs == [b"input"]


def test_a_source_that_fails(decoder: Decoder) -> None:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        raise StorageError("the disk is gone")
        yield

    with pytest.raises(StorageError, match="disk"):
        decoder.run("echo", opened)
    works(decoder)


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-I", "-S", str(module._PROGRAM), str(theirs.fileno()), "1"]
        done = subprocess.run(command, pass_fds=[theirs.fileno()], check=False, timeout=300)
        assert done.returncode == 0
