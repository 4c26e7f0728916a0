/**
 * The seeds (σ) of opened messages, on disk and nowhere else: one file a slot, mode 0600. What has landed moves to a
 * second file and may be served; what has not is removed once its slot is forgotten. The slot key is never kept.
 */
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  CodecError,
  count,
  decode,
  encode,
  equalBytes,
  fixed,
  type Infer,
  list,
  literal,
  struct,
  toHex,
} from "@lattice/organism/codec/codec.ts";
import { writeWholeFile } from "@lattice/organism/node/whole-file.ts";
import { MESSAGE_ID_BYTES } from "@lattice/organism/outcomes/zipnet.ts";

const OPENING = struct({ messageId: fixed(MESSAGE_ID_BYTES), cell: count, sigma: fixed(32) });
export type Opening = Infer<typeof OPENING>;
const FILE = struct({ version: literal(1), openings: list(OPENING, 65_536) });

/** `private`: may not be served yet. `landed`: may. */
type Kind = "private" | "landed";
const NAME = /^(\d+)\.(private|landed)$/;

export class Openings {
  readonly #directory: string;
  readonly #keepSlots: bigint;
  readonly #files: Record<Kind, Set<bigint>> = { private: new Set(), landed: new Set() };
  /** Landed openings of slots that may still change. */
  readonly #published = new Map<bigint, Set<string>>();
  /** What the disk has not taken yet of slots that may be forgotten meanwhile. */
  readonly #unpublished = new Map<bigint, readonly string[]>();
  /** Writes happen one after the other. */
  #turn: Promise<void> = Promise.resolve();

  private constructor(directory: string, keepSlots: bigint) {
    this.#directory = directory;
    this.#keepSlots = keepSlots;
  }

  static async open(parent: string, keepSlots: number): Promise<Openings> {
    const directory = join(parent, "openings");
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const openings = new Openings(directory, BigInt(keepSlots));
    for (const name of await readdir(directory)) {
      const match = NAME.exec(name);
      if (match?.[1] === undefined) await rm(join(directory, name), { force: true });
      else openings.#files[match[2] as Kind].add(BigInt(match[1]));
    }
    return openings;
  }

  #path(slot: bigint, kind: Kind): string {
    return join(this.#directory, `${slot}.${kind}`);
  }

  async #write(slot: bigint, kind: Kind, openings: readonly Opening[]): Promise<void> {
    const path = this.#path(slot, kind);
    await writeWholeFile(path, encode(FILE, { version: 1, openings: [...openings] }));
    this.#files[kind].add(slot);
  }

  /** Nothing when there is no file, or a damaged one. @throws what the disk says otherwise */
  async #read(slot: bigint, kind: Kind): Promise<readonly Opening[]> {
    if (!this.#files[kind].has(slot)) return [];
    try {
      return decode(FILE, new Uint8Array(await readFile(this.#path(slot, kind)))).openings;
    } catch (error) {
      if (error instanceof CodecError || (error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  }

  async #remove(slot: bigint, kind: Kind): Promise<void> {
    this.#files[kind].delete(slot);
    await rm(this.#path(slot, kind), { force: true });
  }

  #next(work: () => Promise<void>): Promise<void> {
    const run = this.#turn.then(work);
    this.#turn = run.catch(() => undefined);
    return run;
  }

  /** Keeps what a slot's messages opened with; resolves once it is in the file. */
  keep(slot: bigint, openings: readonly Opening[]): Promise<void> {
    return this.#next(() => this.#write(slot, "private", openings));
  }

  /**
   * Publishes what has landed, forgets what never will. `landedOf`: undefined once the slot is forgotten. What the disk does not
   * take is tried again by the next one, and kept until then.
   */
  sweep(retainedFrom: bigint, landedOf: (slot: bigint) => readonly Uint8Array[] | undefined): Promise<void> {
    return this.#next(async () => {
      // First what makes room.
      for (const slot of [...this.#files.landed]) {
        if (slot + this.#keepSlots < retainedFrom) await this.#remove(slot, "landed");
      }
      const failures: unknown[] = [];
      for (const slot of [...this.#files.private]) {
        const wanted = landedOf(slot)?.map(toHex) ?? this.#unpublished.get(slot) ?? [];
        try {
          await this.#publish(slot, wanted);
          this.#unpublished.delete(slot);
          if (slot >= retainedFrom) continue;
          this.#published.delete(slot);
          await this.#remove(slot, "private");
        } catch (error) {
          this.#unpublished.set(slot, wanted);
          failures.push(error);
        }
      }
      if (failures.length > 0) throw failures[0];
    });
  }

  async #publish(slot: bigint, ids: readonly string[]): Promise<void> {
    const known = this.#published.get(slot) ?? new Set();
    if (ids.every((id) => known.has(id))) return;
    const wanted = new Set(ids);
    const before = await this.#read(slot, "landed");
    const all = new Map(before.map((opening) => [toHex(opening.messageId), opening]));
    for (const opening of await this.#read(slot, "private")) {
      const key = toHex(opening.messageId);
      if (wanted.has(key)) all.set(key, opening);
    }
    if (all.size > before.length) await this.#write(slot, "landed", [...all.values()]);
    this.#published.set(slot, wanted);
  }

  /** The opening of a message, if it may be served: published before, or `landed` says so now. */
  async get(slot: bigint, messageId: Uint8Array, landed: boolean): Promise<Opening | undefined> {
    const kinds: readonly Kind[] = landed ? ["private", "landed"] : ["landed"];
    for (const kind of kinds) {
      const held = await this.#read(slot, kind).catch(() => []);
      const found = held.find((opening) => equalBytes(opening.messageId, messageId));
      if (found !== undefined) return found;
    }
    return undefined;
  }
}
