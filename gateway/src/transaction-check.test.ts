import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import fc from "fast-check";
import { parseTransaction, serializeTransaction, toRlp } from "viem";
import { ALICE, RECIPIENT, transfer } from "../test/fixture.ts";
import { checkTransaction } from "./transaction-check.ts";

const CHAIN = 31_337n;
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const bytes = (hex: string): Uint8Array => fromHex(hex);
const refused = (raw: Uint8Array, reason: string): Promise<void> =>
  assert.rejects(checkTransaction(raw, CHAIN), { name: "Fault", reason });

test("legacy, access-list and dynamic-fee transactions are read", async () => {
  const common = { chainId: 31_337, nonce: 7, to: RECIPIENT, value: 5n, gas: 21_000n } as const;
  const signed = await Promise.all([
    ALICE.signTransaction({ ...common, type: "legacy", gasPrice: 3n }),
    ALICE.signTransaction({
      ...common,
      type: "eip2930",
      gasPrice: 3n,
      accessList: [{ address: RECIPIENT, storageKeys: [] }],
    }),
    ALICE.signTransaction({ ...common, type: "eip1559", maxFeePerGas: 3n, maxPriorityFeePerGas: 1n }),
    ALICE.signTransaction({
      chainId: 31_337,
      nonce: 7,
      value: 5n,
      gas: 21_000n,
      type: "legacy",
      gasPrice: 3n,
      data: "0x60",
    }),
  ]);
  for (const raw of signed) {
    const { sender, nonce, neededWei } = await checkTransaction(bytes(raw), CHAIN);
    assert.equal(`0x${toHex(sender)}`, ALICE.address.toLowerCase());
    assert.equal(nonce, 7n);
    assert.equal(neededWei, 5n + 63_000n);
  }
});

test("another chain, no chain and types that are not carried are named", async () => {
  await refused((await transfer(ALICE, 0, { chainId: 1 })).raw, "WRONG_CHAIN");
  const everywhere = await ALICE.signTransaction({
    type: "legacy",
    nonce: 0,
    to: RECIPIENT,
    gas: 21_000n,
    gasPrice: 1n,
  });
  await refused(bytes(everywhere), "WRONG_CHAIN");
  await refused(new Uint8Array([3, 0xc0]), "TRANSACTION_TYPE");
  await refused(new Uint8Array([4, 0xc0]), "TRANSACTION_TYPE");
});

test("unsigned, padded, re-encoded and malleated transactions are none", async () => {
  const { raw } = await transfer(ALICE, 0);
  const serialized = `0x${toHex(raw)}` as `0x02${string}`;
  const parsed = parseTransaction(serialized);
  const { r, s, yParity, ...unsigned } = parsed;
  assert.ok(r !== undefined && s !== undefined && yParity !== undefined);
  await refused(bytes(serializeTransaction(unsigned)), "TRANSACTION_UNDECODABLE");
  await refused(new Uint8Array([...raw, 0]), "TRANSACTION_UNDECODABLE");
  await refused(raw.slice(0, -1), "TRANSACTION_UNDECODABLE");
  await refused(new Uint8Array(), "TRANSACTION_UNDECODABLE");
  const flipped = `0x${(ORDER - BigInt(s)).toString(16).padStart(64, "0")}` as const;
  await refused(
    bytes(serializeTransaction(unsigned, { r, s: flipped, yParity: 1 - yParity })),
    "TRANSACTION_UNDECODABLE",
  );
  // The nonce 0 as a zero byte instead of nothing: another encoding of the same, with another hash.
  const fields = ["0x7a69", "0x00", "0x3b9aca00", "0x02540be400", "0x5208", RECIPIENT, "0x01", "0x", []] as const;
  const signature = [yParity === 0 ? "0x" : "0x01", r, s] as const;
  const list = (nonce: `0x${string}`) => toRlp([fields[0], nonce, ...fields.slice(2), ...signature] as never);
  await checkTransaction(bytes(`0x02${list("0x").slice(2)}`), CHAIN);
  await refused(bytes(`0x02${list("0x00").slice(2)}`), "TRANSACTION_UNDECODABLE");
});

test("whatever the bytes, the answer is a typed refusal", async () => {
  const { raw } = await transfer(ALICE, 3);
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.uint8Array({ maxLength: 200 }),
        fc.tuple(fc.nat({ max: raw.length - 1 }), fc.integer({ min: 1, max: 255 })).map(([at, change]) => {
          const changed = raw.slice();
          changed[at] = (changed[at] ?? 0) ^ change;
          return changed;
        }),
      ),
      async (bytes) => {
        try {
          const { sender } = await checkTransaction(bytes, CHAIN);
          assert.notEqual(`0x${toHex(sender)}`, ALICE.address.toLowerCase(), "a changed transaction is not his");
        } catch (error) {
          assert.match(String((error as { reason?: string }).reason), /^(TRANSACTION_|WRONG_CHAIN)/);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("found by fuzzing: a priority fee above the fee cap is refused here, since no block may hold it", async () => {
  const raw =
    "02f85183704249520880808001828080c080a0ac64a6ef2696f7288906cbfcc6b111f1f9e4301b74bf81d1aac84ed924d04760" +
    "a071663533b1752745debf2f94c849983762cc0e0cdfb96182b9507329ffbaa0a3";
  await assert.rejects(checkTransaction(new Uint8Array(Buffer.from(raw, "hex")), 0x704249n), {
    reason: "TRANSACTION_UNDECODABLE",
  });
});
