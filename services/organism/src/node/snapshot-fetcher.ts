/**
 * A snapshot from elsewhere: from peers, in turn, or from an archive. Nobody is believed: the certificate must verify
 * under the config's key and the bytes must hash to it, or the next one is tried (log.md §6).
 */
import { equalBytes } from "../codec/codec.ts";
import {
  type CertifiedCheckpoint,
  type Checkpoint,
  checkCheckpoint,
  guestHash,
  stateHash,
} from "../committee/checkpoint.ts";
import { eraOfEpoch } from "../committee/eras.ts";
import { signReader } from "../committee/reader.ts";
import type { SigningKey } from "../crypto/ed25519.ts";
import { Fault } from "../fault.ts";
import { committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { type Clock, pause, type Timers } from "../ports.ts";
import type { CallOptions } from "../rpc/client.ts";
import { fromWireCheckpoint } from "./committee-wire.ts";
import type { KnownEras } from "./era-book.ts";
import { nodeTimers } from "./node-timers.ts";
import { type CommitteeClient, type ConnectCommittee, connectOverGrpc } from "./outcome-follower.ts";
import { SNAPSHOT_CHUNK_BYTES, signSnapshotRequest } from "./snapshot-service.ts";
import type { SnapshotStore } from "./snapshot-store.ts";

/** A certified state: what a member goes on from. */
export interface FetchedSnapshot {
  readonly certified: CertifiedCheckpoint;
  readonly state: Uint8Array;
  /** Who gave it, for people. */
  readonly source: string;
}

/** Whoever may have snapshots. Nothing that it says is believed. */
export interface SnapshotSource {
  readonly name: string;
  held(): Promise<readonly CertifiedCheckpoint[]>;
  state(certified: CertifiedCheckpoint): Promise<Uint8Array | undefined>;
}

export interface FetchOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  /** Asked in this order. */
  readonly sources: readonly SnapshotSource[];
  /** Which would do: not older than what the member has and the log still continues. */
  readonly wanted: (certified: CertifiedCheckpoint) => boolean;
  readonly log: Logger;
  /** The eras known; the pinned one only when left out. */
  readonly eras?: KnownEras | undefined;
  /** Asks members for their eras; called when a certificate does not verify under those known. */
  readonly learnEras?: (() => Promise<void>) | undefined;
  /** What is fetched: what members keep, or what guests are given. */
  readonly view?: "full" | "guest";
}

/**
 * The newest snapshot that any source lists, is wanted, certified and whole, preferring newer over closer, of the newest
 * era that a checkpoint of any source is certified in.
 * Undefined when nobody has one.
 */
export async function fetchSnapshot(options: FetchOptions): Promise<FetchedSnapshot | undefined> {
  const { config, organism, sources, wanted, log, view = "full", eras, learnEras } = options;
  const fits = (
    { stateBytes, stateHash: full, guestBytes, guestHash: guest }: Checkpoint,
    state: Uint8Array,
  ): boolean =>
    view === "full"
      ? state.length === stateBytes && equalBytes(stateHash(state), full)
      : state.length === guestBytes && equalBytes(guestHash(state), guest);
  const verified: { readonly source: SnapshotSource; readonly certified: CertifiedCheckpoint; readonly era: number }[] =
    [];
  const listed = await Promise.all(
    sources.map(async (source) => {
      try {
        return await source.held();
      } catch (error) {
        log.info("a source of snapshots does not answer", { source: source.name, ...errorFields(error) });
        return [];
      }
    }),
  );
  const judge = (certified: CertifiedCheckpoint) => checkCheckpoint(config, organism, certified, eras?.(organism));
  // An era that began while this process was away: its certificates say nothing before its key is known.
  if (listed.flat().some((certified) => judge(certified)?.reason === "BAD_CERTIFICATE")) await learnEras?.();
  const learned = eras?.(organism);
  for (const [index, source] of sources.entries()) {
    for (const certified of listed[index] ?? []) {
      const refusal = judge(certified);
      if (refusal !== undefined) log.warn("a checkpoint that does not verify", { source: source.name, ...refusal });
      else {
        const era = learned === undefined ? 0 : eraOfEpoch(learned, certified.checkpoint.epoch).number;
        verified.push({ source, certified, era });
      }
    }
  }
  // Where a later key has certified anything, the log has come to its era: before it whoever has an old key may speak.
  const newest = Math.max(...verified.map(({ era }) => era));
  const offers = verified.filter(({ era, certified }) => era === newest && wanted(certified));
  // A stable sort: sources of the same checkpoint stay in their order.
  offers.sort((a, b) => compareCheckpoints(b.certified, a.certified));
  for (const { source, certified } of offers) {
    const { checkpoint } = certified;
    try {
      const state = await source.state(certified);
      if (state !== undefined && fits(checkpoint, state)) {
        return { certified, state, source: source.name };
      }
      log.warn("a snapshot is not what its certificate says; another source is tried", {
        source: source.name,
        position: checkpoint.position,
      });
    } catch (error) {
      log.warn("a snapshot could not be fetched; another source is tried", {
        source: source.name,
        position: checkpoint.position,
        ...errorFields(error),
      });
    }
  }
  return undefined;
}

/** By (generation, position). */
export function compareCheckpoints(a: CertifiedCheckpoint, b: CertifiedCheckpoint): number {
  const [one, other] = [a.checkpoint, b.checkpoint];
  if (one.generation !== other.generation) return one.generation < other.generation ? -1 : 1;
  return one.position < other.position ? -1 : one.position > other.position ? 1 : 0;
}

