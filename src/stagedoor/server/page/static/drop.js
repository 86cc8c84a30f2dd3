// Where files come in: dropped anywhere on the page, chosen, or pasted.

import { el } from "./dom.js";
import { icon } from "./icons.js";
import { fromDrop, fromFiles, fromFolderPicker, fromPaste, fromPicker, hasPicker } from "./pick.js";

const FOLDERS = "webkitdirectory" in HTMLInputElement.prototype && !matchMedia("(pointer: coarse)").matches;

/**
 * <drop-zone>: buttons for files and a folder; with `teaching` also what can be dropped and what happens then.
 * `choose()` opens the field for files.
 */
export class DropZone extends HTMLElement {
  connectedCallback() {
    this.files = this.input({ multiple: true }, "Files to upload");
    this.folder = this.input({ webkitdirectory: true }, "A folder to upload as one album");
    const choose = el(
      "button",
      { class: "button primary", type: "button", on: { click: () => this.choose() } },
      icon("file"),
      "Choose files",
    );
    const chooseFolder = el(
      "button",
      { class: "button", type: "button", on: { click: () => this.chooseFolder() } },
      icon("folder"),
      "Choose a folder",
    );
    this.cover = el(
      "div",
      { class: "drop-cover", hidden: true },
      el("p", {}, icon("import"), "Drop to upload"),
      el("p", { class: "quiet" }, "A folder becomes one album."),
    );
    this.lesson = lesson();
    this.replaceChildren(
      this.lesson,
      el(
        "div",
        { class: "cluster ways" },
        choose,
        FOLDERS && chooseFolder,
        el("p", { class: "quiet small way" }, "or drop or paste them anywhere on this page"),
      ),
      this.files,
      this.folder,
    );
    document.body.append(this.cover);
    this.lesson.hidden = true;
    this.listen();
  }

  disconnectedCallback() {
    this.gone.abort();
    this.cover.remove();
  }

  /** Shows what can be dropped, or only the buttons. */
  teach(whether) {
    if (this.lesson.hidden === !whether) return;
    this.lesson.hidden = !whether;
    this.classList.toggle("teaching", whether);
  }

  /** Lets the user choose files; a picker with handles, where there is one, so that a reload needs no second choice. */
  choose() {
    return this.app.attempt(async () => (hasPicker() ? this.take(await fromPicker()) : this.files.click()));
  }

  chooseFolder() {
    return this.app.attempt(async () => (hasPicker() ? this.take(await fromFolderPicker()) : this.folder.click()));
  }

  input(properties, label) {
    const field = el("input", {
      type: "file",
      hidden: true,
      "aria-label": label,
      ...properties,
      on: {
        change: () => {
          this.take(fromFiles(field.files));
          field.value = "";
        },
      },
    });
    return field;
  }

  take(picked) {
    if (picked.length === 0) return;
    this.app.sources.add(picked);
    this.app.say(picked.length === 1 ? `${picked[0].name} was added.` : `${picked.length} uploads were added.`);
  }

  listen() {
    this.gone = new AbortController();
    const options = { signal: this.gone.signal };
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    const show = (whether) => {
      this.cover.hidden = !whether;
    };
    // dragleave also comes for each child; what counts is whether the pointer left the window.
    window.addEventListener("dragenter", (event) => carries(event) && show(true), options);
    window.addEventListener("dragleave", (event) => event.relatedTarget === null && show(false), options);
    window.addEventListener("dragend", () => show(false), options);
    window.addEventListener(
      "dragover",
      (event) => {
        if (!carries(event)) return;
        event.preventDefault();
        event.dataTransfer.dropEffect = "copy";
      },
      options,
    );
    window.addEventListener(
      "drop",
      (event) => {
        if (!carries(event)) return;
        event.preventDefault(); // else the browser would leave the page and show the file
        show(false);
        this.takeLater(fromDrop(event.dataTransfer), "There was no file in what was dropped.");
      },
      options,
    );
    window.addEventListener(
      "paste",
      (event) => {
        if (event.target.closest?.("input, textarea") || !event.clipboardData?.files.length) return;
        event.preventDefault();
        this.takeLater(fromPaste(event.clipboardData), "There was no file in what was pasted.");
      },
      options,
    );
  }

  takeLater(promise, nothing) {
    return this.app.attempt(async () => {
      const picked = await promise;
      if (picked.length === 0) this.app.complain(new Error(nothing));
      else this.take(picked);
    });
  }
}

function lesson() {
  const kind = (name, title, text) => el(
    "li",
    {},
    icon(name),
    el("div", {}, el("h2", {}, title), el("p", { class: "quiet small" }, text)),
  );
  const step = (title, text) => el("li", {}, el("strong", {}, title), " ", el("span", { class: "quiet" }, text));
  return el(
    "div",
    { class: "lesson stack" },
    el("h1", {}, "Bring music in"),
    el("p", { class: "quiet" }, "Choose files, or drop them anywhere on this page. Each of these is one upload:"),
    el(
      "ul",
      { class: "kinds" },
      kind("album", "Albums", "A folder, a zip or tar file, or a single song."),
      kind("video", "Music videos", "mp4, m4v, webm or mkv."),
      kind("artwork", "Covers", "A picture for an album that is in the library."),
    ),
    el(
      "ol",
      { class: "steps stack tight" },
      step("It is sent.", "If the line breaks, or this tab, it goes on where it stopped."),
      step("It is checked.", "Damaged files are found, and you are told what is wrong."),
      step("You look at it.", "Correct its names, and see where each file will go."),
      step("You import it.", "One click puts it into the library, another takes it back."),
    ),
  );
}

customElements.define("drop-zone", DropZone);
