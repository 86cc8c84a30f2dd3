// What this browser sends: files are hashed, offered, and sent as the server asks for them, whatever comes between.

import { Problem, problemOf } from "./api.js";
import { Hashers, changedProblem } from "./hash.js";
import { lock } from "./locks.js";
import { clock, framed } from "./pace.js";
import { fromHandle } from "./pick.js";
import { bytesOf } from "./reading.js";
import { zipOf } from "./zip.js";

const SENDING = 3; // at a time
const BUFFER = 8 << 20; // bytes that may wait in the socket before the next slice is read
const LOOK = 5000; // milliseconds between two looks for uploads that got stuck
const STUCK = 30000; // without being asked, the claim is repeated; a slow line may hold what was sent for long
const SOON = 1000;
const LATER = 30000;
const ATTEMPTS = 8;
const OLD = 30 * 24 * 3600 * 1000; // records of files that nobody sent
const SECOND_LOOK = 2000; // a page that is reloaded gives its locks back a moment later

const HOPELESS = new Set(["file_changed", "file_gone", "same_content", "duplicate", "too_large", "removed"]);

const TAKEN_OVER = "It is sent from somewhere else now, so this page has stopped. Resume it to send it from here.";
const OTHER_TAB = "Another tab of this browser sends this file. Resume it to send it from here.";
const REMOVED = "The upload was removed on the server. Retry to send the file again.";
const CHANGED = "The file is not the one that was chosen before: it was changed since. Choose it again to send the new one.";
const GONE = "The file is not where it was. Choose it again.";
const EMPTY = "The file is empty. Choose one with something in it.";

/**
 * @typedef {"reading"|"known"|"waiting"|"sending"|"paused"|"lost"|"done"|"failed"} Phase
 *   reading: being hashed, or waiting for that; known: the library has it, somebody has to say whether to send it all the
 *   same; waiting: for its turn; lost: the file has to be chosen again.
 *
 * @typedef {object} Source
 * @property {string} localId
 * @property {string|null} id Of the upload: the file's SHA-1, once it is known.
 * @property {string} name
 * @property {number} size Bytes.
 * @property {Phase} phase
 * @property {number} done Bytes that are hashed, or sent.
 * @property {Problem|null} problem What is wrong, or why it waits.
 * @property {string[]} known Where the library has it.
 * @property {boolean} regrant Whether one click brings a lost file back (`regrant`); else it has to be chosen again.
 * @property {object} [task] As the server said last.
 */

/** Event "change", once a frame at most. */
export class Sources extends EventTarget {
  /**
   * @param {object} tools
   * @param {import("./connection.js").Connection} tools.connection
   * @param {import("./api.js").Api} tools.api
   * @param {import("./store.js").Store} tools.store
   * @param {import("./keep.js").Keep} tools.keep
   * @param {Hashers} [tools.hashers]
   * @param {LockManager} [tools.locks]
   * @param {import("./pace.js").Clock} [tools.timers]
   */
  constructor({
    connection, api, store, keep, hashers = new Hashers(), locks = globalThis.navigator?.locks, timers = clock,
    schedule = framed,
  }) {
    super();
    /** @type {Map<string, Source>} */
    this.items = new Map();
    Object.assign(this, { connection, api, store, keep, hashers, locks, timers });
    this.works = new Map(); // localId → what only this module knows of a source
    this.turn = 0;
    this.looking = null;
    this.tell = schedule(() => this.dispatchEvent(new CustomEvent("change")));
    connection.addEventListener("status", () => this.follow());
    connection.addEventListener("ask", ({ detail }) => this.asked(detail));
    connection.addEventListener("stop", ({ detail }) => this.stopped(detail));
    connection.addEventListener("notice", ({ detail }) => detail.task && this.judge(detail.uploadid, detail.task));
    // Every word of the server is an occasion to send more: a timer of a hidden tab may take a minute.
    connection.addEventListener("heard", () => this.pump());
    store.addEventListener("change", ({ detail }) => this.compare(detail));
  }

