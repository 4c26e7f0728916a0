/** State, commands and facts of offer as canonical bytes. */
import {
  bool,
  bytes,
  type Codec,
  count,
  fixed,
  hex,
  list,
  literal,
  map,
  oneOf,
  optional,
  struct,
  u64,
  u256,
  union,
} from "@lattice/organism/codec/codec.ts";
import { AUCTION, type AuctionCommitment } from "@lattice/organism/outcomes/offer.ts";
import { BID_CONTEXT, type BidContext } from "./bid.ts";
import { BUNDLE_BYTES_MAX, bundleLayerBytes, VALUE_LAYER_BYTES } from "./layers.ts";
import { ACCOUNTS_MAX, BID_COUNT_CEILING, DEBTS_MAX, SEARCHERS_PER_ACCOUNT, STANDINGS_MAX } from "./limits.ts";
import { CANCEL, REGISTRATION } from "./requests.ts";
import type { AccountState, Command, Debt, EscrowQuery, LiveBid, SlotState, State, Verdict } from "./types.ts";

/** A member's share sealed to at most 16 members (`crypto/box.ts`). */
export const SHARE_BOX_BYTES_MAX = 4096;

const LIVE_BID = struct<{ [K in keyof LiveBid]: LiveBid[K] }>({
  id: fixed(32),
  context: BID_CONTEXT as Codec<BidContext>,
  escrowAccount: fixed(20),
  capWei: u256,
  replacement: struct({ id: fixed(16), nonce: u64 }),
  valueLayer: fixed(VALUE_LAYER_BYTES),
  bundleLayer: bytes(bundleLayerBytes(BUNDLE_BYTES_MAX)),
});

const STANDING = struct({
  searcher: fixed(20),
  standing: oneOf("live", "withdrawn", "won", "lost", "void", "unanswered"),
});
const BOXES = map(count, bytes(SHARE_BOX_BYTES_MAX), 16);

const SLOT_STATE: Codec<SlotState> = struct<{ [K in keyof SlotState]: SlotState[K] }>({
  bids: map(hex(32), LIVE_BID, BID_COUNT_CEILING),
  standings: map(hex(32), STANDING, STANDINGS_MAX),
  nonces: map(hex(20), list(u64, STANDINGS_MAX), STANDINGS_MAX),
  blindClosed: bool,
  blindIds: list(fixed(32), BID_COUNT_CEILING),
  phase: oneOf("bidding", "closed", "opening", "reopened", "done"),
  contestants: list(fixed(32), BID_COUNT_CEILING),
  slotShares: BOXES,
  opened: list(fixed(32), 128),
  bundleShares: map(hex(32), BOXES, 128),
});

const ACCOUNT: Codec<AccountState> = struct<{ [K in keyof AccountState]: AccountState[K] }>({
  searchers: map(hex(20), u64, SEARCHERS_PER_ACCOUNT),
  sinceSlot: u64,
});
const QUERY = struct({
  slot: u64,
  accounts: list(fixed(20), ACCOUNTS_MAX),
  charges: list(fixed(32), DEBTS_MAX),
});
const DEBT = struct<{ [K in keyof Debt]: Debt[K] }>({ account: fixed(20), wei: u256, slot: u64 });

const VERSIONED_STATE = struct({
  version: literal(1),
  slots: map(u64, SLOT_STATE, 100_000),
  accounts: map(hex(20), ACCOUNT, ACCOUNTS_MAX),
  escrow: map(hex(20), u256, ACCOUNTS_MAX),
  escrowSlot: u64,
  query: optional(QUERY as Codec<EscrowQuery>),
  debts: map(hex(32), DEBT, DEBTS_MAX),
});

export const STATE: Codec<State> = {
  write: (writer, state) => VERSIONED_STATE.write(writer, { version: 1, ...state }),
  read(reader) {
    const { version: _, ...state } = VERSIONED_STATE.read(reader);
    return state;
  },
};

/** Whatever a bid's size, it is judged by `parseBid`; here it only has a bound. */
const BID_BYTES_CEILING = BUNDLE_BYTES_MAX + 16_384;

export const COMMAND = union({
  bid: struct({ bid: bytes(BID_BYTES_CEILING) }),
  cancel: struct({ cancel: CANCEL }),
  register: struct({ registration: REGISTRATION }),
  slotShare: struct({ slot: u64, box: bytes(SHARE_BOX_BYTES_MAX) }),
  bundleShare: struct({ slot: u64, bidId: fixed(32), box: bytes(SHARE_BOX_BYTES_MAX) }),
}) as Codec<Command>;

/** The fact of topics `ranked`, `checked` and `rechecked`. Losing amounts are not in it. */
export const VERDICT = union({
  open: struct({ bidIds: list(fixed(32), 64) }),
  final: struct({ auction: AUCTION as Codec<AuctionCommitment>, bodyHash: optional(fixed(32)) }),
}) as Codec<Verdict>;

/** The fact of topic `escrow`: an answer to the query that the state holds. */
export const ESCROW_FACT = struct({
  version: literal(1),
  /** Wei per account, in the query's order. */
  wei: list(u256, ACCOUNTS_MAX),
  /** Of the query's charges, those that the contract has taken. */
  taken: list(fixed(32), DEBTS_MAX),
});
