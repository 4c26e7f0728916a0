/**
 * Reads of a raw Ethereum transaction just what a sender may disclose: hash, recipient, selector.
 *
 * Types: legacy (yellow paper, appendix B), 1 (EIP-2930), 2 (EIP-1559), 4 (EIP-7702). Strict RLP: non-minimal lengths
 * and trailing bytes are refused, so what is disclosed is what a client would execute. No signature is checked: that
 * is atelier's business.
 */
import { keccak_256 } from "@noble/hashes/sha3.js";

export interface TransactionFacts {
  /** keccak-256 of the raw bytes, 32 bytes. */
  readonly hash: Uint8Array;
  /** Recipient, 20 bytes; absent when a contract is created or the bytes are not a transaction. */
  readonly to: Uint8Array | undefined;
  /** The first four bytes of call data, when there is a recipient and there are four. */
  readonly selector: Uint8Array | undefined;
}

interface Layout {
  readonly fields: number;
  readonly to: number;
  readonly data: number;
}
const LEGACY: Layout = { fields: 9, to: 3, data: 5 };
const TYPED: ReadonlyMap<number, Layout> = new Map([
  [0x01, { fields: 11, to: 4, data: 6 }],
  [0x02, { fields: 12, to: 5, data: 7 }],
  [0x04, { fields: 13, to: 5, data: 7 }],
]);
const LEGACY_FROM = 0xc0;

/** Total: bytes that are no transaction have a hash and nothing else. */
export function transactionFacts(raw: Uint8Array): TransactionFacts {
  const hash = keccak_256(raw);
  const none = { hash, to: undefined, selector: undefined };
  const first = raw[0];
  if (first === undefined) return none;
  const layout = first >= LEGACY_FROM ? LEGACY : TYPED.get(first);
  if (layout === undefined) return none;
  const fields = listFields(first >= LEGACY_FROM ? raw : raw.subarray(1));
  if (fields === undefined || fields.length !== layout.fields) return none;
  const to = fields[layout.to];
  const data = fields[layout.data];
  if (to === undefined || to.isList || to.payload.length !== 20 || data === undefined || data.isList) return none;
  return {
    hash,
    to: to.payload.slice(),
    selector: data.payload.length >= 4 ? data.payload.slice(0, 4) : undefined,
  };
}

interface Item {
  readonly isList: boolean;
  readonly payload: Uint8Array;
  /** Bytes of prefix and payload. */
  readonly size: number;
}

/** The items of one RLP list that spans `bytes` exactly, one level deep; undefined when it is not canonical. */
function listFields(bytes: Uint8Array): readonly Item[] | undefined {
  const outer = readItem(bytes);
  if (outer === undefined || !outer.isList || outer.size !== bytes.length) return undefined;
  const items: Item[] = [];
  for (let at = 0; at < outer.payload.length; ) {
    const item = readItem(outer.payload.subarray(at));
    if (item === undefined) return undefined;
    items.push(item);
    at += item.size;
  }
  return items;
}

function readItem(bytes: Uint8Array): Item | undefined {
  const first = bytes[0];
  if (first === undefined) return undefined;
  if (first < 0x80) return { isList: false, payload: bytes.subarray(0, 1), size: 1 };
  const isList = first >= 0xc0;
  const short = first - (isList ? 0xc0 : 0x80);
  let start = 1;
  let length = short;
  if (short > 55) {
    const lengthBytes = short - 55;
    start += lengthBytes;
    if (lengthBytes > 4 || bytes.length < start || bytes[1] === 0) return undefined;
    length = 0;
    for (const byte of bytes.subarray(1, start)) length = length * 256 + byte;
    if (length <= 55) return undefined;
  }
  if (bytes.length < start + length) return undefined;
  const payload = bytes.subarray(start, start + length);
  if (!isList && short === 1 && (payload[0] ?? 0) < 0x80) return undefined;
  return { isList, payload, size: start + length };
}