/** How long an archive may take to say what it has: whoever starts has peers to go on with. */
const ARCHIVE_PATIENCE_MS = 10_000;

/** An archive that members share. */
export function archiveSource(
  store: SnapshotStore & { refresh(): Promise<void> },
  timers: Timers = nodeTimers,
): SnapshotSource {
  return {
    name: "the archive",
    async held() {
      const answered = new AbortController();
      const looking = store.refresh().then(() => true);
      const late = pause(timers, ARCHIVE_PATIENCE_MS, answered.signal).then(() => false);
      try {
        if (!(await Promise.race([looking, late]))) throw new Error("no answer in time");
      } finally {
        answered.abort();
        looking.catch(() => undefined);
      }
      return store.held();
    },
    state: ({ checkpoint }) => store.load(checkpoint),
  };
}

export interface PeerOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly self: number;
  readonly memberKey: SigningKey;
  readonly clock: Clock;
  /** `host:port` */
  readonly address: string;
  /** gRPC when left out. */
  readonly connect?: ConnectCommittee;
}

const HELD_DEADLINE_MS = 3000;
const HELD_MAX = 64;
/** The longest silence in a stream, and how often it is taken up again where it ended. */
const STREAM_IDLE_MS = 5000;
const RESUMES_MAX = 3;
/** A whole state may take so long, and this for each of its pieces: whoever trickles is left for the next source. */
const STATE_MS = 20_000;
const PIECE_MS = 500;

/** What both streams of states are made of. */
interface Piece {
  readonly offset: bigint;
  readonly data: Uint8Array;
}

/** Whoever answers at an address, asked for its list; `fetch` streams `bytes` bytes from an offset on. */
function remoteSource(
  { address, connect = connectOverGrpc }: { readonly address: string; readonly connect?: ConnectCommittee },
  committee: Uint8Array,
  bytesOf: (checkpoint: Checkpoint) => number,
  fetch: (
    client: CommitteeClient,
    checkpoint: Checkpoint,
    offset: bigint,
    patience: Pick<CallOptions, "idleMs" | "deadlineMs">,
  ) => AsyncIterable<Piece>,
): SnapshotSource {
  return {
    name: address,
    async held() {
      const client = connect(address, committee);
      try {
        const { held } = await client.getCheckpoint({}, { deadlineMs: HELD_DEADLINE_MS });
        return held.slice(0, HELD_MAX).flatMap((each) => fromWireCheckpoint(each) ?? []);
      } finally {
        client.close();
      }
    },
    async state({ checkpoint }) {
      const client = connect(address, committee);
      // The certificate bounds what can come.
      const bytes = bytesOf(checkpoint);
      const state = new Uint8Array(bytes);
      const patience = {
        idleMs: STREAM_IDLE_MS,
        deadlineMs: STATE_MS + Math.ceil(bytes / SNAPSHOT_CHUNK_BYTES) * PIECE_MS,
      };
      let at = 0;
      try {
        for (let attempt = 0; at < bytes; attempt++) {
          const before = at;
          try {
            for await (const { offset, data } of fetch(client, checkpoint, BigInt(at), patience)) {
              // Whole pieces only: a byte now and then would keep the stream alive for ever.
              const length = Math.min(SNAPSHOT_CHUNK_BYTES, bytes - at);
              if (offset !== BigInt(at) || data.length !== length) return undefined;
              state.set(data, at);
              at += data.length;
              if (at === bytes) break;
            }
          } catch (error) {
            // Taken up again where it ended, as long as that brings anything.
            const tooSlow = error instanceof Fault && error.code === "DEADLINE_EXCEEDED";
            if (tooSlow || at === before || attempt >= RESUMES_MAX) throw error;
            continue;
          }
          if (at < bytes && (at === before || attempt >= RESUMES_MAX)) return undefined;
        }
        return state;
      } finally {
        client.close();
      }
    },
  };
}

/** One member of the same committee. */
export function peerSource(options: PeerOptions): SnapshotSource {
  const { config, organism, self, memberKey, clock } = options;
  const committee = committeeId(config, organism);
  return remoteSource(
    options,
    committee,
    ({ stateBytes }) => stateBytes,
    (client, { generation, position }, offset, patience) => {
      const signedAtMs = BigInt(clock.nowMs());
      const request = { committee, generation, position, index: self, signedAtMs };
      const signature = signSnapshotRequest(memberKey, request);
      return client.fetchSnapshot(
        { generation, position, offset, requesterIndex: self, signedAtMs, signature },
        patience,
      );
    },
  );
}

export interface GuestSourceOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  /** The reader's own key, and tickets for it (committee/reader.ts). */
  readonly key: SigningKey;
  readonly tickets: readonly Uint8Array[];
  readonly clock: Clock;
  /** `host:port` */
  readonly address: string;
  /** gRPC when left out. */
  readonly connect?: ConnectCommittee;
}

/** One member, asked for what guests are given. */
export function guestSource(options: GuestSourceOptions): SnapshotSource {
  const { config, organism, key, tickets, clock } = options;
  const committee = committeeId(config, organism);
  return remoteSource(
    options,
    committee,
    ({ guestBytes }) => guestBytes,
    (client, { generation, position }, offset, patience) => {
      const signedAtMs = BigInt(clock.nowMs());
      const signature = signReader(key, { committee, what: "snapshot", position, key: key.publicKey, signedAtMs });
      const reader = { key: key.publicKey, tickets: [...tickets], signedAtMs, signature };
      return client.fetchGuestSnapshot({ generation, position, offset, reader }, patience);
    },
  );
}
