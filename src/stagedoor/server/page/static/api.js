// The HTTP API: JSON both ways, and pictures that need the key.

/** What went wrong: `message` is a sentence that says what to do, `code` is for programs, `status` that of HTTP or 0. */
export class Problem extends Error {
  constructor(sentence, { status = 0, code = "", ...more } = {}) {
    super(sentence);
    this.name = "Problem";
    this.status = status;
    this.code = code;
    Object.assign(this, more);
  }
}

/** Any error as a `Problem`. */
export function problemOf(error) {
  if (error instanceof Problem) return error;
  return new Problem(`Something went wrong in this page: ${error?.message ?? error}. Reload it.`, { code: "page" });
}

/** Of a request that was cut off, or never got through; the connection tells when to try again. */
export function connectionLost() {
  return new Problem("The server cannot be reached at the moment. Wait, or look at your network.", {
    code: "connection_lost",
  });
}

export class Api {
  /** @param {{key?: string, fetch?: typeof fetch}} tools `key` may be set later as well. */
  constructor({ key = "", fetch = globalThis.fetch.bind(globalThis) } = {}) {
    this.key = key;
    this.fetch = fetch;
  }

  /** @param {string} path Relative to the page, as all paths here. @returns {Promise<any>} */
  get(path) {
    return this.ask("GET", path);
  }

  post(path, body = {}) {
    return this.ask("POST", path, body);
  }

  patch(path, body) {
    return this.ask("PATCH", path, body);
  }

  del(path) {
    return this.ask("DELETE", path);
  }

  /** A picture as the address of a blob, which the caller revokes. @returns {Promise<string>} */
  async picture(path) {
    const answer = await this.send("GET", path);
    try {
      return URL.createObjectURL(await answer.blob());
    } catch {
      throw connectionLost();
    }
  }

  async ask(method, path, body) {
    const answer = await this.send(method, path, body);
    if (answer.status === 204) return null;
    let text;
    try {
      text = await answer.text();
    } catch {
      throw connectionLost();
    }
    try {
      return text === "" ? null : JSON.parse(text);
    } catch {
      throw notOurs(answer.status);
    }
  }

  async send(method, path, body) {
    const headers = {};
    if (this.key) headers.Authorization = `Bearer ${this.key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await this.fetch(path, {
        method,
        headers,
        cache: "no-store",
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch {
      throw connectionLost();
    }
    if (!answer.ok) throw await problemIn(answer);
    return answer;
  }
}

async function problemIn(answer) {
  let said;
  try {
    said = await answer.json();
  } catch {
    return notOurs(answer.status); // A proxy may answer with something else.
  }
  return new Problem(said?.detail || `The server answered with ${answer.status}.`, {
    status: answer.status,
    code: said?.code ?? "",
    guard: said?.guard ?? null,
  });
}

function notOurs(status) {
  return new Problem(`Something between here and the server answered with ${status}. Try again in a moment.`, {
    status,
    code: "not_ours",
  });
}
