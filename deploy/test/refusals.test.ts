/**
 * What keeps a process from starting is one line for its operator and an exit code, whichever process it is: a file that is
 * missing, of another kind or open to others, a folder that cannot be made, an address that is none.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { BUILDER } from "../src/ceremony/local-ceremony.ts";
import { deal } from "../src/dealer/deal.ts";
import { choosePorts, Layout, type Ports } from "../src/local/layout.ts";
import {
  AGGREGATOR_SCRIPT,
  aggregatorEnvironment,
  GATEWAY_SCRIPT,
  gatewayEnvironment,
  KEEPER_SCRIPT,
  keeperEnvironment,
  memberEnvironment,
  memberScript,
  SEQUENCER_SCRIPT,
  STEWARD_SCRIPT,
  sequencerEnvironment,
  TRIMMER_SCRIPT,
  trimmerEnvironment,
} from "../src/local/members.ts";

const WATCH_SCRIPT = fileURLToPath(new URL("../src/container/watch-main.ts", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "lattice-refusals-"));
const layout = new Layout(join(scratch, "lattice"));
const path = (name: string): string => join(scratch, name);
after(() => rmSync(scratch, { recursive: true, force: true }));

type Environment = Readonly<Record<string, string>>;

function run(
  script: string,
  environment: Environment,
  args: readonly string[] = [],
): Promise<{ code: number | null; said: string[] }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", script, ...args], {
      env: { PATH: process.env["PATH"], ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let problems = "";
    child.stdout.resume();
    child.stderr.on("data", (data: Buffer) => {
      problems += data.toString();
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, said: problems.trim().split("\n") }));
  });
}

describe("a process that cannot start says why in one line", () => {
  let ports: Ports;
  before(async () => {
    await initCrypto();
    const genesisMs = Date.now();
    const settlement = new Uint8Array(20);
    deal(layout.directory, { name: "refusals", chainId: 31_337n, genesisMs, slotMs: 4000, members: 3, settlement });
    ports = await choosePorts(3, undefined);
    layout.savePorts(ports);
    writeFileSync(path("file"), "{}");
    writeFileSync(path("private"), "{}", { mode: 0o400 });
    writeFileSync(path("garbage"), "no JSON", { mode: 0o400 });
    writeFileSync(path("nats.json"), JSON.stringify(credential), { mode: 0o400 });
    writeFileSync(path("searcher.json"), JSON.stringify({ secret: "11".repeat(32) }), { mode: 0o400 });
    chmodSync(path("file"), 0o644);
  });
  const credential = { user: "u", password: "p", stream: "S", subject: "s", inboxPrefix: "i" };
  const options = () => ({ layout, ports, slotMs: 4000, logLevel: "info" });
  const gateway = (): Environment => ({
    ...gatewayEnvironment(options()),
    GATEWAY_SEARCHER_KEY_FILE: path("searcher.json"),
  });
  const trimmer = (): Environment => trimmerEnvironment(options());
  const keeper = (): Environment => keeperEnvironment(options());
  const member = (): Environment => ({
    ...memberEnvironment(options(), "unseal", 0),
    LATTICE_NATS_CREDENTIALS_FILE: path("nats.json"),
  });
  const watch = (): Environment => ({
    LATTICE_CONFIG_FILE: layout.config,
    LATTICE_ROSTERS_FILE: layout.rosters,
    LATTICE_ENDPOINTS_FILE: layout.endpoints,
  });
  const steward = (): Environment => ({
    STEWARD_CONFIG_FILE: layout.config,
    STEWARD_ENDPOINTS_FILE: layout.endpoints,
    STEWARD_ORGANISM: "unseal",
    STEWARD_MEMBER_DIR: layout.member("unseal", 0),
    STEWARD_STATE_DIR: path("steward"),
    STEWARD_NATS_SERVERS: "nats://127.0.0.1:1",
    STEWARD_CREDENTIALS_FILE: path("nats.json"),
  });

  const cases: readonly [what: string, script: string, () => Environment, number, RegExp][] = [
    [
      "member: a data folder below a file",
      memberScript("unseal"),
      () => ({ ...member(), LATTICE_DATA_DIR: path("file/data") }),
      EXIT.precondition,
      /^unseal: .*ENOTDIR/,
    ],
    [
      "member: another organism's key",
      memberScript("unseal"),
      () => ({ ...member(), LATTICE_KEY_FILE: layout.key("offer", 0) }),
      EXIT.precondition,
      /^unseal: key file: belongs to offer/,
    ],
    [
      "gateway: a data folder below a file",
      GATEWAY_SCRIPT,
      () => ({ ...gateway(), GATEWAY_DATA_DIR: path("file/data") }),
      EXIT.precondition,
      /^gateway: .*ENOTDIR/,
    ],
    [
      "gateway: a searcher's key that is none",
      GATEWAY_SCRIPT,
      () => ({ ...gateway(), GATEWAY_SEARCHER_KEY_FILE: path("garbage") }),
      EXIT.precondition,
      /^gateway: /,
    ],
    [
      "aggregator: a data folder below a file",
      AGGREGATOR_SCRIPT,
      () => ({ ...aggregatorEnvironment(options()), LATTICE_DATA_DIR: path("file/data") }),
      EXIT.precondition,
      /^zipnet-aggregator: .*ENOTDIR/,
    ],
    [
      "trimmer: no credentials",
      TRIMMER_SCRIPT,
      () => ({ ...trimmer(), TRIMMER_CREDENTIALS_FILE: path("absent") }),
      EXIT.precondition,
      /^trimmer: TRIMMER_CREDENTIALS_FILE: cannot read .*absent: ENOENT$/,
    ],
    [
      "trimmer: credentials that others may read",
      TRIMMER_SCRIPT,
      () => ({ ...trimmer(), TRIMMER_CREDENTIALS_FILE: path("file") }),
      EXIT.precondition,
      /^trimmer: TRIMMER_CREDENTIALS_FILE is open to others/,
    ],
    [
      "trimmer: a member's credential instead of the trimmer's by organism",
      TRIMMER_SCRIPT,
      () => ({ ...trimmer(), TRIMMER_CREDENTIALS_FILE: path("nats.json") }),
      EXIT.precondition,
      /^trimmer: TRIMMER_CREDENTIALS_FILE: .*nats\.json: /,
    ],
    [
      "trimmer: credentials for nobody",
      TRIMMER_SCRIPT,
      () => ({ ...trimmer(), TRIMMER_CREDENTIALS_FILE: path("private") }),
      EXIT.precondition,
      /^trimmer: TRIMMER_CREDENTIALS_FILE: .*one organism at least expected/,
    ],
    [
      "stream keeper: administrators that are no JSON",
      KEEPER_SCRIPT,
      () => ({ ...keeper(), KEEPER_ADMINS_FILE: path("garbage") }),
      EXIT.precondition,
      /^stream-keeper: KEEPER_ADMINS_FILE: .*garbage is not JSON$/,
    ],
    [
      "watch: a config that is not there",
      WATCH_SCRIPT,
      () => ({ ...watch(), LATTICE_CONFIG_FILE: path("absent") }),
      EXIT.precondition,
      /^watch: lattice config: cannot read .*absent: ENOENT$/,
    ],
    [
      "watch: endpoints that are no JSON",
      WATCH_SCRIPT,
      () => ({ ...watch(), LATTICE_ENDPOINTS_FILE: path("garbage") }),
      EXIT.precondition,
      /^watch: endpoints: .*garbage is not JSON$/,
    ],
    [
      "steward: a credential that is not there",
      STEWARD_SCRIPT,
      () => ({ ...steward(), STEWARD_CREDENTIALS_FILE: path("absent") }),
      EXIT.precondition,
      /^steward: .*absent/,
    ],
    [
      "sequencer: a config that is not there",
      SEQUENCER_SCRIPT,
      () => ({ ...sequencerEnvironment(options()), SEQUENCER_LATTICE_CONFIG_FILE: path("absent") }),
      EXIT.usage,
      /^sequencer: /,
    ],
  ];
  test("a kit's rosters are judged, and who could not be asked is named", async () => {
    const other = new Layout(path("other"));
    const settlement = new Uint8Array(20);
    const profile = { name: "other", chainId: 31_337n, genesisMs: Date.now(), slotMs: 4000, members: 3, settlement };
    deal(other.directory, profile);
    const given = ["--config", layout.config, "--endpoints", layout.endpoints, "--out", path("rosters.new.json")];
    const kit = (rosters: string) => run(BUILDER, {}, ["roster", "kit", ...given, "--rosters", rosters]);
    const foreign = await kit(other.rosters);
    assert.equal(foreign.code, EXIT.precondition);
    assert.match(foreign.said.join(), /^roster of zipnet: certified for another committee/);
    assert.ok(!existsSync(path("rosters.new.json")));
    const alone = await kit(layout.rosters);
    assert.equal(alone.code, EXIT.degraded);
    assert.equal(alone.said.length, 6, alone.said.join("\n"));
    assert.match(alone.said[0] ?? "", /^zipnet: 0 of 3 members answered, 1 are needed: an era may be missing$/);
    assert.equal(readFileSync(path("rosters.new.json"), "utf8"), readFileSync(layout.rosters, "utf8"));
  });

  for (const [what, script, environment, code, line] of cases) {
    test(what, async () => {
      const ended = await run(script, environment());
      assert.equal(ended.code, code, ended.said.join("\n"));
      assert.match(ended.said.at(-1) ?? "", line);
      assert.ok(!ended.said.some((each) => /^\s+at /.test(each)), ended.said.join("\n"));
    });
  }
});
