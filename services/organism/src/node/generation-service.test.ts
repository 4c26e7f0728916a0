/** What fits into one exchange about the end of a generation. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { heard, missing } from "./generation-service.ts";

const MIB = 1024 * 1024;

test("what is short is told first: proposals that the other side does not take keep no vote back", () => {
  const own = new Map<string, Uint8Array>();
  for (const name of ["aa", "bb", "cc"]) own.set(name, new Uint8Array(MIB));
  for (const name of ["dd", "ee"]) own.set(name, new Uint8Array(200));
  assert.deepEqual(
    missing(own, []).map(({ length }) => length),
    [200, 200, MIB],
  );
  assert.deepEqual(
    missing(own, [new Uint8Array([0xdd]), new Uint8Array([0xaa])]).map(({ length }) => length),
    [200, MIB],
  );
  const large = new Map([["aa", new Uint8Array(3 * MIB)]]);
  assert.equal(missing(large, []).length, 1, "what is too large for an exchange goes alone");
});

test("of what somebody says as many messages are judged as an exchange carries", () => {
  assert.equal(heard(Array.from({ length: 100_000 }, () => new Uint8Array(1))).length, 128);
});
