"""What our server stands on, without our server: uvicorn set up like it, SHA-1 and a write in line, nothing else.

    python bench/sink.py PORT DIRECTORY [unmanaged DURABILITY]

PUT takes a body; a WebSocket takes binary frames and answers each with a byte of text, which is all a window needs.
With ``unmanaged`` it is our server, without the management: what taking in costs alone.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, cast

import uvicorn

from stagedoor.server import run
from stagedoor.server.config import ServerConfig

_NUMBERS = itertools.count()


class Sink:
    """An ASGI application."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        at, sha1 = 0, hashlib.sha1(usedforsecurity=False)
        fd = os.open(os.path.join(self._directory, f"{next(_NUMBERS)}"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            if scope["type"] == "http":
                more = True
                while more:
                    message = await receive()
                    body, more = message.get("body", b""), message.get("more_body", False)
                    os.pwrite(fd, body, at)
                    sha1.update(body)
                    at += len(body)
                headers = [(b"etag", b'"%b"' % sha1.hexdigest().encode())]
                await send({"type": "http.response.start", "status": 204, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                os.pwrite(fd, message["bytes"], at)
                sha1.update(message["bytes"])
                at += len(message["bytes"])
                await send({"type": "websocket.send", "text": "+"})
        finally:
            os.close(fd)


def main() -> None:
    port, directory, *how = sys.argv[1:]
    if how:
        data = Path(directory)
        config = ServerConfig(
            port=int(port), data=data / "uploads", music=data / "Music", durability=cast("Any", how[1]), hosts=()
        )
        run.create_app = functools.partial(run.create_app, management=False)  # type: ignore[attr-defined]
        run.serve(config)
        return
    run._tune_memory()
    settings = uvicorn.Config(
        Sink(directory), port=int(port), loop="uvloop", http="httptools", ws="websockets-sansio", lifespan="off",
        ws_max_size=64 << 20, ws_per_message_deflate=False, log_config=None, access_log=False,
    )  # fmt: skip
    uvicorn.Server(settings).run()


if __name__ == "__main__":
    main()
