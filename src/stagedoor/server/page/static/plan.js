// The plan as a tree of paths: what will be placed and what is in the way; later, what was placed.

import { el, say } from "./dom.js";
import { bytes } from "./format.js";
import { icon } from "./icons.js";
import { count } from "./parts.js";

const ROOTS = { music: "Music directory", artwork: "Artwork directory" };
const NO_PLAN = new Set(["waitforchunk", "uploadcomplete", "uploadfailed", "invalidcontent"]);

/** What a file of the plan is, and how that looks. */
const STANDS = {
  new: { text: "new", look: "" },
  taken: { text: "in the way", look: "failed" },
  replaces: { text: "replaces a file", look: "asking" },
  later: { text: "to be made", look: "working" },
  placed: { text: "placed", look: "" },
  replaced: { text: "placed, an older file is kept", look: "fine" },
};

/**
 * The files of a plan, or those that were placed, each with how it stands.
 *
 * @returns {{root: string, path: string, size: number|null, stands: string}[]}
 */
export function filesOf(task, plan) {
  const placed = task.placed.map(({ root, path, size, replaced }) => ({ root, path, size, stands: replaced ? "replaced" : "placed" }));
  if (!plan) return placed;
  const there = new Set(placed.map(({ root, path }) => `${root}/${path}`));
  const taken = new Set(plan.taken ?? []);
  const planned = [...plan.files, ...plan.artwork].filter(({ root, path }) => !there.has(`${root}/${path}`));
  const stands = ({ root, path, replace }) => {
    if (replace) return "replaces";
    if (taken.has(`${root}/${path}`)) return "taken";
    return placed.length ? "later" : "new";
  };
  // What was left out for good is no promise any more.
  const open = task.state === "importcomplete" ? [] : planned;
  return [...placed, ...open.map((file) => ({ ...file, stands: stands(file) }))];
}

function sentence(files, task, plan) {
  const of = (root) => files.filter((file) => file.root === root).length;
  const what = [of("music") && count(of("music"), "file"), of("artwork") && count(of("artwork"), "picture")].filter(Boolean);
  const done = task.placed.length > 0;
  const parts = [`${what.join(" and ")} ${done ? (files.length === 1 ? "is" : "are") : "will be"} in the library.`];
  const later = files.filter(({ stands }) => stands === "later").length;
  if (done && later) parts[0] = `${count(files.length - later, "file")} placed, ${later} still to be made.`;
  const taken = files.filter(({ stands }) => stands === "taken").length;
  const replaces = files.filter(({ stands }) => stands === "replaces").length;
  if (taken) parts.push(taken === 1 ? "1 name is taken by a file of the library." : `${taken} names are taken by files of the library.`);
  if (replaces) parts.push(`${count(replaces, "file")} of the library ${replaces === 1 ? "is" : "are"} replaced, and kept for an undo.`);
  const folders = plan?.directories?.length ?? 0;
  if (!done && folders) parts.push(`${count(folders, "folder")} ${folders === 1 ? "is" : "are"} new.`);
  return parts.join(" ");
}

/** Paths as a tree: folders first come, first shown. */
function grown(files, directories) {
  const fresh = new Set(directories);
  const top = { children: new Map() };
  for (const file of files) {
    let at = top;
    let path = "";
    const steps = [file.root, ...file.path.split("/")];
    steps.forEach((step, depth) => {
      path = path ? `${path}/${step}` : step;
      if (!at.children.has(step)) {
        const name = depth === 0 ? (ROOTS[step] ?? step) : step;
        at.children.set(step, { path, name, children: new Map(), fresh: fresh.has(path), file: null });
      }
      at = at.children.get(step);
    });
    at.file = file;
  }
  return top;
}

/** <plan-tree>. Methods: `show(facts)`. */
class PlanTree extends HTMLElement {
  #closed = new Set(); // paths of folders
  #shown = "";

