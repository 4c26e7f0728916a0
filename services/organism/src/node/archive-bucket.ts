/**
 * An archive in a bucket of an S3-compatible store, the same names as in a folder:
 * `<prefix>/<lattice id>/<organism>/outcomes/<slot / 1000>/<slot>.<stage>` and `…/snapshots/<generation>.<position>`.
 */
import { concat, encode, equalBytes, toHex, tryDecode } from "../codec/codec.ts";
import { type CertifiedCheckpoint, checkCheckpoint, stateHash } from "../committee/checkpoint.ts";
import { CERTIFIED, type CertifiedOutcome } from "../committee/outcome.ts";
import { type LatticeConfig, latticeId } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Refusal } from "../machine.ts";
import { pause, type Timers } from "../ports.ts";
import { ARCHIVED_SNAPSHOTS, type Archive, folderOf, isSameCertified, outcomePath } from "./archive.ts";
import type { KnownEras } from "./era-book.ts";
import { type S3Client, type S3Listed, S3Problem } from "./s3-client.ts";
import {
  decodeSnapshotHead,
  encodeSnapshotHead,
  SNAPSHOT_HEAD_BYTES_MAX,
  SNAPSHOT_NAME,
  type SnapshotHead,
  snapshotName,
} from "./snapshot-file.ts";
import { type SnapshotKey, SnapshotMismatch, type SnapshotStore } from "./snapshot-store.ts";

/** The largest certified outcome: its commitment and what surrounds it. */
const OUTCOME_BYTES_MAX = 512 * 1024;
/** A store that is away for a while is asked again: at these pauses, then it is given up and said. */
const AGAIN_MS = [500, 1000, 2000, 4000, 8000];
/** Outcomes on their way at the same time; more are refused, so that a store that is away does not fill the memory. */
const WAITING_MAX = 4096;
/** Snapshots that are looked at, the newest by their names, and for how long: others may put anything there. */
const LOOKED_AT_MAX = 64;
const LOOKING_MS = 30_000;

export class ArchiveBucket implements Archive {
  readonly snapshots: BucketSnapshots;
  readonly #client: S3Client;
  readonly #folder: string;
  readonly #timers: Timers;
  #waiting = 0;

  constructor(client: S3Client, config: LatticeConfig, organism: Organism, timers: Timers, eras?: KnownEras) {
    this.#client = client;
    this.#timers = timers;
    this.#folder = `${toHex(latticeId(config))}/${organism}`;
    this.snapshots = new BucketSnapshots(client, `${this.#folder}/snapshots/`, config, organism, timers, eras);
  }

  /** @throws S3Problem */
  async putOutcome(certified: CertifiedOutcome): Promise<void> {
    const { stage, slot } = certified.outcome;
    const path = outcomePath(stage, slot);
    if (path === undefined) return;
    if (this.#waiting >= WAITING_MAX) throw new S3Problem("the archive takes no outcomes any more", undefined, true);
    const key = [this.#folder, ...path].join("/");
    this.#waiting += 1;
    try {
      await this.#patiently(async () => {
        const found = await this.#client.get(key, OUTCOME_BYTES_MAX);
        if (isSameCertified(found === undefined ? undefined : tryDecode(CERTIFIED, found), certified)) return;
        await this.#client.put(key, encode(CERTIFIED, certified));
      });
    } finally {
      this.#waiting -= 1;
    }
  }

  async #patiently(work: () => Promise<void>): Promise<void> {
    for (const again of [...AGAIN_MS, undefined]) {
      try {
        return await work();
      } catch (error) {
        if (again === undefined || !(error instanceof S3Problem) || !error.passing) throw error;
        await pause(this.#timers, again);
      }
    }
  }

  async outcome(stage: string, slot: bigint): Promise<CertifiedOutcome | undefined> {
    const path = outcomePath(stage, slot);
    if (path === undefined) return undefined;
    let raw: Uint8Array | undefined;
    try {
      raw = await this.#client.get([this.#folder, ...path].join("/"), OUTCOME_BYTES_MAX);
    } catch (error) {
      if (error instanceof S3Problem) return undefined;
      throw error;
    }
    const found = raw === undefined ? undefined : tryDecode(CERTIFIED, raw);
    return found?.outcome.stage === stage && found.outcome.slot === slot ? found : undefined;
  }

