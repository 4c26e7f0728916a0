/**
 * A member's shares, epoch by epoch. The first come with its key file; those of later epochs are put beside it, one
 * file each, by the resharing ceremony: `shares/<epoch>.json`, with the certified roster that they belong to.
 */
import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CodecError, decode, encode, equalBytes, fromHex, toHex } from "../codec/codec.ts";
import { CERTIFIED, type CertifiedOutcome } from "../committee/outcome.ts";
import { checkRoster, type Roster } from "../committee/roster.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import { publicOf } from "../crypto/shamir.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { MemberSecrets } from "../service.ts";
import type { KnownEras } from "./era-book.ts";
import { KitProblem, readSharesFile, type SharesFile } from "./kit.ts";
import { replaceAndWipe, wipeFile, writeWholeFile } from "./whole-file.ts";

/** What a member signs and opens with in one epoch. */
export interface EpochShares {
  /** Scalar share of the certificate key, 32 bytes big-endian. */
  readonly certificateShare: Uint8Array;
  /** Scalar share of the sealing key (unseal, offer) or builder key (atelier), 32 bytes big-endian. */
  readonly secondShare?: Uint8Array;
}

export interface EpochKeys {
  /** This member's shares of an epoch; undefined when it holds none. */
  of(epoch: bigint): EpochShares | undefined;
  /** The roster that came with the shares of an epoch. */
  roster(epoch: bigint): CertifiedOutcome | undefined;
  /** Looks for shares that have come since. */
  refresh(): Promise<void>;
  /** Erases the shares of every epoch below `epoch`, in memory and on disk. */
  erase(epoch: bigint): Promise<void>;
}

/** One epoch only: tests, and lattices whose keys never change. */
export function singleEpochKeys(epoch: bigint, secrets: MemberSecrets): EpochKeys {
  return {
    of: (asked) => (asked === epoch ? secrets : undefined),
    roster: () => undefined,
    refresh: async () => undefined,
    erase: async () => undefined,
  };
}

export interface FileEpochKeysOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly index: number;
  readonly secrets: MemberSecrets;
  /** The first roster, where this member is in it. */
  readonly first: Roster | undefined;
  /** The key file, which holds the first epoch's shares. */
  readonly keyFile: string;
  /** The folder of the later epochs' files. */
  readonly directory: string;
  /** Which certificate keys speak for which epochs; the config's for all when left out. */
  readonly eras?: KnownEras;
  /** Called once for each file that is none of this member's shares, or that cannot be erased. */
  readonly onProblem: (problem: string) => void;
}

interface Held {
  readonly shares: EpochShares;
  readonly certified: CertifiedOutcome;
}

export class FileEpochKeys implements EpochKeys {
  readonly #options: FileEpochKeysOptions;
  readonly #held = new Map<bigint, Held>();
  /** Files that were read, with the time of their last change. */
  readonly #looked = new Map<string, number>();
  readonly #complained = new Set<string>();
  /** What is read of epochs below comes too late. */
  #erasedBelow = 0n;
  #firstErased = false;
  #keyFileErased = false;

  private constructor(options: FileEpochKeysOptions) {
    this.#options = options;
  }

  static async open(options: FileEpochKeysOptions): Promise<FileEpochKeys> {
    const keys = new FileEpochKeys(options);
    await keys.refresh();
    return keys;
  }

  /** True when there are shares of some later epoch. */
  get any(): boolean {
    return this.#held.size > 0;
  }

