/** What a member does with its committee's state while that becomes another generation's. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { note } from "../../test/probe-driver.ts";
import { type ProbeCommand, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, SILENT, type TestCommittee } from "../../test/test-lattice.ts";
import { initCrypto } from "../crypto/engine.ts";
import type { Duty, Submission } from "../machine.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import { ManualTimers, settled } from "../testing/manual-timers.ts";
import { DutyRound } from "./duty-round.ts";
import { EraBook } from "./era-book.ts";

let dealt: TestCommittee;
before(async () => {
  await initCrypto();
  dealt = dealCommittee(4, {}, "third");
});

test("what a duty came to in a generation that is over meanwhile is not said in the next: it is carried out anew", async () => {
  const { config, rosters, secrets } = dealt;
  const duty: Duty = { key: "duty/1", slot: 1n, promise: true, lane: "ctl" };
  const createMachine = () => ({ ...probeMachine(), duties: () => [duty] });
  const driver = new CommitteeDriver({ config, roster: rosters.relay, secrets, createMachine });
  driver.joinAll();
  driver.author(0).say(note());
  const committee = driver.replay();
  const timers = new ManualTimers();
  const promised = new Map<string, Uint8Array>();
  const said: bigint[] = [];
  let carriedOut = 0;
  let work = (): void => undefined;
  let working = new Promise<void>((resolve) => {
    work = resolve;
  });
  const round = new DutyRound({
    config,
    self: 0,
    committee,
    node: {
      execute: async (): Promise<Submission<ProbeCommand>> => {
        carriedOut++;
        await working;
        return { type: "machine", command: { type: "note", text: `${carriedOut}` } };
      },
      services: [],
      bodies: {},
    },
    journal: {
      promise: async (key: string, _slot: bigint, bytes: Uint8Array) => void promised.set(key, bytes),
      promised: (key: string) => promised.get(key),
      isPromised: (key: string) => promised.has(key),
    } as never,
    keys: { of: () => undefined } as never,
    eras: new EraBook(config),
    clock: { nowMs: () => driver.nowMs },
    timers,
    logger: SILENT,
    append: async () => {
      said.push(committee.generation);
      return true;
    },
    abstainBelow: () => 0n,
    logFull: () => false,
    draining: () => false,
    again: () => undefined,
  });
  round.own();
  await settled();
  assert.equal(carriedOut, 1);
  const ended = driver.replay();
  ended.beginGeneration();
  committee.restore(ended.birth().state);
  work();
  working = Promise.resolve();
  await settled();
  assert.deepEqual([said, promised.size], [[], 0]);
  await timers.advance(200);
  round.own();
  await settled();
  assert.equal(carriedOut, 2);
  assert.deepEqual(said, [1n]);
});
