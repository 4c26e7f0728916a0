import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, type TestContext, test } from "node:test";
import { dealCommittee, random, type TestCommittee } from "../../test/test-lattice.ts";
import { encode, toHex } from "../codec/codec.ts";
import { type CertifiedOutcome, outcomeDigest } from "../committee/outcome.ts";
import { ROSTER, type Roster } from "../committee/roster.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { recoverSecret, splitSecret } from "../crypto/shamir.ts";
import { FileEpochKeys, writeShares } from "./epoch-keys.ts";

let dealt: TestCommittee;
before(async () => {
  await initCrypto();
  dealt = dealCommittee(3);
});

/** Epoch 1 of the same members, and its shares. */
function next(epoch = 1n): { shares: readonly Uint8Array[]; certified: CertifiedOutcome } {
  const secret = recoverSecret(
    dealt.secrets.slice(0, 2).map(({ certificateShare }, index) => ({ index, share: certificateShare })),
  );
  const { shares, publicShares } = splitSecret({ secret, threshold: 2, count: 3, random });
  const { relay } = dealt.rosters;
  const members = relay.members.map((member, index) => ({
    ...member,
    certificateShare: publicShares[index] ?? new Uint8Array(),
  }));
  const roster: Roster = { ...relay, epoch, activationSlot: 20n * epoch, members };
  const outcome = {
    ...dealt.certifiedRoster.outcome,
    epoch,
    slot: roster.activationSlot,
    commitment: encode(ROSTER, roster),
  };
  return { shares, certified: { outcome, signature: blsSign(secret, outcomeDigest(outcome)), signers: [] } };
}

async function open(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), "epoch-keys-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const problems: string[] = [];
  const keys = await FileEpochKeys.open({
    config: dealt.config,
    organism: "relay",
    index: 1,
    secrets: dealt.secrets[1] ?? assert.fail(),
    first: dealt.rosters.relay,
    keyFile: join(directory, "key.json"),
    directory,
    onProblem: (problem) => problems.push(problem),
  });
  const hand = (epoch: bigint, index: number, share: Uint8Array | undefined, roster: CertifiedOutcome): Promise<void> =>
    writeShares(directory, {
      organism: "relay",
      index,
      epoch,
      shares: { certificateShare: share ?? assert.fail() },
      roster,
    });
  return { directory, problems, keys, hand };
}

test("shares that come later are found, with their roster; the first epoch's are the key file's", async (t) => {
  const { keys, hand, problems } = await open(t);
  const { shares, certified } = next();
  assert.deepEqual(keys.of(0n)?.certificateShare, dealt.secrets[1]?.certificateShare);
  assert.equal(keys.of(1n), undefined);
  await hand(1n, 1, shares[1], certified);
  await keys.refresh();
  assert.deepEqual(keys.of(1n)?.certificateShare, shares[1]);
  assert.deepEqual(keys.roster(1n), certified);
  assert.equal(keys.of(2n), undefined);
  await assert.rejects(hand(1n, 1, shares[1], certified), { code: "EEXIST" });
  assert.deepEqual(problems, []);
});

test("what is not this member's, does not fit its roster, or lies open is told once and never used", async (t) => {
  const { keys, hand, problems, directory } = await open(t);
  const { shares, certified } = next();
  const unsigned = { ...certified, signature: dealt.certifiedRoster.signature };
  await hand(2n, 2, shares[2], certified);
  await hand(3n, 1, shares[2], certified);
  await hand(4n, 1, new Uint8Array(32), certified);
  await hand(5n, 1, shares[1], unsigned);
  writeFileSync(join(directory, "6.json"), "{", { mode: 0o400 });
  await hand(7n, 1, shares[1], certified);
  chmodSync(join(directory, "7.json"), 0o444);
  const odd = { organism: "relay", index: 1, certificateShare: "00".repeat(32), roster: "0" };
  writeFileSync(join(directory, "8.json"), JSON.stringify(odd), { mode: 0o400 });
  writeFileSync(join(directory, "notes.txt"), "");
  await keys.refresh();
  await keys.refresh();
  assert.equal(problems.length, 7, problems.join("\n"));
  for (const [index, what] of [
    /member 2/,
    /not the one/,
    /not the one/,
    /certificate/,
    /not JSON/,
    /open to others/,
  ].entries())
    assert.match(problems[index] ?? "", what);
  assert.equal(keys.any, false);
  const hex = Buffer.from(shares[1] ?? []).toString("hex");
  assert.ok(problems.every((problem) => !problem.includes(hex)));
});

