"""The examples of embedding are real applications, and every one of them takes an upload in."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stagedoor import Uploads
from stagedoor.testing.content import PlainContent

EXAMPLES = Path(__file__).parent.parent / "examples"
DATA = os.urandom(600_000)

Ask = Callable[..., tuple[int, Mapping[str, Any]]]
"""Method, path, body (a dictionary becomes JSON), headers → status and document."""


def example(name: str, framework: str) -> ModuleType:
    pytest.importorskip(framework, reason=f"needs {framework}")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    with Uploads.open(
        tmp_path / "uploads", music=tmp_path / "Music", contents=[PlainContent()], durability="none"
    ) as uploads:
        yield uploads


def take_in(ask: Ask, uploads: Uploads) -> None:
    """The life of an upload, with the mistakes that clients make."""
    offer = {"id": "film", "filename": "film.mp4", "contenttype": "video", "filesize": len(DATA)}
    assert ask("POST", "/uploads", offer) == (201, {"offset": 0})
    assert ask("PATCH", "/uploads/film", DATA[:400_000], {"Upload-Offset": "0"})[1]["offset"] == 400_000
    status, problem = ask("PATCH", "/uploads/film", b"again", {"Upload-Offset": "5"})
    assert (status, problem["code"], problem["offset"]) == (409, "offset_mismatch", 400_000)
    assert ask("GET", "/uploads/film") == (200, {"offset": 400_000, "state": "waitforchunk"})
    status, problem = ask("PATCH", "/uploads/film", DATA, {"Upload-Offset": "400000"})
    assert (status, problem["code"]) == (409, "beyond_the_end")
    offset = ask("GET", "/uploads/film")[1]["offset"]  # what came before the end is kept
    done = ask("PATCH", "/uploads/film", DATA[offset:], {"Upload-Offset": str(offset)})
    assert done == (200, {"offset": len(DATA), "state": "uploadcomplete"})
    assert ask("GET", "/uploads/nothing")[0] == 404
    stored = uploads.get("film")
    assert stored.offset == len(DATA)


def test_flask(uploads: Uploads) -> None:
    client = example("flask_app", "flask").create(uploads).test_client()

    def ask(method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        how = {"json": body} if isinstance(body, dict) else {"data": body}
        answer = client.open(path, method=method, headers=headers, **how)
        return answer.status_code, answer.get_json()

    take_in(ask, uploads)


def test_django(uploads: Uploads) -> None:
    django = pytest.importorskip("django", reason="needs django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(DEBUG=False, ALLOWED_HOSTS=["testserver"], ROOT_URLCONF="urls_of_the_test", USE_TZ=True)
        django.setup()
    from django.test import Client, override_settings

    urls: Any = ModuleType("urls_of_the_test")
    urls.urlpatterns = example("django_app", "django").urlpatterns(uploads)
    client = Client()

    def ask(method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        kind = "application/json" if isinstance(body, dict) else "application/octet-stream"
        if isinstance(body, dict):
            import json

            body = json.dumps(body).encode()
        with override_settings(ROOT_URLCONF=urls):
            answer = client.generic(method, path, body or b"", kind, headers=dict(headers or {}))
        return answer.status_code, answer.json()

    take_in(ask, uploads)


def test_aiohttp(uploads: Uploads) -> None:
    module = example("aiohttp_app", "aiohttp")
    from aiohttp.test_utils import TestClient, TestServer

    async def main() -> None:
        async with TestClient(TestServer(module.create(uploads))) as client:
            loop = asyncio.get_running_loop()

            async def send(method: str, path: str, body: Any, headers: Mapping[str, str] | None) -> Any:
                how = {"json": body} if isinstance(body, dict) else {"data": body}
                async with client.request(method, path, headers=headers, **how) as answer:
                    return answer.status, await answer.json()

            def ask(method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
                return asyncio.run_coroutine_threadsafe(send(method, path, body, headers), loop).result()

            await asyncio.to_thread(take_in, ask, uploads)

    asyncio.run(main())


@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
def test_mounted(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole server under a path, with everything that our own client does."""
    pytest.importorskip(framework, reason=f"needs {framework}")
    import httpx

    from stagedoor.client import AsyncClient

    monkeypatch.chdir(tmp_path)
    module = example("starlette_app", "starlette")
    app = module.app
    if framework == "fastapi":
        from fastapi import FastAPI

        app = FastAPI(lifespan=module.lifespan)
        app.mount("/media", module.media)
    film = tmp_path / "film.mp4"
    film.write_bytes(DATA)

    async def main() -> None:
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with AsyncClient("http://127.0.0.1/media", transport=transport) as client:
                done = await client.upload(film, chunk=100_000, annotations={"name": "Film"})
                assert (done.size, done.resumed) == (len(DATA), 0)
                assert (await client.upload(film)).resumed == len(DATA)
                found = [upload async for upload in client.uploads()]
                assert [(upload.id, upload.offset) for upload in found] == [(done.id, len(DATA))]
                await client.remove(done.id)
        # Stopped with the application, and the directory is free for the next one.
        with Uploads.open(tmp_path / "uploads", music=tmp_path / "Music"):
            pass

    asyncio.run(main())
