import assert from "node:assert/strict";
import { before, test } from "node:test";
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import fc from "fast-check";
import { attributesOn, devnet, GATE, GWEI, payBid, signed, wallet } from "../../test/devnet.ts";
import { bidId, bundle, inputsOn, message, paymentId, SLOT } from "../../test/slot.ts";
import vector from "../../test/vectors/candidate.json" with { type: "json" };
import { CANDIDATE_BODY, type Candidate, type CandidateBody } from "../core/candidate.ts";
import type { BuildInputs } from "../core/inputs.ts";
import { buildCandidate } from "./build.ts";
import { ChainError, type ChainState } from "./chain-state.ts";
import { REFUSALS, type RefusalReason, verifyCandidate } from "./verify.ts";

const SEARCHER = wallet(100);
const REFUND = { recipient: new Uint8Array(20).fill(0x0e), signature: new Uint8Array(65).fill(0x51) };
const opening = message(
  0,
  signed({ from: wallet(0), nonce: 0n, to: GATE, data: new Uint8Array(), gasLimit: 100_000n, tip: GWEI }),
  SLOT,
  REFUND,
);
const dear = message(1, signed({ from: wallet(1), nonce: 0n, tip: 5n * GWEI }));
const gap = message(2, signed({ from: wallet(2), nonce: 3n }));
const old = message(8, signed({ from: wallet(3), nonce: 0n }), SLOT - 1n);
const backrun = bundle({
  index: 1,
  class: "seen",
  searcher: SEARCHER,
  items: [opening, signed({ from: SEARCHER, nonce: 0n, to: GATE, data: payBid(SLOT, paymentId(1)), valueWei: 1000n })],
});
const top = bundle({
  index: 2,
  class: "blind",
  searcher: wallet(101),
  items: [signed({ from: wallet(101), nonce: 0n })],
});

let chain: ChainState;
let inputs: BuildInputs;
let candidate: Candidate;
before(async () => {
  chain = await devnet();
  inputs = inputsOn(chain, { carried: [old], pool: [opening, dear, gap], bundles: [top, backrun] });
  candidate = await buildCandidate(chain, inputs);
  assert.deepEqual(
    candidate.body.entries.map((entry) => entry.type),
    ["carried", "blind", "pool", "pool", "seen"],
  );
});

/** The verdict on a changed body: its reason, or "accepted". */
async function verdictOn(change: (body: CandidateBody) => Partial<CandidateBody>): Promise<RefusalReason | "accepted"> {
  const body = { ...candidate.body, ...change(structuredClone(candidate.body)) };
  const verdict = await verifyCandidate(chain, inputs, encode(CANDIDATE_BODY, body));
  return verdict.accepted ? "accepted" : verdict.reason;
}

function moved<T>(items: readonly T[], from: number, to: number): T[] {
  const rest = items.toSpliced(from, 1);
  const item = items[from];
  assert.ok(item !== undefined);
  return rest.toSpliced(to, 0, item);
}

test("the candidate is, byte for byte, the golden vector", () => {
  assert.equal(toHex(candidate.bodyBytes), vector.body);
  assert.equal(toHex(candidate.commitmentBytes), vector.commitment);
});

test("a candidate is accepted by a member that has only its bytes and the same inputs", async () => {
  const other = await devnet();
  const verdict = await verifyCandidate(other, inputs, candidate.bodyBytes);
  assert.ok(verdict.accepted);
  assert.deepEqual(verdict.candidate.commitmentBytes, candidate.commitmentBytes);
});

test("a seen bundle in front of a pool message is refused, under its own name or another's", async () => {
  assert.equal(await verdictOn(({ entries }) => ({ entries: moved(entries, 4, 2) })), "CLASS_ORDER");
  const disguised = await verdictOn(({ entries }) => {
    const seen = entries[4];
    assert.ok(seen?.type === "seen");
    return { entries: moved(entries.toSpliced(4, 1, { ...seen, type: "blind" }), 4, 2) };
  });
  assert.equal(disguised, "UNKNOWN_BUNDLE");
});

test("a valid pool message that is left out is refused, with or without an excuse", async () => {
  const omitted = (body: CandidateBody) => body.entries.toSpliced(2, 1);
  assert.equal(await verdictOn((body) => ({ entries: omitted(body) })), "MESSAGE_UNACCOUNTED");
  const excused = await verdictOn((body) => ({
    entries: omitted(body),
    exclusions: [{ messageId: dear.messageId, class: "pool", reason: "block-full" }, ...body.exclusions],
  }));
  assert.equal(excused, "MESSAGE_OMITTED");
  const uncarried = await verdictOn((body) => ({ entries: body.entries.slice(1) }));
  assert.equal(uncarried, "MESSAGE_UNACCOUNTED");
});

