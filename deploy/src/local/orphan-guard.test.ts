import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";

const directory = mkdtempSync(join(tmpdir(), "lattice-guard-"));
after(() => rmSync(directory, { recursive: true, force: true }));

/** Starts a child as members are started, one as nats-server is, and one that ends at once; prints their process ids. */
const RUNNER = (guarded: boolean): string => `
  import { guardOrphans } from ${JSON.stringify(import.meta.resolve("./orphan-guard.ts"))};
  import { ManagedProcess } from ${JSON.stringify(import.meta.resolve("./processes.ts"))};
  import { Program } from ${JSON.stringify(import.meta.resolve("../chain/child-process.ts"))};
  const guard = ${guarded} ? guardOrphans() : undefined;
  const log = (name) => ${JSON.stringify(directory)} + "/" + name;
  const member = new ManagedProcess({ name: "member", script: log("member.mjs"), logFile: log("member.log") });
  member.start();
  const stubborn = await Program.start({ name: "stubborn", command: "/bin/sh", args: ["-c", "trap '' TERM; while :; do sleep 1; done"], logFile: log("stubborn.log") });
  const short = await Program.start({ name: "short", command: "/bin/sh", args: ["-c", ":"], logFile: log("short.log") });
  await short.ended;
  console.log(JSON.stringify({ guard, member: member.pid, stubborn: stubborn.pid }));
  process.stdin.resume();
`;

function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

async function started(guarded: boolean): Promise<{ runner: ChildProcess; pids: Record<string, number> }> {
  writeFileSync(join(directory, "member.mjs"), "setInterval(() => undefined, 1000);\n");
  const runner = spawn(process.execPath, ["--input-type=module", "--eval", RUNNER(guarded)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const [line] = await once(createInterface(runner.stdout), "line");
  return { runner, pids: JSON.parse(String(line)) };
}

const gone = async (pids: readonly number[]): Promise<void> => {
  while (pids.some(isRunning)) await new Promise((resolve) => setTimeout(resolve, 100));
};

test("whoever is killed with -9 leaves nobody behind, the guard included", { timeout: 300_000 }, async () => {
  const { runner, pids } = await started(true);
  assert.ok(Object.values(pids).every(isRunning));
  runner.kill("SIGKILL");
  await gone(Object.values(pids));
});

test("without the guard they stay", { timeout: 300_000 }, async () => {
  const { runner, pids } = await started(false);
  runner.kill("SIGKILL");
  await once(runner, "exit");
  const { member = 0, stubborn = 0 } = pids;
  assert.ok(isRunning(member) && isRunning(stubborn));
  for (const pid of [member, stubborn]) process.kill(pid, "SIGKILL");
  await gone([member, stubborn]);
});

test("the guard keeps nobody who ends by itself, and ends with it", { timeout: 300_000 }, async () => {
  const { runner, pids } = await started(true);
  const { guard = 0, member = 0, stubborn = 0 } = pids;
  for (const pid of [member, stubborn]) process.kill(pid, "SIGKILL");
  runner.stdin?.end();
  const [code] = await once(runner, "exit");
  assert.equal(code, 0);
  await gone([guard]);
});
