"""Whole journeys through the page in a real browser, against the server as a process, with real media."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from stagedoor.testing import sounds
from stagedoor.testing.pictures import picture

from .browsing import PATIENCE, chromium, until
from .travel import CUT, Served, chip, drop, film, live, row, visiting, wire_to

pytest.importorskip("playwright.sync_api", reason="playwright drives Chromium, and is not here")

from playwright.sync_api import Browser, Page, expect

MIB = 1 << 20
MARKUP = "<img src=x onerror=window.pwned=1><b>bold"

expect.set_options(timeout=PATIENCE * 1000)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for journeys that leave it standing."""
    served = Served(tmp_path_factory.mktemp("shared"))
    served.start()
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server of one's own."""
    served = Served(tmp_path)
    served.start()
    try:
        yield served
    finally:
        served.stop()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def album(root: Path, name: str, *, songs: int = 3) -> Path:
    for number in range(1, songs + 1):
        tags = {"title": f"Song {number}", "track": f"{number}/{songs}", "date": "1998"}
        put(
            root / name / f"{number:02} Song {number}.mp3",
            sounds.song("mp3", artist="The Ushers", album=name, seed=number + len(name), **tags),
        )
    put(root / name / "cover.jpg", picture("JPEG", (600, 600)))
    return root / name


def choose(page: Page, *paths: Path) -> None:
    page.locator("drop-zone input[multiple]").set_input_files(list(paths))


def look(page: Page, name: str) -> None:
    """Opens the card of an upload, as soon as the server knows it."""
    row(page, name).locator(".name[href]").click()


def act(page: Page, name: str) -> None:
    page.locator(f"upload-card [data-action={name}]").click()


def sent(page: Page, name: str) -> float:
    """The share of an upload that has come, as the board shows it."""
    return float(row(page, name).locator("progress").evaluate("(bar) => bar.value"))


def further(page: Page, name: str, share: float) -> None:
    """Waits until the board shows that more of an upload has come; while the file is read, the bar is about that."""
    until(
        page,
        "([name, share]) => [...document.querySelectorAll('upload-board .row')].some((row) => "
        "row.textContent.includes(name) && row.querySelector('.chip').textContent !== 'Being read' && "
        "row.querySelector('progress').value > share)",
        [name, share],
    )


# ── from the drop to the library ──────────────────────────────────────────────────────────────────────────────


