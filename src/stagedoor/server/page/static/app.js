// The page itself: makes everything, shows the view that the address names, and tells those who cannot see it what
// happens.

import { Api } from "./api.js";
import "./board.js";
import "./card.js";
import { Connection } from "./connection.js";
import { confirm } from "./dialog.js";
import { el, say } from "./dom.js";
import { percent } from "./format.js";
import { icon } from "./icons.js";
import { Keep } from "./keep.js";
import { viewOf } from "./rows.js";
import { Settings, keyForm } from "./settings.js";
import { Sources } from "./sources.js";
import { Store } from "./store.js";

const NAME = "stagedoor";
const NOTICES = 3; // of what went wrong; older ones give way
const UNDER_WAY = ["reading", "waiting", "sending", "paused"];

const $ = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 64rem)");

const app = make();
const board = el("upload-board", { class: "pane", app });
const detail = el("section", { class: "pane detail", hidden: true, "aria-label": "Upload" });
const whole = el("section", { class: "pane whole", hidden: true });
let scrolled = 0; // of the board, kept while it is away
let since = null; // when the connection was lost
let wasLive = false;

start();

/** What all views work with. */
function make() {
  const settings = new Settings();
  const api = new Api({ key: settings.key });
  const connection = new Connection({ key: settings.key });
  const store = new Store({ connection, api });
  const sources = new Sources({ connection, api, store, keep: new Keep() });
  return {
    settings,
    api,
    connection,
    store,
    sources,
    confirm,
    say: tell,
    complain,
    attempt,
    choose: () => board.drop.choose(),
  };
}

function start() {
  const { connection, settings, sources, store } = app;
  $("to-settings").prepend(icon("settings"));
  $("views").replaceChildren(board, detail, whole);
  connection.addEventListener("status", showStatus);
  settings.addEventListener("key", useKey);
  store.addEventListener("change", ({ detail: { changed, added } }) => tellStates([...changed, ...added]));
  window.addEventListener("hashchange", route);
  wide.addEventListener("change", route);
  window.addEventListener("beforeunload", warn);
  window.addEventListener("keydown", (event) => event.key === "Escape" && leaveDetail(event));
  setInterval(showTitle, 1000); // no frames come to a tab that is not seen, but its title is
  route();
  showStatus();
  connection.open();
  attempt(() => sources.restore());
}

// ── views ────────────────────────────────────────────────────────────────────────────────────────────────────────

function placeNow() {
  const [, view = "", id = ""] = location.hash.split("/");
  if (view === "settings") return { view };
  try {
    return view === "uploads" && id ? { view: "card", id: decodeURIComponent(id) } : { view: "board" };
  } catch {
    return { view: "board" }; // the address was not written by us
  }
}

function route() {
  const wanted = app.connection.status === "key" ? { view: "key" } : placeNow();
  const { view, id = null } = wanted;
  const onBoard = view === "board" || (view === "card" && wide.matches);
  if (!board.hidden) scrolled = board.scrollTop;
  const came = detail.hidden;
  // What had the focus goes with its view.
  const left = (!detail.hidden && view === "board") || (onBoard && whole.contains(document.activeElement));
  board.hidden = !onBoard;
  detail.hidden = view !== "card";
  whole.hidden = view === "board" || view === "card";
  $("views").dataset.view = view;
  $("to-settings").hidden = view === "key"; // there is nothing behind it yet
  if (onBoard) board.scrollTop = scrolled; // some browsers forget it when the board is away
  board.mark(id);
  if (view === "card") showCard(id, came);
  else detail.replaceChildren();
  if (view !== "settings") whole.querySelector("settings-view")?.remove();
  if (view === "settings" && !whole.querySelector("settings-view")) {
    showWhole(el("settings-view", { class: "stack", app }), "h1");
  }
  if (view === "key") showKey();
  if (left) board.focusList();
  if (view === "settings") $("to-settings").setAttribute("aria-current", "page");
  else $("to-settings").removeAttribute("aria-current");
}

function showCard(id, came) {
  const card = detail.querySelector("upload-card");
  if (card?.getAttribute("uploadid") !== id) {
    const back = el("a", { class: "button bare", href: "#/" }, icon("back"), "All uploads");
    const made = el("upload-card", { app });
    made.setAttribute("uploadid", id);
    detail.replaceChildren(el("nav", { class: "way-back", "aria-label": "Back" }, back), made);
    detail.scrollTop = 0;
  }
  // Beside the board the focus stays in the list; instead of it, it has to come along.
  if (came && !wide.matches) detail.querySelector("a").focus();
}

function leaveDetail(event) {
  if (event.defaultPrevented || detail.hidden || document.querySelector("dialog[open]")) return;
  if (event.target.closest?.("input, textarea, select")) return;
  location.hash = "#/";
}

function showWhole(element, focus) {
  whole.replaceChildren(element);
  element.querySelector(focus)?.focus();
}

