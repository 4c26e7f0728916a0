/** `--organism <name>`, for every command that has it. */
import { isOrganism, ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { InvalidArgumentError } from "commander";

export function organism(text: string): Organism {
  if (!isOrganism(text)) throw new InvalidArgumentError(`one of ${ORGANISMS.join(", ")} expected`);
  return text;
}
