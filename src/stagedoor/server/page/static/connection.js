// The WebSocket in our own dialect (docs/asyncapi.json), version 1, which stays connected by itself.

import { Problem, connectionLost } from "./api.js";
import { clock } from "./pace.js";

const VERSION = 1;
const WINDOW = 8;
const CHUNK = 0x11; // version and kind of a binary frame
const HEADER = 13;
const FIRST_WAIT = 500; // milliseconds, doubled with each attempt that fails
const LONGEST_WAIT = 20000;
const HELLO = 10000; // so long a server may take to say welcome
const SILENT = 3; // heartbeats that may be missed
const GRACE = 1000;

/**
 * Events: "status"; "notice", "progress", "ask", "stop" with the message as `detail`; "heard" with every message.
 */
export class Connection extends EventTarget {
  /**
   * @param {object} tools
   * @param {string} [tools.url] Of the WebSocket; beside the page when not given.
   * @param {string} [tools.key] The API key; may be set later, before `open`.
   * @param {typeof WebSocket} [tools.WebSocket]
   * @param {import("./pace.js").Clock} [tools.timers]
   * @param {() => number} [tools.random]
   */
  constructor({ url = beside(), key = "", WebSocket = globalThis.WebSocket, timers = clock, random = Math.random } = {}) {
    super();
    this.url = url;
    this.key = key;
    this.limits = null;
    this.status = "connecting";
    this.problem = null;
    this.WebSocket = WebSocket;
    this.timers = timers;
    this.random = random;
    this.socket = null;
    this.failures = 0;
    this.wanted = false;
    this.number = 0;
    this.pending = new Map();
    this.frame = new Uint8Array(0);
    this.heard = 0;
    this.stopWaiting = () => {};
    this.stopWatching = () => {};
    // The browser knows of a network, or of a reader, before a timer ends; timers of hidden tabs are slow besides.
    globalThis.addEventListener?.("online", () => this.hurry());
    globalThis.addEventListener?.("pageshow", () => this.hurry());
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  /** Connects, or connects anew with another key. */
  open() {
    this.wanted = true;
    this.failures = 0;
    this.drop();
    this.connect();
  }

  /** Ends it; `open` starts it again. */
  close() {
    this.wanted = false;
    this.drop();
    this.set("offline");
  }

  /** Bytes that wait to be sent. */
  get bufferedAmount() {
    return this.socket?.bufferedAmount ?? 0;
  }

  /**
   * @param {string} type Of a message with a number, such as "initiate".
   * @param {object} [members]
   * @returns {Promise<object>} The "done" or "tasks" that answers it.
   * @throws {Problem} `connection_lost` when it broke before the answer: what is idempotent can be asked again.
   */
  request(type, members = {}) {
    if (this.status !== "live") return Promise.reject(connectionLost());
    const n = ++this.number;
    return new Promise((resolve, reject) => {
      this.pending.set(n, { resolve, reject });
      this.socket.send(JSON.stringify({ ...members, type, n }));
    });
  }

  /** Answers an "ask"; whoever breaks meanwhile is asked anew. @param {ArrayBuffer|Uint8Array} bytes Copied. */
  chunk(handle, offset, bytes) {
    if (this.status !== "live") return;
    const size = HEADER + bytes.byteLength;
    // `send` copies, so one buffer is enough: see reading.js.
    if (this.frame.length < size) this.frame = new Uint8Array(size);
    const view = new DataView(this.frame.buffer);
    view.setUint8(0, CHUNK);
    view.setUint32(1, handle);
    view.setBigUint64(5, BigInt(offset));
    this.frame.set(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes), HEADER);
    this.socket.send(this.frame.subarray(0, size));
  }

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  connect() {
    this.stopWaiting();
    if (this.failures === 0) this.set("connecting");
    let socket;
    try {
      socket = new this.WebSocket(this.url);
    } catch {
      this.broke();
      return;
    }
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    const mine = (call) => (event) => this.socket === socket && call(event);
    socket.onopen = mine(() => {
      socket.send(JSON.stringify({ type: "hello", version: VERSION, key: this.key || null, window: WINDOW }));
    });
    socket.onmessage = mine((event) => this.take(event.data));
    socket.onclose = mine((event) => this.broke(event));
    this.heard = this.timers.now();
    this.watch(HELLO);
  }

  /** Gives up the socket without waiting for anybody, and tells all who wait for an answer. */
  drop() {
    this.stopWaiting();
    this.stopWatching();
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    const lost = [...this.pending.values()];
    this.pending.clear();
    for (const { reject } of lost) reject(connectionLost());
  }

  broke(event) {
    if (event?.reason) this.problem = new Problem(event.reason, { code: `closed_${event.code}` });
    this.drop();
    if (!this.wanted || this.status === "key") return;
    this.set(this.status === "live" ? "connecting" : "offline"); // a short break is nothing to talk about
    const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.failures);
    this.failures += 1;
    // All pages of a server that restarts would come back in the same moment.
    this.stopWaiting = this.timers.after(longest * (0.5 + this.random() / 2), () => this.connect());
  }

  /** Somebody looks, or there is a network again. */
  hurry() {
    if (!this.wanted || this.status === "key") return;
    if (this.socket === null) this.connect();
    else if (this.status === "live") this.look();
  }

  watch(longest) {
    this.stopWatching();
    this.longest = longest;
    this.stopWatching = this.timers.after(longest / SILENT, () => this.look());
  }

  look() {
    const silent = () => this.timers.now() - this.heard > this.longest;
    if (!silent()) {
      this.watch(this.longest);
      return;
    }
    // After sleep the timer may come before the messages that wait.
    this.stopWatching();
    this.stopWatching = this.timers.after(GRACE, () => (silent() ? this.broke() : this.watch(this.longest)));
  }

  set(status) {
    if (this.status === status) return;
    this.status = status;
    this.dispatchEvent(new CustomEvent("status", { detail: status }));
  }

  // ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────

  take(text) {
    this.heard = this.timers.now();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return; // not a server of ours; the watchdog notices if nothing else comes
    }
    const { type } = message;
    if (type === "welcome") this.welcome(message);
    else if (type === "done" || type === "tasks") this.settle(message.n, ({ resolve }) => resolve(message));
    else if (type === "error") this.refused(message);
    else if (["notice", "progress", "ask", "stop"].includes(type)) {
      this.dispatchEvent(new CustomEvent(type, { detail: message }));
    }
    this.dispatchEvent(new CustomEvent("heard", { detail: message }));
  }

  welcome(message) {
    this.limits = message;
    this.failures = 0;
    this.problem = null;
    this.watch(Math.max(4000, message.heartbeat * 1000 * SILENT));
    this.set("live");
  }

  settle(n, how) {
    const waiting = this.pending.get(n);
    this.pending.delete(n);
    if (waiting) how(waiting);
  }

  refused({ n, code, sentence, argument, guard, expected }) {
    const problem = new Problem(sentence, { code, argument, guard, expected });
    if (this.pending.has(n)) {
      this.settle(n, ({ reject }) => reject(problem));
      return;
    }
    this.problem = problem;
    if (code === "unauthorized") {
      this.drop();
      this.set("key");
    }
  }
}

/** The address beside the page, below whatever mount it has. */
function beside() {
  return globalThis.document ? new URL("ws", document.baseURI).href.replace(/^http/, "ws") : "";
}
