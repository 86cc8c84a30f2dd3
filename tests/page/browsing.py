"""The page's modules under node and in Chromium, against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, field

from stagedoor.server.config import ServerConfig
from stagedoor.server.run import Service
from stagedoor.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

__all__ = [
    "CHROMIUM",
    "NODE",
    "PATIENCE",
    "STATIC",
    "Site",
    "chromium",
    "needs_node",
    "node",
    "serving",
    "tab",
    "until",
]

STATIC = files("stagedoor.server.page") / "static"
NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 60.0
"""Seconds after which a test that hangs fails."""

needs_node = pytest.mark.skipif(NODE is None, reason="node runs the page's modules, and is not here")

_BLANK = "sha1.js"
"""A document of ours with the page's policy, and without the page's own scripts."""


def node(script: str, *arguments: str) -> Any:
    """What a module prints as JSON; ``STATIC`` in it is where the page's modules are."""
    assert NODE is not None
    source = script.replace("STATIC", f"file://{STATIC}")
    done = subprocess.run(
        [NODE, "--no-warnings", "--input-type=module", "--eval", source, "--", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@define
class Site:
    """A server that can be stopped, and started again at the same address."""

    root: Path
    port: int = 0
    settings: dict[str, Any] = field(factory=dict)
    _service: Service | None = None
    _thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    def start(self) -> None:
        config = ServerConfig(
            port=self.port, data=self.uploads, music=self.root / "Music", durability="none", drain=0.5, **self.settings
        )
        ready = threading.Event()

        def told(address: str) -> None:
            self.port = int(address.rstrip("/").rpartition(":")[2])
            ready.set()

        self._service = Service(config, Settings(free_floor=0))
        self._thread = threading.Thread(target=self._service.run, args=(told,))
        self._thread.start()
        assert ready.wait(PATIENCE), "the server did not start"

    def stop(self) -> None:
        if self._service is not None and self._thread is not None:
            self._service.stop()
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive(), "the server did not stop"
            self._service = None


@contextmanager
def serving(root: Path, **settings: Any) -> Iterator[Site]:
    """A server of its own."""
    site = Site(root, settings=settings)
    site.start()
    try:
        yield site
    finally:
        site.stop()


@contextmanager
def chromium(**options: Any) -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("Chromium runs the page, and is not here")
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives Chromium, and is not here")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], **options)
        try:
            yield browser
        finally:
            browser.close()


def tab(context: Browser | BrowserContext, site: Site) -> Page:
    """A tab with the page's modules and policy, a field for files, and nothing that runs by itself."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.on("pageerror", lambda error: pytest.fail(f"the page failed: {error}"))
    page.goto(f"{site.url}/{_BLANK}")
    page.evaluate(_FIELD)
    return page


_FIELD = """() => {
  const field = document.createElement("input");
  field.type = "file";
  field.multiple = true;
  field.id = "field";
  document.body.append(field);
}"""


def until(page: Page, condition: str, argument: Any = None) -> Any:
    """Wait until an expression is true; its value."""
    return page.wait_for_function(condition, arg=argument, polling=20).json_value()
