import assert from "node:assert/strict";
import { test } from "node:test";
import { RLP } from "@ethereumjs/rlp";
import { concat, toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import fc from "fast-check";
import { CHAIN_ID, devnetGenesis, GWEI, signed, signedAs, wallet } from "../../test/devnet.ts";
import { TransactionDecoder } from "./transaction.ts";

const decoder = new TransactionDecoder(devnetGenesis().common);
const from = wallet(0);
const to = `0x${toHex(wallet(1).address)}` as const;
const legacy = { type: 0, nonce: 3n, to, value: 5n, gasLimit: 21_000n, gasPrice: 9n } as const;

function problem(raw: Uint8Array): string | undefined {
  const decoding = decoder.decode(raw);
  return "problem" in decoding ? decoding.problem : undefined;
}

test("types 0, 1, 2 and 4 decode to their hash, sender, fees and needed balance", () => {
  const fees = { maxFeePerGas: 7n * GWEI, maxPriorityFeePerGas: 2n * GWEI };
  const shared = { chainId: CHAIN_ID, nonce: 3n, to, value: 5n, gasLimit: 60_000n } as const;
  const authorization = {
    chainId: `0x${CHAIN_ID.toString(16)}`,
    address: to,
    nonce: "0x0",
    yParity: "0x0",
    r: "0x1",
    s: "0x1",
  } as const;
  for (const raw of [
    signedAs(from, { ...shared, type: 2, ...fees }),
    signedAs(from, { ...shared, type: 4, ...fees, authorizationList: [authorization] }),
  ]) {
    const decoding = decoder.decode(raw);
    assert.ok("transaction" in decoding);
    const { facts } = decoding.transaction;
    assert.deepEqual([facts.hash, facts.sender, facts.nonce], [keccak256(raw), from.address, 3n]);
    assert.deepEqual([facts.maxFeePerGas, facts.maxPriorityFeePerGas], [7n * GWEI, 2n * GWEI]);
    assert.equal(facts.balanceNeeded, 5n + 60_000n * 7n * GWEI);
  }
  for (const raw of [signedAs(from, legacy), signedAs(from, { ...legacy, type: 1, chainId: CHAIN_ID })]) {
    const decoding = decoder.decode(raw);
    assert.ok("transaction" in decoding);
    const { facts } = decoding.transaction;
    assert.deepEqual([facts.sender, facts.maxFeePerGas, facts.maxPriorityFeePerGas], [from.address, 9n, 9n]);
    assert.equal(facts.minimumGas, 21_000n);
  }
});

test("another chain's transaction is told from one that is no transaction", () => {
  assert.equal(problem(signed({ from, nonce: 0n, chainId: CHAIN_ID + 1n })), "wrong-chain");
  assert.equal(problem(new Uint8Array()), "undecodable");
  assert.equal(problem(new Uint8Array([0x02])), "undecodable");
  assert.equal(problem(RLP.encode([1, 2, 3])), "undecodable");
  assert.equal(problem(signed({ from, nonce: 0n }).slice(0, -1)), "undecodable");
  assert.equal(problem(concat(signed({ from, nonce: 0n }), new Uint8Array(1))), "undecodable");
});

test("blob transactions and unknown types are refused by type", () => {
  const raw = signed({ from, nonce: 0n });
  for (const type of [0x00, 0x03, 0x05, 0x7e, 0x7f]) {
    assert.equal(problem(concat(new Uint8Array([type]), raw.subarray(1))), "unsupported-type");
  }
});

test("a signature with the upper half of s, or over other fields, is not this sender's", () => {
  const raw = signed({ from, nonce: 0n });
  const fields = RLP.decode(raw.subarray(1));
  assert.ok(Array.isArray(fields));
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const s = BigInt(`0x${toHex(fields[11] as Uint8Array)}`);
  const malleated = [...fields.slice(0, 11), order - s];
  assert.equal(problem(concat(new Uint8Array([2]), RLP.encode(malleated))), "undecodable");
  const dearer = [...fields.slice(0, 6), 2n, ...fields.slice(7)];
  const decoding = decoder.decode(concat(new Uint8Array([2]), RLP.encode(dearer)));
  if ("transaction" in decoding) assert.notDeepEqual(decoding.transaction.facts.sender, from.address);
});

test("whatever the bytes, decoding ends in a transaction or a reason", () => {
  const raw = signed({ from, nonce: 0n });
  fc.assert(
    fc.property(fc.nat(raw.length - 1), fc.nat(255), (at, byte) => {
      const damaged = raw.slice();
      damaged[at] = byte;
      const decoding = decoder.decode(damaged);
      if ("transaction" in decoding) assert.deepEqual(decoding.transaction.facts.hash, keccak256(damaged));
      else assert.match(decoding.problem, /^(undecodable|unsupported-type|wrong-chain)$/);
    }),
    { numRuns: 60 },
  );
});

test("the same bytes are decoded once", async () => {
  const raws = [0n, 1n, 2n].map((nonce) => signed({ from: wallet(2), nonce }));
  await decoder.prepare(raws);
  for (const raw of raws) assert.equal(decoder.decode(raw), decoder.decode(raw.slice()));
});
