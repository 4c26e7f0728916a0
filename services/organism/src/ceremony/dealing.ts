/**
 * One dealer's part of a ceremony: making a deal, judging its public half, opening the box in it, and showing a bad one.
 * All randomness comes from one 32-byte seed an attempt, which is journaled before the first message: whatever is made
 * again after a crash is the same to the bit.
 */
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { concat, count, encode, equalBytes, fixed, list, struct, text, toHex } from "../codec/codec.ts";
import { isBlsPublicKey } from "../crypto/bls.ts";
import { hash } from "../crypto/hash.ts";
import { hkdfExpand, hkdfExtract } from "../crypto/hkdf.ts";
import {
  evaluationPoint,
  Fr,
  SCALAR_BYTES,
  scalarFromBytes,
  scalarToBytes,
  WIDE_BYTES,
  wideScalar,
} from "../crypto/scalar.ts";
import { G1_BYTES } from "../identity/lattice-config.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import { isShareOf, knows, proveKnowledge } from "./commitments.ts";
import type { Complaint, Deal } from "./message.ts";
import { type CeremonyPlan, dealersOf, KEYS_MAX, PARTICIPANTS_MAX, type PlannedKey } from "./plan.ts";
import {
  BOX_SCALAR_WIDE_BYTES,
  BOX_TAG_BYTES,
  type BoxKey,
  boxKeyOf,
  isShared,
  knowsBoxKey,
  openShares,
  proveBoxKey,
  proveShared,
  sealShares,
  sharedPoint,
} from "./share-box.ts";

/** Where in which ceremony something is said. */
export interface Scene {
  readonly plan: CeremonyPlan;
  readonly ceremony: Uint8Array;
  readonly attempt: number;
}

/** What a participant keeps to itself during one attempt. */
export interface AttemptSecrets {
  /** 32 bytes, fresh for this attempt. */
  readonly seed: Uint8Array;
  /** 32-byte old shares of the keys that are shared anew, by position of the key in the plan. */
  readonly oldShares: ReadonlyMap<number, Uint8Array>;
}

const CONTEXT = struct({
  ceremony: UNIQUE_ID,
  attempt: count,
  dealer: count,
  receiver: count,
  key: text(32),
});
const NOBODY = 255;
const SEED_TAG = Buffer.from("lattice/ceremony/seed/v1");

function contextOf(scene: Scene, who: { dealer?: number; receiver?: number; key?: string }): Uint8Array {
  return encode(CONTEXT, {
    ceremony: scene.ceremony,
    attempt: scene.attempt,
    dealer: who.dealer ?? NOBODY,
    receiver: who.receiver ?? NOBODY,
    key: who.key ?? "",
  });
}

/** `length` bytes of the attempt's seed for one purpose. */
function expand(scene: Scene, secrets: AttemptSecrets, purpose: string, length: number): Uint8Array {
  const key = hkdfExtract(concat(scene.ceremony, encode(count, scene.attempt)), secrets.seed);
  return hkdfExpand(key, concat(SEED_TAG, Buffer.from(purpose)), length);
}

/** The key of this attempt that shares are sealed to. */
export function attemptBoxKey(scene: Scene, secrets: AttemptSecrets): BoxKey {
  return boxKeyOf(expand(scene, secrets, "box key", BOX_SCALAR_WIDE_BYTES));
}

/** The keys of the plan that participant `who` deals, with their positions. */
export function dealtBy(
  plan: CeremonyPlan,
  who: number,
): readonly { readonly position: number; readonly key: PlannedKey }[] {
  return plan.keys.flatMap((key, position) => (dealersOf(key).includes(who) ? [{ position, key }] : []));
}

