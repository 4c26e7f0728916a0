import assert from "node:assert/strict";
import test from "node:test";
import { decode, encode, tryDecode } from "@lattice/organism/codec/codec.ts";
import { TypedDataEncoder, verifyTypedData, Wallet } from "ethers";
import fc from "fast-check";
import { hashTypedData } from "viem";
import { signDigest, testKey, testKeys } from "../../test/keys.ts";
import { attestationArgument, hex, roleArgument } from "../contract/settlement-call.ts";
import {
  ATTESTATION,
  type Attestation,
  assembleSignatures,
  attestationDigest,
  judgeSignatures,
  paymentDigest,
  rotationDigest,
  SIGNER_ROLES,
  settlementDomain,
} from "./attestation.ts";

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const amount = fc.bigInt({ min: 0n, max: (1n << 256n) - 1n });
const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const anyAttestation: fc.Arbitrary<Attestation> = fc.record({
  latticeId: bytesOf(32),
  batch: u64,
  lastBlockNumber: u64,
  lastBlockHash: bytesOf(32),
  root: bytesOf(32),
  total: amount,
  charges: fc.array(fc.record({ bidId: bytesOf(32), account: bytesOf(20), wei: amount }), { maxLength: 4 }),
  poster: bytesOf(20),
  posterReimbursement: amount,
});

const TYPES = {
  Attestation: [
    { name: "latticeId", type: "bytes32" },
    { name: "batch", type: "uint64" },
    { name: "lastBlockNumber", type: "uint64" },
    { name: "lastBlockHash", type: "bytes32" },
    { name: "root", type: "bytes32" },
    { name: "total", type: "uint256" },
    { name: "charges", type: "Charge[]" },
    { name: "poster", type: "address" },
    { name: "posterReimbursement", type: "uint256" },
  ],
  Charge: [
    { name: "bidId", type: "bytes32" },
    { name: "account", type: "address" },
    { name: "amount", type: "uint256" },
  ],
};
const PAYMENT = {
  Payment: [
    { name: "latticeId", type: "bytes32" },
    { name: "slot", type: "uint64" },
    { name: "parentHash", type: "bytes32" },
    { name: "recipient", type: "address" },
    { name: "cap", type: "uint256" },
  ],
};
const ROTATION = {
  RotateSigners: [
    { name: "latticeId", type: "bytes32" },
    { name: "role", type: "uint8" },
    { name: "nonce", type: "uint64" },
    { name: "signers", type: "address[]" },
    { name: "threshold", type: "uint64" },
  ],
};

function oracleDomain(chainId: bigint, settlement: Uint8Array) {
  return { name: "Lattice Settlement", version: "1", chainId, verifyingContract: hex(settlement) };
}

/** viem and ethers must agree with us and with each other. */
function assertSameDigest(
  ours: Uint8Array,
  domain: ReturnType<typeof oracleDomain>,
  types: Record<string, { name: string; type: string }[]>,
  primaryType: string,
  message: Record<string, unknown>,
): void {
  assert.equal(hex(ours), hashTypedData({ domain, types, primaryType, message }));
  assert.equal(hex(ours), TypedDataEncoder.hash(domain, types, message));
}

test("digests equal viem's and ethers'", () => {
  fc.assert(
    fc.property(anyAttestation, u64, bytesOf(20), (attestation, chainId, settlement) => {
      const domain = settlementDomain(chainId, settlement);
      const oracle = oracleDomain(chainId, settlement);
      const digest = attestationDigest(domain, attestation);
      assertSameDigest(digest, oracle, TYPES, "Attestation", attestationArgument(attestation));

      const payment = {
        latticeId: attestation.latticeId,
        slot: attestation.batch,
        parentHash: attestation.root,
        recipient: settlement,
        cap: attestation.total,
      };
      assertSameDigest(paymentDigest(domain, payment), oracle, PAYMENT, "Payment", {
        ...payment,
        latticeId: hex(payment.latticeId),
        parentHash: hex(payment.parentHash),
        recipient: hex(payment.recipient),
      });

      const signers = attestation.charges.map((charge) => charge.account);
      for (const role of SIGNER_ROLES) {
        const rotation = { latticeId: attestation.latticeId, role, nonce: attestation.batch, signers, threshold: 2 };
        assertSameDigest(rotationDigest(domain, rotation), oracle, ROTATION, "RotateSigners", {
          latticeId: hex(attestation.latticeId),
          role: roleArgument(role),
          nonce: attestation.batch,
          signers: signers.map(hex),
          threshold: 2n,
        });
      }
    }),
    { numRuns: 60 },
  );
});

const SETTLEMENT = testKey("settlement").address;
const DOMAIN = settlementDomain(31337n, SETTLEMENT);
const ATTESTED: Attestation = {
  latticeId: new Uint8Array(32).fill(7),
  batch: 1n,
  lastBlockNumber: 12n,
  lastBlockHash: new Uint8Array(32).fill(8),
  root: new Uint8Array(32).fill(9),
  total: 10n ** 18n,
  charges: [{ bidId: new Uint8Array(32).fill(1), account: testKey("searcher").address, wei: 5n }],
  poster: testKey("poster").address,
  posterReimbursement: 3n,
};

