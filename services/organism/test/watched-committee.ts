/** Real members of one committee on a log whose broker lies, with direct calls between them; corrupt members are played by hand. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommitteeCommand } from "../src/committee/commands.ts";
import { ZERO_HASH } from "../src/committee/entry.ts";
import type { Outcome } from "../src/committee/outcome.ts";
import { slotStartMs } from "../src/identity/lattice-config.ts";
import type { Fields, Logger } from "../src/observe/logger.ts";
import { createNoMeters, type MeterRegistry } from "../src/observe/meters.ts";
import { ScriptedAuthor, type Tampering } from "../src/testing/committee-driver.ts";
import { DirectCalls } from "../src/testing/direct-calls.ts";
import { type Branch, HostileLog } from "../src/testing/hostile-log.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, startToyMember, type TestCommittee } from "./test-lattice.ts";

export type ToyMember = Awaited<ReturnType<typeof startToyMember>>;

/** One running process of a member, and what it said and counted. */
export interface Process {
  readonly index: number;
  readonly member: ToyMember;
  readonly meters: MeterRegistry;
  readonly lines: { readonly message: string; readonly fields: Fields }[];
  readonly proofs: Map<string, Uint8Array>;
  /** Why it had to stop: reason and detail. */
  readonly fatal: { readonly reason: string; readonly detail: string }[];
}

export class WatchedCommittee {
  readonly dealt: TestCommittee;
  readonly log = new HostileLog();
  readonly calls = new DirectCalls();
  readonly processes: Process[] = [];
  readonly directory: string;
  nowMs: number;

  private constructor(dealt: TestCommittee, directory: string) {
    this.dealt = dealt;
    this.directory = directory;
    this.nowMs = dealt.config.genesisMs;
  }

  static async deal(members: number, faults: "none" | "third"): Promise<WatchedCommittee> {
    const directory = await mkdtemp(join(tmpdir(), "lattice-watched-"));
    return new WatchedCommittee(dealCommittee(members, { slotMs: 100 }, faults), directory);
  }

  async end(): Promise<void> {
    await Promise.all(this.processes.map(({ member }) => member.stop(20)));
    await rm(this.directory, { recursive: true, force: true });
  }

  /** @param folder where its data lies; processes that share one share a disk */
  async start(index: number, folder = "disk"): Promise<Process> {
    const meters = createNoMeters();
    const lines: Process["lines"] = [];
    const proofs = new Map<string, Uint8Array>();
    const fatal: Process["fatal"] = [];
    const line = (message: string, fields: Fields = {}): void => {
      lines.push({ message, fields });
    };
    const logger: Logger = { debug: () => undefined, info: line, warn: line, error: line };
    const member = await startToyMember({
      committee: this.dealt,
      index,
      log: this.log.member(index),
      directory: join(this.directory, folder),
      clock: { nowMs: () => this.nowMs },
      journalIsOld: true,
      calls: this.calls,
      logger,
      meters,
      onProof: (hash, proof) => proofs.set(hash, proof),
      onFatal: (reason, detail) => {
        fatal.push({ reason, detail });
      },
    });
    const process = { index, member, meters, lines, proofs, fatal };
    this.processes.push(process);
    return process;
  }

  startAll(indexes: readonly number[]): Promise<Process[]> {
    return Promise.all(indexes.map((index) => this.start(index)));
  }

  /** As kill -9 does: nothing more is said or written. */
  async crash(process: Process): Promise<void> {
    this.processes.splice(this.processes.indexOf(process), 1);
    this.calls.gone(`relay-${process.index}`);
    await process.member.stop(0);
  }

  /** Time passes until `slot`; resolves to its certified outcome at this member. */
  async certified({ member }: Process, slot: bigint): Promise<Outcome> {
    this.nowMs = Math.max(this.nowMs, slotStartMs(this.dealt.config, slot));
    for await (const { outcome } of member.host.watch("accepted", slot, AbortSignal.timeout(PATIENCE_MS))) {
      if (outcome.slot === slot) return outcome;
    }
    throw new Error(`no certificate for slot ${slot}\n${this.#told()}`);
  }

  /** What each process said last. */
  #told(): string {
    const processes = this.processes.map(({ index, member, fatal, lines }) => {
      const said = lines.slice(-8).map(({ message, fields }) => [message, ...Object.values(fields)].join(" "));
      const ends = fatal.map(({ reason, detail }) => `${reason}: ${detail}`);
      return [`relay-${index}, position ${member.committee.position}`, ...ends, ...said].join("\n  ");
    });
    return processes.join("\n");
  }

  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!(await holds())) {
      if (performance.now() >= deadline) assert.fail(`it does not come: ${what}\n${this.#told()}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  corrupt(index: number): CorruptMember {
    return new CorruptMember(this, index);
  }
}

/** A corrupt member: has its keys, and says on any branch whatever it likes. */
export class CorruptMember {
  readonly index: number;
  readonly voice: ScriptedAuthor;
  readonly #committee: WatchedCommittee;
  /** Whose view of the log it signs over. */
  #seenBy: Process | undefined;

  constructor(committee: WatchedCommittee, index: number) {
    this.#committee = committee;
    this.index = index;
    const secrets = committee.dealt.secrets[index];
    assert.ok(secrets !== undefined);
    const view = () => {
      assert.ok(this.#seenBy !== undefined, "nobody's view of the log is known");
      return this.#seenBy.member.committee;
    };
    this.voice = new ScriptedAuthor(
      {
        get nowMs() {
          return committee.nowMs;
        },
        get committee() {
          return view();
        },
        apply: () => {
          throw new Error("entries are signed here and put into the log by hand");
        },
      },
      index,
      secrets,
    );
  }

  /** Signs over what `process` has applied. */
  sees(process: Process): this {
    this.#seenBy = process;
    return this;
  }

  /** Its Join, signed; its lanes start with it. */
  join(incarnation = 1n): Uint8Array {
    const { voice } = this;
    voice.incarnation = incarnation;
    voice.incarnationKey = voice.keyOf(incarnation);
    voice.lanes.ctl.sequence = 0n;
    voice.lanes.ctl.previous = ZERO_HASH;
    voice.lanes.bulk.sequence = 0n;
    voice.lanes.bulk.previous = ZERO_HASH;
    const key = voice.incarnationKey.publicKey;
    return voice.sign({ type: "join", incarnation, key }, "ctl", { signer: voice.memberKey });
  }

  sign(command: CommitteeCommand, tampering: Tampering = {}): Uint8Array {
    return this.voice.sign(command, "ctl", tampering);
  }

  put(raw: Uint8Array, branch: Branch = this.#committee.log.trunk): void {
    branch.add(raw);
  }
}
