// Files read from their first byte to their last, into the same few buffers again and again: what a browser makes anew for
// each slice, it takes back so late that a tab grows by hundreds of megabytes.

import { Sha1 } from "./sha1.js";
import { crc32 } from "./crc32.js";

const BUFFER = 1 << 20;

/** The file is not what it was when it was chosen, or is gone. */
export class Changed extends Error {}

/**
 * @param {"sha1"|"crc32"} kind
 * @param {Blob} blob Never in memory as a whole.
 * @param {(done: number) => void} progress Called with the bytes that are done.
 * @param {() => boolean} stopped Whether nobody wants it any more.
 * @returns {Promise<string|number|null>} Hexadecimal digits or a number; `null` when it was stopped.
 * @throws {Changed}
 */
export async function summed(kind, blob, progress, stopped) {
  const sha1 = kind === "sha1" ? new Sha1() : null;
  let crc = 0;
  let done = 0;
  const whole = await pieces(blob, BUFFER, (bytes) => {
    if (sha1) sha1.update(bytes);
    else crc = crc32(bytes, crc);
    done += bytes.length;
    progress(done);
    return !stopped();
  });
  if (!whole) return null;
  return sha1 ? sha1.hex() : crc;
}

/**
 * A part of a file.
 *
 * @param {Blob} blob
 * @param {ArrayBuffer} buffer At least as long. It is gone afterwards: the bytes that come back have it, or another one.
 * @returns {Promise<Uint8Array>}
 * @throws {Changed}
 */
export async function bytesOf(blob, buffer) {
  const reader = readerOf(blob);
  try {
    if (reader === null) return await complete(blob, new Uint8Array(await blob.arrayBuffer()));
    let at = 0;
    while (at < blob.size) {
      const { done, value } = await reader.read(new Uint8Array(buffer, at, blob.size - at));
      if (done) break;
      buffer = value.buffer;
      at += value.length;
    }
    return complete(blob, new Uint8Array(buffer, 0, at));
  } catch {
    throw new Changed(); // NotReadableError, NotFoundError: what a browser says when the file is another one by now
  }
}

function complete(blob, bytes) {
  if (bytes.length !== blob.size) throw new Changed();
  return bytes;
}

/** Calls `take` with all of it, piece by piece, until it says no; one piece is read while another is taken. */
async function pieces(blob, size, take) {
  const reader = readerOf(blob);
  if (reader === null) return slices(blob, size, take);
  let taken = 0;
  const reads = [];
  const ask = (buffer) => {
    const reading = reader.read(new Uint8Array(buffer));
    reading.catch(() => {}); // nobody waits for the second one when the first one fails
    reads.push(reading);
  };
  ask(new ArrayBuffer(size));
  ask(new ArrayBuffer(size));
  try {
    for (;;) {
      const { done, value } = await reads.shift();
      if (done) break;
      taken += value.length;
      if (!take(value)) {
        reader.cancel().catch(() => {});
        return false;
      }
      ask(value.buffer);
    }
  } catch {
    throw new Changed();
  }
  if (taken !== blob.size) throw new Changed();
  return true;
}

/** Where a browser cannot fill our buffers. */
async function slices(blob, size, take) {
  let next = slice(blob, 0, size);
  for (let at = 0; at < blob.size; at += size) {
    const bytes = await next;
    next = slice(blob, at + size, size);
    if (!take(bytes)) return false;
  }
  return true;
}

function slice(blob, at, size) {
  const part = blob.slice(at, at + size);
  const reading = part.size ? bytesOf(part, null) : Promise.resolve(null);
  reading.catch(() => {});
  return reading;
}

function readerOf(blob) {
  try {
    return blob.stream().getReader({ mode: "byob" });
  } catch {
    return null; // TypeError: its streams are not of bytes
  }
}
