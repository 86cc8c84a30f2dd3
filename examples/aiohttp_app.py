"""Bodies of any size into the engine from aiohttp handlers."""

import asyncio

from aiohttp import web

from stagedoor import AsyncUploads, Offer, OffsetMismatch, Refused, TaskNotFound, UploadError, Uploads

PIECE = 256 << 10


def create(uploads: Uploads) -> web.Application:
    """The application; who opens the engine closes it."""
    asynchronous = AsyncUploads(uploads)

    async def declare(request: web.Request) -> web.Response:
        told = await request.json()
        task = await asynchronous.initiate(
            Offer(told["id"], filename=told["filename"], contenttype=told["contenttype"], filesize=told["filesize"])
        )
        return web.json_response({"offset": task.offset}, status=201)

    async def receive(request: web.Request) -> web.Response:
        offset = int(request.headers.get("Upload-Offset", 0))
        inflow = await asyncio.to_thread(uploads.inflow, request.match_info["id"], offset=offset)
        try:
            async for piece in request.content.iter_chunked(PIECE):
                inflow.write(piece)  # in line: a thread for each piece costs more than the piece
            task = await asyncio.to_thread(inflow.commit)  # this one waits for the disk
        finally:
            await asyncio.to_thread(inflow.close)  # a connection that breaks loses nothing of what came
        return web.json_response({"offset": task.offset, "state": task.state})

    async def show(request: web.Request) -> web.Response:
        task = await asynchronous.get(request.match_info["id"])
        return web.json_response({"offset": task.offset, "state": task.state})

    async def close(_: web.Application) -> None:
        await asynchronous.close()

    app = web.Application(middlewares=[refuse])
    app.add_routes([web.post("/uploads", declare), web.patch("/uploads/{id}", receive), web.get("/uploads/{id}", show)])
    app.on_cleanup.append(close)
    return app


@web.middleware
async def refuse(request: web.Request, handler: object) -> web.StreamResponse:
    """Turn what the engine refuses into answers."""
    try:
        return await handler(request)  # type: ignore[operator, no-any-return]  # aiohttp's type for it is private
    except UploadError as error:
        status = 404 if isinstance(error, TaskNotFound) else 409 if isinstance(error, Refused) else 500
        expected = error.expected if isinstance(error, OffsetMismatch) else None
        return web.json_response({"code": error.code, "sentence": error.sentence, "offset": expected}, status=status)
