/** What a member is started with: its keys and its committee, and the ports to everything outside of it. */
import type { Committee } from "../committee/committee.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import type { Roster } from "../committee/roster.ts";
import type { RuleRange } from "../committee/rules.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Duty } from "../machine.ts";
import type { Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import type { SlotTracer } from "../observe/tracing.ts";
import type { Clock, Log, MemberJournal, Random, Timers } from "../ports.ts";
import type { MemberSecrets, OrganismDefinition } from "../service.ts";
import type { Archive } from "./archive.ts";
import type { EpochKeys } from "./epoch-keys.ts";
import type { EraBook } from "./era-book.ts";
import type { VerifyElsewhere } from "./intake.ts";
import type { ConnectCommittee, Endpoints } from "./outcome-follower.ts";
import type { MemberStorage } from "./storage.ts";

export interface MemberOptions<State, Command, D extends Duty, Settings> {
  readonly definition: OrganismDefinition<State, Command, D, Settings>;
  readonly settings: Settings;
  readonly config: LatticeConfig;
  readonly self: number;
  readonly rosters: { readonly [O in Organism]: Roster };
  /** This committee's own roster with its certificate: served to whoever needs a key or a member's name. */
  readonly certifiedRoster?: CertifiedOutcome;
  readonly secrets: MemberSecrets;
  /** The eras that the kit tells of; those that the config pins when left out. */
  readonly eras?: EraBook;
  /** Shares of later epochs; without, those in `secrets` serve the first one and there is no other. */
  readonly epochKeys?: EpochKeys;
  readonly endpoints: () => Endpoints;
  /** That of the first generation. */
  readonly log: Log;
  /**
   * Opens the log of a later generation, which may not be there yet. Without it a lost stream stops the member, as does
   * one that has come back with less.
   */
  readonly nextLog?: (generation: bigint) => Promise<Log>;
  /** How long agreeing on the end of a generation may take in its parts, if not as usual: in tests. */
  readonly endPatience?: { readonly roundMs: number; readonly graceMs: number };
  readonly journal: MemberJournal;
  /** False when the journal was just created: such a member may have promised what it no longer knows. */
  readonly journalIsOld: boolean;
  readonly directory: string;
  /** Files in `directory` when left out. */
  readonly storage?: MemberStorage;
  /** Outcomes and snapshots go there too; snapshots may come from there. */
  readonly archive?: Archive;
  /** How members of other committees are reached; gRPC when left out. */
  readonly connect?: ConnectCommittee;
  /** When checkpoints are due, if not as usual: in tests, alike for all members. */
  readonly checkpointEvery?: { readonly entries: bigint; readonly slots: bigint };
  /** Rules that this member follows, if fewer than its build has: in throw-away lattices and tests. */
  readonly rules?: RuleRange;
  /** How far ahead rules are planned, if not as usual: in tests, alike for all members. */
  readonly activationEntries?: bigint;
  readonly clock: Clock;
  /** Node's own when left out. */
  readonly timers?: Timers;
  readonly random: Random;
  /** Verifies the signatures of bursts of entries on other threads; on the event loop when left out. */
  readonly verify?: VerifyElsewhere;
  readonly logger: Logger;
  readonly meters: Meters;
  readonly tracer: SlotTracer;
  /** Called with each fraud proof that this member finds or reads, by its hash: to leave it where people find it. */
  readonly onProof?: (hash: string, proof: Uint8Array) => void;
  /** Called when the member must not go on: another incarnation speaks for it, or its log is forked. */
  readonly onFatal: (reason: string, detail: string) => void;
  /** Gives the committee to whoever watches it, before anything is applied. */
  readonly onCommittee?: (committee: Committee<State, Command, D>) => void;
}
