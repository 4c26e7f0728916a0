/** A member is replaced while slots go on: real members on the embedded log, shares put beside their keys. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { equalBytes, toHex } from "../src/codec/codec.ts";
import { type CertifiedOutcome, verifyCertificate } from "../src/committee/outcome.ts";
import { SLOTS_KEPT } from "../src/committee/state.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { slotAt, slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { FileEpochKeys, writeShares } from "../src/node/epoch-keys.ts";
import type { MemberSecrets } from "../src/service.ts";
import { firstEpoch, type NextEpoch, newcomer, nextEpoch } from "../src/testing/dealt-eras.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, startToyMember } from "./test-lattice.ts";

type ToyMember = Awaited<ReturnType<typeof startToyMember>>;

const committee = dealCommittee(3, { genesisMs: 1_790_000_000_000, slotMs: 1000 });
const { config } = committee;
const ACTIVATION = 20n;

/** The same key in new shares, member 2 another one. */
const reshare = (): NextEpoch =>
  nextEpoch(firstEpoch(committee, "relay", 2), {
    activationSlot: ACTIVATION,
    seats: [...committee.secrets.slice(0, 2), newcomer()],
  });

describe("a member is replaced", () => {
  let directory: string;
  let log: EmbeddedLog;
  let nowMs = slotStartMs(config, 1n);
  const clock = { nowMs: () => nowMs };
  const next = reshare();
  const problems: string[] = [];
  const keyFile = (name: string): string => join(directory, `${name}.json`);
  const sharesOf = (name: string): string => join(directory, `${name}-shares`);

  async function start(index: number, name: string, secrets: MemberSecrets, first: boolean): Promise<ToyMember> {
    const { certificateShare, memberKey } = secrets;
    const content = { index, memberKey: toHex(memberKey), certificateShare: toHex(certificateShare) };
    await writeFile(keyFile(name), JSON.stringify(content), { mode: 0o400 });
    const own = { ...secrets, certificateShare: certificateShare.slice() };
    const epochKeys = await FileEpochKeys.open({
      config,
      organism: "relay",
      index,
      secrets: own,
      first: first ? committee.rosters.relay : undefined,
      keyFile: keyFile(name),
      directory: sharesOf(name),
      onProblem: (problem) => problems.push(problem),
    });
    const folder = join(directory, name);
    return startToyMember({
      committee,
      index,
      log: log.member(index),
      directory: folder,
      clock,
      secrets: own,
      epochKeys,
    });
  }

  const hand = (name: string, index: number): Promise<void> =>
    writeShares(sharesOf(name), {
      organism: "relay",
      index,
      epoch: 1n,
      shares: { certificateShare: next.secrets[index]?.certificateShare ?? new Uint8Array() },
      roster: next.certified,
    });

  async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await holds())) {
      assert.ok(Date.now() < deadline, `in vain: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async function certified(member: ToyMember, slot: bigint): Promise<CertifiedOutcome> {
    for await (const each of member.host.watch("accepted", slot, AbortSignal.timeout(PATIENCE_MS))) {
      if (each.outcome.slot === slot) return each;
    }
    throw new Error(`no certificate for slot ${slot}`);
  }

  /** Lets time pass slot by slot, so that none has to be skipped at once. */
  async function passTo(members: readonly ToyMember[], slot: bigint): Promise<void> {
    for (let at = slotAt(config, nowMs) + 1n; at <= slot; at++) {
      nowMs = slotStartMs(config, at);
      await until(`slot ${at} is decided`, () => members.every((each) => each.committee.floor("accepted") > at));
    }
  }

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-epochs-"));
    log = await EmbeddedLog.open(join(directory, "log"));
  });
  after(async () => {
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("its successor signs from the activation slot on, under the same key; old shares are erased", async () => {
    const secretsOf = (index: number): MemberSecrets => committee.secrets[index] ?? assert.fail();
    const [a, b, c] = await Promise.all([0, 1, 2].map((index) => start(index, `m${index}`, secretsOf(index), true)));
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await passTo([a, b, c], 2n);
    assert.equal((await certified(a, 2n)).outcome.epoch, 0n);

    // What a resharing leaves behind; the newcomer's lies ready before it starts.
    await Promise.all([hand("m0", 0), hand("m1", 1), hand("newcomer", 2)]);
    await until("the roster is in the log", () => b.committee.rosters.length === 2);
    assert.deepEqual(
      b.committee.rosters.map(({ epoch }) => epoch),
      [0n, 1n],
    );
    await c.stop(100);
    const d = await start(2, "newcomer", next.secrets[2] ?? assert.fail(), false);
    await passTo([a, b, d], ACTIVATION - 1n);
    const last = await certified(a, ACTIVATION - 1n);
    assert.equal(last.outcome.epoch, 0n);
    assert.ok(!last.signers.includes(2), "the newcomer has no share of the epoch before");

    // Two are left, so what is certified now needs the newcomer's share.
    await b.stop(100);
    await passTo([a, d], ACTIVATION + 1n);
    const first = await certified(a, ACTIVATION);
    assert.equal(first.outcome.epoch, 1n);
    assert.deepEqual([...first.signers].sort(), [0, 2]);
    assert.ok(verifyCertificate(config.relay.policy.certificateKey, first.outcome, first.signature));
    assert.ok(
      equalBytes(
        d.host.rosterAt(ACTIVATION).members[2]?.memberKey ?? new Uint8Array(),
        next.roster.members[2]?.memberKey ?? new Uint8Array(1),
      ),
    );

    await passTo([a, d], ACTIVATION + SLOTS_KEPT + 1n);
    await until("the first epoch is forgotten", () => a.committee.rosters.length === 1);
    await until(
      "its shares are erased",
      async () => !(await readFile(keyFile("m0"), "utf8")).includes("certificateShare"),
    );
    assert.equal((await stat(keyFile("m0"))).mode & 0o777, 0o400);
    assert.equal(a.host.sharesAt(ACTIVATION + SLOTS_KEPT) === undefined, false);
    assert.deepEqual(problems, []);
    await Promise.all([a.stop(100), d.stop(100)]);
  });
});
