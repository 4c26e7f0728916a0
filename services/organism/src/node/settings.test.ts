import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { z } from "zod";
import {
  parseEnvironmentFile,
  parseOwnSettings,
  parseSettings,
  SettingsProblems,
  SHARED_SETTINGS,
} from "./settings.ts";

const GOOD = {
  LATTICE_CONFIG_HEX: "00",
  LATTICE_ROSTERS_FILE: "rosters",
  LATTICE_ENDPOINTS_FILE: "endpoints",
  LATTICE_KEY_FILE: "key",
  LATTICE_DATA_DIR: "data",
  LATTICE_LISTEN: "127.0.0.1:7000",
  LATTICE_NATS_SERVERS: "nats://127.0.0.1:4222",
  LATTICE_NATS_CREDENTIALS_FILE: "credentials",
} as const;
const OWN = z.object({
  RELAY_RETRIES: z.coerce.number().int().min(1).default(3),
  RELAY_URL: z.url().optional(),
});
const SECRET = "hunter2-never-shown";

function problemsOf(environment: Readonly<Record<string, string | undefined>>): readonly string[] {
  try {
    parseSettings(environment, "relay", OWN);
  } catch (error) {
    assert.ok(error instanceof SettingsProblems);
    assert.ok(!error.message.includes(SECRET), error.message);
    return error.problems;
  }
  return [];
}

