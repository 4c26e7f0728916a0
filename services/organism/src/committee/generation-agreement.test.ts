/** Where a generation ends: never in two places, whatever is lost, delayed, crashed or said falsely; and it does end. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { toHex } from "../codec/codec.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import { hashBytes } from "../crypto/hash.ts";
import { type AgreementOptions, GenerationAgreement, type OwnEnd } from "./generation-agreement.ts";
import {
  chooseEnd,
  chooseReports,
  type EndReport,
  type EndStatement,
  type GenerationEndPoint,
  readEnd,
  signEnd,
} from "./generation-end.ts";
import { quorumOf } from "./quorum.ts";
import type { Roster } from "./roster.ts";

const ENDING = { committee: new Uint8Array(32).fill(1), generation: 0n };
const bytesOf = (text: string): Uint8Array => hashBytes("lattice/test/bytes/v1", new TextEncoder().encode(text));
const KEYS = Array.from({ length: 7 }, (_, index) => generateSigningKey(bytesOf(`member ${index}`)));

function rosterOf(members: number): Roster {
  return {
    version: 1,
    committee: ENDING.committee,
    epoch: 0n,
    activationSlot: 1n,
    members: KEYS.slice(0, members).map(({ publicKey }, index) => ({
      index,
      memberKey: publicKey,
      boxKey: new Uint8Array(32),
      certificateShare: new Uint8Array(48),
      secondShare: undefined,
      signer: undefined,
    })),
    sealingKey: undefined,
    sealingUntilSlot: 0n,
  };
}
const quorumFor = (members: number, faults: number) => ({ members, faults, quorum: quorumOf(members, faults) });

/** A chain by name of its branch: branches share what lies below `split`. */
function chain(length: number, branch = "", split = length): Uint8Array[] {
  return Array.from({ length: length + 1 }, (_, at) => bytesOf(at <= split ? `head ${at}` : `head ${at} ${branch}`));
}
const reportOf = (heads: Uint8Array[], lost = true, prepared?: EndReport["prepared"]): EndReport => ({
  round: 0,
  lost,
  position: BigInt(heads.length - 1),
  heads,
  prepared,
});

