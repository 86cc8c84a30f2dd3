// A question before something is lost.

import { el } from "./dom.js";

/**
 * Asks in a dialogue; Escape and the first button say no.
 *
 * @param {object} question
 * @param {string} question.title What is asked.
 * @param {string} [question.text] What it means.
 * @param {string} question.yes The button that does it.
 * @param {string} [question.no] The button that does not.
 * @param {boolean} [question.destroys] Whether something is lost.
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text = "", yes, no = "Keep it", destroys = true }) {
  return new Promise((resolve) => {
    const heading = el("h2", { id: "question" }, title);
    const refuse = el("button", { class: "button", type: "button", on: { click: () => dialog.close() } }, no);
    const agree = el(
      "button",
      { class: `button ${destroys ? "danger" : "primary"}`, type: "button", on: { click: () => dialog.close("yes") } },
      yes,
    );
    const dialog = el(
      "dialog",
      {
        "aria-labelledby": "question",
        on: {
          close: () => {
            dialog.remove();
            resolve(dialog.returnValue === "yes");
          },
        },
      },
      el("div", { class: "stack tight" }, heading, text && el("p", { class: "quiet" }, text)),
      el("div", { class: "cluster" }, refuse, agree),
    );
    document.body.append(dialog);
    dialog.showModal(); // the first button has the focus, so Enter alone destroys nothing
  });
}
