/** What the simulation of one committee shows to those who judge it. */
import type { Checkpoint } from "@lattice/organism/committee/checkpoint.ts";
import type { Committee } from "@lattice/organism/committee/committee.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import type { LogCommand, LogDuty, LogState } from "./organism.ts";
import type { LogMember, LogWorld } from "./world.ts";

export type LogReplica = Committee<LogState, LogCommand, LogDuty>;

export interface LogPlace {
  readonly index: number;
  readonly honest: boolean;
  /** One name per process. */
  readonly run: string;
  readonly host: LogMember;
}

export interface LogChecker {
  readonly name: string;
  /** After each message that a log has delivered. */
  applied?(place: LogPlace, replica: LogReplica): void;
  /** A broker has stored a message. */
  stored?(generation: bigint, position: number, raw: Uint8Array): void;
  /** A member keeps a certificate. */
  certified?(place: LogPlace, certified: CertifiedOutcome): void;
  /** Somebody fetches a state that a key which is over has certified. */
  stolen?(host: LogMember, checkpoint: Checkpoint): void;
  /** At the end, everything healed. */
  finished?(world: LogWorld): void;
}