  /** @returns {Source|undefined} That sends, or sent, this upload. */
  find(id) {
    let found;
    for (const source of this.items.values()) if (source.id === id && !(found && isOver(source))) found = source;
    return found;
  }

  // ── what a person does ────────────────────────────────────────────────────────────────────────────────────────────

  /** @param {import("./pick.js").Picked[]} picked */
  add(picked) {
    for (const one of picked) {
      const print = fingerprint(one);
      const former = this.lookFor(one, print);
      if (former && former.phase !== "done") {
        this.giveBack(former, one);
      } else { // of one that was sent before is known which upload it is, so it needs no second row until it is read
        const { crcs = null } = this.works.get(former?.localId) ?? {};
        this.begin({ ...newSource(one), id: former?.id ?? null }, { ...newWork(), picked: one, print, crcs });
      }
    }
  }

  /** Although the library has it. */
  sendAnyway(localId) {
    this.when(localId, ["known"], (source, work) => {
      work.agreed = true;
      this.queue(source);
    });
  }

  pause(localId) {
    this.when(localId, ["reading", "waiting", "sending", "known"], (source, work) => {
      this.letGo(source);
      work.paused = true;
      this.set(source, { phase: "paused", problem: null });
      this.save(source);
    });
  }

  resume(localId) {
    this.when(localId, ["paused", "waiting"], (source, work) => {
      if (source.phase === "waiting" && source.problem?.code !== "other_tab") return;
      const steal = ["other_tab", "taken_over"].includes(source.problem?.code);
      this.letGo(source);
      work.paused = false;
      work.steal = steal;
      this.goOn(source);
    });
  }

  /** Ends it, here and on the server. */
  cancel(localId) {
    this.when(localId, null, (source, work) => {
      const ours = !isOver(source) && !["other_tab", "taken_over"].includes(source.problem?.code);
      work.cancelled = ours; // an offer whose answer is still on its way is taken back when it comes
      this.forget(localId);
      if (ours && work.declared) this.remove(source.id);
    });
  }

  retry(localId) {
    this.when(localId, ["failed"], (source, work) => {
      work.attempts = 0;
      work.paused = false;
      if (source.problem?.code === "removed") work.declared = false;
      work.again = work.declared;
      // What arrived was not what was hashed: the file changed under our hands, or its copy here was damaged. Read anew,
      // it may be another upload, which nobody has offered yet.
      if (source.problem?.code === "checksum_mismatch") {
        source.id = null;
        work.declared = false;
      }
      if (source.id === null || !this.isTwin(source)) this.goOn(source);
    });
  }

  /** Not shown any more, and not sent; what the server has stays. */
  forget(localId) {
    this.when(localId, null, (source, work) => {
      this.letGo(source);
      this.items.delete(localId);
      this.works.delete(localId);
      this.giveUp(localId, () => work.giveBack?.());
      this.tell();
      this.advance();
    });
  }

  pauseAll() {
    for (const localId of [...this.items.keys()]) this.pause(localId);
  }

  resumeAll() {
    for (const { localId, phase } of [...this.items.values()]) if (phase === "paused") this.resume(localId);
  }

  cancelAll() {
    for (const source of [...this.items.values()]) if (!isOver(source)) this.cancel(source.localId);
  }

  // ── after a reload ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes up what was being sent when a page of this browser ended. */
  async restore() {
    const left = await this.restoreOnce();
    if (left) this.timers.after(SECOND_LOOK, () => this.restoreOnce());
  }

  async restoreOnce() {
    let left = 0;
    for (const record of await this.keep.all()) {
      if (this.items.has(record.localId)) continue;
      const giveBack = await lock(this.locks, `source ${record.localId}`);
      if (giveBack === null) {
        left += 1; // another tab has it
        continue;
      }
      const newest = await this.keep.get(record.localId); // the tab that had it may have ended it meanwhile
      if (newest === undefined || this.items.has(record.localId)) giveBack();
      else if (Date.now() - newest.added < OLD) await this.takeUp(newest, giveBack);
      else this.giveUp(newest.localId, giveBack);
    }
    return left;
  }

