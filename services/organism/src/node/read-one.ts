/** One message of a log, read again by itself. */
import type { Log, Timers } from "../ports.ts";

/**
 * @returns undefined when it does not come within `withinMs`, or before `signal` aborts
 * @throws HistoryGone, LogLost
 */
export async function readOne(
  log: Pick<Log, "consume">,
  position: bigint,
  { timers, withinMs, signal }: { readonly timers: Timers; readonly withinMs: number; readonly signal?: AbortSignal },
): Promise<Uint8Array | undefined> {
  const stop = new AbortController();
  const end = (): void => stop.abort();
  const cancel = timers.after(withinMs, end);
  signal?.addEventListener("abort", end);
  let found: Uint8Array | undefined;
  try {
    const deliver = (message: { readonly position: bigint; readonly raw: Uint8Array }): void => {
      if (message.position === position) found ??= message.raw.slice();
      stop.abort();
    };
    await log.consume(position, deliver, stop.signal, { beside: true });
    return found;
  } finally {
    cancel();
    signal?.removeEventListener("abort", end);
  }
}
