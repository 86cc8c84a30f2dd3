"""Bodies of requests, piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from stagedoor.errors import Refused, TooLarge
from stagedoor.server.http import Body, Disconnected, trust_of

from .serving import PATIENCE


def coming(*pieces: bytes, end: str = "http.request") -> Callable[[], Any]:
    """What an ASGI server has for us."""
    waiting = list(pieces)

    async def receive() -> dict[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(0), "more_body": True}
        return {"type": end}

    return receive


async def trickle() -> dict[str, Any]:
    """A body that never ends, and never pauses for long."""
    await asyncio.sleep(0)
    return {"type": "http.request", "body": b"x", "more_body": True}


def test_a_small_body_is_read_whole() -> None:
    assert asyncio.run(Body(coming(b"a", b"", b"b"), 60.0).read(2)) == b"ab"
    assert asyncio.run(Body(coming(b"a")).read(2)) == b"a"
    with pytest.raises(TooLarge) as large:
        asyncio.run(Body(coming(b"a", b"bc"), 60.0).read(2))
    assert large.value.code == "body_too_large"
    with pytest.raises(Disconnected):
        asyncio.run(Body(coming(b"a", end="http.disconnect"), 60.0).read(2))


async def never() -> Any:
    """A body that does not come."""
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("receive", "how"),
    [
        (never, lambda body: body.read(1 << 40)),
        (never, lambda body: body.refuse_content()),
        (trickle, lambda body: body.read(1 << 40)),  # however little it pauses
    ],
    ids=["read", "refused", "trickling"],
)
def test_a_small_body_has_a_time_in_all(receive: Any, how: Callable[[Body], Any]) -> None:
    with pytest.raises(Refused) as slow:
        asyncio.run(asyncio.wait_for(how(Body(receive, 0.01)), PATIENCE))
    assert slow.value.code == "too_slow"


def test_a_time_out_of_others_is_theirs() -> None:
    async def broken() -> Any:
        raise TimeoutError("of the network")

    with pytest.raises(TimeoutError, match="of the network"):
        asyncio.run(Body(broken, 60.0).read(1))


def test_what_is_no_content_is_refused() -> None:
    asyncio.run(Body(coming(b""), 60.0).refuse_content())
    with pytest.raises(Refused) as refused:
        asyncio.run(Body(coming(b"a"), 60.0).refuse_content())
    assert refused.value.code == "unexpected_body"


@pytest.mark.parametrize(
    "scope",
    [{}, {"extensions": None}, {"extensions": {}}, {"extensions": {"stagedoor": {}}}],
    ids=["old", "none", "others", "empty"],
)
def test_other_servers_need_not_know_who_is_trusted(scope: dict[str, Any]) -> None:
    trust_of(scope)()


def test_our_server_hears_who_is_trusted() -> None:
    heard: list[bool] = []
    trust_of({"extensions": {"stagedoor": {"trust": lambda: heard.append(True)}}})()
    assert heard == [True]
