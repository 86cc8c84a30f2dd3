// CRC-32 as zip has it (ISO 3309), eight bytes at a time with eight tables.

const TABLES = tables();

/** @param {Uint8Array} bytes What comes next. @param {number} crc Of what came before; 0 at first. @returns {number} */
export function crc32(bytes, crc = 0) {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const whole = bytes.length - (bytes.length % 8);
  let c = ~crc;
  for (let at = 0; at < whole; at += 8) {
    const low = view.getInt32(at, true) ^ c;
    const high = view.getInt32(at + 4, true);
    c = t7[low & 255] ^ t6[(low >>> 8) & 255] ^ t5[(low >>> 16) & 255] ^ t4[low >>> 24]
      ^ t3[high & 255] ^ t2[(high >>> 8) & 255] ^ t1[(high >>> 16) & 255] ^ t0[high >>> 24];
  }
  for (let at = whole; at < bytes.length; at++) c = t0[(c ^ bytes[at]) & 255] ^ (c >>> 8);
  return ~c >>> 0;
}

function tables() {
  const all = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let byte = 0; byte < 256; byte++) {
    let c = byte;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    all[0][byte] = c;
  }
  for (let row = 1; row < 8; row++) {
    for (let byte = 0; byte < 256; byte++) {
      const before = all[row - 1][byte];
      all[row][byte] = all[0][before & 255] ^ (before >>> 8);
    }
  }
  return all;
}
