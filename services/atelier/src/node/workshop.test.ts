import assert from "node:assert/strict";
import { before, test } from "node:test";
import { decode, encode } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { attributesOn, devnet, signed, wallet } from "../../test/devnet.ts";
import { testHost } from "../../test/host.ts";
import { auctionOf, dealLattice, signedAttributes, unsealedOf } from "../../test/lattice.ts";
import { blockAttributes } from "../core/attributes.ts";
import { CANDIDATE, CANDIDATE_BODY, type Candidate, type CandidateBody, candidateFrom } from "../core/candidate.ts";
import type { Proposal, ProposalCommand } from "../core/types.ts";
import { ChainError, type ChainState } from "../evm/chain-state.ts";
import { rulesOf, type SlotSources } from "../evm/slot-inputs.ts";
import { type Objection, Workshop } from "./workshop.ts";

const lattice = dealLattice();
const { config } = lattice;
const SLOT = 1n;

let builder: Workshop;
let builderChain: ChainState;
let sources: SlotSources;
let right: Candidate;
before(async () => {
  await initCrypto();
  builderChain = await devnet();
  builder = new Workshop(testHost(lattice, 0), builderChain);
  const raws = [0, 1, 2].map((index) => signed({ from: wallet(index), nonce: 0n }));
  const unsealed = unsealedOf(config, SLOT, raws);
  const auction = auctionOf(config, SLOT, []);
  sources = {
    slot: SLOT,
    candidateVersion: 0,
    attributes: blockAttributes(signedAttributes(config, SLOT, builderChain.head()).attributes),
    rules: rulesOf(config),
    unsealed: { outcome: unsealed.outcome, body: unsealed.body },
    auction: { outcome: auction.outcome, body: auction.body },
    earlier: [],
  };
  right = await builder.build(sources);
});

/** Another member, which has executed nothing of it. */
async function judge(command: ProposalCommand, self = 1) {
  const workshop = new Workshop(testHost(lattice, self), await devnet());
  const { parentHash, candidateVersion, commitment, sealedBody } = command;
  const proposal: Proposal = { author: 0, position: 9n, parentHash, candidateVersion, commitment, sealedBody };
  return workshop.judge(sources, proposal, command.bodyHash);
}

async function objectionTo(command: ProposalCommand): Promise<Objection | undefined> {
  const judgement = await judge(command);
  return judgement.right ? undefined : judgement.objection;
}

function withBody(change: (body: CandidateBody) => Partial<CandidateBody>): ProposalCommand {
  const body = decode(CANDIDATE_BODY, right.bodyBytes);
  return builder.propose(candidateFrom({ ...body, ...change(body) }));
}

test("every member opens the body and finds the same block", async () => {
  const command = builder.propose(right);
  for (const self of [0, 1, 2]) {
    const judgement = await judge(command, self);
    assert.ok(judgement.right);
    assert.deepEqual(judgement.bodyBytes, right.bodyBytes);
  }
});

test("a member that has executed the same block before does not do so again", async () => {
  const chain = await devnet();
  const workshop = new Workshop(testHost(lattice, 1), chain);
  const command = builder.propose(right);
  const { parentHash, candidateVersion, commitment, sealedBody } = command;
  const proposal: Proposal = { author: 0, position: 9n, parentHash, candidateVersion, commitment, sealedBody };
  assert.equal((await workshop.judge(sources, proposal, command.bodyHash)).right, true);
  const unreadable = { ...proposal, author: 2, sealedBody: new Uint8Array(4) };
  assert.equal((await workshop.judge(sources, unreadable, command.bodyHash)).right, true);
});

test("a corrupt body gets no vote", async () => {
  const command = builder.propose(right);
  const flipped = command.sealedBody.slice();
  flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
  assert.equal(await objectionTo({ ...command, sealedBody: flipped }), "BODY_UNREADABLE");
  assert.equal(await objectionTo({ ...command, sealedBody: new Uint8Array(5) }), "BODY_UNREADABLE");
  // Sealed rightly, but another body than the one committed to.
  const other = builder.propose({ ...right, bodyBytes: right.bodyBytes.slice(1) });
  assert.equal(await objectionTo(other), "BODY_HASH");
  const bodyBytes = right.bodyBytes.slice(1);
  const commitment = { ...right.commitment, bodyHash: blake3(bodyBytes) };
  const malformed = builder.propose({ ...right, bodyBytes, commitment });
  assert.equal(await objectionTo(malformed), "BODY_MALFORMED");
});

test("a body that breaks a rule gets no vote, whatever its commitment says", async () => {
  const cases: readonly (readonly [Objection, (body: CandidateBody) => Partial<CandidateBody>])[] = [
    ["MESSAGE_UNACCOUNTED", ({ entries }) => ({ entries: entries.slice(1) })],
    ["MESSAGE_ORDER", ({ entries }) => ({ entries: entries.toReversed() })],
    ["HEADER_DIFFERS", ({ header }) => ({ header: { ...header, stateRoot: new Uint8Array(32) } })],
    ["BLOCK_HASH_DIFFERS", () => ({ blockHash: new Uint8Array(32) })],
    ["FEES_DIFFER", ({ feesWei }) => ({ feesWei: feesWei + 1n })],
    ["ATTRIBUTES_DIFFER", ({ attributes }) => ({ attributes: { ...attributes, feeRecipient: wallet(1).address } })],
    ["INPUTS_DIFFER", () => ({ unsealed: undefined })],
    ["WRONG_VERSION", () => ({ candidateVersion: 1 })],
  ];
  for (const [objection, change] of cases) assert.equal(await objectionTo(withBody(change)), objection);
  const commitment = encode(CANDIDATE, { ...right.commitment, paymentsWei: 1n });
  assert.equal(await objectionTo(builder.propose({ ...right, commitmentBytes: commitment })), "COMMITMENT_DIFFERS");
  assert.equal(await objectionTo(builder.propose(right)), undefined);
});

test("a member without the parent waits instead of refusing", async () => {
  const ahead = await devnet();
  const { rlp, hash } = await (await ahead.begin(attributesOn(ahead))).seal();
  await ahead.importBlock(rlp);
  await ahead.setHead(hash);
  const { attributes } = signedAttributes(config, SLOT, ahead.head());
  const onNext = { ...sources, attributes: blockAttributes(attributes) };
  const elsewhere = new Workshop(testHost(lattice, 0), ahead);
  const command = elsewhere.propose(await elsewhere.build(onNext));
  const { parentHash, candidateVersion, commitment, sealedBody } = command;
  const proposal: Proposal = { author: 0, position: 9n, parentHash, candidateVersion, commitment, sealedBody };
  const behind = new Workshop(testHost(lattice, 1), await devnet());
  await assert.rejects(
    behind.judge(onNext, proposal, command.bodyHash),
    (error: unknown) => error instanceof ChainError && error.reason === "UNKNOWN_PARENT",
  );
});
