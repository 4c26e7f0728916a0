/**
 * `npm run soak [-- --slots N] [--double] [--json]`: does anything grow? Three real members, their files, their journals, an embedded log that is
 * trimmed by the trimmer's rule, slots as fast as they go. What is kept by slots reaches its bound early: outcomes of 1,024
 * slots instead of 16,384. Samples are taken after a garbage collection; the slope is fitted over what comes after the first
 * 2,000. `--double` runs on the simulator's keyed double of the cryptography, several times as fast. Exit code 0 when state, log and heap are flat, else 1.
 */
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { EXIT } from "../src/node/exit.ts";
import { useFastCrypto } from "../src/testing/fast-crypto/hooks.ts";

const SAMPLES = 50;
/** Until everything that is bounded has reached its bound: outcomes of 1,024 slots, and the machine code. */
const WARM_UP_SLOTS = 2000;
const SAID_A_SLOT = 6;
const SAID_BYTES = 900;
const TRIM_EVERY = 16n;
/** Growth over the whole run that still counts as flat, of the mean: what a collection leaves behind varies by as much. */
const FLAT = 0.1;

interface Sample {
  readonly slot: number;
  readonly stateBytes: number;
  readonly logBytes: number;
  readonly heapBytes: number;
  readonly residentBytes: number;
  readonly diskBytes: number;
}
const MEASURED = ["stateBytes", "logBytes", "heapBytes", "residentBytes", "diskBytes"] as const;
/** The kernel gives back what it likes, and files are compacted in steps: shown, not judged. */
const JUDGED: readonly string[] = ["stateBytes", "logBytes", "heapBytes"];

async function folderBytes(folder: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const found = await stat(join(entry.parentPath, entry.name)).catch(() => undefined);
    sum += found?.size ?? 0;
  }
  return sum;
}

/** Least squares: growth per slot, and the mean. */
function line(points: readonly (readonly [slot: number, value: number])[]): {
  readonly slope: number;
  readonly mean: number;
} {
  const mean = (values: readonly number[]): number => values.reduce((sum, each) => sum + each, 0) / values.length;
  const [x, y] = [mean(points.map(([slot]) => slot)), mean(points.map(([, value]) => value))];
  const over = points.reduce((sum, [slot, value]) => sum + (slot - x) * (value - y), 0);
  return { slope: over / points.reduce((sum, [slot]) => sum + (slot - x) ** 2, 0), mean: y };
}

async function soak(slots: number, tell: (sample: Sample) => void): Promise<Sample[]> {
  setFlagsFromString("--expose-gc");
  const { initCrypto } = await import("../src/crypto/engine.ts");
  const { BlockCommittee } = await import("./block-committee.ts");
  const { dealCommittee } = await import("./test-lattice.ts");
  await initCrypto();
  const collect = runInNewContext("gc") as () => void;
  const directory = await mkdtemp(join(tmpdir(), "lattice-soak-"));
  const committee = await BlockCommittee.open({
    dealt: dealCommittee(3),
    directory,
    outcomes: { keptSlots: 1024n, segmentRecords: 256 },
    segmentMessages: 64,
  });
  const samples: Sample[] = [];
  // Always right behind a trim: the log fills up until the next one.
  const sampleEvery = TRIM_EVERY * BigInt(Math.max(1, Math.round(slots / SAMPLES / Number(TRIM_EVERY))));
  try {
    for (const index of [0, 1, 2]) await committee.start(index);
    for (let slot = 1n; slot <= slots; slot++) {
      await committee.say(SAID_A_SLOT, SAID_BYTES, SAID_A_SLOT);
      await committee.decide(slot);
      if (slot % TRIM_EVERY === 0n) await committee.trim();
      if (slot % sampleEvery !== 0n) continue;
      // Buffers go with the second: the first finds that nobody holds them.
      collect();
      await new Promise((resolve) => setImmediate(resolve));
      collect();
      const { heapUsed, external, rss } = process.memoryUsage();
      const sample: Sample = {
        slot: Number(slot),
        stateBytes: committee.meters.get(0)?.value("lattice_snapshot_bytes") ?? 0,
        logBytes: committee.log.usage.bytes,
        heapBytes: heapUsed + external,
        residentBytes: rss,
        diskBytes: await folderBytes(join(directory, "member-0")),
      };
      samples.push(sample);
      tell(sample);
    }
  } finally {
    await committee.close();
    await rm(directory, { recursive: true, force: true });
  }
  return samples;
}

const USAGE = "usage: npm run soak -- [--slots N] [--double] [--json]";

function readArguments() {
  try {
    return parseArgs({
      options: {
        slots: { type: "string", default: "10000" },
        double: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    // Node's advice on how to pass such a word as a positional helps nobody here.
    const [problem = ""] = (error instanceof Error ? error.message : String(error)).split(". ");
    process.stderr.write(`${problem}\n${USAGE}\n`);
    process.exit(EXIT.usage);
  }
}

const values = readArguments();
if (values.help) {
  process.stdout.write(`${USAGE}\n--double: on the simulator's cryptography. Exit code 1 when something grows.\n`);
  process.exit(EXIT.ok);
}
const slots = Number(values.slots);
if (!Number.isSafeInteger(slots) || slots < 2 * WARM_UP_SLOTS) {
  process.stderr.write(`soak: --slots: a number from ${2 * WARM_UP_SLOTS} on expected\n`);
  process.exit(EXIT.usage);
}
// Before anything that uses it is loaded.
if (values.double) useFastCrypto();
const startedAt = performance.now();
const mb = (bytes: number): string => (bytes / 1e6).toFixed(2);
const samples = await soak(slots, (sample) => {
  if (values.json) return;
  const shown = MEASURED.map((name) => `${name.replace("Bytes", "")} ${mb(sample[name])}`).join("  ");
  process.stdout.write(`slot ${sample.slot}  MB: ${shown}\n`);
});
const seconds = (performance.now() - startedAt) / 1000;
const later = samples.filter(({ slot }) => slot >= WARM_UP_SLOTS);
const trends = MEASURED.map((name) => {
  const { slope, mean } = line(later.map((sample) => [sample.slot, sample[name]]));
  const grown = (slope * slots) / mean;
  return { name, mean, bytesASlot: slope, grown, ...(JUDGED.includes(name) ? { flat: grown <= FLAT } : {}) };
});
if (values.json) process.stdout.write(`${JSON.stringify({ schema_version: 1, slots, seconds, samples, trends })}\n`);
else {
  process.stdout.write(`${slots} slots in ${seconds.toFixed(0)} s\n`);
  for (const { name, mean, bytesASlot, grown, flat } of trends) {
    const verdict = flat === undefined ? "" : flat ? "  flat" : "  GROWS";
    process.stdout.write(
      `${name.replace("Bytes", "").padEnd(9)} mean ${mb(mean)} MB, slope ${bytesASlot.toFixed(1)} bytes a slot (${(grown * 100).toFixed(1)} % over the run)${verdict}\n`,
    );
  }
}
process.exit(trends.every(({ flat }) => flat !== false) ? EXIT.ok : EXIT.failed);
