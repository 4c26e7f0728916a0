/** What NATS answers to a request, or does not: what passes, what refuses an entry for good, what says that a stream is gone. */
import { LogRefusal } from "../ports.ts";

/** JetStream's error codes for "this message will not be taken". */
const FULL_CODES = new Set([10_002, 10_023, 10_047, 10_077, 10_122]);
const TOO_LARGE_CODES = new Set([10_054]);
const STREAM_NOT_FOUND = 10_059;

function codeOf(error: unknown): number | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "number" ? error.code : undefined;
}

/** True when the server says that there is no such stream. */
export function isStreamMissing(error: unknown): boolean {
  return codeOf(error) === STREAM_NOT_FOUND;
}

/** Why a message will not be taken, now or later; undefined when that is not what the error says. */
export function refusalOf(error: unknown): LogRefusal | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = codeOf(error);
  if (code !== undefined && FULL_CODES.has(code)) return new LogRefusal("LOG_FULL", error.message);
  if (code !== undefined && TOO_LARGE_CODES.has(code)) return new LogRefusal("ENTRY_TOO_LARGE", error.message);
  if (/max(imum)?[ _]payload/i.test(error.message)) return new LogRefusal("ENTRY_TOO_LARGE", error.message);
  if (/permissions violation/i.test(`${error.message} ${String(error.cause ?? "")}`)) {
    return new LogRefusal("NOT_PERMITTED", "this credential may not publish there");
  }
  return undefined;
}

/** True for what servers say, or leave unsaid, while they restart or elect a leader. */
export function isPassing(error: unknown): boolean {
  return (
    error instanceof Error &&
    /timeout|not enabled|no responders|disconnect|temporarily unavailable|no leader/i.test(
      `${error.name} ${error.message}`,
    )
  );
}

/** One line. */
export function describe(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n", 1)[0] ?? error.name) : String(error);
}

/**
 * Asks, and asks again beside what is still waiting: the first answer counts. @throws what does not pass at once, what
 * passes after `patienceMs`
 */
export function firstAnswer<T>(ask: () => Promise<T>, againMs: readonly number[], patienceMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    let last: unknown;
    let asked = 0;
    let again: NodeJS.Timeout | undefined;
    const finish = (settle: () => void): void => {
      clearTimeout(again);
      clearTimeout(end);
      settle();
    };
    const once = (): void => {
      again = setTimeout(once, againMs[Math.min(asked, againMs.length - 1)]);
      asked += 1;
      ask().then(
        (answer) => finish(() => resolve(answer)),
        (error: unknown) => {
          last = error;
          if (!isPassing(error)) finish(() => reject(error));
        },
      );
    };
    const end = setTimeout(() => finish(() => reject(last ?? new Error(NO_ANSWER))), patienceMs);
    once();
  });
}

const NO_ANSWER = "timeout: JetStream does not answer";
