/**
 * `UniqueId`: 32 bytes by which everything in a lattice is named, and the two rules that make them.
 * Fixed by design/architecture.md §3; golden vectors in `vectors/identity.json`.
 */
import { type Codec, concat, fixed } from "../codec/codec.ts";
import { blake3, HASH_BYTES } from "../crypto/hash.ts";
import { ORGANISMS, type Organism } from "./organisms.ts";

/** 32 bytes. */
export type UniqueId = Uint8Array;

export const UNIQUE_ID: Codec<UniqueId> = fixed(HASH_BYTES);

const UTF8 = new TextEncoder();

/** id(text) = blake3(text) */
export function id(text: string): UniqueId {
  return blake3(UTF8.encode(text));
}

/** derive(parent, text) = blake3(parent ‖ text) */
export function derive(parent: UniqueId, text: string): UniqueId {
  return blake3(concat(parent, UTF8.encode(text)));
}

/** The universe that every lattice shares. */
export const UNIVERSE: UniqueId = id("mosaik.universe");

/** LATTICE = id("builder|" + name + "|chain=" + chainId) */
export function latticeRoot(name: string, chainId: bigint): UniqueId {
  return id(`builder|${name}|chain=${chainId}`);
}

/** The root of one organism below a lattice root. */
export function organismRoot(lattice: UniqueId, organism: Organism): UniqueId {
  return derive(lattice, organism);
}

/** COMMITTEE(org) = derive(blake3(root ‖ contentFingerprint ‖ aclFingerprint), "committee") */
export function committeeIdOf(root: UniqueId, contentFingerprint: Uint8Array, aclFingerprint: Uint8Array): UniqueId {
  return derive(blake3(concat(root, contentFingerprint, aclFingerprint)), "committee");
}

/** All six roots, in pipeline order. */
export function organismRoots(lattice: UniqueId): ReadonlyMap<Organism, UniqueId> {
  return new Map(ORGANISMS.map((organism) => [organism, organismRoot(lattice, organism)]));
}
