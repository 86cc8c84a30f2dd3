// The page: a list that follows the server, and a field for files. Whatever comes from an upload is text, never markup.

import { readEvents } from "./events.js";
import { problemOf, sendFile } from "./send.js";

const FAILED = new Set(["uploadfailed", "invalidcontent", "integrationfailed", "importfailed"]);
const SILENCE = 15000; // the server says something every few seconds

const $ = (id) => document.getElementById(id);
const shown = new Map(); // id → {line, item}
let key = sessionStorage.getItem("key") || "";
let next = null;
let counts = {};
let counting = 0;

const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function percent(line) {
  return line.filesize ? Math.floor((100 * line.offset) / line.filesize) : 0;
}

function describe(line) {
  const { artistname, albumname, name } = line.names;
  const about = [artistname, albumname, name].filter(Boolean).join(" – ");
  const questions = line.questions.length ? `Open questions: ${line.questions.join(", ")}` : "";
  return [about, line.message, questions].filter(Boolean).join(" · ");
}

function fill(item, line) {
  const state = element("span", "state", line.state === "waitforchunk" ? `${percent(line)} %` : line.state);
  if (FAILED.has(line.state)) state.classList.add("failed");
  if (line.state === "importcomplete") state.classList.add("fine");
  const parts = [state, element("span", "name", line.filename), element("p", "about", describe(line))];
  if (line.state === "waitforchunk") {
    const bar = element("progress", "");
    bar.max = line.filesize || 1;
    bar.value = line.offset;
    bar.setAttribute("aria-label", `Progress of ${line.filename}`);
    parts.push(bar);
  }
  item.replaceChildren(...parts);
}

function show(line, first) {
  const known = shown.get(line.id);
  if (known) {
    const newer = line.uid !== known.line.uid || line.revision >= known.line.revision;
    if (newer) {
      known.line = line;
      fill(known.item, line);
    }
    return;
  }
  const item = element("li", "");
  shown.set(line.id, { line, item });
  fill(item, line);
  if (first) $("uploads").prepend(item);
  else $("uploads").append(item);
}

function forget(id) {
  const known = shown.get(id);
  if (known) {
    known.item.remove();
    shown.delete(id);
  }
}

// The server knows the numbers; it is asked once for all that happens within a moment.
function recount() {
  counting ||= setTimeout(async () => {
    counting = 0;
    try {
      ({ counts } = await page(null, 1));
      showCounts();
    } catch {
      // The stream notices a server that is gone.
    }
  }, 500);
}

function showCounts() {
  const said = Object.entries(counts).filter(([, number]) => number > 0);
  $("counts").textContent = said.map(([state, number]) => `${state} ${number}`).join(" · ") || "There are none yet.";
}

async function page(cursor, limit = 50) {
  const query = new URLSearchParams({ order: "newest", limit: String(limit), ...(cursor ? { cursor } : {}) });
  const answer = await fetch(`api/uploads?${query}`, { headers: headers(), cache: "no-store" });
  if (!answer.ok) throw await problemOf(answer);
  return answer.json();
}

async function list(cursor = null) {
  const found = await page(cursor);
  if (cursor === null) {
    $("uploads").replaceChildren();
    shown.clear();
  }
  found.uploads.forEach((line) => show(line, false));
  ({ next, counts } = found);
  $("more").hidden = next === null;
  showCounts();
}

function hear(event) {
  if (event.type === "reset") {
    list().catch(complain);
  } else if (event.type === "notice") {
    const told = JSON.parse(event.data);
    const before = shown.get(told.uploadid)?.line.state;
    if (told.state === "remove") forget(told.uploadid);
    else if (told.upload) show(told.upload, true);
    if (before !== told.state) recount();
  }
}

async function follow() {
  let lastId = "";
  for (;;) {
    const gone = new AbortController();
    let watchdog = 0;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => gone.abort(), SILENCE);
    };
    try {
      alive();
      lastId = await readEvents("api/events", {
        headers: headers(),
        lastId,
        heard: (event) => {
          lastId = event.id;
          hear(event);
        },
        opened: () => {
          $("enter").hidden = true;
          $("live").textContent = "Live";
        },
        alive,
        signal: gone.signal,
      });
    } catch (error) {
      if (error.status === 401) {
        $("enter").hidden = false;
        $("live").textContent = "A key is needed";
        return;
      }
    } finally {
      clearTimeout(watchdog);
    }
    $("live").textContent = "Connecting …";
    await new Promise((resolve) => setTimeout(resolve, 1000 + 1000 * Math.random()));
  }
}

function complain(error) {
  $("trouble").textContent = error.message;
  $("trouble").hidden = false;
}

async function send(files) {
  $("trouble").hidden = true;
  for (const file of files) {
    try {
      await sendFile(file, { headers: headers() });
    } catch (error) {
      complain(new Error(`${file.name}: ${error.message}`));
    }
  }
}

function start() {
  $("file").addEventListener("change", () => {
    send([...$("file").files]);
    $("file").value = "";
  });
  $("more").addEventListener("click", () => list(next).catch(complain));
  $("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    key = $("key").value;
    sessionStorage.setItem("key", key);
    follow();
  });
  follow();
}

start();
