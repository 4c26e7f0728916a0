/** Real members whose broker lies: whoever can know stops or says so; nobody is ever part of a second certificate. */
import assert from "node:assert/strict";
import { afterEach, before, describe, test } from "node:test";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { equalBytes } from "../src/codec/codec.ts";
import { decodeEntry, encodeEntry } from "../src/committee/entry.ts";
import { verifyFraudProof } from "../src/committee/fraud.ts";
import { signHead } from "../src/committee/heads.ts";
import { outcomeDigest, verifyCertificate } from "../src/committee/outcome.ts";
import { blsSign } from "../src/crypto/bls.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { FraudProofs } from "../src/node/fraud-proofs.ts";
import { integrityMethods } from "../src/node/integrity-service.ts";
import { toWireDecision, toWireHead } from "../src/node/integrity-wire.ts";
import { defineSome } from "../src/testing/some-methods.ts";
import { type Process, WatchedCommittee } from "./watched-committee.ts";

let committee: WatchedCommittee;
before(() => initCrypto());
afterEach(() => committee.end());

const reasons = ({ fatal }: Process): string[] => fatal.map(({ reason }) => reason);
const add = (slot: bigint, amount: number) =>
  ({ type: "machine", command: { type: "add", slot, amount, padding: new Uint8Array() } }) as const;
function at<T>(list: readonly T[], index: number): T {
  const found = list[index];
  assert.ok(found !== undefined);
  return found;
}

/** No stage of a slot has two certificates among all that anybody holds. */
async function assertOneCertificateEach(processes: readonly Process[]): Promise<number> {
  const { certificateKey } = committee.dealt.config.relay.policy;
  const digests = new Map<bigint, Uint8Array>();
  for (const { member } of processes) {
    for (let slot = 1n; slot < 40n; slot++) {
      const certified = member.host.certified("accepted", slot);
      if (certified === undefined) continue;
      assert.ok(verifyCertificate(certificateKey, certified.outcome, certified.signature));
      const digest = outcomeDigest(certified.outcome);
      assert.deepEqual(digests.get(slot) ?? digest, digest, `two certificates for slot ${slot}`);
      digests.set(slot, digest);
    }
  }
  return digests.size;
}

