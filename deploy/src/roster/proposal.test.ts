/** When a committee may be changed, and into what: each healthy view beside the nearest one that is refused. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { ceremonyId, planProblems } from "@lattice/organism/ceremony/plan.ts";
import { successionPlan } from "@lattice/organism/ceremony/succession.ts";
import { signHead } from "@lattice/organism/committee/heads.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { firstEpoch, nextEpoch } from "@lattice/organism/testing/dealt-eras.ts";
import { dealCommittee } from "../../../services/organism/test/test-lattice.ts";
import { readSuccession, successionToJson } from "../ceremony/reshare.ts";
import { activationOf } from "./commands.ts";
import { type Answer, type CommitteeView, judgeCommittee } from "./committee-view.ts";
import { type ProposalRequest, propose, rulesProblem } from "./proposal.ts";

const committee = dealCommittee(3, { genesisMs: 1_790_000_000_000, slotMs: 1000 });
const { config } = committee;
const roster = committee.rosters.relay;
const NOW = 100n;
const certified = {
  outcome: {
    version: 1 as const,
    committee: roster.committee,
    generation: 0n,
    epoch: 0n,
    slot: roster.activationSlot,
    stage: "roster",
    kind: "result" as const,
    commitment: new Uint8Array([0]),
    bodyHash: undefined,
  },
  signature: new Uint8Array(96),
  signers: [],
};

function answer(index: number, change: Partial<Answer> & { readonly head32?: number } = {}): Answer {
  const { head32 = 7, ...rest } = change;
  const secret = committee.secrets[index]?.memberKey ?? assert.fail();
  const head = signHead(generateSigningKey(secret), {
    version: 1,
    committee: roster.committee,
    generation: 0n,
    member: index,
    position: 50n,
    head: new Uint8Array(32).fill(head32),
    newest: 60n,
  });
  const address = `m${index}:1`;
  return {
    index,
    address,
    decidedSlot: NOW - 3n,
    caughtUp: true,
    blocked: [],
    rosters: [{ roster, certified }],
    head,
    ...rest,
  };
}
function viewOf(answers: readonly Answer[]): CommitteeView {
  const view = judgeCommittee(config, "relay", answers);
  if ("problem" in view) assert.fail(view.problem);
  return view;
}
const everybody = (): Answer[] => [0, 1, 2].map((index) => answer(index));
const away = (index: number): Answer => ({ index, address: `m${index}:1`, problem: "nobody there" });
const newcomer = {
  memberKey: generateSigningKey(new Uint8Array(32).fill(9)).publicKey,
  boxKey: agreementKey(new Uint8Array(32).fill(9)).publicKey,
};
const replacing: ProposalRequest = { replace: 2, with: newcomer, activationSlot: NOW + 20n, nowSlot: NOW };
const refreshing: ProposalRequest = { ...replacing, replace: undefined, with: undefined };

function refused(view: CommitteeView, request: ProposalRequest, reason: RegExp): void {
  const judged = propose(view, request);
  assert.ok("problems" in judged, `expected a refusal: ${reason}`);
  assert.match(judged.problems.join("\n"), reason);
}
function accepted(view: CommitteeView, request: ProposalRequest) {
  const judged = propose(view, request);
  if ("problems" in judged) assert.fail(judged.problems.join("; "));
  assert.deepEqual(planProblems(successionPlan(judged.succession)), []);
  return judged.succession;
}

describe("the next roster", () => {
  before(initCrypto);

  test("a healthy committee may refresh, or give one seat to somebody else", () => {
    const view = viewOf(everybody());
    assert.equal(view.margin, 1);
    assert.deepEqual(
      accepted(view, refreshing).members.map(({ memberKey }) => memberKey),
      roster.members.map(({ memberKey }) => memberKey),
    );
    const { members } = accepted(view, replacing);
    assert.deepEqual(members[2]?.memberKey, newcomer.memberKey);
    assert.deepEqual(members[1]?.memberKey, roster.members[1]?.memberKey);
  });

  test("a further seat, or the last one given up, within the policy", () => {
    const view = viewOf(everybody());
    const adding: ProposalRequest = { ...replacing, replace: undefined, seats: "add" };
    const { members } = accepted(view, adding);
    assert.deepEqual([members.length, members[3]?.memberKey], [4, newcomer.memberKey]);
    refused(view, { ...adding, with: undefined }, /makes its keys first/);
    refused(view, { ...adding, replace: 1 }, /one at a time/);
    refused(viewOf([answer(0), answer(1), away(2)]), adding, /member 2 is away/);
    const [first] = roster.members;
    assert.ok(first !== undefined);
    refused(
      view,
      { ...adding, with: { memberKey: first.memberKey, boxKey: first.boxKey } },
      /has that member key already/,
    );
    const dropping: ProposalRequest = { ...refreshing, seats: "drop" };
    refused(view, dropping, /2 members: the lattice id fixes 3 to 7/);
    const wide = { ...config, relay: { ...config.relay, policy: { ...config.relay.policy, membersMin: 2 } } };
    assert.equal(accepted({ ...view, config: wide }, dropping).members.length, 2);
    refused({ ...view, config: wide }, { ...dropping, with: newcomer }, /nobody takes a seat/);
    for (const organism of ["zipnet", "tally"] as const) refused({ ...view, organism }, adding, /keeps its 3 members/);
  });

  test("a sealing threshold of unseal and offer, from the lattice config's to all members", () => {
    const view: CommitteeView = { ...viewOf(everybody()), organism: "unseal" };
    assert.equal(accepted(view, { ...refreshing, sealingThreshold: 3 }).sealingThreshold, 3);
    refused(view, { ...refreshing, sealingThreshold: 4 }, /2 \(the lattice config's\) to 3/);
    refused(view, { ...refreshing, sealingThreshold: 1 }, /2 \(the lattice config's\) to 3/);
    refused(viewOf(everybody()), { ...refreshing, sealingThreshold: 3 }, /relay seals nothing/);
  });

  test("the one that leaves may be gone; nobody else may", () => {
    const gone = viewOf([answer(0), answer(1), away(2)]);
    accepted(gone, replacing);
    refused(gone, refreshing, /member 2 is away/);
    refused(gone, { ...replacing, replace: 1 }, /member 2 is away.*\n.*1 members stay/);
  });

  test("another chain head, another key, a member that lags: away", () => {
    refused(viewOf([answer(0), answer(1), answer(2, { head32: 8 })]), refreshing, /another chain head/);
    const { head } = answer(1);
    refused(viewOf([answer(0), answer(1), answer(2, head === undefined ? {} : { head })]), refreshing, /another key/);
    refused(viewOf([answer(0), answer(1), answer(2, { caughtUp: false })]), refreshing, /not caught up/);
  });

  test("a blocked member is the one to replace, and nothing else happens before", () => {
    const blocked = [roster.members[2]?.memberKey ?? new Uint8Array()];
    const view = viewOf([answer(0, { blocked }), answer(1, { blocked }), away(2)]);
    assert.equal(view.seats[2]?.blocked, true);
    accepted(view, replacing);
    refused(view, refreshing, /member 2 is blocked.*replace it first/);
    refused(view, { ...replacing, replace: 0 }, /member 2 is blocked/);
  });

  test("one at a time: the roster in force must be active, and known alike", () => {
    const early = everybody().map((each) => ({ ...each, decidedSlot: roster.activationSlot - 1n }));
    refused(viewOf(early), refreshing, /is not decided yet: one at a time/);
    const other = { ...roster, epoch: 1n };
    const commitment = new Uint8Array([1]);
    const later = { roster: other, certified: { ...certified, outcome: { ...certified.outcome, commitment } } };
    refused(
      viewOf([answer(0, { rosters: [{ roster, certified }, later] }), answer(1), answer(2)]),
      refreshing,
      /wait until all do/,
    );
    refused(viewOf(everybody()), { ...refreshing, nowSlot: NOW + 80n, activationSlot: NOW + 200n }, /stands still/);
  });

  test("an era: another certificate key, by rules that know of it; what follows goes on in it", () => {
    const by = (rules: number) => [0, 1, 2].map((index) => answer(index, { rules }));
    const era: ProposalRequest = { ...refreshing, newEra: true };
    const succession = accepted(viewOf(by(5)), era);
    assert.equal(succession.newEra, true);
    assert.deepEqual(
      successionPlan(succession).keys.map(({ name, source }) => [name, source.type]),
      [
        ["certificate", "reshare"],
        ["next-certificate", "fresh"],
      ],
    );
    refused(viewOf(by(4)), era, /relay: member 0 rules 4, member 1 rules 4, .*; 5 are needed/);
    refused(viewOf(everybody()), era, /relay: nobody answers, so nobody says/);
    accepted(viewOf([answer(0, { rules: 4 }), ...by(5).slice(1)]), era);
    // Where one may be corrupt, one's word is not enough, neither for it nor against it.
    const told = [5, 4, 4, 4].map((rules, index) => ({ index, address: "", rules }));
    assert.match(rulesProblem("relay", told, 1) ?? "", /member 0 rules 5, member 1 rules 4/);
    assert.equal(rulesProblem("relay", [{ index: 1, address: "", rules: 5 }, ...told], 1), undefined);
    const away = { index: 1, address: "", rules: 5, problem: "it is behind" };
    assert.match(rulesProblem("relay", [away, ...told], 1) ?? "", /5 are needed/);
    // In era 1, as f + 1 members tell of it: the file carries the link, without which nobody reads it.
    const one = nextEpoch(firstEpoch(committee, "relay", 2), { activationSlot: 2n, newEra: true });
    const rosters = [{ roster: one.roster, certified: one.certified }];
    const heads = [0, 1, 2].map((index) => answer(index, { rules: 5, rosters }));
    const view = viewOf(heads);
    assert.deepEqual([view.roster.epoch, view.eras.length, view.links], [1n, 2, [one.certified]]);
    const next = accepted(view, refreshing);
    const directory = mkdtempSync(join(tmpdir(), "lattice-proposal-"));
    try {
      const path = join(directory, "succession.json");
      writeFileSync(path, successionToJson(next, view.certified, view.links));
      const read = readSuccession(path);
      assert.deepEqual([read.from, read.eras], [one.roster, view.eras]);
      assert.deepEqual(ceremonyId(successionPlan(read)), ceremonyId(successionPlan(next)));
      writeFileSync(path, successionToJson(next, view.certified));
      assert.throws(() => readSuccession(path), /own era 1 is missing/);
      writeFileSync(path, successionToJson({ ...next, newEra: true }, view.certified, view.links));
      assert.equal(readSuccession(path).newEra, true);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test("slots that something may have been said about are not the next epoch's", () => {
    const view = viewOf(everybody());
    accepted(view, { ...refreshing, activationSlot: NOW + 9n });
    refused(view, { ...refreshing, activationSlot: NOW + 8n }, /too near: 109 at the earliest/);
  });

  test("keys of somebody who sits there, a seat that is not, a signer that the contract does not know", () => {
    const view = viewOf(everybody());
    const seated = roster.members[0] ?? assert.fail();
    refused(view, { ...replacing, with: { ...newcomer, memberKey: seated.memberKey } }, /member 0 has that member key/);
    refused(view, { ...replacing, with: { ...newcomer, memberKey: new Uint8Array(32).fill(0xff) } }, /not an Ed25519/);
    const gone = everybody().map((each) => ({ ...each, blocked: [newcomer.memberKey] }));
    refused(viewOf(gone), replacing, /proven to say two things.*it needs another/);
    accepted(viewOf(gone), {
      ...replacing,
      with: { ...newcomer, memberKey: generateSigningKey(new Uint8Array(32).fill(10)).publicKey },
    });
    refused(view, { ...replacing, replace: 3 }, /no member 3/);
    refused(
      view,
      { ...replacing, with: { ...newcomer, signer: new Uint8Array(20) } },
      /settlement contract knows none.*another lattice: docs\/operators\.md, “What an epoch cannot change”$/,
    );
    refused(view, { ...replacing, with: undefined }, /makes its keys first/);
  });

  test("too few answers are no view at all", () => {
    const judged = judgeCommittee(config, "relay", [answer(0), away(1), away(2)]);
    assert.ok("problem" in judged && /no roster is known to a quorum.*member 1 at m1:1/.test(judged.problem));
  });

  test("a schedule gives every operator the same slot", () => {
    const every = { inSlots: 50n, everySlots: 1000n };
    assert.equal(activationOf(every, 100n), 1000n);
    assert.equal(activationOf(every, 949n), 1000n);
    assert.equal(activationOf(every, 951n), 2000n);
    assert.equal(activationOf({ inSlots: 50n }, 100n), 150n);
  });
});
