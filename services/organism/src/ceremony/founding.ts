/**
 * The ceremonies that found a lattice: one per organism, before the identity exists. Their plans follow from a drafted
 * config, in which the group keys are still zero, and the members' public keys; what they publish is roster epoch 0,
 * certified under the certificate key that they have just made (log.md §7).
 */
import { type Codec, count, encode, fixed, list, optional, struct, text } from "../codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { faultsTolerated, quorumOf } from "../committee/quorum.ts";
import { ROSTER, ROSTER_STAGE, type Roster } from "../committee/roster.ts";
import { hash } from "../crypto/hash.ts";
import { committeeId, encodeConfig, G1_BYTES, type LatticeConfig } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import { latticeRoot, organismRoot } from "../identity/unique-id.ts";
import type { CeremonyResult, Publication } from "./ceremony.ts";
import { type CeremonyPlan, PARTICIPANTS_MAX, type PlannedKey } from "./plan.ts";

/** What a member's operator hands in. */
export interface FoundingMember {
  /** Ed25519, 32 bytes. */
  readonly memberKey: Uint8Array;
  /** X25519, 32 bytes. */
  readonly boxKey: Uint8Array;
  /** tally: the settlement address, 20 bytes. */
  readonly signer?: Uint8Array;
  /** zipnet: the operator's Ed25519 root key, 32 bytes. */
  readonly operator?: Uint8Array;
}

/** What everybody agrees on before the first ceremony. */
export interface Founding {
  /** With all group keys zero, and everything else final. */
  readonly draft: LatticeConfig;
  /** In member order. */
  readonly members: Readonly<Record<Organism, readonly FoundingMember[]>>;
}

/** The key besides the certificate key. */
/** Which group key an organism has besides the one that certifies. */
export const SECOND_KEY: Partial<Record<Organism, string>> = {
  unseal: "sealing",
  offer: "sealing",
  atelier: "builder",
};
const CERTIFICATE = 0;
const SECOND = 1;
/** Sealing keys serve until an epoch replaces them. */
const NO_LAST_SLOT = (1n << 63n) - 1n;

const MEMBER = struct({
  memberKey: fixed(32),
  boxKey: fixed(32),
  signer: optional(fixed(20)),
  operator: optional(fixed(32)),
});
type EncodedMember = {
  memberKey: Uint8Array;
  boxKey: Uint8Array;
  signer: Uint8Array | undefined;
  operator: Uint8Array | undefined;
};
const PURPOSE = struct({
  draft: fixed(32),
  organism: text(16),
  members: list(MEMBER as Codec<EncodedMember>, PARTICIPANTS_MAX),
  version: count,
});

const NO_KEY = new Uint8Array(G1_BYTES);

/** The config without group keys, as it stands before the ceremonies. */
export function draftOf(config: LatticeConfig): LatticeConfig {
  const bare = { ...config, keys: "ceremony" as const };
  for (const organism of ORGANISMS) withKey(bare, organism, NO_KEY);
  bare.atelier = { ...bare.atelier, content: { ...bare.atelier.content, builderKey: NO_KEY } };
  return bare;
}

function withKey<O extends Organism>(config: LatticeConfig, organism: O, certificateKey: Uint8Array): void {
  const part = config[organism];
  config[organism] = { ...part, policy: { ...part.policy, certificateKey } };
}

/** What the members of one organism run. All of them must deal and hold: an identity begins with everybody. */
export function foundingPlan(founding: Founding, organism: Organism): CeremonyPlan {
  const { draft } = founding;
  const members = founding.members[organism];
  const everybody = members.map((_, index) => index);
  const quorum = quorumOf(members.length, faultsTolerated(draft[organism].policy, members.length));
  const key = (name: string, threshold: number): PlannedKey => ({
    name,
    threshold,
    receivers: [...everybody],
    source: { type: "fresh" },
  });
  const second = SECOND_KEY[organism];
  const sealing = organism === "unseal" || organism === "offer";
  return {
    version: 1,
    root: organismRoot(latticeRoot(draft.name, draft.chainId), organism),
    purpose: hash("lattice/ceremony/founding/v1", PURPOSE, {
      draft: hash("lattice/ceremony/draft/v1", fixed(encodeConfig(draft).length), encodeConfig(draft)),
      organism,
      members: members.map(({ memberKey, boxKey, signer, operator }) => ({ memberKey, boxKey, signer, operator })),
      version: 1,
    }),
    participants: members.map(({ memberKey }) => memberKey),
    keys: [
      key("certificate", quorum),
      ...(second === undefined ? [] : [key(second, sealing ? draft[organism].content.threshold : quorum)]),
    ],
    closeQuorum: Math.floor(members.length / 2) + 1,
    dealersMin: members.length,
    holdersMin: members.length,
  };
}