test("every field of the attestation, the chain and the contract change the digest", () => {
  const digest = hex(attestationDigest(DOMAIN, ATTESTED));
  const changed: Attestation[] = [
    { ...ATTESTED, latticeId: new Uint8Array(32) },
    { ...ATTESTED, batch: 2n },
    { ...ATTESTED, lastBlockNumber: 13n },
    { ...ATTESTED, lastBlockHash: new Uint8Array(32) },
    { ...ATTESTED, root: new Uint8Array(32) },
    { ...ATTESTED, total: 0n },
    { ...ATTESTED, charges: [] },
    { ...ATTESTED, charges: [...ATTESTED.charges, ...ATTESTED.charges] },
    { ...ATTESTED, poster: new Uint8Array(20) },
    { ...ATTESTED, posterReimbursement: 4n },
  ];
  for (const other of changed) assert.notEqual(hex(attestationDigest(DOMAIN, other)), digest);
  assert.notEqual(hex(attestationDigest(settlementDomain(1n, SETTLEMENT), ATTESTED)), digest);
  assert.notEqual(hex(attestationDigest(settlementDomain(31337n, new Uint8Array(20)), ATTESTED)), digest);
});

test("the canonical encoding is one value's and no other", () => {
  fc.assert(
    fc.property(anyAttestation, (attestation) => {
      const bytes = encode(ATTESTATION, attestation);
      assert.deepEqual(encode(ATTESTATION, decode(ATTESTATION, bytes)), bytes);
      assert.equal(tryDecode(ATTESTATION, bytes.subarray(1)), undefined);
    }),
  );
});

test("signatures: ours are ordinary Ethereum signatures", async () => {
  const [key] = testKeys("member", 1);
  assert.ok(key !== undefined);
  const wallet = new Wallet(hex(key.secret));
  const domain = oracleDomain(31337n, SETTLEMENT);
  const ours = hex(signDigest(key, attestationDigest(DOMAIN, ATTESTED)));
  assert.equal(await wallet.signTypedData(domain, TYPES, attestationArgument(ATTESTED)), ours);
  assert.equal(verifyTypedData(domain, TYPES, attestationArgument(ATTESTED), ours).toLowerCase(), hex(key.address));
});

test("the quorum rule, and the nearest signatures it refuses", () => {
  const keys = testKeys("member", 4);
  const set = { signers: keys.map((key) => key.address), threshold: 3 };
  const digest = attestationDigest(DOMAIN, ATTESTED);
  const all = keys.map((key) => signDigest(key, digest));
  const [a, b, c, d] = all;
  assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
  const reasonOf = (signatures: readonly Uint8Array[], over = digest): string => {
    const judged = judgeSignatures(over, signatures, set);
    return judged.ok ? "ok" : judged.reason;
  };

  assert.equal(reasonOf([a, b, c]), "ok");
  assert.equal(reasonOf(all), "ok");
  assert.equal(reasonOf([a, b]), "BELOW_THRESHOLD");
  assert.equal(reasonOf([a, a, b]), "NOT_ASCENDING");
  assert.equal(reasonOf([b, a, c]), "NOT_ASCENDING");
  assert.equal(reasonOf([a, b, signDigest(testKey("stranger"), digest)]), "UNKNOWN_SIGNER");
  assert.equal(reasonOf([a, b, c], attestationDigest(DOMAIN, { ...ATTESTED, batch: 2n })), "UNKNOWN_SIGNER");
  assert.equal(reasonOf([a, b, c.subarray(0, 64)]), "BAD_SIGNATURE");
  assert.equal(reasonOf([a, b, c.with(64, 29)]), "BAD_SIGNATURE");
  assert.equal(reasonOf([a, b, new Uint8Array(65).fill(0).with(64, 27)]), "BAD_SIGNATURE");
  assert.equal(reasonOf([a, b, malleated(c)]), "BAD_SIGNATURE");

  const assembled = assembleSignatures(digest, [d, c, new Uint8Array(3), c, signDigest(testKey("x"), digest), a], set);
  assert.deepEqual(assembled, [a, c, d]);
  assert.equal(assembleSignatures(digest, [d, c, c], set), undefined);
});

/** The same signature with s' = n − s and v flipped: valid mathematics, refused by EIP-2's rule. */
function malleated(signature: Uint8Array): Uint8Array {
  const n = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const s = BigInt(hex(signature.subarray(32, 64)));
  const other = Buffer.from((n - s).toString(16).padStart(64, "0"), "hex");
  const twin = signature.slice();
  twin.set(other, 32);
  return twin.with(64, signature[64] === 27 ? 28 : 27);
}
