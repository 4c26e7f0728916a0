/** An organism that keeps blocks of bytes for ever, as large a state as one likes: for benchmarks and the soak. */
import { z } from "zod";
import { bytes, encode, list, struct, u64 } from "../src/codec/codec.ts";
import { type LatticeConfig, slotStartMs } from "../src/identity/lattice-config.ts";
import type { Duty, Machine } from "../src/machine.ts";
import type { OrganismDefinition } from "../src/service.ts";

export const BLOCK_BYTES = 64 * 1024;
/** Shorter ones are counted and forgotten. */
const KEPT_FROM_BYTES = 1024;
const COMMAND = struct({ block: bytes(BLOCK_BYTES) });
const STATE = struct({ said: u64, blocks: list(bytes(BLOCK_BYTES), 4096) });
const COMMITMENT = struct({ said: u64 });

export interface BlockCommand {
  readonly block: Uint8Array;
}
export interface BlockState {
  said: bigint;
  blocks: Uint8Array[];
}
export type BlockDuty = Duty & { readonly type: "close" };

function machine(config: LatticeConfig): Machine<BlockState, BlockCommand, BlockDuty> {
  return {
    organism: "relay",
    stages: ["accepted"],
    upstream: [],
    state: STATE,
    command: COMMAND,
    genesis: () => ({ said: 0n, blocks: [] }),
    apply(state, event, context) {
      if (event.type === "command") {
        state.said += 1n;
        if (event.command.block.length >= KEPT_FROM_BYTES) state.blocks.push(event.command.block.slice());
      } else if (event.type === "closed") {
        const commitment = encode(COMMITMENT, { said: state.said });
        context.decide({ stage: "accepted", slot: event.slot, kind: "result", commitment });
      }
      return undefined;
    },
    duties(_state, view) {
      const slot = view.floor("accepted");
      if (view.nowMs < slotStartMs(config, slot) || view.hasClosed("accepted", slot)) return [];
      return [{ type: "close", key: `close/${slot}`, slot, promise: true }];
    },
    skipAtMs: (_stage, slot) => slotStartMs(config, slot) + config.slotMs * 1000,
    hasInput: () => false,
    forGuests: (state) => state,
    collapse: () => undefined,
  };
}

export const blockDefinition: OrganismDefinition<BlockState, BlockCommand, BlockDuty, Record<string, never>> = {
  organism: "relay",
  settings: z.object({}) as unknown as z.ZodType<Record<string, never>>,
  createMachine: machine,
  createNode: () => ({
    execute: async (duty) => ({ type: "close", stage: "accepted", slot: duty.slot, inputs: [] }),
    services: [],
    bodies: {},
  }),
};
