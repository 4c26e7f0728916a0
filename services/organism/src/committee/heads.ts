/**
 * Chain heads compared directly between members, past the broker (log.md §6), and the rule for what follows
 * (docs/decisions, "when a fork stops a member").
 *
 * Heads are hash chains: two members that agree at a position agree on everything before it, two that differ never
 * agree again. So one comparison at any common position says all there is to say about two members.
 */
import { count, encode, equalBytes, fixed, type Infer, literal, struct, u64 } from "../codec/codec.ts";
import { type SigningKey, signTagged, verifyTagged } from "../crypto/ed25519.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import type { Quorum, Roster } from "./roster.ts";

export const HEAD_STATEMENT_TAG = "lattice/log/head/statement/v1";

/** What a member says under its member key about the log that it reads. */
export const HEAD_STATEMENT = struct({
  version: literal(1),
  committee: UNIQUE_ID,
  generation: u64,
  member: count,
  /** The position asked for, or the newest one that this member has applied when that lies below. */
  position: u64,
  /** The chain head after `position`; absent bytes are never sent: a member that no longer keeps it does not answer. */
  head: fixed(32),
  /** The newest position that this member has applied. */
  newest: u64,
});
export type HeadStatement = Infer<typeof HEAD_STATEMENT>;

export interface SignedHead {
  readonly statement: HeadStatement;
  /** Ed25519 by the member key, 64 bytes. */
  readonly signature: Uint8Array;
}

export function signHead(key: SigningKey, statement: HeadStatement): SignedHead {
  return { statement, signature: signTagged(key, HEAD_STATEMENT_TAG, encode(HEAD_STATEMENT, statement)) };
}

/** True when the roster's member of that index signed it for this committee. */
export function verifyHead(roster: Roster, { statement, signature }: SignedHead): boolean {
  const member = roster.members[statement.member];
  return (
    member !== undefined &&
    equalBytes(statement.committee, roster.committee) &&
    verifyTagged(member.memberKey, HEAD_STATEMENT_TAG, encode(HEAD_STATEMENT, statement), signature)
  );
}

/** A member whose log is not this one, and the first position at which that was seen. */
export interface Difference {
  readonly member: number;
  readonly position: bigint;
  /** How it was seen: its own signed statement, or an entry that it signed over another head. */
  readonly by: "statement" | "entry";
}

/**
 * Who was last seen on this member's chain and who on another.
 *
 * More than n − q others on another chain: no quorum can be on this one, so nothing is certified along it, and this member
 * stops. Fewer are named, and it goes on: f members may all be corrupt and say so to stop it (f ≤ n − q), and with more
 * the quorum that is left is right. That leaves at most one chain on which honest members go on: with a and b of them on
 * two chains, a + b ≤ n − f, both would need a, b ≤ n − q, so 2q ≤ n + f, and q = ⌊(n + f) / 2⌋ + 1 is more.
 */
export class ForkWatch {
  readonly #quorum: () => Quorum;
  readonly #self: number;
  readonly #differing = new Map<number, Difference>();
  readonly #agreed = new Map<number, bigint>();

  /** @param quorum of the epoch in force */
  constructor(quorum: () => Quorum, self: number) {
    this.#quorum = quorum;
    this.#self = self;
  }

  /** `member` showed this member's own head at `position`: whatever was held against it up to there is settled. */
  agrees(member: number, position: bigint): void {
    if (!this.#counts(member)) return;
    const held = this.#differing.get(member);
    if (held !== undefined && held.position <= position) this.#differing.delete(member);
    if (position > (this.#agreed.get(member) ?? -1n)) this.#agreed.set(member, position);
  }

  /** `member` showed another head than this member's own at `position`. @returns true when that is news */
  differs(member: number, position: bigint, by: Difference["by"]): boolean {
    // It was on this chain at a later position: an old entry of another chain, or a lie.
    if (!this.#counts(member) || position <= (this.#agreed.get(member) ?? -1n)) return false;
    if (this.#differing.has(member)) return false;
    this.#differing.set(member, { member, position, by });
    return true;
  }

  #counts(member: number): boolean {
    return member !== this.#self && member >= 0 && member < this.#quorum().members;
  }

  /** Members on another chain, by index. */
  get differing(): readonly Difference[] {
    return [...this.#differing.values()].sort((a, b) => a.member - b.member);
  }

  /** True when so many members are on another chain that no quorum can be on this one: this member must stop. */
  get forked(): boolean {
    const { members, quorum } = this.#quorum();
    return this.#differing.size > members - quorum;
  }
}
