/** What every archive has to do, whatever it is kept in: run against a folder and against an S3-compatible store. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { encode, equalBytes } from "../src/codec/codec.ts";
import { CERTIFIED, type CertifiedOutcome, outcomeDigest } from "../src/committee/outcome.ts";
import { blsSign } from "../src/crypto/bls.ts";
import { combineSignatures } from "../src/crypto/threshold.ts";
import { committeeId } from "../src/identity/lattice-config.ts";
import { ARCHIVED_SNAPSHOTS, type Archive } from "../src/node/archive.ts";
import { archiveSource, fetchSnapshot } from "../src/node/snapshot-fetcher.ts";
import { SnapshotMismatch } from "../src/node/snapshot-store.ts";
import { certifyState, dealCommittee, type TestCommittee } from "./test-lattice.ts";

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

export interface ArchivePlace {
  readonly committee: TestCommittee;
  /** Opens what lies there, as another process does. */
  open(committee?: TestCommittee): Promise<Archive>;
  /** Replaces the bytes of what is kept under a name that ends like this. */
  damage(ending: string, change: (bytes: Uint8Array) => Uint8Array): Promise<void>;
}

export function outcomeOf({ config, secrets }: TestCommittee, slot: bigint, bytes = 40): CertifiedOutcome {
  const outcome = {
    version: 1 as const,
    committee: committeeId(config, "relay"),
    generation: 0n,
    epoch: 0n,
    slot,
    stage: "accepted",
    kind: "result" as const,
    commitment: new Uint8Array(bytes).fill(Number(slot)),
    bodyHash: undefined,
  };
  const digest = outcomeDigest(outcome);
  const threshold = Math.floor(secrets.length / 2) + 1;
  const shares = secrets
    .slice(0, threshold)
    .map(({ certificateShare }, index) => ({ index, signature: blsSign(certificateShare, digest) }));
  return { outcome, signature: combineSignatures(shares, threshold), signers: [0, 1] };
}

