/** viem signs and recovers; we must agree. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import fc from "fast-check";
import { type TransactionSerializable, toRlp } from "viem";
import { privateKeyToAccount, sign } from "viem/accounts";
import { serializeTransaction, keccak256 as viemKeccak } from "viem/utils";
import { testKey } from "../../test/keys.ts";
import { hex } from "../contract/settlement-call.ts";
import { sentTransaction } from "./transaction-sender.ts";

const key = testKey("sender");
const account = privateKeyToAccount(hex(key.secret));
const to = `0x${"11".repeat(20)}` as const;

const TRANSACTIONS: Readonly<Record<string, TransactionSerializable>> = {
  legacy: { type: "legacy", chainId: 31_337, to, gas: 21_000n, gasPrice: 1n, nonce: 0 },
  "legacy on a large chain id": { type: "legacy", chainId: 2 ** 31, to, gas: 21_000n, gasPrice: 1n, nonce: 200 },
  "2930": {
    type: "eip2930",
    chainId: 1,
    to,
    gas: 30_000n,
    gasPrice: 2n,
    accessList: [{ address: to, storageKeys: [`0x${"22".repeat(32)}`] }],
  },
  "1559": { type: "eip1559", chainId: 31_337, to, gas: 21_000n, maxFeePerGas: 9n, maxPriorityFeePerGas: 1n, value: 5n },
  "1559 creation": { type: "eip1559", chainId: 31_337, data: "0x6001", gas: 90_000n, maxFeePerGas: 9n },
  "7702": {
    type: "eip7702",
    chainId: 31_337,
    to,
    gas: 99_000n,
    maxFeePerGas: 9n,
    authorizationList: [
      { address: to, chainId: 1, nonce: 0, yParity: 0, r: `0x${"33".repeat(32)}`, s: `0x${"44".repeat(32)}` },
    ],
  },
};

for (const [name, transaction] of Object.entries(TRANSACTIONS)) {
  test(`${name}: hash and sender`, async () => {
    const raw = await account.signTransaction(transaction);
    const sent = sentTransaction(fromHex(raw.slice(2)));
    assert.ok(sent !== undefined);
    assert.equal(toHex(sent.sender), toHex(key.address));
    assert.equal(hex(sent.hash), viemKeccak(raw));
  });
}

test("before EIP-155: v is 27 or 28 and no chain id is signed", async () => {
  const transaction = { type: "legacy", to, gas: 21_000n, gasPrice: 1n, nonce: 7 } as const;
  const digest = viemKeccak(serializeTransaction(transaction));
  const signature = await sign({ hash: digest, privateKey: hex(key.secret) });
  const raw = serializeTransaction(transaction, signature);
  assert.equal(toHex(sentTransaction(fromHex(raw.slice(2)))?.sender ?? new Uint8Array()), toHex(key.address));
});

test("a high s is refused: it would be a second hash for one authorisation (EIP-2)", async () => {
  const transaction = { type: "legacy", to, gas: 21_000n, gasPrice: 1n, nonce: 7 } as const;
  const { r, s, v } = await sign({ hash: viemKeccak(serializeTransaction(transaction)), privateKey: hex(key.secret) });
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const flipped = {
    r,
    s: `0x${(order - BigInt(s)).toString(16).padStart(64, "0")}` as const,
    v: v === 27n ? 28n : 27n,
  };
  assert.ok(sentTransaction(fromHex(serializeTransaction(transaction, { r, s, v: v ?? 27n }).slice(2))) !== undefined);
  assert.equal(sentTransaction(fromHex(serializeTransaction(transaction, flipped).slice(2))), undefined);
});

test("other types, other field counts, trailing bytes and other encodings of the same list are refused", async () => {
  const raw = fromHex((await account.signTransaction(TRANSACTIONS["1559"] as TransactionSerializable)).slice(2));
  assert.ok(sentTransaction(raw) !== undefined);
  assert.equal(sentTransaction(new Uint8Array()), undefined);
  assert.equal(sentTransaction(Uint8Array.of(5, ...raw.subarray(1))), undefined);
  assert.equal(sentTransaction(Uint8Array.of(1, ...raw.subarray(1))), undefined);
  assert.equal(sentTransaction(Uint8Array.of(...raw, 0)), undefined);
  assert.equal(sentTransaction(raw.subarray(0, -1)), undefined);
  assert.equal(sentTransaction(toRlp([new Uint8Array(), new Uint8Array()], "bytes")), undefined);
});

test("total on anything", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(1, 2, 3, 4, 0xc9, 0xf8), (bytes, first) => {
      const sent = sentTransaction(Uint8Array.of(first, ...bytes));
      if (sent !== undefined) assert.deepEqual(sent.hash, keccak256(Uint8Array.of(first, ...bytes)));
    }),
  );
});
