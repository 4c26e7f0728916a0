/** A dealt relay committee, candidates of its atelier, and the word of its sequencer. */
import { encode } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { committeeId, type LatticeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { CANDIDATE, CANDIDATE_BODY, type CandidateBody, candidateOf } from "@lattice/organism/outcomes/atelier.ts";
import { type SequencerAcknowledgement, signAcknowledgement } from "@lattice/organism/outcomes/sequencer.ts";
import { dealCommittee, type TestCommittee } from "../../organism/test/test-lattice.ts";
import type { SignedAcknowledgement } from "../src/core/codec.ts";

export const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

export const SEQUENCER_SECRET = filled(32, 7);
export const SLOT = 2n;
export const PARENT = filled(32, 1);

/** Three members that heed this sequencer. */
export function dealRelay(): TestCommittee {
  const { config } = dealCommittee(3);
  const { relay } = config;
  const sequencers = [addressOfSecret(SEQUENCER_SECRET)];
  return dealCommittee(3, { relay: { ...relay, content: { ...relay.content, sequencers } } });
}

export function candidateBody(over: Partial<CandidateBody> = {}): CandidateBody {
  return {
    version: 1,
    slot: SLOT,
    candidateVersion: 0,
    attributes: {
      parentHash: PARENT,
      timestamp: 1_790_000_002n,
      prevRandao: filled(32, 2),
      feeRecipient: filled(20, 3),
      gasLimit: 30_000_000n,
      parentBeaconBlockRoot: filled(32, 4),
      extraData: filled(7, 5),
      withdrawals: [],
    },
    unsealed: undefined,
    auction: undefined,
    entries: [],
    exclusions: [],
    table: [],
    carry: [],
    appliedHints: [],
    header: {
      number: 5n,
      stateRoot: filled(32, 6),
      transactionsRoot: filled(32, 7),
      receiptsRoot: filled(32, 8),
      logsBloom: filled(256, 0),
      gasUsed: 0n,
      baseFeePerGas: 7n,
      withdrawalsRoot: filled(32, 9),
      blobGasUsed: 0n,
      excessBlobGas: 0n,
      requestsHash: undefined,
    },
    executionRequests: [],
    blockHash: filled(32, 0xaa),
    feesWei: 11n,
    ...over,
  };
}

/** atelier's outcome over a body; skipped without one. */
export function candidateOutcome(config: LatticeConfig, body: CandidateBody | undefined, slot = SLOT): Outcome {
  const commitment = body === undefined ? undefined : candidateOf(body);
  return {
    version: 1,
    committee: committeeId(config, "atelier"),
    generation: 0n,
    epoch: 0n,
    slot,
    stage: "candidate",
    kind: commitment === undefined ? "skipped" : "result",
    commitment: commitment === undefined ? new Uint8Array() : encode(CANDIDATE, commitment),
    bodyHash: commitment?.bodyHash,
  };
}

export function encodedBody(body: CandidateBody): Uint8Array {
  return encode(CANDIDATE_BODY, body);
}

export function acknowledgement(
  config: LatticeConfig,
  over: Partial<SequencerAcknowledgement> = {},
  secret = SEQUENCER_SECRET,
): SignedAcknowledgement {
  const message: SequencerAcknowledgement = {
    version: 1,
    latticeId: latticeId(config),
    slot: SLOT,
    parentHash: PARENT,
    blockHash: filled(32, 0xaa),
    outcome: "accepted",
    reason: "",
    ...over,
  };
  return { acknowledgement: message, signature: signAcknowledgement(secret, message) };
}