  connectedCallback() {
    if (this.summary) return;
    this.summary = el("p");
    this.tree = el("ul", { class: "tree", role: "tree", "aria-label": "Files and folders" });
    this.tree.addEventListener("keydown", (event) => this.#key(event));
    this.tree.addEventListener("click", (event) => this.#click(event));
    this.append(this.summary, this.tree);
  }

  /** @param {{task: object, plan: object|null}} facts */
  show({ task, plan, failure = "" }) {
    const files = filesOf(task, plan);
    const early = NO_PLAN.has(task.state) ? "What goes where is known once the file is here and was looked at." : "";
    const nothing = failure || early || (plan ? "Nothing can be placed yet: see above what is missing." : "Loading …");
    say(this.summary, files.length ? sentence(files, task, plan) : nothing);
    const directories = task.placed.length ? [] : (plan?.directories ?? []);
    const shown = JSON.stringify([files, directories]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#draw(grown(files, directories));
  }

  #draw(top) {
    const focused = this.tree.contains(document.activeElement) ? document.activeElement.dataset.path : null;
    const items = [...top.children.values()].map((node) => this.#item(node, 1));
    this.tree.replaceChildren(...items);
    this.tree.hidden = items.length === 0;
    const again = this.#items().find((item) => item.dataset.path === focused);
    this.#stop(again ?? this.#items()[0]);
    if (focused !== null) (again ?? this.#items()[0])?.focus({ preventScroll: true });
  }

  #item(node, level) {
    const { path, name, file, children } = node;
    if (file && !children.size) {
      const { text, look } = STANDS[file.stands];
      return el(
        "li",
        { role: "treeitem", tabIndex: -1, "aria-level": level, dataset: { path } },
        el(
          "div",
          { class: "leaf" },
          icon("file"),
          el(
            "span",
            { class: "words" },
            el("span", { class: "path" }, name),
            " ", // it is the item's name, too: words that stand apart are said apart
            file.size !== null && el("span", { class: "quiet small numbers" }, bytes(file.size)),
            " ",
            look ? el("span", { class: "chip", dataset: { look } }, text) : el("span", { class: "quiet small" }, text),
          ),
        ),
      );
    }
    const inner = [...children.values()];
    const open = !this.#closed.has(path);
    const said = [name, count(inner.length, "entry").replace("entrys", "entries"), node.fresh ? "new folder" : ""].filter(Boolean);
    return el(
      "li",
      { role: "treeitem", tabIndex: -1, "aria-level": level, "aria-expanded": open, "aria-label": said.join(", "), dataset: { path } },
      el(
        "div",
        { class: "leaf folder" },
        icon("open"),
        el("span", { class: "words" }, el("span", { class: "path" }, name), node.fresh && el("span", { class: "quiet small" }, "new folder")),
      ),
      el("ul", { role: "group", hidden: !open }, inner.map((child) => this.#item(child, level + 1))),
    );
  }

  /** Those that can be seen, from top to bottom. */
  #items() {
    return [...this.tree.querySelectorAll("[role=treeitem]")].filter((item) => !item.parentElement.closest("[hidden]"));
  }

  /** One of them is a stop of the Tab key. */
  #stop(item) {
    for (const other of this.tree.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
    if (item) item.tabIndex = 0;
  }

  #go(item) {
    if (!item) return;
    this.#stop(item);
    item.focus();
  }

  #open(item, open) {
    const group = item.querySelector(":scope > [role=group]");
    if (!group) return;
    item.setAttribute("aria-expanded", String(open));
    group.hidden = !open;
    if (open) this.#closed.delete(item.dataset.path);
    else this.#closed.add(item.dataset.path);
  }

  #click(event) {
    const item = event.target.closest("[role=treeitem]");
    if (!item) return;
    if (event.target.closest(".leaf")?.parentElement === item) this.#open(item, item.getAttribute("aria-expanded") !== "true");
    this.#go(item);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const item = event.target.closest("[role=treeitem]");
    const items = this.#items();
    const at = items.indexOf(item);
    const expanded = item.getAttribute("aria-expanded");
    const parent = item.parentElement.closest("[role=treeitem]");
    if (event.key === "ArrowDown") this.#go(items[at + 1]);
    else if (event.key === "ArrowUp") this.#go(items[at - 1]);
    else if (event.key === "Home") this.#go(items[0]);
    else if (event.key === "End") this.#go(items.at(-1));
    else if (event.key === "ArrowRight" && expanded === "false") this.#open(item, true);
    else if (event.key === "ArrowRight" && expanded === "true") this.#go(items[at + 1]);
    else if (event.key === "ArrowLeft" && expanded === "true") this.#open(item, false);
    else if (event.key === "ArrowLeft") this.#go(parent);
    else if ((event.key === "Enter" || event.key === " ") && expanded) this.#open(item, expanded !== "true");
    else if (event.key.length === 1 && event.key !== " ") {
      const named = (one) => one.querySelector(".path").textContent.toLowerCase().startsWith(event.key.toLowerCase());
      this.#go([...items.slice(at + 1), ...items.slice(0, at)].find(named));
    } else return;
    event.preventDefault();
  }
}

customElements.define("plan-tree", PlanTree);
