/** zipnet in a simulation: the real node half; its door is called directly. */
import { encode } from "@lattice/organism/codec/codec.ts";
import { BROADCAST_BODY } from "@lattice/organism/outcomes/zipnet.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import type { Settings } from "@lattice/zipnet/config.ts";
import { createMachine } from "@lattice/zipnet/core/machine.ts";
import { BROADCAST_STAGE, type Command, type State, type ZipnetDuty } from "@lattice/zipnet/core/types.ts";
import { definition as real } from "@lattice/zipnet/definition.ts";
import { Effects, type Host } from "@lattice/zipnet/node/effects.ts";

/** What clients and aggregators reach of a server. */
export interface ZipnetDoor {
  readonly host: Host;
  readonly effects: Effects;
}

export function simZipnet(
  onDoor: (self: number, door: ZipnetDoor) => void,
): OrganismDefinition<State, Command, ZipnetDuty, Settings> {
  return {
    organism: "zipnet",
    settings: real.settings,
    createMachine,
    createNode(host) {
      const effects = new Effects(host);
      onDoor(host.self, { host, effects });
      return {
        execute: (duty) => effects.execute(duty),
        services: [],
        bodies: { [BROADCAST_STAGE]: { readers: "everyone", publicWhenLanded: true } },
        decided({ stage, slot }) {
          effects.decided(slot, stage);
          const messages = stage === BROADCAST_STAGE ? host.state().broadcasts.get(slot) : undefined;
          if (messages !== undefined) void host.bodies.put(slot, encode(BROADCAST_BODY, messages));
        },
      };
    },
  };
}
