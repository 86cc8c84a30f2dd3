// All uploads as a list that follows the server. Only rows that can be seen are in the document; a row stays with its
// upload while it is seen, so a click never meets another upload than the one that was aimed at.

import { actionsFor, viewOf } from "./rows.js";
import { el, say } from "./dom.js";
import { span, speed } from "./format.js";
import { icon } from "./icons.js";
import "./drop.js";

const FILTERS = [
  { name: "all", text: "All", looks: null },
  { name: "moving", text: "Moving", looks: ["moving", "working", "gone"] },
  { name: "asking", text: "Needs you", looks: ["asking"] },
  { name: "failed", text: "Failed", looks: ["failed"] },
  { name: "done", text: "Done", looks: ["fine"] },
];
const NO_MATCH = "No upload matches. Choose “All”, or empty the search field, to see the others.";
const SPARE = 3; // rows beyond each edge, so that scrolling meets no gap

/** <upload-board>: `app` as all views; `open` (an id or null) marks the row whose card is shown. */
export class UploadBoard extends HTMLElement {
  open = null;

  connectedCallback() {
    const { store, sources, connection } = this.app;
    this.entries = new Map(); // key → {key, id, source, stamp, mark, look}
    this.order = []; // the entries that the filter lets through, as shown
    this.rows = new Map(); // key → row
    this.turn = 0; // of what came at the same moment, the later one first
    this.active = null; // key of the row that Tab comes to
    this.filter = "all";
    this.query = "";
    this.dirty = null; // ids of rows whose numbers changed since they were painted; null: all
    this.stale = true; // whether order and counts have to be made anew
    this.frame = 0;
    this.build();
    this.gone = new AbortController();
    const options = { signal: this.gone.signal };
    store.addEventListener("change", (event) => this.heard(event.detail), options);
    sources.addEventListener("change", () => this.heard(null), options);
    connection.addEventListener("status", () => this.later(), options);
    this.addEventListener("scroll", () => this.paint(), { passive: true, ...options });
    this.sizes = new ResizeObserver(() => this.measure());
    this.sizes.observe(this);
    this.sizes.observe(this.above);
    this.sizes.observe(this.tools);
    this.measure();
    this.draw();
  }