test("what is over is erased, on disk and in memory; a key file that cannot be changed is named", async (t) => {
  const { keys, hand, problems, directory } = await open(t);
  const first = next();
  const second = next(2n);
  await hand(1n, 1, first.shares[1], first.certified);
  await hand(2n, 1, second.shares[1], second.certified);
  await keys.refresh();
  const held = keys.of(1n)?.certificateShare;
  await keys.erase(1n);
  assert.equal(keys.of(0n), undefined);
  assert.match(problems.join(), /key file: its shares of epoch 0 .* \(ENOENT\)/);
  assert.ok(keys.of(1n) !== undefined);
  await keys.erase(2n);
  assert.equal(keys.of(1n), undefined);
  assert.deepEqual(held, new Uint8Array(32));
  assert.ok(keys.of(2n) !== undefined);
  const again = await FileEpochKeys.open({
    config: dealt.config,
    organism: "relay",
    index: 1,
    secrets: dealt.secrets[1] ?? assert.fail(),
    first: undefined,
    keyFile: join(directory, "key.json"),
    directory,
    onProblem: (problem) => problems.push(problem),
  });
  assert.equal(again.of(1n), undefined);
  assert.deepEqual(again.of(2n)?.certificateShare, second.shares[1]);
});

test("nothing of what is over is left in free blocks, nor in files that were never taken", async (t) => {
  // Its shares are whole: the test before has erased some.
  dealt = dealCommittee(3);
  const { keys, hand, problems, directory } = await open(t);
  const first = next();
  await hand(1n, 1, first.shares[1], first.certified);
  writeFileSync(join(directory, "0.json"), "shares that nobody could read", { mode: 0o400 });
  const old = toHex(dealt.secrets[1]?.certificateShare ?? assert.fail());
  writeFileSync(join(directory, "key.json"), JSON.stringify({ memberKey: "kept", certificateShare: old }), {
    mode: 0o400,
  });
  // Another name of the same blocks.
  for (const name of ["0.json", "1.json", "key.json"])
    linkSync(join(directory, name), join(directory, `${name}.blocks`));
  const blocks = (name: string): string => readFileSync(join(directory, `${name}.blocks`), "utf8");
  await keys.refresh();
  assert.ok(keys.of(1n) !== undefined && blocks("1.json").includes(toHex(first.shares[1] ?? assert.fail())));
  problems.length = 0;
  await keys.erase(2n);
  for (const name of ["0.json", "1.json", "key.json"]) assert.match(blocks(name), /^\0+$/, name);
  assert.deepEqual([existsSync(join(directory, "0.json")), existsSync(join(directory, "1.json"))], [false, false]);
  assert.deepEqual(JSON.parse(readFileSync(join(directory, "key.json"), "utf8")), { memberKey: "kept" });
  assert.equal(statSync(join(directory, "key.json")).mode & 0o777, 0o400);
  assert.deepEqual(problems, []);
  // What cannot be erased is said once.
  mkdirSync(join(directory, "1.json"));
  for (let look = 0; look < 2; look++) await keys.erase(2n);
  assert.equal(problems.length, 1);
  assert.match(problems[0] ?? "", /shares of epoch 1 are over and cannot be erased \(EISDIR\)/);
});

test("shares that are read while their epoch is erased do not come back, and nobody takes them for damaged", async (t) => {
  dealt = dealCommittee(3);
  const { keys, hand, problems, directory } = await open(t);
  const { shares, certified } = next();
  await hand(1n, 1, shares[1], certified);
  // What a crash has left of writing another's.
  linkSync(join(directory, "1.json"), join(directory, "0.json.new"));
  const reading = keys.refresh();
  await keys.erase(2n);
  await reading;
  assert.equal(keys.of(1n), undefined);
  assert.deepEqual(
    readdirSync(directory).filter((name) => name !== "key.json"),
    [],
  );
  assert.deepEqual(
    problems.filter((problem) => !problem.startsWith("key file")),
    [],
  );
});

test("shares that could not be read are taken once they can be, and said once before", async (t) => {
  dealt = dealCommittee(3);
  const { keys, hand, problems, directory } = await open(t);
  const { shares, certified } = next();
  await hand(1n, 1, shares[1], certified);
  chmodSync(join(directory, "1.json"), 0o444);
  for (let look = 0; look < 2; look++) await keys.refresh();
  assert.equal(problems.length, 1);
  chmodSync(join(directory, "1.json"), 0o400);
  await keys.refresh();
  assert.deepEqual(keys.of(1n)?.certificateShare, shares[1]);
});

test("a key file that could not be erased is erased later", async (t) => {
  dealt = dealCommittee(3);
  const { keys, problems, directory } = await open(t);
  writeFileSync(join(directory, "key.json"), JSON.stringify({ memberKey: "kept", certificateShare: "x" }), {
    mode: 0o400,
  });
  // Nothing can be written under this name now.
  mkdirSync(join(directory, "key.json.new"));
  for (let look = 0; look < 2; look++) await keys.erase(1n);
  assert.equal(problems.length, 1, problems.join());
  rmdirSync(join(directory, "key.json.new"));
  await keys.erase(1n);
  assert.deepEqual(JSON.parse(readFileSync(join(directory, "key.json"), "utf8")), { memberKey: "kept" });
});
