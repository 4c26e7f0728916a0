/**
 * A replica that begins with somebody's snapshot and applies the same entries has, at every position, what that somebody
 * has there: nothing depends on the order in which things once came into a map, or on anything else that a snapshot does
 * not hold. For what members restart from, and for what guests are given (organism/committee/guest-view.ts).
 */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { Committee } from "@lattice/organism/committee/committee.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { Broken, type Checker, type Replica } from "../observer.ts";
import type { World } from "../world.ts";
import { HASHED_EVERY, type SnapshotOf } from "./same-state.ts";

/** Comparisons after which the follower begins anew, so that followers begin at many places. */
const RENEWED_EVERY = 4;

interface Kind {
  readonly name: string;
  readonly who: string;
  snapshot(replica: Replica): Uint8Array;
  restore(replica: Replica, snapshot: Uint8Array): void;
}

function goesOn(world: () => World, { name, who, snapshot, restore }: Kind): Checker {
  const logs = new Map<Organism, Map<bigint, Uint8Array>>();
  const followers = new Map<Organism, { replica: Replica; compared: number }>();
  return {
    name,
    stored(organism, position, raw) {
      const log = logs.get(organism) ?? new Map<bigint, Uint8Array>();
      logs.set(organism, log.set(BigInt(position), raw));
    },
    applied({ organism, index, honest }, replica) {
      const { position } = replica;
      if (position % HASHED_EVERY !== 0n || !honest) return;
      const known = followers.get(organism);
      if (known !== undefined && known.replica.position >= position) return;
      const expected = snapshot(replica);
      if (known === undefined || known.compared >= RENEWED_EVERY) {
        const { config, rosters } = world().dealt;
        const machine = world().machine(organism);
        const begun = new Committee({ config, roster: rosters[organism], machine });
        restore(begun, expected);
        followers.set(organism, { replica: begun, compared: 0 });
        return;
      }
      const follower = known.replica;
      const log = logs.get(organism);
      while (follower.position < position) {
        const next = follower.position + 1n;
        const raw = log?.get(next);
        if (raw === undefined) throw new Broken(name, `${organism}: nothing was stored at position ${next}`);
        log?.delete(next);
        follower.apply(next, raw);
      }
      known.compared += 1;
      if (!equalBytes(snapshot(follower), expected)) {
        throw new Broken(name, `${who} of ${organism} and member ${index} differ at position ${position}`);
      }
    },
  };
}

export function snapshotsGoOn(world: () => World, snapshotOf: SnapshotOf): readonly Checker[] {
  return [
    goesOn(world, {
      name: "guests have what members would give them",
      who: "a guest",
      snapshot: (replica) => replica.guestView(),
      restore: (replica, view) => replica.restoreGuest(view),
    }),
    goesOn(world, {
      name: "a restored state goes on alike",
      who: "a restored replica",
      snapshot: snapshotOf,
      restore: (replica, state) => replica.restore(state),
    }),
  ];
}
