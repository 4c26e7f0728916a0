/**
 * The raw entries that a member has read since its second newest certified checkpoint, on its own disk: what is left of
 * a generation when its stream is lost (docs/decisions/0030).
 *
 * Not synced: after a power cut some of it may be missing, and the journal's "said-at" tells that (read-marks.ts); a killed process
 * loses nothing. Files `<generation>.<position of the first>` of frames: u32 length ‖ u32 CRC-32 ‖ entry.
 *
 * The process that opened it last owns it, as it owns the journal: what it goes on with it writes anew under the same name, so
 * that an older one on the same folder, which reads on until it hears that it is succeeded, writes where nobody looks any more.
 */
import { randomBytes } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { hashBytes } from "../crypto/hash.ts";

const FRAME_BYTES = 8;
/** The largest message that a broker can deliver, whatever its stream was told to take: NATS carries no larger one. */
const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;

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

  private constructor(folder: string, segments: Segment[], fresh: boolean) {
    this.#folder = folder;
    this.#segments = segments;
    this.#fresh = fresh;
  }

  /** Reads what is there, up to the first frame that is not whole, and takes it over from whoever had it. */
  static async open(folder: string): Promise<FileEntryTail> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const segments: Segment[] = [];
    for (const name of (await readdir(folder)).sort()) {
      const found = /^(\d{20})\.(\d{20})$/.exec(name);
      const path = join(folder, name);
      // What a crash has left of a takeover.
      if (name.endsWith(".new")) await rm(path, { force: true });
      if (found?.[1] === undefined || found[2] === undefined) continue;
      const segment = await readSegment(path, BigInt(found[1]), BigInt(found[2]));
      if (segment !== undefined) segments.push(segment);
      // What a crash has left before its first entry: another of this name may begin, which would go when this one goes.
      else await rm(path, { force: true });
    }
    // Only the newest of a generation is written to.
    const taken = await Promise.all(
      segments.map((each, at) => each.generation === segments[at + 1]?.generation || takeOver(each)),
    );
    return new FileEntryTail(folder, segments, taken.includes(false));
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
        segment.file ??= await openNew(segment.path);
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
        if (file === undefined) continue;
        // Of that name there may be another by now, which the next process goes on with.
        const own = await isNamed(file, path);
        await file.close();
        if (own) await rm(path, { force: true });
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

/** Undefined when not one entry in it is whole, or it is gone. */
async function readSegment(path: string, generation: bigint, from: bigint): Promise<Segment | undefined> {
  const file = await open(path, "r").catch(absent);
  if (file === undefined) return undefined;
  const { size } = await file.stat();
  const segment: Segment = { path, generation, from, file, places: [], size: 0, written: 0 };
  const head = Buffer.alloc(FRAME_BYTES);
  while (segment.size + FRAME_BYTES <= size) {
    await file.read(head, 0, FRAME_BYTES, segment.size);
    const length = head.readUInt32BE(0);
    if (length > MESSAGE_BYTES_MAX || segment.size + FRAME_BYTES + length > size) break;
    const raw = Buffer.alloc(length);
    await file.read(raw, 0, length, segment.size + FRAME_BYTES);
    if (crc32(raw) !== head.readUInt32BE(4)) break;
    segment.places.push({ offset: segment.size + FRAME_BYTES, length, hash: tailHash(raw) });
    segment.size += FRAME_BYTES + length;
  }
  segment.written = segment.places.length;
  if (segment.written > 0) return segment;
  await file.close();
  return undefined;
}

/**
 * Writes what is whole anew, to be gone on with, and gives it the name. False when the disk does not take it: then the old file
 * is read on, and what comes begins another.
 */
async function takeOver(segment: Segment): Promise<boolean> {
  const unfinished = `${segment.path}.${randomBytes(6).toString("hex")}.new`;
  const old = segment.file;
  let fresh: FileHandle | undefined;
  try {
    fresh = await open(unfinished, "wx+", 0o600);
    for (const { offset, length } of segment.places) {
      const frame = Buffer.alloc(FRAME_BYTES + length);
      await old?.read(frame, 0, frame.length, offset - FRAME_BYTES);
      await fresh.writeFile(frame);
    }
    // What was on disk before a power cut must be after it.
    await fresh.sync();
    await rename(unfinished, segment.path);
  } catch {
    await fresh?.close();
    await rm(unfinished, { force: true });
    return false;
  }
  await old?.close();
  segment.file = fresh;
  return true;
}

/** Whatever lies under that name is nobody's: what it held was not whole, or is held elsewhere. */
async function openNew(path: string): Promise<FileHandle> {
  await rm(path, { force: true });
  return open(path, "wx+", 0o600);
}

/** Is this still the file of that name? */
async function isNamed(file: FileHandle, path: string): Promise<boolean> {
  const [own, named] = await Promise.all([file.stat(), stat(path).catch(absent)]);
  return own.ino === named?.ino && own.dev === named.dev;
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}

function segmentName(generation: bigint, from: bigint): string {
  return [generation, from].map((each) => each.toString().padStart(20, "0")).join(".");
}
