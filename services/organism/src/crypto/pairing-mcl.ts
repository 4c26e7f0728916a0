/** The fast pairing engine behind the sealing: mcl-wasm for pairings and GT, blst for G1 (`initCrypto` first). */

import type { Fr, GT } from "mcl-wasm";
import { blsPublicKey } from "./bls.ts";
import { fastEngine, parseG1, parseG2 } from "./engine.ts";
import { hashToG2 } from "./hash-to-curve.ts";
import { GT_BYTES, type GtBase, type IdentityPairing, type PairingEngine } from "./pairing-engine.ts";
import { scalarToBytes } from "./scalar.ts";

const FP2_BYTES = 96;

function scalarOf(value: bigint): Fr {
  const scalar = new (fastEngine().Fr)();
  scalar.setBigEndianMod(scalarToBytes(value));
  return scalar;
}

/** mcl writes the six Fp2 chunks lowest first; kilic and drand highest first. Inside a chunk both agree. */
function gtBytes(element: GT): Uint8Array {
  const lowestFirst = element.serialize();
  const out = new Uint8Array(GT_BYTES);
  for (let at = 0; at < GT_BYTES; at += FP2_BYTES) {
    out.set(lowestFirst.subarray(at, at + FP2_BYTES), GT_BYTES - FP2_BYTES - at);
  }
  return out;
}

export const MCL_PAIRINGS: PairingEngine = {
  name: "mcl",
  target(sealingKey, dst, identity): GtBase | undefined {
    const mcl = fastEngine();
    const key = parseG1(sealingKey);
    if (key === undefined) return undefined;
    const base = mcl.pairing(key, hashToG2(identity, dst));
    return { pow: (scalar) => gtBytes(mcl.pow(base, scalarOf(scalar))) };
  },
  identityKey(key): IdentityPairing | undefined {
    const mcl = fastEngine();
    const point = parseG2(key);
    if (point === undefined) return undefined;
    const lines = new mcl.PrecomputedG2(point);
    return {
      pair(head) {
        const parsed = parseG1(head);
        return parsed && gtBytes(mcl.finalExp(mcl.precomputedMillerLoop(parsed, lines)));
      },
      free: () => lines.destroy(),
    };
  },
  // blst's secret-to-public-key is this very product, in constant time.
  timesGenerator: (scalar) => blsPublicKey(scalarToBytes(scalar)),
};
