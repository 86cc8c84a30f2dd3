"""Every view in both themes, for large windows and phones: pictures in ``.cache/screens``, and nobody is kept out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest

from .browsing import until
from .scenes import CACHE, CARDS, Theatre, complaints, settled, theatre, too_wide
from .travel import SIZES, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCREENS = CACHE / "screens"
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """Uploads rest in the middle for the first look; a server does not wait for ever, so that they go on then."""
    with theatre(tmp_path_factory.mktemp("house")) as house:
        SCREENS.mkdir(parents=True, exist_ok=True)
        yield house


def seen(page: Page, name: str) -> None:
    """Looks at a view in all ways; what is wrong with it is said for all of them together."""
    wrong = {}
    for size, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for theme in THEMES:
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            settled(page)
            page.screenshot(path=SCREENS / f"{name}-{size}-{theme}.png", animations="disabled")
            found = [*complaints(page), *too_wide(page)]
            if found:
                wrong[size, theme] = found
    page.set_viewport_size({"width": 1280, "height": 800})
    assert not wrong, "\n".join(f"{how}: {one}" for how, found in wrong.items() for one in found)


def test_the_board_with_all_kinds_of_uploads(house: Theatre) -> None:
    seen(house.page, "board")
    house.wire.release()


@pytest.mark.parametrize("name", CARDS)
def test_the_card(house: Theatre, name: str) -> None:
    page = house.page
    page.evaluate("(id) => { location.hash = `#/uploads/${id}`; }", house.cards[name])
    page.locator(f"upload-card[uploadid='{house.cards[name]}']:not([aria-busy])").wait_for()
    if (correct := page.locator(".songs .do button:visible")).count() and name == "songs":
        correct.first.click()  # with the form for a song
    seen(page, f"card-{name}")
    # And all of it, however long it is.
    height = page.evaluate("() => document.querySelector('.detail').scrollHeight + 60")
    page.set_viewport_size({"width": 1280, "height": max(800, height)})
    page.emulate_media(color_scheme="light")
    page.screenshot(path=SCREENS / f"card-{name}-whole.png", animations="disabled")
    page.set_viewport_size({"width": 390, "height": 844})
    height = page.evaluate("() => document.querySelector('.detail').scrollHeight + 60")
    page.set_viewport_size({"width": 390, "height": max(844, height)})
    page.screenshot(path=SCREENS / f"card-{name}-whole-phone.png", animations="disabled")
    page.set_viewport_size({"width": 1280, "height": 800})


def test_a_question_before_something_is_lost(house: Theatre) -> None:
    page = house.page
    page.evaluate("(id) => { location.hash = `#/uploads/${id}`; }", house.cards["video"])
    page.locator("upload-card [data-action=undo]").click()
    seen(page, "dialog")
    page.keyboard.press("Escape")


def test_the_settings(house: Theatre) -> None:
    house.page.evaluate("location.hash = '#/settings'")
    house.page.locator("settings-view dd", has_text="version").wait_for()
    seen(house.page, "settings")


def test_an_empty_board_teaches(house: Theatre) -> None:
    with visiting(house.stage.browser) as context:
        page = context.new_page()
        page.goto(house.empty)
        page.get_by_role("heading", name="Bring music in").wait_for()
        seen(page, "empty")


def test_the_form_for_a_key(house: Theatre) -> None:
    with visiting(house.stage.browser, expected=["status of 401", "WebSocket connection"]) as context:
        page = context.new_page()
        page.goto(house.keyed)
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("does not take this key").wait_for()
        until(page, "() => document.activeElement.type === 'password'")
        seen(page, "key")
