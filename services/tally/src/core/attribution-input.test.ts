import assert from "node:assert/strict";
import test from "node:test";
import type { OrderRow } from "@lattice/organism/outcomes/atelier.ts";
import type { AuctionCommitment, Winner } from "@lattice/organism/outcomes/offer.ts";
import { AttributionError, attribute } from "./attribution.ts";
import { attributionInput, type LandedSlot } from "./attribution-input.ts";

const word = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);
const address = (byte: number): Uint8Array => new Uint8Array(20).fill(byte);
const messageId = new Uint8Array(16).fill(1);

const winner = (byte: number, over: Partial<Winner> = {}): Winner => ({
  bidId: word(byte),
  paymentId: word(byte),
  class: "seen",
  searcher: address(byte),
  escrowAccount: address(byte + 1),
  amountWei: 1000n,
  clearingWei: 1000n,
  references: [messageId],
  bundleCommitment: word(0),
  ...over,
});
const row = (byte: number, over: Partial<OrderRow> = {}): OrderRow => ({
  bidId: word(byte),
  class: "seen",
  status: "landed",
  reason: undefined,
  searcher: address(byte),
  escrowAccount: address(byte + 1),
  references: [messageId],
  paymentWei: 1000n,
  valueWei: 1000n,
  gasUsed: 21_000n,
  ...over,
});
const auction = (...winners: Winner[]): Pick<AuctionCommitment, "winners" | "rivals" | "voids"> => ({
  winners,
  rivals: [{ messageId, highestOtherWei: 400n }],
  voids: [{ bidId: word(0xf0), account: address(0xf1), chargeWei: 70n, reason: "commitment-mismatch" }],
});
const slot = (table: OrderRow[], over: Partial<LandedSlot> = {}): LandedSlot => ({
  slot: 3n,
  blockHash: word(0xbb),
  table,
  auction: auction(...table.map((entry) => winner(entry.bidId[0] ?? 0, { class: entry.class }))),
  messages: [{ messageId, txHash: word(1), refundTo: address(1), authorised: false }],
  ...over,
});

test("a landed seen bundle refunds its message; void winners of the auction are charged", () => {
  const result = attribute(attributionInput(slot([row(0xa0)])));
  assert.deepEqual(
    result.shares.map((share) => [share.kind, share.recipient, share.wei]),
    [["order-flow-provider", address(1), 600n]],
  );
  assert.deepEqual(result.charges, [{ bidId: word(0xf0), account: address(0xf1), wei: 70n }]);
});

test("what failed or is void pays from escrow and refunds nobody, whatever it referenced; dropped costs nothing", () => {
  const table = [
    row(0xa0, { class: "blind", status: "failed", references: [], paymentWei: 0n }),
    row(0xb0, { class: "blind", status: "void", reason: "reference-not-allowed", paymentWei: 0n, valueWei: 30n }),
    row(0xc0, { status: "void", reason: "unknown-reference", references: [new Uint8Array(16)], paymentWei: 0n }),
    row(0xd0, { status: "dropped", reason: "no-room", paymentWei: 0n, valueWei: 0n }),
  ];
  const result = attribute(attributionInput(slot(table)));
  assert.deepEqual(result.shares, []);
  assert.deepEqual(
    result.charges.map((charge) => [charge.bidId[0], charge.account[0], charge.wei]),
    [
      [0xa0, 0xa1, 1000n],
      [0xb0, 0xb1, 30n],
      [0xc0, 0xc1, 1000n],
      [0xf0, 0xf1, 70n],
    ],
  );
});

test("a table that the auction does not know is refused", () => {
  const foreign = slot([row(0xa0)], { auction: auction(winner(0xa1)) });
  assert.throws(
    () => attributionInput(foreign),
    (error) => error instanceof AttributionError && error.reason === "MISSING_WINNER",
  );
});
