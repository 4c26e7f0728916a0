import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { before, test } from "node:test";
import type { Worker } from "node:worker_threads";
import { initCrypto } from "./engine.ts";
import { identityShare, openIbe, sealIbe } from "./ibe.ts";
import { createOpeningPool, type OpeningTask, PoolRefusal } from "./opening-pool.ts";
import { generateSecret, publicOf } from "./shamir.ts";

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const refused = (reason: string) => (error: unknown) => error instanceof PoolRefusal && error.reason === reason;
const suite = "unseal-slot";
const identity = random(32);
const secret = generateSecret(random);
const sealingKey = publicOf(secret);
let identityKey: Uint8Array;
let tasks: OpeningTask[];

before(async () => {
  await initCrypto();
  identityKey = identityShare(secret, suite, identity, random);
  // Views into one large buffer, as they come out of a broadcast; every fifth is spoilt.
  const broadcast = new Uint8Array(1 << 20);
  tasks = Array.from({ length: 45 }, (_, index) => {
    const aad = random(4);
    const sealed = sealIbe({ suite, sealingKey, identity, aad, content: random(index), random });
    if (index % 5 === 0) sealed[60] = (sealed[60] ?? 0) ^ 1;
    broadcast.set(sealed, index * 1024);
    return { identityKey, aad, sealed: broadcast.subarray(index * 1024, index * 1024 + sealed.length) };
  });
});

for (const workers of [0, 2]) {
  test(`${workers} workers give what this thread gives, in order, with key and with sigma`, async () => {
    const pool = createOpeningPool({ workers });
    try {
      const [results, again, nothing] = await Promise.all([
        pool.open(tasks),
        pool.open(tasks.slice(7, 9)),
        pool.open([]),
      ]);
      const expected = tasks.map((task) => ("identityKey" in task ? openIbe(task) : undefined));
      assert.deepEqual(results, expected);
      assert.deepEqual(again, expected.slice(7, 9));
      assert.deepEqual(nothing, []);
      assert.equal(pool.pending, 0);
      const hinted = results.map((result, index): OpeningTask => {
        const { aad, sealed } = tasks[index] ?? { aad: random(0), sealed: random(0) };
        const sigma = "sigma" in result ? result.sigma : random(32);
        return { suite, sealingKey, identity, aad, sealed, sigma };
      });
      const checked = await pool.open(hinted);
      assert.deepEqual(
        checked.map((result) => "failure" in result),
        results.map((result) => "failure" in result),
      );
      assert.deepEqual(
        checked.filter((result) => "content" in result),
        results.filter((result) => "content" in result),
      );
    } finally {
      await pool.close();
    }
  });

  test(`${workers} workers: a full pool refuses whole batches, a closed one everything`, async () => {
    const pool = createOpeningPool({ workers, queueMax: 45 });
    const running = pool.open(tasks);
    await assert.rejects(pool.open(tasks.slice(0, 1)), refused("POOL_FULL"));
    await running;
    assert.equal((await pool.open(tasks.slice(0, 1))).length, 1);
    const cut = assert.rejects(pool.open(tasks), refused("POOL_CLOSED"));
    await pool.close();
    await cut;
    assert.equal(pool.pending, 0);
    await assert.rejects(pool.open(tasks), refused("POOL_CLOSED"));
    await pool.close();
  });

  test(`${workers} workers: a key that is none rejects its batch only`, async () => {
    const pool = createOpeningPool({ workers });
    try {
      const { aad, sealed } = tasks[1] ?? { aad: random(0), sealed: random(0) };
      const bad = { identityKey: new Uint8Array(96), aad, sealed };
      const [first, second] = await Promise.allSettled([pool.open([...tasks, bad]), pool.open(tasks.slice(0, 20))]);
      assert.equal(first.status, "rejected");
      assert.equal(second.status, "fulfilled");
      assert.equal((await pool.open(tasks)).length, tasks.length);
      assert.equal(pool.pending, 0);
    } finally {
      await pool.close();
    }
  });
}

test("a worker that dies is replaced and its chunk tried again; one that dies twice rejects its batch", async () => {
  const created: Worker[] = [];
  const watch = (message: unknown): void => {
    created.push((message as { worker: Worker }).worker);
  };
  subscribe("worker_threads", watch);
  const pool = createOpeningPool({ workers: 1 });
  try {
    const batch = pool.open(tasks);
    await created[0]?.terminate();
    assert.deepEqual(
      await batch,
      tasks.map((task) => ("identityKey" in task ? openIbe(task) : undefined)),
    );
    assert.equal(created.length, 2);
    const doomed = assert.rejects(pool.open(tasks), /died twice/);
    await created[1]?.terminate();
    await created[2]?.terminate();
    await doomed;
    assert.equal((await pool.open(tasks.slice(0, 3))).length, 3);
    assert.equal(pool.pending, 0);
  } finally {
    unsubscribe("worker_threads", watch);
    await pool.close();
  }
});
