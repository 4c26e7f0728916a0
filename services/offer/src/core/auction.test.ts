import assert from "node:assert/strict";
import { test } from "node:test";
import { compareBytes, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import type { BidClass } from "@lattice/organism/outcomes/offer.ts";
import fc from "fast-check";
import { type AuctionRules, rank, tieBreaker, type ValidBid } from "./auction.ts";

const SLOT_KEY = new Uint8Array(96).fill(7);

function bidOf(seed: number, bidClass: BidClass, amountWei: bigint, references: readonly number[] = []): ValidBid {
  const bidId = blake3(Uint8Array.of(seed >> 8, seed & 0xff, bidClass.charCodeAt(0)));
  return {
    bidId,
    paymentId: blake3(bidId.slice(1)),
    class: bidClass,
    searcher: bidId.slice(0, 20),
    escrowAccount: bidId.slice(0, 20),
    amountWei,
    references: references.map((each) => new Uint8Array(16).fill(each)),
    bundleCommitment: blake3(bidId),
    tie: tieBreaker(SLOT_KEY, bidId),
  };
}

const rules = (rule: AuctionRules["rule"], reserveWei = 10n, blind = 2, seen = 2): AuctionRules => ({
  rule,
  reserveWei,
  winnersMax: { blind, seen, tail: 1 },
});

const bids = fc.uniqueArray(
  fc.record({
    seed: fc.integer({ min: 0, max: 65_535 }),
    class: fc.constantFrom<BidClass>("blind", "seen", "tail"),
    amount: fc.bigInt({ min: 10n, max: 40n }),
    references: fc.uniqueArray(fc.integer({ min: 1, max: 5 }), { maxLength: 3 }),
  }),
  { selector: (bid) => `${bid.seed}/${bid.class}`, maxLength: 24 },
);
const made = bids.map((all) =>
  all.map((bid) => bidOf(bid.seed, bid.class, bid.amount, bid.class === "seen" ? bid.references : [])),
);
const anyRules = fc
  .record({
    rule: fc.constantFrom<AuctionRules["rule"]>("first-price", "second-price"),
    reserve: fc.bigInt({ min: 0n, max: 10n }),
    blind: fc.integer({ min: 0, max: 4 }),
    seen: fc.integer({ min: 0, max: 4 }),
  })
  .map((each) => rules(each.rule, each.reserve, each.blind, each.seen));

test("the ranking does not depend on the order in which bids are given", () => {
  fc.assert(
    fc.property(made, anyRules, (all, some) => {
      assert.deepEqual(rank(all.toReversed(), some), rank(all, some));
      const shuffled = [...all].sort((a, b) => compareBytes(a.bundleCommitment, b.bundleCommitment));
      assert.deepEqual(rank(shuffled, some), rank(all, some));
    }),
  );
});

test("nobody who lost bid more than a winner of the class, and no class has more winners than it may", () => {
  fc.assert(
    fc.property(made, anyRules, (all, some) => {
      const { winners } = rank(all, some);
      for (const bidClass of ["blind", "seen", "tail"] as const) {
        const won = winners.filter((winner) => winner.class === bidClass);
        const lost = all.filter((bid) => bid.class === bidClass && !won.some((w) => equalBytes(w.bidId, bid.bidId)));
        assert.ok(won.length <= some.winnersMax[bidClass]);
        assert.ok(lost.length === 0 || won.length === some.winnersMax[bidClass]);
        for (const winner of won) for (const bid of lost) assert.ok(winner.amountWei >= bid.amountWei);
      }
    }),
  );
});

test("a winner pays between the reserve and its own amount; first-price is the amount", () => {
  fc.assert(
    fc.property(made, anyRules, (all, some) => {
      for (const winner of rank(all, some).winners) {
        assert.ok(winner.clearingWei >= some.reserveWei && winner.clearingWei <= winner.amountWei);
        if (some.rule === "first-price") assert.equal(winner.clearingWei, winner.amountWei);
      }
    }),
  );
});

test("under second-price, bidding higher changes neither whether the others' price binds nor what the winner pays", () => {
  fc.assert(
    fc.property(made, (all) => {
      const some = rules("second-price", 10n);
      const { winners } = rank(all, some);
      for (const winner of winners) {
        const raised = all.map((bid) =>
          equalBytes(bid.bidId, winner.bidId) ? { ...bid, amountWei: bid.amountWei + 100n } : bid,
        );
        const again = rank(raised, some).winners.find((each) => equalBytes(each.bidId, winner.bidId));
        assert.equal(again?.clearingWei, winner.clearingWei);
      }
    }),
  );
});

test("second price is the highest losing amount of the class; without a loser it is the reserve", () => {
  const three = [bidOf(1, "blind", 30n), bidOf(2, "blind", 25n), bidOf(3, "blind", 20n), bidOf(4, "seen", 29n)];
  assert.deepEqual(
    rank(three, rules("second-price")).winners.map(({ clearingWei }) => clearingWei),
    [20n, 20n, 10n],
  );
  assert.deepEqual(
    rank(three.slice(0, 2), rules("second-price")).winners.map(({ clearingWei }) => clearingWei),
    [10n, 10n],
  );
});

test("equal amounts are ordered by H(slot key, bid id), which another slot key orders otherwise", () => {
  const all = Array.from({ length: 8 }, (_, seed) => bidOf(seed, "tail", 20n));
  const [winner] = rank(all, rules("first-price")).winners;
  const lowest = [...all].sort((a, b) => compareBytes(a.tie, b.tie))[0];
  assert.deepEqual(winner?.bidId, lowest?.bidId);
  const keys = Array.from({ length: 16 }, (_, byte) => new Uint8Array(96).fill(byte));
  const winnersUnder = keys.map((key) => {
    const [first] = rank(
      all.map((bid) => ({ ...bid, tie: tieBreaker(key, bid.bidId) })),
      rules("first-price"),
    ).winners;
    return first === undefined ? "" : toHex(first.bidId);
  });
  assert.ok(new Set(winnersUnder).size > 1);
});

test("a rival of a referenced message is the highest valid seen bid that does not reference it, winners included", () => {
  const all = [
    bidOf(1, "seen", 40n, [1, 2]),
    bidOf(2, "seen", 30n, [1]),
    bidOf(3, "seen", 20n, [3]),
    bidOf(4, "blind", 99n),
  ];
  const { rivals } = rank(all, rules("first-price", 10n, 2, 1));
  assert.deepEqual(
    rivals.map(({ messageId, highestOtherWei }) => [messageId[0], highestOtherWei]),
    [
      [1, 20n],
      [2, 30n],
    ],
  );
  const alone = rank([bidOf(1, "seen", 40n, [1])], rules("first-price"));
  assert.deepEqual(
    alone.rivals.map(({ highestOtherWei }) => highestOtherWei),
    [0n],
  );
});
