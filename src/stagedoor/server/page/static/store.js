// All uploads as the server tells of them: the list when a connection begins, and what is heard from then on.

import { clock, framed } from "./pace.js";

const PAGE = 1000;
const TASKS = 64; // whole tasks that are remembered
const SMOOTH = 3000; // milliseconds over which speed is smoothed
const STILL = 1500; // without a word of progress, before the speed is taken to fall
const LISTING_AGAIN = 2000;
const DUE = { uploadcomplete: "preprocess", startimport: "import_", importartwork: "import_artwork", remove: "remove" };

/**
 * Event "change", once a frame at most: `detail` has the sets of ids `changed`, `added` and `removed`.
 *
 * @typedef {object} Line `Line` of docs/openapi.json, with
 * @property {number} rate Bytes a second, smoothed; 0 when it stands still.
 * @property {number|null} eta Seconds that are left at that speed.
 */
export class Store extends EventTarget {
  /** @param {{connection: EventTarget, api: {get: Function}, timers?: object, schedule?: Function}} tools */
  constructor({ connection, api, timers = clock, schedule = framed }) {
    super();
    /** @type {Map<string, Line>} */
    this.uploads = new Map();
    this.ready = false;
    /** @type {import("./api.js").Problem|null} Why there is no list. */
    this.problem = null;
    this.connection = connection;
    this.api = api;
    this.timers = timers;
    this.tasks = new Map();
    this.speeds = new Map();
    this.listing = null;
    this.beating = null;
    this.clear();
    this.tell = schedule(() => this.announce());
    connection.addEventListener("status", () => this.follow());
    connection.addEventListener("notice", ({ detail }) => this.hear(detail));
    connection.addEventListener("progress", ({ detail }) => detail.uploads.forEach((moved) => this.move(moved)));
    this.follow();
  }

  /** How many there are in each state. @returns {Record<string, number>} */
  counts() {
    const found = {};
    for (const { state } of this.uploads.values()) found[state] = (found[state] ?? 0) + 1;
    return found;
  }

  /** The whole task as it is now. @throws {import("./api.js").Problem} */
  async task(id) {
    const known = this.tasks.get(id);
    const line = this.uploads.get(id);
    if (known && line && known.uid === line.uid && known.revision >= line.revision) return known;
    const task = await this.api.get(`api/uploads/${encodeURIComponent(id)}`);
    const newest = this.tasks.get(id); // one may have been heard meanwhile
    if (newest?.uid === task.uid && newest.revision > task.revision) return newest;
    this.remember(task);
    return task;
  }

  // ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────────

  follow() {
    if (this.connection.status === "live") {
      this.list();
    } else {
      this.listing = null;
      this.calm();
    }
  }

  async list() {
    const listing = { heard: new Set(), gone: new Set(), moved: new Map() };
    this.listing = listing;
    const listed = new Set();
    let cursor = null;
    try {
      do {
        const query = new URLSearchParams({ limit: String(PAGE), ...(cursor ? { cursor } : {}) });
        const page = await this.api.get(`api/uploads?${query}`);
        if (this.listing !== listing) return; // the connection broke, and the next list is under way
        for (const line of page.uploads) {
          listed.add(line.id);
          if (!listing.gone.has(line.uid)) this.put(line);
          if (listing.moved.has(line.id)) this.move(listing.moved.get(line.id));
        }
        cursor = page.next;
      } while (cursor);
    } catch (problem) {
      if (this.listing !== listing) return;
      this.problem = problem;
      this.tell();
      this.timers.after(LISTING_AGAIN, () => this.listing === listing && this.list());
      return;
    }
    for (const id of this.uploads.keys()) if (!listed.has(id) && !listing.heard.has(id)) this.drop(id);
    this.listing = null;
    this.problem = null;
    this.ready = true;
    this.tell();
  }

  // ── what is heard ─────────────────────────────────────────────────────────────────────────────────────────────────

  hear({ uploadid, state, kind, task }) {
    if (task === null) {
      // An offer that was refused is told of in the same way, and may have the id of an upload that is there.
      if (state === "notexisting" && kind === "StateUpdate") this.drop(uploadid);
      return;
    }
    this.listing?.heard.add(uploadid);
    if (state === "remove") {
      this.listing?.gone.add(task.uid);
      this.tasks.delete(uploadid);
      if ((this.uploads.get(uploadid)?.uid ?? task.uid) === task.uid) this.drop(uploadid);
      return;
    }
    this.remember(task);
    this.put(lineOf(task));
  }

  move({ id, uid, offset, filesize }) {
    const line = this.uploads.get(id);
    if (line === undefined) this.listing?.moved.set(id, { id, uid, offset, filesize });
    if (line === undefined || line.uid !== uid || line.state !== "waitforchunk" || offset <= line.offset) return;
    this.replace({ ...line, offset, filesize });
  }

  /** Takes a line that is newer than what is known, or as new. */
  put(line) {
    const known = this.uploads.get(line.id);
    if (known && known.uid !== line.uid && known.created > line.created) return;
    if (known && known.uid === line.uid) {
      if (known.revision > line.revision) return;
      // The offset goes on without a new revision.
      if (known.revision === line.revision && known.offset > line.offset) line = { ...line, offset: known.offset };
    }
    this.replace(line);
  }

