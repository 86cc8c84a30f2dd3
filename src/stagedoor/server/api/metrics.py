"""Numbers for Prometheus, and whether the server lives and can work.

A registry of our own, filled when somebody asks: nothing is counted twice, and nothing is global. What is counted on
the way is in `stagedoor.server.tally`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ...errors import UploadError
from ...ports import Room
from ...protocols.fields import Answer
from ...protocols.problems import WireError, problem
from ..core import Core
from ..http import Send
from .board import Board
from .routes import Call, Handler, Media, Reply, Route, json_answer
from .schemas import Schemas

__all__ = ["OPERATION", "Operation"]


def _truth(name: str) -> tuple[Media, ...]:
    def schema(schemas: Schemas) -> dict[str, Any]:
        return {"type": "object", "properties": {name: {"const": True}}, "required": [name]}

    return (Media(schema=schema),)


OPERATION: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/metrics",
        "metrics",
        "Numbers for Prometheus.",
        tag="operation",
        replies=(Reply(200, "The numbers.", (Media("text/plain"), Media("application/openmetrics-text"))),),
        problems=(503,),
    ),
    Route(
        "GET",
        "/healthz",
        "healthz",
        "Whether the process lives: if this answers, it does.",
        tag="operation",
        replies=(Reply(200, "It lives.", _truth("alive")),),
        open=True,
    ),
    Route(
        "GET",
        "/readyz",
        "readyz",
        "Whether the server can work; if not, `reasons` says what is wrong.",
        tag="operation",
        replies=(Reply(200, "It can.", _truth("ready")),),
        problems=(503,),
        open=True,
    ),
)


class Operation:
    """Answers `OPERATION`."""

    def __init__(self, core: Core, board: Board) -> None:
        self._core = core
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Server(core, board))
        ProcessCollector(registry=self._registry)
        self.handlers: dict[str, Handler] = {
            "metrics": self._metrics,
            "healthz": self._healthz,
            "readyz": self._readyz,
        }

    async def _metrics(self, call: Call, send: Send) -> Answer:
        encoder, kind = choose_encoder(call.request.headers.get("accept", ""))
        body = await self._core.read(encoder, self._registry)
        return Answer(200, (("Content-Type", kind), ("Cache-Control", "no-store")), body)

    async def _healthz(self, call: Call, send: Send) -> Answer:
        return json_answer({"alive": True})

    async def _readyz(self, call: Call, send: Send) -> Answer:
        reasons = await self._core.read(self._reasons)
        if not reasons:
            return json_answer({"ready": True})
        error = WireError(" ".join(reasons.values()), status=503, code="not_ready")
        return problem(error, members={"reasons": list(reasons)})

    def _reasons(self) -> dict[str, str]:
        """What is wrong, a sentence by its code. Whoever asks has no key: no numbers and no names."""
        core, uploads = self._core, self._core.uploads
        wrong: dict[str, str] = {}
        if core.draining:
            wrong["draining"] = "The server stops."
        if uploads.closed:
            wrong["closed"] = "The uploads are closed."
        elif core.managed is False:
            wrong["no_management"] = "The management does not run: nothing is pre-processed or imported."
        store = uploads.ports.bytes
        if isinstance(store, Room) and not uploads.closed:
            try:
                if store.free() < uploads.settings.free_floor:
                    wrong["disk_full"] = "The disk is full: no new uploads are taken."
            except UploadError:
                wrong["disk_failed"] = "The disk does not answer."
        return wrong


@runtime_checkable
class _Counted(Protocol):
    """A queue of work that knows how much waits in it."""

    def waiting(self) -> int:
        """Uploads for which something is, or will be, due."""
        ...


class _Server(Collector):
    """All numbers of ours."""

    def __init__(self, core: Core, board: Board) -> None:
        self._core, self._board = core, board

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`. In a thread, while the event loop counts on: so everything is copied first."""
        core, tally = self._core, self._core.tally
        self._board.fill()
        uploads = GaugeMetricFamily("stagedoor_uploads", "Uploads by state.", labels=["state"])
        for state, number in self._board.counts().items():
            uploads.add_metric([state], number)
        yield uploads
        yield _counter("received_bytes", "Bytes of bodies and chunks.", ["wire"], tally.received.copy())
        requests = CounterMetricFamily("stagedoor_requests", "Answered requests.", labels=["route", "method", "status"])
        for (route, method, status), number in tally.requests.copy().items():
            requests.add_metric([route, method, str(status)], number)
        yield requests
        yield _counter("notices", "Notices by kind.", ["kind"], tally.notices.copy())
        yield _counter("steps", "Rows of the life cycle that changed an upload.", ["trigger"], tally.steps.copy())
        failures = CounterMetricFamily(
            "stagedoor_failures", "Of these, the ones that failed.", labels=["trigger", "code"]
        )
        for (trigger, code), number in tally.failures.copy().items():
            failures.add_metric([trigger, code], number)
        yield failures
        yield GaugeMetricFamily("stagedoor_listeners", "Connections that hear notices.", core.hub.count())
        yield GaugeMetricFamily(
            "stagedoor_notices_waiting", "Notices that are not in the listeners' queues yet.", core.hub.waiting()
        )
        if isinstance(core.uploads.work, _Counted):
            yield GaugeMetricFamily(
                "stagedoor_work_waiting", "Uploads that wait for the management.", core.uploads.work.waiting()
            )
        if core.managed is not None:
            yield GaugeMetricFamily("stagedoor_management_up", "Whether the management runs.", float(core.managed))
        store = core.uploads.ports.bytes
        if isinstance(store, Room):
            yield GaugeMetricFamily("stagedoor_free_bytes", "Room for uploads on the disk.", store.free())
        yield GaugeMetricFamily("stagedoor_uptime_seconds", "Since the server began.", time.time() - core.started)


def _counter(name: str, doc: str, labels: list[str], numbers: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"stagedoor_{name}", doc, labels=labels)
    for label, number in numbers.items():
        family.add_metric([label], number)
    return family
