/** A certified snapshot as one file or object: u8 version ‖ u32 length ‖ CertifiedCheckpoint ‖ state. */
import { concat, encode, tryDecode } from "../codec/codec.ts";
import { CERTIFIED_CHECKPOINT, type CertifiedCheckpoint, type Checkpoint } from "../committee/checkpoint.ts";

const VERSION = 3;
const PREFIX_BYTES = 5;
const CERTIFICATE_BYTES_MAX = 4096;
/** What comes before the state is never longer. */
export const SNAPSHOT_HEAD_BYTES_MAX: number = PREFIX_BYTES + CERTIFICATE_BYTES_MAX;

export interface SnapshotHead {
  readonly certified: CertifiedCheckpoint;
  /** Where the state begins. */
  readonly stateAt: number;
}

/** Everything before the state. */
export function encodeSnapshotHead(certified: CertifiedCheckpoint): Uint8Array {
  const certificate = encode(CERTIFIED_CHECKPOINT, certified);
  const prefix = new Uint8Array(PREFIX_BYTES);
  const view = new DataView(prefix.buffer);
  view.setUint8(0, VERSION);
  view.setUint32(1, certificate.length);
  return concat(prefix, certificate);
}

/** @param bytes the beginning of the file, at least as long as the head. Not judged beyond its form */
export function decodeSnapshotHead(bytes: Uint8Array): SnapshotHead | undefined {
  if (bytes.length < PREFIX_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(1);
  if (view.getUint8(0) !== VERSION || length > CERTIFICATE_BYTES_MAX) return undefined;
  const stateAt = PREFIX_BYTES + length;
  const certified = tryDecode(CERTIFIED_CHECKPOINT, bytes.subarray(PREFIX_BYTES, stateAt));
  return certified === undefined ? undefined : { certified, stateAt };
}

/** Names sort as (generation, position) does. */
export function snapshotName({ generation, position }: Pick<Checkpoint, "generation" | "position">): string {
  return [generation, position].map((each) => each.toString().padStart(20, "0")).join(".");
}

export const SNAPSHOT_NAME: RegExp = /^\d{20}\.\d{20}$/;
