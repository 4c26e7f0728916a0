import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import { bidPaymentWei, type ExecutionLog } from "./payment.ts";

const word = (value: bigint): Uint8Array => fromHex(value.toString(16).padStart(64, "0"));
const EVENT = keccak256(new TextEncoder().encode("BidPaid(uint64,bytes32,address,uint256)"));
const settlement = new Uint8Array(20).fill(9);
const paymentId = new Uint8Array(32).fill(4);
const BID = { settlement, slot: 7n, paymentId };

function paid(over: Partial<ExecutionLog> = {}): ExecutionLog {
  return { address: settlement, topics: [EVENT, word(7n), paymentId, word(1n)], data: word(500n), ...over };
}

test("payments of one bid in one slot add up", () => {
  assert.equal(bidPaymentWei([paid(), paid({ data: word(25n) })], BID), 525n);
});

test("nothing else counts as a payment", () => {
  assert.equal(bidPaymentWei([], BID), 0n);
  assert.equal(bidPaymentWei([paid({ address: new Uint8Array(20) })], BID), 0n, "another contract's log");
  assert.equal(bidPaymentWei([paid({ topics: [EVENT, word(8n), paymentId, word(1n)] })], BID), 0n, "another slot");
  assert.equal(bidPaymentWei([paid({ topics: [EVENT, word(7n), word(4n), word(1n)] })], BID), 0n, "another bid");
  assert.equal(bidPaymentWei([paid({ topics: [word(0n), word(7n), paymentId, word(1n)] })], BID), 0n, "another event");
  assert.equal(bidPaymentWei([paid({ topics: [EVENT] })], BID), 0n, "too few topics");
  assert.equal(bidPaymentWei([paid({ data: new Uint8Array(31) })], BID), 0n, "too little data");
});
