import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { blsVerify } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { publicOf } from "../crypto/shamir.ts";
import { EmbeddedLog } from "../log/embedded-log.ts";
import { FileJournal } from "../node/file-journal.ts";
import type { Journal, Log } from "../ports.ts";
import { type DriverPerson, freshPlan, people, range } from "../testing/ceremony-driver.ts";
import { makeEnrolment } from "./dealing.ts";
import { decodeMessage, signMessage } from "./message.ts";
import { ceremonyId } from "./plan.ts";
import { type CeremonyEnd, type CeremonyRun, runCeremony } from "./run-ceremony.ts";

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const DIGEST = random(32);
const scratch = mkdtempSync(join(tmpdir(), "lattice-ceremony-"));
let folders = 0;
const folder = (): string => join(scratch, String(folders++));

class Crash extends Error {}

/** A participant's disk survives; its process may die at the n-th thing that it does to the outside world. */
class Process {
  readonly directory = folder();
  crashAt: number | undefined;
  steps = 0;
  kept = 0;
  /** What its disk waits for before it has a promise. */
  writing: (key: string) => Promise<void> = async () => undefined;

  #step(): void {
    this.steps += 1;
    if (this.steps === this.crashAt) throw new Crash();
  }

  async run(log: EmbeddedLog, self: number, persons: readonly DriverPerson[], options: Partial<CeremonyRun> = {}) {
    const journal = await FileJournal.open(this.directory);
    const person = persons[self];
    assert.ok(person !== undefined);
    const inner = log.member(self);
    const dying: Log = {
      ...inner,
      append: async (lane, raw, id) => {
        this.#step();
        const fate = await inner.append(lane, raw, id);
        this.#step();
        return fate;
      },
    };
    const careful: Journal = {
      nextIncarnation: (atLeast) => journal.nextIncarnation(atLeast),
      entry: (id, raw) => journal.entry(id, raw),
      put: (name, value) => journal.put(name, value),
      get: (name) => journal.get(name),
      trim: (slot) => journal.trim(slot),
      close: () => journal.close(),
      promised: (key) => journal.promised(key),
      promise: async (key, slot, value) => {
        this.#step();
        await this.writing(key);
        await journal.promise(key, slot, value);
        this.#step();
      },
    };
    try {
      return await runCeremony({
        plan: freshPlan(persons, { certificate: 2, sealing: 2 }),
        publication: { key: 0, digest: () => DIGEST },
        self,
        memberKey: person.key,
        log: dying,
        journal: careful,
        random,
        clock: { nowMs: () => Date.now() },
        patienceMs: () => 60_000,
        keep: async () => {
          this.#step();
          await this.writing("shares");
          this.kept += 1;
        },
        ...options,
      });
    } finally {
      await journal.close();
    }
  }
}

function assertDone(ends: readonly CeremonyEnd[]): void {
  const [first] = ends;
  assert.equal(first?.type, "done");
  for (const [who, end] of ends.entries()) {
    assert.ok(end.type === "done" && first.type === "done");
    assert.deepEqual(end.result, first.result);
    assert.deepEqual(end.publication, first.publication);
    for (const [position, key] of end.result.keys.entries()) {
      assert.deepEqual(publicOf(end.shares?.get(position) ?? random(32)), key.publicShares[who]);
    }
    const [certificate] = end.result.keys;
    assert.ok(certificate !== undefined && end.publication !== undefined);
    assert.ok(blsVerify(certificate.publicKey, DIGEST, end.publication));
  }
}

