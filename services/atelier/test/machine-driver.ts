/**
 * Replicas of atelier's machine over one list of events, without log and votes: every event goes to both replicas, and
 * they must agree on refusals, decisions and state. States take the way through their encoding after every event.
 */
import assert from "node:assert/strict";
import { decode, encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import type { Quorum } from "@lattice/organism/committee/roster.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Context, Decision, MachineEvent, Refusal, View } from "@lattice/organism/machine.ts";
import { createMachine } from "../src/core/machine.ts";
import { type AtelierCommand, type AtelierDuty, type AtelierState, STAGE } from "../src/core/types.ts";
import { MEMBERS, outcomeOf, type TestLattice } from "./lattice.ts";

const QUORUM: Quorum = { members: MEMBERS, faults: 0, quorum: 2 };
/** How far beyond the log's own slot a command may reach (committee/state.ts). */
const WINDOW_AHEAD = 8n;
/** Reasons that leave a trace although the command is refused. */
const WITH_EVIDENCE = new Set(["PROPOSAL_CONFLICT"]);

export class MachineDriver {
  readonly lattice: TestLattice;
  readonly machine: ReturnType<typeof createMachine>;
  readonly outcomes = new Map<bigint, Outcome>();
  nowMs: number;
  #states: AtelierState[];
  readonly #observed = new Map<string, Outcome>();
  readonly #facts = new Map<string, { by: Map<number, Uint8Array>; agreed: boolean }>();
  #position = 0n;

  constructor(lattice: TestLattice) {
    this.lattice = lattice;
    this.machine = createMachine(lattice.config);
    this.#states = [this.machine.genesis(), this.machine.genesis()];
    this.nowMs = lattice.config.genesisMs;
  }

  get state(): AtelierState {
    const [state] = this.#states;
    assert.ok(state !== undefined);
    return state;
  }

  /** Sets the clock to this long before the start of `slot`. */
  at(slot: bigint, beforeMs: number): void {
    this.nowMs = slotStartMs(this.lattice.config, slot) - beforeMs;
  }

  #context(decisions: Decision[]): Context {
    const { genesisMs, slotMs } = this.lattice.config;
    const now = BigInt(Math.max(0, Math.floor((this.nowMs - genesisMs) / slotMs)));
    const decided = (slot: bigint) => this.outcomes.has(slot) || decisions.some((each) => each.slot === slot);
    const open = (slot: bigint) => slot >= 1n && slot <= now + WINDOW_AHEAD && !decided(slot);
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

  #event(event: MachineEvent<AtelierCommand>): Refusal | undefined {
    this.#position += 1n;
    const results = this.#states.map((state, index) => {
      const before = toHex(encode(this.machine.state, state));
      const decisions: Decision[] = [];
      const refusal = this.machine.apply(state, event, this.#context(decisions));
      const bytes = encode(this.machine.state, state);
      if (refusal !== undefined) {
        assert.deepEqual(decisions, [], "a refusal decides nothing");
        if (!WITH_EVIDENCE.has(refusal.reason)) assert.equal(toHex(bytes), before, "a refusal changes nothing");
      }
      this.#states[index] = decode(this.machine.state, bytes);
      return { refusal, decisions, bytes };
    });
    const [first] = results;
    assert.ok(first !== undefined);
    for (const other of results) assert.deepEqual(other, first, "replicas differ");
    for (const { slot, stage, kind, commitment, bodyHash } of first.decisions) {
      this.outcomes.set(slot, outcomeOf(this.lattice.config, "atelier", stage, slot, kind, commitment, bodyHash));
    }
    return first.refusal;
  }

  command(author: number, command: AtelierCommand): Refusal | undefined {
    return this.#event({ type: "command", author, command });
  }

  observe(organism: Organism, outcome: Outcome): Refusal | undefined {
    this.#observed.set(`${organism}/${outcome.stage}/${outcome.slot}`, outcome);
    return this.#event({ type: "observed", organism, outcome });
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
    this.outcomes.set(slot, outcomeOf(this.lattice.config, "atelier", STAGE, slot, "skipped"));
    this.#event({ type: "skipped", stage: STAGE, slot });
  }

  collapse(slot: bigint): void {
    for (const state of this.#states) this.machine.collapse(state, slot);
  }

  duties(self: number): readonly AtelierDuty[] {
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
