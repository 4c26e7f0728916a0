/** A run as it was exported: parsed, decoded, its rosters verified; nothing of it is believed yet. */
import { decode, encode, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { followLinks } from "@lattice/organism/committee/era-links.ts";
import type { Eras } from "@lattice/organism/committee/eras.ts";
import { CERTIFIED, type CertifiedOutcome, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { ROSTER, type Roster } from "@lattice/organism/committee/roster.ts";
import { configFromHex, type LatticeConfig, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { isOrganism, ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { verifyRoster } from "@lattice/organism/node/kit.ts";

/** The stages of a slot, by organism, in order. Said here once more on purpose: the producer's list is not asked. */
export const SLOT_STAGES: readonly (readonly [Organism, string])[] = [
  ["zipnet", "header"],
  ["zipnet", "broadcast"],
  ["unseal", "unsealed"],
  ["offer", "blind"],
  ["offer", "auction"],
  ["atelier", "candidate"],
  ["relay", "accepted"],
  ["tally", "attribution"],
];

/** The stage with which each organism ends its slot. */
export const LAST_STAGES: readonly (readonly [Organism, string])[] = SLOT_STAGES.filter(
  ([organism, stage]) => SLOT_STAGES.findLast(([other]) => other === organism)?.[1] === stage,
);

export interface SampleTransaction {
  readonly hash: string;
  readonly slot: number;
  readonly bootstrap: boolean;
}

export interface SampleBid {
  readonly bidId: string;
  readonly class: string;
  readonly slot: number;
}

/** What the sample users wrote down. Hashes and ids are lower-case hex without a prefix. */
export interface Traffic {
  readonly transactions: readonly SampleTransaction[];
  readonly bids: readonly SampleBid[];
  /** Transactions whose sender was told that they failed, with the reason. */
  readonly toldFailed: ReadonlyMap<string, string>;
}

export interface ExportedOutcome {
  readonly organism: Organism;
  readonly certified: CertifiedOutcome;
  /** What the certificate is over. */
  readonly digest: Uint8Array;
}

export interface KnownChain {
  readonly eras: Eras;
  /** The rosters that began them, oldest first. */
  readonly links: readonly Roster[];
}

export interface Run {
  readonly config: LatticeConfig;
  readonly rosters: Readonly<Record<Organism, Roster>>;
  /** Whose key speaks for which slots: the config's, and those that follow from it link by link. */
  readonly eras: Readonly<Record<Organism, KnownChain>>;
  readonly firstComplete: bigint;
  readonly first: bigint;
  readonly last: bigint;
  readonly faultsAllowed: boolean;
  readonly outcomes: readonly ExportedOutcome[];
  readonly traffic: Traffic;
  readonly chainRpc: string;
}

/** The export is not one. One line that names the field. */
export class MalformedExport extends Error {
  override readonly name = "MalformedExport";
}

type Json = Readonly<Record<string, unknown>>;

function object(value: unknown, what: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new MalformedExport(`${what}: an object is expected`);
  return value as Json;
}

function array(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new MalformedExport(`${what}: a list is expected`);
  return value;
}

function text(value: unknown, what: string): string {
  if (typeof value !== "string") throw new MalformedExport(`${what}: text is expected`);
  return value;
}

function count(value: unknown, what: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value))
    throw new MalformedExport(`${what}: a whole number is expected`);
  return value;
}

function flag(value: unknown, what: string): boolean {
  if (typeof value !== "boolean") throw new MalformedExport(`${what}: true or false is expected`);
  return value;
}

const plain = (hash: string): string => hash.toLowerCase().replace(/^0x/, "");

/** @throws MalformedExport, CodecError, ConfigProblems, KitProblem */
export function parseRun(json: string): Run {
  const file = object(JSON.parse(json), "export");
  if (file["schema_version"] !== 1) throw new MalformedExport("schema_version: 1 is expected");
  const config = configFromHex(text(file["config"], "config"));
  const eras = parseEras(config, file["eras"] ?? {});
  const rosterHex = object(file["rosters"], "rosters");
  const rosters = Object.fromEntries(
    ORGANISMS.map((organism) => {
      const certified = decode(CERTIFIED, fromHex(text(rosterHex[organism], `rosters.${organism}`)));
      return [organism, verifyRoster(config, organism, certified, eras[organism].eras)];
    }),
  ) as Record<Organism, Roster>;
  const slots = object(file["slots"], "slots");
  const range = ["first_complete", "first", "last"].map((name) => BigInt(count(slots[name], `slots.${name}`)));
  const [firstComplete = 0n, first = 0n, last = 0n] = range;
  if (!(firstComplete <= first && first <= last)) throw new MalformedExport("slots: not a range");
  return {
    config,
    rosters,
    eras,
    firstComplete,
    first,
    last,
    faultsAllowed: flag(file["faults_allowed"], "faults_allowed"),
    outcomes: array(file["outcomes"], "outcomes").map(parseOutcome),
    traffic: parseTraffic(array(file["traffic"], "traffic")),
    chainRpc: text(file["chain_rpc"], "chain_rpc"),
  };
}

function parseEras(config: LatticeConfig, value: unknown): Run["eras"] {
  const hex = object(value, "eras");
  const chains = ORGANISMS.map((organism): [Organism, KnownChain] => {
    const links = array(hex[organism] ?? [], `eras.${organism}`).map((each) =>
      decode(CERTIFIED, fromHex(text(each, `eras.${organism}`))),
    );
    const followed = followLinks(config, organism, links);
    if ("problem" in followed) throw new MalformedExport(`eras.${organism}: ${followed.problem}`);
    return [organism, { eras: followed.eras, links: links.map(({ outcome }) => decode(ROSTER, outcome.commitment)) }];
  });
  return Object.fromEntries(chains) as Record<Organism, KnownChain>;
}

function parseOutcome(value: unknown, index: number): ExportedOutcome {
  const what = `outcomes[${index}]`;
  const entry = object(value, what);
  const organism = text(entry["organism"], `${what}.organism`);
  if (!isOrganism(organism)) throw new MalformedExport(`${what}.organism: no such organism`);
  const bytes = fromHex(text(entry["certified"], `${what}.certified`));
  const certified = decode(CERTIFIED, bytes);
  if (toHex(encode(CERTIFIED, certified)) !== toHex(bytes)) throw new MalformedExport(`${what}: not canonical`);
  return { organism, certified, digest: outcomeDigest(certified.outcome) };
}

function parseTraffic(lines: readonly unknown[]): Traffic {
  const transactions: SampleTransaction[] = [];
  const bids: SampleBid[] = [];
  const toldFailed = new Map<string, string>();
  for (const [index, value] of lines.entries()) {
    const what = `traffic[${index}]`;
    const line = object(value, what);
    const slot = (): number => count(line["slot"], `${what}.slot`);
    switch (line["type"]) {
      case "transaction":
        transactions.push({
          hash: plain(text(line["hash"], `${what}.hash`)),
          slot: slot(),
          bootstrap: flag(line["bootstrap"], `${what}.bootstrap`),
        });
        break;
      case "bid":
        bids.push({
          bidId: plain(text(line["bidId"], `${what}.bidId`)),
          class: text(line["class"], `${what}.class`),
          slot: slot(),
        });
        break;
      case "told":
        if (line["status"] === "failed")
          toldFailed.set(plain(text(line["hash"], `${what}.hash`)), text(line["reason"], `${what}.reason`));
        break;
      default:
        // Later versions write more kinds of lines.
        break;
    }
  }
  return { transactions, bids, toldFailed };
}

/** Decisions by slot and stage: the first one exported of each; others are conflicts and judged as such. */
export class Decisions {
  readonly #outcomes = new Map<string, ExportedOutcome>();

  constructor(outcomes: readonly ExportedOutcome[]) {
    for (const exported of outcomes) {
      const { slot, stage } = exported.certified.outcome;
      const key = `${slot}/${exported.organism}/${stage}`;
      if (!this.#outcomes.has(key)) this.#outcomes.set(key, exported);
    }
  }

  get(organism: Organism, stage: string, slot: bigint): ExportedOutcome | undefined {
    return this.#outcomes.get(`${slot}/${organism}/${stage}`);
  }

  outcome(organism: Organism, stage: string, slot: bigint): Outcome | undefined {
    return this.get(organism, stage, slot)?.certified.outcome;
  }

  /** All decisions of one stage, by ascending slot. */
  all(organism: Organism, stage: string): Outcome[] {
    return [...this.#outcomes.values()]
      .filter((each) => each.organism === organism && each.certified.outcome.stage === stage)
      .map(({ certified }) => certified.outcome)
      .sort((a, b) => (a.slot < b.slot ? -1 : 1));
  }
}

/** The slot that a block's timestamp, in whole seconds, belongs to. */
export function slotOfTimestamp(config: LatticeConfig, timestampS: bigint): bigint {
  return slotAt(config, Number(timestampS) * 1000 + 999);
}
