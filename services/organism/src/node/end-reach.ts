/**
 * The state at a proposed end of a generation: from what this member has applied or kept, continued with what others hand
 * over, or from a certified state of theirs. Nobody is believed: what is walked must come out at the chain head of the end.
 */
import { CodecError, equalBytes } from "../codec/codec.ts";
import type { Checkpoint } from "../committee/checkpoint.ts";
import type { Applied, Committee } from "../committee/committee.ts";
import type { GenerationEndPoint } from "../committee/generation-end.ts";
import { RulesUnknown } from "../committee/rules.ts";
import type { SigningKey } from "../crypto/ed25519.ts";
import type { Duty } from "../machine.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Clock } from "../ports.ts";
import type { EntryTail } from "./entry-tail.ts";
import type { KnownEras } from "./era-book.ts";
import { signEntriesRequest } from "./generation-service.ts";
import type { CommitteeClient } from "./outcome-follower.ts";
import { type FetchedSnapshot, fetchSnapshot, type SnapshotSource } from "./snapshot-fetcher.ts";
import type { SnapshotStore } from "./snapshot-store.ts";

const ENTRIES_IDLE_MS = 5000;
/** What handing over entries may take at the most, and so much more for each: one that trickles is left for the next. */
const ENTRIES_MS = 20_000;
const ENTRY_MS = 10;

