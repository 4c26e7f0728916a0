/**
 * The one KZG operation that executing a block needs: checking a proof that a committed polynomial has the value y at
 * z (EIP-4844, point evaluation precompile). Blobs themselves never reach us: blob transactions are executed where
 * they come with a block, and not built with.
 */
import type { KZG } from "@ethereumjs/util";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { bls12_381 } from "@noble/curves/bls12-381.js";

/** [τ]G2 of the KZG ceremony: `g2_monomial[1]` of the consensus specs' trusted setup. */
const TAU_G2 =
  "b5bfd7dd8cdeb128843bc287230af38926187075cbfbefa81009a2ce615ac53d2914e5870cb452d2afaaab24f3499f72" +
  "185cbfee53492714734429b7b38608e23926c911cceceac9a36851477ba4c60b087041de621000edc98edada20c1def2";

const G1 = bls12_381.G1.Point;
const G2 = bls12_381.G2.Point;
const { Fp12, Fr } = bls12_381.fields;

/** What ethereumjs takes for "these arguments cannot be a proof". */
const MALFORMED = "C_KZG_BADARGS";

/**
 * e(C − [y]G1, G2) = e(proof, [τ]G2 − [z]G2). All arguments 0x-hex: points 48 bytes compressed, scalars 32 bytes.
 * @throws Error C_KZG_BADARGS for points outside the subgroup and scalars not below the group order
 */
export function verifyPointProof(commitment: string, z: string, y: string, proof: string): boolean {
  const left = point(commitment).add(times(G1.BASE, scalar(y)).negate());
  const right = G2.fromHex(TAU_G2).add(times(G2.BASE, scalar(z)).negate());
  const product = bls12_381.pairingBatch(
    [
      { g1: left, g2: G2.BASE },
      { g1: point(proof).negate(), g2: right },
    ].filter(({ g1, g2 }) => !g1.is0() && !g2.is0()),
  );
  return Fp12.eql(product, Fp12.ONE);
}

function point(hex: string) {
  try {
    const parsed = G1.fromBytes(fromHex(hex));
    parsed.assertValidity();
    return parsed;
  } catch (error) {
    // The point at infinity is a valid commitment: of the zero polynomial.
    if (/^0xc0(?:00){47}$/.test(hex)) return G1.ZERO;
    throw new Error(MALFORMED, { cause: error });
  }
}

function scalar(hex: string): bigint {
  const value = BigInt(hex);
  if (value >= Fr.ORDER) throw new Error(MALFORMED);
  return value;
}

/** `multiply` refuses zero. Everything here is public, so the fast way is right. */
function times<P extends { multiplyUnsafe(by: bigint): P }>(base: P, by: bigint): P {
  return base.multiplyUnsafe(by);
}

function notHere(): never {
  throw new Error("blobs are not handled by atelier");
}

/** For ethereumjs' `customCrypto`. */
export const KZG_FOR_EXECUTION: KZG = {
  verifyProof: verifyPointProof,
  blobToKzgCommitment: notHere,
  computeBlobProof: notHere,
  verifyBlobProofBatch: notHere,
  computeCells: notHere,
  computeCellsAndProofs: notHere,
  recoverCellsAndProofs: notHere,
  verifyCellKzgProofBatch: notHere,
};
