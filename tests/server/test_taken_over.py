"""A decoder that a stranger's file has taken over, and the server around it, which goes on.

What such a child may not do is in ``tests/content/test_decoder.py``; here is what others notice of it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from stagedoor.content.decoding import Decoder, DecoderLimits
from stagedoor.content.video import Video
from stagedoor.lifecycle import State
from stagedoor.testing.content import PlainContent
from stagedoor.testing.kills import TUS

from .serving import PATIENCE, Served, settle, standing

if TYPE_CHECKING:
    from conftest import House

CHILD: Final = Path(__file__).parents[1] / "content" / "misbehaving_child.py"
BRIEF: Final = DecoderLimits(seconds=300, cpu_seconds=0.2, start_seconds=300, memory=512 << 20)
NONSENSE: Final = {"deed": "say", "hex": b"\xff\xff\xff\xff".hex(), "then": "leave"}


def video(**deed: str) -> bytes:
    """A file that makes the child do something."""
    return b"\x1a\x45\xdf\xa3 now " + json.dumps(deed).encode()


def send(served: Served, kind: str, data: bytes) -> str:
    """An upload over tus, in one request; returns its id."""
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    said = {"filename": "a.mkv", "contenttype": kind, "sha1": sha1}
    metadata = ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in said.items())
    created = {"Upload-Length": str(len(data)), "Upload-Metadata": metadata}
    body = {"Content-Type": "application/offset+octet-stream"}
    reply = served("POST", "/files/", {**TUS, **created, **body}, data)
    assert (reply.status, reply["upload-offset"]) == (201, str(len(data)))
    return reply["location"].rpartition("/")[2]


def left_behind() -> Mapping[str, list[str]]:
    """What of the kernel's outlives a process."""
    return {name: Path(f"/proc/sysvipc/{name}").read_text().splitlines() for name in ("shm", "sem", "msg")}


def of_decoders() -> list[str]:
    """Files in memory that this process has open: inputs of children, and what they said."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile; the one of the list itself, for one
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in found if name.startswith("/memfd:stagedoor")]


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(processes=2, program=CHILD, limits=BRIEF) as made:
        yield made


@pytest.mark.parametrize(
    ("deed", "code"),
    [
        pytest.param({"deed": "spin"}, "decoder_timeout", id="spins"),
        pytest.param({"deed": "bomb"}, "decoder_memory", id="wants all memory"),
        pytest.param({"deed": "die", "how": "exit"}, "decoder_crashed", id="ends"),
        pytest.param({"deed": "die", "how": "segmentation fault"}, "decoder_crashed", id="crashes"),
        pytest.param(NONSENSE, "decoder_crashed", id="talks nonsense"),
        pytest.param({"deed": "fail"}, "decoder_crashed", id="fails"),
    ],
)
def test_the_upload_is_refused_and_the_server_goes_on(
    closed: House, decoder: Decoder, deed: Mapping[str, str], code: str
) -> None:
    uploads = closed.open(contents=[Video(decoder), PlainContent("plain")])
    with standing(closed, worker=True) as served:
        kernel = left_behind()
        bad = send(served, "video", video(**deed))
        good = send(served, "plain", b"fine")
        settle(uploads, good, lambda task: task.state is State.PREPROCESSED)
        settle(uploads, bad, lambda task: task.state is State.INVALIDCONTENT)
        task = uploads.get(bad)
        assert task.code == code
        assert decoder.pids() == ()
        assert of_decoders() == []
        assert left_behind() == kernel
        assert served("DELETE", f"/files/{bad}", TUS).status == 204
        assert uploads.wait(bad, PATIENCE) is None


def test_while_decoders_hang_the_server_takes_uploads_and_answers(closed: House) -> None:
    """Both threads of the management wait for children that never answer; steps wait for them, and nothing else."""
    patient = DecoderLimits(seconds=300, cpu_seconds=300, start_seconds=300)
    with Decoder(processes=2, program=CHILD, limits=patient) as decoder:
        uploads = closed.open(contents=[Video(decoder), PlainContent("plain")])
        with standing(closed, worker=True) as served:
            hanging = [send(served, "video", video(deed="block", who=who)) for who in "ab"]
            good = send(served, "plain", b"fine")
            for uploadid in (*hanging, good):
                assert served("HEAD", f"/files/{uploadid}", TUS).status == 200
            assert served("DELETE", f"/files/{hanging[0]}", TUS).status == 204
            assert uploads.get(hanging[0]).state is State.REMOVE
            decoder.close()  # as it does by itself when their time is up
            settle(uploads, good, lambda task: task.state is State.PREPROCESSED)
            assert uploads.wait(hanging[0], PATIENCE) is None
            assert uploads.get(hanging[1]).state is State.UPLOADCOMPLETE
