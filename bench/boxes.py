"""The time that a campaign has."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen


@frozen
class Box:
    """How long a campaign may take, and where it says how far it is."""

    seconds: float
    began: float
    say: Callable[[str], None]

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.began)
