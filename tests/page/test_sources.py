"""Files on their way from a browser to a real server, and all that comes between."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .browsing import Site, chromium, serving, tab, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

MIB = 1 << 20

ENGINE = """async ({ key }) => {
  const modules = ["api", "connection", "hash", "keep", "pick", "pace", "sources", "store"];
  const loaded = await Promise.all(modules.map((name) => import(`./${name}.js`)));
  const [{ Api }, { Connection }, { Hashers }, { Keep }, pick, { clock }, { Sources }, { Store }] = loaded;
  // What is sent waits until a test opens the gate, so that nothing depends on how fast anything is.
  const t = { pick, asks: [], hashed: [], chunks: 0, gate: Infinity, held: [], ended: [] };
  t.hashers = new Hashers();
  const sha1 = t.hashers.sha1.bind(t.hashers);
  t.hashers.sha1 = (blob, how) => { t.hashed.push(blob.size); return sha1(blob, how); };
  t.api = new Api({ key });
  t.connection = new Connection({ key });
  const chunk = t.connection.chunk.bind(t.connection);
  t.connection.chunk = (handle, offset, bytes) => {
    const all = [handle, offset, bytes.slice()];
    if (t.chunks >= t.gate) t.held.push(all);
    else { t.chunks += 1; chunk(...all); }
  };
  t.let = (count) => {
    t.gate = count;
    while (t.held.length && t.chunks < t.gate) { t.chunks += 1; chunk(...t.held.shift()); }
  };
  t.connection.addEventListener("status", () => { if (t.connection.status !== "live") t.held = []; });
  t.connection.addEventListener("stop", ({ detail }) => t.ended.push(detail.code));
  t.store = new Store({ connection: t.connection, api: t.api });
  t.keep = new Keep();
  t.sources = new Sources({ ...t, timers: clock });
  t.all = () => [...t.sources.items.values()].map(({ name, phase, problem, id, done, size }) =>
    ({ name, phase, code: problem?.code ?? null, message: problem?.message ?? null, id, done, size }));
  t.one = (name) => [...t.sources.items.values()].find((source) => source.name === name);
  t.add = () => t.sources.add(pick.fromFiles(document.querySelector("#field").files));
  window.t = t;
  t.connection.open();
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path / "site") as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser of its own, as far as the pages can tell."""
    made = browser.new_context()
    yield made
    made.close()


def engine(context: BrowserContext, site: Site, *, key: str = "") -> Page:
    page = tab(context, site)
    page.evaluate(ENGINE, {"key": key})
    until(page, "() => t.connection.status === 'live' && t.store.ready")
    return page


def film(path: Path, size: int = 6 * MIB + 5) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


def choose(page: Page, *paths: Path) -> None:
    page.set_input_files("#field", list(paths))
    page.evaluate("t.add()")


def begin(page: Page, path: Path, chunks: int) -> None:
    """Chooses a file, and has so much of it sent and no more."""
    page.evaluate("(chunks) => { t.gate = chunks; }", chunks)
    choose(page, path)
    until(page, "(chunks) => t.chunks === chunks", chunks)


def phase(page: Page, name: str, *wanted: str) -> Any:
    """Wait until a source is in a phase; all that is known of it."""
    until(page, "([name, wanted]) => wanted.includes(t.one(name)?.phase)", [name, list(wanted)])
    return page.evaluate("(name) => t.all().find((source) => source.name === name)", name)


def act(page: Page, action: str, name: str) -> None:
    page.evaluate("([action, name]) => t.sources[action](t.one(name).localId)", [action, name])


def stored(site: Site) -> list[bytes]:
    """The bytes of all uploads, as they lie in the server's directory."""
    return [path.read_bytes() for path in site.uploads.rglob("*") if path.is_file() and path.stat().st_size > MIB]


