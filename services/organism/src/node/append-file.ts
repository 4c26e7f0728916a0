/**
 * An append-only file of checksummed records with group commit: many appends, one fdatasync. What resolves is on disk.
 * A torn tail (a crash in the middle of a write) is cut off at open; a bad record before the end is a broken disk and
 * is refused, because what follows it was acknowledged.
 */
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";

/** Record frame: u32 length ‖ u32 CRC-32 of the payload ‖ payload. */
const FRAME_BYTES = 8;
const RECORD_BYTES_MAX = 64 * 1024 * 1024;

/** The file holds a record that was once whole and is not any more. */
export class CorruptFile extends Error {
  override readonly name = "CorruptFile";
}

interface Pending {
  readonly frame: Buffer;
  readonly resolve: (offset: number) => void;
  readonly reject: (error: unknown) => void;
}

export class AppendFile {
  readonly path: string;
  readonly #file: FileHandle;
  #size: number;
  #queue: Pending[] = [];
  #flushing: Promise<void> | undefined;
  #failed: unknown;

  private constructor(path: string, file: FileHandle, size: number) {
    this.path = path;
    this.#file = file;
    this.#size = size;
  }

  /** Opens or creates the file and hands every record to `onRecord(payload, offset)` in order. @throws CorruptFile */
  static async open(path: string, onRecord: (payload: Uint8Array, offset: number) => void): Promise<AppendFile> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(path, "a+", 0o600);
    const content = await file.readFile();
    let at = 0;
    while (at + FRAME_BYTES <= content.length) {
      const length = content.readUInt32BE(at);
      const end = at + FRAME_BYTES + length;
      if (length > RECORD_BYTES_MAX || end > content.length) break;
      const payload = content.subarray(at + FRAME_BYTES, end);
      if (crc32(payload) !== content.readUInt32BE(at + 4)) {
        if (end < content.length) throw new CorruptFile(`${path}: record at offset ${at} fails its checksum`);
        break;
      }
      onRecord(new Uint8Array(payload), at + FRAME_BYTES);
      at = end;
    }
    if (at < content.length) await file.truncate(at);
    await file.datasync();
    await syncDirectory(dirname(path));
    return new AppendFile(path, file, at);
  }

  /** Bytes in the file, including what is being written. */
  get size(): number {
    return this.#size;
  }

  /** Resolves to the payload's offset once it is on disk. After a failed write every later append fails too. */
  append(payload: Uint8Array): Promise<number> {
    const frame = Buffer.allocUnsafe(FRAME_BYTES + payload.length);
    frame.writeUInt32BE(payload.length, 0);
    frame.writeUInt32BE(crc32(payload), 4);
    frame.set(payload, FRAME_BYTES);
    return new Promise((resolve, reject) => {
      this.#queue.push({ frame, resolve, reject });
      this.#flushing ??= this.#flush().finally(() => {
        this.#flushing = undefined;
      });
    });
  }

  async #flush(): Promise<void> {
    // One turn later, so that appends of the same turn share a sync.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (this.#queue.length > 0) {
      const batch = this.#queue;
      this.#queue = [];
      try {
        if (this.#failed !== undefined) throw this.#failed;
        const data = Buffer.concat(batch.map((each) => each.frame));
        await writeFully(this.#file, data);
        await this.#file.datasync();
        let offset = this.#size;
        this.#size += data.length;
        for (const each of batch) {
          each.resolve(offset + FRAME_BYTES);
          offset += each.frame.length;
        }
      } catch (error) {
        this.#failed = error;
        for (const each of batch) each.reject(error);
      }
    }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const buffer = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await this.#file.read(buffer, done, length - done, offset + done);
      if (bytesRead === 0) throw new CorruptFile(`${this.path}: ends before offset ${offset + length}`);
      done += bytesRead;
    }
    return buffer;
  }

  async close(): Promise<void> {
    while (this.#flushing !== undefined) await this.#flushing;
    await this.#file.close();
  }
}

async function writeFully(file: FileHandle, data: Buffer): Promise<void> {
  let done = 0;
  while (done < data.length) done += (await file.write(data, done, data.length - done)).bytesWritten;
}

/** A created or renamed file is durable only once its folder is. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
