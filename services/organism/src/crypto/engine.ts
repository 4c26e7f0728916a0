/**
 * The fast pairing engine, mcl-wasm: for public data, where secrets are touched once or blinded (docs/cryptography.md).
 * It loads asynchronously, once a thread; after `initCrypto` every call of this folder is synchronous.
 *
 * What is set here is global to the module: Ethereum's point encoding, RFC 9380's map to the curve, and membership
 * checks of both groups whenever a point is parsed. mcl's `GT.deserialize` accepts garbage and is used nowhere.
 */
import type { G1, G2 } from "mcl-wasm";
import mcl from "mcl-wasm";

/** mcl's name for the map of RFC 9380 (SSWU, the final suites). */
const MAP_RFC9380 = 5;
/** Compressed, not the point at infinity: the upper two flag bits (the encoding of the BLS signature draft, §2.4). */
const FLAGS = 0xc0;
const COMPRESSED = 0x80;

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
  if (bytes.length !== 48 || ((bytes[0] ?? 0) & FLAGS) !== COMPRESSED) return undefined;
  return parsed(new (fastEngine().G1)(), bytes);
}

/** A point of G2 other than infinity from its 96 bytes; undefined for anything else. */
export function parseG2(bytes: Uint8Array): G2 | undefined {
  if (bytes.length !== 96 || ((bytes[0] ?? 0) & FLAGS) !== COMPRESSED) return undefined;
  return parsed(new (fastEngine().G2)(), bytes);
}

function parsed<P extends G1 | G2>(point: P, bytes: Uint8Array): P | undefined {
  try {
    point.deserialize(bytes);
  } catch {
    return undefined;
  }
  return point.isZero() ? undefined : point;
}
