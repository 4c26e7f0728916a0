/** A committee of real members over logs that a test loses, cuts, puts back and forks, one log for each generation. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decode, equalBytes } from "../src/codec/codec.ts";
import { outcomeDigest, verifyCertificate } from "../src/committee/outcome.ts";
import type { RuleRange } from "../src/committee/rules.ts";
import { generateSigningKey } from "../src/crypto/ed25519.ts";
import { slotAt, slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import type { Fields } from "../src/observe/logger.ts";
import { createNoMeters, type MeterRegistry } from "../src/observe/meters.ts";
import type { Log, LogMessage, MemberJournal } from "../src/ports.ts";
import { DirectCalls } from "../src/testing/direct-calls.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, random, startToyMember, type TestCommittee } from "./test-lattice.ts";
import { SUM } from "./toy-organism.ts";

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;
export interface Running {
  readonly index: number;
  readonly member: ToyMember;
  readonly meters: MeterRegistry;
  readonly fatal: string[];
  /** What it logged: message and fields. */
  readonly lines: string[];
}

export const CHECKPOINTS = { entries: 12n, slots: 100n };
/** Of tickets to guests. */
export const ISSUER = generateSigningKey(random(32));

export class GenerationsLattice {
  readonly dealt: TestCommittee;
  readonly calls = new DirectCalls();
  readonly running = new Map<number, Running>();
  readonly directory: string;
  readonly logs = new Map<bigint, Promise<EmbeddedLog>>();
  /** Every certificate that any member ever held, by slot. */
  readonly certificates = new Map<bigint, Uint8Array>();
  nowMs: number;

  private constructor(dealt: TestCommittee, directory: string) {
    this.dealt = dealt;
    this.directory = directory;
    this.nowMs = dealt.config.genesisMs;
  }

  /** A committee whose members keep everything in one folder, on a clock that the test sets. */
  static async deal(members: number, faults: "none" | "third" = "none"): Promise<GenerationsLattice> {
    const directory = await mkdtemp(join(tmpdir(), "lattice-generations-"));
    const acl = [{ kind: "jwt", parameters: ISSUER.publicKey }] as const;
    return new GenerationsLattice(dealCommittee(members, { slotMs: 100 }, faults, acl), directory);
  }

  path(generation: bigint): string {
    return join(this.directory, `log-${generation}`);
  }
  log(generation: bigint): Promise<EmbeddedLog> {
    const open = this.logs.get(generation) ?? EmbeddedLog.open(this.path(generation));
    this.logs.set(generation, open);
    return open;
  }

  async start(
    index: number,
    wrapJournal?: (journal: MemberJournal) => MemberJournal,
    view: (log: Log) => Log = (log) => log,
    rules?: RuleRange,
    viewOfFirst: (log: Log) => Log = (log) => log,
  ): Promise<Running> {
    const meters = createNoMeters();
    const fatal: string[] = [];
    const lines: string[] = [];
    const line = (message: string, fields: Fields = {}): void => {
      lines.push([message, ...Object.values(fields)].join(" "));
    };
    const member = await startToyMember({
      committee: this.dealt,
      index,
      log: view((await this.log(0n)).member(index)),
      nextLog: async (generation) => {
        const log = (await this.log(generation)).member(index);
        return generation === 1n ? viewOfFirst(log) : log;
      },
      endPatience: { roundMs: 1500, graceMs: 300 },
      directory: this.directory,
      clock: { nowMs: () => this.nowMs },
      journalIsOld: true,
      calls: this.calls,
      meters,
      logger: { debug: () => undefined, info: line, warn: line, error: line },
      checkpointEvery: CHECKPOINTS,
      onFatal: (reason, detail) => fatal.push(`${reason}: ${detail}`),
      ...(wrapJournal === undefined ? {} : { wrapJournal }),
      ...(rules === undefined ? {} : { rules, activationEntries: 24n }),
    });
    const running = { index, member, meters, fatal, lines };
    this.running.set(index, running);
    return running;
  }

  startAll(indexes: readonly number[] = this.dealt.secrets.map((_, index) => index)): Promise<Running[]> {
    return Promise.all(indexes.map((index) => this.start(index)));
  }

  at(index: number): Running {
    const found = this.running.get(index);
    assert.ok(found !== undefined, `member ${index} is not running`);
    return found;
  }

  /** As kill -9 does. */
  async crash(index: number): Promise<void> {
    const { member } = this.at(index);
    this.collect();
    this.running.delete(index);
    this.calls.gone(`relay-${index}`);
    await member.stop(0);
  }

  async crashAll(): Promise<void> {
    await Promise.all([...this.running.keys()].map((index) => this.crash(index)));
    for (const log of this.logs.values()) await (await log).close();
    this.logs.clear();
  }

