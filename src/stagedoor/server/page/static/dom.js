// Elements without markup: whatever is said about an upload goes in as text.

/**
 * Makes an element.
 *
 * @param {string} name Of the element.
 * @param {object} [properties] `class`, `dataset` and names with a dash or of a role become attributes, `on` has listeners by
 *   event, everything else is set as a property. What is `null` or `undefined` is left out.
 * @param {...(Node|string|number|null|undefined|false|Array)} children Text, nodes, or lists of them.
 * @returns {HTMLElement}
 */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (key === "dataset") Object.assign(made.dataset, value);
    else if (key === "class") made.className = value;
    else if (key === "role" || key === "list" || key === "for" || key.includes("-")) made.setAttribute(key, String(value));
    else made[key] = value;
  }
  put(made, children);
  return made;
}

/** Adds text, nodes, or lists of them to an element. */
export function put(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    parent.append(child instanceof Node ? child : String(child));
  }
}

/** Sets text only where it differs: a reader of the screen is not told again, and nothing is laid out anew. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
