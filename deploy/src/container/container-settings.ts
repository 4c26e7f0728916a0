/** Settings of the containers that are no members: what prepares a lattice, makes its streams, watches it. */
import { z } from "zod";
import { MOUNTS } from "./plan.ts";

export const PREPARE_SETTINGS = z.object({
  PREPARE_VOLUMES: z.string().default(MOUNTS.volumes).describe("one folder per volume"),
  PREPARE_NAME: z
    .string()
    .regex(/^[a-z0-9-]{1,32}$/, "lower-case letters, digits and dashes expected")
    .default("local")
    .describe("the lattice's name"),
  PREPARE_SLOT_MS: z.coerce.number().int().min(1000).max(60_000).default(4000).describe("slot length"),
  PREPARE_LEAD_MS: z.coerce
    .number()
    .int()
    .min(1000)
    .max(3_600_000)
    .default(60_000)
    .describe("from dealing to slot 0: what everybody needs to start"),
});

export const STREAMS_SETTINGS = z.object({
  STREAMS_NATS_URL: z.string().describe("nats://host:port"),
  STREAMS_ADMINS_FILE: z.string().describe("JSON: the accounts' administrators by organism"),
});

export const WATCH_SETTINGS = z.object({
  LATTICE_CONFIG_FILE: z.string().describe("a file holding the lattice config, hex"),
  LATTICE_ROSTERS_FILE: z.string().describe("the six certified rosters"),
  LATTICE_ENDPOINTS_FILE: z.string().describe("where members answer, by organism"),
  WATCH_SLOTS: z.coerce
    .number()
    .int()
    .min(0)
    .max(100_000)
    .default(0)
    .describe("slots to see decided; 0: until stopped"),
  WATCH_DEADLINE_S: z.coerce.number().int().min(1).max(86_400).default(600).describe("for seeing that many"),
});
