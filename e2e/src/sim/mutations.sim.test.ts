/** Each checker is able to fail: every deliberately broken build is caught, by the checker that is there for it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { makeCheckers } from "./checkers/all.ts";
import { editProblems, MUTATIONS } from "./mutations.ts";
import { SeedThread } from "./pool.ts";

/** Said by the simulation itself, not by a checker. */
const OWN = ["it comes back", "no honest member stops"];
/** A crash ends a run whatever the reason: nothing has to be broken on purpose to see that it is told. */
const names = [...makeCheckers().all.map(({ name }) => name), ...OWN];

test("every checker has a broken build that it must catch", () => {
  const caught = new Set(MUTATIONS.map(({ caughtBy }) => caughtBy));
  assert.deepEqual(
    [...new Set(names)].filter((name) => !caught.has(name)),
    [],
  );
  for (const { name, caughtBy } of MUTATIONS) assert.ok(names.includes(caughtBy), `${name}: no checker ${caughtBy}`);
});

test("every edit changes exactly one place of the source", () => {
  assert.deepEqual(MUTATIONS.flatMap(editProblems), []);
});

describe("broken builds", { concurrency: 2 }, () => {
  for (const mutation of MUTATIONS) {
    test(mutation.name, async () => {
      const { mode, slots, members, behaviours } = mutation;
      const thread = new SeedThread({ crypto: "fast", mutation: mutation.name });
      try {
        for (let seed = 1; seed <= mutation.seeds; seed++) {
          const { broken } = await thread.run({
            seed,
            slots,
            mode,
            only: mutation.caughtBy,
            ...(members === undefined ? {} : { members }),
            ...(behaviours === undefined ? {} : { behaviours }),
          });
          if (broken === undefined) continue;
          assert.equal(broken.checker, mutation.caughtBy, broken.message);
          return;
        }
        assert.fail(`${mutation.seeds} seeds and nobody noticed`);
      } finally {
        await thread.close();
      }
    });
  }
});
