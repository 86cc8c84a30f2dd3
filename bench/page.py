"""The page's bars: a file of 4 GiB is hashed in a browser at 100 MB/s or more, and the tab stays below 200 MiB, answers
clicks meanwhile, and draws 1,000 uploads of which 50 move.

    python bench/page.py                     a file of holes, which takes no room
    python bench/page.py --size 1024 --json
    python bench/page.py --only board        the board alone

What is measured is what people get: the worker of the page, in Chromium, with the page and its policy from a real
server. The memory is the tab's own, PSS of its process as the kernel counts it, read twenty times a second; what the
browser takes for itself before a page is there is in it. A click is measured from the moment that the browser has it
to the end of the frame that shows what it did. Frames are those of a browser without a graphics card, so next to the
time between them stands what the tab worked: on a busy machine only that is the page's own. Exit status 1 when a bar is
missed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from stagedoor.server.config import ServerConfig
from stagedoor.server.run import Service
from stagedoor.settings import Settings
from stagedoor.tasks import Offer

MIB = 1 << 20
SPEED = 100
"""MB/s at least."""
MEMORY = 200
"""MiB at most."""
ANSWER = 100
"""Milliseconds from a click to its frame, 95 of 100."""
MANY, MOVING, SECONDS = 1000, 50, 10

HASH = """async (kind) => {
  const { Hashers } = await import("./hash.js");
  window.hashers ??= new Hashers({ size: 1 });
  const [file] = document.querySelector("#field").files;
  const start = performance.now();
  await hashers[kind](file);
  return file.size / 1e6 / ((performance.now() - start) / 1000);
}"""
SEND = """async () => {
  const names = ["api", "connection", "keep", "pick", "sources", "store"];
  const loaded = await Promise.all(names.map((name) => import(`./${name}.js`)));
  const [{ Api }, { Connection }, { Keep }, { fromFiles }, { Sources }, { Store }] = loaded;
  const api = new Api();
  const connection = new Connection();
  const store = new Store({ connection, api });
  const sources = new Sources({ connection, api, store, keep: new Keep() });
  sources.add(fromFiles(document.querySelector("#field").files));
  const [source] = sources.items.values();
  connection.open();
  let start = null;
  await new Promise((resolve) => sources.addEventListener("change", () => {
    if (source.phase === "sending") start ??= performance.now();
    if (source.phase === "done" || source.phase === "failed") resolve();
  }));
  if (source.problem) throw source.problem;
  return source.size / 1e6 / ((performance.now() - start) / 1000);
}"""
FIELD = """() => {
  const field = document.createElement("input");
  field.type = "file";
  field.id = "field";
  document.body.append(field);
}"""


CLICKS = """() => {
  window.answers = [];
  addEventListener("click", ({ timeStamp }) => {
    requestAnimationFrame(() => setTimeout(() => window.answers.push(performance.now() - timeStamp)));
  }, { capture: true });
}"""
FRAMES = """() => {
  window.frames_ = [];
  window.long = [];
  new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => window.long.push(duration)))
    .observe({ entryTypes: ["longtask"] });
  let last = performance.now();
  const frame = (now) => {
    window.frames_.push(now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""


class Memory(threading.Thread):
    """The most that the largest of some processes took, in MiB."""

    def __init__(self, pids: list[int]) -> None:
        super().__init__(daemon=True)
        self.pids = pids
        self.most = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.most = max(self.most, self.now())

    def now(self) -> float:
        return max(map(_pss, self.pids))


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def renderers(browser: Browser) -> list[int]:
    """The processes that show pages; a browser keeps one ready beside the tab's, which is the smaller one."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return [process["id"] for process in processes if process["type"] == "renderer"]


@contextmanager
def serving(root: Path) -> Iterator[tuple[Service, str]]:
    """A server, and its address."""
    found: list[str] = []
    ready = threading.Event()

    def told(address: str) -> None:
        found.append(address)
        ready.set()

    config = ServerConfig(port=0, data=root / "uploads", music=root / "Music", durability="none", drain=0.5)
    service = Service(config, Settings(free_floor=0))
    server = threading.Thread(target=service.run, args=(told,))
    server.start()
    ready.wait()
    try:
        yield service, found[0]
    finally:
        service.stop()
        server.join()


def share(values: list[float], part: float) -> float:
    """The value below which that part of all lies."""
    return sorted(values)[min(len(values) - 1, math.ceil(part * len(values)) - 1)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="MiB of the file")
    parser.add_argument("--send", action="store_true", help="send it as well; takes its room on the disk")
    parser.add_argument("--only", choices=("file", "clicks", "board"), help="one of the three")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("There is no Chromium here. Install it, and try again.", file=sys.stderr)
        return 2
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        for what in ("file", "clicks", "board"):
            if options.only not in (None, what):
                continue
            root = Path(name) / what
            root.mkdir()
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            with serving(root) as (service, url):
                try:
                    if what == "file":
                        result |= measure(root, options.size * MIB, browser, url, send=options.send)
                    elif what == "clicks":
                        result |= clicks(root, options.size * MIB, browser, url)
                    else:
                        result |= board(service, browser, url)
                finally:
                    browser.close()
    if options.json:
        print(json.dumps(result))
    else:
        told(result)
    fine = result.get("sha1", SPEED) >= SPEED and result.get("memory", 0) < MEMORY
    return 0 if fine and result.get("click", 0) <= ANSWER else 1


def told(result: dict[str, float]) -> None:
    if "sha1" in result:
        print(f"SHA-1   {result['sha1']:6.0f} MB/s   (at least {SPEED})")
        print(f"CRC-32  {result['crc32']:6.0f} MB/s   (of folders, beside it)")
        if "sent" in result:
            print(f"sent    {result['sent']:6.0f} MB/s")
        print(f"tab     {result['memory']:6.0f} MiB    (below {MEMORY}; {result['before']:.0f} before the file)")
    if "click" in result:
        print(f"click   {result['click']:6.0f} ms     (95 of 100 while the file is read, at most {ANSWER})")
        print(f"        {result['click_most']:6.0f} ms     (the slowest of {result['clicks']:.0f})")
        print(f"tab     {result['page_memory']:6.0f} MiB    (the whole page, with the file)")
    if "frame" in result:
        print(f"frames  {result['frame']:6.1f} ms     (median with {MANY} uploads and {MOVING} that move)")
        print(f"        {result['frame_95']:6.1f} ms     (95 of 100; the longest {result['frame_most']:.0f})")
        long = f"over 50 ms, in {2 * SECONDS} s; the longest {result['long_most']:.0f} ms"
        print(f"tasks   {result['long']:6.0f}        ({long})")
        print(f"busy    {100 * result['busy']:6.1f} %      (of one core, of it script {100 * result['script']:.1f} %)")
        print(f"nodes   {result['nodes']:6.0f}        (in the document)")


def drop(page: Page, path: Path) -> None:
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 400, "data": data})


def clicks(root: Path, size: int, browser: Browser, url: str) -> dict[str, float]:
    """How soon the page answers while it reads a file."""
    path = root / "large.mp4"
    with path.open("wb") as file:
        file.truncate(size)
    page = browser.new_page()
    page.goto(url)
    page.locator("#connection", has_text="Live").wait_for()
    memory = Memory(renderers(browser))
    memory.start()
    drop(page, path)
    reading = page.locator(".row .chip", has_text="Being read")
    reading.wait_for()
    page.evaluate(CLICKS)
    names = ("Failed", "Moving", "All")
    count = 0
    while reading.count() or count % 3:
        page.locator(".filter", has_text=names[count % 3]).click()
        count += 1
    memory.over.set()
    memory.join()
    found = page.evaluate("window.answers")
    most = {"click": share(found, 0.95), "click_most": max(found), "clicks": float(len(found))}
    return {**most, "page_memory": memory.most}


def board(service: Service, browser: Browser, url: str) -> dict[str, float]:
    """Frames of a board of many uploads, of which some move; half of the time it is scrolled."""
    assert service._app is not None
    uploads = service._app.core.uploads
    for number in range(MANY):
        offer = Offer(
            f"many-{number}", filename=f"many-{number:04}.mp4", contenttype="video", filesize=1 << 30, sha1="0" * 40
        )
        uploads.initiate(offer)
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(url)
    page.wait_for_function(f"() => Number(document.querySelector('.filter .count')?.textContent) >= {MANY}")
    over = threading.Event()

    def move() -> None:
        offset, piece = 0, bytes(4096)
        while not over.wait(0.1):
            for number in range(MANY - MOVING, MANY):
                uploads.receive(f"many-{number}", offset=offset, data=piece)
            offset += len(piece)

    mover = threading.Thread(target=move)
    mover.start()
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def spent() -> dict[str, float]:
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}

    try:
        page.wait_for_function(
            "() => [...document.querySelectorAll('.row .numbers')].some((one) => one.textContent.includes('/s'))"
        )
        page.evaluate(FRAMES)
        before = spent()
        time.sleep(SECONDS)
        page.mouse.move(600, 500)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            page.mouse.wheel(0, 120)
        after = spent()
    finally:
        over.set()
        mover.join()
    passed = after["Timestamp"] - before["Timestamp"]
    frames, long = page.evaluate("[window.frames_, window.long]")
    return {
        "frame": share(frames, 0.5),
        "frame_95": share(frames, 0.95),
        "frame_most": max(frames),
        "long": float(len(long)),
        "long_most": max(long, default=0.0),
        "busy": (after["TaskDuration"] - before["TaskDuration"]) / passed,
        "script": (after["ScriptDuration"] - before["ScriptDuration"]) / passed,
        "nodes": float(page.evaluate("document.getElementsByTagName('*').length")),
    }


def measure(root: Path, size: int, browser: Browser, url: str, *, send: bool) -> dict[str, float]:
    path = root / "large.mp4"
    with path.open("wb") as file:
        file.truncate(size)
    page = browser.new_page()
    page.goto(url)
    page.evaluate(FIELD)
    memory = Memory(renderers(browser))
    before = memory.now()
    page.set_input_files("#field", path)
    memory.start()
    speeds = {kind: float(page.evaluate(HASH, kind)) for kind in ("sha1", "crc32")}
    if send:
        speeds["sent"] = float(page.evaluate(SEND))
    memory.over.set()
    memory.join()
    return {**speeds, "memory": memory.most, "before": before, "size": float(size)}


if __name__ == "__main__":
    sys.exit(main())
