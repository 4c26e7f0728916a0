import assert from "node:assert/strict";
import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { conformance } from "./conformance.ts";
import { EmbeddedLog, MESSAGE_BYTES_MAX } from "./embedded-log.ts";

conformance("the embedded log", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-log-"));
  const quotaBytes = 4 * MESSAGE_BYTES_MAX;
  const log = await EmbeddedLog.open(join(directory, "log"), { quotaBytes });
  return {
    members: [log.member(0), log.member(1)],
    messageBytesMax: MESSAGE_BYTES_MAX,
    fill: async () => {
      for (let index = 0; index < 4; index++) await log.append(0, new Uint8Array(MESSAGE_BYTES_MAX));
    },
    close: async () => {
      await log.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});

test("what was acknowledged is there after a reopen, and a torn tail is cut off", async () => {
  const directory = await mkdtemp(join(tmpdir(), "lattice-log-"));
  const path = join(directory, "log");
  const first = await EmbeddedLog.open(path);
  await first.append(0, new Uint8Array([1]));
  await first.append(1, new Uint8Array([2, 2]));
  await first.close();
  await appendFile(path, Buffer.from([0, 0, 0, 9, 1, 2]));
  const second = await EmbeddedLog.open(path);
  assert.equal(second.lastPosition, 2n);
  await second.append(0, new Uint8Array([3, 3, 3]));
  await second.close();
  const third = await EmbeddedLog.open(path);
  assert.equal(third.lastPosition, 3n);
  await third.close();
  await rm(directory, { recursive: true, force: true });
});
