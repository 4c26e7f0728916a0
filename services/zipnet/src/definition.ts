/** Zipnet as the runtime runs it. */
import { encode } from "@lattice/organism/codec/codec.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import { BROADCAST_BODY } from "@lattice/organism/outcomes/zipnet.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { SETTINGS, type Settings } from "./config.ts";
import { createMachine } from "./core/machine.ts";
import { BROADCAST_STAGE, type Command, type State, type ZipnetDuty } from "./core/types.ts";
import { Effects } from "./node/effects.ts";
import { zipnetService } from "./node/service.ts";

export const definition: OrganismDefinition<State, Command, ZipnetDuty, Settings> = {
  organism: "zipnet",
  settings: SETTINGS,
  createMachine,
  createNode(host) {
    const effects = new Effects(host);
    return {
      execute: (duty) => effects.execute(duty),
      services: [zipnetService(host, effects)],
      // Everything in a broadcast is sealed: there is nothing to hold back.
      bodies: { [BROADCAST_STAGE]: { readers: "everyone", publicWhenLanded: true } },
      decided({ stage, slot }) {
        effects.decided(slot, stage);
        const messages = stage === BROADCAST_STAGE ? host.state().broadcasts.get(slot) : undefined;
        if (messages === undefined) return;
        host.bodies
          .put(slot, encode(BROADCAST_BODY, messages))
          .catch((error: unknown) => host.log.error("the body was not kept", errorFields(error)));
      },
    };
  },
};
