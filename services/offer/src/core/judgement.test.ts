import assert from "node:assert/strict";
import { test } from "node:test";
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import { type BidClass, BUNDLE, type Bundle } from "@lattice/organism/outcomes/offer.ts";
import type { Disclosed } from "@lattice/organism/outcomes/unseal.ts";
import type { AuctionRules } from "./auction.ts";
import { judgeBundle, judgeValue, type Pool } from "./judgement.ts";
import { bundleCommitment, encodeBundleLayer, encodeValue } from "./layers.ts";
import type { LiveBid } from "./types.ts";

const SIZE = 1024;
const SALT = new Uint8Array(32).fill(3);
const MESSAGE = new Uint8Array(16).fill(1);
const STRANGER = new Uint8Array(16).fill(2);
const VICTIM = new TextEncoder().encode("a pool transaction");
const RULES: AuctionRules = { rule: "first-price", reserveWei: 100n, winnersMax: { blind: 1, seen: 1, tail: 1 } };

const nothing: Disclosed = { hash: undefined, to: undefined, selector: undefined, rawTransaction: undefined };
const pool = (disclosed: Partial<Disclosed> = {}): Pool => new Map([[toHex(MESSAGE), { ...nothing, ...disclosed }]]);

const bid = (bidClass: BidClass): LiveBid => ({
  id: new Uint8Array(32).fill(8),
  context: {
    committee: new Uint8Array(32),
    epoch: 0n,
    slot: 1n,
    class: bidClass,
    searcher: new Uint8Array(20),
    nonce: 1n,
  },
  escrowAccount: new Uint8Array(20).fill(6),
  capWei: 1000n,
  replacement: { id: new Uint8Array(16), nonce: 0n },
  valueLayer: new Uint8Array(),
  bundleLayer: new Uint8Array(),
});
const value = (amountWei: bigint, references: Uint8Array[] = []) =>
  encodeValue({ amountWei, references, bundleCommitment: new Uint8Array(32) });
const verdictOf = (judged: ReturnType<typeof judgeValue> | ReturnType<typeof judgeBundle>) =>
  "void" in judged ? [judged.void.reason, judged.void.chargeWei] : ["valid", 0n];

test("a value between reserve and cap is valid; one wei outside is void, and costs nothing", () => {
  const judge = (amountWei: bigint) => verdictOf(judgeValue(bid("blind"), value(amountWei), pool(), RULES));
  assert.deepEqual(judge(100n), ["valid", 0n]);
  assert.deepEqual(judge(1000n), ["valid", 0n]);
  assert.deepEqual(judge(99n), ["below-reserve", 0n]);
  assert.deepEqual(judge(1001n), ["above-cap", 0n]);
});

test("a value layer that does not open or says nothing is void and costs the cap", () => {
  for (const plain of [undefined, new Uint8Array(), value(500n).subarray(1)]) {
    assert.deepEqual(verdictOf(judgeValue(bid("seen"), plain, pool(), RULES)), ["value-malformed", 1000n]);
  }
});

test("only seen bids reference messages, and only messages of this round", () => {
  const judge = (bidClass: BidClass, references: Uint8Array[]) =>
    verdictOf(judgeValue(bid(bidClass), value(500n, references), pool(), RULES))[0];
  assert.equal(judge("seen", [MESSAGE]), "valid");
  assert.equal(judge("seen", [MESSAGE, STRANGER]), "unknown-reference");
  assert.equal(judge("blind", [MESSAGE]), "unknown-reference");
  assert.equal(judge("tail", [MESSAGE]), "unknown-reference");
  assert.equal(judge("tail", []), "valid");
});

function judged(bundle: Bundle, options: { class?: BidClass; references?: Uint8Array[]; pool?: Pool } = {}) {
  const encoded = encode(BUNDLE, bundle);
  const promised = {
    amountWei: 700n,
    references: options.references ?? [],
    bundleCommitment: bundleCommitment(SALT, encoded),
  };
  const plain = encodeBundleLayer(SALT, encoded, SIZE);
  return verdictOf(judgeBundle(bid(options.class ?? "seen"), promised, plain, options.pool ?? pool(), SIZE));
}
const transaction = (raw: Uint8Array) => ({ type: "transaction" as const, raw });
const spliced = { type: "reference" as const, messageId: MESSAGE };
const base: Bundle = { version: 1, items: [transaction(Uint8Array.of(1))], mayRevert: [], refundRecipient: undefined };

test("an opened bundle is valid when it is the promised one and follows its class", () => {
  assert.deepEqual(judged(base), ["valid", 0n]);
  assert.deepEqual(judged({ ...base, items: [spliced, ...base.items] }, { references: [MESSAGE] }), ["valid", 0n]);
  assert.deepEqual(judged({ ...base, mayRevert: [new Uint8Array(32)] }), ["valid", 0n]);
});

test("the nearest bundles that do not are void and cost the amount", () => {
  const malformed = ["bundle-malformed", 700n];
  assert.deepEqual(judged({ ...base, items: [] }), malformed);
  assert.deepEqual(judged(base, { references: [MESSAGE] }), malformed);
  assert.deepEqual(judged({ ...base, items: [spliced, ...base.items] }), malformed);
  assert.deepEqual(judged({ ...base, items: [spliced, spliced] }, { references: [MESSAGE] }), malformed);
  for (const bidClass of ["blind", "tail"] as const) {
    assert.deepEqual(judged({ ...base, mayRevert: [new Uint8Array(32)] }, { class: bidClass }), malformed);
  }
  const promised = { amountWei: 700n, references: [], bundleCommitment: bundleCommitment(SALT, encode(BUNDLE, base)) };
  assert.deepEqual(verdictOf(judgeBundle(bid("seen"), promised, undefined, pool(), SIZE)), malformed);
  const other = encodeBundleLayer(SALT, encode(BUNDLE, { ...base, items: [transaction(Uint8Array.of(2))] }), SIZE);
  assert.deepEqual(verdictOf(judgeBundle(bid("seen"), promised, other, pool(), SIZE)), ["commitment-mismatch", 700n]);
});

test("a bundle that carries a disclosed pool transaction's own bytes is void; one nobody disclosed cannot be told", () => {
  const copying = { ...base, items: [transaction(VICTIM)] };
  assert.deepEqual(judged(copying), ["valid", 0n]);
  assert.deepEqual(judged(copying, { pool: pool({ hash: keccak256(VICTIM) }) }), ["bundle-malformed", 700n]);
  assert.deepEqual(judged(copying, { pool: pool({ rawTransaction: VICTIM }) }), ["bundle-malformed", 700n]);
  assert.deepEqual(judged(base, { pool: pool({ rawTransaction: VICTIM }) }), ["valid", 0n]);
});
