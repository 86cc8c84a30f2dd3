// Icons of our own: strokes on 24 by 24, coloured by the text around them. They are decoration; words stand beside
// them, or in the label of their button.

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  album: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 9.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z",
  answer: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1 1-1.1 1.8M12 16.8v.01",
  artwork: "M4 5h16v14H4zM4 16l5-5 4 4 2-2 5 4M15.5 9v.01",
  back: "M15 5l-7 7 7 7",
  cancel: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l5 5L19.5 7",
  edit: "M5 19l1-4.5L16.5 4 20 7.5 9.5 18zM14 6.5l3.5 3.5",
  file: "M7 3h7l4 4v14H7zM14 3v4h4",
  folder: "M3 6h6l2 2.5h10V19H3z",
  import: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  key: "M8 8.5a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 12.5h9v3.5M17.5 12.5V15",
  open: "M9 5l7 7-7 7",
  pause: "M9 6v12M15 6v12",
  remove: "M4.5 7h15M9.5 7V4.5h5V7M6.5 7l1 13h9l1-13M10.5 11v5M13.5 11v5",
  resume: "M8 5.5l11 6.5-11 6.5z",
  retry: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3L20 9.5M20 4.5v5h-5",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5L20 20",
  send: "M12 20V8.5M7 13l5-5 5 5M5 4h14",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM9 15a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
  undo: "M8 6L4 10l4 4M4 10h10a5 5 0 0 1 0 10H9",
  video: "M3.5 5h17v14h-17zM10 9l5 3-5 3z",
  warning: "M12 4l9.5 16.5h-19zM12 10v4.5M12 17.4v.01",
};

/** An icon by its name; one that is not known is a file. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name] ?? PATHS.file);
  svg.append(path);
  return svg;
}
