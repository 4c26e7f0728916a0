import assert from "node:assert/strict";
import { before, test } from "node:test";
import { createBlockFromRLP } from "@ethereumjs/block";
import { equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import { enginePayload } from "@lattice/organism/outcomes/execution-payload.ts";
import {
  attributesOn,
  devnet,
  devnetGenesis,
  ETHER,
  FEE_RECIPIENT,
  GATE,
  GWEI,
  payBid,
  REVERTER,
  SETTLEMENT,
  signed,
  wallet,
} from "../../test/devnet.ts";
import { bundle, inputsOn, message, paymentId, SLOT } from "../../test/slot.ts";
import type { Candidate } from "../core/candidate.ts";
import type { PoolMessage, WinningBundle } from "../core/order.ts";
import { buildCandidate } from "./build.ts";
import type { ChainState } from "./chain-state.ts";
import { verifyCandidate } from "./verify.ts";

let chain: ChainState;
before(async () => {
  chain = await devnet();
});

const SEARCHER = wallet(100);

/** Pays `wei` for bid `index` straight to the settlement contract. */
function payment(index: number, wei: bigint, nonce = 0n, from = SEARCHER): Uint8Array {
  return signed({ from, nonce, to: SETTLEMENT, data: payBid(SLOT, paymentId(index)), valueWei: wei });
}

/** The same through the gate, which lets it pass only after somebody has opened it. */
function gatedPayment(index: number, wei: bigint, nonce = 0n, from = SEARCHER): Uint8Array {
  return signed({ from, nonce, to: GATE, data: payBid(SLOT, paymentId(index)), valueWei: wei });
}

function opener(index: number, tip = GWEI): Uint8Array {
  return signed({ from: wallet(index), nonce: 0n, to: GATE, data: new Uint8Array(), gasLimit: 100_000n, tip });
}

function build(over: {
  readonly pool?: readonly PoolMessage[];
  readonly carried?: readonly PoolMessage[];
  readonly bundles?: readonly WinningBundle[];
  readonly gasLimit?: bigint;
  readonly blindGasBps?: number;
}): Promise<Candidate> {
  const { gasLimit, blindGasBps, ...lists } = over;
  return buildCandidate(
    chain,
    inputsOn(chain, {
      ...lists,
      ...(gasLimit === undefined ? {} : { attributes: attributesOn(chain, { gasLimit }) }),
      rules: { blindGasBps: blindGasBps ?? 2000, carrySlots: 4n, settlement: SETTLEMENT },
    }),
  );
}

const classes = ({ body }: Candidate): string[] => body.entries.map((entry) => entry.type);
const reasons = ({ body }: Candidate): string[] => body.exclusions.map((exclusion) => exclusion.reason);

test("an empty slot gives an empty block that says so", async () => {
  const candidate = await build({});
  assert.equal(candidate.body.entries.length, 0);
  assert.equal(candidate.body.header.gasUsed, 0n);
  assert.equal(candidate.commitment.transactions, 0);
  assert.equal(candidate.commitment.paymentsWei, 0n);
});

test("the five classes stand in their order, and payments are in the table and the commitment", async () => {
  const opening = message(0, opener(0, 3n * GWEI));
  const plain = message(1, signed({ from: wallet(1), nonce: 0n }));
  const candidate = await build({
    carried: [message(9, signed({ from: wallet(2), nonce: 0n, tip: 1n }), SLOT - 1n)],
    pool: [opening, plain],
    bundles: [
      bundle({
        index: 1,
        class: "tail",
        searcher: wallet(101),
        items: [payment(1, 50n, 0n, wallet(101))],
        amountWei: 50n,
      }),
      bundle({ index: 2, class: "seen", searcher: SEARCHER, items: [opening, gatedPayment(2, 1000n)] }),
      bundle({ index: 3, class: "blind", searcher: wallet(102), items: [signed({ from: wallet(102), nonce: 0n })] }),
    ],
  });
  assert.deepEqual(classes(candidate), ["carried", "blind", "pool", "pool", "seen", "tail"]);
  assert.deepEqual(
    candidate.body.table.map((row) => [row.class, row.status, row.paymentWei, row.valueWei]),
    [
      ["blind", "landed", 0n, 1000n],
      ["seen", "landed", 1000n, 1000n],
      ["tail", "landed", 50n, 50n],
    ],
  );
  assert.equal(candidate.commitment.paymentsWei, 1050n);
  assert.equal(candidate.commitment.transactions, 6);
});

test("the same inputs give the same bytes, and the block is what the Engine API names", async () => {
  const pool = [0, 1, 2].map((index) => message(index, signed({ from: wallet(index), nonce: 0n })));
  const attributes = attributesOn(chain, {
    withdrawals: [{ index: 4n, validatorIndex: 5n, address: wallet(990).address, amountGwei: 6n }],
  });
  const inputs = inputsOn(chain, { pool, attributes });
  const first = await buildCandidate(chain, inputs);
  const second = await buildCandidate(await devnet(), inputs);
  assert.ok(equalBytes(first.bodyBytes, second.bodyBytes));

  const other = await devnet();
  const info = await other.importPayload(enginePayload(first.body));
  assert.deepEqual(info.hash, first.body.blockHash);
  assert.deepEqual(
    info.transactionHashes,
    first.body.entries.map((entry) => keccak256(entry.raw)),
  );
});

test("fees go to the fee recipient, and the candidate states their sum", async () => {
  const tips = [1n, 2n, 3n].map((gwei) => gwei * GWEI);
  const pool = tips.map((tip, index) => message(index, signed({ from: wallet(index), nonce: 0n, tip })));
  const candidate = await build({ pool });
  assert.equal(candidate.body.feesWei, 21_000n * 6n * GWEI);
  assert.deepEqual(candidate.body.attributes.feeRecipient, FEE_RECIPIENT);
});

test("every message is in the block or excluded with the reason it would be refused for there", async () => {
  const twice = signed({ from: wallet(0), nonce: 0n });
  const pool = [
    twice,
    twice,
    signed({ from: wallet(1), nonce: 1n }),
    signed({ from: wallet(2), nonce: 0n, valueWei: 1000n * ETHER }),
    signed({ from: wallet(3), nonce: 0n, maxFee: 1n, tip: 1n }),
    signed({ from: wallet(4), nonce: 0n, gasLimit: 20_999n }),
    signed({ from: wallet(5), nonce: 0n, gasLimit: 30_000_001n }),
    signed({ from: wallet(6), nonce: 0n, chainId: 1n }),
    new Uint8Array([0xc0]),
    new Uint8Array([0x03, 0xc0]),
    signed({ from: wallet(7), nonce: 0n }),
    signed({ from: wallet(7), nonce: 0n, valueWei: 2n }),
  ].map((raw, index) => message(index, raw));
  const candidate = await build({ pool });
  const excluded = new Map(candidate.body.exclusions.map((entry) => [toHex(entry.messageId), entry.reason]));
  assert.deepEqual(
    pool.map(({ messageId }) => excluded.get(toHex(messageId))),
    [
      undefined,
      "duplicate",
      "nonce-too-high",
      "underfunded",
      "fee-below-base",
      "gas-below-intrinsic",
      "gas-limit-above-block",
      "wrong-chain",
      "undecodable",
      "unsupported-type",
      undefined,
      "nonce-too-low",
    ],
  );
  assert.equal(candidate.body.entries.length, 2);
  const [gap, poor, cheap] = [pool[2], pool[3], pool[4]].map((item) => item?.messageId ?? new Uint8Array());
  assert.deepEqual(
    new Set(candidate.body.carry.map(toHex)),
    new Set([gap, poor, cheap].map((id) => toHex(id ?? new Uint8Array()))),
  );
});

test("of two messages under one id the first stands, and the candidate is still accepted", async () => {
  const first = message(0, signed({ from: wallet(0), nonce: 0n }));
  const second = { ...message(1, signed({ from: wallet(1), nonce: 0n })), messageId: first.messageId };
  const inputs = inputsOn(chain, { pool: [first, second], carried: [second, second] });
  const candidate = await buildCandidate(chain, inputs);
  assert.deepEqual(classes(candidate), ["carried", "pool"]);
  assert.ok((await verifyCandidate(chain, inputs, candidate.bodyBytes)).accepted);
});

test("a message that fits exactly is included, the next one is excluded as block-full and carried", async () => {
  const pool = [0, 1, 2].map((index) => message(index, signed({ from: wallet(index), nonce: 0n })));
  const candidate = await build({ pool, gasLimit: 42_000n });
  assert.equal(candidate.body.entries.length, 2);
  assert.deepEqual(reasons(candidate), ["block-full"]);
  assert.deepEqual(candidate.body.carry, [pool[2]?.messageId]);
});

test("a reverting pool transaction is included all the same: it pays its fee", async () => {
  const reverting = signed({ from: wallet(0), nonce: 0n, to: REVERTER, data: new Uint8Array(1), gasLimit: 50_000n });
  const candidate = await build({ pool: [message(0, reverting)] });
  assert.equal(candidate.body.entries.length, 1);
});

test("a blind bundle that reverts leaves nothing behind and is charged", async () => {
  const plain = message(0, signed({ from: wallet(0), nonce: 0n }));
  const failing = bundle({
    index: 1,
    class: "blind",
    searcher: SEARCHER,
    items: [
      signed({ from: SEARCHER, nonce: 0n }),
      signed({ from: SEARCHER, nonce: 1n, to: REVERTER, data: new Uint8Array(1), gasLimit: 50_000n }),
    ],
  });
  const candidate = await build({ pool: [plain], bundles: [failing] });
  const without = await build({ pool: [plain] });
  assert.deepEqual(candidate.body.header.stateRoot, without.body.header.stateRoot);
  const [row] = candidate.body.table;
  assert.deepEqual([row?.status, row?.reason, row?.valueWei, row?.paymentWei], ["failed", "reverted", 1000n, 0n]);
});

test("blind bundles share their part of the block; the second that does not fit is dropped uncharged", async () => {
  const blind = (index: number) =>
    bundle({
      index,
      class: "blind",
      searcher: wallet(110 + index),
      items: [signed({ from: wallet(110 + index), nonce: 0n, data: new Uint8Array(), gasLimit: 300_000n })],
    });
  // 1 % of 30 M gas is 300 000: the first fits exactly.
  const candidate = await build({ bundles: [blind(1), blind(2)], blindGasBps: 100 });
  assert.deepEqual(
    candidate.body.table.map((row) => [row.status, row.reason, row.valueWei]),
    [
      ["landed", undefined, 1000n],
      ["dropped", "share-used", 0n],
    ],
  );
  const tooMuch = await build({ bundles: [blind(1)], blindGasBps: 99 });
  assert.deepEqual([tooMuch.body.table[0]?.status, tooMuch.body.table[0]?.reason], ["void", "above-share"]);
});

test("a bundle with the raw bytes of a pool message is void; its message is in the block", async () => {
  const victim = signed({ from: wallet(0), nonce: 0n });
  const sandwich = bundle({
    index: 1,
    class: "blind",
    searcher: SEARCHER,
    items: [victim, signed({ from: SEARCHER, nonce: 0n })],
  });
  const candidate = await build({ pool: [message(0, victim)], bundles: [sandwich] });
  assert.deepEqual(classes(candidate), ["pool"]);
  assert.deepEqual(
    [candidate.body.table[0]?.status, candidate.body.table[0]?.reason],
    ["void", "holds-pool-transaction"],
  );
});

test("a seen bundle must pay in full after its declared references alone", async () => {
  const opening = message(0, opener(0));
  const other = message(1, signed({ from: wallet(1), nonce: 0n }));
  const seen = (references: readonly PoolMessage[], wei: bigint) =>
    bundle({ index: 1, class: "seen", searcher: SEARCHER, items: [...references, gatedPayment(1, wei)] });
  const status = async (references: readonly PoolMessage[], wei: bigint) => {
    const { body } = await build({ pool: [opening, other], bundles: [seen(references, wei)] });
    const row = body.table[0];
    return [row?.status, row?.reason, row?.valueWei];
  };
  assert.deepEqual(await status([opening], 1000n), ["landed", undefined, 1000n]);
  assert.deepEqual(await status([opening], 999n), ["void", "paid-short", 1000n], "charged: it promised more");
  assert.deepEqual(
    await status([other], 1000n),
    ["dropped", "failed-alone", 0n],
    "it lives off a message it did not declare",
  );
  assert.deepEqual(await status([], 1000n), ["dropped", "failed-alone", 0n]);
  const unknown = message(5, opener(5));
  assert.deepEqual(await status([unknown], 1000n), ["void", "unknown-reference", 1000n]);
});

test("a reference brings what its own sender queued before it, and an excluded one drops the bundle", async () => {
  const first = message(0, signed({ from: wallet(0), nonce: 0n }));
  const second = message(
    1,
    signed({ from: wallet(0), nonce: 1n, to: GATE, data: new Uint8Array(), gasLimit: 100_000n }),
  );
  const backrun = bundle({ index: 1, class: "seen", searcher: SEARCHER, items: [second, gatedPayment(1, 1000n)] });
  const landed = await build({ pool: [first, second], bundles: [backrun] });
  assert.equal(landed.body.table[0]?.status, "landed");
  const gap = await build({ pool: [second], bundles: [backrun] });
  assert.deepEqual([gap.body.table[0]?.status, gap.body.table[0]?.reason], ["dropped", "failed-alone"]);
});

test("of two messages with one transaction either may be referenced", async () => {
  const raw = opener(0);
  const pool = [message(0, raw), message(1, raw)];
  for (const reference of pool) {
    const backrun = bundle({ index: 1, class: "seen", searcher: SEARCHER, items: [reference, gatedPayment(1, 1000n)] });
    const candidate = await build({ pool, bundles: [backrun] });
    assert.deepEqual([candidate.body.table[0]?.status, reasons(candidate)], ["landed", ["duplicate"]]);
  }
});

test("a seen bundle that pays alone, but not after an earlier winner, is dropped without a charge", async () => {
  const opening = message(0, opener(0));
  const rivals = [1, 2].map((index) =>
    bundle({ index, class: "seen", searcher: SEARCHER, items: [opening, gatedPayment(index, 1000n)] }),
  );
  const candidate = await build({ pool: [opening], bundles: rivals });
  assert.deepEqual(
    candidate.body.table.map((row) => [row.status, row.reason, row.valueWei]),
    [
      ["landed", undefined, 1000n],
      ["dropped", "invalid-transaction", 0n],
    ],
  );
});

test("a listed transaction of a seen bundle may revert; an unlisted one drops all of it", async () => {
  const opening = message(0, opener(0));
  const failing = signed({ from: SEARCHER, nonce: 0n, to: REVERTER, data: new Uint8Array(1), gasLimit: 50_000n });
  const items = [opening, failing, gatedPayment(1, 1000n, 1n)];
  const listed = bundle({ index: 1, class: "seen", searcher: SEARCHER, items, mayRevert: [keccak256(failing)] });
  const unlisted = bundle({ index: 1, class: "seen", searcher: SEARCHER, items });
  assert.equal((await build({ pool: [opening], bundles: [listed] })).body.table[0]?.status, "landed");
  assert.equal((await build({ pool: [opening], bundles: [unlisted] })).body.table[0]?.reason, "failed-alone");
});

test("a withdrawal request of EIP-7002 made in the block leaves it as an execution request", async () => {
  const requesting = await devnet();
  // The contract takes requests from the first block on in which the system has called it.
  const first = await buildCandidate(requesting, inputsOn(requesting));
  await requesting.importPayload(enginePayload(first.body));
  await requesting.setHead(first.body.blockHash);

  const to = fromHex("00000961ef480eb55e80d19ad83579a64c007002");
  const data = new Uint8Array(56).fill(7);
  const raw = signed({ from: wallet(0), nonce: 0n, to, data, valueWei: 1n, gasLimit: 500_000n });
  const { body } = await buildCandidate(requesting, inputsOn(requesting, { pool: [message(0, raw)] }));
  assert.deepEqual(body.executionRequests, [new Uint8Array([1, ...wallet(0).address, ...data])]);
  assert.deepEqual((await requesting.importPayload(enginePayload(body))).hash, body.blockHash);
});

test("the header hashes to the stated hash under ethereumjs' own block", async () => {
  const execution = await chain.begin(attributesOn(chain));
  const sealed = await execution.seal();
  const block = createBlockFromRLP(sealed.rlp, { common: devnetGenesis().common });
  assert.deepEqual(block.hash(), sealed.hash);
  await block.validateData();
});
