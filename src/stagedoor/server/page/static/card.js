// One upload: what it is, what is wrong and what comes next, where its files go, and its life. It follows the store, and
// whatever changes, the focus, what is typed and what is open stay where they are.

import "./album.js";
import "./annotate.js";
import "./life.js";
import "./plan.js";
import { summary } from "./album.js";
import { inWords, labels, questionsOf } from "./annotate.js";
import { confirm } from "./dialog.js";
import { el, say } from "./dom.js";
import { bytes, percent, playing, share, span, speed, state, STATES } from "./format.js";
import { icon } from "./icons.js";
import { artworkPath, count, keyed, pictures, reveal } from "./parts.js";

const PLANNING = new Set(["preprocessed", "integrationfailed"]);
const TYPES = { video: "Music video", album: "Album", artwork: "Cover" };
const MINUTE = 60_000; // what is said of times ("2 minutes ago"), and of the library, grows old

// ── what is said ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** What people call it; the file's name as long as nobody knows more. */
export function titleOf(task) {
  const { annotations, content, contenttype, sourcefilename } = task;
  const known = (key) => annotations[key] ?? content.guess?.[key] ?? "";
  const song = contenttype === "album" && content.tracks?.length === 1 ? content.tracks[0].title : "";
  const what = contenttype === "video" ? known("name") : song || known("albumname");
  const title = [known("artistname"), what].map((text) => String(text).trim()).filter(Boolean);
  return title.length === 2 ? title.join(" – ") : sourcefilename;
}

/** The state in plain words, and its look; finer than the board's, because here everything is known. */
function standing(task, facts) {
  const known = state(task.state);
  if (task.wanted === "undo") return { text: "Being taken back", look: "working" };
  if (task.state !== "preprocessed") return known;
  if (task.wanted) return { text: "Being placed", look: "working" };
  if (facts.questions.some(({ open }) => open)) return { text: "Has a question", look: "asking" };
  if (facts.rejects.length) return { text: "Something is missing", look: "asking" };
  return known;
}

/** The four things that happen, and how far it is: "done", "now", "failed" or "". */
function phases(task) {
  const at = {
    waitforchunk: 0, uploadfailed: 0, uploadcomplete: 1, invalidcontent: 1, preprocessed: 2, integrationfailed: 2,
    integrated: 3, startimport: 3, importfailed: 3, importartwork: 3, importcomplete: 4,
  }[task.state] ?? -1;
  const failed = state(task.state).look === "failed";
  return ["Send", "Check", "Place", "Import"].map((text, index) => {
    const how = index < at ? "done" : index === at ? (failed ? "failed" : "now") : "";
    return { text, how };
  });
}

const STATE_NAMES = new RegExp(`\\b(${Object.keys(STATES).filter((name) => name !== "remove").join("|")})\\b`, "g");

/** A sentence with the states as they are called here. */
function plainly(sentence, contenttype) {
  return inWords(sentence.replace(STATE_NAMES, (name) => `“${state(name).text}”`), contenttype);
}

/** What happened and what comes, without what is said elsewhere on the card. */
function told(task, facts) {
  const { explanation } = facts;
  if (!explanation || task.state === "waitforchunk") return { why: [], next: [] };
  const elsewhere = [...task.findings, ...facts.problems].map(({ sentence }) => sentence.replace(/\.$/, ""));
  const new_ = (sentence) => !elsewhere.some((other) => sentence.includes(other)) && !(task.message && sentence.includes(task.message.replace(/\.$/, "")));
  // Where nothing is due, the first sentence says only that it waits; what to do is on the buttons.
  const next = explanation.due ? explanation.next : explanation.next.slice(1);
  return { why: explanation.why.filter(new_), next: next.filter(new_) };
}

