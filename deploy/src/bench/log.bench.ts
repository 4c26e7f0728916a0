/**
 * From a member's append to the entry applied by all three members, on JetStream (one server, or a cluster of three with
 * a replica on each; every message synced) and on the embedded log; against what no signed, durable log can do without: one sync of the author's own disk, one
 * signature, a publish, delivery to three ordered consumers and a verification by each.
 * All in this process, interleaved in one run; medians. Run: `node deploy/src/bench/log.bench.ts`.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bytes, encode, struct, u64 } from "@lattice/organism/codec/codec.ts";
import { encodeCommand } from "@lattice/organism/committee/commands.ts";
import { Committee } from "@lattice/organism/committee/committee.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import {
  generateSigningKey,
  signTagged,
  verifyTagged,
  verifyTaggedElsewhere,
} from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { EmbeddedLog } from "@lattice/organism/log/embedded-log.ts";
import { JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import type { Duty, Machine } from "@lattice/organism/machine.ts";
import { AppendFile } from "@lattice/organism/node/append-file.ts";
import { Appender } from "@lattice/organism/node/appender.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { Intake } from "@lattice/organism/node/intake.ts";
import { nodeTimers } from "@lattice/organism/node/node-timers.ts";
import type { Log } from "@lattice/organism/ports.ts";
import { type JetStreamClient, jetstream } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { freePorts } from "../local/free-ports.ts";
import { localConfig } from "../local/profile.ts";
import { NatsCluster } from "../nats/nats-cluster.ts";
import { type CommitteeAccount, dealNats } from "../nats/nats-config.ts";
import { DEFAULT_QUOTAS } from "../nats/nats-process.ts";
import { findNatsServer } from "../nats/nats-server.ts";

export interface LogBench {
  readonly name: "log";
  readonly peer: string;
  readonly repeats: number;
  readonly commandBytes: number;
  readonly rows: readonly {
    readonly what: string;
    /** One at a time: median over the repeats of the mean time from append to the third member, in microseconds. */
    readonly microseconds: number;
    /** 64 at a time: median over the repeats, entries a second. */
    readonly perSecond: number;
  }[];
  /** Ours on JetStream over the peer, one at a time. */
  readonly ratio: number;
  /** The peer's throughput over ours, 64 at a time. */
  readonly ratioAtOnce: number;
  readonly server: string;
}

const MEMBERS = 3;
const AT_ONCE = 64;
const ENTRIES_AT_ONCE = 640;
const COMMAND_BYTES = 256;
const TAG = "lattice/bench/v1";
const TOOLS = fileURLToPath(new URL("../../../.tools", import.meta.url));

interface Contender {
  readonly what: string;
  /** Puts one message in; resolves once all three members have it. */
  say(): Promise<void>;
  close(): Promise<void>;
}

/** Counts who has what: resolves a message's promise when the last member has it. */
class Arrivals {
  readonly #waiting = new Map<bigint, { left: number; readonly done: () => void }>();
  #next = 0n;

