/**
 * One participant's process in a ceremony, over the `Log` and `Journal` ports. Journal first (log.md §3): the attempt's seed
 * before anything that depends on it, every message before it is published, the shares before they are confirmed. A
 * restart at any point reads the log from its start and says again what has not landed, to the bit.
 */
import { equalBytes, toHex } from "../codec/codec.ts";
import type { SigningKey } from "../crypto/ed25519.ts";
import type { Clock, Journal, Log, Random } from "../ports.ts";
import { type Blame, Ceremony, type CeremonyResult, type Publication, type Refusal } from "./ceremony.ts";
import { type AttemptSecrets, attemptBoxKey } from "./dealing.ts";
import { type CeremonyCommand, kindOf, type Phase, signMessage } from "./message.ts";
import { nextCommand, type OwnShares, ownShares, spoiltFor } from "./participant.ts";
import type { CeremonyPlan } from "./plan.ts";

/** How a ceremony ended for this participant. */
export type CeremonyEnd =
  | {
      readonly type: "done";
      readonly result: CeremonyResult;
      /** 96 bytes, when the plan publishes: the group's signature with the new key. */
      readonly publication: Uint8Array | undefined;
      /** Empty for an old holder who gets nothing; undefined when this participant is not among the holders. */
      readonly shares: OwnShares | undefined;
      /** Who dealt this participant a bad share without its complaint: it was not waited for, and has no shares. */
      readonly spoiltBy: readonly number[];
      readonly holders: readonly number[];
      readonly blames: readonly Blame[];
    }
  | {
      readonly type: "aborted";
      readonly attempt: number;
      readonly failure: string;
      readonly blames: readonly Blame[];
    };

export interface CeremonyRun {
  readonly plan: CeremonyPlan;
  readonly publication?: Publication;
  /** This participant's position in the plan. */
  readonly self: number;
  readonly memberKey: SigningKey;
  /** Shares of keys that are shared anew, by position of the key. */
  readonly oldShares?: ReadonlyMap<number, Uint8Array>;
  readonly log: Log;
  /** Of this ceremony alone: wipe it once the shares are kept for good. */
  readonly journal: Journal;
  readonly random: Random;
  readonly clock: Clock;
  /** For how long a phase may last, by this participant's clock, before it asks to end it without `awaited`. */
  patienceMs(phase: Phase, awaited: readonly number[]): number;
  /** Puts the shares where a crash leaves them; resolves once they are there. They count when the ceremony is done. */
  keep(result: CeremonyResult, shares: OwnShares): Promise<void>;
  /** Asks for another attempt when the newest one has failed, once. */
  readonly retry?: boolean;
  readonly signal?: AbortSignal;
  /** After every message of the log; for progress and metrics. */
  readonly onApplied?: (ceremony: Ceremony, refusal: Refusal | undefined) => void;
}

/** This participant was told to stop. */
export class CeremonyInterrupted extends Error {
  override readonly name = "CeremonyInterrupted";
}

const TICK_MS = 100;
/** A message that has not been consumed by then is published again: the same bytes, harmless twice. */
const RESEND_MS = 1000;

/**
 * Takes part until the ceremony is done, with this participant's confirmation in the log, or the attempt is aborted.
 * @throws PromiseConflict when the log tells another story than before; LogRefusal; CeremonyInterrupted
 */
export async function runCeremony(run: CeremonyRun): Promise<CeremonyEnd> {
  const participant = new Participant(run);
  return participant.run();
}

class Participant {
  readonly #run: CeremonyRun;
  readonly #ceremony: Ceremony;
  /** Publications on their way: when, by journal key. */
  readonly #sentMs = new Map<string, number>();
  #position = 0n;
  #phase = "";
  #phaseSinceMs = 0;
  #retried = 0;
  #wake: () => void = () => undefined;

  constructor(run: CeremonyRun) {
    this.#run = run;
    this.#ceremony = new Ceremony(run.plan, run.publication);
  }

