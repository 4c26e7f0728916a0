/** Everything that is fuzzed. */
import type { Target } from "../target.ts";
import { codecTargets } from "./codecs.ts";
import { doorTargets } from "./doors.ts";
import { fileTargets } from "./files.ts";
import { machineTargets } from "./machines.ts";
import { signedTargets } from "./signed.ts";
import { transactionTargets } from "./transactions.ts";

export async function allTargets(): Promise<Target[]> {
  return [
    ...(await codecTargets()),
    ...signedTargets(),
    ...machineTargets(),
    ...transactionTargets(),
    ...fileTargets(),
    ...doorTargets(),
  ];
}
