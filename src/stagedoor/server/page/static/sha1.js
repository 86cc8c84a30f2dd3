// SHA-1 (FIPS 180-4) of bytes that come in pieces. The browser's own digest wants a whole file in memory at once, and is
// there on pages of https only.

const BLOCK = 64;
const CALL = 64 << 10;
const K0 = 0x5a827999 | 0;
const K1 = 0x6ed9eba1 | 0;
const K2 = 0x8f1bbcdc | 0;
const K3 = 0xca62c1d6 | 0;

export class Sha1 {
  constructor() {
    this.state = new Int32Array([0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0]);
    this.rest = new Uint8Array(BLOCK);
    this.length = 0; // bytes so far; exact to 2^53
  }

  /** @param {Uint8Array} bytes What comes next. @returns {this} */
  update(bytes) {
    const held = this.length % BLOCK;
    this.length += bytes.length;
    let at = 0;
    if (held) {
      at = Math.min(BLOCK - held, bytes.length);
      this.rest.set(bytes.subarray(0, at), held);
      if (held + at < BLOCK) return this;
      digest(this.state, this.rest, 0, BLOCK);
    }
    const end = bytes.length - ((bytes.length - at) % BLOCK);
    // In short calls: V8 makes good code for a function when it is called again.
    for (; at < end; at += CALL) digest(this.state, bytes, at, Math.min(at + CALL, end));
    this.rest.set(bytes.subarray(end));
    return this;
  }

