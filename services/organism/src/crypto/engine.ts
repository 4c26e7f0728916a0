/**
 * The fast pairing engine, mcl-wasm: for public data, where secrets are touched once or blinded (docs/cryptography.md).
 * It loads asynchronously, once a thread; after `initCrypto` every call of this folder is synchronous.
 *
 * What is set here is global to the module: Ethereum's point encoding and RFC 9380's map to the curve. Points are
 * parsed by blst, which checks membership of the group; mcl only ever sees the coordinates of a checked point (and
 * would check by itself). mcl's `GT.deserialize` accepts garbage and is used nowhere.
 */
import { PublicKey, Signature } from "@chainsafe/blst";
import type { Fp, Fp2, G1, G2 } from "mcl-wasm";
import mcl from "mcl-wasm";

/** mcl's name for the map of RFC 9380 (SSWU, the final suites). */
const MAP_RFC9380 = 5;
const FP_BYTES = 48;

let loading: Promise<void> | undefined;
let loaded = false;

/** Loads the wasm engine; every further call gives the same promise. Must have resolved before pairings are used. */
export function initCrypto(): Promise<void> {
  loading ??= (async () => {
    await mcl.init(mcl.BLS12_381);
    mcl.setETHserialization(true);
    mcl.setMapToMode(MAP_RFC9380);
    mcl.verifyOrderG1(true);
    mcl.verifyOrderG2(true);
    loaded = true;
  })();
  return loading;
}

/** The engine. @throws Error before `initCrypto` has resolved */
export function fastEngine(): typeof mcl {
  if (!loaded) throw new Error("await initCrypto() before any pairing");
  return mcl;
}

/** A point of G1 other than infinity from its 48 bytes; undefined for anything else. */
export function parseG1(bytes: Uint8Array): G1 | undefined {
  if (bytes.length !== 48) return undefined;
  const affine = uncompressed(() => PublicKey.fromBytes(bytes, true).toBytes(false));
  if (affine === undefined) return undefined;
  const point = new (fastEngine().G1)();
  point.setX(fpFrom(affine, 0));
  point.setY(fpFrom(affine, 1));
  point.setZ(fpOf(1));
  return point;
}

/** A point of G2 other than infinity from its 96 bytes; undefined for anything else. */
export function parseG2(bytes: Uint8Array): G2 | undefined {
  if (bytes.length !== 96) return undefined;
  const affine = uncompressed(() => Signature.fromBytes(bytes, true, true).toBytes(false));
  if (affine === undefined) return undefined;
  const point = new (fastEngine().G2)();
  point.setX(fp2From(affine, 0));
  point.setY(fp2From(affine, 1));
  const z = new (fastEngine().Fp2)();
  z.setInt(1, 0);
  point.setZ(z);
  return point;
}

/** blst decompresses and checks infinity and membership five times as fast as mcl; it throws on anything wrong. */
function uncompressed(parse: () => Uint8Array): Uint8Array | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

/** The field element in 48 big-endian bytes at `index`. */
function fpFrom(bytes: Uint8Array, index: number): Fp {
  const element = new (fastEngine().Fp)();
  element.deserialize(bytes.subarray(index * FP_BYTES, (index + 1) * FP_BYTES));
  return element;
}

/** Two of them, the imaginary part first. */
function fp2From(bytes: Uint8Array, index: number): Fp2 {
  const element = new (fastEngine().Fp2)();
  element.set_b(fpFrom(bytes, 2 * index));
  element.set_a(fpFrom(bytes, 2 * index + 1));
  return element;
}

function fpOf(value: number): Fp {
  const element = new (fastEngine().Fp)();
  element.setInt(value);
  return element;
}
