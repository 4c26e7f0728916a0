/** The settlement contract on an EVM nobody here wrote, attestations and proofs from the core that members run. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { parseAbi, parseEventLogs, type TransactionReceipt } from "viem";
import { WITHOUT_ANVIL } from "../../test/anvil.ts";
import { testKey, testKeys } from "../../test/keys.ts";
import {
  ATTESTERS,
  Bench,
  checksummed,
  ETHER,
  LATTICE_ID,
  PAYERS,
  STALE_DELAY,
  signatures,
  WITHDRAWAL_DELAY,
} from "../../test/settlement-bench.ts";
import { paymentDigest, rotationDigest, type SignerRole } from "../core/attestation.ts";
import { SETTLEMENT_ABI } from "./settlement-abi.ts";
import { type Hex, hex, roleArgument } from "./settlement-call.ts";

const skip = WITHOUT_ANVIL;
const searcher = testKey("searcher");
const anyone = testKey("anyone");
const poster = testKey("poster");
const alice = testKey("alice");
const bob = testKey("bob");
const bid = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const RECIPIENTS = parseAbi([
  "function arm(address target, bytes data)",
  "function refuse(bool on)",
  "function run(address target, bytes data) payable",
  "function attempts() view returns (uint256)",
  "function successes() view returns (uint256)",
]);

let bench: Bench;
let snapshot: Hex;

before(async () => {
  if (skip) return;
  bench = await Bench.start();
  for (const key of [searcher, anyone, poster]) await bench.fund(key, 100n * ETHER);
  snapshot = await bench.clients.tester.snapshot();
});
after(async () => {
  await bench?.chain.stop();
});

/** Every test starts from the deployed, empty contract. */
function scenario(name: string, run: () => Promise<void>): void {
  test(name, { skip }, async () => {
    await bench.clients.tester.revert({ id: snapshot });
    snapshot = await bench.clients.tester.snapshot();
    bench.forget();
    await run();
    await bench.assertBooks();
  });
}

/** Bids paid in, so that there is something to attest. */
async function income(amount: bigint): Promise<void> {
  await bench.send(searcher, "payBid", [7n, hex(bid(1))], amount);
}

function events(receipt: TransactionReceipt): { name: string; args: unknown }[] {
  return parseEventLogs({ abi: SETTLEMENT_ABI, logs: receipt.logs }).map((log) => ({
    name: log.eventName,
    args: log.args,
  }));
}

scenario("block fees and gifts are free money, bids and deposits are accounted at once", async () => {
  await bench.raw(anyone, bench.settlement, "0x", 3n);
  assert.deepEqual([await bench.amount("free"), await bench.amount("accounted")], [3n, 0n]);

  const receipt = await bench.send(searcher, "payBid", [7n, hex(bid(1))], 10n);
  assert.deepEqual(events(receipt), [
    {
      name: "BidPaid",
      args: { slot: 7n, bidId: hex(bid(1)), payer: checksummed(searcher.address), amount: 10n },
    },
  ]);
  await bench.send(searcher, "deposit", [], 20n);
  await bench.send(anyone, "depositFor", [hex(searcher.address)], 5n);
  assert.equal(await bench.amount("refundPool"), 10n);
  assert.equal(await bench.amount("escrowOf", [hex(searcher.address)]), 25n);
  assert.equal(await bench.amount("escrowOf", [hex(anyone.address)]), 0n);
  assert.deepEqual([await bench.amount("free"), await bench.amount("accounted")], [3n, 35n]);
  assert.equal(await bench.refusal(searcher, "payBid", [7n, hex(bid(1))], 0n), "NoValue");
  assert.equal(await bench.refusal(searcher, "deposit", []), "NoValue");
});

scenario("escrow leaves after the delay and not a block earlier", async () => {
  await bench.send(searcher, "deposit", [], 100n);
  assert.equal(await bench.refusal(searcher, "withdraw", [hex(bob.address)]), "NothingToWithdraw");
  assert.equal(await bench.refusal(searcher, "requestWithdrawal", [101n]), "AboveEscrow");
  await bench.send(searcher, "requestWithdrawal", [60n]);
  assert.equal(await bench.amount("escrowOf", [hex(searcher.address)]), 40n, "leaving money backs no new bid");

  await bench.mine(WITHDRAWAL_DELAY - 2n);
  assert.equal(await bench.refusal(searcher, "withdraw", [hex(bob.address)]), "WithdrawalTooEarly");
  await bench.mine(1);
  await bench.send(searcher, "withdraw", [hex(bob.address)]);
  assert.equal(await bench.balance(bob.address), 60n);
  assert.equal(await bench.refusal(searcher, "withdraw", [hex(bob.address)]), "NothingToWithdraw");
  assert.equal(await bench.amount("escrowOf", [hex(searcher.address)]), 40n);
  assert.equal(await bench.amount("escrowTotal"), 40n);
});

