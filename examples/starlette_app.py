"""The whole server below /media of a Starlette or FastAPI application: uvicorn starlette_app:app

With FastAPI it is the same: `FastAPI(lifespan=lifespan)` and `app.mount("/media", media)`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from stagedoor.server import ServerConfig, create_app

media = create_app(config=ServerConfig(data=Path("uploads"), music=Path("Music")))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """A mounted application hears no lifespan events, so we tell it ourselves."""
    async with media.running():
        yield


async def home(_: Request) -> PlainTextResponse:
    return PlainTextResponse("Uploads are below /media.")


app = Starlette(routes=[Route("/", home), Mount("/media", media)], lifespan=lifespan)
