/** A member's transactions on an EVM nobody here wrote: post, post again, stage what is stale, and what is refused. */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { WITHOUT_ANVIL } from "../../test/anvil.ts";
import { signDigest, testKey } from "../../test/keys.ts";
import { ATTESTERS, type Batch, Bench, CHAIN_ID, ETHER, STALE_DELAY } from "../../test/settlement-bench.ts";
import type { Attestation } from "../core/attestation.ts";
import { CallRefused, ChainClient, ChainUnavailable } from "./clients.ts";
import { type Attended, Poster, readPosterKey } from "./poster.ts";

const skip = WITHOUT_ANVIL;
const key = testKey("poster of poster.test");
const alice = testKey("alice of poster.test");
const RESEND_MS = 1000;
/** BLOCKHASH looks back this far; the history contract (EIP-2935), which remembers more, is taken away. */
const BLOCKHASH_REACH = 256;
const HISTORY_CONTRACT = "0x0000F90827F1C53a10cb7A02335B175320002935";

let bench: Bench;
let snapshot: `0x${string}`;

before(async () => {
  if (skip) return;
  bench = await Bench.start();
  await bench.fund(key, ETHER);
  await bench.fund(alice, ETHER);
  await bench.send(alice, "payBid", [1n, `0x${"01".repeat(32)}`], 1000n);
  await bench.mine(2);
  snapshot = await bench.clients.tester.snapshot();
});
after(async () => {
  await bench?.chain.stop();
});

function scenario(name: string, run: () => Promise<void>): void {
  test(name, { skip }, async () => {
    await bench.clients.tester.revert({ id: snapshot });
    snapshot = await bench.clients.tester.snapshot();
    bench.forget();
    await run();
  });
}

function poster(submitUrl = bench.chain.url, secret = key.secret): Poster {
  const { signal } = new AbortController();
  const options = { timeoutMs: 60_000, signal };
  return new Poster({
    chain: new ChainClient({ url: bench.chain.url, ...options }, fromHex(bench.settlement.slice(2))),
    submit: { url: submitUrl, ...options },
    chainId: CHAIN_ID,
    secret,
    resendMs: RESEND_MS,
  });
}

const signed = (attestation: Attestation): Uint8Array[] =>
  ATTESTERS.slice(0, 3).map((attester) => signDigest(attester, bench.digest(attestation)));
/** Sent by the poster as `action` and executed: anvil answers a transaction before it has mined it. */
async function mined(attended: Attended, action: "post" | "stage"): Promise<void> {
  assert.ok(attended.state === "sent", attended.state);
  assert.equal(attended.action, action);
  await bench.executed(attended.transaction);
}
/** Over a block that is past when the contract looks. */
async function batch(): Promise<Batch> {
  const made = await bench.attestation([[alice.address, 600n]]);
  await bench.mine(1);
  return made;
}

scenario("posts once, and sees that the contract has it", async () => {
  const { attestation } = await batch();
  const sending = poster();
  await mined(await sending.attend(attestation, signed(attestation), 0), "post");
  assert.equal(await bench.amount("lastBatch"), 1n);
  assert.deepEqual(await sending.attend(attestation, signed(attestation), 1), { state: "posted" });
  assert.deepEqual(await poster().attend(attestation, signed(attestation), 1), { state: "posted" }, "another member");
});

scenario("what does not arrive is sent again with the same nonce, and not before its time", async () => {
  const { attestation } = await batch();
  await bench.clients.tester.setAutomine(false);
  const sending = poster();
  const first = await sending.attend(attestation, signed(attestation), 0);
  assert.deepEqual(await sending.attend(attestation, signed(attestation), RESEND_MS - 1), { state: "waiting" });
  assert.ok(first.state === "sent");
  await bench.clients.tester.dropTransaction({ hash: first.transaction });
  assert.equal((await sending.attend(attestation, signed(attestation), RESEND_MS)).state, "sent");
  await bench.mine(1);
  await bench.clients.tester.setAutomine(true);
  assert.equal(await bench.amount("lastBatch"), 1n);
  assert.equal(await bench.clients.reader.getTransactionCount({ address: `0x${toHex(key.address)}` }), 1);
});

scenario("what the contract would refuse is not sent: its error is named", async () => {
  const { attestation } = await batch();
  const refused = async (changed: Attestation, signatures = signed(changed)) => {
    const attended = await poster().attend(changed, signatures, 0);
    return attended.state === "refused" ? attended.error : attended.state;
  };
  assert.equal(await refused({ ...attestation, total: 5000n }), "PoolTooSmall");
  assert.equal(await refused({ ...attestation, lastBlockHash: new Uint8Array(32).fill(1) }), "WrongBlockHash");
  assert.equal(await refused({ ...attestation, batch: 2n }), "WrongBatch");
  assert.equal(await refused(attestation, signed(attestation).slice(1)), "BelowThreshold");
  assert.equal(await refused(attestation, signed(attestation).reverse()), "SignersNotAscending");
  assert.equal(await bench.amount("lastBatch"), 0n);
});

scenario("a block that the chain no longer knows: staged, waited out, posted", async () => {
  const { attestation } = await batch();
  await bench.clients.tester.setCode({ address: HISTORY_CONTRACT, bytecode: "0x" });
  await bench.mine(BLOCKHASH_REACH + 1);
  const sending = poster();
  await mined(await sending.attend(attestation, signed(attestation), 0), "stage");
  assert.deepEqual(await sending.attend(attestation, signed(attestation), 10), { state: "waiting" });
  await bench.mine(Number(STALE_DELAY));
  await mined(await sending.attend(attestation, signed(attestation), 20), "post");
  assert.equal(await bench.amount("lastBatch"), 1n);
});

scenario(
  "a submission endpoint that is not there, or an account without money, is an error and nothing else",
  async () => {
    const { attestation } = await batch();
    await assert.rejects(
      poster("http://127.0.0.1:9").attend(attestation, signed(attestation), 0),
      (error) => error instanceof ChainUnavailable && error.reason === "CHAIN_UNREACHABLE",
    );
    const broke = poster(bench.chain.url, testKey("nobody").secret);
    await assert.rejects(broke.attend(attestation, signed(attestation), 0), CallRefused);
    assert.equal(await bench.amount("lastBatch"), 0n);
  },
);

test("the poster's key: 32 bytes of hex in a file that nobody else can read", () => {
  const folder = mkdtempSync(join(tmpdir(), "lattice-poster-"));
  try {
    const path = join(folder, "key");
    assert.throws(() => readPosterKey(path), KitProblem);
    writeFileSync(path, `0x${toHex(key.secret)}\n`, { mode: 0o400 });
    assert.deepEqual(readPosterKey(path), key.secret);
    chmodSync(path, 0o440);
    assert.throws(() => readPosterKey(path), /open to others/);
    chmodSync(path, 0o600);
    writeFileSync(path, toHex(key.secret).slice(2));
    chmodSync(path, 0o400);
    assert.throws(
      () => readPosterKey(path),
      (error) => error instanceof KitProblem && !error.message.includes(toHex(key.secret).slice(2, 10)),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
