/** atelier, as the runtime runs it. */
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { type AtelierSettings, SETTINGS } from "./config.ts";
import { createMachine } from "./core/machine.ts";
import type { AtelierCommand, AtelierDuty, AtelierState } from "./core/types.ts";
import { createNode } from "./node/effects.ts";

export const definition: OrganismDefinition<AtelierState, AtelierCommand, AtelierDuty, AtelierSettings> = {
  organism: "atelier",
  settings: SETTINGS,
  createMachine: (config) => createMachine(config),
  createNode,
};
