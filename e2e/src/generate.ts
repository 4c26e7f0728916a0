/** `npm run generate`: protobuf code from proto/. */
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const env = { ...process.env, PATH: `${join(root, "node_modules", ".bin")}:${process.env["PATH"] ?? ""}` };
const result = spawnSync(join(root, "node_modules", ".bin", "buf"), ["generate"], {
  cwd: join(root, "proto"),
  stdio: "inherit",
  env,
});
process.exit(result.status ?? 1);