describe("a ceremony's processes on a log", () => {
  before(initCrypto);
  after(() => rmSync(scratch, { recursive: true, force: true }));

  test("three processes make two keys and publish", async () => {
    const log = await EmbeddedLog.open(join(folder(), "log"));
    const persons = people(3, random);
    const processes = range(3).map(() => new Process());
    const ends = await Promise.all(processes.map((each, self) => each.run(log, self, persons)));
    assertDone(ends);
    assert.ok(processes.every(({ kept }) => kept >= 1));
    await log.close();
  });

  test("one dies at each thing it does and is started again: the same end, and nobody is blamed", async () => {
    let crashed = true;
    let at = 1;
    for (; crashed; at++) {
      crashed = false;
      const log = await EmbeddedLog.open(join(folder(), "log"));
      const persons = people(3, random);
      const processes = range(3).map(() => new Process());
      const [mortal] = processes;
      assert.ok(mortal !== undefined);
      mortal.crashAt = at;
      const ends = await Promise.all(
        processes.map(async (each, self) => {
          for (;;) {
            try {
              return await each.run(log, self, persons);
            } catch (error) {
              if (!(error instanceof Crash)) throw error;
              crashed = true;
            }
          }
        }),
      );
      assertDone(ends);
      for (const end of ends) assert.deepEqual(end.blames, []);
      await log.close();
    }
    // Seed, four messages journaled and published, shares kept: each before and after.
    assert.ok(at > 18, `${at} points of death`);
  });

  test("without its journal a participant withdraws instead of speaking twice; the next attempt succeeds", async () => {
    const log = await EmbeddedLog.open(join(folder(), "log"));
    const persons = people(3, random);
    const mortal = new Process();
    mortal.crashAt = 6;
    await assert.rejects(mortal.run(log, 0, persons), Crash);
    const processes = range(3).map(() => new Process());
    const ends = await Promise.all(processes.map((each, self) => each.run(log, self, persons)));
    for (const end of ends) {
      assert.ok(end.type === "aborted");
      assert.deepEqual(
        end.blames.map(({ participant, reason, detail }) => [participant, reason, detail]),
        [[0, "WITHDREW", "this participant has lost its journal"]],
      );
    }
    assertDone(await Promise.all(processes.map((each, self) => each.run(log, self, persons, { retry: true }))));
    await log.close();
  });

  /** What participant 0 enrolled with before it lost its journal; it has not landed yet. */
  function underWay(persons: readonly DriverPerson[]): Uint8Array {
    const [person] = persons;
    assert.ok(person !== undefined);
    const plan = freshPlan(persons, { certificate: 2, sealing: 2 });
    const scene = { plan, ceremony: ceremonyId(plan), attempt: 1 };
    const enrolment = makeEnrolment(scene, 0, { seed: random(32), oldShares: new Map() });
    const command = { type: "enrol" as const, ...enrolment };
    return signMessage(person.key, { version: 1, ceremony: scene.ceremony, attempt: 1, author: 0, command });
  }
  /** The log of participant 0, in which `late` lands just before or after the first thing that it says. */
  function withLate(log: EmbeddedLog, late: Uint8Array, order: "before" | "after"): Log {
    const inner = log.member(0);
    let landed = false;
    return {
      ...inner,
      append: async (lane, raw, id) => {
        const first = !landed;
        landed = true;
        if (first && order === "before") await log.append(0, late);
        const fate = await inner.append(lane, raw, id);
        if (first && order === "after") await log.append(0, late);
        return fate;
      },
    };
  }

  test("an enrolment from before the journal was lost lands late: it changes nothing", async () => {
    const log = await EmbeddedLog.open(join(folder(), "log"));
    const persons = people(3, random);
    const delayed = withLate(log, underWay(persons), "after");
    const ends = await Promise.all(
      range(3).map((self) => new Process().run(log, self, persons, self === 0 ? { log: delayed } : {})),
    );
    assertDone(ends);
    for (const end of ends) assert.deepEqual(end.blames, []);
    await log.close();
  });

  test("it lands first, and binds: whoever has lost its journal withdraws, and may come back", async () => {
    const log = await EmbeddedLog.open(join(folder(), "log"));
    const persons = people(3, random);
    const early = withLate(log, underWay(persons), "before");
    const processes = range(3).map(() => new Process());
    const ends = await Promise.all(
      processes.map((each, self) => each.run(log, self, persons, self === 0 ? { log: early } : {})),
    );
    for (const end of ends) {
      assert.ok(end.type === "aborted");
      assert.deepEqual(
        end.blames.map(({ participant, reason, detail }) => [participant, reason, detail]),
        [[0, "WITHDREW", "this participant has enrolled from another journal"]],
      );
    }
    assertDone(await Promise.all(processes.map((each, self) => each.run(log, self, persons, { retry: true }))));
    await log.close();
  });

  test("two processes of one participant, each with a journal: nobody is proven anything, and one alone gets through", async () => {
    const log = await EmbeddedLog.open(join(folder(), "log"));
    const persons = people(3, random);
    const processes = [0, 0, 1, 2].map((self) => ({ self, process: new Process() }));
    const start = ({ self, process }: (typeof processes)[number]) => process.run(log, self, persons);
    const doubled = processes.slice(0, 2).map(start);
    // The others come when one of the two has seen that it is not alone.
    const stop = new AbortController();
    await log.consume(
      1n,
      ({ raw }) => {
        if (decodeMessage(raw).body.command.type === "abort") stop.abort();
      },
      stop.signal,
    );
    const ends = await Promise.all([...doubled, ...processes.slice(2).map(start)]);
    for (const end of ends) {
      assert.equal(end.type, "aborted");
      assert.deepEqual(
        [...new Set(end.blames.map(({ participant, reason }) => `${participant} ${reason}`))],
        ["0 WITHDREW"],
      );
    }
    const alone = processes.slice(1);
    assertDone(await Promise.all(alone.map(({ self, process }) => process.run(log, self, persons, { retry: true }))));
    await log.close();
  });

  for (const [what, phase] of [
    ["seed", "enrol"],
    ["shares", "confirm"],
  ] as const) {
    test(`while a slow disk still writes one's ${what} the others begin another attempt: it takes part in that`, async () => {
      const log = await EmbeddedLog.open(join(folder(), "log"));
      const persons = people(3, random);
      const processes = range(3).map(() => new Process());
      const [slow] = processes;
      assert.ok(slow !== undefined);
      let next = (): void => undefined;
      let begun = false;
      const another = new Promise<void>((resolve) => {
        next = () => {
          begun = true;
          resolve();
        };
      });
      slow.writing = (key) => (key.endsWith(what) ? another : Promise.resolve());
      const ends = await Promise.all(
        processes.map((each, self) =>
          each.run(log, self, persons, {
            retry: self !== 0,
            patienceMs: (now) => (now === phase && !begun ? 0 : 60_000),
            ...(self === 0 ? { onApplied: ({ attempt }) => attempt.number === 2 && next() } : {}),
          }),
        ),
      );
      assertDone(ends);
      for (const end of ends) assert.ok(end.blames.every(({ reason }) => reason === "SILENT"));
      await log.close();
    });
  }

  test("an absent member is named once patience ends, and comes back for the next attempt", async () => {
    const log = await EmbeddedLog.open(join(folder(), "log"));
    const persons = people(3, random);
    const processes = range(3).map(() => new Process());
    const present = processes.slice(0, 2);
    const ends = await Promise.all(present.map((each, self) => each.run(log, self, persons, { patienceMs: () => 1 })));
    for (const end of ends) {
      assert.ok(end.type === "aborted");
      assert.match(end.failure, /2 receivers are left, 3 needed/);
      assert.deepEqual(
        end.blames.map(({ participant, reason }) => [participant, reason]),
        [[2, "SILENT"]],
      );
    }
    assertDone(await Promise.all(processes.map((each, self) => each.run(log, self, persons, { retry: true }))));
    await log.close();
  });

  test("foreign and broken messages in the log disturb nobody", async () => {
    const log = await EmbeddedLog.open(join(folder(), "log"));
    const persons = people(3, random);
    const stranger = people(1, random)[0];
    assert.ok(stranger !== undefined);
    const ceremony = ceremonyId(freshPlan(persons, { certificate: 2, sealing: 2 }));
    await log.append(0, random(200));
    await log.append(
      1,
      signMessage(stranger.key, {
        version: 1,
        ceremony,
        attempt: 1,
        author: 1,
        command: { type: "abort", reason: "" },
      }),
    );
    assertDone(await Promise.all(range(3).map((self) => new Process().run(log, self, persons))));
    await log.close();
  });

  test("an operator's abort ends the attempt for everybody and names who asked", async () => {
    const log = await EmbeddedLog.open(join(folder(), "log"));
    const persons = people(3, random);
    const ceremony = ceremonyId(freshPlan(persons, { certificate: 2, sealing: 2 }));
    const reason = "wrong machine";
    const key = persons[1]?.key;
    assert.ok(key !== undefined);
    await log.append(
      1,
      signMessage(key, { version: 1, ceremony, attempt: 1, author: 1, command: { type: "abort", reason } }),
    );
    const ends = await Promise.all(range(3).map((self) => new Process().run(log, self, persons)));
    for (const end of ends) {
      assert.equal(end.type, "aborted");
      assert.deepEqual(
        end.blames.map(({ participant, reason: why, detail }) => [participant, why, detail]),
        [[1, "WITHDREW", reason]],
      );
    }
    await log.close();
  });

  test("what lands is each message once, but for repeats of the same bytes", async () => {
    const log = await EmbeddedLog.open(join(folder(), "log"));
    const persons = people(3, random);
    await Promise.all(range(3).map((self) => new Process().run(log, self, persons)));
    const seen = new Map<string, string>();
    const stop = new AbortController();
    const last = log.lastPosition;
    await log.consume(
      1n,
      ({ position, raw }) => {
        const { author, command } = decodeMessage(raw).body;
        const name = `${author} ${command.type}`;
        const text = Buffer.from(raw).toString("hex");
        assert.equal(seen.get(name) ?? text, text);
        seen.set(name, text);
        if (position === last) stop.abort();
      },
      stop.signal,
    );
    assert.equal(seen.size, 12);
    await log.close();
  });
});
