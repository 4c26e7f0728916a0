/**
 * Sealing to an identity: Boneh–Franklin identity-based encryption (CRYPTO 2001) on BLS12-381, made secure against
 * chosen ciphertexts by the transform of Fujisaki and Okamoto (CRYPTO 1999) with AES-256-GCM as its symmetric half.
 *
 *   sealing key P = s·G in G1 · identity key K = s·H(identity) in G2
 *   σ = 32 fresh random bytes · r = H3(σ, aad, content)
 *   U = r·G · V = σ ⊕ H2(e(P, H(identity))^r) · body = AES-256-GCM under H4(σ), associated data aad
 *   sealed = 1 ‖ U (48) ‖ V (32) ‖ body (content + 16)
 *
 * Whoever opens recomputes r from what came out and compares U, so one ciphertext opens to one content, and nothing
 * that was changed, moved to another identity or given another aad opens at all.
 *
 *   H2 = SHA-256(u32 length ‖ "lattice/ibe/h2/v1" ‖ GT as 576 bytes)
 *   H3 = hash_to_field (RFC 9380 §5.2, L = 48, SHA-256) of σ ‖ u32 length of aad ‖ aad ‖ content, into the scalars
 *   H4 = HKDF-SHA256(salt = "", σ, info = "lattice/ibe/h4/v1") → 32 bytes key ‖ 12 bytes nonce; σ is used once
 *
 * `initCrypto` must have resolved. The fast engine is the default; the reference engine gives the same bytes.
 */
import { createHash } from "node:crypto";
import { concat } from "../codec/codec.ts";
import { BoundedCache } from "./bounded-cache.ts";
import { tagged } from "./ed25519.ts";
import { hashToScalar } from "./hash-to-curve.ts";
import { hkdf } from "./hkdf.ts";
import { GCM_TAG_BYTES, gcmOpen, gcmSeal } from "./hpke.ts";
import { SEALING_KEY_BYTES, SUITES, type Suite } from "./identity-key.ts";
import type { GtBase, IdentityPairing, PairingEngine } from "./pairing-engine.ts";
import { MCL_PAIRINGS } from "./pairing-mcl.ts";

export {
  combineIdentityKey,
  IDENTITY_KEY_BYTES,
  identityShare,
  SEALING_KEY_BYTES,
  SUITES,
  type Suite,
  verifyIdentityKey,
  verifyIdentityShare,
} from "./identity-key.ts";

export const IBE_VERSION = 1;
export const SIGMA_BYTES = 32;
const HEAD_BYTES = 48;
const V_AT = 1 + HEAD_BYTES;
const BODY_AT = V_AT + SIGMA_BYTES;
/** What sealing adds to a content: version, U, V, tag. */
export const IBE_OVERHEAD_BYTES = BODY_AT + GCM_TAG_BYTES;

const H2_TAG = "lattice/ibe/h2/v1";
const H3_DST = "LATTICE-IBE-H3-V1_XMD:SHA-256_BLS12381-SCALAR_";
const H4_INFO = Buffer.from("lattice/ibe/h4/v1");
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const EMPTY = new Uint8Array(0);

/**
 * Why a ciphertext holds nothing. `malformed`: length, version, or U is no point of the group other than infinity.
 * `undecryptable`: the tag does not match (other identity, aad or key, or changed bytes). `inconsistent`: the body
 * opens, but U or V is not what an honest sender makes of it. All members find the same reason.
 */
export type IbeFailure = "malformed" | "undecryptable" | "inconsistent";
/** `sigma` lets anybody else open the same ciphertext without the identity key: `openWithSigma`. */
export type IbeOpened = { readonly content: Uint8Array; readonly sigma: Uint8Array } | { readonly failure: IbeFailure };

/** Whom something is sealed to. */
export interface IbeAddress {
  readonly suite: Suite;
  /** 48 bytes, the committee's. */
  readonly sealingKey: Uint8Array;
  readonly identity: Uint8Array;
}

const TARGETS = new BoundedCache<GtBase>(1024);
const OPENERS = new BoundedCache<IdentityPairing>(64, (opener) => opener.free());

/** @throws RangeError when the sealing key is not a point of G1 other than infinity */
function targetOf({ suite, sealingKey, identity }: IbeAddress, engine: PairingEngine): GtBase {
  const name = concat(Buffer.from(`${engine.name}\0${suite}\0`), sealingKey, identity);
  return TARGETS.getOrMake(name, () => {
    const target = sealingKey.length === SEALING_KEY_BYTES && engine.target(sealingKey, SUITES[suite], identity);
    if (!target) throw new RangeError("sealing key: a point of G1 expected");
    return target;
  });
}

function mask(shared: Uint8Array, value: Uint8Array): Uint8Array {
  const pad = createHash("sha256").update(tagged(H2_TAG, shared)).digest();
  return Uint8Array.from(value, (byte, at) => byte ^ (pad[at] ?? 0));
}

