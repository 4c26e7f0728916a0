/**
 * Chains of eras from the rosters that began them. Whoever has the lattice config and the links, in their order, has the
 * keys of all eras; nothing else needs to be believed. Pure.
 */
import { CodecError, decode } from "../codec/codec.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import { type Eras, pinnedEras } from "./eras.ts";
import { type CertifiedOutcome, outcomeDigest } from "./outcome.ts";
import { checkRoster, ROSTER } from "./roster.ts";

/** The certified rosters that began a committee's eras, oldest first; none for a committee that has its first key. */
export type EraLinks = readonly CertifiedOutcome[];

/** Judges a chain from the lattice config on: the eras, or what is wrong with the first link that is none. */
export function followLinks(
  config: LatticeConfig,
  organism: Organism,
  links: EraLinks,
): { readonly eras: Eras } | { readonly problem: string } {
  let eras = pinnedEras(config, organism);
  for (const [index, link] of links.entries()) {
    const checked = checkRoster(config, organism, link, eras);
    if ("problem" in checked) return { problem: `link ${index + 1}: ${checked.problem}` };
    if (checked.begins === undefined) return { problem: `link ${index + 1}: a roster that begins no era` };
    eras = [...eras, checked.begins];
  }
  return { eras };
}

/**
 * The eras of links that have been judged already, or that stand in a certified state.
 * @throws CodecError when one of them is no roster that names an era
 */
export function erasOf(config: LatticeConfig, organism: Organism, links: EraLinks): Eras {
  const later = links.map(({ outcome }) => {
    const { era, epoch, activationSlot } = decode(ROSTER, outcome.commitment);
    if (era === undefined) throw new CodecError("eras", "a roster that names no era");
    const link = outcomeDigest(outcome);
    return { number: era.number, epoch, fromSlot: activationSlot, key: era.certificateKey, link };
  });
  return [...pinnedEras(config, organism), ...later];
}
