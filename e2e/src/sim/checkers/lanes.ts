/** An author's entries take their places one after the other, each naming the one before it (log.md §2). */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { decodeEntry, entryHash, LANES } from "@lattice/organism/committee/entry.ts";
import { Broken, type Checker } from "../observer.ts";
import type { World } from "../world.ts";

interface Place {
  readonly incarnation: bigint;
  readonly sequence: bigint;
  readonly entry: Uint8Array;
}

export function laneOrder(world: () => World): Checker {
  const name = "entries follow one another";
  const previous = new Map<string, Uint8Array>();
  const places = new Map<string, Place>();
  return {
    name,
    stored(_organism, _position, raw) {
      const { body, bodyBytes } = decodeEntry(raw);
      previous.set(toHex(entryHash(bodyBytes)), body.previous);
    },
    applied({ organism, index, run }, replica) {
      for (let author = 0; author < world().of(organism).length; author++) {
        const state = replica.author(author);
        if (state === undefined) continue;
        for (const lane of LANES) {
          const now: Place = {
            incarnation: state.incarnation,
            sequence: state[lane].sequence,
            entry: state[lane].previous,
          };
          const key = `${organism}/${index}#${run} ${author}/${lane}`;
          const before = places.get(key);
          if (before !== undefined && before.sequence === now.sequence && before.incarnation === now.incarnation)
            continue;
          places.set(key, now);
          if (before === undefined || now.incarnation > before.incarnation) continue;
          const follows =
            now.incarnation === before.incarnation &&
            now.sequence === before.sequence + 1n &&
            equalBytes(previous.get(toHex(now.entry)) ?? new Uint8Array(), before.entry);
          if (!follows) {
            throw new Broken(
              name,
              `${key}: ${now.incarnation}.${now.sequence} after ${before.incarnation}.${before.sequence}`,
            );
          }
        }
      }
    },
  };
}
