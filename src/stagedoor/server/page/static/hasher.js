// The worker that reads files, so that the page stays smooth. Messages in: {job, kind, blob}, {job, stop: true};
// out: {job, done}, and at the end {job, result} or {job, changed: true} or {job, failed: sentence}.

import { Changed, summed } from "./reading.js";

const PAUSE = 100; // milliseconds between two words about progress

const running = new Map();

onmessage = ({ data }) => {
  if (data.stop) running.get(data.job)?.();
  else work(data);
};

async function work({ job, kind, blob }) {
  let stopped = false;
  let told = 0;
  running.set(job, () => {
    stopped = true;
  });
  const progress = (done) => {
    const now = performance.now();
    if (now - told < PAUSE) return;
    told = now;
    postMessage({ job, done });
  };
  try {
    postMessage({ job, result: await summed(kind, blob, progress, () => stopped) });
  } catch (error) {
    postMessage(error instanceof Changed ? { job, changed: true } : { job, failed: String(error?.message ?? error) });
  } finally {
    running.delete(job);
  }
}