def test_files_arrive_as_they_are(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    page = engine(context, site)
    films = [film(tmp_path / f"{number}.mp4", (number + 1) * MIB + number) for number in range(1, 6)]
    choose(page, *films)
    for path in films:
        source = phase(page, path.name, "done")
        assert (source["id"], source["done"], source["size"]) == (
            digest(path),
            path.stat().st_size,
            path.stat().st_size,
        )
    assert sorted(map(hash, stored(site))) == sorted(hash(path.read_bytes()) for path in films)
    assert page.evaluate("t.keep.all()") == []


def test_a_file_that_was_sent_is_known_at_once_when_it_is_chosen_again(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    page = engine(context, site)
    path = film(tmp_path / "film.mp4")
    choose(page, path)
    phase(page, path.name, "done")
    page.set_input_files("#field", path)
    assert page.evaluate("(t.add(), t.all().map(({ id }) => id))") == [digest(path)] * 2
    until(page, "() => t.all().every(({ phase }) => phase === 'done')")
    assert page.evaluate("t.hashed.length") == 1


def test_three_are_sent_at_a_time_and_two_are_read(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    page = engine(context, site)
    page.evaluate("t.gate = 0")
    films = [film(tmp_path / f"{number}.mp4", 2 * MIB + number) for number in range(5)]
    choose(page, *films)
    # Who was read waits a moment for the server's answer to the offer before it is sent: all have to be there.
    until(page, "() => String(t.all().map(({ phase }) => phase).sort()) === 'sending,sending,sending,waiting,waiting'")
    page.evaluate("t.sources.pauseAll()")
    assert {source["phase"] for source in page.evaluate("t.all()")} == {"paused"}
    page.evaluate("t.held = []; t.gate = Infinity; t.sources.resumeAll()")
    for path in films:
        phase(page, path.name, "done")


def test_a_restarted_server_is_sent_the_rest(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    page = engine(context, site)
    path = film(tmp_path / "film.mp4", 12 * MIB + 3)
    page.evaluate("t.gate = 6")
    choose(page, path)
    until(page, "() => t.store.uploads.get(t.one('film.mp4').id)?.offset >= 4 * 2 ** 20")
    site.stop()
    until(page, "() => t.connection.status !== 'live'")
    page.evaluate("t.gate = Infinity; t.chunks = 0")
    assert phase(page, path.name, "sending")["code"] is None
    site.start()
    phase(page, path.name, "done")
    assert path.read_bytes() in stored(site)
    assert page.evaluate("t.chunks") < 10, "what was on record was not sent again"
    assert page.evaluate("t.hashed.length") == 1


def test_what_the_library_may_have_is_asked_about_first(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    """The answer is advice: whoever wants to, sends it all the same."""
    page = engine(context, site)
    path = film(tmp_path / "film.mp4")
    page.evaluate(
        """() => {
          const get = t.api.get.bind(t.api);
          t.api.get = (path) => path.startsWith("api/known/") ? { known: ["Alpha/2001 - Beta.mp4"] } : get(path);
        }"""
    )
    choose(page, path)
    phase(page, path.name, "known")
    assert page.evaluate("[t.one('film.mp4').known, t.chunks]") == [["Alpha/2001 - Beta.mp4"], 0]
    act(page, "pause", path.name)
    act(page, "resume", path.name)
    phase(page, path.name, "known")
    act(page, "sendAnyway", path.name)
    phase(page, path.name, "done")
    assert path.read_bytes() in stored(site)


def test_a_second_tab_waits_and_goes_on_when_the_first_ends(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    first, second = engine(context, site), engine(context, site)
    path = film(tmp_path / "film.mp4", 12 * MIB)
    begin(first, path, 5)
    choose(second, path)
    until(second, "() => t.one('film.mp4').problem?.code === 'other_tab'")
    source = phase(second, path.name, "waiting")
    assert source["message"] == "Another tab of this browser sends this file. Resume it to send it from here."
    assert first.evaluate("[t.one('film.mp4').phase, t.ended]") == ["sending", []]
    first.close()
    phase(second, path.name, "done")
    assert path.read_bytes() in stored(site)


def test_a_second_tab_may_take_it_and_they_do_not_fight(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    first, second = engine(context, site), engine(context, site)
    path = film(tmp_path / "film.mp4", 12 * MIB)
    first.evaluate("t.gate = 5")
    second.evaluate("t.gate = 2")
    choose(first, path)
    until(first, "() => t.chunks === 5")
    choose(second, path)
    until(second, "() => t.one('film.mp4').problem?.code === 'other_tab'")
    act(second, "resume", path.name)
    until(second, "() => t.chunks === 2")
    assert phase(first, path.name, "paused")["code"] == "taken_over"
    first.evaluate("t.held = []; t.gate = 6")
    act(first, "resume", path.name)
    assert phase(second, path.name, "paused")["code"] == "taken_over"
    until(first, "() => t.chunks === 6")
    first.evaluate("t.let(Infinity)")
    phase(first, path.name, "done")
    phase(second, path.name, "done")
    assert path.read_bytes() in stored(site)


def test_another_browser_takes_over_and_the_first_stands_back(
    browser: Browser, context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    first = engine(context, site)
    path = film(tmp_path / "film.mp4", 12 * MIB)
    same = tmp_path / "other name.mp4"
    same.write_bytes(path.read_bytes())
    begin(first, path, 5)
    elsewhere = browser.new_context()
    second = engine(elsewhere, site)
    second.evaluate("t.gate = 0")
    choose(second, same)  # the same bytes: one upload is enough
    source = phase(first, path.name, "paused")
    assert source["code"] == "taken_over"
    assert "sent from somewhere else" in source["message"]
    second.evaluate("t.let(Infinity)")
    phase(second, same.name, "done")
    phase(first, path.name, "done")
    elsewhere.close()
    assert len(stored(site)) == 1


def test_after_a_reload_the_same_file_goes_on_without_being_read_again(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    """Of a field the browser remembers no file; whoever chooses it again is not asked anything else."""
    page = engine(context, site)
    path, other = film(tmp_path / "film.mp4", 12 * MIB), film(tmp_path / "other.mp4", 2 * MIB)
    page.evaluate("t.gate = 6")
    choose(page, path)
    until(page, "() => t.store.uploads.get(t.one('film.mp4').id)?.offset >= 4 * 2 ** 20")
    page.close()
    page = engine(context, site)
    page.evaluate("t.sources.restore()")
    source = phase(page, path.name, "lost")
    assert (source["id"], source["code"]) == (digest(path), "file_lost")
    assert page.evaluate("t.one('film.mp4').regrant") is False
    until(page, "() => t.one('film.mp4').done >= 4 * 2 ** 20")
    choose(page, other, path)
    phase(page, path.name, "done")
    phase(page, other.name, "done")
    assert page.evaluate("t.hashed") == [other.stat().st_size]
    assert page.evaluate("t.chunks") < 8 + 2 + 1
    assert path.read_bytes() in stored(site)
    assert page.evaluate("t.keep.all()") == []


def test_a_file_that_was_paused_before_a_reload_goes_on_when_it_is_chosen(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    page = engine(context, site)
    path = film(tmp_path / "film.mp4")
    begin(page, path, 2)
    act(page, "pause", path.name)
    until(page, "async () => (await t.keep.all())[0].paused")
    page.close()
    page = engine(context, site)
    page.evaluate("t.sources.restore()")
    phase(page, path.name, "lost")
    choose(page, path)
    phase(page, path.name, "done")


HANDLE = """async ([name, size]) => {
  // A file of the page's own file system: its handle needs no permission, and is kept as any other.
  const root = await navigator.storage.getDirectory();
  const handle = await root.getFileHandle(name, { create: true });
  const stream = await handle.createWritable();
  for (let at = 0; at < size; at += 65536) {
    await stream.write(crypto.getRandomValues(new Uint8Array(Math.min(65536, size - at))));
  }
  await stream.close();
  t.sources.add(await t.pick.fromHandle(handle));
}"""


def test_after_a_reload_a_file_with_a_handle_goes_on_by_itself_and_in_one_tab(
    context: BrowserContext, site: Site
) -> None:
    page = engine(context, site)
    page.evaluate("t.gate = 6")
    page.evaluate(HANDLE, ["film.mp4", 12 * MIB])
    until(page, "() => t.store.uploads.get(t.one('film.mp4').id)?.offset >= 4 * 2 ** 20")
    other = engine(context, site)
    other.evaluate("t.sources.restore()")
    assert other.evaluate("t.sources.items.size") == 0, "the first tab has it"
    page.close()
    other.evaluate("t.sources.restore()")
    third = engine(context, site)
    phase(other, "film.mp4", "sending", "done")
    third.evaluate("t.sources.restore()")
    assert third.evaluate("t.sources.items.size") == 0
    phase(other, "film.mp4", "done")
    assert other.evaluate("[t.hashed, t.chunks < 9]") == [[], True]


def test_a_tab_that_stood_back_takes_nothing_back_by_a_reload(context: BrowserContext, site: Site) -> None:
    page = engine(context, site)
    page.evaluate("t.gate = 3")
    page.evaluate(HANDLE, ["film.mp4", 6 * MIB])
    until(page, "() => t.chunks === 3")
    sender = engine(context, site)
    sender.evaluate("(id) => t.connection.request('claim', { uploadid: id })", page.evaluate("t.one('film.mp4').id"))
    assert phase(page, "film.mp4", "paused")["code"] == "taken_over"
    until(page, "async () => (await t.keep.all())[0].paused")
    page.close()
    page = engine(context, site)
    page.evaluate("t.sources.restore()")
    phase(page, "film.mp4", "paused")
    assert sender.evaluate("t.ended") == []
    act(page, "resume", "film.mp4")
    phase(page, "film.mp4", "done")
    assert sender.evaluate("t.ended") == ["taken_over"]


def test_a_file_that_changed_meanwhile_is_not_sent(context: BrowserContext, site: Site) -> None:
    page = engine(context, site)
    page.evaluate("t.gate = 1")
    page.evaluate(HANDLE, ["film.mp4", 6 * MIB])
    until(page, "() => t.chunks === 1")
    page.close()
    page = engine(context, site)
    page.evaluate(
        """async () => {
          const handle = await (await navigator.storage.getDirectory()).getFileHandle("film.mp4");
          const stream = await handle.createWritable();
          await stream.write("another one");
          await stream.close();
          await t.sources.restore();
        }"""
    )
    source = phase(page, "film.mp4", "failed")
    assert source["code"] == "file_changed"
    assert page.evaluate("t.keep.all()") == []


def test_what_another_tab_ends_while_this_one_looks_is_not_taken_up(context: BrowserContext, site: Site) -> None:
    page = engine(context, site)
    page.evaluate("t.gate = 1")
    page.evaluate(HANDLE, ["film.mp4", 6 * MIB])
    until(page, "() => t.chunks === 1")
    until(page, "async () => (await t.keep.all())[0]?.declared")
    other = engine(context, site)
    other.evaluate("""() => {
      const all = t.keep.all.bind(t.keep);
      t.keep.all = async () => {
        const found = await all();
        await new Promise((resolve) => { t.look = resolve; });
        return found;
      };
      t.restored = t.sources.restoreOnce();
    }""")
    until(other, "() => t.look")
    page.evaluate("t.let(Infinity)")
    phase(page, "film.mp4", "done")
    page.close()
    assert other.evaluate("(t.look(), t.restored.then(() => t.all()))") == []


def test_records_age_out(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    page = engine(context, site)
    page.evaluate("t.gate = 0")
    choose(page, film(tmp_path / "film.mp4"))
    phase(page, "film.mp4", "sending")
    until(page, "async () => (await t.keep.all())[0]?.declared")
    page.evaluate(
        """async () => {
          const [record] = await t.keep.all();
          await t.keep.put({ ...record, localId: "old", added: Date.now() - 31 * 24 * 3600 * 1000 });
          await t.keep.put({ ...record, localId: "odd", added: undefined });
          await t.sources.restore();
        }"""
    )
    assert page.evaluate("t.sources.items.size") == 1
    until(page, "async () => (await t.keep.all()).length === 1")


def test_pause_resume_and_cancel(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    page = engine(context, site)
    path = film(tmp_path / "film.mp4", 12 * MIB)
    begin(page, path, 5)
    act(page, "pause", path.name)
    assert phase(page, path.name, "paused")["code"] is None
    page.evaluate("t.held = []; t.gate = 3; t.chunks = 0")
    act(page, "resume", path.name)
    until(page, "() => t.chunks === 3")
    page.evaluate("t.cancelled = t.one('film.mp4').id")
    act(page, "cancel", path.name)
    until(page, "() => t.sources.items.size === 0 && !t.store.uploads.has(t.cancelled)")
    assert page.evaluate("t.keep.all()") == []
    page.evaluate("t.held = []; t.gate = Infinity")
    choose(page, path)
    phase(page, path.name, "done")


def test_a_cancel_outruns_the_answer_to_the_offer(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    """Nothing of it stays on the server, although nobody here knew yet that it was there."""
    page = engine(context, site)
    page.evaluate(
        """() => {
          const request = t.connection.request.bind(t.connection);
          t.connection.request = async (type, members) => {
            const answer = await request(type, members);
            if (type === "initiate") await new Promise((resolve) => { t.answer = resolve; });
            return answer;
          };
        }"""
    )
    path = film(tmp_path / "film.mp4")
    choose(page, path)
    until(page, "() => t.answer && t.store.uploads.has(t.one('film.mp4').id)")
    act(page, "cancel", path.name)
    page.evaluate("t.answer()")
    until(page, "() => t.store.uploads.size === 0")
    assert page.evaluate("t.sources.items.size") == 0
    assert page.evaluate("t.keep.all()") == []


def test_what_somebody_removes_is_told_and_can_be_sent_again(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    page = engine(context, site)
    path = film(tmp_path / "film.mp4", 8 * MIB)
    begin(page, path, 3)
    page.evaluate("t.api.del(`api/uploads/${t.one('film.mp4').id}`)")
    assert phase(page, path.name, "failed")["code"] == "removed"
    page.evaluate("t.held = []; t.gate = Infinity")
    act(page, "retry", path.name)
    phase(page, path.name, "done")
    assert path.read_bytes() in stored(site)


def test_a_slice_that_the_browser_never_hands_out_is_read_again(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    page = engine(context, site)
    page.evaluate(
        """() => {
          let ahead = 0;
          t.sources.timers = {
            now: () => performance.now() + ahead,
            after: (wait, call) => {
              const timer = setTimeout(call, Math.min(wait, 20));
              return () => clearTimeout(timer);
            },
          };
          t.gate = 2;
          const { stream } = Blob.prototype;
          t.hang = () => {
            Blob.prototype.stream = () => {
              Blob.prototype.stream = stream;
              ahead = 60_000;
              return new ReadableStream({ type: "bytes", pull: () => new Promise(() => {}) });
            };
            t.let(Infinity);
          };
        }"""
    )
    path = film(tmp_path / "film.mp4", 12 * MIB)
    choose(page, path)
    until(page, "() => t.held.length")
    page.evaluate("t.hang()")
    phase(page, path.name, "done")
    assert path.read_bytes() in stored(site)


def test_a_file_that_changes_while_it_is_sent_fails_with_a_sentence(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    page = engine(context, site)
    path = film(tmp_path / "film.mp4", 12 * MIB)
    begin(page, path, 2)
    path.write_bytes(b"another one")
    page.evaluate("t.let(Infinity)")
    source = phase(page, path.name, "failed")
    assert source["code"] == "file_changed"
    assert source["message"].endswith("Choose it again.")


def test_what_was_hashed_wrong_is_read_anew_and_sent_as_what_it_is(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    page = engine(context, site)
    page.evaluate("() => { t.sha1 = t.hashers.sha1; t.hashers.sha1 = async () => '0'.repeat(40); }")
    path = film(tmp_path / "film.mp4")
    choose(page, path)
    assert phase(page, path.name, "failed")["code"] == "checksum_mismatch"
    page.evaluate("() => { t.hashers.sha1 = t.sha1; }")
    act(page, "retry", path.name)
    assert phase(page, path.name, "done", "failed")["id"] == digest(path)
    assert phase(page, path.name, "done", "failed")["phase"] == "done"


def test_twins_and_empty_files_are_told_of(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    page = engine(context, site)
    path, twin, empty = film(tmp_path / "a.mp4"), tmp_path / "b.mp4", tmp_path / "empty.mp4"
    twin.write_bytes(path.read_bytes())
    empty.write_bytes(b"")
    page.evaluate("t.gate = 0")
    choose(page, path)
    phase(page, path.name, "sending")
    choose(page, twin, empty, path)
    assert phase(page, twin.name, "failed")["code"] == "same_content"
    act(page, "retry", twin.name)
    assert phase(page, twin.name, "failed", "waiting")["code"] == "same_content", "nobody else sends it"
    assert phase(page, empty.name, "failed")["code"] == "empty"
    assert page.evaluate("t.sources.items.size") == 3, "the same file twice is one"


def test_a_key_is_asked_for_and_serves_both_ways(browser: Browser, tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4")
    with serving(tmp_path / "site", keys=("a-secret-key",)) as site:
        context = browser.new_context()
        page = tab(context, site)
        page.evaluate(ENGINE, {"key": "wrong"})
        until(page, "() => t.connection.status === 'key'")
        choose(page, path)
        phase(page, path.name, "waiting")
        page.evaluate("t.api.key = t.connection.key = 'a-secret-key'; t.connection.open()")
        phase(page, path.name, "done")
        context.close()


def test_a_folder_is_one_album(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    """Without what systems leave in folders; and a folder without a song is no album."""
    album, pictures = tmp_path / "Alpha - Beta", tmp_path / "Pictures"
    (album / "CD2").mkdir(parents=True)
    pictures.mkdir()
    songs = {"01 One.mp3": os.urandom(MIB), "CD2/01 Two.mp3": os.urandom(MIB), "cover.jpg": b"cover"}
    for name, data in (songs | {".DS_Store": b"x", "Thumbs.db": b"x"}).items():
        (album / name).write_bytes(data)
    (pictures / "one.png").write_bytes(os.urandom(100))
    page = engine(context, site)
    page.evaluate("document.querySelector('#field').webkitdirectory = true")
    page.set_input_files("#field", album)
    page.evaluate("t.add()")
    source = phase(page, "Alpha - Beta.zip", "done")
    assert source["done"] == source["size"] > 2 * MIB
    page.set_input_files("#field", pictures)
    page.evaluate("t.add()")
    phase(page, "one.png", "done")
    lines = page.evaluate("[...t.store.uploads.values()].map(({ filename, contenttype }) => [filename, contenttype])")
    assert sorted(lines) == [["Alpha - Beta.zip", "album"], ["one.png", "artwork"]]
    (archive,) = stored(site)
    assert all(data in archive for data in songs.values())
    assert b"Alpha - Beta/CD2/01 Two.mp3" in archive
    assert b"DS_Store" not in archive
    assert b"Thumbs" not in archive
