/**
 * Keys of the slot and of winners' bundles: this member's shares of them, sealed to the members, and what the
 * combined keys open. The broker carries boxes that only members open; keys and losing amounts stay in memory.
 */
import { count, encode, fixed, struct, u64 } from "@lattice/organism/codec/codec.ts";
import { type Roster, sealingThreshold } from "@lattice/organism/committee/roster.ts";
import { openAsOne, sealToAll } from "@lattice/organism/crypto/box.ts";
import {
  combineIdentityKey,
  identityShare,
  type Suite,
  verifyIdentityKey,
  verifyIdentityShare,
} from "@lattice/organism/crypto/ibe.ts";
import type { OpeningPool, OpeningResult } from "@lattice/organism/crypto/opening-pool.ts";
import { type SignatureShare, ThresholdError } from "@lattice/organism/crypto/threshold.ts";
import type { AgreementKey } from "@lattice/organism/crypto/x25519.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import type { Meters } from "@lattice/organism/observe/meters.ts";
import type { Random } from "@lattice/organism/ports.ts";
import { type AuctionRules, tieBreaker, type ValidBid, type Void } from "../core/auction.ts";
import { bundleAad, bundleIdentity, slotIdentity, valueAad } from "../core/bid.ts";
import { judgeValue, type Pool } from "../core/judgement.ts";
import type { LiveBid } from "../core/types.ts";

/** What the values of a slot turned out to be. */
export interface OpenedValues {
  readonly valid: readonly ValidBid[];
  readonly voids: readonly Void[];
}

export interface OpeningsOptions {
  readonly config: LatticeConfig;
  readonly committee: Uint8Array;
  readonly rosterAt: (slot: bigint) => Roster;
  readonly self: number;
  readonly boxKey: AgreementKey;
  /** This member's share of a slot's sealing key, 32 bytes; undefined when it holds none. */
  readonly shareAt: (slot: bigint) => Uint8Array | undefined;
  readonly pool: OpeningPool;
  readonly random: Random;
  readonly log: Logger;
  readonly meters: Meters;
}

type Use = "slot" | "bundle";
const SUITE_OF: { readonly [U in Use]: Suite } = { slot: "offer-slot", bundle: "offer-bundle" };
const SHARE_BOX_INFO = new TextEncoder().encode("lattice/offer/share-box/v1");
const SHARE_BOX_AAD = struct({ committee: fixed(32), slot: u64, identity: fixed(32), author: count });

export class Openings {
  readonly #options: OpeningsOptions;

  constructor(options: OpeningsOptions) {
    this.#options = options;
  }

  /** This member's share of the key of `identity`, sealed to every member. @throws Error without a share file */
  shareOf(use: Use, slot: bigint, identity: Uint8Array): Uint8Array {
    const { self, random } = this.#options;
    const roster = this.#options.rosterAt(slot);
    const share = this.#options.shareAt(slot);
    if (share === undefined) throw new Error("this member holds no share of the slot's sealing key");
    const plain = identityShare(share, SUITE_OF[use], identity, random);
    const recipients = roster.members.map(({ index, boxKey }) => ({ index, publicKey: boxKey }));
    return sealToAll(recipients, SHARE_BOX_INFO, this.#aad(slot, identity, self), plain, random);
  }

  /** Opens and judges every value; undefined while fewer than t shares are good. */
  async values(
    slot: bigint,
    bids: readonly LiveBid[],
    boxes: ReadonlyMap<number, Uint8Array>,
    pool: Pool,
    rules: AuctionRules,
  ): Promise<OpenedValues | undefined> {
    const { committee } = this.#options;
    const roster = this.#options.rosterAt(slot);
    const identity = slotIdentity({ committee, epoch: roster.epoch, slot });
    const slotKey = this.#key("slot", slot, identity, boxes);
    if (slotKey === undefined) return undefined;
    const results = await this.#options.pool.open(
      bids.map(({ context, bundleLayer, valueLayer }) => ({
        identityKey: slotKey,
        aad: valueAad(context, bundleLayer),
        sealed: valueLayer,
      })),
    );
    const valid: ValidBid[] = [];
    const voids: Void[] = [];
    for (const [index, bid] of bids.entries()) {
      const judged = judgeValue(bid, contentOf(results[index]), pool, rules);
      if ("void" in judged) voids.push(judged.void);
      else valid.push({ ...judged.valid, tie: tieBreaker(slotKey, bid.id) });
    }
    return { valid, voids };
  }

  /** Opens one winner's bundle layer; undefined while fewer than t shares are good. */
  async bundle(
    slot: bigint,
    bid: LiveBid,
    boxes: ReadonlyMap<number, Uint8Array>,
  ): Promise<{ readonly plain: Uint8Array | undefined } | undefined> {
    const identityKey = this.#key("bundle", slot, bundleIdentity(bid.context), boxes);
    if (identityKey === undefined) return undefined;
    const task = { identityKey, aad: bundleAad(bid.context), sealed: bid.bundleLayer };
    const [result] = await this.#options.pool.open([task]);
    return { plain: contentOf(result) };
  }

  /** Combines the first t shares and checks the result; only if that fails are shares looked at one by one. */
  #key(use: Use, slot: bigint, identity: Uint8Array, boxes: ReadonlyMap<number, Uint8Array>): Uint8Array | undefined {
    const { config, log, meters } = this.#options;
    const roster = this.#options.rosterAt(slot);
    const { sealingKey, members } = roster;
    const threshold = sealingThreshold(config, "offer", roster);
    const suite = SUITE_OF[use];
    if (sealingKey === undefined) return undefined;
    const shares = this.#shares(slot, identity, boxes);
    const first = combined(shares, threshold);
    if (first !== undefined && verifyIdentityKey(sealingKey, suite, identity, first)) return first;
    const good = shares.filter(({ index, signature }) => {
      const publicShare = members[index]?.secondShare;
      const holds = publicShare !== undefined && verifyIdentityShare(publicShare, suite, identity, signature);
      if (!holds) {
        meters.count("lattice_offer_bad_shares_total");
        log.warn("a member's key share does not verify", { slot, member: index, use });
      }
      return holds;
    });
    const key = combined(good, threshold);
    return key !== undefined && verifyIdentityKey(sealingKey, suite, identity, key) ? key : undefined;
  }

  #shares(slot: bigint, identity: Uint8Array, boxes: ReadonlyMap<number, Uint8Array>): SignatureShare[] {
    const { boxKey, self } = this.#options;
    return [...boxes].flatMap(([author, box]) => {
      const signature = openAsOne(self, boxKey, SHARE_BOX_INFO, this.#aad(slot, identity, author), box);
      return signature === undefined ? [] : [{ index: author, signature }];
    });
  }

  #aad(slot: bigint, identity: Uint8Array, author: number): Uint8Array {
    return encode(SHARE_BOX_AAD, { committee: this.#options.committee, slot, identity, author });
  }
}

function combined(shares: readonly SignatureShare[], threshold: number): Uint8Array | undefined {
  if (shares.length < threshold) return undefined;
  try {
    return combineIdentityKey(shares, threshold);
  } catch (error) {
    // A share that is no point of the group: looked at one by one next.
    if (error instanceof ThresholdError) return undefined;
    throw error;
  }
}

function contentOf(result: OpeningResult | undefined): Uint8Array | undefined {
  return result !== undefined && "content" in result ? result.content : undefined;
}
