"""All views of the page with something in them, and what says whether everybody can use them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import frozen

from stagedoor.tasks import Offer
from stagedoor.testing import media, sounds
from stagedoor.testing.pictures import picture

from .browsing import chromium, serving, until
from .staging import Stage, album
from .travel import Wire, drop, film, live, row, visiting, wire_to

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

__all__ = ["CARDS", "Theatre", "complaints", "settled", "theatre", "too_wide"]

CACHE = Path(__file__).parents[2] / ".cache"
CARDS = ("video", "album", "songs", "artwork", "failed", "question", "plan", "missing", "sending")


@frozen
class Theatre:
    """Three servers: one with all kinds of uploads, one with none, one with a key.

    Attributes:
        cards: Ids of uploads, by what their cards show.
        page: A tab that sends some of them.
        wire: That tab's line, which holds them in the middle.
    """

    stage: Stage
    empty: str
    keyed: str
    cards: dict[str, str]
    page: Page
    wire: Wire


@contextmanager
def theatre(root: Path) -> Iterator[Theatre]:
    with ExitStack() as stack:
        browser = stack.enter_context(chromium())
        site = stack.enter_context(serving(root / "full", ask=65_536))
        empty = stack.enter_context(serving(root / "empty"))
        keyed = stack.enter_context(serving(root / "keyed", keys=("a-key-of-some-length",)))
        stage = Stage(site, browser)
        cards = _fill(stage)
        wire = stack.enter_context(wire_to(site.port))
        context = stack.enter_context(visiting(browser, expected=[r"status of 40[14]", "WebSocket connection"]))
        page = _send(context, wire, root / "mine", cards)
        yield Theatre(stage, empty.url, keyed.url, cards, page, wire)


def _fill(stage: Stage) -> dict[str, str]:
    """What others have sent: one upload for each thing that a card can show."""
    names = {"artistname": "Ada Prompt", "name": "Curtain Call", "release": "2011"}
    cards = {}
    cards["video"] = stage.send(film(title="Curtain Call"), "Ada Prompt - Curtain Call (2011).mp4", "video", **names)
    stage.bring(cards["video"])
    cards["album"] = stage.send(album("Standing Room Only"), "Standing Room Only.zip", "album")
    stage.bring(cards["album"])
    cards["artwork"] = stage.send(
        picture("PNG", (900, 900)),
        "front.png",
        "artwork",
        artistname="The Understudies",
        albumname="Standing Room Only",
    )
    cards["failed"] = stage.send(media.cut(film(seed=1), 0.6), "Broken Lights.mp4", "video")
    cards["question"] = stage.send(film(seed=2), "Curtain Call, again.mp4", "video", **names)
    cards["songs"] = stage.send(album("Front of House", broken=True), "Front of House.zip", "album")
    cards["plan"] = stage.send(film(seed=3), "limelight.mp4", "video", **{**names, "name": "Limelight"})
    cards["missing"] = stage.send(film(seed=4), "No One - Green Room (1999).mp4", "video")
    song = sounds.song("mp3", title="Interval", artist="The Ushers", album="Interval", date="2003")
    stage.bring(stage.send(song, "interval.mp3", "album"))
    known = stage.send(film(seed=7), "Once More.mp4", "video", **{**names, "name": "Once More"})
    stage.bring(known)
    stage.uploads.remove(known)
    stage.uploads.request(stage.send(film(seed=5), "nameless.mp4", "video"), trigger_import=True)
    wrong = stage.uploads.initiate(
        Offer("0" * 40, filename="scratched.mp4", contenttype="video", filesize=9, sha1="0" * 40)
    )
    stage.uploads.receive(wrong.id, offset=0, data=b"scratched")
    stage.rest(wrong.id)
    half = film(1 << 20, seed=6)
    cards["sending"] = stage.offer(half, "From Somebody Else.mp4", "video")
    stage.uploads.receive(cards["sending"], offset=0, data=half[:700_000])
    return cards


def _send(context: BrowserContext, wire: Wire, root: Path, cards: dict[str, str]) -> Page:
    """What this tab sends: on its way, paused, and in the library already."""
    root.mkdir()
    films = {"Dress Rehearsal": film(3 << 20, seed=10), "Rehearsal": film(3 << 20, seed=11), "Once More": film(seed=7)}
    for name, data in films.items():
        (root / f"{name}.mp4").write_bytes(data)
    page = live(context, wire.url)
    wire.hold(3 << 19)
    drop(page, root / "Dress Rehearsal.mp4")
    page.get_by_role("button", name="Pause: Dress Rehearsal.mp4").click()
    row(page, "Dress Rehearsal").locator(".chip", has_text="Paused").wait_for()
    wire.hold(2 << 20)
    drop(page, root / "Rehearsal.mp4", root / "Once More.mp4")
    row(page, "Once More").locator(".chip", has_text="In the library already").wait_for()
    return page


# ── to look at a view ─────────────────────────────────────────────────────────────────────────────────────────


def settled(page: Page) -> None:
    """Waits until everything that is fetched is there."""
    page.wait_for_load_state("networkidle")
    page.locator("upload-card[aria-busy]").wait_for(state="detached")
    until(
        page,
        """() => [...document.images].every((image) => image.hidden || !image.src || image.naturalWidth > 0)
          && !document.querySelector("life-view > p:not([hidden])") && document.fonts.status === "loaded" """,
    )


def too_wide(page: Page) -> list[str]:
    """Elements that make the page wider than the window."""
    found: list[str] = page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
          .filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 120))"""
    )
    return found


def complaints(page: Page) -> list[Any]:
    """What axe finds wrong."""
    # By the debugger's way, because the page's policy lets nothing in.
    session = page.context.new_cdp_session(page)
    if not page.evaluate("'axe' in window"):
        session.send("Runtime.evaluate", {"expression": _axe()})
    session.detach()
    found = page.evaluate('() => axe.run({ resultTypes: ["violations"], rules: { "target-size": { enabled: true } } })')
    wrong = []
    for one in found["violations"]:
        # A folder is called as it is, and not as everything in it, which axe takes for its visible text.
        folders = one["id"] == "label-content-name-mismatch"
        nodes = [node["html"][:200] for node in one["nodes"] if not (folders and "aria-expanded" in node["html"][:200])]
        if nodes:
            wrong.append((one["id"], one["help"], nodes))
    return wrong


@functools.cache
def _axe() -> str:
    """axe-core, fetched once; the test is skipped where that is not possible."""
    place = CACHE / "axe" / "node_modules" / "axe-core" / "axe.min.js"
    if not place.exists():
        if shutil.which("npm") is None:
            pytest.skip("axe-core is not there, and npm is not installed")
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
            command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", fresh, "axe-core@4"]
            done = subprocess.run(command, capture_output=True, check=False, timeout=120)
            if done.returncode:
                pytest.skip("axe-core cannot be fetched")
            if not place.exists():  # another process may have been faster
                os.rename(fresh, CACHE / "axe")
                os.mkdir(fresh)
    return place.read_text(encoding="utf-8")
