"""The model is worth its time: four planted bugs, each found within a number of examples."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from stagedoor.adapters.disk import storage_errors
from stagedoor.adapters.local import LocalBytes
from stagedoor.adapters.memory import MemoryBytes
from stagedoor.errors import UploadError
from stagedoor.ports import Buffer
from stagedoor.session import Session
from stagedoor.tasks import evolve
from stagedoor.testing.stateful import UploadsModel
from stagedoor.testing.worlds import MemoryWorld, PowerWorld


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def found(model: type[UploadsModel], examples: int = 1000) -> AssertionError | UploadError | None:
    """What the model has to say, within some thousand examples."""
    try:
        run_state_machine_as_test(
            model,
            settings=settings(
                max_examples=examples,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                database=None,
                print_blob=False,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            ),
        )
    except (AssertionError, UploadError) as error:  # an error where the model expects none is a find as well
        return error
    return None


class BlindBytes(MemoryBytes):
    """Appends where the bytes end instead of writing where they belong, and never cuts back."""

    def append(self, key: str, offset: int, data: Buffer) -> None:
        self._place(key).data += data

    def rollback(self, key: str) -> int:
        return self._place(key).recorded


def test_append_instead_of_write_at() -> None:
    class World(MemoryWorld):
        def __init__(self) -> None:
            super().__init__()
            self.bytes = BlindBytes()

    class Model(UploadsModel):
        world = World
        rows_taken: ClassVar[Counter[str]] = Counter()

    error = found(Model)
    assert error is not None


def test_the_record_before_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(self: LocalBytes, key: str) -> int:
        with self._use(key) as place, storage_errors("storing a chunk"):
            if place.end != place.recorded:
                self._record(place, place.end)
                self._disk.sync_data(place.fd)
            return place.recorded

    monkeypatch.setattr(LocalBytes, "commit", commit)

    class World(PowerWorld):
        def crashed(self) -> None:
            self.fuse.release()
            self.disk = self.disk.crash("none")

    class Model(UploadsModel):
        world = World
        rows_taken: ClassVar[Counter[str]] = Counter()

    error = found(Model, 4000)  # the power has to go between two calls of very many
    assert error is not None


def test_a_duplicate_moves_the_offset_back(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Session.store_chunk

    def store_chunk(self: Session) -> None:
        right(self)
        assert self.chunk is not None
        self.task = evolve(self.task, offset=self.chunk.offset + self.chunk.size)

    monkeypatch.setattr(Session, "store_chunk", store_chunk)

    class Model(UploadsModel):
        world = MemoryWorld
        rows_taken: ClassVar[Counter[str]] = Counter()

    error = found(Model)
    assert error is not None
    assert "offset is" in str(error)


def test_overshoot_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Session.chunk_fits

    def chunk_fits(self: Session) -> bool:
        return right(self) or self.refusal("chunk_fits").code == "beyond_the_end"

    monkeypatch.setattr(Session, "chunk_fits", chunk_fits)

    class Model(UploadsModel):
        world = MemoryWorld
        rows_taken: ClassVar[Counter[str]] = Counter()

    error = found(Model)
    assert error is not None
    assert "beyond_the_end" in str(error)
