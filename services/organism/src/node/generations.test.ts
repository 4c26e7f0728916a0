/** What a member does at the end of a log, alone: its committee, the others and what they agree on are a script. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { Applied } from "../committee/committee.ts";
import { LogLost } from "../ports.ts";
import { ManualTimers, settled } from "../testing/manual-timers.ts";
import { ScriptedLog } from "../testing/scripted-log.ts";
import type { Birth } from "./generation-change.ts";
import { Generations } from "./generations.ts";
import { Halt } from "./halt.ts";
import type { ReadHead } from "./others-go-on.ts";
import type { FetchedSnapshot } from "./snapshot-fetcher.ts";

const SLOT_MS = 1000;

/** Of `generation`, which begins with nothing read. */
function fetchedOf(generation: bigint): FetchedSnapshot {
  const hash = new Uint8Array(32);
  const place = { committee: hash, generation, epoch: 0n, rules: 1, position: 0n, head: hash };
  const checkpoint = { version: 3 as const, ...place, stateHash: hash, stateBytes: 0, guestHash: hash, guestBytes: 0 };
  return { certified: { checkpoint, signature: hash, signers: [0, 1] }, state: hash, source: "a peer" };
}

/** A member of three that may end a generation with the others, unless `alone`. */
class Scene {
  readonly timers = new ManualTimers();
  log = new ScriptedLog();
  /** Of the later generation; it is there once `present`. */
  readonly next = new ScriptedLog();
  present = true;
  generation = 0n;
  position = 0n;
  /** How far it is known to have read. */
  furthest = 0n;
  /** What it kept and its state does not have. */
  readonly kept = new Map<bigint, Uint8Array>();
  started = true;
  /** Whether it has said anything yet. */
  spoke = true;
  bound = false;
  /** Whether the others let it go that is bound. */
  free: boolean | undefined = true;
  heads: ReadonlyMap<number, ReadHead> = new Map();
  later: FetchedSnapshot | undefined;
  /** What its looks at what it kept wait for, and its first look at what others read. */
  recalling: Promise<void> = Promise.resolve();
  comparing: Promise<void> = Promise.resolve();
  /** By generation: what opening its log waits for. */
  readonly opening = new Map<bigint, Promise<void>>();
  /** Generations whose logs were opened and taken. */
  readonly used: bigint[] = [];
  /** What hearing the others comes to. */
  hearing: Promise<void> = Promise.resolve();
  /** Its disk takes nothing. */
  full = false;
  /** What keeping the beginning of a generation comes to. */
  keeping: Promise<void> = Promise.resolve();
  /** What it does and is told, in order. */
  readonly did: string[] = [];
  readonly halt = new Halt({
    onSilent: () => this.generations.moved(),
    onFatal: (reason) => void this.did.push(`fatal ${reason}`),
  });
  readonly generations: Generations;

  constructor({ alone = false }: { readonly alone?: boolean } = {}) {
    const scene = this;
    const did = (what: string): void => void this.did.push(what);
    const apply = (position: bigint): Applied => {
      this.position = position;
      did(`applied ${position}`);
      const nothing = { author: undefined, entry: undefined, read: undefined, refusal: undefined };
      return { position, ...nothing, landed: false, decided: [], certified: [] };
    };
    let active = false;
    this.generations = new Generations({
      committee: {
        get generation() {
          return scene.generation;
        },
        get position() {
          return scene.position;
        },
        quorum: { members: 3, faults: 1, quorum: 2 },
        apply,
      },
      log: {
        lastPosition: () => this.log.lastPosition(),
        consume: (from, deliver, signal) => this.log.consume(from, deliver, signal),
        present: async () => this.present,
        use: async (log) => {
          this.used.push((log as unknown as { readonly generation: bigint }).generation);
          this.log = this.next;
        },
      },
      nextLog: async (generation) => {
        did(`opened the log of ${generation}`);
        await this.opening.get(generation);
        return { generation, close: async () => did(`closed the log of ${generation}`) } as never;
      },
      tail: {
        read: async (_, position) => {
          await this.recalling;
          return this.kept.get(position);
        },
        keepFrom: async (generation) => did(`kept from ${generation}`),
      },
      marks: {
        furthest: () => this.furthest,
        forget: async () => {
          if (this.full) throw new Error("the disk is full");
          did("forgot its marks");
        },
      },
      change: alone
        ? undefined
        : {
            get active() {
              return active;
            },
            get bound() {
              return scene.bound;
            },
            start: (lost) => {
              active = true;
              did(lost ? "asks for the end" : "is asked for the end");
            },
            withdraw: async () => this.free,
            hear: async () => {
              await this.hearing;
              did("heard the others");
            },
            later: async () => this.later,
            began: () => {
              active = false;
            },
            close: async () => did("speaks of no end any more"),
          },
      integrity: {
        begin: async () => {
          did("compares");
          const { comparing } = this;
          this.comparing = Promise.resolve();
          await comparing;
        },
        heads: async () => this.heads,
        blockedAnywhere: async () => new Set(),
      },
      standing: { checkKey: () => undefined, checkRules: () => undefined },
      appender: () =>
        this.spoke
          ? {
              suspend: () => did("says nothing"),
              consumed: () => undefined,
              forget: () => undefined,
            }
          : undefined,
      reading: {
        deliver: ({ position }) => {
          apply(position);
          this.generations.moved();
        },
        signedBy: () => undefined,
        keyOf: () => undefined,
        verify: undefined,
      },
      halt: this.halt,
      slotMs: SLOT_MS,
      timers: this.timers,
      logger: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
      started: () => this.started,
      onReading: (target) => did(`reads to ${target}`),
      onReached: async () => did("takes part"),
      onBirth: (birth) => this.#born(birth),
    });
  }

