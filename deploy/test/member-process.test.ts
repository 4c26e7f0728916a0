/** Real member processes on a real nats-server: doubled, killed, wrongly keyed. Every end has an exit code and a line. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { copyFolder } from "@lattice/organism/testing/copy-folder.ts";
import { Program } from "../src/chain/child-process.ts";
import { deal } from "../src/dealer/deal.ts";
import { freePorts } from "../src/local/free-ports.ts";
import { at, choosePorts, http, Layout, type Ports } from "../src/local/layout.ts";
import { memberEnvironment, memberScript } from "../src/local/members.ts";
import { dealNats, writeCredentials } from "../src/nats/nats-config.ts";
import { createCommitteeStream, type NatsServer, startNatsServer } from "../src/nats/nats-process.ts";
import { findNatsServer, NatsServerMissing } from "../src/nats/nats-server.ts";

const TOOLS = fileURLToPath(new URL("../../.tools", import.meta.url));
const ORGANISM = "unseal";
const SLOT_MS = 2000;
const READY_DEADLINE_MS = 60_000;

async function find(): Promise<{ readonly path: string } | { readonly missing: string }> {
  try {
    return { path: (await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true })).path };
  } catch (error) {
    if (error instanceof NatsServerMissing) return { missing: error.message };
    throw error;
  }
}
const found = await find();

describe("member processes", { skip: "missing" in found ? found.missing : false }, () => {
  let folder: string;
  let layout: Layout;
  let ports: Ports;
  let server: NatsServer;
  const running: Program[] = [];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "lattice-members-"));
    layout = new Layout(join(folder, "lattice"));
    deal(layout.directory, {
      name: "processes",
      chainId: 31_337n,
      genesisMs: Date.now(),
      slotMs: SLOT_MS,
      members: 3,
      settlement: new Uint8Array(20),
    });
    ports = await choosePorts(3, undefined);
    layout.savePorts(ports);
    await mkdir(layout.path("logs"), { recursive: true });
    const broker = dealNats([{ organism: ORGANISM, members: 3 }]);
    server = await startNatsServer({
      binary: "path" in found ? found.path : "",
      directory: layout.path("nats"),
      deal: broker,
      port: ports.nats[0]?.client ?? 0,
      monitorPort: ports.nats[0]?.monitor ?? 0,
    });
    const [account] = broker.accounts;
    assert.ok(account !== undefined);
    await createCommitteeStream(server.url, account.admin);
    for (const [index, credentials] of account.members.entries()) {
      writeCredentials(join(layout.member(ORGANISM, index), "nats.json"), credentials);
    }
  });
  after(async () => {
    await Promise.all(running.map((program) => program.stop()));
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function start(index: number, name: string, changes: Record<string, string> = {}): Promise<Program> {
    const environment = memberEnvironment({ layout, ports, slotMs: SLOT_MS, logLevel: "info" }, ORGANISM, index);
    const program = await Program.start({
      name,
      command: process.execPath,
      args: ["--disable-warning=ExperimentalWarning", memberScript(ORGANISM)],
      logFile: layout.log(name),
      env: { PATH: process.env["PATH"], ...environment, ...changes },
    });
    running.push(program);
    return program;
  }
  async function ready(program: Program, metricsPort: number): Promise<void> {
    await program.ready(async () => {
      try {
        return (await fetch(`${http(metricsPort)}/readyz`, { signal: AbortSignal.timeout(2000) })).ok;
      } catch {
        return false;
      }
    }, READY_DEADLINE_MS);
  }
  const metrics = (index: number): number => ports.members[ORGANISM][index]?.metrics ?? 0;
  const logOf = (name: string): Promise<string> => readFile(layout.log(name), "utf8");

  test("a doubled member: the older process exits and says why, the newer one and the others go on", async () => {
    const members = await Promise.all([0, 1].map((index) => start(index, `member-${index}`)));
    for (const [index, program] of members.entries()) await ready(program, metrics(index));
    const [older, other] = members;
    assert.ok(older !== undefined && other !== undefined);

    const [grpc = 0, metricsPort = 0] = await freePorts(2);
    await copyFolder(layout.data(ORGANISM, 0), join(folder, "copy"));
    const newer = await start(0, "newer", {
      LATTICE_DATA_DIR: join(folder, "copy"),
      LATTICE_LISTEN: at(grpc),
      LATTICE_METRICS_LISTEN: at(metricsPort),
    });
    await ready(newer, metricsPort);
    assert.equal(await older.ended, `exit code ${EXIT.failed}`);
    assert.match(await logOf("member-0"), /"reason":"SUCCEEDED"/);
    assert.ok(newer.alive && other.alive);

    await newer.kill();
    const again = await start(0, "again", { LATTICE_DATA_DIR: join(folder, "copy") });
    await ready(again, metrics(0));
    assert.doesNotMatch(await logOf("again"), /it abstains/, "it knows all it has said");
    await again.stop();
    assert.equal(await again.ended, `exit code ${EXIT.ok}`);
    assert.ok(other.alive);
  });

  test("a second process on the same data folder takes it over", async () => {
    const [grpc = 0, metricsPort = 0] = await freePorts(2);
    const older = await start(2, "member-2");
    await ready(older, metrics(2));
    const newer = await start(2, "member-2-newer", {
      LATTICE_LISTEN: at(grpc),
      LATTICE_METRICS_LISTEN: at(metricsPort),
    });
    await ready(newer, metricsPort);
    assert.equal(await older.ended, `exit code ${EXIT.failed}`);
    assert.match(await logOf("member-2"), /"reason":"(SUCCEEDED|JOURNAL_LOST)"/);
    assert.ok(newer.alive);
    await newer.stop();
  });

  test("moved to another host: whoever runs finds it once its endpoints file says where", async () => {
    const before = await readFile(layout.endpoints, "utf8");
    const degraded = async (): Promise<boolean> => {
      const shown = await (await fetch(`${http(metrics(1))}/metrics`)).text();
      return /^lattice_log_degraded\S* 1$/m.test(shown);
    };
    const until = async (wanted: boolean): Promise<boolean> => {
      for (const end = performance.now() + READY_DEADLINE_MS; performance.now() < end; ) {
        if ((await degraded()) === wanted) return true;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      return false;
    };
    assert.ok(await until(true), "member 1 runs alone");

    const host = join(folder, "another-host");
    await copyFolder(layout.member(ORGANISM, 2), host);
    const [grpc = 0, metricsPort = 0] = await freePorts(2);
    const moved = await start(2, "moved", {
      LATTICE_KEY_FILE: join(host, "key.json"),
      LATTICE_NATS_CREDENTIALS_FILE: join(host, "nats.json"),
      LATTICE_DATA_DIR: join(host, "data"),
      LATTICE_LISTEN: at(grpc),
      LATTICE_METRICS_LISTEN: at(metricsPort),
    });
    await ready(moved, metricsPort);
    assert.doesNotMatch(await logOf("moved"), /it abstains/, "it knows all it has said");
    assert.ok(await degraded(), "member 1 looks for it where it was");

    const endpoints = JSON.parse(before) as Record<string, string[]>;
    const addresses = endpoints[ORGANISM] ?? [];
    await writeFile(layout.endpoints, JSON.stringify({ ...endpoints, [ORGANISM]: addresses.with(2, at(grpc)) }));
    assert.ok(await until(false), "member 1 has found it, and was not started again");
    await moved.stop();
    await writeFile(layout.endpoints, before);
  });

  test("another organism's key, a wrong password, another's credential, a folder that is none: one line and a precondition's code", async () => {
    const wrong: [name: string, changes: Record<string, string>, line: RegExp][] = [
      ["other-organism", { LATTICE_KEY_FILE: layout.key("offer", 0) }, /key file: belongs to offer, not unseal/],
      ["password", { LATTICE_NATS_CREDENTIALS_FILE: join(folder, "bad.json") }, /refuses this member's credential/],
      ["no-folder", { LATTICE_DATA_DIR: join(folder, "bad.json", "data") }, /ENOTDIR/],
      [
        "other-subject",
        { LATTICE_NATS_CREDENTIALS_FILE: join(layout.member(ORGANISM, 1), "nats.json") },
        /may not publish there/,
      ],
    ];
    const credentials = JSON.parse(await readFile(join(layout.member(ORGANISM, 0), "nats.json"), "utf8")) as {
      user: string;
      password: string;
      stream: string;
      subject: string;
      inboxPrefix: string;
    };
    writeCredentials(join(folder, "bad.json"), { ...credentials, password: "wrong" });
    for (const [name, changes, line] of wrong) {
      const [grpc = 0, metricsPort = 0] = await freePorts(2);
      const program = await start(0, name, {
        LATTICE_DATA_DIR: join(folder, name),
        LATTICE_LISTEN: at(grpc),
        LATTICE_METRICS_LISTEN: at(metricsPort),
        ...changes,
      });
      assert.equal(await program.ended, `exit code ${EXIT.precondition}`, name);
      const said = await logOf(name);
      assert.doesNotMatch(said, /^ {4}at /m, `${name}: a stack`);
      const lines = said.split("\n").filter((each) => each.startsWith("unseal: "));
      assert.equal(lines.length, 1, name);
      assert.match(lines[0] ?? "", line);
    }
  });

  test("settings that are wrong: every one of them on a line of its own, and the code of wrong usage", async () => {
    const program = await start(0, "settings", { LATTICE_LISTEN: "nowhere", LATTICE_TYPO: "x", LATTICE_KEY_FILE: "" });
    assert.equal(await program.ended, `exit code ${EXIT.usage}`);
    const lines = (await logOf("settings")).trim().split("\n");
    assert.equal(lines.length, 3, lines.join("\n"));
    for (const name of ["LATTICE_LISTEN", "LATTICE_TYPO", "LATTICE_KEY_FILE"]) {
      assert.equal(lines.filter((line) => line.startsWith(`unseal: ${name}: `)).length, 1);
    }
  });
});
