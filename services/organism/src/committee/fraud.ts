/**
 * Fraud proofs (log.md §4): what no honest member can have done, however it crashed, whatever it lost and however often
 * it was started. Whoever has the lattice config checks one, without a member, a log or a clock.
 *
 * Two kinds. `entries`: two different bodies under one incarnation key in one place of one lane. An incarnation key is
 * made by a process, kept in its memory alone and never made again, so a restart, a restored backup or a second process
 * of the same member has another one. `votes`: two shares of one member for different outcomes of one stage of one slot;
 * the first is on disk before it is sent, and whoever has lost that disk abstains (log.md §3).
 *
 * Two Joins are no fraud: they are signed by the member key, and a restored backup may reuse a number. Only the first
 * in the log counts.
 */
import {
  bytes,
  type Codec,
  CodecError,
  compareBytes,
  count,
  decode,
  encode,
  equalBytes,
  fixed,
  type Infer,
  literal,
  struct,
  union,
} from "../codec/codec.ts";
import { blsVerify } from "../crypto/bls.ts";
import { verifyTagged } from "../crypto/ed25519.ts";
import { hashBytes } from "../crypto/hash.ts";
import { committeeId, G2_BYTES, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { type Refusal, refuse } from "../machine.ts";
import { decodeCommand, FRAUD_PROOF_BYTES_MAX } from "./commands.ts";
import {
  decodeEntry,
  ENTRY_BYTES_MAX,
  ENTRY_TAG,
  entryHash,
  JOIN_BYTES_MAX,
  type Lane,
  type SignedEntry,
  ZERO_HASH,
} from "./entry.ts";
import { type Eras, erasBefore, newestEra, pinnedEras } from "./eras.ts";
import { CERTIFIED, type CertifiedOutcome, OUTCOME, type Outcome, outcomeDigest } from "./outcome.ts";
import { checkRoster, ROSTER, type Roster } from "./roster.ts";

const RAW_ENTRY_BYTES_MAX = ENTRY_BYTES_MAX + 128;

const SHARE_OF = struct({ outcome: OUTCOME as Codec<Outcome>, share: fixed(G2_BYTES) });
const EVIDENCE = union({
  /** Raw entries as they came. The Join admits the key that signed the two others, which stand in ascending order of their hashes. */
  entries: struct({
    join: bytes(JOIN_BYTES_MAX),
    first: bytes(RAW_ENTRY_BYTES_MAX),
    second: bytes(RAW_ENTRY_BYTES_MAX),
  }),
  /** Shares of one member, in ascending order of what they sign. */
  votes: struct({ member: count, first: SHARE_OF, second: SHARE_OF }),
});
export type FraudEvidence = Infer<typeof EVIDENCE>;

const FRAUD_PROOF = struct({
  version: literal(1),
  /** The roster that names the accused's keys, certified under the key in the lattice config. */
  roster: CERTIFIED as Codec<CertifiedOutcome>,
  evidence: EVIDENCE as Codec<FraudEvidence>,
});

/** What has been proven, and of whom. */
export interface ProvenFraud {
  readonly kind: "entries" | "votes";
  readonly member: number;
  /** Ed25519, 32 bytes: the key that is not listened to any more. */
  readonly memberKey: Uint8Array;
  /** Epoch of the roster that names the key. */
  readonly epoch: bigint;
  /** Where it happened, one line for people. */
  readonly detail: string;
}

export type FraudVerdict = { readonly fraud: ProvenFraud } | { readonly refusal: Refusal };

/** Identifies a proof: 32 bytes. */
export function fraudProofHash(proof: Uint8Array): Uint8Array {
  return hashBytes("lattice/fraud/proof/v1", proof);
}

/**
 * A proof from two raw entries of one place, in either order, and the raw Join of their key. Says nothing about whether
 * it holds: `verifyFraudProof` does.
 * @throws CodecError when one of them is no entry
 */
export function proveEntries(
  roster: CertifiedOutcome,
  join: Uint8Array,
  one: Uint8Array,
  other: Uint8Array,
): Uint8Array {
  const [first, second] = ascending(one, other, (raw) => entryHash(decodeEntry(raw).bodyBytes));
  return encode(FRAUD_PROOF, { version: 1, roster, evidence: { type: "entries", join, first, second } });
}

/** A proof from two shares of one member, in either order. */
export function proveVotes(roster: CertifiedOutcome, member: number, one: ShareOf, other: ShareOf): Uint8Array {
  const [first, second] = ascending(one, other, ({ outcome }) => outcomeDigest(outcome));
  return encode(FRAUD_PROOF, { version: 1, roster, evidence: { type: "votes", member, first, second } });
}

/** One member's share of the certificate of an outcome, 96 bytes. */
export interface ShareOf {
  readonly outcome: Outcome;
  readonly share: Uint8Array;
}

function ascending<T>(one: T, other: T, key: (value: T) => Uint8Array): [T, T] {
  return compareBytes(key(one), key(other)) <= 0 ? [one, other] : [other, one];
}

/**
 * Judges a proof by the lattice config and the eras known. Total: whatever the bytes are, there is a verdict.
 *
 * With a certificate key that is over anybody who got hold of its shares could make a roster that gives an honest member
 * somebody else's share. So a roster of an earlier era counts only where it is known already, as one that began an era or
 * as one of `rosters`. Two entries are signed by an incarnation that the member key itself has admitted, which no roster
 * can make up: they count as well where that key holds the same seat in one of `seats`, and convict nobody else.
 *
 * @param known `seats`: the same as `rosters` when left out
 */
export function verifyFraudProof(
  config: LatticeConfig,
  organism: Organism,
  proof: Uint8Array,
  known: { readonly eras?: Eras; readonly rosters?: readonly Roster[]; readonly seats?: readonly Roster[] } = {},
): FraudVerdict {
  const { eras = pinnedEras(config, organism), rosters = [], seats = rosters } = known;
  const refused = (reason: string, detail: string): FraudVerdict => ({ refusal: refuse(reason, detail) });
  if (proof.length > FRAUD_PROOF_BYTES_MAX) return refused("TOO_LARGE", `at most ${FRAUD_PROOF_BYTES_MAX} bytes`);
  let decoded: Infer<typeof FRAUD_PROOF>;
  try {
    decoded = decode(FRAUD_PROOF, proof);
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    return refused("MALFORMED", `not a fraud proof: ${error.message}`);
  }
  const checked = checkRoster(config, organism, decoded.roster, eras);
  if ("problem" in checked) return refused(checked.reason, checked.problem);
  // Its members may never have spoken for the committee: a ceremony that came too late leaves such a roster.
  if (checked.begins !== undefined) return refused("OTHER_ERA", `era ${checked.begins.number} is not known here`);
  const { number } = newestEra(erasBefore(eras, checked.roster.epoch));
  const rosterIsKnown =
    number === newestEra(eras).number ||
    eras.some(({ link, epoch }) => link !== undefined && epoch === checked.roster.epoch) ||
    rosters.some((each) => equalBytes(encode(ROSTER, each), decoded.roster.outcome.commitment));
  const { evidence } = decoded;
  const committee = committeeId(config, organism);
  const unknown = `its roster is certified under the key of era ${number}, which is over`;
  if (evidence.type === "votes") {
    return rosterIsKnown ? judgeVotes(committee, checked.roster, evidence) : refused("OTHER_ERA", unknown);
  }
  const verdict = judgeEntries(committee, checked.roster, evidence);
  if (rosterIsKnown || "refusal" in verdict) return verdict;
  const { member, memberKey } = verdict.fraud;
  const sits = ({ members }: Roster): boolean => {
    const seated = members[member]?.memberKey;
    return seated !== undefined && equalBytes(seated, memberKey);
  };
  return seats.some(sits) ? verdict : refused("OTHER_ERA", `${unknown}, and nobody sits there with that key`);
}

function judgeEntries(
  committee: Uint8Array,
  roster: Roster,
  evidence: { readonly join: Uint8Array; readonly first: Uint8Array; readonly second: Uint8Array },
): FraudVerdict {
  const bad = (detail: string): FraudVerdict => ({ refusal: refuse("BAD_PROOF", detail) });
  let join: SignedEntry;
  let both: readonly [SignedEntry, SignedEntry];
  let admitted: Uint8Array;
  try {
    join = decodeEntry(evidence.join);
    both = [decodeEntry(evidence.first), decodeEntry(evidence.second)];
    const command = decodeCommand(join.body.command);
    if (command.type !== "join" || command.incarnation !== join.body.incarnation)
      return bad("the first entry is no join");
    admitted = command.key;
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    return { refusal: refuse("MALFORMED", `not an entry: ${error.message}`) };
  }
  const { body } = join;
  const member = roster.members[body.author];
  if (!equalBytes(body.committee, committee)) return bad("the join belongs to another committee");
  if (body.epoch !== roster.epoch) return bad(`the join is of epoch ${body.epoch}, the roster of ${roster.epoch}`);
  if (member === undefined) return bad(`the roster has no member ${body.author}`);
  if (body.lane !== "ctl" || body.sequence !== 1n || !equalBytes(body.previous, ZERO_HASH)) {
    return bad("the join does not open the ctl lane");
  }
  if (!verifyTagged(member.memberKey, ENTRY_TAG, join.bodyBytes, join.signature)) {
    return bad("the join is not signed by the member key");
  }
  const [first, second] = both;
  for (const entry of both) {
    const each = entry.body;
    const foreign =
      !equalBytes(each.committee, committee) ||
      each.generation !== body.generation ||
      each.author !== body.author ||
      each.incarnation !== body.incarnation;
    if (foreign) return bad("an entry is not of the incarnation that joined");
    if (!verifyTagged(admitted, ENTRY_TAG, entry.bodyBytes, entry.signature)) {
      return bad("an entry is not signed by the incarnation key");
    }
  }
  const place = ({ lane, sequence }: { readonly lane: Lane; readonly sequence: bigint }): string =>
    `${lane} ${sequence}`;
  if (place(first.body) !== place(second.body)) return bad("the entries stand in different places");
  if (compareBytes(entryHash(first.bodyBytes), entryHash(second.bodyBytes)) >= 0) {
    return bad("the entries are the same, or not in ascending order");
  }
  return {
    fraud: {
      kind: "entries",
      member: body.author,
      memberKey: member.memberKey,
      epoch: roster.epoch,
      detail: `two different entries as ${place(first.body)} of incarnation ${body.incarnation} in generation ${body.generation}`,
    },
  };
}

function judgeVotes(
  committee: Uint8Array,
  roster: Roster,
  evidence: { readonly member: number; readonly first: ShareOf; readonly second: ShareOf },
): FraudVerdict {
  const bad = (detail: string): FraudVerdict => ({ refusal: refuse("BAD_PROOF", detail) });
  const { first, second } = evidence;
  const member = roster.members[evidence.member];
  if (member === undefined) return bad(`the roster has no member ${evidence.member}`);
  for (const { outcome } of [first, second]) {
    if (!equalBytes(outcome.committee, committee)) return bad("an outcome belongs to another committee");
    if (outcome.epoch !== roster.epoch)
      return bad(`an outcome is of epoch ${outcome.epoch}, the roster of ${roster.epoch}`);
  }
  const { stage, slot } = first.outcome;
  if (stage !== second.outcome.stage || slot !== second.outcome.slot)
    return bad("the outcomes are of different stages or slots");
  const digests = [outcomeDigest(first.outcome), outcomeDigest(second.outcome)] as const;
  if (compareBytes(digests[0], digests[1]) >= 0) return bad("the outcomes are the same, or not in ascending order");
  if (
    !blsVerify(member.certificateShare, digests[0], first.share) ||
    !blsVerify(member.certificateShare, digests[1], second.share)
  ) {
    return bad(`a share does not verify under the public share of member ${evidence.member}`);
  }
  return {
    fraud: {
      kind: "votes",
      member: evidence.member,
      memberKey: member.memberKey,
      epoch: roster.epoch,
      detail: `two different outcomes of ${stage} of slot ${slot} voted for`,
    },
  };
}
