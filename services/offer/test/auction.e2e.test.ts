/** Whole auctions by three real members, t = 2, with real sealing, real certificates and real gRPC. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, outcomeDigest, verifyCertificate } from "@lattice/organism/committee/outcome.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import { Fault } from "@lattice/organism/fault.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { fromWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import {
  AUCTION,
  AUCTION_BODY,
  type BidClass,
  BLIND_CLOSED,
  BUNDLE,
  type Bundle,
} from "@lattice/organism/outcomes/offer.ts";
import type { Client } from "@lattice/organism/rpc/client.ts";
import { BidStatus } from "@lattice/proto/lattice/offer/v1/bid_pb.ts";
import type { OfferService } from "@lattice/proto/lattice/offer/v1/offer_service_pb.ts";
import { type BidOptions, sealBid } from "../src/client/bid.ts";
import { cancelBytes, registrationBytes, signStatusRequest } from "../src/client/requests.ts";
import { sealingKeyOf } from "../src/client/sealing-key.ts";
import { bidId, encodeBid, encodeBidBody, parseBid } from "../src/core/bid.ts";
import { closeAtMs } from "../src/core/duties.ts";
import { dealCommittee, random, type Searcher, searcher } from "./fixture.ts";
import { sealForged } from "./forge.ts";
import { OfferLattice } from "./lattice.ts";

const ALICE = searcher(1);
const BOB = searcher(2);
const CAROL = searcher(3);
const MESSAGE = new Uint8Array(16).fill(7);
const CANARY = "the losing bundle's secret plan";

/** Long slots, so that the slowest machine is in time; the tests move the clock. */
const SLOW = { blindCloseMs: 30_000, seenCloseMs: 15_000, patienceMs: 12_000 };

