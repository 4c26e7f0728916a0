/** Real members and one that says two things: it is proven, committed and served; who crashes, loses or doubles is not. */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, before, beforeEach, describe, test } from "node:test";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { equalBytes, toHex } from "../src/codec/codec.ts";
import type { CommitteeCommand } from "../src/committee/commands.ts";
import { verifyFraudProof } from "../src/committee/fraud.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { FraudCollector } from "../src/node/fraud-collector.ts";
import { copyFolder } from "../src/testing/copy-folder.ts";
import { type CorruptMember, type Process, WatchedCommittee } from "./watched-committee.ts";

const skip = (toSlot: bigint): CommitteeCommand => ({ type: "skip", stage: "accepted", toSlot });
const LIAR = 2;

let committee: WatchedCommittee;
before(() => initCrypto());
afterEach(() => committee.end());

const settled = (processes: readonly Process[]) =>
  committee.until("all have read the whole log", () =>
    processes.every(({ member, index }) => {
      return member.committee.position === BigInt(committee.log.branchOf(index).messages.length);
    }),
  );

describe("a member that says two things", () => {
  let honest: Process[];
  let liar: CorruptMember;
  beforeEach(async () => {
    committee = await WatchedCommittee.deal(4, "third");
    honest = await committee.startAll([0, 1, 3]);
    const [first] = honest;
    assert.ok(first !== undefined);
    await committee.certified(first, 1n);
    liar = committee.corrupt(LIAR).sees(first);
    liar.put(liar.join());
  });
  const blockedEverywhere = () =>
    committee.until("it is blocked everywhere", () => honest.every(({ member }) => member.committee.isBlocked(LIAR)));

  test("is proven from the log alone, the refused entry included; the committee goes on without it", async () => {
    const [a] = honest;
    assert.ok(a !== undefined);
    liar.put(liar.sign(skip(0n), { aside: true }));
    liar.put(liar.sign(skip(1n)));
    await blockedEverywhere();
    assert.equal((await committee.certified(a, 3n)).kind, "empty");
    await settled(honest);
    assert.equal(new Set(honest.map(({ member }) => toHex(member.committee.head))).size, 1);
    assert.equal(new Set(honest.map(({ member }) => toHex(member.committee.stateHash()))).size, 1);
    for (const { member, meters, fatal, proofs } of honest) {
      assert.deepEqual(fatal, []);
      assert.equal(member.committee.blocked.length, 1);
      await committee.until("the margin is told", () => meters.value("lattice_committee_blocked_members") === 1);
      assert.equal(meters.value("lattice_frauds_proven_total", { kind: "entries" }), 1);
      for (const [hash, proof] of proofs) {
        const verdict = verifyFraudProof(committee.dealt.config, "relay", proof);
        assert.ok("fraud" in verdict && verdict.fraud.member === LIAR, hash);
      }
    }
    await committee.until("nobody more may be lost", () => a.meters.value("lattice_committee_margin") === 0);
    const before = a.member.committee.position;
    liar.put(liar.sign(skip(2n)));
    liar.put(liar.join(2n));
    await committee.until("it has been heard", () => a.member.committee.position >= before + 2n);
    assert.equal(a.member.committee.author(LIAR)?.incarnation, 1n);
  });

  test("is proven by two long entries too: the first is read again from the log", async () => {
    const [a] = honest;
    assert.ok(a !== undefined);
    const long = (fill: number): CommitteeCommand => ({ type: "machine", command: new Uint8Array(300_000).fill(fill) });
    liar.put(liar.sign(long(1), { aside: true }));
    liar.put(liar.sign(long(2)));
    await blockedEverywhere();
    for (const { proofs } of honest) {
      for (const proof of proofs.values()) {
        assert.ok(proof.length > 600_000);
        const verdict = verifyFraudProof(committee.dealt.config, "relay", proof);
        assert.ok("fraud" in verdict && verdict.fraud.member === LIAR);
      }
    }
    assert.equal((await committee.certified(a, 3n)).kind, "empty");
  });

  test("is named and left alone when the log does not show the first of two long entries any more", async () => {
    const long = (fill: number): CommitteeCommand => ({ type: "machine", command: new Uint8Array(300_000).fill(fill) });
    const [first, second] = [liar.sign(long(1), { aside: true }), liar.sign(long(2), { aside: true })];
    liar.put(first);
    await settled(honest);
    const { messages } = committee.log.trunk;
    const at = messages.findIndex((raw) => equalBytes(raw, first));
    assert.ok(at >= 0);
    messages[at] = second;
    liar.put(second);
    await committee.until("it is given up", () =>
      honest.every(({ lines }) => lines.some(({ message }) => /does not show the first any more/.test(message))),
    );
    assert.ok(honest.every(({ member, proofs }) => proofs.size === 0 && member.committee.blocked.length === 0));
  });

  test("every member serves the proof, also one that was started afterwards from nothing or from its disk", async () => {
    const [a, b] = honest;
    assert.ok(a !== undefined && b !== undefined);
    liar.put(liar.sign(skip(0n), { aside: true }));
    liar.put(liar.sign(skip(1n)));
    await blockedEverywhere();
    const asked = async ({ member, index }: Process): Promise<void> => {
      const asks = committee.calls.connect(CommitteeService)(`relay-${index}`, member.committee.id);
      const { frauds } = await asks.listFrauds({});
      const [record] = frauds;
      assert.ok(record !== undefined && frauds.length === 1);
      assert.equal(record.memberIndex, LIAR);
      assert.equal(record.kind, "entries");
      const { proof } = await asks.getFraud({ proofHash: record.proofHash });
      const verdict = verifyFraudProof(committee.dealt.config, "relay", proof);
      assert.ok("fraud" in verdict && equalBytes(verdict.fraud.memberKey, record.memberKey));
      const { members } = await asks.getStatus({});
      assert.deepEqual(
        members.map(({ blocked }) => blocked),
        [false, false, true, false],
      );
      await assert.rejects(asks.getFraud({ proofHash: new Uint8Array(32) }));
    };
    await asked(a);
    await asked(b);
    await committee.crash(b);
    const again = await committee.start(1);
    await asked(again);
    await committee.crash(again);
    await asked(await committee.start(1, "another disk"));
  });

  test("one entry many times, as a broker may show it, accuses nobody", async () => {
    const [a] = honest;
    assert.ok(a !== undefined);
    const raw = liar.sign(skip(1n));
    for (let times = 0; times < 5; times++) liar.put(raw);
    await committee.certified(a, 4n);
    await settled(honest);
    assert.ok(honest.every(({ member }) => member.committee.blocked.length === 0));
  });

  test("a forged second entry in its name accuses nobody: whoever wrote it has not its key", async () => {
    const [a] = honest;
    assert.ok(a !== undefined);
    const forger = committee.corrupt(LIAR).sees(a);
    forger.join(9n);
    liar.put(liar.sign(skip(1n), { aside: true }));
    liar.put(liar.sign(skip(0n), { aside: true, signer: forger.voice.incarnationKey }));
    await committee.certified(a, 4n);
    await settled(honest);
    assert.ok(honest.every(({ member }) => member.committee.blocked.length === 0));
  });

  test("an accusation found by a member that crashes at once is still made after its restart", async () => {
    const [a, b, d] = honest;
    assert.ok(a !== undefined && b !== undefined && d !== undefined);
    // Nobody's proofs get into the log until one that has seen it has crashed and come back.
    committee.log.pass(() => []);
    liar.put(liar.sign(skip(0n), { aside: true }));
    liar.put(liar.sign(skip(1n)));
    await committee.until("all have found it", () => honest.every(({ proofs }) => proofs.size === 1));
    await new Promise((resolve) => setImmediate(resolve));
    for (const each of honest) await committee.crash(each);
    committee.log.pass((_, raw) => [raw]);
    const again = await committee.startAll([0, 1, 3]);
    await committee.until("it is blocked", () => again.every(({ member }) => member.committee.isBlocked(LIAR)));
  });
});

