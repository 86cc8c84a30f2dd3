// Files and folders out of a drop, a field, the browser's picker or the clipboard. A folder of songs is one album.

const JUNK = new Set(["thumbs.db", "desktop.ini", "__macosx", "$recycle.bin"]);
const SONGS = new Set("mp3 m4a m4b aac flac ogg oga opus wav wave aiff aif aifc".split(" "));
const PICTURES = new Set("jpg jpeg jpe png gif webp bmp tif tiff avif heic heif".split(" "));
const ARCHIVES = new Set("zip tar gz tgz bz2 tbz2 xz txz 7z rar".split(" "));
const TYPES = {
  mp3: "audio/mpeg", m4a: "audio/mp4", aac: "audio/aac", flac: "audio/flac", ogg: "audio/ogg", opus: "audio/ogg",
  wav: "audio/wav", aiff: "audio/aiff", mp4: "video/mp4", m4v: "video/mp4", webm: "video/webm", mkv: "video/x-matroska",
  mov: "video/quicktime", jpg: "image/jpeg", jpeg: "image/jpeg", png: "image/png", webp: "image/webp", gif: "image/gif",
  zip: "application/zip", tar: "application/x-tar", gz: "application/gzip",
};

/**
 * @typedef {object} Part A file of a folder: `path` begins with the folder's name.
 * @property {string} path
 * @property {File} blob
 * @property {FileSystemFileHandle} [handle]
 *
 * @typedef {object} Picked
 * @property {string} name As it is going to be declared.
 * @property {File|null} blob `null` for a folder, of which an archive is made.
 * @property {Part[]} [parts] Of a folder.
 * @property {FileSystemHandle} [handle] With which the browser finds it again after a reload.
 * @property {string} contenttype
 * @property {string} mimetype
 * @property {object} [annotations]
 */

/** What was dropped. The event has to be waiting still: what it holds is gone afterwards. @returns {Promise<Picked[]>} */
export async function fromDrop(dataTransfer) {
  const items = [...dataTransfer.items].filter((item) => item.kind === "file");
  // All of them are asked before the first is waited for.
  const asked = items.map((item) => ({
    handle: item.getAsFileSystemHandle?.().catch(() => null) ?? null,
    entry: item.webkitGetAsEntry?.() ?? null,
    file: item.getAsFile(),
  }));
  const picked = [];
  for (const { handle: promised, entry, file } of asked) {
    const handle = await promised;
    if (handle) picked.push(...(await fromHandle(handle)));
    else if (entry?.isDirectory) picked.push(...fromFolder(entry.name, await partsOfEntry(entry, entry.name)));
    else if (file) picked.push(...one(file));
  }
  return picked;
}

/** What a field holds; with `webkitdirectory`, folders. @returns {Picked[]} */
export function fromFiles(fileList) {
  const folders = new Map();
  const picked = [];
  for (const file of fileList) {
    const path = file.webkitRelativePath ?? "";
    if (!path.includes("/")) {
      picked.push(...one(file));
      continue;
    }
    const name = path.slice(0, path.indexOf("/"));
    if (!folders.has(name)) folders.set(name, []);
    if (!path.split("/").slice(1).some(isJunk)) folders.get(name).push({ path, blob: file });
  }
  for (const [name, parts] of folders) picked.push(...fromFolder(name, parts));
  return picked;
}

/** Whether the browser has a picker whose files are found again after a reload. */
export function hasPicker() {
  return typeof globalThis.showOpenFilePicker === "function";
}

/** Opens the browser's picker; empty when nothing was chosen. @returns {Promise<Picked[]>} */
export async function fromPicker() {
  return fromHandles(() => showOpenFilePicker({ multiple: true }));
}

/** The same for a folder. @returns {Promise<Picked[]>} */
export async function fromFolderPicker() {
  return fromHandles(async () => [await showDirectoryPicker()]);
}

/** Files that were copied somewhere. @returns {Promise<Picked[]>} */
export async function fromPaste(clipboardData) {
  return clipboardData?.items?.length ? fromDrop(clipboardData) : fromFiles(clipboardData?.files ?? []);
}

/** What a handle stands for, now or after a reload. @returns {Promise<Picked[]>} */
export async function fromHandle(handle) {
  if (handle.kind === "file") return one(await handle.getFile(), handle);
  return fromFolder(handle.name, await partsOfHandle(handle, handle.name), handle);
}

async function fromHandles(choose) {
  let handles;
  try {
    handles = await choose();
  } catch (error) {
    if (error.name === "AbortError") return [];
    throw error;
  }
  return (await Promise.all(handles.map(fromHandle))).flat();
}

function one(file, handle) {
  if (isJunk(file.name)) return [];
  return [{ name: file.name, blob: file, ...(handle ? { handle } : {}), ...kindOf(file) }];
}

/** An album, if there is a song in it; else what is in it is taken one by one. */
function fromFolder(name, parts, handle) {
  if (!parts.some(({ blob }) => SONGS.has(extension(blob.name)))) return parts.flatMap((part) => one(part.blob, part.handle));
  return [
    {
      name: `${name}.zip`,
      blob: null,
      parts,
      ...(handle ? { handle } : {}),
      contenttype: "album",
      mimetype: "application/zip",
    },
  ];
}

async function partsOfHandle(directory, path) {
  const parts = [];
  for await (const handle of directory.values()) {
    if (isJunk(handle.name)) continue;
    const inner = `${path}/${handle.name}`;
    if (handle.kind === "directory") parts.push(...(await partsOfHandle(handle, inner)));
    else parts.push({ path: inner, blob: await handle.getFile(), handle });
  }
  return parts;
}

async function partsOfEntry(directory, path) {
  const reader = directory.createReader();
  const parts = [];
  for (;;) {
    // A hundred at a time in Chromium, and an empty list at the end.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return parts;
    for (const entry of entries) {
      if (isJunk(entry.name)) continue;
      const inner = `${path}/${entry.name}`;
      if (entry.isDirectory) parts.push(...(await partsOfEntry(entry, inner)));
      else parts.push({ path: inner, blob: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
    }
  }
}

/** What browsers and systems leave in folders, and what nobody sees. */
function isJunk(name) {
  return name.startsWith(".") || JUNK.has(name.toLowerCase());
}

function extension(name) {
  const at = name.lastIndexOf(".");
  return at < 0 ? "" : name.slice(at + 1).toLowerCase();
}

function kindOf(file) {
  const ending = extension(file.name);
  const mimetype = file.type || TYPES[ending] || "application/octet-stream";
  const [main] = mimetype.split("/");
  let contenttype = "video"; // what it really is, the server finds out
  if (SONGS.has(ending) || ARCHIVES.has(ending) || main === "audio") contenttype = "album";
  else if (PICTURES.has(ending) || main === "image") contenttype = "artwork";
  return { contenttype, mimetype };
}
