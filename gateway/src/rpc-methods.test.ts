import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { settlementDomain } from "@lattice/tally/core/attestation.ts";
import { refundAuthorisationDigest } from "@lattice/tally/core/refund-authorisation.ts";
import { encodeFunctionData, parseAbi } from "viem";
import { BIDDING_ORIGIN, openDoor } from "../test/door.ts";
import { ALICE, BOB, LogBook, transfer } from "../test/fixture.ts";
import { BUNDLE_REQUEST, bundleItems, paymentOf } from "./bundle-dialect.ts";
import { RpcError } from "./json-rpc.ts";

interface Answer {
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string; readonly data?: { readonly reason?: string } };
}

/** A gateway with a searcher, and a record of what its node was asked. */
function open(options: { searcher?: boolean; pendingUnknown?: boolean } = {}) {
  const asked: string[] = [];
  const door = openDoor(
    async (method, params) => {
      asked.push(`${method} ${JSON.stringify(params)}`);
      if (method !== "eth_getTransactionCount") return "0x7";
      if (params[1] === "pending" && options.pendingUnknown === true)
        throw new RpcError(-32_602, '"pending" is not yet supported');
      return "0x2";
    },
    options.searcher === true ? { searcherKey: new Uint8Array(32).fill(7) } : {},
  );
  const call = async (method: string, params: readonly unknown[], origin?: string): Promise<Answer> => {
    const text = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    return JSON.parse((await door.jsonRpc.answer(text, { origin })) ?? "{}") as Answer;
  };
  return { ...door, asked, call };
}

const hex = (bytes: Uint8Array): string => `0x${toHex(bytes)}`;
before(() => initCrypto());

test("who we are is said without asking the node", async () => {
  const { call, asked } = open();
  assert.equal((await call("eth_chainId", [])).result, "0x7a69");
  assert.equal((await call("net_version", [])).result, "31337");
  assert.deepEqual((await call("eth_accounts", [])).result, []);
  assert.equal(((await call("lattice_getLattice", [])).result as { chainId: string }).chainId, "0x7a69");
  assert.deepEqual(asked, []);
});

test("pending counts include what waits here; others are the node's", async () => {
  for (const pendingUnknown of [false, true]) {
    const { call, chain } = open({ pendingUnknown });
    chain.accounts.set(ALICE.address.toLowerCase(), { nonce: 2n, balanceWei: 10n ** 20n });
    const count = async (block: unknown): Promise<unknown> =>
      (await call("eth_getTransactionCount", [ALICE.address, block])).result;
    assert.equal(await count("pending"), "0x2");
    for (const nonce of [2, 3, 5]) await call("eth_sendRawTransaction", [hex((await transfer(ALICE, nonce)).raw)]);
    assert.equal(await count("pending"), "0x4");
    assert.equal(await count("latest"), "0x2");
    assert.equal((await call("eth_getTransactionCount", ["0x12", "pending"])).error?.code, -32_602);
  }
});

test("of a transaction that is not public the node is not asked", async () => {
  const { call, asked, submissions } = open();
  const { raw, hash } = await transfer(ALICE, 0);
  assert.equal((await call("eth_sendRawTransaction", [hex(raw)])).result, `0x${hash}`);
  for (const method of ["eth_getTransactionByHash", "eth_getTransactionReceipt"]) {
    assert.deepEqual((await call(method, [`0x${hash}`])).result, null);
    assert.deepEqual((await call(method, [`0x${hash.toUpperCase()}`])).result, null);
    assert.equal((await call(method, ["0x12"])).error?.code, -32_602);
  }
  assert.ok(!asked.join().includes(hash));
  submissions.landed({ hash: "ab".repeat(32), transactions: [hash] });
  assert.equal((await call("eth_getTransactionReceipt", [`0x${hash}`])).result, "0x7");
});

test("disclosure is the setting, the sender's word, or mev-share's hints", async () => {
  const { call, submissions } = open();
  const sent = async (method: string, params: (raw: string) => unknown[], nonce: number) => {
    const { raw, hash } = await transfer(ALICE, nonce);
    const { result } = await call(method, params(hex(raw)));
    assert.equal(result, `0x${hash}`);
    return submissions.get(hash)?.disclosure;
  };
  const none = { hash: false, target: false, everything: false };
  assert.deepEqual(await sent("eth_sendRawTransaction", (raw) => [raw], 0), { ...none, hash: true });
  assert.deepEqual(await sent("eth_sendRawTransaction", (raw) => [raw, { disclosure: "nothing" }], 1), none);
  assert.deepEqual(await sent("eth_sendPrivateTransaction", (tx) => [{ tx, maxBlockNumber: 120 }], 2), {
    ...none,
    hash: true,
  });
  const preferences = (hints: string[]) => ({ fast: true, privacy: { hints, builders: ["x"] } });
  const hinted = (hints: string[], nonce: number) =>
    sent(
      "eth_sendPrivateTransaction",
      (tx) => [{ tx, maxBlockNumber: "0x7e", preferences: preferences(hints) }],
      nonce,
    );
  assert.deepEqual(await hinted([], 3), none);
  assert.deepEqual(await hinted(["contract_address", "function_selector"], 4), { ...none, hash: true, target: true });
  assert.deepEqual(await hinted(["calldata", "logs"], 5), none);
  const { raw } = await transfer(ALICE, 6);
  assert.equal((await call("eth_sendRawTransaction", [hex(raw), { disclosure: "all" }])).error?.code, -32_602);
  assert.equal((await call("eth_sendRawTransaction", [hex(raw), { disclosed: "hash" }])).error?.code, -32_602);
});

