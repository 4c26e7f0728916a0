/** The six organisms, for commands that run their machines offline. */
import { definition as atelier } from "@lattice/atelier/definition.ts";
import { definition as offer } from "@lattice/offer/definition.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Duty } from "@lattice/organism/machine.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { definition as relay } from "@lattice/relay/definition.ts";
import { definition as tally } from "@lattice/tally/definition.ts";
import { definition as unseal } from "@lattice/unseal/definition.ts";
import { definition as zipnet } from "@lattice/zipnet/definition.ts";

/** Calls `use` with an organism's definition, whose types only it knows. */
export function withDefinition<R>(
  organism: Organism,
  use: <S, C, D extends Duty, T>(definition: OrganismDefinition<S, C, D, T>) => R,
): R {
  switch (organism) {
    case "zipnet":
      return use(zipnet);
    case "unseal":
      return use(unseal);
    case "offer":
      return use(offer);
    case "atelier":
      return use(atelier);
    case "relay":
      return use(relay);
    case "tally":
      return use(tally);
  }
}
