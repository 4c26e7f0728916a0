/**
 * `builder ceremony reshare`: one member's part in the ceremony between two epochs. Old holders deal from their key file or
 * the newest file below `shares/`; whoever holds shares of the next epoch finds them in `shares/<epoch>.json` with the certified
 * roster, where its member process looks for them.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Ceremony } from "@lattice/organism/ceremony/ceremony.ts";
import { planProblems } from "@lattice/organism/ceremony/plan.ts";
import { type CeremonyRun, runCeremony } from "@lattice/organism/ceremony/run-ceremony.ts";
import {
  epochSharesOf,
  heldShares,
  type Succession,
  successionPlan,
  successionPublication,
  successionRoster,
} from "@lattice/organism/ceremony/succession.ts";
import { CodecError, decode, equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { type EraLinks, followLinks } from "@lattice/organism/committee/era-links.ts";
import { ERAS_MAX, type Eras } from "@lattice/organism/committee/eras.ts";
import { CERTIFIED, type CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { checkRoster, type Roster } from "@lattice/organism/committee/roster.ts";
import { generateSigningKey, type SigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { publicOf as publicShareOf } from "@lattice/organism/crypto/shamir.ts";
import { configToHex } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { parseConfigHex, readSharesFile } from "@lattice/organism/node/kit.ts";
import { wipeFile, writeWholeFile } from "@lattice/organism/node/whole-file.ts";
import { z } from "zod";
import { blameLine, openLog, progressOf, readably, say, type TakePartOptions } from "./commands.ts";
import { memberFromJson, memberToJson, PUBLIC_MEMBER, parseFile, rosterHex } from "./founding-file.ts";
import { CeremonyProblem, jsonOf, MemberFolder } from "./member-folder.ts";

const HEX = z.string().regex(/^(?:[0-9a-f]{2})*$/, "lower-case hex expected");
const SLOT = z.string().regex(/^\d{1,19}$/, "a slot number as text expected");
const SUCCESSION_FILE = z.strictObject({
  version: z.literal(1),
  config: HEX,
  organism: z.enum(ORGANISMS),
  /** The newest certified roster. */
  roster: HEX,
  members: z.array(PUBLIC_MEMBER).min(3).max(7),
  activationSlot: SLOT,
  sealingUntilSlot: SLOT,
  /** Shares that open a slot of the epoch; as before when absent. */
  sealingThreshold: z.number().int().min(2).max(7).optional(),
  /** A certificate key of its own is made, which the one before certifies. */
  newEra: z.literal(true).optional(),
  /** The certified rosters that began the eras so far, oldest first. */
  eras: z.array(HEX).max(ERAS_MAX).optional(),
});

/** What the file says, and the chain that judges its rosters. */
export interface ReadSuccession extends Succession {
  readonly links: EraLinks;
  readonly eras: Eras;
}

/** @throws CeremonyProblem, KitProblem */
export function readSuccession(path: string): ReadSuccession {
  const file = parseFile(SUCCESSION_FILE, path, "succession file");
  const config = parseConfigHex(file.config);
  try {
    const links = (file.eras ?? []).map((hex) => decode(CERTIFIED, fromHex(hex)));
    const chain = followLinks(config, file.organism, links);
    if ("problem" in chain) throw new CeremonyProblem(`succession file: eras: ${chain.problem}`);
    const checked = checkRoster(config, file.organism, decode(CERTIFIED, fromHex(file.roster)), chain.eras);
    if ("problem" in checked) throw new CeremonyProblem(`succession file: roster: ${checked.problem}`);
    if (checked.begins !== undefined)
      throw new CeremonyProblem(`succession file: eras: the roster's own era ${checked.begins.number} is missing`);
    return {
      links,
      eras: chain.eras,
      config,
      organism: file.organism,
      from: checked.roster,
      members: file.members.map(memberFromJson),
      activationSlot: BigInt(file.activationSlot),
      sealingUntilSlot: BigInt(file.sealingUntilSlot),
      ...(file.sealingThreshold === undefined ? {} : { sealingThreshold: file.sealingThreshold }),
      ...(file.newEra === undefined ? {} : { newEra: true }),
    };
  } catch (error) {
    if (error instanceof CodecError) throw new CeremonyProblem(`succession file: roster: ${error.message}`);
    throw error;
  }
}

/**
 * The file's text; `readSuccession` reads it.
 * @param roster the newest certified one, which `from` is
 * @param links the certified rosters that began the eras up to it
 */
