/** What a sequencer's acknowledgement means for a slot. Pure. */
import { decode, encode, equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { type LatticeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import type { Decision } from "@lattice/organism/machine.ts";
import { CANDIDATE } from "@lattice/organism/outcomes/atelier.ts";
import { ACCEPTED, NOT_TAKEN } from "@lattice/organism/outcomes/relay.ts";
import { verifyAcknowledgement } from "@lattice/organism/outcomes/sequencer.ts";
import { SIGNED_ACKNOWLEDGEMENT, type SignedAcknowledgement } from "./codec.ts";

/** The sequencer that signed it, when it is one the config pins and the message is for this lattice and slot. */
export function acknowledgingSequencer(
  config: LatticeConfig,
  slot: bigint,
  signed: SignedAcknowledgement,
): Uint8Array | undefined {
  const { acknowledgement, signature } = signed;
  if (acknowledgement.slot !== slot || !equalBytes(acknowledgement.latticeId, latticeId(config))) return undefined;
  return config.relay.content.sequencers.find((address) => verifyAcknowledgement(address, acknowledgement, signature));
}

/** Decodes and judges a fact; undefined when it is not a pinned sequencer's word on this slot. */
export function judgeFact(
  config: LatticeConfig,
  slot: bigint,
  fact: Uint8Array,
): { readonly signed: SignedAcknowledgement; readonly sequencer: Uint8Array } | undefined {
  const signed = tryDecode(SIGNED_ACKNOWLEDGEMENT, fact);
  if (signed === undefined) return undefined;
  const sequencer = acknowledgingSequencer(config, slot, signed);
  return sequencer === undefined ? undefined : { signed, sequencer };
}

/**
 * AcceptedHeader when the block that stands is the certified candidate, NotTaken otherwise. An acknowledgement of a
 * block that the lattice never certified is NotTaken, whatever it calls itself: the chain decides, not the word.
 */
export function decisionOf(
  slot: bigint,
  candidate: Outcome | undefined,
  signed: SignedAcknowledgement,
  sequencer: Uint8Array,
): Decision {
  const { acknowledgement, signature } = signed;
  const { parentHash, blockHash } = acknowledgement;
  const certified = candidate?.kind === "result" ? decode(CANDIDATE, candidate.commitment) : undefined;
  if (acknowledgement.outcome === "accepted" && certified !== undefined && equalBytes(certified.blockHash, blockHash)) {
    const { blockNumber } = certified;
    const commitment = encode(ACCEPTED, { version: 1, parentHash, blockHash, blockNumber, sequencer, signature });
    return { stage: "accepted", slot, kind: "result", commitment };
  }
  const reason =
    acknowledgement.outcome === "accepted" ? "not-our-block" : acknowledgement.reason || acknowledgement.outcome;
  return {
    stage: "accepted",
    slot,
    kind: "empty",
    commitment: encode(NOT_TAKEN, { version: 1, parentHash, blockHash, reason }),
  };
}
