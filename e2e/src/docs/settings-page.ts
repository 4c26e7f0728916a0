/** docs/settings.md, from the zod schemas that read the environment. */
import { SETTINGS as ATELIER } from "@lattice/atelier/config.ts";
import { EXECUTION_SETTINGS } from "@lattice/deploy/chain/execution-settings.ts";
import { SEQUENCER_SETTINGS } from "@lattice/deploy/chain/sequencer-settings.ts";
import { PREPARE_SETTINGS, STREAMS_SETTINGS, WATCH_SETTINGS } from "@lattice/deploy/container/container-settings.ts";
import { KEEPER_SETTINGS } from "@lattice/deploy/nats/stream-keeper-settings.ts";
import { TRIMMER_SETTINGS } from "@lattice/deploy/nats/trimmer-settings.ts";
import { STEWARD_SETTINGS } from "@lattice/deploy/roster/steward-settings.ts";
import { SETTINGS as GATEWAY } from "@lattice/gateway/config.ts";
import { SETTINGS as OFFER } from "@lattice/offer/config.ts";
import { SHARED_SETTINGS } from "@lattice/organism/node/settings.ts";
import { SETTINGS as RELAY } from "@lattice/relay/config.ts";
import { SETTINGS as TALLY } from "@lattice/tally/config.ts";
import { SETTINGS as UNSEAL } from "@lattice/unseal/config.ts";
import { AGGREGATOR_SETTINGS } from "@lattice/zipnet/aggregator/aggregator-config.ts";
import { SETTINGS as ZIPNET } from "@lattice/zipnet/config.ts";
import { z } from "zod";
import { code, markdownTable } from "./markdown-table.ts";

/** One environment variable, as its schema says it. */
export interface Setting {
  readonly name: string;
  /** `required`, `none`, or the default value. */
  readonly byDefault: string;
  /** What values it takes. */
  readonly takes: string;
  /** Undefined: the schema does not say. */
  readonly meaning: string | undefined;
}

interface Walked {
  byDefault: string | undefined;
  optional: boolean;
  takes: string;
  meaning: string | undefined;
}

function range(minimum: number | bigint | null, maximum: number | bigint | null): string {
  const bounded = (value: number | bigint | null): boolean =>
    value !== null && Number.isFinite(Number(value)) && Math.abs(Number(value)) < Number.MAX_SAFE_INTEGER;
  if (bounded(minimum) && bounded(maximum)) return `${minimum} to ${maximum}`;
  if (bounded(minimum)) return `${minimum} or more`;
  return "a number";
}

/** What a string setting takes: what its schema says of a wrong value, else what its name says. */
function textTakes(schema: unknown, name: string): string {
  const refused = schema instanceof z.ZodString ? schema.safeParse("\u0000") : undefined;
  const message = refused?.success === false ? refused.error.issues[0]?.message : undefined;
  const expected = message === undefined ? null : /^(.*?),? expected$/.exec(message);
  if (expected?.[1] !== undefined) return expected[1];
  if (/_FILES$/.test(name)) return "paths, comma separated";
  if (/_FILE$/.test(name)) return "path";
  return /_DIR$/.test(name) ? "folder" : "text";
}

/** Unwraps a schema down to what the environment's string becomes. */
function walk(name: string, schema: unknown, into: Walked): void {
  if (schema instanceof z.ZodType) into.meaning ??= schema.description;
  if (schema instanceof z.ZodOptional) {
    into.optional = true;
    walk(name, schema.unwrap(), into);
  } else if (schema instanceof z.ZodDefault) {
    into.byDefault = String(schema.def.defaultValue);
    walk(name, schema.unwrap(), into);
  } else if (schema instanceof z.ZodPipe) {
    walk(name, schema.def.in, into);
  } else if (schema instanceof z.ZodNumber || schema instanceof z.ZodBigInt) {
    into.takes = range(schema.minValue, schema.maxValue);
  } else if (schema instanceof z.ZodEnum) {
    into.takes = schema.options.map((option) => code(String(option))).join(", ");
  } else if (schema instanceof z.ZodURL) {
    into.takes = "URL";
  } else {
    into.takes = textTakes(schema, name);
  }
}

/** The variables of one schema, in its order. */
export function settingsOf(schema: z.ZodObject): readonly Setting[] {
  return Object.entries(schema.shape).map(([name, field]) => {
    const walked: Walked = { byDefault: undefined, optional: false, takes: "text", meaning: undefined };
    walk(name, field, walked);
    const { byDefault, optional, takes, meaning } = walked;
    const shown =
      byDefault === undefined ? (optional ? "none" : "required") : byDefault === "" ? "empty" : code(byDefault);
    return { name, byDefault: shown, takes, meaning };
  });
}

interface SettingsGroup {
  readonly title: string;
  readonly about: string;
  readonly settings: readonly Setting[];
}

const organism = (name: string, schema: z.ZodObject): SettingsGroup => ({
  title: name,
  about: `Besides those of every member. Schema: [\`services/${name}/src/config.ts\`](../services/${name}/src/config.ts).`,
  settings: settingsOf(schema),
});

