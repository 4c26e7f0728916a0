import assert from "node:assert/strict";
import { test } from "node:test";
import { CodecError, encode, equalBytes } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import type { Entry } from "@lattice/organism/outcomes/atelier.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { signDigest, type TestKey, testKey } from "../../test/keys.ts";
import {
  address,
  auctionOf,
  candidateOutcome,
  dealLattice,
  messageId,
  outcomeOf,
  rawTransaction,
  rowOf,
  winnerOf,
  word,
} from "../../test/lattice.ts";
import { RecomputeRefused, recompute } from "../client/recompute.ts";
import { settlementDomain } from "./attestation.ts";
import { refundAuthorisationDigest } from "./refund-authorisation.ts";
import { attributeLanded, candidateIn, type LandedInputs } from "./slot-attribution.ts";
import { sentTransaction } from "./transaction-sender.ts";

const { config } = dealLattice();
const alice = testKey("alice");
const bob = testKey("bob");
const [fromAlice, fromBob] = await Promise.all([rawTransaction(alice), rawTransaction(bob)]);
const SLOT = 4n;
const ENTRIES: readonly Entry[] = [
  { type: "carried", messageId: messageId(1), raw: fromAlice, refund: undefined },
  { type: "pool", messageId: messageId(2), raw: fromBob, refund: undefined },
  { type: "seen", bidId: word(0xa0), raw: fromBob },
];
const auction = auctionOf(config, SLOT, {
  winners: [winnerOf(0xa0, { references: [messageId(1), messageId(2)] })],
  rivals: [
    { messageId: messageId(1), highestOtherWei: 400n },
    { messageId: messageId(2), highestOtherWei: 800n },
  ],
});
const table = [rowOf(0xa0, { references: [messageId(1), messageId(2)] })];

function landed(over: Partial<Parameters<typeof candidateOutcome>[1]> = {}, given: Outcome | undefined = auction) {
  const shape = { slot: SLOT, blockNumber: 9n, blockHash: word(9), auction, entries: ENTRIES, table, ...over };
  const { outcome, body, bytes } = candidateOutcome(config, shape);
  const candidate = candidateIn(outcome);
  assert.ok(candidate !== undefined);
  const inputs: LandedInputs = { config, slot: SLOT, candidate, body, auction: given, collected: [] };
  return { outcome, bytes, inputs, ...attributeLanded(inputs) };
}

test("senders of declared messages share by weight; carried and pool messages are listed in block order", () => {
  const { commitment, problem } = landed();
  assert.equal(problem, undefined);
  assert.deepEqual(commitment.landedMessages, [messageId(1), messageId(2)]);
  const owed = new Map(commitment.credits.map(({ recipient, wei }) => [recipient[0], wei]));
  assert.equal(owed.get(alice.address[0]), 600n);
  assert.equal(owed.get(bob.address[0]), 200n);
  assert.equal(commitment.remainderWei, 200n);
});

test("a refund goes where the sender's authorisation in the body says, and nobody else's word counts", () => {
  const domain = settlementDomain(config.chainId, config.tally.content.settlement);
  const hashOf = (raw: Uint8Array) => sentTransaction(raw)?.hash ?? word(0);
  const moved = address(0x77);
  const owed = (by: TestKey, txHash: Uint8Array) => {
    const signature = signDigest(by, refundAuthorisationDigest(domain, txHash, moved));
    const [first, ...rest] = ENTRIES;
    assert.ok(first?.type === "carried");
    const { commitment, problem } = landed({
      entries: [{ ...first, refund: { recipient: moved, signature } }, ...rest],
    });
    assert.equal(problem, undefined);
    const of = (recipient: Uint8Array) =>
      commitment.credits.find((credit) => equalBytes(credit.recipient, recipient))?.wei;
    return [of(alice.address), of(moved), of(bob.address)];
  };
  assert.deepEqual(owed(alice, hashOf(fromAlice)), [undefined, 600n, 200n]);
  assert.deepEqual(owed(bob, hashOf(fromAlice)), [600n, undefined, 200n]);
  assert.deepEqual(owed(alice, hashOf(fromBob)), [600n, undefined, 200n]);
});

test("the fee recipient is the proposer, unless it is the settlement contract itself", () => {
  const sequencer = address(0x5e);
  const kinds = (feeRecipient?: Uint8Array) =>
    landed(feeRecipient === undefined ? {} : { feeRecipient }).commitment.credits.map(({ kind }) => kind);
  assert.ok(kinds(sequencer).includes("proposer"));
  assert.ok(!kinds(config.tally.content.settlement).includes("proposer"));
});

