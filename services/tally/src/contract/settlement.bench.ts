/**
 * What each of the settlement contract's functions costs, in gas, on anvil (Prague): the table of docs/settlement.md.
 * `node src/contract/settlement.bench.ts [--json]`. Gas is exact, so one run is enough.
 */
import { fromHex } from "@lattice/organism/codec/codec.ts";
import type { Charge } from "@lattice/organism/outcomes/tally.ts";
import { testKey, testKeys } from "../../test/keys.ts";
import {
  ATTESTERS,
  Bench,
  ETHER,
  LATTICE_ID,
  PARAMETERS,
  PAYERS,
  signatures,
  WITHDRAWAL_DELAY,
} from "../../test/settlement-bench.ts";
import { paymentDigest, rotationDigest } from "../core/attestation.ts";
import { settlementInitCode } from "./genesis-account.ts";
import { hex } from "./settlement-call.ts";

/** As the contract has it: the first eight posts each pay for a new storage slot. */
const ROOTS_KEPT = 8;

interface Row {
  readonly operation: string;
  readonly gas: number;
}

const sender = testKey("gas sender");
const word = (value: number): Uint8Array => fromHex(value.toString(16).padStart(64, "0"));
const user = (index: number): Uint8Array => fromHex((0xa000 + index).toString(16).padStart(40, "0"));
const rows: Row[] = [];
const note = (operation: string, receipt: { gasUsed: bigint }): void => {
  rows.push({ operation, gas: Number(receipt.gasUsed) });
};

/** The everyday calls, 3 of 4 attesters, 2 of 3 payers. */
async function calls(): Promise<void> {
  const bench = await Bench.start();
  try {
    await bench.fund(sender, 1000n * ETHER);
    note("payBid, first ever", await bench.send(sender, "payBid", [1n, hex(word(1))], ETHER));
    note("payBid", await bench.send(sender, "payBid", [1n, hex(word(2))], ETHER));
    note("deposit, new account", await bench.send(sender, "deposit", [], ETHER));
    note("deposit", await bench.send(sender, "deposit", [], ETHER));
    note("requestWithdrawal", await bench.send(sender, "requestWithdrawal", [1000n]));
    await bench.mine(WITHDRAWAL_DELAY);
    note("withdraw", await bench.send(sender, "withdraw", [hex(sender.address)]));

    const everybody = Array.from({ length: 1024 }, (_, index): [Uint8Array, bigint] => [user(index), 1000n]);
    note("post, 3 signatures, first batch", await bench.post(sender, await bench.attestation(everybody.slice(0, 16))));
    for (let batch = 2; batch < ROOTS_KEPT; batch++) await bench.post(sender, await bench.attestation([[user(0), 1n]]));
    note("post, 3 signatures, among the first 8", await bench.post(sender, await bench.attestation([[user(0), 1n]])));
    const small = await bench.attestation([[user(0), 1n]]);
    note("post, 3 signatures", await bench.post(sender, small));
    await bench.fund(testKey("poster"), 1n);
    const reimbursed = { poster: testKey("poster").address, posterReimbursement: 10n };
    note("post, 3 signatures, reimbursed", await bench.post(sender, await bench.attestation([], reimbursed)));
    const charges: Charge[] = Array.from({ length: 4 }, (_, index) => ({
      bidId: word(50 + index),
      account: sender.address,
      wei: 5n,
    }));
    const oldest = await bench.attestation([], { charges });
    note("post, 3 signatures, 4 charges", await bench.post(sender, oldest));

    note(
      "claim, 16 leaves, recipient not seen before",
      await bench.send(sender, "claim", bench.claimArguments(small, user(1))),
    );
    await bench.clients.tester.setBalance({ address: hex(user(2)), value: 1n });
    note(
      "claim, 16 leaves, first of a recipient",
      await bench.send(sender, "claim", bench.claimArguments(small, user(2))),
    );
    await bench.clients.tester.setBalance({ address: hex(user(4)), value: 1n });
    for (let batch = 1; batch < ROOTS_KEPT; batch++) await bench.post(sender, await bench.attestation([[user(3), 1n]]));
    note(
      "claim, 16 leaves, first of a recipient, under the 8th newest root",
      await bench.send(sender, "claim", bench.claimArguments(oldest, user(4))),
    );
    const large = await bench.attestation(everybody);
    await bench.post(sender, large);
    note("claim, 1024 leaves, later one", await bench.send(sender, "claim", bench.claimArguments(large, user(2))));

    await bench.raw(sender, bench.settlement, "0x", ETHER);
    await bench.feesTo(bench.settlement);
    const payer = testKey("payer").address;
    await bench.clients.tester.setBalance({ address: hex(payer), value: 1n });
    const parentHash = fromHex((await bench.clients.reader.getBlock()).hash);
    const digest = paymentDigest(bench.domain, {
      latticeId: LATTICE_ID,
      slot: 1n,
      parentHash,
      recipient: payer,
      cap: 9n,
    });
    const args = [1n, hex(parentHash), hex(payer), 9n, 9n, signatures(digest, PAYERS.slice(0, 2))];
    note("pay, 2 signatures", await bench.send(sender, "pay", args));

    const next = testKeys("next", 4).map((key) => key.address);
    const rotation = { latticeId: LATTICE_ID, role: "attesters" as const, nonce: 0n, signers: next, threshold: 3 };
    const signed = signatures(rotationDigest(bench.domain, rotation), ATTESTERS.slice(0, 3));
    note(
      "rotateSigners, 4 for 4, 3 signatures",
      await bench.send(sender, "rotateSigners", [0, next.map(hex), 3n, signed]),
    );
  } finally {
    await bench.chain.stop();
  }
}

/** Deployment and posting by committee size. */
async function committee(threshold: number, size: number): Promise<void> {
  const keys = testKeys("gas attester", size);
  const parameters = { ...PARAMETERS, signers: keys.map((key) => key.address), threshold };
  const bench = await Bench.start(parameters);
  try {
    await bench.fund(sender, 1000n * ETHER);
    note(
      `deploy, attesters ${threshold} of ${size}, payers 2 of 3`,
      await bench.deploy(sender, settlementInitCode(parameters)),
    );
    await bench.send(sender, "payBid", [1n, hex(word(1))], ETHER);
    const signers = keys.slice(0, threshold);
    for (let batch = 1; batch <= ROOTS_KEPT; batch++) {
      await bench.post(sender, await bench.attestation([[user(0), 1n]]), signers);
    }
    note(`post, ${threshold} of ${size}`, await bench.post(sender, await bench.attestation([[user(0), 1n]]), signers));
  } finally {
    await bench.chain.stop();
  }
}

/** The whole table. There is no peer: gas is a price, not a speed. */
export async function bench() {
  rows.length = 0;
  await calls();
  for (const [threshold, size] of [
    [2, 3],
    [3, 4],
    [5, 7],
    [9, 13],
  ] as const)
    await committee(threshold, size);
  return { name: "settlement", chain: "anvil, Prague", rows };
}

if (import.meta.main) {
  await bench();
  if (process.argv.includes("--json")) console.log(JSON.stringify(rows));
  else for (const row of rows) console.log(`| ${row.operation} | ${row.gas.toLocaleString("en")} |`);
}
