/** An author's entries take their places one after the other, each naming the one before it (log.md §2). */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { LANES, readEntry } from "@lattice/organism/committee/entry.ts";
import { Broken, type Checker, type Place } from "../observer.ts";

interface Taken {
  readonly incarnation: bigint;
  readonly sequence: bigint;
  readonly entry: Uint8Array;
}

export function laneOrder(): Checker {
  const name = "entries follow one another";
  const previous = new Map<string, Uint8Array>();
  /** By process, each of which has a place of its own, then author and lane. */
  const taken = new Map<Place, Taken[]>();
  return {
    name,
    stored(_organism, _position, raw) {
      const { body, hash } = readEntry(raw);
      previous.set(toHex(hash), body.previous);
    },
    applied(process, replica) {
      const known = taken.get(process) ?? [];
      taken.set(process, known);
      for (let author = 0; author < replica.quorum.members; author++) {
        const state = replica.author(author);
        if (state === undefined) continue;
        for (const [at, lane] of LANES.entries()) {
          const { incarnation } = state;
          const { sequence, previous: entry } = state[lane];
          const place = author * LANES.length + at;
          const before = known[place];
          if (before !== undefined && before.sequence === sequence && before.incarnation === incarnation) continue;
          const now: Taken = { incarnation, sequence, entry };
          known[place] = now;
          if (before === undefined || now.incarnation > before.incarnation) continue;
          const follows =
            now.incarnation === before.incarnation &&
            now.sequence === before.sequence + 1n &&
            equalBytes(previous.get(toHex(now.entry)) ?? new Uint8Array(), before.entry);
          if (!follows) {
            const { organism, index, run } = process;
            throw new Broken(
              name,
              `${organism}/${index}#${run} ${author}/${lane}: ${now.incarnation}.${now.sequence} after ${before.incarnation}.${before.sequence}`,
            );
          }
        }
      }
    },
  };
}