  /** Whether a page that is loaded again finds the file by itself, or after one click. */
  restorable(localId) {
    return Boolean(this.works.get(localId)?.handle);
  }

  /** Asks the person for the file's permission again: only while a click is being handled. */
  async regrant(localId) {
    const source = this.items.get(localId);
    const work = this.works.get(localId);
    if (source?.phase !== "lost" || !work.handle) return false;
    try {
      if ((await work.handle.requestPermission({ mode: "read" })) !== "granted") return false;
    } catch {
      return false;
    }
    work.paused = false;
    await this.findAgain(source);
    return source.phase !== "lost";
  }

  async takeUp(record, giveBack) {
    const { localId, id, name, size, known, handle } = record;
    const source = { localId, id, name, size, phase: "lost", done: 0, problem: null, known, regrant: Boolean(handle) };
    const work = { ...newWork(), ...record, giveBack };
    this.items.set(localId, source);
    this.works.set(localId, work);
    if (handle && (await permitted(handle))) await this.findAgain(source);
    else if (this.items.get(localId) === source) this.lose(source);
    this.compareOne(source);
  }

  /** The file of a handle, if it is the one that was chosen. */
  async findAgain(source) {
    const work = this.works.get(source.localId);
    const found = work && (await fromHandle(work.handle).catch(() => null));
    if (this.items.get(source.localId) !== source || source.phase !== "lost") return; // it went, or came, meanwhile
    if (found === null) this.fail(source, new Problem(GONE, { code: "file_gone" }));
    else if (found.length && fingerprint(found[0]) === work.print) this.giveBack(source, found[0], work.paused);
    else this.fail(source, new Problem(CHANGED, { code: "file_changed" }));
  }

  /** First there is no record any more, then another tab may look for it. */
  giveUp(localId, giveBack) {
    this.keep.delete(localId).then(giveBack);
  }

  lose(source) {
    const work = this.works.get(source.localId);
    const regrant = Boolean(work.handle);
    const sentence = regrant
      ? "The browser wants your permission to read the file again."
      : "The browser has forgotten the file. Choose it again, and it goes on where it was.";
    this.set(source, { phase: "lost", regrant, problem: new Problem(sentence, { code: "file_lost" }) });
  }

  /** A source of this very file, best one that is not sent yet. */
  lookFor(picked, print) {
    const same = ({ localId, name }) => name === picked.name && this.works.get(localId).print === print;
    const found = [...this.items.values()].filter(same);
    return found.find(({ phase }) => phase !== "done") ?? found.at(-1);
  }

  /** The file is there (again). Who chooses it wants it sent, even if it was paused before. */
  giveBack(source, picked, paused = false) {
    const work = this.works.get(source.localId);
    if (!["lost", "failed"].includes(source.phase)) return; // it is there already
    work.paused = paused;
    work.picked = picked;
    work.handle = picked.handle ?? work.handle;
    work.archive = null;
    this.goOn(source);
  }

  // ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

  begin(source, work) {
    const { contenttype, mimetype, annotations, handle = null } = work.picked;
    Object.assign(work, { added: Date.now(), said: { contenttype, mimetype, annotations }, handle });
    this.items.set(source.localId, source);
    this.works.set(source.localId, work);
    lock(this.locks, `source ${source.localId}`).then((giveBack) => {
      work.giveBack = giveBack;
      if (!this.items.has(source.localId)) giveBack?.();
    });
    if (source.size === 0) {
      this.set(source, { phase: "failed", problem: new Problem(EMPTY, { code: "empty" }) });
      return;
    }
    this.save(source);
    this.goOn(source);
  }

  /** To the next thing that has to be done. */
  goOn(source) {
    const work = this.works.get(source.localId);
    if (work.paused) this.set(source, { phase: "paused", problem: null, regrant: false });
    else if (!work.picked) this.lose(source);
    else if (source.id === null || (work.picked.parts && !work.archive)) this.read(source);
    else if (!work.asked) this.ask(source);
    else if (source.known.length && !work.agreed) this.set(source, { phase: "known", problem: null, regrant: false });
    else this.queue(source);
  }

