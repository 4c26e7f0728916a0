/** What the sealing needs of pairings, so that two engines can be held against each other. Bytes at every border. */

/** GT elements as bytes: twelve 48-byte big-endian words in kilic's and drand's order (highest coefficient first). */
export const GT_BYTES = 576;

export interface PairingEngine {
  readonly name: "mcl" | "noble";
  /** e(sealing key, H(identity)), ready for many powers; undefined when the 48-byte key is not a point of G1. */
  target(sealingKey: Uint8Array, dst: string, identity: Uint8Array): GtBase | undefined;
  /** A 96-byte identity key, ready for many pairings; undefined when it is not a point of G2. */
  identityKey(key: Uint8Array): IdentityPairing | undefined;
  /** The generator of G1 times a scalar other than 0, 48 bytes. */
  timesGenerator(scalar: bigint): Uint8Array;
}

export interface GtBase {
  /** 576 bytes. */
  pow(scalar: bigint): Uint8Array;
}

export interface IdentityPairing {
  /** e(head, key), 576 bytes; undefined when the 48-byte head is not a point of G1 other than infinity. */
  pair(head: Uint8Array): Uint8Array | undefined;
  /** Frees what the engine holds outside the JavaScript heap; not usable afterwards. */
  free(): void;
}
