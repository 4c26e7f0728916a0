import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { encode } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { SequencerAttributes } from "@lattice/organism/outcomes/sequencer.ts";
import {
  auctionOf,
  dealLattice,
  outcomeOf,
  random,
  signedAttributes,
  skippedOf,
  unsealedOf,
} from "../../test/lattice.ts";
import { MachineDriver } from "../../test/machine-driver.ts";
import type { BlockInfo } from "../evm/chain-state.ts";
import { CANDIDATE, type CandidateCommitment } from "./candidate.ts";
import { candidateFact, SIGNED_ATTRIBUTES, type SignedAttributes } from "./codec.ts";
import { expiryMs, proposesFromMs, rankOf } from "./duties.ts";
import { attributesTopic, CANDIDATE_TOPIC, type ProposalCommand } from "./types.ts";

const lattice = dealLattice();
const { config } = lattice;
const SLOT = 1n;
const PARENT: BlockInfo = {
  number: 41n,
  hash: blake3(new Uint8Array([41])),
  parentHash: blake3(new Uint8Array([40])),
  stateRoot: new Uint8Array(32),
  timestamp: 1n,
  gasLimit: 30_000_000n,
  gasUsed: 0n,
  baseFeePerGas: 7n,
  transactionHashes: [],
};
const OTHER_PARENT: BlockInfo = { ...PARENT, hash: blake3(new Uint8Array([99])) };

let driver: MachineDriver;
beforeEach(() => {
  driver = new MachineDriver(lattice);
  driver.at(SLOT, 1000);
});

function agreeOn(signed: SignedAttributes, slot = SLOT, topic = attributesTopic(signed.attributes.parentHash)) {
  const fact = encode(SIGNED_ATTRIBUTES, signed);
  return driver.saw(0, topic, slot, fact) ?? driver.saw(1, topic, slot, fact);
}

function observeBoth(slot = SLOT): void {
  driver.observe("unseal", unsealedOf(config, slot, []).outcome);
  driver.observe("offer", auctionOf(config, slot, []).outcome);
}

function ready(slot = SLOT, parent = PARENT): void {
  assert.equal(agreeOn(signedAttributes(config, slot, parent), slot), undefined);
  observeBoth(slot);
}

function proposal(over: Partial<CandidateCommitment> = {}, command: Partial<ProposalCommand> = {}): ProposalCommand {
  const slot = over.slot ?? SLOT;
  const commitment: CandidateCommitment = {
    version: 1,
    slot,
    candidateVersion: 0,
    parentHash: PARENT.hash,
    blockHash: blake3(new Uint8Array([42])),
    blockNumber: PARENT.number + 1n,
    stateRoot: new Uint8Array(32),
    gasUsed: 21_000n,
    transactions: 1,
    bodyHash: blake3(new Uint8Array([1, 2, 3])),
    tableRoot: new Uint8Array(32),
    feesWei: 5n,
    paymentsWei: 0n,
    unsealed: outcomeDigest(unsealedOf(config, slot, []).outcome),
    auction: outcomeDigest(auctionOf(config, slot, []).outcome),
    ...over,
  };
  const { parentHash, candidateVersion, bodyHash } = commitment;
  return {
    type: "proposal",
    slot,
    parentHash,
    candidateVersion,
    commitment: encode(CANDIDATE, commitment),
    bodyHash,
    sealedBody: random(100),
    ...command,
  };
}

test("attributes count once q members saw them alike, from a pinned sequencer, for this slot, chain and lattice", () => {
  assert.equal(agreeOn(signedAttributes(config, SLOT, PARENT)), undefined);
  assert.equal(driver.state.slots.get(SLOT)?.attributes[0]?.parentNumber, PARENT.number);

  const refused: readonly (readonly [string, Partial<SequencerAttributes>, Uint8Array?])[] = [
    ["another slot", { slot: SLOT + 1n }],
    ["another chain", { chainId: 1n }],
    ["another lattice", { latticeId: new Uint8Array(32) }],
    ["another sequencer", {}, new Uint8Array(32).fill(8)],
  ];
  for (const [what, over, secret] of refused) {
    const fresh = new MachineDriver(lattice);
    driver = fresh;
    assert.equal(agreeOn(signedAttributes(config, SLOT, OTHER_PARENT, over, secret))?.reason, "BAD_ATTRIBUTES", what);
  }
});

