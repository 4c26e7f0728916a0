/**
 * atelier's state machine: attributes that q members saw alike, proposals of whole blocks, and the one that q members
 * executed and found right.
 *
 * One departure from "refused without any change of state": a second, different proposal under one key is refused
 * *and* recorded as evidence, on every member alike, once per member and slot.
 */
import { equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { type Context, type Machine, type Refusal, refuse } from "@lattice/organism/machine.ts";
import { ATELIER_STAGES } from "@lattice/organism/outcomes/atelier.ts";
import { attributesOfFact } from "./attributes.ts";
import { CANDIDATE, type CandidateCommitment } from "./candidate.ts";
import { COMMAND, candidateFact, STATE } from "./codec.ts";
import { dutiesOf, expiryMs } from "./duties.ts";
import {
  type AtelierCommand,
  type AtelierDuty,
  type AtelierState,
  attributesTopic,
  CANDIDATE_TOPIC,
  type ProposalCommand,
  type SlotRecord,
  STAGE,
} from "./types.ts";
import { originOf, sameOrigin, slotOutcomes } from "./upstream.ts";

const EMPTY = new Uint8Array();
/** Parents that one slot may be built on: reorganisations within a slot are few. */
const PARENTS_MAX = 8;
/** Slots whose sealed bodies stay in the state after a later one was decided, for members that are behind. */
const BODIES_KEPT = 4n;
/** Upstream outcomes are retained for 40 slots; carrying must not reach beyond. */
const CARRY_SLOTS_MAX = 32;

export function createMachine(config: LatticeConfig): Machine<AtelierState, AtelierCommand, AtelierDuty> {
  if (config.atelier.content.carrySlots > CARRY_SLOTS_MAX) {
    throw new Error(`atelier.carrySlots: at most ${CARRY_SLOTS_MAX}`);
  }
  const carrySlots = BigInt(config.atelier.content.carrySlots);

  function record(state: AtelierState, slot: bigint): SlotRecord {
    let found = state.slots.get(slot);
    if (found === undefined) {
      found = { attributes: [], readyMs: undefined, proposals: [], evidence: [] };
      state.slots.set(slot, found);
    }
    return found;
  }

  /** Why nothing more may be said about the slot; undefined while it is undecided and in the window. */
  function closedFor(slot: bigint, context: Context): Refusal | undefined {
    if (context.open(STAGE, slot)) return undefined;
    if (context.outcome(STAGE, slot) !== undefined) return refuse("SLOT_DECIDED", `slot ${slot} is decided`);
    return refuse("SLOT_OUT_OF_WINDOW", `slot ${slot} is not being worked on`);
  }

  function applyAttributes(
    state: AtelierState,
    topic: string,
    slot: bigint,
    fact: Uint8Array,
    context: Context,
  ): Refusal | undefined {
    const attributes = attributesOfFact(config, slot, fact);
    if (attributes === undefined || topic !== attributesTopic(attributes.parentHash)) {
      return refuse("BAD_ATTRIBUTES", `not a pinned sequencer's attributes of slot ${slot} under ${topic}`);
    }
    const closed = closedFor(slot, context);
    if (closed !== undefined) return closed;
    if ((state.slots.get(slot)?.attributes.length ?? 0) >= PARENTS_MAX) {
      return refuse("BAD_ATTRIBUTES", `slot ${slot} has attributes on ${PARENTS_MAX} parents already`);
    }
    const target = record(state, slot);
    target.attributes.push(attributes);
    target.readyMs = slotOutcomes(context, slot, carrySlots) === undefined ? undefined : context.nowMs;
    return undefined;
  }

  /** An upstream outcome may have been the last thing that some slots waited for. */
  function noteReady(state: AtelierState, context: Context): void {
    for (const [slot, target] of state.slots) {
      if (target.readyMs !== undefined || target.attributes.length === 0) continue;
      if (slotOutcomes(context, slot, carrySlots) !== undefined) target.readyMs = context.nowMs;
    }
  }

  /** What the commitment contradicts of what it is proposed as. */
  function contradiction(command: ProposalCommand, commitment: CandidateCommitment): string | undefined {
    if (commitment.slot !== command.slot) return "slot";
    if (commitment.candidateVersion !== command.candidateVersion) return "version";
    if (!equalBytes(commitment.parentHash, command.parentHash)) return "parent";
    if (!equalBytes(commitment.bodyHash, command.bodyHash)) return "body hash";
    return undefined;
  }

  function applyProposal(
    state: AtelierState,
    author: number,
    command: ProposalCommand,
    context: Context,
  ): Refusal | undefined {
    const { slot, parentHash, candidateVersion, commitment: bytes, sealedBody } = command;
    const commitment = tryDecode(CANDIDATE, bytes);
    if (commitment === undefined) return refuse("COMMITMENT_MISMATCH", "not a candidate's commitment");
    const wrong = contradiction(command, commitment);
    if (wrong !== undefined) return refuse("COMMITMENT_MISMATCH", `the commitment names another ${wrong}`);
    if (candidateVersion !== 0) return refuse("VERSION_NOT_OPEN", `version ${candidateVersion}`);

    const known = state.slots.get(slot);
    const earlier = known?.proposals.find(
      (proposal) =>
        proposal.author === author &&
        proposal.candidateVersion === candidateVersion &&
        equalBytes(proposal.parentHash, parentHash),
    );
    if (known !== undefined && earlier !== undefined) {
      // The same block sealed anew is the same word: sealing is randomised, building is not.
      if (equalBytes(earlier.commitment, bytes)) return refuse("DUPLICATE", `member ${author} has proposed this`);
      if (!known.evidence.some(({ member }) => member === author)) {
        const { position } = context;
        known.evidence.push({
          member: author,
          parentHash,
          candidateVersion,
          first: earlier.position,
          second: position,
        });
      }
      return refuse("PROPOSAL_CONFLICT", `member ${author} proposed two candidates for slot ${slot} on one parent`);
    }
    const closed = closedFor(slot, context);
    if (closed !== undefined) return closed;
    const attributes = known?.attributes.find((each) => equalBytes(each.parentHash, parentHash));
    if (known === undefined || attributes === undefined) {
      return refuse("ATTRIBUTES_UNKNOWN", `no agreed attributes of slot ${slot} on that parent`);
    }
    if (commitment.blockNumber !== attributes.parentNumber + 1n) {
      return refuse("COMMITMENT_MISMATCH", "the commitment names another block number");
    }
    const outcomes = slotOutcomes(context, slot, carrySlots);
    if (outcomes === undefined) return refuse("INPUTS_UNKNOWN", `what slot ${slot} is built from is not all here`);
    const { unsealed, auction } = outcomes;
    if (!sameOrigin(commitment.unsealed, originOf(unsealed)) || !sameOrigin(commitment.auction, originOf(auction))) {
      return refuse("INPUTS_DIFFER", `slot ${slot} has another unsealed round or auction`);
    }
    const { position } = context;
    known.proposals.push({ author, position, parentHash, candidateVersion, commitment: bytes, sealedBody });
    return undefined;
  }

  function applyCandidate(state: AtelierState, slot: bigint, fact: Uint8Array, context: Context): Refusal | undefined {
    const closed = closedFor(slot, context);
    if (closed !== undefined) return closed;
    const proposals = state.slots.get(slot)?.proposals ?? [];
    const commitment = proposals
      .map((proposal) => proposal.commitment)
      .find((each) => equalBytes(candidateFact(each), fact));
    const decoded = commitment === undefined ? undefined : tryDecode(CANDIDATE, commitment);
    if (commitment === undefined || decoded === undefined) {
      return refuse("CANDIDATE_UNKNOWN", `nothing like it is proposed for slot ${slot}`);
    }
    context.decide({ stage: STAGE, slot, kind: "result", commitment, bodyHash: decoded.bodyHash });
    dropBodies(state, slot);
    return undefined;
  }

  /** Sealed bodies are most of the state; once later slots are decided nobody executes the old ones. */
  function dropBodies(state: AtelierState, decided: bigint): void {
    for (const [slot, { proposals }] of state.slots) {
      if (slot + BODIES_KEPT > decided) continue;
      for (const proposal of proposals) proposal.sealedBody = EMPTY;
    }
  }

  return {
    organism: "atelier",
    stages: ATELIER_STAGES,
    upstream: [
      { organism: "unseal", stage: "unsealed" },
      { organism: "offer", stage: "auction" },
      { organism: "tally", stage: "attribution" },
    ],
    state: STATE,
    command: COMMAND,
    genesis: () => ({ slots: new Map() }),

    apply(state, event, context) {
      switch (event.type) {
        case "command":
          return applyProposal(state, event.author, event.command, context);
        case "agreed":
          return event.topic === CANDIDATE_TOPIC
            ? applyCandidate(state, event.slot, event.fact, context)
            : applyAttributes(state, event.topic, event.slot, event.fact, context);
        case "observed":
          // An attribution concerns the body store alone: from then on the slot's body is public.
          if (event.organism !== "tally") noteReady(state, context);
          return undefined;
        case "skipped":
          dropBodies(state, event.slot);
          return undefined;
        case "closed":
          return undefined;
      }
    },

    duties: (state, view) => dutiesOf(config, state, view),
    skipAtMs: (_stage, slot) => expiryMs(config, slot),
    hasInput: () => false,
    forGuests: (state, below) => ({ slots: new Map([...state.slots].filter(([slot]) => slot >= below)) }),
    collapse(state, slot) {
      for (const key of [...state.slots.keys()]) if (key < slot) state.slots.delete(key);
    },
  };
}
