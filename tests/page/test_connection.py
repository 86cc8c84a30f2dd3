"""The connection that stays, and the list of uploads, with a server and a clock that do as they are told."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from stagedoor.lifecycle import STORED_STATES, Trigger
from stagedoor.protocols.messages import encode_task
from stagedoor.server.api.board import line_of
from stagedoor.tasks import JSON, Finding, UploadTask

from .browsing import needs_node, node

STAGE = """
import { Connection } from "STATIC/connection.js";

/** Time that passes when a test says so. */
class Clock {
  constructor() {
    this.time = 0;
    this.calls = [];
  }
  now = () => this.time;
  after = (wait, call) => {
    const one = { at: this.time + wait, call };
    this.calls.push(one);
    return () => { this.calls = this.calls.filter((other) => other !== one); };
  };
  pass(wait) {
    const end = this.time + wait;
    for (;;) {
      const [next] = this.calls.filter((one) => one.at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.calls = this.calls.filter((one) => one !== next);
      this.time = Math.max(this.time, next.at);
      next.call();
    }
    this.time = end;
  }
}

const sockets = [];
class Socket {
  constructor(url) {
    Object.assign(this, { url, sent: [], bufferedAmount: 0, closed: false });
    sockets.push(this);
  }
  send(data) { this.sent.push(typeof data === "string" ? JSON.parse(data) : data); }
  close() { this.closed = true; }
  say(message) { this.onmessage({ data: JSON.stringify(message) }); }
  end(code = 1006, reason = "") { this.onclose({ code, reason }); }
  welcome() {
    this.onopen({});
    this.say({ type: "welcome", version: 1, window: 4, max_chunk: 100, heartbeat: 2 });
  }
}

const clock = new Clock();
const settled = () => new Promise((resolve) => setImmediate(resolve));
const tools = { url: "ws://here/ws", WebSocket: Socket, timers: clock, random: () => 1 };
const said = [];
const connected = () => {
  const connection = new Connection(tools);
  connection.open();
  sockets.at(-1).welcome();
  return connection;
};
"""


@needs_node
def test_a_connection_says_hello_asks_and_is_answered() -> None:
    found = node(
        STAGE
        + """
        const connection = new Connection({ ...tools, key: "secret" });
        for (const type of ["status", "notice", "ask", "stop", "progress"])
          connection.addEventListener(type, ({ detail }) => said.push([type, detail.type ?? detail]));
        const early = await connection.request("list").catch(({ code }) => code);
        connection.open();
        const [socket] = sockets;
        socket.welcome();
        const claims = [connection.request("claim", { uploadid: "a" }), connection.request("claim", { uploadid: "b" })];
        socket.say({ type: "error", n: 2, code: "not_found", sentence: "No.", guard: null });
        socket.say({ type: "done", n: 1, task: { id: "a" } });
        const answers = [(await claims[0]).task, await claims[1].catch(({ code, message }) => [code, message])];
        for (const type of ["ask", "notice", "stop", "progress", "heartbeat", "of-the-future"]) socket.say({ type });
        connection.chunk(7, 2 ** 40 + 5, new Uint8Array([1, 2, 3]).buffer);
        const frame = [...socket.sent.at(-1)];
        const sent = socket.sent.slice(0, 3);
        console.log(JSON.stringify({ early, sent, answers, said, frame, limits: connection.limits }));
        """
    )
    assert found["early"] == "connection_lost"
    assert found["sent"] == [
        {"type": "hello", "version": 1, "key": "secret", "window": 8},
        {"type": "claim", "n": 1, "uploadid": "a"},
        {"type": "claim", "n": 2, "uploadid": "b"},
    ]
    assert found["answers"] == [{"id": "a"}, ["not_found", "No."]]
    assert found["said"] == [["status", "live"], *([kind, kind] for kind in ("ask", "notice", "stop", "progress"))]
    assert found["limits"]["max_chunk"] == 100
    header = b"\x11" + (7).to_bytes(4, "big") + (2**40 + 5).to_bytes(8, "big")
    assert bytes(found["frame"]) == header + b"\1\2\3"


@needs_node
def test_what_breaks_is_told_and_the_waits_grow() -> None:
    found = node(
        STAGE
        + """
        const connection = new Connection(tools);
        connection.addEventListener("status", ({ detail }) => said.push(detail));
        connection.open();
        sockets[0].welcome();
        const lost = connection.request("claim", { uploadid: "a" }).catch(({ code }) => code);
        sockets[0].end(1012, "The server stops.");
        const reason = connection.problem.message;
        const waits = [];
        for (let i = 0; i < 9; i++) {
          const before = clock.time;
          const count = sockets.length;
          while (sockets.length === count) clock.pass(250);
          waits.push(clock.time - before);
          sockets.at(-1).end();
        }
        const tries = sockets.length;
        connection.hurry();
        const hurried = sockets.length - tries;
        sockets.at(-1).welcome();
        sockets[0].say({ type: "error", n: null, code: "unauthorized", sentence: "An old socket has no say." });
        sockets.at(-1).end();
        const before = clock.time;
        const count = sockets.length;
        while (sockets.length === count) clock.pass(250);
        console.log(JSON.stringify({ lost: await lost, reason, waits, hurried, said, again: clock.time - before }));
        """
    )
    assert found["lost"] == "connection_lost"
    assert found["reason"] == "The server stops."
    assert found["waits"] == [500, 1000, 2000, 4000, 8000, 16000, 20000, 20000, 20000]
    assert found["hurried"] == 1
    assert found["again"] == 500
    assert found["said"] == ["live", "connecting", "offline", "live", "connecting"]


@needs_node
def test_servers_that_come_back_are_not_met_by_all_pages_at_once() -> None:
    found = node(
        STAGE
        + """
        const waits = [0, 0.5, 1].map((random) => {
          const own = new Clock();
          const connection = new Connection({ ...tools, timers: own, random: () => random });
          connection.open();
          sockets.at(-1).end();
          const count = sockets.length;
          while (sockets.length === count) own.pass(1);
          return own.time;
        });
        console.log(JSON.stringify(waits));
        """
    )
    assert found == [250, 375, 500]


@needs_node
def test_silence_ends_a_connection_and_a_heartbeat_keeps_it() -> None:
    found = node(
        STAGE
        + """
        const connection = connected();
        for (let i = 0; i < 20; i++) {
          clock.pass(2000);
          sockets[0].say({ type: "heartbeat" });
        }
        const kept = sockets.length;
        clock.pass(5900);
        const patient = connection.status;
        clock.pass(6000);
        const mute = new Connection(tools);
        mute.open();
        const socket = sockets.at(-1);
        clock.pass(20000); // it never says welcome
        console.log(JSON.stringify([kept, patient, sockets[0].closed, connection.status, socket.closed]));
        """
    )
    assert found == [1, "live", True, found[3], True]
    assert found[3] in ("connecting", "offline")


@needs_node
def test_messages_that_waited_while_a_tab_slept_count() -> None:
    """The timer comes first, and the socket is read a moment later."""
    found = node(
        STAGE
        + """
        const connection = connected();
        clock.time += 3600_000;
        clock.pass(0);
        clock.pass(500);
        sockets[0].say({ type: "heartbeat" });
        clock.pass(1000);
        console.log(JSON.stringify([connection.status, sockets.length]));
        """
    )
    assert found == ["live", 1]


@needs_node
def test_a_wrong_key_is_not_tried_again_and_another_one_is() -> None:
    found = node(
        STAGE
        + """
        const connection = new Connection({ ...tools, key: "wrong" });
        connection.open();
        sockets[0].onopen({});
        sockets[0].say({ type: "error", n: null, code: "unauthorized", sentence: "This server wants an API key." });
        sockets[0].onclose({ code: 1008, reason: "x" });
        clock.pass(100_000);
        connection.hurry();
        const before = [connection.status, connection.problem.message, sockets.length];
        connection.key = "right";
        connection.open();
        sockets[1].welcome();
        console.log(JSON.stringify([...before, connection.status, sockets[1].sent[0].key]));
        """
    )
    assert found == ["key", "This server wants an API key.", 1, "live", "right"]


# ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────

LIST = (
    STAGE
    + """
import { Store } from "STATIC/store.js";
import { Problem } from "STATIC/api.js";

const connection = new Connection(tools);
const asked = [];
const api = { get: (path) => new Promise((resolve, reject) => asked.push({ path, resolve, reject })) };
const store = new Store({ connection, api, timers: clock, schedule: (call) => () => { waits.add(call); } });
const waits = new Set();
const heard = [];
store.addEventListener("change", ({ detail }) => {
  heard.push(Object.fromEntries(Object.entries(detail).map(([name, ids]) => [name, [...ids].sort()])));
});
const frame = () => {
  const calls = [...waits];
  waits.clear();
  calls.forEach((call) => call());
  return heard.splice(0);
};
const line = (id, more = {}) => ({
  id, uid: `u-${id}`, state: "waitforchunk", contenttype: "video", filename: `${id}.mp4`, mimetype: "video/mp4",
  filesize: 1000, offset: 0, revision: 1, created: 1, updated: 1, message: null, code: null, questions: [], due: null,
  names: {}, ...more,
});
const task = (id, more = {}) => {
  const { filename, questions, due, names, ...rest } = line(id, more);
  return { ...rest, sourcefilename: filename, annotations: {}, content: {}, findings: [], wanted: null, ...more };
};
const notice = (id, more = {}) => {
  const whole = task(id, more);
  sockets.at(-1).say({ type: "notice", kind: "StateUpdate", uploadid: id, state: whole.state, task: whole });
};
const progress = (...uploads) => sockets.at(-1).say({ type: "progress", uploads });
const answer = async (uploads, next = null) => { asked.shift().resolve({ uploads, next }); await settled(); };
const live = () => { connection.open(); sockets.at(-1).welcome(); };
const offsets = () => Object.fromEntries([...store.uploads].map(([id, { offset }]) => [id, offset]));
"""
)


@needs_node
def test_the_list_is_read_to_its_end_and_what_is_heard_meanwhile_is_newer() -> None:
    found = node(
        LIST
        + """
        live();
        notice("a", { revision: 5, state: "preprocessed" });
        notice("new", { created: 9 });
        notice("gone", { state: "remove", revision: 3 });
        progress({ id: "far", uid: "u-far", offset: 700, filesize: 1000 });
        progress({ id: "a", uid: "u-a", offset: 900, filesize: 1000 }); // is no upload any more that moves
        const paths = [asked[0].path];
        await answer([line("a"), line("b", { offset: 10 }), line("gone")], "next page");
        paths.push(asked[0].path);
        const before = store.ready;
        await answer([line("far", { offset: 300 })]);
        const first = [paths, before, store.ready, offsets(), store.uploads.get("a").state, store.counts(), frame()];
        // Another connection: what is not in the list any more is gone, but for what is heard now.
        sockets.at(-1).end();
        clock.pass(1000);
        sockets.at(-1).welcome();
        notice("late", { created: 10 });
        await answer([line("b", { offset: 5 }), line("a", { uid: "u-other", created: 20 })]);
        console.log(JSON.stringify([...first, offsets(), store.uploads.get("a").uid, frame()]));
        """
    )
    paths, before, ready, offsets, state, counts, told, after, uid, later = found
    assert paths == ["api/uploads?limit=1000", "api/uploads?limit=1000&cursor=next+page"]
    assert (before, ready, state) == (False, True, "preprocessed")
    assert offsets == {"a": 0, "new": 0, "b": 10, "far": 700}
    assert counts == {"preprocessed": 1, "waitforchunk": 3}
    assert told == [{"changed": [], "added": ["a", "b", "far", "new"], "removed": []}]
    assert after == {"a": 0, "b": 10, "late": 0}
    assert uid == "u-other"
    assert later == [{"changed": ["a", "b"], "added": ["late"], "removed": ["far", "new"]}]


@needs_node
def test_a_list_that_cannot_be_read_is_asked_for_again() -> None:
    found = node(
        LIST
        + """
        live();
        asked.shift().reject(new Problem("Busy.", { status: 503, code: "busy" }));
        await settled();
        const before = [store.ready, store.problem.code];
        clock.pass(2000);
        await answer([line("a")]);
        console.log(JSON.stringify([...before, store.ready, store.problem, [...store.uploads.keys()]]));
        """
    )
    assert found == [False, "busy", True, None, ["a"]]


@needs_node
def test_what_is_older_and_what_belongs_to_another_upload_changes_nothing() -> None:
    found = node(
        LIST
        + """
        live();
        await answer([line("a", { offset: 100, revision: 4 })]);
        const moved = (uid, offset) => progress({ id: "a", uid, offset, filesize: 1000 });
        moved("u-a", 50);
        moved("x", 500);
        notice("a", { revision: 3, offset: 999 });
        const kept = offsets();
        notice("a", { revision: 4, offset: 60 }); // the same document, told late
        const same = offsets();
        sockets.at(-1).say({ type: "notice", kind: "InternalError", uploadid: "a", state: "notexisting", task: null });
        const refused = store.uploads.has("a");
        notice("a", { revision: 5, offset: 0 }); // retry: from the first byte
        const anew = offsets();
        notice("a", { revision: 9, state: "remove", uid: "u-before" });
        const other = store.uploads.has("a");
        notice("a", { revision: 9, state: "remove" });
        console.log(JSON.stringify([kept, same, refused, anew, other, store.uploads.has("a")]));
        """
    )
    assert found == [{"a": 100}, {"a": 100}, True, {"a": 0}, True, False]


@needs_node
def test_speed_is_smooth_falls_when_it_is_quiet_and_ends() -> None:
    found = node(
        LIST
        + """
        live();
        await answer([line("a", { filesize: 1_000_000 }), line("b", { filesize: null })]);
        const rates = [];
        for (let i = 1; i <= 40; i++) {
          clock.pass(250);
          progress(
            { id: "a", uid: "u-a", offset: i * 2500 * (i % 2 ? 1.01 : 1), filesize: 1_000_000 },
            { id: "b", uid: "u-b", offset: i * 10, filesize: null },
          );
          rates.push(store.uploads.get("a").rate);
        }
        frame();
        const { rate, eta } = store.uploads.get("a");
        const unknown = store.uploads.get("b");
        clock.pass(3000);
        const quiet = store.uploads.get("a").rate;
        const told = frame();
        clock.pass(60_000);
        const still = store.uploads.get("a");
        progress({ id: "a", uid: "u-a", offset: 1_000_000, filesize: 1_000_000 });
        const whole = store.uploads.get("a");
        const timers = clock.calls.length;
        console.log(JSON.stringify({ rates, rate, eta, unknown, quiet, told, still, whole, timers }));
        """
    )
    assert all(8_000 < rate < 12_000 for rate in found["rates"][5:])
    assert abs(found["eta"] - (1_000_000 - 100_000) / found["rate"]) < 1
    assert (found["unknown"]["eta"], round(found["unknown"]["rate"])) == (None, 40)
    assert 0 < found["quiet"] < found["rate"]
    assert found["told"] == [{"changed": ["a", "b"], "added": [], "removed": []}]
    assert (found["still"]["rate"], found["still"]["eta"]) == (0, None)
    assert (found["whole"]["rate"], found["whole"]["eta"]) == (0, None)
    assert found["timers"] == 1, "only the watchdog's"


@needs_node
def test_whole_tasks_are_those_that_were_heard_last_or_asked_for() -> None:
    found = node(
        LIST
        + """
        live();
        await answer([line("a"), line("b")]);
        notice("a", { revision: 2 });
        const known = (await store.task("a")).revision;
        const one = store.task("b");
        const path = asked[0].path;
        notice("b", { revision: 7 });
        asked.shift().resolve(task("b", { revision: 6 }));
        const newest = (await one).revision;
        const failing = store.task("c/d").catch(({ status }) => status);
        const escaped = asked[0].path;
        asked.shift().reject(new Problem("No.", { status: 404 }));
        console.log(JSON.stringify([known, path, newest, escaped, await failing, asked.length]));
        """
    )
    assert found == [2, "api/uploads/b", 7, "api/uploads/c%2Fd", 404, 0]


QUESTIONS = (
    Finding("which_one", "hold", "Which one?", ("a", "b")),
    Finding("say_it", "hold", "Say it.", ()),
    Finding("odd", "warn", "Odd.", ()),
)
ANNOTATIONS: tuple[dict[str, JSON], ...] = (
    {},
    {"name": "\N{GRINNING FACE}" * 300, "artistname": 3, "answers.which_one": "a"},
    {"albumname": "", "answers.say_it": "", "answers.which_one": "none of them"},
)


def examples() -> Iterator[UploadTask]:
    for number, (state, wanted, said) in enumerate(
        product(STORED_STATES, (None, Trigger.INTEGRATE, Trigger.UNDO), ANNOTATIONS)
    ):
        yield UploadTask(
            id=f"id-{number}",
            filesize=None if number % 5 == 0 else 7,
            offset=number % 8,
            contenttype="video",
            mimetype="video/mp4",
            sourcefilename="film.mp4",
            sourcechecksum=None,
            destinationpath="/data/uploads/film.mp4",
            state=state,
            uid=f"uid-{number}",
            created=1.5,
            updated=2.5,
            annotations=said,
            content={"guess": {"artistname": "Tags", "albumname": "Tags", "release": 1999}} if number % 2 else {},
            revision=number + 1,
            message="Why." if number % 2 else None,
            code="why" if number % 2 else None,
            findings=QUESTIONS[: number % 4],
            wanted=wanted,
        )


@needs_node
def test_a_line_of_a_task_is_the_servers(tmp_path: Path) -> None:
    """`lineOf` makes of a task what `line_of` makes of it."""
    tasks = list(examples())
    path = tmp_path / "tasks.json"
    path.write_bytes(b"[" + b",".join(map(encode_task, tasks)) + b"]")
    found = node(
        """
        import { readFileSync } from "node:fs";
        import { lineOf } from "STATIC/store.js";
        console.log(JSON.stringify(JSON.parse(readFileSync(process.argv.at(-1))).map(lineOf)));
        """,
        str(path),
    )
    assert found == [line_of(task) for task in tasks]
