// Numbers, times and states as people read them.

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** 1536000 → "1.5 MB"; what is not known → "?". */
export function bytes(size) {
  if (size === null || size === undefined) return "?";
  let value = size;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return unit === 0 ? `${value} bytes` : `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}

/** Bytes a second; nothing while it stands still. */
export function speed(rate) {
  return rate > 0 ? `${bytes(Math.round(rate))}/s` : "";
}

/** 75 → "1 min 15 s"; of long times only what matters. */
export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 3600) return `${Math.round(whole / 60)} min`;
  const minutes = Math.round(whole / 60);
  if (minutes < 2880) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.round(minutes / 1440)} days`;
}

/** Length of music or film: 75.4 → "1:15". */
export function playing(seconds) {
  if (!Number.isFinite(seconds)) return "";
  const whole = Math.round(seconds);
  const rest = String(whole % 60).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** Seconds since the epoch → a date and a time as the reader writes them. */
export function moment(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** Share of an upload that is there, 0 to 1; null while its size is not known. */
export function share(line) {
  return line.filesize ? Math.min(1, line.offset / line.filesize) : null;
}

/** 0.256 → "25 %"; only what is whole is 100 %. */
export function percent(value) {
  return value === null ? "" : `${Math.floor(value * 100)} %`;
}

/**
 * The states of the life cycle: what a person reads, and how it looks.
 * `look`: moving, working, asking (something is to be done by a person), failed, fine, gone.
 */
export const STATES = {
  waitforchunk: { text: "Uploading", look: "moving" },
  uploadcomplete: { text: "Uploaded, being checked", look: "working" },
  uploadfailed: { text: "Upload failed", look: "failed" },
  preprocessed: { text: "Ready to import", look: "asking" },
  invalidcontent: { text: "Cannot be used", look: "failed" },
  integrated: { text: "In the music directory", look: "working" },
  integrationfailed: { text: "Could not be placed", look: "failed" },
  startimport: { text: "Being imported", look: "working" },
  importfailed: { text: "Import failed", look: "failed" },
  importartwork: { text: "Pictures are being made", look: "working" },
  importcomplete: { text: "In the library", look: "fine" },
  remove: { text: "Being removed", look: "gone" },
};

/** How a state is called, and how it looks; of one that is newer than this page its own name. */
export function state(name) {
  return STATES[name] ?? { text: name, look: "working" };
}