  /** The hash as 40 digits; nothing can come afterwards. */
  hex() {
    const bits = this.length * 8;
    const held = this.length % BLOCK;
    const tail = new Uint8Array(held < 56 ? BLOCK : 2 * BLOCK);
    tail.set(this.rest.subarray(0, held));
    tail[held] = 0x80;
    const view = new DataView(tail.buffer);
    view.setUint32(tail.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(tail.length - 4, bits >>> 0);
    digest(this.state, tail, 0, tail.length);
    return Array.from(this.state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

// Written out, with the schedule of 6.1.3 in sixteen variables: a loop over an array takes two to six times as long in V8,
// and a file of some gigabytes waits for this. `| 0` after each sum keeps it a machine word.
function digest(state, bytes, from, to) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let h0 = state[0], h1 = state[1], h2 = state[2], h3 = state[3], h4 = state[4];
  let w0 = 0, w1 = 0, w2 = 0, w3 = 0, w4 = 0, w5 = 0, w6 = 0, w7 = 0;
  let w8 = 0, w9 = 0, w10 = 0, w11 = 0, w12 = 0, w13 = 0, w14 = 0, w15 = 0, t = 0;
  for (let at = from; at < to; at += BLOCK) {
    let a = h0, b = h1, c = h2, d = h3, e = h4;
    w0 = view.getInt32(at);
    e = ((((a << 5 | a >>> 27) + (d ^ b & (c ^ d)) | 0) + e | 0) + w0 | 0) + K0 | 0; b = b << 30 | b >>> 2;
    w1 = view.getInt32(at + 4);
    d = ((((e << 5 | e >>> 27) + (c ^ a & (b ^ c)) | 0) + d | 0) + w1 | 0) + K0 | 0; a = a << 30 | a >>> 2;
    w2 = view.getInt32(at + 8);
    c = ((((d << 5 | d >>> 27) + (b ^ e & (a ^ b)) | 0) + c | 0) + w2 | 0) + K0 | 0; e = e << 30 | e >>> 2;
    w3 = view.getInt32(at + 12);
    b = ((((c << 5 | c >>> 27) + (a ^ d & (e ^ a)) | 0) + b | 0) + w3 | 0) + K0 | 0; d = d << 30 | d >>> 2;
    w4 = view.getInt32(at + 16);
    a = ((((b << 5 | b >>> 27) + (e ^ c & (d ^ e)) | 0) + a | 0) + w4 | 0) + K0 | 0; c = c << 30 | c >>> 2;
    w5 = view.getInt32(at + 20);
    e = ((((a << 5 | a >>> 27) + (d ^ b & (c ^ d)) | 0) + e | 0) + w5 | 0) + K0 | 0; b = b << 30 | b >>> 2;
    w6 = view.getInt32(at + 24);
    d = ((((e << 5 | e >>> 27) + (c ^ a & (b ^ c)) | 0) + d | 0) + w6 | 0) + K0 | 0; a = a << 30 | a >>> 2;
    w7 = view.getInt32(at + 28);
    c = ((((d << 5 | d >>> 27) + (b ^ e & (a ^ b)) | 0) + c | 0) + w7 | 0) + K0 | 0; e = e << 30 | e >>> 2;
    w8 = view.getInt32(at + 32);
    b = ((((c << 5 | c >>> 27) + (a ^ d & (e ^ a)) | 0) + b | 0) + w8 | 0) + K0 | 0; d = d << 30 | d >>> 2;
    w9 = view.getInt32(at + 36);
    a = ((((b << 5 | b >>> 27) + (e ^ c & (d ^ e)) | 0) + a | 0) + w9 | 0) + K0 | 0; c = c << 30 | c >>> 2;
    w10 = view.getInt32(at + 40);
    e = ((((a << 5 | a >>> 27) + (d ^ b & (c ^ d)) | 0) + e | 0) + w10 | 0) + K0 | 0; b = b << 30 | b >>> 2;
    w11 = view.getInt32(at + 44);
    d = ((((e << 5 | e >>> 27) + (c ^ a & (b ^ c)) | 0) + d | 0) + w11 | 0) + K0 | 0; a = a << 30 | a >>> 2;
    w12 = view.getInt32(at + 48);
    c = ((((d << 5 | d >>> 27) + (b ^ e & (a ^ b)) | 0) + c | 0) + w12 | 0) + K0 | 0; e = e << 30 | e >>> 2;
    w13 = view.getInt32(at + 52);
    b = ((((c << 5 | c >>> 27) + (a ^ d & (e ^ a)) | 0) + b | 0) + w13 | 0) + K0 | 0; d = d << 30 | d >>> 2;
    w14 = view.getInt32(at + 56);
    a = ((((b << 5 | b >>> 27) + (e ^ c & (d ^ e)) | 0) + a | 0) + w14 | 0) + K0 | 0; c = c << 30 | c >>> 2;
    w15 = view.getInt32(at + 60);
    e = ((((a << 5 | a >>> 27) + (d ^ b & (c ^ d)) | 0) + e | 0) + w15 | 0) + K0 | 0; b = b << 30 | b >>> 2;
    t = w13 ^ w8 ^ w2 ^ w0; w0 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (c ^ a & (b ^ c)) | 0) + d | 0) + w0 | 0) + K0 | 0; a = a << 30 | a >>> 2;
    t = w14 ^ w9 ^ w3 ^ w1; w1 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (b ^ e & (a ^ b)) | 0) + c | 0) + w1 | 0) + K0 | 0; e = e << 30 | e >>> 2;
    t = w15 ^ w10 ^ w4 ^ w2; w2 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (a ^ d & (e ^ a)) | 0) + b | 0) + w2 | 0) + K0 | 0; d = d << 30 | d >>> 2;
    t = w0 ^ w11 ^ w5 ^ w3; w3 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (e ^ c & (d ^ e)) | 0) + a | 0) + w3 | 0) + K0 | 0; c = c << 30 | c >>> 2;
    t = w1 ^ w12 ^ w6 ^ w4; w4 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b ^ c ^ d) | 0) + e | 0) + w4 | 0) + K1 | 0; b = b << 30 | b >>> 2;
    t = w2 ^ w13 ^ w7 ^ w5; w5 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a ^ b ^ c) | 0) + d | 0) + w5 | 0) + K1 | 0; a = a << 30 | a >>> 2;
    t = w3 ^ w14 ^ w8 ^ w6; w6 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e ^ a ^ b) | 0) + c | 0) + w6 | 0) + K1 | 0; e = e << 30 | e >>> 2;
    t = w4 ^ w15 ^ w9 ^ w7; w7 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d ^ e ^ a) | 0) + b | 0) + w7 | 0) + K1 | 0; d = d << 30 | d >>> 2;
    t = w5 ^ w0 ^ w10 ^ w8; w8 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c ^ d ^ e) | 0) + a | 0) + w8 | 0) + K1 | 0; c = c << 30 | c >>> 2;
    t = w6 ^ w1 ^ w11 ^ w9; w9 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b ^ c ^ d) | 0) + e | 0) + w9 | 0) + K1 | 0; b = b << 30 | b >>> 2;
    t = w7 ^ w2 ^ w12 ^ w10; w10 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a ^ b ^ c) | 0) + d | 0) + w10 | 0) + K1 | 0; a = a << 30 | a >>> 2;
    t = w8 ^ w3 ^ w13 ^ w11; w11 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e ^ a ^ b) | 0) + c | 0) + w11 | 0) + K1 | 0; e = e << 30 | e >>> 2;
    t = w9 ^ w4 ^ w14 ^ w12; w12 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d ^ e ^ a) | 0) + b | 0) + w12 | 0) + K1 | 0; d = d << 30 | d >>> 2;
    t = w10 ^ w5 ^ w15 ^ w13; w13 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c ^ d ^ e) | 0) + a | 0) + w13 | 0) + K1 | 0; c = c << 30 | c >>> 2;
    t = w11 ^ w6 ^ w0 ^ w14; w14 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b ^ c ^ d) | 0) + e | 0) + w14 | 0) + K1 | 0; b = b << 30 | b >>> 2;
    t = w12 ^ w7 ^ w1 ^ w15; w15 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a ^ b ^ c) | 0) + d | 0) + w15 | 0) + K1 | 0; a = a << 30 | a >>> 2;
    t = w13 ^ w8 ^ w2 ^ w0; w0 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e ^ a ^ b) | 0) + c | 0) + w0 | 0) + K1 | 0; e = e << 30 | e >>> 2;
    t = w14 ^ w9 ^ w3 ^ w1; w1 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d ^ e ^ a) | 0) + b | 0) + w1 | 0) + K1 | 0; d = d << 30 | d >>> 2;
    t = w15 ^ w10 ^ w4 ^ w2; w2 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c ^ d ^ e) | 0) + a | 0) + w2 | 0) + K1 | 0; c = c << 30 | c >>> 2;
    t = w0 ^ w11 ^ w5 ^ w3; w3 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b ^ c ^ d) | 0) + e | 0) + w3 | 0) + K1 | 0; b = b << 30 | b >>> 2;
    t = w1 ^ w12 ^ w6 ^ w4; w4 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a ^ b ^ c) | 0) + d | 0) + w4 | 0) + K1 | 0; a = a << 30 | a >>> 2;
    t = w2 ^ w13 ^ w7 ^ w5; w5 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e ^ a ^ b) | 0) + c | 0) + w5 | 0) + K1 | 0; e = e << 30 | e >>> 2;
    t = w3 ^ w14 ^ w8 ^ w6; w6 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d ^ e ^ a) | 0) + b | 0) + w6 | 0) + K1 | 0; d = d << 30 | d >>> 2;
    t = w4 ^ w15 ^ w9 ^ w7; w7 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c ^ d ^ e) | 0) + a | 0) + w7 | 0) + K1 | 0; c = c << 30 | c >>> 2;
    t = w5 ^ w0 ^ w10 ^ w8; w8 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b & c | d & (b | c)) | 0) + e | 0) + w8 | 0) + K2 | 0; b = b << 30 | b >>> 2;
    t = w6 ^ w1 ^ w11 ^ w9; w9 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a & b | c & (a | b)) | 0) + d | 0) + w9 | 0) + K2 | 0; a = a << 30 | a >>> 2;
    t = w7 ^ w2 ^ w12 ^ w10; w10 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e & a | b & (e | a)) | 0) + c | 0) + w10 | 0) + K2 | 0; e = e << 30 | e >>> 2;
    t = w8 ^ w3 ^ w13 ^ w11; w11 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d & e | a & (d | e)) | 0) + b | 0) + w11 | 0) + K2 | 0; d = d << 30 | d >>> 2;
    t = w9 ^ w4 ^ w14 ^ w12; w12 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c & d | e & (c | d)) | 0) + a | 0) + w12 | 0) + K2 | 0; c = c << 30 | c >>> 2;
    t = w10 ^ w5 ^ w15 ^ w13; w13 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b & c | d & (b | c)) | 0) + e | 0) + w13 | 0) + K2 | 0; b = b << 30 | b >>> 2;
    t = w11 ^ w6 ^ w0 ^ w14; w14 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a & b | c & (a | b)) | 0) + d | 0) + w14 | 0) + K2 | 0; a = a << 30 | a >>> 2;
    t = w12 ^ w7 ^ w1 ^ w15; w15 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e & a | b & (e | a)) | 0) + c | 0) + w15 | 0) + K2 | 0; e = e << 30 | e >>> 2;
    t = w13 ^ w8 ^ w2 ^ w0; w0 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d & e | a & (d | e)) | 0) + b | 0) + w0 | 0) + K2 | 0; d = d << 30 | d >>> 2;
    t = w14 ^ w9 ^ w3 ^ w1; w1 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c & d | e & (c | d)) | 0) + a | 0) + w1 | 0) + K2 | 0; c = c << 30 | c >>> 2;
    t = w15 ^ w10 ^ w4 ^ w2; w2 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b & c | d & (b | c)) | 0) + e | 0) + w2 | 0) + K2 | 0; b = b << 30 | b >>> 2;
    t = w0 ^ w11 ^ w5 ^ w3; w3 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a & b | c & (a | b)) | 0) + d | 0) + w3 | 0) + K2 | 0; a = a << 30 | a >>> 2;
    t = w1 ^ w12 ^ w6 ^ w4; w4 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e & a | b & (e | a)) | 0) + c | 0) + w4 | 0) + K2 | 0; e = e << 30 | e >>> 2;
    t = w2 ^ w13 ^ w7 ^ w5; w5 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d & e | a & (d | e)) | 0) + b | 0) + w5 | 0) + K2 | 0; d = d << 30 | d >>> 2;
    t = w3 ^ w14 ^ w8 ^ w6; w6 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c & d | e & (c | d)) | 0) + a | 0) + w6 | 0) + K2 | 0; c = c << 30 | c >>> 2;
    t = w4 ^ w15 ^ w9 ^ w7; w7 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b & c | d & (b | c)) | 0) + e | 0) + w7 | 0) + K2 | 0; b = b << 30 | b >>> 2;
    t = w5 ^ w0 ^ w10 ^ w8; w8 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a & b | c & (a | b)) | 0) + d | 0) + w8 | 0) + K2 | 0; a = a << 30 | a >>> 2;
    t = w6 ^ w1 ^ w11 ^ w9; w9 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e & a | b & (e | a)) | 0) + c | 0) + w9 | 0) + K2 | 0; e = e << 30 | e >>> 2;
    t = w7 ^ w2 ^ w12 ^ w10; w10 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d & e | a & (d | e)) | 0) + b | 0) + w10 | 0) + K2 | 0; d = d << 30 | d >>> 2;
    t = w8 ^ w3 ^ w13 ^ w11; w11 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c & d | e & (c | d)) | 0) + a | 0) + w11 | 0) + K2 | 0; c = c << 30 | c >>> 2;
    t = w9 ^ w4 ^ w14 ^ w12; w12 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b ^ c ^ d) | 0) + e | 0) + w12 | 0) + K3 | 0; b = b << 30 | b >>> 2;
    t = w10 ^ w5 ^ w15 ^ w13; w13 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a ^ b ^ c) | 0) + d | 0) + w13 | 0) + K3 | 0; a = a << 30 | a >>> 2;
    t = w11 ^ w6 ^ w0 ^ w14; w14 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e ^ a ^ b) | 0) + c | 0) + w14 | 0) + K3 | 0; e = e << 30 | e >>> 2;
    t = w12 ^ w7 ^ w1 ^ w15; w15 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d ^ e ^ a) | 0) + b | 0) + w15 | 0) + K3 | 0; d = d << 30 | d >>> 2;
    t = w13 ^ w8 ^ w2 ^ w0; w0 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c ^ d ^ e) | 0) + a | 0) + w0 | 0) + K3 | 0; c = c << 30 | c >>> 2;
    t = w14 ^ w9 ^ w3 ^ w1; w1 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b ^ c ^ d) | 0) + e | 0) + w1 | 0) + K3 | 0; b = b << 30 | b >>> 2;
    t = w15 ^ w10 ^ w4 ^ w2; w2 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a ^ b ^ c) | 0) + d | 0) + w2 | 0) + K3 | 0; a = a << 30 | a >>> 2;
    t = w0 ^ w11 ^ w5 ^ w3; w3 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e ^ a ^ b) | 0) + c | 0) + w3 | 0) + K3 | 0; e = e << 30 | e >>> 2;
    t = w1 ^ w12 ^ w6 ^ w4; w4 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d ^ e ^ a) | 0) + b | 0) + w4 | 0) + K3 | 0; d = d << 30 | d >>> 2;
    t = w2 ^ w13 ^ w7 ^ w5; w5 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c ^ d ^ e) | 0) + a | 0) + w5 | 0) + K3 | 0; c = c << 30 | c >>> 2;
    t = w3 ^ w14 ^ w8 ^ w6; w6 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b ^ c ^ d) | 0) + e | 0) + w6 | 0) + K3 | 0; b = b << 30 | b >>> 2;
    t = w4 ^ w15 ^ w9 ^ w7; w7 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a ^ b ^ c) | 0) + d | 0) + w7 | 0) + K3 | 0; a = a << 30 | a >>> 2;
    t = w5 ^ w0 ^ w10 ^ w8; w8 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e ^ a ^ b) | 0) + c | 0) + w8 | 0) + K3 | 0; e = e << 30 | e >>> 2;
    t = w6 ^ w1 ^ w11 ^ w9; w9 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d ^ e ^ a) | 0) + b | 0) + w9 | 0) + K3 | 0; d = d << 30 | d >>> 2;
    t = w7 ^ w2 ^ w12 ^ w10; w10 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c ^ d ^ e) | 0) + a | 0) + w10 | 0) + K3 | 0; c = c << 30 | c >>> 2;
    t = w8 ^ w3 ^ w13 ^ w11; w11 = t << 1 | t >>> 31;
    e = ((((a << 5 | a >>> 27) + (b ^ c ^ d) | 0) + e | 0) + w11 | 0) + K3 | 0; b = b << 30 | b >>> 2;
    t = w9 ^ w4 ^ w14 ^ w12; w12 = t << 1 | t >>> 31;
    d = ((((e << 5 | e >>> 27) + (a ^ b ^ c) | 0) + d | 0) + w12 | 0) + K3 | 0; a = a << 30 | a >>> 2;
    t = w10 ^ w5 ^ w15 ^ w13; w13 = t << 1 | t >>> 31;
    c = ((((d << 5 | d >>> 27) + (e ^ a ^ b) | 0) + c | 0) + w13 | 0) + K3 | 0; e = e << 30 | e >>> 2;
    t = w11 ^ w6 ^ w0 ^ w14; w14 = t << 1 | t >>> 31;
    b = ((((c << 5 | c >>> 27) + (d ^ e ^ a) | 0) + b | 0) + w14 | 0) + K3 | 0; d = d << 30 | d >>> 2;
    t = w12 ^ w7 ^ w1 ^ w15; w15 = t << 1 | t >>> 31;
    a = ((((b << 5 | b >>> 27) + (c ^ d ^ e) | 0) + a | 0) + w15 | 0) + K3 | 0; c = c << 30 | c >>> 2;
    h0 = h0 + a | 0; h1 = h1 + b | 0; h2 = h2 + c | 0; h3 = h3 + d | 0; h4 = h4 + e | 0;
  }
  state[0] = h0; state[1] = h1; state[2] = h2; state[3] = h3; state[4] = h4;
}
