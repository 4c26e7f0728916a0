/**
 * The smallest organism that has everything the committee offers: clients' additions, closes that wait for what they list, agreed
 * facts, shares of the certificate key as promises in the bulk lane, two stages that follow from each other, bodies.
 */
import {
  bytes,
  concat,
  count,
  encode,
  equalBytes,
  fixed,
  type Infer,
  list,
  map,
  optional,
  struct,
  u64,
  union,
} from "@lattice/organism/codec/codec.ts";
import { blsSign, blsVerify } from "@lattice/organism/crypto/bls.ts";
import { blake3, hashBytes } from "@lattice/organism/crypto/hash.ts";
import { combineSignatures } from "@lattice/organism/crypto/threshold.ts";
import { type LatticeConfig, slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { type Duty, type Machine, refuse } from "@lattice/organism/machine.ts";
import type { MemberHost, OrganismDefinition } from "@lattice/organism/service.ts";
import { z } from "zod";

export const ORGANISM = "relay";
/** What was added to a slot, and what its shares open. */
export const INPUT = "input";
export const OPENED = "opened";
export const STAGES = [INPUT, OPENED] as const;
const WEATHER = "weather";
const WEATHER_EVERY = 3n;
const ID = fixed(32);
const INPUTS_MAX = 256;

export const COMMAND = union({
  add: struct({ slot: u64, id: ID, padding: bytes(1 << 20) }),
  /** Of the certificate key, over what was decided for INPUT. */
  share: struct({ slot: u64, signature: fixed(96) }),
});
export type LogCommand = Infer<typeof COMMAND>;

const SLOT = struct({ inputs: list(ID, INPUTS_MAX), weather: optional(bytes(64)), shares: map(count, fixed(96), 16) });
const STATE = struct({
  slots: map(u64, SLOT, 10_000),
  /** Everything that was ever added, in the order of the log. */
  ledger: list(struct({ slot: u64, id: ID }), 100_000),
});
export interface LogState {
  slots: Map<bigint, { inputs: Uint8Array[]; weather: Uint8Array | undefined; shares: Map<number, Uint8Array> }>;
  ledger: { slot: bigint; id: Uint8Array }[];
}

export const INPUT_COMMITMENT = list(ID, INPUTS_MAX);

export type LogDuty = Duty & { readonly type: "close" | "weather" | "share" };

/** What shares of a slot sign. */
export function openingDigest(slot: bigint, commitment: Uint8Array): Uint8Array {
  return hashBytes("sim/opening", concat(encode(u64, slot), commitment));
}

function weatherOf(slot: bigint): Uint8Array {
  return hashBytes("sim/weather", encode(u64, slot));
}

export function makeMachine(config: LatticeConfig): Machine<LogState, LogCommand, LogDuty> {
  const slotOf = (state: LogState, slot: bigint) => {
    const known = state.slots.get(slot);
    if (known !== undefined) return known;
    const fresh = { inputs: [], weather: undefined, shares: new Map<number, Uint8Array>() };
    state.slots.set(slot, fresh);
    return fresh;
  };
  const inputs = (state: LogState, slot: bigint): readonly Uint8Array[] => state.slots.get(slot)?.inputs ?? [];
  return {
    organism: ORGANISM,
    stages: STAGES,
    upstream: [],
    state: STATE,
    command: COMMAND,
    genesis: () => ({ slots: new Map(), ledger: [] }),
    apply(state, event, context) {
      if (event.type === "command") {
        const { author, command } = event;
        const { slot } = command;
        if (command.type === "add") {
          if (!context.open(INPUT, slot)) return refuse("SLOT_DECIDED", `slot ${slot}`);
          if (inputs(state, slot).length >= INPUTS_MAX) return refuse("TOO_LARGE", `slot ${slot} is full`);
          slotOf(state, slot).inputs.push(command.id.slice());
          state.ledger.push({ slot, id: command.id.slice() });
          return undefined;
        }
        const input = context.outcome(INPUT, slot);
        if (input?.kind !== "result") return refuse("TOO_EARLY", `nothing to open in slot ${slot}`);
        if (!context.open(OPENED, slot)) return refuse("SLOT_DECIDED", `slot ${slot}`);
        const member = context.rosterAt(slot).members[author];
        if (member === undefined) return refuse("NOT_AUTHOR", "no such member");
        if (state.slots.get(slot)?.shares.has(author) === true) return refuse("DUPLICATE", `member ${author}`);
        const digest = openingDigest(slot, input.commitment);
        if (!blsVerify(member.certificateShare, digest, command.signature)) return refuse("BAD_SHARE", `${author}`);
        const { shares } = slotOf(state, slot);
        shares.set(author, command.signature.slice());
        const { quorum } = context.quorumAt(slot);
        if (shares.size < quorum) return undefined;
        const signature = combineSignatures(
          [...shares].map(([index, share]) => ({ index, signature: share })),
          quorum,
        );
        const commitment = hashBytes("sim/opened", signature);
        context.decide({ stage: OPENED, slot, kind: "result", commitment });
        return undefined;
      }
      const { type } = event;
      if (type === "closed") {
        const ids = inputs(state, event.slot);
        const commitment = encode(INPUT_COMMITMENT, [...ids]);
        const kind = ids.length === 0 ? "empty" : "result";
        const bodyHash = kind === "empty" ? undefined : blake3(bodyOf(ids));
        const decision = { stage: INPUT, slot: event.slot, kind, commitment } as const;
        if (!context.decide(bodyHash === undefined ? decision : { ...decision, bodyHash })) return undefined;
        if (kind === "empty") context.decide({ stage: OPENED, slot: event.slot, kind, commitment: new Uint8Array() });
      } else if (type === "skipped" && event.stage === INPUT) {
        context.decide({ stage: OPENED, slot: event.slot, kind: "empty", commitment: new Uint8Array() });
      } else if (type === "agreed") slotOf(state, event.slot).weather = event.fact.slice();
      return undefined;
    },
    duties(state, view) {
      const duties: LogDuty[] = [];
      const now = slotAt(config, view.nowMs);
      const lowest = view.floor(OPENED);
      for (let slot = lowest; slot <= now && slot < lowest + 4n; slot++) {
        const input = view.outcome(INPUT, slot);
        if (input === undefined && !view.hasClosed(INPUT, slot)) {
          if (view.nowMs >= slotStartMs(config, slot) + config.slotMs / 4) {
            duties.push({ type: "close", key: `close/${slot}`, slot, promise: true });
          }
        }
        if (slot % WEATHER_EVERY === 0n && input === undefined && view.said(WEATHER, slot) === undefined) {
          duties.push({ type: "weather", key: `weather/${slot}`, slot, promise: false });
        }
        if (input?.kind !== "result" || view.outcome(OPENED, slot) !== undefined) continue;
        if (state.slots.get(slot)?.shares.has(view.self) === true) continue;
        duties.push({ type: "share", key: `share/${slot}`, slot, promise: true, lane: "bulk" });
      }
      return duties;
    },
    skipAtMs: (stage, slot) => slotStartMs(config, slot) + config.slotMs * (stage === INPUT ? 1.5 : 2.5),
    hasInput: (state, _stage, slot, wanted) => inputs(state, slot).some((id) => equalBytes(id, wanted)),
    bodyOf: (state, stage, slot) => (stage === INPUT ? bodyOf(inputs(state, slot)) : undefined),
    forGuests: (state, below) => ({
      slots: new Map([...state.slots].filter(([slot]) => slot >= below)),
      ledger: state.ledger,
    }),
    collapse(state, slot) {
      for (const key of [...state.slots.keys()]) if (key < slot) state.slots.delete(key);
    },
  };
}

function bodyOf(ids: readonly Uint8Array[]): Uint8Array {
  return concat(new Uint8Array([1]), ...ids);
}

export type LogHost = MemberHost<LogState, LogCommand, Record<string, never>>;

/** A member as clients see it. */
export interface LogDoor {
  /** Puts an addition into the log. @returns undefined once it has been applied here; the reason when it was refused */
  add(slot: bigint, id: Uint8Array, padding: Uint8Array): Promise<string | undefined>;
}

export function makeDefinition(
  onDoor: (self: number, door: LogDoor) => void,
): OrganismDefinition<LogState, LogCommand, LogDuty, Record<string, never>> {
  return {
    organism: ORGANISM,
    settings: z.object({}) as unknown as z.ZodType<Record<string, never>>,
    createMachine: (config) => makeMachine(config),
    createNode(host) {
      /** By slot: what this member will not close without. */
      const received = new Map<bigint, Uint8Array[]>();
      onDoor(host.self, {
        async add(slot, id, padding) {
          received.set(slot, [...(received.get(slot) ?? []), id]);
          const refusal = await host.submit({ type: "machine", command: { type: "add", slot, id, padding } });
          return refusal?.reason;
        },
      });
      return {
        async execute({ type, slot }) {
          if (type === "weather") return { type: "saw", topic: WEATHER, slot, fact: weatherOf(slot) };
          if (type === "close") {
            // What has not come back by now may never: only what it has seen in the log is waited for.
            const here = host.state().slots.get(slot)?.inputs ?? [];
            const own = received.get(slot) ?? [];
            return { type: "close", stage: INPUT, slot, inputs: own.length > 0 ? [...own] : [...here] };
          }
          const input = host.outcome(INPUT, slot);
          const shares = host.sharesAt(slot);
          if (input?.kind !== "result" || shares === undefined) return undefined;
          const signature = blsSign(shares.certificateShare, openingDigest(slot, input.commitment));
          return { type: "machine", command: { type: "share", slot, signature } };
        },
        services: [],
        bodies: { [INPUT]: { readers: "everyone", publicWhenLanded: true } },
      };
    },
  };
}
