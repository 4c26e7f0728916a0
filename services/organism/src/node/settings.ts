/** A member's settings, from the environment or a file of the same names. Every problem is reported at once. */
import { readFileSync } from "node:fs";
import { type ZodType, z } from "zod";

/** `host:port`, where a server listens. */
const LISTEN = z
  .string()
  .regex(/^[^\s:]+:\d{1,5}$/, "host:port expected")
  .refine((address) => !(Number(address.slice(address.lastIndexOf(":") + 1)) > 65_535), "a port is at most 65535");

/** Environment variables that describe what runs, not how: shared by all members. */
export const SHARED_SETTINGS = z.object({
  LATTICE_CONFIG_HEX: z.string().optional().describe("the lattice config, as the handshake gives it"),
  LATTICE_CONFIG_FILE: z.string().optional().describe("a file holding LATTICE_CONFIG_HEX"),
  LATTICE_INSTANCE: z.string().optional().describe("expected lattice name; refused when the config says another"),
  LATTICE_CHAIN_ID: z.coerce.bigint().optional().describe("expected chain id; refused when the config says another"),
  LATTICE_ROSTERS_FILE: z.string().describe("the six certified rosters"),
  LATTICE_ENDPOINTS_FILE: z.string().describe("where members answer, by organism"),
  LATTICE_KEY_FILE: z.string().describe("this member's own keys and shares, mode 0400"),
  LATTICE_SHARES_DIR: z
    .string()
    .optional()
    .describe("shares of later epochs, one file each; beside the key file unless set"),
  LATTICE_DATA_DIR: z.string().describe("journal, snapshots, outcomes and bodies of this member"),
  LATTICE_ARCHIVE_DIR: z
    .string()
    .optional()
    .describe("a folder outside the member where certified outcomes and snapshots are kept too; members may share it"),
  LATTICE_ARCHIVE_S3_URL: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe("the same in a bucket of an S3-compatible store, http(s)://host[:port]/bucket[/prefix]; not both"),
  LATTICE_ARCHIVE_S3_REGION: z.string().default("us-east-1").describe("the region that requests to it are signed for"),
  LATTICE_ARCHIVE_S3_CREDENTIALS_FILE: z
    .string()
    .optional()
    .describe("JSON {accessKeyId, secretAccessKey}, mode 0400; needed with LATTICE_ARCHIVE_S3_URL"),
  LATTICE_LISTEN: LISTEN.describe("gRPC address"),
  LATTICE_METRICS_LISTEN: LISTEN.optional().describe("Prometheus metrics, /livez and /readyz"),
  LATTICE_NATS_SERVERS: z.string().describe("nats://host:port of every server, comma separated"),
  LATTICE_NATS_CREDENTIALS_FILE: z.string().describe("JSON {user, password, stream, subject, inboxPrefix}, mode 0400"),
  LATTICE_NATS_MONITOR_URL: z
    .string()
    .transform((urls) => urls.split(","))
    .pipe(z.array(z.url()))
    .optional()
    .describe("monitoring endpoint of every server, comma separated: where sync_always of each is verified"),
  LATTICE_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info").describe("log level"),
  LATTICE_TEST_CLOCK_FILE: z
    .string()
    .optional()
    .describe("throw-away lattices only: a file with the milliseconds by which this member's clock is wrong"),
  LATTICE_TEST_RULES_MAX: z.coerce
    .number()
    .int()
    .min(1)
    .optional()
    .describe("throw-away lattices only: the highest rule version that this member follows, as an older build would"),
  LATTICE_TRACE_FILE: z.string().optional().describe("spans as JSON lines, besides OTLP"),
});
export type SharedSettings = z.infer<typeof SHARED_SETTINGS>;

/** Settings that are wrong. One line each; values are never shown. */
export class SettingsProblems extends Error {
  override readonly name = "SettingsProblems";
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`settings: ${problems.join("; ")}`);
    this.problems = problems;
  }
}

/** `NAME=value` lines; `#` comments and blank lines are skipped. */
export function parseEnvironmentFile(text: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const line of text.split("\n")) {
    const trimmed = line.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    const at = trimmed.indexOf("=");
    if (at > 0) values[trimmed.slice(0, at).trimEnd()] = trimmed.slice(at + 1);
  }
  return values;
}

