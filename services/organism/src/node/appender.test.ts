/** The appender against a log that does as the test says: what lands, when, how often, and what it answers. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, random, type TestCommittee } from "../../test/test-lattice.ts";
import { encode } from "../codec/codec.ts";
import { encodeCommand } from "../committee/commands.ts";
import { CHUNK_BYTES, CHUNKS_MAX, decodeEntry, type EntryBody, type Lane, readEntry } from "../committee/entry.ts";
import { HEADS_KEPT } from "../committee/state.ts";
import { initCrypto } from "../crypto/engine.ts";
import { Fault } from "../fault.ts";
import { type Duty, type Refusal, refuse } from "../machine.ts";
import { type AppendFate, type Journal, type Log, LogRefusal } from "../ports.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import { Appender, IN_FLIGHT_MAX } from "./appender.ts";
import { FileJournal } from "./file-journal.ts";

interface Published {
  readonly lane: Lane;
  readonly raw: Uint8Array;
  readonly id: string;
  readonly body: EntryBody;
  readonly settle: (answer: AppendFate | Error) => void;
}

/** Says nothing by itself. */
class ScriptedLog implements Log {
  readonly published: Published[] = [];
  /** What to answer at once; undefined: leave the caller waiting. */
  answer: ((published: Published) => AppendFate | Error | undefined) | undefined;
  #arrived: () => void = () => undefined;

