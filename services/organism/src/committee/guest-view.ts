/**
 * What of a committee's state guests are given: auditors and integrators that follow its log from a checkpoint on.
 *
 * Everything about slots in which nothing is to be decided any more goes, but for what was decided: who closed, saw or
 * voted, what was bid, sealed or shared. What later entries are judged by stays: numbers and previous hashes of every
 * author's lanes, floors, blocked keys, rosters, spent nonces.
 *
 * Law: applying entries and taking the view commute. A guest that applies the same entries as members comes to the view
 * of their state, so a quorum certifies the guest's state at each checkpoint as well. `apply` therefore never judges a
 * later entry by anything that is left out here.
 */
import { bytes, type Codec, CodecError, decode, literal, struct, Writer } from "../codec/codec.ts";
import type { Duty, Machine } from "../machine.ts";
import { CERTIFIED_CHECKPOINT, type CertifiedCheckpoint, STATE_BYTES_MAX } from "./checkpoint.ts";
import type { Snapshots } from "./checkpoint-votes.ts";
import { SHARED_STATE, type SharedState, type SlotRecord } from "./state.ts";

/** What a guest keeps to go on from. Whoever reads it checks the certificate and the hash again. */
export const GUEST_STATE = struct({
  version: literal(1),
  certified: CERTIFIED_CHECKPOINT as Codec<CertifiedCheckpoint>,
  view: bytes(STATE_BYTES_MAX),
});

/** The lowest slot of which a stage is undecided. */
export function lowestUndecided(floors: ReadonlyMap<string, bigint>, first: bigint): bigint {
  let lowest: bigint | undefined;
  for (const floor of floors.values()) if (lowest === undefined || floor < lowest) lowest = floor;
  return lowest ?? first;
}

/** Nothing of the original is changed. */
function guestSlot(record: SlotRecord, decided: boolean): SlotRecord {
  const stages = [...record.stages].map(
    ([stage, each]) => [stage, each.certified ? { ...each, votes: new Map() } : each] as const,
  );
  const agreed = [...record.facts].filter(([, fact]) => fact.agreed);
  return {
    stages: new Map(stages),
    closes: decided ? new Map() : record.closes,
    facts: decided ? new Map(agreed.map(([topic]) => [topic, { agreed: true, by: new Map() }])) : record.facts,
    observed: new Map([...record.observed].map(([key, certified]) => [key, { ...certified, signers: [] }])),
  };
}

function guestShared(shared: SharedState, decidedBelow: bigint): SharedState {
  return {
    ...shared,
    view: "guest",
    authors: shared.authors.map((author) => ({ ...author, join: undefined })),
    slots: new Map([...shared.slots].map(([slot, record]) => [slot, guestSlot(record, slot < decidedBelow)])),
    checkpoints: new Map(),
  };
}

const SNAPSHOT_BYTES_MIN = 4096;

/** Canonical bytes: u32 length of the shared part ‖ shared part ‖ the organism's. */
function writeState<State>(writer: Writer, shared: SharedState, codec: Codec<State>, inner: State): void {
  const lengthAt = writer.length;
  writer.u32(0);
  SHARED_STATE.write(writer, shared);
  writer.patchU32(lengthAt, writer.length - lengthAt - 4);
  codec.write(writer, inner);
}

/** The state, canonically. */
export function encodeState<State>(shared: SharedState, codec: Codec<State>, inner: State): Uint8Array {
  const writer = new Writer();
  writeState(writer, shared, codec, inner);
  return writer.bytes();
}

/**
 * The state as members keep it and as guests are given it. What they have in common is encoded once: nothing is kept
 * from one checkpoint to the next, so there is nothing that could be older than the state.
 * @param expectedBytes of both together: what does not grow while it is written is not copied about
 */
export function encodeSnapshots<State, Command, D extends Duty>(
  shared: SharedState,
  machine: Machine<State, Command, D>,
  inner: State,
  expectedBytes = 0,
): Snapshots {
  const writer = new Writer(Math.max(expectedBytes, SNAPSHOT_BYTES_MIN));
  writer.expectAgain();
  writeState(writer, shared, machine.state, inner);
  const state = writer.bytes();
  const decidedBelow = lowestUndecided(shared.floors, shared.collapsedBelow);
  writeState(writer, guestShared(shared, decidedBelow), machine.state, machine.forGuests(inner, decidedBelow));
  return { state, guest: writer.bytes(state.length) };
}

/** What members keep, as it is given to guests. @throws CodecError when the bytes are not a member's state */
export function guestViewOf<State, Command, D extends Duty>(
  machine: Machine<State, Command, D>,
  snapshot: Uint8Array,
): Uint8Array {
  const { shared, inner } = decodeState(machine.state, snapshot);
  if (shared.view !== "full") throw new CodecError("view", "a full state expected");
  return encodeGuestView(shared, machine, inner);
}

/** The inverse of `encodeState`. @throws CodecError */
export function decodeState<State>(
  codec: Codec<State>,
  snapshot: Uint8Array,
): { readonly shared: SharedState; readonly inner: State } {
  if (snapshot.length < 4) throw new CodecError("", "4 bytes expected");
  const length = new DataView(snapshot.buffer, snapshot.byteOffset, snapshot.byteLength).getUint32(0);
  const shared = decode(SHARED_STATE, snapshot.subarray(4, 4 + length));
  return { shared, inner: decode(codec, snapshot.subarray(4 + length)) };
}

/** The state as guests are given it, canonically. */
export function encodeGuestView<State, Command, D extends Duty>(
  shared: SharedState,
  machine: Machine<State, Command, D>,
  inner: State,
): Uint8Array {
  const decidedBelow = lowestUndecided(shared.floors, shared.collapsedBelow);
  return encodeState(guestShared(shared, decidedBelow), machine.state, machine.forGuests(inner, decidedBelow));
}
