import assert from "node:assert/strict";
import { test } from "node:test";
import { CodecError, decode, encode, fromHex, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { enginePayload } from "@lattice/organism/outcomes/execution-payload.ts";
import vector from "../../test/vectors/candidate.json" with { type: "json" };
import { CANDIDATE, CANDIDATE_BODY, candidateFrom, commitmentMatches } from "./candidate.ts";

const bytes = fromHex(vector.body);
const body = decode(CANDIDATE_BODY, bytes);

test("the golden body decodes, encodes to the same bytes and has the golden commitment", () => {
  assert.equal(toHex(encode(CANDIDATE_BODY, body)), vector.body);
  const candidate = candidateFrom(body);
  assert.equal(toHex(candidate.commitmentBytes), vector.commitment);
  assert.equal(toHex(candidate.commitment.bodyHash), vector.bodyHash);
  assert.equal(toHex(blake3(bytes)), vector.bodyHash);
  assert.equal(toHex(candidate.commitment.tableRoot), vector.tableRoot);
  assert.equal(toHex(candidate.commitment.blockHash), vector.blockHash);
});

test("a commitment belongs to one body only", () => {
  const { commitment } = candidateFrom(body);
  assert.equal(commitmentMatches(commitment, bytes), true);
  for (const over of [{ slot: 8n }, { gasUsed: 1n }, { paymentsWei: 0n }, { tableRoot: new Uint8Array(32) }]) {
    assert.equal(commitmentMatches({ ...commitment, ...over }, bytes), false);
  }
  const other = encode(CANDIDATE_BODY, { ...body, feesWei: body.feesWei + 1n });
  assert.equal(commitmentMatches(commitment, other), false);
});

test("missing, trailing and out-of-range bytes and other versions are refused", () => {
  for (let length = 0; length < bytes.length; length += 97) {
    assert.equal(tryDecode(CANDIDATE_BODY, bytes.slice(0, length)), undefined);
  }
  assert.equal(tryDecode(CANDIDATE_BODY, new Uint8Array([...bytes, 0])), undefined);
  assert.equal(tryDecode(CANDIDATE_BODY, bytes.with(0, 2)), undefined);
  const commitment = fromHex(vector.commitment);
  assert.throws(() => decode(CANDIDATE, commitment.with(0, 2)), CodecError);
  assert.throws(() => decode(CANDIDATE, commitment.slice(1)), CodecError);
});

test("the engine payload names the block's fields as the Engine API does", () => {
  const { executionPayload, parentBeaconBlockRoot, executionRequests } = enginePayload(body);
  assert.equal(executionPayload.blockHash, `0x${vector.blockHash}`);
  assert.equal(executionPayload.blockNumber, "0x1");
  assert.equal(executionPayload.transactions.length, body.entries.length);
  assert.equal(executionPayload.transactions[0], `0x${toHex(body.entries[0]?.raw ?? new Uint8Array())}`);
  assert.equal(parentBeaconBlockRoot, `0x${toHex(body.attributes.parentBeaconBlockRoot)}`);
  assert.deepEqual(executionRequests, []);
});
