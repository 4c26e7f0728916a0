/** Real members on a real nats-server whose stream is deleted under them: they agree, and go on in a stream of its own. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { generationStream, JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import { DirectCalls } from "@lattice/organism/testing/direct-calls.ts";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { dealCommittee, startToyMember } from "../../services/organism/test/test-lattice.ts";
import { freePorts } from "../src/local/free-ports.ts";
import { dealNats } from "../src/nats/nats-config.ts";
import { committeeQuotas, createCommitteeStream, startNatsServer } from "../src/nats/nats-process.ts";
import { findNatsServer, NatsServerMissing } from "../src/nats/nats-server.ts";

const TOOLS = fileURLToPath(new URL("../../.tools", import.meta.url));
const QUOTAS = committeeQuotas(3, 64 * 1024 ** 2);
const binary = await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true }).catch((error: unknown) => {
  if (error instanceof NatsServerMissing) return undefined;
  throw error;
});

test("the stream is deleted", { skip: binary === undefined ? "there is no nats-server" : false }, async (context) => {
  await initCrypto();
  const committee = dealCommittee(3);
  const nats = dealNats([{ organism: "relay", members: 3 }]);
  const [account] = nats.accounts;
  assert.ok(account !== undefined && binary !== undefined);
  const directory = await mkdtemp(join(tmpdir(), "lattice-generations-"));
  const [port = 0, monitorPort = 0] = await freePorts(2);
  const server = await startNatsServer({
    binary: binary.path,
    directory: join(directory, "server"),
    deal: nats,
    port,
    monitorPort,
  });
  await createCommitteeStream(server.url, account.admin, QUOTAS);
  const calls = new DirectCalls();
  let nowMs = committee.config.genesisMs;
  const fatal: string[] = [];
  const open = (index: number, generation: bigint): Promise<JetStreamLog> => {
    const own = account.members[index];
    assert.ok(own !== undefined);
    return JetStreamLog.open({ servers: [server.url], ...own, ...generationStream(own, generation), member: index });
  };
  const members = await Promise.all(
    [0, 1, 2].map(async (index) =>
      startToyMember({
        committee,
        index,
        log: await open(index, 0n),
        nextLog: async (generation) => {
          // As the stream keeper does, once it has seen the certificate; made once, found by the others.
          const next = { ...account.admin, ...generationStream(account.admin, generation) };
          await createCommitteeStream(server.url, next, QUOTAS).catch(() => undefined);
          const log = await open(index, generation);
          while (!(await log.exists())) await new Promise((resolve) => setTimeout(resolve, 50));
          return log;
        },
        endPatience: { roundMs: 2000, graceMs: 300 },
        directory,
        clock: { nowMs: () => nowMs },
        calls,
        onFatal: (reason, detail) => fatal.push(`${reason}: ${detail}`),
      }),
    ),
  );
  context.after(async () => {
    await Promise.all(members.map((member) => member.stop(50)));
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  });
  const certified = async (slot: bigint): Promise<void> => {
    nowMs = Math.max(nowMs, slotStartMs(committee.config, slot));
    const [member] = members;
    assert.ok(member !== undefined);
    for await (const { outcome } of member.host.watch("accepted", slot, AbortSignal.timeout(30_000))) {
      if (outcome.slot === slot) return;
    }
    assert.fail(`no certificate for slot ${slot}`);
  };
  for (const slot of [1n, 2n]) await certified(slot);
  const { user, password, inboxPrefix } = account.admin;
  const connection = await connect({ servers: server.url, user, pass: password, inboxPrefix });
  const manager = await jetstreamManager(connection);
  await manager.streams.delete(account.admin.stream);
  await connection.close();
  const deadline = performance.now() + 40_000;
  while (!members.every((member) => member.ready() && member.committee.generation === 1n)) {
    assert.ok(performance.now() < deadline, "the next generation does not come");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  for (const slot of [3n, 4n]) await certified(slot);
  assert.deepEqual(fatal, []);
});
