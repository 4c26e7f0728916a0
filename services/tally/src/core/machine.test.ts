import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Entry } from "@lattice/organism/outcomes/atelier.ts";
import { ATTRIBUTION, type AttributionCommitment } from "@lattice/organism/outcomes/tally.ts";
import { testKey } from "../../test/keys.ts";
import {
  auctionOf,
  candidateOutcome,
  dealLattice,
  MEMBERS,
  messageId,
  outcomeOf,
  rawTransaction,
  rowOf,
  word,
} from "../../test/lattice.ts";
import { MachineDriver } from "../../test/machine-driver.ts";
import { judgeSignatures } from "./attestation.ts";
import { batchDigest, openBatch, signaturesOf } from "./batch.ts";
import { CHAIN_FACT } from "./codec.ts";
import { ledgerTree, lifetimeTotal } from "./ledger.ts";
import { merkleRoot } from "./merkle.ts";
import { attributeLanded, candidateIn } from "./slot-attribution.ts";

const lattice = dealLattice();
const { config } = lattice;
const user = testKey("user");
const userTransaction = await rawTransaction(user);
const REFUND = 900n;

/** A slot whose only bundle pays 1000 wei for the user's message: 900 of it go back. */
function payingSlot(slot: bigint, blockNumber: bigint, blockHash: Uint8Array) {
  const auction = auctionOf(config, slot);
  const entries: Entry[] = [{ type: "pool", messageId: messageId(1), raw: userTransaction, refund: undefined }];
  const candidate = candidateOutcome(config, { slot, blockNumber, blockHash, auction, entries, table: [rowOf(0xa0)] });
  return { auction, candidate };
}

function emptySlot(slot: bigint, blockNumber: bigint, blockHash: Uint8Array) {
  return candidateOutcome(config, { slot, blockNumber, blockHash });
}

const skipped = (slot: bigint): Outcome => outcomeOf(config, "atelier", "candidate", slot, "skipped");

/** What an honest member says once the block is seen. */
function attributionFact(driver: MachineDriver, paying: ReturnType<typeof payingSlot>): Uint8Array {
  const candidate = candidateIn(paying.candidate.outcome);
  assert.ok(candidate !== undefined);
  const { commitment, problem } = attributeLanded({
    config,
    slot: candidate.slot,
    candidate,
    body: paying.candidate.body,
    auction: paying.auction,
    collected: driver.state.collected,
  });
  assert.equal(problem, undefined);
  return encode(ATTRIBUTION, commitment);
}

function land(driver: MachineDriver, slot: bigint, height: bigint, over = {}): void {
  const paying = payingSlot(slot, height, word(Number(height)));
  driver.observe(paying.auction);
  driver.observe(paying.candidate.outcome);
  assert.equal(driver.agree("chain", slot, driver.chainFact(height, word(Number(height)), over)), undefined);
  assert.equal(driver.agree("attributed", slot, attributionFact(driver, paying)), undefined);
}

function attributed(fact: Uint8Array, over: Partial<AttributionCommitment>): Uint8Array {
  return encode(ATTRIBUTION, { ...decode(ATTRIBUTION, fact), ...over });
}

test("a landed slot becomes a Result: 90 % of the bid to the sender, and the ledger grows by it", () => {
  const driver = new MachineDriver(lattice);
  land(driver, 1n, 10n);
  assert.equal(driver.decided.get(1n)?.kind, "result");
  const { landed, landedMessages, credits, refundableWei, remainderWei } = driver.attribution(1n);
  assert.deepEqual(
    { landed, landedMessages, refundableWei, remainderWei },
    {
      landed: true,
      landedMessages: [messageId(1)],
      refundableWei: 1000n,
      remainderWei: 100n,
    },
  );
  assert.deepEqual(credits, [{ recipient: user.address, kind: "order-flow-provider", wei: REFUND }]);
  assert.equal(lifetimeTotal(driver.state.ledger, user.address), REFUND);
  assert.equal(driver.state.next, 2n);
});

test("a landed slot without bids is Empty and says that it landed", () => {
  const driver = new MachineDriver(lattice);
  const { outcome, body } = emptySlot(1n, 10n, word(10));
  driver.observe(outcome);
  driver.agree("chain", 1n, driver.chainFact(10n, word(10)));
  const candidate = candidateIn(outcome);
  assert.ok(candidate !== undefined);
  const inputs = { config, slot: 1n, candidate, body, auction: undefined, collected: [] };
  driver.agree("attributed", 1n, encode(ATTRIBUTION, attributeLanded(inputs).commitment));
  assert.equal(driver.decided.get(1n)?.kind, "empty");
  assert.equal(driver.attribution(1n).landed, true);
});

