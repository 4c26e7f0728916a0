/** The sequencer's settings: environment variables named SEQUENCER_…, every problem reported at once. */
import { readFileSync } from "node:fs";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { configFromHex, type LatticeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { createLogger, type LogLevel } from "@lattice/organism/observe/logger.ts";
import { z } from "zod";
import { EngineClient } from "./engine-client.ts";
import { readJwtSecret } from "./execution-client.ts";
import type { SequencerOptions } from "./sequencer.ts";

const HTTP_URL = z.url({ protocol: /^http$/ });
const PORT = z.coerce.number().int().min(0).max(65_535);
const MILLISECONDS = z.coerce.number().int().min(1).max(60_000);

export const SEQUENCER_SETTINGS = z.strictObject({
  SEQUENCER_LATTICE_CONFIG_FILE: z.string().describe("the lattice config as hex: ids, slot clock, sequencer address"),
  SEQUENCER_KEY_FILE: z.string().describe('JSON {"secret": hex}: the secp256k1 key that signs; mode 0400'),
  SEQUENCER_STORE_FILE: z.string().describe("decided blocks, one JSON line each"),
  SEQUENCER_PORT: PORT.describe("JSON-RPC for members; 0 takes a free one"),
  SEQUENCER_HOST: z.union([z.ipv4(), z.ipv6()]).default("127.0.0.1").describe("where the members' port listens"),
  SEQUENCER_ADMIN_PORT: PORT.default(0).describe("JSON-RPC for the operator, on 127.0.0.1"),
  SEQUENCER_RPC_URL: HTTP_URL.describe("the execution client's public RPC"),
  SEQUENCER_ENGINE_URL: HTTP_URL.describe("the execution client's Engine API"),
  SEQUENCER_ENGINE_JWT_FILE: z.string().describe("its secret: 32 bytes of hex"),
  SEQUENCER_BUILDERS: z
    .string()
    .default("")
    .transform((list) => list.split(",").filter((url) => url !== ""))
    .pipe(z.array(HTTP_URL).max(16))
    .describe("the relay members' Engine-API endpoints, comma separated, in member order"),
  SEQUENCER_BUILDER_JWT_FILES: z
    .string()
    .default("")
    .transform((list) => list.split(",").filter((file) => file !== ""))
    .describe("their secrets: one file for all, or one each"),
  SEQUENCER_FEE_RECIPIENT: z
    .string()
    .regex(/^0x[0-9a-fA-F]{40}$/, "20 bytes of hex expected")
    .optional()
    .describe("who collects priority fees; the sequencer's own address when absent"),
  SEQUENCER_EXTRA_DATA: z
    .string()
    .regex(/^0x([0-9a-fA-F]{2}){0,32}$/, "at most 32 bytes of hex expected")
    .default("0x")
    .describe("the header's extra data"),
  SEQUENCER_FALLBACK: z
    .enum(["import", "hold"])
    .default("import")
    .describe("a slot without a block of the lattice: import an empty block, or hold still"),
  SEQUENCER_FINALITY_DEPTH: z.coerce
    .number()
    .int()
    .min(1)
    .max(1000)
    .default(2)
    .describe("blocks below the head that may change"),
  SEQUENCER_WINDOW_MS: MILLISECONDS.optional().describe(
    "how long after the slot's start a payload is waited for; a quarter of the slot when absent",
  ),
  SEQUENCER_CALL_DEADLINE_MS: MILLISECONDS.default(1000).describe("of one call to a builder"),
  SEQUENCER_CLIENT_DEADLINE_MS: MILLISECONDS.default(5000).describe("of one call to the execution client"),
  SEQUENCER_STAGGER_MS: z.coerce
    .number()
    .int()
    .min(0)
    .max(10_000)
    .default(60)
    .describe("head start of each builder over the next"),
  SEQUENCER_RETRY_MS: MILLISECONDS.default(60).describe("pause between two tries of one builder"),
  SEQUENCER_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info").describe("log level"),
});

/** Settings that are wrong, one line each; values are never shown. */
export class SequencerProblems extends Error {
  override readonly name = "SequencerProblems";
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join("; "));
    this.problems = problems;
  }
}

export interface SequencerRun {
  readonly options: SequencerOptions;
  readonly port: number;
  readonly host: string;
  readonly adminPort: number;
}

