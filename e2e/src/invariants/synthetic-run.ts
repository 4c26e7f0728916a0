/**
 * A small run made by hand, right in every respect, for tests of the judge: real keys and certificates from the dealer,
 * invented slots, and the chain that would belong to them.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deal } from "@lattice/deploy/dealer/deal.ts";
import type { RunExport } from "@lattice/deploy/local/export.ts";
import { Layout } from "@lattice/deploy/local/layout.ts";
import { type Codec, decode, encode, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { CERTIFIED, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { ROSTER, type Roster } from "@lattice/organism/committee/roster.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { recoverSecret } from "@lattice/organism/crypto/shamir.ts";
import {
  committeeId,
  configToHex,
  type LatticeConfig,
  slotStartMs,
} from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { readKeyFile } from "@lattice/organism/node/kit.ts";
import { CANDIDATE, type CandidateCommitment } from "@lattice/organism/outcomes/atelier.ts";
import { AUCTION, type AuctionCommitment, BLIND_CLOSED } from "@lattice/organism/outcomes/offer.ts";
import { ACCEPTED } from "@lattice/organism/outcomes/relay.ts";
import { ATTRIBUTION, type AttributionCommitment } from "@lattice/organism/outcomes/tally.ts";
import { UNSEALED, type UnsealedCommitment } from "@lattice/organism/outcomes/unseal.ts";
import { BROADCAST, headerDigest, ROUND_HEADER } from "@lattice/organism/outcomes/zipnet.ts";
import type { MemberSecrets } from "@lattice/organism/service.ts";
import type { ChainBlock, ChainView, SettlementEvent } from "./chain-view.ts";

export const SLOTS = 22;
const PAID_WEI = 1000n;
const CLAIMED_WEI = 500n;

/** 32 bytes (or fewer) that stand for `text`. */
export function bytesOf(text: string, length = 32): Uint8Array {
  return new Uint8Array(createHash("sha256").update(text).digest().subarray(0, length));
}

/** A committee with its certificate key whole. */
export interface WholeCommittee {
  readonly roster: Roster;
  readonly secrets: readonly MemberSecrets[];
  readonly secret: Uint8Array;
  readonly threshold: number;
}

type Certify = (
  organism: Organism,
  outcome: Omit<Outcome, "version" | "committee" | "generation" | "epoch">,
) => { readonly hex: string; readonly digest: Uint8Array };

export interface Certifier {
  readonly config: LatticeConfig;
  readonly rosters: Readonly<Record<Organism, string>>;
  /** What each committee was dealt. */
  readonly dealt: Readonly<Record<Organism, WholeCommittee>>;
  /** The links of eras after the first. */
  readonly eras?: NonNullable<RunExport["eras"]>;
  /** Certifies an outcome as the whole committee would. */
  readonly certify: Certify;
}

/** As a committee says it in this epoch. */
export function certifyIn(config: LatticeConfig, organism: Organism, { roster, secret }: WholeCommittee): Certify {
  return (_, given) => {
    const committee = committeeId(config, organism);
    const outcome: Outcome = { version: 1, committee, generation: 0n, epoch: roster.epoch, ...given };
    const digest = outcomeDigest(outcome);
    const signature = blsSign(secret, digest);
    return { hex: toHex(encode(CERTIFIED, { outcome, signature, signers: [0, 1, 2] })), digest };
  };
}

