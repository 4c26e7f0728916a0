/**
 * Replicas of unseal's machine over one list of events, without log and votes: every event goes to every replica, and
 * they must agree on refusals, decisions and state. States take the way through their encoding after every event.
 */
import assert from "node:assert/strict";
import { decode, encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import type { Quorum } from "@lattice/organism/committee/roster.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Context, Decision, MachineEvent, Refusal, Submission, View } from "@lattice/organism/machine.ts";
import { createMachine, STAGE } from "../src/core/machine.ts";
import type { UnsealCommand, UnsealDuty, UnsealState } from "../src/core/types.ts";
import { MEMBERS, type TestLattice } from "./lattice.ts";

const QUORUM: Quorum = { members: MEMBERS, faults: 0, quorum: 2 };
/** How far beyond the log's own slot a command may reach (committee/state.ts). */
const WINDOW_AHEAD = 8n;
/** Reasons that leave a trace although the command is refused. */
const WITH_EVIDENCE = new Set(["SHARE_BEFORE_FREEZE", "SHARE_CONFLICT"]);

export class CommitteeDriver {
  readonly lattice: TestLattice;
  readonly machine: ReturnType<typeof createMachine>;
  /** One state a replica. */
  readonly states: UnsealState[];
  readonly outcomes = new Map<bigint, Outcome>();
  readonly #observed = new Map<string, Outcome>();
  readonly #facts = new Map<string, { by: Map<number, Uint8Array>; agreed: boolean }>();
  #position = 0n;
  nowMs: number;

  constructor(lattice: TestLattice) {
    this.lattice = lattice;
    this.machine = createMachine(lattice.config);
    this.states = [this.machine.genesis(), this.machine.genesis()];
    this.nowMs = lattice.config.genesisMs;
  }

  get state(): UnsealState {
    const [state] = this.states;
    assert.ok(state !== undefined);
    return state;
  }

  /** Sets the clock to this long before the start of `slot`. */
  at(slot: bigint, beforeMs: number): void {
    this.nowMs = slotStartMs(this.lattice.config, slot) - beforeMs;
  }

  get #slotNow(): bigint {
    const { genesisMs, slotMs } = this.lattice.config;
    return BigInt(Math.max(0, Math.floor((this.nowMs - genesisMs) / slotMs)));
  }

  #context(decisions: Decision[]): Context {
    const decided = (slot: bigint) => this.outcomes.has(slot) || decisions.some((each) => each.slot === slot);
    const open = (slot: bigint) =>
      slot >= this.state.retainedFrom && slot <= this.#slotNow + WINDOW_AHEAD && !decided(slot);
    return {
      position: this.#position,
      rules: 1,
      nowMs: this.nowMs,
      quorum: QUORUM,
      quorumAt: () => QUORUM,
      roster: this.lattice.roster,
      rosterAt: () => this.lattice.roster,
      outcome: (_stage, slot) => this.outcomes.get(slot),
      observed: (organism, stage, slot) => this.#observed.get(`${organism}/${stage}/${slot}`),
      open: (_stage, slot) => open(slot),
      decide: (decision) => {
        if (!open(decision.slot)) return false;
        decisions.push(decision);
        return true;
      },
    };
  }

  #event(event: MachineEvent<UnsealCommand>): Refusal | undefined {
    this.#position += 1n;
    const results = this.states.map((state, index) => {
      const before = toHex(encode(this.machine.state, state));
      const decisions: Decision[] = [];
      const refusal = this.machine.apply(state, event, this.#context(decisions));
      const bytes = encode(this.machine.state, state);
      if (refusal !== undefined) {
        assert.deepEqual(decisions, [], "a refusal decides nothing");
        if (!WITH_EVIDENCE.has(refusal.reason)) assert.equal(toHex(bytes), before, "a refusal changes nothing");
      }
      this.states[index] = decode(this.machine.state, bytes);
      return { refusal, decisions, bytes };
    });
    const [first] = results;
    assert.ok(first !== undefined);
    for (const other of results) assert.deepEqual(other, first, "replicas differ");
    for (const { slot, stage, kind, commitment, bodyHash } of first.decisions) {
      const committee = this.lattice.roster.committee;
      const outcome = {
        version: 1,
        committee,
        generation: 0n,
        epoch: 0n,
        slot,
        stage,
        kind,
        commitment,
        bodyHash,
      } as const;
      this.outcomes.set(slot, outcome);
    }
    return first.refusal;
  }

  command(author: number, command: UnsealCommand): Refusal | undefined {
    return this.#event({ type: "command", author, command });
  }

  observe(organism: Organism, outcome: Outcome): Refusal | undefined {
    this.#observed.set(`${organism}/${outcome.stage}/${outcome.slot}`, outcome);
    return this.#event({ type: "observed", organism, outcome });
  }

  observed(organism: Organism, stage: string, slot: bigint): Outcome | undefined {
    return this.#observed.get(`${organism}/${stage}/${slot}`);
  }

  saw(author: number, topic: string, slot: bigint, fact: Uint8Array): Refusal | undefined {
    const key = `${topic}/${slot}`;
    const record = this.#facts.get(key) ?? { by: new Map(), agreed: false };
    this.#facts.set(key, record);
    if (record.by.has(author)) return { reason: "DUPLICATE", detail: "said already" };
    record.by.set(author, fact);
    const alike = [...record.by.values()].filter((other) => equalBytes(other, fact)).length;
    if (record.agreed || alike < QUORUM.quorum) return undefined;
    record.agreed = true;
    return this.#event({ type: "agreed", topic, slot, fact });
  }

  /** q members let the slot expire. */
  skip(slot: bigint): void {
    const committee = this.lattice.roster.committee;
    const commitment = new Uint8Array();
    const kind = "skipped";
    this.outcomes.set(slot, {
      version: 1,
      committee,
      generation: 0n,
      epoch: 0n,
      slot,
      stage: STAGE,
      kind,
      commitment,
      bodyHash: undefined,
    });
    this.#event({ type: "skipped", stage: STAGE, slot });
  }

  submit(author: number, submission: Submission<UnsealCommand>): Refusal | undefined {
    if (submission.type === "machine") return this.command(author, submission.command);
    assert.equal(submission.type, "saw");
    return submission.type === "saw" ? this.saw(author, submission.topic, submission.slot, submission.fact) : undefined;
  }

  collapse(slot: bigint): void {
    for (const old of [...this.outcomes.keys()]) if (old < slot) this.outcomes.delete(old);
    for (const state of this.states) this.machine.collapse(state, slot);
  }

  duties(self: number): readonly UnsealDuty[] {
    const view: View = {
      self,
      rules: 1,
      nowMs: this.nowMs,
      quorum: QUORUM,
      quorumAt: () => QUORUM,
      roster: this.lattice.roster,
      rosterAt: () => this.lattice.roster,
      floor: () => 1n,
      outcome: (_stage, slot) => this.outcomes.get(slot),
      observed: (organism, stage, slot) => this.#observed.get(`${organism}/${stage}/${slot}`),
      said: (topic, slot) => this.#facts.get(`${topic}/${slot}`)?.by.get(self),
      hasClosed: () => false,
      promised: () => false,
    };
    return this.machine.duties(this.state, view);
  }
}
