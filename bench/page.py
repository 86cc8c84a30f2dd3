"""The page's bars: a file of 4 GiB is hashed in a browser at 100 MB/s or more, and the tab stays below 200 MiB.

    python bench/page.py                     a file of holes, which takes no room
    python bench/page.py --size 1024 --json

What is measured is what people get: the worker of the page, in Chromium, with the page and its policy from a real
server. The memory is the tab's own, PSS of its process as the kernel counts it, read twenty times a second; what the
browser takes for itself before a page is there is in it. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from stagedoor.server.config import ServerConfig
from stagedoor.server.run import Service
from stagedoor.settings import Settings

MIB = 1 << 20
SPEED = 100
"""MB/s at least."""
MEMORY = 200
"""MiB at most."""

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, help="MiB of the file")
    parser.add_argument("--send", action="store_true", help="send it as well; takes its room on the disk")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("There is no Chromium here. Install it, and try again.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), options.size * MIB, chromium, send=options.send)
    fine = result["sha1"] >= SPEED and result["memory"] < MEMORY
    if options.json:
        print(json.dumps(result))
    else:
        print(f"SHA-1   {result['sha1']:6.0f} MB/s   (at least {SPEED})")
        print(f"CRC-32  {result['crc32']:6.0f} MB/s   (of folders, beside it)")
        if "sent" in result:
            print(f"sent    {result['sent']:6.0f} MB/s")
        print(f"tab     {result['memory']:6.0f} MiB    (below {MEMORY}; {result['before']:.0f} before the file)")
    return 0 if fine else 1


def measure(root: Path, size: int, chromium: str, *, send: bool) -> dict[str, float]:
    path = root / "large.mp4"
    with path.open("wb") as file:
        file.truncate(size)
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
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(found[0])
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
            browser.close()
    finally:
        service.stop()
        server.join()
    return {**speeds, "memory": memory.most, "before": before, "size": float(size)}


if __name__ == "__main__":
    sys.exit(main())