test("a refund authorisation that is dropped, changed or made up is refused", async () => {
  const opened = candidate.body.entries.findIndex((entry) => "refund" in entry && entry.refund !== undefined);
  assert.deepEqual(candidate.body.entries[opened], {
    type: "pool",
    messageId: opening.messageId,
    raw: opening.rawTransaction,
    refund: REFUND,
  });
  const withRefund = (at: number, refund: typeof REFUND | undefined) =>
    verdictOn(({ entries }) => ({
      entries: entries.map((entry, index) => (index === at && "refund" in entry ? { ...entry, refund } : entry)),
    }));
  assert.equal(await withRefund(opened, undefined), "AUTHORISATION_DIFFERS");
  assert.equal(await withRefund(opened, { ...REFUND, recipient: new Uint8Array(20) }), "AUTHORISATION_DIFFERS");
  assert.equal(await withRefund(0, REFUND), "AUTHORISATION_DIFFERS");
  assert.equal(await withRefund(opened, REFUND), "accepted");
});

test("pool messages in another order are refused", async () => {
  assert.equal(await verdictOn(({ entries }) => ({ entries: moved(entries, 3, 2) })), "MESSAGE_ORDER");
});

test("an exclusion with another reason, of nobody's message, or of an included one is refused", async () => {
  const changed = (over: object) => (body: CandidateBody) => ({
    exclusions: body.exclusions.map((exclusion) => ({ ...exclusion, ...over })),
  });
  assert.equal(await verdictOn(changed({ reason: "underfunded" })), "WRONG_REASON");
  assert.equal(await verdictOn(changed({ messageId: new Uint8Array(16) })), "UNKNOWN_MESSAGE");
  assert.equal(await verdictOn(changed({ class: "carried" })), "UNKNOWN_MESSAGE");
  assert.equal(await verdictOn(changed({ messageId: dear.messageId })), "MESSAGE_TWICE");
  assert.equal(await verdictOn((body) => ({ exclusions: [...body.exclusions, ...body.exclusions] })), "MESSAGE_TWICE");
});

test("a message that is not valid at its position is refused when it is included", async () => {
  const included = await verdictOn(({ entries }) => ({
    entries: entries.toSpliced(4, 0, {
      type: "pool",
      messageId: gap.messageId,
      raw: gap.rawTransaction,
      refund: undefined,
    }),
    exclusions: [],
  }));
  assert.equal(included, "MESSAGE_NOT_VALID");
});

test("other bytes under a message's or bid's name, and strangers' transactions, are refused", async () => {
  const stranger = signed({ from: wallet(50), nonce: 0n });
  const replaced = (at: number) => (body: CandidateBody) => {
    const entry = body.entries[at];
    assert.ok(entry !== undefined);
    return { entries: body.entries.toSpliced(at, 1, { ...entry, raw: stranger }) };
  };
  assert.equal(await verdictOn(replaced(2)), "TRANSACTION_DIFFERS");
  assert.equal(await verdictOn(replaced(4)), "TRANSACTION_DIFFERS");
  const added = await verdictOn(({ entries }) => ({
    entries: [...entries, { type: "tail", bidId: bidId(9), raw: stranger }],
  }));
  assert.equal(added, "UNKNOWN_BUNDLE");
  const unknown = await verdictOn(({ entries }) => ({
    entries: entries.toSpliced(4, 0, { type: "pool", messageId: new Uint8Array(16), raw: stranger, refund: undefined }),
  }));
  assert.equal(unknown, "UNKNOWN_MESSAGE");
});

test("a winner that is left out, and a table that says otherwise than execution, are refused", async () => {
  assert.equal(await verdictOn(({ entries }) => ({ entries: entries.slice(0, 4) })), "BUNDLE_OMITTED");
  assert.equal(await verdictOn(({ entries }) => ({ entries: entries.toSpliced(1, 1) })), "BUNDLE_OMITTED");
  const richer = await verdictOn(({ table }) => ({ table: table.map((row) => ({ ...row, paymentWei: 5n })) }));
  assert.equal(richer, "TABLE_DIFFERS");
  assert.equal(await verdictOn(({ table }) => ({ table: table.slice(1) })), "TABLE_DIFFERS");
  assert.equal(await verdictOn(({ table }) => ({ table: [...table, ...table] })), "TABLE_DIFFERS");
});

test("a bundle that breaks a rule is refused when it is included", async () => {
  const short = { ...backrun, amountWei: 1001n };
  const verdict = await verifyCandidate(chain, { ...inputs, bundles: [top, short] }, candidate.bodyBytes);
  assert.equal(verdict.accepted ? "accepted" : verdict.reason, "BUNDLE_NOT_VALID");
});

