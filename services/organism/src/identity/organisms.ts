/** The six organisms, in pipeline order. The order is part of the canonical encodings: append only. */
export const ORGANISMS = ["zipnet", "unseal", "offer", "atelier", "relay", "tally"] as const;

/** The name of one organism. */
export type Organism = (typeof ORGANISMS)[number];

export function isOrganism(value: string): value is Organism {
  return (ORGANISMS as readonly string[]).includes(value);
}