test("reorg: another block final at the candidate's height ends the slot at once, without credits", () => {
  const driver = new MachineDriver(lattice);
  const { auction, candidate } = payingSlot(1n, 10n, word(10));
  driver.observe(auction);
  driver.observe(candidate.outcome);
  assert.equal(driver.agree("chain", 1n, driver.chainFact(10n, word(99))), undefined);
  assert.equal(driver.decided.get(1n)?.kind, "empty");
  const { landed, blockHash, credits, landedMessages } = driver.attribution(1n);
  assert.deepEqual(
    { landed, blockHash, credits, landedMessages },
    {
      landed: false,
      blockHash: word(10),
      credits: [],
      landedMessages: [],
    },
  );
  assert.equal(driver.state.ledger.total, 0n);
  assert.equal(driver.agree("attributed", 1n, new Uint8Array())?.reason, "OUT_OF_TURN");
});

test("skipped candidates are passed over in a row, as soon as their turn comes and not before", () => {
  const driver = new MachineDriver(lattice);
  driver.observe(skipped(2n));
  driver.observe(skipped(3n));
  assert.equal(driver.decided.size, 0, "slot 1 is not attributed yet");
  const { auction, candidate } = payingSlot(1n, 10n, word(10));
  driver.observe(auction);
  driver.observe(candidate.outcome);
  driver.agree("chain", 1n, driver.chainFact(10n, word(99)));
  assert.deepEqual([...driver.decided.keys()], [1n, 2n, 3n]);
  assert.equal(driver.attribution(3n).landed, false);
  assert.deepEqual(driver.attribution(3n).blockHash, word(0));
  assert.equal(driver.state.next, 4n);
});

test("slots are attributed in order: a fact about a later one has no effect, and no slot expires", () => {
  const driver = new MachineDriver(lattice);
  for (const slot of [1n, 2n]) {
    const { auction, candidate } = payingSlot(slot, 9n + slot, word(Number(9n + slot)));
    driver.observe(auction);
    driver.observe(candidate.outcome);
  }
  assert.equal(driver.agree("chain", 2n, driver.chainFact(11n, word(11)))?.reason, "OUT_OF_TURN");
  assert.equal(driver.agree("attributed", 1n, new Uint8Array())?.reason, "OUT_OF_TURN", "the chain comes first");
  assert.equal(driver.machine.skipAtMs("attribution", 1n), undefined);
  assert.deepEqual(driver.duties(0).find(({ type }) => type === "read-chain")?.slot, 1n);
});

test("the chain's word must fit the candidate and follow on what was scanned", () => {
  const refused = (height: bigint, over: Record<string, unknown>): string | undefined => {
    const driver = new MachineDriver(lattice);
    land(driver, 1n, 10n);
    driver.observe(payingSlot(2n, 13n, word(13)).candidate.outcome);
    return driver.agree("chain", 2n, driver.chainFact(height, word(13), over))?.reason;
  };
  const standing = { number: 13n, hash: word(13), parentHash: word(12) };
  assert.equal(refused(13n, {}), undefined);
  assert.equal(refused(14n, {}), "BAD_FACT", "another height");
  assert.equal(refused(13n, { fromBlock: 10n }), "BAD_FACT", "events counted twice");
  assert.equal(refused(13n, { fromBlock: 12n }), "BAD_FACT", "events left out");
  assert.equal(refused(13n, { scanned: { number: 14n, hash: word(14) } }), "BAD_FACT", "beyond the candidate");
  assert.equal(refused(13n, { scanned: { number: 10n, hash: word(10) } }), "BAD_FACT", "nothing looked at");
  assert.equal(refused(13n, { scanned: { number: 13n, hash: word(1) } }), "BAD_FACT", "two blocks at one height");
  const posted = [{ batch: 1n, root: word(1), total: 1n, blockNumber: 14n }];
  assert.equal(refused(13n, { posted }), "BAD_FACT", "an event from outside of the range");
  assert.equal(refused(13n, { scanned: { number: 12n, hash: word(12) }, standing }), undefined, "a shorter range");
});

