/**
 * The ceremony by which one epoch of a committee follows another: other members or the same ones with fresh shares. The
 * certificate key and atelier's builder key are shared anew and stay; sealing keys are generated fresh for the epoch
 * (log.md §7). What it publishes is the next roster, certified under the unchanged certificate key.
 *
 * An epoch may begin an era (committee/eras.ts): then a fresh certificate key is made beside, and the roster, which names
 * it, is certified under the one before, which nobody keeps a share of afterwards.
 */
import { type Codec, count, encode, equalBytes, fixed, list, struct, u64 } from "../codec/codec.ts";
import { certificateKeyOf, eraNumberOf } from "../committee/eras.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { faultsTolerated, quorumOf } from "../committee/quorum.ts";
import { ROSTER, ROSTER_STAGE, type Roster } from "../committee/roster.ts";
import { hash } from "../crypto/hash.ts";
import { G1_BYTES, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { latticeRoot, organismRoot, UNIQUE_ID } from "../identity/unique-id.ts";
import type { CeremonyResult, Publication } from "./ceremony.ts";
import { type FoundingMember, SECOND_KEY } from "./founding.ts";
import { type CeremonyPlan, PARTICIPANTS_MAX, type PlannedKey } from "./plan.ts";

/** What everybody agrees on before the ceremony. */
export interface Succession {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  /** The newest certified roster. */
  readonly from: Roster;
  /** The next epoch's, in member order. */
  readonly members: readonly Pick<FoundingMember, "memberKey" | "boxKey" | "signer">[];
  /** The first slot whose votes belong to the next epoch. */
  readonly activationSlot: bigint;
  /** The last slot of its sealing key, where there is one. */
  readonly sealingUntilSlot: bigint;
  /** Shares that open a slot from then on (unseal, offer); as before when absent. */
  readonly sealingThreshold?: number;
  /** The epoch begins an era: a certificate key of its own is generated, and the one before certifies it (committee/eras.ts). */
  readonly newEra?: boolean;
}

/** Name of an era's new certificate key in the plan. */
export const NEXT_CERTIFICATE = "next-certificate";
const CERTIFICATE = 0;
const SECOND = 1;
const MEMBERS = list(
  struct({ memberKey: fixed(32), boxKey: fixed(32) }) as Codec<{ memberKey: Uint8Array; boxKey: Uint8Array }>,
  PARTICIPANTS_MAX,
);
const TERMS = { committee: UNIQUE_ID, epoch: u64, activationSlot: u64, sealingUntilSlot: u64, members: MEMBERS };
const PURPOSE = struct(TERMS);
const ERA_PURPOSE = struct({ ...TERMS, era: count });

/** Old members first, by their index; then those who are new. */
function participantsOf({ from, members }: Succession): Uint8Array[] {
  const old = from.members.map(({ memberKey }) => memberKey);
  const fresh = members.map(({ memberKey }) => memberKey).filter((key) => !old.some((each) => equalBytes(each, key)));
  return [...old, ...fresh];
}

/**
 * The plan: every old holder may deal, a threshold of them is enough; a quorum of the new members must show that they
 * hold their shares, so that a forking broker gets no second result.
 */
export function successionPlan(succession: Succession): CeremonyPlan {
  const { config, organism, from, members, activationSlot, sealingUntilSlot } = succession;
  const participants = participantsOf(succession);
  const receivers = members.map(({ memberKey }) => participants.findIndex((key) => equalBytes(key, memberKey)));
  const quorumAmong = (count: number): number => quorumOf(count, faultsTolerated(config[organism].policy, count));
  const [oldQuorum, newQuorum] = [quorumAmong(from.members.length), quorumAmong(members.length)];
  const shared = (
    name: string,
    publicKey: Uint8Array,
    shareOf: (member: Roster["members"][number]) => Uint8Array,
  ): PlannedKey => ({
    name,
    threshold: newQuorum,
    receivers,
    source: {
      type: "reshare",
      publicKey,
      threshold: oldQuorum,
      holders: from.members.map((member, index) => ({ participant: index, index, publicShare: shareOf(member) })),
    },
  });
  const missing = new Uint8Array(G1_BYTES);
  const certificateKey = certificateKeyOf(config, organism, from);
  const keys = [shared("certificate", certificateKey, (member) => member.certificateShare)];
  if (organism === "atelier") {
    keys.push(shared("builder", config.atelier.content.builderKey, ({ secondShare }) => secondShare ?? missing));
  }
  if (organism === "unseal" || organism === "offer") {
    const threshold = nextThreshold(succession) ?? config[organism].content.threshold;
    keys.push({ name: "sealing", threshold, receivers, source: { type: "fresh" } });
  }
  // Last, so that the others stay where they are. The key before is shared anew once more, to sign who follows it.
  if (succession.newEra === true) {
    keys.push({ name: NEXT_CERTIFICATE, threshold: newQuorum, receivers, source: { type: "fresh" } });
  }
  const holdersMin = Math.max(newQuorum, ...keys.map(({ threshold }) => threshold));
  const terms = {
    committee: from.committee,
    epoch: from.epoch + 1n,
    activationSlot,
    sealingUntilSlot,
    members: members.map(({ memberKey, boxKey }) => ({ memberKey, boxKey })),
  };
  return {
    version: 1,
    root: organismRoot(latticeRoot(config.name, config.chainId), organism),
    purpose:
      succession.newEra === true
        ? hash("lattice/ceremony/era/v1", ERA_PURPOSE, { ...terms, era: eraNumberOf(from) + 1 })
        : hash("lattice/ceremony/succession/v1", PURPOSE, terms),
    participants,
    keys,
    closeQuorum: Math.floor(participants.length / 2) + 1,
    dealersMin: holdersMin,
    holdersMin,
  };
}

/** What the next roster states; undefined where the lattice config says it. */
function nextThreshold({ from, sealingThreshold }: Succession): number | undefined {
  return sealingThreshold ?? from.sealingThreshold;
}

/** Where the ceremony makes the certificate key that the epoch's members hold shares of. */
function ownKeyAt({ organism, newEra }: Pick<Succession, "organism" | "newEra">): number {
  if (newEra !== true) return CERTIFICATE;
  return SECOND_KEY[organism] === undefined ? SECOND : SECOND + 1;
}

/** What the next roster says of its era; undefined in the first one. */
function nextEra({ from, newEra }: Succession, made: Uint8Array | undefined): Roster["era"] {
  if (newEra !== true) return from.era;
  return { number: eraNumberOf(from) + 1, certificateKey: made ?? new Uint8Array(G1_BYTES) };
}

/** The next roster as an outcome, not signed yet. */
export function successionOutcome(succession: Succession, result: CeremonyResult): Outcome {
  const { organism, from, members, activationSlot, sealingUntilSlot } = succession;
  const certificate = result.keys[ownKeyAt(succession)];
  const second = SECOND_KEY[organism] === undefined ? undefined : result.keys[SECOND];
  const seals = organism === "unseal" || organism === "offer";
  const threshold = seals ? nextThreshold(succession) : undefined;
  const era = nextEra(succession, certificate?.publicKey);
  const roster: Roster = {
    version: era !== undefined ? 3 : threshold === undefined ? 1 : 2,
    ...(threshold === undefined ? {} : { sealingThreshold: threshold }),
    ...(era === undefined ? {} : { era }),
    committee: from.committee,
    epoch: from.epoch + 1n,
    activationSlot,
    members: members.map(({ memberKey, boxKey, signer }, index) => ({
      index,
      memberKey,
      boxKey,
      certificateShare: certificate?.publicShares[index] ?? new Uint8Array(G1_BYTES),
      secondShare: second?.publicShares[index],
      signer,
    })),
    sealingKey: seals ? second?.publicKey : undefined,
    sealingUntilSlot,
  };
  return {
    version: 1,
    committee: from.committee,
    generation: 0n,
    epoch: roster.epoch,
    slot: activationSlot,
    stage: ROSTER_STAGE,
    kind: "result",
    commitment: encode(ROSTER, roster),
    bodyHash: undefined,
  };
}

/**
 * The new holders sign the roster that names them: with the key in force, which all of them hold shares of anew. Whoever
 * signs has shown in the same message that it holds its share of the era's new key, where there is one.
 */
export function successionPublication(succession: Succession): Publication {
  return { key: CERTIFICATE, digest: (result) => outcomeDigest(successionOutcome(succession, result)) };
}

/** The next roster, certified by the ceremony. */
export function successionRoster(
  succession: Succession,
  end: { readonly result: CeremonyResult; readonly publication: Uint8Array; readonly holders: readonly number[] },
): CertifiedOutcome {
  const participants = participantsOf(succession);
  const signers = succession.members.flatMap(({ memberKey }, index) =>
    end.holders.some((who) => equalBytes(participants[who] ?? new Uint8Array(), memberKey)) ? [index] : [],
  );
  return { outcome: successionOutcome(succession, end.result), signature: end.publication, signers };
}

/** What a member keeps of the ceremony: its shares of the epoch's keys. Those of a key that is over with it are not among them. */
export function epochSharesOf(
  succession: Pick<Succession, "organism" | "newEra">,
  shares: ReadonlyMap<number, Uint8Array>,
): { readonly certificateShare: Uint8Array | undefined; readonly secondShare: Uint8Array | undefined } {
  const second = SECOND_KEY[succession.organism] === undefined ? undefined : shares.get(SECOND);
  return { certificateShare: shares.get(ownKeyAt(succession)), secondShare: second };
}

/** A member's old shares, by position of the key in the plan. */
export function heldShares(
  { organism }: Pick<Succession, "organism">,
  shares: { readonly certificateShare: Uint8Array; readonly secondShare?: Uint8Array | undefined },
): ReadonlyMap<number, Uint8Array> {
  const held = new Map([[CERTIFICATE, shares.certificateShare]]);
  if (organism === "atelier" && shares.secondShare !== undefined) held.set(SECOND, shares.secondShare);
  return held;
}
