/** Certificates and bodies that a member keeps, and what it lets go of. */
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, before, beforeEach, describe, test } from "node:test";
import { encode } from "../codec/codec.ts";
import type { CertifiedOutcome, Outcome } from "../committee/outcome.ts";
import { initCrypto } from "../crypto/engine.ts";
import { blake3 } from "../crypto/hash.ts";
import { ATTRIBUTION, type AttributionCommitment } from "../outcomes/tally.ts";
import { FileBodyStore } from "./file-body-store.ts";
import { KeptOutcomes } from "./kept-outcomes.ts";
import { OutcomeArchive } from "./outcome-archive.ts";

const NOTHING_CREDITED: Omit<AttributionCommitment, "landed"> = {
  version: 1,
  parentHash: new Uint8Array(32),
  blockHash: new Uint8Array(32),
  blockNumber: 1n,
  landedMessages: [],
  credits: [],
  charges: [],
  refundableWei: 0n,
  remainderWei: 0n,
};
const BODY = new TextEncoder().encode("the whole of it");

function outcomeOf(slot: bigint, changes: Partial<Outcome> = {}): Outcome {
  return {
    version: 1,
    committee: new Uint8Array(32),
    generation: 0n,
    epoch: 0n,
    stage: "accepted",
    slot,
    kind: "result",
    commitment: new Uint8Array(),
    bodyHash: undefined,
    ...changes,
  };
}

let directory: string;
let archive: OutcomeArchive;
let bodies: FileBodyStore;
/** Outcomes whose certificate is complete in the state. */
let complete: Outcome[];
/** Slots with too few votes. */
let unsigned: Set<bigint>;
let floor: bigint;
let fetched: bigint[];
let outside: CertifiedOutcome[];
let kept: KeptOutcomes;

before(initCrypto);

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "kept-outcomes-"));
  archive = await OutcomeArchive.open(directory, "relay");
  bodies = await FileBodyStore.open(directory);
  complete = [];
  unsigned = new Set();
  floor = 1n;
  fetched = [];
  outside = [];
  kept = new KeptOutcomes({
    committee: {
      complete: () => complete,
      votes: () => new Map([2, 0, 1].map((member) => [member, new Uint8Array([member])])),
      signature: ({ slot }) => (unsigned.has(slot) ? undefined : new Uint8Array(96)),
      floor: () => floor,
      newestObserved: () => 0n,
      machine: { stages: ["accepted"] },
    },
    archive,
    bodies,
    outside: { hand: (certified) => void outside.push(certified) },
    others: {
      fetch: async (_, { slot }) => {
        fetched.push(slot);
        return BODY;
      },
    },
    logger: { debug: assert.fail, info: assert.fail, warn: assert.fail, error: assert.fail },
  });
});

/** Nobody waits for the disk but whoever closes it. */
async function onDisk(slot: bigint): Promise<void> {
  while (!archive.has("accepted", slot)) await new Promise(setImmediate);
}

afterEach(async () => {
  await archive.close();
  await rm(directory, { recursive: true });
});

describe("certificates", () => {
  test("go into the archive and outside, with their signers in order", async () => {
    kept.certify(outcomeOf(4n));
    assert.deepEqual(archive.recent("accepted", 4n)?.signers, [0, 1, 2]);
    assert.deepEqual(
      outside.map(({ outcome }) => outcome.slot),
      [4n],
    );
    await onDisk(4n);
  });

  test("are none while shares are missing", () => {
    unsigned.add(4n);
    kept.certify(outcomeOf(4n));
    assert.equal(archive.recent("accepted", 4n), undefined);
    assert.deepEqual(outside, []);
  });

  test("that a crash has lost are made again, and no others", async () => {
    await archive.put({ outcome: outcomeOf(4n), signature: new Uint8Array(96), signers: [0, 1, 2] });
    complete = [outcomeOf(4n), outcomeOf(5n)];
    kept.certifyMissing();
    assert.deepEqual(
      outside.map(({ outcome }) => outcome.slot),
      [5n],
    );
    await onDisk(5n);
  });
});

describe("bodies", () => {
  test("are fetched once", async () => {
    const outcome = outcomeOf(6n, { bodyHash: blake3(BODY) });
    assert.deepEqual(await kept.body("zipnet", outcome), BODY);
    assert.deepEqual(new Uint8Array(await kept.body("zipnet", outcome)), BODY);
    assert.deepEqual(fetched, [6n]);
  });

  test("may be shown once tally certifies that their slot has landed", () => {
    const landed: bigint[] = [];
    bodies.markLanded = async (slot) => void landed.push(slot);
    const say = (slot: bigint, hasLanded: boolean, changes: Partial<Outcome> = {}): void => {
      const commitment = encode(ATTRIBUTION, { ...NOTHING_CREDITED, landed: hasLanded });
      kept.upstream("tally", outcomeOf(slot, { stage: "attribution", commitment, ...changes }));
    };
    say(5n, false);
    say(6n, true, { stage: "accepted" });
    say(7n, true, { kind: "skipped" });
    assert.deepEqual(landed, []);
    say(8n, true);
    assert.deepEqual(landed, [8n]);
  });

  test("are kept from the lowest slot that is undecided, or that the clock says, whichever is older", async () => {
    for (const [decided, now] of [
      [2000n, 1000n],
      [1000n, 2000n],
    ] as const) {
      const hash = await bodies.put(990n, BODY);
      const old = await bodies.put(1n, new Uint8Array([1]));
      floor = decided + 1n;
      await kept.prune(now);
      assert.equal(await bodies.get(old), undefined);
      assert.deepEqual(new Uint8Array((await bodies.get(hash)) ?? []), BODY);
    }
  });
});
