"""The board in Chromium, fed with as many uploads as a test likes: what is in the document, keys, focus, filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest
from attrs import frozen

from stagedoor.lifecycle import ROWS, Trigger

from .browsing import Site, chromium, serving, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FEED: Final = """async ({ many, moving }) => {
  const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/style.css" });
  const styled = new Promise((resolve) => { sheet.onload = resolve; });
  document.documentElement.append(sheet);
  await styled;
  await import("/board.js");
  const ID = (number) => String(number).padStart(40, "0");
  const STATES = ["importcomplete", "preprocessed", "invalidcontent", "uploadcomplete"];
  const line = (number) => ({
    id: ID(number), uid: `u${number}`, state: number < moving ? "waitforchunk" : STATES[number % 4],
    contenttype: "video", filename: `clip-${number}.mp4`, mimetype: "video/mp4", filesize: 1e6,
    offset: number < moving ? 1000 : 1e6, revision: 1, created: 1, updated: 1e6 - number,
    message: null, code: null, questions: [], due: null,
    names: number % 2 ? { artistname: `Artist ${number}`, name: "Song" } : {}, rate: 0, eta: null,
  });
  const store = Object.assign(new EventTarget(), { uploads: new Map(), ready: true, problem: null });
  for (let number = 0; number < many; number += 1) store.uploads.set(ID(number), line(number));
  const sources = Object.assign(new EventTarget(), {
    items: new Map(), find(id) { return [...this.items.values()].find((source) => source.id === id); },
    calls: [], add(picked) { this.calls.push(["add", ...picked.map(({ name }) => name)]); },
  });
  for (const name of ["pause", "resume", "cancel", "pauseAll", "resumeAll", "cancelAll", "forget", "retry"])
    sources[name] = (...values) => sources.calls.push([name, ...values]);
  const app = {
    store, sources, api: { post: async (...asked) => sources.calls.push(["post", ...asked]) },
    connection: new EventTarget(), said: [], say(sentence) { this.said.push(sentence); },
    complain(error) { this.said.push(error.message); }, confirm: async () => true, attempt: async (what) => what(),
  };
  const tell = ({ changed = [], added = [], removed = [] }) => {
    const detail = { changed: new Set(changed), added: new Set(added), removed: new Set(removed) };
    store.dispatchEvent(new CustomEvent("change", { detail }));
  };
  const board = Object.assign(document.createElement("upload-board"), { app, className: "pane" });
  document.body.replaceChildren(board);
  document.body.style.setProperty("display", "block");
  board.style.setProperty("height", "100dvh");
  const change = (number, what) => {
    Object.assign(store.uploads.get(ID(number)), what);
    tell({ changed: [ID(number)] });
  };
  const mine = (localId, what) => {
    const source = { localId, id: null, name: `${localId}.mp4`, size: 100, done: 10, problem: null, ...what };
    sources.items.set(localId, source);
    sources.dispatchEvent(new CustomEvent("change"));
    return source;
  };
  const box = (element) => element.getBoundingClientRect();
  const drawn = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const names = () => [...document.querySelectorAll(".row .name")].map(({ textContent }) => textContent);
  const shown = () => names().map((name) => Number(name.match(/\\d+/)));
  Object.assign(window, { board, store, sources, app, tell, change, mine, box, ID, line, drawn, shown });
  await drawn();
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("board")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@frozen
class Board:
    """A tab with nothing but a board in it."""

    page: Page

    def run(self, script: str, argument: Any = None) -> Any:
        """The value of a script, once what it did is drawn."""
        return self.page.evaluate(f"async (argument) => {{ {script} }}", argument)

    def shown(self) -> list[int]:
        """Numbers of the uploads whose rows are in the document, in its order."""
        found: list[int] = self.run("await drawn(); return shown();")
        return found

    def press(self, *keys: str) -> tuple[int, str]:
        """The number of the upload whose row has the focus then, and what has it there."""
        for key in keys:
            self.page.keyboard.press(key)
        place, name = self.run("""
            await drawn();
            const { activeElement } = document;
            const name = activeElement.closest(".row")?.querySelector(".name").textContent ?? "-1";
            return [Number(name.match(/\\d+/)), activeElement.getAttribute("aria-label") ?? "name"];
        """)
        return place, name.partition(":")[0]


@pytest.fixture
def board(site: Site, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Board]:
    many, moving = getattr(request, "param", (1000, 50))
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page = tab(context, site)
    page.evaluate(FEED, {"many": many, "moving": moving})
    yield Board(page)
    context.close()


def test_only_rows_that_can_be_seen_are_in_the_document(board: Board) -> None:
    assert board.shown() == list(range(len(board.shown())))
    for top in (0, 3000, 3010, 20_000, 10**6, 500):
        seen = board.run(
            """
            board.scrollTop = argument;
            await drawn();
            const rows = [...document.querySelectorAll(".row")];
            const covered = box(board.querySelector(".tools")).bottom;
            return {
              many: rows.length, places: rows.map((row) => Number(row.getAttribute("aria-posinset"))),
              sizes: [...new Set(rows.map((row) => row.getAttribute("aria-setsize")))],
              first: box(rows[0]).top <= covered, last: box(rows.at(-1)).bottom >= box(board).bottom,
              ended: board.scrollTop + board.clientHeight >= board.scrollHeight - 40,
              inPlace: rows.every((row, at) => !at || Math.abs(box(row).top - box(rows[at - 1]).bottom) < 1),
            };
            """,
            top,
        )
        assert seen["many"] < 25
        assert seen["sizes"] == ["1000"]
        assert seen["places"] == list(range(seen["places"][0], seen["places"][0] + seen["many"]))
        assert seen["inPlace"]
        assert seen["first"] or top == 0
        assert seen["last"] or seen["ended"]
        if top == 10**6:
            assert seen["places"][-1] == 1000


def test_progress_touches_only_the_rows_that_moved_and_can_be_seen(board: Board) -> None:
    touched = board.run(
        """
        const rows = new Set();
        let others = 0;
        new MutationObserver((all) => all.forEach(({ target }) => {
          const row = (target.closest ? target : target.parentElement).closest(".row");
          if (row) rows.add(Number(row.getAttribute("aria-posinset")) - 1);
          else others += 1;
        })).observe(board, { subtree: true, childList: true, attributes: true, characterData: true });
        const ids = Array.from({ length: 50 }, (_, number) => ID(number)).filter((_, number) => number % 2);
        for (const id of ids) store.uploads.get(id).offset = 500000;
        tell({ changed: ids });
        await drawn();
        const text = document.querySelector(".row:nth-child(2) .numbers").textContent;
        return { rows: [...rows].sort((a, b) => a - b), others, text };
        """
    )
    assert touched == {"rows": [n for n in board.shown() if n % 2], "others": 0, "text": "50 %"}


def test_what_moves_keeps_its_place_and_what_changed_comes_first(board: Board) -> None:
    board.run("change(7, { offset: 9000, updated: 2e6 });")
    assert board.shown()[0] == 0
    board.run("change(7, { state: 'uploadcomplete', updated: 2e6 });")
    assert board.shown()[:3] == [7, 0, 1]
    board.run("store.uploads.delete(ID(0)); tell({ removed: [ID(0)] });")
    assert board.shown()[:3] == [7, 1, 2]


def test_a_row_stays_with_its_upload(board: Board) -> None:
    """A click that began on a row meets the same upload, whatever came above it meanwhile."""
    same = board.run(
        """
        const before = [...document.querySelectorAll(".row")][3];
        store.uploads.set(ID(5000), { ...line(5000), updated: 3e6 });
        tell({ added: [ID(5000)] });
        await drawn();
        return [before.getAttribute("aria-posinset"), before.querySelector(".name").textContent, before.isConnected];
        """
    )
    assert same == ["5", "Artist 3 – Song", True]


def test_what_is_read_is_not_pushed_away_by_what_comes_above(board: Board) -> None:
    moved = board.run(
        """
        board.scrollTop = 7000;
        await drawn();
        const row = [...document.querySelectorAll(".row")][8];
        const [name, top] = [row.textContent, row.getBoundingClientRect().top];
        const added = Array.from({ length: 40 }, (_, at) => 2000 + at);
        for (const number of added) store.uploads.set(ID(number), { ...line(number), updated: 3e6 });
        tell({ added: added.map(ID) });
        await drawn();
        return [row.textContent === name, Math.round(row.getBoundingClientRect().top - top)];
        """
    )
    assert moved == [True, 0]


def test_all_rows_are_reached_by_keys_and_one_of_them_by_tab(board: Board) -> None:
    board.page.locator("#search").focus()
    assert board.press("Tab") == (0, "name")
    assert board.press("ArrowDown", "ArrowDown") == (2, "name")
    assert board.press("ArrowRight") == (2, "Cancel")
    assert board.press("ArrowDown") == (3, "Cancel")
    assert board.press("ArrowLeft", "ArrowLeft") == (3, "name")
    assert board.press("End") == (999, "name")
    assert board.press("ArrowDown") == (999, "name")
    assert board.press("PageUp")[0] in range(980, 995)
    assert board.press("Home", "ArrowUp") == (0, "name")
    assert board.press("PageDown")[0] in range(5, 15)
    assert board.press("ArrowDown", *["PageDown"] * 30)[0] > 200
    inside = board.run(
        """
        const { top, bottom } = box(document.activeElement.closest(".row"));
        return top >= box(board.querySelector(".tools")).bottom - 1 && bottom <= innerHeight + 1;
        """
    )
    assert inside
    assert board.run("return document.querySelectorAll('.rows [tabindex=\"0\"]').length;") in (1, 2, 3)
    here, _ = board.press()
    board.page.keyboard.press("Enter")
    assert board.page.evaluate("location.hash").endswith(f"{here:040}")


def test_the_focus_survives_scrolling_and_changes(board: Board) -> None:
    board.page.locator(".row .name").nth(4).focus()
    assert (
        board.run("board.scrollTop = 30000; await drawn(); return document.activeElement.textContent;") == "clip-4.mp4"
    )
    assert len(board.shown()) < 26
    assert board.press("ArrowDown") == (5, "name")
    board.run("change(5, { state: 'uploadcomplete', updated: 9e6 });")
    assert board.press() == (5, "name")
    board.run("store.uploads.delete(ID(5)); tell({ removed: [ID(5)] });")
    assert board.press() == (0, "name"), "the row in its place takes over"


@pytest.mark.parametrize("board", [(1, 1)], indirect=True)
def test_the_focus_goes_to_the_search_field_with_the_last_row(board: Board) -> None:
    board.page.locator(".row .name").focus()
    board.page.locator("#search").evaluate("(field) => { window.field = field; }")
    board.run(
        "mine('other', { phase: 'failed' }); board.sift({ filter: 'moving' }); change(0, { state: 'importcomplete' });"
    )
    assert board.run("await drawn(); return [shown(), document.activeElement === field];") == [[], True]


def test_filters_count_and_the_search_field_finds(board: Board) -> None:
    def count() -> dict[str, str]:
        found: dict[str, str] = board.run(
            "const read = ({ textContent }) => textContent.split(/ (?=\\d)/);"
            "return Object.fromEntries([...board.querySelectorAll('.filter')].map(read));"
        )
        return found

    working = len([n for n in range(50, 1000) if n % 4 == 3])
    assert count() == {
        "All": "1000",
        "Moving": str(50 + working),
        "Needs you": str(len([n for n in range(50, 1000) if n % 4 == 1])),
        "Failed": str(len([n for n in range(50, 1000) if n % 4 == 2])),
        "Done": str(len([n for n in range(50, 1000) if n % 4 == 0])),
    }
    board.page.get_by_role("button", name="Failed").click()
    assert board.shown()[:3] == [50, 54, 58]
    assert board.page.get_by_role("button", name="Failed").get_attribute("aria-pressed") == "true"
    board.page.get_by_role("button", name="All").click()
    board.page.locator("#search").fill("ARTIST 99")
    assert board.shown() == [99, 991, 993, 995, 997, 999]
    assert board.run("return app.said.at(-1);") == "6 uploads are shown."
    board.page.locator("#search").fill("nothing like it")
    assert board.page.locator("upload-board > .empty").is_visible()
    board.run("change(50, { names: { name: 'Nothing like it' } });")
    assert len(board.shown()) == 1, "what comes to match is shown"


def test_files_of_this_tab_come_first_and_become_uploads_in_their_row(board: Board) -> None:
    same = board.run(
        """
        const one = mine("mine", { phase: "reading" });
        await drawn();
        const row = document.querySelector(".row");
        const text = (name) => row.querySelector(name).textContent;
        const read = () => [text(".chip"), text(".numbers"), row.querySelector(".name").getAttribute("href")];
        const before = read();
        Object.assign(one, { id: ID(7000), phase: "sending" });
        const state = "waitforchunk";
        store.uploads.set(ID(7000), { ...line(7000), state, filename: "mine.mp4", offset: 5e5, updated: 5e6 });
        tell({ added: [ID(7000)] });
        await drawn();
        const links = document.querySelectorAll(".row a[href$='7000']").length;
        return [before, read(), row.getAttribute("aria-posinset"), links];
        """
    )
    assert same == [["Being read", "10 %", None], ["Uploading", "50 %", f"#/uploads/{7000:040}"], "1", 1]
    board.page.get_by_role("button", name="Pause: mine.mp4").click()
    board.page.get_by_role("button", name="Pause all").click()
    board.page.get_by_role("button", name="Cancel mine").click()
    assert board.run("return sources.calls;") == [["pause", "mine"], ["pauseAll"], ["cancelAll"]]
    board.run("app.confirm = async () => false;")
    board.page.get_by_role("button", name="Cancel mine").click()
    assert board.run("return sources.calls.length;") == 3


@pytest.mark.parametrize("board", [(0, 0)], indirect=True)
def test_an_empty_board_teaches_and_takes_what_is_dropped_and_pasted(board: Board) -> None:
    assert board.page.get_by_role("heading", name="Bring music in").is_visible()
    assert not board.page.locator(".tools").is_visible()
    with board.page.expect_file_chooser() as chooser:
        board.page.evaluate("globalThis.showOpenFilePicker = undefined")  # a test can only answer the older one
        board.page.get_by_role("button", name="Choose files").click()
    assert chooser.value.is_multiple()
    states = board.run(
        """
        const cover = document.querySelector(".drop-cover");
        const data = new DataTransfer();
        data.items.add(new File(["x"], "clip.mp4"));
        const fire = (type, target = board, relatedTarget = null) => {
          const event = new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: data, relatedTarget });
          target.dispatchEvent(event);
          return [!cover.hidden, event.defaultPrevented];
        };
        const seen = [fire("dragenter"), fire("dragover"), fire("dragleave", board, document.body), fire("dragleave")];
        seen.push(fire("dragenter"), fire("drop"));
        await drawn();
        const paste = new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: data });
        document.body.dispatchEvent(paste);
        const words = new DataTransfer();
        words.setData("text/plain", "x");
        board.dispatchEvent(new DragEvent("dragenter", { bubbles: true, dataTransfer: words }));
        seen.push([!cover.hidden, paste.defaultPrevented]);
        return seen;
        """
    )
    assert states == [
        [True, False],
        [True, True],
        [True, False],
        [False, False],
        [True, False],
        [False, True],
        [False, True],
    ]
    board.page.wait_for_function("sources.calls.length === 2")
    assert board.run("return sources.calls;") == [["add", "clip.mp4"], ["add", "clip.mp4"]]
    board.run(
        "document.body.dispatchEvent(new DragEvent('drop', { bubbles: true, dataTransfer: new DataTransfer() }));"
    )
    assert board.run("return app.said.filter((said) => said.includes('no file'));") == [], (
        "text that is dropped is no file"
    )


def test_a_change_that_fails_is_heard_of_and_a_question_needs_a_yes(board: Board) -> None:
    board.run("app.asked = []; app.confirm = async (asked) => { app.asked.push(asked.title); return app.agree; };")
    cancel = board.page.get_by_role("button", name="Cancel: clip-0.mp4")
    cancel.click()
    assert board.run("return [app.asked, sources.calls];") == [["Remove “clip-0.mp4”?"], []]
    board.run("app.agree = true;")
    cancel.click()
    assert board.run("await drawn(); return sources.calls;") == [["post", f"api/uploads/{0:040}/remove", {}]]


def test_all_that_failed_is_tried_again_at_once(board: Board) -> None:
    retry = board.page.get_by_role("button", name="Retry these")
    # Nobody here has the file of the one that did not arrive: it is somebody else's to send again.
    board.run("change(1, { state: 'uploadfailed' }); change(2, { state: 'invalidcontent' });")
    board.run("change(6, { state: 'importfailed' }); await drawn();")
    assert retry.count() == 0
    board.page.get_by_role("button", name="Failed").click()
    ids = board.run("""
        app.api.post = async (path) => {
          sources.calls.push(path);
          if (path.includes(ID(2))) throw new Error("No.");
        };
        app.attempt = async (what) => { try { await what(); } catch (error) { app.complain(error); } };
        await drawn();
        const failed = ["invalidcontent", "importfailed", "integrationfailed"];
        return [...store.uploads.values()].filter(({ state }) => failed.includes(state)).map(({ id }) => id);
    """)
    retry.click()
    calls, said = board.run("await drawn(); await drawn(); return [sources.calls, app.said];")
    assert sorted(calls) == sorted(f"api/uploads/{uploadid}/retry" for uploadid in ids)
    assert said[-2:] == [f"{len(ids) - 1} uploads are tried again.", "No."]


def test_only_what_is_shown_is_tried_again_and_all_of_it(board: Board) -> None:
    """Also a file of this tab that could not be sent, while the server waits for it."""
    board.run("mine('stuck', { id: ID(3), phase: 'failed' }); mine('early', { phase: 'failed' }); await drawn();")
    board.page.get_by_role("button", name="Failed").click()
    board.page.locator("#search").fill("stuck")
    board.run("change(3, { filename: 'stuck.mp4', names: {} }); await drawn();")
    board.page.get_by_role("button", name="Retry these").click()
    assert board.run("await drawn(); return sources.calls;") == [["retry", "stuck"]]
    board.page.locator("#search").fill("early")
    board.page.get_by_role("button", name="Retry these").click()
    assert board.run("await drawn(); return sources.calls.slice(1);") == [["retry", "early"]]
    assert board.run("return app.said.at(-1);") == "1 upload is tried again."


def test_an_import_that_meets_a_question_leads_to_the_card(board: Board) -> None:
    """The list knows no plan: what is asked about the place in the library is found when it is to be imported."""
    guard = "no_open_question"
    assert [row.guards for row in ROWS if row.trigger is Trigger.REQUEST] == [(guard,)]
    board.run(
        """
        app.api.post = async () => { throw Object.assign(new Error("Answer."), { guard: argument }); };
        change(1, { state: "preprocessed" });
        """,
        guard,
    )
    board.page.get_by_role("button", name="Import: Artist 1 – Song").click()
    assert board.run("await drawn(); return [location.hash, app.said];") == [
        f"#/uploads/{1:040}",
        ["It has a question that only you can answer."],
    ]
