/** Sample accounts of a local lattice: wallets, searchers and tally's posters, with fresh keys and genesis money. */
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";

/** An account with its key, both hex without a prefix. */
export interface SampleAccount {
  readonly secret: string;
  readonly address: string;
}

export interface SampleAccounts {
  readonly wallets: readonly SampleAccount[];
  readonly searchers: readonly SampleAccount[];
  /** One per tally member: sends its attestation transactions. */
  readonly posters: readonly SampleAccount[];
}

export const GENESIS_BALANCE_WEI = 1_000n * 10n ** 18n;

function account(): SampleAccount {
  const secret = new Uint8Array(randomBytes(32));
  return { secret: toHex(secret), address: toHex(addressOfSecret(secret)) };
}

export function createAccounts(counts: {
  readonly wallets: number;
  readonly searchers: number;
  readonly posters: number;
}): SampleAccounts {
  const make = (count: number) => Array.from({ length: count }, account);
  return { wallets: make(counts.wallets), searchers: make(counts.searchers), posters: make(counts.posters) };
}

export function saveAccounts(path: string, accounts: SampleAccounts): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(path, `${JSON.stringify(accounts, null, 2)}\n`, { mode: 0o600 });
}

export function loadAccounts(path: string): SampleAccounts {
  return JSON.parse(readFileSync(path, "utf8")) as SampleAccounts;
}

export function secretOf(sample: SampleAccount): Uint8Array {
  return fromHex(sample.secret);
}