scenario("a new request starts the delay again, 0 cancels", async () => {
  await bench.send(searcher, "deposit", [], 100n);
  await bench.send(searcher, "requestWithdrawal", [60n]);
  await bench.mine(WITHDRAWAL_DELAY);
  assert.equal(await bench.refusal(searcher, "withdraw", [hex(bob.address)]), "ok");
  await bench.send(searcher, "requestWithdrawal", [70n]);
  assert.equal(await bench.refusal(searcher, "withdraw", [hex(bob.address)]), "WithdrawalTooEarly");
  await bench.send(searcher, "requestWithdrawal", [0n]);
  assert.equal(await bench.amount("escrowOf", [hex(searcher.address)]), 100n);
  await bench.mine(WITHDRAWAL_DELAY);
  assert.equal(await bench.refusal(searcher, "withdraw", [hex(bob.address)]), "NothingToWithdraw");
});

scenario("an attestation is posted by anyone, a claim pays the recipient whoever triggers it", async () => {
  await income(1000n);
  const batch = await bench.attestation([
    [alice.address, 300n],
    [bob.address, 500n],
  ]);
  assert.equal(await bench.read("attestationDigest", [bench.signed(batch.attestation)[0]]), digestOf(batch));
  const posted = await bench.post(anyone, batch);
  assert.equal(events(posted)[0]?.name, "AttestationPosted");
  assert.deepEqual([await bench.amount("lastBatch"), await bench.amount("totalAttested")], [1n, 800n]);

  await bench.send(anyone, "claim", bench.claimArguments(batch, alice.address));
  assert.equal(await bench.balance(alice.address), 300n);
  await bench.send(anyone, "claim", bench.claimArguments(batch, bob.address));
  assert.equal(await bench.balance(bob.address), 500n);
  assert.deepEqual([await bench.amount("refundPool"), await bench.amount("totalClaimed")], [200n, 800n]);
});

scenario("a claim pays what came since the last one, everything at once", async () => {
  await income(1000n);
  const first = await bench.attestation([[alice.address, 100n]]);
  await bench.post(anyone, first);
  await bench.send(anyone, "claim", bench.claimArguments(first, alice.address));
  await bench.post(anyone, await bench.attestation([[alice.address, 50n]]));
  const third = await bench.attestation([
    [alice.address, 25n],
    [bob.address, 1n],
  ]);
  await bench.post(anyone, third);
  await bench.send(anyone, "claim", bench.claimArguments(third, alice.address));
  assert.equal(await bench.balance(alice.address), 175n);
  assert.equal(await bench.refusal(anyone, "claim", bench.claimArguments(third, alice.address)), "NothingDue");
  assert.equal(await bench.refusal(anyone, "claim", bench.claimArguments(first, alice.address)), "NothingDue");
});

scenario(
  "a claim made under one root is paid under the next ones, and in any order nothing is paid twice",
  async () => {
    await income(1000n);
    const first = await bench.attestation([
      [alice.address, 100n],
      [bob.address, 10n],
    ]);
    await bench.post(anyone, first);
    const second = await bench.attestation([[alice.address, 50n]]);
    await bench.post(anyone, second);
    await bench.send(anyone, "claim", bench.claimArguments(first, alice.address));
    assert.equal(await bench.balance(alice.address), 100n);
    assert.equal(await bench.refusal(anyone, "claim", bench.claimArguments(first, alice.address)), "NothingDue");
    await bench.send(anyone, "claim", bench.claimArguments(second, alice.address));
    assert.equal(await bench.balance(alice.address), 150n);
    await bench.send(anyone, "claim", bench.claimArguments(second, bob.address));
    for (const batch of [first, second]) {
      for (const { address } of [alice, bob]) {
        assert.equal(await bench.refusal(anyone, "claim", bench.claimArguments(batch, address)), "NothingDue");
      }
    }
    assert.deepEqual([await bench.amount("totalClaimed"), await bench.amount("refundPool")], [160n, 840n]);
  },
);

