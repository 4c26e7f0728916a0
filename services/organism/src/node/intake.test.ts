/** What bursts of entries go through before they are applied: order, and that no verdict but the right one is reached. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee } from "../../test/test-lattice.ts";
import { encode, equalBytes } from "../codec/codec.ts";
import type { Applied } from "../committee/committee.ts";
import { type ReadEntry, readEntry } from "../committee/entry.ts";
import { verifyTagged, verifyTaggedElsewhere } from "../crypto/ed25519.ts";
import { initCrypto } from "../crypto/engine.ts";
import type { Duty } from "../machine.ts";
import type { LogMessage } from "../ports.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import { Intake, type VerifyElsewhere } from "./intake.ts";
import { nodeTimers } from "./node-timers.ts";

const dealt = dealCommittee(3);
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function newDriver(): CommitteeDriver<ProbeState, ProbeCommand, Duty> {
  const { config, rosters, secrets } = dealt;
  return new CommitteeDriver({ config, roster: rosters.relay, secrets, createMachine: probeMachine, replicas: 1 });
}
const note = (text: string) =>
  ({ type: "machine", command: encode(probeMachine().command, { type: "note", text }) }) as const;

/** A log of `length` entries by three authors in turn. */
function someLog(length: number): Uint8Array[] {
  const driver = newDriver();
  driver.joinAll();
  for (let index = 0; index < length; index++) {
    driver.apply(driver.author(index % 3).sign(note(`${index}`), "ctl"));
  }
  return driver.log;
}