describe("a broker that forks", () => {
  test("n = 4, f = 1, split 3 to 1: the one stops, naming where and from whom; the three go on", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const all = await committee.startAll([0, 1, 2, 3]);
    const [a, alone] = [at(all, 0), at(all, 3)];
    await committee.certified(a, 1n);
    const before = alone.member.committee.position;
    committee.log.fork([3]);
    const certified = committee.certified(a, 2n);
    await committee.until("it stops", () => alone.fatal.length > 0);
    assert.deepEqual(reasons(alone), ["LOG_FORKED"]);
    for (const index of [0, 1, 2])
      assert.match(at(alone.fatal, 0).detail, new RegExp(`member ${index} at position \\d+`));
    assert.ok(!alone.member.ready());
    assert.ok(
      alone.lines.some(
        ({ message, fields }) => message.includes("another chain") && Number(fields["position"]) > Number(before),
      ),
    );
    await certified;
    for (const slot of [3n, 4n]) await committee.certified(a, slot);
    for (const each of all.slice(0, 3)) assert.deepEqual(each.fatal, []);
    await assertOneCertificateEach(all);
  });

  test("n = 4, f = 1, split 2 to 2: all stop, and nothing is certified on either side", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const all = await committee.startAll([0, 1, 2, 3]);
    await committee.certified(at(all, 0), 1n);
    committee.log.fork([2, 3]);
    committee.nowMs += 100;
    await committee.until("all stop", () => all.every(({ fatal }) => fatal.length > 0));
    for (const each of all) assert.deepEqual(reasons(each), ["LOG_FORKED"]);
    assert.equal(await assertOneCertificateEach(all), 1);
  });

  test("n = 3, f = 0, split 2 to 1: the one stops, the two are a quorum and go on, also from a start", async () => {
    committee = await WatchedCommittee.deal(3, "none");
    const all = await committee.startAll([0, 1, 2]);
    const [a, b, alone] = [at(all, 0), at(all, 1), at(all, 2)];
    await committee.certified(a, 1n);
    committee.log.fork([2]);
    const certified = committee.certified(a, 2n);
    await committee.until("it stops", () => alone.fatal.length > 0);
    assert.deepEqual(reasons(alone), ["LOG_FORKED"]);
    await certified;
    await committee.crash(b);
    const again = await committee.start(1);
    await committee.certified(again, 3n);
    for (const each of [a, b, again]) assert.deepEqual(each.fatal, []);
    await assertOneCertificateEach(all);
  });

  test("n = 3, f = 0, everybody alone: all stop", async () => {
    committee = await WatchedCommittee.deal(3, "none");
    const all = await committee.startAll([0, 1, 2]);
    await committee.certified(at(all, 0), 1n);
    committee.log.fork([1]);
    committee.log.fork([2]);
    committee.nowMs += 100;
    await committee.until("all stop", () => all.every(({ fatal }) => fatal.length > 0));
    for (const each of all) assert.deepEqual(reasons(each), ["LOG_FORKED"]);
    await assertOneCertificateEach(all);
  });

  test("two sides are given different inputs, and one member's votes on both: one certificate", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const honest = await committee.startAll([0, 1, 3]);
    const [a, b, d] = [at(honest, 0), at(honest, 1), at(honest, 2)];
    await committee.certified(a, 1n);
    // No calls get through yet: nobody can compare heads, and stop, while the two sides are given what they decide on.
    committee.calls.cut(() => true);
    const other = committee.log.fork([3]);
    const liars = [committee.corrupt(2).sees(a), committee.corrupt(2).sees(d)] as const;
    const branches = [committee.log.trunk, other] as const;
    for (const [side, liar] of liars.entries()) liar.put(liar.join(), at(branches, side));
    // Each side closes slot 2 over an input that the other never sees.
    assert.equal(await a.member.host.submit(add(2n, 5)), undefined);
    assert.equal(await d.member.host.submit(add(2n, 7)), undefined);
    const seen = [a, d] as const;
    const outcome = committee.certified(a, 2n).catch(() => undefined);
    const secrets = at(committee.dealt.secrets, 2);
    for (const [side, liar] of liars.entries()) {
      liar.put(liar.sign({ type: "close", stage: "accepted", slot: 2n, inputs: [] }), at(branches, side));
      // On the lone side two closes do not make a quorum; the liar can do no more than skip or close.
    }
    await committee.until("the side of two decides", () => a.member.committee.outcome("accepted", 2n) !== undefined);
    const decided = a.member.committee.outcome("accepted", 2n);
    assert.ok(decided !== undefined);
    const share = blsSign(secrets.certificateShare, outcomeDigest(decided));
    liars[0].put(liars[0].sign({ type: "vote", votes: [{ stage: "accepted", slot: 2n, share }] }));
    await outcome;
    assert.equal(at(seen, 1).member.host.certified("accepted", 2n), undefined);
    committee.calls.cut(() => false);
    await committee.until("the lone one stops", () => d.fatal.length > 0);
    assert.deepEqual(reasons(d), ["LOG_FORKED"]);
    assert.deepEqual([reasons(a), reasons(b)], [[], []]);
    await assertOneCertificateEach(honest);
  });

  test("votes for two outcomes on two sides are found when heads are compared, and prove who gave them", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    // Two are honest, so that the third has to take part in every quorum.
    const honest = await committee.startAll([0, 1]);
    const a = at(honest, 0);
    const liar = committee.corrupt(2).sees(a);
    liar.put(liar.join());
    await committee.until("it has joined", () => a.member.committee.author(2)?.incarnation === 1n);
    committee.nowMs += 100;
    liar.put(liar.sign({ type: "close", stage: "accepted", slot: 1n, inputs: [] }));
    await committee.until("the slot is decided", () => a.member.committee.outcome("accepted", 1n) !== undefined);
    const outcome = a.member.committee.outcome("accepted", 1n);
    assert.ok(outcome !== undefined);
    const secrets = at(committee.dealt.secrets, 2);
    const invented = { ...outcome, kind: "result" as const, commitment: new Uint8Array([9]) };
    // A log that d's corrupt neighbour shows: another head, and votes for what was never decided here.
    const position = a.member.committee.position;
    const lie = { ...honestHead(a), head: new Uint8Array(32).fill(1), position, newest: position };
    const share = (of: typeof outcome) => blsSign(secrets.certificateShare, outcomeDigest(of));
    committee.calls.serve("relay-2", [
      defineSome(CommitteeService, {
        getHead: async () => toWireHead(signHead(liar.voice.memberKey, { ...lie, member: 2 })),
        listVotes: async ({ fromSlot }) => ({
          decisions:
            fromSlot > 1n
              ? []
              : [
                  {
                    outcome: {
                      committeeId: invented.committee,
                      generation: 0n,
                      epoch: 0n,
                      slot: 1n,
                      stage: "accepted",
                      kind: 1,
                      commitment: invented.commitment,
                    },
                    votes: [{ memberIndex: 2, share: share(invented) }],
                  },
                ],
        }),
      }),
    ]);
    // Its share for the true outcome is in the log as well.
    liar.put(liar.sign({ type: "vote", votes: [{ stage: "accepted", slot: 1n, share: share(outcome) }] }));
    await committee.certified(a, 1n);
    await committee.until("it is blocked", () => honest.every(({ member }) => member.committee.isBlocked(2)));
    const [proof] = a.proofs.values();
    assert.ok(proof !== undefined);
    const verdict = verifyFraudProof(committee.dealt.config, "relay", proof);
    assert.ok("fraud" in verdict && verdict.fraud.kind === "votes" && verdict.fraud.member === 2);
    // The share that it gave still counts: the certificate stands.
    assert.ok(a.member.host.certified("accepted", 1n) !== undefined);
    assert.equal(a.member.committee.quorum.quorum, 3);
    for (const each of honest) assert.deepEqual(each.fatal, []);
  });

  function honestHead({ member, index }: Process) {
    const { id, generation, head, position } = member.committee;
    return { version: 1 as const, committee: id, generation, member: index, position, head, newest: position };
  }

  test("a corrupt member that states wrong heads stops nobody; it is named and counted", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const honest = await committee.startAll([0, 1, 3]);
    const a = at(honest, 0);
    await committee.certified(a, 1n);
    const liar = committee.corrupt(2).sees(a);
    committee.calls.serve("relay-2", [
      defineSome(CommitteeService, {
        async getHead({ position }) {
          const statement = { ...honestHead(a), head: new Uint8Array(32).fill(1), position, member: 2 };
          return toWireHead(signHead(liar.voice.memberKey, statement));
        },
        listVotes: async () => ({ decisions: [] }),
      }),
    ]);
    await committee.until("it is counted everywhere", () =>
      honest.every(({ meters }) => meters.value("lattice_log_differing_members") === 1),
    );
    assert.ok(a.lines.some(({ message, fields }) => message.includes("another chain") && fields["member"] === 2));
    for (const slot of [2n, 3n]) await committee.certified(a, slot);
    for (const each of honest) assert.deepEqual(each.fatal, []);
    const { members } = await committee.calls.connect(CommitteeService)("relay-0", a.member.committee.id).getStatus({});
    assert.deepEqual(
      members.map(({ differs }) => differs),
      [false, false, true, false],
    );
    // It answers as everybody does from here on: what was held against it is settled.
    committee.calls.serve("relay-2", [
      defineSome(CommitteeService, {
        ...integrityMethods({
          committee: a.member.committee,
          self: 2,
          memberKey: liar.voice.memberKey,
          proofs: new FraudProofs({ put: async () => undefined, get: () => undefined }),
        }),
      }),
    ]);
    await committee.until("it is settled", () => a.meters.value("lattice_log_differing_members") === 0);
  });

  test("one that differs and has votes to show for ever keeps nobody from comparing heads", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const honest = await committee.startAll([0, 1, 3]);
    const a = at(honest, 0);
    const decided = await committee.certified(a, 1n);
    const liar = committee.corrupt(2).sees(a);
    let differs = true;
    let pages = 0;
    committee.calls.serve("relay-2", [
      defineSome(CommitteeService, {
        async getHead({ position }) {
          const own = a.member.committee.headAt(position);
          const head = differs || own === undefined ? new Uint8Array(32).fill(1) : own;
          return toWireHead(signHead(liar.voice.memberKey, { ...honestHead(a), head, position, member: 2 }));
        },
        // One slot a page, and then the next, and the next.
        async listVotes({ fromSlot }) {
          pages += 1;
          await new Promise((resolve) => setTimeout(resolve, 1));
          return { decisions: [toWireDecision({ outcome: { ...decided, slot: fromSlot }, votes: new Map() })] };
        },
      }),
    ]);
    await committee.until("it is counted", () => a.meters.value("lattice_log_differing_members") === 1);
    await committee.until("its votes are asked for", () => pages > 0);
    differs = false;
    await committee.until("it is settled", () => a.meters.value("lattice_log_differing_members") === 0);
    await committee.certified(a, 2n);
    for (const each of honest) assert.deepEqual(each.fatal, []);
  });

  test("heads that nobody signed, of others, or of another generation count for nothing", async () => {
    committee = await WatchedCommittee.deal(3, "none");
    const honest = await committee.startAll([0, 1]);
    const a = at(honest, 0);
    await committee.certified(a, 1n);
    const wrong = { ...honestHead(a), head: new Uint8Array(32).fill(1) };
    const stranger = committee.corrupt(2).voice;
    stranger.incarnationKey = stranger.keyOf(7n);
    const answers = [
      signHead(stranger.incarnationKey, { ...wrong, member: 2 }),
      signHead(stranger.memberKey, { ...wrong, member: 1 }),
      signHead(stranger.memberKey, { ...wrong, member: 2, generation: 1n }),
      signHead(stranger.memberKey, { ...wrong, member: 2, committee: new Uint8Array(32) }),
      signHead(stranger.memberKey, { ...wrong, member: 2, position: 1_000_000n }),
    ];
    let asked = 0;
    committee.calls.serve("relay-2", [
      defineSome(CommitteeService, {
        getHead: async () => toWireHead(at(answers, asked++ % answers.length)),
      }),
    ]);
    await committee.until("each was answered twice to both", () => asked > 4 * answers.length);
    for (const each of honest) {
      assert.deepEqual(each.fatal, []);
      assert.equal(each.meters.value("lattice_log_differing_members"), 0);
    }
    await committee.certified(a, 2n);
  });

  test("entries that cross the fork count, also when the ones before them stand on the other side only", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const all = await committee.startAll([0, 1, 2, 3]);
    const [a, alone] = [at(all, 0), at(all, 3)];
    await committee.certified(a, 1n);
    committee.calls.cut(() => true);
    const said = (index: number): bigint => a.member.committee.author(index)?.ctl.sequence ?? 0n;
    const before = [0, 1, 2].map(said);
    const other = committee.log.fork([3]);
    other.add(new Uint8Array([2]));
    await committee.certified(a, 2n);
    await committee.until("each has said something there", () =>
      before.every((sequence, index) => said(index) > sequence),
    );
    assert.deepEqual(reasons(alone), []);
    // From here on the broker shows everybody everything.
    committee.log.pass((author, raw) => {
      if (committee.log.branchOf(author) !== other) other.add(raw);
      return [raw];
    });
    await committee.certified(a, 3n);
    await committee.until("it stops", () => alone.fatal.length > 0);
    assert.deepEqual(reasons(alone), ["LOG_FORKED"]);
    assert.match(at(alone.fatal, 0).detail, /\(entry\)/);
    assert.ok(alone.meters.value("lattice_entries_refused_total", { reason: "OUT_OF_ORDER" }) > 1);
    for (const each of all.slice(0, 3)) assert.deepEqual(each.fatal, []);
  });

  test("entries that cross the fork count like statements: the broker alone cannot hide it", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const all = await committee.startAll([0, 1, 2, 3]);
    const a = at(all, 0);
    await committee.certified(a, 1n);
    // Members cannot call each other; the broker relays the entries of one side to the other, so that all hear all.
    committee.calls.cut(() => true);
    const other = committee.log.fork([2, 3]);
    committee.log.trunk.add(new Uint8Array([1]));
    other.add(new Uint8Array([2]));
    committee.log.pass((author, raw) => {
      (committee.log.branchOf(author) === other ? committee.log.trunk : other).add(raw);
      return [raw];
    });
    committee.nowMs += 100;
    // Whoever hears two of the other side first stops; the others hear no more, and have no quorum.
    const stopped = () => all.filter(({ fatal }) => fatal.length > 0);
    await committee.until("one side stops", () => stopped().length >= 2);
    for (const each of stopped()) {
      assert.deepEqual(reasons(each), ["LOG_FORKED"]);
      assert.match(at(each.fatal, 0).detail, /\(entry\)/);
    }
    await assertOneCertificateEach(all);
  });

  test("a member that comes back to another log than the others' stops before its first word", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const all = await committee.startAll([0, 1, 2, 3]);
    const [a, d] = [at(all, 0), at(all, 3)];
    await committee.certified(a, 1n);
    await committee.crash(d);
    const branch = committee.log.fork([3]);
    branch.add(new Uint8Array([1]));
    await committee.certified(a, 2n);
    const length = branch.messages.length;
    const again = await committee.start(3);
    assert.ok(!again.member.ready());
    await committee.until("it stops", () => again.fatal.length > 0);
    assert.deepEqual(reasons(again), ["LOG_FORKED"]);
    assert.equal(branch.messages.length, length);
  });

  test("members that stop again at each start are heard before: those on the other chain stop as well", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const all = await committee.startAll([0, 1, 2, 3]);
    const [a, b, c, d] = [at(all, 0), at(all, 1), at(all, 2), at(all, 3)];
    await committee.certified(a, 1n);
    for (const each of [c, d]) await committee.crash(each);
    const branch = committee.log.fork([2, 3]);
    branch.add(new Uint8Array([1]));
    committee.log.trunk.add(new Uint8Array([2]));
    const length = branch.messages.length;
    for (let turn = 0; turn < 5 && a.fatal.length + b.fatal.length < 2; turn++) {
      const again = await Promise.all([committee.start(2), committee.start(3)]);
      await committee.until("both stop", () => again.every(({ fatal }) => fatal.length > 0));
      for (const each of again) {
        assert.deepEqual(reasons(each), ["LOG_FORKED"]);
        await committee.crash(each);
      }
    }
    for (const each of [a, b]) assert.deepEqual(reasons(each), ["LOG_FORKED"]);
    assert.equal(branch.messages.length, length);
  });
});

