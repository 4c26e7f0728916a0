/** Feeds a machine events as the committee layer would, with a context that a test can read and set. */
import { decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { type Roster, rosterQuorum } from "@lattice/organism/committee/roster.ts";
import { hashBytes } from "@lattice/organism/crypto/hash.ts";
import { committeeId, type LatticeConfig, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Context, MachineEvent, Refusal, View } from "@lattice/organism/machine.ts";
import { createMachine, type OfferMachine } from "../src/core/machine.ts";
import type { Command, OfferDuty, State } from "../src/core/types.ts";

const WINDOW_AHEAD = 8n;

export class MachineDriver {
  readonly config: LatticeConfig;
  readonly machine: OfferMachine;
  readonly roster: Roster;
  nowMs: number;
  state: State;
  readonly outcomes = new Map<string, Outcome>();
  readonly upstream = new Map<string, Outcome>();
  readonly #committee: Uint8Array;
  #position = 0n;

  constructor(config: LatticeConfig, roster: Roster) {
    this.config = config;
    this.roster = roster;
    this.machine = createMachine(config);
    this.state = this.machine.genesis();
    this.nowMs = config.genesisMs;
    this.#committee = committeeId(config, "offer");
  }

  apply(event: MachineEvent<Command>): Refusal | undefined {
    const before = this.hash();
    const decided = this.outcomes.size;
    const refusal = this.machine.apply(this.state, event, this.#context());
    if (refusal !== undefined && (this.hash() !== before || this.outcomes.size !== decided)) {
      throw new Error(`${refusal.reason} changed the state`);
    }
    // What a snapshot holds is everything there is.
    this.state = decode(this.machine.state, encode(this.machine.state, this.state));
    return refusal;
  }

  command(command: Command, author = 0): Refusal | undefined {
    return this.apply({ type: "command", author, command });
  }
  close(stage: "blind" | "seen", slot: bigint): Refusal | undefined {
    return this.apply({ type: "closed", stage, slot });
  }
  agree(topic: string, slot: bigint, fact: Uint8Array): Refusal | undefined {
    return this.apply({ type: "agreed", topic, slot, fact });
  }
  skip(stage: string, slot: bigint): Refusal | undefined {
    this.#decide({ stage, slot, kind: "skipped", commitment: new Uint8Array() });
    return this.apply({ type: "skipped", stage, slot });
  }
  observe(organism: Organism, outcome: Outcome): Refusal | undefined {
    this.upstream.set(`${organism}/${outcome.stage}/${outcome.slot}`, outcome);
    return this.apply({ type: "observed", organism, outcome });
  }

  outcome(stage: string, slot: bigint): Outcome | undefined {
    return this.outcomes.get(`${stage}/${slot}`);
  }

  /** An outcome of another committee, as it would be observed. */
  foreign(organism: Organism, stage: string, slot: bigint, kind: Outcome["kind"], commitment: Uint8Array): Outcome {
    const committee = committeeId(this.config, organism);
    return { version: 1, committee, generation: 0n, epoch: 0n, slot, stage, kind, commitment, bodyHash: undefined };
  }

  duties(self: number, nowMs: number, view: Partial<View> = {}): readonly OfferDuty[] {
    return this.machine.duties(this.state, {
      self,
      rules: 1,
      nowMs,
      quorum: rosterQuorum(this.config, "offer", this.roster),
      quorumAt: () => rosterQuorum(this.config, "offer", this.roster),
      roster: this.roster,
      rosterAt: () => this.roster,
      floor: (stage) => this.#floor(stage),
      outcome: (stage, slot) => this.outcome(stage, slot),
      observed: (organism, stage, slot) => this.upstream.get(`${organism}/${stage}/${slot}`),
      said: () => undefined,
      hasClosed: () => false,
      promised: () => false,
      ...view,
    });
  }

  hash(): string {
    return toHex(hashBytes("test/state", encode(this.machine.state, this.state)));
  }

  #floor(stage: string): bigint {
    let slot = 1n;
    while (this.outcomes.has(`${stage}/${slot}`)) slot += 1n;
    return slot;
  }

  #decide(decision: Parameters<Context["decide"]>[0]): boolean {
    const { stage, slot, kind, commitment, bodyHash } = decision;
    if (this.outcomes.has(`${stage}/${slot}`)) return false;
    const committee = this.#committee;
    const epoch = this.roster.epoch;
    this.outcomes.set(`${stage}/${slot}`, {
      version: 1,
      committee,
      generation: 0n,
      epoch,
      slot,
      stage,
      kind,
      commitment,
      bodyHash,
    });
    return true;
  }

  #context(): Context {
    this.#position += 1n;
    return {
      position: this.#position,
      rules: 1,
      nowMs: this.nowMs,
      quorum: rosterQuorum(this.config, "offer", this.roster),
      quorumAt: () => rosterQuorum(this.config, "offer", this.roster),
      roster: this.roster,
      rosterAt: () => this.roster,
      outcome: (stage, slot) => this.outcome(stage, slot),
      observed: (organism, stage, slot) => this.upstream.get(`${organism}/${stage}/${slot}`),
      open: (stage, slot) =>
        slot >= 1n && slot <= slotAt(this.config, this.nowMs) + WINDOW_AHEAD && this.outcome(stage, slot) === undefined,
      decide: (decision) => this.#decide(decision),
    };
  }
}
