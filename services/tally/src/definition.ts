/** tally, as the runtime runs it. */
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { SETTINGS, type TallySettings } from "./config.ts";
import { createMachine } from "./core/machine.ts";
import type { TallyCommand, TallyDuty, TallyState } from "./core/types.ts";
import { createNode } from "./node/effects.ts";

export const definition: OrganismDefinition<TallyState, TallyCommand, TallyDuty, TallySettings> = {
  organism: "tally",
  settings: SETTINGS,
  createMachine,
  createNode,
};
