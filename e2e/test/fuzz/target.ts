/** What is fuzzed, and how a case is judged. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import type { Dice } from "./dice.ts";

/** `refused`: with a type of ours. `accepted`: it means what its bytes say, and they are its only spelling. */
export type Verdict = "refused" | "accepted";

/** Something that must not happen, told by the judge; whatever else is thrown is a crash. */
export class Finding extends Error {
  override readonly name = "Finding";
}

export interface Target {
  readonly name: string;
  /** Makes whatever cases need; ended by `close`. */
  open(dice: Dice): Promise<OpenTarget>;
}

export interface OpenTarget {
  /** Case `n`: mutates, feeds, judges. Throws: a finding, or a crash. */
  run(dice: Dice, n: number): Promise<Verdict> | Verdict;
  /** What the last case was fed, for the report. */
  lastInput?(): string;
  close?(): Promise<void> | void;
}

/** A short form of bytes for a report. */
export function shown(bytes: Uint8Array): string {
  return bytes.length > 4096 ? `${toHex(bytes.subarray(0, 4096))}… (${bytes.length} bytes)` : toHex(bytes);
}
