import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, describe, test } from "node:test";
import { writeWholeFile } from "./whole-file.ts";

const root = mkdtempSync(join(tmpdir(), "lattice-whole-file-"));
let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(root, "folder-"));
  path = join(folder, "file");
});
after(() => rmSync(root, { recursive: true, force: true }));

const failed = (code: RegExp) => (error: NodeJS.ErrnoException) => code.test(error.code ?? "") && error.path === path;

describe("a file written whole", () => {
  test("takes the place of the one before, with its own mode, and leaves nothing beside it", async () => {
    await writeWholeFile(path, "first");
    assert.equal(statSync(path).mode & 0o777, 0o600);
    await writeWholeFile(path, [new Uint8Array([115, 101]), new Uint8Array([99])], { mode: 0o400 });
    assert.equal(readFileSync(path, "utf8"), "sec");
    assert.equal(statSync(path).mode & 0o777, 0o400);
    assert.deepEqual(readdirSync(folder), ["file"]);
  });

  test("does not trip over what a crash left half-written", async () => {
    writeFileSync(`${path}.new`, "half", { mode: 0o400 });
    await writeWholeFile(path, "whole");
    assert.deepEqual(readdirSync(folder), ["file"]);
    assert.equal(readFileSync(path, "utf8"), "whole");
  });

  test("by many at the same time is one of theirs", async () => {
    const contents = Array.from({ length: 8 }, (_, index) => `${index}`.repeat(10_000));
    await Promise.all(contents.map((content) => writeWholeFile(path, content, { shared: true })));
    assert.ok(contents.includes(readFileSync(path, "utf8")));
    assert.deepEqual(readdirSync(folder), ["file"]);
  });

  test("that may only be new takes nobody's place", async () => {
    await writeWholeFile(path, "first", { onlyNew: true });
    await assert.rejects(writeWholeFile(path, "second", { onlyNew: true }), failed(/EEXIST/));
    assert.equal(readFileSync(path, "utf8"), "first");
    assert.deepEqual(readdirSync(folder), ["file"]);
  });

  test("that cannot be leaves nothing, and is named in what is thrown", async () => {
    mkdirSync(path);
    for (const shared of [false, true])
      await assert.rejects(writeWholeFile(path, "no", { shared }), failed(/EISDIR|ENOTEMPTY|EEXIST/));
    // The second part cannot be written; the first one was.
    const parts = [new Uint8Array(10), 1 as unknown as Uint8Array];
    await assert.rejects(writeWholeFile(join(folder, "other"), parts, { shared: true }), TypeError);
    assert.deepEqual(readdirSync(folder), ["file"]);
    path = join(folder, "none", "file");
    await assert.rejects(writeWholeFile(path, "no"), failed(/ENOENT/));
  });
});
