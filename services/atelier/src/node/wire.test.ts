import assert from "node:assert/strict";
import { test } from "node:test";
import { encode } from "@lattice/organism/codec/codec.ts";
import { dealLattice, outcomeOf } from "../../test/lattice.ts";
import { CANDIDATE, type CandidateCommitment } from "../core/candidate.ts";
import { STAGE } from "../core/types.ts";
import { toWireCandidate } from "./wire.ts";

const { config, certify } = dealLattice();
const word = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const COMMITMENT: CandidateCommitment = {
  version: 1,
  slot: 9n,
  candidateVersion: 0,
  parentHash: word(1),
  blockHash: word(2),
  blockNumber: 8n,
  stateRoot: word(3),
  gasUsed: 21_000n,
  transactions: 1,
  bodyHash: word(4),
  tableRoot: word(5),
  feesWei: 258n,
  paymentsWei: 0n,
  unsealed: word(6),
  auction: undefined,
};

test("a candidate shows what its commitment says, amounts as 32 bytes", () => {
  const certified = certify(outcomeOf(config, "atelier", STAGE, 9n, "result", encode(CANDIDATE, COMMITMENT), word(4)));
  const wire = toWireCandidate(certified);
  assert.equal(wire.blockNumber, 8n);
  assert.deepEqual(wire.blockHash, word(2));
  assert.deepEqual([...(wire.feesWei ?? [])].slice(-3), [0, 1, 2]);
  assert.deepEqual(wire.unsealed, word(6));
  assert.ok(!("auction" in wire));
});

test("a skipped slot shows its certificate and nothing else", () => {
  const wire = toWireCandidate(certify(outcomeOf(config, "atelier", STAGE, 9n, "skipped")));
  assert.deepEqual(Object.keys(wire).sort(), ["certified", "slot"]);
});
