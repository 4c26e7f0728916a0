/** What anybody who reaches a member may ask it, and what that may cost it. */
import assert from "node:assert/strict";
import { before, beforeEach, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  type CommitteeService,
  GetBodyRequestSchema,
  GetOutcomeRequestSchema,
  GetStatusRequestSchema,
} from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { note, ProbeDriver } from "../../test/probe-driver.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { concat } from "../codec/codec.ts";
import { stateHash } from "../committee/checkpoint.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { initCrypto } from "../crypto/engine.ts";
import { Fault } from "../fault.ts";
import type { Call, Handlers } from "../rpc/define.ts";
import { type CommitteeServiceOptions, committeeService } from "./committee-service.ts";

const CALL: Call = { signal: new AbortController().signal, header: () => undefined };

let dealt: TestCommittee;
let driver: ProbeDriver;
before(async () => {
  await initCrypto();
  dealt = dealCommittee(4, {}, "third");
});
beforeEach(() => {
  driver = ProbeDriver.joined(dealt);
});

function serving(
  changes: Partial<CommitteeServiceOptions<never, never, never>> = {},
): Handlers<typeof CommitteeService> {
  const { config, rosters } = dealt;
  const options = {
    config,
    organism: "relay",
    self: 0,
    committee: driver.committee,
    rosters: { at: () => rosters.relay },
    archive: { get: async () => undefined, newest: () => undefined },
    policies: { auction: { readers: ["atelier"], publicWhenLanded: true } },
    bodies: { landed: () => false },
    clock: { nowMs: () => driver.nowMs },
    timers: { elapsedMs: () => 0 },
    caughtUp: () => true,
    differing: () => [],
    usage: () => undefined,
    snapshotPosition: () => 0n,
    ...changes,
  } as unknown as CommitteeServiceOptions<never, never, never>;
  return committeeService(options).handlers as unknown as Handlers<typeof CommitteeService>;
}

async function reasonOf(answer: Promise<unknown>): Promise<string> {
  const error: unknown = await answer.then(
    () => assert.fail("it is answered"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Fault, String(error));
  return error.reason;
}

test("a stage that is the name of what every object has is no stage", async () => {
  const { getBody } = serving();
  for (const stage of ["constructor", "__proto__", "toString", "first"]) {
    const request = create(GetBodyRequestSchema, { stage, requesterOrganism: "atelier" });
    assert.equal(await reasonOf(getBody(request, CALL)), "OUTCOME_UNKNOWN", stage);
  }
  const request = create(GetBodyRequestSchema, { stage: "auction", requesterOrganism: "atelier" });
  assert.equal(await reasonOf(getBody(request, CALL)), "BODY_NOT_ADMITTED");
});

test("a large state is not hashed again for everybody who asks", async () => {
  const { committee } = driver;
  let nowMs = 0;
  let large = 0;
  let hashed = 0;
  const snapshot = committee.snapshot.bind(committee);
  committee.snapshot = () => {
    hashed += 1;
    return concat(snapshot(), new Uint8Array(large));
  };
  const { getStatus } = serving({ timers: { elapsedMs: () => nowMs } as never });
  const told = async () => {
    const { position, chainHead, stateHash: hash } = await getStatus(create(GetStatusRequestSchema), CALL);
    return [position, chainHead, hash];
  };
  const there = () => [committee.position, committee.head, stateHash(concat(snapshot(), new Uint8Array(large)))];
  const say = (): void => void driver.author(0).say(note());

  for (let turn = 0; turn < 3; turn++) {
    say();
    assert.deepEqual(await told(), there());
    assert.deepEqual(await told(), there());
  }
  assert.equal(hashed, 3, "a small one: at every position");
  large = 10 * 1024 * 1024;
  say();
  const first = there();
  assert.deepEqual(await told(), first);
  for (let turn = 0; turn < 24; turn++) {
    nowMs += 100;
    say();
    assert.deepEqual(await told(), first, "all of one position");
  }
  assert.equal(hashed, 4);
  nowMs += 101;
  assert.deepEqual(await told(), there());
  assert.equal(hashed, 5);
});

test("outcomes that only the archive outside has are looked for a few at a time", async () => {
  let asked = 0;
  const answered = Promise.withResolvers<CertifiedOutcome | undefined>();
  const outcome = (): Promise<CertifiedOutcome | undefined> => {
    asked += 1;
    return answered.promise;
  };
  const { getOutcome } = serving({ archiveOutside: { outcome } as never, archive: archiveBeyond(100n) as never });
  const ask = (slot: bigint) => reasonOf(getOutcome(create(GetOutcomeRequestSchema, { stage: "first", slot }), CALL));
  const answers = Array.from({ length: 100 }, (_, slot) => ask(BigInt(slot)));
  const late = await answers.at(-1);
  assert.equal(late, "NOT_READY");
  assert.ok(asked > 0 && asked < 50, `${asked} at once`);
  answered.resolve(undefined);
  assert.equal(await answers[0], "OUTCOME_UNKNOWN");
  assert.equal(await ask(1n), "OUTCOME_UNKNOWN", "there is room again");
});

/** A member's own, which has let go of what is older. */
function archiveBeyond(newest: bigint) {
  return { get: async () => undefined, newest: () => newest };
}