scenario("a root is good for eight batches and not for a ninth", async () => {
  await income(1000n);
  const batches = [await bench.attestation([[alice.address, 100n]])];
  const claimable = (at: number): Promise<string> => {
    const batch = batches[at];
    assert.ok(batch !== undefined);
    return bench.refusal(anyone, "claim", bench.claimArguments(batch, alice.address));
  };
  const kept = Number(await bench.amount("ROOTS_KEPT"));
  for (let number = 1; number <= kept; number++) {
    const newest = batches.at(-1);
    assert.ok(newest !== undefined);
    await bench.post(anyone, newest);
    assert.equal(await bench.read("root"), hex(newest.attestation.root));
    batches.push(await bench.attestation([[alice.address, 1n]]));
    assert.equal(await claimable(0), "ok", `after ${number}`);
    assert.equal(await claimable(number), "WrongProof", "not posted yet");
  }
  const ninth = batches.at(-1);
  assert.ok(ninth !== undefined);
  await bench.post(anyone, ninth);
  assert.equal(await claimable(0), "WrongProof");
  for (let at = 1; at <= kept; at++) assert.equal(await claimable(at), "ok");
});

scenario("after a reorg a claim lands under whichever roots the chain then has, once", async () => {
  await income(1000n);
  const first = await bench.attestation([[alice.address, 100n]]);
  await bench.post(anyone, first);
  const second = await bench.attestation([[alice.address, 50n]]);
  await bench.post(anyone, second);
  await bench.send(anyone, "claim", bench.claimArguments(second, alice.address));
  assert.equal(await bench.balance(alice.address), 150n);

  // The second batch and the claim are gone, the first batch stays.
  await bench.clients.tester.request({ method: "anvil_reorg" as never, params: [2, []] as never });
  assert.deepEqual([await bench.amount("lastBatch"), await bench.balance(alice.address)], [1n, 0n]);
  assert.equal(await bench.refusal(anyone, "claim", bench.claimArguments(second, alice.address)), "WrongProof");
  await bench.send(anyone, "claim", bench.claimArguments(first, alice.address));
  await bench.post(anyone, second);
  await bench.send(anyone, "claim", bench.claimArguments(second, alice.address));
  assert.equal(await bench.balance(alice.address), 150n);
  assert.equal(await bench.amount("totalClaimed"), 150n);
});

scenario("of the roots of replaced attesters only the newest stays", async () => {
  await income(1000n);
  const first = await bench.attestation([[alice.address, 100n]]);
  await bench.post(anyone, first);
  const second = await bench.attestation([[alice.address, 50n]]);
  await bench.post(anyone, second);
  const claimable = (batch: typeof first): Promise<string> =>
    bench.refusal(anyone, "claim", bench.claimArguments(batch, alice.address));
  const rotated = async (role: SignerRole, keys: readonly (typeof searcher)[]): Promise<void> => {
    const next = testKeys("next", 3).map((key) => key.address);
    const rotation = { latticeId: LATTICE_ID, role, nonce: 0n, signers: next, threshold: 2 };
    const signed = signatures(rotationDigest(bench.domain, rotation), keys);
    await bench.send(anyone, "rotateSigners", [roleArgument(role), next.map(hex), 2n, signed]);
  };
  await rotated("payers", PAYERS.slice(0, 2));
  assert.deepEqual([await claimable(first), await claimable(second)], ["ok", "ok"]);
  await rotated("attesters", ATTESTERS.slice(0, 3));
  assert.deepEqual([await claimable(first), await claimable(second)], ["WrongProof", "ok"]);
  assert.equal(await bench.read("root"), hex(second.attestation.root));
});

scenario("a proof for more, for another or of another tree pays nothing", async () => {
  await income(1000n);
  const batch = await bench.attestation([
    [alice.address, 100n],
    [bob.address, 200n],
  ]);
  assert.equal(await bench.refusal(anyone, "claim", bench.claimArguments(batch, alice.address)), "WrongProof");
  await bench.post(anyone, batch);
  const [recipient, total, proof] = bench.claimArguments(batch, alice.address);
  assert.equal(await bench.refusal(anyone, "claim", [recipient, total, proof]), "ok");
  assert.equal(await bench.refusal(anyone, "claim", [recipient, total + 1n, proof]), "WrongProof");
  assert.equal(await bench.refusal(anyone, "claim", [hex(searcher.address), total, proof]), "WrongProof");
  assert.equal(await bench.refusal(anyone, "claim", [recipient, total, []]), "WrongProof");
  assert.equal(await bench.refusal(anyone, "claim", [recipient, total, [hex(bid(1))]]), "WrongProof");
});

