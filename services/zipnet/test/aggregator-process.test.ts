/** The aggregator as a process: settings that are wrong are named, all at once; a right start serves and stops. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { committeeId, configToHex } from "@lattice/organism/identity/lattice-config.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { freePort } from "@lattice/organism/testing/free-port.ts";
import { AggregatorService } from "@lattice/proto/lattice/zipnet/v1/aggregator_service_pb.ts";
import { World } from "./world.ts";

const MAIN = fileURLToPath(new URL("../src/aggregator/aggregator-main.ts", import.meta.url));

function start(environment: Readonly<Record<string, string>>): { child: ChildProcess; stderr: () => string } {
  const child = spawn(process.execPath, [MAIN], { env: { ...environment }, stdio: ["ignore", "ignore", "pipe"] });
  let text = "";
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  return { child, stderr: () => text };
}

describe("aggregator-main", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "lattice-aggregator-"));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  test("every wrong setting is one readable line, and the exit code says so", async () => {
    const { child, stderr } = start({ LATTICE_CONFIG_HEX: "00", LATTICE_LISTEN: "nowhere", AGGREGATOR_TYPO: "1" });
    const [code] = await once(child, "close");
    assert.equal(code, 2);
    for (const name of ["LATTICE_DATA_DIR", "LATTICE_LISTEN", "AGGREGATOR_TYPO"])
      assert.match(stderr(), new RegExp(name));
    assert.doesNotMatch(stderr(), /at run/);
  });

  test("a config that is none is a precondition that failed", async () => {
    const { child, stderr } = start({
      LATTICE_CONFIG_HEX: "00",
      LATTICE_LISTEN: "127.0.0.1:0",
      LATTICE_DATA_DIR: join(directory, "none"),
      AGGREGATOR_SERVERS: "127.0.0.1:1",
    });
    const [code] = await once(child, "close");
    assert.equal(code, 5);
    assert.match(stderr(), /^zipnet-aggregator: lattice config/);
  });

  test("it serves, keeps its key at mode 400, and stops on SIGTERM", async () => {
    const { config } = new World();
    const port = await freePort();
    const data = join(directory, "data");
    const { child, stderr } = start({
      LATTICE_CONFIG_HEX: configToHex(config),
      LATTICE_LISTEN: `127.0.0.1:${port}`,
      LATTICE_DATA_DIR: data,
      AGGREGATOR_SERVERS: "127.0.0.1:1,127.0.0.1:1,127.0.0.1:1",
    });
    const client = connectService(AggregatorService, `127.0.0.1:${port}`, { committee: committeeId(config, "zipnet") });
    try {
      let round: Awaited<ReturnType<typeof client.getRound>> | undefined;
      while (round === undefined && child.exitCode === null) round = await client.getRound({}).catch(() => undefined);
      assert.equal(round?.aggregatorKey.length, 32, stderr());
      assert.equal((await stat(join(data, "aggregator.key"))).mode & 0o777, 0o400);
      await assert.rejects(client.submit({ envelope: new Uint8Array(3) }), { reason: "MALFORMED" });
    } finally {
      client.close();
      child.kill("SIGTERM");
    }
    const [code] = await once(child, "close");
    assert.equal(code, 0, stderr());
  });
});