/** Tests of one kind of archive; `place` makes an empty one. */
export function archiveConformance(place: () => Promise<ArchivePlace>): void {
  const state = (seed: number, bytes = 3000): Uint8Array =>
    new Uint8Array(bytes).map((_, at) => (at * 7 + seed) & 0xff);

  test("outcomes come back as they were put, also to others", async () => {
    const { committee, open } = await place();
    const archive = await open();
    const kept = [1n, 999n, 1000n, 70_001n].map((slot) => outcomeOf(committee, slot));
    for (const each of kept) await archive.putOutcome(each);
    const other = await open();
    for (const each of kept) assert.deepEqual(await other.outcome("accepted", each.outcome.slot), each);
    const large = outcomeOf(committee, 5n, 200_000);
    await archive.putOutcome(large);
    assert.deepEqual(await other.outcome("accepted", 5n), large);
    assert.equal(await other.outcome("accepted", 2n), undefined);
    assert.equal(await other.outcome("broadcast", 1n), undefined);
    for (const stage of ["", "../accepted", "a/b", "ACCEPTED", "x".repeat(33)]) {
      assert.equal(await other.outcome(stage, 1n), undefined, stage);
    }
  });

  test("what lies there is named, a thousand slots at a time", async () => {
    const { committee, open } = await place();
    const archive = await open();
    assert.deepEqual(await archive.outcomeNames(1n), new Set());
    for (const slot of [1n, 999n, 1000n]) await archive.putOutcome(outcomeOf(committee, slot));
    const other = await open();
    assert.deepEqual(await other.outcomeNames(500n), new Set(["1.accepted", "999.accepted"]));
    assert.deepEqual(await other.outcomeNames(1999n), new Set(["1000.accepted"]));
    assert.deepEqual(await other.outcomeNames(2000n), new Set());
  });

  test("the first one stays", async () => {
    const { committee, open } = await place();
    const archive = await open();
    const first = outcomeOf(committee, 3n);
    await archive.putOutcome(first);
    await (await open()).putOutcome({ ...first, signers: [] });
    assert.deepEqual(await archive.outcome("accepted", 3n), first);
  });

  test("damaged, cut or misplaced outcomes are none", async () => {
    const { committee, open, damage } = await place();
    const archive = await open();
    await archive.putOutcome(outcomeOf(committee, 4n));
    const whole = encodeOutcome(outcomeOf(committee, 9n));
    for (const change of [
      (bytes: Uint8Array) => bytes.subarray(0, -1),
      () => new Uint8Array(),
      () => whole,
      (bytes: Uint8Array) => new Uint8Array([...bytes, 0]),
    ]) {
      await damage("4.accepted", change);
      assert.equal(await archive.outcome("accepted", 4n), undefined);
    }
  });

  test("what lies where an outcome belongs and is not it gives way to it", async () => {
    const { committee, open, damage } = await place();
    const certified = outcomeOf(committee, 4n);
    const other = outcomeOf(committee, 9n);
    await (await open()).putOutcome(certified);
    for (const change of [
      () => new Uint8Array(),
      () => new Uint8Array(1024 * 1024),
      () => encodeOutcome(other),
      () => encodeOutcome({ ...certified, signature: other.signature }),
      () => encodeOutcome({ ...certified, outcome: { ...certified.outcome, kind: "empty" } }),
    ]) {
      await damage("4.accepted", change);
      const archive = await open();
      await archive.putOutcome(certified);
      assert.deepEqual(await archive.outcome("accepted", 4n), certified);
    }
  });

  test("snapshots: the newest are held, others see them, and what is fetched is what was certified", async () => {
    const { committee, open } = await place();
    const archive = await open();
    const count = ARCHIVED_SNAPSHOTS + 2;
    for (let index = 1; index <= count; index++) {
      await archive.snapshots.save(certifyState(committee, BigInt(index * 10), state(index)), state(index));
    }
    const other = await open();
    await other.snapshots.refresh();
    const positions = other.snapshots.held().map(({ checkpoint }) => Number(checkpoint.position));
    assert.deepEqual(
      positions,
      Array.from({ length: ARCHIVED_SNAPSHOTS }, (_, index) => (count - index) * 10),
    );
    const key = { generation: 0n, position: BigInt(count * 10) };
    assert.deepEqual(await other.snapshots.load(key), state(count));
    assert.deepEqual(await other.snapshots.read(key, 100, 50), state(count).subarray(100, 150));
    assert.equal((await other.snapshots.read(key, 2990, 50))?.length, 10);
    assert.equal(await other.snapshots.load({ generation: 0n, position: 10n }), undefined);
    const fetched = await fetchSnapshot({
      config: committee.config,
      organism: "relay",
      sources: [archiveSource(other.snapshots)],
      wanted: () => true,
      log: SILENT,
    });
    assert.ok(fetched !== undefined && equalBytes(fetched.state, state(count)));
    // Twice is once.
    await archive.snapshots.save(certifyState(committee, BigInt(count * 10), state(count)), state(count));
    assert.equal(archive.snapshots.held().length, ARCHIVED_SNAPSHOTS);
  });

  test("what does not fit its certificate is not kept, and what is damaged there is not given", async () => {
    const { committee, open, damage } = await place();
    const archive = await open();
    const certified = certifyState(committee, 20n, state(2));
    await assert.rejects(archive.snapshots.save(certified, state(3)), SnapshotMismatch);
    await assert.rejects(archive.snapshots.save(certified, state(2).subarray(1)), SnapshotMismatch);
    const stranger = certifyState(dealCommittee(3), 20n, state(2));
    await assert.rejects(archive.snapshots.save(stranger, state(2)), SnapshotMismatch);
    assert.equal(archive.snapshots.held().length, 0);
    await archive.snapshots.save(certified, state(2));
    await damage("00020", (bytes) => bytes.map((byte, at) => (at === bytes.length - 5 ? byte ^ 1 : byte)));
    const damaged = await open();
    await damaged.snapshots.refresh();
    assert.equal(await damaged.snapshots.load({ generation: 0n, position: 20n }), undefined);
    await damaged.snapshots.save(certified, state(2));
    assert.deepEqual(
      await damaged.snapshots.load({ generation: 0n, position: 20n }),
      state(2),
      "saved again, it is whole",
    );
    const mended = await open();
    await mended.snapshots.refresh();
    assert.deepEqual(await mended.snapshots.load({ generation: 0n, position: 20n }), state(2));
    await damage("00020", (bytes) => bytes.subarray(0, -1));
    const cut = await open();
    await cut.snapshots.refresh();
    assert.equal(cut.snapshots.held().length, 0);
  });

  test("lattices and organisms do not see each other's", async () => {
    const { committee, open } = await place();
    const archive = await open();
    await archive.putOutcome(outcomeOf(committee, 3n));
    await archive.snapshots.save(certifyState(committee, 20n, state(2)), state(2));
    const other = await open(dealCommittee(3));
    await other.snapshots.refresh();
    assert.equal(other.snapshots.held().length, 0);
    assert.equal(await other.outcome("accepted", 3n), undefined);
  });
}

function encodeOutcome(certified: CertifiedOutcome): Uint8Array {
  return encode(CERTIFIED, certified);
}