  of(epoch: bigint): EpochShares | undefined {
    const { first, secrets } = this.#options;
    const held = this.#held.get(epoch)?.shares;
    if (held !== undefined || epoch !== first?.epoch || this.#firstErased) return held;
    return secrets;
  }

  roster(epoch: bigint): CertifiedOutcome | undefined {
    return this.#held.get(epoch)?.certified;
  }

  async refresh(): Promise<void> {
    const { directory } = this.#options;
    let names: string[];
    try {
      names = await readdir(directory);
    } catch {
      return;
    }
    for (const name of names.sort()) {
      const number = /^(\d+)\.json$/.exec(name)?.[1];
      if (number === undefined) continue;
      try {
        // A proposal that came too late is followed by another one for the same epoch; a file that was open to others is closed.
        const { ctimeMs } = await stat(join(directory, name));
        if (this.#looked.get(name) === ctimeMs || BigInt(number) < this.#erasedBelow) continue;
        const { epoch, held } = this.#judge(readSharesFile(join(directory, name)));
        this.#held.set(epoch, held);
        this.#looked.set(name, ctimeMs);
      } catch (error) {
        // It is looked at again: the era that it is of may become known, and a disk may give what it did not.
        if (error instanceof KitProblem) this.#complain(name, error.message);
        else if (error instanceof CodecError) this.#complain(name, `shares in ${name}: ${error.message}`);
        else if ((error as NodeJS.ErrnoException).code === "ENOENT") continue;
        else throw error;
      }
    }
  }

  /** Of each once. */
  #complain(of: string, problem: string): void {
    const key = `${of}: ${problem}`;
    if (!this.#complained.has(key)) this.#options.onProblem(problem);
    this.#complained.add(key);
  }

  #judge(file: SharesFile): { readonly epoch: bigint; readonly held: Held } {
    const { config, organism, index, secrets, eras } = this.#options;
    const wrong = (problem: string): KitProblem => new KitProblem(`shares of ${organism}: ${problem}`);
    if (file.organism !== organism || file.index !== index) {
      throw wrong(`they are of member ${file.index} of ${file.organism}`);
    }
    const certified = decode(CERTIFIED, fromHex(file.roster));
    const checked = checkRoster(config, organism, certified, eras?.(organism));
    if ("problem" in checked) throw wrong(`their roster: ${checked.problem}`);
    const member = checked.roster.members[index];
    const memberKey = generateSigningKey(secrets.memberKey).publicKey;
    if (member === undefined || !equalBytes(member.memberKey, memberKey)) {
      throw wrong(`the roster of epoch ${checked.roster.epoch} names another member ${index}`);
    }
    const certificateShare = fromHex(file.certificateShare);
    const secondShare = file.secondShare === undefined ? undefined : fromHex(file.secondShare);
    const pairs: readonly [string, Uint8Array | undefined, Uint8Array | undefined][] = [
      ["certificateShare", certificateShare, member.certificateShare],
      ["secondShare", secondShare, member.secondShare],
    ];
    for (const [name, share, published] of pairs) {
      const fits =
        share === undefined ? published === undefined : published !== undefined && isShareOf(share, published);
      if (!fits) throw wrong(`${name} is not the one of member ${index} in epoch ${checked.roster.epoch}`);
    }
    const shares = { certificateShare, ...(secondShare === undefined ? {} : { secondShare }) };
    return { epoch: checked.roster.epoch, held: { shares, certified } };
  }

  async erase(epoch: bigint): Promise<void> {
    if (epoch > this.#erasedBelow) this.#erasedBelow = epoch;
    for (const [held, { shares }] of this.#held) {
      if (held >= epoch) continue;
      shares.certificateShare.fill(0);
      shares.secondShare?.fill(0);
      this.#held.delete(held);
    }
    await this.#eraseFiles(epoch);
    await this.#eraseFirst(epoch);
  }

  /** Of all that are over: also what was never taken, and what a crash has left of writing or wiping. */
  async #eraseFiles(epoch: bigint): Promise<void> {
    const { directory } = this.#options;
    const names = await readdir(directory).catch(() => []);
    for (const name of names) {
      const number = /^(\d+)\.json(?:\.new)?$/.exec(name)?.[1];
      if (number === undefined || BigInt(number) >= epoch) continue;
      try {
        await wipeFile(join(directory, name));
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code ?? "error";
        // It is tried again and again.
        if (code === "ENOENT") continue;
        this.#complain(name, `shares of epoch ${number} are over and cannot be erased (${code}): remove them`);
      }
    }
  }

  /** The key file stays, without the first epoch's shares. */
  async #eraseFirst(epoch: bigint): Promise<void> {
    const { first, secrets, keyFile } = this.#options;
    if (first === undefined || first.epoch >= epoch || this.#keyFileErased) return;
    this.#firstErased = true;
    secrets.certificateShare.fill(0);
    secrets.secondShare?.fill(0);
    // One at a time; what a full disk keeps from being done is tried again.
    this.#keyFileErased = true;
    try {
      const { certificateShare: _, secondShare: __, ...rest } = JSON.parse(await readFile(keyFile, "utf8"));
      await replaceAndWipe(keyFile, `${JSON.stringify(rest)}\n`, 0o400);
    } catch (error) {
      this.#keyFileErased = false;
      const code = (error as NodeJS.ErrnoException).code ?? "error";
      const problem = `key file: its shares of epoch ${first.epoch} are over and cannot be erased (${code}): remove them`;
      this.#complain(keyFile, problem);
    }
  }
}

function isShareOf(share: Uint8Array, published: Uint8Array): boolean {
  try {
    return equalBytes(publicOf(share), published);
  } catch {
    // Zero, or beyond the group's order.
    return false;
  }
}

/** Puts a member's shares of one epoch where the member finds them (mode 0400). @throws Error EEXIST: never overwritten */
export async function writeShares(
  directory: string,
  of: {
    readonly organism: Organism;
    readonly index: number;
    readonly epoch: bigint;
    readonly shares: EpochShares;
    readonly roster: CertifiedOutcome;
  },
): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const file: SharesFile = {
    organism: of.organism,
    index: of.index,
    certificateShare: toHex(of.shares.certificateShare),
    ...(of.shares.secondShare === undefined ? {} : { secondShare: toHex(of.shares.secondShare) }),
    roster: toHex(encode(CERTIFIED, of.roster)),
  };
  // Whole or not there at all: the member may be looking.
  const path = join(directory, `${of.epoch}.json`);
  await writeWholeFile(path, `${JSON.stringify(file)}\n`, { mode: 0o400, onlyNew: true });
}
