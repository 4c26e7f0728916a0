/** What a scenario is, and what it is given: a folder of its own, sessions that are ended for it, and a list of checks. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Mode } from "@lattice/deploy/local/lattice.ts";
import { chooseMode, Session, type SessionOptions } from "@lattice/deploy/local/session.ts";

export interface Scenario {
  readonly name: string;
  /** One line: what is done and what must hold. */
  readonly description: string;
  run(context: ScenarioContext): Promise<void>;
}

export interface CheckResult {
  readonly name: string;
  readonly ok: boolean;
  /** Why not, or what was found. */
  readonly detail?: string;
}

export interface ContextOptions {
  readonly slotMs: number;
  /** Progress, for people. */
  readonly say: (line: string) => void;
  readonly signal?: AbortSignal;
  readonly onCheck?: (result: CheckResult) => void;
}

/** Something that the scenario needs is not there, and no check can be made of it. */
export class ScenarioFailure extends Error {
  override readonly name = "ScenarioFailure";
}

export class ScenarioContext {
  readonly directory: string;
  readonly slotMs: number;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal | undefined;
  readonly results: CheckResult[] = [];
  readonly #onCheck: (result: CheckResult) => void;
  readonly #sessions = new Set<Session>();
  readonly #cleanups: (() => Promise<void> | void)[] = [];

  constructor(options: ContextOptions) {
    this.directory = mkdtempSync(join(tmpdir(), "lattice-scenario-"));
    this.slotMs = options.slotMs;
    this.say = options.say;
    this.signal = options.signal;
    this.#onCheck = options.onCheck ?? (() => undefined);
  }

  /** Notes whether something holds. */
  check(name: string, ok: boolean, detail?: string): boolean {
    const result: CheckResult = detail === undefined ? { name, ok } : { name, ok, detail };
    this.results.push(result);
    this.#onCheck(result);
    return ok;
  }

  /** Like `check`, over work that may throw; what it throws is the detail. */
  async attempt(name: string, work: () => Promise<boolean | undefined>): Promise<boolean> {
    try {
      return this.check(name, (await work()) ?? true);
    } catch (error) {
      return this.check(name, false, error instanceof Error ? error.message : String(error));
    }
  }

  /** JetStream where a server can be had, else the embedded log. */
  mode(): Promise<Mode> {
    return chooseMode(false, this.say);
  }

  /** @throws ScenarioFailure when this machine has no nats-server: the scenario is about processes and a broker */
  async natsOnly(): Promise<Mode> {
    const mode = await this.mode();
    if (mode !== "nats") throw new ScenarioFailure("this scenario needs nats-server");
    return mode;
  }

  /** A whole lattice, in the scenario's folder unless told otherwise; stopped when the scenario ends. */
  async start(options: Partial<SessionOptions> & { readonly mode: Mode }): Promise<Session> {
    const session = await Session.start({
      directory: join(this.directory, "lattice"),
      slotMs: this.slotMs,
      progress: this.say,
      ...(this.signal === undefined ? {} : { signal: this.signal }),
      ...options,
    });
    this.#sessions.add(session);
    return session;
  }

  /** For sessions that the scenario has ended itself. */
  ended(session: Session): void {
    this.#sessions.delete(session);
  }

  onEnd(cleanup: () => Promise<void> | void): void {
    this.#cleanups.push(cleanup);
  }

  /** Waits until the collector shows it, or notes a failed check. Deadline in slots. */
  async waitFor(name: string, session: Session, slots: number, condition: () => boolean): Promise<boolean> {
    const held = await session.collector.until(condition, slots * this.slotMs, this.signal);
    if (this.signal?.aborted === true) throw new ScenarioFailure("interrupted");
    return this.check(name, held, held ? undefined : `not within ${slots} slots`);
  }

  async end(keep: boolean): Promise<void> {
    for (const cleanup of this.#cleanups.reverse()) await cleanup();
    for (const session of this.#sessions) await session.stop();
    if (keep) this.say(`kept: ${this.directory}`);
    else rmSync(this.directory, { recursive: true, force: true });
  }
}