function polynomialOf(scene: Scene, secrets: AttemptSecrets, position: number, key: PlannedKey): bigint[] {
  const coefficients = Array.from({ length: key.threshold }, (_, degree) =>
    wideScalar(expand(scene, secrets, `coefficient ${position} ${degree}`, WIDE_BYTES)),
  );
  if (key.source.type === "fresh") return coefficients;
  const old = secrets.oldShares.get(position);
  if (old === undefined) throw new RangeError(`the old share of ${key.name} is missing`);
  return [scalarFromBytes(old), ...coefficients.slice(1)];
}

const commitmentsOf = (polynomial: readonly bigint[]): Uint8Array[] =>
  polynomial.map((coefficient) => bls12_381.G1.Point.BASE.multiply(coefficient).toBytes());

const COMMITTED = struct({
  ceremony: UNIQUE_ID,
  attempt: count,
  dealer: count,
  commitments: list(list(fixed(G1_BYTES), PARTICIPANTS_MAX), KEYS_MAX),
});

/** What an enrolment binds its author to: the hash of all commitments that it will deal, in the plan's order of keys. */
export function commitmentHash(scene: Scene, dealer: number, commitments: Uint8Array[][]): Uint8Array {
  const { ceremony, attempt } = scene;
  return hash("lattice/ceremony/commitment/v1", COMMITTED, { ceremony, attempt, dealer, commitments });
}

/** Has `who` everything that it is to deal? An old holder without its share deals nothing, and may receive. */
export function canDeal(plan: CeremonyPlan, who: number, { oldShares }: AttemptSecrets): boolean {
  return dealtBy(plan, who).every(({ position, key }) => key.source.type === "fresh" || oldShares.has(position));
}

/** What participant `who` says first; with nothing to deal it is bound to nothing. */
export function makeEnrolment(
  scene: Scene,
  who: number,
  secrets: AttemptSecrets,
): { readonly boxKey: Uint8Array; readonly commitment: Uint8Array } {
  const dealt = canDeal(scene.plan, who, secrets) ? dealtBy(scene.plan, who) : [];
  const commitments = dealt.map(({ position, key }) => commitmentsOf(polynomialOf(scene, secrets, position, key)));
  return {
    boxKey: attemptBoxKey(scene, secrets).publicKey,
    commitment: commitmentHash(scene, who, commitments),
  };
}

/** Box keys of the enrolled, by participant. */
export type BoxKeys = ReadonlyMap<number, Uint8Array>;

/** Positions of the keys of which `dealer` deals `receiver` a share, with the receiver's member index in each. */
function sharesBetween(
  plan: CeremonyPlan,
  dealer: number,
  receiver: number,
): readonly { readonly position: number; readonly index: number }[] {
  return dealtBy(plan, dealer).flatMap(({ position, key }) => {
    const index = key.receivers.indexOf(receiver);
    return index < 0 ? [] : [{ position, index }];
  });
}

/** Who gets a box from `dealer`, ascending: enrolled receivers of the keys it deals. */
function boxesOf(plan: CeremonyPlan, dealer: number, boxKeys: BoxKeys): readonly number[] {
  return [...boxKeys.keys()]
    .filter((receiver) => sharesBetween(plan, dealer, receiver).length > 0)
    .sort((a, b) => a - b);
}

/** The secret behind one deal's ephemeral point. */
export function ephemeralKey(scene: Scene, secrets: AttemptSecrets): BoxKey {
  return boxKeyOf(expand(scene, secrets, "ephemeral", BOX_SCALAR_WIDE_BYTES));
}

/** The box with which `dealer` sends `receiver` its shares, 32 bytes each. */
export function sealBox(
  scene: Scene,
  dealer: number,
  receiver: number,
  ephemeral: BoxKey,
  boxKey: Uint8Array,
  shares: readonly Uint8Array[],
): Uint8Array {
  return sealShares(sharedPoint(ephemeral, boxKey), contextOf(scene, { dealer, receiver }), concat(...shares));
}

