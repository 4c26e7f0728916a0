import assert from "node:assert/strict";
import { before, test } from "node:test";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { combineIdentityKey, identityShare, openIbe, type Suite } from "@lattice/organism/crypto/ibe.ts";
import { recoverAddress } from "@lattice/organism/crypto/secp256k1.ts";
import type { BidClass, Bundle } from "@lattice/organism/outcomes/offer.ts";
import { dealCommittee, random, searcher, type TestCommittee } from "../../test/fixture.ts";
import { bidBytesMax, bundleAad, bundleIdentity, parseBid, slotIdentity, valueAad } from "../core/bid.ts";
import { bundleLayerBytes, bundleRoom, decodeBundleLayer, decodeValue, VALUE_LAYER_BYTES } from "../core/layers.ts";
import { type BidOptions, BidProblem, sealBid } from "./bid.ts";

const ALICE = searcher(1);
const BOB = searcher(2);
const MESSAGE = new Uint8Array(16).fill(7);
let committee: TestCommittee;

before(async () => {
  await initCrypto();
  committee = dealCommittee();
});

const bundleOf = (bytes: number, references: readonly Uint8Array[] = []): Bundle => ({
  version: 1,
  items: [
    ...references.map((messageId) => ({ type: "reference" as const, messageId })),
    { type: "transaction" as const, raw: new Uint8Array(bytes).fill(1) },
  ],
  mayRevert: [],
  refundRecipient: undefined,
});
const optionsOf = (over: Partial<BidOptions> = {}): BidOptions => ({
  config: committee.config,
  sealingKey: committee.roster.sealingKey ?? assert.fail(),
  epoch: 0n,
  slot: 5n,
  class: "blind",
  searcherKey: ALICE.key,
  nonce: 1n,
  escrowAccount: ALICE.address,
  capWei: 1000n,
  amountWei: 500n,
  references: [],
  bundle: bundleOf(10),
  random,
  ...over,
});
const bodyOf = (raw: Uint8Array) => (parseBid(raw) ?? assert.fail()).body;

/** The identity key, from two of the three shares. */
function keyOf(suite: Suite, identity: Uint8Array): Uint8Array {
  const shares = [0, 2].map((index) => ({
    index,
    signature: identityShare(committee.secrets[index]?.secondShare ?? assert.fail(), suite, identity, random),
  }));
  return combineIdentityKey(shares, 2);
}

test("a sealed bid opens, layer by layer, to what went in, and is signed by its searcher", () => {
  const { bid, bidId } = sealBid(optionsOf({ class: "seen", references: [MESSAGE], bundle: bundleOf(10, [MESSAGE]) }));
  const parsed = parseBid(bid) ?? assert.fail();
  assert.deepEqual(parsed.id, bidId);
  assert.deepEqual(recoverAddress(bidId, parsed.signature), ALICE.address);
  const { context, valueLayer, bundleLayer } = parsed.body;
  const value = openIbe({
    identityKey: keyOf("offer-slot", slotIdentity(context)),
    aad: valueAad(context, bundleLayer),
    sealed: valueLayer,
  });
  assert.ok("content" in value);
  assert.equal(decodeValue(value.content)?.amountWei, 500n);
  const bundle = openIbe({
    identityKey: keyOf("offer-bundle", bundleIdentity(context)),
    aad: bundleAad(context),
    sealed: bundleLayer,
  });
  assert.ok("content" in bundle);
  const { bundleBytes } = committee.config.offer.content;
  assert.deepEqual(decodeBundleLayer(bundle.content, bundleBytes)?.bundle, bundleOf(10, [MESSAGE]));
});

test("the wire size is one per class whatever is inside, and the sizes are those that admission expects", () => {
  for (const bidClass of ["blind", "seen", "tail"] as const satisfies readonly BidClass[]) {
    const sizes = [
      sealBid(optionsOf({ class: bidClass })),
      sealBid(optionsOf({ class: bidClass, bundle: bundleOf(900), amountWei: 1000n })),
      sealBid(optionsOf({ class: bidClass, replacement: { id: MESSAGE, nonce: 77n } })),
    ].map(({ bid }) => bid.length);
    assert.equal(new Set(sizes).size, 1);
    assert.ok((sizes[0] ?? 0) <= bidBytesMax(1024));
  }
  const body = bodyOf(sealBid(optionsOf()).bid);
  assert.equal(body.valueLayer.length, VALUE_LAYER_BYTES);
  assert.equal(body.bundleLayer.length, bundleLayerBytes(1024));
});

test("a copied layer opens to nothing: not in another's bid, not with another bundle, not in another slot or class", () => {
  const alice = bodyOf(sealBid(optionsOf()).bid);
  const slotKey = keyOf("offer-slot", slotIdentity(alice.context));
  const opensAs = (context: typeof alice.context, bundleLayer: Uint8Array) =>
    "content" in openIbe({ identityKey: slotKey, aad: valueAad(context, bundleLayer), sealed: alice.valueLayer });
  assert.ok(opensAs(alice.context, alice.bundleLayer));
  assert.ok(!opensAs({ ...alice.context, searcher: BOB.address }, alice.bundleLayer));
  assert.ok(!opensAs({ ...alice.context, nonce: 2n }, alice.bundleLayer));
  assert.ok(!opensAs({ ...alice.context, class: "tail" }, alice.bundleLayer));
  assert.ok(!opensAs(alice.context, bodyOf(sealBid(optionsOf()).bid).bundleLayer));

  const bobs = { ...alice.context, searcher: BOB.address };
  const copied = openIbe({
    identityKey: keyOf("offer-bundle", bundleIdentity(bobs)),
    aad: bundleAad(bobs),
    sealed: alice.bundleLayer,
  });
  assert.deepEqual(copied, { failure: "undecryptable" });
  // The slot's key opens no bundle.
  const withSlotKey = openIbe({ identityKey: slotKey, aad: bundleAad(alice.context), sealed: alice.bundleLayer });
  assert.deepEqual(withSlotKey, { failure: "undecryptable" });
});

test("a bid that could not win is not sealed", () => {
  const refused = (over: Partial<BidOptions>, pattern: RegExp): void => {
    assert.throws(
      () => sealBid(optionsOf(over)),
      (error) => error instanceof BidProblem && pattern.test(error.message),
    );
  };
  refused({ amountWei: 1001n }, /cap/);
  refused({ amountWei: 99n }, /reserve/);
  refused({ bundle: bundleOf(bundleRoom(1024)) }, /bytes/);
  refused({ bundle: { ...bundleOf(1), items: [] } }, /empty/);
  refused({ references: [MESSAGE], bundle: bundleOf(1, [MESSAGE]) }, /only seen/);
  refused({ class: "seen", references: [MESSAGE] }, /reference/);
  refused({ class: "seen", bundle: bundleOf(1, [MESSAGE]) }, /reference/);
  refused({ class: "seen", references: [MESSAGE], bundle: bundleOf(1, [MESSAGE, MESSAGE]) }, /reference/);
  refused({ bundle: { ...bundleOf(1), mayRevert: [new Uint8Array(32)] } }, /revert/);
});
