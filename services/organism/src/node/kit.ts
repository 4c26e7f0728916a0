/**
 * The files by which a lattice is handed around: the config (the handshake), the certified rosters, endpoint hints,
 * and each member's own key file. Everything is verified when it is read; nothing is trusted for lying in a folder.
 */
import { readFileSync, statSync } from "node:fs";
import { z } from "zod";
import { CodecError, decode, encode, equalBytes, fromHex, toHex } from "../codec/codec.ts";
import type { Eras } from "../committee/eras.ts";
import { CERTIFIED, type CertifiedOutcome } from "../committee/outcome.ts";
import { checkRoster, type Roster } from "../committee/roster.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import { publicOf } from "../crypto/shamir.ts";
import { agreementKey } from "../crypto/x25519.ts";
import { ConfigProblems, configFromHex, type LatticeConfig } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import type { MemberSecrets } from "../service.ts";
import { EraBook, LINKS_JSON, type LinksByOrganism, linksFromJson, linksToJson } from "./era-book.ts";
import type { Endpoints } from "./outcome-follower.ts";

/** Something in the kit is missing, malformed, or does not verify. One readable line. */
export class KitProblem extends Error {
  override readonly name = "KitProblem";
}

function read(path: string, what: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new KitProblem(`${what}: cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
  }
}

function readJson<T>(path: string, what: string, schema: z.ZodType<T>): T {
  let parsed: unknown;
  try {
    parsed = JSON.parse(read(path, what));
  } catch (error) {
    if (error instanceof KitProblem) throw error;
    throw new KitProblem(`${what}: ${path} is not JSON`);
  }
  const result = schema.safeParse(parsed);
  if (!result.success) {
    throw new KitProblem(`${what}: ${path}: ${shapeProblems(result.error)}`);
  }
  return result.data;
}

/** The first two: of a file of another kind nearly everything is wrong. */
export function shapeProblems({ issues }: z.ZodError): string {
  const said = issues
    .slice(0, 2)
    .map(({ path, message }) => `${path.length === 0 ? "" : `${path.join(".")}: `}${message}`);
  return [...said, ...(issues.length > said.length ? [`and ${issues.length - said.length} more`] : [])].join("; ");
}

/** @throws KitProblem */
export function parseConfigHex(hex: string): LatticeConfig {
  try {
    return configFromHex(hex.trim());
  } catch (error) {
    if (error instanceof CodecError || error instanceof ConfigProblems)
      throw new KitProblem(`lattice config: ${error.message}`);
    throw error;
  }
}

/** @throws KitProblem */
export function readConfig(path: string): LatticeConfig {
  const hex = read(path, "lattice config");
  try {
    return parseConfigHex(hex);
  } catch (error) {
    if (error instanceof KitProblem) throw new KitProblem(`${error.message} (${path})`);
    throw error;
  }
}

export type Rosters = { readonly [O in Organism]: Roster };

/** Checks a certified roster against the config and returns it. @throws KitProblem */
export function verifyRoster(
  config: LatticeConfig,
  organism: Organism,
  certified: CertifiedOutcome,
  eras?: Eras,
): Roster {
  const checked = checkRoster(config, organism, certified, eras);
  if ("problem" in checked) throw new KitProblem(`roster of ${organism}: ${checked.problem}`);
  return checked.roster;
}

const HEX = z.string().regex(/^[0-9a-f]*$/);
const ROSTERS_FILE = z.object(
  Object.fromEntries(ORGANISMS.map((organism) => [organism, HEX])) as Record<Organism, typeof HEX>,
);
/** Beside the rosters: the links from each config's certificate key to the one in force. */
const KIT_ERAS = z.object({ eras: LINKS_JSON.default({}) });

/** The eras that the kit tells of, judged from the config's keys on. @throws KitProblem */
export function readEras(path: string, config: LatticeConfig): EraBook {
  const { eras } = readJson(path, "rosters", KIT_ERAS);
  const book = new EraBook(config);
  try {
    const problem = book.learnAll(linksFromJson(eras));
    if (problem !== undefined) throw new KitProblem(`rosters: eras of ${problem}`);
  } catch (error) {
    if (error instanceof CodecError) throw new KitProblem(`rosters: eras: ${error.message}`);
    throw error;
  }
  return book;
}

/** The six certified rosters, as they are. @throws KitProblem */
export function readCertifiedRosters(path: string): { readonly [O in Organism]: CertifiedOutcome } {
  const file = readJson(path, "rosters", ROSTERS_FILE);
  const entries = ORGANISMS.map((organism) => {
    try {
      return [organism, decode(CERTIFIED, fromHex(file[organism]))] as const;
    } catch (error) {
      if (error instanceof CodecError) throw new KitProblem(`roster of ${organism}: ${error.message}`);
      throw error;
    }
  });
  return Object.fromEntries(entries) as { [O in Organism]: CertifiedOutcome };
}

/** @throws KitProblem */
export function readRosters(path: string, config: LatticeConfig): Rosters {
  const certified = readCertifiedRosters(path);
  const eras = readEras(path, config);
  return Object.fromEntries(
    ORGANISMS.map((organism) => [organism, verifyRoster(config, organism, certified[organism], eras.of(organism))]),
  ) as Rosters;
}

/** @param links of committees whose certificate key has changed */
export function rostersToJson(
  rosters: { readonly [O in Organism]: CertifiedOutcome },
  links: LinksByOrganism = {},
): string {
  const hex = Object.fromEntries(ORGANISMS.map((organism) => [organism, toHex(encode(CERTIFIED, rosters[organism]))]));
  const eras = linksToJson(links);
  const file = Object.keys(eras).length === 0 ? hex : { ...hex, eras };
  return `${JSON.stringify(file, null, 2)}\n`;
}

const ADDRESS = z.string().regex(/^[^\s:]+:\d{1,5}$/, "host:port expected");
const ENDPOINTS_FILE = z.looseObject({
  ...(Object.fromEntries(ORGANISMS.map((organism) => [organism, z.array(ADDRESS).min(1)])) as Record<
    Organism,
    z.ZodArray<typeof ADDRESS>
  >),
  aggregator: z.array(ADDRESS).default([]),
});
export type EndpointsFile = Endpoints & { readonly aggregator: readonly string[] };

/** @throws KitProblem */
export function readEndpoints(path: string): EndpointsFile {
  return readJson(path, "endpoints", ENDPOINTS_FILE) as EndpointsFile;
}

const KEY = (bytes: number) =>
  z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`), `${bytes} bytes of lower-case hex expected`);
