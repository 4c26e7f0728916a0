/** The operator's command line as its user meets it: help of every command, wrong words, files that are not there. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { RULES, RulesUnknown } from "@lattice/organism/committee/rules.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import type { Command } from "commander";
import { expectedProblem } from "./expected.ts";
import { makeProgram } from "./program.ts";
import { writeWhole } from "./whole-file.ts";

const MAIN = join(dirname(fileURLToPath(import.meta.url)), "main.ts");
const scratch = mkdtempSync(join(tmpdir(), "lattice-builder-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const path = (name: string): string => join(scratch, name);

function builder(...args: string[]): Promise<{ code: number | null; out: string; said: string[] }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let out = "";
    let problems = "";
    child.stdout.on("data", (data: Buffer) => {
      out += data.toString();
    });
    child.stderr.on("data", (data: Buffer) => {
      problems += data.toString();
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out, said: problems.trim().split("\n") }));
  });
}

describe("builder", () => {
  test("each command has its help", () => {
    const seen: string[] = [];
    const look = (command: Command, name: string): void => {
      assert.match(command.helpInformation(), new RegExp(`^Usage: ${name} `), name);
      seen.push(name);
      for (const child of command.commands) look(child, `${name} ${child.name()}`);
    };
    look(makeProgram(), "builder");
    for (const name of ["builder roster propose", "builder guest ticket", "builder ceremony abort"]) {
      assert.ok(seen.includes(name), name);
    }
  });

  const given = ["--config", path("absent.hex"), "--endpoints", path("absent.json")];
  writeFileSync(path("other.json"), '{"a": 1, "b": 2, "c": 3, "d": 4}');
  const wrong: readonly [string, readonly string[], number, RegExp][] = [
    ["an unknown command", ["rooster"], EXIT.usage, /unknown command 'rooster' \(Did you mean roster\?\) \(--help/],
    ["an argument of the wrong kind", ["roster", "propose", "--replace", "x"], EXIT.usage, /--replace.*index expected/],
    [
      "two kinds of change at once",
      ["roster", "propose", ...given, "--organism", "unseal", "--refresh", "--drop", "--out", path("s")],
      EXIT.usage,
      /^one of: --with/,
    ],
    [
      "a config that is not there",
      ["roster", "show", ...given, "--organism", "unseal"],
      EXIT.precondition,
      /^lattice config: cannot read .*absent\.hex: ENOENT$/,
    ],
    [
      "eras more often than the refreshes that begin them",
      ["local", "up", "--era-every-slots", "899"],
      EXIT.usage,
      /^--era-every-slots: eras begin with refreshes, 900 or more expected$/,
    ],
    ["no such organism", ["fraud", "fetch", ...given, "--organism", "unzeal"], EXIT.usage, /--organism.*one of zipnet/],
    [
      "proofs by a config that is not there",
      ["fraud", "fetch", ...given, "--organism", "unseal"],
      EXIT.precondition,
      /^lattice config: cannot read .*absent\.hex: ENOENT$/,
    ],
    [
      "a folder below a file",
      ["ceremony", "member", "--organism", "unseal", "--directory", path("other.json/new")],
      EXIT.precondition,
      /other\.json.*is not a folder \(ENOTDIR\)$/,
    ],
    [
      "a folder where none can be made",
      ["ceremony", "member", "--organism", "unseal", "--directory", "/proc/lattice/new"],
      EXIT.precondition,
      /^\/proc.*: .*\(E[A-Z]+\)$/,
    ],
    [
      "a local lattice where no folder can be made",
      ["local", "up", "--embedded", "--directory", "/proc/lattice/new"],
      EXIT.precondition,
      /^\/proc.*: .*\(E[A-Z]+\)$/,
    ],
    [
      "a file of another kind",
      ["roster", "status", "--succession", path("other.json"), "--endpoints", path("absent.json")],
      EXIT.precondition,
      /^succession file: .*other\.json: version: .*; and \d+ more$/,
    ],
    [
      "keys to keep that are not there",
      ["ceremony", "member", "--organism", "tally", "--directory", path("new"), "--keep", path("relay-key.json")],
      EXIT.precondition,
      /^key file: .*relay-key\.json: made for relay, not for tally$/,
    ],
  ];
  writeFileSync(path("relay-key.json"), '{"organism": "relay", "index": 0}');
  for (const [name, args, code, line] of wrong) {
    test(`${name}: one line, exit code ${code}`, async () => {
      const run = await builder(...args);
      assert.equal(run.code, code, run.said.join("\n"));
      assert.equal(run.said.length, 1, run.said.join("\n"));
      assert.match(run.said[0] ?? "", line);
      assert.equal(run.out, "");
    });
  }

  test("whoever reads no further is no error", async () => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, "roster", "--help"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout.destroy();
    let said = "";
    child.stderr.on("data", (data: Buffer) => {
      said += data.toString();
    });
    assert.equal(await new Promise((resolve) => child.on("close", resolve)), EXIT.ok);
    assert.equal(said, "");
  });
});

describe("what may go wrong", () => {
  test("a defect is not taken for it", () => {
    assert.equal(expectedProblem(new TypeError("undefined is not a function")), undefined);
    assert.equal(expectedProblem("a word"), undefined);
    assert.equal(expectedProblem(new KitProblem("no"))?.code, EXIT.precondition);
    const unknown = expectedProblem(new RulesUnknown(RULES.highest + 1, RULES, 7n));
    assert.equal(unknown?.code, EXIT.precondition);
    assert.match(unknown?.line ?? "", /govern from position 7 on, .*: install one that speaks/);
  });

  test("a full disk is said with the file's name, and leaves no half of it", () => {
    const full = Object.assign(new Error("ENOSPC: no space left on device, write"), {
      code: "ENOSPC",
      syscall: "write",
      path: "/disk/succession.json",
    });
    const { line, code } = expectedProblem(full) ?? { line: "", code: 0 };
    assert.equal(line, "/disk/succession.json: no space left on the disk (ENOSPC)");
    assert.equal(code, EXIT.precondition);
  });

  test("a file is written whole, and a new one over no other", () => {
    writeWhole(path("whole"), "first");
    writeWhole(path("whole"), "second");
    assert.equal(readFileSync(path("whole"), "utf8"), "second");
    assert.throws(() => writeWhole(path("whole"), "third", 0o400, "new"), /EEXIST/);
    assert.equal(readFileSync(path("whole"), "utf8"), "second");
    const before = readdirSync(scratch);
    assert.throws(() => writeWhole(path("other.json/x"), "no"), /ENOTDIR/);
    // A folder stands where the file should go: what was written beside it is removed again.
    assert.throws(() => writeWhole(scratch, "no"), /EISDIR|ENOTEMPTY|EEXIST|EBUSY/);
    assert.deepEqual(readdirSync(scratch), before);
    assert.deepEqual(
      readdirSync(dirname(scratch)).filter((name) => name.startsWith(`${scratch.slice(dirname(scratch).length + 1)}.`)),
      [],
    );
    assert.ok(existsSync(scratch));
  });
});
