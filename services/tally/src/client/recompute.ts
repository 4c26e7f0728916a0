/**
 * Any slot's attribution from what is public about it: what `builder recompute` compares with the certified outcome.
 * Pure; the caller has verified the certificates of what it passes in.
 */
import { encode, equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { Outcome, OutcomeKind } from "@lattice/organism/committee/outcome.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { CANDIDATE_BODY } from "@lattice/organism/outcomes/atelier.ts";
import { ATTRIBUTION, type AttributionCommitment } from "@lattice/organism/outcomes/tally.ts";
import {
  attributeLanded,
  type CollectedCharge,
  candidateIn,
  kindOf,
  notLanded,
  type SlotProblem,
} from "../core/slot-attribution.ts";

export interface RecomputeInput {
  readonly config: LatticeConfig;
  /** Outcome of stage `candidate`. */
  readonly candidateOutcome: Outcome;
  /** Body of a candidate that landed; published once it is on chain. */
  readonly candidateBody?: Uint8Array;
  /** Outcome of stage `auction`, when the candidate names one. */
  readonly auctionOutcome?: Outcome;
  /** True when the chain has the candidate's block, final. */
  readonly landed: boolean;
  /**
   * `EscrowCharged` (bid id, amount taken) in final blocks after the last landed slot's: `collected` of
   * `TallyService.GetAttribution`, or the contract's events.
   */
  readonly collected?: readonly CollectedCharge[];
}

export interface Recomputed {
  readonly kind: Exclude<OutcomeKind, "skipped">;
  readonly attribution: AttributionCommitment;
  /** Canonical bytes of `attribution`: equal to the certified commitment, or somebody is wrong. */
  readonly commitment: Uint8Array;
  /** Why the income went to the remainder whole, when it did. */
  readonly problem: SlotProblem | undefined;
}

/** What is missing or is not what the certified outcome names. */
export class RecomputeRefused extends Error {
  override readonly name = "RecomputeRefused";
  readonly reason: "NO_BODY" | "OTHER_BODY";
  constructor(reason: RecomputeRefused["reason"], detail: string) {
    super(`${reason}: ${detail}`);
    this.reason = reason;
  }
}

/** @throws RecomputeRefused */
export function recompute(input: RecomputeInput): Recomputed {
  const { config, candidateOutcome, landed } = input;
  const candidate = candidateIn(candidateOutcome);
  if (candidate === undefined || !landed) return recomputed(notLanded(candidate), undefined);
  if (input.candidateBody === undefined) throw new RecomputeRefused("NO_BODY", "a landed slot needs its block's body");
  const { bodyHash } = candidateOutcome;
  const body = tryDecode(CANDIDATE_BODY, input.candidateBody);
  if (body === undefined || bodyHash === undefined || !equalBytes(blake3(input.candidateBody), bodyHash)) {
    throw new RecomputeRefused("OTHER_BODY", "not the body that the certified candidate names");
  }
  const { commitment, problem } = attributeLanded({
    config,
    slot: candidateOutcome.slot,
    candidate,
    body,
    auction: input.auctionOutcome,
    collected: input.collected ?? [],
  });
  return recomputed(commitment, problem);
}

function recomputed(attribution: AttributionCommitment, problem: SlotProblem | undefined): Recomputed {
  return { kind: kindOf(attribution), attribution, commitment: encode(ATTRIBUTION, attribution), problem };
}