  disconnectedCallback() {
    this.gone.abort();
    this.sizes.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** Marks the row whose card is shown. */
  mark(id) {
    this.open = id;
    for (const row of this.rows.values()) row.mark(id);
  }

  /** Puts the focus where it was in the list. */
  focusList() {
    if (this.active !== null && this.order.length) this.focusRow(this.indexOf(this.active), 0);
    else this.search.focus();
  }

  // ── what stands around the list ──────────────────────────────────────────────────────────────────────────────

  build() {
    this.drop = el("drop-zone", { app: this.app });
    this.filters = new Map(FILTERS.map((filter) => [filter.name, this.filterButton(filter)]));
    this.search = el("input", {
      id: "search",
      type: "search",
      placeholder: "Search",
      autocomplete: "off",
      "aria-label": "Search the uploads",
      on: { input: () => this.sift({ query: this.search.value.trim().toLowerCase() }) },
    });
    this.sum = el("p", { class: "quiet small numbers sum" });
    this.pauseAll = bulk("pause", "Pause all", () => this.app.sources.pauseAll());
    this.resumeAll = bulk("resume", "Resume all", () => this.app.sources.resumeAll());
    this.cancelAll = bulk("cancel", "Cancel mine", () => this.cancelMine());
    this.retryAll = bulk("retry", "Retry these", () => this.app.attempt(() => this.retryFailed()));
    this.bulk = el(
      "div",
      { class: "cluster bulk", role: "group", "aria-label": "Several at once" },
      this.retryAll,
      this.pauseAll,
      this.resumeAll,
      this.cancelAll,
    );
    this.heading = el("h1", { class: "hidden-visually" }, "Uploads");
    this.above = el("div", { class: "above" }, this.heading, this.drop);
    this.tools = el(
      "div",
      { class: "tools" },
      el(
        "div",
        { class: "filters", role: "group", "aria-label": "Show" },
        ...[...this.filters.values()].map((made) => made.button),
      ),
      el("div", { class: "search" }, icon("search"), this.search),
      el("div", { class: "cluster apart state" }, this.sum, this.bulk),
    );
    this.list = el(
      "ul",
      {
        class: "rows",
        role: "list",
        "aria-label": "Uploads",
        on: { keydown: (event) => this.key(event), focusin: (event) => this.focused(event) },
      },
    );
    this.nothing = el("p", { class: "empty", hidden: true });
    this.replaceChildren(this.above, this.tools, this.list, this.nothing);
  }

  filterButton({ name, text }) {
    const count = el("span", { class: "count numbers" });
    const button = el(
      "button",
      {
        class: "filter",
        type: "button",
        "aria-pressed": String(name === "all"),
        on: { click: () => this.sift({ filter: name }) },
      },
      text,
      " ",
      count,
    );
    return { button, count };
  }

  sift({ filter = this.filter, query = this.query }) {
    this.filter = filter;
    this.query = query;
    for (const [name, { button }] of this.filters) button.setAttribute("aria-pressed", String(name === filter));
    this.stale = true;
    this.draw();
    if (this.scrollTop > this.listTop) this.scrollTop = this.listTop;
    this.app.say(this.order.length === 1 ? "1 upload is shown." : `${this.order.length} uploads are shown.`);
  }

  async cancelMine() {
    const { sources } = this.app;
    const many = [...sources.items.values()].filter((source) => !["done", "failed"].includes(source.phase)).length;
    const sure = await this.app.confirm({
      title: many === 1 ? "Cancel the upload of this tab?" : `Cancel all ${many} uploads of this tab?`,
      text: "What they have sent so far is deleted from the server. Your own files stay as they are.",
      yes: many === 1 ? "Cancel it" : "Cancel them",
      no: "Keep sending",
    });
    if (sure) this.app.attempt(() => sources.cancelAll());
  }

  /** How to try again what is shown; a file that somebody else has is somebody else's to send. */
  retries() {
    const { uploads } = this.app.store;
    const shown = this.order.map(({ id, source }) => [id === null ? undefined : uploads.get(id), source]);
    const ours = shown.filter(([line, source]) => source || (line && line.state !== "uploadfailed"));
    return ours.map((one) => actionsFor(...one).find(({ icon }) => icon === "retry")).filter(Boolean);
  }

  async retryFailed() {
    let done = 0;
    let problem = null;
    for (const action of this.retries()) {
      try {
        await action.run(this.app);
        done += 1;
      } catch (error) { // one that cannot be tried again holds up no other
        problem = error;
      }
    }
    this.app.say(done === 1 ? "1 upload is tried again." : `${done} uploads are tried again.`);
    if (problem) throw problem;
  }

  // ── what is in it ────────────────────────────────────────────────────────────────────────────────────────────

  /** Something changed: what order and filters depend on, or only numbers in rows? */
  heard(detail) {
    if (detail === null) this.dirty = null;
    else detail.changed.forEach((id) => this.dirty?.add(id));
    if (!this.stale) this.stale = detail === null ? this.sourcesDiffer() : this.linesDiffer(detail);
    this.later();
  }

  linesDiffer({ changed, added, removed }) {
    if (added.size || removed.size) return true;
    for (const id of changed) {
      const entry = this.entries.get(this.keyOf(id));
      if (entry === undefined || markOf(this.app.store.uploads.get(id), entry.source) !== entry.mark) return true;
    }
    return false;
  }

  sourcesDiffer() {
    const { sources, store } = this.app;
    if (sources.items.size !== this.ownCount) return true;
    for (const source of sources.items.values()) {
      const entry = this.entries.get(own(source));
      const line = source.id === null ? undefined : store.uploads.get(source.id);
      // A finished one whose upload is gone has no row.
      if (entry === undefined ? this.shows(source, line) : markOf(line, source) !== entry.mark) return true;
    }
    return false;
  }

  // One that was sent has a row while its upload is there; of two that sent the same file, the one that stands for it.
  shows(source, line) {
    return source.phase !== "done" || (line !== undefined && this.app.sources.find(source.id) === source);
  }

  keyOf(id) {
    const source = this.app.sources.find(id);
    return source ? own(source) : id;
  }

  later() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    if (this.stale) this.arrange();
    this.teach(); // an empty list changes nothing when it comes, and is news all the same
    this.paint();
    this.summarise();
  }

