/** Differential against viem: what the decoder discloses is what a client would execute. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import fc from "fast-check";
import { type Hex, keccak256, serializeTransaction, type TransactionSerializable, toRlp } from "viem";
import { transactionFacts } from "./transaction.ts";

const hexOf = (length: number): fc.Arbitrary<Hex> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => `0x${toHex(bytes)}` as const);
const data: fc.Arbitrary<Hex> = fc.uint8Array({ maxLength: 400 }).map((bytes) => `0x${toHex(bytes)}` as const);
const amount = fc.bigInt(0n, (1n << 200n) - 1n);
const signature = { r: `0x${"11".repeat(32)}`, s: `0x${"22".repeat(32)}`, yParity: 1, v: 28n } as const;

const common = { to: fc.option(hexOf(20)), data, value: amount, gas: amount, nonce: fc.nat() };
const transaction: fc.Arbitrary<TransactionSerializable> = fc.oneof(
  fc.record({ ...common, type: fc.constant("legacy" as const), gasPrice: amount }),
  fc.record({ ...common, type: fc.constant("eip2930" as const), chainId: fc.constant(31_337), gasPrice: amount }),
  fc.record({
    ...common,
    type: fc.constant("eip1559" as const),
    chainId: fc.constant(31_337),
    maxFeePerGas: fc.constant(1n << 40n),
    maxPriorityFeePerGas: fc.nat().map(BigInt),
    accessList: fc.array(fc.record({ address: hexOf(20), storageKeys: fc.array(hexOf(32), { maxLength: 3 }) }), {
      maxLength: 2,
    }),
  }),
);

describe("transactionFacts", () => {
  test("recipient, selector and hash of every type agree with viem", () => {
    fc.assert(
      fc.property(transaction, (fields) => {
        const raw = serializeTransaction(fields, signature);
        const facts = transactionFacts(fromHex(raw));
        assert.equal(`0x${toHex(facts.hash)}`, keccak256(raw));
        const to = fields.to ?? undefined;
        assert.equal(facts.to === undefined ? undefined : `0x${toHex(facts.to)}`, to?.toLowerCase());
        const selector = to === undefined || (fields.data ?? "0x").length < 10 ? undefined : fields.data?.slice(2, 10);
        assert.equal(facts.selector === undefined ? undefined : toHex(facts.selector), selector);
      }),
      { numRuns: 300 },
    );
  });

  test("an EIP-7702 transaction", () => {
    const raw = serializeTransaction(
      {
        type: "eip7702",
        chainId: 1,
        to: `0x${"ab".repeat(20)}`,
        data: "0x0102030405",
        authorizationList: [{ address: `0x${"cd".repeat(20)}`, chainId: 1, nonce: 0, ...signature }],
      },
      signature,
    );
    const facts = transactionFacts(fromHex(raw));
    assert.equal(toHex(facts.to ?? new Uint8Array()), "ab".repeat(20));
    assert.equal(toHex(facts.selector ?? new Uint8Array()), "01020304");
  });

  test("what is no transaction has a hash and nothing else", () => {
    const to = `0x${"ab".repeat(20)}` as const;
    const good = fromHex(serializeTransaction({ type: "eip1559", chainId: 1, to, data: "0x01020304" }, signature));
    assert.ok(transactionFacts(good).to !== undefined);
    const nonMinimal = Uint8Array.of(0xf8, 0x09, 1, 1, 1, 0x94, 1, 1, 1, 1, 1);
    const eightFields = fromHex(toRlp(["0x01", "0x01", "0x01", to, "0x01", "0x01020304", "0x1b", "0x01"]));
    const nineFields = fromHex(toRlp(["0x01", "0x01", "0x01", to, "0x01", "0x01020304", "0x1b", "0x01", "0x01"]));
    assert.ok(transactionFacts(nineFields).to !== undefined);
    const refused = [
      new Uint8Array(),
      good.subarray(0, good.length - 1),
      Uint8Array.of(...good, 0),
      Uint8Array.of(0x03, ...good.subarray(1)),
      Uint8Array.of(0x7f, ...good.subarray(1)),
      Uint8Array.of(0x01, ...good.subarray(1)),
      eightFields,
      nonMinimal,
      fromHex(toRlp(["0x01", "0x01", "0x01", to.slice(0, 40) as Hex, "0x01", "0x01020304", "0x1b", "0x01", "0x01"])),
      fromHex(toRlp(["0x01", "0x01", "0x01", [to], "0x01", "0x01020304", "0x1b", "0x01", "0x01"])),
    ];
    for (const raw of refused) {
      const { hash, to: none, selector } = transactionFacts(raw);
      assert.equal(hash.length, 32);
      assert.deepEqual([none, selector], [undefined, undefined], toHex(raw));
    }
  });

  test("total on random bytes", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (raw) => transactionFacts(raw).hash.length === 32));
  });
});
