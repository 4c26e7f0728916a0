/** Settings of the execution client as a service of its own. */
import { z } from "zod";

const PORT = z.coerce.number().int().min(1).max(65_535);

export const EXECUTION_SETTINGS = z.object({
  EXECUTION_GENESIS_FILE: z.string().describe("the chain's genesis, as geth init reads it"),
  EXECUTION_DATA_DIR: z.string().describe("database and log"),
  EXECUTION_JWT_FILE: z.string().describe("the Engine API's secret: 32 bytes of hex"),
  EXECUTION_HOST: z.union([z.ipv4(), z.ipv6()]).default("127.0.0.1").describe("where both ports listen"),
  EXECUTION_RPC_PORT: PORT.describe("public JSON-RPC"),
  EXECUTION_ENGINE_PORT: PORT.describe("Engine API"),
});
