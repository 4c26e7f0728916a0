/**
 * Shares on their way to one receiver, in a public log, so that a bad one can be shown to everybody in one step.
 *
 * Hashed ElGamal over ristretto255 (RFC 9496): one ephemeral point a deal, HKDF-SHA256 of the shared point, AES-256-GCM.
 * A complaint reveals the shared point of one deal and receiver with a Chaum–Pedersen proof (1992) that it is the right one;
 * then anybody opens that box and judges. The receiver's key lives for one attempt of one ceremony and is wiped after
 * it, so recorded boxes open for nobody later. The dealer proves that it knows its ephemeral secret: without that, a
 * corrupt dealer could repeat an honest one's point, provoke a complaint, and have the honest share revealed.
 */
import { createHash } from "node:crypto";
import { ristretto255 } from "@noble/curves/ed25519.js";
import { bytesToNumberLE, numberToBytesLE } from "@noble/curves/utils.js";
import { bytes, concat, encode, equalBytes } from "../codec/codec.ts";
import { tagged } from "../crypto/ed25519.ts";
import { hkdf } from "../crypto/hkdf.ts";
import { GCM_TAG_BYTES, gcmOpen, gcmSeal } from "../crypto/hpke.ts";

const { Point } = ristretto255;
const { Fn } = Point;
type RistrettoPoint = InstanceType<typeof Point>;

export const BOX_POINT_BYTES = 32;
/** Challenge and response, 32 bytes each. */
export const BOX_PROOF_BYTES = 64;
export const BOX_TAG_BYTES = GCM_TAG_BYTES;
/** Uniform bytes that make one scalar. */
export const BOX_SCALAR_WIDE_BYTES = 64;
/** Each key seals one box. */
const NONCE = new Uint8Array(12);

/** A secret of this group; `publicKey` is 32 bytes. */
export interface BoxKey {
  readonly secret: bigint;
  readonly publicKey: Uint8Array;
}

/** The key of 64 uniform bytes. */
export function boxKeyOf(uniform: Uint8Array): BoxKey {
  const secret = boxScalar(uniform);
  return { secret, publicKey: Point.BASE.multiply(secret).toBytes() };
}

/** A scalar other than 0 of 64 uniform bytes (0 has odds of 2^-252). */
export function boxScalar(uniform: Uint8Array): bigint {
  if (uniform.length !== BOX_SCALAR_WIDE_BYTES) throw new RangeError(`${BOX_SCALAR_WIDE_BYTES} uniform bytes expected`);
  const value = Fn.create(bytesToNumberLE(uniform));
  if (value === 0n) throw new RangeError("scalar 0");
  return value;
}

/** Is this a point that a box can be made to: canonical and not the identity? */
export function isBoxPoint(point: Uint8Array): boolean {
  return parse(point) !== undefined;
}

/** The 32-byte shared point of `key` and a peer's point. @throws RangeError when `peer` is not a point */
export function sharedPoint(key: BoxKey, peer: Uint8Array): Uint8Array {
  const point = parse(peer);
  if (point === undefined) throw new RangeError("not a point of ristretto255");
  return point.multiply(key.secret).toBytes();
}

/** The box: as long as the plaintext and 16 bytes more. `context` names ceremony, attempt, dealer and receiver. */
export function sealShares(shared: Uint8Array, context: Uint8Array, plaintext: Uint8Array): Uint8Array {
  return gcmSeal("aes-256-gcm", boxSecret(shared, context), NONCE, context, plaintext);
}

/** The plaintext, or undefined when the box was not sealed with this shared point in this context. */
export function openShares(shared: Uint8Array, context: Uint8Array, box: Uint8Array): Uint8Array | undefined {
  return gcmOpen("aes-256-gcm", boxSecret(shared, context), NONCE, context, box);
}

function boxSecret(shared: Uint8Array, context: Uint8Array): Uint8Array {
  return hkdf(context, shared, Buffer.from("lattice/ceremony/box/v1"), 32);
}

