import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, test } from "node:test";
import { makeFolder } from "./make-folder.ts";

const root = mkdtempSync(join(tmpdir(), "lattice-make-folder-"));
after(() => rmSync(root, { recursive: true, force: true }));

test("makes what is missing, whatever is there already", () => {
  const deep = join(root, "a", "b", "c");
  makeFolder(deep, 0o700);
  makeFolder(deep, 0o755);
  for (const each of [join(root, "a"), deep]) assert.equal(statSync(each).mode & 0o777, 0o700);
  makeFolder(relative(process.cwd(), join(root, "x", "y")));
  assert.ok(statSync(join(root, "x", "y")).isDirectory());
  symlinkSync(deep, join(root, "link"));
  makeFolder(join(root, "link"));
  makeFolder(join(root, "link", "d"));
  assert.ok(existsSync(join(deep, "d")));
  makeFolder("/");
});

test("says what is in the way", () => {
  const file = join(root, "file");
  writeFileSync(file, "");
  assert.throws(() => makeFolder(file), { code: "EEXIST" });
  assert.throws(() => makeFolder(join(file, "below")), { code: "ENOTDIR" });
  symlinkSync(join(root, "nowhere"), join(root, "dangling"));
  assert.throws(() => makeFolder(join(root, "dangling", "below")), { code: "ENOENT" });
});

test("ends where no folder can be made and the file system says that there is none", {
  skip: existsSync("/proc/self") ? false : "no /proc",
}, () => {
  const script = `
    import { makeFolder } from ${JSON.stringify(import.meta.resolve("./make-folder.ts"))};
    try { makeFolder("/proc/lattice/data"); } catch ({ code, path }) { console.log(code, path); }
  `;
  const said = execFileSync(process.execPath, ["--input-type=module", "-e", script], {
    encoding: "utf8",
    timeout: 60_000,
  });
  assert.equal(said, "ENOENT /proc/lattice\n");
});
