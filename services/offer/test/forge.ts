/** Seals what an honest client refuses to: for tests of what the committee does about it. */
import { encode } from "@lattice/organism/codec/codec.ts";
import { sealIbe } from "@lattice/organism/crypto/ibe.ts";
import { addressOfSecret, signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import { BUNDLE } from "@lattice/organism/outcomes/offer.ts";
import type { BidOptions } from "../src/client/bid.ts";
import { bidId, bundleAad, bundleIdentity, encodeBid, encodeBidBody, slotIdentity, valueAad } from "../src/core/bid.ts";
import { bundleCommitment, encodeBundleLayer, encodeValue } from "../src/core/layers.ts";

export interface Forgery extends BidOptions {
  /** Plaintext of the value layer instead of the right one. */
  readonly value?: Uint8Array;
  /** Commit to this bundle instead of the sealed one. */
  readonly committed?: Uint8Array;
}

export function sealForged(options: Forgery): { readonly bid: Uint8Array; readonly bidId: Uint8Array } {
  const { config, sealingKey, searcherKey, random } = options;
  const context = {
    committee: committeeId(config, "offer"),
    epoch: options.epoch,
    slot: options.slot,
    class: options.class,
    searcher: addressOfSecret(searcherKey),
    nonce: options.nonce,
  };
  const bundle = encode(BUNDLE, options.bundle);
  const salt = random(32);
  const bundleLayer = sealIbe({
    suite: "offer-bundle",
    sealingKey,
    identity: bundleIdentity(context),
    aad: bundleAad(context),
    content: encodeBundleLayer(salt, bundle, config.offer.content.bundleBytes),
    random,
  });
  const value = encodeValue({
    amountWei: options.amountWei,
    references: options.references,
    bundleCommitment: bundleCommitment(salt, options.committed ?? bundle),
  });
  const valueLayer = sealIbe({
    suite: "offer-slot",
    sealingKey,
    identity: slotIdentity(context),
    aad: valueAad(context, bundleLayer),
    content: options.value ?? value,
    random,
  });
  const body = encodeBidBody({
    version: 1,
    context,
    escrowAccount: options.escrowAccount,
    capWei: options.capWei,
    replacement: { id: new Uint8Array(16), nonce: 0n },
    tickets: [],
    valueLayer,
    bundleLayer,
  });
  const id = bidId(body);
  return { bid: encodeBid(body, signDigest(searcherKey, id)), bidId: id };
}
