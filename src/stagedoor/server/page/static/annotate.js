// What people say about an upload: a form for each content type, with suggestions from the tags, the file's name and the
// catalogue. What is typed and not saved stays, whatever happens to the upload meanwhile.

import { el, say } from "./dom.js";
import { keyed, reveal } from "./parts.js";

/**
 * The fields of each content type. `suggest`: what the catalogue calls it. `tag`: what a video's tags call it.
 * `choices`: a select.
 */
const ARTIST = { key: "artistname", label: "Artist", suggest: "artist", tag: "artist" };
const YEAR = { key: "release", label: "Year", suggest: "release", tag: "date", hint: "Four digits, such as 1998." };
const ORIGIN = { key: "origin", label: "Origin", suggest: "origin", hint: "Where it came from, such as CD or internet." };
const ALBUM = { key: "albumname", label: "Album", suggest: "album" };
const COMPILATION = {
  key: "compilation",
  label: "By several artists",
  choices: [["", "As the tags say"], ["true", "Yes, a compilation"], ["false", "No"]],
};
const FIELDS = {
  video: [ARTIST, { key: "name", label: "Title", tag: "title" }, YEAR, ORIGIN],
  album: [{ ...ARTIST, label: "Album artist" }, ALBUM, YEAR, ORIGIN, COMPILATION],
  artwork: [
    { ...ARTIST, label: "Album artist" },
    ALBUM,
    { key: "albumid", label: "Album id", hint: "Only where the artist has several albums of this name." },
  ],
};

/** Labels of the annotations of a content type, by key. */
export function labels(contenttype) {
  return Object.fromEntries((FIELDS[contenttype] ?? []).map(({ key, label }) => [key, label]));
}

/** A sentence of the server about annotations, with the names that the fields have here. */
export function inWords(sentence, contenttype) {
  const named = labels(contenttype);
  return sentence.replace(/(the |The )?annotations? “(\w+)”( and “(\w+)”)?/g, (whole, article, one, _, other) => {
    if (!named[one]) return whole;
    return `${article ?? ""}${other ? "fields" : "field"} “${named[one]}”${other ? ` and “${named[other] ?? other}”` : ""}`;
  });
}

const drafts = new Map(); // upload's uid → {key: what is typed and not saved}

/** What a file's name says, as far as people name files alike: "Artist - Title (2011).mp4". */
export function fromName(filename) {
  const stem = filename.replace(/\.[A-Za-z0-9]{1,5}$/, "").replaceAll("_", " ").trim();
  const year = /[([]((?:19|20)\d\d)[)\]]/.exec(stem) ?? /^((?:19|20)\d\d) - /.exec(stem);
  const rest = stem.replace(/\s*[([][^()[\]]*[)\]]/g, "").replace(/^(?:19|20)\d\d - /, "").trim();
  const [, left, right] = /^(.+?) [-–—] (.+)$/.exec(rest) ?? [null, "", rest];
  return { artist: left, title: right, year: year?.[1] ?? "" };
}

