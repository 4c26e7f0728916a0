/**
 * What an organism hands to the runtime, and what the runtime hands back: the seam between the six services and the
 * committee. `node/member.ts` puts the two together; production, embedded and tests use the same function.
 */
import type { ZodType } from "zod";
import type { CertifiedOutcome, Outcome } from "./committee/outcome.ts";
import type { Roster } from "./committee/roster.ts";
import type { LatticeConfig } from "./identity/lattice-config.ts";
import type { Organism } from "./identity/organisms.ts";
import type { Duty, Machine, Refusal, Submission } from "./machine.ts";
import type { EpochShares } from "./node/epoch-keys.ts";
import type { Logger } from "./observe/logger.ts";
import type { Meters } from "./observe/meters.ts";
import type { Clock, Journal, Random, Timers } from "./ports.ts";
import type { GrpcService } from "./rpc/define.ts";

/** A member's own secrets, read from its own key file (mode 0400) and from nowhere else. */
export interface MemberSecrets {
  /** X25519 private key, 32 bytes. */
  readonly boxKey: Uint8Array;
  /** Ed25519 seed, 32 bytes: admits incarnations and signs direct answers. */
  readonly memberKey: Uint8Array;
  /** Scalar share of the certificate key in the first epoch, 32 bytes big-endian; empty for who came later. */
  readonly certificateShare: Uint8Array;
  /** Scalar share of the sealing key (unseal, offer) or builder key (atelier) in the first epoch, 32 bytes big-endian. */
  readonly secondShare?: Uint8Array;
  /** secp256k1 key of tally's attestations, 32 bytes. */
  readonly signerKey?: Uint8Array;
  /** zipnet: X25519 key of this server for clients, 32 bytes, and its operator's signature over it. */
  readonly serverKey?: Uint8Array;
  /** zipnet: Ed25519 seed of the operator's root (local lattices only; operators keep it elsewhere). */
  readonly operatorKey?: Uint8Array;
}

/** Bodies by hash: kept on disk, bounded, served under the stage's policy. */
export interface BodyStore {
  /** Keeps the body; resolves to its blake3 hash once it is on disk. */
  put(slot: bigint, body: Uint8Array): Promise<Uint8Array>;
  get(hash: Uint8Array): Promise<Uint8Array | undefined>;
}

/** Who may read the bodies of a stage before, and whether anyone may after the slot is on chain. */
export interface BodyPolicy {
  readonly readers: readonly Organism[] | "everyone";
  readonly publicWhenLanded: boolean;
}

/** What the runtime offers to an organism's node half. */
export interface MemberHost<State, Command, Settings> {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly committee: Uint8Array;
  readonly self: number;
  /** The first roster. What concerns a slot asks `rosterAt`. */
  readonly roster: Roster;
  /** This committee's roster for a slot. */
  rosterAt(slot: bigint): Roster;
  /** This member's shares for a slot; undefined while it holds none of its epoch. */
  sharesAt(slot: bigint): EpochShares | undefined;
  /** The certified rosters of all six committees (epoch 0 in this version). */
  readonly rosters: { readonly [O in Organism]: Roster };
  readonly settings: Settings;
  readonly secrets: MemberSecrets;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly journal: Journal;
  readonly log: Logger;
  readonly meters: Meters;
  readonly bodies: BodyStore;
  /** A folder of this member's own for what the organism keeps (chain state, caches). */
  readonly directory: string;
  /** The live state; read it, never change it, never keep a reference across an await. */
  state(): State;
  /** True once everything that was in the log at start has been applied. */
  caughtUp(): boolean;
  /**
   * Puts a client's request into the log and waits until it has been applied.
   * @returns the refusal, or undefined when it was accepted
   * @throws Fault NOT_READY, FATE_UNKNOWN, LOG_REFUSED, TOO_LARGE
   */
  submit(submission: Submission<Command>): Promise<Refusal | undefined>;
  /** This committee's decision, from state or archive. */
  outcome(stage: string, slot: bigint): Outcome | undefined;
  /** The certificate, once q votes are in the log. */
  certified(stage: string, slot: bigint): CertifiedOutcome | undefined;
  /** Certified outcomes of one stage in slot order from `fromSlot`, live; ends when `signal` aborts. */
  watch(stage: string, fromSlot: bigint, signal: AbortSignal): AsyncIterable<CertifiedOutcome>;
  /** An upstream outcome that this committee's log has observed. */
  observed(organism: Organism, stage: string, slot: bigint): Outcome | undefined;
  /**
   * The body of an observed upstream outcome: from the local store, else from any of its members over an
   * authenticated, encrypted call; checked against `bodyHash`.
   * @throws Fault UPSTREAM_UNREACHABLE, BODY_NOT_ADMITTED
   */
  fetchBody(organism: Organism, outcome: Outcome): Promise<Uint8Array>;
  /** Asks for duties to be looked at again: call it when something outside the log has changed. */
  wake(): void;
}

/** An organism's node half. */
export interface OrganismNode<Command, D extends Duty> {
  /**
   * Carries out one duty: does the I/O and the cryptography, and says what to put into the log. `undefined`: not
   * possible now, ask again. A duty that throws is logged and asked again.
   */
  execute(duty: D): Promise<Submission<Command> | undefined>;
  readonly services: readonly GrpcService[];
  /** Stages without an entry have no body. */
  readonly bodies: Readonly<Record<string, BodyPolicy>>;
  /** Called after each decision of this committee, live and caught up, in order. */
  decided?(outcome: Outcome): void;
  start?(): Promise<void>;
  stop?(): Promise<void>;
}

/** Everything the runtime needs to run a member of this organism. */
export interface OrganismDefinition<State, Command, D extends Duty, Settings> {
  readonly organism: Organism;
  /** The organism's own settings, over environment variables named `<ORGANISM>_…`. */
  readonly settings: ZodType<Settings>;
  createMachine(config: LatticeConfig, roster: Roster): Machine<State, Command, D>;
  createNode(host: MemberHost<State, Command, Settings>): OrganismNode<Command, D>;
}