  expect(): { readonly number: bigint; readonly arrived: Promise<void> } {
    const number = this.#next++;
    const arrived = new Promise<void>((done) => this.#waiting.set(number, { left: MEMBERS, done }));
    return { number, arrived };
  }
  at(number: bigint): void {
    const waiting = this.#waiting.get(number);
    if (waiting === undefined || --waiting.left > 0) return;
    this.#waiting.delete(number);
    waiting.done();
  }
}

const COMMAND = struct({ number: u64, payload: bytes(COMMAND_BYTES) });
const payload = new Uint8Array(COMMAND_BYTES).fill(7);
const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

function config(): LatticeConfig {
  const key = new Uint8Array(48);
  const certificateKeys = { zipnet: key, unseal: key, offer: key, atelier: key, relay: key, tally: key };
  const address = new Uint8Array(20);
  const operators = [0, 1, 2].map((index) => new Uint8Array(32).fill(index));
  return localConfig(
    { name: "bench", chainId: 1n, genesisMs: Date.now(), slotMs: 2000, members: MEMBERS, settlement: address },
    { certificateKeys, builderKey: key, operators, issuer: new Uint8Array(32), sequencer: address },
  );
}

function machine(arrivals: Arrivals): Machine<{ count: bigint }, { number: bigint; payload: Uint8Array }, Duty> {
  return {
    organism: "relay",
    stages: ["accepted"],
    upstream: [],
    state: struct({ count: u64 }),
    command: COMMAND,
    genesis: () => ({ count: 0n }),
    apply(state, event) {
      state.count += 1n;
      if (event.type === "command") arrivals.at(event.command.number);
      return undefined;
    },
    duties: () => [],
    skipAtMs: () => undefined,
    hasInput: () => false,
    forGuests: (state) => state,
    collapse: () => undefined,
  };
}

/** Three members as they run: journal, appender, committee, on any log. */
async function ours(
  what: string,
  directory: string,
  logs: readonly Log[],
  end: () => Promise<void>,
): Promise<Contender> {
  const lattice = config();
  const committee = committeeId(lattice, "relay");
  const arrivals = new Arrivals();
  const seeds = logs.map(() => random(32));
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
  const stop = new AbortController();
  const members = await Promise.all(
    logs.map(async (log, author) => {
      const replica = new Committee({ config: lattice, roster, machine: machine(arrivals) });
      const journal = await FileJournal.open(join(directory, `${author}`));
      const appender = new Appender({
        organism: "relay",
        committee,
        generation: () => 0n,
        epoch: () => 0n,
        author,
        memberKey: seeds[author] ?? new Uint8Array(),
        random,
        log,
        journal,
        clock: { nowMs: () => Date.now() },
        view: () => ({ position: replica.position, head: replica.head }),
        joined: () => replica.author(author)?.incarnation ?? 0n,
      });
      const intake = new Intake({
        deliver: ({ position, raw }, read) => appender.consumed(replica.apply(position, raw, read)),
        signedBy: (entry) => appender.signedBy(entry),
        keyOf: (index) => replica.author(index)?.key,
        timers: nodeTimers,
        verify: verifyTaggedElsewhere,
      });
      const reading = log.consume(1n, (message) => intake.take(message), stop.signal);
      return { appender, journal, reading };
    }),
  );
  for (const { appender } of members) {
    const refusal = await appender.join();
    if (refusal !== undefined) throw new Error(refusal.detail);
  }
  let turn = 0;
  return {
    what,
    async say() {
      const { number, arrived } = arrivals.expect();
      const member = members[turn++ % members.length];
      const command = encodeCommand({ type: "machine", command: encode(COMMAND, { number, payload }) });
      const refusal = await member?.appender.append("ctl", command);
      if (refusal !== undefined) throw new Error(refusal.detail);
      await arrived;
    },
    async close() {
      for (const { appender } of members) appender.close();
      stop.abort();
      for (const { reading, journal } of members) {
        await reading;
        await journal.close();
      }
      for (const log of logs) await log.close();
      await end();
    },
  };
}

/** The least a signed, durable log needs; or, without `signed`, JetStream alone. */
async function peer(
  urls: readonly string[],
  account: CommitteeAccount,
  file: AppendFile | undefined,
): Promise<Contender> {
  const arrivals = new Arrivals();
  const key = generateSigningKey(random(32));
  const stops: (() => void)[] = [];
  const connections: NatsConnection[] = [];
  const clients: JetStreamClient[] = [];
  for (const { user, password, inboxPrefix, stream } of account.members) {
    const connection = await connect({ servers: [...urls], user, pass: password, inboxPrefix });
    connections.push(connection);
    const client = jetstream(connection);
    clients.push(client);
    const consumer = await client.consumers.get(stream, { opt_start_seq: 1 });
    const messages = await consumer.consume();
    stops.push(() => messages.stop());
    void (async () => {
      for await (const { data } of messages) {
        const body = data.subarray(64);
        if (file !== undefined && !verifyTagged(key.publicKey, TAG, body, data.subarray(0, 64)))
          throw new Error("forged");
        arrivals.at(Buffer.from(body).readBigUInt64BE(0));
      }
    })();
  }
  let turn = 0;
  return {
    what: file === undefined ? "JetStream alone: publish → three consumers" : "sync, sign, publish → three verify",
    async say() {
      const { number, arrived } = arrivals.expect();
      const member = turn++ % MEMBERS;
      const body = encode(COMMAND, { number, payload });
      const signature = file === undefined ? new Uint8Array(64) : signTagged(key, TAG, body);
      const raw = Buffer.concat([signature, body]);
      await file?.append(raw);
      await clients[member]?.publish(`${account.admin.subject}.${member}.ctl`, raw);
      await arrived;
    },
    async close() {
      for (const stop of stops) stop();
      for (const connection of connections) await connection.close();
      await file?.close();
    },
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

async function secondsOf(times: number, atOnce: number, say: () => Promise<void>): Promise<number> {
  const start = performance.now();
  let left = times;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await say();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return (performance.now() - start) / 1000;
}

export interface LogBenchOptions {
  readonly entries?: number;
  readonly repeats?: number;
  /** nats-servers, each with a replica. */
  readonly servers?: 1 | 3;
}

export async function bench({ entries = 100, repeats = 15, servers = 1 }: LogBenchOptions = {}): Promise<LogBench> {
  await initCrypto();
  const binary = await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true });
  const directory = await mkdtemp(join(tmpdir(), "lattice-log-bench-"));
  const deal = dealNats(["ours", "peer", "alone"].map((organism) => ({ organism, members: MEMBERS })));
  const ports = await Promise.all(
    Array.from({ length: servers }, async () => {
      const [client = 0, monitor = 0, route = 0] = await freePorts(3);
      return { client, monitor, route };
    }),
  );
  const cluster = await NatsCluster.start({ binary: binary.path, directory: join(directory, "server"), deal, ports });
  const contenders: Contender[] = [];
  try {
    await cluster.makeStreams(
      deal.accounts.map(({ admin }) => admin),
      DEFAULT_QUOTAS,
    );
    const [own, signed, alone] = deal.accounts;
    if (own === undefined || signed === undefined || alone === undefined) throw new Error("three accounts");
    const logs = await Promise.all(
      own.members.map((credentials, member) =>
        JetStreamLog.open({ servers: cluster.urls, ...credentials, member, monitorUrls: cluster.monitorUrls }),
      ),
    );
    contenders.push(await ours("lattice on JetStream", join(directory, "jetstream"), logs, async () => undefined));
    const file = await AppendFile.open(join(directory, "peer"), () => undefined);
    contenders.push(await peer(cluster.urls, signed, file), await peer(cluster.urls, alone, undefined));
    if (servers === 1) {
      const embedded = await EmbeddedLog.open(join(directory, "embedded"));
      const handles = Array.from({ length: MEMBERS }, (_, index) => embedded.member(index));
      contenders.push(
        await ours("lattice on the embedded log", join(directory, "journals"), handles, () => embedded.close()),
      );
    }

    const single = contenders.map((): number[] => []);
    const many = contenders.map((): number[] => []);
    for (const { say } of contenders) await secondsOf(entries, AT_ONCE, say);
    for (let repeat = 0; repeat < repeats; repeat++) {
      for (const [index, { say }] of contenders.entries()) {
        single[index]?.push(((await secondsOf(entries, 1, say)) / entries) * 1e6);
        many[index]?.push(ENTRIES_AT_ONCE / (await secondsOf(ENTRIES_AT_ONCE, AT_ONCE, say)));
      }
    }
    const rows = contenders.map(({ what }, index) => ({
      what,
      microseconds: median(single[index] ?? []),
      perSecond: median(many[index] ?? []),
    }));
    const [lattice, least] = rows;
    if (lattice === undefined || least === undefined) throw new Error("no rows");
    return {
      name: "log",
      peer: `raw publish to three ordered consumers + one sync + Ed25519 sign and verify, nats-server ${binary.version} R${servers} sync always`,
      repeats,
      commandBytes: COMMAND_BYTES,
      rows,
      ratio: lattice.microseconds / least.microseconds,
      ratioAtOnce: least.perSecond / lattice.perSecond,
      server: binary.version,
    };
  } finally {
    for (const contender of contenders) await contender.close();
    await cluster.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

if (import.meta.main) console.log(JSON.stringify(await bench(), undefined, 2));
