/** Keys and config of a committee that is dealt in memory: for tests, and for what runs beside a lattice and is thrown away. */
import { randomBytes } from "node:crypto";
import { encode } from "../codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { faultsTolerated, quorumOf } from "../committee/quorum.ts";
import { ROSTER, ROSTER_STAGE, type Roster } from "../committee/roster.ts";
import { blsSign } from "../crypto/bls.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import { generateSecret, publicOf, splitSecret } from "../crypto/shamir.ts";
import { agreementKey } from "../crypto/x25519.ts";
import { type AdmissionRule, committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import type { MemberSecrets } from "../service.ts";

export const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

export function testConfig(
  certificateKeys: Readonly<Record<Organism, Uint8Array>>,
  overrides: Partial<LatticeConfig> = {},
): LatticeConfig {
  const base = <C>(organism: Organism, content: C) => ({
    policy: { membersMin: 3, membersMax: 7, faults: "none" as const, certificateKey: certificateKeys[organism] },
    acl: [],
    content,
  });
  const settlement = new Uint8Array(20).fill(9);
  return {
    version: 1,
    name: "test",
    chainId: 31_337n,
    genesisMs: 1_790_000_000_000,
    slotMs: 1000,
    pipelineDepth: 4,
    throwAway: true,
    keys: "dealer",
    zipnet: base("zipnet", {
      cells: 16,
      cellBytes: 512,
      segments: 4,
      mode: "one-shot" as const,
      clientsMax: 100,
      participantsMin: 1,
      operators: [0, 1, 2].map((index) => new Uint8Array(32).fill(index)),
      roundOpenMs: 1500,
      roundCloseMs: 550,
      patienceMs: 150,
      blameWindowSlots: 4,
    }),
    unseal: base("unseal", {
      threshold: 2,
      sharesMs: 450,
      poolMs: 350,
      patienceMs: 150,
      gapSlots: 8,
      exposure: "members" as const,
    }),
    offer: base("offer", {
      threshold: 2,
      blindCloseMs: 500,
      seenCloseMs: 250,
      patienceMs: 150,
      rule: "first-price" as const,
      reserveWei: 0n,
      blindWinnersMax: 1,
      seenWinnersMax: 4,
      bidsPerSearcherMax: 4,
      bundleBytes: 4096,
      settlement,
    }),
    atelier: base("atelier", {
      builderKey: certificateKeys.atelier,
      candidateMs: 100,
      patienceMs: 150,
      blindGasBps: 3000,
      carrySlots: 4,
      settlement,
    }),
    relay: base("relay", {
      policy: "l2-sequencer" as const,
      sequencers: [settlement],
      acceptedAfterMs: 600,
      patienceMs: 150,
    }),
    tally: base("tally", {
      threshold: 2,
      settlement,
      refundShareBps: 9000,
      attestEverySlots: 4,
      finalityDepth: 2,
      patienceMs: 150,
    }),
    ...overrides,
  };
}

export interface TestCommittee {
  readonly config: LatticeConfig;
  readonly rosters: { readonly [O in Organism]: Roster };
  /** relay's, with its certificate. */
  readonly certifiedRoster: CertifiedOutcome;
  readonly secrets: readonly MemberSecrets[];
}

/**
 * n members of `relay`, certificates by a quorum of them; the other rosters are the same keys under their own ids.
 * @param faults the fault policy of all six
 * @param acl the admission rules of all six; theirs when left out
 * @param draw where keys come from, for a committee that is always the same
 */
export function dealCommittee(
  members: number,
  overrides: Partial<LatticeConfig> = {},
  faults: "none" | "third" = "none",
  acl?: readonly AdmissionRule[],
  draw: (length: number) => Uint8Array = random,
): TestCommittee {
  const secret = generateSecret(draw);
  const publicKey = publicOf(secret);
  const threshold = quorumOf(members, faultsTolerated({ faults }, members));
  const dealing = splitSecret({ secret, threshold, count: members, random: draw });
  const keys = Object.fromEntries(ORGANISMS.map((organism) => [organism, publicKey])) as Record<Organism, Uint8Array>;
  const dealt = testConfig(keys, overrides);
  const adjusted = ORGANISMS.map((organism) => {
    const each = dealt[organism];
    return [organism, { ...each, policy: { ...each.policy, faults }, acl: [...(acl ?? each.acl)] }] as const;
  });
  const config = { ...dealt, ...Object.fromEntries(adjusted) } as LatticeConfig;
  const secrets = dealing.shares.map((certificateShare) => ({
    boxKey: draw(32),
    memberKey: draw(32),
    certificateShare,
  }));
  const roster = (organism: Organism): Roster => ({
    version: 1,
    committee: committeeId(config, organism),
    epoch: 0n,
    activationSlot: 1n,
    members: secrets.map(({ memberKey, boxKey }, index) => ({
      index,
      memberKey: generateSigningKey(memberKey).publicKey,
      boxKey: agreementKey(boxKey).publicKey,
      certificateShare: dealing.publicShares[index] ?? new Uint8Array(),
      secondShare: undefined,
      signer: undefined,
    })),
    sealingKey: undefined,
    sealingUntilSlot: 0n,
  });
  const rosters = Object.fromEntries(ORGANISMS.map((organism) => [organism, roster(organism)])) as Record<
    Organism,
    Roster
  >;
  const outcome: Outcome = {
    version: 1,
    committee: rosters.relay.committee,
    generation: 0n,
    epoch: 0n,
    slot: 1n,
    stage: ROSTER_STAGE,
    kind: "result",
    commitment: encode(ROSTER, rosters.relay),
    bodyHash: undefined,
  };
  const certifiedRoster = { outcome, signature: blsSign(secret, outcomeDigest(outcome)), signers: [] };
  return { config, rosters, certifiedRoster, secrets };
}
