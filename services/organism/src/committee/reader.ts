/**
 * Who may read a committee's log and collapsed state: its members, and guests (auditors, integrators that follow). A
 * guest has a key of its own and the tickets that the lattice config asks of clients, issued for another audience: a
 * ticket to write does not admit to read, nor the other way round.
 */
import { equalBytes, fixed, type Infer, oneOf, struct, u64 } from "../codec/codec.ts";
import { type SigningKey, signTagged, verifyTagged } from "../crypto/ed25519.ts";
import { hash } from "../crypto/hash.ts";
import type { AdmissionRule } from "../identity/lattice-config.ts";
import { derive, UNIQUE_ID, type UniqueId } from "../identity/unique-id.ts";
import type { Roster } from "./roster.ts";
import { checkTickets } from "./ticket.ts";

/** A signed request is good for this long either way. */
export const READER_REQUEST_AGE_MS = 30_000;
const REQUEST_TAG = "lattice/reader/request/v1";

const REQUEST = struct({
  committee: UNIQUE_ID,
  what: oneOf("log", "snapshot"),
  position: u64,
  key: fixed(32),
  signedAtMs: u64,
});
/** What a reader signs. */
export type ReaderRequest = Infer<typeof REQUEST>;

/** The audience of guests' tickets. */
export function guestAudience(committee: Uint8Array): UniqueId {
  return derive(committee, "guest");
}

export function signReader(key: SigningKey, request: ReaderRequest): Uint8Array {
  return signTagged(key, REQUEST_TAG, hash(REQUEST_TAG, REQUEST, request));
}

export type ReaderStanding = "member" | "guest";

export interface ReaderPolicy {
  /** Rosters of now and of epochs to come. */
  readonly rosters: readonly Roster[];
  readonly acl: readonly AdmissionRule[];
  readonly throwAway: boolean;
  readonly nowMs: number;
  /** The slot that it is. */
  readonly slot: bigint;
}

/** What a reader is; undefined: not admitted. */
export function admitReader(
  request: ReaderRequest,
  tickets: readonly Uint8Array[],
  signature: Uint8Array,
  policy: ReaderPolicy,
): ReaderStanding | undefined {
  const { key, signedAtMs } = request;
  if (key.length !== 32 || Math.abs(policy.nowMs - Number(signedAtMs)) > READER_REQUEST_AGE_MS) return undefined;
  if (!verifyTagged(key, REQUEST_TAG, hash(REQUEST_TAG, REQUEST, request), signature)) return undefined;
  return standingOf(request, tickets, policy);
}

/** What whoever holds this key is now: tickets end, and members leave. Undefined: nothing to this committee. */
export function standingOf(
  { committee, key }: Pick<ReaderRequest, "committee" | "key">,
  tickets: readonly Uint8Array[],
  { rosters, acl, throwAway, slot }: Omit<ReaderPolicy, "nowMs">,
): ReaderStanding | undefined {
  if (rosters.some(({ members }) => members.some(({ memberKey }) => equalBytes(memberKey, key)))) return "member";
  const subject = { audience: guestAudience(committee), subject: key, slot, throwAway };
  return checkTickets(acl, tickets, subject).admitted ? "guest" : undefined;
}