scenario("signatures: t of n, each once, in order, of this set, over this very batch", async () => {
  await income(1000n);
  const { attestation } = await bench.attestation([[alice.address, 100n]]);
  const [a, b, c, d] = ATTESTERS;
  assert.ok(a !== undefined && b !== undefined && c !== undefined && d !== undefined);
  const posting = (keys: readonly (typeof a)[]): Promise<string> =>
    bench.refusal(anyone, "post", bench.signed(attestation, keys));
  assert.equal(await posting([a, b, c]), "ok");
  assert.equal(await posting([b, c, d]), "ok");
  assert.equal(await posting([a, b, c, d]), "ok");
  assert.equal(await posting([a, b]), "BelowThreshold");
  assert.equal(await posting([]), "BelowThreshold");
  assert.equal(await posting([a, a, b]), "SignersNotAscending");
  assert.equal(await posting([b, a, c]), "SignersNotAscending");
  assert.equal(await posting([a, b, testKey("stranger")]), "NotASigner");
  assert.equal(await posting([...PAYERS]), "NotASigner");

  const [argument, signed] = bench.signed(attestation, [a, b, c]);
  const [other] = bench.signed({ ...attestation, total: 101n });
  assert.equal(await bench.refusal(anyone, "post", [other, signed]), "NotASigner");
  const short: Hex[] = signed.map((signature) => signature.slice(0, -2) as Hex);
  assert.equal(await bench.refusal(anyone, "post", [argument, short]), "ECDSAInvalidSignatureLength");
});

scenario("signatures for another chain or another contract are strangers' here", async () => {
  await income(1000n);
  const { attestation } = await bench.attestation([[alice.address, 100n]]);
  const foreign = [
    { ...bench.domain, chainId: 1n },
    { ...bench.domain, verifyingContract: alice.address },
    { ...bench.domain, version: "2" },
  ];
  for (const domain of foreign) {
    assert.equal(await bench.refusal(anyone, "post", bench.signed(attestation, ATTESTERS, domain)), "NotASigner");
  }
});

scenario("a batch is taken once, in order, for this lattice, and its total never falls", async () => {
  await income(1000n);
  const first = await bench.attestation([[alice.address, 100n]]);
  const refused = (over: Partial<typeof first.attestation>): Promise<string> =>
    bench.refusal(anyone, "post", bench.signed({ ...first.attestation, ...over }));
  assert.equal(await refused({ latticeId: new Uint8Array(32) }), "WrongLattice");
  assert.equal(await refused({ batch: 2n }), "WrongBatch");
  assert.equal(await refused({ batch: 0n }), "WrongBatch");
  await bench.post(anyone, first);
  assert.equal(await bench.refusal(anyone, "post", bench.signed(first.attestation)), "WrongBatch");
  const second = await bench.attestation([], { total: 99n });
  assert.equal(await bench.refusal(anyone, "post", bench.signed(second.attestation)), "TotalDecreases");
  const back = await bench.attestation([], { lastBlockNumber: first.attestation.lastBlockNumber - 1n });
  assert.equal(await bench.refusal(anyone, "post", bench.signed(back.attestation)), "BlockGoesBack");
});

scenario("the attested block must be this chain's, also beyond BLOCKHASH's reach", async () => {
  await income(1000n);
  const batch = await bench.attestation([[alice.address, 100n]]);
  const posting = (over: Partial<typeof batch.attestation> = {}): Promise<string> =>
    bench.refusal(anyone, "post", bench.signed({ ...batch.attestation, ...over }));
  assert.equal(await posting({ lastBlockHash: bid(9) }), "WrongBlockHash");
  assert.equal(await posting({ lastBlockHash: new Uint8Array(32) }), "WrongBlockHash");
  const next = batch.attestation.lastBlockNumber + 1n;
  assert.equal(await posting({ lastBlockNumber: next }), "BlockNotPast");
  assert.equal(await posting({ lastBlockNumber: next + 100n }), "BlockNotPast");
  assert.equal(await bench.refusal(anyone, "stage", bench.signed(batch.attestation)), "BlockInRange");

  await bench.mine(300);
  assert.equal(await posting({ lastBlockHash: bid(9) }), "WrongBlockHash");
  await bench.post(anyone, batch);
});

