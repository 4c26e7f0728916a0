/** What a simulation shows to those who judge it. */
import type { Committee } from "@lattice/organism/committee/committee.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Context, Decision, Duty, MachineEvent, Submission } from "@lattice/organism/machine.ts";
import type { World } from "./world.ts";

/** A replica, whatever its organism. */
export type Replica = Committee<unknown, unknown, Duty>;

/** Whose member something happened to. */
export interface Place {
  readonly organism: Organism;
  readonly index: number;
  /** True for members that follow the protocol. */
  readonly honest: boolean;
  /** One number per process start. */
  readonly run: number;
}

/** One of the invariants, as something that listens. `broken` ends the simulation. */
export interface Checker {
  readonly name: string;
  /** After each log message a member has applied. */
  applied?(place: Place, replica: Replica): void;
  /** Before and after a machine takes an event. */
  before?(place: Place, state: unknown, event: MachineEvent<unknown>, context: Context): void;
  /** A machine decided; `stands` says whether the committee took it. */
  decided?(place: Place, decision: Decision, stands: boolean, context: Context, state: unknown): void;
  /** A broker has stored a message. */
  stored?(organism: Organism, position: number, raw: Uint8Array): void;
  /** A member keeps a certificate. */
  certified?(place: Place, certified: CertifiedOutcome): void;
  /** An honest member is about to say something. */
  says?(place: Place, duty: Duty, submission: Submission<unknown>, state: unknown, replica: Replica): void;
  /** At the end, everything healed and quiet. */
  finished?(world: World): void;
}

/** An invariant does not hold. */
export class Broken extends Error {
  override readonly name = "Broken";
  readonly checker: string;
  constructor(checker: string, message: string) {
    super(message);
    this.checker = checker;
  }
}