/** Everything that `who` deals. The same again for the same seed and the same enrolled. */
export function makeDeal(scene: Scene, who: number, secrets: AttemptSecrets, boxKeys: BoxKeys): Deal {
  const { plan } = scene;
  const polynomials = new Map(
    dealtBy(plan, who).map(({ position, key }) => [position, polynomialOf(scene, secrets, position, key)]),
  );
  const parts = dealtBy(plan, who).map(({ position, key }) => {
    const polynomial = polynomials.get(position) ?? [];
    const context = contextOf(scene, { dealer: who, key: key.name });
    const nonce = wideScalar(expand(scene, secrets, `knowledge ${position}`, WIDE_BYTES));
    return {
      key: position,
      commitments: commitmentsOf(polynomial),
      proof: proveKnowledge(polynomial[0] ?? 0n, context, nonce),
    };
  });
  const ephemeral = ephemeralKey(scene, secrets);
  const boxes = boxesOf(plan, who, boxKeys).map((receiver) => {
    const shares = sharesBetween(plan, who, receiver).map(({ position, index }) =>
      scalarToBytes(valueAt(polynomials.get(position) ?? [], evaluationPoint(index))),
    );
    const sealed = sealBox(scene, who, receiver, ephemeral, boxKeys.get(receiver) ?? new Uint8Array(), shares);
    return { participant: receiver, sealed };
  });
  const nonce = expand(scene, secrets, "ephemeral knowledge", BOX_SCALAR_WIDE_BYTES);
  return {
    parts,
    ephemeral: ephemeral.publicKey,
    ephemeralProof: proveBoxKey(ephemeral, contextOf(scene, { dealer: who }), nonce),
    boxes,
  };
}

function valueAt(polynomial: readonly bigint[], x: bigint): bigint {
  return polynomial.reduceRight((sum, coefficient) => Fr.add(Fr.mul(sum, x), coefficient), 0n);
}

/** What anybody can see to be wrong with a deal; undefined when only the boxes' content remains to be judged. Total. */
export function dealProblem(
  scene: Scene,
  who: number,
  deal: Deal,
  commitment: Uint8Array,
  boxKeys: BoxKeys,
): string | undefined {
  const { plan } = scene;
  const expected = dealtBy(plan, who);
  const fits =
    deal.parts.length === expected.length &&
    expected.every(({ position, key }, i) => {
      const part = deal.parts[i];
      return part?.key === position && part.commitments.length === key.threshold;
    });
  if (!fits) return "deals other keys or degrees than the plan says";
  if (
    !equalBytes(
      commitment,
      commitmentHash(
        scene,
        who,
        deal.parts.map(({ commitments }) => commitments),
      ),
    )
  ) {
    return "deals other commitments than it enrolled with";
  }
  for (const [i, { key }] of expected.entries()) {
    const part = deal.parts[i];
    const constant = part?.commitments[0];
    if (part === undefined || constant === undefined || !part.commitments.every(isBlsPublicKey)) {
      return `a commitment of ${key.name} is not in G1`;
    }
    if (key.source.type === "reshare") {
      const own = key.source.holders.find(({ participant }) => participant === who);
      if (own === undefined || !equalBytes(own.publicShare, constant))
        return `deals another ${key.name} share than its own`;
    }
    if (!knows(constant, contextOf(scene, { dealer: who, key: key.name }), part.proof)) {
      return `does not show that it knows what it deals of ${key.name}`;
    }
  }
  if (!knowsBoxKey(deal.ephemeral, contextOf(scene, { dealer: who }), deal.ephemeralProof)) {
    return "does not show that it knows its ephemeral secret";
  }
  const receivers = boxesOf(plan, who, boxKeys);
  const boxesFit =
    deal.boxes.length === receivers.length &&
    receivers.every((receiver, i) => {
      const box = deal.boxes[i];
      const length = sharesBetween(plan, who, receiver).length * SCALAR_BYTES + BOX_TAG_BYTES;
      return box?.participant === receiver && box.sealed.length === length;
    });
  return boxesFit ? undefined : "the boxes are not those of the enrolled receivers";
}