describe("settings", () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "lattice-settings-"));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));
  const file = (text: string): string => {
    const path = join(directory, "member.env");
    writeFileSync(path, text);
    return path;
  };

  test("are read, defaults filled in, and cannot be changed afterwards", () => {
    const { shared, own } = parseSettings({ ...GOOD, PATH: "/bin", OTHER: "x" }, "relay", OWN);
    assert.equal(shared.LATTICE_LISTEN, GOOD.LATTICE_LISTEN);
    assert.equal(shared.LATTICE_LOG_LEVEL, "info");
    assert.deepEqual(own, { RELAY_RETRIES: 3 });
    assert.ok(Object.isFrozen(shared) && Object.isFrozen(own));
  });

  test("every problem is named at once, shared and own, and no value is shown", () => {
    const problems = problemsOf({
      LATTICE_CONFIG_HEX: SECRET,
      LATTICE_ROSTERS_FILE: "rosters",
      LATTICE_LISTEN: SECRET,
      LATTICE_METRICS_LISTEN: SECRET,
      LATTICE_CHAIN_ID: SECRET,
      LATTICE_NATS_MONITOR_URL: SECRET,
      LATTICE_LOG_LEVEL: SECRET,
      LATTICE_KEYFILE: SECRET,
      RELAY_RETRIES: SECRET,
      RELAY_URL: SECRET,
      RELAY_TYPO: SECRET,
    });
    for (const name of [
      "LATTICE_ENDPOINTS_FILE",
      "LATTICE_KEY_FILE",
      "LATTICE_DATA_DIR",
      "LATTICE_NATS_SERVERS",
      "LATTICE_NATS_CREDENTIALS_FILE",
      "LATTICE_LISTEN",
      "LATTICE_METRICS_LISTEN",
      "LATTICE_CHAIN_ID",
      "LATTICE_NATS_MONITOR_URL",
      "LATTICE_LOG_LEVEL",
      "LATTICE_KEYFILE",
      "RELAY_RETRIES",
      "RELAY_URL",
      "RELAY_TYPO",
    ]) {
      assert.equal(problems.filter((problem) => problem.startsWith(`${name}: `)).length, 1, `${name} in ${problems}`);
    }
    assert.equal(problems.length, 14);
  });

  test("each wrong one is refused beside the nearest right one", () => {
    for (const [name, right, wrong] of [
      ["LATTICE_LISTEN", "127.0.0.1:1", "127.0.0.1"],
      ["LATTICE_LISTEN", "host:65535", "host:65536"],
      ["LATTICE_LISTEN", "host:0", "host:"],
      ["LATTICE_LISTEN", "host:1", "a:b:1"],
      ["LATTICE_CHAIN_ID", "1", "1.5"],
      ["LATTICE_LOG_LEVEL", "warn", "WARN"],
      ["LATTICE_NATS_MONITOR_URL", "http://127.0.0.1:8222", "127.0.0.1"],
      ["RELAY_RETRIES", "1", "0"],
    ] as const) {
      assert.deepEqual(problemsOf({ ...GOOD, [name]: right }), [], `${name}=${right}`);
      assert.equal(problemsOf({ ...GOOD, [name]: wrong }).length, 1, `${name}=${wrong}`);
    }
  });

  test("a name of ours that nobody knows is a problem, anybody else's is not", () => {
    assert.deepEqual(problemsOf({ ...GOOD, LATTICE_DATADIR: "x" }), [
      "LATTICE_DATADIR: unknown setting; did you mean LATTICE_DATA_DIR?",
    ]);
    assert.deepEqual(problemsOf({ ...GOOD, RELAY_RETRY: "1" }), [
      "RELAY_RETRY: unknown setting; did you mean RELAY_RETRIES?",
    ]);
    assert.deepEqual(problemsOf({ ...GOOD, TALLY_RETRY: "1", MY_LATTICE_DATADIR: "x", LATTICE_VECTORS: "x" }), []);
  });

  test("an empty value is no value", () => {
    assert.deepEqual(problemsOf({ ...GOOD, LATTICE_METRICS_LISTEN: "", RELAY_RETRIES: "" }), []);
    assert.equal(problemsOf({ ...GOOD, LATTICE_DATA_DIR: "" }).length, 1);
  });

  test("a file completes the environment, which wins; a file that cannot be read is a problem among others", () => {
    const path = file("# comment\n\n  LATTICE_DATA_DIR=from-file\nRELAY_RETRIES=9\nLATTICE_KEY_FILE=a=b\n");
    const { LATTICE_DATA_DIR: _, LATTICE_KEY_FILE: __, ...rest } = GOOD;
    const { shared, own } = parseSettings({ ...rest, LATTICE_ENV_FILE: path, RELAY_RETRIES: "5" }, "relay", OWN);
    assert.equal(shared.LATTICE_DATA_DIR, "from-file");
    assert.equal(shared.LATTICE_KEY_FILE, "a=b");
    assert.equal(own.RELAY_RETRIES, 5);
    const problems = problemsOf({ ...rest, LATTICE_ENV_FILE: join(directory, "absent") });
    assert.equal(problems.length, 3);
    assert.ok(problems.includes("LATTICE_ENV_FILE: cannot be read"));
    assert.deepEqual(problemsOf({ ...rest, LATTICE_ENV_FILE: file("LATTICE_TYPO=1\nLATTICE_DATA_DIR=d\n") }), [
      "LATTICE_TYPO: unknown setting",
      "LATTICE_KEY_FILE: Invalid input: expected string, received undefined",
    ]);
  });

  test("lines that are no settings are passed over", () => {
    assert.deepEqual(parseEnvironmentFile("A=1\r\n=x\nno\n#B=2\n C = 3 \nD="), { A: "1", C: " 3", D: "" });
  });

  test("every shared setting says what it is for", () => {
    for (const [name, schema] of Object.entries(SHARED_SETTINGS.shape)) assert.ok(schema.description, name);
  });
});

test("a process beside the members reads its own prefix alone, and says in one line what is wrong", () => {
  const schema = z.object({
    KEEPER_FILE: z.string(),
    KEEPER_EVERY_MS: z.coerce.number().int().min(500).default(3000),
  });
  const others = { PATH: "/bin", LATTICE_NAME: "x", KEEPER_EVERY_MS: "" };
  assert.deepEqual(parseOwnSettings({ ...others, KEEPER_FILE: "a" }, "KEEPER_", schema), {
    KEEPER_FILE: "a",
    KEEPER_EVERY_MS: 3000,
  });
  const refused = (environment: Record<string, string>, expected: RegExp): void => {
    assert.throws(
      () => parseOwnSettings(environment, "KEEPER_", schema),
      (error) => error instanceof SettingsProblems && expected.test(error.message) && !error.message.includes("\n"),
    );
  };
  refused(others, /^settings: KEEPER_FILE: /);
  refused({ KEEPER_FILE: "a", KEEPER_EVERY_MS: "499" }, /KEEPER_EVERY_MS: /);
  refused(
    { KEEPER_FILE: "a", KEEPER_EVRY_MS: "500" },
    /KEEPER_EVRY_MS: unknown setting; did you mean KEEPER_EVERY_MS\?/,
  );
});
