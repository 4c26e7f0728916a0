import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { absentRow, blindShareGas, bundleViolation, landedRow, type MessagesKnown } from "./bundle.ts";
import type { BundleReason } from "./candidate.ts";
import type { BundleItem, TransactionFacts, WinningBundle } from "./order.ts";

const OWN = new Uint8Array(20).fill(1);
const ESCROW = new Uint8Array(20).fill(2);
const OTHER = new Uint8Array(20).fill(3);
const REFERENCE = new Uint8Array(16).fill(7);
const KNOWN: MessagesKnown = { transactionHashes: new Set([toHex(hash(99))]), poolIds: new Set([toHex(REFERENCE)]) };
const SHARE = { gas: 100_000n, used: 0n };

function hash(byte: number): Uint8Array {
  return new Uint8Array(32).fill(byte);
}

function transaction(sender: Uint8Array, byte = 1, gasLimit = 50_000n): TransactionFacts {
  const fees = { maxFeePerGas: 1n, maxPriorityFeePerGas: 1n, balanceNeeded: 1n };
  return { hash: hash(byte), sender, nonce: 0n, gasLimit, minimumGas: 21_000n, ...fees };
}

const RAW: BundleItem = { type: "transaction", raw: new Uint8Array([1]) };
const POINTER: BundleItem = { type: "reference", messageId: REFERENCE };

function winner(over: Partial<WinningBundle> = {}): WinningBundle {
  return {
    bidId: hash(5),
    paymentId: hash(6),
    class: "seen",
    searcher: OWN,
    escrowAccount: ESCROW,
    amountWei: 10n,
    clearingWei: 8n,
    references: [REFERENCE],
    items: [POINTER, RAW],
    mayRevert: [],
    ...over,
  };
}

const BLIND = { class: "blind", references: [], items: [RAW] } as const;

test("references and others' transactions before the searcher's own, by either of its addresses, are in order", () => {
  assert.equal(bundleViolation(winner(), [transaction(OWN)], KNOWN, SHARE), undefined);
  assert.equal(bundleViolation(winner(), [transaction(ESCROW)], KNOWN, SHARE), undefined);
  const mixed = winner({ items: [RAW, POINTER, RAW, RAW] });
  assert.equal(
    bundleViolation(mixed, [transaction(OTHER), transaction(OWN), transaction(ESCROW)], KNOWN, SHARE),
    undefined,
  );
  assert.equal(bundleViolation(winner(BLIND), [transaction(OWN, 1, 100_000n)], KNOWN, SHARE), undefined);
});

const REFUSED: readonly (readonly [
  BundleReason,
  Partial<WinningBundle>,
  readonly (TransactionFacts | undefined)[],
  bigint,
])[] = [
  ["not-in-blind-set", { ...BLIND, problem: "not-in-blind-set" }, [transaction(OWN)], 0n],
  ["empty", { items: [POINTER] }, [], 0n],
  ["malformed", {}, [undefined], 0n],
  ["reference-not-allowed", { class: "blind", references: [], items: [POINTER, RAW] }, [transaction(OWN)], 0n],
  ["reference-not-allowed", { class: "tail", items: [RAW] }, [transaction(OWN)], 0n],
  ["may-revert-not-allowed", { ...BLIND, mayRevert: [hash(1)] }, [transaction(OWN)], 0n],
  ["unknown-reference", { references: [new Uint8Array(16)] }, [transaction(OWN)], 0n],
  ["holds-pool-transaction", {}, [transaction(OWN, 99)], 0n],
  ["others-after-own", { items: [RAW, POINTER] }, [transaction(OWN)], 0n],
  ["others-after-own", { items: [POINTER, RAW, RAW] }, [transaction(OWN), transaction(OTHER)], 0n],
  ["others-after-own", { items: [POINTER, RAW] }, [transaction(OTHER)], 0n],
  ["above-share", BLIND, [transaction(OWN, 1, 100_001n)], 0n],
  ["share-used", BLIND, [transaction(OWN, 1, 100_000n)], 1n],
];
for (const [reason, over, facts, used] of REFUSED) {
  test(`a ${over.class ?? "seen"} bundle of ${facts.length} transactions is refused: ${reason}`, () => {
    assert.equal(bundleViolation(winner(over), facts, KNOWN, { ...SHARE, used }), reason);
  });
}

test("the share of the block that blind bundles may claim rounds down", () => {
  assert.equal(blindShareGas(30_000_000n, 2_000), 6_000_000n);
  assert.equal(blindShareGas(9_999n, 1), 0n);
  assert.equal(blindShareGas(10_000n, 1), 1n);
});

test("a landed bundle owes its clearing price and shows what it paid", () => {
  const row = landedRow(winner(), { paymentWei: 10n, gasUsed: 60_000n });
  assert.deepEqual([row.status, row.reason, row.paymentWei, row.valueWei], ["landed", undefined, 10n, 8n]);
  assert.deepEqual(row.references, [REFERENCE]);
});

test("a blind bundle that does not execute is charged; a seen one is not", () => {
  for (const reason of ["reverted", "invalid-transaction"] as const) {
    const blind = absentRow(winner(BLIND), reason);
    assert.deepEqual([blind.status, blind.valueWei], ["failed", 8n]);
    const seen = absentRow(winner(), reason);
    assert.deepEqual([seen.status, seen.valueWei], ["dropped", 0n]);
  }
});

test("the searcher's own fault is charged, a transaction that others may have planted is not", () => {
  assert.deepEqual(
    [absentRow(winner(), "paid-short").status, absentRow(winner(), "paid-short").valueWei],
    ["void", 8n],
  );
  const planted = absentRow(winner(BLIND), "holds-pool-transaction");
  assert.deepEqual([planted.status, planted.valueWei], ["void", 0n]);
  const crowded = absentRow(winner(BLIND), "share-used");
  assert.deepEqual([crowded.status, crowded.valueWei], ["dropped", 0n]);
});