/** @throws SequencerProblems */
export function readSequencerSettings(environment: Readonly<Record<string, string | undefined>>): SequencerRun {
  const given = Object.entries(environment).filter(
    ([name, value]) => name.startsWith("SEQUENCER_") && value !== undefined && value !== "",
  );
  const parsed = SEQUENCER_SETTINGS.safeParse(Object.fromEntries(given));
  if (!parsed.success) {
    throw new SequencerProblems(
      parsed.error.issues.map(({ path, message }) => `${path.join(".") || "settings"}: ${message}`),
    );
  }
  const settings = parsed.data;
  const problems: string[] = [];
  const attempt = <T>(name: keyof typeof settings, read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      problems.push(`${name}: ${error instanceof Error ? error.message.split("\n", 1)[0] : "cannot be read"}`);
      return undefined;
    }
  };
  const config = attempt("SEQUENCER_LATTICE_CONFIG_FILE", () =>
    configFromHex(readFileSync(settings.SEQUENCER_LATTICE_CONFIG_FILE, "utf8").trim()),
  );
  const secret = attempt("SEQUENCER_KEY_FILE", () => readKey(settings.SEQUENCER_KEY_FILE));
  const engineSecret = attempt("SEQUENCER_ENGINE_JWT_FILE", () => readJwtSecret(settings.SEQUENCER_ENGINE_JWT_FILE));
  const builderSecrets =
    attempt("SEQUENCER_BUILDER_JWT_FILES", () => settings.SEQUENCER_BUILDER_JWT_FILES.map(readJwtSecret)) ?? [];
  const urls = settings.SEQUENCER_BUILDERS;
  if (builderSecrets.length !== urls.length && builderSecrets.length !== 1 && urls.length > 0) {
    problems.push("SEQUENCER_BUILDER_JWT_FILES: one file, or as many as there are builders");
  }
  if (config !== undefined && secret !== undefined && !isSequencerOf(config, addressOfSecret(secret))) {
    problems.push("SEQUENCER_KEY_FILE: the lattice config names other sequencers");
  }
  if (problems.length > 0 || config === undefined || secret === undefined || engineSecret === undefined) {
    throw new SequencerProblems(problems);
  }
  const builders = urls.map((url, index) => {
    const jwtSecret = builderSecrets[index] ?? builderSecrets[0];
    const deadlineMs = settings.SEQUENCER_CALL_DEADLINE_MS;
    const engine = new EngineClient({ url, deadlineMs, ...(jwtSecret === undefined ? {} : { jwtSecret }) });
    return { name: `builder ${index}`, engine };
  });
  const options: SequencerOptions = {
    rules: {
      latticeId: latticeId(config),
      chainId: config.chainId,
      genesisMs: config.genesisMs,
      slotMs: config.slotMs,
      feeRecipient:
        settings.SEQUENCER_FEE_RECIPIENT === undefined
          ? addressOfSecret(secret)
          : fromHex(settings.SEQUENCER_FEE_RECIPIENT),
      extraData: fromHex(settings.SEQUENCER_EXTRA_DATA),
    },
    secret,
    engine: new EngineClient({
      url: settings.SEQUENCER_ENGINE_URL,
      jwtSecret: engineSecret,
      deadlineMs: settings.SEQUENCER_CLIENT_DEADLINE_MS,
    }),
    rpcUrl: settings.SEQUENCER_RPC_URL,
    builders,
    storeFile: settings.SEQUENCER_STORE_FILE,
    fallback: settings.SEQUENCER_FALLBACK,
    finalityDepth: settings.SEQUENCER_FINALITY_DEPTH,
    windowMs: settings.SEQUENCER_WINDOW_MS ?? Math.floor(config.slotMs / 4),
    staggerMs: settings.SEQUENCER_STAGGER_MS,
    retryMs: settings.SEQUENCER_RETRY_MS,
    logger: createLogger(settings.SEQUENCER_LOG_LEVEL satisfies LogLevel, {
      service: "sequencer",
      lattice: config.name,
      chain_id: config.chainId,
    }),
  };
  return {
    options,
    port: settings.SEQUENCER_PORT,
    host: settings.SEQUENCER_HOST,
    adminPort: settings.SEQUENCER_ADMIN_PORT,
  };
}

function isSequencerOf(config: LatticeConfig, address: Uint8Array): boolean {
  return config.relay.content.sequencers.some((sequencer) => Buffer.compare(sequencer, address) === 0);
}

const KEY_FILE = z.strictObject({ secret: z.string().regex(/^[0-9a-f]{64}$/, "32 bytes of hex expected") });

function readKey(file: string): Uint8Array {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    throw new Error("not readable as JSON");
  }
  const parsed = KEY_FILE.safeParse(value);
  if (!parsed.success) throw new Error('{"secret": 32 bytes of hex} is expected');
  return fromHex(parsed.data.secret);
}
