// What has to survive a reload: which files are being sent. IndexedDB can keep the handles of files, not only words.

const DATABASE = "stagedoor";
const TABLE = "sources";

/** Records by their `localId`. Where the browser refuses to keep anything, they last as long as the page. */
export class Keep {
  constructor({ indexedDB = globalThis.indexedDB } = {}) {
    this.indexedDB = indexedDB;
    this.opened = null;
    this.memory = new Map();
  }

  /** @returns {Promise<object[]>} */
  async all() {
    const found = await this.run("readonly", (table) => table.getAll());
    return found ?? [...this.memory.values()];
  }

  /** @returns {Promise<object|undefined>} */
  async get(localId) {
    const found = await this.run("readonly", (table) => table.get(localId));
    return found === null ? this.memory.get(localId) : found;
  }

  async put(record) {
    this.memory.set(record.localId, record);
    await this.run("readwrite", (table) => table.put(record));
  }

  async delete(localId) {
    this.memory.delete(localId);
    await this.run("readwrite", (table) => table.delete(localId));
  }

  /** The result, or `null` where there is no database. */
  async run(mode, work) {
    this.opened ??= open(this.indexedDB);
    const database = await this.opened;
    if (database === null) return null;
    try {
      return await answered(work(database.transaction(TABLE, mode).objectStore(TABLE)));
    } catch {
      return null; // A full disk, or a browser that forgets: the upload goes on, only a reload has to ask for the file.
    }
  }
}

async function open(indexedDB) {
  if (!indexedDB) return null;
  try {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "localId" });
    const database = await answered(request);
    database.onversionchange = () => database.close(); // a newer page of ours must not wait for this one
    return database;
  } catch {
    return null;
  }
}

function answered(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
