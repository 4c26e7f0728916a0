/** offer, as the runtime takes it. */
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { SETTINGS, type Settings } from "./config.ts";
import { createMachine } from "./core/machine.ts";
import type { Command, OfferDuty, State } from "./core/types.ts";
import { createNode } from "./node/service.ts";

export const definition: OrganismDefinition<State, Command, OfferDuty, Settings> = {
  organism: "offer",
  settings: SETTINGS,
  createMachine,
  createNode,
};
