/** What an unexpected error may say in this gateway's log: its kind and where it was thrown, never its text. */
import { Fault } from "@lattice/organism/fault.ts";
import type { Fields } from "@lattice/organism/observe/logger.ts";

/** Libraries quote what they were given in their messages, and what users give must not reach a log. */
export function problemFields(error: unknown): Fields {
  if (error instanceof Fault) return { error: "Fault", domain: error.domain, reason: error.reason };
  if (!(error instanceof Error)) return { error: "unknown" };
  const { code } = error as NodeJS.ErrnoException;
  const frame = /\n\s+at (?:.*\()?(?:file:\/\/)?[^\n]*?([\w.-]+:\d+):\d+\)?/.exec(error.stack ?? "");
  return { error: error.name, code: typeof code === "string" ? code.slice(0, 64) : undefined, at: frame?.[1] };
}