function textOf(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** What could be in a field: `text`, and whether the server takes it by itself (`taken`) when the field is empty. */
function suggestion(field, task) {
  const { content } = task;
  const guess = content.guess ?? {};
  const text = textOf(guess[field.key]);
  if (text && !field.choices) {
    return { text, taken: true, from: (guess.named ?? []).includes(field.key) ? "from the file names" : "from the tags" };
  }
  if (field.tag && content.tags?.[field.tag]) return { text: content.tags[field.tag], from: "from the tags" };
  if (task.contenttype === "album" || task.state === "waitforchunk") return null;
  const named = fromName(task.sourcefilename);
  const kept = { artistname: named.artist, name: named.title, albumname: named.artist && named.title, release: named.year };
  return kept[field.key] ? { text: kept[field.key], from: "from the file name" } : null;
}

let lists = 0;

/**
 * A text field with suggestions: the pattern "editable combobox with list autocomplete" of the ARIA practices. The focus
 * stays in the field; arrows choose, Enter takes, Escape closes.
 *
 * @param {HTMLInputElement} input
 * @param {(prefix: string) => Promise<string[]>} ask
 * @param {string} label Of the list.
 * @returns {HTMLElement} The field with its list.
 */
export function combobox(input, ask, label) {
  const id = `suggestions-${(lists += 1)}`;
  const list = el("ul", { id, class: "suggestions", role: "listbox", "aria-label": label, hidden: true });
  let active = -1;
  let asked = 0;
  let timer = 0;

  const close = () => {
    asked += 1; // an answer that is still on its way opens nothing
    clearTimeout(timer);
    active = -1;
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const take = (text) => {
    input.value = text;
    close();
    input.dispatchEvent(new Event("input", { bubbles: true }));
    close(); // what was taken asks for nothing more
  };
  const choose = (index) => {
    active = index;
    [...list.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === index)));
    if (index < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", list.children[index].id);
    return list.children[index].scrollIntoView({ block: "nearest" });
  };
  const show = async (then = -1) => {
    const mine = (asked += 1);
    const found = (await ask(input.value.trim())).filter((text) => text !== input.value);
    if (mine !== asked || document.activeElement !== input) return;
    list.replaceChildren(
      ...found.map((text, at) =>
        el(
          "li",
          {
            id: `${id}-${at}`,
            role: "option",
            "aria-selected": "false",
            // Before the field loses the focus.
            on: { mousedown: (event) => event.preventDefault(), click: () => take(text) },
          },
          text,
        ),
      ),
    );
    if (!found.length) return close();
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    return choose(then < 0 ? -1 : Math.min(then, found.length - 1));
  };

  for (const [name, value] of Object.entries({
    role: "combobox",
    "aria-autocomplete": "list",
    "aria-expanded": "false",
    "aria-controls": id,
  })) {
    input.setAttribute(name, value);
  }
  input.autocomplete = "off";
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => show(), 120);
  });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const open = !list.hidden;
    const last = list.children.length - 1;
    if (event.key === "ArrowDown") {
      if (open) choose(active >= last ? 0 : active + 1);
      else show(event.altKey ? -1 : 0);
    } else if (event.key === "ArrowUp") {
      if (open) choose(active <= 0 ? last : active - 1);
      else show(Number.MAX_SAFE_INTEGER);
    } else if (event.key === "Enter" && open && active >= 0) take(list.children[active].textContent);
    else if (event.key === "Escape" && open) close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return el("div", { class: "combobox" }, input, list);
}

/**
 * <annotation-form>. Properties: `app`. Methods: `show(facts)`, `save()`, `goto(key?)`. Events: "dirty" when that changes,
 * "saved" with the task as it is then.
 */
class AnnotationForm extends HTMLElement {
  app = null;
  #task = null;
  #fields = new Map(); // key → {field, input, row, base, error, suggest, meanwhile}
  #built = "";
  #saving = false;
  #wasDirty = false;
  #keepsPage = (event) => event.preventDefault();

