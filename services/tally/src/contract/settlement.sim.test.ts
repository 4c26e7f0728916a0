/**
 * Seeded simulation: bids, escrow, charges, gifts, attestations and claims in random order, attributed and kept in the
 * ledger by the core, settled by the contract on anvil. Claims are made under any root that was ever posted: those of
 * the last eight are paid what is due, others nothing. After every step the contract's books are the model's, and when
 * everybody has claimed, what is left in the pool is the ledger's remainder, to the wei.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import type { Charge } from "@lattice/organism/outcomes/tally.ts";
import fc from "fast-check";
import { parseEventLogs, type TransactionReceipt } from "viem";
import { WITHOUT_ANVIL } from "../../test/anvil.ts";
import { testKey } from "../../test/keys.ts";
import { ATTESTERS, Bench, ETHER, LATTICE_ID, signatures, WITHDRAWAL_DELAY } from "../../test/settlement-bench.ts";
import { type Attestation, attestationDigest } from "../core/attestation.ts";
import { type AttributionInput, attribute, creditsOf } from "../core/attribution.ts";
import { claimProof, credit, emptyLedger, ledgerTree, takeRemainder } from "../core/ledger.ts";
import { merkleRoot } from "../core/merkle.ts";
import { SETTLEMENT_ABI } from "./settlement-abi.ts";
import { attestationArgument, hex } from "./settlement-call.ts";

const SEED = 20_261_121;
const ROOTS_KEPT = 8;
const SEARCHERS = [testKey("sim searcher 0"), testKey("sim searcher 1")];
const POSTER = testKey("sim poster");
const poster = POSTER.address;

const amount = fc.bigInt({ min: 1n, max: 10n ** 15n });
const step = fc.oneof(
  fc.record({
    kind: fc.constant("bid" as const),
    who: fc.nat(1),
    amount,
    rival: fc.bigInt({ min: 0n, max: 10n ** 15n }),
  }),
  fc.record({ kind: fc.constant("deposit" as const), who: fc.nat(1), amount }),
  fc.record({ kind: fc.constant("gift" as const), who: fc.nat(1), amount }),
  fc.record({ kind: fc.constant("leave" as const), who: fc.nat(1), amount }),
  fc.record({ kind: fc.constant("blind" as const), who: fc.nat(1), amount }),
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("attest" as const),
      who: fc.nat(1),
      amount: fc.bigInt({ min: 0n, max: 1000n }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("claim" as const), who: fc.nat(3), amount, age: fc.nat(16) }),
  },
);

test("the contract's books are the model's, step by step", { skip: WITHOUT_ANVIL }, async () => {
  const bench = await Bench.start();
  try {
    for (const key of [...SEARCHERS, POSTER]) await bench.fund(key, 1000n * ETHER);
    const ledger = emptyLedger();
    const model = { refunds: 0n, free: 0n, attested: 0n, claimed: 0n, reimbursed: 0n };
    const escrow = new Map(SEARCHERS.map((key) => [hex(key.address), 0n]));
    const paid = new Map<string, bigint>();
    /** Every batch, the newest last. */
    const posted = [{ ledger: structuredClone(ledger), tree: ledgerTree(ledger) }];
    let pending: Charge[] = [];
    const met = { tooOld: 0, olderPaid: 0 };
    let batch = 0n;
    let orders = 0n;

    const word = (value: bigint): Uint8Array => fromHex(value.toString(16).padStart(64, "0"));
    const user = (index: bigint): Uint8Array => fromHex((0xa000n + (index % 4n)).toString(16).padStart(40, "0"));
    const input = (over: Partial<AttributionInput>): AttributionInput => ({
      slot: orders,
      blockHash: word(orders),
      messages: [],
      orders: [],
      rivals: [],
      hints: [],
      proposer: user(3n),
      voids: [],
      collected: [],
      reservedWei: 0n,
      ...over,
    });
    const book = (attributed: AttributionInput): void => {
      const result = attribute(attributed);
      credit(ledger, { credits: creditsOf(result), remainderWei: result.remainderWei });
    };
    /** What the chain watcher will do with a receipt: income is what the contract says arrived. */
    const collectedIn = (receipt: TransactionReceipt): { bidId: Uint8Array; wei: bigint }[] =>
      parseEventLogs({ abi: SETTLEMENT_ABI, logs: receipt.logs, eventName: "EscrowCharged" }).map((log) => ({
        bidId: fromHex(log.args.bidId),
        wei: log.args.taken,
      }));

    const attest = async (reimbursement: bigint): Promise<void> => {
      const block = await bench.clients.reader.getBlock();
      const newTree = ledgerTree(ledger);
      batch += 1n;
      const attestation: Attestation = {
        latticeId: LATTICE_ID,
        batch,
        lastBlockNumber: block.number,
        lastBlockHash: fromHex(block.hash),
        root: merkleRoot(newTree),
        total: ledger.total,
        charges: pending,
        poster: new Uint8Array(20).fill(0xee),
        posterReimbursement: takeRemainder(ledger, reimbursement),
      };
      const signed = signatures(attestationDigest(bench.domain, attestation), ATTESTERS.slice(0, 3));
      const receipt = await bench.send(POSTER, "post", [attestationArgument(attestation), signed]);
      posted.push({ ledger: structuredClone(ledger), tree: newTree });
      model.attested = ledger.total;
      model.reimbursed += attestation.posterReimbursement;
      model.refunds -= attestation.posterReimbursement;
      const collected = collectedIn(receipt);
      assert.equal(collected.length, pending.length);
      for (const [index, charge] of pending.entries()) {
        const account = hex(charge.account);
        const held = escrow.get(account) ?? 0n;
        const taken = charge.wei < held ? charge.wei : held;
        assert.equal(collected[index]?.wei, taken);
        escrow.set(account, held - taken);
        model.refunds += taken;
      }
      pending = [];
      orders += 1n;
      book(input({ collected }));
    };

    /** @param age batches since the one whose root it is made under; at most since the first */
    const claim = async (recipient: Uint8Array, age = 0): Promise<void> => {
      const under = posted.at(-1 - (age % posted.length));
      assert.ok(under !== undefined);
      const proof = claimProof(under.ledger, under.tree, recipient);
      const before = paid.get(toHex(recipient)) ?? 0n;
      const args = [hex(recipient), proof?.lifetimeTotal ?? 0n, proof?.proof.map(hex) ?? []];
      const recent = posted
        .slice(1)
        .slice(-ROOTS_KEPT)
        .some((each) => equalBytes(merkleRoot(each.tree), merkleRoot(under.tree)));
      if (proof === undefined || !recent) {
        met.tooOld += proof === undefined ? 0 : 1;
        return assert.equal(await bench.refusal(POSTER, "claim", args), "WrongProof");
      }
      if (proof.lifetimeTotal <= before) return assert.equal(await bench.refusal(POSTER, "claim", args), "NothingDue");
      await bench.send(POSTER, "claim", args);
      met.olderPaid += under === posted.at(-1) ? 0 : 1;
      const due = proof.lifetimeTotal - before;
      paid.set(toHex(recipient), proof.lifetimeTotal);
      model.refunds -= due;
      model.claimed += due;
    };

    for (const action of fc.sample(step, { numRuns: 160, seed: SEED })) {
      const key = SEARCHERS[action.who % 2];
      assert.ok(key !== undefined);
      const account = hex(key.address);
      orders += 1n;
      switch (action.kind) {
        case "bid": {
          await bench.send(key, "payBid", [orders, hex(word(orders))], action.amount);
          model.refunds += action.amount;
          const messageId = word(orders).subarray(16);
          const bidId = word(orders);
          book(
            input({
              messages: [{ messageId, txHash: bidId, refundTo: user(orders), authorised: false }],
              orders: [
                {
                  bidId,
                  class: "seen",
                  paymentWei: action.amount,
                  valueWei: action.amount,
                  bidWei: action.amount,
                  account: key.address,
                  rebateTo: key.address,
                  references: [messageId],
                },
              ],
              rivals: [{ messageId, highestOtherWei: action.rival }],
            }),
          );
          break;
        }
        case "deposit":
          await bench.send(key, "deposit", [], action.amount);
          escrow.set(account, (escrow.get(account) ?? 0n) + action.amount);
          break;
        case "gift":
          await bench.raw(key, bench.settlement, "0x", action.amount);
          model.free += action.amount;
          break;
        case "leave": {
          const held = escrow.get(account) ?? 0n;
          const leaving = action.amount < held ? action.amount : held;
          await bench.send(key, "requestWithdrawal", [leaving]);
          await bench.mine(WITHDRAWAL_DELAY);
          if (leaving === 0n) break;
          await bench.send(key, "withdraw", [hex(poster)]);
          escrow.set(account, held - leaving);
          break;
        }
        case "blind": {
          const failed = attribute(
            input({
              orders: [
                {
                  bidId: word(orders),
                  class: "blind",
                  paymentWei: 0n,
                  valueWei: action.amount,
                  bidWei: action.amount,
                  account: key.address,
                  rebateTo: key.address,
                  references: [],
                },
              ],
            }),
          );
          pending.push(...failed.charges);
          break;
        }
        case "attest":
          await attest(action.amount);
          break;
        case "claim":
          await claim(user(BigInt(action.who)), action.age);
          break;
      }
      const escrowed = [...escrow.values()].reduce((sum, held) => sum + held, 0n);
      assert.deepEqual(
        [
          await bench.amount("refundPool"),
          await bench.amount("escrowTotal"),
          await bench.amount("free"),
          await bench.amount("totalAttested"),
          await bench.amount("totalClaimed"),
        ],
        [model.refunds, escrowed, model.free, model.attested, model.claimed],
        action.kind,
      );
    }

    while (pending.length > 0 || ledger.total !== model.attested) await attest(0n);
    for (const recipient of ledger.totals.keys()) {
      if (paid.get(recipient) !== ledger.totals.get(recipient)) await claim(fromHex(recipient));
      assert.ok(
        (await bench.balance(fromHex(recipient))) >= (ledger.totals.get(recipient) ?? 0n) ||
          recipient === toHex(poster),
      );
    }
    assert.equal(await bench.amount("totalClaimed"), ledger.total);
    assert.ok(met.tooOld > 0 && met.olderPaid > 0, `both kinds of older roots were met: ${JSON.stringify(met)}`);
    assert.equal(await bench.amount("refundPool"), ledger.remainder);
  } finally {
    await bench.chain.stop();
  }
});
