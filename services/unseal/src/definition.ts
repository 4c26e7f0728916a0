/** unseal, as the runtime runs it. */
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { SETTINGS, type Settings } from "./config.ts";
import { createMachine, STAGE } from "./core/machine.ts";
import type { UnsealCommand, UnsealDuty, UnsealState } from "./core/types.ts";
import { Effects } from "./node/effects.ts";
import { unsealService } from "./node/service.ts";

export const definition: OrganismDefinition<UnsealState, UnsealCommand, UnsealDuty, Settings> = {
  organism: "unseal",
  settings: SETTINGS,
  createMachine,
  createNode(host) {
    const effects = new Effects(host);
    const isPublic = host.config.unseal.content.exposure === "public";
    return {
      execute: (duty) => effects.execute(duty),
      services: [unsealService(host, () => effects.openings)],
      bodies: { [STAGE]: { readers: isPublic ? "everyone" : ["atelier"], publicWhenLanded: false } },
      decided: ({ slot }) => effects.decided(slot),
      start: () => effects.start(),
      stop: () => effects.stop(),
    };
  },
};