  // Orders all, filters, counts. A stamp is renewed when the state changes, not by bytes: what moves keeps its place.
  arrange() {
    const { store, sources } = this.app;
    this.stale = false;
    this.dirty = null;
    this.ownCount = sources.items.size;
    const before = this.entries;
    const anchor = this.anchor();
    const at = this.active === null ? -1 : this.indexOf(this.active);
    this.entries = new Map();
    const mine = new Set();
    for (const source of sources.items.values()) {
      const line = source.id === null ? undefined : store.uploads.get(source.id);
      if (this.shows(source, line)) this.enter(before, own(source), line, source);
      mine.add(source.id);
    }
    for (const line of store.uploads.values()) if (!mine.has(line.id)) this.enter(before, line.id, line, undefined);
    const counts = Object.fromEntries(FILTERS.map(({ name }) => [name, 0]));
    const { looks } = FILTERS.find(({ name }) => name === this.filter);
    this.order = [];
    for (const entry of this.entries.values()) {
      counts.all += 1;
      const group = FILTERS.find((filter) => filter.looks?.includes(entry.look));
      if (group) counts[group.name] += 1;
      if ((looks === null || looks.includes(entry.look)) && entry.words.includes(this.query)) this.order.push(entry);
    }
    this.order.sort((a, b) => b.first - a.first || b.stamp - a.stamp || b.turn - a.turn);
    this.places = new Map(this.order.map((entry, place) => [entry.key, place]));
    for (const [name, { count }] of this.filters) say(count, String(counts[name]));
    this.settle(at);
    this.list.style.setProperty("--count", String(this.order.length));
    this.keepPlace(anchor);
  }

  enter(before, key, line, source) {
    const known = before.get(key);
    const mark = markOf(line, source);
    if (known && known.mark === mark) {
      this.entries.set(key, known);
      return;
    }
    const view = viewOf(line, source);
    const stamp = line?.updated ?? 0;
    const words = [view.title, view.filename, line?.contenttype, view.chip, line?.id].join(" ").toLowerCase();
    this.entries.set(
      key,
      {
        key,
        id: line?.id ?? null,
        source,
        mark,
        look: view.look,
        first: line ? 0 : 1,
        stamp,
        turn: known?.turn ?? this.turn++,
        words,
      },
    );
  }

  indexOf(key) {
    return this.places?.get(key) ?? -1;
  }

  // The row that Tab comes to may have gone: the one in its place takes over.
  settle(at) {
    if (this.indexOf(this.active) >= 0) return;
    const next = this.order[Math.max(0, Math.min(at, this.order.length - 1))];
    const gone = this.rows.get(this.active);
    this.lost = gone !== undefined && gone.item.contains(document.activeElement);
    this.active = next?.key ?? null;
  }

  // Rows that come above what is being read must not push it away.
  anchor() {
    if (!this.order.length || this.scrollTop <= this.listTop) return null;
    const place = Math.min(
      this.order.length - 1,
      Math.max(0, Math.floor((this.scrollTop + this.covered - this.listTop) / this.height)),
    );
    return { key: this.order[place].key, place };
  }

  keepPlace(anchor) {
    const now = anchor === null ? -1 : this.indexOf(anchor.key);
    if (now >= 0 && now !== anchor.place) this.scrollTop += (now - anchor.place) * this.height;
  }

  teach() {
    const { store, sources } = this.app;
    const empty = store.ready && store.uploads.size === 0 && sources.items.size === 0;
    this.drop.teach(empty);
    hide(this.heading, empty); // what teaches has its own
    hide(this.tools, empty || !store.ready && this.entries.size === 0);
    hide(this.nothing, empty || this.order.length > 0);
    if (!this.nothing.hidden) {
      say(this.nothing, store.ready ? NO_MATCH : (store.problem?.message ?? "The list is being fetched …"));
    }
  }

  summarise() {
    const { store, sources } = this.app;
    let rate = 0;
    let left = 0;
    for (const line of store.uploads.values()) {
      if (line.state !== "waitforchunk") continue;
      rate += line.rate;
      if (line.filesize !== null && line.rate > 0) left = Math.max(left, line.eta ?? 0);
    }
    say(this.sum, [speed(rate), rate > 0 && left > 0 ? `${span(left)} left` : ""].filter(Boolean).join(" · "));
    const phases = new Set([...sources.items.values()].map((source) => source.phase));
    const has = (...names) => names.some((name) => phases.has(name));
    hide(this.pauseAll, !has("sending", "waiting"));
    hide(this.resumeAll, !has("paused"));
    hide(this.cancelAll, !has("reading", "known", "waiting", "sending", "paused", "lost"));
    hide(this.retryAll, this.filter !== "failed" || this.retries().length === 0); // where one looks at them
    hide(this.bulk, [this.pauseAll, this.resumeAll, this.cancelAll, this.retryAll].every((button) => button.hidden));
    hide(
      this.sum.parentNode,
      this.retryAll.hidden &&
        this.sum.textContent === "" &&
        !has("reading", "known", "waiting", "sending", "paused", "lost"),
    );
  }

  // ── the rows that can be seen ────────────────────────────────────────────────────────────────────────────────

