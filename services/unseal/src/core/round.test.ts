/** How a slot's round is put together from what opened. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { compareBytes, decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import { COMMITMENT_BYTES_MAX } from "@lattice/organism/committee/outcome.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import {
  contentHash,
  type DisclosurePolicy,
  MESSAGE_CONTENT,
  RAW_TRANSACTION_BYTES_MAX,
  UNSEALED,
  UNSEALED_BODY,
} from "@lattice/organism/outcomes/unseal.ts";
import type { BroadcastMessage } from "@lattice/organism/outcomes/zipnet.ts";
import { random } from "../../test/lattice.ts";
import { assembleRound, distinctMessages, type OpenedMessage, orderKey } from "./round.ts";
import { transactionFacts } from "./transaction.ts";

const FREEZE = { broadcast: random(32), blind: random(32) };
const SLOT_KEY = random(96);
const NOTHING: DisclosurePolicy = { hash: false, target: false, everything: false };

const messageAt = (cell: number, messageId = random(16), sealed = random(120)): BroadcastMessage => ({
  cell,
  messageId,
  receiptKey: random(32),
  token: new Uint8Array(),
  sealed,
});
const contentOf = (rawTransaction: Uint8Array, disclosure = NOTHING): Uint8Array =>
  encode(MESSAGE_CONTENT, { version: 1, rawTransaction, refund: undefined, disclosure });
const assemble = (opened: readonly OpenedMessage[], repeats: readonly BroadcastMessage[] = []) =>
  assembleRound(FREEZE, SLOT_KEY, opened, repeats);
/** A legacy transaction to 0xabab… with selector 01020304. */
const RAW = Uint8Array.from(Buffer.from(`e1010101${`94${"ab".repeat(20)}`}01${"8401020304"}1b0101`, "hex"));

describe("distinctMessages", () => {
  test("the lowest cell of each (message id, U) counts", () => {
    const first = messageAt(4);
    const copy = { ...first, cell: 9, receiptKey: random(32) };
    const otherTail = { ...first, cell: 10, sealed: Uint8Array.of(...first.sealed.subarray(0, 49), ...random(60)) };
    const otherId = messageAt(1, random(16), first.sealed);
    const otherHead = messageAt(2, first.messageId);
    const { messages, repeats } = distinctMessages([copy, first, otherTail, otherHead, otherId]);
    assert.deepEqual(messages, [otherId, otherHead, first]);
    assert.deepEqual(repeats, [copy, otherTail]);
  });
});

describe("assembleRound", () => {
  test("messages stand by H(slot key, id), body and commitment alike", () => {
    const opened = Array.from({ length: 20 }, (_, cell) => ({
      message: messageAt(cell),
      content: contentOf(random(40)),
    }));
    const { commitment, body, fact } = assemble(opened);
    assert.deepEqual(decode(UNSEALED, fact.commitment), commitment);
    assert.ok(body !== undefined);
    assert.deepEqual(fact.bodyHash, blake3(body));
    const ids = commitment.messages.map(({ messageId }) => messageId);
    const sorted = [...ids].sort((a, b) => compareBytes(orderKey(SLOT_KEY, a), orderKey(SLOT_KEY, b)));
    assert.deepEqual(ids, sorted);
    const contents = decode(UNSEALED_BODY, body);
    assert.deepEqual(
      contents.map(({ messageId }) => messageId),
      ids,
    );
    for (const [index, { messageId, content }] of contents.entries()) {
      assert.deepEqual(commitment.messages[index]?.contentHash, contentHash(messageId, content));
    }
    assert.deepEqual(assemble([...opened].reverse()).fact, fact, "the order of opening does not matter");
  });

  test("failures say why", () => {
    const [malformed, garbage, large, good, twin] = [0, 1, 2, 3, 4].map((cell) => messageAt(cell));
    assert.ok(malformed && garbage && large && good && twin);
    const sameId = { ...twin, messageId: good.messageId };
    const repeat = messageAt(5);
    const { commitment } = assemble(
      [
        { message: malformed, content: undefined },
        { message: garbage, content: random(60) },
        { message: large, content: new Uint8Array(RAW_TRANSACTION_BYTES_MAX + 513) },
        { message: good, content: contentOf(RAW) },
        { message: sameId, content: contentOf(RAW) },
      ],
      [repeat],
    );
    assert.deepEqual(
      commitment.messages.map(({ messageId }) => messageId),
      [good.messageId],
    );
    assert.deepEqual(commitment.failures, [
      { messageId: malformed.messageId, reason: "malformed" },
      { messageId: garbage.messageId, reason: "not-content" },
      { messageId: large.messageId, reason: "too-large" },
      { messageId: good.messageId, reason: "duplicate" },
      { messageId: repeat.messageId, reason: "duplicate" },
    ]);
  });

  test("nothing opened: no body", () => {
    const { commitment, body, fact } = assemble([{ message: messageAt(0), content: undefined }]);
    assert.deepEqual([body, fact.bodyHash, commitment.messages.length], [undefined, undefined, 0]);
  });

  test("exactly what the sender allows is disclosed", () => {
    const { hash, to, selector } = transactionFacts(RAW);
    assert.ok(to !== undefined && selector !== undefined);
    const disclosed = (disclosure: DisclosurePolicy) =>
      assemble([{ message: messageAt(0), content: contentOf(RAW, disclosure) }]).commitment.messages[0]?.disclosed;
    const nothing = { hash: undefined, to: undefined, selector: undefined, rawTransaction: undefined };
    assert.deepEqual(disclosed(NOTHING), nothing);
    assert.deepEqual(disclosed({ ...NOTHING, hash: true }), { ...nothing, hash });
    assert.deepEqual(disclosed({ ...NOTHING, target: true }), { ...nothing, to, selector });
    assert.deepEqual(disclosed({ ...NOTHING, everything: true }), { hash, to, selector, rawTransaction: RAW });
  });

  test("a commitment never exceeds its limit: disclosures give way first, then messages", () => {
    const everything = { ...NOTHING, everything: true };
    const big = Array.from({ length: 4 }, (_, cell) => ({
      message: messageAt(cell),
      content: contentOf(random(100_000), everything),
    }));
    const { commitment, fact } = assemble(big);
    assert.ok(fact.commitment.length <= COMMITMENT_BYTES_MAX);
    assert.equal(commitment.messages.length, 4);
    assert.deepEqual(
      commitment.messages.map(({ disclosed }) => disclosed.rawTransaction !== undefined),
      [true, true, false, false],
    );
    assert.ok(commitment.messages.every(({ disclosed }) => disclosed.hash !== undefined));

    const content = contentOf(new Uint8Array(1));
    const many = Array.from({ length: 6000 }, (_, cell) => ({ message: messageAt(cell), content }));
    const crowded = assemble(
      many,
      Array.from({ length: 20_000 }, (_, cell) => messageAt(6000 + cell)),
    );
    assert.ok(crowded.fact.commitment.length <= COMMITMENT_BYTES_MAX - 1024);
    assert.ok(crowded.commitment.messages.length > 4000);
    const ids = new Set(crowded.commitment.messages.map(({ messageId }) => toHex(messageId)));
    assert.equal(ids.size, crowded.commitment.messages.length);
  });
});
