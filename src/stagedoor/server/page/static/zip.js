// A folder as one archive that is never made: headers of ours around references to the files (PKWARE's APPNOTE 6.3).
//
// Stored, in the order of the paths, with fixed times: whoever has the same files gets the same bytes, and any of them
// can be made again after a reload. Sizes and sums stand in the local headers, and nothing follows the files.

import { summed } from "./reading.js";

const FULL16 = 0xffff;
const FULL32 = 0xffffffff;
const UTF8 = 0x0800; // 4.4.4: bit 11
const DATE = 0x0021; // 1980-01-01, 4.4.6
const PLAIN = 20; // 4.4.3: version 2.0
const LARGE = 45; // version 4.5, zip64
const UNIX = 3 << 8; // 4.4.2
const FILE = 0o100644 * 0x10000;
const ZIP64 = 0x0001; // 4.5.3

const encoder = new TextEncoder();

/**
 * @typedef {object} Entry
 * @property {string} path Inside the archive, with slashes.
 * @property {Blob} blob
 * @property {number} [crc] Its CRC-32, where it is known; set where it was not.
 */

/**
 * @param {Entry[]} entries In any order.
 * @param {(done: number) => void} [onProgress] Called with the bytes of all files that were read.
 * @param {{crcOf?: (blob: Blob, how: {progress: (done: number) => void, signal?: AbortSignal}) => Promise<number>,
 *   signal?: AbortSignal}} [how] `crcOf` sums a file up; in this thread when it is not given.
 * @returns {Promise<Blob>}
 */
export async function zipOf(entries, onProgress = () => {}, { crcOf = inThisThread, signal } = {}) {
  let before = 0;
  for (const entry of entries) {
    const progress = (done) => onProgress(before + done);
    entry.crc ??= entry.blob.size ? await crcOf(entry.blob, { progress, signal }) : 0;
    before += entry.blob.size;
    onProgress(before);
  }
  return assemble(entries.map(named).sort((a, b) => (a.order < b.order ? -1 : 1)));
}

/** In Unicode's composed form: a Mac and a PC make the same archive of the same folder. */
function named({ path, blob, crc }) {
  const order = path.normalize("NFC");
  return { order, name: encoder.encode(order), size: blob.size, blob, crc };
}

function assemble(files) {
  const pieces = [];
  const central = [];
  let at = 0;
  for (const file of files) {
    const local = localHeader(file);
    pieces.push(local, file.blob);
    central.push(centralHeader(file, at));
    at += local.length + file.size;
  }
  const size = central.reduce((sum, header) => sum + header.length, 0);
  return new Blob([...pieces, ...central, ...ending(files.length, size, at)], { type: "application/zip" });
}

/** 4.3.7 */
function localHeader({ name, size, crc }) {
  const wide = size >= FULL32;
  const extra = wide ? wideField([size, size]) : [];
  return bytes(
    [4, 0x04034b50], [2, wide ? LARGE : PLAIN], [2, UTF8], [2, 0], [2, 0], [2, DATE], [4, crc],
    [4, wide ? FULL32 : size], [4, wide ? FULL32 : size], [2, name.length], [2, length(extra)],
    name, ...extra,
  );
}

/** 4.3.12 */
function centralHeader({ name, size, crc }, at) {
  const wide = size >= FULL32;
  const far = at >= FULL32;
  const values = [...(wide ? [size, size] : []), ...(far ? [at] : [])];
  const extra = values.length ? wideField(values) : [];
  const version = values.length ? LARGE : PLAIN;
  return bytes(
    [4, 0x02014b50], [2, UNIX | version], [2, version], [2, UTF8], [2, 0], [2, 0], [2, DATE], [4, crc],
    [4, wide ? FULL32 : size], [4, wide ? FULL32 : size], [2, name.length], [2, length(extra)], [2, 0], [2, 0], [2, 0],
    [4, FILE], [4, far ? FULL32 : at], name, ...extra,
  );
}

function wideField(values) {
  return [[2, ZIP64], [2, 8 * values.length], ...values.map((value) => [8, value])];
}

/** 4.3.14 to 4.3.16 */
function ending(count, size, at) {
  const end = bytes(
    [4, 0x06054b50], [2, 0], [2, 0], [2, Math.min(count, FULL16)], [2, Math.min(count, FULL16)],
    [4, Math.min(size, FULL32)], [4, Math.min(at, FULL32)], [2, 0],
  );
  if (count < FULL16 && size < FULL32 && at < FULL32) return [end];
  const record = bytes(
    [4, 0x06064b50], [8, 44], [2, UNIX | LARGE], [2, LARGE], [4, 0], [4, 0],
    [8, count], [8, count], [8, size], [8, at],
  );
  return [record, bytes([4, 0x07064b50], [4, 0], [8, at + size], [4, 1]), end];
}

function length(fields) {
  return fields.reduce((sum, field) => sum + (field instanceof Uint8Array ? field.length : field[0]), 0);
}

/** Little-endian numbers as [size, value], and bytes as they are. */
function bytes(...fields) {
  const made = new Uint8Array(length(fields));
  const view = new DataView(made.buffer);
  let at = 0;
  for (const field of fields) {
    if (field instanceof Uint8Array) {
      made.set(field, at);
      at += field.length;
      continue;
    }
    const [size, value] = field;
    if (size === 2) view.setUint16(at, value, true);
    else if (size === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += size;
  }
  return made;
}

async function inThisThread(blob, { progress, signal }) {
  const crc = await summed("crc32", blob, progress, () => signal?.aborted ?? false);
  signal?.throwIfAborted();
  return crc;
}
