/** A journal that has failed once takes nothing more before it is opened anew: whoever runs the gateway must hear of it. */
import type { Journal } from "@lattice/organism/ports.ts";

/** The same journal; `onLost` is called with the first failure to put something into it. */
export function tellingOfLoss(journal: Journal, onLost: (error: unknown) => void): Journal {
  let told = false;
  return {
    async put(name, bytes) {
      try {
        await journal.put(name, bytes);
      } catch (error) {
        if (!told) onLost(error);
        told = true;
        throw error;
      }
    },
    nextIncarnation: (atLeast) => journal.nextIncarnation(atLeast),
    promise: (key, slot, bytes) => journal.promise(key, slot, bytes),
    promised: (key) => journal.promised(key),
    entry: (id, raw) => journal.entry(id, raw),
    get: (name) => journal.get(name),
    // Only makes the file shorter: what a full disk keeps from that is tried again.
    trim: (slot) => journal.trim(slot),
    close: () => journal.close(),
  };
}