/**
 * The shares that `dealer` dealt `receiver`, by position of the key, when the box opens and every share lies on its
 * committed polynomial; undefined otherwise. Total: whoever has the shared point judges alike.
 */
export function openDeal(
  scene: Scene,
  dealer: number,
  receiver: number,
  deal: Deal,
  shared: Uint8Array,
): ReadonlyMap<number, Uint8Array> | undefined {
  const box = deal.boxes.find(({ participant }) => participant === receiver);
  if (box === undefined) return undefined;
  const plaintext = openShares(shared, contextOf(scene, { dealer, receiver }), box.sealed);
  const between = sharesBetween(scene.plan, dealer, receiver);
  if (plaintext?.length !== between.length * SCALAR_BYTES) return undefined;
  const shares = new Map<number, Uint8Array>();
  for (const [i, { position, index }] of between.entries()) {
    const share = plaintext.slice(i * SCALAR_BYTES, (i + 1) * SCALAR_BYTES);
    const commitments = deal.parts.find(({ key }) => key === position)?.commitments ?? [];
    if (!isShareOf(commitments, index, share)) return undefined;
    shares.set(position, share);
  }
  return shares;
}

/** `openDeal` as the receiver itself. */
export function openOwnBox(
  scene: Scene,
  dealer: number,
  receiver: number,
  deal: Deal,
  secrets: AttemptSecrets,
): ReadonlyMap<number, Uint8Array> | undefined {
  return openDeal(scene, dealer, receiver, deal, sharedPoint(attemptBoxKey(scene, secrets), deal.ephemeral));
}

/** Opens the box of one deal to everybody. */
export function makeComplaint(
  scene: Scene,
  dealer: number,
  receiver: number,
  deal: Deal,
  secrets: AttemptSecrets,
): Complaint {
  const key = attemptBoxKey(scene, secrets);
  const context = contextOf(scene, { dealer, receiver });
  // The ephemeral point is the statement: with another one, another nonce.
  const nonce = expand(scene, secrets, `complaint ${dealer} ${toHex(deal.ephemeral)}`, BOX_SCALAR_WIDE_BYTES);
  return {
    dealer,
    shared: sharedPoint(key, deal.ephemeral),
    proof: proveShared(key, deal.ephemeral, context, nonce),
  };
}

/** Who is at fault, from public bytes alone: a complaint settles in one step. Total. */
export function judgeComplaint(
  scene: Scene,
  complaint: Complaint,
  receiver: number,
  boxKey: Uint8Array,
  deal: Deal,
): "dealer" | "receiver" {
  const { dealer, shared, proof } = complaint;
  const context = contextOf(scene, { dealer, receiver });
  if (!isShared(boxKey, deal.ephemeral, shared, context, proof)) return "receiver";
  return openDeal(scene, dealer, receiver, deal, shared) === undefined ? "dealer" : "receiver";
}

/** What a participant shows with its confirmation: that it knows its share of a key. */
export function proveHolding(
  scene: Scene,
  who: number,
  key: PlannedKey,
  transcript: Uint8Array,
  share: Uint8Array,
  secrets: AttemptSecrets,
): Uint8Array {
  const nonce = wideScalar(expand(scene, secrets, `holding ${key.name} ${toHex(transcript)}`, WIDE_BYTES));
  return proveKnowledge(scalarFromBytes(share), holdingContext(scene, who, key, transcript), nonce);
}

/** Total. */
export function isHolding(
  scene: Scene,
  who: number,
  key: PlannedKey,
  transcript: Uint8Array,
  publicShare: Uint8Array,
  proof: Uint8Array,
): boolean {
  return knows(publicShare, holdingContext(scene, who, key, transcript), proof);
}

function holdingContext(scene: Scene, who: number, key: PlannedKey, transcript: Uint8Array): Uint8Array {
  return concat(contextOf(scene, { receiver: who, key: key.name }), transcript);
}
