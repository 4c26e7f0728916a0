/**
 * What one member keeps on disk in a ceremony: its own keys, the journal of the ceremony, shares that are not confirmed yet, and
 * in the end the key file that the member process reads. Secrets are written 0400, whole or not at all, and what a later
 * file replaces is overwritten before it goes.
 */
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { FoundingMember } from "@lattice/organism/ceremony/founding.ts";
import { equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { syncDirectory } from "@lattice/organism/node/append-file.ts";
import type { KeyFile } from "@lattice/organism/node/kit.ts";
import { makeFolder } from "@lattice/organism/node/make-folder.ts";
import { wipeFile, writeWholeFile } from "@lattice/organism/node/whole-file.ts";
import { z } from "zod";
import { secp256k1Secret } from "../dealer/kit-folder.ts";

/** Something in a ceremony's files is missing, malformed or of somebody else. One readable line; exit code 5. */
export class CeremonyProblem extends Error {
  override readonly name = "CeremonyProblem";
}

const SECRET = z.string().regex(/^[0-9a-f]{64}$/, "32 bytes of lower-case hex expected");
const OWN_KEYS = z.strictObject({
  organism: z.enum(ORGANISMS),
  boxKey: SECRET,
  memberKey: SECRET,
  signerKey: SECRET.optional(),
  serverKey: SECRET.optional(),
  operatorKey: SECRET.optional(),
});
export type OwnKeys = z.infer<typeof OWN_KEYS>;

/** What a seat keeps when it changes hands: the settlement contract and the lattice id know them. */
export type KeptKeys = Partial<Pick<OwnKeys, "signerKey" | "operatorKey">>;

export class MemberFolder {
  readonly directory: string;
  constructor(directory: string) {
    this.directory = directory;
  }

  /** The member's own secrets until the key file holds them. */
  get ownKeysFile(): string {
    return join(this.directory, "own-keys.json");
  }
  /** Of the ceremony alone; wiped when it has ended well. */
  get ceremony(): string {
    return join(this.directory, "ceremony");
  }
  get keyFile(): string {
    return join(this.directory, "key.json");
  }
  /** What the ceremony published: nothing in it is secret. */
  get resultFile(): string {
    return join(this.directory, "ceremony.json");
  }
  get hasKeys(): boolean {
    return existsSync(this.keyFile);
  }

  /** Fresh keys of a member that has none yet. @throws CeremonyProblem */
  async create(organism: Organism, kept: KeptKeys = {}): Promise<OwnKeys> {
    if (existsSync(this.ownKeysFile) || this.hasKeys)
      throw new CeremonyProblem(`${this.directory}: holds a member's keys already`);
    const fresh = (): string => randomBytes(32).toString("hex");
    const keys: OwnKeys = {
      organism,
      boxKey: fresh(),
      memberKey: fresh(),
      ...(organism === "tally" ? { signerKey: kept.signerKey ?? toHex(secp256k1Secret()) } : {}),
      ...(organism === "zipnet" ? { serverKey: fresh(), operatorKey: kept.operatorKey ?? fresh() } : {}),
    };
    makeFolder(this.directory, 0o700);
    await writeWholeFile(this.ownKeysFile, `${JSON.stringify(keys)}\n`, { mode: 0o400 });
    return keys;
  }

  /** @throws CeremonyProblem */
  ownKeys(): OwnKeys {
    let text: string;
    try {
      text = readFileSync(this.ownKeysFile, "utf8");
    } catch {
      throw new CeremonyProblem(`${this.directory}: no keys of a member here; make them with: builder ceremony member`);
    }
    const parsed = OWN_KEYS.safeParse(jsonOf(text));
    if (!parsed.success) throw new CeremonyProblem(`${this.ownKeysFile}: not a member's own keys`);
    return parsed.data;
  }

  /** Keeps the shares before they are confirmed. */
  async keepShares(transcript: Uint8Array, shares: Readonly<Record<string, string | undefined>>): Promise<void> {
    const file = join(this.ceremony, "shares.json");
    await mkdir(this.ceremony, { recursive: true, mode: 0o700 });
    await writeWholeFile(file, `${JSON.stringify({ transcript: toHex(transcript), ...shares })}\n`, { mode: 0o400 });
  }

  /** The key file, the public result, and then nothing else: the ceremony's secrets are overwritten and removed. */
  async finish(file: KeyFile, result: object): Promise<void> {
    const content = `${JSON.stringify(file)}\n`;
    if (this.hasKeys) {
      if (!equalBytes(readFileSync(this.keyFile), Buffer.from(content)))
        throw new CeremonyProblem(`${this.keyFile}: holds other keys than this ceremony's`);
    } else await writeWholeFile(this.keyFile, content, { mode: 0o400 });
    await writeWholeFile(this.resultFile, `${JSON.stringify(result, null, 2)}\n`, { mode: 0o644 });
    await this.wipe();
  }

  async wipe(): Promise<void> {
    if (existsSync(this.ceremony)) {
      for (const name of readdirSync(this.ceremony)) await wipeFile(join(this.ceremony, name));
      rmSync(this.ceremony, { recursive: true, force: true });
    }
    if (this.hasKeys && existsSync(this.ownKeysFile)) await wipeFile(this.ownKeysFile);
    await syncDirectory(this.directory);
  }
}

/** Undefined when it is none. */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The public half, as it goes into the founding file. */
export function publicOf(keys: OwnKeys): FoundingMember {
  return {
    memberKey: generateSigningKey(fromHex(keys.memberKey)).publicKey,
    boxKey: agreementKey(fromHex(keys.boxKey)).publicKey,
    ...(keys.signerKey === undefined ? {} : { signer: addressOfSecret(fromHex(keys.signerKey)) }),
    ...(keys.operatorKey === undefined ? {} : { operator: generateSigningKey(fromHex(keys.operatorKey)).publicKey }),
  };
}
