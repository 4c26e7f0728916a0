/** Hash and sender of a raw signed transaction: legacy (EIP-155 and before) and the typed ones of EIP-2718 in block form. */
import { concat, equalBytes } from "@lattice/organism/codec/codec.ts";
import { keccak256, recoverAddress } from "@lattice/organism/crypto/secp256k1.ts";
import { fromRlp, toRlp } from "viem";

/** Fields of a typed transaction's list, the last three being yParity, r and s (EIP-2930, 1559, 4844, 7702). */
const TYPED_FIELDS: ReadonlyMap<number, number> = new Map([
  [1, 11],
  [2, 12],
  [3, 14],
  [4, 13],
]);
const LEGACY_FIELDS = 9;
const LIST_PREFIX = 0xc0;

export interface SentTransaction {
  /** keccak256 of the raw bytes, 32 bytes. */
  readonly hash: Uint8Array;
  /** 20 bytes. */
  readonly sender: Uint8Array;
}

/** Total: undefined for anything but one canonically encoded transaction with a valid signature. */
export function sentTransaction(raw: Uint8Array): SentTransaction | undefined {
  const type = raw[0];
  if (type === undefined) return undefined;
  const typed = type < LIST_PREFIX;
  const fields = rlpList(typed ? raw.subarray(1) : raw);
  if (fields?.length !== (typed ? TYPED_FIELDS.get(type) : LEGACY_FIELDS)) return undefined;
  const sender = fields === undefined ? undefined : typed ? typedSender(type, fields) : legacySender(fields);
  return sender === undefined ? undefined : { hash: keccak256(raw), sender };
}

type RlpItem = Uint8Array | readonly RlpItem[];

function rlpList(bytes: Uint8Array): readonly RlpItem[] | undefined {
  try {
    const item = fromRlp(bytes, "bytes") as RlpItem;
    // One transaction, one encoding: whatever else decodes to the same fields has another hash.
    return item instanceof Uint8Array || !equalBytes(rlp(item), bytes) ? undefined : item;
  } catch {
    return undefined;
  }
}

function rlp(item: readonly RlpItem[]): Uint8Array {
  return toRlp(item as Parameters<typeof toRlp>[0], "bytes");
}

function typedSender(type: number, fields: readonly RlpItem[]): Uint8Array | undefined {
  const [parity, r, s] = fields.slice(-3);
  const digest = keccak256(concat(Uint8Array.of(type), rlp(fields.slice(0, -3))));
  return recovered(digest, integer(parity), r, s);
}

/** EIP-155: v = 35 + 2 × chain id + parity and the chain id is signed; before it v = 27 + parity. */
function legacySender(fields: readonly RlpItem[]): Uint8Array | undefined {
  const [v, r, s] = fields.slice(-3);
  const value = integer(v);
  if (value === undefined) return undefined;
  const unsigned = fields.slice(0, -3);
  if (value === 27n || value === 28n) return recovered(keccak256(rlp(unsigned)), value - 27n, r, s);
  if (value < 35n) return undefined;
  const digest = keccak256(rlp([...unsigned, minimal((value - 35n) / 2n), new Uint8Array(), new Uint8Array()]));
  return recovered(digest, (value - 35n) % 2n, r, s);
}

function recovered(
  digest: Uint8Array,
  parity: bigint | undefined,
  r: RlpItem | undefined,
  s: RlpItem | undefined,
): Uint8Array | undefined {
  if (parity === undefined || parity > 1n) return undefined;
  if (!(r instanceof Uint8Array) || !(s instanceof Uint8Array) || r.length > 32 || s.length > 32) return undefined;
  const signature = new Uint8Array(65);
  signature.set(r, 32 - r.length);
  signature.set(s, 64 - s.length);
  signature[64] = 27 + Number(parity);
  return recoverAddress(digest, signature);
}

function integer(item: RlpItem | undefined): bigint | undefined {
  if (!(item instanceof Uint8Array) || item.length > 8 || item[0] === 0) return undefined;
  return item.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function minimal(value: bigint): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; rest > 0n; rest >>= 8n) bytes.unshift(Number(rest & 0xffn));
  return Uint8Array.from(bytes);
}
