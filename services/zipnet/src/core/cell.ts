/**
 * Cells: one anonymous message each, in a vector that looks like noise until all pads are gone.
 *
 * `sealed payload ‖ message id ‖ receipt key ‖ token ‖ zeros ‖ falsification tag`, always `cellBytes` long, so the
 * cell hides the message's length. The tag is keyed by nothing secret: it tells a cell that one client wrote from one
 * that two wrote, or that somebody jammed. It never travels beside a client id.
 */
import {
  bytes,
  CodecError,
  count,
  encode,
  equalBytes,
  fixed,
  type Infer,
  list,
  literal,
  Reader,
  struct,
  u64,
} from "@lattice/organism/codec/codec.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { type BroadcastMessage, MESSAGE_ID_BYTES, SEALED_BYTES_MAX } from "@lattice/organism/outcomes/zipnet.ts";
import type { VectorShape } from "./pads.ts";

/** Length of the falsification tag. */
export const TAG_BYTES = 16;
/** Longest token (protocols.md §1, "Cell content"); tokens themselves come with a later version. */
export const TOKEN_BYTES_MAX = 512;

const CONTENT = struct({
  version: literal(1),
  sealed: bytes(SEALED_BYTES_MAX),
  /** Random, in clear: what the sender looks for in the broadcast. */
  messageId: fixed(MESSAGE_ID_BYTES),
  receiptKey: fixed(32),
  token: bytes(TOKEN_BYTES_MAX),
});
type CellContent = Infer<typeof CONTENT>;

/** What a client puts into a cell. */
export type OutgoingMessage = Omit<CellContent, "version">;

const TAGGED = struct({ headerDigest: fixed(32), cell: count, content: bytes(SEALED_BYTES_MAX + 4096) });

function falsificationTag(headerDigest: Uint8Array, cell: number, content: Uint8Array): Uint8Array {
  return hash("lattice/zipnet/cell/v1", TAGGED, { headerDigest, cell, content }).subarray(0, TAG_BYTES);
}

/** Bytes of a cell that are not payload: version, length, message id, receipt key, length, tag. */
const OVERHEAD_BYTES = 1 + 4 + MESSAGE_ID_BYTES + 32 + 4 + TAG_BYTES;

/** The longest sealed payload that fits a cell beside a token of `tokenBytes`. Negative when none does. */
export function sealedBytesMax(cellBytes: number, tokenBytes = 0): number {
  return Math.min(cellBytes - OVERHEAD_BYTES - tokenBytes, SEALED_BYTES_MAX);
}

/** One cell. @throws CodecError when the message does not fit */
export function encodeCell(
  shape: Pick<VectorShape, "cellBytes">,
  headerDigest: Uint8Array,
  cell: number,
  message: OutgoingMessage,
): Uint8Array {
  const limit = sealedBytesMax(shape.cellBytes, message.token.length);
  if (message.sealed.length > limit) throw new CodecError("sealed", `${message.sealed.length} bytes, at most ${limit}`);
  const out = new Uint8Array(shape.cellBytes);
  out.set(encode(CONTENT, { version: 1, ...message }));
  const content = out.subarray(0, shape.cellBytes - TAG_BYTES);
  out.set(falsificationTag(headerDigest, cell, content), content.length);
  return out;
}

/** What came out of a cell: a message, nothing, or what two writers or a jammer left. */
export type ReadCell = OutgoingMessage | "empty" | "noise";

const isZero = (value: Uint8Array): boolean => value.every((byte) => byte === 0);

/** Reads one cell. Total. */
export function readCell(headerDigest: Uint8Array, cell: number, raw: Uint8Array): ReadCell {
  if (isZero(raw)) return "empty";
  if (raw.length < OVERHEAD_BYTES) return "noise";
  const content = raw.subarray(0, raw.length - TAG_BYTES);
  if (!equalBytes(falsificationTag(headerDigest, cell, content), raw.subarray(content.length))) return "noise";
  const reader = new Reader(content);
  try {
    const { sealed, messageId, receiptKey, token } = CONTENT.read(reader);
    if (!isZero(content.subarray(content.length - reader.remaining))) return "noise";
    return { sealed, messageId, receiptKey, token };
  } catch (error) {
    if (error instanceof CodecError) return "noise";
    throw error;
  }
}

/** All messages of an unblinded vector, by ascending cell, and how many cells held noise. */
export function readVector(
  { cells, cellBytes }: Pick<VectorShape, "cells" | "cellBytes">,
  headerDigest: Uint8Array,
  vector: Uint8Array,
): { readonly messages: BroadcastMessage[]; readonly noise: number } {
  const messages: BroadcastMessage[] = [];
  let noise = 0;
  for (let cell = 0; cell < cells; cell++) {
    const read = readCell(headerDigest, cell, vector.subarray(cell * cellBytes, (cell + 1) * cellBytes));
    if (read === "noise") noise++;
    else if (read !== "empty") messages.push({ cell, ...read });
  }
  return { messages, noise };
}

const ONE_SHOT = struct({ rho: u64, roundKeys: list(fixed(32), 16) });

/**
 * One-shot mode: the cell a client writes into. Keyed by its round keys towards *all* servers, so that it can be
 * foreseen only by all of them together; two of N clients meet with probability about N / cells.
 */
export function oneShotCell(cells: number, rho: bigint, roundKeys: readonly Uint8Array[]): number {
  const digest = hash("lattice/zipnet/one-shot/v1", ONE_SHOT, { rho, roundKeys: [...roundKeys] });
  return Number(new DataView(digest.buffer, digest.byteOffset).getBigUint64(0) % BigInt(cells));
}
