// Server-Sent Events read with fetch: EventSource cannot send a key in a header, and a key has no place in an address.
// Source: WHATWG HTML, sections 9.2.5 and 9.2.6.

/** Takes text as it comes, in whatever pieces, and calls `heard` with each event: {id, type, data}. */
export class EventParser {
  constructor(heard) {
    this.heard = heard;
    this.id = "";
    this.retry = null;
    this.rest = "";
    this.clear();
  }

  clear() {
    this.type = "";
    this.data = [];
  }

  push(text) {
    this.rest += text;
    for (;;) {
      const found = /\r\n|\n|\r(?!$)/.exec(this.rest);
      if (found === null) return;
      const line = this.rest.slice(0, found.index);
      this.rest = this.rest.slice(found.index + found[0].length);
      this.line(line);
    }
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.heard({ id: this.id, type: this.type || "message", data: this.data.join("\n") });
      this.clear();
      return;
    }
    const at = line.indexOf(":");
    if (at === 0) return;
    const name = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
    if (name === "event") this.type = value;
    else if (name === "data") this.data.push(value);
    else if (name === "id" && !value.includes("\0")) this.id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }
}

/** Reads the stream once; returns the last id when it ends. `alive` is called whenever anything comes. */
export async function readEvents(url, { headers, lastId, heard, opened, alive, signal }) {
  const asked = { ...headers, Accept: "text/event-stream" };
  if (lastId) asked["Last-Event-ID"] = lastId;
  const answer = await fetch(url, { headers: asked, signal, cache: "no-store" });
  if (!answer.ok) throw Object.assign(new Error(answer.statusText), { status: answer.status });
  opened();
  const parser = new EventParser(heard);
  parser.id = lastId;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return parser.id;
    alive();
    parser.push(value);
  }
}
