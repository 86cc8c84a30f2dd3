// An album: its songs by disc and number, what is wrong with one, and corrections to single songs.

import { el, say } from "./dom.js";
import { bytes, playing } from "./format.js";
import { icon } from "./icons.js";
import { count, keyed, reveal } from "./parts.js";

const CORRECTABLE = new Set(["uploadcomplete", "preprocessed", "integrationfailed"]);
/** Members of a correction, and what the facts about a song call them. */
const MEMBERS = { title: "title", artist: "artist", disc: "disc", number: "track" };

/**
 * The songs as they are to be imported: corrected, by disc and number.
 *
 * @returns {{song: number, track: object, title: string, artist: string, disc: number, number: number, skip: boolean,
 *   corrected: boolean, twin: number}[]} `song` counts from 1, as corrections do; `twin` is an earlier one with the same bytes.
 */
export function songsOf(task) {
  const tracks = Array.isArray(task.content.tracks) ? task.content.tracks : [];
  const corrections = task.annotations.tracks ?? {};
  const first = new Map();
  const songs = tracks.map((track, index) => {
    const change = corrections[index + 1] ?? {};
    const twin = first.get(track.sha256) ?? 0;
    if (!twin && !track.problem && change.skip !== true) first.set(track.sha256, index + 1);
    const now = Object.fromEntries(Object.entries(MEMBERS).map(([member, fact]) => [member, change[member] ?? track[fact]]));
    const corrected = Object.entries(MEMBERS).some(([member, fact]) => now[member] !== track[fact]);
    return { song: index + 1, track, ...now, disc: now.disc || 1, skip: change.skip === true, corrected, twin };
  });
  return songs.sort((one, other) => one.disc - other.disc || (one.number || 1e4) - (other.number || 1e4) || one.song - other.song);
}

/** "12 songs on 2 discs, 41:10". */
export function summary(task) {
  const songs = songsOf(task);
  const discs = new Set(songs.map(({ disc }) => disc)).size;
  const length = songs.reduce((sum, { track }) => sum + (track.duration || 0), 0);
  return `${count(songs.length, "song")}${discs > 1 ? ` on ${discs} discs` : ""}, ${playing(length)}`;
}

/** <album-view>. Properties: `app`. Methods: `show(facts)`. Events: "saved" with the task as it is then. */
class AlbumView extends HTMLElement {
  app = null;
  #task = null;
  #artist = "";

  connectedCallback() {
    if (this.table) return;
    this.about = el("p", { class: "quiet" });
    this.body = el("tbody");
    this.table = el(
      "table",
      { class: "table songs" },
      el("caption", { class: "hidden-visually" }, "Songs"),
      el(
        "thead",
        {},
        el("tr", {}, el("th", { scope: "col" }, "No."), el("th", { scope: "col" }, "Title"), el("th", { scope: "col" }, "Length"), el("th", { scope: "col" }, el("span", { class: "hidden-visually" }, "Correct"))),
      ),
      this.body,
    );
    this.others = el("ul", { class: "small" });
    this.left = el("details", {}, el("summary", {}), this.others);
    this.append(this.about, this.table, this.left);
  }