test("attributes under another parent's topic, and bytes that are no attributes, are refused", () => {
  const signed = signedAttributes(config, SLOT, PARENT);
  assert.equal(agreeOn(signed, SLOT, attributesTopic(OTHER_PARENT.hash))?.reason, "BAD_ATTRIBUTES");
  const topic = attributesTopic(PARENT.hash);
  assert.equal(driver.saw(0, topic, SLOT, new Uint8Array(9)), undefined);
  assert.equal(driver.saw(1, topic, SLOT, new Uint8Array(9))?.reason, "BAD_ATTRIBUTES");
});

test("the slot's member proposes as soon as everything is there, the others one patience after another", () => {
  assert.deepEqual(
    [0, 1, 2].map((self) => rankOf(self, 4n, 3)),
    [2, 0, 1],
  );
  const due = (): string[] =>
    [0, 1, 2].map((self) =>
      driver
        .duties(self)
        .map((duty) => duty.type)
        .join(),
    );
  assert.equal(agreeOn(signedAttributes(config, SLOT, PARENT)), undefined);
  driver.observe("unseal", unsealedOf(config, SLOT, []).outcome);
  assert.deepEqual(due(), ["", "", ""], "the auction is missing");
  driver.observe("offer", auctionOf(config, SLOT, []).outcome);
  assert.deepEqual(due(), ["", "propose", ""]);
  const readyMs = driver.nowMs;
  driver.nowMs = proposesFromMs(config, SLOT, 1, readyMs) - 1;
  assert.deepEqual(due(), ["", "propose", ""]);
  driver.nowMs = proposesFromMs(config, SLOT, 1, readyMs);
  assert.deepEqual(due(), ["", "propose", "propose"]);
  driver.nowMs += config.atelier.content.patienceMs;
  assert.deepEqual(due(), ["propose", "propose", "propose"]);
  driver.nowMs = expiryMs(config, SLOT);
  assert.deepEqual(due(), ["", "", ""], "too late");
});

test("a block is built although unsealed round and auction were skipped; earlier rounds are waited for", () => {
  driver.at(2n, 1000);
  assert.equal(agreeOn(signedAttributes(config, 2n, PARENT), 2n), undefined);
  driver.observe("unseal", skippedOf(config, "unseal", "unsealed", 2n).outcome);
  driver.observe("offer", skippedOf(config, "offer", "auction", 2n).outcome);
  const proposer = 2;
  assert.deepEqual(driver.duties(proposer), [], "slot 1's round is open");
  const early = proposal({ slot: 2n, unsealed: undefined, auction: undefined });
  assert.equal(driver.command(proposer, early)?.reason, "INPUTS_UNKNOWN");
  driver.observe("unseal", skippedOf(config, "unseal", "unsealed", 1n).outcome);
  assert.deepEqual(
    driver.duties(proposer).map((duty) => duty.type),
    ["propose"],
  );
  assert.equal(driver.command(proposer, early), undefined);
});

test("a proposal is taken; q alike votes decide it; a late one is refused", () => {
  ready();
  const command = proposal();
  assert.equal(driver.command(1, command), undefined);
  assert.deepEqual(
    driver.duties(0).map((duty) => duty.type),
    ["judge"],
  );
  const fact = candidateFact(command.commitment);
  assert.equal(driver.saw(0, CANDIDATE_TOPIC, SLOT, fact), undefined);
  assert.deepEqual(driver.duties(0), [], "said once");
  assert.equal(driver.outcomes.get(SLOT), undefined);
  assert.equal(driver.saw(2, CANDIDATE_TOPIC, SLOT, fact), undefined);
  const outcome = driver.outcomes.get(SLOT);
  assert.deepEqual(
    [outcome?.kind, outcome?.commitment, outcome?.bodyHash],
    ["result", command.commitment, command.bodyHash],
  );
  assert.deepEqual(
    driver.duties(1).map((duty) => duty.type),
    ["judge"],
    "a slow member still executes it, to hold the body",
  );
  assert.equal(driver.command(2, proposal())?.reason, "SLOT_DECIDED");
});

test("votes for what nobody proposed decide nothing", () => {
  ready();
  driver.command(1, proposal());
  const fact = candidateFact(proposal({ feesWei: 6n }).commitment);
  driver.saw(0, CANDIDATE_TOPIC, SLOT, fact);
  assert.equal(driver.saw(2, CANDIDATE_TOPIC, SLOT, fact)?.reason, "CANDIDATE_UNKNOWN");
});

