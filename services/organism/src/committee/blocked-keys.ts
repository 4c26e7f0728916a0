/** Keys that were proven to say two things: nothing that comes under them is listened to any more. */
import { equalBytes } from "../codec/codec.ts";
import { type Refusal, refuse } from "../machine.ts";
import { fraudProofHash, type ProvenFraud } from "./fraud.ts";
import { BLOCKED_MAX, type BlockedKey } from "./state.ts";

/** True when that member key is among them, whoever holds its seat now. */
export function isBlockedKey(blocked: readonly BlockedKey[], key: Uint8Array): boolean {
  return blocked.some(({ memberKey }) => equalBytes(memberKey, key));
}

/** Blocks the key that a proof convicts. @param position where the log says so */
export function blockKey(
  blocked: BlockedKey[],
  { memberKey, member, epoch, kind }: ProvenFraud,
  proof: Uint8Array,
  position: bigint,
): Refusal | undefined {
  if (isBlockedKey(blocked, memberKey)) return refuse("DUPLICATE", `the key of member ${member} is blocked already`);
  if (blocked.length >= BLOCKED_MAX) return refuse("TOO_LARGE", `more than ${BLOCKED_MAX} blocked keys`);
  blocked.push({ memberKey, member, epoch, kind, position, proof: fraudProofHash(proof) });
  return undefined;
}
