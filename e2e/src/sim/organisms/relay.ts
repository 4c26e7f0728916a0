/** relay in a simulation: says in the log what the simulated sequencer signed. */
import { encode } from "@lattice/organism/codec/codec.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import type { RelaySettings } from "@lattice/relay/config.ts";
import { SIGNED_ACKNOWLEDGEMENT } from "@lattice/relay/core/codec.ts";
import { createMachine } from "@lattice/relay/core/machine.ts";
import {
  ACKNOWLEDGEMENT_TOPIC,
  type RelayCommand,
  type RelayDuty,
  type RelayState,
} from "@lattice/relay/core/types.ts";
import { definition as real } from "@lattice/relay/definition.ts";
import type { SimChain } from "../chain.ts";

export function simRelay(
  chain: () => SimChain,
  reachable: (self: number) => boolean,
): OrganismDefinition<RelayState, RelayCommand, RelayDuty, RelaySettings> {
  return {
    organism: "relay",
    settings: real.settings,
    createMachine: (config) => createMachine(config),
    createNode: (host) => ({
      async execute({ slot }) {
        const signed = reachable(host.self) ? chain().acknowledgement(slot) : undefined;
        if (signed === undefined) return undefined;
        return { type: "saw", topic: ACKNOWLEDGEMENT_TOPIC, slot, fact: encode(SIGNED_ACKNOWLEDGEMENT, signed) };
      },
      services: [],
      bodies: {},
    }),
  };
}
