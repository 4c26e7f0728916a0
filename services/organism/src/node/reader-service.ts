/**
 * `ReadLog`: the committee's log for owners that keep or audit it, and for guests that follow it. `FetchGuestSnapshot`:
 * the certified state that guests begin with (committee/guest-view.ts).
 */
import type { CommitteeService, Reader } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { equalBytes, toHex } from "../codec/codec.ts";
import { type Checkpoint, guestHash } from "../committee/checkpoint.ts";
import { admitReader, type ReaderRequest, standingOf } from "../committee/reader.ts";
import type { Roster } from "../committee/roster.ts";
import { COMMON_FAULTS, faultsOf, invariant } from "../fault.ts";
import { type LatticeConfig, slotAt } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { type Clock, HistoryGone, type Log, type Timers } from "../ports.ts";
import type { Handlers } from "../rpc/define.ts";
import { withHeartbeat } from "../rpc/heartbeat.ts";
import { logTail } from "./log-tail.ts";
import { SNAPSHOT_CHUNK_BYTES } from "./snapshot-service.ts";
import type { SnapshotStore } from "./snapshot-store.ts";

/** Readers served at the same time; more would hold up what the member is for. Guests leave some places to members. */
export const READERS_MAX = 8;
export const GUESTS_MAX = 6;
/** Of them with one key: one that reads, and one that comes back before its old connection is known to be gone. */
export const READERS_PER_KEY = 2;

export interface ReaderServiceOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly committee: Uint8Array;
  /** The roster of now and those to come. */
  readonly rosters: () => readonly Roster[];
  readonly log: Log & { readonly generation: bigint };
  readonly snapshots: SnapshotStore;
  /** A member's state as guests are given it. */
  readonly guestView: (state: Uint8Array) => Uint8Array;
  /** The one that this member is in. */
  readonly generation: () => bigint;
  /** The newest position that this member has applied. */
  readonly newest: () => bigint;
  readonly clock: Clock;
  readonly timers: Timers;
}