test("a second, different proposal under one key is refused and recorded; the same block sealed anew is not fraud", () => {
  ready();
  assert.equal(driver.command(1, proposal()), undefined);
  assert.equal(driver.command(1, proposal())?.reason, "DUPLICATE");
  assert.deepEqual(driver.state.slots.get(SLOT)?.evidence, []);
  assert.equal(driver.command(1, proposal({ feesWei: 6n }))?.reason, "PROPOSAL_CONFLICT");
  const [evidence, ...more] = driver.state.slots.get(SLOT)?.evidence ?? [];
  assert.equal(evidence?.member, 1);
  assert.ok(evidence !== undefined && evidence.first < evidence.second);
  assert.equal(driver.command(1, proposal({ feesWei: 7n }))?.reason, "PROPOSAL_CONFLICT");
  assert.equal(driver.state.slots.get(SLOT)?.evidence.length, 1);
  assert.deepEqual(more, []);
  assert.equal(driver.command(2, proposal({ feesWei: 6n })), undefined, "another author's is another key");
  assert.equal(driver.state.slots.get(SLOT)?.proposals.length, 2);
});

test("a proposal that contradicts itself, its key or what was observed is refused", () => {
  ready();
  const cases: readonly (readonly [string, ProposalCommand])[] = [
    ["COMMITMENT_MISMATCH", proposal({}, { commitment: new Uint8Array(3) })],
    ["COMMITMENT_MISMATCH", proposal({}, { slot: 2n })],
    ["COMMITMENT_MISMATCH", proposal({}, { parentHash: OTHER_PARENT.hash })],
    ["COMMITMENT_MISMATCH", proposal({}, { bodyHash: new Uint8Array(32) })],
    ["COMMITMENT_MISMATCH", proposal({ candidateVersion: 1 }, { candidateVersion: 0 })],
    ["COMMITMENT_MISMATCH", proposal({ blockNumber: PARENT.number })],
    ["VERSION_NOT_OPEN", proposal({ candidateVersion: 1 })],
    ["ATTRIBUTES_UNKNOWN", proposal({ parentHash: OTHER_PARENT.hash })],
    ["INPUTS_DIFFER", proposal({ unsealed: undefined })],
    ["INPUTS_DIFFER", proposal({ auction: new Uint8Array(32) })],
    ["ATTRIBUTES_UNKNOWN", proposal({ slot: 2n })],
    ["SLOT_OUT_OF_WINDOW", proposal({ slot: 100n })],
  ];
  for (const [reason, command] of cases) assert.equal(driver.command(1, command)?.reason, reason);
  assert.equal(driver.command(1, proposal()), undefined);
});

test("after a reorganisation the new parent is built on, and each parent has a proposal of its own", () => {
  ready();
  assert.equal(driver.command(1, proposal()), undefined);
  assert.equal(agreeOn(signedAttributes(config, SLOT, OTHER_PARENT)), undefined);
  assert.deepEqual(
    driver.duties(1).flatMap((duty) => (duty.type === "propose" ? [duty.parentHash] : [])),
    [OTHER_PARENT.hash],
  );
  assert.equal(driver.command(1, proposal({ parentHash: OTHER_PARENT.hash })), undefined);
  assert.deepEqual(driver.state.slots.get(SLOT)?.evidence, []);
});

test("nothing is said about a skipped slot; attributions change nothing", () => {
  ready();
  driver.skip(SLOT);
  assert.deepEqual(driver.duties(1), []);
  assert.equal(driver.command(1, proposal())?.reason, "SLOT_DECIDED");
  assert.equal(agreeOn(signedAttributes(config, SLOT, OTHER_PARENT))?.reason, "SLOT_DECIDED");
  assert.equal(driver.observe("tally", outcomeOf(config, "tally", "attribution", SLOT, "skipped")), undefined);
  assert.equal(driver.machine.skipAtMs("candidate", SLOT), slotStartMs(config, SLOT) + 2000 + 1200);
});

test("sealed bodies leave the state when later slots are decided; collapse forgets the rest", () => {
  ready();
  driver.command(1, proposal());
  const kept = (): number => driver.state.slots.get(SLOT)?.proposals[0]?.sealedBody.length ?? -1;
  driver.skip(2n);
  assert.equal(kept(), 100);
  driver.skip(SLOT + 4n);
  assert.equal(kept(), 0);
  driver.collapse(SLOT + 1n);
  assert.equal(driver.state.slots.has(SLOT), false);
});
