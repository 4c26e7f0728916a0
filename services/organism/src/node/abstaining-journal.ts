/** The journal that an organism's node half is given: a member that may have forgotten promises makes no new ones. */
import { type Journal, PromiseWithheld } from "../ports.ts";

/**
 * `journal`, but a promise for a slot of which `abstains` is true is withheld, unless it is known already.
 * Whatever a member hands out of its own accord (a block at relay's door) is held back as its duties are (log.md §3).
 */
export function abstainingJournal(journal: Journal, abstains: (slot: bigint) => boolean): Journal {
  return {
    async promise(key, slot, bytes) {
      if (abstains(slot) && journal.promised(key) === undefined) throw new PromiseWithheld(key);
      await journal.promise(key, slot, bytes);
    },
    promised: (key) => journal.promised(key),
    nextIncarnation: (atLeast) => journal.nextIncarnation(atLeast),
    entry: (id, raw) => journal.entry(id, raw),
    put: (name, bytes) => journal.put(name, bytes),
    get: (name) => journal.get(name),
    trim: (slot) => journal.trim(slot),
    close: () => journal.close(),
  };
}
