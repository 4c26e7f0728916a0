/** Seals a bid: what a searcher, or the gateway on its behalf, does before anybody else sees anything. */
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import { sealIbe } from "@lattice/organism/crypto/ibe.ts";
import { addressOfSecret, signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { type BidClass, BUNDLE, type Bundle } from "@lattice/organism/outcomes/offer.ts";
import {
  type BidContext,
  bidId,
  bundleAad,
  bundleIdentity,
  encodeBid,
  encodeBidBody,
  slotIdentity,
  valueAad,
} from "../core/bid.ts";
import { bundleCommitment, bundleRoom, encodeBundleLayer, encodeValue, REFERENCES_MAX } from "../core/layers.ts";

export { paymentId } from "../core/bid.ts";

/** A bid that cannot be sealed. The message names sizes and fields, never amounts. */
export class BidProblem extends Error {
  override readonly name = "BidProblem";
}

export interface BidOptions {
  readonly config: LatticeConfig;
  /** Offer's sealing key for the slot, 48 bytes: `GetSealingKey`. */
  readonly sealingKey: Uint8Array;
  readonly epoch: bigint;
  readonly slot: bigint;
  readonly class: BidClass;
  /** secp256k1 secret, 32 bytes; its address is the searcher's id. */
  readonly searcherKey: Uint8Array;
  /** Fresh for every bid of the searcher in this slot. */
  readonly nonce: bigint;
  /** The account whose escrow answers for the bid; it has authorised the searcher (`RegisterSearcher`). */
  readonly escrowAccount: Uint8Array;
  /** At least `amountWei`, public, at most the escrow: choose it coarse. */
  readonly capWei: bigint;
  readonly amountWei: bigint;
  /** Message ids, 16 bytes each: exactly those that the bundle references. Seen bids only. */
  readonly references: readonly Uint8Array[];
  readonly bundle: Bundle;
  /** Replaces the searcher's live bid of the same class and id with a lower nonce. */
  readonly replacement?: { readonly id: Uint8Array; readonly nonce: bigint };
  /** One for each admission rule of the config. */
  readonly tickets?: readonly Uint8Array[];
  readonly random: (count: number) => Uint8Array;
}

/**
 * `await initCrypto()` first.
 * @returns bytes for `SubmitBid` and the 32-byte id that names the bid in outcomes
 * @throws BidProblem when the parts do not make a bid that could win
 */
export function sealBid(options: BidOptions): { readonly bid: Uint8Array; readonly bidId: Uint8Array } {
  const { config, sealingKey, searcherKey, random } = options;
  const { bundleBytes } = config.offer.content;
  const encodedBundle = encode(BUNDLE, options.bundle);
  check(options, encodedBundle.length);
  const context: BidContext = {
    committee: committeeId(config, "offer"),
    epoch: options.epoch,
    slot: options.slot,
    class: options.class,
    searcher: addressOfSecret(searcherKey),
    nonce: options.nonce,
  };
  const salt = random(32);
  const bundleLayer = sealIbe({
    suite: "offer-bundle",
    sealingKey,
    identity: bundleIdentity(context),
    aad: bundleAad(context),
    content: encodeBundleLayer(salt, encodedBundle, bundleBytes),
    random,
  });
  const valueLayer = sealIbe({
    suite: "offer-slot",
    sealingKey,
    identity: slotIdentity(context),
    aad: valueAad(context, bundleLayer),
    content: encodeValue({
      amountWei: options.amountWei,
      references: options.references,
      bundleCommitment: bundleCommitment(salt, encodedBundle),
    }),
    random,
  });
  const body = encodeBidBody({
    version: 1,
    context,
    escrowAccount: options.escrowAccount,
    capWei: options.capWei,
    replacement: options.replacement ?? { id: new Uint8Array(16), nonce: 0n },
    tickets: [...(options.tickets ?? [])],
    valueLayer,
    bundleLayer,
  });
  const id = bidId(body);
  return { bid: encodeBid(body, signDigest(searcherKey, id)), bidId: id };
}

function check(options: BidOptions, encodedBytes: number): void {
  const { config, bundle, references } = options;
  const room = bundleRoom(config.offer.content.bundleBytes);
  if (encodedBytes > room) throw new BidProblem(`bundle of ${encodedBytes} bytes, at most ${room}`);
  if (options.amountWei > options.capWei) throw new BidProblem("the amount is above the cap");
  if (options.amountWei < config.offer.content.reserveWei) throw new BidProblem("the amount is below the reserve");
  if (references.length > REFERENCES_MAX) throw new BidProblem(`more than ${REFERENCES_MAX} references`);
  if (options.class !== "seen" && references.length > 0) throw new BidProblem("only seen bids reference messages");
  if (options.class !== "seen" && bundle.mayRevert.length > 0) {
    throw new BidProblem("only seen bids may name transactions that may revert");
  }
  if (bundle.items.length === 0) throw new BidProblem("the bundle is empty");
  const used = bundle.items.flatMap((item) => (item.type === "reference" ? [toHex(item.messageId)] : []));
  const declared = new Set(references.map(toHex));
  const matches = used.length === declared.size && references.length === declared.size;
  if (!matches || new Set(used).size !== used.length || !used.every((id) => declared.has(id))) {
    throw new BidProblem("the bundle must reference each declared message once, and no other");
  }
}
