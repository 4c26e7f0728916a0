/**
 * Packets that the kernel drops on the loopback of this network namespace, by TCP port (iptables). What meets it is what
 * meets a broken network: nothing is acknowledged, what was sent is sent again ever more rarely, who dials gets no answer.
 * Only in a namespace that holds nothing else: the whole INPUT chain is the filter's.
 */
import { spawnSync } from "node:child_process";
import { readlinkSync } from "node:fs";

export interface PortFault {
  /** Nothing reaches the listener (`up`), nothing comes back from it (`down`), or both. */
  readonly cut?: "up" | "down" | "both";
  /** Share of the packets, both ways, that is dropped. */
  readonly loss?: number;
}

const DROPPED = /^\[(\d+):\d+\] -A INPUT /gm;

/** One rule of each kind, for trying whether this kernel has them. */
export const PROBE_RULES = table([...rulesOf(1, { cut: "both" }), ...rulesOf(1, { loss: 0.5 })]);

/** Whether this process has been started in another network namespace than that of whoever started it. */
export function inOwnNamespace(): boolean {
  try {
    return readlinkSync("/proc/self/ns/net") !== readlinkSync(`/proc/${process.ppid}/ns/net`);
  } catch {
    return false;
  }
}

export class PacketFilter {
  readonly #faults = new Map<number, PortFault>();
  #dropped = 0;

  /** @throws in the network namespace of the machine, whose rules it would replace */
  constructor() {
    if (!inOwnNamespace()) throw new Error("packets are dropped in a network namespace of one's own only");
  }

  /** From now on, for what is connected already as well. An empty fault mends. @throws when the kernel refuses */
  set(ports: readonly number[], fault: PortFault): void {
    const nothing = fault.cut === undefined && (fault.loss ?? 0) === 0;
    let changed = false;
    for (const port of ports) {
      if (nothing) changed = this.#faults.delete(port) || changed;
      else {
        this.#faults.set(port, fault);
        changed = true;
      }
    }
    if (changed) this.#apply();
  }

  mend(): void {
    this.set([...this.#faults.keys()], {});
  }

  /** Packets dropped so far. */
  get dropped(): number {
    return this.#dropped + this.#counted();
  }

  /** All rules at once: between two of them nothing passes that neither would let pass. */
  #apply(): void {
    // The kernel counts by rule, and new rules begin at nothing.
    this.#dropped = this.dropped;
    call("iptables-restore", [], table([...this.#faults].flatMap(([port, fault]) => rulesOf(port, fault))));
  }

  #counted(): number {
    let sum = 0;
    for (const [, packets] of call("iptables-save", ["-c", "-t", "filter"], "").matchAll(DROPPED))
      sum += Number(packets);
    return sum;
  }
}

function rulesOf(port: number, { cut, loss = 0 }: PortFault): string[] {
  const to = `-A INPUT -i lo -p tcp --dport ${port}`;
  const from = `-A INPUT -i lo -p tcp --sport ${port}`;
  const rules: string[] = [];
  if (cut === "up" || cut === "both") rules.push(`${to} -j DROP`);
  if (cut === "down" || cut === "both") rules.push(`${from} -j DROP`);
  if (loss > 0)
    for (const way of [to, from]) rules.push(`${way} -m statistic --mode random --probability ${loss} -j DROP`);
  return rules;
}

function table(rules: readonly string[]): string {
  return ["*filter", ":INPUT ACCEPT [0:0]", ...rules, "COMMIT", ""].join("\n");
}

function call(command: string, args: readonly string[], input: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { input, encoding: "utf8" });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command}: ${stderr.trim().split("\n", 1)[0]}`);
  return stdout;
}