test("calls are measured by method and result; what is not a method of ours is one label", async () => {
  const { call, meters } = open();
  await call("eth_chainId", []);
  await call("eth_blockNumber", []);
  await call("eth_sendRawTransaction", ["0x02c0"]);
  await call("eth_sendRawTransaction", []);
  await call("evil_method", []);
  const calls = (method: string, result: string): number =>
    meters.observations("lattice_gateway_calls_seconds", { method, result });
  assert.deepEqual(
    [
      calls("eth_chainId", "ok"),
      calls("eth_blockNumber", "ok"),
      calls("eth_sendRawTransaction", "TRANSACTION_UNDECODABLE"),
      calls("eth_sendRawTransaction", "error"),
      calls("other", "ok"),
    ],
    [1, 1, 1, 1, 1],
  );
  assert.ok(![...meters.all().keys()].join().includes("evil"));
});

test("found by fuzzing: a slot above 2^64 - 1 is a malformed parameter, not an internal error", async () => {
  const { call } = open({ searcher: true });
  for (const slot of ["0x10000000000000000", "0x19999999999999999999999999999999999999999"]) {
    assert.equal((await call("lattice_reserveBid", [{ class: "blind", slot }])).error?.code, -32_602);
  }
});

test("a private transaction's last block is kept to, or refused when it cannot be", async () => {
  const { call, submissions, config } = open();
  const { raw, hash } = await transfer(ALICE, 0);
  const send = (maxBlockNumber: unknown) => call("eth_sendPrivateTransaction", [{ tx: hex(raw), maxBlockNumber }]);
  // The head is block 100: the next round's message may be carried until four blocks after 101.
  const near = await send(100 + config.atelier.content.carrySlots);
  assert.equal(near.error?.data?.reason, "BAD_REQUEST");
  assert.match(near.error?.message ?? "", /maxBlockNumber: too near, at least 105/);
  assert.equal((await send(100)).error?.data?.reason, "BAD_REQUEST");
  assert.equal((await send("soon")).error?.code, -32_602);
  const before = slotAt(config, Date.now());
  assert.equal((await send(`0x${(200).toString(16)}`)).result, `0x${hash}`);
  const after = slotAt(config, Date.now());
  const until = submissions.get(hash)?.untilSlot ?? 0n;
  assert.ok(until >= before + 100n && until <= after + 100n, `${until - before}`);
});

test("a refund authorisation is passed on when the sender signed it, and refused otherwise", async () => {
  const { call, submissions, config } = open();
  const { raw, hash } = await transfer(ALICE, 0);
  const domain = settlementDomain(config.chainId, config.tally.content.settlement);
  const digest = refundAuthorisationDigest(domain, fromHex(hash), fromHex(BOB.address));
  const by = async (account: typeof ALICE) => ({
    recipient: BOB.address,
    signature: await account.sign({ hash: hex(digest) as `0x${string}` }),
  });
  const refused = await call("eth_sendRawTransaction", [hex(raw), { refund: await by(BOB) }]);
  assert.equal(refused.error?.data?.reason, "BAD_AUTHORISATION");
  assert.equal(
    (await call("eth_sendRawTransaction", [hex(raw), { refund: { recipient: "0x12" } }])).error?.code,
    -32_602,
  );
  assert.equal(submissions.get(hash), undefined);
  const refund = await by(ALICE);
  assert.equal((await call("eth_sendRawTransaction", [hex(raw), { refund }])).result, `0x${hash}`);
  assert.deepEqual(submissions.get(hash)?.refund, {
    recipient: fromHex(BOB.address),
    signature: fromHex(refund.signature),
  });
});

