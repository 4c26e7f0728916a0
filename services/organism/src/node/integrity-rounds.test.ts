/** Rounds in which heads are compared, and what a round says that ends when the log is read further, or is another one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { GetHeadResponseSchema } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { joinedBeforeEach, note, type ProbeDriver } from "../../test/probe-driver.ts";
import type { TestCommittee } from "../../test/test-lattice.ts";
import { signHead } from "../committee/heads.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { createNoMeters } from "../observe/meters.ts";
import { ManualTimers, settled } from "../testing/manual-timers.ts";
import { FraudProofs } from "./fraud-proofs.ts";
import { IntegrityWatch } from "./integrity-watch.ts";
import { toWireHead } from "./integrity-wire.ts";
import type { CommitteeClient } from "./outcome-follower.ts";

let dealt: TestCommittee;
let driver: ProbeDriver;

joinedBeforeEach((fresh) => {
  ({ dealt, driver } = fresh);
  for (let turn = 0; turn < 6; turn++) driver.author(turn % 4).say(note(`${turn}`));
});

/** Another member that has read everything, and answers once `answering`; the positions that it is asked for. */
function other(member: number, answering: Promise<void> = Promise.resolve()) {
  const asked: bigint[] = [];
  const { id, generation, position, head } = driver.committee;
  const getHead = async (request: { readonly position: bigint }) => {
    asked.push(request.position);
    await answering;
    const statement = { version: 1 as const, committee: id, generation, member, position, head, newest: position };
    return create(GetHeadResponseSchema, toWireHead(signHead(driver.author(member).memberKey, statement)));
  };
  return { asked, peer: { getHead } as unknown as CommitteeClient };
}

/** Something to wait for until it is `done`. */
function held() {
  let done = (): void => undefined;
  const promise = new Promise<void>((resolve) => {
    done = resolve;
  });
  return { promise, done };
}

/** Member 0, which has read the first `read` entries. */
function watching(peers: readonly CommitteeClient[], read: number, rosters: readonly CertifiedOutcome[] = []) {
  const committee = driver.fresh();
  const meters = createNoMeters();
  const lines: string[] = [];
  const line = (message: string): void => void lines.push(message);
  const kept = new Map<string, Uint8Array>();
  const watch = new IntegrityWatch({
    config: dealt.config,
    self: 0,
    committee,
    certifiedRosters: () => rosters,
    proofs: new FraudProofs({
      put: async (name, value) => void kept.set(name, value),
      get: (name) => kept.get(name),
    }),
    log: { consume: () => assert.fail("nothing is read again") } as never,
    peers: () => peers,
    withheldMs: () => 0,
    timers: new ManualTimers(),
    logger: { debug: () => undefined, info: line, warn: line, error: line },
    meters,
    onForked: (detail) => assert.fail(detail),
    onAccusation: () => undefined,
  });
  const deliver = (from: number, to: number): void => {
    for (const [index, raw] of driver.log.slice(from, to).entries()) {
      watch.delivered(raw, committee.apply(BigInt(from + index + 1), raw));
    }
  };
  watch.restore();
  deliver(0, read);
  return { watch, committee, meters, lines, deliver };
}

test("a round that has begun before the whole log was read is not the one before the first word", async () => {
  const { promise, done } = held();
  const { asked, peer } = other(1, promise);
  const { watch, deliver } = watching([peer], 5);
  const before = watch.compare();
  deliver(5, driver.log.length);
  const begun = watch.begin();
  done();
  await Promise.all([before, begun]);
  assert.deepEqual(asked, [5n, BigInt(driver.log.length)]);
  await watch.close();
});

test("a round that is cut short waits for nobody but whom it is asking for a proof", async () => {
  const liar = driver.author(3);
  const [one, two] = ["one", "two"].map((text) => liar.sign(note(text), "ctl", { aside: true }));
  driver.apply(one ?? assert.fail());
  driver.apply(two ?? assert.fail());
  const { watch: finder } = watching([], driver.log.length, [dealt.certifiedRoster]);
  const [accusation] = finder.accusations();
  assert.ok(accusation !== undefined);
  assert.equal(driver.author(1).say(accusation.command).refusal, undefined);
  await finder.close();

  const { promise, done } = held();
  let asked = 0;
  const peer = {
    getHead: () => Promise.reject(new Error("not now")),
    getFraud: async () => {
      asked++;
      await promise;
      throw new Error("it has none");
    },
  } as unknown as CommitteeClient;
  const { watch, committee } = watching([peer, peer, peer], 0);
  // As after a start from a checkpoint: it knows who is blocked, and not by which proof.
  committee.restore(driver.committee.snapshot());
  const round = watch.compare();
  await settled();
  assert.equal(asked, 1);
  const closed = watch.close();
  done();
  await Promise.all([round, closed]);
  assert.equal(asked, 1);
});

test("what a member said before, passed on by another, does not stand for what it says now", async () => {
  const before = other(1);
  driver.author(2).say(note("later"));
  const now = other(1);
  for (const peers of [
    [before.peer, now.peer],
    [now.peer, before.peer],
  ]) {
    const { watch } = watching(peers, driver.log.length);
    const heads = await watch.heads(2n ** 63n);
    assert.deepEqual([...heads.keys()], [1]);
    assert.equal(heads.get(1)?.newest, BigInt(driver.log.length));
    await watch.close();
  }
});

test("a round that ends in a later generation tells nothing of it", async () => {
  const { promise, done } = held();
  const others = [other(1), other(2), other(3, promise)];
  const peers = others.map(({ peer }) => peer);
  const { watch, committee, meters, lines } = watching(peers, driver.log.length);
  const before = watch.compare();
  await settled();
  const ended = driver.replay();
  ended.beginGeneration();
  committee.restore(ended.birth().state);
  watch.beginGeneration();
  done();
  await before;
  assert.equal(lines.length, 0);
  await watch.compare();
  assert.equal(meters.value("lattice_log_withheld"), 0, "the others' positions were those of the log before");
  assert.equal(
    lines.some((line) => line.startsWith("the log does not deliver")),
    false,
  );
  await watch.close();
});
