/** `builder roster standby`: makes the keys of a seat's standby and says so under the seat's key. */
import { copyFileSync, existsSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readConfig } from "@lattice/organism/node/kit.ts";
import { keptKeys, readably } from "../ceremony/commands.ts";
import { CeremonyProblem, MemberFolder, publicOf } from "../ceremony/member-folder.ts";
import { seatIn, signingKeyIn } from "../ceremony/reshare.ts";
import { makeStandby, type StandbyFile } from "./standby.ts";

export interface StandbyOptions {
  readonly config: string;
  readonly organism: Organism;
  readonly member: string;
  readonly directory: string;
}

/** Started again on the same folders it prints the same. */
export function makeStandbyKeys(options: StandbyOptions): Promise<number> {
  return readably(async () => {
    await initCrypto();
    const { organism, member, directory } = options;
    const standby = await standbyIn({ config: readConfig(options.config), organism, member, directory });
    process.stdout.write(`${JSON.stringify(standby)}\n`);
    return EXIT.ok;
  });
}

/**
 * Keys in reserve in a folder of their own, made unless they are there, and the statement that the seat's key vouches for.
 * @param of.member the folder of whoever holds the seat
 * @throws CeremonyProblem
 */
export async function standbyIn(of: {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly member: string;
  readonly directory: string;
}): Promise<StandbyFile> {
  const { config, organism, member, directory } = of;
  const seat = seatIn(member, organism);
  const seatKey = signingKeyIn(member);
  if (seatKey === undefined) throw new CeremonyProblem(`${member}: no keys of a member here`);
  const folder = new MemberFolder(directory);
  if (folder.hasKeys) throw new CeremonyProblem(`${directory}: holds a member's keys already`);
  // The settlement contract and the lattice id know these keys of the seat: whoever takes it keeps them.
  const kept = keptKeys(new MemberFolder(member).keyFile, organism);
  const keys = existsSync(folder.ownKeysFile) ? folder.ownKeys() : await folder.create(organism, kept);
  if (keys.organism !== organism) throw new CeremonyProblem(`${directory}: made for ${keys.organism}`);
  giveCredential(member, directory);
  const own = generateSigningKey(fromHex(keys.memberKey));
  return makeStandby(config, organism, seat, seatKey, own, publicOf(keys));
}

/** The seat's credential on the broker stays the seat's: whoever may take it has a copy, once there is one. */
export function giveCredential(member: string, directory: string): void {
  const [credential, copy] = [join(member, "nats.json"), join(directory, "nats.json")];
  if (!existsSync(credential) || existsSync(copy)) return;
  rmSync(`${copy}.new`, { force: true });
  copyFileSync(credential, `${copy}.new`);
  renameSync(`${copy}.new`, copy);
}