  async read(source) {
    const work = this.works.get(source.localId);
    const ending = new AbortController();
    work.reading = ending;
    this.set(source, { phase: "reading", problem: null, done: 0, regrant: false });
    try {
      const blob = await this.archived(source, work, ending.signal);
      if (source.id === null) {
        const half = work.picked.parts ? 0.5 : 1; // the files of an archive are read twice
        const progress = (done) => this.set(source, { done: Math.floor((1 - half) * source.size + half * done) });
        const id = await this.hashers.sha1(blob, { signal: ending.signal, progress });
        if (ending.signal.aborted) return;
        source.id = id;
      }
    } catch (error) {
      if (ending.signal.aborted) return;
      this.fail(source, problemOf(error));
      return;
    }
    if (ending.signal.aborted) return;
    work.reading = null;
    this.save(source);
    if (this.isTwin(source)) return;
    this.goOn(source);
  }

  /** The bytes: the file, or the archive of a folder. */
  async archived(source, work, signal) {
    const { picked } = work;
    if (!picked.parts) return picked.blob;
    const known = work.crcs ?? {};
    const entries = picked.parts.map(({ path, blob }) => ({ path, blob, crc: known[path] }));
    const crcOf = (blob, how) => this.hashers.crc32(blob, how);
    const progress = (done) => this.set(source, { done: Math.floor(Math.min(done, source.size) / 2) });
    work.archive = await zipOf(entries, progress, { crcOf, signal });
    work.crcs = Object.fromEntries(entries.map(({ path, crc }) => [path, crc]));
    this.set(source, { size: work.archive.size });
    return work.archive;
  }

  /** Whether the same bytes are under way already; then this one has nothing to do. */
  isTwin(source) {
    for (const other of this.items.values()) {
      if (other === source || other.id !== source.id || other.phase === "done") continue;
      const work = this.works.get(source.localId);
      if (["lost", "failed"].includes(other.phase) && other.name === source.name) {
        Object.assign(this.works.get(other.localId), { print: work.print, crcs: work.crcs });
        this.forget(source.localId);
        this.giveBack(other, work.picked);
      } else if (other.phase === "failed") {
        this.forget(other.localId);
        return false;
      } else {
        const sentence = `It has the same content as “${other.name}”, which is here already. Nothing has to be done.`;
        this.fail(source, new Problem(sentence, { code: "same_content" }));
      }
      return true;
    }
    return false;
  }

  /** Whether the library has it already. */
  async ask(source) {
    const work = this.works.get(source.localId);
    const { run } = work;
    if (work.agreed || this.store.uploads.get(source.id)?.state === "waitforchunk") {
      work.asked = true;
      this.queue(source);
      return;
    }
    try {
      ({ known: source.known } = await this.api.get(`api/known/${source.id}`));
    } catch (error) {
      if (work.run !== run) return;
      if (error.code === "connection_lost" || error.status === 401 || error.status === 503) {
        this.set(source, { phase: "waiting", problem: null });
        work.asking = true;
        work.offering = this.timers.after(LOOK, () => this.askAgain(source));
        return;
      }
      source.known = []; // it was to be advice only
    }
    if (work.run !== run) return;
    work.asked = true;
    this.goOn(source);
    this.save(source);
  }

  askAgain(source) {
    const work = this.works.get(source.localId);
    if (!work?.asking) return;
    work.offering();
    work.asking = false;
    this.ask(source);
  }

  // ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  queue(source) {
    const work = this.works.get(source.localId);
    work.turn = ++this.turn;
    this.set(source, { phase: "waiting", problem: null, done: this.onRecord(source), regrant: false });
    this.save(source);
    this.advance();
  }

  advance() {
    if (this.connection.status !== "live") return;
    const waiting = [];
    let sending = 0;
    for (const source of this.items.values()) {
      const work = this.works.get(source.localId);
      if (source.phase === "sending" || work.starting) sending += 1;
      else if (source.phase === "waiting" && !work.blocked && !work.asking) waiting.push([work.turn, source]);
    }
    waiting.sort(([a], [b]) => a - b);
    for (const [, source] of waiting.slice(0, Math.max(0, SENDING - sending))) this.start(source);
  }

  async start(source) {
    const work = this.works.get(source.localId);
    work.starting = true;
    const steal = work.steal;
    work.steal = false;
    const run = (work.run = {}); // what was begun before the last pause means nothing any more
    if (!work.unlock) {
      const lost = () => work.run === run && this.stand(source, "taken_over", TAKEN_OVER);
      const unlock = await lock(this.locks, `upload ${source.id}`, { steal, lost });
      if (work.run !== run) {
        unlock?.();
        return;
      }
      if (unlock === null) {
        work.starting = false;
        this.waitForTab(source);
        return;
      }
      work.unlock = unlock;
    }
    work.starting = false;
    this.set(source, { phase: "sending", problem: null });
    this.offer(source);
  }

  /** Goes on when the tab that sends it ends, and without the file having come whole. */
  async waitForTab(source) {
    const work = this.works.get(source.localId);
    const ending = new AbortController();
    work.blocked = ending;
    this.set(source, { problem: new Problem(OTHER_TAB, { code: "other_tab" }) });
    this.advance();
    const run = work.run;
    const lost = () => work.run === run && this.stand(source, "taken_over", TAKEN_OVER);
    const unlock = await lock(this.locks, `upload ${source.id}`, { wait: ending.signal, lost });
    if (ending.signal.aborted || work.run !== run) {
      unlock?.();
      return;
    }
    work.blocked = null;
    work.unlock = unlock;
    this.set(source, { problem: null });
    this.advance();
  }

  /** Makes this connection the one that is asked for the upload. Both ways may be repeated. */
  async offer(source) {
    const work = this.works.get(source.localId);
    const { run } = work;
    work.handleNumber = null;
    work.asks = [];
    work.since = this.timers.now();
    work.sent = 0;
    run.done = 0;
    this.watch();
    const { contenttype = "video", mimetype = "application/octet-stream", annotations = {} } = work.said;
    const offer = { filename: source.name, contenttype, mimetype, annotations, filesize: source.size, sha1: source.id };
    try {
      if (work.again && this.store.uploads.get(source.id)?.state === "uploadfailed") {
        await this.connection.request("retry", { uploadid: source.id });
      }
      const type = work.declared ? "claim" : "initiate";
      const { task } = await this.connection.request(type, { uploadid: offer.sha1, ...(work.declared ? {} : offer) });
      if (!work.declared && source.id === offer.sha1) {
        work.declared = true; // whatever was said here meanwhile
        this.save(source);
        if (work.cancelled) this.remove(source.id);
      }
      if (work.run !== run) return;
      work.again = false;
      this.judge(source.id, task);
    } catch (error) {
      if (work.run === run) await this.refused(source, problemOf(error));
    }
  }

  async refused(source, problem) {
    const work = this.works.get(source.localId);
    const { code } = problem;
    if (code === "connection_lost") return; // `follow` offers it again
    if (code === "not_found" && work.declared) this.gone(source);
    else if (code === "wrong_state" || code === "duplicate") await this.compareWithServer(source, problem);
    else if (code === "removing") this.again(source, SOON, null);
    else if (["storage_full", "storage_error", "in_use", "conflict"].includes(code)) this.again(source, LATER, problem);
    else if (code === "taken_over") this.stand(source, code, TAKEN_OVER);
    else this.fail(source, problem);
  }

  /** The id is there with another declaration, or the upload is further than was known. */
  async compareWithServer(source, problem) {
    const work = this.works.get(source.localId);
    const { run } = work;
    let task;
    try {
      task = await this.store.task(source.id);
    } catch (error) {
      if (work.run === run) this.again(source, SOON, error.code === "not_found" ? null : problemOf(error));
      return;
    }
    if (work.run !== run) return;
    const same = task.sourcechecksum === source.id && task.filesize === source.size;
    if (!same || (!work.declared && task.contenttype !== work.said.contenttype)) {
      const sentence = `The server has this file as “${task.sourcefilename}” (${task.contenttype}). Look at that upload.`;
      this.fail(source, same ? new Problem(sentence, { code: "duplicate" }) : problem);
      return;
    }
    // The same bytes under another name: one upload is enough.
    work.declared = true;
    this.save(source);
    if (task.state !== "waitforchunk") this.judge(source.id, task);
    else this.again(source, 0, null);
  }

  again(source, wait, problem) {
    const work = this.works.get(source.localId);
    const { run } = work;
    work.attempts += 1;
    if (work.attempts > ATTEMPTS && wait < LATER) {
      this.fail(source, problem ?? new Problem("The server did not take it up. Retry in a while.", { code: "no_luck" }));
      return;
    }
    this.set(source, { problem });
    const pause = wait * Math.min(work.attempts, 5);
    work.offering = this.timers.after(pause, () => {
      if (work.run === run && source.phase === "sending" && this.connection.status === "live") this.offer(source);
    });
  }

  /** It waits until a person says who is to send it; a reload is not that. */
  stand(source, code, sentence) {
    this.letGo(source);
    this.works.get(source.localId).paused = true;
    this.set(source, { phase: "paused", problem: new Problem(sentence, { code }) });
    this.save(source);
    this.advance();
  }

  fail(source, problem) {
    this.letGo(source);
    this.set(source, { phase: "failed", problem });
    // After a reload it would only fail again.
    if (HOPELESS.has(problem.code)) this.keep.delete(source.localId);
    this.advance();
  }

  gone(source) {
    this.fail(source, new Problem(REMOVED, { code: "removed" }));
  }

  /** Whatever is under way for it ends. */
  letGo(source) {
    const work = this.works.get(source.localId);
    const sending = source.phase === "sending";
    work.run = {};
    work.reading?.abort();
    work.blocked?.abort();
    work.offering?.();
    work.unlock?.();
    Object.assign(work, {
      reading: null, blocked: null, offering: null, unlock: null, starting: false, asking: false, asks: [],
      answering: null, buffer: null,
    });
    if (sending && work.handleNumber !== null) {
      work.handleNumber = null;
      this.connection.request("release", { uploadid: source.id }).catch(() => {}); // a lost connection releases it too
    }
  }

  async remove(id) {
    try {
      await this.connection.request("remove", { uploadid: id });
    } catch {
      try {
        await this.api.del(`api/uploads/${id}`);
      } catch {
        // It stays on the board, where it can be removed.
      }
    }
  }

  // ── sending ───────────────────────────────────────────────────────────────────────────────────────────────────────

  follow() {
    const live = this.connection.status === "live";
    for (const source of [...this.items.values()]) {
      const work = this.works.get(source.localId);
      if (!live) {
        work.handleNumber = null;
        work.asks = [];
      } else if (source.phase === "sending") {
        work.offering?.();
        work.attempts = 0;
        this.offer(source);
      } else {
        this.askAgain(source);
      }
    }
    if (live) this.advance();
  }

  asked({ uploadid, handle, offset, length }) {
    for (const source of this.items.values()) {
      if (source.id !== uploadid || source.phase !== "sending") continue;
      const work = this.works.get(source.localId);
      if (work.handleNumber !== handle) work.asks = [];
      work.handleNumber = handle;
      work.attempts = 0;
      work.since = this.timers.now();
      work.asks.push({ handle, offset, length });
      if (source.problem) this.set(source, { problem: null });
    }
  }

  stopped({ handle, code, sentence }) {
    const source = [...this.items.values()].find((one) => this.works.get(one.localId).handleNumber === handle);
    if (source?.phase !== "sending") return; // of a chunk that was on its way when it was stopped before
    const work = this.works.get(source.localId);
    work.handleNumber = null;
    work.asks = [];
    if (code === "taken_over") this.stand(source, code, TAKEN_OVER);
    else if (code === "wrong_state") this.compareWithServer(source, new Problem(sentence, { code }));
    else if (code === "short_chunk" || code === "declared" || code === "claimed_again") return; // it is asked anew
    else if (code === "storage_full" || code === "storage_error") this.again(source, LATER, new Problem(sentence, { code }));
    else this.again(source, SOON, null);
  }

  /** Answers what was asked for, one slice at a time for each, while the socket takes it. */
  pump() {
    for (const source of this.items.values()) {
      const work = this.works.get(source.localId);
      if (source.phase === "sending" && work.asks.length && !work.answering) this.answer(source, work);
    }
  }

  async answer(source, work) {
    const mine = (work.answering = {});
    try {
      while (work.answering === mine && work.asks.length && this.connection.bufferedAmount < BUFFER) {
        const wanted = work.asks.shift();
        const blob = work.archive ?? work.picked.blob;
        const end = Math.min(wanted.offset + wanted.length, blob.size);
        const buffer = work.buffer?.byteLength >= end - wanted.offset ? work.buffer : new ArrayBuffer(wanted.length);
        work.buffer = null;
        const bytes = await bytesOf(blob.slice(wanted.offset, end), buffer);
        if (work.answering !== mine) return; // it was let go, or took so long that another one reads
        work.buffer = bytes.buffer;
        if (work.handleNumber !== wanted.handle) continue;
        this.connection.chunk(wanted.handle, wanted.offset, bytes);
        work.sent = end;
        work.since = this.timers.now();
        this.progress(source, work);
      }
    } catch {
      if (work.answering === mine) this.fail(source, changedProblem());
    } finally {
      if (work.answering === mine) work.answering = null;
    }
    // Nothing may be heard for a while when all that was asked for waits in the socket.
    if (work.asks.length && source.phase === "sending" && !work.waiting) {
      work.waiting = true;
      this.timers.after(50, () => {
        work.waiting = false;
        this.pump();
      });
    }
  }

  /** What has left this machine, or what the server has if that is more. */
  progress(source, work) {
    const left = Math.max(0, work.sent - this.connection.bufferedAmount);
    const done = Math.min(source.size, Math.max(left, this.onRecord(source), work.run.done ?? 0));
    work.run.done = done;
    this.set(source, { done });
  }

  onRecord(source) {
    const line = this.store.uploads.get(source.id);
    return line?.state === "waitforchunk" ? line.offset : 0;
  }

  /** A client that waits to be asked, and hears nothing, claims again; one that a browser lets wait for its file, too. */
  watch() {
    if (this.looking) return;
    this.looking = this.timers.after(LOOK, () => {
      this.looking = null;
      let sending = false;
      for (const source of [...this.items.values()]) {
        if (source.phase !== "sending") continue;
        sending = true;
        const work = this.works.get(source.localId);
        const stuck = this.timers.now() - work.since > STUCK && !this.connection.bufferedAmount;
        if (!stuck || this.connection.status !== "live" || source.problem) continue;
        work.answering = null;
        this.offer(source);
      }
      if (sending) this.watch();
    });
  }

  // ── what the server says ──────────────────────────────────────────────────────────────────────────────────────────

  compare({ changed, added, removed }) {
    for (const source of [...this.items.values()]) {
      if (source.id === null) continue;
      if (changed.has(source.id) || added.has(source.id) || removed.has(source.id)) this.compareOne(source);
    }
    if (this.store.ready && !this.compared) {
      this.compared = true;
      for (const source of [...this.items.values()]) this.compareOne(source);
    }
  }

  compareOne(source) {
    const work = this.works.get(source.localId);
    if (!work || source.id === null || !work.declared) return;
    const line = this.store.uploads.get(source.id);
    if (line) this.judge(source.id, line);
    else if (this.store.ready && this.connection.status === "live" && !isOver(source)) this.missing(source);
  }

  /** The list is made at another moment than what is heard: it is looked for by its name before anybody is alarmed. */
  async missing(source) {
    const work = this.works.get(source.localId);
    const { run } = work;
    try {
      const task = await this.store.task(source.id);
      if (task.state !== "remove") return;
    } catch (error) {
      if (error.status !== 404) return;
    }
    if (work.run !== run || this.items.get(source.localId) !== source) return;
    if (source.phase === "lost") this.forget(source.localId); // nobody misses it
    else if (["sending", "waiting", "paused"].includes(source.phase)) this.gone(source);
  }

  /** @param {object} task A whole one, or a line of the list. */
  judge(id, task) {
    for (const source of [...this.items.values()]) {
      const work = this.works.get(source.localId);
      if (source.id !== id || !work.declared || isOver(source) || isOlder(task, work.last)) continue;
      work.last = { uid: task.uid, revision: task.revision, created: task.created };
      if (task.findings) source.task = task;
      if (task.state === "waitforchunk") {
        if (source.phase === "sending") this.progress(source, work);
        else if (source.phase !== "reading") this.set(source, { done: task.offset });
      } else if (task.state === "uploadfailed") {
        this.fail(source, new Problem(task.message ?? "The upload failed.", { code: task.code ?? "uploadfailed" }));
      } else if (task.state === "remove") {
        this.missing(source);
      } else {
        this.finish(source); // whatever comes then is the card's
      }
    }
  }

  finish(source) {
    this.letGo(source);
    this.set(source, { phase: "done", problem: null, done: source.size, regrant: false });
    const work = this.works.get(source.localId);
    Object.assign(work, { picked: null, archive: null, handle: null });
    this.giveUp(source.localId, () => work.giveBack?.());
    this.advance();
  }

  // ── all together ──────────────────────────────────────────────────────────────────────────────────────────────────

  when(localId, phases, act) {
    const source = this.items.get(localId);
    if (source && (phases === null || phases.includes(source.phase))) act(source, this.works.get(localId));
  }

  set(source, what) {
    if (this.items.get(source.localId) !== source) return;
    Object.assign(source, what);
    this.tell();
  }

  save(source) {
    const work = this.works.get(source.localId);
    if (!work || isOver(source)) return;
    const { handle, print, crcs, said, paused, agreed, asked, declared, added } = work;
    const { localId, id, name, size, known } = source;
    this.keep.put({
      localId, id, name, size, known, handle, print, crcs, said, paused, agreed, asked, declared, added,
    });
  }
}

