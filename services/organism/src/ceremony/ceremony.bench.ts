/**
 * Key generation 5-of-7 and its resharing to seven others, every participant in this one process: each deals, opens its
 * boxes and judges every message by itself, as seven processes would. Beside it noble's FROST key generation on the same
 * curve, which has no complaints, no encryption and no resharing. Run: `npm run bench -- ceremony`.
 */
import { randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import { createFROST } from "@noble/curves/abstract/frost.js";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { initCrypto } from "../crypto/engine.ts";
import { CeremonyDriver, freshPlan, people, range } from "../testing/ceremony-driver.ts";
import { resharing } from "../testing/resharing.ts";

const [N, T] = [7, 5];
const GENERATION_MS_MOST = 3000;
const RESHARING_MS_MOST = 2000;
const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));

export interface CeremonyBench {
  readonly name: "ceremony";
  readonly what: string;
  /** All seven participants' work together, ms. */
  readonly generationMs: readonly number[];
  readonly resharingMs: readonly number[];
  readonly frostMs: readonly number[];
  /** The longest that one step held one participant's thread, ms. */
  readonly longestStepMs: number;
  /** Bytes of one ceremony's log. */
  readonly generationLogBytes: number;
  readonly resharingLogBytes: number;
  /** The larger of median over allowance, generation and resharing. */
  readonly ratio: number;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const bytesOf = ({ log }: CeremonyDriver): number => log.reduce((sum, raw) => sum + raw.length, 0);

function timed<T>(into: number[], work: () => T): T {
  const start = performance.now();
  const result = work();
  into.push(performance.now() - start);
  return result;
}

function done(driver: CeremonyDriver): CeremonyDriver {
  const { attempt } = driver.run();
  if (attempt.phase !== "done") throw new Error(`the ceremony failed: ${attempt.failure}`);
  return driver;
}

function frostGeneration(): void {
  const frost = createFROST({ name: "FROST-BLS12381G1-BENCH", Point: bls12_381.G1.Point, hash: sha256 });
  const identifier = (index: number): string => frost.Identifier.fromNumber(index + 1);
  const first = range(N).map((index) => frost.DKG.round1(identifier(index), { min: T, max: N }));
  const others = (index: number) => first.flatMap((each, i) => (i === index ? [] : [each.public]));
  const second = first.map((each, index) => frost.DKG.round2(each.secret, others(index)));
  for (const [index, each] of first.entries()) {
    const received = second.flatMap((dealt, dealer) => {
      const to = dealt[identifier(index)];
      return dealer === index || to === undefined ? [] : [to];
    });
    frost.DKG.round3(each.secret, others(index), received);
  }
}

export async function bench(options: { readonly repeats?: number } = {}): Promise<CeremonyBench> {
  const { repeats = 5 } = options;
  await initCrypto();
  const [generationMs, resharingMs, frostMs]: [number[], number[], number[]] = [[], [], []];
  let longestStepMs = 0;
  let [generationLogBytes, resharingLogBytes] = [0, 0];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const persons = people(N, random);
    const generated = new CeremonyDriver(freshPlan(persons, { certificate: T }), persons, random);
    timed(generationMs, () => done(generated));
    const next = resharing(generated, range(N), people(N, random), {}, { holdersMin: N });
    const reshared = new CeremonyDriver(next.plan, next.persons, random);
    timed(resharingMs, () => done(reshared));
    timed(frostMs, frostGeneration);
    // The first run warms the engines up.
    if (repeat > 0) longestStepMs = Math.max(longestStepMs, generated.longestStepMs, reshared.longestStepMs);
    generationLogBytes = bytesOf(generated);
    resharingLogBytes = bytesOf(reshared);
  }
  return {
    name: "ceremony",
    what: `${T}-of-${N}, all participants in one process; resharing to ${N} others; peer: noble's FROST DKG`,
    generationMs,
    resharingMs,
    frostMs,
    longestStepMs,
    generationLogBytes,
    resharingLogBytes,
    ratio: Math.max(median(generationMs) / GENERATION_MS_MOST, median(resharingMs) / RESHARING_MS_MOST),
  };
}

if (import.meta.main) console.log(JSON.stringify(await bench(), undefined, 2));
