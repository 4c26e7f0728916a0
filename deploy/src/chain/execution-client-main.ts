/** The execution client as a service of its own: settings → client → signals. Exit codes as the sequencer's. */
import { readFileSync } from "node:fs";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { ProgramFailure } from "./child-process.ts";
import { startExecutionClient } from "./execution-client.ts";
import { EXECUTION_SETTINGS } from "./execution-settings.ts";
import type { GethGenesis } from "./genesis.ts";

const parsed = EXECUTION_SETTINGS.safeParse(process.env);
if (!parsed.success) {
  for (const { path, message } of parsed.error.issues)
    process.stderr.write(`execution client: ${path.join(".")}: ${message}\n`);
  process.exit(EXIT.usage);
}
const settings = parsed.data;
try {
  const client = await startExecutionClient({
    dataDir: settings.EXECUTION_DATA_DIR,
    genesis: JSON.parse(readFileSync(settings.EXECUTION_GENESIS_FILE, "utf8")) as GethGenesis,
    jwtFile: settings.EXECUTION_JWT_FILE,
    host: settings.EXECUTION_HOST,
    rpcPort: settings.EXECUTION_RPC_PORT,
    enginePort: settings.EXECUTION_ENGINE_PORT,
  });
  let stopping = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      stopping = true;
      client.stop().catch(() => process.exit(EXIT.failed));
    });
  }
  process.stdout.write(`${JSON.stringify({ rpcPort: client.rpcPort, enginePort: client.enginePort })}\n`);
  const end = await client.program.ended;
  if (!stopping)
    process.stderr.write(`execution client: ended by itself with ${end}\n${await client.program.tail()}\n`);
  process.exit(stopping ? EXIT.ok : EXIT.failed);
} catch (error) {
  process.stderr.write(`execution client: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(error instanceof ProgramFailure && error.reason === "PORT_IN_USE" ? EXIT.precondition : EXIT.failed);
}