  append(lane: Lane, raw: Uint8Array, id: string): Promise<AppendFate> {
    return new Promise((resolve, reject) => {
      const settle = (answer: AppendFate | Error): void => {
        if (answer instanceof Error) reject(answer);
        else resolve(answer);
      };
      const published: Published = { lane, raw: raw.slice(), id, body: decodeEntry(raw).body, settle };
      this.published.push(published);
      const answer = this.answer?.(published);
      if (answer !== undefined) settle(answer);
      this.#arrived();
    });
  }
  /** Waits until `count` messages have been handed over in all. */
  async until(count: number): Promise<void> {
    while (this.published.length < count) {
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
  }
  async lastPosition(): Promise<bigint> {
    return 0n;
  }
  async firstPosition(): Promise<bigint> {
    return 1n;
  }
  async consume(): Promise<void> {}
  async close(): Promise<void> {}
}

const full = (): LogRefusal => new LogRefusal("LOG_FULL", "no space");
const tooLarge = (): LogRefusal => new LogRefusal("ENTRY_TOO_LARGE", "too large");

describe("the appender", () => {
  let root: string;
  let folders = 0;
  let dealt: TestCommittee;
  let driver: CommitteeDriver<ProbeState, ProbeCommand, Duty>;
  let log: ScriptedLog;
  let journal: FileJournal;
  let appender: Appender;
  let pressure: (string | undefined)[];
  let lost: string[];

  before(async () => {
    await initCrypto();
    root = await mkdtemp(join(tmpdir(), "lattice-appender-"));
    dealt = dealCommittee(3);
  });
  after(() => rm(root, { recursive: true, force: true }));

  beforeEach(async () => {
    const { config, rosters, secrets } = dealt;
    driver = new CommitteeDriver({
      config,
      roster: rosters.relay,
      secrets,
      createMachine: probeMachine,
      replicas: 1,
    });
    log = new ScriptedLog();
    journal = await FileJournal.open(join(root, `member-${folders++}`));
    pressure = [];
    lost = [];
    appender = make();
  });
  afterEach(async () => {
    appender.close();
    await journal.close();
  });

  function make(changes: { readonly journal?: Journal; readonly resendAfterMs?: number } = {}): Appender {
    const [secrets] = dealt.secrets;
    assert.ok(secrets !== undefined);
    return new Appender({
      organism: "relay",
      committee: driver.committee.id,
      generation: () => 0n,
      epoch: () => 0n,
      author: 0,
      memberKey: secrets.memberKey,
      random,
      log,
      journal,
      clock: { nowMs: () => driver.nowMs },
      view: () => ({ position: driver.committee.position, head: driver.committee.head }),
      joined: () => driver.committee.author(0)?.incarnation ?? 0n,
      onPressure: (refused) => pressure.push(refused?.reason),
      onLost: (reason) => lost.push(reason),
      resendAfterMs: 20,
      ...changes,
    });
  }

  /** The message lands: everybody, its author included, reads it. */
  function land(published: Published | undefined): Refusal | undefined {
    assert.ok(published !== undefined);
    const applied = driver.apply(published.raw);
    appender.consumed(applied);
    return applied.refusal;
  }
  const note = (text: string): Uint8Array =>
    encodeCommand({ type: "machine", command: encode(probeMachine().command, { type: "note", text }) });
  const notes = (): string[] =>
    driver.committee.state.events.map((event) => event.split(" ").at(-1) ?? "").filter((text) => text !== "");
  const commands = (from = 0): string[] => log.published.slice(from).map(({ body }) => `${body.lane} ${body.sequence}`);

  function same(whole: Journal): Journal {
    return {
      nextIncarnation: (atLeast) => whole.nextIncarnation(atLeast),
      promise: (key, slot, value) => whole.promise(key, slot, value),
      promised: (key) => whole.promised(key),
      entry: (id, raw) => whole.entry(id, raw),
      put: (name, value) => whole.put(name, value),
      get: (name) => whole.get(name),
      trim: (slot) => whole.trim(slot),
      close: () => whole.close(),
    };
  }

  async function joinNow(): Promise<void> {
    const joining = appender.join();
    const before = log.published.length;
    await log.until(before + 1);
    land(log.published[before]);
    assert.equal(await joining, undefined);
  }
  const faultOf = (reason: string) => (error: unknown) => error instanceof Fault && error.reason === reason;
  /** Lets every promise that is settled by now take effect. */
  const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  test("speaks after its Join has been applied, and a caller is answered after its entry has", async () => {
    const joining = appender.join();
    const early = appender.append("ctl", note("early"));
    await log.until(1);
    await settled();
    assert.deepEqual(commands(), ["ctl 1"], "only the Join");
    land(log.published[0]);
    assert.equal(await joining, undefined);
    await log.until(2);
    let answered = false;
    void early.then(() => {
      answered = true;
    });
    log.published[1]?.settle("stored");
    await settled();
    assert.ok(!answered, "a PubAck is no answer");
    land(log.published[1]);
    assert.equal(await early, undefined);
    assert.deepEqual(notes(), ["early"]);
    assert.equal(appender.inFlight, 0);
  });

  test("passes on what became of the command", async () => {
    await joinNow();
    const refused = appender.append("ctl", note("refuse"));
    const fine = appender.append("ctl", note("fine"));
    await log.until(3);
    land(log.published[1]);
    land(log.published[2]);
    assert.deepEqual(await refused, refuse("MALFORMED", "as asked"));
    assert.equal(await fine, undefined);
  });

  test("journals before it publishes", async () => {
    await joinNow();
    const order: string[] = [];
    const slow: Journal = Object.create(journal) as Journal;
    let release: () => void = () => undefined;
    slow.entry = () =>
      new Promise((resolve) => {
        order.push("journal");
        release = () => {
          order.push("on disk");
          resolve();
        };
      });
    slow.nextIncarnation = (atLeast) => journal.nextIncarnation(atLeast);
    appender.close();
    appender = make({ journal: slow });
    void appender.join().catch(() => undefined);
    while (order.length === 0) await settled();
    await settled();
    assert.equal(log.published.length, 1, "nothing but the first Join of this test");
    release();
    await log.until(2);
    assert.deepEqual(order, ["journal", "on disk"]);
  });

  test("what one sync has made durable is handed over in one go", async () => {
    await joinNow();
    let burst = 0;
    let open = false;
    const bursts: number[] = [];
    log.answer = () => {
      if (!open)
        queueMicrotask(() => {
          burst += 1;
          open = false;
        });
      open = true;
      bursts.push(burst);
      return undefined;
    };
    for (let index = 0; index < 20; index++) appender.append("ctl", note(`${index}`)).catch(() => undefined);
    await log.until(21);
    assert.equal(new Set(bursts).size, 1, "a connection that flushes once per turn carries them in one write");
    assert.deepEqual(
      log.published.slice(1).map(({ body }) => body.sequence),
      Array.from({ length: 20 }, (_, index) => BigInt(index + 2)),
    );
  });

  test("of a batch, nothing is published before what stands in front of it is on disk", async () => {
    const release: (() => void)[] = [];
    const slow: Journal = Object.create(journal) as Journal;
    slow.nextIncarnation = (atLeast) => journal.nextIncarnation(atLeast);
    slow.entry = () => new Promise((resolve) => release.push(resolve));
    appender.close();
    // Nothing is said again meanwhile.
    appender = make({ journal: slow, resendAfterMs: 600_000 });
    const joining = appender.join();
    while (release.length === 0) await settled();
    release.shift()?.();
    await log.until(1);
    land(log.published[0]);
    assert.equal(await joining, undefined);
    for (const name of ["a", "b", "c"]) appender.append("ctl", note(name)).catch(() => undefined);
    const [a, b, c] = release;
    for (const [each, published] of [
      [b, 1],
      [c, 1],
      [a, 4],
    ] as const) {
      each?.();
      await settled();
      assert.equal(log.published.length, published);
    }
    assert.deepEqual(commands(), ["ctl 1", "ctl 2", "ctl 3", "ctl 4"]);
  });

  test("a crash between the sync of a batch and its publication: said once, under the next incarnation", async () => {
    await joinNow();
    const journaled: Uint8Array[] = [];
    const dying: Journal = Object.create(journal) as Journal;
    dying.nextIncarnation = (atLeast) => journal.nextIncarnation(atLeast);
    dying.entry = async (id, raw) => {
      await journal.entry(id, raw);
      // On disk, and then the process is gone before it can say anything.
      if (decodeEntry(raw).body.sequence > 1n && journaled.push(raw.slice()) === 3) appender.close();
    };
    appender.close();
    appender = make({ journal: dying });
    const before = log.published.length;
    const joining = appender.join();
    await log.until(before + 1);
    land(log.published[before]);
    assert.equal(await joining, undefined);
    const said = ["a", "b", "c"].map((name) => appender.append("ctl", note(name)));
    for (const each of said) await assert.rejects(each, faultOf("FATE_UNKNOWN"));
    await settled();
    const published = log.published.length;
    assert.ok(journaled.length === 3 && published < before + 4, "the batch was cut short");

    appender = make();
    const again = appender.join();
    await log.until(published + 1);
    land(log.published.at(-1));
    assert.equal(await again, undefined);
    const anew = ["a", "b", "c"].map((name) => appender.append("ctl", note(name)));
    await log.until(published + 4);
    for (const each of log.published.slice(published + 1)) assert.equal(land(each), undefined);
    assert.deepEqual(await Promise.all(anew), [undefined, undefined, undefined]);
    // What the dead process had signed can still come from somewhere, and is nobody's by then.
    for (const raw of journaled) {
      const applied = driver.apply(raw);
      appender.consumed(applied);
      assert.equal(applied.refusal?.reason, "NOT_AUTHOR");
    }
    assert.deepEqual(notes(), ["a", "b", "c"]);
  });

  test("knows the signatures that it has made and waits for, and no others", async () => {
    await joinNow();
    const said = ["a", "b", "c"].map((name) => appender.append("ctl", note(name)));
    await log.until(4);
    const [join, a, b, c] = log.published.map(({ raw }) => readEntry(raw));
    assert.ok(join !== undefined && a !== undefined && b !== undefined && c !== undefined);
    const key = driver.committee.author(0)?.key;
    assert.ok(key !== undefined);
    for (const own of [a, b, c]) assert.deepEqual(appender.signedBy(own), key);
    const flipped = a.signature.slice();
    flipped[3] = (flipped[3] ?? 0) ^ 1;
    for (const foreign of [
      join,
      { ...a, signature: flipped },
      { ...a, hash: b.hash },
      { ...a, body: { ...a.body, sequence: 5n } },
      { ...a, body: { ...a.body, sequence: 1n << 63n } },
      { ...a, body: { ...a.body, lane: "bulk" as const } },
    ]) {
      assert.equal(appender.signedBy(foreign), undefined);
    }
    land(log.published[1]);
    assert.equal(appender.signedBy(a), undefined, "it has landed");
    assert.deepEqual(appender.signedBy(b), key);
    for (const published of log.published.slice(2)) land(published);
    await Promise.all(said);
  });

  test("keeps a lane's order, and one lane waits for no other", async () => {
    await joinNow();
    const all = [0, 1, 2, 3].map((index) => appender.append(index % 2 === 0 ? "ctl" : "bulk", note(`${index}`)));
    await log.until(5);
    assert.deepEqual(
      commands(1).filter((each) => each.startsWith("ctl")),
      ["ctl 2", "ctl 3"],
    );
    assert.deepEqual(
      commands(1).filter((each) => each.startsWith("bulk")),
      ["bulk 1", "bulk 2"],
    );
    for (const published of log.published.slice(1)) assert.equal(land(published), undefined);
    assert.deepEqual(await Promise.all(all), [undefined, undefined, undefined, undefined]);
  });

  test("of unknown fate: goes back to the first not seen and resends the same bytes, under a new id", async () => {
    await joinNow();
    log.answer = () => "unknown";
    const all = ["a", "b", "c"].map((text) => appender.append("ctl", note(text)));
    await log.until(4);
    land(log.published[1]);
    await log.until(6);
    const [, , b, c, again, after] = log.published;
    assert.deepEqual(again?.raw, b?.raw);
    assert.deepEqual(after?.raw, c?.raw);
    assert.notEqual(again?.id, b?.id);
    assert.equal(new Set(log.published.map(({ id }) => id)).size, log.published.length);
    land(again);
    land(after);
    await Promise.all(all);
    assert.deepEqual(notes(), ["a", "b", "c"]);
  });

  test("a lost entry holds up its lane until it has landed; what came before its turn is sent again", async () => {
    await joinNow();
    const all = ["a", "b", "c"].map((text) => appender.append("ctl", note(text)));
    await log.until(4);
    // The first is lost; the others land before their turn and are refused.
    assert.equal(land(log.published[2])?.reason, "OUT_OF_ORDER");
    assert.equal(land(log.published[3])?.reason, "OUT_OF_ORDER");
    await log.until(7);
    for (const published of log.published.slice(4, 7)) assert.equal(land(published), undefined);
    assert.deepEqual(await Promise.all(all), [undefined, undefined, undefined]);
    assert.deepEqual(notes(), ["a", "b", "c"]);
  });

  test("copies that land late, at any distance and in any order, change and answer nothing", async () => {
    await joinNow();
    for (const text of ["a", "b", "c", "d"]) {
      const said = appender.append("ctl", note(text));
      const at = log.published.length;
      await log.until(at + 1);
      land(log.published[at]);
      assert.equal(await said, undefined);
    }
    const waiting = appender.append("ctl", note("e"));
    await log.until(6);
    for (const index of [4, 2, 0, 3, 1, 2]) assert.notEqual(land(log.published[index]), undefined);
    assert.equal(appender.inFlight, 1);
    land(log.published[5]);
    assert.equal(await waiting, undefined);
    assert.deepEqual(notes(), ["a", "b", "c", "d", "e"]);
  });

  test("a foreign copy with other signature bytes neither answers nor blocks", async () => {
    await joinNow();
    const said = appender.append("ctl", note("a"));
    await log.until(2);
    const forged = log.published[1]?.raw.slice() ?? new Uint8Array();
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    appender.consumed(driver.apply(forged));
    assert.equal(appender.inFlight, 1);
    land(log.published[1]);
    assert.equal(await said, undefined);
  });

  test("whatever is lost, doubled and reordered, every command is applied once and in its order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ back: fc.nat(6), times: fc.nat(2) }), { minLength: 5, maxLength: 40 }),
        async (chaos) => {
          appender.close();
          driver = new CommitteeDriver({
            config: dealt.config,
            roster: dealt.rosters.relay,
            secrets: dealt.secrets,
            createMachine: probeMachine,
            replicas: 1,
          });
          log = new ScriptedLog();
          appender = make({ resendAfterMs: 2 });
          const joined = appender.join();
          const texts = Array.from({ length: 8 }, (_, index) => `n${index}`);
          const all = Promise.all(texts.map((text) => appender.append("ctl", note(text))));
          let done = false;
          void Promise.all([joined, all]).then(() => {
            done = true;
          });
          await log.until(1);
          for (const { back, times } of chaos) {
            for (let time = 0; time < times; time++) {
              const published = log.published.at(-1 - (back % log.published.length));
              land(published);
            }
            await settled();
          }
          // Then the log behaves: what is resent lands.
          while (!done) {
            const from = log.published.length;
            await Promise.race([log.until(from + 1), settled()]);
            for (const published of log.published.slice(from)) land(published);
          }
          assert.deepEqual(notes(), texts);
        },
      ),
      { numRuns: 15 },
    );
  });

  test("a full log: what is under way stays so, what comes is refused without taking a number, until there is space", async () => {
    await joinNow();
    log.answer = () => full();
    const waiting = [appender.append("ctl", note("a")), appender.append("ctl", note("b"))];
    await log.until(3);
    await settled();
    await assert.rejects(appender.append("ctl", note("c")), faultOf("LOG_REFUSED"));
    assert.deepEqual(pressure.at(-1), "LOG_FULL");
    // While it refuses, only the oldest knocks.
    await log.until(5);
    assert.deepEqual(new Set(commands(3)), new Set(["ctl 2"]));
    log.answer = () => "stored";
    const from = log.published.length;
    await log.until(from + 2);
    assert.equal(pressure.at(-1), undefined);
    assert.deepEqual(commands(from).slice(0, 2), ["ctl 2", "ctl 3"]);
    land(log.published[from]);
    land(log.published[from + 1]);
    assert.deepEqual(await Promise.all(waiting), [undefined, undefined]);
    const after = appender.append("ctl", note("d"));
    while (!commands().includes("ctl 4")) await log.until(log.published.length + 1);
    land(log.published.find(({ body }) => body.sequence === 4n));
    assert.equal(await after, undefined);
    assert.deepEqual(notes(), ["a", "b", "d"]);
  });

  test("a full bulk lane does not hold up the other", async () => {
    await joinNow();
    log.answer = ({ lane }) => (lane === "bulk" ? full() : "stored");
    const stuck = appender.append("bulk", note("stuck"));
    stuck.catch(() => undefined);
    await log.until(2);
    await settled();
    const said = appender.append("ctl", note("free"));
    while (!commands().includes("ctl 2")) await log.until(log.published.length + 1);
    land(log.published.find(({ body }) => body.lane === "ctl" && body.sequence === 2n));
    assert.equal(await said, undefined);
    await assert.rejects(appender.append("bulk", note("x")), faultOf("LOG_REFUSED"));
  });

  test("an entry too large for the log is given up, and its lane goes on under a new incarnation", async () => {
    await joinNow();
    log.answer = ({ body }) => (body.sequence === 2n && body.incarnation === 1n ? tooLarge() : undefined);
    const large = appender.append("ctl", note("large"));
    const next = appender.append("ctl", note("next"));
    await assert.rejects(large, faultOf("TOO_LARGE"));
    while (!log.published.some(({ body }) => body.incarnation === 2n)) await log.until(log.published.length + 1);
    land(log.published.find(({ body }) => body.incarnation === 2n));
    const isNext = ({ body }: Published): boolean => body.incarnation === 2n && body.sequence === 2n;
    while (!log.published.some(isNext)) await log.until(log.published.length + 1);
    land(log.published.find(isNext));
    assert.equal(await next, undefined);
    assert.deepEqual(notes(), ["next"]);
    assert.deepEqual(lost, []);
  });

  test("an entry whose view has become too old joins anew, and what has not landed is said again, once", async () => {
    await joinNow();
    const all = [
      appender.append("ctl", note("a")),
      appender.append("ctl", note("b")),
      appender.append("bulk", note("c")),
    ];
    await log.until(4);
    const first = log.published.slice(1, 4);
    for (let index = 0; index <= HEADS_KEPT; index++) driver.apply(new Uint8Array([index & 0xff]));
    for (const published of first) {
      const refusal = land(published);
      assert.ok(refusal?.reason === "VIEW_TOO_OLD" || refusal?.reason === "OUT_OF_ORDER", refusal?.reason);
    }
    const joins = (): Published[] => log.published.filter(({ body }) => body.incarnation === 2n);
    while (joins().length === 0) await log.until(log.published.length + 1);
    const meanwhile = appender.append("ctl", note("d"));
    land(joins()[0]);
    while (new Set(joins().map(({ body }) => `${body.lane}${body.sequence}`)).size < 5) {
      await log.until(log.published.length + 1);
    }
    // Late copies of the first incarnation meet nobody.
    for (const published of first) assert.equal(land(published)?.reason, "NOT_AUTHOR");
    for (const name of ["ctl2", "ctl3", "ctl4", "bulk1"]) {
      assert.equal(land(joins().find(({ body }) => `${body.lane}${body.sequence}` === name)), undefined);
    }
    assert.deepEqual(await Promise.all([...all, meanwhile]), [undefined, undefined, undefined, undefined]);
    assert.deepEqual(notes().sort(), ["a", "b", "c", "d"]);
    assert.equal(appender.incarnation, 2n);
  });

  test("what lands of the older incarnation before the new Join does is not said again", async () => {
    await joinNow();
    const stale = appender.append("ctl", note("stale"));
    await log.until(2);
    for (let index = 0; index <= HEADS_KEPT; index++) driver.apply(new Uint8Array([index & 0xff]));
    const fresh = appender.append("bulk", note("fresh"));
    while (!log.published.some(({ lane }) => lane === "bulk")) await log.until(log.published.length + 1);
    const bulk = log.published.find(({ lane }) => lane === "bulk");
    land(log.published[1]);
    assert.equal(land(bulk), undefined, "signed over a newer view, landed while the Join was on its way");
    assert.equal(await fresh, undefined);
    while (!log.published.some(({ body }) => body.incarnation === 2n)) await log.until(log.published.length + 1);
    land(log.published.find(({ body }) => body.incarnation === 2n));
    const again = ({ body }: Published): boolean => body.incarnation === 2n && body.sequence === 2n;
    while (!log.published.some(again)) await log.until(log.published.length + 1);
    land(log.published.find(again));
    assert.equal(await stale, undefined);
    assert.deepEqual(notes(), ["fresh", "stale"]);
  });

  test("a log that is lost while it joins anew ends that Join, and not the member: it joins in the next one", async () => {
    await joinNow();
    const said = appender.append("ctl", note("a"));
    await log.until(2);
    for (let index = 0; index <= HEADS_KEPT; index++) driver.apply(new Uint8Array([index & 0xff]));
    assert.equal(land(log.published[1])?.reason, "VIEW_TOO_OLD");
    await log.until(3);
    appender.suspend();
    await settled();
    assert.deepEqual(lost, []);
    const resumed = appender.resume();
    await log.until(4);
    land(log.published[3]);
    assert.equal(await resumed, undefined);
    await log.until(5);
    land(log.published[4]);
    assert.equal(await said, undefined);
  });

  test("once its log is lost it speaks as nobody, since the next one may know its older processes by higher numbers", async () => {
    await joinNow();
    const before = appender.incarnation;
    assert.ok(before > 0n);
    appender.suspend();
    assert.equal(appender.incarnation, 0n);
    const resumed = appender.resume();
    await log.until(2);
    land(log.published[1]);
    assert.equal(await resumed, undefined);
    assert.ok(appender.incarnation > before);
  });

  test("a log that is lost while the number of a Join is still being written: the next log hears one Join, and both have an end", async () => {
    let write = (): void => undefined;
    const writing = new Promise<void>((resolve) => {
      write = resolve;
    });
    appender.close();
    appender = make({
      journal: {
        ...same(journal),
        nextIncarnation: async (atLeast) => {
          await writing;
          return journal.nextIncarnation(atLeast);
        },
      },
    });
    const before = appender.join();
    appender.suspend();
    const resumed = appender.resume();
    write();
    assert.equal((await before)?.reason, "VIEW_TOO_OLD");
    await log.until(1);
    assert.equal(land(log.published[0]), undefined);
    assert.equal(await resumed, undefined);
    assert.deepEqual([log.published.length, appender.incarnation], [1, 2n]);
  });

  test("a number that another process has taken: the next higher one is tried", async () => {
    const joining = appender.join();
    await log.until(1);
    driver.author(0).join(1n);
    assert.equal(land(log.published[0])?.reason, "NOT_AUTHOR");
    await log.until(2);
    assert.equal(log.published[1]?.body.incarnation, 2n);
    land(log.published[1]);
    assert.equal(await joining, undefined);
  });

  test("a roster that knows another key: given up after a while, with the reason", async () => {
    // Entries without a member's signature are nobody's, so nobody is told; here the log admits another number first.
    let taken = 0n;
    const joining = appender.join();
    for (let attempt = 0; attempt < 8; attempt++) {
      await log.until(attempt + 1);
      const published = log.published[attempt];
      taken = published?.body.incarnation ?? 0n;
      driver.author(0).join(taken);
      land(published);
      await settled();
    }
    assert.equal((await joining)?.reason, "NOT_AUTHOR");
  });

  test("a credential that may not write is told at once when joining", async () => {
    log.answer = () => new LogRefusal("NOT_PERMITTED", "this credential may not publish there");
    await assert.rejects(appender.join(), faultOf("LOG_REFUSED"));
  });

  test("a large command travels as chunks in the bulk lane and is answered once, whole", async () => {
    await joinNow();
    const inputs = Array.from({ length: 40_000 }, () => new Uint8Array(32));
    const command = encodeCommand({ type: "close", stage: "first", slot: 1n, inputs });
    const said = appender.append("ctl", command);
    const count = Math.ceil(command.length / CHUNK_BYTES);
    await log.until(1 + count);
    assert.ok(log.published.slice(1).every(({ lane }) => lane === "bulk"));
    for (const published of log.published.slice(1, 1 + count)) land(published);
    assert.equal(await said, undefined);
    assert.ok(driver.committee.view(0, 0, () => false).hasClosed("first", 1n));
    await assert.rejects(appender.append("bulk", new Uint8Array(CHUNK_BYTES * CHUNKS_MAX + 1)), faultOf("TOO_LARGE"));
    assert.equal(appender.inFlight, 0);
  });

  test("more than fits in flight is refused whole, and nothing of it is sent", async () => {
    await joinNow();
    const all = Array.from({ length: IN_FLIGHT_MAX - 1 }, () => appender.append("bulk", note("x")));
    for (const each of all) each.catch(() => undefined);
    await assert.rejects(appender.append("bulk", new Uint8Array(CHUNK_BYTES + 1)), faultOf("LOG_REFUSED"));
    assert.equal(appender.inFlight, IN_FLIGHT_MAX - 1);
    const last = appender.append("bulk", note("last"));
    last.catch(() => undefined);
    await assert.rejects(appender.append("bulk", note("one more")), faultOf("LOG_REFUSED"));
    const other = appender.append("ctl", note("the other lane"));
    other.catch(() => undefined);
    assert.equal(appender.inFlight, IN_FLIGHT_MAX + 1);
  });

  test("a journal that fails is fatal: nothing unjournaled is published", async () => {
    await joinNow();
    await journal.close();
    const said = appender.append("ctl", note("a"));
    await assert.rejects(said, /journal is closed/);
    assert.deepEqual(lost, ["JOURNAL_LOST"]);
    assert.equal(log.published.length, 1);
  });

  test("when it closes, callers learn that the fate is unknown, and nothing more is sent", async () => {
    await joinNow();
    const said = appender.append("ctl", note("a"));
    await log.until(2);
    appender.close();
    await assert.rejects(said, faultOf("FATE_UNKNOWN"));
    await assert.rejects(appender.append("ctl", note("b")), faultOf("NOT_READY"));
    assert.equal(log.published.length, 2);
  });
});