  async run(): Promise<CeremonyEnd> {
    const { log, signal } = this.#run;
    const target = await log.lastPosition();
    const stop = new AbortController();
    const abort = (): void => {
      stop.abort();
      this.#wake();
    };
    signal?.addEventListener("abort", abort, { once: true });
    let lost: unknown;
    const consuming = log
      .consume(1n, (message) => this.#apply(message.position, message.raw), stop.signal)
      .catch((error: unknown) => {
        lost = error ?? new Error("the log ended");
        this.#wake();
      });
    try {
      for (;;) {
        if (signal?.aborted === true) throw new CeremonyInterrupted("interrupted");
        if (lost !== undefined) throw lost;
        if (this.#position >= target) {
          const end = await this.#step();
          if (end !== undefined) return end;
        }
        await this.#pause();
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      stop.abort();
      await consuming;
    }
  }

  #apply(position: bigint, raw: Uint8Array): void {
    const refusal = this.#ceremony.apply(raw);
    this.#position = position;
    const { number, phase } = this.#ceremony.attempt;
    if (`${number} ${phase}` !== this.#phase) {
      this.#phase = `${number} ${phase}`;
      this.#phaseSinceMs = this.#run.clock.nowMs();
    }
    this.#run.onApplied?.(this.#ceremony, refusal);
    this.#wake();
  }

  /** Until the log brings something, or a tick. */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, TICK_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #step(): Promise<CeremonyEnd | undefined> {
    const { attempt } = this.#ceremony;
    if (attempt.phase === "aborted") return this.#aborted();
    const done = attempt.phase === "done";
    const secrets = await this.#secrets();
    // Another attempt has begun meanwhile: what was made for this one is nothing there.
    if (this.#ceremony.attempt !== attempt) return undefined;
    if (done && attempt.holders.has(this.#run.self)) return this.#done(secrets);
    if (secrets === undefined) return done ? this.#done(secrets) : undefined;
    const command = nextCommand(this.#ceremony, this.#run.self, secrets);
    if (command === undefined) return done ? this.#done(secrets) : this.#close();
    if (command.type === "confirm" && attempt.result !== undefined) {
      await this.#run.keep(attempt.result, ownShares(this.#ceremony, this.#run.self, secrets));
    }
    await this.#say(command, attempt.number);
    return undefined;
  }

  /**
   * The attempt's seed; undefined when this attempt is somebody's who is not here: of a journal that is lost, or of another
   * process. What is bound by another seed's enrolment would be a bad deal under this one.
   */
  async #secrets(): Promise<AttemptSecrets | undefined> {
    const { journal, random, self, oldShares = new Map() } = this.#run;
    const { attempt } = this.#ceremony;
    const key = `${this.#prefix()}seed`;
    let seed = journal.promised(key);
    if (seed === undefined) {
      if (attempt.said.has(self)) {
        if (attempt.out.has(self)) return undefined;
        await this.#say({ type: "abort", reason: "this participant has lost its journal" });
        return undefined;
      }
      seed = random(32);
      await journal.promise(key, 0n, seed);
      if (this.#ceremony.attempt !== attempt) return undefined;
    }
    const secrets = { seed, oldShares };
    const bound = attempt.boxKeys.get(self);
    if (bound !== undefined && !equalBytes(bound, attemptBoxKey(this.#ceremony.scene, secrets).publicKey)) {
      if (attempt.phase !== "done" && !attempt.out.has(self))
        await this.#say({ type: "abort", reason: "this participant has enrolled from another journal" });
      return undefined;
    }
    return secrets;
  }

  #prefix(): string {
    return `ceremony/${toHex(this.#ceremony.id)}/${this.#ceremony.attempt.number}/`;
  }

  async #close(): Promise<undefined> {
    const { clock, self } = this.#run;
    const { attempt, awaited } = this.#ceremony;
    const { phase } = attempt;
    if (phase === "done" || phase === "aborted" || awaited.length === 0 || attempt.out.has(self)) return undefined;
    if (attempt.closes.get(phase)?.has(self) === true) return undefined;
    if (this.#phase === "") {
      this.#phase = `${attempt.number} ${phase}`;
      this.#phaseSinceMs = clock.nowMs();
    }
    if (clock.nowMs() - this.#phaseSinceMs >= this.#run.patienceMs(phase, awaited))
      await this.#say({ type: "close", phase });
    return undefined;
  }

  /** Journals, publishes, and publishes again until it is consumed. */
  async #say(command: CeremonyCommand, attempt = this.#ceremony.attempt.number): Promise<void> {
    const { journal, log, memberKey, self, clock } = this.#run;
    const { id } = this.#ceremony;
    const kind = kindOf(command);
    const key = `ceremony/${toHex(id)}/${attempt}/${kind}`;
    const sentMs = this.#sentMs.get(key);
    if (sentMs !== undefined && clock.nowMs() - sentMs < RESEND_MS) return;
    const raw = signMessage(memberKey, { version: 1, ceremony: id, attempt, author: self, command });
    await journal.promise(key, 0n, raw);
    this.#sentMs.set(key, clock.nowMs());
    await log.append("ctl", raw, `${key}/${self}/${clock.nowMs()}`);
  }

  async #aborted(): Promise<CeremonyEnd | undefined> {
    const { attempt, state } = this.#ceremony;
    const wanted = attempt.number + 1;
    if (this.#run.retry === true && (this.#retried === 0 || this.#retried === wanted)) {
      this.#retried = wanted;
      if (!state.retries.has(this.#run.self)) await this.#say({ type: "retry" }, wanted);
      return undefined;
    }
    return { type: "aborted", attempt: attempt.number, failure: attempt.failure ?? "", blames: [...state.blames] };
  }

  #done(secrets: AttemptSecrets | undefined): CeremonyEnd {
    const { attempt, state, receivers } = this.#ceremony;
    const { result } = attempt;
    if (result === undefined) throw new Error("done without a result");
    const { self } = this.#run;
    const receives = receivers.includes(self);
    const holds = attempt.holders.has(self) && secrets !== undefined;
    const own = holds ? ownShares(this.#ceremony, self, secrets) : undefined;
    return {
      type: "done",
      result,
      publication: attempt.publication,
      shares: own ?? (receives ? undefined : new Map()),
      spoiltBy: own === undefined && secrets !== undefined ? spoiltFor(this.#ceremony, self, secrets) : [],
      holders: [...attempt.holders].sort((a, b) => a - b),
      blames: [...state.blames],
    };
  }
}