describe("the end that follows from reports", () => {
  const three = quorumFor(3, 0);
  const four = quorumFor(4, 1);
  const at = (heads: Uint8Array[], position = heads.length - 1) => ({
    end: { position: BigInt(position), head: heads[position] ?? new Uint8Array() },
  });

  test("the furthest that any has read; fewer than a quorum, or one alone that sees it lost, is not enough", () => {
    assert.deepEqual(chooseEnd([reportOf(chain(5)), reportOf(chain(9))], three), at(chain(9)));
    assert.ok("waits" in chooseEnd([reportOf(chain(9))], three));
    assert.ok("waits" in chooseEnd([reportOf(chain(9)), reportOf(chain(5), false), reportOf(chain(5), false)], three));
    assert.deepEqual(
      chooseEnd([reportOf(chain(9)), reportOf(chain(9)), reportOf(chain(5), false)], three),
      at(chain(9)),
    );
    assert.ok("waits" in chooseEnd([reportOf(chain(9)), reportOf(chain(9), false), reportOf(chain(9), false)], four));
  });

  test("two chains: nobody guesses while either may have been certified; the one that may, stands", () => {
    const [a, b] = [chain(9, "a", 5), chain(8, "b", 5)];
    assert.ok("waits" in chooseEnd([reportOf(a), reportOf(b)], three));
    // With the third: a quorum read a, so it stands although b is as long.
    assert.deepEqual(chooseEnd([reportOf(a), reportOf(a), reportOf(chain(9, "b", 5))], three), at(a));
    assert.deepEqual(chooseEnd([reportOf(chain(9, "b", 5)), reportOf(b), reportOf(a)], three), at(chain(9, "b", 5)));
    // n = 4, f = 1: two and two, of whom one may lie.
    assert.ok("waits" in chooseEnd([reportOf(a), reportOf(a), reportOf(b), reportOf(b)], four));
    assert.deepEqual(chooseEnd([reportOf(a), reportOf(a), reportOf(a), reportOf(b)], four), at(a));
  });

  test("no branch that anything was certified on: all go on from one of them", () => {
    const [a, b, c] = [chain(7, "a", 5), chain(8, "b", 5), chain(9, "c", 5)];
    assert.deepEqual(chooseEnd([reportOf(a), reportOf(b), reportOf(c)], three), at(c));
  });

  test("what was prepared in the highest round stands, however far others have read", () => {
    const [short, long] = [chain(4), chain(9)];
    const prepared = (round: number, heads: Uint8Array[]) => ({ round, ...at(heads), by: [] });
    const reports = [reportOf(long, true, prepared(1, chain(6))), reportOf(short, true, prepared(3, short))];
    assert.deepEqual(chooseEnd(reports, three), at(short));
  });

  test("chains without a common part are not compared by guessing", () => {
    const far = { ...reportOf(chain(99)), heads: chain(99).slice(-10) };
    assert.ok("waits" in chooseEnd([reportOf(chain(5)), far], three));
    assert.ok("end" in chooseEnd([reportOf(chain(95)), far], three));
  });

  test("whoever has nothing in common with the others holds up nobody that a quorum is without it", () => {
    const honest = [reportOf(chain(99)), reportOf(chain(98)), reportOf(chain(99))];
    const strange = [
      { ...reportOf(chain(99)), position: 2n ** 64n - 1n, heads: [bytesOf("far")] },
      { ...reportOf(chain(99)), heads: [bytesOf("other")] },
      { ...reportOf(chain(98)), heads: [bytesOf("other")] },
    ];
    // Away for so long that it has nothing in common with what the others can show.
    const window = honest.map((each) => ({ ...each, heads: each.heads.slice(-20) }));
    const cases = [
      ...strange.map((each) => [each, ...honest] as const),
      [reportOf(chain(40), false), ...window] as const,
    ];
    for (const [odd, ...others] of cases) {
      assert.ok("waits" in chooseEnd([odd, ...others], four));
      assert.deepEqual(chooseReports([odd, ...others], four), { ...at(chain(99)), from: others });
      assert.ok("waits" in chooseReports([odd, ...others.slice(1)], four), "with two of them it is needed");
    }
    const [a, b] = [chain(9, "a", 5), chain(8, "b", 5)];
    assert.ok("waits" in chooseReports([reportOf(a), reportOf(a), reportOf(b), reportOf(b)], four), "nobody guesses");
    const two = [reportOf(chain(9)), reportOf(chain(9), false)];
    assert.ok("waits" in chooseReports(two, three), "one alone sees it lost");
  });

  test("reports are compared with each other once, however many points there are to look at", () => {
    let looks = 0;
    const watched = (heads: Uint8Array[]): Uint8Array[] =>
      new Proxy(heads, {
        get(target, key, receiver) {
          if (typeof key === "string" && /^\d+$/.test(key)) looks += 1;
          return Reflect.get(target, key, receiver);
        },
      });
    const reports = Array.from({ length: 7 }, () => reportOf(chain(500))).map((each) => ({
      ...each,
      heads: watched(each.heads),
    }));
    const seven = quorumFor(7, 2);
    assert.ok("end" in chooseReports(reports, seven));
    assert.ok(looks < 2 * 21 * 501 + 10_000, `${looks} heads looked at`);
    looks = 0;
    chooseReports(reports, seven);
    assert.ok(looks < 10_000, `${looks} heads looked at again`);
  });
});

test("messages of others, of another generation or changed are not taken", () => {
  const roster = rosterOf(4);
  const [key] = KEYS;
  assert.ok(key !== undefined);
  const statement: EndStatement = { type: "report", ...reportOf(chain(3)) };
  const raw = signEnd(key, ENDING, 0, statement);
  assert.equal(readEnd(ENDING, roster, raw)?.member, 0);
  assert.equal(readEnd(ENDING, roster, signEnd(key, ENDING, 1, statement)), undefined);
  assert.equal(readEnd({ ...ENDING, generation: 1n }, roster, raw), undefined);
  assert.equal(readEnd({ ...ENDING, committee: new Uint8Array(32) }, roster, raw), undefined);
  assert.equal(
    readEnd(ENDING, roster, signEnd(key, ENDING, 0, { type: "report", ...reportOf(chain(3)), heads: [] })),
    undefined,
  );
  fc.assert(
    fc.property(fc.nat(raw.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = raw.slice();
      changed[at] = (changed[at] ?? 0) ^ change;
      assert.equal(readEnd(ENDING, roster, changed), undefined);
    }),
    { numRuns: 200 },
  );
});

