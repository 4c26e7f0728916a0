/** `GetCheckpoint` and `FetchSnapshot`: what a member holds on disk, for peers that join and for whoever trims the log. */
import type { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { type Codec, count, fixed, type Infer, list, struct, toHex, u64 } from "../codec/codec.ts";
import type { CertifiedCheckpoint } from "../committee/checkpoint.ts";
import type { Roster } from "../committee/roster.ts";
import { type SigningKey, signTagged, verifyTagged } from "../crypto/ed25519.ts";
import { hash } from "../crypto/hash.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import type { Organism } from "../identity/organisms.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import type { Clock } from "../ports.ts";
import type { Handlers } from "../rpc/define.ts";
import { StreamPlaces } from "../rpc/stream-places.ts";
import { toWireCheckpoint } from "./committee-wire.ts";
import type { SnapshotStore } from "./snapshot-store.ts";

export const SNAPSHOT_CHUNK_BYTES = 256 * 1024;
/** Snapshots sent at the same time; more would hold up what the member is for. Nobody keeps all of them from the others. */
export const SNAPSHOT_STREAMS_MAX = 4;
/** A signed request is good for this long either way. */
const REQUEST_AGE_MAX_MS = 30_000;
const REQUEST_TAG = "lattice/snapshot/request/v1";
const HELD_TAG = "lattice/checkpoint/held/v1";
const HELD_MAX = 64;

const REQUEST = struct({ committee: UNIQUE_ID, generation: u64, position: u64, index: count, signedAtMs: u64 });
const HELD_ITEM = struct({ generation: u64, position: u64, stateHash: fixed(32) });
const HELD = struct({
  committee: UNIQUE_ID,
  index: count,
  signedAtMs: u64,
  held: list(HELD_ITEM as Codec<Infer<typeof HELD_ITEM>>, HELD_MAX),
});

/** What a member says it holds; signed, so that whoever trims need not trust the way it came. */
export interface HeldStatement {
  readonly committee: Uint8Array;
  readonly index: number;
  readonly signedAtMs: bigint;
  readonly held: readonly CertifiedCheckpoint[];
}

function heldDigest({ held, ...statement }: HeldStatement): Uint8Array {
  const items = held.map(({ checkpoint: { generation, position, stateHash } }) => ({
    generation,
    position,
    stateHash,
  }));
  return hash(HELD_TAG, HELD, { ...statement, held: items });
}

export function signHeld(key: SigningKey, statement: HeldStatement): Uint8Array {
  return signTagged(key, HELD_TAG, heldDigest(statement));
}

/** False for anything but this member's own recent statement. */
export function verifyHeld(roster: Roster, statement: HeldStatement, signature: Uint8Array, nowMs: number): boolean {
  const member = roster.members[statement.index];
  if (member === undefined || statement.held.length > HELD_MAX) return false;
  if (Math.abs(nowMs - Number(statement.signedAtMs)) > REQUEST_AGE_MAX_MS) return false;
  return verifyTagged(member.memberKey, HELD_TAG, heldDigest(statement), signature);
}

export type SnapshotRequest = Infer<typeof REQUEST>;

export function signSnapshotRequest(key: SigningKey, request: SnapshotRequest): Uint8Array {
  return signTagged(key, REQUEST_TAG, hash(REQUEST_TAG, REQUEST, request));
}

/** The key of the member that signed a request, in hex: as one of these rosters has it in that seat. */
export function signerOf(
  rosters: readonly Roster[],
  index: number,
  tag: string,
  digest: Uint8Array,
  signature: Uint8Array,
): string | undefined {
  for (const { members } of rosters) {
    const key = members[index]?.memberKey;
    if (key !== undefined && verifyTagged(key, tag, digest, signature)) return toHex(key);
  }
  return undefined;
}

export interface SnapshotServiceOptions {
  readonly organism: Organism;
  readonly committee: Uint8Array;
  readonly self: number;
  /** The roster of now and those to come: a newcomer fetches its state before its first slot. */
  readonly rosters: () => readonly Roster[];
  readonly memberKey: SigningKey;
  readonly store: SnapshotStore;
  readonly clock: Clock;
}

export function snapshotMethods(
  options: SnapshotServiceOptions,
): Pick<Handlers<typeof CommitteeService>, "getCheckpoint" | "fetchSnapshot"> {
  const { organism, committee, self, rosters, memberKey, store, clock } = options;
  const fault = faultsOf(organism, COMMON_FAULTS);
  const places = new StreamPlaces<AbortController>(SNAPSHOT_STREAMS_MAX);
  return {
    async getCheckpoint() {
      const held = store.held().slice(0, HELD_MAX);
      const signedAtMs = BigInt(clock.nowMs());
      const signature = signHeld(memberKey, { committee, index: self, signedAtMs, held });
      return { held: held.map(toWireCheckpoint), memberIndex: self, signedAtMs, signature };
    },

    async *fetchSnapshot({ generation, position, offset, requesterIndex, signedAtMs, signature }, call) {
      const request = { committee, generation, position, index: requesterIndex, signedAtMs };
      const recent = Math.abs(clock.nowMs() - Number(signedAtMs)) <= REQUEST_AGE_MAX_MS;
      const digest = hash(REQUEST_TAG, REQUEST, request);
      const requester = recent ? signerOf(rosters(), requesterIndex, REQUEST_TAG, digest, signature) : undefined;
      if (requester === undefined) throw fault("SNAPSHOT_NOT_ADMITTED");
      const total = store
        .held()
        .find(({ checkpoint: each }) => each.generation === generation && each.position === position)
        ?.checkpoint.stateBytes;
      if (total === undefined || offset > BigInt(total)) {
        throw fault("CHECKPOINT_UNKNOWN", `this member has no snapshot of position ${position} with ${offset} bytes`);
      }
      const own = new AbortController();
      places.take(requester, own)?.abort();
      try {
        for (let at = Number(offset); at < total && !call.signal.aborted; ) {
          if (own.signal.aborted) throw fault("SNAPSHOTS_BUSY");
          const data = await store.read({ generation, position }, at, SNAPSHOT_CHUNK_BYTES);
          if (data === undefined || data.length === 0) {
            throw fault("CHECKPOINT_UNKNOWN", `the snapshot of position ${position} is gone`);
          }
          yield { offset: BigInt(at), data };
          at += data.length;
        }
      } finally {
        places.leave(requester, own);
      }
    },
  };
}
