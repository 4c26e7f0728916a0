/**
 * Checks a certified candidate from published outcomes and bodies alone: certificates, hashes, the sequencer's word,
 * and then every rule and every transaction once more. For auditors; members use the same parts.
 *
 * Bodies of unsealed rounds are atelier's own business unless the lattice's exposure is public, so who holds all of
 * this is an admitted member, or everyone in such a lattice.
 */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, checkOutcome } from "@lattice/organism/committee/outcome.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { KnownEras } from "@lattice/organism/node/era-book.ts";
import { attributesHold, blockAttributes } from "../core/attributes.ts";
import type { SignedAttributes } from "../core/codec.ts";
import { STAGE } from "../core/types.ts";
import { carriedFrom } from "../core/upstream.ts";
import type { Executor } from "../evm/executor.ts";
import { type OutcomeWithBody, rulesOf, slotInputs } from "../evm/slot-inputs.ts";
import { type RefusalReason, verifyCandidate } from "../evm/verify.ts";

/** A certified outcome with its body, where it has one. */
export interface Published {
  readonly certified: CertifiedOutcome;
  readonly body?: Uint8Array;
}

/** Everything about one slot. */
export interface PublishedSlot {
  readonly candidate: Published;
  /** The sequencer's `lattice_attributes`. */
  readonly attributes: SignedAttributes;
  readonly unsealed: Published;
  readonly auction: Published;
  /** Unsealed rounds of the `carrySlots` slots before, oldest first; fewer at the lattice's beginning. */
  readonly earlier: readonly Published[];
}

export type PublishedVerdict =
  | { readonly right: true; readonly blockHash: Uint8Array }
  | {
      readonly right: false;
      readonly reason:
        | RefusalReason
        | "NOT_A_CANDIDATE"
        | "BAD_CERTIFICATE"
        | "WRONG_OUTCOME"
        | "BODY_MISSING"
        | "BODY_HASH"
        | "BAD_ATTRIBUTES"
        | "COMMITMENT_DIFFERS";
      readonly detail: string;
    };

type Problem = Extract<PublishedVerdict, { right: false }>;

/**
 * @param eras which certificate keys speak for which slots; those that the config pins when left out
 * @param executor holds the candidate's parent (`ChainState`)
 * @throws ChainError UNKNOWN_PARENT when it does not; CodecError or BodyMismatch when certified bytes are no outcome
 */
export async function verifyPublishedCandidate(
  config: LatticeConfig,
  executor: Executor,
  published: PublishedSlot,
  eras?: KnownEras,
): Promise<PublishedVerdict> {
  const { candidate, attributes, unsealed, auction, earlier } = published;
  const { outcome } = candidate.certified;
  const { slot } = outcome;
  const carried = carriedFrom(slot, BigInt(config.atelier.content.carrySlots));
  if (outcome.kind !== "result") return problem("NOT_A_CANDIDATE", outcome.kind);
  if (earlier.length !== carried.length) return problem("WRONG_OUTCOME", `${carried.length} earlier rounds expected`);
  const found =
    problemOf({ config, eras }, "atelier", STAGE, slot, candidate) ??
    problemOf({ config, eras }, "unseal", "unsealed", slot, unsealed) ??
    problemOf({ config, eras }, "offer", "auction", slot, auction) ??
    earlier
      .map((round, index) => problemOf({ config, eras }, "unseal", "unsealed", carried[index] ?? 0n, round))
      .find((each) => each !== undefined);
  if (found !== undefined) return found;
  if (!attributesHold(config, slot, attributes)) return problem("BAD_ATTRIBUTES", "not a pinned sequencer's");
  const inputs = await slotInputs(executor, {
    slot,
    candidateVersion: 0,
    attributes: blockAttributes(attributes.attributes),
    rules: rulesOf(config),
    unsealed: withBody(unsealed),
    auction: withBody(auction),
    earlier: earlier.map(withBody),
  });
  const verdict = await verifyCandidate(executor, inputs, candidate.body ?? new Uint8Array());
  if (!verdict.accepted) return problem(verdict.reason, verdict.detail);
  if (!equalBytes(verdict.candidate.commitmentBytes, outcome.commitment)) {
    return problem("COMMITMENT_DIFFERS", "the commitment does not follow from the body");
  }
  return { right: true, blockHash: verdict.candidate.commitment.blockHash };
}

function problem(reason: Problem["reason"], detail: string): Problem {
  return { right: false, reason, detail };
}

function withBody({ certified, body }: Published): OutcomeWithBody {
  return { outcome: certified.outcome, body };
}

function problemOf(
  { config, eras }: { readonly config: LatticeConfig; readonly eras: KnownEras | undefined },
  organism: Organism,
  stage: string,
  slot: bigint,
  { certified, body }: Published,
): Problem | undefined {
  const { outcome } = certified;
  const name = `${organism}/${stage} of slot ${slot}`;
  if (outcome.stage !== stage || outcome.slot !== slot) return problem("WRONG_OUTCOME", name);
  if (checkOutcome(config, organism, certified, eras?.(organism)) !== undefined)
    return problem("BAD_CERTIFICATE", name);
  if (outcome.bodyHash === undefined) return undefined;
  if (body === undefined) return problem("BODY_MISSING", name);
  return equalBytes(blake3(body), outcome.bodyHash) ? undefined : problem("BODY_HASH", name);
}
