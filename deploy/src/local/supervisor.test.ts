import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { ManagedProcess } from "./processes.ts";
import { pauseBeforeRestartMs, Supervisor } from "./supervisor.ts";

let directory: string;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "lattice-supervisor-"));
});
after(() => rmSync(directory, { recursive: true, force: true }));

test("after 6 at once, after 1 with growing pauses where that is asked for, otherwise not at all", () => {
  const pause = (code: number | null, failures: number, persistent = true) =>
    pauseBeforeRestartMs(code, failures, persistent);
  assert.equal(pause(EXIT.again, 9), 0);
  assert.equal(pause(EXIT.again, 0, false), 0);
  assert.deepEqual(
    [0, 1, 2, 3, 9].map((failures) => pause(EXIT.failed, failures)),
    [2000, 4000, 8000, 16_000, 60_000],
  );
  assert.equal(pause(EXIT.failed, 0, false), undefined);
  for (const code of [EXIT.ok, EXIT.usage, EXIT.precondition, null]) assert.equal(pause(code, 0), undefined);
});

/** A process that ends with each of the codes in turn, then waits to be told to end. */
async function endingWith(name: string, codes: readonly number[]): Promise<ManagedProcess> {
  const script = join(directory, `${name}.mjs`);
  const runs = join(directory, `${name}.runs`);
  await writeFile(
    script,
    `import { appendFileSync, readFileSync } from "node:fs";
     appendFileSync(${JSON.stringify(runs)}, "x");
     const run = readFileSync(${JSON.stringify(runs)}, "utf8").length;
     const code = ${JSON.stringify(codes)}[run - 1];
     if (code !== undefined) process.exit(code);
     setInterval(() => {}, 1000);`,
  );
  return new ManagedProcess({ name, script, logFile: join(directory, `${name}.log`) });
}
const runsOf = (name: string): number => {
  const file = join(directory, `${name}.runs`);
  return existsSync(file) ? readFileSync(file, "utf8").length : 0;
};
async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 120_000;
  while (!holds()) {
    assert.ok(performance.now() < deadline, "it does not come");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test("whoever asks for it is started again; whoever waits stays down once everybody is released", async () => {
  const said: string[] = [];
  const supervisor = new Supervisor({ persistent: true, say: (line) => said.push(line) });
  const again = await endingWith("again", [EXIT.again]);
  const failing = await endingWith("failing", [EXIT.failed]);
  supervisor.watch(again);
  again.start();
  await until(() => runsOf("again") === 2);
  // Only then: whoever waits would be started again after two seconds.
  supervisor.watch(failing);
  failing.start();
  await until(() => said.some((line) => line.startsWith("failing ended by itself")));
  supervisor.release();
  assert.ok(again.running);
  await again.stop();
  assert.ok(!failing.running);
  assert.equal(runsOf("failing"), 1);
  assert.equal(said.filter((line) => /is started again/.test(line)).join(), "again is started again");
});
