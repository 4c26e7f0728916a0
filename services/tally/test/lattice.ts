/** A dealt tally committee of three (q = 2, two attesters), and the outcomes of its neighbours, for tests. */
import { randomBytes } from "node:crypto";
import { encode, fromHex } from "@lattice/organism/codec/codec.ts";
import {
  type CertifiedOutcome,
  type Outcome,
  type OutcomeKind,
  outcomeDigest,
} from "@lattice/organism/committee/outcome.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { generateSecret, publicOf, splitSecret } from "@lattice/organism/crypto/shamir.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import {
  CANDIDATE,
  CANDIDATE_BODY,
  type CandidateBody,
  candidateOf,
  type Entry,
  type OrderRow,
} from "@lattice/organism/outcomes/atelier.ts";
import { AUCTION, type AuctionCommitment, type Winner } from "@lattice/organism/outcomes/offer.ts";
import { ACCEPTED } from "@lattice/organism/outcomes/relay.ts";
import type { MemberSecrets } from "@lattice/organism/service.ts";
import { privateKeyToAccount } from "viem/accounts";
import { type TestKey, testKey } from "./keys.ts";

export const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));
export const MEMBERS = 3;
export const THRESHOLD = 2;
export const ATTEST_EVERY = 2;
export const FINALITY_DEPTH = 2;
export const CHAIN_ID = 31_337n;

export const word = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
export const address = (byte: number): Uint8Array => new Uint8Array(20).fill(byte);
export const messageId = (byte: number): Uint8Array => new Uint8Array(16).fill(byte);

