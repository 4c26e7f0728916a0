/**
 * What a member remembers of what others said, to catch the one that says two things (log.md §4): hashes of entries by
 * their place, those that the log refused included, and where in the log they stand. A proof needs both entries whole.
 * The short ones are kept; the first of two long ones is read again from the log, which holds it for longer than they
 * could be kept here. Bounded; forgotten at a restart, which is no loss: whatever is in the log is collected again, and
 * every member collects.
 */
import { CodecError, equalBytes, toHex } from "../codec/codec.ts";
import { decodeCommand } from "../committee/commands.ts";
import {
  decodeEntry,
  ENTRY_TAG,
  entryHash,
  JOIN_BYTES_MAX,
  type ReadEntry,
  readEntry,
  type SignedEntry,
} from "../committee/entry.ts";
import type { Eras } from "../committee/eras.ts";
import { type ProvenFraud, proveEntries, proveVotes, verifyFraudProof } from "../committee/fraud.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { checkRoster, type Roster } from "../committee/roster.ts";
import { verifyTagged } from "../crypto/ed25519.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { LogMessage } from "../ports.ts";

/** A proof that holds, and what it proves. */
export interface Caught {
  readonly proof: Uint8Array;
  readonly fraud: ProvenFraud;
}

/** Somebody said two things, and the first was too long to keep: it is proven once it has been read again. */
export interface Suspicion {
  readonly member: number;
  /** Where the first stands in the log. */
  readonly position: bigint;
  /** @returns nothing when `first` is not what was said there */
  prove(first: Uint8Array): Caught | undefined;
}

/** A decision as one log has it, with the shares given for it by member. */
export interface DecisionVotes {
  readonly outcome: Outcome;
  readonly votes: ReadonlyMap<number, Uint8Array>;
}

export interface CollectorOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly roster: Roster;
  /** The committee's eras as they are known now; the pinned one when left out. */
  readonly eras?: () => Eras;
}

/** Kept whole of each author: entries up to this size, and so many bytes of them, the newest. */
const SHORT_BYTES = 4096;
const SHORT_BYTES_MAX = 512 * 1024;
/** Hashes of entries kept of each author, and incarnations whose key is known. */
const ENTRIES_MAX = 4096;
const JOINS_MAX = 64;

interface Admission {
  readonly roster: CertifiedOutcome;
  readonly raw: Uint8Array;
  readonly generation: bigint;
  readonly incarnation: bigint;
  readonly key: Uint8Array;
  /** The key in hex: what is said under it is found by that. */
  readonly name: string;
}

interface Said {
  readonly hash: Uint8Array;
  readonly position: bigint;
}

interface Kept {
  readonly joins: Admission[];
  /** By incarnation key and place, in the order of their arrival. */
  readonly said: Map<string, Said>;
  /** Those of them that are kept whole. */
  readonly short: Map<string, Uint8Array>;
  shortBytes: number;
}