  async #born({ certified }: Birth): Promise<void> {
    await this.keeping;
    this.generation = certified.checkpoint.generation;
    this.position = 0n;
    this.furthest = 0n;
    this.did.push(`begins generation ${this.generation}`);
  }

  /** What has happened since this was last asked. */
  get news(): string[] {
    return this.did.splice(0);
  }

  /** Takes part in generation 0, after one entry. */
  async reading(): Promise<this> {
    this.log.put(1n);
    this.kept.set(1n, new Uint8Array([1]));
    await this.generations.begin("there");
    assert.deepEqual(this.news, ["reads to 1", "applied 1", "compares", "takes part"]);
    return this;
  }
}

/** Something to wait for, until it is `done` or has failed. */
function held(): { readonly promise: Promise<void>; readonly done: () => void; readonly fail: (error: Error) => void } {
  let done = (): void => undefined;
  let fail: (error: Error) => void = () => undefined;
  const promise = new Promise<void>((resolve, reject) => {
    done = resolve;
    fail = reject;
  });
  return { promise, done, fail };
}

let scene: Scene;
beforeEach(() => {
  scene = new Scene();
});

describe("a log that has what was read", () => {
  test("is read to its end before the member takes part", async () => {
    scene.furthest = 1n;
    scene.log.put(1n);
    scene.log.put(2n);
    await scene.generations.begin("there");
    assert.deepEqual(scene.news, ["reads to 2", "applied 1", "applied 2", "compares", "takes part"]);
    assert.equal(scene.generations.ending, false);
  });

  test("is not read by who drains meanwhile", async () => {
    scene.halt.drain();
    await scene.generations.begin("there");
    assert.deepEqual(scene.news, []);
  });
});

