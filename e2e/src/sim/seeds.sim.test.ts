/** Seeds of the simulation that every change has to pass; more of them: `npm run sim -- --seeds 1000`. */
import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { describe, test } from "node:test";
import { BEHAVIOURS } from "./byzantine.ts";
import { logPlanOf, planOf, runSeeds, SeedThread } from "./pool.ts";
import { REGRESSIONS } from "./regressions.ts";
import type { SeedResult } from "./run-seed.ts";

/** Two and a half minutes on two processors. */
const SEEDS = 100;
const SLOTS = 12;
/** Of one committee. */
const LOG_SEEDS = 40;

function judge({ seed, slots, mode, broken }: SeedResult): void {
  const how = mode === "log" ? "--mode log" : `--slots ${slots}`;
  assert.equal(broken, undefined, `${broken?.checker}: ${broken?.message} (npm run sim -- --seed ${seed} ${how})`);
}

test("a seed replays byte for byte, in another thread too", async () => {
  const { options } = planOf(8, 8);
  const digests: string[] = [];
  for (let time = 0; time < 2; time++) {
    const thread = new SeedThread({ crypto: "fast" });
    for (let again = 0; again < 2; again++) digests.push((await thread.run(options)).digest);
    await thread.close();
  }
  assert.equal(new Set(digests).size, 1);
  const thread = new SeedThread({ crypto: "fast" });
  const other = await thread.run({ ...options, seed: 9 });
  await thread.close();
  assert.notEqual(other.digest, digests[0]);
});

test("without faults nothing is skipped that need not be", async () => {
  const thread = new SeedThread({ crypto: "fast" });
  const result = await thread.run({ seed: 1, slots: 20, mode: "calm", members: 3 });
  await thread.close();
  judge(result);
  for (const stage of ["zipnet/broadcast", "unseal/unsealed", "offer/auction", "atelier/candidate", "relay/accepted"]) {
    assert.ok((result.outcomes[`${stage} result`] ?? 0) >= 14, `${stage}: ${JSON.stringify(result.outcomes)}`);
  }
  assert.ok((result.outcomes["tally/attribution result"] ?? 0) >= 8, JSON.stringify(result.outcomes));
});

test(`${SEEDS} seeds, safety and liveness, one in twenty on real cryptography`, async () => {
  const acts = new Map<string, number>();
  let certified = 0;
  const seeds = Array.from({ length: SEEDS }, (_, at) => at + 1);
  await runSeeds(
    seeds,
    (seed) => planOf(seed, SLOTS),
    availableParallelism(),
    (result) => {
      judge(result);
      for (const [name, count] of Object.entries(result.acts)) acts.set(name, (acts.get(name) ?? 0) + count);
      for (const [name, count] of Object.entries(result.outcomes)) if (name.endsWith(" result")) certified += count;
    },
  );
  // A run in which little happened proves little.
  assert.ok(certified > SEEDS * 20, `${certified} results certified`);
  for (const behaviour of BEHAVIOURS) assert.ok(acts.has(`byzantine ${behaviour}`), `nobody did ${behaviour}`);
  for (const fault of ["kill", "isolated", "broker weather", "cut pairs", "clock", "network weather"]) {
    assert.ok(acts.has(`fault ${fault}`), `no ${fault}`);
  }
});

test("brokers that fork and forget, with a corrupt member on both sides", async () => {
  const acts = new Map<string, number>();
  await runSeeds(
    [27, 37],
    (seed) => planOf(seed, SLOTS),
    availableParallelism(),
    (result) => {
      judge(result);
      assert.equal(result.mode, "lying");
      for (const [name, count] of Object.entries(result.acts)) acts.set(name, (acts.get(name) ?? 0) + count);
    },
  );
  for (const act of ["broker fork", "broker rollback", "fatal LOG_FORKED", "fatal LOG_LOST"]) {
    assert.ok(acts.has(act), `no ${act}: ${[...acts.keys()].join(", ")}`);
  }
});

test(`${LOG_SEEDS} seeds of one committee whose log may lie, forget and be lost`, async () => {
  const acts = new Map<string, number>();
  const seeds = Array.from({ length: LOG_SEEDS }, (_, at) => at + 1);
  await runSeeds(seeds, logPlanOf, availableParallelism(), (result) => {
    judge(result);
    for (const [name, count] of Object.entries(result.acts)) acts.set(name, (acts.get(name) ?? 0) + count);
  });
  for (const act of ["fork", "rollback", "loss", "lost disk", "doubled process", "trimmed", "full disk", "power cut"]) {
    assert.ok(acts.has(`fault ${act}`), `no ${act}`);
  }
  for (const act of ["generation", "epoch ", "era", "byzantine lie-heads", "corrupt key blocked"]) {
    const done = [...acts.keys()];
    assert.ok(
      done.some((name) => name.startsWith(act)),
      `no ${act}: ${done.join(", ")}`,
    );
  }
});

describe("seeds that have found something", () => {
  for (const { seed, slots, found } of REGRESSIONS) {
    test(`seed ${seed}: ${found}`, async () => {
      const { crypto, options } = planOf(seed, slots);
      const thread = new SeedThread({ crypto });
      const result = await thread.run(options);
      await thread.close();
      judge(result);
    });
  }
});
