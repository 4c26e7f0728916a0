/** The first command in a fresh clone installs what it needs, once; whoever has run `npm ci` already does not wait again. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const STARTER = fileURLToPath(new URL("../bin/with-node24.mjs", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "lattice-first-start-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const PACKAGES = {
  "node_modules/one": { version: "1.0.0", integrity: "sha512-one" },
  "node_modules/two": { version: "2.0.0", integrity: "sha512-two" },
};
const OPTIONAL = { "node_modules/elsewhere": { version: "1.0.0", integrity: "sha512-other", optional: true } };

/** A clone whose npm only says that it was called. @param noted what npm has noted in node_modules; nothing when left out */
function clone(name: string, noted?: object, node = true) {
  const root = join(scratch, name);
  const path = (...parts: string[]): string => join(root, ...parts);
  const write = (file: string, content: string, mode = 0o644): void => {
    mkdirSync(dirname(path(file)), { recursive: true });
    writeFileSync(path(file), content, { mode });
  };
  write("package-lock.json", JSON.stringify({ packages: { "": {}, ...PACKAGES, ...OPTIONAL } }));
  write("said.mjs", 'process.stdout.write("started");');
  write("bin/npm", `#!/bin/sh\necho "$@" >> ${path("called")}\n`, 0o755);
  mkdirSync(path("deploy", "bin"), { recursive: true });
  copyFileSync(STARTER, path("deploy", "bin", "with-node24.mjs"));
  if (noted !== undefined) write("node_modules/.package-lock.json", JSON.stringify({ packages: noted }));
  if (node) {
    const bin = `node_modules/node-${process.platform}-${process.arch}/bin`;
    mkdirSync(path(bin), { recursive: true });
    symlinkSync(process.execPath, path(bin, "node"));
  }
  const start = (): { readonly installed: number } => {
    const env = { PATH: `${path("bin")}:${process.env["PATH"]}` };
    const args = [path("deploy", "bin", "with-node24.mjs"), "said.mjs"];
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { env, encoding: "utf8" });
    assert.deepEqual([status, stdout], [0, "started"], stderr);
    const calls = existsSync(path("called")) ? readFileSync(path("called"), "utf8").trim().split("\n") : [];
    for (const call of calls) assert.match(call, /^ci /);
    return { installed: calls.length };
  };
  return { start };
}

describe("the first command in a clone", () => {
  test("installs, once", () => {
    const { start } = clone("fresh");
    assert.equal(start().installed, 1);
    assert.equal(start().installed, 1);
  });

  test("does not install again what npm notes as installed", () => {
    assert.equal(clone("by-hand", PACKAGES).start().installed, 0);
  });

  test("installs where that is another version, not all of it, or without Node", () => {
    const { "node_modules/one": one, "node_modules/two": two } = PACKAGES;
    const older = { "node_modules/one": one, "node_modules/two": { ...two, version: "1.9.0" } };
    assert.equal(clone("older", older).start().installed, 1);
    assert.equal(clone("part", { "node_modules/one": one }).start().installed, 1);
    assert.equal(clone("no-node", PACKAGES, false).start().installed, 1);
  });
});