export function successionToJson(succession: Succession, roster: CertifiedOutcome, links: EraLinks = []): string {
  const { config, organism, members, activationSlot, sealingUntilSlot, sealingThreshold, newEra } = succession;
  const file: z.infer<typeof SUCCESSION_FILE> = {
    version: 1,
    config: configToHex(config),
    organism,
    // Who signed it is told differently by different members, and is no part of what is agreed.
    roster: rosterHex({ ...roster, signers: [] }),
    members: members.map(memberToJson),
    activationSlot: activationSlot.toString(),
    sealingUntilSlot: sealingUntilSlot.toString(),
    ...(sealingThreshold === undefined ? {} : { sealingThreshold }),
    ...(newEra === true ? { newEra } : {}),
    ...(links.length === 0 ? {} : { eras: links.map((link) => rosterHex({ ...link, signers: [] })) }),
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

const SHARES = z.looseObject({ certificateShare: HEX.length(64), secondShare: HEX.length(64).optional() });
const KEYS = z.looseObject({ memberKey: HEX.length(64), boxKey: HEX.length(64) });
const SEAT = z.looseObject({ organism: z.enum(ORGANISMS), index: z.number().int().min(0).max(15) });

/** The seat that a member's key file is made for. @throws CeremonyProblem */
export function seatIn(directory: string, organism: Organism): number {
  const { keyFile } = new MemberFolder(directory);
  const found = parseFile(SEAT, keyFile, "key file");
  if (found.organism !== organism) throw new CeremonyProblem(`${keyFile}: made for ${found.organism}, not ${organism}`);
  return found.index;
}

/** The member's shares that the old roster names, wherever they are in its folder. */
async function sharesUnder(directory: string, publicShare: Uint8Array): Promise<z.infer<typeof SHARES> | undefined> {
  const later = join(directory, "shares");
  const files = existsSync(later) ? (await readdir(later)).filter((name) => name.endsWith(".json")) : [];
  for (const path of [...files.map((name) => join(later, name)), join(directory, "key.json")]) {
    if (!existsSync(path)) continue;
    const parsed = SHARES.safeParse(jsonOf(await readFile(path, "utf8")));
    if (parsed.success && equalBytes(publicShareOf(fromHex(parsed.data.certificateShare)), publicShare))
      return parsed.data;
  }
  return undefined;
}

export function holdsShareOf(directory: string, publicShare: Uint8Array): Promise<boolean> {
  return sharesUnder(directory, publicShare).then((found) => found !== undefined);
}

/** The member key of whoever's folder this is; undefined when there is none in it. @throws CeremonyProblem */
export function signingKeyIn(directory: string): SigningKey | undefined {
  const folder = new MemberFolder(directory);
  const path = [folder.keyFile, folder.ownKeysFile].find(existsSync);
  if (path === undefined) return undefined;
  return generateSigningKey(fromHex(parseFile(KEYS, path, "member's keys").memberKey));
}

/** The certified roster that shares of the next epoch came with, where a member keeps some. */
export function rosterOfShares(
  { config, organism, from, eras }: Succession & { readonly eras?: Eras },
  directory: string,
): Roster | undefined {
  const path = join(directory, "shares", `${from.epoch + 1n}.json`);
  if (!existsSync(path)) return undefined;
  const checked = checkRoster(config, organism, decode(CERTIFIED, fromHex(readSharesFile(path).roster)), eras);
  return "problem" in checked ? undefined : checked.roster;
}

/** Whether shares belong to this very proposal. */
async function isOf(
  { config, organism, activationSlot, members, eras, newEra }: ReadSuccession,
  path: string,
): Promise<boolean> {
  const { roster } = readSharesFile(path);
  const checked = checkRoster(config, organism, decode(CERTIFIED, fromHex(roster)), eras);
  if ("problem" in checked) return false;
  return (
    checked.roster.activationSlot === activationSlot &&
    (checked.begins !== undefined) === (newEra === true) &&
    checked.roster.members.length === members.length &&
    checked.roster.members.every(({ memberKey }, i) => equalBytes(memberKey, members[i]?.memberKey ?? new Uint8Array()))
  );
}

export interface ReshareOptions extends Omit<TakePartOptions, "founding" | "patienceS"> {
  readonly succession: string;
  readonly discard?: boolean;
}

export function reshare(options: ReshareOptions & { readonly patienceS: number }): Promise<number> {
  return readably(async () => {
    const stop = new AbortController();
    const interrupt = (): void => stop.abort();
    process.on("SIGTERM", interrupt).on("SIGINT", interrupt);
    try {
      return await takeShare({
        ...options,
        patienceMs: () => options.patienceS * 1000,
        clock: { nowMs: () => Date.now() },
        signal: stop.signal,
        tell: say,
        publish: (line) => process.stdout.write(`${line}\n`),
      });
    } finally {
      process.off("SIGTERM", interrupt).off("SIGINT", interrupt);
    }
  });
}

/** One member's part, for whoever runs it: a command, or a steward. */
export interface ShareTaking extends ReshareOptions, Pick<CeremonyRun, "patienceMs" | "clock"> {
  readonly signal: AbortSignal;
  /** Under which number the credential may publish; this participant's in the plan when left out. */
  readonly place?: number;
  /** One readable line. */
  readonly tell: (line: string) => void;
  /** One line of JSON: what the ceremony made. */
  readonly publish: (line: string) => void;
  readonly onApplied?: (ceremony: Ceremony) => void;
}

/**
 * @returns an exit code: 0 when this member's shares are where it looks for them
 * @throws CeremonyProblem, CeremonyInterrupted, and what its log and its journal throw
 */
export async function takeShare(options: ShareTaking): Promise<number> {
  const { tell } = options;
  await initCrypto();
  const succession = readSuccession(options.succession);
  const { organism, from, members } = succession;
  const epoch = from.epoch + 1n;
  const folder = new MemberFolder(options.directory);
  const sharesFile = join(folder.directory, "shares", `${epoch}.json`);
  if (existsSync(sharesFile)) {
    if (await isOf(succession, sharesFile)) {
      tell(`${sharesFile} is there already; nothing to do`);
      await folder.wipe();
      return EXIT.ok;
    }
    if (options.discard !== true)
      throw new CeremonyProblem(
        `${sharesFile} is of another proposal for epoch ${epoch}; if that one came too late (roster status), put --discard`,
      );
    await wipeFile(sharesFile);
  }
  const keys = parseFile(KEYS, folder.hasKeys ? folder.keyFile : folder.ownKeysFile, "member's keys");
  const memberKey = generateSigningKey(fromHex(keys.memberKey));
  const plan = successionPlan(succession);
  const problems = planProblems(plan);
  if (problems.length > 0) throw new CeremonyProblem(`${options.succession}: ${problems.join("; ")}`);
  const self = plan.participants.findIndex((key) => equalBytes(key, memberKey.publicKey));
  if (self < 0) throw new CeremonyProblem(`${folder.directory}: neither an old nor a new member of ${organism}`);
  const old = from.members[self];
  const held = old === undefined ? undefined : await sharesUnder(folder.directory, old.certificateShare);
  // It cannot deal; it is dealt to, and has its shares again with this epoch.
  if (old !== undefined && held === undefined) tell(`${folder.directory}: holds no share of epoch ${from.epoch}`);
  const oldShares =
    held === undefined
      ? new Map<number, Uint8Array>()
      : heldShares(succession, {
          certificateShare: fromHex(held.certificateShare),
          secondShare: held.secondShare === undefined ? undefined : fromHex(held.secondShare),
        });
  const progress = progressOf(organism, self, tell);
  const log = await openLog(options, { folder, self: options.place ?? self }, tell);
  const journal = await FileJournal.open(folder.ceremony);
  try {
    const end = await runCeremony({
      plan,
      publication: successionPublication(succession),
      self,
      memberKey,
      oldShares,
      log,
      journal,
      random: (count) => new Uint8Array(randomBytes(count)),
      clock: options.clock,
      patienceMs: options.patienceMs,
      keep: ({ transcript }, shares) => folder.keepShares(transcript, hexOf(succession, shares)),
      retry: options.retry ?? false,
      signal: options.signal,
      onApplied: (ceremony) => {
        progress(ceremony);
        options.onApplied?.(ceremony);
      },
    });
    if (end.type === "aborted") {
      tell(`${organism}: attempt ${end.attempt} has failed: ${end.failure}`);
      for (const blame of end.blames) tell(blameLine(blame));
      return EXIT.failed;
    }
    if (end.publication === undefined) throw new Error("a resharing publishes its roster");
    const roster = rosterHex(successionRoster(succession, { ...end, publication: end.publication }));
    const index = members.findIndex(({ memberKey: key }) => equalBytes(key, memberKey.publicKey));
    const shares = hexOf(succession, end.shares ?? new Map());
    await journal.close();
    if (index >= 0) {
      if (shares.certificateShare === undefined) {
        tell(`${organism}: epoch ${epoch} stands, but this member holds no share of it`);
        for (const dealer of end.spoiltBy) {
          const key = toHex(plan.participants[dealer] ?? new Uint8Array());
          tell(`participant ${dealer} (${key}) dealt it a bad share, and the others did not wait for its complaint`);
        }
        return EXIT.failed;
      }
      // First the keys: with shares beside it this part is over.
      if (!folder.hasKeys) {
        const own = folder.ownKeys();
        await writeWholeFile(folder.keyFile, `${JSON.stringify({ ...own, index })}\n`, { mode: 0o400 });
      }
      await mkdir(join(folder.directory, "shares"), { recursive: true, mode: 0o700 });
      await writeWholeFile(sharesFile, `${JSON.stringify({ organism, index, ...shares, roster })}\n`, { mode: 0o400 });
      tell(`${organism}: member ${index} of epoch ${epoch} holds its shares`);
    } else
      tell(
        `${organism}: this member leaves with epoch ${epoch}: erase its keys after slot ${succession.activationSlot}`,
      );
    await folder.wipe();
    options.publish(JSON.stringify({ organism, epoch: epoch.toString(), roster }));
    return EXIT.ok;
  } finally {
    await journal.close();
    await log.close();
  }
}

function hexOf(
  succession: Succession,
  shares: ReadonlyMap<number, Uint8Array>,
): {
  readonly certificateShare?: string;
  readonly secondShare?: string;
} {
  const { certificateShare, secondShare } = epochSharesOf(succession, shares);
  return {
    ...(certificateShare === undefined ? {} : { certificateShare: toHex(certificateShare) }),
    ...(secondShare === undefined ? {} : { secondShare: toHex(secondShare) }),
  };
}