describe("the intake of a member", () => {
  before(() => initCrypto());

  test("hands on everything once and in order, whoever verifies first; only a verdict of true counts", async () => {
    const log = someLog(200);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 8 }),
        fc.array(fc.constantFrom("true", "false", "fails"), { minLength: 1, maxLength: 9 }),
        fc.array(fc.nat(3), { minLength: 1, maxLength: 7 }),
        async (bursts, verdicts, delays) => {
          const seen: { readonly position: bigint; readonly read: ReadEntry | undefined }[] = [];
          const verified = new Set<string>();
          const key = new Uint8Array(32).fill(9);
          let asked = 0;
          const verify: VerifyElsewhere = async (_key, _tag, _body, signature) => {
            const turn = asked++;
            for (let left = delays[turn % delays.length] ?? 0; left > 0; left--) await settled();
            const verdict = verdicts[turn % verdicts.length];
            if (verdict === "fails") throw new Error("no thread");
            if (verdict === "true") verified.add(Buffer.from(signature).toString("hex"));
            return verdict === "true";
          };
          const intake = new Intake({
            deliver: ({ position }, read) => seen.push({ position, read }),
            signedBy: () => undefined,
            keyOf: () => key,
            timers: nodeTimers,
            verify,
          });
          let position = 0n;
          for (const burst of bursts) {
            for (let index = 0; index < burst; index++) {
              // Now and then something that is no entry.
              const raw = position % 17n === 3n ? new Uint8Array(5) : log[Number(position) % log.length];
              assert.ok(raw !== undefined);
              position += 1n;
              intake.take({ position, raw });
            }
            await settled();
          }
          await intake.drained();
          assert.deepEqual(
            seen.map((each) => each.position),
            Array.from({ length: Number(position) }, (_, index) => BigInt(index + 1)),
          );
          for (const each of seen) {
            assert.equal(each.read === undefined, (each.position - 1n) % 17n === 3n);
            if (each.read?.verifiedBy === undefined) continue;
            assert.ok(verified.has(Buffer.from(each.read.signature).toString("hex")));
          }
          if (bursts.some((burst) => burst > 10) && verdicts.every((each) => each === "true")) {
            assert.ok(asked > 0, "a burst was verified elsewhere");
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  test("one alone is handed on at once, and nobody else is asked", () => {
    const [raw] = someLog(1);
    assert.ok(raw !== undefined);
    const seen: bigint[] = [];
    const intake = new Intake({
      deliver: ({ position }) => seen.push(position),
      signedBy: () => undefined,
      keyOf: () => new Uint8Array(32),
      timers: nodeTimers,
      verify: () => assert.fail("asked"),
    });
    intake.take({ position: 1n, raw });
    assert.deepEqual(seen, [1n]);
  });

  test("what this process has signed is not verified again", async () => {
    const log = someLog(60);
    const own = new Uint8Array(32).fill(1);
    const reads: (ReadEntry | undefined)[] = [];
    const asked: Uint8Array[] = [];
    const intake = new Intake({
      deliver: (_, read) => reads.push(read),
      signedBy: ({ body }) => (body.author === 1 ? own : undefined),
      keyOf: () => new Uint8Array(32),
      timers: nodeTimers,
      verify: async (_key, _tag, body) => {
        asked.push(body);
        return false;
      },
    });
    for (const [index, raw] of log.entries()) intake.take({ position: BigInt(index + 1), raw });
    await intake.drained();
    assert.ok(asked.length > 30);
    const others = log.map((raw) => readEntry(raw)).filter(({ body }) => body.author !== 1);
    assert.ok(asked.every((body) => others.some(({ bodyBytes }) => equalBytes(bodyBytes, body))));
    for (const read of reads) assert.deepEqual(read?.verifiedBy, read?.body.author === 1 ? own : undefined);
  });

  test("threads that never answer: what is held stays bounded, and is not handed on a second time", async () => {
    const [raw] = someLog(1);
    assert.ok(raw !== undefined);
    let position = 0n;
    let seen = 0n;
    const answers: ((verifies: boolean) => void)[] = [];
    const intake = new Intake({
      deliver: (message) => {
        seen += 1n;
        assert.equal(message.position, seen);
      },
      signedBy: () => undefined,
      keyOf: () => new Uint8Array(32),
      timers: nodeTimers,
      verify: () => new Promise((resolve) => answers.push(resolve)),
    });
    for (let burst = 0; burst < 30; burst++) {
      for (let index = 0; index < 100; index++) intake.take({ position: ++position, raw });
      await settled();
      assert.ok(position - seen <= 512n + 64n, `${position - seen} held`);
    }
    while (seen < position) {
      for (const answer of answers.splice(0)) answer(true);
      await settled();
    }
    await intake.drained();
    assert.equal(seen, position);
  });

  test("a burst comes to what one after another comes to: forged, taken up by a new key, spoken under an old one", async () => {
    for (let round = 0; round < 3; round++) {
      const driver = newDriver();
      const plain: Applied[] = [];
      driver.joinAll();
      const say = (author: number, text: string, tampering = {}): void => {
        plain.push(driver.apply(driver.author(author).sign(note(text), "ctl", tampering)));
      };
      for (let index = 0; index < 70 + round * 13; index++) {
        say(index % 3, `${index}`);
        const liar = driver.author(1);
        if (index % 11 === 5) {
          say(1, "forged", {
            aside: true,
            signature: (whole: Uint8Array) => whole.map((byte, at) => byte ^ Number(at === 9)),
          });
          say(1, "another's key", { aside: true, signer: driver.author(0).incarnationKey });
        }
        if (index % 23 === 7) {
          const old = liar.incarnationKey;
          const { incarnation } = liar;
          liar.join();
          // In the same burst the key that is looked at beside the loop is still the old one.
          say(1, "old key", { aside: true, signer: old });
          say(1, "old key, old number", { aside: true, signer: old, body: { incarnation } });
          say(1, "new key");
        }
      }
      const refused = plain.filter(({ refusal }) => refusal?.reason === "NOT_AUTHOR").length;
      assert.ok(refused >= 15, "as many as were meant to be");
      const replica = driver.fresh();
      let elsewhere = 0;
      const intake = new Intake({
        deliver: (message: LogMessage, read) => replica.apply(message.position, message.raw, read),
        signedBy: () => undefined,
        keyOf: (author) => replica.author(author)?.key,
        timers: nodeTimers,
        verify: async (...statement) => {
          elsewhere += 1;
          const verdict = await verifyTaggedElsewhere(...statement);
          assert.equal(verdict, verifyTagged(...statement));
          return verdict;
        },
      });
      for (const [index, raw] of driver.log.entries()) {
        intake.take({ position: BigInt(index + 1), raw });
        if (index % 29 === 28) await settled();
      }
      await intake.drained();
      assert.ok(elsewhere > 40);
      assert.deepEqual(replica.snapshot(), driver.committee.snapshot());
    }
  });
});
