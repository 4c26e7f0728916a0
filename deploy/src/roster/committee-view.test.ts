/** What one member says of itself must not make the others look away: real calls, members played by hand. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { signHead } from "@lattice/organism/committee/heads.ts";
import { HEADS_KEPT } from "@lattice/organism/committee/state.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { toWireHead } from "@lattice/organism/node/integrity-wire.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { startServer } from "@lattice/organism/rpc/server.ts";
import { dealCommittee } from "@lattice/organism/testing/dealt-committee.ts";
import { defineSome } from "@lattice/organism/testing/some-methods.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { askCommittee, comparedAt, isCalledBlocked, judgeCommittee } from "./committee-view.ts";
import { healthProblems } from "./proposal.ts";

const dealt = dealCommittee(4, {}, "third");
const { config, certifiedRoster } = dealt;
const { committee } = dealt.rosters.relay;
const SLOT = 100n;
const LIAR = 2;
/** Far beyond what members keep heads of. */
const POSITION = BigInt(5 * HEADS_KEPT);
/** Of somebody who has no seat any more. */
const PROVEN = new Uint8Array(32).fill(5);
const closers: (() => void)[] = [];

interface Standing {
  readonly generation?: bigint;
  readonly position: bigint;
  readonly head?: number;
}

/** A member that has come so far, and keeps heads as members do. */
async function member(index: number, { generation = 0n, position: newest, head = 7 }: Standing): Promise<string> {
  const key = generateSigningKey(dealt.secrets[index]?.memberKey ?? assert.fail());
  const server = await startServer({
    address: "127.0.0.1:0",
    committee,
    domain: "relay",
    log: createLogger("silent", {}),
    meters: { count: () => undefined, gauge: () => undefined, record: () => undefined },
    services: [
      defineSome(CommitteeService, {
        getStatus: async () => ({ position: newest, generation, decidedSlot: SLOT, caughtUp: true }),
        listFrauds: async () => ({ frauds: [{ memberKey: PROVEN }] }),
        getRosters: async () => ({ rosters: [toWireOutcome(certifiedRoster)] }),
        async getHead({ position: asked }) {
          const position = asked < newest ? asked : newest;
          if (position + BigInt(HEADS_KEPT) <= newest) throw faultsOf("relay", COMMON_FAULTS)("VIEW_TOO_OLD");
          const statement = { version: 1 as const, committee, generation, member: index, position, newest };
          return toWireHead(signHead(key, { ...statement, head: new Uint8Array(32).fill(head) }));
        },
      }),
    ],
  });
  closers.push(() => server.close());
  return `127.0.0.1:${server.port}`;
}

/** What operators see of three that have come far and are a few entries apart, and of one that stands as given. */
async function viewWith(standing: Standing) {
  const all = [0, 1, 2, 3].map(
    (index): Standing => (index === LIAR ? standing : { position: POSITION + BigInt(index) }),
  );
  const addresses = await Promise.all(all.map((each, index) => member(index, each)));
  const view = judgeCommittee(config, "relay", await askCommittee(config, "relay", addresses));
  if ("problem" in view) assert.fail(view.problem);
  return view;
}

describe("a committee seen from outside", () => {
  before(initCrypto);
  after(() => {
    for (const close of closers) close();
  });

  test("members a few entries apart are all there", async () => {
    const view = await viewWith({ position: POSITION - 9n });
    assert.deepEqual(healthProblems(view, undefined, SLOT), []);
    assert.equal(view.margin, 1);
    assert.ok(isCalledBlocked(view.answers, view.quorum, PROVEN));
    assert.ok(!isCalledBlocked(view.answers.slice(0, 1), view.quorum, PROVEN), "one's word");
  });

  for (const [what, standing, problem] of [
    ["stands still far behind", { position: 1n }, /position 1, the others to 10240/],
    ["is behind by more than heads are kept for", { position: POSITION - BigInt(HEADS_KEPT) - 1n }, /position 8191,/],
    ["claims to be far ahead", { position: POSITION * 9n, head: 8 }, /too far back to be compared/],
    ["claims a later generation", { generation: 7n, position: 3n }, /in generation 7, the others in 0/],
    ["is on another chain", { position: POSITION, head: 8 }, /another chain head/],
  ] as const) {
    test(`one that ${what} is named, and may be replaced: the others are there`, async () => {
      const view = await viewWith(standing);
      assert.match(view.seats[LIAR]?.problem ?? "", problem);
      assert.deepEqual(
        view.seats.map(({ live }) => live),
        [true, true, false, true],
      );
      assert.deepEqual(healthProblems(view, LIAR, SLOT), []);
      assert.match(healthProblems(view, undefined, SLOT).join("\n"), /^member 2 is away/);
    });
  }

  test("one that is left in the generation before is named so", async () => {
    const others = [0, 1, 3].map((index) => member(index, { generation: 1n, position: 20n + BigInt(index) }));
    const [a, b, d] = await Promise.all(others);
    const left = await member(LIAR, { generation: 0n, position: POSITION });
    const view = judgeCommittee(config, "relay", await askCommittee(config, "relay", [a, b, left, d].map(String)));
    if ("problem" in view) assert.fail(view.problem);
    assert.deepEqual(healthProblems(view, LIAR, SLOT), []);
    assert.match(view.seats[LIAR]?.problem ?? "", /it is in generation 0, the others in 1/);
  });

  test("heads are compared where those can who are near", () => {
    const compared = (faults: number, ...positions: bigint[]): bigint =>
      comparedAt(
        positions.map((position) => ({ generation: 0n, position })),
        faults,
      ).position;
    assert.equal(compared(1), 0n);
    assert.equal(compared(1, 50n), 50n);
    assert.equal(compared(0, 2000n, 1990n, 1995n), 1990n);
    const span = BigInt(HEADS_KEPT / 2);
    assert.equal(compared(0, 5000n, 5000n - span, 5000n), 5000n - span);
    assert.equal(compared(0, 5000n, 4999n - span, 5000n), 5000n);
    assert.equal(compared(1, 9_000_000n, 5000n, 5001n, 4999n), 4999n);
  });
});
