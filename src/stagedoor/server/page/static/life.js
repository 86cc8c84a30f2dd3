// The life of an upload: the way it took as a picture, and what happened as a list.

import { el, say } from "./dom.js";
import { moment, state } from "./format.js";
import { keyed, reveal } from "./parts.js";

/** What an event is, in words; where several rows have a trigger, by the state that it led to. */
const EVENTS = {
  create: "Offered",
  recover: "Taken over from an older version, or found after a restart",
  declare: "Its length or its checksum was told",
  complete: { uploadcomplete: "Everything has arrived, and the checksum is right", uploadfailed: "Everything has arrived, but the checksum is wrong" },
  fail: "The upload failed",
  begin: "Work on the next step began",
  release: "The step did not work out, and is tried again later",
  preprocess: { preprocessed: "The content was looked at and is fine", invalidcontent: "The content was looked at and cannot be used" },
  annotate: "Somebody said what it is",
  request: "The import was asked for",
  integrate: { integrated: "The files were placed", integrationfailed: "The files could not be placed" },
  start_import: "The import into the catalogue began",
  import_: { importartwork: "The catalogue has it", importcomplete: "The catalogue has it", importfailed: "The catalogue did not take it" },
  import_artwork: { importcomplete: "The pictures were made", importfailed: "The pictures could not be made" },
  retry: "Somebody asked to try again",
  request_undo: "Somebody asked to take the import back",
  undo: "The import was taken back",
  expire: "It expired",
  remove: "Its removal was asked for",
};

function said({ trigger, dest }) {
  const words = EVENTS[trigger] ?? trigger;
  return typeof words === "string" ? words : (words[dest] ?? trigger);
}

/** <life-view>. Properties: `pictures`. Methods: `show(facts)`. */
class LifeView extends HTMLElement {
  pictures = null;
  #drawn = "";
  #path = "";

  connectedCallback() {
    if (this.list) return;
    this.list = el("ol", { class: "history" });
    this.all = el("input", { type: "checkbox", on: { change: () => this.#tell() } });
    this.image = el("img", { hidden: true });
    this.nothing = el("p", { class: "quiet" }, "Loading the picture …");
    this.append(
      el(
        "div",
        {},
        el("h3", {}, "What happened"),
        this.list,
        el("label", { class: "choice small" }, this.all, "Show every step"),
      ),
      el(
        "figure",
        {},
        el("figcaption", {}, el("h3", {}, "The way it took")),
        // It is wider than a phone, and a keyboard has to reach all of it.
        el("div", { class: "picture-scroll", tabIndex: 0, role: "group", "aria-label": "The life cycle, can be scrolled" }, this.nothing, this.image),
      ),
    );
  }

  /** @param {{task: object}} facts */
  show({ task }) {
    this.task = task;
    this.#tell();
    const states = task.history.filter(({ source, dest, trigger }) => source !== dest || trigger === "create").map(({ dest }) => dest);
    const key = `${task.uid} ${states.join(" ")} ${task.wanted ?? ""}`;
    if (key === this.#drawn) return;
    this.#drawn = key;
    const names = states.map((one) => state(one).text);
    this.image.alt = `The life cycle, with the way of this upload: ${names.join(", then ")}. It is now: ${state(task.state).text}.`;
    this.#draw(task.id, key);
  }

  async #draw(id, key) {
    const path = `api/uploads/${encodeURIComponent(id)}/diagram.svg`;
    if (this.#path) this.pictures.forget(this.#path);
    this.#path = path;
    try {
      const url = await this.pictures.of(path);
      if (key !== this.#drawn) return;
      this.image.src = url;
      reveal(this.image, true);
      reveal(this.nothing, false);
    } catch (problem) {
      if (key !== this.#drawn) return;
      this.#drawn = ""; // the next change tries again
      reveal(this.image, false);
      reveal(this.nothing, true);
      say(this.nothing, `The picture cannot be had now: ${problem.message}`);
    }
  }

  #tell() {
    const { history } = this.task;
    const shown = this.all.checked ? history : history.filter(({ trigger }) => trigger !== "begin");
    keyed(
      this.list,
      shown,
      ({ sequence }) => String(sequence),
      (event) =>
        el(
          "li",
          {},
          el("time", { class: "quiet small numbers", dateTime: new Date(event.time * 1000).toISOString() }, moment(event.time)),
          el("p", { class: "what" }),
          el("p", { class: "why quiet small" }),
        ),
      (item, event) => {
        const moved = event.source !== event.dest || event.trigger === "create";
        item.className = moved ? "moved" : "";
        item.dataset.look = moved ? state(event.dest).look : "";
        say(item.querySelector(".what"), said(event));
        say(item.querySelector(".why"), event.reason);
      },
    );
  }
}

customElements.define("life-view", LifeView);
