/** What a starting member makes of what it kept, and of the log that it comes back to. */
import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, before, beforeEach, describe, test } from "node:test";
import { certifyState } from "../../test/test-lattice.ts";
import { toyDefinition } from "../../test/toy-organism.ts";
import { initCrypto } from "../crypto/engine.ts";
import { type Log, LogLost, type MemberJournal } from "../ports.ts";
import { dealCommittee, type TestCommittee } from "../testing/dealt-committee.ts";
import { memberOptions } from "../testing/member-options.ts";
import { freshCommittee, startMember } from "./member-start.ts";
import { ReadMarks } from "./read-marks.ts";
import { fileStorage } from "./storage.ts";

const HEAD = new Uint8Array(32).fill(7);

let dealt: TestCommittee;
let directory: string;
let journals: MemberJournal[];

before(async () => {
  await initCrypto();
  dealt = dealCommittee(3, {});
});
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "member-start-"));
  journals = [];
});
afterEach(async () => {
  for (const journal of journals) await journal.close();
  await rm(directory, { recursive: true });
});

/** A log that nobody reads: it shows where it begins and ends, or what asking meets. */
function logOf({ last = 0n, lost, present = true }: { last?: bigint; lost?: Error; present?: boolean }): Log {
  const say = async (position: bigint): Promise<bigint> => {
    if (lost !== undefined) throw lost;
    return position;
  };
  return {
    lastPosition: () => say(last),
    firstPosition: () => say(1n),
    present: async () => present,
    append: () => assert.fail("nothing is said"),
    consume: () => assert.fail("nothing is read"),
    close: async () => undefined,
  };
}

/** @param log of generation 0; @param next of later ones: without, the member can go on in none */
async function optionsOf(log: Log, next?: Log) {
  const nextLog = next === undefined ? {} : { nextLog: async () => next };
  const clock = { nowMs: () => dealt.config.genesisMs };
  const filled = await memberOptions({ committee: dealt, index: 0, log, directory, clock, ...nextLog });
  journals.push(filled.journal);
  return { definition: toyDefinition, settings: {}, ...filled };
}

/** The process before this one had read so far. */
async function noteRead(journal: MemberJournal, generation: bigint, position: bigint): Promise<void> {
  await new ReadMarks({ generation, position, head: HEAD, headAt: () => undefined }, journal, undefined).note();
}

describe("with nothing on disk", () => {
  test("it begins with the log", async () => {
    const start = await startMember(await optionsOf(logOf({ last: 3n }), logOf({})));
    assert.equal(start.logState, "there");
    assert.deepEqual([start.committee.generation, start.committee.position], [0n, 0n]);
    assert.notEqual(start.tail, undefined);
    await start.tail?.close();
    await start.archive.close();
  });

  test("it keeps no entries when there is no later log to go on in", async () => {
    const start = await startMember(await optionsOf(logOf({})));
    assert.equal(start.tail, undefined);
    await start.archive.close();
  });
});

describe("a log whose store has lost what it had", () => {
  const lost = new LogLost("the stream was made anew", true);

  test("is lost for whoever has read of it: it may help to end the generation", async () => {
    const options = await optionsOf(logOf({ lost }), logOf({}));
    await noteRead(options.journal, 0n, 5n);
    const start = await startMember(options);
    assert.deepEqual(start.logState, { lost: "the stream was made anew" });
    await start.tail?.close();
    await start.archive.close();
  });

  test("ends the start of whoever has read nothing of it, or cannot go on in another", async () => {
    await assert.rejects(startMember(await optionsOf(logOf({ lost }), logOf({}))), lost);
    await rm(directory, { recursive: true });
    const alone = await optionsOf(logOf({ lost }));
    await noteRead(alone.journal, 0n, 5n);
    await assert.rejects(startMember(alone), lost);
  });

  test("is not one that lets this member in no more", async () => {
    const shutOut = new LogLost("not admitted");
    const options = await optionsOf(logOf({ lost: shutOut }), logOf({}));
    await noteRead(options.journal, 0n, 5n);
    await assert.rejects(startMember(options), shutOut);
  });
});

describe("a certified state of a later generation", () => {
  /** Options of a member whose newest state is the beginning of generation 1. */
  async function inGenerationOne(next: Log | undefined) {
    const options = await optionsOf(logOf({ lost: new LogLost("of no concern any more", true) }), next);
    const committee = freshCommittee(options);
    committee.beginGeneration();
    const { checkpoint, state } = committee.birth();
    const snapshots = await fileStorage(options.directory).snapshots(dealt.config, "relay");
    await snapshots.save(certifyState(dealt, 0n, state, checkpoint), state);
    return options;
  }

  test("is gone on from, in the log of that generation", async () => {
    const start = await startMember(await inGenerationOne(logOf({ last: 2n })));
    assert.equal(start.logState, "there");
    assert.deepEqual([start.committee.generation, start.committee.position], [1n, 0n]);
    assert.equal(await start.log.lastPosition(), 2n);
    await start.tail?.close();
    await start.archive.close();
  });

  test("is waited for where its log is still to be made", async () => {
    const start = await startMember(await inGenerationOne(logOf({ present: false })));
    assert.equal(start.logState, "awaited");
    await start.tail?.close();
    await start.archive.close();
  });

  test("is lost where its log is gone that this member has read", async () => {
    const options = await inGenerationOne(logOf({ present: false, lost: new LogLost("no such stream", true) }));
    await noteRead(options.journal, 1n, 4n);
    const start = await startMember(options);
    assert.deepEqual(start.logState, { lost: "no such stream" });
    await start.tail?.close();
    await start.archive.close();
  });

  test("ends the start of a member that knows no log of it", async () => {
    const { nextLog: _, ...options } = await inGenerationOne(logOf({}));
    await assert.rejects(startMember(options), /no log is known for generation 1/);
  });
});
