// Locks between the tabs of a browser. On pages without https there are none: then the server alone decides who sends.

/**
 * @param {LockManager|undefined} locks
 * @param {string} name
 * @param {{wait?: AbortSignal, steal?: boolean, lost?: () => void}} [how] `wait` has it wait until the lock is free or
 *   nobody wants it any more; `steal` takes it from whoever has it, whose `lost` is called.
 * @returns {Promise<(() => void)|null>} What gives it back; `null` when somebody else has it.
 */
export function lock(locks, name, { wait, steal = false, lost = () => {} } = {}) {
  if (!locks) return Promise.resolve(() => {});
  return new Promise((resolve) => {
    let held = false;
    const hold = (granted) => {
      if (granted === null) {
        resolve(null);
        return null;
      }
      return new Promise((giveBack) => {
        held = true;
        resolve(() => {
          held = false;
          giveBack();
        });
      });
    };
    const how = steal ? { steal: true } : wait ? { signal: wait } : { ifAvailable: true };
    locks.request(`stagedoor ${name}`, how, hold).catch(() => {
      if (held) lost();
      else resolve(null);
    });
  });
}