function exponentOf(sigma: Uint8Array, aad: Uint8Array, content: Uint8Array): bigint {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(aad.length);
  return hashToScalar([sigma, length, aad, content], H3_DST);
}

function bodyKey(sigma: Uint8Array): { key: Uint8Array; nonce: Uint8Array } {
  const output = hkdf(EMPTY, sigma, H4_INFO, KEY_BYTES + NONCE_BYTES);
  return { key: output.subarray(0, KEY_BYTES), nonce: output.subarray(KEY_BYTES) };
}

function openBody(sigma: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
  const { key, nonce } = bodyKey(sigma);
  return gcmOpen("aes-256-gcm", key, nonce, aad, sealed.subarray(BODY_AT));
}

/** Is U = r·G for the r that these belong to? */
function headMatches(
  sigma: Uint8Array,
  aad: Uint8Array,
  content: Uint8Array,
  sealed: Uint8Array,
  engine: PairingEngine,
): bigint | undefined {
  const exponent = exponentOf(sigma, aad, content);
  if (exponent === 0n) return undefined;
  const head = engine.timesGenerator(exponent);
  return Buffer.compare(head, sealed.subarray(1, V_AT)) === 0 ? exponent : undefined;
}

const wellFormed = (sealed: Uint8Array): boolean => sealed.length >= IBE_OVERHEAD_BYTES && sealed[0] === IBE_VERSION;

/**
 * Seals `content` so that only the key of `identity` opens it; 97 bytes longer than the content. `aad` must be the
 * same when opening. `random` gives the 32 bytes of σ. @throws RangeError when the sealing key is no point of G1
 */
export function sealIbe(
  options: IbeAddress & {
    readonly aad: Uint8Array;
    readonly content: Uint8Array;
    readonly random: (count: number) => Uint8Array;
  },
  engine: PairingEngine = MCL_PAIRINGS,
): Uint8Array {
  const { aad, content, random } = options;
  const target = targetOf(options, engine);
  for (;;) {
    const sigma = random(SIGMA_BYTES);
    if (sigma.length !== SIGMA_BYTES) throw new RangeError("random gave another number of bytes");
    const exponent = exponentOf(sigma, aad, content);
    if (exponent === 0n) continue;
    const { key, nonce } = bodyKey(sigma);
    return concat(
      Uint8Array.of(IBE_VERSION),
      engine.timesGenerator(exponent),
      mask(target.pow(exponent), sigma),
      gcmSeal("aes-256-gcm", key, nonce, aad, content),
    );
  }
}

/**
 * Opens with a verified identity key. Total in `sealed` and `aad`; the failure is the same on every member.
 * @throws RangeError when the identity key is no point of G2 (it is the caller's to verify, once)
 */
export function openIbe(
  options: {
    /** 96 bytes, checked by `verifyIdentityKey`. */
    readonly identityKey: Uint8Array;
    readonly aad: Uint8Array;
    readonly sealed: Uint8Array;
  },
  engine: PairingEngine = MCL_PAIRINGS,
): IbeOpened {
  const { identityKey, aad, sealed } = options;
  const pairing = OPENERS.getOrMake(concat(Buffer.from(`${engine.name}\0`), identityKey), () => {
    const made = engine.identityKey(identityKey);
    if (made === undefined) throw new RangeError("identity key: a point of G2 expected");
    return made;
  });
  if (!wellFormed(sealed)) return { failure: "malformed" };
  const shared = pairing.pair(sealed.subarray(1, V_AT));
  if (shared === undefined) return { failure: "malformed" };
  const sigma = mask(shared, sealed.subarray(V_AT, BODY_AT));
  const content = openBody(sigma, aad, sealed);
  if (content === undefined) return { failure: "undecryptable" };
  if (headMatches(sigma, aad, content, sealed, engine) === undefined) return { failure: "inconsistent" };
  return { content, sigma };
}

/**
 * Opens with a σ that somebody published, without identity key and without pairing: seals again and compares. A σ
 * can only be right or refused; a refusal says nothing about the ciphertext, for that open it with the key.
 * Total, except @throws RangeError when the sealing key is no point of G1
 */
export function openWithSigma(
  options: IbeAddress & { readonly aad: Uint8Array; readonly sigma: Uint8Array; readonly sealed: Uint8Array },
  engine: PairingEngine = MCL_PAIRINGS,
): { readonly content: Uint8Array } | { readonly failure: IbeFailure } {
  const { aad, sigma, sealed } = options;
  const target = targetOf(options, engine);
  if (!wellFormed(sealed) || sigma.length !== SIGMA_BYTES) return { failure: "malformed" };
  const content = openBody(sigma, aad, sealed);
  if (content === undefined) return { failure: "undecryptable" };
  const exponent = headMatches(sigma, aad, content, sealed, engine);
  if (exponent === undefined) return { failure: "inconsistent" };
  const masked = mask(target.pow(exponent), sigma);
  return Buffer.compare(masked, sealed.subarray(V_AT, BODY_AT)) === 0 ? { content } : { failure: "inconsistent" };
}
