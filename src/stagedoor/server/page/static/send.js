// Sends a file over tus, in pieces, and goes on where the server stands when a piece did not arrive.

export const PIECE = 8 * 1024 * 1024;
const ATTEMPTS = 8;

export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail || `The server answered with ${status}.`);
    this.status = status;
    this.code = problem.code || "";
  }
}

export async function problemOf(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // A proxy may answer with something else.
  }
  return new Refusal(answer.status, problem);
}

/**
 * Declares a file and sends it.
 *
 * @param {File} file
 * @param {object} tools `headers` (with the key), `fetch`, `wait(ms)`, and `progress(uploadid, offset)`.
 * @returns {Promise<string>} The id of the upload.
 */
export async function sendFile(file, { headers = {}, fetch = globalThis.fetch, wait = pause, progress = () => {} } = {}) {
  const declared = await fetch("api/uploads", {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify({
      filename: file.name,
      filesize: file.size,
      mimetype: file.type || "application/octet-stream",
    }),
  });
  if (!declared.ok) throw await problemOf(declared);
  const { upload, send } = await declared.json();
  const url = send.tus.url;
  let offset = send.tus.offset;
  let failures = 0;
  while (offset < file.size) {
    progress(upload.id, offset);
    let answer = null;
    try {
      answer = await fetch(url, {
        method: "PATCH",
        headers: {
          ...headers,
          "Tus-Resumable": "1.0.0",
          "Upload-Offset": String(offset),
          "Content-Type": "application/offset+octet-stream",
        },
        body: file.slice(offset, offset + PIECE),
      });
    } catch {
      // The connection broke; what arrived is kept.
    }
    if (answer !== null && answer.ok) {
      offset = Number(answer.headers.get("Upload-Offset"));
      failures = 0;
      continue;
    }
    const passing = answer === null || [408, 409, 423].includes(answer.status) || answer.status >= 500;
    failures += 1;
    if (!passing || failures > ATTEMPTS) throw answer === null ? new Error("The connection broke.") : await problemOf(answer);
    await wait(Math.min(30000, 250 * 2 ** failures));
    offset = await standing(url, offset, { headers, fetch });
  }
  progress(upload.id, offset);
  return upload.id;
}

async function standing(url, offset, { headers, fetch }) {
  try {
    const answer = await fetch(url, { method: "HEAD", headers: { ...headers, "Tus-Resumable": "1.0.0" } });
    const said = answer.headers.get("Upload-Offset");
    return answer.ok && said !== null ? Number(said) : offset;
  } catch {
    return offset;
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
