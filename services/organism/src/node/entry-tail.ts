/**
 * The raw entries that a member has read since its second newest certified checkpoint, on its own disk: what is left of
 * a generation when its stream is lost (docs/decisions/0030).
 *
 * Not synced: after a power cut some of it may be missing, and the journal's "said-at" tells that (read-marks.ts); a killed process
 * loses nothing. Files `<generation>.<position of the first>` of frames: u32 length ‖ u32 CRC-32 ‖ entry.
 */
import { type FileHandle, mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { hashBytes } from "../crypto/hash.ts";

const FRAME_BYTES = 8;
const ENTRY_BYTES_MAX = 4 * 1024 * 1024;

export interface EntryTail {
  /** The newest position held of a generation; undefined when none is. */
  newest(generation: bigint): bigint | undefined;
  /** Hash of what was read at a position before this process started; undefined when that is not known. */
  hashAt(generation: bigint, position: bigint): Uint8Array | undefined;
  /** Positions in order; a jump begins anew. */
  append(generation: bigint, position: bigint, raw: Uint8Array): void;
  read(generation: bigint, position: bigint): Promise<Uint8Array | undefined>;
  /** Everything before this position may go, in whole files; what comes next begins a new file. */
  keepFrom(generation: bigint, position: bigint): Promise<void>;
  /** Resolves once a process that is killed does not lose what was appended before. Never fails: a full disk must not stop the member. */
  written(): Promise<void>;
  close(): Promise<void>;
}

/** What `hashAt` holds. */
export function tailHash(raw: Uint8Array): Uint8Array {
  return hashBytes("lattice/log/message/v1", raw);
}

interface Segment {
  readonly path: string;
  readonly generation: bigint;
  readonly from: bigint;
  /** Absent until its first entry is written. */
  file: FileHandle | undefined;
  readonly places: { readonly offset: number; readonly length: number; readonly hash?: Uint8Array }[];
  size: number;
  /** So many of its entries are in the file; those behind were not taken by the disk. */
  written: number;
}

export class FileEntryTail implements EntryTail {
  readonly #folder: string;
  #segments: Segment[];
  #fresh = false;
  #writing: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(folder: string, segments: Segment[]) {
    this.#folder = folder;
    this.#segments = segments;
  }

  /** Reads what is there, up to the first frame that is not whole. */
  static async open(folder: string): Promise<FileEntryTail> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const segments: Segment[] = [];
    for (const name of (await readdir(folder)).sort()) {
      const found = /^(\d{20})\.(\d{20})$/.exec(name);
      if (found?.[1] === undefined || found[2] === undefined) continue;
      const path = join(folder, name);
      const segment = await readSegment(path, BigInt(found[1]), BigInt(found[2]));
      if (segment !== undefined) segments.push(segment);
      // What a crash has left before its first entry: another of this name may begin, which would go when this one goes.
      else await rm(path);
    }
    return new FileEntryTail(folder, segments);
  }

  #newestOf(generation: bigint): Segment | undefined {
    return this.#segments.findLast((each) => each.generation === generation && each.places.length > 0);
  }

  newest(generation: bigint): bigint | undefined {
    const segment = this.#newestOf(generation);
    return segment === undefined ? undefined : segment.from + BigInt(segment.places.length) - 1n;
  }

  #place(generation: bigint, position: bigint) {
    const segment = this.#segments.findLast(
      (each) =>
        each.generation === generation && each.from <= position && position < each.from + BigInt(each.places.length),
    );
    const place = segment?.places[Number(position - segment.from)];
    return segment === undefined || place === undefined ? undefined : { segment, place };
  }

  hashAt(generation: bigint, position: bigint): Uint8Array | undefined {
    return this.#place(generation, position)?.place.hash;
  }

  append(generation: bigint, position: bigint, raw: Uint8Array): void {
    const newest = this.newest(generation);
    if (this.#closed || (newest !== undefined && position <= newest)) return;
    const frame = Buffer.allocUnsafe(FRAME_BYTES + raw.length);
    frame.writeUInt32BE(raw.length, 0);
    frame.writeUInt32BE(crc32(raw), 4);
    frame.set(raw, FRAME_BYTES);
    const before = this.#newestOf(generation);
    const goesOn = before !== undefined && newest !== undefined && position === newest + 1n && !this.#fresh;
    // Fixed now: by the time it is written a later one may have begun.
    const segment = goesOn ? before : this.#begin(generation, position);
    place(segment, raw.length);
    const count = segment.places.length;
    this.#writing = this.#writing.then(async () => {
      // Nothing goes behind what the disk has not taken: it is kept again from the next file on.
      if (segment.written !== count - 1) return;
      try {
        segment.file ??= await open(segment.path, "w+", 0o600);
        // Not `write`: a disk that fills up takes a part, and says nothing before the next one.
        await segment.file.writeFile(frame);
        segment.written = count;
      } catch {
        // A full disk must not stop the member: it only cannot help others with these entries.
      }
    });
  }

  /** Its file is made when its first entry is written. */
  #begin(generation: bigint, position: bigint): Segment {
    this.#fresh = false;
    const path = join(this.#folder, segmentName(generation, position));
    const segment: Segment = { path, generation, from: position, file: undefined, places: [], size: 0, written: 0 };
    this.#segments.push(segment);
    return segment;
  }

  async read(generation: bigint, position: bigint): Promise<Uint8Array | undefined> {
    await this.#writing;
    const found = this.#place(generation, position);
    if (found === undefined || this.#closed) return undefined;
    const { segment, place: at } = found;
    if (position - segment.from >= BigInt(segment.written)) return undefined;
    const raw = Buffer.alloc(at.length);
    const read = await segment.file?.read(raw, 0, at.length, at.offset);
    return read?.bytesRead === at.length ? new Uint8Array(raw) : undefined;
  }

  keepFrom(generation: bigint, position: bigint): Promise<void> {
    this.#fresh = true;
    const old = this.#segments.filter(
      (each) =>
        each.generation < generation ||
        (each.generation === generation && each.from + BigInt(each.places.length) <= position),
    );
    this.#segments = this.#segments.filter((each) => !old.includes(each));
    // Behind what is still being written to them, and before anything that is appended from here on.
    const gone = this.#writing.then(async () => {
      for (const { file, path } of old) {
        await file?.close();
        await rm(path, { force: true });
      }
    });
    this.#writing = gone.catch(() => undefined);
    return gone;
  }

  written(): Promise<void> {
    return this.#writing;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#writing;
    for (const { file } of this.#segments) await file?.close();
  }
}

