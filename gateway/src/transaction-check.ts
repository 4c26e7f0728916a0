/** What can be said of a raw transaction by itself: that it is one, in its only encoding, and who signed it. */
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import {
  parseTransaction,
  recoverTransactionAddress,
  serializeTransaction,
  type TransactionSerializable,
  type TransactionSerialized,
} from "viem";
import { gatewayFault } from "./faults.ts";

/** What the gateway needs to know of a transaction. */
export interface CheckedTransaction {
  /** 20 bytes. */
  readonly sender: Uint8Array;
  readonly nonce: bigint;
  /** Value and the most its gas may cost. */
  readonly neededWei: bigint;
}

/** Half of secp256k1's order: larger `s` are refused since EIP-2. */
const HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;
const NONCE_MAX = 2n ** 64n - 2n;

/** @throws Fault TRANSACTION_UNDECODABLE, TRANSACTION_TYPE, WRONG_CHAIN */
export async function checkTransaction(raw: Uint8Array, chainId: bigint): Promise<CheckedTransaction> {
  const type = raw[0] ?? 0;
  if (type === 3 || type === 4) throw gatewayFault("TRANSACTION_TYPE", `type ${type} is not carried`);
  const serialized = `0x${toHex(raw)}` as TransactionSerialized;
  let parsed: ReturnType<typeof parseTransaction>;
  let sender: string;
  try {
    parsed = parseTransaction(serialized);
    const { r, s, v, yParity, to } = parsed;
    // Parsed and serialized again, a recipient of two bytes is still one of two bytes.
    if (to !== undefined && to !== null && to.length !== 42) throw new RangeError("recipient");
    if (r === undefined || s === undefined || BigInt(s) > HALF_ORDER) throw new RangeError("signature");
    // No block may hold it (EIP-1559): atelier would only exclude it, round after round.
    if (parsed.type === "eip1559" && (parsed.maxPriorityFeePerGas ?? 0n) > (parsed.maxFeePerGas ?? 0n))
      throw new RangeError("fees");
    sender = await recoverTransactionAddress({ serializedTransaction: serialized });
    const signature = v === undefined ? { r, s, yParity: yParity ?? 0 } : { r, s, v };
    if (serializeTransaction(parsed as TransactionSerializable, signature) !== serialized)
      throw new RangeError("encoding");
  } catch {
    throw gatewayFault("TRANSACTION_UNDECODABLE");
  }
  if (parsed.chainId === undefined || BigInt(parsed.chainId) !== chainId) {
    throw gatewayFault("WRONG_CHAIN", `signed for chain ${parsed.chainId ?? "any"}, this is ${chainId}`, {
      chain_id: chainId.toString(),
    });
  }
  const nonce = BigInt(parsed.nonce ?? 0);
  if (nonce > NONCE_MAX) throw gatewayFault("TRANSACTION_UNDECODABLE");
  const gasPrice = parsed.maxFeePerGas ?? parsed.gasPrice ?? 0n;
  return { sender: fromHex(sender), nonce, neededWei: (parsed.value ?? 0n) + (parsed.gas ?? 0n) * gasPrice };
}
