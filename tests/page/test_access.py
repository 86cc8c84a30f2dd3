"""The page by keyboard alone, with large files, and with very many uploads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stagedoor.tasks import Offer

from .browsing import PATIENCE, chromium, serving, until
from .staging import Stage
from .travel import chip, drop, film, live, row, visiting

pytest.importorskip("playwright.sync_api", reason="playwright drives Chromium, and is not here")

from playwright.sync_api import Page, expect

MIB = 1 << 20
NODES = 2500
"""Of the document with 1,000 uploads on the board: some 20 rows can be seen."""

LISTEN = """() => {
  window.seen = [];
  const look = () => {
    const standing = [...document.querySelectorAll(".row")].find((row) => row.textContent.includes("large.mp4"))
      ?.querySelector(".standing");
    if (standing) window.seen.push(standing.innerText);
  };
  new MutationObserver(look).observe(document.querySelector("upload-board"), {
    subtree: true, childList: true, characterData: true });
}"""

expect.set_options(timeout=PATIENCE * 1000)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with serving(tmp_path_factory.mktemp("access")) as site, chromium() as browser:
        yield Stage(site, browser)


def tab_to(page: Page, name: str, *, most: int = 40) -> None:
    """Presses Tab until something with this name has the focus."""
    here = """() => { const one = document.activeElement;
      return one.getAttribute("aria-label") ?? (one.labels?.[0]?.textContent || one.textContent); }"""
    seen = []
    for _ in range(most):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(here).strip())
        if seen[-1].startswith(name):
            return
    raise AssertionError(f"Tab does not come to {name!r}, but to {seen}")


def test_the_whole_way_by_keyboard_alone(stage: Stage, tmp_path: Path) -> None:
    """Choose, find, name, look at the plan, import, undo, remove, and no pointer."""
    path = tmp_path / "Quiet Please.mp4"
    path.write_bytes(film(seed=20))
    with visiting(stage.browser, picker=False) as context:
        page = live(context, stage.site.url)
        tab_to(page, "Choose files")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(path)
        expect(row(page, "Quiet Please").locator(".chip")).to_have_text("Something is missing")
        tab_to(page, "Quiet Please.mp4")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("button", name="Say what it is: Quiet Please.mp4")).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("button", name="Remove: Quiet Please.mp4")).to_be_focused()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        chip(page, "Something is missing").wait_for()
        tab_to(page, "Fill in what is missing")
        page.keyboard.press("Enter")
        expect(page.locator("#annotation-artistname")).to_be_focused()
        page.keyboard.type("The Prompters")
        for name, text in (("Title", "Quiet Please"), ("Year", "1987")):
            tab_to(page, name)
            page.keyboard.press("Control+A")
            page.keyboard.type(text)
        page.keyboard.press("Enter")
        chip(page, "Ready to import").wait_for()

        tab_to(page, "Music directory")
        for _ in range(2):
            page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.dataset.path") == "music/The Prompters/1987 - Quiet Please.mp4"
        page.evaluate("document.activeElement.blur()")
        page.locator("upload-card h1").evaluate("(heading) => heading.focus()")  # as after a jump by headings
        tab_to(page, "Import")
        page.keyboard.press("Enter")
        chip(page, "In the library").wait_for()
        page.locator("upload-card h1").evaluate("(heading) => heading.focus()")
        tab_to(page, "Undo the import")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Keep it")).to_be_focused()
        tab_to(page, "Undo the import")
        page.keyboard.press("Enter")
        chip(page, "Ready to import").wait_for()
        page.keyboard.press("Escape")
        expect(page.locator("upload-card")).to_have_count(0)
        expect(page.get_by_role("link", name="The Prompters – Quiet Please")).to_be_focused()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        tab_to(page, "Remove it")
        page.keyboard.press("Enter")
        expect(row(page, "Quiet Please")).to_have_count(0)
        assert page.evaluate("document.activeElement !== document.body"), "the next Tab goes on from here"


def test_a_large_file_is_hashed_while_the_page_answers(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.write(b"not a film")
        file.truncate(64 * MIB)
    with visiting(stage.browser) as context:
        page = live(context, stage.site.url)
        page.evaluate(LISTEN)
        drop(page, path)
        row(page, "large.mp4").wait_for()
        page.get_by_role("link", name="Settings").click()
        page.get_by_role("heading", name="Settings").wait_for()
        page.get_by_role("link", name="stagedoor").click()
        expect(row(page, "large.mp4").locator(".chip")).to_have_text("Cannot be used")
        seen = page.evaluate("window.seen")
        assert any(text.startswith("Being read") for text in seen)


def test_a_thousand_uploads_need_no_more_of_the_document_than_can_be_seen(stage: Stage) -> None:
    uploads = stage.uploads
    for number in range(1000):
        offer = Offer(
            f"many-{number}", filename=f"many-{number:04}.mp4", contenttype="video", filesize=9, sha1="0" * 40
        )
        uploads.initiate(offer)
    with visiting(stage.browser) as context:
        page = live(context, stage.site.url)
        until(page, "() => Number(document.querySelector('.filter .count')?.textContent) >= 1000")
        assert page.evaluate("document.getElementsByTagName('*').length") < NODES
        page.locator("upload-board").evaluate("(board) => board.scrollTo(0, board.scrollHeight)")
        expect(row(page, "many-0000.mp4")).to_be_visible()
        assert page.evaluate("document.getElementsByTagName('*').length") < NODES
        page.get_by_role("searchbox").fill("many-0500")
        expect(page.locator("upload-board .row")).to_have_count(1)
        page.get_by_role("searchbox").fill("")
        for number in range(1000):
            uploads.remove(f"many-{number}")
        expect(row(page, "many-")).to_have_count(0)