/** Members on virtual time: what they journal survives a crash, messages go from one to another when the schedule says so. */
class World {
  readonly members: number;
  readonly faults: number;
  readonly nodes: {
    agreement: GenerationAgreement;
    own: OwnEnd;
    kept: { said: Uint8Array[]; locked: GenerationAgreement["locked"] };
    up: boolean;
    decided: Set<string>;
  }[];
  /** Everything that was ever signed, for whoever lies with it. */
  readonly all: Uint8Array[] = [];
  nowMs = 0;

  constructor(members: number, faults: number, tips: readonly Uint8Array[][], lost: readonly boolean[]) {
    this.members = members;
    this.faults = faults;
    this.nodes = Array.from({ length: members }, (_, self) => {
      const heads = tips[self] ?? [];
      const own = { lost: lost[self] ?? true, position: BigInt(heads.length - 1), heads };
      const kept = { said: [], locked: undefined };
      return { agreement: this.#fresh(self), own, kept, up: true, decided: new Set<string>() };
    });
  }

  #fresh(self: number): GenerationAgreement {
    const options: AgreementOptions = {
      ending: ENDING,
      roster: rosterOf(this.members),
      quorum: quorumFor(this.members, this.faults),
      self,
      roundMs: 1000,
      graceMs: 300,
    };
    return new GenerationAgreement(options);
  }

  step(index: number, crashBeforePublishing = false): void {
    const node = this.nodes[index];
    const key = KEYS[index];
    if (node === undefined || key === undefined || !node.up) return;
    for (const intent of node.agreement.step(this.nowMs, node.own)) {
      this.#say(index, intent, crashBeforePublishing);
      if (crashBeforePublishing) return;
    }
    const { decided } = node.agreement;
    if (decided === undefined) return;
    node.decided.add(this.name(decided));
    // As generation-change.ts does: whoever has decided gives its share, by which others learn that there was a quorum of commits.
    const given = node.agreement.shares(decided).some(({ member }) => member === index);
    const zeros = { epoch: 0n, stateHash: new Uint8Array(32), stateBytes: 0, share: new Uint8Array(96) };
    if (!given) this.#say(index, { statement: { type: "share", end: decided, ...zeros } }, crashBeforePublishing);
  }

  #say(index: number, { statement }: { readonly statement: EndStatement }, crash: boolean): void {
    const node = this.nodes[index];
    const key = KEYS[index];
    assert.ok(node !== undefined && key !== undefined);
    const raw = signEnd(key, ENDING, index, statement);
    node.agreement.receive(raw);
    node.kept = { said: node.agreement.own(), locked: node.agreement.locked };
    if (crash) this.crash(index);
    else this.all.push(raw);
  }

  /** Gives up the rounds below `round`. */
  pass(index: number, round: number): void {
    this.#say(index, { statement: { type: "pass", round } }, false);
    this.nodes[index]?.agreement.passed(this.nowMs);
  }

  crash(index: number): void {
    const node = this.nodes[index];
    if (node !== undefined) node.up = false;
  }

  restart(index: number): void {
    const node = this.nodes[index];
    if (node === undefined || node.up) return;
    node.agreement = this.#fresh(index);
    node.agreement.restore(node.kept.said, node.kept.locked);
    node.up = true;
  }

  /** `to` hears what `from` knows, or a part of it. */
  exchange(from: number, to: number, drop = -1): void {
    const [source, sink] = [this.nodes[from], this.nodes[to]];
    if (source === undefined || sink === undefined || !source.up || !sink.up) return;
    const known = sink.agreement.messages();
    [...source.agreement.messages()].forEach(([hash, raw], at) => {
      if (at !== drop && !known.has(hash)) sink.agreement.receive(raw);
    });
  }

  name(end: GenerationEndPoint): string {
    return `${end.position}/${toHex(end.head)}`;
  }

  decisions(except: readonly number[] = []): string[] {
    const all = this.nodes.flatMap(({ decided }, index) => (except.includes(index) ? [] : [...decided]));
    return [...new Set(all)];
  }

  /** Everybody is up and hears everybody until all honest ones have decided. */
  settle(except: readonly number[] = []): void {
    for (let index = 0; index < this.members; index++) this.restart(index);
    for (let turn = 0; turn < 4000; turn++) {
      this.nowMs += 50;
      for (let index = 0; index < this.members; index++) {
        if (except.includes(index)) continue;
        this.step(index);
        for (let to = 0; to < this.members; to++) if (!except.includes(to)) this.exchange(index, to);
      }
      if (this.nodes.every(({ agreement }, index) => except.includes(index) || agreement.decided !== undefined)) return;
    }
    assert.fail(
      `it does not end: ${this.nodes.map(({ agreement }) => `${agreement.round} ${agreement.waits}`).join("; ")}`,
    );
  }
}

