/** A server's X25519 key for clients, signed by its operator's pinned root key (protocols.md §1, "Whom the client trusts"). */
import { count, equalBytes, fixed, struct, u64 } from "@lattice/organism/codec/codec.ts";
import { type SigningKey, signTagged, verifyTagged } from "@lattice/organism/crypto/ed25519.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";
import type { ServerKey } from "@lattice/organism/outcomes/zipnet.ts";
import { isAgreementKey } from "./registration.ts";

const TAG = "lattice/zipnet/server-key/v1";
const SIGNED = struct({
  committee: fixed(32),
  member: count,
  key: fixed(32),
  serial: u64,
  fromSlot: u64,
  toSlot: u64,
});

/** The last slot there can be: a server key without an end. */
export const NO_END_SLOT = (1n << 64n) - 1n;

/** H/"lattice/zipnet/server-key/v1"(committee, member, key, serial, range). */
function digestOf(committee: Uint8Array, key: Omit<ServerKey, "operator" | "signature">): Uint8Array {
  return hash(TAG, SIGNED, { committee, ...key });
}

/** @param operator the operator's root key */
export function signServerKey(
  operator: SigningKey,
  committee: Uint8Array,
  key: Omit<ServerKey, "operator" | "signature">,
): ServerKey {
  const signature = signTagged(operator, TAG, digestOf(committee, key));
  return { ...key, operator: operator.publicKey, signature };
}

/** What is wrong with a server key under the pinned operators, in member order. */
export function checkServerKey(
  committee: Uint8Array,
  operators: readonly Uint8Array[],
  key: ServerKey,
): Refusal | undefined {
  const pinned = operators[key.member];
  if (pinned === undefined || !equalBytes(pinned, key.operator)) {
    return refuse("HEADER_OPERATOR", `the operator of server ${key.member} is not the one pinned in the config`);
  }
  if (key.fromSlot > key.toSlot) return refuse("BAD_KEY", "the slot range of the server key is empty");
  if (!isAgreementKey(key.key)) return refuse("BAD_KEY", "the server key is of small order");
  if (!verifyTagged(key.operator, TAG, digestOf(committee, key), key.signature)) {
    return refuse("BAD_SIGNATURE", `the key of server ${key.member} is not signed by its operator`);
  }
  return undefined;
}

/** True when the key serves `slot`. */
export function servesSlot(key: ServerKey, slot: bigint): boolean {
  return key.fromSlot <= slot && slot <= key.toSlot;
}