describe("an honest member is never taken for a fraud", () => {
  let all: Process[];
  beforeEach(async () => {
    committee = await WatchedCommittee.deal(3, "none");
    // A broker at its worst that is still a broker: what passes it may come twice, and much later again.
    const late: Uint8Array[] = [];
    committee.log.pass((_, raw) => {
      late.push(raw);
      const old = late[Math.floor(late.length / 2)];
      return old === undefined ? [raw] : [raw, old];
    });
    all = await committee.startAll([0, 1, 2]);
  });
  async function assertNobodyIsAccused(slot: bigint): Promise<void> {
    const running = committee.processes.filter(({ fatal }) => fatal.length === 0);
    const [first] = running;
    assert.ok(first !== undefined && running.length >= 2);
    for (const each of [1n, 2n]) await committee.certified(first, slot + each);
    for (const { member, lines, proofs, fatal } of running) {
      assert.deepEqual(fatal, []);
      assert.deepEqual(member.committee.blocked, []);
      assert.equal(proofs.size, 0);
      assert.deepEqual(
        lines.filter(({ message }) => /two things|another chain/.test(message)),
        [],
      );
    }
    // The judge of last resort: one collector that sees everything anybody ever put into the log.
    const collector = new FraudCollector({
      config: committee.dealt.config,
      organism: "relay",
      roster: committee.dealt.rosters.relay,
    });
    collector.roster(committee.dealt.certifiedRoster);
    assert.ok(committee.log.trunk.messages.length > 20);
    for (const [index, raw] of committee.log.trunk.messages.entries()) {
      assert.equal(collector.entry({ position: BigInt(index + 1), raw }), undefined);
    }
  }

  test("when it crashes in the middle of a slot, again and again", async () => {
    let [, , c] = all;
    for (const slot of [1n, 2n, 3n, 4n]) {
      assert.ok(c !== undefined);
      void committee.certified(c, slot).catch(() => undefined);
      await new Promise((resolve) => setImmediate(resolve));
      await committee.crash(c);
      c = await committee.start(2);
    }
    await assertNobodyIsAccused(4n);
  });

  test("when it loses its disk", async () => {
    const [a, , c] = all;
    assert.ok(a !== undefined && c !== undefined);
    await committee.certified(a, 2n);
    await committee.crash(c);
    await rm(join(committee.directory, "disk", "member-2"), { recursive: true });
    await committee.start(2);
    await assertNobodyIsAccused(3n);
  });

  test("when it is restored from a backup", async () => {
    const [a, , c] = all;
    assert.ok(a !== undefined && c !== undefined);
    await committee.certified(a, 1n);
    await copyFolder(join(committee.directory, "disk", "member-2"), join(committee.directory, "backup", "member-2"));
    for (const slot of [2n, 3n]) await committee.certified(a, slot);
    await committee.crash(c);
    await committee.start(2, "backup");
    await assertNobodyIsAccused(4n);
  });

  test("when it runs twice, from a copy of one disk", async () => {
    const [a] = all;
    assert.ok(a !== undefined);
    await committee.certified(a, 1n);
    await copyFolder(join(committee.directory, "disk", "member-2"), join(committee.directory, "copy", "member-2"));
    await Promise.all([committee.start(2, "copy"), committee.certified(a, 2n)]);
    await assertNobodyIsAccused(2n);
  });

  test("when two processes of it start at once, and both may sign a Join with one number", async () => {
    const [a, , c] = all;
    assert.ok(a !== undefined && c !== undefined);
    await committee.certified(a, 1n);
    await committee.crash(c);
    await copyFolder(join(committee.directory, "disk", "member-2"), join(committee.directory, "copy", "member-2"));
    // One of them may be told to fall silent before it has begun.
    await Promise.allSettled([committee.start(2), committee.start(2, "copy")]);
    await assertNobodyIsAccused(2n);
  });
});