/** The group keys of one organism. */
export interface FoundedKeys {
  readonly certificateKey: Uint8Array;
  /** Of unseal and offer the sealing key, of atelier the builder's. */
  readonly secondKey: Uint8Array | undefined;
}

export function foundedKeys(result: CeremonyResult): FoundedKeys {
  const certificateKey = result.keys[CERTIFICATE]?.publicKey;
  if (certificateKey === undefined) throw new RangeError("the result holds no certificate key");
  return { certificateKey, secondKey: result.keys[SECOND]?.publicKey };
}

/** The draft with the keys of those organisms that have some: a committee's id depends on its own keys only. */
export function foundedConfig(draft: LatticeConfig, keys: Partial<Record<Organism, FoundedKeys>>): LatticeConfig {
  const config = { ...draft };
  for (const organism of ORGANISMS) {
    const own = keys[organism];
    if (own === undefined) continue;
    withKey(config, organism, own.certificateKey);
    if (organism === "atelier" && own.secondKey !== undefined) {
      config.atelier = { ...config.atelier, content: { ...config.atelier.content, builderKey: own.secondKey } };
    }
  }
  return config;
}

/** Roster epoch 0 as an outcome, not signed yet. */
export function foundingOutcome(founding: Founding, organism: Organism, result: CeremonyResult): Outcome {
  const keys = foundedKeys(result);
  const committee = committeeId(foundedConfig(founding.draft, { [organism]: keys }), organism);
  const [certificate, second] = [result.keys[CERTIFICATE], result.keys[SECOND]];
  const roster: Roster = {
    version: 1,
    committee,
    epoch: 0n,
    activationSlot: 1n,
    members: founding.members[organism].map(({ memberKey, boxKey, signer }, index) => ({
      index,
      memberKey,
      boxKey,
      certificateShare: certificate?.publicShares[index] ?? NO_KEY,
      secondShare: second?.publicShares[index],
      signer,
    })),
    sealingKey: organism === "unseal" || organism === "offer" ? keys.secondKey : undefined,
    sealingUntilSlot: NO_LAST_SLOT,
  };
  return {
    version: 1,
    committee,
    generation: 0n,
    epoch: 0n,
    slot: roster.activationSlot,
    stage: ROSTER_STAGE,
    kind: "result",
    commitment: encode(ROSTER, roster),
    bodyHash: undefined,
  };
}

/** Publication is part of success: the new key signs roster epoch 0. */
export function foundingPublication(founding: Founding, organism: Organism): Publication {
  return { key: CERTIFICATE, digest: (result) => outcomeDigest(foundingOutcome(founding, organism, result)) };
}

/** Roster epoch 0, certified by the ceremony. */
export function foundingRoster(
  founding: Founding,
  organism: Organism,
  end: { readonly result: CeremonyResult; readonly publication: Uint8Array; readonly holders: readonly number[] },
): CertifiedOutcome {
  return {
    outcome: foundingOutcome(founding, organism, end.result),
    signature: end.publication,
    signers: [...end.holders],
  };
}

/** Shares by the names of a member's key file. */
export function namedShares(shares: ReadonlyMap<number, Uint8Array>): {
  readonly certificateShare: Uint8Array | undefined;
  readonly secondShare: Uint8Array | undefined;
} {
  return { certificateShare: shares.get(CERTIFICATE), secondShare: shares.get(SECOND) };
}