const KEY_FILE = z.strictObject({
  organism: z.enum(ORGANISMS),
  index: z.number().int().min(0).max(15),
  boxKey: KEY(32),
  memberKey: KEY(32),
  /** Absent: a member that came in a later epoch, or whose first shares are over (epoch-keys.ts). */
  certificateShare: KEY(32).optional(),
  secondShare: KEY(32).optional(),
  signerKey: KEY(32).optional(),
  serverKey: KEY(32).optional(),
  operatorKey: KEY(32).optional(),
});
export type KeyFile = z.infer<typeof KEY_FILE>;

/**
 * A member's own secrets. Refused when others may read the file: a share that leaked is worse than a member down.
 * @throws KitProblem
 */
export function readKeyFile(path: string): { organism: Organism; index: number; secrets: MemberSecrets } {
  requirePrivate(path, "key file");
  const file = readJson(path, "key file", KEY_FILE);
  const optionalKeys = Object.fromEntries(
    (["secondShare", "signerKey", "serverKey", "operatorKey"] as const).flatMap((name) => {
      const hex = file[name];
      return hex === undefined ? [] : [[name, fromHex(hex)]];
    }),
  );
  return {
    organism: file.organism,
    index: file.index,
    secrets: {
      boxKey: fromHex(file.boxKey),
      memberKey: fromHex(file.memberKey),
      certificateShare: fromHex(file.certificateShare ?? ""),
      ...optionalKeys,
    },
  };
}

const SHARES_FILE = z.strictObject({
  organism: z.enum(ORGANISMS),
  index: z.number().int().min(0).max(15),
  certificateShare: KEY(32),
  secondShare: KEY(32).optional(),
  /** The certified roster of the epoch. */
  roster: HEX,
});
export type SharesFile = z.infer<typeof SHARES_FILE>;

/** A member's shares of one later epoch, unverified. @throws KitProblem */
export function readSharesFile(path: string): SharesFile {
  requirePrivate(path, "shares file");
  return readJson(path, "shares file", SHARES_FILE);
}

/** @throws KitProblem when others may read the file */
function requirePrivate(path: string, what: string): void {
  let mode: number;
  try {
    mode = statSync(path).mode & 0o777;
  } catch (error) {
    throw new KitProblem(`${what}: cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
  }
  if ((mode & 0o077) !== 0)
    throw new KitProblem(`${what}: ${path} is open to others (mode ${mode.toString(8)}); 400 expected`);
}

/**
 * Checks that a key file is the one of its member in the roster: with any other, the member's entries and shares
 * would be refused for ever. @throws KitProblem
 */
export function verifyKeys(roster: Roster, organism: Organism, index: number, secrets: MemberSecrets): void {
  const member = roster.members[index];
  if (member === undefined) {
    throw new KitProblem(`key file: ${organism} has ${roster.members.length} members, none with index ${index}`);
  }
  const pairs: [string, Uint8Array | undefined, () => Uint8Array][] = [
    ["memberKey", member.memberKey, () => generateSigningKey(secrets.memberKey).publicKey],
    ["boxKey", member.boxKey, () => agreementKey(secrets.boxKey).publicKey],
    ["certificateShare", member.certificateShare, () => publicOf(secrets.certificateShare)],
  ];
  const { secondShare } = secrets;
  if (secondShare === undefined && member.secondShare !== undefined) {
    throw new KitProblem(`key file: secondShare is missing, the roster of ${organism} expects one`);
  }
  if (secondShare !== undefined) pairs.push(["secondShare", member.secondShare, () => publicOf(secondShare)]);
  for (const [name, published, derive] of pairs) {
    let derived: Uint8Array | undefined;
    try {
      derived = derive();
    } catch {
      throw new KitProblem(`key file: ${name} is not a key`);
    }
    if (published === undefined || !equalBytes(published, derived)) {
      throw new KitProblem(`key file: ${name} is not the one of member ${index} in the roster of ${organism}`);
    }
  }
}
