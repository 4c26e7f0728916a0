/**
 * The eras of all six committees as this process knows them (committee/eras.ts): what it was handed, what it kept from
 * before, and what it has learned since. A chain that is known stays: another beginning of the same era is refused.
 */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { CodecError, decode, encode, fromHex, toHex } from "../codec/codec.ts";
import type { EraLinks } from "../committee/era-links.ts";
import { type Era, type Eras, newestEra, pinnedEras } from "../committee/eras.ts";
import { CERTIFIED, type CertifiedOutcome } from "../committee/outcome.ts";
import { checkRoster } from "../committee/roster.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import { writeWholeFile } from "./whole-file.ts";

/** Which eras of a committee are known; the first at least. */
export type KnownEras = (organism: Organism) => Eras;

/** What the config says, for whoever knows no more. */
export function pinned(config: LatticeConfig): KnownEras {
  return (organism) => pinnedEras(config, organism);
}

/** By organism, oldest first: as kits carry them. */
export type LinksByOrganism = { readonly [O in Organism]?: EraLinks };

export class EraBook {
  readonly #config: LatticeConfig;
  readonly #eras = new Map<Organism, Eras>();
  readonly #links = new Map<Organism, CertifiedOutcome[]>();
  readonly #listeners: ((organism: Organism, era: Era) => void)[] = [];

  constructor(config: LatticeConfig) {
    this.#config = config;
  }

  /** Called from now on for every era that was not known before. */
  onLearned(listener: (organism: Organism, era: Era) => void): void {
    this.#listeners.push(listener);
  }

  readonly of: KnownEras = (organism) => this.#eras.get(organism) ?? pinnedEras(this.#config, organism);

  /** The certified rosters that began them, oldest first. */
  links(organism: Organism): EraLinks {
    return this.#links.get(organism) ?? [];
  }

  /**
   * Takes the next link of a chain; one that is known changes nothing.
   * @returns what keeps it from standing in the chain
   */
  learn(organism: Organism, link: CertifiedOutcome): string | undefined {
    const eras = this.of(organism);
    const checked = checkRoster(this.#config, organism, link, eras);
    if ("problem" in checked) return checked.problem;
    if (checked.begins === undefined) return undefined;
    this.#eras.set(organism, [...eras, checked.begins]);
    this.#links.set(organism, [...this.links(organism), link]);
    for (const listener of this.#listeners) listener(organism, checked.begins);
    return undefined;
  }

  /** Takes whole chains. @returns the first thing that keeps a link from standing */
  learnAll(links: LinksByOrganism): string | undefined {
    for (const organism of ORGANISMS) {
      for (const link of links[organism] ?? []) {
        const problem = this.learn(organism, link);
        if (problem !== undefined) return `${organism}: era after ${newestEra(this.of(organism)).number}: ${problem}`;
      }
    }
    return undefined;
  }

  get all(): LinksByOrganism {
    return Object.fromEntries(this.#links);
  }
}

const HEX = z.string().regex(/^(?:[0-9a-f]{2})*$/, "lower-case hex expected");
export const LINKS_JSON = z.strictObject(
  Object.fromEntries(ORGANISMS.map((organism) => [organism, z.array(HEX).optional()])) as Record<
    Organism,
    z.ZodOptional<z.ZodArray<typeof HEX>>
  >,
);

/** @throws CodecError when an item is no certified outcome */
export function linksFromJson(json: z.infer<typeof LINKS_JSON>): LinksByOrganism {
  return Object.fromEntries(
    ORGANISMS.flatMap((organism) => {
      const items = json[organism];
      return items === undefined ? [] : [[organism, items.map((hex) => decode(CERTIFIED, fromHex(hex)))]];
    }),
  );
}

export function linksToJson(links: LinksByOrganism): z.infer<typeof LINKS_JSON> {
  return Object.fromEntries(
    ORGANISMS.flatMap((organism) => {
      const items = links[organism] ?? [];
      return items.length === 0 ? [] : [[organism, items.map((link) => toHex(encode(CERTIFIED, link)))]];
    }),
  );
}

/** What a process kept of the eras that it knew. Nothing is believed: `learnAll` judges it. Undefined: nothing, or no such file. */
export function readEraFile(path: string): LinksByOrganism | undefined {
  try {
    return linksFromJson(LINKS_JSON.parse(JSON.parse(readFileSync(path, "utf8"))));
  } catch (error) {
    const known = error instanceof CodecError || error instanceof SyntaxError || error instanceof z.ZodError;
    if (known || (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Where a process keeps the eras that it knows: one writing after the other, the newest last. */
export class EraFile {
  readonly #path: string;
  #writing: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  read(): LinksByOrganism | undefined {
    return readEraFile(this.#path);
  }

  write(links: LinksByOrganism): Promise<void> {
    const writing = this.#writing.then(() => writeWholeFile(this.#path, `${JSON.stringify(linksToJson(links))}\n`));
    this.#writing = writing.catch(() => undefined);
    return writing;
  }
}
