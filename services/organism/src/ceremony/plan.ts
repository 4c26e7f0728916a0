/**
 * What a ceremony is to make: who takes part, which keys, who deals and who receives. Everybody holds the same plan before the
 * first message; its hash is in the ceremony's id, so whoever has another plan is in another ceremony.
 */
import {
  type Codec,
  count,
  equalBytes,
  fixed,
  type Infer,
  list,
  literal,
  struct,
  text,
  toHex,
  union,
} from "../codec/codec.ts";
import { isBlsPublicKey } from "../crypto/bls.ts";
import { isSigningPublicKey } from "../crypto/ed25519.ts";
import { hash } from "../crypto/hash.ts";
import { evaluationPoint } from "../crypto/scalar.ts";
import { G1_BYTES } from "../identity/lattice-config.ts";
import { derive, UNIQUE_ID, type UniqueId } from "../identity/unique-id.ts";
import { interpolate } from "./commitments.ts";

export const PARTICIPANTS_MAX = 16;
export const KEYS_MAX = 4;

/** One holder of the key that is shared anew. */
const HOLDER = struct({
  participant: count,
  /** Where its share lies on the old polynomial: its member index in the old roster. */
  index: count,
  publicShare: fixed(G1_BYTES),
});

const SOURCE = union({
  /** A new secret, of which every receiver deals a part. */
  fresh: struct({}),
  /** The same secret for other holders (Desmedt–Jajodia 1997); the public key stays. */
  reshare: struct({ publicKey: fixed(G1_BYTES), threshold: count, holders: list(HOLDER, PARTICIPANTS_MAX) }),
});

const KEY = struct({
  /** `certificate`, `sealing`, `builder`: for people and for the proofs' contexts. */
  name: text(32),
  /** How many of the new shares are needed. */
  threshold: count,
  /** Participants who get a share; position i is member i of the new roster. */
  receivers: list(count, PARTICIPANTS_MAX),
  source: SOURCE,
});
export type PlannedKey = Infer<typeof KEY>;

export const PLAN = struct({
  version: literal(1),
  /** Root of the organism whose keys are made. */
  root: UNIQUE_ID,
  /** Hash of what the keys are for: the drafted config and roster. */
  purpose: UNIQUE_ID,
  /** Ed25519 keys of those who take part, old holders and new ones. */
  participants: list(fixed(32), PARTICIPANTS_MAX),
  keys: list(KEY as Codec<PlannedKey>, KEYS_MAX),
  /** So many participants end a phase that somebody lets everybody wait in; more than may be corrupt. */
  closeQuorum: count,
  /** So many dealers of a fresh key must deal well; all of them before an identity. */
  dealersMin: count,
  /** So many receivers must show that they hold their shares; all of them before an identity. */
  holdersMin: count,
});
export type CeremonyPlan = Infer<typeof PLAN>;

/** derive(root, "ceremony" ‖ hash of the plan): 32 bytes that every message is signed over (log.md §7). */
export function ceremonyId(plan: CeremonyPlan): UniqueId {
  return derive(plan.root, `ceremony${toHex(hash("lattice/ceremony/plan/v1", PLAN as Codec<CeremonyPlan>, plan))}`);
}

/** The participants who deal a key, ascending. */
export function dealersOf(key: PlannedKey): readonly number[] {
  const dealers =
    key.source.type === "fresh" ? key.receivers : key.source.holders.map(({ participant }) => participant);
  return dealers.toSorted((a, b) => a - b);
}

/** How many dealers a key cannot do without. */
export function dealersNeeded(plan: CeremonyPlan, key: PlannedKey): number {
  return key.source.type === "fresh" ? Math.max(key.threshold, plan.dealersMin) : key.source.threshold;
}

/** Everything wrong with a plan, as readable lines; empty when a ceremony can run it. `initCrypto` first. */
export function planProblems(plan: CeremonyPlan): string[] {
  const problems: string[] = [];
  const check = (holds: boolean, problem: string): void => {
    if (!holds) problems.push(problem);
  };
  const people = plan.participants.length;
  const distinct = (values: readonly unknown[]): boolean => new Set(values).size === values.length;
  check(people >= 2, "participants: at least 2 expected");
  check(distinct(plan.participants.map(toHex)), "participants: a member key stands twice");
  check(plan.participants.every(isSigningPublicKey), "participants: not an Ed25519 public key");
  check(plan.keys.length >= 1, "keys: at least one expected");
  check(distinct(plan.keys.map(({ name }) => name)), "keys: a name stands twice");
  check(
    plan.closeQuorum > people / 2 && plan.closeQuorum <= people,
    "closeQuorum: more than half of the participants expected",
  );
  for (const key of plan.keys) {
    const { name, threshold, receivers, source } = key;
    const known = (participant: number): boolean => participant < people;
    check(receivers.every(known) && distinct(receivers), `${name}: receivers are not different participants`);
    check(threshold >= 1 && threshold <= receivers.length, `${name}: 1 <= threshold <= receivers expected`);
    check(
      plan.holdersMin >= threshold && plan.holdersMin <= receivers.length,
      `${name}: threshold <= holdersMin <= receivers expected`,
    );
    if (source.type === "fresh") {
      check(
        plan.dealersMin >= 1 && plan.dealersMin <= receivers.length,
        `${name}: 1 <= dealersMin <= receivers expected`,
      );
      continue;
    }
    const { holders } = source;
    const different =
      distinct(holders.map(({ participant }) => participant)) && distinct(holders.map(({ index }) => index));
    check(holders.every(({ participant }) => known(participant)) && different, `${name}: holders are not different`);
    check(
      source.threshold >= 1 && source.threshold <= holders.length,
      `${name}: 1 <= old threshold <= holders expected`,
    );
    check(
      isBlsPublicKey(source.publicKey) && holders.every(({ publicShare }) => isBlsPublicKey(publicShare)),
      `${name}: a public key is not in G1`,
    );
    if (problems.length === 0 && !onePolynomial(source)) {
      problems.push(`${name}: the holders' public shares are not those of its public key`);
    }
  }
  return problems;
}

/** Do all public shares and the public key lie on one polynomial of the old degree? */
function onePolynomial(source: Extract<PlannedKey["source"], { type: "reshare" }>): boolean {
  const { holders, threshold, publicKey } = source;
  const base = holders
    .slice(0, threshold)
    .map(({ index, publicShare }) => ({ x: evaluationPoint(index), point: publicShare }));
  const rest = holders
    .slice(threshold)
    .map(({ index, publicShare }) => ({ x: evaluationPoint(index), point: publicShare }));
  return [{ x: 0n, point: publicKey }, ...rest].every(({ x, point }) => {
    const there = interpolate(base, x);
    return there !== undefined && equalBytes(there, point);
  });
}