/** Shows knowledge of `key`'s secret (Schnorr 1991). `nonce`: 64 uniform secret bytes, for this statement only. */
export function proveBoxKey(key: BoxKey, context: Uint8Array, nonce: Uint8Array): Uint8Array {
  const k = boxScalar(nonce);
  const challenge = challengeOf("key", [key.publicKey, Point.BASE.multiply(k).toBytes(), context]);
  return proofOf(challenge, Fn.add(k, Fn.mul(challenge, key.secret)));
}

/** Total. */
export function knowsBoxKey(publicKey: Uint8Array, context: Uint8Array, proof: Uint8Array): boolean {
  const point = parse(publicKey);
  const parsed = parseProof(proof);
  if (point === undefined || parsed === undefined) return false;
  const announced = combine(Point.BASE, parsed.response, point, parsed.challenge);
  return challengeOf("key", [publicKey, announced, context]) === parsed.challenge;
}

/**
 * Shows that `shared` is `key.secret · ephemeral` for the secret behind `key.publicKey` (Chaum–Pedersen 1992). `nonce`:
 * 64 uniform secret bytes, for this statement only. @throws RangeError when `ephemeral` is not a point
 */
export function proveShared(key: BoxKey, ephemeral: Uint8Array, context: Uint8Array, nonce: Uint8Array): Uint8Array {
  const point = parse(ephemeral);
  if (point === undefined) throw new RangeError("not a point of ristretto255");
  const k = boxScalar(nonce);
  const shared = point.multiply(key.secret).toBytes();
  const challenge = challengeOf("shared", [
    key.publicKey,
    ephemeral,
    shared,
    Point.BASE.multiply(k).toBytes(),
    point.multiply(k).toBytes(),
    context,
  ]);
  return proofOf(challenge, Fn.add(k, Fn.mul(challenge, key.secret)));
}

/** Total: is `shared` the shared point of `publicKey` and `ephemeral`? */
export function isShared(
  publicKey: Uint8Array,
  ephemeral: Uint8Array,
  shared: Uint8Array,
  context: Uint8Array,
  proof: Uint8Array,
): boolean {
  const [key, point, product] = [parse(publicKey), parse(ephemeral), parse(shared)];
  const parsed = parseProof(proof);
  if (key === undefined || point === undefined || product === undefined || parsed === undefined) return false;
  const { challenge, response } = parsed;
  const again = challengeOf("shared", [
    publicKey,
    ephemeral,
    shared,
    combine(Point.BASE, response, key, challenge),
    combine(point, response, product, challenge),
    context,
  ]);
  return again === challenge;
}

/** response · base − challenge · key, encoded. */
function combine(base: RistrettoPoint, response: bigint, key: RistrettoPoint, challenge: bigint): Uint8Array {
  return base.multiplyUnsafe(response).subtract(key.multiplyUnsafe(challenge)).toBytes();
}

const PART = bytes(4096);

function challengeOf(what: string, parts: readonly Uint8Array[]): bigint {
  const statement = concat(...parts.map((part) => encode(PART, part)));
  const digest = createHash("sha512")
    .update(tagged(`lattice/ceremony/box-${what}/v1`, statement))
    .digest();
  return Fn.create(bytesToNumberLE(digest));
}

function proofOf(challenge: bigint, response: bigint): Uint8Array {
  return concat(numberToBytesLE(challenge, 32), numberToBytesLE(response, 32));
}

/** Canonical scalars only: one proof, one encoding. */
function parseProof(proof: Uint8Array): { readonly challenge: bigint; readonly response: bigint } | undefined {
  if (proof.length !== BOX_PROOF_BYTES) return undefined;
  const challenge = bytesToNumberLE(proof.subarray(0, 32));
  const response = bytesToNumberLE(proof.subarray(32));
  return challenge < Fn.ORDER && response < Fn.ORDER ? { challenge, response } : undefined;
}

function parse(bytesOfPoint: Uint8Array): RistrettoPoint | undefined {
  if (bytesOfPoint.length !== BOX_POINT_BYTES) return undefined;
  try {
    const point = Point.fromBytes(bytesOfPoint);
    return equalBytes(point.toBytes(), Point.ZERO.toBytes()) ? undefined : point;
  } catch {
    return undefined;
  }
}
