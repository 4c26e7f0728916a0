/** What people are shown of the log, and of what was only read again nothing but the count. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { Applied } from "../committee/committee.ts";
import type { Outcome } from "../committee/outcome.ts";
import type { RulesState } from "../committee/rules.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { createNoMeters } from "../observe/meters.ts";
import { dealCommittee } from "../testing/dealt-committee.ts";
import { AppliedReport } from "./applied-report.ts";

const { config, rosters } = dealCommittee(3, {});

let lines: string[];
let spans: string[];
let rules: RulesState;
let meters: ReturnType<typeof createNoMeters>;

beforeEach(() => {
  lines = [];
  spans = [];
  rules = { active: 4, since: 0n, next: undefined };
  meters = createNoMeters();
});

function reportOf(organism: Organism, self: number): AppliedReport {
  const told = (line: string): void => void lines.push(line);
  return new AppliedReport({
    config,
    organism,
    self,
    committee: {
      position: 9n,
      roster: rosters[organism],
      get rules() {
        return rules;
      },
      speaks: { lowest: 1, highest: 5 },
    },
    clock: { nowMs: () => slotStartMs(config, 4n) },
    logger: { debug: told, info: told, warn: told, error: told },
    meters,
    tracer: {
      span: (slot, name, _, startMs, endMs) => void spans.push(`${name} of ${slot}: ${endMs - startMs} ms`),
      root: (slot) => void spans.push(`root of ${slot}`),
      close: async () => undefined,
    },
  });
}

const APPLIED: Applied = {
  position: 9n,
  author: 1,
  entry: undefined,
  read: undefined,
  landed: true,
  refusal: undefined,
  decided: [],
  certified: [],
};

function outcomeOf(slot: bigint): Outcome {
  const nothing = new Uint8Array();
  const place = { committee: new Uint8Array(32), generation: 0n, epoch: 0n, stage: "accepted", slot };
  return { version: 1, ...place, kind: "result", commitment: nothing, bodyHash: undefined };
}

describe("an entry", () => {
  test("that is taken says nothing", () => {
    reportOf("relay", 0).applied(APPLIED, 0.001);
    assert.deepEqual(lines, []);
  });

  test("that is refused, or shows that shares are none, is told of", () => {
    const refusal = { reason: "OUT_OF_ORDER", detail: "number 7" } as const;
    reportOf("relay", 0).applied({ ...APPLIED, refusal, badShares: [{ author: 2, what: "a vote" }] }, 0.001);
    assert.deepEqual(lines, ["entry refused", "a member's share is none; it does not count"]);
  });
});

describe("rules", () => {
  test("that govern from this very position are told of once", () => {
    rules = { active: 4, since: 9n, next: undefined };
    reportOf("relay", 0).applied({ ...APPLIED, activated: 4 }, 0.001);
    rules = { active: 4, since: 8n, next: undefined };
    reportOf("relay", 0).rules();
    assert.deepEqual(lines, ["rules govern from here on"]);
  });

  test("to come are told of, and whether this build has them", () => {
    for (const version of [5, 6]) {
      rules = { active: 4, since: 0n, next: { version, from: 20n } };
      reportOf("relay", 0).applied({ ...APPLIED, planned: { version, from: 20n } }, 0.001);
    }
    assert.deepEqual(lines, [
      "a quorum can follow newer rules",
      "a quorum can follow newer rules, this build cannot: it stops before them",
    ]);
  });
});

describe("a decision", () => {
  test("that is live has a line and a span, since the beginning of the slot before", () => {
    reportOf("relay", 1).decided(outcomeOf(4n), true);
    assert.deepEqual(lines, ["decided"]);
    assert.deepEqual(spans, [`relay/accepted of 4: ${config.slotMs} ms`]);
  });

  test("that is read again is only counted", () => {
    reportOf("relay", 1).decided(outcomeOf(4n), false);
    assert.deepEqual([...lines, ...spans], []);
  });

  test("of the last organism ends the slot's trace, by one member in turn", () => {
    for (const self of [0, 1, 2]) reportOf("tally", self).decided(outcomeOf(4n), true);
    assert.deepEqual(
      spans.filter((each) => each.startsWith("root")),
      ["root of 4"],
    );
  });
});
