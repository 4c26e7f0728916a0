/** For tests: encodings that a parser must refuse although each of them describes a point. */
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { numberToBytesBE } from "@noble/curves/utils.js";

const { Fp, Fp2 } = bls12_381.fields;
const COMPRESSED = 0x80;

function infinity(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes[0] = 0xc0;
  return bytes;
}
export const INFINITY_G1: Uint8Array = infinity(48);
export const INFINITY_G2: Uint8Array = infinity(96);

/** On the curve of G1 (x = 4, y² = 68), outside the subgroup. */
export function strayG1(): Uint8Array {
  Fp.sqrt(68n);
  return flagged(numberToBytesBE(4n, 48));
}

/** On the curve of G2 with the smallest x in the base field that has a y; outside the subgroup. */
export function strayG2(): Uint8Array {
  const b = Fp2.fromBigTuple([4n, 4n]);
  for (let x = 1n; x < 100n; x++) {
    const u = Fp2.fromBigTuple([x, 0n]);
    try {
      Fp2.sqrt(Fp2.add(Fp2.mul(Fp2.sqr(u), u), b));
    } catch {
      continue;
    }
    const bytes = new Uint8Array(96);
    bytes.set(numberToBytesBE(x, 48), 48);
    return flagged(bytes);
  }
  throw new Error("no point found");
}

function flagged(bytes: Uint8Array): Uint8Array {
  bytes[0] = (bytes[0] ?? 0) | COMPRESSED;
  return bytes;
}