test("refusals read as wallets expect them, and hold nothing of the transaction", async () => {
  const { call, chain, log } = open();
  const { raw, sender } = await transfer(ALICE, 1);
  chain.accounts.set(sender, { nonce: 2n, balanceWei: 0n });
  const low = await call("eth_sendRawTransaction", [hex(raw)]);
  assert.match(low.error?.message ?? "", /nonce too low/);
  assert.equal(low.error?.data?.reason, "NONCE_TOO_LOW");
  const poor = await call("eth_sendRawTransaction", [hex((await transfer(ALICE, 2)).raw)]);
  assert.match(poor.error?.message ?? "", /insufficient funds for gas \* price \+ value/);
  const bad = await call("eth_sendRawTransaction", [`${hex(raw)}00`]);
  assert.equal(bad.error?.data?.reason, "TRANSACTION_UNDECODABLE");
  assert.equal((await call("eth_sendRawTransaction", [])).error?.code, -32_602);
  assert.equal((await call("eth_sendRawTransaction", ["0xabc"])).error?.code, -32_602);
  assert.ok(!JSON.stringify([low, poor, bad, log.lines]).includes(toHex(raw).slice(0, 40)));
});

describe("bundles", () => {
  const PAY_BID = parseAbi(["function payBid(uint64 slot, bytes32 bidId) payable"]);

  test("no searcher, a web page, an unknown field, a past block: each is refused by name", async () => {
    const without = open();
    assert.equal((await without.call("eth_sendBundle", [{}])).error?.data?.reason, "NO_SEARCHER");
    const { call } = open({ searcher: true });
    const own = hex((await transfer(BOB, 0)).raw);
    const lattice = { class: "blind", amountWei: "0x10" };
    const reason = async (bundle: unknown, origin?: string): Promise<string | undefined> => {
      const { error } = await call("eth_sendBundle", [bundle], origin);
      return error?.data?.reason ?? error?.message;
    };
    const bundle = { txs: [own], blockNumber: "0x65", lattice };
    assert.equal(await reason(bundle, "https://page.example"), "ORIGIN_REFUSED");
    assert.equal(
      (await call("lattice_reserveBid", [{ class: "blind" }], "null")).error?.data?.reason,
      "ORIGIN_REFUSED",
    );
    assert.match((await reason({ ...bundle, minTimestamp: 1 })) ?? "", /minTimestamp/);
    assert.match((await reason({ ...bundle, replacementUuid: "x" })) ?? "", /replacementUuid/);
    assert.match((await reason({ ...bundle, txs: [] })) ?? "", /bundle\.txs/);
    assert.equal(await reason({ ...bundle, blockNumber: 100 }), "BAD_REQUEST");
    assert.equal(await reason({ ...bundle, lattice: { ...lattice, slot: "1" } }), "BAD_BID");
    assert.equal(await reason({ txs: [own], blockNumber: "0x70" }), "BAD_BID", "what is bid is not said anywhere");
    // Sealed and sent: that nobody is there is offer's silence, not a refusal of ours.
    assert.equal(await reason({ ...bundle, blockNumber: "0x70" }, BIDDING_ORIGIN), "UPSTREAM_UNREACHABLE");
  });

  test("an unmodified client's bundle is recognised by the payment it makes under a reserved id", async () => {
    const { call, config } = open({ searcher: true });
    const { result } = await call("lattice_reserveBid", [{ class: "blind" }]);
    const { slot, paymentId } = result as { slot: string; nonce: string; paymentId: `0x${string}` };
    const settlement = config.tally.content.settlement;
    const pay = (id: `0x${string}`, to = hex(settlement)) =>
      BOB.signTransaction({
        type: "eip1559",
        chainId: 31_337,
        nonce: 0,
        to: to as `0x${string}`,
        value: 12_345n,
        gas: 90_000n,
        maxFeePerGas: 10n,
        data: encodeFunctionData({ abi: PAY_BID, functionName: "payBid", args: [BigInt(slot), id] }),
      });
    const paid = await pay(paymentId);
    // As ethers-provider-bundle sends it (field notes §5), without what it leaves undefined.
    const bundle = BUNDLE_REQUEST.parse({ txs: [hex((await transfer(ALICE, 0)).raw), paid], blockNumber: "0x70" });
    assert.deepEqual(paymentOf(bundleItems(bundle.txs), settlement), {
      slot: BigInt(slot),
      paymentId: fromHex(paymentId),
      amountWei: 12_345n,
    });
    const { error } = await call("eth_sendBundle", [bundle]);
    assert.equal(error?.data?.reason, "UPSTREAM_UNREACHABLE", "taken, sealed, and offer is away");
    const other = await call("eth_sendBundle", [{ txs: [await pay(`0x${"01".repeat(32)}`)] }]);
    assert.equal(other.error?.data?.reason, "BAD_BID", "an id that was not reserved here");
    assert.equal(paymentOf(bundleItems([paid, paid]), settlement), undefined, "two payments are none");
    assert.equal(paymentOf(bundleItems([await pay(paymentId, `0x${"12".repeat(20)}`)]), settlement), undefined);
    assert.equal(paymentOf(bundleItems(["0x01"]), settlement), undefined);
  });
});

test("the log book of these tests would show what is logged", () => {
  const log = new LogBook();
  log.error("x", { slot: 1n });
  assert.deepEqual(log.lines, ['error x {"slot":"1"}']);
});
