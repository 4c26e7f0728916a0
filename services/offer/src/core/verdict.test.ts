import assert from "node:assert/strict";
import { test } from "node:test";
import { compareBytes, decode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import type { BidClass } from "@lattice/organism/outcomes/offer.ts";
import fc from "fast-check";
import { type AuctionRules, tieBreaker, type ValidBid } from "./auction.ts";
import { VERDICT } from "./codec.ts";
import type { Judged } from "./judgement.ts";
import { encodeVerdict, type Opened, type Proposal, propose } from "./verdict.ts";

const RULES: AuctionRules = { rule: "second-price", reserveWei: 10n, winnersMax: { blind: 1, seen: 2, tail: 1 } };

function bidOf(seed: number, bidClass: BidClass, amountWei: bigint): ValidBid {
  const bidId = blake3(Uint8Array.of(seed, bidClass.charCodeAt(0)));
  return {
    bidId,
    paymentId: bidId,
    class: bidClass,
    searcher: bidId.slice(0, 20),
    escrowAccount: bidId.slice(0, 20),
    amountWei,
    references: bidClass === "seen" ? [new Uint8Array(16).fill(seed % 3)] : [],
    bundleCommitment: blake3(bidId),
    tie: tieBreaker(new Uint8Array(96), bidId),
  };
}

/** Plays an auction to its end, as the committee does, with `bad` bundles among those that are opened. */
function play(valid: readonly ValidBid[], bad: ReadonlySet<string>, rules = RULES) {
  const bundles = new Map<string, Judged<Uint8Array>>();
  const rounds: Proposal[] = [];
  for (let round = 0; round < 3; round++) {
    const opened: Opened = { rules, blind: undefined, valid, voids: [], bundles, reopened: round === 2 };
    const proposal = propose(opened);
    rounds.push(proposal);
    if (proposal.type === "final") return { rounds, final: proposal, opened: bundles };
    for (const id of proposal.bidIds) {
      const key = toHex(id);
      assert.ok(!bundles.has(key), "a bundle is opened once");
      const bid = valid.find((each) => equalBytes(each.bidId, id)) ?? assert.fail();
      const charge = {
        bidId: id,
        account: bid.escrowAccount,
        chargeWei: bid.amountWei,
        reason: "bundle-malformed",
      } as const;
      bundles.set(key, bad.has(key) ? { void: charge } : { valid: blake3(id) });
    }
  }
  return assert.fail("the third round is final");
}

test("without a bad bundle exactly the winners are opened, in one round", () => {
  const valid = [bidOf(1, "blind", 50n), bidOf(2, "blind", 40n), bidOf(3, "seen", 30n), bidOf(4, "tail", 20n)];
  const { rounds, final, opened } = play(valid, new Set());
  assert.equal(rounds.length, 2);
  assert.deepEqual(new Set(opened.keys()), new Set(final.auction.winners.map(({ bidId }) => toHex(bidId))));
  assert.deepEqual(
    final.body.map(({ bidId }) => bidId),
    final.auction.winners.map(({ bidId }) => bidId),
  );
});

test("a void winner is replaced by the next best and sets no price; a second void is not replaced", () => {
  const [a, b, c] = [bidOf(1, "blind", 50n), bidOf(2, "blind", 40n), bidOf(3, "blind", 30n)];
  const once = play([a, b, c], new Set([toHex(a.bidId)]));
  assert.deepEqual(
    once.final.auction.winners.map(({ bidId, clearingWei }) => [toHex(bidId), clearingWei]),
    [[toHex(b.bidId), 30n]],
  );
  assert.deepEqual([...once.opened.keys()].sort(), [a, b].map(({ bidId }) => toHex(bidId)).sort());
  const twice = play([a, b, c], new Set([toHex(a.bidId), toHex(b.bidId)]));
  assert.deepEqual(twice.final.auction.winners, []);
  assert.equal(twice.final.auction.voids.length, 2);
  assert.ok(!twice.opened.has(toHex(c.bidId)));
});

test("whatever is bad: no loser is opened but in the one reopening, no void bid wins or sets a price, prices hold", () => {
  const bids = fc.uniqueArray(
    fc.record({
      seed: fc.integer({ min: 0, max: 255 }),
      class: fc.constantFrom<BidClass>("blind", "seen", "tail"),
      amount: fc.bigInt({ min: 10n, max: 40n }),
      bad: fc.boolean(),
    }),
    { selector: (bid) => `${bid.seed}/${bid.class}`, maxLength: 16 },
  );
  fc.assert(
    fc.property(bids, (all) => {
      const valid = all.map((bid) => bidOf(bid.seed, bid.class, bid.amount));
      const bad = new Set(valid.filter((_, index) => all[index]?.bad === true).map(({ bidId }) => toHex(bidId)));
      const { final, opened, rounds } = play(valid, bad);
      assert.ok(rounds.length <= 3);
      const voids = new Set(final.auction.voids.map(({ bidId }) => toHex(bidId)));
      for (const id of voids) assert.ok(bad.has(id) && opened.has(id));
      for (const { bidId, class: bidClass, amountWei, clearingWei } of final.auction.winners) {
        assert.ok(opened.has(toHex(bidId)) && !bad.has(toHex(bidId)));
        assert.ok(clearingWei >= RULES.reserveWei && clearingWei <= amountWei);
        const setter = valid.some(
          (bid) => bid.class === bidClass && bid.amountWei === clearingWei && !voids.has(toHex(bid.bidId)),
        );
        assert.ok(setter || clearingWei === RULES.reserveWei);
      }
      // What was opened either won, is void, or was pushed out by nobody: winners are never withdrawn.
      for (const id of opened.keys()) {
        assert.ok(voids.has(id) || final.auction.winners.some(({ bidId }) => toHex(bidId) === id));
      }
    }),
  );
});

test("a verdict reads back, and names what to open in ascending order", () => {
  const valid = [bidOf(1, "seen", 50n), bidOf(2, "seen", 40n)];
  const first = propose({ rules: RULES, blind: undefined, valid, voids: [], bundles: new Map(), reopened: false });
  assert.ok(first.type === "open");
  assert.deepEqual([...first.bidIds].sort(compareBytes), first.bidIds);
  assert.deepEqual(decode(VERDICT, encodeVerdict(first)), first);
});