describe("a broker that withholds, repeats, loses or renumbers", () => {
  test("what it keeps from one member is noticed there; nobody stops, and it goes on when released", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const all = await committee.startAll([0, 1, 2, 3]);
    const [a, d] = [at(all, 0), at(all, 3)];
    await committee.certified(a, 1n);
    committee.log.hold(3);
    await committee.certified(a, 2n);
    await committee.until("it is told", () => d.meters.value("lattice_log_withheld") === 1);
    assert.ok(d.lines.some(({ message }) => message.includes("withholds")));
    committee.log.release(3);
    await committee.until("it is over", () => d.meters.value("lattice_log_withheld") === 0);
    await committee.certified(d, 3n);
    for (const each of all) assert.deepEqual(each.fatal, []);
  });

  test("one that acknowledges and drops is survived: what has not come back is said again", async () => {
    committee = await WatchedCommittee.deal(3, "none");
    const all = await committee.startAll([0, 1, 2]);
    let dropped = 0;
    committee.log.pass((_, raw) => {
      dropped += 1;
      return dropped % 3 === 0 ? [] : [raw];
    });
    for (const slot of [1n, 2n]) await committee.certified(at(all, 0), slot);
    assert.ok(dropped > 3);
    for (const each of all) assert.deepEqual(each.fatal, []);
  });

  test("too few answers is degraded, and over when they come", async () => {
    committee = await WatchedCommittee.deal(4, "third");
    const all = await committee.startAll([0, 1, 2, 3]);
    const a = at(all, 0);
    await committee.certified(a, 1n);
    committee.calls.cut(() => true);
    // Answers that were on their way still count: first too few agree, then nobody but itself.
    await committee.until("degraded", () => a.meters.value("lattice_log_degraded") === 1);
    await committee.until("alone", () => a.meters.value("lattice_log_heads_agreeing") === 1);
    committee.calls.cut(() => false);
    await committee.until("well again", () => a.meters.value("lattice_log_degraded") === 0);
    assert.ok(a.meters.value("lattice_log_heads_agreeing") >= 3);
    assert.deepEqual(a.fatal, []);
  });

  for (const [what, position] of [
    ["a hole", (next: bigint) => [next + 1n]],
    ["a repeat", (next: bigint) => [next, next]],
  ] as const) {
    test(`${what} in what it delivers stops the member that sees it`, async () => {
      committee = await WatchedCommittee.deal(3, "none");
      const all = await committee.startAll([0, 1, 2]);
      const a = at(all, 0);
      await committee.certified(a, 1n);
      committee.log.number((member, next) => (member === 0 ? position(next) : [next]));
      committee.nowMs += 100;
      await committee.until("it stops", () => a.fatal.length > 0);
      assert.deepEqual(reasons(a), ["LOG_HOLE"]);
      assert.deepEqual(reasons(at(all, 1)), []);
    });
  }

  test("everything many times over, old and new: one history, one outcome each", async () => {
    committee = await WatchedCommittee.deal(3, "none");
    const all = await committee.startAll([0, 1, 2]);
    const kept: Uint8Array[] = [];
    committee.log.pass((_, raw) => {
      kept.push(raw);
      return [raw, raw, ...kept.slice(-8)];
    });
    for (const slot of [1n, 2n, 3n]) await committee.certified(at(all, 0), slot);
    await committee.until(
      "all are level",
      () => new Set(all.map(({ member }) => member.committee.position)).size === 1,
    );
    const [first, ...others] = all.map(({ member }) => member.committee);
    assert.ok(first !== undefined);
    for (const each of others) assert.ok(each.position !== first.position || equalBytes(each.head, first.head));
    for (const each of all) {
      assert.deepEqual(each.fatal, []);
      assert.deepEqual(each.member.committee.blocked, []);
    }
    await assertOneCertificateEach(all);
  });

  test("forged, squatted and altered entries change nothing but the head", async () => {
    committee = await WatchedCommittee.deal(3, "none");
    const all = await committee.startAll([0, 1, 2]);
    const a = at(all, 0);
    committee.log.pass((author, raw) => {
      const { bodyBytes, signature } = decodeEntry(raw);
      const altered = bodyBytes.slice();
      altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
      const broken = signature.slice();
      broken[0] = (broken[0] ?? 0) ^ 1;
      // In front of the true one, so that each of them has the number first.
      const stranger = committee.corrupt((author + 1) % 3).sees(a);
      stranger.voice.incarnation = 1n;
      const squatted = stranger.sign({ type: "skip", stage: "accepted", toSlot: 9n }, { body: { author } });
      return [encodeEntry(altered, signature), encodeEntry(bodyBytes, broken), squatted, raw];
    });
    for (const slot of [1n, 2n]) assert.equal((await committee.certified(a, slot)).kind, "empty");
    for (const each of all) {
      assert.deepEqual(each.fatal, []);
      assert.deepEqual(each.member.committee.blocked, []);
      assert.ok(each.meters.value("lattice_entries_refused_total", { reason: "NOT_AUTHOR" }) > 0);
    }
  });

  test("a log that is cut while it is read is not followed into another end", async () => {
    committee = await WatchedCommittee.deal(3, "none");
    const all = await committee.startAll([0, 1, 2]);
    const [a, c] = [at(all, 0), at(all, 2)];
    await committee.certified(a, 2n);
    // The broker forgets the newest entries for one member and takes new ones in their place.
    const { messages } = committee.log.trunk;
    const cut = committee.log.fork([2]);
    cut.messages.splice(messages.length - 3);
    for (let index = 0; index < 6; index++) cut.add(new Uint8Array([index]));
    committee.nowMs += 100;
    await committee.until("it stops", () => c.fatal.length > 0);
    assert.deepEqual(reasons(c), ["LOG_FORKED"]);
    await assertOneCertificateEach(all);
  });
});
