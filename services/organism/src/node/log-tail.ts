/** A log read at its reader's pace: messages in order from a position on, and no more held than a little. */
import type { Log, LogMessage } from "../ports.ts";

/** Held for a reader that is slower than the log; then the log is asked again from where the reader is. */
const HELD_MESSAGES = 256;
const HELD_BYTES = 4 * 1024 * 1024;

/**
 * Messages from `from` on until `signal` aborts.
 * @throws HistoryGone, LogLost as the log does
 */
export async function* logTail(log: Log, from: bigint, signal: AbortSignal): AsyncGenerator<LogMessage, void, void> {
  let next = from;
  while (!signal.aborted) {
    const held: LogMessage[] = [];
    let bytes = 0;
    let ended = false;
    let failure: unknown;
    let wake = (): void => undefined;
    const stop = new AbortController();
    const onAbort = (): void => {
      stop.abort();
      wake();
    };
    signal.addEventListener("abort", onAbort);
    const deliver = (message: LogMessage): void => {
      if (stop.signal.aborted) return;
      held.push(message);
      bytes += message.raw.length;
      if (held.length >= HELD_MESSAGES || bytes >= HELD_BYTES) stop.abort();
      wake();
    };
    const consuming = log
      .consume(next, deliver, stop.signal, { beside: true })
      .catch((error: unknown) => {
        failure = error;
      })
      .then(() => {
        ended = true;
        wake();
      });
    try {
      while (!signal.aborted) {
        const message = held.shift();
        if (message !== undefined) {
          bytes -= message.raw.length;
          next = message.position + 1n;
          yield message;
        } else if (ended) break;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (held.length > 0 || ended || signal.aborted) resolve();
          });
        }
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      stop.abort();
      await consuming;
    }
    if (failure !== undefined) throw failure;
  }
}
