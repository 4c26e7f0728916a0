import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { decode, encode, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { CERTIFIED } from "@lattice/organism/committee/outcome.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { type DealtEpoch, type NextEpoch, nextEpoch } from "@lattice/organism/testing/dealt-eras.ts";
import { judge } from "./judge.ts";
import { MalformedExport, parseRun } from "./run.ts";
import {
  bytesOf,
  type Certifier,
  certifyIn,
  makeCertifier,
  SLOTS,
  type Synthetic,
  syntheticRun,
  withBadSignature,
} from "./synthetic-run.ts";
import { INVARIANTS } from "./verdict.ts";

let certifier: Certifier;
before(async () => {
  certifier = await makeCertifier();
});

function brokenOf({ run, chain }: Synthetic): string[] {
  const { invariants } = judge(parseRun(JSON.stringify(run)), chain);
  return INVARIANTS.filter((name) => invariants[name] === false);
}

/** The same lattice, with another certificate key of one committee from a slot on. */
function withEra(certifier: Certifier, organism: Organism, fromSlot: bigint): Certifier & { era: NextEpoch } {
  const { config, dealt, certify } = certifier;
  const era = nextEpoch(dealt[organism], { activationSlot: fromSlot, newEra: true });
  const after = certifyIn(config, organism, era);
  return {
    ...certifier,
    era,
    eras: { [organism]: [toHex(encode(CERTIFIED, era.certified))] },
    certify: (of, outcome) => (of === organism && outcome.slot >= fromSlot ? after(of, outcome) : certify(of, outcome)),
  };
}

describe("judge", () => {
  it("finds nothing wrong with a run that is right", () => {
    const { run, chain } = syntheticRun(certifier);
    const judgement = judge(parseRun(JSON.stringify(run)), chain);
    assert.deepEqual(judgement.violations, []);
    assert.equal(Object.keys(judgement.invariants).length, INVARIANTS.length);
    assert.equal(judgement.claims.length, 1);
    assert.equal(judgement.chain.head, SLOTS);
    assert.equal(judgement.observed["result_slots"], SLOTS - 1);
  });

  it("sees a certificate that does not verify", () => {
    const { run, chain } = syntheticRun(certifier);
    const outcomes = run.outcomes.map((each, index) =>
      index === 5 ? { ...each, certified: withBadSignature(each.certified) } : each,
    );
    assert.deepEqual(brokenOf({ run: { ...run, outcomes }, chain }), ["certificates_valid"]);
  });

  it("sees an outcome of another organism passed off", () => {
    const { run, chain } = syntheticRun(certifier);
    const outcomes = run.outcomes.map((each, index) => (index === 0 ? { ...each, organism: "offer" as const } : each));
    const broken = brokenOf({ run: { ...run, outcomes }, chain });
    assert.ok(broken.includes("certificates_valid") && broken.includes("every_slot_decided"), broken.join());
  });

  it("follows a committee into its next era, whose key certifies from the border on and nothing before it", () => {
    const border = 9n;
    const made = withEra(certifier, "offer", border);
    const { run, chain } = syntheticRun(made);
    assert.deepEqual(judge(parseRun(JSON.stringify(run)), chain).violations, []);
    assert.deepEqual(brokenOf({ run: { ...run, eras: {} }, chain }), ["certificates_valid"], "without the link");

    const { config, dealt } = certifier;
    const { secret } = dealt.offer;
    const { roster } = made.era;
    const cases: [string, DealtEpoch, bigint][] = [
      ["the old key after the border", dealt.offer, border],
      ["the old key in the epoch of the new one", { ...made.era, secret }, border],
      ["the new key in the epoch of the old one", { ...made.era, roster: { ...roster, epoch: 0n } }, border],
      ["the new key before the border", made.era, border - 1n],
      ["the old key before the border, in the epoch of the new one", { ...made.era, secret }, border - 1n],
    ];
    for (const [what, by, slot] of cases) {
      const certify = certifyIn(config, "offer", by);
      const outcomes = run.outcomes.map((each) => {
        const { outcome } = decode(CERTIFIED, fromHex(each.certified));
        const bent = each.organism === "offer" && outcome.stage === "auction" && outcome.slot === slot;
        if (!bent) return each;
        const { epoch: _, ...given } = outcome;
        return { ...each, certified: certify("offer", given).hex };
      });
      assert.ok(brokenOf({ run: { ...run, outcomes }, chain }).includes("certificates_valid"), what);
    }
  });

  it("sees a decision that is missing, and one that was made twice", () => {
    const { run, chain } = syntheticRun(certifier);
    assert.deepEqual(brokenOf({ run: { ...run, outcomes: run.outcomes.slice(0, -1) }, chain }), ["every_slot_decided"]);
    const other = syntheticRun(certifier, (slot) => {
      if (slot.slot === 3n) slot.auction = { ...slot.auction, blindBids: 7 };
    });
    const twice = other.run.outcomes.filter(
      ({ certified }) => !run.outcomes.some((each) => each.certified === certified),
    );
    const broken = brokenOf({ run: { ...run, outcomes: [...run.outcomes, ...twice] }, chain });
    assert.deepEqual(broken, ["one_outcome_per_slot_and_stage"]);
  });

  it("lets slots be skipped in fault scenarios only", () => {
    const made = syntheticRun(certifier, (slot) => {
      if (slot.slot === 4n) slot.kinds["attribution"] = "skipped";
    });
    assert.deepEqual(brokenOf(made), ["no_slot_skipped"]);
    assert.deepEqual(brokenOf({ ...made, run: { ...made.run, faults_allowed: true } }), []);
  });

  it("asks what an Empty left out", () => {
    const empty = syntheticRun(certifier, (slot) => {
      if (slot.slot !== 5n) return;
      slot.kinds["auction"] = "empty";
      slot.auction = { ...slot.auction, winners: [] };
    });
    assert.deepEqual(brokenOf(empty), ["empty_only_where_nothing"]);
    const traffic = empty.run.traffic.filter((line) => line.type !== "bid" || line.slot !== 5);
    assert.deepEqual(brokenOf({ ...empty, run: { ...empty.run, traffic } }), []);
  });

  it("does not hold blind bids against an auction whose slot was never opened", () => {
    const made = syntheticRun(certifier, (slot) => {
      if (slot.slot !== 5n) return;
      slot.kinds["unsealed"] = "skipped";
      slot.kinds["auction"] = "empty";
      slot.auction = { ...slot.auction, winners: [], blind: undefined };
      slot.candidate = { ...slot.candidate, unsealed: undefined };
    });
    const run = { ...made.run, faults_allowed: true };
    assert.deepEqual(brokenOf({ ...made, run }), ["empty_only_where_nothing"]);
    const traffic = run.traffic.filter((line) => line.type !== "bid" || line.slot !== 5 || line.class === "blind");
    assert.deepEqual(brokenOf({ ...made, run: { ...run, traffic } }), []);
  });

  it("holds an empty broadcast against transactions that were due", () => {
    const made = syntheticRun(certifier, (slot) => {
      if (slot.slot !== 6n) return;
      for (const stage of ["broadcast", "unsealed"]) slot.kinds[stage] = "empty";
      slot.unsealed = { ...slot.unsealed, messages: [] };
    });
    assert.deepEqual(brokenOf(made), []);
    const waiting = { type: "transaction", hash: "0xaa", sender: "0x", nonce: 0, slot: 3, bootstrap: false } as const;
    const run = { ...made.run, traffic: [...made.run.traffic, waiting] };
    assert.deepEqual(brokenOf({ ...made, run }), ["empty_only_where_nothing", "transactions_in_block_or_told"]);
    const told = { type: "told", hash: "0xaa", status: "failed", reason: "not included" } as const;
    assert.deepEqual(brokenOf({ ...made, run: { ...run, traffic: [...run.traffic, told] } }), []);
  });

  it("counts Results from twenty slots on", () => {
    const made = syntheticRun(certifier, (slot) => {
      if (slot.slot !== 7n && slot.slot !== 9n) return;
      slot.kinds["attribution"] = "empty";
      slot.attribution = { ...slot.attribution, credits: [], remainderWei: slot.attribution.refundableWei };
    });
    assert.deepEqual(brokenOf(made), ["results_at_least_95_percent"]);
    const slots = { ...made.run.slots, last: SLOTS - 2 };
    assert.deepEqual(brokenOf({ ...made, run: { ...made.run, slots } }), []);
  });

  it("follows each outcome to what it was made from", () => {
    const other = bytesOf("another");
    const cases: [Parameters<typeof syntheticRun>[1], string][] = [
      [(slot) => Object.assign(slot.unsealed, { broadcast: other }), "outcomes_follow_from_inputs"],
      [(slot) => Object.assign(slot.unsealed, { blind: undefined }), "blind_closed_before_freeze"],
      [(slot) => Object.assign(slot.unsealed, { blind: other }), "blind_closed_before_freeze"],
      [(slot) => Object.assign(slot.candidate, { unsealed: undefined }), "outcomes_follow_from_inputs"],
      [(slot) => Object.assign(slot.candidate, { auction: other }), "outcomes_follow_from_inputs"],
    ];
    for (const [bend, invariant] of cases) {
      const broken = brokenOf(syntheticRun(certifier, (slot) => slot.slot === 8n && bend?.(slot)));
      assert.deepEqual(broken, [invariant]);
    }
  });

  it("misses an acknowledged blind bid in the closed set", () => {
    const made = syntheticRun(certifier);
    const bid = { type: "bid", bidId: "ab".repeat(32), class: "blind", slot: 5 } as const;
    assert.deepEqual(brokenOf({ ...made, run: { ...made.run, traffic: [...made.run.traffic, bid] } }), [
      "acknowledged_bids_counted",
    ]);
    const seen = { ...bid, class: "seen" };
    assert.deepEqual(brokenOf({ ...made, run: { ...made.run, traffic: [...made.run.traffic, seen] } }), []);
  });

  it("takes no block that nobody certified, except empty ones before the first complete slot", () => {
    const made = syntheticRun(certifier);
    const outcomes = made.run.outcomes.filter((_, index) => index >= 8);
    const early = { ...made.run, outcomes, slots: { first_complete: 2, first: 2, last: SLOTS } };
    const emptied = made.chain.blocks.map((block) => (block.number === 1n ? { ...block, transactions: [] } : block));
    const traffic = made.run.traffic.filter((line) => line.type !== "transaction" || line.nonce !== 1);
    const events = made.chain.events.filter((event) => event.blockHash !== made.chain.blocks[0]?.hash);
    const chain = { ...made.chain, blocks: emptied, events, headWei: made.chain.headWei - 2000n };
    assert.deepEqual(brokenOf({ run: { ...early, traffic }, chain }), []);
    const full = { ...chain, blocks: made.chain.blocks };
    assert.deepEqual(brokenOf({ run: { ...early, traffic }, chain: full }), ["head_only_on_certified_candidates"]);

    const foreign = made.chain.blocks.map((block) =>
      block.number === BigInt(SLOTS) ? { ...block, hash: "cd".repeat(32), transactions: [] } : block,
    );
    const broken = brokenOf({ ...made, chain: { ...made.chain, blocks: foreign } });
    assert.ok(broken.includes("head_only_on_certified_candidates") && broken.includes("accepted_blocks_on_chain"));
  });

  it("wants a transaction in a block within five slots", () => {
    const made = syntheticRun(certifier);
    const late = made.run.traffic.map((line) =>
      line.type === "transaction" && line.nonce === 12 ? { ...line, slot: 6 } : line,
    );
    assert.deepEqual(brokenOf({ ...made, run: { ...made.run, traffic: late } }), ["transactions_in_block_or_told"]);
    const inTime = made.run.traffic.map((line) =>
      line.type === "transaction" && line.nonce === 12 ? { ...line, slot: 7 } : line,
    );
    assert.deepEqual(brokenOf({ ...made, run: { ...made.run, traffic: inTime } }), []);
  });

  it("wants both kinds of bundles and a claim on chain", () => {
    const made = syntheticRun(certifier);
    const seen = new Set(
      Array.from({ length: SLOTS }, (_, index) => Buffer.from(bytesOf(`seen payment ${index + 1}`)).toString("hex")),
    );
    const events = made.chain.events.map((event) =>
      event.type === "bid-paid" && seen.has(event.paymentId) ? { ...event, paymentId: "00" } : event,
    );
    assert.deepEqual(brokenOf({ ...made, chain: { ...made.chain, events } }), ["seen_bundle_landed"]);
    const unclaimed = made.chain.events.filter(({ type }) => type !== "claimed");
    assert.deepEqual(
      brokenOf({ ...made, chain: { ...made.chain, events: unclaimed, headWei: made.chain.headWei + 500n } }),
      ["claim_paid"],
    );
  });

  it("counts the money", () => {
    const short = syntheticRun(certifier, (slot) => {
      if (slot.slot === 9n) slot.attribution = { ...slot.attribution, remainderWei: 1n };
    });
    assert.deepEqual(brokenOf(short), ["refunds_conserve"]);
    const made = syntheticRun(certifier);
    assert.deepEqual(brokenOf({ ...made, chain: { ...made.chain, headWei: made.chain.headWei - 1n } }), [
      "settlement_balance_conserved",
    ]);
    const greedy = made.chain.events.map((event) =>
      event.type === "claimed" ? { ...event, wei: 900n * BigInt(SLOTS) + 1n } : event,
    );
    const headWei = made.chain.headWei + 500n - 900n * BigInt(SLOTS) - 1n;
    assert.deepEqual(brokenOf({ ...made, chain: { ...made.chain, events: greedy, headWei } }), [
      "claims_within_credits",
    ]);
  });
});

describe("parseRun", () => {
  it("refuses what is no export, naming the field", () => {
    const { run } = syntheticRun(certifier);
    const cases: [unknown, RegExp][] = [
      [[], /export: an object/],
      [{ ...run, schema_version: 2 }, /schema_version/],
      [{ ...run, slots: { ...run.slots, last: 0 } }, /not a range/],
      [{ ...run, faults_allowed: "no" }, /faults_allowed/],
      [{ ...run, outcomes: [{ organism: "bank", certified: "" }] }, /outcomes\[0\].organism/],
      [{ ...run, eras: { offer: "" } }, /eras.offer: a list/],
      [{ ...run, eras: { offer: [run.rosters.offer] } }, /eras.offer: link 1: a roster that begins no era/],
      [{ ...run, eras: { relay: withEra(certifier, "offer", 9n).eras?.offer } }, /eras.relay: link 1: certified for/],
      [{ ...run, traffic: [{ type: "bid", bidId: 7 }] }, /traffic\[0\].bidId/],
    ];
    for (const [value, message] of cases) {
      assert.throws(
        () => parseRun(JSON.stringify(value)),
        (error) => error instanceof MalformedExport && message.test(error.message),
      );
    }
  });
});
