import assert from "node:assert/strict";
import { test } from "node:test";
import { CodecError, encode } from "@lattice/organism/codec/codec.ts";
import { AUCTION, AUCTION_BODY, BUNDLE } from "@lattice/organism/outcomes/offer.ts";
import { contentHash, MESSAGE_CONTENT, UNSEALED, UNSEALED_BODY } from "@lattice/organism/outcomes/unseal.ts";
import { BodyMismatch, poolMessages, winningBundles } from "./inputs.ts";

const id = (byte: number): Uint8Array => new Uint8Array(16).fill(byte);
const word = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const NOTHING = { hash: undefined, to: undefined, selector: undefined, rawTransaction: undefined };

function opened(byte: number) {
  const content = encode(MESSAGE_CONTENT, {
    version: 1,
    rawTransaction: new Uint8Array([byte]),
    refund: undefined,
    disclosure: { hash: false, target: false, everything: false },
  });
  return { messageId: id(byte), content };
}

function unsealed(bytes: readonly number[]): Uint8Array {
  const messages = bytes.map(opened).map(({ messageId, content }) => ({
    messageId,
    contentHash: contentHash(messageId, content),
    disclosed: NOTHING,
  }));
  return encode(UNSEALED, { version: 1, broadcast: word(1), blind: word(2), messages, failures: [] });
}

test("an unsealed round gives its messages in unseal order", () => {
  const messages = poolMessages(9n, unsealed([3, 1]), encode(UNSEALED_BODY, [opened(3), opened(1)]));
  assert.deepEqual(
    messages.map(({ messageId, slot, unsealIndex, rawTransaction }) => [
      messageId[0],
      slot,
      unsealIndex,
      rawTransaction[0],
    ]),
    [
      [3, 9n, 0, 3],
      [1, 9n, 1, 1],
    ],
  );
});

test("a message's refund authorisation goes with it", () => {
  const refund = { recipient: new Uint8Array(20).fill(7), signature: new Uint8Array(65).fill(8) };
  const disclosure = { hash: false, target: false, everything: false };
  const content = encode(MESSAGE_CONTENT, { version: 1, rawTransaction: new Uint8Array([1]), refund, disclosure });
  const messages = [{ messageId: id(3), contentHash: contentHash(id(3), content), disclosed: NOTHING }];
  const commitment = encode(UNSEALED, { version: 1, broadcast: word(1), blind: undefined, messages, failures: [] });
  const [first] = poolMessages(9n, commitment, encode(UNSEALED_BODY, [{ messageId: id(3), content }]));
  assert.deepEqual(first?.refund, refund);
});

test("a body of other messages, another order, another content or no encoding at all is refused", () => {
  const commitment = unsealed([3, 1]);
  const swapped = { ...opened(3), content: opened(1).content };
  for (const body of [[opened(3)], [opened(1), opened(3)], [swapped, opened(1)]]) {
    assert.throws(() => poolMessages(9n, commitment, encode(UNSEALED_BODY, body)), BodyMismatch);
  }
  assert.throws(() => poolMessages(9n, commitment, new Uint8Array([1])), CodecError);
});

const winner = {
  bidId: word(5),
  paymentId: word(4),
  class: "blind",
  searcher: new Uint8Array(20).fill(1),
  escrowAccount: new Uint8Array(20).fill(2),
  amountWei: 10n,
  clearingWei: 10n,
  references: [],
  bundleCommitment: word(6),
} as const;

function auction(blind: Uint8Array | undefined): Uint8Array {
  const counts = { blindBids: 1, seenBids: 0, rivals: [], voids: [] };
  return encode(AUCTION, {
    version: 1,
    rule: "first-price",
    blind,
    winners: [{ ...winner, references: [] }],
    ...counts,
  });
}

const sealed = encode(BUNDLE, {
  version: 1,
  items: [{ type: "transaction", raw: new Uint8Array([7]) }],
  mayRevert: [],
  refundRecipient: undefined,
});
const body = encode(AUCTION_BODY, [{ bidId: winner.bidId, bundle: sealed }]);

test("a blind winner is admitted from the set that the freeze named", () => {
  const [bundle] = winningBundles(auction(word(2)), body, word(2));
  assert.equal(bundle?.problem, undefined);
  assert.deepEqual(bundle?.items, [{ type: "transaction", raw: new Uint8Array([7]) }]);
});

test("from another set, or after NoBlind, it is not", () => {
  for (const [blind, frozen] of [
    [word(2), word(3)],
    [word(2), undefined],
    [undefined, word(2)],
    [undefined, undefined],
  ]) {
    assert.equal(winningBundles(auction(blind), body, frozen)[0]?.problem, "not-in-blind-set");
  }
});

test("a bundle that does not decode is carried as malformed, a missing one refuses the body", () => {
  const broken = encode(AUCTION_BODY, [{ bidId: winner.bidId, bundle: new Uint8Array([1, 2]) }]);
  assert.equal(winningBundles(auction(word(2)), broken, word(2))[0]?.problem, "malformed");
  assert.throws(() => winningBundles(auction(word(2)), encode(AUCTION_BODY, []), word(2)), BodyMismatch);
});
