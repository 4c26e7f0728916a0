import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { stripVTControlCharacters } from "node:util";
import type { CertifiedOutcome, Outcome } from "@lattice/organism/committee/outcome.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import type { Rosters } from "@lattice/organism/node/kit.ts";
import { Collector, STAGES } from "./collector.ts";
import { localConfig } from "./profile.ts";
import { cellText, headerText, SlotTable, slotLine } from "./table.ts";

const GENESIS_MS = 1_700_000_000_000;
const key = (length: number) => new Uint8Array(length).fill(1);
const config = localConfig(
  { name: "test", chainId: 1n, genesisMs: GENESIS_MS, slotMs: 4000, members: 3, settlement: key(20) },
  {
    certificateKeys: Object.fromEntries(ORGANISMS.map((organism) => [organism, key(48)])) as Record<
      Organism,
      Uint8Array
    >,
    builderKey: key(48),
    operators: [key(32), key(32), key(32)],
    issuer: key(32),
    sequencer: key(20),
  },
);
const ROSTERS = {} as Rosters;

function outcome(slot: bigint, stage: string, kind: Outcome["kind"] = "result", commitment = key(4)): CertifiedOutcome {
  return {
    outcome: {
      version: 1,
      committee: key(32),
      generation: 0n,
      epoch: 0n,
      slot,
      stage,
      kind,
      commitment,
      bodyHash: undefined,
    },
    signature: key(96),
    signers: [0, 1],
  };
}

function collector(keepSlots?: number): Collector {
  return new Collector({
    config,
    rosters: ROSTERS,
    endpoints: () => {
      throw new Error("not connected in this test");
    },
    nowMs: () => GENESIS_MS + 4000 + 250,
    ...(keepSlots === undefined ? {} : { keepSlots }),
  });
}

function decide(target: Collector, slot: bigint, kinds: Readonly<Record<string, Outcome["kind"]>> = {}): void {
  for (const organism of ORGANISMS) {
    for (const stage of STAGES[organism]) target.note(organism, outcome(slot, stage, kinds[stage]), 0);
  }
}

describe("collector", () => {
  it("calls a slot decided once every stage is, and complete only when nothing was skipped and its block taken", () => {
    const target = collector();
    decide(target, 1n);
    assert.ok(target.decided(1n) && target.complete(1n));
    decide(target, 2n, { broadcast: "empty", attribution: "skipped" });
    assert.ok(target.complete(2n));
    decide(target, 3n, { auction: "skipped" });
    decide(target, 4n, { accepted: "empty" });
    assert.deepEqual([target.complete(3n), target.complete(4n), target.decided(5n)], [false, false, false]);
    assert.deepEqual(target.slots(), [1n, 2n, 3n, 4n]);
    assert.equal(target.slot(1n).length, 8);
  });

  it("keeps the first of two contradicting outcomes, and remembers the contradiction", () => {
    const target = collector();
    target.note("offer", outcome(1n, "auction"), 0);
    target.note("offer", outcome(1n, "auction"), 2);
    assert.deepEqual([...(target.get("offer", "auction", 1n)?.members ?? [])], [0, 2]);
    assert.equal(target.conflicts.length, 0);
    target.note("offer", outcome(1n, "auction", "result", key(5)), 1);
    assert.equal(target.conflicts.length, 1);
    assert.equal(target.get("offer", "auction", 1n)?.certified.outcome.commitment.length, 4);
  });

  it("forgets what lies too far below the newest slot", () => {
    const target = collector(2);
    for (const slot of [1n, 2n, 3n, 4n]) decide(target, slot);
    assert.deepEqual(target.slots(), [2n, 3n, 4n]);
  });

  it("waits until something holds, or tells that it does not", async () => {
    const target = collector();
    const seen = target.until(() => target.decided(1n), 60_000);
    decide(target, 1n);
    assert.equal(await seen, true);
    assert.equal(await target.until(() => target.decided(2n), 0), false);
    const abort = new AbortController();
    const waiting = target.until(() => target.decided(2n), 60_000, abort.signal);
    abort.abort();
    assert.equal(await waiting, false);
  });

  it("counts time from the slot's start", () => {
    const target = collector();
    decide(target, 1n);
    decide(target, 2n);
    const ms = (slot: bigint): number | undefined => {
      const arrival = target.get("unseal", "unsealed", slot);
      return arrival && target.msIntoSlot(arrival);
    };
    assert.deepEqual([ms(1n), ms(2n)], [250, -3750]);
  });
});

/** A stream that keeps what is written. */
function sink(isTTY: boolean, columns = 120): { stream: NodeJS.WriteStream; text: () => string } {
  let written = "";
  const stream = {
    isTTY,
    columns,
    rows: 30,
    write(chunk: string) {
      written += chunk;
      return true;
    },
    on: () => undefined,
    getColorDepth: () => 1,
    hasColors: () => false,
  };
  return { stream: stream as unknown as NodeJS.WriteStream, text: () => written };
}

describe("slot table", () => {
  it("marks Result, Empty, Skipped and undecided apart without colour", () => {
    assert.equal(cellText({ kind: "result", ms: -2180 }), "✓ −2.18 s");
    assert.equal(cellText({ kind: "empty", ms: 5 }), "∅ +0.01 s");
    assert.equal(cellText({ kind: "skipped", ms: 1000 }), "× +1.00 s");
    assert.equal(cellText({ kind: undefined, ms: undefined }), "·");
  });

  it("prints one line per finished slot where there is no terminal", () => {
    const target = collector();
    const { stream, text } = sink(false);
    const table = new SlotTable({ collector: target, stream });
    table.start();
    decide(target, 1n);
    decide(target, 2n, { attribution: "empty" });
    target.note("zipnet", outcome(3n, "header"), 0);
    table.stop();
    assert.equal(text(), `${slotLine(target, 1n)}\n${slotLine(target, 2n)}\n`);
    assert.match(slotLine(target, 2n), /^slot 2: zipnet result -3750 ms .* tally empty -3750 ms$/);
    assert.ok(!text().includes("\u001b"));
  });

  it("redraws in place on a terminal, within its width", () => {
    const target = collector();
    decide(target, 1n);
    const { stream, text } = sink(true, 60);
    const table = new SlotTable({ collector: target, stream, nowMs: () => GENESIS_MS + 4000, footer: () => "footer" });
    table.draw();
    table.draw();
    assert.ok(text().includes("\u001b[3A\u001b[0J"));
    const lines = stripVTControlCharacters(text()).split("\n");
    assert.ok(lines.every((line) => line.length < 60));
    assert.equal(lines[0], headerText().slice(0, 59));
  });
});
