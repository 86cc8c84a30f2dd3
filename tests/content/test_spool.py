"""The nameless file into which things from an archive go, one after the other."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from stagedoor.content.spool import Spool
from stagedoor.errors import StorageError, StorageFull


def held(spool: Spool) -> bytes:
    with spool.source() as file:
        return file.read()


def test_it_holds_what_was_put_in_last(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        assert held(spool) == b""
        for data in (b"long" * 1_000_000, b"short", b""):
            found = spool.fill(io.BytesIO(data))
            assert held(spool) == data
            assert (found.size, found.sha1, found.sha256) == (
                len(data), hashlib.sha1(data, usedforsecurity=False).hexdigest(), hashlib.sha256(data).hexdigest(),
            )  # fmt: skip


def test_it_has_no_name_and_goes_with_its_owner(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.fill(io.BytesIO(b"x"))
        assert list(tmp_path.iterdir()) == []
        before = len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_reader_can_neither_write_nor_disturb_another(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.fill(io.BytesIO(b"0123456789"))
        with spool.source() as one, spool.source() as other:
            assert (one.read(5), other.read(3), one.read(5)) == (b"01234", b"012", b"56789")
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(one.fileno(), b"x")


def test_a_stream_starts_where_it_stands(tmp_path: Path) -> None:
    stream = io.BytesIO(b"0123456789")
    stream.seek(4)
    with Spool(tmp_path) as spool:
        assert spool.fill(stream).size == 6
        assert held(spool) == b"456789"


class Faulty(io.FileIO):
    """Writes one byte at a time, and then no more."""

    code = 0
    left = 1 << 30

    def write(self, data: Any) -> int:
        if self.left <= 0:
            raise OSError(self.code, os.strerror(self.code))
        self.left -= 1
        return super().write(memoryview(data)[:1])


def faulty(monkeypatch: pytest.MonkeyPatch, code: int, left: int) -> None:
    def made(dir: str | None = None, **_: Any) -> Faulty:  # as tempfile calls it
        fd, name = tempfile.mkstemp(dir=dir)
        os.unlink(name)
        file = Faulty(fd, "r+")
        file.code, file.left = code, left
        return file

    monkeypatch.setattr(tempfile, "TemporaryFile", made)


def test_short_writes_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, 0, 1 << 30)
    with Spool(tmp_path) as spool:
        assert spool.fill(io.BytesIO(b"0123456789")).size == 10
        assert held(spool) == b"0123456789"


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (errno.ENOSPC, StorageFull, "no room to unpack"),
        (errno.EDQUOT, StorageFull, "no room to unpack"),
        (errno.EIO, StorageError, "could not be unpacked"),
    ],
)
def test_a_disk_that_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[StorageError], words: str
) -> None:
    faulty(monkeypatch, code, 4)
    with Spool(tmp_path) as spool, pytest.raises(error, match=words) as caught:
        spool.fill(io.BytesIO(b"0123456789"))
    assert type(caught.value) is error


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not be unpacked"):
        Spool(tmp_path / "nowhere")


def test_what_fails_in_the_stream_is_the_streams(tmp_path: Path) -> None:
    """It is not taken for a failure of the disk."""

    class Torn(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise ConnectionError("torn")

    with Spool(tmp_path) as spool, pytest.raises(ConnectionError):
        spool.fill(Torn())