test("any attribute other than the ones asked for is refused", async () => {
  const asked = attributesOn(chain);
  const deviations: Partial<CandidateBody["attributes"]>[] = [
    { timestamp: asked.timestamp + 1n },
    { prevRandao: new Uint8Array(32) },
    { feeRecipient: wallet(5).address },
    { gasLimit: asked.gasLimit - 1n },
    { parentBeaconBlockRoot: new Uint8Array(32) },
    { extraData: new Uint8Array() },
    { withdrawals: [{ index: 0n, validatorIndex: 0n, address: wallet(5).address, amountGwei: 1n }] },
  ];
  for (const deviation of deviations) {
    // Built honestly for the deviating attributes: everything else in the body fits together.
    const elsewhere = await buildCandidate(chain, { ...inputs, attributes: { ...asked, ...deviation } });
    const verdict = await verifyCandidate(chain, inputs, elsewhere.bodyBytes);
    assert.ok(!verdict.accepted);
    assert.equal(verdict.reason, "ATTRIBUTES_DIFFER");
    assert.equal(verdict.detail, Object.keys(deviation)[0]);
  }
});

test("another slot, version, parent, upstream outcome or a hint that nobody gave is refused", async () => {
  assert.equal(await verdictOn(() => ({ slot: SLOT + 1n })), "WRONG_SLOT");
  assert.equal(await verdictOn(() => ({ candidateVersion: 1 })), "WRONG_VERSION");
  const elsewhere = { ...candidate.body.attributes, parentHash: new Uint8Array(32) };
  assert.equal(await verdictOn(() => ({ attributes: elsewhere })), "WRONG_PARENT");
  assert.equal(await verdictOn(() => ({ unsealed: undefined })), "INPUTS_DIFFER");
  assert.equal(await verdictOn(() => ({ auction: new Uint8Array(32) })), "INPUTS_DIFFER");
  assert.equal(await verdictOn(() => ({ appliedHints: [new Uint8Array(32)] })), "UNKNOWN_HINT");
});

test("a header, hash, request, fee sum or carry list that does not come out is refused", async () => {
  const field =
    (over: object) =>
    ({ header }: CandidateBody) => ({ header: { ...header, ...over } });
  for (const over of [
    { stateRoot: new Uint8Array(32) },
    { receiptsRoot: new Uint8Array(32) },
    { transactionsRoot: new Uint8Array(32) },
    { logsBloom: new Uint8Array(256).fill(1) },
    { gasUsed: candidate.body.header.gasUsed + 1n },
    { baseFeePerGas: candidate.body.header.baseFeePerGas + 1n },
    { number: 2n },
    { requestsHash: undefined },
  ]) {
    assert.equal(await verdictOn(field(over)), "HEADER_DIFFERS");
  }
  assert.equal(await verdictOn(() => ({ blockHash: new Uint8Array(32) })), "BLOCK_HASH_DIFFERS");
  assert.equal(await verdictOn(() => ({ executionRequests: [new Uint8Array([1, 2])] })), "REQUESTS_DIFFER");
  assert.equal(await verdictOn(({ feesWei }) => ({ feesWei: feesWei + 1n })), "FEES_DIFFER");
  assert.equal(await verdictOn(() => ({ carry: [] })), "CARRY_DIFFERS");
});

test("a body that is damaged anywhere is refused, with a reason of the list", async () => {
  const { bodyBytes } = candidate;
  await fc.assert(
    fc.asyncProperty(fc.nat(bodyBytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, difference) => {
      const damaged = bodyBytes.slice();
      damaged[at] = (damaged[at] ?? 0) ^ difference;
      const verdict = await verifyCandidate(chain, inputs, damaged);
      assert.ok(!verdict.accepted, `byte ${at} may change`);
      assert.ok(REFUSALS.includes(verdict.reason));
    }),
    { numRuns: 150 },
  );
  for (const length of [0, 1, bodyBytes.length - 1]) {
    const verdict = await verifyCandidate(chain, inputs, bodyBytes.slice(0, length));
    assert.equal(verdict.accepted ? "accepted" : verdict.reason, "BODY_MALFORMED");
  }
});

test("a member that does not have the parent says so instead of refusing", async () => {
  const parentHash = new Uint8Array(32).fill(7);
  const attributes = { ...inputs.attributes, parentHash };
  const body = encode(CANDIDATE_BODY, { ...candidate.body, attributes });
  await assert.rejects(
    verifyCandidate(chain, { ...inputs, attributes }, body),
    (error) => error instanceof ChainError && error.reason === "UNKNOWN_PARENT",
  );
});

test("a candidate that was verified is taken over without being executed again", async () => {
  const other = await devnet();
  await verifyCandidate(other, inputs, candidate.bodyBytes);
  const execution = await (await devnet()).begin(inputs.attributes);
  for (const { raw } of candidate.body.entries) {
    const decoding = execution.decoder.decode(raw);
    assert.ok("transaction" in decoding);
    await execution.run(decoding.transaction);
  }
  const { rlp } = await execution.seal();
  const info = await other.importBlock(rlp);
  assert.equal(toHex(info.hash), toHex(candidate.body.blockHash));
  await other.setHead(info.hash);
  assert.equal(other.head().number, 1n);
});
