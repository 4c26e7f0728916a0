/** What has landed can be shown, whatever the disk does meanwhile; what has not is forgotten. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { MESSAGE_ID_BYTES } from "@lattice/organism/outcomes/zipnet.ts";
import { Openings } from "./openings.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lattice-openings-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const id = (value: number): Uint8Array => new Uint8Array(MESSAGE_ID_BYTES).fill(value);
const opening = (value: number) => ({
  messageId: id(value),
  cell: value,
  sigma: new Uint8Array(32).fill(value),
});

test("what a full disk does not take is published later, also of a slot that is forgotten by then", async () => {
  const openings = await Openings.open(folder, 100);
  await openings.keep(5n, [opening(1), opening(2)]);
  await openings.keep(6n, [opening(3)]);
  const landed = new Map([
    [5n, [id(1)]],
    [6n, [id(3)]],
  ]);
  // Nothing of this name can be written now.
  const blocked = join(folder, "openings", "5.landed.new");
  await mkdir(blocked);
  await assert.rejects(openings.sweep(5n, (slot) => landed.get(slot)));
  assert.deepEqual(await openings.get(6n, id(3), false), opening(3), "the other slot is not held up");
  assert.equal(await openings.get(5n, id(1), false), undefined);
  await assert.rejects(openings.sweep(6n, (slot) => (slot === 5n ? undefined : landed.get(slot))));
  await rmdir(blocked);
  await openings.sweep(7n, () => undefined);
  assert.deepEqual(await openings.get(5n, id(1), false), opening(1));
  assert.equal(await openings.get(5n, id(2), true), undefined, "what has not landed is gone");
});