test("q members must say the same: two that differ decide nothing, and agree under the next topic", () => {
  const driver = new MachineDriver(lattice);
  const { auction, candidate } = payingSlot(1n, 10n, word(10));
  driver.observe(auction);
  driver.observe(candidate.outcome);
  const landed = driver.chainFact(10n, word(10));
  const reorged = driver.chainFact(10n, word(99));
  const firstMs = slotStartMs(config, 1n) + 1000;
  const topicAt = (nowMs: number): string | undefined => {
    const duty = driver.duties(0, nowMs).find(({ type }) => type === "read-chain");
    return duty?.type === "read-chain" ? duty.topic : undefined;
  };
  assert.equal(topicAt(firstMs), "chain");
  driver.saw(0, "chain", 1n, landed);
  driver.saw(1, "chain", 1n, reorged);
  assert.equal(driver.state.chain, undefined);
  assert.equal(driver.decided.size, 0);
  assert.equal(topicAt(firstMs), undefined, "said already");

  const laterMs = firstMs + 60_000;
  const topic = topicAt(laterMs);
  assert.equal(topic, "chain/1");
  driver.saw(0, topic, 1n, landed);
  assert.equal(driver.saw(1, topic, 1n, landed), undefined);
  assert.ok(driver.state.chain !== undefined);
  assert.equal(driver.agree("chain/2", 1n, landed)?.reason, "OUT_OF_TURN", "only the first agreement counts");
  assert.equal(driver.agree("weather", 1n, landed)?.reason, "MALFORMED");
});

test("a member speaks once a topic, waits for the slot's start and, to attribute, for the auction", () => {
  const driver = new MachineDriver(lattice);
  const { auction, candidate } = payingSlot(1n, 10n, word(10));
  const atMs = slotStartMs(config, 1n);
  assert.deepEqual(driver.dutyTypes(0, atMs), [], "no candidate");
  driver.observe(candidate.outcome);
  assert.deepEqual(driver.dutyTypes(0, atMs - 1), []);
  assert.deepEqual(driver.dutyTypes(0, atMs), ["read-chain"]);
  driver.saw(0, "chain", 1n, driver.chainFact(10n, word(10)));
  assert.deepEqual(driver.dutyTypes(0, atMs), []);
  driver.saw(1, "chain", 1n, driver.chainFact(10n, word(10)));
  assert.deepEqual(driver.dutyTypes(0, atMs), [], "the auction is not known here yet");
  driver.observe(auction);
  assert.deepEqual(driver.dutyTypes(0, atMs), ["attribute"]);
  assert.deepEqual(
    driver
      .duties(0)
      .filter(({ type }) => type === "keep-body")
      .map(({ slot }) => slot),
    [1n],
  );
});

test("an attribution that does not fit the certified block is refused", () => {
  const driver = new MachineDriver(lattice);
  const paying = payingSlot(1n, 10n, word(10));
  driver.observe(paying.auction);
  driver.observe(paying.candidate.outcome);
  driver.agree("chain", 1n, driver.chainFact(10n, word(10)));
  const fact = attributionFact(driver, paying);
  const credits = decode(ATTRIBUTION, fact).credits.map((entry) => ({ ...entry, wei: entry.wei + 1n }));
  const wrong: Partial<AttributionCommitment>[] = [
    { landed: false },
    { blockHash: word(1) },
    { parentHash: word(1) },
    { blockNumber: 11n },
    { refundableWei: 1001n, remainderWei: 101n },
    { remainderWei: 99n },
    { credits },
  ];
  for (const over of wrong) assert.equal(driver.agree("attributed", 1n, attributed(fact, over))?.reason, "BAD_FACT");
  assert.equal(driver.agree("attributed", 1n, fact.subarray(1))?.reason, "BAD_FACT");
  assert.equal(driver.agree("attributed", 1n, fact), undefined);
});

test("a block that was counted is not counted again under another slot", () => {
  const driver = new MachineDriver(lattice);
  land(driver, 1n, 10n);
  const { auction, candidate } = payingSlot(2n, 10n, word(10));
  driver.observe(auction);
  driver.observe(candidate.outcome);
  assert.equal(driver.agree("chain", 2n, driver.chainFact(10n, word(10))), undefined);
  assert.equal(driver.attribution(2n).landed, false);
  assert.equal(driver.state.ledger.total, REFUND);
});