/** Variables that are read without a schema. */
const OTHERS: readonly Setting[] = [
  {
    name: "LATTICE_ENV_FILE",
    byDefault: "none",
    takes: "path",
    meaning: "members: `NAME=value` lines that complete the environment, which wins; `#` begins a comment",
  },
  {
    name: "OTEL_EXPORTER_OTLP_ENDPOINT",
    byDefault: "none",
    takes: "URL",
    meaning: "members: base URL of an OpenTelemetry collector (OTLP over HTTP); without it no SDK is loaded",
  },
  {
    name: "GRPC_VERBOSITY",
    byDefault: "none",
    takes: "as grpc-js has it",
    meaning: "grpc-js logs to standard error only when this is set",
  },
  {
    name: "NODE_ENV",
    byDefault: "none",
    takes: "`production` or anything",
    meaning: "with `production` a metric that is not in the catalogue is dropped instead of being a bug",
  },
  {
    name: "NATS_SERVER_BIN",
    byDefault: "none",
    takes: "path",
    meaning: "local lattice: the nats-server to run; otherwise `.tools`, then `PATH`, then Debian's package",
  },
  {
    name: "LATTICE_VECTORS",
    byDefault: "none",
    takes: "path",
    meaning: "tests: a folder with further golden vectors",
  },
  {
    name: "NO_COLOR",
    byDefault: "none",
    takes: "anything",
    meaning: "commands: no colours in the table of slots",
  },
];

export const SETTINGS_GROUPS: readonly SettingsGroup[] = [
  {
    title: "Every member",
    about:
      'An unknown name that begins with `LATTICE_` or the organism\'s own prefix is refused: a typo must not mean "default". ' +
      "Schema: [`services/organism/src/node/settings.ts`](../services/organism/src/node/settings.ts).",
    settings: settingsOf(SHARED_SETTINGS),
  },
  organism("zipnet", ZIPNET),
  organism("unseal", UNSEAL),
  organism("offer", OFFER),
  organism("atelier", ATELIER),
  organism("relay", RELAY),
  organism("tally", TALLY),
  {
    title: "zipnet's aggregator",
    about:
      "No member. Schema: [`services/zipnet/src/aggregator/aggregator-config.ts`](../services/zipnet/src/aggregator/aggregator-config.ts).",
    settings: settingsOf(AGGREGATOR_SETTINGS),
  },
  {
    title: "gateway",
    about:
      "Besides `LATTICE_CONFIG_HEX` or `LATTICE_CONFIG_FILE`, `LATTICE_ROSTERS_FILE`, `LATTICE_ENDPOINTS_FILE` and `LATTICE_LOG_LEVEL`, " +
      "which mean what they mean for members. Schema: [`gateway/src/config.ts`](../gateway/src/config.ts).",
    settings: settingsOf(GATEWAY),
  },
  {
    title: "The local sequencer",
    about:
      "The other side of relay in the local lattice. Schema: " +
      "[`deploy/src/chain/sequencer-settings.ts`](../deploy/src/chain/sequencer-settings.ts).",
    settings: settingsOf(SEQUENCER_SETTINGS),
  },
  {
    title: "The local execution client",
    about:
      "As a service of its own. Schema: [`deploy/src/chain/execution-settings.ts`](../deploy/src/chain/execution-settings.ts).",
    settings: settingsOf(EXECUTION_SETTINGS),
  },
  {
    title: "The trimmer",
    about:
      "Purges logs below certified checkpoints. Schema: [`deploy/src/nats/trimmer-settings.ts`](../deploy/src/nats/trimmer-settings.ts).",
    settings: settingsOf(TRIMMER_SETTINGS),
  },
  {
    title: "The stream keeper",
    about:
      "Makes the streams of later generations. Schema: [`deploy/src/nats/stream-keeper-settings.ts`](../deploy/src/nats/stream-keeper-settings.ts).",
    settings: settingsOf(KEEPER_SETTINGS),
  },
  {
    title: "A steward",
    about:
      "Starts a seat's part in refreshes and replacements. Schema: [`deploy/src/roster/steward-settings.ts`](../deploy/src/roster/steward-settings.ts).",
    settings: settingsOf(STEWARD_SETTINGS),
  },
  ...(
    [
      ["The container that prepares a lattice", PREPARE_SETTINGS],
      ["The container that makes the streams", STREAMS_SETTINGS],
      ["The container that watches", WATCH_SETTINGS],
    ] as const
  ).map(([title, schema]) => ({
    title,
    about: "Schema: [`deploy/src/container/container-settings.ts`](../deploy/src/container/container-settings.ts).",
    settings: settingsOf(schema),
  })),
  { title: "Others", about: "Read without a schema.", settings: OTHERS },
];

const INTRODUCTION = `# Settings

Generated from the schemas by \`npm run generate\`; change those instead.

Settings are environment variables. Every problem is reported at once, by name and never with the value; the exit code is then 2.
What members must agree on is not here: it is in the lattice config, which everybody pins.
`;

export function settingsPage(): string {
  const sections = SETTINGS_GROUPS.map(({ title, about, settings }) => {
    const rows = settings.map(({ name, byDefault, takes, meaning }) => [code(name), byDefault, takes, meaning ?? ""]);
    return `## ${title}\n\n${about}\n\n${markdownTable(["Name", "Default", "Takes", "Meaning"], rows)}\n`;
  });
  return [INTRODUCTION, ...sections].join("\n");
}