describe("a log that has less than was read", () => {
  test("is not read: what was kept is, and the end is asked for", async () => {
    scene.furthest = 2n;
    scene.log.put(1n);
    scene.kept.set(1n, new Uint8Array([1]));
    scene.kept.set(2n, new Uint8Array([2]));
    await scene.generations.begin("there");
    await scene.generations.settled();
    assert.deepEqual(scene.news, ["says nothing", "applied 1", "applied 2", "asks for the end"]);
    assert.equal(scene.generations.ending, true);
  });

  test("was known of at the start", async () => {
    scene.spoke = false;
    scene.kept.set(1n, new Uint8Array([1]));
    await scene.generations.begin({ lost: "the stream was made anew" });
    await scene.generations.settled();
    assert.deepEqual(scene.news, ["applied 1", "asks for the end"]);
  });

  test("is told of only once what was kept is in the state, also when others have seen it first", async () => {
    for (const position of [1n, 2n, 3n]) scene.kept.set(position, new Uint8Array([1]));
    await scene.generations.begin({ lost: "the stream was made anew" });
    scene.generations.lose({ reason: "LOG_LOST", detail: "others say so" }, true);
    await settled();
    const news = scene.news;
    assert.deepEqual(news.slice(0, 4), ["says nothing", "applied 1", "applied 2", "applied 3"]);
    assert.deepEqual(news.slice(4).sort(), ["asks for the end", "is asked for the end"]);
  });

  test("is not told of by who is to end before what was kept is in the state", async () => {
    for (const position of [1n, 2n]) scene.kept.set(position, new Uint8Array([1]));
    const { promise, done } = held();
    scene.recalling = promise;
    await scene.generations.begin({ lost: "the stream was made anew" });
    scene.generations.lose({ reason: "LOG_LOST", detail: "others say so" }, true);
    scene.halt.drain();
    done();
    await scene.generations.settled();
    await settled();
    assert.deepEqual(scene.news, ["says nothing"]);
  });

  test("is not told of by who cannot read what was kept, whoever else has seen it", async () => {
    const { promise, fail } = held();
    scene.recalling = promise;
    await scene.generations.begin({ lost: "the stream was made anew" });
    scene.generations.lose({ reason: "LOG_LOST", detail: "others say so" }, true);
    fail(new Error("the disk does not answer"));
    await settled();
    assert.deepEqual(scene.news, ["says nothing", "fatal LOG_LOST"]);
  });

  test("stops a member that cannot go on in another", async () => {
    scene = new Scene({ alone: true });
    scene.furthest = 2n;
    await scene.generations.begin("there");
    assert.deepEqual(scene.news, ["fatal LOG_ROLLED_BACK"]);
  });

  test("is told of while it is read", async () => {
    await scene.reading();
    scene.log.break(new LogLost("the stream was made anew", true));
    await settled();
    assert.deepEqual(scene.news, ["says nothing", "asks for the end"]);
    // Nothing of it is taken any more, whatever comes.
    scene.log.put(2n);
    assert.deepEqual(scene.news, []);
  });

  test("is none for who is silent, or drains", async () => {
    await scene.reading();
    scene.halt.drain();
    scene.generations.lose({ reason: "LOG_LOST", detail: "gone" });
    assert.deepEqual([scene.news, scene.generations.ending], [[], false]);
  });
});

describe("others that have read what the log does not hold", () => {
  test("make a member end with them, which has seen nothing itself", async () => {
    await scene.reading();
    scene.generations.lose({ reason: "LOG_LOST", detail: "others say so" }, true);
    await settled();
    assert.deepEqual(scene.news, ["says nothing", "is asked for the end"]);
    // It has read what they read: nobody goes on without it.
    assert.equal(scene.timers.waiting, 0);
    scene.generations.lose({ reason: "LOG_ROLLED_BACK", detail: "now it sees it" });
    await settled();
    assert.deepEqual(scene.news, ["asks for the end"]);
  });

  test("that go on leave a member behind which has lost its own view: it reads anew", async () => {
    await scene.reading();
    scene.generations.lose({ reason: "LOG_LOST", detail: "gone" });
    await settled();
    assert.deepEqual(scene.news, ["says nothing", "asks for the end"]);
    for (const newest of [5n, 6n, 7n]) {
      const head = new Uint8Array([Number(newest)]);
      const both: ReadHead = { position: newest === 5n ? 5n : newest - 1n, newest, head };
      scene.heads = new Map([0, 1].map((member) => [member, both]));
      await scene.timers.advance(SLOT_MS);
    }
    assert.deepEqual(scene.news, [
      "speaks of no end any more",
      "kept from 1",
      "forgot its marks",
      "fatal OTHERS_GO_ON",
    ]);
  });
});

describe("others that go on without a member", () => {
  test("are followed once its disk takes that it forgets", async () => {
    await scene.reading();
    scene.generations.lose({ reason: "LOG_LOST", detail: "gone" });
    await settled();
    scene.full = true;
    for (const newest of [5n, 6n, 7n, 8n]) {
      const head = new Uint8Array([Number(newest)]);
      const both: ReadHead = { position: newest === 5n ? 5n : newest - 1n, newest, head };
      scene.heads = new Map([0, 1].map((member) => [member, both]));
      await scene.timers.advance(SLOT_MS);
      if (newest === 7n) scene.full = false;
    }
    const told = ["speaks of no end any more", "kept from 1"];
    assert.deepEqual(scene.news.slice(2), [...told, ...told, "forgot its marks", "fatal OTHERS_GO_ON"]);
    await scene.timers.advance(SLOT_MS);
    assert.deepEqual([scene.news, scene.timers.waiting], [[], 0]);
  });
});

