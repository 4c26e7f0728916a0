/**
 * A long-lived program that is started, awaited and stopped: its output goes to a file, its end is an event, and only
 * its own pid is ever signalled.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { open } from "node:fs/promises";
import { createServer } from "node:net";
import { guarded } from "../local/orphan-guard.ts";

const TAIL_BYTES = 4096;

export interface ProgramOptions {
  /** What it is called in messages. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Both output streams are appended here. */
  readonly logFile: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** The program did not come up, or went away by itself. `tail` is the end of its log. */
export class ProgramFailure extends Error {
  override readonly name = "ProgramFailure";
  readonly reason: "NOT_STARTED" | "PORT_IN_USE" | "DIED" | "NOT_READY";
  readonly tail: string;
  constructor(reason: ProgramFailure["reason"], message: string, tail: string) {
    super(tail === "" ? message : `${message}; the end of its log:\n${tail}`);
    this.reason = reason;
    this.tail = tail;
  }
}

export class Program {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Resolves once the process is gone, with how it ended. */
  readonly ended: Promise<string>;
  readonly #process: ChildProcess;
  #end: string | undefined;

  private constructor(options: ProgramOptions, child: ChildProcess, pid: number) {
    this.name = options.name;
    this.logFile = options.logFile;
    this.#process = child;
    this.pid = pid;
    this.ended = once(child, "exit").then(([code, signal]) => {
      this.#end = signal === null ? `exit code ${code}` : `signal ${signal}`;
      return this.#end;
    });
  }

  /** @throws ProgramFailure NOT_STARTED */
  static async start(options: ProgramOptions): Promise<Program> {
    const log = openSync(options.logFile, "a", 0o600);
    try {
      const child = spawn(options.command, [...options.args], {
        stdio: ["ignore", log, log],
        // A group of its own: Ctrl-C in a terminal reaches whoever started it, who stops everybody in order.
        detached: true,
        ...(options.env === undefined ? {} : { env: options.env }),
      });
      if (child.pid === undefined) {
        const [error] = await once(child, "error");
        throw new ProgramFailure("NOT_STARTED", `${options.name} did not start: ${String(error)}`, "");
      }
      guarded(child);
      return new Program(options, child, child.pid);
    } finally {
      closeSync(log);
    }
  }

  get alive(): boolean {
    return this.#end === undefined;
  }

  /**
   * Calls `probe` until it answers true.
   * @throws ProgramFailure DIED when the process ends first, NOT_READY at the deadline (the process is then stopped)
   */
  async ready(probe: () => Promise<boolean>, deadlineMs: number): Promise<void> {
    const until = Date.now() + deadlineMs;
    for (;;) {
      if (this.#end !== undefined) {
        throw new ProgramFailure("DIED", `${this.name} ended with ${this.#end}`, await this.tail());
      }
      if (await probe()) return;
      if (Date.now() > until) {
        await this.stop();
        throw new ProgramFailure("NOT_READY", `${this.name} was not ready in ${deadlineMs} ms`, await this.tail());
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** SIGTERM, then SIGKILL after `patienceMs`. Resolves when the process is gone. */
  async stop(patienceMs = 5000): Promise<void> {
    if (!this.alive) return;
    this.#process.kill("SIGTERM");
    const killer = setTimeout(() => this.#process.kill("SIGKILL"), patienceMs);
    await this.ended;
    clearTimeout(killer);
  }

  /** SIGKILL at once: the crash that tests need. */
  async kill(): Promise<void> {
    if (!this.alive) return;
    this.#process.kill("SIGKILL");
    await this.ended;
  }

  /** The last lines of the log. */
  async tail(): Promise<string> {
    const file = await open(this.logFile).catch(() => undefined);
    if (file === undefined) return "";
    try {
      const { size } = await file.stat();
      const from = Math.max(0, size - TAIL_BYTES);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(TAIL_BYTES), 0, TAIL_BYTES, from);
      return buffer.subarray(0, bytesRead).toString("utf8").trim().split("\n").slice(-12).join("\n");
    } finally {
      await file.close();
    }
  }
}

/** Whether nobody listens on this port of an address, 127.0.0.1 unless told otherwise. */
export async function portIsFree(port: number, host = "127.0.0.1"): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, host);
    await once(server, "listening");
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
