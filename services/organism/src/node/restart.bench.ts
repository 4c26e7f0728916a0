/**
 * A member process that was stopped comes back: 100,000 entries in its log, 1,000 of them after its newest snapshot. From the
 * start of the process until the member is ready; and of that, from opening its files. Beside it a Node process that loads
 * the same modules and ends, and the processor time that it took, which a crowded machine does not change. The log is the embedded one, opened by the same process: with a broker that part falls away.
 */
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { deserialize, serialize } from "node:v8";
import { BlockCommittee, type BlockOptions } from "../../test/block-committee.ts";
import { dealCommittee } from "../../test/test-lattice.ts";
import { initCrypto } from "../crypto/engine.ts";

const HISTORY_ENTRIES = 100_000;
const TAIL_ENTRIES = 1000;
const ENTRIES_A_SLOT = 2000;
const REPEATS = 5;
const AIM_MS = 2000;

/** Restarts a member in a process of its own. @returns ms from its spawn, and what it said */
async function restarted(argument: string): Promise<{ readonly ms: number; readonly said: Record<string, number> }> {
  const startedAt = performance.now();
  const child = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", fileURLToPath(import.meta.url), argument],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let out = "";
  let ms = Number.NaN;
  for await (const chunk of child.stdout) {
    if (Number.isNaN(ms)) ms = performance.now() - startedAt;
    out += String(chunk);
  }
  return { ms, said: JSON.parse(out) as Record<string, number> };
}

interface Restart {
  readonly options: BlockOptions;
}

async function restart({ options }: Restart): Promise<void> {
  await initCrypto();
  const openedAt = performance.now();
  const committee = await BlockCommittee.open(options);
  const logMs = performance.now() - openedAt;
  const member = await committee.start(0);
  if (!member.ready()) throw new Error("the member is not ready");
  const memberMs = performance.now() - openedAt - logMs;
  const { user, system } = process.cpuUsage();
  process.stdout.write(JSON.stringify({ logMs, memberMs, cpuMs: (user + system) / 1000 }));
  await committee.close();
  process.exit(0);
}

export async function bench() {
  await initCrypto();
  const directory = await mkdtemp(join(tmpdir(), "lattice-restart-bench-"));
  try {
    const options: BlockOptions = { dealt: dealCommittee(3), directory };
    const committee = await BlockCommittee.open(options);
    // Two are a quorum; the third would say nothing else.
    for (const index of [0, 1]) await committee.start(index);
    const historyAt = performance.now();
    for (let slot = 1n; committee.log.lastPosition < BigInt(HISTORY_ENTRIES - TAIL_ENTRIES - 100); slot++) {
      const left = HISTORY_ENTRIES - TAIL_ENTRIES - Number(committee.log.lastPosition);
      await committee.say(Math.min(ENTRIES_A_SLOT, left), 256, 200);
      await committee.decide(slot);
    }
    const savedPosition = (): bigint => BigInt(committee.meters.get(0)?.value("lattice_snapshot_position") ?? 0);
    // To just behind a checkpoint, and as far from it as asked.
    const before = savedPosition();
    await committee.until("another checkpoint", async () => {
      await committee.say(16, 256);
      return savedPosition() > before;
    });
    const saved = savedPosition();
    while (committee.log.lastPosition < saved + BigInt(TAIL_ENTRIES)) await committee.say(1, 256);
    const historySeconds = (performance.now() - historyAt) / 1000;
    const entries = Number(committee.log.lastPosition);
    const { nowMs } = committee;
    await committee.close();

    const argument = serialize({ options: { ...options, nowMs } } satisfies Restart).toString("base64");
    const readyMs: number[] = [];
    const logMs: number[] = [];
    const memberMs: number[] = [];
    const cpuMs: number[] = [];
    const loadedMs: number[] = [];
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      const { ms, said } = await restarted(argument);
      readyMs.push(ms);
      logMs.push(said["logMs"] ?? Number.NaN);
      memberMs.push(said["memberMs"] ?? Number.NaN);
      cpuMs.push(said["cpuMs"] ?? Number.NaN);
      loadedMs.push((await restarted("load")).ms);
    }
    return {
      name: "restart",
      peer: "a Node process that loads the same modules",
      entries,
      afterTheSnapshot: entries - Number(saved),
      historySeconds,
      readyMs,
      ofThatOpeningTheLogMs: logMs,
      ofThatTheMemberMs: memberMs,
      processorMs: cpuMs,
      loadedMs,
      ratio: median(readyMs) / AIM_MS,
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

if (import.meta.main) {
  const [, , argument] = process.argv;
  if (argument === undefined) console.log(JSON.stringify(await bench(), undefined, 2));
  else if (argument === "load") {
    await initCrypto();
    process.stdout.write("{}");
  } else await restart(deserialize(Buffer.from(argument, "base64")) as Restart);
}
