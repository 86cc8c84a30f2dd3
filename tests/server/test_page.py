"""The page: its files, what they may do, and the two modules that can be run without a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
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
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node runs the page's modules, and is not here")


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


# ── run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def run(script: str, *arguments: str) -> Any:
    """What a module prints as JSON."""
    assert NODE is not None
    source = script.replace("STATIC", f"file://{STATIC}")
    done = subprocess.run(
        [NODE, "--input-type=module", "--eval", source, "--", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_events_are_read_whatever_the_pieces() -> None:
    """Each stream is cut at every place, and at every place once more."""
    found = run(
        """
        import { EventParser } from "STATIC/events.js";
        const streams = [
          "id: a-1\\nevent: notice\\ndata: {\\"a\\":1}\\n\\n:\\n\\nid: a-2\\ndata: x\\ndata:  y\\n\\n",
          "retry: 1000\\r\\nid: 1\\r\\ndata: é😀\\r\\n\\r\\ndata: next\\r\\rdata: last\\n\\n",
          "event: none\\n\\ndata\\n\\nnonsense: 1\\nretry: x\\nid: 9\\0\\ndata: z\\n\\ndata: unfinished",
        ];
        const read = (pieces) => {
          const events = [];
          const parser = new EventParser((event) => events.push(event));
          pieces.forEach((piece) => parser.push(piece));
          return JSON.stringify([events, parser.retry]);
        };
        const answers = streams.map((stream) => {
          const whole = read([stream]);
          for (let a = 0; a <= stream.length; a++)
            for (let b = a; b <= stream.length; b++)
              if (read([stream.slice(0, a), stream.slice(a, b), stream.slice(b)]) !== whole)
                throw new Error(`cut at ${a} and ${b}`);
          return JSON.parse(whole);
        });
        console.log(JSON.stringify(answers));
        """
    )
    assert found[0] == [
        [{"id": "a-1", "type": "notice", "data": '{"a":1}'}, {"id": "a-2", "type": "message", "data": "x\n y"}],
        None,
    ]
    assert [event["data"] for event in found[1][0]] == ["é😀", "next", "last"]
    assert found[1][1] == 1000
    assert [(event["type"], event["data"]) for event in found[2][0]] == [("message", ""), ("message", "z")]


SENDING = """
import { sendFile, PIECE } from "STATIC/send.js";
const plan = JSON.parse(process.argv[2] ?? process.argv[1]);
const file = new File([new Uint8Array(plan.size)], "film.mp4", { type: "video/mp4" });
const log = [];
const answer = (status, headers = {}, body = {}) => ({
  ok: status < 300, status, headers: new Headers(headers), json: async () => body,
});
const fetch = async (url, { method, headers, body }) => {
  if (method === "POST") {
    log.push([method, url, JSON.parse(body)]);
    return answer(201, {}, { upload: { id: "one" }, send: { tus: { url: "/files/one", offset: plan.offset } } });
  }
  if (method === "HEAD") {
    log.push([method, plan.stands]);
    return answer(200, { "Upload-Offset": String(plan.stands) });
  }
  const offset = Number(headers["Upload-Offset"]);
  log.push([method, offset, body.size]);
  const fault = plan.faults.shift();
  if (fault === "break") throw new TypeError("gone");
  if (fault) return answer(fault, {}, { detail: "No.", code: "no" });
  return answer(204, { "Upload-Offset": String(offset + body.size) });
};
const waits = [];
let error = null;
try {
  await sendFile(file, { fetch, wait: async (ms) => waits.push(ms) });
} catch (caught) {
  error = caught.message;
}
console.log(JSON.stringify({ log, waits, error, piece: PIECE }));
"""


def sending(**plan: Any) -> Any:
    return run(SENDING, json.dumps({"size": 20, "offset": 0, "stands": 0, "faults": []} | plan))


@needs_node
def test_a_file_goes_in_pieces() -> None:
    found = sending(size=(8 << 20) + 5)
    offered, *patches = found["log"]
    assert offered[2] == {"filename": "film.mp4", "filesize": (8 << 20) + 5, "mimetype": "video/mp4"}
    assert patches == [["PATCH", 0, found["piece"]], ["PATCH", 8 << 20, 5]]
    assert found["error"] is None


@needs_node
def test_a_file_goes_on_where_the_server_stands() -> None:
    assert sending(offset=7)["log"][1:] == [["PATCH", 7, 13]]
    broken = sending(faults=["break", 503], stands=12)
    assert broken["log"][1:] == [["PATCH", 0, 20], ["HEAD", 12], ["PATCH", 12, 8], ["HEAD", 12], ["PATCH", 12, 8]]
    assert broken["waits"] == [500, 1000]
    assert broken["error"] is None


@needs_node
def test_what_does_not_pass_is_said_at_once_and_what_does_not_mend_in_the_end() -> None:
    refused = sending(faults=[403])
    assert (refused["error"], len(refused["log"])) == ("No.", 2)
    hopeless = sending(faults=["break"] * 20)
    assert hopeless["error"] == "The connection broke."
    assert len(hopeless["waits"]) == 8


@needs_node
def test_the_page_sends_a_file_to_the_real_server_and_hears_of_it(house: House, served: Served) -> None:
    """Its two modules against all of the server: the offer, tus, and the events."""
    found = run(
        """
        import { readEvents } from "STATIC/events.js";
        import { sendFile } from "STATIC/send.js";
        const base = process.argv.at(-1);
        const real = globalThis.fetch;
        const fetch = (url, options) => real(new URL(url, base), options);
        globalThis.fetch = fetch;
        const states = [];
        const done = new AbortController();
        let opened;
        const ready = new Promise((resolve) => { opened = resolve; });
        const stream = readEvents("api/events", {
          headers: {}, lastId: "", opened: () => {}, alive: () => {}, signal: done.signal,
          heard: (event) => {
            if (event.type === "reset") opened();
            else states.push(JSON.parse(event.data).state);
            if (states.at(-1) === "uploadcomplete") done.abort();
          },
        }).catch(() => {});
        await ready;
        const bytes = new Uint8Array((8 << 20) + 77).fill(7);
        const id = await sendFile(new File([bytes], "<b>film</b>.mp4", { type: "video/mp4" }), { fetch });
        await stream;
        console.log(JSON.stringify({ id, states }));
        """,
        f"{served.url}/",
    )
    assert (found["states"][0], found["states"][-1]) == ("waitforchunk", "uploadcomplete")
    task = house.uploads.get(found["id"])
    assert (task.sourcefilename, task.filesize) == ("<b>film</b>.mp4", (8 << 20) + 77)
    assert house.stored(task.id) == bytes([7]) * ((8 << 20) + 77)