/** What is to be done by a person now, in one sentence. */
function advice(task, facts, source) {
  if (task.wanted || facts.explanation?.due) return "";
  const open = facts.questions.filter((question) => question.open).length;
  switch (task.state) {
    case "waitforchunk":
      if (!source) return "It is not sent from here. To go on from here, choose the same file: nothing that has arrived is sent twice.";
      if (source.problem) return source.problem.message;
      return { paused: "It is paused.", lost: "This page does not hold the file any more. Choose it again: nothing that has arrived is sent twice." }[source.phase] ?? "";
    case "preprocessed":
    case "integrationfailed":
      if (open) return open === 1 ? "It has a question that only you can answer." : `It has ${open} questions that only you can answer.`;
      if (facts.rejects.length) return "It cannot be imported yet. This is in its way:";
      return task.state === "preprocessed" ? "It is fine. Have a look at where its files will go, then import it." : "What was in its way may be mended: try again.";
    case "uploadfailed":
      return "Send it again from its first byte.";
    case "invalidcontent":
      return "Choose another copy of the file. If the reason was on the server, have it looked at once more.";
    case "integrated":
      return "Its files are in the music directory; the catalogue does not know them yet.";
    default:
      return "";
  }
}

// ── what it is ───────────────────────────────────────────────────────────────────────────────────────────────────────

const CODECS = { h264: "H.264", hevc: "H.265", vp8: "VP8", vp9: "VP9", av1: "AV1", mpeg4: "MPEG-4", aac: "AAC", opus: "Opus", vorbis: "Vorbis", mp3: "MP3", flac: "FLAC", alac: "ALAC" };
const codec = (name) => CODECS[name] ?? String(name).toUpperCase();

function factsOf(task) {
  const { content, contenttype } = task;
  const lines = [["Kind", TYPES[contenttype] ?? contenttype]];
  if (contenttype === "video" && content.duration) {
    lines.push(["Length", playing(content.duration)]);
    lines.push(["Picture", `${content.display_width}×${content.display_height}, ${codec(content.video_codec)}, ${Math.round(content.fps * 100) / 100} frames a second`]);
    lines.push(["Sound", content.audio_codec ? codec(content.audio_codec) : "none"]);
    lines.push(["Bit rate", task.filesize ? `${Math.round((task.filesize * 8) / content.duration / 1000).toLocaleString()} kbit/s` : ""]);
    lines.push(["Container", { mp4: "MP4", matroska: content.extension === "webm" ? "WebM" : "Matroska" }[content.container] ?? content.container]);
    for (const [key, text] of Object.entries(content.tags ?? {})) lines.push([`Tag: ${key}`, text]);
  }
  if (contenttype === "album" && content.tracks?.length) {
    const { tracks } = content;
    const rates = tracks.filter(({ bitrate }) => bitrate).map(({ bitrate }) => Math.round(bitrate / 1000));
    const [low, high] = [Math.min(...rates), Math.max(...rates)];
    lines.push(["Songs", summary(task)]);
    lines.push(["Sound", [...new Set(tracks.filter((track) => track.codec).map((track) => codec(track.codec)))].join(", ")]);
    lines.push(["Bit rate", rates.length ? `${low === high ? low : `${low} to ${high}`} kbit/s` : ""]);
    const [{ album, albumartist, year }] = tracks;
    lines.push(["In the tags", [albumartist, album, year].filter(Boolean).join(", ")]);
  }
  if (contenttype === "artwork" && content.width) lines.push(["Picture", `${content.width}×${content.height} pixels, ${String(content.kind).toUpperCase()}`]);
  lines.push(["Size", bytes(task.filesize)]);
  lines.push(["File", task.sourcefilename]);
  return lines.filter(([, text]) => text);
}

