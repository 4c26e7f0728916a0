/**
 * Real members on a real nats-server whose store is lost or put back: they agree over gRPC where the log ended, and go on in a
 * stream of its own, which the keeper makes.
 */
import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { generationStream, JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import type { Fields } from "@lattice/organism/observe/logger.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import { type RunningServer, startServer } from "@lattice/organism/rpc/server.ts";
import { dealCommittee, SILENT, startToyMember } from "../../services/organism/test/test-lattice.ts";
import { freePorts } from "../src/local/free-ports.ts";
import { type CommitteeAccount, dealNats, type NatsDeal } from "../src/nats/nats-config.ts";
import {
  addStream,
  asAdmin,
  committeeQuotas,
  createCommitteeStream,
  type NatsServer,
  startNatsServer,
  streamNames,
} from "../src/nats/nats-process.ts";
import { findNatsServer, NatsServerMissing } from "../src/nats/nats-server.ts";
import { keepStream } from "../src/nats/stream-keeper.ts";

const TOOLS = fileURLToPath(new URL("../../.tools", import.meta.url));
const MEMBERS = [0, 1, 2];
const QUOTAS = committeeQuotas(MEMBERS.length, 64 * 1024 ** 2);
const binary = await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true }).catch(
  (error: unknown) => {
    if (error instanceof NatsServerMissing) return undefined;
    throw error;
  },
);
const skip = binary === undefined ? "there is no nats-server" : false;

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;

class Lattice {
  readonly committee = dealCommittee(MEMBERS.length);
  readonly deal: NatsDeal = dealNats([{ organism: "relay", members: MEMBERS.length }]);
  readonly account: CommitteeAccount;
  readonly directory: string;
  readonly ports: readonly number[];
  readonly members = new Map<number, ToyMember>();
  readonly #served = new Map<number, RunningServer>();
  readonly fatal: string[] = [];
  /** What members logged: whose, message and fields. */
  readonly lines: string[] = [];
  nats: NatsServer | undefined;
  nowMs = this.committee.config.genesisMs;

  private constructor(directory: string, ports: readonly number[]) {
    const [account] = this.deal.accounts;
    assert.ok(account !== undefined);
    this.account = account;
    this.directory = directory;
    this.ports = ports;
  }

  static async start(): Promise<Lattice> {
    await initCrypto();
    const directory = await mkdtemp(join(tmpdir(), "lattice-generations-"));
    const lattice = new Lattice(directory, await freePorts(2 + MEMBERS.length));
    running.push(lattice);
    await lattice.startNats();
    assert.equal(await createCommitteeStream(lattice.url, lattice.account.admin, QUOTAS), "made");
    await lattice.startMembers();
    return lattice;
  }

  get store(): string {
    return join(this.directory, "server", "store");
  }
  get url(): string {
    assert.ok(this.nats !== undefined);
    return this.nats.url;
  }
  get addresses(): string[] {
    return this.ports.slice(2).map((port) => `127.0.0.1:${port}`);
  }

  async startNats(): Promise<void> {
    const [port = 0, monitorPort = 0] = this.ports;
    assert.ok(binary !== undefined);
    const directory = join(this.directory, "server");
    this.nats = await startNatsServer({ binary: binary.path, directory, deal: this.deal, port, monitorPort });
  }

  async stopNats(): Promise<void> {
    await this.nats?.stop();
    this.nats = undefined;
  }

