/**
 * Eras: which certificate key of a committee speaks for which slots and epochs (log.md §7, docs/decisions/0035).
 *
 * The lattice config pins the first key. A roster of version 3 that names another one, certified under the key in force
 * before it, is the link to the next: from its activation slot on the new key speaks, and the old one never again. So
 * whoever gets hold of shares of a key that is over can only say things about slots that are long decided. Pure.
 */
import { equalBytes } from "../codec/codec.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Outcome } from "./outcome.ts";
import type { Roster } from "./roster.ts";

/** Eras of one committee, the pinned one not counted: as many as a chain may be long. */
export const ERAS_MAX = 64;

export interface Era {
  /** 0 for the key that the lattice config pins. */
  readonly number: number;
  /** The first epoch and the first slot that its key speaks for. */
  readonly epoch: bigint;
  readonly fromSlot: bigint;
  /** Certificate key (G1). */
  readonly key: Uint8Array;
  /** `outcomeDigest` of the roster that began it; undefined for the pinned one. */
  readonly link: Uint8Array | undefined;
}

/** Oldest first; the first is the pinned one, each begins later than the one before. Never empty. */
export type Eras = readonly Era[];

/** What is known without any link. */
export function pinnedEras(config: LatticeConfig, organism: Organism): Eras {
  return [{ number: 0, epoch: 0n, fromSlot: 0n, key: config[organism].policy.certificateKey, link: undefined }];
}

function last(eras: Eras, holds: (era: Era) => boolean): Era {
  const found = eras.findLast(holds) ?? eras[0];
  if (found === undefined) throw new RangeError("a committee has a certificate key");
  return found;
}

/** The newest era known. */
export function newestEra(eras: Eras): Era {
  return last(eras, () => true);
}

/** The era that an epoch belongs to, as far as the chain goes. */
export function eraOfEpoch(eras: Eras, epoch: bigint): Era {
  return last(eras, (era) => era.epoch <= epoch);
}

/** The era that a slot belongs to, as far as the chain goes. */
export function eraAt(eras: Eras, slot: bigint): Era {
  return last(eras, (era) => era.fromSlot <= slot);
}

/** The eras that began before an epoch: what judges that epoch's roster. */
export function erasBefore(eras: Eras, epoch: bigint): Eras {
  const [pinned, ...later] = eras;
  return pinned === undefined ? [] : [pinned, ...later.filter((era) => era.epoch < epoch)];
}

/**
 * The key that may certify what a committee decided about a slot; undefined when the outcome's epoch and its slot are of
 * two eras, so that no key may. Not for rosters: an epoch's roster is certified before it begins.
 */
export function keyFor(eras: Eras, { slot, epoch }: Pick<Outcome, "slot" | "epoch">): Uint8Array | undefined {
  const era = eraAt(eras, slot);
  return era === eraOfEpoch(eras, epoch) ? era.key : undefined;
}

/** The certificate key of a roster's own epoch: what its members' shares are of. */
export function certificateKeyOf(config: LatticeConfig, organism: Organism, roster: Roster): Uint8Array {
  return roster.era?.certificateKey ?? config[organism].policy.certificateKey;
}

/** The number of a roster's era. */
export function eraNumberOf({ era }: Pick<Roster, "era">): number {
  return era?.number ?? 0;
}

/** What a roster does to the chain that judges it. */
export type Place =
  /** Its era is the one in force before it, or one that the chain has. */
  | { readonly type: "goes-on" }
  /** It is the link to this era, which the chain does not have. */
  | { readonly type: "begins"; readonly era: Era }
  | { readonly type: "refused"; readonly problem: string };

/**
 * Where a roster, already known to be certified under the key in force before its epoch, stands in the chain. Another
 * beginning of an era that the chain has is refused: whoever holds a chain keeps it.
 * @param digest of its outcome
 */
export function placeInChain(
  eras: Eras,
  roster: Pick<Roster, "epoch" | "activationSlot" | "era">,
  digest: Uint8Array,
): Place {
  const refused = (problem: string): Place => ({ type: "refused", problem });
  const before = newestEra(erasBefore(eras, roster.epoch));
  const known = eras.find(({ link, epoch }) => link !== undefined && epoch === roster.epoch);
  const number = eraNumberOf(roster);
  const key = roster.era?.certificateKey ?? eras[0]?.key ?? new Uint8Array();
  if (known !== undefined) {
    const same = known.link !== undefined && equalBytes(known.link, digest);
    return same ? { type: "goes-on" } : refused(`era ${known.number} began otherwise with epoch ${roster.epoch}`);
  }
  if (number === before.number) {
    if (!equalBytes(key, before.key)) return refused(`another certificate key than that of era ${number}`);
    return { type: "goes-on" };
  }
  if (number !== before.number + 1) return refused(`era ${number} where ${before.number} is in force`);
  // The chain has that era, from another epoch on.
  if (newestEra(eras).number >= number) return refused(`era ${number} begins with another epoch`);
  if (number > ERAS_MAX) return refused(`more than ${ERAS_MAX} eras`);
  if (eras.some((era) => equalBytes(era.key, key))) return refused(`era ${number} with a certificate key of before`);
  if (roster.activationSlot <= before.fromSlot) return refused(`era ${number} begins no later than ${before.number}`);
  const { epoch, activationSlot: fromSlot } = roster;
  return { type: "begins", era: { number, epoch, fromSlot, key, link: digest } };
}
