import assert from "node:assert/strict";
import { test } from "node:test";
import { Halt } from "./halt.ts";

test("only the first reason is told, after the member has fallen silent", () => {
  const seen: string[] = [];
  const halt = new Halt({
    onSilent: () => seen.push(`silent: ${halt.silent}`),
    onFatal: (reason, detail) => {
      seen.push(`${reason}: ${detail}`);
      // What comes of it must not be told as another reason.
      halt.fail("LOG_LOST", "the log is closed");
    },
  });
  assert.equal(halt.silent, false);
  halt.fail("KEY_BLOCKED", "two things");
  halt.fail("SUCCEEDED", "a newer process");
  assert.deepEqual(seen, ["silent: true", "KEY_BLOCKED: two things"]);
});

test("whoever is told to end says nothing of it, and waits until it is told not to", () => {
  const halt = new Halt({ onSilent: assert.fail, onFatal: assert.fail });
  assert.equal(halt.drain(), true);
  assert.equal(halt.drain(), false);
  assert.deepEqual([halt.draining, halt.silent, halt.signal.aborted], [true, false, false]);
  halt.stop();
  assert.equal(halt.signal.aborted, true);
});