  /** @throws S3Problem */
  async outcomeNames(slot: bigint): Promise<ReadonlySet<string>> {
    const folder = `${this.#folder}/outcomes/${folderOf(slot)}/`;
    return new Set((await this.#client.list(folder)).map(({ key }) => key.slice(folder.length)));
  }
}

interface Held extends SnapshotHead {
  readonly name: string;
}

/** Certified snapshots in the bucket. A certificate is judged when it is listed, a state when it is loaded. */
export class BucketSnapshots implements SnapshotStore {
  readonly #client: S3Client;
  readonly #folder: string;
  readonly #config: LatticeConfig;
  readonly #organism: Organism;
  readonly #timers: Timers;
  readonly #eras: KnownEras | undefined;
  #held: Held[] = [];
  /** Whose state did not come out as certified when it was loaded: not held, and replaced when it is saved again. */
  readonly #damaged = new Set<string>();

  constructor(
    client: S3Client,
    folder: string,
    config: LatticeConfig,
    organism: Organism,
    timers: Timers,
    eras?: KnownEras,
  ) {
    this.#timers = timers;
    this.#eras = eras;
    this.#client = client;
    this.#folder = folder;
    this.#config = config;
    this.#organism = organism;
  }

  /** @throws S3Problem */
  async refresh(): Promise<void> {
    const known = new Map(this.#held.map((each) => [each.name, each]));
    const listed = await this.#client.list(this.#folder);
    const named = listed.flatMap(({ key, bytes }) => {
      const name = key.slice(this.#folder.length);
      return SNAPSHOT_NAME.test(name) && !this.#damaged.has(name) ? [{ name, key, bytes }] : [];
    });
    named.sort((a, b) => (a.name < b.name ? 1 : -1));
    const held: Held[] = [];
    const until = this.#timers.elapsedMs() + LOOKING_MS;
    for (const each of named.slice(0, LOOKED_AT_MAX)) {
      const found = known.get(each.name) ?? (await this.#examine(each.name, each));
      if (found !== undefined) held.push(found);
      if (this.#timers.elapsedMs() > until) break;
    }
    this.#held = held.sort((a, b) => (a.name < b.name ? 1 : -1));
  }

  async #examine(name: string, { bytes }: S3Listed): Promise<Held | undefined> {
    const raw = await this.#client.get(this.#folder + name, SNAPSHOT_HEAD_BYTES_MAX, { offset: 0 });
    const head = raw === undefined ? undefined : decodeSnapshotHead(raw);
    if (head === undefined || name !== snapshotName(head.certified.checkpoint)) return undefined;
    if (this.#check(head.certified) !== undefined) return undefined;
    return bytes === head.stateAt + head.certified.checkpoint.stateBytes ? { name, ...head } : undefined;
  }

  #check(certified: CertifiedCheckpoint): Refusal | undefined {
    return checkCheckpoint(this.#config, this.#organism, certified, this.#eras?.(this.#organism));
  }

  held(): readonly CertifiedCheckpoint[] {
    return this.#held.map(({ certified }) => certified);
  }

  #find(key: SnapshotKey): Held | undefined {
    const name = snapshotName(key);
    return this.#held.find((each) => each.name === name);
  }

  /** @throws SnapshotMismatch, S3Problem */
  async save(certified: CertifiedCheckpoint, state: Uint8Array): Promise<void> {
    const { checkpoint } = certified;
    const refusal = this.#check(certified);
    if (refusal !== undefined) throw new SnapshotMismatch(refusal.detail);
    if (state.length !== checkpoint.stateBytes || !equalBytes(stateHash(state), checkpoint.stateHash)) {
      throw new SnapshotMismatch(`the state is not the one certified for position ${checkpoint.position}`);
    }
    // Others write there too.
    await this.refresh();
    if (this.#find(checkpoint) !== undefined) return;
    const name = snapshotName(checkpoint);
    await this.#client.put(this.#folder + name, concat(encodeSnapshotHead(certified), state));
    this.#damaged.delete(name);
    await this.refresh();
    for (const old of this.#held.slice(ARCHIVED_SNAPSHOTS)) await this.#client.remove(this.#folder + old.name);
    this.#held = this.#held.slice(0, ARCHIVED_SNAPSHOTS);
  }

  async load(key: SnapshotKey): Promise<Uint8Array | undefined> {
    const held = this.#find(key);
    if (held === undefined) return undefined;
    const { stateBytes, stateHash: expected } = held.certified.checkpoint;
    const state = await this.read(key, 0, stateBytes);
    if (state?.length === stateBytes && equalBytes(stateHash(state), expected)) return state;
    this.#held = this.#held.filter((each) => each !== held);
    // A store that gave nothing may give it the next time.
    if (state?.length === stateBytes) this.#damaged.add(held.name);
    return undefined;
  }

  async read(key: SnapshotKey, offset: number, length: number): Promise<Uint8Array | undefined> {
    const held = this.#find(key);
    if (held === undefined) return undefined;
    const most = Math.min(length, Math.max(0, held.certified.checkpoint.stateBytes - offset));
    if (most === 0) return new Uint8Array();
    return this.#client.get(this.#folder + held.name, most, { offset: held.stateAt + offset });
  }
}
