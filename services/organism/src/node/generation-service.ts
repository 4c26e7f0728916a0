/** `ExchangeGenerationEnd` and `FetchEntries`: what members tell and hand each other when their stream is lost. */
import type { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { count, type Infer, struct, u64 } from "../codec/codec.ts";
import type { Roster } from "../committee/roster.ts";
import { type SigningKey, signTagged } from "../crypto/ed25519.ts";
import { hash } from "../crypto/hash.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import type { Organism } from "../identity/organisms.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import type { Clock } from "../ports.ts";
import type { Handlers } from "../rpc/define.ts";
import { StreamPlaces } from "../rpc/stream-places.ts";
import type { EntryTail } from "./entry-tail.ts";
import { signerOf } from "./snapshot-service.ts";

/** A signed request is good for this long either way. */
const REQUEST_AGE_MAX_MS = 30_000;
const REQUEST_TAG = "lattice/entries/request/v1";
/** Messages of one exchange, and bytes of them: a report is 64 KiB at most, a proposal holds one of each member. */
const MESSAGES_MAX = 128;
const EXCHANGE_BYTES_MAX = 2 * 1024 * 1024;
/** Streams of entries at the same time. */
const ENTRY_STREAMS_MAX = 8;

const REQUEST = struct({
  committee: UNIQUE_ID,
  generation: u64,
  fromPosition: u64,
  toPosition: u64,
  index: count,
  signedAtMs: u64,
});
export type EntriesRequest = Infer<typeof REQUEST>;

export function signEntriesRequest(key: SigningKey, request: EntriesRequest): Uint8Array {
  return signTagged(key, REQUEST_TAG, hash(REQUEST_TAG, REQUEST, request));
}

/** What a member knows about the end of a generation, by hash. */
export interface EndGossip {
  readonly generation: bigint;
  messages(): ReadonlyMap<string, Uint8Array>;
  receive(messages: readonly Uint8Array[]): void;
}

export interface GenerationServiceOptions {
  readonly organism: Organism;
  readonly committee: Uint8Array;
  readonly rosters: () => readonly Roster[];
  readonly clock: Clock;
  readonly tail: Pick<EntryTail, "read"> | undefined;
  readonly gossip: () => EndGossip | undefined;
}

/**
 * What is not known over there, within what one exchange may carry, the short first: a leader that has told each side
 * another proposal leaves two that neither side takes from the other, and these must not keep votes back.
 */
export function missing(own: ReadonlyMap<string, Uint8Array>, known: readonly Uint8Array[]): Uint8Array[] {
  const there = new Set(known.map((each) => Buffer.from(each).toString("hex")));
  const unknown = [...own].flatMap(([name, raw]) => (there.has(name) ? [] : [raw]));
  const found: Uint8Array[] = [];
  let bytes = 0;
  for (const raw of unknown.sort((a, b) => a.length - b.length).slice(0, MESSAGES_MAX)) {
    bytes += raw.length;
    if (bytes > EXCHANGE_BYTES_MAX && found.length > 0) break;
    found.push(raw);
  }
  return found;
}

/** Of what the other side says, as much as one exchange may carry: each has a signature to be checked. */
export function heard(messages: readonly Uint8Array[]): Uint8Array[] {
  return messages.slice(0, MESSAGES_MAX).map((each) => each.slice());
}

export function knownHashes(own: ReadonlyMap<string, Uint8Array>): Uint8Array[] {
  return [...own.keys()].slice(0, MESSAGES_MAX).map((each) => new Uint8Array(Buffer.from(each, "hex")));
}

export function generationMethods(
  options: GenerationServiceOptions,
): Pick<Handlers<typeof CommitteeService>, "exchangeGenerationEnd" | "fetchEntries"> {
  const { organism, committee, rosters, clock, tail, gossip } = options;
  const fault = faultsOf(organism, COMMON_FAULTS);
  const places = new StreamPlaces<AbortController>(ENTRY_STREAMS_MAX);
  return {
    async exchangeGenerationEnd({ generation, known, messages }) {
      const own = gossip();
      if (own === undefined) throw fault("NOT_READY", "this member does not take part in ends of generations");
      if (generation !== own.generation) return { generation: own.generation, known: [], messages: [] };
      // Each is signed by its author and judged; who brings it does not matter.
      own.receive(heard(messages));
      const held = own.messages();
      return { generation, known: knownHashes(held), messages: missing(held, known) };
    },

    async *fetchEntries({ generation, fromPosition, toPosition, requesterIndex, signedAtMs, signature }, call) {
      const request = { committee, generation, fromPosition, toPosition, index: requesterIndex, signedAtMs };
      const recent = Math.abs(clock.nowMs() - Number(signedAtMs)) <= REQUEST_AGE_MAX_MS;
      const digest = hash(REQUEST_TAG, REQUEST, request);
      const requester = recent ? signerOf(rosters(), requesterIndex, REQUEST_TAG, digest, signature) : undefined;
      if (requester === undefined) throw fault("SNAPSHOT_NOT_ADMITTED");
      const own = new AbortController();
      places.take(requester, own)?.abort();
      try {
        for (let position = fromPosition; position <= toPosition && !call.signal.aborted; position++) {
          if (own.signal.aborted) throw fault("STREAMS_BUSY");
          const raw = await tail?.read(generation, position);
          if (raw === undefined) throw fault("LOG_TOO_OLD", `this member does not hold position ${position} any more`);
          yield { position, raw };
        }
      } finally {
        places.leave(requester, own);
      }
    },
  };
}