/** A chain that has forgotten: its history contract (EIP-2935) is gone, so BLOCKHASH's 256 blocks are all it knows. */
async function forgetHistory(): Promise<void> {
  await bench.clients.tester.setCode({ address: "0x0000F90827F1C53a10cb7A02335B175320002935", bytecode: "0x" });
}

scenario("a block that the chain has forgotten takes the quorum's signatures and the delay", async () => {
  await income(1000n);
  const batch = await bench.attestation([[alice.address, 100n]]);
  const posting = (over: Partial<typeof batch.attestation> = {}): Promise<string> =>
    bench.refusal(anyone, "post", bench.signed({ ...batch.attestation, ...over }));
  const staging = (signers = ATTESTERS.slice(0, 3)): Promise<string> =>
    bench.refusal(anyone, "stage", bench.signed(batch.attestation, signers));
  await forgetHistory();
  await bench.mine(255);
  assert.equal(await posting(), "ok");
  assert.equal(await staging(), "BlockInRange");
  await bench.mine(1);
  assert.equal(await posting(), "BlockOutOfRange");
  assert.equal(await staging(ATTESTERS.slice(0, 2)), "BelowThreshold");

  await bench.send(anyone, "stage", bench.signed(batch.attestation));
  assert.equal(await staging(), "AlreadyStaged");
  await bench.mine(STALE_DELAY - 2n);
  assert.equal(await posting(), "StillStaged");
  await bench.mine(1);
  assert.equal(await posting({ lastBlockHash: bid(9) }), "BlockOutOfRange", "the delay is that attestation's alone");
  await bench.post(anyone, batch);
  assert.equal(await bench.amount("lastBatch"), 1n);
});

scenario("a fresh batch overtakes a staged one", async () => {
  await income(1000n);
  const stale = await bench.attestation([[bob.address, 1000n]]);
  await forgetHistory();
  await bench.mine(256);
  await bench.send(anyone, "stage", bench.signed(stale.attestation));
  await bench.post(anyone, await bench.attestation([[alice.address, 10n]]));
  await bench.mine(STALE_DELAY);
  assert.equal(await bench.refusal(anyone, "post", bench.signed(stale.attestation)), "WrongBatch");
});

scenario("no more is attested than the refund pool holds, whatever else is in the contract", async () => {
  await income(100n);
  await bench.send(searcher, "deposit", [], 1000n);
  await bench.raw(anyone, bench.settlement, "0x", 1000n);
  const over = await bench.attestation([[alice.address, 101n]]);
  assert.equal(await bench.refusal(anyone, "post", bench.signed(over.attestation)), "PoolTooSmall");
  const exact = await bench.attestation([[alice.address, 100n]]);
  const reimbursed = { ...exact.attestation, poster: poster.address, posterReimbursement: 1n };
  assert.equal(await bench.refusal(anyone, "post", bench.signed(reimbursed)), "PoolTooSmall");
  await bench.post(anyone, exact);
  await bench.send(anyone, "claim", bench.claimArguments(exact, alice.address));
  const next = await bench.attestation([[bob.address, 1n]]);
  assert.equal(await bench.refusal(anyone, "post", bench.signed(next.attestation)), "PoolTooSmall");
});

scenario("a tree that promises more than its total cannot be drained beyond it", async () => {
  await income(1000n);
  const batch = await bench.attestation(
    [
      [alice.address, 600n],
      [bob.address, 400n],
    ],
    { total: 700n },
  );
  await bench.post(anyone, batch);
  await bench.send(anyone, "claim", bench.claimArguments(batch, alice.address));
  assert.equal(await bench.refusal(anyone, "claim", bench.claimArguments(batch, bob.address)), "AboveTotal");
});

