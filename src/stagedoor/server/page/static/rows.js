// What a row of the board says about an upload, and what may be done to it. No document here, so that node can test it.

import { bytes, percent, share, span, speed, state } from "./format.js";

const KINDS = { video: "video", album: "album", artwork: "artwork" };
const PHASES = {
  reading: { chip: "Being read", look: "working" },
  known: { chip: "In the library already", look: "asking" },
  waiting: { chip: "Waiting for its turn", look: "moving" },
  sending: { chip: "Uploading", look: "moving" },
  paused: { chip: "Paused", look: "gone" },
  lost: { chip: "File is needed again", look: "asking" },
  failed: { chip: "Could not be sent", look: "failed" },
};

// Where the server's own sentence is for the card: it is too long for a row, or calls the fields by their keys.
const PLAIN = {
  checksum_mismatch: "It did not arrive as it was sent. Send it again.",
  annotation_missing: "Something is missing that its files get their names from. Open it, and fill it in.",
  destination_exists: "Files of the library are in the way. Open it, and decide.",
};

/**
 * What a row says.
 *
 * @param {object} [line] The upload as the server tells it.
 * @param {object} [source] The same as this tab sends it.
 * @returns {{title: string, filename: string, sub: string, matters: boolean, chip: string, look: string, icon: string,
 *   numbers: string, share: number|null|undefined}} `matters`: the second line says what to do. `share` undefined:
 *   there is nothing to fill; null: its size is not known.
 */
export function viewOf(line, source) {
  const filename = line?.filename ?? source.name;
  const title = titleOf(line) || filename;
  const size = line ? line.filesize : source.size;
  const { chip, look } = standing(line, source);
  const told = adviceOn(line, source);
  const facts = [title === filename ? "" : filename, size === null ? "" : bytes(size)];
  const moves = moving(line, source);
  const runs = moves && !["paused", "lost"].includes(source?.phase); // what was measured before is old then
  const rest = runs && line?.rate > 0 && line.eta !== null ? `${span(line.eta)} left` : "";
  return {
    title,
    filename,
    sub: told || [rest, ...facts].filter(Boolean).join(" · "),
    matters: told !== "",
    chip,
    look,
    icon: KINDS[line?.contenttype] ?? "file",
    ...progressOf(line, source, { moves, runs }),
  };
}

/** "Artist – Title" where the tags say so. */
export function titleOf(line) {
  if (!line) return "";
  const { artistname, albumname, name } = line.names;
  return [artistname, name || albumname].filter(Boolean).join(" – ");
}

// Albums bring their names along; others cannot be imported before somebody gave them one.
function nameless({ state, due, contenttype, names }) {
  if (state !== "preprocessed" || due || contenttype === "album" || (contenttype === "artwork" && names.albumid)) return false;
  return !names.artistname || !(contenttype === "video" ? names.name : names.albumname);
}

// Whether the bytes are still on their way, from here or from elsewhere.
function moving(line, source) {
  if (line) return line.state === "waitforchunk";
  return ["reading", "waiting", "sending", "paused", "lost"].includes(source.phase);
}

// What this tab knows about its own file goes before what the server says, as long as the file is on its way.
function local(line, source) {
  if (!source || source.phase === "done") return false;
  return !line || line.state === "waitforchunk" || source.phase === "known" || source.phase === "reading";
}

function standing(line, source) {
  if (local(line, source)) return PHASES[source.phase] ?? { chip: source.phase, look: "working" };
  const { text, look } = state(line.state);
  if (line.state === "preprocessed" && line.questions.length) return { chip: "Has a question", look };
  if (nameless(line)) return { chip: "Something is missing", look };
  if (line.state === "preprocessed" && line.due) return { chip: "Going into the library", look: "working" };
  if (line.state === "integrated" && !line.due) return { chip: text, look: "asking" };
  return { chip: text, look };
}

function adviceOn(line, source) {
  if (local(line, source)) {
    if (source.problem) return source.problem.message;
    if (source.phase === "known") return "The library has this file. Send it anyway, or leave it.";
    return "";
  }
  const { questions } = line;
  if (line.state === "preprocessed" && questions.length) {
    return `Open it and answer ${questions.length === 1 ? "the question" : `${questions.length} questions`}.`;
  }
  if (PLAIN[line.code]) return PLAIN[line.code];
  if (line.message) return line.message;
  if (nameless(line)) return "Open it, and say what it is: its files get their names from that.";
  if (line.state === "preprocessed" && !line.due) return "Look at it, then import it.";
  if (line.state === "integrated" && !line.due) return "Its files are in place. Import it to have it in the library.";
  return "";
}

