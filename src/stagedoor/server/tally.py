"""What a server counts: plain numbers, so that counting costs the byte paths nothing. `api.metrics` shows them."""

from __future__ import annotations

from collections import Counter

from attrs import define, field

from ..notices import Notice, NoticeKind

__all__ = ["Tally"]


@define(eq=False)
class Tally:
    """Numbers since the start. Changed on the event loop only.

    Attributes:
        requests: By route, method and status.
        received: Bytes of bodies and of chunks, by wire.
        notices: By kind.
        steps: Rows of the life cycle that were taken and changed a document, by trigger.
        failures: Of these the ones that failed, by trigger and code.
    """

    requests: Counter[tuple[str, str, int]] = field(factory=Counter)
    received: Counter[str] = field(factory=Counter)
    notices: Counter[str] = field(factory=Counter)
    steps: Counter[str] = field(factory=Counter)
    failures: Counter[tuple[str, str]] = field(factory=Counter)

    def request(self, route: str, method: str, status: int) -> None:
        """A request was answered; status 0 when its client was gone before."""
        self.requests[route, method if method in _METHODS else "other", status] += 1

    def hear(self, notice: Notice, *, changed: bool) -> None:
        """A notice was told.

        Args:
            notice: The notice.
            changed: Whether it is the first one of its revision: only then its last line of history is news.
        """
        self.notices[notice.kind.value] += 1
        task = notice.task
        if changed and task is not None and task.history:
            trigger = task.history[-1].trigger
            self.steps[trigger] += 1
            if notice.kind is NoticeKind.INTERNAL_ERROR:
                self.failures[trigger, notice.code or ""] += 1


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What a stranger calls a method must not become a label."""