  /** Whether something is typed and not saved. */
  get dirty() {
    return [...this.#fields.values()].some((one) => one.input.value !== one.base);
  }

  disconnectedCallback() {
    removeEventListener("beforeunload", this.#keepsPage);
  }

  /** @param {{task: object, problems: object[]}} facts */
  show({ task, problems }) {
    this.#task = task;
    const kind = `${task.uid} ${task.contenttype}`;
    if (this.#built !== kind) {
      this.#built = kind;
      this.#build(task);
    }
    for (const [key, one] of this.#fields) this.#update(one, textOf(task.annotations[key]), task);
    this.#tell(problems);
    this.#changed();
  }

  /** The first field with an error, or the one that is named. */
  goto(key) {
    const wrong = [...this.#fields.values()].find(({ input }) => input.getAttribute("aria-invalid") === "true");
    const one = this.#fields.get(key) ?? wrong ?? this.#fields.values().next().value;
    one?.input.focus();
    one?.row.scrollIntoView({ block: "center" });
  }

  /** Saves what was changed; whether all is saved then. */
  async save() {
    const changed = [...this.#fields.values()].filter((one) => one.input.value !== one.base);
    if (!changed.length) return true;
    const sent = Object.fromEntries(changed.map((one) => [one.field.key, this.#value(one)]));
    const typed = new Map(changed.map((one) => [one, one.input.value]));
    this.#saving = true;
    this.#changed();
    try {
      const task = await this.app.api.patch(`api/uploads/${encodeURIComponent(this.#task.id)}`, { annotations: sent });
      for (const [one, text] of typed) one.base = text;
      say(this.failure, "");
      this.dispatchEvent(new CustomEvent("saved", { detail: { task, said: "Saved." } }));
      return true;
    } catch (problem) {
      const only = changed.length === 1 ? changed[0] : null;
      if (only) this.#wrong(only, problem.message);
      say(this.failure, only ? "" : `Not saved: ${problem.message}`);
      (only ?? changed[0]).input.focus();
      return false;
    } finally {
      this.#saving = false;
      this.#changed();
    }
  }

  #value({ field, input }) {
    if (field.choices && input.value) return input.value === "true";
    return input.value.trim();
  }

  #build(task) {
    const known = FIELDS[task.contenttype] ?? [];
    const named = new Set(known.map(({ key }) => key));
    // Of a content type that is newer than this page: what is there can be changed.
    const others = known.length ? [] : Object.keys(task.annotations).filter((key) => !/^answers\.|^tracks$/.test(key));
    const fields = [...known, ...others.filter((key) => !named.has(key)).map((key) => ({ key, label: key }))];
    this.#fields.clear();
    const rows = fields.map((field) => this.#row(field));
    this.fill = el("button", { type: "button", class: "button", on: { click: () => this.#fill() } }, "");
    this.failure = el("p", { class: "wrong", role: "alert" });
    this.saver = el("button", { type: "submit", class: "button" }, "Save");
    this.drop = el("button", { type: "button", class: "button bare", on: { click: () => this.#drop() } }, "Discard changes");
    this.late = el("p", { class: "hint" }, "The library keeps what it has until the import is taken back.");
    const form = el(
      "form",
      { class: "stack", noValidate: true, "aria-label": "What it is" },
      el("div", {}, this.fill),
      el("div", { class: "fields" }, rows),
      this.late,
      this.failure,
      el("div", { class: "cluster" }, this.saver, this.drop),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.save();
    });
    form.addEventListener("input", () => this.#changed());
    this.replaceChildren(form);
    const draft = drafts.get(task.uid) ?? {};
    for (const [key, one] of this.#fields) {
      one.base = textOf(task.annotations[key]);
      one.input.value = draft[key] ?? one.base;
    }
  }

  #row(field) {
    const id = `annotation-${field.key}`;
    const input = field.choices
      ? el("select", { id }, field.choices.map(([value, text]) => el("option", { value }, text)))
      : el("input", { id, type: "text", name: field.key, maxLength: 1000, spellcheck: false });
    if (field.key === "release") input.inputMode = "numeric";
    const error = el("p", { id: `${id}-error`, class: "wrong" });
    const hint = el("p", { id: `${id}-hint`, class: "hint" }, field.hint);
    const suggest = el("button", { type: "button", class: "button bare suggestion", hidden: true });
    const meanwhile = el("p", { class: "hint meanwhile", hidden: true });
    input.setAttribute("aria-describedby", `${id}-error ${id}-hint`);
    const one = { field, input, error, hint, suggest, meanwhile, base: "", refused: "" };
    suggest.addEventListener("click", () => {
      this.#set(one, suggest.dataset.text);
      input.focus();
    });
    input.addEventListener("input", () => {
      one.refused = "";
      this.#update(one, one.base, this.#task);
    });
    const control = field.suggest
      ? combobox(input, (prefix) => this.#ask(field, prefix), `${field.label}: in the library`)
      : input;
    one.row = el(
      "div",
      { class: "field", dataset: { key: field.key } },
      el("label", { for: id }, field.label),
      control,
      suggest,
      meanwhile,
      hint,
      error,
    );
    this.#fields.set(field.key, one);
    return one.row;
  }

  async #ask(field, prefix) {
    const query = new URLSearchParams({ field: field.suggest, prefix, limit: "8" });
    const artist = this.#fields.get("artistname");
    const said = artist && (artist.input.value.trim() || artist.input.placeholder);
    if (field.suggest !== "artist" && field.suggest !== "origin" && said) query.set("artist", said);
    try {
      return (await this.app.api.get(`api/catalogue/suggest?${query}`)).suggestions;
    } catch {
      return []; // a library that cannot be looked through, or a server that is away: one types on
    }
  }

  #set(one, text) {
    one.input.value = text;
    one.input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  #fill() {
    for (const one of this.#fields.values()) {
      const found = suggestion(one.field, this.#task);
      if (found && !found.taken && !one.input.value.trim()) this.#set(one, found.text);
    }
    this.saver.focus();
  }

  #drop() {
    for (const one of this.#fields.values()) this.#set(one, one.base);
    this.goto(this.#fields.keys().next().value);
  }

  #update(one, saved, task) {
    const { field, input } = one;
    const dirty = input.value !== one.base;
    if (saved !== one.base) {
      one.base = saved;
      if (!dirty) input.value = saved;
      one.other = dirty && input.value !== saved;
    }
    if (input.value === one.base) one.other = false;
    reveal(one.meanwhile, one.other);
    if (one.other) say(one.meanwhile, `Meanwhile somebody saved “${saved}” here. Save to put yours in its place.`);
    const found = suggestion(field, task);
    if (!field.choices) input.placeholder = found?.taken ? found.text : "";
    const offered = found && !found.taken && input.value.trim() !== found.text;
    reveal(one.suggest, offered);
    if (offered) {
      one.suggest.dataset.text = found.text;
      say(one.suggest, `Use “${found.text}”, ${found.from}`);
    }
    const hint = found?.taken && !input.value.trim() ? `Taken ${found.from}.` : (field.hint ?? "");
    say(one.hint, hint);
    reveal(one.hint, hint !== "");
  }

  #tell(problems) {
    const wrong = new Map();
    for (const { severity, sentence, code } of problems) {
      if (severity !== "reject") continue;
      for (const [, key] of sentence.matchAll(/“(\w+)”/g)) {
        const one = this.#fields.get(key);
        if (!one || wrong.has(key)) continue;
        const missing = code === "annotation_missing" && /missing\. (.*), then try again/.exec(sentence);
        wrong.set(key, missing ? `${missing[1]}: without it there is no name for the file.` : inWords(sentence, this.#task.contenttype));
        break;
      }
    }
    for (const [key, one] of this.#fields) this.#wrong(one, one.refused || wrong.get(key) || "", wrong.get(key) ?? "");
  }

  #wrong(one, sentence, planned = null) {
    if (planned === null) one.refused = sentence;
    say(one.error, sentence);
    if (sentence) one.input.setAttribute("aria-invalid", "true");
    else one.input.removeAttribute("aria-invalid");
  }

  #changed() {
    const { dirty } = this;
    const typed = [...this.#fields].filter(([, one]) => one.input.value !== one.base).map(([key, one]) => [key, one.input.value]);
    if (typed.length) drafts.set(this.#task.uid, Object.fromEntries(typed));
    else drafts.delete(this.#task.uid);
    const offers = [...this.#fields.values()].filter(({ suggest, input }) => !suggest.hidden && !input.value.trim()).length;
    reveal(this.fill.parentElement, offers > 1);
    say(this.fill, `Fill in all ${offers} suggestions`);
    this.saver.disabled = this.#saving || !dirty;
    say(this.saver, this.#saving ? "Saving …" : "Save");
    reveal(this.drop, dirty && !this.#saving);
    reveal(this.late, this.#task.placed.length > 0);
    const handle = dirty ? addEventListener : removeEventListener;
    handle("beforeunload", this.#keepsPage);
    if (this.classList.toggle("dirty", dirty) !== this.#wasDirty) {
      this.#wasDirty = dirty;
      this.dispatchEvent(new CustomEvent("dirty"));
    }
  }
}

customElements.define("annotation-form", AnnotationForm);

// ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────────

const ASKED = {
  album_exists: { title: "The album is in the library already", add: "Add these songs beside the ones that are there" },
  albumid_differs: { title: "Which album is it the cover of?" },
  artist_similar: { title: "Which artist is it?" },
  broken_tracks: { title: "Some songs cannot be used", without: "Import the album without them" },
  destination_exists: {
    title: "Files of the library are in the way",
    replace: "Replace them. The old files are kept, and an undo brings them back, until this upload is removed",
  },
  several_albums: { title: "Is it one album?", one: "Yes, all songs are one album" },
};

/**
 * What is asked about an upload: by pre-processing, and by the plan; answered ones too, as long as they are on record.
 *
 * @returns {{code: string, sentence: string, options: string[], answer: any, open: boolean}[]}
 */
export function questionsOf(task, plan) {
  const said = (code) => task.annotations[`answers.${code}`];
  const planned = (plan?.problems ?? []).filter(({ severity, options }) => severity === "hold" || options?.length);
  const asked = [...task.findings.filter(({ severity }) => severity === "hold"), ...planned];
  return asked.map(({ code, sentence, options }) => {
    const answer = said(code);
    return { code, sentence, options, answer, open: answer === undefined || (options.length > 0 && !options.includes(answer)) };
  });
}

/** What is in the way, in the words of a page. */
function asking({ code, sentence }, contenttype, taken) {
  if (code !== "destination_exists") return inWords(sentence, contenttype);
  const what = taken.length > 1 ? `${taken.length} files with these names are` : "A file with this name is";
  return `${taken.length ? what : "There are files with these names"} in the library already. Nothing is overwritten by itself: say that it is something else, remove this upload, or decide here.`;
}

/** <upload-questions>: each question with its answers. Properties: `app`. Events: "saved". */
class UploadQuestions extends HTMLElement {
  app = null;
  #task = null;

  connectedCallback() {
    this.list ??= this.appendChild(el("div", { class: "stack" }));
  }

  /** @param {{task: object, plan: object|null}} facts */
  show({ task, plan }) {
    this.#task = task;
    const asked = ["preprocessed", "integrationfailed", "uploadcomplete"].includes(task.state) ? questionsOf(task, plan) : [];
    reveal(this, asked.length > 0);
    keyed(
      this.list,
      asked,
      ({ code, options }) => `${code} ${options.join("\n")}`,
      (question) => this.#make(question),
      (form, question) => this.#update(form, question, plan),
    );
  }

  #make({ code, options }) {
    const words = ASKED[code] ?? {};
    const choices = options.map((option, at) =>
      el(
        "label",
        { class: "choice" },
        el("input", { type: "radio", name: `question-${code}`, value: option, checked: options.length === 1 && code !== "destination_exists" }),
        el("span", {}, words[option] ?? (code === "artist_similar" ? `${option}${at ? ", as in the library" : ", a new artist"}` : option)),
      ),
    );
    const text = options.length ? null : el("input", { class: "input", type: "text", name: code, "aria-label": "Answer", maxLength: 1000 });
    const form = el(
      "form",
      { class: "question stack tight" },
      el(
        "fieldset",
        {},
        el("legend", {}, words.title ?? "A question"),
        el("p", { class: "asked" }),
        choices,
        text,
      ),
      el("p", { class: "wrong", role: "alert" }),
      el("div", { class: "cluster" }, el("button", { type: "submit", class: "button" }, "Answer"), el("span", { class: "answered quiet" })),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#answer(form, code);
    });
    return form;
  }

  #update(form, question, plan) {
    const { answer, open } = question;
    say(form.querySelector(".asked"), asking(question, this.#task.contenttype, plan?.taken ?? []));
    form.classList.toggle("open", open);
    form.dataset.look = open ? "asking" : "fine";
    const button = form.querySelector("button");
    say(button, open ? "Answer" : "Change the answer");
    button.classList.toggle("primary", open);
    say(form.querySelector(".answered"), open ? "" : "Answered.");
    const inputs = [...form.querySelectorAll("input")];
    if (!open && form.dataset.answer !== String(answer)) {
      form.dataset.answer = String(answer);
      for (const input of inputs) {
        if (input.type === "radio") input.checked = input.value === String(answer);
        else input.value = String(answer);
      }
    }
  }

  async #answer(form, code) {
    const chosen = form.querySelector("input:checked") ?? form.querySelector("input[type=text]");
    const error = form.querySelector(".wrong");
    if (!chosen?.value.trim()) {
      say(error, "Choose an answer first.");
      form.querySelector("input")?.focus();
      return;
    }
    try {
      const annotations = { [`answers.${code}`]: chosen.value };
      const task = await this.app.api.patch(`api/uploads/${encodeURIComponent(this.#task.id)}`, { annotations });
      say(error, "");
      this.dispatchEvent(new CustomEvent("saved", { detail: { task, said: "Answered." } }));
    } catch (problem) {
      say(error, `Not answered: ${problem.message}`);
    }
  }
}

customElements.define("upload-questions", UploadQuestions);
