/**
 * Tells a member that has lost its view of the log, alone, from one whose log is lost for all (docs/decisions/0030): a quorum of
 * others goes on reading along one chain, past everything that this member has read; fewer where frauds are proven.
 *
 * Then nothing was certified on what it alone had read: whatever q members signed, one honest member of any q others has read
 * too, on the chain that it goes on with. Others that read on along two chains show nothing of the kind.
 */
import { toHex } from "../codec/codec.ts";
import type { HeadStatement } from "../committee/heads.ts";
import type { Quorum } from "../committee/roster.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { everyWhenDone, type Timers } from "../ports.ts";

/** How often enough others must have read on: members that stop for the end of a generation still take in what they kept, once. */
const ADVANCES = 2;
/** Beyond every log: whoever is asked for the head there gives its newest. */
const NEWEST = 2n ** 63n;

/** What another member has signed just now of the chain that it reads. */
export type ReadHead = Pick<HeadStatement, "position" | "head" | "newest">;

/**
 * How many others it takes, of those whose keys are not blocked. Each proven fraud is one fewer that may be corrupt among them:
 * with b proven, whoever may have signed on what this member alone has read are itself, n − 1 − c that do not show the other
 * chain, and f − b of the c that do, fewer than q for c = q − b. And q − b on one chain leave too few for the same on another,
 * so no two members change sides past each other.
 */
export function othersNeeded({ quorum, faults }: Quorum, blocked: number): number {
  return quorum - Math.min(blocked, faults);
}

export class OthersGoOn {
  /** How far this member is known to have read. */
  readonly #furthest: bigint;
  /** How far each had read when they were last seen to have read on, or for the first time. */
  #before = new Map<number, bigint>();
  #advances = 0;
  #asks = NEWEST;

  constructor(furthest: bigint) {
    this.#furthest = furthest;
  }

  /** Where to ask for heads at the next look: where enough were. */
  get asks(): bigint {
    return this.#asks;
  }

  /**
   * Others that stand still for some looks have read on all the same, in their own time: a committee without a quorum writes
   * seldom. Those that do not answer, or not for the position that was asked for, have to be seen anew from the beginning.
   *
   * @param seen the answer of each other member whose key is not blocked, asked at `asks`, in this generation
   * @param needed see `othersNeeded`
   */
  look(seen: ReadonlyMap<number, ReadHead>, needed: number): boolean {
    const there = [...seen].filter(([, { position }]) => position === this.#asks);
    if (there.length < needed || this.#asks <= this.#furthest) {
      this.#advances = 0;
      this.#countFrom(seen, needed);
      return false;
    }
    const together = new Map<string, number>();
    for (const [member, { head, newest }] of there) {
      const before = this.#before.get(member);
      if (before === undefined) this.#before.set(member, newest);
      if (before === undefined || newest <= before) continue;
      const chain = toHex(head);
      together.set(chain, (together.get(chain) ?? 0) + 1);
    }
    if (Math.max(0, ...together.values()) < needed) return false;
    this.#advances += 1;
    this.#countFrom(seen, needed);
    return this.#advances >= ADVANCES;
  }

  #countFrom(seen: ReadonlyMap<number, ReadHead>, needed: number): void {
    this.#before = new Map([...seen].map(([member, { newest }]) => [member, newest]));
    const positions = [...this.#before.values()].sort((a, b) => (a < b ? 1 : -1));
    this.#asks = positions[needed - 1] ?? NEWEST;
  }
}

export interface OthersWatchOptions {
  /** How far this member is known to have read. */
  readonly furthest: bigint;
  /** Asks the others what they read, and whom they show proofs against. */
  readonly integrity: {
    heads(position: bigint): Promise<ReadonlyMap<number, ReadHead>>;
    blockedAnywhere(): Promise<ReadonlySet<number>>;
  };
  readonly quorum: () => Quorum;
  readonly everyMs: number;
  /** It does not matter any more. */
  readonly over: () => boolean;
  /** They go on without this member: called until it succeeds. */
  readonly onGoOn: () => Promise<void>;
  readonly timers: Timers;
  readonly logger: Logger;
}

/** Asks the others, now and then, whether they go on: until they do, or it is `over`. */
export function watchOthers(options: OthersWatchOptions): void {
  const { furthest, integrity, quorum, everyMs, over, onGoOn, timers, logger } = options;
  const others = new OthersGoOn(furthest);
  const stop = everyWhenDone(timers, everyMs, async () => {
    if (over()) return stop();
    try {
      const [heads, blocked] = await Promise.all([integrity.heads(others.asks), integrity.blockedAnywhere()]);
      const unblocked = new Map([...heads].filter(([member]) => !blocked.has(member)));
      if (!others.look(unblocked, othersNeeded(quorum(), blocked.size)) || over()) return;
      await onGoOn();
      stop();
    } catch (error) {
      logger.warn("others could not be asked, or not be followed; they are asked again", errorFields(error));
    }
  });
}
