/** Shares in, slot key out: making and boxing a share, opening others', combining, and naming the one that is bad. */
import { count, encode, fixed, struct, u64 } from "@lattice/organism/codec/codec.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { openAsOne, sealToAll } from "@lattice/organism/crypto/box.ts";
import {
  combineIdentityKey,
  IDENTITY_KEY_BYTES,
  identityShare,
  verifyIdentityKey,
  verifyIdentityShare,
} from "@lattice/organism/crypto/ibe.ts";
import { type SignatureShare, ThresholdError } from "@lattice/organism/crypto/threshold.ts";
import type { AgreementKey } from "@lattice/organism/crypto/x25519.ts";
import { unsealIdentity } from "@lattice/organism/outcomes/unseal.ts";
import type { Random } from "@lattice/organism/ports.ts";
import { SUITE } from "../client/seal.ts";

const INFO = new TextEncoder().encode("lattice/unseal/share/v1");
const CONTEXT = struct({ committee: fixed(32), epoch: u64, slot: u64, author: count });

/** Binds a box to its committee, epoch, slot and author: a copied one opens to nothing. */
function boxContext(roster: Roster, slot: bigint, author: number): Uint8Array {
  return encode(CONTEXT, { committee: roster.committee, epoch: roster.epoch, slot, author });
}

/** A 96-byte share in a box that every member can open, and nobody else. */
export function boxShare(roster: Roster, slot: bigint, author: number, share: Uint8Array, random: Random): Uint8Array {
  const recipients = roster.members.map(({ index, boxKey }) => ({ index, publicKey: boxKey }));
  return sealToAll(recipients, INFO, boxContext(roster, slot, author), share, random);
}

export interface ShareMaker {
  readonly roster: Roster;
  readonly self: number;
  /** This member's share of the sealing key, a 32-byte scalar. */
  readonly sealingShare: Uint8Array;
  readonly random: Random;
}

/** This member's share of the slot's key, boxed. */
export function makeSealedShare({ roster, self, sealingShare, random }: ShareMaker, slot: bigint): Uint8Array {
  const identity = unsealIdentity(roster.committee, roster.epoch, slot);
  return boxShare(roster, slot, self, identityShare(sealingShare, SUITE, identity, random), random);
}

/** What is wrong with a share. */
export type ShareProblem = "does-not-open" | "not-a-point" | "does-not-verify";

export interface SlotKeyOptions {
  readonly rosterAt: (slot: bigint) => Roster;
  readonly thresholdOf: (roster: Roster) => number;
  readonly self: number;
  readonly boxKey: AgreementKey;
  /** Called once for each bad share. */
  readonly onBadShare: (slot: bigint, member: number, problem: ShareProblem) => void;
}

/** Finds slot keys; remembers which shares were bad. */
export class SlotKeys {
  readonly #options: SlotKeyOptions;
  readonly #bad = new Map<bigint, Set<number>>();

  constructor(options: SlotKeyOptions) {
    this.#options = options;
  }

  /** The slot's 96-byte key from the boxed shares in the log; undefined while fewer than t of them are good. */
  find(slot: bigint, sealed: ReadonlyMap<number, Uint8Array>): Uint8Array | undefined {
    const roster = this.#options.rosterAt(slot);
    const threshold = this.#options.thresholdOf(roster);
    const identity = unsealIdentity(roster.committee, roster.epoch, slot);
    let shares = this.#openBoxes(slot, sealed);
    if (shares.length < threshold) return undefined;
    const optimistic = this.#combine(slot, shares, identity);
    if (optimistic !== undefined) return optimistic;
    shares = shares.filter(({ index, signature }) => {
      const publicShare = roster.members[index]?.secondShare ?? new Uint8Array();
      const good = verifyIdentityShare(publicShare, SUITE, identity, signature);
      if (!good) this.#blame(slot, index, "does-not-verify");
      return good;
    });
    return shares.length < threshold ? undefined : this.#combine(slot, shares, identity);
  }

  #openBoxes(slot: bigint, sealed: ReadonlyMap<number, Uint8Array>): SignatureShare[] {
    const { self, boxKey } = this.#options;
    const roster = this.#options.rosterAt(slot);
    const shares: SignatureShare[] = [];
    for (const [index, box] of [...sealed].sort(([a], [b]) => a - b)) {
      if (this.#bad.get(slot)?.has(index) === true) continue;
      const signature = openAsOne(self, boxKey, INFO, boxContext(roster, slot, index), box);
      if (signature?.length === IDENTITY_KEY_BYTES) shares.push({ index, signature });
      else this.#blame(slot, index, "does-not-open");
    }
    return shares;
  }

  /** The key, if it is the one that the sealing key demands. */
  #combine(slot: bigint, shares: readonly SignatureShare[], identity: Uint8Array): Uint8Array | undefined {
    const roster = this.#options.rosterAt(slot);
    const threshold = this.#options.thresholdOf(roster);
    try {
      const key = combineIdentityKey(shares, threshold);
      return verifyIdentityKey(roster.sealingKey ?? new Uint8Array(), SUITE, identity, key) ? key : undefined;
    } catch (error) {
      if (!(error instanceof ThresholdError) || error.index === undefined) throw error;
      const { index: bad } = error;
      this.#blame(slot, bad, "not-a-point");
      const rest = shares.filter(({ index }) => index !== bad);
      return rest.length < threshold ? undefined : this.#combine(slot, rest, identity);
    }
  }

  #blame(slot: bigint, member: number, problem: ShareProblem): void {
    const bad = this.#bad.get(slot) ?? new Set();
    this.#bad.set(slot, bad);
    if (bad.has(member)) return;
    bad.add(member);
    this.#options.onBadShare(slot, member, problem);
  }

  /** Lets go of slots below `slot`. */
  forget(slot: bigint): void {
    for (const old of [...this.#bad.keys()]) if (old < slot) this.#bad.delete(old);
  }
}
