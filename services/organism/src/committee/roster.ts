/**
 * The roster of one committee for one epoch: who speaks, with which keys, and how many may be corrupt.
 * Epoch 0 comes from the ceremony (or, in a throw-away lattice, the dealer) and is certified like any outcome, under
 * stage `roster`, so a reader needs only the lattice config to trust it.
 */
import { type Codec, count, fixed, type Infer, list, literal, optional, struct, u64 } from "../codec/codec.ts";
import { G1_BYTES, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import { faultsTolerated, quorumOf } from "./quorum.ts";

const MEMBER = struct({
  index: count,
  /** Ed25519: admits incarnations. */
  memberKey: fixed(32),
  /** X25519: what only this member may read is sealed to it. */
  boxKey: fixed(32),
  /** The member's public share of the certificate key (G1). */
  certificateShare: fixed(G1_BYTES),
  /** The member's public share of the sealing key (unseal, offer) or of the builder key (atelier). */
  secondShare: optional(fixed(G1_BYTES)),
  /** The member's settlement address (tally). */
  signer: optional(fixed(20)),
});
export type RosterMember = Infer<typeof MEMBER>;

export const ROSTER = struct({
  version: literal(1),
  committee: UNIQUE_ID,
  epoch: u64,
  /** The first slot whose votes belong to this epoch. */
  activationSlot: u64,
  members: list(MEMBER as Codec<RosterMember>, 16),
  /** The sealing key of this epoch (unseal, offer), threshold as the config says. */
  sealingKey: optional(fixed(G1_BYTES)),
  /** The last slot the sealing key serves. */
  sealingUntilSlot: u64,
});
export type Roster = Infer<typeof ROSTER>;

export interface Quorum {
  readonly members: number;
  readonly faults: number;
  readonly quorum: number;
}

export function rosterQuorum(config: LatticeConfig, organism: Organism, roster: Roster): Quorum {
  const members = roster.members.length;
  const faults = faultsTolerated(config[organism].policy, members);
  return { members, faults, quorum: quorumOf(members, faults) };
}
