/** A committee of four on the probe machine, driven by hand, and what tests of the committee layer say to it and of it. */
import assert from "node:assert/strict";
import { before, beforeEach } from "node:test";
import { encode, toHex } from "../src/codec/codec.ts";
import type { CheckpointSchedule } from "../src/committee/checkpoint-votes.ts";
import { commandDigest } from "../src/committee/chunks.ts";
import type { CommitteeCommand } from "../src/committee/commands.ts";
import type { Applied } from "../src/committee/committee.ts";
import { CHUNK_BYTES } from "../src/committee/entry.ts";
import type { Outcome } from "../src/committee/outcome.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { slotStartMs } from "../src/identity/lattice-config.ts";
import type { Duty } from "../src/machine.ts";
import { CommitteeDriver, type ScriptedAuthor } from "../src/testing/committee-driver.ts";
import { type ProbeCommand, type ProbeState, probeMachine } from "./probe-machine.ts";
import { dealCommittee, type TestCommittee } from "./test-lattice.ts";

/** n = 4, f = 1, q = 3. */
export const MEMBERS = 4;

function dealFour(): TestCommittee {
  return dealCommittee(MEMBERS, {}, "third");
}

export function machine(command: ProbeCommand): CommitteeCommand {
  return { type: "machine", command: encode(probeMachine().command, command) };
}

export function note(text = "x"): CommitteeCommand {
  return machine({ type: "note", text });
}

export function decide(slot: bigint, stage = "first"): CommitteeCommand {
  return machine({ type: "decide", stage, slot, kind: "result", commitment: new Uint8Array([1]) });
}

export function hash32(value: number): Uint8Array {
  return new Uint8Array(32).fill(value);
}

/** One chunk of an encoded command, as its author would say it but for `changes`. */
export function chunk(command: Uint8Array, index: number, changes: Record<string, unknown> = {}): CommitteeCommand {
  return {
    type: "chunk",
    digest: commandDigest(command),
    index,
    count: Math.ceil(command.length / CHUNK_BYTES),
    part: command.slice(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
    ...changes,
  };
}

/** All chunks of an encoded command. @returns what became of the last one */
export function sayLarge(author: ScriptedAuthor, command: Uint8Array): Applied | undefined {
  let last: Applied | undefined;
  for (let index = 0; index * CHUNK_BYTES < command.length; index++) last = author.say(chunk(command, index), "bulk");
  return last;
}

export function accepted(applied: Applied): Applied {
  assert.equal(applied.refusal, undefined);
  assert.equal(applied.landed, true);
  return applied;
}

/** A fresh committee, all joined, and its first author, before each test of the file that calls it. */
export function joinedBeforeEach(
  take: (fresh: {
    readonly dealt: TestCommittee;
    readonly driver: ProbeDriver;
    readonly author: ScriptedAuthor;
  }) => void,
): void {
  let dealt: TestCommittee;
  before(async () => {
    await initCrypto();
    dealt = dealFour();
  });
  beforeEach(() => {
    const driver = ProbeDriver.joined(dealt);
    take({ dealt, driver, author: driver.author(0) });
  });
}

export class ProbeDriver extends CommitteeDriver<ProbeState, ProbeCommand, Duty> {
  /** Nobody has joined. */
  constructor({ config, rosters, secrets }: TestCommittee, replicas = 2, checkpointEvery?: CheckpointSchedule) {
    const options = { config, roster: rosters.relay, secrets, createMachine: probeMachine, replicas };
    super(checkpointEvery === undefined ? options : { ...options, checkpointEvery });
  }

  /** All have joined; log time is in slot 10. */
  static joined(dealt: TestCommittee): ProbeDriver {
    const driver = new ProbeDriver(dealt);
    driver.nowMs = slotStartMs(dealt.config, 10n);
    driver.joinAll();
    return driver;
  }

  /** All say that they can follow these rules, and go on until they govern. */
  takeUp(version: number): void {
    for (const author of this.authors) author.say({ type: "rules", highest: version, build: "test" });
    while (this.committee.rules.active < version) this.author(0).say(note());
    assert.equal(this.committee.rules.active, version);
  }

  /** Refused, and nothing but the head has moved: neither state nor lane. */
  refusedOutright(run: () => Applied, reason: string, author?: number): void {
    const before = this.#inert();
    const applied = run();
    assert.equal(applied.refusal?.reason, reason, applied.refusal?.detail);
    assert.equal(applied.landed, false);
    assert.equal(applied.author, author);
    assert.deepEqual(this.#inert(), before);
    this.assertAlike();
  }

  /** Refused after it took its place in its author's lane: the organism's state and the slots have not moved. */
  refusedCommand(run: () => Applied, reason: string): Applied {
    const before = this.#effects();
    const applied = run();
    assert.equal(applied.refusal?.reason, reason, applied.refusal?.detail);
    assert.equal(applied.landed, true);
    assert.deepEqual(this.#effects(), before);
    this.assertAlike();
    return applied;
  }

  /** The machine decides a slot's first stage. */
  decided(slot = 10n): Outcome {
    const { decided: outcomes } = accepted(this.author(0).say(decide(slot)));
    const [outcome] = outcomes;
    assert.ok(outcome !== undefined);
    return outcome;
  }

  /** What the machine was told of a kind, without the position. */
  told(kind: string): string[] {
    const events = this.committee.state.events.filter((event) => event.includes(kind));
    return events.map((event) => event.split(" ").slice(1).join(" "));
  }

  /** Everything that a command may change: read through the committee's own windows. */
  #effects(): unknown {
    const { committee } = this;
    return {
      events: [...committee.state.events],
      inputs: committee.state.inputs.map(toHex),
      floors: ["first", "second"].map((stage) => committee.floor(stage)),
      votes: Array.from({ length: 20 }, (_, slot) =>
        ["first", "second"].map((stage) => [...committee.votes(stage, BigInt(slot)).keys()]),
      ),
      skips: this.authors.map((each) => committee.skippedTo(each.index, "first")),
      outcomes: Array.from({ length: 20 }, (_, slot) => committee.outcome("first", BigInt(slot))),
      said: this.authors.map(({ index }) => {
        const view = committee.view(index, 0, () => false);
        return Array.from({ length: 20 }, (_, slot) => [
          view.said("topic", BigInt(slot)),
          view.hasClosed("first", BigInt(slot)),
          view.observed("atelier", "candidate", BigInt(slot)),
        ]);
      }),
    };
  }

  #inert(): unknown {
    const { committee } = this;
    return {
      effects: this.#effects(),
      time: committee.logTimeMs,
      authors: this.authors.map(({ index }) => committee.author(index)),
    };
  }
}
