import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { CeremonyProblem } from "../ceremony/member-folder.ts";
import { StewardMemory } from "./steward-memory.ts";

describe("what a steward remembers", () => {
  const directory = mkdtempSync(join(tmpdir(), "lattice-steward-memory-"));
  after(() => rmSync(directory, { recursive: true, force: true }));

  test("one ceremony for an epoch and its first slot, and which standbys it knew, over a restart", () => {
    const memory = new StewardMemory(directory);
    assert.ok(memory.mayBegin(3n, 64n, "aa"));
    memory.begin(3n, 64n, "aa");
    memory.remember("standby");
    const again = new StewardMemory(directory);
    assert.ok(again.mayBegin(3n, 64n, "aa"), "it goes on");
    assert.ok(!again.mayBegin(3n, 64n, "bb"), "nobody takes part in two");
    assert.ok(again.mayBegin(3n, 72n, "bb"), "the next slot is another matter");
    assert.ok(again.knows("standby") && !again.knows("another"));
    again.begin(3n, 72n, "bb");
    assert.ok(!new StewardMemory(directory).mayBegin(3n, 64n, "bb"), "nor later");
    again.begin(4n, 100n, "cc");
    assert.doesNotMatch(readFileSync(join(directory, "steward.json"), "utf8"), /"3\//, "what is over is forgotten");
  });

  test("what the disk does not take is not remembered, and is tried again", () => {
    const full = join(directory, "full");
    const memory = new StewardMemory(full);
    // Nothing can be written under this name now.
    mkdirSync(join(full, "steward.json.new"), { recursive: true });
    assert.throws(() => memory.begin(3n, 64n, "aa"));
    assert.throws(() => memory.begin(3n, 64n, "aa"), "it is not gone on with");
    assert.throws(() => memory.remember("standby"));
    assert.ok(!memory.knows("standby"));
    rmdirSync(join(full, "steward.json.new"));
    memory.begin(3n, 64n, "aa");
    memory.remember("standby");
    const again = new StewardMemory(full);
    assert.ok(!again.mayBegin(3n, 64n, "bb"));
    assert.ok(again.knows("standby"));
  });

  test("a damaged file is refused in one line, not taken for none", () => {
    writeFileSync(join(directory, "steward.json"), "{");
    assert.throws(
      () => new StewardMemory(directory),
      (error) => error instanceof CeremonyProblem && /steward.json is not JSON/.test(error.message),
    );
    writeFileSync(join(directory, "steward.json"), '{"version":2,"standbys":[],"begun":{}}');
    assert.throws(() => new StewardMemory(directory), CeremonyProblem);
  });
});
