/**
 * A standby: keys that an operator has made in advance for whoever takes its seat once the key that sits there has been
 * blocked. Vouched for by the seat's key while that is still good, and by the standby's own, so that nobody names keys
 * that are somebody else's. It holds for one committee, one seat and one member key: with that key it is gone.
 */
import type { FoundingMember } from "@lattice/organism/ceremony/founding.ts";
import {
  count,
  encode,
  equalBytes,
  fixed,
  fromHex,
  type Infer,
  literal,
  optional,
  struct,
  toHex,
} from "@lattice/organism/codec/codec.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { type SigningKey, signTagged, verifyTagged } from "@lattice/organism/crypto/ed25519.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { UNIQUE_ID } from "@lattice/organism/identity/unique-id.ts";
import { z } from "zod";
import { memberFromJson, memberToJson, PUBLIC_MEMBER } from "../ceremony/founding-file.ts";

const TAG = "lattice/roster/standby/v1";
const HASH_TAG = "lattice/roster/standby/hash/v1";
const STATEMENT = struct({
  version: literal(1),
  committee: UNIQUE_ID,
  seat: count,
  /** The member key whose place it takes. */
  standsFor: fixed(32),
  memberKey: fixed(32),
  boxKey: fixed(32),
  signer: optional(fixed(20)),
  operator: optional(fixed(32)),
});
type Statement = Infer<typeof STATEMENT>;

const hex = (bytes: number) =>
  z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`), `${bytes} bytes of hex expected`);
/** What `builder roster standby` prints, and operators give one another. Nothing in it is secret. */
export const STANDBY_FILE = z.strictObject({
  version: z.literal(1),
  organism: z.enum(ORGANISMS),
  committee: hex(32),
  seat: z.number().int().min(0).max(15),
  standsFor: hex(32),
  member: PUBLIC_MEMBER,
  /** Of the seat's key. */
  signature: hex(64),
  /** Of the standby's. */
  possession: hex(64),
});
export type StandbyFile = z.infer<typeof STANDBY_FILE>;

/** A standby whose two signatures hold. */
export interface Standby {
  readonly seat: number;
  readonly standsFor: Uint8Array;
  readonly member: FoundingMember;
  /** Of everything that is signed: 32 bytes as hex. */
  readonly digest: string;
}

function statementOf(
  committee: Uint8Array,
  seat: number,
  standsFor: Uint8Array,
  { memberKey, boxKey, signer, operator }: FoundingMember,
): Statement {
  return { version: 1, committee, seat, standsFor, memberKey, boxKey, signer, operator };
}

/** @param seatKey the key that sits there, @param own the standby's */
export function makeStandby(
  config: LatticeConfig,
  organism: Organism,
  seat: number,
  seatKey: SigningKey,
  own: SigningKey,
  member: FoundingMember,
): StandbyFile {
  const committee = committeeId(config, organism);
  const bytes = encode(STATEMENT, statementOf(committee, seat, seatKey.publicKey, member));
  return {
    version: 1,
    organism,
    committee: toHex(committee),
    seat,
    standsFor: toHex(seatKey.publicKey),
    member: memberToJson(member),
    signature: toHex(signTagged(seatKey, TAG, bytes)),
    possession: toHex(signTagged(own, TAG, bytes)),
  };
}

/** Judges a statement by the config alone. */
export function judgeStandby(
  config: LatticeConfig,
  organism: Organism,
  file: StandbyFile,
): { readonly standby: Standby } | { readonly problem: string } {
  const committee = committeeId(config, organism);
  if (file.organism !== organism || file.committee !== toHex(committee)) {
    return { problem: `a standby of ${file.organism} in committee ${file.committee.slice(0, 16)}…, not of this one` };
  }
  const standsFor = fromHex(file.standsFor);
  const member = memberFromJson(file.member);
  const statement = statementOf(committee, file.seat, standsFor, member);
  const bytes = encode(STATEMENT, statement);
  if (!verifyTagged(standsFor, TAG, bytes, fromHex(file.signature))) {
    return { problem: `the standby of seat ${file.seat} is not signed by the key that it stands for` };
  }
  if (!verifyTagged(member.memberKey, TAG, bytes, fromHex(file.possession))) {
    return { problem: `the standby of seat ${file.seat} is not signed by its own key` };
  }
  return { standby: { seat: file.seat, standsFor, member, digest: toHex(hash(HASH_TAG, STATEMENT, statement)) } };
}

/** Who stands by for one seat, or why nobody does. Whatever order the statements come in. */
export function standbyOf(
  roster: Roster,
  seat: number,
  standbys: readonly Standby[],
): { readonly standby: Standby } | { readonly problem: string } {
  const held = roster.members[seat]?.memberKey ?? new Uint8Array();
  const found = new Map(
    standbys
      .filter((each) => each.seat === seat && equalBytes(each.standsFor, held))
      .map((each) => [each.digest, each] as const),
  );
  const [standby] = found.values();
  if (standby === undefined) return { problem: `nobody stands by for seat ${seat}` };
  if (found.size > 1) return { problem: `${found.size} different standbys for seat ${seat}: none of them counts` };
  return { standby };
}
