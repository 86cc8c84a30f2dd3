"""One upload's card in a browser, against a real server with real media."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from stagedoor.lifecycle import State
from stagedoor.tasks import JSON
from stagedoor.testing import media, sounds
from stagedoor.testing.pictures import picture

from .browsing import chromium, needs_node, node, serving, until
from .staging import Stage, album

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

MARKUP = "<img src=x onerror=window.pwned=1>"
NAMES: dict[str, JSON] = {"artistname": "Blender Foundation", "name": "Big Buck Bunny", "release": 2008}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with serving(tmp_path_factory.mktemp("card")) as site, chromium() as browser:
        yield Stage(site, browser)


def clip(number: int) -> bytes:
    """A video of its own."""
    return media.video(seconds=2, size=(160 + 16 * number, 96))


def ask(stage: Stage, path: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(f"{stage.site.url}/api/{path}") as answer:  # a server of ours
        return answer.headers["Content-Type"], answer.read()


def chip(page: Page, text: str) -> None:
    """Waits for a state."""
    page.locator(".card-head .chip", has_text=text).wait_for()


def act(page: Page, name: str) -> Locator:
    return page.locator(f"upload-card [data-action={name}]")


def ready(stage: Stage, uploadid: str) -> Page:
    """The card of an upload that can be imported."""
    page = stage.card(uploadid)
    act(page, "import").wait_for()
    return page


def field(page: Page, key: str) -> Locator:
    return page.locator(f"#annotation-{key}")


def value(page: Page, key: str, wanted: str) -> None:
    """Waits for what is in a field."""
    until(page, "([key, wanted]) => document.getElementById(`annotation-${key}`)?.value === wanted", [key, wanted])


def close(page: Page) -> None:
    assert page.evaluate("window.failures") == []
    page.context.close()


# ── what strangers send ───────────────────────────────────────────────────────────────────────────────────────


def test_names_and_tags_of_markup_are_text(stage: Stage) -> None:
    song = sounds.song(
        "mp3", title=MARKUP, artist=f"{MARKUP} & <b>Co</b>", album="<script>pwned=1</script>", date="2004"
    )
    uploadid = stage.send(song, f"{MARKUP}.mp3", "album", origin=MARKUP)
    page = ready(stage, uploadid)
    assert page.locator("upload-card h1").text_content() == f"{MARKUP} & <b>Co</b> – {MARKUP}"
    assert MARKUP in (page.locator(".songs").text_content() or "")
    assert "<script>pwned=1" in (page.locator("plan-tree").text_content() or "")
    assert field(page, "origin").input_value() == MARKUP
    stage.bring(uploadid)
    chip(page, "In the library")
    page.locator("plan-tree .quiet", has_text="placed").first.wait_for()
    assert page.locator("upload-card script, upload-card b, upload-card img[src=x]").count() == 0
    assert page.evaluate("window.pwned") is None
    close(page)


# ── the way of an upload ──────────────────────────────────────────────────────────────────────────────────────


def test_a_video_is_named_imported_taken_back_and_removed(stage: Stage) -> None:
    uploadid = stage.send(media.video(seconds=3, title="Some Clip"), "Some Artist - x (2011).mp4", "video")
    page = stage.card(uploadid)
    chip(page, "Something is missing")
    page.locator(".notice", has_text="Artist, Title, Year").wait_for()
    act(page, "complete").click()
    assert page.evaluate("document.activeElement.id") == "annotation-artistname"
    page.get_by_role("button", name="Fill in all 3 suggestions").click()
    assert [field(page, key).input_value() for key in ("artistname", "name", "release")] == [
        "Some Artist",
        "Some Clip",
        "2011",
    ]
    page.keyboard.press("Enter")  # the focus is on Save
    chip(page, "Ready to import")
    page.locator("plan-tree [role=treeitem]", has_text="2011 - Some Clip.mp4").last.wait_for()

    act(page, "import").click()
    chip(page, "In the library")
    music = stage.site.root / "Music" / "Some Artist" / "2011 - Some Clip.mp4"
    assert music.exists()
    until(page, "() => document.querySelector('.picture > img')?.naturalWidth > 0")
    assert page.locator(".frame").count() == 6
    page.get_by_role("button", name="Frame 2").click()
    until(page, "() => document.querySelector('.picture > img').alt.startsWith('Frame 2 of Some Artist')")
    until(page, "() => document.querySelector('life-view img').naturalWidth > 0")
    assert "It is now: In the library" in (page.locator("life-view img").get_attribute("alt") or "")

    act(page, "undo").click()
    page.get_by_role("button", name="Keep it").click()
    assert page.evaluate("document.activeElement.dataset.action") == "undo"
    act(page, "undo").click()
    assert "12 files" in (page.locator("dialog").text_content() or "")
    page.locator("dialog").get_by_role("button", name="Undo the import").click()
    chip(page, "Ready to import")
    assert not music.exists()
    page.locator(".history .what", has_text="The import was taken back").wait_for()

    act(page, "remove").click()
    said = page.locator("dialog").text_content() or ""
    assert "What goes: the uploaded file" in said
    assert "Nothing of this upload is in it" in said
    page.locator("dialog").get_by_role("button", name="Remove").click()
    page.locator("h1", has_text="was removed").wait_for()
    assert stage.uploads.wait(uploadid, timeout=60) is None
    close(page)


def test_with_unsaved_names_one_button_saves_and_imports(stage: Stage) -> None:
    uploadid = stage.send(clip(2), "a.mp4", "video", artistname="One", name="Two", release="1999")
    page = ready(stage, uploadid)
    field(page, "name").fill("Three")
    assert act(page, "import").text_content() == "Save and import"
    act(page, "import").click()
    chip(page, "In the library")
    assert (stage.site.root / "Music" / "One" / "1999 - Three.mp4").exists()
    close(page)


def test_what_cannot_be_used_says_why_and_can_be_looked_at_again(stage: Stage) -> None:
    uploadid = stage.send(media.cut(clip(3), 0.6), "cut off.mp4", "video")
    page = stage.card(uploadid)
    chip(page, "Cannot be used")
    page.locator(".notice", has_text="The file is cut off").wait_for()
    attempts = len(stage.uploads.get(uploadid).history)
    act(page, "retry").click()
    until(page, "() => document.querySelectorAll('.history .moved').length === 5")
    assert len(stage.rest(uploadid).history) > attempts
    chip(page, "Cannot be used")
    close(page)


def test_an_upload_on_its_way_is_followed(stage: Stage) -> None:
    data = clip(4)
    uploadid = stage.offer(data, "half.mp4", "video")
    half = len(data) // 2
    stage.uploads.receive(uploadid, offset=0, data=data[:half])
    page = stage.card(uploadid)
    chip(page, "Uploading")
    page.get_by_text("choose the same file").wait_for()
    until(page, "() => document.querySelector('upload-card progress').value > 0.4")
    stage.uploads.receive(uploadid, offset=half, data=data[half:])
    chip(page, "Something is missing")
    assert not page.locator("upload-card progress").is_visible()
    close(page)


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_catalogue_suggests_and_the_keyboard_takes(stage: Stage) -> None:
    stage.bring(stage.send(album("Known", "Kronos Quartet", discs=1), "known.zip", "album"))
    uploadid = stage.send(picture("PNG", (600, 600)), "cover.png", "artwork")
    page = stage.card(uploadid)
    artist = field(page, "artistname")
    artist.press_sequentially("kro")
    listed = page.get_by_role("option", name="Kronos Quartet")
    listed.wait_for()
    assert artist.get_attribute("aria-expanded") == "true"
    artist.press("ArrowDown")
    active = artist.get_attribute("aria-activedescendant")
    assert page.locator(f"[id='{active}']").text_content() == "Kronos Quartet"
    artist.press("Escape")
    assert artist.get_attribute("aria-expanded") == "false"
    assert artist.input_value() == "kro"
    artist.press("ArrowDown")
    listed.wait_for()
    artist.press("Enter")
    assert artist.input_value() == "Kronos Quartet"
    assert stage.uploads.get(uploadid).annotations == {}, "Enter took the suggestion, and saved nothing"

    field(page, "albumname").press("ArrowDown")  # only of this artist's albums
    page.get_by_role("option", name="Known").wait_for()
    assert page.get_by_role("option").count() == 1
    field(page, "albumname").press("Enter")
    field(page, "albumname").press("Enter")  # now it is saved
    chip(page, "Ready to import")
    assert stage.uploads.get(uploadid).annotations == {"artistname": "Kronos Quartet", "albumname": "Known"}
    close(page)


def test_what_is_typed_survives_what_others_say(stage: Stage) -> None:
    uploadid = stage.send(clip(5), "b.mp4", "video", artistname="One", name="Two", release="1999")
    page = ready(stage, uploadid)
    field(page, "name").fill("Mine")
    stage.uploads.annotate(uploadid, artistname="Theirs", name="Theirs too")
    value(page, "artistname", "Theirs")
    assert field(page, "name").input_value() == "Mine"
    assert page.evaluate("document.activeElement.id") == "annotation-name"
    page.get_by_text("Meanwhile somebody saved “Theirs too” here").wait_for()
    # Somewhere else and back: a draft is kept with the upload.
    page.evaluate("location.hash = '#/'")
    page.locator("upload-card").wait_for(state="detached")
    page.evaluate("(id) => { location.hash = `#/uploads/${id}`; }", uploadid)
    value(page, "name", "Mine")
    page.get_by_role("button", name="Discard changes").click()
    assert field(page, "name").input_value() == "Theirs too"
    close(page)


def test_a_refusal_is_said_at_the_field(stage: Stage) -> None:
    uploadid = stage.send(clip(6), "c.mp4", "video", artistname="One", name="Two", release="1999")
    page = ready(stage, uploadid)
    field(page, "release").fill("soon")
    field(page, "release").press("Enter")
    page.locator("[data-key=release] .wrong", has_text="must start with a year of four digits").wait_for()
    assert field(page, "release").get_attribute("aria-invalid") == "true"
    chip(page, "Something is missing")
    # And one of the engine, which takes only so much.
    room = stage.uploads.settings.max_annotations - len(json.dumps(dict(stage.uploads.get(uploadid).annotations))) - 500
    stage.uploads.annotate(uploadid, notes="x" * room)
    field(page, "name").fill("y" * 900)
    field(page, "name").press("Enter")
    until(page, "() => document.querySelector('[data-key=name] .wrong').textContent.length > 10")
    assert field(page, "name").input_value() == "y" * 900
    assert stage.uploads.get(uploadid).annotations["name"] == "Two"
    close(page)


# ── questions and the plan ────────────────────────────────────────────────────────────────────────────────────


def test_files_in_the_way_are_shown_and_replaced_only_when_asked(stage: Stage) -> None:
    first = stage.bring(stage.send(clip(7), "bunny.mp4", "video", **NAMES))
    uploadid = stage.send(clip(8), "bunny again.mp4", "video", **NAMES)
    page = stage.card(first.id)
    # The list knows of no plan. Whoever would import from there is led to the question.
    page.get_by_role("button", name="Import: Blender Foundation – Big Buck Bunny").click()
    page.locator(".row", has_text="Files of the library are in the way. Open it, and decide.").wait_for()
    page.get_by_role("button", name="Answer: Blender Foundation – Big Buck Bunny").click()
    page.get_by_role("group", name="Files of the library are in the way").wait_for()
    act(page, "remove").wait_for()
    stage.uploads.retry(uploadid)
    chip(page, "Has a question")
    page.get_by_text("12 names are taken").wait_for()
    assert page.locator("plan-tree .chip", has_text="in the way").count() == 12
    replace = page.get_by_role("radio", name="Replace them")
    assert not replace.is_checked()
    page.get_by_role("button", name="Answer", exact=True).click()
    page.get_by_text("Choose an answer first.").wait_for()
    replace.check()
    page.get_by_role("button", name="Answer", exact=True).click()
    chip(page, "Ready to import")
    until(page, "() => document.querySelectorAll('plan-tree .chip[data-look=asking]').length === 12")
    act(page, "import").click()
    chip(page, "In the library")
    assert page.locator("plan-tree .chip", has_text="an older file is kept").count() == 12
    act(page, "remove").click()
    assert "12 files that it replaced" in (page.locator("dialog").text_content() or "")
    page.keyboard.press("Escape")
    close(page)


def test_a_question_of_the_content_has_radio_buttons(stage: Stage) -> None:
    uploadid = stage.send(album("Broken", discs=1, broken=True), "broken.zip", "album")
    page = stage.card(uploadid)
    page.get_by_role("group", name="Some songs cannot be used").wait_for()
    assert page.locator(".songs tr.skipped .chip", has_text="cannot be used").count() == 1
    assert act(page, "import").count() == 0
    page.get_by_role("radio", name="Import the album without them").focus()
    page.keyboard.press("Enter")
    act(page, "import").wait_for()
    assert stage.uploads.get(uploadid).annotations["answers.broken_tracks"] == "without"
    close(page)


def test_the_tree_is_walked_by_keyboard_and_keeps_its_place(stage: Stage) -> None:
    uploadid = stage.send(album("Walked"), "walked.zip", "album")
    page = ready(stage, uploadid)
    tree = page.get_by_role("tree")
    tree.locator("[tabindex='0']").focus()
    path = "() => document.activeElement.dataset.path"
    assert page.evaluate(path) == "music"
    seen = []
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "End", "Home", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
        seen.append(page.evaluate(path))
    walked = "music/The Understudies/1998 - Walked"
    cover = "artwork/The Understudies - Walked (500).jpg"
    assert seen == ["music/The Understudies", walked, f"{walked}/1-1 Enter 1.mp3", cover, "music", "music", "artwork"]
    page.keyboard.press("t")
    assert page.evaluate(path) == "artwork/The Understudies - Walked.jpg"
    # Another plan: the same file has the focus, and what was closed is still closed.
    stage.uploads.annotate(uploadid, release="1999")
    page.locator("plan-tree [data-path$='1999 - Walked']").wait_for(state="attached")
    assert page.evaluate(path) == "artwork/The Understudies - Walked.jpg"
    assert tree.locator("[data-path=music]").get_attribute("aria-expanded") == "false"
    assert tree.locator("[tabindex='0']").count() == 1
    close(page)


def test_news_that_comes_twice_loses_no_plan(stage: Stage) -> None:
    """An answer and the notice of the same change are two documents of one revision."""
    uploadid = stage.send(clip(13), "g.mp4", "video", artistname="Twice", name="Told", release="1999")
    page = ready(stage, uploadid)
    held: list[Any] = []
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/explain") else None)
    page.route("**/explain", lambda route: held.append(route), times=1)
    with page.expect_request("**/explain"):
        stage.uploads.annotate(uploadid, name="Told Again")
    page.evaluate(
        """async (id) => {
          const { api } = document.querySelector("upload-card").app;
          const detail = { task: await api.get(`api/uploads/${id}`), said: "" };
          document.querySelector("annotation-form").dispatchEvent(new CustomEvent("saved", { detail }));
        }""",
        uploadid,
    )
    assert held
    for route in held:
        route.continue_()
    page.locator("plan-tree .path", has_text="Told Again").last.wait_for()
    assert len(asked) == 1, "it was shown by what was asked first, and not by the look of each minute"
    close(page)


def test_the_plan_tells_which_names_are_taken(stage: Stage) -> None:
    names: dict[str, JSON] = {"artistname": "Taken", "name": "Name", "release": 2001}
    stage.bring(stage.send(clip(9), "d.mp4", "video", **names))
    uploadid = stage.send(clip(10), "e.mp4", "video", **names)

    def taken() -> list[str]:
        found: list[str] = json.loads(ask(stage, f"uploads/{uploadid}/plan")[1])["taken"]
        return found

    assert len(taken()) == 12
    assert taken()[0] == "music/Taken/2001 - Name.mp4"
    stage.uploads.annotate(uploadid, name="Other")
    assert taken() == []
    assert stage.bring(uploadid).state is State.IMPORTCOMPLETE
    assert taken() == [], "its own files are in nobody's way"


def test_a_cover_is_seen_before_it_is_imported(stage: Stage) -> None:
    data = picture("WEBP", (300, 300))
    uploadid = stage.send(data, "small.webp", "artwork")
    assert ask(stage, f"uploads/{uploadid}/thumbnail") == ("image/webp", data)
    page = stage.card(uploadid)
    until(page, "() => document.querySelector('.picture > img')?.naturalWidth === 300")
    close(page)
    rejected = stage.send(b"<svg onload=alert(1)>" * 9, "evil.png", "artwork")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        ask(stage, f"uploads/{rejected}/thumbnail")


# ── songs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_songs_are_in_order_and_corrected_one_by_one(stage: Stage) -> None:
    uploadid = stage.send(album("Songs"), "songs.zip", "album")
    page = ready(stage, uploadid)
    rows = page.locator(".songs tbody tr")
    assert [text.strip() for text in page.locator(".songs .disc, .song-title").all_text_contents()] == [
        "Disc 1", "Enter 1", "Prompt Box 1", "Exit 1", "Disc 2", "Enter 2", "Prompt Box 2", "Exit 2",
    ]  # fmt: skip
    page.get_by_role("button", name="Correct song 1: Enter 1").click()
    page.locator("#song-1-number").fill("0")
    page.keyboard.press("Enter")
    page.get_by_text("must be a whole number from 1 to 999").wait_for()
    page.locator("#song-1-number").fill("9")
    page.locator("#song-1-title").fill("Last of All")
    # Somebody corrects another song meanwhile: neither is lost.
    stage.uploads.annotate(uploadid, tracks={"2": {"skip": True}})
    page.locator(".songs .skipped .chip", has_text="left out").wait_for()
    assert page.locator("#song-1-title").input_value() == "Last of All"
    page.locator("#song-1-title").press("Enter")
    page.locator(".songs .chip", has_text="corrected").wait_for()
    assert stage.uploads.get(uploadid).annotations["tracks"] == {
        "1": {"title": "Last of All", "number": 9},
        "2": {"skip": True},
    }
    assert (rows.nth(3).locator(".song-title").text_content() or "") == "Last of All"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Correct song 1: Last of All"
    page.locator("plan-tree .path", has_text="1-9 Last of All.mp3").wait_for()
    assert page.locator("plan-tree .path", has_text="Prompt Box 1").count() == 0
    close(page)


# ── the ends ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_that_is_not_there_or_goes_says_so(stage: Stage) -> None:
    page = stage.card("0" * 40)
    page.locator("h1", has_text="There is no such upload").wait_for()
    close(page)
    uploadid = stage.send(clip(11), "f.mp4", "video")
    page = stage.card(uploadid)
    act(page, "remove").focus()
    stage.uploads.remove(uploadid)
    page.locator("h1", has_text="“f.mp4” was removed").wait_for()
    assert page.evaluate("document.activeElement.tagName") == "H1", "the next Tab goes on from here"
    close(page)


def test_an_upload_that_goes_before_the_list_has_come_is_missed_all_the_same(stage: Stage) -> None:
    uploadid = stage.send(clip(14), "h.mp4", "video")
    page = stage.card(uploadid)
    held: list[Any] = []
    page.route("**/api/uploads?*", lambda route: held.append(route), times=1)
    with page.expect_request("**/api/uploads?*"):
        page.reload()
    page.locator("upload-card:not([aria-busy]) [data-action=remove]").wait_for()
    page.locator("#connection", has_text="Live").wait_for()
    stage.uploads.remove(uploadid)
    assert stage.uploads.wait(uploadid, timeout=60) is None
    assert held
    held[0].continue_()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/explain") else None)
    page.locator("h1", has_text="“h.mp4” was removed").wait_for()
    assert asked == [], "it was missed at once, and not by the look of each minute"
    close(page)


# ── without a browser ─────────────────────────────────────────────────────────────────────────────────────────


@needs_node
def test_names_of_files_are_read_as_people_write_them() -> None:
    names = [
        "Some Artist - Some Clip (2011).mp4",
        "AC_DC – T.N.T. [Live] (1975).mkv",
        "2008 - Clip.mp4",
        "a-b.webm",
        "Ein Lied",
    ]
    found = node(
        """
        globalThis.HTMLElement = class {};
        globalThis.customElements = { define() {} };
        const { fromName } = await import("STATIC/annotate.js");
        console.log(JSON.stringify(JSON.parse(process.argv.at(-1)).map(fromName)));
        """,
        json.dumps(names),
    )
    assert [tuple(one.values()) for one in found] == [
        ("Some Artist", "Some Clip", "2011"),
        ("AC DC", "T.N.T.", "1975"),
        ("", "Clip", "2008"),
        ("", "a-b", ""),
        ("", "Ein Lied", ""),
    ]