/** Deals a lattice and keeps its certificate keys whole, which nobody else does. */
export async function makeCertifier(): Promise<Certifier> {
  await initCrypto();
  const directory = mkdtempSync(join(tmpdir(), "lattice-synthetic-"));
  try {
    const { config } = deal(directory, {
      name: "synthetic",
      chainId: 31_337n,
      genesisMs: 1_700_000_000_000,
      slotMs: 4000,
      members: 3,
      settlement: bytesOf("settlement", 20),
    });
    const layout = new Layout(directory);
    const rosters = JSON.parse(readFileSync(layout.rosters, "utf8")) as Record<Organism, string>;
    const perOrganism = ORGANISMS.map((organism): [Organism, WholeCommittee] => {
      const secrets = [0, 1, 2].map((index) => readKeyFile(layout.key(organism, index)).secrets);
      const secret = recoverSecret(secrets.map(({ certificateShare }, index) => ({ index, share: certificateShare })));
      const { outcome } = decode(CERTIFIED, fromHex(rosters[organism]));
      return [organism, { roster: decode(ROSTER, outcome.commitment), secrets, secret, threshold: 2 }];
    });
    const dealt = Object.fromEntries(perOrganism) as Record<Organism, WholeCommittee>;
    const certify: Certify = (organism, given) => certifyIn(config, organism, dealt[organism])(organism, given);
    return { config, rosters, dealt, certify };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What a test may bend before a slot is certified. */
export interface Slot {
  readonly slot: bigint;
  unsealed: UnsealedCommitment;
  auction: AuctionCommitment;
  candidate: CandidateCommitment;
  attribution: AttributionCommitment;
  bidIds: Uint8Array[];
  kinds: Record<string, Outcome["kind"]>;
}

export interface Synthetic {
  readonly run: RunExport;
  readonly chain: ChainView;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export type Bend = (slot: Slot) => void;

/** 22 slots: the first is bootstrap, one blind and one seen bundle land in each, one claim is paid. */
export function syntheticRun(certifier: Certifier, bend: Bend = () => undefined): Synthetic {
  const { config, certify } = certifier;
  const outcomes: RunExport["outcomes"][number][] = [];
  const traffic: RunExport["traffic"][number][] = [];
  const blocks: ChainBlock[] = [];
  const events: SettlementEvent[] = [];
  const recipient = bytesOf("recipient", 20);
  let parentHash = bytesOf("genesis");
  for (let number = 1; number <= SLOTS; number++) {
    const slot = BigInt(number);
    const kinds: Slot["kinds"] = {};
    const put = <T>(
      organism: Organism,
      stage: string,
      codec: Codec<T>,
      value: T,
      bodyHash?: Uint8Array,
    ): Uint8Array => {
      const kind = kinds[stage] ?? "result";
      const commitment = kind === "skipped" ? new Uint8Array() : encode(codec, value);
      const { hex, digest } = certify(organism, { slot, stage, kind, commitment, bodyHash });
      const arrived = slotStartMs(config, slot) + 100;
      outcomes.push({ organism, certified: hex, members: [0, 1, 2], arrived_at_ms: arrived });
      return digest;
    };
    const txHash = bytesOf(`tx ${number}`);
    const header = {
      version: 1 as const,
      rho: slot,
      slot,
      subround: 0,
      cells: 4,
      cellBytes: 256,
      segments: 1,
      mode: "one-shot" as const,
      clientsRoot: bytesOf("clients"),
      clientsCount: 6,
      servers: [],
      openMs: 1n,
      closeMs: 2n,
    };
    const messageId = bytesOf(`message ${number}`, 16);
    const blockHash = bytesOf(`block ${number}`);
    const disclosed = { hash: undefined, to: undefined, selector: undefined, rawTransaction: undefined };
    const winner = (kind: "blind" | "seen") => ({
      bidId: bytesOf(`${kind} ${number}`),
      paymentId: bytesOf(`${kind} payment ${number}`),
      class: kind,
      searcher: bytesOf(kind, 20),
      escrowAccount: bytesOf(kind, 20),
      amountWei: PAID_WEI,
      clearingWei: PAID_WEI,
      references: kind === "seen" ? [messageId] : [],
      bundleCommitment: bytesOf("bundle"),
    });
    const it: Slot = {
      slot,
      kinds,
      bidIds: [bytesOf(`blind ${number}`)],
      unsealed: {
        version: 1,
        broadcast: new Uint8Array(32),
        blind: new Uint8Array(32),
        messages: [{ messageId, contentHash: bytesOf("content"), disclosed }],
        failures: [],
      },
      auction: {
        version: 1,
        rule: "first-price",
        blind: new Uint8Array(32),
        winners: [winner("blind"), winner("seen")],
        blindBids: 1,
        seenBids: 1,
        rivals: [],
        voids: [],
      },
      candidate: {
        version: 1,
        slot,
        candidateVersion: 0,
        parentHash,
        blockHash,
        blockNumber: slot,
        stateRoot: bytesOf("state"),
        gasUsed: 21_000n,
        transactions: 1,
        bodyHash: bytesOf(`body ${number}`),
        tableRoot: bytesOf("table"),
        feesWei: 1n,
        paymentsWei: 2n * PAID_WEI,
        unsealed: new Uint8Array(32),
        auction: new Uint8Array(32),
      },
      attribution: {
        version: 1,
        landed: true,
        parentHash,
        blockHash,
        blockNumber: slot,
        landedMessages: [messageId],
        credits: [{ recipient, kind: "order-flow-provider", wei: 900n }],
        charges: [],
        refundableWei: 2n * PAID_WEI,
        remainderWei: 2n * PAID_WEI - 900n,
      },
    };
    bend(it);
    put("zipnet", "header", ROUND_HEADER, header);
    const digest = headerDigest(committeeId(config, "zipnet"), header);
    const messages = it.kinds["broadcast"] === "empty" ? 0 : 1;
    const broadcast = { version: 1 as const, rho: slot, headerDigest: digest, participants: 6, messages };
    fill(it.unsealed, "broadcast", put("zipnet", "broadcast", BROADCAST, broadcast));
    const blindDigest = put("offer", "blind", BLIND_CLOSED, { version: 1, bidIds: it.bidIds });
    fill(it.unsealed, "blind", blindDigest);
    fill(it.auction, "blind", blindDigest);
    fill(it.candidate, "unsealed", put("unseal", "unsealed", UNSEALED, it.unsealed));
    fill(it.candidate, "auction", put("offer", "auction", AUCTION, it.auction));
    put("atelier", "candidate", CANDIDATE, it.candidate, it.candidate.bodyHash);
    put("relay", "accepted", ACCEPTED, {
      version: 1,
      parentHash,
      blockHash: it.candidate.blockHash,
      blockNumber: slot,
      sequencer: config.relay.content.sequencers[0] ?? new Uint8Array(20),
      signature: new Uint8Array(65),
    });
    put("tally", "attribution", ATTRIBUTION, it.attribution);

    blocks.push({
      number: slot,
      hash: toHex(blockHash),
      parentHash: toHex(parentHash),
      timestampS: BigInt(Math.floor(slotStartMs(config, slot) / 1000)),
      feeRecipient: toHex(bytesOf("fees", 20)),
      transactions: [toHex(txHash)],
    });
    for (const kind of ["blind", "seen"]) {
      const paymentId = toHex(bytesOf(`${kind} payment ${number}`));
      events.push({
        type: "bid-paid",
        blockHash: toHex(blockHash),
        transactionHash: toHex(txHash),
        slot,
        paymentId,
        wei: PAID_WEI,
      });
      traffic.push({ type: "bid", bidId: toHex(bytesOf(`${kind} ${number}`)), class: kind, slot: number });
    }
    traffic.push({
      type: "transaction",
      hash: `0x${toHex(txHash)}`,
      sender: "0x00",
      nonce: number,
      slot: number - 2,
      bootstrap: number === 1,
    });
    parentHash = blockHash;
  }
  events.push({
    type: "claimed",
    blockHash: toHex(parentHash),
    transactionHash: toHex(bytesOf("claim")),
    recipient: toHex(recipient),
    wei: CLAIMED_WEI,
  });
  return {
    run: {
      schema_version: 1,
      config: configToHex(config),
      rosters: certifier.rosters,
      ...(certifier.eras === undefined ? {} : { eras: certifier.eras }),
      slots: { first_complete: 1, first: 2, last: SLOTS },
      faults_allowed: false,
      outcomes,
      traffic,
      chain_rpc: "http://127.0.0.1:1",
    },
    chain: {
      client: "synthetic",
      genesisHash: toHex(bytesOf("genesis")),
      blocks,
      events,
      genesisWei: 0n,
      headWei: BigInt(SLOTS) * 2n * PAID_WEI - CLAIMED_WEI,
    },
  };
}

/** Fills in a digest that was left open (32 zero bytes); a test that named another, or none, keeps it. */
function fill<T extends object, K extends keyof T>(target: T, field: K, digest: T[K] & Uint8Array): void {
  const given = target[field];
  if (given instanceof Uint8Array && given.every((byte) => byte === 0)) (target as Mutable<T>)[field] = digest;
}

/** The same certificate with one bit of its signature turned. */
export function withBadSignature(hex: string): string {
  const certified = decode(CERTIFIED, fromHex(hex));
  certified.signature[40] = (certified.signature[40] ?? 0) ^ 1;
  return toHex(encode(CERTIFIED, certified));
}
