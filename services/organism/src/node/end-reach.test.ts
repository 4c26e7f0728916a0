/** How a member comes to the state at a proposed end of a generation: alone, with others' entries, from others' states. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { joinedBeforeEach, note, type ProbeDriver } from "../../test/probe-driver.ts";
import type { ProbeCommand, ProbeState } from "../../test/probe-machine.ts";
import { certifyState, SILENT, type TestCommittee } from "../../test/test-lattice.ts";
import type { Committee } from "../committee/committee.ts";
import type { GenerationEndPoint } from "../committee/generation-end.ts";
import { RulesUnknown } from "../committee/rules.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import type { Duty } from "../machine.ts";
import type { CallOptions } from "../rpc/client.ts";
import { rpcFault } from "../rpc/errors.ts";
import { settled } from "../testing/manual-timers.ts";
import { EndReach } from "./end-reach.ts";
import type { CommitteeClient } from "./outcome-follower.ts";
import type { SnapshotSource } from "./snapshot-fetcher.ts";

type ProbeCommittee = Committee<ProbeState, ProbeCommand, Duty>;

let dealt: TestCommittee;
let driver: ProbeDriver;

joinedBeforeEach((fresh) => {
  ({ dealt, driver } = fresh);
  for (let turn = 0; turn < 6; turn++) driver.author(turn % 4).say(note(`${turn}`));
});

/** Where everything that was said ends. */
function wholeLog(): GenerationEndPoint {
  return { position: driver.committee.position, head: driver.committee.head };
}

/** A committee that has read so much of the log. */
function readTo(count: number): ProbeCommittee {
  const committee = driver.fresh();
  for (const [index, raw] of driver.log.slice(0, count).entries()) committee.apply(BigInt(index + 1), raw);
  return committee;
}

/** Member 3, whose state is `committee`. */
class Scene {
  readonly committee: ProbeCommittee;
  /** What it kept of the log itself. */
  tail: readonly Uint8Array[] = [];
  /** What each other member hands over, from the position that is asked for. */
  others: readonly ((from: bigint) => readonly (readonly [bigint, Uint8Array])[])[] = [];
  sources: readonly SnapshotSource[] = [];
  /** Which of them were asked, in order. */
  readonly asked: number[] = [];
  /** How long they were given, ms. */
  readonly given: (number | undefined)[] = [];
  /** They hand over nothing, and do not end. */
  trickles = false;
  fresh: () => ProbeCommittee = () => driver.fresh();
  readonly reach: EndReach<ProbeState, ProbeCommand, Duty>;

  constructor(committee: ProbeCommittee) {
    this.committee = committee;
    this.reach = new EndReach({
      committee,
      fresh: () => this.fresh(),
      self: 3,
      memberKey: generateSigningKey(new Uint8Array(32).fill(3)),
      keyIsOver: () => false,
      tail: { read: async (_, position) => this.tail[Number(position) - 1] },
      snapshots: { held: () => [], load: async () => undefined },
      sources: () => this.sources,
      peers: () => this.others.map((_, index) => this.#peer(index)),
      clock: { nowMs: () => 0 },
      logger: SILENT,
    });
  }

  #peer(index: number): CommitteeClient {
    const scene = this;
    return {
      async *fetchEntries({ fromPosition }: { readonly fromPosition: bigint }, options: CallOptions) {
        scene.asked.push(index);
        scene.given.push(options.deadlineMs);
        if (scene.trickles) {
          await new Promise<never>((_, reject) => {
            options.signal?.addEventListener("abort", () => reject(rpcFault("CONNECTION_LOST")));
          });
        }
        for (const [position, raw] of scene.others[index]?.(fromPosition) ?? []) yield { position, raw };
      },
    } as unknown as CommitteeClient;
  }
}

/** Hands over what is asked for, from `oldest` on. */
function keeps(oldest = 1n): (from: bigint) => readonly (readonly [bigint, Uint8Array])[] {
  const all = driver.log.map((raw, index) => [BigInt(index + 1), raw] as const);
  return (from) => (from < oldest ? [] : all.filter(([position]) => position >= from));
}

/** The very next state that a member which has read everything would begin the next generation with. */
function expectedState(): Uint8Array {
  const committee = driver.replay();
  committee.beginGeneration();
  return committee.birth().state;
}

describe("without anybody else", () => {
  test("it is there when it has applied everything", async () => {
    const reached = await new Scene(driver.replay()).reach.state(wholeLog());
    assert.deepEqual(reached?.state, expectedState());
    assert.deepEqual(reached.applied, []);
  });

  test("it gets there by what it kept, from a state that is not its own one as it is", async () => {
    const scene = new Scene(readTo(6));
    scene.tail = driver.log;
    const reached = await scene.reach.state(wholeLog());
    assert.deepEqual(reached?.state, expectedState());
    assert.equal(reached.applied, undefined);
  });

  test("it does not get there when an entry is missing, or has another head there", async () => {
    const scene = new Scene(readTo(6));
    scene.tail = driver.log.slice(0, -1);
    assert.equal(await scene.reach.state(wholeLog()), undefined);
    scene.tail = driver.log;
    assert.equal(await scene.reach.state({ ...wholeLog(), head: new Uint8Array(32) }), undefined);
  });
});

