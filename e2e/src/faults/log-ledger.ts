/**
 * Writers on a log of their own beside the lattice's, on the same broker: every command that was acknowledged to one of
 * them is written down, and at the end the log is read afresh, from each server, and held against what was written down.
 *
 * The writers are what members are: an appender that journals, numbers and chains its entries, and a committee that
 * applies what comes. Acknowledged means that the author's own committee has applied it.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { endOfSilence, LeaderProbe } from "@lattice/deploy/nats/leader-probe.ts";
import type { LogCredentials } from "@lattice/deploy/nats/nats-config.ts";
import { encode, struct, toHex, u64 } from "@lattice/organism/codec/codec.ts";
import { encodeCommand } from "@lattice/organism/committee/commands.ts";
import { Committee } from "@lattice/organism/committee/committee.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import type { Duty, Machine } from "@lattice/organism/machine.ts";
import { Appender } from "@lattice/organism/node/appender.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";

const COMMAND = struct({ writer: u64, number: u64 });
type Operation = { writer: bigint; number: bigint };

/** What a writer was told, and what stands in a log, as the checker sees them. */
export interface LedgerEntry {
  readonly writer: number;
  readonly number: bigint;
}

/**
 * Every acknowledged operation is in what was applied, once, and each writer's operations in the order it wrote them.
 * @returns one line per violation
 */
export function checkLedger(acknowledged: readonly LedgerEntry[], applied: readonly LedgerEntry[]): string[] {
  const problems: string[] = [];
  const seen = new Set<string>();
  const last = new Map<number, bigint>();
  for (const { writer, number } of applied) {
    const key = `${writer}/${number}`;
    if (seen.has(key)) problems.push(`operation ${key} was applied twice`);
    seen.add(key);
    const before = last.get(writer) ?? -1n;
    if (number <= before && !problems.includes(`operation ${key} was applied twice`))
      problems.push(`operation ${key} was applied after ${writer}/${before}`);
    if (number > before) last.set(writer, number);
  }
  for (const { writer, number } of acknowledged)
    if (!seen.has(`${writer}/${number}`))
      problems.push(`operation ${writer}/${number} was acknowledged and is not there`);
  return problems;
}

function machine(onOperation: (operation: LedgerEntry) => void): Machine<{ count: bigint }, Operation, Duty> {
  return {
    organism: "relay",
    stages: ["accepted"],
    upstream: [],
    state: struct({ count: u64 }),
    command: COMMAND,
    genesis: () => ({ count: 0n }),
    apply(state, event) {
      if (event.type !== "command") return undefined;
      state.count += 1n;
      onOperation({ writer: Number(event.command.writer), number: event.command.number });
      return undefined;
    },
    duties: () => [],
    skipAtMs: () => undefined,
    hasInput: () => false,
    forGuests: (state) => state,
    collapse: () => undefined,
  };
}

export interface LogLedgerOptions {
  readonly config: LatticeConfig;
  readonly credentials: readonly LogCredentials[];
  /** May ask about the stream. */
  readonly admin: LogCredentials;
  readonly servers: readonly string[];
  readonly directory: string;
  /** Pause between one writer's operations. */
  readonly everyMs: number;
  readonly onEvent?: (event: string) => void;
}

interface Writer {
  readonly log: JetStreamLog;
  readonly appender: Appender;
  readonly committee: Committee<{ count: bigint }, Operation, Duty>;
  readonly reading: Promise<void>;
  readonly journal: FileJournal;
}

export class LogLedger {
  readonly #options: LogLedgerOptions;
  readonly #roster: Roster;
  readonly #writers: Writer[] = [];
  readonly #stop = new AbortController();
  readonly acknowledged: LedgerEntry[] = [];
  /** When each acknowledgement came, elapsed ms. */
  readonly acknowledgedAtMs: number[] = [];
  /** What each writer's own committee applied, in order. */
  readonly applied: LedgerEntry[][] = [];
  refused = 0;
  /** What each writer consumed, and when, elapsed ms. */
  readonly #consumed: { readonly position: bigint; readonly atMs: number }[][] = [];
  #probe: LeaderProbe | undefined;
  #working: Promise<void>[] = [];
  #stopping = false;

  private constructor(options: LogLedgerOptions, roster: Roster) {
    this.#options = options;
    this.#roster = roster;
  }

  static async start(options: LogLedgerOptions): Promise<LogLedger> {
    const committee = committeeId(options.config, "relay");
    const seeds = options.credentials.map(() => new Uint8Array(randomBytes(32)));
    const roster: Roster = {
      version: 1,
      committee,
      epoch: 0n,
      activationSlot: 1n,
      members: seeds.map((seed, index) => ({
        index,
        memberKey: generateSigningKey(seed).publicKey,
        boxKey: new Uint8Array(32),
        certificateShare: new Uint8Array(48),
        secondShare: undefined,
        signer: undefined,
      })),
      sealingKey: undefined,
      sealingUntilSlot: 0n,
    };
    const ledger = new LogLedger(options, roster);
    ledger.#probe = await LeaderProbe.start(options.servers, options.admin);
    for (const [index, seed] of seeds.entries()) await ledger.#open(index, seed);
    ledger.#working = ledger.#writers.map((writer, index) => ledger.#write(writer, index));
    return ledger;
  }