export interface EndReachOptions<State, Command, D extends Duty> {
  readonly committee: Committee<State, Command, D>;
  /** A committee in the state of the very beginning. */
  readonly fresh: () => Committee<State, Command, D>;
  readonly self: number;
  readonly memberKey: SigningKey;
  /** The eras known; the pinned one only when left out. */
  readonly eras?: KnownEras;
  /** Epochs whose certificate key is over for this member: what it says is not taken. */
  readonly keyIsOver: (epoch: bigint) => boolean;
  readonly tail: Pick<EntryTail, "read">;
  readonly snapshots: Pick<SnapshotStore, "held" | "load">;
  /** Whoever may have snapshots now. */
  readonly sources: () => readonly SnapshotSource[];
  /** Connections to the other members. */
  readonly peers: () => readonly CommitteeClient[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The beginning of the generation that follows an end. */
export interface ReachedEnd {
  readonly end: GenerationEndPoint;
  /** Up to the end, oldest first. */
  readonly heads: readonly Uint8Array[];
  readonly checkpoint: Checkpoint;
  readonly state: Uint8Array;
  /** What this member had not applied of it; undefined when it was not walked from this member's own state. */
  readonly applied: readonly Applied[] | undefined;
}

/** Where to begin, and who has the entries from there. */
interface Way {
  /** This member's own state as it is, or its certified ones. */
  readonly base: "live" | "kept";
  /** Undefined: nobody else. */
  readonly peer: CommitteeClient | undefined;
  readonly ownTail: boolean;
}

export class EndReach<State, Command, D extends Duty> {
  readonly #options: EndReachOptions<State, Command, D>;
  /** The one that was reached last. */
  #reached: ReachedEnd | undefined;
  /** A certified state of this generation that others have handed over, because this member has none that leads to a proposed end. */
  #base: FetchedSnapshot | undefined;
  /** Entries of a proposed end are beyond this build. */
  #beyond: RulesUnknown | undefined;
  readonly #closing = new AbortController();

  constructor(options: EndReachOptions<State, Command, D>) {
    this.#options = options;
  }

  /** Nothing more is asked for, and what is under way is not waited for. */
  close(): void {
    this.#closing.abort();
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** The generation is over: what was found for it is of no use any more. */
  forget(): void {
    this.#reached = undefined;
    this.#base = undefined;
  }

  /**
   * The state at the beginning of the generation that follows `end`, from what is kept here and what others hand over;
   * undefined when that does not lead there.
   * @throws RulesUnknown when entries on the way are beyond this build
   */
  async state(end: GenerationEndPoint): Promise<ReachedEnd | undefined> {
    const known = this.#reached;
    if (known !== undefined && known.end.position === end.position && equalBytes(known.end.head, end.head))
      return known;
    const { committee, peers } = this.#options;
    const held = committee.headAt(end.position);
    const onOwnChain = held !== undefined && equalBytes(held, end.head);
    // The own chain goes through it, or may be continued to it; otherwise somebody else's from a common checkpoint.
    const ways: Way[] = [];
    const others = peers();
    if (committee.position <= end.position) {
      ways.push({ base: "live", peer: undefined, ownTail: false });
      for (const peer of others) ways.push({ base: "live", peer, ownTail: false });
    }
    if (onOwnChain || committee.position < end.position) ways.push({ base: "kept", peer: undefined, ownTail: true });
    for (const peer of others) ways.push({ base: "kept", peer, ownTail: false });
    this.#beyond = undefined;
    for (const way of ways) {
      for (const base of way.base === "live" ? [committee.snapshot()] : await this.#bases(end.position)) {
        const reached = await this.#walk(base, end, way);
        if (this.#closed) return undefined;
        if (reached !== undefined) return this.#keep(reached);
      }
    }
    // Others keep entries since their second newest checkpoint only: whoever has lost its own begins with theirs.
    const base = await this.#fetchBase(end.position);
    for (const peer of base === undefined ? [] : others) {
      const reached = await this.#walk(base, end, { base: "kept", peer, ownTail: false });
      if (this.#closed) return undefined;
      if (reached !== undefined) return this.#keep(reached);
    }
    // A quorum has announced the rules under which they lie: this build could only wait.
    if (this.#beyond !== undefined) throw this.#beyond;
    return undefined;
  }

  #keep(reached: ReachedEnd): ReachedEnd {
    this.#reached = reached;
    return reached;
  }

  /** The newest certified state up to a position that anybody hands over, when it is newer than this member's own. */
  async #fetchBase(position: bigint): Promise<Uint8Array | undefined> {
    const { committee, snapshots, sources, logger, eras, keyIsOver } = this.#options;
    const { generation } = committee;
    const known = this.#base?.certified.checkpoint.position;
    if (known !== undefined && known > position) this.#base = undefined;
    const newest = [this.#base?.certified, ...snapshots.held()]
      .flatMap((each) => (each === undefined ? [] : [each.checkpoint]))
      .filter((each) => each.generation === generation && each.position <= position)
      .reduce((most, each) => (each.position > most ? each.position : most), 0n);
    const fetched = await fetchSnapshot({
      config: committee.config,
      organism: committee.organism,
      sources: sources(),
      wanted: ({ checkpoint }) =>
        checkpoint.generation === generation &&
        !keyIsOver(checkpoint.epoch) &&
        checkpoint.position > newest &&
        checkpoint.position <= position,
      log: logger,
      eras,
    });
    this.#base = fetched ?? this.#base;
    return this.#base?.state;
  }

  /** Own certified states at or below a position, the newest first; `undefined` stands for the very beginning. */
  async #bases(position: bigint): Promise<(Uint8Array | undefined)[]> {
    const { committee, snapshots } = this.#options;
    const found: (Uint8Array | undefined)[] = [];
    for (const { checkpoint } of snapshots.held()) {
      if (checkpoint.generation !== committee.generation || checkpoint.position > position) continue;
      const state = await snapshots.load(checkpoint);
      if (state !== undefined) found.push(state);
    }
    if (committee.generation === 0n) found.push(undefined);
    return found;
  }

  async #walk(
    base: Uint8Array | undefined,
    end: GenerationEndPoint,
    { base: from, peer, ownTail }: Way,
  ): Promise<ReachedEnd | undefined> {
    const { committee, fresh, tail, logger } = this.#options;
    const { generation } = committee;
    const scratch = fresh();
    if (base !== undefined) {
      try {
        scratch.restore(base);
      } catch (error) {
        if (!(error instanceof CodecError)) throw error;
        return undefined;
      }
    }
    const applied: Applied[] = [];
    try {
      const first = scratch.position + 1n;
      if (first <= end.position) {
        const entries =
          peer === undefined ? ownEntries(tail, generation, first, ownTail) : this.#fetch(peer, first, end.position);
        for await (const { position, raw } of entries) {
          if (position !== scratch.position + 1n || position > end.position) break;
          applied.push(scratch.apply(position, raw));
        }
      }
    } catch (error) {
      if (error instanceof RulesUnknown) this.#beyond = error;
      logger.debug("entries were not handed over", errorFields(error));
      return undefined;
    }
    if (scratch.position !== end.position || !equalBytes(scratch.head, end.head)) return undefined;
    const heads = [...scratch.heads];
    scratch.beginGeneration();
    return { end, heads, ...scratch.birth(), applied: from === "live" ? applied : undefined };
  }

  async *#fetch(peer: CommitteeClient, fromPosition: bigint, toPosition: bigint) {
    const { clock, self, memberKey, committee } = this.#options;
    const signedAtMs = BigInt(clock.nowMs());
    const { generation } = committee;
    const request = { committee: committee.id, generation, fromPosition, toPosition, index: self, signedAtMs };
    const signature = signEntriesRequest(memberKey, request);
    const asked = { generation, fromPosition, toPosition, requesterIndex: self, signedAtMs, signature };
    const deadlineMs = ENTRIES_MS + Number(toPosition - fromPosition + 1n) * ENTRY_MS;
    const { signal } = this.#closing;
    for await (const { position, raw } of peer.fetchEntries(asked, { idleMs: ENTRIES_IDLE_MS, deadlineMs, signal })) {
      yield { position, raw: raw.slice() };
    }
  }
}

async function* ownEntries(tail: Pick<EntryTail, "read">, generation: bigint, from: bigint, use: boolean) {
  for (let position = from; use; position++) {
    const raw = await tail.read(generation, position);
    if (raw === undefined) return;
    yield { position, raw };
  }
}
