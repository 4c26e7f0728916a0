import assert from "node:assert/strict";
import { before, test } from "node:test";
import { parseBid } from "@lattice/offer/core/bid.ts";
import { FAULTS as OFFER_FAULTS } from "@lattice/offer/core/faults.ts";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { COMMON_FAULTS, Fault, faultsOf } from "@lattice/organism/fault.ts";
import { committeeId, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { lastingRosters } from "@lattice/organism/node/roster-book.ts";
import { defineService } from "@lattice/organism/rpc/define.ts";
import { startServer } from "@lattice/organism/rpc/server.ts";
import { OfferService } from "@lattice/proto/lattice/offer/v1/offer_service_pb.ts";
import fc from "fast-check";
import { dealtLattice, LogBook, RECIPIENT } from "../test/fixture.ts";
import { Bidder, type BidRequest, MARGIN_MS } from "./bids.ts";

const { config, rosters } = dealtLattice();
const KEY = new Uint8Array(32).fill(7);
const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };
const none = { zipnet: [], unseal: [], offer: [], atelier: [], relay: [], tally: [] };
const ITEMS = [{ type: "transaction", raw: fromHex(RECIPIENT) }] as const;

before(() => initCrypto());

function bidderAt(nowMs: () => number, offer: readonly string[] = []): Bidder {
  return new Bidder({
    config,
    rosters: lastingRosters(rosters),
    endpoints: () => ({ ...none, offer }),
    clock: { nowMs },
    searcherKey: KEY,
    tickets: () => [],
  });
}

test("the open slot is the first whose class closes late enough for a bid to arrive", () => {
  const { blindCloseMs, seenCloseMs } = config.offer.content;
  fc.assert(
    fc.property(fc.nat({ max: 1_000_000 }), fc.constantFrom("blind", "seen", "tail"), (offsetMs, bidClass) => {
      const nowMs = config.genesisMs + offsetMs;
      const closesMs = bidClass === "blind" ? blindCloseMs : seenCloseMs;
      const inTime = (slot: bigint): boolean => slotStartMs(config, slot) - closesMs - MARGIN_MS > nowMs;
      const slot = bidderAt(() => nowMs).openSlot(bidClass);
      assert.ok(inTime(slot));
      assert.ok(!inTime(slot - 1n) || slotStartMs(config, slot - 1n) <= nowMs);
    }),
  );
  const closes = slotStartMs(config, 10n) - blindCloseMs - MARGIN_MS;
  assert.equal(bidderAt(() => closes - 1).openSlot("blind"), 10n);
  assert.equal(bidderAt(() => closes).openSlot("blind"), 11n);
  assert.equal(bidderAt(() => closes).openSlot("seen"), 10n);
});

test("reservations differ, are remembered, and the oldest is forgotten first", () => {
  const bidder = bidderAt(() => config.genesisMs);
  const first = bidder.reserve("blind", 9n);
  const second = bidder.reserve("blind", 9n);
  assert.notDeepEqual(first.paymentId, second.paymentId);
  assert.deepEqual(bidder.reservationOf(first.paymentId), first);
  for (let more = 0; more < 1023; more++) bidder.reserve("seen", 9n);
  assert.equal(bidder.reservationOf(first.paymentId), undefined);
  assert.deepEqual(bidder.reservationOf(second.paymentId), second);
});

test("it registers once, again when the committee has forgotten, and tries the next member when one is away", async () => {
  const offerFault = faultsOf("offer", OFFER_FAULTS);
  const calls: string[] = [];
  let forgotten = false;
  const bids: Uint8Array[] = [];
  const refuse = async (): Promise<never> => {
    throw new Fault("offer.lattice", "OUTCOME_UNKNOWN", COMMON_FAULTS.OUTCOME_UNKNOWN);
  };
  const server = await startServer({
    address: "127.0.0.1:0",
    services: [
      defineService(OfferService, {
        getSealingKey: refuse,
        getBidStatus: refuse,
        cancelBid: refuse,
        async *watchAuctions() {},
        async *watchBlindClosed() {},
        async registerSearcher() {
          calls.push("register");
          forgotten = false;
          return {};
        },
        async submitBid({ bid }) {
          calls.push("submit");
          if (forgotten) throw offerFault("ACCOUNT_NOT_AUTHORISED");
          bids.push(bid.slice());
          return {};
        },
      }),
    ],
    committee: committeeId(config, "offer"),
    domain: "offer",
    log: new LogBook(),
    meters: NO_METERS,
  });
  const bidder = bidderAt(() => config.genesisMs, ["127.0.0.1:1", `127.0.0.1:${server.port}`]);
  const request: BidRequest = {
    slot: undefined,
    class: "blind",
    amountWei: 1000n,
    capWei: undefined,
    items: [...ITEMS],
  };
  const { slot, bidId } = await bidder.bid(request);
  assert.equal(slot, bidder.openSlot("blind"));
  assert.deepEqual(calls, ["register", "submit"]);
  assert.ok(parseBid(bids[0] ?? new Uint8Array()) !== undefined, "what is sent is a bid");
  assert.equal(bidId.length, 32);
  forgotten = true;
  await bidder.bid(request);
  assert.deepEqual(calls.slice(2), ["submit", "register", "submit"]);
  await assert.rejects(bidder.bid({ ...request, items: [] }), { reason: "BAD_BID" });
  await assert.rejects(bidder.bid({ ...request, capWei: 999n }), { reason: "BAD_BID" });
  assert.equal(calls.length, 5, "what cannot win is not sent");
  bidder.close();
  server.close();
});

test("nobody to ask is a typed answer", async () => {
  await assert.rejects(bidderAt(() => config.genesisMs).register(), { reason: "UPSTREAM_UNREACHABLE" });
});
