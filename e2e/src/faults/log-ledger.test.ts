/** The ledger on a cluster of three nats-servers, without a lattice beside it: it survives what members survive, and finds what is lost. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { freePorts } from "@lattice/deploy/local/free-ports.ts";
import { NatsCluster } from "@lattice/deploy/nats/nats-cluster.ts";
import { type CommitteeAccount, dealNats } from "@lattice/deploy/nats/nats-config.ts";
import { asAdmin, committeeQuotas } from "@lattice/deploy/nats/nats-process.ts";
import { findNatsServer, NatsServerMissing } from "@lattice/deploy/nats/nats-server.ts";
import { LogLedger } from "./log-ledger.ts";

const TOOLS = fileURLToPath(new URL("../../../.tools", import.meta.url));
const ACCOUNT_BYTES = 64 * 1024 ** 2;
const binary = await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true }).catch(
  (error: unknown) => {
    if (error instanceof NatsServerMissing) return undefined;
    throw error;
  },
);

describe("the ledger of acknowledged operations", { skip: binary === undefined && "there is no nats-server" }, () => {
  const deal = dealNats(["one", "two"].map((organism) => ({ organism, members: 3 })));
  let folder: string;
  let cluster: NatsCluster;
  let ledger: LogLedger | undefined;
  const events: string[] = [];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "lattice-ledger-"));
    const free = await freePorts(9);
    cluster = await NatsCluster.start({
      binary: binary?.path ?? "",
      directory: join(folder, "nats"),
      deal,
      ports: [0, 3, 6].map((at) => ({ client: free[at] ?? 0, monitor: free[at + 1] ?? 0, route: free[at + 2] ?? 0 })),
      accountBytes: ACCOUNT_BYTES,
    });
    await cluster.makeStreams(
      deal.accounts.map(({ admin }) => admin),
      committeeQuotas(3, ACCOUNT_BYTES),
    );
  });
  after(async () => {
    await ledger?.close();
    await cluster.stop();
    await rm(folder, { recursive: true, force: true });
  });

  function start(at: number): Promise<LogLedger> {
    const { admin, members } = deal.accounts[at] as CommitteeAccount;
    return LogLedger.start({
      credentials: members,
      admin,
      servers: cluster.urls,
      directory: join(folder, `ledger-${at}`),
      everyMs: 20,
      onEvent: (event) => events.push(event),
    });
  }

  /** Until each writer has got some more of its operations acknowledged. */
  async function more(running: LogLedger, ready: () => boolean = () => true): Promise<void> {
    const deadline = performance.now() + 180_000;
    let from = running.acknowledged.length;
    for (;;) {
      if (!ready()) from = running.acknowledged.length;
      const since = running.acknowledged.slice(from);
      if ([0n, 1n, 2n].every((writer) => since.filter((each) => each.writer === writer).length >= 10)) return;
      assert.deepEqual(running.ended, []);
      assert.ok(performance.now() < deadline, `nothing is acknowledged: ${events.join("\n")}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  test("a server is killed, the stream is lost: nothing acknowledged is lost, doubled or reordered", async () => {
    ledger = await start(0);
    const { admin } = deal.accounts[0] as CommitteeAccount;
    await more(ledger);
    const leader = await cluster.leaderOf(admin);
    const other = leader === 0 ? 1 : 0;
    await cluster.killServer(other);
    await more(ledger);
    await cluster.start(other);
    const fromMs = performance.now();
    await asAdmin(cluster.urls, admin, (manager) => manager.streams.delete(admin.stream));
    await more(ledger, () => (ledger?.generation ?? 0n) > 0n);
    const resumed = ledger.resumedAfterMs(fromMs);
    assert.ok(resumed !== undefined && resumed <= performance.now() - fromMs);
    assert.ok(ledger.longestSilenceMs(fromMs) > 0);
    assert.deepEqual(await ledger.finish(cluster.urls), []);
    assert.equal(ledger.generation, 1n);
  });

  test("an operation that was acknowledged and is nowhere is named, and so is one that comes twice", async () => {
    ledger = await start(1);
    await more(ledger);
    ledger.acknowledged.push({ writer: 1n, number: 1_000_000n });
    const [first] = ledger.members;
    assert.ok(first !== undefined);
    await first.host.submit({ type: "machine", command: { writer: 2n, number: 3n } });
    const problems = await ledger.finish(cluster.urls);
    assert.deepEqual(problems, [
      "operation 2/3 was applied twice",
      "operation 1/1000000 was acknowledged and is not there",
    ]);
  });
});