  measure() {
    const root = parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.height = parseFloat(getComputedStyle(this.list).getPropertyValue("--row")) * root || 72;
    this.listTop = this.list.offsetTop;
    this.covered = getComputedStyle(this.tools).position === "sticky" ? this.tools.offsetHeight : 0;
    this.paint();
  }

  paint() {
    if (this.clientHeight === 0) return; // not shown
    const from = Math.max(0, Math.floor((this.scrollTop - this.listTop) / this.height) - SPARE);
    const to = Math.min(
      this.order.length,
      Math.ceil((this.scrollTop + this.clientHeight - this.listTop) / this.height) + SPARE,
    );
    const wanted = [];
    for (let place = from; place < to; place += 1) wanted.push(place);
    // The row with the focus stays in the document wherever it is, or the focus would be lost.
    const held = this.indexOf(this.active);
    const holds = held >= 0 && (this.rows.get(this.active)?.item.contains(document.activeElement) || this.lost);
    if (holds && held < from) wanted.unshift(held);
    if (holds && held >= to) wanted.push(held);
    const spare = [];
    const keys = new Set(wanted.map((place) => this.order[place].key));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      this.rows.delete(key);
      spare.push(row);
    }
    const shown = wanted.map((place) => {
      const entry = this.order[place];
      const known = this.rows.get(entry.key);
      const row = known ?? spare.pop() ?? new Row(this);
      this.rows.set(entry.key, row);
      if (!known || this.dirty === null || this.dirty.has(entry.id)) row.show(entry, place, this.order.length);
      return row;
    });
    this.dirty = new Set();
    for (const [key, row] of this.rows) row.reach(key === this.active);
    spare.forEach((row) => row.item.remove());
    this.inOrder(shown.map((row) => row.item));
    if (this.lost) {
      this.lost = false;
      if (held >= 0) this.rows.get(this.active).focus(0);
      else this.search.focus();
    }
  }

  // Readers of the screen go by the order in the document. The element with the focus is never moved: it would lose it.
  inOrder(items) {
    const pivot = Math.max(0, items.findIndex((item) => item.contains(document.activeElement)));
    if (items.length && items[pivot].parentNode !== this.list) this.list.append(items[pivot]);
    for (let place = pivot - 1; place >= 0; place -= 1) {
      if (items[place + 1].previousSibling !== items[place]) this.list.insertBefore(items[place], items[place + 1]);
    }
    for (let place = pivot + 1; place < items.length; place += 1) {
      const { nextSibling } = items[place - 1];
      if (nextSibling !== items[place]) this.list.insertBefore(items[place], nextSibling);
    }
  }

  // ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────

  focused({ target }) {
    const key = [...this.rows].find(([, row]) => row.item.contains(target))?.[0] ?? null;
    if (key === null || key === this.active) return;
    this.rows.get(this.active)?.reach(false);
    this.active = key;
    this.rows.get(key).reach(true);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const row = this.rows.get(this.active);
    const place = this.indexOf(this.active);
    if (place < 0 || !row) return;
    const column = row.column(document.activeElement);
    const page = Math.max(1, Math.floor((this.clientHeight - this.covered) / this.height) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.focusRow(
      Math.max(0, Math.min(this.order.length - 1, place + steps[event.key])),
      column,
    );
    else if (event.key === "ArrowRight") row.focus(column + 1);
    else if (event.key === "ArrowLeft") row.focus(Math.max(0, column - 1));
    else return;
    event.preventDefault();
  }

  focusRow(place, column) {
    const { covered } = this; // by the tools, where they stick to the top
    const top = this.listTop + place * this.height;
    if (top < this.scrollTop + covered) this.scrollTop = place === 0 ? 0 : top - covered;
    const least = top + this.height - this.clientHeight;
    if (this.scrollTop < least) this.scrollTop = least;
    this.rows.get(this.active)?.reach(false);
    const before = this.active;
    this.active = this.order[place].key;
    this.paint();
    const row = this.rows.get(this.active);
    row.reach(true);
    row.focus(column);
    if (before !== this.active) this.paint(); // the row that was held for its focus may go
  }
}

// What order, filters and actions depend on; when it is the same, only numbers have changed.
function markOf(line, source) {
  const { id, uid, state, due, code, message, questions, names } = line ?? {};
  const said = [id, uid, state, due, code, message, questions?.length, ...Object.values(names ?? {})];
  return [...said, source?.phase, source?.problem?.message, source?.name, source?.id && "known"].join("\n");
}

function own(source) {
  return `own:${source.localId}`;
}

