import assert from "node:assert/strict";
import { test } from "node:test";
import { CodecError, decode, encode, toHex } from "../codec/codec.ts";
import { addressOfSecret } from "../crypto/secp256k1.ts";
import {
  acknowledgementDigest,
  attributesDigest,
  SEQUENCER_ACKNOWLEDGEMENT,
  SEQUENCER_ATTRIBUTES,
  type SequencerAcknowledgement,
  type SequencerAttributes,
  signAcknowledgement,
  signAttributes,
  verifyAcknowledgement,
  verifyAttributes,
} from "./sequencer.ts";

const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);
const SECRET = filled(32, 7);
const ADDRESS = addressOfSecret(SECRET);

const ATTRIBUTES: SequencerAttributes = {
  version: 1,
  latticeId: filled(32, 1),
  chainId: 31_337n,
  slot: 9n,
  parentHash: filled(32, 2),
  parentNumber: 8n,
  timestampS: 1_800_000_036n,
  prevRandao: filled(32, 3),
  feeRecipient: filled(20, 4),
  gasLimit: 30_000_000n,
  parentBeaconBlockRoot: filled(32, 5),
  extraData: filled(7, 6),
};
const ACKNOWLEDGEMENT: SequencerAcknowledgement = {
  version: 1,
  latticeId: filled(32, 1),
  slot: 9n,
  parentHash: filled(32, 2),
  blockHash: filled(32, 8),
  outcome: "accepted",
  reason: "",
};

test("a signed message verifies under its signer's address only", () => {
  const signature = signAttributes(SECRET, ATTRIBUTES);
  assert.equal(signature.length, 65);
  assert.ok(verifyAttributes(ADDRESS, ATTRIBUTES, signature));
  assert.ok(!verifyAttributes(addressOfSecret(filled(32, 8)), ATTRIBUTES, signature));
  assert.ok(!verifyAttributes(ADDRESS, ATTRIBUTES, signature.subarray(1)));

  const acknowledged = signAcknowledgement(SECRET, ACKNOWLEDGEMENT);
  assert.ok(verifyAcknowledgement(ADDRESS, ACKNOWLEDGEMENT, acknowledged));
  assert.ok(!verifyAcknowledgement(ADDRESS, { ...ACKNOWLEDGEMENT, outcome: "fallback" }, acknowledged));
});

test("every field is under the signature", () => {
  const signature = signAttributes(SECRET, ATTRIBUTES);
  const deviations: Partial<SequencerAttributes>[] = [
    { latticeId: filled(32, 9) },
    { chainId: 1n },
    { slot: 10n },
    { parentHash: filled(32, 9) },
    { parentNumber: 9n },
    { timestampS: 1_800_000_037n },
    { prevRandao: filled(32, 9) },
    { feeRecipient: filled(20, 9) },
    { gasLimit: 30_000_001n },
    { parentBeaconBlockRoot: filled(32, 9) },
    { extraData: filled(8, 6) },
  ];
  for (const deviation of deviations) {
    assert.ok(!verifyAttributes(ADDRESS, { ...ATTRIBUTES, ...deviation }, signature), Object.keys(deviation)[0]);
  }
});

test("what decodes is what was encoded, and the nearest other bytes are refused", () => {
  const raw = encode(SEQUENCER_ATTRIBUTES, ATTRIBUTES);
  assert.deepEqual(decode(SEQUENCER_ATTRIBUTES, raw), ATTRIBUTES);
  assert.throws(() => decode(SEQUENCER_ATTRIBUTES, raw.subarray(0, -1)), CodecError);
  assert.throws(() => encode(SEQUENCER_ATTRIBUTES, { ...ATTRIBUTES, extraData: filled(33, 0) }), CodecError);
  const acknowledged = encode(SEQUENCER_ACKNOWLEDGEMENT, ACKNOWLEDGEMENT);
  assert.deepEqual(decode(SEQUENCER_ACKNOWLEDGEMENT, acknowledged), ACKNOWLEDGEMENT);
  const futureVersion = acknowledged.slice();
  futureVersion[0] = 2;
  assert.throws(() => decode(SEQUENCER_ACKNOWLEDGEMENT, futureVersion), CodecError);
});

test("golden digests (made by this code, so that the format cannot move unnoticed)", () => {
  assert.equal(toHex(attributesDigest(ATTRIBUTES)), "45d62000d0fb497c527b2606fdb055def6ea903327e54762f5882deff37be887");
  assert.equal(
    toHex(acknowledgementDigest(ACKNOWLEDGEMENT)),
    "18fc71102e3449a9b8da219ffa630391c58457a7b2df3d14010aba0a03a71c36",
  );
});
