"""The shipped model on the shipped adapters."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from stagedoor.lifecycle import ROWS
from stagedoor.testing.stateful import UploadsModel
from stagedoor.testing.worlds import MemoryWorld, PowerWorld

EXAMPLES = int(os.environ.get("STAGEDOOR_EXAMPLES", "0"))


class OnMemory(UploadsModel):
    world = MemoryWorld
    rows_taken: ClassVar[Counter[str]] = Counter()


class OnPowerCuts(UploadsModel):
    world = PowerWorld
    rows_taken: ClassVar[Counter[str]] = Counter()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of planted failures would each be logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("model", "examples"), [(OnMemory, 250), (OnPowerCuts, 120)])
def test_the_engine_does_what_the_model_says(model: type[UploadsModel], examples: int) -> None:
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=EXAMPLES or examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=not EXAMPLES,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if not EXAMPLES else list(Phase),
        ),
    )


if EXAMPLES >= 2000:  # chance needs some thousand lives: make campaign

    def test_the_models_together_took_every_row() -> None:
        taken = {*OnMemory.rows_taken, *OnPowerCuts.rows_taken}
        assert {row.id for row in ROWS} - taken == set()
