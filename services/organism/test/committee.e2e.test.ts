/** A committee of three real members on the embedded log: decisions, certificates, restart, a member short, a forged entry. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { decode, toHex } from "../src/codec/codec.ts";
import { verifyCertificate } from "../src/committee/outcome.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, startToyMember } from "./test-lattice.ts";
import { SUM } from "./toy-organism.ts";

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;

describe("a committee of three", () => {
  let directory: string;
  let log: EmbeddedLog;
  const committee = dealCommittee(3, { genesisMs: 1_790_000_000_000, slotMs: 1000 });
  const { config } = committee;
  let nowMs = config.genesisMs;
  const clock = { nowMs: () => nowMs };
  let members: ToyMember[] = [];
  const start = (index: number, old = false): Promise<ToyMember> =>
    startToyMember({ committee, index, log: log.member(index), directory, clock, journalIsOld: old });

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-committee-"));
    log = await EmbeddedLog.open(join(directory, "log"));
    members = await Promise.all([0, 1, 2].map((index) => start(index)));
  });
  after(async () => {
    await Promise.all(members.map((member) => member.stop(100)));
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function certified(member: ToyMember, slot: bigint) {
    for await (const each of member.host.watch("accepted", 1n, AbortSignal.timeout(PATIENCE_MS))) {
      if (each.outcome.slot === slot) return each;
    }
    throw new Error(`no certificate for slot ${slot}`);
  }

  test("a slot is decided once, alike, and certified under the config's key alone", async () => {
    const [a, b] = members;
    assert.ok(a !== undefined && b !== undefined);
    assert.equal(
      await a.host.submit({
        type: "machine",
        command: { type: "add", slot: 1n, amount: 5, padding: new Uint8Array() },
      }),
      undefined,
    );
    assert.equal(
      await b.host.submit({
        type: "machine",
        command: { type: "add", slot: 1n, amount: 7, padding: new Uint8Array() },
      }),
      undefined,
    );
    nowMs = slotStartMs(config, 1n);
    const outcomes = await Promise.all(members.map((member) => certified(member, 1n)));
    for (const { outcome, signature } of outcomes) {
      assert.equal(outcome.kind, "result");
      assert.deepEqual(decode(SUM, outcome.commitment), { sum: 12 });
      assert.ok(verifyCertificate(config.relay.policy.certificateKey, outcome, signature));
      assert.ok(!verifyCertificate(config.relay.policy.certificateKey, { ...outcome, slot: 2n }, signature));
    }
    const refusal = await a.host.submit({
      type: "machine",
      command: { type: "add", slot: 1n, amount: 1, padding: new Uint8Array() },
    });
    assert.equal(refusal?.reason, "SLOT_DECIDED");
  });

  test("a command of several chunks is applied whole", async () => {
    const [a] = members;
    assert.ok(a !== undefined);
    const padding = new Uint8Array(1_700_000).fill(3);
    assert.equal(
      await a.host.submit({ type: "machine", command: { type: "add", slot: 2n, amount: 40, padding } }),
      undefined,
    );
    nowMs = slotStartMs(config, 2n);
    const { outcome } = await certified(a, 2n);
    assert.deepEqual(decode(SUM, outcome.commitment), { sum: 40 });
  });

  test("garbage and foreign entries advance the head alike and change nothing else", async () => {
    // Each applies at its own pace: they are compared where all have read everything.
    while (members.some((member) => member.committee.position < log.lastPosition)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    const before = members.map((member) => member.committee.stateHash());
    assert.equal(new Set(before.map(toHex)).size, 1);
    await log.append(0, new Uint8Array([1, 2, 3]));
    // Somebody's vote may land after it.
    while (members.some((member) => member.committee.position < log.lastPosition)) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(new Set(members.map((member) => toHex(member.committee.head))).size, 1);
  });

  test("two of three go on; the third restarts from its snapshot, joins anew, and agrees", async () => {
    const [a, b, c] = members;
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await c.stop(100);
    nowMs = slotStartMs(config, 3n);
    await certified(a, 3n);
    const again = await start(2, true);
    members = [a, b, again];
    nowMs = slotStartMs(config, 4n);
    const outcomes = await Promise.all(members.map((member) => certified(member, 4n)));
    assert.equal(outcomes[0]?.outcome.kind, "empty");
    assert.ok((again.committee.author(2)?.incarnation ?? 0n) >= 2n);
    const position = a.committee.position;
    while (again.committee.position < position) await new Promise((resolve) => setImmediate(resolve));
    if (again.committee.position === a.committee.position)
      assert.deepEqual(again.committee.stateHash(), a.committee.stateHash());
  });
});
