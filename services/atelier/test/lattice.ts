/** A dealt atelier committee of three, its sequencer, and the outcomes of its neighbours, for tests. */
import { randomBytes } from "node:crypto";
import { encode } from "@lattice/organism/codec/codec.ts";
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
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { generateSecret, publicOf, splitSecret } from "@lattice/organism/crypto/shamir.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { committeeId, type LatticeConfig, latticeId, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { AUCTION, AUCTION_BODY, BUNDLE, type Winner } from "@lattice/organism/outcomes/offer.ts";
import { type SequencerAttributes, signAttributes } from "@lattice/organism/outcomes/sequencer.ts";
import { contentHash, MESSAGE_CONTENT, UNSEALED, UNSEALED_BODY } from "@lattice/organism/outcomes/unseal.ts";
import type { MemberSecrets } from "@lattice/organism/service.ts";
import type { SignedAttributes } from "../src/core/codec.ts";
import type { WinningBundle } from "../src/core/order.ts";
import type { BlockInfo } from "../src/evm/chain-state.ts";
import { CHAIN_ID, FEE_RECIPIENT, SETTLEMENT } from "./devnet.ts";

export const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));
export const MEMBERS = 3;

const SEQUENCER_SECRET = new Uint8Array(32).fill(7);

function testConfig(certificateKey: Uint8Array): LatticeConfig {
  const base = <C>(content: C) => ({
    policy: { membersMin: 3, membersMax: 7, faults: "none" as const, certificateKey },
    acl: [],
    content,
  });
  return {
    version: 1,
    name: "atelier-test",
    chainId: CHAIN_ID,
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
      threshold: 2,
      sharesMs: 1800,
      poolMs: 1400,
      patienceMs: 600,
      gapSlots: 4,
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
      settlement: SETTLEMENT,
    }),
    atelier: base({
      builderKey: certificateKey,
      candidateMs: 400,
      patienceMs: 600,
      blindGasBps: 3000,
      carrySlots: 4,
      settlement: SETTLEMENT,
    }),
    relay: base({
      policy: "l2-sequencer" as const,
      sequencers: [addressOfSecret(SEQUENCER_SECRET)],
      acceptedAfterMs: 2400,
      patienceMs: 600,
    }),
    tally: base({
      threshold: 2,
      settlement: SETTLEMENT,
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
  readonly secrets: readonly MemberSecrets[];
  /** Certifies as any of the six committees would: they share one certificate key here. */
  certify(outcome: Outcome): CertifiedOutcome;
}

export function dealLattice(): TestLattice {
  const secret = generateSecret(random);
  const dealing = splitSecret({ secret, threshold: 2, count: MEMBERS, random });
  const config = testConfig(publicOf(secret));
  const secrets = dealing.shares.map(
    (certificateShare): MemberSecrets => ({ boxKey: random(32), memberKey: random(32), certificateShare }),
  );
  const roster: Roster = {
    version: 1,
    committee: committeeId(config, "atelier"),
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
  };
  const certify = (outcome: Outcome): CertifiedOutcome => ({
    outcome,
    signature: blsSign(secret, outcomeDigest(outcome)),
    signers: [0, 1],
  });
  return { config, roster, secrets, certify };
}

const EMPTY = new Uint8Array();

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

export interface Published {
  readonly outcome: Outcome;
  readonly body?: Uint8Array;
}

/** Nothing came of the stage. */
export function skippedOf(config: LatticeConfig, organism: Organism, stage: string, slot: bigint): Published {
  return { outcome: outcomeOf(config, organism, stage, slot, "skipped") };
}

/** BlindClosed of a slot, as far as anybody here looks: its digest. */
export function blindDigest(slot: bigint): Uint8Array {
  return blake3(new TextEncoder().encode(`blind ${slot}`));
}

/** Message `index` of a slot. */
export function messageIdOf(slot: bigint, index: number): Uint8Array {
  return blake3(new TextEncoder().encode(`${slot}/${index}`)).slice(0, 16);
}

/** UnsealedRound with these transactions, in unseal order. */
export function unsealedOf(config: LatticeConfig, slot: bigint, raws: readonly Uint8Array[]): Published {
  const contents = raws.map((rawTransaction, index) => ({
    messageId: messageIdOf(slot, index),
    content: encode(MESSAGE_CONTENT, {
      version: 1,
      rawTransaction,
      refund: undefined,
      disclosure: { hash: false, target: false, everything: false },
    }),
  }));
  const nothing = { hash: undefined, to: undefined, selector: undefined, rawTransaction: undefined };
  const commitment = encode(UNSEALED, {
    version: 1,
    broadcast: blake3(new TextEncoder().encode(`broadcast ${slot}`)),
    blind: blindDigest(slot),
    messages: contents.map(({ messageId, content }) => ({
      messageId,
      contentHash: contentHash(messageId, content),
      disclosed: nothing,
    })),
    failures: [],
  });
  if (raws.length === 0) return { outcome: outcomeOf(config, "unseal", "unsealed", slot, "empty", commitment) };
  const body = encode(UNSEALED_BODY, contents);
  return { outcome: outcomeOf(config, "unseal", "unsealed", slot, "result", commitment, blake3(body)), body };
}

/** AuctionOutcome with these winners. */
export function auctionOf(config: LatticeConfig, slot: bigint, winners: readonly WinningBundle[]): Published {
  const commitment = encode(AUCTION, {
    version: 1,
    rule: "first-price",
    blind: blindDigest(slot),
    winners: winners.map(
      ({ bidId, paymentId, class: bidClass, searcher, escrowAccount, amountWei, clearingWei, references }): Winner => ({
        bidId,
        paymentId,
        class: bidClass,
        searcher,
        escrowAccount,
        amountWei,
        clearingWei,
        references: [...references],
        bundleCommitment: new Uint8Array(32),
      }),
    ),
    blindBids: 0,
    seenBids: winners.length,
    rivals: [],
    voids: [],
  });
  if (winners.length === 0) return { outcome: outcomeOf(config, "offer", "auction", slot, "empty", commitment) };
  const body = encode(
    AUCTION_BODY,
    winners.map(({ bidId, items, mayRevert }) => ({
      bidId,
      bundle: encode(BUNDLE, {
        version: 1,
        items: [...items],
        mayRevert: [...mayRevert],
        refundRecipient: undefined,
      }),
    })),
  );
  return { outcome: outcomeOf(config, "offer", "auction", slot, "result", commitment, blake3(body)), body };
}

/** What the sequencer signs for a slot on this parent. */
export function signedAttributes(
  config: LatticeConfig,
  slot: bigint,
  parent: BlockInfo,
  over: Partial<SequencerAttributes> = {},
  secret: Uint8Array = SEQUENCER_SECRET,
): SignedAttributes {
  const attributes: SequencerAttributes = {
    version: 1,
    latticeId: latticeId(config),
    chainId: config.chainId,
    slot,
    parentHash: parent.hash,
    parentNumber: parent.number,
    timestampS: BigInt(Math.floor(slotStartMs(config, slot) / 1000)),
    prevRandao: blake3(parent.hash),
    feeRecipient: FEE_RECIPIENT,
    gasLimit: parent.gasLimit,
    parentBeaconBlockRoot: blake3(new Uint8Array(1)),
    extraData: new TextEncoder().encode("lattice"),
    ...over,
  };
  return { attributes, signature: signAttributes(secret, attributes) };
}
