/** relay, as the runtime runs it. */
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { type RelaySettings, SETTINGS } from "./config.ts";
import { createMachine } from "./core/machine.ts";
import type { RelayCommand, RelayDuty, RelayState } from "./core/types.ts";
import { createNode } from "./node/effects.ts";

export const definition: OrganismDefinition<RelayState, RelayCommand, RelayDuty, RelaySettings> = {
  organism: "relay",
  settings: SETTINGS,
  createMachine: (config) => createMachine(config),
  createNode,
};
