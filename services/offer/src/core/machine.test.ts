import assert from "node:assert/strict";
import { test } from "node:test";
import { compareBytes, decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { signTicket } from "@lattice/organism/committee/ticket.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import { committeeId, type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { AUCTION, type BidClass, BLIND_CLOSED, type Winner } from "@lattice/organism/outcomes/offer.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { dealCommittee, type OfferContent, random, type Searcher, searcher } from "../../test/fixture.ts";
import { MachineDriver } from "../../test/machine-driver.ts";
import { cancelBytes, registrationBytes } from "../client/requests.ts";
import { type BidBody, type BidContext, bidId, encodeBid, encodeBidBody } from "./bid.ts";
import { closeAtMs, skipAtMs } from "./duties.ts";
import { escrowFact } from "./escrow.ts";
import { bundleLayerBytes, VALUE_LAYER_BYTES } from "./layers.ts";
import { parseCancel, parseRegistration } from "./requests.ts";
import type { VerdictTopic } from "./types.ts";
import { encodeVerdict } from "./verdict.ts";

const SLOT = 5n;
const ESCROW_WEI = 10_000n;
const ALICE = searcher(1);
const BOB = searcher(2);
const CAROL = searcher(3);
let nonces = 0n;

interface BidChoice {
  readonly by?: Searcher;
  readonly class?: BidClass;
  readonly context?: Partial<BidContext>;
  readonly body?: Partial<BidBody>;
  readonly signedBy?: Searcher;
}

/** A bid whose layers are noise: admission never opens them. */
function bidOf(config: LatticeConfig, choice: BidChoice = {}) {
  const by = choice.by ?? ALICE;
  nonces += 1n;
  const encoded = encodeBidBody({
    version: 1,
    context: {
      committee: committeeId(config, "offer"),
      epoch: 0n,
      slot: SLOT,
      class: choice.class ?? "blind",
      searcher: by.address,
      nonce: nonces,
      ...choice.context,
    },
    escrowAccount: by.address,
    capWei: 1000n,
    replacement: { id: new Uint8Array(16), nonce: 0n },
    tickets: [],
    valueLayer: random(VALUE_LAYER_BYTES),
    bundleLayer: random(bundleLayerBytes(config.offer.content.bundleBytes)),
    ...choice.body,
  });
  const id = bidId(encoded);
  return { id, bid: encodeBid(encoded, signDigest((choice.signedBy ?? by).key, id)) };
}

function registration(config: LatticeConfig, account: Searcher, by: Searcher, untilSlot = 1000n) {
  const { address, key } = account;
  const raw = registrationBytes({ config, account: address, searcher: by.address, untilSlot, accountKey: key });
  const parsed = parseRegistration(raw);
  assert.ok(parsed !== undefined);
  return parsed;
}

/** Alice, Bob and Carol registered, each with certified escrow; log time is in slot 4. */
function ready(offer: Partial<OfferContent> = {}, overrides: Partial<LatticeConfig> = {}): MachineDriver {
  const { config, roster } = dealCommittee(offer, overrides);
  const driver = new MachineDriver(config, roster);
  for (const each of [ALICE, BOB, CAROL]) {
    assert.equal(driver.command({ type: "register", registration: registration(config, each, each) }), undefined);
  }
  assert.equal(driver.close("blind", 1n), undefined);
  certify(driver, 2n, () => ESCROW_WEI);
  driver.nowMs = slotStartMs(config, 4n) + 100;
  return driver;
}

function certify(
  driver: MachineDriver,
  slot: bigint,
  wei: (account: string) => bigint,
  taken: Uint8Array[] = [],
): void {
  const { query } = driver.state;
  assert.equal(query?.slot, slot);
  const fact = escrowFact(
    (query?.accounts ?? []).map((account) => wei(toHex(account))),
    taken,
  );
  assert.equal(driver.agree("escrow", slot, fact), undefined);
}

function unseal(
  driver: MachineDriver,
  slot: bigint,
  kind: "result" | "empty" | "skipped" = "result",
  blind?: Uint8Array,
) {
  const closed = driver.outcome("blind", slot);
  const standing = blind ?? (closed === undefined ? undefined : outcomeDigest(closed));
  const round = { version: 1 as const, broadcast: new Uint8Array(32), blind: standing, messages: [], failures: [] };
  const commitment = kind === "skipped" ? new Uint8Array() : encode(UNSEALED, round);
  assert.equal(driver.observe("unseal", driver.foreign("unseal", "unsealed", slot, kind, commitment)), undefined);
}

const place = (driver: MachineDriver, choice: BidChoice = {}) => {
  const made = bidOf(driver.config, choice);
  assert.equal(driver.command({ type: "bid", bid: made.bid }), undefined);
  return made.id;
};
const refused = (driver: MachineDriver, choice: BidChoice) =>
  driver.command({ type: "bid", bid: bidOf(driver.config, choice).bid })?.reason;

const winnerOf = (id: Uint8Array, bidClass: BidClass, by: Searcher, wei: bigint): Winner => ({
  bidId: id,
  paymentId: id,
  class: bidClass,
  searcher: by.address,
  escrowAccount: by.address,
  amountWei: wei,
  clearingWei: wei,
  references: [],
  bundleCommitment: new Uint8Array(32),
});
const auctionOf = (winners: Winner[], voids: { bidId: Uint8Array; account: Uint8Array; chargeWei: bigint }[] = []) => ({
  version: 1 as const,
  rule: "first-price" as const,
  blind: undefined,
  winners,
  blindBids: winners.length,
  seenBids: 0,
  rivals: [],
  voids: voids.map((each) => ({ ...each, reason: "value-malformed" as const })),
});
const finish = (driver: MachineDriver, topic: VerdictTopic, auction: ReturnType<typeof auctionOf>, slot = SLOT) =>
  driver.agree(topic, slot, encodeVerdict({ type: "final", auction, bodyHash: new Uint8Array(32).fill(1) }));
const open = (driver: MachineDriver, topic: VerdictTopic, bidIds: Uint8Array[]) =>
  driver.agree(topic, SLOT, encodeVerdict({ type: "open", bidIds }));

test("a sound bid is taken; the nearest unsound ones are refused, each with its reason and no change of state", () => {
  const driver = ready();
  const { config } = driver;
  const first = bidOf(config);
  assert.equal(driver.command({ type: "bid", bid: first.bid }), undefined);
  assert.equal(driver.command({ type: "bid", bid: first.bid })?.reason, "DUPLICATE");
  assert.equal(refused(driver, { context: { nonce: nonces } }), "NONCE_USED");
  assert.equal(driver.command({ type: "bid", bid: first.bid.subarray(1) })?.reason, "BID_MALFORMED");
  assert.equal(driver.command({ type: "bid", bid: new Uint8Array() })?.reason, "BID_MALFORMED");
  assert.equal(refused(driver, { context: { committee: committeeId(config, "relay") } }), "WRONG_COMMITTEE");
  assert.equal(refused(driver, { context: { epoch: 1n } }), "WRONG_EPOCH");
  assert.equal(refused(driver, { body: { bundleLayer: random(bundleLayerBytes(1025)) } }), "BID_SIZE");
  assert.equal(refused(driver, { body: { bundleLayer: random(bundleLayerBytes(1023)) } }), "BID_SIZE");
  assert.equal(refused(driver, { signedBy: BOB }), "BAD_SIGNATURE");
  assert.equal(refused(driver, { body: { escrowAccount: BOB.address } }), "ACCOUNT_NOT_AUTHORISED");
  assert.equal(refused(driver, { body: { tickets: [new Uint8Array(4)] } }), "TICKET_REFUSED");
  assert.equal(refused(driver, { body: { capWei: 99n } }), "CAP_BELOW_RESERVE");
  assert.equal(refused(driver, { context: { slot: 40n } }), "CLASS_CLOSED");
});

test("a bid outside the sealing key's slots is refused", () => {
  const { config, roster } = dealCommittee();
  const driver = new MachineDriver(config, { ...roster, sealingUntilSlot: 4n });
  assert.equal(refused(driver, {}), "WRONG_EPOCH");
  assert.notEqual(refused(driver, { context: { slot: 4n } }), "WRONG_EPOCH");
});

test("blind bids of one account are covered together, across open slots; seen bids each", () => {
  const driver = ready();
  place(driver, { body: { capWei: 6000n } });
  place(driver, { body: { capWei: 4000n }, context: { slot: SLOT + 1n } });
  assert.equal(refused(driver, { body: { capWei: 100n } }), "OVER_ESCROW");
  driver.close("blind", SLOT);
  unseal(driver, SLOT);
  assert.equal(refused(driver, { class: "seen", body: { capWei: 100n } }), "OVER_ESCROW");
  place(driver, { by: BOB, class: "seen", body: { capWei: ESCROW_WEI } });
  place(driver, { by: BOB, class: "seen", body: { capWei: ESCROW_WEI } });
  assert.equal(refused(driver, { by: CAROL, class: "seen", body: { capWei: ESCROW_WEI + 1n } }), "OVER_ESCROW");
});

test("one searcher has at most so many live bids, and at most four times that many submissions", () => {
  const driver = ready();
  const id = new Uint8Array(16).fill(7);
  place(driver);
  place(driver, { body: { replacement: { id, nonce: 1n } } });
  assert.equal(refused(driver, {}), "TOO_MANY_BIDS");
  for (let nonce = 2n; nonce <= 7n; nonce++) place(driver, { body: { replacement: { id, nonce } } });
  assert.equal(refused(driver, { body: { replacement: { id, nonce: 8n } } }), "TOO_MANY_BIDS");
  place(driver, { by: BOB });
});

test("a replacement needs a higher nonce, the same class and the same searcher", () => {
  const driver = ready();
  const id = new Uint8Array(16).fill(7);
  const old = place(driver, { body: { replacement: { id, nonce: 5n } } });
  assert.equal(refused(driver, { body: { replacement: { id, nonce: 5n } } }), "REPLACEMENT_NOT_NEWER");
  assert.equal(refused(driver, { body: { replacement: { id, nonce: 4n } } }), "REPLACEMENT_NOT_NEWER");
  const bobs = place(driver, { by: BOB, body: { replacement: { id, nonce: 1n } } });
  const fresh = place(driver, { body: { replacement: { id, nonce: 6n }, capWei: ESCROW_WEI } });
  const { bids, standings } = driver.state.slots.get(SLOT) ?? assert.fail();
  assert.deepEqual(new Set(bids.keys()), new Set([toHex(bobs), toHex(fresh)]));
  assert.equal(standings.get(toHex(old))?.standing, "withdrawn");
});

test("blind bids are final once closed: nothing is added, replaced or cancelled", () => {
  const driver = ready();
  const id = new Uint8Array(16).fill(7);
  const mine = place(driver, { body: { replacement: { id, nonce: 1n } } });
  const cancel = parseCancel(cancelBytes({ config: driver.config, slot: SLOT, bidId: mine, searcherKey: ALICE.key }));
  assert.ok(cancel !== undefined);
  assert.equal(driver.command({ type: "cancel", cancel })?.reason, "BID_FINAL");
  assert.equal(driver.close("blind", SLOT), undefined);
  assert.equal(refused(driver, {}), "CLASS_CLOSED");
  assert.equal(refused(driver, { body: { replacement: { id, nonce: 2n } } }), "CLASS_CLOSED");
  assert.equal(driver.command({ type: "cancel", cancel })?.reason, "BID_FINAL");
  assert.equal(driver.close("blind", SLOT)?.reason, "SLOT_DECIDED");
});

test("BlindClosed lists the live blind bids in ascending order; without any it is Empty", () => {
  const driver = ready();
  const ids = [place(driver), place(driver, { by: BOB }), place(driver, { by: CAROL })].sort(compareBytes);
  driver.close("blind", SLOT);
  const closed = driver.outcome("blind", SLOT);
  assert.equal(closed?.kind, "result");
  assert.deepEqual(decode(BLIND_CLOSED, closed?.commitment ?? new Uint8Array()).bidIds, ids);
  driver.close("blind", SLOT + 1n);
  assert.equal(driver.outcome("blind", SLOT + 1n)?.kind, "empty");
});

test("seen and tail bids are taken between the UnsealedRound and the seen close; a skipped round opens nothing", () => {
  const driver = ready();
  assert.equal(refused(driver, { class: "seen" }), "CLASS_NOT_OPEN");
  driver.close("blind", SLOT);
  unseal(driver, SLOT);
  place(driver, { class: "seen" });
  place(driver, { by: BOB, class: "tail" });
  driver.close("seen", SLOT);
  assert.equal(refused(driver, { by: CAROL, class: "seen" }), "CLASS_CLOSED");
  assert.equal(refused(driver, { by: CAROL, class: "tail" }), "CLASS_CLOSED");
  unseal(driver, SLOT + 1n, "skipped");
  assert.equal(refused(driver, { class: "seen", context: { slot: SLOT + 1n } }), "CLASS_NOT_OPEN");
});

test("a seen bid can be cancelled by its searcher until the seen close, by nobody else and not later", () => {
  const driver = ready();
  unseal(driver, SLOT);
  const mine = place(driver, { class: "seen" });
  const other = place(driver, { class: "tail" });
  const cancel = (bid: Uint8Array, by: Searcher, config = driver.config) =>
    parseCancel(cancelBytes({ config, slot: SLOT, bidId: bid, searcherKey: by.key })) ?? assert.fail();
  const foreign = dealCommittee().config;
  assert.equal(driver.command({ type: "cancel", cancel: cancel(mine, BOB) })?.reason, "BAD_SIGNATURE");
  assert.equal(driver.command({ type: "cancel", cancel: cancel(mine, ALICE, foreign) })?.reason, "WRONG_COMMITTEE");
  assert.equal(driver.command({ type: "cancel", cancel: cancel(mine, ALICE) }), undefined);
  assert.equal(driver.command({ type: "cancel", cancel: cancel(mine, ALICE) })?.reason, "BID_UNKNOWN");
  driver.close("seen", SLOT);
  assert.equal(driver.command({ type: "cancel", cancel: cancel(other, ALICE) })?.reason, "CLASS_CLOSED");
  assert.deepEqual(driver.state.slots.get(SLOT)?.contestants, [other]);
});

test("no bids: the auction is Empty, explicitly; after a skipped UnsealedRound too", () => {
  for (const kind of ["result", "empty", "skipped"] as const) {
    const driver = ready();
    driver.close("blind", SLOT);
    unseal(driver, SLOT, kind);
    assert.equal(driver.close("seen", SLOT), undefined);
    const outcome = driver.outcome("auction", SLOT);
    assert.equal(outcome?.kind, "empty");
    assert.deepEqual(decode(AUCTION, outcome?.commitment ?? new Uint8Array()).winners, []);
    assert.equal(driver.close("seen", SLOT)?.reason, "SLOT_DECIDED");
  }
});

test("blind bids take part only if the UnsealedRound was frozen over this very BlindClosed", () => {
  for (const [kind, blind, contestants] of [
    ["result", undefined, 1],
    ["empty", undefined, 1],
    ["result", new Uint8Array(32).fill(5), 0],
    ["skipped", undefined, 0],
  ] as const) {
    const driver = ready();
    const id = place(driver);
    driver.close("blind", SLOT);
    unseal(driver, SLOT, kind, blind);
    driver.close("seen", SLOT);
    if (contestants === 1) {
      assert.deepEqual(driver.state.slots.get(SLOT)?.contestants, [id]);
      assert.equal(driver.outcome("auction", SLOT), undefined);
    } else {
      assert.equal(driver.outcome("auction", SLOT)?.kind, "empty");
      assert.equal(driver.state.slots.get(SLOT)?.standings.get(toHex(id))?.standing, "unanswered");
    }
  }
});

/** Three blind bids, closed, unsealed, seen closed. */
function closedAuction(offer: Partial<OfferContent> = {}) {
  const driver = ready(offer);
  const [a, b, c] = [place(driver), place(driver, { by: BOB }), place(driver, { by: CAROL })];
  driver.close("blind", SLOT);
  unseal(driver, SLOT);
  driver.close("seen", SLOT);
  return { driver, a, b, c };
}

test("shares are taken when they are due, once per member, and for no bundle that was not agreed on", () => {
  const { driver, a, b } = closedAuction();
  const box = new Uint8Array(100);
  const bundleShare = (bid: Uint8Array, author: number) =>
    driver.command({ type: "bundleShare", slot: SLOT, bidId: bid, box }, author)?.reason;
  assert.equal(bundleShare(a, 0), "SHARE_NOT_DUE");
  assert.equal(driver.command({ type: "slotShare", slot: SLOT + 1n, box })?.reason, "SHARE_NOT_DUE");
  assert.equal(driver.command({ type: "slotShare", slot: SLOT, box }, 3)?.reason, "SHARE_NOT_DUE");
  assert.equal(driver.command({ type: "slotShare", slot: SLOT, box }), undefined);
  assert.equal(driver.command({ type: "slotShare", slot: SLOT, box })?.reason, "DUPLICATE");
  assert.equal(open(driver, "ranked", [a]), undefined);
  assert.equal(driver.command({ type: "slotShare", slot: SLOT, box }, 1)?.reason, "SHARE_NOT_DUE");
  assert.equal(bundleShare(b, 0), "SHARE_NOT_DUE");
  assert.equal(bundleShare(a, 0), undefined);
  assert.equal(bundleShare(a, 0), "DUPLICATE");
  assert.equal(finish(driver, "checked", auctionOf([winnerOf(a, "blind", ALICE, 500n)])), undefined);
  assert.equal(bundleShare(a, 1), "SLOT_DECIDED");
});

test("verdicts come in order, name contestants only, and reopen once", () => {
  const { driver, a, b, c } = closedAuction();
  const stranger = new Uint8Array(32).fill(9);
  assert.equal(open(driver, "checked", [a])?.reason, "FACT_UNEXPECTED");
  assert.equal(open(driver, "ranked", [stranger])?.reason, "FACT_UNEXPECTED");
  assert.equal(open(driver, "ranked", [])?.reason, "FACT_UNEXPECTED");
  assert.equal(driver.agree("ranked", SLOT, new Uint8Array(3))?.reason, "MALFORMED");
  assert.equal(finish(driver, "ranked", auctionOf([winnerOf(a, "blind", ALICE, 1n)]))?.reason, "FACT_UNEXPECTED");
  assert.equal(open(driver, "ranked", [a]), undefined);
  assert.equal(open(driver, "checked", [a])?.reason, "FACT_UNEXPECTED");
  assert.equal(finish(driver, "checked", auctionOf([winnerOf(b, "blind", BOB, 1n)]))?.reason, "FACT_UNEXPECTED");
  assert.equal(open(driver, "checked", [b]), undefined);
  assert.equal(open(driver, "rechecked", [c])?.reason, "FACT_UNEXPECTED");
  const charged = { bidId: a, account: ALICE.address, chargeWei: 700n };
  assert.equal(finish(driver, "rechecked", auctionOf([winnerOf(b, "blind", BOB, 500n)], [charged])), undefined);
  assert.equal(driver.outcome("auction", SLOT)?.kind, "result");
  const { standings, bids, phase } = driver.state.slots.get(SLOT) ?? assert.fail();
  assert.deepEqual(
    [a, b, c].map((id) => standings.get(toHex(id))?.standing),
    ["void", "won", "lost"],
  );
  assert.equal(bids.size, 0);
  assert.equal(phase, "done");
  assert.equal(finish(driver, "rechecked", auctionOf([]))?.reason, "SLOT_DECIDED");
});

test("what a blind winner and a charged void owe is not there for the next bid, until tally or the chain settles it", () => {
  const { driver, a, b } = closedAuction();
  open(driver, "ranked", [a]);
  const charged = { bidId: b, account: BOB.address, chargeWei: 9950n };
  finish(driver, "checked", auctionOf([winnerOf(a, "blind", ALICE, 9500n)], [charged]));
  const next = { context: { slot: SLOT + 1n } };
  assert.equal(refused(driver, { ...next, body: { capWei: 501n } }), "OVER_ESCROW");
  assert.equal(refused(driver, { ...next, by: BOB }), "OVER_ESCROW");
  place(driver, { ...next, body: { capWei: 500n } });
  // Tally: the block landed, Alice is charged, Bob's void is not.
  const charges = [{ bidId: a, account: ALICE.address, wei: 9500n }];
  const attribution = encode(ATTRIBUTION, {
    version: 1,
    landed: true,
    parentHash: new Uint8Array(32),
    blockHash: new Uint8Array(32),
    blockNumber: 5n,
    landedMessages: [],
    credits: [],
    charges,
    refundableWei: 0n,
    remainderWei: 0n,
  });
  driver.observe("tally", driver.foreign("tally", "attribution", SLOT, "result", attribution));
  place(driver, { ...next, by: BOB, body: { capWei: ESCROW_WEI } });
  assert.equal(refused(driver, { ...next, context: { slot: SLOT + 2n } }), "OVER_ESCROW");
  // The chain: the charge was taken, so the certified escrow is smaller by it and the debt is gone.
  assert.deepEqual(driver.state.query?.charges, []);
  driver.close("blind", SLOT + 1n);
  assert.deepEqual(driver.state.query?.charges, [a]);
  certify(driver, SLOT + 2n, (account) => (account === toHex(ALICE.address) ? 1500n : ESCROW_WEI), [a]);
  assert.equal(driver.state.debts.size, 0);
  place(driver, { context: { slot: SLOT + 2n }, body: { capWei: 1000n } });
});

test("a slot that is skipped opens nothing and releases what its bids held", () => {
  const { driver, a } = closedAuction();
  driver.skip("auction", SLOT);
  const box = new Uint8Array(100);
  assert.equal(driver.command({ type: "slotShare", slot: SLOT, box })?.reason, "SLOT_DECIDED");
  assert.equal(driver.state.slots.get(SLOT)?.standings.get(toHex(a))?.standing, "unanswered");
  place(driver, { context: { slot: SLOT + 1n }, body: { capWei: ESCROW_WEI } });
});

test("escrow counts when it answers the query: not unasked, not shorter, not for charges nobody asked about", () => {
  const { config, roster } = dealCommittee();
  const driver = new MachineDriver(config, roster);
  driver.command({ type: "register", registration: registration(config, ALICE, ALICE) });
  assert.equal(driver.agree("escrow", 2n, escrowFact([5n], []))?.reason, "FACT_UNEXPECTED");
  assert.equal(refused(driver, {}), "ESCROW_UNKNOWN");
  driver.close("blind", 1n);
  assert.equal(driver.agree("escrow", 3n, escrowFact([5n], []))?.reason, "FACT_UNEXPECTED");
  assert.equal(driver.agree("escrow", 2n, escrowFact([], []))?.reason, "FACT_UNEXPECTED");
  assert.equal(driver.agree("escrow", 2n, escrowFact([5n], [new Uint8Array(32)]))?.reason, "FACT_UNEXPECTED");
  assert.equal(driver.agree("escrow", 2n, new Uint8Array(3))?.reason, "MALFORMED");
  assert.equal(driver.agree("escrow", 2n, escrowFact([5000n], [])), undefined);
  place(driver, { body: { capWei: 5000n } });
  // A reading vouches for 32 slots, then no more: a dead chain endpoint ends bidding, not the auctions.
  driver.skip("auction", SLOT);
  driver.nowMs = slotStartMs(config, 34n);
  place(driver, { context: { slot: 34n } });
  assert.equal(refused(driver, { context: { slot: 35n } }), "ESCROW_UNKNOWN");
});

test("an account authorises its searchers by signature, up to a slot; nobody authorises himself for another's", () => {
  const driver = ready();
  const { config } = driver;
  const against = { by: BOB, body: { escrowAccount: ALICE.address } } as const;
  const forged = { ...registration(config, BOB, BOB), terms: registration(config, ALICE, BOB).terms };
  assert.equal(driver.command({ type: "register", registration: forged })?.reason, "BAD_SIGNATURE");
  assert.equal(refused(driver, against), "ACCOUNT_NOT_AUTHORISED");
  const late = registration(config, ALICE, BOB, 3n);
  assert.equal(driver.command({ type: "register", registration: late })?.reason, "REGISTRATION_EXPIRED");
  const until = registration(config, ALICE, BOB, SLOT);
  assert.equal(driver.command({ type: "register", registration: until }), undefined);
  place(driver, against);
  assert.equal(refused(driver, { ...against, context: { slot: SLOT + 1n } }), "ACCOUNT_NOT_AUTHORISED");
  const elsewhere = registration(dealCommittee().config, ALICE, BOB);
  assert.equal(driver.command({ type: "register", registration: elsewhere })?.reason, "WRONG_COMMITTEE");
});

test("tickets: the issuer's admits its subject to the end of its slot, an empty policy nobody outside throw-away lattices", () => {
  const issuer = generateSigningKey(new Uint8Array(32).fill(4));
  const deal = dealCommittee();
  const acl = [{ kind: "jwt" as const, parameters: issuer.publicKey }];
  const config = { ...deal.config, offer: { ...deal.config.offer, acl } };
  const driver = new MachineDriver(config, deal.roster);
  driver.command({ type: "register", registration: registration(config, ALICE, ALICE) });
  driver.close("blind", 1n);
  certify(driver, 2n, () => ESCROW_WEI);
  const audience = committeeId(config, "offer");
  const ticket = (subject: Uint8Array, expSlot: bigint) => signTicket(issuer, { audience, subject, expSlot });
  place(driver, { body: { tickets: [ticket(ALICE.address, SLOT)] } });
  assert.equal(refused(driver, { body: { tickets: [ticket(ALICE.address, SLOT - 1n)] } }), "TICKET_EXPIRED");
  assert.equal(refused(driver, { body: { tickets: [ticket(BOB.address, SLOT)] } }), "TICKET_REFUSED");
  assert.equal(refused(driver, {}), "TICKET_REFUSED");

  const closed = dealCommittee({}, { throwAway: false }).config;
  const nobody = new MachineDriver(closed, deal.roster);
  nobody.command({ type: "register", registration: registration(closed, ALICE, ALICE) });
  nobody.close("blind", 1n);
  certify(nobody, 2n, () => ESCROW_WEI);
  assert.equal(refused(nobody, {}), "TICKET_REFUSED");
});

test("duties: closes fall due by the clock, the seen close waits for the unsealed round, nothing after the deadline", () => {
  const driver = ready();
  const { config } = driver;
  for (const stage of ["blind", "auction"]) for (let slot = 1n; slot < SLOT; slot++) driver.skip(stage, slot);
  const keys = (nowMs: number) => driver.duties(0, nowMs).map(({ key }) => key);
  const blindAt = closeAtMs(config, "blind", SLOT);
  const seenAt = closeAtMs(config, "seen", SLOT);
  driver.state.query = undefined;
  assert.deepEqual(keys(blindAt - 1), []);
  assert.deepEqual(keys(blindAt), [`close-blind/${SLOT}/0`]);
  assert.deepEqual(keys(skipAtMs(config, "blind", SLOT) ?? 0), []);
  driver.close("blind", SLOT);
  driver.state.query = undefined;
  assert.deepEqual(keys(seenAt), []);
  unseal(driver, SLOT);
  assert.deepEqual(keys(seenAt - 1), []);
  assert.deepEqual(keys(seenAt), [`close-seen/${SLOT}/0`]);
  assert.deepEqual(keys(skipAtMs(config, "auction", SLOT) ?? 0), []);
});

test("duties after a restart share only the slot key and winners' bundle keys, never a loser's", () => {
  const { driver, a, b, c } = closedAuction();
  driver.skip("auction", 1n);
  const at = closeAtMs(driver.config, "seen", SLOT);
  const view = { floor: () => SLOT };
  const shares = () =>
    [0, 1, 2].flatMap((self) =>
      driver.duties(self, at, view).flatMap((duty) => (duty.promise ? [{ self, key: duty.key, type: duty.type }] : [])),
    );
  assert.deepEqual(new Set(shares().map(({ key }) => key)), new Set([`slot-share/${SLOT}/0`]));
  open(driver, "ranked", [b]);
  assert.deepEqual(new Set(shares().map(({ key }) => key)), new Set([`bundle-share/${SLOT}/${toHex(b)}`]));
  driver.command({ type: "bundleShare", slot: SLOT, bidId: b, box: new Uint8Array(9) }, 1);
  assert.deepEqual(
    shares().map(({ self }) => self),
    [0, 2],
  );
  finish(driver, "checked", auctionOf([winnerOf(b, "blind", BOB, 500n)]));
  assert.deepEqual(shares(), []);
  for (const id of [a, c]) assert.ok(!shares().some(({ key }) => key.includes(toHex(id))));
});

test("collapse forgets slots below, and hasInput knows every bid that landed until then", () => {
  const { driver, a } = closedAuction();
  driver.skip("auction", SLOT);
  assert.equal(driver.machine.hasInput(driver.state, "blind", SLOT, a), true);
  assert.equal(driver.machine.hasInput(driver.state, "blind", SLOT, new Uint8Array(32)), false);
  driver.machine.collapse(driver.state, SLOT + 1n);
  assert.equal(driver.state.slots.has(SLOT), false);
  assert.equal(driver.machine.hasInput(driver.state, "blind", SLOT, a), false);
});
