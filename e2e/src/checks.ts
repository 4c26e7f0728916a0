/** The checks that are not tests: format and lint, types, proto lint, generated code current. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

interface Check {
  readonly name: string;
  readonly run: (root: string) => boolean;
}

function bin(root: string, name: string): string {
  return join(root, "node_modules", ".bin", name);
}

function succeeds(command: string, args: readonly string[], cwd: string): boolean {
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env["PATH"] ?? ""}` };
  return spawnSync(command, args, { cwd, stdio: "inherit", env }).status === 0;
}

/** Regenerates the protobuf code into a temporary folder and compares. */
function protoIsCurrent(root: string): boolean {
  const out = mkdtempSync(join(tmpdir(), "lattice-proto-"));
  const template = JSON.stringify({
    version: "v2",
    plugins: [
      {
        local: bin(root, "protoc-gen-es"),
        out,
        opt: ["target=ts", "import_extension=ts", "erasable_syntax=true"],
      },
    ],
  });
  try {
    return (
      succeeds(bin(root, "buf"), ["generate", "--template", template], join(root, "proto")) &&
      succeeds("diff", ["-r", out, join(root, "proto", "gen")], root)
    );
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

const CHECKS: readonly Check[] = [
  {
    name: "format and lint (biome)",
    run: (root) => succeeds(bin(root, "biome"), ["check", "--error-on-warnings", "."], root),
  },
  { name: "types (tsc)", run: (root) => succeeds(bin(root, "tsc"), ["-p", "."], root) },
  { name: "proto lint (buf)", run: (root) => succeeds(bin(root, "buf"), ["lint"], join(root, "proto")) },
  { name: "generated code is current", run: protoIsCurrent },
];

/** Runs every check; returns the names of those that failed. */
export function runChecks(root: string): string[] {
  const failed: string[] = [];
  for (const check of CHECKS) {
    process.stdout.write(`# ${check.name}\n`);
    if (!check.run(root)) failed.push(check.name);
  }
  return failed;
}