scenario("charges move escrow into the pool, each bid once, at most what is there", async () => {
  await bench.send(searcher, "deposit", [], 100n);
  await bench.send(searcher, "requestWithdrawal", [80n]);
  const charge = (byte: number, amount: bigint) => ({ bidId: bid(byte), account: searcher.address, wei: amount });
  const batch = await bench.attestation([], { charges: [charge(1, 30n), charge(2, 20n)] });
  const twice = await bench.attestation([], { charges: [charge(1, 30n), charge(1, 30n)] });
  assert.equal(await bench.refusal(anyone, "post", bench.signed(twice.attestation)), "AlreadyCharged");
  const receipt = await bench.post(anyone, batch);
  assert.deepEqual(
    events(receipt)
      .filter((event) => event.name === "EscrowCharged")
      .map((event) => event.args),
    [
      { bidId: hex(bid(1)), account: checksummed(searcher.address), asked: 30n, taken: 30n },
      { bidId: hex(bid(2)), account: checksummed(searcher.address), asked: 20n, taken: 20n },
    ],
  );
  assert.deepEqual(
    await bench.read("escrowDetails", [hex(searcher.address)]).then((details) => (details as bigint[]).slice(0, 2)),
    [50n, 50n],
  );
  assert.deepEqual([await bench.amount("refundPool"), await bench.amount("escrowTotal")], [50n, 50n]);

  const again = await bench.attestation([], { charges: [charge(2, 1n)] });
  assert.equal(await bench.refusal(anyone, "post", bench.signed(again.attestation)), "AlreadyCharged");
  const greedy = await bench.attestation([], { charges: [charge(3, 1000n)] });
  await bench.post(anyone, greedy);
  assert.deepEqual([await bench.amount("refundPool"), await bench.amount("escrowTotal")], [100n, 0n]);
  await bench.mine(WITHDRAWAL_DELAY);
  assert.equal(await bench.refusal(searcher, "withdraw", [hex(bob.address)]), "NothingToWithdraw");
});

scenario("the poster is paid from the batch; one that cannot be paid does not hold it up", async () => {
  await income(1000n);
  const paid = testKey("paid poster").address;
  await bench.post(
    anyone,
    await bench.attestation([[alice.address, 900n]], { poster: paid, posterReimbursement: 40n }),
  );
  assert.equal(await bench.balance(paid), 40n);
  assert.equal(await bench.amount("refundPool"), 960n);

  const refusing = await bench.deployRecipients(anyone);
  await bench.raw(anyone, refusing, bench.encode(RECIPIENTS, "refuse", [true]));
  const batch = await bench.attestation([], { poster: fromHex(refusing), posterReimbursement: 60n });
  const receipt = await bench.post(anyone, batch);
  const [posted] = parseEventLogs({ abi: SETTLEMENT_ABI, logs: receipt.logs, eventName: "AttestationPosted" });
  assert.equal(posted?.args.reimbursed, 0n);
  assert.equal(await bench.amount("refundPool"), 960n);
});

scenario("a share for the contract itself becomes free money", async () => {
  await income(1000n);
  const batch = await bench.attestation([[fromHex(bench.settlement), 100n]]);
  await bench.post(anyone, batch);
  await bench.send(anyone, "claim", bench.claimArguments(batch, fromHex(bench.settlement)));
  assert.deepEqual([await bench.amount("free"), await bench.amount("refundPool")], [100n, 900n]);
});

scenario("a recipient that cannot be paid fails its own claim and nobody else's", async () => {
  await income(1000n);
  const refusing = await bench.deployRecipients(anyone);
  await bench.raw(anyone, refusing, bench.encode(RECIPIENTS, "refuse", [true]));
  const batch = await bench.attestation([
    [fromHex(refusing), 100n],
    [alice.address, 100n],
  ]);
  await bench.post(anyone, batch);
  assert.equal(await bench.refusal(anyone, "claim", bench.claimArguments(batch, fromHex(refusing))), "TransferFailed");
  await bench.send(anyone, "claim", bench.claimArguments(batch, alice.address));
  await bench.raw(anyone, refusing, bench.encode(RECIPIENTS, "refuse", [false]));
  await bench.send(anyone, "claim", bench.claimArguments(batch, fromHex(refusing)));
  assert.equal(await bench.balance(refusing), 100n);
});

