/**
 * What guests are given: a guest that goes on from it with the same entries has, at every position, what a member would
 * give a guest there (organism/committee/guest-view.ts).
 */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { Committee } from "@lattice/organism/committee/committee.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { Broken, type Checker, type Replica } from "../observer.ts";
import type { World } from "../world.ts";
import { HASHED_EVERY } from "./same-state.ts";

/** Comparisons after which a guest begins anew, so that guests begin at many places. */
const RENEWED_EVERY = 4;

export function guestsFollow(world: () => World): Checker {
  const name = "guests have what members would give them";
  const logs = new Map<Organism, Map<bigint, Uint8Array>>();
  const guests = new Map<Organism, { replica: Replica; compared: number }>();
  return {
    name,
    stored(organism, position, raw) {
      const log = logs.get(organism) ?? new Map<bigint, Uint8Array>();
      logs.set(organism, log.set(BigInt(position), raw));
    },
    applied({ organism, index, honest }, replica) {
      const { position } = replica;
      if (position % HASHED_EVERY !== 0n || !honest) return;
      const known = guests.get(organism);
      if (known !== undefined && known.replica.position >= position) return;
      const view = replica.guestView();
      if (known === undefined || known.compared >= RENEWED_EVERY) {
        const { config, rosters } = world().dealt;
        const machine = world().machine(organism);
        const guest = new Committee({ config, roster: rosters[organism], machine });
        guest.restoreGuest(view);
        guests.set(organism, { replica: guest, compared: 0 });
        return;
      }
      const guest = known.replica;
      const log = logs.get(organism);
      while (guest.position < position) {
        const next = guest.position + 1n;
        const raw = log?.get(next);
        if (raw === undefined) throw new Broken(name, `${organism}: nothing was stored at position ${next}`);
        log?.delete(next);
        guest.apply(next, raw);
      }
      known.compared += 1;
      if (!equalBytes(guest.guestView(), view)) {
        throw new Broken(name, `a guest of ${organism} and member ${index} differ at position ${position}`);
      }
    },
  };
}
