/** Feeds tally's machine events as the committee layer would, with a context that a test can read and set. */
import { decode, encode, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { rosterQuorum } from "@lattice/organism/committee/roster.ts";
import { signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import { slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Context, MachineEvent, Refusal } from "@lattice/organism/machine.ts";
import { ATTRIBUTION, type AttributionCommitment } from "@lattice/organism/outcomes/tally.ts";
import { batchDigest, openBatch } from "../src/core/batch.ts";
import { rangeToScan } from "../src/core/chain-fact.ts";
import { CHAIN_FACT } from "../src/core/codec.ts";
import { createMachine, type TallyMachine } from "../src/core/machine.ts";
import type { ChainFact, TallyCommand, TallyDuty, TallyState } from "../src/core/types.ts";
import { type TestLattice, word } from "./lattice.ts";

const WINDOW_AHEAD = 8n;

export class MachineDriver {
  readonly lattice: TestLattice;
  readonly machine: TallyMachine;
  nowMs: number;
  state: TallyState;
  readonly decided = new Map<bigint, Outcome>();
  readonly #upstream = new Map<string, Outcome>();
  readonly #saws = new Map<string, Map<number, Uint8Array>>();
  readonly #agreed = new Set<string>();
  #position = 0n;

  constructor(lattice: TestLattice) {
    this.lattice = lattice;
    this.machine = createMachine(lattice.config, lattice.roster);
    this.state = this.machine.genesis();
    this.nowMs = slotStartMs(lattice.config, 100n);
  }

  apply(event: MachineEvent<TallyCommand>): Refusal | undefined {
    const before = this.snapshot();
    const decided = this.decided.size;
    const refusal = this.machine.apply(this.state, event, this.#context());
    if (refusal !== undefined && (this.snapshot() !== before || this.decided.size !== decided)) {
      throw new Error(`${refusal.reason} changed the state`);
    }
    // What a snapshot holds is everything there is.
    this.state = decode(this.machine.state, encode(this.machine.state, this.state));
    return refusal;
  }

  snapshot(): string {
    return Buffer.from(encode(this.machine.state, this.state)).toString("hex");
  }

  observe(outcome: Outcome): Refusal | undefined {
    const organism = { candidate: "atelier", auction: "offer", accepted: "relay" }[outcome.stage];
    this.#upstream.set(`${organism}/${outcome.stage}/${outcome.slot}`, outcome);
    return this.apply({ type: "observed", organism: organism as "atelier", outcome });
  }

  /** One member's word; agreement is the committee layer's: q alike under one topic, once. */
  saw(author: number, topic: string, slot: bigint, fact: Uint8Array): Refusal | undefined {
    const key = `${topic}/${slot}`;
    const said = this.#saws.get(key) ?? new Map<number, Uint8Array>();
    if (said.has(author)) throw new Error(`member ${author} has spoken of ${key}`);
    said.set(author, fact);
    this.#saws.set(key, said);
    const alike = [...said.values()].filter((each) => Buffer.from(each).equals(fact)).length;
    if (this.#agreed.has(key) || alike < this.quorum.quorum) return undefined;
    this.#agreed.add(key);
    return this.apply({ type: "agreed", topic, slot, fact });
  }

  /** q members saw it. */
  agree(topic: string, slot: bigint, fact: Uint8Array): Refusal | undefined {
    return this.apply({ type: "agreed", topic, slot, fact });
  }

  /** What an honest member says of the chain at `height`. */
  chainFact(height: bigint, hash: Uint8Array, over: Partial<ChainFact> = {}): Uint8Array {
    const { first, last } = rangeToScan(this.state, height);
    const scanned = last < first ? this.state.scanned : { number: last, hash: last === height ? hash : word(0xee) };
    if (scanned === undefined) throw new Error("nothing scanned");
    return encode(CHAIN_FACT, {
      version: 1,
      standing: { number: height, hash, parentHash: word(Number(height - 1n)) },
      fromBlock: first,
      scanned,
      collected: [],
      posted: [],
      ...over,
    });
  }

  attribution(slot: bigint): AttributionCommitment {
    const outcome = this.decided.get(slot);
    const attribution = outcome === undefined ? undefined : tryDecode(ATTRIBUTION, outcome.commitment);
    if (attribution === undefined) throw new Error(`slot ${slot} has no attribution`);
    return attribution;
  }

  /** A member's signature over the open batch. */
  share(author: number, signer = author): TallyCommand {
    const open = openBatch(this.state);
    const secret = this.lattice.secrets[signer]?.signerKey;
    if (open === undefined || secret === undefined) throw new Error("nothing to sign");
    const signature = signDigest(secret, batchDigest(this.lattice.config, open.attestation));
    return { type: "attestationShare", batch: open.attestation.batch, signature };
  }
  command(author: number, command: TallyCommand): Refusal | undefined {
    return this.apply({ type: "command", author, command });
  }

  duties(self: number, nowMs = this.nowMs): readonly TallyDuty[] {
    return this.machine.duties(this.state, {
      self,
      rules: 1,
      nowMs,
      quorum: this.quorum,
      quorumAt: () => this.quorum,
      roster: this.lattice.roster,
      rosterAt: () => this.lattice.roster,
      floor: () => this.state.next,
      outcome: (_stage, slot) => this.decided.get(slot),
      observed: (organism, stage, slot) => this.#upstream.get(`${organism}/${stage}/${slot}`),
      said: (topic, slot) => this.#saws.get(`${topic}/${slot}`)?.get(self),
      hasClosed: () => false,
      promised: () => false,
    });
  }
  /** Types of this member's duties, besides keeping bodies. */
  dutyTypes(self: number, nowMs = this.nowMs): string[] {
    return this.duties(self, nowMs)
      .map(({ type }) => type)
      .filter((type) => type !== "keep-body");
  }

  get quorum() {
    return rosterQuorum(this.lattice.config, "tally", this.lattice.roster);
  }

  #context(): Context {
    this.#position += 1n;
    const { config, roster } = this.lattice;
    return {
      position: this.#position,
      rules: 1,
      nowMs: this.nowMs,
      quorum: this.quorum,
      quorumAt: () => this.quorum,
      roster,
      rosterAt: () => roster,
      outcome: (_stage, slot) => this.decided.get(slot),
      observed: (organism, stage, slot) => this.#upstream.get(`${organism}/${stage}/${slot}`),
      open: (_stage, slot) => !this.decided.has(slot) && slot <= slotAt(config, this.nowMs) + WINDOW_AHEAD,
      decide: ({ stage, slot, kind, commitment }) => {
        if (this.decided.has(slot)) return false;
        if (slot !== BigInt(this.decided.size) + 1n) throw new Error(`slot ${slot} decided out of order`);
        this.decided.set(slot, {
          version: 1,
          committee: roster.committee,
          generation: 0n,
          epoch: 0n,
          slot,
          stage,
          kind,
          commitment,
          bodyHash: undefined,
        });
        return true;
      },
    };
  }
}
