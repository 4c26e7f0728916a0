/**
 * A committee of its own beside the lattice's, on the same broker: three members as production runs them, with a keeper for
 * the streams of later generations, and a writer at each. Every operation that a member acknowledged is written down;
 * at the end it is held against the members' states and against the log, read afresh from each server.
 *
 * Acknowledged means what it means to a client of any organism: `submit` of the member resolved without a refusal.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { freePorts } from "@lattice/deploy/local/free-ports.ts";
import { endOfSilence, LeaderProbe } from "@lattice/deploy/nats/leader-probe.ts";
import type { LogCredentials } from "@lattice/deploy/nats/nats-config.ts";
import { asAdmin, type StreamQuotas } from "@lattice/deploy/nats/nats-process.ts";
import { keepStream } from "@lattice/deploy/nats/stream-keeper.ts";
import { encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { Committee } from "@lattice/organism/committee/committee.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { UnfitServer } from "@lattice/organism/log/fit-server.ts";
import { generationStream, JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import type { Duty } from "@lattice/organism/machine.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { EXIT, exitCodeOf } from "@lattice/organism/node/exit.ts";
import { Member } from "@lattice/organism/node/member.ts";
import { fileStorage, type MemberStorage } from "@lattice/organism/node/storage.ts";
import type { Fields, Logger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters, type Meters } from "@lattice/organism/observe/meters.ts";
import { type RunningServer, startServer } from "@lattice/organism/rpc/server.ts";
import { dealCommittee, type TestCommittee } from "@lattice/organism/testing/dealt-committee.ts";
import { memberOptions } from "@lattice/organism/testing/member-options.ts";
import {
  checkLedger,
  LEDGER_STATE,
  type LedgerState,
  ledgerDefinition,
  ledgerMachine,
  type NoSettings,
  type Operation,
} from "./ledger-machine.ts";

const MEMBERS = 3;
/** Rarely, so that voting on them costs nothing beside the members of the lattice. */
const SLOT_MS = 10_000;
/** Many small operations in one log, which nobody trims: the end wants to read it whole. */
const MESSAGES_PER_SUBJECT = 1_000_000;
const KEEPER_EVERY_MS = 500;
const LOOK_MS = 20;
const FINISH_MS = 30_000;
const READ_MS = 60_000;

export interface LogLedgerOptions {
  /** Of the log's members, three. */
  readonly credentials: readonly LogCredentials[];
  /** May ask about the streams, and make those of later generations. */
  readonly admin: LogCredentials;
  readonly servers: readonly string[];
  readonly directory: string;
  /** Pause between one writer's operations. */
  readonly everyMs: number;
  /** What members warn of, what the keeper makes. */
  readonly onEvent?: (event: string) => void;
}

type LedgerMember = Member<LedgerState, Operation, Duty, NoSettings>;

/** Where a member is in its log, and since when, elapsed ms. */
interface Consumed {
  readonly generation: bigint;
  readonly position: bigint;
  readonly atMs: number;
}

export class LogLedger {
  readonly #options: LogLedgerOptions;
  readonly #dealt: TestCommittee;
  readonly #addresses: readonly string[];
  readonly #quotas: StreamQuotas;
  readonly #replicas: number;
  readonly #members: LedgerMember[] = [];
  readonly #servers: RunningServer[] = [];
  /** How often each member had to load its state anew. */
  readonly restarts: number[] = Array.from({ length: MEMBERS }, () => 0);
  /** States that later generations began with, as members have kept them. */
  readonly #beginnings = new Map<bigint, Uint8Array>();
  readonly #consumed: Consumed[][] = [];
  /** Why a member had to stop for good. */
  readonly ended: string[] = [];
  readonly acknowledged: Operation[] = [];
  /** When each acknowledgement came, elapsed ms. */
  readonly #acknowledgedAtMs: number[] = [];
  refused = 0;
  #newest = 0n;
  #probe: LeaderProbe | undefined;
  #working: Promise<void>[] = [];
  #keeping: Promise<void> = Promise.resolve();
  readonly #restarting = new Set<Promise<void>>();
  #stopping = false;
  #closed = false;

