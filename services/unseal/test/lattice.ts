/** A dealt unseal committee of three (t = 2) and the outcomes of its neighbours, for tests. */
import { randomBytes } from "node:crypto";
import { encode } from "@lattice/organism/codec/codec.ts";
import {
  type CertifiedOutcome,
  type Outcome,
  type OutcomeKind,
  outcomeDigest,
} from "@lattice/organism/committee/outcome.ts";
import { ROSTER, type Roster } from "@lattice/organism/committee/roster.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { generateSecret, publicOf, splitSecret } from "@lattice/organism/crypto/shamir.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { BROADCAST, BROADCAST_BODY, type BroadcastMessage } from "@lattice/organism/outcomes/zipnet.ts";
import type { MemberSecrets } from "@lattice/organism/service.ts";

export const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

export const THRESHOLD = 2;
export const MEMBERS = 3;
export const GAP_SLOTS = 4;

function testConfig(certificateKey: Uint8Array): LatticeConfig {
  const base = <C>(content: C) => ({
    policy: { membersMin: 3, membersMax: 7, faults: "none" as const, certificateKey },
    acl: [],
    content,
  });
  const settlement = new Uint8Array(20).fill(9);
  return {
    version: 1,
    name: "unseal-test",
    chainId: 31_337n,
    genesisMs: 1_790_000_000_000,
    slotMs: 4000,
    pipelineDepth: 4,
    throwAway: true,
    keys: "dealer",
    zipnet: base({
      cells: 128,
      cellBytes: 1024,
      segments: 4,
      mode: "one-shot" as const,
      clientsMax: 100,
      participantsMin: 1,
      operators: [0, 1, 2].map((index) => new Uint8Array(32).fill(index)),
      roundOpenMs: 5800,
      roundCloseMs: 2200,
      patienceMs: 600,
      blameWindowSlots: 4,
    }),
    unseal: base({
      threshold: THRESHOLD,
      sharesMs: 1800,
      poolMs: 1400,
      patienceMs: 600,
      gapSlots: GAP_SLOTS,
      exposure: "members" as const,
    }),
    offer: base({
      threshold: 2,
      blindCloseMs: 2000,
      seenCloseMs: 1000,
      patienceMs: 600,
      rule: "first-price" as const,
      reserveWei: 0n,
      blindWinnersMax: 1,
      seenWinnersMax: 4,
      bidsPerSearcherMax: 4,
      bundleBytes: 4096,
      settlement,
    }),
    atelier: base({
      builderKey: certificateKey,
      chainGenesisHash: new Uint8Array(32),
      candidateMs: 400,
      patienceMs: 600,
      blindGasBps: 3000,
      carrySlots: 4,
      settlement,
    }),
    relay: base({ policy: "l2-sequencer" as const, sequencers: [settlement], acceptedAfterMs: 2400, patienceMs: 600 }),
    tally: base({
      threshold: 2,
      settlement,
      refundShareBps: 9000,
      attestEverySlots: 4,
      finalityDepth: 2,
      patienceMs: 600,
    }),
  };
}

export interface TestLattice {
  readonly config: LatticeConfig;
  readonly roster: Roster;
  readonly certifiedRoster: CertifiedOutcome;
  readonly secrets: readonly MemberSecrets[];
  /** The group's sealing key, 48 bytes. */
  readonly sealingKey: Uint8Array;
  /** Certifies as any of the six committees would: they share one certificate key here. */
  certify(outcome: Outcome): CertifiedOutcome;
}

export function dealLattice(): TestLattice {
  const certificateSecret = generateSecret(random);
  const sealingSecret = generateSecret(random);
  const certificates = splitSecret({ secret: certificateSecret, threshold: 2, count: MEMBERS, random });
  const sealing = splitSecret({ secret: sealingSecret, threshold: THRESHOLD, count: MEMBERS, random });
  const config = testConfig(publicOf(certificateSecret));
  const secrets = certificates.shares.map((certificateShare, index): MemberSecrets => {
    const secondShare = sealing.shares[index] ?? new Uint8Array();
    return { boxKey: random(32), memberKey: random(32), certificateShare, secondShare };
  });
  const sealingKey = publicOf(sealingSecret);
  const roster: Roster = {
    version: 1,
    committee: committeeId(config, "unseal"),
    epoch: 0n,
    activationSlot: 1n,
    members: secrets.map(({ memberKey, boxKey }, index) => ({
      index,
      memberKey: generateSigningKey(memberKey).publicKey,
      boxKey: agreementKey(boxKey).publicKey,
      certificateShare: certificates.publicShares[index] ?? new Uint8Array(),
      secondShare: sealing.publicShares[index],
      signer: undefined,
    })),
    sealingKey,
    sealingUntilSlot: 1_000_000n,
  };
  const outcome: Outcome = {
    version: 1,
    committee: roster.committee,
    generation: 0n,
    epoch: 0n,
    slot: roster.activationSlot,
    stage: "roster",
    kind: "result",
    commitment: encode(ROSTER, roster),
    bodyHash: undefined,
  };
  const certify = (certified: Outcome): CertifiedOutcome => ({
    outcome: certified,
    signature: blsSign(certificateSecret, outcomeDigest(certified)),
    signers: [0, 1],
  });
  return { config, roster, certifiedRoster: certify(outcome), secrets, sealingKey, certify };
}

const EMPTY = new Uint8Array();

/** An outcome of another organism; tests that feed machines need no certificate. */
export function outcomeOf(
  config: LatticeConfig,
  organism: Organism,
  stage: string,
  slot: bigint,
  kind: OutcomeKind,
  commitment: Uint8Array = EMPTY,
  bodyHash?: Uint8Array,
): Outcome {
  const committee = committeeId(config, organism);
  return { version: 1, committee, generation: 0n, epoch: 0n, slot, stage, kind, commitment, bodyHash };
}

/** A Broadcast with these messages, and its body. */
export function broadcastOf(config: LatticeConfig, slot: bigint, messages: readonly BroadcastMessage[]) {
  const body = encode(BROADCAST_BODY, [...messages]);
  const commitment = encode(BROADCAST, {
    version: 1,
    rho: slot,
    headerDigest: new Uint8Array(32),
    participants: 3,
    messages: messages.length,
  });
  return { outcome: outcomeOf(config, "zipnet", "broadcast", slot, "result", commitment, blake3(body)), body };
}

export function attributionOf(
  config: LatticeConfig,
  slot: bigint,
  landedMessages: readonly Uint8Array[],
  landed = true,
) {
  const commitment = encode(ATTRIBUTION, {
    version: 1,
    landed,
    parentHash: new Uint8Array(32),
    blockHash: new Uint8Array(32),
    blockNumber: slot,
    landedMessages: [...landedMessages],
    credits: [],
    charges: [],
    refundableWei: 0n,
    remainderWei: 0n,
  });
  return outcomeOf(config, "tally", "attribution", slot, "result", commitment);
}