def test_files_and_a_folder_arrive_whatever_happens_on_the_way(
    browser: Browser, served: Served, tmp_path: Path
) -> None:
    """The line is cut, the server killed, the page reloaded, and nothing has to be chosen again, or sent twice."""
    there = tmp_path / "there"
    big = put(there / "Ada - Long Take (2011).mp4", film(3 * MIB))
    song = put(there / "single.mp3", sounds.song("mp3", title="Alone", artist="The Ushers", album="Alone", date="2001"))
    cover = put(there / "cover.png", picture("PNG", (500, 500)))
    folder = album(there, "Curtain Calls")
    with (
        wire_to(served.port) as wire,
        visiting(browser, expected=CUT) as mine,
        visiting(browser, expected=CUT) as other,
    ):
        page = live(mine, wire.url)
        watcher = live(other, served.url)
        expect(page.get_by_role("heading", name="Bring music in")).to_be_visible()
        wire.hold(MIB)
        drop(page, big, song, cover, folder)
        expect(page.locator("upload-board .row")).to_have_count(4)
        further(watcher, "Long Take", 0.1)
        expect(row(watcher, "Long Take").locator(".chip")).to_have_text("Uploading")

        wire.cut()
        expect(page.locator("#connection")).to_contain_text("Offline since")
        expect(page.locator("#offline")).to_contain_text("This page tries again by itself")
        before = sent(watcher, "Long Take")
        wire.hold(MIB // 2)
        wire.mend()
        expect(page.locator("#connection")).to_have_text("Live")
        further(watcher, "Long Take", before)

        served.kill()
        for one in (page, watcher):
            expect(one.locator("#connection")).to_contain_text("Offline")
        wire.hold(MIB // 2)
        served.start()
        for one in (page, watcher):
            expect(one.locator("#connection")).to_have_text("Live")
        further(watcher, "Long Take", before)
        before = sent(watcher, "Long Take")

        wire.hold(0)
        page.reload()
        wire.hold(MIB // 2)
        page.locator("#connection", has_text="Live").wait_for()
        further(watcher, "Long Take", before)
        wire.release()

        for one in (page, watcher):
            for name in ("The Ushers – Alone", "The Ushers – Curtain Calls"):  # as their tags say
                expect(row(one, name).locator(".chip")).to_have_text("Ready to import")
            for name in ("Long Take", "cover.png"):
                expect(row(one, name).locator(".chip")).to_have_text("Something is missing")
            expect(one.locator("#notices")).to_be_empty()
        size = sum(path.stat().st_size for path in (big, song, cover, *folder.iterdir()))
        # Each cut may cost what was on its way: four chunks of 64 KiB for each of three uploads.
        assert wire.sent < size + 4 * 3 * 4 * 65_536
        assert stored(served) == {
            hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest() for path in (big, song, cover)
        } | {one["id"] for one in uploads(served) if one["filename"] == "Curtain Calls.zip"}

        # Now what it is, where it goes, and back.
        look(page, "Long Take")
        chip(page, "Something is missing").wait_for()
        page.get_by_role("button", name="Fill in all").click()
        page.locator("#annotation-artistname").fill("Ada Prompt")
        page.locator("#annotation-name").fill("Long Take")
        page.locator("#annotation-release").fill("2011")
        act(page, "save")
        chip(page, "Ready to import").wait_for()
        expect(page.locator("plan-tree [role=treeitem]", has_text="2011 - Long Take.mp4").last).to_be_visible()
        act(page, "import")
        chip(page, "In the library").wait_for()
        expect(row(watcher, "Long Take").locator(".chip")).to_have_text("In the library")
        placed = served.music / "Ada Prompt" / "2011 - Long Take.mp4"
        assert placed.read_bytes() == big.read_bytes()
        act(page, "undo")
        page.locator("dialog").get_by_role("button", name="Undo the import").click()
        chip(page, "Ready to import").wait_for()
        assert not placed.exists()
        act(page, "remove")
        page.locator("dialog").get_by_role("button", name="Remove").click()
        expect(row(watcher, "Long Take")).to_have_count(0)

        # The album is complete as it is: one click on the board.
        row(watcher, "Curtain Calls").get_by_role("button", name="Import").click()
        expect(row(page, "Curtain Calls").locator(".chip")).to_have_text("In the library")
        assert len(list(served.music.rglob("*Song*.mp3"))) == 3


def uploads(served: Served) -> list[dict[str, str]]:
    with urlopen(f"{served.url}/api/uploads") as answer:
        found: list[dict[str, str]] = json.load(answer)["uploads"]
        return found


def stored(served: Served) -> set[str]:
    return {one["id"] for one in uploads(served)}


# ── who sends ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_was_chosen_in_a_field_is_chosen_again_after_a_reload(
    browser: Browser, shared: Served, tmp_path: Path
) -> None:
    """A browser without handles forgets it: one choice more, and not a byte twice."""
    path = put(tmp_path / "Chosen Twice.mp4", film(2 * MIB, seed=1))
    with wire_to(shared.port) as wire, visiting(browser, picker=False) as context:
        page = live(context, wire.url)
        wire.hold(MIB)
        choose(page, path)
        further(page, "Chosen Twice", 0.2)
        page.reload()
        expect(row(page, "Chosen Twice").locator(".chip")).to_have_text("File is needed again")
        expect(row(page, "Chosen Twice")).to_contain_text("Choose it again, and it goes on where it was.")
        further(page, "Chosen Twice", 0.2)
        wire.release()
        with page.expect_file_chooser() as chooser:
            row(page, "Chosen Twice").get_by_role("button", name="Choose the file again").click()
        chooser.value.set_files(path)
        expect(row(page, "Chosen Twice").locator(".chip")).to_have_text("Something is missing")
        assert wire.sent < path.stat().st_size + 8 * 65_536


def test_a_file_of_the_library_is_told_of_before_a_byte_is_sent(
    browser: Browser, served: Served, tmp_path: Path
) -> None:
    path = put(tmp_path / "Ushers - Known (2001).mp4", film(MIB, seed=2))
    with wire_to(served.port) as wire, visiting(browser) as context:
        page = live(context, wire.url)
        drop(page, path)
        look(page, "Known")
        page.get_by_role("button", name="Fill in all").click()
        act(page, "save")
        act(page, "import")
        chip(page, "In the library").wait_for()
        act(page, "remove")
        expect(page.locator("dialog")).to_contain_text("in the library, and the catalogue")
        page.locator("dialog").get_by_role("button", name="Remove").click()
        expect(page.locator("upload-board .row")).to_have_count(0)

        before = wire.sent
        drop(page, path)
        expect(row(page, "Known").locator(".chip")).to_have_text("In the library already")
        assert wire.sent - before < 4096
        assert uploads(served) == []
        row(page, "Known").get_by_role("button", name="Leave it").click()
        expect(row(page, "Known")).to_have_count(0)
        drop(page, path)
        row(page, "Known").get_by_role("button", name="Send it anyway").click()
        expect(row(page, "Known").locator(".chip")).to_have_text("Something is missing")
        assert wire.sent - before > MIB


def test_an_upload_is_paused_resumed_and_cancelled(browser: Browser, shared: Served, tmp_path: Path) -> None:
    paths = [put(tmp_path / f"Paused {number}.mp4", film(2 * MIB, seed=10 + number)) for number in (1, 2)]
    with wire_to(shared.port) as wire, visiting(browser) as context, visiting(browser) as other:
        page, watcher = live(context, wire.url), live(other, shared.url)
        wire.hold(MIB)
        drop(page, paths[0])
        further(page, "Paused 1", 0.1)
        row(page, "Paused 1").get_by_role("button", name="Pause:").click()
        expect(row(page, "Paused 1").locator(".chip")).to_have_text("Paused")
        drop(page, paths[1])
        wire.release()
        expect(row(page, "Paused 2").locator(".chip")).to_have_text("Something is missing")
        expect(row(page, "Paused 1").locator(".chip")).to_have_text("Paused")
        assert 0.1 < sent(watcher, "Paused 1") < 1
        wire.hold(MIB // 4)
        page.get_by_role("button", name="Resume all").click()
        expect(row(page, "Paused 1").locator(".chip")).to_have_text("Uploading")
        page.get_by_role("button", name="Pause all").click()
        expect(row(page, "Paused 1").locator(".chip")).to_have_text("Paused")
        row(page, "Paused 1").get_by_role("button", name="Cancel:").click()
        expect(page.locator("dialog")).to_contain_text("Your own file stays as it is.")
        page.locator("dialog").get_by_role("button", name="Keep sending").click()
        expect(row(watcher, "Paused 1")).to_have_count(1)
        page.get_by_role("button", name="Cancel mine").click()
        page.locator("dialog").get_by_role("button", name="Cancel it").click()
        wire.release()
        for one in (page, watcher):
            expect(row(one, "Paused 1")).to_have_count(0)


def test_two_tabs_with_the_same_file_send_it_once(browser: Browser, shared: Served, tmp_path: Path) -> None:
    """The second waits, and goes on when the first is closed."""
    path = put(tmp_path / "Shared.mp4", film(2 * MIB, seed=3))
    with wire_to(shared.port) as wire, visiting(browser) as context:
        first, second = live(context, wire.url), live(context, wire.url)
        wire.hold(MIB)
        drop(first, path)
        further(first, "Shared", 0.2)
        drop(second, path)
        expect(row(second, "Shared").filter(has_text="Another tab of this browser sends this file.")).to_be_visible()
        expect(row(second, "Shared")).to_have_count(1)
        expect(row(second, "Shared").locator(".chip")).to_have_text("Waiting for its turn")
        first.close()
        expect(row(second, "Shared").locator(".chip")).to_have_text("Uploading")
        wire.release()
        expect(row(second, "Shared").locator(".chip")).to_have_text("Something is missing")
        assert wire.sent < path.stat().st_size + 8 * 65_536


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_text_that_calls_itself_a_film_is_refused_in_plain_words(
    browser: Browser, shared: Served, tmp_path: Path
) -> None:
    path = put(tmp_path / "Shopping List.mp4", b"milk, bread, a new fuse for the dimmer\n" * 50)
    with visiting(browser) as context:
        page = live(context, shared.url)
        drop(page, path)
        expect(row(page, "Shopping List").locator(".chip")).to_have_text("Cannot be used")
        expect(row(page, "Shopping List")).to_contain_text(
            "The file is no MP4, M4V, WebM or Matroska video. Convert it to one of these."
        )
        page.get_by_role("button", name="Failed").click()
        look(page, "Shopping List")
        expect(page.locator("upload-card .notice").first).to_contain_text("The file is no MP4")
        expect(page.locator("upload-card")).to_contain_text("Choose another copy of the file.")
        act(page, "remove")
        page.locator("dialog").get_by_role("button", name="Remove").click()
        expect(row(page, "Shopping List")).to_have_count(0)


def test_a_film_without_names_is_opened_and_not_imported_from_the_board(
    browser: Browser, shared: Served, tmp_path: Path
) -> None:
    path = put(tmp_path / "nameless.mp4", film(seed=4))
    with visiting(browser) as context:
        page = live(context, shared.url)
        drop(page, path)
        expect(row(page, "nameless").locator(".chip")).to_have_text("Something is missing")
        row(page, "nameless").get_by_role("button", name="Say what it is").click()
        chip(page, "Something is missing").wait_for()
        page.locator(".notice", has_text="Artist, Title, Year").wait_for()


def test_what_the_server_refuses_is_said_and_stays_until_it_was_read(
    browser: Browser, shared: Served, tmp_path: Path
) -> None:
    """Somebody else was faster: the button that is still there is refused."""
    path = put(tmp_path / "gone.mp4", b"no film" * 9)
    with visiting(browser, expected=[r"status of 404"]) as context:
        page = live(context, shared.url)
        drop(page, path)
        again = row(page, "gone").get_by_role("button", name="Check again")
        again.wait_for()
        page.route(
            "**/retry",
            lambda route: route.fulfill(
                status=404,
                content_type="application/problem+json",
                body=json.dumps({"code": "not_found", "detail": "It is gone."}),
            ),
        )
        again.click()
        expect(page.locator("#notices .notice")).to_have_text("It is gone.")
        page.get_by_role("button", name="Dismiss this message").click()
        expect(page.locator("#notices")).to_be_empty()


def test_names_and_tags_of_markup_are_text(browser: Browser, shared: Served, tmp_path: Path) -> None:
    path = put(
        tmp_path / f"{MARKUP.replace('/', '')}.mp3",
        sounds.song("mp3", title=MARKUP, artist=f"A & {MARKUP}", album=MARKUP, date="2004"),
    )
    with visiting(browser) as context:
        page = live(context, shared.url)
        drop(page, path)
        found = row(page, "<b>bold")
        expect(found.locator(".chip")).to_have_text("Ready to import")
        found.locator(".name[href]").click()
        expect(page.locator("upload-card h1")).to_contain_text(MARKUP)
        expect(page.locator(".songs")).to_contain_text(MARKUP)
        found.get_by_role("button", name="Import").click()
        chip(page, "In the library").wait_for()
        found.get_by_role("button", name="Remove").click()
        expect(page.locator("dialog h2")).to_contain_text("<b>bold")
        assert page.locator("main b, dialog b, img[src=x]").count() == 0
        assert page.evaluate("window.pwned") is None


# ── with a key ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_with_a_key_asks_for_it(browser: Browser, tmp_path: Path) -> None:
    served = Served(tmp_path / "keyed", keys="correct-horse-battery")
    served.root.mkdir()
    path = put(tmp_path / "Kept.mp4", film(seed=5))
    served.start()
    try:
        with visiting(browser, expected=[r"status of 401", r"WebSocket connection to .* failed"]) as context:
            page = context.new_page()
            page.goto(served.url)
            expect(page.get_by_role("heading", name="This server asks for a key")).to_be_visible()
            expect(page.get_by_label("API key")).to_be_focused()
            page.keyboard.type("wrong-horse")
            page.keyboard.press("Enter")
            expect(page.get_by_text("The server does not take this key.")).to_be_visible()
            page.get_by_label("API key").fill("correct-horse-battery")
            page.get_by_label("Remember it in this browser").check()
            page.keyboard.press("Enter")
            expect(page.locator("#connection")).to_have_text("Live")
            drop(page, path)
            look(page, "Kept")
            chip(page, "Something is missing").wait_for()
            until(page, "() => document.querySelector('life-view img').naturalWidth > 0")
            page.reload()
            chip(page, "Something is missing").wait_for()
            page.goto(f"{served.url}/#/settings")
            page.get_by_role("button", name="Forget the key").click()
            expect(page.get_by_role("heading", name="This server asks for a key")).to_be_visible()
    finally:
        served.stop()
