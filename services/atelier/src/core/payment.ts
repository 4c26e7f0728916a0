/** What a bundle paid: read from what the settlement contract itself logged while the bundle was executed. */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";

/** A log as execution returns it: emitter 20 bytes, topics 32 bytes each. */
export interface ExecutionLog {
  readonly address: Uint8Array;
  readonly topics: readonly Uint8Array[];
  readonly data: Uint8Array;
}

const BID_PAID = keccak256(new TextEncoder().encode("BidPaid(uint64,bytes32,address,uint256)"));

/**
 * Sum of `BidPaid(slot, paymentId, payer, amount)` from the settlement contract. A plain transfer or a deposit is not a
 * bid's payment, and nobody but the contract can log under its address.
 */
export function bidPaymentWei(
  logs: readonly ExecutionLog[],
  bid: { readonly settlement: Uint8Array; readonly slot: bigint; readonly paymentId: Uint8Array },
): bigint {
  const slotTopic = bid.slot.toString(16).padStart(64, "0");
  let total = 0n;
  for (const log of logs) {
    const [event, slot, paymentId] = log.topics;
    if (event === undefined || slot === undefined || paymentId === undefined || log.data.length !== 32) continue;
    if (!equalBytes(log.address, bid.settlement) || !equalBytes(event, BID_PAID)) continue;
    if (toHex(slot) !== slotTopic || !equalBytes(paymentId, bid.paymentId)) continue;
    total += BigInt(`0x${toHex(log.data)}`);
  }
  return total;
}