function showKey() {
  const wrong = app.settings.key ? "The server does not take this key. Check it, and try again." : "";
  const form = keyForm(app.settings, { wrong, yes: "Open" });
  const text = "Only people with its key can see and send uploads. Ask whoever runs the server for it.";
  showWhole(
    el(
      "div",
      { class: "panel stack key" },
      el("h1", {}, "This server asks for a key"),
      el("p", { class: "quiet" }, text),
      form,
    ),
    "input",
  );
}

function useKey() {
  const { api, connection, settings } = app;
  api.key = settings.key;
  connection.key = settings.key;
  connection.open(); // anew, with it
}

// ── what is going on ─────────────────────────────────────────────────────────────────────────────────────────────

function showStatus() {
  const { status } = app.connection;
  if (status === "live") {
    since = null;
    wasLive = true;
  } else if (status === "offline" || (status === "connecting" && wasLive)) {
    since ??= new Date();
  }
  const time = since?.toLocaleTimeString(undefined, { timeStyle: "short" });
  const [text, look] = {
    live: ["Live", "fine"],
    key: ["A key is needed", "asking"],
  }[status] ?? (since ? [`Offline since ${time}`, "failed"] : ["Connecting …", "working"]);
  say($("connection"), text);
  $("connection").dataset.look = look;
  offline(
    since && status !== "key"
      ? `The server cannot be reached since ${time}. This page tries again by itself, and what it sends goes on then.`
      : "",
  );
  if ((status === "key") !== ($("views").dataset.view === "key")) route();
  else if (status === "key") showKey();
}

function offline(text) {
  const shown = $("offline");
  if (!text) shown?.remove();
  else if (!shown) $("notices").prepend(
    el("p", { id: "offline", class: "notice", dataset: { look: "failed" } }, el("span", {}, text)),
  );
}

function showTitle() {
  const mine = [...app.sources.items.values()].filter(({ phase }) => UNDER_WAY.includes(phase));
  const size = mine.reduce((sum, source) => sum + source.size, 0);
  const sent = mine.reduce((sum, source) => sum + (source.phase === "reading" ? 0 : source.done), 0);
  const title = size ? `${percent(sent / size)} · ${NAME}` : NAME;
  if (document.title !== title) document.title = title;
}

// What happens to uploads of this tab, for who cannot see it: only where somebody waits for it.
const told = new Map(); // id → state; a fast one may be far along when it is heard of first

function tellStates(ids) {
  const news = [];
  for (const id of ids) {
    const line = app.store.uploads.get(id);
    if (!line || !app.sources.find(id) || (told.get(id) ?? "waitforchunk") === line.state) continue;
    const { title, chip, look } = viewOf(line);
    told.set(id, line.state);
    if (["asking", "failed", "fine"].includes(look)) news.push({ look, sentence: `${title}: ${chip}.` });
  }
  if (news.length === 0) return;
  const urgent = news.some(({ look }) => look === "failed");
  tell(
    news.length > 3 ? `${news.length} uploads have news.` : news.map(({ sentence }) => sentence).join(" "),
    { urgent },
  );
}

/** Says a sentence to readers of the screen; `urgent` at once. */
function tell(sentence, { urgent = false } = {}) {
  const region = $(urgent ? "urgent" : "polite");
  region.textContent = ""; // the same sentence again is news, too
  requestAnimationFrame(() => say(region, sentence));
}

/** Shows and says what went wrong, until it is taken note of. */
function complain(problem) {
  const sentence = problem?.message || "Something went wrong. Reload the page, and try again.";
  const same = [...$("notices").children].find((shown) => shown.dataset.sentence === sentence);
  same?.remove();
  const notice = el(
    "div",
    { class: "notice", dataset: { look: "failed", sentence } },
    icon("warning"),
    el("p", {}, sentence),
    el(
      "button",
      {
        class: "button only",
        type: "button",
        "aria-label": "Dismiss this message",
        on: { click: () => notice.remove() },
      },
      icon("cancel"),
    ),
  );
  const shown = [...$("notices").querySelectorAll("[data-sentence]")];
  if (shown.length >= NOTICES) shown[0].remove();
  $("notices").append(notice);
  tell(sentence, { urgent: true });
}

/** Does something that may fail, and says so if it does. */
async function attempt(what) {
  try {
    return await what();
  } catch (problem) {
    if (!(problem instanceof Error)) throw problem;
    complain(problem);
    return undefined;
  }
}

// What is sent from files that the browser can open again goes on after a reload; the rest has to be chosen again.
function warn(event) {
  const { items } = app.sources;
  const lasts = ({ localId, phase }) => !UNDER_WAY.includes(phase) || app.sources.restorable(localId);
  if ([...items.values()].every(lasts)) return;
  event.preventDefault();
  event.returnValue = ""; // what older browsers want
}
