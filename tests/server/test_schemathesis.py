"""The OpenAPI document against the server: whatever is sent, the answer is one that is documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from stagedoor.lifecycle import State
from stagedoor.server.api import TABLE
from stagedoor.server.api.documents import openapi

from .answering import answering
from .serving import Served

if TYPE_CHECKING:
    from conftest import House

schemathesis: Any = pytest.importorskip("schemathesis", reason="schemathesis makes the requests, and is not here")

found: Any = pytest.importorskip("schemathesis.specs.openapi.checks", reason="it comes with schemathesis")

CHECKS = (
    schemathesis.checks.not_a_server_error,
    found.status_code_conformance,
    found.content_type_conformance,
    found.response_schema_conformance,
)
SCHEMA: Any = schemathesis.openapi.from_dict(openapi())
ENDLESS = ("/api/events",)
OPERATIONS = {f"{r.method} {r.path}": SCHEMA[r.path][r.method] for r in TABLE.routes if r.path not in ENDLESS}
SPOILABLE = {f"{r.method} {r.path}" for r in TABLE.routes if r.inside or r.query or r.body}
"""What takes something, so that something wrong can be sent."""


@pytest.fixture
def served(house: House) -> Iterator[Served]:
    """A server with something in every state, under ids that requests may hit upon."""
    for name, state in zip(
        "abcdefghijk", (s for s in State if s not in (State.REMOVE, State.NOTEXISTING)), strict=True
    ):
        names = {} if state is State.INTEGRATIONFAILED else {"artistname": "Alpha", "name": name}
        house.bring(state, name, annotations=names)
    with answering(house) as running:
        yield running


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *(("positive", name) for name in OPERATIONS),
        *(("negative", name) for name in OPERATIONS if name in SPOILABLE),
    ],
)
def test_nothing_but_documented_answers(served: Served, name: str, mode: str) -> None:
    operation = OPERATIONS[name]
    strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    @settings(
        max_examples=15,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=served.url, checks=CHECKS)

    ask()
