/** Large commands in parts: what joins, and what does not. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  accepted,
  chunk,
  hash32,
  joinedBeforeEach,
  note,
  type ProbeDriver,
  sayLarge,
} from "../../test/probe-driver.ts";
import type { ScriptedAuthor } from "../testing/committee-driver.ts";
import { commandDigest } from "./chunks.ts";
import { type CommitteeCommand, encodeCommand } from "./commands.ts";
import { CHUNK_BYTES, CHUNKS_MAX } from "./entry.ts";

let driver: ProbeDriver;
let author: ScriptedAuthor;

joinedBeforeEach((fresh) => {
  ({ driver, author } = fresh);
});

/** An encoded command of `chunks` chunks. */
function largeCommand(chunks: number): Uint8Array {
  const padding = chunks * CHUNK_BYTES - 64;
  return encodeCommand({ type: "machine", command: new Uint8Array(padding) });
}

describe("chunks", () => {
  /** Two chunks that join to a note the machine accepts: its text is short, the padding is a close nobody reads. */
  const whole = (): Uint8Array => {
    const inputs = Array.from({ length: 20_000 }, (_, index) => hash32(index % 251));
    return encodeCommand({ type: "close", stage: "large", slot: 10n, inputs });
  };

  test("join to their command when they come in order", () => {
    const command = whole();
    assert.equal(sayLarge(author, command)?.refusal, undefined);
    assert.ok(driver.committee.view(0, 0, () => false).hasClosed("large", 10n));
    assert.equal(driver.committee.author(0)?.assembly, undefined);
  });

  test("other entries may come between them, on either lane", () => {
    const command = whole();
    accepted(author.say(chunk(command, 0), "bulk"));
    accepted(author.say(note(), "ctl"));
    accepted(author.say(note(), "bulk"));
    accepted(author.say(chunk(command, 1), "bulk"));
    assert.ok(driver.committee.view(0, 0, () => false).hasClosed("large", 10n));
  });

  test("misnumbered", () => {
    const command = whole();
    driver.refusedCommand(() => author.say(chunk(command, 0, { count: 1 }), "bulk"), "MALFORMED");
    driver.refusedCommand(() => author.say(chunk(command, 0, { count: CHUNKS_MAX + 1 }), "bulk"), "MALFORMED");
    driver.refusedCommand(() => author.say(chunk(command, 0, { index: 2 }), "bulk"), "MALFORMED");
    driver.refusedCommand(() => author.say(chunk(command, 1), "bulk"), "OUT_OF_ORDER");
    accepted(author.say(chunk(command, 0), "bulk"));
    driver.refusedCommand(() => author.say(chunk(command, 1, { count: 3 }), "bulk"), "OUT_OF_ORDER");
    driver.refusedCommand(() => author.say(chunk(command, 1), "bulk"), "OUT_OF_ORDER");
    assert.equal(sayLarge(author, command)?.refusal, undefined);
  });

  test("of another command in the middle", () => {
    const [one, two] = [whole(), largeCommand(2)];
    accepted(author.say(chunk(one, 0), "bulk"));
    driver.refusedCommand(() => author.say(chunk(two, 1), "bulk"), "OUT_OF_ORDER");
    accepted(author.say(chunk(one, 0), "bulk"));
    accepted(author.say(chunk(two, 0), "bulk"));
    driver.refusedCommand(() => author.say(chunk(one, 1), "bulk"), "OUT_OF_ORDER");
  });

  test("that do not add up to their digest", () => {
    const command = whole();
    accepted(author.say(chunk(command, 0), "bulk"));
    const part = command.slice(CHUNK_BYTES);
    part[0] = (part[0] ?? 0) ^ 1;
    driver.refusedCommand(() => author.say(chunk(command, 1, { part }), "bulk"), "MALFORMED");
    assert.equal(sayLarge(author, command)?.refusal, undefined);
  });

  test("that add up to no command, to a join, or to a chunk", () => {
    const join = encodeCommand({ type: "join", incarnation: 2n, key: hash32(1) });
    const small = encodeCommand({ type: "chunk", digest: hash32(1), index: 0, count: 2, part: new Uint8Array(8) });
    for (const inner of [new Uint8Array(CHUNK_BYTES + 1), join, small]) {
      const digest = commandDigest(inner);
      const cut = Math.ceil(inner.length / 2);
      const parts = [inner.slice(0, cut), inner.slice(cut)];
      accepted(author.say({ type: "chunk", digest, index: 0, count: 2, part: parts[0] ?? new Uint8Array() }, "bulk"));
      const last: CommitteeCommand = { type: "chunk", digest, index: 1, count: 2, part: parts[1] ?? new Uint8Array() };
      driver.refusedCommand(() => author.say(last, "bulk"), "MALFORMED");
    }
  });

  test("in the ctl lane", () => {
    driver.refusedCommand(() => author.say(chunk(whole(), 0), "ctl"), "MALFORMED");
    accepted(author.say(chunk(whole(), 0), "bulk"));
  });

  test("of two authors do not mix", () => {
    const command = whole();
    accepted(author.say(chunk(command, 0), "bulk"));
    driver.refusedCommand(() => driver.author(1).say(chunk(command, 1), "bulk"), "OUT_OF_ORDER");
    accepted(author.say(chunk(command, 1), "bulk"));
  });
});