scenario("a recipient that calls back is paid once", async () => {
  await income(1000n);
  const attacker = await bench.deployRecipients(anyone);
  const read = (functionName: "attempts" | "successes"): Promise<bigint> =>
    bench.clients.reader.readContract({ address: attacker, abi: RECIPIENTS, functionName });
  const tries = async (): Promise<bigint[]> => [await read("attempts"), await read("successes")];
  const batch = await bench.attestation([
    [fromHex(attacker), 100n],
    [alice.address, 300n],
  ]);
  await bench.post(anyone, batch);
  for (const reentry of [attacker, hex(alice.address)]) {
    // Armed with its own claim it tries to be paid twice; with somebody else's it tries to disturb the books.
    const data = bench.data("claim", bench.claimArguments(batch, fromHex(reentry)));
    await bench.raw(anyone, attacker, bench.encode(RECIPIENTS, "arm", [bench.settlement, data]));
    const before = await bench.clients.tester.snapshot();
    await bench.send(anyone, "claim", bench.claimArguments(batch, fromHex(attacker)));
    assert.equal(await bench.balance(attacker), 100n);
    assert.equal(await bench.balance(alice.address), 0n);
    assert.deepEqual(await tries(), [1n, 0n], "it tried, it was refused");
    await bench.clients.tester.revert({ id: before });
  }
  await bench.send(anyone, "claim", bench.claimArguments(batch, fromHex(attacker)));

  // The same through escrow: a withdrawal that asks for itself again while it is being paid.
  const withdraw = bench.data("withdraw", [attacker]);
  await bench.raw(
    anyone,
    attacker,
    bench.encode(RECIPIENTS, "run", [bench.settlement, bench.data("deposit", [])]),
    50n,
  );
  await bench.raw(
    anyone,
    attacker,
    bench.encode(RECIPIENTS, "run", [bench.settlement, bench.data("requestWithdrawal", [50n])]),
  );
  await bench.mine(WITHDRAWAL_DELAY);
  await bench.raw(anyone, attacker, bench.encode(RECIPIENTS, "arm", [bench.settlement, withdraw]));
  await bench.raw(anyone, attacker, bench.encode(RECIPIENTS, "run", [bench.settlement, withdraw]));
  assert.equal(await bench.balance(attacker), 150n);
  assert.equal(await bench.amount("escrowTotal"), 0n);
  assert.deepEqual(await tries(), [2n, 0n]);
});

scenario(
  "money leaves by pay() only up to cap and free, once a slot, with t payers, on this parent, in our block",
  async () => {
    await income(1000n);
    await bench.send(searcher, "deposit", [], 1000n);
    await bench.raw(anyone, bench.settlement, "0x", 100n);
    await bench.feesTo(bench.settlement);
    const payer = testKey("zero-balance payer").address;
    const free = await bench.amount("free");
    const parent = async (): Promise<Uint8Array> => fromHex((await bench.clients.reader.getBlock()).hash);
    const release = async (slot: bigint, cap: bigint, amount: bigint, over: Over = {}) => {
      const parentHash = over.parentHash ?? (await parent());
      const recipient = over.recipient ?? payer;
      const digest = paymentDigest(bench.domain, { latticeId: LATTICE_ID, slot, parentHash, recipient: payer, cap });
      const keys = over.keys ?? PAYERS.slice(0, 2);
      return [slot, hex(parentHash), hex(recipient), cap, amount, signatures(digest, keys)] as const;
    };
    const refused = async (...args: Parameters<typeof release>): Promise<string> =>
      bench.refusal(anyone, "pay", await release(...args));

    assert.equal(await refused(5n, 60n, 60n), "ok");
    assert.equal(await refused(5n, 60n, 61n), "AboveCap");
    assert.equal(await refused(5n, 60n, 0n), "NoValue");
    assert.equal(await refused(5n, free + 500n, free), "ok");
    assert.equal(await refused(5n, free + 500n, free + 1n), "AboveFree", "refunds and escrow are out of reach");
    assert.equal(await refused(5n, 60n, 60n, { keys: PAYERS.slice(0, 1) }), "BelowThreshold");
    assert.equal(await refused(5n, 60n, 60n, { keys: ATTESTERS.slice(0, 3) }), "NotASigner");
    assert.equal(await refused(5n, 60n, 60n, { parentHash: bid(3) }), "WrongParent");
    assert.equal(await refused(5n, 60n, 60n, { recipient: bob.address }), "NotASigner");

    const args = await release(5n, 60n, 60n);
    await bench.send(anyone, "pay", args);
    assert.equal(await bench.balance(payer), 60n);
    assert.equal(await bench.refusal(anyone, "pay", args), "SlotAlreadyPaid");
    assert.equal(await refused(5n, 60n, 60n), "SlotAlreadyPaid");
    assert.equal(await refused(6n, 60n, 60n), "ok");

    // A hijacked block: whoever includes the leaked authorisation must also give the contract that block's fees.
    await bench.feesTo(hex(bob.address));
    assert.equal(await refused(6n, 60n, 60n), "FeesElsewhere");
    assert.equal(await bench.amount("accounted"), 2000n);
  },
);

