/** Writes compose.yaml at the repository's root. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { composeYaml } from "./compose.ts";

writeFileSync(fileURLToPath(new URL("../../../compose.yaml", import.meta.url)), composeYaml());
