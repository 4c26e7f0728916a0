import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import fc from "fast-check";
import {
  carriedOrder,
  effectivePriorityFee,
  exclusionAt,
  isCarried,
  type Position,
  poolOrder,
  type QueuedMessage,
  type SenderAccount,
  type TransactionFacts,
} from "./order.ts";

const BASE_FEE = 100n;

function facts(over: Partial<TransactionFacts> = {}): TransactionFacts {
  return {
    hash: new Uint8Array(32),
    sender: new Uint8Array(20),
    nonce: 5n,
    gasLimit: 21_000n,
    minimumGas: 21_000n,
    maxFeePerGas: BASE_FEE,
    maxPriorityFeePerGas: 0n,
    balanceNeeded: 1_000n,
    ...over,
  };
}

const queued = fc
  .record({
    sender: fc.integer({ min: 0, max: 4 }),
    nonce: fc.bigInt({ min: 0n, max: 4n }),
    maxFeePerGas: fc.bigInt({ min: 90n, max: 110n }),
    maxPriorityFeePerGas: fc.bigInt({ min: 0n, max: 10n }),
    slot: fc.bigInt({ min: 1n, max: 3n }),
  })
  .map(
    ({ sender, nonce, maxFeePerGas, maxPriorityFeePerGas, slot }) =>
      (unsealIndex: number): QueuedMessage => ({
        message: { messageId: new Uint8Array(16), slot, unsealIndex, rawTransaction: new Uint8Array() },
        facts: facts({ sender: new Uint8Array(20).fill(sender), nonce, maxFeePerGas, maxPriorityFeePerGas }),
      }),
  );
const pool = fc.array(queued, { maxLength: 40 }).map((makers) => makers.map((make, index) => make(index)));

const fee = (item: QueuedMessage): bigint => effectivePriorityFee(item.facts, BASE_FEE);
const sender = (item: QueuedMessage): string => toHex(item.facts.sender);

/** The rule in its plainest form: look at every sender's next, take the best. */
function naive(messages: readonly QueuedMessage[], better: (a: QueuedMessage, b: QueuedMessage) => boolean) {
  const rest = new Set(messages);
  const ordered: QueuedMessage[] = [];
  while (rest.size > 0) {
    const heads = [...rest].filter(
      (item) =>
        ![...rest].some(
          (other) =>
            sender(other) === sender(item) &&
            (other.facts.nonce < item.facts.nonce || (other.facts.nonce === item.facts.nonce && better(other, item))),
        ),
    );
    const [first, ...others] = heads;
    assert.ok(first !== undefined);
    const best = others.reduce((winner, item) => (better(item, winner) ? item : winner), first);
    ordered.push(best);
    rest.delete(best);
  }
  return ordered;
}

test("the pool's order is the plainest reading of the rule, whatever order the messages are given in", () => {
  const better = (a: QueuedMessage, b: QueuedMessage): boolean =>
    fee(a) !== fee(b)
      ? fee(a) > fee(b)
      : a.message.slot !== b.message.slot
        ? a.message.slot < b.message.slot
        : a.message.unsealIndex < b.message.unsealIndex;
  fc.assert(
    fc.property(pool, (messages) => {
      const ordered = poolOrder(messages, BASE_FEE);
      assert.deepEqual(ordered, naive(messages, better));
      assert.deepEqual(poolOrder([...messages].reverse(), BASE_FEE), ordered);
    }),
  );
});

test("carried messages go by age, then unseal order, each sender's in nonce order", () => {
  const older = (a: QueuedMessage, b: QueuedMessage): boolean =>
    a.message.slot !== b.message.slot ? a.message.slot < b.message.slot : a.message.unsealIndex < b.message.unsealIndex;
  fc.assert(fc.property(pool, (messages) => assert.deepEqual(carriedOrder(messages), naive(messages, older))));
});

test("a sender's cheap first transaction holds back his dear second one, and is then followed by it", () => {
  const item = (nonce: bigint, tip: bigint, who: number, unsealIndex: number): QueuedMessage => ({
    message: { messageId: new Uint8Array(16), slot: 1n, unsealIndex, rawTransaction: new Uint8Array() },
    facts: facts({ sender: new Uint8Array(20).fill(who), nonce, maxFeePerGas: 200n, maxPriorityFeePerGas: tip }),
  });
  const cheapFirst = item(0n, 1n, 1, 0);
  const dearSecond = item(1n, 9n, 1, 1);
  const middle = item(0n, 5n, 2, 2);
  const low = item(0n, 0n, 3, 3);
  assert.deepEqual(poolOrder([low, dearSecond, middle, cheapFirst], BASE_FEE), [middle, cheapFirst, dearSecond, low]);
});

test("the effective priority fee is capped by what the fee cap leaves above the base fee", () => {
  assert.equal(effectivePriorityFee(facts({ maxFeePerGas: 110n, maxPriorityFeePerGas: 10n }), 100n), 10n);
  assert.equal(effectivePriorityFee(facts({ maxFeePerGas: 110n, maxPriorityFeePerGas: 10n }), 101n), 9n);
  assert.equal(effectivePriorityFee(facts({ maxFeePerGas: 99n, maxPriorityFeePerGas: 10n }), 100n), -1n);
});

const ACCOUNT: SenderAccount = { nonce: 5n, balance: 1_000n, hasCode: false };
const POSITION: Position = { baseFeePerGas: BASE_FEE, blockGasLimit: 30_000n, gasLeft: 21_000n };

test("a transaction that is exactly affordable, priced and sized is included", () => {
  assert.equal(exclusionAt(facts(), ACCOUNT, POSITION), undefined);
});

for (const [reason, transaction, account, position] of [
  ["gas-limit-above-block", { gasLimit: 30_001n }, {}, {}],
  ["gas-below-intrinsic", { gasLimit: 20_999n }, {}, {}],
  ["sender-has-code", {}, { hasCode: true }, {}],
  ["nonce-too-low", { nonce: 4n }, {}, {}],
  ["nonce-too-high", { nonce: 6n }, {}, {}],
  ["fee-below-base", { maxFeePerGas: 99n }, {}, {}],
  ["underfunded", {}, { balance: 999n }, {}],
  ["block-full", {}, {}, { gasLeft: 20_999n }],
] as const) {
  test(`one step further it is excluded: ${reason}`, () => {
    const excluded = exclusionAt(facts(transaction), { ...ACCOUNT, ...account }, { ...POSITION, ...position });
    assert.equal(excluded, reason);
  });
}

test("what may pass is carried for carrySlots slots after its own, what cannot is not", () => {
  const message = { messageId: new Uint8Array(16), slot: 10n, unsealIndex: 0, rawTransaction: new Uint8Array() };
  assert.equal(isCarried(message, "nonce-too-high", 10n, 2n), true);
  assert.equal(isCarried(message, "nonce-too-high", 11n, 2n), true);
  assert.equal(isCarried(message, "nonce-too-high", 12n, 2n), false);
  assert.equal(isCarried(message, "nonce-too-low", 10n, 2n), false);
  assert.equal(isCarried(message, "block-full", 10n, 0n), false);
});