function bulk(name, text, run) {
  return el(
    "button",
    { class: "button bare", type: "button", hidden: true, title: text, on: { click: run } },
    icon(name),
    el("span", {}, text),
  );
}

/** A row of the list; it is used again for another upload when its own has left the view. */
class Row {
  constructor(board) {
    this.board = board;
    this.kind = el("span", { class: "kind" });
    this.name = el("a", { class: "name cut" });
    this.sub = el("p", { class: "sub cut" });
    this.chip = el("span", { class: "chip" });
    this.numbers = el("span", { class: "numbers small" });
    this.bar = el("progress", { max: 1 });
    this.slots = [0, 1].map((place) => this.slot(place));
    this.item = el(
      "li",
      { class: "row" },
      this.kind,
      el("div", { class: "about" }, this.name, this.sub),
      el("div", { class: "standing" }, this.chip, this.numbers, this.bar),
      el("div", { class: "acts" }, ...this.slots.map(({ button }) => button)),
    );
  }

  slot(place) {
    const button = el("button", { class: "button only", type: "button", on: { click: () => this.act(place) } });
    return { button, name: null, label: null };
  }

  act(place) {
    const { app } = this.board;
    const action = this.actions[place];
    if (action) app.attempt(() => action.run(app));
  }

  show(entry, place, many) {
    const { app } = this.board;
    const { item } = this;
    const line = entry.id === null ? undefined : app.store.uploads.get(entry.id);
    // It went a moment ago, and before the board was told a scroll or another size has it painted.
    if (line === undefined && (entry.source?.phase ?? "done") === "done") return;
    const view = viewOf(line, entry.source);
    if (this.place !== place) {
      this.place = place;
      item.style.setProperty("--place", String(place));
      item.setAttribute("aria-posinset", String(place + 1));
    }
    attribute(item, "aria-setsize", String(many));
    attribute(item, "data-look", view.look);
    say(this.name, view.title);
    attribute(this.name, "href", entry.id === null ? null : `#/uploads/${encodeURIComponent(entry.id)}`);
    attribute(this.name, "title", view.title);
    this.id = entry.id;
    say(this.sub, view.sub);
    attribute(this.sub, "title", view.sub);
    this.sub.classList.toggle("matters", view.matters);
    attribute(this.chip, "data-look", view.look);
    say(this.chip, view.chip);
    say(this.numbers, view.numbers);
    this.showBar(view);
    if (this.icon !== view.icon) {
      this.icon = view.icon;
      this.kind.replaceChildren(icon(view.icon));
    }
    this.actions = actionsFor(line, entry.source, app);
    this.slots.forEach((slot, at) => this.fill(slot, this.actions[at], view.title));
    this.mark(this.board.open);
    this.reached = null; // buttons may have come
  }

  showBar({ share, title }) {
    const { bar } = this;
    hide(bar, share === undefined);
    if (share === undefined) return;
    if (share === null) bar.removeAttribute("value"); // its size is not known
    else if (bar.value !== share || !bar.hasAttribute("value")) bar.value = share;
    attribute(bar, "aria-label", `Progress of ${title}`);
  }

  fill(slot, action, title) {
    hide(slot.button, action === undefined);
    if (action === undefined) return;
    if (slot.name !== action.icon) {
      slot.name = action.icon;
      slot.button.replaceChildren(icon(action.icon));
    }
    attribute(slot.button, "aria-label", `${action.label}: ${title}`);
    attribute(slot.button, "title", action.label);
  }

  mark(open) {
    const is = this.id !== null && this.id === open;
    this.item.classList.toggle("open", is);
    attribute(this.name, "aria-current", is ? "true" : null);
  }

  parts() {
    const name = this.name.hasAttribute("href") ? [this.name] : [];
    return [...name, ...this.slots.map(({ button }) => button).filter((button) => !button.hidden)];
  }

  /** Whether Tab comes to this row. */
  reach(whether) {
    if (this.reached === whether) return;
    this.reached = whether;
    for (const part of [this.name, ...this.slots.map(({ button }) => button)]) part.tabIndex = whether ? 0 : -1;
    if (!this.name.hasAttribute("href")) this.name.removeAttribute("tabindex");
  }

  column(element) {
    return Math.max(0, this.parts().indexOf(element));
  }

  focus(column) {
    const parts = this.parts();
    parts[Math.min(column, parts.length - 1)]?.focus({ preventScroll: true });
  }
}

// Nothing is written that is there already: each write costs a look at all of the styles.
function hide(element, whether) {
  if (element.hidden !== whether) element.hidden = whether;
}

function attribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

customElements.define("upload-board", UploadBoard);
