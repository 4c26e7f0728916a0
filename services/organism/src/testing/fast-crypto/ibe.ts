/** Stands in for `crypto/ibe.ts` in simulations: the same construction over the easy group, hashes for the cipher. */
import { concat } from "../../codec/codec.ts";
import { decodePoint, digest, encodePoint, mod, scalarOf } from "./group.ts";
import { identityPoint, SUITES, type Suite } from "./identity-key.ts";

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
const V_AT = 49;
const BODY_AT = V_AT + SIGMA_BYTES;
const TAG_BYTES = 16;
export const IBE_OVERHEAD_BYTES = BODY_AT + TAG_BYTES;

export type IbeFailure = "malformed" | "undecryptable" | "inconsistent";
export type IbeOpened = { readonly content: Uint8Array; readonly sigma: Uint8Array } | { readonly failure: IbeFailure };

export interface IbeAddress {
  readonly suite: Suite;
  readonly sealingKey: Uint8Array;
  readonly identity: Uint8Array;
}

function xor(text: Uint8Array, pad: Uint8Array): Uint8Array {
  const out = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) out[at] = (text[at] ?? 0) ^ (pad[at & 31] ?? 0);
  return out;
}

function mask(shared: bigint, sigma: Uint8Array): Uint8Array {
  return xor(sigma, digest("ibe/h2", shared.toString(16)));
}

function bodyOf(sigma: Uint8Array, aad: Uint8Array, content: Uint8Array): Uint8Array {
  return concat(xor(content, digest("ibe/pad", sigma)), digest("ibe/tag", sigma, aad, content).subarray(0, TAG_BYTES));
}

function openBody(sigma: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
  const content = xor(sealed.subarray(BODY_AT, sealed.length - TAG_BYTES), digest("ibe/pad", sigma));
  const tag = digest("ibe/tag", sigma, aad, content).subarray(0, TAG_BYTES);
  return Buffer.compare(tag, sealed.subarray(sealed.length - TAG_BYTES)) === 0 ? content : undefined;
}

const wellFormed = (sealed: Uint8Array): boolean => sealed.length >= IBE_OVERHEAD_BYTES && sealed[0] === IBE_VERSION;

/** e(sealing key, H(identity)). */
function target({ suite, sealingKey, identity }: IbeAddress): bigint {
  const key = decodePoint(48, sealingKey);
  if (key === undefined) throw new RangeError("sealing key: a point of G1 expected");
  return mod(key * identityPoint(SUITES[suite], identity));
}

export function sealIbe(
  options: IbeAddress & {
    readonly aad: Uint8Array;
    readonly content: Uint8Array;
    readonly random: (count: number) => Uint8Array;
  },
): Uint8Array {
  const { aad, content, random } = options;
  const sigma = random(SIGMA_BYTES);
  const exponent = scalarOf("ibe/h3", sigma, aad, content);
  return concat(
    Uint8Array.of(IBE_VERSION),
    encodePoint(48, exponent),
    mask(mod(target(options) * exponent), sigma),
    bodyOf(sigma, aad, content),
  );
}

export function openIbe(options: {
  readonly identityKey: Uint8Array;
  readonly aad: Uint8Array;
  readonly sealed: Uint8Array;
}): IbeOpened {
  const { identityKey, aad, sealed } = options;
  const key = decodePoint(96, identityKey);
  if (key === undefined) throw new RangeError("identity key: a point of G2 expected");
  if (!wellFormed(sealed)) return { failure: "malformed" };
  const head = decodePoint(48, sealed.subarray(1, V_AT));
  if (head === undefined) return { failure: "malformed" };
  const sigma = mask(mod(head * key), sealed.subarray(V_AT, BODY_AT));
  const content = openBody(sigma, aad, sealed);
  if (content === undefined) return { failure: "undecryptable" };
  if (scalarOf("ibe/h3", sigma, aad, content) !== head) return { failure: "inconsistent" };
  return { content, sigma };
}

export function openWithSigma(
  options: IbeAddress & { readonly aad: Uint8Array; readonly sigma: Uint8Array; readonly sealed: Uint8Array },
): { readonly content: Uint8Array } | { readonly failure: IbeFailure } {
  const { aad, sigma, sealed } = options;
  const base = target(options);
  if (!wellFormed(sealed) || sigma.length !== SIGMA_BYTES) return { failure: "malformed" };
  const content = openBody(sigma, aad, sealed);
  if (content === undefined) return { failure: "undecryptable" };
  const exponent = scalarOf("ibe/h3", sigma, aad, content);
  const consistent =
    decodePoint(48, sealed.subarray(1, V_AT)) === exponent &&
    Buffer.compare(mask(mod(base * exponent), sigma), sealed.subarray(V_AT, BODY_AT)) === 0;
  return consistent ? { content } : { failure: "inconsistent" };
}
