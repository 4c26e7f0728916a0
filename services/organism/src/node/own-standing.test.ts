/** What a member must not go on after, each beside the nearest thing that it goes on after. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createNoMeters } from "../observe/meters.ts";
import { OwnStanding } from "./own-standing.ts";

const OWN_KEY = new Uint8Array(32).fill(1);
const OTHER_KEY = new Uint8Array(32).fill(2);

/** Member 3 of four, of whom three are a quorum; incarnation 5 speaks for it. */
class Scene {
  blocked: Uint8Array | undefined;
  unknownRules: { readonly message: string } | undefined;
  /** What the log has of this member. */
  incarnation = 5n;
  /** What this process speaks as. */
  own: bigint | undefined = 5n;
  seats = 4;
  left = false;
  ownEpoch: bigint | undefined = 0n;
  readonly fatal: string[] = [];
  readonly details: string[] = [];
  readonly erased: bigint[] = [];
  readonly standing: OwnStanding;

  constructor() {
    const scene = this;
    this.standing = new OwnStanding({
      self: 3,
      publicKey: OWN_KEY,
      committee: {
        get roster() {
          return { epoch: 1n, members: { length: scene.seats } };
        },
        quorum: { quorum: 3 },
        get unknownRules() {
          return scene.unknownRules;
        },
        get blocked() {
          const proven = { kind: "votes", position: 77n, proof: new Uint8Array(32).fill(0xab) } as const;
          return scene.blocked === undefined ? [] : [{ ...proven, memberKey: scene.blocked }];
        },
        epochOf: (index, key) => (index === 3 && key === OWN_KEY ? this.ownEpoch : undefined),
        hasLeft: () => this.left,
        author: () => ({ incarnation: this.incarnation }),
      },
      incarnation: () => this.own,
      keys: { erase: async (epoch) => void this.erased.push(epoch) },
      halt: {
        get silent() {
          return scene.fatal.length > 0;
        },
        fail: (reason, detail) => {
          this.fatal.push(reason);
          this.details.push(detail);
        },
      },
      logger: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
      meters: createNoMeters(),
    });
  }
}

test("its own key proven to say two things; not another's", () => {
  const scene = new Scene();
  scene.blocked = OTHER_KEY;
  scene.standing.checkKey();
  assert.deepEqual(scene.fatal, []);
  scene.blocked = OWN_KEY;
  scene.standing.checkKey();
  assert.deepEqual(scene.fatal, ["KEY_BLOCKED"]);
  assert.match(scene.details[0] ?? "", /two votes, committed at position 77, proof (ab){32}$/);
});

test("rules beyond its build", () => {
  const scene = new Scene();
  scene.standing.checkRules();
  assert.deepEqual(scene.fatal, []);
  scene.unknownRules = { message: "rules 9 govern from position 7 on" };
  scene.standing.checkRules();
  assert.deepEqual(scene.fatal, ["RULES_UNKNOWN"]);
});

describe("a newer process of this member", () => {
  test("ends the older one", () => {
    const scene = new Scene();
    scene.standing.applied({ author: 3 });
    assert.deepEqual(scene.fatal, []);
    scene.incarnation = 6n;
    scene.standing.applied({ author: 3 });
    assert.deepEqual(scene.fatal, ["SUCCEEDED"]);
  });

  test("is not seen in what others say", () => {
    const scene = new Scene();
    scene.incarnation = 6n;
    scene.standing.applied({ author: 0 });
    scene.standing.applied({ author: undefined });
    assert.deepEqual(scene.fatal, []);
  });

  test("is none while this one has no number yet", () => {
    for (const own of [undefined, 0n]) {
      const scene = new Scene();
      scene.own = own;
      scene.standing.applied({ author: 3 });
      assert.deepEqual(scene.fatal, []);
    }
  });
});

describe("a seat that is given up", () => {
  test("ends the member, and its shares go, once nothing is needed of it", () => {
    const scene = new Scene();
    scene.seats = 3;
    scene.standing.applied({ author: 0 });
    assert.deepEqual([scene.fatal, scene.erased], [[], []]);
    scene.left = true;
    scene.standing.applied({ author: 0 });
    assert.deepEqual([scene.fatal, scene.erased], [["SEAT_GIVEN_UP"], [1n]]);
    // Told once, whatever else is read.
    scene.standing.applied({ author: 0 });
    assert.deepEqual([scene.fatal, scene.erased], [["SEAT_GIVEN_UP"], [1n]]);
  });

  test("is not that of a member that has one, nor of one that has none yet", () => {
    const seated = new Scene();
    seated.left = true;
    seated.standing.applied({ author: 0 });
    const newcomer = new Scene();
    newcomer.seats = 3;
    newcomer.left = true;
    newcomer.ownEpoch = undefined;
    newcomer.standing.applied({ author: 0 });
    assert.deepEqual([...seated.fatal, ...newcomer.fatal, ...seated.erased, ...newcomer.erased], []);
  });
});

test("another state certified by a quorum; by fewer it is only told", () => {
  const scene = new Scene();
  const stateHash = new Uint8Array(32);
  scene.standing.dissent({ position: 9n, authors: [0, 1], stateHash });
  assert.deepEqual(scene.fatal, []);
  scene.standing.dissent({ position: 9n, authors: [0, 1, 2], stateHash });
  assert.deepEqual(scene.fatal, ["STATE_DIVERGED"]);
});
