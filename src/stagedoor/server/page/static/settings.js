// What this browser keeps for its user: the key and the theme; and what the server says about itself.

import { el, say } from "./dom.js";
import { bytes } from "./format.js";
import { icon } from "./icons.js";

const KEY = "stagedoor.key";
const THEME = "stagedoor.theme";

// A browser may forbid storage altogether; then things are kept until the tab is closed.
function read(storage, name) {
  try {
    return globalThis[storage].getItem(name) ?? "";
  } catch {
    return "";
  }
}

function write(storage, name, value) {
  try {
    if (value) globalThis[storage].setItem(name, value);
    else globalThis[storage].removeItem(name);
  } catch {
    // See above.
  }
}

/** The key and the theme. Fires "key" when the key changes. */
export class Settings extends EventTarget {
  /** @type {string} Empty when there is none. */
  key = read("sessionStorage", KEY) || read("localStorage", KEY);
  /** @type {boolean} Whether the key outlives the tab. */
  kept = read("localStorage", KEY) !== "";
  /** @type {"" | "light" | "dark"} Empty: as the system has it. */
  theme = read("localStorage", THEME);

  /** Takes a key, for this tab or for this browser. */
  setKey(key, kept) {
    this.key = key;
    this.kept = kept && key !== "";
    write("sessionStorage", KEY, this.kept ? "" : key);
    write("localStorage", KEY, this.kept ? key : "");
    this.dispatchEvent(new CustomEvent("key"));
  }

  /** Takes a theme. */
  setTheme(theme) {
    this.theme = theme;
    write("localStorage", THEME, theme);
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }
}

let fields = 0; // ids are told apart by it: the form is in two places

/** The form for the key, in the settings and in front of a server that asks for one. */
export function keyForm(settings, { wrong = "", yes = "Use this key" } = {}) {
  fields += 1;
  const id = `key-${fields}`;
  const input = el(
    "input",
    { id, type: "password", autocomplete: "current-password", spellcheck: false, value: settings.key, required: true },
  );
  if (wrong) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", `${id}-wrong`);
  }
  const kept = el("input", { id: `${id}-kept`, type: "checkbox", checked: settings.kept });
  const send = (event) => {
    event.preventDefault();
    settings.setKey(input.value.trim(), kept.checked);
  };
  return el(
    "form",
    { class: "stack", on: { submit: send } },
    el(
      "div",
      { class: "field" },
      el("label", { for: id }, "API key"),
      input,
      wrong && el("p", { id: `${id}-wrong`, class: "wrong" }, wrong),
    ),
    el("label", { class: "choice" }, kept, "Remember it in this browser"),
    el(
      "p",
      { class: "hint" },
      "Otherwise it is forgotten when this tab is closed. Do not let it be remembered on a computer that others use.",
    ),
    el("div", { class: "cluster" }, el("button", { class: "button primary" }, icon("key"), yes)),
  );
}

const LIMITS = [
  ["max_file_size", "Largest file", bytes],
  ["chunk_size", "Sent in pieces of", bytes],
  ["max_chunk", "Largest piece", bytes],
  ["window", "Pieces on their way at once", String],
  ["max_annotations", "Room for what is said about an upload", bytes],
];

/** <settings-view>: key, theme, the server's limits and version, and its documents. */
export class SettingsView extends HTMLElement {
  connectedCallback() {
    const { settings, connection } = this.app;
    this.follow = () => this.showLimits();
    this.follow.key = () => this.showKey();
    connection.addEventListener("status", this.follow);
    settings.addEventListener("key", this.follow.key);
    this.limits = el("dl", { class: "facts" });
    this.none = el("p", { class: "quiet" }, "They come with the connection.");
    this.version = el("dd", {}, "…");
    this.key = el("div", { class: "stack" });
    this.replaceChildren(
      el(
        "nav",
        { class: "way-back", "aria-label": "Back" },
        el("a", { class: "button bare", href: "#/" }, icon("back"), "All uploads"),
      ),
      el("h1", { tabIndex: -1 }, "Settings"),
      section("Appearance", this.themes()),
      section("Key", this.key),
      section(
        "The server",
        el("dl", { class: "facts" }, el("dt", {}, "stagedoor"), this.version),
        this.none,
        this.limits,
      ),
      section("Documents", this.documents()),
    );
    this.showKey();
    this.showLimits();
    this.showVersion();
  }

  disconnectedCallback() {
    this.app.connection.removeEventListener("status", this.follow);
    this.app.settings.removeEventListener("key", this.follow.key);
  }

  themes() {
    const { settings } = this.app;
    const choice = (value, text) =>
      el(
        "label",
        { class: "choice" },
        el(
          "input",
          {
            type: "radio",
            name: "theme",
            value,
            checked: settings.theme === value,
            on: { change: () => settings.setTheme(value) },
          },
        ),
        text,
      );
    return el(
      "fieldset",
      { class: "stack tight" },
      el("legend", { class: "hidden-visually" }, "Theme"),
      el(
        "div",
        { class: "cluster wide" },
        choice("", "As the system has it"),
        choice("light", "Light"),
        choice("dark", "Dark"),
      ),
    );
  }

  showKey() {
    const { settings } = this.app;
    const where = settings.kept ? "A key is remembered in this browser." : "A key is kept until this tab is closed.";
    const forget = el(
      "button",
      { class: "button", type: "button", on: { click: () => settings.setKey("", false) } },
      icon("remove"),
      "Forget the key",
    );
    this.key.replaceChildren(
      el(
        "p",
        { class: "quiet", role: "status" },
        settings.key ? where : "No key is set. Some servers do not ask for one.",
      ),
      keyForm(settings),
      ...(settings.key ? [el("div", { class: "cluster" }, forget)] : []),
    );
  }

  showLimits() {
    const { limits } = this.app.connection;
    const known = LIMITS.filter(([name]) => limits?.[name] !== undefined);
    this.none.hidden = known.length > 0;
    this.limits.hidden = known.length === 0;
    const fact = ([name, text, write]) => [el("dt", {}, text), el("dd", {}, write(limits[name]))];
    this.limits.replaceChildren(...known.flatMap(fact));
  }

  async showVersion() {
    try {
      const { info } = await this.app.api.get("api/openapi.json");
      say(this.version, `version ${info.version}`);
    } catch (problem) {
      say(this.version, problem.message);
    }
  }

  documents() {
    const link = (path, text, hint) =>
      el(
        "li",
        {},
        el("a", { href: path, target: "_blank", on: { click: (event) => this.openDocument(event, path) } }, text),
        " ",
        el("span", { class: "quiet" }, hint),
      );
    return el(
      "ul",
      { class: "stack tight" },
      link("api/openapi.json", "HTTP API", "OpenAPI 3.1, for programs of your own"),
      link("api/asyncapi.json", "Events and WebSocket", "AsyncAPI 3"),
      link("api/lifecycle/diagram.svg", "The life of an upload", "as a picture"),
    );
  }

  // A link cannot carry the key, so with one the document is fetched and opened from memory.
  async openDocument(event, path) {
    const { api, settings } = this.app;
    if (!settings.key) return;
    event.preventDefault();
    try {
      const url = await api.picture(path);
      window.open(url, "_blank");
      setTimeout(() => URL.revokeObjectURL(url), 60_000); // time for the other tab to read it
    } catch (problem) {
      this.app.complain(problem);
    }
  }
}

function section(title, ...children) {
  return el("section", { class: "panel stack" }, el("h2", {}, title), ...children);
}

customElements.define("settings-view", SettingsView);