describe("auctions of a committee of three", () => {
  let directory: string;
  let lattice: OfferLattice;
  let clients: Client<typeof OfferService>[] = [];
  let nonce = 0n;

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-offer-"));
    const committee = dealCommittee({ ...SLOW, rule: "second-price", bidsPerSearcherMax: 4 }, { slotMs: 60_000 });
    lattice = new OfferLattice(committee, directory);
    for (const { address } of [ALICE, BOB, CAROL]) lattice.chain.escrow.set(toHex(address), 1_000_000n);
    await lattice.start();
    clients = await Promise.all([0, 1, 2].map((index) => lattice.client(index)));
  });
  after(async () => {
    await lattice.stop();
    await rm(directory, { recursive: true, force: true });
  });

  const client = (index: number) => clients[index] ?? assert.fail();
  const bundleOf = (raw: string, references: readonly Uint8Array[] = []): Bundle => ({
    version: 1,
    items: [
      ...references.map((messageId) => ({ type: "reference" as const, messageId })),
      { type: "transaction" as const, raw: new TextEncoder().encode(raw) },
    ],
    mayRevert: [],
    refundRecipient: undefined,
  });

  async function bidOptions(by: Searcher, slot: bigint, bidClass: BidClass, amountWei: bigint): Promise<BidOptions> {
    const { roster } = await client(0).getSealingKey({ slot });
    const certified = roster === undefined ? undefined : fromWireOutcome(roster);
    const key = sealingKeyOf(lattice.committee.config, certified ?? assert.fail(), slot);
    assert.ok("key" in key);
    nonce += 1n;
    const references = bidClass === "seen" ? [MESSAGE] : [];
    return {
      config: lattice.committee.config,
      sealingKey: key.key,
      epoch: key.epoch,
      slot,
      class: bidClass,
      searcherKey: by.key,
      nonce,
      escrowAccount: by.address,
      capWei: 10_000n,
      amountWei,
      references,
      bundle: bundleOf(`${bidClass} of ${toHex(by.address)} for ${amountWei}`, references),
      random,
    };
  }

  async function bid(
    by: Searcher,
    slot: bigint,
    bidClass: BidClass,
    amountWei: bigint,
    over: Partial<BidOptions> = {},
  ) {
    const sealed = sealBid({ ...(await bidOptions(by, slot, bidClass, amountWei)), ...over });
    const answer = await client(Number(nonce % 3n)).submitBid({ bid: sealed.bid });
    assert.deepEqual(answer.bidId, sealed.bidId);
    return sealed.bidId;
  }

  /** Re-signs a bid with another bundle layer or value layer. */
  async function submitForged(by: Searcher, sealed: Uint8Array, change: Partial<ReturnType<typeof bodyOf>>) {
    const body = encodeBidBody({ ...bodyOf(sealed), ...change });
    const id = bidId(body);
    await client(0).submitBid({ bid: encodeBid(body, signDigest(by.key, id)) });
    return id;
  }
  const bodyOf = (sealed: Uint8Array) => (parseBid(sealed) ?? assert.fail()).body;

  async function closeBlind(slot: bigint): Promise<CertifiedOutcome> {
    lattice.clock.moveTo(closeAtMs(lattice.committee.config, "blind", slot));
    return await lattice.outcome("blind", slot);
  }
  async function unseal(slot: bigint, blind: CertifiedOutcome | undefined, messages: readonly Uint8Array[]) {
    lattice.unsealRound(slot, blind?.outcome, messages);
    for (const index of [0, 1, 2]) {
      while (lattice.member(index).host.observed("unseal", "unsealed", slot) === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }
  async function closeSeen(slot: bigint): Promise<CertifiedOutcome> {
    lattice.clock.moveTo(closeAtMs(lattice.committee.config, "seen", slot));
    const all = await Promise.all([0, 1, 2].map((index) => lattice.outcome("auction", slot, index)));
    const [first] = all;
    assert.ok(first !== undefined);
    for (const each of all) assert.deepEqual(outcomeDigest(each.outcome), outcomeDigest(first.outcome));
    assert.ok(verifyCertificate(lattice.committee.config.offer.policy.certificateKey, first.outcome, first.signature));
    return first;
  }
  const auctionOf = ({ outcome }: CertifiedOutcome) => decode(AUCTION, outcome.commitment);

  async function bodyOfAuction({ outcome }: CertifiedOutcome) {
    const { bodies } = lattice.member(0).host;
    // A member may certify what the two others opened before it has opened it itself.
    let body = await bodies.get(outcome.bodyHash ?? assert.fail());
    while (body === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      body = await bodies.get(outcome.bodyHash ?? assert.fail());
    }
    assert.deepEqual(blake3(body), outcome.bodyHash);
    return decode(AUCTION_BODY, body).map(({ bidId, bundle }) => ({ bidId, bundle: decode(BUNDLE, bundle) }));
  }

  const reasonOf = async (call: Promise<unknown>): Promise<string> => {
    try {
      await call;
    } catch (error) {
      if (error instanceof Fault) return error.reason;
      throw error;
    }
    return "accepted";
  };

  test("slot 1 has no bids: BlindClosed and the auction are Empty, certified; then escrow is certified", async () => {
    assert.equal(await reasonOf(bid(ALICE, 2n, "blind", 500n)), "ACCOUNT_NOT_AUTHORISED");
    for (const each of [ALICE, BOB, CAROL]) {
      const registration = registrationBytes({
        config: lattice.committee.config,
        account: each.address,
        searcher: each.address,
        untilSlot: 1000n,
        accountKey: each.key,
      });
      assert.equal((await client(0).registerSearcher({ registration })).certifiedSlot, 0n);
    }
    assert.equal(await reasonOf(bid(ALICE, 2n, "blind", 500n)), "ESCROW_UNKNOWN");
    const blind = await closeBlind(1n);
    assert.equal(blind.outcome.kind, "empty");
    await unseal(1n, blind, []);
    const auction = await closeSeen(1n);
    assert.equal(auction.outcome.kind, "empty");
    assert.equal(auction.outcome.bodyHash, undefined);
    for (const index of [0, 1, 2]) await lattice.until((state) => state.escrowSlot === 2n, index);
  });

  test("slot 2: blind, seen and tail winners, second price, losers sealed for ever, statuses after the slot", async () => {
    const slot = 2n;
    const high = await bid(ALICE, slot, "blind", 900n);
    const low = await bid(BOB, slot, "blind", 700n, { bundle: bundleOf(CANARY) });
    const blind = await closeBlind(slot);
    const closed = decode(BLIND_CLOSED, blind.outcome.commitment);
    assert.deepEqual(closed.bidIds.map(toHex), [high, low].map(toHex).sort());
    assert.equal(await reasonOf(bid(CAROL, slot, "blind", 999n)), "CLASS_CLOSED");
    assert.equal(await reasonOf(bid(CAROL, slot + 1n, "seen", 800n)), "CLASS_NOT_OPEN");
    // A seen bid that is a moment ahead of the round waits at the door.
    const early = bid(ALICE, slot, "seen", 600n);
    await unseal(slot, blind, [MESSAGE]);
    const first = await early;
    const second = await bid(BOB, slot, "seen", 500n);
    const third = await bid(CAROL, slot, "seen", 400n, { bundle: bundleOf(CANARY, [MESSAGE]) });
    const cancelled = await bid(CAROL, slot, "seen", 5000n);
    const tail = await bid(CAROL, slot, "tail", 300n);
    const cancel = cancelBytes({
      config: lattice.committee.config,
      slot,
      bidId: cancelled,
      searcherKey: CAROL.key,
    });
    await client(1).cancelBid({ cancel });
    const outcome = await closeSeen(slot);
    const auction = auctionOf(outcome);
    assert.deepEqual(
      auction.winners.map(({ bidId, class: bidClass, amountWei, clearingWei }) => ({
        bidId: toHex(bidId),
        bidClass,
        amountWei,
        clearingWei,
      })),
      [
        { bidId: toHex(high), bidClass: "blind", amountWei: 900n, clearingWei: 700n },
        { bidId: toHex(first), bidClass: "seen", amountWei: 600n, clearingWei: 400n },
        { bidId: toHex(second), bidClass: "seen", amountWei: 500n, clearingWei: 400n },
        { bidId: toHex(tail), bidClass: "tail", amountWei: 300n, clearingWei: 100n },
      ],
    );
    assert.deepEqual(auction.blind, outcomeDigest(blind.outcome));
    assert.deepEqual([auction.blindBids, auction.seenBids, auction.voids.length], [2, 3, 0]);
    assert.deepEqual(auction.rivals, [{ messageId: MESSAGE, highestOtherWei: 0n }]);
    const body = await bodyOfAuction(outcome);
    assert.deepEqual(
      body.map(({ bidId }) => toHex(bidId)),
      [high, first, second, tail].map(toHex),
    );
    assert.deepEqual(body[0]?.bundle, bundleOf(`blind of ${toHex(ALICE.address)} for 900`));

    // Losing bundles: no member ever promised a share of their keys, and their content is nowhere.
    for (const member of lattice.members) {
      const { journal, bodies } = member.host;
      assert.ok(journal.promised(`bundle-share/${slot}/${toHex(high)}`) !== undefined);
      for (const loser of [low, third, cancelled]) {
        assert.equal(journal.promised(`bundle-share/${slot}/${toHex(loser)}`), undefined);
      }
      const kept = await bodies.get(outcome.outcome.bodyHash ?? assert.fail());
      assert.ok(!Buffer.from(kept ?? []).includes(CANARY));
      assert.ok(!Buffer.from(member.committee.snapshot()).includes(CANARY));
    }
    assert.ok(!lattice.lines.all.some((line) => line.includes(CANARY)));

    const status = (id: Uint8Array, by: Searcher) =>
      client(2).getBidStatus({
        slot,
        bidId: id,
        signature: signStatusRequest({ config: lattice.committee.config, slot, bidId: id, searcherKey: by.key }),
      });
    assert.equal(await reasonOf(status(high, ALICE)), "STATUS_NOT_YET");
    lattice.clock.moveTo(slotStartMs(lattice.committee.config, slot + 2n));
    assert.equal((await status(high, ALICE)).status, BidStatus.WON);
    assert.equal((await status(low, BOB)).status, BidStatus.LOST);
    assert.equal((await status(cancelled, CAROL)).status, BidStatus.WITHDRAWN);
    assert.equal(await reasonOf(status(low, ALICE)), "BID_UNKNOWN");
    assert.equal(await reasonOf(status(new Uint8Array(32), ALICE)), "BID_UNKNOWN");
  });

  test("slot 5: void bids lose, are charged by the rule and set no price; a winner that cheats is replaced once", async () => {
    const slot = 5n;
    const sound = await bid(ALICE, slot, "blind", 500n);
    const lower = await bid(ALICE, slot, "blind", 400n);
    // Promises one bundle and seals another: wins, is opened, is void.
    const options = await bidOptions(BOB, slot, "blind", 900n);
    const promised = sealBid(options);
    const other = sealBid({ ...options, bundle: bundleOf("another bundle") });
    const otherLayer = bodyOf(other.bid).bundleLayer;
    const swapped = await submitForged(BOB, promised.bid, { bundleLayer: otherLayer });
    // A value layer copied from a rival opens to nothing under another searcher.
    const rival = sealBid(await bidOptions(ALICE, slot, "blind", 950n));
    const mine = sealBid(await bidOptions(CAROL, slot, "blind", 100n));
    const { valueLayer, bundleLayer } = bodyOf(rival.bid);
    const copied = await submitForged(CAROL, mine.bid, { valueLayer, bundleLayer });
    const aboveCap = await submitForged(CAROL, sealBid(await bidOptions(CAROL, slot, "blind", 800n)).bid, {
      capWei: 799n,
    });
    const blind = await closeBlind(slot);
    await unseal(slot, blind, []);
    const outcome = await closeSeen(slot);
    const auction = auctionOf(outcome);
    assert.deepEqual(
      auction.winners.map(({ bidId, clearingWei }) => [toHex(bidId), clearingWei]),
      [[toHex(sound), 400n]],
    );
    const voids = new Map(auction.voids.map((each) => [toHex(each.bidId), each]));
    assert.equal(voids.size, 3);
    // Its value layer names another bundle ciphertext, so it does not even open.
    assert.deepEqual(pick(voids.get(toHex(swapped))), ["value-malformed", 10_000n]);
    assert.deepEqual(pick(voids.get(toHex(copied))), ["value-malformed", 10_000n]);
    assert.deepEqual(pick(voids.get(toHex(aboveCap))), ["above-cap", 0n]);
    assert.equal(auction.blindBids, 2);
    for (const member of lattice.members) {
      assert.equal(member.host.journal.promised(`bundle-share/${slot}/${toHex(lower)}`), undefined);
    }
    await lattice.until((state) => state.debts.size > 0);
    assert.ok(encode(AUCTION, auction).length > 0);
  });

  const pick = (each: { readonly reason: string; readonly chargeWei: bigint } | undefined) => [
    each?.reason,
    each?.chargeWei,
  ];

  test("slot 6: a winner whose bundle breaks the dialect is void and charged; the next best is opened, nobody else", async () => {
    const slot = 6n;
    // Declares a reference that its bundle does not use: the client refuses, a forger does not.
    const best = await bidOptions(ALICE, slot, "seen", 900n);
    assert.throws(() => sealBid({ ...best, bundle: bundleOf("no reference") }), /reference/);
    const blind = await closeBlind(slot);
    await unseal(slot, blind, [MESSAGE]);
    const cheat = sealForged({ ...best, bundle: bundleOf("no reference") });
    await client(0).submitBid({ bid: cheat.bid });
    const mismatch = sealForged({
      ...(await bidOptions(CAROL, slot, "seen", 850n)),
      committed: encode(BUNDLE, bundleOf("committed", [MESSAGE])),
    });
    await client(1).submitBid({ bid: mismatch.bid });
    const b = await bid(BOB, slot, "seen", 800n);
    const c = await bid(CAROL, slot, "seen", 700n);
    const d = await bid(BOB, slot, "seen", 600n);
    const outcome = await closeSeen(slot);
    const auction = auctionOf(outcome);
    assert.deepEqual(
      auction.winners.map(({ bidId, clearingWei }) => [toHex(bidId), clearingWei]),
      [
        [toHex(b), 600n],
        [toHex(c), 600n],
      ],
    );
    assert.deepEqual(
      new Set(auction.voids.map((each) => `${toHex(each.bidId)} ${each.reason} ${each.chargeWei}`)),
      new Set([`${toHex(cheat.bidId)} bundle-malformed 900`, `${toHex(mismatch.bidId)} commitment-mismatch 850`]),
    );
    for (const member of lattice.members) {
      const { journal } = member.host;
      for (const id of [cheat.bidId, mismatch.bidId, b, c]) {
        assert.ok(journal.promised(`bundle-share/${slot}/${toHex(id)}`) !== undefined);
      }
      assert.equal(journal.promised(`bundle-share/${slot}/${toHex(d)}`), undefined);
    }
  });

  test("slot 7: two of three members carry an auction, and one restarted in its middle shares nothing new", async () => {
    const slot = 7n;
    const winner = await bid(ALICE, slot, "blind", 900n);
    const loser = await bid(BOB, slot, "blind", 800n);
    const blind = await closeBlind(slot);
    await unseal(slot, blind, []);
    await lattice.member(2).stop(100);
    lattice.clock.moveTo(closeAtMs(lattice.committee.config, "seen", slot));
    const outcome = await lattice.outcome("auction", slot, 0);
    assert.deepEqual(
      auctionOf(outcome).winners.map(({ bidId }) => toHex(bidId)),
      [toHex(winner)],
    );
    const again = await lattice.startMember(2, true);
    await lattice.outcome("auction", slot, 2);
    await lattice.until(() => again.committee.position === lattice.member(0).committee.position);
    assert.deepEqual(again.host.state().slots.get(slot), lattice.member(0).host.state().slots.get(slot));
    for (const member of lattice.members) {
      assert.equal(member.host.journal.promised(`bundle-share/${slot}/${toHex(loser)}`), undefined);
    }
    assert.equal(again.host.journal.promised(`bundle-share/${slot}/${toHex(winner)}`), undefined);
  });

  test("slot 8: a dead chain endpoint stalls nothing; bids over what was certified are refused", async () => {
    const slot = 8n;
    lattice.chain.down = true;
    clients[2] = await lattice.client(2);
    assert.equal(await reasonOf(bid(CAROL, slot, "blind", 500n, { capWei: 2_000_000n })), "OVER_ESCROW");
    const id = await bid(CAROL, slot, "blind", 500n);
    const blind = await closeBlind(slot);
    await unseal(slot, blind, []);
    const outcome = await closeSeen(slot);
    assert.deepEqual(
      auctionOf(outcome).winners.map(({ bidId }) => toHex(bidId)),
      [toHex(id)],
    );
    assert.ok(lattice.lines.all.some((line) => line.startsWith("escrow cannot be read")));
  });

  test("bad input at the door: sizes, bytes, ids and slots are refused with a reason, and nothing is applied", async () => {
    const reason = async (call: Promise<unknown>) => await reasonOf(call);
    const door = client(0);
    assert.equal(await reason(door.submitBid({ bid: new Uint8Array(100_000) })), "TOO_LARGE");
    assert.equal(await reason(door.submitBid({ bid: new Uint8Array(1000) })), "BID_MALFORMED");
    assert.equal(await reason(door.submitBid({})), "BID_MALFORMED");
    assert.equal(await reason(door.cancelBid({ cancel: new Uint8Array(10) })), "MALFORMED");
    assert.equal(await reason(door.registerSearcher({ registration: new Uint8Array(10) })), "MALFORMED");
    assert.equal(await reason(door.getSealingKey({ slot: 1_000_001n })), "NO_SEALING_KEY");
    const signature = new Uint8Array(65);
    assert.equal(await reason(door.getBidStatus({ slot: 2n, bidId: new Uint8Array(31), signature })), "MALFORMED");
    assert.equal(await reason(door.getBidStatus({ slot: 2n, bidId: new Uint8Array(32), signature })), "BID_UNKNOWN");
    const cancel = cancelBytes({
      config: lattice.committee.config,
      slot: 9n,
      bidId: new Uint8Array(32),
      searcherKey: ALICE.key,
    });
    assert.equal(await reason(door.cancelBid({ cancel })), "BID_UNKNOWN");
    const high = await bidOptions(ALICE, 9n, "blind", 500n);
    const genuine = sealBid(high);
    const other = sealBid({ ...high, searcherKey: BOB.key, escrowAccount: BOB.address });
    const grafted = encodeBid(encodeBidBody(bodyOf(other.bid)), (parseBid(genuine.bid) ?? assert.fail()).signature);
    assert.equal(await reason(door.submitBid({ bid: grafted })), "BAD_SIGNATURE");
    assert.equal(lattice.member(0).host.state().slots.get(9n), undefined);
  });

  test("a stream from slot 1 repeats every auction in order, with heartbeats", async () => {
    const slots: bigint[] = [];
    let heartbeats = 0;
    const stream = client(0).watchAuctions({ fromSlot: 1n }, { signal: AbortSignal.timeout(120_000) });
    for await (const { event } of stream) {
      if (event.case === "heartbeatSlot") heartbeats++;
      if (event.case === "outcome") slots.push(event.value.slot);
      if (slots.length === 8) break;
    }
    assert.deepEqual(slots, [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n]);
    assert.ok(heartbeats >= 1);
  });
});
