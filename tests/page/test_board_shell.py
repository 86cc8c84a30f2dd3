"""What is around the views: addresses, focus, theme, key, title, and the warning before a tab is closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.testing.pictures import picture

from .browsing import chromium, serving, until
from .staging import Stage
from .travel import CUT, live, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CORK = """() => {
  // Who reads files hears of them when the test says so.
  const { postMessage } = Worker.prototype;
  const opened = new Promise((resolve) => { window.uncork = resolve; });
  Worker.prototype.postMessage = function (...values) {
    opened.then(() => postMessage.apply(this, values));
  };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Stage]:
    with serving(tmp_path_factory.mktemp("shell")) as site:
        stage = Stage(site, browser)
        for number in range(3):
            stage.send(picture("JPEG", (300 + number, 300)), f"cover-{number}.jpg", "artwork")
        yield stage


def focus(page: Page) -> str:
    """What has the focus."""
    found: str = page.evaluate("document.activeElement.textContent.trim()")
    return found


def ground(page: Page) -> str:
    found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return found


def test_a_phone_shows_the_card_instead_of_the_board_and_goes_back_to_the_row(stage: Stage) -> None:
    with visiting(stage.browser, size="phone") as context:
        page = live(context, stage.site.url)
        page.get_by_role("link", name="cover-1.jpg").focus()
        page.keyboard.press("Enter")
        page.locator("upload-card h1", has_text="cover-1.jpg").wait_for()
        assert not page.locator("upload-board").is_visible()
        assert focus(page) == "All uploads"
        page.keyboard.press("Enter")
        page.locator("upload-board").wait_for()
        assert focus(page) == "cover-1.jpg"
        page.go_back()
        page.locator("upload-card h1", has_text="cover-1.jpg").wait_for()


def test_a_wide_window_shows_the_card_beside_the_board_and_escape_closes_it(stage: Stage) -> None:
    with visiting(stage.browser) as context:
        page = live(context, stage.site.url)
        page.get_by_role("link", name="cover-0.jpg").click()
        page.locator("upload-card h1", has_text="cover-0.jpg").wait_for()
        assert page.locator("upload-board").is_visible()
        assert page.locator("[aria-current=true]").text_content() == "cover-0.jpg"
        assert focus(page) == "cover-0.jpg"
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        until(page, "() => document.querySelector('upload-card h1')?.textContent !== 'cover-0.jpg'")
        here = focus(page)
        assert page.locator("[aria-current=true]").text_content() == here
        page.locator("upload-card button").first.focus()
        page.keyboard.press("Escape")
        page.locator("upload-card").wait_for(state="detached")
        assert focus(page) == here


def test_the_way_back_from_the_settings_leads_into_the_list(stage: Stage) -> None:
    with visiting(stage.browser) as context:
        page = live(context, stage.site.url)
        page.get_by_role("link", name="cover-1.jpg").focus()
        page.get_by_role("link", name="Settings").press("Enter")
        page.get_by_role("link", name="All uploads").press("Enter")
        page.locator("upload-board").wait_for()
        assert focus(page) == "cover-1.jpg"


@pytest.mark.parametrize("place", ["#/uploads/%E0%A4%A", "#/nowhere", "#", "#/uploads/"])
def test_an_address_that_nobody_wrote_shows_the_board(stage: Stage, place: str) -> None:
    with visiting(stage.browser) as context:
        page = live(context, f"{stage.site.url}/{place}")
        page.get_by_role("link", name="cover-0.jpg").wait_for()
        assert page.locator("upload-card").count() == 0


def test_the_theme_is_the_systems_until_another_is_chosen(stage: Stage) -> None:
    with visiting(stage.browser, color_scheme="dark") as context:
        page = live(context, f"{stage.site.url}/#/settings")
        dark = ground(page)
        page.emulate_media(color_scheme="light")
        light = ground(page)
        assert dark != light
        page.get_by_role("radio", name="Dark").check()
        assert ground(page) == dark
        page.reload()
        assert ground(page) == dark
        assert page.get_by_role("radio", name="Dark").is_checked()
        page.get_by_role("radio", name="As the system has it").check()
        assert ground(page) == light
        page.reload()
        assert ground(page) == light


def test_a_key_is_forgotten_with_its_tab_unless_it_is_to_be_remembered(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = "a key of letters"
    expected = ["status of 401", *CUT]
    with (
        serving(tmp_path_factory.mktemp("keyed"), keys=(key,)) as site,
        visiting(browser, expected=expected) as context,
    ):

        def kept() -> list[Any]:
            found: list[Any] = page.evaluate("[sessionStorage, localStorage].map((s) => s.getItem('stagedoor.key'))")
            return found

        page = context.new_page()
        page.goto(f"{site.url}/#/settings")
        page.get_by_label("API key").fill(f" {key}\n")
        page.get_by_role("button", name="Open").click()
        page.locator("settings-view dd", has_text="version").wait_for()
        assert kept() == [key, None]
        page.reload()
        page.locator("#connection", has_text="Live").wait_for()
        other = context.new_page()
        other.goto(site.url)
        other.get_by_role("heading", name="This server asks for a key").wait_for()
        page.get_by_label("Remember it").check()
        page.get_by_role("button", name="Use this key").click()
        until(page, "() => localStorage.getItem('stagedoor.key') !== null")
        assert kept() == [None, key]
        other.reload()
        other.locator("#connection", has_text="Live").wait_for()


def test_the_title_tells_how_far_it_is_and_a_tab_that_is_needed_asks_before_it_goes(stage: Stage) -> None:
    with visiting(stage.browser, picker=False) as context:
        page = live(context, stage.site.url)
        page.evaluate(CORK)
        page.locator("drop-zone input").first.set_input_files(
            {"name": "slow.jpg", "mimeType": "image/jpeg", "buffer": picture("JPEG", (310, 310))}
        )
        page.locator(".row .chip", has_text="Being read").wait_for()
        until(page, "() => document.title === '0 % · stagedoor'")

        def asks() -> bool:
            asked: bool = page.evaluate(
                "() => !dispatchEvent(new Event('beforeunload', { cancelable: true }))",
            )
            return asked

        assert asks()
        page.evaluate("uncork()")
        page.locator(".row", has_text="slow.jpg").locator(".chip", has_text="Something is missing").wait_for()
        until(page, "() => document.title === 'stagedoor'")
        assert not asks()
        until(page, "() => document.getElementById('polite').textContent === 'slow.jpg: Something is missing.'")


def test_a_server_that_is_gone_is_told_of_with_the_time(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serving(tmp_path_factory.mktemp("gone")) as site, visiting(browser, expected=CUT) as context:
        page = live(context, site.url)
        site.stop()
        page.locator("#connection", has_text="Offline since").wait_for()
        assert "tries again by itself" in (page.locator("#offline").text_content() or "")
        site.start()
        page.evaluate("dispatchEvent(new Event('online'))")
        page.locator("#connection", has_text="Live").wait_for()
        assert page.locator("#offline").count() == 0
