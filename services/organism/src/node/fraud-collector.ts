/**
 * What a member remembers of what others said, to catch the one that says two things (log.md §4): raw entries by their
 * place, those that the log refused included, and those that other members show. Bounded; forgotten at a restart, which
 * is no loss: whatever is in the log is collected again, and every member collects.
 */
import { CodecError, equalBytes, toHex } from "../codec/codec.ts";
import { decodeCommand } from "../committee/commands.ts";
import { decodeEntry, ENTRY_TAG, entryHash, JOIN_BYTES_MAX, type SignedEntry } from "../committee/entry.ts";
import { type ProvenFraud, proveEntries, proveVotes, verifyFraudProof } from "../committee/fraud.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { checkRoster, type Roster } from "../committee/roster.ts";
import { verifyTagged } from "../crypto/ed25519.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";

/** A proof that holds, and what it proves. */
export interface Caught {
  readonly proof: Uint8Array;
  readonly fraud: ProvenFraud;
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
  /** Without one of its epoch nothing can be proven of a key, and nothing is kept of it. */
  readonly certifiedRoster: CertifiedOutcome | undefined;
}

/** Kept of each author: bytes of entries, entries, and incarnations whose key is known. */
const BYTES_MAX = 4 * 1024 * 1024;
const ENTRIES_MAX = 4096;
const JOINS_MAX = 64;

interface Admission {
  readonly roster: CertifiedOutcome;
  readonly raw: Uint8Array;
  readonly generation: bigint;
  readonly incarnation: bigint;
  readonly key: Uint8Array;
}

interface Kept {
  readonly joins: Admission[];
  /** By key and place. */
  readonly entries: Map<string, { readonly hash: Uint8Array; readonly raw: Uint8Array }>;
  bytes: number;
}

export class FraudCollector {
  readonly #options: CollectorOptions;
  readonly #kept: readonly Kept[];
  /** By epoch. */
  readonly #rosters = new Map<bigint, { readonly certified: CertifiedOutcome; readonly roster: Roster }>();

  constructor(options: CollectorOptions) {
    this.#options = options;
    if (options.certifiedRoster !== undefined) this.roster(options.certifiedRoster);
    this.#kept = options.roster.members.map(() => ({ joins: [], entries: new Map(), bytes: 0 }));
  }

  /** Knows the members of one more epoch. */
  roster(certified: CertifiedOutcome): void {
    const checked = checkRoster(this.#options.config, this.#options.organism, certified);
    if ("roster" in checked) this.#rosters.set(checked.roster.epoch, { certified, roster: checked.roster });
  }

  /**
   * Takes note of a raw message, wherever it comes from: what is not signed by its author's key counts for nothing.
   * @param signer the key that its signature has been verified under, when it has
   * @returns a proof, when its author has said something else in the same place
   */
  entry(raw: Uint8Array, signer?: Uint8Array): Caught | undefined {
    if (this.#rosters.size === 0) return undefined;
    let entry: SignedEntry;
    try {
      entry = decodeEntry(raw);
    } catch (error) {
      if (error instanceof CodecError) return undefined;
      throw error;
    }
    const { body } = entry;
    const kept = this.#kept[body.author];
    if (kept === undefined || !equalBytes(body.committee, this.#options.roster.committee)) return undefined;
    if (body.lane === "ctl" && body.sequence === 1n && this.#admit(kept, raw, entry)) return undefined;
    const join = this.#signer(kept, entry, signer);
    if (join === undefined) return undefined;
    const hash = entryHash(entry.bodyBytes);
    const place = `${toHex(join.key)}/${body.lane}/${body.sequence}`;
    const known = kept.entries.get(place);
    if (known === undefined) {
      kept.entries.set(place, { hash, raw: raw.slice() });
      kept.bytes += raw.length;
      this.#forget(kept);
      return undefined;
    }
    if (equalBytes(known.hash, hash)) return undefined;
    return this.#caught(proveEntries(join.roster, join.raw, known.raw, raw));
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
    this.entry(raw);
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
        kept.joins.push({ roster: named.certified, raw: raw.slice(), generation, incarnation, key: command.key });
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

  #forget(kept: Kept): void {
    for (const [place, { raw }] of kept.entries) {
      if (kept.bytes <= BYTES_MAX && kept.entries.size <= ENTRIES_MAX) return;
      kept.entries.delete(place);
      kept.bytes -= raw.length;
    }
  }

  /** Nobody is accused before the proof has been checked here as everywhere else. */
  #caught(proof: Uint8Array): Caught | undefined {
    const verdict = verifyFraudProof(this.#options.config, this.#options.organism, proof);
    return "fraud" in verdict ? { proof, fraud: verdict.fraud } : undefined;
  }
}