  private constructor(
    options: LogLedgerOptions,
    parts: { addresses: readonly string[]; quotas: StreamQuotas; replicas: number },
  ) {
    this.#options = options;
    this.#addresses = parts.addresses;
    this.#quotas = parts.quotas;
    this.#replicas = parts.replicas;
    this.#dealt = dealCommittee(MEMBERS, { name: "ledger", genesisMs: Date.now(), slotMs: SLOT_MS });
  }

  static async start(options: LogLedgerOptions): Promise<LogLedger> {
    const { admin, servers } = options;
    await initCrypto();
    const { config } = await asAdmin(servers, admin, async (manager) => {
      const found = await manager.streams.info(admin.stream);
      return manager.streams.update(admin.stream, { ...found.config, max_msgs_per_subject: MESSAGES_PER_SUBJECT });
    });
    const ports = await freePorts(MEMBERS);
    const ledger = new LogLedger(options, {
      addresses: ports.map((port) => `127.0.0.1:${port}`),
      quotas: {
        messagesPerSubject: config.max_msgs_per_subject,
        bytes: config.max_bytes,
        messageBytes: config.max_msg_size,
      },
      replicas: config.num_replicas,
    });
    try {
      ledger.#probe = await LeaderProbe.start(servers, admin, () => ledger.#newest);
      await Promise.all(ports.map((_, index) => ledger.#open(index)));
    } catch (error) {
      await ledger.close();
      throw error;
    }
    ledger.#working = ledger.#members.map((_, index) => ledger.#write(index));
    ledger.#keeping = ledger.#keep();
    return ledger;
  }

  /** The newest generation that a member has gone on to. */
  get generation(): bigint {
    return this.#newest;
  }

  /** As they run. */
  get members(): readonly LedgerMember[] {
    return this.#members;
  }

  async #open(index: number): Promise<void> {
    const address = this.#addresses[index] ?? "";
    const logger = this.#logger(index);
    const filled = await memberOptions({
      committee: this.#dealt,
      index,
      log: await this.#log(this.#options.servers, index, 0n),
      nextLog: (generation) => this.#nextLog(index, generation),
      directory: this.#options.directory,
      storage: this.#storage(index),
      endpoints: this.#addresses,
      clock: { nowMs: () => Date.now() },
      journalIsOld: (this.restarts[index] ?? 0) > 0,
      logger,
      meters: this.#meters(index),
      onFatal: (reason, detail) => this.#fatal(index, reason, detail),
    });
    const member: LedgerMember = await Member.start({ definition: ledgerDefinition, settings: {}, ...filled });
    this.#members[index] = member;
    this.#servers[index] = await startServer({
      address,
      services: member.services,
      committee: member.committee.id,
      domain: "relay",
      log: logger,
      meters: createNoMeters(),
    });
  }

  /** Ended as a process would, and started again when its exit code asks for it. */
  #fatal(index: number, reason: string, detail: string): void {
    if (this.#closed) return;
    this.#options.onEvent?.(`member ${index} must stop: ${reason}: ${detail}`);
    if (exitCodeOf(reason) !== EXIT.again) {
      this.ended.push(`member ${index}: ${reason}: ${detail}`);
      return;
    }
    const restarting = this.#restart(index)
      .catch((error: unknown) => {
        this.ended.push(`member ${index}, started again: ${error instanceof Error ? error.message : String(error)}`);
      })
      .finally(() => this.#restarting.delete(restarting));
    this.#restarting.add(restarting);
  }

  async #restart(index: number): Promise<void> {
    await this.#servers[index]?.close();
    await this.#members[index]?.stop(0);
    if (this.#closed) return;
    this.restarts[index] = (this.restarts[index] ?? 0) + 1;
    await this.#open(index);
  }

  #log(servers: readonly string[], index: number, generation: bigint): Promise<JetStreamLog> {
    const own = this.#options.credentials[index];
    if (own === undefined) throw new RangeError(`no member ${index}`);
    const { onEvent } = this.#options;
    return JetStreamLog.open({
      servers,
      ...own,
      ...generationStream(own, generation),
      member: index,
      ...(onEvent === undefined ? {} : { onEvent: (event: string) => onEvent(`member ${index}: ${event}`) }),
    });
  }

  async #nextLog(index: number, generation: bigint): Promise<JetStreamLog> {
    if (generation > this.#newest) this.#newest = generation;
    for (;;) {
      try {
        return await this.#log(this.#options.servers, index, generation);
      } catch (error) {
        if (!(error instanceof UnfitServer) || error.reason !== "NATS_UNREACHABLE" || this.#closed) throw error;
      }
    }
  }

  /** Production's, and what generations begin with is remembered: snapshots on disk are replaced by newer ones. */
  #storage(index: number): MemberStorage {
    const files = fileStorage(join(this.#options.directory, `member-${index}`));
    return {
      ...files,
      snapshots: async (config, organism) => {
        const store = await files.snapshots(config, organism);
        return {
          held: () => store.held(),
          load: (key) => store.load(key),
          read: (key, offset, length) => store.read(key, offset, length),
          save: (certified, state) => {
            const { generation, position } = certified.checkpoint;
            if (position === 0n) this.#beginnings.set(generation, state.slice());
            return store.save(certified, state);
          },
        };
      },
    };
  }

  /** A member's own figures say what it has consumed. */
  #meters(index: number): Meters {
    const consumed: Consumed[] = [];
    this.#consumed[index] = consumed;
    let generation = 0n;
    return {
      count: () => undefined,
      record: () => undefined,
      gauge(name, value) {
        if (name === "lattice_generation") generation = BigInt(value);
        if (name !== "lattice_log_position") return;
        consumed.push({ generation, position: BigInt(value), atMs: performance.now() });
      },
    };
  }

  #logger(index: number): Logger {
    const { onEvent } = this.#options;
    const line = (message: string, fields: Fields = {}): void => {
      const said = Object.entries(fields).map(([key, value]) => ` ${key}=${value}`);
      onEvent?.(`member ${index}: ${message}${said.join("")}`);
    };
    return { debug: () => undefined, info: () => undefined, warn: line, error: line };
  }

  /** As the lattice's own keeper does; looks only while a member waits for what it makes. */
  async #keep(): Promise<void> {
    const { admin, servers, onEvent } = this.#options;
    while (!this.#stopping) {
      await new Promise((resolve) => setTimeout(resolve, KEEPER_EVERY_MS));
      if (this.#members.every((member) => member.committee.generation === 0n || member.ready())) continue;
      try {
        const made = await keepStream({
          config: this.#dealt.config,
          organism: "relay",
          eras: new EraWatch({ config: this.#dealt.config, addresses: () => this.#addresses }),
          addresses: this.#addresses,
          servers,
          admin,
          quotas: this.#quotas,
          replicas: this.#replicas,
        });
        if (made !== undefined) onEvent?.(`keeper: ${made} is made`);
      } catch (error) {
        onEvent?.(`keeper: not made, looked at again: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }

  async #write(index: number): Promise<void> {
    const writer = BigInt(index);
    for (let number = 0n; !this.#stopping; number++) {
      const command = { writer, number };
      try {
        const member = this.#members[index];
        if (member === undefined) throw new RangeError(`no member ${index}`);
        if ((await member.host.submit({ type: "machine", command })) === undefined) {
          this.acknowledged.push(command);
          this.#acknowledgedAtMs.push(performance.now());
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
    const times = [fromMs, ...this.#acknowledgedAtMs.filter((at) => at >= fromMs), performance.now()];
    return Math.max(...times.slice(1).map((at, index) => at - (times[index] ?? at)));
  }

  /**
   * From the stream and the cluster having leaders again, after an outage since `fromMs`, until the last member had applied an entry that
   * was not there then. Undefined when there was no outage, or it is not over for somebody.
   */
  resumedAfterMs(fromMs: number): number | undefined {
    const back = endOfSilence(this.#probe?.signs ?? [], fromMs);
    if (back === undefined) return undefined;
    const isNew = ({ generation, position }: Consumed): boolean =>
      generation > back.generation || (generation === back.generation && position > back.lastPosition);
    const firsts = this.#consumed.map((seen) => seen.find(isNew));
    if (firsts.includes(undefined)) return undefined;
    return Math.max(0, ...firsts.map((first) => (first?.atMs ?? back.atMs) - back.atMs));
  }

  /**
   * Stops writing and holds what was acknowledged against the members' states and against the newest generation's log, read
   * afresh from each server.
   * @returns violations
   */
  async finish(servers: readonly string[]): Promise<string[]> {
    this.#stopping = true;
    const problems = this.ended.map((why) => `a member had to stop: ${why}`);
    const written = Promise.all(this.#working).then(() => true);
    if (!(await Promise.race([written, later(FINISH_MS).then(() => false)])))
      problems.push(`a writer's last operation did not come back within ${FINISH_MS / 1000} s`);
    if (!(await this.#together())) problems.push("the members do not come to one position");
    const [first, ...others] = this.#members;
    if (first === undefined) return [...problems, "there are no members"];
    const state = encode(LEDGER_STATE, first.host.state());
    const { head, position, generation } = first.committee;
    for (const [index, { committee, host }] of others.entries()) {
      if (equalBytes(committee.head, head) && equalBytes(encode(LEDGER_STATE, host.state()), state)) continue;
      problems.push(`members 0 and ${index + 1} have different logs or states`);
    }
    problems.push(...checkLedger(this.acknowledged, first.host.state()));
    await this.close();
    const fresh = new Committee({
      config: this.#dealt.config,
      roster: this.#dealt.rosters.relay,
      machine: ledgerMachine(this.#dealt.config),
    });
    const beginning = this.#beginnings.get(generation);
    if (beginning !== undefined) fresh.restore(beginning);
    const digests = new Set<string>();
    for (const [turn, server] of servers.entries()) {
      const digest = createHash("sha256");
      const ended = await this.#read(server, generation, position, (at, raw) => {
        digest.update(raw);
        if (turn === 0) fresh.apply(at, raw);
      });
      if (ended !== undefined) problems.push(`${server}: ${ended}`);
      else digests.add(digest.digest("hex"));
    }
    if (digests.size > 1) problems.push("the servers hold different logs");
    if (servers.length > 0)
      problems.push(...compare(fresh, head, state).map((each) => `read from ${servers[0]}: ${each}`));
    return problems;
  }

  /** Waits until all members have read equally far. */
  async #together(): Promise<boolean> {
    const untilMs = performance.now() + FINISH_MS;
    for (;;) {
      const places = this.#members.map(({ committee }) => `${committee.generation}/${committee.position}`);
      if (this.#members.every((member) => member.ready()) && new Set(places).size === 1) return true;
      if (performance.now() > untilMs) return false;
      await later(LOOK_MS);
    }
  }

  /** Reads a generation's log through one server up to `last`. @returns what was in the way */
  async #read(
    server: string,
    generation: bigint,
    last: bigint,
    onEntry: (position: bigint, raw: Uint8Array) => void,
  ): Promise<string | undefined> {
    let read = 0n;
    try {
      const log = await this.#log([server], 0, generation);
      try {
        const done = new AbortController();
        const deliver = ({ position, raw }: { readonly position: bigint; readonly raw: Uint8Array }): void => {
          if (position > last) return;
          read = position;
          onEntry(position, raw);
          if (position === last) done.abort();
        };
        if (last > 0n) await log.consume(1n, deliver, AbortSignal.any([done.signal, AbortSignal.timeout(READ_MS)]));
      } finally {
        await log.close();
      }
    } catch (error) {
      return `its log cannot be read: ${error instanceof Error ? error.message : String(error)}`;
    }
    return read === last ? undefined : `its log was read up to ${read}, members have read ${last}`;
  }

  async close(): Promise<void> {
    this.#stopping = true;
    if (this.#closed) return;
    this.#closed = true;
    await this.#keeping;
    await Promise.all(this.#restarting);
    await Promise.all(this.#servers.map((server) => server.close()));
    await Promise.all(this.#members.map((member) => member.stop(0)));
    await this.#probe?.close();
  }
}

/** A committee that has read the log against where members are in it. */
function compare(fresh: Committee<LedgerState, Operation, Duty>, head: Uint8Array, state: Uint8Array): string[] {
  if (!equalBytes(fresh.head, head))
    return [`at position ${fresh.position} the head is ${toHex(fresh.head)}, members have ${toHex(head)}`];
  return equalBytes(encode(LEDGER_STATE, fresh.state), state) ? [] : ["another state follows than members have"];
}

function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