export function readerMethods(
  options: ReaderServiceOptions,
): Pick<Handlers<typeof CommitteeService>, "readLog" | "fetchGuestSnapshot"> {
  const { config, organism, committee, log, snapshots, clock, timers } = options;
  const fault = faultsOf(organism, COMMON_FAULTS);
  const policy = () => ({
    rosters: options.rosters(),
    acl: config[organism].acl,
    throwAway: config.throwAway,
    nowMs: clock.nowMs(),
    slot: slotAt(config, clock.nowMs()),
  });

  function admit(what: ReaderRequest["what"], position: bigint, reader: Reader | undefined) {
    if (reader === undefined) throw fault("READER_NOT_ADMITTED");
    const { key, signedAtMs, signature, tickets } = reader;
    const standing = admitReader({ committee, what, position, key, signedAtMs }, tickets, signature, policy());
    if (standing === undefined) throw fault("READER_NOT_ADMITTED");
    return { key, tickets, standing };
  }
  type Admitted = ReturnType<typeof admit>;

  const served = new Set<Admitted>();
  /** @throws Fault READERS_BUSY. @returns what gives the place back */
  function takePlace(reader: Admitted): () => void {
    const all = [...served];
    const guests = all.filter(({ standing }) => standing === "guest").length;
    const own = all.filter(({ key }) => equalBytes(key, reader.key)).length;
    const noPlace = served.size >= READERS_MAX || (reader.standing === "guest" && guests >= GUESTS_MAX);
    if (noPlace || own >= READERS_PER_KEY) throw fault("READERS_BUSY");
    served.add(reader);
    return () => void served.delete(reader);
  }

  const tooOld = (position: bigint, first: bigint) =>
    fault("LOG_TOO_OLD", `position ${position} is not served; the first one is ${first}`, {
      first_position: first.toString(),
    });

  // Made from the member's own snapshots, each once while it is held: it costs as much as a checkpoint.
  const views = new Map<string, Promise<Uint8Array | undefined>>();
  async function make(of: Checkpoint): Promise<Uint8Array | undefined> {
    const state = await snapshots.load(of);
    const view = state === undefined ? undefined : options.guestView(state);
    invariant(
      view === undefined || equalBytes(guestHash(view), of.guestHash),
      "guests get what was certified for them",
    );
    return view;
  }
  async function viewOf(of: Checkpoint): Promise<Uint8Array | undefined> {
    const nameOf = (each: Checkpoint): string => toHex(each.stateHash);
    const name = nameOf(of);
    const held = new Set(snapshots.held().map(({ checkpoint }) => nameOf(checkpoint)));
    for (const each of views.keys()) if (!held.has(each)) views.delete(each);
    const making = views.get(name) ?? make(of);
    views.set(name, making);
    try {
      const view = await making;
      if (view === undefined) views.delete(name);
      return view;
    } catch (error) {
      views.delete(name);
      throw error;
    }
  }

  return {
    async *fetchGuestSnapshot({ generation, position, offset, reader }, call) {
      const admitted = admit("snapshot", position, reader);
      const held = snapshots
        .held()
        .find(({ checkpoint: each }) => each.generation === generation && each.position === position);
      if (held === undefined || offset > BigInt(held.checkpoint.guestBytes)) {
        throw fault("CHECKPOINT_UNKNOWN", `this member has no snapshot of position ${position} with ${offset} bytes`);
      }
      const leave = takePlace(admitted);
      try {
        const view = await viewOf(held.checkpoint);
        if (view === undefined) throw fault("CHECKPOINT_UNKNOWN", `the snapshot of position ${position} is gone`);
        for (let at = Number(offset); at < view.length && !call.signal.aborted; at += SNAPSHOT_CHUNK_BYTES) {
          yield { offset: BigInt(at), data: view.subarray(at, at + SNAPSHOT_CHUNK_BYTES) };
        }
      } finally {
        leave();
      }
    },

    async *readLog({ fromPosition, untilPosition, generation, reader }, call) {
      const admitted = admit("log", fromPosition, reader);
      const current = options.generation();
      if (generation !== current) {
        throw fault("LOG_TOO_OLD", `generation ${generation} is not served; this member is in generation ${current}`, {
          generation: current.toString(),
        });
      }
      // It has begun, and its log is still to be made: positions of the one before would be taken for its own.
      if (log.generation !== generation) {
        throw fault("LOG_TOO_OLD", `the log of generation ${generation} is not there yet`, {
          generation: current.toString(),
        });
      }
      const kept = await log.firstPosition();
      // A guest has the state of a checkpoint; what came before is not for guests.
      const oldest = snapshots.held().findLast(({ checkpoint }) => checkpoint.generation === generation)
        ?.checkpoint.position;
      const firstForGuests = oldest === undefined ? options.newest() + 1n : oldest + 1n;
      const first = admitted.standing === "guest" && firstForGuests > kept ? firstForGuests : kept;
      if (fromPosition < first) throw tooOld(fromPosition, first);
      const leave = takePlace(admitted);
      const over = new AbortController();
      let judged = slotAt(config, clock.nowMs());
      try {
        const messages = logTail(log, fromPosition, AbortSignal.any([call.signal, over.signal]));
        for await (const beat of withHeartbeat(messages, config, clock, call.signal, timers)) {
          // What comes now stands elsewhere: positions have begun anew.
          if (options.generation() !== generation) {
            over.abort();
            return;
          }
          const judging = policy();
          if (judging.slot !== judged) {
            judged = judging.slot;
            const standing = standingOf({ committee, key: admitted.key }, admitted.tickets, judging);
            if (standing !== admitted.standing) {
              over.abort();
              throw fault("READER_NOT_ADMITTED");
            }
          }
          if (beat.type === "heartbeat") {
            yield { event: { case: "newestPosition", value: options.newest() } };
            continue;
          }
          const { position, raw } = beat.item;
          yield { event: { case: "message", value: { position, raw } } };
          if (untilPosition > 0n && position >= untilPosition) return;
        }
      } catch (error) {
        if (error instanceof HistoryGone) throw tooOld(fromPosition, error.firstPosition);
        throw error;
      } finally {
        leave();
      }
    },
  };
}
