"""The commands of the command line: a module for those that belong together, and what they have alike.

`stagedoor.cli` puts them into one parser: each module that has commands adds them with ``register``.
"""

from __future__ import annotations

__all__ = ["FAILED", "FINE", "IN_USE", "NOT_FOUND", "READER_GONE", "USAGE", "WAITING", "Usual"]

FINE, FAILED, USAGE, NOT_FOUND, IN_USE, WAITING, READER_GONE = 0, 1, 2, 3, 4, 5, 141
"""Exit codes, see `stagedoor.cli`."""


class Usual(str):
    """What an option is when the command line does not say it; the environment may have."""

    __slots__ = ()
