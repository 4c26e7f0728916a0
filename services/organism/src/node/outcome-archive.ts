/** Certified outcomes outside state and log: an append-only file, an index in memory, and live watchers. */
import { join } from "node:path";
import { decode, encode } from "../codec/codec.ts";
import { CERTIFIED, type CertifiedOutcome } from "../committee/outcome.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import type { RecordFile } from "../ports.ts";
import { AppendFile } from "./append-file.ts";

/** Events a watcher may lag behind before its stream is ended. */
export const WATCH_BUFFER_MAX = 1024;
const RECENT = 256;

type OutcomeIndex = Map<string, Map<bigint, { readonly offset: number; readonly length: number }>>;
type Listener = (certified: CertifiedOutcome) => void;

export class OutcomeArchive {
  readonly #organism: string;
  readonly #file: RecordFile;
  readonly #index: OutcomeIndex;
  readonly #recent = new Map<string, CertifiedOutcome>();
  readonly #listeners = new Set<Listener>();

  private constructor(organism: string, file: RecordFile, index: OutcomeIndex) {
    this.#organism = organism;
    this.#file = file;
    this.#index = index;
  }

  static open(directory: string, organism: string): Promise<OutcomeArchive> {
    return OutcomeArchive.over((onRecord) => AppendFile.open(join(directory, "outcomes"), onRecord), organism);
  }

  /** @param openFile opens the records, handing over each that is there */
  static async over(
    openFile: (onRecord: (payload: Uint8Array, offset: number) => void) => Promise<RecordFile>,
    organism: string,
  ): Promise<OutcomeArchive> {
    const index: OutcomeIndex = new Map();
    const file = await openFile((payload, offset) => {
      const { outcome } = decode(CERTIFIED, payload);
      const slots = index.get(outcome.stage) ?? new Map();
      slots.set(outcome.slot, { offset, length: payload.length });
      index.set(outcome.stage, slots);
    });
    return new OutcomeArchive(organism, file, index);
  }

  has(stage: string, slot: bigint): boolean {
    return this.#index.get(stage)?.has(slot) ?? false;
  }

  /** Keeps a certified outcome; the second of a slot and stage is ignored. */
  async put(certified: CertifiedOutcome): Promise<void> {
    const { stage, slot } = certified.outcome;
    if (this.has(stage, slot)) return;
    const key = `${stage}/${slot}`;
    if (this.#recent.has(key)) return;
    this.#recent.set(key, certified);
    for (const listener of this.#listeners) listener(certified);
    const payload = encode(CERTIFIED, certified);
    const offset = await this.#file.append(payload);
    const slots = this.#index.get(stage) ?? new Map();
    slots.set(slot, { offset, length: payload.length });
    this.#index.set(stage, slots);
    if (this.#recent.size > RECENT) {
      const [oldest] = this.#recent.keys();
      if (oldest !== undefined) this.#recent.delete(oldest);
    }
  }

  recent(stage: string, slot: bigint): CertifiedOutcome | undefined {
    return this.#recent.get(`${stage}/${slot}`);
  }

  async get(stage: string, slot: bigint): Promise<CertifiedOutcome | undefined> {
    const recent = this.recent(stage, slot);
    if (recent !== undefined) return recent;
    const at = this.#index.get(stage)?.get(slot);
    return at === undefined ? undefined : decode(CERTIFIED, await this.#file.read(at.offset, at.length));
  }

  /** Also what is still on its way to the disk: its listeners have been told already. */
  #heldSlots(stage: string): Set<bigint> {
    const slots = new Set(this.#index.get(stage)?.keys() ?? []);
    for (const { outcome } of this.#recent.values()) if (outcome.stage === stage) slots.add(outcome.slot);
    return slots;
  }

  /** The oldest slot held for a stage. */
  oldest(stage: string): bigint | undefined {
    let oldest: bigint | undefined;
    for (const slot of this.#index.get(stage)?.keys() ?? []) if (oldest === undefined || slot < oldest) oldest = slot;
    return oldest;
  }

  newest(stage: string): bigint | undefined {
    let newest: bigint | undefined;
    for (const slot of this.#index.get(stage)?.keys() ?? []) if (newest === undefined || slot > newest) newest = slot;
    return newest;
  }

  /**
   * Outcomes of `stages` from `fromSlot` on: what is held, by slot, then live ones as they are certified. 0: live only.
   * @throws Fault SLOW_CONSUMER when the reader lags WATCH_BUFFER_MAX events behind
   */
  async *watch(stages: readonly string[], fromSlot: bigint, signal: AbortSignal): AsyncGenerator<CertifiedOutcome> {
    const queue: CertifiedOutcome[] = [];
    let overflow = false;
    let wake: () => void = () => undefined;
    const listener: Listener = (certified) => {
      if (!stages.includes(certified.outcome.stage) || certified.outcome.slot < fromSlot) return;
      if (queue.length >= WATCH_BUFFER_MAX) overflow = true;
      else queue.push(certified);
      wake();
    };
    const stop = (): void => wake();
    this.#listeners.add(listener);
    signal.addEventListener("abort", stop);
    try {
      const sent = new Set<string>();
      if (fromSlot > 0n) {
        const held = stages.flatMap((stage) =>
          [...this.#heldSlots(stage)].filter((slot) => slot >= fromSlot).map((slot) => ({ stage, slot })),
        );
        held.sort((a, b) =>
          a.slot < b.slot ? -1 : a.slot > b.slot ? 1 : stages.indexOf(a.stage) - stages.indexOf(b.stage),
        );
        for (const { stage, slot } of held) {
          if (signal.aborted) return;
          const certified = await this.get(stage, slot);
          if (certified === undefined) continue;
          sent.add(`${stage}/${slot}`);
          yield certified;
        }
      }
      while (!signal.aborted) {
        if (overflow) throw faultsOf(this.#organism, COMMON_FAULTS)("SLOW_CONSUMER");
        const next = queue.shift();
        if (next === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (queue.length > 0 || signal.aborted) resolve();
          });
        } else if (!sent.has(`${next.outcome.stage}/${next.outcome.slot}`)) yield next;
      }
    } finally {
      this.#listeners.delete(listener);
      signal.removeEventListener("abort", stop);
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