export class FraudCollector {
  readonly #options: CollectorOptions;
  /** By seat: those of every epoch known so far. */
  readonly #kept: Kept[] = [];
  /** By epoch. */
  readonly #rosters = new Map<bigint, { readonly certified: CertifiedOutcome; readonly roster: Roster }>();

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#seats(options.roster);
  }

  /** Knows the members of one more epoch. Without its certified roster nothing can be proven of a key, and nothing is kept of it. */
  roster(certified: CertifiedOutcome): void {
    const checked = checkRoster(this.#options.config, this.#options.organism, certified, this.#options.eras?.());
    if ("problem" in checked) return;
    this.#rosters.set(checked.roster.epoch, { certified, roster: checked.roster });
    this.#seats(checked.roster);
  }

  #seats({ members }: Roster): void {
    while (this.#kept.length < members.length) {
      this.#kept.push({ joins: [], said: new Map(), short: new Map(), shortBytes: 0 });
    }
  }

  /**
   * Takes note of a message of the log: what is not signed by its author's key counts for nothing.
   * @param signer the key that its signature has been verified under, when it has
   * @returns a proof, or what is missing for one, when its author has said something else in the same place
   */
  entry({ position, raw }: LogMessage, signer?: Uint8Array): Caught | Suspicion | undefined {
    let read: ReadEntry;
    try {
      read = readEntry(raw);
    } catch (error) {
      if (error instanceof CodecError) return undefined;
      throw error;
    }
    return this.read({ position, raw }, read, signer);
  }

  /** As `entry`, of a message that has been read and hashed already. */
  read({ position, raw }: LogMessage, entry: ReadEntry, signer?: Uint8Array): Caught | Suspicion | undefined {
    if (this.#rosters.size === 0) return undefined;
    const { body, hash } = entry;
    const kept = this.#kept[body.author];
    if (kept === undefined || !equalBytes(body.committee, this.#options.roster.committee)) return undefined;
    if (body.lane === "ctl" && body.sequence === 1n && this.#admit(kept, raw, entry)) return undefined;
    const join = this.#signer(kept, entry, signer);
    if (join === undefined) return undefined;
    const place = `${join.name}/${body.lane}/${body.sequence}`;
    const known = kept.said.get(place);
    if (known === undefined) {
      keep(kept, place, { hash, position }, raw);
      return undefined;
    }
    if (equalBytes(known.hash, hash)) return undefined;
    const short = kept.short.get(place);
    if (short !== undefined) return this.#caught(proveEntries(join.roster, join.raw, short, raw));
    const second = raw.slice();
    return {
      member: body.author,
      position: known.position,
      prove: (first) =>
        isEntry(first, known.hash) ? this.#caught(proveEntries(join.roster, join.raw, first, second)) : undefined,
    };
  }

  /** Shares that one member gave for two outcomes of one stage and slot, as two logs have them. */
  votes(own: DecisionVotes, other: DecisionVotes): Caught[] {
    const [a, b] = [own.outcome, other.outcome];
    const roster = this.#rosters.get(a.epoch)?.certified;
    if (roster === undefined || a.stage !== b.stage || a.slot !== b.slot) return [];
    if (equalBytes(outcomeDigest(a), outcomeDigest(b))) return [];
    return [...own.votes].flatMap(([member, share]) => {
      const second = other.votes.get(member);
      if (second === undefined) return [];
      const one = { outcome: a, share };
      return this.#caught(proveVotes(roster, member, one, { outcome: b, share: second })) ?? [];
    });
  }

  /** Knows a Join that was applied before this member's time. */
  join(raw: Uint8Array): void {
    this.entry({ position: 0n, raw });
  }

  /** True when the entry is a Join by its author's member key: it admits a key, and two of them are no fraud. */
  #admit(kept: Kept, raw: Uint8Array, { body, bodyBytes, signature }: SignedEntry): boolean {
    const named = this.#rosters.get(body.epoch);
    const member = named?.roster.members[body.author];
    if (named === undefined || member === undefined || raw.length > JOIN_BYTES_MAX) return false;
    try {
      const command = decodeCommand(body.command);
      if (command.type !== "join" || command.incarnation !== body.incarnation) return false;
      if (!verifyTagged(member.memberKey, ENTRY_TAG, bodyBytes, signature)) return false;
      const { generation, incarnation } = body;
      if (!kept.joins.some(({ key }) => equalBytes(key, command.key))) {
        const { key } = command;
        kept.joins.push({ roster: named.certified, raw: raw.slice(), generation, incarnation, key, name: toHex(key) });
        if (kept.joins.length > JOINS_MAX) kept.joins.shift();
      }
      return true;
    } catch (error) {
      if (error instanceof CodecError) return false;
      throw error;
    }
  }

  #signer(kept: Kept, { body, bodyBytes, signature }: SignedEntry, signer: Uint8Array | undefined) {
    return kept.joins.find(
      ({ generation, incarnation, key }) =>
        generation === body.generation &&
        incarnation === body.incarnation &&
        ((signer !== undefined && equalBytes(signer, key)) || verifyTagged(key, ENTRY_TAG, bodyBytes, signature)),
    );
  }

  /** Nobody is accused before the proof has been checked here as everywhere else. */
  #caught(proof: Uint8Array): Caught | undefined {
    const { config, organism, eras } = this.#options;
    const rosters = [...this.#rosters.values()].map(({ roster }) => roster);
    const verdict = verifyFraudProof(config, organism, proof, {
      ...(eras === undefined ? {} : { eras: eras() }),
      rosters,
    });
    return "fraud" in verdict ? { proof, fraud: verdict.fraud } : undefined;
  }
}

function keep(kept: Kept, place: string, said: Said, raw: Uint8Array): void {
  kept.said.set(place, said);
  for (const oldest of kept.said.keys()) {
    if (kept.said.size <= ENTRIES_MAX) break;
    kept.said.delete(oldest);
    drop(kept, oldest);
  }
  if (raw.length > SHORT_BYTES) return;
  kept.short.set(place, raw);
  kept.shortBytes += raw.length;
  for (const oldest of kept.short.keys()) {
    if (kept.shortBytes <= SHORT_BYTES_MAX) break;
    drop(kept, oldest);
  }
}

function drop(kept: Kept, place: string): void {
  kept.shortBytes -= kept.short.get(place)?.length ?? 0;
  kept.short.delete(place);
}

function isEntry(raw: Uint8Array, hash: Uint8Array): boolean {
  try {
    return equalBytes(entryHash(decodeEntry(raw).bodyBytes), hash);
  } catch (error) {
    if (error instanceof CodecError) return false;
    throw error;
  }
}
