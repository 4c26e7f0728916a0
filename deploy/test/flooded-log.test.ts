/** Real members on a real nats-server while one author's lanes are full: it stops alone, and goes on once there is room. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { decode } from "@lattice/organism/codec/codec.ts";
import { checkCheckpoint } from "@lattice/organism/committee/checkpoint.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { trimmableBelow } from "@lattice/organism/committee/trim.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { Fault } from "@lattice/organism/fault.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import { fromWireCheckpoint } from "@lattice/organism/node/committee-wire.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import { DirectCalls } from "@lattice/organism/testing/direct-calls.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { dealCommittee, startToyMember } from "../../services/organism/test/test-lattice.ts";
import { SUM } from "../../services/organism/test/toy-organism.ts";
import { freePorts } from "../src/local/free-ports.ts";
import { dealNats } from "../src/nats/nats-config.ts";
import { committeeQuotas, createCommitteeStream, type NatsServer, startNatsServer } from "../src/nats/nats-process.ts";
import { findNatsServer, NatsServerMissing } from "../src/nats/nats-server.ts";
import { purgeStream } from "../src/nats/trimmer.ts";

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;

const TOOLS = fileURLToPath(new URL("../../.tools", import.meta.url));
const QUOTAS = committeeQuotas(3, 256 * 1024 ** 2);
const EVERY = { entries: 40n, slots: 4n };
const FLOODER = 2;
const HONEST = [0, 1] as const;

async function find(): Promise<string | undefined> {
  try {
    return (await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true })).path;
  } catch (error) {
    if (error instanceof NatsServerMissing) return undefined;
    throw error;
  }
}
const binary = await find();

describe("a flooded log", { skip: binary === undefined ? "there is no nats-server" : false }, () => {
  const committee = dealCommittee(3);
  const { config } = committee;
  const nats = dealNats([{ organism: "relay", members: 3 }]);
  const calls = new DirectCalls();
  const lines: string[] = [];
  const fatal: string[] = [];
  const members: ToyMember[] = [];
  let nowMs = config.genesisMs;
  let directory: string;
  let server: NatsServer;

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-flooded-"));
    const [port = 0, monitorPort = 0] = await freePorts(2);
    server = await startNatsServer({
      binary: binary ?? "",
      directory: join(directory, "server"),
      deal: nats,
      port,
      monitorPort,
    });
    for (const { admin } of nats.accounts) await createCommitteeStream(server.url, admin, QUOTAS);
  });
  after(async () => {
    await Promise.all(members.map((member) => member.stop(50)));
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  });

  function open(index: number): Promise<JetStreamLog> {
    const credentials = nats.accounts[0]?.members[index];
    assert.ok(credentials !== undefined);
    return JetStreamLog.open({ servers: [server.url], ...credentials, member: index });
  }

  async function start(index: number): Promise<ToyMember> {
    const line = (message: string): void => {
      lines.push(`${index} ${message}`);
    };
    const logger: Logger = { debug: () => undefined, info: line, warn: line, error: line };
    const member = await startToyMember({
      committee,
      index,
      log: await open(index),
      directory,
      clock: { nowMs: () => nowMs },
      calls,
      logger,
      checkpointEvery: EVERY,
      onFatal: (reason, detail) => fatal.push(`${reason}: ${detail}`),
    });
    members.push(member);
    return member;
  }

  async function certified(member: ToyMember, slot: bigint): Promise<Outcome> {
    nowMs = Math.max(nowMs, slotStartMs(config, slot));
    for await (const { outcome } of member.host.watch("accepted", slot, AbortSignal.timeout(90_000))) {
      if (outcome.slot === slot) return outcome;
    }
    throw new Error(`no certificate for slot ${slot}`);
  }

  async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + 90_000;
    while (!(await holds())) {
      assert.ok(performance.now() < deadline, `it does not come: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** What an honest member shows certificates for. */
  async function held(index: number) {
    const peer = calls.connect(CommitteeService)(`relay-${index}`, committee.rosters.relay.committee);
    const { held: wire } = await peer.getCheckpoint({});
    const found = wire.flatMap((each) => fromWireCheckpoint(each) ?? []);
    assert.ok(found.every((each) => checkCheckpoint(config, "relay", each) === undefined));
    return found.map(({ checkpoint }) => checkpoint);
  }

  const add = (slot: bigint, amount: number) =>
    ({ type: "machine", command: { type: "add", slot, amount, padding: new Uint8Array() } }) as const;

  test("its author is refused alone; checkpoints fit; trimmed, it speaks again; nothing acknowledged is lost", async () => {
    const [a, b] = [await start(HONEST[0]), await start(HONEST[1])];
    await certified(a, 1n);
    const c = await start(FLOODER);
    assert.equal(await c.host.submit(add(2n, 5)), undefined);

    const flood = await open(FLOODER);
    const before = await flood.lastPosition();
    let refused: unknown;
    for (let turn = 0; refused === undefined; turn += 16) {
      const some = Array.from({ length: 16 }, (_, each) => flood.append("ctl", new Uint8Array(64), `${turn + each}`));
      for (const result of await Promise.allSettled(some)) if (result.status === "rejected") refused = result.reason;
    }
    assert.deepEqual([(refused as Error).name, (refused as { reason?: string }).reason], ["LogRefusal", "LOG_FULL"]);
    const ownShare = (await flood.usage()).ownShare ?? 0;
    assert.equal(ownShare, 1);
    await flood.close();

    // The first one has taken a number and waits; what comes after it is refused, and has certainly not been said. The
    // first may have been a duty of its own during the flood: then this one is refused as well.
    const assertRefused = (error: unknown): true => {
      assert.ok(error instanceof Fault);
      assert.deepEqual([error.code, error.reason], ["RESOURCE_EXHAUSTED", "LOG_REFUSED"]);
      return true;
    };
    const waiting = c.host.submit(add(4n, 7)).then(
      (refusal) => refusal === undefined,
      (error: unknown) => !assertRefused(error),
    );
    await until("it says so", () =>
      lines.includes(`${FLOODER} the log refuses this member's entries; they are tried again`),
    );
    await assert.rejects(c.host.submit(add(4n, 11)), assertRefused);

    assert.equal(await a.host.submit(add(2n, 3)), undefined);
    const second = await certified(b, 2n);
    assert.equal(decode(SUM, second.commitment).sum, 8, "acknowledged before and during the flood");
    await certified(a, 3n);
    await until("two checkpoints past its beginning", async () => {
      const positions = await Promise.all(HONEST.map(held));
      return positions.every((each) => each.filter(({ position }) => position > before).length >= 2);
    });
    assert.ok(!lines.some((line) => !line.startsWith(`${FLOODER} `) && line.includes("refuses")), lines.join("\n"));

    const below = trimmableBelow(await Promise.all(HONEST.map(held)), a.committee.quorum.quorum);
    assert.ok(below !== undefined && below.position > before);
    const [account] = nats.accounts;
    assert.ok(account !== undefined);
    assert.ok((await purgeStream([server.url], account.trimmer, below.position + 1n)) > 0);
    const said = await waiting;
    await until("it says that too", () => lines.includes(`${FLOODER} the log takes this member's entries again`));
    const { sum } = decode(SUM, (await certified(c, 4n)).commitment);
    assert.equal(sum, said ? 7 : 0, "what waited is said, once there is room, and what was refused is not");
    for (const member of [a, b, c]) assert.ok(member.ready());
    assert.deepEqual(a.committee.blocked, [], "nobody is taken for a fraud");
    assert.deepEqual(fatal, []);
    await until("one history", () => a.committee.position === c.committee.position);
    assert.deepEqual(a.committee.stateHash(), c.committee.stateHash());
  });
});