scenario("after a reorg an authorisation is void, and what was accounted is still there", async () => {
  await bench.feesTo(bench.settlement);
  await income(1000n);
  await bench.raw(anyone, bench.settlement, "0x", 100n);
  await bench.mine(2);
  const parentHash = fromHex((await bench.clients.reader.getBlock()).hash);
  const digest = paymentDigest(bench.domain, {
    latticeId: LATTICE_ID,
    slot: 9n,
    parentHash,
    recipient: alice.address,
    cap: 50n,
  });
  const args = [9n, hex(parentHash), hex(alice.address), 50n, 50n, signatures(digest, PAYERS)] as const;
  assert.equal(await bench.refusal(anyone, "pay", args), "ok");
  await bench.send(anyone, "pay", args);

  await bench.clients.tester.request({ method: "anvil_reorg" as never, params: [3, []] as never });
  assert.equal(await bench.balance(alice.address), 0n, "the payment is gone with its block");
  assert.equal(await bench.refusal(anyone, "pay", args), "WrongParent");
  assert.deepEqual([await bench.amount("accounted"), await bench.read("slotPaid", [9n])], [1000n, false]);
});

scenario("signer sets rotate under their own signatures, and old signatures end with them", async () => {
  await income(1000n);
  const rotate = (role: SignerRole, nonce: bigint, to: readonly Uint8Array[], threshold: number, keys = ATTESTERS) => {
    const digest = rotationDigest(bench.domain, { latticeId: LATTICE_ID, role, nonce, signers: to, threshold });
    return [roleArgument(role), to.map(hex), BigInt(threshold), signatures(digest, keys.slice(0, 3))] as const;
  };
  const next = testKeys("next", 3);
  const addresses = next.map((key) => key.address);
  const stale = await bench.attestation([[alice.address, 1n]]);

  assert.equal(await bench.refusal(anyone, "rotateSigners", rotate("attesters", 1n, addresses, 2)), "NotASigner");
  assert.equal(await bench.refusal(anyone, "rotateSigners", rotate("payers", 0n, addresses, 2)), "NotASigner");
  assert.equal(await bench.refusal(anyone, "rotateSigners", rotate("attesters", 0n, addresses, 1)), "BadThreshold");
  assert.equal(await bench.refusal(anyone, "rotateSigners", rotate("attesters", 0n, addresses, 4)), "BadThreshold");
  assert.equal(await bench.refusal(anyone, "rotateSigners", rotate("attesters", 0n, [], 0)), "BadThreshold");
  assert.equal(
    await bench.refusal(anyone, "rotateSigners", rotate("attesters", 0n, addresses.toReversed(), 2)),
    "BadSigner",
  );
  const args = rotate("attesters", 0n, addresses, 2);
  await bench.send(anyone, "rotateSigners", args);
  assert.deepEqual(await bench.read("signersOf", [0]), [addresses.map(checksummed), 2n, 1n]);
  assert.equal(await bench.refusal(anyone, "rotateSigners", args), "NotASigner");
  assert.equal(await bench.refusal(anyone, "post", bench.signed(stale.attestation)), "NotASigner");
  assert.equal(await bench.refusal(anyone, "post", bench.signed(stale.attestation, next.slice(0, 2))), "ok");
  assert.deepEqual(await bench.read("signersOf", [1]), [PAYERS.map((key) => checksummed(key.address)), 2n, 0n]);
  await bench.send(anyone, "rotateSigners", rotate("payers", 0n, addresses, 2, PAYERS));
});

interface Over {
  readonly parentHash?: Uint8Array;
  readonly recipient?: Uint8Array;
  readonly keys?: readonly (typeof searcher)[];
}

function digestOf(batch: Awaited<ReturnType<Bench["attestation"]>>): Hex {
  return hex(bench.digest(batch.attestation));
}