  async end(): Promise<void> {
    await this.crashAll();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Never two certificates for one slot, whoever holds them and whenever it did. */
  collect(): void {
    const { certificateKey } = this.dealt.config.relay.policy;
    for (const { member } of this.running.values()) {
      for (let slot = 1n; slot < 40n; slot++) {
        const certified = member.host.certified("accepted", slot);
        if (certified === undefined) continue;
        assert.ok(verifyCertificate(certificateKey, certified.outcome, certified.signature));
        const digest = outcomeDigest(certified.outcome);
        const known = this.certificates.get(slot) ?? digest;
        assert.ok(equalBytes(known, digest), `two certificates for slot ${slot}`);
        this.certificates.set(slot, digest);
      }
    }
  }

  /** Time passes until `slot`; resolves to what was certified for it at this member. */
  async certified(slot: bigint, index = 0): Promise<number> {
    this.nowMs = Math.max(this.nowMs, slotStartMs(this.dealt.config, slot));
    const { member } = this.at(index);
    for await (const { outcome } of member.host.watch("accepted", slot, AbortSignal.timeout(PATIENCE_MS))) {
      if (outcome.slot !== slot) continue;
      return outcome.kind === "skipped" ? -1 : decode(SUM, outcome.commitment).sum;
    }
    assert.fail(`no certificate for slot ${slot}`);
  }

  /** What each member said last. */
  #told(): string {
    const members = [...this.running.values()].map(({ index, member, fatal, lines }) =>
      [`relay-${index}, generation ${member.committee.generation}`, ...fatal, ...lines.slice(-8)].join("\n  "),
    );
    return members.join("\n");
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!holds()) {
      if (performance.now() >= deadline) assert.fail(`it does not come: ${what}\n${this.#told()}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** As `until`, while slots go by. */
  passing(what: string, holds: () => boolean): Promise<void> {
    const { config } = this.dealt;
    const timer = setInterval(() => {
      this.nowMs = slotStartMs(config, slotAt(config, this.nowMs) + 1n);
    }, 2 * config.slotMs);
    return this.until(what, holds).finally(() => clearInterval(timer));
  }

  inGeneration(generation: bigint): Promise<void> {
    return this.until(`generation ${generation}`, () =>
      [...this.running.values()].every(
        ({ member, fatal }) => fatal.length === 0 && member.ready() && member.committee.generation === generation,
      ),
    );
  }

  /** An addition that its client was told is in. */
  async acknowledged(slot: bigint, amount: number, index = 0): Promise<void> {
    const command = { type: "add" as const, slot, amount, padding: new Uint8Array() };
    assert.equal(await this.at(index).member.host.submit({ type: "machine", command }), undefined);
  }

  assertAlike(): void {
    const [first, ...others] = [...this.running.values()].map(({ member }) => member.committee);
    assert.ok(first !== undefined);
    for (const each of others) {
      const common: bigint = each.position < first.position ? each.position : first.position;
      assert.deepEqual(each.headAt(common), first.headAt(common));
    }
    for (const { fatal } of this.running.values()) assert.deepEqual(fatal, []);
  }
}

/** A journal in which named values are put as `put` does. */
export function journalThat(
  put: (journal: MemberJournal, name: string, value: Uint8Array) => Promise<void>,
): (journal: MemberJournal) => MemberJournal {
  return (journal) => ({
    nextIncarnation: (atLeast) => journal.nextIncarnation(atLeast),
    promise: (key, slot, value) => journal.promise(key, slot, value),
    promised: (key) => journal.promised(key),
    isPromised: (key) => journal.isPromised(key),
    entry: (id, raw) => journal.entry(id, raw),
    put: (name, value) => put(journal, name, value),
    get: (name) => journal.get(name),
    trim: (slot) => journal.trim(slot),
    close: () => journal.close(),
    wrote: (id) => journal.wrote(id),
    newestEntry: () => journal.newestEntry(),
  });
}

/** A log that has nothing, and takes nothing. */
export function emptied(log: Log): Log {
  return {
    lastPosition: async () => 0n,
    firstPosition: async () => 1n,
    append: async () => "unknown",
    consume: (_from, _deliver, signal) => new Promise((resolve) => signal.addEventListener("abort", () => resolve())),
    close: () => log.close(),
  };
}

/** A log as one member is shown it: each message as `shown` has it, and nothing behind `end`. */
export function seenAs(log: Log, shown: (message: LogMessage) => LogMessage, end = (last: bigint) => last): Log {
  return {
    lastPosition: async (atLeast) => end(await log.lastPosition(atLeast)),
    firstPosition: () => log.firstPosition(),
    append: (lane, raw, id) => log.append(lane, raw, id),
    consume: (from, deliver, signal) =>
      log.consume(
        from,
        (message) => {
          if (message.position <= end(message.position)) deliver(shown(message));
        },
        signal,
      ),
    close: () => log.close(),
  };
}
