/** The smallest organism there is: members add numbers to a slot, a close decides the sum. For tests of the runtime. */

import { z } from "zod";
import { bytes, count, encode, fixed, list, map, struct, u64, union } from "../src/codec/codec.ts";
import { hash } from "../src/crypto/hash.ts";
import { type LatticeConfig, slotStartMs } from "../src/identity/lattice-config.ts";
import { type Duty, type Machine, refuse } from "../src/machine.ts";
import type { OrganismDefinition } from "../src/service.ts";

const COMMAND = union({ add: struct({ slot: u64, amount: count, padding: bytes(4 << 20) }) });
type ToyCommand = {
  readonly type: "add";
  readonly slot: bigint;
  readonly amount: number;
  readonly padding: Uint8Array;
};
const STATE = struct({ inputs: map(u64, list(struct({ amount: count, hash: fixed(32) }), 1000), 10_000) });
type ToyState = { inputs: Map<bigint, { amount: number; hash: Uint8Array }[]> };
export type ToyDuty = Duty & { readonly type: "close" };

/** What a Close lists for one addition. */
export function additionHash(slot: bigint, amount: number): Uint8Array {
  return hash("lattice/test/add/v1", struct({ slot: u64, amount: count }), { slot, amount });
}

export const SUM = struct({ sum: count });

function toyMachine(config: LatticeConfig): Machine<ToyState, ToyCommand, ToyDuty> {
  return {
    organism: "relay",
    stages: ["accepted"],
    upstream: [],
    state: STATE,
    command: COMMAND,
    genesis: () => ({ inputs: new Map() }),
    apply(state, event, context) {
      if (event.type === "command") {
        const { slot, amount } = event.command;
        if (!context.open("accepted", slot)) return refuse("SLOT_DECIDED", `slot ${slot}`);
        const inputs = state.inputs.get(slot) ?? [];
        inputs.push({ amount, hash: additionHash(slot, amount) });
        state.inputs.set(slot, inputs);
      } else if (event.type === "closed") {
        const inputs = state.inputs.get(event.slot) ?? [];
        const sum = inputs.reduce((total, each) => total + each.amount, 0);
        const kind = inputs.length === 0 ? "empty" : "result";
        context.decide({ stage: "accepted", slot: event.slot, kind, commitment: encode(SUM, { sum }) });
      }
      return undefined;
    },
    duties(_state, view) {
      const slot = view.floor("accepted");
      if (view.nowMs < slotStartMs(config, slot) || view.hasClosed("accepted", slot)) return [];
      return [{ type: "close", key: `close/${slot}`, slot, promise: true }];
    },
    skipAtMs: (_stage, slot) => slotStartMs(config, slot) + config.slotMs,
    hasInput: (state, _stage, slot, wanted) =>
      state.inputs.get(slot)?.some((each) => Buffer.from(each.hash).equals(wanted)) ?? false,
    forGuests: (state, below) => ({ inputs: new Map([...state.inputs].filter(([slot]) => slot >= below)) }),
    collapse(state, slot) {
      for (const key of [...state.inputs.keys()]) if (key < slot) state.inputs.delete(key);
    },
  };
}

export const toyDefinition: OrganismDefinition<ToyState, ToyCommand, ToyDuty, Record<string, never>> = {
  organism: "relay",
  settings: z.object({}) as unknown as z.ZodType<Record<string, never>>,
  createMachine: (config) => toyMachine(config),
  createNode: () => ({
    execute: async (duty) => ({ type: "close", stage: "accepted", slot: duty.slot, inputs: [] }),
    services: [],
    bodies: {},
  }),
};