/** What members do besides: lose the log, or only their own view of it, read on, and sign on the chain that the others read. */
type Move = "lose" | "return" | "wait" | "sign" | "step" | "hear";
const MOVES: readonly Move[] = ["lose", "return", "wait", "sign", "sign", "step", "step", "hear", "hear", "hear"];

/**
 * Members that read and sign on one chain, one of them on another at first. Any may see its log lost, report, and come
 * back to the chain of the others. `lets` false: it does so without asking anybody.
 */
class Readers extends World {
  static readonly trunk = chain(60);
  static readonly branch = chain(30, "y", 4);
  readonly lets: boolean;
  readonly modes: ("reads" | "waits" | "ends")[];
  /** How far each has signed on the trunk. */
  readonly signed: number[];
  length = 5;

  constructor(members: number, faults: number, apart: number, lets: boolean) {
    const tips = Array.from({ length: members }, (_, index) =>
      index === apart ? Readers.branch : Readers.trunk.slice(0, 6),
    );
    super(members, faults, tips, []);
    this.lets = lets;
    this.modes = tips.map((tip) => (tip === Readers.branch ? "ends" : "reads"));
    this.signed = tips.map((_, index) => (index < faults ? Number.POSITIVE_INFINITY : 0));
  }

  move(move: Move, who: number, other: number, rounds: number): void {
    const node = this.nodes[who];
    const mode = this.modes[who];
    assert.ok(node !== undefined);
    this.nowMs += 20;
    switch (move) {
      case "lose":
        if (mode === "reads") this.modes[who] = "ends";
        return;
      case "return":
        if (mode !== "ends") return;
        this.crash(who);
        this.restart(who);
        this.modes[who] = "waits";
        this.#read(who);
        return;
      case "wait": {
        const owed = this.lets ? node.agreement.owed : undefined;
        if (mode !== "waits") return;
        if (owed === undefined) this.modes[who] = "reads";
        else if (owed === "never") this.modes[who] = "ends";
        else if (!node.agreement.hasPassed(owed)) this.pass(who, owed);
        return;
      }
      case "sign":
        if (mode !== "reads") return;
        this.length = Math.min(this.length + 1, 59);
        this.#read(who);
        this.signed[who] = this.length;
        return;
      case "step":
        if (mode === "ends") this.step(who);
        return;
      case "hear": {
        this.exchange(other, who);
        const due = node.agreement.passDue(this.nowMs + rounds * 1000);
        if (due !== undefined) this.pass(who, due);
      }
    }
  }

  #read(who: number): void {
    const heads = Readers.trunk.slice(0, this.length + 1);
    const node = this.nodes[who];
    if (node !== undefined) node.own = { lost: true, position: BigInt(heads.length - 1), heads };
  }

  /** Up to where a quorum has signed on the trunk, corrupt ones everything. */
  get certified(): number {
    return [...this.signed].sort((a, b) => b - a)[quorumOf(this.members, this.faults) - 1] ?? 0;
  }

  /** An end that leaves out what a quorum has signed; undefined when there is none. */
  get leftOut(): string | undefined {
    const ends = Array.from({ length: 60 - this.certified }, (_, at) => this.certified + at).map((position) =>
      this.name({ position: BigInt(position), head: Readers.trunk[position] ?? new Uint8Array() }),
    );
    return this.decisions().find((end) => !ends.includes(end));
  }
}

/** Plays, lets everybody end the generation beside liars that lead to the other chain, and looks whether anything certified was left out. */
function playReaders(
  lets: boolean,
  members: number,
  faults: number,
  script: readonly (readonly [number, number, number])[],
): { readonly leftOut: string | undefined; readonly returned: number; readonly decided: number } {
  const world = new Readers(members, faults, members - 1, lets);
  let returned = 0;
  for (const [move, who, other] of script) {
    const index = faults + (who % (members - faults));
    const before = world.modes[index];
    world.move(MOVES[move] ?? "hear", index, faults + (other % (members - faults)), other);
    if (before === "waits" && world.modes[index] === "reads") returned += 1;
  }
  for (let turn = 0; turn < 120; turn++) {
    world.nowMs += 100;
    for (let index = faults; index < members; index++) {
      world.modes[index] = "ends";
      world.step(index);
      for (let to = faults; to < members; to++) world.exchange(index, to);
    }
    // A report of theirs, a proposal from whatever was ever reported, and their votes for it.
    for (let liar = 0; liar < faults; liar++) {
      for (let to = faults; turn < 4 && to < members; to++) {
        for (const kind of [0, 3, 1, 2]) {
          lie(world, liar, [Readers.branch], { type: "lie", kind, to, round: turn, branch: 0 });
        }
      }
    }
  }
  return { leftOut: world.leftOut, returned, decided: world.decisions().length };
}

