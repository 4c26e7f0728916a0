/**
 * The roster of one committee for one epoch: who speaks, with which keys, and how many may be corrupt.
 * Epoch 0 comes from the ceremony (or, in a throw-away lattice, the dealer) and is certified like any outcome, under
 * stage `roster`, so a reader needs only the lattice config to trust it.
 */
import {
  type Codec,
  count,
  equalBytes,
  fixed,
  type Infer,
  list,
  literal,
  optional,
  struct,
  toHex,
  tryDecode,
  u64,
} from "../codec/codec.ts";
import { isBlsPublicKey } from "../crypto/bls.ts";
import { committeeId, G1_BYTES, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import { type Era, type Eras, erasBefore, newestEra, pinnedEras, placeInChain } from "./eras.ts";
import { type CertifiedOutcome, outcomeDigest, verifyCertificate } from "./outcome.ts";
import { faultsTolerated, quorumOf } from "./quorum.ts";

/** Stage under which a roster is certified. */
export const ROSTER_STAGE = "roster";

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

const FIELDS = {
  committee: UNIQUE_ID,
  epoch: u64,
  /** The first slot whose votes belong to this epoch. */
  activationSlot: u64,
  members: list(MEMBER as Codec<RosterMember>, 16),
  /** The sealing key of this epoch (unseal, offer), threshold as the config says. */
  sealingKey: optional(fixed(G1_BYTES)),
  /** The last slot the sealing key serves. */
  sealingUntilSlot: u64,
};
const ROSTER_1 = struct({ version: literal(1), ...FIELDS });
const ROSTER_2 = struct({ version: literal(2), ...FIELDS, sealingThreshold: count });
const ERA = struct({ number: count, certificateKey: fixed(G1_BYTES) });
const ROSTER_3 = struct({ version: literal(3), ...FIELDS, sealingThreshold: optional(count), era: ERA });
type Roster1 = Infer<typeof ROSTER_1>;

export interface Roster extends Omit<Roster1, "version"> {
  /** 2 where a sealing threshold is stated, 3 in every era after the first; read by builds with rules 4 and 5. */
  readonly version: 1 | 2 | 3;
  /** Shares that open a slot (unseal, offer) in this epoch; what the lattice config says, its minimum, when absent. */
  readonly sealingThreshold?: number;
  /** What certificate key the members' shares are of; the lattice config's, of era 0, when absent (eras.ts). */
  readonly era?: Infer<typeof ERA>;
}

export const ROSTER: Codec<Roster> = {
  write(writer, { version, sealingThreshold, era, ...fields }) {
    if (version === 1) ROSTER_1.write(writer, { version, ...fields });
    else if (version === 2) ROSTER_2.write(writer, { version, ...fields, sealingThreshold: sealingThreshold ?? 0 });
    else if (era === undefined) throw new RangeError("a roster of version 3 names its era");
    else ROSTER_3.write(writer, { version, ...fields, sealingThreshold, era });
  },
  read(reader) {
    const version = reader.peek();
    if (version === 2) return ROSTER_2.read(reader);
    if (version !== 3) return ROSTER_1.read(reader);
    const { sealingThreshold, ...fields } = ROSTER_3.read(reader);
    return sealingThreshold === undefined ? fields : { ...fields, sealingThreshold };
  },
};

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

/** How many shares open a slot of this roster's epoch. */
export function sealingThreshold(config: LatticeConfig, organism: "unseal" | "offer", roster: Roster): number {
  return roster.sealingThreshold ?? config[organism].content.threshold;
}

/**
 * Judges a certified roster by the config and the eras known: the roster and the era that it begins, if it does, or what
 * is wrong with it in one line. It must be certified under the key in force before its epoch.
 */
export function checkRoster(
  config: LatticeConfig,
  organism: Organism,
  certified: CertifiedOutcome,
  eras: Eras = pinnedEras(config, organism),
):
  | { readonly roster: Roster; readonly begins?: Era }
  | {
      readonly problem: string;
      readonly reason: "ORGANISM_MISMATCH" | "BAD_CERTIFICATE" | "MALFORMED" | "OTHER_ERA";
    } {
  const { outcome, signature } = certified;
  const id = committeeId(config, organism);
  if (outcome.stage !== ROSTER_STAGE || !equalBytes(outcome.committee, id)) {
    return { reason: "ORGANISM_MISMATCH", problem: `certified for another committee than ${toHex(id)}` };
  }
  const { key, number } = newestEra(erasBefore(eras, outcome.epoch));
  if (!verifyCertificate(key, outcome, signature)) {
    const under = number === 0 ? "the lattice config" : `the key of era ${number}`;
    return { reason: "BAD_CERTIFICATE", problem: `the certificate does not verify under ${under}` };
  }
  const malformed = (problem: string) => ({ reason: "MALFORMED", problem }) as const;
  const roster = tryDecode(ROSTER, outcome.commitment);
  const named = roster?.epoch === outcome.epoch && roster.activationSlot === outcome.slot;
  if (outcome.kind !== "result" || roster === undefined || !named) {
    return malformed("certified, but not a roster");
  }
  const { membersMin, membersMax } = config[organism].policy;
  if (!equalBytes(roster.committee, id) || roster.members.length < membersMin || roster.members.length > membersMax) {
    return malformed("does not fit the config's policy");
  }
  if (organism === "unseal" || organism === "offer") {
    const threshold = sealingThreshold(config, organism, roster);
    if (threshold < config[organism].content.threshold || threshold > roster.members.length) {
      return malformed(`sealing threshold ${threshold}: at least the config's, at most all members`);
    }
  } else if (roster.sealingThreshold !== undefined) return malformed(`${organism} seals nothing`);
  if (roster.members.some((member, index) => member.index !== index)) {
    return malformed("member indexes are not 0, 1, 2 …");
  }
  for (const key of ["memberKey", "boxKey", "certificateShare"] as const) {
    if (new Set(roster.members.map((member) => toHex(member[key]))).size < roster.members.length) {
      return malformed(`two members share a ${key}`);
    }
  }
  const place = placeInChain(eras, roster, outcomeDigest(outcome));
  if (place.type === "refused") return { reason: "OTHER_ERA", problem: place.problem };
  if (place.type === "goes-on") return { roster };
  if (!isBlsPublicKey(place.era.key)) return malformed(`the key of era ${place.era.number} is not in G1`);
  return { roster, begins: place.era };
}
