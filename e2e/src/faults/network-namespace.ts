/**
 * A network namespace for a run alone: its loopback is nobody else's, so packets on it can be dropped. The run enters it by
 * starting itself again inside (unshare(1), ip(8), iptables(8); all three need root, or CAP_NET_ADMIN and CAP_SYS_ADMIN).
 */
import { spawn, spawnSync } from "node:child_process";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { PROBE_RULES } from "./packet-filter.ts";

const INSIDE = 'ip link set lo up && exec "$@"';
const PROBE_MS = 10_000;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The words that run a command in a network namespace of its own, with its loopback up. */
export function inNamespace(command: readonly string[]): [string, ...string[]] {
  return ["unshare", "--net", "--", "sh", "-c", INSIDE, "sh", ...command];
}

/** Whether this user may make such a namespace and drop packets in it. */
export function namespacesPermitted(): boolean {
  const [file, ...args] = inNamespace(["iptables-restore"]);
  const probe = spawnSync(file, args, { input: PROBE_RULES, stdio: ["pipe", "ignore", "ignore"], timeout: PROBE_MS });
  return probe.status === 0;
}

/** Runs a command there, on this process's terminal. Signals are passed on; it stops by itself. @returns its exit code */
export async function runInNamespace(command: readonly string[]): Promise<number> {
  const [file, ...args] = inNamespace(command);
  const child = spawn(file, args, { stdio: "inherit" });
  // A terminal tells the whole group, so what comes from a keyboard has arrived there already.
  const pass = (signal: NodeJS.Signals): void => {
    if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
  };
  for (const signal of SIGNALS) process.on(signal, pass);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => resolve(code ?? EXIT.failed));
    });
  } finally {
    for (const signal of SIGNALS) process.off(signal, pass);
  }
}
