/**
 * Structured logs: JSON lines on stderr through pino. error: an operator must act; warn: it healed or will; info:
 * lifecycle and one line per decision; debug: the rest. A caller's bad request is debug. Nothing here ever sees
 * plaintext, keys, shares or peer addresses: log hashes, sizes and counts.
 */
import { pino } from "pino";

/** Fields of one line. Values are ids, numbers and enumerated words. */
export type Fields = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

export interface Logger {
  debug(message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
}

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** A logger that stamps every line with `base`. */
export function createLogger(level: LogLevel, base: Fields): Logger {
  const sink = pino(
    { level, base, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } },
    pino.destination({ fd: 2, sync: true }),
  );
  const line =
    (at: Exclude<LogLevel, "silent">) =>
    (message: string, fields: Fields = {}): void => {
      // Lines that nobody will see cost nothing.
      if (sink.isLevelEnabled(at)) sink[at](plain(fields), message);
    };
  return { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") };
}

function plain(fields: Fields): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, typeof value === "bigint" ? Number(value) : value]),
  );
}

/** What an error may say in a log: its kind, its reason, its first line; never a stack of somebody's input. */
export function errorFields(error: unknown): Fields {
  if (!(error instanceof Error)) return { error: "unknown" };
  const reason = "reason" in error && typeof error.reason === "string" ? error.reason : undefined;
  return { error: error.name, reason, problem: error.message.split("\n", 1)[0]?.slice(0, 300) };
}
