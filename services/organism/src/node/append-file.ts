/**
 * An append-only file of checksummed records with group commit: many appends, one fdatasync. What resolves is on disk.
 *
 * Each record says how much of the file had been synced when it was written. So at open a bad record is judged
 * rightly: when a later record says that this place was synced, something acknowledged is damaged and the file is
 * refused; otherwise it is the tail that a crash tore, acknowledged to nobody, and is cut off. (Writes of one batch
 * may reach the disk in any order, so a whole record behind a torn one proves nothing by itself.)
 */
import { fstatSync, readSync, statSync } from "node:fs";
import { type FileHandle, mkdir, open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";

/** Frame: u32 payload length ‖ u64 bytes synced before ‖ u32 CRC-32 of those twelve bytes and the payload ‖ payload. */
const HEADER_BYTES = 12;
const FRAME_BYTES = HEADER_BYTES + 4;
export const RECORD_BYTES_MAX = 64 * 1024 * 1024;
const READ_BYTES = 4 * 1024 * 1024;

/** The file holds a record that was once whole and is not any more. */
export class CorruptFile extends Error {
  override readonly name = "CorruptFile";
}

/** Another process has taken the file over: nothing that is written here any more would be found. */
export class FileTaken extends Error {
  override readonly name = "FileTaken";
}

interface Pending {
  /** The payload is copied in at once; the head follows when the record is written. */
  readonly frame: Buffer;
  readonly resolve: (offset: number) => void;
  readonly reject: (error: unknown) => void;
}

interface Frame {
  readonly payload: Buffer;
  readonly synced: number;
}

/** The frame at the start of `bytes`; undefined when there is none. */
function parseFrame(bytes: Buffer): Frame | undefined {
  if (bytes.length < FRAME_BYTES) return undefined;
  const length = bytes.readUInt32BE(0);
  if (length > RECORD_BYTES_MAX || FRAME_BYTES + length > bytes.length) return undefined;
  const frame = bytes.subarray(0, FRAME_BYTES + length);
  if (frameCrc(frame) !== frame.readUInt32BE(HEADER_BYTES)) return undefined;
  return { payload: frame.subarray(FRAME_BYTES), synced: Number(bytes.readBigUInt64BE(4)) };
}

export interface AppendFileOptions {
  /** Refuse to acknowledge once the file has a further name, another one or none: somebody has taken it over (`FileJournal`). */
  readonly exclusive?: boolean;
}

export class AppendFile {
  #path: string;
  readonly #file: FileHandle;
  readonly #exclusive: boolean;
  #size: number;
  #queue: Pending[] = [];
  #flushing: Promise<void> | undefined;
  #failed: unknown;

  private constructor(path: string, file: FileHandle, size: number, exclusive: boolean) {
    this.#path = path;
    this.#file = file;
    this.#size = size;
    this.#exclusive = exclusive;
  }

  /**
   * Opens or creates the file and hands every record to `onRecord(payload, offset)` in order. Who keeps a payload keeps a
   * copy: it lies in a larger piece of the file.
   * @throws CorruptFile
   */
  static async open(
    path: string,
    onRecord: (payload: Uint8Array, offset: number) => void,
    options: AppendFileOptions = {},
  ): Promise<AppendFile> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(path, "a+", 0o600);
    try {
      const size = await readRecords(path, file, onRecord);
      await file.datasync();
      await syncDirectory(dirname(path));
      return new AppendFile(path, file, size, options.exclusive ?? false);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get path(): string {
    return this.#path;
  }

  /** Gives it another name, in the place of whatever has that one. */
  async rename(path: string): Promise<void> {
    await rename(this.#path, path);
    this.#path = path;
  }

  /** Bytes in the file that are on disk. */
  get size(): number {
    return this.#size;
  }

  /** Tells the file from others of its file system, whatever its name. */
  get inode(): number {
    return fstatSync(this.#file.fd).ino;
  }

  /**
   * Resolves to the payload's offset once it is on disk. After a failed write every later append fails too.
   * @throws RangeError when the payload is above RECORD_BYTES_MAX
   */
  append(payload: Uint8Array): Promise<number> {
    if (payload.length > RECORD_BYTES_MAX) {
      return Promise.reject(new RangeError(`${payload.length} bytes, at most ${RECORD_BYTES_MAX}`));
    }
    const frame = Buffer.allocUnsafe(FRAME_BYTES + payload.length);
    frame.set(payload, FRAME_BYTES);
    return new Promise((resolve, reject) => {
      this.#queue.push({ frame, resolve, reject });
      this.#flushing ??= this.#flush();
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
        for (const { frame } of batch) writeHead(frame, this.#size);
        const data = Buffer.concat(batch.map(({ frame }) => frame));
        await writeFully(this.#file, data);
        await this.#file.datasync();
        // Only now: who takes the file over reads it after this shows, and so reads what is acknowledged here.
        if (this.#exclusive && this.#isTaken()) {
          throw new FileTaken(`${this.path}: another process has taken the file over`);
        }
        let offset = this.#placeOf(data);
        this.#size = offset + data.length;
        for (const { frame, resolve } of batch) {
          resolve(offset + FRAME_BYTES);
          offset += frame.length;
        }
      } catch (error) {
        this.#failed = error;
        for (const each of batch) each.reject(error);
      }
    }
    // In the same turn as the check of the queue: an append that comes later starts a flush of its own.
    this.#flushing = undefined;
  }

  /** Links first: of a file that was replaced, and is still held by whoever did that, there is one again, under another name. */
  #isTaken(): boolean {
    const { nlink, ino } = fstatSync(this.#file.fd);
    return nlink !== 1 || statSync(this.#path, { throwIfNoEntry: false })?.ino !== ino;
  }

  /**
   * Where a batch has come to lie: at the end of all that was there. A process that is succeeded by this one, on the same folder,
   * may have appended until it heard of that.
   */
  #placeOf(data: Buffer): number {
    const { size } = fstatSync(this.#file.fd);
    if (size === this.#size + data.length) return this.#size;
    const found = this.readSync(this.#size, Math.max(0, size - this.#size));
    const at = Buffer.from(found.buffer).indexOf(data);
    if (at < 0) throw new CorruptFile(`${this.path}: what was written after offset ${this.#size} is not there`);
    return this.#size + at;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const buffer = new Uint8Array(length);
    const got = await readAt(this.#file, buffer, offset);
    if (got < length) throw new CorruptFile(`${this.path}: ends before offset ${offset + length}`);
    return buffer;
  }

  /** The same for whoever cannot wait. */
  readSync(offset: number, length: number): Uint8Array {
    const buffer = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const got = readSync(this.#file.fd, buffer, done, length - done, offset + done);
      if (got === 0) throw new CorruptFile(`${this.path}: ends before offset ${offset + length}`);
      done += got;
    }
    return buffer;
  }

  async close(): Promise<void> {
    while (this.#flushing !== undefined) await this.#flushing;
    await this.#file.close();
  }
}

function writeHead(frame: Buffer, synced: number): void {
  frame.writeUInt32BE(frame.length - FRAME_BYTES, 0);
  frame.writeBigUInt64BE(BigInt(synced), 4);
  frame.writeUInt32BE(frameCrc(frame), HEADER_BYTES);
}

/** Over everything but itself. */
function frameCrc(frame: Buffer): number {
  return crc32(frame.subarray(FRAME_BYTES), crc32(frame.subarray(0, HEADER_BYTES)));
}

/** Hands over every record and cuts off a torn tail. @returns the size that is left */
async function readRecords(
  path: string,
  file: FileHandle,
  onRecord: (payload: Uint8Array, offset: number) => void,
): Promise<number> {
  const { size } = await file.stat();
  let at = 0;
  let window: Buffer = Buffer.alloc(0);
  /** Makes `window` begin at `at` and hold at least `count` bytes, or all that is left. */
  const fill = async (count: number): Promise<void> => {
    if (window.length >= count || window.length >= size - at) return;
    const wanted = Buffer.allocUnsafe(Math.min(Math.max(count, READ_BYTES), size - at));
    window = wanted.subarray(0, await readAt(file, wanted, at));
  };
  while (at < size) {
    await fill(FRAME_BYTES);
    if (window.length >= FRAME_BYTES) {
      const length = window.readUInt32BE(0);
      if (length <= RECORD_BYTES_MAX) await fill(FRAME_BYTES + length);
    }
    const frame = parseFrame(window);
    if (frame === undefined) break;
    const { buffer, byteOffset, length } = frame.payload;
    onRecord(new Uint8Array(buffer, byteOffset, length), at + FRAME_BYTES);
    at += FRAME_BYTES + frame.payload.length;
    window = window.subarray(FRAME_BYTES + frame.payload.length);
  }
  if (at < size) {
    if (await laterRecordCounts(file, at, size)) {
      throw new CorruptFile(`${path}: the record at offset ${at} is damaged, and what follows it was acknowledged`);
    }
    await file.truncate(at);
  }
  return at;
}

/** Is there a whole record behind `at` which says that the bytes from `at` on had been synced before it was written? */
async function laterRecordCounts(file: FileHandle, at: number, size: number): Promise<boolean> {
  const tail = Buffer.allocUnsafe(Math.min(size - at, 4 * RECORD_BYTES_MAX));
  const rest = tail.subarray(0, await readAt(file, tail, at));
  for (let offset = 1; offset + FRAME_BYTES <= rest.length; offset++) {
    if (rest[offset + 4] !== 0 || rest[offset + 5] !== 0) continue;
    const synced = rest.readBigUInt64BE(offset + 4);
    if (synced <= BigInt(at) || synced > BigInt(at + offset)) continue;
    if (parseFrame(rest.subarray(offset)) !== undefined) return true;
  }
  return false;
}

/** Fills `buffer` from `offset`. @returns how many bytes there were */
async function readAt(file: FileHandle, buffer: Uint8Array, offset: number): Promise<number> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
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
