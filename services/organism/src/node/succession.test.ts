/** When a member asks for rosters, which shares it keeps, and what it makes of rosters and eras that its log tells of. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import type { CommitteeCommand } from "../committee/commands.ts";
import type { EraLinks } from "../committee/era-links.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import type { Roster } from "../committee/roster.ts";
import { initCrypto } from "../crypto/engine.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import { createNoMeters } from "../observe/meters.ts";
import { dealCommittee, type TestCommittee } from "../testing/dealt-committee.ts";
import { firstEpoch, type NextEpoch, nextEpoch } from "../testing/dealt-eras.ts";
import type { EpochShares } from "./epoch-keys.ts";
import { EraBook } from "./era-book.ts";
import { nodeTimers } from "./node-timers.ts";
import { RosterBook } from "./roster-book.ts";
import { Succession } from "./succession.ts";

const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const addresses = ["a:1", "b:1", "c:1"];
const endpoints = () => ({
  zipnet: addresses,
  unseal: addresses,
  offer: addresses,
  atelier: addresses,
  relay: addresses,
  tally: addresses,
});

let dealt: TestCommittee;
let one: NextEpoch;
let two: NextEpoch;
let stray: NextEpoch;

before(async () => {
  await initCrypto();
  dealt = dealCommittee(4, {}, "third");
  const zero = firstEpoch(dealt, "relay", 3);
  one = nextEpoch(zero, { activationSlot: 100n, newEra: true });
  two = nextEpoch(one, { activationSlot: 200n });
  stray = nextEpoch(zero, { activationSlot: 100n, newEra: true });
});

/** relay-0, with what it sees and does in hand. */
class Scene {
  nowMs = 0;
  rosters: Roster[] = [dealt.rosters.relay];
  links: EraLinks = [];
  readonly shares = new Map<bigint, EpochShares>([[0n, dealt.secrets[0] ?? { certificateShare: new Uint8Array() }]]);
  /** Came with shares. */
  readonly reshared = new Map<bigint, CertifiedOutcome>();
  readonly asked: [Organism, string][] = [];
  readonly kept: CertifiedOutcome[] = [];
  readonly said: [string, CommitteeCommand][] = [];
  readonly meters = createNoMeters();
  refreshed = 0;
  readonly eras = new EraBook(dealt.config);
  readonly succession: Succession;

  constructor() {
    this.succession = new Succession({
      organism: "relay",
      self: 0,
      committee: this,
      keys: {
        of: (epoch) => this.shares.get(epoch),
        roster: (epoch) => this.reshared.get(epoch),
        refresh: async () => {
          this.refreshed += 1;
        },
        erase: async (below) => {
          for (const epoch of this.shares.keys()) if (epoch < below) this.shares.delete(epoch);
        },
      },
      book: new RosterBook({ config: dealt.config, rosters: dealt.rosters, log, eras: this.eras }),
      eras: this.eras,
      keep: async (certified) => {
        this.kept.push(certified);
      },
      endpoints,
      client: (organism, address) => {
        this.asked.push([organism, address]);
        throw new Error("nobody is there");
      },
      timers: { ...nodeTimers, elapsedMs: () => this.nowMs },
      logger: log,
      meters: this.meters,
    });
  }

  eraLinks(organism: Organism = "relay"): EraLinks {
    return organism === "relay" ? this.links : [];
  }

  /** The gauge of an epoch's shares. */
  held(epoch: string): number {
    return this.meters.value("lattice_dkg_has_share", { epoch });
  }

  conflicts(): number {
    return this.meters.value("lattice_roster_conflicts_total", { of: "relay" });
  }

  /** One look. @returns the organisms that were asked by it */
  look(nowMs: number): Organism[] {
    this.nowMs = nowMs;
    this.asked.length = 0;
    this.succession.look((key, command) => this.said.push([key, command]));
    return ORGANISMS.filter((organism) => this.asked.some(([asked]) => asked === organism));
  }
}

let scene: Scene;
beforeEach(() => {
  scene = new Scene();
});

describe("the other committees are asked", () => {
  const others = ORGANISMS.filter((organism) => organism !== "relay");

  test("at once and every 30 s, each time beginning with another member", () => {
    assert.deepEqual(scene.look(10), others);
    const [first] = scene.asked;
    assert.deepEqual(scene.look(30_009), []);
    assert.deepEqual(scene.look(30_010), others);
    assert.notDeepEqual(scene.asked[0], first);
  });

  test("after a second when something does not verify, until every one of a committee was the first; a wish that comes too soon is kept", () => {
    scene.look(0);
    scene.succession.want();
    assert.deepEqual(scene.look(999), []);
    const firsts = new Set<string>();
    for (let ask = 1; ask <= 7; ask++) {
      assert.deepEqual(scene.look(ask * 1000), others);
      firsts.add(scene.asked.find(([organism]) => organism === "unseal")?.[1] ?? assert.fail());
    }
    assert.deepEqual(firsts, new Set(endpoints().unseal));
    assert.deepEqual(scene.look(8000), [], "it has been granted");
  });
});

describe("shares", () => {
  test("are looked for once a second; those of an epoch that no slot needs any more are erased", () => {
    scene.look(999);
    assert.equal(scene.refreshed, 0);
    scene.look(1000);
    scene.look(1999);
    assert.equal(scene.refreshed, 1);
    assert.equal(scene.held("0"), 1);
    scene.rosters = [dealt.rosters.relay, one.roster];
    scene.look(2000);
    assert.ok(scene.shares.has(0n));
    assert.equal(scene.held("1"), 0);
    scene.shares.set(1n, { certificateShare: new Uint8Array(32) });
    scene.look(2999);
    assert.equal(scene.held("1"), 0);
    scene.rosters = [one.roster];
    scene.look(3000);
    assert.equal(scene.held("1"), 1);
    assert.ok(!scene.shares.has(0n));
    scene.look(4000);
    assert.equal(scene.held("0"), 0);
  });

  test("of the next epoch are said with their roster; of the one after that, or one in force, not", () => {
    scene.reshared.set(2n, two.certified);
    scene.look(0);
    assert.deepEqual(scene.said, []);
    scene.reshared.set(1n, one.certified);
    scene.look(50);
    assert.deepEqual(scene.said, [["roster/1", { type: "roster", certified: one.certified }]]);
    scene.rosters = [dealt.rosters.relay, one.roster];
    scene.reshared.delete(2n);
    scene.look(100);
    assert.equal(scene.said.length, 1);
  });
});

describe("what the log tells of", () => {
  test("rosters: served in the order of their slots, and kept", () => {
    scene.succession.announced(one.certified);
    scene.succession.learn(dealt.certifiedRoster);
    assert.deepEqual(scene.succession.rosters, [dealt.certifiedRoster, one.certified]);
    assert.equal(scene.succession.roster(100n), one.certified);
    assert.equal(scene.succession.roster(99n), undefined);
    assert.deepEqual(scene.kept, [one.certified]);
  });

  test("eras: learned and served; another beginning of one that is known is said and counted", () => {
    scene.links = [one.certified];
    scene.succession.takeEras();
    assert.deepEqual(scene.eras.links("relay"), [one.certified]);
    assert.deepEqual(scene.succession.rosters, [one.certified]);
    assert.equal(scene.meters.value("lattice_era", { of: "relay" }), 1);
    assert.equal(scene.conflicts(), 0);
    scene.links = [stray.certified];
    scene.succession.takeEras();
    assert.deepEqual(scene.eras.links("relay"), [one.certified]);
    assert.equal(scene.conflicts(), 1);
  });
});
