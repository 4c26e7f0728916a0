/**
 * A zipnet committee without sockets, disks or clocks: two replicas of the machine fed the same events, real servers'
 * contributors with journals in memory, real clients, and a certificate key held by the test.
 */
import assert from "node:assert/strict";
import { decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { blsPublicKey, blsSign } from "@lattice/organism/crypto/bls.ts";
import { generateSigningKey, type SigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { committeeId, type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Context, MachineEvent, Refusal, View } from "@lattice/organism/machine.ts";
import type { Journal } from "@lattice/organism/ports.ts";
import { testConfig } from "../../organism/test/test-lattice.ts";
import { type OutgoingMessage, ZipnetClient } from "../src/client/zipnet-client.ts";
import { type Aggregate, aggregateDigest, signAggregate } from "../src/core/aggregate.ts";
import { Fold } from "../src/core/fold.ts";
import { createMachine } from "../src/core/machine.ts";
import { NO_END_SLOT, signServerKey } from "../src/core/server-key.ts";
import { type Command, FOLD, type State } from "../src/core/types.ts";
import { Contributor } from "../src/node/contributor.ts";
import { RatchetStore } from "../src/node/ratchet-store.ts";

const SECRET = new Uint8Array(32).fill(7);
export const SILENT = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** Deterministic bytes: the same test runs the same way each time. */
export function seeded(seed: string): (count: number) => Uint8Array {
  let turn = 0;
  return (count) => {
    const parts: Uint8Array[] = [];
    for (let size = 0; size < count; size += 32) parts.push(blake3(Buffer.from(`${seed}/${turn++}`)));
    return new Uint8Array(Buffer.concat(parts).subarray(0, count));
  };
}

export class MemoryJournal implements Journal {
  readonly values = new Map<string, Uint8Array>();
  puts = 0;
  async nextIncarnation(atLeast: bigint): Promise<bigint> {
    return atLeast;
  }
  async promise(): Promise<void> {}
  promised(): Uint8Array | undefined {
    return undefined;
  }
  async entry(): Promise<void> {}
  async put(name: string, bytes: Uint8Array): Promise<void> {
    this.puts++;
    this.values.set(name, bytes.slice());
  }
  get(name: string): Uint8Array | undefined {
    return this.values.get(name);
  }
  async trim(): Promise<void> {}
  async close(): Promise<void> {}
}

type ZipnetContent = LatticeConfig["zipnet"]["content"];

export interface WorldOptions {
  readonly servers?: number;
  readonly content?: Partial<ZipnetContent>;
  readonly config?: Partial<LatticeConfig>;
  readonly acl?: LatticeConfig["zipnet"]["acl"];
}

export interface Participant {
  readonly client: ZipnetClient;
  /** What its store was last given. */
  saved: Uint8Array;
}

export class World {
  readonly config: LatticeConfig;
  readonly committee: Uint8Array;
  readonly operators: readonly SigningKey[];
  readonly serverSecrets: readonly Uint8Array[];
  readonly machine: ReturnType<typeof createMachine>;
  readonly replicas: State[];
  readonly journals: MemoryJournal[] = [];
  readonly outcomes = new Map<string, Outcome>();
  readonly aggregatorKey = generateSigningKey(new Uint8Array(32).fill(5));
  readonly contributors: Contributor[] = [];
  #position = 0n;
  nowMs: number;

  constructor(options: WorldOptions = {}) {
    const servers = options.servers ?? 3;
    const certificate = blsPublicKey(SECRET);
    const base = testConfig(
      {
        zipnet: certificate,
        unseal: certificate,
        offer: certificate,
        atelier: certificate,
        relay: certificate,
        tally: certificate,
      },
      options.config,
    );
    const random = seeded("world");
    this.operators = Array.from({ length: servers }, () => generateSigningKey(random(32)));
    this.serverSecrets = this.operators.map(() => random(32));
    this.config = {
      ...base,
      zipnet: {
        ...base.zipnet,
        acl: options.acl ?? [],
        content: {
          ...base.zipnet.content,
          participantsMin: 2,
          ...options.content,
          operators: this.operators.map(({ publicKey }) => publicKey),
        },
      },
    };
    this.committee = committeeId(this.config, "zipnet");
    this.machine = createMachine(this.config, this.roster);
    this.replicas = [this.machine.genesis(), this.machine.genesis()];
    this.nowMs = this.config.genesisMs;
    for (let member = 0; member < servers; member++) {
      this.journals.push(new MemoryJournal());
      this.contributors.push(this.makeContributor(member));
    }
  }

  get roster(): Roster {
    const member = (index: number) => ({
      index,
      memberKey: new Uint8Array(32),
      boxKey: new Uint8Array(32),
      certificateShare: new Uint8Array(48),
      secondShare: undefined,
      signer: undefined,
    });
    return {
      version: 1,
      committee: committeeId(this.config, "zipnet"),
      epoch: 0n,
      activationSlot: 1n,
      members: this.operators.map((_, index) => member(index)),
      sealingKey: undefined,
      sealingUntilSlot: 0n,
    };
  }

  get state(): State {
    const [first] = this.replicas;
    assert.ok(first !== undefined);
    return first;
  }

  makeContributor(member: number, journal: Journal | undefined = this.journals[member]): Contributor {
    const operator = this.operators[member]?.publicKey;
    const secret = this.serverSecrets[member];
    assert.ok(operator !== undefined && secret !== undefined && journal !== undefined);
    const server = { committee: this.committee, member, operator, serial: 1n, key: agreementKey(secret) };
    const store = new RatchetStore(server, journal);
    return new Contributor({ config: this.config, server, store, state: () => this.state, log: SILENT });
  }

  #context(): Context {
    const servers = this.operators.length;
    return {
      position: this.#position,
      rules: 1,
      nowMs: this.nowMs,
      quorum: { members: servers, faults: 0, quorum: Math.floor(servers / 2) + 1 },
      quorumAt: () => ({ members: servers, faults: 0, quorum: Math.floor(servers / 2) + 1 }),
      roster: this.roster,
      rosterAt: () => this.roster,
      outcome: (stage, slot) => this.outcomes.get(`${stage}/${slot}`),
      observed: () => undefined,
      open: (stage, slot) => slot >= 1n && !this.outcomes.has(`${stage}/${slot}`),
      decide: ({ stage, slot, kind, commitment, bodyHash }) => {
        const key = `${stage}/${slot}`;
        if (this.outcomes.has(key)) return false;
        this.outcomes.set(key, {
          version: 1,
          committee: this.committee,
          generation: 0n,
          epoch: 0n,
          slot,
          stage,
          kind,
          commitment,
          bodyHash,
        });
        return true;
      },
    };
  }

  /** Applies an event on both replicas, the second from decoded bytes, and checks that they agree. */
  apply(event: MachineEvent<Command>): Refusal | undefined {
    this.#position++;
    const before = new Map(this.outcomes);
    const bytesBefore = encode(this.machine.state, this.state);
    const refusal = this.machine.apply(this.state, event, this.#context());
    const after = new Map(this.outcomes);
    if (refusal !== undefined) {
      assert.deepEqual(encode(this.machine.state, this.state), bytesBefore, `${refusal.reason} changed the state`);
    }
    this.outcomes.clear();
    for (const [key, outcome] of before) this.outcomes.set(key, outcome);
    const [, second] = this.replicas;
    assert.ok(second !== undefined);
    const restored = decode(this.machine.state, encode(this.machine.state, second));
    const again =
      event.type === "command"
        ? { ...event, command: decode(this.machine.command, encode(this.machine.command, event.command)) }
        : event;
    assert.deepEqual(this.machine.apply(restored, again, this.#context()), refusal);
    this.replicas[1] = restored;
    assert.deepEqual(this.outcomes, after);
    assert.deepEqual(encode(this.machine.state, restored), encode(this.machine.state, this.state));
    return refusal;
  }

  command(author: number, command: Command): Refusal | undefined {
    return this.apply({ type: "command", author, command });
  }

  /** Every server publishes its key. */
  publishServerKeys(serial = 1n): void {
    for (const [member, operator] of this.operators.entries()) {
      const key = agreementKey(this.serverSecrets[member] ?? new Uint8Array()).publicKey;
      const signed = signServerKey(operator, this.committee, {
        member,
        key,
        serial,
        fromSlot: 0n,
        toSlot: NO_END_SLOT,
      });
      assert.equal(this.command(member, { type: "serverKey", key: signed }), undefined);
    }
  }

  async join(
    name: string,
    tickets: (envelopeKey: Uint8Array) => readonly Uint8Array[] = () => [],
  ): Promise<Participant> {
    const holder: { saved: Uint8Array } = { saved: new Uint8Array() };
    const client = ZipnetClient.create(this.clientOptions(name, holder), this.serverKeys());
    const registration = client.registration(tickets(client.envelopeKey));
    assert.equal(this.command(0, { type: "register", registration }), undefined);
    const entry = this.state.clients.get(toHex(client.envelopeKey));
    assert.ok(entry !== undefined);
    await client.registered({ fromRho: entry.fromRho, afterSlot: entry.afterSlot, expiresSlot: entry.expSlot });
    return Object.assign(holder, { client });
  }

  clientOptions(name: string, holder: { saved: Uint8Array }) {
    return {
      config: this.config,
      random: seeded(name),
      store: async (state: Uint8Array) => {
        holder.saved = state.slice();
      },
    };
  }

  serverKeys() {
    return [...this.state.servers.values()].sort((a, b) => a.member - b.member);
  }

  certify(stage: string, slot: bigint): CertifiedOutcome {
    const outcome = this.outcomes.get(`${stage}/${slot}`);
    assert.ok(outcome !== undefined, `${stage} of slot ${slot} is not decided`);
    return { outcome, signature: blsSign(SECRET, outcomeDigest(outcome)), signers: [0, 1] };
  }

  /** Moves the clock into the round of `slot` and opens it. */
  open(slot: bigint): CertifiedOutcome {
    this.nowMs = slotStartMs(this.config, slot) - this.config.zipnet.content.roundOpenMs;
    assert.equal(this.command(Number(slot % 3n), { type: "openRound", slot }), undefined);
    return this.certify("header", slot);
  }

  fold(slot: bigint): Fold {
    const round = this.state.rounds.get(slot);
    assert.ok(round !== undefined);
    const clients = [...this.state.clients.values()];
    const roster = round.roster.map((id) => clients.find((client) => toHex(client.id) === toHex(id)));
    return new Fold({
      committee: this.committee,
      header: round.header,
      headerDigest: round.headerDigest,
      roster: roster.flatMap((client) => client ?? []),
    });
  }

  /** Signs a sum, puts it into the log and closes the fold. */
  close(slot: bigint, fold: Fold): Aggregate {
    const aggregate = signAggregate(this.aggregatorKey, this.committee, fold.aggregate(this.aggregatorKey.publicKey));
    assert.equal(this.command(0, { type: "aggregate", aggregate }), undefined);
    assert.ok(this.machine.hasInput(this.state, FOLD, slot, aggregateDigest(aggregate)));
    this.nowMs = slotStartMs(this.config, slot) - this.config.zipnet.content.roundCloseMs;
    assert.equal(this.apply({ type: "closed", stage: FOLD, slot }), undefined);
    return aggregate;
  }

  /** Every server says its word; returns what each said. */
  async contribute(slot: bigint): Promise<string[]> {
    const rho = this.state.rounds.get(slot)?.rho ?? 0n;
    const words: string[] = [];
    for (const [member, contributor] of this.contributors.entries()) {
      const word = await contributor.contribute(slot, rho);
      if (word === undefined) {
        words.push("nothing");
        continue;
      }
      const refusal = this.command(member, word);
      words.push(refusal?.reason ?? word.type);
    }
    return words;
  }

  /** A whole round: each participant answers, with its message if it has one. */
  async round(
    slot: bigint,
    talking: readonly { readonly participant: Participant; readonly message?: OutgoingMessage }[],
  ): Promise<readonly string[]> {
    const header = this.open(slot);
    const fold = this.fold(slot);
    for (const { participant, message } of talking) {
      const { envelope } = await participant.client.answer(header, message, this.nowMs);
      assert.equal(fold.accept(envelope), "folded");
    }
    this.close(slot, fold);
    return this.contribute(slot);
  }

  body(slot: bigint): Uint8Array | undefined {
    return this.machine.bodyOf?.(this.state, "broadcast", slot);
  }

  view(self: number, overrides: Partial<View> = {}): View {
    const servers = this.operators.length;
    return {
      self,
      rules: 1,
      nowMs: this.nowMs,
      quorum: { members: servers, faults: 0, quorum: Math.floor(servers / 2) + 1 },
      quorumAt: () => ({ members: servers, faults: 0, quorum: Math.floor(servers / 2) + 1 }),
      roster: this.roster,
      rosterAt: () => this.roster,
      floor: (stage) => {
        let slot = 1n;
        while (this.outcomes.has(`${stage}/${slot}`)) slot++;
        return slot;
      },
      outcome: (stage, slot) => this.outcomes.get(`${stage}/${slot}`),
      observed: () => undefined,
      said: () => undefined,
      hasClosed: () => false,
      promised: () => false,
      ...overrides,
    };
  }
}

export function message(text: string, random = seeded(text)): OutgoingMessage {
  return {
    sealed: new Uint8Array(Buffer.from(text)),
    messageId: random(16),
    receiptKey: random(32),
    token: new Uint8Array(),
  };
}
