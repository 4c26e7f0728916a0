/** What one member says of the end of a generation, and when it keeps it to itself; the others are a script. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import { note } from "../../test/probe-driver.ts";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, SILENT, type TestCommittee } from "../../test/test-lattice.ts";
import type { Committee } from "../committee/committee.ts";
import { type GenerationEndPoint, signEnd } from "../committee/generation-end.ts";
import { WINDOW_AHEAD } from "../committee/state.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import { initCrypto } from "../crypto/engine.ts";
import { slotStartMs } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { createNoMeters } from "../observe/meters.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import { firstEpoch, newcomer, nextEpoch } from "../testing/dealt-eras.ts";
import { ManualTimers, settled } from "../testing/manual-timers.ts";
import { GenerationChange } from "./generation-change.ts";
import type { CommitteeClient } from "./outcome-follower.ts";

const TICK_MS = 100;

let dealt: TestCommittee;
let driver: CommitteeDriver<ProbeState, ProbeCommand, Duty>;

before(async () => {
  await initCrypto();
  dealt = dealCommittee(4, {}, "third");
});

beforeEach(() => {
  const { config, rosters, secrets } = dealt;
  driver = new CommitteeDriver({ config, roster: rosters.relay, secrets, createMachine: probeMachine });
  driver.joinAll();
  for (let turn = 0; turn < 6; turn++) driver.author(turn % 4).say(note(`${turn}`));
});

/** Member 0, which has read the first `read` entries. */
class Scene {
  readonly timers = new ManualTimers();
  readonly committee: Committee<ProbeState, ProbeCommand, Duty>;
  readonly kept = new Map<string, Uint8Array>();
  spokenOn: GenerationEndPoint | undefined;
  /** What the other member waits for before it hands over the log. */
  handing: Promise<void> = Promise.resolve();
  convinced = 0;
  readonly change: GenerationChange<ProbeState, ProbeCommand, Duty>;

  constructor(read: number) {
    this.committee = driver.fresh();
    this.read(0, read);
    const scene = this;
    const peer = {
      exchangeGenerationEnd: async ({ generation }: { readonly generation: bigint }) => ({
        generation,
        known: [],
        messages: [],
      }),
      async *fetchEntries({ fromPosition }: { readonly fromPosition: bigint }) {
        await scene.handing;
        for (const [index, raw] of driver.log.entries()) {
          if (BigInt(index) >= fromPosition - 1n) yield { position: BigInt(index + 1), raw };
        }
      },
    } as unknown as CommitteeClient;
    this.change = new GenerationChange<ProbeState, ProbeCommand, Duty>({
      committee: this.committee,
      fresh: () => driver.fresh(),
      self: 0,
      memberKey: driver.author(0).memberKey,
      certificateShare: () => undefined,
      keyIsOver: () => false,
      journal: {
        get: (name: string) => this.kept.get(name),
        put: async (name: string, value: Uint8Array) => void this.kept.set(name, value),
      } as never,
      tail: { read: async () => undefined },
      snapshots: { held: () => [], load: async () => undefined },
      sources: () => [],
      peers: () => [peer],
      clock: { nowMs: () => driver.nowMs },
      timers: this.timers,
      logger: SILENT,
      meters: createNoMeters(),
      spokenOn: () => this.spokenOn,
      onConvinced: () => void this.convinced++,
      onBirth: async () => undefined,
      onLater: () => undefined,
      onRulesUnknown: () => assert.fail(),
    });
  }

  read(from: number, to: number): void {
    for (const [index, raw] of driver.log.slice(from, to).entries()) {
      this.committee.apply(BigInt(from + index + 1), raw);
    }
  }

  /** The others have gone on: this member's state is that of the next generation's beginning. */
  goOn(): void {
    const ended = driver.replay();
    ended.beginGeneration();
    this.committee.restore(ended.birth().state);
    this.change.began();
  }
}

describe("a generation that begins while this member prepares to speak of the one before", () => {
  test("hears nothing of what it would have said", async () => {
    const scene = new Scene(7);
    let hand = (): void => undefined;
    scene.handing = new Promise((resolve) => {
      hand = resolve;
    });
    // It has spoken on what it has not kept: it reports nothing before it has it again.
    scene.spokenOn = { position: driver.committee.position, head: driver.committee.head };
    scene.change.start(true);
    await scene.timers.advance(TICK_MS);
    assert.equal(scene.change.messages().size, 0);
    scene.spokenOn = undefined;
    scene.goOn();
    hand();
    await scene.timers.advance(TICK_MS);
    assert.equal(scene.change.generation, 1n);
    assert.equal(scene.change.messages().size, 0);
    assert.equal(scene.change.bound, false);
    assert.equal(scene.kept.size, 0);

    // In the next one it speaks of where that stands.
    scene.change.start(true);
    await scene.timers.advance(2 * TICK_MS);
    assert.equal(scene.change.messages().size, 1);
    assert.equal(scene.change.bound, true);
    await scene.change.close();
  });
});

describe("an epoch that begins within a generation", () => {
  test("seats who speaks of its end", async () => {
    const scene = new Scene(0);
    const { config } = dealt;
    const activationSlot = 1n + WINDOW_AHEAD + 1n;
    const seat = newcomer();
    const seats = [...dealt.secrets.slice(0, 3), seat];
    const { certified, roster } = nextEpoch(firstEpoch(dealt, "relay", 3), { activationSlot, seats });
    assert.equal(driver.author(0).say({ type: "roster", certified }).refusal, undefined);
    for (let slot = 1n; driver.committee.roster.epoch === 0n; slot += 4n) {
      assert.ok(slot < 100n);
      driver.nowMs = slotStartMs(config, slot);
      for (const author of [0, 1, 2]) driver.author(author).say(note());
      for (const stage of ["first", "second"])
        for (const author of [0, 1, 2]) driver.author(author).say({ type: "skip", stage, toSlot: slot - 1n });
    }
    assert.deepEqual(driver.committee.roster, roster);
    scene.read(0, driver.log.length);

    const { id: committee, generation, position, heads } = driver.committee;
    const lost = { type: "report" as const, round: 0, lost: true, position, heads: [...heads], prepared: undefined };
    const report = (member: number, key: Uint8Array): Uint8Array =>
      signEnd(generateSigningKey(key), { committee, generation }, member, lost);
    const [, second, , left] = dealt.secrets;
    assert.ok(second !== undefined && left !== undefined);
    scene.change.receive([report(1, second.memberKey), report(3, left.memberKey)]);
    assert.equal(scene.convinced, 0, "one of them has no seat any more");
    scene.change.receive([report(3, seat.memberKey)]);
    assert.equal(scene.convinced, 1);
    await settled();
    await scene.change.close();
  });
});
