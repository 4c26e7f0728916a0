/** No call of a user hangs: after this it is told that its fate is not known. */
import { gatewayFault } from "./faults.ts";

/** Longer than a round through all members of a committee with one of them silent. */
export const CALL_DEADLINE_MS = 15_000;

/** @throws Fault CALL_TIMEOUT, or what `work` throws */
export async function withDeadline<T>(work: Promise<T>, deadlineMs: number = CALL_DEADLINE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(gatewayFault("CALL_TIMEOUT")), deadlineMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
