/**
 * One committee of member processes, replaced in part through the operators' commands: the newcomer joins, the one it
 * replaces falls silent. LATTICE_EPOCH_SLOTS=30 waits for the epoch itself too.
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Program } from "@lattice/deploy/chain/child-process.ts";
import { deal } from "@lattice/deploy/dealer/deal.ts";
import { provideNatsServer } from "@lattice/deploy/local/broker.ts";
import { freePorts } from "@lattice/deploy/local/free-ports.ts";
import { at, choosePorts, http, Layout, type Ports } from "@lattice/deploy/local/layout.ts";
import { memberEnvironment, memberScript } from "@lattice/deploy/local/members.ts";
import { dealNats, writeCredentials } from "@lattice/deploy/nats/nats-config.ts";
import { createCommitteeStream, type NatsServer, startNatsServer } from "@lattice/deploy/nats/nats-process.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { type Rosters, readConfig, readEndpoints, readRosters } from "@lattice/organism/node/kit.ts";
import { NextEpoch } from "../src/scenarios/next-epoch.ts";

const ORGANISM = "unseal";
const SEAT = 2;
const SLOT_MS = 1000;
const IN_SLOTS = Number(process.env["LATTICE_EPOCH_SLOTS"] ?? "600");
const READY_MS = 60_000;

const binary = await provideNatsServer().then(
  ({ path }) => path,
  () => undefined,
);

describe("an operator replaces a member", { skip: binary === undefined ? "no nats-server here" : false }, () => {
  let folder: string;
  let layout: Layout;
  let ports: Ports;
  let rosters: Rosters;
  let server: NatsServer;
  const running: Program[] = [];
  const failed: string[] = [];

  before(async () => {
    await initCrypto();
    folder = await mkdtemp(join(tmpdir(), "lattice-next-epoch-"));
    layout = new Layout(join(folder, "lattice"));
    const parameters = { name: "epochs", chainId: 31_337n, genesisMs: Date.now(), slotMs: SLOT_MS, members: 3 };
    deal(layout.directory, { ...parameters, settlement: new Uint8Array(20) });
    rosters = readRosters(layout.rosters, readConfig(layout.config));
    ports = await choosePorts(3, undefined);
    layout.savePorts(ports);
    await mkdir(layout.path("logs"), { recursive: true });
    const broker = dealNats([{ organism: ORGANISM, members: 3 }]);
    const { client: port = 0, monitor: monitorPort = 0 } = ports.nats[0] ?? {};
    server = await startNatsServer({
      binary: binary ?? "",
      directory: layout.path("nats"),
      deal: broker,
      port,
      monitorPort,
    });
    const [account] = broker.accounts;
    assert.ok(account !== undefined);
    await createCommitteeStream(server.url, account.admin);
    for (const [index, credentials] of account.members.entries())
      writeCredentials(join(layout.member(ORGANISM, index), "nats.json"), credentials);
  });
  after(async () => {
    await Promise.all(running.map((program) => program.stop()));
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function start(index: number, name: string, changes: Record<string, string> = {}): Promise<Program> {
    const program = await Program.start({
      name,
      command: process.execPath,
      args: ["--disable-warning=ExperimentalWarning", memberScript(ORGANISM)],
      logFile: layout.log(name),
      env: {
        PATH: process.env["PATH"],
        ...memberEnvironment({ layout, ports, slotMs: SLOT_MS, logLevel: "info" }, ORGANISM, index),
        ...changes,
      },
    });
    running.push(program);
    return program;
  }
  const ready = (program: Program, port: number): Promise<void> =>
    program.ready(async () => {
      try {
        return (await fetch(`${http(port)}/readyz`, { signal: AbortSignal.timeout(2000) })).ok;
      } catch {
        return false;
      }
    }, READY_MS);

  test("show, propose, reshare, status: a newcomer joins, its predecessor falls silent and cannot come back", async () => {
    const [a, b, c] = await Promise.all([0, 1, 2].map((index) => start(index, `member-${index}`)));
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    const metricsOf = (index: number): number => ports.members[ORGANISM][index]?.metrics ?? 0;
    await Promise.all([a, b, c].map((program, index) => ready(program, metricsOf(index))));
    const context = {
      directory: folder,
      check: (name: string, ok: boolean, detail?: string): boolean => {
        if (!ok) failed.push(`${name}: ${detail ?? ""}`);
        return ok;
      },
    };
    const newcomer = join(folder, "newcomer");
    const epoch = new NextEpoch(
      context,
      { layout, rosters },
      { organism: ORGANISM, newcomer: { seat: SEAT, folder: newcomer }, inSlots: IN_SLOTS },
    );
    await epoch.healthy();
    const activation = await epoch.propose();
    assert.deepEqual(failed, []);
    await epoch.reshare();
    await epoch.reached("announced", 180);
    assert.deepEqual(failed, []);

    const [grpc = 0, metrics = 0] = await freePorts(2);
    const next = await start(SEAT, "newcomer", {
      LATTICE_KEY_FILE: join(newcomer, "key.json"),
      LATTICE_DATA_DIR: join(newcomer, "data"),
      LATTICE_NATS_CREDENTIALS_FILE: join(newcomer, "nats.json"),
      LATTICE_LISTEN: at(grpc),
      LATTICE_METRICS_LISTEN: at(metrics),
    });
    await ready(next, metrics);
    const endpoints = await readFile(layout.endpoints, "utf8");
    const before = readEndpoints(layout.endpoints)[ORGANISM][SEAT] ?? "";
    await writeFile(layout.endpoints, endpoints.replace(before, at(grpc)));
    await epoch.reached("joined", 180);
    assert.deepEqual(failed, []);
    assert.equal(await c.ended, `exit code ${EXIT.failed}`);
    assert.match(await readFile(layout.log("member-2"), "utf8"), /"reason":"SUCCEEDED"/);

    const again = await start(SEAT, "again");
    assert.equal(await again.ended, `exit code ${EXIT.failed}`);
    assert.match(await readFile(layout.log("again"), "utf8"), /JOIN_REFUSED|another member has taken/);
    assert.ok(next.alive && a.alive && b.alive);
    const shares = await (await fetch(`${http(metrics)}/metrics`)).text();
    assert.match(shares, /lattice_dkg_has_share\{[^}]*epoch="1"[^}]*\} 1/);
    assert.match(shares, /lattice_dkg_has_share\{[^}]*epoch="0"[^}]*\} 0/);

    if (process.env["LATTICE_EPOCH_SLOTS"] === undefined) return;
    await epoch.reached(undefined, 120);
    assert.deepEqual(failed, []);
    assert.ok(activation !== undefined);
    const over = (activation + 60n) * BigInt(SLOT_MS);
    while (Date.now() - Number(readConfig(layout.config).genesisMs) < Number(over)) {
      if (!(await readFile(layout.key(ORGANISM, 0), "utf8")).includes("certificateShare")) break;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    assert.ok(!(await readFile(layout.key(ORGANISM, 0), "utf8")).includes("certificateShare"), "old shares are erased");
  });
});
