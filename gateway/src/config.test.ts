import assert from "node:assert/strict";
import { test } from "node:test";
import { SettingsProblems } from "@lattice/organism/node/settings.ts";
import { parseGatewaySettings } from "./config.ts";

const GOOD = {
  GATEWAY_LISTEN: "127.0.0.1:8545",
  GATEWAY_CHAIN_RPC: "http://127.0.0.1:8546",
  GATEWAY_DATA_DIR: "data",
  LATTICE_CONFIG_FILE: "config.hex",
  LATTICE_ROSTERS_FILE: "rosters.json",
  LATTICE_ENDPOINTS_FILE: "endpoints.json",
};

function problemsOf(environment: Record<string, string | undefined>): readonly string[] {
  try {
    parseGatewaySettings(environment);
    return [];
  } catch (error) {
    assert.ok(error instanceof SettingsProblems);
    return error.problems;
  }
}

test("good settings, with what is not ours beside them, and defaults for the rest", () => {
  const settings = parseGatewaySettings({ ...GOOD, PATH: "x", GATEWAY_DISCLOSURE: "" });
  assert.equal(settings.GATEWAY_CLIENTS, 4);
  assert.equal(settings.GATEWAY_DISCLOSURE, "hash");
});

test("a name that nobody knows is refused, with the nearest that somebody does", () => {
  assert.deepEqual(problemsOf({ ...GOOD, GATEWAY_DISCLOSUR: "nothing" }), [
    "GATEWAY_DISCLOSUR: unknown setting; did you mean GATEWAY_DISCLOSURE?",
  ]);
  assert.deepEqual(problemsOf({ ...GOOD, LATTICE_KEY_FILE: "x" }), ["LATTICE_KEY_FILE: unknown setting"]);
  assert.deepEqual(problemsOf({ ...GOOD, GATEWAYS: "x", RELAY_X: "x" }), []);
});

test("all problems at once; exactly one source of the config", () => {
  const { GATEWAY_LISTEN: _, ...rest } = GOOD;
  const problems = problemsOf({ ...rest, GATEWAY_CLIENTS: "0", LATTICE_CONFIG_HEX: "00", GATEWAY_X: "1" });
  assert.equal(problems.length, 4, problems.join("\n"));
  const { LATTICE_CONFIG_FILE: __, ...none } = GOOD;
  assert.deepEqual(problemsOf(none), ["LATTICE_CONFIG_HEX or LATTICE_CONFIG_FILE: exactly one of the two is needed"]);
});