function progressOf(line, source, { moves, runs }) {
  if (!moves) return { numbers: "", share: undefined };
  const reading = source?.phase === "reading";
  const done = reading || !line ? (source.size ? source.done / source.size : null) : share(line);
  const text = done === null ? bytes(line ? line.offset : source.done) : percent(done);
  return { numbers: [text, reading || !runs ? "" : speed(line?.rate)].filter(Boolean).join(" · "), share: done };
}

/**
 * What may be done to an upload, the most likely first; two at most.
 *
 * @returns {{icon: string, label: string, run: function(object): Promise<void>|void}[]} `run` takes the app.
 */
export function actionsFor(line, source) {
  if (local(line, source)) return ownActions(source, line);
  const id = encodeURIComponent(line.id);
  const post = (path, body = {}) => ({ api }) => api.post(`api/uploads/${id}/${path}`, body);
  const away = { icon: "remove", label: "Remove", run: (app) => remove(app, line) };
  if (line.state === "waitforchunk") return [{ icon: "cancel", label: "Cancel", run: (app) => remove(app, line) }];
  if (line.state === "uploadfailed") {
    const again = source ? ({ sources }) => sources.retry(source.localId) : post("retry");
    return [{ icon: "retry", label: "Send again from the start", run: again }, away];
  }
  const open = () => {
    location.hash = `#/uploads/${id}`;
  };
  const answer = { icon: "answer", label: "Answer", run: open };
  const name = { icon: "edit", label: "Say what it is", run: open };
  // Trying again would only fail again.
  const mended = { annotation_missing: name, destination_exists: answer }[line.code];
  if (line.state === "integrationfailed" && mended) return [mended, away];
  const again = (label) => [{ icon: "retry", label, run: post("retry") }, away];
  if (line.state === "invalidcontent") return again("Check again");
  if (line.state === "integrationfailed" || line.state === "importfailed") return again("Try again");
  if (line.state === "preprocessed" && line.questions.length > 0) return [answer, away];
  if (nameless(line)) return [name, away];
  // Questions about the place in the library are found by planning, which no list does: they are met here.
  const bring = (path, body) => [{ icon: "import", label: "Import", run: orOpen(post(path, body), open) }, away];
  if (line.state === "preprocessed" && !line.due) return bring("request", { trigger_import: true });
  if (line.state === "integrated" && !line.due) return bring("start_import");
  if (line.state === "importcomplete") return [{ ...away, label: "Remove from this list" }];
  return [];
}

function orOpen(run, open) {
  return async (app) => {
    try {
      await run(app);
    } catch (problem) {
      if (problem.guard !== "no_open_question") throw problem;
      open();
      app.say("It has a question that only you can answer.");
    }
  };
}

function ownActions(source, line) {
  const { localId } = source;
  const cancel = { icon: "cancel", label: "Cancel", run: (app) => cancelOwn(app, source, line) };
  const forget = { icon: "cancel", label: "Leave it", run: ({ sources }) => sources.forget(localId) };
  switch (source.phase) {
    case "reading":
      return [cancel];
    case "known":
      return [{ icon: "send", label: "Send it anyway", run: ({ sources }) => sources.sendAnyway(localId) }, forget];
    case "waiting":
    case "sending":
      return [{ icon: "pause", label: "Pause", run: ({ sources }) => sources.pause(localId) }, cancel];
    case "paused":
      return [{ icon: "resume", label: "Resume", run: ({ sources }) => sources.resume(localId) }, cancel];
    case "lost":
      return [
        source.regrant
          ? { icon: "key", label: "Allow reading the file again", run: (app) => regrant(app, localId) }
          : { icon: "file", label: "Choose the file again", run: ({ choose }) => choose() },
        cancel,
      ];
    case "failed":
      return [{ icon: "retry", label: "Try again", run: ({ sources }) => sources.retry(localId) }, forget];
    default:
      return [];
  }
}

async function regrant(app, localId) {
  if (await app.sources.regrant(localId)) return;
  app.complain(new Error("The browser did not allow it. Choose the file again instead."));
}

async function cancelOwn(app, source, line) {
  const sent = line ? line.offset : 0;
  const sure =
    sent === 0 ||
    (await app.confirm({
      title: `Cancel “${source.name}”?`,
      text: `The ${bytes(sent)} that were sent are deleted from the server. Your own file stays as it is.`,
      yes: "Cancel it",
      no: "Keep sending",
    }));
  if (sure) await app.sources.cancel(source.localId);
}

async function remove(app, line) {
  const inLibrary = ["integrated", "importcomplete", "importfailed"].includes(line.state);
  const text = inLibrary
    ? "It leaves this list, and cannot be undone any more. What is in the library stays there."
    : "What was sent is deleted from the server.";
  const sure = await app.confirm({ title: `Remove “${titleOf(line) || line.filename}”?`, text, yes: "Remove it" });
  if (sure) await app.api.post(`api/uploads/${encodeURIComponent(line.id)}/remove`, {});
}
