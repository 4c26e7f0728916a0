/** Child processes of a local lattice: each logs to its own file, is stopped by its own id, and never outlives us silently. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { processEnvironment } from "./compile-cache.ts";
import { guarded } from "./orphan-guard.ts";

export interface ProcessOptions {
  readonly name: string;
  /** A TypeScript entry point, run by this Node. */
  readonly script: string;
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** stdout and stderr are appended here. */
  readonly logFile: string;
}

/** How long SIGTERM may take before SIGKILL. */
const GRACE_MS = 10_000;
const OLD_SPACE_MB = 160;

export class ManagedProcess {
  readonly name: string;
  readonly #options: ProcessOptions;
  #child: ChildProcess | undefined;
  #exited: Promise<number | null> = Promise.resolve(0);
  #stopping = false;
  onExit: (code: number | null) => void = () => undefined;

  constructor(options: ProcessOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }
  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  start(): void {
    const { script, args = [], environment = {}, logFile } = this.#options;
    mkdirSync(dirname(logFile), { recursive: true });
    const log = openSync(logFile, "a", 0o600);
    this.#stopping = false;
    const flags = [
      "--disable-warning=ExperimentalWarning",
      `--max-old-space-size=${OLD_SPACE_MB}`,
      "--max-semi-space-size=2",
    ];
    const child = spawn(process.execPath, [...flags, script, ...args], {
      stdio: ["ignore", log, log],
      env: { ...processEnvironment(), ...environment },
      // A group of its own: Ctrl-C in a terminal reaches whoever started it, who stops everybody in order.
      detached: true,
    });
    closeSync(log);
    guarded(child);
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once("exit", (code) => {
        resolve(code);
        if (!this.#stopping) this.onExit(code);
      });
    });
  }

  /** SIGTERM, then SIGKILL after a grace; resolves when the process is gone. */
  async stop(graceMs = GRACE_MS): Promise<void> {
    if (!this.running) return;
    this.#stopping = true;
    this.#child?.kill("SIGTERM");
    const timer = setTimeout(() => this.#child?.kill("SIGKILL"), graceMs);
    await this.#exited;
    clearTimeout(timer);
  }

  /** SIGKILL at once. */
  async kill(): Promise<void> {
    if (!this.running) return;
    this.#stopping = true;
    this.#child?.kill("SIGKILL");
    await this.#exited;
  }

  /** The last lines of its log, for a message that explains why it died. */
  tail(lines = 5): string {
    try {
      return readFileSync(this.#options.logFile, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
    } catch {
      return "(no log)";
    }
  }
}
