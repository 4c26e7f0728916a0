/**
 * A committee's log as a file: entries, and what is needed to judge them offline with the lattice config alone
 * (docs/protocol/log-export.md). `log-verify.ts` judges it; nothing in it is believed for standing there.
 *
 * File: the 16 ASCII bytes `lattice-log/1` and three zero bytes, then records: u32 length ‖ canonical LOG_RECORD.
 * Order: header, rosters, at most one start, entries, then outcomes, checkpoints and heads, then end.
 */
import {
  bytes,
  type Codec,
  CodecError,
  concat,
  count,
  decode,
  encode,
  equalBytes,
  fixed,
  type Infer,
  literal,
  oneOf,
  struct,
  u64,
  union,
} from "../codec/codec.ts";
import { LATTICE_CONFIG, type LatticeConfig } from "../identity/lattice-config.ts";
import { ORGANISMS } from "../identity/organisms.ts";
import { CERTIFIED_CHECKPOINT, type CertifiedCheckpoint, STATE_BYTES_MAX } from "./checkpoint.ts";
import { HEAD_STATEMENT, type HeadStatement } from "./heads.ts";
import { CERTIFIED, type CertifiedOutcome } from "./outcome.ts";

/** What a file begins with; another version begins otherwise. */
export const LOG_EXPORT_MAGIC: Uint8Array = new TextEncoder().encode("lattice-log/1\0\0\0");

/** The largest message that a log holds, with room for what a broker may have let in. */
export const LOG_MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

export const LOG_RECORD = union({
  /** Whose log it is. */
  header: struct({
    version: literal(1),
    config: LATTICE_CONFIG as Codec<LatticeConfig>,
    organism: oneOf(...ORGANISMS),
    generation: u64,
  }),
  /** A roster of the committee, oldest first; the first is the one that the log began with. */
  roster: struct({ certified: CERTIFIED as Codec<CertifiedOutcome> }),
  /** The certified state before the first entry; absent when the entries begin with position 1. */
  start: struct({
    certified: CERTIFIED_CHECKPOINT as Codec<CertifiedCheckpoint>,
    state: bytes(STATE_BYTES_MAX),
  }),
  /** One message of the log as it lay there, whatever it is. */
  entry: struct({ position: u64, raw: bytes(LOG_MESSAGE_BYTES_MAX) }),
  /** An outcome that members serve as certified. */
  outcome: struct({ certified: CERTIFIED as Codec<CertifiedOutcome> }),
  /** A checkpoint that members serve as certified. */
  checkpoint: struct({ certified: CERTIFIED_CHECKPOINT as Codec<CertifiedCheckpoint> }),
  /** What one member signed about the chain. */
  head: struct({ statement: HEAD_STATEMENT as Codec<HeadStatement>, signature: fixed(64) }),
  /** Nothing follows. `records` is how many came before. */
  end: struct({ position: u64, head: fixed(32), entries: u64, records: count }),
});
export type LogRecord = Infer<typeof LOG_RECORD>;

/** The largest record, and what surrounds it. */
export const LOG_RECORD_BYTES_MAX = STATE_BYTES_MAX + 64 * 1024;

const LENGTH_BYTES = 4;

/** One record as it stands in the file. */
export function frameRecord(record: LogRecord): Uint8Array {
  const payload = encode(LOG_RECORD, record);
  const framed = new Uint8Array(LENGTH_BYTES + payload.length);
  new DataView(framed.buffer).setUint32(0, payload.length);
  framed.set(payload, LENGTH_BYTES);
  return framed;
}

/** Takes a file in pieces of any size and gives its records. @throws CodecError for what is no export of this version */
export class LogRecordReader {
  #held: Uint8Array[] = [];
  #bytes = 0;
  #begun = false;
  #at = 0;

  *push(piece: Uint8Array): Generator<LogRecord, void, void> {
    this.#held.push(piece);
    this.#bytes += piece.length;
    if (!this.#begun) {
      const magic = this.#take(LOG_EXPORT_MAGIC.length);
      if (magic === undefined) return;
      if (!equalBytes(magic, LOG_EXPORT_MAGIC)) throw new CodecError("", "not an exported log of this version");
      this.#begun = true;
    }
    for (;;) {
      if (this.#bytes < LENGTH_BYTES) return;
      const head = this.#peek(LENGTH_BYTES);
      const length = new DataView(head.buffer, head.byteOffset).getUint32(0);
      if (length > LOG_RECORD_BYTES_MAX) throw new CodecError(`byte ${this.#at}`, `a record of ${length} bytes`);
      if (this.#bytes < LENGTH_BYTES + length) return;
      const at = this.#at;
      this.#take(LENGTH_BYTES);
      const payload = this.#take(length);
      if (payload === undefined) return;
      try {
        yield decode(LOG_RECORD, payload);
      } catch (error) {
        if (!(error instanceof CodecError)) throw error;
        throw new CodecError(`byte ${at}`, error.message);
      }
    }
  }

  /** True when the file ends where a record does. */
  get whole(): boolean {
    return this.#begun && this.#bytes === 0;
  }

  #peek(count: number): Uint8Array {
    const [first] = this.#held;
    if (first !== undefined && first.length >= count) return first.subarray(0, count);
    const joined = concat(...this.#held);
    this.#held = [joined];
    return joined.subarray(0, count);
  }

  #take(count: number): Uint8Array | undefined {
    if (this.#bytes < count) return undefined;
    const taken = this.#peek(count);
    const [first] = this.#held;
    if (first !== undefined) this.#held[0] = first.subarray(count);
    if (this.#held[0]?.length === 0) this.#held.shift();
    this.#bytes -= count;
    this.#at += count;
    return taken;
  }
}