  async startMembers(): Promise<void> {
    await Promise.all(MEMBERS.map((index) => this.#startMember(index)));
  }

  async #startMember(index: number): Promise<void> {
    const own = this.account.members[index];
    assert.ok(own !== undefined);
    const open = (generation: bigint): Promise<JetStreamLog> =>
      JetStreamLog.open({ servers: [this.url], ...own, ...generationStream(own, generation), member: index });
    const line = (message: string, fields: Fields = {}): void => {
      this.lines.push([`relay-${index}`, message, ...Object.values(fields)].join(" "));
    };
    const member = await startToyMember({
      committee: this.committee,
      index,
      logger: { debug: () => undefined, info: line, warn: line, error: line },
      log: await open(0n),
      nextLog: open,
      endPatience: { roundMs: 2000, graceMs: 300 },
      directory: this.directory,
      endpoints: this.addresses,
      journalIsOld: this.nowMs > this.committee.config.genesisMs,
      clock: { nowMs: () => this.nowMs },
      onFatal: (reason, detail) => this.fatal.push(`${reason}: ${detail}`),
    });
    this.members.set(index, member);
    const server = await startServer({
      address: this.addresses[index] ?? "",
      services: member.services,
      committee: member.committee.id,
      domain: "relay",
      log: SILENT,
      meters: createNoMeters(),
    });
    this.#served.set(index, server);
  }

  /** As kill -9 does to all of them. */
  async killMembers(): Promise<void> {
    await Promise.all([...this.#served.values()].map((server) => server.close()));
    await Promise.all([...this.members.values()].map((member) => member.stop(0)));
    this.#served.clear();
    this.members.clear();
  }

  streams(): Promise<string[]> {
    return asAdmin(this.url, this.account.admin, streamNames);
  }

  /** One look of the keeper's. */
  keep(): Promise<string | undefined> {
    return keepStream({
      config: this.committee.config,
      organism: "relay",
      eras: new EraWatch({ config: this.committee.config, addresses: () => this.addresses }),
      addresses: this.addresses,
      servers: [this.url],
      admin: this.account.admin,
      quotas: QUOTAS,
      replicas: 1,
    });
  }

  async kept(): Promise<string> {
    const made: string[] = [];
    await this.until("a stream for the next generation", async () => {
      const stream = await this.keep();
      if (stream !== undefined) made.push(stream);
      return made.length > 0;
    });
    return made[0] ?? "";
  }

  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + 90_000;
    while (!(await holds())) {
      assert.deepEqual(this.fatal, []);
      assert.ok(performance.now() < deadline, `it does not come: ${what}\n${this.lines.slice(-24).join("\n")}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  inGeneration(generation: bigint): Promise<void> {
    return this.until(`generation ${generation}`, () =>
      [...this.members.values()].every((member) => member.ready() && member.committee.generation === generation),
    );
  }

  /** Time passes until `slot`; every member ends with the same certificate for it. */
  async certified(slot: bigint): Promise<void> {
    this.nowMs = Math.max(this.nowMs, slotStartMs(this.committee.config, slot));
    const digests = await Promise.all(
      [...this.members.values()].map(async ({ host }) => {
        for await (const { outcome } of host.watch("accepted", slot, AbortSignal.timeout(90_000))) {
          if (outcome.slot === slot) return outcomeDigest(outcome);
        }
        return assert.fail(`no certificate for slot ${slot}`);
      }),
    );
    for (const digest of digests) assert.ok(equalBytes(digest, digests[0] ?? new Uint8Array()));
  }

  async end(): Promise<void> {
    await this.killMembers();
    await this.stopNats();
    await rm(this.directory, { recursive: true, force: true });
  }
}

const running: Lattice[] = [];
afterEach(async () => {
  for (const lattice of running.splice(0)) await lattice.end();
});

test("a deleted stream is followed by another; nobody makes one that no quorum has certified", { skip }, async () => {
  const lattice = await Lattice.start();
  const { admin } = lattice.account;
  for (const slot of [1n, 2n]) await lattice.certified(slot);
  assert.equal(await lattice.keep(), undefined, "nothing has ended");
  await asAdmin(lattice.url, admin, (manager) => manager.streams.delete(admin.stream));
  assert.equal(await lattice.kept(), `${admin.stream}-G1`);
  await lattice.inGeneration(1n);
  for (const slot of [3n, 4n]) await lattice.certified(slot);
  assert.equal(await lattice.keep(), undefined, "it is there");
  // Whoever starts the broker again makes no second first one.
  assert.equal(await createCommitteeStream(lattice.url, admin, QUOTAS), "found");
  assert.deepEqual(await lattice.streams(), [`${admin.stream}-G1`]);
  assert.deepEqual(lattice.fatal, []);
});

test("a store put back twice: two generations, the last that is over stays; its quotas are taken over", {
  skip,
}, async () => {
  const lattice = await Lattice.start();
  const { admin } = lattice.account;
  const copy = join(lattice.directory, "copy");
  await lattice.certified(1n);
  for (const generation of [1n, 2n]) {
    await lattice.stopNats();
    await rm(copy, { recursive: true, force: true });
    await cp(lattice.store, copy, { recursive: true });
    await lattice.startNats();
    await lattice.certified(2n * generation);
    await lattice.stopNats();
    await rm(lattice.store, { recursive: true });
    await cp(copy, lattice.store, { recursive: true });
    await lattice.startNats();
    assert.equal(await lattice.kept(), generationStream(admin, generation).stream);
    await lattice.inGeneration(generation);
    await lattice.certified(2n * generation + 1n);
  }
  assert.deepEqual((await lattice.streams()).sort(), [`${admin.stream}-G1`, `${admin.stream}-G2`]);
  const { config } = await asAdmin(lattice.url, admin, (manager) => manager.streams.info(`${admin.stream}-G2`));
  assert.equal(config.max_msgs_per_subject, QUOTAS.messagesPerSubject);
  assert.equal(config.deny_delete, true);
  assert.deepEqual(lattice.fatal, []);
});

test("a keeper that is shown an earlier beginning only leaves the stream of a later generation where it is", {
  skip,
}, async () => {
  const lattice = await Lattice.start();
  const { admin } = lattice.account;
  await lattice.certified(1n);
  await asAdmin(lattice.url, admin, (manager) => manager.streams.delete(admin.stream));
  await lattice.until("all have certified the beginning", () =>
    [...lattice.members.values()].every(({ committee }) => committee.generation === 1n),
  );
  // These have been left behind: others have lost the first one and gone on, with another keeper.
  await asAdmin(lattice.url, admin, (manager) => addStream(manager, generationStream(admin, 2n), QUOTAS, 1));
  assert.equal(await lattice.keep(), undefined);
  assert.deepEqual(await lattice.streams(), [`${admin.stream}-G2`]);
});

test("all members are killed before the stream is made: they wait for it, and show its beginning meanwhile", {
  skip,
}, async () => {
  const lattice = await Lattice.start();
  const { admin } = lattice.account;
  await lattice.certified(1n);
  await asAdmin(lattice.url, admin, (manager) => manager.streams.delete(admin.stream));
  await lattice.until("all have certified the beginning", () =>
    [...lattice.members.values()].every(({ committee }) => committee.generation === 1n),
  );
  await lattice.killMembers();
  await lattice.startMembers();
  assert.ok([...lattice.members.values()].every((member) => !member.ready()));
  assert.equal(await lattice.kept(), `${admin.stream}-G1`);
  await lattice.inGeneration(1n);
  await lattice.certified(2n);
  // And one that has been read is not waited for when it is gone: it is followed by the next.
  await lattice.killMembers();
  await asAdmin(lattice.url, admin, (manager) => manager.streams.delete(`${admin.stream}-G1`));
  await lattice.startMembers();
  await lattice.until("the generation after that", async () => (await lattice.keep()) === `${admin.stream}-G2`);
  await lattice.inGeneration(2n);
  await lattice.certified(3n);
  assert.deepEqual(lattice.fatal, []);
});
