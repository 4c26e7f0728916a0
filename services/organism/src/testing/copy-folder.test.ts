import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { copyFolder } from "./copy-folder.ts";

test("a folder in which files come and go is copied with all that stays", async () => {
  const root = await mkdtemp(join(tmpdir(), "lattice-copy-"));
  const from = join(root, "from");
  await mkdir(join(from, "below"), { recursive: true });
  for (let index = 0; index < 20; index++) await writeFile(join(from, "below", `${index}`), `${index}`);
  let copying = true;
  const writing = Promise.all(
    [0, 1, 2].map(async (writer) => {
      // As whole files are written.
      const path = join(from, "below", `whole-${writer}`);
      await writeFile(path, "first");
      while (copying) {
        await writeFile(`${path}.new`, "next");
        await rename(`${path}.new`, path);
      }
    }),
  );
  try {
    for (let round = 0; round < 40; round++) {
      const to = join(root, `to-${round}`);
      await copyFolder(from, to);
      for (let index = 0; index < 20; index++) {
        assert.equal(await readFile(join(to, "below", `${index}`), "utf8"), `${index}`);
      }
    }
    await assert.rejects(copyFolder(join(root, "nowhere"), join(root, "to")), { code: "ENOENT" });
  } finally {
    copying = false;
    await writing;
    await rm(root, { recursive: true, force: true });
  }
});
