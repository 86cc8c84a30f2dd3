// A few workers that hash files; whoever comes when all are busy waits.

import { Problem } from "./api.js";

const WORKERS = 2;

/** Of a file that cannot be read any more as it was chosen. */
export function changedProblem() {
  return new Problem("The file was changed, moved or deleted while it was read. Choose it again.", {
    code: "file_changed",
  });
}

export class Hashers {
  /** @param {{size?: number, make?: () => Worker}} tools How many at a time, and how one is made. */
  constructor({ size = WORKERS, make = makeWorker } = {}) {
    this.size = size;
    this.make = make;
    this.idle = [];
    this.busy = 0;
    this.queue = [];
    this.job = 0;
  }

  /**
   * @param {Blob} blob
   * @param {{signal?: AbortSignal, progress?: (done: number) => void}} [how]
   * @returns {Promise<string>} 40 hexadecimal digits.
   * @throws {Problem} `file_changed`, `stopped`, `page`.
   */
  sha1(blob, how = {}) {
    return this.sum("sha1", blob, how);
  }

  /** As `sha1`. @returns {Promise<number>} */
  crc32(blob, how = {}) {
    return this.sum("crc32", blob, how);
  }

  async sum(kind, blob, { signal, progress = () => {} }) {
    await this.enter(signal);
    let worker = null;
    try {
      worker = this.idle.pop() ?? this.make();
      return await this.run(worker, kind, blob, signal, progress);
    } catch (error) {
      if (error.code === "page") {
        worker?.terminate(); // one that failed is not asked again
        worker = null;
      }
      throw error;
    } finally {
      if (worker) this.idle.push(worker);
      this.leave();
    }
  }

  async enter(signal) {
    if (signal?.aborted) throw stopped();
    if (this.busy < this.size) {
      this.busy += 1;
      return;
    }
    await new Promise((resolve, reject) => {
      const gone = () => {
        this.queue.splice(this.queue.indexOf(turn), 1);
        reject(stopped());
      };
      const turn = () => {
        signal?.removeEventListener("abort", gone);
        resolve();
      };
      this.queue.push(turn);
      signal?.addEventListener("abort", gone);
    });
  }

  /** The place goes to whoever waits. */
  leave() {
    const turn = this.queue.shift();
    if (turn) turn();
    else this.busy -= 1;
  }

  run(worker, kind, blob, signal, progress) {
    const job = ++this.job;
    return new Promise((resolve, reject) => {
      const stop = () => worker.postMessage({ job, stop: true });
      const end = (settle, value) => {
        signal?.removeEventListener("abort", stop);
        worker.onmessage = worker.onerror = null;
        settle(value);
      };
      worker.onmessage = ({ data }) => {
        if (data.job !== job) return;
        if (data.done !== undefined) progress(data.done);
        else if (data.changed) end(reject, changedProblem());
        else if (data.failed) end(reject, broken(data.failed));
        else if (data.result === null) end(reject, stopped());
        else end(resolve, data.result);
      };
      worker.onerror = (event) => end(reject, broken(event.message ?? "the worker does not start"));
      signal?.addEventListener("abort", stop);
      worker.postMessage({ job, kind, blob });
    });
  }
}

function stopped() {
  return new Problem("Reading was stopped.", { code: "stopped" });
}

function broken(why) {
  return new Problem(`The file cannot be read in this page: ${why}. Reload the page and choose it again.`, {
    code: "page",
  });
}

// The policy of the page lets no string become code, but for what this makes: the address of one file.
const policy = globalThis.trustedTypes?.createPolicy("stagedoor-worker", {
  createScriptURL: () => new URL("hasher.js", import.meta.url).href,
});

function makeWorker() {
  return new Worker(policy ? policy.createScriptURL("") : new URL("hasher.js", import.meta.url), { type: "module" });
}