const readersScripts = (count: number) => {
  const step = fc.tuple(fc.nat(MOVES.length - 1), fc.nat(6), fc.nat(6));
  return fc.sample(fc.array(step, { minLength: 60, maxLength: 240, size: "max" }), { numRuns: count, seed: 5 });
};

/** Each is many signatures; more on demand. */
const RUNS = Number(process.env["LATTICE_TEST_RUNS"] ?? 8);

const SIZES = [
  { members: 3, faults: 0 },
  { members: 4, faults: 1 },
  { members: 5, faults: 1 },
  { members: 7, faults: 2 },
] as const;

type Action =
  | { readonly type: "step"; readonly who: number; readonly crash: boolean }
  | { readonly type: "hear"; readonly from: number; readonly to: number; readonly drop: number }
  | { readonly type: "restart"; readonly who: number }
  | { readonly type: "time"; readonly ms: number }
  | {
      readonly type: "lie";
      readonly kind: number;
      readonly to: number;
      readonly round: number;
      readonly branch: number;
    };

const actions = (members: number, faults: number): fc.Arbitrary<Action[]> => {
  const who = fc.nat(members - 1);
  return fc.array(
    fc.oneof(
      {
        weight: 8,
        arbitrary: fc.record({ type: fc.constant("step" as const), who, crash: fc.nat(9).map((n) => n === 0) }),
      },
      {
        weight: 12,
        arbitrary: fc.record({
          type: fc.constant("hear" as const),
          from: who,
          to: who,
          drop: fc.integer({ min: -8, max: 6 }),
        }),
      },
      { weight: 2, arbitrary: fc.record({ type: fc.constant("restart" as const), who }) },
      { weight: 2, arbitrary: fc.record({ type: fc.constant("time" as const), ms: fc.nat(1500) }) },
      {
        weight: faults === 0 ? 0 : 8,
        arbitrary: fc.record({
          type: fc.constant("lie" as const),
          kind: fc.nat(5),
          to: who,
          round: fc.nat(3),
          branch: fc.nat(2),
        }),
      },
    ),
    { minLength: 40, maxLength: 160, size: "max" },
  );
};

/** A corrupt member says whatever helps two ends, to one member only: double proposals, votes for both, forgotten locks. */
function lie(
  world: World,
  liar: number,
  tips: readonly Uint8Array[][],
  action: Extract<Action, { type: "lie" }>,
): unknown {
  const key = KEYS[liar];
  const target = world.nodes[action.to];
  if (key === undefined || target === undefined || !target.up) return;
  const tip = tips[action.branch % tips.length] ?? [];
  const end = { position: BigInt(tip.length - 1), head: tip.at(-1) ?? new Uint8Array(32) };
  const { round } = action;
  const tell = (statement: EndStatement): void => {
    const raw = signEnd(key, ENDING, liar, statement);
    world.all.push(raw);
    target.agreement.receive(raw);
  };
  switch (action.kind) {
    case 0:
      return tell({ type: "report", round, lost: true, position: end.position, heads: tip, prepared: undefined });
    case 1:
      return tell({ type: "prepare", round, end });
    case 2:
      return tell({ type: "commit", round, end });
    case 3: {
      // As leader: from whatever reports of the round exist, a quorum at a time, ending where its branch does.
      const roster = rosterOf(world.members);
      const reports = new Map<number, Uint8Array>();
      for (const raw of world.all) {
        const message = readEnd(ENDING, roster, raw);
        if (message?.statement.type === "report" && message.statement.round === round) reports.set(message.member, raw);
      }
      const chosen = [...reports.values()];
      for (let skip = 0; skip <= chosen.length; skip++) {
        const subset = chosen.filter((_, at) => at !== skip);
        const statements = subset.flatMap((raw) => {
          const statement = readEnd(ENDING, roster, raw)?.statement;
          return statement?.type === "report" ? [statement] : [];
        });
        const choice = chooseEnd(statements, quorumFor(world.members, world.faults));
        if ("end" in choice) tell({ type: "proposal", round, end: choice.end, reports: subset });
      }
      return undefined;
    }
    default:
      // Old truths, again.
      for (const raw of world.all.slice(action.round * 3, action.round * 3 + 4)) target.agreement.receive(raw);
      return undefined;
  }
}