  /** @param {{task: object, problems: object[]}} facts */
  show({ task, problems }) {
    this.#task = task;
    const songs = songsOf(task);
    this.#artist = task.annotations.artistname || task.content.guess?.artistname;
    reveal(this, songs.length > 0);
    if (!songs.length) return;
    const { cover, left_out: left = [] } = task.content;
    const where = cover && (cover.embedded ? "in the songs" : cover.name.split("/").at(-1));
    say(this.about, `${summary(task)}. ${cover ? `Cover: ${where}, ${cover.width}×${cover.height} pixels.` : "No cover."}`);
    const several = new Set(songs.map(({ disc }) => disc)).size > 1;
    const lines = [];
    let disc = 0;
    for (const song of songs) {
      if (several && song.disc !== disc) lines.push({ heading: song.disc });
      ({ disc } = song);
      lines.push(song);
    }
    const wrong = new Map();
    for (const { severity, sentence } of problems) {
      const named = severity === "reject" && /\bsong (\d+)/i.exec(sentence);
      if (named) wrong.set(Number(named[1]), sentence);
    }
    keyed(
      this.body,
      lines,
      (line) => (line.heading ? `disc ${line.heading}` : `song ${line.song}`),
      (line) => (line.heading ? heading(line.heading) : this.#row(line)),
      (row, line) => line.heading || this.#update(row, line, wrong.get(line.song)),
    );
    reveal(this.left, left.length > 0);
    say(this.left.firstElementChild, `${count(left.length, "other file")} in the archive ${left.length === 1 ? "stays" : "stay"} behind`);
    keyed(this.others, left, (name) => name, (name) => el("li", { class: "mono" }, name));
  }

  #row({ song }) {
    const button = el("button", { type: "button", class: "button only", title: "Correct" }, icon("edit"));
    const row = el(
      "tr",
      {},
      el("td", { class: "number numbers" }),
      el("td", {}, el("span", { class: "song-title" }), el("span", { class: "song-artist quiet small" }), el("span", { class: "song-marks cluster" }), el("p", { class: "wrong small" })),
      el("td", { class: "numbers" }),
      el("td", { class: "do" }, button),
    );
    button.addEventListener("click", () => this.#edit(row, song));
    return row;
  }

  #update(row, line, wrong) {
    row.line = line;
    const { track, skip, twin, corrected } = line;
    const [number, title, length, action] = row.children;
    row.classList.toggle("skipped", skip || Boolean(track.problem) || Boolean(twin));
    say(number, line.number ? String(line.number) : "–");
    say(title.querySelector(".song-title"), line.title);
    // Of the album's own artist nobody needs to read in each line.
    say(title.querySelector(".song-artist"), line.artist === this.#artist ? "" : line.artist);
    const marks = [
      track.problem && { look: "failed", text: "cannot be used" },
      skip && { look: "gone", text: "left out" },
      !skip && twin && { look: "gone", text: `the same file as song ${twin}` },
      corrected && { look: "fine", text: "corrected" },
    ].filter(Boolean);
    keyed(
      title.querySelector(".song-marks"),
      marks,
      ({ text }) => text,
      ({ look, text }) => el("span", { class: "chip", dataset: { look } }, text),
    );
    say(title.querySelector(".wrong"), [track.reason, wrong].filter(Boolean).join(" "));
    const quality = track.codec && `${track.codec.toUpperCase()}${track.bitrate && !track.lossless ? `, ${Math.round(track.bitrate / 1000)} kbit/s` : ""}, ${bytes(track.size)}`;
    length.title = quality || "";
    say(length, playing(track.duration || Number.NaN));
    const button = action.querySelector("button");
    button.setAttribute("aria-label", `Correct song ${line.song}: ${line.title}`);
    reveal(button, CORRECTABLE.has(this.#task.state) && !track.problem);
  }

  #edit(row, song) {
    if (row.nextElementSibling?.classList.contains("editing") || this.editing) this.#close();
    const { line } = row;
    const field = (member, label, options = {}) => {
      const id = `song-${song}-${member}`;
      const input = el("input", { id, name: member, type: "text", value: String(line[member] || ""), spellcheck: false, ...options });
      return el("div", { class: `field ${member}` }, el("label", { for: id }, label), input);
    };
    const whole = { type: "number", min: 1, max: 999, step: 1 };
    const skip = el("input", { type: "checkbox", name: "skip", checked: line.skip });
    const wrong = el("p", { class: "wrong", role: "alert" });
    const form = el(
      "form",
      { class: "stack tight", noValidate: true, "aria-label": `Song ${song}` },
      el("div", { class: "song-fields" }, field("disc", "Disc", whole), field("number", "No.", whole), field("title", "Title", { maxLength: 500 }), field("artist", "Artist", { maxLength: 500 })),
      el("p", { class: "hint" }, `In the tags: ${[line.track.track && `${line.track.track}.`, line.track.title, line.track.artist && `by ${line.track.artist}`].filter(Boolean).join(" ")}`),
      el("label", { class: "choice" }, skip, "Leave this song out"),
      wrong,
      el("div", { class: "cluster" }, el("button", { type: "submit", class: "button primary" }, "Save"), el("button", { type: "button", class: "button", on: { click: () => this.#close() } }, "Cancel")),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save(form, row, song, wrong);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#close();
    });
    // In the row itself, which stays whatever comes: what is typed survives all updates.
    const cell = el("td", { class: "edit", colSpan: 4 }, form);
    row.classList.add("editing");
    row.append(cell);
    this.editing = row;
    form.elements.title.focus();
    form.elements.title.select();
  }

  #close() {
    const row = this.editing;
    if (!row) return;
    this.editing = null;
    row.classList.remove("editing");
    row.querySelector("td.edit")?.remove();
    row.querySelector(".do button").focus();
  }

  async #save(form, row, song, wrong) {
    const { track } = row.line;
    const change = {};
    for (const [member, fact] of Object.entries(MEMBERS)) {
      const input = form.elements[member];
      const text = input.value.trim();
      if (member === "disc" || member === "number") {
        const number = Number(text);
        if (text && !(Number.isInteger(number) && number > 0 && number < 1000)) {
          say(wrong, `${member === "disc" ? "The disc" : "The number"} must be a whole number from 1 to 999.`);
          input.focus();
          return;
        }
        if (text && number !== (track[fact] || (member === "disc" ? 1 : 0))) change[member] = number;
      } else if (text && text !== track[fact]) change[member] = text;
    }
    if (form.elements.skip.checked) change.skip = true;
    try {
      // A correction takes the place of all others, so the newest of these go with it.
      const newest = await this.app.store.task(this.#task.id);
      const tracks = { ...newest.annotations.tracks, [song]: change };
      const task = await this.app.api.patch(`api/uploads/${encodeURIComponent(this.#task.id)}`, { annotations: { tracks } });
      this.#close();
      this.dispatchEvent(new CustomEvent("saved", { detail: { task, said: `Song ${song} was saved.` } }));
    } catch (problem) {
      say(wrong, `Not saved: ${problem.message}`);
    }
  }
}

function heading(disc) {
  return el("tr", { class: "disc" }, el("th", { scope: "rowgroup", colSpan: 4 }, `Disc ${disc}`));
}

customElements.define("album-view", AlbumView);
