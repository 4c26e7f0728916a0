/** Messages, bundles and inputs of one slot, for tests. */
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import type { BuildInputs } from "../src/core/inputs.ts";
import type { BundleItem, PoolMessage, WinningBundle } from "../src/core/order.ts";
import type { ChainState } from "../src/evm/chain-state.ts";
import { attributesOn, SETTLEMENT, type Wallet } from "./devnet.ts";

export const SLOT = 7n;

/** Message `index` of the slot, in unseal order. */
export function message(
  index: number,
  rawTransaction: Uint8Array,
  slot = SLOT,
  refund?: PoolMessage["refund"],
): PoolMessage {
  const messageId = blake3(new TextEncoder().encode(`${slot}/${index}`)).slice(0, 16);
  return { messageId, slot, unsealIndex: index, rawTransaction, refund };
}

export function bidId(index: number): Uint8Array {
  return blake3(new TextEncoder().encode(`bid ${index}`));
}

/** What the bundle of bid `index` names when it pays. */
export function paymentId(index: number): Uint8Array {
  return blake3(new TextEncoder().encode(`payment ${index}`));
}

export interface BundleFields {
  readonly index: number;
  readonly class: WinningBundle["class"];
  readonly searcher: Wallet;
  /** Raw transactions and references, in order. */
  readonly items: readonly (Uint8Array | PoolMessage)[];
  readonly amountWei?: bigint;
  readonly mayRevert?: readonly Uint8Array[];
}

export function bundle(fields: BundleFields): WinningBundle {
  const items = fields.items.map(
    (item): BundleItem =>
      item instanceof Uint8Array
        ? { type: "transaction", raw: item }
        : { type: "reference", messageId: item.messageId },
  );
  const amountWei = fields.amountWei ?? 1000n;
  return {
    bidId: bidId(fields.index),
    paymentId: paymentId(fields.index),
    class: fields.class,
    searcher: fields.searcher.address,
    escrowAccount: fields.searcher.address,
    amountWei,
    clearingWei: amountWei,
    references: items.flatMap((item) => (item.type === "reference" ? [item.messageId] : [])),
    items,
    mayRevert: fields.mayRevert ?? [],
  };
}

export function inputsOn(chain: ChainState, over: Partial<BuildInputs> = {}): BuildInputs {
  return {
    slot: SLOT,
    candidateVersion: 0,
    attributes: attributesOn(chain),
    rules: { blindGasBps: 2000, carrySlots: 4n, settlement: SETTLEMENT },
    unsealed: blake3(new TextEncoder().encode("unsealed")),
    carried: [],
    pool: [],
    bundles: [],
    ...over,
  };
}
