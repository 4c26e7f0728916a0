/** A throw-away lattice for tests: config, dealt sealing key, three members, searchers with escrow. */
import { randomBytes } from "node:crypto";
import { encode } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { ROSTER, ROSTER_STAGE, type Roster } from "@lattice/organism/committee/roster.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { generateSecret, publicOf, splitSecret } from "@lattice/organism/crypto/shamir.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import type { MemberSecrets } from "@lattice/organism/service.ts";

export const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));

export type OfferContent = LatticeConfig["offer"]["content"];

/** Slots of 1 s; blind close 500 ms and seen close 250 ms before the slot. */
export function testConfig(
  certificateKey: Uint8Array,
  offer: Partial<OfferContent> = {},
  overrides: Partial<LatticeConfig> = {},
): LatticeConfig {
  const base = <C>(content: C) => ({
    policy: { membersMin: 3, membersMax: 7, faults: "none" as const, certificateKey },
    acl: [],
    content,
  });
  const settlement = new Uint8Array(20).fill(9);
  return {
    version: 1,
    name: "offer-test",
    chainId: 31_337n,
    genesisMs: 1_790_000_000_000,
    slotMs: 1000,
    pipelineDepth: 4,
    throwAway: true,
    keys: "dealer",
    zipnet: base({
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
    unseal: base({
      threshold: 2,
      sharesMs: 450,
      poolMs: 350,
      patienceMs: 150,
      gapSlots: 8,
      exposure: "members" as const,
    }),
    offer: base({
      threshold: 2,
      blindCloseMs: 500,
      seenCloseMs: 250,
      patienceMs: 150,
      rule: "first-price" as const,
      reserveWei: 100n,
      blindWinnersMax: 1,
      seenWinnersMax: 2,
      bidsPerSearcherMax: 2,
      bundleBytes: 1024,
      settlement,
      ...offer,
    }),
    atelier: base({
      builderKey: certificateKey,
      chainGenesisHash: new Uint8Array(32),
      candidateMs: 100,
      patienceMs: 150,
      blindGasBps: 3000,
      carrySlots: 4,
      settlement,
    }),
    relay: base({ policy: "l2-sequencer" as const, sequencers: [settlement], acceptedAfterMs: 600, patienceMs: 150 }),
    tally: base({
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
  readonly roster: Roster;
  readonly rosters: { readonly [O in Organism]: Roster };
  readonly secrets: readonly MemberSecrets[];
  readonly certifiedRoster: CertifiedOutcome;
  /** The certificate secret: lets a test certify upstream outcomes, which share the key. */
  readonly certificateSecret: Uint8Array;
}

/** Three members; certificate and sealing thresholds are 2. `initCrypto` first. */
export function dealCommittee(
  offer: Partial<OfferContent> = {},
  overrides: Partial<LatticeConfig> = {},
): TestCommittee {
  const certificateSecret = generateSecret(random);
  const certificate = splitSecret({ secret: certificateSecret, threshold: 2, count: 3, random });
  const sealingSecret = generateSecret(random);
  const sealing = splitSecret({ secret: sealingSecret, threshold: 2, count: 3, random });
  const config = testConfig(publicOf(certificateSecret), offer, overrides);
  const secrets = certificate.shares.map((certificateShare, index) => ({
    boxKey: random(32),
    memberKey: random(32),
    certificateShare,
    secondShare: sealing.shares[index] ?? new Uint8Array(),
  }));
  const rosterOf = (organism: Organism): Roster => ({
    version: 1,
    committee: committeeId(config, organism),
    epoch: 0n,
    activationSlot: 1n,
    members: secrets.map(({ memberKey, boxKey }, index) => ({
      index,
      memberKey: generateSigningKey(memberKey).publicKey,
      boxKey: agreementKey(boxKey).publicKey,
      certificateShare: certificate.publicShares[index] ?? new Uint8Array(),
      secondShare: sealing.publicShares[index],
      signer: undefined,
    })),
    sealingKey: publicOf(sealingSecret),
    sealingUntilSlot: 1_000_000n,
  });
  const rosters = Object.fromEntries(ORGANISMS.map((organism) => [organism, rosterOf(organism)])) as Record<
    Organism,
    Roster
  >;
  const outcome: Outcome = {
    version: 1,
    committee: rosters.offer.committee,
    generation: 0n,
    epoch: 0n,
    slot: rosters.offer.activationSlot,
    stage: ROSTER_STAGE,
    kind: "result",
    commitment: encode(ROSTER, rosters.offer),
    bodyHash: undefined,
  };
  const signature = blsSign(certificateSecret, outcomeDigest(outcome));
  const certifiedRoster = { outcome, signature, signers: [] };
  return { config, roster: rosters.offer, rosters, secrets, certificateSecret, certifiedRoster };
}

export interface Searcher {
  readonly key: Uint8Array;
  readonly address: Uint8Array;
}

export function searcher(byte: number): Searcher {
  const key = new Uint8Array(32).fill(byte);
  return { key, address: addressOfSecret(key) };
}