test("what the contract collected is income of the next landed slot, also over slots that did not land", () => {
  const driver = new MachineDriver(lattice);
  land(driver, 1n, 10n);
  driver.observe(payingSlot(2n, 11n, word(11)).candidate.outcome);
  driver.agree("chain", 2n, driver.chainFact(11n, word(77), { collected: [{ bidId: word(0xb0), wei: 70n }] }));
  assert.equal(driver.attribution(2n).landed, false);
  land(driver, 3n, 12n, { collected: [{ bidId: word(0xb1), wei: 5n }] });
  const { refundableWei, remainderWei } = driver.attribution(3n);
  assert.deepEqual([refundableWei, remainderWei], [1075n, 175n]);
  assert.deepEqual(driver.state.collected, []);
  assert.deepEqual(
    driver.state.slots.get(3n)?.collected.map(({ wei }) => wei),
    [70n, 5n],
  );
});

test("a batch closes every two slots, alike on every member, over what was final then", () => {
  const roots = [0, 1].map(() => {
    const driver = new MachineDriver(lattice);
    land(driver, 1n, 10n);
    assert.equal(openBatch(driver.state), undefined, "one slot is not two");
    land(driver, 2n, 11n);
    const open = openBatch(driver.state);
    assert.ok(open !== undefined);
    const { batch, lastBlockNumber, lastBlockHash, root, total, charges } = open.attestation;
    assert.deepEqual([batch, lastBlockNumber, lastBlockHash, total, charges], [1n, 11n, word(11), 2n * REFUND, []]);
    assert.deepEqual(root, merkleRoot(ledgerTree(driver.state.ledger)));
    land(driver, 3n, 12n);
    assert.deepEqual(openBatch(driver.state)?.attestation, open.attestation, "one is open at a time, and it stays");
    return toHex(batchDigest(config, open.attestation));
  });
  assert.equal(roots[0], roots[1]);
});

test("nothing new, no batch", () => {
  const driver = new MachineDriver(lattice);
  for (const slot of [1n, 2n, 3n]) driver.observe(skipped(slot));
  driver.observe(emptySlot(4n, 10n, word(10)).outcome);
  driver.agree("chain", 4n, driver.chainFact(10n, word(99)));
  assert.equal(driver.state.next, 5n);
  assert.deepEqual(driver.state.batches, []);
});

test("shares: each member once, its own key, the open batch; complete at the threshold", () => {
  const driver = new MachineDriver(lattice);
  assert.equal(
    driver.command(0, { type: "attestationShare", batch: 1n, signature: new Uint8Array(65) })?.reason,
    "NO_BATCH",
  );
  land(driver, 1n, 10n);
  land(driver, 2n, 11n);
  const share = driver.share(0);
  assert.equal(driver.command(1, share)?.reason, "BAD_ATTESTATION_SHARE", "somebody else's signature");
  assert.equal(driver.command(0, driver.share(0, 1))?.reason, "BAD_ATTESTATION_SHARE", "the wrong key");
  assert.equal(driver.command(0, { ...share, batch: 2n })?.reason, "NO_BATCH");
  assert.deepEqual(driver.dutyTypes(0), ["attest"]);
  assert.equal(driver.command(0, share), undefined);
  assert.deepEqual(driver.dutyTypes(0), [], "signed already");
  assert.equal(driver.command(0, share)?.reason, "DUPLICATE");
  const one = openBatch(driver.state);
  assert.ok(one !== undefined);
  assert.equal(one.signedAtMs, 0);
  assert.equal(signaturesOf(config, lattice.roster, one), undefined);

  assert.equal(driver.command(2, driver.share(2)), undefined);
  const open = openBatch(driver.state);
  assert.ok(open !== undefined);
  assert.equal(open.signedAtMs, driver.nowMs);
  const signatures = signaturesOf(config, lattice.roster, open);
  const signers = lattice.roster.members.flatMap(({ signer }) => (signer === undefined ? [] : [signer]));
  assert.ok(judgeSignatures(batchDigest(config, open.attestation), signatures ?? [], { signers, threshold: 2 }).ok);
  assert.deepEqual(driver.dutyTypes(1), ["post"], "batch 1 is member 1's; nobody needs to sign any more");
});

test("posting rotates: batch b is member b mod n's first, the others follow after patience", () => {
  const driver = new MachineDriver(lattice);
  land(driver, 1n, 10n);
  land(driver, 2n, 11n);
  for (const author of [0, 1]) driver.command(author, driver.share(author));
  const turns = Array.from({ length: MEMBERS }, (_, self) => {
    let waitedMs = 0;
    while (!driver.dutyTypes(self, driver.nowMs + waitedMs).includes("post")) waitedMs += config.slotMs;
    return waitedMs / config.slotMs;
  });
  assert.deepEqual(turns, [16, 0, 8]);
});

