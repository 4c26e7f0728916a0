/** The journal on disk: one append-only file, compacted at open and when trimmed promises outweigh living ones. */
import { rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { bytes, decode, encode, equalBytes, fixed, type Infer, struct, text, u64, union } from "../codec/codec.ts";
import { type Journal, PromiseConflict } from "../ports.ts";
import { AppendFile, syncDirectory } from "./append-file.ts";

const VALUE_BYTES_MAX = 32 * 1024 * 1024;
const COMPACT_FROM_BYTES = 64 * 1024 * 1024;

const RECORD = union({
  incarnation: struct({ incarnation: u64 }),
  promise: struct({ key: text(256), slot: u64, bytes: bytes(VALUE_BYTES_MAX) }),
  entry: struct({ id: fixed(32), raw: bytes(VALUE_BYTES_MAX) }),
  put: struct({ name: text(256), bytes: bytes(VALUE_BYTES_MAX) }),
  trim: struct({ below: u64 }),
});
type JournalRecord = Infer<typeof RECORD>;

export class FileJournal implements Journal {
  readonly #path: string;
  #file: AppendFile;
  #incarnation = 0n;
  #below = 0n;
  readonly #promises = new Map<string, { readonly slot: bigint; readonly bytes: Uint8Array }>();
  readonly #values = new Map<string, Uint8Array>();
  /** While the file is being replaced, writes wait: what they acknowledge must be in the file that stays. */
  #compacting: Promise<void> = Promise.resolve();

  private constructor(path: string, file: AppendFile) {
    this.#path = path;
    this.#file = file;
  }

  /** Opens `<directory>/journal`. @throws CorruptFile */
  static async open(directory: string): Promise<FileJournal> {
    const path = join(directory, "journal");
    const records: JournalRecord[] = [];
    const file = await AppendFile.open(path, (payload) => {
      const record = decode(RECORD, payload);
      if (record.type !== "entry") records.push(record);
    });
    const journal = new FileJournal(path, file);
    for (const record of records) journal.#remember(record);
    await journal.#compact();
    return journal;
  }

  #remember(record: JournalRecord): void {
    switch (record.type) {
      case "incarnation":
        this.#incarnation = record.incarnation;
        return;
      case "promise":
        this.#promises.set(record.key, { slot: record.slot, bytes: record.bytes });
        return;
      case "put":
        this.#values.set(record.name, record.bytes);
        return;
      case "trim":
        this.#below = record.below;
        for (const [key, { slot }] of this.#promises) if (slot < record.below) this.#promises.delete(key);
        return;
      case "entry":
        return;
    }
  }

  async #write(record: JournalRecord): Promise<void> {
    await this.#compacting;
    await this.#file.append(encode(RECORD, record));
  }

  async nextIncarnation(atLeast: bigint): Promise<bigint> {
    const next = this.#incarnation + 1n > atLeast ? this.#incarnation + 1n : atLeast;
    this.#incarnation = next;
    await this.#write({ type: "incarnation", incarnation: next });
    return next;
  }

  async promise(key: string, slot: bigint, value: Uint8Array): Promise<void> {
    const known = this.#promises.get(key);
    if (known !== undefined) {
      if (!equalBytes(known.bytes, value)) throw new PromiseConflict(key);
      return;
    }
    // Remembered before it is on disk: a second promise made meanwhile must meet the first.
    this.#promises.set(key, { slot, bytes: value });
    await this.#write({ type: "promise", key, slot, bytes: value });
  }

  promised(key: string): Uint8Array | undefined {
    return this.#promises.get(key)?.bytes;
  }

  async entry(id: Uint8Array, raw: Uint8Array): Promise<void> {
    await this.#write({ type: "entry", id, raw });
  }

  async put(name: string, value: Uint8Array): Promise<void> {
    this.#values.set(name, value);
    await this.#write({ type: "put", name, bytes: value });
  }

  get(name: string): Uint8Array | undefined {
    return this.#values.get(name);
  }

  async trim(slot: bigint): Promise<void> {
    if (slot <= this.#below) return;
    this.#remember({ type: "trim", below: slot });
    await this.#write({ type: "trim", below: slot });
    if (this.#file.size > COMPACT_FROM_BYTES) await this.#compact();
  }

  /** Writes what is alive to a new file and renames it over the old one. */
  #compact(): Promise<void> {
    const run = this.#compacting.then(() => this.#rewrite());
    this.#compacting = run.catch(() => undefined);
    return run;
  }

  async #rewrite(): Promise<void> {
    const temporary = `${this.#path}.new`;
    await rm(temporary, { force: true });
    const fresh = await AppendFile.open(temporary, () => undefined);
    const old = this.#file;
    const alive: JournalRecord[] = [
      { type: "incarnation", incarnation: this.#incarnation },
      { type: "trim", below: this.#below },
      ...[...this.#promises].map(
        ([key, { slot, bytes: value }]) => ({ type: "promise", key, slot, bytes: value }) as const,
      ),
      ...[...this.#values].map(([name, value]) => ({ type: "put", name, bytes: value }) as const),
    ];
    await Promise.all(alive.map((record) => fresh.append(encode(RECORD, record))));
    await rename(temporary, this.#path);
    await syncDirectory(dirname(this.#path));
    this.#file = fresh;
    await old.close();
  }

  async close(): Promise<void> {
    await this.#compacting;
    await this.#file.close();
  }
}
