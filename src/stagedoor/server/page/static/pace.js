// Time: one place for timers, so that they can be replaced, and events that come once a frame at most.

/**
 * @typedef {object} Clock
 * @property {() => number} now Milliseconds that only go up.
 * @property {(milliseconds: number, call: () => void) => (() => void)} after Calls later; returns what calls it off.
 */

/** @type {Clock} */
export const clock = {
  now: () => performance.now(),
  after(milliseconds, call) {
    const timer = setTimeout(call, milliseconds);
    return () => clearTimeout(timer);
  },
};

const HIDDEN = 250;

/**
 * A function that has `call` run once for all its calls until the next frame.
 *
 * A tab that nobody sees has no frames; a timer is started beside, and whoever comes first calls off the other.
 */
export function framed(call, { after = clock.after, frame = globalThis.requestAnimationFrame } = {}) {
  let waits = false;
  return () => {
    if (waits) return;
    waits = true;
    let stop = () => {};
    const run = () => {
      if (!waits) return;
      waits = false;
      stop();
      call();
    };
    stop = after(frame ? HIDDEN : 16, run);
    if (frame) frame.call(globalThis, run);
  };
}