/** Addresses of the pictures that there are: the one to show, and small ones beside it. */
function shownPictures(task) {
  if (task.contenttype === "artwork" && PLANNING.has(task.state) && task.content.kind) {
    return { main: `api/uploads/${encodeURIComponent(task.id)}/thumbnail`, small: [] };
  }
  const placed = task.placed.filter(({ root, path }) => root === "artwork" && /\.(jpe?g|png|webp)$/i.test(path)).map(({ path }) => path);
  const address = (path) => path && artworkPath(path);
  const frames = placed.filter((path) => /\/frame-\d+\.jpg$/.test(path)).sort();
  if (frames.length) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const moving = still ? undefined : placed.find((path) => path.endsWith("/preview.webp"));
    const small = frames.map((path) => ({ path: address(path), small: address(path.replace(/\.jpg$/, " (150).jpg")) }));
    return { main: address(moving ?? frames[0]), small, moving: address(moving) };
  }
  return { main: address(placed.find((path) => path.includes("(500)")) ?? placed[0]), small: [] };
}

// ── the card ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** <upload-card uploadid=…>. Properties: `app`, set before it is connected. */
export class UploadCard extends HTMLElement {
  app = null;
  #task = null;
  #plan = null;
  #explanation = null;
  #asked = ""; // uid and revision that plan and explanation were asked for
  #planFailure = "";
  #busy = "";
  #gone = false;
  #leave = null;
  #pictures = null;
  #loading = false;
  #again = false;

  get uploadid() {
    return this.getAttribute("uploadid");
  }

