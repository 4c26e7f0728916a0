/** The dealer: a process that ends, and shares of which nobody but their member holds any. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { publicOf, recoverSecret } from "@lattice/organism/crypto/shamir.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem, readConfig, readKeyFile, readRosters } from "@lattice/organism/node/kit.ts";
import { choosePorts, Layout } from "../src/local/layout.ts";
import { DEALER_SCRIPT, memberEnvironment } from "../src/local/members.ts";

const MEMBERS = 3;
const scratch = mkdtempSync(join(tmpdir(), "lattice-dealer-"));
const directory = join(scratch, "lattice");
const parameters = {
  directory,
  name: "dealt",
  chainId: "31337",
  genesisMs: 1_790_000_000_000,
  slotMs: 4000,
  members: MEMBERS,
  settlement: "11".repeat(20),
};
const spawnDealer = (input: string) =>
  spawnSync(process.execPath, ["--disable-warning=ExperimentalWarning", DEALER_SCRIPT], { input, encoding: "utf8" });
const runDealer = (input: unknown) => spawnDealer(JSON.stringify(input));

before(async () => {
  await initCrypto();
  const result = runDealer(parameters);
  assert.equal(result.status, 0, result.stderr);
});
after(() => rmSync(scratch, { recursive: true, force: true }));

test("the dealer prints nothing secret, ends, and refuses to deal over an earlier deal", () => {
  const again = runDealer(parameters);
  assert.equal(again.status, EXIT.precondition);
  assert.match(again.stderr, /^dealer: .*lattice\.hex: exists already \(EEXIST\)\n$/);
  const printed = `${again.stdout}${again.stderr}`;
  for (const organism of ORGANISMS) {
    for (let index = 0; index < MEMBERS; index++) {
      const file = JSON.parse(
        readFileSync(join(directory, "members", `${organism}-${index}`, "key.json"), "utf8"),
      ) as Record<string, string>;
      assert.ok(!printed.includes(file["certificateShare"] ?? "?"));
    }
  }
});

test("wrong parameters are all named at once, with exit code 2", () => {
  const result = runDealer({ ...parameters, members: 2, settlement: "zz", surprise: 1 });
  assert.equal(result.status, 2);
  for (const name of ["members", "settlement", "surprise"]) assert.match(result.stderr, new RegExp(name));
});

test("parameters that make no lattice are one line each, with exit code 2", () => {
  for (const [input, line] of [
    [JSON.stringify({ ...parameters, name: "No Name" }), /^dealer: name: 1 to 64 of a-z/],
    [JSON.stringify({ ...parameters, chainId: "0" }), /^dealer: chainId: must be above 0/],
    ["", /^dealer: standard input: one JSON object/],
    ["{", /^dealer: standard input: one JSON object/],
  ] as const) {
    const result = spawnDealer(input);
    assert.equal(result.status, EXIT.usage);
    assert.match(result.stderr, line);
    assert.equal(result.stderr.trim().split("\n").length, 1, result.stderr);
  }
});

test("each key file is its owner's alone (0400) and holds one member's secrets; no secret stands in two places", () => {
  const seen = new Map<string, string>();
  for (const organism of ORGANISMS) {
    for (let index = 0; index < MEMBERS; index++) {
      const path = join(directory, "members", `${organism}-${index}`, "key.json");
      assert.equal(statSync(path).mode & 0o777, 0o400, path);
      const {
        index: own,
        organism: mine,
        ...secrets
      } = JSON.parse(readFileSync(path, "utf8")) as Record<string, string | number>;
      assert.equal(own, index);
      assert.equal(mine, organism);
      for (const [name, secret] of Object.entries(secrets)) {
        assert.equal(typeof secret, "string");
        assert.equal(
          seen.get(String(secret)),
          undefined,
          `${name} of ${path} stands in ${seen.get(String(secret))} too`,
        );
        seen.set(String(secret), path);
      }
    }
  }
  // Nothing outside the key files says a secret again.
  const elsewhere = ["lattice.hex", "rosters.json", "identity.json"]
    .map((name) => readFileSync(join(directory, name), "utf8"))
    .join("\n");
  for (const secret of seen.keys()) assert.ok(!elsewhere.includes(secret));
});

test("t shares give the key that the config pins, t - 1 do not, and every share fits its roster entry", () => {
  const config = readConfig(join(directory, "lattice.hex"));
  const rosters = readRosters(join(directory, "rosters.json"), config);
  for (const organism of ORGANISMS) {
    const shares = Array.from({ length: MEMBERS }, (_, index) => ({
      index,
      share: readKeyFile(join(directory, "members", `${organism}-${index}`, "key.json")).secrets.certificateShare,
    }));
    const { certificateKey } = config[organism].policy;
    assert.deepEqual(publicOf(recoverSecret(shares.slice(1))), certificateKey);
    assert.notDeepEqual(publicOf(recoverSecret(shares.slice(0, 1))), certificateKey);
    for (const { index, share } of shares)
      assert.deepEqual(publicOf(share), rosters[organism].members[index]?.certificateShare);
  }
});

test("a key file that others may read is refused", () => {
  const path = join(directory, "members", "unseal-0", "key.json");
  spawnSync("chmod", ["0440", path]);
  assert.throws(
    () => readKeyFile(path),
    (error: unknown) => error instanceof KitProblem && /mode 440/.test(error.message),
  );
  spawnSync("chmod", ["0400", path]);
});

test("a member process is told of one key file: its own", async () => {
  const layout = new Layout(directory);
  const ports = await choosePorts(MEMBERS, undefined);
  const folders = readdirSync(join(directory, "members"));
  for (const organism of ORGANISMS) {
    for (let index = 0; index < MEMBERS; index++) {
      const environment = memberEnvironment({ layout, ports, slotMs: 4000, logLevel: "info" }, organism, index);
      const named = folders.filter((folder) =>
        Object.values(environment).some((value) => value.includes(join("members", folder))),
      );
      assert.deepEqual(named, [`${organism}-${index}`]);
    }
  }
});