describe("others on another chain", () => {
  test("while the log holds something else than was read: it was replaced", async () => {
    await scene.reading();
    scene.log = new ScriptedLog();
    scene.log.put(1n, new Uint8Array([99]));
    scene.generations.forked("member 0");
    assert.equal(scene.generations.forking, true);
    await settled();
    assert.deepEqual(scene.news, ["says nothing", "asks for the end"]);
    assert.equal(scene.generations.forking, false);
  });

  test("while the log holds what was read: the broker forks", async () => {
    await scene.reading();
    scene.generations.forked("member 0");
    scene.generations.forked("members 0 and 1");
    await settled();
    assert.deepEqual(scene.news, ["heard the others", "fatal LOG_FORKED"]);
  });

  test("while the log shows nothing: it is waited for, and the broker forks", async () => {
    await scene.reading();
    scene.log = new ScriptedLog();
    scene.generations.forked("member 0");
    await scene.timers.advance(4999);
    assert.deepEqual(scene.news, []);
    await scene.timers.advance(1);
    assert.deepEqual(scene.news, ["heard the others", "fatal LOG_FORKED"]);
  });

  test("stop it also when it cannot look and cannot hear them; not when its generation is over by then", async () => {
    for (const over of [false, true]) {
      scene = new Scene();
      await scene.reading();
      const hearing = held();
      scene.hearing = hearing.promise;
      scene.generations.forked("member 0");
      await settled();
      if (over) scene.generation = 1n;
      hearing.fail(new Error("no connections are left"));
      await settled();
      assert.deepEqual(scene.news, over ? [] : ["fatal LOG_FORKED"]);
      assert.equal(scene.generations.forking, false);
    }
  });

  test("hear a member that has not taken part yet for two slots", async () => {
    await scene.reading();
    scene.started = false;
    scene.generations.forked("member 0");
    await scene.timers.advance(2 * SLOT_MS - 1);
    assert.deepEqual(scene.news, ["heard the others"]);
    await scene.timers.advance(1);
    assert.deepEqual(scene.news, ["fatal LOG_FORKED"]);
  });
});

