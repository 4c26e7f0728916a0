/** `npm run check`: what needs no running system, in under a minute. */
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { runChecks } from "./checks.ts";

const failed = runChecks(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
process.stdout.write(failed.length === 0 ? "all checks passed\n" : `failed: ${failed.join(", ")}\n`);
process.exit(failed.length === 0 ? 0 : 1);