test("once the chain shows the batch, its ledger can be claimed and the next may close", () => {
  const driver = new MachineDriver(lattice);
  land(driver, 1n, 10n);
  land(driver, 2n, 11n);
  const open = openBatch(driver.state);
  assert.ok(open !== undefined);
  const { batch, root, total } = open.attestation;
  land(driver, 3n, 12n, { posted: [{ batch, root, total, blockNumber: 12n }] });
  assert.equal(driver.state.postedBatch, 1n);
  assert.equal(driver.state.batches[0]?.postedIn, 12n);
  assert.equal(lifetimeTotal(driver.state.postedLedger ?? driver.state.ledger, user.address), 2n * REFUND);
  assert.equal(openBatch(driver.state), undefined, "one slot since the last batch closed");
  land(driver, 4n, 13n);
  assert.equal(openBatch(driver.state)?.attestation.batch, 2n);
  assert.equal(openBatch(driver.state)?.attestation.total, 4n * REFUND);
  assert.deepEqual(driver.dutyTypes(0), ["attest"]);
});

test("a batch that this log did not close: ours is given up, its charges are asked for again", () => {
  const driver = new MachineDriver(lattice);
  chargedSlot(driver, 1n, 10n);
  land(driver, 2n, 11n);
  const open = openBatch(driver.state);
  assert.deepEqual(
    open?.attestation.charges.map(({ bidId }) => bidId),
    [word(0xc0)],
  );
  land(driver, 3n, 12n, { posted: [{ batch: 1n, root: word(1), total: 5n, blockNumber: 12n }] });
  assert.equal(driver.state.postedBatch, 1n);
  assert.equal(driver.state.postedLedger, undefined);
  land(driver, 4n, 13n);
  const next = openBatch(driver.state);
  assert.equal(next?.attestation.batch, 2n);
  assert.deepEqual(next?.attestation.charges, open?.attestation.charges);
});

/** A blind winner that failed: 40 wei are to be taken from its escrow. */
function chargedSlot(driver: MachineDriver, slot: bigint, height: bigint): void {
  const failed = rowOf(0xc0, { class: "blind", status: "failed", references: [], paymentWei: 0n, valueWei: 40n });
  const winner = { ...failed, amountWei: 40n, clearingWei: 40n, paymentId: word(0), bundleCommitment: word(0) };
  const auction = auctionOf(config, slot, { winners: [winner], rivals: [] });
  const shape = { slot, blockNumber: height, blockHash: word(Number(height)), auction, table: [failed] };
  const candidate = candidateOutcome(config, shape);
  driver.observe(auction);
  driver.observe(candidate.outcome);
  driver.agree("chain", slot, driver.chainFact(height, word(Number(height))));
  driver.agree("attributed", slot, attributionFact(driver, { auction, candidate }));
}

test("a charge is queued once, whatever slot names it again, and goes with the next batch", () => {
  const driver = new MachineDriver(lattice);
  chargedSlot(driver, 1n, 10n);
  assert.equal(driver.decided.get(1n)?.kind, "result", "charges alone make a Result");
  assert.equal(driver.state.charges.length, 1);
  chargedSlot(driver, 2n, 11n);
  assert.deepEqual(driver.state.charges, []);
  assert.deepEqual(
    openBatch(driver.state)?.attestation.charges.map(({ wei }) => wei),
    [40n],
  );
});

test("collapse forgets what slots were computed from; totals and what was charged stay", () => {
  const driver = new MachineDriver(lattice);
  land(driver, 1n, 10n);
  chargedSlot(driver, 2n, 11n);
  driver.machine.collapse(driver.state, 2n);
  assert.deepEqual([...driver.state.slots.keys()], [2n]);
  assert.equal(driver.state.ledger.total, REFUND);
  assert.equal(driver.state.charged.size, 1);
});

test("a fact is one encoding: the next byte more is none", () => {
  const driver = new MachineDriver(lattice);
  const fact = driver.chainFact(10n, word(10));
  driver.observe(payingSlot(1n, 10n, word(10)).candidate.outcome);
  assert.equal(driver.agree("chain", 1n, Uint8Array.of(...fact, 0))?.reason, "BAD_FACT");
  assert.deepEqual(encode(CHAIN_FACT, decode(CHAIN_FACT, fact)), fact);
});
