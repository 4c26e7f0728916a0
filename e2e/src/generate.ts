/** `npm run generate`: protobuf code from proto/, then what is made from the code: pages of docs/, compose.yaml. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const env = { ...process.env, PATH: `${join(root, "node_modules", ".bin")}:${process.env["PATH"] ?? ""}` };
const result = spawnSync(join(root, "node_modules", ".bin", "buf"), ["generate"], {
  cwd: join(root, "proto"),
  stdio: "inherit",
  env,
});
if (result.status !== 0) process.exit(result.status ?? 1);

// Only now: the pages import what buf has just made.
const { GENERATED_PAGES } = await import("./docs/generated-pages.ts");
for (const { path, render } of GENERATED_PAGES) writeFileSync(join(root, path), render());