  connectedCallback() {
    this.#pictures = pictures(this.app.api);
    this.#build();
    this.#leave = new AbortController();
    const { signal } = this.#leave;
    this.app.store.addEventListener("change", ({ detail }) => this.#hear(detail), { signal });
    this.app.sources.addEventListener("change", () => this.#task && this.#render(), { signal });
    const timer = setInterval(() => document.hidden || this.#ask(true), MINUTE);
    signal.addEventListener("abort", () => clearInterval(timer));
    this.#load();
  }

  disconnectedCallback() {
    this.#leave?.abort();
    this.#pictures?.clear();
    this.replaceChildren();
  }

  // ── following ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #hear({ changed, added, removed }) {
    const id = this.uploadid;
    // One that went before the list had come was never on it, so nobody says that it was taken from there.
    const missed = this.#task && !this.#gone && this.app.store.ready && !this.app.store.uploads.has(id);
    if (removed.has(id)) this.#vanish();
    else if (missed) this.#load();
    else if (changed.has(id) || added.has(id)) {
      const line = this.app.store.uploads.get(id);
      const known = this.#task && line && line.uid === this.#task.uid && line.revision <= this.#task.revision;
      if (known) this.#progress();
      else this.#load();
    }
  }

  async #load() {
    if (this.#loading) {
      this.#again = true;
      return;
    }
    this.#loading = true;
    const { signal } = this.#leave;
    try {
      do {
        this.#again = false;
        const task = await this.app.store.task(this.uploadid);
        if (signal.aborted) return;
        this.#accept(task);
      } while (this.#again);
    } catch (problem) {
      if (signal.aborted) return;
      if (problem.status === 404 || problem.code === "not_found") this.#vanish();
      else this.#fail(problem);
    } finally {
      this.#loading = false;
    }
  }

  #accept(task) {
    if (task.state === "notexisting") return this.#vanish();
    if (this.#task && task.uid === this.#task.uid && task.revision < this.#task.revision) return undefined;
    this.#gone = false;
    // A plan lives as long as there is something to plan; later it is what the record says.
    const planned = this.#task?.uid === task.uid && PLANNING.has(this.#task.state);
    if (!PLANNING.has(task.state)) this.#plan = task.plan;
    else if (!planned) this.#plan = null;
    this.#task = task;
    this.#render();
    return this.#ask();
  }

  /** Explanation and plan of what is shown; what comes late for an older state is dropped. */
  async #ask(anew = false) {
    const task = this.#task;
    if (!task || this.#gone || task.state === "remove") return undefined;
    const mine = `${task.uid}.${task.revision}`;
    if (mine === this.#asked && !anew) return;
    this.#asked = mine;
    const path = `api/uploads/${encodeURIComponent(task.id)}`;
    const quietly = (promise) => promise.then((value) => ({ value }), (problem) => ({ problem }));
    const [explained, planned] = await Promise.all([
      quietly(this.app.api.get(`${path}/explain`)),
      PLANNING.has(task.state) ? quietly(this.app.api.get(`${path}/plan`)) : { value: task.plan },
    ]);
    // The same revision may have come once more meanwhile, from the store: it is the same upload all the same.
    if (mine !== this.#asked || mine !== `${this.#task?.uid}.${this.#task?.revision}`) return undefined;
    if (explained.problem?.status === 404) return this.#vanish();
    if (explained.problem || planned.problem) this.#asked = "";
    if (explained.value) this.#explanation = explained.value;
    this.#plan = planned.problem ? null : planned.value;
    this.#planFailure = planned.problem?.message ?? "";
    return this.#render();
  }

  // ── building ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #build() {
    this.heading = el("h1", { tabIndex: -1 }, "Loading …");
    this.subtitle = el("p", { class: "quiet" });
    this.chip = el("span", { class: "chip" });
    this.phases = el("ol", { class: "phases", "aria-label": "How far it is" });
    this.bar = el("progress", { max: 1, "aria-label": "Progress of the upload" });
    this.moving = el("p", { class: "quiet numbers" });
    this.wrong = el("div", { class: "stack tight" });
    this.advice = el("p", {});
    this.why = el("div", { class: "why" });
    this.next = el("div", { class: "quiet small" });
    this.noticed = el("ul", { class: "noticed" });
    this.actions = el("div", { class: "cluster actions" });
    this.failure = el("p", { class: "notice", dataset: { look: "failed" }, role: "alert", hidden: true });
    this.main = el("img", { alt: "", hidden: true });
    this.frames = el("div", { class: "cluster frames", role: "group", "aria-label": "Frames" });
    this.picture = el("div", { class: "picture", hidden: true }, this.main, this.frames);
    this.facts = el("dl", { class: "facts" });
    this.marks = el("dl", { class: "facts small" });
    const part = (name, properties = {}) => Object.assign(el(name), { app: this.app, ...properties });
    this.questions = part("upload-questions");
    this.form = part("annotation-form");
    this.album = part("album-view");
    this.plan = el("plan-tree");
    this.life = part("life-view", { pictures: this.#pictures });
    for (const one of [this.questions, this.form, this.album]) {
      one.addEventListener("saved", ({ detail }) => {
        this.#tell(detail.said);
        this.#accept(detail.task);
      });
    }
    this.form.addEventListener("dirty", () => this.#task && this.#render());
    const section = (title, ...inside) => {
      const id = `part-${title.toLowerCase().replaceAll(" ", "-")}`;
      return el("section", { class: "panel stack", "aria-labelledby": id }, el("h2", { id }, title), ...inside);
    };
    this.albumPart = section("Songs", this.album);
    this.whole = el(
      "div",
      { class: "card-parts", hidden: true },
      section("What it is", this.picture, this.facts, el("details", {}, el("summary", {}, "For experts"), this.marks)),
      el("div", { class: "stack" }, section("Names", this.form), this.albumPart, section("Where it goes", this.plan)),
      section("Its life", this.life),
    );
    this.status = el(
      "section",
      { class: "panel stack", "aria-label": "How it stands", hidden: true },
      this.phases,
      el("div", { class: "stack tight" }, this.bar, this.moving),
      this.why,
      this.advice,
      this.wrong,
      this.noticed,
      this.questions,
      this.failure,
      this.actions,
      this.next,
    );
    this.head = el(
      "header",
      { class: "card-head" },
      el("div", { class: "cluster apart" }, this.heading, this.chip),
      this.subtitle,
    );
    this.setAttribute("aria-busy", "true");
    this.replaceChildren(this.head, this.status, this.whole);
  }

  // ── showing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #render() {
    const task = this.#task;
    if (!task || this.#gone) return;
    const had = this.contains(document.activeElement);
    this.removeAttribute("aria-busy");
    const problems = PLANNING.has(task.state) ? (this.#plan?.problems ?? []) : [];
    const questions = questionsOf(task, PLANNING.has(task.state) ? this.#plan : null);
    const asked = new Set(questions.map(({ code }) => code));
    const rejects = problems.filter(({ severity, code }) => severity === "reject" && !asked.has(code));
    const facts = { task, plan: this.#plan, problems, questions, rejects, explanation: null, failure: this.#planFailure };
    if (this.#explanation?.state === task.state) facts.explanation = this.#explanation;
    const source = this.app.sources.find(task.id);

    say(this.heading, titleOf(task));
    say(this.subtitle, [TYPES[task.contenttype] ?? task.contenttype, task.sourcefilename, bytes(task.filesize)].join(" · "));
    const { text, look } = standing(task, facts);
    say(this.chip, text);
    this.chip.dataset.look = look;
    keyed(
      this.phases,
      phases(task),
      (phase) => phase.text,
      (phase) => el("li", {}, el("span", {}, phase.text), el("span", { class: "hidden-visually" })),
      (item, { how }) => {
        item.dataset.how = how;
        say(item.lastElementChild, { done: ", done", failed: ", failed", now: ", now" }[how] ?? ", not yet");
        if (how === "now" || how === "failed") item.setAttribute("aria-current", "step");
        else item.removeAttribute("aria-current");
      },
    );
    this.#progress();
    this.#sentences(facts, source);
    this.#buttons(facts, source);
    this.#what(task);

    this.questions.show(facts);
    this.form.show(facts);
    this.album.show(facts);
    reveal(this.albumPart, !this.album.hidden);
    this.plan.show(facts);
    this.life.show(facts);
    reveal(this.status, true);
    reveal(this.whole, true);
    // What had the focus may be gone: the next Tab should not begin at the top of the page.
    if (had && !this.contains(document.activeElement)) this.heading.focus({ preventScroll: true });
  }

  #progress() {
    const line = this.app.store.uploads.get(this.uploadid);
    const task = this.#task;
    const sending = task.state === "waitforchunk";
    reveal(this.bar.parentElement, sending);
    if (!sending) return;
    const { filesize, offset, rate = 0, eta = null } = { ...task, ...line };
    const done = share({ filesize, offset });
    if (done === null) this.bar.removeAttribute("value");
    else this.bar.value = done;
    const far = filesize ? `${bytes(offset)} of ${bytes(filesize)} (${percent(done)})` : `${bytes(offset)} of a file whose size is not known yet`;
    say(this.moving, [far, speed(rate), eta === null ? "" : `${span(eta)} left`].filter(Boolean).join(" · "));
  }

  #sentences(facts, source) {
    const { task } = facts;
    const { why, next } = told(task, facts);
    const lines = (parent, sentences) => {
      keyed(parent, sentences, (sentence) => sentence, (sentence) => el("p", {}, plainly(sentence, task.contenttype)));
      reveal(parent, sentences.length > 0);
    };
    lines(this.why, why);
    lines(this.next, next);
    say(this.advice, advice(task, facts, source));
    reveal(this.advice, this.advice.textContent !== "");
    const planless = this.#planFailure && PLANNING.has(task.state) ? [`The plan cannot be made now: ${this.#planFailure}`] : [];
    const gaps = facts.rejects.filter(({ code }) => code === "annotation_missing").map(({ sentence }) => /“(\w+)”/.exec(sentence)?.[1]);
    const named = labels(task.contenttype);
    const missing = gaps.length > 1 ? `These are missing, and its files get their names from them: ${gaps.map((key) => named[key] ?? key).join(", ")}.` : "";
    const others = facts.rejects.filter(({ code }) => !missing || code !== "annotation_missing").map(({ sentence }) => sentence);
    const sentences = [task.message, missing, ...others, ...planless].filter(Boolean);
    keyed(
      this.wrong,
      [...new Set(sentences)],
      (sentence) => sentence,
      (sentence) => el("div", { class: "notice" }, icon("warning"), el("p", {}, plainly(sentence, task.contenttype))),
      (notice, sentence) => {
        notice.dataset.look = sentence === task.message ? "failed" : "asking";
      },
    );
    reveal(this.wrong, sentences.length > 0);
    const warned = [...task.findings, ...facts.problems].filter(({ severity }) => severity === "warn");
    keyed(
      this.noticed,
      [...new Map(warned.map((finding) => [finding.sentence, finding])).values()],
      ({ sentence }) => sentence,
      ({ sentence }) => el("li", {}, inWords(sentence, task.contenttype)),
    );
    reveal(this.noticed, warned.length > 0);
  }

  #what(task) {
    const line = ([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, text));
    const update = (item, [, text]) => say(item.lastElementChild, text);
    keyed(this.facts, factsOf(task), ([term]) => term, line, update);
    const marks = [
      ["Upload id", task.id],
      ["SHA-1", task.sourcechecksum ?? "not known"],
      ["Declared as", task.mimetype],
      ["State", task.state],
      ["Revision", String(task.revision)],
    ];
    keyed(this.marks, marks, ([term]) => term, line, update);
    this.#show(task);
  }

  /** The pictures, once they are there. */
  #show(task) {
    const { main, small, moving } = shownPictures(task);
    reveal(this.picture, Boolean(main));
    if (!main) {
      this.main.dataset.path = "";
      return;
    }
    const title = titleOf(task);
    const all = [...(moving ? [{ path: moving, small: small[0].small, label: "Moving preview" }] : []), ...small.map((one, at) => ({ ...one, label: `Frame ${at + 1}` }))];
    const chosen = all.some(({ path }) => path === this.main.dataset.path) ? this.main.dataset.path : main;
    this.#fill(this.main, chosen, `${all.find(({ path }) => path === chosen)?.label ?? "Cover"} of ${title}`);
    reveal(this.frames, all.length > 0);
    keyed(
      this.frames,
      all,
      ({ path }) => path,
      ({ path, label }) =>
        el(
          "button",
          { type: "button", class: "frame", "aria-label": label, title: label, on: { click: () => {
            this.main.dataset.path = path;
            this.#show(this.#task);
          } } },
          el("img", { alt: "" }),
          label === "Moving preview" && icon("resume"),
        ),
      (button, one) => {
        this.#fill(button.querySelector("img"), one.small, "");
        button.setAttribute("aria-pressed", String(one.path === chosen));
      },
    );
  }

  async #fill(image, path, alt) {
    image.alt = alt;
    if (image.dataset.path === path && image.dataset.shown === path) return;
    image.dataset.path = path;
    image.dataset.shown = path;
    try {
      const url = await this.#pictures.of(path);
      if (image.dataset.shown !== path) return;
      image.src = url;
      reveal(image, true);
    } catch {
      image.dataset.shown = ""; // the next change tries again
      reveal(image, false);
    }
  }

  // ── doing ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #buttons(facts, source) {
    const list = this.#choices(facts, source);
    keyed(
      this.actions,
      list,
      ({ name }) => name,
      ({ name, symbol }) => el("button", { type: "button", class: "button", dataset: { action: name } }, icon(symbol), el("span")),
      (button, { label, look, run, name, hint = "" }) => {
        button.className = `button ${look ?? ""}`.trim();
        say(button.lastElementChild, this.#busy === name ? `${label} …` : label);
        button.title = hint;
        // Not "disabled": that would take the focus away while the answer is on its way.
        if (this.#busy) button.setAttribute("aria-disabled", "true");
        else button.removeAttribute("aria-disabled");
        button.onclick = () => this.#busy || this.#do(name, run);
      },
    );
    reveal(this.actions, list.length > 0);
  }

  /** What may be done now, what is most likely meant first. */
  #choices(facts, source) {
    const { task, questions, rejects, explanation } = facts;
    if (task.state === "remove") return [];
    const list = [];
    const possible = new Map((explanation?.possible ?? []).map(({ trigger, sentence }) => [trigger, sentence]));
    const says = (trigger) => possible.get(trigger) ?? "";
    const primary = (name, label, symbol, run, hint) => list.push({ name, label, symbol, run, hint, look: "primary" });
    const open = questions.some((question) => question.open);
    const asked = new Set(questions.filter((question) => question.open).map(({ code }) => code));
    const blocked = open || rejects.length > 0;
    const unsaved = this.form.dirty;
    if (source && task.state === "waitforchunk") this.#sending(list, source);
    else if (task.state === "waitforchunk") list.push({ name: "choose", label: "Choose the file", symbol: "file", run: () => this.app.choose?.() });
    if (task.state === "uploadfailed" && !source) primary("retry", "Start again", "retry", () => this.#post("retry"), says("retry"));
    if (task.state === "invalidcontent") list.push({ name: "retry", label: "Look at it again", symbol: "retry", run: () => this.#post("retry"), hint: says("retry") });
    if (task.state === "importfailed" && !task.wanted) primary("retry", "Try again", "retry", () => this.#post("retry"), says("retry"));
    if (task.state === "integrated" && !task.wanted) primary("start_import", "Import", "import", () => this.#post("start_import"), says("start_import"));
    if (PLANNING.has(task.state) && !task.wanted && (this.#plan || this.#planFailure)) {
      // Questions are answered where they stand, right above.
      if (open && !rejects.length && !unsaved) asked.has("destination_exists") && list.push({ name: "names", label: "Change its names", symbol: "edit", run: () => this.form.goto() });
      else if (rejects.length && !unsaved) primary("complete", "Fill in what is missing", "edit", () => this.form.goto());
      else if (unsaved && blocked) primary("save", "Save", "check", () => this.form.save());
      else {
        const label = task.state === "integrationfailed" ? "Try again" : "Import";
        primary("import", unsaved ? `Save and ${label.toLowerCase()}` : label, task.state === "integrationfailed" ? "retry" : "import", () => this.#import(), says("request"));
      }
    }
    if (possible.has("request_undo") && task.wanted !== "undo") list.push({ name: "undo", label: "Undo the import", symbol: "undo", run: () => this.#undo(), hint: says("request_undo") });
    if (!(source && task.state === "waitforchunk")) list.push({ name: "remove", label: "Remove", symbol: "remove", look: "danger", run: () => this.#remove() });
    return list;
  }

  #sending(list, source) {
    const { sources } = this.app;
    const { localId, phase } = source;
    if (phase === "paused") list.push({ name: "resume", label: "Resume", symbol: "resume", look: "primary", run: () => sources.resume(localId) });
    else if (phase === "lost") list.push({ name: "regrant", label: "Go on sending", symbol: "resume", look: "primary", run: () => this.#regrant(localId) });
    else if (phase === "failed") list.push({ name: "resend", label: "Try again", symbol: "retry", look: "primary", run: () => sources.retry(localId) });
    else if (phase !== "done") list.push({ name: "pause", label: "Pause", symbol: "pause", run: () => sources.pause(localId) });
    list.push({ name: "cancel", label: "Cancel", symbol: "cancel", look: "danger", run: () => this.#cancel(localId) });
  }

  /** One click is enough where the browser kept the file; else it has to be chosen again. */
  async #regrant(localId) {
    if (!(await this.app.sources.regrant(localId))) await this.app.choose?.();
  }

  async #do(name, run) {
    this.#busy = name;
    this.#complain("");
    this.#render();
    try {
      await run();
    } catch (problem) {
      this.#complain(plainly(problem.message, this.#task.contenttype));
    } finally {
      this.#busy = "";
      this.#render();
    }
  }

  async #post(word, body = {}) {
    const task = await this.app.api.post(`api/uploads/${encodeURIComponent(this.#task.id)}/${word}`, body);
    this.#accept(task);
    return task;
  }

  async #import() {
    if (!(await this.form.save())) return;
    // Back to where it can be asked for first; the request then names what is in the way, if something still is.
    if (this.#task.state === "integrationfailed") await this.#post("retry");
    await this.#post("request", { trigger_import: true });
    this.#tell("It is being imported.");
  }

  async #undo() {
    const { placed } = this.#task;
    const replaced = placed.filter((file) => file.replaced).length;
    const agreed = await confirm({
      title: "Take the import back?",
      text: [
        stays("What goes:", `${count(placed.length, "file")} of it in the library, and what the catalogue knows of it.`),
        replaced > 0 && stays("What comes back:", `${count(replaced, "file")} that it replaced.`),
        stays("What stays:", "this upload. It can be corrected and imported again."),
      ],
      yes: "Undo the import",
    });
    if (!agreed) return;
    await this.#post("undo");
    this.#tell("It is being taken back.");
  }

  async #remove() {
    const task = this.#task;
    const replaced = task.placed.filter((file) => file.replaced).length;
    const agreed = await confirm({
      title: `Remove “${titleOf(task)}”?`,
      text: [
        stays("What goes:", `the uploaded file (${bytes(task.offset)}), and what was said about it here.`),
        replaced > 0 && stays("What goes too:", `${count(replaced, "file")} that it replaced. They cannot be brought back then.`),
        task.placed.length > 0 && stays("What stays:", `${count(task.placed.length, "file")} in the library, and the catalogue. To take these back, undo the import first.`),
        task.placed.length === 0 && stays("What stays:", "the library. Nothing of this upload is in it."),
      ],
      yes: "Remove",
    });
    if (!agreed) return;
    await this.app.api.del(`api/uploads/${encodeURIComponent(task.id)}`);
    this.#tell("It was removed.");
    this.#vanish();
  }

  async #cancel(localId) {
    const agreed = await confirm({
      title: "Cancel this upload?",
      text: [stays("What goes:", `the ${bytes(this.app.store.uploads.get(this.uploadid)?.offset ?? this.#task.offset)} that have arrived.`), stays("What stays:", "your file.")],
      yes: "Cancel the upload",
      no: "Keep sending",
    });
    if (agreed) await this.app.sources.cancel(localId);
  }

  /** For everybody, those too who do not see it. */
  #tell(sentence) {
    this.app.say?.(sentence);
  }

  #complain(sentence) {
    say(this.failure, sentence);
    reveal(this.failure, sentence !== "");
  }

  // ── the ends ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #vanish() {
    if (this.#gone) return;
    const had = this.contains(document.activeElement);
    const title = this.#task ? titleOf(this.#task) : "";
    this.#gone = true;
    this.removeAttribute("aria-busy");
    reveal(this.status, false);
    reveal(this.whole, false);
    say(this.heading, title ? `“${title}” was removed` : "There is no such upload");
    say(this.chip, title ? "Removed" : "Not there");
    this.chip.dataset.look = "gone";
    say(this.subtitle, "It may have been removed by somebody, or because its time was over. What it brought into the library stays there. To bring it again, send the file again.");
    if (had) this.heading.focus();
  }

  #fail(problem) {
    this.removeAttribute("aria-busy");
    if (this.#task) return; // what is shown is the newest that is known; the page says that the server is away
    say(this.heading, "This upload cannot be shown now");
    say(this.subtitle, problem.message);
    const again = el("button", { type: "button", class: "button primary", on: { click: () => {
      again.remove();
      say(this.heading, "Loading …");
      say(this.subtitle, "");
      this.#load();
    } } }, "Try again");
    this.head.querySelector(".button.primary")?.remove();
    this.head.append(again);
  }
}

function stays(lead, text) {
  return el("span", { class: "consequence" }, el("strong", {}, lead), ` ${text}`);
}

customElements.define("upload-card", UploadCard);
