/** What gateway tests share: a dealt config, signed transactions, a chain that a test moves, a journal that can fail. */

import { toHex } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Rosters } from "@lattice/organism/node/kit.ts";
import { lastingRosters } from "@lattice/organism/node/roster-book.ts";
import type { Fields, Logger } from "@lattice/organism/observe/logger.ts";
import type { Journal } from "@lattice/organism/ports.ts";
import { privateKeyToAccount } from "viem/accounts";
import { dealCommittee, random } from "../../services/organism/test/test-lattice.ts";
import type { Account } from "../src/chain-reads.ts";
import { type ChainView, SubmissionBook } from "../src/submissions.ts";

export { random };

/** A logger that keeps every line, so that a test can look for what must not be there. */
export class LogBook implements Logger {
  readonly lines: string[] = [];
  #note(level: string, message: string, fields: Fields = {}): void {
    const text = JSON.stringify(fields, (_, value: unknown) => (typeof value === "bigint" ? value.toString() : value));
    this.lines.push(`${level} ${message} ${text}`);
  }
  debug = (message: string, fields?: Fields): void => this.#note("debug", message, fields);
  info = (message: string, fields?: Fields): void => this.#note("info", message, fields);
  warn = (message: string, fields?: Fields): void => this.#note("warn", message, fields);
  error = (message: string, fields?: Fields): void => this.#note("error", message, fields);
}

/** Config and rosters; unseal and offer have a sealing key that is a point, though nobody here opens anything. */
export function dealtLattice(overrides: Partial<LatticeConfig> = {}): { config: LatticeConfig; rosters: Rosters } {
  const { config, rosters } = dealCommittee(3, {
    ...overrides,
  });
  const { content } = config.zipnet;
  const wide = { ...config, zipnet: { ...config.zipnet, content: { ...content, cellBytes: 2048 } } };
  const sealingKey = config.unseal.policy.certificateKey;
  const withKey = (organism: "unseal" | "offer") => ({ ...rosters[organism], sealingKey, sealingUntilSlot: 1n << 40n });
  return { config: wide, rosters: { ...rosters, unseal: withKey("unseal"), offer: withKey("offer") } };
}

export class MemoryJournal implements Journal {
  readonly values: Map<string, Uint8Array>;
  failing = false;
  /** Awaited by every put, so that a test can look while one is on its way. */
  gate: Promise<void> = Promise.resolve();

  constructor(values: ReadonlyMap<string, Uint8Array> = new Map()) {
    this.values = new Map(values);
  }
  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.gate;
    if (this.failing) throw new Error("disk full");
    this.values.set(name, bytes.slice());
  }
  get(name: string): Uint8Array | undefined {
    return this.values.get(name);
  }
  async nextIncarnation(atLeast: bigint): Promise<bigint> {
    return atLeast;
  }
  async promise(): Promise<void> {}
  promised(): Uint8Array | undefined {
    return undefined;
  }
  async entry(): Promise<void> {}
  async trim(): Promise<void> {}
  async close(): Promise<void> {}
}

/** What a gateway sees of a chain. */
export class TestChain implements ChainView {
  readonly accounts = new Map<string, Account>();
  readonly blocks = new Map<string, string>();
  down = false;

  async account(address: string): Promise<Account> {
    if (this.down) throw new Error("down");
    return this.accounts.get(address) ?? { nonce: 0n, balanceWei: 10n ** 20n };
  }
  async landedIn(transactionHash: string): Promise<string | undefined> {
    if (this.down) throw new Error("down");
    return this.blocks.get(transactionHash.slice(2));
  }
}

export const ALICE = privateKeyToAccount(`0x${"a1".repeat(32)}`);
export const BOB = privateKeyToAccount(`0x${"b2".repeat(32)}`);
export const RECIPIENT = `0x${"cc".repeat(20)}` as const;

export interface TestTransaction {
  readonly raw: Uint8Array;
  /** Bare hex. */
  readonly hash: string;
  readonly nonce: bigint;
  /** 0x-prefixed, lower case. */
  readonly sender: string;
}

export async function transfer(
  account: typeof ALICE,
  nonce: number,
  fields: { readonly value?: bigint; readonly chainId?: number; readonly data?: `0x${string}` } = {},
): Promise<TestTransaction> {
  const signed = await account.signTransaction({
    type: "eip1559",
    chainId: fields.chainId ?? 31_337,
    nonce,
    to: RECIPIENT,
    value: fields.value ?? 1n,
    gas: 21_000n,
    maxFeePerGas: 10n ** 10n,
    maxPriorityFeePerGas: 10n ** 9n,
    ...(fields.data === undefined ? {} : { data: fields.data }),
  });
  const raw = new Uint8Array(Buffer.from(signed.slice(2), "hex"));
  return { raw, hash: toHex(keccak256(raw)), nonce: BigInt(nonce), sender: account.address.toLowerCase() };
}

export interface BookParts {
  readonly config: LatticeConfig;
  readonly rosters: Rosters;
  readonly journal: MemoryJournal;
  readonly chain: TestChain;
  readonly log: LogBook;
}

export function openBook(
  parts: BookParts,
  limits: { readonly pendingMax?: number; readonly settledKept?: number } = {},
): SubmissionBook {
  const rosters = lastingRosters(parts.rosters);
  return new SubmissionBook({ ...parts, rosters, random, pendingMax: limits.pendingMax ?? 100, ...limits });
}

export function bookParts(): BookParts {
  return { ...dealtLattice(), journal: new MemoryJournal(), chain: new TestChain(), log: new LogBook() };
}
