// A file read from its first byte to its last, a slice at a time, and the next one while this one is worked on.

import { Sha1 } from "./sha1.js";
import { crc32 } from "./crc32.js";

const SLICE = 4 << 20;

/** The file is not what it was when it was chosen, or is gone. */
export class Changed extends Error {}

/**
 * @param {"sha1"|"crc32"} kind
 * @param {Blob} blob Never in memory as a whole: two slices at most.
 * @param {(done: number) => void} progress Called with the bytes that are done.
 * @param {() => boolean} stopped Whether nobody wants it any more.
 * @returns {Promise<string|number|null>} Hexadecimal digits or a number; `null` when it was stopped.
 * @throws {Changed}
 */
export async function summed(kind, blob, progress, stopped, slice = SLICE) {
  const sha1 = kind === "sha1" ? new Sha1() : null;
  let crc = 0;
  let next = read(blob, 0, slice);
  for (let at = 0; at < blob.size; at += slice) {
    const bytes = await next;
    if (stopped()) return null;
    if (bytes.length !== Math.min(slice, blob.size - at)) throw new Changed();
    next = read(blob, at + slice, slice);
    if (sha1) sha1.update(bytes);
    else crc = crc32(bytes, crc);
    progress(at + bytes.length);
  }
  await next;
  return sha1 ? sha1.hex() : crc;
}

function read(blob, at, slice) {
  if (at >= blob.size) return Promise.resolve(null);
  const reading = blob.slice(at, at + slice).arrayBuffer().then(
    (buffer) => new Uint8Array(buffer),
    () => {
      throw new Changed(); // NotReadableError, NotFoundError: what a browser says when the file is another one by now
    },
  );
  reading.catch(() => {}); // nobody waits for it when the work is stopped meanwhile
  return reading;
}
