/**
 * A committee log whose broker lies: shows members different logs, keeps messages back, says twice or never, in another
 * order, cuts off the end. In memory, and deterministic but for the event loop. What a broker cannot do it cannot
 * either: sign in a member's name.
 */
import type { Lane } from "../committee/entry.ts";
import { type AppendFate, HistoryGone, type Log, type LogMessage } from "../ports.ts";

/** One history; a fork shares what lay before it. */
export class Branch {
  readonly messages: Uint8Array[];
  readonly readers = new Set<() => void>();

  constructor(messages: readonly Uint8Array[] = []) {
    this.messages = [...messages];
  }

  add(raw: Uint8Array): void {
    this.messages.push(raw.slice());
    for (const wake of this.readers) wake();
  }
}

export class HostileLog {
  readonly trunk = new Branch();
  readonly #shown = new Map<number, Branch>();
  /** Members that are delivered nothing beyond this position. */
  readonly #held = new Map<number, number>();
  /** Rewrites what a member appends: none, one or more messages. */
  #passing: (author: number, raw: Uint8Array) => readonly Uint8Array[] = (_, raw) => [raw];
  /** Renames positions on delivery: to make holes and repeats that no honest log has. */
  #numbering: (member: number, position: bigint) => readonly bigint[] = (_, position) => [position];

  /** The history that a member is shown, and that its appends go to. */
  branchOf(member: number): Branch {
    return this.#shown.get(member) ?? this.trunk;
  }

  /** From here on these members are shown a history of their own, the same so far. */
  fork(members: readonly number[]): Branch {
    const [first] = members;
    const branch = new Branch(first === undefined ? [] : this.branchOf(first).messages);
    for (const member of members) this.show(member, branch);
    return branch;
  }

  show(member: number, branch: Branch): void {
    const before = this.branchOf(member);
    this.#shown.set(member, branch);
    for (const wake of [...before.readers, ...branch.readers]) wake();
  }

  /** Delivers nothing more to this member; it may go on appending. */
  hold(member: number): void {
    this.#held.set(member, this.branchOf(member).messages.length);
  }

  release(member: number): void {
    this.#held.delete(member);
    for (const wake of this.branchOf(member).readers) wake();
  }

  /** What becomes of appended messages: dropped although acknowledged, doubled, rewritten. */
  pass(rule: (author: number, raw: Uint8Array) => readonly Uint8Array[]): void {
    this.#passing = rule;
  }

  /** Under which positions messages are delivered. */
  number(rule: (member: number, position: bigint) => readonly bigint[]): void {
    this.#numbering = rule;
  }

  member(index: number): Log {
    return {
      lastPosition: async () => BigInt(this.branchOf(index).messages.length),
      firstPosition: async () => 1n,
      append: async (_lane: Lane, raw: Uint8Array): Promise<AppendFate> => {
        for (const each of this.#passing(index, raw)) this.branchOf(index).add(each);
        return "stored";
      },
      consume: (from, deliver, signal) => this.#consume(index, from, deliver, signal),
      close: async () => undefined,
    };
  }

  async #consume(
    index: number,
    from: bigint,
    deliver: (message: LogMessage) => void,
    signal: AbortSignal,
  ): Promise<void> {
    if (from < 1n) throw new HistoryGone(1n);
    let next = Number(from);
    while (!signal.aborted) {
      const branch = this.branchOf(index);
      const raw = branch.messages[next - 1];
      const limit = this.#held.get(index);
      if (raw === undefined || (limit !== undefined && next > limit)) {
        await this.#news(branch, signal);
        continue;
      }
      for (const position of this.#numbering(index, BigInt(next))) deliver({ position, raw: raw.slice() });
      next += 1;
      // Others get their turn: a reader that catches up must not starve timers.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #news(branch: Branch, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        branch.readers.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      branch.readers.add(wake);
      signal.addEventListener("abort", wake);
      if (signal.aborted) wake();
    });
  }
}