/** Single-character edits between two names. */
function distance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = (above[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      current.push(Math.min(replaced, (above[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    above = current;
  }
  return above[b.length] ?? 0;
}

/** More edits than this are another word, not a slip. */
const SLIP_MAX = 3;

/** One problem per name that begins like a setting and is none, with the name that was probably meant. */
export function unknownSettings(
  names: Iterable<string>,
  prefixes: readonly string[],
  known: readonly string[],
): string[] {
  const problems: string[] = [];
  for (const name of names) {
    if (!prefixes.some((prefix) => name.startsWith(prefix)) || known.includes(name)) continue;
    const [nearest] = known
      .map((candidate) => ({ candidate, edits: distance(name, candidate) }))
      .sort((x, y) => x.edits - y.edits);
    const hint = nearest !== undefined && nearest.edits <= SLIP_MAX ? `; did you mean ${nearest.candidate}?` : "";
    problems.push(`${name}: unknown setting${hint}`);
  }
  return problems;
}

/**
 * Reads shared and own settings from `environment`, completed by the file named in LATTICE_ENV_FILE (the environment
 * wins). Unknown names with our prefixes are problems too: a typo that silently means "default" is the worst outcome.
 * @throws SettingsProblems
 */
export function parseSettings<S extends Record<string, unknown>>(
  environment: Readonly<Record<string, string | undefined>>,
  organism: string,
  own: ZodType<S>,
): { readonly shared: SharedSettings; readonly own: S } {
  const problems: string[] = [];
  let fromFile: Record<string, string> = {};
  const file = environment["LATTICE_ENV_FILE"];
  if (file !== undefined) {
    try {
      fromFile = parseEnvironmentFile(readFileSync(file, "utf8"));
    } catch {
      problems.push("LATTICE_ENV_FILE: cannot be read");
    }
  }
  const values: Record<string, string | undefined> = { ...fromFile, ...environment };
  const prefix = `${organism.toUpperCase()}_`;
  const pick = (start: string) =>
    Object.fromEntries(
      Object.entries(values).filter(([name, value]) => name.startsWith(start) && value !== undefined && value !== ""),
    );
  const shared = SHARED_SETTINGS.safeParse(pick("LATTICE_"));
  const ownResult = own.safeParse(pick(prefix));
  const known = [...Object.keys(SHARED_SETTINGS.shape), "LATTICE_ENV_FILE", "LATTICE_VECTORS"];
  problems.push(...unknownSettings(Object.keys(pick("LATTICE_")), ["LATTICE_"], known));
  if (own instanceof z.ZodObject) {
    problems.push(...unknownSettings(Object.keys(pick(prefix)), [prefix], Object.keys(own.shape)));
  }
  for (const result of [shared, ownResult]) {
    if (result.success) continue;
    // By setting: which part of a list is wrong does not matter to who reads the line.
    for (const { path, message } of result.error.issues) problems.push(`${String(path[0])}: ${message}`);
  }
  if (problems.length > 0 || !shared.success || !ownResult.success) throw new SettingsProblems(problems);
  return { shared: Object.freeze(shared.data), own: Object.freeze(ownResult.data) };
}

/**
 * Settings of a process beside the members, all with one prefix; of unknown names with it, too, one line each.
 * @throws SettingsProblems
 */
export function parseOwnSettings<S extends z.ZodObject>(
  environment: Readonly<Record<string, string | undefined>>,
  prefix: string,
  schema: S,
): z.infer<S> {
  const own = Object.fromEntries(
    Object.entries(environment).filter(
      ([name, value]) => name.startsWith(prefix) && value !== undefined && value !== "",
    ),
  );
  const problems = unknownSettings(Object.keys(own), [prefix], Object.keys(schema.shape));
  const result = schema.safeParse(own);
  for (const { path, message } of result.error?.issues ?? []) problems.push(`${String(path[0])}: ${message}`);
  if (problems.length > 0 || !result.success) throw new SettingsProblems(problems);
  return result.data;
}