function isOver(source) {
  return source.phase === "done" || source.phase === "failed";
}

function newSource({ name, blob, parts }) {
  const size = parts ? parts.reduce((sum, part) => sum + part.blob.size, 0) : blob.size;
  return { localId: localId(), id: null, name, size, phase: "reading", done: 0, problem: null, known: [], regrant: false };
}

/** Whether more is known already: the list, notices and answers take different ways. */
function isOlder(task, last) {
  if (last === null) return false;
  return task.uid === last.uid ? task.revision < last.revision : task.created < last.created;
}

function newWork() {
  return {
    picked: null, handle: null, print: "", archive: null, crcs: null, giveBack: null, unlock: null, run: {}, reading: null,
    blocked: null, offering: null, starting: false, asking: false, paused: false, agreed: false, asked: false,
    declared: false, cancelled: false, steal: false, attempts: 0, turn: 0, handleNumber: null, asks: [], answering: null,
    waiting: false, sent: 0, since: 0, added: 0, buffer: null, said: {}, again: false, last: null,
  };
}

/** By this a file is known again: where it is, nobody tells a page. */
function fingerprint({ blob, parts }) {
  const one = (file) => `${file.size} ${file.lastModified ?? ""}`;
  if (!parts) return one(blob);
  return parts.map(({ path, blob: file }) => `${path} ${one(file)}`).sort().join("\n");
}

/** Not a secret; `randomUUID` is there on pages of https only. */
function localId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function permitted(handle) {
  try {
    return (await handle.queryPermission({ mode: "read" })) === "granted";
  } catch {
    return false;
  }
}