  replace(line) {
    const known = this.uploads.get(line.id);
    const moving = line.state === "waitforchunk" && line.offset !== line.filesize;
    if (!moving || known?.uid !== line.uid) this.speeds.delete(line.id);
    if (moving) this.measure(line, known);
    this.uploads.set(line.id, { ...line, ...this.speed(line) });
    if (known && !this.added.has(line.id)) this.changed.add(line.id);
    if (!known && !this.removed.delete(line.id)) this.added.add(line.id);
    else if (!known) this.changed.add(line.id);
    this.tell();
  }

  drop(id) {
    if (!this.uploads.delete(id)) return;
    this.speeds.delete(id);
    this.tasks.delete(id);
    this.changed.delete(id);
    if (!this.added.delete(id)) this.removed.add(id);
    this.tell();
  }

  remember(task) {
    this.tasks.delete(task.id);
    this.tasks.set(task.id, task);
    if (this.tasks.size > TASKS) this.tasks.delete(this.tasks.keys().next().value);
  }

  // ── speed ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  measure(line, known) {
    const now = this.timers.now();
    const speed = this.speeds.get(line.id);
    if (speed === undefined || line.offset < speed.offset) {
      this.speeds.set(line.id, { offset: line.offset, at: now, rate: 0, gap: 0 });
      return;
    }
    if (line.offset === speed.offset) return;
    const passed = Math.max(1, now - speed.at);
    const rate = ((line.offset - speed.offset) * 1000) / passed;
    // The first distance is as good as any; from then on what is old counts less and less.
    const weight = speed.rate ? 1 - Math.exp(-passed / SMOOTH) : 1;
    speed.rate = this.current(speed, now) * (1 - weight) + rate * weight;
    speed.gap = speed.gap ? speed.gap * 0.7 + passed * 0.3 : passed;
    speed.offset = line.offset;
    speed.at = now;
    this.beat();
  }

  /** It falls when progress is overdue: some uploads are told of every second, slow ones every ten. */
  current({ rate, at, gap }, now) {
    const overdue = now - at - Math.max(STILL, 2 * gap);
    return overdue > 0 ? rate * Math.exp(-overdue / SMOOTH) : rate;
  }

  speed(line) {
    const speed = this.speeds.get(line.id);
    if (speed === undefined) return { rate: 0, eta: null };
    const rate = this.current(speed, this.timers.now());
    if (rate < speed.rate / 20 || rate < 1) return { rate: 0, eta: null };
    return { rate, eta: line.filesize === null ? null : (line.filesize - line.offset) / rate };
  }

  /** Looks once a second whether something stands still by now. */
  beat() {
    this.beating ??= this.timers.after(1000, () => {
      this.beating = null;
      let moving = false;
      for (const id of this.speeds.keys()) {
        const line = this.uploads.get(id);
        if (!line.rate) continue;
        const { rate, eta } = this.speed(line);
        moving ||= rate > 0;
        if (rate === line.rate) continue;
        this.uploads.set(id, { ...line, rate, eta });
        if (!this.added.has(id)) this.changed.add(id);
        this.tell();
      }
      if (moving) this.beat();
    });
  }

  /** Nobody knows how fast anything is. */
  calm() {
    for (const id of this.speeds.keys()) {
      const line = this.uploads.get(id);
      if (!line.rate) continue;
      this.uploads.set(id, { ...line, rate: 0, eta: null });
      this.changed.add(id);
      this.tell();
    }
    this.speeds.clear();
  }

  // ── telling ───────────────────────────────────────────────────────────────────────────────────────────────────────

  clear() {
    this.changed = new Set();
    this.added = new Set();
    this.removed = new Set();
  }

  announce() {
    const { changed, added, removed } = this;
    this.clear();
    this.dispatchEvent(new CustomEvent("change", { detail: { changed, added, removed } }));
  }
}

/** What a board shows of a whole task: the members of `Line` in docs/openapi.json. */
export function lineOf(task) {
  const names = {};
  for (const key of ["artistname", "albumname", "name", "albumid"]) {
    const name = (key in task.annotations ? task.annotations : task.content.guess)?.[key];
    if (typeof name === "string") names[key] = [...name].slice(0, 200).join("");
  }
  const { id, uid, state, contenttype, mimetype, filesize, offset, revision, created, updated, message, code } = task;
  const open = task.findings.filter((finding) => finding.severity === "hold" && !answered(finding, task.annotations));
  const questions = open.map((finding) => finding.code);
  const whole = state === "waitforchunk" && offset === filesize;
  const due = whole ? "complete" : (DUE[state] ?? (state === "waitforchunk" ? null : task.wanted));
  return {
    id, uid, state, contenttype, filename: task.sourcefilename, mimetype, filesize, offset, revision, created, updated,
    message, code, questions, due, names,
  };
}

function answered({ code, options }, annotations) {
  const answer = annotations[`answers.${code}`];
  return answer !== undefined && (options.length === 0 || options.includes(answer));
}
