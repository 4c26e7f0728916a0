/** Each checker of one committee is able to fail: every deliberately broken build is caught, by the checker that is there for it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { editProblems } from "../mutations.ts";
import { SeedThread } from "../pool.ts";
import { logCheckers } from "./checkers.ts";
import { LOG_MUTATIONS } from "./mutations.ts";

/** Said by the simulation itself, not by a checker. */
const OWN = ["it comes back", "no honest member stops"];
const nobody = (): never => {
  throw new Error("only the names are asked for");
};
const names = [...logCheckers(nobody, nobody).map(({ name }) => name), ...OWN];

test("every checker has a broken build that it must catch", () => {
  const caught = new Set(LOG_MUTATIONS.map(({ caughtBy }) => caughtBy));
  assert.deepEqual(
    names.filter((name) => !caught.has(name)),
    [],
  );
  for (const { name, caughtBy } of LOG_MUTATIONS) assert.ok(names.includes(caughtBy), `${name}: no ${caughtBy}`);
});

test("every edit changes exactly one place of the source", () => {
  assert.deepEqual(LOG_MUTATIONS.flatMap(editProblems), []);
});

describe("broken builds", { concurrency: 2 }, () => {
  for (const mutation of LOG_MUTATIONS) {
    test(mutation.name, async () => {
      const { name, caughtBy, edits: _, seeds, ...options } = mutation;
      const thread = new SeedThread({ crypto: "fast", mutation: name, log: true });
      try {
        for (let seed = 1; seed <= seeds; seed++) {
          const { broken } = await thread.run({ ...options, seed, only: caughtBy });
          if (broken === undefined) continue;
          assert.equal(broken.checker, caughtBy, broken.message);
          return;
        }
        assert.fail(`${seeds} seeds and nobody noticed`);
      } finally {
        await thread.close();
      }
    });
  }
});