function play(world: World, liars: readonly number[], tips: readonly Uint8Array[][], script: readonly Action[]): void {
  for (const action of script) {
    switch (action.type) {
      case "step":
        if (!liars.includes(action.who)) world.step(action.who, action.crash);
        break;
      case "hear":
        world.exchange(action.from, action.to, action.drop);
        break;
      case "restart":
        world.restart(action.who);
        break;
      case "time":
        world.nowMs += action.ms;
        break;
      case "lie":
        for (const liar of liars) lie(world, liar, tips, action);
    }
    assert.ok(world.decisions(liars).length <= 1, `two ends: ${world.decisions(liars).join(" and ")}`);
  }
}

for (const { members, faults } of SIZES) {
  describe(`${members} members, ${faults} corrupt`, () => {
    const lengths = fc.array(fc.integer({ min: 3, max: 9 }), { minLength: members, maxLength: members });

    test("crashes, loss and any order: at most one end, and it comes when all are back", () => {
      fc.assert(
        fc.property(lengths, actions(members, 0), (ends, script) => {
          const tips = ends.map((length) => chain(length));
          const world = new World(members, faults, tips, []);
          play(world, [], tips, script);
          world.settle();
          assert.equal(world.decisions().length, 1);
          // Whatever a quorum has read is in it.
          const [end = ""] = world.decisions();
          const sorted = [...ends].sort((a, b) => b - a);
          assert.ok(Number(end.split("/")[0]) >= (sorted[quorumOf(members, faults) - 1] ?? 0));
        }),
        { numRuns: RUNS },
      );
    });

    if (faults > 0) {
      test("liars that lead, vote for two ends and forget: at most one end, and it comes without them", () => {
        const liars = Array.from({ length: faults }, (_, index) => index);
        const property = fc.property(lengths, actions(members, faults), (ends, script) => {
          const tips = ends.map((length) => chain(length));
          const world = new World(members, faults, tips, []);
          const branches = [chain(9, "x", 4), chain(12), chain(6, "y", 2)];
          play(world, liars, branches, script);
          world.settle(liars);
          assert.equal(world.decisions(liars).length, 1);
        });
        fc.assert(property, { numRuns: RUNS });
        // Three of five honest commits and two corrupt ones let four decide; the fifth, which heard another corrupt commit, learns it by shares.
        fc.assert(property, { numRuns: 3, seed: 1487020407 });
      });
    }

    test("whoever has reported signs nothing more before a quorum has given that round up: what is certified is in the end", () => {
      const played = readersScripts(Math.ceil((4 * RUNS) / members)).map((script) =>
        playReaders(true, members, faults, script),
      );
      assert.ok(played.some(({ returned }) => returned > 0));
      assert.deepEqual(
        played.flatMap(({ leftOut }) => leftOut ?? []),
        [],
      );
    });

    test("a member that is alone in seeing it lost ends nothing; with enough others all follow", () => {
      const tips = Array.from({ length: members }, () => chain(5));
      const alone = new World(members, faults, tips, [true, ...Array.from({ length: members - 1 }, () => false)]);
      for (let turn = 0; turn < 200; turn++) {
        alone.nowMs += 50;
        for (let from = 0; from < members; from++) {
          alone.step(from);
          for (let to = 0; to < members; to++) alone.exchange(from, to);
        }
      }
      assert.deepEqual(alone.decisions(), []);
      assert.ok(alone.nodes.every(({ agreement }) => !agreement.convincing));
      const enough = Array.from({ length: members }, (_, index) => index < Math.max(2, faults + 1));
      const together = new World(members, faults, tips, enough);
      together.settle();
      assert.ok(together.nodes.every(({ agreement }) => agreement.convincing));
    });
  });
}

test("members that go on without asking lose what they certify", () => {
  const played = readersScripts(40).map((script) => playReaders(false, 3, 0, script));
  assert.ok(played.some(({ leftOut }) => leftOut !== undefined));
});

