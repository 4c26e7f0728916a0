/**
 * Nothing outlives whoever started it: also when that is killed with -9, runs out of memory or breaks, and cannot end its
 * processes itself. A shell beside it holds the other end of a pipe, is told of every process, and ends those that are
 * left when the pipe closes.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Socket } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const SCRIPT = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "bin", "end-orphans.sh");

let tell: ((line: string) => void) | undefined;
let guard: ChildProcess | undefined;

/** From now on; once a process. @returns the guard's process id, undefined where there is no shell */
export function guardOrphans(): number | undefined {
  if (guard === undefined) {
    // A group of its own: Ctrl-C in a terminal must not end it first.
    const child = spawn("/bin/sh", [SCRIPT], { stdio: ["pipe", "ignore", "ignore"], detached: true });
    guard = child;
    child.once("error", () => {
      tell = undefined;
    });
    const { stdin } = child;
    // It has been killed: what follows is as without it.
    stdin.on("error", () => {
      tell = undefined;
    });
    tell = (line) => stdin.write(`${line}\n`);
    child.unref();
    if (stdin instanceof Socket) stdin.unref();
  }
  return guard.pid;
}

/** A process that has just been started; nothing happens before `guardOrphans`. */
export function guarded(child: ChildProcess): void {
  const { pid } = child;
  if (pid === undefined) return;
  tell?.(`start ${pid}`);
  child.once("exit", () => tell?.(`end ${pid}`));
}