describe("with the others' entries", () => {
  test("it goes on from its own state, and knows what it had not applied", async () => {
    const scene = new Scene(readTo(7));
    scene.others = [keeps()];
    const reached = await scene.reach.state(wholeLog());
    assert.deepEqual(reached?.state, expectedState());
    assert.deepEqual(
      reached.applied?.map(({ position }) => position),
      [8n, 9n, 10n],
    );
  });

  test("whoever hands over something else, or too little, is passed over", async () => {
    const scene = new Scene(readTo(7));
    const wrong: ReturnType<typeof keeps> = (from) =>
      keeps()(from).map(([position]) => [position, new Uint8Array([1])]);
    const short: ReturnType<typeof keeps> = (from) => keeps()(from).slice(0, 1);
    scene.others = [wrong, short, keeps()];
    assert.deepEqual((await scene.reach.state(wholeLog()))?.state, expectedState());
    assert.deepEqual(scene.asked, [0, 1, 2]);
  });

  test("whoever trickles has an end: what so many entries may take, and the next one is asked", async () => {
    const scene = new Scene(readTo(7));
    const tooSlow: ReturnType<typeof keeps> = () => {
      throw rpcFault("DEADLINE_EXCEEDED");
    };
    scene.others = [tooSlow, keeps()];
    assert.deepEqual((await scene.reach.state(wholeLog()))?.state, expectedState());
    assert.deepEqual(scene.asked, [0, 1]);
    // Three entries.
    assert.deepEqual(scene.given, [20_030, 20_030]);
  });

  test("whoever trickles does not keep a member from ending", async () => {
    const scene = new Scene(readTo(7));
    scene.others = [keeps(), keeps()];
    scene.trickles = true;
    const reached = scene.reach.state(wholeLog());
    await settled();
    assert.deepEqual(scene.asked, [0]);
    scene.reach.close();
    assert.equal(await reached, undefined);
    assert.deepEqual(scene.asked, [0], "nobody else is asked");
  });

  test("it leaves its own chain for theirs, from a state that both have", async () => {
    const own = readTo(9);
    own.apply(10n, new Uint8Array([1, 2, 3]));
    const scene = new Scene(own);
    scene.others = [keeps()];
    const reached = await scene.reach.state(wholeLog());
    assert.deepEqual(reached?.state, expectedState());
    assert.equal(reached.applied, undefined);
  });

  test("it stops at entries that are beyond its build", async () => {
    const scene = new Scene(readTo(7));
    scene.others = [keeps()];
    scene.fresh = () => {
      const committee = driver.fresh();
      committee.apply = () => {
        throw new RulesUnknown(9, { lowest: 1, highest: 5 }, 8n);
      };
      return committee;
    };
    await assert.rejects(scene.reach.state(wholeLog()), RulesUnknown);
  });
});

describe("with a certified state of the others", () => {
  /** Others have let go of what is before position 9, and give their state there to whoever wants it. */
  function trimmed(): Scene {
    const scene = new Scene(readTo(2));
    scene.others = [keeps(9n)];
    const state = readTo(8).snapshot();
    const certified = certifyState(dealt, 8n, state);
    scene.sources = [{ name: "a peer", held: async () => [certified], state: async () => state }];
    return scene;
  }

  test("it goes on from there", async () => {
    const reached = await trimmed().reach.state(wholeLog());
    assert.deepEqual(reached?.state, expectedState());
    assert.equal(reached.applied, undefined);
  });

  test("it does not take one that lies beyond the end", async () => {
    const scene = trimmed();
    const before = readTo(7);
    assert.equal(await scene.reach.state({ position: before.position, head: before.head }), undefined);
  });
});

describe("what was reached", () => {
  test("is not walked again, until it is forgotten", async () => {
    const scene = new Scene(readTo(7));
    scene.others = [keeps()];
    const reached = await scene.reach.state(wholeLog());
    assert.equal(await scene.reach.state(wholeLog()), reached);
    assert.deepEqual(scene.asked, [0]);
    scene.reach.forget();
    await scene.reach.state(wholeLog());
    assert.deepEqual(scene.asked, [0, 0]);
  });

  test("is nothing once nothing more is to be asked for", async () => {
    const scene = new Scene(readTo(7));
    scene.others = [keeps()];
    scene.reach.close();
    assert.equal(await scene.reach.state(wholeLog()), undefined);
  });
});