describe("letting go", () => {
  const tips = Array.from({ length: 4 }, () => chain(5));
  const fresh = () => new World(4, 1, tips, []);
  const nodeOf = (world: World, index: number) => world.nodes[index]?.agreement ?? assert.fail(`no member ${index}`);
  const tell = (world: World, to: number, from: number, statement: EndStatement): boolean => {
    const key = KEYS[from];
    assert.ok(key !== undefined);
    return nodeOf(world, to).receive(signEnd(key, ENDING, from, statement));
  };
  const end = { position: 5n, head: chain(5)[5] ?? assert.fail() };

  test("whoever has said nothing owes nothing; a report is owed for until a quorum has given its round up", () => {
    const world = fresh();
    assert.equal(nodeOf(world, 2).owed, undefined);
    world.step(2);
    assert.equal(nodeOf(world, 2).owed, 1);
    world.pass(2, 1);
    tell(world, 2, 0, { type: "pass", round: 1 });
    assert.equal(nodeOf(world, 2).owed, 1, "two of three");
    tell(world, 2, 1, { type: "pass", round: 1 });
    assert.equal(nodeOf(world, 2).owed, undefined);
    // It takes part again, in the next round, and owes for that one.
    world.step(2);
    assert.equal(nodeOf(world, 2).owed, 2);
  });

  test("whoever has prepared lets nobody go, and counts for nothing in being let go itself", () => {
    const world = fresh();
    tell(world, 2, 2, { type: "prepare", round: 0, end });
    for (const from of [0, 1]) tell(world, 2, from, { type: "pass", round: 1 });
    assert.equal(nodeOf(world, 2).passDue(0), undefined);
    world.pass(2, 1);
    assert.equal(nodeOf(world, 2).owed, 1, "two others");
    tell(world, 2, 3, { type: "pass", round: 1 });
    assert.equal(nodeOf(world, 2).owed, undefined);
  });

  test("who has seen a quorum prepare is never let go", () => {
    const world = fresh();
    world.step(2);
    for (const from of [0, 1, 3]) tell(world, 2, from, { type: "prepare", round: 0, end });
    world.step(2);
    for (const from of [0, 1, 3]) tell(world, 2, from, { type: "pass", round: 1 });
    assert.equal(nodeOf(world, 2).owed, "never");
  });

  test("rounds rise by one, once in a round's time, whatever one member asks for", () => {
    const world = fresh();
    tell(world, 1, 3, { type: "pass", round: 999_999 });
    assert.equal(nodeOf(world, 1).passDue(world.nowMs), 1);
    world.pass(1, 1);
    assert.equal(nodeOf(world, 1).round, 1);
    assert.equal(nodeOf(world, 1).passDue(999), undefined);
    assert.equal(nodeOf(world, 1).passDue(1000), 2);
  });

  test("a member that says in every round that it has read something of its own holds nobody up", () => {
    const world = fresh();
    const honest = [0, 1, 2];
    for (let turn = 0; turn < 400 && honest.some((index) => nodeOf(world, index).decided === undefined); turn++) {
      world.nowMs += 50;
      for (const index of honest) {
        const { round } = nodeOf(world, index);
        const heads = [bytesOf("of its own")];
        tell(world, index, 3, { type: "report", round, lost: true, position: 9n, heads, prepared: undefined });
        world.step(index);
        for (const to of honest) world.exchange(index, to);
      }
    }
    assert.deepEqual(world.decisions([3]), [world.name(end)]);
  });

  test("a proposal with more reports than there are members is none", () => {
    const world = fresh();
    const proposal = (reports: number): EndStatement => ({
      type: "proposal",
      round: 1,
      end,
      reports: Array.from({ length: reports }, () => new Uint8Array(1)),
    });
    assert.equal(tell(world, 0, 1, proposal(5)), false);
    assert.equal(tell(world, 0, 1, proposal(4)), true);
  });

  test("a report of a round that its author has given up is none, and tells of no loss", () => {
    const world = fresh();
    const report = { type: "report" as const, ...reportOf(chain(5)) };
    for (const from of [2, 3]) tell(world, 1, from, report);
    assert.ok(nodeOf(world, 1).convincing);
    tell(world, 1, 3, { type: "pass", round: 1 });
    assert.ok(!nodeOf(world, 1).convincing);
    assert.equal(tell(world, 1, 3, { ...report, position: 4n, heads: chain(4) }), false);
  });
});
