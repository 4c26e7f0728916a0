/** Who decided what: certificates, signers, completeness, and what an Empty may mean. */
import { equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { keyFor } from "@lattice/organism/committee/eras.ts";
import { verifyCertificate } from "@lattice/organism/committee/outcome.ts";
import { type Roster, rosterQuorum } from "@lattice/organism/committee/roster.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { AUCTION, BLIND_CLOSED } from "@lattice/organism/outcomes/offer.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { BROADCAST } from "@lattice/organism/outcomes/zipnet.ts";
import { type Decisions, LAST_STAGES, type Run, SLOT_STAGES } from "./run.ts";
import type { Verdict } from "./verdict.ts";

/** Below this many slots a share says nothing. */
const SHARE_FROM_SLOTS = 20n;
const SHARE = 0.95;
/** A transaction acknowledged in slot s is in a round whose envelopes have not left yet at s + 3 at the latest. */
const DUE_AFTER_SLOTS = 3;

/** The newest roster known that an epoch can have: of those in between only other eras' are exported. */
function rosterOf({ rosters, eras }: Run, organism: Organism, epoch: bigint): Roster {
  const later = eras[organism].links.filter((link) => link.epoch > rosters[organism].epoch);
  return later.findLast((link) => link.epoch <= epoch) ?? rosters[organism];
}

export function checkCertificates(run: Run, verdict: Verdict): void {
  const { config, eras, outcomes } = run;
  const seen = new Map<string, Uint8Array>();
  for (const { organism, certified, digest } of outcomes) {
    const { outcome, signature, signers } = certified;
    const what = `${organism}/${outcome.stage} of slot ${outcome.slot}`;
    const known = SLOT_STAGES.some(([name, stage]) => name === organism && stage === outcome.stage);
    // Undefined where slot and epoch are of two eras: nobody's key speaks for both.
    const key = keyFor(eras[organism].eras, outcome);
    const right =
      known &&
      equalBytes(outcome.committee, committeeId(config, organism)) &&
      key !== undefined &&
      verifyCertificate(key, outcome, signature);
    verdict.require(right, "certificates_valid", () => `${what} does not verify`);
    verdict.count("certificates");

    const { quorum, members } = rosterQuorum(config, organism, rosterOf(run, organism, outcome.epoch));
    const distinct = new Set(signers.filter((index) => index < members));
    verdict.require(
      distinct.size >= quorum && distinct.size === signers.length,
      "quorum_of_signers",
      () => `${what} names signers ${signers.join(", ") || "none"}; ${quorum} of ${members} are a quorum`,
    );

    const place = `${outcome.slot}/${organism}/${outcome.stage}`;
    const earlier = seen.get(place);
    const same = earlier === undefined || equalBytes(earlier, digest);
    verdict.require(same, "one_outcome_per_slot_and_stage", () => `${what} was decided twice, differently`);
    seen.set(place, digest);
  }
}

export function checkCompleteness(run: Run, decisions: Decisions, verdict: Verdict): void {
  for (let slot = run.firstComplete; slot <= run.last; slot++) {
    for (const [organism, stage] of SLOT_STAGES) {
      const outcome = decisions.outcome(organism, stage, slot);
      const what = `${organism}/${stage} of slot ${slot}`;
      verdict.require(outcome !== undefined, "every_slot_decided", () => `${what} is undecided`);
      const skipped = outcome?.kind === "skipped";
      if (skipped) verdict.count("skipped");
      verdict.require(!skipped || run.faultsAllowed, "no_slot_skipped", () => `${what} was skipped`);
    }
  }
  let results = 0;
  for (let slot = run.first; slot <= run.last; slot++) {
    const kinds = LAST_STAGES.map(([organism, stage]) => decisions.outcome(organism, stage, slot)?.kind);
    if (kinds.every((kind) => kind === "result")) results += 1;
  }
  const slots = run.last - run.first + 1n;
  verdict.count("slots", Number(slots));
  verdict.count("result_slots", results);
  const enough = slots < SHARE_FROM_SLOTS || run.faultsAllowed || results >= SHARE * Number(slots);
  verdict.require(enough, "results_at_least_95_percent", () => `${results} of ${slots} slots are Results`);
}

/** `landedIn`: the slot of the block that holds a transaction, by its hash. */
export function checkEmpties(
  run: Run,
  decisions: Decisions,
  landedIn: ReadonlyMap<string, bigint>,
  verdict: Verdict,
): void {
  const { traffic } = run;
  const fail = (what: string, slot: bigint, why: string): void =>
    verdict.fail("empty_only_where_nothing", `${what} of slot ${slot}: ${why}`);
  const bids = (slot: bigint, blind: boolean): number =>
    traffic.bids.filter((bid) => BigInt(bid.slot) === slot && (!blind || bid.class === "blind")).length;

  for (let slot = run.firstComplete; slot <= run.last; slot++) {
    const kindOf = (organism: Parameters<Decisions["outcome"]>[0], stage: string) =>
      decisions.outcome(organism, stage, slot);

    const broadcast = kindOf("zipnet", "broadcast");
    const sent = broadcast === undefined ? undefined : tryDecode(BROADCAST, broadcast.commitment);
    if (broadcast?.kind === "empty") {
      if (sent?.messages !== 0) fail("zipnet/broadcast", slot, "Empty, and yet it holds messages");
      const due = traffic.transactions.filter((each) => {
        const landed = landedIn.get(each.hash);
        const passed = landed !== undefined ? landed <= slot : traffic.toldFailed.has(each.hash);
        return BigInt(each.slot + DUE_AFTER_SLOTS) <= slot && !passed;
      });
      // On a crowded machine clients miss rounds; that is late, not lost, and "in time" is judged elsewhere.
      if (due.length > 0 && !run.faultsAllowed)
        fail("zipnet/broadcast", slot, `Empty with ${due.length} acknowledged transactions due`);
    } else if (broadcast?.kind === "result" && (sent?.messages ?? 0) === 0) {
      fail("zipnet/broadcast", slot, "a Result without messages");
    }
    if (kindOf("zipnet", "header")?.kind === "empty" && broadcast?.kind !== "empty") {
      fail("zipnet/header", slot, "no round, and yet a broadcast");
    }

    const unsealed = kindOf("unseal", "unsealed");
    const opened = unsealed === undefined ? undefined : tryDecode(UNSEALED, unsealed.commitment);
    if (unsealed?.kind === "empty" && broadcast?.kind === "result") {
      const failures = opened?.failures.length ?? 0;
      if (failures < (sent?.messages ?? 0)) fail("unseal/unsealed", slot, "Empty, though messages were broadcast");
    }
    if (unsealed?.kind === "result" && (opened?.messages.length ?? 0) === 0)
      fail("unseal/unsealed", slot, "a Result without messages");

    const blind = kindOf("offer", "blind");
    const closed = blind === undefined ? undefined : tryDecode(BLIND_CLOSED, blind.commitment);
    if (blind?.kind === "empty" && (closed?.bidIds.length !== 0 || bids(slot, true) > 0))
      fail("offer/blind", slot, "Empty, though blind bids were acknowledged");
    if (blind?.kind === "result" && (closed?.bidIds.length ?? 0) === 0)
      fail("offer/blind", slot, "a Result without bids");

    const auction = kindOf("offer", "auction");
    const sold = auction === undefined ? undefined : tryDecode(AUCTION, auction.commitment);
    const concluded = (sold?.winners.length ?? 0) + (sold?.voids.length ?? 0);
    if (auction?.kind === "empty" && (sold === undefined || concluded > 0))
      fail("offer/auction", slot, "Empty, and yet somebody won");
    // Blind bids stand only when the slot was opened over them; a slot that was not opened has none.
    const standing = bids(slot, false) - (opened?.blind === undefined ? bids(slot, true) : 0);
    if (auction?.kind === "empty" && standing > 0)
      fail("offer/auction", slot, `Empty, though ${standing} bids were acknowledged`);
    if (auction?.kind === "result" && concluded === 0) fail("offer/auction", slot, "a Result without winners");

    // A block can be built without any transaction: there is always something.
    if (kindOf("atelier", "candidate")?.kind === "empty") fail("atelier/candidate", slot, "no block");
    if (kindOf("relay", "accepted")?.kind === "empty" && !run.faultsAllowed)
      fail("relay/accepted", slot, "the sequencer did not take the candidate");

    const attributed = kindOf("tally", "attribution");
    const owed = attributed === undefined ? undefined : tryDecode(ATTRIBUTION, attributed.commitment);
    const moves = (owed?.credits.length ?? 0) + (owed?.charges.length ?? 0);
    if (attributed?.kind === "empty" && (owed === undefined || moves > 0))
      fail("tally/attribution", slot, "Empty, and yet money moves");
    if (attributed?.kind === "result" && moves === 0) fail("tally/attribution", slot, "a Result that moves nothing");
  }
}

/** A blind bid whose searcher was told "received" is in the certified set. */
export function checkBids(run: Run, decisions: Decisions, verdict: Verdict): void {
  for (const bid of run.traffic.bids) {
    verdict.count(`${bid.class}_bids`);
    const slot = BigInt(bid.slot);
    if (bid.class !== "blind" || slot < run.firstComplete || slot > run.last) continue;
    const outcome = decisions.outcome("offer", "blind", slot);
    if (outcome === undefined || outcome.kind === "skipped") continue;
    const closed = tryDecode(BLIND_CLOSED, outcome.commitment);
    const counted = closed?.bidIds.some((id) => toHex(id) === bid.bidId) === true;
    verdict.require(counted, "acknowledged_bids_counted", () => `bid ${bid.bidId} is not in BlindClosed of ${slot}`);
  }
}