function place(segment: Segment, length: number): void {
  segment.places.push({ offset: segment.size + FRAME_BYTES, length });
  segment.size += FRAME_BYTES + length;
}

/** Undefined when not one entry in it is whole. */
async function readSegment(path: string, generation: bigint, from: bigint): Promise<Segment | undefined> {
  const file = await open(path, "r+");
  const { size } = await file.stat();
  const segment: Segment = { path, generation, from, file: undefined, places: [], size: 0, written: 0 };
  const head = Buffer.alloc(FRAME_BYTES);
  while (segment.size + FRAME_BYTES <= size) {
    await file.read(head, 0, FRAME_BYTES, segment.size);
    const length = head.readUInt32BE(0);
    if (length > ENTRY_BYTES_MAX || segment.size + FRAME_BYTES + length > size) break;
    const raw = Buffer.alloc(length);
    await file.read(raw, 0, length, segment.size + FRAME_BYTES);
    if (crc32(raw) !== head.readUInt32BE(4)) break;
    segment.places.push({ offset: segment.size + FRAME_BYTES, length, hash: tailHash(raw) });
    segment.size += FRAME_BYTES + length;
  }
  await file.truncate(segment.size);
  // What is appended goes behind what was read: the position of the handle counts.
  await file.close();
  const written = segment.places.length;
  return written === 0 ? undefined : { ...segment, written, file: await open(path, "a+") };
}

function segmentName(generation: bigint, from: bigint): string {
  return [generation, from].map((each) => each.toString().padStart(20, "0")).join(".");
}
