// What the parts of a card share: lists that keep their elements, and pictures.

const lists = new WeakMap(); // parent → Map of key → element

/**
 * Makes the children of an element those of a list. Elements stay for their keys, so focus and what is typed stay too.
 *
 * @param {Element} parent Has no other children.
 * @param {Array} items What to show.
 * @param {(item: any) => string} keyOf
 * @param {(item: any) => Element} make
 * @param {(element: Element, item: any) => void} [update] Called for old and new ones.
 */
export function keyed(parent, items, keyOf, make, update = () => {}) {
  const old = lists.get(parent) ?? new Map();
  const now = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, element] of old) if (!now.has(key)) element.remove();
  const made = new Map();
  let cursor = parent.firstElementChild;
  for (const [key, item] of now) {
    const element = old.get(key) ?? make(item);
    update(element, item);
    if (element === cursor) cursor = cursor.nextElementSibling;
    else parent.insertBefore(element, cursor);
    made.set(key, element);
  }
  lists.set(parent, made);
}

/** Shows or hides; what is hidden is out of reach of the keyboard too. */
export function reveal(element, shown) {
  element.hidden = !shown;
}

/** The path of a picture in the artwork directory. Names may hold anything. */
export function artworkPath(path) {
  return `api/artwork/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/**
 * Pictures of one card: each is fetched once, and let go with the card.
 *
 * @param {import("./api.js").Api} api
 * @returns {{of: (path: string) => Promise<string>, forget: (path: string) => void, clear: () => void}}
 */
export function pictures(api) {
  const urls = new Map();
  // An image that was just given an address may not have read it yet.
  const drop = (promise) => promise.then((url) => setTimeout(() => URL.revokeObjectURL(url), 10_000), () => {});
  return {
    of(path) {
      if (!urls.has(path)) {
        const fetched = api.picture(path);
        fetched.catch(() => urls.delete(path)); // it may be there the next time
        urls.set(path, fetched);
      }
      return urls.get(path);
    },
    forget(path) {
      const fetched = urls.get(path);
      urls.delete(path);
      if (fetched) drop(fetched);
    },
    clear() {
      for (const fetched of urls.values()) drop(fetched);
      urls.clear();
    },
  };
}

/** 1 → "1 file", 2 → "2 files". */
export function count(number, what) {
  return `${number.toLocaleString()} ${what}${number === 1 ? "" : "s"}`;
}