describe("a later generation", () => {
  test("that is agreed on is read once its log is there", async () => {
    await scene.reading();
    scene.generations.lose({ reason: "LOG_LOST", detail: "gone" });
    await settled();
    assert.deepEqual(scene.news, ["says nothing", "asks for the end"]);
    scene.present = false;
    await scene.generations.turn({ ...fetchedOf(1n), applied: [] });
    await scene.timers.advance(1000);
    assert.deepEqual(scene.news, ["begins generation 1", "opened the log of 1"]);
    assert.equal(scene.generations.ending, true);
    scene.present = true;
    await scene.timers.advance(250);
    assert.deepEqual(scene.news, ["reads to 0", "compares", "takes part"]);
    assert.equal(scene.generations.ending, false);
    scene.log.put(1n);
    assert.deepEqual(scene.news, ["applied 1"]);
  });

  test("that others tell of is gone over to once one shows its certificate", async () => {
    await scene.reading();
    await scene.generations.follow();
    assert.deepEqual(scene.news, []);
    scene.later = fetchedOf(2n);
    await scene.generations.follow();
    await scene.generations.settled();
    assert.deepEqual(scene.news, [
      "says nothing",
      "begins generation 2",
      "opened the log of 2",
      "reads to 0",
      "compares",
      "takes part",
    ]);
  });

  test("that is agreed on and told of is begun once", async () => {
    await scene.reading();
    scene.later = fetchedOf(1n);
    let kept = (): void => undefined;
    scene.keeping = new Promise((resolve) => {
      kept = resolve;
    });
    const following = scene.generations.follow();
    await settled();
    await scene.generations.turn({ ...fetchedOf(1n), applied: [] });
    kept();
    await following;
    await scene.generations.turn({ ...fetchedOf(1n), applied: [] });
    await scene.generations.settled();
    assert.deepEqual(
      scene.news.filter((each) => each.startsWith("begins")),
      ["begins generation 1"],
    );
  });

  test("that begins while heads are compared is not taken part in before its log is read", async () => {
    const { promise, done } = held();
    scene.comparing = promise;
    const begun = scene.generations.begin("there");
    await settled();
    assert.deepEqual(scene.news, ["reads to 0", "compares"]);
    scene.later = fetchedOf(1n);
    scene.present = false;
    await scene.generations.follow();
    assert.deepEqual(scene.news, ["says nothing", "begins generation 1", "opened the log of 1"]);
    scene.next.last = 1n;
    scene.present = true;
    await scene.timers.advance(250);
    assert.deepEqual(scene.news, ["reads to 1"]);
    done();
    await begun;
    assert.deepEqual(scene.news, [], "the first entry of its log is still to come");
    scene.next.put(1n);
    await settled();
    assert.deepEqual(scene.news, ["applied 1", "compares", "takes part"]);
  });

  test("that begins while the end of a log is asked for is not read twice", async () => {
    const { promise, done } = held();
    const ask = scene.log.lastPosition.bind(scene.log);
    scene.log.lastPosition = () => promise.then(ask);
    const begun = scene.generations.begin("there");
    scene.later = fetchedOf(1n);
    await scene.generations.follow();
    await settled();
    done();
    await begun;
    assert.equal(scene.next.readers, 1);
    assert.deepEqual(scene.news.filter((each) => each === "takes part").length, 1);
  });

  test("is not judged by what others had read of the one before", async () => {
    await scene.reading();
    scene.log = new ScriptedLog();
    scene.generations.forked("member 0");
    await settled();
    scene.later = fetchedOf(1n);
    await scene.generations.follow();
    await scene.generations.settled();
    assert.equal(scene.news.at(-1), "takes part");
    await scene.timers.advance(5000 + 2 * SLOT_MS);
    assert.deepEqual(scene.news, []);
    assert.equal(scene.generations.forking, false);
  });

  test("whose log cannot be opened keeps nobody from ending", async () => {
    await scene.reading();
    const { promise, done } = held();
    scene.opening.set(1n, promise);
    scene.later = fetchedOf(1n);
    await scene.generations.follow();
    await settled();
    assert.equal(scene.news.at(-1), "opened the log of 1");
    scene.halt.drain();
    scene.halt.stop();
    await scene.generations.settled();
    done();
    await settled();
    assert.deepEqual([scene.news, scene.used], [["closed the log of 1"], []]);
  });

  test("that is over before its log could be opened is not read any more", async () => {
    await scene.reading();
    const { promise, done } = held();
    scene.opening.set(1n, promise);
    await scene.generations.turn({ ...fetchedOf(1n), applied: [] });
    await scene.generations.turn({ ...fetchedOf(2n), applied: [] });
    await scene.generations.settled();
    done();
    await settled();
    assert.deepEqual(scene.used, [2n]);
    assert.deepEqual(scene.news.slice(-2), ["takes part", "closed the log of 1"]);
  });

  test("that cannot be kept is asked for again", async () => {
    await scene.reading();
    scene.later = fetchedOf(1n);
    scene.keeping = Promise.reject(new Error("the disk is full"));
    await scene.generations.follow();
    assert.deepEqual(scene.news, ["says nothing", "is asked for the end"]);
    scene.keeping = Promise.resolve();
    await scene.generations.turn({ ...fetchedOf(1n), applied: [] });
    await scene.generations.settled();
    assert.deepEqual(scene.news, [
      "begins generation 1",
      "opened the log of 1",
      "reads to 0",
      "compares",
      "takes part",
    ]);
  });

  test("that was known at the start is waited for", async () => {
    scene.generation = 1n;
    scene.present = false;
    await scene.generations.begin("awaited");
    await scene.timers.advance(1000);
    assert.deepEqual(scene.news, []);
    scene.present = true;
    await scene.timers.advance(250);
    assert.deepEqual(scene.news, ["reads to 0", "compares", "takes part"]);
  });

  test("is not read by who is told that its log was lost before it came", async () => {
    scene.generation = 1n;
    scene.present = false;
    await scene.generations.begin("awaited");
    scene.generations.lose({ reason: "LOG_LOST", detail: "others say so" }, true);
    scene.present = true;
    await scene.timers.advance(1000);
    assert.deepEqual(scene.news, ["is asked for the end"]);
  });
});

describe("a member that has said where the generation ends, and reads on in it", () => {
  test("takes part once the others let it go", async () => {
    scene.bound = true;
    await scene.generations.begin("there");
    await settled();
    assert.deepEqual(scene.news, ["reads to 0", "compares", "takes part"]);
  });

  test("helps to end it when they do not", async () => {
    scene.bound = true;
    scene.free = false;
    await scene.generations.begin("there");
    await settled();
    assert.deepEqual(scene.news, ["reads to 0", "compares", "says nothing", "asks for the end"]);
  });

  test("does neither when it ends meanwhile", async () => {
    scene.bound = true;
    scene.free = undefined;
    await scene.generations.begin("there");
    await settled();
    assert.deepEqual(scene.news, ["reads to 0", "compares"]);
  });
});
