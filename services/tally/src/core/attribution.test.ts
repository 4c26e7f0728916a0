import assert from "node:assert/strict";
import test from "node:test";
import { decode, encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import fc from "fast-check";
import {
  ATTRIBUTION,
  ATTRIBUTION_INPUT,
  AttributionError,
  type AttributionInput,
  type AttributionRule,
  attribute,
  attributionHash,
  creditsOf,
  DEFAULT_RULE,
  type LandedMessage,
  type PayingOrder,
  type RecipientKind,
} from "./attribution.ts";

const word = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const address = (byte: number): Uint8Array => new Uint8Array(20).fill(byte);
const id = (byte: number): Uint8Array => new Uint8Array(16).fill(byte);
const message = (byte: number, over: Partial<LandedMessage> = {}): LandedMessage => ({
  messageId: id(byte),
  txHash: word(byte),
  refundTo: address(byte),
  authorised: false,
  ...over,
});
const order = (byte: number, amount: bigint, over: Partial<PayingOrder> = {}): PayingOrder => ({
  bidId: word(byte),
  class: "blind",
  paymentWei: amount,
  valueWei: amount,
  bidWei: amount,
  account: address(byte),
  rebateTo: address(byte),
  references: [],
  ...over,
});

const NOTHING: AttributionInput = {
  slot: 9n,
  blockHash: word(0xbb),
  messages: [],
  orders: [],
  rivals: [],
  hints: [],
  proposer: undefined,
  voids: [],
  collected: [],
  reservedWei: 0n,
};

/** A seen bundle 0xa0 that bid `amount` and declared messages with these rivals. */
function seen(amount: bigint, rivals: readonly (readonly [LandedMessage, bigint])[]): AttributionInput {
  return {
    ...NOTHING,
    messages: rivals.map(([entry]) => entry),
    orders: [order(0xa0, amount, { class: "seen", references: rivals.map(([entry]) => entry.messageId) })],
    rivals: rivals.map(([entry, highestOtherWei]) => ({ messageId: entry.messageId, highestOtherWei })),
  };
}

function paid(input: AttributionInput, kind: RecipientKind, recipient: Uint8Array, rule = DEFAULT_RULE): bigint {
  return attribute(input, rule)
    .shares.filter((share) => share.kind === kind && equalBytes(share.recipient, recipient))
    .reduce((sum, share) => sum + share.wei, 0n);
}

const refunded = (input: AttributionInput, byte: number): bigint => paid(input, "order-flow-provider", address(byte));

function reasonOf(input: AttributionInput, rule?: AttributionRule): string {
  try {
    attribute(input, rule);
    return "ok";
  } catch (error) {
    if (error instanceof AttributionError) return error.reason;
    throw error;
  }
}

test("nothing came in, nothing goes out", () => {
  const nothing = attribute(NOTHING);
  assert.deepEqual([nothing.incomeWei, nothing.shares, nothing.remainderWei, nothing.charges], [0n, [], 0n, []]);
});

test("one message behind one bid gets 90 percent, and its weight when that is less", () => {
  assert.equal(refunded(seen(1000n, [[message(1), 0n]]), 1), 900n);
  assert.equal(refunded(seen(1000n, [[message(1), 100n]]), 1), 900n);
  assert.equal(refunded(seen(1000n, [[message(1), 101n]]), 1), 899n);
  assert.equal(refunded(seen(1000n, [[message(1), 999n]]), 1), 1n);
  assert.equal(refunded(seen(1000n, [[message(1), 1000n]]), 1), 0n);
  assert.equal(refunded(seen(1000n, [[message(1), 1001n]]), 1), 0n);
});

test("weights above the share are split in proportion, weights below it are paid in full", () => {
  const rivalrous = seen(1000n, [
    [message(1), 0n],
    [message(2), 500n],
  ]);
  assert.deepEqual([refunded(rivalrous, 1), refunded(rivalrous, 2)], [600n, 300n]);
  const contested = seen(1000n, [
    [message(1), 800n],
    [message(2), 900n],
  ]);
  assert.deepEqual([refunded(contested, 1), refunded(contested, 2)], [200n, 100n]);
});

test("a dummy reference earns nothing when a rival bid as much without it; with a single bidder it dilutes", () => {
  const rival = seen(1000n, [
    [message(1), 0n],
    [message(2), 1000n],
  ]);
  assert.deepEqual([refunded(rival, 1), refunded(rival, 2)], [900n, 0n]);
  const single = seen(1000n, [
    [message(1), 0n],
    [message(2), 0n],
  ]);
  assert.deepEqual([refunded(single, 1), refunded(single, 2)], [450n, 450n]);
});

test("one transaction sent twice is one transaction; an authorised recipient wins", () => {
  const twin = message(2, { txHash: word(1), refundTo: address(1) });
  const twice = seen(1000n, [
    [message(1), 300n],
    [twin, 200n],
    [message(3), 200n],
  ]);
  assert.deepEqual([refunded(twice, 1), refunded(twice, 3)], [450n, 450n], "weight 800, from the lower rival, once");
  const authorised = { ...twin, refundTo: address(7), authorised: true };
  const moved = seen(1000n, [
    [message(1), 0n],
    [authorised, 0n],
  ]);
  assert.deepEqual([refunded(moved, 1), refunded(moved, 7)], [0n, 900n]);
});

test("a reference that did not land gets nothing", () => {
  const input = seen(1000n, [
    [message(1), 0n],
    [message(2), 0n],
  ]);
  assert.equal(refunded({ ...input, messages: [message(1)] }, 1), 900n);
  assert.equal(attribute({ ...input, messages: [] }).remainderWei, 1000n);
});

test("second price and overpayment go back to the bidder, the refund follows the price", () => {
  const input = seen(1000n, [[message(1), 0n]]);
  const secondPrice = { ...input, orders: input.orders.map((entry) => ({ ...entry, valueWei: 600n })) };
  assert.equal(refunded(secondPrice, 1), 540n);
  assert.equal(paid(secondPrice, "bid-winner", address(0xa0)), 400n);
  assert.equal(attribute(secondPrice).remainderWei, 60n);
});

test("the rest: co-builders by weight, then the proposer, then the stated remainder", () => {
  const input: AttributionInput = {
    ...NOTHING,
    orders: [order(1, 1000n)],
    hints: [
      { hintId: word(0xc1), recipient: address(0xc1), weight: 3n },
      { hintId: word(0xc2), recipient: address(0xc2), weight: 1n },
    ],
    proposer: address(0xdd),
    collected: [{ bidId: word(2), wei: 1000n }],
  };
  assert.equal(paid(input, "co-builder", address(0xc1)), 300n);
  assert.equal(paid(input, "co-builder", address(0xc2)), 100n);
  assert.equal(paid(input, "proposer", address(0xdd)), 800n);
  assert.equal(attribute(input).remainderWei, 800n);
  assert.equal(attribute({ ...input, hints: [], proposer: undefined }).remainderWei, 2000n);
  assert.equal(attribute({ ...input, hints: input.hints.map((hint) => ({ ...hint, weight: 0n })) }).shares.length, 1);
});

test("what the proposer was paid comes first; refunds shrink alike and never below the rule", () => {
  const input = seen(1000n, [
    [message(1), 0n],
    [message(2), 500n],
  ]);
  const half = attribute({ ...input, reservedWei: 550n });
  assert.deepEqual(
    half.shares.map((share) => share.wei),
    [300n, 150n],
  );
  assert.deepEqual([half.reservedWei, half.remainderWei], [550n, 0n]);
  const all = attribute({ ...input, reservedWei: 5000n });
  assert.deepEqual([all.shares, all.reservedWei, all.remainderWei], [[], 1000n, 0n]);
});

test("a bid that paid short is charged the difference, void ones in full; charges are not income yet", () => {
  const input: AttributionInput = {
    ...NOTHING,
    orders: [order(3, 100n, { paymentWei: 40n }), order(2, 100n, { paymentWei: 0n }), order(1, 100n)],
    voids: [{ bidId: word(4), account: address(4), wei: 7n }],
  };
  const result = attribute(input);
  assert.equal(result.incomeWei, 140n);
  assert.deepEqual(
    result.charges.map((charge) => [charge.bidId[0], charge.wei]),
    [
      [2, 100n],
      [3, 60n],
      [4, 7n],
    ],
  );
});

test("inputs that contradict each other are refused", () => {
  const good = seen(1000n, [[message(1), 0n]]);
  assert.equal(reasonOf(good), "ok");
  assert.equal(reasonOf({ ...good, rivals: [] }), "MISSING_RIVAL");
  assert.equal(reasonOf({ ...good, rivals: [...good.rivals, ...good.rivals] }), "DUPLICATE_RIVAL");
  assert.equal(reasonOf({ ...good, messages: [message(1), message(1, { txHash: word(2) })] }), "DUPLICATE_MESSAGE");
  assert.equal(reasonOf({ ...good, orders: [...good.orders, ...good.orders] }), "DUPLICATE_ORDER");
  const charge = { bidId: word(0xa0), account: address(1), wei: 1n };
  assert.equal(reasonOf({ ...good, voids: [charge] }), "DUPLICATE_CHARGE");
  const hint = { hintId: word(1), recipient: address(1), weight: 1n };
  assert.equal(reasonOf({ ...good, hints: [hint, hint] }), "DUPLICATE_HINT");
  assert.equal(reasonOf({ ...good, orders: [order(1, 5n, { references: [id(1)] })] }), "UNEXPECTED_REFERENCE");
  assert.equal(reasonOf({ ...good, orders: [order(1, -1n)] }), "MALFORMED");
  assert.equal(reasonOf({ ...good, orders: [order(1, 1n, { rebateTo: word(1) })] }), "MALFORMED");
  assert.equal(reasonOf(good, { ...DEFAULT_RULE, refundShareBps: 10_001 }), "MALFORMED");
  assert.equal(reasonOf({ ...good, orders: [order(1, (1n << 256n) - 1n), order(2, 1n)] }), "MALFORMED");
});

// ------------------------------------------------------------------------------------------------------ properties

const amount = fc.bigInt({ min: 0n, max: 1n << 70n });
const bps = fc.integer({ min: 0, max: 10_000 });
const anyRule: fc.Arbitrary<AttributionRule> = fc.record({
  refundShareBps: bps,
  coBuilderShareBps: bps,
  proposerShareBps: bps,
});

/** Up to 8 messages over 5 transactions, up to 6 bundles of each class, rivals anywhere around the bids. */
const anyInput: fc.Arbitrary<AttributionInput> = fc
  .record({
    messages: fc.uniqueArray(
      fc.record({ byte: fc.integer({ min: 1, max: 8 }), tx: fc.integer({ min: 1, max: 5 }), authorised: fc.boolean() }),
      { selector: (entry) => entry.byte, maxLength: 8 },
    ),
    bundles: fc.array(
      fc.record({
        class: fc.constantFrom("blind" as const, "seen" as const, "tail" as const),
        payment: amount,
        value: amount,
        bid: amount,
        references: fc.array(fc.integer({ min: 1, max: 8 }), { maxLength: 5 }),
      }),
      { maxLength: 6 },
    ),
    rivals: fc.array(amount, { minLength: 8, maxLength: 8 }),
    hints: fc.array(fc.record({ to: fc.integer({ min: 1, max: 3 }), weight: fc.bigInt({ min: 0n, max: 1n << 60n }) }), {
      maxLength: 4,
    }),
    proposer: fc.boolean(),
    reserved: fc.oneof(fc.constant(0n), amount),
    collected: fc.array(amount, { maxLength: 3 }),
  })
  .map(({ messages, bundles, rivals, hints, proposer, reserved, collected }) => ({
    ...NOTHING,
    messages: messages.map(({ byte, tx, authorised }) =>
      message(byte, { txHash: word(tx), refundTo: address(authorised ? 0x50 + byte : tx), authorised }),
    ),
    orders: bundles.map((bundle, index) =>
      order(0x80 + index, bundle.payment, {
        class: bundle.class,
        valueWei: bundle.value,
        bidWei: bundle.bid,
        references: bundle.class === "seen" ? bundle.references.map(id) : [],
      }),
    ),
    rivals: rivals.map((highestOtherWei, index) => ({ messageId: id(index + 1), highestOtherWei })),
    hints: hints.map((hint, index) => ({ hintId: word(index), recipient: address(hint.to), weight: hint.weight })),
    proposer: proposer ? address(0xdd) : undefined,
    collected: collected.map((taken, index) => ({ bidId: word(index), wei: taken })),
    reservedWei: reserved,
  }));

test("conservation is exact, nothing is negative, nothing is zero", () => {
  fc.assert(
    fc.property(anyInput, anyRule, (input, rule) => {
      const result = attribute(input, rule);
      const income =
        input.orders.reduce((sum, entry) => sum + entry.paymentWei, 0n) +
        input.collected.reduce((sum, entry) => sum + entry.wei, 0n);
      const given = result.shares.reduce((sum, share) => sum + share.wei, 0n);
      assert.equal(result.incomeWei, income);
      assert.equal(given + result.reservedWei + result.remainderWei, income);
      assert.ok(result.remainderWei >= 0n && result.reservedWei >= 0n && result.reservedWei <= input.reservedWei);
      assert.ok(result.shares.every((share) => share.wei > 0n));
      assert.ok(result.charges.every((charge) => charge.wei > 0n));
      assert.deepEqual(
        encode(ATTRIBUTION, decode(ATTRIBUTION, encode(ATTRIBUTION, result))),
        encode(ATTRIBUTION, result),
      );
    }),
    { numRuns: 400 },
  );
});

test("the order of the inputs does not show", () => {
  const shuffled = <T>(items: readonly T[], seed: readonly number[]): T[] =>
    items
      .map((item, index) => ({ item, rank: seed[index % seed.length] ?? 0 }))
      .sort((a, b) => a.rank - b.rank)
      .map((entry) => entry.item);
  fc.assert(
    fc.property(anyInput, fc.array(fc.nat(), { minLength: 8, maxLength: 8 }), (input, seed) => {
      const other: AttributionInput = {
        ...input,
        messages: shuffled(input.messages, seed),
        orders: shuffled(input.orders, seed).map((entry) => ({
          ...entry,
          references: shuffled(entry.references, seed),
        })),
        rivals: shuffled(input.rivals, seed),
        hints: shuffled(input.hints, seed),
        collected: shuffled(input.collected, seed),
      };
      assert.deepEqual(attributionHash(attribute(other)), attributionHash(attribute(input)));
    }),
    { numRuns: 300 },
  );
});

test("decoded inputs give the same bytes: recomputing needs nothing else", () => {
  fc.assert(
    fc.property(anyInput, (input) => {
      const decoded = decode(ATTRIBUTION_INPUT, encode(ATTRIBUTION_INPUT, input));
      assert.deepEqual(attributionHash(attribute(decoded)), attributionHash(attribute(input)));
    }),
  );
});

test("no transaction gets more than its weight, no bundle's refunds more than its share, none twice", () => {
  fc.assert(
    fc.property(anyInput, anyRule, (input, rule) => {
      for (const bundle of input.orders.filter((entry) => entry.class === "seen")) {
        const alone = { ...input, orders: [bundle], hints: [], collected: [], proposer: undefined, reservedWei: 0n };
        const refunds = attribute(alone, rule).shares.filter((share) => share.kind === "order-flow-provider");
        const owed = bundle.paymentWei < bundle.valueWei ? bundle.paymentWei : bundle.valueWei;
        const total = refunds.reduce((sum, share) => sum + share.wei, 0n);
        assert.ok(total <= (owed * BigInt(rule.refundShareBps)) / 10_000n);
        assert.equal(new Set(refunds.map((share) => toHex(share.reference))).size, refunds.length, "one refund each");

        for (const refund of refunds) {
          const lowest = input.rivals
            .filter((rival) => bundle.references.some((reference) => equalBytes(reference, rival.messageId)))
            .filter((rival) => {
              const landed = input.messages.find((entry) => equalBytes(entry.messageId, rival.messageId));
              return landed !== undefined && equalBytes(landed.txHash, refund.reference);
            })
            .reduce((low, rival) => (rival.highestOtherWei < low ? rival.highestOtherWei : low), bundle.bidWei);
          assert.ok(refund.wei <= bundle.bidWei - lowest);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test("duplicating a message changes nobody's refund", () => {
  fc.assert(
    fc.property(anyInput, fc.nat(), (input, pick) => {
      const original = input.messages[pick % Math.max(1, input.messages.length)];
      fc.pre(original !== undefined);
      const copyId = id(0xee);
      const copied: AttributionInput = {
        ...input,
        messages: [...input.messages, { ...original, messageId: copyId }],
        orders: input.orders.map((entry) =>
          entry.references.some((reference) => equalBytes(reference, original.messageId))
            ? { ...entry, references: [...entry.references, copyId] }
            : entry,
        ),
        rivals: input.rivals.flatMap((rival) =>
          equalBytes(rival.messageId, original.messageId) ? [rival, { ...rival, messageId: copyId }] : [rival],
        ),
      };
      assert.deepEqual(attribute(copied), attribute(input));
    }),
    { numRuns: 200 },
  );
});

test("splitting a payment that references nothing into two bids changes no total by more than rounding", () => {
  fc.assert(
    fc.property(amount, amount, (a, b) => {
      const proposer = address(0xdd);
      const one = attribute({ ...NOTHING, proposer, orders: [order(1, a + b)] });
      const two = attribute({ ...NOTHING, proposer, orders: [order(1, a), order(2, b)] });
      assert.deepEqual(two.shares, one.shares);
      assert.equal(two.remainderWei, one.remainderWei);
    }),
  );
});

test("credits are the shares without their references, as the outcome's commitment carries them", () => {
  fc.assert(
    fc.property(anyInput, (input) => {
      const result = attribute(input);
      const credits = creditsOf(result);
      const sum = credits.reduce((total, credit) => total + credit.wei, 0n);
      assert.equal(sum, result.incomeWei - result.reservedWei - result.remainderWei);
      assert.equal(new Set(credits.map((credit) => `${credit.kind}${toHex(credit.recipient)}`)).size, credits.length);
    }),
  );
});
