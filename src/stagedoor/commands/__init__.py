"""Commands of the command line that need modules of their own: the server's, and its client's."""

from __future__ import annotations

__all__ = ["Usual"]


class Usual(str):
    """What an option is when the command line does not say it; the environment may have."""

    __slots__ = ()