  async #open(index: number, seed: Uint8Array): Promise<void> {
    const { credentials, servers, config, directory, onEvent } = this.#options;
    const own = credentials[index];
    if (own === undefined) throw new RangeError(`no writer ${index}`);
    const applied: LedgerEntry[] = [];
    this.applied.push(applied);
    const consumed: { readonly position: bigint; readonly atMs: number }[] = [];
    this.#consumed.push(consumed);
    const committee = new Committee({
      config,
      roster: this.#roster,
      machine: machine((each) => applied.push(each)),
    });
    const log = await JetStreamLog.open({
      servers,
      ...own,
      member: index,
      ...(onEvent === undefined ? {} : { onEvent: (event) => onEvent(`ledger ${index}: ${event}`) }),
    });
    const journal = await FileJournal.open(join(directory, `${index}`));
    const appender = new Appender({
      organism: "relay",
      committee: committee.id,
      generation: () => 0n,
      epoch: () => 0n,
      author: index,
      memberKey: seed,
      random: (count) => new Uint8Array(randomBytes(count)),
      log,
      journal,
      clock: { nowMs: () => Date.now() },
      view: () => ({ position: committee.position, head: committee.head }),
      joined: () => committee.author(index)?.incarnation ?? 0n,
    });
    const reading = log.consume(
      1n,
      ({ position, raw }) => {
        appender.consumed(committee.apply(position, raw));
        consumed.push({ position, atMs: performance.now() });
      },
      this.#stop.signal,
    );
    reading.catch((error: unknown) => onEvent?.(`ledger ${index} cannot read: ${String(error)}`));
    const refusal = await appender.join();
    if (refusal !== undefined) throw new Error(`ledger ${index}: ${refusal.detail}`);
    this.#writers.push({ log, appender, committee, reading, journal });
  }

  async #write({ appender }: Writer, index: number): Promise<void> {
    for (let number = 0n; !this.#stopping; number++) {
      const command = encode(COMMAND, { writer: BigInt(index), number });
      try {
        const refusal = await appender.append("ctl", encodeCommand({ type: "machine", command }));
        if (refusal === undefined) {
          this.acknowledged.push({ writer: index, number });
          this.acknowledgedAtMs.push(performance.now());
        } else this.refused += 1;
      } catch {
        // Not acknowledged: it may be there or not.
        this.refused += 1;
      }
      await new Promise((resolve) => setTimeout(resolve, this.#options.everyMs));
    }
  }

  /** The longest time without any acknowledgement since `fromMs` (elapsed), up to now. */
  longestSilenceMs(fromMs: number): number {
    const times = [fromMs, ...this.acknowledgedAtMs.filter((at) => at >= fromMs), performance.now()];
    return Math.max(...times.slice(1).map((at, index) => at - (times[index] ?? at)));
  }

  /**
   * From the stream and the cluster having leaders again, after an outage since `fromMs`, until the last writer had applied an entry that
   * was not there then. Undefined when there was no outage, or it is not over for somebody.
   */
  resumedAfterMs(fromMs: number): number | undefined {
    const back = endOfSilence(this.#probe?.signs ?? [], fromMs);
    if (back === undefined) return undefined;
    const firsts = this.#consumed.map((seen) => seen.find(({ position }) => position > back.lastPosition));
    if (firsts.includes(undefined)) return undefined;
    return Math.max(0, ...firsts.map((first) => (first?.atMs ?? back.atMs) - back.atMs));
  }

  /** Stops writing and holds the log, read afresh from each server, against the ledger. @returns violations */
  async finish(servers: readonly string[]): Promise<string[]> {
    this.#stopping = true;
    const patience = new Promise<"late">((resolve) => setTimeout(() => resolve("late"), 30_000));
    const ended = await Promise.race([Promise.all(this.#working), patience]);
    const problems = ended === "late" ? ["a writer's last operation did not come back within 30 s"] : [];
    const fresh: { readonly name: string; readonly applied: LedgerEntry[]; readonly head: string }[] = [];
    for (const server of servers) {
      const applied: LedgerEntry[] = [];
      const head = await this.#replay(server, (each) => applied.push(each));
      fresh.push({ name: server, applied, head });
    }
    for (const { name, applied } of fresh)
      problems.push(...checkLedger(this.acknowledged, applied).map((problem) => `read from ${name}: ${problem}`));
    if (new Set(fresh.map(({ head }) => head)).size > 1) problems.push("the servers hold different logs");
    for (const [index, applied] of this.applied.entries()) {
      const whole = fresh[0]?.applied ?? [];
      const prefix = applied.every((each, at) => {
        const other = whole[at];
        return other?.writer === each.writer && other.number === each.number;
      });
      if (!prefix) problems.push(`writer ${index} applied another order than the log has`);
    }
    await this.close();
    return problems;
  }

  /** Reads the whole log through one server. @returns the chain head at its end */
  async #replay(server: string, onOperation: (operation: LedgerEntry) => void): Promise<string> {
    const own = this.#options.credentials[0];
    if (own === undefined) throw new RangeError("no writers");
    const log = await JetStreamLog.open({ servers: [server], ...own, member: 0 });
    try {
      const last = await log.lastPosition(this.#writers[0]?.committee.position ?? 0n);
      const committee = new Committee({
        config: this.#options.config,
        roster: this.#roster,
        machine: machine(onOperation),
      });
      const done = new AbortController();
      if (last > 0n)
        await log.consume(
          1n,
          ({ position, raw }) => {
            if (position <= last) committee.apply(position, raw);
            if (position >= last) done.abort();
          },
          AbortSignal.any([done.signal, AbortSignal.timeout(60_000)]),
        );
      return toHex(committee.head);
    } finally {
      await log.close();
    }
  }

  async close(): Promise<void> {
    this.#stopping = true;
    for (const { appender } of this.#writers) appender.close();
    this.#stop.abort();
    await this.#probe?.close();
    for (const { log, journal } of this.#writers) {
      await log.close();
      await journal.close();
    }
  }
}
