"""The page: its files, and what they may do. What its modules do is tested in ``tests/page``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.server.http import Body, Request
from stagedoor.server.page import POLICY, Page

from .answering import answering
from .serving import Served, core_of

if TYPE_CHECKING:
    from conftest import House

STATIC = files("stagedoor.server.page") / "static"
NAMES = sorted(entry.name for entry in STATIC.iterdir())


@pytest.fixture
def served(house: House) -> Iterator[Served]:
    with answering(house) as running:
        yield running


def text(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def test_the_policy_lets_nothing_run_but_our_files() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert "unsafe" not in POLICY
    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("script-src", "style-src", "worker-src", "connect-src")} == {"'self'"}
    assert rules["img-src"] == "'self' blob:"
    assert (rules["require-trusted-types-for"], rules["trusted-types"]) == ("'script'", "stagedoor-worker")
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_has_its_type_its_policy_and_an_etag(served: Served, name: str) -> None:
    path = "/" if name == "index.html" else f"/{name}"
    reply = served("GET", path)
    assert reply.status == 200
    assert reply.body.decode() == text(name)
    kind = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert reply["content-type"].partition(";")[0] == kind[name.rpartition(".")[2]]
    assert (reply["content-security-policy"], reply["cache-control"]) == (POLICY, "no-cache")
    again = served("GET", path, {"If-None-Match": f'"x", W/{reply["etag"]}'})
    assert (again.status, again.body) == (304, b"")
    assert served("GET", path, {"If-None-Match": "*"}).status == 304
    head = served("HEAD", path)
    assert (head.status, head.body, head["content-length"]) == (200, b"", str(len(reply.body)))


@pytest.mark.parametrize("path", ["/index.html", "/none.js", "/../page/__init__.py", "/static/app.js", "/%2e%2e/x"])
def test_there_is_nothing_else(served: Served, path: str) -> None:
    reply = served("GET", path)
    assert (reply.status, reply.json["code"]) == (404, "no_such_page")


def test_a_page_can_only_be_read(served: Served) -> None:
    reply = served("POST", "/", {}, b"x")
    assert (reply.status, reply["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert served("OPTIONS", "/app.js")["allow"] == reply["allow"]


def test_the_markup_asks_for_nothing_that_the_policy_forbids() -> None:
    page = text("index.html")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|javascript:|https?:", page)
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert name in NAMES, name


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_the_scripts_make_no_markup_of_strings_and_ask_nobody_else(name: str) -> None:
    script = text(name)
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    forbidden += r"|https?:(?!//www\.w3\.org/2000/svg\")"  # the name of a kind of element, no address
    forbidden += r"|\.style\b(?!\.setProperty\()|\"style\""
    assert not re.search(forbidden, script)
    for module in re.findall(r'from "\./([^"]+)"', script):
        assert module in NAMES


def test_below_a_mount_the_page_has_its_slash(house: House) -> None:
    page = Page(core_of(house.uploads, parts=False))

    def ask(path: str, mount: str = "/music") -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request"}

        scope = {"path": path, "root_path": mount}
        request = Request("GET", path.removeprefix(mount) or "/", mount, {}, b"", Body(receive), scope)
        with pytest.raises(StopIteration):
            page(request, send).__await__().send(None)
        return sent

    start, _ = ask("/music")
    assert start["status"] == 307
    assert (b"location", b"/music/") in start["headers"]
    assert ask("/music/")[0]["status"] == 200
    start, _ = ask("/müsik\r\n", "/müsik\r\n")  # a path is decoded, and a header field is ASCII
    assert (b"location", b"/m%C3%BCsik%0D%0A/") in start["headers"]
