/**
 * What the sequencer decided, one JSON line per decision, fsynced before anybody is told. From it come, after a
 * restart, the head, the acknowledgements, and every block that the execution client may have lost.
 */
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import type { BlockInput, Hex } from "./execution-payload.ts";

/** A block that became the head. */
export interface StoredBlock {
  readonly parentHash: Hex;
  readonly block: BlockInput;
}

/** A slot's end. `block` is absent when the head stood still. */
export interface SlotRecord {
  readonly type: "slot";
  readonly slot: string;
  readonly chosen?: StoredBlock;
  /** Canonical bytes and signature. */
  readonly acknowledgement: Hex;
  readonly signature: Hex;
}

/** A reorg on demand: the block that took the place of an older one. */
export interface ReorgRecord {
  readonly type: "reorg";
  readonly chosen: StoredBlock;
}

export type StoreRecord = SlotRecord | ReorgRecord;

/** Where a record lies in the file. */
export interface RecordPosition {
  readonly offset: number;
  readonly length: number;
}

/** A line before the last is not a record: the file was damaged, not merely cut short. */
export class CorruptStore extends Error {
  override readonly name = "CorruptStore";
  constructor(file: string, line: number) {
    super(`${file}: line ${line} is not a record`);
  }
}

export class BlockStore {
  readonly #file: FileHandle;
  #size: number;
  /** One record after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.#size = size;
  }

  /**
   * Opens or makes the file and hands every record to `replay` in order. A last line without its end is what a crash
   * leaves of a decision that nobody was told about: it is cut off.
   * @throws CorruptStore
   */
  static async open(
    path: string,
    replay: (record: StoreRecord, position: RecordPosition) => void,
  ): Promise<BlockStore> {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(path, "a+", 0o600);
    try {
      const { size: total } = await file.stat();
      let offset = 0;
      let line = 0;
      const stream = file.createReadStream({ start: 0, autoClose: false, encoding: "utf8" });
      for await (const text of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
        line += 1;
        const length = Buffer.byteLength(text) + 1;
        if (offset + length > total) break;
        const record = parseRecord(text);
        if (record === undefined) throw new CorruptStore(path, line);
        replay(record, { offset, length });
        offset += length;
      }
      if (offset < total) await file.truncate(offset);
      await file.sync();
      return new BlockStore(file, offset);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Resolves when the record is on disk. One that fails was never there, nor is any behind it as long as the disk does not let go of it. */
  append(record: StoreRecord): Promise<RecordPosition> {
    const appended = this.#turn.then(() => this.#append(record));
    this.#turn = appended.catch(() => undefined);
    return appended;
  }

  async #append(record: StoreRecord): Promise<RecordPosition> {
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    // What is left of one that failed would make a line in the middle that is no record.
    const { size } = await this.#file.stat();
    if (size > this.#size) await this.#file.truncate(this.#size);
    await this.#file.appendFile(line);
    await this.#file.datasync();
    const position = { offset: this.#size, length: line.length };
    this.#size += line.length;
    return position;
  }

  async read({ offset, length }: RecordPosition): Promise<StoreRecord> {
    const { buffer, bytesRead } = await this.#file.read(Buffer.alloc(length), 0, length, offset);
    const record = bytesRead === length ? parseRecord(buffer.toString("utf8").trimEnd()) : undefined;
    if (record === undefined) throw new Error(`block store: no record at ${offset}`);
    return record;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function parseRecord(text: string): StoreRecord | undefined {
  try {
    const value = JSON.parse(text) as StoreRecord;
    return value.type === "slot" || value.type === "reorg" ? value : undefined;
  } catch {
    return undefined;
  }
}
