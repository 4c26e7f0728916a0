/** Each outcome was made from the certified outcomes before it, and from no others. */
import { equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { CANDIDATE } from "@lattice/organism/outcomes/atelier.ts";
import { AUCTION, BLIND_CLOSED } from "@lattice/organism/outcomes/offer.ts";
import { ACCEPTED } from "@lattice/organism/outcomes/relay.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { BROADCAST, headerDigest, ROUND_HEADER } from "@lattice/organism/outcomes/zipnet.ts";
import type { Decisions, Run } from "./run.ts";
import type { Verdict } from "./verdict.ts";

const NO_HASH = new Uint8Array(32);

export function checkInputs(run: Run, decisions: Decisions, verdict: Verdict): void {
  for (let slot = run.firstComplete; slot <= run.last; slot++) checkSlot(run, decisions, slot, verdict);
}

function checkSlot(run: Run, decisions: Decisions, slot: bigint, verdict: Verdict): void {
  const differ = (what: string, why: string): void =>
    verdict.fail("outcomes_follow_from_inputs", `${what} of slot ${slot} ${why}`);
  const digestOf = (organism: Organism, stage: string): Uint8Array | undefined =>
    decisions.get(organism, stage, slot)?.digest;
  const result = (organism: Organism, stage: string): Uint8Array | undefined => {
    const outcome = decisions.outcome(organism, stage, slot);
    return outcome?.kind === "result" ? outcome.commitment : undefined;
  };
  const said = (organism: Organism, stage: string): Uint8Array | undefined => {
    const outcome = decisions.outcome(organism, stage, slot);
    return outcome === undefined || outcome.kind === "skipped" ? undefined : outcome.commitment;
  };
  const names = (named: Uint8Array | undefined, digest: Uint8Array | undefined): boolean =>
    named !== undefined && digest !== undefined && equalBytes(named, digest);

  const header = decoded(ROUND_HEADER, result("zipnet", "header"));
  const broadcast = decoded(BROADCAST, said("zipnet", "broadcast"));
  if (header !== undefined && broadcast !== undefined) {
    const digest = headerDigest(committeeId(run.config, "zipnet"), header);
    if (!equalBytes(broadcast.headerDigest, digest)) differ("zipnet/broadcast", "answers another header");
  }

  const unsealed = decoded(UNSEALED, said("unseal", "unsealed"));
  const blind = decoded(BLIND_CLOSED, said("offer", "blind"));
  const blindDigest = digestOf("offer", "blind");
  if (unsealed !== undefined) {
    if (!names(unsealed.broadcast, digestOf("zipnet", "broadcast"))) {
      differ("unseal/unsealed", "opens another broadcast");
    }
    // Without faults the blind set is always there in time; with them a quorum may have gone on without.
    const frozen = unsealed.blind === undefined ? run.faultsAllowed : names(unsealed.blind, blindDigest);
    verdict.require(frozen, "blind_closed_before_freeze", () => `slot ${slot} was opened over another set of bids`);
  }

  const auction = decoded(AUCTION, said("offer", "auction"));
  if (auction !== undefined) {
    if (auction.blind !== undefined && !names(auction.blind, blindDigest)) {
      differ("offer/auction", "names another BlindClosed");
    }
    for (const winner of auction.winners) {
      if (winner.class !== "blind") continue;
      const under = blind?.bidIds.some((id) => equalBytes(id, winner.bidId)) === true;
      const stood = names(unsealed?.blind, blindDigest);
      verdict.require(
        under && stood,
        "blind_closed_before_freeze",
        () => `slot ${slot}: blind winner ${toHex(winner.bidId)} was not under the frozen set`,
      );
    }
  }

  const outcome = decisions.outcome("atelier", "candidate", slot);
  const candidate = decoded(CANDIDATE, result("atelier", "candidate"));
  if (outcome !== undefined && candidate !== undefined) {
    if (candidate.slot !== slot) differ("atelier/candidate", "is for another slot");
    if (!names(outcome.bodyHash, candidate.bodyHash)) differ("atelier/candidate", "has another body");
    for (const [organism, stage, named] of [
      ["unseal", "unsealed", candidate.unsealed],
      ["offer", "auction", candidate.auction],
    ] as const) {
      const missing = named === undefined && result(organism, stage) !== undefined && !run.faultsAllowed;
      if (missing || (named !== undefined && !names(named, digestOf(organism, stage)))) {
        differ("atelier/candidate", `was not built from ${organism}/${stage}`);
      }
    }
  }

  const accepted = decoded(ACCEPTED, result("relay", "accepted"));
  if (accepted !== undefined) {
    const same =
      candidate !== undefined &&
      equalBytes(accepted.blockHash, candidate.blockHash) &&
      equalBytes(accepted.parentHash, candidate.parentHash) &&
      accepted.blockNumber === candidate.blockNumber;
    if (!same) differ("relay/accepted", "accepts another block than the candidate");
    const pinned = run.config.relay.content.sequencers.some((address) => equalBytes(address, accepted.sequencer));
    if (!pinned) differ("relay/accepted", "is acknowledged by an unknown sequencer");
  }

  const attribution = decoded(ATTRIBUTION, said("tally", "attribution"));
  if (attribution !== undefined && !equalBytes(attribution.blockHash, candidate?.blockHash ?? NO_HASH)) {
    differ("tally/attribution", "attributes another block than the candidate");
  }
}

function decoded<T>(codec: Parameters<typeof tryDecode<T>>[0], bytes: Uint8Array | undefined): T | undefined {
  return bytes === undefined ? undefined : tryDecode(codec, bytes);
}