function testConfig(certificateKey: Uint8Array, settlement: Uint8Array, genesisMs: number): LatticeConfig {
  const base = <C>(content: C) => ({
    policy: { membersMin: 3, membersMax: 7, faults: "none" as const, certificateKey },
    acl: [],
    content,
  });
  return {
    version: 1,
    name: "tally-test",
    chainId: CHAIN_ID,
    genesisMs,
    slotMs: 1000,
    pipelineDepth: 4,
    throwAway: true,
    keys: "dealer",
    zipnet: base({
      cells: 16,
      cellBytes: 1024,
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
      gapSlots: 4,
      exposure: "members" as const,
    }),
    offer: base({
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
    atelier: base({
      builderKey: certificateKey,
      chainGenesisHash: new Uint8Array(32),
      candidateMs: 100,
      patienceMs: 150,
      blindGasBps: 3000,
      carrySlots: 4,
      settlement,
    }),
    relay: base({
      policy: "l2-sequencer" as const,
      sequencers: [address(5)],
      acceptedAfterMs: 600,
      patienceMs: 150,
    }),
    tally: base({
      threshold: THRESHOLD,
      settlement,
      refundShareBps: 9000,
      attestEverySlots: ATTEST_EVERY,
      finalityDepth: FINALITY_DEPTH,
      patienceMs: 150,
    }),
  };
}

export interface TestLattice {
  readonly config: LatticeConfig;
  readonly roster: Roster;
  readonly secrets: readonly (MemberSecrets & { readonly signerKey: Uint8Array })[];
  /** Certifies as any of the six committees would: they share one certificate key here. */
  certify(outcome: Outcome): CertifiedOutcome;
}

/** The members' settlement keys, always the same. */
export const SIGNERS: readonly TestKey[] = [0, 1, 2].map((index) => testKey(`tally member ${index}`));

export function dealLattice(settlement: Uint8Array = address(9), genesisMs = 1_790_000_000_000): TestLattice {
  const certificateSecret = generateSecret(random);
  const certificates = splitSecret({ secret: certificateSecret, threshold: 2, count: MEMBERS, random });
  const config = testConfig(publicOf(certificateSecret), settlement, genesisMs);
  const secrets = certificates.shares.map((certificateShare, index) => {
    const signerKey = SIGNERS[index]?.secret ?? new Uint8Array();
    return { boxKey: random(32), memberKey: random(32), certificateShare, signerKey };
  });
  const roster: Roster = {
    version: 1,
    committee: committeeId(config, "tally"),
    epoch: 0n,
    activationSlot: 1n,
    members: secrets.map(({ memberKey, boxKey }, index) => ({
      index,
      memberKey: generateSigningKey(memberKey).publicKey,
      boxKey: agreementKey(boxKey).publicKey,
      certificateShare: certificates.publicShares[index] ?? new Uint8Array(),
      secondShare: undefined,
      signer: SIGNERS[index]?.address,
    })),
    sealingKey: undefined,
    sealingUntilSlot: 0n,
  };
  const certify = (outcome: Outcome): CertifiedOutcome => ({
    outcome,
    signature: blsSign(certificateSecret, outcomeDigest(outcome)),
    signers: [0, 1],
  });
  return { config, roster, secrets, certify };
}

/** The same keys under every committee's name: enough to follow neighbours. */
export function rostersOf({ roster }: TestLattice): { readonly [O in Organism]: Roster } {
  return Object.fromEntries(ORGANISMS.map((organism) => [organism, roster])) as Record<Organism, Roster>;
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

export function winnerOf(byte: number, over: Partial<Winner> = {}): Winner {
  return {
    bidId: word(byte),
    paymentId: word(byte),
    class: "seen",
    searcher: address(byte),
    escrowAccount: address(byte + 1),
    amountWei: 1000n,
    clearingWei: 1000n,
    references: [messageId(1)],
    bundleCommitment: word(0),
    ...over,
  };
}

export function rowOf(byte: number, over: Partial<OrderRow> = {}): OrderRow {
  return {
    bidId: word(byte),
    class: "seen",
    status: "landed",
    reason: undefined,
    searcher: address(byte),
    escrowAccount: address(byte + 1),
    references: [messageId(1)],
    paymentWei: 1000n,
    valueWei: 1000n,
    gasUsed: 21_000n,
    ...over,
  };
}

export function auctionOf(config: LatticeConfig, slot: bigint, over: Partial<AuctionCommitment> = {}): Outcome {
  const commitment = encode(AUCTION, {
    version: 1,
    rule: "first-price",
    blind: undefined,
    winners: [winnerOf(0xa0)],
    blindBids: 0,
    seenBids: 1,
    rivals: [{ messageId: messageId(1), highestOtherWei: 0n }],
    voids: [],
    ...over,
  });
  return outcomeOf(config, "offer", "auction", slot, "result", commitment);
}

export interface CandidateShape {
  readonly slot: bigint;
  readonly blockNumber: bigint;
  readonly blockHash: Uint8Array;
  readonly parentHash?: Uint8Array;
  readonly auction?: Outcome;
  readonly entries?: readonly Entry[];
  readonly table?: readonly OrderRow[];
  readonly feeRecipient?: Uint8Array;
}

/** A candidate outcome and its body. */
export function candidateOutcome(
  config: LatticeConfig,
  shape: CandidateShape,
): { readonly outcome: Outcome; readonly body: CandidateBody; readonly bytes: Uint8Array } {
  const body: CandidateBody = {
    version: 1,
    slot: shape.slot,
    candidateVersion: 1,
    attributes: {
      parentHash: shape.parentHash ?? word(Number(shape.blockNumber - 1n)),
      timestamp: shape.slot,
      prevRandao: word(0),
      feeRecipient: shape.feeRecipient ?? config.tally.content.settlement,
      gasLimit: 30_000_000n,
      parentBeaconBlockRoot: word(0),
      extraData: EMPTY,
      withdrawals: [],
    },
    unsealed: undefined,
    auction: shape.auction === undefined ? undefined : outcomeDigest(shape.auction),
    entries: [...(shape.entries ?? [])],
    exclusions: [],
    table: [...(shape.table ?? [])],
    carry: [],
    appliedHints: [],
    header: {
      number: shape.blockNumber,
      stateRoot: word(0),
      transactionsRoot: word(0),
      receiptsRoot: word(0),
      logsBloom: new Uint8Array(256),
      gasUsed: 0n,
      baseFeePerGas: 7n,
      withdrawalsRoot: word(0),
      blobGasUsed: 0n,
      excessBlobGas: 0n,
      requestsHash: undefined,
    },
    executionRequests: [],
    blockHash: shape.blockHash,
    feesWei: 0n,
  };
  const bytes = encode(CANDIDATE_BODY, body);
  const commitment = encode(CANDIDATE, candidateOf(body, bytes));
  return {
    outcome: outcomeOf(config, "atelier", "candidate", shape.slot, "result", commitment, blake3(bytes)),
    body,
    bytes,
  };
}

export function acceptedOutcome(config: LatticeConfig, slot: bigint, blockHash: Uint8Array): Outcome {
  const commitment = encode(ACCEPTED, {
    version: 1,
    parentHash: word(0),
    blockHash,
    blockNumber: 1n,
    sequencer: address(5),
    signature: new Uint8Array(65),
  });
  return outcomeOf(config, "relay", "accepted", slot, "result", commitment);
}

/** A transaction of `from`, signed. */
export async function rawTransaction(from: TestKey, nonce = 0): Promise<Uint8Array> {
  const raw = await privateKeyToAccount(`0x${Buffer.from(from.secret).toString("hex")}`).signTransaction({
    type: "eip1559",
    chainId: Number(CHAIN_ID),
    to: `0x${"11".repeat(20)}`,
    gas: 21_000n,
    nonce,
    maxFeePerGas: 1_000_000_000n,
    maxPriorityFeePerGas: 1n,
  });
  return fromHex(raw.slice(2));
}
