// Uploads a file with tus-js-client as it is, and says where to; see test_clients.py.
"use strict";
const fs = require("node:fs");
const tus = require("tus-js-client");

const { file, endpoint, url, storage, stop, retry, chunk, parallel } = JSON.parse(process.argv[2]);

const upload = new tus.Upload(fs.createReadStream(file), {
  endpoint,
  uploadUrl: url || null,
  chunkSize: chunk || Infinity,
  parallelUploads: parallel || 1,
  retryDelays: retry ? [0, 0, 0, 0, 0] : null,
  metadata: { filename: "film.mp4", filetype: "video/mp4" },
  ...(storage ? { urlStorage: new tus.FileUrlStorage(storage) } : {}),
  onChunkComplete: (_, accepted) => {
    if (stop && accepted >= stop) upload.abort().then(() => done({ url: upload.url, accepted }));
  },
  onSuccess: () => done({ url: upload.url }),
  onError: (error) => done({ url: upload.url, error: String(error) }),
});

function done(told) {
  process.stdout.write(JSON.stringify(told), () => process.exit(told.error ? 1 : 0));
}

async function run() {
  if (storage) {
    const known = await upload.findPreviousUploads();
    if (known.length) upload.resumeFromPreviousUpload(known[0]);
  }
  upload.start();
}

run();