test("inputs that contradict each other give nothing to anybody, and say so", () => {
  const whole = { credits: 0, charges: 0, remainder: 1000n };
  const summary = ({ commitment }: ReturnType<typeof landed>) => ({
    credits: commitment.credits.length,
    charges: commitment.charges.length,
    remainder: commitment.remainderWei,
  });
  const other = landed({}, auctionOf(config, SLOT, { seenBids: 7 }));
  assert.deepEqual([other.problem, summary(other)], ["AUCTION_DIFFERS", whole]);
  const none = landed({}, outcomeOf(config, "offer", "auction", SLOT, "skipped"));
  assert.deepEqual([none.problem, summary(none)], ["AUCTION_DIFFERS", whole]);

  const unknown = landed({ table: [rowOf(0xb0, { references: [] })] });
  assert.deepEqual([unknown.problem, summary(unknown)], ["MISSING_WINNER", whole]);
  assert.equal(unknown.commitment.landedMessages.length, 2, "the block is on chain all the same");

  const [, second] = ENTRIES;
  assert.ok(second !== undefined);
  const garbled = landed({
    entries: [{ type: "pool", messageId: messageId(1), raw: new Uint8Array(9), refund: undefined }, second],
  });
  assert.deepEqual([garbled.problem, summary(garbled)], ["MALFORMED", whole]);

  const { inputs } = landed();
  const stranger = { ...inputs, body: { ...inputs.body, feesWei: 1n } };
  const differs = attributeLanded(stranger);
  assert.equal(differs.problem, "BODY_DIFFERS");
  assert.deepEqual(differs.commitment.landedMessages, []);
});

test("a candidate without an auction pays nobody and charges nobody, whatever offer says", () => {
  const shape = { slot: SLOT, blockNumber: 9n, blockHash: word(9), entries: ENTRIES };
  const { outcome, body } = candidateOutcome(config, shape);
  const candidate = candidateIn(outcome);
  assert.ok(candidate !== undefined);
  const { commitment, problem } = attributeLanded({ config, slot: SLOT, candidate, body, auction, collected: [] });
  assert.deepEqual([problem, commitment.refundableWei, commitment.credits], [undefined, 0n, []]);
});

test("a commitment always fits: of too many charges the largest count", () => {
  const voids = Array.from({ length: 900 }, (_, index) => {
    const bidId = new Uint8Array(32).fill(1);
    new DataView(bidId.buffer).setUint32(0, index);
    return { bidId, account: address(3), chargeWei: BigInt(index + 1), reason: "bundle-malformed" as const };
  });
  const crowded = auctionOf(config, SLOT, {
    winners: [winnerOf(0xa0, { references: [messageId(1), messageId(2)] })],
    rivals: [
      { messageId: messageId(1), highestOtherWei: 400n },
      { messageId: messageId(2), highestOtherWei: 800n },
    ],
    voids,
  });
  const { commitment, problem } = landed({ auction: crowded }, crowded);
  assert.equal(problem, "TOO_MANY");
  assert.ok(commitment.charges.length < 900);
  assert.ok(commitment.charges.every(({ wei }) => wei > 900n - BigInt(commitment.charges.length)));
  assert.equal(commitment.credits.reduce((sum, { wei }) => sum + wei, 0n) + commitment.remainderWei, 1000n);
  assert.doesNotThrow(() => encode(ATTRIBUTION, commitment), CodecError);
});

test("recompute: the same bytes from what is public; without the body, or with another, it refuses", () => {
  const { outcome, bytes, commitment } = landed();
  const input = { config, candidateOutcome: outcome, candidateBody: bytes, auctionOutcome: auction, landed: true };
  const again = recompute(input);
  assert.equal(again.kind, "result");
  assert.deepEqual(again.commitment, encode(ATTRIBUTION, commitment));
  const collected = [{ bidId: word(7), wei: 3n }];
  assert.equal(recompute({ ...input, collected }).attribution.refundableWei, 1003n);

  const { candidateBody: _, ...withoutBody } = input;
  assert.throws(
    () => recompute(withoutBody),
    (error) => error instanceof RecomputeRefused && error.reason === "NO_BODY",
  );
  const other = landed({ blockHash: word(8) }).bytes;
  assert.throws(
    () => recompute({ ...input, candidateBody: other }),
    (error) => error instanceof RecomputeRefused && error.reason === "OTHER_BODY",
  );
  const notTaken = recompute({ ...withoutBody, landed: false });
  assert.deepEqual([notTaken.kind, notTaken.attribution.landed], ["empty", false]);
  const skipped = outcomeOf(config, "atelier", "candidate", SLOT, "skipped");
  assert.deepEqual(recompute({ config, candidateOutcome: skipped, landed: false }).attribution.blockHash, word(0));
});
